"""What stays positive in a joint fit: predictions, rates of On-Off data, distances from bounds.

The constraints of a fit are one vector (L,): all arithmetic is that of vectors, and a compiled
program has one loop for each step of it instead of one for each kind. `parts` tells them apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier, PerBin, predictions
from jaxprof.likelihood.statistics import wstat_rates

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


def joined(constraints: PerConstraint) -> jax.Array:
    """All of them in one vector (L,)."""
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(constraints)])


def parts(data: JointData, values: jax.Array) -> PerConstraint:
    """The parts of a vector (L,), by kind."""
    masks = used(data, data.free)
    leaves, structure = jax.tree.flatten(masks)
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + leaf.size)
    cut = [
        values[first:end].reshape(leaf.shape)
        for first, end, leaf in zip(ends[:-1], ends[1:], leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, cut)


def of_bins(data: JointData, on: PerBin) -> jax.Array:
    """A value for each counts bin, none where it is not in use, and zero for the others; (L,)."""
    values = tuple(jnp.where(b.mask, v, 0.0) for b, v in zip(data.blocks, on, strict=True))
    off = tuple(jnp.zeros_like(b.n_off) if _is_on_off(b) else None for b in data.blocks)
    none = jnp.zeros_like(data.start)
    return joined(PerConstraint(values, off, none, none))


def _is_on_off(block: Any) -> bool:
    return isinstance(block, JointOnOffBlock)


def used(data: JointData, free: jax.Array) -> PerConstraint:
    """Which are in the way of parameters that are free."""
    masks = tuple(block.mask for block in data.blocks)
    off = tuple(block.mask if _is_on_off(block) else None for block in data.blocks)
    low, high = free & jnp.isfinite(data.lower), free & jnp.isfinite(data.upper)
    return PerConstraint(masks, off, low, high)


def in_statistic(data: JointData) -> jax.Array:
    """Which slacks are a term of the statistic: predictions and rates, no distances; (L,)."""
    none = jnp.zeros(data.start.shape, bool)
    return joined(used(data, none))


def sizes(data: JointData, barrier: Barrier) -> jax.Array:
    """Slacks that the barrier is relative to, (L,); for bounds that of a bin with one count."""
    off = tuple(
        scale / block.alpha if _is_on_off(block) else None
        for block, scale in zip(data.blocks, barrier.scales, strict=True)
    )
    low, high = (jnp.isfinite(b).astype(data.start.dtype) for b in (data.lower, data.upper))
    return joined(PerConstraint(tuple(barrier.scales), off, low, high))


def counts(data: JointData) -> jax.Array:
    """Observed counts, none at bounds; (L,)."""
    on = tuple(block.n_on if _is_on_off(block) else block.counts for block in data.blocks)
    off = tuple(block.n_off if _is_on_off(block) else None for block in data.blocks)
    none = jnp.zeros_like(data.start)
    return joined(PerConstraint(on, off, none, none))


def slacks_at(data: JointData, z: jax.Array, least: jax.Array, known: jax.Array) -> jax.Array:
    """What predictions and distances are at a point, at least ``least``; one where not ``known``.

    Of On-Off data with the rates of the background that fit the prediction best.
    """
    floor = parts(data, least)
    ons, offs = [], []
    for number, (block, npred) in enumerate(zip(data.blocks, predictions(data, z), strict=True)):
        off = None
        if isinstance(block, JointOnOffBlock):
            off = wstat_rates(block.n_on, block.n_off, block.alpha, npred)[0]
            off = jnp.maximum(off, floor.off[number])
            npred = npred + block.alpha * off
        ons.append(jnp.maximum(npred, floor.on[number]))
        offs.append(off)
    slacks = PerConstraint(tuple(ons), tuple(offs), z - data.lower, data.upper - z)
    return jnp.where(known, joined(slacks), 1.0)


def few_counts(counts: jax.Array, sizes: jax.Array, width: jax.Array, last: jax.Array) -> jax.Array:
    """Where the barrier stands for the counts: where there are fewer; at last where there are none.

    Counts may be small, those of Asimov data for instance: they are constraints too.
    """
    return (counts <= 0) | ((counts < width * sizes) & (width > last))


def targets(counts: jax.Array, sizes: jax.Array, width: jax.Array, last: jax.Array) -> jax.Array:
    """What slack times dual variable is to be."""
    return jnp.where(few_counts(counts, sizes, width, last), width * sizes, counts)


def longest_step(slacks: jax.Array, steps: jax.Array) -> jax.Array:
    """The part of a step, at most one, that leaves all slacks positive."""
    down = steps < 0
    part = jnp.where(down, (KEPT - 1.0) * slacks / jnp.where(down, steps, 1.0), 1.0)
    return jnp.minimum(jnp.min(part), 1.0)
