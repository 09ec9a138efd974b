"""Text tables of profiles, for papers and other programs: CSV, LaTeX and plain text."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import astropy.units as u
from astropy.table import Table

from jaxprof.io.paths import atomic_write, expand_path
from jaxprof.profile.papertable import latex_unit
from jaxprof.profile.printed import plain_columns
from jaxprof.profile.table import styled_table

TEXT = {".csv": "ascii.csv", ".tex": "ascii.latex", ".txt": "ascii.fixed_width_two_line"}
"""Formats of astropy by extension."""


def write_text_table(
    profile: Any,
    path: str | os.PathLike[str],
    sed_type: str | None,
    columns: Sequence[str] | None,
    style: str | None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a text table of a profile; entirely or not at all.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    path : str or path-like
        Ends in ".csv", ".tex" or ".txt".
    sed_type : str or None
        What to show; by default ``profile.sed_type_init``.
    columns : sequence of str, optional
        Which columns; several energy groups are columns with numbers.
    style : {"full", "paper"}, optional
        By default "paper" for ".tex" without `columns`.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ValueError
        For an unknown sed type, column or style.
    OSError
        See `~jaxprof.io.paths.atomic_write`.
    """
    suffix = expand_path(path).suffix.lower()
    latex = suffix == ".tex"
    if style is None:
        style = "paper" if latex and columns is None else "full"
    sed_type = profile.sed_type_init if sed_type is None else sed_type
    table = styled_table(profile, sed_type, columns, style, formatted=latex, latex=latex)
    if style != "paper":
        table = _in_columns(table, latex)
    with atomic_write(path, overwrite=overwrite) as temporary:
        stream = io.StringIO()
        table.write(stream, format=TEXT[suffix])
        temporary.write_text(stream.getvalue(), encoding="utf-8")


def _in_columns(table: Table, latex: bool) -> Table:
    """Vectors over energy as numbered columns, and units, which CSV has no place for, as names."""
    found = Table(plain_columns(table))
    for name in found.colnames:
        own, unit = name, found[name].unit
        if unit is not None:
            text = latex_unit(unit) if latex else u.Unit(unit).to_string()
            own = f"{name} [{text}]"
            found[name].unit = None
        found.rename_column(name, own.replace("_", r"\_") if latex else own)
    return found
