"""The bridge: datasets, regions and energy groups become the arrays that the core fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.likelihood.data import OnOffData, ProfileData
from jaxprof.reduce.energy_groups import same_edges, snap_energy_edges, warn_moved_edges
from jaxprof.reduce.region_checks import (
    Visibility,
    solid_angle_of_pixels,
    visibility,
    warn_solid_angles,
    warn_unseen,
)
from jaxprof.reduce.region_counts import (
    RegionCounts,
    group_mean,
    region_counts,
    summed_energies,
)
from jaxprof.reduce.region_view import ReductionSettings, RegionView
from jaxprof.reduce.signal import true_edges
from jaxprof.sky.pixel_sums import MemberPixels, member_pixels
from jaxprof.sky.regions.pixels import region_members
from jaxprof.sky.regions.shapes import sky_shapes
from jaxprof.sky.regions.solid_angles import shape_solid_angles

Array = NDArray[Any]

_FEW_PIXELS = (
    "Fluxes are those of the pixels; reference_solid_angle='region' makes them those of the regions"
)


@dataclass(frozen=True)
class DatasetPart:
    """Where the counts bins of one dataset come from.

    Attributes
    ----------
    pixels : MemberPixels
        Pixels of the regions.
    bins : slice
        Reconstructed energies of all groups.
    edges : ndarray of int, shape (G + 1,)
        Edges of the groups among them.
    per_pixel : bool
        Whether each pixel is a counts bin.
    summed : bool
        Whether the energies of a group are summed.
    true_edges : ndarray, shape (T + 1,), or None
        Edges of the true energies [TeV], where these are kept.
    templates : ndarray, shape (B, G, T, E), or None
        Predicted counts for a flux of one in each of them.
    """

    pixels: MemberPixels
    bins: slice
    edges: Array
    per_pixel: bool
    summed: bool
    true_edges: Array | None = None
    templates: Array | None = None

    def grouped(self, values: Array) -> Array:
        """Values of the pixels of the map, shape (E, U), in counts bins, (B, G, E)."""
        own = values[self.bins]
        if self.per_pixel:
            grid = self.pixels.padded(self.pixels.expanded(own))
        else:
            grid = self.pixels.total(own).T[:, :, np.newaxis]
        edges = self.edges
        if self.summed:
            grid = np.add.reduceat(grid, edges[:-1], axis=1)
            edges = np.arange(len(edges))
        return _grouped(grid, edges)

    def origins(self, n_x: int) -> tuple[Array, Array]:
        """Energy and pixel of each counts bin, (B, G, E); -1 for sums over them."""
        n_energies = self.bins.stop - self.bins.start
        n_bins, n_pixels = self.pixels.n_regions, 1
        pixel = np.full((n_bins, n_energies, 1), -1)
        if self.per_pixel:
            index = self.pixels.y * n_x + self.pixels.x
            one = self.pixels.padded(self.pixels.expanded(index[np.newaxis]))
            n_pixels = one.shape[2]
            pixel = np.broadcast_to(one, (n_bins, n_energies, n_pixels))
        energy = np.arange(self.bins.start, self.bins.stop)[np.newaxis, :, np.newaxis]
        energy = np.broadcast_to(energy, (n_bins, n_energies, n_pixels))
        edges = self.edges
        if self.summed:
            energy = np.full((n_bins, len(edges) - 1, n_pixels), -1)
            pixel = pixel[:, : len(edges) - 1]
            edges = np.arange(len(edges))
        return _grouped(energy, edges, -1), _grouped(pixel, edges, -1)


@dataclass(frozen=True)
class Reduction:
    """What is left of datasets once their regions and energy groups are chosen.

    Attributes
    ----------
    data : ProfileData, OnOffData or a tuple of both
        The arrays to fit, shape ``(B, G, E)``, in float64. The counts bins of several datasets of
        one statistic follow each other on the last axis.
    bin_dataset : ndarray of int, shape (E_total,)
        Index of the dataset of each counts bin, through all blocks of ``data``.
    dataset_names : tuple of str
        Names of the datasets.
    energy_edges : ndarray, shape (G, 2)
        Lower and upper edge of each energy group [TeV], snapped to the first dataset's axis.
    coverage : ndarray, shape (B, G)
        Part of the region's solid angle that is on the map and unmasked, mean over the group's
        energies and the datasets.
    solid_angle : ndarray, shape (B,)
        Solid angle of the pixels of the whole regions [sr], on the map of the first dataset that
        has any.
    region_solid_angle : ndarray, shape (B,)
        Solid angle of the regions themselves [sr].
    parts : tuple of DatasetPart
        Where the counts bins of each dataset come from.
    """

    data: Any
    bin_dataset: Array
    dataset_names: tuple[str, ...]
    energy_edges: Array
    coverage: Array
    solid_angle: Array
    region_solid_angle: Array
    parts: tuple[DatasetPart, ...]


def _grouped(values: Array, edges: Array, fill: float = 0.0) -> Array:
    """Split energies (..., B, E, P) into groups: (..., B, G, E), padded with ``fill``."""
    *front, _, n_pixels = values.shape
    widths = np.diff(edges)
    grouped = np.full((*front, len(widths), widths.max() * n_pixels), fill, values.dtype)
    for group, (low, width) in enumerate(zip(edges[:-1], widths, strict=True)):
        part = values[..., low : low + width, :].reshape(*front, -1)
        grouped[..., group, : part.shape[-1]] = part
    return grouped


class RegionsOnMaps:
    """The pixels of regions on maps, looked for once where maps have the same pixels.

    Parameters
    ----------
    regions : list of SkyRegion
        Bins of a profile.

    Attributes
    ----------
    solid_angle : ndarray, shape (B,)
        Solid angle of the regions themselves [sr].
    """

    def __init__(self, regions: Any) -> None:
        self.regions = regions
        self._shapes = sky_shapes(regions)
        self.solid_angle = shape_solid_angles(self._shapes)
        self._known: list[tuple[Any, MemberPixels, Visibility]] = []

    def seen(self, dataset: MapDataset) -> tuple[MemberPixels, Visibility]:
        """Pixels of the regions on the map of a dataset, and what it sees of them."""
        for geom, pixels, sight in self._known:
            if dataset.geom.is_allclose_image(geom):
                return pixels, replace(sight, name=dataset.name)
        geom = dataset.geom
        pixels = member_pixels(region_members(self._shapes, geom), geom.npix_shape)
        sight = visibility(dataset.name, self.regions, pixels, geom)
        self._known.append((geom, pixels, sight))
        return pixels, sight


def reduce_datasets(
    datasets: Sequence[MapDataset],
    regions: Any,
    spectral_model: Any,
    energy_edges: u.Quantity,
    settings: ReductionSettings,
    on_maps: RegionsOnMaps | None = None,
) -> Reduction:
    """Reduce datasets to the arrays that `jaxprof.core.fit_norms` takes.

    Parameters
    ----------
    datasets : sequence of MapDataset or MapDatasetOnOff
        Datasets with a shared norm.
    regions : list of SkyRegion
        Bins of the profile.
    spectral_model : SpectralModel
        Reference spectrum.
    energy_edges : Quantity, shape (G + 1,)
        Edges of the energy groups.
    settings : ReductionSettings
        How they are reduced.
    on_maps : RegionsOnMaps, optional
        The same regions on maps that are known already.

    Returns
    -------
    Reduction

    Raises
    ------
    ValueError
        If a dataset cannot be used or its energies do not fit.

    Warns
    -----
    UserWarning
        For regions that a dataset does not see, regions whose solid angle differs by more than 20 %
        from that of their pixels (unless it is the reference), and energy edges that move far.
    """
    first_axis = datasets[0].energy_axis
    group_edges = snap_energy_edges(energy_edges, first_axis)
    warn_moved_edges(energy_edges, first_axis, group_edges)
    on_maps = RegionsOnMaps(regions) if on_maps is None else on_maps
    exact = on_maps.solid_angle
    reference = exact if settings.reference_solid_angle == "region" else None
    found: list[_ReducedDataset] = []
    sights: list[Visibility] = []
    for dataset in datasets:
        dataset.check()
        pixels, sight = on_maps.seen(dataset)
        sights.append(sight)
        edges = snap_energy_edges(energy_edges, dataset.energy_axis)
        same_edges(first_axis, group_edges, dataset.energy_axis, edges, dataset.name)
        view = RegionView(dataset, regions, pixels, slice(edges[0], edges[-1]))
        counts = region_counts(view, spectral_model, settings, reference)
        found.append(_reduced(view, counts, edges - edges[0], settings))
    warn_unseen(sights)
    if reference is None:
        warn_solid_angles(sights, exact, _FEW_PIXELS)
    data, bin_dataset = _joined(found)
    edges_tev = first_axis.edges_tev()[group_edges]
    return Reduction(
        data=data[0] if len(data) == 1 else data,
        bin_dataset=bin_dataset,
        dataset_names=tuple(dataset.name for dataset in datasets),
        energy_edges=np.column_stack([edges_tev[:-1], edges_tev[1:]]),
        coverage=np.mean([each.coverage for each in found], axis=0),
        solid_angle=solid_angle_of_pixels(sights),
        region_solid_angle=exact,
        parts=tuple(each.part for each in found),
    )


@dataclass(frozen=True)
class _ReducedDataset:
    """One dataset: the kind and arrays of its data, and where they come from."""

    kind: type
    block: dict[str, Array]
    coverage: Array
    part: DatasetPart


def _reduced(
    view: RegionView, counts: RegionCounts, edges: Array, settings: ReductionSettings
) -> _ReducedDataset:
    summed = settings.sum_over_energy_groups
    part = DatasetPart(view.pixels, view.bins, edges, settings.per_pixel, summed)
    coverage = group_mean(counts.coverage, edges)
    if summed:
        counts, edges = summed_energies(counts, edges), np.arange(len(edges))
    block = {
        name: _grouped(array, edges, float(name == "alpha"))
        for name, array in counts.values.items()
    }
    block["mask"] = _grouped(counts.mask, edges)
    if settings.per_true_energy:
        templates = np.moveaxis(block.pop("templates"), 0, 2)
        part = replace(part, true_edges=true_edges(view.dataset), templates=templates)
    kind = OnOffData if isinstance(view.dataset, MapDatasetOnOff) else ProfileData
    return _ReducedDataset(kind, block, coverage, part)


def _joined(found: Sequence[_ReducedDataset]) -> tuple[tuple[Any, ...], Array]:
    """Data of each kind, their datasets one after the other, and the dataset of each counts bin."""
    data, owner = [], []
    for kind in (ProfileData, OnOffData):
        own = {k: each.block for k, each in enumerate(found) if each.kind is kind}
        if own:
            names = next(iter(own.values()))
            arrays = {
                name: np.concatenate([block[name] for block in own.values()], axis=2)
                for name in names
            }
            data.append(kind(**arrays))
            owner += [np.full(block["mask"].shape[2], k) for k, block in own.items()]
    return tuple(data), np.concatenate(owner)
