"""Cash data as functions of their norms: what brings a fit or a limit near in few evaluations.

Blocks and norms are as of `jaxprof.likelihood.separable`; other kinds of blocks do not count.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprof.likelihood.data import ProfileData
from jaxprof.likelihood.separable import Blocks, cash_blocks, total
from jaxprof.likelihood.sums import sums


def cash_range(data: Blocks) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A first guess of the norm of cash data, an upper bound of its distance from the pole, counts.

    The guess is the excess over the expected signal.
    """
    parts = [
        sums(
            jnp.where(b.npred_ref > 0, b.counts - b.background, 0.0),
            b.npred_ref,
            jnp.where(b.counts > 0, b.npred_ref, 0.0),
            jnp.where(b.npred_ref > 0, b.counts, 0.0),
        )
        for b in cash_blocks(data)
    ]
    excess, signal, counted, counts = (sum(each) for each in zip(*parts, strict=True))
    return excess / signal, counts / jnp.where(counted > 0, counted, 1.0), jnp.asarray(counts)


def cash_score_parts(data: Blocks, norm: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``sum n s / mu`` of cash data, minus its slope, and ``sum s``: their score is the difference.

    Only right of the pole.
    """
    parts = []
    for block in cash_blocks(data):
        rate = block.background + norm * block.npred_ref
        counted = block.counts > 0
        ratio = jnp.where(counted, block.npred_ref / jnp.where(rate > 0, rate, 1.0), 0.0)
        falls = block.counts * ratio
        rises = jnp.where(counted | (rate > 0), block.npred_ref, 0.0)
        parts.append(sums(falls, falls * ratio, rises))
    falls, slope, rises = (jnp.asarray(sum(each)) for each in zip(*parts, strict=True))
    return falls, slope, rises


def cash_cumulants(data: Blocks, norm: jax.Array) -> tuple[jax.Array, ...]:
    """``sum n r**k`` of cash data for ``k`` = 2, 3 and 4, with ``r = s / mu`` at a norm."""

    def terms(block: ProfileData, norm: jax.Array) -> tuple[jax.Array, ...]:
        rate = block.background + norm * block.npred_ref
        counted = (block.counts > 0) & (rate > 0)
        ratio = jnp.where(counted, block.npred_ref / jnp.where(counted, rate, 1.0), 0.0)
        second = block.counts * ratio**2
        return second, second * ratio, second * ratio**2

    return total(terms, cash_blocks(data), norm)


def cash_series(
    data: Blocks, norm0: jax.Array, distance: jax.Array, order: int
) -> tuple[jax.Array, list[jax.Array], jax.Array]:
    """The rise of cash data around a point away from their minimum, as a power series.

    Half of ``stat(norm0 + (1 + h) distance) - stat(norm0)`` is, as long as no kink lies between,
    ``rise + powers[0] h + powers[1] h**2 + ...`` up to a power ``order``: the counts add ``-n ln(1
    + w h)`` with the change ``w`` of the logarithm of a prediction for a change ``h``, and what
    they expect is linear. Last is the sum of ``1 / h**2`` at the kinks: none is closer than ``h =
    kinks**-0.5``.
    """

    def terms(block: ProfileData, norm0: jax.Array, distance: jax.Array) -> tuple[jax.Array, ...]:
        counts, signal = block.counts, block.npred_ref
        rate0 = block.background + norm0 * signal
        rate = block.background + (norm0 + distance) * signal
        step = distance * signal
        counted = counts > 0
        change = jnp.log1p(step / jnp.where(counted, rate0, 1.0))
        linear = jnp.where(
            counted | ((rate0 > 0) & (rate > 0)),
            step,
            jnp.maximum(rate, 0.0) - jnp.maximum(rate0, 0.0),
        )
        expected = jnp.where(counted | (rate > 0), step, 0.0)
        w = step / jnp.where(rate != 0, rate, 1.0)
        kink = jnp.where(
            counted, 0.0, jnp.where(rate != 0, w * w, jnp.where(step != 0, jnp.inf, 0.0))
        )
        term = jnp.where(counted, -counts * w, 0.0)
        powers = [expected + term]
        for k in range(2, order + 1):
            term = -term * w
            powers.append(term / k)
        return linear - jnp.where(counted, counts * change, 0.0), kink, *powers

    rise, kinks, *powers = total(terms, cash_blocks(data), norm0, distance)
    return rise, powers, kinks


def near_kink(data: Blocks, norm: jax.Array, distance: jax.Array) -> jax.Array:
    """Whether cash data have a kink within a distance of the norm."""
    near = jnp.zeros(norm.shape, bool)
    for b in cash_blocks(data):
        rate = jnp.abs(b.background + norm * b.npred_ref)
        close = (b.counts <= 0) & (b.npred_ref > 0) & (rate <= distance * b.npred_ref)
        near |= jnp.any(close, axis=0)
    return near
