"""Matrices of a joint fit, bin by bin: correlations and leakage."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxprof.plotting.maps import _add_colorbar
from jaxprof.plotting.options import PCOLORMESH, check_options
from jaxprof.plotting.points import get_quantity
from jaxprof.plotting.style import axis_label, get_axes, group_label, set_label

Array = NDArray[np.floating[Any]]

#: More numbers than this along an axis would not be readable, nor would smaller ones [points].
MAX_BINS_WITH_NUMBERS = 15
SMALLEST_NUMBERS = 6.0
#: Widest bin over the narrowest, above which bins are drawn in one size.
MOST_UNEVEN = 3.0


def plot_correlation(
    profile: Any,
    group: int = 0,
    ax: Any = None,
    *,
    cmap: Any = "RdBu_r",
    add_cbar: bool = True,
    annotate: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Draw the correlation of the norms of all bins as a matrix of colours.

    Bins lie at their positions along the profile where they follow each other without gaps and
    are about as wide; otherwise one after the other with their positions at the ticks. Those
    without an error, whose correlations are not known, are grey.

    Parameters
    ----------
    profile : FluxProfile
        With ``correlation`` of shape (groups, bins, bins), as joint fits give it.
    group : int
        Energy group.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    cmap : str or `~matplotlib.colors.Colormap`
        Colour map; it should have a neutral colour in its middle.
    add_cbar : bool
        Whether to add a colour bar.
    annotate : bool, optional
        Whether to write the numbers into the cells; by default up to 15 bins, where they are
        readable.
    **kwargs
        Passed to `~matplotlib.axes.Axes.pcolormesh`: `vmin` and `vmax`, -1 and 1 by default, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If the profile has no correlations, or no such group.
    """
    check_options(kwargs, plot_correlation, QuadMesh, PCOLORMESH)
    matrix = _matrix(profile, "correlation", group)
    limits = {"vmin": -1.0, "vmax": 1.0} | kwargs
    ax = _draw(profile, matrix, ax, cmap, annotate, limits)
    label = axis_label(profile.axis)
    return _finish(profile, ax, group, (label, label), "Correlation" if add_cbar else None)


def plot_leakage(
    profile: Any,
    group: int = 0,
    ax: Any = None,
    *,
    cmap: Any = "Blues",
    add_cbar: bool = True,
    annotate: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Draw where the photons of every bin are found, as a matrix of colours.

    A column is a bin of the emission: its cells are the shares of the counts of this bin
    that lie in every bin, and add up to one. The diagonal is what stays. Colours follow the root
    of the share, so that little leakage shows too. Bins lie as in `plot_correlation`; those that
    are not seen at all are grey columns.

    Parameters
    ----------
    profile : FluxProfile
        With ``leakage`` of shape (groups, bins, bins), as joint fits give it.
    group : int
        Energy group.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    cmap : str or `~matplotlib.colors.Colormap`
        Colour map.
    add_cbar : bool
        Whether to add a colour bar.
    annotate : bool, optional
        Whether to write the numbers into the cells; by default up to 15 bins, where they are
        readable.
    **kwargs
        Passed to `~matplotlib.axes.Axes.pcolormesh`: `vmin`, zero by default, `vmax`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If the profile has no response, or no such group.
    """
    check_options(kwargs, plot_leakage, QuadMesh, PCOLORMESH)
    matrix = _matrix(profile, "leakage", group)
    top = np.max(matrix, where=np.isfinite(matrix), initial=0.0)
    limits = {"vmin": 0.0, "vmax": top if top > 0 else 1.0} | kwargs
    limits.setdefault("norm", PowerNorm(0.5, limits["vmin"], limits["vmax"]))
    ax = _draw(profile, matrix, ax, cmap, annotate, limits)
    words = _with_role(profile.axis, "of the emission"), _with_role(profile.axis, "of the counts")
    label = "Share of the counts from one bin" if add_cbar else None
    return _finish(profile, ax, group, words, label)


def check_group(group: Any, n_groups: int) -> int:
    """Index of an energy group, not negative; ValueError if there is no such group."""
    try:
        found = operator.index(group)
    except TypeError:
        raise ValueError(f"group must be the index of an energy group, got {group!r}") from None
    if not -n_groups <= found < n_groups:
        raise ValueError(f"group is {found}; the profile has {n_groups} energy groups, from 0 on")
    return found % n_groups


def bin_edges(axis: Any) -> Array | None:
    """Common edges (B + 1,) of bins that follow each other; None if there are gaps or overlaps.

    The boxes of a line are placed in pixels, and so touch each other to a few percent only.
    """
    low, high = np.asarray(axis.min, dtype=float), np.asarray(axis.max, dtype=float)
    width = high - low
    step = low[1:] - high[:-1]
    if not (width > 0).all() or (abs(step) > 0.1 * np.minimum(width[1:], width[:-1])).any():
        return None
    return np.concatenate([low[:1], 0.5 * (low[1:] + high[:-1]), high[-1:]])


def _matrix(profile: Any, name: str, group: int) -> Array:
    value = get_quantity(profile, name)
    if value is None:
        raise ValueError(
            f"profile has no {name}, which takes a joint fit of all bins: estimate it with "
            "ForwardFoldingProfileEstimator"
        )
    matrices = np.asarray(value, dtype=float)
    return matrices[check_group(group, len(matrices))]


def _draw(
    profile: Any,
    matrix: Array,
    ax: Any,
    cmap: Any,
    annotate: bool | None,
    style: dict[str, Any],
) -> Any:
    axis, n_bins = profile.axis, len(matrix)
    contiguous = bin_edges(axis)
    in_place = contiguous is not None and np.ptp(np.log(np.diff(contiguous))) < np.log(MOST_UNEVEN)
    edges: Array = np.arange(n_bins + 1) - 0.5
    if in_place and contiguous is not None:
        edges = contiguous
    figures = plt.get_fignums()
    ax = get_axes(ax)
    if plt.get_fignums() != figures:  # a new one: room for a square
        ax.figure.set_size_inches(6.4, 5.4)
    colors = plt.get_cmap(cmap).with_extremes(bad="0.8")
    norm = style.pop("norm", None) or Normalize(style.pop("vmin"), style.pop("vmax"))
    style = {name: value for name, value in style.items() if name not in ("vmin", "vmax")}
    mesh = ax.pcolormesh(
        edges, edges, np.ma.masked_invalid(matrix), cmap=colors, norm=norm, **style
    )
    # A square whatever the positions, so that the diagonal is one.
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(edges[0], edges[-1])
    width = ax.get_window_extent().width / ax.figure.dpi
    n_ticks = int(np.clip(1.5 * width, 3, 8))
    for which in (ax.xaxis, ax.yaxis):
        if in_place:
            steps = [1, 2, 2.5, 5, 10]
            which.set_major_locator(MaxNLocator(n_ticks, integer=not axis.unit, steps=steps))
        elif contiguous is not None:
            ticks = np.arange(0, n_bins + 1, -(-n_bins // n_ticks))
            which.set_ticks(ticks - 0.5, [f"{contiguous[k]:.3g}" for k in ticks])
        else:
            ticks = np.arange(0, n_bins, -(-n_bins // n_ticks))
            which.set_ticks(ticks, [f"{axis.ref[k]:.3g}" for k in ticks])
    size = _number_size(ax, edges)
    readable = n_bins <= MAX_BINS_WITH_NUMBERS and size >= SMALLEST_NUMBERS
    if annotate if annotate is not None else readable:
        _write_numbers(ax, mesh, matrix, edges)
    return ax


def _number_size(ax: Any, edges: Array) -> float:
    """Size [points] of the numbers that the smallest cell allows."""
    box = ax.get_window_extent()
    side = min(box.width, box.height) * 72 / ax.figure.dpi
    return float(min(side * np.diff(edges).min() / (edges[-1] - edges[0]) / 3.7, 10.0))


def _write_numbers(ax: Any, mesh: Any, matrix: Array, edges: Array) -> None:
    """Two digits in every cell, as large as the smallest cell allows."""
    size = _number_size(ax, edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isfinite(value):
            continue
        text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
        if abs(value) < 0.005:
            text = "0"
        red, green, blue, _ = mesh.cmap(mesh.norm(value))
        # Weights of the colours in what the eye takes for brightness (ITU-R BT.709).
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
        ax.text(
            middle[column], middle[row], text, ha="center", va="center", fontsize=size,
            color="white" if dark else "0.15", clip_on=True, gid="numbers",
        )  # fmt: skip


def _with_role(axis: Any, role: str) -> str:
    name, bracket, unit = axis_label(axis).partition(" [")
    return f"{name} {role}{bracket}{unit}"


def _finish(profile: Any, ax: Any, group: int, labels: tuple[str, str], bar: str | None) -> Any:
    ax.apply_aspect()
    set_label(ax.xaxis, labels[0])
    set_label(ax.yaxis, labels[1])
    edges = np.asarray(profile.energy_edges, dtype=float)
    ax.set_title(group_label(profile, check_group(group, len(edges))), fontsize="medium")
    if bar is not None:
        _add_colorbar(ax, ax.collections[-1], bar)
    return ax
