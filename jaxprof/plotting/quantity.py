"""Figures of the quantities of a profile besides its fluxes: counts, statistics, coverage, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr

from jaxprof.likelihood.data import Status
from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.options import ERRORBAR, check_options, chosen_unit
from jaxprof.plotting.points import Points, draw_points, get_quantity
from jaxprof.plotting.profiles import series_labels
from jaxprof.plotting.style import (
    QUANTITY_NAMES,
    add_zero_line,
    get_axes,
    group_label,
    quantity_label,
    set_margins,
    set_ylabel,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names, finish_xaxis, shown_axis
from jaxprof.profile.quantities import MATRICES, NEEDED, PER_BIN, PER_DATASET, SCANS
from jaxprof.profile.quantities import unit as unit_of

Array = NDArray[np.float64]

#: Counts of bins, seen or predicted.
_COUNTS = ("counts", "npred", "npred_excess", "npred_background")

#: What to use for quantities that are no points.
_OTHER_FIGURES = {
    **dict.fromkeys((*SCANS, "ts_scan"), "plot_ts_profiles() for likelihood scans"),
    **dict.fromkeys((*MATRICES, *NEEDED), "plot_correlation()"),
    **dict.fromkeys(("response", "leakage"), "plot_leakage()"),
}


def plot_quantity(
    profile: Any,
    name: str,
    *,
    ax: Any = None,
    label: str | Sequence[str] | None = None,
    per_dataset: bool = False,
    show_names: bool = False,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    """Draw any quantity of a profile, as points with horizontal bars as wide as the bins.

    Observed counts have those of a
    Poisson mean: its central interval of 68.3 % (Garwood 1936, Biometrika 28, 437), which for no
    counts goes from 0 to 1.84.

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
    unit : str or `~astropy.units.Unit`, optional
        Unit to draw in; by default that of the y axis, if it has one, or of the quantity.
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
    check_options(kwargs, plot_quantity, also=ERRORBAR)
    names = bin_names(profile, show_names)
    value = _per_bin(profile, name)
    data, words = _in_lines(profile, value, per_dataset)
    status = get_quantity(profile, "status")
    if name in _COUNTS and status is not None:
        # Nothing was seen of these, which is not zero.
        masked = np.repeat(status == Status.FULLY_MASKED, data.shape[1] // status.shape[1], axis=1)
        data = np.where(masked & (data == 0), np.nan, data)
    defaults = [", ".join(filter(None, (_name(name), item))) for item in words]
    labels = defaults if label is None else series_labels(label, words)

    ax = get_axes(ax)
    own_unit = getattr(value, "unit", None) or unit_of(name, getattr(profile, "norm_unit", ""))
    y_unit = chosen_unit(ax.yaxis, unit, own_unit, name)
    data = u.Unit(own_unit).to(y_unit) * data
    axis = shown_axis(ax, profile.axis)
    x = np.stack([np.asarray(v, dtype=float) for v in (axis.ref, axis.min, axis.max)])
    for k, text in enumerate(labels):
        errors = poisson_errors(data[:, k]) if name == "counts" else None
        draw_points(ax, Points(x, data[:, k], errors), text, dict(kwargs))
    set_margins(ax)
    finish_xaxis(ax, axis, names)
    add_zero_line(ax)
    _join_ylabel(ax, quantity_label(name, y_unit))
    keep_unit(ax.yaxis, y_unit)
    update_legend(ax)
    return ax


def _name(quantity: str) -> str:
    return QUANTITY_NAMES.get(quantity, quantity_label(quantity))


def _per_bin(profile: Any, name: str) -> Any:
    """A quantity with a number for each bin, and for each energy group and dataset if it has."""
    value = get_quantity(profile, name)
    if value is None:
        known = ", ".join(profile.available_quantities)
        raise ValueError(f"name is {name!r}, which this profile does not have; it has {known}")
    data = np.asarray(getattr(value, "value", value))
    if data.dtype.kind not in "iufb":
        raise ValueError(f"{name!r} is text; show_names=True makes it the labels of the ticks")
    # Shapes alone do not tell: a matrix may have as many bins as there are groups or datasets.
    has_datasets = name in PER_DATASET or name.startswith("npred_excess")
    n_axes = (1,) if name in PER_BIN else (2, 3) if has_datasets else (2,)
    if data.ndim not in n_axes or len(data) != len(profile.axis.ref):
        raise ValueError(
            f"{name!r} has the shape {data.shape}, not a value per bin and energy group; "
            f"use {_OTHER_FIGURES.get(name, 'a quantity that has one, such as npred')}"
        )
    return value


def _in_lines(profile: Any, value: Any, per_dataset: bool) -> tuple[Array, list[str]]:
    """Numbers (bins, lines), and the energies and dataset of each line where there are several."""
    data = np.asarray(getattr(value, "value", value), dtype=float)
    if data.ndim == 1:
        data = data[:, np.newaxis]
    edges = np.asarray(profile.energy_edges, dtype=float)
    words = [""]
    # Some quantities are the same for all energies.
    if len(edges) == data.shape[1] > 1:
        words = [group_label(profile, k) for k in range(len(edges))]
    if data.ndim == 3 and not per_dataset:
        data = data.sum(axis=2)
    elif data.ndim == 3:
        datasets = list(getattr(profile, "dataset_names", ()))
        datasets = datasets or [f"dataset {k}" for k in range(data.shape[2])]
        words = [", ".join(filter(None, (a, b))) for a in words for b in datasets]
    return data.reshape(len(data), -1), words


def poisson_errors(counts: Array) -> Array:
    """Distances (2, ...) to the ends of the central interval of 68.3 % of a Poisson mean.

    By quantiles of the gamma distribution (Garwood 1936, Biometrika 28, 437); the lower end of no
    counts is zero.
    """
    tail = ndtr(-1.0)
    n = np.where(np.isfinite(counts), np.maximum(counts, 0.0), 0.0)
    low = np.where(n > 0, gammaincinv(np.where(n > 0, n, 1.0), tail), 0.0)
    high = gammaincinv(n + 1.0, 1.0 - tail)
    return np.stack([n - low, high - n])


def _join_ylabel(ax: Any, label: str) -> None:
    """Set the label of the y axis, or the common name when another quantity is there."""
    present = ax.get_ylabel()
    counts = {QUANTITY_NAMES[k] for k in _COUNTS}
    if not present:
        set_ylabel(ax, label)
    elif present != label and {present, label} <= counts:
        set_ylabel(ax, "Counts")
