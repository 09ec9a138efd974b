"""A Newton step of the interior-point method: levels and forces towards their targets.

See `interior_point` for the equations. Levels and forces are eliminated, so that only the
parameters' own equations are solved.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import Walls, each, used
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import PerSlot, bent, predictions, projected, squared
from jaxprof.solvers.linear import factor_solve, scaled_factor, sure_factor

REACH = 1.0
"""Longest step of spectral parameters and of the background's tilt."""


class Point(NamedTuple):
    """Parameters (Z,), levels and forces of the walls, and what predictions are above levels."""

    z: jax.Array
    levels: Walls
    forces: Walls
    gaps: PerSlot  # predictions minus levels


class Step(NamedTuple):
    """Changes of parameters, levels and forces; what the first of these gain."""

    z: jax.Array
    levels: Walls
    forces: Walls
    decrement: jax.Array  # twice what the step gains, if the statistic were a parabola


def gaps_of(data: JointData, z: jax.Array, levels: Walls) -> PerSlot:
    """How far predictions are above their levels."""
    parts = zip(data.blocks, predictions(data, z), levels.on, levels.off, strict=True)
    return tuple(
        jnp.where(block.mask, (npred if off is None else npred + block.alpha * off) - on, 0.0)
        for block, npred, on, off in parts
    )


class _Local(NamedTuple):
    """Newton's equations of the slots of a block, without the levels and forces."""

    score: jax.Array  # what the parameters feel
    curvature: jax.Array
    off: Any  # for On-Off data, the same of the background's rate


def eliminated(data: JointData, point: Point, target: Walls, stiff: Walls) -> list[_Local]:
    """What is left of the slots' equations for the parameters, block by block."""
    found = []
    for number, block in enumerate(data.blocks):
        curvature, off = stiff.on[number], None
        score = 1.0 - target.on[number] / point.levels.on[number]
        score = score + curvature * point.gaps[number]
        if isinstance(block, JointOnOffBlock):
            on, alone = curvature, stiff.off[number]
            own = block.alpha * score + 1.0 - target.off[number] / point.levels.off[number]
            whole = jnp.where(block.mask, block.alpha**2 * on + alone, 1.0)
            score = score - block.alpha * on * own / whole
            curvature, off = on * alone / whole, (own, whole)
        used_score = jnp.where(block.mask, score, 0.0)
        found.append(_Local(used_score, jnp.where(block.mask, curvature, 0.0), off))
    return found


def _of_levels(
    data: JointData, point: Point, stiff: Walls, local: list[_Local], step: jax.Array
) -> Walls:
    """Steps of the levels for one of the parameters."""
    _, changes = jax.jvp(lambda z: predictions(data, z), (point.z,), (step,))
    ons, offs = [], []
    for number, (block, change) in enumerate(zip(data.blocks, changes, strict=True)):
        off = None
        if isinstance(block, JointOnOffBlock):
            own, whole = local[number].off
            off = -(own + block.alpha * stiff.on[number] * change) / whole
            change = change + block.alpha * off
        ons.append(change + point.gaps[number])
        offs.append(off)
    return Walls(tuple(ons), tuple(offs), step, -step)


def shapes(data: JointData) -> jax.Array:
    """Parameters (Z,) that predictions are not straight in: no norms, no backgrounds' norms."""
    found = jnp.ones(data.start.size, bool).at[data.norm_index].set(False)
    return found.at[data.nuisance_start :: 2].set(False)


def is_linear(data: JointData) -> bool:
    """Whether predictions are straight in all parameters."""
    return data.spectra is None and not data.n_nuisance


def at_rest(
    data: JointData, z: jax.Array, put: jax.Array, gaps: PerSlot, free: jax.Array
) -> tuple[PerSlot, Walls]:
    """The gaps after some parameters were put onto their bounds, and the walls that are left.

    What norms at rest at zero predicted alone stays exactly zero: that is no wall any more.
    """
    walls = used(data, free)
    norms = (free & ~shapes(data)).astype(z.dtype)
    shift, reached = zip(
        *jax.vmap(lambda d: jax.jvp(lambda z: predictions(data, z), (z,), (d,))[1])(
            jnp.stack([put, norms])
        ),
        strict=True,
    )
    parts = zip(data.blocks, walls.on, reached, strict=True)
    plain = [u & ((r > 0) | isinstance(b, JointOnOffBlock)) for b, u, r in parts]
    moved = zip(data.blocks, gaps, shift, strict=True)
    new_gaps = tuple(jnp.where(b.mask, gap + s, 0.0) for b, gap, s in moved)
    return new_gaps, walls._replace(on=tuple(plain))


def factored(
    data: JointData,
    point: Point,
    stiff: Walls,
    local: list[_Local],
    free: jax.Array,
    ridge: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Factor of the curvature that a Newton step takes; ``ridge`` as for `sure_factor`."""
    forces, bounds = point.forces, jnp.diag(stiff.low + stiff.high)
    matrix = squared(data, point.z, tuple(one.curvature for one in local)) + bounds
    if not is_linear(data):
        pairs = zip(data.blocks, forces.on, strict=True)
        pulls = tuple(jnp.where(block.mask, 1.0 - force, 0.0) for block, force in pairs)
        slope = projected(data, point.z, pulls) + forces.high - forces.low
        # Parameters of shapes go one reach a step at most; close to the minimum, where the
        # slope vanishes, this does not hinder.
        matrix = matrix + jnp.diag(jnp.where(shapes(data), jnp.abs(slope) / REACH, 0.0))
        full = matrix + bent(data, point.z, pulls)
        # Away from the minimum the curvature of a model that is not linear may be negative.
        good = jnp.all(jnp.isfinite(scaled_factor(full, free)[0]))
        matrix = jnp.where(good, full, matrix)
    return sure_factor(matrix, free, ridge)


def direction(
    data: JointData,
    point: Point,
    stiff: Walls,
    target: Walls,
    factor: tuple,
    free: jax.Array,
    active: Walls,
) -> Step:
    """The step with a factor of the curvature."""
    local = eliminated(data, point, target, stiff)
    slope = projected(data, point.z, tuple(one.score for one in local))
    slope = slope - target.low / point.levels.low + target.high / point.levels.high
    slope = jnp.where(free, -slope, 0.0)
    step = jnp.where(free, factor_solve(factor, slope), 0.0)
    of_levels = _of_levels(data, point, stiff, local, step)
    of_levels = each(lambda u, s: jnp.where(u, s, 0.0), active, of_levels)
    of_forces = each(
        lambda u, c, t, f, k, s: jnp.where(u, c / t - f - k * s, 0.0),
        *(active, target, point.levels, point.forces, stiff, of_levels),
    )
    return Step(step, of_levels, of_forces, jnp.sum(step * slope))
