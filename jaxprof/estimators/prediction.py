"""Predicted counts of a joint fit: per bin, and pixel by pixel for the goodness of fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from astropy.wcs.utils import pixel_to_skycoord

from jaxprof.compilation import jit_quickly
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.estimators.bin_residuals import Peak, Peaks, highest_peaks, peak_significance
from jaxprof.estimators.group_fit import GroupResult
from jaxprof.likelihood.goodness import cash_moments, wstat_expectation
from jaxprof.likelihood.statistics import wstat, wstat_rates
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.joint.counts import pixel_values
from jaxprof.reduce.joint.pixel_signal import pixel_signal
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.reduce.joint.response import DatasetResponse
from jaxprof.types import Array

MOST_PEAKS = 3
"""Peaks of residuals that users are told of."""


@jit_quickly()
def _on_off(n_on: Any, n_off: Any, alpha: Any, signal: Any) -> tuple[Any, ...]:
    """Rates of ON and OFF counts; the statistic, its mean and its variance."""
    off, on, _ = wstat_rates(n_on, n_off, alpha, signal)
    return on, off, wstat(n_on, n_off, alpha, signal), *wstat_expectation(on, off)


class _Regions(NamedTuple):
    """What was observed and fitted in the disjoint regions: counts, background and sum, (N,) each.

    With ``stat``, ``expected``, ``variance`` and ``n_counts_bins`` of each, and the
    `highest_peaks` of bins and guard bins, None of On-Off data.
    """

    counts: Array
    background: Array
    npred: Array
    goodness: dict[str, Array]
    peaks: Peaks | None


@dataclass(frozen=True)
class Prediction:
    """Counts of one energy group in the pixels of each bin."""

    counts: dict[str, Array]
    """``counts``, ``npred`` and ``npred_background``: observed, predicted in all, and of the
    background (with fixed sources of the dataset). ``npred_excess`` and ``npred_excess_ref``:
    counts that a bin's own emission makes anywhere in the fit, as fitted and at norm one.
    ``npred_guard``, ``npred_other`` and ``npred_leaked``: predicted counts in a bin from guard
    bins, from other sources and from other bins; (B, D)."""
    response: Array
    """Counts in the pixels of a bin (first axis) from the emission of another at norm one,
    (B, B)."""
    goodness: dict[str, float]
    """``stat``, ``expected``, ``variance`` and ``n_counts_bins`` over all pixels."""
    bin_goodness: dict[str, Array]
    """The same over the pixels of each bin, (B,)."""
    peak: Array
    """Significance of the highest peak of the residuals in each bin, see
    `~jaxprof.estimators.bin_residuals`, (B,)."""
    peaks: list[Peaks | None]
    """The highest peaks of each dataset, of bins and guard bins."""


def background_factor(result: GroupResult, number: int, log_energy: Array) -> Array:
    """Fitted norm and tilt of a dataset's background, as a factor per energy."""
    data = result.data
    if not data.n_nuisance:
        return np.ones_like(log_energy)
    norm, tilt = result.fit.values[data.nuisance_start + 2 * number :][:2]
    factor = norm * np.exp(-tilt * log_energy)
    return factor if result.fit.converged else np.full_like(factor, np.nan)


def predict(problem: JointProblem, result: GroupResult) -> Prediction:
    """Predicted counts of a fitted group."""
    n_bins = problem.n_bins
    columns: list[dict[str, Array]] = []
    response = np.zeros((n_bins, n_bins))
    goodness: dict[str, float] = {}
    per_bin: dict[str, Array] = {}
    peaks: list[Peaks | None] = []
    for number, (dataset, own) in enumerate(problem.pairs()):
        sums = own.per_component(len(problem.response.components))[..., result.group.bins[number]]
        fitted = np.einsum("cq,ncqe->nce", result.coefficients[number], sums)
        at_one = np.einsum("cq,ncqe->nc", result.coefficients_one[number], sums)
        members = own.disjoint.members[:, :n_bins].astype(float)
        observed = _on_off_regions if isinstance(dataset, MapDatasetOnOff) else _cash_regions
        regions = observed(dataset, own, result, number, fitted.sum(axis=1))
        columns.append(_of_bins(problem, members, regions, fitted.sum(axis=2), at_one))
        response += members.T @ at_one[:, :n_bins]
        for name, part in regions.goodness.items():
            goodness[name] = goodness.get(name, 0.0) + float(part.sum())
            per_bin[name] = per_bin.get(name, 0.0) + members.T @ part
        peaks.append(regions.peaks)
    # Of several datasets the one with the highest peak, for as many tries.
    chance = [own.probability[:n_bins] for own in peaks if own is not None]
    tries = np.stack(chance) if chance else np.full((1, n_bins), np.nan)
    seen = np.isfinite(tries).any(axis=0)
    lowest = len(tries) * np.min(np.where(np.isfinite(tries), tries, 1.0), axis=0)
    return Prediction(
        counts={name: np.stack([own[name] for own in columns], axis=-1) for name in columns[0]},
        response=response,
        goodness=goodness,
        bin_goodness=per_bin,
        peak=peak_significance(np.where(seen, np.minimum(lowest, 1.0), np.nan)),
        peaks=peaks,
    )


def _of_bins(
    problem: JointProblem, members: Array, regions: _Regions, signal: Array, at_one: Array
) -> dict[str, Array]:
    """Counts of one dataset by their names in `Prediction`; signals of components are (N, C)."""
    n_bins, n_regions = problem.n_bins, problem.response.components.n_regions
    own = np.einsum("nb,nb->b", members, signal[:, :n_bins])
    return {
        "counts": members.T @ regions.counts,
        "npred": members.T @ regions.npred,
        "npred_background": members.T @ regions.background,
        "npred_excess": signal[:, :n_bins].sum(axis=0),
        "npred_excess_ref": at_one[:, :n_bins].sum(axis=0),
        "npred_guard": members.T @ signal[:, n_bins:n_regions].sum(axis=1),
        "npred_other": members.T @ signal[:, n_regions:].sum(axis=1),
        "npred_leaked": members.T @ signal[:, :n_bins].sum(axis=1) - own,
    }


def _on_off_regions(
    _: MapDataset, own: DatasetResponse, result: GroupResult, number: int, signal: Array
) -> _Regions:
    """Of On-Off data, from the sums that were fitted; the signal of all components is (N, E)."""
    block = next(b for b in result.data.blocks if hasattr(b, "n_on") and b.dataset == number)
    n_e = signal.shape[1] if not len(block.n_on[0]) == 1 else 1
    n_on, n_off, alpha, mask = (
        np.asarray(a)[:, :n_e] for a in (block.n_on, block.n_off, block.alpha, block.mask)
    )
    if n_e != signal.shape[1]:
        signal = signal.sum(axis=1, keepdims=True)
    on, off, *parts = map(np.asarray, _on_off(n_on, n_off, alpha, signal))
    sums = [np.where(mask, part, 0.0).sum(axis=1) for part in parts]
    goodness = dict(zip(("stat", "expected", "variance"), sums, strict=True))
    goodness["n_counts_bins"] = mask.sum(axis=1).astype(float)
    return _Regions(n_on.sum(axis=1), (alpha * off).sum(axis=1), on.sum(axis=1), goodness, None)


def _cash_regions(
    dataset: MapDataset, own: DatasetResponse, result: GroupResult, number: int, signal: Array
) -> _Regions:
    """Of data with a known background; their goodness is that of pixels, which the eye sees."""
    assert dataset.counts is not None
    bins = result.group.bins[number]
    counts = pixel_values(dataset.counts.data, own, bins)  # (E, N, P)
    background = _background(dataset, own, result, number)
    npred = background + pixel_signal(own, result.coefficients[number], bins)
    # Rounding, and pixels of a disjoint region without counts, may lie below zero.
    npred, mask = np.maximum(npred, 1e-25), own.mask[bins]
    known = np.isfinite(npred).all()
    summed = background.sum(axis=(0, 2))
    return _Regions(
        counts.sum(axis=(0, 2)),
        summed,
        summed + signal.sum(axis=1),
        _goodness(counts, npred, mask),
        _peaks(own, counts, npred, mask) if known else None,
    )


def _background(
    dataset: MapDataset, own: DatasetResponse, result: GroupResult, number: int
) -> Array:
    """Background and fixed counts in the pixels of the disjoint regions, (E, N, P)."""
    bins = result.group.bins[number]
    factor = background_factor(result, number, log_energies(dataset.energy_axis, bins))
    total = np.zeros(own.mask[bins].shape)
    if dataset.background is not None:
        total += factor[:, np.newaxis, np.newaxis] * pixel_values(
            dataset.background.data, own, bins
        )
    if dataset.npred_sources is not None:
        total += pixel_values(dataset.npred_sources.data, own, bins)
    return total


def _goodness(counts: Array, npred: Array, mask: Array) -> dict[str, Array]:
    """Cash statistic with its saturated term, its expectation and variance, by region (N,)."""
    n_counts_bins = mask.sum(axis=(0, 2)).astype(float)
    counts, npred = counts[mask], npred[mask]
    ratio = np.where(counts > 0, counts, 1.0) / npred
    terms = 2 * (npred - counts + np.where(counts > 0, counts * np.log(ratio), 0.0))
    values = dict(zip(("expected", "variance"), cash_moments(np, npred), strict=True))
    region = np.broadcast_to(np.arange(mask.shape[1])[:, np.newaxis], mask.shape)[mask]
    sums = {
        name: np.bincount(region, part, minlength=mask.shape[1])
        for name, part in {"stat": terms, **values}.items()
    }
    return {**sums, "n_counts_bins": n_counts_bins}


def _peaks(own: DatasetResponse, counts: Array, npred: Array, mask: Array) -> Peaks:
    """`highest_peaks` of bins and guard bins, of counts summed over energy."""
    y, x, members = own.disjoint.y, own.disjoint.x, own.disjoint.members
    used = mask.any(axis=0)
    y0, x0 = y[used].min(initial=y.max()), x[used].min(initial=x.max())
    shape = (int(y[used].max(initial=y0) - y0) + 1, int(x[used].max(initial=x0) - x0) + 1)
    at = (y[used] - y0, x[used] - x0)
    images = np.zeros((2, *shape))
    for image, part in zip(images, (counts, npred), strict=True):
        np.add.at(image, at, np.where(mask, part, 0.0).sum(axis=0)[used])
    inside = np.zeros((members.shape[1], *shape), bool)
    for b, own_members in enumerate(members.T > 0):
        own_pixels = used & own_members[:, np.newaxis]
        inside[b, y[own_pixels] - y0, x[own_pixels] - x0] = True
    found = highest_peaks(images[0], images[1], inside)
    return found._replace(y=found.y + y0, x=found.x + x0)


def most_significant_peaks(
    problem: JointProblem, predictions: Sequence[Prediction], which: Array
) -> list[Peak]:
    """Peaks of the residuals in some bins and groups (B, G), one for each place, the highest first.

    At most `MOST_PEAKS`.
    """
    geoms = [dataset.geom.to_image() for dataset in problem.datasets]
    height = np.where(which, np.stack([own.peak for own in predictions], axis=1), np.nan)
    highest: list[Peak] = []
    for flat in np.argsort(-np.nan_to_num(height), axis=None)[: 4 * MOST_PEAKS]:
        b, group = np.unravel_index(flat, height.shape)
        if not height[b, group] > 0 or len(highest) == MOST_PEAKS:
            break
        pairs = zip(predictions[group].peaks, geoms, strict=True)
        seen = [(own, geom) for own, geom in pairs if own is not None]
        found, geom = min(seen, key=lambda pair: np.nan_to_num(pair[0].probability[b], nan=2.0))
        _, y, x, radius, counts, npred = (float(part[b]) for part in found)
        position = pixel_to_skycoord(x, y, geom.wcs)
        radius *= float(geom.pixel_scales.to_value("deg").max())
        if all(position.separation(other.position).deg > 2 * radius for other in highest):
            significance = float(height[b, group])
            highest.append(Peak(int(group), significance, position, radius, counts, npred))
    return highest
