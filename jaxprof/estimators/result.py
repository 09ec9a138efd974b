"""From joint fits to what a profile reports: quantities, nuisance parameters, goodness of fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Column, Table

from jaxprof.estimators.bin_residuals import Peak, oversubtracted, peaked, signed_significance
from jaxprof.estimators.group_fit import GroupResult, free_sources
from jaxprof.estimators.options import Selection
from jaxprof.estimators.prediction import Prediction, most_significant_peaks, predict
from jaxprof.likelihood.data import Status
from jaxprof.profile.joint import correlation_of
from jaxprof.profile.reference import reference_fluxes
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.reduce.joint.response import emission_sizes
from jaxprof.reduce.region_checks import solid_angle_of_pixels
from jaxprof.sky.regions import region_solid_angles
from jaxprof.types import Array


def joint_quantities(
    problem: JointProblem, results: Sequence[GroupResult], selection: Selection
) -> tuple[dict[str, Array], dict[str, Array] | None, dict[str, Table | None], list[Peak]]:
    """Everything that a profile reports of fits of all energy groups.

    The quantities, see `FluxProfile`; fluxes at norm one, (B, G), of spectra with fitted
    parameters; the tables ``nuisance`` and ``goodness``; peaks that the fit does not describe.
    """
    predictions = [predict(problem, result) for result in results]
    quantities = _quantities(problem, results, predictions, selection)
    tables = {
        "nuisance": nuisance_table(problem, results),
        "goodness": goodness_table(results, predictions),
    }
    which = peaked(quantities["residual_peak"]) & quantities["misfit"]
    peaks = most_significant_peaks(problem, predictions, which)
    return quantities, _fitted_reference(problem, results, quantities), tables, peaks


def _quantities(
    problem: JointProblem,
    results: Sequence[GroupResult],
    predictions: list[Prediction],
    selection: Selection,
) -> dict[str, Array]:
    """Quantities, see `FluxProfile`."""
    response, names = problem.response, problem.model.free_spectral_parameters
    n_bins = problem.n_bins
    n_own = results[0].data.n_shape + 1
    norms = np.arange(n_bins) * n_own

    def per_group(parts: list[Array]) -> Array:
        return np.stack(parts, axis=1)

    norm = per_group([r.fit.values[norms] for r in results])
    covariance = per_group([r.fit.covariance[np.ix_(norms, norms)] for r in results])
    stat = per_group([np.full(n_bins, r.fit.stat) for r in results])
    ts = per_group([r.values["ts"] for r in results])
    status = per_group([r.fit.status[:n_bins] for r in results])
    status = _refined(status, predictions, problem.in_use[:n_bins])
    quantities: dict[str, Array] = {
        "norm": norm,
        "norm_err": per_group([r.errors[norms] for r in results]) * selection.n_sigma,
        "norm_covariance": covariance,
        "stat": np.where(np.isfinite(norm), stat, np.nan),
        "stat_null": stat + ts,
        "ts": ts,
    }
    for name in ("norm_errn", "norm_errp", "norm_ul", "norm_sensitivity"):
        if name in results[0].values:
            quantities[name] = per_group([r.values[name] for r in results])
    if "scan" in selection:
        for name, suffix in (("scan", ""), ("scan_conditional", "_conditional")):
            rise = per_group([r.values[name] for r in results])
            quantities[f"stat_scan{suffix}"] = stat[..., np.newaxis] + rise
        quantities["norm_scan"] = per_group([r.values["scan_norms"] for r in results])
    for position, name in enumerate(names, start=1):
        own = per_group([r.fit.values[norms + position] for r in results])
        quantities[name] = np.where(np.isfinite(norm), own, np.nan)
        own = per_group([r.errors[norms + position] for r in results])
        quantities[f"{name}_err"] = own * selection.n_sigma
    quantities |= _counts(predictions, len(problem.datasets))
    quantities["response"] = per_group([p.response for p in predictions])
    significance = signed_significance(norm, ts, len(names))
    quantities |= _misfits(predictions, significance, covariance)
    quantities["success"] = status <= Status.BOUNDARY
    quantities["status"] = status
    # Where no signal is expected there is no template to blame.
    quantities["misfit"] &= status != Status.NO_EXPOSURE
    quantities["coverage"] = problem.coverage
    sizes = emission_sizes(response.components, response.datasets)
    quantities["solid_angle"] = solid_angle_of_pixels(sizes.values())
    quantities["region_solid_angle"] = region_solid_angles(response.components.regions)
    return quantities


def _misfits(
    predictions: list[Prediction], significance: Array, covariance: Array
) -> dict[str, Array]:
    """Whether the model describes what is in each bin; see `jaxprof.estimators.bin_residuals`."""
    parts = [p.bin_goodness for p in predictions]
    stat, expected, variance = (
        np.stack([part[name] for part in parts], axis=1)
        for name in ("stat", "expected", "variance")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(variance > 0, (stat - expected) / np.sqrt(variance), np.nan)
    peak = np.stack([p.peak for p in predictions], axis=1)
    correlation = correlation_of(np.moveaxis(covariance, 1, 0))
    negative, bright = oversubtracted(significance, correlation)
    return {
        "goodness_z": z,
        "residual_peak": peak,
        "misfit": peaked(peak) | negative | bright,
    }


def _refined(status: Array, predictions: list[Prediction], in_use: Array) -> Array:
    """Tell bins without counts, and without any pixel in use, from other special cases."""
    counts = np.stack([p.counts["counts"].sum(axis=-1) for p in predictions], axis=1)
    pixels = np.stack([p.bin_goodness["n_counts_bins"] for p in predictions], axis=1)
    empty = (status == Status.BOUNDARY) & (counts == 0) & (pixels > 0)
    status = np.where(empty, Status.ZERO_COUNTS, status)
    return seen_status(status, in_use)


def _counts(predictions: list[Prediction], n_datasets: int) -> dict[str, Array]:
    """Observed and predicted counts, (B, G) for one dataset and (B, G, D) for several."""
    found = {}
    for name in predictions[0].counts:
        values = np.stack([p.counts[name] for p in predictions], axis=1)
        whole = n_datasets == 1 or name in ("npred_guard", "npred_other", "npred_leaked")
        found[name] = values.sum(axis=-1) if whole else values
    return found


def _fitted_reference(
    problem: JointProblem, results: Sequence[GroupResult], quantities: dict[str, Array]
) -> dict[str, Array] | None:
    """Fluxes at norm one of spectra with fitted parameters, (B, G)."""
    names, components = problem.model.free_spectral_parameters, problem.response.components
    if not names:
        return None
    n_bins = problem.n_bins
    found = {name: np.empty((n_bins, len(results))) for name in ("dnde", "flux", "eflux")}
    for column, result in enumerate(results):
        edges = np.array([result.group.edges])
        for row, model in enumerate(components.models[:n_bins]):
            start = reference_fluxes(model, edges)
            fitted = {name: quantities[name][row, column] for name in names}
            own = start
            if all(np.isfinite(value) for value in fitted.values()):
                own = reference_fluxes(model.replace(**fitted), edges)
            for name in found:
                # The norm multiplies the flux in the group, whatever the parameters.
                found[name][row, column] = own[name][0] * (start["flux"][0] / own["flux"][0])
    return found


def nuisance_table(problem: JointProblem, results: Sequence[GroupResult]) -> Table | None:
    """Every nuisance parameter, a row for each group and parameter; None if there is none.

    Columns ``group``, ``dataset``, ``parameter``, ``value``, ``error`` (one standard deviation, NaN
    if fixed), ``fixed`` and ``status``, in words as that of bins; with free sources ``flux`` and
    ``flux_err`` between the edges of the group, ``ts``, and the upper limits ``ul`` of the norm and
    ``flux_ul``, if limits are asked for, NaN for other parameters.
    """
    components, backgrounds = problem.response.components, problem.model.backgrounds
    rows: list[tuple[Any, ...]] = []
    for group, result in enumerate(results):
        data = result.data
        labels: list[tuple[str, str, int, Status]] = []
        status = result.fit.status.copy()
        in_use = problem.in_use[:, group]
        status[: len(in_use)] = seen_status(status[: len(in_use)], in_use)
        whole = Status.OK if result.fit.converged else Status.NOT_CONVERGED
        for index in range(components.n_bins, len(components)):
            if index < components.n_regions:
                label = f"norm of guard bin {index - components.n_bins}"
            else:
                label = f"norm of {components.sources[index - components.n_regions].name}"
            labels.append(("", label, index * (1 + data.n_shape), Status(status[index])))
        if data.n_nuisance:
            pairs = zip(problem.datasets, backgrounds, strict=True)
            for number, (dataset, option) in enumerate(pairs):
                at = data.nuisance_start + 2 * number
                labels.append((dataset.name, "background norm", at, whole))
                if option.tilt != "fixed":
                    labels.append((dataset.name, "background tilt", at + 1, whole))
        rows += [(group, *own, *_fitted(result, at), code.label) for *own, at, code in labels]
    if not rows:
        return None
    columns = ("group", "dataset", "parameter", "value", "error", "fixed", "status")
    table = Table(rows=rows, names=columns)
    return _with_sources(table, problem, results) if free_sources(problem).size else table


def seen_status(status: Array, in_use: Array) -> Array:
    """The outcomes, "fully masked" where no pixel in use lies.

    What leaks out may still tell a norm, but not without the assumption of where the emission
    started.
    """
    lost = ~in_use & (status != Status.NOT_CONVERGED)
    return np.where(lost, Status.FULLY_MASKED, status)


def _with_sources(table: Table, problem: JointProblem, results: Sequence[GroupResult]) -> Table:
    """The table with flux, test statistic and upper limits of the free sources, NaN elsewhere."""
    components = problem.response.components
    limited = "source_ul" in results[0].values
    names = ("flux", "flux_err", "ts", *(("ul", "flux_ul") if limited else ()))
    extra = {name: np.full(len(table), np.nan) for name in names}
    for group, result in enumerate(results):
        for position, index in enumerate(free_sources(problem)):
            name = components.sources[index - components.n_regions].name
            label = table["parameter"] == f"norm of {name}"
            rows = label & (table["group"] == group)
            at_one = float(np.asarray(components.models[index].integral(*result.group.edges)))
            extra["flux"][rows] = at_one * table["value"][rows]
            extra["flux_err"][rows] = at_one * table["error"][rows]
            extra["ts"][rows] = result.values["source_ts"][position]
            if limited:
                extra["ul"][rows] = result.values["source_ul"][position]
                extra["flux_ul"][rows] = at_one * result.values["source_ul"][position]
    for name, values in extra.items():
        unit = "cm-2 s-1" if name.startswith("flux") else None
        table[name] = Column(values, unit=unit, format=".3g")
    return table


def _fitted(result: GroupResult, at: int) -> tuple[float, float, bool]:
    """Value and error of a parameter, and whether it was fixed."""
    fixed = not np.asarray(result.data.free)[at]
    known = fixed or result.fit.converged
    found = result.fit.values[at] if known else np.nan, np.nan if fixed else result.errors[at]
    return float(found[0]), float(found[1]), fixed


def goodness_table(results: Sequence[GroupResult], predictions: Sequence[Prediction]) -> Table:
    """The statistic against its expectation, a row for each group.

    Columns ``stat`` (with the saturated term, over all pixels of the fit), ``expected`` and ``std``
    of it if the fitted prediction is true, ``n_counts_bins`` (number of counts bins), ``n_free``
    and ``z = (stat - expected) / std``. Fitting lowers ``stat`` by about ``n_free`` where counts
    are many. The statistic is Cash, for On-Off data that of the regions' ON and OFF counts with the
    background profiled; of these ``expected``, ``std`` and ``z`` are NaN where fewer than 20 ON or
    OFF counts are predicted anywhere, see `wstat_expectation` (toys give p-values at any counts).
    """
    rows = []
    for result, prediction in zip(results, predictions, strict=True):
        stat, expected, variance, n_counts_bins = (
            prediction.goodness[name] for name in ("stat", "expected", "variance", "n_counts_bins")
        )
        std, n_free = np.sqrt(variance), int(np.sum(np.asarray(result.data.free)))
        z = (stat - expected) / std if std > 0 else np.nan
        rows.append((stat, expected, std, n_counts_bins, n_free, z))
    return Table(rows=rows, names=("stat", "expected", "std", "n_counts_bins", "n_free", "z"))
