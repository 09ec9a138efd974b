"""Short descents from many points, which show where minima of a joint fit are.

Where spectral parameters or tilts of backgrounds are free, the statistic has several minima. The
points are spread evenly over the ranges of these parameters (the additive recurrence of Roberts
2018, "The unreasonable effectiveness of quasirandom sequences"), with the counts shared between
components and backgrounds. From each of them some steps of Fisher scoring with the damping of
Levenberg and Marquardt (Nocedal & Wright 2006, Numerical Optimization, chapter 10) go downwards,
all of them side by side. Where so many end apart that others are likely to have been missed, more
follow, by the rule of Boender & Rinnooy Kan (1987, Mathematical Programming 37, 59).
"""

from __future__ import annotations

from typing import Any, NamedTuple

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

POINTS = 17, 7
"""Descents side by side where tilts of backgrounds are free, in small and large problems."""
WITHOUT_TILTS = 7, 0
"""The same where only spectral parameters are free, which have profiles."""
BATCHES = 4
"""So many times as many, at most, in small problems with tilts."""
UNSEEN = 0.15
"""Part of all points that may belong to minima where no descent has ended, about."""
CLOSE = 1.5
"""How high above the lowest ends are that are counted for it."""
ALIKE = 0.03
"""Heights of ends that are not apart."""
LARGE = 300_000
"""Elements of the templates of large problems, where descents take longer than minimisations."""
STEPS = 20
"""Steps of a descent: it need not arrive."""
LONGEST = 1.5
"""Longest step of spectral parameters and tilts."""
REACH = 5.0
"""Range of parameters without bounds."""
RAISED = 10.0 ** np.arange(7)
"""Factors on norms of points where predictions are not positive."""
LIKELY = 3.0
"""Standard deviations from the centre of a constraint within which norms of backgrounds begin."""
OVER = 16.0
"""Factor on the norms of backgrounds that negative components are to make up for."""
NEGATIVE = -3.2 * 0.25 ** np.arange(6)
"""Factors on the norms of these, of which the first that leaves predictions positive is taken."""
KEPT = 0.1
"""Part of a prediction that a step leaves at least."""


class Ends(NamedTuple):
    """Where descents ended, (N, Z), and which are of no more use, (N,)."""

    z: jax.Array
    used: jax.Array


_Batches = tuple[jax.Array, jax.Array, jax.Array]
"""How many batches of descents there were, their ends (B, N, Z) and the statistic there, (B, N)."""


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


def _batches(data: JointData) -> int:
    return BATCHES if data.n_nuisance and not is_large(data) else 1


def spread(data: JointData, start: jax.Array, free: jax.Array, batch: Any = 0) -> jax.Array:
    """Points (N, Z) all over the ranges of the parameters that predictions are not linear in."""
    n, batches = number_of_points(data), _batches(data)
    sequence = _sequence(n * batches, data.start.size).reshape(batches, n, -1)
    points = jnp.asarray(sequence, start.dtype)[batch]
    shape, at = shapes(data), data.norm_index
    linear, (factors, usual) = free & ~shape, _factors(data, free)
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
    # Far from the centres of constraints descents would take all their steps to come back.
    width = LIKELY / jnp.sqrt(jnp.diagonal(data.precision)[norms])
    lower = data.lower.at[norms].max(data.penalty_start[norms] - width)
    upper = data.upper.at[norms].min(data.penalty_start[norms] + width)

    def one(point: jax.Array, negative: jax.Array) -> jax.Array:
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
        z = jnp.where(free, jnp.clip(z, lower, upper), start)
        tried = jax.vmap(lambda factor: jnp.where(linear, jnp.clip(factor * z, lower, upper), z))(
            factors
        )
        inside = jax.vmap(lambda own: _is_inside(data, own))(tried)
        return tried[jnp.argmax(inside & (negative | usual))]

    return jax.vmap(one)(points, jnp.arange(n) % 2 == 1)


def _factors(data: JointData, free: jax.Array) -> tuple[jax.Array, np.ndarray]:
    """Factors (F, Z) to try on norms, and for which no component is negative.

    Backgrounds that exceed the counts, with negative components, may fit as well as others.
    """
    at, negative = data.norm_index, NEGATIVE if data.n_nuisance else NEGATIVE[:0]
    below = free[at] & (data.lower[at] < 0)
    over = jnp.where(jnp.any(below), OVER, jnp.ones((negative.size, data.start.size)))
    over = over.at[:, at].set(jnp.where(below[None], negative[:, None], 1.0))
    # A norm that is held may be negative, which others have to make up for.
    raised = jnp.broadcast_to(RAISED[:, None], (RAISED.size, data.start.size))
    usual = np.arange(negative.size + RAISED.size) >= negative.size
    return jnp.concatenate([over, raised]).astype(data.start.dtype), usual


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


def _unseen(values: jax.Array, number: jax.Array) -> jax.Array:
    """Expected part of all points that lead elsewhere than any of a number of descents did."""
    values = jnp.sort(values)
    near = values < values[0] + CLOSE
    apart = 1 + jnp.sum(near[1:] & (values[1:] - values[:-1] > ALIKE))
    return apart * (apart + 1) / (number * (number - 1))


def descended(
    data: JointData, start: jax.Array, free: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, Ends]:
    """The lowest end of descents from the start and from all over the ranges; the other ends.

    If these are not wanted, or not worth their time, the start.
    """
    n, most = number_of_points(data), _batches(data)
    if not n:
        return start, Ends(start[None], jnp.ones(1, bool))

    def further(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch, z, values = state
        points = spread(data, start, free, batch)
        points = points.at[0].set(jnp.where(batch == 0, start, points[0]))
        own = descend(data, points, free)
        return batch + 1, z.at[batch].set(own[0]), values.at[batch].set(own[1])

    def more(state: _Batches) -> jax.Array:
        batch, _, values = state
        missing = _unseen(values.ravel(), batch * n) > UNSEEN
        return wanted & (batch < most) & ((batch == 0) | missing)

    none = jnp.full((most, n), jnp.inf, start.dtype)
    first = jnp.asarray(0), jnp.broadcast_to(start, (most, n, start.size)), none
    _, z, values = jax.lax.while_loop(more, further, first)
    z, values = z.reshape(-1, start.size), values.ravel()
    at = jnp.argmin(values)
    return z[at], Ends(z, ~jnp.isfinite(values) | (jnp.arange(values.size) == at))
