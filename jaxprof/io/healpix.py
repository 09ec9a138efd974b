"""HEALPix tables in FITS files: of healpy, gtbin and gtexpcube2, gammapy and others.

A map is a table with a row for each pixel and a column for each energy (or healpy's, with several
pixels in a row). Partial maps have a column of pixel indices. Energies are in a table
"<HDU>_BANDS", EBOUNDS or ENERGIES.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.io.fitsmaps import energy_axis, read_axes
from jaxprof.io.units import unit_of
from jaxprof.sky import MapAxis
from jaxprof.sky.healpix import HealpixMap

UNSEEN = -1.6e30
_PIXEL_COLUMNS = ("PIX", "PIXEL", "HPXINDEX", "IPIX", "INDEX")
_FRAMES = {"G": "galactic", "GAL": "galactic", "GALACTIC": "galactic"}
_FRAMES |= dict.fromkeys(("C", "Q", "CEL", "ICRS", "EQU", "EQUATORIAL", "RADEC", "J2000"), "icrs")


def is_healpix(hdu: Any) -> bool:
    """Whether an HDU is a HEALPix map."""
    return str(hdu.header.get("PIXTYPE", "")).upper() == "HEALPIX"


def read_healpix(hdulist: fits.HDUList, name: str) -> HealpixMap:
    """Read a HEALPix map.

    Raises
    ------
    ValueError
        If its order, frame, pixels or energies are not known; the message names the HDU.
    """
    hdu = hdulist[name]
    header = hdu.header
    if not isinstance(hdu, fits.BinTableHDU):
        raise ValueError(f"HDU {name} says it is HEALPix, but is no table")
    order = str(header.get("ORDERING", "")).upper()
    if order not in ("RING", "NEST", "NESTED"):
        raise ValueError(f"ORDERING of HDU {name} is {order!r}; it must be RING or NESTED")
    frame = str(header.get("COORDSYS", header.get("COORDTYPE", ""))).upper()
    if frame not in _FRAMES:
        raise ValueError(
            f"COORDSYS of HDU {name} is {frame!r}; it must be GAL or CEL (C, G, ICRS, ...)"
        )
    columns = [str(column) for column in hdu.columns.names]
    pixels, used = _pixels(hdu, columns)
    axes = _axes(hdulist, hdu)
    values = _values(hdu, [column for column in columns if column not in used], axes)
    unit = header.get("BUNIT", hdu.columns[columns[-1]].unit or "")
    nside = header.get("NSIDE")
    if not isinstance(nside, int):
        raise ValueError(f"NSIDE of HDU {name} is {nside!r}; it must be a whole number")
    nest = order != "RING"
    return HealpixMap(
        values, nside, pixels, nest, _FRAMES[frame], tuple(axes), unit_of(str(unit), name)
    )


def _pixels(hdu: Any, columns: list[str]) -> tuple[NDArray[Any] | None, list[str]]:
    """Indices of the pixels of a partial map, and columns that are no values."""
    scheme = str(hdu.header.get("INDXSCHM", "")).upper()
    found = [column for column in columns if column.upper() in _PIXEL_COLUMNS]
    if scheme == "SPARSE":
        raise ValueError(
            f"HDU {hdu.name} is a sparse HEALPix map; write it as EXPLICIT, for instance with "
            "gammapy (HpxNDMap.write(..., sparse=False))"
        )
    if not found or (scheme == "IMPLICIT" and len(hdu.data) == 12 * hdu.header["NSIDE"] ** 2):
        first = hdu.header.get("FIRSTPIX", 0)
        if scheme != "EXPLICIT" and isinstance(first, int) and first > 0:
            return np.arange(first, first + len(hdu.data)), found
        return None, found
    return np.asarray(hdu.data[found[0]]).ravel(), found


def _axes(hdulist: fits.HDUList, hdu: Any) -> list[MapAxis]:
    bands = str(hdu.header.get("BANDSHDU", f"{hdu.name}_BANDS"))
    if bands in hdulist:
        if bands.upper() not in ("EBOUNDS", "ENERGIES"):
            axes, orders = read_axes(hdulist[bands])
            if any(np.any(np.diff(order) < 0) for order in orders):
                raise ValueError(f"the bins of HDU {bands} must increase")
            return axes
        names = [bands.upper()]
    else:
        names = [table for table in ("EBOUNDS", "ENERGIES") if table in hdulist]
    if not names:
        return []
    axis, order = energy_axis(hdulist, names[0])
    if np.any(np.diff(order) < 0):
        raise ValueError(f"the energies of HDU {names[0]} must increase")
    return [axis]


def _values(hdu: Any, columns: list[str], axes: list[MapAxis]) -> NDArray[Any]:
    """Values, shape of the axes and of the pixels."""
    shape = tuple(axis.nbin for axis in reversed(axes))
    number = int(np.prod(shape, dtype=int))
    if len(columns) == 1 and axes:
        # One column of vectors.
        values = np.asarray(hdu.data[columns[0]]).reshape(len(hdu.data), -1).T
    elif not axes:
        if len(columns) > 1:
            raise ValueError(
                f"HDU {hdu.name} has the columns {columns}, and no table says which energies they "
                "are of; read the one wanted with astropy.table.Table.read, and give it to "
                "WcsNDMap.from_healpix(values, nside=..., pixels=..., nest=..., frame=..., "
                "axes=...)"
            )
        values = np.asarray(hdu.data[columns[0]]).reshape(1, -1)
    else:
        values = np.stack([np.asarray(hdu.data[column]).ravel() for column in columns])
    if values.dtype.kind not in "iufb":
        raise ValueError(f"HDU {hdu.name} holds {values.dtype.name}, it must hold numbers")
    if len(values) != number:
        raise ValueError(
            f"HDU {hdu.name} has {len(values)} columns of values, but its axes have {number} bins"
        )
    values = values.astype(values.dtype.newbyteorder("=")).reshape(*shape, -1)
    if values.dtype.kind == "f":
        # What healpy writes for pixels that were not seen.
        values[values < UNSEEN] = np.nan
    return values
