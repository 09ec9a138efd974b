r"""Where the profile of one norm goes: by Newton steps from the minimum, all conditions at once.

A limit of a norm :math:`x_c` is where the statistic, minimal in all other parameters, has risen by
a given amount (Venzon & Moolgavkar 1988, Appl. Stat. 37, 87). Instead of a search for it with a
minimisation for each trial, this condition is solved together with those of the minimum: each step
goes along the tangent of the profile, :math:`t = -H_{oo}^{-1} H_{oc}`, as far as the parabola with
the profile's curvature :math:`H_{cc} + H_{co} t` rises, and corrects the others. The first step
starts at the best fit, and some five do. Slacks and dual variables are those of `interior_point`;
where the model is linear, a point that fulfils all conditions is the only one, however it was
found. Other models take smaller steps, so that the path stays close to the profile, and the caller
looks for lower points. Where the steps do not get there, the caller searches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.inference.constraints import (
    counts,
    joined,
    longest_step,
    parts,
    sizes,
    slacks_at,
    targets,
    used,
)
from jaxprof.inference.interior import without_spectrum
from jaxprof.inference.interior_point import MARGIN
from jaxprof.inference.newton_step import (
    Point,
    Step,
    System,
    arrivals,
    constraints_of,
    direction,
    is_linear,
    moved_duals,
    of_parameters,
    residuals_of,
    system_at,
)
from jaxprof.inference.start import units
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier, bin_differences, difference
from jaxprof.solvers.linear import factor_solve, scaled_factor, settings

STEPS = 100
"""Most steps. Where the active constraints stay the same, 4 to 6 do, and 40 where many change."""
CHANGE = 1e-12
"""What the last step may change in the statistic, in double precision: that is a millionth of a
standard deviation, and the next step would be about the square of it."""


class _Control(NamedTuple):
    """How careful the steps are."""

    wide: float  # the first width of the barrier, which lets constraints become active
    narrower: float  # its factor from step to step, where these are not short
    arriving: float  # the shortest part of a step that is not short: constraints need a barrier
    settled: float  # what such a step changes in the statistic at most, besides the goal's rise
    astray: float  # what the correction may change where the parameter goes on
    longest: float  # step of the parameter, in units of where a parabola has risen


LINEAR = _Control(1e-4, 1e-3, 0.5, np.inf, np.inf, np.inf)
"""Where the model is linear, the statistic is almost a parabola."""
CURVED = _Control(1e-3, 1e-2, 0.9, 0.1, 1.0, 0.7)
"""Elsewhere a step may lead away: the others come back before the parameter goes on."""


class Goal(NamedTuple):
    """What a parameter is to reach, shape () each.

    A value; or, if that is NaN, it goes down (side -1) or up (+1) until the statistic has risen so
    far. One program serves both.
    """

    parameter: Any
    value: Any
    side: Any
    rise: Any


class _Problem(NamedTuple):
    """What stays the same from step to step."""

    data: JointData
    goal: Goal
    free: jax.Array  # parameters (Z,) that vary
    counts: jax.Array  # of each constraint (L,)
    sizes: jax.Array  # of the slacks (L,)
    unit: jax.Array  # of the parameters (Z,)
    last: jax.Array  # the final width of the barrier
    smallest: jax.Array  # change of the statistic that is none
    apart: jax.Array  # how far slacks times dual variables may be from what they are to be

    @property
    def control(self) -> _Control:
        """How careful steps are."""
        return LINEAR if is_linear(self.data) else CURVED

    def targets(self, width: jax.Array) -> jax.Array:
        """What slack times dual variable is to be with a barrier of this width."""
        return targets(self.counts, self.sizes, width, self.last)


class _State(NamedTuple):
    point: Point
    free: jax.Array  # the others that vary and are not held at a bound
    active: jax.Array  # constraints in the way of these
    width: jax.Array  # of the barrier
    iteration: jax.Array
    done: jax.Array
    failed: jax.Array


class _Ahead(NamedTuple):
    """The profile as seen from a point."""

    correction: Step  # towards it, with the parameter held
    tangent: jax.Array  # of the others (Z,), by the parameter
    curvature: jax.Array  # of the profile
    slope: jax.Array


def _constraints(data: JointData, z: jax.Array, free: jax.Array, parameter: jax.Array) -> jax.Array:
    """Constraints of the others that vary, at predictions that they or the norm reach."""
    reached = constraints_of(data, z, free.at[parameter].set(True))
    return reached & joined(used(data, free))


def _wide(problem: _Problem) -> jax.Array:
    """The first width of the barrier."""
    return jnp.maximum(jnp.asarray(problem.control.wide, problem.unit.dtype), problem.last)


def _first_point(problem: _Problem, z: jax.Array, free: jax.Array) -> Point:
    """The best fit with slacks that are its predictions."""
    data = problem.data
    own = parts(data, problem.last * problem.sizes)
    least = joined(own._replace(on=tuple(1e-3 * on for on in own.on)))
    # Predictions that nothing changes keep theirs.
    slacks = slacks_at(data, z, least, joined(used(data, free)))
    duals = problem.targets(_wide(problem)) / slacks
    return Point(z, slacks, duals, residuals_of(data, z, slacks))


def _half_rise(data: JointData, point: Point, known: Point) -> jax.Array:
    """Half of the rise of the statistic of the slacks from those of a known point."""
    step = point.z - known.z
    found = 0.5 * step @ data.precision @ (point.z + known.z - 2 * data.penalty_start)
    new, old = parts(data, point.slacks), parts(data, known.slacks)
    for number, block in enumerate(data.blocks):
        at, at0 = new.on[number], old.on[number]
        if isinstance(block, JointOnOffBlock):
            at, at0 = at - block.alpha * new.off[number], at0 - block.alpha * old.off[number]
        found += 0.5 * jnp.sum(bin_differences(block, at, at0))
    return found


def _half_rise_after(data: JointData, point: Point, known: Point, corrected: Step) -> jax.Array:
    """Half of the rise after a correction that closes the primal residuals."""
    pairs = parts(data, (1.0 - point.duals) * point.residuals).on
    closing = sum(
        jnp.sum(jnp.where(block.mask, part, 0.0))
        for block, part in zip(data.blocks, pairs, strict=True)
    )
    return _half_rise(data, point, known) + closing - 0.5 * corrected.decrement


def along(
    missing: jax.Array, slope: jax.Array, curvature: jax.Array, side: float | jax.Array
) -> jax.Array:
    """How far a parabola with this slope and curvature has risen by what is missing."""
    square = slope**2 + 2.0 * curvature * missing
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    # Above, a parabola that does not come down so far is too curved.
    return jnp.where(square > 0, (side * root - slope) / curvature, missing / slope)


def _ahead(problem: _Problem, system: System, target: jax.Array) -> _Ahead:
    """Correction of the others, the profile's tangent, its slope and curvature."""
    at, matrix = problem.goal.parameter, system.matrix
    column = jnp.where(system.free, matrix[:, at], 0.0)
    tangent = jnp.where(system.free, -factor_solve(system.factor, column), 0.0)
    correction = direction(problem.data, system, target)
    return _Ahead(
        correction=correction,
        tangent=tangent.at[at].set(1.0),
        curvature=matrix[at, at] + column @ tangent,
        slope=correction.slope[at] + column @ correction.z,
    )


def _length(problem: _Problem, point: Point, ahead: _Ahead, known: Point) -> jax.Array:
    """How far the parameter goes."""
    goal = problem.goal

    def until_risen() -> jax.Array:
        half = _half_rise_after(problem.data, point, known, ahead.correction)
        length = along(0.5 * goal.rise - half, ahead.slope, ahead.curvature, goal.side)
        most = control.longest * jnp.sqrt(jnp.abs(goal.rise) / ahead.curvature)
        return jnp.clip(length, -most, most)

    control = problem.control
    length = jax.lax.cond(
        jnp.isnan(goal.value), until_risen, lambda: goal.value - point.z[goal.parameter]
    )
    return jnp.where(ahead.correction.decrement > control.astray, 0.0, length)


def _at_bounds(problem: _Problem, state: _State, slope: jax.Array) -> _State:
    """A state, which is not done where parameters become active at bounds, or no longer are.

    Bounds hold what would go on beyond them only. Where some are left, all constraints begin again
    with a wide barrier.
    """
    data, at, (point, free, active) = problem.data, problem.goal.parameter, state[:3]
    margin = jnp.minimum(MARGIN * problem.unit, 0.25 * (data.upper - data.lower))
    arriving, z = arrivals(data, point, active, problem.unit, state.done)
    inwards = jnp.where(point.z <= data.lower, slope < 0, slope > 0)
    leaving = state.done & problem.free.at[at].set(False) & ~free & ~arriving & inwards
    free, again = (free & ~arriving) | leaving, jnp.any(leaving)
    changed = jnp.any(arriving) | again
    point = point._replace(z=z, residuals=residuals_of(data, z, point.slacks))
    inside = jnp.clip(z, data.lower + margin, data.upper - margin)
    z = jnp.where(leaving, inside, z)
    point = jax.lax.cond(again, lambda: _first_point(problem, z, free), lambda: point)
    active = jax.lax.cond(changed, lambda: _constraints(data, z, free, at), lambda: active)
    width = jnp.where(again, _wide(problem), state.width)
    done = state.done & ~changed
    return state._replace(point=point, free=free, active=active, width=width, done=done)


def _next_state(problem: _Problem, known: Point, state: _State) -> _State:
    """The state after one Newton step."""
    data, (point, free, active, width) = problem.data, state[:4]
    z = point.z
    target = problem.targets(width)
    system = system_at(data, point, free, active, scaled_factor)
    ahead = _ahead(problem, system, target)
    correction, length = ahead.correction, _length(problem, point, ahead, known)
    moved = length * of_parameters(data, system, ahead.tangent)
    of_slacks, of_duals = correction.slacks + moved, correction.duals - system.ratios * moved
    part = longest_step(point.slacks, of_slacks)
    slacks = point.slacks + part * of_slacks
    duals = moved_duals(point.duals, longest_step(point.duals, of_duals) * of_duals, target, slacks)
    new = point._replace(
        z=z + part * (correction.z + length * ahead.tangent), slacks=slacks, duals=duals
    )
    change = correction.decrement + ahead.curvature * length**2
    # Steps are also short where dual variables are far too large: all must be what they are to.
    apart = jnp.sum(jnp.where(active, jnp.abs(duals * slacks - target), 0.0))
    done = (width <= problem.last) & (part >= 1.0)
    done = done & (change <= problem.smallest) & (apart <= problem.apart)
    control = problem.control
    settled = (part >= control.arriving) & (change <= control.settled)
    narrower = jnp.where(settled, jnp.maximum(problem.last, control.narrower * width), width)
    lost = ~(ahead.curvature > 0) & ~(correction.decrement > control.astray)
    failed = ~jnp.all(jnp.isfinite(new.z)) | lost
    new = jax.tree.map(lambda old, own: jnp.where(failed, old, own), point, new)
    number, done = state.iteration + 1, done & ~failed
    new_state = _State(new, free, active, narrower, number, done, failed)
    return _at_bounds(problem, new_state, correction.slope)


def follow(
    data: JointData, start: jax.Array, free: jax.Array, barrier: Barrier, goal: Goal
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
    goal : Goal
        Where to.

    Returns
    -------
    z : array, shape (Z,)
        Parameters; without derivatives.
    found : array of bool, shape ()
        Whether all conditions are met; otherwise the parameters are where the last step ended.
    """
    _, free = without_spectrum(data, free, goal.parameter, goal.value)
    others = free & (start > data.lower) & (start < data.upper)
    others = others.at[goal.parameter].set(False)
    active = _constraints(data, start, others, goal.parameter)
    observed = counts(data)
    eps = jnp.finfo(start.dtype).eps * jnp.sum(jnp.where(active, observed, 0.0))
    problem = _Problem(
        data=data,
        goal=goal,
        free=free,
        counts=observed,
        sizes=sizes(data, barrier),
        unit=units(data),
        last=barrier.width,
        smallest=jnp.maximum(settings(start.dtype).tolerance * start.size, CHANGE) + 2 * eps,
        apart=5 * barrier.width + 50 * eps,
    )
    known = _first_point(problem, start, others)
    no, wide = jnp.asarray(False), _wide(problem)
    state = jax.lax.while_loop(
        lambda state: ~state.done & ~state.failed & (state.iteration < STEPS),
        lambda state: _next_state(problem, known, state),
        _State(known, others, active, wide, jnp.asarray(0), no, no),
    )
    return state.point.z, state.done


class FittedProblem(NamedTuple):
    """What profiles are followed from."""

    problem: JointData  # with a mask for what its norms can reach
    best: jax.Array  # its minimum
    free: jax.Array  # parameters that vary
    barrier: Barrier


@jit_by_size
def _follow_column(
    fitted: FittedProblem, goals: Goal, number: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the first of goals (M,) are met, (M, Z), rises of the statistic, whether they are."""
    problem, best, free, barrier = jax.tree.map(jax.lax.stop_gradient, fitted)

    def one(k: jax.Array, found: tuple) -> tuple:
        z, met = follow(problem, best, free, barrier, jax.tree.map(lambda own: own[k], goals))
        new = z, difference(problem, z, best), met
        return jax.tree.map(lambda every, own: every.at[k].set(own), found, new)

    rises = jnp.zeros_like(goals.rise)
    none = jnp.zeros((len(rises), best.size), best.dtype), rises, jnp.zeros(rises.shape, bool)
    return jax.lax.fori_loop(0, number, one, none)


def _column(fitted: FittedProblem, goals: Goal) -> tuple[Any, Any, Any]:
    """What `_follow_column` gives, outside of compiled code.

    By one program for up to as many goals as there are components.
    """
    number = len(goals.rise)
    size = max(number, fitted.problem.n_components)
    padded = Goal(*(np.resize(part, size) for part in goals))
    found = _follow_column(fitted, padded, np.asarray(number))
    return jax.tree.map(lambda part: np.asarray(part)[:number], found)


def follow_one(fitted: FittedProblem, goal: Goal) -> tuple[Any, bool]:
    """What `follow` gives for a goal, outside of compiled code."""
    z, _, found = _column(fitted, Goal(*(np.reshape(part, 1) for part in goal)))
    return z[0], bool(found[0])


def follow_all(fitted: FittedProblem, goals: Goal) -> tuple[Any, Any, Any]:
    """Where several goals of each of several parameters are met.

    Parameters
    ----------
    fitted : FittedProblem
        The fitted problem.
    goals : Goal
        Arrays (L, M): L goals of M parameters.

    Returns
    -------
    z : array, shape (L, M, Z)
        As of `follow`.
    rises : array, shape (L, M)
        Rises of the statistic.
    found : array of bool, shape (L, M)
        As of `follow`.
    """
    goals = jax.tree.map(jax.lax.stop_gradient, goals)
    if is_traced((fitted, goals)):
        number = goals.rise.shape[1]
        return jax.lax.map(lambda column: _follow_column(fitted, column, number), goals)
    # Column by column: whatever is asked for takes the same compiled program.
    columns = [_column(fitted, Goal(*column)) for column in zip(*goals, strict=True)]
    z, rises, found = (np.stack(part) for part in zip(*columns, strict=True))
    return z, rises, found
