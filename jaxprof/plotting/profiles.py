"""Figures of flux profiles: points along the profile, or spectra of its bins.

Every function draws into `ax`, or into the current axes if these are empty, or into a new
figure, and returns the axes. Limits are left to matplotlib's autoscaling, with margins that
hold everything drawn, so that ``ax.set_yscale`` afterwards does the right thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from astropy import units as u
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from jaxprof.plotting.legend import ARROW_POINTS, NARROW, update_legend
from jaxprof.plotting.options import ERRORBAR, check_options, chosen_unit
from jaxprof.plotting.overlap import clear_offset
from jaxprof.plotting.points import (
    Points,
    draw_points,
    flux_unit,
    fluxes,
    mark_misfit,
    mark_partly_seen,
    most_significant,
    name_limits,
    say_if_empty,
)
from jaxprof.plotting.style import (
    add_zero_line,
    at_energy,
    axis_label,
    bin_label,
    choose_yscale,
    get_axes,
    group_label,
    quantity_label,
    set_label,
    set_margins,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names, finish_xaxis, shown_axis
from jaxprof.profile.quantities import shown_energy_unit
from jaxprof.sky.regions import AXES

_MAX_BINS_IN_LEGEND = 10
_MAX_SPECTRA = 20
"""Spectra that a figure has room for; of more bins the most significant ones are drawn."""
_MANY_LIMITS = 4
"""Spectra with limits that stand side by side."""
Array = NDArray[np.float64]


def plot_profile(
    profile: Any,
    *,
    ax: Any = None,
    sed_type: str = "dnde",
    axis_name: str | None = None,
    label: str | Sequence[str] | None = None,
    show_names: bool | None = None,
    unit: Any = None,
    energy_power: float = 0,
    offset: float | None = None,
    groups: str = "together",
    **kwargs: Any,
) -> Any:
    """Draw the points of a flux profile.

    Points have vertical error bars (asymmetric ones where the profile has them) and
    horizontal bars as wide as their bins. Where ``profile.is_ul`` an arrow that hangs from
    the upper limit takes the place of the point. A deficit whose limit is not positive, which is
    none on a flux, stays a point with errors if it is as significant (``-sqrt_ts``) as a source
    has to be; limits of others are open triangles at the lower edge. Failed bins are left out.
    Marks at the upper edge tell bins of which masks or the map's edge cut off more than a tenth
    (half-filled circles), and those that the model of a joint fit does not describe (crosses). The
    y axis is linear if anything shown is zero or negative or all is within two decades, logarithmic
    otherwise. Series have colours and markers that are told apart in grey, too.

    Parameters
    ----------
    profile : FluxProfile
        Quantities of shape (bins, groups).
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; with ``groups="panels"`` one for each group.
    sed_type : {"dnde", "flux", "eflux", "e2dnde", "surface_brightness", "norm"}
        Which flux.
    axis_name : str, optional
        "energy" for a spectrum per bin (of more than 20 bins, the ten with the largest ``ts``, as
        the title says, unless there are labels for all); otherwise what the bins lie along, with a
        series per energy group: the profile's own axis (the default), "longitude", "latitude",
        "path" or "region-index", see `FluxProfile.with_axis`.
    label : str or sequence of str, optional
        Legend entry, or one per energy group (per bin for "energy"). Default: the ranges, with the
        energy that a differential flux is given at.
    show_names : bool, optional
        Whether to show the names of the bins: as tick labels, rotated and small enough not to
        overlap, or in the legend of spectra. By default in the legend, of up to 20 bins that all
        have one.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the flux; by default that of the y axis, if it has one (``ax.yaxis.set_units``),
        or that of the profile.
    energy_power : float
        Power of the energy (the mean of each group's edges, geometric) to multiply the flux by.
    offset : float, optional
        Distance between series along the axis, in widths of the bins (of the energy groups, in
        their logarithm, for "energy"); a single series is shifted by it. By default none for
        "energy" (but limits of four spectra or more stand side by side, with short bars) or where
        points of a bin keep clear of each other, and otherwise one with which they stand side by
        side.
    groups : {"together", "panels"}
        Whether all energy groups share the axes, or have a panel each in a new figure, with one
        legend for all.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar`: `color`, `marker`, `markersize`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes; with panels an array of them.

    Raises
    ------
    ValueError
        If `sed_type`, `axis_name` or `unit` is unknown, the labels are too few or too many, or the
        profile has no names to show.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_profile, also=ERRORBAR)
    profile = _along(profile, axis_name)
    asked = _Asked(sed_type, unit, energy_power, offset, show_names, kwargs)
    if groups == "panels":
        if axis_name == "energy":
            raise ValueError("groups='panels' has panels of energies: give another axis_name")
        return _panels(profile, ax, label, asked)
    if groups != "together":
        raise ValueError(f"groups is {groups!r}; valid are 'together' and 'panels'")
    draw = _draw_spectra if axis_name == "energy" else _draw_along
    ax = draw(profile, ax, label, asked)
    update_legend(ax)
    return ax


@dataclass(frozen=True)
class _Asked:
    """What is drawn, and how; as for `plot_profile`."""

    sed_type: str
    unit: Any
    energy_power: float
    offset: float | None
    show_names: bool | None
    style: dict[str, Any]


def _draw_along(profile: Any, ax: Any, label: Any, asked: _Asked) -> Any:
    """The points of each energy group along the profile, without a legend."""
    names = bin_names(profile, asked.show_names)
    ax = get_axes(ax)
    y_unit, drawn = _drawn(profile, ax, asked)
    edges = np.asarray(profile.energy_edges, dtype=float)
    axis = shown_axis(ax, profile.axis)
    x = np.stack([np.asarray(v, dtype=float) for v in (axis.ref, axis.min, axis.max)])
    ranges = [group_label(profile, k) for k in range(len(edges))]
    at = [at_energy(asked.sed_type, profile, k) for k in range(len(edges))]
    several = len(edges) > 1  # otherwise the label of the axis has it
    if several:
        ranges = [f"{t}, at {e}" if e else t for t, e in zip(ranges, at, strict=True)]
    labels = series_labels(label, ranges)
    parts = [drawn[0].T, drawn[1].swapaxes(1, 2), drawn[2].T]
    shifts = _shifts(ax, parts, asked.sed_type, asked.offset)
    bars = [np.stack([x[0] + shift * (x[2] - x[1]), x[1], x[2]]) for shift in shifts]
    colors = _draw_series(ax, bars, parts, labels, [asked.style] * len(edges), asked.sed_type)
    name_limits(ax, profile, drawn[2])
    set_margins(ax, ARROW_POINTS + 6)
    finish_xaxis(ax, axis, names)
    mark_misfit(ax, axis, profile, dict(enumerate(colors)))
    mark_partly_seen(ax, axis, profile, dict(enumerate(colors)))
    _finish_yaxis(
        ax, quantity_label(asked.sed_type, y_unit, "" if several else at[0], asked.energy_power)
    )
    keep_unit(ax.yaxis, y_unit)
    say_if_empty(ax, profile, drawn[0], drawn[2])
    return ax


def _draw_spectra(profile: Any, ax: Any, label: Any, asked: _Asked) -> Any:
    """The points of each bin over energy, without a legend."""
    n_all = len(profile.axis.ref)
    if label is None and n_all > _MAX_SPECTRA:
        chosen = most_significant([profile], _MAX_BINS_IN_LEGEND)
        profile = profile.slice_by_idx({profile.axis.name: chosen})
    names = bin_names(profile, asked.show_names, in_legend=True)
    ax = get_axes(ax)
    if len(profile.axis.ref) < n_all and not ax.get_title():
        title = f"The {len(profile.axis.ref)} most significant of {n_all} bins"
        ax.set_title(title, fontsize="medium")
    y_unit, drawn = _drawn(profile, ax, asked)
    x, x_unit = _energies(ax, profile)
    axis, n = profile.axis, len(profile.axis.ref)
    # A legend of fifty bins would leave no room for the points: a colour bar instead.
    narrow = ax.get_window_extent().width / ax.figure.dpi < NARROW
    many = label is None and n > (_MAX_BINS_IN_LEGEND // 2 if narrow else _MAX_BINS_IN_LEGEND)
    styles, labels = [asked.style] * n, ["_nolegend_"] * n
    if many:
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.95, n))
        styles = [{"color": color, "marker": "o"} | asked.style for color in colors]
    else:
        labels = series_labels(label, names or [bin_label(axis, k) for k in range(n)])
    # A differential flux is that of its energy: apart only where that is asked for.
    shifts = _shifts(ax, drawn, asked.sed_type, asked.offset or 0.0)
    bars = [np.stack([x[0] * (x[2] / x[1]) ** shift, x[1], x[2]]) for shift in shifts]
    if asked.offset is None:
        bars = _limits_apart(bars, drawn[2])
    _draw_series(ax, bars, drawn, labels, styles, asked.sed_type)
    ax.update_datalim([(x[1].min(), 0.0), (x[2].max(), 0.0)], updatey=False)
    name_limits(ax, profile, drawn[2])
    set_margins(ax, ARROW_POINTS + 6)
    ax.set_xscale("log")
    set_label(ax.xaxis, f"Energy [{x_unit}]")
    keep_unit(ax.xaxis, x_unit)
    _finish_yaxis(ax, quantity_label(asked.sed_type, y_unit, "", asked.energy_power))
    keep_unit(ax.yaxis, y_unit)
    say_if_empty(ax, profile, drawn[0], drawn[2])
    if many and "color" not in asked.style:
        _add_bin_colors(ax, axis)
    return ax


def _draw_series(
    ax: Any,
    bars: list[Array],
    parts: list[Array],
    labels: list[str],
    styles: list[dict[str, Any]],
    sed_type: str,
) -> list[Any]:
    """Draw series (S, n) of values, errors and limits, and return their colours.

    Each has positions and ends of its horizontal bars, (3, n).
    """
    values, errors, limits = parts
    signed = sed_type == "norm"
    found = []
    for k, at in enumerate(bars):
        points = Points(at, values[k], errors[:, k], limits[k])
        found.append(draw_points(ax, points, labels[k], dict(styles[k]), signed=signed))
    return found


def _limits_apart(bars: list[Array], limits: Array) -> list[Array]:
    """Limits (S, n) of many spectra side by side within their groups, with bars of their width.

    Bars as wide as the groups and arrows at one energy would cover each other.
    """
    limited = np.isfinite(limits)
    rows = np.flatnonzero(limited.any(axis=1)).tolist()
    if len(rows) < _MANY_LIMITS:
        return bars
    found = []
    for k, (at, low, high) in enumerate(bars):
        place = (rows.index(k) if k in rows else 0) + np.array([0.5, 0.1, 0.9])
        own = low * (high / low) ** (0.04 + 0.92 * place[:, np.newaxis] / len(rows))
        found.append(np.where(limited[k], own, np.stack([at, low, high])))
    return found


def _shifts(ax: Any, parts: list[Array], sed_type: str, offset: float | None) -> list[float]:
    """Shift of each series, in widths of the bins."""
    n = len(parts[0])
    if offset is None:
        offset = clear_offset(ax, *parts, signed=sed_type == "norm")
    return [offset * (k - 0.5 * (n - 1) if n > 1 else 1.0) for k in range(n)]


def _finish_yaxis(ax: Any, label: str) -> None:
    choose_yscale(ax)
    add_zero_line(ax)
    set_label(ax.yaxis, label)


def _along(profile: Any, axis_name: str | None) -> Any:
    """The profile with the axis that is drawn; its own for a spectrum of each bin."""
    own = profile.axis.name
    # "projected-distance" stands for the axis along the profile also where that is an index.
    if axis_name in (None, "projected-distance", own, "energy"):
        return profile
    if axis_name not in AXES:
        valid = ", ".join(map(repr, dict.fromkeys((own, "energy", *AXES))))
        raise ValueError(
            f"axis_name is {axis_name!r}; valid are {valid}; for others there is profile.with_axis"
        )
    return profile.with_axis(axis_name)


def _drawn(profile: Any, ax: Any, asked: _Asked) -> tuple[u.UnitBase, list[Array]]:
    """Unit to draw in, and in it values (B, G), errors (2, B, G) and limits (B, G)."""
    sed_type, power = asked.sed_type, asked.energy_power
    energy = np.sqrt(np.prod(np.asarray(profile.energy_edges, dtype=float), axis=1))
    if not (np.isscalar(power) and np.isfinite(power)):
        raise ValueError(f"energy_power must be a number, got {power!r}")
    own = flux_unit(profile, sed_type) * u.TeV**power
    found = chosen_unit(ax.yaxis, asked.unit, own, sed_type)
    scale = own.to(found) * energy**power
    return found, [scale * part for part in fluxes(profile, sed_type)]


def _energies(ax: Any, profile: Any) -> tuple[Array, str]:
    """Middle, lower and upper ends (3, G) of the groups in the unit of the axis, and that unit."""
    own = shown_energy_unit(profile)
    given = ax.xaxis.get_units()
    unit = own if given is None else chosen_unit(ax.xaxis, None, "TeV", "energy").to_string()
    low, high = u.TeV.to(unit) * np.asarray(profile.energy_edges, dtype=float).T
    return np.stack([np.sqrt(low * high), low, high]), unit


def _panels(profile: Any, axes: Any, label: Any, asked: _Asked) -> Any:
    """A panel for each energy group, one below the other."""
    edges = np.asarray(profile.energy_edges, dtype=float)
    n = len(edges)
    if axes is None:
        figure = plt.figure(figsize=(6.4, 1.1 + 2.0 * n), layout="constrained")
        axes = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    axes = np.atleast_1d(np.asarray(axes, dtype=object))
    if axes.shape != (n,):
        raise ValueError(f"ax has {axes.size} axes; groups='panels' needs {n}, one a group")
    labels = [label] * n if label is None or isinstance(label, str) else list(label)
    for k, own in enumerate(axes):
        part = profile.slice_by_idx({"energy": [k]})
        _draw_along(part, own, labels[k] or "_nolegend_", asked)
        # On the left the power of ten of the y axis would lift it.
        own.set_title(group_label(profile, k), fontsize="medium", loc="right")
        if k < n - 1 and own.get_shared_x_axes().joined(own, axes[-1]):
            own.set_xlabel("")
    update_legend(axes[0], also=axes[1:])
    return axes


def _add_bin_colors(ax: Any, axis: Any) -> None:
    """A colour bar that tells the bins of spectra apart."""
    low, high = float(np.min(axis.ref)), float(np.max(axis.ref))
    colors = mpl.colormaps["viridis"]
    colors = colors if axis.ref[-1] >= axis.ref[0] else colors.reversed()
    norm = Normalize(low, high + 0.05 * (high - low))
    bar = ax.figure.colorbar(ScalarMappable(norm, colors), ax=ax, label=axis_label(axis))
    bar.ax.set_ylim(low, high)


def series_labels(label: str | Sequence[str] | None, ranges: list[str]) -> list[str]:
    """One legend entry per series."""
    if label is None:
        return ranges
    if isinstance(label, str):
        hidden = label.startswith("_")
        return [label if hidden or len(ranges) == 1 else f"{label}, {text}" for text in ranges]
    if len(label) != len(ranges):
        raise ValueError(f"label has {len(label)} entries for {len(ranges)} series")
    return [str(text) for text in label]
