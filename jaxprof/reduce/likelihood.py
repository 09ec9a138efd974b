"""The likelihood of separate fits: each bin has counts bins of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.likelihood import (
    BinGeometry,
    Constraints,
    CountsBins,
    Likelihood,
    OnOff,
    Poisson,
    Spectra,
)
from jaxprof.likelihood.constraints import bounds_of
from jaxprof.likelihood.data import OnOffData
from jaxprof.likelihood.spectra import model_of_bins
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.separate import DatasetPart, Reduction

Array = NDArray[Any]


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
    )


def _term(
    dataset: MapDataset, part: DatasetPart, number: int
) -> tuple[Poisson | OnOff, CountsBins]:
    block = part.block
    mask = np.asarray(block.mask)
    n_bins, n_groups, _ = mask.shape

    def groups_first(values: Array, empty: Any = 0.0) -> Array:
        return np.where(mask, values, empty).swapaxes(0, 1)

    resolved = part.templates
    templates = block.npred_ref[:, :, np.newaxis] if resolved is None else resolved
    templates = np.where(mask[:, :, np.newaxis], templates, 0.0).swapaxes(0, 1)
    common: dict[str, Any] = {
        "templates": templates[:, :, np.newaxis],
        "components": np.broadcast_to(
            np.arange(n_bins)[:, np.newaxis], (n_groups, n_bins, 1)
        ).copy(),
        "mask": mask.swapaxes(0, 1),
        "dataset": number,
    }
    energy, pixel = part.origins(dataset.geom.npix_shape[1])
    bins = CountsBins(
        energy=groups_first(energy, -1),
        pixel=groups_first(pixel, -1),
        region=np.broadcast_to(np.eye(n_bins, dtype=bool), (n_groups, n_bins, n_bins)).copy(),
        dataset=dataset.name,
    )
    if isinstance(block, OnOffData):
        alpha = groups_first(block.alpha, 1.0)
        measured = OnOff(
            n_on=groups_first(block.n_on),
            n_off=groups_first(block.n_off),
            alpha=alpha,
            offset=np.zeros(alpha.shape),
            **common,
        )
        return measured, bins
    offset = groups_first(part.offset)
    log_energy = np.zeros(offset.shape)
    if not part.settings.sum_over_energy_groups:
        first = part.bins.start
        centre = np.concatenate(
            [
                log_energies(dataset.energy_axis, slice(int(low), int(high)))
                for low, high in zip(part.edges[:-1] + first, part.edges[1:] + first, strict=True)
            ]
        )
        at = np.clip(bins.energy - first, 0, None)
        log_energy = np.where(bins.energy >= 0, centre[at], 0.0)
    term = Poisson(
        counts=groups_first(block.counts),
        # What is left of a sum may be rounding below zero.
        background=np.maximum(groups_first(block.background) - offset, 0.0),
        offset=offset,
        log_energy=log_energy,
        clipped=True,
        **common,
    )
    return term, bins
