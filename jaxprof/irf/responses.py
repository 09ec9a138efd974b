"""Energy dispersion as a function of sky position.

The arrays have the true energy first. A response that does not vary over the sky, or
whose file gives no sky grid, has no geometry and no sky dimensions.
"""

from __future__ import annotations

import numpy as np
import scipy
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from jaxprof.irf.base import IRFMap as IRFMap
from jaxprof.irf.checks import ROUNDING
from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom

# Smaller elements of a kernel are rounding noise of the cumulative integral.
KERNEL_THRESHOLD = 1e-8


class EDispKernelMap(IRFMap):
    """Energy dispersion as matrices from true to reconstructed energy bins.

    Parameters
    ----------
    data : array_like
        Probability to be reconstructed in a bin, shape ``(n_true, n_reco)`` or
        ``(n_true, n_reco, ny, nx)``.
    energy_axis, energy_axis_true : MapAxis
        Reconstructed and true energy axes.
    geom, exposure
        As for `IRFMap`.
    """

    def __init__(
        self,
        data: ArrayLike,
        energy_axis: MapAxis,
        energy_axis_true: MapAxis,
        geom: WcsGeom | None = None,
        *,
        exposure: u.Quantity | None = None,
    ) -> None:
        super().__init__(data, energy_axis, energy_axis_true, geom, exposure=exposure)

    @property
    def energy_axis(self) -> MapAxis:
        """Reconstructed-energy axis."""
        return self._axis

    def get_kernel(
        self, position: SkyCoord | None = None, energy_axis: MapAxis | None = None
    ) -> NDArray[np.float64]:
        """Energy dispersion at sky positions.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`, optional
            One position or an array of them; default the centre of the sky grid.
        energy_axis : MapAxis, optional
            Reconstructed axis the kernel must have.

        Returns
        -------
        kernel : ndarray
            Shape ``(*position.shape, n_true, n_reco)``; rows should sum to at most one. As the
            data are, NaN included: estimators check what they use.

        Raises
        ------
        ValueError
            If `energy_axis` is another axis than the kernel's.
        """
        if energy_axis is not None and not self.energy_axis.is_allclose(energy_axis):
            raise ValueError(
                f"the energy dispersion has the reconstructed axis {self.energy_axis!r}, "
                f"not {energy_axis!r}"
            )
        kernels, index = self._select(position)
        return kernels[index]

    def scaled(self, factor: float) -> EDispKernelMap:
        """The dispersion if all energies are reconstructed higher by a factor.

        Matrices tell nothing within their bins. The probabilities at a true energy are therefore
        those at ``factor`` times that energy, by a cubic spline in its logarithm; at the first
        and last true energies those are taken that are next to them.

        Raises
        ------
        ValueError
            If there is one true energy only.
        """
        from scipy.interpolate import make_interp_spline

        if factor == 1:
            return self
        energies = np.log(self.energy_axis_true.center_tev())
        if len(energies) < 2:
            raise ValueError("the energy dispersion has one true energy, and cannot be scaled")
        at = np.clip(energies + np.log(factor), energies[0], energies[-1])
        # NaN stays where it was: others must not hear of it.
        unknown = ~np.isfinite(self.data)
        data = np.where(unknown, 0.0, self.data)
        found = make_interp_spline(energies, data, k=min(3, len(energies) - 1))(at)
        # Of a spline what is below zero has to be taken from the rest of the row.
        total = np.maximum(found.sum(axis=1, keepdims=True), 0.0)
        found = np.maximum(found, 0.0)
        found *= total / np.where(total > 0, found.sum(axis=1, keepdims=True), 1.0)
        touched = make_interp_spline(energies, unknown.astype(float), k=1)(at) > 0
        found = np.where(touched, np.nan, found)
        axes = self.energy_axis, self.energy_axis_true
        return EDispKernelMap(found, *axes, self.geom, exposure=self.exposure)

    @classmethod
    def from_diagonal(
        cls, energy_axis: MapAxis, energy_axis_true: MapAxis, geom: WcsGeom | None = None
    ) -> EDispKernelMap:
        """Perfect energy resolution.

        An element is the part of the true-energy bin's width that lies in the
        reconstructed bin, so bins need not agree.
        """
        reco, true = energy_axis.edges_tev(), energy_axis_true.edges_tev()[:, np.newaxis]
        overlap = np.minimum(reco[1:], true[1:]) - np.maximum(reco[:-1], true[:-1])
        kernel = np.clip(overlap, 0, None) / np.diff(true, axis=0)
        return cls(_repeat(kernel, geom), energy_axis, energy_axis_true, geom)

    @classmethod
    def from_gauss(
        cls,
        energy_axis: MapAxis,
        energy_axis_true: MapAxis,
        sigma: ArrayLike,
        bias: ArrayLike = 0.0,
        geom: WcsGeom | None = None,
    ) -> EDispKernelMap:
        """Gaussian energy resolution.

        Parameters
        ----------
        energy_axis, energy_axis_true : MapAxis
            Reconstructed and true energy axes.
        sigma : float or array_like
            Standard deviation of E_reco / E_true, one or ``(n_true,)``; positive.
        bias : float or array_like
            Mean of E_reco / E_true minus one.
        geom : WcsGeom, optional
            Sky grid over which the kernel is repeated.

        Returns
        -------
        edisp : EDispKernelMap
            Exact Gaussian integrals at the true-energy bin centres.
        """
        shape = (energy_axis_true.nbin, 1)
        width = np.broadcast_to(np.reshape(sigma, (-1, 1)), shape)
        mean = 1.0 + np.broadcast_to(np.reshape(bias, (-1, 1)), shape)
        if not np.all(width > 0):
            raise ValueError(f"sigma must be positive, got {sigma!r}")
        ratio = energy_axis.edges_tev() / energy_axis_true.center_tev()[:, np.newaxis]
        kernel = np.diff(scipy.special.ndtr((ratio - mean) / width), axis=1)
        return cls(_repeat(kernel, geom), energy_axis, energy_axis_true, geom)


def _repeat(kernel: NDArray[np.float64], geom: WcsGeom | None) -> NDArray[np.float64]:
    if geom is None:
        return kernel
    return np.tile(kernel[:, :, np.newaxis, np.newaxis], (1, 1, *geom.npix_shape))


class EDispMap(IRFMap):
    """Energy dispersion as densities in ``migra = E_reco / E_true``.

    Parameters
    ----------
    data : array_like
        dP/dmigra, shape ``(n_true, n_migra)`` or ``(n_true, n_migra, ny, nx)``.
    migra_axis : MapAxis
        Dimensionless axis "migra".
    energy_axis_true : MapAxis
        True-energy axis.
    geom, exposure
        As for `IRFMap`.
    """

    def __init__(
        self,
        data: ArrayLike,
        migra_axis: MapAxis,
        energy_axis_true: MapAxis,
        geom: WcsGeom | None = None,
        *,
        exposure: u.Quantity | None = None,
    ) -> None:
        super().__init__(data, migra_axis, energy_axis_true, geom, exposure=exposure)

    @property
    def migra_axis(self) -> MapAxis:
        """Axis of E_reco / E_true."""
        return self._axis

    def get_kernel(self, position: SkyCoord | None, energy_axis: MapAxis) -> NDArray[np.float64]:
        """Energy dispersion matrices at sky positions.

        The density is integrated over migra (constant within a bin); the integral up to
        each reconstructed edge, at the centre of the true bin, is interpolated linearly
        and differences of neighbours taken. Rows are not renormalised: what falls
        outside the reconstructed axis is lost, as it should be.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord` or None
            One position or an array of them; None is the centre of the sky grid.
        energy_axis : MapAxis
            Reconstructed axis.

        Returns
        -------
        kernel : ndarray
            Shape ``(*position.shape, n_true, n_reco)``; NaN where the density is not finite, and
            below zero where it is. Estimators check what they use.
        """
        density, index = self._select(position)
        finite = np.isfinite(density)
        kernels = self._integrals(np.where(finite, density, 0.0), energy_axis)
        kernels[np.abs(kernels) < KERNEL_THRESHOLD] = 0.0
        if np.any(density < 0):
            # Neighbours within a reconstructed bin must not make up for what is no density.
            below = self._integrals(np.where(finite, np.minimum(density, 0.0), 0.0), energy_axis)
            largest = kernels.max(axis=-1, keepdims=True)
            kernels = np.where(below < -ROUNDING * largest, below, kernels)
        if not finite.all():
            # What is not known of the density is not known of the bins that it falls into.
            kernels[self._integrals(np.where(finite, 0.0, 1.0), energy_axis) > 0] = np.nan
        return kernels[index]

    def _integrals(self, density: NDArray[np.float64], energy_axis: MapAxis) -> NDArray[np.float64]:
        """Integrals (P, T, E) of densities (P, T, n_migra) over reconstructed bins."""
        steps = density * self.migra_axis.bin_width.to_value("")
        cumulative = np.concatenate(
            [np.zeros((*steps.shape[:-1], 1)), np.cumsum(steps, axis=-1)], axis=-1
        )
        edges = self.migra_axis.edges.to_value("")
        migra = energy_axis.edges_tev() / self.energy_axis_true.center_tev()[:, np.newaxis]
        # Beyond the axis the integral stays at 0 or at its total.
        pixel = np.interp(migra, edges, np.arange(edges.size, dtype=float))
        left = np.minimum(pixel.astype(np.int64), edges.size - 2)
        weight = pixel - left
        rows = np.arange(left.shape[0])[:, np.newaxis]
        integral = cumulative[:, rows, left] * (1 - weight) + (
            cumulative[:, rows, left + 1] * weight
        )
        return np.diff(integral, axis=-1)

    def scaled(self, factor: float) -> EDispMap:
        """The dispersion if all energies are reconstructed higher by a factor: migra is scaled."""
        own = self.migra_axis
        migra = MapAxis(own.edges * factor, name=own.name, interp=own.interp)
        axis = self.energy_axis_true
        return EDispMap(self.data / factor, migra, axis, self.geom, exposure=self.exposure)

    def to_kernel_map(self, energy_axis: MapAxis) -> EDispKernelMap:
        """Energy dispersion matrices on the same sky grid; see `get_kernel`."""
        position = None if self.geom is None else self.geom.get_coord()
        kernel = self.get_kernel(position, energy_axis)
        if self.geom is not None:
            kernel = np.moveaxis(kernel, (0, 1), (2, 3))
        return EDispKernelMap(
            kernel, energy_axis, self.energy_axis_true, self.geom, exposure=self.exposure
        )
