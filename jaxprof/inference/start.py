"""Where the minimisation of a joint fit starts, and how its barrier is scaled."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier, barrier_scales, gradient, summed_signals
from jaxprof.solvers.linear import settings


def barrier_at(data: JointData, z: jax.Array) -> Barrier:
    """The final barrier, relative to the (positive) prediction at ``z``."""
    width = jnp.asarray(settings(z.dtype).width, z.dtype)
    return Barrier(width, barrier_scales(data, z))


def component_signal(data: JointData) -> jax.Array:
    """Counts that each component predicts at coefficient one, over all unmasked bins; (C,)."""
    total = jnp.zeros(data.n_components, data.start.dtype)
    for block in data.blocks:
        sums = jnp.einsum("nkqs,ns->nk", block.templates, block.mask.astype(total.dtype))
        total = total.at[block.components].add(sums)
    return total


def units(data: JointData) -> jax.Array:
    """Changes of parameters that matter: one count for norms, one for other parameters; (Z,)."""
    one = jnp.ones_like(data.start)
    signal = summed_signals(data, data.start.at[data.norm_index].set(1.0))
    return one.at[data.norm_index].set(1.0 / jnp.where(signal > 0, signal, 1.0))


def positive_start(data: JointData) -> jax.Array:
    """Parameters with positive norms, close to the counts; (Z,).

    Some steps of expectation and maximisation (Shepp & Vardi 1982, IEEE TMI 1, 113), each of which
    multiplies a norm by observed over predicted counts where its template is.
    """
    at = data.norm_index
    plain = all(isinstance(block, JointBlock) for block in data.blocks)
    free = data.free[at] & (component_signal(data) > 0)
    z = data.start.at[at].set(jnp.where(free, 1.0, data.start[at]))
    predicted = summed_signals(data, z)
    if not plain:
        excess = sum(jnp.sum(jnp.where(b.mask, _excess(b), 0.0)) for b in data.blocks)
        expected = jnp.sum(jnp.where(free, predicted, 0.0))
        norm = jnp.maximum(excess, 1.0) / jnp.where(expected > 0, expected, 1.0)
        return z.at[at].set(jnp.where(free, norm, z[at]))
    predicted = jnp.where(predicted > 0, predicted, 1.0)
    # Of each as many counts, whatever the unit of its norm.
    total = sum(jnp.sum(jnp.where(b.mask, b.counts, 0.0)) for b in data.blocks)
    even = jnp.maximum(total, 1.0) / jnp.maximum(jnp.sum(free), 1)
    z = z.at[at].set(jnp.where(free, even / predicted, z[at]))
    barrier = Barrier(jnp.zeros((), z.dtype), tuple(jnp.zeros_like(b.offset) for b in data.blocks))
    # The penalty has no part in this.
    bare = replace(data, precision=jnp.zeros_like(data.precision))

    def em(_: int, z: jax.Array) -> jax.Array:
        observed = predicted - gradient(bare, z, barrier)[at]
        ratio = jnp.clip(observed / predicted, 0.03, 1e6)
        return z.at[at].set(jnp.where(free, z[at] * ratio, z[at]))

    return jax.lax.fori_loop(0, 8, em, z)


def _excess(block: JointBlock | JointOnOffBlock) -> jax.Array:
    if isinstance(block, JointOnOffBlock):
        return block.n_on - block.alpha * block.n_off
    return block.counts - block.background - block.offset
