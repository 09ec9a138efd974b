"""Names and centres of sky regions."""

from __future__ import annotations

import operator
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from regions import CompoundSkyRegion, PolygonSkyRegion, SkyRegion

from jaxprof.sky.regions.conversion import region_list, stack_coords
from jaxprof.sky.regions.sphere import mean_directions


def region_name(region: SkyRegion) -> str:
    """Name of a region: ``text={...}`` in a DS9 file, ``label="..."`` in a CRTF file.

    Parameters
    ----------
    region : SkyRegion
        Its ``meta`` is looked up.

    Returns
    -------
    str
        Empty if it has none.
    """
    found = (region.meta.get(key) for key in ("text", "label", "name"))
    return next((" ".join(str(name).split()) for name in found if name), "")


def region_centers(regions: Any) -> SkyCoord:
    """Centres of regions as one coordinate array.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions. A polygon's centre is the mean direction of its vertices, a compound
        region's that of the simple regions it is made of, each counted once whatever the
        nesting.

    Returns
    -------
    SkyCoord, shape (n,)
        In the frame of the first region.
    """
    items = region_list(regions)
    if not any(isinstance(region, CompoundSkyRegion) for region in items):
        positions = [r.vertices if isinstance(r, PolygonSkyRegion) else r.center for r in items]
        return mean_directions(positions, positions[0].frame.replicate_without_data())
    coords = [_center(region) for region in items]
    return stack_coords(coords, coords[0].frame.replicate_without_data())


def _center(region: Any) -> SkyCoord:
    if isinstance(region, CompoundSkyRegion):
        centers = [_center(part) for part in _parts(region)]
        return _mean_direction(stack_coords(centers, centers[0].frame.replicate_without_data()))
    center = getattr(region, "center", None)
    return _mean_direction(region.vertices) if center is None else center


def _parts(region: Any) -> list[Any]:
    """Simple regions that a compound one joins, whatever the nesting, without those cut out."""
    if not isinstance(region, CompoundSkyRegion):
        return [region]
    if region.operator not in (operator.or_, operator.xor, operator.and_):
        return _parts(region.region1)
    return [*_parts(region.region1), *_parts(region.region2)]


def _mean_direction(coords: SkyCoord) -> SkyCoord:
    mean = coords.cartesian.xyz.value.mean(axis=1)
    lon, lat = np.arctan2(mean[1], mean[0]), np.arctan2(mean[2], np.hypot(mean[0], mean[1]))
    return SkyCoord(lon * u.rad, lat * u.rad, frame=coords.frame.replicate_without_data())
