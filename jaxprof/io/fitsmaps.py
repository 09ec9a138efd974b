"""FITS HDUs of maps, cubes and instrument responses (the "gadf" map format).

A map is an image HDU or, for a response without a sky grid, a table with the columns
CHANNEL and DATA. Its further axes are in a table, see `jaxprof.io.axes`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from jaxprof.io.axes import axes_of, axis_cards, bands_hdu, reordered
from jaxprof.io.units import unit_of
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

# The cards that define a celestial image. Dates and the like are left out: they change
# nothing about the pixels and make astropy warn.
_WCS_KEYS = ("CTYPE", "CRPIX", "CRVAL", "CDELT", "CUNIT", "CROTA", "PC", "CD", "PV")
_WCS_TEXT = ("CTYPE", "CUNIT")
_WCS_NAMES = ("LONPOLE", "LATPOLE", "RADESYS", "RADECSYS", "EQUINOX")
_DISTORTIONS = ("A_ORDER", "B_ORDER", "CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2")


class FitsArray(NamedTuple):
    """Contents of a map HDU.

    Attributes
    ----------
    data : ndarray
        Shape ``(n_axis_last, ..., n_axis_first[, ny, nx])``.
    axes : list of MapAxis
        Further axes, the fastest first.
    geom : WcsGeom or None
        Sky grid with the axes; None for a table.
    unit : `~astropy.units.Unit`
        Unit of the data.
    """

    data: NDArray[Any]
    axes: list[MapAxis]
    geom: WcsGeom | None
    unit: u.UnitBase


def image_names(hdulist: fits.HDUList) -> list[str]:
    """Names of the HDUs that hold an image, or a HEALPix map, with sky coordinates."""
    found = []
    for number, hdu in enumerate(hdulist):
        header = hdu.header
        if not hdu.name:
            hdu.name = f"HDU{number}"
        sky = str(header.get("CTYPE1", "")) != "" and header.get("NAXIS", 0) >= 2
        if (hdu.is_image and sky) or str(header.get("PIXTYPE", "")).upper() == "HEALPIX":
            found.append(hdu.name)
    return found


def read_map(hdulist: fits.HDUList, name: str, cache: dict[Any, WCS] | None = None) -> WcsNDMap:
    """Read a sky image or cube; see `read_array` for the arguments.

    Raises
    ------
    ValueError
        Also if the HDU has no sky grid.
    """
    data, _, geom, unit = read_array(hdulist, name, cache)
    if geom is None:
        raise ValueError(
            f"HDU {name} is a table of one sky region, not a sky map; spectrum datasets "
            "have no profile"
        )
    return WcsNDMap(geom, data, unit)


def read_array(hdulist: fits.HDUList, name: str, cache: dict[Any, WCS] | None = None) -> FitsArray:
    """Read the data, axes and sky grid of an HDU.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open file.
    name : str
        Name of the HDU. Data of a HDU with "MASK" in its name become boolean.
    cache : dict, optional
        Keeps WCS objects, so that maps on the same sky grid share one.

    Returns
    -------
    array : FitsArray

    Raises
    ------
    ValueError
        If the HDU or its axes cannot be understood; the message names the HDU.
    """
    hdu = hdulist[name]
    bands_name, axes, orders = axes_of(hdulist, hdu)
    if isinstance(hdu, fits.BinTableHDU):
        data, unit = _read_table(hdu, axes)
        return FitsArray(reordered(data, orders), axes, None, unit)
    data = hdu.data
    if data is None:
        raise ValueError(f"HDU {name} has no data")
    _check_numbers(data, name)
    shape = tuple(axis.nbin for axis in reversed(axes))
    if not axes and data.ndim > 2 and data.size == np.prod(data.shape[-2:]):
        # Axes of one bin about which nothing is said.
        data = data.reshape(data.shape[-2:])
    if data.ndim > 2 and not axes:
        raise ValueError(
            f"HDU {name} has data of shape {data.shape}, but no table says what its images are: "
            f"{bands_name}, EBOUNDS (energy bins) or ENERGIES (energies of nodes)"
        )
    if data.shape[:-2] != shape or data.ndim < 2:
        raise ValueError(
            f"HDU {name} has data of shape {data.shape}, but the axes of {bands_name} make "
            f"{(*shape, 'ny', 'nx')}"
        )
    data = reordered(data.astype(data.dtype.newbyteorder("="), copy=False), orders)
    if "MASK" in name.upper():
        if data.dtype.kind == "f" and np.isnan(data).any():
            raise ValueError(
                f"HDU {name} is a mask with {np.isnan(data).sum()} pixels NaN; write 0 (masked) or "
                "1 there"
            )
        data = data != 0
    geom = WcsGeom(_celestial_wcs(hdu, cache), data.shape[-2:], axes)
    return FitsArray(data, axes, geom, unit_of(str(hdu.header.get("BUNIT", "")), name))


def _read_table(hdu: fits.BinTableHDU, axes: list[MapAxis]) -> tuple[NDArray[Any], u.UnitBase]:
    """DATA column of a region table, in native byte order."""
    names = [column.upper() for column in hdu.columns.names]
    if "DATA" not in names:
        kind = hdu.header.get("PIXTYPE", "")
        raise ValueError(
            f"HDU {hdu.name} is a {kind + ' ' if kind else ''}table with the columns {names}; "
            "a sky image, or a table with CHANNEL and DATA, is expected"
        )
    column = np.asarray(hdu.data["DATA"])
    _check_numbers(column, hdu.name)
    shape = tuple(axis.nbin for axis in reversed(axes))
    if column.size != np.prod(shape, dtype=int):
        raise ValueError(f"HDU {hdu.name} has {column.size} rows, but its axes make {shape} bins")
    data = column.astype(column.dtype.newbyteorder("=")).reshape(shape)
    return data, unit_of(hdu.columns["DATA"].unit or "", hdu.name)


def _check_numbers(data: NDArray[Any], name: str) -> None:
    if data.dtype.kind not in "iufb":
        raise ValueError(f"HDU {name} holds {data.dtype.name}, it must hold numbers")


def celestial_geom(hdu: Any) -> WcsGeom:
    """Pixels of an image HDU, whatever further axes it has."""
    return WcsGeom(_celestial_wcs(hdu, None), hdu.data.shape[-2:])


def _celestial_wcs(hdu: Any, cache: dict[Any, WCS] | None) -> WCS:
    cards = []
    for key, value in hdu.header.items():
        stem = key.rstrip("0123456789_")
        axes = key[len(stem) :].split("_")
        if stem == "PV":  # PVi_m is parameter m of axis i
            axes = axes[:1]
        if key in _WCS_NAMES or (stem in _WCS_KEYS and all(axis in ("1", "2") for axis in axes)):
            # The old name of a keyword, about which astropy would warn.
            cards.append((key.replace("RADECSYS", "RADESYS"), _card(hdu.name, key, value, stem)))
        if key in _DISTORTIONS or (stem == "CTYPE" and str(value).strip().endswith("-SIP")):
            raise ValueError(
                f"the pixels of HDU {hdu.name} are distorted ({key} = {value!r}), which maps here "
                "are not; put the image on pixels without, for instance with reproject"
            )
    identity = tuple(cards)
    if cache is not None and identity in cache:
        return cache[identity]
    try:
        wcs = WCS(fits.Header(cards), naxis=2, fix=False)
        if wcs.has_celestial:
            wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise ValueError(f"the coordinates of HDU {hdu.name} make no sense: {error}") from error
    # astropy takes ecliptic coordinates for equatorial ones.
    if not wcs.has_celestial or wcs.wcs.lngtyp not in ("RA", "GLON"):
        raise ValueError(
            f"HDU {hdu.name} has no celestial coordinates that are known, RA and DEC or GLON and "
            f"GLAT (CTYPE {list(wcs.wcs.ctype)})"
        )
    if wcs.wcs.lng != 0:
        raise ValueError(f"the first axis of HDU {hdu.name} is the latitude; transpose the image")
    if cache is not None:
        cache[identity] = wcs
    return wcs


def _card(hdu_name: str, key: str, value: Any, stem: str) -> Any:
    """A value as WCS understands it; ValueError for one that it would replace by its default."""
    is_text = stem in _WCS_TEXT or key.startswith("RADE")
    known = is_text or stem in _WCS_KEYS or key in ("LONPOLE", "LATPOLE")
    right = isinstance(value, str) if is_text else isinstance(value, int | float)
    if known and (isinstance(value, bool) or not right):
        raise ValueError(
            f"{key} of HDU {hdu_name} is {value!r}, it must be {'text' if is_text else 'a number'}"
        )
    if stem == "CUNIT" and value.strip():
        return unit_of(value, hdu_name).to_string("fits")
    if key == "EQUINOX" and isinstance(value, str):
        return float(value.strip().lstrip("BJ"))
    return value.upper() if key.startswith("RADE") else value


def map_to_hdus(map_: WcsNDMap, name: str) -> list[Any]:
    """HDUs of a sky map: the image and, if it has further axes, its BANDS table.

    Parameters
    ----------
    map_ : WcsNDMap
        Boolean data are written as 8-bit integers.
    name : str
        Name of the image HDU.
    """
    return array_to_hdus(FitsArray(map_.data, map_.geom.axes, map_.geom, map_.unit), name)


def array_to_hdus(array: FitsArray, name: str) -> list[Any]:
    """HDUs of an array with axes, with or without a sky grid.

    Parameters
    ----------
    array : FitsArray
        The axes are taken from ``array.axes``.
    name : str
        Name of the first HDU; the second is ``<name>_BANDS``.
    """
    data = array.data.astype(np.uint8) if array.data.dtype == bool else array.data
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
        raise ValueError(f"{name} holds {data.dtype.name}, which FITS does not; convert it")
    if data.dtype == np.float16:
        data = data.astype(np.float32)
    unit = array.unit.to_string("fits")
    if array.geom is None:
        columns = [
            fits.Column("CHANNEL", "K", array=np.arange(data.size)),
            fits.Column("DATA", "D", unit=unit or None, array=data.astype(np.float64).ravel()),
        ]
        hdu = fits.BinTableHDU.from_columns(columns, name=name)
    else:
        hdu = fits.ImageHDU(data, header=array.geom.wcs.to_header(), name=name)
        shape = (*array.geom.npix_shape[::-1], *(axis.nbin for axis in array.axes))
        hdu.header["WCSSHAPE"] = "({})".format(",".join(str(n) for n in shape))
        hdu.header["BUNIT"] = unit
        hdu.header["META"] = "{}"
    if not array.axes:
        return [hdu]
    bands = f"{name}_BANDS"
    hdu.header["BANDSHDU"] = bands
    cards = axis_cards(array.axes)
    hdu.header.update(cards)
    return [hdu, bands_hdu(array.axes, bands, cards)]
