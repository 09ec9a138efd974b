"""ECSV files: their header is looked at before astropy makes anything of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # astropy needs it, too
from astropy.table import Table

from jaxprof.io.errors import repeated
from jaxprof.io.integrity import mark_text, sealed_text
from jaxprof.profile.file_checks import MAX_DEPTH, check_unit

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def ecsv_table(text: str) -> Table:
    """Table of the text of an ECSV file, never of a name or address that it may be taken for.

    Raises
    ------
    ValueError
        If it is no ECSV; see `check_header`.
    """
    if not text.startswith("# %ECSV"):
        raise ValueError("not an ECSV table (it does not begin with %ECSV)")
    check_header(text)
    return Table.read(io.BytesIO(text.encode()), format="ascii.ecsv")


def write_ecsv(table: Table, path: Path) -> None:
    """Write a table with the mark that `~jaxprof.io.integrity.text_damage` looks for."""
    table = table.copy(copy_data=False)
    mark_text(table.meta)
    stream = io.StringIO()
    table.write(stream, format="ascii.ecsv")
    path.write_text(sealed_text(stream.getvalue()), encoding="utf-8")


def check_header(text: str) -> None:
    """Raise ValueError for a header that takes forever or fills the memory.

    Parameters
    ----------
    text : str
        Lines of an ECSV file. Those of its header begin with "#".

    Raises
    ------
    ValueError
        For aliases, of which ten lines can stand for a thousand million values, for deep nesting,
        for units with powers that nobody can compute, and for two columns of one name, of which
        astropy would rename one.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            _check_names(line, lines)
            break
        lines.append(line[1:].removeprefix(" "))
    depth, last = 0, ""
    try:
        for event in yaml.parse("\n".join(lines[1:]), Loader=LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"the header has the YAML alias *{event.anchor}; write values out")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise ValueError(f"the header is nested more than {MAX_DEPTH} deep")
            value = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if last == "unit":
                check_unit(value)
            last = value
    except yaml.YAMLError as error:
        raise ValueError(f"the header is damaged: {error}") from error


def _check_names(line: str, header: list[str]) -> None:
    """Raise ValueError if the line of the column names has one of them twice."""
    commas = any(entry.startswith("delimiter:") and "," in entry for entry in header)
    if name := repeated(next(csv.reader([line], delimiter="," if commas else " "), [])):
        raise ValueError(f"two columns are called {name!r}")
