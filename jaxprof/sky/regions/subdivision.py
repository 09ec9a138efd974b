"""Regions in parts: sub-annuli and smaller boxes."""

from __future__ import annotations

import operator
from typing import Any

import astropy.units as u
import numpy as np
from regions import CircleAnnulusSkyRegion, CircleSkyRegion, RectangleSkyRegion

from jaxprof.sky.regions.conversion import region_list


def subdivided_regions(regions: Any, number: int) -> tuple[list[Any], list[int]]:
    """Parts of circles, annuli and boxes.

    Parameters
    ----------
    regions : iterable of SkyRegion
        The regions.
    number : int
        Parts of each along the radius; along both sides of boxes.

    Returns
    -------
    parts : list of SkyRegion
        Those of the first region, then those of the next.
    parent : list of int
        Region that each is a part of.

    Raises
    ------
    ValueError
        For a number below one, and for regions of other shapes.
    """
    try:
        count = operator.index(number)
    except TypeError as error:
        raise ValueError(f"subdivide must be a whole number, got {number!r}") from error
    if isinstance(number, bool) or count < 1:
        raise ValueError(f"subdivide must be a whole number of one or more, got {number!r}")
    items = region_list(regions)
    if count == 1:
        return items, list(range(len(items)))
    parts, parent = [], []
    for index, region in enumerate(items):
        own = _parts(region, count, index)
        parts += own
        parent += [index] * len(own)
    return parts, parent


def _parts(region: Any, count: int, index: int) -> list[Any]:
    if isinstance(region, CircleSkyRegion):
        edges = np.linspace(0, 1, count + 1)[1:] * region.radius
        inner = CircleSkyRegion(region.center, edges[0])
        return [inner, *_annuli(region.center, edges)]
    if isinstance(region, CircleAnnulusSkyRegion):
        low, high = region.inner_radius, region.outer_radius
        return _annuli(region.center, low + np.linspace(0, 1, count + 1) * (high - low))
    if isinstance(region, RectangleSkyRegion):
        return _boxes(region, count)
    raise ValueError(
        f"subdivide: regions[{index}] is a {type(region).__name__}; only circles, annuli and "
        "rectangles have parts: give smaller regions, or subdivide=1"
    )


def _annuli(center: Any, edges: u.Quantity) -> list[Any]:
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return [CircleAnnulusSkyRegion(center, low, high) for low, high in pairs]


def _boxes(region: Any, count: int) -> list[Any]:
    """Boxes in the sky-offset frame of a rectangle, each turned as the frame is at its centre."""
    steps = (np.arange(count) + 0.5) / count - 0.5
    frame = region.center.skyoffset_frame(rotation=region.angle)
    size = {"width": region.width / count, "height": region.height / count}
    found = []
    for x in steps:
        for y in steps:
            place = type(region.center)(x * region.width, y * region.height, frame=frame)
            center = place.transform_to(region.center.frame)
            north = type(region.center)(place.lon, place.lat + 1e-3 * u.deg, frame=frame)
            angle = center.position_angle(north.transform_to(region.center.frame))
            found.append(RectangleSkyRegion(center, angle=angle, **size))
    return found
