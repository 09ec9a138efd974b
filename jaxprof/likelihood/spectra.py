"""Spectra of the components of a likelihood whose templates are kept per true energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.models.spectral import with_fixed_tables
from jaxprof.models.spectral_functions import N_PANELS


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Spectra of the components, where templates are kept per true energy.

    Parameters
    ----------
    edges : tuple of array, shape (T + 1,)
        Edges of the true energies of each data set [TeV].
    source_flux : tuple of array, shape (n_sources, T)
        Flux of the sources in the true energies of each data set [cm-2 s-1].
    group_edges : array, shape (G, 2)
        Edges of the energy groups [TeV].
    guard_bins : array of int, shape (n_guards,)
        Bin that each guard bin has the spectrum of.
    guard_flux : tuple of array, shape (n_guards, T), or None
        Flux of the guard bins in the true energies of each data set, if their spectra stay as they
        are whatever the parameters of those of the bins: where an estimator fits these.
    reference_flux : array, shape (n_regions, G), or None
        Flux of each bin and guard bin in the energy group that a norm of one stands for, whatever
        the parameters of its spectrum. If None, norms multiply the spectra as they are.
    panels, group_panels : int
        Panels of quadratures within true energies and energy groups, as `panels_within` has them.
    """

    edges: tuple[Any, ...]
    source_flux: tuple[Any, ...]
    group_edges: Any
    guard_bins: Any = ()
    guard_flux: tuple[Any, ...] | None = None
    reference_flux: Any = None
    panels: int = field(default=N_PANELS, metadata={"static": True})
    group_panels: int = field(default=N_PANELS, metadata={"static": True})

    def flux(self, model: Any, dataset: int, n_regions: int) -> Any:
        """Flux of bins and guard bins at norm one, (n_regions, G, T); broadcast where equal.

        Parameters of ``model`` have the shape () if all bins share them, (B,) or (B, G).
        """
        edges, group = self.edges[dataset], self.group_edges
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(model)]
        shape = jnp.broadcast_shapes(*(two_axes(leaf).shape for leaf in leaves))
        full = jax.tree.map(
            lambda leaf: jnp.broadcast_to(two_axes(jnp.asarray(leaf)), shape), model
        )

        def one(own: Any, bounds: Any) -> Any:
            flux = own.flux_by(self.panels, edges[:-1], edges[1:])
            if self.reference_flux is None:
                return flux
            return flux / own.flux_by(self.group_panels, bounds[0], bounds[1])

        n_groups = group.shape[0]
        over_groups = jax.vmap(one, in_axes=(0 if shape[1] > 1 else None, 0))
        if shape[1] == 1:
            full = jax.tree.map(lambda leaf: leaf[:, 0], full)
        flux = jax.vmap(over_groups, in_axes=(0, None))(full, group)
        if flux.shape[0] > 1 and len(self.guard_bins):
            flux = jnp.concatenate([flux, flux[jnp.asarray(self.guard_bins)]])
        flux = jnp.broadcast_to(flux, (n_regions, n_groups, flux.shape[2]))
        if self.reference_flux is not None:
            flux = flux * self.reference_flux[:, :, None]
        if self.guard_flux is not None and len(self.guard_bins):
            own = self.guard_flux[dataset][:, None, :]
            flux = flux.at[n_regions - len(self.guard_bins) :].set(own)
        return flux


def two_axes(leaf: Any) -> Any:
    """A parameter as an array over bins and groups, of length one where it is shared."""
    return leaf.reshape(leaf.shape + (1,) * (2 - leaf.ndim))


def model_of_bins(models: Sequence[Any]) -> Any:
    """The spectral model that all bins share, or one with parameters of shape (B,).

    Raises
    ------
    ValueError
        For models of several classes, those with tables, and those without parameters.
    """
    fixed = {id(model): with_fixed_tables(model) for model in models}
    models = [fixed[id(model)] for model in models]
    for model in models:
        if not jax.tree.leaves(model):
            raise ValueError(
                f"spectral_model: {model!r} has no parameters that a likelihood with free spectra "
                "could change; give a model of jaxprof, by itself or times this one"
            )
        if any(np.ndim(leaf) for leaf in jax.tree.leaves(model)):
            raise ValueError(
                f"spectral_model: a {type(model).__name__} has tables for parameters, which a "
                "likelihood with free spectra cannot take"
            )
    if all(model is models[0] for model in models):
        return models[0]
    if len({type(model) for model in models}) > 1:
        raise ValueError(
            "spectral_model: a likelihood with free spectra needs models of one class in all bins"
        )
    return jax.tree.map(
        lambda *leaves: np.stack(np.broadcast_arrays(*leaves)).astype(float), *models
    )
