"""Profiles of the spectral parameters of a component, with its norm optimised.

With these and all other components held, the statistic of a joint fit is convex in that norm. So
these profiles are evaluated for all components at once.

Where others are at constraints, predictions of empty counts bins that must not be negative, these
would not let a norm go anywhere. So predictions of empty counts bins may be negative here, at the
price that constraints have at the minimum: their dual variables (the Lagrangian; Boyd &
Vandenberghe 2004, Convex Optimization, section 5.1).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.inference.descents import LARGE, is_large
from jaxprof.inference.norm_search import Block, Family, Part, best_norm
from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.joint_model import (
    Barrier,
    Slopes,
    axis_of,
    bin_derivatives,
    bin_differences,
    coefficients,
    predictions,
    slopes,
)
from jaxprof.likelihood.true_energies import template_index
from jaxprof.solvers.linear import factor_solve, scaled_factor

HALF = (6, 10, 2), (6, 4, 2)
"""Grid points on either side of a parameter's start, where one, two or more are free, in small and
in large problems. Spectra that rise to both ends have minima that are narrow in two parameters."""
TOGETHER = 32
"""Nodes of the grid that are evaluated side by side, at most."""
REACH = 5.0
"""Range of parameters without bounds."""
FAR = 20.0
"""How high the curvature at the minimum tells what other parameters do."""
NEAR = 1.0
"""How high another minimum is at most to be told."""
BETWEEN = 0.02
"""How far the statistic rises between two minima, at least."""
PART = 4
"""Of so many templates one is evaluated around minima that have been followed from the fit."""
FEW = 64
"""Templates that are all evaluated."""
ROUNDING = 1e-9
"""Counts that a prediction may be below zero by rounding."""


def family_of(data: JointData) -> Family:
    """The spectral parameters, which the statistic need not be convex in."""
    norms = np.arange(data.n_components) * (1 + data.n_shape)
    return Family(norms[:, None] + np.arange(1, 1 + data.n_shape), norms)


def grid_of(data: JointData, family: Family, z: jax.Array) -> jax.Array:
    """Values (K, M, A) over the ranges, those of a point among them.

    Even near the start, geometric far from it.
    """
    start = data.start[family.shape]
    half = HALF[is_large(data)][min(data.n_shape, 3) - 1]

    def side(bound: jax.Array) -> jax.Array:
        reach = jnp.where(jnp.isfinite(bound), jnp.abs(bound - start), REACH)
        parts = jnp.arange(1, half + 1, dtype=start.dtype) / half
        return jnp.sinh(parts[:, None, None] * jnp.arcsinh(reach)[None])

    low, high = side(data.lower[family.shape]), side(data.upper[family.shape])
    values = jnp.stack([start, z[family.shape]])
    return jnp.sort(jnp.concatenate([start[None] - low, values, start[None] + high]), axis=0)


def nodes_of(grid: jax.Array) -> jax.Array:
    """Values of the parameters at all nodes of a grid (K, M, A); (K^A, M, A)."""
    of_each = np.indices((len(grid),) * grid.shape[2]).reshape(grid.shape[2], -1)
    return jnp.stack([grid[at, :, a] for a, at in enumerate(of_each)], axis=2)


def batches_of(data: JointData, values: jax.Array, more: int = 0) -> jax.Array:
    """Values (N, M, A), of which the last fill up, in batches of so many as go side by side.

    Of small problems that is quicker. There may be room for some more.
    """
    elements = sum(block.templates.size for block in data.blocks)
    size = max(1, min(TOGETHER, LARGE // max(1, elements)))
    missing = -(len(values) + more) % size + more
    filled = jnp.concatenate([values, jnp.repeat(values[-1:], missing, axis=0)])
    return filled.reshape(-1, size, *values.shape[1:])


def other_minima(heights: jax.Array, own: jax.Array) -> jax.Array:
    """Rises (K, M) of minima apart from that at position ``own`` (M,); infinite elsewhere."""
    number = jnp.arange(len(heights))[:, None]
    above, below = number > own[None], number < own[None]
    up = jax.lax.cummax(jnp.where(above, heights, 0.0))
    down = jax.lax.cummax(jnp.where(below, heights, 0.0), reverse=True)
    ridge = jnp.where(above, up, down)
    padded = jnp.pad(heights, ((1, 1), (0, 0)), constant_values=jnp.inf)
    lowest = (heights <= padded[:-2]) & (heights <= padded[2:])
    return jnp.where(lowest & (ridge > heights + BETWEEN), heights, jnp.inf)


def ridge_to(grid: jax.Array, heights: jax.Array, own: jax.Array, value: jax.Array) -> jax.Array:
    """Most of the profiles between position ``own`` on the grid and a value; (M,)."""
    number = jnp.arange(len(grid))[:, None]
    place = jnp.sum(grid <= value[None], axis=0) - 0.5
    between = (number > jnp.minimum(own, place)[None]) & (number < jnp.maximum(own, place)[None])
    return jnp.max(jnp.where(between, heights, -jnp.inf), axis=0)


def covariance_of(
    data: JointData, curvature: jax.Array, z: jax.Array, free: jax.Array
) -> jax.Array:
    """Inverse of the curvature (Z, Z) of half the statistic at z; zero where there is none."""
    bounded = (z <= data.lower) | (z >= data.upper)
    factor = scaled_factor(curvature, free & ~bounded)
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


def duals_of(data: JointData, z: jax.Array, barrier: Barrier) -> tuple[jax.Array, ...]:
    """Dual variables of empty counts bins at a minimum behind a barrier, (N, S) for each block."""
    found = []
    for block, npred, scale in zip(data.blocks, predictions(data, z), barrier.scales, strict=True):
        if isinstance(block, JointBlock):
            empty = block.mask & ~(block.counts > 0) & (npred > 0)
            dual = barrier.width * scale / jnp.where(empty, npred, 1.0)
            found.append(jnp.where(empty, dual, 0.0))
        else:
            found.append(jnp.zeros_like(npred))
    return tuple(found)


class Around(NamedTuple):
    """A block at the point that profiles are around.

    With its predictions (N, S) there, the first derivatives (N, S) of half the statistic by these,
    the dual variables (N, S), the predictions without each component (N, L, S), and the derivatives
    of predictions.
    """

    npred: jax.Array
    first: jax.Array
    dual: jax.Array
    base: jax.Array
    model: Slopes


def _of_norms(data: JointData, block: Block, model: Slopes) -> jax.Array:
    """Predictions (N, L, S) of the components at norms of one."""
    return model.rows[:, : block.components.shape[1] * (1 + data.n_shape) : 1 + data.n_shape]


def around(
    data: JointData, z: jax.Array, family: Family, duals: tuple[jax.Array, ...] | None = None
) -> list[Around]:
    """What all profiles around a point have in common; ``duals`` are what `duals_of` gives."""
    found = []
    parts = zip(data.blocks, predictions(data, z), slopes(data, z), strict=True)
    for number, (block, npred, model) in enumerate(parts):
        dual = jnp.zeros_like(npred) if duals is None else duals[number]
        first = bin_derivatives(block, npred, jnp.zeros_like(npred))[0] - dual
        at = block.components
        base = npred[:, None] - z[family.norm][at][..., None] * _of_norms(data, block, model)
        found.append(Around(npred, first, dual, base, model))
    return found


def where_changed(
    data: JointData, here: list[Around], before: jax.Array
) -> tuple[JointData, list[Around], jax.Array]:
    """The components that see most of how predictions have changed.

    Parameters
    ----------
    data : JointData
        The problem.
    here : list of Around
        What `around` gives at a point.
    before : array, shape (Z,)
        Another point.

    Returns
    -------
    data : JointData
        With one template in each row of counts bins, as few as one in `PART` of all templates.
    here : list of Around
        The same, of these rows.
    complete : array of bool, shape (C,)
        Components all of whose templates are among them.
    """
    components = [block.components for block in data.blocks]
    signals = [
        jnp.where(block.mask[:, None], _of_norms(data, block, own.model), 0.0)
        for block, own in zip(data.blocks, here, strict=True)
    ]
    change, total = jnp.zeros((2, data.n_components), before.dtype)
    for own, at, old, row in zip(here, components, predictions(data, before), signals, strict=True):
        size = jnp.abs(own.npred) + jnp.abs(old)
        squared = (own.npred - old) ** 2 / jnp.where(size > 0, size, 1.0)
        change = change.at[at].add(jnp.sum(row * squared[:, None], axis=-1))
        total = total.at[at].add(jnp.sum(row, axis=-1))
    rank = jnp.argsort(jnp.argsort(-change / jnp.where(total > 0, total, 1.0)))
    blocks, around_, complete = [], [], jnp.ones(data.n_components, bool)
    for block, own, at, row in zip(data.blocks, here, components, signals, strict=True):
        of_each = jnp.where(jnp.any(row > 0, axis=-1), rank[at], data.n_components).ravel()
        number = max(of_each.size // PART, min(FEW, of_each.size))
        order = jnp.argsort(of_each)
        n, k = order[:number] // at.shape[1], order[:number] % at.shape[1]
        if number < of_each.size:
            complete = complete & (rank < of_each[order[number]])
        own_rows = {name: part[n] if np.ndim(part) else part for name, part in vars(block).items()}
        one = {"templates": block.templates[n, k][:, None], "components": at[n, k][:, None]}
        blocks.append(type(block)(**{**own_rows, **one}))
        model = Slopes(own.model.rows[n], own.model.at[n])
        of_bins = own.npred[n], own.first[n], own.dual[n]
        around_.append(Around(*of_bins, own.base[n, k][:, None], model))
    return JointData(**{**vars(data), "blocks": tuple(blocks)}), around_, complete


def _parts(
    data: JointData, z: jax.Array, here: list[Around], family: Family, values: jax.Array
) -> list[Part]:
    unit = z.at[family.norm].set(1.0).at[family.shape].set(values)
    found = []
    for block, own in zip(data.blocks, here, strict=True):
        phi = coefficients(data, unit, axis_of(data, block))[template_index(block)]
        row = jnp.einsum("nkq,nkqs->nks", phi, block.templates)
        found.append(Part(block, own.dual, own.base, row, block.components))
    return found


def profiled(
    data: JointData,
    z: jax.Array,
    free: jax.Array,
    covariance: jax.Array,
    here: list[Around],
    family: Family,
    values: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Best norms and rises of the statistic with the spectral parameters of one component changed.

    Each norm is found with everything else held; how much the statistic falls if that is optimised
    too is taken from the curvature.

    Parameters
    ----------
    data : JointData
        The problem.
    z : array, shape (Z,)
        Where everything else is held: a minimum.
    free : array of bool, shape (Z,)
        Parameters that vary.
    covariance : array, shape (Z, Z)
        What `covariance_of` gives there.
    here : list of Around
        What `around` gives there, with dual variables.
    family : Family
        The parameters of M components.
    values : array, shape (M, A)
        Values of the parameters of each component.

    Returns
    -------
    norms : array, shape (M,)
        The best norms.
    heights : array, shape (M,)
        Rises of the statistic above that at ``z``; infinite where what is held would change.
    bounds : array, shape (M,)
        The same with everything else held: no minimum is higher. Infinite where a prediction of an
        empty counts bin is negative.
    """
    n, s = family.norm, family.shape
    parts = _parts(data, z, here, family, values)
    x = best_norm(data, z, family, values, parts)
    x = jnp.where(free[n] & jnp.isfinite(x), x, z[n])
    step = jnp.concatenate([(x - z[n])[:, None], values - z[s]], axis=1)
    pulled = jnp.einsum("mo,moz->mz", step, data.precision[family.own])
    pull = 2 * (data.precision @ (z - data.penalty_start))[None] + pulled
    height = jnp.sum(jnp.take_along_axis(pull, family.own, axis=1) * step, axis=1)
    priced, inside = jnp.zeros_like(height), jnp.ones(height.shape, bool)
    for part, own in zip(parts, here, strict=True):
        block, mu, at = part.block, own.npred, part.at
        differences = jax.vmap(lambda npred, b=block, m=mu: bin_differences(b, npred, m), 1, 1)
        npred = part.with_norms(x)
        height = height.at[at].add(jnp.sum(differences(npred), axis=-1))
        if isinstance(block, JointBlock):
            below = jnp.where(block.mask[:, None], jnp.minimum(npred, 0.0), 0.0)
            # The statistic counts nothing of them.
            price = jnp.sum((1.0 - part.dual)[:, None] * below, axis=-1)
            priced = priced.at[at].add(2.0 * price)
            inside = inside.at[at].min(jnp.all(below >= -ROUNDING, axis=-1))
        scores = part.derivatives_at(x)[0] - own.first[:, None]
        local = jnp.einsum("nls,nms->nlm", scores, own.model.rows)
        pulled = pulled.at[at[:, :, None], own.model.at[:, None, :]].add(local)
    gained = jax.vmap(lambda slope, own: _gained(covariance, slope, own))(pulled, family.own)
    bounds, height = height, height + priced
    # Far from the minimum its curvature tells nothing.
    gained = jnp.where(height < FAR, jnp.clip(height + NEAR, 0.0, gained), 0.0)
    varies = jnp.all(free[s] | (values == z[s]), axis=1) & jnp.isfinite(height)
    heights = jnp.where(varies, height - gained, jnp.inf)
    return x, heights, jnp.where(varies & inside, bounds, jnp.inf)
