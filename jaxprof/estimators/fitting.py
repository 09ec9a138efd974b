"""Joint fits of all energy groups, and what is asked for of each bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from jaxprof.datasets import MapDatasetOnOff
from jaxprof.estimators.fit_warnings import (
    LOST,
    Bins,
    alone_somewhere,
    counts_are_lost,
    warn_infinite_significance,
    warn_other_minima,
)
from jaxprof.estimators.options import Selection
from jaxprof.inference.joint_intervals import limited
from jaxprof.inference.joint_scan import scanned
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.inference.scaling import Units, coefficients_at, norm_positions, units_of
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.progress import progress_bar
from jaxprof.reduce.joint.likelihood import group_data
from jaxprof.reduce.joint.problem import Group, JointProblem
from jaxprof.reduce.joint.refine import add_pixels, held_points, negative_pixels
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

ROUNDS = 8
"""How often pixels are given counts bins of their own before all of a group get them."""
FEW_PIXELS = 20_000
"""Pixels and energies that all have counts bins of their own where limits need them."""


@dataclass(frozen=True)
class GroupResult:
    """Joint fit of one energy group."""

    group: Group
    """The group."""
    data: JointData
    """What was fitted."""
    fit: JointFit
    """The fit, as numpy arrays."""
    errors: Array
    """One standard deviation of each parameter, NaN where it has none: also where the covariance
    overflows, (Z,)."""
    coefficients: list[Array]
    coefficients_one: list[Array]
    """Coefficients of the templates of each dataset, as fitted (NaN if the fit failed) and at norm
    one, (C, Q)."""
    values: dict[str, Array] = field(default_factory=dict)
    """``ts``, and what else was asked for: ``norm_errn``, ``norm_errp``, ``norm_ul``,
    ``norm_sensitivity`` (B,); ``scan`` and ``scan_conditional`` (B, V), rises above the minimum at
    the norms ``scan_norms``; ``other``, whether a fit with the norm held has another minimum (B,).
    Of free sources ``source_ts``, ``source_other``, and ``source_ul`` if limits are asked for."""


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


def fit_groups(problem: JointProblem, selection: Selection, bins: Bins) -> list[GroupResult]:
    """Fit all energy groups, and find what is asked for of each bin, which messages name."""
    groups, n_bins = problem.groups, problem.n_bins
    alone: list[list[Array | None]] = [[None] * len(problem.datasets) for _ in groups]
    started: dict[int, _Started] = {}
    known: dict[int, tuple[_Started, Array]] = {}
    pending = list(range(len(groups)))
    all_pixels = not problem.model.per_pixel or _limits_need_all(problem, selection)
    for step in range(ROUNDS + 1):
        whole = step == ROUNDS or all_pixels
        made = group_data(problem, merge=not whole, alone=None if whole else alone)
        for number in pending:
            # First the norms alone: about where the rest goes, their covariance tells.
            with_ts = problem.in_use[:n_bins, number] & (step > 0 or whole)
            started[number] = _start(made[number], n_bins, with_ts, known.get(number))
        if whole:
            break
        found = []
        for number in pending:
            start = started[number]
            new, moved = _negative_pixels(problem, groups[number], start, selection)
            if add_pixels(alone[number], new):
                found.append(number)
                if step > 0:
                    known[number] = start, moved
        pending = found if step > 0 else pending
        if not pending:
            break
    _warn(problem, started, bins)
    # The sensitivity must not depend on where the observed counts happen to be.
    even = group_data(problem, merge=False) if "sensitivity" in selection else [None] * len(groups)
    bar = progress_bar(len(groups) * _n_steps(selection), "joint fits", " steps")
    each = zip(groups, [started[number] for number in range(len(groups))], even, strict=True)
    results = [_finish(problem, *own, selection, bar) for own in each]
    bar.close()
    _warn_other_minima(results, bins)
    if "sensitivity" in selection:
        _warn_sensitivity(results, bins)
    return results


def _limits_need_all(problem: JointProblem, selection: Selection) -> bool:
    """Whether all pixels have counts bins of their own: those that limits would sacrifice.

    Of fixed spectra the covariance tells which these are.
    """
    wanted = {"errn-errp", "ul", "scan"} & selection.quantities
    number = sum(np.sum(own.mask) for own in problem.response.datasets)
    return bool(problem.model.free_spectral_parameters and wanted and number <= FEW_PIXELS)


def _n_steps(selection: Selection) -> int:
    """What takes long for a group: limits, scans and sensitivities."""
    limited = "errn-errp" in selection or "ul" in selection
    return limited + ("scan" in selection) + ("sensitivity" in selection)


def _warn_sensitivity(results: Sequence[GroupResult], bins: Bins) -> None:
    """Name the fitted bins that have no sensitivity."""
    lost = []
    for result in results:
        sensitivity = result.values["norm_sensitivity"]
        norms = result.fit.values[norm_positions(result.data)][: len(sensitivity)]
        lost.append(np.isfinite(norms) & np.isnan(sensitivity))
    which = np.stack(lost, axis=1)
    if which.any():
        warn_user(
            f"the joint fit: norm_sensitivity of {bins.named(which)} is NaN: other norms make up "
            "for a signal there, or nothing is expected without it, so that a single count is "
            "infinitely significant",
        )


def _warn(problem: JointProblem, started: dict[int, _Started], bins: Bins) -> None:
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
    for number in range(len(problem.groups)):
        start = started[number]
        name = f"the joint fit from {bins.energies(number)}"
        lost = np.isfinite(start.ts) & ~np.all(np.isfinite(start.points), axis=1)
        if not start.fit.converged:
            advice = (
                'wider bins, none that are almost the same, fewer free parameters or norm={"min": '
                "0} make it easier"
            )
            if counts_are_lost(start.plain):
                advice = (
                    f"the expected background is more than {LOST:g} times the counts somewhere, "
                    "and its rounding loses them: check the background, or fit each region by "
                    "itself with FluxProfileEstimator"
                )
            warn_user(f"{name} did not converge, and its profile is NaN: {advice}")
        elif lost.any():
            which = np.zeros((problem.n_bins, len(problem.groups)), bool)
            which[:, number] = lost
            warn_user(
                f"{name}: the fits without the flux of {bins.named(which)} did not reach "
                "their tolerance; ts is an upper bound there",
            )
    lone = [
        alone_somewhere(start.plain, counted=True)
        & (np.asarray(start.fit.status) <= Status.BOUNDARY)
        for start in started.values()
    ]
    warn_infinite_significance(np.stack(lone, axis=1)[: components.n_bins], bins)


def _warn_other_minima(results: Sequence[GroupResult], bins: Bins) -> None:
    """Say where another minimum is almost as low, also with norms held."""
    others = np.stack([np.isfinite(result.fit.other_minimum) for result in results], axis=1)
    held = np.stack([result.values["other"] for result in results], axis=1)
    data = results[0].data
    warn_other_minima(
        others[norm_positions(data)][: len(held)],
        bins,
        backgrounds=bool(others[data.nuisance_start :].any()),
        held=held,
        sources=any(np.any(result.values.get("source_other", False)) for result in results),
    )


def _start(
    data: JointData, n_bins: int, with_ts: Array, known: tuple[_Started, Array] | None
) -> _Started:
    """Fit a group; or make those fits again that new constraints move, (1 + B,)."""
    units = units_of(data)
    own, bins = units.data(data), np.arange(n_bins)
    if known is None or known[1][0] or not (units.trivial and known[0].units.trivial):
        fit, ts, points = fit_joint_ts(own, bins, with_ts)
        return _Started(data, own, fit, np.asarray(ts), np.asarray(points), units)
    before, moved = known[0], known[1][1:]
    again = with_ts & moved
    fit, ts, points = fit_joint_ts(own, bins, again, before.fit)
    others = before.fit.other_without
    if others is not None:
        fit = replace(fit, other_without=np.where(again, fit.other_without, others))
    ts = np.where(again, ts, before.ts)
    points = np.where(again[:, np.newaxis], points, before.points)
    return _Started(data, own, fit, ts, points, units)


def _best(data: JointData, fit: JointFit) -> Array:
    """`at_fit` outside of compiled code, (Z,)."""
    return np.where(np.isfinite(fit.values), fit.values, np.asarray(data.start))


def _negative_pixels(
    problem: JointProblem, group: Group, start: _Started, selection: Selection
) -> tuple[list[Array | None], Array]:
    """Pixels without counts that are predicted below zero, for each dataset; None for none.

    At the minimum, at those with a norm of zero, and about where limits and scans go. Also at which
    of these minima they are, (1 + M,): others stay minima when such pixels get counts bins.
    """
    fit = jax.tree.map(np.asarray, start.fit)
    found: list[Array | None] = [None] * len(problem.datasets)
    moved: Array = np.ones(1 + len(start.points), bool)
    if not fit.converged:
        return found, moved
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
        values = selection.scan.values
        if values is None:
            shifts += [-selection.scan.n_sigma * error, selection.scan.n_sigma * error]
        else:
            shifts += [values.min() / unit - norms, values.max() / unit - norms]
    minima = np.concatenate([_best(start.data, fit)[np.newaxis], start.points])
    made = np.all(np.isfinite(minima), axis=1)
    points = [minima[made], held_points(start.data, fit, np.stack(shifts, axis=1))]
    at_points = np.concatenate(points) * start.units.values
    moved[made] = False
    for number, dataset in enumerate(problem.datasets):
        if not isinstance(dataset, MapDatasetOnOff):
            found[number], where = negative_pixels(problem, group, start.plain, at_points, number)
            moved[made] |= where[: np.sum(made)]
    return found, moved


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
    tested = joint_ts(start.data, start.fit, which)
    wanted = {"source_ul": (1.0, selection.n_sigma_ul**2, True)} if "ul" in selection else {}
    limits, other = _limits(start, which, wanted)
    return {"source_ts": np.asarray(tested.ts), "source_other": tested.other | other, **limits}


def _limits(
    start: _Started, which: Array, wanted: dict[str, tuple[float, float, bool]]
) -> tuple[dict[str, Array], Array]:
    """Distances of norms from points on a side where the statistic has risen by so much.

    Or the points themselves, which may be bounds of the norms, where the last of each is true. And
    whether the fits there have another minimum, (M,).
    """
    if not wanted:
        return {}, np.zeros(len(which), bool)
    at = norm_positions(start.data)[which]
    sides, rises, closed = map(np.array, zip(*wanted.values(), strict=True))
    units = start.units.values[at]
    distances, other = limited(start.data, start.fit, which, (sides, rises, closed))
    found = np.array(distances).T * units
    norms = np.asarray(start.fit.values)[at] * units
    pairs = zip(wanted.items(), found, strict=True)
    named = {name: far + norms if closed else far for (name, (*_, closed)), far in pairs}
    return named, np.any(other, axis=1)


def _of_bins(
    start: _Started,
    n_bins: int,
    even: JointData | None,
    bounds: tuple[float | None, float | None],
    selection: Selection,
    bar: Any,
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
    limits, other = _limits(start, bins, wanted)
    values: dict[str, Any] = {"ts": start.ts, **limits}
    other = other if fit.other_without is None else other | fit.other_without
    bar.update(bool(wanted))
    if "scan" in selection:
        values["scan_norms"] = _scanned(start, bins, bounds, selection)
        norms = values["scan_norms"] / units[:, np.newaxis]
        values["scan"], values["scan_conditional"], others = scanned(data, fit, bins, norms)
        other = other | np.any(others, axis=1)
        bar.update()
    if even is not None:
        n_sigma = np.asarray(float(selection.n_sigma_sensitivity))
        found = joint_sensitivity(start.units.data(even), fit, bins, n_sigma)
        # It would be nothing but the floor of the predicted counts.
        lost = alone_somewhere(even)[bins]
        values["norm_sensitivity"] = np.where(lost, np.nan, units * np.asarray(found))
        bar.update()
    return values | {"other": other}


def _scanned(
    start: _Started, bins: Array, bounds: tuple[float | None, float | None], selection: Selection
) -> Array:
    """Norms that the likelihood of each bin is scanned at, (B, V)."""
    scan = selection.scan
    if scan.values is not None:
        return np.broadcast_to(scan.values, (len(bins), len(scan.values)))
    at = norm_positions(start.data)[bins]
    units = start.units.values[at]
    goal = scan.n_sigma**2, False
    sides = {"below": (-1.0, *goal), "above": (1.0, *goal)}
    far, _ = _limits(start, bins, sides)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diagonal(np.asarray(start.fit.covariance))[at]) * units
    norm = np.asarray(start.fit.values)[at] * units
    return scan.around(norm, (far["below"], far["above"], error), bounds)


def _finish(
    problem: JointProblem,
    group: Group,
    start: _Started,
    even: JointData | None,
    selection: Selection,
    bar: Any,
) -> GroupResult:
    """Find the optional quantities of one group."""
    own = jax.tree.map(np.asarray, start.fit)
    values = _of_bins(start, problem.n_bins, even, problem.model.norm_bounds, selection, bar)
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
