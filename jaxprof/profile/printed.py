"""Tables of profiles as they are printed: the columns that matter, in 80 characters."""

from __future__ import annotations

from typing import Any

from astropy.table import Table

from jaxprof.profile.quantities import SUFFIXES, UNITS

WIDTH = 80
_FIRST = ("name", "x_min", "x_max")
_LAST = ("sqrt_ts", "is_ul", "status")
_OPTIONAL = ("e_min", "e_max", "counts", "npred_excess")


class ProfileTable(Table):
    """Table of a profile. Printed, it shows the columns that matter and fit into 80 characters.

    All columns are there: ``table.colnames``, ``table.pprint_all()``.
    """

    def __str__(self) -> str:
        values = ["norm" if sed == "likelihood" else sed for sed in ("likelihood", *UNITS)]
        # What the table is expressed in comes first; files have norms besides.
        sed_type = self.meta.get("SED_TYPE", "likelihood")
        values = ["norm" if sed_type == "likelihood" else sed_type, *values]
        value = next((name for name in values if name in self.colnames), None)
        if value is None:
            return super().__str__()
        measured = [f"{value}{suffix}" for suffix in SUFFIXES]
        wanted = [*_FIRST, value, *measured[1:], *_LAST, *_OPTIONAL]
        # In the order in which they give way to others.
        order = [*_FIRST, value, measured[1], measured[4], *_LAST, *measured[2:4], measured[5]]
        known = [name for name in (*order, *_OPTIONAL) if name in self.colnames]
        shown: list[str] = []
        for name in known:
            trial = [column for column in wanted if column in (*shown, name)]
            if len(shown) < 2 or max(map(len, self._lines(trial))) <= WIDTH:
                shown = trial
        lines = self._lines(shown)
        hidden = len(self.colnames) - len(shown)
        if hidden:
            lines.append(f"({hidden} more columns: table.colnames, table.pprint_all())")
        return "\n".join(lines)

    def _lines(self, names: list[str]) -> list[str]:
        part = with_formats(Table(self[names], copy=True))
        return [line.rstrip() for line in part.pformat(max_width=-1, max_lines=len(self) + 5)]


def with_formats(table: Any) -> Any:
    """Set display formats with few digits; the values stay as they are."""
    for name in table.colnames:
        start = name.removeprefix("ref_").split("_")[0]
        if start in ("dnde", "e2dnde", "flux", "eflux", "surface") or "solid_angle" in name:
            table[name].info.format = ".3e"
        elif start in ("npred", "counts"):
            table[name].info.format = ".1f"
        elif start == "e":
            table[name].info.format = ".4g"
        elif table[name].dtype.kind == "f":
            table[name].info.format = ".3f"
    return table
