"""Pixel grids as WCS and shapes: made, scaled, compared, cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord, proj_plane_pixel_scales
from numpy.typing import NDArray

Array = NDArray[np.float64]

SAME_PIXEL = 1e-3
"""Distance in pixels up to which two positions are one: headers are rounded."""
EQUAL_PIXEL = 1e-6
"""The same for geometries that are equal."""


def degrees_pair(value: Any, what: str) -> Array:
    """(lon, lat) in degrees from a number, string, Quantity or pair of them."""
    try:
        if isinstance(value, tuple | list):
            pair = [float(Angle(item, unit="deg").deg) for item in value]
        else:
            pair = list(np.atleast_1d(Angle(value, unit="deg").deg))
    except (ValueError, TypeError, u.UnitsError) as error:
        raise ValueError(f"{what} is {value!r}, which is no angle: {error}") from error
    if len(pair) not in (1, 2) or not all(item > 0 for item in pair):
        raise ValueError(f"{what} must be one or two positive angles (lon, lat), got {value!r}")
    return np.array(pair * (3 - len(pair)), dtype=float)


def pixel_degrees(wcs: WCS) -> Array:
    """Angular size of a pixel (lon, lat) at the reference point [deg]."""
    scales = u.Quantity(proj_plane_pixel_scales(wcs), wcs.wcs.cunit[0])
    return np.asarray(scales.to_value("deg"))


def centred_wcs(center: SkyCoord, size: Array, shape: tuple[int, int], proj: str) -> WCS:
    """WCS of ``shape`` (ny, nx) pixels of ``size`` (lon, lat) [deg] around a position.

    The position is icrs or galactic, and the reference point of the projection.
    """
    names = ("GLON", "GLAT") if center.frame.name == "galactic" else ("RA", "DEC")
    ny, nx = shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"{name:-<5}{proj.upper()}" for name in names]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [center.spherical.lon.deg, center.spherical.lat.deg]
    wcs.wcs.crpix = [(nx + 1) / 2, (ny + 1) / 2]
    wcs.wcs.cdelt = [-size[0], size[1]]
    if center.frame.name == "icrs":
        wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def scaled_wcs(wcs: WCS, factor: float) -> WCS:
    """WCS with as many times more pixels along each side."""
    wcs = wcs.deepcopy()
    wcs.wcs.crpix = (np.asarray(wcs.wcs.crpix) - 0.5) * factor + 0.5
    if wcs.wcs.has_cd():
        wcs.wcs.cd = wcs.wcs.cd / factor
    else:
        wcs.wcs.cdelt = np.asarray(wcs.wcs.cdelt) / factor
    wcs.wcs.set()
    return wcs


def same_positions(wcs: WCS, other: WCS, shape: tuple[int, int], tolerance: float) -> bool:
    """Whether the pixels of two WCS are at the same positions, to a part of a pixel."""
    if wcs is other:
        return True
    # Two points in each of some pixels, away from the edges of the projection: a single pixel
    # may be turned.
    at = [np.unique(np.linspace(0, n - 1, 24).round()) for n in shape]
    y, x = np.meshgrid(*(np.concatenate([i - 0.25, i + 0.25]) for i in at), indexing="ij")
    here, there = (pixel_to_skycoord(x, y, own) for own in (wcs, other))
    if not here.frame.is_equivalent_frame(there.frame):
        there = there.transform_to(here.frame)
    a, b = (position.cartesian.xyz.value for position in (here, there))
    distance = np.rad2deg(np.linalg.norm(a - b, axis=0))
    known = np.isfinite(distance)
    same = np.isfinite(a).all(axis=0) == np.isfinite(b).all(axis=0)
    limit = tolerance * float(pixel_degrees(wcs).min())
    return bool(np.all(same) and np.all(distance[known] < limit))


def slices_around(
    wcs: WCS, shape: tuple[int, int], position: SkyCoord, width: Any
) -> tuple[slice, slice]:
    """Slices (y, x) of the part of a map around a position, see `WcsGeom.cutout_slices`."""
    from astropy.nddata.utils import NoOverlapError, overlap_slices

    if not isinstance(position, SkyCoord) or not position.isscalar:
        raise ValueError(f"position is {position!r}; give one astropy SkyCoord")
    size = np.round(degrees_pair(width, "width") / pixel_degrees(wcs))
    nx, ny = (max(int(n), 1) for n in size)
    x, y = (float(p) for p in position.to_pixel(wcs, mode="wcs"))
    try:
        if not np.isfinite(x + y):
            raise NoOverlapError
        (rows, columns), _ = overlap_slices(shape, (ny, nx), (y, x), mode="trim")
    except NoOverlapError:
        raise ValueError(
            f"the cutout at {position.to_string()} of width {width} is off the map"
        ) from None
    return rows, columns


class KeptArrays:
    """What is derived from a WCS, made once, and again if the WCS is changed in place."""

    def __init__(self) -> None:
        self._wcs: WCS | None = None
        self._found: dict[str, Any] = {}

    def get(self, wcs: WCS, name: str, make: Callable[[], Any], *, keep: bool = True) -> Any:
        """What ``make`` returns, now or earlier; it is kept by its name if it is to be."""
        if self._wcs is None or not self._wcs.wcs.compare(wcs.wcs):
            self._wcs, self._found = wcs.deepcopy(), {}
        if name in self._found:
            return self._found[name]
        found = make()
        if keep:
            self._found[name] = found
        return found
