"""Tables for papers: a value with its errors, or a limit, in one column."""

from __future__ import annotations

import re
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from jaxprof.profile.quantities import Array, energy_unit

STYLES = ("full", "paper")


def paper_table(profile: Any, sed_type: str, *, latex: bool = False) -> Table:
    """Table with a row for each bin and energy group, as it stands in a paper.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What to show.
    latex : bool
        Whether cells and names are LaTeX.

    Returns
    -------
    `~astropy.table.Table`
        Text: the name of the bin if it has one, its range, the energies if there are several
        groups (in GeV if all are below 1 TeV), the value with its errors (or the upper limit where
        ``is_ul`` says so and the limit is positive: others are none on a flux), and the
        significance. The power of ten that all values share is in the name of the column.
    """
    name = "norm" if sed_type == "likelihood" else sed_type
    parts = _parts(profile, name)
    unit = profile[name].unit
    power = _power(parts)
    axis = profile.axis
    n_bins, n_groups = profile.shape
    index = [(b, g) for b in range(n_bins) for g in range(n_groups)]
    table = Table()
    if "name" in profile.quantities:
        names = [str(name) for name in profile.quantities["name"]]
        names = [re.sub(r"([&%$#_{}])", r"\\\1", name) for name in names] if latex else names
        table["Name"] = [names[b] for b, _ in index]
    bins = _bins(axis, latex)
    table[_titled(axis.name.replace("-", " "), axis.unit, 0, latex)] = [bins[b] for b, _ in index]
    if n_groups > 1:
        energy = energy_unit(profile.energy_edges)
        edges = u.TeV.to(energy) * np.asarray(profile.energy_edges, float)
        dash = "--" if latex else " - "
        ranges = [dash.join(f"{float(f'{edge:.3g}'):g}" for edge in pair) for pair in edges]
        table[f"Energy [{energy}]"] = [ranges[g] for _, g in index]
    table[_titled(name, unit, power, latex)] = [
        table_cell({key: part[b, g] / 10.0**power for key, part in parts.items()}, latex)
        for b, g in index
    ]
    if "sqrt_ts" in profile.available_quantities:
        significance = profile["sqrt_ts"].data
        title = r"$\sqrt{\mathrm{TS}}$" if latex else "sqrt_ts"
        cells = [_number(significance[b, g], 1) for b, g in index]
        table[title] = [f"${cell}$" if latex and cell != "-" else cell for cell in cells]
    return table


def _bins(axis: Any, latex: bool) -> list[str]:
    """Range of each bin; the number of what has no extent, as regions that are counted."""
    if not axis.unit and axis.name == "region-index":
        return [f"{ref:g}" for ref in axis.ref]
    edges = np.stack([axis.min, axis.max], axis=1)
    digits = _decimals(edges.T)
    rounded = np.round(edges, digits) + 0.0  # no "-0.00"
    numbers = [[f"{edge:.{digits}f}" for edge in pair] for pair in rounded]
    if rounded.min() >= 0:
        return [("--" if latex else " - ").join(pair) for pair in numbers]
    # A dash next to a sign would not be told from it.
    return [" to ".join(f"${text}$" if latex else text for text in pair) for pair in numbers]


def _parts(profile: Any, name: str) -> dict[str, Array]:
    """Value, errors on both sides and limit, NaN where there is none."""
    nothing = np.full(profile.shape, np.nan)

    def array(suffix: str) -> Array:
        full = f"{name}{suffix}"
        known = full in profile.available_quantities
        return np.asarray(profile[full].data, float) if known else nothing

    symmetric = array("_err")
    sides = {"low": array("_errn"), "high": array("_errp")}
    sides = {k: np.where(np.isfinite(v), v, symmetric) for k, v in sides.items()}
    is_ul = np.asarray(profile["is_ul"].data) if "is_ul" in profile.available_quantities else None
    limit = array("_ul")
    shown = nothing if is_ul is None else np.where(is_ul & (limit > 0), limit, np.nan)
    return {"value": array(""), **sides, "limit": shown}


def _power(parts: dict[str, Array]) -> int:
    """Power of ten of the largest value or limit; none for what is about one."""
    shown = np.where(np.isfinite(parts["limit"]), parts["limit"], parts["value"])
    largest = np.max(np.abs(shown), where=np.isfinite(shown), initial=0.0)
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    return 0 if -2 < power < 4 else power


def table_cell(one: dict[str, float], latex: bool) -> str:
    """One value as text, with two digits of its smaller error."""
    dots = r"\ldots" if latex else "-"
    if np.isfinite(one["limit"]):
        text = _number(one["limit"], _digits(abs(one["limit"]), 2))
        return f"$<{text}$" if latex else f"< {text}"
    if not np.isfinite(one["value"]):
        return f"${dots}$" if latex else dots
    sides = [one[side] for side in ("low", "high") if np.isfinite(one[side])]
    digits = _digits(min(sides), 2) if sides else _digits(abs(one["value"]), 3)
    value = _number(one["value"], digits)
    if not sides:
        return f"${value}$" if latex else value
    low, high = (_number(one[side], digits) for side in ("low", "high"))
    if len(sides) == 1:
        # On the other side a bound comes first.
        sign, side = ("+", high) if np.isfinite(one["high"]) else ("-", low)
        script = "^" if sign == "+" else "_"
        return f"${value}{script}{{{sign}{side}}}$" if latex else f"{value} {sign}{side}"
    if low == high:
        return rf"${value} \pm {low}$" if latex else f"{value} +/- {low}"
    return f"${value}_{{-{low}}}^{{+{high}}}$" if latex else f"{value} -{low} +{high}"


def _digits(size: float, significant: int) -> int:
    """Decimals that show so many digits of a number."""
    return 0 if not size > 0 else max(0, significant - 1 - int(np.floor(np.log10(size))))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _decimals(edges: Array) -> int:
    """Decimals, up to four, that tell all edges apart."""
    for digits in range(5):
        if np.allclose(
            np.round(edges, digits), edges, rtol=0, atol=0.02 * np.min(np.ptp(edges, 0))
        ):
            return digits
    return 4


def latex_unit(unit: Any) -> str:
    """LaTeX of a unit, with degrees in letters."""
    text = str(u.Unit(unit).to_string("latex_inline")) if unit else ""
    return "" if text in ("$\\mathrm{}$", "") else text.replace(r"{}^{\circ}", "deg")


def _titled(name: str, unit: str, power: int, latex: bool) -> str:
    words = name[:1].upper() + name[1:].replace("_", " ")
    words = {"Dnde": "dN/dE", "E2dnde": "E^2 dN/dE", "Eflux": "Energy flux"}.get(words, words)
    if latex:
        words = {"dN/dE": "$dN/dE$", "E^2 dN/dE": "$E^2 dN/dE$"}.get(words, words)
    factor = (rf"$10^{{{power}}}$ " if latex else f"1e{power} ") if power else ""
    unit = latex_unit(unit) if latex else unit
    return f"{words} [{factor}{unit}]" if factor or unit else words
