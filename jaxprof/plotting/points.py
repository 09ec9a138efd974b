"""Points, error bars and arrows of upper limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from jaxprof.plotting.style import add_obstacles

SED_TYPES = ("dnde", "flux", "eflux", "e2dnde", "norm")
#: Length of the arrow of an upper limit.
ARROW_POINTS = 14.0
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


def draw_points(
    ax: Any,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    errors: NDArray[np.float64],
    limits: NDArray[np.float64],
    label: str,
    style: dict[str, Any],
) -> None:
    """Draw one series: points, and arrows where there are limits.

    `x` is (ref, low, high) and `errors` (negative, positive), each with values on the
    second axis; `limits` is finite where an arrow takes the place of the point. On a logarithmic
    axis, which has no place for them, triangles at its lower end stand for what is not positive.
    """
    style = normalize_kwargs(style, Line2D)
    if "fmt" not in style:
        style.setdefault("marker", "o")
        style.setdefault("linestyle", "none")
    style.setdefault("markersize", 4)
    style.setdefault("elinewidth", 1.3)
    style.setdefault("zorder", 3)
    color = style.get("color")
    if color is None:
        # The next colour of the cycle, known before any artist, for points and arrows.
        fmt = style.get("fmt", "")
        (probe,) = ax.plot([], [], "" if fmt == "none" else fmt)
        color = probe.get_color()
        probe.remove()
        if fmt in ("", "none"):  # others may hold a colour, and two are one too many
            style["color"] = color
    ref, low, high = x
    # Failed bins at the ends are part of the axis too.
    ax.update_datalim([(low.min(), 0.0), (high.max(), 0.0)], updatey=False)
    is_limit = np.isfinite(limits)
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
    if is_limit.any():
        z, alpha = style["zorder"], style.get("alpha")
        at, top = ref[is_limit], limits[is_limit]
        width = style["elinewidth"]
        ax.errorbar(
            at, top, xerr=bars[:, is_limit], fmt="none", ecolor=color, elinewidth=width,
            zorder=z, alpha=alpha, label="_nolegend_",
        )  # fmt: skip
        # In points, not in units of the data, so that it looks the same on any scale.
        ax.plot(
            at, top, linestyle="none", marker=_ARROW, markersize=2 * ARROW_POINTS, color=color,
            markeredgewidth=width, zorder=z, alpha=alpha, gid="upper-limits", label="_nolegend_",
        )  # fmt: skip
        ends = np.stack([low, high], 1)[is_limit]
        add_obstacles(ax, ends, np.stack([top, top], 1))
    drawn = np.where(is_limit, limits, y)
    _mark_not_positive(ax, ref[drawn <= 0], color, style["zorder"])
    positive = drawn[drawn > 0]
    if positive.size and positive.max() < 1.001 * positive.min():
        # Values that rounding alone tells apart leave no room between the ends of a log axis.
        room = [(low.min(), positive.min() / 1.2), (high.max(), positive.max() * 1.2)]
        ax.update_datalim(room)
        ax.autoscale_view()


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


def fluxes(profile: Any, sed_type: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Values (B, G), errors (2, B, G) and upper limits (B, G), NaN where it is a point."""
    if sed_type not in SED_TYPES:
        raise ValueError(f"sed_type must be one of {', '.join(SED_TYPES)}; got {sed_type!r}")
    unit = flux_unit(profile, sed_type)

    def array(name: str) -> NDArray[np.float64] | None:
        value = get_quantity(profile, f"{sed_type}{name}")
        if value is None:
            return None
        return np.asarray(value.to_value(unit) if hasattr(value, "unit") else value, dtype=float)

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
    is_ul = get_quantity(profile, "is_ul")
    if limits is None or is_ul is None:
        limits = nan
    else:
        limits = np.where(np.asarray(is_ul, dtype=bool), limits, np.nan)
    return values, np.stack(sides), limits


def get_quantity(profile: Any, name: str) -> Any:
    """Quantity of a profile; None if it has none of that name."""
    try:
        return getattr(profile, name)
    except (AttributeError, KeyError):
        return None


def flux_unit(profile: Any, name: str) -> Any:
    """Unit of a flux of a profile; none for the norm, unless it is a ratio."""
    if name == "norm":
        return u.Unit(getattr(profile, "norm_unit", ""))
    return getattr(getattr(profile, name), "unit", u.dimensionless_unscaled)
