"""Files of fitted laws: FITS and ECSV, one table with a row for each parameter; CSV and LaTeX.

Text is for people and other programs, and is not read. The meta, header keywords in FITS, have the
law as JSON (LAW), what it was fitted to (FITTEDTO), STAT, STATUS, and of the goodness of fit
GOODSTAT, EXPECTED, STD, NBINS, NFREE and PVALUE, and of the bins of the profile BINCHI2, BINDOF and
BINPVAL; what is not a finite number is left out.
"""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from jaxprof.io.asciitext import ascii_table, ascii_warning
from jaxprof.io.ecsvheader import ecsv_table, write_ecsv
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.integrity import text_damage, write_fits
from jaxprof.io.paths import atomic_write, existing_file, known_extension
from jaxprof.io.textfile import read_text
from jaxprof.likelihood.data import Status
from jaxprof.profile.papertable import escaped, latex_power, latex_unit, table_cell
from jaxprof.profile.printed import LinesTable
from jaxprof.user_warning import warn_user

_EXTENSIONS = {".fits": "fits", ".fits.gz": "fits", ".ecsv": "ecsv"}
_TEXT = {".csv": "csv", ".tex": "tex"}
_HDU = "LAWFIT"
_COLUMNS = ("name", "value", "error", "unit", "fixed", "of_law", "covariance")
_GOODNESS = {"stat": "GOODSTAT", "expected": "EXPECTED", "std": "STD", "p_value": "PVALUE"}
_BINS = {"chi2": "BINCHI2", "dof": "BINDOF", "p_value": "BINPVAL"}


def law_table(result: Any) -> Table:
    """Table of a fitted law, see `jaxprof.estimators.law_result.ModelFit.to_table`."""
    units = result.model.parameter_units
    values, errors = (_by_name(tree) for tree in (result.params, result.errors))
    # The law's own parameters first.
    order = np.argsort([name not in result.law_names for name in result.names], kind="stable")
    names = [result.names[k] for k in order]
    table = LinesTable(
        {
            "name": names,
            "value": [values[name] for name in names],
            "error": [errors[name] for name in names],
            "unit": [units.get(name, "") if name in result.law_names else "" for name in names],
            "fixed": [result.fixed[k] for k in order],
            "of_law": [name in result.law_names for name in names],
            "covariance": np.asarray(result.covariance, float)[np.ix_(order, order)],
        }
    )
    try:
        law = json.dumps(result.model.to_dict()["radial"])
    except ValueError:
        # A function of the user's own, of which there is no more than its name.
        law = repr(result.model)
    meta = {
        "LAW": law,
        "FITTEDTO": result.fitted_to,
        "STAT": float(result.stat),
        "STATUS": Status(int(result.status)).label,
        "NBINS": int(result.goodness["n_bins"]),
        "NFREE": result.n_free,
    }
    meta |= {key: float(result.goodness[name]) for name, key in _GOODNESS.items()}
    meta |= {_BINS[name]: value for name, value in result.bins_goodness.items()}
    table.meta = {
        key: value
        for key, value in meta.items()
        if not isinstance(value, float) or np.isfinite(value)
    }
    return table


def _by_name(tree: dict[str, Any]) -> dict[str, float]:
    """Elements of nested dicts of arrays by the names that `jaxprof.fit` gives them."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= {f"{name}.{rest}": own for rest, own in _by_name(value).items()}
            continue
        for index in np.ndindex(np.shape(value)):
            key = f"{name}[{', '.join(map(str, index))}]" if index else name
            found[key] = float(np.asarray(value)[index])
    return found


def write_law_table(result: Any, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the table of a fitted law; entirely or not at all.

    Parameters
    ----------
    result : ModelFit
        The law.
    path : str or path-like
        Ends in ".fits", ".fits.gz", ".ecsv", ".csv" or ".tex"; ``$VARIABLES`` and ``~`` are
        expanded.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ValueError
        For another extension.
    OSError
        See `~jaxprof.io.paths.atomic_write`.

    Warns
    -----
    UserWarning
        If FITS cannot hold a name that is not ASCII.
    """
    kinds = _EXTENSIONS | _TEXT
    kind = kinds[known_extension(path, kinds)]
    table = law_table(result)
    with atomic_write(path, overwrite=overwrite) as temporary:
        if kind == "fits":
            table, changes = ascii_table(table, _HDU)
            if changes:
                warn_user(ascii_warning(changes, "; ECSV keeps it"))
            hdu = fits.table_to_hdu(Table(table, meta={}))
            hdu.name = _HDU
            hdu.header.update(table.meta)
            write_fits([fits.PrimaryHDU(), hdu], temporary)
        elif kind == "ecsv":
            write_ecsv(table, temporary)
        else:
            text = _latex(table, result.model) if kind == "tex" else _csv(table)
            temporary.write_text(text, encoding="utf-8")


def _csv(table: Table) -> str:
    """All columns, those of the covariance numbered as the rows are."""
    plain = Table(table[[name for name in _COLUMNS if name != "covariance"]], meta={})
    for number, column in enumerate(np.asarray(table["covariance"]).T):
        plain[f"covariance_{number}"] = column
    stream = io.StringIO()
    plain.write(stream, format="ascii.csv")
    return stream.getvalue()


def _latex(table: Table, law: Any) -> str:
    """Parameters with errors and units, and below what they were fitted to."""
    rows: dict[str, list[str]] = {"Parameter": [], "Value": [], "Unit": []}
    columns = (table[key] for key in ("name", "value", "error", "unit", "fixed"))
    fixed = [
        (name, float(value), np.nan, law.parameter_units.get(name, ""), True)
        for name, value in law.parameters.items()
        if name not in table["name"] and np.ndim(value) == 0
    ]
    for name, value, error, unit, is_fixed in [*zip(*columns, strict=True), *fixed]:
        power = int(np.floor(np.log10(abs(value)))) if np.isfinite(value) and value else 0
        power = 0 if -3 < power < 4 else power
        rows["Parameter"].append(escaped(str(name)))
        if is_fixed:
            rows["Value"].append(f"${value / 10.0**power:g}$ (fixed)")
        else:
            one = {"value": value, "low": error, "high": error, "limit": np.nan}
            scaled = {key: own / 10.0**power for key, own in one.items()}
            rows["Value"].append(table_cell(scaled, latex=True))
        factor = f"$10^{{{power}}}$ " if power else ""
        rows["Unit"].append((factor + latex_unit(str(unit))).strip())
    meta = table.meta
    note = f"Fitted to the {meta['FITTEDTO']}, status {meta['STATUS']}"
    if "PVALUE" in meta:
        p_value = latex_power(f"{meta['PVALUE']:.2g}")
        note += f"; goodness of fit: {meta['GOODSTAT']:.5g}, $p = {p_value}$"
    p_value = latex_power(f"{meta['BINPVAL']:.2g}")
    chi2 = rf"$\chi^2$ {meta['BINCHI2']:.4g} for {meta['BINDOF']} degrees of freedom"
    note += f"; bins: {chi2}, $p = {p_value}$"
    stream = io.StringIO()
    foot = {"tablefoot": rf"\par\footnotesize {note}."}
    Table(rows).write(stream, format="ascii.latex", latexdict=foot)
    return stream.getvalue()


def read_law_table(path: str | os.PathLike[str]) -> Table:
    """Read what `write_law_table` wrote.

    Parameters
    ----------
    path : str or path-like
        Ends in ".fits", ".fits.gz" or ".ecsv".

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        "<file>: what is wrong".
    """
    if _EXTENSIONS[known_extension(path, _EXTENSIONS)] == "fits":
        with fits_file(path) as hdulist:
            if _HDU not in [hdu.name for hdu in hdulist]:
                raise ValueError(f"not a fitted law: no HDU {_HDU}")
            return _checked(read_table(hdulist, _HDU, mask_invalid=False))
    file = existing_file(path)
    with naming(str(file), always=True):
        text = read_text(file, largest=None)
        table = ecsv_table(text)
        if complaint := text_damage(text, table.meta):
            raise ValueError(complaint)
        return _checked(table)


def _checked(table: Table) -> Table:
    missing = [name for name in _COLUMNS if name not in table.colnames]
    if missing:
        raise ValueError(f"not a fitted law: no column {missing[0]!r}")
    for name in ("name", "unit"):
        table[name] = np.ma.filled(np.ma.asarray(table[name]).astype(str), "")
    keys = (
        "LAW",
        "FITTEDTO",
        "STAT",
        "STATUS",
        "NBINS",
        "NFREE",
        *_GOODNESS.values(),
        *_BINS.values(),
    )
    table.meta = {key: table.meta[key] for key in keys if key in table.meta}
    return table
