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

from jaxprof.sky.regions.beyond import Beyond, pixels_beyond
from jaxprof.sky.regions.grid import SkyPixels, candidates, map_pixels, moved
from jaxprof.sky.regions.membership import (
    NearEdges,
    beside_boxes,
    combine,
    joined_edges,
    near_straight_edges,
    within,
)
from jaxprof.sky.regions.shapes import ROUND, Node, SkyShapes, sky_shapes
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
    members = region_members(regions, geom)
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


def region_members(regions: Any, geom: Any) -> Membership:
    """Pixels of all regions on a map as flat arrays; see `region_pixels`."""
    shapes = sky_shapes(regions, wcs_to_celestial_frame(geom.wcs))
    pixels = geom.kept("sky pixels", lambda: map_pixels(geom.wcs, geom.npix_shape))
    sizes = geom.solid_angle().to_value("sr")
    side = np.minimum(np.sqrt(sizes), geom.pixel_scales.to_value("rad").min())
    region, pixel = _combined(
        shapes, *shape_members(shapes, pixels, side[pixels.y, pixels.x]), len(pixels)
    )
    first = np.searchsorted(region, np.arange(len(shapes.nodes) + 1))
    del region
    flat = np.ravel_multi_index((pixels.y, pixels.x), geom.npix_shape).astype(np.int32)
    pixel = flat[pixel]
    beyond = pixels_beyond(shapes, geom, pixels, _OFF_MAP + 4 * len(pixels))
    off_which, off_pixel = _members_beyond(shapes, beyond)
    off_region, off_pixel = _combined(shapes, off_which, off_pixel, len(beyond.pixels))
    off_y, off_x = beyond.pixels.y[off_pixel], beyond.pixels.x[off_pixel]
    off_size = geom.pixel_solid_angle(off_x, off_y)
    lost = np.zeros(len(shapes.nodes))
    chosen = _not_shown(shapes, beyond.unshown, 4 * np.pi - float(sizes.sum()))
    if len(chosen):
        off = np.bincount(off_region, off_size, len(lost))[chosen]
        on = np.array([sizes.ravel()[pixel[first[i] : first[i + 1]]].sum() for i in chosen])
        lost[chosen] = np.maximum(shape_solid_angles(shapes, chosen) - on - off, 0.0)
    return Membership(pixel, first, off_region, off_y, off_x, off_size, lost, sizes)


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


def shape_members(shapes: SkyShapes, pixels: SkyPixels, side: Array) -> tuple[Array, Array]:
    """Pixels whose centre is in each shape.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    pixels : SkyPixels
        Pixels of a map.
    side : ndarray, shape (N,)
        Length of the shorter side of each pixel [rad], roughly.

    Returns
    -------
    which, pixel : ndarray of int, shape (P,)
        Indices of shapes and of pixels that belong to them, sorted.
    """
    straight = moved(pixels.vectors, _MOVE)
    settle = bool(np.any(shapes.kind != ROUND))
    owners: list[Array] = []
    kept: list[Array] = []
    close: list[NearEdges] = []
    split: list[int] = []  # shapes of more than one block
    last = -1
    reach = shapes.cap + 0.01 * side.max(initial=0.0)
    for which, pixel in candidates(pixels, shapes.axes[:, 2], reach):
        around = beside_boxes(shapes, which, pixels.vectors[pixel], 0.01 * side.max())
        which, pixel = which[around], pixel[around]
        points = pixels.vectors[pixel]
        inside = within(shapes, which, points, straight[pixel])
        order = np.lexsort((pixel[inside], which[inside]))
        owners.append(which[inside][order].astype(np.int32))
        kept.append(pixel[inside][order].astype(np.int32))
        if len(which):
            split += [last] if which[0] == last else []
            last = int(which[-1])
        if settle:
            near = near_straight_edges(shapes, which, points, _NEAR * side[pixel])
            pair = which[near.pair] * np.int64(len(pixels)) + pixel[near.pair]
            close.append(replace(near, pair=pair))
    if not kept:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    which = np.concatenate(owners)
    owners.clear()
    pixel = np.concatenate(kept)
    kept.clear()
    for index in set(split):
        own = slice(*np.searchsorted(which, [index, index + 1]))
        pixel[own] = np.sort(pixel[own])
    if close:
        which, pixel = _settled(shapes, pixels, side, which, pixel, joined_edges(close))
    return which, pixel


def _settled(
    shapes: SkyShapes, pixels: SkyPixels, side: Array, which: Array, pixel: Array, near: NearEdges
) -> tuple[Array, Array]:
    """Members once the pixels on edges are settled; `near` has ``which * N + pixel`` as pair."""
    near_which, near_pixel = np.divmod(near.pair, len(pixels))
    close = near.away < _FACING * side[near_pixel]
    chosen = np.zeros(len(pixels), bool)
    chosen[
        near_pixel[close][_face_to_face(near_which[close], near_pixel[close], near.normal[close])]
    ] = True
    chosen[near_pixel[_along_pixels(near, near_which, side[near_pixel])]] = True
    key = np.unique(near.pair[chosen[near_pixel]])
    if not len(key):
        return which, pixel
    own_which, own_pixel = np.divmod(key, len(pixels))
    points = pixels.vectors[own_pixel]
    # Far enough to leave the gap between the edges, whichever of them the centre is close to.
    inside = within(shapes, own_which, points, moved(points, _SETTLE * side[own_pixel]))
    before = which * np.int64(len(pixels)) + pixel
    where = np.minimum(np.searchsorted(before, key), max(len(before) - 1, 0))
    member = before[where] == key if len(before) else np.zeros(len(key), bool)
    out = np.delete(before, where[member & ~inside])
    added = key[inside & ~member]
    out = np.insert(out, np.searchsorted(out, added), added)
    own, member_pixel = np.divmod(out, len(pixels))
    return own.astype(np.int32), member_pixel.astype(np.int32)


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
    key = np.stack([which[close], near.edge[close]], axis=1)
    _, edge, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    number = count[edge.reshape(-1)]
    return close[(number >= 3) & (number * side[close] >= 0.3 * near.length[close])]


def _combined(shapes: SkyShapes, which: Array, pixel: Array, n: int) -> tuple[Array, Array]:
    """Pixels of regions from those of their shapes, by set logic."""
    if shapes.simple:
        return which, pixel
    cuts = np.searchsorted(which, np.arange(len(shapes) + 1))
    members = [_node_members(node, pixel, cuts, n) for node in shapes.nodes]
    region = np.repeat(np.arange(len(members)), [len(own) for own in members])
    return region, np.concatenate(members)


def _node_members(node: Node, pixel: Array, cuts: Array, n: int) -> Array:
    if isinstance(node, int):
        return pixel[cuts[node] : cuts[node + 1]]
    own = {leaf: pixel[cuts[leaf] : cuts[leaf + 1]] for leaf in _leaves(node)}
    everything = np.arange(n) if holds_outside(node) else np.unique(np.concatenate([*own.values()]))
    masks = {leaf: np.isin(everything, part) for leaf, part in own.items()}
    return everything[np.asarray(combine(node, masks.__getitem__), bool)]


def _leaves(node: Node) -> list[int]:
    return [node] if isinstance(node, int) else [*_leaves(node[1]), *_leaves(node[2])]


def holds_outside(node: Node) -> bool:
    """Whether a region holds what is outside all of its shapes."""
    return bool(np.any(combine(node, lambda _: np.zeros(1, bool))))


def _members_beyond(shapes: SkyShapes, beyond: Beyond) -> tuple[Array, Array]:
    """Members off the map, of the shapes that may leave it."""
    chosen = np.flatnonzero(beyond.leaves)
    out: list[tuple[Array, Array]] = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    straight = moved(beyond.pixels.vectors, _MOVE)
    for own, pixel in candidates(beyond.pixels, shapes.axes[chosen, 2], shapes.cap[chosen]):
        which = chosen[own]
        inside = within(shapes, which, beyond.pixels.vectors[pixel], straight[pixel])
        out.append((which[inside], pixel[inside]))
    which, pixel = (np.concatenate(part) for part in zip(*out, strict=True))
    order = np.lexsort((pixel, which))
    return which[order], pixel[order]


def _not_shown(shapes: SkyShapes, unshown: Array, missing_sky: float) -> Array:
    """Indices of the regions with parts that the grid does not show."""
    chosen = np.zeros(len(shapes.nodes), bool)
    chosen[shapes.region[unshown]] = True
    if not shapes.simple and missing_sky > 1e-6:
        chosen |= [not isinstance(node, int) and holds_outside(node) for node in shapes.nodes]
    return np.flatnonzero(chosen)
