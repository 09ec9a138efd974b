"""The part of every pixel that lies within a region, and how that lies in the pixel.

Outlines are polygons, and the area that a polygon shares with every pixel is exact: its
edges are cut where they cross the lines between pixels, and every piece adds the area to its
right (the signed-area accumulation of font rasterisers, here from Green's theorem: the area
is the integral of x dy along the outline). Circles and ellipses become polygons of the same
area. Sub-sampling is left for what has no outline: pixels where the outlines of a compound
region's parts meet, and polygons that cross themselves. The moments of the part within the pixel
(`jaxprof.sky.moments`) follow in the same way; an array of moments has them on its first axis, the
area first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.moments import legendre, legendre_integrals, orders, point_moments
from jaxprof.sky.regions.on_grid import GridRegion
from jaxprof.sky.regions.pixels import BLOCK

Array: TypeAlias = np.ndarray[Any, Any]
_TINY = 1e-13  # of a pixel: rounding of the sums along a row


def pixel_moments(
    index: int, region: GridRegion, limit: int, oversampling: int = 10, degree: int = 0
) -> tuple[int, int, Array] | None:
    """Area and moments of the part of every pixel of the unbounded grid within a region.

    Parameters
    ----------
    index : int
        Index of the region, for errors.
    region : GridRegion
        A sky region on the grid of a map.
    limit : int
        Largest number of pixels of the box around the region.
    oversampling : int
        The root of the number of positions tested where areas are not exact: in compound
        regions where outlines of their parts meet in a pixel, in polygons that cross
        themselves, and in shapes without known outline.
    degree : int
        Largest total degree of the moments.

    Returns
    -------
    (y0, x0, moments) or None
        Indices of the first pixel, negative off the map, and integrals of the Legendre polynomials
        over the part within the region, shape ``(orders, h, w)``; ``moments[0]`` is its area, in
        [0, 1]. Outer rows and columns are not empty. None for a region without area or not on the
        map.

    Raises
    ------
    ValueError
        If the box is larger than `limit`.
    """
    box = region_box(region)
    if box is None:
        return None
    check_box(index, box, limit)
    moments = _moments(region, box, oversampling, degree)
    inside = moments[0] > 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return None
    y, x = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return box[2] + int(rows[0]), box[0] + int(columns[0]), moments[:, y, x]


def _lattice(n: int) -> tuple[Array, Array]:
    """Offsets (dy, dx) from a pixel's centre of n points spread evenly over the pixel.

    A golden-ratio lattice: no two points share a row or a column, so that an edge along the
    pixels is resolved to 1 / n of a pixel; a square grid of them would do so to its root.
    """
    k = np.arange(n)
    return (0.5 + k * (np.sqrt(5) - 1) / 2) % 1 - 0.5, (k + 0.5) / n - 0.5


def _moments(
    region: GridRegion, box: tuple[int, int, int, int], oversampling: int, degree: int
) -> Array:
    """Moments on the pixels of a box (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = box
    shape = (len(orders(degree)), y1 - y0, x1 - x0)
    if region.parts is not None:
        operator, *both = region.parts
        moments = _combined(operator, *(_moments(part, box, oversampling, degree) for part in both))
        return _sampled(region, moments, x0, y0, oversampling, degree)
    outlines = region.outlines
    if outlines is not None:
        moments = np.zeros(shape)
        for sign, vertices in outlines:
            moments += sign * polygon_moments(vertices - (x0 - 0.5, y0 - 0.5), shape[1:], degree)
        coverage = moments[0]
        if coverage.min(initial=0.0) > -1e-6 and coverage.max(initial=0.0) < 1 + 1e-6:
            moments = np.where(coverage < _TINY, 0.0, moments)
            return np.where(coverage > 1 - _TINY, _whole(len(moments)), moments)
        # Wound twice or backwards: the polygon crosses itself, and membership decides.
    return _sampled(region, np.full(shape, np.nan), x0, y0, oversampling, degree)


def _whole(n: int) -> Array:
    """Moments of a whole pixel."""
    return (np.arange(n) == 0).astype(float)[:, np.newaxis, np.newaxis]


def _combined(operator: Any, first: Array, second: Array) -> Array:
    """Moments of a compound region from those of its parts; NaN where both are in part."""
    out = np.full(first.shape, np.nan)
    true, false = np.ones(first.shape[1:], bool), np.zeros(first.shape[1:], bool)
    for part, other, swap in ((first, second[0], False), (second, first[0], True)):
        known = (other == 0) | (other == 1)
        whole = other == 1
        inside = operator(whole, true) if swap else operator(true, whole)
        outside = operator(whole, false) if swap else operator(false, whole)
        # The result where the part holds and where it does not, in these shares.
        value = np.where(inside, part, 0.0) + np.where(outside, _whole(len(part)) - part, 0.0)
        out = np.where(known & np.isnan(out), value, out)
    return out


def _sampled(
    region: GridRegion, moments: Array, x0: int, y0: int, oversampling: int, degree: int
) -> Array:
    """Fill the NaN of moments with those of the sampled positions that are in the region."""
    iy, ix = np.nonzero(np.isnan(moments[0]))
    dy, dx = _lattice(oversampling**2)
    basis = point_moments(dx, dy, degree) / len(dx)
    out = moments.copy()
    step = max(1, BLOCK // len(dy))
    for start in range(0, len(iy), step):
        y, x = iy[start : start + step], ix[start : start + step]
        inside = region.contains((x0 + x)[:, None] + dx, (y0 + y)[:, None] + dy)
        found = basis @ inside.T.astype(float)
        out[:, y, x] = np.where(inside.all(axis=1), _whole(len(out))[:, 0], found)
    return out


def polygon_moments(vertices: Array, shape: tuple[int, int], degree: int) -> Array:
    """Moments of what a polygon shares with the unit cells of a grid.

    Parameters
    ----------
    vertices : ndarray, shape (n, 2)
        (x, y) of the corners, on a grid whose cell (i, j) spans [j, j + 1] x [i, i + 1]. All
        of them lie on the grid.
    shape : tuple of int
        Rows and columns of the grid.
    degree : int
        Largest total degree of the moments.

    Returns
    -------
    ndarray, shape (orders, `shape`)
        Integrals of the Legendre polynomials, the area first, times the number of turns of the
        outline around each position; the area is positive for a polygon of either sense.
    """
    ny, nx = shape
    start, end = _pieces(vertices)
    middle = 0.5 * (start + end)
    column = np.clip(np.floor(middle[:, 0]).astype(np.int64), 0, nx - 1)
    row = np.clip(np.floor(middle[:, 1]).astype(np.int64), 0, ny - 1)
    # The integral of x dy along the outline, and of its likes, is exact with Gauss-Legendre nodes.
    nodes, weights = np.polynomial.legendre.leggauss((degree + 3) // 2)
    share = 0.5 * (1 + nodes[:, np.newaxis])
    x = start[:, 0] + share * (end - start)[:, 0] - column - 0.5
    y = start[:, 1] + share * (end - start)[:, 1] - row - 0.5
    rise = 0.5 * weights[:, np.newaxis] * (end - start)[:, 1]
    # A piece covers the cell's part to its right, and the cells further right over their whole
    # width, where all polynomials of x but the first integrate to zero.
    whole = (np.arange(degree + 1) == 0)[:, np.newaxis, np.newaxis]
    right = whole - legendre_integrals(degree, x)
    up = legendre(degree, y) * rise
    flat, size = row * (nx + 1) + column, ny * (nx + 1)
    found = np.empty((len(orders(degree)), ny, nx))
    for index, (a, b) in enumerate(orders(degree)):
        own = (right[a] * up[b]).sum(axis=0)
        total = np.bincount(flat, own, size)
        if a == 0:
            total += np.bincount(flat + 1, up[b].sum(axis=0) - own, size)
            total = np.cumsum(total.reshape(ny, nx + 1), axis=1)
        found[index] = total.reshape(ny, nx + 1)[:, :nx]
    return found if found[0].sum() >= 0 else -found


def _pieces(vertices: Array) -> tuple[Array, Array]:
    """Both ends (n, 2) of the edges of a polygon, cut where they cross the lines of the grid."""
    start, end = vertices, np.roll(vertices, -1, axis=0)
    n = len(start)
    edge, position = [np.arange(n), np.arange(n)], [np.zeros(n), np.ones(n)]
    for axis in (0, 1):  # the lines between columns, and between rows
        a, b = start[:, axis], end[:, axis]
        low = np.floor(np.minimum(a, b)).astype(np.int64) + 1
        count = np.maximum(np.ceil(np.maximum(a, b)).astype(np.int64) - low, 0)
        which = np.repeat(np.arange(n), count)
        line = low[which] + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        edge.append(which)
        position.append((line - a[which]) / (b - a)[which])
    edges, positions = np.concatenate(edge), np.clip(np.concatenate(position), 0.0, 1.0)
    order = np.lexsort((positions, edges))
    edges, positions = edges[order], positions[order]
    points = start[edges] + positions[:, None] * (end - start)[edges]
    same = edges[1:] == edges[:-1]
    return points[:-1][same], points[1:][same]


def check_box(index: int, box: tuple[int, int, int, int], limit: int) -> None:
    """Raise for a box around a region that holds more than `limit` pixels."""
    x0, x1, y0, y1 = box
    if (x1 - x0) * (y1 - y0) > limit:
        raise ValueError(
            f"regions[{index}] spans {x1 - x0:.3g} x {y1 - y0:.3g} pixels of the map's grid, "
            f"more than the {limit:.3g} allowed: it covers too much of the sky or lies too far "
            "off the map for the projection; use a smaller region or a map with larger pixels"
        )


def region_box(region: GridRegion) -> tuple[int, int, int, int] | None:
    """Pixel ranges (x0, x1, y0, y1) around a region, the map where the projection tears it.

    None for a region that is nowhere.
    """
    if region.parts is not None:
        boxes = [region_box(part) for part in region.parts[1:]]
        known = [box for box in boxes if box is not None]
        if not known:
            return None
        x0, x1, y0, y1 = zip(*known, strict=True)
        return min(x0), max(x1), min(y0), max(y1)
    outlines = region.outlines
    if outlines is None:
        ny, nx = region.geom.npix_shape
        turn = region.geom.turn or range(nx)
        return turn.start, turn.stop, 0, ny
    if not outlines:
        return None
    low = np.floor(np.min([v.min(axis=0) for _, v in outlines], axis=0)).astype(int)
    high = np.ceil(np.max([v.max(axis=0) for _, v in outlines], axis=0)).astype(int)
    return int(low[0]), int(high[0]) + 1, int(low[1]), int(high[1]) + 1
