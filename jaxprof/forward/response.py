"""The response of a joint fit: all that does not depend on counts and background."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.core.spatial import PointSpatialModel
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.forward.compact import compact_emission
from jaxprof.forward.emission import (
    Emission,
    coarse_emission,
    region_emissions,
    source_emission,
)
from jaxprof.forward.kernels import psf_margin, subpixels
from jaxprof.forward.sameness import changed_component, dataset_prints
from jaxprof.forward.slots import Cells, cell_sums, component_lists, make_cells, reaching
from jaxprof.forward.windows import Folding, Windows
from jaxprof.models import SkyModel
from jaxprof.pixel_sums import check_uncut, member_pixels
from jaxprof.reduce import reference_flux
from jaxprof.regions import region_pixels

Array = NDArray[Any]


@dataclass(frozen=True)
class Components:
    """What is fitted together: the bins of the profile, then guard bins, then other sources.

    Attributes
    ----------
    regions, guards : list of SkyRegion
        Bins of the profile, and beyond them.
    sources : list of SkyModel
        Other sources.
    models : list of SpectralModel
        Spectrum at norm one of each bin, guard bin and source.
    template : SpatialModel, WcsNDMap, list of these, or None
        Surface brightness within the bins and guard bins.
    oversampling : int
        Sub-pixels along each side of a pixel, see `region_emissions`.
    subpixels : int or None
        Parts along each side of a pixel that emission is spread over, see `subpixels`.
    """

    regions: list[Any]
    guards: list[Any]
    sources: list[Any]
    models: list[Any]
    template: Any
    oversampling: int
    subpixels: int | None = None

    def __len__(self) -> int:
        return len(self.models)

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return len(self.regions)

    @property
    def n_regions(self) -> int:
        """Number of bins and guard bins."""
        return len(self.regions) + len(self.guards)

    def flux(self, edges: Array) -> Array:
        """Flux of each component in bins of true energy, (C, T) [cm-2 s-1]; edges in TeV."""
        table = {}
        # Also while something else is traced, such as the width of the PSF.
        with jax.ensure_compile_time_eval():
            for model in self.models:
                if id(model) not in table:
                    table[id(model)] = reference_flux(model, edges)
        return np.array([table[id(model)] for model in self.models])


@dataclass(frozen=True)
class DatasetResponse:
    """Response of one dataset.

    Attributes
    ----------
    name : str
        Name of the dataset.
    emissions : list of Emission
        Where the flux of each component starts.
    folding : Folding
        Folds it for other spectra or PSF widths.
    windows : list of Windows
        Templates of all components.
    cells : Cells
        Pixels of the fit.
    lists : list of ndarray of int
        Components of each array of windows that reach each cell.
    components : ndarray of int, shape (N, K)
        The same, in one list.
    mask : ndarray of bool, shape (E, N, P)
        Pixels in use, at each reconstructed energy.
    sums : ndarray, shape (N, K, Q, E)
        Templates summed over the pixels in use of each cell.
    true_edges : ndarray, shape (T + 1,)
        Edges of the true energies [TeV].
    prints : dict of str
        Digests of what it was made from.
    """

    name: str
    emissions: list[Emission]
    folding: Folding
    windows: list[Windows]
    cells: Cells
    lists: list[Array]
    components: Array
    mask: Array
    sums: Any
    true_edges: Array
    prints: dict[str, str]

    def per_component(self, n_components: int) -> Array:
        """Counts in each cell from each component per coefficient, (N, C, Q, E)."""
        n_cells, _, n_q, n_e = self.sums.shape
        found = np.zeros((n_cells, n_components, n_q, n_e))
        np.add.at(found, (np.arange(n_cells)[:, np.newaxis], self.components), self.sums)
        return found


@dataclass(frozen=True)
class ForwardResponse:
    """Response of a joint fit to all its datasets; `ForwardFoldingProfileEstimator.response`.

    Attributes
    ----------
    components : Components
        What is fitted.
    datasets : list of DatasetResponse
        One for each dataset.
    per_true_energy : bool
        Whether the templates are resolved by true energy, for spectra with free parameters.
    mask_policy : str
        What happened where a mask or the map's edge cuts a region.
    other_spectrum : bool
        Whether `refolded` gave it another spectrum than the components have.
    """

    components: Components
    datasets: list[DatasetResponse]
    per_true_energy: bool
    mask_policy: str
    other_spectrum: bool = False

    def refolded(
        self, *, psf_scale: Any = 1.0, spectral_model: Any = None, widest: float | None = None
    ) -> ForwardResponse:
        """The response for a wider PSF or another spectrum; differentiable in both.

        Parameters
        ----------
        psf_scale : float
            Factor by which the PSF is widened; may be traced by JAX.
        spectral_model : SpectralModel, optional
            Spectrum of all bins and guard bins at norm one; its parameters may be traced. By
            default as it was. Not for a response with free spectral parameters.
        widest : float, optional
            Largest ``psf_scale`` to leave room for: what a wider PSF spreads further than that is
            lost. By default ``psf_scale`` itself, or 1.5 if that is traced.

        Returns
        -------
        ForwardResponse
            For the estimator's ``reduce``, whose result goes into `jaxprof.core.fit_joint`. With
            JAX arrays; in float64 only if the caller has enabled it. With another spectrum it is
            none for ``run``: the fluxes would be those of the estimator's own.

        Raises
        ------
        ValueError
            For a `spectral_model` where spectral parameters are fitted.
        """
        if spectral_model is not None and self.per_true_energy:
            raise ValueError(
                "spectral_model: this response leaves spectral parameters free, and their "
                "reference is the estimator's; give that another spectral_model"
            )
        datasets = []
        for own in self.datasets:
            flux = jnp.asarray(self.components.flux(own.true_edges))
            if spectral_model is not None:
                new = spectral_model.integral(own.true_edges[:-1], own.true_edges[1:])
                flux = flux.at[: self.components.n_regions].set(new)
            windows = own.folding.windows(
                flux, psf_scale=psf_scale, widest=widest, per_true_energy=self.per_true_energy
            )
            lists = reaching(windows, own.cells)
            datasets.append(
                replace(
                    own,
                    windows=windows,
                    lists=lists,
                    components=component_lists(windows, lists),
                    sums=cell_sums(windows, lists, own.cells, own.mask),
                )
            )
        other = self.other_spectrum or spectral_model is not None
        return replace(self, datasets=datasets, other_spectrum=other)

    def check(
        self, datasets: Sequence[MapDataset], components: Components, mask_policy: str
    ) -> None:
        """Make sure that the response is that of these datasets and components.

        Raises
        ------
        ValueError
            If anything that it was made from has changed; the message says what.
        """
        changed = changed_component(self.components, components)
        if changed is None and mask_policy != self.mask_policy:
            changed = "mask_policy"
        if changed is not None:
            raise ValueError(
                f"response was made with other {changed} than the estimator has; make a new one "
                "with the estimator's response(datasets)"
            )
        if len(datasets) != len(self.datasets):
            raise ValueError(
                f"response is for {len(self.datasets)} datasets, and there are {len(datasets)}; "
                "make a new one with the estimator's response(datasets)"
            )
        for own, dataset in zip(self.datasets, datasets, strict=True):
            found = dataset_prints(dataset)
            other = [part for part in found if found[part] != own.prints[part]]
            if not other and not np.array_equal(cell_mask(dataset, own.cells), own.mask):
                other = ["mask"]
            if other:
                raise ValueError(
                    f"response was made for other {other[0]} than dataset {dataset.name!r} has; "
                    "make a new one with the estimator's response(datasets)"
                )


def usable_mask(dataset: MapDataset) -> Array:
    """Where the data can be used, shape (E, ny, nx)."""
    mask = dataset.mask
    if isinstance(dataset, MapDatasetOnOff):
        # Without an ON or OFF acceptance a pixel's background is unknown: it tells nothing.
        mask = mask & (dataset.alpha.data > 0)
    return mask


def cell_mask(dataset: MapDataset, cells: Cells) -> Array:
    """Pixels of the cells that are in use, shape (E, N, P)."""
    return usable_mask(dataset)[:, cells.y, cells.x] & cells.used


def component_emissions(components: Components, dataset: MapDataset) -> list[Emission]:
    """Where the flux of each component starts, on the map of a dataset."""
    geom = dataset.geom.to_image()
    regions = [*components.regions, *components.guards]
    template = components.template
    if isinstance(template, list | tuple) and len(template) == len(components.regions):
        # A template for each bin leaves the guard bins even.
        template = [*template, *[None] * len(components.guards)]
    factor = 1 if components.oversampling == 1 else subpixels(dataset, components.subpixels)
    fine = geom.upsample(factor)
    sampling = (
        max(1, components.oversampling // factor)
        if factor == 1
        else max(2, components.oversampling // factor)
    )
    points: dict[int, Any] = {}
    if isinstance(template, list | tuple):
        points = {i: m for i, m in enumerate(template) if isinstance(m, PointSpatialModel)}
        template = [None if i in points else m for i, m in enumerate(template)]
    found = region_emissions(regions, fine, template=template, oversampling=sampling)
    for index, model in points.items():
        # A bin whose flux is a point's: the region tells its counts and solid angle only.
        found[index] = replace(source_emission(model, geom), solid_angle=found[index].solid_angle)
    coarse = [_coarse(emission, factor) for emission in found]
    return [*coarse, *source_emissions(components.sources, dataset, factor)]


def _coarse(emission: Emission, factor: int) -> Emission:
    """Emission on the pixels of the map, from that on finer ones; points know their place."""
    if factor == 1 or emission.offset is not None:
        return emission
    return coarse_emission(emission, factor)


def source_emissions(
    sources: Sequence[SkyModel], dataset: MapDataset, factor: int, *, name: str = "sources"
) -> list[Emission]:
    """Where the flux of each source starts, as far as its photons can reach the map.

    Parameters
    ----------
    sources : sequence of SkyModel
        The sources.
    dataset : MapDataset
        With its PSF.
    factor : int
        Parts along each side of a pixel, see `subpixels`.
    name : str
        What errors call the sources.

    Returns
    -------
    list of Emission
    """
    geom = dataset.geom.to_image()
    fine = geom.upsample(factor)
    found = []
    for source in sources:
        model = source.spatial_model
        own = geom if isinstance(model, PointSpatialModel) else fine
        try:
            emission = compact_emission(model, geom)
            if emission is None:
                emission = source_emission(model, own, margin=psf_margin(dataset, own))
        except ValueError as error:
            raise ValueError(f"{name}: {source.name!r}: {error}") from error
        found.append(_coarse(emission, factor))
    return found


def _warn_off_map(emissions: Sequence[Emission], dataset: MapDataset) -> None:
    """Warn of bins that lie wholly off the map."""
    ny, nx = dataset.geom.npix_shape
    lost = []
    for index, emission in enumerate(emissions):
        h, w = emission.weights.shape
        on_map = emission.y0 < ny and emission.x0 < nx and emission.y0 > -h and emission.x0 > -w
        if not on_map or not emission.weights.any():
            lost.append(index)
    if lost:
        listed = ", ".join(map(str, lost[:10])) + (", ..." if len(lost) > 10 else "")
        warnings.warn(
            f"{len(lost)} of {len(emissions)} regions are off the map of dataset "
            f"{dataset.name!r}: {listed} (counted from 0); all that is known of them is what leaks "
            "into the map",
            UserWarning,
            stacklevel=5,
        )


def dataset_response(
    components: Components,
    dataset: MapDataset,
    bins: slice,
    *,
    per_true_energy: bool = False,
    mask_policy: str = "coverage",
) -> DatasetResponse:
    """Fold all components through the response of a dataset.

    Parameters
    ----------
    components : Components
        What is fitted.
    dataset : MapDataset
        With exposure and PSF.
    bins : slice
        Reconstructed energies of all groups; only a mask within them can cut a region.
    per_true_energy : bool
        Whether to keep the true energies apart.
    mask_policy : {"coverage", "strict"}
        Whether a region may be cut.

    Returns
    -------
    DatasetResponse
    """
    emissions = component_emissions(components, dataset)
    folding = Folding(dataset, emissions)
    true = dataset.energy_axis_true.edges_tev()
    windows = folding.windows(components.flux(true), per_true_energy=per_true_energy)
    regions = [*components.regions, *components.guards]
    pixels = region_pixels(regions, dataset.geom)
    members = member_pixels(pixels)
    _warn_off_map(emissions[: components.n_bins], dataset)
    usable = usable_mask(dataset)
    if mask_policy == "strict":
        check_uncut(usable[bins, members.y, members.x], members, dataset.name)
    cells = make_cells(pixels, dataset.geom.npix_shape)
    mask = usable[:, cells.y, cells.x] & cells.used
    lists = reaching(windows, cells)
    return DatasetResponse(
        name=dataset.name,
        emissions=emissions,
        folding=folding,
        windows=windows,
        cells=cells,
        lists=lists,
        components=component_lists(windows, lists),
        mask=mask,
        sums=np.asarray(cell_sums(windows, lists, cells, mask)),
        true_edges=true,
        prints=dataset_prints(dataset),
    )
