"""Predicted counts of a joint fit: per bin, and pixel by pixel for the goodness of fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxprof.compilation import jit_quickly
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.estimators.bin_residuals import peak_probability, peak_significance
from jaxprof.estimators.fitting import GroupResult
from jaxprof.likelihood.goodness import cash_moments, wstat_expectation
from jaxprof.likelihood.statistics import wstat, wstat_rates
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.joint.counts import pixel_values
from jaxprof.reduce.joint.pixel_signal import pixel_signal
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.reduce.joint.response import DatasetResponse

Array = NDArray[Any]


@jit_quickly()
def _on_off(n_on: Any, n_off: Any, alpha: Any, signal: Any) -> tuple[Any, ...]:
    """Rates of ON and OFF counts; the statistic, its mean and its variance."""
    off, on, _ = wstat_rates(n_on, n_off, alpha, signal)
    return on, off, wstat(n_on, n_off, alpha, signal), *wstat_expectation(on, off)


class _Regions(NamedTuple):
    """Counts, background and prediction in the disjoint regions, (N,) each.

    With ``goodness`` of On-Off data, None of others.
    """

    counts: Array
    background: Array
    npred: Array | None
    goodness: dict[str, Array] | None


@dataclass(frozen=True)
class Prediction:
    """Counts of one energy group in the pixels of each bin.

    Attributes
    ----------
    counts, npred, npred_background : ndarray, shape (B, D)
        Observed, predicted in all, and of the background (with fixed sources of the dataset).
    npred_excess, npred_excess_ref : ndarray, shape (B, D)
        Counts that a bin's own emission makes anywhere in the fit, as fitted and at norm one.
    npred_guard, npred_other, npred_leaked : ndarray, shape (B, D)
        Predicted counts in a bin from guard bins, from other sources and from other bins.
    response : ndarray, shape (B, B)
        Counts in the pixels of a bin (first axis) from the emission of another at norm one.
    n_counts_bins : ndarray, shape (B,)
        Number of pixels in use, summed over energies and datasets.
    goodness : dict of float
    n_counts_bins = mask.sum(axis=(0, 2)).astype(float)
    bin_goodness : dict of ndarray, shape (B,)
        ``stat``, ``expected`` and ``variance`` over the pixels of each bin.
    peak : ndarray, shape (B,)
        Significance of the highest peak of the residuals in each bin, see
        `~jaxprof.estimators.bin_residuals`.
    """

    counts: Array
    npred: Array
    npred_background: Array
    npred_excess: Array
    npred_excess_ref: Array
    npred_guard: Array
    npred_other: Array
    npred_leaked: Array
    response: Array
    n_counts_bins: Array
    goodness: dict[str, float]
    bin_goodness: dict[str, Array]
    peak: Array


def background_factor(result: GroupResult, number: int, log_energy: Array) -> Array:
    """Fitted norm and tilt of a dataset's background, as a factor per energy."""
    data = result.data
    if not data.n_nuisance:
        return np.ones_like(log_energy)
    norm, tilt = result.fit.values[data.nuisance_start + 2 * number :][:2]
    factor = norm * np.exp(-tilt * log_energy)
    return factor if result.fit.converged else np.full_like(factor, np.nan)


def predict(problem: JointProblem, result: GroupResult) -> Prediction:
    """Predicted counts of a fitted group.

    Parameters
    ----------
    problem : JointProblem
        What was fitted.
    result : GroupResult
        The fit.

    Returns
    -------
    Prediction
    """
    components = problem.response.components
    n_bins, n_regions = components.n_bins, components.n_regions
    columns: dict[str, list[Array]] = {}
    matrix = np.zeros((n_bins, n_bins))
    n_counts_bins = np.zeros(n_bins)
    goodness = dict.fromkeys(("stat", "expected", "variance", "n_counts_bins"), 0.0)
    per_bin = {name: np.zeros(n_bins) for name in ("stat", "expected", "variance")}
    chance: list[Array] = []
    for number, (dataset, own) in enumerate(problem.pairs()):
        bins = result.group.bins[number]
        sums = own.per_component(len(components))[..., bins]
        fitted = np.einsum("cq,ncqe->nce", result.coefficients[number], sums)
        at_one = np.einsum("cq,ncqe->nc", result.coefficients_one[number], sums)
        members = own.disjoint.members[:, :n_bins].astype(float)
        regions = _observed(dataset, own, result, number, fitted.sum(axis=1))
        counts, background, on = regions[:3]
        signal = fitted.sum(axis=2)
        own_signal = np.einsum("nb,nb->b", members, signal[:, :n_bins])
        total = on if on is not None else background + signal.sum(axis=1)
        values = {
            "counts": members.T @ counts,
            "npred": members.T @ total,
            "npred_background": members.T @ background,
            "npred_excess": signal[:, :n_bins].sum(axis=0),
            "npred_excess_ref": at_one[:, :n_bins].sum(axis=0),
            "npred_guard": members.T @ signal[:, n_bins:n_regions].sum(axis=1),
            "npred_other": members.T @ signal[:, n_regions:].sum(axis=1),
            "npred_leaked": members.T @ signal[:, :n_bins].sum(axis=1) - own_signal,
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
        matrix += members.T @ at_one[:, :n_bins]
        n_counts_bins += members.T @ own.mask[bins].sum(axis=(0, 2))
        pixels = _pixels(dataset, own, result, number)
        parts = _goodness(pixels, own.mask[bins]) if pixels is not None else regions.goodness
        assert parts is not None
        goodness = {name: goodness[name] + float(part.sum()) for name, part in parts.items()}
        per_bin = {name: value + members.T @ parts[name] for name, value in per_bin.items()}
        if pixels is not None and np.isfinite(pixels[1]).all():
            chance.append(_peaks(own, pixels, own.mask[bins], members > 0))
    stacked = {name: np.stack(parts, axis=-1) for name, parts in columns.items()}
    # Of several datasets the one with the highest peak, for as many tries.
    tries = np.stack(chance) if chance else np.full((1, n_bins), np.nan)
    seen = np.isfinite(tries).any(axis=0)
    lowest = len(tries) * np.min(np.where(np.isfinite(tries), tries, 1.0), axis=0)
    return Prediction(
        **stacked,
        response=matrix,
        n_counts_bins=n_counts_bins,
        goodness=goodness,
        bin_goodness=per_bin,
        peak=peak_significance(np.where(seen, np.minimum(lowest, 1.0), np.nan)),
    )


def _observed(
    dataset: MapDataset, own: DatasetResponse, result: GroupResult, number: int, signal: Array
) -> _Regions:
    """What was observed and fitted in the disjoint regions; ``signal`` is (N, E)."""
    if isinstance(dataset, MapDatasetOnOff):
        return _on_off_regions(result, number, signal)
    assert dataset.counts is not None
    counts = pixel_values(dataset.counts.data, own, result.group.bins[number]).sum(axis=(0, 2))
    background = _background(dataset, own, result, number).sum(axis=(0, 2))
    return _Regions(counts, background, None, None)


def _on_off_regions(result: GroupResult, number: int, signal: Array) -> _Regions:
    """The same of On-Off data, from the sums that were fitted."""
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
    return _Regions(n_on.sum(axis=1), (alpha * off).sum(axis=1), on.sum(axis=1), goodness)


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


def _pixels(
    dataset: MapDataset, own: DatasetResponse, result: GroupResult, number: int
) -> tuple[Array, Array] | None:
    """Observed and predicted counts in the pixels of the disjoint regions, (E, N, P).

    Whatever the likelihood: that is what the eye sees. On-Off data have no prediction of their
    background: None.
    """
    if isinstance(dataset, MapDatasetOnOff):
        return None
    assert dataset.counts is not None
    bins = result.group.bins[number]
    npred = _background(dataset, own, result, number)
    npred = npred + pixel_signal(own, result.coefficients[number], bins)
    # Rounding, and pixels of a disjoint region without counts, may lie below zero.
    return pixel_values(dataset.counts.data, own, bins), np.maximum(npred, 1e-25)


def _goodness(pixels: tuple[Array, Array], mask: Array) -> dict[str, Array]:
    """Cash statistic with its saturated term, its expectation and variance, by region (N,)."""
    n_counts_bins = mask.sum(axis=(0, 2)).astype(float)
    counts, npred = (part[mask] for part in pixels)
    ratio = np.where(counts > 0, counts, 1.0) / npred
    terms = 2 * (npred - counts + np.where(counts > 0, counts * np.log(ratio), 0.0))
    values = dict(zip(("expected", "variance"), cash_moments(np, npred), strict=True))
    region = np.broadcast_to(np.arange(mask.shape[1])[:, np.newaxis], mask.shape)[mask]
    sums = {
        name: np.bincount(region, part, minlength=mask.shape[1])
        for name, part in {"stat": terms, **values}.items()
    }
    return {**sums, "n_counts_bins": n_counts_bins}


def _peaks(own: DatasetResponse, pixels: tuple[Array, Array], mask: Array, members: Array) -> Array:
    """`peak_probability` of the bins, of counts summed over energy."""
    y, x = own.disjoint.y, own.disjoint.x
    used = mask.any(axis=0)
    y0, x0 = y[used].min(initial=y.max()), x[used].min(initial=x.max())
    shape = (int(y[used].max(initial=y0) - y0) + 1, int(x[used].max(initial=x0) - x0) + 1)
    at = (y[used] - y0, x[used] - x0)
    counts, npred = np.zeros(shape), np.zeros(shape)
    for image, part in ((counts, pixels[0]), (npred, pixels[1])):
        np.add.at(image, at, np.where(mask, part, 0.0).sum(axis=0)[used])
    inside = np.zeros((members.shape[1], *shape), bool)
    for b in range(members.shape[1]):
        own_pixels = used & members[:, b, np.newaxis]
        inside[b, y[own_pixels] - y0, x[own_pixels] - x0] = True
    return peak_probability(counts, npred, inside)
