"""Sky maps: axes, geometries, and images or cubes on them."""

from jaxprof.maps.axes import MapAxis as MapAxis
from jaxprof.maps.geometry import WcsGeom as WcsGeom
from jaxprof.maps.wcsmap import WcsNDMap as WcsNDMap
