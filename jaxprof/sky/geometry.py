"""Pixel grids on the sky."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord, wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from jaxprof.sky.axes import MapAxes, MapAxis
from jaxprof.sky.closed import closed_wcs, healpix_wcs, whole_turn
from jaxprof.sky.grids import (
    EQUAL_PIXEL,
    SAME_PIXEL,
    KeptArrays,
    centred_wcs,
    degrees_pair,
    pixel_degrees,
    same_positions,
    scaled_wcs,
    slices_around,
)
from jaxprof.sky.pixel_solid_angles import map_solid_angles, pixel_solid_angles

KEEP_BELOW = 1_000_000
"""Pixels of a map whose derived arrays, some tens of bytes a pixel, are kept."""


class WcsGeom:
    """Pixel grid on the sky, with further axes.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        Celestial, two-dimensional.
    shape : tuple of int
        Number of pixels ``(ny, nx)``.
    axes : sequence of MapAxis
        Further axes, the fastest first (for an energy cube the energy axis alone).

    Raises
    ------
    ValueError
        If the WCS is not a celestial image or the shape not two positive integers.
    """

    def __init__(self, wcs: WCS, shape: tuple[int, int], axes: Sequence[MapAxis] = ()) -> None:
        if wcs.naxis != 2 or not wcs.has_celestial:
            raise ValueError(f"wcs must be a celestial image, got the axes {list(wcs.wcs.ctype)}")
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape must be two positive integers (ny, nx), got {shape}")
        self.wcs = wcs
        self.npix_shape = (int(shape[0]), int(shape[1]))
        self.axes = axes
        self._kept = KeptArrays()

    @classmethod
    def create(
        cls,
        skydir: Any = None,
        *,
        binsz: Any = 1.0,
        width: Any = None,
        npix: Any = None,
        frame: str = "icrs",
        proj: str = "CAR",
        axes: Sequence[MapAxis] = (),
    ) -> WcsGeom:
        """Grid centred on a sky position.

        Parameters
        ----------
        skydir : `~astropy.coordinates.SkyCoord` or (lon, lat) in deg, optional
            Centre of the map and reference point of the projection; default (0, 0).
        binsz : angle or (lon, lat)
            Size of a pixel; plain numbers in deg.
        width : angle or (lon, lat), optional
            Size of the map, rounded to whole pixels.
        npix : int or (nx, ny), optional
            Size in pixels instead of `width`. With neither, the whole sky.
        frame : {"icrs", "galactic"}
            Coordinate frame.
        proj : str
            Three-letter code of a FITS projection.
        axes : sequence of MapAxis
            Further axes.

        Raises
        ------
        ValueError
            If the frame is unknown or a size not positive.
        """
        if frame not in ("icrs", "galactic"):
            raise ValueError(f"frame must be 'icrs' or 'galactic', got {frame!r}")
        size = degrees_pair(binsz, "binsz")
        if npix is not None:
            nx, ny = (int(n) for n in np.broadcast_to(npix, (2,)))
        else:
            extent = np.array([360.0, 180.0]) if width is None else degrees_pair(width, "width")
            nx, ny = (max(int(n), 1) for n in np.round(extent / size))
        if skydir is None:
            skydir = (0.0, 0.0)
        if isinstance(skydir, SkyCoord):
            center = skydir.transform_to(frame)
        else:
            lon, lat = (Angle(item, unit="deg") for item in skydir)
            center = SkyCoord(lon, lat, frame=frame)
        return cls(centred_wcs(center, size, (ny, nx), proj), (ny, nx), axes)

    @property
    def axes(self) -> MapAxes:
        """Further axes, the fastest first, by number or name: ``geom.axes["energy"]``."""
        return self._axes

    @axes.setter
    def axes(self, axes: Iterable[MapAxis]) -> None:
        self._axes = MapAxes(axes)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of the data, ``(n_axis_last, ..., n_axis_first, ny, nx)``."""
        return (*(axis.nbin for axis in reversed(self.axes)), *self.npix_shape)

    @property
    def is_image(self) -> bool:
        """Whether there are no axes but the two of the sky."""
        return not self.axes

    @property
    def axes_names(self) -> list[str]:
        """Names of all axes, those of the sky first."""
        return ["lon", "lat", *(axis.name for axis in self.axes)]

    @property
    def frame(self) -> str:
        """Name of the coordinate frame: "galactic", "icrs", "fk5", ..."""
        return wcs_to_celestial_frame(self.wcs).name

    @property
    def center_skydir(self) -> SkyCoord:
        """Sky position of the middle of the map."""
        ny, nx = self.npix_shape
        return pixel_to_skycoord((nx - 1) / 2, (ny - 1) / 2, self.wcs)

    @property
    def pixel_scales(self) -> u.Quantity:
        """Angular size of a pixel (lon, lat) at the reference point."""
        return u.Quantity(pixel_degrees(self.wcs), "deg")

    @property
    def width(self) -> u.Quantity:
        """Size of the map (lon, lat): pixel size times number of pixels."""
        return self.pixel_scales * np.array(self.npix_shape[::-1])

    def axis(self, name: str) -> MapAxis:
        """The axis of a name; ValueError if there is none."""
        return self.axes[name]

    def to_image(self) -> WcsGeom:
        """The same pixels without further axes."""
        return WcsGeom(self.wcs, self.npix_shape)

    def to_cube(self, axes: Sequence[MapAxis]) -> WcsGeom:
        """The same pixels with other axes."""
        return WcsGeom(self.wcs, self.npix_shape, axes)

    @property
    def turn(self) -> range | None:
        """Columns of one turn around the sky if the map closes on itself, see `whole_turn`."""
        return whole_turn(self.wcs, self.npix_shape[1])

    def closed(self) -> WcsGeom:
        """The same pixels, which go on beyond the seam if the map closes on itself."""
        if self.wcs.wcs.ctype[0].endswith("HPX") and not self.wcs.has_distortion:
            return WcsGeom(healpix_wcs(self.wcs), self.npix_shape)
        turn = self.turn
        return self if turn is None else WcsGeom(closed_wcs(self.wcs, turn), self.npix_shape)

    def upsample(self, factor: int) -> WcsGeom:
        """The same sky with each pixel cut into ``factor`` x ``factor``; no other axes."""
        ny, nx = self.npix_shape
        fine = WcsGeom(scaled_wcs(self.wcs, factor), (ny * factor, nx * factor))
        # Solid angles change slowly: those of the parts of a pixel are the same.
        each = self.solid_angle().value / factor**2
        own = np.repeat(np.repeat(each, factor, axis=0), factor, axis=1)
        fine._kept.get(fine.wcs, "solid_angle", lambda: own)
        return fine

    def downsample(self, factor: int) -> WcsGeom:
        """The same sky with ``factor`` x ``factor`` pixels in one, also beyond; no other axes."""
        ny, nx = (-(-n // factor) for n in self.npix_shape)
        return WcsGeom(scaled_wcs(self.wcs, 1 / factor), (ny, nx))

    def is_allclose_image(self, other: WcsGeom) -> bool:
        """Whether another geometry has the same pixels on the sky.

        Positions are compared, not headers: those may say the same in different words.
        """
        return self._same_pixels(other, SAME_PIXEL)

    def _same_pixels(self, other: WcsGeom, tolerance: float) -> bool:
        """Whether pixels are at the same positions, to a part of a pixel."""
        return self.npix_shape == other.npix_shape and same_positions(
            self.wcs, other.wcs, self.npix_shape, tolerance
        )

    def is_allclose(self, other: WcsGeom) -> bool:
        """Whether another geometry has the same pixels and the same axes."""
        return (
            len(self.axes) == len(other.axes)
            and self.is_allclose_image(other)
            and all(a.is_allclose(b) for a, b in zip(self.axes, other.axes, strict=True))
        )

    def get_coord(self) -> SkyCoord:
        """Sky positions of the pixel centres, shape ``(ny, nx)``."""
        y, x = np.indices(self.npix_shape)
        return pixel_to_skycoord(x, y, self.wcs)

    def separation(self, center: SkyCoord) -> Angle:
        """Angular distances of the pixel centres from a position, shape ``(ny, nx)``."""
        return self.get_coord().separation(center)

    def region_mask(self, regions: Any, inside: bool = True) -> Any:
        """Pixels whose centre is in any of some regions.

        Parameters
        ----------
        regions : SkyRegion, Regions or iterable of SkyRegion
            Sky regions.
        inside : bool
            False for the pixels outside all of them.

        Returns
        -------
        mask : WcsNDMap
            Of booleans, the same at all energies.

        Raises
        ------
        ValueError
            If a region is none that is known.
        """
        from jaxprof.sky.masks import region_mask

        return region_mask(self, regions, inside)

    def energy_mask(
        self, energy_min: Any = None, energy_max: Any = None, round_to_edge: bool = False
    ) -> Any:
        """Bins that lie in an energy range as a whole.

        Parameters
        ----------
        energy_min, energy_max : `~astropy.units.Quantity` or str, optional
            The range; None leaves an end open.
        round_to_edge : bool
            Whether to round the ends to the nearest edges of bins first.

        Returns
        -------
        mask : WcsNDMap
            Of booleans.

        Raises
        ------
        ValueError
            If there is no energy axis, or an end is no energy.
        """
        from jaxprof.sky.masks import energy_mask

        return energy_mask(self, energy_min, energy_max, round_to_edge=round_to_edge)

    def pixel_coordinates(self, coord: SkyCoord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Zero-based pixel coordinates (x, y) of sky positions; NaN off the projection."""
        # mode="wcs" keeps positions out of the projection as NaN instead of raising.
        x, y = coord.to_pixel(self.wcs, mode="wcs")
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def holds(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether pixel coordinates are on the map, its border (to rounding) included."""
        ny, nx = self.npix_shape
        low, high = -0.5 - 1e-6, -0.5 + 1e-6
        with np.errstate(invalid="ignore"):
            return np.asarray((x >= low) & (x <= nx + high) & (y >= low) & (y <= ny + high))

    def pixel_index(
        self, coord: SkyCoord
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Nearest pixel of sky positions.

        Parameters
        ----------
        coord : `~astropy.coordinates.SkyCoord`
            Positions of any shape.

        Returns
        -------
        y, x : ndarray of int
            Pixel indices, shape of `coord`; 0 where outside.
        inside : ndarray of bool
            Whether the position is on the map.
        """
        x, y = self.pixel_coordinates(coord)
        with np.errstate(invalid="ignore"):
            # A position on the border of two pixels goes to the lower one, as in gammapy:
            # the centre of a map of even size is such a position.
            x, y = np.ceil(x - 0.5), np.ceil(y - 0.5)
            ny, nx = self.npix_shape
            inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        return (
            np.where(inside, y, 0).astype(np.int64),
            np.where(inside, x, 0).astype(np.int64),
            inside,
        )

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What is derived from the pixels, made once and kept with them unless they are many.

        Its name tells what it is; it is made from the WCS and the shape of the map alone.
        """
        keep = math.prod(self.npix_shape) < KEEP_BELOW
        return self._kept.get(self.wcs, name, make, keep=keep)

    def solid_angle(self) -> u.Quantity:
        """Solid angles of the pixels in sr, shape ``(ny, nx)``; see `pixel_solid_angle`."""
        found = self._kept.get(
            self.wcs, "solid_angle", lambda: map_solid_angles(self.wcs, self.npix_shape)
        )
        return u.Quantity(found, "sr", copy=True)

    def pixel_solid_angle(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Solid angles of any pixels, on the map or off it; see `pixel_solid_angles`.

        Parameters
        ----------
        x, y : array_like
            Zero-based pixel indices, any integers.

        Returns
        -------
        solid_angle : ndarray
            In sr, in the broadcast shape. Of a pixel on the rim of the projection only the part on
            the sky counts; zero where there is none.
        """
        return pixel_solid_angles(self.wcs, x, y)

    def cutout_slices(self, position: SkyCoord, width: Any) -> tuple[slice, slice]:
        """Slices (y, x) of the part of the map around a position.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            Centre of the part.
        width : angle or (lon, lat)
            Its size; plain numbers in deg. What leaves the map is trimmed.

        Raises
        ------
        ValueError
            If nothing of the part is on the map, the position is none or the width no angle.
        """
        return slices_around(self.wcs, self.npix_shape, position, width)

    def __eq__(self, other: object) -> bool:
        """Whether another geometry has equal axes, and the same pixels to 1e-6 of one."""
        if not isinstance(other, WcsGeom):
            return NotImplemented
        return self.axes == other.axes and self._same_pixels(other, EQUAL_PIXEL)

    def __hash__(self) -> int:
        # What equal geometries have in common exactly.
        return hash((self.npix_shape, tuple(self.axes)))

    def __repr__(self) -> str:
        center = self.center_skydir.spherical
        lines = {
            "axes": self.axes_names,
            "shape": self.data_shape[::-1],
            "frame": self.frame,
            "projection": self.wcs.wcs.ctype[0][-3:],
            "center": f"{center.lon.deg:.4g} deg, {center.lat.deg:.4g} deg",
            "width": f"{self.width[0]:.4g} x {self.width[1]:.4g}",
        }
        return "WcsGeom\n\n" + "\n".join(f"  {key:<10s} : {value}" for key, value in lines.items())
