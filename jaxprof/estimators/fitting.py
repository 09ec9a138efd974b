"""Joint fits of all energy groups, and what is asked for of each bin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.inference.joint_fit import fit_joint_ts
from jaxprof.inference.joint_intervals import joint_limits, joint_scan, joint_sensitivity
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.reduce.joint.problem import Group, seen
from jaxprof.reduce.joint.refine import (
    coefficients_at,
    held_points,
    negative_pixels,
    norm_positions,
)
from jaxprof.reduce.joint.response import ForwardResponse
from jaxprof.reduce.joint.scaling import Units, units_of
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from jaxprof.estimators.joint import ForwardFoldingProfileEstimator

Array = NDArray[Any]

ROUNDS = 8
"""How often pixels are given slots of their own before all of a group get them."""


@dataclass(frozen=True)
class GroupResult:
    """Joint fit of one energy group.

    Attributes
    ----------
    group : Group
        The group.
    data : JointData
        What was fitted.
    fit : JointFit
        The fit, as numpy arrays.
    errors : ndarray, shape (Z,)
        One standard deviation of each parameter, NaN where it has none: also where the covariance
        overflows.
    coefficients, coefficients_one : list of ndarray, shape (C, Q)
        Coefficients of the templates of each dataset, as fitted (NaN if the fit failed) and at norm
        one.
    values : dict of ndarray
        ``ts``, and what else was asked for: ``norm_errn``, ``norm_errp``, ``norm_ul``,
        ``norm_sensitivity`` (B,); ``scan`` and ``scan_conditional`` (B, V), rises above the
        minimum.
    """

    group: Group
    data: JointData
    fit: JointFit
    errors: Array
    coefficients: list[Array]
    coefficients_one: list[Array]
    values: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class _Started:
    """A fit of one group with its test statistics, before the optional quantities.

    Of the ``plain`` data; ``data``, fit and the ``points`` with a norm of zero are in ``units``.
    """

    plain: JointData
    data: JointData
    fit: JointFit
    ts: Array
    points: Array
    units: Units


def fit_groups(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    groups: Sequence[Group],
    make: Callable[..., list[JointData]],
    options: ForwardFoldingProfileEstimator,
    wanted: set[str],
) -> list[GroupResult]:
    """Fit all energy groups, and find what is asked for of each bin.

    Parameters
    ----------
    datasets : sequence of MapDataset
        What is fitted.
    response : ForwardResponse
        Their response.
    groups : sequence of Group
        The groups.
    make : callable
        Gives the joint data of all groups; takes ``likelihood``, ``merge`` and ``alone`` as
        `joint_data` does.
    options : ForwardFoldingProfileEstimator
        Numbers of standard deviations, and norms of the scan.
    wanted : set of str
        Optional quantities.

    Returns
    -------
    list of GroupResult
        One for each group.
    """
    n_bins = response.components.n_bins
    alone: list[list[Array | None]] = [[None] * len(datasets) for _ in groups]
    started: dict[int, _Started] = {}
    pending = list(range(len(groups)))
    per_pixel = options.likelihood == "pixel"
    in_use = seen(datasets, response, groups)
    for step in range(ROUNDS + 1):
        whole = step == ROUNDS or not per_pixel
        made = make(merge=not whole, alone=None if whole else alone)
        for number in pending:
            # First the norms alone: about where the rest goes, their covariance tells.
            wanted_ts = in_use[:, number] & (step > 0 or whole)
            started[number] = _start(made[number], n_bins, wanted_ts)
        if whole:
            break
        found = [
            number
            for number in pending
            if _sent_out(
                datasets, response, groups[number], started[number], alone[number], options, wanted
            )
        ]
        pending = found if step > 0 else pending
        if not pending:
            break
    _warn(response, groups, started)
    # The sensitivity must not depend on where the observed counts happen to be.
    even = make(merge=False) if "sensitivity" in wanted else [None] * len(groups)
    results = [
        _finish(started[number], group, n_bins, len(datasets), even[number], options, wanted)
        for number, group in enumerate(groups)
    ]
    if "sensitivity" in wanted:
        _warn_sensitivity(results, n_bins)
    return results


def _warn_sensitivity(results: Sequence[GroupResult], n_bins: int) -> None:
    """Name the fitted bins that have no sensitivity."""
    for result in results:
        norms = result.fit.values[norm_positions(result.data)][:n_bins]
        lost = np.isfinite(norms) & np.isnan(result.values["norm_sensitivity"])
        if lost.any():
            low, high = result.group.edges
            warn_user(
                f"the joint fit from {low:.4g} to {high:.4g} TeV: norm_sensitivity of bin "
                f"{', '.join(map(str, np.flatnonzero(lost)))} is NaN: other norms make up for a "
                "signal there, or nothing is expected without it, so that a single count is "
                "infinitely significant",
            )


def _warn(response: ForwardResponse, groups: Sequence[Group], started: dict[int, _Started]) -> None:
    """Say what the numbers do not."""
    components = response.components
    status = np.stack([np.asarray(start.fit.status) for start in started.values()])
    unseen = np.all(status == Status.NO_EXPOSURE, axis=0)[components.n_regions :]
    lost = [s.name for s, u in zip(components.sources, unseen, strict=True) if u and s.free]
    if lost:
        warn_user(
            f"sources: no photons of {', '.join(map(repr, lost))} reach the pixels of the fit, "
            "so that the norm is NaN",
        )
    for number, group in enumerate(groups):
        start = started[number]
        low, high = group.edges
        name = f"the joint fit from {low:.4g} to {high:.4g} TeV"
        lost = np.isfinite(start.ts) & ~np.all(np.isfinite(start.points), axis=1)
        if not start.fit.converged:
            warn_user(
                f"{name} did not converge, and its profile is NaN: wider bins, none that are "
                'almost the same, fewer free parameters or norm={"min": 0} make it easier',
            )
        elif lost.any():
            bins = ", ".join(map(str, *np.nonzero(lost)))
            warn_user(
                f"{name}: the fits without the flux of bin {bins} did not reach their tolerance; "
                "ts is an upper bound there",
            )


def _start(data: JointData, n_bins: int, with_ts: Array) -> _Started:
    units = units_of(data)
    own = units.data(data)
    fit, ts, points = fit_joint_ts(own, np.arange(n_bins), with_ts)
    return _Started(data, own, fit, np.asarray(ts), np.asarray(points), units)


def _best(data: JointData, fit: JointFit) -> Array:
    """`at_fit` outside of compiled code, (Z,)."""
    return np.where(np.isfinite(fit.values), fit.values, np.asarray(data.start))


def _sent_out(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    group: Group,
    start: _Started,
    alone: list[Array | None],
    options: ForwardFoldingProfileEstimator,
    wanted: set[str],
) -> bool:
    """Add pixels with negative predictions to those with slots of their own; whether any was new.

    At the minimum, at those with a norm of zero, and about where limits and scans go.
    """
    fit = jax.tree.map(np.asarray, start.fit)
    if not fit.converged:
        return False
    at = norm_positions(start.data)[: len(start.points)]
    norms = fit.values[at]
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diagonal(fit.covariance)[at])
    unit = start.units.values[at]
    shifts = [-norms]
    if "errn-errp" in wanted:
        shifts += [-options.n_sigma * error, options.n_sigma * error]
    if "ul" in wanted:
        shifts.append(options.n_sigma_ul * error)
    if "scan" in wanted:
        values = options.norm.values()
        shifts += [values.min() / unit - norms, values.max() / unit - norms]
    points = [
        _best(start.data, fit)[np.newaxis],
        start.points[np.all(np.isfinite(start.points), axis=1)],
        held_points(start.data, fit, np.stack(shifts, axis=1)),
    ]
    new = False
    for number, (dataset, own) in enumerate(zip(datasets, response.datasets, strict=True)):
        if isinstance(dataset, MapDatasetOnOff):
            continue
        negative = negative_pixels(
            dataset,
            own,
            start.plain,
            np.concatenate(points) * start.units.values,
            group.bins[number],
            number=number,
            summed=options.sum_over_energy_groups,
        )
        known = alone[number]
        fresh = negative if known is None else negative & ~known
        if fresh.any():
            alone[number] = negative if known is None else negative | known
            new = True
    return new


def _finish(
    start: _Started,
    group: Group,
    n_bins: int,
    n_datasets: int,
    even: JointData | None,
    options: ForwardFoldingProfileEstimator,
    wanted: set[str],
) -> GroupResult:
    """Find the optional quantities of one group."""
    data, fit, bins = start.data, start.fit, np.arange(n_bins)
    own = jax.tree.map(np.asarray, fit)
    values: dict[str, Any] = {"ts": start.ts}
    sides: list[float] = []
    rises: list[float] = []
    at = norm_positions(data)
    units = start.units.values[at][:n_bins]
    names: list[str] = []
    if "errn-errp" in wanted:
        sides += [-1.0, 1.0]
        rises += [options.n_sigma**2] * 2
        names += ["norm_errn", "norm_errp"]
    if "ul" in wanted:
        sides.append(1.0)
        rises.append(options.n_sigma_ul**2)
        names.append("norm_ul")
    if names:
        # An upper limit may be the bound of its norm.
        closed = [name == "norm_ul" for name in names]
        found = joint_limits(data, fit, bins, *map(np.asarray, (sides, rises, closed)))
        values |= dict(zip(names, np.array(found).T * units, strict=True))
        if "norm_ul" in values:
            values["norm_ul"] = values["norm_ul"] + own.values[at][:n_bins] * units
    if "scan" in wanted:
        norms = options.norm.values() / units[:, np.newaxis]
        values["scan"], values["scan_conditional"] = joint_scan(data, fit, bins, norms)
    if even is not None:
        values["norm_sensitivity"] = units * np.asarray(
            joint_sensitivity(
                start.units.data(even), fit, bins, np.asarray(float(options.n_sigma_sensitivity))
            )
        )
    best = _best(data, own) * start.units.values
    at_one = best.copy()
    at_one[at] = 1.0
    pairs = [coefficients_at(start.plain, np.stack([best, at_one]), k) for k in range(n_datasets)]
    lost = 0.0 if own.converged else np.nan
    variance = np.diagonal(own.covariance)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.where(variance > 0, variance, np.nan)) * start.units.values
    return GroupResult(
        group=group,
        data=start.plain,
        fit=start.units.fit(own),
        errors=errors,
        # A fit that failed predicts nothing.
        coefficients=[fitted + lost for fitted, _ in pairs],
        coefficients_one=[one for _, one in pairs],
        values={name: np.array(value) for name, value in values.items()},
    )
