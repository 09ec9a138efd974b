r"""The minimum of a joint fit, by a primal-dual interior-point method.

A prediction :math:`\mu` must not be negative, also where there are no counts: otherwise overlapping
components could cancel each other there at no cost and pile up where the counts are. The method
(Wright 1997, Primal-Dual Interior-Point Methods; Waechter & Biegler 2006, Math. Program. 106, 25)
gives each counts bin a slack :math:`t` and a dual variable :math:`\lambda` and solves

.. math:: \sum_s (1 - \lambda_s) \nabla\mu_s + P (z - z_0) = 0, \quad
          \mu_s(z) = t_s, \quad \lambda_s t_s = c_s

by Newton steps that keep slacks and dual variables positive. Here :math:`c_s` are the counts or,
where there are fewer, :math:`\varepsilon` times the size of the prediction; :math:`\varepsilon`
ends far below everything that matters. Since slacks need to be the predictions in the end only, the
steps pass through constraints, linear or not. Bounds of parameters are constraints too; a parameter
that comes to rest at one is put onto it. An On-Off counts bin has a second slack, the rate
:math:`b` of its background, and :math:`\mu = s + \alpha b`: this rate is eliminated counts bin by
counts bin.

Own code: the usual libraries in JAX have no interior-point method.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import (
    KEPT,
    counts,
    few_counts,
    in_statistic,
    joined,
    longest_step,
    sizes,
    slacks_at,
    targets,
    used,
)
from jaxprof.inference.newton_step import (
    Point,
    Step,
    System,
    arrivals,
    direction,
    is_linear,
    moved_duals,
    put_onto_bounds,
    residuals_of,
    system_at,
)
from jaxprof.inference.start import units
from jaxprof.likelihood.joint_data import JointData
from jaxprof.likelihood.joint_model import Barrier
from jaxprof.solvers.linear import settings, sure_factor

STEPS = 200
"""Most steps. Usually 5 to 10 do, 10 to 60 for models that are not linear."""
WIDE = 0.1
"""The first width of the barrier."""
NEAR = 0.03
"""The lowest slacks to begin with, in units of the size of a prediction."""
MARGIN = 0.1
"""Distance from a bound to begin with: counts for norms, units for other parameters."""
GAIN = 0.01
"""The barrier's part in the statistic does not fall below this part of what a step gains."""
ARRIVING = 0.3
"""Part of the last step that must have been possible for the barrier to become narrower."""
SETTLED = 0.1
"""By how much of itself a slack may still change when rounding ends the search."""
CREEPS = 10
"""After how many steps that creep parameters that are almost the same are given up."""
HALVINGS = 30
"""Shortest step: two to minus this power."""


class _Problem(NamedTuple):
    """What stays the same from step to step."""

    data: JointData
    counts: jax.Array  # of each constraint (L,)
    sizes: jax.Array  # of the slacks (L,)
    counted: jax.Array  # counts in all
    unit: jax.Array  # of the parameters (Z,)
    last: jax.Array  # the final width of the barrier

    def targets(self, width: jax.Array) -> jax.Array:
        """What slack times dual variable is to be with a barrier of this width."""
        return targets(self.counts, self.sizes, width, self.last)


class _State(NamedTuple):
    point: Point
    width: jax.Array
    decrement: jax.Array
    part: jax.Array  # of the last step that was possible
    iteration: jax.Array
    inside: jax.Array  # the last parameters with positive predictions
    free: jax.Array  # parameters that vary and have not become active at a bound
    active: jax.Array  # constraints in the way of these
    creeping: jax.Array  # steps in a row that gained about as much as those before
    ridge: jax.Array  # in units of what rounding asks for
    done: jax.Array


class _Trial(NamedTuple):
    """A trial of the line search: the part of the step, and where that ends."""

    part: jax.Array
    halvings: jax.Array
    point: Point
    good: jax.Array


def _first_state(problem: _Problem, start: jax.Array, free: jax.Array, inside: jax.Array) -> _State:
    """The start with slacks well inside, and with dual variables that fit them."""
    data, last = problem.data, problem.last
    width, one = jnp.asarray(WIDE, start.dtype), jnp.ones_like(last)
    constraints = used(data, free)
    both = constraints.low & constraints.high
    room = jnp.where(both, 0.25 * (data.upper - data.lower), jnp.inf)
    margin = jnp.minimum(MARGIN * problem.unit, room)
    low = jnp.where(constraints.low, data.lower + margin, -jnp.inf)
    high = jnp.where(constraints.high, data.upper - margin, jnp.inf)
    z, active = jnp.clip(start, low, high), joined(constraints)
    slacks = slacks_at(data, z, NEAR * problem.sizes, active)
    duals = problem.targets(width) / slacks
    return _State(
        point=Point(z, slacks, duals, residuals_of(data, z, slacks)),
        width=width,
        decrement=jnp.inf * one,
        part=one,
        iteration=jnp.asarray(0),
        inside=inside,
        free=free,
        active=active,
        creeping=jnp.asarray(0),
        ridge=one,
        done=jnp.asarray(False),
    )


def _narrower(problem: _Problem, state: _State, predictor: Step) -> jax.Array:
    """Width of the barrier after the step that would be taken without one (Mehrotra 1992).

    The closer that comes, the narrower; but not much before the parameters have arrived.
    """
    slacks, duals = state.point.slacks, state.point.duals
    few = state.active & few_counts(problem.counts, problem.sizes, state.width, problem.last)
    in_use = jnp.sum(jnp.where(few, problem.sizes, 0.0))
    in_use = jnp.where(in_use > 0, in_use, 1.0)
    then = (slacks + longest_step(slacks, predictor.slacks) * predictor.slacks) * (
        duals + longest_step(duals, predictor.duals) * predictor.duals
    )
    now = jnp.sum(jnp.where(few, slacks * duals, 0.0)) / in_use
    then = jnp.sum(jnp.where(few, then, 0.0)) / in_use
    ratio = jnp.clip(then / jnp.where(now > 0, now, 1.0), 0.0, 1.0)
    least = jnp.where(state.creeping >= CREEPS, 0.0, GAIN * predictor.decrement / in_use)
    width = jnp.clip(jnp.maximum(ratio**3 * now, least), problem.last, state.width)
    return jnp.where(state.part < ARRIVING, state.width, width)


def _predictor_corrector(
    problem: _Problem, state: _State, system: System
) -> tuple[Step, jax.Array]:
    """The step with the barrier that a step without one suggests, and the width of that."""
    data, point = problem.data, state.point

    def passed(number: jax.Array, carry: tuple[Step, jax.Array]) -> tuple[Step, jax.Array]:
        predicting, width = number == 0, carry[1]
        aimed = jnp.where(predicting, 0.0, width)
        step = direction(data, system, problem.targets(aimed))
        return step, jnp.where(predicting, _narrower(problem, state, step), width)

    zero = Step(*(jnp.zeros_like(each) for each in (*point[:3], state.width, point.z)))
    # A loop, so that the direction is compiled once.
    return jax.lax.fori_loop(0, 2, passed, (zero, state.width))


def _merit(
    problem: _Problem, point: Point, active: jax.Array, target: jax.Array, weights: jax.Array
) -> jax.Array:
    """Half the statistic of the slacks behind the barrier, and how far they are from predictions.

    The weights of what they miss are above the dual variables, so that the minimum is that of the
    problem.
    """
    data, (z, slacks, _, residuals) = problem.data, point
    shift = z - data.penalty_start
    expected = slacks + residuals + weights * jnp.abs(residuals)
    logs = jnp.where(active, target * jnp.log(slacks), 0.0)
    found = jnp.where(in_statistic(data), expected, 0.0) - logs
    return 0.5 * shift @ data.precision @ shift + jnp.sum(found)


def _line_search(problem: _Problem, system: System, step: Step, target: jax.Array) -> _Trial:
    """The longest part of a step, halved as often as needed, that does not raise the merit."""
    data, point, active = problem.data, system.point, system.active
    z, slacks, duals, residuals = point
    of_duals = longest_step(duals, step.duals)
    weights = 2.0 * jnp.maximum(duals, duals + of_duals * step.duals)
    value = _merit(problem, point, active, target, weights)
    # What rounding is relative to: a strong penalty is a small difference of large terms, and
    # those of the statistic are as large as the counts.
    shift = jnp.abs(z - data.penalty_start)
    rounding = 1.0 + jnp.abs(value) + shift @ jnp.abs(data.precision) @ shift + problem.counted
    highest = value + 200 * jnp.finfo(z.dtype).eps * rounding

    def at(of_z: jax.Array, of_slacks: jax.Array) -> tuple[Point, jax.Array]:
        new_z, new_slacks = z + of_z, slacks + of_slacks
        new = Point(new_z, new_slacks, duals, residuals_of(data, new_z, new_slacks))
        return new, _merit(problem, new, active, target, weights) <= highest

    def corrected(part: jax.Array, new: Point) -> tuple[Point, jax.Array]:
        """A trial without what it missed because the model is not linear (to second order)."""
        missed = point._replace(residuals=new.residuals + part * residuals)
        again = direction(data, system._replace(point=missed), target)
        of_slacks = part * step.slacks + again.slacks - step.slacks
        new, good = at(part * step.z + again.z - step.z, of_slacks)
        return new, (jnp.min((1.0 - KEPT) * slacks + of_slacks) > 0) & good

    def shorter(trial: _Trial) -> _Trial:
        part = jnp.where(trial.halvings < 0, trial.part, 0.5 * trial.part)
        new, good = at(part * step.z, part * step.slacks)
        if not is_linear(data):
            other, better = corrected(part, new)
            new = jax.tree.map(lambda a, b: jnp.where(better & ~good, a, b), other, new)
            good = good | better
        return _Trial(part, trial.halvings + 1, new, good)

    first = _Trial(longest_step(slacks, step.slacks), jnp.asarray(-1), point, jnp.asarray(False))
    found = jax.lax.while_loop(lambda t: ~t.good & (t.halvings < HALVINGS), shorter, first)
    moved = moved_duals(duals, of_duals * step.duals, target, found.point.slacks)
    return found._replace(point=found.point._replace(duals=moved))


def _is_small(state: _State, step: Step) -> jax.Array:
    """Whether a step is the last one, as far as its decrement tells.

    Where parameters can make up for each other, rounding keeps the decrement from falling on; next
    to a constraint it proves nothing unless the distance stays about what it is.
    """
    numbers = settings(step.z.dtype)
    stuck = (step.decrement <= numbers.stuck) & (step.decrement >= 0.1 * state.decrement)
    stuck = stuck & (jnp.max(jnp.abs(step.slacks) / state.point.slacks) <= SETTLED)
    return (step.decrement <= numbers.tolerance * step.z.size) | stuck


def _held_harder(
    data: JointData, state: _State, system: System, step: Step
) -> tuple[jax.Array, jax.Array]:
    """How many steps in a row have crept, and the ridge of the next one.

    Of parameters that almost nothing tells apart, rounding leaves steps that creep: they are held
    ever more.
    """
    numbers = settings(step.z.dtype)
    if not is_linear(data):
        return state.creeping, state.ridge
    pivots = jnp.where(state.free, jnp.diagonal(system.factor[0]), 1.0)
    alike = (jnp.min(pivots) ** 2 < numbers.alike) | (state.ridge > 1.0)
    alike = alike & (step.decrement >= 0.1 * state.decrement)
    creeping = jnp.where(alike, state.creeping + 1, 0)
    harder = (creeping >= CREEPS) & (step.decrement > numbers.creeping)
    held = jnp.minimum(5.0 * state.ridge, numbers.hardest)
    return creeping, jnp.where(harder, held, state.ridge)


def _next_state(problem: _Problem, state: _State) -> _State:
    """The state after one Newton step."""
    data = problem.data
    system = system_at(
        data, state.point, state.free, state.active, partial(sure_factor, times=state.ridge)
    )
    step, width = _predictor_corrector(problem, state, system)
    trial = _line_search(problem, system, step, problem.targets(width))
    point = trial.point
    creeping, ridge = _held_harder(data, state, system, step)
    given_up = (creeping >= CREEPS) & (step.decrement <= settings(step.z.dtype).creeping)
    arrived = (trial.part >= 1.0) & _is_small(state, step)
    done = (width <= problem.last) & (arrived | given_up)
    # Parameters that become active at a bound are put there; the others get a last step.
    arriving, on_bound = arrivals(data, point, state.active, problem.unit, done)
    free = state.free & ~arriving
    residuals, active = jax.lax.cond(
        jnp.any(arriving),
        lambda: put_onto_bounds(data, point, on_bound, free),
        lambda: (point.residuals, state.active),
    )
    positive = jnp.all(point.slacks + point.residuals >= 0)
    return _State(
        point=point._replace(z=on_bound, residuals=residuals),
        width=width,
        decrement=step.decrement,
        part=trial.part,
        iteration=state.iteration + 1,
        inside=jnp.where(positive, on_bound, state.inside),
        free=free,
        active=active,
        creeping=creeping,
        ridge=ridge,
        done=done & ~jnp.any(arriving),
    )


def minimise(
    data: JointData,
    start: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    inside: jax.Array,
    most: int | jax.Array = STEPS,
) -> tuple[jax.Array, jax.Array]:
    """Minimum of the statistic and penalty over the free parameters.

    Parameters
    ----------
    data : JointData
        The problem.
    start : array, shape (Z,)
        First point. The parameters that are not free keep its values.
    free : array of bool, shape (Z,)
        Parameters to vary.
    barrier : Barrier
        The final barrier.
    inside : array, shape (Z,)
        A point with positive predictions and the same values of the parameters that are not free,
        for the case that no better one is found.
    most : int
        Largest number of steps.

    Returns
    -------
    z : array, shape (Z,)
        The minimiser; it carries no derivatives.
    converged : array of bool, shape ()
        Whether the last step was below the tolerance. Otherwise ``z`` is the last point on the way
        with positive predictions.
    """
    observed = counts(data)
    problem = _Problem(
        data=data,
        counts=observed,
        sizes=sizes(data, barrier),
        counted=jnp.sum(jnp.where(joined(used(data, free)), observed, 0.0)),
        unit=units(data),
        last=barrier.width,
    )
    state = jax.lax.while_loop(
        lambda state: ~state.done & (state.iteration < most),
        lambda state: _next_state(problem, state),
        _first_state(problem, start, free, inside),
    )
    return jnp.where(state.done, state.point.z, state.inside), state.done
