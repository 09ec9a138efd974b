"""Figures of maps, regions and flux profiles.

Every function draws into `ax`, or into the current axes if these are empty, or into a new
figure, and returns the axes. Limits are left to matplotlib's autoscaling, with margins that
hold everything drawn, so that ``ax.set_yscale`` afterwards does the right thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.points import ARROW_POINTS, draw_points, flux_unit, fluxes, get_quantity
from jaxprof.plotting.style import (
    QUANTITY_NAMES,
    add_zero_line,
    axis_label,
    bin_label,
    choose_yscale,
    energy_label,
    get_axes,
    quantity_label,
    set_margins,
)
from jaxprof.plotting.xaxis import bin_names, finish_xaxis
from jaxprof.profile.quantities import MATRICES, NEEDED, PER_BIN, PER_DATASET, SCANS
from jaxprof.profile.quantities import unit as unit_of

_MAX_BINS_IN_LEGEND = 10
#: What to use for quantities that are no points.
_OTHER_FIGURES = {
    **dict.fromkeys((*SCANS, "ts_scan"), "plot_ts_profiles() for likelihood scans"),
    **dict.fromkeys((*MATRICES, *NEEDED), "plot_correlation()"),
    **dict.fromkeys(("response", "leakage"), "plot_leakage()"),
}


def plot_profile(
    profile: Any,
    *,
    ax: Any = None,
    sed_type: str = "dnde",
    axis_name: str | None = None,
    label: str | Sequence[str] | None = None,
    show_names: bool = False,
    **kwargs: Any,
) -> Any:
    """Draw the points of a flux profile.

    Points have vertical error bars (asymmetric ones where the profile has them) and
    horizontal bars as wide as their bins. Where ``profile.is_ul`` an arrow that hangs from
    the upper limit takes the place of the point. Failed bins are left out. The y axis is
    linear if anything shown is zero or negative or all is within two decades, logarithmic
    otherwise.

    Parameters
    ----------
    profile : FluxProfile
        Quantities of shape (bins, groups).
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    sed_type : {"dnde", "flux", "eflux", "e2dnde", "norm"}
        Which flux.
    axis_name : str, optional
        The profile's own axis ("projected-distance" or "region-index", the default) with a
        colour per energy group, or "energy" with a spectrum per bin.
    label : str or sequence of str, optional
        Legend entry, or one per energy group (per bin for "energy"). Default: the ranges.
    show_names : bool
        Whether to show the names of the bins: as tick labels, rotated and small enough not to
        overlap, or in the legend of spectra.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar`: `color`, `marker`, `markersize`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If `sed_type` or `axis_name` is unknown, the labels are too few or too many, or the profile
        has no names to show.
    """
    names = bin_names(profile, show_names)
    values, errors, limits = fluxes(profile, sed_type)
    name = _axis_name(profile, axis_name)
    axis, edges = profile.axis, np.asarray(profile.energy_edges, dtype=float)
    n_bins, n_groups = values.shape
    by_energy = name == "energy"
    if by_energy:
        unit, scale = ("TeV", 1.0) if edges.max() >= 1 else ("GeV", 1e3)
        low, high = scale * edges.T
        ref, n_series = np.sqrt(low * high), n_bins
        ranges = names or [bin_label(axis, k) for k in range(n_bins)]
    else:
        ref, low, high = (np.asarray(v, dtype=float) for v in (axis.ref, axis.min, axis.max))
        n_series = n_groups
        ranges = [energy_label(*pair) for pair in edges]
        values, errors, limits = values.T, errors.swapaxes(1, 2), limits.T

    # A legend of fifty bins would leave no room for the points: a colour bar instead.
    many = by_energy and n_series > _MAX_BINS_IN_LEGEND and label is None
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.95, n_series)) if many else None
    labels = ["_nolegend_"] * n_series if many else _labels(label, ranges)
    ax = get_axes(ax)
    for k in range(n_series):
        style = dict(kwargs)
        if colors is not None:
            style.setdefault("color", colors[k])
        x = np.stack([ref, low, high])
        draw_points(ax, x, values[k], errors[:, k], limits[k], labels[k], style)
    set_margins(ax, ARROW_POINTS + 6)
    if by_energy:
        ax.set_xscale("log")
        ax.set_xlabel(f"Energy [{unit}]")
    else:
        finish_xaxis(ax, axis, names)
    choose_yscale(ax)
    add_zero_line(ax)
    ax.set_ylabel(quantity_label(sed_type, flux_unit(profile, sed_type)))
    if many and "color" not in kwargs:
        norm = Normalize(float(axis.ref[0]), float(axis.ref[-1]) + 0.05 * float(np.ptp(axis.ref)))
        bar = ax.figure.colorbar(ScalarMappable(norm, "viridis"), ax=ax, label=axis_label(axis))
        bar.ax.set_ylim(float(axis.ref[0]), float(axis.ref[-1]))
    update_legend(ax)
    return ax


def plot_quantity(
    profile: Any,
    name: str,
    *,
    ax: Any = None,
    label: str | Sequence[str] | None = None,
    per_dataset: bool = False,
    show_names: bool = False,
    **kwargs: Any,
) -> Any:
    """Draw any quantity of a profile, as points with horizontal bars as wide as the bins.

    Parameters
    ----------
    profile : FluxProfile
        Quantities of shape (bins,), (bins, groups) or (bins, groups, datasets).
    name : str
        Quantity: "npred", "counts", "ts", "sqrt_ts", "coverage", "norm_err", ...
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw. The legend follows when more is drawn into the same axes.
    label : str or sequence of str, optional
        Legend entry, or one per line drawn. Default: the name of the quantity, and the
        energies and the dataset where there are several.
    per_dataset : bool
        Whether to draw every dataset; their sum by default.
    show_names : bool
        Whether the names of the bins are the tick labels.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar`: `color`, `marker`, `markersize`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If the profile lacks the quantity or the names to show, or the quantity is no value per bin
        and group but a matrix or a likelihood scan, which have figures of their own.
    """
    names = bin_names(profile, show_names)
    value = get_quantity(profile, name)
    if value is None:
        known = ", ".join(profile.available_quantities)
        raise ValueError(f"name is {name!r}, which this profile does not have; it has {known}")
    data = np.asarray(getattr(value, "value", value))
    if data.dtype.kind not in "iufb":
        raise ValueError(f"{name!r} is text; show_names=True makes it the labels of the ticks")
    data = data.astype(float)
    edges = np.asarray(profile.energy_edges, dtype=float)
    n_bins, n_groups = len(profile.axis.ref), len(edges)
    # Shapes alone do not tell: a matrix may have as many bins as there are groups or datasets.
    has_datasets = name in PER_DATASET or name.startswith("npred_excess")
    n_axes = (1,) if name in PER_BIN else (2, 3) if has_datasets else (2,)
    if data.ndim not in n_axes or len(data) != n_bins:
        raise ValueError(
            f"{name!r} has the shape {data.shape}, not a value per bin and energy group; "
            f"use {_OTHER_FIGURES.get(name, 'a quantity that has one, such as npred')}"
        )
    if data.ndim == 1:
        data = data[:, np.newaxis]
    words = QUANTITY_NAMES.get(name, quantity_label(name))
    energies = [energy_label(*pair) for pair in edges]
    if data.shape[1] != n_groups:  # the same for all energies
        energies = [""] * data.shape[1]
    parts = [energies if len(energies) > 1 else [""]]
    if data.ndim == 3:
        if per_dataset:
            datasets = list(getattr(profile, "dataset_names", ()))
            parts.append(datasets or [f"dataset {k}" for k in range(data.shape[2])])
            data = data.reshape(n_bins, -1)
        else:
            data = data.sum(axis=2)
    combined = [""]
    for part in parts:
        combined = [", ".join(filter(None, (a, b))) for a in combined for b in part]
    defaults = [", ".join(filter(None, (words, item))) for item in combined]
    labels = defaults if label is None else _labels(label, combined)

    ax = get_axes(ax)
    axis = profile.axis
    x = np.stack([np.asarray(v, dtype=float) for v in (axis.ref, axis.min, axis.max)])
    for k, text in enumerate(labels):
        none = np.full(n_bins, np.nan)
        draw_points(ax, x, data[:, k], np.stack([none, none]), none, text, dict(kwargs))
    set_margins(ax)
    finish_xaxis(ax, axis, names)
    add_zero_line(ax)
    own_unit = getattr(value, "unit", None) or unit_of(name, getattr(profile, "norm_unit", ""))
    _join_ylabel(ax, quantity_label(name, own_unit))
    update_legend(ax)
    return ax


def _axis_name(profile: Any, name: str | None) -> str:
    own = profile.axis.name
    # "projected-distance" stands for the axis along the profile also where that is an index.
    if name is None or name in (own, "projected-distance"):
        return own
    if name != "energy":
        raise ValueError(f"axis_name must be {own!r} or 'energy', got {name!r}")
    return name


def _labels(label: str | Sequence[str] | None, ranges: list[str]) -> list[str]:
    """One legend entry per series."""
    if label is None:
        return ranges
    if isinstance(label, str):
        return [label] if len(ranges) == 1 else [f"{label}, {text}" for text in ranges]
    if len(label) != len(ranges):
        raise ValueError(f"label has {len(label)} entries for {len(ranges)} series")
    return [str(text) for text in label]


def _join_ylabel(ax: Any, label: str) -> None:
    """Set the label of the y axis, or the common name when another quantity is there."""
    present = ax.get_ylabel()
    counts = {QUANTITY_NAMES[k] for k in ("counts", "npred", "npred_excess", "npred_background")}
    if not present:
        ax.set_ylabel(label)
    elif present != label and {present, label} <= counts:
        ax.set_ylabel("Counts")
