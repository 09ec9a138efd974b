"""HEALPix tables in FITS files: of healpy, gtbin and gtexpcube2, gammapy and others.

A map is a table with a row for each pixel and a column for each energy (or healpy's, with several
pixels in a row). Partial maps have a column of pixel indices. Energies are in a table
"<HDU>_BANDS", EBOUNDS or ENERGIES.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.io.axes import energy_axis, energy_tables, read_axes, reordered
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
    nside = header.get("NSIDE")
    if type(nside) is not int:
        raise ValueError(f"NSIDE of HDU {name} is {nside!r}; it must be a whole number")
    if not len(hdu.data):
        raise ValueError(f"HDU {name} has no rows")
    columns = [str(column) for column in hdu.columns.names]
    axes, orders = _axes(hdulist, hdu)
    if str(header.get("INDXSCHM", "")).upper() == "SPARSE":
        pixels, values = _sparse(hdu, columns, axes, nside, order, _FRAMES[frame])
    else:
        pixels, used = _pixels(hdu, columns)
        values = _values(hdu, [column for column in columns if column not in used], axes)
    values = reordered(values, orders)
    unit = header.get("BUNIT", hdu.columns[columns[-1]].unit or "")
    nest = order != "RING"
    return HealpixMap(
        values, nside, pixels, nest, _FRAMES[frame], tuple(axes), unit_of(str(unit), name)
    )


def _pixels(hdu: Any, columns: list[str]) -> tuple[NDArray[Any] | None, list[str]]:
    """Indices of the pixels of a partial map, and columns that are no values."""
    scheme = str(hdu.header.get("INDXSCHM", "")).upper()
    found = [column for column in columns if column.upper() in _PIXEL_COLUMNS]
    if not found or (scheme == "IMPLICIT" and len(hdu.data) == 12 * hdu.header["NSIDE"] ** 2):
        first = hdu.header.get("FIRSTPIX", 0)
        if scheme != "EXPLICIT" and isinstance(first, int) and first > 0:
            return np.arange(first, first + len(hdu.data)), found
        return None, found
    index = np.asarray(hdu.data[found[0]]).ravel()
    if index.dtype.kind not in "iu" and not np.array_equal(index, np.rint(index)):
        raise ValueError(f"column {found[0]} of HDU {hdu.name} must hold whole numbers")
    return index, found


def _sparse(
    hdu: Any, columns: list[str], axes: list[MapAxis], nside: int, order: str, frame: str
) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Pixels and values of a map of gammapy whose zeros are left out; see `HpxNDMap.write`."""
    shape = tuple(axis.nbin for axis in reversed(axes))
    number, n_pixels = int(np.prod(shape, dtype=int)), 12 * nside**2
    if not {"PIX", "VALUE"} <= set(columns) or (number > 1 and "CHANNEL" not in columns):
        raise ValueError(
            f"HDU {hdu.name} is a sparse HEALPix map, but its columns are {columns} instead of "
            "PIX, CHANNEL and VALUE"
        )
    index = np.asarray(hdu.data["PIX"], np.int64)
    channel = np.asarray(hdu.data["CHANNEL"] if "CHANNEL" in columns else 0 * index, np.int64)
    for name, own, size in (("PIX", index, n_pixels), ("CHANNEL", channel, number)):
        if np.any((own < 0) | (own >= size)):
            raise ValueError(f"{name} of HDU {hdu.name} must be from 0 to {size - 1}")
    pixels = _part_of_sky(hdu, nside, order, frame)
    position = index if pixels is None else np.searchsorted(pixels, index)
    if pixels is not None and not np.isin(index, pixels).all():
        raise ValueError(f"HDU {hdu.name} has pixels outside of its HPX_REG")
    values = np.zeros((number, n_pixels if pixels is None else len(pixels)))
    values[channel, position] = hdu.data["VALUE"]
    return pixels, values.reshape(*shape, -1)


def _part_of_sky(hdu: Any, nside: int, order: str, frame: str) -> NDArray[Any] | None:
    """Pixels of a sparse map by its HPX_REG, sorted; None for all of the sky."""
    region = str(hdu.header.get("HPX_REG", "")).strip()
    if not region:
        return None
    found = re.fullmatch(r"DISK\(([^,()]+),([^,()]+),([^,()]+)\)", region)
    try:
        lon, lat, radius = (float(text) for text in found.groups()) if found else (np.nan,) * 3
    except ValueError:
        radius = np.nan
    if not radius > 0:
        raise ValueError(
            f"HDU {hdu.name} is a sparse HEALPix map of the region {region!r}, whose pixels it "
            "does not list; write it with HpxNDMap.write(..., sparse=False)"
        )
    whole = HealpixMap(np.zeros(12 * nside**2), nside, nest=order != "RING", frame=frame)
    center = SkyCoord(lon, lat, unit="deg", frame=frame)
    return np.asarray(whole.near(center, 2 * radius).pixels)


def _axes(hdulist: fits.HDUList, hdu: Any) -> tuple[list[MapAxis], list[NDArray[np.int64]]]:
    """Axes of a map, and in which order their bins are in the file."""
    bands = str(hdu.header.get("BANDSHDU", f"{hdu.name}_BANDS"))
    if bands in hdulist and bands.upper() not in ("EBOUNDS", "ENERGIES"):
        return read_axes(hdulist[bands])
    names = [bands.upper()] if bands in hdulist else energy_tables(hdulist)
    if not names:
        return [], []
    axis, order = energy_axis(hdulist, names[0])
    return [axis], [order]


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
