"""Axes, geometries and maps of gammapy as those of this package."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxprof.foreign import gammapy_class
from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.wcsmap import WcsNDMap

_HEALPIX = (
    "interpolate it to pixels of a projection, map.interp_to_geom(WcsGeom.create(...)) in gammapy "
    "(counts: map.to_wcs(sum_bands=False)), and give that"
)
_REASONS = {
    "HpxGeom": f"has HEALPix pixels; {_HEALPIX}",
    "HpxNDMap": f"has HEALPix pixels; {_HEALPIX}",
    "RegionNDMap": "holds one sky region, and profiles need pixels; give the map it was made from",
    "TimeMapAxis": "is an axis of time, and maps here have none; sum or slice over it",
    "LabelMapAxis": "is an axis of labels, and maps here have none; slice it",
}


def no_counterpart(value: Any) -> ValueError:
    """The error that says why an object of gammapy cannot be converted, and what to do."""
    kind = gammapy_class(value)
    reason = _REASONS.get(str(kind), "has no counterpart here")
    return ValueError(f"gammapy's {kind} {reason}")


def axis_from_gammapy(axis: Any) -> MapAxis:
    """The same axis as one of this package.

    Raises
    ------
    ValueError
        If it is no axis of numbers.
    """
    if gammapy_class(axis) != "MapAxis":
        raise no_counterpart(axis)
    nodes = axis.center if axis.node_type == "center" and axis.nbin > 1 else None
    # As files are read: the edges between nodes are half-way in the scale of the axis.
    if nodes is not None:
        return MapAxis.from_nodes(nodes.value, name=axis.name, unit=axis.unit, interp=axis.interp)
    return MapAxis(axis.edges.value, name=axis.name, unit=axis.unit, interp=axis.interp)


def geom_from_gammapy(geom: Any) -> WcsGeom:
    """The same pixels and axes as a geometry of this package.

    Raises
    ------
    ValueError
        If its pixels are not those of a projection, or differ from energy to energy.
    """
    if gammapy_class(geom) != "WcsGeom":
        raise no_counterpart(geom)
    if not geom.is_regular:
        raise ValueError(
            "gammapy's WcsGeom has other pixels at each energy; give maps of one energy each, or "
            "interpolate them to the same pixels (Map.interp_to_geom)"
        )
    shape = geom.to_image().data_shape
    return WcsGeom(geom.wcs, shape, [axis_from_gammapy(axis) for axis in geom.axes])


def map_from_gammapy(map_: Any) -> WcsNDMap:
    """The same map as one of this package, with which it shares its data.

    Raises
    ------
    ValueError
        If its pixels are not those of a projection.
    """
    if gammapy_class(map_) != "WcsNDMap":
        raise no_counterpart(map_)
    return WcsNDMap(geom_from_gammapy(map_.geom), np.asarray(map_.data), map_.unit)


def as_map(value: Any) -> Any:
    """A map of gammapy as ours; anything else as it is."""
    return map_from_gammapy(value) if is_gammapy_map(value) else value


def as_axis(value: Any) -> Any:
    """An axis of gammapy as ours; anything else as it is."""
    return axis_from_gammapy(value) if str(gammapy_class(value)).endswith("MapAxis") else value


def is_gammapy_map(value: Any) -> bool:
    """Whether it is a map of gammapy, of any kind of pixels."""
    return str(gammapy_class(value)) in ("WcsNDMap", "HpxNDMap", "RegionNDMap")
