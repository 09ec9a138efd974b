"""Exact solid angles of sky regions.

Closed forms where there are some. For compound regions and polygons that cross themselves the
solid angle is the integral of ``(1 - cos theta) dphi`` along the outline (Green's theorem on
the sphere), over those parts of the outlines of the shapes that border the region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.regions.membership import blocks, combine, within
from jaxprof.sky.regions.outlines import Arc, outline_arcs
from jaxprof.sky.regions.shapes import BOX, POLYGON, ROUND, Node, SkyShapes, sky_shapes

Array: TypeAlias = np.ndarray[Any, Any]
_SAMPLES = 512  # positions on an arc that tell where the outline of a region begins and ends
_PARTS, _ROUNDS = 16, 6  # into which the interval of such a change is cut, and how often
_SIDE = 1e-7  # of a shape's size: how far off an arc its two sides are looked at
_SINC_NODES = 256
_SAME = 1e-6  # of a shape's size: what counts as the same position
_PAIRS = 1_000_000  # of edges, compared at a time
_POINTS = 500_000  # tested at a time, which bounds the memory


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
    return shape_solid_angles(sky_shapes(regions))


def shape_solid_angles(shapes: SkyShapes, chosen: Array | None = None) -> Array:
    """Solid angles [sr] of the regions that shapes make up, of all or of chosen ones."""
    own = _simple_areas(shapes)
    nodes = shapes.nodes if chosen is None else [shapes.nodes[i] for i in chosen]
    simple = np.array([isinstance(node, int) for node in nodes], bool)
    areas = np.zeros(len(nodes))
    areas[simple] = own[[node for node in nodes if isinstance(node, int)]]
    areas[~simple] = _compounds(shapes, [node for node in nodes if not isinstance(node, int)])
    return areas


def _simple_areas(shapes: SkyShapes) -> Array:
    """Solid angle [sr] of every shape."""
    area = np.zeros(len(shapes))
    circles = (shapes.size[:, 0] == shapes.size[:, 1]) & (shapes.hole[:, 0] == shapes.hole[:, 1])
    is_round = shapes.kind == ROUND
    for alike, formula in ((is_round & ~circles, _ellipse_area), (shapes.kind == BOX, _box_area)):
        chosen = np.flatnonzero(alike)
        size, hole = shapes.size[chosen], shapes.hole[chosen]
        area[chosen] = formula(size) - np.where(hole.all(axis=1), formula(hole), 0.0)
    rings = np.flatnonzero(is_round & circles)
    outer, inner = (np.minimum(size[rings, 0], np.pi) for size in (shapes.size, shapes.hole))
    # cos(inner) - cos(outer) without cancellation
    area[rings] = 4 * np.pi * np.sin(0.5 * (outer + inner)) * np.sin(0.5 * (outer - inner))
    polygons = np.flatnonzero(shapes.kind == POLYGON)
    enclosed = np.abs(shapes.area[polygons])
    area[polygons] = np.where(enclosed > 2 * np.pi, 4 * np.pi - enclosed, enclosed)
    crossing = _self_crossing(shapes, polygons)
    area[crossing] = _compounds(shapes, crossing.tolist())
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


def _compounds(shapes: SkyShapes, nodes: list[Node]) -> Array:
    """Solid angles [sr] of regions by the integrals along their outlines."""
    if not nodes:
        return np.empty(0)
    leaves = [np.array(sorted(set(_leaves(node)))) for node in nodes]
    poles = np.array([_pole(shapes.axes[own, 2]) for own in leaves])
    arcs = [[arc for leaf in own for arc in outline_arcs(shapes, leaf)] for own in leaves]
    owner = np.repeat(np.arange(len(nodes)), [len(own) for own in arcs])
    border = _Border(shapes, nodes, leaves, [arc for own in arcs for arc in own], owner)
    crossings = [
        _crossings(border, np.arange(block.start, block.stop))
        for block in blocks(_SAMPLES * border.n_leaves[owner], _POINTS)
    ]
    total = np.zeros(len(nodes))
    if crossings:
        arc, t = (np.concatenate(part) for part in zip(*crossings, strict=True))
        total = _along(border, *_on_all_arcs(border, arc, t), poles)
    opposite, _ = border.within(np.arange(len(nodes)), -poles)
    return total + 4 * np.pi * opposite


def _pole(centers: Array) -> Array:
    """Direction around which a region is integrated, of the centres (L, 3) of its shapes."""
    mean = centers.mean(axis=0)
    length = np.linalg.norm(mean)
    return np.asarray(mean / length if length > 0.1 else centers[0])


def _leaves(node: Node) -> list[int]:
    return [node] if isinstance(node, int) else [*_leaves(node[1]), *_leaves(node[2])]


def _runs(numbers: Array) -> Iterator[tuple[int, slice]]:
    """Equal numbers that follow each other, and where they are."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, stop in zip(starts, np.append(starts, len(numbers))[1:], strict=True):
        yield int(numbers[start]), slice(int(start), int(stop))


@dataclass(frozen=True, eq=False)
class _Border:
    """Outlines of the shapes of some regions: where they border the regions themselves.

    Attributes
    ----------
    shapes : SkyShapes
        The shapes.
    nodes : list
        The regions.
    leaves : list of ndarray of int
        Indices of the shapes of each region.
    arcs : list of Arc
        Outlines of the shapes, those of a region after those of the one before.
    owner : ndarray of int, shape (len(arcs),)
        Index of the region of each arc.
    """

    shapes: SkyShapes
    nodes: list[Node]
    leaves: list[Array]
    arcs: list[Arc]
    owner: Array

    @property
    def n_leaves(self) -> Array:
        """Number of shapes of each region."""
        return np.array([len(own) for own in self.leaves])

    @property
    def scales(self) -> Array:
        """Sizes of the shapes that the arcs bound [rad]."""
        return np.array([arc.scale for arc in self.arcs])

    def within(self, region: Array, points: Array) -> tuple[Array, list[Array]]:
        """Whether points (M, 3) are in regions (M,), and in each shape of these.

        The regions are in order. The second value has an array (L, m) for each that occurs.
        """
        which, rows = [], []
        for number, part in _runs(region):
            n = part.stop - part.start
            which.append(np.repeat(self.leaves[number], n))
            rows.append(np.tile(np.arange(part.start, part.stop), len(self.leaves[number])))
        flat = within(self.shapes, np.concatenate(which), points[np.concatenate(rows)], tolerance=0)
        inside = np.empty(len(region), bool)
        own: list[Array] = []
        begin = 0
        for number, part in _runs(region):
            leaves = self.leaves[number]
            size = len(leaves) * (part.stop - part.start)
            own.append(flat[begin : begin + size].reshape(len(leaves), -1))
            values = dict(zip(leaves.tolist(), own[-1], strict=True))
            inside[part] = combine(self.nodes[number], values.__getitem__)
            begin += size
        return inside, own

    def side(self, arc: Array, t: Array) -> Array:
        """+1 where the region is to the left of arcs, -1 to the right, over arcs that coincide.

        `arc` (M,) is in order, `t` are positions on them.
        """
        points, across = np.empty((len(t), 3)), np.empty((len(t), 3))
        for number, part in _runs(arc):
            own = self.arcs[number]
            points[part] = own.points(t[part])
            across[part] = own.scale * _SIDE * own.left(t[part])
        region = self.owner[arc]
        left, left_own = self.within(region, points + across)
        right, right_own = self.within(region, points - across)
        shared = [(a != b).sum(axis=0) for a, b in zip(left_own, right_own, strict=True)]
        return (left.astype(float) - right) / np.maximum(np.concatenate(shared), 1)


def _crossings(border: _Border, chosen: Array) -> tuple[Array, Array]:
    """Where arcs begin or end to border their regions: arcs (K,) and positions on them."""
    t = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    arc = np.repeat(chosen, _SAMPLES)
    value = border.side(arc, np.tile(t, len(chosen))).reshape(len(chosen), _SAMPLES)
    row, step = np.nonzero(np.diff(value, axis=1))
    low, high = t[step], t[step + 1]
    start = value[row, step]
    share = np.arange(1, _PARTS) / _PARTS
    for _ in range(_ROUNDS if len(row) else 0):
        # Each interval is cut into parts; the first whose end is beyond the change is kept.
        ends = low[:, np.newaxis] + (high - low)[:, np.newaxis] * share
        where = np.repeat(chosen[row], _PARTS - 1)
        before = border.side(where, ends.ravel()).reshape(ends.shape) == start[:, np.newaxis]
        ends = np.column_stack([low, ends, high])
        part = np.argmin(np.column_stack([before, np.zeros(len(row), bool)]), axis=1)
        index = np.arange(len(row))
        low, high = ends[index, part], ends[index, part + 1]
    return chosen[row], 0.5 * (low + high)


def _on_all_arcs(border: _Border, arc: Array, t: Array) -> tuple[Array, Array]:
    """Crossings on every arc of their regions that passes them, sorted, and the ends of all arcs.

    An arc may cross a narrow shape between two of its samples; the outline of that shape, whose
    own samples are closer together, knows where.
    """
    n = len(border.arcs)
    arcs, positions = [np.tile(np.arange(n), 2), arc], [np.repeat([0.0, 1.0], n), t]
    points = [border.arcs[number].points(t[part]) for number, part in _runs(arc)]
    found = np.concatenate(points) if points else np.empty((0, 3))
    for region in np.unique(border.owner[arc]):
        here = np.flatnonzero(border.owner[arc] == region)
        for number in np.flatnonzero(border.owner == region):
            other = border.arcs[number]
            near = _SAME * np.maximum(border.scales[arc[here]], other.scale)
            at = other.parameter(found[here])
            on = np.linalg.norm(other.points(at) - found[here], axis=1) < near
            speed = np.linalg.norm(other.velocity(at), axis=1)
            known = np.append(t[arc == number], [0.0, 1.0])
            away = np.abs(at[:, np.newaxis] - known).min(axis=1) * speed
            on &= (at > 0) & (at < 1) & (away > near)
            positions.append(at[on])
            arcs.append(np.full(on.sum(), number))
    arc, t = np.concatenate(arcs), np.concatenate(positions)
    order = np.lexsort((t, arc))
    return arc[order], t[order]


def _along(border: _Border, arc: Array, cuts: Array, poles: Array) -> Array:
    """Integrals along those parts of arcs, between cuts (K,), that border their regions, (R,)."""
    same = arc[1:] == arc[:-1]
    owner = arc[1:][same]
    signs = border.side(owner, (0.5 * (cuts[1:] + cuts[:-1]))[same])
    total = np.zeros(len(border.nodes))
    for number, part in _runs(owner):
        if signs[part].any():
            region = border.owner[number]
            own = cuts[arc == number]
            total[region] += signs[part] @ _integrals(border.arcs[number], own, poles[region])
    return total


def _integrals(arc: Arc, cuts: Array, pole: Array) -> Array:
    """Integrals of ``(1 - cos theta) dphi`` around a pole between positions on an arc."""
    node, weight = np.polynomial.legendre.leggauss(20)
    edges = cuts[:-1, np.newaxis] + np.diff(cuts)[:, np.newaxis] * np.linspace(0, 1, 9)
    half = 0.5 * np.diff(edges, axis=1)[..., np.newaxis]
    t = edges[:, :-1, np.newaxis] + half * (1 + node)
    point, speed = arc.points(t.ravel()), arc.velocity(t.ravel())
    # (1 - cos theta) dphi = pole . (r x dr) / (1 + pole . r)
    value = np.cross(point, speed) @ pole / (1 + point @ pole)
    return np.asarray((half * weight * value.reshape(t.shape)).sum(axis=(1, 2)))
