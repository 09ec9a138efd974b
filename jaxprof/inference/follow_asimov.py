r"""The norm that would be detected: Newton's method for a norm and the fit of its Asimov data.

With counts :math:`n = \mu(\theta)` of parameters :math:`\theta` of which only the norm
:math:`\theta_c = a` is unknown, and the other parameters :math:`z` of the fit without it, the
test statistic :math:`2 h(a, z)` is to be minimal in :math:`z` and of a given value. The steps are
those of `follow`: the profile's tangent, slope and curvature are the derivatives of :math:`h` with
respect to :math:`a` with :math:`z` eliminated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.follow import CHANGE, along
from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.solvers.linear import factor_solve, scaled_factor, settings

STEPS = 30
"""Most steps; 5 or 6 do."""
AT_ONCE = 16
"""Batches of counts bins whose products stay in a processor's cache."""


class _Sums(NamedTuple):
    """Sums over counts bins: half the statistic, and derivatives with respect to the norm."""

    half: jax.Array
    by_norm: jax.Array
    twice_by_norm: jax.Array
    slope: jax.Array  # (Z,)
    column: jax.Array  # (Z,), by the norm and the others
    matrix: jax.Array  # (Z, Z)
    possible: jax.Array  # whether all predictions are positive


def _of_batches(
    block: JointBlock, truth: jax.Array, z: jax.Array, component: jax.Array
) -> tuple[jax.Array, ...]:
    """The sums for each batch of a block, those of its own components (N, K)."""

    def one(own: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        templates, components, fixed, mask = own
        row = (components == component).astype(z.dtype) @ templates
        # Counts bins that nothing reaches have no part.
        counts = fixed + truth[components] @ templates
        change = (z - truth)[components] @ templates
        counted = mask & (counts > 0)
        counts = jnp.where(counted, counts, 1.0)
        x = jnp.where(counted, change / counts, 0.0)
        npred = jnp.where(counted, counts + change, 1.0)
        good = jnp.all(jnp.where(mask, fixed + z[components] @ templates, 0.0) >= 0)
        log = jnp.log1p(jnp.where(npred > 0, x, 0.0))
        by_norm = jnp.where(counted, row, 0.0)
        # A counts bin that is empty is predicted without cost or curvature.
        score = jnp.where(counted, change / npred, jnp.where(mask, 1.0, 0.0))
        weight = jnp.where(counted, counts / npred**2, 0.0)
        return (
            jnp.sum(jnp.where(counted, counts * (x - log), jnp.where(mask, change, 0.0))),
            -jnp.sum(by_norm * log),
            jnp.sum(by_norm**2 / counts),
            templates @ score,
            -templates @ (by_norm / npred),
            (templates * weight[None]) @ templates.T,
            good & jnp.all(npred > 0),
        )

    base = block.background + block.offset
    arrays = block.templates[:, :, 0], block.components, base, block.mask
    return jax.lax.map(one, arrays, batch_size=AT_ONCE)


def _sums(data: JointData, truth: jax.Array, z: jax.Array, component: jax.Array) -> _Sums:
    shift = z - truth
    pulled = data.precision @ shift
    half = 0.5 * shift @ pulled
    by_norm, twice = -pulled[component], data.precision[component, component]
    slope, column, matrix = pulled, -data.precision[component], data.precision
    possible = jnp.asarray(True)
    for block in data.blocks:
        own = _of_batches(block, truth, z, component)
        at = block.components
        half, by_norm, twice = half + own[0].sum(), by_norm + own[1].sum(), twice + own[2].sum()
        slope, column = slope.at[at].add(own[3]), column.at[at].add(own[4])
        matrix = matrix.at[at[:, :, None], at[:, None, :]].add(own[5])
        possible = possible & jnp.all(own[6])
    return _Sums(half, by_norm, twice, slope, column, matrix, possible)


class _State(NamedTuple):
    norm: jax.Array
    z: jax.Array
    sums: _Sums
    iteration: jax.Array
    done: jax.Array
    failed: jax.Array


def follow_asimov(
    data: JointData, truth: jax.Array, free: jax.Array, component: jax.Array, rise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The norm of Asimov data whose test statistic has a value.

    Parameters
    ----------
    data : JointData
        The problem: blocks of `JointBlock`, and predictions that are linear in all parameters.
    truth : array, shape (Z,)
        Parameters of the Asimov data, but for the norm.
    free : array of bool, shape (Z,)
        Parameters that vary.
    component : array of int, shape ()
        Which norm.
    rise : array, shape ()
        The test statistic.

    Returns
    -------
    norm : array, shape ()
        The norm; without derivatives.
    found : array of bool, shape ()
        Whether all conditions are met; otherwise it means nothing.
    """
    tolerance = jnp.maximum(settings(truth.dtype).tolerance * truth.size, CHANGE)
    others = free.at[component].set(False)

    def at(norm: jax.Array, z: jax.Array) -> _Sums:
        return _sums(data, truth.at[component].set(norm), z, component)

    def body(state: _State) -> _State:
        norm, z, sums = state.norm, state.z, state.sums
        held = ((z <= data.lower) & (sums.slope > 0)) | ((z >= data.upper) & (sums.slope < 0))
        active = others & ~held
        factor = scaled_factor(sums.matrix, active)

        def solved(right: jax.Array) -> jax.Array:
            return jnp.where(active, -factor_solve(factor, jnp.where(active, right, 0.0)), 0.0)

        correction, tangent = solved(sums.slope), solved(sums.column)
        gained = -sums.slope @ correction
        slope = sums.by_norm + sums.column @ correction
        curvature = sums.twice_by_norm + sums.column @ tangent
        length = along(0.5 * rise - sums.half + 0.5 * gained, slope, curvature, 1.0)
        # The first data are without the norm: its square root is what rises evenly.
        length = jnp.maximum(length, -0.5 * norm)
        step = correction + length * tangent

        def shorter(carry: tuple) -> tuple:
            part, _, _ = carry
            new = jnp.clip(z + part * step, data.lower, data.upper)
            return 0.5 * part, new, at(norm + part * length, new)

        first = shorter((jnp.ones_like(norm), z, sums))
        part, new, new_sums = jax.lax.while_loop(
            lambda carry: ~carry[2].possible & (carry[0] > 1e-6), shorter, first
        )
        change = gained + curvature * length**2
        done = (part >= 0.5) & (change <= tolerance) & (jnp.abs(new - z - step) <= 1e-12).all()
        failed = ~(curvature > 0) | ~jnp.isfinite(change) | ~new_sums.possible
        return _State(
            norm + 2 * part * length, new, new_sums, state.iteration + 1, done & ~failed, failed
        )

    zero = jnp.zeros_like(truth[0])
    start = truth.at[component].set(0.0)
    sums = at(zero, start)
    state = _State(zero, start, sums, jnp.asarray(0), jnp.asarray(False), jnp.asarray(False))
    state = jax.lax.while_loop(lambda s: ~s.done & ~s.failed & (s.iteration < STEPS), body, state)
    return state.norm, state.done
