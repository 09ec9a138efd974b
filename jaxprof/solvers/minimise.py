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

from jaxprof.solvers.stationary import at_bounds, covariance, differentiable_minimum, regular
from jaxprof.solvers.trust_region import (
    QuadraticModel,
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
ROUNDING = 16
"""Rounding of the function in units of the last digit."""
SUFFICIENT = 0.1
"""Part of the predicted gain that a step must bring."""
NEARBY = 1e-6
"""Squared decrement from which on steps are those of a quadratic convergence."""
DISTINCT = 0.01
"""Distance of another minimum, in standard deviations."""
NEAR = 0.5
"""How much higher another minimum is at most: one in the fit statistic."""

Function = Callable[[jax.Array], jax.Array]


class Tolerances(NamedTuple):
    """Squared decrements, in standard deviations squared, that depend on the precision."""

    arrived: float  # the next point is the minimum to rounding
    following: float  # the same for the decrement that is expected there
    stuck: float  # good enough where rounding allows no further decrease
    noise: float  # gains that may be lost in rounding: a small function may be of large terms


def tolerances(dtype: jnp.dtype) -> Tolerances:
    """The tolerances for a dtype."""
    if jnp.finfo(dtype).bits == 64:
        return Tolerances(arrived=1e-14, following=1e-22, stuck=1e-6, noise=1e-8)
    return Tolerances(arrived=1e-7, following=0.0, stuck=1e-3, noise=1e-3)


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
        active bounds, those that take part in a direction without curvature, and those whose
        curvature still changed over the last step.
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


class _Bounds(NamedTuple):
    lower: jax.Array
    upper: jax.Array


class _State(NamedTuple):
    x: jax.Array
    value: jax.Array
    hessian: jax.Array  # at the point before
    active: jax.Array
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


class _Point(NamedTuple):
    """A point and what the function is around it; no gradient where bounds are active."""

    x: jax.Array
    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    noise: jax.Array  # rounding of the function


class _Trial(NamedTuple):
    x: jax.Array
    value: jax.Array
    radius: jax.Array  # for the next trial or step
    good: jax.Array
    number: jax.Array


def _attempt(function: Function, here: _Point, model: QuadraticModel, bounds: _Bounds) -> Callable:
    """The next trial after one that failed."""

    def attempt(trial: _Trial) -> _Trial:
        step, length = bounded_step(model, trial.radius)
        new = jnp.clip(here.x + step, *bounds)
        step = new - here.x
        predicted = -(here.gradient @ step + 0.5 * step @ here.hessian @ step)
        value = function(new)
        gain = here.value - value
        # Gains that are lost in rounding cannot be compared.
        small = jnp.abs(predicted) <= here.noise
        enough = (predicted > 0) & (gain >= SUFFICIENT * predicted)
        good = jnp.isfinite(value) & jnp.where(small, gain >= -here.noise, enough)
        wider = (gain > 0.75 * predicted) & (length >= 0.9 * trial.radius)
        radius = jnp.where(wider, 4.0 * trial.radius, trial.radius)
        radius = jnp.where(gain < 0.25 * predicted, 0.5 * length, radius)
        radius = jnp.where(small, trial.radius, radius)
        radius = jnp.where(good, radius, 0.25 * length)
        return _Trial(new, value, radius, good, trial.number + 1)

    return attempt


def _slopes(function: Function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradient and Hessian in one pass."""

    def along(direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(jax.grad(function), (x,), (direction,))

    return jax.vmap(along, out_axes=(None, 0))(jnp.eye(x.size, dtype=x.dtype))


def _improved(function: Function, state: _State, bounds: _Bounds) -> _State:
    """The state after a Newton step, shortened until the function falls."""
    x, value = state.x, state.value
    dtype = x.dtype
    limits, eps = tolerances(dtype), float(jnp.finfo(dtype).eps)
    gradient, hessian = _slopes(function, x)
    known = jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(hessian))
    active = at_bounds(x, gradient, *bounds)
    gradient = jnp.where(known & ~active, gradient, 0.0)
    hessian = jnp.where(known, hessian, jnp.eye(x.size, dtype=dtype))
    model = quadratic_model(gradient, hessian, active)
    convex = known & jnp.all(model.curvature > -least_curvature(dtype))
    decrement = squared_decrement(model)
    noise = jnp.maximum(ROUNDING * eps * jnp.maximum(jnp.abs(value), 1.0), limits.noise)
    # Once the gain is lost in rounding, Newton's steps go on while the gradient shrinks.
    stagnant = (decrement <= noise) & (decrement >= 0.1 * state.decrement)
    # Near the minimum each distance is about as many times the square of the one before.
    known_rate = jnp.isfinite(state.decrement) & (state.decrement > 0)
    following = decrement * (decrement / jnp.where(known_rate, state.decrement, 1.0)) ** 2
    close = (decrement <= limits.arrived) | (
        known_rate & (decrement <= NEARBY) & (following <= limits.following)
    )
    arrived = convex & (close | stagnant)
    trial = jax.lax.while_loop(
        lambda trial: ~trial.good & (trial.number < TRIALS),
        _attempt(function, _Point(x, value, gradient, hessian, noise), model, bounds),
        # Of a batch, searches that have ended wait for the others.
        _Trial(x, value, state.radius, ~known | state.done, jnp.asarray(0)),
    )
    stuck = ~trial.good & convex & (decrement <= limits.stuck)
    moved = trial.good & known
    return _State(
        x=jnp.where(moved, trial.x, x),
        value=jnp.where(moved, trial.value, value),
        hessian=hessian,
        active=active,
        radius=trial.radius,
        decrement=decrement,
        iteration=state.iteration + 1,
        converged=arrived | stuck,
        done=arrived | ~moved,
    )


def _search(function: Function, start: jax.Array, bounds: _Bounds) -> _Found:
    """The minimum that is reached from a start; nothing here is differentiated."""
    start = jnp.clip(start, *bounds)
    value = function(start)
    state = jax.lax.while_loop(
        lambda state: ~state.done & (state.iteration < STEPS),
        lambda state: _improved(function, state, bounds),
        _State(
            x=start,
            value=value,
            hessian=jnp.eye(start.size, dtype=start.dtype),
            active=jnp.zeros(start.size, bool),
            radius=jnp.asarray(RADIUS, start.dtype),
            decrement=jnp.asarray(jnp.inf, start.dtype),
            iteration=jnp.asarray(0),
            converged=jnp.asarray(False),
            done=~jnp.isfinite(value),
        ),
    )
    return _Found(state.x, state.value, state.hessian, state.active, state.converged)


def _lowest(found: _Found) -> tuple[_Found, jax.Array]:
    """The lowest of several minima, and the next one that is distinct and almost as low."""
    value = jnp.where(found.converged, found.value, jnp.inf)
    # Without any minimum, a point with a value at least.
    last = jnp.where(jnp.isfinite(found.value), found.value, jnp.inf)
    at = jnp.where(jnp.any(found.converged), jnp.argmin(value), jnp.argmin(last))
    best = jax.tree.map(lambda a: a[at], found)
    apart = found.x - best.x[None, :]
    distance = jnp.einsum("si,ij,sj->s", apart, best.hessian, apart)
    # Points that are held by different bounds differ, though no curvature tells.
    distinct = (distance > DISTINCT**2) | jnp.any(found.active != best.active[None, :], axis=1)
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
    bounds = _Bounds(lower / size, upper / size)

    def unscaled(z: jax.Array) -> jax.Array:
        # The product may round to beyond a bound, where the function may be infinite.
        x = size * z
        return x + jax.lax.stop_gradient(jnp.clip(x, lower, upper) - x)

    def scaled(z: jax.Array) -> jax.Array:
        return function(unscaled(z))

    def search(first: jax.Array) -> tuple[jax.Array, tuple[_Found, jax.Array]]:
        if len(starts) > 1:
            others = starts[1:] / size[None, :]
            every = jnp.concatenate([first[None, :], others])
            found, other = _lowest(jax.vmap(lambda start: _search(scaled, start, bounds))(every))
        else:
            found = _search(scaled, first, bounds)
            other = jnp.full_like(first, jnp.nan)
        # Derivatives are defined of floating numbers only.
        flags = found._replace(
            active=found.active.astype(first.dtype), converged=found.converged.astype(first.dtype)
        )
        return found.x, (flags, other)

    z, (found, other) = differentiable_minimum(scaled, starts[0] / size, bounds, search)
    active, hessian = found.active > 0, jax.hessian(scaled)(z)
    inverse = covariance(hessian, active | ~regular(found.hessian, hessian))
    return Minimum(
        x=unscaled(z),
        value=scaled(z),
        covariance=size[:, None] * size[None, :] * inverse,
        # Not of the covariance itself, which may be too small a number.
        errors=size * jnp.sqrt(jnp.diagonal(inverse)),
        active=active,
        converged=found.converged > 0,
        other=size * other,
    )
