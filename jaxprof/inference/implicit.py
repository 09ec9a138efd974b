"""Derivatives of a minimum, by the implicit function theorem."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.joint_model import Barrier, derivatives, gradient, predictions
from jaxprof.solvers.linear import factor_solve, scaled_factor
from jaxprof.solvers.solve import differentiable_roots

MOST_WALLS = 100
"""Walls that a minimum may touch, for its derivatives; never more than there are parameters."""


def rooted(
    data: JointData, z: jax.Array, free: jax.Array, barrier: Barrier, target: jax.Array
) -> jax.Array:
    """Give a minimiser its derivatives by everything in the data, and by the values held.

    Parameters
    ----------
    data : JointData
        The problem.
    z : array, shape (Z,)
        Its minimiser behind the barrier.
    free : array of bool, shape (Z,)
        Parameters that were varied.
    barrier : Barrier
        The barrier.
    target : array, shape (Z,)
        Values of the others.

    Returns
    -------
    z : array, shape (Z,)
        The same values, with derivatives of any order and in both modes.
    """
    still = jax.tree.map(jax.lax.stop_gradient, data)
    z = jax.lax.stop_gradient(z)
    first = gradient(still, z, barrier)
    low, high = (z <= data.lower) & (first > 0), (z >= data.upper) & (first < 0)
    active = free & ~(low | high)
    ends = jnp.where(low, data.lower, jnp.where(high, data.upper, z))
    held = jnp.where(free, ends, target)
    if all(isinstance(block, JointBlock) for block in data.blocks):
        return _with_walls(data, z, active, held, barrier)

    def residual(x: jax.Array) -> jax.Array:
        return jnp.where(active, gradient(data, x, barrier), x - held)

    def solve(y: jax.Array) -> jax.Array:
        matrix = derivatives(still, z, barrier)[1].full
        factor = scaled_factor(matrix, active)
        fixed = jnp.where(active, 0.0, y)
        own = factor_solve(factor, jnp.where(active, y - matrix @ fixed, 0.0))
        return jnp.where(active, own, fixed)

    return differentiable_roots(residual, z, solve)


def _with_walls(
    data: JointData, z: jax.Array, active: jax.Array, held: jax.Array, barrier: Barrier
) -> jax.Array:
    """Derivatives where predictions of slots without counts may touch zero.

    The barrier is so steep there that in its curvature that of the counts is lost by rounding. So
    the forces of these slots, ``width * scale / prediction``, are unknowns of their own, as in
    primal-dual methods (Boyd & Vandenberghe 2004, Convex Optimization, section 11.7).
    """
    still = jax.tree.map(jax.lax.stop_gradient, data)

    def slots(of: JointData, x: jax.Array) -> jax.Array:
        return jnp.concatenate([npred.ravel() for npred in predictions(of, x)])

    empty = jnp.concatenate([(b.mask & ~(b.counts > 0)).ravel() for b in still.blocks])
    scales = jnp.concatenate([scale.ravel() for scale in barrier.scales])
    npred = slots(still, z)
    pushed = empty & (npred > 0)
    force = jnp.where(pushed, barrier.width * scales / jnp.where(pushed, npred, 1.0), 0.0)
    strength, walls = jax.lax.top_k(force, min(z.size, force.size, MOST_WALLS))
    level = jnp.where(strength > 0, npred[walls], 1.0)
    none = Barrier(barrier.width, tuple(jnp.zeros_like(scale) for scale in barrier.scales))
    n = z.size

    def pull(of: JointData, x: jax.Array, forces: jax.Array) -> jax.Array:
        """Gradient of the forced slots."""
        _, back = jax.vjp(lambda values: slots(of, values), x)
        return back(jnp.zeros_like(scales).at[walls].add(forces))[0]

    def residual(unknown: jax.Array) -> jax.Array:
        x, share = unknown[:n], unknown[n:]
        slope = gradient(data, x, none) - pull(data, x, strength * share)
        known = jnp.where(strength > 0, share * slots(data, x)[walls] / level, share)
        return jnp.concatenate([jnp.where(active, slope, x - held), known - 1.0])

    def solve(y: jax.Array) -> jax.Array:
        # The barrier's forces are part of how the model bends, its curvature is not.
        matrix = derivatives(still, z, barrier)[1].bare
        units = jnp.eye(len(walls), dtype=z.dtype)
        rows = jax.vmap(lambda unit: pull(still, z, unit))(units)
        near = jnp.where(strength[:, None] > 0, rows / level[:, None], 0.0)
        upper = jnp.where(
            active[:, None], jnp.concatenate([matrix, -strength[None, :] * rows.T], 1), 0.0
        )
        upper = upper.at[:, :n].add(jnp.diag(jnp.where(active, 0.0, 1.0)))
        whole = jnp.concatenate([upper, jnp.concatenate([near, units], axis=1)])
        # Parameters that nothing tells have no derivatives.
        told = jnp.any(upper[:, :n] != 0, axis=1)
        whole = whole.at[jnp.arange(n), jnp.arange(n)].add(jnp.where(told, 0.0, 1.0))
        size = jnp.max(jnp.abs(whole), axis=1)
        return jnp.linalg.solve(whole / size[:, None], y / size)

    start = jnp.concatenate([z, jnp.ones_like(strength)])
    return differentiable_roots(residual, start, solve)[:n]
