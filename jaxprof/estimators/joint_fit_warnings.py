"""Warnings of joint fits of energy groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxprof.estimators.fit_warnings import (
    LOST,
    Bins,
    alone_somewhere,
    counts_are_lost,
    warn_infinite_significance,
    warn_other_minima,
)
from jaxprof.estimators.group_fit import GroupResult, StartedFit
from jaxprof.inference.scaling import norm_positions
from jaxprof.likelihood.data import Status
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.user_warning import warn_user


def warn_fits(problem: JointProblem, started: dict[int, StartedFit], bins: Bins) -> None:
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


def warn_sensitivity(results: Sequence[GroupResult], bins: Bins) -> None:
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


def warn_held_minima(results: Sequence[GroupResult], bins: Bins) -> None:
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
