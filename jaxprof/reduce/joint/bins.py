"""From windows and pixels to the slots of a joint fit.

The pixels of the fit stand in *cells*: sets of pixels that belong to the same regions. Where
regions do not overlap, a cell is a region. Pixels with counts are slots of their own; pixels of a
cell without counts, of all energies, have one slot together: only their total prediction enters the
likelihood, and only that is kept from being negative. For a likelihood by region all pixels of a
cell are summed, at each energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.compilation import jit_quickly
from jaxprof.reduce.joint.folding import Windows
from jaxprof.sky.closed import unwrapped
from jaxprof.sky.pixel_sums import MemberPixels

Array = NDArray[Any]

TILE = 128
"""Slots of a tile of pixels with counts."""
ROUND = 16
"""The number of tiles is a multiple of this: data of similar size share compiled code."""


@dataclass(frozen=True)
class Cells:
    """Pixels of the fit, by the regions they belong to.

    Attributes
    ----------
    y, x : ndarray of int, shape (N, P)
        Pixels of each cell; padded by pixel (0, 0).
    used : ndarray of bool, shape (N, P)
        False for the padding.
    members : ndarray of bool, shape (N, regions)
        Regions that the pixels of a cell belong to.
    """

    y: Array
    x: Array
    used: Array
    members: Array


def make_cells(pixels: MemberPixels, shape: tuple[int, int]) -> Cells:
    """Sort the pixels on the map by the regions they belong to.

    Parameters
    ----------
    pixels : MemberPixels
        Pixels of the regions.
    shape : tuple of int
        Shape (ny, nx) of the map.

    Returns
    -------
    Cells
    """
    union = np.ravel_multi_index((pixels.y, pixels.x), shape)
    if not len(union):
        raise ValueError("regions: none of them holds the centre of a pixel on the map")
    belongs = pixels.belongs.astype(bool).toarray().T
    packed = np.packbits(belongs, axis=1)
    _, first, cell = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    # In the order of the regions, so that neighbours stay neighbours.
    order = np.argsort([np.argmax(belongs[i]) for i in first], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    cell = rank[cell.reshape(-1)]
    counts = np.bincount(cell, minlength=len(first))
    sort = np.argsort(cell, kind="stable")
    position = np.arange(len(union)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = np.zeros((len(first), counts.max()), int)
    used = np.zeros(index.shape, bool)
    index[cell[sort], position] = union[sort]
    used[cell[sort], position] = True
    y, x = np.unravel_index(index, shape)
    return Cells(y=y, x=x, used=used, members=belongs[first][order])


def reaching(windows: Sequence[Windows], cells: Cells) -> list[Array]:
    """Components of each array of windows that can reach each cell, (N, K) for each.

    Returns
    -------
    list of ndarray of int
        Indices within the array of windows; -1 pads.
    """
    big = np.iinfo(np.int64).max
    low_y, low_x = (np.where(cells.used, v, big).min(axis=1) for v in (cells.y, cells.x))
    high_y, high_x = (np.where(cells.used, v, -1).max(axis=1) for v in (cells.y, cells.x))
    found = []
    for part in windows:
        height, width = part.values.shape[-2:]
        y0, x0 = np.asarray(part.y0), np.asarray(part.x0)
        hits = (low_y[:, None] < y0 + height) & (high_y[:, None] >= y0)
        if part.turn is None:
            hits &= (low_x[:, None] < x0 + width) & (high_x[:, None] >= x0)
        else:
            x = unwrapped(cells.x, cells.x[:, :1], part.turn)
            low = np.where(cells.used, x, big).min(axis=1)
            size = np.where(cells.used, x, -big).max(axis=1) - low
            start = (low[:, None] - x0) % len(part.turn)
            hits &= (start < width) | (start + size[:, None] >= len(part.turn))
        number = hits.sum(axis=1)
        lists = np.full((len(hits), max(number.max(), 1)), -1)
        for row, own in enumerate(hits):
            lists[row, : number[row]] = np.flatnonzero(own)
        found.append(lists)
    return found


@jit_quickly()
def _take(part: Windows, lists: Any, energy: Any, y: Any, x: Any, used: Any) -> Any:
    """Templates (N, K, Q, S) of a part's components at slots given by energy, y and x, (N, S)."""
    n_own, n_coefficients, n_energies, height, width = part.values.shape
    own = jnp.maximum(lists, 0)
    row = y[:, None, :] - jnp.asarray(part.y0)[own][:, :, None]
    column = x[:, None, :] - jnp.asarray(part.x0)[own][:, :, None]
    if part.turn is not None:
        column = column % len(part.turn)
        used = used & (x >= part.turn.start) & (x < part.turn.stop)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    inside = inside & (lists >= 0)[:, :, None] & used[:, None, :]
    at_energy = energy[:, None, :] if part.edisp is None else jnp.zeros_like(energy)[:, None, :]
    rest = (at_energy * height + row) * width + column
    flat = part.values.reshape(n_own, n_coefficients, -1)
    stride = n_energies * height * width
    q = jnp.arange(n_coefficients)[None, None, :, None]
    index = (own[:, :, None, None] * n_coefficients + q) * stride + rest[:, :, None, :]
    index = jnp.where(inside[:, :, None, :], index, 0)
    values = jnp.take(flat.reshape(-1), index)
    values = jnp.where(inside[:, :, None, :], values, 0.0)
    if part.edisp is not None:
        # (N, K, Q, S): the dispersion of each component to the energy of each slot
        dispersion = jnp.asarray(part.edisp)[own[:, :, None, None], q, energy[:, None, None, :]]
        values = values * dispersion
    return values


def templates_at(
    windows: Sequence[Windows],
    lists: Sequence[Array],
    energy: Any,
    y: Any,
    x: Any,
    used: Any,
) -> Any:
    """Templates at slots.

    Parameters
    ----------
    windows : sequence of Windows
        Folded components.
    lists : sequence of array of int, shape (N, K_i)
        Components that reach each tile, see `reaching`.
    energy, y, x : array of int, shape (N, S)
        Reconstructed energy and pixel of each slot.
    used : array of bool, shape (N, S)
        False for padding.

    Returns
    -------
    templates : array, shape (N, K, Q, S)
        K is the sum of all K_i.
    """
    parts = [_take(part, own, energy, y, x, used) for part, own in zip(windows, lists, strict=True)]
    return jnp.concatenate(parts, axis=1)


def component_lists(windows: Sequence[Windows], lists: Sequence[Array]) -> Array:
    """Indices of all components of each tile, (N, K); padding repeats the first component."""
    return np.concatenate(
        [np.maximum(own, 0) + part.first for part, own in zip(windows, lists, strict=True)], axis=1
    )


def cell_sums(windows: Sequence[Windows], lists: Sequence[Array], cells: Cells, mask: Array) -> Any:
    """Templates summed over the unmasked pixels of each cell, shape (N, K, Q, E).

    Parameters
    ----------
    windows, lists
        As for `templates_at`.
    cells : Cells
        N cells.
    mask : ndarray of bool, shape (E, N, P)
        Pixels to use at each energy.
    """
    used = (cells.y, cells.x, np.asarray(mask))
    return _sums(list(windows), list(lists), *used)


@jit_quickly()
def _sums(windows: Any, lists: Any, y: Any, x: Any, mask: Any) -> Any:
    def at_energy(pair: tuple[Any, Any]) -> Any:
        number, used = pair
        energy = jnp.full(y.shape, number)
        return templates_at(windows, lists, energy, y, x, used).sum(axis=-1)

    sums = jax.lax.map(at_energy, (jnp.arange(len(mask)), mask))
    return jnp.moveaxis(sums, 0, -1)


@dataclass(frozen=True)
class PixelSlots:
    """Slots of single pixels, in tiles that belong to one cell each.

    Attributes
    ----------
    cell : ndarray of int, shape (N,)
        Cell of each tile.
    energy, pixel : ndarray of int, shape (N, S)
        Reconstructed energy, and pixel within the cell.
    used : ndarray of bool, shape (N, S)
        False for padding.
    """

    cell: Array
    energy: Array
    pixel: Array
    used: Array


def n_tiles(kept: Array, size: int = TILE) -> int:
    """Number of tiles that `tile_pixels` needs, rounded up."""
    tiles = -(-kept.sum(axis=(0, 2)) // size)
    return int(-(-max(tiles.sum(), 1) // ROUND) * ROUND)


def tile_pixels(kept: Array, size: int = TILE, total: int | None = None) -> PixelSlots:
    """Slots for chosen pixels.

    Parameters
    ----------
    kept : ndarray of bool, shape (E, N, P)
        Pixels that become slots of their own.
    size : int
        Slots a tile.
    total : int, optional
        Number of tiles, at least what `n_tiles` gives.

    Returns
    -------
    PixelSlots
    """
    cell, energy, pixel = np.nonzero(kept.transpose(1, 0, 2))
    counts = np.bincount(cell, minlength=kept.shape[1])
    tiles = -(-counts // size)
    total = n_tiles(kept, size) if total is None else total
    first = np.cumsum(tiles) - tiles
    position = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = first[cell] + position // size, position % size
    owner = np.zeros(total, int)
    owner[: tiles.sum()] = np.repeat(np.arange(len(tiles)), tiles)
    shape = (total, size)
    slots = PixelSlots(owner, np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool))
    slots.energy[row, column] = energy
    slots.pixel[row, column] = pixel
    slots.used[row, column] = True
    return slots
