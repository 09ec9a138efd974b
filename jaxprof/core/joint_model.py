"""The statistic of a joint fit, its gradient and its curvature, as functions of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import statistics
from .joint_data import JointBlock, JointData, JointOnOffBlock


class Barrier(NamedTuple):
    """What keeps predictions positive where there are no counts: ``width`` times ``scales`` counts.

    ``scales`` has shape (N, S) for each block.
    """

    width: jax.Array
    scales: tuple[jax.Array, ...]


def coefficients(data: JointData, z: jax.Array) -> jax.Array:
    """Coefficients of the templates, shape (C, Q)."""
    if data.spectra is None:
        return _component_values(data, z)
    return jax.vmap(lambda p, c: _component(data, p, c))(
        _component_values(data, z), jnp.arange(data.n_components)
    )


def _component_values(data: JointData, z: jax.Array) -> jax.Array:
    return z[: data.nuisance_start].reshape(data.n_components, 1 + data.n_shape)


def _component(data: JointData, values: jax.Array, index: jax.Array) -> jax.Array:
    """Coefficients (Q,) of one component from its norm and its spectral parameters."""
    spectra = data.spectra
    n_free = jax.tree.leaves(spectra.models)[0].shape[0]
    at = jnp.minimum(index, n_free - 1)
    model = jax.tree.map(lambda leaf: leaf[at], spectra.models)
    changed = model.replace(**dict(zip(spectra.names, values[1:], strict=True)))
    low, high = spectra.group_edges
    flux = changed.integral(spectra.edges[:-1], spectra.edges[1:])
    flux = flux * (model.integral(low, high) / changed.integral(low, high))
    if spectra.fixed_flux.shape[0]:
        other = spectra.fixed_flux[jnp.maximum(index - n_free, 0)]
        flux = jnp.where(index < n_free, flux, other)
    return values[0] * flux


def signals(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """Predicted counts of all components, (N, S) for each block."""
    phi = coefficients(data, z)
    return tuple(
        jnp.einsum("nkq,nkqs->ns", phi[block.components], block.templates) for block in data.blocks
    )


def _nuisance(data: JointData, z: jax.Array, dataset: int) -> tuple[jax.Array, jax.Array]:
    if not data.n_nuisance:
        return jnp.ones_like(z[0]), jnp.zeros_like(z[0])
    at = data.nuisance_start + 2 * dataset
    return z[at], z[at + 1]


def backgrounds(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """Predicted background of each block, (N, S); zero for On-Off data, which profile it."""
    found = []
    for block in data.blocks:
        if isinstance(block, JointOnOffBlock):
            found.append(jnp.zeros_like(block.offset))
        else:
            norm, tilt = _nuisance(data, z, block.dataset)
            found.append(norm * jnp.exp(-tilt * block.log_energy) * block.background)
    return tuple(found)


def predictions(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """Predicted counts (for On-Off data those of the signal), (N, S) for each block."""
    parts = zip(data.blocks, backgrounds(data, z), signals(data, z), strict=True)
    return tuple(background + block.offset + signal for block, background, signal in parts)


def _penalty(data: JointData, z: jax.Array) -> jax.Array:
    step = z - data.penalty_start
    return step @ data.precision @ step


def objective(data: JointData, z: jax.Array, barrier: Barrier) -> jax.Array:
    """Half the statistic and penalty, up to a constant; infinite outside the domain."""
    total = 0.5 * _penalty(data, z)
    parts = zip(data.blocks, predictions(data, z), barrier.scales, strict=True)
    for block, npred, scale in parts:
        if isinstance(block, JointOnOffBlock):
            terms = 0.5 * statistics.wstat(block.n_on, block.n_off, block.alpha, npred)
        else:
            counts = block.counts + jnp.where(block.counts > 0, 0.0, barrier.width * scale)
            positive = npred > 0
            terms = npred - counts * jnp.log(jnp.where(positive, npred, 1.0))
            terms = jnp.where(positive, terms, jnp.inf)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total


def _slot_derivatives(
    block: JointBlock | JointOnOffBlock, npred: jax.Array, scale: jax.Array, width: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First and second derivative of half the statistic by the prediction of a slot.

    The third array is the part of the second derivative that comes from the barrier.
    """
    if isinstance(block, JointOnOffBlock):

        def score_at(signal: jax.Array) -> jax.Array:
            ones = jnp.ones_like(signal)
            return statistics.wstat_score(block.n_on, block.n_off, block.alpha, ones, signal)

        score, curvature = jax.jvp(score_at, (npred,), (jnp.ones_like(npred),))
        zero = jnp.zeros_like(npred)
        return jnp.where(block.mask, score, 0.0), jnp.where(block.mask, curvature, 0.0), zero
    positive = npred > 0
    safe = jnp.where(positive, npred, 1.0)
    added = jnp.where(block.mask & ~(block.counts > 0), width * scale, 0.0)
    ratio = jnp.where(positive, (block.counts + added) / safe, 0.0)
    score = jnp.where(block.mask, 1.0 - ratio, 0.0)
    curvature = jnp.where(block.mask, ratio / safe, 0.0)
    return score, curvature, jnp.where(positive, added / safe**2, 0.0)


def _gather(data: JointData, per_tile: jax.Array, block: JointBlock) -> jax.Array:
    """Sum values (N, K, ...) of the components of each tile into (C, ...)."""
    shape = (data.n_components, *per_tile.shape[2:])
    return jnp.zeros(shape, per_tile.dtype).at[block.components].add(per_tile)


def gradient(data: JointData, z: jax.Array, barrier: Barrier) -> jax.Array:
    """Gradient of `objective`, shape (Z,)."""
    return _derivatives(data, z, barrier, with_hessian=False)[0]


class Curvature(NamedTuple):
    """Second derivatives of `objective`: ``full``, and ``gauss`` without those of the model.

    ``barrier`` is the diagonal of what comes from the barrier.
    """

    full: jax.Array
    gauss: jax.Array
    barrier: jax.Array


def derivatives(data: JointData, z: jax.Array, barrier: Barrier) -> tuple[jax.Array, Curvature]:
    """Gradient (Z,) and second derivatives (Z, Z) of `objective`."""
    first, curvature = _derivatives(data, z, barrier, with_hessian=True)
    assert curvature is not None
    return first, curvature


def _derivatives(
    data: JointData, z: jax.Array, barrier: Barrier, *, with_hessian: bool
) -> tuple[jax.Array, Curvature | None]:
    n_own = 1 + data.n_shape
    values, indices = _component_values(data, z), jnp.arange(data.n_components)

    def by_component(function: Callable) -> jax.Array:
        return jax.vmap(function)(values, indices)

    # (C, Q, own parameters): derivatives of the coefficients.
    if data.spectra is None:
        slopes = jnp.ones((data.n_components, 1, 1), z.dtype)
    else:
        slopes = by_component(jax.jacfwd(lambda p, c: _component(data, p, c)))
    projected = jnp.zeros(slopes.shape[:2], z.dtype)
    first = data.precision @ (z - data.penalty_start)
    gauss = data.precision
    second = jnp.zeros_like(gauss)
    walls = jnp.zeros_like(z)
    npreds = predictions(data, z)
    mu_backgrounds = backgrounds(data, z)
    for number, (block, npred, scale) in enumerate(
        zip(data.blocks, npreds, barrier.scales, strict=True)
    ):
        score, curvature, wall = _slot_derivatives(block, npred, scale, barrier.width)
        on_tile = jnp.einsum("ns,nkqs->nkq", score, block.templates)
        projected = projected + _gather(data, on_tile, block)
        own = jnp.arange(n_own)
        where = block.components[:, :, None] * n_own + own[None, None]
        where = where.reshape(len(block.components), -1)
        rows = None
        nuisance = data.n_nuisance > 0 and isinstance(block, JointBlock)
        if nuisance:
            at = data.nuisance_start + 2 * block.dataset
            _, tilt = _nuisance(data, z, block.dataset)
            per_norm = jnp.exp(-tilt * block.log_energy) * block.background
            per_tilt = -block.log_energy * mu_backgrounds[number]
            first = first.at[at].add(jnp.sum(score * per_norm))
            first = first.at[at + 1].add(jnp.sum(score * per_tilt))
        if not with_hessian:
            continue
        if data.spectra is None:
            rows = block.templates[:, :, 0]
        else:
            rows = jnp.einsum("nkqa,nkqs->nkas", slopes[block.components], block.templates)
            rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
        if nuisance:
            rows = jnp.concatenate([rows, per_norm[:, None], per_tilt[:, None]], axis=1)
            both = jnp.broadcast_to(at + jnp.arange(2), (len(where), 2))
            where = jnp.concatenate([where, both], axis=1)
            cross = jnp.sum(score * -block.log_energy * per_norm)
            second = second.at[at, at + 1].add(cross).at[at + 1, at].add(cross)
            twice = jnp.sum(score * -block.log_energy * per_tilt)
            second = second.at[at + 1, at + 1].add(twice)
        local = jnp.einsum("nks,nls->nkl", rows * curvature[:, None], rows)
        gauss = gauss.at[where[:, :, None], where[:, None, :]].add(local)
        walls = walls.at[where].add(jnp.einsum("nks,ns->nk", rows**2, wall))
    own_gradient = jnp.einsum("cqa,cq->ca", slopes, projected).reshape(-1)
    first = first.at[: data.nuisance_start].add(own_gradient)
    if not with_hessian:
        return first, None
    if data.spectra is not None:
        twice_by = by_component(jax.hessian(lambda p, c: _component(data, p, c)))
        own_second = jnp.einsum("cqab,cq->cab", twice_by, projected)
        where = (indices[:, None] * n_own + jnp.arange(n_own)[None])[:, :, None]
        second = second.at[where, where.swapaxes(1, 2)].add(own_second)
    return first, Curvature(gauss + second, gauss, walls)


def stat(data: JointData, z: jax.Array) -> jax.Array:
    """Fit statistic without the penalty: the sum of cash or wstat over the unmasked slots."""
    total = jnp.zeros_like(z[0])
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            terms = statistics.wstat(block.n_on, block.n_off, block.alpha, npred)
        else:
            terms = statistics.cash(block.counts, npred)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total


def difference(data: JointData, z: jax.Array, z0: jax.Array) -> jax.Array:
    """Statistic and penalty at ``z`` minus those at ``z0``, without cancellation."""
    step = z - z0
    total = step @ data.precision @ (z + z0 - 2 * data.penalty_start)
    for block, at, at0 in zip(
        data.blocks, predictions(data, z), predictions(data, z0), strict=True
    ):
        one, zero = jnp.ones_like(at), jnp.zeros_like(at)
        if isinstance(block, JointOnOffBlock):
            terms = statistics.wstat_difference(block.n_on, block.n_off, block.alpha, one, at, at0)
        else:
            terms = statistics.cash_difference(block.counts, at0, at - at0, one, zero)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total
