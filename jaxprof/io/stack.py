"""Files of stacks of flux profiles: FITS, and text tables.

STACK is a table with a row for each profile: its name, and where they are known ``time_min`` and
``time_max``, MJD in d in terrestrial time. The header has STACKAXI, "time" or "set". The HDUs of
each profile follow, as in a file of its own (`jaxprof.io.fluxprofile`), with ``P0_``, ``P1_``, ...
before their names: ``P0_FLUXPOINTS``, ``P0_LIKELIHOOD``, ``P0_GTI``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.table import Table

from jaxprof.io.asciitext import ascii_table, ascii_warning
from jaxprof.io.blocks import MAX_HDUS
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fluxprofile import profile_hdus
from jaxprof.io.integrity import write_fits
from jaxprof.io.paths import atomic_write, expand_path, known_extension
from jaxprof.io.readprofile import profile_from_hdus
from jaxprof.io.texttable import TEXT, write_text_table
from jaxprof.profile.stack import FluxProfileStack
from jaxprof.profile.stack_axis import has_gti
from jaxprof.profile.text_options import PLAIN, TextOptions
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from astropy.io.fits import BinTableHDU

_EXTENSIONS = (".fits", ".fits.gz")


def _checked(path: str | os.PathLike[str]) -> None:
    try:
        known_extension(path, _EXTENSIONS)
    except ValueError as error:
        raise ValueError(f"{error}; as text, write stack.to_table()") from None


def write_stack(
    stack: FluxProfileStack,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    include_likelihood: bool = True,
    sed_type: str | None = None,
    text: TextOptions = PLAIN,
) -> None:
    """Write a stack; entirely or not at all.

    Parameters
    ----------
    stack : FluxProfileStack
        The profiles.
    path : str or path-like
        Ends in ".fits" or ".fits.gz", or as text tables do; ``$VARIABLES`` and ``~`` are expanded.
    overwrite : bool
        Whether an existing file may be replaced.
    include_likelihood : bool
        Whether to write the data that were fitted.
    sed_type, text
        Of text tables, see `~jaxprof.io.texttable.write_text_table`.

    Raises
    ------
    ValueError
        For another extension, or more profiles than a file that can be read again holds.
    OSError
        See `~jaxprof.io.paths.atomic_write`; FileExistsError if the file exists and is not to be
        replaced.

    Warns
    -----
    UserWarning
        If FITS cannot hold a text that is not ASCII.
    """
    if expand_path(path).suffix.lower() in TEXT:
        write_text_table(stack, path, text, sed_type=sed_type, overwrite=overwrite)
        return
    _checked(path)
    if given := [*["sed_type"] * (sed_type is not None), *text.given()]:
        raise ValueError(f"{', '.join(given)}: of text tables, {', '.join(TEXT)}, not of {path}")
    hdus = [fits.PrimaryHDU(), _index(stack)]
    for number, profile in enumerate(stack.profiles):
        for hdu in profile_hdus(profile, include_likelihood=include_likelihood):
            hdu.name = f"P{number}_{hdu.name}"
            hdus.append(hdu)
    if len(hdus) > MAX_HDUS:
        raise ValueError(
            f"{path}: {len(stack)} profiles are {len(hdus)} HDUs, and no file of more than "
            f"{MAX_HDUS} is read again; write parts of the stack, or include_likelihood=False"
        )
    with atomic_write(path, overwrite=overwrite) as temporary:
        write_fits(hdus, temporary)


def _index(stack: FluxProfileStack) -> BinTableHDU:
    table = Table({"name": np.array(stack.names)})
    if all(has_gti(own) for own in stack.profiles):
        for name in ("time_min", "time_max"):
            table[name] = getattr(stack, name).tt.mjd
            table[name].unit = "d"
    table, changes = ascii_table(table, "STACK")
    if changes:
        warn_user(ascii_warning(changes, ""))
    hdu = fits.table_to_hdu(table)
    hdu.name = "STACK"
    hdu.header["STACKAXI"] = (stack.axis, "axis of the stack")
    hdu.header["TIMESYS"] = "TT"
    return hdu


def read_stack(path: str | os.PathLike[str]) -> FluxProfileStack:
    """Read a stack that `write_stack` wrote.

    Parameters
    ----------
    path : str or path-like
        Ends in ".fits" or ".fits.gz"; ``$VARIABLES`` and ``~`` are expanded.

    Returns
    -------
    FluxProfileStack

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or no stack; the message names it and says why.
    """
    _checked(path)
    with fits_file(path) as hdulist:
        if "STACK" not in [hdu.name for hdu in hdulist]:
            remedy = ""
            if "FLUXPOINTS" in [hdu.name for hdu in hdulist]:
                remedy = "; it holds one profile, FluxProfile.read reads it"
            raise ValueError(f"not a stack of flux profiles: there is no HDU STACK{remedy}")
        index = read_table(hdulist, "STACK", mask_invalid=False)
        if "name" not in index.colnames:
            raise ValueError(f"HDU STACK has no column name, but {index.colnames}")
        names = [str(name) for name in index["name"]]
        profiles = []
        for number, name in enumerate(names):
            with naming(f"profile {name!r}"):
                profiles.append(profile_from_hdus(hdulist, f"P{number}_"))
        return FluxProfileStack(profiles, names, axis=hdulist["STACK"].header.get("STACKAXI"))
