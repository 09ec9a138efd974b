"""Figures of spectral models."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u

from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.options import check_options, chosen_unit
from jaxprof.plotting.style import get_axes, quantity_label, set_label, set_ylabel, unit_label
from jaxprof.plotting.units import keep_unit

POWERS = {"dnde": 0, "e2dnde": 2}


def plot_spectral_model(
    model: Any,
    energy_bounds: Any,
    ax: Any = None,
    *,
    sed_type: str = "dnde",
    energy_power: float | None = None,
    n_points: int = 100,
    unit: Any = None,
    **kwargs: Any,
) -> Any:
    r"""Draw a spectral model on logarithmic axes.

    Parameters
    ----------
    model : SpectralModel
        Any of `jaxprof`.
    energy_bounds : Quantity, MapAxis or pair of Quantity
        The first and the last energy; the x axis has the unit of the first, unless it has one.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw; the current axes by default.
    sed_type : {"dnde", "e2dnde"}
        :math:`dN/dE`, or :math:`E^2\,dN/dE`.
    energy_power : float, optional
        Power of the energy that :math:`dN/dE` is multiplied with, in place of `sed_type`.
    n_points : int
        Energies of the curve, evenly in their logarithm.
    unit : str or Unit, optional
        Unit of the curve; by default that of the y axis, if it has one, or that of the model, with
        energies in TeV.
    **kwargs
        Passed to `matplotlib.axes.Axes.plot`; a ``label`` makes a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`

    Raises
    ------
    ValueError
        If the energies do not increase, there are less than two points, `sed_type` is another, or
        `unit` is none of the curve.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_spectral_model, also=("scalex", "scaley", "data"))
    if sed_type not in POWERS:
        raise ValueError(f"sed_type is {sed_type!r}; valid are {', '.join(map(repr, POWERS))}")
    bounds = getattr(energy_bounds, "edges", energy_bounds)
    low, high = u.Quantity(bounds[0]), u.Quantity(bounds[-1])
    if not 0 < low.to_value("TeV") < high.to_value("TeV"):
        raise ValueError(f"energy_bounds must increase from above zero, got {low} to {high}")
    if n_points < 2:
        raise ValueError(f"n_points must be at least 2, got {n_points}")
    energy = np.geomspace(low.to_value("TeV"), high.to_value("TeV"), n_points) * u.TeV
    power = POWERS[sed_type] if energy_power is None else energy_power
    curve = u.Quantity(model(energy)) * energy**power
    ax = get_axes(ax)
    curve = curve.to(chosen_unit(ax.yaxis, unit, curve.unit, "the curve"))
    x_unit = chosen_unit(ax.xaxis, None, low.unit, "energy")
    if np.ptp(curve.value) <= 1e-9 * np.abs(curve.value[0]) and not ax.lines:
        # A flat curve alone has no extent that limits could be made from.
        ax.set_ylim(*sorted(curve.value[0] * np.array([0.5, 2.0])))
    ax.plot(energy.to_value(x_unit), curve.value, **kwargs)
    ax.set_xscale("log")
    if np.all(curve.value > 0):
        ax.set_yscale("log")
    set_label(ax.xaxis, f"Energy [{x_unit}]")
    set_ylabel(ax, _label(power, curve.unit))
    keep_unit(ax.xaxis, x_unit)
    keep_unit(ax.yaxis, curve.unit)
    if "label" in kwargs:
        update_legend(ax)
    return ax


def _label(power: float, unit: u.UnitBase) -> str:
    names = {0: "dnde", 2: "e2dnde"}
    if power in names:
        return quantity_label(names[int(power)], unit)
    text = unit_label(unit)
    words = rf"$E^{{{power:g}}}\,\mathrm{{d}}N/\mathrm{{d}}E$"
    return f"{words} [{text}]" if text else words
