r"""The minimum of a joint fit: damped Newton steps behind a barrier.

The statistic is convex in the norms. A prediction must not be negative, also where there are no
counts: otherwise overlapping components could cancel each other there at no cost and
pile up where the counts are. So slots without counts have a logarithmic barrier,
:math:`-2 \varepsilon \ln \mu` (Boyd & Vandenberghe 2004, Convex Optimization, section 11.3), as
if they had :math:`\varepsilon` counts. Its final size is far below everything that matters: minima
inside do not feel it. A first attempt takes it at once; where the minimum sits on the boundary this
fails, and the barrier shrinks in steps from the size of the prediction itself. The first Newton
step of a level has the curvature of the one before: it follows the path of the minima, on which the
distance from a wall shrinks as the barrier does, while a step with the new curvature would halve it
at best.

Own code and not jaxopt's: none of its solvers takes exact Newton steps in many variables.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .joint_data import JointBlock, JointData, JointOnOffBlock
from .joint_model import (
    Barrier,
    Curvature,
    barrier_scales,
    derivatives,
    gradient,
    objective,
    summed_signals,
)

SHRINK = 0.03
"""Ratio of the widths of successive levels."""
ATTEMPT = 12
"""Steps of the first attempt."""
SHORT, BLOCKED = 0.1, 2
"""So many steps of the first attempt below this part of a whole one: there are walls in its way."""
CRAWLING = 40
"""So many steps at the last levels: along a bent wall they crawl; an earlier level has to do."""
PATIENCE = 160
"""Steps of everything that follows."""
REACH = 1.0
"""Longest step of spectral parameters and of the background's norm and tilt."""
HALVINGS = 40
"""Shortest step: two to minus this power."""


class _Settings(NamedTuple):
    levels: int  # the last one has the final width
    first: int  # where a second attempt begins
    enough: int  # level that will do where the last one cannot be reached
    tolerance: float  # of the squared Newton decrement, for each parameter
    stuck: float  # squared decrement that is small enough if it falls no more
    ridge: float  # added to the curvature matrix scaled to a unit diagonal


def settings(dtype: jnp.dtype) -> _Settings:
    """Numbers that depend on the precision."""
    if jnp.finfo(dtype).bits == 64:
        return _Settings(levels=7, first=2, enough=4, tolerance=1e-16, stuck=1e-9, ridge=1e-12)
    return _Settings(levels=3, first=1, enough=2, tolerance=1e-6, stuck=1e-4, ridge=1e-6)


def barrier_at(data: JointData, z: jax.Array, level: int | jax.Array | None = None) -> Barrier:
    """The barrier, relative to the (positive) prediction at ``z``."""
    level = settings(z.dtype).levels if level is None else level
    return Barrier(jnp.asarray(SHRINK, z.dtype) ** level, barrier_scales(data, z))


def component_signal(data: JointData) -> jax.Array:
    """Counts that each component predicts at coefficient one, over all unmasked slots; (C,)."""
    total = jnp.zeros(data.n_components, data.start.dtype)
    for block in data.blocks:
        sums = jnp.einsum("nkqs,ns->nk", block.templates, block.mask.astype(total.dtype))
        total = total.at[block.components].add(sums)
    return total


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
    bare = JointData(**{**vars(data), "precision": jnp.zeros_like(data.precision)})

    def em(_: int, z: jax.Array) -> jax.Array:
        observed = predicted - gradient(bare, z, barrier)[at]
        ratio = jnp.clip(observed / predicted, 0.03, 1e6)
        return z.at[at].set(jnp.where(free, z[at] * ratio, z[at]))

    return jax.lax.fori_loop(0, 8, em, z)


def _excess(block: JointBlock | JointOnOffBlock) -> jax.Array:
    if isinstance(block, JointOnOffBlock):
        return block.n_on - block.alpha * block.n_off
    return block.counts - block.background - block.offset


def _counts(block: JointBlock | JointOnOffBlock) -> jax.Array:
    return block.n_on + block.n_off if isinstance(block, JointOnOffBlock) else block.counts


def scaled_factor(matrix: jax.Array, active: jax.Array, ridge: float) -> tuple:
    """Cholesky factor of the active part of a curvature matrix, scaled to a unit diagonal."""
    diagonal = jnp.diagonal(matrix)
    scale = jnp.where(active & (diagonal > 0), jnp.sqrt(jnp.abs(diagonal)), 1.0)
    both = active[:, None] & active[None, :]
    scaled = jnp.where(both, matrix / (scale[:, None] * scale[None, :]), 0.0)
    unit = jnp.where(active, ridge, 1.0)
    return jnp.linalg.cholesky(scaled + jnp.diag(unit)), scale


def factor_solve(factor: tuple, right: jax.Array) -> jax.Array:
    """Solve with what `scaled_factor` gave."""
    lower, scale = factor
    half = jax.scipy.linalg.solve_triangular(lower, right / scale, lower=True)
    return jax.scipy.linalg.solve_triangular(lower.T, half, lower=False) / scale


class _State(NamedTuple):
    z: jax.Array
    passed: jax.Array  # where the level before was left
    level: jax.Array
    bend: jax.Array  # level that the curvature belongs to
    decrement: jax.Array
    iteration: jax.Array
    attempt: jax.Array
    blocked: jax.Array  # steps of the first attempt that were short; then those at late levels
    done: jax.Array


def _direction(
    data: JointData,
    z: jax.Array,
    first: jax.Array,
    curvature: Curvature,
    free: jax.Array,
    jump: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Newton step that also takes the held parameters by ``jump``, and its squared decrement."""
    ridge = settings(z.dtype).ridge
    blocked = ((z <= data.lower) & (first > 0)) | ((z >= data.upper) & (first < 0))
    active = free & ~blocked
    linear = data.spectra is None and not data.n_nuisance
    # Parameters that are no norms go one reach a step at most; close to the minimum, where the
    # gradient vanishes, this does not hinder.
    bent = jnp.ones(z.size, bool).at[data.norm_index].set(False)
    hold = jnp.diag(jnp.where(bent, jnp.abs(first) / REACH, 0.0))

    def step(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
        matrix = matrix if linear else matrix + hold
        right = jnp.where(active, -(first + matrix @ jump), 0.0)
        found = factor_solve(scaled_factor(matrix, active, ridge), right)
        found = jnp.where(active, found, 0.0)
        return found, jnp.sum(found * right)

    found, decrement = step(curvature.full)
    if not linear:
        # Away from the minimum the curvature of a model that is not linear may be negative.
        safe, safe_decrement = step(curvature.gauss)
        good = jnp.isfinite(decrement) & (decrement >= 0)
        found = jnp.where(good, found, safe)
        decrement = jnp.where(good, decrement, safe_decrement)
    return found + jump, decrement


def minimise(
    data: JointData,
    start: jax.Array,
    free: jax.Array,
    target: jax.Array,
    barrier: Barrier,
    inner: jax.Array,
    steps: int | jax.Array = ATTEMPT + PATIENCE,
) -> tuple[jax.Array, jax.Array]:
    """Minimum of the statistic and penalty over the free parameters.

    Parameters
    ----------
    data : JointData
        The problem.
    start : array, shape (Z,)
        First point, with a positive prediction in every slot.
    free : array of bool, shape (Z,)
        Parameters to vary.
    target : array, shape (Z,)
        Values that the other parameters are to take. The first attempt leads them there from
        ``start`` (infeasible-start Newton: Boyd & Vandenberghe 2004, Convex Optimization,
        section 10.3).
    barrier : Barrier
        The final barrier.
    inner : array, shape (Z,)
        A point well inside the domain that has these values, where the second attempt starts.
    steps : int
        Largest number of steps.

    Returns
    -------
    z : array, shape (Z,)
        The minimiser; it carries no derivatives.
    converged : array of bool, shape ()
        Whether the last step was below the tolerance. Along a wall that is bent, which those of
        spectral parameters are, Newton steps are short: then the minimum behind a wider
        barrier does: it is above the true one by 3e-5 of what each such slot first predicted.
    """
    numbers = settings(start.dtype)
    last = numbers.levels
    slack = 200 * jnp.finfo(start.dtype).eps
    # The terms of the statistic are as large as the counts, however small their sum is.
    counted = sum(jnp.sum(jnp.where(b.mask, _counts(b), 0.0)) for b in data.blocks)

    def width_of(level: jax.Array) -> jax.Array:
        return barrier.width * jnp.asarray(SHRINK, start.dtype) ** (level - last)

    def body(state: _State) -> _State:
        z, level = state.z, state.level
        at = Barrier(width_of(level), barrier.scales)
        first, curvature = derivatives(data, z, at, width_of(state.bend))
        jump = jnp.where(free, 0.0, target - z)
        moving = jnp.any(jump != 0)
        step, decrement = _direction(data, z, first, curvature, free, jump)
        value = objective(data, z, at)
        slope = jnp.sum(first * step)
        # What rounding is relative to: a strong penalty is a small difference of large terms.
        shift = jnp.abs(z - data.penalty_start)
        size = jnp.abs(value) + shift @ (jnp.abs(data.precision) @ shift) + counted

        def point(t: jax.Array) -> jax.Array:
            new = jnp.clip(z + t * step, data.lower, data.upper)
            # A whole step reaches the targets to the last bit.
            return jnp.where(free, new, jnp.where(t >= 1.0, target, z + t * step))

        def too_long(carry: tuple) -> jax.Array:
            t, halvings = carry
            new = objective(data, point(t), at)
            limit = value + 1e-4 * t * jnp.minimum(slope, 0.0) + slack * (1.0 + size)
            bad = jnp.where(moving, ~jnp.isfinite(new), ~(new <= limit))
            return bad & (halvings < HALVINGS)

        t, _ = jax.lax.while_loop(
            too_long, lambda c: (0.5 * c[0], c[1] + 1), (jnp.ones_like(value), jnp.asarray(0))
        )
        new = point(t)
        new = jnp.where(jnp.all(jnp.isfinite(new)), new, z)
        still = ~moving & (t >= 1.0) & (state.bend == level)
        at_last = level == last
        enough = jnp.where(at_last, numbers.tolerance * start.size, 1e-2)
        # Where parameters can make up for each other, rounding keeps the decrement from falling on.
        stuck = (decrement <= numbers.stuck) & (decrement >= 0.1 * state.decrement)
        small = still & ((decrement <= enough) | (at_last & stuck))
        done = small & at_last
        passed = jnp.where(small & ~at_last, new, state.passed)
        # Where the distance from the walls shrinks as the barrier does, it may shrink faster.
        further = jnp.minimum(level + jnp.where(level > numbers.first, 2, 1), last)
        further = jnp.where(small & ~at_last, further, level)
        # The first attempt at the final width has failed: begin again with a wide one.
        blocked = state.blocked + jnp.where(state.attempt, t < SHORT, level > numbers.enough)
        lost = (state.iteration + 1 >= ATTEMPT) | (blocked >= BLOCKED)
        again = state.attempt & ~done & lost
        return _State(
            z=jnp.where(again, inner, new),
            passed=passed,
            level=jnp.where(again, numbers.first, further),
            bend=jnp.where(again, numbers.first, level),
            decrement=decrement,
            iteration=state.iteration + 1,
            attempt=state.attempt & ~again,
            blocked=jnp.where(again, 0, blocked),
            done=done,
        )

    def goes_on(state: _State) -> jax.Array:
        crawls = ~state.attempt & (state.blocked >= CRAWLING)
        return ~state.done & ~crawls & (state.iteration < steps)

    zero = jnp.asarray(0)
    state = _State(
        z=start,
        passed=start,
        level=jnp.asarray(last),
        bend=jnp.asarray(last),
        decrement=jnp.asarray(jnp.inf, start.dtype),
        iteration=zero,
        attempt=jnp.asarray(True),
        blocked=zero,
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(goes_on, body, state)
    # The first attempt begins at the last level, and has passed none.
    close = ~state.done & ~state.attempt & (state.level > numbers.enough)
    return jnp.where(close, state.passed, state.z), state.done | close
