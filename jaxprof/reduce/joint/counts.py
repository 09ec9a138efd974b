"""The bridge to the joint fit: counts and background of the slots, and their templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.compilation import jit_quickly
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.likelihood.joint_data import JointBlock, JointOnOffBlock
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.joint.bins import TILE, PixelSlots, templates_at, tile_pixels
from jaxprof.reduce.joint.response import DatasetResponse

Array = NDArray[Any]


def cell_values(data: Any, response: DatasetResponse, bins: slice) -> Array:
    """Values of a map in the pixels of the cells, zero where they are not in use; (E, N, P)."""
    values = data[bins][:, response.cells.y, response.cells.x].astype(np.float64)
    # Maps made by a convolution have rounding below zero, see MapDatasetOnOff.
    return np.where(response.mask[bins], np.maximum(values, 0.0), 0.0)


@jit_quickly()
def _with_rest(templates: Any, sums: Any, cell: Any, energy: Any, rest: Any) -> Any:
    """Fill the slots of what is left of each cell with its sums less the pixels of their own.

    Templates are (N', K, Q, S), ``cell`` (N',), ``energy`` and ``rest`` (N', S), where ``rest`` is
    true for the slots to fill; sums are (N, K, Q, E).
    """
    own = jnp.moveaxis(jnp.where(rest[:, None, None], 0.0, templates), 3, 1)
    left = jnp.moveaxis(sums, 3, 1).at[cell[:, None], energy].add(-own)
    filled = jnp.moveaxis(left[cell[:, None], energy], 1, 3)
    return jnp.where(rest[:, None, None], jnp.maximum(filled, 0.0), templates)


@jit_quickly("start", "stop", "width", "summed")
def _sums_of_group(sums: Any, *, start: int, stop: int, width: int, summed: bool) -> Any:
    """Some energies of the last axis, or their sum, with zeros behind them up to a width."""
    own = sums[..., start:stop]
    own = own.sum(axis=-1, keepdims=True) if summed else own
    return jnp.pad(own, [(0, 0)] * (own.ndim - 1) + [(0, width - own.shape[-1])])


def slot_values(
    dataset: MapDataset, response: DatasetResponse, bins: slice, summed: bool
) -> tuple[list[Array], Array]:
    """Counts, background and fixed counts in the pixels of the cells, and which are in use.

    All of shape (E, N, P), or (1, N, P) if summed over the energies of the group.
    """
    mask: Array = response.mask[bins]
    parts: list[Array] = [
        np.zeros(mask.shape) if part is None else cell_values(part.data, response, bins)
        for part in (dataset.counts, dataset.background, dataset.npred_sources)
    ]
    if summed:
        parts = [part.sum(axis=0, keepdims=True) for part in parts]
        mask = np.asarray(mask.any(axis=0, keepdims=True))
    return parts, mask


def _pad(values: Array, width: int, axis: int = -1) -> Array:
    """Zeros behind the last energy."""
    missing = width - values.shape[axis]
    shape = [(0, 0)] * values.ndim
    shape[axis] = (0, missing)
    return np.pad(values, shape)


def tile_templates(
    response: DatasetResponse, slots: PixelSlots, first: int, masks: Array | None
) -> Any:
    """Templates at single pixels; summed over the energies of ``masks`` (E, N, P) if given."""
    rows = slots.cell[:, np.newaxis]
    # The slot of what is left of a cell has no pixel.
    pixel = np.minimum(slots.pixel, response.cells.y.shape[1] - 1)
    used = slots.used & (slots.pixel == pixel)
    y, x = response.cells.y[rows, pixel], response.cells.x[rows, pixel]
    lists = [own[slots.cell] for own in response.lists]
    if masks is None:
        return templates_at(response.windows, lists, slots.energy + first, y, x, used)
    parts = [
        templates_at(
            response.windows, lists, np.full(y.shape, first + e), y, x, used & own[rows, pixel]
        )
        for e, own in enumerate(masks)
    ]
    return sum(parts[1:], start=parts[0])


@dataclass(frozen=True)
class CashSlots:
    """Counts and background of one dataset and group, pixel by pixel, and which become slots.

    The last pixel of each cell stands for the sum of those that do not; where that sum is over all
    energies too, it stands at the first energy.

    Attributes
    ----------
    counts, background, offset : ndarray, shape (E, N, P + 1)
        What the slots hold.
    kept : ndarray of bool, shape (E, N, P + 1)
        Which are slots.
    log_energy : ndarray, shape (E,)
        See `log_energies`.
    masks : ndarray of bool, shape (E', N, P), or None
        Pixels in use at each energy, if the energies are summed.
    across : bool
        Whether the sums are over all energies.
    per_pixel : bool
        Whether pixels may have slots of their own.
    """

    counts: Array
    background: Array
    offset: Array
    kept: Array
    log_energy: Array
    masks: Array | None
    across: bool
    per_pixel: bool

    @property
    def tile(self) -> int:
        """Slots a tile: few of them where pixels have none of their own."""
        return TILE if self.per_pixel else len(self.kept)


def cash_slots(
    dataset: MapDataset,
    response: DatasetResponse,
    bins: slice,
    *,
    per_pixel: bool,
    merge: bool = True,
    summed: bool = False,
    across: bool = True,
    alone: Array | None = None,
) -> CashSlots:
    """Choose the slots of a dataset with a predicted background, in one energy group.

    Parameters
    ----------
    dataset : MapDataset
        Counts, background and npred_sources are taken.
    response : DatasetResponse
        Its response.
    bins : slice
        Reconstructed energies of the group.
    per_pixel : bool
        Whether pixels with counts are slots of their own.
    merge : bool
        Whether the pixels of a cell without counts have one slot together. If not, every pixel has
        its own, which derivatives by single counts need.
    summed : bool
        Whether the energies are summed.
    across : bool
        Whether pixels without counts share a slot over all energies: not if the background has a
        tilt that is fitted.
    alone : ndarray of bool, shape (E, N, P), or (1, N, P) if summed, optional
        Pixels without counts that are to have counts bins of their own; see
        `jaxprof.reduce.joint.refine`.

    Returns
    -------
    CashSlots
    """
    parts, mask = slot_values(dataset, response, bins, summed)
    log_energy, masks = log_energies(dataset.energy_axis, bins), None
    if summed:
        masks, log_energy = response.mask[bins], np.zeros(1)
    kept: Array = np.zeros_like(mask)
    if per_pixel:
        kept = mask & (parts[0] > 0) if merge else mask
        if alone is not None:
            kept = kept | (mask & alone)
    rest = mask & ~kept
    counts, background, offset = (
        np.concatenate([part, (part * rest).sum(axis=2, keepdims=True)], axis=2) for part in parts
    )
    left: Array = np.asarray(rest.any(axis=2, keepdims=True))
    across = across and per_pixel
    if across:
        for part in (counts, background, offset):
            part[0, :, -1] = part[:, :, -1].sum(axis=0)
        left[0] = left.any(axis=0)
        left[1:] = False
    kept = np.concatenate([kept, left], axis=2)
    return CashSlots(counts, background, offset, kept, log_energy, masks, across, per_pixel)


def cash_block(
    slots: CashSlots,
    response: DatasetResponse,
    bins: slice,
    *,
    number: int,
    size: int,
    total: int,
) -> JointBlock:
    """Slots of a dataset with a predicted background, with their templates.

    Parameters
    ----------
    slots : CashSlots
        What `cash_slots` gave.
    response : DatasetResponse
        Response of the dataset.
    bins : slice
        Reconstructed energies of the group.
    number : int
        Index of the dataset.
    size, total : int
        Slots a tile, and number of tiles.

    Returns
    -------
    JointBlock
    """
    tiles = tile_pixels(slots.kept, size, total)
    at = (tiles.energy, tiles.cell[:, np.newaxis], tiles.pixel)
    rest = tiles.used & (tiles.pixel == slots.kept.shape[2] - 1)
    summed = slots.masks is not None or slots.across
    energy = np.zeros_like(tiles.energy) if summed else tiles.energy
    sums = _sums_of_group(
        response.sums,
        start=bins.start,
        stop=bins.stop,
        width=1 if summed else bins.stop - bins.start,
        summed=summed,
    )
    if slots.kept[..., :-1].any():
        templates = tile_templates(response, tiles, bins.start, slots.masks)
    else:
        templates = np.zeros((total, *sums.shape[1:3], tiles.used.shape[1]))
    return JointBlock(
        counts=np.where(tiles.used, slots.counts[at], 0.0),
        background=np.where(tiles.used, slots.background[at], 0.0),
        offset=np.where(tiles.used, slots.offset[at], 0.0),
        log_energy=slots.log_energy[tiles.energy],
        templates=_with_rest(templates, sums, tiles.cell, energy, rest),
        components=response.components[tiles.cell],
        mask=tiles.used,
        dataset=number,
    )


def on_off_block(
    dataset: MapDatasetOnOff,
    response: DatasetResponse,
    bins: slice,
    *,
    width: int,
    number: int,
    summed: bool = False,
) -> JointOnOffBlock:
    """Slots of an On-Off dataset in one energy group: sums over the cells.

    The acceptance ratio of a sum is chosen such that the background ``alpha n_off`` is kept.
    """
    assert dataset.counts is not None and dataset.counts_off is not None
    mask: Array = response.mask[bins]
    n_on, n_off, alpha = (
        cell_values(part.data, response, bins)
        for part in (dataset.counts, dataset.counts_off, dataset.alpha)
    )
    weighted = alpha * n_off
    if summed:
        n_on, n_off, alpha, weighted = (
            part.sum(axis=0, keepdims=True) for part in (n_on, n_off, alpha, weighted)
        )
        alpha = alpha / np.maximum(mask.sum(axis=0), 1)
        width = 1
        mask = np.asarray(mask.any(axis=0, keepdims=True))
    total_off = n_off.sum(axis=2).T
    mean = (alpha.sum(axis=2) / np.maximum(mask.sum(axis=2), 1)).T
    background = weighted.sum(axis=2).T
    ratio = np.divide(background, total_off, out=mean, where=total_off > 0)
    used: Array = np.asarray(mask.any(axis=2)).T
    return JointOnOffBlock(
        n_on=_pad(n_on.sum(axis=2).T, width),
        n_off=_pad(total_off, width),
        alpha=np.where(_pad(used, width), _pad(ratio, width), 1.0),
        offset=np.zeros((mask.shape[1], width)),
        templates=_sums_of_group(
            response.sums, start=bins.start, stop=bins.stop, width=width, summed=summed
        ),
        components=response.components,
        mask=_pad(used, width),
        dataset=number,
    )


def cash_origins(
    slots: CashSlots, response: DatasetResponse, bins: slice, *, size: int, total: int, n_x: int
) -> tuple[Array, Array, Array]:
    """Where the counts bins of `cash_block` come from.

    Parameters
    ----------
    slots, response, bins, size, total
        As for `cash_block`.
    n_x : int
        Width of the map [pixels].

    Returns
    -------
    energy, pixel : ndarray of int, shape (N, S)
        See `CountsBins`.
    cell : ndarray of int, shape (N,)
        Disjoint region of each row.
    """
    tiles = tile_pixels(slots.kept, size, total)
    last = slots.kept.shape[2] - 1
    rest = tiles.pixel == last
    inner = np.minimum(tiles.pixel, last - 1)
    rows = tiles.cell[:, np.newaxis]
    pixel = response.cells.y[rows, inner] * n_x + response.cells.x[rows, inner]
    energy = bins.start + tiles.energy
    if slots.masks is not None:
        energy = np.full_like(energy, -1)
    elif slots.across:
        energy = np.where(rest, -1, energy)
    pixel, energy = np.where(rest, -1, pixel), energy
    return np.where(tiles.used, energy, -1), np.where(tiles.used, pixel, -1), tiles.cell


def on_off_origins(
    response: DatasetResponse, bins: slice, *, width: int, summed: bool
) -> tuple[Array, Array, Array]:
    """Where the counts bins of `on_off_block` come from; returns what `cash_origins` does."""
    n_cells = len(response.components)
    size = 1 if summed else width
    energy = np.full((n_cells, size), -1)
    if not summed:
        energy[:, : bins.stop - bins.start] = np.arange(bins.start, bins.stop)
    return energy, np.full_like(energy, -1), np.arange(n_cells)
