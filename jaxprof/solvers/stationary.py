"""What is known at a minimum: its derivatives, its covariance, and whether it is regular."""

from __future__ import annotations

from collections.abc import Callable

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
    return (axes * flat) @ axes.T


def _scaled(hessian: jax.Array, active: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A Hessian scaled to a unit diagonal, identity for active parameters; scales; whether finite.

    One that is not finite becomes the identity: no NaN enters derivatives.
    """
    own = masked(hessian, active)
    finite = jnp.all(jnp.isfinite(own))
    own = jnp.where(finite, own, jnp.eye(len(own), dtype=own.dtype))
    unit = scales(jax.lax.stop_gradient(own))
    return own / (unit[:, None] * unit[None, :]), unit, finite


def differentiable_minimiser(
    function: Function, x: jax.Array, hessian: jax.Array, active: jax.Array, ends: jax.Array
) -> jax.Array:
    """Give a minimiser that is known already its derivatives by the implicit function theorem.

    Parameters
    ----------
    function : callable
        Maps an array (n,) to a scalar; it may close over anything that is to be differentiated.
    x : array, shape (n,)
        Its minimiser.
    hessian : array, shape (n, n)
        Its second derivatives there.
    active : array of bool, shape (n,)
        Parameters that are held by a bound.
    ends : array, shape (n,)
        These bounds; `x` follows them.

    Returns
    -------
    x : array, shape (n,)
        The same values, with derivatives of any order and in both modes. Along directions without
        curvature it does not move.
    """
    x, hessian = jax.lax.stop_gradient((x, hessian))
    own, unit, finite = _scaled(hessian, active)
    flat = flat_directions(own)
    bounds = jnp.where(active, ends, 0.0)

    def residual(x: jax.Array) -> jax.Array:
        return jnp.where(active, x - bounds, jax.grad(function)(x))

    def tangent_solve(linear: Callable, y: jax.Array) -> jax.Array:
        # The matrix is made anew because it has derivatives, for those of higher order.
        identity = jnp.eye(x.size, dtype=x.dtype)
        matrix = jax.vmap(linear, out_axes=1)(identity)
        matrix = jnp.where(finite, matrix / (unit[:, None] * unit[None, :]) + flat, identity)
        return jnp.linalg.solve(matrix, y / unit) / unit

    return jax.lax.custom_root(residual, x, lambda _, x: x, tangent_solve)


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
    found = jnp.linalg.inv(scaled + flat) / (unit[:, None] * unit[None, :])
    # Smaller parts are rounding of the eigenvectors.
    part = 1e-12 if jnp.finfo(scaled.dtype).bits == 64 else 1e-6
    undetermined = (jnp.diagonal(flat) > part) | held | ~finite
    either = undetermined[:, None] | undetermined[None, :]
    return jnp.where(either, jnp.nan, 0.5 * (found + found.T))
