"""Text tables of profiles, for papers and other programs: CSV, LaTeX and plain text."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from jaxprof.inference.levels import confidence_level
from jaxprof.io.paths import atomic_write, expand_path
from jaxprof.profile.papertable import LIMITS, latex_unit
from jaxprof.profile.printed import long_table, plain_columns
from jaxprof.profile.stack import FluxProfileStack
from jaxprof.profile.stack_axis import AXES
from jaxprof.profile.stack_table import stack_table
from jaxprof.profile.table import chosen_columns, styled_table
from jaxprof.profile.text_options import TextOptions

TEXT = {".csv": "ascii.csv", ".tex": "ascii.latex", ".txt": "ascii.fixed_width_two_line"}
"""Formats of astropy by extension."""


def write_text_table(
    profile: Any,
    path: str | os.PathLike[str],
    options: TextOptions,
    *,
    sed_type: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a text table, a row for each bin and energy group; entirely or not at all.

    Parameters
    ----------
    profile : FluxProfile or FluxProfileStack
        The profile, or several.
    path : str or path-like
        Ends in ".csv", ".tex" or ".txt".
    options : TextOptions
        Columns, style, unit, caption and label.
    sed_type : str, optional
        What to show; by default ``profile.sed_type_init``, of a stack that of its first profile.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ValueError
        For an unknown sed type, column, style or unit, or a caption or label of no LaTeX table.
    OSError
        See `~jaxprof.io.paths.atomic_write`.
    """
    suffix = expand_path(path).suffix.lower()
    latex, columns, style = suffix == ".tex", options.columns, options.style
    if not latex and {"caption", "label"} & set(options.given()):
        raise ValueError(f"caption and label are those of LaTeX tables, .tex; got {path}")
    if style is None:
        style = "paper" if latex and columns is None else "full"
    stacked = isinstance(profile, FluxProfileStack)
    profiles = profile.profiles if stacked else (profile,)
    sed_type = profiles[0].sed_type_init if sed_type is None else sed_type
    styled: Any = stack_table if stacked else styled_table
    shown: dict[str, Any] = {"style": style, "unit": options.unit}
    shown |= {"formatted": latex, "latex": latex}
    if style == "paper":
        table = styled(profile, sed_type, columns, **shown)
        if suffix == ".csv":  # which has no place for notes
            _add_levels(table, profiles)
    else:
        table = styled(profile, sed_type, **shown)
        table = _rows(table, [own.shape[0] for own in profiles], profiles[0].shape[1])
        if columns is None:
            _add_levels(table, profiles)
        table = _in_columns(table if columns is None else chosen_columns(table, columns), latex)
    with atomic_write(path, overwrite=overwrite) as temporary:
        stream = io.StringIO()
        notes = table.meta.get("notes", [])
        own = _heading(options) | ({"latexdict": _foot(notes)} if latex and notes else {})
        table.write(stream, format=TEXT[suffix], **own)
        if suffix == ".txt":
            stream.writelines(f"{note}\n" for note in notes)
        temporary.write_text(stream.getvalue(), encoding="utf-8")


def _heading(options: TextOptions) -> dict[str, Any]:
    """Caption and label as astropy's writer of LaTeX takes them."""
    label = rf"\label{{{options.label}}}" if options.label is not None else ""
    parts = ["" if options.caption is None else options.caption, label]
    return {"caption": "".join(parts)} if any(parts) else {}


def _foot(notes: Sequence[str]) -> dict[str, str]:
    """Notes below a table as astropy's writer of LaTeX takes them."""
    text = " ".join(notes).replace("%", r"\%").replace("(<)", "($<$)")
    return {"tablefoot": rf"\par\footnotesize {text}"}


def _add_levels(table: Table, profiles: Sequence[Any]) -> None:
    """Confidence level and kind of the upper limits as last columns, where there are any."""
    noted = any(note.startswith(LIMITS) for note in table.meta.get("notes", []))
    if not noted and not any(n.endswith("_ul") and n != "is_ul" for n in table.colnames):
        return
    rows = [own.shape[0] * own.shape[1] for own in profiles]
    levels = [confidence_level(n_sigma=own.n_sigma_ul) for own in profiles]
    kinds = [own.meta.get("interval", "profile") for own in profiles]
    table["ul_conf"], table["ul_interval"] = np.repeat(levels, rows), np.repeat(kinds, rows)
    table["ul_conf"].info.format = ".4g"


def _rows(table: Table, n_bins: Sequence[int], n_groups: int) -> Table:
    """A row for each bin and energy group, with the numbers of both."""
    found = long_table(table, table.colnames, n_groups)
    bins = np.concatenate([np.arange(own) for own in n_bins])
    first = 1 if table.colnames[0] in AXES else 0
    found.add_column(np.tile(np.arange(n_groups), len(bins)), name="group", index=first)
    found.add_column(np.repeat(bins, n_groups), name="bin", index=first)
    found.meta["SED_TYPE"] = table.meta["SED_TYPE"]
    return found


def _in_columns(table: Table, latex: bool) -> Table:
    """Vectors of datasets and scans as numbered columns, and units, without a place, as names."""
    found = Table(plain_columns(table))
    for name in found.colnames:
        own, unit = name, found[name].unit
        if unit is not None:
            text = latex_unit(unit) if latex else u.Unit(unit).to_string()
            own = f"{name} [{text}]"
            found[name].unit = None
        found.rename_column(name, own.replace("_", r"\_") if latex else own)
    return found
