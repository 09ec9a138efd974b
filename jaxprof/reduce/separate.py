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
from jaxprof.reduce.signal import predicted_signal, reference_flux, true_edges
from jaxprof.sky.pixel_sums import MemberPixels, check_uncut, member_pixels
from jaxprof.sky.regions.pixels import region_members
from jaxprof.sky.regions.shapes import sky_shapes
from jaxprof.sky.regions.solid_angles import shape_solid_angles
from jaxprof.user_warning import warn_user

Array = NDArray[Any]

MASK_POLICIES = ("coverage", "mean-exposure", "strict")
LIKELIHOODS = ("region", "pixel")
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
    slot_dataset : ndarray of int, shape (E_total,)
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


@dataclass(frozen=True)
class _CountsBins:
    """Arrays of one dataset over its reconstructed energies, before grouping.

    ``values`` are those of `ProfileData` or `OnOffData`, of shape ``(B, E, P)``: P is one for
    region sums, or the largest number of pixels of a region.
    """

    values: dict[str, Array]
    mask: Array
    coverage: Array


def _on_off_sums(values: dict[str, Array], usable: Array, pixels: MemberPixels) -> dict[str, Array]:
    """Sum On-Off pixels; alpha is chosen such that the background ``alpha n_off`` is kept."""
    sums = {name: pixels.total(values[name] * usable) for name in ("n_on", "n_off", "on", "off")}
    background = pixels.total(values["alpha"] * values["n_off"] * usable)
    geometric = np.divide(
        sums["on"], sums["off"], out=np.ones_like(background), where=sums["off"] > 0
    )
    alpha = np.divide(background, sums["n_off"], out=geometric, where=sums["n_off"] > 0)
    return {"n_on": sums["n_on"].T, "n_off": sums["n_off"].T, "alpha": alpha.T}


def _reduce_dataset(
    dataset: MapDataset,
    model: Any,
    regions: Any,
    pixels: MemberPixels,
    bins: slice,
    mask_policy: str,
    likelihood: str,
    reference: Array | None,
    per_true_energy: bool,
) -> _CountsBins:
    """Values of one dataset in its regions, over the reconstructed energies ``bins``.

    ``reference`` is the solid angle that the fluxes refer to (B,); None for that of the pixels.
    With ``per_true_energy`` there are ``templates`` of shape (T, B, E, P) among the values.
    """
    at = (slice(None), pixels.y, pixels.x)
    mask = dataset.mask[at]
    per_pixel = likelihood == "pixel"
    on_off = isinstance(dataset, MapDatasetOnOff)
    values: dict[str, Array] = {}
    parts: dict[str, Any]
    if isinstance(dataset, MapDatasetOnOff):
        parts = {
            "n_on": dataset.counts,
            "n_off": dataset.counts_off,
            "on": dataset.acceptance,
            "off": dataset.acceptance_off,
            "alpha": dataset.alpha,
        }
        # Without an ON or OFF acceptance a pixel's background is unknown: it tells nothing.
        mask = mask & (parts["alpha"].data[at] > 0)
        if per_pixel and np.any((parts["n_off"].data[at][bins] <= 0) & mask[bins]):
            warn_user(
                f"likelihood='pixel' with pixels of dataset {dataset.name!r} that have no OFF "
                "counts: a background profiled pixel by pixel biases the norms, often to zero; "
                "use likelihood='region'",
            )
    else:
        parts = {"counts": dataset.counts, "background": dataset.npred_background()}
    for name, part in parts.items():
        # OFF maps made by a convolution have rounding below zero, see MapDatasetOnOff.
        values[name] = np.where(mask, np.maximum(part.data[at].astype(np.float64), 0.0), 0.0)
    if mask_policy == "strict":
        check_uncut(mask[bins], pixels, dataset.name)
    signal = predicted_signal(
        dataset, model, regions, pixels, mask, bins, mask_policy, per_pixel, per_true_energy
    )
    if reference is not None:
        # Of a flux spread evenly over the region its pixels have their share of solid angle.
        share = pixels.whole_solid_angle / reference
        signal = signal * (share[pixels.region] if per_pixel else share[:, np.newaxis])
    if per_pixel:
        names = ("n_on", "n_off", "alpha") if on_off else ("counts", "background")
        grids = {name: pixels.padded(pixels.expanded(values[name])) for name in names}
        flat = signal.reshape(-1, signal.shape[-1])
        padded = pixels.padded(flat)
        grids["npred_ref"] = np.moveaxis(padded.reshape(len(padded), *signal.shape[:-1], -1), 0, -3)
        slot_mask = pixels.padded(pixels.expanded(mask))
    else:
        if on_off:
            sums = _on_off_sums(values, mask, pixels)
        else:
            sums = {name: pixels.total(array).T for name, array in values.items()}
        grids = {name: array[:, :, np.newaxis] for name, array in sums.items()}
        grids["npred_ref"] = signal[..., np.newaxis]
        slot_mask = (pixels.total(mask.astype(float)).T > 0)[:, :, np.newaxis]
    whole = np.where(pixels.whole_solid_angle > 0, pixels.whole_solid_angle, np.inf)
    coverage = (pixels.total(mask * pixels.solid_angle) / whole).T
    values = {name: grid[..., bins, :] for name, grid in grids.items()}
    if per_true_energy:
        flux = reference_flux(model, true_edges(dataset))
        values["templates"] = values["npred_ref"]
        values["npred_ref"] = np.tensordot(flux, values["templates"], 1)
    return _CountsBins(values, slot_mask[:, bins], coverage[:, bins])


def _grouped(values: Array, edges: Array, fill: float = 0.0) -> Array:
    """Split energies (..., B, E, P) into groups: (..., B, G, E), padded with ``fill``."""
    *front, _, n_pixels = values.shape
    widths = np.diff(edges)
    grouped = np.full((*front, len(widths), widths.max() * n_pixels), fill, values.dtype)
    for group, (low, width) in enumerate(zip(edges[:-1], widths, strict=True)):
        part = values[..., low : low + width, :].reshape(*front, -1)
        grouped[..., group, : part.shape[-1]] = part
    return grouped


def _summed(counts_bins: dict[str, Array], mask: Array, edges: Array) -> dict[str, Array]:
    """Sum the energies of each group into one counts bin; masked energies hold zeros already."""
    sums = {
        name: np.add.reduceat(values, edges[:-1], axis=-2)
        for name, values in counts_bins.items()
        if name != "alpha"
    }
    if "alpha" in counts_bins:
        background = np.add.reduceat(
            counts_bins["alpha"] * counts_bins["n_off"], edges[:-1], axis=1
        )
        mean = np.add.reduceat(counts_bins["alpha"], edges[:-1], axis=1)
        mean = mean / np.maximum(np.add.reduceat(mask.astype(float), edges[:-1], axis=1), 1.0)
        sums["alpha"] = np.divide(background, sums["n_off"], out=mean, where=sums["n_off"] > 0)
    return sums


def reduce_datasets(
    datasets: Sequence[MapDataset],
    regions: Any,
    spectral_model: Any,
    energy_edges: u.Quantity,
    *,
    mask_policy: str = "coverage",
    likelihood: str = "region",
    sum_over_energy_groups: bool = False,
    reference_solid_angle: str = "pixels",
    per_true_energy: bool = False,
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
    mask_policy : {"coverage", "mean-exposure", "strict"}
        How the exposure of a cut region is taken, see `FluxProfileEstimator`.
    likelihood : {"region", "pixel"}
        Whether the pixels of a region are summed, or each is a term of its own.
    sum_over_energy_groups : bool
        Whether the energies of a group are summed into one counts bin.
    reference_solid_angle : {"pixels", "region"}
        What the fluxes are those of, see `FluxProfileEstimator`.
    per_true_energy : bool
        Whether the parts keep true energies apart, for spectra with free parameters.

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
    shapes = sky_shapes(regions)
    exact = shape_solid_angles(shapes)
    reference = exact if reference_solid_angle == "region" else None
    blocks: dict[type, list[dict[str, Array]]] = {ProfileData: [], OnOffData: []}
    owners: dict[type, list[Array]] = {ProfileData: [], OnOffData: []}
    coverages = []
    parts: list[DatasetPart] = []
    sights: list[Visibility] = []
    pixels: MemberPixels | None = None
    for index, dataset in enumerate(datasets):
        dataset.check()
        if pixels is None or not dataset.geom.is_allclose_image(datasets[index - 1].geom):
            pixels = member_pixels(region_members(shapes, dataset.geom), dataset.geom.npix_shape)
            sights.append(visibility(dataset.name, regions, pixels, dataset.geom))
        else:
            sights.append(replace(sights[-1], name=dataset.name))
        edges = snap_energy_edges(energy_edges, dataset.energy_axis)
        same_edges(first_axis, group_edges, dataset.energy_axis, edges, dataset.name)
        bins, edges = slice(edges[0], edges[-1]), edges - edges[0]
        part = DatasetPart(pixels, bins, edges, likelihood == "pixel", sum_over_energy_groups)
        how = mask_policy, likelihood, reference, per_true_energy
        counts_bins = _reduce_dataset(dataset, spectral_model, regions, pixels, bins, *how)
        values, mask = counts_bins.values, counts_bins.mask
        # A masked counts bin must not enter a sum over energies either.
        values = {name: np.where(mask, array, 0.0) for name, array in values.items()}
        if sum_over_energy_groups:
            values = _summed(values, mask, edges)
            mask = np.logical_or.reduceat(mask, edges[:-1], axis=1)
            coverages.append(_group_mean(counts_bins.coverage, edges))
            edges = np.arange(len(edges))
        else:
            coverages.append(_group_mean(counts_bins.coverage, edges))
        kind = OnOffData if isinstance(dataset, MapDatasetOnOff) else ProfileData
        block = {name: _grouped(a, edges, float(name == "alpha")) for name, a in values.items()}
        block["mask"] = _grouped(mask, edges)
        if per_true_energy:
            templates = np.moveaxis(block.pop("templates"), 0, 2)
            part = replace(part, true_edges=true_edges(dataset), templates=templates)
        parts.append(part)
        blocks[kind].append(block)
        owners[kind].append(np.full(block["mask"].shape[2], index))
    warn_unseen(sights)
    if reference is None:
        warn_solid_angles(sights, exact, _FEW_PIXELS)
    data = tuple(_joined(kind, own) for kind, own in blocks.items() if own)
    owner = [array for kind in blocks for array in owners[kind]]
    edges_tev = first_axis.edges_tev()[group_edges]
    return Reduction(
        data=data[0] if len(data) == 1 else data,
        bin_dataset=np.concatenate(owner),
        dataset_names=tuple(dataset.name for dataset in datasets),
        energy_edges=np.column_stack([edges_tev[:-1], edges_tev[1:]]),
        coverage=np.mean(coverages, axis=0),
        solid_angle=solid_angle_of_pixels(sights),
        region_solid_angle=exact,
        parts=tuple(parts),
    )


def _group_mean(coverage: Array, edges: Array) -> Array:
    return np.add.reduceat(coverage, edges[:-1], axis=1) / np.diff(edges)


def _joined(kind: type, parts: list[dict[str, Array]]) -> Any:
    """Concatenate the counts bins of several datasets."""
    return kind(**{name: np.concatenate([p[name] for p in parts], axis=2) for name in parts[0]})
