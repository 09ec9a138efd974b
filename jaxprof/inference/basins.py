"""The lowest of several minima, where spectral parameters or tilts of backgrounds are free.

With these the statistic of a joint fit is not convex: a minimisation ends in the basin that it
starts in. But with such a parameter and all other components held, it is convex in the one norm
that belongs to it. So this profile is evaluated on a grid over the range of each parameter, for all
components at once; the fit starts again from the minima that it shows elsewhere (from all of
them together, the improving ones first), and the lowest is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.inference.interior_point import STEPS, minimise
from jaxprof.inference.newton_step import is_linear
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import (
    Barrier,
    axis_of,
    bin_derivatives,
    bin_differences,
    coefficients,
    derivatives,
    difference,
    predictions,
    slopes,
)
from jaxprof.solvers.linear import factor_solve, scaled_factor

HALF = 6
"""Grid points on either side of a parameter's start."""
REACH = 5.0
"""Range of parameters without bounds."""
ROUNDS = 5
"""Most minimisations."""
HIGH = 5.0
"""How high a minimum of a spectral profile may be for a fit to start there."""
FAR = 20.0
"""How high the curvature at the minimum tells what other parameters do."""
GAIN = 1e-3
"""Least fall of the statistic that is worth another minimisation."""
BETWEEN = 0.02
"""How far the statistic rises between two minima, at least."""
NEAR = 1.0
"""How high another minimum is at most to be told."""
DISTINCT = 0.1
"""Besides one standard deviation, how far apart parameters of two minima are at least."""
ITERATIONS = 12
"""Of the search for a norm."""


Block = JointBlock | JointOnOffBlock


class _Family(NamedTuple):
    """A parameter of all components, or of all backgrounds: positions of it and its norm, (M,).

    And of all parameters of the same component or background, (M, O).
    """

    shape: np.ndarray
    norm: np.ndarray
    own: np.ndarray
    background: bool


def _families(data: JointData) -> list[_Family]:
    own, begin = 1 + data.n_shape, data.nuisance_start
    norms = np.arange(data.n_components) * own
    found = [
        _Family(norms + a, norms, norms[:, None] + np.arange(own), False) for a in range(1, own)
    ]
    if data.n_nuisance:
        norms = begin + 2 * np.arange(data.n_nuisance)
        found.append(_Family(norms + 1, norms, norms[:, None] + np.arange(2), True))
    return found


def _grid(data: JointData, family: _Family) -> jax.Array:
    """Values (K, M) over the ranges: even near the start, geometric far from it."""
    start = data.start[family.shape]

    def side(bound: jax.Array) -> jax.Array:
        reach = jnp.where(jnp.isfinite(bound), jnp.abs(bound - start), REACH)
        parts = jnp.arange(1, HALF + 1, dtype=start.dtype) / HALF
        return jnp.sinh(parts[:, None] * jnp.arcsinh(reach)[None])

    low, high = side(data.lower[family.shape]), side(data.upper[family.shape])
    return jnp.concatenate([start[None] - low[::-1], start[None], start[None] + high])


def _rows(
    data: JointData, z: jax.Array, family: _Family, values: jax.Array
) -> list[tuple[jax.Array, jax.Array]]:
    """Predictions (N, L, S) for norms of one, and to which members (N, L) they belong."""
    found = []
    if family.background:
        for block in data.blocks:
            row = jnp.zeros_like(block.offset)
            if isinstance(block, JointBlock):
                row = jnp.exp(-values[block.dataset] * block.log_energy) * block.background
            found.append((row[:, None], jnp.full((len(row), 1), block.dataset)))
        return found
    unit = z.at[family.norm].set(1.0).at[family.shape].set(values)
    for block in data.blocks:
        phi = coefficients(data, unit, axis_of(data, block))[block.components]
        found.append((jnp.einsum("nkq,nkqs->nks", phi, block.templates), block.components))
    return found


def _covariance(data: JointData, z: jax.Array, free: jax.Array, barrier: Barrier) -> jax.Array:
    """Inverse of the curvature (Z, Z) of half the statistic; zero where there is none."""
    bounded = (z <= data.lower) | (z >= data.upper)
    factor = scaled_factor(derivatives(data, z, barrier)[1].full, free & ~bounded)
    inverse = jax.vmap(lambda y: factor_solve(factor, y))(jnp.eye(z.size, dtype=z.dtype))
    used = free & ~bounded & jnp.all(jnp.isfinite(inverse))
    return jnp.where(used[:, None] & used[None, :], inverse, 0.0)


def _gained(covariance: jax.Array, slope: jax.Array, own: np.ndarray) -> jax.Array:
    """What a slope (Z,) lets the statistic fall by while some parameters (O,) are held."""
    slope = slope.at[own].set(0.0)
    step = covariance @ slope
    held = covariance[own][:, own]
    held = held + jnp.diag(jnp.where(jnp.diagonal(held) > 0, 0.0, 1.0))
    return jnp.maximum(slope @ step - step[own] @ jnp.linalg.solve(held, step[own]), 0.0)


def _profiled(
    data: JointData,
    z: jax.Array,
    free: jax.Array,
    covariance: jax.Array,
    family: _Family,
    values: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Best norm and rise of the statistic of each member with its parameter at a value; (M,) each.

    The norm is found with everything else held at ``z``; how much the statistic falls if that is
    optimised too is taken from the curvature there.
    """
    n, s = family.norm, family.shape
    here = predictions(data, z)
    old, new = _rows(data, z, family, z[s]), _rows(data, z, family, values)
    parts = []
    low, high = data.lower[n], data.upper[n]
    least, most = jnp.full(n.shape, jnp.inf), jnp.full(n.shape, -jnp.inf)
    signal, total = jnp.zeros(n.shape), jnp.zeros(n.shape)
    for block, mu, (row0, at), (row, _) in zip(data.blocks, here, old, new, strict=True):
        base = mu[:, None] - z[n][at][..., None] * row0
        parts.append((block, mu, base, row, at))
        reached = block.mask[:, None] & (row > 0)
        safe = jnp.where(reached, row, 1.0)
        if isinstance(block, JointOnOffBlock):
            excess = block.n_on - block.alpha * block.n_off
        else:
            excess = block.counts
            ends = jnp.where(reached, -base / safe, -jnp.inf)
            low = low.at[at].max(jnp.max(ends, axis=-1))
        own = (excess[:, None] - base) / safe
        signal = signal.at[at].add(jnp.sum(jnp.where(reached, row, 0.0), axis=-1))
        total = total.at[at].add(jnp.sum(jnp.where(reached, excess[:, None] - base, 0.0), axis=-1))
        least = least.at[at].min(jnp.min(jnp.where(reached, own, jnp.inf), axis=-1))
        most = most.at[at].max(jnp.max(jnp.where(reached, own, -jnp.inf), axis=-1))
    low = jnp.clip(least, low, high)
    high = jnp.clip(most, low, high)
    pull = data.precision @ (z - data.penalty_start)
    step = values - z[s]

    def nearer(_: int, carry: tuple) -> tuple:
        x, low, high = carry
        score, curvature = jnp.zeros_like(x), jnp.zeros_like(x)
        for block, _mu, base, row, at in parts:
            npred = base + x[at][..., None] * row
            one, two = jax.vmap(
                lambda own, b=block: bin_derivatives(b, own, jnp.zeros_like(own))[:2], 1, 1
            )(npred)
            score = score.at[at].add(jnp.sum(one * row, axis=-1))
            curvature = curvature.at[at].add(jnp.sum(two * row**2, axis=-1))
        # The score is nearly that of a single bin, a constant minus one over the distance from a
        # pole: in such a step the root of that is exact. Not if there is a penalty.
        part = jnp.where(data.precision[n, n] > 0, 1.0, (signal - score) / signal)
        score += pull[n] + data.precision[n, n] * (x - z[n]) + data.precision[n, s] * step
        curvature += data.precision[n, n]
        low, high = jnp.where(score < 0, x, low), jnp.where(score < 0, high, x)
        new = x - part * score / jnp.where(curvature > 0, curvature, 1.0)
        inside = (curvature > 0) & (new > low) & (new < high)
        return jnp.where(inside, new, 0.5 * (low + high)), low, high

    signal = jnp.where(signal > 0, signal, 1.0)
    guess = jnp.clip(total / signal, low, high)
    x, _, _ = jax.lax.fori_loop(0, ITERATIONS, nearer, (guess, low, high))
    x = jnp.where(free[n] & jnp.isfinite(x), x, z[n])
    change = x - z[n]
    height = (2 * pull[n] + data.precision[n, n] * change) * change
    height += (2 * pull[s] + data.precision[s, s] * step + 2 * data.precision[n, s] * change) * step
    pulled = data.precision[n] * change[:, None] + data.precision[s] * step[:, None]
    for (block, mu, base, row, at), (rows, where) in zip(parts, slopes(data, z), strict=True):
        npred = base + x[at][..., None] * row

        def score_of(own: jax.Array, b: Block = block) -> jax.Array:
            return bin_derivatives(b, own, jnp.zeros_like(own))[0]

        terms = jax.vmap(lambda own, b=block, m=mu: bin_differences(b, own, m), 1, 1)(npred)
        height = height.at[at].add(jnp.sum(terms, axis=-1))
        scores = jax.vmap(score_of, 1, 1)(npred) - score_of(mu)[:, None]
        local = jnp.einsum("nls,nms->nlm", scores, rows)
        pulled = pulled.at[at[:, :, None], where[:, None, :]].add(local)
    gained = jax.vmap(lambda slope, own: _gained(covariance, slope, own))(pulled, family.own)
    # Far from the minimum its curvature tells nothing.
    height -= jnp.where(height < FAR, jnp.minimum(gained, height + NEAR), 0.0)
    return x, jnp.where(free[s] & jnp.isfinite(height), height, jnp.inf)


class _State(NamedTuple):
    z: jax.Array  # the lowest minimum
    converged: jax.Array
    begin: jax.Array  # where the next minimisation starts
    other: jax.Array  # the last minimum that was higher
    near: jax.Array  # of what is another minimum, at most a little higher; otherwise NaN
    tried: tuple[jax.Array, ...]  # minima of the profiles that were starts, (K, M)
    number: jax.Array
    done: jax.Array


class _Jumps(NamedTuple):
    """Where members may go: (M,) each."""

    shape: jax.Array
    norm: jax.Array
    height: jax.Array
    position: jax.Array  # on the grid


def _taken(heights: jax.Array, norms: jax.Array, values: jax.Array) -> _Jumps:
    at = jnp.argmin(heights, axis=0)[None]
    shape, norm, height = (jnp.take_along_axis(a, at, 0)[0] for a in (values, norms, heights))
    return _Jumps(shape, norm, height, at[0])


def _other_minima(heights: jax.Array, own: jax.Array) -> jax.Array:
    """Rises (K, M) of minima apart from that at position ``own`` (M,); infinite elsewhere."""
    number = jnp.arange(len(heights))[:, None]
    above, below = number > own[None], number < own[None]
    up = jax.lax.cummax(jnp.where(above, heights, 0.0))
    down = jax.lax.cummax(jnp.where(below, heights, 0.0), reverse=True)
    ridge = jnp.where(above, up, down)
    padded = jnp.pad(heights, ((1, 1), (0, 0)), constant_values=jnp.inf)
    lowest = (heights <= padded[:-2]) & (heights <= padded[2:])
    return jnp.where(lowest & (ridge > heights + BETWEEN), heights, jnp.inf)


def _ridge(grid: jax.Array, heights: jax.Array, own: jax.Array, value: jax.Array) -> jax.Array:
    """Most of the profiles between position ``own`` on the grid and a value; (M,)."""
    number = jnp.arange(len(grid))[:, None]
    place = jnp.sum(grid <= value[None], axis=0) - 0.5
    between = (number > jnp.minimum(own, place)[None]) & (number < jnp.maximum(own, place)[None])
    return jnp.max(jnp.where(between, heights, -jnp.inf), axis=0)


def _put(
    data: JointData, z: jax.Array, families: list[_Family], jumps: list[_Jumps], most: jax.Array
) -> jax.Array:
    """The point with jumps that are lower than a height; of each norm the lowest."""
    lowest = jnp.full(z.shape, most)
    for family, jump in zip(families, jumps, strict=True):
        lowest = lowest.at[family.norm].min(jump.height)
    for family, jump in zip(families, jumps, strict=True):
        go = (jump.height < most) & (jump.height <= lowest[family.norm])
        for at, value in ((family.norm, jump.norm), (family.shape, jump.shape)):
            z = z.at[at].set(jnp.where(go, value, z[at]))
    return z


def lowest(
    data: JointData,
    start: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    inside: jax.Array,
    most: int | jax.Array = STEPS,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The lowest minimum of the statistic and penalty that is found.

    Parameters
    ----------
    data, start, free, barrier, inside, most
        As for `minimise`.

    Returns
    -------
    z, converged
        As of `minimise`.
    other : array, shape (Z,)
        Of components and backgrounds with another minimum, less than one higher: their parameters
        there. NaN for all others.
    """
    none = jnp.full_like(start, jnp.nan)
    if is_linear(data):
        return *minimise(data, start, free, barrier, inside, most), none
    families = _families(data)
    grids = [_grid(data, family) for family in families]
    several = jnp.any(jnp.stack([jnp.any(free[family.shape]) for family in families]))

    def body(state: _State) -> _State:
        z, converged = minimise(data, state.begin, free, barrier, inside, most)
        first = state.number == 0
        gain = difference(data, z, state.z)
        better = first | (converged & (~state.converged | (gain < -0.1 * GAIN)))
        best, loser = jnp.where(better, z, state.z), jnp.where(better, state.z, z)
        known = ~first & converged & state.converged
        other = jnp.where(known, loser, jnp.where(first, best, state.other))
        covariance = _covariance(data, best, free, barrier)
        near = jnp.where(better, none, state.near)
        close = known & (jnp.abs(gain) < NEAR)
        tried, improving, elsewhere = [], [], []
        for family, grid, old in zip(families, grids, state.tried, strict=True):
            values = jnp.concatenate([grid, other[family.shape][None]])
            norms, heights = jax.lax.map(
                lambda v, f=family: _profiled(data, best, free, covariance, f, v), values
            )
            improving.append(_taken(heights, norms, values))
            here, on_grid = best[family.shape], heights[:-1]
            own = jnp.sum(grid <= here[None], axis=0) - 0.5
            minima = _other_minima(on_grid, own)
            old = old & ~better
            limit = jnp.inf if family.background else HIGH
            jump = _taken(jnp.where(old | (minima > limit), jnp.inf, minima), norms, values)
            elsewhere.append(jump)
            chosen = jnp.arange(len(grid))[:, None] == jump.position[None]
            tried.append(old | (chosen & jnp.isfinite(jump.height)[None]))
            apart = _ridge(grid, on_grid, own, values[-1]) > jnp.maximum(heights[-1], 0.0) + BETWEEN
            # Where others take part, only both minima themselves tell.
            moved = jnp.abs(values[-1] - here) > DISTINCT + jnp.sqrt(
                jnp.diagonal(covariance)[family.shape]
            )
            flat = (other[family.norm] == 0) | (best[family.norm] == 0)
            told = (apart & (heights[-1] < NEAR)) | (close & moved & ~flat)
            for at, value in ((family.norm, norms[-1]), (family.shape, values[-1])):
                near = near.at[at].set(jnp.where(told, value, near[at]))
        gains = jnp.stack([jnp.min(jump.height) for jump in improving])
        improves = jnp.any(gains < -GAIN)
        onwards = improves | jnp.any(
            jnp.stack([jnp.any(jnp.isfinite(jump.height)) for jump in elsewhere])
        )
        begin = jnp.where(
            improves,
            _put(data, best, families, improving, jnp.asarray(-GAIN, z.dtype)),
            _put(data, best, families, elsewhere, jnp.asarray(jnp.inf, z.dtype)),
        )
        return _State(
            z=best,
            converged=jnp.where(better, converged, state.converged),
            begin=begin,
            other=other,
            near=near,
            tried=tuple(tried),
            number=state.number + 1,
            done=~several | ~onwards | (most == 0),
        )

    state = _State(
        z=start,
        converged=jnp.asarray(False),
        begin=start,
        other=start,
        near=none,
        tried=tuple(jnp.zeros(grid.shape, bool) for grid in grids),
        number=jnp.asarray(0),
        done=jnp.asarray(False),
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.number < ROUNDS), body, state)
    return state.z, state.converged, state.near
