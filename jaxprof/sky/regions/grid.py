"""Pixels of a map, and of its grid beyond the map, as directions on the sky."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import scipy
from astropy.wcs import WCS

from jaxprof.sky.regions.sphere import lonlat, unit_vectors

Array: TypeAlias = np.ndarray[Any, Any]
TILE = 4  # pixels along the sides of a tile
_TILE_PAIRS = 1_000_000  # pairs of a tile and a cap at a time, which bounds the memory


@dataclass(frozen=True, eq=False)
class SkyPixels:
    """Centres of pixels as unit vectors, in tiles that know how far they reach.

    Attributes
    ----------
    y, x : ndarray of int, shape (N,)
        Pixel indices, in row-major order of the pixels; negative off the map.
    vectors : ndarray, shape (N, 3)
        Unit vectors.
    tiles : ndarray of int, shape (T, P)
        Indices of the pixels of each tile, -1 where there are fewer.
    centers : ndarray, shape (T, 3)
        Unit vectors of the middles of the tiles.
    reach : ndarray, shape (T,)
        Largest distance (a chord) from there to a pixel of the tile.
    """

    y: Array
    x: Array
    vectors: Array
    tiles: Array
    centers: Array
    reach: Array

    @cached_property
    def tree(self) -> Any:
        """Tree of the centers, for searches among many."""
        return scipy.spatial.cKDTree(self.centers)

    def __len__(self) -> int:
        return len(self.x)


def sky_vectors(wcs: WCS, x: Array, y: Array) -> Array:
    """Unit vectors (n, 3) of pixel positions (n,); NaN off the projection."""
    if not len(x):
        return np.empty((0, 3))
    lon, lat = wcs.all_pix2world(x, y, 0)
    return unit_vectors(np.deg2rad(lon), np.deg2rad(lat))


def pixel_positions(wcs: WCS, vectors: Array) -> tuple[Array, Array]:
    """Pixel positions x, y (n,) of unit vectors (n, 3); NaN where there are none.

    Distortions are left out: they move positions by little.
    """
    if not len(vectors):
        return np.empty(0), np.empty(0)
    lon, lat = lonlat(vectors)
    x, y = wcs.wcs_world2pix(np.rad2deg(lon), np.rad2deg(lat), 0)
    return np.asarray(x), np.asarray(y)


def moved(vectors: Array, distance: float | Array) -> Array:
    """Directions (n, 3) a small distance [rad] from unit vectors, at a position angle of 1 rad.

    The direction is generic: hardly any edge runs along it.
    """
    x, y, z = vectors.T
    radius = np.hypot(x, y)
    pole = radius == 0
    divisor = np.where(pole, 1.0, radius)
    cos, sin = np.where(pole, 1.0, x) / divisor, y / divisor  # of the longitude
    east, north = np.sin(1.0) * distance, np.cos(1.0) * distance
    step = [-north * z * cos - east * sin, east * cos - north * z * sin, north * radius]
    return vectors + np.stack(step, axis=1)


def map_pixels(wcs: WCS, shape: tuple[int, int]) -> SkyPixels:
    """Pixels of a map (ny, nx) whose centres are on the sky."""
    y, x = (v.ravel() for v in np.indices(shape))
    return sky_pixels(wcs, y, x)


def sky_pixels(
    wcs: WCS, y: Array, x: Array, more: tuple[Array, Array, Array] | None = None
) -> SkyPixels:
    """Pixels (n,) of a grid in tiles; those off the projection are left out.

    Parameters
    ----------
    wcs : WCS
        Celestial.
    y, x : ndarray of int, shape (n,)
        Pixel indices.
    more : tuple of ndarray, optional
        Further y and x with unit vectors that take the place of their centres.
    """
    vectors = sky_vectors(wcs, x, y)
    if more is not None:
        y, x = np.concatenate([y, more[0]]), np.concatenate([x, more[1]])
        vectors = np.concatenate([vectors, more[2]])
    known = np.isfinite(vectors).all(axis=1)
    y, x, vectors = y[known], x[known], vectors[known]
    if not len(y):
        empty = np.empty((0, 3))
        return SkyPixels(y, x, vectors, np.empty((0, 1), int), empty, np.empty(0))
    column = x // TILE
    width = int(column.max() - column.min()) + 1
    tile = (y // TILE - np.min(y) // TILE) * width + column - column.min()
    order = np.argsort(tile, kind="stable")
    _, start, count = np.unique(tile[order], return_index=True, return_counts=True)
    number = np.repeat(np.arange(len(start)), count)
    tiles = np.full((len(start), count.max()), -1)
    tiles[number, np.arange(len(order)) - start[number]] = order
    sums = np.add.reduceat(vectors[order], start, axis=0)
    centers = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    chord = np.linalg.norm(vectors[order] - centers[number], axis=1)
    reach = np.maximum.reduceat(chord, start)
    return SkyPixels(y, x, vectors, tiles, centers, reach)


def candidates(
    pixels: SkyPixels,
    centers: Array,
    radius: Array,
    near: Callable[[Array, Array, Array], Array] | None = None,
) -> Iterator[tuple[Array, Array]]:
    """Pixels that may lie within caps, in blocks that bound the memory.

    Parameters
    ----------
    pixels : SkyPixels
        Of a map.
    centers : ndarray, shape (n, 3)
        Unit vectors of the centres of the caps.
    radius : ndarray, shape (n,)
        Their radii [rad].
    near : callable, optional
        Which of some tiles may hold pixels that are asked for, of the indices of the caps, the
        middles of the tiles and their reach.

    Yields
    ------
    cap, pixel : ndarray of int, shape (P,)
        Pairs of a cap and a pixel within it or next to it. Pairs of a cap follow each other, also
        from block to block; no pair comes twice.
    """
    if not len(pixels):
        return
    chord = 2 * np.sin(0.5 * np.minimum(radius, np.pi)) + 1e-9
    share = 0.25 * (chord + 2 * pixels.reach.max()) ** 2  # of the sky
    sky = np.median(pixels.reach) ** 2 / 4  # about that of a tile
    expected = np.minimum(share / max(sky, 1e-12), 1.0 * len(pixels.tiles)) + 1
    total = np.cumsum(expected)
    low = 0
    while low < len(centers):
        limit = (total[low - 1] if low else 0.0) + _TILE_PAIRS
        high = max(low + 1, int(np.searchsorted(total, limit)))
        cap, tile = _tiles(pixels, centers, chord, low, high)
        if near is not None:
            chosen = near(cap, pixels.centers.take(tile, axis=0), pixels.reach.take(tile))
            cap, tile = cap[chosen], tile[chosen]
        step = max(1, _TILE_PAIRS // pixels.tiles.shape[1])
        for start in range(0, len(cap), step):
            pixel = pixels.tiles.take(tile[start : start + step], axis=0)
            owner = np.repeat(cap[start : start + step], pixel.shape[1])
            known = np.flatnonzero(pixel >= 0)
            yield owner.take(known), pixel.ravel().take(known)
        low = high


def _tiles(
    pixels: SkyPixels, centers: Array, chord: Array, low: int, high: int
) -> tuple[Array, Array]:
    """Pairs of a cap, of those from `low` to `high`, and a tile that reaches into it."""
    own = slice(low, high)
    far = chord[own] + pixels.reach.max()
    if (high - low) * len(pixels.tiles) <= _TILE_PAIRS:
        # Fewer than it takes to build the tree, or to import it.
        close = centers[own] @ pixels.centers.T >= 1.0 - 0.5 * far[:, np.newaxis] ** 2 - 1e-12
        cap, tile = np.nonzero(close)
        cap += low
    else:
        found = pixels.tree.query_ball_point(centers[own], far)
        count = np.fromiter(map(len, found), np.intp, high - low)
        tile = np.fromiter(chain.from_iterable(found), np.intp, int(count.sum()))
        cap = np.repeat(np.arange(low, high), count)
    apart = pixels.centers.take(tile, axis=0) - centers.take(cap, axis=0)
    near = np.sqrt(np.einsum("pi,pi->p", apart, apart)) <= chord[cap] + pixels.reach[tile]
    return cap[near], tile[near]
