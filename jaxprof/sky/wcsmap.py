"""Sky images and cubes on a world coordinate system."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.sky.arithmetic import MapArithmetic
from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.resampling import (
    blocks_of,
    interpolated,
    merged_pixels,
    smoothed,
    smoothing_weights,
    split_pixels,
    whole_factor,
)


class WcsNDMap(MapArithmetic):
    """Image or cube on the sky.

    Maps can be added, subtracted, multiplied, divided and compared, see `MapArithmetic`.

    Parameters
    ----------
    geom : WcsGeom
        Pixels and axes.
    data : array_like, optional
        Shape ``geom.data_shape``; a lower-dimensional array that broadcasts to it is
        repeated. Zeros by default. Not copied if it fits.
    unit : str or `~astropy.units.Unit`
        Unit of the data.

    Raises
    ------
    ValueError
        If the shapes disagree.
    """

    def __init__(self, geom: WcsGeom, data: Any = None, unit: Any = "") -> None:
        if isinstance(data, u.Quantity) and unit == "":
            unit = data.unit
        self.geom = geom
        self.unit = unit
        self.data = np.zeros(geom.data_shape) if data is None else data

    @property
    def data(self) -> NDArray[Any]:
        """The values, in the shape of the geometry; what is set is checked as the argument is."""
        return self._data

    @data.setter
    def data(self, data: Any) -> None:
        array = np.asarray(data.to_value(self.unit) if isinstance(data, u.Quantity) else data)
        shape = self.geom.data_shape
        if array.shape != shape:
            try:
                array = np.broadcast_to(array, shape).copy()
            except ValueError:
                raise ValueError(
                    f"data has the shape {array.shape} and the geometry {shape}"
                ) from None
        self._data = array

    @property
    def unit(self) -> Any:
        """Unit of the data; setting it leaves the numbers as they are."""
        return self._unit

    @unit.setter
    def unit(self, unit: Any) -> None:
        self._unit = u.Unit(unit)

    @classmethod
    def create(
        cls, skydir: Any = None, *, unit: Any = "", dtype: Any = float, **kwargs: Any
    ) -> Self:
        """Map of zeros around a sky position.

        Parameters
        ----------
        skydir, **kwargs
            As for `WcsGeom.create`: ``npix`` or ``width``, ``binsz``, ``frame``, ``proj`` and
            ``axes``.
        unit : str or `~astropy.units.Unit`
            Unit of the data.
        dtype : data type
            Such as bool for a mask.
        """
        geom = WcsGeom.create(skydir, **kwargs)
        return cls(geom, np.zeros(geom.data_shape, dtype), unit)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        hdu: str | None = None,
        *,
        position: SkyCoord | None = None,
        width: Any = None,
    ) -> Self:
        """Read an image or cube: counts, exposures, masks, templates, of any projection.

        Parameters
        ----------
        path : str or path-like
            FITS file, gzipped or not; ``$VARIABLES`` and ``~`` are expanded. The energies of a cube
            are in a table "<HDU>_BANDS" (gammapy), EBOUNDS (bins; gtbin, ctools) or ENERGIES (nodes
            of an axis "energy_true"; gtexpcube2, diffuse models). HEALPix maps (the extra
            "healpix") become maps on the same pixels in the projection HPX, NaN where there is
            none; see `jaxprof.sky.healpix`.
        hdu : str, optional
            Name of the image; the first one by default.
        position, width : SkyCoord and angle, optional
            Of a HEALPix map only the pixels within half this width of a position are taken.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            "<file>: what is wrong", if it holds no such map, or is damaged.
        """
        from jaxprof.io.wcsmap import read_wcs_map

        geom, data, unit = read_wcs_map(path, hdu, position, width)
        return cls(geom, data, unit)

    @classmethod
    def from_healpix(
        cls,
        values: Any,
        *,
        nside: int,
        pixels: Any = None,
        nest: bool = False,
        frame: str = "icrs",
        axes: Any = (),
        unit: Any = "",
    ) -> Self:
        """Map of HEALPix pixels, whole or partial; see `jaxprof.sky.healpix.HealpixMap`.

        Returns
        -------
        map : WcsNDMap
            In the projection HPX, whose pixels are those of HEALPix; NaN where there is none.
        """
        from jaxprof.sky.healpix import HealpixMap

        map_ = HealpixMap(values, nside, pixels, nest, frame, tuple(axes), unit).to_wcs()
        return cls(map_.geom, map_.data, map_.unit)

    def write(
        self, path: str | os.PathLike[str], overwrite: bool = False, hdu: str | None = None
    ) -> None:
        """Write the map to a FITS file that gammapy reads, too.

        Parameters
        ----------
        path : str or path-like
            Ends in ".fits" or ".fits.gz"; ``$VARIABLES`` and ``~`` are expanded.
        overwrite : bool
            Whether an existing file may be replaced. The file appears in one step or not at all.
        hdu : str, optional
            Name of the image, IMAGE or MASK by default. Those with MASK in their name are read as
            masks, so only masks can have such names.

        Raises
        ------
        OSError
            FileExistsError if the file exists and `overwrite` is false.
        ValueError
            For another extension, for a name that is not ASCII, and for data or a unit that FITS
            has no form for.
        """
        from jaxprof.io.wcsmap import write_wcs_map

        write_wcs_map(self, path, hdu or ("MASK" if self.is_mask else "IMAGE"), overwrite=overwrite)

    @property
    def is_mask(self) -> bool:
        """Whether the data are boolean."""
        return self.data.dtype == bool

    def copy(self, data: Any = None, unit: Any = None) -> WcsNDMap:
        """Map on the same geometry, with a copy of the data or other data."""
        data = self.data.copy() if data is None else data
        return WcsNDMap(self.geom, data, self.unit if unit is None else unit)

    def sum_over_axes(self) -> WcsNDMap:
        """Sum over all further axes, which stay as axes of one bin.

        Returns
        -------
        image : WcsNDMap
            Data of shape ``(1, ny, nx)`` for a cube, in float64 or int64.
        """
        dims = tuple(range(len(self.geom.axes)))
        dtype = np.float64 if self.data.dtype.kind == "f" else np.int64
        data = self.data.sum(axis=dims, keepdims=True, dtype=dtype)
        return WcsNDMap(
            self.geom.to_cube([axis.squash() for axis in self.geom.axes]), data, self.unit
        )

    def smooth(self, width: Any, kernel: str = "gauss") -> WcsNDMap:
        """Smooth every image plane.

        Parameters
        ----------
        width : `~astropy.units.Quantity`, str or float
            Standard deviation of the Gaussian, radius of the disk, or side of the box; a plain
            number is in pixels.
        kernel : {"gauss", "disk", "box"}
            Shape of the kernel. The parts of pixels within a disk or box count.

        Returns
        -------
        smoothed : WcsNDMap
            In float64; the sum is kept (reflecting borders).
        """
        weights = smoothing_weights(width, kernel, self.geom.pixel_scales[::-1])
        return self.copy(data=smoothed(self.data, weights))

    def cutout(self, position: SkyCoord, width: Any) -> WcsNDMap:
        """Part of the map around a position; see `WcsGeom.cutout_slices`."""
        rows, columns = self.geom.cutout_slices(position, width)
        wcs = self.geom.wcs.slice((rows, columns))
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        data = self.data[..., rows, columns].copy()
        return WcsNDMap(WcsGeom(wcs, shape, self.geom.axes), data, self.unit)

    def downsample(
        self, factor: int, preserve_counts: bool = True, *, weights: WcsNDMap | None = None
    ) -> WcsNDMap:
        """Map on pixels that are larger by a whole number, as gammapy's.

        Parameters
        ----------
        factor : int
            Pixels along each side that become one; it must divide the numbers of pixels.
        preserve_counts : bool
            Whether values are summed, as of counts; otherwise their mean is taken, as of exposures.
        weights : WcsNDMap, optional
            Map or mask on the same pixels, by which values are multiplied first.

        Returns
        -------
        map : WcsNDMap
            NaN are left out of sums and means (a mean of NaN alone is NaN). A pixel of a mask is
            true if all of its parts are.

        Raises
        ------
        ValueError
            If the factor is no whole number, does not divide the numbers of pixels, or the weights
            are on other pixels.
        """
        n = whole_factor(factor)
        if any(size % n for size in self.geom.npix_shape):
            raise ValueError(
                f"factor {n} does not divide the {self.geom.npix_shape[1]} x "
                f"{self.geom.npix_shape[0]} pixels of the map; cut it with cutout(...) first"
            )
        geom = self.geom.downsample(n).to_cube(self.geom.axes)
        data = self.data if weights is None else (self * weights).data
        if self.is_mask:
            return WcsNDMap(geom, blocks_of(data, n).astype(bool).all(axis=(-3, -1)))
        return WcsNDMap(geom, merged_pixels(data, n, mean=not preserve_counts), self.unit)

    def upsample(self, factor: int, order: int = 0, preserve_counts: bool = True) -> WcsNDMap:
        """Map on pixels that are smaller by a whole number, as gammapy's.

        Parameters
        ----------
        factor : int
            Parts of each pixel along each side.
        order : int
            Order of the splines between pixels, 0 to 5; 0 repeats the values.
        preserve_counts : bool
            Whether values are shared among the parts, as of counts; otherwise each part has them.

        Returns
        -------
        map : WcsNDMap
            In float64, but masks stay masks.

        Raises
        ------
        ValueError
            If the factor or the order is no whole number, or the order is above 5.
        """
        n = whole_factor(factor)
        geom = self.geom.upsample(n).to_cube(self.geom.axes)
        if isinstance(order, bool) or order not in range(6):
            raise ValueError(f"order is {order!r}; it must be a whole number from 0 to 5")
        data = split_pixels(self.data, n, 0 if self.is_mask else order)
        if self.is_mask:
            return WcsNDMap(geom, data)
        return WcsNDMap(geom, data / n**2 if preserve_counts else data * 1.0, self.unit)

    def sample(self, coord: SkyCoord) -> NDArray[Any]:
        """Values at the nearest pixels.

        Parameters
        ----------
        coord : `~astropy.coordinates.SkyCoord`
            Positions of any shape.

        Returns
        -------
        values : ndarray
            Shape of the further axes, then that of `coord`. Off the map NaN, or False
            for a mask.
        """
        y, x, inside = self.geom.pixel_index(coord)
        values = self.data[..., y, x]
        if self.is_mask:
            return values & inside
        return np.where(inside, values, np.nan)

    def interp_to_geom(self, geom: WcsGeom, *, fill_value: float = 0.0) -> WcsNDMap:
        """Interpolate to the centres of other pixels.

        Parameters
        ----------
        geom : WcsGeom
            Its pixels are taken; the further axes stay.
        fill_value : float
            Value of pixels whose centre is on none of the map's own.

        Returns
        -------
        map : WcsNDMap
            In float64. Linear in pixel coordinates between the centres of the four nearest pixels,
            as gammapy's ``Map.interp_to_geom``; in the outer half of the pixels at the edge the
            line goes on. NaN where one of these pixels is (gammapy takes zero for it).
        """
        x, y = self.geom.pixel_coordinates(geom.get_coord())
        inside = self.geom.holds(x, y)
        data = interpolated(self.data, np.where(inside, y, 0.0), np.where(inside, x, 0.0))
        return WcsNDMap(geom.to_cube(self.geom.axes), np.where(inside, data, fill_value), self.unit)

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the map; see `jaxprof.plotting.plot_map` for the arguments."""
        from jaxprof.plotting import plot_map

        return plot_map(self, ax=ax, **kwargs)

    def __repr__(self) -> str:
        return (
            "WcsNDMap\n\n"
            "  geom  : WcsGeom \n"
            f"  axes  : {self.geom.axes_names}\n"
            f"  shape : {self.geom.data_shape[::-1]}\n"
            f"  ndim  : {self.data.ndim}\n"
            f"  unit  : {self.unit.to_string()}\n"
            f"  dtype : {self.data.dtype}"
        )
