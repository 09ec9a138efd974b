"""Scans of joint fits: the statistic at given norms, all other parameters profiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.inference.follow import Goal, follow
from jaxprof.inference.held_fit import (
    at_fit,
    fit_held,
    in_searches,
    known_interior,
    profiles_are_followed,
)
from jaxprof.inference.interior import in_domain
from jaxprof.inference.joint_fit import fitted_problem
from jaxprof.inference.joint_intervals import was_fitted
from jaxprof.inference.newton_step import is_linear
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.joint_model import difference


class Scans(NamedTuple):
    """The statistic at some norms, (M, V) each."""

    profiled: Any
    """Its rise with all other parameters profiled."""
    conditional: Any
    """The same with all others held at their best fit."""
    other: Any
    """Whether the fits there have another minimum, less than one higher."""
    points: Any
    """These fits (M, V, Z)."""


@jit_by_size
def _followed_scan(
    data: JointData, fit: JointFit, components: jax.Array, values: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Minima (M, V, Z) with norms at values (M, V), and whether they are right."""
    data, fit, values = jax.tree.map(jax.lax.stop_gradient, (data, fit, values))
    problem, best, free, barrier = fitted_problem(data, fit)
    zero = jnp.zeros_like(best[0])

    def one(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        component, own = pair
        at = component * (1 + data.n_shape)
        # Outwards from the minimum: up first, then down.
        below = own < best[at]
        order = jnp.lexsort((jnp.abs(own - best[at]), below))
        fitted = was_fitted(fit, at)

        def further(carry: tuple, number: jax.Array) -> tuple[tuple, tuple]:
            before, was_below = carry
            start = jnp.where(below[number] & ~was_below, best, before)
            goal = Goal(at, own[number], zero, zero)
            z, found = follow(problem, start, free, barrier, goal)
            return (jnp.where(found, z, start), below[number]), (z, found | ~fitted)

        _, (z, found) = jax.lax.scan(further, (best, jnp.asarray(False)), order)
        return jnp.zeros_like(z).at[order].set(z), jnp.zeros_like(found).at[order].set(found)

    return jax.lax.map(one, (components, values))


@jit_by_size
def _conditional(data: JointData, best: jax.Array, parameter: Any, value: Any) -> jax.Array:
    """Rise where one parameter is held at a value and all others at their best fit."""
    held = best.at[parameter].set(value)
    return jnp.where(in_domain(data, held), difference(data, held, best), jnp.inf)


@jit_by_size
def _followed_rises(
    data: JointData, fit: JointFit, components: jax.Array, values: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rises (M, V) of minima that are known, without derivatives."""
    best = at_fit(data, fit)

    def one(pair: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        component, own, minima = pair
        parameter = component * (1 + data.n_shape)
        found = (
            jax.lax.map(lambda z: difference(data, z, best), minima),
            jax.lax.map(lambda value: _conditional(data, best, parameter, value), own),
        )
        fitted = was_fitted(fit, parameter)
        return jax.tree.map(lambda rises: jnp.where(fitted, rises, jnp.nan), found)

    return jax.lax.map(one, (components, values, z))


@in_searches
def _rises(
    data: JointData,
    fit: JointFit,
    components: jax.Array,
    values: jax.Array,
    followed: tuple[jax.Array, jax.Array],
) -> Scans:
    """What `scanned` gives, with minima that were not found searched for, and with derivatives."""
    best = at_fit(data, fit)
    inside = known_interior(data)

    def one(pair: tuple[jax.Array, ...]) -> Scans:
        component, value, z, found = pair
        parameter = component * (1 + data.n_shape)
        held = fit_held(data, best, inside, parameter, value, (z, found))
        rises = held.rise, _conditional(data, best, parameter, value)
        fitted = was_fitted(fit, parameter)
        profiled, fixed = (jnp.where(fitted, rise, jnp.nan) for rise in rises)
        return Scans(profiled, fixed, fitted & held.has_other(fit), held.z)

    z, found = (jax.lax.stop_gradient(each) for each in followed)
    grid = (jnp.repeat(components, values.shape[1]), values.ravel(), z.reshape(-1, z.shape[-1]))
    made: Scans = jax.lax.map(one, (*grid, found.ravel()))
    return Scans(*(part.reshape(*values.shape, *part.shape[1:]) for part in made))


def joint_scan(
    data: JointData, fit: JointFit, components: Any, values: Any
) -> tuple[jax.Array, jax.Array]:
    """Rise of the statistic above its minimum on a grid of norms.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.
    values : array, shape (V,) or (M, V)
        Norms, the same for all components or a row for each.

    Returns
    -------
    profiled : array, shape (M, V)
        All other parameters profiled; infinite where no values of these are possible. Where
        a minimisation does not reach its tolerance, the rise at its last point.
    conditional : array, shape (M, V)
        All other parameters held at their best fit; infinite where a prediction is below zero.

    Notes
    -----
    Both have derivatives, as those of `joint_limits`, also with respect to the values; where they
    are NaN or infinite, their derivatives are zero.
    """
    return scanned(data, fit, components, values)[:2]


def scanned(data: JointData, fit: JointFit, components: Any, values: Any) -> Scans:
    """What `joint_scan` gives, with the fits behind it."""
    components = jnp.asarray(components)
    values = jnp.broadcast_to(values, (len(components), values.shape[-1]))
    if profiles_are_followed(data):
        followed = _followed_scan(data, fit, components, values)
        traced = is_traced((data, fit, values, followed))
        if is_linear(data) and not traced and np.asarray(followed[1]).all():
            # Not to compile the search, which takes longer than all else.
            profiled, conditional = _followed_rises(data, fit, components, values, followed[0])
            return Scans(profiled, conditional, np.zeros(values.shape, bool), followed[0])
    else:
        # Other minima may be lower: each is searched for.
        none = jnp.zeros((*values.shape, fit.values.size), fit.values.dtype)
        followed = none, jnp.zeros(values.shape, bool)
    return _rises(data, fit, components, values, followed)
