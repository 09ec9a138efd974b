"""The statistic of a joint fit, its gradient and its curvature, as functions of the parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood import statistics
from jaxprof.likelihood.joint_data import FreeSpectra, JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.terms import Term
from jaxprof.likelihood.true_energies import template_index

SMALL = 0.01
"""Bins of fewer expected counts have the barrier of this many: lower ones are lost by rounding."""


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


def axis_of(data: JointData, block: Term) -> int:
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
    fixed_flux = spectra.fixed_flux[dataset]
    flux = spectra.flux(changed, dataset) * (
        _normalised(spectra, model, index) / _normalised(spectra, changed, index)
    )
    if fixed_flux.shape[0]:
        other = fixed_flux[jnp.maximum(index - n_free, 0)]
        flux = jnp.where(index < n_free, flux, other)
    if spectra.scale is not None:
        flux = flux * spectra.scale[index]
    return values[0] * flux


def _normalised(spectra: FreeSpectra, model: Any, index: jax.Array) -> jax.Array:
    """What the norm of a component multiplies: the flux in the energy group, or counts."""
    flux = model.flux_by(spectra.group_panels, *spectra.group_edges)
    if spectra.weights is None:
        return flux
    counted = sum(own[index] @ spectra.flux(model, d) for d, own in enumerate(spectra.weights))
    return jnp.where(counted > 0, counted, flux)


def signals(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """Predicted counts of all components, (N, S) for each block."""
    phi = {axis: coefficients(data, z, axis) for axis in _axes(data)}
    found = []
    for block in data.blocks:
        own = phi[axis_of(data, block)][template_index(block)]
        found.append(jnp.einsum("nkq,nkqs->ns", own, block.templates))
    return tuple(found)


def _axes(data: JointData) -> list[int]:
    """All values of `axis_of`."""
    return sorted({axis_of(data, block) for block in data.blocks})


def summed_signals(data: JointData, z: jax.Array) -> jax.Array:
    """Counts that each component predicts, over all unmasked counts bins; (C,)."""
    total = jnp.zeros(data.n_components, z.dtype)
    for block in data.blocks:
        phi = coefficients(data, z, axis_of(data, block))
        sums = jnp.einsum("nkqs,ns->nkq", block.templates, block.mask.astype(z.dtype))
        total = total.at[block.components].add(jnp.sum(sums * phi[template_index(block)], axis=-1))
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


def _rounded_off(block: JointOnOffBlock, added: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ON and OFF counts with a little of them where there are none."""
    on, off = block.n_on, block.n_off
    # Sums, so that the derivatives with respect to counts of zero are there.
    few_on, few_off = jnp.where(on > 0, 0.0, added), jnp.where(off > 0, 0.0, added / block.alpha)
    return on + few_on, off + few_off


def barrier_scales(data: JointData, z: jax.Array) -> tuple[jax.Array, ...]:
    """What the barrier is relative to: about the predictions at ``z``, (N, S) for each block."""
    scales = []
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            npred = jnp.abs(npred) + block.alpha * block.n_off
        scales.append(jnp.maximum(npred, SMALL))
    return tuple(scales)


def bin_derivatives(
    block: Term, npred: jax.Array, added: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First and second derivative of half the statistic by the prediction of a counts bin.

    The third array is the part of the second derivative that comes from the barrier, which adds so
    many counts where there are none.
    """
    if isinstance(block, JointOnOffBlock):
        ones = jnp.ones_like(npred)

        def derivatives_of(n_on: jax.Array, n_off: jax.Array) -> tuple[jax.Array, jax.Array]:
            def score_at(signal: jax.Array) -> jax.Array:
                return statistics.wstat_score(n_on, n_off, block.alpha, ones, signal)

            return jax.jvp(score_at, (npred,), (ones,))

        score, curvature = derivatives_of(*_rounded_off(block, added))
        _, bare = derivatives_of(block.n_on, block.n_off)
        parts = (score, curvature, jnp.maximum(curvature - bare, 0.0))
        score, curvature, constraint = (jnp.where(block.mask, part, 0.0) for part in parts)
        return score, curvature, constraint
    positive = npred > 0
    safe = jnp.where(positive, npred, 1.0)
    empty = block.mask & ~(block.counts > 0)
    ratio = jnp.where(positive, (block.counts + jnp.where(empty, added, 0.0)) / safe, 0.0)
    score = jnp.where(block.mask, 1.0 - ratio, 0.0)
    constraint = jnp.where(empty & positive, added / safe**2, 0.0)
    seen = jnp.where(block.mask & positive, block.counts / safe**2, 0.0)
    return score, seen + constraint, constraint


class Curvature(NamedTuple):
    """Second derivatives of half the statistic and penalty behind a barrier.

    ``full`` is all of it, ``bare`` that without the barrier, ``expected`` is ``bare`` without the
    second derivatives of the model, and ``barrier`` the diagonal of what comes from the barrier.
    """

    full: jax.Array
    bare: jax.Array
    expected: jax.Array
    barrier: jax.Array


def gradient(data: JointData, z: jax.Array, barrier: Barrier) -> jax.Array:
    """Gradient of half the statistic and penalty behind a barrier, shape (Z,)."""
    scores = tuple(score for score, _, _ in _all_bin_derivatives(data, z, barrier))
    return projected(data, z, slopes(data, z), scores)


def derivatives(data: JointData, z: jax.Array, barrier: Barrier) -> tuple[jax.Array, Curvature]:
    """Gradient (Z,) and second derivatives (Z, Z) of half the statistic behind a barrier."""
    terms, model = _all_bin_derivatives(data, z, barrier), slopes(data, z, second=True)
    scores = tuple(score for score, _, _ in terms)
    gauss = squared(data, model, tuple(curvature for _, curvature, _ in terms))
    expected = squared(data, model, tuple(curvature - barred for _, curvature, barred in terms))
    second = model_curvature(data, model, scores)
    of_barrier = jnp.zeros_like(z)
    for own, (_, _, barred) in zip(model, terms, strict=True):
        of_barrier = of_barrier.at[own.at].add(jnp.sum(own.rows**2 * barred[:, None], axis=2))
    curvature = Curvature(gauss + second, expected + second, expected, of_barrier)
    return projected(data, z, model, scores), curvature


def _all_bin_derivatives(data: JointData, z: jax.Array, barrier: Barrier) -> list[tuple]:
    parts = zip(data.blocks, predictions(data, z), barrier.scales, strict=True)
    return [bin_derivatives(block, npred, barrier.width * scale) for block, npred, scale in parts]


PerBin = tuple[jax.Array, ...]
"""A value for each counts bin, (N, S) for each block; zero for those not in use."""


class Slopes(NamedTuple):
    """Derivatives of the predictions of a block.

    The first ones ``rows`` (N, M, S) with respect to parameters ``at`` (N, M), and the second ones
    with respect to ``pairs`` (N, P, 2) of parameters, without those that are zero: those of the
    coefficients of templates, ``second`` (N, K, D, Q), the last ones being those of the background,
    ``tilted`` (N, 2, S) or None.
    """

    rows: jax.Array
    at: jax.Array
    second: Any = None
    pairs: Any = None
    tilted: Any = None


def slopes(data: JointData, z: jax.Array, second: bool = False) -> tuple[Slopes, ...]:
    """Derivatives of the predictions of each block; the second ones are None if not asked for."""
    found, units = [], {}
    for block in data.blocks:
        axis = axis_of(data, block)
        if axis not in units and data.spectra is not None:
            units[axis] = _unit_derivatives(data, z, axis, second)
        own = _of_components(data, z, block, units.get(axis))
        if data.n_nuisance and isinstance(block, JointBlock):
            other = _of_background(data, z, block)
            own = Slopes(
                rows=jnp.concatenate([own.rows, other.rows], axis=1),
                at=jnp.concatenate([own.at, other.at], axis=1),
                second=own.second,
                pairs=jnp.concatenate([own.pairs, other.pairs], axis=1),
                tilted=other.tilted,
            )
        found.append(own if second else Slopes(own.rows, own.at))
    return tuple(found)


def _unit_derivatives(data: JointData, z: jax.Array, axis: int, second: bool) -> jax.Array:
    """Coefficients (C, Q, F) at norms of one, and their spectral derivatives."""

    def of_one(shape: jax.Array, number: jax.Array) -> jax.Array:
        def unit(shape: jax.Array) -> jax.Array:
            values = jnp.concatenate([jnp.ones_like(z[:1]), shape])
            return _component(data, values, number, axis)

        found = [unit(shape)[:, None], jax.jacfwd(unit)(shape)]
        if second:
            one, two = np.triu_indices(shape.size)
            found.append(jax.hessian(unit)(shape)[:, one, two])
        return jnp.concatenate(found, axis=1)

    shape = _component_values(data, z)[:, 1:]
    return jax.vmap(of_one)(shape, jnp.arange(data.n_components))


def _of_components(
    data: JointData, z: jax.Array, block: JointBlock | JointOnOffBlock, units: Any
) -> Slopes:
    """Derivatives of the signal, which is linear in the norms, from those of its coefficients."""
    (n, n_bins), n_own = block.mask.shape, 1 + data.n_shape
    own = block.components[:, :, None] * n_own
    both = np.stack(np.triu_indices(n_own), axis=1)[1:]
    pairs = (own[..., None] + both[None, None]).reshape(n, -1, 2)
    if units is None:
        return Slopes(block.templates[:, :, 0], block.components, None, pairs)
    unit = jnp.swapaxes(units[template_index(block)], 2, 3)
    norm, first = z[own][..., None], unit[:, :, 1:n_own]
    # Of coefficients, which are far fewer than templates.
    rows = jnp.concatenate([unit[:, :, :1], norm * first], axis=2)
    second = jnp.concatenate([first, norm * unit[:, :, n_own:]], axis=2)
    rows = jnp.einsum("nkfq,nkqs->nkfs", rows, block.templates)
    at = (own + np.arange(n_own)[None, None]).reshape(n, -1)
    return Slopes(rows.reshape(n, -1, n_bins), at, second, pairs)


def _of_background(data: JointData, z: jax.Array, block: JointBlock) -> Slopes:
    """Derivatives of the background by its norm and its tilt."""
    norm, tilt = _nuisance(data, z, block.dataset)
    per_norm = jnp.exp(-tilt * block.log_energy) * block.background
    rows = jnp.stack([per_norm, -norm * block.log_energy * per_norm], axis=1)
    at = data.nuisance_start + 2 * block.dataset + jnp.arange(2)
    at = jnp.broadcast_to(at[None], (len(rows), 2))
    pairs = jnp.stack([at, jnp.broadcast_to(at[:, 1:], at.shape)], axis=2)
    tilted = -block.log_energy[:, None] * rows
    return Slopes(rows, at, pairs=pairs, tilted=tilted)


def projected(
    data: JointData, z: jax.Array, model: tuple[Slopes, ...], values: PerBin
) -> jax.Array:
    """Sum over counts bins of a value times the derivatives of the prediction, and the penalty's.

    Shape (Z,).
    """
    total = data.precision @ (z - data.penalty_start)
    for own, value in zip(model, values, strict=True):
        total = total.at[own.at].add(jnp.einsum("nms,ns->nm", own.rows, value))
    return total


def changes(model: tuple[Slopes, ...], step: jax.Array) -> PerBin:
    """Changes of the predictions to first order."""
    return tuple(jnp.einsum("nms,nm->ns", own.rows, step[own.at]) for own in model)


def squared(data: JointData, model: tuple[Slopes, ...], values: PerBin) -> jax.Array:
    """Sum over the counts bins of a value times the square of the derivatives, and the penalty's.

    Shape (Z, Z).
    """
    size = len(data.precision)

    def add(total: jax.Array, batch: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        rows, at, weights = batch
        products = (rows * weights[..., None, :]) @ jnp.swapaxes(rows, -1, -2)
        # One index for each pair: sums at two indices take longer to compile and to run.
        pairs = at[..., :, None] * size + at[..., None, :]
        return total.at[pairs.ravel()].add(products.ravel()), None

    total = data.precision.ravel()
    for own, value in zip(model, values, strict=True):
        batches = own.rows, own.at, value
        # A processor has the products of one batch in its cache.
        one_by_one = len(own.rows) > 1 and jax.default_backend() == "cpu"
        total = jax.lax.scan(add, total, batches)[0] if one_by_one else add(total, batches)[0]
    return total.reshape(size, size)


def model_curvature(data: JointData, model: tuple[Slopes, ...], values: PerBin) -> jax.Array:
    """Sum over counts bins of a value times the second derivatives of the prediction, (Z, Z)."""
    total = jnp.zeros_like(data.precision)
    for block, own, value in zip(data.blocks, model, values, strict=True):
        parts = []
        if own.second is not None:
            sums = jnp.einsum("nkqs,ns->nkq", block.templates, value)
            parts.append(jnp.einsum("nkdq,nkq->nkd", own.second, sums).reshape(len(value), -1))
        if own.tilted is not None:
            parts.append(jnp.einsum("nps,ns->np", own.tilted, value))
        if parts:
            one, two = own.pairs[..., 0], own.pairs[..., 1]
            total = total.at[one, two].add(jnp.concatenate(parts, axis=1))
    return total + jnp.triu(total, 1).T


def stat(data: JointData, z: jax.Array) -> jax.Array:
    """Fit statistic without the penalty: the sum of cash or wstat over the unmasked counts bins."""
    total = jnp.zeros_like(z[0])
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            terms = statistics.wstat(block.n_on, block.n_off, block.alpha, npred)
        else:
            terms = statistics.cash(block.counts, npred)
        total += jnp.sum(jnp.where(block.mask, terms, 0.0))
    return total


def bin_differences(block: Term, npred: jax.Array, npred0: jax.Array) -> jax.Array:
    """The statistic of a block's predictions minus that of others, without cancellation; (N, S)."""
    one, zero = jnp.ones_like(npred), jnp.zeros_like(npred)
    if isinstance(block, JointOnOffBlock):
        counts = block.n_on, block.n_off, block.alpha
        terms = statistics.wstat_difference(*counts, one, npred, npred0)
    else:
        terms = statistics.cash_difference(block.counts, npred0, npred - npred0, one, zero)
    return jnp.where(block.mask, terms, 0.0)


def difference(data: JointData, z: jax.Array, z0: jax.Array) -> jax.Array:
    """Statistic and penalty at ``z`` minus those at ``z0``, without cancellation."""
    step = z - z0
    total = step @ data.precision @ (z + z0 - 2 * data.penalty_start)
    for block, at, at0 in zip(
        data.blocks, predictions(data, z), predictions(data, z0), strict=True
    ):
        total += jnp.sum(bin_differences(block, at, at0))
    return total
