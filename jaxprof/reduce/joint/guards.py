"""Guard bins: regions beyond the ends of a profile, whose emission leaks into its bins."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    EllipseSkyRegion,
    RectangleSkyRegion,
    SkyRegion,
)

from jaxprof.sky.regions.axis import profile_axis
from jaxprof.sky.regions.centers import region_centers
from jaxprof.sky.regions.conversion import region_list
from jaxprof.sky.regions.makers import whole_number

_HINT = "give the guard bins as a list of sky regions"
_MAX_TURN = 15.0  # deg from one step of a line to the next; more is no line
_MIN_HOLE = 0.05  # of the first annulus' width; a smaller hole leaks too little to be fitted


def guard_regions(regions: Any, n: int = 1) -> list[SkyRegion]:
    """Make regions that continue a profile beyond its first and last bin.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        The bins, in order. Boxes, ellipses or circles along a line, or concentric annuli
        (the innermost may be a circle). One box alone is continued along its width.
    n : int
        Number of guard bins at each end.

    Returns
    -------
    list of SkyRegion
        Those before the first bin, from far to near, then those after the last, from near to
        far. In a line they touch the end bins, are as large as these, and follow the great
        circle through the last two centres; their angle turns with it. Annuli are continued
        outwards in the width of the outermost one; inwards until the hole is used up, the last
        guard bin then being a circle. A hole below 5 % of the innermost width is left alone.

    Raises
    ------
    ValueError
        For a negative `n`, and for regions that have no such continuation: other or mixed
        shapes, annuli around different centres, regions that are not along a line. Give the
        guard bins as regions then.
    """
    items = region_list(regions)
    count = whole_number(n, "n", least=0)
    if count == 0:
        return []
    if any(isinstance(region, CircleAnnulusSkyRegion) for region in items) or (
        len(items) == 1 and isinstance(items[0], CircleSkyRegion)
    ):
        return _rings(items, count)
    return _boxes(items, count)


def nearest_bins(guards: list[Any], regions: list[Any]) -> list[int]:
    """Index of the bin that each guard bin continues.

    That with the nearest centre or, around one centre, with the nearest mean radius.
    """
    if not guards:
        return []
    centers = region_centers(regions)
    own_centers = region_centers(guards)
    radii, own_radii = (np.array([_mean_radius(r) for r in part]) for part in (regions, guards))
    found = []
    for center, radius in zip(own_centers, own_radii, strict=True):
        apart = center.separation(centers).deg
        found.append(int(np.argmin(np.hypot(apart, radii - radius))))
    return found


def _mean_radius(region: Any) -> float:
    """Mean of the radii of a circle or annulus [deg]; zero for other shapes."""
    if isinstance(region, CircleAnnulusSkyRegion):
        return 0.5 * (region.inner_radius + region.outer_radius).to_value(u.deg)
    return 0.5 * region.radius.to_value(u.deg) if isinstance(region, CircleSkyRegion) else 0.0


def _rings(items: list[Any], n: int) -> list[SkyRegion]:
    """Continue concentric annuli inwards and outwards."""
    if not all(isinstance(region, CircleAnnulusSkyRegion | CircleSkyRegion) for region in items):
        raise ValueError(f"regions mix annuli with other shapes, which have no guard bins; {_HINT}")
    inner = np.array([getattr(r, "inner_radius", 0 * u.deg).to_value(u.deg) for r in items])
    radii = [r.radius if isinstance(r, CircleSkyRegion) else r.outer_radius for r in items]
    outer = np.array([radius.to_value(u.deg) for radius in radii])
    centers = region_centers(items)
    apart = centers[0].separation(centers).deg.max()
    if apart > 1e-3 * outer.min():
        raise ValueError(
            f"regions are annuli around centres {apart:.4g} deg apart, which have no guard bins; "
            f"{_HINT}"
        )
    center = items[0].center
    before: list[SkyRegion] = []
    first, last = int(np.argmin(inner)), int(np.argmax(outer))
    radius, width = inner[first], outer[first] - inner[first]
    while len(before) < n and radius > _MIN_HOLE * width:
        low = radius - width
        if low > _MIN_HOLE * width:
            before.insert(0, _annulus(center, low, radius))
        else:  # what is left is too narrow for a ring of its own
            low = 0.0
            before.insert(0, CircleSkyRegion(center, radius * u.deg))
        radius = low
    width = outer[last] - inner[last]
    edges = outer[last] + width * np.arange(n + 1)
    if edges[-1] >= 180:
        raise ValueError(f"n is {n}: guard bins would reach {edges[-1]:.4g} deg; {_HINT}")
    after = [_annulus(center, low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    if len(items) > 1 and last < first:  # bins from outside in
        return [*after[::-1], *before[::-1]]
    return [*before, *after]


def _annulus(center: SkyCoord, low: float, high: float) -> CircleAnnulusSkyRegion:
    return CircleAnnulusSkyRegion(center, low * u.deg, high * u.deg)


def _boxes(items: list[Any], n: int) -> list[SkyRegion]:
    """Continue a line of boxes, ellipses or circles at both ends."""
    kinds = {type(region) for region in items}
    if len(kinds) > 1 or not kinds <= {RectangleSkyRegion, EllipseSkyRegion, CircleSkyRegion}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"regions are of the kind {names}, which have no guard bins; {_HINT}")
    axis = profile_axis(items)
    centers = region_centers(items)
    if axis.name != "projected-distance" or not _is_line(centers):
        raise ValueError(f"regions are not along a line, so no bin continues them; {_HINT}")
    lengths = axis.max - axis.min
    if len(items) == 1:
        # The angle of a box counts from the longitude axis: its width lies 90 deg from north.
        along = items[0].angle + 90 * u.deg
        directions = [along + 180 * u.deg, along]
    else:
        directions = [
            _direction(items[1].center, items[0].center),
            _direction(items[-2].center, items[-1].center),
        ]
    before = [_moved(items[0], directions[0], k * lengths[0]) for k in range(n, 0, -1)]
    after = [_moved(items[-1], directions[1], k * lengths[-1]) for k in range(1, n + 1)]
    return [*before, *after]


def _direction(start: SkyCoord, end: SkyCoord) -> u.Quantity:
    """Position angle at `end`, in its frame, of the great circle that comes from `start`."""
    start = start.transform_to(end.frame.replicate_without_data())
    return end.position_angle(start) + 180 * u.deg


def _is_line(centers: SkyCoord) -> bool:
    """Whether the steps from centre to centre keep their direction."""
    if len(centers) < 3:
        return True
    arrive = centers[1:-1].position_angle(centers[:-2]).deg + 180
    leave = centers[1:-1].position_angle(centers[2:]).deg
    return bool(np.all(np.abs((leave - arrive + 180) % 360 - 180) < _MAX_TURN))


def _moved(region: Any, direction: u.Quantity, distance: float) -> SkyRegion:
    """Carry a region along a great circle by a distance [deg]; it keeps its angle to it."""
    start = region.center
    center = start.directional_offset_by(direction, distance * u.deg)
    if isinstance(region, CircleSkyRegion):
        return CircleSkyRegion(center, region.radius)
    turn = (center.position_angle(start) - direction).to_value(u.deg) % 360 - 180
    angle = region.angle.to(u.deg) + turn * u.deg
    return type(region)(center, region.width, region.height, angle)
