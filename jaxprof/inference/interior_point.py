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

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import (
    KEPT,
    PerConstraint,
    counts,
    each,
    few_counts,
    largest,
    longest_step,
    sizes,
    smallest,
    targets,
    total,
    used,
)
from jaxprof.inference.newton_step import (
    Point,
    Step,
    curvature_of,
    direction,
    eliminated,
    is_linear,
    put_onto_bounds,
    residuals_of,
)
from jaxprof.inference.start import units
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import Barrier, predictions
from jaxprof.likelihood.statistics import wstat_rates
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
APART = 1e10
"""How far slack times dual variable may be from what it is to be."""
SETTLED = 0.1
"""By how much of itself a slack may still change when rounding ends the search."""
CREEPS = 10
"""After how many steps that creep parameters that are almost the same are given up."""
HALVINGS = 30
"""Shortest step: two to minus this power."""


class _State(NamedTuple):
    point: Point
    width: jax.Array
    decrement: jax.Array
    part: jax.Array  # of the last step that was possible
    iteration: jax.Array
    inside: jax.Array  # the last parameters with positive predictions
    free: jax.Array  # parameters that vary and have not become active at a bound
    active: PerConstraint  # what is in the way of these
    creeping: jax.Array  # steps in a row that gained about as much as those before
    ridge: jax.Array  # in units of what rounding asks for
    done: jax.Array


def _first_point(
    data: JointData,
    start: jax.Array,
    unit: jax.Array,
    size: PerConstraint,
    active: PerConstraint,
    target: PerConstraint,
) -> Point:
    """The start with slacks well inside, and with dual variables that fit them."""
    both = active.low & active.high
    room = jnp.where(both, 0.25 * (data.upper - data.lower), jnp.inf)
    margin = jnp.minimum(MARGIN * unit, room)
    low = jnp.where(active.low, data.lower + margin, -jnp.inf)
    high = jnp.where(active.high, data.upper - margin, jnp.inf)
    z = jnp.clip(start, low, high)
    ons, offs = [], []
    for number, (block, npred) in enumerate(zip(data.blocks, predictions(data, z), strict=True)):
        off = None
        if isinstance(block, JointOnOffBlock):
            off = wstat_rates(block.n_on, block.n_off, block.alpha, npred)[0]
            off = jnp.maximum(off, NEAR * size.off[number])
            npred = npred + block.alpha * off
        ons.append(jnp.maximum(npred, NEAR * size.on[number]))
        offs.append(off)
    slacks = PerConstraint(tuple(ons), tuple(offs), z - data.lower, data.upper - z)
    slacks = each(lambda u, t: jnp.where(u, t, 1.0), active, slacks)
    duals = each(lambda c, t: c / t, target, slacks)
    return Point(z, slacks, duals, residuals_of(data, z, slacks))


def _merit(
    data: JointData,
    point: Point,
    active: PerConstraint,
    target: PerConstraint,
    weights: PerConstraint,
) -> jax.Array:
    """Half the statistic of the slacks behind the barrier, and how far they are from predictions.

    The weights of what they miss are above the dual variables, so that the minimum is that of the
    problem.
    """
    shift = point.z - data.penalty_start
    found = 0.5 * shift @ data.precision @ shift
    for number, block in enumerate(data.blocks):
        missed = weights.on[number] * jnp.abs(point.residuals[number])
        expected = point.slacks.on[number] + point.residuals[number]
        if isinstance(block, JointOnOffBlock):
            expected = expected + point.slacks.off[number]
        found += jnp.sum(jnp.where(block.mask, expected + missed, 0.0))
    logs = each(lambda u, c, t: jnp.where(u, c * jnp.log(t), 0.0), active, target, point.slacks)
    return found - total(logs)


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
    numbers = settings(start.dtype)
    last = barrier.width
    observed, size, unit = counts(data), sizes(data, barrier), units(data)
    counted = total(each(lambda n, u: jnp.where(u, n, 0.0), observed, used(data, free)))
    last_digits = 200 * jnp.finfo(start.dtype).eps

    def narrower(
        point: Point, width: jax.Array, step: Step, active: PerConstraint, given_up: jax.Array
    ) -> jax.Array:
        """Width of the barrier after the step that would be taken without one (Mehrotra 1992).

        The closer that comes, the narrower; but not much before the parameters have arrived.
        """
        few = each(jnp.logical_and, active, few_counts(observed, size, width, last))
        in_use = total(each(lambda w, s: jnp.where(w, s, 0.0), few, size))

        def mean(slacks: PerConstraint, duals: PerConstraint) -> jax.Array:
            products = each(lambda w, t, f: jnp.where(w, t * f, 0.0), few, slacks, duals)
            return total(products) / jnp.where(in_use > 0, in_use, 1.0)

        part = longest_step(point.slacks, step.slacks)
        of_duals = longest_step(point.duals, step.duals)
        now = mean(point.slacks, point.duals)
        then = mean(
            each(lambda t, d: t + part * d, point.slacks, step.slacks),
            each(lambda f, d: f + of_duals * d, point.duals, step.duals),
        )
        ratio = jnp.clip(then / jnp.where(now > 0, now, 1.0), 0.0, 1.0)
        least = GAIN * step.decrement / jnp.where(in_use > 0, in_use, 1.0)
        least = jnp.where(given_up, 0.0, least)
        return jnp.clip(jnp.maximum(ratio**3 * now, least), last, width)

    def body(state: _State) -> _State:
        point, free = state.point, state.free
        z, slacks, duals, _ = point
        active = state.active
        ratios = each(lambda u, f, t: jnp.where(u, f / t, 0.0), active, duals, slacks)
        target = targets(observed, size, jnp.zeros_like(last), last)
        local = eliminated(data, point, target, ratios)
        matrix = curvature_of(data, point, ratios, local, free)
        factor = sure_factor(matrix, free, state.ridge)
        straight = direction(data, point, ratios, target, factor, free, active)
        width = narrower(point, state.width, straight, active, state.creeping >= CREEPS)
        width = jnp.where(state.part < ARRIVING, state.width, width)
        target = targets(observed, size, width, last)
        step = direction(data, point, ratios, target, factor, free, active)

        part = longest_step(slacks, step.slacks)
        of_duals = longest_step(duals, step.duals)
        weights = each(lambda f, d: 2.0 * jnp.maximum(f, f + of_duals * d), duals, step.duals)
        value = _merit(data, point, active, target, weights)
        # What rounding is relative to: a strong penalty is a small difference of large terms, and
        # those of the statistic are as large as the counts.
        shift = jnp.abs(z - data.penalty_start)
        rounding = last_digits * (
            1.0 + jnp.abs(value) + shift @ jnp.abs(data.precision) @ shift + counted
        )

        def at(of_z: jax.Array, of_slacks: PerConstraint) -> Point:
            new_z, new_slacks = z + of_z, each(jnp.add, slacks, of_slacks)
            return Point(new_z, new_slacks, duals, residuals_of(data, new_z, new_slacks))

        def good(new: Point) -> jax.Array:
            return _merit(data, new, active, target, weights) <= value + rounding

        def corrected(part: jax.Array, new: Point) -> tuple[Point, jax.Array]:
            """A trial without what it missed because the model is not linear (to second order)."""
            pairs = zip(point.residuals, new.residuals, strict=True)
            missed = point._replace(
                residuals=tuple(residual + part * old for old, residual in pairs)
            )
            again = direction(data, missed, ratios, target, factor, free, active)
            of_z = part * step.z + again.z - step.z
            of_slacks = each(lambda d, a: part * d + a - d, step.slacks, again.slacks)
            left = each(lambda t, d: (1.0 - KEPT) * t + d, slacks, of_slacks)
            new = at(of_z, of_slacks)
            return new, (smallest(left) > 0) & good(new)

        def shorter(carry: tuple) -> tuple:
            part, halvings, _, _ = carry
            part = jnp.where(halvings < 0, part, 0.5 * part)
            new = at(part * step.z, each(lambda d: part * d, step.slacks))
            found = good(new)
            if not is_linear(data):
                other, better = corrected(part, new)
                new = jax.tree.map(lambda a, b: jnp.where(better & ~found, a, b), other, new)
                found = found | better
            return part, halvings + 1, new, found

        part, _, new, _ = jax.lax.while_loop(
            lambda carry: ~carry[3] & (carry[1] < HALVINGS),
            shorter,
            (part, jnp.asarray(-1), point, jnp.asarray(False)),
        )
        new_duals = each(
            lambda f, d, c, t: jnp.clip(f + of_duals * d, c / t / APART, c / t * APART),
            *(duals, step.duals, target, new.slacks),
        )
        # Where parameters can make up for each other, rounding keeps the decrement from falling on;
        # next to a constraint it proves nothing unless the distance stays about what it is.
        stuck = (step.decrement <= numbers.stuck) & (step.decrement >= 0.1 * state.decrement)
        moved = each(lambda t, d: jnp.abs(d) / t, slacks, step.slacks)
        stuck = stuck & (largest(moved) <= SETTLED)
        small = (step.decrement <= numbers.tolerance * start.size) | stuck
        # Of parameters that almost nothing tells apart, rounding leaves steps that creep: they are
        # held ever more.
        creeping, ridge = state.creeping, state.ridge
        if is_linear(data):
            pivot = jnp.min(jnp.where(free, jnp.diagonal(factor[0]), 1.0)) ** 2
            alike = (pivot < numbers.alike) | (ridge > 1.0)
            alike = alike & (step.decrement >= 0.1 * state.decrement)
            creeping = jnp.where(alike, state.creeping + 1, 0)
            harder = (creeping >= CREEPS) & (step.decrement > numbers.creeping)
            ridge = jnp.where(harder, jnp.minimum(5.0 * ridge, numbers.hardest), ridge)
        expected = tuple(
            t + residual for t, residual in zip(new.slacks.on, new.residuals, strict=True)
        )
        positive = [jnp.all(t >= 0) for t in expected]
        given_up = (creeping >= CREEPS) & (step.decrement <= numbers.creeping)
        done = (width <= last) & (((part >= 1.0) & small) | given_up)
        # Slack times dual variable is about the width: one of them is small. The others get a last
        # step.
        low, high = (
            done & constraint & (dual * unit**2 > slack)
            for constraint, dual, slack in (
                (active.low, new_duals.low, new.slacks.low),
                (active.high, new_duals.high, new.slacks.high),
            )
        )
        arriving = low | high
        on_bound = jnp.where(low, data.lower, jnp.where(high, data.upper, new.z))
        free = free & ~arriving
        residuals, active = jax.lax.cond(
            jnp.any(arriving),
            lambda: put_onto_bounds(data, new.z, on_bound - new.z, new.residuals, free),
            lambda: (new.residuals, active),
        )
        new = new._replace(z=on_bound)
        return _State(
            point=new._replace(duals=new_duals, residuals=residuals),
            width=width,
            decrement=step.decrement,
            part=part,
            iteration=state.iteration + 1,
            inside=jnp.where(jnp.all(jnp.stack(positive)), new.z, state.inside),
            free=free,
            active=active,
            creeping=creeping,
            ridge=ridge,
            done=done & ~jnp.any(arriving),
        )

    width = jnp.asarray(WIDE, start.dtype)
    target = targets(observed, size, width, last)
    state = _State(
        point=_first_point(data, start, unit, size, used(data, free), target),
        width=width,
        decrement=jnp.asarray(jnp.inf, start.dtype),
        part=jnp.asarray(1.0, start.dtype),
        iteration=jnp.asarray(0),
        inside=inside,
        free=free,
        active=used(data, free),
        creeping=jnp.asarray(0),
        ridge=jnp.asarray(1.0, start.dtype),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.iteration < most), body, state)
    return jnp.where(state.done, state.point.z, state.inside), state.done
