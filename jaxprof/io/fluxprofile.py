"""Files of flux profiles: FITS and ECSV.

The table of `jaxprof.profile.table`, in the sed type that the header keyword SED_TYPE
names, plus the norm columns. gammapy's ``FluxPoints.read(format="profile")`` reads it, and
gammapy's files are read here.

- FITS: the HDU FLUXPOINTS, with the table's meta as keywords and the regions as a column ``region``
  of DS9 text, the reference models of the bins, if they differ, as a column ``ref_model`` of JSON;
  LIKELIHOOD, a row for each bin, with the data that were fitted; GTI; of joint fits
  NUISANCE, a row for each nuisance parameter, and GOODNESS, a row for each energy group.
- ECSV: one table; the likelihood data are columns that begin with ``likelihood_``, the regions,
  the models and the other tables are in the meta (REGIONS, REFMODELS; GTI, NUISANCE, GOODNESS: the
  lines of an ECSV table).

Text in NUISANCE and GOODNESS is escaped as in Python source where it is not plain ASCII, and where
a blank is first or last: FITS knows no other letters, and both formats lose outer blanks.

Scans whose norms differ between bins or groups are called ``own_stat_scan`` and
``own_norm_scan``: gammapy takes the norms of the first bin for all, or fails.

gammapy has one reference spectrum for all bins. Where bins have spectra of their own (one model for
each, or fitted indices), files have the columns of every sed type, so that
``FluxPoints.read(file, format="profile", sed_type=...)`` gives right values of the one that it is
told; others it computes from these and its own model. The header names "dnde" unless another
was asked for: gammapy cannot read "likelihood" of such files.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table

from jaxprof.io.asciitext import ascii_table, ascii_warning
from jaxprof.io.ecsvheader import ecsv_table, write_ecsv
from jaxprof.io.errors import description, naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.integrity import text_damage, write_fits
from jaxprof.io.likelihoodtable import likelihood_data, likelihood_table
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import atomic_write, existing_file, expand_path, known_extension
from jaxprof.io.textfile import read_text
from jaxprof.io.texttable import TEXT, write_text_table
from jaxprof.likelihood.data import Data
from jaxprof.profile.quantities import SED_TYPES, check_sed_type
from jaxprof.profile.table import check_format, profile_to_table
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from jaxprof.profile import FluxProfile

_PREFIX = "likelihood_"
_OWN_SCANS = {name: f"own_{name}" for name in ("stat_scan", "norm_scan")}
_EXTRAS = ("gti", "nuisance", "goodness")
_OLD_COLUMNS = {"n_slots": "n_counts_bins"}
"""What columns of older files are called now."""
_TEXT_COLUMNS = {"REGIONS": "region", "REFMODELS": "ref_model"}
_EXTENSIONS = {".fits": "fits", ".fits.gz": "fits", ".ecsv": "ecsv"}


def _kind(path: str | os.PathLike[str], also: Iterable[str] = ()) -> str:
    return _EXTENSIONS[known_extension(path, [*_EXTENSIONS, *also])]


def write_profile(
    profile: FluxProfile,
    path: str | os.PathLike[str],
    *,
    sed_type: str | None = None,
    format: str = "profile",
    overwrite: bool = False,
    include_likelihood: bool = True,
    columns: Sequence[str] | None = None,
    style: str | None = None,
    unit: Any = None,
) -> None:
    """Write a profile; entirely or not at all.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    path : str or path-like
        Ends in ".fits", ".fits.gz" or ".ecsv"; ``$VARIABLES`` and ``~`` are expanded.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}, optional
        What norms are written as. They are written as norms besides. By default
        ``profile.sed_type_init``, but "dnde" instead of "likelihood" if bins have spectra of
        their own; see the module.
    format : {"profile"}
        Layout of the table.
    overwrite : bool
        Whether an existing file may be replaced.
    include_likelihood : bool
        Whether to write the data that were fitted, if the profile has them.
    columns, style, unit
        Of text tables (".csv", ".tex", ".txt"), see `FluxProfile.write`.

    Raises
    ------
    ValueError
        For another extension, an unknown sed type or format; in FITS, for names of quantities
        that are not ASCII.
    OSError
        See `~jaxprof.io.paths.atomic_write`; FileExistsError if the file exists and is not to
        be replaced.

    Warns
    -----
    UserWarning
        If FITS cannot hold a text, the name of a region for instance, that is not ASCII.
    """
    check_format(format)
    if expand_path(path).suffix.lower() in TEXT:
        write_text_table(
            profile, path, sed_type=sed_type, columns=columns, style=style, unit=unit,
            overwrite=overwrite,
        )  # fmt: skip
        return
    kind = _kind(path, TEXT)
    if any(option is not None for option in (columns, style, unit)):
        raise ValueError(
            f"columns, style and unit are those of text tables, {', '.join(TEXT)}; {path} keeps "
            "all that a profile is made of"
        )
    if sed_type is not None:
        check_sed_type(sed_type)
    with atomic_write(path, overwrite=overwrite) as temporary:
        if kind == "fits":
            hdus = profile_hdus(profile, sed_type, include_likelihood)
            write_fits([fits.PrimaryHDU(), *hdus], temporary)
        else:
            _write_ecsv(*_tables(profile, sed_type, include_likelihood), temporary)


def _tables(
    profile: FluxProfile, sed_type: str | None, include_likelihood: bool
) -> tuple[Table, Data | None, dict[str, Table | None]]:
    """The tables of a profile: of its bins, of its likelihood, and others."""
    written, besides = _sed_types(profile, sed_type)
    table = profile_to_table(profile, written, besides=besides, energy_unit="TeV")
    if sed_type is None and written != profile.sed_type_init:
        table.meta["SED_INIT"] = profile.sed_type_init
    if "norm_scan" in table.colnames:
        grids = table["norm_scan"].data
        if not np.array_equal(grids, np.broadcast_to(grids[0, 0], grids.shape), equal_nan=True):
            table.rename_columns(list(_OWN_SCANS), list(_OWN_SCANS.values()))
    data = profile.likelihood_data if include_likelihood else None
    extras = {"GTI": profile.gti}
    for name in ("nuisance", "goodness"):
        extras[name.upper()] = _escaped(getattr(profile, name))
    return table, data, extras


def profile_hdus(
    profile: FluxProfile, sed_type: str | None = None, include_likelihood: bool = True
) -> list[fits.BinTableHDU]:
    """The HDUs of a profile, FLUXPOINTS first; see `write_profile`."""
    table, data, extras = _tables(profile, sed_type, include_likelihood)
    return _hdus(*_in_ascii(table, extras), data)


def _sed_types(profile: FluxProfile, sed_type: str | None) -> tuple[str, tuple[str, ...]]:
    """What a file has in the first place, and besides."""
    flux = profile.reference["dnde"]
    own = flux.ndim == 2 and not np.array_equal(flux, np.broadcast_to(flux[:1], flux.shape))
    besides = SED_TYPES if own else ("likelihood",)
    if sed_type is None:
        sed_type = profile.sed_type_init
        if own and sed_type == "likelihood":
            sed_type = "dnde"
    return check_sed_type(sed_type), besides


def _in_ascii(
    table: Table, extras: dict[str, Table | None]
) -> tuple[Table, dict[str, Table | None]]:
    """The tables as FITS can hold them, with a warning if that changes something."""
    found, changes = ascii_table(table, "FLUXPOINTS")
    extras = dict(extras)
    for name, extra in extras.items():
        if extra is not None:
            extras[name], changed = ascii_table(extra, name)
            changes += changed
    if changes:
        warn_user(ascii_warning(changes, "; ECSV keeps it"))
    return found, extras


def _hdus(table: Table, extras: dict[str, Table | None], data: Data | None) -> list[Any]:
    meta, table.meta = table.meta, {}
    for key, name in _TEXT_COLUMNS.items():
        if key in meta:
            # Header cards hold no lists, and a region belongs to its row.
            position = table.colnames.index("status")
            table.add_column(Column(meta.pop(key)), name=name, index=position)
    hdu = fits.table_to_hdu(table)
    hdu.name = "FLUXPOINTS"
    hdu.header.update(meta)
    for key, value in meta.items():
        if isinstance(value, float):
            hdu.header.remove(key)
            hdu.header.append(_exact_card(key, value), end=True)
    hdus = [hdu]
    if data is not None:
        hdus.append(fits.table_to_hdu(likelihood_table(data)))
        hdus[-1].name = "LIKELIHOOD"
    for name, extra in extras.items():
        if extra is not None:
            hdus.append(fits.table_to_hdu(extra))
            hdus[-1].name = name
    return hdus


def _exact_card(key: str, value: float) -> fits.Card:
    """A card with all digits of a number, of which astropy keeps no more than 20 characters.

    Longer ones are free-format floating-point numbers (FITS standard 4.0, section 4.2.4).
    """
    return fits.Card.fromstring(f"{key.upper():<8}= {value!r:>20}".replace("e", "E"))


def _write_ecsv(
    table: Table, data: Data | None, extras: dict[str, Table | None], path: Any
) -> None:
    if data is not None:
        extra = likelihood_table(data)
        position = table.colnames.index("status")
        for name in extra.colnames:
            table.add_column(extra[name], name=_PREFIX + name, index=position)
            position += 1
    for name, extra in extras.items():
        if extra is not None:
            stream = io.StringIO()
            extra.write(stream, format="ascii.ecsv")
            table.meta[name] = stream.getvalue().splitlines()
    write_ecsv(table, path)


def read_profile(
    path: str | os.PathLike[str],
    *,
    format: str = "profile",
    reference_model: Any = None,
    sed_type: str | None = None,
    n_sigma_ul: float | None = None,
) -> FluxProfile:
    """Read a profile that this package or gammapy wrote.

    Parameters
    ----------
    path : str or path-like
        Ends in ".fits", ".fits.gz" or ".ecsv"; ``$VARIABLES`` and ``~`` are expanded.
    format : {"profile"}
        Layout of the table.
    reference_model : SpectralModel, or a list of these, one a bin, optional
        Needed for files without reference fluxes.
    sed_type : str, optional
        What the norms are taken from.
    n_sigma_ul : float, optional
        Number of standard deviations of the upper limits, for files that do not tell it.

    Returns
    -------
    FluxProfile

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or no profile; the message names it and says why.
    """
    kind = _kind(path)
    check_format(format)
    if sed_type is not None:
        check_sed_type(sed_type)
    with (_ecsv_parts if kind == "ecsv" else _fits_parts)(path) as (table, data, extras):
        return _profile((table, data, extras), reference_model, sed_type, n_sigma_ul)


def _profile(
    parts: Parts, reference_model: Any, sed_type: str | None, n_sigma_ul: float | None
) -> FluxProfile:
    from jaxprof.profile.parse import profile_from_table

    table, data, extras = parts
    if set(_OWN_SCANS.values()).issubset(table.colnames):
        table.rename_columns(list(_OWN_SCANS.values()), list(_OWN_SCANS))
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
    for name in ("FLUXPOINTS", "LIKELIHOOD", *(extra.upper() for extra in _EXTRAS)):
        if prefix + name in names:
            tables[name] = read_table(hdulist, prefix + name, mask_invalid=False)
    table = tables["FLUXPOINTS"]
    for key, name in _TEXT_COLUMNS.items():
        if name in table.colnames:
            table.meta[key] = [str(line) for line in table[name]]
    return table, tables.get("LIKELIHOOD"), _extras(tables)


def _extras(tables: dict[str, Table]) -> dict[str, Table | None]:
    """The tables besides that of the bins, with their text as it was."""
    found = {name: tables.get(name.upper()) for name in _EXTRAS}
    found |= {name: _unescaped(found[name]) for name in ("nuisance", "goodness")}
    for table in (table for table in found.values() if table is not None):
        for old in set(_OLD_COLUMNS) & set(table.colnames):
            table.rename_column(old, _OLD_COLUMNS[old])
    return found


def _escaped(table: Table | None) -> Table | None:
    """A copy with text that FITS and ECSV keep."""

    def escape(text: str) -> str:
        text = text.encode("unicode_escape").decode("ascii")
        return re.sub("^ +| +$", lambda blanks: r"\x20" * len(blanks[0]), text)

    return _with_text(table, escape)


def _unescaped(table: Table | None) -> Table | None:
    """Inverse of `_escaped`."""
    return _with_text(table, lambda text: text.encode("ascii").decode("unicode_escape"))


def _with_text(table: Table | None, function: Callable[[str], str]) -> Table | None:
    """A copy with a function applied to all text; missing text is empty, as ECSV writes it."""
    if table is None:
        return None
    found = table.copy()
    for name in found.colnames:
        if found[name].dtype.kind in "SU":
            texts = np.ma.filled(np.ma.asarray(found[name]).astype(str), "")
            found[name] = np.array([function(str(text)) for text in texts], dtype=str)
    return found


@contextlib.contextmanager
def _ecsv_parts(path: str | os.PathLike[str]) -> Iterator[Parts]:
    file = existing_file(path)
    with naming(str(file), always=True):
        text = read_text(file, largest=None)
        table = ecsv_table(text)
        complaint = text_damage(text, table.meta)
        try:
            tables = {}
            for name in map(str.upper, _EXTRAS):
                if (lines := table.meta.pop(name, None)) is not None:
                    with naming(f"{name} in the meta"):
                        tables[name] = ecsv_table(_joined(lines))
            names = [name for name in table.colnames if name.startswith(_PREFIX)]
            data = table[names] if names else None
            if data is not None:
                data.rename_columns(names, [name.removeprefix(_PREFIX) for name in names])
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
