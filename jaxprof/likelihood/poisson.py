"""Poisson random numbers, all elements of an array at once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

LARGE = 16.0
"""Mean from which counts are drawn by rejection; below that by inversion."""
MOST = 120
"""More counts have a probability below 1e-60 at smaller means."""
BLOCK = 16_384
"""Elements that are drawn together on a CPU: those of a block wait for its last."""
PARTS = 8
"""Part of a block, as a divisor, that is drawn again together."""
SAMPLER = 2
"""Number of the sampler: another one draws other counts, with which stored ones must not mix."""
SCALE = 2.0**-32
"""Of a random word, for a number between zero and one."""


def poisson(key: Any, mean: Any) -> Any:
    """Draw counts from Poisson distributions; NaN where a mean is negative or not finite.

    Each element has 64 random bits of its own, and its counts are a function of these and of its
    mean alone: they are the same under jit, vmap and on any device but for rounding. Below a mean
    of 16 they are the inverse of the cumulative distribution at one uniform number of 64 bits,
    beyond that they are drawn by transformed rejection (Hoermann 1993, Insurance: Mathematics and
    Economics 12, 39, algorithm PTRS), with logarithms of probabilities that lose nothing to
    cancellation. Probabilities are right to a few roundings of the dtype, that of the means;
    float32 has no odd counts above 2**24.
    """
    mean = jnp.asarray(mean, jnp.result_type(float, mean))
    return _drawn(jax.random.bits(key, (2, *mean.shape), jnp.uint32), mean)


@custom_vmap
def _drawn(words: Any, mean: Any) -> Any:
    """Counts of pairs of random words, (2, ...), and means (...)."""
    known = (mean >= 0) & (mean < jnp.inf)
    flat = jnp.where(known, mean, 0.0).ravel()
    words = words.reshape(2, -1)
    n = flat.size
    if n <= BLOCK or jax.default_backend() != "cpu" or jax.device_count() > 1:
        counts = _block(words, flat)
    else:
        n_blocks = -(-n // BLOCK)
        extra = n_blocks * BLOCK - n
        flat = jnp.pad(flat, (0, extra)).reshape(n_blocks, BLOCK)
        words = jnp.pad(words, ((0, 0), (0, extra))).reshape(2, n_blocks, BLOCK)
        blocks = jax.lax.map(lambda own: _block(*own), (jnp.moveaxis(words, 1, 0), flat))
        counts = blocks.ravel()[:n]
    return jnp.where(known, counts.reshape(mean.shape), jnp.nan)


@_drawn.def_vmap
def _(size: int, batched: list[bool], words: Any, mean: Any) -> tuple[Any, bool]:
    # Blocks go over all elements, whatever is mapped: no toy waits for the last of all.
    if batched[0]:
        words = jnp.moveaxis(words, 0, 1)
    else:
        words = jnp.broadcast_to(words[:, None], (2, size, *words.shape[1:]))
    return _drawn(words, mean if batched[1] else jnp.broadcast_to(mean, (size, *mean.shape))), True


def _block(words: Any, mean: Any) -> Any:
    """Counts of words (2, N) and means (N,)."""
    large = mean >= LARGE
    few = _inverse(words, jnp.where(large, 0.0, mean))
    return jnp.where(large, _by_rejection(words, mean, large), few)


def _inverse(words: Any, mean: Any) -> Any:
    """Inverse of the survival function, by the sum of probabilities."""
    high, low = words.astype(mean.dtype)
    # Small numbers stand for many counts: there floating point is finest.
    uniform = (high + (low + 0.5) * SCALE) * SCALE

    def more(state: tuple[Any, ...]) -> Any:
        number, _, rest, _ = state
        return (number <= MOST) & jnp.any(uniform < rest)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        number, counts, rest, probability = state
        counts = jnp.where(uniform < rest, number, counts)
        rest, probability = rest - probability, probability * (mean / (number + 1))
        return number + 1, counts, rest, probability

    # Probabilities of at least one count, and of one.
    start = (
        jnp.ones((), mean.dtype),
        jnp.zeros_like(mean),
        -jnp.expm1(-mean),
        mean * jnp.exp(-mean),
    )
    return jax.lax.while_loop(more, step, start)[1]


class _Hat(NamedTuple):
    """Means, and constants of the transformed rejection."""

    mean: Any
    a: Any
    b: Any
    height: Any
    """Times the root of the mean, by which probabilities are multiplied as well."""


def _hat(mean: Any) -> _Hat:
    root = jnp.sqrt(mean)
    b = 0.931 + 2.53 * root
    return _Hat(mean, -0.059 + 0.02483 * b, b, (1.1239 + 1.1328 / (b - 3.4)) * root)


def _attempt(words: Any, hat: _Hat) -> tuple[Any, Any]:
    """Counts that two random words propose, and whether they are accepted."""
    signed = jax.lax.bitcast_convert_type(words[0], jnp.int32)
    negative = signed < 0
    size = jnp.where(negative, ~signed, signed)
    dtype = hat.mean.dtype
    # The distance of a uniform number in (-1/2, 1/2) from the nearer end, to full precision.
    to_end = SCALE * ((2**31 - 1 - size).astype(dtype) + 0.5)
    u = jnp.where(negative, -1.0, 1.0).astype(dtype) * (0.5 - to_end)
    v = SCALE * (words[1].astype(dtype) + 0.5)
    slope = hat.a / to_end
    counts = jnp.floor((2.0 * slope + hat.b) * u + hat.mean + 0.43)
    inside = counts >= 0
    counts = jnp.where(inside, counts, 0.0)
    bound = jnp.log(v * hat.height / (slope / to_end + hat.b))
    return counts, inside & (bound <= _log_probability(counts, hat.mean))


def _log_probability(counts: Any, mean: Any) -> Any:
    """Logarithm of a Poisson probability times the root of the mean.

    By Stirling's series of the gamma function: its relative error is 3e-4 without counts, 2e-6 at
    one. Where means are large that is below 1e-10 of all.
    """
    n = counts + 1.0
    inverse = 1.0 / n
    square = inverse * inverse
    stirling = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    far = (n - mean) / mean
    log = jnp.log1p(far)
    # (n - 1/2) ln(mean) - mean - ln(gamma(n)), without what cancels.
    main = mean * (far - (1.0 + far) * log) + 0.5 * log
    return main - 0.5 * math.log(2 * math.pi) - stirling


def _next(words: Any) -> Any:
    """The next two random words of each element: theirs are the key."""

    def one(own: Any) -> Any:
        return jax.random.bits(jax.random.wrap_key_data(own, impl="threefry2x32"), (2,), jnp.uint32)

    return jax.vmap(one, in_axes=1, out_axes=1)(words)


def _until_accepted(words: Any, mean: Any, wanted: Any) -> Any:
    """Counts of all elements that are wanted, from their next words on."""
    hat = _hat(mean)

    def attempt(state: tuple[Any, ...]) -> tuple[Any, ...]:
        words, counts, wanted = state
        words = _next(words)
        proposed, accepted = _attempt(words, hat)
        return words, jnp.where(wanted, proposed, counts), wanted & ~accepted

    start = (words, jnp.zeros_like(mean), wanted)
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), attempt, start)[1]


def _by_rejection(words: Any, mean: Any, wanted: Any) -> Any:
    """Counts of the elements that are wanted.

    Most proposals are accepted at once; those that are not are drawn again some at a time, so that
    no loop goes over all of them.
    """
    n = len(mean)
    size = -(-n // PARTS)
    mean = jnp.where(wanted, mean, LARGE)

    def first(_: Any) -> tuple[Any, Any]:
        counts, accepted = _attempt(words, _hat(mean))
        return counts, wanted & ~accepted

    def some(state: tuple[Any, Any]) -> tuple[Any, Any]:
        counts, wanted = state
        index = jnp.nonzero(wanted, size=size, fill_value=n)[0]
        at = jnp.minimum(index, n - 1)
        drawn = _until_accepted(words[:, at], mean[at], index < n)
        return counts.at[index].set(drawn, mode="drop"), wanted.at[index].set(False, mode="drop")

    start = jax.lax.cond(jnp.any(wanted), first, lambda _: (mean, wanted), None)
    return jax.lax.while_loop(lambda state: jnp.any(state[1]), some, start)[0]
