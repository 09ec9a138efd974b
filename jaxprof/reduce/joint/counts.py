"""The bridge to the joint fit: counts and background of the counts bins, and their templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_quickly
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.likelihood import CountsBins
from jaxprof.likelihood.joint_data import JointBlock, JointOnOffBlock
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.joint.bins import (
    BATCH,
    OF_ENERGY,
    PixelBins,
    batched_pixels,
    n_batches,
    templates_at,
)
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.reduce.joint.response import DatasetResponse
from jaxprof.types import Array

Alone = Sequence[Sequence[Array | None]]
"""For each group and dataset, pixels that are to have counts bins of their own."""


Counted = tuple[JointBlock | JointOnOffBlock, CountsBins]
"""Counts bins of one dataset and energy group, and where they come from."""


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


def counts_blocks(
    problem: JointProblem, number: int, *, merge: bool = True, alone: Alone | None = None
) -> list[Counted]:
    """Counts, background and templates of a dataset, for each energy group, in arrays of one shape.

    With ``merge`` the pixels of a disjoint region without counts have one counts bin together, but
    for those that are to stand ``alone`` (E, N, P), or (1, N, P) if energies are summed; see
    `jaxprof.reduce.joint.refine`. Without it every pixel has its own, which derivatives with
    respect to single counts need.
    """
    dataset = problem.datasets[number]
    parts = [group.bins[number] for group in problem.groups]
    if isinstance(dataset, MapDatasetOnOff):
        return [_on_off_block(problem, number, part) for part in parts]
    separate = [None] * len(parts) if alone is None else [group[number] for group in alone]
    counts_bins = [
        _cash_bins(problem, number, part, merge, pixels)
        for part, pixels in zip(parts, separate, strict=True)
    ]
    # Groups of the same shape share compiled code.
    kept = [each.kept for each in counts_bins]
    size, by_energy = max(map(len, kept)), False
    if problem.model.per_pixel:
        # Templates of a batch are those of all true energies that it sees.
        by_energy = bool(problem.model.free_spectral_parameters)
        size = OF_ENERGY if by_energy else BATCH
    total = max(n_batches(own, size, by_energy) for own in kept)
    return [
        _cash_block(problem, number, each, batched_pixels(each.kept, size, total, by_energy))
        for each in counts_bins
    ]


@dataclass(frozen=True)
class _CashBins:
    """Counts and background of one dataset and group, pixel by pixel, and which become counts bins.

    The last pixel of each disjoint region stands for the sum of those that do not; where that sum
    is over all energies too, it stands at the first energy.
    """

    bins: slice
    """Reconstructed energies of the group."""
    counts: Array
    background: Array
    offset: Array
    """What the counts bins hold, (E, N, P + 1)."""
    kept: Array
    """Which are counts bins, (E, N, P + 1)."""
    log_energy: Array
    """See `log_energies`, (E,)."""
    masks: Array | None
    """Pixels in use at each energy, if the energies are summed, (E', N, P)."""
    across: bool
    """Whether the sums are over all energies: see `JointModel.merged_across_energies`."""


def _cash_bins(
    problem: JointProblem, number: int, bins: slice, merge: bool, alone: Array | None
) -> _CashBins:
    """Choose the counts bins of a dataset with a predicted background, in one energy group."""
    dataset, response = problem.datasets[number], problem.response.datasets[number]
    model = problem.model
    parts, mask = bin_values(dataset, response, bins, model.sum_over_energy_groups)
    log_energy, masks = log_energies(dataset.energy_axis, bins), None
    if model.sum_over_energy_groups:
        masks, log_energy = response.mask[bins], np.zeros(1)
    kept: Array = np.zeros_like(mask)
    if model.per_pixel:
        kept = mask & (parts[0] > 0) if merge else mask
        if alone is not None:
            kept = kept | (mask & alone)
    rest = mask & ~kept
    counts, background, offset = (
        np.concatenate([part, (part * rest).sum(axis=2, keepdims=True)], axis=2) for part in parts
    )
    left: Array = np.asarray(rest.any(axis=2, keepdims=True))
    across = model.merged_across_energies
    if across:
        for part in (counts, background, offset):
            part[0, :, -1] = part[:, :, -1].sum(axis=0)
        left[0] = left.any(axis=0)
        left[1:] = False
    kept = np.concatenate([kept, left], axis=2)
    return _CashBins(bins, counts, background, offset, kept, log_energy, masks, across)


def _cash_block(
    problem: JointProblem, number: int, counts_bins: _CashBins, batches: PixelBins
) -> Counted:
    """Counts bins of a dataset with a predicted background, with their templates."""
    dataset, response = problem.datasets[number], problem.response.datasets[number]
    bins, last = counts_bins.bins, counts_bins.kept.shape[2] - 1
    rows, used = batches.region[:, np.newaxis], batches.used
    at = (batches.energy, rows, batches.pixel)
    rest = used & (batches.pixel == last)
    all_summed = counts_bins.masks is not None
    summed = all_summed or counts_bins.across
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
        templates = np.zeros((len(used), *sums.shape[1:3], used.shape[1]))
    energy = np.zeros_like(batches.energy) if summed else batches.energy
    block = JointBlock(
        counts=np.where(used, counts_bins.counts[at], 0.0),
        background=np.where(used, counts_bins.background[at], 0.0),
        offset=np.where(used, counts_bins.offset[at], 0.0),
        log_energy=counts_bins.log_energy[batches.energy],
        templates=_with_rest(templates, sums, batches.region, energy, rest),
        components=response.components[batches.region],
        mask=used,
        dataset=number,
    )
    inner = np.minimum(batches.pixel, last - 1)
    disjoint, n_x = response.disjoint, dataset.geom.npix_shape[1]
    pixel = disjoint.y[rows, inner] * n_x + disjoint.x[rows, inner]
    one_energy = used & ~(all_summed | (rest & counts_bins.across))
    return block, CountsBins(
        energy=np.where(one_energy, bins.start + batches.energy, -1),
        pixel=np.where(used & ~rest, pixel, -1),
        region=disjoint.members[batches.region, : problem.n_bins],
        dataset=dataset.name,
    )


def _on_off_block(problem: JointProblem, number: int, bins: slice) -> Counted:
    """Counts bins of an On-Off dataset in one energy group: sums over the disjoint regions.

    The acceptance ratio of a sum is chosen such that the background ``alpha n_off`` is kept.
    """
    dataset, response = problem.datasets[number], problem.response.datasets[number]
    assert isinstance(dataset, MapDatasetOnOff)
    assert dataset.counts is not None and dataset.counts_off is not None
    mask: Array = response.mask[bins]
    n_on, n_off, alpha = (
        pixel_values(part.data, response, bins)
        for part in (dataset.counts, dataset.counts_off, dataset.alpha)
    )
    weighted = alpha * n_off
    # All groups are padded to the same number of energies.
    width = max(own.stop - own.start for group in problem.groups for own in group.bins)
    summed = problem.model.sum_over_energy_groups
    if summed:
        n_on, n_off, alpha, weighted = (
            part.sum(axis=0, keepdims=True) for part in (n_on, n_off, alpha, weighted)
        )
        alpha = alpha / np.maximum(mask.sum(axis=0), 1)
        width = 1
        mask = np.asarray(mask.any(axis=0, keepdims=True))
    mean = (alpha.sum(axis=2) / np.maximum(mask.sum(axis=2), 1)).T
    n_on, n_off, background = (part.sum(axis=2).T for part in (n_on, n_off, weighted))
    ratio = np.divide(background, n_off, out=mean, where=n_off > 0)
    used: Array = np.asarray(mask.any(axis=2)).T
    energy = np.full(used.shape, -1)
    if not summed:
        energy[:] = np.arange(bins.start, bins.stop)
    missing = [(0, 0), (0, width - used.shape[1])]
    block = JointOnOffBlock(
        n_on=np.pad(n_on, missing),
        n_off=np.pad(n_off, missing),
        alpha=np.pad(np.where(used, ratio, 1.0), missing, constant_values=1.0),
        offset=np.zeros((len(used), width)),
        templates=_sums_of_group(
            response.sums, start=bins.start, stop=bins.stop, width=width, summed=summed
        ),
        components=response.components,
        mask=np.pad(used, missing),
        dataset=number,
    )
    return block, CountsBins(
        energy=np.pad(energy, missing, constant_values=-1),
        pixel=np.full((len(used), width), -1),
        region=response.disjoint.members[:, : problem.n_bins],
        dataset=dataset.name,
    )
