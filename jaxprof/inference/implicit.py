"""Derivatives of a minimum, by the implicit function theorem."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.joint_model import Barrier, derivatives, gradient, predictions
from jaxprof.solvers.linear import factor_solve, scaled_factor
from jaxprof.solvers.solve import implicit_roots

MOST_ACTIVE = 100
"""Most constraints that are active at a minimum; never more than there are parameters."""


def rooted(
    data: JointData, z: jax.Array, free: jax.Array, barrier: Barrier, target: jax.Array
) -> jax.Array:
    """Give a minimiser its derivatives with respect to all data and to the values held.

    The minimiser ``z`` (Z,) is that behind the barrier, of the parameters that are ``free`` (Z,);
    the others have the values of the ``target`` (Z,). The derivatives are of any order and in both
    modes.
    """
    args = free, jax.tree.map(jax.lax.stop_gradient, barrier), data, target
    if not all(isinstance(block, JointBlock) for block in data.blocks):
        return implicit_roots(_residual, _solve, z, *args)
    # Where predictions of counts bins without counts touch zero, the barrier is so steep that in
    # its curvature that of the counts is lost by rounding. So the dual variables of these counts
    # bins, `width * scale / prediction`, are unknowns of their own, as in primal-dual methods (Boyd
    # & Vandenberghe 2004, Convex Optimization, section 11.7).
    n_counts_bins = sum(block.mask.size for block in data.blocks)
    shares = jnp.ones(min(z.size, n_counts_bins, MOST_ACTIVE), z.dtype)
    both = jnp.concatenate([z, shares])
    return implicit_roots(_residual_with_walls, _solve_with_walls, both, *args)[: z.size]


def _still(data: JointData) -> JointData:
    return jax.tree.map(jax.lax.stop_gradient, data)


def _held(
    z: jax.Array, free: jax.Array, barrier: Barrier, data: JointData, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Parameters that nothing holds, and the values that the others are held at."""
    z = jax.lax.stop_gradient(z)
    first = gradient(_still(data), z, barrier)
    low, high = (z <= data.lower) & (first > 0), (z >= data.upper) & (first < 0)
    ends = jnp.where(low, data.lower, jnp.where(high, data.upper, z))
    return free & ~(low | high), jnp.where(free, ends, target)


def _residual(
    z: jax.Array, free: jax.Array, barrier: Barrier, data: JointData, target: jax.Array
) -> jax.Array:
    active, held = _held(z, free, barrier, data, target)
    return jnp.where(active, gradient(data, z, barrier), z - held)


def _solve(
    right: jax.Array,
    z: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    data: JointData,
    target: jax.Array,
) -> jax.Array:
    active, _ = _held(z, free, barrier, data, target)
    matrix = derivatives(data, z, barrier)[1].full
    factor = scaled_factor(matrix, active)
    fixed = jnp.where(active, 0.0, right)
    own = factor_solve(factor, jnp.where(active, right - matrix @ fixed, 0.0))
    return jnp.where(active, own, fixed)


def _predictions(data: JointData, z: jax.Array) -> jax.Array:
    return jnp.concatenate([npred.ravel() for npred in predictions(data, z)])


def _walls(
    z: jax.Array, barrier: Barrier, data: JointData
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Largest dual variables of counts bins without counts, these bins, and their predictions."""
    data, z = _still(data), jax.lax.stop_gradient(z)
    empty = jnp.concatenate([(b.mask & ~(b.counts > 0)).ravel() for b in data.blocks])
    scales = jnp.concatenate([scale.ravel() for scale in barrier.scales])
    npred = _predictions(data, z)
    pushed = empty & (npred > 0)
    dual = jnp.where(pushed, barrier.width * scales / jnp.where(pushed, npred, 1.0), 0.0)
    strongest, constraints = jax.lax.top_k(dual, min(z.size, dual.size, MOST_ACTIVE))
    return strongest, constraints, jnp.where(strongest > 0, npred[constraints], 1.0)


def _pull(data: JointData, z: jax.Array, constraints: jax.Array, duals: jax.Array) -> jax.Array:
    """Gradient of some counts bins times their dual variables."""
    npred, back = jax.vjp(lambda values: _predictions(data, values), z)
    return back(jnp.zeros_like(npred).at[constraints].add(duals))[0]


def _residual_with_walls(
    unknown: jax.Array, free: jax.Array, barrier: Barrier, data: JointData, target: jax.Array
) -> jax.Array:
    """The gradient; products of slacks and dual variables, relative to what they should be."""
    z, share = unknown[: free.size], unknown[free.size :]
    active, held = _held(z, free, barrier, data, target)
    strongest, constraints, slack = _walls(z, barrier, data)
    none = Barrier(barrier.width, tuple(jnp.zeros_like(scale) for scale in barrier.scales))
    slope = gradient(data, z, none) - _pull(data, z, constraints, strongest * share)
    known = jnp.where(strongest > 0, share * _predictions(data, z)[constraints] / slack, share)
    return jnp.concatenate([jnp.where(active, slope, z - held), known - 1.0])


def _solve_with_walls(
    right: jax.Array,
    unknown: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    data: JointData,
    target: jax.Array,
) -> jax.Array:
    n = free.size
    z = unknown[:n]
    active, _ = _held(z, free, barrier, data, target)
    strongest, constraints, slack = _walls(z, barrier, data)
    # The barrier's dual variables are part of how the model bends, its curvature is not.
    matrix = derivatives(data, z, barrier)[1].bare
    units = jnp.eye(len(constraints), dtype=z.dtype)
    rows = jax.vmap(lambda unit: _pull(data, z, constraints, unit))(units)
    near = jnp.where(strongest[:, None] > 0, rows / slack[:, None], 0.0)
    upper = jnp.where(
        active[:, None], jnp.concatenate([matrix, -strongest[None, :] * rows.T], 1), 0.0
    )
    upper = upper.at[:, :n].add(jnp.diag(jnp.where(active, 0.0, 1.0)))
    whole = jnp.concatenate([upper, jnp.concatenate([near, units], axis=1)])
    # Parameters that nothing tells have no derivatives, such as the index of a norm held at zero,
    # of which only that norm's own column is not zero.
    told = ~active | jnp.any(jnp.where(active, upper[:, :n], 0.0) != 0, axis=1)
    whole = whole.at[jnp.arange(n), jnp.arange(n)].add(jnp.where(told, 0.0, 1.0))
    size = jnp.max(jnp.abs(whole), axis=1)
    return jnp.linalg.solve(whole / size[:, None], right / size)
