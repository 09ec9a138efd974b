"""Datasets as they are folded: exposure on the pixels of the counts, true bins cut to fit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from jaxprof.irf import EDispKernelMap
from jaxprof.sky import MapAxis, WcsNDMap
from jaxprof.types import Array

if TYPE_CHECKING:
    from jaxprof.datasets import MapDataset

Dataset = TypeVar("Dataset", bound="MapDataset")

SAME_EDGE = 1e-6
"""Relative distance below which two energies are one edge; single precision passes."""


def dataset_to_fold(dataset: Dataset) -> Dataset:
    """The dataset with the responses that predicted counts are made of.

    An exposure on coarser pixels is interpolated to those of the counts. Without energy dispersion
    true energies are cut at the edges of the reconstructed ones, and each piece goes to the bin
    that it lies in: so the spectrum, whatever it is, shares the photons of a true bin that
    reaches over several.

    Parameters
    ----------
    dataset : MapDataset
        With counts and exposure, as `MapDataset.check` wants them.

    Returns
    -------
    MapDataset
        The same if nothing is to be done; otherwise a copy that shares the other maps.
    """
    exposure, edisp = exposure_on_counts(dataset), dataset.edisp
    if edisp is None:
        reco = dataset.energy_axis
        exposure = cut_at_edges(exposure, reco)
        edisp = kernel_of_pieces(reco, exposure.geom.axes[0])
    elif exposure is dataset.exposure:
        return dataset
    found = copy.copy(dataset)
    found.exposure, found.edisp = exposure, edisp
    return found


def dataset_at_scale(dataset: Dataset, factor: float, factors: Sequence[float]) -> Dataset:
    """The dataset whose signal is reconstructed at energies that are higher by a factor.

    Counts and background stay as they are. Without energy dispersion the true energies are cut
    where any of ``factors`` puts an edge of the reconstructed ones, so that all have the same.

    Parameters
    ----------
    dataset : MapDataset
        With counts and exposure.
    factor : float
        Factor on the reconstructed energies.
    factors : sequence of float
        All factors that are to be compared.

    Returns
    -------
    MapDataset
        A copy that shares the other maps.
    """
    found = copy.copy(dataset)
    if dataset.edisp is not None:
        found.edisp = dataset.edisp.scaled(factor)
        return found
    reco = dataset.energy_axis
    exposure = exposure_on_counts(dataset)
    for each in factors:
        exposure = cut_at_edges(exposure, reco, each)
    found.exposure = exposure
    found.edisp = kernel_of_pieces(reco, exposure.geom.axes[0], factor)
    return found


def exposure_on_counts(dataset: MapDataset) -> WcsNDMap:
    """Exposure on the pixels of the counts, interpolated if its own are others.

    Linear between the centres of its pixels, as `WcsNDMap.interp_to_geom` and gammapy do it.
    """
    exposure = dataset.exposure
    assert exposure is not None
    geom = dataset.geom.to_image()
    if exposure.geom.is_allclose_image(geom):
        return exposure
    return exposure.interp_to_geom(geom)


def cut_at_edges(exposure: WcsNDMap, reco: MapAxis, factor: float = 1.0) -> WcsNDMap:
    """Exposure whose true bins are cut at the edges of reconstructed ones; same if none is.

    Energies are reconstructed ``factor`` times higher than they are.
    """
    axis = exposure.geom.axes[0]
    edges = axis.edges_tev()
    inside = reco.edges_tev() / factor
    inside = inside[(inside > edges[0]) & (inside < edges[-1])]
    nearest = np.abs(inside[:, np.newaxis] - edges).min(axis=1, initial=np.inf)
    new = inside[nearest > SAME_EDGE * inside]
    if not len(new):
        return exposure
    pieces = np.sort(np.concatenate([edges, new]))
    parent = np.searchsorted(edges, pieces[:-1], side="right") - 1
    cut = MapAxis.from_edges(pieces, name=axis.name, unit="TeV", interp=axis.interp)
    return WcsNDMap(exposure.geom.to_cube([cut]), exposure.data[parent], exposure.unit)


def kernel_of_pieces(reco: MapAxis, true: MapAxis, factor: float = 1.0) -> EDispKernelMap:
    """Perfect energy resolution for true bins that lie in one reconstructed bin, or in none."""
    edges = true.edges_tev() * factor
    bins = np.searchsorted(reco.edges_tev(), 0.5 * (edges[1:] + edges[:-1]), side="right") - 1
    kernel = (bins[:, np.newaxis] == np.arange(reco.nbin)).astype(np.float64)
    return EDispKernelMap(kernel, reco, true)


def true_energies_in_use(dataset: MapDataset, used: Array) -> Array:
    """Which true energies (T,) reach any of the reconstructed energies (E,) that are in use."""
    edisp = dataset.edisp
    true = dataset.energy_axis_true
    if isinstance(edisp, EDispKernelMap):
        # NaN counts as well: whether it matters is found out where the response is used.
        reach = ~(edisp.data[:, used] <= 0)
        return np.asarray(reach.reshape(true.nbin, -1).any(axis=1))
    if edisp is not None:
        return np.ones(true.nbin, bool)
    edges, reco = true.edges_tev()[:, np.newaxis], dataset.energy_axis.edges_tev()
    return np.asarray(((edges[1:] > reco[:-1]) & (edges[:-1] < reco[1:]))[:, used].any(axis=1))
