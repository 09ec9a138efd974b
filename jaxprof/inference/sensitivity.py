"""Sensitivities of norms that are fitted separately."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxprof.inference.batches import by_blocks, shared_value
from jaxprof.inference.intervals import check_n_sigma
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import Block, Data, OnOffData, float_dtype, neutral, prepare
from jaxprof.likelihood.scaled import harmless, scaled
from jaxprof.likelihood.separable import Blocks
from jaxprof.solvers.many_roots import increasing_roots
from jaxprof.solvers.solve import implicit_root


def _asimov_ts(data: Blocks, norm: jax.Array) -> jax.Array:
    """TS of the data set that is exactly the prediction at ``norm``."""
    asimov = []
    for block in data:
        signal = norm * block.npred_ref
        if isinstance(block, OnOffData):
            counts = {"n_on": block.alpha * block.n_off + signal}
        else:
            counts = {"counts": block.background + signal}
        asimov.append(replace(block, **counts))
    return likelihood.difference(tuple(asimov), jnp.zeros_like(norm), norm)


def _sensitivity_start(data: Blocks, ts: jax.Array) -> jax.Array:
    """Detection takes about n sqrt(background) counts, or n**2 of them without background."""

    def variance(block: Block) -> jax.Array:
        if isinstance(block, OnOffData):
            found = block.alpha * (1 + block.alpha) * block.n_off
        else:
            found = block.background
        return jnp.where(block.npred_ref > 0, found, 0.0)

    background = likelihood.sum_of(variance, data)
    _, _, signal = likelihood.totals(data)
    return (ts + jnp.sqrt(ts * background)) / signal


def _detected(data: Blocks, ts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Norms of a TS, and whether they are found."""
    unit = _sensitivity_start(data, ts)

    def excess_ts(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, slope = jax.jvp(lambda x: _asimov_ts(data, x * unit), (y,), (jnp.ones_like(y),))
        return value - ts, slope

    one = jnp.ones_like(unit)
    value, slope = excess_ts(one)
    # TS is convex in the norm: a Newton step never stops short of the root.
    high = jnp.maximum(one, one - value / jnp.where(slope > 0, slope, 1.0)) * (1.0 + 1e-3)
    y, converged = increasing_roots(excess_ts, one, jnp.zeros_like(one), high)
    return y * unit, converged


def _excess(norm: jax.Array, data: Blocks, ts: jax.Array) -> jax.Array:
    """What vanishes at sensitivities, (N,)."""
    return _asimov_ts(data, norm) - ts


def _sensitivity_bins(data: Blocks, _: None, ts: jax.Array) -> jax.Array:
    """Sensitivities of bins side by side."""
    data = neutral(data)
    has_signal = likelihood.contents(data)[1]
    own = scaled(harmless(data, has_signal), shifted=False)
    fixed = jax.tree.map(jax.lax.stop_gradient, own.data)
    root, converged = _detected(fixed, ts)
    x = implicit_root(_excess, root, own.data, ts)
    return jnp.where(has_signal & converged, own.norm(x), jnp.nan)


_sensitivity = by_blocks(_sensitivity_bins)


def sensitivity(data: Data, *, n_sigma: float = 5) -> jax.Array:
    """Smallest norm that would be detected with the given significance.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``. The observed (ON) counts are not used.
    n_sigma : float
        Significance of the detection, ``sqrt(TS)``.

    Returns
    -------
    norm_sensitivity : array, shape (B, G)
        The norm whose Asimov data set (counts equal to their prediction) has ``TS = n_sigma**2``;
        NaN where there is no exposure. For On-Off data the background is ``alpha n_off`` as
        observed. Where a counts bin of cash data has no background, only the floor of the
        prediction under the null hypothesis (see `jaxprof.core.cash`) makes it finite, and it is a
        number of that floor; `FluxProfileEstimator` gives NaN and warns.

    Raises
    ------
    ValueError
        For a significance that is not positive.

    References
    ----------
    Cowan et al. (2011), Eur. Phys. J. C 71, 1554, for the Asimov data set.
    """
    check_n_sigma("n_sigma", n_sigma)
    prepared = prepare(data)
    return _sensitivity(prepared, None, shared_value(n_sigma**2, float_dtype(prepared)))
