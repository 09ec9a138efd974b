"""A quadratic model of a function, and the step that it allows within a trust region.

The model is diagonalised once for each point: the step for any radius then costs a few sums over
the eigenvalues. Curvature below zero enters by its absolute value, so that steps lead away from
maxima and saddles (Dauphin et al. 2014, arXiv:1406.2572).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

BALANCINGS = 4
"""Rounds that balance rows without curvature of their own (Ruiz 2001, RAL-TR-2001-034)."""
SECULAR_STEPS = 4
"""Newton steps for the damping that a radius asks for; the first is exact for one parameter."""
AWAY = 1e-3
"""How far from a maximum or saddle, in standard deviations, a point is taken to be at least."""


class QuadraticModel(NamedTuple):
    """Slope and curvature along the principal axes of the scaled Hessian.

    Attributes
    ----------
    slope : array, shape (n,)
        Derivatives along the axes.
    curvature : array, shape (n,)
        Second derivatives; one at most by the scaling, up to correlations.
    axes : array, shape (n, n)
        Steps of the parameters (rows) for coefficients along the axes (columns).
    """

    slope: jax.Array
    curvature: jax.Array
    axes: jax.Array


def least_curvature(dtype: jnp.dtype) -> float:
    """Eigenvalue of the scaled Hessian below which a direction is flat but for rounding."""
    return 1e-11 if jnp.finfo(dtype).bits == 64 else 3e-6


def scales(hessian: jax.Array) -> jax.Array:
    """One over the standard deviation of each parameter while all others are known, (n,).

    Where the curvature of a parameter vanishes, or is less than its mixed derivatives allow for a
    positive matrix, that which balances the row is taken.
    """
    diagonal = jnp.abs(jnp.diagonal(hessian))
    unit = jnp.where(diagonal > 0, jnp.sqrt(diagonal), 1.0)
    for _ in range(BALANCINGS):
        row = jnp.max(jnp.abs(hessian) / (unit[:, None] * unit[None, :]), axis=1)
        unit = unit * jnp.sqrt(jnp.where(row > 0, row, 1.0))
    return unit


def masked(hessian: jax.Array, active: jax.Array) -> jax.Array:
    """The Hessian of the other parameters while the active ones keep their values."""
    free = ~(active[:, None] | active[None, :])
    return jnp.where(free, hessian, jnp.eye(len(hessian), dtype=hessian.dtype))


def quadratic_model(gradient: jax.Array, hessian: jax.Array, active: jax.Array) -> QuadraticModel:
    """Diagonalise the model of a function in the parameters that are not at active bounds, (n,)."""
    own = masked(hessian, active)
    unit = scales(own)
    curvature, axes = jnp.linalg.eigh(own / (unit[:, None] * unit[None, :]))
    slope = jnp.where(active, 0.0, gradient) / unit @ axes
    return QuadraticModel(slope, curvature, axes / unit[:, None])


def squared_decrement(model: QuadraticModel) -> jax.Array:
    """Square of the distance from the model's stationary point, in standard deviations."""
    least = least_curvature(model.slope.dtype)
    return jnp.sum(model.slope**2 / jnp.maximum(jnp.abs(model.curvature), least))


def bounded_step(model: QuadraticModel, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Step towards the model's minimum (n,), no longer than a radius, and its length.

    Both lengths are in units of the scaled parameters: conditional standard deviations.
    """
    least = least_curvature(model.slope.dtype)
    height = jnp.maximum(jnp.abs(model.curvature), least)
    # From a saddle itself no slope leads away.
    away = jnp.where(model.slope < 0, -1.0, 1.0) * jnp.maximum(jnp.abs(model.slope), AWAY * height)
    slope = jnp.where(model.curvature < -least, away, model.slope)
    # Newton's method for 1 / length(damping) = 1 / radius from below, where it is monotonic
    # (More & Sorensen 1983, SIAM J. Sci. Stat. Comput. 4, 553).
    damping = jnp.maximum(jnp.sqrt(jnp.sum(slope**2)) / radius - jnp.max(height), 0.0)
    for _ in range(SECULAR_STEPS):
        part = slope / (height + damping)
        square = jnp.sum(part**2)
        fall = jnp.sum(part**2 / (height + damping))
        excess = jnp.sqrt(square) / radius - 1.0
        more = excess * square / jnp.where(fall > 0, fall, 1.0)
        damping = damping + jnp.where(excess > 0, more, 0.0)
    part = slope / (height + damping)
    length = jnp.sqrt(jnp.sum(part**2))
    part = part * jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))
    return -(model.axes @ part), jnp.minimum(length, radius)
