r"""Where the profile of one norm goes: by Newton steps from the minimum, all conditions at once.

A limit of a norm :math:`x_c` is where the statistic, minimal in all other parameters, has risen by
a given amount (Venzon & Moolgavkar 1988, Appl. Stat. 37, 87). Instead of a search for it with a
minimisation for each trial, this condition is solved together with those of the minimum: each step
goes along the tangent of the profile, :math:`t = -H_{oo}^{-1} H_{oc}`, as far as the parabola with
the profile's curvature :math:`H_{cc} + H_{co} t` rises, and corrects the others. The first step
starts at the best fit, and some five do. Slacks and dual variables are those of `interior_point`;
where the model is linear, a point that fulfils all conditions is the only one, however it was
found. Where the steps do not get there, the caller searches.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import (
    PerConstraint,
    counts,
    each,
    longest_step,
    sizes,
    targets,
    total,
    used,
)
from jaxprof.inference.interior_point import APART
from jaxprof.inference.newton_step import (
    Point,
    Step,
    curvature_of,
    direction,
    eliminated,
    put_onto_bounds,
    residuals_of,
)
from jaxprof.inference.start import units
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier, bin_differences, predictions
from jaxprof.likelihood.statistics import wstat_rates
from jaxprof.solvers.linear import factor_solve, scaled_factor, settings

STEPS = 25
"""Most steps; where the active constraints stay the same, 4 to 6 do."""
WIDE = 1e-4
"""The first width of the barrier, which lets constraints become active."""
NARROWER = 1e-3
"""Its factor from step to step."""
CHANGE = 1e-12
"""What the last step may change in the statistic, in double precision: that is a millionth of a
standard deviation, and the next step would be about the square of it."""


class Value(NamedTuple):
    """A parameter is to have a value, shape () each."""

    parameter: jax.Array
    value: jax.Array


class Rise(NamedTuple):
    """A parameter goes down (side -1) or up (+1) until the statistic has risen so far."""

    parameter: jax.Array
    side: jax.Array
    rise: jax.Array


class _State(NamedTuple):
    point: Point
    free: jax.Array
    active: PerConstraint
    iteration: jax.Array
    done: jax.Array
    failed: jax.Array


def _constraints(
    data: JointData, z: jax.Array, free: jax.Array, parameter: jax.Array
) -> PerConstraint:
    """Constraints of the others that vary, at predictions that they or the norm reach."""
    none = tuple(jnp.zeros_like(block.offset) for block in data.blocks)
    _, reached = put_onto_bounds(data, z, jnp.zeros_like(z), none, free.at[parameter].set(True))
    return used(data, free)._replace(on=reached.on)


def _first(
    data: JointData, z: jax.Array, size: PerConstraint, active: PerConstraint, width: jax.Array
) -> Point:
    """The best fit with slacks that are its predictions."""
    last = jnp.asarray(settings(z.dtype).width, z.dtype)
    ons, offs = [], []
    for number, (block, npred) in enumerate(zip(data.blocks, predictions(data, z), strict=True)):
        off = None
        if isinstance(block, JointOnOffBlock):
            off = wstat_rates(block.n_on, block.n_off, block.alpha, npred)[0]
            off = jnp.maximum(off, last * size.off[number])
            npred = npred + block.alpha * off
        ons.append(jnp.maximum(npred, 1e-3 * last * size.on[number]))
        offs.append(off)
    slacks = PerConstraint(tuple(ons), tuple(offs), z - data.lower, data.upper - z)
    # Predictions that nothing changes keep theirs.
    every = active._replace(on=tuple(block.mask for block in data.blocks))
    slacks = each(lambda u, t: jnp.where(u, t, 1.0), every, slacks)
    duals = each(lambda c, t: c / t, targets(counts(data), size, width, last), slacks)
    return Point(z, slacks, duals, residuals_of(data, z, slacks))


def _half_rise(data: JointData, point: Point, known: Point) -> jax.Array:
    """Half of the rise of the statistic of the slacks from those of a known point."""
    best, expected = known.z, known.slacks
    step = point.z - best
    found = 0.5 * step @ data.precision @ (point.z + best - 2 * data.penalty_start)
    for number, block in enumerate(data.blocks):
        at, at0 = point.slacks.on[number], expected.on[number]
        if isinstance(block, JointOnOffBlock):
            at = at - block.alpha * point.slacks.off[number]
            at0 = at0 - block.alpha * expected.off[number]
        found += 0.5 * jnp.sum(bin_differences(block, at, at0))
    return found


def along(
    missing: jax.Array, slope: jax.Array, bend: jax.Array, side: float | jax.Array
) -> jax.Array:
    """How far a parabola with this slope and curvature has risen by what is missing."""
    square = slope**2 + 2.0 * bend * missing
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    # Above, a parabola that does not come down so far is too curved.
    return jnp.where(square > 0, (side * root - slope) / bend, missing / slope)


def _half_rise_after(data: JointData, point: Point, known: Point, corrected: Step) -> jax.Array:
    """Half of the rise after a correction that closes the primal residuals."""
    closing = sum(
        jnp.sum(jnp.where(block.mask, (1.0 - dual) * residual, 0.0))
        for block, dual, residual in zip(data.blocks, point.duals.on, point.residuals, strict=True)
    )
    return _half_rise(data, point, known) + closing - 0.5 * corrected.decrement


def follow(
    data: JointData, start: jax.Array, free: jax.Array, barrier: Barrier, goal: Value | Rise
) -> tuple[jax.Array, jax.Array]:
    """All parameters where one has got to, the others being profiled.

    Parameters
    ----------
    data : JointData
        The problem, with a mask for what its norms can reach.
    start : array, shape (Z,)
        The minimum; for a value also one with another value held.
    free : array of bool, shape (Z,)
        Parameters that vary.
    barrier : Barrier
        The final barrier.
    goal : Value or Rise
        Where to.

    Returns
    -------
    z : array, shape (Z,)
        Parameters; without derivatives.
    found : array of bool, shape ()
        Whether all conditions are met; otherwise they mean nothing.
    """
    numbers = settings(start.dtype)
    last = jnp.asarray(barrier.width, start.dtype)
    observed, size, unit = counts(data), sizes(data, barrier), units(data)
    at = goal.parameter
    bounded = free & ((start <= data.lower) | (start >= data.upper))
    others = (free & ~bounded).at[at].set(False)
    active = _constraints(data, start, others, at)
    begin = _first(data, start, size, active, jnp.asarray(WIDE, start.dtype))
    counted = total(each(lambda n, u: jnp.where(u, n, 0.0), observed, active))
    smallest = jnp.maximum(numbers.tolerance * start.size, CHANGE)
    smallest += 2 * jnp.finfo(start.dtype).eps * counted
    most_apart = 5 * last + 50 * jnp.finfo(start.dtype).eps * counted

    def body(state: _State) -> _State:
        point, others, active = state.point, state.free, state.active
        slacks, duals = point.slacks, point.duals
        width = jnp.maximum(last, WIDE * NARROWER ** state.iteration.astype(start.dtype))
        target = targets(observed, size, width, last)
        ratios = each(lambda u, f, t: jnp.where(u, f / t, 0.0), active, duals, slacks)
        local = eliminated(data, point, target, ratios)
        matrix = curvature_of(data, point, ratios, local, others)
        factor = scaled_factor(matrix, others)
        column = jnp.where(others, matrix[:, at], 0.0)
        tangent = jnp.where(others, -factor_solve(factor, column), 0.0)
        bend = matrix[at, at] + column @ tangent
        corrected = direction(data, point, ratios, target, factor, others, active)
        if isinstance(goal, Rise):
            half = _half_rise_after(data, point, begin, corrected)
            slope = corrected.slope[at] + column @ corrected.z
            length = along(0.5 * goal.rise - half, slope, bend, goal.side)
        else:
            length = goal.value - point.z[at]
        tangent = tangent.at[at].set(1.0)
        step = direction(
            data, point, ratios, target, factor, others, active, corrected.z + length * tangent
        )
        part = longest_step(slacks, step.slacks)
        of_duals = longest_step(duals, step.duals)
        new_z = point.z + part * step.z
        new_slacks = each(lambda t, d: t + part * d, slacks, step.slacks)
        new_duals = each(
            lambda f, d, c, t: jnp.clip(f + of_duals * d, c / t / APART, c / t * APART),
            *(duals, step.duals, target, new_slacks),
        )
        change = corrected.decrement + bend * length**2
        # Steps are also short where dual variables are far too large: all must be what they are to.
        apart = each(
            lambda u, f, t, c: jnp.where(u, jnp.abs(f * t - c), 0.0),
            *(active, new_duals, new_slacks, target),
        )
        done = (width <= last) & (part >= 1.0) & (change <= smallest) & (total(apart) <= most_apart)
        low, high = (
            done & constraint & (dual * unit**2 > slack)
            for constraint, dual, slack in (
                (active.low, new_duals.low, new_slacks.low),
                (active.high, new_duals.high, new_slacks.high),
            )
        )
        arriving = low | high
        on_bound = jnp.where(low, data.lower, jnp.where(high, data.upper, new_z))
        others = others & ~arriving
        active = jax.tree.map(
            lambda a, b: jnp.where(jnp.any(arriving), a, b),
            _constraints(data, on_bound, others, at),
            active,
        )
        new = Point(on_bound, new_slacks, new_duals, residuals_of(data, on_bound, new_slacks))
        # Bounds hold what would go on beyond them only.
        released = jnp.where(new.z <= data.lower, corrected.slope < 0, corrected.slope > 0)
        released = jnp.any(free.at[at].set(False) & ~others & ~arriving & released)
        failed = ~jnp.all(jnp.isfinite(new.z)) | (done & released) | ~(bend > 0)
        return _State(
            new, others, active, state.iteration + 1, done & ~jnp.any(arriving) & ~failed, failed
        )

    state = _State(begin, others, active, jnp.asarray(0), jnp.asarray(False), jnp.asarray(False))
    state = jax.lax.while_loop(lambda s: ~s.done & ~s.failed & (s.iteration < STEPS), body, state)
    return state.point.z, state.done
