"""HEALPix maps, as they are and as maps of the projection HPX.

The centres of HEALPix pixels are a square grid in the projection HPX of FITS (Calabretta & Roukema
2007, MNRAS 381, 865), turned by 45 deg. A HEALPix map is therefore a map on that grid, with every
pixel once and no resampling: counts are conserved, pixels belong to regions by their own centres,
and all have their solid angle. The price is that of the square around the pixels: twice as many
numbers for the whole sky. Beyond 41.8 deg from the equator the sphere is cut into four facets, and
the plane has gaps between these; regions and point-spread functions know the sphere, see
`jaxprof.sky.healpix_grid`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.wcs import WCS
from numpy.typing import NDArray

from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.grids import SAME_PIXEL
from jaxprof.sky.wcsmap import WcsNDMap

NAMES = {"galactic": ("GLON-HPX", "GLAT-HPX"), "icrs": ("RA---HPX", "DEC--HPX")}
SPARSE, SMALL = 50, 1_000_000
"""How many times as many pixels as there are the square around them may have, and some besides."""
ROUND = 1e-6
"""Mean of the unit vectors to the longitudes up to which it has no direction but by rounding."""


def astropy_healpix() -> Any:
    """The package astropy-healpix, which is optional."""
    try:
        return importlib.import_module("astropy_healpix")
    except ImportError:
        raise ImportError(
            "HEALPix maps need astropy-healpix: pip install 'jaxprof[healpix]'"
        ) from None


@dataclass(frozen=True, eq=False)
class HealpixMap:
    """Values of HEALPix pixels.

    Parameters
    ----------
    values : array_like
        Shape ``(n,)`` or, with axes, ``(n_axis_last, ..., n_axis_first, n)``.
    nside : int
        A power of two.
    pixels : array_like of int, optional
        Indices of the n pixels; all pixels of the sky by default.
    nest : bool
        Whether they are numbered in the order NESTED instead of RING.
    frame : {"icrs", "galactic"}
        Frame of the coordinates.
    axes : list of MapAxis
        Further axes, the fastest first.
    unit : str or `~astropy.units.Unit`
        Unit of the values.

    Raises
    ------
    ValueError
        If the shapes disagree, or pixels do not exist or are there twice.
    """

    values: Any
    nside: int
    pixels: Any = None
    nest: bool = False
    frame: str = "icrs"
    axes: tuple[MapAxis, ...] = ()
    unit: Any = ""

    def __post_init__(self) -> None:
        nside = int(self.nside)
        if nside < 1 or nside & (nside - 1) or nside > 2**29:
            raise ValueError(f"nside is {self.nside!r}; it must be a power of two")
        if self.frame not in NAMES:
            raise ValueError(f"frame must be 'icrs' or 'galactic', got {self.frame!r}")
        values = np.asarray(self.values)
        n = values.shape[-1] if values.ndim else 0
        shape = tuple(axis.nbin for axis in reversed(self.axes))
        if values.shape != (*shape, n) or not n:
            raise ValueError(f"values have the shape {values.shape}, expected {(*shape, 'pixels')}")
        number = 12 * nside**2
        if self.pixels is None:
            if n != number:
                raise ValueError(
                    f"values of {n} pixels, but nside={nside} has {number}; give the indices of "
                    "those pixels"
                )
            pixels = np.arange(n)
        else:
            pixels = np.asarray(self.pixels).astype(np.int64)
            if pixels.shape != (n,):
                raise ValueError(f"pixels have the shape {pixels.shape}, but values are of {n}")
            wrong = (pixels < 0) | (pixels >= number)
            if wrong.any():
                raise ValueError(
                    f"pixel {pixels[wrong][0]} is none of the {number} of nside={nside}"
                )
            order = np.argsort(pixels, kind="stable")
            if np.any(np.diff(pixels[order]) == 0):
                raise ValueError("a pixel is there twice")
            pixels, values = pixels[order], values[..., order]
        for name, value in (("values", values), ("pixels", pixels), ("nside", nside)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "unit", u.Unit(self.unit))

    @property
    def order(self) -> str:
        """Order of the pixels as astropy-healpix calls it."""
        return "nested" if self.nest else "ring"

    def near(self, position: SkyCoord, width: Any) -> HealpixMap:
        """The pixels whose centres are within half a width [deg] of a position.

        Raises
        ------
        ValueError
            If there are none, or the width is not positive.
        """
        radius = float(Angle(width, unit="deg").deg) / 2
        if not radius > 0:
            raise ValueError(f"width is {width!r}; it must be positive")
        centers = self._coord()
        kept = np.asarray(centers.separation(position).deg <= radius)
        if not kept.any():
            raise ValueError(f"the HEALPix map has no pixel within {radius:g} deg of the position")
        return HealpixMap(
            self.values[..., kept], self.nside, self.pixels[kept], self.nest, self.frame,
            self.axes, self.unit,
        )  # fmt: skip

    def _coord(self, pixels: NDArray[Any] | None = None) -> SkyCoord:
        """Centres of pixels, those of the map by default."""
        pixels = self.pixels if pixels is None else pixels
        lon, lat = astropy_healpix().healpix_to_lonlat(pixels, self.nside, order=self.order)
        return SkyCoord(lon, lat, frame=self.frame)

    def to_wcs(self, position: SkyCoord | None = None, width: Any = None) -> WcsNDMap:
        """The map on the same pixels in the projection HPX, around those that there are.

        Parameters
        ----------
        position, width : SkyCoord and angle, optional
            Take only the pixels within half a width of a position.

        Returns
        -------
        map : WcsNDMap
            In float64; NaN where the square around the pixels has none.

        Raises
        ------
        ValueError
            If only one of `position` and `width` is given, or there is no pixel.
        """
        if (position is None) != (width is None):
            raise ValueError("give both position and width, or neither")
        if position is not None:
            return self.near(position, width).to_wcs()
        coord = self._coord().spherical
        lon, lat = coord.lon.deg, coord.lat.deg
        # Turns by 90 deg leave the grid as it is. The seam is far from the middle of the pixels.
        mean = np.mean(np.exp(1j * np.deg2rad(lon)))
        middle = 90 * round(np.angle(mean, deg=True) / 90) % 360 if abs(mean) > ROUND else 0
        wcs = hpx_wcs(self.nside, middle, self.frame)
        x, y = (np.rint(v).astype(np.int64) for v in wcs.wcs_world2pix(lon, lat, 0))
        rows, columns = (slice(int(v.min()), int(v.max()) + 1) for v in (y, x))
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        if shape[0] * shape[1] > SPARSE * len(self.pixels) + SMALL:
            raise ValueError(
                f"the {len(self.pixels)} HEALPix pixels of nside={self.nside} are scattered over "
                "the sky; give position and width of the part that is wanted"
            )
        data = np.full((*self.values.shape[:-1], *shape), np.nan)
        data[..., y - rows.start, x - columns.start] = self.values
        geom = WcsGeom(wcs.slice((rows, columns)), shape, self.axes)
        return WcsNDMap(geom, data, self.unit)

    def onto(self, geom: WcsGeom) -> WcsNDMap:
        """The map on the pixels of a geometry, which must be its own; NaN where it has none.

        Raises
        ------
        ValueError
            If these are other pixels.
        """
        at = geom.get_coord().transform_to(self.frame)
        known = np.isfinite(at.spherical.lon.deg)
        at = at[known]
        lon, lat = at.spherical.lon, at.spherical.lat
        index = astropy_healpix().lonlat_to_healpix(lon, lat, self.nside, order=self.order)
        size = np.rad2deg(np.sqrt(np.pi / 3)) / self.nside
        if np.any(at.separation(self._coord(index)).deg > SAME_PIXEL * size):
            raise ValueError(
                f"its pixels are those of HEALPix with nside={self.nside} ({self.frame}), the "
                f"others are not ({geom!r})"
            )
        position, is_there = self._positions(index)
        data = np.full((*self.values.shape[:-1], *geom.npix_shape), np.nan)
        data[..., known] = np.where(is_there, self.values[..., position], np.nan)
        return WcsNDMap(geom.to_cube(self.axes), data, self.unit)

    def _positions(self, index: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Where pixels stand among those of the map, and whether they are there."""
        position = np.minimum(np.searchsorted(self.pixels, index), len(self.pixels) - 1)
        return position, self.pixels[position] == index

    def interp(self, coord: SkyCoord) -> NDArray[np.float64]:
        """Values at positions, between the centres of the four pixels around each.

        Parameters
        ----------
        coord : `~astropy.coordinates.SkyCoord`
            Positions, shape ``(...)``; NaN ones give NaN.

        Returns
        -------
        values : ndarray
            Shape of the axes, then of `coord`. Of the four pixels only those count that there are;
            NaN without any.
        """
        at = coord.transform_to(self.frame).spherical
        lon, lat = (np.atleast_1d(angle.to_value("deg")) for angle in (at.lon, at.lat))
        known = np.isfinite(lon + lat)
        lon, lat = (u.Quantity(np.where(known, angle, 0.0), "deg") for angle in (lon, lat))
        index, weight = astropy_healpix().bilinear_interpolation_weights(
            lon, lat, self.nside, order=self.order
        )
        position, is_there = self._positions(index)
        weight = np.where(is_there & known, weight, 0.0)
        total = weight.sum(axis=0)
        with np.errstate(invalid="ignore"):
            weight = weight / np.where(total > 0, total, np.nan)
        # A pixel without weight may be NaN.
        parts = np.where(weight == 0, 0.0, self.values[..., position] * weight)
        found = parts.sum(axis=self.values.ndim - 1)
        return np.reshape(found, (*self.values.shape[:-1], *coord.shape))


def hpx_wcs(nside: int, longitude: float, frame: str) -> WCS:
    """Projection HPX whose pixels are those of HEALPix, a square of 5 nside pixels a side."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = NAMES[frame]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [longitude, 0.0]
    wcs.wcs.crpix = [(5 * nside + 1) / 2] * 2
    wcs.wcs.cdelt = [-90 / nside, 90 / nside]
    wcs.wcs.pc = [[0.5, 0.5], [-0.5, 0.5]]
    wcs.wcs.set_pv([(2, 1, 4), (2, 2, 3)])
    if frame == "icrs":
        wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs
