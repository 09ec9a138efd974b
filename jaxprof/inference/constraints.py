"""What stays positive in a joint fit: predictions, rates of On-Off data, distances from bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier

KEPT = 1e-3
"""The part of a slack that a step leaves at least."""


class PerConstraint(NamedTuple):
    """A number for each of what stays positive.

    Of each block (N, S): the predicted counts ``on``, and for On-Off data (None otherwise) the
    rates ``off`` of the background. Of the parameters (Z,): the distances from their ``low`` and
    ``high`` bounds.
    """

    on: tuple[jax.Array, ...]
    off: tuple[Any, ...]
    low: jax.Array
    high: jax.Array


def each(function: Callable[..., jax.Array], *constraints: PerConstraint) -> PerConstraint:
    """Apply a function of arrays to all of them."""
    return jax.tree.map(function, *constraints)


def total(constraints: PerConstraint) -> jax.Array:
    """Sum of all."""
    sums = [jnp.sum(leaf) for leaf in jax.tree.leaves(constraints)]
    return jnp.sum(jnp.stack(sums))


def smallest(constraints: PerConstraint) -> jax.Array:
    """Least of all."""
    least = [jnp.min(leaf, initial=jnp.inf) for leaf in jax.tree.leaves(constraints)]
    return jnp.min(jnp.stack(least))


def largest(constraints: PerConstraint) -> jax.Array:
    """Most of all."""
    most = [jnp.max(leaf, initial=-jnp.inf) for leaf in jax.tree.leaves(constraints)]
    return jnp.max(jnp.stack(most))


def used(data: JointData, free: jax.Array) -> PerConstraint:
    """Which are in the way of parameters that are free."""
    masks = tuple(block.mask for block in data.blocks)
    off = tuple(b.mask if isinstance(b, JointOnOffBlock) else None for b in data.blocks)
    low, high = free & jnp.isfinite(data.lower), free & jnp.isfinite(data.upper)
    return PerConstraint(masks, off, low, high)


def sizes(data: JointData, barrier: Barrier) -> PerConstraint:
    """Slacks that the barrier is relative to; for bounds that of a counts bin with one count."""
    off = tuple(
        scale / block.alpha if isinstance(block, JointOnOffBlock) else None
        for block, scale in zip(data.blocks, barrier.scales, strict=True)
    )
    low, high = (jnp.isfinite(b).astype(data.start.dtype) for b in (data.lower, data.upper))
    return PerConstraint(tuple(barrier.scales), off, low, high)


def counts(data: JointData) -> PerConstraint:
    """Observed counts, none at bounds."""
    on = tuple(b.n_on if isinstance(b, JointOnOffBlock) else b.counts for b in data.blocks)
    off = tuple(b.n_off if isinstance(b, JointOnOffBlock) else None for b in data.blocks)
    none = jnp.zeros_like(data.start)
    return PerConstraint(on, off, none, none)


def few_counts(
    counts: PerConstraint, sizes: PerConstraint, width: jax.Array, last: jax.Array
) -> PerConstraint:
    """Where the barrier stands for the counts: where there are fewer; at last where there are none.

    Counts may be small, those of Asimov data for instance: they are constraints too.
    """
    return each(lambda n, s: (n <= 0) | ((n < width * s) & (width > last)), counts, sizes)


def targets(
    counts: PerConstraint, sizes: PerConstraint, width: jax.Array, last: jax.Array
) -> PerConstraint:
    """What slack times dual variable is to be."""
    few = few_counts(counts, sizes, width, last)
    return each(lambda f, n, s: jnp.where(f, width * s, n), few, counts, sizes)


def longest_step(slacks: PerConstraint, steps: PerConstraint) -> jax.Array:
    """The part of a step, at most one, that leaves all slacks positive."""

    def of(slack: jax.Array, step: jax.Array) -> jax.Array:
        down = step < 0
        return jnp.where(down, (KEPT - 1.0) * slack / jnp.where(down, step, 1.0), 1.0)

    return jnp.minimum(smallest(each(of, slacks, steps)), 1.0)
