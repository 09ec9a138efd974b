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


def beside_boxes(shapes: SkyShapes, which: Array, points: Array, margin: float) -> Array:
    """Points that may lie in a box, or in a shape of another kind.

    The cap around a narrow box holds many times its pixels: two products leave them out.
    ``margin`` [rad] is added to each side.
    """
    found = np.ones(len(which), bool)
    box = shapes.kind == BOX
    if not box.any():
        return found
    for axis in (1, 0):
        # A side at 90 deg or more from the centre cuts nothing off.
        end = np.sin(np.minimum(shapes.size[:, axis] + margin, 0.5 * np.pi)) + 1e-12
        limit = np.where(box & (end < 1), end, np.inf)
        index = np.flatnonzero(found)
        own = which[index]
        along = np.einsum("pi,pi->p", points[index], shapes.axes[own, axis])
        found[index] = np.abs(along) <= limit[own]
    return found


def near_straight_edges(shapes: SkyShapes, which: Array, points: Array, margin: Array) -> NearEdges:
    """Points close to the edges of rectangles and polygons.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    which : ndarray of int, shape (P,)
        Index of the shape for each point.
    points : ndarray, shape (P, 3)
        Unit vectors.
    margin : ndarray, shape (P,)
        What counts as close [rad].

    Returns
    -------
    NearEdges
    """
    found = [NearEdges(*(np.empty(0, np.intp),) * 2, *(np.empty(0),) * 2, np.empty((0, 3)))]
    boxes = np.flatnonzero(shapes.kind[which] == BOX)
    if len(boxes):
        own = which[boxes]
        local = local_coordinates(shapes, own, points[boxes])
        for half, sense, number in ((shapes.size, 1.0, 0), (shapes.hole, -1.0, 4)):
            near = _near_box(local, half[own], margin[boxes])
            normal = np.einsum("pk,pki->pi", near.normal, shapes.axes[own[near.pair]])
            edge = near.edge + number
            found.append(NearEdges(boxes[near.pair], edge, near.away, near.length, sense * normal))
    polygons = np.flatnonzero(shapes.kind[which] == POLYGON)
    if len(polygons):
        own, close = which[polygons], margin[polygons]
        local = local_coordinates(shapes, own, points[polygons])
        for pair, (a, b), edge in polygon_pairs(shapes, own, local, float(close.max())):
            near = _near_arc(local[pair], a, b, close[pair])
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


def _near_box(local: Array, half: Array, margin: Array) -> NearEdges:
    """Points close to the sides of boxes, with the directions out of these in local axes."""
    x, y, z = local.T
    lon, lat = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    # Distances inwards from the sides; beyond a corner there is nothing to be close to.
    in_width = (half[:, 0] - np.abs(lon)) * np.cos(lat)
    in_height = half[:, 1] - np.abs(lat)
    beside = (in_width > -margin) & (in_height > -margin) & (half > 0).all(axis=1)
    east = np.flatnonzero(beside & (in_width < margin))
    north = np.flatnonzero(beside & (in_height < margin))
    out_east = np.stack([np.cos(lon[east]), 0 * lon[east], -np.sin(lon[east])], axis=1)
    lo, la = lon[north], lat[north]
    out_north = np.stack([-np.sin(la) * np.sin(lo), np.cos(la), -np.sin(la) * np.cos(lo)], axis=1)
    return NearEdges(
        np.concatenate([east, north]),
        np.concatenate([lon[east] > 0, 2 + (la > 0)]).astype(np.intp),
        np.abs(np.concatenate([in_width[east], in_height[north]])),
        2 * np.concatenate([half[east, 1], half[north, 0]]),
        np.concatenate([np.sign(lon[east])[:, None] * out_east, np.sign(la)[:, None] * out_north]),
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
