"""Sky regions on a map: which pixels belong to a region, and how large they are.

A pixel belongs to a region when its centre does, by the `regions` package on the map's
WCS (0.11 or 0.12; see `region_conversion`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from regions import CompoundPixelRegion, PixCoord, PixelRegion, RectanglePixelRegion

from jaxprof.regions.conversion import to_pixel_regions

Array: TypeAlias = np.ndarray[Any, Any]
_MAX_BOX = 10_000_000  # pixels in a bounding box, or four times the map where that is more
BLOCK = 1_000_000  # pixels tested at a time, which bounds the memory


@dataclass(frozen=True, eq=False)
class RegionPixels:
    """All pixels whose centre lies in one region, on the map and off it.

    Attributes
    ----------
    y, x : ndarray of int64, shape (n,)
        Pixel indices in row-major order; negative or beyond the shape off the map.
    inside : ndarray of bool, shape (n,)
        True where the pixel is on the map.
    solid_angle : ndarray of float64, shape (n,)
        Solid angle of every pixel [sr].
    """

    y: Array
    x: Array
    inside: Array
    solid_angle: Array

    def __len__(self) -> int:
        return len(self.x)


def region_pixels(regions: Any, geom: Any) -> list[RegionPixels]:
    """Find the pixels of every region on a map.

    Membership is ``region.to_pixel(wcs).contains(pixel centre)`` of the installed
    `regions` package, for regions expressed in the frame of the map
    (`regions_to_frame`). A region whose centre the map cannot show, such as one on the
    other side of the sky of a TAN map, has no pixels. The map's grid is not periodic: a
    region across the seam of an all-sky map continues off the map.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        Sky regions, compound ones included.
    geom : WcsGeom
        Geometry of the map; ``wcs``, ``npix_shape``, ``solid_angle`` and
        ``pixel_solid_angle`` are used.

    Returns
    -------
    list of RegionPixels
        One per region, in order.

    Raises
    ------
    ValueError
        For what `region_list` refuses, and where a region covers an absurd number of
        pixels, crosses the edge of the projection, or sits where the projection is
        singular. The message gives the index of the region.
    """
    pixel_regions = to_pixel_regions(regions, geom.wcs)
    ny, nx = geom.npix_shape
    limit = box_limit(geom)
    found = [region_members(i, region, limit) for i, region in enumerate(pixel_regions)]
    y = np.concatenate([pixels[0] for pixels in found])
    x = np.concatenate([pixels[1] for pixels in found])
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    solid_angle = pixel_solid_angles(geom, y, x)
    cuts = np.cumsum([len(pixels[0]) for pixels in found])[:-1]
    parts = (np.split(values, cuts) for values in (y, x, inside, solid_angle))
    return [RegionPixels(*columns) for columns in zip(*parts, strict=True)]


def pixel_solid_angles(geom: Any, y: Array, x: Array) -> Array:
    """Solid angles [sr] of pixels on the map and off it, shape of `y` and `x`, one axis."""
    ny, nx = geom.npix_shape
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    solid_angle = np.empty(len(x))
    known = inside if 20 * inside.sum() > nx * ny else np.zeros_like(inside)
    if known.any():  # the map's own table, made once, is worth its cost
        solid_angle[known] = geom.solid_angle().to_value("sr")[y[known], x[known]]
    solid_angle[~known] = geom.pixel_solid_angle(x[~known], y[~known])
    return solid_angle


def box_limit(geom: Any) -> int:
    """Largest number of pixels of the box around a region on a map."""
    ny, nx = geom.npix_shape
    return max(_MAX_BOX, 4 * ny * nx)


def region_members(index: int, region: PixelRegion, limit: int) -> tuple[Array, Array]:
    """Indices (y, x) of all pixels of the unbounded grid whose centre is in the region."""
    box = region_box(region)
    if box is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    check_box(index, box, limit)
    x0, x1, y0, y1 = box
    xs, ys = np.arange(x0, x1), np.arange(y0, y1)
    rows = max(1, BLOCK // max(len(xs), 1))
    found_y, found_x = [], []
    for start in range(0, len(ys), rows):
        iy, ix = np.nonzero(contains(region, xs[None, :], ys[start : start + rows, None]))
        found_y.append(ys[start + iy])
        found_x.append(xs[ix])
    return np.concatenate(found_y), np.concatenate(found_x)


def check_box(index: int, box: tuple[int, int, int, int], limit: int) -> None:
    """Raise for a box around a region that holds more than `limit` pixels."""
    x0, x1, y0, y1 = box
    if (x1 - x0) * (y1 - y0) > limit:
        raise ValueError(
            f"regions[{index}] spans {x1 - x0:.3g} x {y1 - y0:.3g} pixels of the map's grid, "
            f"more than the {limit:.3g} allowed: it covers too much of the sky or lies too far "
            "off the map for the projection; use a smaller region or a map with larger pixels"
        )


def contains(region: PixelRegion, x: Array, y: Array) -> Array:
    """Membership of pixel positions, as the package decides it.

    Boxes repeat the package's arithmetic on plain arrays, operation by operation: its
    Quantities take three times as long.

    Parameters
    ----------
    region : PixelRegion
        Any pixel region.
    x, y : ndarray
        Positions in pixels; they broadcast.

    Returns
    -------
    ndarray of bool
        In the broadcast shape.
    """
    if type(region) is not RectanglePixelRegion:
        grid_x, grid_y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        return region.contains(PixCoord(grid_x.copy(), grid_y.copy()))  # it needs real arrays
    turn = region.angle.to_value(u.rad)
    cos, sin = np.cos(turn), np.sin(turn)
    dx, dy = x - region.center.x, y - region.center.y
    along, across = cos * dx + sin * dy, sin * dx - cos * dy
    return (np.abs(along) < region.width * 0.5) & (np.abs(across) < region.height * 0.5)


def region_box(region: PixelRegion) -> tuple[int, int, int, int] | None:
    """Pixel ranges (x0, x1, y0, y1) around a region; None for one that is nowhere."""
    if isinstance(region, CompoundPixelRegion):
        boxes = [region_box(part) for part in (region.region1, region.region2)]
        known = [box for box in boxes if box is not None]
        if not known:
            return None
        x0, x1, y0, y1 = zip(*known, strict=True)
        return min(x0), max(x1), min(y0), max(y1)
    center = getattr(region, "center", None)
    if center is not None and not np.isfinite(center.x + center.y):
        return None
    if type(region) is RectanglePixelRegion:
        turn = region.angle.to_value(u.rad)
        cos, sin = abs(np.cos(turn)), abs(np.sin(turn))
        dx = 0.5 * (region.width * cos + region.height * sin)
        dy = 0.5 * (region.width * sin + region.height * cos)
        x0, x1 = np.floor(region.center.x - dx), np.ceil(region.center.x + dx)
        y0, y1 = np.floor(region.center.y - dy), np.ceil(region.center.y + dy)
        return int(x0), int(x1) + 1, int(y0), int(y1) + 1
    box = region.bounding_box
    return box.ixmin, box.ixmax, box.iymin, box.iymax
