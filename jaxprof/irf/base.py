"""A response as a function of sky position: the part common to all responses."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom

log = logging.getLogger(__name__)


class IRFMap:
    """A response on a (possibly absent) sky grid.

    Parameters
    ----------
    data : array_like
        Shape ``(n_true, n_other)`` or, with `geom`, ``(n_true, n_other, ny, nx)``.
    axis : MapAxis
        The axis of ``n_other`` bins.
    energy_axis_true : MapAxis
        True-energy axis.
    geom : WcsGeom, optional
        Sky grid of the response (its axes are ignored).
    exposure : `~astropy.units.Quantity`, optional
        Exposure that weighted the response, shape ``(n_true,)`` or ``(n_true, ny, nx)``.
        It is kept for writing and tells where the response is defined.

    Raises
    ------
    ValueError
        If the shapes disagree.
    """

    def __init__(
        self,
        data: ArrayLike,
        axis: MapAxis,
        energy_axis_true: MapAxis,
        geom: WcsGeom | None = None,
        *,
        exposure: u.Quantity | None = None,
    ) -> None:
        array = np.asarray(data)
        sky = () if geom is None else geom.npix_shape
        expected = (energy_axis_true.nbin, axis.nbin, *sky)
        if array.shape != expected:
            raise ValueError(
                f"data of {type(self).__name__} has the shape {array.shape}, but its axes "
                f"{energy_axis_true.name!r}, {axis.name!r} and sky grid make {expected}"
            )
        if exposure is not None:
            exposure = u.Quantity(exposure)
            if exposure.shape != (energy_axis_true.nbin, *sky):
                raise ValueError(
                    f"exposure of {type(self).__name__} has the shape {exposure.shape}, "
                    f"expected {(energy_axis_true.nbin, *sky)}"
                )
        self.data: NDArray[Any] = array
        self._energy_axis = energy_axis_true
        self.geom = None if geom is None else geom.to_image()
        self.exposure = exposure
        self._axis = axis

    @property
    def axes(self) -> list[MapAxis]:
        """Axes, the fastest first."""
        return [self._axis, self._energy_axis]

    @property
    def energy_axis_true(self) -> MapAxis:
        """True-energy axis."""
        return self._energy_axis

    @property
    def valid_mask(self) -> NDArray[np.bool_]:
        """Sky bins where the response is defined, shape ``(ny, nx)`` or ``(1, 1)``.

        Some element of the response is positive there and, if the file's exposure is
        positive anywhere (some files fill it with zeros), the exposure too.
        """
        if self.geom is None:
            return np.ones((1, 1), dtype=bool)
        with np.errstate(invalid="ignore"):
            valid: NDArray[np.bool_] = np.any(self.data > 0, axis=(0, 1))
            if self.exposure is not None and np.any(self.exposure.value > 0):
                valid = valid & np.any(self.exposure.value > 0, axis=0)
        return valid

    def sky_index(self, position: SkyCoord | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sky bin that serves a position.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord` or None
            Any shape; None is the centre of the sky grid.

        Returns
        -------
        y, x : ndarray of int
            The bin that contains the position or, where that is not valid or there is
            none, the valid bin with the nearest centre. Shape of `position`.
        """
        shape = () if position is None else position.shape
        if self.geom is None or self.geom.npix_shape == (1, 1):
            return np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        if position is None:
            position = self.geom.center_skydir
        shape = position.shape
        position = position.reshape(-1)
        y, x, inside = self.geom.pixel_index(position)
        valid = self.valid_mask
        moved = ~(inside & valid[y, x])
        if np.any(moved) and np.any(valid):
            log.warning(
                "%d position(s) where the %s is not defined: nearest bin taken",
                np.count_nonzero(moved),
                type(self).__name__,
            )
            rows, columns = np.nonzero(valid)
            centers = self.geom.get_coord()[rows, columns]
            nearest = position[moved].match_to_catalog_sky(centers)[0]
            y[moved], x[moved] = rows[nearest], columns[nearest]
        return y.reshape(shape), x.reshape(shape)

    def _select(self, position: SkyCoord | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Responses (P, n_true, n_other) of distinct sky bins and each position's index in P."""
        y, x = self.sky_index(position)
        if self.geom is None:
            selected = self.data[np.newaxis]
            index = np.zeros(y.shape, np.int64)
        else:
            flat = np.ravel_multi_index((y, x), self.geom.npix_shape)
            distinct, index = np.unique(flat, return_inverse=True)
            rows, columns = np.unravel_index(distinct, self.geom.npix_shape)
            selected = np.moveaxis(self.data[:, :, rows, columns], -1, 0)
            index = index.reshape(y.shape)
        return selected.astype(np.float64), index

    def __repr__(self) -> str:
        sky = "no sky grid" if self.geom is None else f"{self.geom.npix_shape} sky bins"
        return f"{type(self).__name__}({self._axis!r}, {self._energy_axis!r}, {sky})"
