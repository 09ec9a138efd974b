"""Point spread function as a function of sky position, per true or reconstructed energy.

The arrays have the energy first. A response that does not vary over the sky, or whose file gives
no sky grid, has no geometry and no sky dimensions.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import ArrayLike, NDArray

from jaxprof.irf.base import IRFMap
from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom


class PSFMap(IRFMap):
    """Point spread function: probability density around a point source.

    Parameters
    ----------
    data : array_like
        In sr-1, at the centres of `rad_axis`; shape ``(n_true, n_rad)`` or
        ``(n_true, n_rad, ny, nx)``.
    rad_axis : MapAxis
        Axis "rad", angular distance from the source.
    energy_axis_true : MapAxis
        True-energy axis (not necessarily that of the exposure).
    geom, exposure
        As for `IRFMap`.
    """

    def __init__(
        self,
        data: ArrayLike,
        rad_axis: MapAxis,
        energy_axis_true: MapAxis,
        geom: WcsGeom | None = None,
        *,
        exposure: u.Quantity | None = None,
    ) -> None:
        super().__init__(data, rad_axis, energy_axis_true, geom, exposure=exposure)

    @property
    def rad_axis(self) -> MapAxis:
        """Axis of the angular distance."""
        return self._axis

    def get_profile(
        self, position: SkyCoord | None = None, energy: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Density at sky positions.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`, optional
            One position or an array of them; default the centre of the sky grid.
        energy : array_like, shape (n,), optional
            Energies in TeV; by default the bins themselves.

        Returns
        -------
        density : ndarray
            In sr-1, shape ``(*position.shape, n_bins or n, n_rad)``. Between the centres of the
            energy bins it is linear in the logarithm of the energy, beyond them constant. A bin
            whose density is zero throughout, as below an instrument's threshold, then counts as
            its nearest neighbour that has any: else photons would be lost in between.

        Raises
        ------
        ValueError
            If an energy is not positive, or `energy` is not a list of them.
        """
        profiles, index = self._select(position)
        if energy is not None:
            energies = np.asarray(energy, dtype=np.float64)
            if energies.ndim != 1 or not np.all((energies > 0) & np.isfinite(energies)):
                raise ValueError(
                    f"energy must be a list of positive energies [TeV], got {energy!r}"
                )
            profiles = interpolated_profiles(profiles, self._energy_axis, energies)
        return profiles[index]

    @classmethod
    def from_gauss(
        cls,
        energy_axis: MapAxis,
        sigma: Any,
        rad_axis: MapAxis | None = None,
    ) -> Self:
        """Gaussian point spread function, the same all over the sky.

        Parameters
        ----------
        energy_axis : MapAxis
            Energy axis of the responses.
        sigma : `~astropy.units.Quantity`, str or array_like
            Standard deviation in each direction, one or ``(n_energy,)``; plain numbers in deg.
        rad_axis : MapAxis, optional
            Axis of the distance; by default up to six of the largest standard deviations.

        Returns
        -------
        psf : PSFMap
            Normalised within the axis of the distance, in the flat-sky limit.

        Raises
        ------
        ValueError
            If a standard deviation is not positive.
        """
        unit = None if isinstance(sigma, str | u.Quantity) else "deg"
        width = u.Quantity(sigma, unit).to_value("rad")
        width = np.broadcast_to(np.asarray(width, float), (energy_axis.nbin,))
        if not np.all((width > 0) & np.isfinite(width)):
            raise ValueError(f"sigma must be positive, got {sigma!r}")
        if rad_axis is None:
            # Finer where it is narrower, so that the density is straight between the nodes.
            inner = np.linspace(0, 6 * width.min(), 601)
            outer = np.linspace(6 * width.min(), 6 * width.max(), 601)[1:]
            nodes = inner if np.ptp(width) == 0 else np.concatenate([inner, outer])
            rad_axis = MapAxis.from_nodes(np.rad2deg(nodes) * u.deg, name="rad")
        rad = rad_axis.center.to_value("rad")
        shape = np.exp(-0.5 * (rad / width[:, np.newaxis]) ** 2)
        psf = cls(shape, rad_axis, energy_axis)
        total = [psf.containment(index, rad_axis.center[-1]) for index in range(energy_axis.nbin)]
        return cls(shape / np.array(total)[:, np.newaxis], rad_axis, energy_axis)

    def containment(
        self, energy_index: int, rad: Any, position: SkyCoord | None = None
    ) -> NDArray[np.float64]:
        """Probability within an angular distance.

        Parameters
        ----------
        energy_index : int
            True-energy bin.
        rad : `~astropy.units.Quantity`, str or array_like
            Distances; plain numbers in deg.
        position : `~astropy.coordinates.SkyCoord`, optional
            One sky position.

        Returns
        -------
        containment : ndarray
            Integral of ``2 pi r p(r)`` with p linear between the nodes (closed form),
            constant inside the first node and zero beyond the last. Not renormalised;
            shape of `rad`.
        """
        radius = u.Quantity(rad, None if isinstance(rad, str | u.Quantity) else "deg")
        r = np.asarray(radius.to_value("rad"), dtype=np.float64)
        return self._containment(r, self.get_profile(position)[energy_index])

    def containment_radius(
        self, fraction: Any, energy_true: Any, position: SkyCoord | None = None
    ) -> u.Quantity:
        """Angular distance within which a fraction of the photons of a point source lies.

        Parameters
        ----------
        fraction : float or array_like
            Between 0 and 1. The last node of `rad_axis` has all there is, whatever its integral.
        energy_true : `~astropy.units.Quantity` or str
            Energies, between the bins interpolated as `get_profile` does (for a `RecoPSFMap`
            reconstructed ones).
        position : `~astropy.coordinates.SkyCoord`, optional
            One sky position; default the centre of the sky grid.

        Returns
        -------
        radius : `~astropy.units.Quantity`
            In deg, shape of `fraction` and `energy_true` broadcast; right to 1e-6 of the distance
            between two nodes. NaN where the PSF is zero.

        Raises
        ------
        ValueError
            If a fraction is not between 0 and 1, or an energy none or not positive.
        """
        try:
            energies = u.Quantity(energy_true).to_value("TeV")
        except (u.UnitsError, TypeError) as error:
            raise ValueError(
                f"energy_true is {energy_true!r}; give energies, such as 1 * u.TeV"
            ) from error
        share, energy = np.broadcast_arrays(np.asarray(fraction, dtype=float), energies)
        if not np.all((share >= 0) & (share <= 1)):
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}")
        profiles = self.get_profile(position, energy.ravel())
        node = np.concatenate([[0.0], self.rad_axis.center.to_value("rad")])
        found = np.full(energy.size, np.nan)
        for k, (density, part) in enumerate(zip(profiles, share.ravel(), strict=True)):
            nodes = self._containment(node, density)
            if not nodes[-1] > 0:
                continue
            wanted = part * nodes[-1]
            above = int(np.argmax(nodes >= wanted))
            low, high = node[max(above - 1, 0)], node[above]
            for _ in range(20):
                middle = 0.5 * (low + high)
                inside = self._containment(np.array(middle), density) < wanted
                low, high = (middle, high) if inside else (low, middle)
            found[k] = 0.5 * (low + high)
        return np.rad2deg(found.reshape(energy.shape)) * u.deg

    def _containment(
        self, r: NDArray[np.float64], density: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Integral of a density (n_rad,) within distances [rad]."""
        node = self.rad_axis.center.to_value("rad")
        if node[0] > 0:
            node = np.concatenate([[0.0], node])
            density = np.concatenate([density[:1], density])
        slope = np.diff(density) / np.diff(node)
        offset = density[:-1] - slope * node[:-1]

        def primitive(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.pi * x**2 * offset + 2 * np.pi / 3 * x**3 * slope

        upper = np.clip(r[..., np.newaxis], node[:-1], node[1:])
        return np.sum(primitive(upper) - primitive(node[:-1]), axis=-1)


def interpolated_profiles(
    profiles: NDArray[np.float64], axis: MapAxis, energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Profiles (P, T, R) at the centres of an axis, interpolated to energies [TeV], (P, n, R).

    See `PSFMap.get_profile`.
    """
    profiles = _without_gaps(profiles)
    nodes = np.log(axis.center_tev())
    at = np.interp(np.log(energies), nodes, np.arange(len(nodes)))
    # At a node, whatever the rounding, the next one does not matter, even if it is NaN.
    at = np.where(np.abs(at - np.round(at)) < 1e-6, np.round(at), at)
    left = np.minimum(at.astype(int), max(len(nodes) - 2, 0))
    right = np.minimum(left + 1, len(nodes) - 1)
    weight = (at - left)[:, np.newaxis]
    below = np.where(weight < 1, profiles[:, left] * (1 - weight), 0.0)
    return np.asarray(below + np.where(weight > 0, profiles[:, right] * weight, 0.0))


def _without_gaps(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Profiles (P, T, R) with the nearest bin that has any density in place of those without."""
    empty = np.all(profiles == 0, axis=-1)
    if not np.any(empty):
        return profiles
    number = np.arange(profiles.shape[1])
    distance = np.abs(number[:, np.newaxis] - number)
    # Shape (P, T, T): a bin without density is further away than any other.
    nearest = np.argmin(distance + number.size * empty[:, np.newaxis, :], axis=-1)
    return np.take_along_axis(profiles, nearest[:, :, np.newaxis], axis=1)


class RecoPSFMap(PSFMap):
    """Point spread function per reconstructed energy.

    Parameters
    ----------
    data : array_like
        In sr-1, at the centres of `rad_axis`; shape ``(n_energy, n_rad)`` or
        ``(n_energy, n_rad, ny, nx)``.
    rad_axis : MapAxis
        Axis "rad", angular distance from the source.
    energy_axis : MapAxis
        Reconstructed-energy axis.
    geom, exposure
        As for `IRFMap`.

    Raises
    ------
    ValueError
        If the axis of the energy is not called "energy", which tells it in files.
    """

    def __init__(
        self,
        data: ArrayLike,
        rad_axis: MapAxis,
        energy_axis: MapAxis,
        geom: WcsGeom | None = None,
        *,
        exposure: u.Quantity | None = None,
    ) -> None:
        if energy_axis.name != "energy":
            raise ValueError(
                "energy_axis of RecoPSFMap must be an axis 'energy' of reconstructed energy, got "
                f"{energy_axis!r}; PSFMap is for true energy"
            )
        super().__init__(data, rad_axis, energy_axis, geom, exposure=exposure)

    @property
    def energy_axis(self) -> MapAxis:
        """Reconstructed-energy axis."""
        return self._energy_axis

    @property
    def energy_axis_true(self) -> MapAxis:
        """Not there: the PSF is known per reconstructed energy."""
        raise AttributeError("RecoPSFMap has no true energy, but energy_axis")
