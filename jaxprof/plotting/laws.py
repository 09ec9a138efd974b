"""A fitted law over what was observed, and the residuals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.options import ERRORBAR, check_options, chosen_unit
from jaxprof.plotting.points import Points, draw_points
from jaxprof.plotting.style import (
    add_zero_line,
    choose_yscale,
    get_axes,
    set_label,
    set_ylabel,
    unit_label,
)
from jaxprof.plotting.units import keep_unit

Array = NDArray[np.float64]

_BRIGHTNESS = "cm-2 s-1 sr-1"
_SYMBOLS = ("alpha", "beta", "gamma", "sigma", "theta", "eta", "r")


def plot_law(
    result: Any,
    *,
    ax: Any = None,
    profile: Any = None,
    n_sigma: float = 1,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    """Draw a fitted law with its error band over what was observed, and the residuals below.

    A second law that it was tested against is a dashed line, without band and residuals.

    Parameters
    ----------
    result : ModelFit
        What `jaxprof.fit_model` gave.
    ax : `~matplotlib.axes.Axes` or a pair of these, optional
        Where to draw; see `jaxprof.estimators.law_result.ModelFit.plot`.
    profile : FluxProfile, optional
        Its points are drawn instead of those of the fit.
    n_sigma : float
        Standard deviations of the band.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the brightness; by default that of the y axis, if it has one, or cm-2 s-1 sr-1.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar` for the points.

    Returns
    -------
    tuple of `~matplotlib.axes.Axes`
        Those of the law and those of the residuals.

    Raises
    ------
    ValueError
        If `profile` has another number of bins than the fit, or for an unknown unit.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_law, also=ERRORBAR)
    upper, lower = _axes(ax)
    x = _positions(result)
    templated = result.geometry.templated
    what = "brightness over the template" if templated else "the brightness"
    y_unit = chosen_unit(upper.yaxis, unit, _BRIGHTNESS, what)
    scale = u.Unit(_BRIGHTNESS).to(y_unit)
    value, error, residual = _points(result, profile)
    value, error = scale * value, scale * error
    radial = result.geometry.rings is not None
    ones = np.ones((2, len(value)))
    for group in range(value.shape[1]):
        label = "Observed" if group == 0 else "_nolegend_"
        style = {"color": "black", "markersize": 4, "zorder": 3, **kwargs}
        bars = np.stack([error[:, group]] * 2)
        draw_points(upper, Points(x, value[:, group], bars), label, dict(style))
        draw_points(lower, Points(x, residual[:, group], ones), "_nolegend_", dict(style))
    second = result.against
    draw = _draw_curve if radial else _draw_stairs
    draw(upper, result, x, scale, n_sigma)
    if second is not None:  # that it was tested against
        draw(upper, second, x, scale, 0.0, color="C1", ls="--")
    choose_yscale(upper)
    known = error[error > 0]  # none of them NaN
    small = float(np.median(known)) if known.size else np.inf
    if upper.get_yscale() == "linear" and upper.dataLim.y1 > 100 * small:
        # Steep laws, and points on both sides of zero.
        _linear_below(upper, 10 ** np.ceil(np.log10(small)))
    words = "Brightness over template" if templated else "Brightness"
    set_ylabel(upper, f"{words} [{unit_label(y_unit)}]")
    keep_unit(upper.yaxis, y_unit)
    lower.axhspan(-1, 1, color="0.92", zorder=0, lw=0)
    add_zero_line(lower)
    reach = max(3.0, 1.15 * float(np.nanmax(np.abs(residual), initial=0.0)) + 1)
    lower.set_ylim(-reach, reach)
    set_ylabel(lower, r"Residual [$\sigma$]")
    set_label(lower.xaxis, "Separation from the centre [deg]" if radial else "Region index")
    upper.tick_params(labelbottom=False)
    update_legend(upper)
    return upper, lower


def _linear_below(ax: Any, value: float) -> None:
    """A y axis that is logarithmic above a value and linear below, with a line that says so."""
    ax.set_yscale("symlog", linthresh=value)
    ax.axhline(value, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.annotate(
        "linear below",
        (0.99, value),
        (0, -2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize="small",
        color="0.4",
    )


def _axes(ax: Any) -> tuple[Any, Any]:
    """Axes of the law, and axes of the residuals with the same abscissa below."""
    if isinstance(ax, Sequence) or (isinstance(ax, np.ndarray) and ax.size == 2):
        upper, lower = np.ravel(np.asarray(ax, dtype=object))
        return upper, lower
    upper = get_axes(ax)
    spec = upper.get_subplotspec()
    if spec is not None:
        grid = spec.subgridspec(2, 1, height_ratios=(2.6, 1), hspace=0.06)
        upper.set_subplotspec(grid[0])
        return upper, upper.figure.add_subplot(grid[1], sharex=upper)
    box = upper.get_position()
    upper.set_position((box.x0, box.y0 + 0.3 * box.height, box.width, 0.7 * box.height))
    lower = upper.figure.add_axes((box.x0, box.y0, box.width, 0.27 * box.height), sharex=upper)
    return upper, lower


def _positions(result: Any) -> Array:
    """Reference, lower and upper end of each bin of the profile, (3, B)."""
    geometry = result.geometry
    if geometry.rings is None:
        index = np.arange(geometry.n_bins, dtype=float)
        return np.stack([index, index - 0.5, index + 0.5])
    parent, rings = np.asarray(geometry.parent), np.asarray(geometry.rings)
    low = np.array([rings[parent == k].min() for k in range(geometry.n_bins)])
    high = np.array([rings[parent == k].max() for k in range(geometry.n_bins)])
    return np.stack([0.5 * (low + high), low, high])


def _points(result: Any, profile: Any) -> tuple[Array, Array, Array]:
    """Observed brightness, its error, and residuals, each (B, G)."""
    bins = {name: np.asarray(value, float) for name, value in result.bins.items()}
    if profile is None:
        return bins["value"], bins["error"], bins["residual"]
    norm, error = np.asarray(profile.norm), np.asarray(profile.norm_err) / profile.n_sigma
    if len(norm) != len(bins["law"]):
        raise ValueError(f"profile has {len(norm)} bins, the fit has {len(bins['law'])}")
    geometry = result.geometry
    parent = np.asarray(geometry.parent)
    law = np.bincount(parent, np.asarray(geometry.flux(result.model)))
    size = np.bincount(parent, np.asarray(geometry.solid_angle))
    reference = np.array(
        [np.asarray(geometry.reference_flux)[parent == k][0] for k in range(geometry.n_bins)]
    )
    scale = (reference / size)[:, np.newaxis]
    expected = (law / reference)[:, np.newaxis]
    return norm * scale, error * scale, (norm - expected) / error


def _draw_curve(ax: Any, result: Any, x: Array, scale: float, n_sigma: float, **style: Any) -> None:
    """A law over radii, with a band of some standard deviations."""
    low, high = float(x[1].min()), float(x[2].max())
    # As far inwards as the profile tells anything of it.
    first = max(low, 0.08 * float(x[2, 0]))
    radius = np.linspace(first, high, 300)
    brightness, error = (scale * np.asarray(own) for own in result.curve(radius))
    style = {"color": "C0", "lw": 1.8, "zorder": 2, **style}
    ax.plot(radius, brightness, label=_name(result), **style)
    if n_sigma:
        ends = brightness - n_sigma * error, brightness + n_sigma * error
        ax.fill_between(radius, *ends, color=style["color"], alpha=0.3, lw=0, zorder=1)


def _draw_stairs(
    ax: Any, result: Any, x: Array, scale: float, _n_sigma: float, **style: Any
) -> None:
    """A law in bins that have no radius: its mean in each."""
    law = scale * np.asarray(result.bins["law"])[:, 0]
    style = {"color": "C0", "lw": 1.8, **style}
    ax.stairs(law, np.append(x[1], x[2][-1]), label=_name(result), **style)


def _name(result: Any) -> str:
    """The law with the parameters that were fitted, but for its amplitude."""
    name = type(result.model).__name__.removesuffix("RadialModel")
    words = re.sub("(?<=[a-z])(?=[A-Z])", " ", name).capitalize() if name != "NFW" else name
    shown, table = [], result.to_table()
    units = dict(zip(table["name"], table["unit"], strict=True))
    for name in result.law_names:
        if name.rpartition(".")[2] == "amplitude":
            continue
        value, error = float(result.params[name]), float(result.errors[name])
        digits = 3 if not error > 0 else max(0, 1 - int(np.floor(np.log10(error))))
        text = f"{value:.{digits}f} ± {error:.{digits}f}" if digits < 7 else f"{value:.3g}"
        shown.append(f"{_symbol(name)} = {text} {units[name]}".rstrip())
    return f"{words}: {', '.join(shown)}" if shown else words


def _symbol(name: str) -> str:
    """A parameter as a formula has it: Greek letters, and subscripts."""
    above, _, own = name.rpartition(".")
    stem, _, index = own.partition("_")
    if stem not in _SYMBOLS or not (len(index) < 3 or index in ("min", "max")):
        return name.replace("_", " ")
    letter = f"\\{stem}" if len(stem) > 1 else stem
    # Which part of a sum, and the parameter's own.
    index = ",".join(filter(None, (index, above.replace("model", ""))))
    subscript = rf"_\mathrm{{{index}}}" if index else ""
    return f"${letter}{subscript}$"
