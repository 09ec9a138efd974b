"""What users are told about regions that datasets do not see, or see with few pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs.utils import wcs_to_celestial_frame

from jaxprof.sky import WcsGeom
from jaxprof.sky.pixel_sums import MemberPixels
from jaxprof.sky.regions.outlines import outline_arcs
from jaxprof.sky.regions.positions import region_positions
from jaxprof.sky.regions.shapes import SkyShapes, sky_shapes
from jaxprof.sky.regions.sphere import lonlat, separation, unit_vectors
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

MAX_DIFFERENCE = 0.2
"""Relative difference of the solid angles of pixels and regions that is passed over."""
OFF_MAP_HINT = (
    "Look at the frame, the order and the unit of their positions; jaxprof.plotting.plot_regions "
    "draws them on a map"
)
_MAX_LISTED = 10
_OUTLINE_POINTS = 256  # on each arc of a region's outline


@dataclass(frozen=True)
class Visibility:
    """Which regions the map of a dataset does not see, and how large it sees the others."""

    name: str
    """Name of the dataset."""
    off_map: Array
    """Regions that share no area with the map, (B,)."""
    centreless: Array
    """Regions on the map in which no centre of its pixels lies, (B,)."""
    solid_angle: Array
    """Solid angle of the pixels of each region, those off the map included [sr], (B,)."""

    @property
    def unseen(self) -> Array:
        """Regions without a pixel on the map, shape (B,)."""
        return self.off_map | self.centreless


def visibility(
    name: str, regions: Sequence[Any], pixels: MemberPixels, geom: WcsGeom
) -> Visibility:
    """Find out which regions a map sees, ``name`` being that of its dataset."""
    empty = pixels.n_pixels == 0
    touching = np.zeros(len(empty), bool)
    touching[empty] = touches_map([regions[int(i)] for i in np.flatnonzero(empty)], geom)
    return Visibility(name, empty & ~touching, empty & touching, pixels.whole_solid_angle)


def solid_angle_of_pixels(sizes: Iterable[Array]) -> Array:
    """Of the solid angles on several maps that of the first map where a region has any, (B,)."""
    first, *others = sizes
    for other in others:
        first = np.where(first > 0, first, other)
    return first


def touches_map(regions: Sequence[Any], geom: WcsGeom) -> Array:
    """Whether the outlines of regions cross a map or lie on it, shape (B,).

    A region that holds no pixel's centre has no other way to be on the map.
    """
    if not regions:
        return np.zeros(0, bool)
    shapes = sky_shapes(regions, wcs_to_celestial_frame(geom.wcs))
    t = (np.arange(_OUTLINE_POINTS) + 0.5) / _OUTLINE_POINTS
    found = np.zeros(len(regions), bool)
    ny, nx = geom.npix_shape
    for index in np.flatnonzero(_near_map(shapes, geom)):
        # Without an area there is no outline.
        parts = [arc.points(t) for arc in outline_arcs(shapes, int(index))]
        points = np.concatenate(parts or [shapes.axes[index, 2:]])
        lon, lat = np.rad2deg(lonlat(points))
        x, y = geom.wcs.wcs_world2pix(lon, lat, 0)  # NaN where the projection shows nothing
        on_map = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
        found[shapes.region[index]] |= on_map.any()
    return found


def _near_map(shapes: SkyShapes, geom: WcsGeom) -> Array:
    """Shapes that the circle around a map does not rule out, shape (S,)."""
    ny, nx = geom.npix_shape
    x, y = (np.linspace(-0.5, n - 0.5, 33) for n in (nx, ny))
    lon, lat = geom.wcs.wcs_pix2world(*(grid.ravel() for grid in np.meshgrid(x, y)), 0)
    if not np.isfinite(lon).all():  # a rim of the sky is on the map
        return np.ones(len(shapes), bool)
    vectors = unit_vectors(np.deg2rad(lon), np.deg2rad(lat))
    center = vectors[len(vectors) // 2]
    radius = 1.1 * separation(vectors, center).max()
    return separation(shapes.axes[:, 2], center) <= radius + shapes.cap


def listed(indices: Array, regions: Sequence[Any]) -> str:
    """Which of some regions, for a message: the first ten by number, and where they are."""
    total, where = len(regions), region_positions(regions, indices)
    where = f"counted from 0; {where}" if where else "counted from 0"
    if len(indices) == 1:
        return f"region {indices[0]} of {total} ({where})"
    shown = ", ".join(map(str, indices[:_MAX_LISTED]))
    more = f" and {len(indices) - _MAX_LISTED} more" if len(indices) > _MAX_LISTED else ""
    return f"regions {shown}{more} of {total} ({where})"


def warn_unseen(datasets: Sequence[Visibility], regions: Sequence[Any]) -> None:
    """Warn of regions that no dataset sees, and of those that only some of them see."""
    nowhere = np.all([one.unseen for one in datasets], axis=0)
    centreless = nowhere & np.any([one.centreless for one in datasets], axis=0)
    names = ", ".join(repr(one.name) for one in datasets)
    maps = f"the map{'s' * (len(datasets) > 1)} of dataset{'s' * (len(datasets) > 1)} {names}"
    lost = np.flatnonzero(nowhere & ~centreless)
    if len(lost):
        hint = f". {OFF_MAP_HINT}" if len(lost) == len(regions) else ""
        warn_user(
            f"{listed(lost, regions)}: off {maps}; norms there are NaN and success is False{hint}"
        )
    lost = np.flatnonzero(centreless)
    if len(lost):
        warn_user(
            f"{listed(lost, regions)}: holding no pixel's centre on {maps}; norms there are NaN "
            "and success is False. ForwardFoldingProfileEstimator, which shares pixels among bins, "
            "can estimate them if the regions around them are bins too"
        )
    clauses = []
    for one in datasets:
        off = np.flatnonzero(one.off_map & ~nowhere)
        without = np.flatnonzero(one.centreless & ~nowhere)
        reasons = [f"{listed(off, regions)}, off its map"] * bool(len(off))
        reasons += [f"{listed(without, regions)}, without a pixel's centre"] * bool(len(without))
        if reasons:
            clauses.append(f"dataset {one.name!r} does not see {' and '.join(reasons)}")
    if clauses:
        warn_user(f"{'; '.join(clauses)}: norms there come from the other datasets alone")


def warn_solid_angles(
    sizes: Mapping[str, Array], exact: Array, regions: Sequence[Any], remedy: str
) -> None:
    """Warn of regions whose solid angle differs much from the ``exact`` one (B,) [sr].

    Regions without a pixel have a message of their own. The ``remedy`` ends the message.
    """
    clauses = []
    for name, size in sizes.items():
        ratio = np.divide(size, exact, out=np.ones_like(exact), where=(size > 0) & (exact > 0))
        found = np.flatnonzero(np.abs(ratio - 1) > MAX_DIFFERENCE)
        if len(found):
            low, high = (f"{end:.2g}" for end in (ratio[found].min(), ratio[found].max()))
            factor = low if low == high else f"{low} to {high}"
            clauses.append(
                f"{listed(found, regions)}: the solid angle of the pixels on the map of dataset "
                f"{name!r} is {factor} times that of the region"
            )
    if clauses:
        warn_user(f"{'; '.join(clauses)}. {remedy}")
