"""The bridge: datasets, regions and energy groups become the arrays that the core fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import astropy.units as u
import jax
import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.likelihood.data import Block, Data, OnOffData, ProfileData
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
from jaxprof.types import Array

_FEW_PIXELS = (
    "Fluxes are those of the pixels; reference_solid_angle='region' makes them those of the regions"
)


@dataclass(frozen=True)
class DatasetPart:
    """The counts bins of one dataset, and where they come from."""

    block: Block
    """The arrays to fit, shape (B, G, E), in float64."""
    offset: Array
    """The part of the background that no parameter changes, (B, G, E)."""
    coverage: Array
    """Part of the region's solid angle that is on the map and unmasked, mean over the group's
    energies, (B, G)."""
    pixels: MemberPixels
    """Pixels of the regions."""
    bins: slice
    """Reconstructed energies of all groups."""
    edges: Array
    """Edges of the groups among them, (G + 1,)."""
    settings: ReductionSettings
    """Whether each pixel is a counts bin, and whether the energies of a group are summed."""
    true_edges: Array | None = None
    """Edges of the true energies [TeV], where these are kept, (T + 1,)."""
    templates: Array | None = None
    """Predicted counts for a flux of one in each of them, (B, G, T, E)."""

    def origins(self, n_x: int) -> tuple[Array, Array]:
        """Energy and pixel of each counts bin, (B, G, E); -1 for sums over them."""
        edges, energy = self.edges, np.arange(self.bins.start, self.bins.stop)
        if self.settings.sum_over_energy_groups:
            edges, energy = np.arange(len(edges)), np.full(len(edges) - 1, -1)
        pixel = np.full((self.pixels.n_regions, 1, 1), -1)
        if self.settings.per_pixel:
            index = self.pixels.y * n_x + self.pixels.x
            pixel = self.pixels.padded(self.pixels.expanded(index[np.newaxis]))
        both = np.broadcast_arrays(energy[:, np.newaxis], pixel)
        return _grouped(both[0], edges, -1), _grouped(both[1], edges, -1)


@dataclass(frozen=True)
class Reduction:
    """What is left of datasets once their regions and energy groups are chosen."""

    parts: tuple[DatasetPart, ...]
    """The counts bins of each dataset."""
    energy_edges: Array
    """Lower and upper edge of each energy group [TeV], snapped to the first dataset's axis,
    (G, 2)."""
    solid_angle: Array
    """Solid angle of the pixels of the whole regions [sr], on the map of the first dataset that has
    any, (B,)."""
    region_solid_angle: Array
    """Solid angle of the regions themselves [sr], (B,)."""
    unseen: Array
    """Regions without a pixel on any map, (B,)."""

    @cached_property
    def coverage(self) -> Array:
        """Mean coverage of the datasets, (B, G)."""
        return np.mean([part.coverage for part in self.parts], axis=0)

    @cached_property
    def data(self) -> Data:
        """The arrays to fit: of each statistic, the datasets one behind the other."""
        kinds = (ProfileData, OnOffData)
        found = tuple(
            jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=2), *own)
            for kind in kinds
            if (own := [part.block for part in self.parts if isinstance(part.block, kind)])
        )
        return found[0] if len(found) == 1 else found

    @cached_property
    def bin_dataset(self) -> Array:
        """Index of the dataset of each counts bin, through all blocks of ``data``, (E_total,)."""
        parts = sorted(enumerate(self.parts), key=lambda own: isinstance(own[1].block, OnOffData))
        return np.concatenate([np.full(part.offset.shape[2], number) for number, part in parts])


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

    Its ``solid_angle`` (B,) is that of the regions themselves [sr].
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
    """Reduce datasets with a shared norm to the arrays that `jaxprof.core.fit_norms` takes.

    Regions that were looked for ``on_maps`` already are not looked for again.

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
    parts: list[DatasetPart] = []
    sights: list[Visibility] = []
    for dataset in datasets:
        dataset.check()
        pixels, sight = on_maps.seen(dataset)
        sights.append(sight)
        edges = snap_energy_edges(energy_edges, dataset.energy_axis)
        same_edges(first_axis, group_edges, dataset.energy_axis, edges, dataset.name)
        view = RegionView(dataset, regions, pixels, slice(edges[0], edges[-1]))
        counts = region_counts(view, spectral_model, settings, reference)
        parts.append(_part(view, counts, edges - edges[0], settings))
    warn_unseen(sights, on_maps.regions)
    sizes = {sight.name: sight.solid_angle for sight in sights}
    if reference is None:
        warn_solid_angles(sizes, exact, on_maps.regions, _FEW_PIXELS)
    edges_tev = first_axis.edges_tev()[group_edges]
    return Reduction(
        parts=tuple(parts),
        energy_edges=np.column_stack([edges_tev[:-1], edges_tev[1:]]),
        solid_angle=solid_angle_of_pixels(sizes.values()),
        region_solid_angle=exact,
        unseen=np.all([one.unseen for one in sights], axis=0),
    )


def _part(
    view: RegionView, counts: RegionCounts, edges: Array, settings: ReductionSettings
) -> DatasetPart:
    coverage, own = group_mean(counts.coverage, edges), edges
    if settings.sum_over_energy_groups:
        counts, own = summed_energies(counts, edges), np.arange(len(edges))
    block = {
        name: _grouped(array, own, float(name == "alpha")) for name, array in counts.values.items()
    }
    block["mask"] = _grouped(counts.mask, own)
    offset = block.pop("offset", np.zeros(block["mask"].shape))
    resolved: dict[str, Any] = {}
    if settings.per_true_energy:
        resolved["templates"] = np.moveaxis(block.pop("templates"), 0, 2)
        resolved["true_edges"] = true_edges(view.dataset)
    kind = OnOffData if isinstance(view.dataset, MapDatasetOnOff) else ProfileData
    return DatasetPart(
        block=kind(**block),
        offset=offset,
        coverage=coverage,
        pixels=view.pixels,
        bins=view.bins,
        edges=edges,
        settings=settings,
        **resolved,
    )
