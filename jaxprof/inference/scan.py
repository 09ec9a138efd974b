"""Likelihood scans: the fit statistic on a grid of norms, in one vectorised evaluation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxprof.inference.batches import by_blocks, shared_value
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import Data, NormFit, float_dtype, neutral, prepare
from jaxprof.likelihood.separable import Blocks


def _scan_bins(data: Blocks, own: jax.Array | None, shared: jax.Array | None) -> jax.Array:
    """Statistics of bins side by side, (V, N), on a grid of each (V, N) or of all (V,)."""
    grid = own if shared is None else shared[:, jnp.newaxis]
    return jax.vmap(lambda norm: likelihood.stat(neutral(data), norm))(grid)


_scan = by_blocks(_scan_bins)


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
    grid = shared_value(values, float_dtype(prepared))
    if not (grid.ndim == 1 or (grid.ndim == 3 and grid.shape[:2] == shape)):
        raise ValueError(f"values must have shape (N,) or {(*shape, 'N')}, got {grid.shape}")
    return _scan(prepared, None, grid) if grid.ndim == 1 else _scan(prepared, grid, None)


def _rises_bins(
    data: Blocks, own: tuple[jax.Array, jax.Array], floored: bool | jax.Array
) -> jax.Array:
    data, (norm, values) = neutral(data), own
    found = jax.vmap(lambda x: likelihood.difference(data, x, norm))(values)
    return jnp.where(floored | (values > likelihood.domain_start(data)), found, jnp.inf)


_rises = by_blocks(_rises_bins)


def norm_rises(data: Data, fit: NormFit, values: jax.Array, *, floored: bool = True) -> jax.Array:
    """Rise of the fit statistic above its minimum at norms (B, G, V), without cancellation.

    NaN where there is no fit. If ``floored``, predictions below zero are floored inside the
    logarithm, as in `scan`; otherwise rises are infinite where there are counts then.
    """
    return _rises(prepare(data), (fit.norm, values), floored)
