"""Test statistics of norms of joint fits against zero; with the fit, but without derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.differentiation import refuse_derivatives
from jaxprof.inference.follow import FittedProblem, Goal, follow_all
from jaxprof.inference.held_fit import (
    NOTHING,
    HeldFit,
    at_fit,
    fit_held,
    in_searches,
    known_interior,
    profiles_are_followed,
)
from jaxprof.inference.held_together import held_together, is_simple
from jaxprof.inference.interior import interior, usable
from jaxprof.inference.joint_fit import (
    described,
    fit_ready,
    fitted_problem,
    is_valid,
    ready,
)
from jaxprof.inference.newton_step import is_linear
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit

MANY = 200
"""Norms from which on fits with one of them at zero are made together; to follow 51 of them takes
less than half of that time."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JointTS:
    """Test statistics of norms, shape (M,) each.

    Attributes
    ----------
    ts : array
        Rise of the statistic from the minimum to the best fit with the norm held at zero.
    converged : array of bool
        Whether that fit was found; ``ts`` is NaN otherwise.
    other : array of bool
        Whether another minimum is less than one higher than that fit.
    """

    ts: Any
    converged: Any
    other: Any


@in_searches
def joint_ts(data: JointData, fit: JointFit, components: jax.Array) -> JointTS:
    """Test statistic of each norm against zero, all other parameters profiled.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.

    Returns
    -------
    JointTS
    """
    best, inside, zero = at_fit(data, fit), known_interior(data), jnp.zeros_like(fit.values[0])

    def one(component: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        held = fit_held(data, best, inside, component * (1 + data.n_shape), zero)
        converged = held.converged & (fit.status[component] < Status.FULLY_MASKED)
        ts = jnp.where(converged, jnp.maximum(held.rise, 0.0), jnp.nan)
        return ts, converged, converged & held.has_other(fit)

    ts, converged, other = jax.lax.map(one, components)
    return JointTS(ts=ts, converged=converged, other=other)


def fit_joint_ts(
    data: JointData, components: Any, with_ts: Any = True, fit: JointFit | None = None
) -> tuple[Any, Any, Any]:
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
    fit : JointFit, optional
        The fit where it is known.

    Returns
    -------
    fit : JointFit
        The fit, with ``other_without`` where predictions are not linear.
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
    if is_traced((data, components, with_ts)):
        return searched_ts(data, components, with_ts)
    components = np.asarray(components)
    wanted = np.broadcast_to(with_ts, components.shape)
    own = ready(data)
    fit = fit_ready(data, own) if fit is None else fit
    ts = np.full(components.shape, np.nan, fit.values.dtype)
    points = np.full((len(components), len(fit.values)), np.nan, fit.values.dtype)
    if not (wanted.any() and fit.converged):
        return fit, ts, points
    status = np.asarray(fit.status)[components]
    known = (status < Status.FULLY_MASKED) | (status == Status.DEGENERATE)
    fitted = fitted_problem(data, fit, own)
    z, rises, found = points, ts, np.zeros(components.shape, bool)
    if profiles_are_followed(data):
        z, rises, found = _without(fitted, components, wanted)
    if not is_linear(data):
        inside, other = (own.point, own.barrier), np.zeros(components.shape, bool)
        for k in np.flatnonzero(wanted & known):
            at = components[k] * (1 + data.n_shape)
            held = fit_held(data, fitted.best, inside, at, 0.0, (z[k], found[k]))
            ts[k] = np.maximum(held.rise, 0.0) if np.isfinite(held.rise) else np.nan
            points[k] = held.z if held.converged else np.nan
            other[k] = held.has_other(fit)
        return replace(fit, other_without=other), ts, points
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
    z, rises = np.full((len(at), fitted.best.size), np.nan), np.full(len(at), np.nan)
    found = np.zeros(len(at), bool)
    if len(at) >= MANY and is_simple(fitted.problem):
        own = np.flatnonzero(wanted & np.asarray(fitted.free)[at])
        z[own], rises[own], found[own] = held_together(fitted, at[own])
    rest = np.flatnonzero(wanted & ~found)
    if rest.size:
        zero = np.zeros((1, len(rest)), np.asarray(fitted.best).dtype)
        goals = Goal(at[np.newaxis, rest], zero, zero, zero)
        z[rest], rises[rest], found[rest] = (part[0] for part in follow_all(fitted, goals))
    return z, rises, found & np.isfinite(rises)


@jit_by_size
def searched_ts(
    data: JointData, components: jax.Array, with_ts: bool | jax.Array = True
) -> tuple[JointFit, jax.Array, jax.Array]:
    """What `fit_joint_ts` gives, with a search for each of the fits."""
    data = refuse_derivatives(
        data, "fit_joint_ts has no derivatives: differentiate fit_joint and joint_ts instead"
    )
    inside, zero, no = interior(data), jnp.zeros((), data.start.dtype), jnp.asarray(False)

    def one(best: jax.Array, own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, HeldFit]:
        at, wanted = own
        none = HeldFit(best, no, jnp.full_like(best, jnp.nan), zero, zero)
        held = jax.lax.cond(
            wanted,
            lambda: fit_held(data, best, inside, at, jnp.where(at == NOTHING, jnp.nan, zero)),
            lambda: none,
        )
        # The first fit holds nothing; the next ones start from it.
        return jnp.where(at == NOTHING, held.z, best), held

    wanted = jnp.broadcast_to(with_ts, components.shape)
    at = jnp.append(NOTHING, components * (1 + data.n_shape))
    held = jax.lax.scan(one, inside[0], (at, jnp.append(True, wanted)))[1]
    valid = is_valid(data)
    points, converged = jnp.where(valid, held.z, jnp.nan), held.converged & valid
    fit = described(data, points[0], converged[0], usable(data), inside[1], held.other[0])
    status = fit.status[components]
    known = (status < Status.FULLY_MASKED) | (status == Status.DEGENERATE)
    found = wanted & converged[0] & known & jnp.isfinite(held.rise[1:])
    if not is_linear(data):
        fit = replace(fit, other_without=found & jax.vmap(lambda own: own.has_other(fit))(held)[1:])
    points = jnp.where(converged[1:, None], points[1:], jnp.nan)
    return fit, jnp.where(found, jnp.maximum(held.rise[1:], 0.0), jnp.nan), points
