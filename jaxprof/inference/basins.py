"""The lowest of several minima, where spectral parameters or tilts of backgrounds are free.

With these the statistic of a joint fit is not convex: a minimisation ends in the basin that it
starts in. After the first one the `norm_profiles` of the spectral parameters are evaluated on a
grid: the fit starts again from the minima that they show elsewhere (from all of them together, the
improving ones first), and from the ends of short `descents` from all over the ranges of the
parameters, however high: with many components these have far to go. The lowest is kept, also where
only higher ones have converged. Norms multiply counts meanwhile, see `counted_norms`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.inference.counted_norms import has_flux, to_counts, to_fluxes, with_counted_norms
from jaxprof.inference.descents import Ends, descended
from jaxprof.inference.interior_point import minimise
from jaxprof.inference.newton_step import is_linear, shapes
from jaxprof.inference.norm_profiles import (
    BETWEEN,
    NEAR,
    Around,
    Family,
    around,
    batches_of,
    covariance_of,
    duals_of,
    family_of,
    grid_of,
    nodes_of,
    other_minima,
    profiled,
    ridge_to,
    where_changed,
)
from jaxprof.likelihood.joint_data import JointData
from jaxprof.likelihood.joint_model import Barrier, derivatives, difference

ROUNDS = 10
"""Most minimisations."""
KNOWN_ROUNDS = 3
"""The same from a minimum that the lowest one has been followed to."""
HIGH = 5.0
"""How high a minimum of a spectral profile may be for a fit to start there."""
GAIN = 1e-3
"""Least fall of the statistic that is worth another minimisation."""
DISTINCT = 0.1
"""Besides one standard deviation, how far apart parameters of two minima are at least."""


class _Problem(NamedTuple):
    """What stays the same in a search; norms multiply counts."""

    data: JointData
    free: jax.Array
    barrier: Barrier
    inside: jax.Array
    known: jax.Array  # whether it begins at a minimum that has been followed to
    before: jax.Array | None  # where that was followed from

    @property
    def several(self) -> jax.Array:
        """Whether there may be several minima."""
        return jnp.any(self.free & shapes(self.data))


class _Profile(NamedTuple):
    """Profiles around the lowest minimum."""

    found: tuple[jax.Array, ...]  # what `profiled` gives at batches of nodes and the other minimum
    tried: jax.Array  # values of each parameter that minimisations have started from, (A, K, M)


class _State(NamedTuple):
    z: jax.Array  # the lowest minimum
    converged: jax.Array
    begin: jax.Array  # where the next minimisation starts
    other: jax.Array  # the last minimum that was higher
    near: jax.Array  # of what has another minimum, at most a little higher; otherwise NaN
    height: jax.Array  # of that minimum; infinite if only profiles tell
    profile: _Profile
    number: jax.Array
    ends: Ends
    done: jax.Array


class _Jumps(NamedTuple):
    """Where components may go: (M,) each."""

    shape: jax.Array  # (M, A)
    norm: jax.Array
    height: jax.Array
    group: jax.Array  # on the grid what is tried with it, (K, M)


class _Minima(NamedTuple):
    """What a round has found: the lowest minimum and the last other one, (Z,) each."""

    best: jax.Array
    other: jax.Array
    covariance: jax.Array  # at the lowest
    errors: jax.Array  # there, with all other parameters known
    better: jax.Array  # whether that is new
    height: jax.Array  # of the other; infinite if there is none


class _Survey(NamedTuple):
    """What the profiles of one parameter of all components show."""

    jump: _Jumps
    tried: jax.Array
    told: jax.Array  # components with another minimum, (M,)


def _compared(
    problem: _Problem, state: _State, z: jax.Array, converged: jax.Array
) -> tuple[jax.Array, _Minima]:
    """Whether the lower of a new minimum and that known has converged, and both."""
    first = state.number == 0
    gain = difference(problem.data, z, state.z)
    # What has converged is better, but not if it is known not to be the lowest.
    least = jnp.where(converged == state.converged, -0.1, jnp.where(converged, 1.0, -1.0)) * GAIN
    better = first | (gain < least)
    best, loser = jnp.where(better, z, state.z), jnp.where(better, state.z, z)
    known = ~first & converged & state.converged
    other = jnp.where(known, loser, jnp.where(first, best, state.other))
    height = jnp.where(known, jnp.abs(gain), jnp.inf)
    curvature = derivatives(problem.data, best, problem.barrier)[1].full
    alone = jnp.diagonal(curvature)
    errors = jnp.where(alone > 0, 1 / jnp.sqrt(jnp.abs(alone)), jnp.inf)
    covariance = covariance_of(problem.data, curvature, best, problem.free)
    minima = _Minima(best, other, covariance, errors, better, height)
    return jnp.where(better, converged, state.converged), minima


def _norm_of(data: JointData) -> np.ndarray:
    """Position of the norm that goes with each parameter, (Z,)."""
    own = 1 + data.n_shape
    backgrounds = data.nuisance_start + 2 * np.arange(data.n_nuisance)
    bins = np.repeat(np.arange(data.n_components) * own, own)
    return np.concatenate([bins, np.repeat(backgrounds, 2)])


def _apart(data: JointData, z: jax.Array, best: jax.Array, errors: jax.Array) -> jax.Array:
    """Whether shapes are apart by more than their errors, and their norms not zero; (Z,)."""
    apart = jnp.abs(z - best) > DISTINCT + errors
    norm = _norm_of(data)
    return shapes(data) & apart & (z[norm] != 0) & (best[norm] != 0)


def _profiles(problem: _Problem, minima: _Minima, before: _Profile) -> tuple[jax.Array, _Profile]:
    """A grid (K, M, A) of all parameters, and profiles at its nodes and at the other minimum.

    If a minimum is known to have been followed from a fit, those of the components that see most of
    how predictions have changed: of others they are known from there.
    """
    data, family = problem.data, family_of(problem.data)
    best = minima.best
    grid = grid_of(data, family, best)
    here = around(data, best, family, duals_of(data, best, problem.barrier))
    batches = batches_of(data, jnp.concatenate([nodes_of(grid), minima.other[family.shape][None]]))
    # On the grid only around a new minimum.
    first = jnp.where(minima.better, 0, len(batches) - 1)

    def found_of(data: JointData, here: list[Around], complete: Any) -> tuple[jax.Array, ...]:
        def at_values(values: jax.Array) -> tuple[jax.Array, ...]:
            x, *rises = profiled(data, best, problem.free, minima.covariance, here, family, values)
            return (x, *(jnp.where(complete, rise, jnp.inf) for rise in rises))

        def batch(k: jax.Array, found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            rows = jax.vmap(at_values)(batches[k])
            return jax.tree.map(lambda every, own: every.at[k].set(own), found, rows)

        return jax.lax.fori_loop(first, len(batches), batch, before.found)

    def of_all() -> tuple[jax.Array, ...]:
        return found_of(data, here, True)

    since = problem.before
    if since is None:
        found = of_all()
    else:
        found = jax.lax.cond(
            problem.known, lambda: found_of(*where_changed(data, here, since)), of_all
        )
    return grid, _Profile(found, before.tried & ~minima.better)


def _survey(
    minima: _Minima, family: Family, grid: jax.Array, profile: _Profile, a: int, highest: jax.Array
) -> _Survey:
    """Profiles of parameter ``a`` of all components, lowest by the others of the same one.

    Minima that are at most so high are worth another minimisation.
    """
    norms, heights, bounds = (own.reshape(-1, own.shape[-1]) for own in profile.found)
    old = profile.tried[a]
    k, m, n = grid.shape
    nodes = np.moveaxis(np.arange(k**n).reshape((k,) * n), a, 0).reshape(k, -1)
    low = jnp.argmin(heights[nodes], axis=1)
    on_grid = jnp.min(heights[nodes], axis=1)
    values, place = grid[..., a], family.shape[:, a]
    own = jnp.sum(values < minima.best[place][None], axis=0)
    elsewhere = other_minima(on_grid, own)
    improving = on_grid < -GAIN
    worth = jnp.where(improving, on_grid, elsewhere)
    worth = jnp.where(old | (worth > highest), jnp.inf, worth)
    at, every = jnp.argmin(worth, axis=0), np.arange(m)
    node = jnp.asarray(nodes)[at, low[at, every]]
    # Where the lowest of several values in a row does not improve, the others do not either.
    row = jnp.cumsum(~improving, axis=0)
    together = improving & improving[at, every][None] & (row == row[at, every][None])
    group = (jnp.arange(k)[:, None] == at[None]) | together
    ridge = ridge_to(values, on_grid, own, minima.other[place])
    return _Survey(
        jump=_Jumps(nodes_of(grid)[node, every], norms[node, every], worth[at, every], group),
        tried=old,
        told=(ridge > jnp.maximum(heights[-1], 0.0) + BETWEEN) & (bounds[-1] < NEAR),
    )


def _next_start(
    best: jax.Array, family: Family, surveys: list[_Survey]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the next minimisation starts, whether that is new, and what is tried (A, K, M)."""
    if not surveys:
        return best, jnp.asarray(False), jnp.zeros((0, 0, 0), bool)
    jumps = [survey.jump for survey in surveys]
    lowest = jnp.min(jnp.stack([jump.height for jump in jumps]), axis=0)
    most = jnp.where(jnp.min(lowest) < -GAIN, -GAIN, jnp.inf)
    z, tried = best, []
    for survey in surveys:
        jump = survey.jump
        go = (jump.height < most) & (jump.height <= lowest)
        z = z.at[family.norm].set(jnp.where(go, jump.norm, z[family.norm]))
        z = z.at[family.shape].set(jnp.where(go[:, None], jump.shape, z[family.shape]))
        tried.append(survey.tried | (jump.group & go[None]))
    return z, jnp.isfinite(jnp.min(lowest)), jnp.stack(tried)


def _next_end(
    data: JointData, ends: Ends, minima: _Minima, converged: jax.Array
) -> tuple[jax.Array, jax.Array, Ends]:
    """The lowest end that may belong to another minimum, and others without it and its like."""
    best, other, errors = minima.best, minima.other, minima.errors

    def from_(z: jax.Array) -> jax.Array:
        return jax.vmap(lambda own: jnp.any(_apart(data, own, z, errors)))(ends.z)

    heights = jax.vmap(lambda own: difference(data, own, best))(ends.z)
    reached = converged & ~(from_(best) & from_(other)) & ~(heights < -GAIN)
    used = ends.used | reached | ~jnp.isfinite(heights)
    at = jnp.argmin(jnp.where(used, jnp.inf, heights))
    return ends.z[at], jnp.any(~used), Ends(ends.z, used | ~from_(ends.z[at]))


def _told(
    data: JointData, state: _State, minima: _Minima, profile: _Profile, surveys: list[_Survey]
) -> tuple[jax.Array, jax.Array]:
    """Of what has another minimum, at most a little higher: the lowest; otherwise NaN. Its height.

    Where many components have one each, all of them together are higher: their profiles tell.
    """
    apart, norm = _apart(data, minima.other, minima.best, minima.errors), _norm_of(data)
    # All parameters of a component or background.
    apart = jnp.zeros_like(apart).at[norm].max(apart)[norm]
    near = jnp.where(minima.better, jnp.nan, state.near)
    height = jnp.where(minima.better, jnp.inf, state.height)
    alone = ~jnp.isfinite(height) & (jnp.sum(apart & (np.arange(norm.size) == norm)) > 1)
    if surveys:
        family = family_of(data)
        told = jnp.any(jnp.stack([survey.told for survey in surveys]), axis=0) & alone
        near = near.at[family.norm].set(
            jnp.where(told, profile.found[0][-1, -1], near[family.norm])
        )
        shape = jnp.where(told[:, None], minima.other[family.shape], near[family.shape])
        near = near.at[family.shape].set(shape)
    lower = jnp.any(apart) & (minima.height < jnp.minimum(height, NEAR))
    found = jnp.where(apart, minima.other, jnp.nan)
    return jnp.where(lower, found, near), jnp.where(lower, minima.height, height)


def _first_state(problem: _Problem, start: jax.Array) -> _State:
    """Before the first minimisation."""
    data, no = problem.data, jnp.asarray(False)
    heights, tried = jnp.zeros((0, 0), start.dtype), jnp.zeros((0, 0, 0), bool)
    if data.n_shape:
        grid = grid_of(data, family_of(data), start)
        heights = jnp.zeros(batches_of(data, nodes_of(grid), 1).shape[:-1], start.dtype)
        tried = jnp.zeros((grid.shape[2], *grid.shape[:2]), bool)
    low, ends = descended(data, start, problem.free, problem.several & ~problem.known)
    is_low = jnp.all(ends.z == low[None], axis=1) & jnp.any(low != start)
    return _State(
        z=start,
        converged=no,
        begin=start,
        other=start,
        near=jnp.full_like(start, jnp.nan),
        height=jnp.asarray(jnp.inf, start.dtype),
        profile=_Profile((heights,) * 3, tried),
        number=jnp.asarray(0),
        ends=Ends(ends.z, ends.used & ~is_low),
        done=no,
    )


def _round(problem: _Problem, state: _State) -> _State:
    """A minimisation, what is told of it, and where the next one begins."""
    data, free, known = problem.data, problem.free, problem.known
    first = state.number == 0
    z, arrived = jax.lax.cond(
        known & first,
        lambda: (state.begin, known),
        lambda: minimise(data, state.begin, free, problem.barrier, problem.inside),
    )
    converged, minima = _compared(problem, state, z, arrived)
    profile, surveys, family = state.profile, [], family_of(data)
    if data.n_shape:
        grid, profile = _profiles(problem, minima, profile)
        worth = jnp.where(known, -GAIN, HIGH)
        surveys = [_survey(minima, family, grid, profile, a, worth) for a in range(data.n_shape)]
    near, height = _told(data, state, minima, profile, surveys)
    begin, onwards, tried = _next_start(minima.best, family, surveys)
    end, more, without = _next_end(data, state.ends, minima, converged)
    begin = jnp.where(onwards, begin, end)
    return _State(
        z=minima.best,
        converged=converged,
        begin=begin,
        other=minima.other,
        near=near,
        height=height,
        profile=profile._replace(tried=tried),
        number=state.number + 1,
        ends=jax.tree.map(lambda a, b: jnp.where(onwards, a, b), state.ends, without),
        done=~problem.several | ~(onwards | (more & ~known)),
    )


def lowest(
    data: JointData,
    start: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    inside: jax.Array,
    known: bool | jax.Array = False,
    best: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The lowest minimum of the statistic and penalty that is found.

    Parameters
    ----------
    data, start, free, barrier, inside
        As for `minimise`.
    known : array of bool
        Whether the start is a minimum that the lowest one has been followed to. Then it is left
        only where profiles show that something is lower.
    best : array, shape (Z,), optional
        Where that was followed from; only profiles that differ from those there are evaluated then.

    Returns
    -------
    z, converged
        As of `minimise`.
    other : array, shape (Z,)
        The lowest other minimum that is less than one higher: parameters of the components and
        backgrounds whose shapes differ there by more than their errors, NaN for all others. Where
        many components have one each, so that all together are higher: those of each alone.
    """
    if is_linear(data):
        return *minimise(data, start, free, barrier, inside), jnp.full_like(start, jnp.nan)
    counted = with_counted_norms(data, free)
    # What is found has no derivatives, nor has where the search begins.
    start, inside = jax.tree.map(jax.lax.stop_gradient, (start, inside))
    start, inside = (to_counts(data, counted, z) for z in (start, inside))
    before = None if best is None else to_counts(data, counted, best)
    problem = _Problem(counted, free, barrier, inside, jnp.asarray(known), before)
    state = _first_state(problem, start)
    rounds = jnp.where(problem.known, KNOWN_ROUNDS, ROUNDS)
    state = jax.lax.while_loop(
        lambda own: ~own.done & (own.number < rounds),
        lambda own: _round(problem, own),
        state,
    )
    near = jnp.where(jnp.isnan(state.near), state.z, state.near)
    has = has_flux(data, counted, state.z) & has_flux(data, counted, near)
    told = jnp.isfinite(state.near) & has[_norm_of(data)]
    z, near = (to_fluxes(data, counted, own) for own in (state.z, near))
    return z, state.converged, jnp.where(told, near, jnp.nan)
