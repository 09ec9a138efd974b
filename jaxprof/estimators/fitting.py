"""Joint fits of all energy groups, and what is asked for of each bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDatasetOnOff
from jaxprof.estimators.fit_warnings import (
    named_bins,
    warn_infinite_significance,
    warn_other_minima,
)
from jaxprof.estimators.options import Selection
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.inference.scaling import Units, coefficients_at, norm_positions, units_of
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointFit
from jaxprof.reduce.joint.floor import alone_somewhere
from jaxprof.reduce.joint.groups import Group
from jaxprof.reduce.joint.likelihood import group_data
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.reduce.joint.refine import held_points, negative_pixels
from jaxprof.user_warning import warn_user

Array = NDArray[Any]

ROUNDS = 8
"""How often pixels are given counts bins of their own before all of a group get them."""

LOST = 1e10
"""Expected background over counts above which joint fits may lose the counts by rounding."""


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
        minimum. Of the free sources ``source_ts``, and ``source_ul`` if limits are asked for.
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


def fit_groups(problem: JointProblem, selection: Selection) -> list[GroupResult]:
    """Fit all energy groups, and find what is asked for of each bin."""
    groups, n_bins = problem.groups, problem.n_bins
    alone: list[list[Array | None]] = [[None] * len(problem.datasets) for _ in groups]
    started: dict[int, _Started] = {}
    pending = list(range(len(groups)))
    per_pixel = problem.model.per_pixel
    for step in range(ROUNDS + 1):
        whole = step == ROUNDS or not per_pixel
        made = group_data(problem, merge=not whole, alone=None if whole else alone)
        for number in pending:
            # First the norms alone: about where the rest goes, their covariance tells.
            with_ts = problem.in_use[:, number] & (step > 0 or whole)
            started[number] = _start(made[number], n_bins, with_ts)
        if whole:
            break
        found = []
        for number in pending:
            new = _negative_pixels(problem, groups[number], started[number], selection)
            if _added(alone[number], new):
                found.append(number)
        pending = found if step > 0 else pending
        if not pending:
            break
    _warn(problem, started)
    # The sensitivity must not depend on where the observed counts happen to be.
    even = group_data(problem, merge=False) if "sensitivity" in selection else [None] * len(groups)
    results = [
        _finish(problem, group, started[number], even[number], selection)
        for number, group in enumerate(groups)
    ]
    if "sensitivity" in selection:
        _warn_sensitivity(results, n_bins)
    return results


def _warn_sensitivity(results: Sequence[GroupResult], n_bins: int) -> None:
    """Name the fitted bins that have no sensitivity."""
    for result in results:
        norms = result.fit.values[norm_positions(result.data)][:n_bins]
        lost = np.isfinite(norms) & np.isnan(result.values["norm_sensitivity"])
        if lost.any():
            low, high = result.group.edges
            bins = named_bins(lost[:, np.newaxis], np.array([[low, high]]))
            warn_user(
                f"the joint fit from {low:.4g} to {high:.4g} TeV: norm_sensitivity of {bins} is "
                "NaN: other norms make up for a signal there, or nothing is expected without it, "
                "so that a single count is infinitely significant",
            )


def _warn(problem: JointProblem, started: dict[int, _Started]) -> None:
    """Say what the numbers do not."""
    components = problem.response.components
    status = np.stack([np.asarray(start.fit.status) for start in started.values()])
    unseen = np.all(status == Status.NO_EXPOSURE, axis=0)[components.n_regions :]
    lost = [s.name for s, u in zip(components.sources, unseen, strict=True) if u and s.free]
    if lost:
        warn_user(
            f"sources: no photons of {', '.join(map(repr, lost))} reach the pixels of the fit, "
            "so that the norm is NaN",
        )
    for number, group in enumerate(problem.groups):
        start = started[number]
        low, high = group.edges
        name = f"the joint fit from {low:.4g} to {high:.4g} TeV"
        lost = np.isfinite(start.ts) & ~np.all(np.isfinite(start.points), axis=1)
        if not start.fit.converged:
            advice = (
                'wider bins, none that are almost the same, fewer free parameters or norm={"min": '
                "0} make it easier"
            )
            if _counts_are_lost(start.plain):
                advice = (
                    f"the expected background is more than {LOST:g} times the counts somewhere, "
                    "and its rounding loses them: check the background, or fit each region by "
                    "itself with FluxProfileEstimator"
                )
            warn_user(f"{name} did not converge, and its profile is NaN: {advice}")
        elif lost.any():
            bins = named_bins(np.asarray(lost)[:, np.newaxis], np.zeros((1, 2)))
            warn_user(
                f"{name}: the fits without the flux of {bins} did not reach their tolerance; "
                "ts is an upper bound there",
            )
    lone = [
        alone_somewhere(start.plain, counted=True)
        & (np.asarray(start.fit.status) <= Status.BOUNDARY)
        for start in started.values()
    ]
    edges = np.array([problem.groups[number].edges for number in started])
    warn_infinite_significance(np.stack(lone, axis=1)[: components.n_bins], edges)
    others = np.stack([np.isfinite(start.fit.other_minimum) for start in started.values()], axis=1)
    first = next(iter(started.values())).data
    warn_other_minima(
        others[norm_positions(first)][: components.n_bins],
        edges,
        backgrounds=bool(others[first.nuisance_start :].any()),
    )


def _counts_are_lost(data: JointData) -> bool:
    """Whether some background is so far above the counts that its rounding hides them."""
    for block in data.blocks:
        if isinstance(block, JointBlock):
            expected = np.asarray(block.background) + np.asarray(block.offset)
            lost = np.asarray(block.mask) & (expected > LOST * (1.0 + np.asarray(block.counts)))
            if lost.any():
                return True
    return False


def _start(data: JointData, n_bins: int, with_ts: Array) -> _Started:
    units = units_of(data)
    own = units.data(data)
    fit, ts, points = fit_joint_ts(own, np.arange(n_bins), with_ts)
    return _Started(data, own, fit, np.asarray(ts), np.asarray(points), units)


def _best(data: JointData, fit: JointFit) -> Array:
    """`at_fit` outside of compiled code, (Z,)."""
    return np.where(np.isfinite(fit.values), fit.values, np.asarray(data.start))


def _negative_pixels(
    problem: JointProblem, group: Group, start: _Started, selection: Selection
) -> list[Array | None]:
    """Pixels without counts that are predicted below zero, for each dataset; None for none.

    At the minimum, at those with a norm of zero, and about where limits and scans go.
    """
    fit = jax.tree.map(np.asarray, start.fit)
    found: list[Array | None] = [None] * len(problem.datasets)
    if not fit.converged:
        return found
    at = norm_positions(start.data)[: len(start.points)]
    norms = fit.values[at]
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diagonal(fit.covariance)[at])
    unit = start.units.values[at]
    shifts = [-norms]
    if "errn-errp" in selection:
        shifts += [-selection.n_sigma * error, selection.n_sigma * error]
    if "ul" in selection:
        shifts.append(selection.n_sigma_ul * error)
    if "scan" in selection:
        values = selection.scan_values
        shifts += [values.min() / unit - norms, values.max() / unit - norms]
    points = [
        _best(start.data, fit)[np.newaxis],
        start.points[np.all(np.isfinite(start.points), axis=1)],
        held_points(start.data, fit, np.stack(shifts, axis=1)),
    ]
    at_points = np.concatenate(points) * start.units.values
    for number, (dataset, own) in enumerate(problem.pairs()):
        if not isinstance(dataset, MapDatasetOnOff):
            found[number] = negative_pixels(
                dataset,
                own,
                start.plain,
                at_points,
                group.bins[number],
                number=number,
                summed=problem.model.sum_over_energy_groups,
            )
    return found


def _added(known: list[Array | None], new: list[Array | None]) -> bool:
    """Add pixels, for each dataset, to those with counts bins of their own; whether any was new."""
    added = False
    for number, pixels in enumerate(new):
        old = known[number]
        if pixels is not None and (pixels if old is None else pixels & ~old).any():
            known[number] = pixels if old is None else pixels | old
            added = True
    return added


def free_sources(problem: JointProblem) -> Array:
    """Indices of the components that are free sources."""
    components = problem.response.components
    free = [k for k, source in enumerate(components.sources) if source.free]
    return components.n_regions + np.array(free, dtype=int)


def _of_sources(problem: JointProblem, start: _Started, selection: Selection) -> dict[str, Any]:
    """Test statistics and upper limits of the norms of free sources."""
    which = free_sources(problem)
    if not which.size:
        return {}
    found = {"source_ts": np.asarray(joint_ts(start.data, start.fit, which).ts)}
    wanted = {"source_ul": (1.0, selection.n_sigma_ul**2, True)} if "ul" in selection else {}
    return found | _limits(start, which, wanted)


def _limits(
    start: _Started, which: Array, wanted: dict[str, tuple[float, float, bool]]
) -> dict[str, Array]:
    """Distances of norms from points on a side where the statistic has risen by so much.

    Or the points themselves, which may be bounds of the norms, where the last of each is true.
    """
    if not wanted:
        return {}
    at = norm_positions(start.data)[which]
    goals = map(np.array, zip(*wanted.values(), strict=True))
    units = start.units.values[at]
    found = np.array(joint_limits(start.data, start.fit, which, *goals)).T * units
    norms = np.asarray(start.fit.values)[at] * units
    pairs = zip(wanted.items(), found, strict=True)
    return {name: far + norms if closed else far for (name, (*_, closed)), far in pairs}


def _of_bins(
    start: _Started, n_bins: int, even: JointData | None, selection: Selection
) -> dict[str, Any]:
    """Test statistics of the bins, and what else is asked for."""
    data, fit, bins = start.data, start.fit, np.arange(n_bins)
    units = start.units.values[norm_positions(data)][:n_bins]
    wanted: dict[str, tuple[float, float, bool]] = {}
    if "errn-errp" in selection:
        rise = selection.n_sigma**2
        wanted |= {"norm_errn": (-1.0, rise, False), "norm_errp": (1.0, rise, False)}
    if "ul" in selection:
        wanted["norm_ul"] = (1.0, selection.n_sigma_ul**2, True)
    values: dict[str, Any] = {"ts": start.ts, **_limits(start, bins, wanted)}
    if "scan" in selection:
        norms = selection.scan_values / units[:, np.newaxis]
        values["scan"], values["scan_conditional"] = joint_scan(data, fit, bins, norms)
    if even is not None:
        n_sigma = np.asarray(float(selection.n_sigma_sensitivity))
        found = joint_sensitivity(start.units.data(even), fit, bins, n_sigma)
        # It would be nothing but the floor of the predicted counts.
        lost = alone_somewhere(even)[bins]
        values["norm_sensitivity"] = np.where(lost, np.nan, units * np.asarray(found))
    return values


def _finish(
    problem: JointProblem,
    group: Group,
    start: _Started,
    even: JointData | None,
    selection: Selection,
) -> GroupResult:
    """Find the optional quantities of one group."""
    own = jax.tree.map(np.asarray, start.fit)
    values = _of_bins(start, problem.n_bins, even, selection)
    values |= _of_sources(problem, start, selection)
    best = _best(start.data, own) * start.units.values
    at_one = best.copy()
    at_one[norm_positions(start.data)] = 1.0
    both = np.stack([best, at_one])
    pairs = [coefficients_at(start.plain, both, k) for k in range(len(problem.datasets))]
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
