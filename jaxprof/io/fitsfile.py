"""FITS files as astropy's HDU lists, for as long as they are read."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from jaxprof.io.blocks import fits_parts
from jaxprof.io.contents import UNPACK, Unpacked, expansion_limit, open_regular, unpacked
from jaxprof.io.errors import description, naming, repeated
from jaxprof.io.integrity import MARKS, damage
from jaxprof.io.paths import existing_file
from jaxprof.profile.file_checks import check_unit


@contextlib.contextmanager
def fits_file(path: str | os.PathLike[str]) -> Iterator[fits.HDUList]:
    """Read a FITS file, gzipped or not, into memory.

    Parameters
    ----------
    path : str or path-like
        ``$VARIABLES`` and ``~`` are expanded.

    Yields
    ------
    hdulist : `~astropy.io.fits.HDUList`
        Owns no open file. Its arrays are writable.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        "<file>: what is wrong": if the file is not FITS, is cut off or damaged, if HDUs or columns
        of a table share a name, or for any error in the block, which comes first because it says
        more than a checksum.
    """
    file = existing_file(path)
    with naming(str(file), always=True):
        hdulist, complaint = _open(file)
        try:
            _check_names(hdulist)
            yield hdulist
        except Exception as error:
            if complaint is None:
                raise
            raise ValueError(f"{description(error)}; besides, {complaint}") from error
        if complaint is not None:
            raise ValueError(complaint)


def _open(file: Path) -> tuple[fits.HDUList, str | None]:
    """HDUs of a file, and what shows that it is damaged."""
    with open_regular(file) as packed:
        stream, limit = unpacked(packed, file.name)
        gzipped = isinstance(stream, Unpacked)
        name = f"what gzip may expand to ({UNPACK})" if gzipped else "the end of the file"
        parts = fits_parts(stream, limit, name, limit if gzipped else expansion_limit(limit))
        stream.seek(0)
        # The buffer itself, not a copy.
        raw = stream.getvalue() if isinstance(stream, Unpacked) else stream.read(limit)
    complaint = damage(memoryview(raw), parts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hdulist = fits.open(io.BytesIO(raw), memmap=False)
        len(hdulist)  # Reads the headers of all HDUs.
    cut = [str(item.message) for item in caught if issubclass(item.category, AstropyUserWarning)]
    if cut:
        raise ValueError(f"cut off or damaged: {cut[0]}")
    for hdu in hdulist:
        for key in MARKS:
            hdu.header.remove(key, ignore_missing=True)
        for card in hdu.header.cards:
            if card.keyword.startswith(("BUNIT", "TUNIT")):
                with naming(f"{card.keyword} of HDU {hdu.name}"):
                    check_unit(str(card.value))
    return hdulist, complaint


def _check_names(hdulist: fits.HDUList) -> None:
    """Raise ValueError for two HDUs, or two columns of a table, of one name.

    Nobody can say which of them is meant; astropy takes the first.
    """
    if name := repeated([hdu.name for hdu in hdulist]):
        raise ValueError(f"two HDUs are called {name}; remove or rename one of them")
    for hdu in hdulist:
        columns = [str(hdu.header[key]).strip() for key in hdu.header["TTYPE*"]]
        if name := repeated(columns):
            raise ValueError(f"two columns of HDU {hdu.name} are called {name!r}")


def read_table(hdulist: fits.HDUList, name: str, *, mask_invalid: bool = True) -> Table:
    """Table of an HDU.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open file.
    name : str
        Name of the HDU.
    mask_invalid : bool
        Whether NaN and empty text become missing values.

    Raises
    ------
    ValueError
        If it cannot be read as a table; the message names the HDU.
    """
    with naming(f"HDU {name}"):
        if not isinstance(hdulist[name], fits.BinTableHDU | fits.TableHDU):
            raise ValueError("this is no table")
        check_heap(hdulist[name])
        return Table.read(hdulist[name], mask_invalid=mask_invalid)


def check_heap(hdu: fits.BinTableHDU | fits.TableHDU) -> None:
    """Raise ValueError if arrays of variable length are longer than what is there for all.

    Any number of rows may point at the same bytes, and each would get a copy.
    """
    for column in hdu.columns if isinstance(hdu, fits.BinTableHDU) else ():
        if "P" in str(column.format) or "Q" in str(column.format):
            lengths = np.asarray(hdu.data.view(np.ndarray)[column.name])[..., 0]
            n_bytes = hdu.header["PCOUNT"]
            if lengths.sum(dtype=np.float64) > n_bytes:
                raise ValueError(
                    f"the arrays of column {column.name!r} are longer than the {n_bytes} bytes "
                    "that they share"
                )
