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

    ``scales`` has shape (N, S) for each block. For On-Off data, of which the profiled rates are
    never negative, it rounds the statistic off: without ON or OFF counts this has straight pieces
    and kinks.
    """

    width: jax.Array
    scales: tuple[jax.Array, ...]


def coefficients(data: JointData, z: jax.Array, dataset: int = 0) -> jax.Array:
    """Coefficients of the templates of a data set, shape (C, Q)."""
    if data.spectra is None:
        return _component_values(data, z)
    return jax.vmap(lambda p, c: _component(data, p, c, dataset))(
        _component_values(data, z), jnp.arange(data.n_components)
    )


def _axis_of(data: JointData, block: JointBlock | JointOnOffBlock) -> int:
    """Data set whose true energies the coefficients of a block count; one for all without them."""
    return 0 if data.spectra is None else block.dataset


def _component_values(data: JointData, z: jax.Array) -> jax.Array:
    return z[: data.nuisance_start].reshape(data.n_components, 1 + data.n_shape)


def _component(data: JointData, values: jax.Array, index: jax.Array, dataset: int) -> jax.Array:
    """Coefficients (Q,) of one component from its norm and its spectral parameters."""
    spectra = data.spectra
    n_free = jax.tree.leaves(spectra.models)[0].shape[0]
    at = jnp.minimum(index, n_free - 1)
    model = jax.tree.map(lambda leaf: leaf[at], spectra.models)
    changed = model.replace(**dict(zip(spectra.names, values[1:], strict=True)))
    low, high = spectra.group_edges
    edges, fixed_flux = spectra.edges[dataset], spectra.fixed_flux[dataset]
    flux = changed.integral(edges[:-1], edges[1:])
    flux = flux * (model.integral(low, high) / changed.integral(low, high))
    if fixed_flux.shape[0]:
        other = fixed_flux[jnp.maximum(index - n_free, 0)]
        flux = jnp.where(index < n_free, flux, other)
    return values[0] * flux


def signals(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """Predicted counts of all components, (N, S) for each block."""
    phi = {axis: coefficients(data, z, axis) for axis in _axes(data)}
    return tuple(
        jnp.einsum("nkq,nkqs->ns", phi[_axis_of(data, block)][block.components], block.templates)
        for block in data.blocks
    )


def _axes(data: JointData) -> list[int]:
    """All values of `_axis_of`."""
    return sorted({_axis_of(data, block) for block in data.blocks})


def summed_signals(data: JointData, z: jax.Array) -> jax.Array:
    """Counts that each component predicts, over all unmasked slots; (C,)."""
    total = jnp.zeros(data.n_components, z.dtype)
    for block in data.blocks:
        phi = coefficients(data, z, _axis_of(data, block))
        sums = jnp.einsum("nkqs,ns->nkq", block.templates, block.mask.astype(z.dtype))
        total = total.at[block.components].add(jnp.sum(sums * phi[block.components], axis=-1))
    return total


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
            n_on, n_off = _rounded_off(block, barrier.width * scale)
            terms = 0.5 * statistics.wstat(n_on, n_off, block.alpha, npred)
        else:
            counts = block.counts + jnp.where(block.counts > 0, 0.0, barrier.width * scale)
            positive = npred > 0
            terms = npred - counts * jnp.log(jnp.where(positive, npred, 1.0))
            terms = jnp.where(positive, terms, jnp.inf)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total


def _rounded_off(block: JointOnOffBlock, added: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ON and OFF counts with a little of them where there are none."""
    on, off = block.n_on, block.n_off
    return jnp.where(on > 0, on, added), jnp.where(off > 0, off, added / block.alpha)


def barrier_scales(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """What the barrier is relative to: the predictions at ``z``, (N, S) for each block."""
    scales = []
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            npred = jnp.abs(npred) + block.alpha * block.n_off
        scales.append(jnp.maximum(npred, 0.0))
    return tuple(scales)


def _slot_derivatives(
    block: JointBlock | JointOnOffBlock,
    npred: jax.Array,
    scale: jax.Array,
    width: jax.Array,
    bend: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First and second derivative of half the statistic by the prediction of a slot.

    The first is that behind a barrier of the one width, the second of the other. The third array is
    the part of the second derivative that comes from the barrier.
    """
    if isinstance(block, JointOnOffBlock):
        ones = jnp.ones_like(npred)

        def derivatives_of(n_on: jax.Array, n_off: jax.Array) -> tuple[jax.Array, jax.Array]:
            def score_at(signal: jax.Array) -> jax.Array:
                return statistics.wstat_score(n_on, n_off, block.alpha, ones, signal)

            return jax.jvp(score_at, (npred,), (ones,))

        score, _ = derivatives_of(*_rounded_off(block, width * scale))
        _, curvature = derivatives_of(*_rounded_off(block, bend * scale))
        _, bare = derivatives_of(block.n_on, block.n_off)
        parts = (score, curvature, jnp.maximum(curvature - bare, 0.0))
        score, curvature, wall = (jnp.where(block.mask, part, 0.0) for part in parts)
        return score, curvature, wall
    positive = npred > 0
    safe = jnp.where(positive, npred, 1.0)
    empty = block.mask & ~(block.counts > 0)
    ratio = jnp.where(positive, (block.counts + jnp.where(empty, width * scale, 0.0)) / safe, 0.0)
    score = jnp.where(block.mask, 1.0 - ratio, 0.0)
    wall = jnp.where(empty & positive, bend * scale / safe**2, 0.0)
    seen = jnp.where(block.mask & positive, block.counts / safe**2, 0.0)
    return score, seen + wall, wall


def _gather(data: JointData, per_tile: jax.Array, block: JointBlock) -> jax.Array:
    """Sum values (N, K, ...) of the components of each tile into (C, ...)."""
    shape = (data.n_components, *per_tile.shape[2:])
    return jnp.zeros(shape, per_tile.dtype).at[block.components].add(per_tile)


def gradient(data: JointData, z: jax.Array, barrier: Barrier) -> jax.Array:
    """Gradient of `objective`, shape (Z,)."""
    return _derivatives(data, z, barrier, with_hessian=False)[0]


class Curvature(NamedTuple):
    """Second derivatives of `objective`: ``full``, and ``gauss`` without those of the model.

    ``bare`` is ``full`` without the barrier, ``expected`` is ``gauss`` without it, and ``barrier``
    the diagonal of what comes from it.
    """

    full: jax.Array
    gauss: jax.Array
    bare: jax.Array
    expected: jax.Array
    barrier: jax.Array


def derivatives(
    data: JointData, z: jax.Array, barrier: Barrier, bend: jax.Array | None = None
) -> tuple[jax.Array, Curvature]:
    """Gradient (Z,) and second derivatives (Z, Z) of `objective`.

    The second derivatives may be those of a barrier of another width, ``bend``.
    """
    first, curvature = _derivatives(data, z, barrier, bend, with_hessian=True)
    assert curvature is not None
    return first, curvature


def _derivatives(
    data: JointData,
    z: jax.Array,
    barrier: Barrier,
    bend: jax.Array | None = None,
    *,
    with_hessian: bool,
) -> tuple[jax.Array, Curvature | None]:
    n_own = 1 + data.n_shape
    values, indices = _component_values(data, z), jnp.arange(data.n_components)

    def by_component(derivative: Callable, axis: int) -> jax.Array:
        function = derivative(lambda p, c: _component(data, p, c, axis))
        return jax.vmap(function)(values, indices)

    # (C, Q, own parameters): derivatives of the coefficients.
    if data.spectra is None:
        slopes = {0: jnp.ones((data.n_components, 1, 1), z.dtype)}
    else:
        slopes = {axis: by_component(jax.jacfwd, axis) for axis in _axes(data)}
    projected = {axis: jnp.zeros(own.shape[:2], z.dtype) for axis, own in slopes.items()}
    first = data.precision @ (z - data.penalty_start)
    gauss = bare = data.precision
    second = jnp.zeros_like(gauss)
    walls = jnp.zeros_like(z)
    npreds = predictions(data, z)
    mu_backgrounds = backgrounds(data, z)
    for number, (block, npred, scale) in enumerate(
        zip(data.blocks, npreds, barrier.scales, strict=True)
    ):
        width = barrier.width
        score, curvature, wall = _slot_derivatives(
            block, npred, scale, width, width if bend is None else bend
        )
        axis = _axis_of(data, block)
        on_tile = jnp.einsum("ns,nkqs->nkq", score, block.templates)
        projected[axis] = projected[axis] + _gather(data, on_tile, block)
        where = block.components[:, :, None] * n_own + jnp.arange(n_own)[None, None]
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
            rows = jnp.einsum("nkqa,nkqs->nkas", slopes[axis][block.components], block.templates)
            rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
        if nuisance:
            rows = jnp.concatenate([rows, per_norm[:, None], per_tilt[:, None]], axis=1)
            both = jnp.broadcast_to(at + jnp.arange(2), (len(where), 2))
            where = jnp.concatenate([where, both], axis=1)
            cross = jnp.sum(score * -block.log_energy * per_norm)
            second = second.at[at, at + 1].add(cross).at[at + 1, at].add(cross)
            twice = jnp.sum(score * -block.log_energy * per_tilt)
            second = second.at[at + 1, at + 1].add(twice)
        pairs = (where[:, :, None], where[:, None, :])
        local = jnp.einsum("nks,nls->nkl", rows * curvature[:, None], rows)
        gauss = gauss.at[pairs].add(local)
        local = jnp.einsum("nks,nls->nkl", rows * (curvature - wall)[:, None], rows)
        bare = bare.at[pairs].add(local)
        walls = walls.at[where].add(jnp.einsum("nks,ns->nk", rows**2, wall))
    for axis, own in slopes.items():
        own_gradient = jnp.einsum("cqa,cq->ca", own, projected[axis]).reshape(-1)
        first = first.at[: data.nuisance_start].add(own_gradient)
    if not with_hessian:
        return first, None
    if data.spectra is not None:
        where = (indices[:, None] * n_own + jnp.arange(n_own)[None])[:, :, None]
        for axis in slopes:
            bends = by_component(jax.hessian, axis)
            own_second = jnp.einsum("cqab,cq->cab", bends, projected[axis])
            second = second.at[where, where.swapaxes(1, 2)].add(own_second)
    return first, Curvature(gauss + second, gauss, bare + second, bare, walls)


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
