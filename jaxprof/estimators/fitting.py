"""Joint fits of all energy groups, and what is asked for of each bin."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxprof.datasets import MapDatasetOnOff
from jaxprof.estimators.fit_warnings import Bins, alone_somewhere
from jaxprof.estimators.group_fit import GroupResult, StartedFit, best_of, free_sources
from jaxprof.estimators.joint_fit_warnings import warn_fits, warn_held_minima, warn_sensitivity
from jaxprof.estimators.options import Selection
from jaxprof.inference.joint_intervals import limited
from jaxprof.inference.joint_scan import scanned
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.inference.scaling import coefficients_at, norm_positions, units_of
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.progress import progress_bar
from jaxprof.reduce.joint.likelihood import group_data
from jaxprof.reduce.joint.problem import Group, JointProblem
from jaxprof.reduce.joint.refine import add_pixels, held_points, negative_pixels
from jaxprof.types import Array

ROUNDS = 8
"""How often pixels are given counts bins of their own before all of a group get them."""


class _Quantities(NamedTuple):
    """What is asked for of some components, (M, ...) each, and the fits behind it, (M, K, Z)."""

    values: dict[str, Array]
    points: Array  # NaN where they are not known

    def replaced(self, at: Array, other: _Quantities) -> _Quantities:
        """The same with others at some of the components."""
        own = self.values | {"points": self.points}
        new = other.values | {"points": other.points}
        for name, value in new.items():
            own[name] = np.array(own[name])
            own[name][at] = value
        return _Quantities(own, own.pop("points"))


def fit_groups(problem: JointProblem, selection: Selection, bins: Bins) -> list[GroupResult]:
    """Fit all energy groups, and find what is asked for of each bin, which messages name."""
    groups, n_bins = problem.groups, problem.n_bins
    alone: list[list[Array | None]] = [[None] * len(problem.datasets) for _ in groups]
    started: dict[int, StartedFit] = {}
    known: dict[int, tuple[StartedFit, Array]] = {}
    pending, settled = list(range(len(groups))), [False] * len(groups)
    for step in range(ROUNDS + 1):
        whole = step == ROUNDS or not problem.model.per_pixel
        made = group_data(problem, merge=not whole, alone=None if whole else alone)
        for number in pending:
            with_ts = problem.in_use[:n_bins, number] & (settled[number] | whole)
            started[number] = _start(made[number], n_bins, with_ts, known.get(number))
        if whole:
            break
        again = []
        for number in pending:
            start = started[number]
            new, moved = _negative_pixels(problem, groups[number], start, selection)
            added = add_pixels(alone[number], new)
            if added or not settled[number]:
                again.append(number)
                known[number] = start, moved
                # Test statistics are not worth their time before the minimum stays.
                settled[number] = not (added and moved[0])
        pending = again
        if not pending:
            break
    warn_fits(problem, started, bins)
    # The sensitivity must not depend on where the observed counts happen to be.
    even = group_data(problem, merge=False) if "sensitivity" in selection else [None] * len(groups)
    results = []
    bar = progress_bar(len(groups) * (1 + ("sensitivity" in selection)), "joint fits", " steps")
    for number, own in enumerate(even):
        start, values = _optional(problem, number, started[number], selection, alone)
        bar.update()
        if own is not None:
            values["norm_sensitivity"] = _sensitivity(start, n_bins, own, selection)
            bar.update()
        results.append(_result(problem, groups[number], start, values))
    bar.close()
    warn_held_minima(results, bins)
    if "sensitivity" in selection:
        warn_sensitivity(results, bins)
    return results


def _start(
    data: JointData, n_bins: int, with_ts: Array, known: tuple[StartedFit, Array] | None
) -> StartedFit:
    """Fit a group; or make those fits again that new constraints move, (1 + B,)."""
    units = units_of(data)
    own, bins = units.data(data), np.arange(n_bins)
    if known is None or known[1][0] or not (units.trivial and known[0].units.trivial):
        fit, ts, points = fit_joint_ts(own, bins, with_ts)
        return StartedFit(data, own, fit, np.asarray(ts), np.asarray(points), units)
    before, moved = known[0], known[1][1:]
    again = with_ts & moved
    fit, ts, points = fit_joint_ts(own, bins, again, before.fit)
    others = before.fit.other_without
    if others is not None:
        fit = replace(fit, other_without=np.where(again, fit.other_without, others))
    ts = np.where(again, ts, before.ts)
    points = np.where(again[:, np.newaxis], points, before.points)
    return StartedFit(data, own, fit, ts, points, units)


def _negative_pixels(
    problem: JointProblem, group: Group, start: StartedFit, selection: Selection
) -> tuple[list[Array | None], Array]:
    """Pixels without counts that are predicted below zero, for each dataset; None for none.

    At the minimum, at those with a norm of zero, and about where limits and scans go. Also at which
    of these minima they are, (1 + M,): others stay minima when such pixels get counts bins.
    """
    fit = jax.tree.map(np.asarray, start.fit)
    moved: Array = np.ones(1 + len(start.points), bool)
    if not fit.converged:
        return [None] * len(problem.datasets), moved
    minima = np.concatenate([best_of(start.data, fit)[np.newaxis], start.points])
    made = np.all(np.isfinite(minima), axis=1)
    points = [minima[made], held_points(start.data, fit, _shifts(start, fit, selection))]
    found, where = _negative_at(problem, group, start, np.concatenate(points))
    moved[made] = where[: np.sum(made)]
    return found, moved


def _shifts(start: StartedFit, fit: JointFit, selection: Selection) -> Array:
    """About how far limits and scans are from the norms of the bins, (B, L), by the covariance."""
    at = norm_positions(start.data)[: len(start.points)]
    norms, unit = fit.values[at], start.units.values[at]
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diagonal(fit.covariance)[at])
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
    return np.stack(shifts, axis=1)


def _negative_at(
    problem: JointProblem, group: Group, start: StartedFit, points: Array
) -> tuple[list[Array | None], Array]:
    """What `negative_pixels` gives for each dataset (None for On-Off data); at which of (M, Z)."""
    found: list[Array | None] = [None] * len(problem.datasets)
    somewhere: Array = np.zeros(len(points), bool)
    for number, dataset in enumerate(problem.datasets):
        if len(points) and not isinstance(dataset, MapDatasetOnOff):
            found[number], where = negative_pixels(
                problem, group, start.plain, points * start.units.values, number
            )
            somewhere |= where
    return found, somewhere


def _optional(
    problem: JointProblem,
    number: int,
    start: StartedFit,
    selection: Selection,
    alone: list[list[Array | None]],
) -> tuple[StartedFit, dict[str, Array]]:
    """What is asked for of the bins and free sources of a group, and the fit that it is from.

    Where a fit behind it has negative pixels, these get counts bins of their own, and what is from
    such fits is found again.
    """
    group, n_bins = problem.groups[number], problem.n_bins
    of_bins = partial(_of_bins, bounds=problem.model.norm_bounds)
    values: dict[str, Array] = {}
    for of, which in ((of_bins, np.arange(n_bins)), (_of_sources, free_sources(problem))):
        found = of(start, which, selection)
        for step in range(ROUNDS if problem.model.per_pixel else 0):
            known = np.all(np.isfinite(found.points), axis=2)
            new, where = _negative_at(problem, group, start, found.points[known])
            if not add_pixels(alone[number], new):
                break
            known[known] = where
            again = np.flatnonzero(np.any(known, axis=1))
            whole = step == ROUNDS - 1
            made = group_data(problem, merge=not whole, alone=None if whole else alone)
            unmoved = np.zeros(1 + n_bins, bool)
            in_use = problem.in_use[:n_bins, number]
            start = _start(made[number], n_bins, in_use, (start, unmoved))
            found = found.replaced(again, of(start, which[again], selection))
        values |= found.values
    return start, values


def _of_sources(start: StartedFit, which: Array, selection: Selection) -> _Quantities:
    """Test statistics and upper limits of the norms of free sources."""
    if not which.size:
        return _Quantities({}, np.zeros((0, 0, start.data.start.size)))
    tested = joint_ts(start.data, start.fit, which)
    wanted = {"source_ul": (1.0, selection.n_sigma_ul**2, True)} if "ul" in selection else {}
    limits, other, points = _limits(start, which, wanted)
    own = {"source_ts": np.asarray(tested.ts), "source_other": np.asarray(tested.other) | other}
    return _Quantities(own | limits, points)


def _limits(
    start: StartedFit, which: Array, wanted: dict[str, tuple[float, float, bool]]
) -> tuple[dict[str, Array], Array, Array]:
    """Distances of norms from points on a side where the statistic has risen by so much.

    Or the points themselves, which may be bounds of the norms, where the last of each is true. And
    whether the fits there have another minimum, (M,), and these fits, (M, L, Z).
    """
    if not wanted:
        size = start.data.start.size
        return {}, np.zeros(len(which), bool), np.zeros((len(which), 0, size))
    at = norm_positions(start.data)[which]
    sides, rises, closed = map(np.array, zip(*wanted.values(), strict=True))
    units = start.units.values[at]
    distances, other, points = limited(start.data, start.fit, which, (sides, rises, closed))
    found = np.array(distances).T * units
    norms = np.asarray(start.fit.values)[at] * units
    pairs = zip(wanted.items(), found, strict=True)
    named = {name: far + norms if closed else far for (name, (*_, closed)), far in pairs}
    return named, np.any(np.asarray(other), axis=1), np.asarray(points)


def _of_bins(
    start: StartedFit,
    which: Array,
    selection: Selection,
    bounds: tuple[float | None, float | None],
) -> _Quantities:
    """Test statistics of some bins, their errors, limits and scans."""
    fit, n_sigma = start.fit, selection.n_sigma
    wanted: dict[str, tuple[float, float, bool]] = {}
    if "errn-errp" in selection:
        wanted |= {"norm_errn": (-1.0, n_sigma**2, False), "norm_errp": (1.0, n_sigma**2, False)}
    if "ul" in selection:
        wanted["norm_ul"] = (1.0, selection.n_sigma_ul**2, True)
    limits, other, points = _limits(start, which, wanted)
    values: dict[str, Array] = {"ts": start.ts[which], **limits}
    if fit.other_without is not None:
        other = other | np.asarray(fit.other_without)[which]
    if "scan" in selection:
        norms, ends = _scanned(start, which, bounds, selection)
        units = start.units.values[norm_positions(start.data)][which]
        found = scanned(start.data, fit, which, norms / units[:, np.newaxis])
        values["scan_norms"] = norms
        values["scan"], values["scan_conditional"] = map(np.asarray, found[:2])
        other = other | np.any(np.asarray(found.other), axis=1)
        done = np.isfinite(values["scan"])[..., np.newaxis]
        points = np.concatenate(
            [points, ends, np.where(done, np.asarray(found.points), np.nan)], axis=1
        )
    return _Quantities(values | {"other": other}, points)


def _scanned(
    start: StartedFit, bins: Array, bounds: tuple[float | None, float | None], selection: Selection
) -> tuple[Array, Array]:
    """Norms that the likelihood of each bin is scanned at, (B, V), and fits that tell them."""
    scan = selection.scan
    if scan.values is not None:
        norms = np.broadcast_to(scan.values, (len(bins), len(scan.values)))
        return norms, np.zeros((len(bins), 0, start.data.start.size))
    at = norm_positions(start.data)[bins]
    units = start.units.values[at]
    goal = scan.n_sigma**2, False
    sides = {"below": (-1.0, *goal), "above": (1.0, *goal)}
    far, _, points = _limits(start, bins, sides)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diagonal(np.asarray(start.fit.covariance))[at]) * units
    norm = np.asarray(start.fit.values)[at] * units
    return scan.around(norm, (far["below"], far["above"], error), bounds), points


def _sensitivity(start: StartedFit, n_bins: int, even: JointData, selection: Selection) -> Array:
    """Norms of the bins that would be significant, (B,), for data with even counts bins."""
    bins, n_sigma = np.arange(n_bins), np.asarray(float(selection.n_sigma_sensitivity))
    found = joint_sensitivity(start.units.data(even), start.fit, bins, n_sigma)
    units = start.units.values[norm_positions(start.data)][:n_bins]
    # It would be nothing but the floor of the predicted counts.
    return np.where(alone_somewhere(even)[bins], np.nan, units * np.asarray(found))


def _result(
    problem: JointProblem, group: Group, start: StartedFit, values: dict[str, Array]
) -> GroupResult:
    """The fit of one group with what was asked for."""
    own = jax.tree.map(np.asarray, start.fit)
    best = best_of(start.data, own) * start.units.values
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
