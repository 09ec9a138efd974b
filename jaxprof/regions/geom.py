"""The geometry of regions at the path of earlier versions; `jaxprof.regions` has it all."""

from jaxprof.regions import ProfileAxis as ProfileAxis
from jaxprof.regions import RegionGeom as RegionGeom
