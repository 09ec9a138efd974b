"""Likelihood scans: the fit statistic on a grid of norms, in one vectorised evaluation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprof.compilation import jit_by_size
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import Data, NormFit, float_dtype, neutral, over_bins, prepare
from jaxprof.likelihood.separable import Blocks


@jit_by_size
def _scan(data: Blocks, values: jax.Array) -> jax.Array:
    def scan_bin(block: Blocks, grid: jax.Array) -> jax.Array:
        return jax.vmap(lambda norm: likelihood.stat(block, norm))(grid)

    shape = data[0].npred_ref.shape[:2]
    grids = jnp.broadcast_to(values, (*shape, values.shape[-1]))
    return over_bins(scan_bin)(neutral(data), grids)


def scan(data: Data, values: ArrayLike) -> jax.Array:
    """Fit statistic at given norms.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``.
    values : array, shape (N,) or (B, G, N)
        Norms: one grid for all bins and groups, or a grid for each.

    Returns
    -------
    stat_scan : array, shape (B, G, N)
        The statistic; finite everywhere, because predictions are floored inside the logarithm (see
        `jaxprof.core.cash`).

    Raises
    ------
    ValueError
        For values of another shape.
    """
    prepared = prepare(data)
    shape = prepared[0].npred_ref.shape[:2]
    grid = jnp.asarray(values, float_dtype(prepared))
    if not (grid.ndim == 1 or (grid.ndim == 3 and grid.shape[:2] == shape)):
        raise ValueError(f"values must have shape (N,) or {(*shape, 'N')}, got {grid.shape}")
    return _scan(prepared, grid)


@jit_by_size
def _rises(data: Blocks, norm: jax.Array, values: jax.Array) -> jax.Array:
    def rises_bin(block: Blocks, best: jax.Array, grid: jax.Array) -> jax.Array:
        return jax.vmap(lambda x: likelihood.difference(block, x, best))(grid)

    return over_bins(rises_bin)(neutral(data), norm, values)


def norm_rises(data: Data, fit: NormFit, values: jax.Array) -> jax.Array:
    """Rise of the fit statistic above its minimum, without cancellation.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``.
    fit : NormFit
        Their fit.
    values : array, shape (B, G, V)
        Norms.

    Returns
    -------
    rises : array, shape (B, G, V)
        NaN where there is no fit.
    """
    return _rises(prepare(data), fit.norm, values)
