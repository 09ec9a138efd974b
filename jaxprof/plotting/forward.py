"""Forward-folded profiles beside others and models, with residuals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.cbook import normalize_kwargs
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxprof.plotting.compared import Series, compared_series, with_models
from jaxprof.plotting.legend import ARROW_POINTS, lay_out, update_legend
from jaxprof.plotting.matrices import check_group
from jaxprof.plotting.options import ERRORBAR, check_options, series_style
from jaxprof.plotting.points import (
    Points,
    draw_points,
    drawn_unit,
    flux_unit,
    mark_misfit,
    mark_partly_seen,
    name_limits,
)
from jaxprof.plotting.robust import keep_limits, mark_hidden, ordinary_bins
from jaxprof.plotting.style import (
    add_obstacles,
    add_zero_line,
    at_energy,
    choose_yscale,
    group_label,
    quantity_label,
    set_margins,
    set_ylabel,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names, finish_xaxis, shown_axis

BEHIND_LIMITS = "Below: value of a bin with a limit"
"""Legend entry of the open markers of residuals."""

Array = NDArray[np.float64]


def plot_comparison(
    profile: Any,
    other: Any = None,
    curve: Any = None,
    curve_label: str | None = None,
    sed_type: str = "flux",
    group: int | None = None,
    axes: Any = None,
    *,
    label: str | None = None,
    other_label: Any = None,
    other_curve: Any = None,
    show_names: bool = False,
    unit: Any = None,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Draw a profile over another one and a model curve, with a panel of residuals.

    The points of `other` are pale, open and a little to the right. The panel below shows the
    distance of the points from the curve over their errors (the one on the side of the
    curve), also of those that are drawn as upper limits, with open markers; without a curve the
    profile minus the other, over the error of the profile: both are of the same counts, so these do
    not scatter by one. A band marks one standard deviation. Failed bins are left out. Bins with
    huge errors do not set the limits of the y axis; triangles at its ends stand for points beyond.

    Parameters
    ----------
    profile : FluxProfile
        Usually forward-folded.
    other : FluxProfile or list of these, optional
        Profiles of the same bins and energy groups, usually of independent bins. Where ``sqrt_ts``
        is below the threshold of `profile` they are drawn as limits too, unless one of them has no
        limits: then all are points.
    curve : array or Quantity, shape (bins,) or (bins, groups), or FluxProfile, optional
        Model value in every bin as `sed_type` says, in the unit of the profile if it has none. Or a
        profile of the same bins and energy groups, of which the values are taken: to fold a model
        as the data are, give ``estimator.run(expected_dataset(dataset, model))``, of the estimator
        that made `profile` (see `jaxprof.expected_dataset`). Where its fit failed there is a gap.
    curve_label : str, optional
        Legend entry of the curve, "Model" by default.
    sed_type : {"flux", "dnde", "eflux", "e2dnde", "surface_brightness", "norm"}
        Which flux.
    group : int, optional
        Energy group; all by default.
    axes : pair of `~matplotlib.axes.Axes`, optional
        Where to draw the points and the residuals; by default two panels of the current figure if
        that is empty, or of a new one.
    label, other_label : str
        Legend entries of the profiles (a list for several others); by default how they were folded,
        or, if that is the same, "Profile" and "Other".
    other_curve : array, Quantity or FluxProfile, optional
        The model as `other` should show it, drawn as a dashed line; the residuals of `other` are
        from it. By default they are from `curve`, which is not fair to a profile that ignores the
        PSF: give ``other_estimator.run(expected_dataset(dataset, model))``.
    show_names : bool
        Whether the names of the bins are the tick labels.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the flux; by default that of the y axis, if it has one, or of the profile.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar` for the points of `profile`.

    Returns
    -------
    ax, ax_residual : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If there is neither `other` nor `curve`, `other_curve` without both of these, if one of them
        is a profile of other bins or groups (or, for norms, of another reference spectrum), or for
        a curve of a wrong kind, shape or unit; and if there are no names to show.
    """
    check_options(kwargs, plot_comparison, also=ERRORBAR)
    own_names = bin_names(profile, show_names)
    kwargs = normalize_kwargs(kwargs, Line2D)
    sed_type = "norm" if sed_type == "likelihood" else sed_type
    edges = np.asarray(profile.energy_edges, dtype=float)
    groups = range(len(edges)) if group is None else [check_group(group, len(edges))]
    compared = compared_series(profile, other, sed_type, label, other_label)
    compared = with_models(compared, curve, other_curve, sed_type, groups)

    ax, ax_residual = _two_panels(axes)
    y_unit = drawn_unit(ax, unit, profile, sed_type)
    compared = [one.scaled(flux_unit(profile, sed_type).to(y_unit)) for one in compared]
    axis = shown_axis(ax, profile.axis)
    what = _Comparison(
        tuple(compared), axis, tuple(groups), curve_label or "Model", other_curve is not None
    )
    hidden, colors, behind = [], {}, False
    for k in what.groups:
        styles = _styles(kwargs, k, len(compared) - 1)
        colors[k] = styles[0]["color"]
        hidden += _draw_group(ax, what, k, styles, signed=sed_type == "norm")
        behind |= _draw_differences(ax_residual, what, k, styles)
    if behind:
        _name_open_markers(ax)
    mark_misfit(ax, axis, profile, colors)
    mark_partly_seen(ax, axis, profile, colors)
    alone = len(what.groups) == 1
    at_text = at_energy(sed_type, profile, groups[0]) if alone else ""
    _finish_points(ax, quantity_label(sed_type, y_unit, at_text))
    keep_unit(ax.yaxis, y_unit)
    _finish_residuals(ax_residual, "Difference" if curve is None else "Residual")
    _finish_x(ax, ax_residual, axis, own_names)
    if alone and not ax.get_title():
        ax.set_title(group_label(profile, groups[0]), fontsize="medium")
        update_legend(ax)
    lay_out(ax)
    for own in (ax, ax_residual):  # now that their heights are known
        set_ylabel(own, own.get_ylabel())
    for beyond in hidden:
        mark_hidden(ax, *beyond)
    return ax, ax_residual


@dataclass(frozen=True)
class _Comparison:
    """Profiles that are compared, and what tells them and their energy groups apart."""

    compared: tuple[Series, ...]
    """The profile, and the others."""
    axis: Any
    """Axis of the bins, in the unit in which it is drawn."""
    groups: tuple[int, ...]
    """Energy groups that are drawn."""
    curve_name: str
    """Name of the model."""
    own_curves: bool
    """Whether others have a model of their own, which is drawn as well."""

    def suffix(self, k: int) -> str:
        """What names an energy group behind the name of a series, if there are several."""
        several = len(self.groups) > 1
        return f", {group_label(self.compared[0].profile, k)}" if several else ""

    def positions(self, k: int) -> list[Array]:
        """Where points of each profile stand, in the bins of an energy group."""
        n, n_groups = len(self.compared), len(self.groups)
        first = self.groups.index(k) * n
        return [shifted(self.axis, first + one, n_groups * n, n_groups) for one in range(n)]


def _draw_group(
    ax: Any, what: _Comparison, k: int, styles: list[dict[str, Any]], *, signed: bool
) -> list[tuple[Array, Array, Any]]:
    """Points and models of an energy group; what `_draw_series` gives of each profile."""
    drawn, suffix = [one.group(k) for one in what.compared], what.suffix(k)
    dark = (0.2,) * 3
    if len(what.groups) > 1:
        dark = tuple(0.55 * part for part in styles[0]["color"])
    if (model := drawn[0].model) is not None:
        draw_steps(ax, what.axis, model, dark, f"{what.curve_name}{suffix}")
    if what.own_curves and (model := drawn[1].model) is not None:
        faded = tuple(0.5 * part + 0.35 for part in dark)
        label_of = f"{what.curve_name}, {drawn[1].name.lower()}{suffix}"
        draw_steps(ax, what.axis, model, faded, label_of, ls="--")
    return [
        _draw_series(ax, x, one, suffix, style, signed=signed)
        for one, x, style in zip(drawn, what.positions(k), styles, strict=True)
    ]


def _draw_differences(ax: Any, what: _Comparison, k: int, styles: list[dict[str, Any]]) -> bool:
    """Residuals of an energy group; whether some are of bins that are drawn as limits."""
    behind = False
    drawn = [one.group(k) for one in what.compared]
    for x, residual, limits, style in _residuals(drawn, what.positions(k), styles):
        _draw_residuals(ax, x, residual, limits, style)
        behind |= bool(np.isfinite(residual[np.isfinite(limits)]).any())
    return behind


def _draw_series(
    ax: Any, x: Array, one: Series, suffix: str, style: dict[str, Any], *, signed: bool
) -> tuple[Array, Array, Any]:
    """The points of a profile; position, value and colour of those that have no part in limits."""
    limits = one.limits
    at = np.where(np.isfinite(limits), limits, one.values)
    if not signed:  # these stand at the edge
        at = np.where(np.isfinite(limits) & (limits <= 0), np.nan, at)
    ordinary = ordinary_bins(at, one.errors, significant=True)
    with keep_limits(ax, at, one.errors, limits, ordinary):
        words = f"{one.name}{suffix}"
        points = Points(x, one.values, one.errors, limits)
        draw_points(ax, points, words, dict(style), signed=signed)
    name_limits(ax, one.profile, limits)
    return x[0][~ordinary], at[~ordinary], style["color"]


def _residuals(
    drawn: list[Series], positions: list[Array], styles: list[dict[str, Any]]
) -> Iterator[tuple[Array, Array, Array, dict[str, Any]]]:
    """Positions, residuals, limits and style: from the models, or of the first from the others."""
    first = drawn[0]
    for one, x, style in zip(drawn, positions, styles, strict=True):
        if one.model is not None:
            yield x, _pulls(one.values - one.model, one.errors, one.profile), one.limits, style
        elif one is not first:
            pulls = _pulls(first.values - one.values, first.errors, first.profile)
            only = len(drawn) == 2
            yield (positions[0] if only else x), pulls, first.limits, styles[0] if only else style


def _styles(kwargs: dict[str, Any], group: int, n_others: int) -> list[dict[str, Any]]:
    """Styles of the profile and of the others: pale, or of their own colours if they are many."""
    first = series_style(group)
    base = to_rgb(kwargs.get("color", first["color"]))
    found = [{"marker": "o", **kwargs, "color": base}]
    if n_others == 1:
        pale = tuple(0.45 * part + 0.55 * 0.8 for part in base)
        found.append({"color": pale, "marker": "s", "markerfacecolor": "white", "zorder": 2.5})
    elif n_others:
        found += [{**series_style(group + k), "zorder": 2.5} for k in range(1, n_others + 1)]
    return found


def _two_panels(axes: Any) -> tuple[Any, Any]:
    if axes is not None:
        try:
            ax, ax_residual = axes
        except (TypeError, ValueError):
            raise ValueError(
                "axes must be two, for the points and the residuals, such as those of "
                "plt.subplots(2, sharex=True)"
            ) from None
        return ax, ax_residual
    figure = plt.gcf() if plt.get_fignums() else None
    if figure is None or figure.axes:
        layout = ConstrainedLayoutEngine(h_pad=0.02, hspace=0.0, rect=(0, 0, 1, 0.985))
        figure = plt.figure(figsize=(6.4, 5.6), layout=layout)
    ratios = {"height_ratios": [3, 1], "hspace": 0.06}
    ax, ax_residual = figure.subplots(2, sharex=True, gridspec_kw=ratios)
    return ax, ax_residual


def shifted(axis: Any, series: int, n_series: int, n_groups: int) -> Array:
    """Reference position, low and high edge (3, B); points of several series stand side by side."""
    ref, low, high = (np.asarray(v, dtype=float) for v in (axis.ref, axis.min, axis.max))
    step = min(0.16, 0.7 / n_series)
    # The only profile, and the first of two, stay where they belong.
    shift = series if n_groups == 1 else series - 0.5 * (n_series - 1)
    return np.stack([ref + shift * step * (high - low), low, high])


def _pulls(difference: Array, errors: Array, profile: Any) -> Array:
    """Differences over the error on their side, of one standard deviation."""
    sigma = np.where(difference > 0, errors[0], errors[1]) / float(getattr(profile, "n_sigma", 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sigma > 0, difference / sigma, np.nan)


def _draw_residuals(ax: Any, x: Array, residual: Array, limits: Array, style: dict) -> None:
    for shown, face in ((~np.isfinite(limits), None), (np.isfinite(limits), "white")):
        own = dict(style)
        if face is not None:
            own["markerfacecolor"] = face
        y = np.where(shown, residual, np.nan)
        draw_points(ax, Points(x, y), "_nolegend_", own)


def _name_open_markers(ax: Any) -> None:
    """A legend entry for the open markers of the panel below."""
    if all(line.get_label() != BEHIND_LIMITS for line in ax.lines):
        style = {"marker": "o", "markersize": 4, "linestyle": "none", "color": "0.3"}
        ax.plot(
            [], [], **style, markerfacecolor="w", label=BEHIND_LIMITS, gid="open-entry",
            scalex=False, scaley=False,
        )  # fmt: skip


def draw_steps(ax: Any, axis: Any, y: Array, color: Any, label: str, **style: Any) -> None:
    """A horizontal line across every bin, joined where bins touch each other."""
    low, high = np.asarray(axis.min, dtype=float), np.asarray(axis.max, dtype=float)
    gap = np.append(abs(low[1:] - high[:-1]) > 0.1 * (high - low)[1:], False)
    x = np.stack([low, high, np.where(gap, np.nan, high)], axis=1).ravel()
    ends = np.stack([y, y, np.where(gap, np.nan, y)], axis=1).ravel()
    ax.plot(x, ends, color=color, lw=1.2, zorder=2, label=label, **style)
    shown = np.isfinite(y)
    add_obstacles(ax, np.stack([low, high], 1)[shown], np.stack([y, y], 1)[shown])


def _finish_points(ax: Any, ylabel: str) -> None:
    set_margins(ax, ARROW_POINTS + 6)
    choose_yscale(ax)
    add_zero_line(ax)
    set_ylabel(ax, ylabel)
    update_legend(ax)


def _finish_residuals(ax: Any, name: str) -> None:
    if not any(patch.get_gid() == "one-sigma" for patch in ax.patches):
        ax.axhspan(-1, 1, color="0.92", zorder=0.5, gid="one-sigma")
        ax.axhline(0, color="0.55", lw=0.8, zorder=0.8, gid="zero-line")
    low, high = ax.dataLim.intervaly
    reach = 1.15 * max(abs(low), abs(high), 2.0)
    ax.set_ylim(-reach, reach)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, symmetric=True))
    set_ylabel(ax, f"{name} / error")


def _finish_x(ax: Any, ax_residual: Any, axis: Any, names: list[str] | None) -> None:
    set_margins(ax, ARROW_POINTS + 6)
    finish_xaxis(ax_residual, axis, names)
    if ax.get_shared_x_axes().joined(ax, ax_residual):
        ax.tick_params(labelbottom=False)
    else:
        finish_xaxis(ax, axis, names)
    ax.figure.align_ylabels([ax, ax_residual])
