"""Half the statistic around the minimum of a joint fit as a parabola, with all counts bins as rows.

The weight of an active constraint is so large that all digits are lost when it is taken away
again. So the curvature has little of it; `held_together` adds the rest where it is still active.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size
from jaxprof.inference.follow import FittedProblem
from jaxprof.likelihood.joint_data import JointData
from jaxprof.likelihood.joint_model import predictions, slopes, squared
from jaxprof.solvers.linear import factor_solve, scaled_factor

FILLED = 1024
"""The number of counts bins is filled up to a multiple of this."""
ROUNDING = 8.0
"""Of a prediction, in units of the precision."""


class Rows(NamedTuple):
    """Counts bins of all blocks: templates (P, Z) and numbers (P,); none where not in use."""

    templates: jax.Array
    counts: jax.Array
    npred: jax.Array  # at the minimum
    slacks: jax.Array  # there
    duals: jax.Array  # there
    weights: jax.Array  # in the curvature
    sizes: jax.Array  # of the barrier
    response: jax.Array  # templates times covariance (P, Z)
    spread: jax.Array  # variance of the prediction

    def batched(self) -> Rows:
        """The same with numbers (1, P), for arithmetic with those of a batch."""
        return jax.tree.map(lambda each: each[None] if each.ndim == 1 else each, self)


class Parabola(NamedTuple):
    """Half the statistic around the minimum."""

    rows: Rows
    best: jax.Array  # parameters (Z,)
    slope: jax.Array  # (Z,)
    curvature: jax.Array  # (Z, Z)
    covariance: jax.Array  # (Z, Z), zero for parameters that do not vary
    precision: jax.Array  # (Z, Z) of the penalty
    penalty: jax.Array  # half its slope (Z,)
    width: jax.Array  # of the barrier
    wide: Any  # its first width
    most: Any  # steps of a search

    def moved(self, held: jax.Array, down: jax.Array) -> jax.Array:
        """Displacements (B, Z) that lower the parabola most, with a parameter of each held."""
        step = down @ self.covariance
        column = self.covariance[held]
        own = jnp.take_along_axis(step, held[:, None], 1)
        return step - own / jnp.take_along_axis(column, held[:, None], 1) * column


class InUse(NamedTuple):
    """Counts bins in use, of all that the blocks have: positions (P,), some more to fill up."""

    at: Any
    used: Any  # False for these

    def values(self, parts: tuple[jax.Array, ...], other: float) -> jax.Array:
        """Values (P,) from those of each block."""
        values = jnp.concatenate([part.ravel() for part in parts])[self.at]
        return jnp.where(self.used, values, other)

    def of_blocks(self, data: JointData, values: jax.Array) -> tuple[jax.Array, ...]:
        """What `values` gives back: for each block (N, S), zero where not in use."""
        sizes = [block.mask.size for block in data.blocks]
        joined = jnp.zeros(sum(sizes), values.dtype)
        joined = joined.at[self.at].add(jnp.where(self.used, values, 0.0))
        parts = jnp.split(joined, np.cumsum(sizes)[:-1])
        return tuple(part.reshape(b.mask.shape) for part, b in zip(parts, data.blocks, strict=True))

    def templates(self, data: JointData) -> jax.Array:
        """Templates (P, Z)."""
        found = []
        for block in data.blocks:
            n, _, _, s = block.templates.shape
            own = jnp.zeros((n, data.n_components, s), block.templates.dtype)
            own = own.at[jnp.arange(n)[:, None], block.components].add(block.templates[:, :, 0])
            found.append(jnp.moveaxis(own, 1, 2).reshape(n * s, -1))
        return jnp.where(self.used[:, None], jnp.concatenate(found)[self.at], 0.0)


def in_use(data: JointData) -> InUse:
    """Counts bins in use, filled up."""
    masks = np.concatenate([np.asarray(block.mask).ravel() for block in data.blocks])
    at = np.flatnonzero(masks)
    total = min(-(-max(len(at), 1) // FILLED) * FILLED, len(masks))
    return InUse(np.resize(at, total), np.arange(total) < len(at))


@jit_by_size
def parabola_at(fitted: FittedProblem, in_use: InUse) -> Parabola:
    """The parabola at the minimum, with little of the barrier where that holds constraints."""
    data, best, free, barrier = fitted
    templates = jnp.where(free[None], in_use.templates(data), 0.0)
    counts = in_use.values(tuple(block.counts for block in data.blocks), 0.0)
    sizes = in_use.values(barrier.scales, 1.0)
    npred = in_use.values(predictions(data, best), 1.0)
    target = jnp.where(counts > 0, counts, barrier.width * sizes)
    rounding = ROUNDING * jnp.finfo(npred.dtype).eps * (jnp.abs(templates) @ jnp.abs(best))
    slacks = jnp.where(counts > 0, npred, jnp.maximum(npred, rounding))
    duals = target / slacks
    active = (counts <= 0) & (duals > slacks / sizes)
    weights = jnp.where(in_use.used, duals**2 / target, 0.0)
    penalty = data.precision @ (best - data.penalty_start)
    both = free[:, None] & free[None, :]

    def slope(duals: jax.Array) -> jax.Array:
        return jnp.where(free, penalty, 0.0) + jnp.where(in_use.used, 1.0 - duals, 0.0) @ templates

    def curvature(weights: jax.Array) -> jax.Array:
        return squared(data, slopes(data, best), in_use.of_blocks(data, weights))

    # Of constraints that are active, rounding hides what is left of the prediction: the slope
    # vanishes with the right dual variables.
    step = factor_solve(scaled_factor(curvature(weights), free), slope(duals))
    known = jnp.maximum(duals + weights * (templates @ step), 1e-3 * duals)
    duals = jnp.where(active, known, duals)
    # Digits are lost if more is taken away.
    weights = jnp.where(counts <= 0, jnp.minimum(weights, 1.0 / sizes**2), weights)
    matrix = curvature(weights)
    factor = scaled_factor(matrix, free)
    covariance = jax.vmap(lambda y: factor_solve(factor, y))(jnp.eye(best.size, dtype=best.dtype))
    covariance = jnp.where(both, 0.5 * (covariance + covariance.T), 0.0)
    response = templates @ covariance
    return Parabola(
        rows=Rows(
            *(templates, counts, npred, target / duals, duals, weights, sizes, response),
            spread=jnp.sum(response * templates, axis=1),
        ),
        best=best,
        slope=slope(duals),
        curvature=jnp.where(both, matrix, 0.0),
        covariance=covariance,
        precision=data.precision,
        penalty=penalty,
        width=barrier.width,
        wide=barrier.width,
        most=jnp.asarray(0),
    )
