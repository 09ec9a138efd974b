"""A Newton step of the interior-point method: slacks and dual variables towards their targets.

See `interior_point` for the equations. Slacks and dual variables are eliminated, so that only the
parameters' own equations are solved.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import PerConstraint, each, used
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import PerBin, model_curvature, predictions, projected, squared
from jaxprof.solvers.linear import factor_solve, scaled_factor

REACH = 1.0
"""Longest step of spectral parameters and of the background's tilt."""


class Point(NamedTuple):
    """Parameters (Z,), slacks and dual variables of the constraints, and primal residuals."""

    z: jax.Array
    slacks: PerConstraint
    duals: PerConstraint
    residuals: PerBin  # predictions minus slacks


class Step(NamedTuple):
    """Changes of parameters, slacks and dual variables; what the first of these gain."""

    z: jax.Array
    slacks: PerConstraint
    duals: PerConstraint
    decrement: jax.Array  # twice what the step gains, if the statistic were a parabola
    slope: jax.Array  # of half the statistic with respect to all parameters


def residuals_of(data: JointData, z: jax.Array, slacks: PerConstraint) -> PerBin:
    """How far predictions are above their slacks."""
    parts = zip(data.blocks, predictions(data, z), slacks.on, slacks.off, strict=True)
    return tuple(
        jnp.where(block.mask, (npred if off is None else npred + block.alpha * off) - on, 0.0)
        for block, npred, on, off in parts
    )


class _Local(NamedTuple):
    """Newton's equations of the counts bins of a block, without the slacks and dual variables."""

    score: jax.Array  # what the parameters feel
    curvature: jax.Array
    off: Any  # for On-Off data, the same of the background's rate


def eliminated(
    data: JointData, point: Point, target: PerConstraint, ratios: PerConstraint
) -> list[_Local]:
    """What is left of the counts bins' equations for the parameters, block by block."""
    found = []
    for number, block in enumerate(data.blocks):
        curvature, off = ratios.on[number], None
        score = 1.0 - target.on[number] / point.slacks.on[number]
        score = score + curvature * point.residuals[number]
        if isinstance(block, JointOnOffBlock):
            on, alone = curvature, ratios.off[number]
            own = block.alpha * score + 1.0 - target.off[number] / point.slacks.off[number]
            whole = jnp.where(block.mask, block.alpha**2 * on + alone, 1.0)
            score = score - block.alpha * on * own / whole
            curvature, off = on * alone / whole, (own, whole)
        used_score = jnp.where(block.mask, score, 0.0)
        found.append(_Local(used_score, jnp.where(block.mask, curvature, 0.0), off))
    return found


def _of_slacks(
    data: JointData, point: Point, ratios: PerConstraint, local: list[_Local], step: jax.Array
) -> PerConstraint:
    """Steps of the slacks for one of the parameters."""
    _, changes = jax.jvp(lambda z: predictions(data, z), (point.z,), (step,))
    ons, offs = [], []
    for number, (block, change) in enumerate(zip(data.blocks, changes, strict=True)):
        off = None
        if isinstance(block, JointOnOffBlock):
            own, whole = local[number].off
            off = -(own + block.alpha * ratios.on[number] * change) / whole
            change = change + block.alpha * off
        ons.append(change + point.residuals[number])
        offs.append(off)
    return PerConstraint(tuple(ons), tuple(offs), step, -step)


def shapes(data: JointData) -> jax.Array:
    """Parameters (Z,) that predictions are not straight in: no norms, no backgrounds' norms."""
    found = jnp.ones(data.start.size, bool).at[data.norm_index].set(False)
    return found.at[data.nuisance_start :: 2].set(False)


def is_linear(data: JointData) -> bool:
    """Whether predictions are straight in all parameters."""
    return data.spectra is None and not data.n_nuisance


def put_onto_bounds(
    data: JointData, z: jax.Array, put: jax.Array, residuals: PerBin, free: jax.Array
) -> tuple[PerBin, PerConstraint]:
    """Residuals after some parameters were put onto their bounds, and the constraints left.

    What norms on a bound of zero predicted alone stays exactly zero, and is no constraint any more.
    """
    constraints = used(data, free)
    norms = (free & ~shapes(data)).astype(z.dtype)
    shift, reached = zip(
        *jax.vmap(lambda d: jax.jvp(lambda z: predictions(data, z), (z,), (d,))[1])(
            jnp.stack([put, norms])
        ),
        strict=True,
    )
    parts = zip(data.blocks, constraints.on, reached, strict=True)
    plain = [u & ((r > 0) | isinstance(b, JointOnOffBlock)) for b, u, r in parts]
    moved = zip(data.blocks, residuals, shift, strict=True)
    new_residuals = tuple(jnp.where(b.mask, residual + s, 0.0) for b, residual, s in moved)
    return new_residuals, constraints._replace(on=tuple(plain))


def curvature_of(
    data: JointData,
    point: Point,
    ratios: PerConstraint,
    local: list[_Local],
    free: jax.Array,
) -> jax.Array:
    """The curvature (Z, Z) that a Newton step takes."""
    duals, bounds = point.duals, jnp.diag(ratios.low + ratios.high)
    matrix = squared(data, point.z, tuple(one.curvature for one in local)) + bounds
    if not is_linear(data):
        pairs = zip(data.blocks, duals.on, strict=True)
        pulls = tuple(jnp.where(block.mask, 1.0 - dual, 0.0) for block, dual in pairs)
        slope = projected(data, point.z, pulls) + duals.high - duals.low
        # Parameters of shapes go one reach a step at most; close to the minimum, where the
        # slope vanishes, this does not hinder.
        matrix = matrix + jnp.diag(jnp.where(shapes(data), jnp.abs(slope) / REACH, 0.0))
        full = matrix + model_curvature(data, point.z, pulls)
        # Away from the minimum the curvature of a model that is not linear may be negative.
        good = jnp.all(jnp.isfinite(scaled_factor(full, free)[0]))
        matrix = jnp.where(good, full, matrix)
    return matrix


def direction(
    data: JointData,
    point: Point,
    ratios: PerConstraint,
    target: PerConstraint,
    factor: tuple,
    free: jax.Array,
    active: PerConstraint,
    given: jax.Array | None = None,
) -> Step:
    """The step with a factor of the curvature, or what goes with a ``given`` one of parameters."""
    local = eliminated(data, point, target, ratios)
    slope = projected(data, point.z, tuple(one.score for one in local))
    slope = slope - target.low / point.slacks.low + target.high / point.slacks.high
    down = jnp.where(free, -slope, 0.0)
    step = jnp.where(free, factor_solve(factor, down), 0.0) if given is None else given
    of_slacks = _of_slacks(data, point, ratios, local, step)
    of_slacks = each(lambda u, s: jnp.where(u, s, 0.0), active, of_slacks)
    of_duals = each(
        lambda u, c, t, f, k, s: jnp.where(u, c / t - f - k * s, 0.0),
        *(active, target, point.slacks, point.duals, ratios, of_slacks),
    )
    return Step(step, of_slacks, of_duals, jnp.sum(step * down), slope)
