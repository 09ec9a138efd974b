"""Minimum of a smooth function of some parameters, to rounding, with implicit derivatives.

Newton's method with the exact Hessian in a trust region (Nocedal & Wright 2006, Numerical
Optimization, chapter 4), projected onto bounds (Bertsekas 1982, SIAM J. Control Optim. 20, 221).
The function is minus a log probability: changes of order one matter, and the inverse of its Hessian
is a covariance. Where it is infinite or NaN is outside of its domain: steps that end there are
shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.solvers.stationary import at_bounds, covariance, differentiable_minimiser, rises
from jaxprof.solvers.trust_region import (
    bounded_step,
    least_curvature,
    quadratic_model,
    squared_decrement,
)

STEPS = 200
"""Most steps. Usually 5 to 15 do."""
TRIALS = 40
"""Most radii that are tried for one step."""
RADIUS = 100.0
"""The first radius of the trust region, in conditional standard deviations."""
SUFFICIENT = 0.1
"""Part of the predicted gain that a step must bring."""
DISTINCT = 0.01
"""Distance of another minimum, in standard deviations."""
NEAR = 0.5
"""How much higher another minimum is at most: one in the fit statistic."""

Function = Callable[[jax.Array], jax.Array]


class Tolerances(NamedTuple):
    """Squared decrements, in standard deviations squared, that depend on the precision."""

    arrived: float  # the next point is the minimum to rounding
    stuck: float  # good enough where rounding allows no further decrease


def tolerances(dtype: jnp.dtype) -> Tolerances:
    """The tolerances for a dtype."""
    if jnp.finfo(dtype).bits == 64:
        return Tolerances(arrived=1e-16, stuck=1e-6)
    return Tolerances(arrived=1e-8, stuck=1e-3)


class Minimum(NamedTuple):
    """A minimum of a function; the first four are differentiable.

    Attributes
    ----------
    x : array, shape (n,)
        The minimiser, or the last point where none was found.
    value : array, shape ()
        The function there.
    covariance : array, shape (n, n)
        The inverse of its Hessian there; NaN for parameters that are not determined: those at
        active bounds, those that take part in a direction without curvature, and those from whose
        value the function does not rise as its curvature says.
    errors : array, shape (n,)
        Square roots of the covariance's diagonal.
    active : array of bool, shape (n,)
        Parameters whose bounds hold the minimum.
    converged : array of bool, shape ()
        Whether the gradient vanishes to rounding and the curvature is not negative.
    other : array, shape (n,)
        Another minimum that is almost as low and was reached from another start; otherwise NaN.
    """

    x: jax.Array
    value: jax.Array
    covariance: jax.Array
    errors: jax.Array
    active: jax.Array
    converged: jax.Array
    other: jax.Array


class _State(NamedTuple):
    x: jax.Array
    value: jax.Array
    radius: jax.Array
    decrement: jax.Array
    iteration: jax.Array
    converged: jax.Array
    done: jax.Array


class _Found(NamedTuple):
    x: jax.Array
    value: jax.Array
    hessian: jax.Array
    active: jax.Array
    converged: jax.Array


class _Trial(NamedTuple):
    x: jax.Array
    value: jax.Array
    radius: jax.Array
    good: jax.Array
    number: jax.Array


def _derivatives(function: Function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.grad(function)(x), jax.hessian(function)(x)


def _search(function: Function, start: jax.Array, lower: jax.Array, upper: jax.Array) -> _Found:
    """The minimum that is reached from a start; nothing here is differentiated."""
    dtype = start.dtype
    limits, least = tolerances(dtype), least_curvature(dtype)
    rounding = 16 * float(jnp.finfo(dtype).eps)

    def body(state: _State) -> _State:
        x, value = state.x, state.value
        gradient, hessian = _derivatives(function, x)
        active = at_bounds(x, gradient, lower, upper)
        known = jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(hessian))
        gradient = jnp.where(known & ~active, gradient, 0.0)
        hessian = jnp.where(known, hessian, jnp.eye(x.size, dtype=dtype))
        model = quadratic_model(gradient, hessian, active)
        convex = known & jnp.all(model.curvature > -least)
        decrement = squared_decrement(model)
        noise = rounding * jnp.maximum(jnp.abs(value), 1.0)
        # Once the gain is lost in rounding, Newton's steps go on while the gradient shrinks.
        stagnant = (decrement <= noise) & (decrement >= 0.1 * state.decrement)
        arrived = convex & ((decrement <= limits.arrived) | stagnant)

        def attempt(trial: _Trial) -> _Trial:
            step, length = bounded_step(model, trial.radius)
            new = jnp.clip(x + step, lower, upper)
            step = new - x
            predicted = -(gradient @ step + 0.5 * step @ hessian @ step)
            new_value = function(new)
            gain = value - new_value
            small = jnp.abs(predicted) <= noise
            enough = jnp.where(
                small, gain >= -noise, (predicted > 0) & (gain >= SUFFICIENT * predicted)
            )
            good = jnp.isfinite(new_value) & enough
            wider = (gain > 0.75 * predicted) & (length >= 0.9 * trial.radius)
            radius = jnp.where(wider, 4.0 * trial.radius, trial.radius)
            radius = jnp.where(gain < 0.25 * predicted, 0.5 * length, radius)
            radius = jnp.where(small, trial.radius, radius)
            radius = jnp.where(good, radius, 0.25 * length)
            return _Trial(new, new_value, radius, good, trial.number + 1)

        trial = jax.lax.while_loop(
            lambda trial: ~trial.good & (trial.number < TRIALS),
            attempt,
            # Of a batch, searches that have ended wait for the others.
            _Trial(x, value, state.radius, ~known | state.done, jnp.asarray(0)),
        )
        stuck = ~trial.good & convex & (decrement <= limits.stuck)
        moved = trial.good & known
        return _State(
            x=jnp.where(moved, trial.x, x),
            value=jnp.where(moved, trial.value, value),
            radius=trial.radius,
            decrement=decrement,
            iteration=state.iteration + 1,
            converged=arrived | stuck,
            done=arrived | ~moved,
        )

    start = jnp.clip(start, lower, upper)
    value = function(start)
    state = jax.lax.while_loop(
        lambda state: ~state.done & (state.iteration < STEPS),
        body,
        _State(
            x=start,
            value=value,
            radius=jnp.asarray(RADIUS, dtype),
            decrement=jnp.asarray(jnp.inf, dtype),
            iteration=jnp.asarray(0),
            converged=jnp.asarray(False),
            done=~jnp.isfinite(value),
        ),
    )
    gradient, hessian = _derivatives(function, state.x)
    active = at_bounds(state.x, gradient, lower, upper)
    return _Found(state.x, state.value, hessian, active, state.converged)


def _lowest(found: _Found) -> tuple[_Found, jax.Array]:
    """The lowest of several minima, and the next one that is distinct and almost as low."""
    value = jnp.where(found.converged, found.value, jnp.inf)
    # Without any minimum, a point with a value at least.
    last = jnp.where(jnp.isfinite(found.value), found.value, jnp.inf)
    at = jnp.where(jnp.any(found.converged), jnp.argmin(value), jnp.argmin(last))
    best = jax.tree.map(lambda a: a[at], found)
    apart = found.x - best.x
    distance = jnp.einsum("si,ij,sj->s", apart, best.hessian, apart)
    # Points that are held by different bounds differ, though no curvature tells.
    distinct = (distance > DISTINCT**2) | jnp.any(found.active != best.active, axis=1)
    height = jnp.where(distinct, value - best.value, jnp.inf)
    second = jnp.argmin(height)
    near = found.converged[second] & (height[second] < NEAR)
    return best, jnp.where(near, found.x[second], jnp.nan)


def minimise(function: Function, starts: jax.Array, lower: jax.Array, upper: jax.Array) -> Minimum:
    """Lowest minimum that is reached from some starts.

    Parameters
    ----------
    function : callable
        Maps an array (n,) to a scalar; twice differentiable inside of its domain, infinite or NaN
        outside. It may close over anything that is to be differentiated.
    starts : array, shape (S, n)
        First points.
    lower, upper : array, shape (n,)
        Bounds, infinite where there are none.

    Returns
    -------
    Minimum
        Its derivatives are those of the implicit function theorem. Where nothing tells parameters
        from each other, the derivative is that of the shortest step.

    Notes
    -----
    Parameters are scaled by the size of the start, and in each step by the curvature: their units
    do not matter.
    """
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(starts)), axis=0)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1.0)
    scaled, constants = jax.closure_convert(lambda z: function(size * z), starts[0])
    still = jax.lax.stop_gradient(constants)
    low, high, begin = jax.lax.stop_gradient((lower / size, upper / size, starts / size))

    def fixed(z: jax.Array) -> jax.Array:
        return scaled(z, *still)

    def search(start: jax.Array) -> _Found:
        return _search(fixed, start, low, high)

    if len(starts) > 1:
        found, other = _lowest(jax.vmap(search)(begin))
    else:
        found = search(begin[0])
        other = jnp.full_like(found.x, jnp.nan)

    def varied(z: jax.Array) -> jax.Array:
        return scaled(z, *constants)

    ends = jnp.where(found.x <= low, lower, upper) / size
    z = differentiable_minimiser(varied, found.x, found.hessian, found.active, ends)
    regular = rises(fixed, found.x, found.hessian, found.active, (low, high))
    inverse = covariance(jax.hessian(varied)(z), found.active | ~regular)
    return Minimum(
        x=size * z,
        value=varied(z),
        covariance=size[:, None] * size[None, :] * inverse,
        # Not of the covariance itself, which may be too small a number.
        errors=size * jnp.sqrt(jnp.diagonal(inverse)),
        active=found.active,
        converged=found.converged,
        other=size * other,
    )
