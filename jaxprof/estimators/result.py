"""From joint fits to the profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.datasets.gti import joined_gti
from jaxprof.estimators.fitting import GroupResult
from jaxprof.estimators.prediction import Prediction, predict
from jaxprof.estimators.summary import goodness_table, nuisance_table
from jaxprof.likelihood.data import Status
from jaxprof.profile import FluxProfile
from jaxprof.profile.quantities import reference_fluxes
from jaxprof.reduce.joint.parameters import background_options
from jaxprof.reduce.joint.problem import coverage, seen
from jaxprof.reduce.joint.response import ForwardResponse, emission_sizes
from jaxprof.reduce.region_checks import solid_angle_of_pixels
from jaxprof.sky.regions import profile_axis, region_solid_angles

if TYPE_CHECKING:
    from jaxprof.estimators.joint import ForwardFoldingProfileEstimator

Array = NDArray[Any]


def joint_profile(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    results: Sequence[GroupResult],
    options: ForwardFoldingProfileEstimator,
    wanted: set[str],
) -> FluxProfile:
    """The profile of fits of all energy groups.

    Parameters
    ----------
    datasets : sequence of MapDataset
        What was fitted.
    response : ForwardResponse
        Their response.
    results : sequence of GroupResult
        One for each group.
    options : ForwardFoldingProfileEstimator
        Tells what to report.
    wanted : set of str
        Optional quantities.

    Returns
    -------
    FluxProfile
    """
    quantities, reference, predictions = _quantities(datasets, response, results, options, wanted)
    names = [dataset.name for dataset in datasets]
    backgrounds = background_options(options.background, names)
    return FluxProfile(
        quantities,
        axis=profile_axis(options.regions),
        energy_edges=np.array([result.group.edges for result in results]),
        reference_model=options.spectral_model,
        reference_models=options.spectral_models,
        reference=reference,
        regions=options.regions,
        dataset_names=names,
        n_sigma=options.n_sigma,
        n_sigma_ul=options.n_sigma_ul,
        n_sigma_sensitivity=options.n_sigma_sensitivity,
        gti=joined_gti([dataset.gti for dataset in datasets]),
        nuisance=nuisance_table(response.components, results, names, backgrounds),
        goodness=goodness_table(results, predictions),
        meta={"estimator": type(options).__name__, "likelihood": options.likelihood},
    )


def _quantities(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    results: Sequence[GroupResult],
    options: ForwardFoldingProfileEstimator,
    wanted: set[str],
) -> tuple[dict[str, Array], dict[str, Array] | None, list[Prediction]]:
    """Quantities (see `FluxProfile`), reference fluxes if these were fitted, and predictions."""
    n_bins = response.components.n_bins
    n_own = results[0].data.n_shape + 1
    norms = np.arange(n_bins) * n_own

    def per_group(parts: list[Array]) -> Array:
        return np.stack(parts, axis=1)

    norm = per_group([r.fit.values[norms] for r in results])
    covariance = per_group([r.fit.covariance[np.ix_(norms, norms)] for r in results])
    stat = per_group([np.full(n_bins, r.fit.stat) for r in results])
    ts = per_group([r.values["ts"] for r in results])
    predictions = [predict(datasets, response, r) for r in results]
    status = per_group([r.fit.status[:n_bins] for r in results])
    groups = [result.group for result in results]
    status = _refined(status, predictions, seen(datasets, response, groups))
    quantities: dict[str, Array] = {
        "norm": norm,
        "norm_err": per_group([r.errors[norms] for r in results]) * options.n_sigma,
        "norm_covariance": covariance,
        "stat": np.where(np.isfinite(norm), stat, np.nan),
        "stat_null": stat + ts,
        "ts": ts,
    }
    for name in ("norm_errn", "norm_errp", "norm_ul", "norm_sensitivity"):
        if name in results[0].values:
            quantities[name] = per_group([r.values[name] for r in results])
    if "scan" in wanted:
        values = options.norm.values()
        for name, suffix in (("scan", ""), ("scan_conditional", "_conditional")):
            rise = per_group([r.values[name] for r in results])
            quantities[f"stat_scan{suffix}"] = stat[..., np.newaxis] + rise
        shape = quantities["stat_scan"].shape
        quantities["norm_scan"] = np.broadcast_to(values, shape).copy()
    for position, name in enumerate(options.free_spectral_parameters, start=1):
        quantities[name] = per_group(
            [
                np.where(np.isfinite(r.fit.values[norms]), r.fit.values[norms + position], np.nan)
                for r in results
            ]
        )
        own = per_group([r.errors[norms + position] for r in results])
        quantities[f"{name}_err"] = own * options.n_sigma
    quantities |= _counts(datasets, predictions)
    quantities["response"] = per_group([p.response for p in predictions])
    quantities["success"] = status <= Status.BOUNDARY
    quantities["status"] = status
    quantities["coverage"] = coverage(datasets, response, groups)
    sizes = emission_sizes(response.components, response.datasets)
    quantities["solid_angle"] = solid_angle_of_pixels(sizes)
    quantities["region_solid_angle"] = region_solid_angles(response.components.regions)
    reference = _fitted_reference(response, results, options, quantities)
    return quantities, reference, predictions


def _refined(status: Array, predictions: list[Prediction], in_use: Array) -> Array:
    """Tell bins without counts, and without any pixel in use, from other special cases."""
    counts = np.stack([p.counts.sum(axis=-1) for p in predictions], axis=1)
    pixels = np.stack([p.n_slots for p in predictions], axis=1)
    empty = (status == Status.BOUNDARY) & (counts == 0) & (pixels > 0)
    status = np.where(empty, Status.ZERO_COUNTS, status)
    # What leaks out of a bin without a pixel in use may still tell its norm, but not without the
    # assumption of where in the bin it started.
    lost = ~in_use & (status != Status.NOT_CONVERGED)
    return np.where(lost, Status.FULLY_MASKED, status)


def _counts(datasets: Sequence[MapDataset], predictions: list[Prediction]) -> dict[str, Array]:
    """Observed and predicted counts, (B, G) for one dataset and (B, G, D) for several."""
    found = {}
    names = ("counts", "npred", "npred_background", "npred_excess", "npred_excess_ref")
    for name in names:
        values = np.stack([getattr(p, name) for p in predictions], axis=1)
        found[name] = values[..., 0] if len(datasets) == 1 else values
    for name in ("npred_guard", "npred_other", "npred_leaked"):
        found[name] = np.stack([getattr(p, name).sum(axis=-1) for p in predictions], axis=1)
    return found


def _fitted_reference(
    response: ForwardResponse,
    results: Sequence[GroupResult],
    options: ForwardFoldingProfileEstimator,
    quantities: dict[str, Array],
) -> dict[str, Array] | None:
    """Fluxes at norm one of spectra with fitted parameters, (B, G)."""
    names = options.free_spectral_parameters
    if not names:
        return None
    n_bins = response.components.n_bins
    found = {name: np.empty((n_bins, len(results))) for name in ("dnde", "flux", "eflux")}
    for column, result in enumerate(results):
        edges = np.array([result.group.edges])
        for row, model in enumerate(response.components.models[:n_bins]):
            start = reference_fluxes(model, edges)
            fitted = {name: quantities[name][row, column] for name in names}
            own = start
            if all(np.isfinite(value) for value in fitted.values()):
                own = reference_fluxes(model.replace(**fitted), edges)
            for name in found:
                # The norm multiplies the flux in the group, whatever the parameters.
                found[name][row, column] = own[name][0] * (start["flux"][0] / own["flux"][0])
    return found
