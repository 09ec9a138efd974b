"""Which directions lie within which shapes on the sphere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.regions.shapes import BOX, POLYGON, ROUND, Node, SkyShapes, edge_ends

Array: TypeAlias = np.ndarray[Any, Any]
TOLERANCE = np.deg2rad(1e-10)  # rad; far above rounding, far below any pixel
_PAIRS = 1_000_000  # pairs of a point and an edge at a time, which bounds the memory
_WIDER = 1e-7  # rad; azimuths of an edge beyond those of its ends


def within(
    shapes: SkyShapes, which: Array, points: Array, *, tolerance: float = TOLERANCE
) -> Array:
    """Whether points are within shapes.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the shape for each point.
    points : ndarray, shape (P, 3)
        Directions, vectors of any length.
    tolerance : float
        By which the borders of round shapes lie further in [rad], inner and outer alike: a
        point on a common border belongs to the outer shape, whatever the rounding.

    Returns
    -------
    ndarray of bool, shape (P,)
    """
    return within_local(shapes, which, local_coordinates(shapes, which, points), tolerance)


def within_local(
    shapes: SkyShapes, which: Array, local: Array, tolerance: float = TOLERANCE
) -> Array:
    """As `within`, for points whose `local_coordinates` (P, 3) are known."""
    inside = np.zeros(len(which), dtype=bool)
    holed = shapes.hole.all(axis=1)
    for code, test in ((ROUND, _in_ellipse), (BOX, _in_box)):
        chosen = of_kind(shapes, which, code)
        if len(chosen):
            own, part = which.take(chosen), local.take(chosen, axis=0)
            inner = test(part, shapes.size, own, tolerance)
            if holed.any():
                hole = np.flatnonzero(inner & holed.take(own))
                inner[hole] = ~test(part.take(hole, axis=0), shapes.hole, own.take(hole), tolerance)
            inside[chosen] = inner
    chosen = of_kind(shapes, which, POLYGON)
    if len(chosen):
        inside[chosen] = _in_polygon(shapes, which[chosen], local[chosen])
    return inside


def of_kind(shapes: SkyShapes, which: Array, code: int) -> Array:
    """Indices of the points whose shape is of a kind."""
    return np.flatnonzero((shapes.kind == code).take(which))


def local_coordinates(shapes: SkyShapes, which: Array, points: Array) -> Array:
    """Components (P, 3) of vectors along the width, the height and the centre of shapes."""
    # `take` is several times as fast as an array of indices in brackets.
    return np.einsum("pij,pj->pi", shapes.axes.take(which, axis=0), points)


def _in_ellipse(local: Array, semi: Array, which: Array, tolerance: float) -> Array:
    x, y, z = local.T
    across = np.sqrt(x * x + y * y)
    radius = np.arctan2(across, z)
    smaller = semi.min(axis=1)
    ellipses = np.flatnonzero((semi[:, 0] != semi[:, 1]).take(which))
    if len(ellipses):
        a, b = semi.take(which.take(ellipses), axis=0).T
        x, y, z, rim = x[ellipses], y[ellipses], z[ellipses], across[ellipses]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled = radius[ellipses] * np.hypot(x / a, y / b) / rim * np.minimum(a, b)
        radius[ellipses] = np.where(rim == 0, np.where(z > 0, 0.0, np.inf), scaled)
    limit = np.where(smaller > 0, smaller - tolerance, -np.inf)
    return np.asarray(radius < limit.take(which))


def _in_box(local: Array, half: Array, which: Array, _: float) -> Array:
    in_width, in_height = _box_depths(local, half, which)
    return (in_width > 0) & (in_height > 0)


def _box_depths(local: Array, half: Array, which: Array) -> tuple[Array, Array]:
    """How far points are inwards from the sides of boxes, from the nearer of each pair of sides.

    The sine of the distance from the great circles of the two eastern and western sides, and of
    that from the parallels of the others: ``cos(lat) sin(half - |lon|)`` and ``sin(half - |lat|)``.
    """
    x, y, z = local.T
    width, height = half.T
    # Beyond half a turn, or a quarter, there is no side.
    free_w, free_h = width >= np.pi - TOLERANCE, height >= 0.5 * np.pi - TOLERANCE
    sin_w, cos_w = np.where(free_w, 0.0, np.sin(width)), np.where(free_w, 0.0, np.cos(width))
    sin_h, cos_h = np.where(free_h, 0.0, np.sin(height)), np.where(free_h, 0.0, np.cos(height))
    more_w, more_h = np.where(free_w, np.inf, 0.0), np.where(free_h, np.inf, 0.0)
    sides = np.stack([sin_w, cos_w, more_w, sin_h, cos_h, more_h], axis=1).take(which, axis=0).T
    in_width = sides[0] * z - sides[1] * np.abs(x) + sides[2]
    in_height = sides[3] * np.sqrt(x * x + z * z) - sides[4] * np.abs(y) + sides[5]
    return in_width, in_height


def _in_polygon(shapes: SkyShapes, which: Array, local: Array) -> Array:
    """Parity of the crossings from each point outwards, to the point opposite to the centre."""
    crossings = np.zeros(len(which), dtype=np.intp)
    for pair, edge, _ in polygon_pairs(shapes, which, local, 0.0):
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
) -> Iterator[tuple[Array, tuple[Array, Array], Array]]:
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
    first : ndarray of int, shape (Q,)
        Index of the first vertex of the edge.
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
            pair = order[np.repeat(left[block], n) + offset]
            yield pair, (a[chosen], b[chosen]), begin[chosen]


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


@dataclass(frozen=True)
class NearEdges:
    """Points close to straight edges of shapes, a record for each edge.

    Attributes
    ----------
    pair : ndarray of int, shape (Q,)
        Index of the pair of a shape and a point.
    edge : ndarray of int, shape (Q,)
        Number of the edge: 0 to 3 for the sides of a rectangle, 4 to 7 for those of its hole,
        the index of its first vertex for that of a polygon.
    away : ndarray, shape (Q,)
        Distance from it [rad].
    length : ndarray, shape (Q,)
        Length of the edge [rad].
    normal : ndarray, shape (Q, 3)
        Direction along the sphere out of the shape, at the edge.
    """

    pair: Array
    edge: Array
    away: Array
    length: Array
    normal: Array


def beside_boxes(shapes: SkyShapes, which: Array, points: Array, reach: Array) -> Array:
    """Whether balls may touch a box, or belong to a shape of another kind.

    The cap around a narrow box holds many times its pixels: two products leave most of them out.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the shape for each ball.
    points : ndarray, shape (P, 3)
        Unit vectors of the centres of the balls.
    reach : ndarray, shape (P,)
        Their radii, chords.

    Returns
    -------
    ndarray of bool, shape (P,)
    """
    # A side at 90 deg or more from the centre cuts nothing off.
    limit = np.sin(np.minimum(shapes.size, 0.5 * np.pi)) + 1e-12
    limit[shapes.kind != BOX] = np.inf
    along = np.einsum("pij,pj->pi", shapes.axes[:, :2].take(which, axis=0), points)
    near = np.abs(along) <= limit.take(which, axis=0) + reach[:, np.newaxis]
    return np.asarray(near.all(axis=1))


def near_straight_edges(shapes: SkyShapes, which: Array, local: Array, margin: Array) -> NearEdges:
    """Points close to the edges of rectangles and polygons.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the shape for each point.
    local : ndarray, shape (P, 3)
        The points, in the axes of their shapes.
    margin : ndarray, shape (P,)
        What counts as close [rad].

    Returns
    -------
    NearEdges
    """
    found = [NearEdges(*(np.empty(0, np.intp),) * 2, *(np.empty(0),) * 2, np.empty((0, 3)))]
    boxes = of_kind(shapes, which, BOX)
    if len(boxes):
        own, part, close = which.take(boxes), local.take(boxes, axis=0), margin.take(boxes)
        for half, sense, number in ((shapes.size, 1.0, 0), (shapes.hole, -1.0, 4)):
            if half[shapes.kind == BOX].any():
                near = _near_box(part, half, own, close)
                normal = sense * np.einsum("pk,pki->pi", near.normal, shapes.axes[own[near.pair]])
                edge = near.edge + number
                found.append(NearEdges(boxes[near.pair], edge, near.away, near.length, normal))
    polygons = of_kind(shapes, which, POLYGON)
    if len(polygons):
        own, part, close = which[polygons], local[polygons], margin[polygons]
        for pair, (a, b), edge in polygon_pairs(shapes, own, part, float(close.max())):
            near = _near_arc(part[pair], a, b, close[pair])
            index = own[pair[near.pair]]
            sign = np.where(shapes.inverted[index], 1.0, -1.0) * np.sign(shapes.area[index])
            normal = np.einsum("pk,pki->pi", near.normal, shapes.axes[index])
            found.append(
                NearEdges(
                    polygons[pair[near.pair]],
                    edge[near.pair],
                    near.away,
                    near.length,
                    sign[:, None] * normal,
                )
            )
    return joined_edges(found)


def joined_edges(parts: list[NearEdges]) -> NearEdges:
    """Records of several calls, one after the other."""
    return NearEdges(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(NearEdges))
    )


def _near_box(local: Array, half: Array, which: Array, margin: Array) -> NearEdges:
    """Points close to the sides of boxes, with the directions out of these in local axes."""
    in_width, in_height = _box_depths(local, half, which)
    # Beyond a corner there is nothing to be close to.
    beside = (in_width > -margin) & (in_height > -margin)
    beside &= (half > 0).all(axis=1).take(which)
    east = np.flatnonzero(beside & (in_width < margin))
    # The great circle of a side has another half, opposite to it.
    lo = np.arctan2(local[east, 0], local[east, 2])
    this = np.abs(np.abs(lo) - half[which[east], 0]) < 0.5 * np.pi
    east, lo = east[this], lo[this]
    north = np.flatnonzero(beside & (in_height < margin))
    out_east = np.stack([np.cos(lo), 0 * lo, -np.sin(lo)], axis=1) * np.sign(lo)[:, None]
    sides = lo > 0
    x, y, z = local[north].T
    lo, la = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    out_north = np.stack([-np.sin(la) * np.sin(lo), np.cos(la), -np.sin(la) * np.cos(lo)], axis=1)
    return NearEdges(
        np.concatenate([east, north]),
        np.concatenate([sides, 2 + (y > 0)]).astype(np.intp),
        np.abs(np.concatenate([in_width[east], in_height[north]])),
        2 * np.concatenate([half[which[east], 1], half[which[north], 0]]),
        np.concatenate([out_east, out_north * np.sign(y)[:, None]]),
    )


def _near_arc(points: Array, a: Array, b: Array, margin: Array) -> NearEdges:
    """Points close to great-circle arcs, with the directions to the left of these."""
    normal = np.cross(a, b)
    sine = np.linalg.norm(normal, axis=1)
    away = np.abs(np.sum(normal * points, axis=1))
    found = np.flatnonzero((away < margin * sine) & (sine > 0))
    a, b, points, margin, sine = a[found], b[found], points[found], margin[found], sine[found]
    normal = normal[found] / sine[:, None]
    # Not farther along the arc than its ends.
    ahead_a = np.sum(np.cross(normal, a) * points, axis=1)
    ahead_b = np.sum(np.cross(normal, b) * points, axis=1)
    on_arc = (ahead_a > -margin) & (ahead_b < margin) & (np.sum(points * (a + b), axis=1) > 0)
    length = np.arctan2(sine, np.sum(a * b, axis=1))
    away = away[found] / sine
    pair = found[on_arc]
    return NearEdges(pair, pair, away[on_arc], length[on_arc], normal[on_arc])
