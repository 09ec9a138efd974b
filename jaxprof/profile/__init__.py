"""The result of an estimation: quantities, slices, tables and files."""

from jaxprof.profile.access import ProfileQuantity as ProfileQuantity
from jaxprof.profile.fluxprofile import FluxProfile as FluxProfile
