"""The figures of a run, by name."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.plotting import plot_map, plot_regions
from jaxprof.plotting.maps import pixel_extent
from jaxprof.plotting.style import QUANTITY_NAMES
from jaxprof.profile import FluxProfile
from jaxprof.profile.html import energy_ranges
from jaxprof.sky.geometry import WcsGeom

# What formulae are in captions.
_IN_WORDS = {"dnde": "Differential flux", "e2dnde": "Differential flux times the energy squared"}
_MOST_PANELS = 4
_MARGIN = 0.15  # around the regions on the map, of their extent
_FEWEST = 30.0  # pixels that are shown along each axis
_APART = 10.0  # points between the numbers of bins


def figures(
    profile: FluxProfile, datasets: Sequence[MapDataset], sed_type: str
) -> dict[str, tuple[str, Any]]:
    """Draw what there is to show of a profile.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    datasets : sequence of MapDataset
        What it was fitted to; the map shows the first.
    sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What fluxes are shown as.

    Returns
    -------
    dict of str to (str, Figure)
        Caption and figure by name: the flux, the counts, the map with the regions, and where the
        profile has them the likelihood scans and the correlation of the norms of each group.
    """
    made = {
        sed_type: (
            f"{_IN_WORDS.get(sed_type, QUANTITY_NAMES[sed_type])} in each bin, with errors; upper "
            f"limits where the significance is below {profile.sqrt_ts_threshold_ul:g} sigma.",
            _flux(profile, sed_type),
        )
    }
    if "npred" in profile.quantities:
        made["counts"] = ("Predicted and observed counts.", _counts(profile))
    if datasets:
        caption = "Counts of the first dataset around the bins, and these."
        made["map"] = caption, _map(profile, datasets[0])
    if profile.has_stat_profiles:
        caption = "Likelihood scans: how far the fit statistic is above its minimum"
        made |= _of_groups(
            "scan", caption, profile, lambda group, ax: _scans(profile, group, sed_type, ax)
        )
    if "norm_covariance" in profile.quantities:
        caption = "Correlation of the norms of all bins"
        made |= _of_groups(
            "correlation",
            caption,
            profile,
            lambda group, ax: profile.plot_correlation(group=group, ax=ax),
            size=(6.4, 5.4),
        )
    return made


def image(figure: Any, kind: str) -> bytes:
    """A figure as the content of a file; `kind` is "png", "pdf" or "svg"."""
    stream = io.BytesIO()
    # No time of creation: the same figure is the same file.
    meta = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    figure.savefig(stream, format=kind, dpi=150, metadata=meta)
    return stream.getvalue()


def _drawn(draw: Callable[[Any], Any], size: tuple[float, float] = (7.0, 4.4)) -> Any:
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    draw(ax)
    return figure


def _flux(profile: FluxProfile, sed_type: str) -> Any:
    """The flux; that of energies of which each has its own order of magnitude in panels."""
    if sed_type != "dnde" or not 1 < profile.shape[1] <= _MOST_PANELS:
        return _drawn(lambda ax: profile.plot(ax=ax, sed_type=sed_type))
    return profile.plot(groups="panels", sed_type=sed_type)[0].figure


def _counts(profile: FluxProfile) -> Any:
    """A panel for each energy group, whose numbers differ by orders of magnitude."""
    ranges = energy_ranges(profile)
    n = len(ranges)
    figure, axes = plt.subplots(
        n, sharex=True, squeeze=False, figsize=(7.0, 1.6 + 2.8 * n), layout="constrained"
    )
    for group, (ax, energies) in enumerate(zip(axes[:, 0], ranges, strict=True)):
        part = profile.slice_by_idx({"energy": [group]})
        for name in ("npred", "counts"):
            if name in part.quantities:
                part[name].plot(ax=ax)
        ax.set_ylabel("Counts per bin")
        if n > 1:
            ax.set_title(energies, fontsize="medium", loc="right")
        if group < n - 1:
            ax.set_xlabel("")
    return figure


def _of_groups(
    name: str,
    caption: str,
    profile: FluxProfile,
    draw: Callable[[int, Any], Any],
    size: tuple[float, float] = (7.0, 4.4),
) -> dict[str, tuple[str, Any]]:
    """A figure for each energy group."""
    made = {}
    for group, energies in enumerate(energy_ranges(profile)):
        key = name if profile.shape[1] == 1 else f"{name}_{group}"
        made[key] = (f"{caption}, {energies}.", _drawn(partial(draw, group), size))
    return made


def _scans(profile: FluxProfile, group: int, sed_type: str, ax: Any) -> None:
    part = profile.slice_by_idx({"energy": [group]})
    part.plot(ax=ax, sed_type=sed_type, color="tab:orange")
    part.plot_ts_profiles(ax=ax, sed_type=sed_type)
    ax.set_yscale("linear")


def _map(profile: FluxProfile, dataset: MapDataset) -> Any:
    counts = dataset.counts
    if counts is None:
        raise ValueError(f"dataset {dataset.name!r} has no counts to draw")
    image = counts.sum_over_axes()
    regions = [] if profile.regions is None else profile.regions
    x, y = _around(regions, image.geom)
    width = 7.0
    size = width, float(np.clip(1.0 + 0.78 * width * np.ptp(y) / np.ptp(x), 2.6, 8.0))
    plt.figure(figsize=size, layout="constrained")
    ax = plot_map(image, stretch="sqrt", add_cbar=True)
    ax.set(xlim=x, ylim=y)
    if regions:
        plot_regions(regions, ax=ax, edgecolor="white", linewidth=0.8)
        _number(regions, ax)
    return ax.figure


def _around(regions: Sequence[Any], geom: WcsGeom) -> tuple[Any, Any]:
    """Limits of the pixels that are shown: all, or those of the regions and a part around them."""
    shape = np.array(geom.npix_shape[::-1])
    whole = np.stack([np.full(2, -0.5), shape - 0.5])
    found = pixel_extent(list(regions), geom.wcs)
    if found is None or not np.isfinite(found).all():
        return tuple(whole.T)
    extent = np.ptp(found, axis=0)
    margin = np.maximum(_MARGIN * extent.max(), 0.5 * (_FEWEST - extent))
    shown = np.clip([found[0] - margin, found[1] + margin], *whole)
    # Of regions off the map there is nothing to see.
    return tuple((shown if np.all(np.ptp(shown, axis=0) > 1) else whole).T)


def _number(regions: Sequence[Any], ax: Any) -> None:
    """Numbers of the bins, as tables and messages have them, as far as they stand apart."""
    ax.figure.canvas.draw()  # the aspect of the map, which moves its pixels
    kept: list[Any] = []
    for number, region in enumerate(regions):
        at = getattr(region, "center", None)
        if at is None:
            continue
        if hasattr(region, "outer_radius"):  # rings share their centre
            middle = 0.5 * (region.inner_radius + region.outer_radius)
            at = at.directional_offset_by(0.25 * np.pi * u.rad, middle)
        place = [float(own) for own in ax.wcs.world_to_pixel(at)]
        shown = ax.transData.transform(place) * 72 / ax.figure.dpi
        apart = all(np.hypot(*(shown - other)) > _APART for other in kept)
        if apart and np.all(np.isfinite(shown)):  # others are behind a TAN map, for instance
            kept.append(shown)
            ax.text(
                *place, str(number), color="w", fontsize=7, ha="center", va="center",
                clip_on=True, gid="bin-number",
            )  # fmt: skip
