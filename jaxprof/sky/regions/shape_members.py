"""Which pixels of a map belong to which shapes, those on borders settled.

Membership is tested for blocks of pixels; see `jaxprof.sky.regions.pixels` for the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.regions.beyond import Rim, map_rim
from jaxprof.sky.regions.grid import SkyPixels, candidates, map_pixels, moved
from jaxprof.sky.regions.membership import (
    NearEdges,
    beside_boxes,
    joined_edges,
    local_coordinates,
    near_straight_edges,
    of_kind,
    within,
    within_local,
)
from jaxprof.sky.regions.shapes import ROUND, SkyShapes

Array: TypeAlias = np.ndarray[Any, Any]
MOVE = np.deg2rad(1e-9)  # rad; generic displacement of pixel centres
# In pixels: how close to edges that face each other, or that run along centres, a centre is
# settled by a larger displacement, and that displacement. Equal boxes on a grid are neighbours on
# the equator only: away from there they overlap.
_FACING, _ALONG, _SETTLE = 4e-3, 1e-3, 1.5e-2
_NEAR = 2.3e-2  # in pixels: how far from an edge the displacement may matter


@dataclass(frozen=True, eq=False)
class MapPixels:
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


def membership_pixels(geom: Any) -> MapPixels:
    """Pixels of a map, and what membership asks of them, from its geometry."""
    sky = map_pixels(geom.wcs, geom.npix_shape)
    side = np.sqrt(geom.solid_angle().to_value("sr")[sky.y, sky.x])
    return MapPixels(
        sky,
        moved(sky.vectors, MOVE),
        np.minimum(side, geom.pixel_scales.to_value("rad").min()),
        np.ravel_multi_index((sky.y, sky.x), geom.npix_shape).astype(np.int32),
        map_rim(geom.wcs, geom.npix_shape, sky),
    )


@dataclass(frozen=True, eq=False)
class Block:
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


def block_of(start: int, stop: int, key: Array, n: int, near: NearEdges | None = None) -> Block:
    """A block of sorted members ``shape * n + pixel`` of some shapes."""
    first = np.searchsorted(key, np.arange(start, stop + 1) * np.int64(n))
    count = np.diff(first)
    pixel = key - np.repeat(np.arange(start, stop, dtype=np.int64) * n, count)
    return Block(start, count, pixel.astype(np.int32), near)


def shape_members(shapes: SkyShapes, own: MapPixels) -> tuple[Array, Array]:
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
    members: list[Block] = []
    for which, pixel in candidates(own.sky, shapes.axes[:, 2], reach, touched):
        points = deciding_points(shapes, which, pixel, own.sky.vectors, own.moved)
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
        members.append(block_of(int(which[0]), int(which[-1]) + 1, key, n, near))
    members = _settled(shapes, own, members)
    return joined(members, len(shapes))


def deciding_points(
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


def joined(members: list[Block], n_shapes: int) -> tuple[Array, Array]:
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


def _settled(shapes: SkyShapes, own: MapPixels, members: list[Block]) -> list[Block]:
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


def _settled_block(shapes: SkyShapes, own: MapPixels, block: Block, chosen: Array) -> Block:
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
    return block_of(block.start, block.stop, np.sort(np.concatenate([others, key[inside]])), n)


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
