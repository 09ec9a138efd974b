"""Linear algebra of joint fits, and numbers that depend on the precision."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class _Settings(NamedTuple):
    width: float  # of the barrier, at last
    tolerance: float  # of the squared Newton decrement, for each parameter
    stuck: float  # squared decrement that is small enough if it falls no more
    ridge: float  # added to the curvature matrix scaled to a unit diagonal


def settings(dtype: jnp.dtype) -> _Settings:
    """Numbers that depend on the precision."""
    if jnp.finfo(dtype).bits == 64:
        return _Settings(width=2e-11, tolerance=1e-16, stuck=1e-9, ridge=3e-15)
    return _Settings(width=2e-5, tolerance=1e-6, stuck=1e-4, ridge=1e-6)


def scaled_factor(matrix: jax.Array, active: jax.Array, ridge: float) -> tuple:
    """Cholesky factor of the active part of a curvature matrix, scaled to a unit diagonal."""
    diagonal = jnp.diagonal(matrix)
    scale = jnp.where(active & (diagonal > 0), jnp.sqrt(jnp.abs(diagonal)), 1.0)
    both = active[:, None] & active[None, :]
    scaled = jnp.where(both, matrix / (scale[:, None] * scale[None, :]), 0.0)
    unit = jnp.where(active, ridge, 1.0)
    return jnp.linalg.cholesky(scaled + jnp.diag(unit)), scale


def factor_solve(factor: tuple, right: jax.Array) -> jax.Array:
    """Solve with what `scaled_factor` gave."""
    lower, scale = factor
    half = jax.scipy.linalg.solve_triangular(lower, right / scale, lower=True)
    return jax.scipy.linalg.solve_triangular(lower.T, half, lower=False) / scale
