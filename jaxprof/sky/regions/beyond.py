"""Where regions leave a map: the pixels of its grid that are not on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.regions.grid import SkyPixels, pixel_positions, sky_pixels, sky_vectors
from jaxprof.sky.regions.membership import blocks, within
from jaxprof.sky.regions.shapes import SkyShapes

Array: TypeAlias = np.ndarray[Any, Any]
_BLOCK = 16  # pixels along the sides of the blocks in which the grid is continued
_RADII, _AZIMUTHS = 5, 24  # points that tell where a cap is on the grid
_PAIRS = 1_000_000  # pairs of a shape and a pixel at a time, which bounds the memory
_PARTS = 4  # points along the sides of a pixel that tell whether a part of it is on the sky


@dataclass(frozen=True, eq=False)
class Beyond:
    """The grid off a map, as far as shapes may reach.

    Attributes
    ----------
    pixels : SkyPixels
        Pixels off the map. On the rim of the projection also those whose centre is off the
        sky and a part of which is on it, with the middle of that part as their direction.
    leaves : ndarray of bool, shape (S,)
        Shapes that may leave the map.
    unshown : ndarray of bool, shape (S,)
        Shapes that the grid cannot show as a whole.
    """

    pixels: SkyPixels
    leaves: Array
    unshown: Array


@dataclass(frozen=True, eq=False)
class Rim:
    """Pixels on the rim of a map.

    Attributes
    ----------
    y, x : ndarray of int, shape (n,)
        Indices of pixels off the map with a part on the sky and their centre off it.
    vectors : ndarray, shape (n, 3)
        Directions of the middles of these parts.
    border : ndarray, shape (k, 3)
        Unit vectors of the pixels on the map with neighbours that are off it.
    """

    y: Array
    x: Array
    vectors: Array
    border: Array


def pixels_beyond(shapes: SkyShapes, geom: Any, rim: Rim, limit: int) -> Beyond:
    """Continue the grid of a map to where shapes are that leave it.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes, in the frame of the map.
    geom : WcsGeom
        Geometry of the map.
    rim : Rim
        Its rim.
    limit : int
        Number of pixels beyond which a shape counts as one that cannot be shown.

    Returns
    -------
    Beyond
    """
    wcs, shape = geom.wcs, geom.npix_shape
    leaves = _leaving(shapes, geom, rim.border)
    unshown = np.zeros(len(shapes), bool)
    y = x = np.empty(0, np.int64)
    if leaves.any():
        chosen = np.flatnonzero(leaves)
        boxes, missing = _pixel_boxes(shapes, chosen, wcs)
        y, x, done = _blocks_of(boxes, shape, limit)
        unshown[chosen] = missing | ~done
    vectors = sky_vectors(wcs, x, y)
    back_x, back_y = pixel_positions(wcs, vectors)
    tolerance = 2 + 0.05 * max(shape) if wcs.has_distortion else 0.1
    with np.errstate(invalid="ignore"):
        # A position that the grid shows somewhere else is not beyond the map.
        own = np.hypot(back_x - x, back_y - y) < tolerance
    return Beyond(sky_pixels(wcs, y[own], x[own], (rim.y, rim.x, rim.vectors)), leaves, unshown)


def map_rim(wcs: Any, shape: tuple[int, int], pixels: SkyPixels) -> Rim:
    """Rim of a map of a shape (ny, nx) with these pixels on the sky."""
    ny, nx = shape
    on_map = np.zeros((ny + 4, nx + 4), bool)
    on_map[pixels.y + 2, pixels.x + 2] = True
    on_sky = on_map.copy()
    ring = np.ones_like(on_map)
    ring[2:-2, 2:-2] = ring[0] = ring[-1] = ring[:, 0] = ring[:, -1] = False
    y, x = (v - 2 for v in np.nonzero(ring))
    on_sky[ring] = np.isfinite(sky_vectors(wcs, x, y)[:, 0])
    next_to = _grown(on_sky) & ~on_sky
    next_to[0] = next_to[-1] = next_to[:, 0] = next_to[:, -1] = False  # not looked at
    iy, ix = (v - 2 for v in np.nonzero(next_to))
    step = (np.arange(_PARTS) + 0.5) / _PARTS - 0.5
    dy, dx = (d.ravel() for d in np.meshgrid(step, step))
    parts = sky_vectors(wcs, (ix[:, None] + dx).ravel(), (iy[:, None] + dy).ravel())
    mean = np.nansum(parts.reshape(len(iy), _PARTS**2, 3), axis=1)
    length = np.linalg.norm(mean, axis=1)
    part = length > 0
    iy, ix = iy[part], ix[part]
    outside = on_sky & ~on_map
    outside[iy + 2, ix + 2] = True
    border = (_grown(outside) & on_map)[pixels.y + 2, pixels.x + 2]
    return Rim(iy, ix, mean[part] / length[part, None], pixels.vectors[border])


def _grown(mask: Array) -> Array:
    """A mask and its eight neighbours."""
    rows = mask.copy()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    out = rows.copy()
    out[:, 1:] |= rows[:, :-1]
    out[:, :-1] |= rows[:, 1:]
    return out


def _leaving(shapes: SkyShapes, geom: Any, border: Array) -> Array:
    """Shapes whose cap reaches the border of the map, or whose centre is off it."""
    ny, nx = geom.npix_shape
    x, y = pixel_positions(geom.wcs, shapes.axes[:, 2])
    with np.errstate(invalid="ignore"):
        leaves = ~((x >= -0.5) & (x <= nx - 0.5) & (y >= -0.5) & (y <= ny - 0.5))
    if len(border):
        # A border pixel is at most its diagonal away from what is off the map.
        wide = 2 * np.hypot(*geom.pixel_scales.to_value("rad"))
        for part in blocks(np.full(len(leaves), len(border)), _PAIRS):
            nearest = np.max(shapes.axes[part, 2] @ border.T, axis=1)  # as its cosine
            leaves[part] |= nearest >= np.cos(np.minimum(shapes.cap[part] + wide, np.pi)) - 1e-12
    return np.asarray(leaves)


def _pixel_boxes(shapes: SkyShapes, chosen: Array, wcs: Any) -> tuple[Array, Array]:
    """Pixel ranges of the caps around shapes, and which of these the grid does not show.

    Returns
    -------
    boxes : ndarray, shape (n, 2, 2)
        First and last of y and x, NaN where nothing is shown.
    missing : ndarray of bool, shape (n,)
    """
    azimuth = 2 * np.pi * np.arange(_AZIMUTHS) / _AZIMUTHS
    radius = np.linspace(0, 1, _RADII)[:, None] * shapes.cap[chosen][:, None, None]
    across = np.sin(radius) * np.cos(azimuth), np.sin(radius) * np.sin(azimuth)
    weights = np.stack([*across, np.cos(radius) + 0 * azimuth], axis=-1)
    points = np.einsum("nrak,nki->nrai", weights, shapes.axes[chosen]).reshape(-1, 3)
    x, y = (v.reshape(len(chosen), -1) for v in pixel_positions(wcs, points))
    shown = np.isfinite(x) & np.isfinite(y)
    inside = within(shapes, np.repeat(chosen, _RADII * _AZIMUTHS), points).reshape(shown.shape)
    # A thin ring may hold none of the points; then any of them counts.
    inside |= ~inside.any(axis=1, keepdims=True)
    missing = (inside & ~shown).any(axis=1)
    boxes = np.full((len(chosen), 2, 2), np.nan)
    some = shown.any(axis=1)
    for axis, values in enumerate((y, x)):
        low = np.min(np.where(shown, values, np.inf), axis=1)[some]
        high = np.max(np.where(shown, values, -np.inf), axis=1)[some]
        # What lies between the points may bulge out a little.
        pad = 2 + 0.05 * (high - low)
        boxes[some, 0, axis], boxes[some, 1, axis] = low - pad, high + pad
    return boxes, np.asarray(missing)


def _blocks_of(boxes: Array, shape: tuple[int, int], limit: int) -> tuple[Array, Array, Array]:
    """Pixels off the map of all blocks of the grid that boxes touch, in row-major order.

    Returns
    -------
    y, x : ndarray of int, shape (n,)
    done : ndarray of bool
        Boxes, smallest first, that are covered; the others would take too many pixels, or
        hold none.
    """
    ny, nx = shape
    wide = 1 << 28
    done = np.zeros(len(boxes), bool)
    area = np.prod(boxes[:, 1] - boxes[:, 0] + _BLOCK, axis=1)
    keys: list[Array] = [np.empty(0, np.int64)]
    number = 0
    for index in np.argsort(area):  # NaN comes last
        if not area[index] < limit:
            break
        low, high = np.floor(boxes[index] / _BLOCK).astype(np.int64)
        by, bx = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
        keys.append(((by[:, None] + wide) * (2 * wide) + bx + wide).ravel())
        number += len(keys[-1])
        if number * _BLOCK**2 > limit:  # count blocks of several boxes once
            keys = [np.unique(np.concatenate(keys))]
            number = len(keys[0])
            if number * _BLOCK**2 > 2 * limit:
                break
        done[index] = True
    key = np.unique(np.concatenate(keys))
    by, bx = key // (2 * wide) - wide, key % (2 * wide) - wide
    step = np.arange(_BLOCK)
    y = np.broadcast_to(by[:, None, None] * _BLOCK + step[:, None], (len(key), _BLOCK, _BLOCK))
    x = np.broadcast_to(bx[:, None, None] * _BLOCK + step, (len(key), _BLOCK, _BLOCK))
    off = ~((y >= 0) & (y < ny) & (x >= 0) & (x < nx))
    y, x = y[off], x[off]
    order = np.lexsort((x, y))
    return y[order], x[order], done
