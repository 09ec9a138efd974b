"""Spectral parameters that were fitted in every bin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.plotting.forward import draw_steps, shifted
from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.matrices import check_group
from jaxprof.plotting.options import ERRORBAR, check_options, series_style
from jaxprof.plotting.points import Points, draw_points, get_quantity
from jaxprof.plotting.robust import keep_limits, mark_hidden, ordinary_bins
from jaxprof.plotting.style import (
    add_zero_line,
    get_axes,
    group_label,
    set_margins,
    set_ylabel,
    unit_label,
)
from jaxprof.plotting.xaxis import bin_names, finish_xaxis

Array = NDArray[np.float64]

#: Readable names of spectral parameters; others stay.
PARAMETER_NAMES = {
    "index": "Spectral index",
    "index1": "First spectral index",
    "index2": "Second spectral index",
    "index_1": "First spectral index",
    "index_2": "Second spectral index",
    "alpha": r"$\alpha$",
    "beta": r"$\beta$",
    "lambda_": r"Inverse cut-off energy $\lambda$",
    "ecut": "Cut-off energy",
    "ebreak": "Break energy",
    "expfactor": "Exponential factor",
}


def plot_parameter(
    profile: Any,
    parameter: str = "index",
    ax: Any = None,
    *,
    group: int | None = None,
    label: str | None = None,
    show_names: bool = False,
    **kwargs: Any,
) -> Any:
    """Draw a spectral parameter that was fitted in every bin, with its errors.

    A dashed line shows the value that the reference model has. Failed bins and those without an
    error are left out. Bins that hardly constrain the parameter may have errors that reach out of
    the figure: the y axis is that of the others, and triangles at its ends stand for points beyond.

    Parameters
    ----------
    profile : FluxProfile
        With the parameter and its error, of shape (bins, groups).
    parameter : str
        Name of the parameter: "index", ``"lambda_"``, "beta", ...
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    group : int, optional
        Energy group; all by default.
    label : str, optional
        Legend entry; the energy range by default.
    show_names : bool
        Whether the names of the bins are the tick labels.
    **kwargs
        Passed to `~matplotlib.axes.Axes.errorbar`: `color`, `marker`, `markersize`, ...

    Returns
    -------
    ax : `~matplotlib.axes.Axes`
        The axes.

    Raises
    ------
    ValueError
        If the parameter was not fitted, there is no such group, or there are no names to show.
    """
    check_options(kwargs, plot_parameter, also=ERRORBAR)
    names = bin_names(profile, show_names)
    value = get_quantity(profile, parameter)
    error = get_quantity(profile, f"{parameter}_err")
    if value is None or error is None:
        raise ValueError(
            f"parameter is {parameter!r}, which was not fitted; ForwardFoldingProfileEstimator "
            f"does it with free_spectral_parameters=[{parameter!r}] (or free_index=True)"
        )
    data, errors = np.asarray(value, dtype=float), np.asarray(error, dtype=float)
    edges = np.asarray(profile.energy_edges, dtype=float)
    groups = range(len(edges)) if group is None else [check_group(group, len(edges))]
    success = np.asarray(profile.success, dtype=bool)
    data = np.where(success & np.isfinite(errors), data, np.nan)
    ax = get_axes(ax)
    nothing, hidden = np.full(len(data), np.nan), []
    for position, k in enumerate(groups):
        x = shifted(profile.axis, position, len(groups), len(groups))
        words = group_label(profile, k)
        if label is not None:
            words = f"{label}, {words}" if len(groups) > 1 else label
        both = np.stack([errors[:, k]] * 2)
        if not np.isfinite(data[:, k]).any():
            words = "_nolegend_"
        ordinary = ordinary_bins(data[:, k], both, significant=False)
        style = series_style(k) | kwargs
        with keep_limits(ax, data[:, k], both, nothing, ordinary):
            draw_points(ax, Points(x, data[:, k], both), words, style)
        hidden.append((x[0][~ordinary], data[~ordinary, k], style["color"]))
    reference, unit = _reference(profile, parameter)
    if reference is not None and not any(line.get_gid() == "reference" for line in ax.lines):
        draw_steps(ax, profile.axis, reference, "0.5", "Reference", gid="reference", ls="--")
    set_margins(ax)
    add_zero_line(ax)
    words = PARAMETER_NAMES.get(parameter, parameter.strip("_").replace("_", " ").capitalize())
    text = unit_label(unit)
    set_ylabel(ax, f"{words} [{text}]" if text else words)
    finish_xaxis(ax, profile.axis, names)
    update_legend(ax)
    for beyond in hidden:
        mark_hidden(ax, *beyond)
    return ax


def _reference(profile: Any, parameter: str) -> tuple[Array | None, str]:
    """Value of a parameter in the reference model of every bin (B,), and its unit."""
    n_bins = len(profile.axis.ref)
    models = getattr(profile, "reference_models", None)
    models = [getattr(profile, "reference_model", None)] * n_bins if models is None else models
    values, unit = np.full(n_bins, np.nan), ""
    for k, model in enumerate(models):
        found = model.to_dict() if hasattr(model, "to_dict") else {}
        for item in found.get("spectral", found).get("parameters", []):
            if item["name"] == parameter:
                values[k], unit = item["value"], item.get("unit", "")
    return (values if np.isfinite(values).any() else None), unit
