"""The bridge: datasets, regions and energy groups become the arrays that the core fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.core import OnOffData, ProfileData
from jaxprof.core.response import fold_flux
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.energy_groups import same_edges, snap_energy_edges, warn_moved_edges
from jaxprof.irf import EDispKernelMap, EDispMap
from jaxprof.irf.checks import LARGEST_SUM, TOO_MUCH, checked_kernels, kernel_error
from jaxprof.maps import MapAxis
from jaxprof.pixel_sums import MemberPixels, check_uncut, member_pixels
from jaxprof.region_checks import (
    Visibility,
    solid_angle_of_pixels,
    visibility,
    warn_solid_angles,
    warn_unseen,
)
from jaxprof.regions import region_centers, region_solid_angles
from jaxprof.regions.pixels import region_members
from jaxprof.user_warning import warn_user

Array = NDArray[Any]

MASK_POLICIES = ("coverage", "mean-exposure", "strict")
LIKELIHOODS = ("region", "pixel")
_FEW_PIXELS = (
    "Fluxes are those of the pixels; reference_solid_angle='region' makes them those of the regions"
)

NEGLIGIBLE = 1e-12
"""Part of the largest flux of a spectrum below which a negative one is rounding."""
OVERFLOW = 1e300
"""Expected counts at norm one that double precision has no room to add up."""


@dataclass(frozen=True)
class Reduction:
    """What is left of datasets once their regions and energy groups are chosen.

    Attributes
    ----------
    data : ProfileData, OnOffData or a tuple of both
        The arrays to fit, shape ``(B, G, E)``, in float64. The slots of several datasets of one
        statistic follow each other on the last axis.
    slot_dataset : ndarray of int, shape (E_total,)
        Index of the dataset of each slot, through all blocks of ``data``.
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
    """

    data: Any
    slot_dataset: Array
    dataset_names: tuple[str, ...]
    energy_edges: Array
    coverage: Array
    solid_angle: Array
    region_solid_angle: Array


@dataclass(frozen=True)
class _Slots:
    """Arrays of one dataset over its reconstructed energies, before grouping.

    ``values`` are those of `ProfileData` or `OnOffData`, of shape ``(B, E, P)``: P is one for
    region sums, or the largest number of pixels of a region.
    """

    values: dict[str, Array]
    mask: Array
    coverage: Array


def edisp_kernels(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array]:
    """Energy dispersion at P positions, shape (P, T, E), and its faults, see `checked_kernels`."""
    edisp = dataset.edisp
    if not isinstance(edisp, EDispKernelMap | EDispMap):
        raise ValueError(
            f"edisp of dataset {dataset.name!r} must be EDispKernelMap or EDispMap, "
            f"not {type(edisp).__name__}"
        )
    cleaned, faults = checked_kernels(np.asarray(edisp.get_kernel(positions, dataset.energy_axis)))
    if isinstance(edisp, EDispMap):
        # Its rows may be too much where the reconstructed energies hold but a part of them.
        all_energies = MapAxis.from_edges([1e-12, 1e12], name="energy", unit="TeV", interp="log")
        much = edisp.get_kernel(positions, all_energies) > LARGEST_SUM
        faults[much & (cleaned > 0) & (faults == 0)] = TOO_MUCH
    return cleaned, faults


def edisp_error(dataset: MapDataset, faults: Array) -> str:
    """What is wrong with the energy dispersion; ``faults`` (..., T, E) are those in use."""
    energies = dataset.energy_axis_true.center_tev(), dataset.energy_axis.center_tev()
    return kernel_error(f"edisp of dataset {dataset.name!r}", faults, *energies)


def reference_flux(model: Any, edges: Array) -> Array:
    """Flux of a spectral model in bins of true energy (T,) [cm-2 s-1]; edges in TeV.

    Raises
    ------
    ValueError
        If it has none, is negative, or is not a number anywhere.
    """
    flux = np.asarray(model.integral(edges[:-1], edges[1:]))

    def refused(bad: Array, what: str) -> ValueError:
        first, last = np.flatnonzero(bad)[[0, -1]]
        return ValueError(
            f"spectral_model: {type(model).__name__} {what} from {edges[first]:.4g} to "
            f"{edges[last + 1]:.4g} TeV"
        )

    if not np.all(np.isfinite(flux)):
        raise refused(
            ~np.isfinite(flux),
            "has a flux that is NaN or overflows (give one of another amplitude or reference)",
        )
    # Differences of spectra may be zero but for rounding.
    negative = flux < -NEGLIGIBLE * np.max(np.abs(flux))
    if np.any(negative):
        raise refused(negative, "is negative, which no flux can be,")
    flux = np.maximum(flux, 0.0)
    if not np.any(flux > 0):
        raise ValueError(
            f"spectral_model: {type(model).__name__} has no flux from {edges[0]:.4g} to "
            f"{edges[-1]:.4g} TeV, which a norm could multiply; give one of positive flux"
        )
    return flux


def check_expected(flux: Array, exposure: Array, name: str) -> None:
    """Raise a ValueError for expected counts that overflow, of reference fluxes and an exposure."""
    with np.errstate(invalid="ignore", over="ignore"):
        most = np.max(flux) * np.max(exposure, initial=0.0, where=np.isfinite(exposure))
    if most > OVERFLOW:
        raise ValueError(
            f"spectral_model: a flux of {np.max(flux):.3g} cm-2 s-1 and the exposure of dataset "
            f"{name!r} make more than {OVERFLOW:g} expected counts at norm one; give a spectrum of "
            "another amplitude"
        )


def _signal(
    dataset: MapDataset,
    model: Any,
    regions: Any,
    pixels: MemberPixels,
    mask: Array,
    bins: slice,
    mask_policy: str,
    per_pixel: bool,
) -> Array:
    """Predicted counts at norm one, shape (B, E) or, per pixel, (E, P); checked in ``bins``."""
    dataset = dataset_to_fold(dataset)
    true_axis = dataset.energy_axis_true.edges_tev()
    flux = reference_flux(model, true_axis)
    kernels, faults = edisp_kernels(dataset, region_centers(regions))
    exposure_map = dataset.exposure
    assert exposure_map is not None
    factor = exposure_map.unit.to(u.Unit("cm2 s"))
    # Where no energy of a pixel is used its exposure may be anything, NaN included.
    visible = mask.any(axis=0) if mask_policy != "mean-exposure" else np.ones(mask.shape[1], bool)
    exposure = exposure_map.data[:, pixels.y, pixels.x].astype(np.float64) * factor
    exposure = np.where(visible, exposure, 0.0)
    check_expected(flux, exposure, dataset.name)
    if mask_policy == "mean-exposure":
        _check_whole_exposure(exposure, pixels, dataset.name)
    if faults.any():
        photons = (pixels.total(exposure).T > 0) & (flux > 0)
        used = np.zeros((len(photons), mask.shape[0]), bool)
        used[:, bins] = pixels.total(mask[bins].astype(float)).T > 0
        faults = np.where(photons[:, :, np.newaxis] & used[:, np.newaxis], faults, 0)
        if faults.any():
            raise ValueError(edisp_error(dataset, faults))
    # What is left of NaN is at true energies that reach no energy in use.
    exposure = np.where(np.isfinite(exposure), exposure, 0.0)
    whole = np.where(pixels.whole_solid_angle > 0, pixels.whole_solid_angle, 1.0)
    if mask_policy == "mean-exposure":
        mean = (pixels.total(exposure) / np.maximum(pixels.n_pixels, 1)).T[:, :, np.newaxis]
        npred = np.asarray(fold_flux(flux, np.broadcast_to(mean, kernels.shape), kernels))
        if not per_pixel:
            return npred
        # The region's prediction ignores the mask: its pixels share it by exposure.
        shape = _per_pixel(flux, exposure * pixels.solid_angle, kernels, pixels)
        shape *= pixels.expanded(mask)
        total = np.stack([np.bincount(pixels.region, row, len(kernels)) for row in shape])
        scale = np.divide(npred.T, total, out=np.zeros_like(total), where=total > 0)
        return shape * scale[:, pixels.region]
    if per_pixel:
        folded = _per_pixel(flux, exposure * pixels.solid_angle, kernels, pixels)
        return folded * pixels.expanded(mask) / whole[pixels.region]
    # Energies with the same mask share their exposure; mostly there is just one mask.
    sums: dict[bytes, Array] = {}
    packed = [row.tobytes() for row in np.packbits(mask, axis=1)]
    for key, row in zip(packed, mask, strict=True):
        if key not in sums:
            sums[key] = pixels.total(exposure * (pixels.solid_angle * row)) / whole
    effective = np.stack([sums[key] for key in packed]).transpose(2, 1, 0)
    return np.asarray(fold_flux(flux, effective, kernels))


def _check_whole_exposure(exposure: Array, pixels: MemberPixels, name: str) -> None:
    """Raise for exposures (T, U) that cannot be averaged; inside the mask they were checked."""
    # NaN fails the comparison too.
    bad = ~((exposure >= 0) & (exposure < np.inf))
    if bad.any():
        energy, pixel = np.argwhere(bad)[0]
        first = (int(energy), int(pixels.y[pixel]), int(pixels.x[pixel]))
        touched = np.unique(pixels.region[pixels.expanded(np.asarray(bad.any(axis=0)))])
        regions = ", ".join(map(str, touched))
        raise ValueError(
            f"exposure of dataset {name!r} is NaN, infinite or negative in masked pixels of the "
            f"regions {regions} (counted from 0), first at (energy, y, x) = {first}; "
            "mask_policy='mean-exposure' needs the exposure of masked pixels too: mend the map, "
            "or use mask_policy='coverage'"
        )


def _per_pixel(flux: Array, exposure: Array, kernels: Array, pixels: MemberPixels) -> Array:
    """Fold the flux through each pixel's exposure (T, U) and its region's kernel, to (E, P)."""
    bounds, own = pixels.belongs.indptr, pixels.belongs.indices
    folded = np.empty((kernels.shape[2], len(own)))
    for kernel, low, high in zip(kernels, bounds[:-1], bounds[1:], strict=True):
        folded[:, low:high] = (kernel * flux[:, np.newaxis]).T @ exposure[:, own[low:high]]
    return folded


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
) -> _Slots:
    """Values of one dataset in its regions, over the reconstructed energies ``bins``.

    ``reference`` is the solid angle that the fluxes refer to (B,); None for that of the pixels.
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
    signal = _signal(dataset, model, regions, pixels, mask, bins, mask_policy, per_pixel)
    if reference is not None:
        # Of a flux spread evenly over the region its pixels have their share of solid angle.
        share = pixels.whole_solid_angle / reference
        signal = signal * (share[pixels.region] if per_pixel else share[:, np.newaxis])
    if per_pixel:
        names = ("n_on", "n_off", "alpha") if on_off else ("counts", "background")
        grids = {name: pixels.padded(pixels.expanded(values[name])) for name in names}
        grids["npred_ref"] = pixels.padded(signal)
        slot_mask = pixels.padded(pixels.expanded(mask))
    else:
        if on_off:
            sums = _on_off_sums(values, mask, pixels)
        else:
            sums = {name: pixels.total(array).T for name, array in values.items()}
        grids = {name: array[:, :, np.newaxis] for name, array in sums.items()}
        grids["npred_ref"] = signal[:, :, np.newaxis]
        slot_mask = (pixels.total(mask.astype(float)).T > 0)[:, :, np.newaxis]
    whole = np.where(pixels.whole_solid_angle > 0, pixels.whole_solid_angle, np.inf)
    coverage = (pixels.total(mask * pixels.solid_angle) / whole).T
    return _Slots(
        {name: grid[:, bins] for name, grid in grids.items()}, slot_mask[:, bins], coverage[:, bins]
    )


def _grouped(values: Array, edges: Array, fill: float = 0.0) -> Array:
    """Split energies (B, E, P) into groups: (B, G, slots), padded with ``fill``."""
    n_bins, _, n_pixels = values.shape
    widths = np.diff(edges)
    grouped = np.full((n_bins, len(widths), widths.max() * n_pixels), fill, values.dtype)
    for group, (low, width) in enumerate(zip(edges[:-1], widths, strict=True)):
        part = values[:, low : low + width].reshape(n_bins, -1)
        grouped[:, group, : part.shape[1]] = part
    return grouped


def _summed(slots: dict[str, Array], mask: Array, edges: Array) -> dict[str, Array]:
    """Sum the energies of each group into one slot; masked energies hold zeros already."""
    sums = {
        name: np.add.reduceat(values, edges[:-1], axis=1)
        for name, values in slots.items()
        if name != "alpha"
    }
    if "alpha" in slots:
        background = np.add.reduceat(slots["alpha"] * slots["n_off"], edges[:-1], axis=1)
        mean = np.add.reduceat(slots["alpha"], edges[:-1], axis=1)
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
        Whether the energies of a group are summed into one slot.
    reference_solid_angle : {"pixels", "region"}
        What the fluxes are those of, see `FluxProfileEstimator`.

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
    exact = region_solid_angles(regions)
    reference = exact if reference_solid_angle == "region" else None
    blocks: dict[type, list[dict[str, Array]]] = {ProfileData: [], OnOffData: []}
    owners: dict[type, list[Array]] = {ProfileData: [], OnOffData: []}
    coverages = []
    sights: list[Visibility] = []
    pixels: MemberPixels | None = None
    for index, dataset in enumerate(datasets):
        dataset.check()
        if pixels is None or not dataset.geom.is_allclose_image(datasets[index - 1].geom):
            pixels = member_pixels(region_members(regions, dataset.geom), dataset.geom.npix_shape)
            sights.append(visibility(dataset.name, regions, pixels, dataset.geom))
        else:
            sights.append(replace(sights[-1], name=dataset.name))
        edges = snap_energy_edges(energy_edges, dataset.energy_axis)
        same_edges(first_axis, group_edges, dataset.energy_axis, edges, dataset.name)
        bins, edges = slice(edges[0], edges[-1]), edges - edges[0]
        slots = _reduce_dataset(
            dataset, spectral_model, regions, pixels, bins, mask_policy, likelihood, reference
        )
        values, mask = slots.values, slots.mask
        # A masked slot must not enter a sum over energies either.
        values = {name: np.where(mask, array, 0.0) for name, array in values.items()}
        if sum_over_energy_groups:
            values = _summed(values, mask, edges)
            mask = np.logical_or.reduceat(mask, edges[:-1], axis=1)
            coverages.append(_group_mean(slots.coverage, edges))
            edges = np.arange(len(edges))
        else:
            coverages.append(_group_mean(slots.coverage, edges))
        kind = OnOffData if isinstance(dataset, MapDatasetOnOff) else ProfileData
        block = {name: _grouped(a, edges, float(name == "alpha")) for name, a in values.items()}
        block["mask"] = _grouped(mask, edges)
        blocks[kind].append(block)
        owners[kind].append(np.full(block["mask"].shape[2], index))
    warn_unseen(sights)
    if reference is None:
        warn_solid_angles(sights, exact, _FEW_PIXELS)
    data = tuple(_joined(kind, parts) for kind, parts in blocks.items() if parts)
    owner = [array for kind in blocks for array in owners[kind]]
    edges_tev = first_axis.edges_tev()[group_edges]
    return Reduction(
        data=data[0] if len(data) == 1 else data,
        slot_dataset=np.concatenate(owner),
        dataset_names=tuple(dataset.name for dataset in datasets),
        energy_edges=np.column_stack([edges_tev[:-1], edges_tev[1:]]),
        coverage=np.mean(coverages, axis=0),
        solid_angle=solid_angle_of_pixels(sights),
        region_solid_angle=exact,
    )


def _group_mean(coverage: Array, edges: Array) -> Array:
    return np.add.reduceat(coverage, edges[:-1], axis=1) / np.diff(edges)


def _joined(kind: type, parts: list[dict[str, Array]]) -> Any:
    """Concatenate the slots of several datasets."""
    return kind(**{name: np.concatenate([p[name] for p in parts], axis=2) for name in parts[0]})
