"""The horizontal axis of figures along a profile, with the names of its bins where asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.units import Unit
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxprof.plotting.options import chosen_unit
from jaxprof.plotting.points import get_quantity
from jaxprof.plotting.style import axis_label, set_label
from jaxprof.plotting.units import keep_unit

_FEW = 20  # names that are shown without being asked for
_SMALLEST = 3.5  # points; names that would have to be smaller are left out
_READABLE = 6.0  # points; longer names are cut off rather than made smaller
_ROOM = 0.33  # of the height of the figure, for names
_LINE = 1.15  # height of a line of text over its size
_SLANT = 45.0  # deg
_LEFTWARDS = ("longitude", "right ascension")  # east is on the left of the sky


def bin_names(
    profile: Any, show_names: bool | None, *, in_legend: bool = False
) -> list[str] | None:
    """Names of the bins of a profile if they are to be shown.

    By default, for None, in legends, those of up to twenty bins that all have one of their own.

    Raises
    ------
    ValueError
        If the profile has none.
    """
    if show_names is False or (show_names is None and not in_legend):
        return None
    names = get_quantity(profile, "name")
    if show_names is None and (names is None or len(names) > _FEW or not _told_apart(names)):
        return None
    if names is None:
        raise ValueError(
            "show_names: the profile has no names; it takes those of its regions, text={...} in a "
            'DS9 file or region.meta["text"]'
        )
    return [str(name) for name in names]


def _told_apart(names: Any) -> bool:
    own = {str(name) for name in names}
    return len(own) == len(names) and "" not in own


def shown_axis(ax: Any, axis: Any) -> Any:
    """The axis of a profile in the unit that the horizontal axis has, if it has one."""
    wanted = chosen_unit(ax.xaxis, None, axis.unit, f"the axis {axis.name!r}") if axis.unit else ""
    return axis.to(wanted) if wanted and wanted != axis.unit else axis


def finish_xaxis(ax: Any, axis: Any, names: list[str] | None = None) -> None:
    """Label the horizontal axis, and its ticks with whole numbers or names.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes with all that is drawn.
    axis : ProfileAxis
        Axis of the profile.
    names : list of str, optional
        Names of its bins.
    """
    set_label(ax.xaxis, axis_label(axis))
    if axis.unit:
        keep_unit(ax.xaxis, Unit(axis.unit))
    if getattr(axis, "interp", "lin") == "log":
        ax.set_xscale("log")
    if any(word in axis.name for word in _LEFTWARDS) and not ax.xaxis_inverted():
        ax.invert_xaxis()
    if names is not None:
        if not axis.unit:
            ax.set_xlabel("")  # an index says nothing beside the names
        _set_names(ax, np.asarray(axis.ref, dtype=float), names)
    elif axis.name == "region-index":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _set_names(ax: Any, at: NDArray[np.float64], names: list[str]) -> None:
    """Names as tick labels that do not overlap: upright, slanted or vertical, and small enough."""
    labelled = np.flatnonzero(np.array(names, dtype=str) != "")
    at, names = at[labelled], [names[k] for k in labelled]
    low, high = ax.get_xlim()
    width = ax.get_window_extent().width * 72 / ax.figure.dpi
    position = (at - low) / (high - low) * width  # in points
    kept = _spaced(position, _LINE * _SMALLEST)
    at, position, names = at[kept], position[kept], [names[k] for k in kept]
    ax.set_xticks(at, names)
    labels = ax.get_xticklabels()
    spacing = float(np.diff(position).min()) if len(position) > 1 else width
    size = labels[0].get_fontsize() if labels else _SMALLEST
    in_points = 72 / ax.figure.dpi
    widths = [label.get_window_extent().width * in_points for label in labels]
    longest = max(widths, default=0.0)
    if longest < 0.9 * spacing:
        return
    slanted = spacing * np.sin(np.deg2rad(_SLANT)) >= _LINE * size
    rotation = _SLANT if slanted else 90.0
    # Long names must leave room for the points: they are smaller, and then cut off.
    room = _ROOM * ax.figure.bbox.height * in_points / np.sin(np.deg2rad(rotation))
    fitting = min(size, spacing / _LINE, size * room / max(longest, room))
    fitting = max(fitting, min(_READABLE, spacing / _LINE))
    style = {"rotation": rotation, "rotation_mode": "anchor", "ha": "right", "fontsize": fitting}
    for label in labels:
        label.set(va="top" if slanted else "center", **style)
    shares = [room / (width * fitting / size) if width else 1.0 for width in widths]
    if min(shares) < 0.99:
        ax.set_xticklabels([_cut(name, share) for name, share in zip(names, shares, strict=True)])


def _cut(name: str, share: float) -> str:
    """The share of a name that there is room for, with dots for the rest."""
    return name if share >= 0.99 else f"{name[: max(int(share * len(name)) - 1, 1)].rstrip()}\u2026"


def _spaced(position: NDArray[np.float64], least: float) -> list[int]:
    """Indices, from left to right, of positions that are at least so far apart."""
    kept: list[int] = []
    for k in np.argsort(position, kind="stable"):
        if not kept or position[k] - position[kept[-1]] >= least:
            kept.append(int(k))
    return kept
