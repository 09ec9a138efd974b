"""The bridge to the joint fit: counts and background of the counts bins, and their templates."""

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
from jaxprof.reduce.joint.bins import BATCH, PixelBins, batched_pixels, templates_at
from jaxprof.reduce.joint.response import DatasetResponse

Array = NDArray[Any]


def pixel_values(data: Any, response: DatasetResponse, bins: slice) -> Array:
    """Values of a map in the pixels of disjoint regions, zero where not in use; (E, N, P)."""
    values = data[bins][:, response.disjoint.y, response.disjoint.x].astype(np.float64)
    # Maps made by a convolution have rounding below zero, see MapDatasetOnOff.
    return np.where(response.mask[bins], np.maximum(values, 0.0), 0.0)


@jit_quickly()
def _with_rest(templates: Any, sums: Any, region: Any, energy: Any, rest: Any) -> Any:
    """Fill the bins of the rest of each disjoint region: its sums less the pixels of their own.

    Templates are (N', K, Q, S), ``disjoint region`` (N',), ``energy`` and ``rest`` (N', S), where
    ``rest`` is true for the counts bins to fill; sums are (N, K, Q, E).
    """
    own = jnp.moveaxis(jnp.where(rest[:, None, None], 0.0, templates), 3, 1)
    left = jnp.moveaxis(sums, 3, 1).at[region[:, None], energy].add(-own)
    filled = jnp.moveaxis(left[region[:, None], energy], 1, 3)
    return jnp.where(rest[:, None, None], jnp.maximum(filled, 0.0), templates)


@jit_quickly("start", "stop", "width", "summed")
def _sums_of_group(sums: Any, *, start: int, stop: int, width: int, summed: bool) -> Any:
    """Some energies of the last axis, or their sum, with zeros behind them up to a width."""
    own = sums[..., start:stop]
    own = own.sum(axis=-1, keepdims=True) if summed else own
    return jnp.pad(own, [(0, 0)] * (own.ndim - 1) + [(0, width - own.shape[-1])])


def bin_values(
    dataset: MapDataset, response: DatasetResponse, bins: slice, summed: bool
) -> tuple[list[Array], Array]:
    """Counts, background and fixed counts in the pixels of disjoint regions; which are in use.

    All of shape (E, N, P), or (1, N, P) if summed over the energies of the group.
    """
    mask: Array = response.mask[bins]
    parts: list[Array] = [
        np.zeros(mask.shape) if part is None else pixel_values(part.data, response, bins)
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


def batch_templates(
    response: DatasetResponse, counts_bins: PixelBins, first: int, masks: Array | None
) -> Any:
    """Templates at single pixels; summed over the energies of ``masks`` (E, N, P) if given."""
    rows = counts_bins.region[:, np.newaxis]
    # The counts bin of what is left of a disjoint region has no pixel.
    pixel = np.minimum(counts_bins.pixel, response.disjoint.y.shape[1] - 1)
    used = counts_bins.used & (counts_bins.pixel == pixel)
    y, x = response.disjoint.y[rows, pixel], response.disjoint.x[rows, pixel]
    lists = [own[counts_bins.region] for own in response.lists]
    if masks is None:
        return templates_at(response.cutouts, lists, counts_bins.energy + first, y, x, used)
    parts = [
        templates_at(
            response.cutouts, lists, np.full(y.shape, first + e), y, x, used & own[rows, pixel]
        )
        for e, own in enumerate(masks)
    ]
    return sum(parts[1:], start=parts[0])


@dataclass(frozen=True)
class CashBins:
    """Counts and background of one dataset and group, pixel by pixel, and which become counts bins.

    The last pixel of each disjoint region stands for the sum of those that do not; where that sum
    is over all energies too, it stands at the first energy.

    Attributes
    ----------
    counts, background, offset : ndarray, shape (E, N, P + 1)
        What the counts bins hold.
    kept : ndarray of bool, shape (E, N, P + 1)
        Which are counts bins.
    log_energy : ndarray, shape (E,)
        See `log_energies`.
    masks : ndarray of bool, shape (E', N, P), or None
        Pixels in use at each energy, if the energies are summed.
    across : bool
        Whether the sums are over all energies.
    per_pixel : bool
        Whether pixels may have counts bins of their own.
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
    def batch(self) -> int:
        """Counts bins a batch: few of them where pixels have none of their own."""
        return BATCH if self.per_pixel else len(self.kept)


def cash_bins(
    dataset: MapDataset,
    response: DatasetResponse,
    bins: slice,
    *,
    per_pixel: bool,
    merge: bool = True,
    summed: bool = False,
    across: bool = True,
    alone: Array | None = None,
) -> CashBins:
    """Choose the counts bins of a dataset with a predicted background, in one energy group.

    Parameters
    ----------
    dataset : MapDataset
        Counts, background and npred_sources are taken.
    response : DatasetResponse
        Its response.
    bins : slice
        Reconstructed energies of the group.
    per_pixel : bool
        Whether pixels with counts are counts bins of their own.
    merge : bool
        Whether the pixels of a disjoint region without counts have one counts bin together. If not,
        every pixel has its own, which derivatives by single counts need.
    summed : bool
        Whether the energies are summed.
    across : bool
        Whether pixels without counts share a counts bin over all energies: not if the background
        has a tilt that is fitted.
    alone : ndarray of bool, shape (E, N, P), or (1, N, P) if summed, optional
        Pixels without counts that are to have counts bins of their own; see
        `jaxprof.reduce.joint.refine`.

    Returns
    -------
    CashBins
    """
    parts, mask = bin_values(dataset, response, bins, summed)
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
    return CashBins(counts, background, offset, kept, log_energy, masks, across, per_pixel)


def cash_block(
    counts_bins: CashBins,
    response: DatasetResponse,
    bins: slice,
    *,
    number: int,
    size: int,
    total: int,
) -> JointBlock:
    """Counts bins of a dataset with a predicted background, with their templates.

    Parameters
    ----------
    counts_bins : CashBins
        What `cash_bins` gave.
    response : DatasetResponse
        Response of the dataset.
    bins : slice
        Reconstructed energies of the group.
    number : int
        Index of the dataset.
    size, total : int
        Counts bins a batch, and number of batches.

    Returns
    -------
    JointBlock
    """
    batches = batched_pixels(counts_bins.kept, size, total)
    at = (batches.energy, batches.region[:, np.newaxis], batches.pixel)
    rest = batches.used & (batches.pixel == counts_bins.kept.shape[2] - 1)
    summed = counts_bins.masks is not None or counts_bins.across
    energy = np.zeros_like(batches.energy) if summed else batches.energy
    sums = _sums_of_group(
        response.sums,
        start=bins.start,
        stop=bins.stop,
        width=1 if summed else bins.stop - bins.start,
        summed=summed,
    )
    if counts_bins.kept[..., :-1].any():
        templates = batch_templates(response, batches, bins.start, counts_bins.masks)
    else:
        templates = np.zeros((total, *sums.shape[1:3], batches.used.shape[1]))
    return JointBlock(
        counts=np.where(batches.used, counts_bins.counts[at], 0.0),
        background=np.where(batches.used, counts_bins.background[at], 0.0),
        offset=np.where(batches.used, counts_bins.offset[at], 0.0),
        log_energy=counts_bins.log_energy[batches.energy],
        templates=_with_rest(templates, sums, batches.region, energy, rest),
        components=response.components[batches.region],
        mask=batches.used,
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
    """Counts bins of an On-Off dataset in one energy group: sums over the disjoint regions.

    The acceptance ratio of a sum is chosen such that the background ``alpha n_off`` is kept.
    """
    assert dataset.counts is not None and dataset.counts_off is not None
    mask: Array = response.mask[bins]
    n_on, n_off, alpha = (
        pixel_values(part.data, response, bins)
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
    counts_bins: CashBins,
    response: DatasetResponse,
    bins: slice,
    *,
    size: int,
    total: int,
    n_x: int,
) -> tuple[Array, Array, Array]:
    """Where the counts bins of `cash_block` come from.

    Parameters
    ----------
    counts bins, response, bins, size, total
        As for `cash_block`.
    n_x : int
        Width of the map [pixels].

    Returns
    -------
    energy, pixel : ndarray of int, shape (N, S)
        See `CountsBins`.
    region : ndarray of int, shape (N,)
        Disjoint region of each row.
    """
    batches = batched_pixels(counts_bins.kept, size, total)
    last = counts_bins.kept.shape[2] - 1
    rest = batches.pixel == last
    inner = np.minimum(batches.pixel, last - 1)
    rows = batches.region[:, np.newaxis]
    pixel = response.disjoint.y[rows, inner] * n_x + response.disjoint.x[rows, inner]
    energy = bins.start + batches.energy
    if counts_bins.masks is not None:
        energy = np.full_like(energy, -1)
    elif counts_bins.across:
        energy = np.where(rest, -1, energy)
    pixel, energy = np.where(rest, -1, pixel), energy
    return np.where(batches.used, energy, -1), np.where(batches.used, pixel, -1), batches.region


def on_off_origins(
    response: DatasetResponse, bins: slice, *, width: int, summed: bool
) -> tuple[Array, Array, Array]:
    """Where the counts bins of `on_off_block` come from; returns what `cash_origins` does."""
    n_disjoint = len(response.components)
    size = 1 if summed else width
    energy = np.full((n_disjoint, size), -1)
    if not summed:
        energy[:, : bins.stop - bins.start] = np.arange(bins.start, bins.stop)
    return energy, np.full_like(energy, -1), np.arange(n_disjoint)
