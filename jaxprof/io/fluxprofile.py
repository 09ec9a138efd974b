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

import io
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table

from jaxprof.io.asciitext import ascii_table, ascii_warning
from jaxprof.io.ecsvheader import write_ecsv
from jaxprof.io.integrity import write_fits
from jaxprof.io.likelihoodtable import likelihood_table
from jaxprof.io.paths import atomic_write, expand_path, known_extension
from jaxprof.io.texttable import TEXT, write_text_table
from jaxprof.likelihood.data import Data
from jaxprof.profile.quantities import SED_TYPES, check_sed_type
from jaxprof.profile.table import profile_to_table
from jaxprof.profile.text_options import PLAIN, TextOptions
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from jaxprof.profile import FluxProfile

PREFIX = "likelihood_"
OWN_SCANS = {name: f"own_{name}" for name in ("stat_scan", "norm_scan")}
EXTRAS = ("gti", "nuisance", "goodness")
TEXT_COLUMNS = {"REGIONS": "region", "REFMODELS": "ref_model"}
_EXTENSIONS = {".fits": "fits", ".fits.gz": "fits", ".ecsv": "ecsv"}


def file_kind(path: str | os.PathLike[str], also: Iterable[str] = ()) -> str:
    """Kind of file by its extension, one of ours; others are in `also` for the message."""
    return _EXTENSIONS[known_extension(path, [*_EXTENSIONS, *also])]


def write_profile(
    profile: FluxProfile,
    path: str | os.PathLike[str],
    text: TextOptions = PLAIN,
    *,
    sed_type: str | None = None,
    overwrite: bool = False,
    include_likelihood: bool = True,
) -> None:
    """`FluxProfile.write`; `text` is of text tables."""
    if expand_path(path).suffix.lower() in TEXT:
        write_text_table(profile, path, text, sed_type=sed_type, overwrite=overwrite)
        return
    kind = file_kind(path, TEXT)
    if text.given():
        raise ValueError(
            f"columns, style, unit, caption and label are those of text tables, {', '.join(TEXT)}; "
            f"{path} keeps all that a profile is made of"
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
            table.rename_columns(list(OWN_SCANS), list(OWN_SCANS.values()))
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
    for key, name in TEXT_COLUMNS.items():
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
            table.add_column(extra[name], name=PREFIX + name, index=position)
            position += 1
    for name, extra in extras.items():
        if extra is not None:
            stream = io.StringIO()
            extra.write(stream, format="ascii.ecsv")
            table.meta[name] = stream.getvalue().splitlines()
    write_ecsv(table, path)


def _escaped(table: Table | None) -> Table | None:
    """A copy with text that FITS and ECSV keep."""

    def escape(text: str) -> str:
        text = text.encode("unicode_escape").decode("ascii")
        return re.sub("^ +| +$", lambda blanks: r"\x20" * len(blanks[0]), text)

    return with_text(table, escape)


def with_text(table: Table | None, function: Callable[[str], str]) -> Table | None:
    """A copy with a function applied to all text; missing text is empty, as ECSV writes it."""
    if table is None:
        return None
    found = table.copy()
    for name in found.colnames:
        if found[name].dtype.kind in "SU":
            texts = np.ma.filled(np.ma.asarray(found[name]).astype(str), "")
            found[name] = np.array([function(str(text)) for text in texts], dtype=str)
    return found
