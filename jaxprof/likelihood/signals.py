"""Signals of the terms of a likelihood: norms of all components times their templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from jaxprof.likelihood.named import complete
from jaxprof.likelihood.nodes import beyond_nodes, node_weights
from jaxprof.likelihood.terms import Term
from jaxprof.likelihood.true_energies import SeenOnOff, SeenPoisson

if TYPE_CHECKING:
    from jaxprof.likelihood.likelihood import Likelihood


def signals_of(
    likelihood: Likelihood, params: Mapping[str, Any]
) -> list[tuple[Term, tuple[Any, Any, Any]]]:
    """Each term with its signal (G, N, S), and its background norm and tilt, (G,) or None.

    Parameters that are left out are nominal.
    """
    values = complete(likelihood.nominal, params)
    parts = [values["norm"]]
    parts += [values["guard"]] if "guard" in values else []
    parts += [_source_norms(likelihood, name, values) for name in likelihood.sources]
    norms = jnp.concatenate([jnp.asarray(part) for part in parts])
    nodes = likelihood.nodes
    weights = [node_weights(name, nodes[name], values[name]) for name in sorted(nodes)]
    found = []
    for term in likelihood.terms:
        number = term.dataset
        coefficients = _coefficients(likelihood, norms, values, number)
        own = _signal(term, coefficients, weights)
        tilt = values["background_tilt"][number] if "background_tilt" in values else None
        found.append((term, (own, values["background"][number], tilt)))
    return found


def beyond_all_nodes(likelihood: Likelihood, params: Mapping[str, Any]) -> Any:
    """How far parameters are beyond the nodes between which templates are known; zero within."""
    values = complete(likelihood.nominal, params)
    found: Any = 0.0
    for name, nodes in likelihood.nodes.items():
        found = found + beyond_nodes(nodes, values[name])
    for source, own in likelihood.source_nodes.items():
        for name, nodes in own.items():
            found = found + beyond_nodes(nodes, values[name][source])
    return found


def _source_norms(likelihood: Likelihood, name: str, values: Mapping[str, Any]) -> Any:
    """Norms of the components of a source, (n, G)."""
    norm = values["source"][name][None]
    for parameter, nodes in sorted(likelihood.source_nodes.get(name, {}).items()):
        weight = node_weights(parameter, nodes, values[parameter][name])
        norm = (norm[:, None] * weight[None, :, None]).reshape(-1, norm.shape[-1])
    return norm


def _coefficients(
    likelihood: Likelihood, norms: Any, values: Mapping[str, Any], number: int
) -> Any:
    """Coefficients of the templates of a data set, (C, G, Q)."""
    scaled = norms * values["exposure"][number]
    spectra = likelihood.spectra
    if spectra is None:
        return scaled[:, :, None]
    of_sources = spectra.source_flux[number]
    n_regions = norms.shape[0] - of_sources.shape[0]
    flux = spectra.flux(values["spectrum"], number, n_regions)
    other = jnp.broadcast_to(of_sources[:, None, :], (len(of_sources), *flux.shape[1:]))
    return scaled[:, :, None] * jnp.concatenate([flux, other])


def _signal(term: Term, coefficients: Any, weights: Sequence[Any]) -> Any:
    """Predicted counts of all components in the counts bins of a term, (G, N, S).

    Templates (..., G, N, K, Q, S) are counts at coefficient one, the axes before G being those of
    interpolation nodes, for which there are ``weights`` (P,) each; ``coefficients`` are (C, G, Q).
    """
    components = term.components
    groups = jnp.arange(components.shape[0])[:, None, None]
    # Counts of all nodes, then their interpolation: there are far more templates than counts.
    own = coefficients[components, groups]
    if isinstance(term, SeenPoisson | SeenOnOff):
        own = jnp.take_along_axis(own, term.true_energies[:, :, None], axis=3)
    # One sum, not one over k and one over q: its derivatives take up to ten times as long then.
    own = own.reshape(*components.shape[:2], 1, -1)
    templates = jnp.asarray(term.templates)
    found = (own @ templates.reshape(*templates.shape[:-3], -1, templates.shape[-1]))[..., 0, :]
    for weight in weights:
        found = jnp.tensordot(weight, found, axes=1)
    return found
