"""Which directions lie within which shapes on the sphere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from jaxprof.regions.shapes import BOX, POLYGON, ROUND, Node, SkyShapes, edge_ends

Array: TypeAlias = np.ndarray[Any, Any]
TOLERANCE = np.deg2rad(1e-10)  # rad; far above rounding, far below any pixel
_PAIRS = 1_000_000  # pairs of a point and an edge at a time, which bounds the memory
_WIDER = 1e-7  # rad; azimuths of an edge beyond those of its ends


def within(
    shapes: SkyShapes,
    which: Array,
    points: Array,
    straight: Array | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Array:
    """Whether points are within shapes.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the shape for each point.
    points : ndarray, shape (P, 3)
        Unit vectors.
    straight : ndarray, shape (P, 3), optional
        Directions that take the place of the points for rectangles and polygons; of any
        length.
    tolerance : float
        By which the borders of round shapes lie further in [rad], inner and outer alike: a
        point on a common border belongs to the outer shape, whatever the rounding.

    Returns
    -------
    ndarray of bool, shape (P,)
    """
    straight = points if straight is None else straight
    inside = np.zeros(len(which), dtype=bool)
    kind = shapes.kind[which]
    for code, part in ((ROUND, points), (BOX, straight)):
        chosen = np.flatnonzero(kind == code)
        if not len(chosen):
            continue
        own = which[chosen]
        local = local_coordinates(shapes, own, part[chosen])
        test = _in_ellipse if code == ROUND else _in_box
        inner = test(local, shapes.size[own], tolerance)
        holed = np.flatnonzero(inner & shapes.hole[own].all(axis=1))
        inner[holed] &= ~test(local[holed], shapes.hole[own[holed]], tolerance)
        inside[chosen] = inner
    chosen = np.flatnonzero(kind == POLYGON)
    if len(chosen):
        inside[chosen] = _in_polygon(shapes, which[chosen], straight[chosen])
    return inside


def local_coordinates(shapes: SkyShapes, which: Array, points: Array) -> Array:
    """Components (P, 3) of vectors along the width, the height and the centre of shapes."""
    axes = shapes.axes
    return np.stack(
        [np.einsum("pi,pi->p", axes[which, k], points) for k in range(3)],
        axis=1,
    )


def _in_ellipse(local: Array, semi: Array, tolerance: float) -> Array:
    x, y, z = local.T
    across = np.hypot(x, y)
    away = np.arctan2(across, z)
    a, b = semi.T
    smaller = np.minimum(a, b)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        radius = away * np.hypot(x / a, y / b) / across * smaller
    radius = np.where(across == 0, np.where(z > 0, 0.0, np.inf), radius)
    radius = np.where(a == b, away, radius)
    return (radius < smaller - tolerance) & (smaller > 0)


def _in_box(local: Array, half: Array, _: float) -> Array:
    x, y, z = local.T
    lon, lat = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    width = np.where(half[:, 0] >= np.pi - TOLERANCE, np.inf, half[:, 0])
    height = np.where(half[:, 1] >= np.pi / 2 - TOLERANCE, np.inf, half[:, 1])
    return (np.abs(lon) < width) & (np.abs(lat) < height)


def _in_polygon(shapes: SkyShapes, which: Array, points: Array) -> Array:
    """Parity of the crossings from each point outwards, to the point opposite to the centre."""
    crossings = np.zeros(len(which), dtype=np.intp)
    local = local_coordinates(shapes, which, points)
    for pair, edge in polygon_pairs(shapes, which, local, 0.0):
        crossed = _crossed(local[pair], edge)
        crossings += np.bincount(pair[crossed], minlength=len(which))
    return (crossings % 2 == 1) ^ shapes.inverted[which]


def _crossed(point: Array, edge: tuple[Array, Array]) -> Array:
    """Whether the meridian from a point away from the centre crosses an edge (A, B)."""
    a, b = edge
    x, y, z = point.T
    # Sides of the plane of the meridian on which the ends lie; zero counts as positive.
    side_a, side_b = x * a[:, 1] - y * a[:, 0], x * b[:, 1] - y * b[:, 0]
    cut = (side_a >= 0) != (side_b >= 0)
    # The positive combination of the ends that lies in the plane, and its parts there.
    meet = a * np.abs(side_b)[:, np.newaxis] + b * np.abs(side_a)[:, np.newaxis]
    out = meet[:, 0] * x + meet[:, 1] * y
    beyond = (x * x + y * y) * meet[:, 2] < z * out
    return cut & (out > 0) & beyond


def polygon_pairs(
    shapes: SkyShapes, which: Array, local: Array, margin: float
) -> Iterator[tuple[Array, tuple[Array, Array]]]:
    """Points and the edges of their polygons at the same azimuth around the centre, in blocks.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the polygon for each point.
    local : ndarray, shape (P, 3)
        The points in the axes of their polygons.
    margin : float
        Points up to this far [rad] off the azimuths of an edge are paired with it too.

    Yields
    ------
    pair : ndarray of int, shape (Q,)
        Indices of points.
    edge : tuple of two ndarray, shape (Q, 3)
        Ends of an edge, in the axes of the polygon.
    """
    polygons, rank = np.unique(which, return_inverse=True)
    ends = edge_ends(shapes.first, polygons)
    count = shapes.first[polygons + 1] - shapes.first[polygons]
    owner = np.repeat(np.arange(len(polygons)), count)
    begin = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    begin = begin + shapes.first[polygons][owner]
    a = local_coordinates(shapes, polygons[owner], shapes.vertices[begin])
    b = local_coordinates(shapes, polygons[owner], shapes.vertices[ends])
    # Polygon k and azimuth as one number: k * 10 + azimuth in (-pi, pi].
    key = 10.0 * rank.reshape(-1) + np.arctan2(local[:, 1], local[:, 0])
    order = np.argsort(key, kind="stable")
    key = key[order]
    for low, high, edges in _azimuths(a, b, margin):
        left = np.searchsorted(key, 10.0 * owner[edges] + low)
        number = np.searchsorted(key, 10.0 * owner[edges] + high, side="right") - left
        for block in blocks(number, _PAIRS):
            n = number[block]
            chosen = np.repeat(edges[block], n)
            offset = np.arange(len(chosen)) - np.repeat(np.cumsum(n) - n, n)
            yield order[np.repeat(left[block], n) + offset], (a[chosen], b[chosen])


def _azimuths(a: Array, b: Array, margin: float) -> Iterator[tuple[Array, Array, Array]]:
    """Ranges of azimuth (low, high) of edges, and the edges that have them.

    An edge whose range holds the azimuth pi has two.
    """
    phi_a, phi_b = np.arctan2(a[:, 1], a[:, 0]), np.arctan2(b[:, 1], b[:, 0])
    turn = np.remainder(phi_b - phi_a + np.pi, 2 * np.pi) - np.pi
    foot = np.minimum(np.hypot(a[:, 0], a[:, 1]), np.hypot(b[:, 0], b[:, 1]))
    foot = foot * np.abs(np.cos(0.5 * turn))
    wider = _WIDER + margin / np.maximum(foot, 1e-300)
    low, high = np.minimum(phi_a, phi_a + turn) - wider, np.maximum(phi_a, phi_a + turn) + wider
    # Past the centre, or nearly so, the side that an edge passes on is for the exact test.
    whole = (np.abs(turn) > 3.0) | (wider > 1.0)
    low, high = np.where(whole, -4.0, low), np.where(whole, 4.0, high)
    edges = np.arange(len(a))
    yield low, high, edges
    below, above = edges[~whole & (low < -np.pi)], edges[~whole & (high > np.pi)]
    yield low[below] + 2 * np.pi, np.full(len(below), 4.0), below
    yield np.full(len(above), -4.0), high[above] - 2 * np.pi, above


def blocks(number: Array, limit: int) -> Iterator[slice]:
    """Slices of consecutive items that hold about `limit` in all, at least one item each."""
    total = np.cumsum(number)
    start = 0
    while start < len(number):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + limit, side="right")))
        yield slice(start, stop)
        start = stop


def combine(node: Node, value: Callable[[int], Any]) -> Any:
    """Value of a compound region from those of its shapes, by its operators."""
    if isinstance(node, tuple):
        operator, first, second = node
        return operator(combine(first, value), combine(second, value))
    return value(node)
