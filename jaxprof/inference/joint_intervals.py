"""Limits of joint fits, with the other parameters profiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.inference.follow import FittedProblem, Goal, follow_all, follow_one
from jaxprof.inference.held_fit import (
    RUN_ONCE,
    HeldFit,
    at_fit,
    fit_held,
    in_searches,
    is_possible,
    known_interior,
    profiles_are_followed,
)
from jaxprof.inference.interior import Interior
from jaxprof.inference.joint_fit import fitted_problem
from jaxprof.inference.newton_step import is_linear
from jaxprof.inference.start import units
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.solvers.solve import implicit_root, increasing_root, root_against, tolerance

FAR = 1e4
"""Limits are sought up to this many times the length over which the statistic should rise."""
VERY_FAR = 1e10
"""The same where the norm can be made up for by others, but perhaps not for ever."""
STEP = 1e-6
"""Last step of a search, in units of that length, in double precision: the next one would be about
its square."""

RISE = 1e-5
"""How far the rise at a limit may be from what it is to be, relative to that."""
AGAIN = 12
"""How often a profile is followed at most from other minima that are found on the way."""
NEAR_BOUND = 3.0
"""In units of that length, how near the bound of a norm is tried first."""


@jit_by_size(small=RUN_ONCE)
def unit_of(data: JointData, fit: JointFit, parameter: jax.Array, target: jax.Array) -> jax.Array:
    """Length over which the statistic rises by about ``target``."""
    variance = fit.covariance[parameter, parameter]
    component = parameter // (1 + data.n_shape)
    # Where constraints hold a norm, its variance may tell nothing of how the statistic rises.
    known = jnp.isfinite(variance) & (variance > 0) & (fit.status[component] == Status.OK)
    return jnp.where(
        known,
        jnp.sqrt(target * jnp.where(known, variance, 1.0)),
        target * units(data)[parameter],
    )


def farthest(fit: JointFit, component: jax.Array) -> jax.Array:
    """Up to how many units a limit is sought."""
    return jnp.where(fit.status[component] == Status.DEGENERATE, VERY_FAR, FAR)


def last_step(of: jax.Array) -> float:
    """The last step of a search in the precision of an array."""
    return max(STEP, tolerance(of.dtype))


def _limit(
    data: JointData,
    fit: JointFit,
    inside: Interior,
    component: jax.Array,
    side: jax.Array,
    target: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Distance from a norm, down (side -1) or up (+1), to where the statistic has risen.

    Also whether it exists, whether the norm's own bound comes first (nothing is evaluated beyond
    that), whether there is another minimum, and the fit there (Z,), which are not looked at where
    this is traced. The distance carries no derivatives, and is zero where it does not exist.
    """
    data, fit, target = jax.tree.map(jax.lax.stop_gradient, (data, fit, target))
    parameter = component * (1 + data.n_shape)
    best = at_fit(data, fit)
    norm = best[parameter]
    unit = unit_of(data, fit, parameter, target)
    bound = jnp.where(side > 0, data.upper[parameter], data.lower[parameter])
    room = side * (bound - norm)

    def held_at(y: jax.Array) -> HeldFit:
        return fit_held(data, best, inside, parameter, norm + side * unit * y)

    def excess(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        held = held_at(y)
        return root_against(target, held.rise, side * unit * held.slope)

    one = jnp.ones_like(norm)
    far = farthest(fit, component) * one
    end = jnp.minimum(far, room / unit)
    # If the bound is near, it is tried first: a statistic that has not risen there ends the search.
    start = jnp.where(end < NEAR_BOUND, end, one)
    y, converged = increasing_root(
        excess, start, jnp.zeros_like(norm), end, last_step(norm), to_end=True
    )
    at_bound = converged & (end < far) & (y >= end)
    # No rise far away: there is no limit. A constraint at the minimum itself: none on this side.
    exists = converged & (y < 0.9 * far) & (y > 1e-6) & ~at_bound
    # Where the domain ends the search does too, although the statistic has not risen.
    beyond = norm + side * unit * (y + 4.0 * last_step(norm))
    exists = exists & is_possible(data, inside, parameter, beyond)
    other, z = jnp.asarray(False), jnp.full_like(best, jnp.nan)
    # Another search in what is compiled would take as long again, to tell nobody.
    if not is_traced(y) and exists:
        last = held_at(y)
        other, z = last.has_other(fit), last.z
    return jnp.where(exists, unit * y, 0.0), exists, at_bound, other, z


def _excess(
    distance: jax.Array,
    data: JointData,
    fit: JointFit,
    inside: Interior,
    parameter: jax.Array,
    side: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """How far the statistic has risen above the target at a distance from the norm."""
    best = at_fit(data, fit)
    held = fit_held(data, best, inside, parameter, best[parameter] + side * distance)
    return held.rise - target


def was_fitted(fit: JointFit, parameter: jax.Array) -> jax.Array:
    """Whether a fit knows the value of a parameter."""
    return fit.converged & jnp.isfinite(fit.values[parameter])


def _pairs(components: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """Each component n times, and the numbers up to n for each of them; (M * n,)."""
    return jnp.repeat(components, n), jnp.tile(jnp.arange(n), len(components))


def _followed_limits(
    data: JointData, fit: JointFit, components: Any, sides: Any, targets: Any
) -> _Followed:
    """What Newton steps along the profiles find."""
    traced = is_traced((data, fit, components, sides, targets))
    shape, xp = (len(sides), len(components)), jnp if traced else np
    if traced and not is_linear(data):
        # A lower minimum of the others may be elsewhere: all are searched for.
        no = jnp.zeros(shape[::-1], bool)
        lost = jnp.full((*no.shape, fit.values.size), jnp.nan, fit.values.dtype)
        return _Followed(lost[..., 0], no, no, lost)
    at = xp.broadcast_to(components * (1 + data.n_shape), shape)
    sides, targets = (
        xp.broadcast_to(xp.asarray(each, fit.values.dtype)[:, None], shape)
        for each in (sides, targets)
    )
    goals = Goal(at, xp.full(shape, xp.nan, fit.values.dtype), sides, targets)
    z, rises, found = follow_all(fitted_problem(data, fit), goals)
    # Where empty counts bins hold the others, the last step may have changed what it reaches.
    found = found & (abs(rises - targets) <= RISE * targets)
    distances, found = _checked(data, fit, goals, z, found)
    if not traced:
        distances, found = np.asarray(distances), np.asarray(found)
    if is_linear(data):
        return _Followed(distances, found, xp.zeros_like(found), xp.swapaxes(z, 0, 1))
    # A lower minimum of the others may be elsewhere.
    return _confirmed(data, fit, goals, (z, distances, found))


@jit_by_size(small=RUN_ONCE)
def _checked(
    data: JointData, fit: JointFit, goals: Goal, z: jax.Array, found: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Distances (M, L) at the points (L, M, Z) of goals, and whether they are between bounds."""
    data, fit, goals = jax.tree.map(jax.lax.stop_gradient, (data, fit, goals))
    best = at_fit(data, fit)

    def one(goal: Goal, z: jax.Array, found: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = goal.parameter
        unit = unit_of(data, fit, at, goal.rise)
        distance = goal.side * (z[at] - best[at])
        found = found & (distance > 1e-6 * unit) & (distance < 0.9 * FAR * unit)
        found = found & (z[at] >= data.lower[at]) & (z[at] <= data.upper[at])
        fitted = was_fitted(fit, at)
        return jnp.where(fitted & found, distance, jnp.nan), found | ~fitted

    distances, found = jax.vmap(jax.vmap(one))(goals, z, found)
    return distances.T, found.T


class _Followed(NamedTuple):
    """Limits that profiles have led to, (M, L) each."""

    distances: Any
    found: Any  # whether they are right
    other: Any  # whether the fits there have another minimum, less than one higher
    points: Any  # these fits (M, L, Z)


class _Profile(NamedTuple):
    """What profiles are confirmed on."""

    data: JointData
    fit: JointFit
    fitted: FittedProblem
    inside: Interior

    def confirmed(self, goal: Goal, z: Any, found: Any) -> tuple[Any, bool, bool]:
        """Where a goal is met and nothing is lower, whether that is so, and has another minimum.

        From where a profile has led, or was lost: the lowest minimum there is followed on from, or
        where that is lost too, a step of the search between what is known to be too near and too
        far.
        """
        at, side, best = goal.parameter, goal.side, self.fitted.best
        unit = side * np.asarray(unit_of(self.data, self.fit, at, goal.rise))
        end = side * (np.where(side > 0, self.data.upper, self.data.lower) - best)[at]
        low, high = 0.0, end
        for _ in range(AGAIN):
            near = (z, found) if profiles_are_followed(self.data) else None
            held = fit_held(self.data, best, self.inside, at, z[at], near)
            above, slope = root_against(goal.rise, held.rise, unit * held.slope)
            nearly = last_step(best) * slope
            if not held.converged or (above < -nearly and not np.isfinite(held.rise)):
                break
            if above >= -nearly if found else abs(above) <= nearly:
                return (z if found else held.z), True, bool(held.has_other(self.fit))
            here = side * (z[at] - best[at])
            low, high = (here, high) if above < 0 else (low, here)
            rest = goal._replace(rise=np.asarray(goal.rise - held.rise))
            z, found = follow_one(self.fitted._replace(best=held.z), rest)
            # A minimum that was too high may not have been the lowest one.
            found = found and low < side * (z[at] - best[at]) <= end
            if not found:
                there = here - abs(unit) * above / slope if slope > 0 else np.nan
                if not low < there < high:
                    there = 0.5 * (low + high) if np.isfinite(high) else 2.0 * here + abs(unit)
                z = np.array(held.z)
                z[at] = best[at] + side * there
        return z, False, False


def _confirmed(
    data: JointData, fit: JointFit, goals: Goal, followed: tuple[Any, Any, Any]
) -> _Followed:
    """What is right where nothing is lower than where profiles have led; outside compiled code.

    The goals (L, M) with points (L, M, Z), distances and whether these are found (M, L).
    """
    z, distances, found = (np.array(part) for part in followed)
    profile = _Profile(data, fit, fitted_problem(data, fit), known_interior(data))
    best, other = np.asarray(profile.fitted.best), np.zeros(found.shape, bool)
    for row, k in np.ndindex(*np.shape(goals.rise)):
        goal = Goal(*(np.asarray(part)[row, k] for part in goals))
        not_fitted = found[k, row] and np.isnan(distances[k, row])
        if not_fitted or not np.isfinite(z[row, k]).all():
            continue
        point, sure, also = profile.confirmed(goal, z[row, k], found[k, row])
        distance = goal.side * (point[goal.parameter] - best[goal.parameter])
        found[k, row] = sure and distance > 0
        z[row, k], distances[k, row], other[k, row] = point, distance, also
    return _Followed(distances, found, other, np.swapaxes(z, 0, 1))


@in_searches
def _searched_limits(
    data: JointData,
    fit: JointFit,
    components: jax.Array,
    goals: tuple[jax.Array, jax.Array, jax.Array],
    followed: _Followed,
) -> Limits:
    """What `limited` gives, with limits searched for that were not found, and with derivatives.

    The goals (L,) are sides, rises, and whether a bound will do.
    """
    inside = known_interior(data)

    def one(pair: tuple[jax.Array, ...]) -> Limits:
        component, number, distance, known, told, point = pair
        side, target, closed = (values[number] for values in goals)
        parameter = component * (1 + data.n_shape)
        root, exists, at_bound, other, z = jax.lax.cond(
            known,
            lambda: (
                jnp.nan_to_num(distance),
                jnp.isfinite(distance),
                jnp.asarray(False),
                told,
                point,
            ),
            lambda: _limit(data, fit, inside, component, side, target),
        )
        root = implicit_root(_excess, root, data, fit, inside, parameter, side, target)
        bound = jnp.where(side > 0, data.upper[parameter], data.lower[parameter])
        # An infinite bound is never reached.
        bound = jnp.where(at_bound, bound, 0.0)
        room = side * (bound - at_fit(data, fit)[parameter])
        found = jnp.where(exists, root, jnp.where(at_bound & closed, room, jnp.nan))
        found = jnp.where(was_fitted(fit, parameter), found, jnp.nan)
        return Limits(found, exists & other, z)

    shape = followed.found.shape
    known = (jax.lax.stop_gradient(values).reshape(-1, *values.shape[2:]) for values in followed)
    made: Limits = jax.lax.map(one, (*_pairs(components, shape[1]), *known))
    return Limits(*(part.reshape(*shape, *part.shape[1:]) for part in made))


def joint_limits(
    data: JointData,
    fit: JointFit,
    components: Any,
    sides: Any,
    targets: Any,
    closed: Any = False,
) -> jax.Array:
    """Distances from norms to where the profiled statistic has risen.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.
    sides : array, shape (L,)
        -1 for the way down and +1 for the way up.
    targets : array, shape (L,)
        Rise of the statistic, the square of the number of standard deviations.
    closed : bool or array of bool, shape (L,)
        Whether the norm's own bound is the limit where it comes first, as it is for upper limits.
        By default there is none then.

    Returns
    -------
    distances : array, shape (M, L)
        NaN where the statistic never rises that far, as where some prediction is zero before, or
        the norm was not fitted.

    Notes
    -----
    All other parameters are profiled at each norm (Rolke, Lopez & Conrad 2005, NIM A 551,
    493; "MINOS"). Most limits are found by `follow`, the others by a search. Profiles of models
    that are not linear may rise so far at several distances: one of these is given.

    Distances have derivatives in both modes and of any order, with respect to the arrays of the
    data, the fit (which must be differentiated along with them) and the targets. A limit at the
    bound of its norm moves with that. Where there is none, the derivatives are zero: the NaN tells,
    and sums over the others can be differentiated.
    """
    return limited(data, fit, components, (sides, targets, closed))[0]


class Limits(NamedTuple):
    """Where profiles have risen by so much, (M, L) each."""

    distances: Any
    """From the norms; NaN where there is none."""
    other: Any
    """Whether the fits there have another minimum, less than one higher; False in compiled code."""
    points: Any
    """These fits (M, L, Z); NaN where there are none, and in compiled code."""


def limited(data: JointData, fit: JointFit, components: Any, goals: tuple[Any, Any, Any]) -> Limits:
    """What `joint_limits` gives for sides, targets and whether bounds will do, (L,)."""
    sides, targets, closed = goals
    goals = (sides, targets, jnp.broadcast_to(closed, sides.shape))
    followed = _followed_limits(data, fit, components, sides, targets)
    traced = is_traced((data, fit, components, targets))
    # What was followed has no derivatives.
    if not traced and np.all(followed.found):
        found = Limits(followed.distances, followed.other, followed.points)
    else:
        found = _searched_limits(data, fit, components, goals, followed)
    # Not jnp, which compiles a program for every shape.
    xp: Any = jnp if traced else np
    exists = xp.isfinite(found.distances)[..., None]
    return found._replace(points=xp.where(exists, found.points, xp.nan))
