"""Exact solid angles of sky regions.

Closed forms where there are some. For compound regions and polygons that cross themselves the
solid angle is the integral of ``(1 - cos theta) dphi`` along the outline (Green's theorem on
the sphere), over those parts of the outlines of the shapes that border the region.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from astropy.coordinates import ICRS
from scipy.special import roots_legendre

from jaxprof.regions.membership import combine, within
from jaxprof.regions.outlines import Arc, outline_arcs
from jaxprof.regions.shapes import BOX, POLYGON, ROUND, Node, SkyShapes, sky_shapes

Array: TypeAlias = np.ndarray[Any, Any]
_SAMPLES = 1024  # points on an arc that tell where the outline of a region begins and ends
_SIDE = 1e-7  # of a shape's size: how far off an arc its two sides are looked at
_SINC_NODES = 256
_PAIRS = 1_000_000  # of edges, compared at a time


def region_solid_angles(regions: Any) -> Array:
    """Solid angles of sky regions.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        Sky regions, compound ones included.

    Returns
    -------
    ndarray, shape (B,)
        In sr, exact to about 1e-10 for simple shapes and 1e-6 for compound regions and polygons
        that cross themselves (whose inside is what an odd number of crossings separates from
        the outside). Of a polygon the smaller side counts.

    Raises
    ------
    ValueError
        For what `region_list` refuses, unknown shapes, and sizes that are not finite.
    """
    return shape_solid_angles(sky_shapes(regions, ICRS()))


def shape_solid_angles(shapes: SkyShapes, chosen: Array | None = None) -> Array:
    """Solid angles [sr] of the regions that shapes make up, of all or of chosen ones."""
    own = _simple_areas(shapes)
    nodes = shapes.nodes if chosen is None else [shapes.nodes[i] for i in chosen]
    return np.array(
        [own[node] if isinstance(node, int) else _compound(shapes, node) for node in nodes]
    )


def _simple_areas(shapes: SkyShapes) -> Array:
    """Solid angle [sr] of every shape."""
    area = np.zeros(len(shapes))
    for kind, formula in ((ROUND, _ellipse_area), (BOX, _box_area)):
        chosen = np.flatnonzero(shapes.kind == kind)
        size, hole = shapes.size[chosen], shapes.hole[chosen]
        area[chosen] = formula(size) - np.where(hole.all(axis=1), formula(hole), 0.0)
    rings = (shapes.kind == ROUND) & np.all(shapes.size[:, :1] == shapes.size, axis=1)
    rings &= shapes.hole[:, 0] == shapes.hole[:, 1]
    outer, inner = (
        np.minimum(shapes.size[rings, 0], np.pi),
        np.minimum(shapes.hole[rings, 0], np.pi),
    )
    # cos(inner) - cos(outer) without cancellation
    area[rings] = 4 * np.pi * np.sin(0.5 * (outer + inner)) * np.sin(0.5 * (outer - inner))
    polygons = np.flatnonzero(shapes.kind == POLYGON)
    enclosed = np.abs(shapes.area[polygons])
    area[polygons] = np.where(enclosed > 2 * np.pi, 4 * np.pi - enclosed, enclosed)
    for index in _self_crossing(shapes, polygons):
        area[index] = _compound(shapes, int(index))
    return area


def _ellipse_area(semi: Array) -> Array:
    """Ellipses by the integral of ``2 sin(rho / 2)^2 dphi``.

    With the eccentric angle t it becomes that of ``a b sinc(rho / 2)^2 / 2``, an entire function
    of t whose mean over even steps converges exponentially, for every ratio of the axes.
    """
    t = 2 * np.pi * np.arange(_SINC_NODES) / _SINC_NODES
    a, b = semi[:, :1], semi[:, 1:]
    rho = np.hypot(a * np.cos(t), b * np.sin(t))
    # sin(rho / 2) stays one half turn away at most: nothing lies beyond the opposite point.
    value = np.sin(0.5 * np.minimum(rho, np.pi)) / np.where(rho > 0, 0.5 * rho, 1.0)
    mean = np.mean(np.where(rho > 0, value, 1.0) ** 2, axis=1)
    return np.pi * semi[:, 0] * semi[:, 1] * mean


def _box_area(half: Array) -> Array:
    return 4 * np.minimum(half[:, 0], np.pi) * np.sin(np.minimum(half[:, 1], np.pi / 2))


def _self_crossing(shapes: SkyShapes, polygons: Array) -> Array:
    """Those of some polygons that cross themselves, those of as many vertices at a time."""
    count = np.diff(shapes.first)[polygons]
    crossing = np.zeros(len(polygons), bool)
    for n in np.unique(count[count > 3]):
        alike = np.flatnonzero(count == n)
        step = max(1, _PAIRS // int(n) ** 2)
        for begin in range(0, len(alike), step):
            block = alike[begin : begin + step]
            first = shapes.first[polygons[block]]
            crossing[block] = _cross_themselves(shapes.vertices[first[:, None] + np.arange(n)])
    return polygons[crossing]


def _cross_themselves(vertices: Array) -> Array:
    """Whether two edges of polygons (K, n, 3) cross each other, shape (K,)."""
    a, b = vertices, np.roll(vertices, -1, axis=1)
    normal = np.cross(a, b)
    # (K, edge, edge): on which side of an edge's plane the ends of another are.
    side_a, side_b = normal @ a.swapaxes(1, 2), normal @ b.swapaxes(1, 2)
    tiny = 1e-14 * np.linalg.norm(normal, axis=2)[:, :, np.newaxis]
    parts = (side_a * side_b < 0) & (np.abs(side_a) > tiny) & (np.abs(side_b) > tiny)
    polygon, i, j = np.nonzero(np.triu(parts & parts.swapaxes(1, 2), 1))
    # Arcs also have to meet on the same side of the sphere.
    line = np.cross(normal[polygon, i], normal[polygon, j])
    middle_i, middle_j = ((a + b)[polygon, edge] for edge in (i, j))
    same = np.sum(line * middle_i, axis=1) * np.sum(line * middle_j, axis=1) > 0
    return np.bincount(polygon[same], minlength=len(vertices)) > 0


def _compound(shapes: SkyShapes, node: Node) -> float:
    """Solid angle [sr] of a region by the integral along its outline."""
    leaves = sorted(set(_leaves(node)))
    arcs = [arc for leaf in leaves for arc in outline_arcs(shapes, leaf)]
    pole = shapes.axes[leaves[0], 2]
    if len(leaves) > 1:
        mean = shapes.axes[leaves, 2].mean(axis=0)
        length = np.linalg.norm(mean)
        pole = mean / length if length > 0.1 else pole
    total = sum(_along(shapes, node, leaves, arc, pole) for arc in arcs)
    opposite = _region_within(shapes, node, leaves, -pole[np.newaxis])[0][0]
    return float(total + 4 * np.pi * opposite)


def _leaves(node: Node) -> list[int]:
    return [node] if isinstance(node, int) else [*_leaves(node[1]), *_leaves(node[2])]


def _region_within(
    shapes: SkyShapes, node: Node, leaves: list[int], points: Array
) -> tuple[Array, Array]:
    """Whether points (P, 3) are in a region, and in each of its shapes, (L, P)."""
    which = np.repeat(leaves, len(points))
    inside = within(shapes, which, np.tile(points, (len(leaves), 1)), tolerance=0.0)
    inside = inside.reshape(len(leaves), -1)
    rows = dict(zip(leaves, inside, strict=True))
    return np.asarray(combine(node, rows.__getitem__), dtype=bool), inside


def _along(shapes: SkyShapes, node: Node, leaves: list[int], arc: Arc, pole: Array) -> float:
    """Integral along those parts of an arc that border the region."""

    def border(t: Array) -> Array:
        """+1 where the region is to the left, -1 to the right, over arcs that coincide."""
        place, across = arc.points(t), arc.left(t)
        left, left_own = _region_within(shapes, node, leaves, place + arc.scale * _SIDE * across)
        right, right_own = _region_within(shapes, node, leaves, place - arc.scale * _SIDE * across)
        shared = np.maximum((left_own != right_own).sum(axis=0), 1)
        return (left.astype(float) - right) / shared

    t = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    value = border(t)
    if not value.any():
        return 0.0
    step = np.flatnonzero(np.diff(value))
    low, high = t[step], t[step + 1]
    start = value[step]
    for _ in range(45 if len(step) else 0):
        middle = 0.5 * (low + high)
        before = border(middle) == start
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    cuts = np.concatenate([[0.0], 0.5 * (low + high), [1.0]])
    signs = value[np.concatenate([[0], step + 1])]
    return float(
        sum(
            sign * _integral(arc, *span, pole)
            for sign, span in zip(signs, zip(cuts[:-1], cuts[1:], strict=True), strict=True)
            if sign
        )
    )


def _integral(arc: Arc, low: float, high: float, pole: Array) -> float:
    """Integral of ``(1 - cos theta) dphi`` around a pole along a part of an arc."""
    node, weight = roots_legendre(20)
    edges = np.linspace(low, high, 9)
    half = 0.5 * np.diff(edges)[:, np.newaxis]
    t = (edges[:-1, np.newaxis] + half * (1 + node)).ravel()
    point, speed = arc.points(t), arc.velocity(t)
    # (1 - cos theta) dphi = pole . (r x dr) / (1 + pole . r)
    value = np.cross(point, speed) @ pole / (1 + point @ pole)
    return float(np.sum((half * weight).ravel() * value))
