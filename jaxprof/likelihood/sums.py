"""How loops over counts bins are cut for the compiler of a CPU.

It makes a loop of each reduction, and computes in it all that the reduction depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def sums(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums over the first axis of several arrays of one shape, read once."""
    return _sums(terms)


def summed(terms: Callable[..., tuple[jax.Array, ...]], block: Any, *shared: Any) -> Any:
    """Sums of terms over the counts bins of a block, for many bins side by side.

    ``terms`` gives a tuple of arrays for one counts bin of the block, whose arrays are (E, ..., N),
    and for what its counts bins share, (..., N).
    """
    if jax.default_backend() != "cpu":
        return tuple(
            jnp.sum(each, axis=0)
            for each in jax.vmap(terms, (0, *[None] * len(shared)))(block, *shared)
        )
    # One counts bin after the other, of all bins in vector registers: a reduction would take all
    # counts bins of one bin after the other, which the compiler does not vectorise.
    terms = jax.jit(terms, inline=True)  # traced once
    like = jax.eval_shape(terms, jax.tree.map(lambda a: a[0], block), *shared)
    start = tuple(jnp.zeros(each.shape, each.dtype) for each in like)
    n = len(jax.tree.leaves(block)[0])

    def add(e: Any, total: Any) -> Any:
        own = terms(jax.tree.map(lambda a: a[e], block), *shared)
        return tuple(a + b for a, b in zip(total, own, strict=True))

    return jax.lax.fori_loop(0, n, add, start)


@jax.custom_jvp
def _sums(terms: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    if jax.default_backend() != "cpu":
        return tuple(jnp.sum(term, axis=0) for term in terms)
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    found = jax.lax.reduce(
        terms, zeros, lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (0,)
    )
    return tuple(found)


@_sums.defjvp
def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return _sums(*primals), tuple(jnp.sum(term, axis=0) for term in tangents[0])


def extremes(
    added: tuple[jax.Array, ...] = (),
    largest: tuple[jax.Array, ...] = (),
    smallest: tuple[jax.Array, ...] = (),
) -> tuple[jax.Array, ...]:
    """Sums, maxima and minima over the first axis in one pass; they carry no derivatives."""
    n, m = len(added), len(added) + len(largest)
    terms = jax.lax.stop_gradient((*added, *largest, *smallest))
    if jax.default_backend() != "cpu":
        return tuple(
            jnp.sum(t, axis=0) if i < n else jnp.max(t, axis=0) if i < m else jnp.min(t, axis=0)
            for i, t in enumerate(terms)
        )

    def combined(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        pairs = zip(a, b, strict=True)
        return tuple(
            x + y if i < n else jnp.maximum(x, y) if i < m else jnp.minimum(x, y)
            for i, (x, y) in enumerate(pairs)
        )

    starts = [0] * n + [-jnp.inf] * len(largest) + [jnp.inf] * len(smallest)
    first = tuple(jnp.asarray(s, t.dtype) for s, t in zip(starts, terms, strict=True))
    return tuple(jax.lax.reduce(terms, first, combined, (0,)))


@jax.custom_jvp
def computed_once(tree: Any) -> Any:
    """The same arrays, which are computed once and not in each loop that reads them."""
    return jax.lax.optimization_barrier(tree)


@computed_once.defjvp
def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    return computed_once(*primals), tangents[0]
