"""Short descents from many points, which show where minima of a joint fit are.

Where spectral parameters or tilts of backgrounds are free, the statistic has several minima. The
points are spread evenly over the ranges of these parameters (the additive recurrence of Roberts
2018, "The unreasonable effectiveness of quasirandom sequences"), with the counts shared between
components and backgrounds. From each of them some steps of Fisher scoring with the damping of
Levenberg and Marquardt (Nocedal & Wright 2006, Numerical Optimization, chapter 10) go downwards,
all of them side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.inference.newton_step import shapes
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import (
    backgrounds,
    bin_derivatives,
    predictions,
    projected,
    slopes,
    squared,
    stat,
    summed_signals,
)
from jaxprof.solvers.linear import factor_solve, scaled_factor

POINTS = 16, 6
"""Number of descents where tilts of backgrounds are free, in small and large problems."""
WITHOUT_TILTS = 6, 0
"""The same where only spectral parameters are free, which have profiles."""
LARGE = 300_000
"""Elements of the templates of large problems, where descents take longer than minimisations."""
STEPS = 15
"""Steps of a descent: it need not arrive."""
LONGEST = 1.5
"""Longest step of spectral parameters and tilts."""
REACH = 5.0
"""Range of parameters without bounds."""
RAISED = 10.0 ** np.arange(7)
"""Factors on norms of points where predictions are not positive."""
KEPT = 0.1
"""Part of a prediction that a step leaves at least."""


class _State(NamedTuple):
    z: jax.Array
    value: jax.Array
    damping: jax.Array


def _sequence(n: int, size: int) -> np.ndarray:
    """Points (n, size) that are spread evenly over the unit cube."""
    root = 2.0
    for _ in range(50):
        root = (1.0 + root) ** (1.0 / (size + 1))
    return (0.5 + np.arange(1, n + 1)[:, None] * root ** -np.arange(1.0, size + 1)) % 1.0


def is_large(data: JointData) -> bool:
    """Whether descents from all over the ranges take longer than minimisations."""
    return sum(block.templates.size for block in data.blocks) > LARGE


def number_of_points(data: JointData) -> int:
    """How many descents a problem is worth."""
    return (POINTS if data.n_nuisance else WITHOUT_TILTS)[is_large(data)]


def spread(data: JointData, start: jax.Array, free: jax.Array) -> jax.Array:
    """Points (N, Z) all over the ranges of the parameters that predictions are not linear in."""
    n = number_of_points(data)
    points = jnp.asarray(_sequence(n, data.start.size), start.dtype)
    shape, at = shapes(data), data.norm_index
    norms = data.nuisance_start + 2 * np.arange(data.n_nuisance)
    low = jnp.where(jnp.isfinite(data.lower), data.lower, data.start - REACH)
    high = jnp.where(jnp.isfinite(data.upper), data.upper, data.start + REACH)
    # Even near the start, geometric far from it.
    ends = jnp.arcsinh(low - data.start), jnp.arcsinh(high - data.start)
    counts = sum(
        jnp.sum(jnp.where(b.mask, b.n_on if isinstance(b, JointOnOffBlock) else b.counts, 0.0))
        for b in data.blocks
    )
    share = counts / (data.n_components + data.n_nuisance)

    def one(point: jax.Array) -> jax.Array:
        values = data.start + jnp.sinh(ends[0] + point * (ends[1] - ends[0]))
        z = jnp.where(shape & free, values, start)
        unit = z.at[at].set(1.0).at[norms].set(1.0)
        reach = summed_signals(data, unit)
        z = z.at[at].set(2.0 * point[at] * share / jnp.where(reach > 0, reach, 1.0))
        if data.n_nuisance:
            reach = jnp.zeros(data.n_nuisance, z.dtype)
            for block, row in zip(data.blocks, backgrounds(data, unit), strict=True):
                reach = reach.at[block.dataset].add(jnp.sum(jnp.where(block.mask, row, 0.0)))
            z = z.at[norms].set(2.0 * point[norms] * share / jnp.where(reach > 0, reach, 1.0))
        z = jnp.where(free, jnp.clip(z, data.lower, data.upper), start)
        # A norm that is held may be negative, which others have to make up for.
        linear = free & ~shape
        raised = jax.vmap(
            lambda factor: jnp.where(linear, jnp.clip(factor * z, data.lower, data.upper), z)
        )(jnp.asarray(RAISED, z.dtype))
        return raised[jnp.argmax(jax.vmap(lambda own: _is_inside(data, own))(raised))]

    return jax.vmap(one)(points)


def _is_inside(data: JointData, z: jax.Array) -> jax.Array:
    """Whether all predictions are positive."""
    inside = [
        jnp.all(~block.mask | (npred > 0))
        for block, npred in zip(data.blocks, predictions(data, z), strict=True)
        if isinstance(block, JointBlock)
    ]
    return jnp.all(jnp.asarray(inside, bool))


def _value(data: JointData, z: jax.Array) -> jax.Array:
    """Statistic and penalty; infinite where a prediction is not positive."""
    step = z - data.penalty_start
    total = stat(data, z) + step @ data.precision @ step
    return jnp.where(_is_inside(data, z) & jnp.isfinite(total), total, jnp.inf)


def _expected(data: JointData, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradient (Z,) and expected curvature (Z, Z) of half the statistic and penalty."""
    scores, weights = [], []
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        score, curvature, _ = bin_derivatives(block, npred, jnp.zeros_like(npred))
        if isinstance(block, JointBlock):
            curvature = jnp.where(block.mask & (npred > 0), 1.0 / npred, 0.0)
        scores.append(score)
        weights.append(curvature)
    model = slopes(data, z)
    return projected(data, z, model, tuple(scores)), squared(data, model, tuple(weights))


def _part(data: JointData, z: jax.Array, new: jax.Array) -> jax.Array:
    """The part of a step that leaves predictions positive, were they linear."""
    part = jnp.ones_like(z[0])
    pairs = zip(data.blocks, predictions(data, z), predictions(data, new), strict=True)
    for block, here, there in pairs:
        if isinstance(block, JointBlock):
            falls = block.mask & (there < KEPT * here)
            most = (1 - KEPT) * here / jnp.where(falls, here - there, 1.0)
            part = jnp.minimum(part, jnp.min(jnp.where(falls, most, 1.0)))
    return jnp.maximum(part, 0.0)


def descend(data: JointData, points: jax.Array, free: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where some steps from points (N, Z) lead, and the statistic and penalty there, (N,)."""
    longest = jnp.where(shapes(data), LONGEST, jnp.inf)

    def further(_: int, state: _State) -> _State:
        z, value, damping = state
        slope, matrix = _expected(data, z)
        held = ((z <= data.lower) & (slope > 0)) | ((z >= data.upper) & (slope < 0))
        moving = free & ~held
        matrix = matrix + jnp.diag(damping * jnp.diagonal(matrix))
        step = factor_solve(scaled_factor(matrix, moving), jnp.where(moving, -slope, 0.0))
        step = jnp.clip(jnp.where(moving, step, 0.0), -longest, longest)
        new = jnp.clip(z + step, data.lower, data.upper)
        new = jnp.where(moving, z + _part(data, z, new) * (new - z), z)
        reached = _value(data, new)
        good = reached < value
        return _State(
            jnp.where(good, new, z),
            jnp.where(good, reached, value),
            jnp.where(good, 0.2 * damping, jnp.maximum(5.0 * damping, 1e-2)),
        )

    def one(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = _State(z, _value(data, z), jnp.asarray(1e-2, z.dtype))
        last = jax.lax.fori_loop(0, STEPS, further, first)
        return last.z, last.value

    return jax.vmap(one)(points)
