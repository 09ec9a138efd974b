"""Checks of what the table of a flux profile says, before anything is made of it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from astropy.table import Table

from jaxprof.profile.quantities import MATRICES, PER_DATASET, SCANS, SUFFIXES, UNITS, Array

#: Greatest depth of JSON: models of some fifty terms, but nothing that overflows the stack.
MAX_DEPTH = 100
#: By how much a test statistic, coverage or position may leave its range: sums are not exact.
TS_ROUNDING = 0.01
COVERAGE_ROUNDING = 1e-6
EDGE_ROUNDING = 1e-6

_NUMBERS = {
    *(f"{axis}_{edge}" for axis in "xe" for edge in ("min", "max", "ref")),
    *("ref_dnde", "ref_flux", "ref_eflux"),
    *(f"{name}{suffix}" for name in ("norm", *UNITS) for suffix in SUFFIXES),
    *("ts", "sqrt_ts", "stat", "stat_null", "is_ul", "success", "coverage", "solid_angle"),
    *PER_DATASET,
    *SCANS,
    *MATRICES,
}


#: Powers of numbers, which are computed to the last digit whatever that takes.
_GREAT_POWER = re.compile(r"(?:\*\*|\^|\b10\s*[+-])[\s(+-]*\d{4}")


def check_unit(text: str) -> None:
    """Raise ValueError for the text of a unit that takes forever to read."""
    if len(text) > 1000 or _GREAT_POWER.search(text):
        raise ValueError(f"{short(text)} is no unit")


def check_columns(table: Table) -> None:
    """Raise ValueError, with the name of the column, for contents that no profile has.

    Parameters
    ----------
    table : `~astropy.table.Table`
        A row for each bin. Columns that no one knows may be numbers or text.
    """
    for name in table.colnames:
        kind = np.ma.getdata(table[name]).dtype.kind
        if kind not in ("iufb" if name in _NUMBERS else "iufbSU"):
            raise ValueError(
                f"column {name!r} holds {table[name].dtype.name}, it must hold numbers"
            )
    if "coverage" in table.colnames:
        coverage = np.ma.getdata(table["coverage"])
        outside = (coverage < -COVERAGE_ROUNDING) | (coverage > 1 + COVERAGE_ROUNDING)
        _refuse("coverage", coverage, outside, "between 0 and 1")
    if "ts" in table.colnames:
        ts = np.ma.getdata(table["ts"])
        _refuse("ts", ts, ts < -TS_ROUNDING - 1e-9 * _size(table, ts), "0 or more")


def check_axis(low: Array, high: Array, ref: Array) -> None:
    """Raise ValueError unless every bin of the axis has an extent, and its position in it."""
    for name, values in (("x_min", low), ("x_max", high), ("x_ref", ref)):
        if values.ndim != 1:
            raise ValueError(f"column {name!r} has {values.ndim - 1} axes besides that of the bins")
        _refuse(name, values, ~np.isfinite(values), "finite")
    bad = low >= high
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"column 'x_min' is {low[i]} in row {i}, it must be less than 'x_max', {high[i]}"
        )
    rounding = EDGE_ROUNDING * (high - low + np.abs(ref))
    outside = (ref < low - rounding) | (ref > high + rounding)
    _refuse("x_ref", ref, outside, "between 'x_min' and 'x_max'")


def _size(table: Table, ts: Array) -> Array:
    """Size of the statistics that a test statistic is the difference of."""
    stat = np.ma.getdata(table["stat"]) if "stat" in table.colnames else np.zeros(1)
    return np.nan_to_num(np.abs(stat), posinf=0) if stat.shape == ts.shape else np.zeros(1)


def _refuse(name: str, values: Array, bad: Array, right: str) -> None:
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"column {name!r} is {values[first]} in row {first[0]}, it must be {right}"
        )


def meta_number(meta: dict[str, Any], key: str, default: float, *, positive: bool = True) -> float:
    """A finite number of the meta, or its default."""
    value = meta.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{key} in the meta is {short(value)}, it must be a number")
    if not np.isfinite(value) or (positive and value <= 0):
        kind = "positive and finite" if positive else "finite"
        raise ValueError(f"{key} in the meta is {short(value)}, it must be {kind}")
    return float(value)


def meta_json(meta: dict[str, Any], key: str, default: Any) -> Any:
    """Value of the JSON text of the meta, of the default's type, or the default.

    Raises
    ------
    ValueError
        If it is no JSON, of another type, nested more than `MAX_DEPTH` deep, or if it has an
        item "unit" that `check_unit` refuses.
    """
    if key not in meta:
        return default
    try:
        value = json.loads(meta[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key} in the header is not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{key} in the header is nested too deeply") from None
    if not isinstance(value, type(default)):
        raise ValueError(
            f"{key} in the header is {short(value)}, it must be a {type(default).__name__}"
        )
    level, depth = [value], 0
    while level:
        if depth == MAX_DEPTH:
            raise ValueError(f"{key} in the header is nested more than {MAX_DEPTH} deep")
        for item in level:
            if isinstance(item, dict) and isinstance(item.get("unit"), str):
                check_unit(item["unit"])
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        depth += 1
    return value


def meta_texts(meta: dict[str, Any], key: str) -> list[str] | None:
    """A list of text of the meta, or None."""
    value = meta.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} in the meta is {short(value)}, it must be a list of text")
    return value


def short(value: Any) -> str:
    """What a file gives instead, without what would fill the screen."""
    if isinstance(value, bool | int | float | str | None):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:60]}..."
    return f"a {type(value).__name__}"
