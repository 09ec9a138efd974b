"""Forward-folded profiles beside others and models, with residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from matplotlib import pyplot as plt
from matplotlib.cbook import normalize_kwargs
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from jaxprof.plotting.legend import ARROW_POINTS, update_legend
from jaxprof.plotting.matrices import check_group
from jaxprof.plotting.options import ERRORBAR, check_options, series_style
from jaxprof.plotting.points import (
    draw_points,
    drawn_unit,
    flux_unit,
    fluxes,
    get_quantity,
    mark_misfit,
    name_limits,
)
from jaxprof.plotting.robust import keep_limits, mark_hidden, ordinary_bins
from jaxprof.plotting.style import (
    add_obstacles,
    add_zero_line,
    at_energy,
    choose_yscale,
    energy_label,
    quantity_label,
    set_margins,
    set_ylabel,
)
from jaxprof.plotting.units import keep_unit
from jaxprof.plotting.xaxis import bin_names, finish_xaxis, shown_axis
from jaxprof.profile import FluxProfile

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
    distance of the points from the curve in units of their errors (the one on the side of the
    curve), also of those that are drawn as upper limits, with open markers; without a curve the
    difference of the two profiles in errors of the first: both are of the same counts, so these do
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
    sed_type : {"flux", "dnde", "eflux", "e2dnde", "norm"}
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
    others = list(other) if isinstance(other, list | tuple) else [] if other is None else [other]
    if not others and curve is None:
        raise ValueError("other and curve are both None; give a profile or a model to compare with")
    if other_curve is not None and (not others or curve is None):
        raise ValueError(
            "other_curve is the curve of the other profile; give other= and curve= with it"
        )
    edges = np.asarray(profile.energy_edges, dtype=float)
    groups = range(len(edges)) if group is None else [check_group(group, len(edges))]
    values = [_successful(profile, sed_type, profile)]
    names_of = ["other"] if len(others) == 1 else [f"other[{k}]" for k in range(len(others))]
    values += [
        _matching(own, name, profile, sed_type) for own, name in zip(others, names_of, strict=True)
    ]
    if not all(_has_limits(one, sed_type) for one in (profile, *others)):
        values = [[y, errors, np.full_like(y, np.nan)] for y, errors, _ in values]
    models = []
    if curve is not None:
        models = [_curve(curve, "curve", profile, sed_type, groups)] * (1 + len(others))
    if other_curve is not None:
        dashed = _curve(other_curve, "other_curve", profile, sed_type, groups)
        models = [models[0], *[dashed] * len(others)]

    ax, ax_residual = _two_panels(axes)
    y_unit = drawn_unit(ax, unit, profile, sed_type)
    scale = flux_unit(profile, sed_type).to(y_unit)
    values = [[scale * part for part in own] for own in values]
    models = [scale * own for own in models]
    names = _names(profile, others, label, other_label)
    n_series = len(groups) * len(values)
    signed = sed_type == "norm"
    axis = shown_axis(ax, profile.axis)
    hidden = []
    for position, k in enumerate(groups):
        styles = _styles(kwargs, k, len(others))
        suffix = f", {energy_label(*edges[k])}" if len(groups) > 1 else ""
        if models:
            base = to_rgb(styles[0]["color"])
            dark = tuple(0.55 * part for part in base) if len(groups) > 1 else (0.2,) * 3
            words = f"{curve_label or 'Model'}{suffix}"
            draw_steps(ax, axis, models[0][:, k], dark, words)
            if other_curve is not None:
                faded = tuple(0.5 * part + 0.35 for part in dark)
                words = f"{curve_label or 'Model'}, {names[1].lower()}{suffix}"
                draw_steps(ax, axis, models[1][:, k], faded, words, ls="--")
        for series in range(len(values)):
            x = shifted(axis, position * len(values) + series, n_series, len(groups))
            y, errors, limits = (part[..., k] for part in values[series])
            at = np.where(np.isfinite(limits), limits, y)
            if not signed:  # these stand at the edge
                at = np.where(np.isfinite(limits) & (limits <= 0), np.nan, at)
            ordinary = ordinary_bins(at, errors, significant=True)
            with keep_limits(ax, at, errors, limits, ordinary):
                words = f"{names[series]}{suffix}"
                style = dict(styles[series])
                draw_points(ax, x, y, errors, limits, words, style, signed=signed)
            hidden.append((x[0][~ordinary], at[~ordinary], styles[series]["color"]))
            one = (profile, *others)[series]
            name_limits(ax, one, limits)
            if models:
                residual = _pulls(y - models[series][:, k], errors, one)
            elif series > 0:
                own, own_errors, limits = (part[..., k] for part in values[0])
                residual = _pulls(own - y, own_errors, profile)
                if len(others) == 1:
                    x = shifted(axis, position * len(values), n_series, len(groups))
            else:
                continue
            style = styles[series] if models or len(others) > 1 else styles[0]
            _draw_residuals(ax_residual, x, residual, limits, style)
    mark_misfit(ax, axis, profile)
    at_text = at_energy(sed_type, edges[groups[0]]) if len(groups) == 1 else ""
    _finish_points(ax, quantity_label(sed_type, y_unit, at_text))
    keep_unit(ax.yaxis, y_unit)
    _finish_residuals(ax_residual, "Residual" if models else "Difference")
    _finish_x(ax, ax_residual, axis, own_names)
    if len(groups) == 1 and not ax.get_title():
        ax.set_title(energy_label(*edges[groups[0]]), fontsize="medium")
        update_legend(ax)
    for beyond in hidden:
        mark_hidden(ax, *beyond)
    return ax, ax_residual


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


def _has_limits(profile: Any, sed_type: str) -> bool:
    """Whether a profile has upper limits, so that all that are drawn can show them."""
    return get_quantity(profile, f"{sed_type}_ul") is not None


def _names(profile: Any, others: list[Any], label: str | None, other_label: Any) -> list[str]:
    """Legend entries of the profiles."""
    all_of_them = [profile, *others]
    folded = ["norm_covariance" in getattr(p, "quantities", {}) for p in all_of_them]
    words = ["Forward-folded" if one else "Backward-folded" for one in folded]
    if len(set(words)) < len(words):
        words = ["Profile", "Other"] if len(others) == 1 else ["Profile", *words[1:]]
    if len(others) > 1:
        words = [words[0], *(f"Other {k}" for k in range(1, len(others) + 1))]
    given = [other_label] if isinstance(other_label, str) else list(other_label or [])
    if given and len(given) != len(others):
        raise ValueError(f"other_label has {len(given)} entries for {len(others)} other profiles")
    return [label or words[0], *(given or words[1:])]


def _successful(profile: Any, sed_type: str, first: Any) -> list[Array]:
    """Values, errors and limits as `fluxes` gives them, NaN where the fit failed.

    Limits by the rule of the first profile.
    """
    threshold = getattr(first, "sqrt_ts_threshold_ul", None)
    values, errors, limits = fluxes(profile, sed_type, threshold=threshold)
    good = np.asarray(profile.success, dtype=bool)
    return [np.where(good, values, np.nan), errors, np.where(good, limits, np.nan)]


def _matching(other: Any, name: str, profile: Any, sed_type: str) -> list[Array]:
    """As `_successful`, of another profile of the same bins, in the unit of the first."""
    _check_same_bins(profile, other, name)
    if sed_type == "norm" and not np.allclose(other.flux_ref, profile.flux_ref, rtol=1e-3, atol=0):
        raise ValueError(
            f"{name} has norms of another reference spectrum; estimate both with the same "
            "spectral_model, or draw sed_type='flux'"
        )
    factor = (1 * u.Unit(flux_unit(other, sed_type))).to_value(flux_unit(profile, sed_type))
    return [factor * part for part in _successful(other, sed_type, profile)]


def _check_same_bins(profile: Any, other: Any, name: str) -> None:
    shapes = [(len(p.axis.ref), len(p.energy_edges)) for p in (profile, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} has {shapes[1][0]} bins and {shapes[1][1]} energy groups, the profile "
            f"{shapes[0][0]} and {shapes[0][1]}; estimate both with the same regions and "
            "energy_edges"
        )
    width = np.asarray(profile.axis.max) - np.asarray(profile.axis.min)
    for end in ("min", "max"):
        off = np.asarray(getattr(other.axis, end)) - np.asarray(getattr(profile.axis, end))
        if (abs(off) > 0.01 * width).any():
            raise ValueError(f"{name} has other bins; estimate both with the same regions")
    if not np.allclose(other.energy_edges, profile.energy_edges, rtol=1e-3, atol=0):
        raise ValueError(
            f"{name} has other energy groups; estimate both with the same energy_edges"
        )


def _curve(curve: Any, name: str, profile: Any, sed_type: str, groups: Any) -> Array:
    """Model values (B, G) as in a profile; those of groups that are not drawn may be missing."""
    if isinstance(curve, FluxProfile):
        return _matching(curve, name, profile, sed_type)[0]
    unit = flux_unit(profile, sed_type)
    try:
        data = curve.to_value(unit) if isinstance(curve, u.Quantity) else curve
    except u.UnitConversionError:
        raise ValueError(
            f"{name} has the unit {curve.unit}, which is none of {sed_type!r} [{unit}]"
        ) from None
    try:
        data = np.asarray(data, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} is a {type(curve).__name__}; give a value for each bin, or the profile of a "
            "model: estimator.run(expected_dataset(dataset, model))"
        ) from None
    shape = (len(profile.axis.ref), len(profile.energy_edges))
    if data.shape == shape:
        return data
    if data.shape not in (shape[:1], (shape[0], 1)):
        raise ValueError(
            f"{name} has shape {data.shape}; give a value for each of {shape[0]} bins, or "
            f"(bins, energy groups) = {shape}"
        )
    if len(groups) > 1 and sed_type != "norm":
        raise ValueError(
            f"{name} has shape {data.shape} for {shape[1]} energy groups, which differ in "
            f"{sed_type!r}; give the shape {shape}, or choose one with group="
        )
    return np.broadcast_to(data.reshape(-1, 1), shape)


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
    nothing = np.full(len(residual), np.nan)
    for shown, face in ((~np.isfinite(limits), None), (np.isfinite(limits), "white")):
        own = dict(style)
        if face is not None:
            own["markerfacecolor"] = face
        y = np.where(shown, residual, np.nan)
        draw_points(ax, x, y, np.stack([nothing] * 2), nothing, "_nolegend_", own)


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
    ax.set_ylabel(rf"{name} [$\sigma$]")


def _finish_x(ax: Any, ax_residual: Any, axis: Any, names: list[str] | None) -> None:
    set_margins(ax, ARROW_POINTS + 6)
    finish_xaxis(ax_residual, axis, names)
    if ax.get_shared_x_axes().joined(ax, ax_residual):
        ax.tick_params(labelbottom=False)
    else:
        finish_xaxis(ax, axis, names)
    ax.figure.align_ylabels([ax, ax_residual])
