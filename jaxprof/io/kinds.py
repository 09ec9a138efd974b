"""Files of which it is not known beforehand what they hold."""

from __future__ import annotations

import os
from typing import Any

from astropy.io import fits
from regions import Regions

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import existing_file, known_extension
from jaxprof.io.readprofile import read_profile
from jaxprof.io.textfile import read_text
from jaxprof.profile import FluxProfile


def read_file(path: str | os.PathLike[str], name: str | None = None) -> FluxProfile | MapDataset:
    """Read a profile or a dataset, whichever a file holds.

    Parameters
    ----------
    path : str or path-like
        Ends in ".fits", ".fits.gz" or ".ecsv"; ``$VARIABLES`` and ``~`` are expanded.
    name : str, optional
        Name of a dataset; by default the file's.

    Returns
    -------
    FluxProfile, MapDataset or MapDatasetOnOff

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is damaged, or neither; the message names it and says what it holds.
    """
    file = existing_file(path)
    if known_extension(file, (".fits", ".fits.gz", ".fit", ".ecsv")) == ".ecsv":
        return read_profile(file)
    with fits_file(file) as hdus:
        kind = _kind(hdus)
    if kind == "profile":
        return read_profile(file)
    return (MapDatasetOnOff if kind == "on-off" else MapDataset).read(file, name=name)


def _kind(hdus: fits.HDUList) -> str:
    names = [hdu.name for hdu in hdus]
    if "FLUXPOINTS" in names:
        return "profile"
    if {"COUNTS", "EXPOSURE"} & set(names):
        return "on-off" if {"COUNTS_OFF", "ACCEPTANCE"} & set(names) else "dataset"
    raise ValueError(
        "neither a flux profile, which has an HDU FLUXPOINTS, nor a dataset, which has COUNTS and "
        f"EXPOSURE: {what_it_is(hdus)}"
    )


def read_dataset(path: str | os.PathLike[str], name: str | None = None) -> MapDataset:
    """Read a dataset, On-Off or not; arguments and errors as of `read_file`."""
    found = read_file(path, name)
    if isinstance(found, MapDataset):
        return found
    raise ValueError(f"{path}: a flux profile, not a dataset")


def read_regions(path: str | os.PathLike[str]) -> list[Any]:
    """Read the regions of a DS9 file.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is damaged or has no regions.
    """
    text = read_text(path)
    with naming(str(path), always=True):
        found = list(Regions.parse(text, format="ds9"))
        if not found:
            raise ValueError("no regions in it, as a DS9 region file")
    return found
