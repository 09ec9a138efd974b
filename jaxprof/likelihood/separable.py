"""The fit statistic of bins and groups, each as a function of its own norm.

All functions take prepared blocks (see `jaxprof.likelihood.data.prepare`) whose first axis is that
of the counts bins. Norms, and all results, have the axes that follow: none for one bin and group,
or one for many side by side; what is broadcast is as in numpy. The statistic is convex in the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.likelihood import statistics
from jaxprof.likelihood.data import Block, OnOffData, ProfileData
from jaxprof.likelihood.sums import extremes, summed, sums

Blocks = tuple[Block, ...]


def is_cash(data: Blocks) -> bool:
    """Whether all of the background is known."""
    return all(isinstance(block, ProfileData) for block in data)


def sum_of(terms: Callable[..., jax.Array], data: Blocks, *args: Any) -> jax.Array:
    """Sum of what a function gives for the counts bins of each block."""
    return jnp.asarray(sum(jnp.sum(terms(block, *args), axis=0) for block in data))


def stat(data: Blocks, norm: jax.Array) -> jax.Array:
    """Fit statistic: the sum of cash or wstat over the unmasked counts bins."""
    return sum_of(_stat_terms, data, norm)


def _stat_terms(block: Block, norm: jax.Array) -> jax.Array:
    if isinstance(block, OnOffData):
        terms = statistics.wstat(block.n_on, block.n_off, block.alpha, norm * block.npred_ref)
    else:
        terms = statistics.cash(block.counts, block.background + norm * block.npred_ref)
    return jnp.where(block.mask, terms, 0.0)


def difference(data: Blocks, norm: jax.Array, norm0: jax.Array) -> jax.Array:
    """``stat(norm) - stat(norm0)``, summed term by term without cancellation."""
    return sum_of(_difference_terms, data, norm, norm0)


def _difference_terms(block: Block, norm: jax.Array, norm0: jax.Array) -> jax.Array:
    if isinstance(block, OnOffData):
        return statistics.wstat_difference(
            block.n_on, block.n_off, block.alpha, block.npred_ref, norm, norm0
        )
    return statistics.cash_difference(block.counts, block.background, block.npred_ref, norm, norm0)


def score(data: Blocks, norm: jax.Array, skip: jax.Array | None = None) -> jax.Array:
    """Half the derivative of the statistic by the norm (the right-hand one at a kink).

    ``skip`` tells which counts bins, one behind the other through all blocks, to leave out.
    """
    total = jnp.zeros((), norm.dtype)
    offset = 0
    for block in data:
        terms = _score_terms(block, norm)
        if skip is not None:
            terms = jnp.where(skip[offset : offset + len(terms)], 0.0, terms)
        offset += len(terms)
        total += jnp.sum(terms, axis=0)
    return total


def _score_terms(block: Block, norm: jax.Array) -> jax.Array:
    if isinstance(block, OnOffData):
        return statistics.wstat_score(block.n_on, block.n_off, block.alpha, block.npred_ref, norm)
    return statistics.cash_score(block.counts, block.background, block.npred_ref, norm)


def difference_and_slopes(
    data: Blocks, norm: jax.Array, norm0: jax.Array, *, curved: bool = False
) -> tuple[jax.Array, ...]:
    """`difference` and the `score` at ``norm``, and the `curvature` if asked for, in one pass."""

    def terms(bin_: Block, norm: jax.Array, norm0: jax.Array) -> tuple[jax.Array, ...]:
        found = _difference_terms(bin_, norm, norm0), _score_terms(bin_, norm)
        return (*found, _curvature_terms(bin_, norm)) if curved else found

    return total(terms, data, norm, norm0)


def total(
    terms: Callable[..., tuple[jax.Array, ...]], data: Iterable[Any], *shared: jax.Array
) -> tuple[jax.Array, ...]:
    """Sums of terms over the counts bins of all blocks, in one pass, see `summed`."""
    parts = [summed(terms, block, *shared) for block in data]
    return tuple(jnp.asarray(sum(each)) for each in zip(*parts, strict=True))


def score_and_curvature(data: Blocks, norm: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`score` and `curvature`, in one pass."""
    parts = [sums(_score_terms(block, norm), _curvature_terms(block, norm)) for block in data]
    slope, second = (jnp.asarray(sum(each)) for each in zip(*parts, strict=True))
    return slope, second


def _curvature_terms(block: Block, norm: jax.Array) -> jax.Array:
    if isinstance(block, ProfileData):
        return statistics.cash_curvature(block.counts, block.background, block.npred_ref, norm)
    return jax.jvp(lambda x: _score_terms(block, x), (norm,), (jnp.ones_like(norm),))[1]


def summary(data: Blocks, norm: jax.Array, other: Blocks, null: jax.Array) -> tuple[jax.Array, ...]:
    """What a fit tells of its minimum, in one pass: curvature, stat, stat_null and ts.

    ``data`` are scaled, as are the norms of the minimum and of no signal; ``other`` are not.
    """

    def terms(pair: tuple[Block, Block], norm: jax.Array, null: jax.Array) -> tuple[jax.Array, ...]:
        scaled, plain = pair
        return (
            _curvature_terms(scaled, norm),
            _stat_terms(scaled, norm),
            _stat_terms(plain, jnp.zeros_like(norm)),
            _difference_terms(scaled, null, norm),
        )

    return total(terms, zip(data, other, strict=True), norm, null)


def curvature(data: Blocks, norm: jax.Array) -> jax.Array:
    """Half the second derivative of the statistic with respect to the norm."""
    return sum_of(_curvature_terms, data, norm)


def counted_signal(data: Blocks) -> jax.Array:
    """Expected signal of cash data in the counts bins that have counts."""
    return sum_of(lambda b: jnp.where(b.counts > 0, b.npred_ref, 0.0), tuple(cash_blocks(data)))


def cash_blocks(data: Blocks) -> list[ProfileData]:
    """Those of known backgrounds."""
    return [block for block in data if isinstance(block, ProfileData)]


def contents(data: Blocks) -> tuple[jax.Array, jax.Array]:
    """Whether there is any counts bin, and any with an expected signal."""
    found = []
    for block in data:
        dtype = block.npred_ref.dtype
        ones = block.mask.astype(dtype), (block.npred_ref > 0).astype(dtype)
        found.append(extremes(ones))
    masks, signals = zip(*found, strict=True)
    return jnp.asarray(sum(masks)) > 0, jnp.asarray(sum(signals)) > 0


def domain_start(data: Blocks) -> jax.Array:
    """Norm above which every bin with counts has a positive prediction; ``-inf`` without any.

    On-Off data never bound the norm: their profiled background makes up for it.
    """
    start = jnp.full(data[0].npred_ref.shape[1:], -jnp.inf, data[0].npred_ref.dtype)
    for block in cash_blocks(data):
        pole = jnp.where((block.counts > 0) & (block.npred_ref > 0), _kinks(block), -jnp.inf)
        start = jnp.maximum(start, jnp.max(pole, axis=0, initial=-jnp.inf))
    return start


def pole_counts(data: Blocks, start: jax.Array) -> jax.Array:
    """Counts in the counts bins that end the domain at ``start``, with a prediction of zero there.

    One where there are none.
    """
    total = jnp.zeros_like(start)
    for block in cash_blocks(data):
        total += jnp.sum(jnp.where(_kinks(block) == start, block.counts, 0.0), axis=0)
    return jnp.where(total > 0, total, 1.0)


def _kinks(block: ProfileData) -> jax.Array:
    return statistics.cash_kink(block.counts, block.background, block.npred_ref)


def _empty(block: Block) -> jax.Array:
    """On-Off counts bins without counts, which have a kink at no signal."""
    if isinstance(block, OnOffData):
        return (block.n_on <= 0) & (block.n_off <= 0) & (block.npred_ref > 0)
    return jnp.zeros(block.npred_ref.shape, bool)


def kinks(data: Blocks) -> jax.Array:
    """Norm at the kink of every counts bin, through all blocks; ``inf`` where there is none."""
    return jnp.concatenate(
        [
            jnp.where(_empty(block), 0.0, jnp.inf)
            if isinstance(block, OnOffData)
            else jnp.where(block.counts > 0, jnp.inf, _kinks(block))
            for block in data
        ]
    )


def to_nearest_kink(data: Blocks, norm: jax.Array) -> jax.Array:
    """What leads from a norm to the kink next to it; infinite if there is none."""
    away = kinks(data) - norm
    above = jnp.min(jnp.where(away >= 0, away, jnp.inf), axis=0)
    below = jnp.max(jnp.where(away <= 0, away, -jnp.inf), axis=0)
    return jnp.where(above <= -below, above, below)


def bin_minima(data: Blocks) -> jax.Array:
    """Norm at which each counts bin alone is described best: its excess over its expected signal.

    ``nan`` for counts bins without expected signal. The minimum of the sum lies between their
    extremes.
    """
    found = []
    for block in data:
        has_signal = block.npred_ref > 0
        alone = _excess(block) / jnp.where(has_signal, block.npred_ref, 1.0)
        found.append(jnp.where(has_signal, alone, jnp.nan))
    return jnp.concatenate(found)


def total_excess(data: Blocks) -> jax.Array:
    """Sum of what each counts bin has beyond its background, where a signal is expected."""
    return sum_of(lambda block: jnp.where(block.npred_ref > 0, _excess(block), 0.0), data)


def _excess(block: Block) -> jax.Array:
    if isinstance(block, OnOffData):
        return block.n_on - block.alpha * block.n_off
    return block.counts - block.background


def totals(data: Blocks) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over the bins with expected signal: variance of the counts, counts, expected signal."""
    variance = counts = signal = jnp.zeros(data[0].npred_ref.shape[1:], data[0].npred_ref.dtype)
    for block in data:
        used = block.npred_ref > 0
        if isinstance(block, OnOffData):
            n_on, extra = block.n_on, block.alpha**2 * block.n_off
            # An OFF count constrains the norm as an ON count does: zero counts means neither.
            found = block.n_on + block.n_off
        else:
            n_on = found = block.counts
            extra = jnp.zeros_like(n_on)
        variance += jnp.sum(jnp.where(used, n_on + extra, 0.0), axis=0)
        counts += jnp.sum(jnp.where(used, found, 0.0), axis=0)
        signal += jnp.sum(jnp.where(used, block.npred_ref, 0.0), axis=0)
    return variance, counts, signal


def at_index(array: jax.Array, index: jax.Array) -> jax.Array:
    """Mask of the element of the first axis, for all others, that an index each tells."""
    return jnp.arange(len(array)).reshape(-1, *[1] * (array.ndim - 1)) == index


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
    kinks_at_zero = jnp.concatenate([_empty(block) for block in data])
    chosen = at_index(kinks_at_zero, at_bin)
    at_zero = jnp.any(chosen & kinks_at_zero, axis=0)
    rest = score(data, norm, skip=jnp.where(at_zero, kinks_at_zero, chosen))
    above = below = moved = total = jnp.zeros_like(norm)
    for block in data:
        if isinstance(block, OnOffData):
            own = _empty(block)
            above += jnp.sum(jnp.where(own, block.npred_ref, 0.0), axis=0)
            below += jnp.sum(jnp.where(own, block.npred_ref / block.alpha, 0.0), axis=0)
    right, left = rest + above, below - rest
    offset = 0
    for block in data:
        size = len(block.npred_ref)
        if isinstance(block, OnOffData):
            own = _empty(block)
            reach = block.npred_ref * (1.0 + 1.0 / block.alpha)
            on = jnp.where(own & (reach > right), block.n_on, 0.0)
            off = jnp.where(own & (reach > left), block.n_off, 0.0)
            moved += jnp.sum(on, axis=0) / jnp.where(right > 0, right, 1.0)
            moved -= jnp.sum(off, axis=0) / jnp.where(left > 0, left, 1.0)
        else:
            mine = chosen[offset : offset + size]
            # Without any kink the first counts bin is chosen, which may be without signal.
            s = jnp.where(mine & (block.npred_ref > 0), block.npred_ref, 1.0)
            share = s / jnp.where(s + rest > 0, s + rest, s)
            terms = block.background + norm * s - block.counts * share
            total += jnp.sum(jnp.where(mine, terms, 0.0), axis=0)
        offset += size
    return jnp.where(at_zero, norm - moved, total)
