"""Linear algebra of joint fits, and numbers that depend on the precision."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class _Settings(NamedTuple):
    width: float  # of the barrier, at last
    tolerance: float  # of the squared Newton decrement, for each parameter
    stuck: float  # squared decrement that is small enough if it falls no more
    ridge: float  # least that is added to a curvature matrix scaled to a unit diagonal
    alike: float  # pivot of that below which parameters are almost the same
    creeping: float  # squared decrement below which steps of such parameters are given up
    hardest: float  # times the ridge that these are held at most


def settings(dtype: jnp.dtype) -> _Settings:
    """Numbers that depend on the precision."""
    if jnp.finfo(dtype).bits == 64:
        return _Settings(
            width=2e-11,
            tolerance=1e-16,
            stuck=1e-9,
            alike=1e-8,
            creeping=1e-5,
            hardest=1e6,
            ridge=3e-15,
        )
    return _Settings(
        width=2e-5,
        tolerance=1e-6,
        stuck=1e-4,
        alike=1e-2,
        creeping=1e-2,
        hardest=1e2,
        ridge=1e-6,
    )


def rounding(matrix: jax.Array) -> float:
    """What rounding leaves uncertain of a matrix scaled to a unit diagonal, when it is factored."""
    # It grows with the size.
    least = len(matrix) * float(jnp.finfo(matrix.dtype).eps)
    return max(settings(matrix.dtype).ridge, least)


def scaled_factor(matrix: jax.Array, active: jax.Array, times: float | jax.Array = 1.0) -> tuple:
    """Cholesky factor of the active part of a curvature matrix, scaled to a unit diagonal.

    A ridge, ``times`` what rounding asks for, is added. The factor is NaN where the matrix is not
    positive.
    """
    ridge = times * rounding(matrix)
    diagonal = jnp.diagonal(matrix)
    scale = jnp.where(active & (diagonal > 0), jnp.sqrt(jnp.abs(diagonal)), 1.0)
    both = active[:, None] & active[None, :]
    scaled = jnp.where(both, matrix / (scale[:, None] * scale[None, :]), 0.0)
    unit = jnp.where(active, ridge, 1.0)
    return jnp.linalg.cholesky(scaled + jnp.diag(unit)), scale


def sure_factor(matrix: jax.Array, active: jax.Array, times: jax.Array) -> tuple:
    """`scaled_factor` of a matrix that only rounding keeps from being positive."""
    factor = scaled_factor(matrix, active, times)
    return jax.lax.cond(
        jnp.all(jnp.isfinite(factor[0])),
        lambda: factor,
        lambda: scaled_factor(matrix, active, 1e3 * times),
    )


def factor_solve(factor: tuple, right: jax.Array) -> jax.Array:
    """Solve with what `scaled_factor` gave."""
    lower, scale = factor
    half = jax.scipy.linalg.solve_triangular(lower, right / scale, lower=True)
    return jax.scipy.linalg.solve_triangular(lower.T, half, lower=False) / scale
