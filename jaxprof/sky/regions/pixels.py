"""Sky regions on a map: which pixels belong to a region, and how large they are.

A pixel belongs to a region when its centre does, on the sphere: the projection of the map
says where the centres of pixels are, and nothing else. Borders are half open, so that regions
that share an edge share no pixel and lose none, whatever the rounding:

- round borders: a centre on a common circle or ellipse belongs to the outer region;
- straight edges: all centres are moved by 1e-9 deg in one direction before they are tested;
- rows and grids of boxes do not meet exactly on a sphere. A centre within 1e-3 of a pixel of
  edges of two regions that face each other is moved by more, so that one of them gets it; so
  are the centres of a row that an edge runs along that closely.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from astropy.wcs.utils import wcs_to_celestial_frame

from jaxprof.sky.regions.beyond import Beyond, Rim, map_rim, pixels_beyond
from jaxprof.sky.regions.grid import SkyPixels, candidates, map_pixels, moved
from jaxprof.sky.regions.membership import (
    NearEdges,
    beside_boxes,
    combine,
    joined_edges,
    local_coordinates,
    near_straight_edges,
    of_kind,
    within,
    within_local,
)
from jaxprof.sky.regions.shapes import ROUND, Node, SkyShapes, in_frame, sky_shapes
from jaxprof.sky.regions.solid_angles import shape_solid_angles

Array: TypeAlias = np.ndarray[Any, Any]
BLOCK = 1_000_000  # pixels tested at a time, which bounds the memory
_MOVE = np.deg2rad(1e-9)  # rad; generic displacement of pixel centres
# In pixels: how close to edges that face each other, or that run along centres, a centre is
# settled by a larger displacement, and that displacement. Equal boxes on a grid are neighbours on
# the equator only: away from there they overlap.
_FACING, _ALONG, _SETTLE = 4e-3, 1e-3, 1.5e-2
_NEAR = 2.3e-2  # in pixels: how far from an edge the displacement may matter
_OFF_MAP = 100_000  # pixels by which a map is continued, besides four times its own number
_MAX_BOX = 10_000_000  # pixels in a bounding box, or four times the map where that is more


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
    lost : float
        Solid angle [sr] of the part of the region that no pixel of the grid shows, such as
        one on the other side of the sky of a TAN map. Zero for a region all of whose sky is
        on pixels.
    """

    y: Array
    x: Array
    inside: Array
    solid_angle: Array
    lost: float = 0.0

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Membership:
    """Pixels of all regions on a map.

    Attributes
    ----------
    pixel : ndarray of int32, shape (P,)
        Pixels on the map, as indices of the flat map: those of region i, in order, are at
        ``first[i]:first[i + 1]``. There may be many more than the map has pixels.
    first : ndarray of int, shape (B + 1,)
        Where they begin.
    off_region, off_y, off_x : ndarray of int, shape (Q,)
        Index of a region and of a pixel off the map that belongs to it.
    off_solid_angle : ndarray, shape (Q,)
        Solid angle of these [sr].
    lost : ndarray, shape (B,)
        Solid angle [sr] of regions that no pixel of the grid shows, or zero; see
        `RegionPixels`.
    solid_angles : ndarray, shape (ny, nx)
        Solid angles of the map's pixels [sr].
    """

    pixel: Array
    first: Array
    off_region: Array
    off_y: Array
    off_x: Array
    off_solid_angle: Array
    lost: Array
    solid_angles: Array


def region_pixels(regions: Any, geom: Any) -> list[RegionPixels]:
    """Find the pixels of every region on a map.

    A pixel belongs to a region when its centre does, decided on the sphere, the same on every
    projection; see the module's docstring for centres on borders and `sky_shapes` for what
    the shapes are. The grid continues off the map as far as the projection goes; a pixel
    there counts if its sky is on no other pixel. Part of a pixel on the rim of a projection
    whose centre is off the sky counts as off the map.

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
        For what `region_list` refuses, and for shapes that are not known or not finite. The
        message gives the index of the region.
    """
    members = region_members(sky_shapes(regions), geom)
    n = len(members.lost)
    own = np.repeat(np.arange(n), np.diff(members.first))
    own_y, own_x = np.divmod(members.pixel, geom.npix_shape[1])
    region = np.concatenate([own, members.off_region])
    y = np.concatenate([own_y, members.off_y]).astype(np.int64)
    x = np.concatenate([own_x, members.off_x]).astype(np.int64)
    inside = np.arange(len(region)) < len(own)
    size = np.concatenate([members.solid_angles[own_y, own_x], members.off_solid_angle])
    order = np.lexsort((x, y, region))
    cuts = np.searchsorted(region[order], np.arange(1, n))
    ys, xs, on, sizes = (np.split(values[order], cuts) for values in (y, x, inside, size))
    return [RegionPixels(ys[i], xs[i], on[i], sizes[i], float(members.lost[i])) for i in range(n)]


def region_members(shapes: SkyShapes, geom: Any) -> Membership:
    """Pixels of all regions on a map as flat arrays, of their shapes; see `region_pixels`."""
    shapes = in_frame(shapes, wcs_to_celestial_frame(geom.wcs))
    own = geom.kept("membership", lambda: _map_pixels(geom))
    pixel, first = shape_members(shapes, own)
    pixel, first = _combined(shapes, pixel, first, len(own.sky))
    looked_up(own.flat, pixel, out=pixel)
    beyond = pixels_beyond(shapes, geom, own.rim, _OFF_MAP + 4 * len(own.sky))
    off_pixel, off_first = _combined(shapes, *_members_beyond(shapes, beyond), len(beyond.pixels))
    off_region = np.repeat(np.arange(len(first) - 1), np.diff(off_first))
    off_y, off_x = beyond.pixels.y[off_pixel], beyond.pixels.x[off_pixel]
    off_size = geom.pixel_solid_angle(off_x, off_y)
    sizes = geom.solid_angle().to_value("sr")
    lost = np.zeros(len(shapes.nodes))
    chosen = _not_shown(shapes, beyond.unshown, 4 * np.pi - float(sizes.sum()))
    if len(chosen):
        off = np.bincount(off_region, off_size, len(lost))[chosen]
        on = np.array([sizes.ravel()[pixel[first[i] : first[i + 1]]].sum() for i in chosen])
        lost[chosen] = np.maximum(shape_solid_angles(shapes, chosen) - on - off, 0.0)
    return Membership(pixel, first, off_region, off_y, off_x, off_size, lost, sizes)


def looked_up(table: Array, index: Array, out: Array) -> None:
    """Write ``table[index]`` to ``out``, which may be the index itself, by blocks.

    Of short integers numpy makes an index of 64 bits; of all of them it would fill the memory.
    """
    for start in range(0, len(index), BLOCK):
        part = slice(start, start + BLOCK)
        out[part] = table.take(index[part])


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


@dataclass(frozen=True, eq=False)
class _MapPixels:
    """What membership asks of the pixels of a map; it depends on the geometry alone.

    Attributes
    ----------
    sky : SkyPixels
        The N pixels that are on the sky.
    moved : ndarray, shape (N, 3)
        Directions that stand for their centres at straight edges.
    side : ndarray, shape (N,)
        Length of their shorter side [rad], roughly.
    flat : ndarray of int32, shape (N,)
        Their indices in the flat map.
    rim : Rim
        The rim of the map.
    """

    sky: SkyPixels
    moved: Array
    side: Array
    flat: Array
    rim: Rim


def _map_pixels(geom: Any) -> _MapPixels:
    sky = map_pixels(geom.wcs, geom.npix_shape)
    side = np.sqrt(geom.solid_angle().to_value("sr")[sky.y, sky.x])
    return _MapPixels(
        sky,
        moved(sky.vectors, _MOVE),
        np.minimum(side, geom.pixel_scales.to_value("rad").min()),
        np.ravel_multi_index((sky.y, sky.x), geom.npix_shape).astype(np.int32),
        map_rim(geom.wcs, geom.npix_shape, sky),
    )


@dataclass(frozen=True, eq=False)
class _Block:
    """Members of consecutive shapes among those pixels that were tested at a time.

    Attributes
    ----------
    start : int
        Index of the first shape.
    count : ndarray of int, shape (k,)
        Number of members of each.
    pixel : ndarray of int32, shape (P,)
        Their indices, sorted for each shape.
    near : NearEdges or None
        Those tested that are close to straight edges; its pairs are ``shape * N + pixel``.
    """

    start: int
    count: Array
    pixel: Array
    near: NearEdges | None

    @property
    def stop(self) -> int:
        """Index after the last shape."""
        return self.start + len(self.count)

    def keys(self, n: int) -> Array:
        """The members as ``shape * n + pixel``, sorted."""
        shape = np.arange(self.start, self.stop, dtype=np.int64)
        return np.repeat(shape * n, self.count) + self.pixel


def _block(start: int, stop: int, key: Array, n: int, near: NearEdges | None = None) -> _Block:
    """A block of sorted members ``shape * n + pixel`` of some shapes."""
    first = np.searchsorted(key, np.arange(start, stop + 1) * np.int64(n))
    count = np.diff(first)
    pixel = key - np.repeat(np.arange(start, stop, dtype=np.int64) * n, count)
    return _Block(start, count, pixel.astype(np.int32), near)


def shape_members(shapes: SkyShapes, own: _MapPixels) -> tuple[Array, Array]:
    """Pixels whose centre is in each shape.

    Returns
    -------
    pixel : ndarray of int32, shape (P,)
        Those of shape s, sorted, are at ``first[s]:first[s + 1]``.
    first : ndarray of int, shape (S + 1,)
    """
    n = len(own.sky)
    margin = _NEAR * own.side.max(initial=0.0)

    def touched(which: Array, centers: Array, reach: Array) -> Array:
        return beside_boxes(shapes, which, centers, reach + margin)

    reach = shapes.cap + margin
    lowest = np.cos(np.minimum(reach, np.pi)) - 1e-12
    members: list[_Block] = []
    for which, pixel in candidates(own.sky, shapes.axes[:, 2], reach, touched):
        points = _test_points(shapes, which, pixel, own.sky.vectors, own.moved)
        local = local_coordinates(shapes, which, points)
        near_by = np.flatnonzero(local[:, 2] >= lowest.take(which))
        which, pixel, local = (a.take(near_by, axis=0) for a in (which, pixel, local))
        if not len(which):
            continue
        pair = which * np.int64(n) + pixel
        inside = np.flatnonzero(within_local(shapes, which, local))
        near = None
        if np.any(shapes.kind != ROUND):
            near = near_straight_edges(shapes, which, local, _NEAR * own.side.take(pixel))
            near = replace(near, pair=pair.take(near.pair))
        key = np.sort(pair.take(inside))
        members.append(_block(int(which[0]), int(which[-1]) + 1, key, n, near))
    members = _settled(shapes, own, members)
    return _joined(members, len(shapes))


def _test_points(
    shapes: SkyShapes, which: Array, pixel: Array, centers: Array, straight: Array
) -> Array:
    """What decides for pixels whether they are in shapes: their centres, or what stands for them.

    `straight` (N, 3) takes the place of the `centers` (N, 3) for rectangles and polygons.
    """
    is_round = shapes.kind == ROUND
    if is_round.all():
        return centers.take(pixel, axis=0)
    points = straight.take(pixel, axis=0)
    if is_round.any():
        own = of_kind(shapes, which, ROUND)
        points[own] = centers.take(pixel.take(own), axis=0)
    return points


def _joined(members: list[_Block], n_shapes: int) -> tuple[Array, Array]:
    """Pixels of all blocks, which are taken out of the list, and where those of a shape begin."""
    count = np.zeros(n_shapes, np.intp)
    split = []
    for number, block in enumerate(members):
        count[block.start : block.stop] += block.count
        if number and block.start < members[number - 1].stop:
            split.append(block.start)
    first = np.concatenate([[0], np.cumsum(count)])
    pixel = np.empty(first[-1], np.int32)
    end = len(pixel)
    while members:
        part = members.pop().pixel
        pixel[end - len(part) : end] = part
        end -= len(part)
    for shape in set(split):
        pixel[first[shape] : first[shape + 1]].sort()
    return pixel, first


def _settled(shapes: SkyShapes, own: _MapPixels, members: list[_Block]) -> list[_Block]:
    """Members once the pixels on straight edges are settled."""
    parts = [block.near for block in members if block.near is not None]
    if not parts:
        return members
    near = joined_edges(parts)
    n = len(own.sky)
    which, pixel = np.divmod(near.pair, n)
    side = own.side.take(pixel)
    close = np.flatnonzero(near.away < _FACING * side)
    facing = _face_to_face(which[close], pixel[close], near.normal[close])
    chosen = np.zeros(n, bool)
    chosen[pixel[close[facing]]] = True
    chosen[pixel[_along_pixels(near, which, side)]] = True
    return [_settled_block(shapes, own, block, chosen) for block in members]


def _settled_block(shapes: SkyShapes, own: _MapPixels, block: _Block, chosen: Array) -> _Block:
    """A block once those of its pairs are settled whose pixel is chosen, by a mask (N,)."""
    n = len(own.sky)
    if block.near is None:
        return block
    key = np.unique(block.near.pair[chosen[block.near.pair % n]])
    if not len(key):
        return replace(block, near=None)
    which, pixel = np.divmod(key, n)
    # Far enough to leave the gap between the edges, whichever of them the centre is close to.
    points = moved(own.sky.vectors[pixel], _SETTLE * own.side[pixel])
    inside = within(shapes, which, points)
    others = block.keys(n)
    others = others[~np.isin(others, key)]
    return _block(block.start, block.stop, np.sort(np.concatenate([others, key[inside]])), n)


def _face_to_face(which: Array, pixel: Array, normal: Array) -> Array:
    """Which records are of pixels between edges of different shapes that face each other.

    There the directions out of the shapes are opposite. Each is compared with the first at the
    pixel, and with the one most across to that.
    """
    order = np.argsort(pixel, kind="stable")
    _, start, group = np.unique(pixel[order], return_index=True, return_inverse=True)
    group = group.reshape(-1)
    own, out = which[order], normal[order]
    faces = np.zeros(len(start), bool)
    reference = start
    for _ in range(2):
        along = np.sum(out * out[reference][group], axis=1)
        opposite = (along < -0.7) & (own != own[reference][group])
        faces |= np.bincount(group, opposite, len(start)) > 0
        reference = np.lexsort((np.abs(along), group))[start]
    chosen = np.zeros(len(pixel), bool)
    chosen[order] = faces[group]
    return chosen


def _along_pixels(near: NearEdges, which: Array, side: Array) -> Array:
    """Which records are of edges that run along a row of pixel centres.

    Three centres and three in ten of those that the edge passes are no accident.
    """
    close = np.flatnonzero(near.away < _ALONG * side)
    key = which[close] * (near.edge.max(initial=0) + 1) + near.edge[close]
    _, edge, count = np.unique(key, return_inverse=True, return_counts=True)
    number = count[edge.reshape(-1)]
    return close[(number >= 3) & (number * side[close] >= 0.3 * near.length[close])]


def _combined(shapes: SkyShapes, pixel: Array, first: Array, n: int) -> tuple[Array, Array]:
    """Pixels of regions, and where they begin, from those of their shapes, by set logic."""
    if shapes.simple:
        return pixel, first
    members = [_node_members(node, pixel, first, n) for node in shapes.nodes]
    return np.concatenate(members), np.cumsum([0, *map(len, members)])


def _node_members(node: Node, pixel: Array, first: Array, n: int) -> Array:
    if isinstance(node, int):
        return pixel[first[node] : first[node + 1]]
    own = {leaf: pixel[first[leaf] : first[leaf + 1]] for leaf in _leaves(node)}
    everything = np.arange(n) if holds_outside(node) else np.unique(np.concatenate([*own.values()]))
    masks = {leaf: np.isin(everything, part) for leaf, part in own.items()}
    return everything[np.asarray(combine(node, masks.__getitem__), bool)]


def _leaves(node: Node) -> list[int]:
    return [node] if isinstance(node, int) else [*_leaves(node[1]), *_leaves(node[2])]


def holds_outside(node: Node) -> bool:
    """Whether a region holds what is outside all of its shapes."""
    return bool(np.any(combine(node, lambda _: np.zeros(1, bool))))


def _members_beyond(shapes: SkyShapes, beyond: Beyond) -> tuple[Array, Array]:
    """Members off the map, of the shapes that may leave it, and where those of a shape begin."""
    chosen = np.flatnonzero(beyond.leaves)
    vectors = beyond.pixels.vectors
    straight = moved(vectors, _MOVE)
    keys = [np.empty(0, np.int64)]
    n = max(len(vectors), 1)
    for own, pixel in candidates(beyond.pixels, shapes.axes[chosen, 2], shapes.cap[chosen]):
        which = chosen[own]
        inside = within(shapes, which, _test_points(shapes, which, pixel, vectors, straight))
        keys.append(which[inside] * np.int64(n) + pixel[inside])
    members = _block(0, len(shapes), np.sort(np.concatenate(keys)), n)
    return _joined([members], len(shapes))


def _not_shown(shapes: SkyShapes, unshown: Array, missing_sky: float) -> Array:
    """Indices of the regions with parts that the grid does not show."""
    chosen = np.zeros(len(shapes.nodes), bool)
    chosen[shapes.region[unshown]] = True
    if not shapes.simple and missing_sky > 1e-6:
        chosen |= [not isinstance(node, int) and holds_outside(node) for node in shapes.nodes]
    return np.flatnonzero(chosen)
