"""What is known at a minimum: its derivatives, its covariance, and whether it is regular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.solvers.trust_region import least_curvature, masked, scales

CHANGE = 0.05
"""Largest relative change of a curvature over the last step; 0.2 to 0.8 if there is no error."""

Function = Callable[[jax.Array], jax.Array]


def at_bounds(x: jax.Array, gradient: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Parameters whose bounds keep a function from falling, (n,)."""
    return ((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0))


def flat_directions(hessian: jax.Array) -> jax.Array:
    """Projection onto the directions in which a scaled Hessian vanishes but for rounding, (n, n).

    It carries no derivatives.
    """
    still = jax.lax.stop_gradient(hessian)
    curvature, axes = jnp.linalg.eigh(still)
    flat = curvature < least_curvature(still.dtype)
    return (axes * flat[None, :]) @ axes.T


def _scaled(hessian: jax.Array, active: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A Hessian scaled to a unit diagonal, identity for active parameters; scales; whether finite.

    One that is not finite becomes the identity: no NaN enters derivatives.
    """
    own = masked(hessian, active)
    finite = jnp.all(jnp.isfinite(own))
    own = jnp.where(finite, own, jnp.eye(len(own), dtype=own.dtype))
    unit = scales(jax.lax.stop_gradient(own))
    return own / (unit[:, None] * unit[None, :]), unit, finite


def differentiable_minimum(
    function: Function,
    start: jax.Array,
    bounds: tuple[jax.Array, jax.Array],
    search: Callable[[jax.Array], tuple[jax.Array, Any]],
) -> tuple[jax.Array, Any]:
    """Find a minimiser and give it its derivatives by the implicit function theorem.

    Parameters
    ----------
    function : callable
        Maps an array (n,) to a scalar; it may close over anything that is to be differentiated.
    start : array
        What the search starts from.
    bounds : tuple of array, shape (n,)
        Lower and upper bounds, which a minimiser follows that they hold.
    search : callable
        Maps the start to the minimiser (n,) and whatever else is known of it. It is not
        differentiated.

    Returns
    -------
    x : array, shape (n,)
        The minimiser, with derivatives of any order and in both modes. Along directions without
        curvature it does not move.
    found : pytree
        What else the search gave, without derivatives.
    """
    lower, upper = bounds

    def residual(x: jax.Array) -> jax.Array:
        # The gradient, or the distance from an active bound.
        return x - jnp.clip(x - jax.grad(function)(x), lower, upper)

    def tangent_solve(linear: Callable, y: jax.Array) -> jax.Array:
        identity = jnp.eye(y.size, dtype=y.dtype)
        matrix = jax.vmap(linear, out_axes=1)(identity)
        # Rows of parameters that a bound holds, which the others follow.
        still = jax.lax.stop_gradient(matrix)
        own, unit, finite = _scaled(still, jnp.all(still == identity, axis=1))
        scaled = matrix / (unit[:, None] * unit[None, :]) + flat_directions(own)
        scaled = jnp.where(finite, scaled, identity)
        return jnp.linalg.solve(scaled, y / unit) / unit

    guess = jax.lax.stop_gradient(start)
    return jax.lax.custom_root(residual, guess, lambda _, x: search(x), tangent_solve, has_aux=True)


def regular(before: jax.Array, after: jax.Array) -> jax.Array:
    """Whether curvature gives errors, parameter by parameter.

    The last step to a minimum is far shorter than a standard deviation, so that the curvature is
    the same before and after. It is not where a function only comes closer to its lowest value
    ever further away, and where its curvature vanishes at the minimum and not around it.

    Parameters
    ----------
    before, after : array, shape (n, n)
        Hessians at the last two points.

    Returns
    -------
    regular : array of bool, shape (n,)
    """
    before, after = (jnp.abs(jnp.diagonal(matrix)) for matrix in (before, after))
    return jnp.abs(after - before) <= CHANGE * jnp.maximum(before, after)


def covariance(hessian: jax.Array, held: jax.Array) -> jax.Array:
    """Inverse of a Hessian, NaN for what is not determined.

    Parameters
    ----------
    hessian : array, shape (n, n)
        Second derivatives of minus a log probability at its minimum.
    held : array of bool, shape (n,)
        Parameters whose curvature gives no error: their rows and columns are NaN, the others' are
        those for these values.

    Returns
    -------
    covariance : array, shape (n, n)
        NaN in the rows and columns of parameters that take part in a direction without curvature;
        the others' are right whatever these are.
    """
    scaled, unit, finite = _scaled(hessian, held)
    flat = flat_directions(scaled)
    lower = jnp.linalg.cholesky(scaled + flat)
    found = jax.scipy.linalg.cho_solve((lower, True), jnp.diag(1.0 / unit)) / unit[:, None]
    # Smaller parts are rounding of the eigenvectors.
    part = 1e-12 if jnp.finfo(scaled.dtype).bits == 64 else 1e-6
    undetermined = (jnp.diagonal(flat) > part) | held | ~finite
    either = undetermined[:, None] | undetermined[None, :]
    return jnp.where(either, jnp.nan, 0.5 * (found + found.T))
