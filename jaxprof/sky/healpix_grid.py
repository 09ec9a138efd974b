"""Maps whose pixels are those of HEALPix: which pixel is which, and where it is on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.healpix import NAMES, astropy_healpix, hpx_wcs
from jaxprof.types import Array

SAME = 1e-6
"""Part of a pixel up to which its position is rounding."""


@dataclass(frozen=True)
class HealpixGrid:
    """Pixels of HEALPix on the pixels of a map; they are numbered in the order NESTED.

    Attributes
    ----------
    nside : int
        Resolution.
    geom : WcsGeom
        The map, as `jaxprof.sky.healpix.HealpixMap.to_wcs` makes it.
    """

    nside: int
    geom: WcsGeom

    @property
    def solid_angle(self) -> float:
        """Of each pixel [sr]."""
        return float(np.pi / 3 / self.nside**2)

    def index(self, y: Array, x: Array) -> NDArray[np.int64]:
        """Numbers of the HEALPix pixels at pixels of the map, also off it; -1 where none is."""
        lon, lat = self.geom.closed().wcs.all_pix2world(x, y, 0)
        known = np.isfinite(lon + lat)
        found = np.full(len(known), -1, np.int64)
        found[known] = astropy_healpix().lonlat_to_healpix(
            lon[known] * u.deg, lat[known] * u.deg, self.nside, order="nested"
        )
        return found

    def holding(self, lon: float, lat: float) -> tuple[Array, Array]:
        """The pixel (1,) that holds a position [deg], and the offset (dy, dx) there, (2, 1)."""
        index, dx, dy = astropy_healpix().lonlat_to_healpix(
            [lon] * u.deg, [lat] * u.deg, self.nside, return_offsets=True, order="nested"
        )
        return np.asarray(index, np.int64), np.stack([dy - 0.5, 0.5 - dx])

    def positions(self, index: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels (y, x) of the map, also off it, at which HEALPix pixels are."""
        lon, lat = astropy_healpix().healpix_to_lonlat(index, self.nside, order="nested")
        x, y = self.geom.wcs.wcs_world2pix(lon.to_value("deg"), lat.to_value("deg"), 0)
        return np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)

    def vectors(self, index: Array, dy: Any = 0.0, dx: Any = 0.0) -> Array:
        """Unit vectors (..., 3) in the frame of the map, at offsets [pixels] from pixel centres.

        Pixels and offsets broadcast. Equal areas of the pixel are equal areas on the sphere
        (Gorski et al. 2005, ApJ 622, 759).
        """
        index, dy, dx = np.broadcast_arrays(index, dy, dx)
        lon, lat = astropy_healpix().healpix_to_lonlat(
            index.ravel(),
            self.nside,
            # To the north east, and to the north west.
            dx=np.clip(0.5 - dx.ravel(), 0.0, 1.0),
            dy=np.clip(0.5 + dy.ravel(), 0.0, 1.0),
            order="nested",
        )
        return _unit_vectors(lon, lat).reshape(*index.shape, 3)

    def around(self, index: Array, dy: Array, dx: Array) -> tuple[Array, Array]:
        """The four pixels around offsets in pixels (n,), and their weights, (4, n) each.

        Between rings and along them, as healpy does it; of a centre it is the pixel itself.
        """
        pixels = np.broadcast_to(index, (4, len(index))).copy()
        weights = np.zeros(pixels.shape)
        weights[0] = 1.0
        moved = np.maximum(np.abs(dy), np.abs(dx)) > SAME
        at = self.vectors(index[moved], dy[moved], dx[moved])
        lon = np.arctan2(at[:, 1], at[:, 0]) % (2 * np.pi)
        lat = np.arctan2(at[:, 2], np.hypot(at[:, 0], at[:, 1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            found, share = astropy_healpix().bilinear_interpolation_weights(
                lon * u.rad, lat * u.rad, self.nside, order="nested"
            )
        # Where a position is on a ring, or at a pole, astropy-healpix may divide by zero.
        sound = (np.isfinite(share) & (share > -SAME) & (share < 1 + SAME)).all(axis=0)
        sound &= ((found >= 0) & (found < 12 * self.nside**2)).all(axis=0)
        moved[moved] = sound
        pixels[:, moved] = found[:, sound]
        weights[:, moved] = share[:, sound]
        return pixels, weights

    def near(self, points: Array, radius: float) -> NDArray[np.int64]:
        """Pixels whose centres are within a radius [deg] of any of some unit vectors (n, 3)."""
        from scipy.spatial import cKDTree  # which imports much

        tree = cKDTree(points)
        index, nside = np.arange(12), 1
        while True:
            # No part of a pixel is further from its centre than its mean width.
            size = np.sqrt(np.pi / 3) / nside if nside < self.nside else 0.0
            lon, lat = astropy_healpix().healpix_to_lonlat(index, nside, order="nested")
            limit = chord(np.deg2rad(radius) + size)
            distance, _ = tree.query(_unit_vectors(lon, lat), distance_upper_bound=limit * 1.000001)
            index = index[np.isfinite(distance)]
            if nside == self.nside:
                return index
            index, nside = (4 * index[:, np.newaxis] + np.arange(4)).ravel(), 2 * nside


def chord(angle: Any) -> Any:
    """Distance of unit vectors by the angle [rad] between them."""
    return 2 * np.sin(np.minimum(angle, np.pi) / 2)


def _unit_vectors(lon: Any, lat: Any) -> Array:
    lon, lat = lon.to_value("rad"), lat.to_value("rad")
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def healpix_grid(geom: WcsGeom) -> HealpixGrid | None:
    """HEALPix pixels of a map; None if it has others."""
    wcs = geom.wcs
    ctype = tuple(str(name) for name in wcs.wcs.ctype)
    frames = [frame for frame, names in NAMES.items() if names == ctype]
    if not frames or geom.frame != frames[0]:
        return None
    matrix = wcs.pixel_scale_matrix
    nside = round(45 / abs(matrix[0, 0])) if matrix[0, 0] else 0
    if nside < 1 or nside & (nside - 1):
        return None
    whole = hpx_wcs(nside, float(wcs.wcs.crval[0]), frames[0])
    first = whole.wcs.crpix - wcs.wcs.crpix
    same = np.allclose(matrix * nside, whole.pixel_scale_matrix * nside, atol=45 * SAME)
    same &= np.allclose(first, np.rint(first), atol=SAME)
    same &= float(wcs.wcs.crval[0]) % 90 == 0 and float(wcs.wcs.crval[1]) == 0
    same &= sorted(wcs.wcs.get_pv()) in ([], sorted(whole.wcs.get_pv()))
    return HealpixGrid(nside, geom.to_image()) if same else None
