"""What stays positive in a joint fit: predictions, rates of On-Off data, distances from bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier

KEPT = 1e-3
"""The part of a level that a step leaves at least."""


class Walls(NamedTuple):
    """A number for each of what stays positive.

    Of each block (N, S): the predicted counts ``on``, and for On-Off data (None otherwise) the
    rates ``off`` of the background. Of the parameters (Z,): the distances from their ``low`` and
    ``high`` bounds.
    """

    on: tuple[jax.Array, ...]
    off: tuple[Any, ...]
    low: jax.Array
    high: jax.Array


def each(function: Callable[..., jax.Array], *walls: Walls) -> Walls:
    """Apply a function of arrays to all of them."""
    return jax.tree.map(function, *walls)


def total(walls: Walls) -> jax.Array:
    """Sum of all."""
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(walls)]
    return jnp.sum(jnp.stack(sums))


def smallest(walls: Walls) -> jax.Array:
    """Least of all."""
    least = [jnp.min(leaf, initial=jnp.inf) for leaf in jax.tree.leaves(walls)]
    return jnp.min(jnp.stack(least))


def largest(walls: Walls) -> jax.Array:
    """Most of all."""
    most = [jnp.max(leaf, initial=-jnp.inf) for leaf in jax.tree.leaves(walls)]
    return jnp.max(jnp.stack(most))


def used(data: JointData, free: jax.Array) -> Walls:
    """Which are in the way of parameters that are free."""
    masks = tuple(block.mask for block in data.blocks)
    off = tuple(b.mask if isinstance(b, JointOnOffBlock) else None for b in data.blocks)
    low, high = free & jnp.isfinite(data.lower), free & jnp.isfinite(data.upper)
    return Walls(masks, off, low, high)


def sizes(data: JointData, barrier: Barrier) -> Walls:
    """Levels that the barrier is relative to; for bounds it is that of a slot with one count."""
    off = tuple(
        scale / block.alpha if isinstance(block, JointOnOffBlock) else None
        for block, scale in zip(data.blocks, barrier.scales, strict=True)
    )
    low, high = (jnp.isfinite(b).astype(data.start.dtype) for b in (data.lower, data.upper))
    return Walls(tuple(barrier.scales), off, low, high)


def counts(data: JointData) -> Walls:
    """Observed counts, none at bounds."""
    on = tuple(b.n_on if isinstance(b, JointOnOffBlock) else b.counts for b in data.blocks)
    off = tuple(b.n_off if isinstance(b, JointOnOffBlock) else None for b in data.blocks)
    none = jnp.zeros_like(data.start)
    return Walls(on, off, none, none)


def scarce(counts: Walls, sizes: Walls, width: jax.Array, last: jax.Array) -> Walls:
    """Where the barrier stands for the counts: where there are fewer; at last where there are none.

    Counts may be small, those of Asimov data for instance: they are walls too.
    """
    return each(lambda n, s: (n <= 0) | ((n < width * s) & (width > last)), counts, sizes)


def targets(counts: Walls, sizes: Walls, width: jax.Array, last: jax.Array) -> Walls:
    """What level times force is to be."""
    few = scarce(counts, sizes, width, last)
    return each(lambda f, n, s: jnp.where(f, width * s, n), few, counts, sizes)


def longest_step(levels: Walls, steps: Walls) -> jax.Array:
    """The part of a step, at most one, that leaves all levels positive."""

    def of(level: jax.Array, step: jax.Array) -> jax.Array:
        down = step < 0
        return jnp.where(down, (KEPT - 1.0) * level / jnp.where(down, step, 1.0), 1.0)

    return jnp.minimum(smallest(each(of, levels, steps)), 1.0)
