"""Reading of flux profiles that this package or gammapy wrote, see `jaxprof.io.fluxprofile`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

from astropy.io import fits
from astropy.table import Table

from jaxprof.io.ecsvheader import ecsv_table
from jaxprof.io.errors import description, naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fluxprofile import (
    EXTRAS,
    OWN_SCANS,
    PREFIX,
    TEXT_COLUMNS,
    file_kind,
    with_text,
)
from jaxprof.io.integrity import text_damage
from jaxprof.io.likelihoodtable import likelihood_data
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import existing_file
from jaxprof.io.textfile import read_text
from jaxprof.profile import FluxProfile
from jaxprof.profile.parse import profile_from_table
from jaxprof.profile.quantities import check_sed_type
from jaxprof.profile.table import check_format

_OLD_COLUMNS = {"n_slots": "n_counts_bins"}
"""What columns of older files are called now."""


def read_profile(
    path: str | os.PathLike[str],
    *,
    format: str = "profile",
    reference_model: Any = None,
    sed_type: str | None = None,
    n_sigma_ul: float | None = None,
) -> FluxProfile:
    """`FluxProfile.read`."""
    kind = file_kind(path)
    check_format(format)
    if sed_type is not None:
        check_sed_type(sed_type)
    with (_ecsv_parts if kind == "ecsv" else _fits_parts)(path) as (table, data, extras):
        return _profile((table, data, extras), reference_model, sed_type, n_sigma_ul)


def _profile(
    parts: Parts, reference_model: Any, sed_type: str | None, n_sigma_ul: float | None
) -> FluxProfile:
    table, data, extras = parts
    if set(OWN_SCANS.values()).issubset(table.colnames):
        table.rename_columns(list(OWN_SCANS.values()), list(OWN_SCANS))
    likelihood = None
    if data is not None and "e_min" in table.colnames:
        likelihood = likelihood_data(data, math.prod(table["e_min"].shape[1:]))
    return profile_from_table(
        table,
        sed_type=sed_type,
        reference_model=reference_model,
        n_sigma_ul=n_sigma_ul,
        likelihood_data=likelihood,
        **extras,
    )


def profile_from_hdus(hdulist: fits.HDUList, prefix: str) -> FluxProfile:
    """Profile of the HDUs whose names begin with a prefix."""
    return _profile(_hdu_parts(hdulist, prefix), None, None, None)


Parts = tuple[Table, Table | None, dict[str, Table | None]]


@contextlib.contextmanager
def _fits_parts(path: str | os.PathLike[str]) -> Iterator[Parts]:
    with fits_file(path) as hdulist:
        if "FLUXPOINTS" not in hdulist:
            raise ValueError(
                f"not a flux profile: there is no HDU FLUXPOINTS; {what_it_is(hdulist)}"
            )
        yield _hdu_parts(hdulist)


def _hdu_parts(hdulist: fits.HDUList, prefix: str = "") -> Parts:
    names = [hdu.name for hdu in hdulist]
    if f"{prefix}FLUXPOINTS" not in names:
        raise ValueError(f"not a flux profile: no HDU {prefix}FLUXPOINTS among {names}")
    tables = {}
    for name in ("FLUXPOINTS", "LIKELIHOOD", *(extra.upper() for extra in EXTRAS)):
        if prefix + name in names:
            tables[name] = read_table(hdulist, prefix + name, mask_invalid=False)
    table = tables["FLUXPOINTS"]
    for key, name in TEXT_COLUMNS.items():
        if name in table.colnames:
            table.meta[key] = [str(line) for line in table[name]]
    return table, tables.get("LIKELIHOOD"), _extras(tables)


def _extras(tables: dict[str, Table]) -> dict[str, Table | None]:
    """The tables besides that of the bins, with their text as it was."""
    found = {name: tables.get(name.upper()) for name in EXTRAS}
    found |= {name: _unescaped(found[name]) for name in ("nuisance", "goodness")}
    for table in (table for table in found.values() if table is not None):
        for old in set(_OLD_COLUMNS) & set(table.colnames):
            table.rename_column(old, _OLD_COLUMNS[old])
    return found


def _unescaped(table: Table | None) -> Table | None:
    """Inverse of `_escaped`."""
    return with_text(table, lambda text: text.encode("ascii").decode("unicode_escape"))


@contextlib.contextmanager
def _ecsv_parts(path: str | os.PathLike[str]) -> Iterator[Parts]:
    file = existing_file(path)
    with naming(str(file), always=True):
        text = read_text(file, largest=None)
        table = ecsv_table(text)
        complaint = text_damage(text, table.meta)
        try:
            tables = {}
            for name in map(str.upper, EXTRAS):
                if (lines := table.meta.pop(name, None)) is not None:
                    with naming(f"{name} in the meta"):
                        tables[name] = ecsv_table(_joined(lines))
            names = [name for name in table.colnames if name.startswith(PREFIX)]
            data = table[names] if names else None
            if data is not None:
                data.rename_columns(names, [name.removeprefix(PREFIX) for name in names])
            yield table, data, _extras(tables)
        except Exception as error:
            if complaint is None:
                raise
            raise ValueError(f"{description(error)}; besides, {complaint}") from error
        if complaint is not None:
            raise ValueError(complaint)


def _joined(lines: Any) -> str:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"must be the lines of a table, is a {type(lines).__name__}")
    return "\n".join(lines)
