"""Norms that multiply counts instead of fluxes, for minimisations with free spectra.

A norm multiplies the flux in an energy group. With a strongly curved spectrum the counts may come
from beyond the group: the norm then changes by orders of magnitude along a curved valley, with the
counts about the same, which Newton steps do not follow. Norms that multiply the counts are
independent of the shape of the spectrum, but for what the counts tell of it.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxprof.likelihood.joint_data import JointData
from jaxprof.likelihood.joint_model import axis_of, coefficients
from jaxprof.likelihood.true_energies import template_index

NO_FLUX = 1e-6
"""Part of the flux for the same counts with a spectrum at its start, below which there is none."""


def with_counted_norms(data: JointData, free: jax.Array) -> JointData:
    """The data with norms that multiply counts, where these are free and without other bounds.

    A norm that is held, has a bound other than zero or a penalty multiplies the flux as before.
    """
    spectra = data.spectra
    if spectra is None:
        return data
    at = data.norm_index
    low, high = data.lower[at], data.upper[at]
    plain = free[at] & ((low == 0) | (low == -jnp.inf)) & (high == jnp.inf)
    plain = plain & ~jnp.any(data.precision[at] != 0, axis=1)
    number, dtype = data.n_components, data.start.dtype
    weights = [jnp.zeros((number, len(edges) - 1), dtype) for edges in spectra.edges]
    for block in data.blocks:
        sums = jnp.einsum("nkqs,ns->nkq", block.templates, jnp.where(block.mask, 1.0, 0.0))
        axis = axis_of(data, block)
        weights[axis] = weights[axis].at[template_index(block)].add(sums)
    own = tuple(jnp.where(plain[:, None], weight, 0.0) for weight in weights)
    changed = replace(spectra, weights=own)
    return replace(data, spectra=changed)


def _flux_per_count(data: JointData, counted: JointData, z: jax.Array) -> jax.Array:
    """What norms of counts are multiplied by to be those of fluxes, (C,)."""
    unit = z.at[data.norm_index].set(1.0)
    of_counts, of_flux = (jnp.sum(coefficients(own, unit), axis=1) for own in (counted, data))
    changed = sum(jnp.sum(weight, axis=1) for weight in counted.spectra.weights) > 0
    known = changed & (of_flux > 0) & (of_counts > 0)
    return jnp.where(known, of_counts / jnp.where(known, of_flux, 1.0), 1.0)


def to_counts(data: JointData, counted: JointData, z: jax.Array) -> jax.Array:
    """Parameters (Z,) of the data as those of `with_counted_norms`."""
    if data.spectra is None:
        return z
    at = data.norm_index
    return z.at[at].set(z[at] / _flux_per_count(data, counted, z))


def to_fluxes(data: JointData, counted: JointData, z: jax.Array) -> jax.Array:
    """The inverse of `to_counts`."""
    if data.spectra is None:
        return z
    at = data.norm_index
    return z.at[at].set(z[at] * _flux_per_count(data, counted, z))


def has_flux(data: JointData, counted: JointData, z: jax.Array) -> jax.Array:
    """Whether parameters of `with_counted_norms` have flux in the energy group; (Z,).

    The counts of a spectrum that is cut off far below the group are not those of its norm, whose
    flux is zero then. Of other parameters than norms that is true.
    """
    if data.spectra is None:
        return jnp.ones(z.size, bool)
    at = data.norm_index
    usual = data.start.at[at].set(z[at])
    own, known = (to_fluxes(data, counted, each)[at] for each in (z, usual))
    return jnp.ones(z.size, bool).at[at].set(jnp.abs(own) > NO_FLUX * jnp.abs(known))
