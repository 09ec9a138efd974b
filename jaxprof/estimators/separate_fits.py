"""Fits of each bin by itself, and what is predicted for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxprof.compilation import jit_quickly
from jaxprof.estimators.fit_warnings import without_background
from jaxprof.estimators.options import Selection
from jaxprof.estimators.precision import in_precision
from jaxprof.inference.fit import fit_norms
from jaxprof.inference.intervals import limits as norm_limits
from jaxprof.inference.scan import scan as scan_norms
from jaxprof.inference.sensitivity import sensitivity
from jaxprof.likelihood.data import Data, NormFit, OnOffData, Status, blocks
from jaxprof.likelihood.statistics import wstat_rates
from jaxprof.reduce.separate import Reduction
from jaxprof.types import Array

_wstat_rates = jit_quickly()(wstat_rates)


def separate_fits(
    data: Data, selection: Selection, bounds: tuple[float | None, float | None], precision: str
) -> tuple[NormFit, dict[str, Array]]:
    """Fit all norms in a precision, and compute all that follows from the data (B, G, E) alone.

    The quantities are in float64, by their names in a profile.
    """
    low, high = bounds
    data = in_precision(data, precision)
    fit = fit_norms(data, norm_min=low, norm_max=high)
    found = {
        "norm": fit.norm,
        "norm_err": np.array(fit.norm_err) * selection.n_sigma,
        "stat": fit.stat,
        "stat_null": fit.stat_null,
        "ts": fit.ts,
    }
    if selection.quantities & {"errn-errp", "ul"}:
        limits = norm_limits(
            data,
            fit,
            n_sigma=selection.n_sigma,
            n_sigma_ul=selection.n_sigma_ul,
            norm_min=low,
            norm_max=high,
        )
        if "errn-errp" in selection:
            found |= {"norm_errn": limits.norm_errn, "norm_errp": limits.norm_errp}
        if "ul" in selection:
            found["norm_ul"] = limits.norm_ul
    if "sensitivity" in selection:
        norm = sensitivity(data, n_sigma=selection.n_sigma_sensitivity)
        # It would be nothing but the floor of the predicted counts.
        found["norm_sensitivity"] = np.where(without_background(data), np.nan, norm)
    arrays: dict[str, Array] = {name: np.array(value, np.float64) for name, value in found.items()}
    status = np.array(fit.status)
    if "scan" in selection:
        values: Any = selection.scan.values
        if values is None:
            far = norm_limits(
                data, fit, n_sigma=selection.scan.n_sigma, norm_min=low, norm_max=high
            )
            parts = (fit.norm, far.norm_errn, far.norm_errp, fit.norm_err)
            best, below, above, error = (np.array(part, np.float64) for part in parts)
            values = selection.scan.around(best, (below, above, error), bounds)
        scan = np.array(scan_norms(data, values), np.float64)
        scan[status == Status.FULLY_MASKED] = np.nan
        arrays["stat_scan"] = scan
        arrays["norm_scan"] = np.broadcast_to(values, scan.shape).copy()
    arrays["success"] = status <= Status.BOUNDARY
    arrays["status"] = status
    return fit, arrays


def predictions(reduction: Reduction, fit: NormFit) -> dict[str, Array]:
    """Observed and predicted counts, (B, G) for one dataset and (B, G, D) for several."""
    n_datasets = len(reduction.parts)
    norm = np.array(fit.norm, np.float64)[:, :, np.newaxis]
    observed, backgrounds, signals, references = [], [], [], []
    for block in blocks(reduction.data):
        reference = np.where(block.mask, block.npred_ref, 0.0)
        signal = norm * reference
        if isinstance(block, OnOffData):
            counts = block.n_on
            n_off = np.where(block.mask, block.n_off, 0.0)
            alpha = np.where(block.mask, block.alpha, 1.0)
            off, on, _ = _wstat_rates(np.where(block.mask, counts, 0.0), n_off, alpha, signal)
            background, total = alpha * np.array(off), np.array(on)
        else:
            counts = block.counts
            background = block.background
            total = np.maximum(background + signal, 0.0)
        observed.append(np.where(block.mask, counts, 0.0))
        backgrounds.append(np.where(block.mask, background, 0.0))
        signals.append(np.where(block.mask, total, 0.0))
        references.append(reference)
    owner = reduction.bin_dataset

    def per_dataset(parts: list[Array]) -> Array:
        values = np.concatenate(parts, axis=2)
        sums = [values[:, :, owner == index].sum(axis=2) for index in range(n_datasets)]
        return sums[0] if n_datasets == 1 else np.stack(sums, axis=-1)

    reference, background = per_dataset(references), per_dataset(backgrounds)
    # Where everything is masked there is no background either, rather than one of zero.
    background[np.array(fit.status) == Status.FULLY_MASKED] = np.nan
    scale = norm[:, :, 0] if n_datasets == 1 else norm
    return {
        "counts": per_dataset(observed),
        # A fit that failed predicts nothing, not even a background.
        "npred": np.where(np.isfinite(scale), per_dataset(signals), np.nan),
        "npred_excess": scale * reference,
        "npred_background": background,
        "npred_excess_ref": reference,
    }
