"""Tables for papers: a value with its errors, or a limit, in one column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from jaxprof.inference.levels import confidence_level
from jaxprof.likelihood.data import Status
from jaxprof.profile.printed import WholeTable
from jaxprof.profile.quantities import PER_DATASET, UNITS, Array, partly_seen, shown_energy_unit

STYLES = ("full", "paper")
_KINDS = {
    "one-sided": " one-sided",
    "bounded": ", norms not negative",
    "feldman-cousins": ", Feldman-Cousins",
    "cls": " CLs",
    "bayesian": ", Bayesian",
}
_BARE = {
    Status.OK: "errors are not known",
    Status.ZERO_COUNTS: "bins without counts, the largest of the norms that fit best",
    Status.BOUNDARY: "at a boundary, where the statistic has no curvature",
}
LIMITS = "Upper limits"
"""What the note on these begins with."""
DIFFERENTIAL = ("dnde", "e2dnde")
"""Fluxes that are given at an energy."""


def level_text(profile: Any) -> str:
    """Level of the upper limits of a profile, and their kind if it was named: "95 % one-sided"."""
    level = 100 * confidence_level(n_sigma=profile.n_sigma_ul)
    text = f"{level:.4g} %" if level < 99.99 else f"{profile.n_sigma_ul:g} sigma"
    return text + _KINDS.get(profile.meta.get("interval", "profile"), "")


def check_style(style: str) -> None:
    """Raise ValueError for a style of tables that there is not."""
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; valid are {', '.join(map(repr, STYLES))}")


def paper_table(
    profiles: Sequence[Any],
    sed_type: str,
    *,
    entries: Mapping[str, Sequence[str]] | None = None,
    columns: Sequence[str] | None = None,
    unit: Any = None,
    latex: bool = False,
) -> Table:
    """Table with a row for each bin and energy group, as it stands in a paper.

    Parameters
    ----------
    profiles : sequence of FluxProfile
        One or several with the same energy groups, whose rows follow each other.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What to show.
    entries : mapping of str to sequence of str, optional
        First columns of several profiles: a text for each, its name for instance.
    columns : sequence of str, optional
        Which columns, in this order: "name", "axis" (the range of the bin), "energy", a value with
        its errors or limit ("norm", "dnde", "flux", ...), and other quantities of bins and energy
        groups, such as "sqrt_ts", "counts" or "status". By default `entries`, the name if bins
        have any, the axis, the energy if there are several groups, what `sed_type` says,
        "sqrt_ts" and, if bins are seen in part, "coverage".
    unit : str or Unit, optional
        Unit of what `sed_type` says; by default that of the profile.
    latex : bool
        Whether cells and names are LaTeX.

    Returns
    -------
    `~astropy.table.Table`
        Text: energies are in ``energy_unit``, or GeV if all are below 1 TeV; values have their
        errors (or the upper limit where ``is_ul`` says so and the limit is positive: others
        are none on a flux). The power of ten that all values share is in the name of the
        column. Counts of several datasets are summed. ``meta["notes"]`` says what stands below:
        the level and kind of the limits, and why values have no errors.

    Raises
    ------
    ValueError
        For an unknown column or unit.
    """
    name = "norm" if sed_type == "likelihood" else sed_type
    entries = {} if entries is None else entries
    first, *others = profiles
    n_groups = first.shape[1]
    available = [
        own
        for own in first.available_quantities
        if all(own in other.available_quantities for other in others)
    ]
    named = any("name" in profile.quantities for profile in profiles)
    if columns is None:
        columns = [*entries, *(["name"] if named else []), "axis"]
        columns += ["energy", name] if n_groups > 1 else [name]
        columns += ["sqrt_ts"] if "sqrt_ts" in available else []
        cut = any(partly_seen(profile).any() for profile in profiles)
        columns += ["coverage"] if cut and "coverage" in available else []
    columns = [columns] if isinstance(columns, str) else list(columns)
    values = [own for own in ("norm", *UNITS) if own in available]
    numbers = [own for own in available if _per_group(first, own)]
    table = WholeTable(meta={"notes": _notes(profiles, [own for own in columns if own in values])})
    differential = any(own in DIFFERENTIAL for own in columns)
    for own in columns:
        if own in entries:
            rows = [profile.shape[0] * n_groups for profile in profiles]
            texts = entries[own] if not latex else [escaped(text) for text in entries[own]]
            title, cells = _in_words(own), list(np.repeat(texts, rows))
        elif own == "energy":
            title, cells = _energy_column(profiles, differential, latex)
        elif own == "axis" or (own == "name" and named):
            title, cells = _position_column(profiles, own, latex)
        elif own in values:
            title, cells = _value_column(profiles, own, unit if own == name else None, latex)
        elif own in numbers or own == "status":
            title, cells = _number_column(profiles, own, latex)
        else:
            known = ("name",) * named
            valid = (*entries, *known, "axis", "energy", *values, *numbers, "status")
            raise ValueError(
                f"columns: there is no {own!r} in tables of style 'paper'; there are "
                f"{', '.join(dict.fromkeys(valid))}"
            )
        table[title] = cells
    return table


def _notes(profiles: Sequence[Any], names: Sequence[str]) -> list[str]:
    """What a reader must know of the limits and values that a table shows."""
    levels: dict[str, None] = {}
    bare: dict[str, None] = {}
    missing: dict[str, None] = {}
    for profile in profiles:
        for name in names:
            parts = _parts(profile, name)
            limited = np.isfinite(parts["limit"])
            if limited.any():
                rule = f" where the root of TS is below {profile.sqrt_ts_threshold_ul:g}"
                levels[level_text(profile) + rule * ("is_ul" not in profile.quantities)] = None
            errors = np.isfinite(parts["low"]) | np.isfinite(parts["high"])
            known, status = np.isfinite(parts["value"]) | limited, profile.quantities["status"]
            for code in np.unique(status[known & ~errors & ~limited]):
                bare[_BARE.get(Status(code), Status(code).label)] = None
            missing |= dict.fromkeys(Status(code).label for code in np.unique(status[~known]))
    notes = {
        f"{LIMITS} (<): ": ", ".join(levels),
        "Values without errors: ": "; ".join(bare),
        "No values: ": "; ".join(missing),
    }
    return [f"{title}{text}." for title, text in notes.items() if text]


def _per_group(profile: Any, name: str) -> bool:
    """Whether a quantity has a number for each bin and energy group, and perhaps dataset."""
    data = np.asarray(profile[name].data)
    extra = 1 if name in PER_DATASET else 0
    known = data.shape[:2] == profile.shape and data.ndim <= 2 + extra
    return known and data.dtype.kind in "iufb" and name != "status"


def _energy_column(
    profiles: Sequence[Any], differential: bool, latex: bool
) -> tuple[str, list[str]]:
    """The ranges of the energy groups, with the energies that differential fluxes are given at."""
    edges = np.asarray(profiles[0].energy_edges, float)
    energy = shown_energy_unit(profiles[0])
    edges = u.TeV.to(energy) * edges
    dash = "--" if latex else " - "
    ranges = [dash.join(_three_digits(edge) for edge in pair) for pair in edges]
    if differential:
        at = [_three_digits(np.sqrt(low * high)) for low, high in edges]
        ranges = [f"{text}, at {own}" for text, own in zip(ranges, at, strict=True)]
    return f"Energy [{energy}]", ranges * sum(profile.shape[0] for profile in profiles)


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def _position_column(profiles: Sequence[Any], name: str, latex: bool) -> tuple[str, list[str]]:
    """The title and cells of the names, or of the range along the axis."""
    n_groups = profiles[0].shape[1]
    if name == "name":
        title = "Name"
        found = [
            str(text)
            for own in profiles
            for text in own.quantities.get("name", [""] * own.shape[0])
        ]
        found = [escaped(text) for text in found] if latex else found
    else:
        axes = [profile.axis for profile in profiles]
        titles = {_titled(axis.name.replace("-", " "), axis.unit, 0, latex) for axis in axes}
        if len(titles) == 1:
            (title,) = titles
            found = bin_ranges(axes, latex)
        else:
            title = "Bin"
            found = [
                f"{text} {axis.unit}".strip() for axis in axes for text in bin_ranges([axis], latex)
            ]
    return title, [text for text in found for _ in range(n_groups)]


def escaped(text: str) -> str:
    """Text with the letters that LaTeX reads as commands."""
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def _value_column(
    profiles: Sequence[Any], name: str, unit: Any, latex: bool
) -> tuple[str, list[str]]:
    """A flux or norm with its errors or limit."""
    first = profiles[0]
    own = u.Unit(first[name].unit or "")
    shown, scale = first[name].unit, 1.0
    if unit is not None:
        try:
            scale, shown = own.to(unit), u.Unit(unit).to_string()
        except (ValueError, TypeError, u.UnitConversionError):
            raise ValueError(
                f"unit is {str(unit)!r}, but {name} is in {own.to_string() or 'plain numbers'!r}"
            ) from None
    each = [_parts(profile, name) for profile in profiles]
    parts = {key: scale * np.concatenate([part[key].ravel() for part in each]) for key in each[0]}
    power = _power(parts)
    cells = [
        table_cell(dict(zip(parts, row, strict=True)), latex)
        for row in zip(*(part / 10.0**power for part in parts.values()), strict=True)
    ]
    at = ""
    if name in DIFFERENTIAL and first.shape[1] == 1:
        energy = shown_energy_unit(first)
        middle = np.sqrt(np.prod(first.energy_edges)) * u.TeV.to(energy)
        at = f" at {_three_digits(middle)} {energy}"
    return _titled(name, shown, power, latex, at), cells


def _number_column(profiles: Sequence[Any], name: str, latex: bool) -> tuple[str, list[str]]:
    """A quantity without errors: whole numbers as they are, a significance with one decimal."""
    if name == "status":
        words = [status.label for status in Status]
        codes = [profile.quantities["status"].ravel() for profile in profiles]
        return "Status", [words[code] for code in np.concatenate(codes)]
    data = np.concatenate([_summed(profile, name).ravel() for profile in profiles])
    if data.dtype.kind == "b":
        return _titled(name, "", 0, latex), ["yes" if one else "no" for one in data]
    known = data[np.isfinite(data)]
    if name in ("sqrt_ts", "ts"):
        cells = [_number(one, 1) for one in data]
    elif (known == np.round(known)).all():
        cells = [_number(one, 0) for one in data]
    else:
        cells = [f"{one:.3g}" if np.isfinite(one) else "-" for one in data]
    title = _titled(name, profiles[0][name].unit or "", 0, latex)
    if name == "sqrt_ts":
        title = r"$\sqrt{\mathrm{TS}}$" if latex else "sqrt_ts"
    return title, [f"${latex_power(cell)}$" if latex and cell != "-" else cell for cell in cells]


def _summed(profile: Any, name: str) -> Array:
    """A quantity of bins and energy groups, summed over datasets."""
    data = np.asarray(profile[name].data)
    return data.sum(axis=2) if data.ndim > 2 else data


def bin_ranges(axes: Sequence[Any], latex: bool) -> list[str]:
    """Range of each bin; the number of what has no extent, as regions that are counted."""
    if not axes[0].unit and axes[0].name == "region-index":
        return [f"{ref:g}" for axis in axes for ref in axis.ref]
    return ranges(np.concatenate([np.stack([axis.min, axis.max], 1) for axis in axes]), latex)


def ranges(edges: Array, latex: bool) -> list[str]:
    """Ranges as text with the decimals that tell their edges, (N, 2), apart."""
    digits = _decimals(edges.T)
    rounded = np.round(edges, digits) + 0.0  # no "-0.00"
    numbers = [[f"{edge:.{digits}f}" for edge in pair] for pair in rounded]
    if rounded.min() >= 0:
        return [("--" if latex else " - ").join(pair) for pair in numbers]
    # A dash next to a sign would not be told from it.
    return [" to ".join(f"${text}$" if latex else text for text in pair) for pair in numbers]


def _parts(profile: Any, name: str) -> dict[str, Array]:
    """Value, errors on both sides and limit, NaN where there is none or the fit failed."""
    nothing = np.full(profile.shape, np.nan)
    good = np.asarray(profile.success, bool)

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
    # A joint fit has norms of bins that no pixel in use lies in: of their leakage.
    found = {"value": array(""), **sides, "limit": shown}
    return {key: np.where(good, part, np.nan) for key, part in found.items()}


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
    return f"{round(float(value), digits) + 0.0:.{digits}f}" if np.isfinite(value) else "-"


def _decimals(edges: Array) -> int:
    """Decimals, up to four, that tell all edges apart."""
    for digits in range(5):
        if np.allclose(
            np.round(edges, digits), edges, rtol=0, atol=0.02 * np.min(np.ptp(edges, 0))
        ):
            return digits
    return 4


def latex_power(text: str) -> str:
    """A number as LaTeX sets it in a formula: 1e-07 with a power of ten."""
    number, _, power = text.partition("e")
    return rf"{number} \times 10^{{{int(power)}}}" if power else number


def latex_unit(unit: Any) -> str:
    """LaTeX of a unit, with degrees in letters."""
    text = str(u.Unit(unit).to_string("latex_inline")) if unit else ""
    return "" if text in ("$\\mathrm{}$", "") else text.replace(r"{}^{\circ}", "deg")


def _in_words(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _titled(name: str, unit: str, power: int, latex: bool, at: str = "") -> str:
    words = _in_words(name)
    words = {"Dnde": "dN/dE", "E2dnde": "E^2 dN/dE", "Eflux": "Energy flux"}.get(words, words)
    if latex:
        words = {"dN/dE": "$dN/dE$", "E^2 dN/dE": "$E^2 dN/dE$"}.get(words, words)
    factor = (rf"$10^{{{power}}}$ " if latex else f"1e{power} ") if power else ""
    unit = latex_unit(unit) if latex else unit
    return f"{words}{at} [{factor}{unit}]" if factor or unit else words
