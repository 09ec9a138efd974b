"""Tables of profiles as they are printed: the columns that matter, as many as the terminal holds.

Vectors over several energy groups would be printed as their ends, "first .. last", three of which
fill a line: a line for each bin and energy group has the numbers of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import numpy as np
from astropy.io.registry import UnifiedReadWriteMethod
from astropy.table import Column, Table
from astropy.table.connect import TableWrite

from jaxprof.likelihood.data import Status
from jaxprof.profile.quantities import MATRICES, PARTLY_SEEN, SCANS, SUFFIXES, UNITS

WIDTH = 80
"""Columns of text that printed tables take at least; as many as the terminal has, if more."""
_FIRST = ("set", "time", "name", "x_min", "x_max")
_LAST = ("sqrt_ts", "is_ul", "status")
_ENERGIES = ("e_min", "e_max")
_OPTIONAL = ("counts", "npred_excess")
_TEXT = ("csv", "html", "latex", ".csv", ".html", ".tex")


class _Write(TableWrite):
    """``table.write``: formats of text, which have no vectors, get plain columns."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        form = kwargs.get("format")
        if form is None and args and isinstance(args[0], str | PathLike):
            form = Path(args[0]).suffix
        text = form in _TEXT or (str(form).startswith("ascii") and form != "ascii.ecsv")
        instance = plain_columns(self._instance) if text else self._instance
        return TableWrite(instance, self._cls)(*args, **kwargs)


class ProfileTable(Table):
    """Table of a profile. Printed, it shows the columns that matter and fit into the terminal.

    A line is a bin, or an energy group of a bin if there are several; a row is a bin all the same.

    All columns are there: ``table.colnames``, ``table.pprint_all()``. Written as text, and as a
    data frame of pandas, it has `plain_columns`.
    """

    write = UnifiedReadWriteMethod(_Write)

    def to_pandas(self, *args: Any, **kwargs: Any) -> Any:
        """Data frame of `plain_columns`; arguments as for `astropy.table.Table.to_pandas`."""
        return Table(plain_columns(self)).to_pandas(*args, **kwargs)

    def __str__(self) -> str:
        values = ["norm" if sed == "likelihood" else sed for sed in ("likelihood", *UNITS)]
        # What the table is expressed in comes first; files have norms besides.
        sed_type = self.meta.get("SED_TYPE", "likelihood")
        values = ["norm" if sed_type == "likelihood" else sed_type, *values]
        value = next((name for name in values if name in self.colnames), None)
        if value is None:
            return super().__str__()
        measured = [f"{value}{suffix}" for suffix in SUFFIXES]
        n_groups = self[value].shape[1] if self[value].ndim > 1 else 1
        several = n_groups > 1  # whose energies must be told
        first = [*_FIRST, *_ENERGIES]
        if "name" in self.colnames and "x_min" in self.colnames and self["x_min"].unit is None:
            # They number the bins, which have names.
            first = [name for name in first if name not in ("x_min", "x_max")]
        rest = list(_OPTIONAL)
        wanted = [*first, value, *measured[1:], *_LAST, *rest]
        # In the order in which they give way to others.
        spare = () if several else _ENERGIES
        first = [name for name in first if name not in spare]
        order = [*first, value, measured[1], measured[4], *_LAST, *measured[2:4], measured[5]]
        if "coverage" in self.colnames and (self["coverage"] < PARTLY_SEEN).any():
            wanted.append("coverage")
            order = [name for name in order if name != "is_ul"]
            at = order.index("sqrt_ts") + 1
            order[at:at] = ["coverage", "status", "is_ul"]
            order = list(dict.fromkeys(order))
        if "status" in self.colnames and np.any(self["status"] != Status.OK.label):
            order.remove("status")
            order.insert(order.index(measured[1]) + 1, "status")
        known: list[tuple[str, ...]] = [(name,) for name in order if name in self.colnames]
        # An energy without its other end says little.
        known += [spare] if spare and set(spare) <= set(self.colnames) else []
        known += [(name,) for name in rest if name in self.colnames]
        width = max(WIDTH, get_terminal_size((WIDTH, 24)).columns)
        shown: list[str] = []
        for names in known:
            trial = [column for column in wanted if column in (*shown, *names)]
            if len(shown) < 2 or max(map(len, self._lines(trial, n_groups))) <= width:
                shown = trial
        lines = self._lines(shown, n_groups)
        hidden = len(self.colnames) - len(shown)
        if hidden:
            lines.append(f"({hidden} more columns: table.colnames, table.pprint_all())")
        return "\n".join(lines)

    def _lines(self, names: list[str], n_groups: int) -> list[str]:
        part = with_formats(long_table(self, names, n_groups))
        return [line.rstrip() for line in part.pformat(max_width=-1, max_lines=len(part) + 5)]


class WholeTable(Table):
    """Table that is printed with all its rows and columns, and the notes in ``meta["notes"]``."""

    def __str__(self) -> str:
        lines = [line.rstrip() for line in self.pformat(max_lines=-1, max_width=-1)]
        return "\n".join([*lines, *self.meta.get("notes", ())])


class LinesTable(Table):
    """Table that is printed with a line for each row and energy group, few digits, no matrices."""

    def __str__(self) -> str:
        shown = [name for name in self.colnames if name != "covariance"]
        n_groups = max((self[name].shape[1] for name in shown if self[name].ndim > 1), default=1)
        part = long_table(self, shown, n_groups)
        for name, form in {"value": ".6g", "error": ".2g", "ts": ".2f"}.items():
            if name in shown:
                part[name].info.format = form
        for name in ("x_min", "x_max", "x_ref"):
            if name in shown and part[name].dtype.kind == "f":
                part[name].info.format = ".3f"
        lines = [line.rstrip() for line in part.pformat(max_width=-1, max_lines=-1)]
        if "covariance" in self.colnames:
            lines.append('(and the covariance: table["covariance"])')
        return "\n".join(lines)


def plain_columns(table: Table) -> Table:
    """The table with columns of one axis, that of the bins.

    Vectors are numbered columns, in the order of their elements: ``flux_0``, ``flux_1``, ... of
    several energy groups, ``counts_0``, ... of several data sets, ``stat_scan_0``, ... along a
    scan, ``response_0``, ... with the other bins. What has one value for a bin keeps its name.
    """
    plain = type(table)(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        parts = column.data.reshape(len(table), -1).T
        numbered = len(parts) > 1 or name in (*SCANS, *MATRICES)
        for number, part in enumerate(parts):
            own = f"{name}_{number}" if numbered else name
            plain[own] = Column(part, unit=column.unit, format=column.info.format)
    return plain


def long_table(table: Table, names: Sequence[str], n_groups: int) -> Table:
    """Some columns, with a row for each bin and energy group."""
    found = Table()
    for name in names:
        data = table[name].data
        if data.ndim > 1 and data.shape[1] == n_groups:
            data = data.reshape(-1, *data.shape[2:])
        else:
            data = np.repeat(data, n_groups, axis=0)
        found[name] = Column(data, unit=table[name].unit, format=table[name].format)
    return found


def with_formats(table: Any) -> Any:
    """Set display formats with few digits; the values stay as they are."""
    for name in table.colnames:
        start = name.removeprefix("ref_").split("_")[0]
        if start in ("dnde", "e2dnde", "flux", "eflux", "surface") or "solid_angle" in name:
            table[name].info.format = ".3e"
        elif start in ("npred", "counts"):
            table[name].info.format = ".1f"
        elif start == "e":
            # "36840 MeV", not "3.684e+04".
            large = np.all(table[name] >= 100) and np.any(table[name] >= 1e4)
            table[name].info.format = ".0f" if large else ".4g"
        elif table[name].dtype.kind == "f":
            table[name].info.format = ".3f"
    return table
