"""The likelihood of separate fits: each bin has counts bins of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.likelihood import (
    BinGeometry,
    Constraints,
    CountsBins,
    Likelihood,
    Spectra,
)
from jaxprof.likelihood.arrays import separate_term
from jaxprof.likelihood.constraints import bounds_of
from jaxprof.likelihood.spectra import model_of_bins
from jaxprof.likelihood.terms import Term
from jaxprof.models.spectral_functions import panels_within
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.separate import DatasetPart, Reduction


def separate_likelihood(
    datasets: Sequence[MapDataset],
    reduction: Reduction,
    norm_bounds: tuple[float | None, float | None],
    *,
    spectral_model: Any = None,
    geometry: BinGeometry | None = None,
) -> Likelihood:
    """The likelihood of all bins and energy groups of separate fits.

    ``norm_bounds`` are None for no bound; the nominal ``spectral_model`` is that of a reduction
    that keeps true energies apart.
    """
    n_bins, n_groups = reduction.coverage.shape
    terms, origins = [], []
    for number, (dataset, part) in enumerate(zip(datasets, reduction.parts, strict=True)):
        term, bins = _term(dataset, part, number)
        terms.append(term)
        origins.append(bins)
    lower, upper = bounds_of(norm_bounds)
    nominal: dict[str, Any] = {
        "norm": np.ones((n_bins, n_groups)),
        "background": np.ones((len(datasets), n_groups)),
        "background_tilt": np.zeros((len(datasets), n_groups)),
        "exposure": np.ones(len(datasets)),
    }
    if not any(np.any(getattr(term, "log_energy", 0.0)) for term in terms):
        del nominal["background_tilt"]  # sums over energies have none, nor has one energy
    spectra = _spectra(reduction)
    if spectra is not None:
        nominal["spectrum"] = model_of_bins([spectral_model])
    return Likelihood(
        terms=tuple(terms),
        constraints=Constraints(lower=lower, upper=upper),
        nominal=nominal,
        bins=tuple(origins),
        geometry=geometry,
        spectra=spectra,
    )


def _spectra(reduction: Reduction) -> Spectra | None:
    edges = [part.true_edges for part in reduction.parts if part.true_edges is not None]
    if not edges:
        return None
    return Spectra(
        edges=tuple(edges),
        source_flux=tuple(np.zeros((0, len(own) - 1)) for own in edges),
        group_edges=reduction.energy_edges,
        panels=panels_within(*edges),
        group_panels=panels_within(reduction.energy_edges),
    )


def _term(dataset: MapDataset, part: DatasetPart, number: int) -> tuple[Term, CountsBins]:
    mask = part.block.mask
    n_bins, n_groups, _ = mask.shape
    energy, pixel = (
        np.where(mask, own, -1).swapaxes(0, 1) for own in part.origins(dataset.geom.npix_shape[1])
    )
    bins = CountsBins(
        energy=energy,
        pixel=pixel,
        region=np.broadcast_to(np.eye(n_bins, dtype=bool), (n_groups, n_bins, n_bins)).copy(),
        dataset=dataset.name,
    )
    log_energy = np.zeros(energy.shape)
    if not part.settings.sum_over_energy_groups:
        first = part.bins.start
        centre = np.concatenate(
            [
                log_energies(dataset.energy_axis, slice(int(low), int(high)))
                for low, high in zip(part.edges[:-1] + first, part.edges[1:] + first, strict=True)
            ]
        )
        at = np.clip(energy - first, 0, None)
        log_energy = np.where(energy >= 0, centre[at], 0.0)
    term = separate_term(
        part.block, number, templates=part.templates, offset=part.offset, log_energy=log_energy
    )
    return term, bins
