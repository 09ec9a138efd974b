"""Words, numbers and axes that all figures share."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from astropy import units as u
from astropy.visualization.wcsaxes import WCSAxes
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from jaxprof.profile.quantities import readable_energy_unit

#: Readable names of the quantities of a profile.
QUANTITY_NAMES = {
    "norm": "Norm",
    "dnde": r"$\mathrm{d}N/\mathrm{d}E$",
    "e2dnde": r"$E^2\,\mathrm{d}N/\mathrm{d}E$",
    "flux": "Flux",
    "eflux": "Energy flux",
    "surface_brightness": "Surface brightness",
    "counts": "Counts",
    "npred": "Predicted counts",
    "npred_excess": "Predicted excess counts",
    "npred_background": "Predicted background counts",
    "stat": "Fit statistic",
    "stat_null": "Fit statistic of the null hypothesis",
    "ts": "TS",
    "sqrt_ts": r"$\sqrt{\mathrm{TS}}$",
    "coverage": "Coverage",
    "solid_angle": "Solid angle",
    "region_solid_angle": "Solid angle of the region",
    "success": "Success",
    "status": "Fit status",
    "is_ul": "Is upper limit",
}
_SUFFIXES = {
    "err": "error",
    "errn": "negative error",
    "errp": "positive error",
    "ul": "upper limit",
    "sensitivity": "sensitivity",
    "ref": "reference",
}
_UNIT_ORDER = {"cm": 0, "m": 0, "km": 0, "s": 1, "sr": 2}
#: Size of labels [points] that are not made smaller.
SMALLEST_LABEL = 6.0
_ENERGY_UNITS = ((1e0, "TeV"), (1e-3, "GeV"), (1e-6, "MeV"), (0.0, "keV"))
# The scale this module gave to an axis: any other one is the user's and stays.
_chosen_scale: WeakKeyDictionary[Axes, str] = WeakKeyDictionary()


def unit_label(unit: Any) -> str:
    r"""Unit for an axis label.

    Parameters
    ----------
    unit : str or `~astropy.units.Unit`
        Any unit.

    Returns
    -------
    label : str
        LaTeX such as ``$\mathrm{cm^{-2}\,s^{-1}\,TeV^{-1}}$``: positive powers first, then
        area, time and solid angle. Empty for no unit.
    """
    unit = u.Unit(unit)
    factors = sorted(
        ((base.to_string(), power) for base, power in zip(unit.bases, unit.powers, strict=True)),
        key=lambda item: (item[1] < 0, _UNIT_ORDER.get(item[0], 3 if item[1] < 0 else -1)),
    )
    words = [name if power == 1 else f"{name}^{{{power}}}" for name, power in factors]
    if not np.isclose(unit.scale, 1):
        words.insert(0, f"{unit.scale:.3g}")
    joined = r"\,".join(words)
    return rf"$\mathrm{{{joined}}}$" if words else ""


def quantity_label(name: str, unit: Any = "", at: str = "", power: float = 0) -> str:
    """Label of a quantity's axis.

    Parameters
    ----------
    name : str
        Name as on the profile, such as "npred" or "flux_ul". Unknown names stay.
    unit : str or `~astropy.units.Unit`
        Unit, in brackets behind the name.
    at : str
        Energy that it is given at.
    power : float
        Power of the energy that it is multiplied by.

    Returns
    -------
    label : str
        For instance "Predicted counts".
    """
    stem, _, suffix = name.rpartition("_")
    if name in QUANTITY_NAMES:
        words = QUANTITY_NAMES[name]
    elif stem in QUANTITY_NAMES and suffix in _SUFFIXES:
        words = f"{QUANTITY_NAMES[stem]} {_SUFFIXES[suffix]}"
    else:
        words = name.replace("_", " ").capitalize()
    if power:
        words = rf"$E^{{{power:g}}}\,${words}" if power != 1 else rf"$E\,${words}"
    words = f"{words} at {at}" if at else words
    text = unit_label(unit)
    return f"{words} [{text}]" if text else words


def axis_label(axis: Any) -> str:
    """Label of the axis of a profile: "Projected distance [deg]" or "Region index"."""
    words = str(axis.name).replace("-", " ")
    words = words[:1].upper() + words[1:]
    return f"{words} [{axis.unit}]" if axis.unit else words


def at_energy(name: str, profile: Any, group: int) -> str:
    """Energy that a differential flux of a group is given at, "29.1 GeV"; "" for other fluxes."""
    if name not in ("dnde", "e2dnde"):
        return ""
    low, high = profile.energy_edges[group]
    return " ".join(_energy_text(float(np.sqrt(low * high)), _energy_unit(profile)))


def _energy_unit(profile: Any) -> str | None:
    own = getattr(profile, "energy_unit", None)
    return own and readable_energy_unit(profile.energy_edges, own)


def group_label(profile: Any, group: int) -> str:
    """Range of an energy group, in the profile's unit of energies or a readable one."""
    low, high = profile.energy_edges[group]
    return energy_label(low, high, _energy_unit(profile))


def _energy_text(energy: float, unit: str | None = None) -> tuple[str, str]:
    """Number, with three digits, and unit of an energy [TeV]."""
    if unit is not None:
        return f"{float(f'{u.TeV.to(unit, energy):.3g}'):g}", unit
    rounded = float(f"{energy:.3g}")  # first, or 0.9999 TeV would become "1e+03 GeV"
    scale, unit = next(pair for pair in _ENERGY_UNITS if rounded >= pair[0])
    return f"{rounded / (scale or 1e-9):.3g}", unit


def energy_label(energy_min: float, energy_max: float, unit: str | None = None) -> str:
    """Energy range in a unit, by default readable ones.

    Parameters
    ----------
    energy_min, energy_max : float
        Edges in TeV.
    unit : str, optional
        Unit of the label.

    Returns
    -------
    label : str
        "10 - 84.5 GeV", "500 GeV - 2 TeV", "1 - 10 TeV".
    """
    (low, unit_low), (high, unit_high) = (
        _energy_text(edge, unit) for edge in (energy_min, energy_max)
    )
    return (
        f"{low} - {high} {unit_high}"
        if unit_low == unit_high
        else (f"{low} {unit_low} - {high} {unit_high}")
    )


def bin_label(axis: Any, index: int) -> str:
    """Range of one bin of a profile's axis, such as "0.15 - 0.3 deg", or "Region 2"."""
    if not axis.unit:
        return f"Region {axis.ref[index]:.3g}"
    # Annuli begin at 1e-5 deg, which reads better as what it stands for.
    edges = (axis.min[index], axis.max[index])
    low, high = (f"{round(float(edge), 4) + 0.0:.3g}" for edge in edges)
    return f"{low} - {high} {axis.unit}"


def get_axes(ax: Axes | None) -> Axes:
    """Axes to draw into: those given, the current ones if they are empty, or new ones."""
    if ax is not None:
        return ax
    if plt.get_fignums():
        figure = plt.gcf()
        if not figure.axes:
            return figure.add_subplot()
        current = plt.gca()
        if not current.has_data() and not isinstance(current, WCSAxes):
            return current
    return plt.figure(layout="tight").add_subplot()


def set_margins(ax: Axes, points_below: float = 0.0) -> None:
    """Leave room around the data, for `points_below` points of a marker under the lowest."""
    box = ax.get_window_extent()
    height = max(box.height * 72 / ax.figure.dpi, 1.0)
    # The margin m is a fraction of the data's span, and the data fill 1 / (1 + 2 m) of the axis.
    fraction = min(points_below / height, 0.3)
    ax.margins(x=0.025, y=max(0.06, fraction / (1 - 2 * fraction)))


def set_ylabel(ax: Axes, label: str) -> None:
    """Label the y axis; see `set_label`."""
    set_label(ax.yaxis, label)


def set_label(axis: Any, label: str) -> None:
    """Label an axis: in two lines, and smaller, where the axis is shorter than the label.

    Parameters
    ----------
    axis : `~matplotlib.axis.Axis`
        Axis of x or y.
    label : str
        The label; it breaks in front of the unit, or else in the middle.
    """
    which = "width" if axis.axis_name == "x" else "height"
    room = 1.05 * getattr(axis.axes.get_window_extent(), which)

    def excess(text: str) -> float:
        axis.set_label_text(text)
        return float(getattr(axis.label.get_window_extent(), which)) / room

    if not label or excess(label) <= 1:
        return
    # LaTeX must stay in one line.
    spaces = [m.start() for m in re.finditer(" ", label) if label.count("$", 0, m.start()) % 2 == 0]
    breaks = [label.find(" [")] if " [" in label else []
    breaks += sorted(spaces, key=lambda k: abs(k - len(label) / 2))[:1]
    best = min(breaks, key=lambda k: excess(f"{label[:k]}\n{label[k + 1 :]}"), default=None)
    text = label if best is None else f"{label[:best]}\n{label[best + 1 :]}"
    over = excess(text)
    if over > 1:
        axis.label.set_fontsize(max(axis.label.get_fontsize() / over, SMALLEST_LABEL))


def choose_yscale(ax: Axes) -> None:
    """Linear y axis where there is anything at or below zero or less than two decades, else log.

    A scale that the user set is left alone.
    """
    if ax.get_yscale() != _chosen_scale.get(ax, "linear"):
        return
    low, high = ax.dataLim.intervaly
    log = bool(np.isfinite([low, high]).all() and low > 0 and high >= 100 * low)
    scale = "log" if log else "linear"
    if scale != ax.get_yscale():
        ax.set_yscale(scale)
    _chosen_scale[ax] = scale


def add_zero_line(ax: Axes) -> None:
    """Draw y = 0, once, if the data reach below."""
    if ax.dataLim.y0 < 0 and not any(line.get_gid() == "zero-line" for line in ax.lines):
        # Above a likelihood density (zorder 0.5), below all points. Not by axhline: rounding of its
        # zero would be the lowest positive value, where a log scale would then start.
        ax.add_artist(
            Line2D(
                [0, 1],
                [0, 0],
                transform=ax.get_yaxis_transform(which="grid"),
                color="0.55",
                lw=0.8,
                zorder=0.8,
                gid="zero-line",
                label="_nolegend_",
            )  # fmt: skip
        )


def add_obstacles(ax: Axes, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Tell the legend where bars are.

    The search for the best place of a legend sees the vertices of lines, but not error
    bars; an invisible line has the vertices in their stead.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes with the bars.
    x, y : ndarray, shape (n, 2)
        Ends of the bars.
    """
    steps = np.append(np.linspace(0, 1, 7), np.nan)
    line = Line2D(
        (x[:, :1] + steps * (x[:, 1:] - x[:, :1])).ravel(),
        (y[:, :1] + steps * (y[:, 1:] - y[:, :1])).ravel(),
        linestyle="none", gid="obstacles", label="_nolegend_",
    )  # fmt: skip
    ax.add_line(line)
