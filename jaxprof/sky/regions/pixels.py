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

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from astropy.wcs.utils import wcs_to_celestial_frame

from jaxprof.sky.regions.beyond import Beyond, pixels_beyond
from jaxprof.sky.regions.grid import candidates, moved
from jaxprof.sky.regions.membership import combine, within
from jaxprof.sky.regions.shape_members import (
    MOVE,
    block_of,
    deciding_points,
    joined,
    membership_pixels,
    shape_members,
)
from jaxprof.sky.regions.shapes import Node, SkyShapes, in_frame, sky_shapes
from jaxprof.sky.regions.solid_angles import shape_solid_angles

Array: TypeAlias = np.ndarray[Any, Any]
BLOCK = 1_000_000  # pixels tested at a time, which bounds the memory
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
    """Pixels of all regions on a map as flat arrays, of their shapes; see `region_pixels`.

    Those of the regions that were asked for last are kept with the map, unless they are many.
    """
    shapes = in_frame(shapes, wcs_to_celestial_frame(geom.wcs))
    last, key = geom.kept("last members", dict), shapes.fingerprint()
    found = last.get(key)
    if found is None:
        found = _region_members(shapes, geom)
        last.clear()
        if len(found.pixel) < BLOCK:
            last[key] = found
    return found


def _region_members(shapes: SkyShapes, geom: Any) -> Membership:
    own = geom.kept("membership", lambda: membership_pixels(geom))
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
    straight = moved(vectors, MOVE)
    keys = [np.empty(0, np.int64)]
    n = max(len(vectors), 1)
    for own, pixel in candidates(beyond.pixels, shapes.axes[chosen, 2], shapes.cap[chosen]):
        which = chosen[own]
        inside = within(shapes, which, deciding_points(shapes, which, pixel, vectors, straight))
        keys.append(which[inside] * np.int64(n) + pixel[inside])
    members = block_of(0, len(shapes), np.sort(np.concatenate(keys)), n)
    return joined([members], len(shapes))


def _not_shown(shapes: SkyShapes, unshown: Array, missing_sky: float) -> Array:
    """Indices of the regions with parts that the grid does not show."""
    chosen = np.zeros(len(shapes.nodes), bool)
    chosen[shapes.region[unshown]] = True
    if not shapes.simple and missing_sky > 1e-6:
        chosen |= [not isinstance(node, int) and holds_outside(node) for node in shapes.nodes]
    return np.flatnonzero(chosen)
