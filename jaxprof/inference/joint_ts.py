"""Joint fits with the test statistics of their norms against zero, without derivatives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.differentiation import refuse_derivatives
from jaxprof.inference.basins import lowest
from jaxprof.inference.follow import FittedProblem, Goal, follow_all
from jaxprof.inference.held_together import held_together, is_simple
from jaxprof.inference.interior import (
    inside_of,
    interior,
    usable,
    with_centred_spectra,
    without_spectrum,
)
from jaxprof.inference.joint_fit import (
    at_fit,
    described,
    fit_held,
    fit_ready,
    fitted_problem,
    held_start,
    is_valid,
    profiles_are_followed,
    ready,
)
from jaxprof.inference.newton_step import is_linear
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.joint_model import difference

MANY = 200
"""Norms from which on fits with one of them at zero are made together; to follow 51 of them takes
less than half of that time."""


def fit_joint_ts(data: JointData, components: Any, with_ts: Any = True) -> tuple[Any, Any, Any]:
    """Joint fit and the test statistic of each norm against zero, without derivatives.

    Equal to `fit_joint` followed by `joint_ts`, but that degenerate norms have one too. Where
    predictions are linear in all parameters, and in large problems with free spectra, the fits with
    a norm of zero are found by `follow`, and searched for where that does not get there.

    Parameters
    ----------
    data : JointData
        The problem.
    components : array of int, shape (M,)
        Which components.
    with_ts : bool or array of bool, shape (M,)
        Which test statistics are wanted.

    Returns
    -------
    fit : JointFit
        The fit.
    ts : array, shape (M,)
        Rise of the statistic from the minimum to the best fit with the norm held at zero. Where
        that fit did not reach its tolerance, the rise at its last point, an upper bound; NaN where
        none was possible or wanted.
    points : array, shape (M, Z)
        These fits; NaN where none was found to the tolerance.

    Raises
    ------
    TypeError
        If it is differentiated.
    """
    if is_traced((data, components, with_ts)) or not profiles_are_followed(data):
        return searched_ts(data, components, with_ts)
    components = np.asarray(components)
    wanted = np.broadcast_to(with_ts, components.shape)
    own = ready(data)
    fit = fit_ready(data, own)
    ts = np.full(components.shape, np.nan, fit.values.dtype)
    points = np.full((len(components), len(fit.values)), np.nan, fit.values.dtype)
    if not (wanted.any() and fit.converged):
        return fit, ts, points
    fitted = fitted_problem(data, fit, own)
    z, rises, found = _without(fitted, components, wanted)
    if not is_linear(data):
        lowest_ts = _ts_near(data, fit, components, wanted, (z, found))
        return fit, *(np.asarray(part) for part in lowest_ts)
    status = np.asarray(fit.status)[components]
    known = (status < Status.FULLY_MASKED) | (status == Status.DEGENERATE)
    ts = np.where(found & known, np.maximum(rises, 0.0), ts)
    points = np.where(found[:, np.newaxis], z, points)
    rest = wanted & ~found
    if rest.any():
        _, others, their_points = searched_ts(data, components, rest)
        ts = np.where(rest, others, ts)
        points = np.where(rest[:, np.newaxis], their_points, points)
    return fit, ts, points


def _without(
    fitted: FittedProblem, components: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits with a norm of zero (M, Z), rises of the statistic and whether they were found, (M,)."""
    at = components * (1 + fitted.problem.n_shape)
    zero = np.zeros((1, len(at)), np.asarray(fitted.best).dtype)
    if len(at) < MANY or not is_simple(fitted.problem):
        z, rises, found = (part[0] for part in follow_all(fitted, Goal(at[None], zero, zero, zero)))
        return z, rises, wanted & found & np.isfinite(rises)
    z, rises = np.full((len(at), fitted.best.size), np.nan), np.full(len(at), np.nan)
    found = np.zeros(len(at), bool)
    own = np.flatnonzero(wanted & np.asarray(fitted.free)[at])
    z[own], rises[own], found[own] = held_together(fitted, at[own])
    # One by one: whatever their number, they take the same compiled program.
    for number in np.flatnonzero(wanted & ~found):
        goal = Goal(at[number].reshape(1, 1), *(zero[:, :1],) * 3)
        z[number], rises[number], found[number] = (part[0, 0] for part in follow_all(fitted, goal))
    return z, rises, found & np.isfinite(rises)


@jit_by_size
def _ts_near(
    data: JointData,
    fit: JointFit,
    components: jax.Array,
    wanted: jax.Array,
    followed: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Test statistics (M,) and fits (M, Z) with norms of zero, from where profiles have led."""
    inside, best = interior(data), at_fit(data, fit)
    status = fit.status[components]
    known = wanted & ((status < Status.FULLY_MASKED) | (status == Status.DEGENERATE))

    def one(own: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        component, known, *near = own

        def found() -> tuple[jax.Array, jax.Array]:
            zero, at = jnp.zeros_like(best[0]), component * (1 + data.n_shape)
            z, converged, possible = fit_held(data, fit, inside, at, zero, (near[0], near[1]))
            rise = difference(data, z, best)
            ts = jnp.where(possible & jnp.isfinite(rise), jnp.maximum(rise, 0.0), jnp.nan)
            return ts, jnp.where(converged, z, jnp.nan)

        none = jnp.full_like(best[0], jnp.nan), jnp.full_like(best, jnp.nan)
        return jax.lax.cond(known, found, lambda: none)

    return jax.lax.map(one, (components, known, *followed))


@jit_by_size
def searched_ts(
    data: JointData, components: jax.Array, with_ts: bool | jax.Array = True
) -> tuple[JointFit, jax.Array, jax.Array]:
    """What `fit_joint_ts` gives, with a search for each of the fits."""
    data = refuse_derivatives(
        data, "fit_joint_ts has no derivatives: differentiate fit_joint and joint_ts instead"
    )
    start, barrier = interior(data)
    usual = usable(data)

    def one(best: jax.Array, which: tuple) -> tuple[jax.Array, tuple]:
        component, wanted = which
        # The first fit holds nothing; the next ones start from it.
        first = component < 0

        def found() -> tuple[jax.Array, ...]:
            parameter = jnp.maximum(component, 0) * (1 + data.n_shape)
            free = usual & (first | (jnp.arange(usual.size) != parameter))
            held = start.at[parameter].set(jnp.where(first, start[parameter], 0.0))
            _, free = without_spectrum(data, free, parameter, jnp.where(first, jnp.nan, 0.0))
            problem, point, possible = inside_of(data, free, held)
            begin = jnp.where(first, point, held_start(data, free, best, parameter, point))
            z, converged, other = lowest(problem, begin, free, barrier, point)
            return with_centred_spectra(data, z, free), converged & possible, possible, other

        no = jnp.asarray(False)
        none = best, no, no, jnp.full_like(best, jnp.nan)
        z, *rest = jax.lax.cond(wanted, found, lambda: none)
        return jnp.where(first, z, best), (z, *rest)

    wanted = jnp.broadcast_to(with_ts, components.shape)
    everything = (
        jnp.concatenate([jnp.array([-1]), components]),
        jnp.concatenate([jnp.array([True]), wanted]),
    )
    _, (points, converged, possible, others) = jax.lax.scan(one, start, everything)
    valid = is_valid(data)
    points, converged = jnp.where(valid, points, jnp.nan), converged & valid
    fit = described(data, points[0], converged[0], usual, barrier, others[0])
    rises = jax.lax.map(lambda z: difference(data, z, points[0]), points[1:])
    status = fit.status[components]
    known = (status < Status.FULLY_MASKED) | (status == Status.DEGENERATE)
    found = wanted & converged[0] & known & possible[1:] & jnp.isfinite(rises)
    held = jnp.where(converged[1:, None], points[1:], jnp.nan)
    return fit, jnp.where(found, jnp.maximum(rises, 0.0), jnp.nan), held
