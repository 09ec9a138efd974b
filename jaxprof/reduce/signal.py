"""Predicted counts of a reference spectrum: flux, exposure and energy dispersion of regions."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof.datasets import MapDataset
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.irf import EDispKernelMap, EDispMap
from jaxprof.irf.checks import LARGEST_SUM, TOO_MUCH, checked_kernels, kernel_error
from jaxprof.models.spectral import SpectralModel
from jaxprof.reduce.region_view import ReductionSettings, RegionView
from jaxprof.sky import MapAxis
from jaxprof.sky.pixel_sums import MemberPixels
from jaxprof.sky.regions import region_centers
from jaxprof.types import Array

NEGLIGIBLE = 1e-12
"""Part of the largest flux of a spectrum below which a negative one is rounding."""
OVERFLOW = 1e300
"""Expected counts at norm one that double precision has no room to add up."""


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
    # A profile needs all fluxes of its groups: these come of the same program.
    if isinstance(model, SpectralModel) and not model.is_norm:
        flux = np.asarray(model.bin_fluxes(edges[:-1], edges[1:])["flux"])
    else:
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


def true_edges(dataset: MapDataset) -> Array:
    """Edges of the true energies that a dataset is folded with, (T + 1,) [TeV]."""
    return dataset_to_fold(dataset).energy_axis_true.edges_tev()


def predicted_signal(view: RegionView, model: Any, settings: ReductionSettings) -> Array:
    """Predicted counts at norm one, shape (B, E) or, per pixel, (E, P); checked in ``view.bins``.

    ``settings.per_true_energy`` gives those for a flux of one in each true energy instead, with an
    axis of these in front. Where a region's prediction is shared by its pixels whatever the mask
    (``mask_policy="mean-exposure"``) they have their shares at the reference spectrum.
    """
    dataset = dataset_to_fold(view.dataset)
    flux = reference_flux(model, dataset.energy_axis_true.edges_tev())
    kernels, faults = edisp_kernels(dataset, region_centers(view.regions))
    exposure = _exposure(dataset, view, settings.mask_policy)
    check_expected(flux, exposure, dataset.name)
    _check_kernels(dataset, faults, view, exposure, (flux > 0) | settings.per_true_energy)
    # What is left of NaN is at true energies that reach no energy in use.
    exposure[~np.isfinite(exposure)] = 0.0
    pixels = view.pixels
    if settings.mask_policy == "mean-exposure":
        mean = (pixels.total(exposure) / np.maximum(pixels.n_pixels, 1)).T[:, :, np.newaxis]
        mean = np.broadcast_to(mean, kernels.shape)
        npred = _folded(flux, mean, kernels, settings.per_true_energy)
        if not settings.per_pixel:
            return npred
        # The region's prediction ignores the mask: its pixels share it by exposure.
        share = _per_pixel(flux, exposure * pixels.solid_angle, kernels, pixels, False)
        share *= pixels.expanded(view.mask)
        total = np.stack([np.bincount(pixels.region, row, len(kernels)) for row in share])
        share /= np.where(total > 0, total, 1.0)[:, pixels.region]
        return share * np.swapaxes(npred, -1, -2)[..., pixels.region]
    whole = np.where(pixels.whole_solid_angle > 0, pixels.whole_solid_angle, 1.0)
    if settings.per_pixel:
        resolved = settings.per_true_energy
        folded = _per_pixel(flux, exposure * pixels.solid_angle, kernels, pixels, resolved)
        return folded * pixels.expanded(view.mask) / whole[pixels.region]
    masks, which = view.distinct_masks
    sums = [pixels.total(exposure * (pixels.solid_angle * mask)) / whole for mask in masks]
    effective = np.stack(sums)[which].transpose(2, 1, 0)
    return _folded(flux, effective, kernels, settings.per_true_energy)


def _exposure(dataset: MapDataset, view: RegionView, mask_policy: str) -> Array:
    """Exposure [cm2 s] of the regions' pixels (T, U), zero where none of their energies is used."""
    exposure_map, pixels = dataset.exposure, view.pixels
    assert exposure_map is not None
    exposure = pixels.of_map(exposure_map.data).astype(np.float64)
    exposure *= exposure_map.unit.to(u.Unit("cm2 s"))
    if mask_policy == "mean-exposure":
        _check_whole_exposure(exposure, pixels, dataset.name)
        return exposure
    # Where no energy of a pixel is used its exposure may be anything, NaN included.
    unused = ~view.mask.any(axis=0)
    exposure[:, unused] = 0.0
    return exposure


def _check_kernels(
    dataset: MapDataset, faults: Array, view: RegionView, exposure: Array, seen: Array
) -> None:
    """Raise for faults (B, T, E) of the energy dispersion where photons meet unmasked energies.

    ``seen`` tells at which true energies (T,) there may be photons.
    """
    if not faults.any():
        return
    pixels, mask = view.pixels, view.mask[view.bins]
    photons = (pixels.total(exposure).T > 0) & seen
    used = np.zeros((len(photons), len(view.mask)), bool)
    used[:, view.bins] = pixels.total(mask.astype(float)).T > 0
    faults = np.where(photons[:, :, np.newaxis] & used[:, np.newaxis], faults, 0)
    if faults.any():
        raise ValueError(edisp_error(dataset, faults))


def _folded(flux: Array, exposure: Array, kernels: Array, per_true_energy: bool) -> Array:
    """Predicted counts (B, E) of a flux (T,), or those of each true energy for one (T, B, E).

    The effective exposure (B, T, E) depends on the reconstructed energy because the mask may.
    """
    if per_true_energy:
        return np.moveaxis(kernels * exposure, 1, 0)
    found: Array = (flux[:, np.newaxis] * kernels * exposure).sum(axis=-2)
    return found


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


def _per_pixel(
    flux: Array, exposure: Array, kernels: Array, pixels: MemberPixels, per_true_energy: bool
) -> Array:
    """As `_folded`, through each pixel's exposure (T, U) and its region's kernel; to (E, P)."""
    bounds, own = pixels.first, pixels.member
    front = (len(flux),) if per_true_energy else ()
    folded = np.empty((*front, kernels.shape[2], len(own)))
    for kernel, low, high in zip(kernels, bounds[:-1], bounds[1:], strict=True):
        inside = exposure[:, own[low:high]]
        if per_true_energy:
            folded[:, :, low:high] = kernel[:, :, np.newaxis] * inside[:, np.newaxis]
        else:
            folded[:, low:high] = (kernel * flux[:, np.newaxis]).T @ inside
    return folded
