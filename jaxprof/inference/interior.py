"""Points inside the domain of a joint fit, where all predictions are positive."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxprof.inference.newton_step import shapes
from jaxprof.inference.start import barrier_at, component_signal, positive_start, units
from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.joint_model import Barrier, backgrounds, predictions
from jaxprof.likelihood.terms import ROUNDING

HIGH = 1e10
"""How many times norms may be raised to make all predictions positive."""
RAISES = 20
"""In how many steps."""
LEAST = 0.01
"""Counts that a norm is raised from, at least."""

Interior = tuple[jax.Array, Barrier]
"""A point with positive predictions, and the barrier that is scaled by these."""


def without_derivatives(data: JointData) -> JointData:
    """The data as constants."""
    return jax.tree.map(jax.lax.stop_gradient, data)


def usable(data: JointData) -> jax.Array:
    """Free parameters, (Z,), but for those of components without signal, which are held."""
    free = data.free
    seen = jnp.repeat(component_signal(without_derivatives(data)) > 0, 1 + data.n_shape)
    return free.at[: data.nuisance_start].set(free[: data.nuisance_start] & seen)


def without_spectrum(
    data: JointData, free: jax.Array, parameter: jax.Array, value: jax.Array
) -> tuple[JointData, jax.Array]:
    """The problem with a norm held, and its free parameters, (Z,).

    The spectrum of a norm of zero is not identifiable, unless it has a penalty. It is held where
    the least one would have it: derivatives with respect to a precision of zero are those from
    above.
    """
    own = jnp.arange(1, 1 + data.n_shape) + parameter
    constrained = jnp.any(data.precision[own] != 0, axis=1) | (value != 0)
    centre = jnp.clip(data.penalty_start[own], data.lower[own], data.upper[own])
    start = jnp.where(free[own] & ~constrained, centre, data.start[own])
    data = replace(data, start=data.start.at[own].set(start))
    return data, free.at[own].set(free[own] & constrained)


def with_centred_spectra(data: JointData, z: jax.Array, free: jax.Array) -> jax.Array:
    """A minimum with spectra that are not identifiable where `without_spectrum` has them; (Z,).

    They are those of norms at zero, without a constraint. Held at its centre, a parameter adds the
    same whatever the width that a constraint might have.
    """
    norms = jnp.repeat(z[data.norm_index], 1 + data.n_shape)
    none = jnp.zeros(z.size, bool).at[: data.nuisance_start].set(norms == 0)
    identifiable = ~shapes(data) | ~free | jnp.any(data.precision != 0, axis=1)
    return jnp.where(none & ~identifiable, jnp.clip(data.penalty_start, data.lower, data.upper), z)


def interior(data: JointData) -> Interior:
    """Where minimisations start, and what keeps them inside the domain; without derivatives."""
    still = without_derivatives(data)
    start = jnp.clip(positive_start(still), still.lower, still.upper)
    return start, barrier_at(still, start)


def in_domain(data: JointData, z: jax.Array) -> jax.Array:
    """Whether no prediction is below zero by more than rounding; On-Off data have no such end."""
    good = jnp.asarray(True)
    for block, own, npred in zip(
        data.blocks, backgrounds(data, z), predictions(data, z), strict=True
    ):
        if isinstance(block, JointBlock):
            level = ROUNDING * (own + block.offset)
            good = good & jnp.all(~block.mask | (npred >= -level))
    return good


def inside_of(
    data: JointData, free: jax.Array, start: jax.Array
) -> tuple[JointData, jax.Array, jax.Array]:
    """The problem in the bins that something predicts, a point inside, and whether there is one.

    Counts bins that nothing predicts cost the same whatever the free norms, however high: they have
    no say. If predictions are not positive at ``start``, all free norms are raised. There is no
    point inside where bounds and what is held leave a prediction below zero all the same.
    """
    # Those of backgrounds too: a negative norm that is held may be more than the background.
    norms = free & ~shapes(data)
    base = jnp.maximum(start, LEAST * units(data))

    def raised(factor: float | jax.Array) -> jax.Array:
        return jnp.where(norms, jnp.clip(factor * base, data.lower, data.upper), start)

    blocks = []
    for block, npred in zip(data.blocks, predictions(data, raised(HIGH)), strict=True):
        if isinstance(block, JointBlock):
            block = replace(block, mask=block.mask & (npred > 0))
        blocks.append(block)
    problem = replace(data, blocks=tuple(blocks))

    def good(z: jax.Array) -> jax.Array:
        pairs = zip(problem.blocks, predictions(problem, z), strict=True)
        fits = [jnp.all(~b.mask | (t > 0)) for b, t in pairs if isinstance(b, JointBlock)]
        return jnp.all(jnp.asarray(fits)) if fits else jnp.asarray(True)

    def higher(carry: tuple) -> tuple:
        step, _, _ = carry
        z = jnp.where(step < 0, start, raised(HIGH ** (jnp.maximum(step, 0.0) / RAISES)))
        return step + 1, z, good(z)

    begin = (-jnp.ones((), start.dtype), start, jnp.asarray(False))
    _, z, possible = jax.lax.while_loop(
        lambda carry: ~carry[2] & (carry[0] <= RAISES), higher, begin
    )
    return problem, z, possible & in_domain(data, raised(HIGH))


def masked_as(data: JointData, other: JointData) -> JointData:
    """The data with the masks of others."""
    pairs = zip(data.blocks, other.blocks, strict=True)
    blocks = [replace(block, mask=own.mask) for block, own in pairs]
    return replace(data, blocks=tuple(blocks))
