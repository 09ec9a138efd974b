"""FITS files of map datasets, in the layout that gammapy writes and reads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.table import Table
from astropy.wcs import WCS

from jaxprof.io import oldirfs
from jaxprof.io.asciitext import ascii_name, ascii_table, ascii_warning
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fitsmaps import FitsArray, array_to_hdus, map_to_hdus, read_array
from jaxprof.io.fitsmaps import read_map as read_map
from jaxprof.io.integrity import write_fits
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import atomic_write, known_extension
from jaxprof.irf import EDispKernelMap, EDispMap, IRFMap, PSFMap, RecoPSFMap
from jaxprof.user_warning import warn_user

MAPS = ("counts", "exposure", "background", "mask_safe", "mask_fit")
MAPS_ON_OFF = ("counts_off", "acceptance", "acceptance_off")
TABLES = ("gti", "meta_table")
EXTENSIONS = (".fits", ".fits.gz")


def read_map_dataset(
    path: str | os.PathLike[str], make: Callable[..., Any] = dict, *, on_off: bool = False
) -> Any:
    """Read the parts of a dataset.

    Parameters
    ----------
    path : str or path-like
        FITS file, gzipped or not; ``$VARIABLES`` and ``~`` are expanded.
    make : callable
        Takes the keyword arguments of `~jaxprof.datasets.MapDataset` or
        `~jaxprof.datasets.MapDatasetOnOff`, only those that the file has; "name" is
        None if it has none. By default they are returned as they are.
    on_off : bool
        Whether it must be an On-Off file.

    Returns
    -------
    made
        What `make` returns.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, not FITS, not a dataset, of the other kind, or if `make` fails;
        the message names file and HDU.
    """
    with fits_file(path) as hdulist:
        return make(**_parts(hdulist, on_off))


def _parts(hdulist: fits.HDUList, on_off: bool) -> dict[str, Any]:
    names = [hdu.name for hdu in hdulist]
    _check_kind(hdulist, names, on_off)
    parts: dict[str, Any] = {"name": _name(hdulist[0].header)}
    cache: dict[Any, WCS] = {}
    for part in MAPS + (MAPS_ON_OFF if on_off else ()):
        if part.upper() in names and not (on_off and part == "background"):
            with naming(f"HDU {part.upper()}"):
                parts[part] = read_map(hdulist, part.upper(), cache)
    _rename_exposure_axis(parts)
    with naming("HDU EDISP"):
        if "EDISP" in names:
            parts["edisp"] = _read_irf(hdulist, "EDISP", cache)
        elif oldirfs.EDISP in names:
            parts["edisp"] = oldirfs.read_edisp_matrix(hdulist)
    with naming("HDU PSF"):
        if "PSF" in names:
            parts["psf"] = _read_irf(hdulist, "PSF", cache)
        elif oldirfs.PSF in names:
            parts["psf"] = oldirfs.read_psf_kernel(hdulist, parts.get("exposure"), cache)
    for part in TABLES:
        if part.upper() in names:
            parts[part] = read_table(hdulist, part.upper())
    return parts


def _name(header: fits.Header) -> str | None:
    name = header.get("NAME")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"NAME in the primary header is {name!r}; it must be text")
    return name


def _check_kind(hdulist: fits.HDUList, names: list[str], on_off: bool) -> None:
    known = [part.upper() for part in (*MAPS, *MAPS_ON_OFF, "edisp", "psf")]
    # Other tools call their images COUNTS, too; their energies are elsewhere.
    has_axes = any(name.endswith("_BANDS") for name in names)
    other = not has_axes and {"EBOUNDS", "ENERGIES", "THETA", "CTHETABOUNDS"} & set(names)
    if other or not any(name in known for name in names):
        raise ValueError(
            f"not a map dataset: none of the HDUs {names} is COUNTS, EXPOSURE or another of its "
            f"maps, with its axes; {what_it_is(hdulist)}"
        )
    is_on_off = any(part.upper() in names for part in MAPS_ON_OFF)
    if is_on_off and not on_off:
        raise ValueError("this is an On-Off dataset; read it with MapDatasetOnOff.read")
    if on_off and not is_on_off:
        raise ValueError(
            "this is not an On-Off dataset (no COUNTS_OFF or ACCEPTANCE); read it with "
            "MapDataset.read"
        )


def _rename_exposure_axis(parts: dict[str, Any]) -> None:
    """Call the axis of the exposure energy_true, which old files call energy."""
    if "exposure" in parts:
        geom = parts["exposure"].geom
        geom.axes = [
            axis.rename("energy_true") if axis.name == "energy" else axis for axis in geom.axes
        ]


def _read_irf(hdulist: fits.HDUList, name: str, cache: dict[Any, WCS]) -> IRFMap:
    data, axes, geom, unit = read_array(hdulist, name, cache)
    found = [axis.name for axis in axes]
    accepted: dict[str, type[EDispKernelMap] | type[EDispMap] | type[PSFMap]]
    if name == "PSF":
        accepted = {"rad": PSFMap}
    else:
        accepted = {"energy": EDispKernelMap, "migra": EDispMap}
    if len(axes) != 2 or found[0] not in accepted or found[1] not in ("energy_true", "energy"):
        raise ValueError(
            f"HDU {name} has the axes {found}, expected {' or '.join(accepted)} and energy_true"
        )
    target = u.Unit("sr-1" if name == "PSF" else "")
    if not unit.is_equivalent(target):
        raise ValueError(f"HDU {name} has the unit {unit}, expected {str(target) or 'none'}")
    if unit != target:
        data = data * unit.to(target)
    exposure = None
    exposure_name = f"{name}_EXPOSURE"
    if exposure_name in hdulist:
        values, _, _, exposure_unit = read_array(hdulist, exposure_name, cache)
        if values.shape != (data.shape[0], 1, *data.shape[2:]):
            raise ValueError(
                f"HDU {exposure_name} has the shape {values.shape}, which does not belong to "
                f"{name} of shape {data.shape}"
            )
        exposure = u.Quantity(values[:, 0], exposure_unit)
    cls = accepted[found[0]]
    if name == "PSF" and found[1] == "energy":
        # As gammapy decides.
        cls = RecoPSFMap
    return cls(data, axes[0], axes[1], geom, exposure=exposure)


def write_map_dataset(
    dataset: Any, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a dataset as gammapy does.

    Parameters
    ----------
    dataset : MapDataset or MapDatasetOnOff
        Parts that are None are left out; `npred_sources` has no place in the format and
        is refused.
    path : str or path-like
        Ends in ".fits" or, to be compressed, ".fits.gz".
    overwrite : bool
        Whether an existing file may be replaced. The file appears in one step; see
        `~jaxprof.io.paths.atomic_write`.

    Raises
    ------
    OSError
        See `~jaxprof.io.paths.atomic_write`; FileExistsError if the file exists and
        `overwrite` is false.
    ValueError
        For another extension, if the dataset has `npred_sources`, or for names of columns that
        are not ASCII.

    Warns
    -----
    UserWarning
        If a text is not ASCII, the name of the dataset for instance, and so is written in other
        letters.
    """
    known_extension(path, EXTENSIONS)
    if getattr(dataset, "npred_sources", None) is not None:
        raise ValueError(
            "the file format has no place for npred_sources; make them part of the background by "
            "dataset.background = dataset.background + dataset.npred_sources, then set "
            "dataset.npred_sources = None"
        )
    with atomic_write(path, overwrite=overwrite) as temporary:
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["NAME"], changes = ascii_name(dataset.name, "the name of the dataset")
        hdus[0].header["CREATOR"] = "jaxprof"
        for part in MAPS + MAPS_ON_OFF:
            map_ = getattr(dataset, part, None)
            if map_ is not None:
                hdus += map_to_hdus(map_, part.upper())
        for name, irf in (("EDISP", dataset.edisp), ("PSF", dataset.psf)):
            if irf is not None:
                hdus += _irf_to_hdus(irf, name)
        for part in TABLES:
            table = getattr(dataset, part)
            if table is not None:
                plain, changed = ascii_table(table, part.upper())
                hdus.append(_table_hdu(plain, part.upper()))
                changes += changed
        if changes:
            warn_user(ascii_warning(changes))
        write_fits(hdus, temporary)


def _irf_to_hdus(irf: IRFMap, name: str) -> list[Any]:
    unit = u.Unit("sr-1" if name == "PSF" else "")
    axis, energy_axis = irf.axes
    if name == "PSF" and not isinstance(irf, RecoPSFMap):
        # The name of the axis is all that tells the two kinds apart in a file.
        energy_axis = energy_axis.rename("energy_true")
    hdus = array_to_hdus(FitsArray(irf.data, [axis, energy_axis], irf.geom, unit), name)
    if irf.exposure is not None:
        values = np.asarray(irf.exposure.value)[:, np.newaxis]
        axes = [axis.squash(), energy_axis]
        exposure = FitsArray(values, axes, irf.geom, irf.exposure.unit)
        hdus += array_to_hdus(exposure, f"{name}_EXPOSURE")
    return hdus


def _table_hdu(table: Table, name: str) -> fits.BinTableHDU:
    with warnings.catch_warnings():
        # Long keywords of a table's meta become HIERARCH cards.
        warnings.simplefilter("ignore", VerifyWarning)
        hdu = fits.table_to_hdu(table)
    hdu.name = name
    return hdu
