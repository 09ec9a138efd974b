"""Points, error bars and arrows of upper limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from jaxprof.likelihood.data import Status
from jaxprof.plotting.legend import ARROW_POINTS, AT_THE_EDGE, BIN_MARKS, LIMITS, ROW
from jaxprof.plotting.options import chosen_unit, next_series
from jaxprof.plotting.style import add_obstacles
from jaxprof.profile.papertable import level_text
from jaxprof.profile.quantities import PARTLY_SEEN, partly_seen

SED_TYPES = ("dnde", "flux", "eflux", "e2dnde", "surface_brightness", "norm")
#: Legend entries of bins that a joint fit does not describe, and of those that are seen in part.
NOT_DESCRIBED = "Not described by the model"
IN_PART = f"Seen in part (coverage below {PARTLY_SEEN:g})"
# From the limit at the origin one unit down, a shaft and a head.
_ARROW = Path(
    [(0, 0), (0, -1), (-0.22, -0.62), (0, -1), (0.22, -0.62), (-0.22, -0.62)],
    [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO],
)


class _OnLogScale(Line2D):
    """Markers that are drawn on a logarithmic y axis only, whenever it became one."""

    def draw(self, renderer: Any) -> None:
        """Draw the markers, or nothing on other scales."""
        if self.axes is not None and self.axes.get_yscale() == "log":
            super().draw(renderer)


@dataclass(frozen=True)
class Points:
    """One series of points."""

    x: NDArray[np.float64]
    """Positions, and ends of the horizontal bars, (3, n)."""
    y: NDArray[np.float64]
    """Values, (n,); NaN where there is none."""
    errors: NDArray[np.float64] | None = None
    """Downwards and upwards, (2, n)."""
    limits: NDArray[np.float64] | None = None
    """Upper limits, (n,), finite where an arrow takes the place of the point."""


def draw_points(
    ax: Any, points: Points, label: str, style: dict[str, Any], *, signed: bool = True
) -> Any:
    """Draw one series: points, and arrows where there are limits. Return its colour.

    On a logarithmic axis, which has no place for them, triangles at its lower end stand for what is
    not positive. Unless values are `signed`, as norms are, they stand on any axis for limits that
    are not positive, which are none on a flux; the legend says so.
    """
    x, y, nothing = points.x, points.y, np.full(len(points.y), np.nan)
    errors = np.stack([nothing] * 2) if points.errors is None else points.errors
    limits = nothing if points.limits is None else points.limits
    style = _complete(ax, style)
    color, is_limit = style.get("color"), np.isfinite(limits)
    if color is None:  # the format has one
        (probe,) = ax.plot([], [], style["fmt"])
        color = probe.get_color()
        probe.remove()
    ref, low, high = x
    # Failed bins at the ends are part of the axis too.
    ax.update_datalim([(low.min(), 0.0), (high.max(), 0.0)], updatey=False)
    point = np.isfinite(y) & ~is_limit
    bars = np.stack([ref - low, high - ref])
    errors = np.where(np.isfinite(errors), np.maximum(errors, 0.0), 0.0)
    yerr = errors[:, point] if errors.any() else None
    ax.errorbar(
        ref[point], y[point], xerr=bars[:, point], yerr=yerr, label=label, **style
    )  # fmt: skip
    add_obstacles(ax, np.stack([low, high], 1)[point], np.stack([y, y], 1)[point])
    vertical = np.stack([y - errors[0], y + errors[1]], 1)
    add_obstacles(ax, np.stack([ref, ref], 1)[point], vertical[point])
    beyond = is_limit & (limits <= 0) & (not signed)
    if beyond.any():
        _mark_at_edge(ax, ref[beyond], color, style)
    shown = is_limit & ~beyond
    if shown.any():
        _draw_arrows(ax, x[:, shown], limits[shown], color, style)
    drawn = np.where(is_limit, limits, y)
    _mark_not_positive(ax, ref[(drawn <= 0) & ~beyond], color, style["zorder"])
    positive = drawn[drawn > 0]
    if positive.size and positive.max() < 1.001 * positive.min():
        # Values that rounding alone tells apart leave no room between the ends of a log axis.
        room = [(low.min(), positive.min() / 1.2), (high.max(), positive.max() * 1.2)]
        ax.update_datalim(room)
        ax.autoscale_view()
    return color


def _complete(ax: Any, style: dict[str, Any]) -> dict[str, Any]:
    """The style of a series, with its colour and marker in these axes where none is given."""
    style = normalize_kwargs(style, Line2D)
    series = next_series(ax)
    fmt = style.get("fmt")
    if fmt is None:
        if "marker" in style:
            series.pop("markerfacecolor", None)
        style = series | {"linestyle": "none"} | style
    elif fmt in ("", "none"):
        style.setdefault("color", series["color"])
    style.setdefault("markersize", 4 if style.get("marker") != "^" else 4.5)
    style.setdefault("elinewidth", 1.3)
    style.setdefault("zorder", 3)
    return style


def _draw_arrows(
    ax: Any, x: NDArray[np.float64], top: NDArray[np.float64], color: Any, style: dict[str, Any]
) -> None:
    """Arrows that hang from upper limits, with bars as wide as the bins."""
    at, low, high = x
    z, alpha, width = style["zorder"], style.get("alpha"), style["elinewidth"]
    face = style.get("markerfacecolor", color)  # open as the markers are: series differ in grey
    ax.errorbar(
        at, top, xerr=np.stack([at - low, high - at]), fmt="none", ecolor=color, elinewidth=width,
        zorder=z, alpha=alpha, label="_nolegend_",
    )  # fmt: skip
    # In points, not in units of the data, so that it looks the same on any scale.
    ax.plot(
        at, top, linestyle="none", marker=_ARROW, markersize=2 * ARROW_POINTS, color=color,
        markerfacecolor=face, markeredgewidth=width, zorder=z, alpha=alpha, gid="upper-limits",
        label="_nolegend_",
    )  # fmt: skip
    add_obstacles(ax, np.stack([low, high], 1), np.stack([top, top], 1))


def _mark_at_edge(ax: Any, x: NDArray[np.float64], color: Any, style: dict[str, Any]) -> None:
    """Open triangles at the lower edge: limits that no flux axis has a place for."""
    known = any(line.get_label() == AT_THE_EDGE for line in ax.lines)
    transform = blended_transform_factory(ax.transData, ax.transAxes)
    ax.plot(
        x, np.full(x.size, 0.025), linestyle="none", marker="v", markersize=6, color=color,
        markerfacecolor="w", markeredgewidth=1.2, transform=transform, zorder=style["zorder"],
        gid="limit-not-positive", label="_nolegend_" if known else AT_THE_EDGE, scalex=False,
        scaley=False,
    )  # fmt: skip


def _mark_not_positive(ax: Any, x: NDArray[np.float64], color: Any, zorder: float) -> None:
    """Say on a logarithmic y axis, now or later, that there are values of zero or below."""
    if not x.size:
        return
    transform = blended_transform_factory(ax.transData, ax.transAxes)
    for at, marker, size in ((0.02, "v", 5), (0.06, r"$\leq 0$", 13)):
        ax.add_artist(
            _OnLogScale(
                x,
                np.full(x.size, at),
                linestyle="none",
                marker=marker,
                markersize=size,
                color=color,
                markeredgewidth=0.8,
                markerfacecolor="w" if marker == "v" else color,
                transform=transform,
                zorder=zorder,
                gid="not-positive",
                label="_nolegend_",
            )  # fmt: skip
        )


def name_limits(ax: Any, profile: Any, limits: NDArray[np.float64]) -> None:
    """A legend entry with the level of the upper limits of a profile, and their kind if named.

    `limits` are those that are drawn, NaN elsewhere.
    """
    if not np.isfinite(limits).any():
        return
    text = f"{LIMITS}{level_text(profile)}"
    if all(line.get_label() != text for line in ax.lines):
        style = {"marker": r"$\downarrow$", "markersize": 9, "linestyle": "none", "color": "0.3"}
        ax.plot([], [], **style, label=text, gid="limits-entry", scalex=False, scaley=False)


def mark_misfit(ax: Any, axis: Any, profile: Any, colors: dict[int, Any]) -> None:
    """Crosses at the upper edge for bins that the model of a joint fit does not describe.

    `colors` are those of the energy groups that are shown. Several groups are rows of crosses in
    their colours, the first on top; a single one has grey crosses.
    """
    misfit = get_quantity(profile, "misfit")
    if misfit is not None:
        _mark_bins(ax, axis, np.asarray(misfit, bool), colors, NOT_DESCRIBED)


def mark_partly_seen(ax: Any, axis: Any, profile: Any, colors: dict[int, Any]) -> None:
    """Half-filled circles at the upper edge for bins that are seen in part, in any group shown."""
    which = np.atleast_1d(partly_seen(profile)[:, list(colors)].any(axis=1))
    _mark_bins(ax, axis, which[:, np.newaxis], {0: "0.3"}, IN_PART)


_MARKS = {
    NOT_DESCRIBED: {"gid": "misfit", "marker": "x", "markersize": 5},
    IN_PART: {
        "gid": "partly-seen", "marker": "o", "markersize": 5, "fillstyle": "left",
        "markerfacecoloralt": "w", "markeredgewidth": 0.8,
    },
}  # fmt: skip
"""How bins are marked, by the legend entry."""


def _mark_bins(ax: Any, axis: Any, which: NDArray[Any], colors: dict[int, Any], label: str) -> None:
    """Marks at the upper edge, in rows of the groups below those that are there; see `_MARKS`."""
    which = which[:, list(colors)]
    transform = blended_transform_factory(ax.transData, ax.transAxes)
    mark = dict(_MARKS[label])
    gid = mark.pop("gid")
    style = {**mark, "linestyle": "none", "scalex": False, "scaley": False}
    own = list(colors.values()) if len(colors) > 1 else ["0.3"]
    rows = sum(line.get_gid() in BIN_MARKS and line.get_gid() != gid for line in ax.lines)
    for row, group in enumerate(np.flatnonzero(which.any(axis=0)), start=rows):
        at = np.asarray(axis.ref, dtype=float)[which[:, group]]
        ax.plot(
            at, np.full(at.size, 0.97 - ROW * row), **style, color=own[group], zorder=4,
            transform=transform, gid=gid, label="_nolegend_",
        )  # fmt: skip
    if which.any() and all(line.get_label() != label for line in ax.lines):
        ax.plot([], [], **style, color="0.3", gid=f"{gid}-entry", label=label)


def fluxes(
    profile: Any, sed_type: str, unit: Any = None, threshold: float | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Values (B, G), errors (2, B, G) and upper limits (B, G), NaN where it is a point.

    Values and limits are NaN where the fit failed. A significant deficit, whose limit is no flux,
    is a point.

    In `unit`, by default that of the profile. With a `threshold` limits stand where ``sqrt_ts`` is
    below it, whatever the profile's own is.
    """
    if sed_type not in SED_TYPES:
        raise ValueError(f"sed_type must be one of {', '.join(SED_TYPES)}; got {sed_type!r}")
    own = flux_unit(profile, sed_type)
    factor = 1.0 if unit is None else own.to(unit)

    def array(name: str) -> NDArray[np.float64] | None:
        value = get_quantity(profile, f"{sed_type}{name}")
        if value is None:
            return None
        data = value.to_value(own) if hasattr(value, "unit") else value
        return factor * np.asarray(data, dtype=float)

    values = array("")
    if values is None:
        raise ValueError(f"profile has no {sed_type!r}")
    nan = np.full(values.shape, np.nan)
    symmetric = array("_err")
    symmetric = nan if symmetric is None else symmetric
    sides = []
    for name in ("_errn", "_errp"):
        side = array(name)
        sides.append(symmetric if side is None else np.where(np.isfinite(side), side, symmetric))
    limits = array("_ul")
    is_ul, sqrt_ts = (get_quantity(profile, name) for name in ("is_ul", "sqrt_ts"))
    if threshold is not None and "is_ul" not in getattr(profile, "quantities", {}):
        is_ul = is_ul if sqrt_ts is None else np.asarray(sqrt_ts) < threshold
    if limits is None or is_ul is None:
        limits = nan
    else:
        limits = np.where(np.asarray(is_ul, dtype=bool), limits, np.nan)
    if sed_type != "norm" and sqrt_ts is not None:
        # A deficit as significant as a source has to be is a measurement, and its limit is no flux.
        least = getattr(profile, "sqrt_ts_threshold_ul", 2.0) if threshold is None else threshold
        limits = np.where((limits <= 0) & (np.asarray(sqrt_ts) <= -least), np.nan, limits)
    # A joint fit has norms of bins that no pixel in use lies in: of their leakage, no measurement.
    good = get_quantity(profile, "success")
    good = np.isfinite(values) if good is None else np.asarray(good, dtype=bool)
    return np.where(good, values, np.nan), np.stack(sides), np.where(good, limits, np.nan)


def say_if_empty(ax: Any, profile: Any, values: Any, limits: Any) -> None:
    """Say in the figure why it is empty, where no bin has a value or a limit to draw."""
    if np.any(np.isfinite(values) | np.isfinite(limits)):
        return
    status = get_quantity(profile, "status")
    codes = map(Status, () if status is None else np.unique(np.asarray(status)))
    why = ", ".join(code.label for code in codes if not code.success)
    text = "No bin has a value" + (f": {why}" if why else "")
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color="0.4", gid="no-values")


def most_significant(profiles: Sequence[Any], most: int, group: Any = slice(None)) -> list[int]:
    """Bins with the largest ``ts`` in all profiles (the largest norms, without), in their order."""
    name = "ts" if all(get_quantity(own, "ts") is not None for own in profiles) else "norm"
    longest = max(len(own.axis.ref) for own in profiles)
    total = np.zeros(longest)
    for own in profiles:
        values = np.atleast_2d(np.asarray(get_quantity(own, name), dtype=float)[:, group].T)
        total[: values.shape[1]] += np.nansum(values, axis=0)
    return sorted(int(k) for k in np.argsort(-total, kind="stable")[:most])


def get_quantity(profile: Any, name: str) -> Any:
    """Quantity of a profile; None if it has none of that name."""
    try:
        value = getattr(profile, name)
        return value() if callable(value) else value
    except (AttributeError, KeyError, ValueError):
        return None


def flux_unit(profile: Any, name: str) -> Any:
    """Unit of a flux of a profile; none for the norm, unless it is a ratio."""
    if name == "norm":
        return u.Unit(getattr(profile, "norm_unit", ""))
    return getattr(get_quantity(profile, name), "unit", u.dimensionless_unscaled)


def drawn_unit(ax: Any, unit: Any, profile: Any, sed_type: str) -> Any:
    """Unit to draw a flux in; see `jaxprof.plotting.options.chosen_unit`."""
    return chosen_unit(ax.yaxis, unit, flux_unit(profile, sed_type), sed_type)
