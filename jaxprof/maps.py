"""Axes, geometries and maps by the names that users need; the room itself is `jaxprof.sky`."""

from jaxprof.sky import MapAxis as MapAxis
from jaxprof.sky import WcsGeom as WcsGeom
from jaxprof.sky import WcsNDMap as WcsNDMap
