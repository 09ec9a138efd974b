"""FITS files of single maps: images, cubes, masks, templates."""

from __future__ import annotations

import os
from typing import Any

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.io.asciitext import ascii_text
from jaxprof.io.fitsfile import fits_file
from jaxprof.io.fitsmaps import image_names, map_to_hdus, read_map
from jaxprof.io.healpix import is_healpix, read_healpix
from jaxprof.io.integrity import write_fits
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import atomic_write, known_extension
from jaxprof.sky import WcsGeom, WcsNDMap

EXTENSIONS = (".fits", ".fits.gz")


def read_wcs_map(
    path: str | os.PathLike[str],
    hdu: str | None = None,
    position: SkyCoord | None = None,
    width: Any = None,
) -> tuple[WcsGeom, NDArray[Any], u.UnitBase]:
    """Geometry, data and unit of a map in a file; see `WcsNDMap.read`."""
    with fits_file(path) as hdulist:
        name = map_name(hdulist, hdu)
        if is_healpix(hdulist[name]):
            map_ = read_healpix(hdulist, name).to_wcs(position, width)
        elif position is not None or width is not None:
            raise ValueError(
                "position and width are for HEALPix maps; read the map and use cutout(...)"
            )
        else:
            map_ = read_map(hdulist, name)
        return map_.geom, map_.data, map_.unit


def map_name(hdulist: fits.HDUList, hdu: str | None) -> str:
    """Name of the HDU of a map, the first one by default.

    Raises
    ------
    ValueError
        If there is no such HDU, or none with a map; the message tells what the file is.
    """
    names = image_names(hdulist)
    if hdu is not None:
        if hdu not in hdulist:
            raise ValueError(f"there is no HDU {hdu!r}; maps are {names}")
        return hdulist[hdu].name
    if not names:
        raise ValueError(f"there is no map in it: {what_it_is(hdulist)}")
    return names[0]


def write_wcs_map(
    map_: WcsNDMap, path: str | os.PathLike[str], hdu: str, *, overwrite: bool = False
) -> None:
    """Write one map; see `WcsNDMap.write`."""
    known_extension(path, EXTENSIONS)
    if not isinstance(hdu, str) or hdu.upper() == "PRIMARY" or hdu != ascii_text(hdu):
        raise ValueError(f"hdu is {hdu!r}; it must be text in ASCII, and not PRIMARY")
    if "MASK" in hdu.upper() and not map_.is_mask:
        raise ValueError(
            f"hdu is {hdu!r}, but the map holds {map_.data.dtype.name}: maps with MASK in their "
            "name are read as masks; choose another, or write map != 0"
        )
    with atomic_write(path, overwrite=overwrite) as temporary:
        write_fits([fits.PrimaryHDU(), *map_to_hdus(map_, hdu)], temporary)
