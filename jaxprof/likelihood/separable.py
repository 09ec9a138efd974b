"""The fit statistic of one bin and group as a function of its norm.

All functions take the prepared blocks of one bin and group (arrays over counts bins, see
`jaxprof.likelihood.data.prepare`) and a scalar norm. The statistic is convex in the norm.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood import statistics
from jaxprof.likelihood.data import Block, OnOffData, ProfileData

Blocks = tuple[Block, ...]


class Scaled(NamedTuple):
    """The same problem with the norm counted in ``unit`` from ``origin``.

    There numbers are of order one whatever the amplitude of the spectrum, and predictions close to
    zero keep their digits however large the background is. ``origin`` and ``unit`` (a power of two)
    carry no derivatives.
    """

    data: Blocks
    origin: jax.Array
    unit: jax.Array

    def norm(self, x: jax.Array) -> jax.Array:
        """The norm at a scaled one."""
        return self.origin + self.unit * x

    def at(self, norm: jax.Array) -> jax.Array:
        """The scaled norm at a norm."""
        return (norm - self.origin) / self.unit


def scaled(data: Blocks, *, shifted: bool = True) -> Scaled:
    """Scale a problem, see `Scaled`.

    Cash data begin where the prediction of a bin with counts reaches zero or, without counts, at
    the first kink: the background there is what remains of it. With ``shifted=False`` norms keep
    their origin.
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, data)
    variance, counts, signal = totals(fixed)
    size = jnp.sqrt(variance) + 1.0
    start = domain_start(fixed)
    origin = jnp.zeros_like(signal)
    if all(isinstance(block, ProfileData) for block in data):
        # No minimum is further from the start of the domain (see `_norm_bracket` of `fit`).
        size = jnp.where(counts > 0, counts, size)
        counted = sum(jnp.sum(jnp.where(b.counts > 0, b.npred_ref, 0.0)) for b in fixed)
        signal = jnp.where(counts > 0, counted, signal)
        if shifted:
            first = jnp.min(kinks(fixed))
            origin = jnp.where(jnp.isfinite(start), start, jnp.where(counts > 0, 0.0, first))
            origin = jnp.where(jnp.isfinite(origin), origin, 0.0)
    unit = _power_of_two(size / jnp.where(signal > 0, signal, 1.0))
    moved = []
    for new, block in zip(from_zero(data, unit), data, strict=True):
        if shifted and isinstance(new, ProfileData) and isinstance(block, ProfileData):
            new = dataclasses.replace(new, background=_from(origin, block))
        moved.append(new)
    return Scaled(tuple(moved), origin, unit)


def from_zero(data: Blocks, unit: jax.Array) -> Blocks:
    """The same problem with the norm counted in ``unit`` from zero."""
    return tuple(dataclasses.replace(b, npred_ref=b.npred_ref * unit) for b in data)


def _power_of_two(value: jax.Array) -> jax.Array:
    """The power of two next above a positive number: to scale with it rounds nothing."""
    # `frexp` and `ldexp` would be a tenth of the whole program: the exponent bits are the number.
    finfo = jnp.finfo(value.dtype)
    integer = jnp.dtype(f"int{finfo.bits}")
    bits = jax.lax.bitcast_convert_type(jnp.clip(value, finfo.tiny, 0.25 * finfo.max), integer)
    exponent = bits >> finfo.nmant << finfo.nmant
    return 2.0 * jax.lax.bitcast_convert_type(exponent, value.dtype)


def _from(origin: jax.Array, block: ProfileData) -> jax.Array:
    """Predictions at ``origin``, which a sum would round as their background is rounded."""
    background, signal = block.background, block.npred_ref
    fixed, rate = jax.lax.stop_gradient((background, signal))
    has_signal = rate > 0
    kink = -fixed / jnp.where(has_signal, rate, 1.0)
    value = jnp.where(has_signal & (origin != 0), rate * (origin - kink), fixed)
    # Zeros with the derivatives of the sum.
    return value + (background - fixed) + origin * (signal - rate)


def stat(data: Blocks, norm: jax.Array) -> jax.Array:
    """Fit statistic: the sum of cash or wstat over the unmasked counts bins."""
    total = jnp.zeros_like(norm)
    for block in data:
        if isinstance(block, OnOffData):
            terms = statistics.wstat(block.n_on, block.n_off, block.alpha, norm * block.npred_ref)
        else:
            terms = statistics.cash(block.counts, block.background + norm * block.npred_ref)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total


def difference(data: Blocks, norm: jax.Array, norm0: jax.Array) -> jax.Array:
    """``stat(norm) - stat(norm0)``, summed term by term without cancellation."""
    total = jnp.zeros_like(norm)
    for block in data:
        if isinstance(block, OnOffData):
            terms = statistics.wstat_difference(
                block.n_on, block.n_off, block.alpha, block.npred_ref, norm, norm0
            )
        else:
            terms = statistics.cash_difference(
                block.counts, block.background, block.npred_ref, norm, norm0
            )
        total += jnp.sum(terms)
    return total


def score(data: Blocks, norm: jax.Array, skip: jax.Array | None = None) -> jax.Array:
    """Half the derivative of the statistic by the norm (the right-hand one at a kink).

    ``skip`` tells which counts bins, one behind the other through all blocks, to leave out.
    """
    total = jnp.zeros_like(norm)
    offset = 0
    for block in data:
        if isinstance(block, OnOffData):
            terms = statistics.wstat_score(
                block.n_on, block.n_off, block.alpha, block.npred_ref, norm
            )
        else:
            terms = statistics.cash_score(block.counts, block.background, block.npred_ref, norm)
        if skip is not None:
            terms = jnp.where(skip[offset : offset + terms.size], 0.0, terms)
        offset += terms.size
        total += jnp.sum(terms)
    return total


def curvature(data: Blocks, norm: jax.Array) -> jax.Array:
    """Half the second derivative of the statistic by the norm, from automatic differentiation."""
    return jax.jvp(lambda x: score(data, x), (norm,), (jnp.ones_like(norm),))[1]


def domain_start(data: Blocks) -> jax.Array:
    """Norm above which every bin with counts has a positive prediction; ``-inf`` without any.

    On-Off data never bound the norm: their profiled background makes up for it.
    """
    start = jnp.asarray(-jnp.inf, data[0].npred_ref.dtype)
    for block in data:
        if not isinstance(block, OnOffData):
            kink = statistics.cash_kink(block.counts, block.background, block.npred_ref)
            bounds = (block.counts > 0) & (block.npred_ref > 0)
            start = jnp.maximum(start, jnp.max(jnp.where(bounds, kink, -jnp.inf), initial=-jnp.inf))
    return start


def pole_counts(data: Blocks, start: jax.Array) -> jax.Array:
    """Counts in the counts bins that end the domain at ``start``, with a prediction of zero there.

    One where there are none.
    """
    total = jnp.zeros_like(start)
    for block in data:
        if not isinstance(block, OnOffData):
            kink = statistics.cash_kink(block.counts, block.background, block.npred_ref)
            total += jnp.sum(jnp.where(kink == start, block.counts, 0.0))
    return jnp.where(total > 0, total, 1.0)


def kinks(data: Blocks) -> jax.Array:
    """Norm at the kink of every counts bin, through all blocks; ``inf`` where there is none."""
    positions = []
    for block in data:
        if isinstance(block, OnOffData):
            has_kink = (block.n_on <= 0) & (block.n_off <= 0) & (block.npred_ref > 0)
            positions.append(jnp.where(has_kink, 0.0, jnp.inf))
        else:
            kink = statistics.cash_kink(block.counts, block.background, block.npred_ref)
            positions.append(jnp.where(block.counts > 0, jnp.inf, kink))
    return jnp.concatenate(positions)


def bin_minima(data: Blocks) -> jax.Array:
    """Norm at which each counts bin alone is described best: its excess over its expected signal.

    ``nan`` for counts bins without expected signal. The minimum of the sum lies between their
    extremes.
    """
    values = []
    for block in data:
        if isinstance(block, OnOffData):
            excess = block.n_on - block.alpha * block.n_off
        else:
            excess = block.counts - block.background
        has_signal = block.npred_ref > 0
        values.append(
            jnp.where(has_signal, excess / jnp.where(has_signal, block.npred_ref, 1.0), jnp.nan)
        )
    return jnp.concatenate(values)


def totals(data: Blocks) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the bins with expected signal: variance of the counts, counts, expected signal."""
    variance = counts = signal = jnp.zeros((), data[0].npred_ref.dtype)
    for block in data:
        used = block.npred_ref > 0
        if isinstance(block, OnOffData):
            n_on, extra = block.n_on, block.alpha**2 * block.n_off
            # An OFF count constrains the norm as an ON count does: zero counts means neither.
            found = block.n_on + block.n_off
        else:
            n_on = found = block.counts
            extra = jnp.zeros_like(n_on)
        variance += jnp.sum(jnp.where(used, n_on + extra, 0.0))
        counts += jnp.sum(jnp.where(used, found, 0.0))
        signal += jnp.sum(jnp.where(used, block.npred_ref, 0.0))
    return variance, counts, signal


def kink_residual(data: Blocks, norm: jax.Array, at_bin: jax.Array) -> jax.Array:
    """A smooth equation for the norm near the kink of ``counts bin``; zero at the minimum.

    With ``g`` the score of all other counts bins, the counts bin's own term ``s (1 - n / mu)`` is
    solved for its prediction: ``mu = n s / (s + g)``, which holds at ``n = 0`` too and whose
    derivatives are those of the fitted norm for ``n >= 0``.

    All On-Off counts bins without counts have their kink at no signal, where the score rises by
    ``s`` above zero and by ``s / alpha`` below it. With their sums ``S`` and ``L``, and ``g`` the
    score of all others, the first ON count in one of them takes the norm to ``n_on / (S + g)``, if
    the other kinks do not hold it, and the first OFF count to ``-n_off / (L - g)``.
    """
    empty = [
        (b.n_on <= 0) & (b.n_off <= 0) & (b.npred_ref > 0)
        if isinstance(b, OnOffData)
        else jnp.zeros(b.npred_ref.shape, bool)
        for b in data
    ]
    kinks_at_zero = jnp.concatenate(empty)
    at_zero = kinks_at_zero[at_bin]
    chosen = jnp.arange(kinks_at_zero.size) == at_bin
    rest = score(data, norm, skip=jnp.where(at_zero, kinks_at_zero, chosen))
    above = below = moved = total = jnp.zeros_like(norm)
    for block, own in zip(data, empty, strict=True):
        if isinstance(block, OnOffData):
            above += jnp.sum(jnp.where(own, block.npred_ref, 0.0))
            below += jnp.sum(jnp.where(own, block.npred_ref / block.alpha, 0.0))
    right, left = rest + above, below - rest
    offset = 0
    for block, own in zip(data, empty, strict=True):
        size = block.npred_ref.size
        if isinstance(block, OnOffData):
            reach = block.npred_ref * (1.0 + 1.0 / block.alpha)
            on = jnp.where(own & (reach > right), block.n_on, 0.0)
            off = jnp.where(own & (reach > left), block.n_off, 0.0)
            moved += jnp.sum(on) / jnp.where(right > 0, right, 1.0)
            moved -= jnp.sum(off) / jnp.where(left > 0, left, 1.0)
        else:
            mine = chosen[offset : offset + size]
            s = jnp.where(mine, block.npred_ref, 1.0)
            share = s / jnp.where(s + rest > 0, s + rest, s)
            terms = block.background + norm * s - block.counts * share
            total += jnp.sum(jnp.where(mine, terms, 0.0))
        offset += size
    return jnp.where(at_zero, norm - moved, total)
