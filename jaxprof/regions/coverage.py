"""The part of every pixel that lies within a region.

Outlines are polygons, and the area that a polygon shares with every pixel is exact: its
edges are cut where they cross the lines between pixels, and every piece adds the area to its
right (the signed-area accumulation of font rasterisers, here from Green's theorem: the area
is the integral of x dy along the outline). Circles and ellipses become polygons of the same
area. Sub-sampling is left for what has no outline: pixels where the outlines of a compound
region's parts meet, and polygons that cross themselves.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from regions import (
    CircleAnnulusPixelRegion,
    CirclePixelRegion,
    CompoundPixelRegion,
    EllipseAnnulusPixelRegion,
    EllipsePixelRegion,
    PixCoord,
    PixelRegion,
    PolygonPixelRegion,
    RectangleAnnulusPixelRegion,
    RectanglePixelRegion,
)

from jaxprof.regions.on_grid import GridRegion, Outlines
from jaxprof.regions.pixels import BLOCK

Array: TypeAlias = np.ndarray[Any, Any]
Region: TypeAlias = PixelRegion | GridRegion
_TINY = 1e-13  # of a pixel: rounding of the sums along a row


def pixel_coverage(
    index: int, region: Region, limit: int, oversampling: int = 10
) -> tuple[int, int, Array] | None:
    """Part of every pixel of the unbounded grid that lies within a region.

    Parameters
    ----------
    index : int
        Index of the region, for errors.
    region : PixelRegion or GridRegion
        Any pixel region, or a sky region on the grid of a map.
    limit : int
        Largest number of pixels of the box around the region.
    oversampling : int
        The root of the number of places tested where areas are not exact: in compound
        regions where outlines of their parts meet in a pixel, in polygons that cross
        themselves, and in shapes without known outline.

    Returns
    -------
    (y0, x0, coverage) or None
        Indices of the first pixel, negative off the map, and values in [0, 1], shape
        ``(h, w)``, whose outer rows and columns are not empty. None for a region without
        area or place on the map.

    Raises
    ------
    ValueError
        If the box is larger than `limit`.
    """
    box = region_box(region)
    if box is None:
        return None
    check_box(index, box, limit)
    coverage = _coverage(region, box, oversampling)
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    if len(rows) == 0:
        return None
    y, x = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return box[2] + int(rows[0]), box[0] + int(columns[0]), coverage[y, x]


def _lattice(n: int) -> tuple[Array, Array]:
    """Offsets (dy, dx) from a pixel's centre of n points spread evenly over the pixel.

    A golden-ratio lattice: no two points share a row or a column, so that an edge along the
    pixels is resolved to 1 / n of a pixel; a square grid of them would do so to its root.
    """
    k = np.arange(n)
    return (0.5 + k * (np.sqrt(5) - 1) / 2) % 1 - 0.5, (k + 0.5) / n - 0.5


def _coverage(region: Region, box: tuple[int, int, int, int], oversampling: int) -> Array:
    x0, x1, y0, y1 = box
    shape = (y1 - y0, x1 - x0)
    compound = _parts(region)
    if compound is not None:
        operator, *both = compound
        coverage = _combined(operator, *(_coverage(part, box, oversampling) for part in both))
        return _sampled(region, coverage, x0, y0, oversampling)
    center = getattr(region, "center", None)
    if center is not None and not np.isfinite(center.x + center.y):
        return np.zeros(shape)  # a part of a compound region that the map cannot show
    outlines = _outlines(region)
    if outlines is not None:
        coverage = np.zeros(shape)
        for sign, vertices in outlines:
            coverage += sign * polygon_coverage(vertices - (x0 - 0.5, y0 - 0.5), shape)
        coverage = np.where(coverage < _TINY, np.where(coverage < -1e-6, np.nan, 0.0), coverage)
        coverage = np.where(
            coverage > 1 - _TINY, np.where(coverage > 1 + 1e-6, np.nan, 1.0), coverage
        )
        if not np.isnan(coverage).any():
            return coverage
        # Wound twice or backwards: the polygon crosses itself, the package's rule decides.
    return _sampled(region, np.full(shape, np.nan), x0, y0, oversampling)


def _parts(region: Region) -> tuple[Any, Region, Region] | None:
    """Operator and parts of a compound region; None for a simple one."""
    if isinstance(region, GridRegion):
        return region.parts
    if isinstance(region, CompoundPixelRegion):
        return region.operator, region.region1, region.region2
    return None


def _combined(operator: Any, first: Array, second: Array) -> Array:
    """Coverage by a compound region from that by its parts; NaN where both are in part."""
    out = np.full(first.shape, np.nan)
    true, false = np.ones(first.shape, bool), np.zeros(first.shape, bool)
    for part, other, swap in ((first, second, False), (second, first, True)):
        known = (other == 0) | (other == 1)
        whole = other == 1
        inside = operator(whole, true) if swap else operator(true, whole)
        outside = operator(whole, false) if swap else operator(false, whole)
        # The result where the part holds and where it does not, in these shares.
        value = np.where(inside, part, 0.0) + np.where(outside, 1 - part, 0.0)
        out = np.where(known & np.isnan(out), value, out)
    return out


def _sampled(region: Region, coverage: Array, x0: int, y0: int, oversampling: int) -> Array:
    """Fill the NaN of a coverage with the part of the sub-pixels that are in the region."""
    iy, ix = np.nonzero(np.isnan(coverage))
    dy, dx = _lattice(oversampling**2)
    out = coverage.copy()
    step = max(1, BLOCK // len(dy))
    for start in range(0, len(iy), step):
        y, x = iy[start : start + step], ix[start : start + step]
        inside = contains(region, (x0 + x)[:, None] + dx, (y0 + y)[:, None] + dy)
        out[y, x] = inside.mean(axis=1)
    return out


def polygon_coverage(vertices: Array, shape: tuple[int, int]) -> Array:
    """Area that a polygon shares with the unit cells of a grid.

    Parameters
    ----------
    vertices : ndarray, shape (n, 2)
        (x, y) of the corners, on a grid whose cell (i, j) spans [j, j + 1] x [i, i + 1]. All
        of them lie on the grid.
    shape : tuple of int
        Rows and columns of the grid.

    Returns
    -------
    ndarray, shape `shape`
        Times the number of turns of the outline around each place; positive for a polygon
        of either sense.
    """
    start, end = vertices, np.roll(vertices, -1, axis=0)
    n = len(start)
    edge, place = [np.arange(n), np.arange(n)], [np.zeros(n), np.ones(n)]
    for axis in (0, 1):  # where every edge crosses the lines between columns, and rows
        a, b = start[:, axis], end[:, axis]
        low = np.floor(np.minimum(a, b)).astype(np.int64) + 1
        count = np.maximum(np.ceil(np.maximum(a, b)).astype(np.int64) - low, 0)
        which = np.repeat(np.arange(n), count)
        line = low[which] + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        edge.append(which)
        place.append((line - a[which]) / (b - a)[which])
    edges, places = np.concatenate(edge), np.clip(np.concatenate(place), 0.0, 1.0)
    order = np.lexsort((places, edges))
    edges, places = edges[order], places[order]
    points = start[edges] + places[:, None] * (end - start)[edges]
    same = edges[1:] == edges[:-1]
    middle = 0.5 * (points[1:] + points[:-1])[same]
    rise = np.diff(points[:, 1])[same]
    ny, nx = shape
    column = np.clip(np.floor(middle[:, 0]).astype(np.int64), 0, nx - 1)
    row = np.clip(np.floor(middle[:, 1]).astype(np.int64), 0, ny - 1)
    # A piece covers the cell's part to its right, and the whole of the cells further right.
    left = middle[:, 0] - column
    flat = row * (nx + 1) + column
    size = ny * (nx + 1)
    total = np.bincount(flat, rise * (1 - left), size) + np.bincount(flat + 1, rise * left, size)
    area = np.cumsum(total.reshape(ny, nx + 1), axis=1)[:, :nx]
    return area if area.sum() >= 0 else -area


def _outlines(region: Region) -> Outlines | None:
    """Outlines of a simple region, holes with the sign -1; None if they are not known."""
    if isinstance(region, GridRegion):
        return region.outlines()
    kind = type(region)
    if isinstance(region, PolygonPixelRegion):
        return [(1, np.stack([region.vertices.x, region.vertices.y], axis=-1).astype(float))]
    shapes = {
        RectanglePixelRegion: _box,
        EllipsePixelRegion: _ellipse,
        RectangleAnnulusPixelRegion: _box,
        EllipseAnnulusPixelRegion: _ellipse,
    }
    if kind in (CirclePixelRegion, CircleAnnulusPixelRegion):
        ring = kind is CircleAnnulusPixelRegion
        radii = (region.outer_radius, region.inner_radius) if ring else (region.radius,)
        return [
            (sign, _ellipse(region.center, 2 * radius, 2 * radius, 0.0))
            for sign, radius in zip((1, -1), radii, strict=False)
        ]
    if kind not in shapes:
        return None
    turn = region.angle.to_value(u.rad)
    if hasattr(region, "width"):
        return [(1, shapes[kind](region.center, region.width, region.height, turn))]
    outer = shapes[kind](region.center, region.outer_width, region.outer_height, turn)
    return [
        (1, outer),
        (-1, shapes[kind](region.center, region.inner_width, region.inner_height, turn)),
    ]


def _box(center: PixCoord, width: float, height: float, turn: float) -> Array:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.5 * width, 0.5 * height)
    return _placed(corners, center, turn)


def _ellipse(center: PixCoord, width: float, height: float, turn: float) -> Array:
    # The polygon departs from the arc by R pi^2 / (2 n^2) < 1e-4 pixel.
    n = max(64, int(np.ceil(222 * np.sqrt(max(width, height)))))
    angle = 2 * np.pi * (np.arange(n) + 0.5) / n
    same_area = np.sqrt((2 * np.pi / n) / np.sin(2 * np.pi / n))
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return _placed(0.5 * same_area * unit * (width, height), center, turn)


def _placed(points: Array, center: PixCoord, turn: float) -> Array:
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]]) + (center.x, center.y)


def check_box(index: int, box: tuple[int, int, int, int], limit: int) -> None:
    """Raise for a box around a region that holds more than `limit` pixels."""
    x0, x1, y0, y1 = box
    if (x1 - x0) * (y1 - y0) > limit:
        raise ValueError(
            f"regions[{index}] spans {x1 - x0:.3g} x {y1 - y0:.3g} pixels of the map's grid, "
            f"more than the {limit:.3g} allowed: it covers too much of the sky or lies too far "
            "off the map for the projection; use a smaller region or a map with larger pixels"
        )


def contains(region: Region, x: Array, y: Array) -> Array:
    """Membership of pixel positions, as the package decides it.

    Boxes repeat the package's arithmetic on plain arrays, operation by operation: its
    Quantities take three times as long.

    Parameters
    ----------
    region : PixelRegion or GridRegion
        Any region.
    x, y : ndarray
        Positions in pixels; they broadcast.

    Returns
    -------
    ndarray of bool
        In the broadcast shape.
    """
    if isinstance(region, GridRegion):
        return region.contains(x, y)
    if type(region) is not RectanglePixelRegion:
        grid_x, grid_y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        return region.contains(PixCoord(grid_x.copy(), grid_y.copy()))  # it needs real arrays
    turn = region.angle.to_value(u.rad)
    cos, sin = np.cos(turn), np.sin(turn)
    dx, dy = x - region.center.x, y - region.center.y
    along, across = cos * dx + sin * dy, sin * dx - cos * dy
    return (np.abs(along) < region.width * 0.5) & (np.abs(across) < region.height * 0.5)


def region_box(region: Region) -> tuple[int, int, int, int] | None:
    """Pixel ranges (x0, x1, y0, y1) around a region; None for one that is nowhere."""
    compound = _parts(region)
    if compound is not None:
        boxes = [region_box(part) for part in compound[1:]]
        known = [box for box in boxes if box is not None]
        if not known:
            return None
        x0, x1, y0, y1 = zip(*known, strict=True)
        return min(x0), max(x1), min(y0), max(y1)
    if isinstance(region, GridRegion):
        return _grid_box(region)
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


def _grid_box(region: GridRegion) -> tuple[int, int, int, int] | None:
    """Pixel ranges around the outlines of a simple region; the map where these are torn."""
    outlines = region.outlines()
    if outlines is None:
        ny, nx = region.geom.npix_shape
        return 0, nx, 0, ny
    if not outlines:
        return None
    low = np.floor(np.min([v.min(axis=0) for _, v in outlines], axis=0)).astype(int)
    high = np.ceil(np.max([v.max(axis=0) for _, v in outlines], axis=0)).astype(int)
    return int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1
