"""Likelihood profiles as a colour density."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgb
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from jaxprof.plotting.legend import ARROW_POINTS, update_legend
from jaxprof.plotting.options import PCOLORMESH, check_options, skip_first_series
from jaxprof.plotting.points import SED_TYPES, drawn_unit, flux_unit, get_quantity
from jaxprof.plotting.style import (
    add_obstacles,
    add_zero_line,
    at_energy,
    choose_yscale,
    get_axes,
    quantity_label,
    set_label,
    set_margins,
    set_ylabel,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names, finish_xaxis, shown_axis

_MAPS = {
    "Blues": plt.get_cmap("Blues"),
    # Without their darkest colours, on which no points are seen well.
    **{n: ListedColormap(plt.get_cmap(n)(np.linspace(0, 0.8, 256))) for n in ("Oranges", "Greens")},
}
_APART = 0.35  # distance of colours, as red, green and blue, that are told apart


def plot_ts_profiles(
    profile: Any,
    *,
    ax: Any = None,
    sed_type: str = "dnde",
    add_cbar: bool = True,
    cmap: Any = None,
    vmin: float = -4.0,
    show_names: bool = False,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    """Draw the likelihood profile of every bin as a density, below any points.

    The colour is the difference of the fit statistic from its minimum: zero at the best norm,
    1 at one sigma from it, and transparent where it is larger than minus `vmin`. Between the
    values of the scan the signed root of the difference, a straight line for a parabola, is
    interpolated by a monotone cubic, which also passes through the best norm, its
    asymmetric errors and its upper limit, where these are known. The density ends where the scan
    does: the default of estimators, gammapy's grid from 0.2 to 5, misses faint bins, and the colour
    bar says how many; with ``norm={"scan_n_sigma": 3}`` they scan as far as three sigma of each.

    Parameters
    ----------
    profile : FluxProfile
        With one energy group and ``stat_scan`` of shape (bins, 1, n_scan).
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw, usually the axes of `plot_profile`.
    sed_type : {"dnde", "flux", "eflux", "e2dnde", "surface_brightness", "norm"}
        Which flux.
    add_cbar : bool
        Whether to add a colour bar.
    cmap : str or `~matplotlib.colors.Colormap`, optional
        Colour map; its last colour is that of the minimum. By default "Blues", or another one where
        points that are drawn already would not be seen on that.
    vmin : float
        Minus the largest difference shown, as in gammapy: -4 for two sigma.
    show_names : bool
        Whether the names of the bins are the tick labels.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the flux; by default that of the y axis, if it has one, or of the profile.
    **kwargs
        Passed to `~matplotlib.axes.Axes.pcolormesh`.

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If there is more than one energy group, no scan, no names to show, or `vmin` is not
        negative.
    """
    check_options(kwargs, plot_ts_profiles, QuadMesh, PCOLORMESH)
    names = bin_names(profile, show_names)
    _check_scan(profile, sed_type, vmin)
    # Bins may have spectra, and so fluxes at norm one, of their own.
    refs = np.ones(len(profile.axis.ref))
    if sed_type != "norm":
        values = u.Quantity(getattr(profile, f"{sed_type}_ref")).value
        refs = np.broadcast_to(np.ravel(values), refs.shape)

    ax = get_axes(ax)
    y_unit = drawn_unit(ax, unit, profile, sed_type)
    refs = flux_unit(profile, sed_type).to(y_unit) * refs
    axis = shown_axis(ax, profile.axis)
    # The minimum, where the likelihood is largest, has the strongest colour.
    norm = Normalize(vmin=-kwargs.pop("vmax", 0.0), vmax=-vmin)
    cmap = (_contrasting(ax) if cmap is None else plt.get_cmap(cmap)).reversed()
    style = {"cmap": cmap, "norm": norm, "shading": "flat", "zorder": 0.5, **kwargs}
    for k in range(len(axis.ref)):
        column = _likelihood_column(profile, k, vmin)
        if column is None:
            continue
        edges, difference = column
        ref = float(refs[k])
        x = [float(axis.min[k]), float(axis.max[k])]
        mesh = ax.pcolormesh(x, ref * edges, difference[:, np.newaxis], **style)
        # Otherwise the density would stick to the frame.
        mesh.sticky_edges.x.clear()
        mesh.sticky_edges.y.clear()
        add_obstacles(ax, np.full((1, 2), np.mean(x)), ref * edges[[[0, -1]]])
    set_margins(ax, ARROW_POINTS + 6)
    choose_yscale(ax)
    add_zero_line(ax)
    finish_xaxis(ax, axis, names)
    set_ylabel(ax, quantity_label(sed_type, y_unit, at_energy(sed_type, profile, 0)))
    keep_unit(ax.yaxis, y_unit)
    if add_cbar:
        mappable = ScalarMappable(norm, cmap)
        bar = ax.figure.colorbar(mappable, ax=ax, pad=0.03)
        set_label(bar.ax.yaxis, _cbar_label(profile))
    update_legend(ax)
    return ax


def _contrasting(ax: Any) -> Colormap:
    """Colour map on which the points that are drawn are seen best; the first of equal ones.

    Where nothing is drawn yet, what follows is not of the colour of the first series, a blue.
    """
    drawn = [to_rgb(line.get_color()) for line in ax.lines if line.get_gid() is None]
    if not drawn:
        skip_first_series(ax)
        return _MAPS["Blues"]
    near = {}
    for name, colors in _MAPS.items():
        strong = np.array([colors(at)[:3] for at in (0.7, 0.85, 1.0)])
        apart = np.linalg.norm(np.array(drawn)[:, np.newaxis] - strong, axis=2)
        near[name] = min(float(apart.min()), _APART)
    return _MAPS[max(near, key=lambda name: near[name])]


def _cbar_label(profile: Any) -> str:
    """The label of the colour bar, which says in how many bins the scan misses the best norm."""
    norm, scan = (np.asarray(own, dtype=float) for own in (profile.norm, profile.norm_scan))
    missed = np.count_nonzero((norm < scan.min(axis=-1)) | (norm > scan.max(axis=-1)))
    note = f"\n(scans miss the best norm in {missed} of {len(norm)} bins)" if missed else ""
    return f"Fit statistic above its minimum{note}"


def _check_scan(profile: Any, sed_type: str, vmin: float) -> None:
    """Raise unless there is one likelihood scan a bin, and the other arguments are valid."""
    n_groups = len(profile.energy_edges)
    if n_groups != 1:
        raise ValueError(
            f"profile has {n_groups} energy groups and their densities would cover each other; "
            'take one with profile.slice_by_idx({"energy": slice(0, 1)})'
        )
    if get_quantity(profile, "stat_scan") is None or get_quantity(profile, "norm_scan") is None:
        raise ValueError(
            'profile has no likelihood scan; ask for one with selection_optional=["scan"]'
        )
    if not vmin < 0:
        raise ValueError(f"vmin is {vmin}; as in gammapy it is negative: -4 shows two sigma")
    if sed_type not in SED_TYPES:
        raise ValueError(f"sed_type must be one of {', '.join(SED_TYPES)}; got {sed_type!r}")


def _likelihood_column(
    profile: Any, index: int, vmin: float, n_cells: int = 160
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Norm edges (n_cells + 1,) and differences of the statistic (n_cells,) of a bin.

    The edges enclose differences up to minus `vmin`; they are masked elsewhere. None if the bin
    has no scan.
    """
    scan = np.asarray(profile.norm_scan, dtype=float)
    scan = scan if scan.ndim == 1 else scan[index, 0]
    stat = np.asarray(profile.stat_scan, dtype=float)[index, 0]
    best = float(np.asarray(profile.norm)[index, 0])
    at_best = get_quantity(profile, "stat")
    minimum = np.nan if at_best is None else float(np.asarray(at_best)[index, 0])
    good = np.isfinite(scan) & np.isfinite(stat)
    if not good.any():
        return None
    if not np.isfinite(best + minimum):
        k = int(np.argmin(np.where(good, stat, np.inf)))
        best, minimum = scan[k], stat[k]
    nodes = dict(zip(scan[good], stat[good] - minimum, strict=True))
    nodes = {x: float(np.sign(x - best) * np.sqrt(max(d, 0.0))) for x, d in nodes.items()}
    nodes[best] = 0.0
    # Limits of other kinds are not where the statistic has risen by so much.
    profiled = profile.meta.get("interval", "profile") == "profile"
    for name, sign, sigma in (
        ("norm_errp", 1.0, profile.n_sigma),
        ("norm_errn", -1.0, -profile.n_sigma),
        ("norm_ul", 0.0, profile.n_sigma_ul if profiled else None),
    ):
        value = get_quantity(profile, name)
        if value is not None and sigma:
            value = float(np.asarray(value)[index, 0])
            value = best + sign * value if sign else value
            if np.isfinite(value) and value != best:
                nodes[value] = float(sigma)
    x = np.array(sorted(nodes))
    x = x[np.append(True, np.diff(x) > 1e-9 * max(float(np.ptp(x)), 1e-300))]
    if len(x) < 2:
        return None
    root = PchipInterpolator(x, [nodes[value] for value in x])
    fine = np.unique(np.linspace(x[:-1], x[1:], 100))
    shown = np.flatnonzero(root(fine) ** 2 <= -vmin)
    if not len(shown):
        return None
    edges = np.linspace(
        fine[max(shown[0] - 1, 0)], fine[min(shown[-1] + 1, len(fine) - 1)], n_cells + 1
    )
    difference = root(0.5 * (edges[:-1] + edges[1:])) ** 2
    return edges, np.ma.masked_greater(difference, -vmin)
