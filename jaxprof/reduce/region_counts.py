"""The counts bins of one dataset: its pixels, or their sums over regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprof.reduce.region_view import ReductionSettings, RegionView
from jaxprof.reduce.signal import predicted_signal, reference_flux, true_edges
from jaxprof.sky.pixel_sums import MemberPixels, check_uncut
from jaxprof.types import Array
from jaxprof.user_warning import warn_user


@dataclass(frozen=True)
class RegionCounts:
    """Arrays of one dataset over its reconstructed energies, before grouping.

    ``values`` are those of `ProfileData` or `OnOffData`, of shape ``(B, E, P)``, zero where
    ``mask`` is False: P is one for region sums, or the largest number of pixels of a region.
    ``coverage`` has the shape (B, E).
    """

    values: dict[str, Array]
    mask: Array
    coverage: Array


def region_counts(
    view: RegionView, model: Any, settings: ReductionSettings, reference: Array | None
) -> RegionCounts:
    """Values of one dataset in its regions, over its reconstructed energies in use.

    ``reference`` is the solid angle that the fluxes refer to (B,); None for that of the pixels.
    With ``settings.per_true_energy`` there are ``templates`` of shape (T, B, E, P) among the
    values.
    """
    dataset, pixels, mask, bins = view.dataset, view.pixels, view.mask, view.bins
    if settings.mask_policy == "strict":
        check_uncut(mask[bins], pixels, dataset.name)
    if settings.per_pixel and "n_off" in view.maps:
        _warn_few_off_counts(view)
    signal = predicted_signal(view, model, settings)
    if reference is not None:
        # Of a flux spread evenly over the region its pixels have their share of solid angle.
        share = pixels.whole_solid_angle / reference
        signal = signal * (share[pixels.region] if settings.per_pixel else share[:, np.newaxis])
    in_bins = _each_pixel if settings.per_pixel else _region_sums
    grids, used = in_bins(view, signal)
    whole = np.where(pixels.whole_solid_angle > 0, pixels.whole_solid_angle, np.inf)
    masks, which = view.distinct_masks
    coverage = (pixels.total(masks * pixels.solid_angle) / whole)[which].T
    # A masked counts bin must not enter a sum over energies.
    used = used[:, bins]
    values = {name: np.where(used, grid[..., bins, :], 0.0) for name, grid in grids.items()}
    if settings.per_true_energy:
        flux = reference_flux(model, true_edges(dataset))
        values["templates"] = values["npred_ref"]
        values["npred_ref"] = np.tensordot(flux, values["templates"], 1)
    return RegionCounts(values, used, coverage[:, bins])


def _warn_few_off_counts(view: RegionView) -> None:
    if np.any((view.maps["n_off"][view.bins] <= 0) & view.mask[view.bins]):
        warn_user(
            f"likelihood='pixel' with pixels of dataset {view.dataset.name!r} that have no OFF "
            "counts: a background profiled pixel by pixel biases the norms, often to zero; "
            "use likelihood='region'",
        )


def _each_pixel(view: RegionView, signal: Array) -> tuple[dict[str, Array], Array]:
    """Values (..., B, E, P) and mask (B, E, P) with a counts bin for each pixel of a region."""
    maps, pixels = view.values, view.pixels
    names = set(maps) - {"on", "off"}
    grids = {name: pixels.padded(pixels.expanded(maps[name])) for name in names}
    # No pixel may be seen at all.
    rows = math.prod(signal.shape[:-1])
    padded = pixels.padded(signal.reshape(rows, signal.shape[-1]))
    shape = (len(padded), *signal.shape[:-1], padded.shape[-1])
    grids["npred_ref"] = np.moveaxis(padded.reshape(shape), 0, -3)
    return grids, pixels.padded(pixels.expanded(view.mask))


def _region_sums(view: RegionView, signal: Array) -> tuple[dict[str, Array], Array]:
    """Values (..., B, E, 1) and mask (B, E, 1) of sums over the pixels of a region."""
    maps, pixels = view.values, view.pixels
    if "n_off" in maps:
        sums = _on_off_sums(maps, pixels)
    else:
        sums = {name: pixels.total(array).T for name, array in maps.items()}
    grids = {name: array[:, :, np.newaxis] for name, array in sums.items()}
    grids["npred_ref"] = signal[..., np.newaxis]
    masks, which = view.distinct_masks
    return grids, (pixels.total(masks) > 0)[which].T[:, :, np.newaxis]


def _on_off_sums(values: dict[str, Array], pixels: MemberPixels) -> dict[str, Array]:
    """Sum On-Off pixels; alpha is chosen such that the background ``alpha n_off`` is kept."""
    sums = {name: pixels.total(values[name]) for name in ("n_on", "n_off", "on", "off")}
    background = pixels.total(values["alpha"] * values["n_off"])
    geometric = np.divide(
        sums["on"], sums["off"], out=np.ones_like(background), where=sums["off"] > 0
    )
    alpha = np.divide(background, sums["n_off"], out=geometric, where=sums["n_off"] > 0)
    return {"n_on": sums["n_on"].T, "n_off": sums["n_off"].T, "alpha": alpha.T}


def summed_energies(counts: RegionCounts, edges: Array) -> RegionCounts:
    """The same with one counts bin for the energies of each group."""

    def summed(values: Array, axis: int = 1) -> Array:
        return np.asarray(np.add.reduceat(values, edges[:-1], axis=axis))

    values, mask = counts.values, counts.mask
    sums = {name: summed(array, -2) for name, array in values.items() if name != "alpha"}
    if "alpha" in values:
        background = summed(values["alpha"] * values["n_off"])
        mean = summed(values["alpha"]) / np.maximum(summed(mask.astype(float)), 1.0)
        sums["alpha"] = np.divide(background, sums["n_off"], out=mean, where=sums["n_off"] > 0)
    mask = np.logical_or.reduceat(mask, edges[:-1], axis=1)
    return RegionCounts(sums, mask, group_mean(counts.coverage, edges))


def group_mean(coverage: Array, edges: Array) -> Array:
    """Mean over the energies of each group, (B, G)."""
    return np.asarray(np.add.reduceat(coverage, edges[:-1], axis=1) / np.diff(edges))
