"""Instrument responses: energy dispersion and point spread function."""

from jaxprof.irf.base import IRFMap as IRFMap
from jaxprof.irf.psf import PSFMap as PSFMap
from jaxprof.irf.psf import RecoPSFMap as RecoPSFMap
from jaxprof.irf.responses import EDispKernelMap as EDispKernelMap
from jaxprof.irf.responses import EDispMap as EDispMap
