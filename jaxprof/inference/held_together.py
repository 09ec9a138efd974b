r"""Fits with one norm held at zero, for many norms at once.

Around the minimum of a joint fit half the statistic is a parabola with curvature :math:`H` and
covariance :math:`C = H^{-1}`. With the norm :math:`x_b` held, the others move by
:math:`-x_b C_{jb} / C_{bb}`, and what is not a parabola matters in few counts bins :math:`S` (rows
:math:`t_s` of the templates), those whose predictions change by much. So each fit is a search for
the displacement :math:`\delta` with

.. math:: H \delta + \sum_{s \in S} t_s (\lambda_s^0 - \lambda_s - w_s^0\, t_s \delta) = 0

for all parameters but the held one, slacks and dual variables :math:`\lambda` being those of
`interior_point` and :math:`w = \lambda / t` the weights of the counts bins. The curvature of a
Newton step is :math:`H + \sum_s (w_s - w_s^0) t_s t_s^T`; it is inverted with the largest of these
terms (Woodbury's formula), the rest being so small that the steps converge all the same. No matrix
is assembled, and all products are of matrices for a batch of norms. In the end the condition is
checked in all counts bins, and duality proves the minimum (`duality_gap`).

Where constraints become active, or no longer are, a second search begins with a wider barrier.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size
from jaxprof.inference.constraints import KEPT
from jaxprof.inference.duality_gap import duality_gaps
from jaxprof.inference.follow import FittedProblem
from jaxprof.inference.newton_step import APART, is_linear
from jaxprof.inference.parabola import Parabola, Rows, in_use, parabola_at
from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.solvers.linear import settings

TOGETHER = 32
"""Norms of a batch."""
ROWS = 2_000_000
"""Elements of the templates in the counts bins that a batch sees."""
LARGEST = 256, 48
"""Terms of the curvature that change most, which a step knows: of a batch, and of each norm."""
STEPS = 8, 30
"""Most steps: of all, then of those that need more."""
AGAIN = 4
"""Most steps when the slope has been corrected."""
TIMES = 4
"""How often it is, at most."""
LEFT = 1e-9
"""How much a last step by all counts bins may change: what is left then is far less."""
SMALLEST = 1e-10
"""Change of the statistic by a step that ends a search: the last one follows."""
GAP = 5e-7
"""How far half the statistic may be above its minimum at most."""
WIDE = 1e-3
"""First width of the barrier in the second round: constraints become active, others no longer."""
NARROWER = 0.1
"""Its factor from step to step, where these are not short."""
ARRIVING = 0.5
"""Shortest part of a step that is not short."""
AWAY = 0.1
"""The part of a prediction that is left to begin with."""


class _State(NamedTuple):
    shift: jax.Array  # of the parameters (B, Z)
    change: jax.Array  # of the predictions (B, S)
    slacks: jax.Array
    duals: jax.Array
    width: jax.Array  # of the barrier (B, 1)
    iteration: jax.Array
    done: jax.Array  # (B,)


def is_simple(data: JointData) -> bool:
    """Whether all predictions are linear with a known background, and no free norm is bounded."""
    if not is_linear(data) or not all(isinstance(block, JointBlock) for block in data.blocks):
        return False
    bounded = np.isfinite(np.asarray(data.lower)) | np.isfinite(np.asarray(data.upper))
    return not np.any(bounded & np.asarray(data.free))


def _longest(values: jax.Array, steps: jax.Array) -> jax.Array:
    """The part (B, 1) of each step, at most one, that leaves all values positive."""
    down = steps < 0
    part = jnp.where(down, (KEPT - 1.0) * values / jnp.where(down, steps, 1.0), 1.0)
    return jnp.minimum(jnp.min(part, axis=1, keepdims=True), 1.0)


class _Terms(NamedTuple):
    """The terms of the curvature that change most: of a batch (U,), of each of its norms (B, E)."""

    which: jax.Array  # rows (U,)
    each: jax.Array  # of these (B, E)
    weights: jax.Array  # their changes (B, E)
    templates: jax.Array  # (U, Z)
    response: jax.Array  # (U, Z)

    def of_each(self, values: jax.Array) -> jax.Array:
        """Values (B, E) from those (B, U)."""
        return jnp.take_along_axis(values, self.each, 1)


def _terms(rows: Rows, weights: jax.Array) -> _Terms:
    """The largest terms where the weights of some rows change so much, (B, S)."""
    score = jnp.max(jnp.abs(weights), axis=0) * rows.spread[0]
    _, which = jax.lax.top_k(score, min(LARGEST[0], score.size))
    some = weights[:, which]
    _, each = jax.lax.top_k(jnp.abs(some) * rows.spread[:, which], min(LARGEST[1], len(which)))
    own = jnp.take_along_axis(some, each, 1)
    return _Terms(which, each, own, rows.templates[which], rows.response[which])


def _newton(
    own: Parabola, terms: _Terms, held: jax.Array, down: jax.Array, missed: jax.Array
) -> jax.Array:
    """Newton steps (B, Z) down slopes, with the largest terms of the curvature.

    These terms also pull by what they have ``missed`` (B, E), times the changes of the weights.
    """
    column = own.covariance[held]
    variance = jnp.take_along_axis(column, held[:, None], 1)
    of_held = terms.of_each(terms.response[:, held].T)
    inner = (terms.response @ terms.templates.T)[terms.each[:, :, None], terms.each[:, None, :]]
    inner = inner - of_held[:, :, None] * of_held[:, None, :] / variance[:, :, None]
    # Those of constraints are far above the others.
    unit = jnp.maximum(jnp.abs(terms.weights) * jnp.diagonal(inner, axis1=1, axis2=2), 1.0)
    ones = jnp.eye(inner.shape[1], dtype=inner.dtype)[None]
    matrix = (terms.weights[:, :, None] * inner + ones) / unit[:, :, None]
    step = own.moved(held, down)
    right = terms.weights / unit * (terms.of_each(step @ terms.templates.T) + missed)
    taken = jnp.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    number = jnp.arange(len(held))
    none = jnp.zeros((len(held), len(terms.which)), down.dtype)
    back = none.at[number[:, None], terms.each].set(taken) @ terms.response
    step = step - back + jnp.take_along_axis(back, held[:, None], 1) / variance * column
    # Rounding of large terms must not move what is held.
    return step.at[number, held].set(0.0)


def _begin(own: Parabola, rows: Rows, held: jax.Array) -> _State:
    """Where a search begins, on the parabola; empty counts bins with the slacks that they have."""
    length = own.best[held] / own.covariance[held, held]
    shift = -length[:, None] * own.covariance[held]
    change = shift @ rows.templates.T
    width = jnp.full((len(held), 1), own.wide)
    target = _targets(rows, width)
    moved = jnp.maximum(rows.npred + change, AWAY * rows.slacks)
    few = jnp.maximum(rows.slacks, target / rows.duals)
    slacks = jnp.where(rows.counts <= 0, few, moved)
    none = jnp.zeros(held.shape, bool)
    return _State(shift, change, slacks, target / slacks, width, jnp.asarray(0), none)


def _targets(rows: Rows, width: jax.Array) -> jax.Array:
    """What slacks times dual variables (B, P) are to be with barriers of some width (B, 1)."""
    return jnp.where(rows.counts <= 0, width * rows.sizes, rows.counts)


def _search(own: Parabola, rows: Rows, held: jax.Array, begin: _State, slope: jax.Array) -> _State:
    """Displacements with all conditions met in some rows, from a state and for slopes (B, Z)."""
    numbers = settings(slope.dtype)
    rounding = jnp.finfo(slope.dtype).eps * jnp.sum(own.rows.counts)
    smallest = jnp.maximum(numbers.tolerance * own.best.size, SMALLEST) + 2 * rounding
    apart = 5 * own.width + 50 * rounding

    def step(state: _State) -> _State:
        shift, change, slacks, duals, width = state[:5]
        target = _targets(rows, width)
        weights, missed = duals / slacks, rows.npred + change - slacks
        terms = _terms(rows, weights - rows.weights)
        # What constraints have missed, times their weights, would leave no digits of the others.
        known = terms.which[terms.each]
        excess = (weights - rows.weights) * missed
        excess = excess.at[jnp.arange(len(held))[:, None], known].set(0.0)
        pull = rows.duals - target / slacks + rows.weights * (missed - change) + excess
        down = -(slope + shift @ own.curvature + pull @ rows.templates)
        new = _newton(own, terms, held, down, jnp.take_along_axis(missed, known, 1))
        changes = new @ rows.templates.T
        of_slacks = changes + missed
        of_duals = target / slacks - duals - weights * of_slacks
        part = _longest(slacks, of_slacks)
        slacks = slacks + part * of_slacks
        duals = duals + _longest(duals, of_duals) * of_duals
        duals = jnp.clip(duals, target / slacks / APART, target / slacks * APART)
        off = jnp.where(rows.counts <= 0, jnp.abs(duals * slacks - target), 0.0)
        done = (width[:, 0] <= own.width) & (part[:, 0] >= 1.0) & (jnp.sum(off, axis=1) <= apart)
        done = done & (jnp.abs(jnp.sum(new * down, axis=1)) <= smallest)
        narrower = jnp.where(part >= ARRIVING, jnp.maximum(NARROWER * width, own.width), width)
        moved = (shift + part * new, change + part * changes, slacks, duals, narrower)
        stay = state.done[:, None]
        kept = jax.tree.map(lambda a, b: jnp.where(stay, a, b), state[:5], moved)
        shift, change, slacks, duals, width = kept
        number = state.iteration + 1
        return _State(shift, change, slacks, duals, width, number, state.done | done)

    most = begin.iteration + jnp.where(begin.iteration > 0, AGAIN, own.most)
    return jax.lax.while_loop(
        lambda state: ~jnp.all(state.done) & (state.iteration < most), step, begin
    )


class _Check(NamedTuple):
    """What all counts bins say of displacements."""

    step: jax.Array  # a last one (B, Z)
    rise: jax.Array  # of the statistic before it (B,)
    left: jax.Array  # what it falls by then; NaN where a prediction is negative
    slope: jax.Array  # with what the other counts bins add (B, Z)


def _checked(own: Parabola, some: Rows, held: jax.Array, state: _State, at: jax.Array) -> _Check:
    """What all counts bins say of displacements found in some rows, those ``at`` some positions."""
    rows, shift = own.rows.batched(), state.shift
    change = shift @ rows.templates.T
    npred, few, used = rows.npred + change, rows.counts <= 0, rows.spread > 0
    linear = rows.duals - rows.weights * change
    duals = jnp.where(few, linear, rows.counts / jnp.where(few, 1.0, npred))
    pull = jnp.where(used, linear - duals, 0.0)
    slope = own.slope[None] + pull.at[:, at].set(0.0) @ rows.templates
    of_rows = (linear[:, at] - state.duals) @ some.templates
    down = -(slope + shift @ own.curvature + of_rows)
    terms = _terms(some, state.duals / state.slacks - some.weights)
    step = _newton(own, terms, held, down, jnp.zeros_like(terms.weights))
    below = jnp.where(used, jnp.maximum(-npred, 0.0), 0.0)
    outside = jnp.where(few, rows.duals * below, jnp.where(below > 0, jnp.nan, 0.0))
    relative = jnp.where(few, 0.0, change / rows.npred)
    differences = 2.0 * (change - rows.counts * jnp.log1p(relative))
    rise = jnp.sum(jnp.where(used, differences, 0.0), axis=1)
    rise += jnp.sum(shift * (shift @ own.precision + 2.0 * own.penalty[None]), axis=1)
    left = jnp.abs(jnp.sum(step * down, axis=1)) + jnp.sum(outside, axis=1)
    return _Check(step, rise, left, slope)


@jit_by_size
def _largest(own: Parabola, held: jax.Array) -> jax.Array:
    """Largest relative change of each prediction (P,) along the parabola.

    Infinite for active constraints, of which a search must know.
    """
    rows, length = own.rows, own.best[held] / own.covariance[held, held]
    change = jnp.max(jnp.abs(rows.response[:, held] * length[None]), axis=1) / rows.slacks
    active = (rows.spread > 0) & (rows.weights < 0.5 * rows.duals / rows.slacks)
    return jnp.where(active, jnp.inf, change)


@jit_by_size
def _batch(own: Parabola, held: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Parameters (B, Z) with one of each held at zero, rises of the statistic, whether all is met.

    The search looks at the counts bins ``at`` some positions; what the others add to the slope is
    found in between.
    """
    rows = jax.tree.map(lambda each: each[at], own.rows).batched()
    begin = _begin(own, rows, held)

    def better(carry: tuple) -> tuple:
        times, state, check = carry
        again = state._replace(done=jnp.zeros_like(state.done))
        state = _search(own, rows, held, again, check.slope)
        return times + 1, state, _checked(own, rows, held, state, at)

    def unfinished(carry: tuple) -> jax.Array:
        times, state, check = carry
        return (times < TIMES) & ((times == 0) | jnp.any(state.done & (check.left > LEFT)))

    nothing = jnp.full(held.shape, jnp.inf, own.best.dtype)
    slopes = jnp.broadcast_to(own.slope[None], begin.shift.shape)
    none = _Check(jnp.zeros_like(begin.shift), nothing, nothing, slopes)
    _, state, check = jax.lax.while_loop(unfinished, better, (0, begin, none))
    z = own.best[None] + state.shift + check.step
    found = state.done & (check.left <= LEFT) & jnp.isfinite(check.rise)
    return z.at[jnp.arange(len(held)), held].set(0.0), check.rise - check.left, found


def held_together(fitted: FittedProblem, parameters: Any) -> tuple[Any, Any, Any]:
    """Fits with one of some norms held at zero each, outside of compiled code.

    Parameters
    ----------
    fitted : FittedProblem
        A fitted problem that is simple, see `is_simple`.
    parameters : ndarray of int, shape (M,)
        Positions of the norms.

    Returns
    -------
    z : ndarray, shape (M, Z)
        Parameters.
    rises : ndarray, shape (M,)
        Rises of the statistic.
    found : ndarray of bool, shape (M,)
        Whether all conditions of the minimum are met; otherwise the others mean nothing.
    """
    if not len(parameters):
        return np.zeros((0, len(fitted.best))), np.zeros(0), np.zeros(0, bool)
    own = parabola_at(fitted, in_use(fitted.problem))
    size = min(TOGETHER, len(parameters))
    n_rows = min(len(own.rows.counts), max(ROWS // len(fitted.best), 1))
    z = np.zeros((len(parameters), len(fitted.best)), np.asarray(fitted.best).dtype)
    rises, found = np.zeros(len(z), z.dtype), np.zeros(len(z), bool)
    gap = GAP + 50 * np.finfo(z.dtype).eps * np.sum(np.asarray(own.rows.counts))
    for most, wide in zip(STEPS, (own.width, WIDE), strict=True):
        own = own._replace(most=np.asarray(most), wide=np.asarray(wide, own.best.dtype))
        left = np.flatnonzero(~found)
        for first in range(0, len(left), size):
            some = left[first : first + size]
            held = parameters[np.resize(some, size)]
            # Not in compiled code, where it takes longer.
            at = np.argpartition(-np.asarray(_largest(own, held)), n_rows - 1)[:n_rows]
            new = _batch(own, held, at)
            z[some], rises[some], found[some] = (np.asarray(part)[: len(some)] for part in new)
        sure = left[found[left]]
        found[sure] = duality_gaps(own, fitted.free, z[sure], parameters[sure]) <= gap
    return z, rises, found
