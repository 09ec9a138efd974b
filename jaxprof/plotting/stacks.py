"""Figures of stacks of flux profiles: light curves, and bins against time in colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import astropy.units as u
import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.ticker import MaxNLocator

from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.matrices import check_group
from jaxprof.plotting.options import ERRORBAR, PCOLORMESH, check_options, unit_for
from jaxprof.plotting.overlap import clear_offset
from jaxprof.plotting.points import (
    ARROW_POINTS,
    Points,
    draw_points,
    drawn_unit,
    fluxes,
    most_significant,
    name_limits,
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
    set_ylabel,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names
from jaxprof.profile.quantities import unit as unit_of
from jaxprof.profile.stack import FluxProfileStack
from jaxprof.types import Array

_MOST = 8
"""Bins that are drawn if none are named: the most significant ones."""


def plot_light_curve(
    stack: FluxProfileStack,
    *,
    ax: Any = None,
    sed_type: str = "flux",
    bins: Sequence[int] | None = None,
    group: int = 0,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    """Draw bins of all profiles along the axis of the stack, with their errors and upper limits.

    Points are as in `plot_profile`, with horizontal bars from the begin of the first to the end of
    the last good time interval.

    Parameters
    ----------
    stack : FluxProfileStack
        The profiles.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    sed_type : {"flux", "dnde", "eflux", "e2dnde", "surface_brightness", "norm"}
        Which flux.
    bins : sequence of int, optional
        Bins to draw. By default all, or of more than eight the eight with the largest ``ts`` in all
        profiles together (the largest norms, without ``ts``), which the title says;
        `plot_stack_map` shows all.
    group : int
        Energy group.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the flux; by default that of the y axis, if it has one, or of the profiles.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar`: `color`, `marker`, `markersize`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`

    Raises
    ------
    ValueError
        For an unknown flux or unit, or a bin or group that does not exist.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_light_curve, also=ERRORBAR)
    group = check_group(group, stack.shape[2])
    chosen = _chosen_bins(stack, bins, group)
    low, high = _edges(stack)
    longest = max((own.axis for own in stack.profiles), key=len)
    ax = get_axes(ax)
    y_unit = drawn_unit(ax, unit, stack.profiles[0], sed_type)
    parts = [fluxes(own, sed_type, y_unit) for own in stack.profiles]
    x = np.stack([(low + high) / 2, low, high])

    def column(values: list[Array], k: int) -> Array:
        # Of a profile that has fewer bins there is nothing to draw.
        return np.array([own[k, group] if k < len(own) else np.nan for own in values])

    y, limits = (
        np.stack([column([part[position] for part in parts], k) for k in chosen])
        for position in (0, 2)
    )
    errors = np.stack(
        [[column([part[1][side] for part in parts], k) for k in chosen] for side in (0, 1)]
    )
    signed, names = sed_type == "norm", bin_names(stack.profiles[0], None, in_legend=True)
    if names is None or len(names) < len(longest):
        names = [bin_label(longest, k) for k in range(len(longest))]
    offset = clear_offset(ax, y, errors, limits, signed=signed)
    for number, k in enumerate(chosen):
        shift = offset * (number - 0.5 * (len(chosen) - 1)) * (high - low)
        position = np.stack([x[0] + shift, low, high])
        series = Points(position, y[number], errors[:, number], limits[number])
        draw_points(ax, series, names[k], dict(kwargs), signed=signed)
        name_limits(ax, stack.profiles[0], limits[number])
    set_margins(ax, ARROW_POINTS + 6)
    _finish_axis(ax.xaxis, stack)
    choose_yscale(ax)
    add_zero_line(ax)
    at = at_energy(sed_type, stack.profiles[0], group)
    set_ylabel(ax, quantity_label(sed_type, y_unit, at))
    keep_unit(ax.yaxis, y_unit)
    title = group_label(stack.profiles[0], group)
    if bins is None and len(chosen) < stack.shape[1]:
        title += f"; the {len(chosen)} most significant of {stack.shape[1]} bins"
    ax.set_title(title, fontsize="medium")
    update_legend(ax)
    return ax


def plot_stack_map(
    stack: FluxProfileStack,
    quantity: str = "flux",
    *,
    ax: Any = None,
    group: int = 0,
    add_cbar: bool = True,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    """Draw a quantity of all bins and profiles in colours, the bins upwards.

    Parameters
    ----------
    stack : FluxProfileStack
        Profiles of the same bins, for the axis of the bins to mean something.
    quantity : str
        One of ``stack.available_quantities`` with a value per bin and group.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    group : int
        Energy group.
    add_cbar : bool
        Whether to add a colour bar.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the colours; by default that of the quantity.
    **kwargs
        Passed to `~matplotlib.axes.Axes.pcolormesh`: `cmap`, `vmin`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`

    Raises
    ------
    ValueError
        For an unknown quantity or unit, one that has no such values, or a group that does not
        exist.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_stack_map, QuadMesh, PCOLORMESH)
    group = check_group(group, stack.shape[2])
    name = "norm" if quantity == "likelihood" else quantity
    shown, shown_unit = _map_values(stack, name, group, unit)
    first, last = _edges(stack)
    ends, label = _bin_ends(stack)
    ax = get_axes(ax)
    finite = shown[np.isfinite(shown)]
    # All rows share the limits of the whole.
    if kwargs.get("norm") is None:
        kwargs.setdefault("vmin", finite.min())
        kwargs.setdefault("vmax", finite.max())
    elif hasattr(kwargs["norm"], "autoscale_None"):
        kwargs["norm"].autoscale_None(finite)
    mesh = None
    # Times may have gaps, and so may bins: each is drawn where it is.
    for number, (start, stop) in enumerate(zip(first, last, strict=True)):
        for low, high in _runs(*ends):
            edges = np.append(ends[0][low:high], ends[1][high - 1])
            row = shown[number, low:high, np.newaxis]
            mesh = ax.pcolormesh([start, stop], edges, row, **kwargs)
    _finish_axis(ax.xaxis, stack)
    ax.set_xlim(first.min(), last.max())
    ax.set_ylim(ends[0].min(), ends[1].max())
    set_ylabel(ax, label)
    ax.set_title(group_label(stack.profiles[0], group), fontsize="medium")
    if add_cbar:
        bar = ax.figure.colorbar(mesh, ax=ax)
        at = at_energy(name, stack.profiles[0], group)
        set_label(bar.ax.yaxis, quantity_label(name, shown_unit, at))
    return ax


def _map_values(
    stack: FluxProfileStack, name: str, group: int, unit: Any
) -> tuple[Array, u.UnitBase | str]:
    """Values (T, B) of a quantity in a group, some of them finite, and the unit they are in."""
    if name not in stack.available_quantities:
        raise ValueError(f"quantity is {name!r}; there are {', '.join(stack.available_quantities)}")
    values = stack.quantity(name).value
    if values.ndim != 3 or values.dtype.kind not in "iufb":
        raise ValueError(f"{name!r} has no number for each bin and energy group")
    shown, own = values[:, :, group].astype(float), unit_of(name, stack.profiles[0].norm_unit)
    if not np.isfinite(shown).any():
        raise ValueError(f"{name!r} is NaN everywhere in energy group {group}")
    if unit is None:
        return shown, own
    found = unit_for(unit, own, name)
    return u.Unit(own).to(found) * shown, found


def _bin_ends(stack: FluxProfileStack) -> tuple[tuple[Array, Array], str]:
    """Lower and upper ends of the bins of all profiles, and what they lie along.

    Bins of other positions in each profile are counted.
    """
    axis = stack.profiles[0].axis
    if any(
        len(own.axis) != len(axis) or not np.array_equal(own.axis.min, axis.min)
        for own in stack.profiles
    ):
        at = np.arange(stack.shape[1], dtype=float)
        return (at - 0.5, at + 0.5), "Bin"
    return (np.asarray(axis.min, float), np.asarray(axis.max, float)), axis_label(axis)


def _runs(low: Array, high: Array) -> list[tuple[int, int]]:
    """Ranges of bins that follow each other without a gap."""
    width = np.min(high - low)
    breaks = np.flatnonzero(np.abs(low[1:] - high[:-1]) > 1e-6 * width) + 1
    bounds = [0, *breaks.tolist(), len(low)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _chosen_bins(stack: FluxProfileStack, bins: Sequence[int] | None, group: int) -> list[int]:
    n = stack.shape[1]
    if bins is None:
        return most_significant(stack.profiles, _MOST, group)
    chosen = np.atleast_1d(np.asarray(bins))
    if chosen.dtype.kind == "b" and chosen.shape == (n,):
        chosen = np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not chosen.size:
        raise ValueError(f"bins must be indices, 0 to {n - 1}, or a mask of {n}; got {bins!r}")
    found = [int(k) for k in chosen]
    if any(not 0 <= k < n for k in found):
        raise ValueError(f"bins are {found}; there are 0 to {n - 1}")
    return found


def _edges(stack: FluxProfileStack) -> tuple[Array, Array]:
    """Begin and end of each profile along the axis of the stack: MJD, or around its number."""
    if stack.axis == "time":
        return np.asarray(stack.time_min.tt.mjd), np.asarray(stack.time_max.tt.mjd)
    at = np.arange(len(stack), dtype=float)
    return at - 0.5, at + 0.5


def _finish_axis(axis: Any, stack: FluxProfileStack) -> None:
    if stack.axis == "time":
        axis.set_label_text("Time [MJD]")
        axis.set_major_locator(MaxNLocator(6))
        axis.get_major_formatter().set_useOffset(False)
        return
    rotation = 0 if max(map(len, stack.names)) * len(stack) < 50 else 45
    axis.set_ticks(range(len(stack)), stack.names)
    for label in axis.get_ticklabels():
        label.set(rotation=rotation, ha="right" if rotation else "center", rotation_mode="anchor")
