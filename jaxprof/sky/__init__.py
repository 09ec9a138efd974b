"""Sky maps: axes, geometries, and images or cubes on them."""

from jaxprof.sky.axes import MapAxis as MapAxis
from jaxprof.sky.geometry import WcsGeom as WcsGeom
from jaxprof.sky.wcsmap import WcsNDMap as WcsNDMap
