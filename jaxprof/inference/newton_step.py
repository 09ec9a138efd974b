"""A Newton step of the interior-point method: slacks and dual variables towards their targets.

See `interior_point` for the equations. Slacks and dual variables are eliminated, so that only the
parameters' own equations are solved. Vectors of slacks, dual variables and their steps (L,) are as
`constraints` has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.constraints import (
    PerConstraint,
    in_statistic,
    joined,
    of_bins,
    parts,
    used,
)
from jaxprof.likelihood.joint_data import JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import (
    Slopes,
    changes,
    model_curvature,
    predictions,
    projected,
    slopes,
    squared,
)
from jaxprof.solvers.linear import factor_solve, scaled_factor

REACH = 1.0
"""Longest step of spectral parameters and of the background's tilt."""
APART = 1e10
"""How far slack times dual variable may be from what it is to be."""


class Point(NamedTuple):
    """Parameters (Z,), slacks and dual variables of the constraints, and primal residuals."""

    z: jax.Array
    slacks: jax.Array
    duals: jax.Array
    residuals: jax.Array  # predictions minus slacks


class System(NamedTuple):
    """Newton's equations at a point, without slacks and dual variables."""

    point: Point
    model: tuple[Slopes, ...]  # derivatives of the predictions
    free: jax.Array  # parameters that vary
    active: jax.Array  # constraints in the way of these
    ratios: jax.Array  # dual variables over slacks
    matrix: jax.Array  # curvature (Z, Z)
    factor: tuple  # of the matrix


class Step(NamedTuple):
    """Changes of parameters, slacks and dual variables; what the first of these gain."""

    z: jax.Array
    slacks: jax.Array
    duals: jax.Array
    decrement: jax.Array  # twice what the step gains, if the statistic were a parabola
    slope: jax.Array  # of half the statistic with respect to all parameters


def residuals_of(data: JointData, z: jax.Array, slacks: jax.Array) -> jax.Array:
    """How far predictions are above their slacks; zero for the other constraints."""
    own = parts(data, slacks)
    pairs = zip(data.blocks, predictions(data, z), own.on, own.off, strict=True)
    return of_bins(
        data,
        tuple(
            (npred if off is None else npred + block.alpha * off) - on
            for block, npred, on, off in pairs
        ),
    )


def shapes(data: JointData) -> jax.Array:
    """Parameters (Z,) that predictions are not straight in: no norms, no backgrounds' norms."""
    found = jnp.ones(data.start.size, bool).at[data.norm_index].set(False)
    return found.at[data.nuisance_start :: 2].set(False)


def is_linear(data: JointData) -> bool:
    """Whether predictions are straight in all parameters."""
    return data.spectra is None and not data.n_nuisance


def constraints_of(data: JointData, z: jax.Array, free: jax.Array) -> jax.Array:
    """Constraints in the way of free parameters: no predictions that no free norm reaches."""
    every = used(data, free)
    reached = changes(slopes(data, z), (free & ~shapes(data)).astype(z.dtype))
    triples = zip(data.blocks, every.on, reached, strict=True)
    on = tuple(u & ((r > 0) | isinstance(b, JointOnOffBlock)) for b, u, r in triples)
    return joined(every._replace(on=on))


def put_onto_bounds(
    data: JointData, point: Point, on_bound: jax.Array, free: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Residuals after some parameters were put onto their bounds, and the constraints left.

    What norms on a bound of zero predicted alone stays exactly zero, and is no constraint any more.
    """
    shift = of_bins(data, changes(slopes(data, point.z), on_bound - point.z))
    return point.residuals + shift, constraints_of(data, point.z, free)


def _curvature_of(
    data: JointData,
    point: Point,
    model: tuple[Slopes, ...],
    ratios: jax.Array,
    free: jax.Array,
) -> jax.Array:
    """The curvature (Z, Z) that a Newton step takes."""
    own, duals = parts(data, ratios), parts(data, point.duals)
    weights = []
    for block, on, off in zip(data.blocks, own.on, own.off, strict=True):
        if isinstance(block, JointOnOffBlock):
            on = on * off / _rate_curvature(block, on, off)
        weights.append(jnp.where(block.mask, on, 0.0))
    matrix = squared(data, model, tuple(weights)) + jnp.diag(own.low + own.high)
    if not is_linear(data):
        pairs = zip(data.blocks, duals.on, strict=True)
        pulls = tuple(jnp.where(block.mask, 1.0 - dual, 0.0) for block, dual in pairs)
        slope = projected(data, point.z, model, pulls) + duals.high - duals.low
        # Parameters of shapes go one reach a step at most; close to the minimum, where the
        # slope vanishes, this does not hinder.
        matrix = matrix + jnp.diag(jnp.where(shapes(data), jnp.abs(slope) / REACH, 0.0))
        full = matrix + model_curvature(data, model, pulls)
        # Away from the minimum the curvature of a model that is not linear may be negative.
        good = jnp.all(jnp.isfinite(scaled_factor(full, free)[0]))
        matrix = jnp.where(good, full, matrix)
    return matrix


def _rate_curvature(block: JointOnOffBlock, on: jax.Array, off: jax.Array) -> jax.Array:
    """Curvature with respect to the rate of the background of On-Off data."""
    return jnp.where(block.mask, block.alpha**2 * on + off, 1.0)


def system_at(
    data: JointData, point: Point, free: jax.Array, active: jax.Array, factored: Callable
) -> System:
    """Newton's equations at a point; ``factored`` of a matrix and what is free gives a factor."""
    ratios = jnp.where(active, point.duals / point.slacks, 0.0)
    model = slopes(data, point.z, second=not is_linear(data))
    matrix = _curvature_of(data, point, model, ratios, free)
    return System(point, model, free, active, ratios, matrix, factored(matrix, free))


def direction(data: JointData, system: System, target: jax.Array) -> Step:
    """The step towards the targets."""
    point, ratios = system.point, system.ratios
    barrier = target / point.slacks
    score = jnp.where(in_statistic(data), 1.0, 0.0) - barrier + ratios * point.residuals
    own, curvature = parts(data, score), parts(data, ratios)
    scores, missed = [], parts(data, point.residuals)
    ons, offs = [], []
    for number, block in enumerate(data.blocks):
        on, off = own.on[number], None
        residual = missed.on[number]
        if isinstance(block, JointOnOffBlock):
            # The rates are eliminated.
            k, alone = curvature.on[number], curvature.off[number]
            off = -(block.alpha * on + own.off[number]) / _rate_curvature(block, k, alone)
            on, residual = on + block.alpha * k * off, residual + block.alpha * off
        scores.append(jnp.where(block.mask, on, 0.0))
        ons.append(residual)
        offs.append(off)
    slope = projected(data, point.z, system.model, tuple(scores)) + own.low - own.high
    down = jnp.where(system.free, -slope, 0.0)
    step = jnp.where(system.free, factor_solve(system.factor, down), 0.0)
    alone = joined(PerConstraint(tuple(ons), tuple(offs), missed.low, missed.high))
    of_slacks = jnp.where(system.active, alone, 0.0) + of_parameters(data, system, step)
    of_duals = jnp.where(system.active, barrier - point.duals, 0.0) - ratios * of_slacks
    return Step(step, of_slacks, of_duals, jnp.sum(step * down), slope)


def of_parameters(data: JointData, system: System, step: jax.Array) -> jax.Array:
    """What a step of the parameters changes of the slacks, with the rates that go with it."""
    curvature = parts(data, system.ratios)
    ons, offs = [], []
    for number, (block, change) in enumerate(
        zip(data.blocks, changes(system.model, step), strict=True)
    ):
        off = None
        if isinstance(block, JointOnOffBlock):
            k, alone = curvature.on[number], curvature.off[number]
            off = -block.alpha * k * change / _rate_curvature(block, k, alone)
            change = change + block.alpha * off
        ons.append(change)
        offs.append(off)
    found = joined(PerConstraint(tuple(ons), tuple(offs), step, -step))
    return jnp.where(system.active, found, 0.0)


def moved_duals(
    duals: jax.Array, step: jax.Array, target: jax.Array, slacks: jax.Array
) -> jax.Array:
    """Dual variables after a step, not too far from what goes with the new slacks."""
    aim = target / slacks
    return jnp.clip(duals + step, aim / APART, aim * APART)


def arrivals(
    data: JointData, point: Point, active: jax.Array, unit: jax.Array, done: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Parameters that become active at a bound once a search is done, and all put there.

    Slack times dual variable is about the width of the barrier: one of them is small.
    """
    low, high = (
        done & constraint & (dual * unit**2 > slack)
        for constraint, dual, slack in zip(
            *(parts(data, each)[2:] for each in (active, point.duals, point.slacks)), strict=True
        )
    )
    return low | high, jnp.where(low, data.lower, jnp.where(high, data.upper, point.z))
