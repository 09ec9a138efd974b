"""Which point-spread functions the components of a joint fit need, and how fine these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof.datasets import MapDataset
from jaxprof.irf import PSFMap, RecoPSFMap
from jaxprof.irf.checks import checked_profiles, profile_error
from jaxprof.irf.psf import interpolated_profiles
from jaxprof.irf.psf_kernel import psf_image, psf_kernel, psf_moments
from jaxprof.reduce.joint.averages import mean_response
from jaxprof.reduce.joint.emission import Emission, centers_of
from jaxprof.reduce.signal import edisp_error, edisp_kernels
from jaxprof.sky import WcsGeom
from jaxprof.sky.moments import degree_of, orders
from jaxprof.sky.regions.grid import sky_vectors
from jaxprof.sky.regions.sphere import local_axes, lonlat, unit_vectors
from jaxprof.types import Array

SAME_SCALE = 1e-3
"""Kernels whose pixels agree to this part in size are one."""
POINT_TRUNCATION = 2e-3
"""What the next degree of a point's moments may add to a pixel, as a part of the largest of its
template, where the series does worst: in the corner of a pixel."""


@dataclass(frozen=True)
class Kernel:
    """What one PSF kernel is made of."""

    rad: Array
    """Distances [deg], (R,)."""
    density: Array
    """Probability density [sr-1], (T, R)."""
    matrix: Array
    """From pixels to the tangent plane [deg], (2, 2)."""
    offset: tuple[float, float] | None
    """Position of a point source within its pixel; None for anything else."""

    def image(self, half: int, psf_scale: Any) -> Any:
        """Kernel (T, 2 half + 1, 2 half + 1) with the PSF widened by a factor."""
        table = (self.rad, self.density, self.matrix)
        if self.offset is None:
            return psf_kernel(*table, half, scale=psf_scale)
        return psf_image(*table, self.offset, half, scale=psf_scale)

    def moments(self, degree: int, near: int, psf_scale: Any) -> Any:
        """Kernels of the moments within a pixel, (orders - 1, T, 2 near + 1, 2 near + 1).

        Where in its pixel a photon starts matters nearby only.
        """
        table = (self.rad, self.density, self.matrix)
        found = psf_moments(*table, near, degree, scale=psf_scale)
        known = found if isinstance(found, np.ndarray) else psf_moments(*table, near, degree)
        # What is beyond the degrees that a wide PSF needs is the noise of its quadrature.
        total = np.array([a + b for a, b in orders(degree)])
        kept = total[:, np.newaxis] <= needed_degrees(known)
        return (found * kept[:, :, np.newaxis, np.newaxis])[1:]


def needed_degrees(kernels: Array) -> Array:
    """Degrees (T,) up to which each PSF needs its moments; ``kernels`` are (orders, T, h, w)."""
    largest = degree_of(len(kernels))
    total = np.array([a + b for a, b in orders(largest)])
    peak = kernels[0].max(axis=(1, 2))
    found = np.full(len(peak), largest)
    for degree in range(largest - 1, -1, -1):
        following = np.abs(kernels[total == degree + 1]).sum(axis=0).max(axis=(1, 2))
        found[following <= POINT_TRUNCATION * peak] = degree
    return found


def pixel_matrices(geom: WcsGeom, positions: SkyCoord) -> Array:
    """Offsets to the east and north [deg] of one pixel in x and in y, at P positions; (P, 2, 2).

    They are longitude and latitude in a frame with the position at its origin.
    """
    x, y = (np.asarray(p, float) for p in positions.to_pixel(geom.wcs, mode="wcs"))
    # Not on the projection: such a component has no pixels to spread.
    known = np.isfinite(x + y)
    found = np.broadcast_to(np.diag(geom.pixel_scales.to_value("deg")), (len(x), 2, 2)).copy()
    steps = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    at = np.where(known, x, 0.0)[:, np.newaxis], np.where(known, y, 0.0)[:, np.newaxis]
    around = sky_vectors(geom.wcs, at[0] + steps[:, 0], at[1] + steps[:, 1])
    lon_0, lat_0 = positions.spherical.lon.rad, positions.spherical.lat.rad
    frame = np.stack([unit_vectors(lon_0, lat_0), *local_axes(lon_0, lat_0)], axis=1)
    offsets = np.rad2deg(np.stack(lonlat(around @ np.swapaxes(frame, 1, 2)), axis=1))
    # Next to the edge of a projection one side tells.
    offsets = np.where(np.isfinite(offsets), offsets, -offsets[..., [1, 0, 3, 2]])
    known &= np.isfinite(offsets).all(axis=(1, 2))
    found[known] = np.stack(
        [offsets[..., 0] - offsets[..., 1], offsets[..., 2] - offsets[..., 3]], axis=-1
    )[known]
    return found


def missing_psf(dataset: MapDataset) -> ValueError:
    """Error for a dataset without a PSF, with the alternatives."""
    return ValueError(
        f"dataset {dataset.name!r} has no psf, which forward folding needs: read a file with an "
        "HDU PSF, set dataset.psf (PSFMap.from_gauss makes a Gaussian one), or use "
        "FluxProfileEstimator, which fits each region on its own and ignores the PSF"
    )


def psf_tables(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array]:
    """Radii [deg] and densities (P, T or E, R) [sr-1] of the PSF.

    Densities that are none are zero: whether their energy is in use is found out by
    `psf_densities`.
    """
    rad, density, _ = _raw_tables(dataset, positions)
    return rad, _sound(*checked_profiles(rad, density))


def _sound(cleaned: Array, faults: Array) -> Array:
    return np.where((faults == 0)[..., np.newaxis], cleaned, 0.0)


def _raw_tables(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array, Array]:
    """As `psf_tables`, with the densities as they are, NaN included; last, their energies [TeV]."""
    psf = dataset.psf
    if psf is None:
        raise missing_psf(dataset)
    if not isinstance(psf, RecoPSFMap | PSFMap):
        raise ValueError(
            f"psf of dataset {dataset.name!r} must be PSFMap or RecoPSFMap, "
            f"not {type(psf).__name__}"
        )
    own_axis = dataset.energy_axis if isinstance(psf, RecoPSFMap) else dataset.energy_axis_true
    energy = own_axis.center_tev()
    rad = psf.rad_axis.center.to_value("deg").astype(np.float64)
    nodes = np.asarray(psf.get_profile(positions))
    shape = nodes.shape[:-2]
    nodes = nodes.reshape(-1, *nodes.shape[-2:])
    cleaned, faults = checked_profiles(rad, nodes)
    axis = psf.axes[1]
    # Between its bins the PSF is interpolated past those that are none; in such a bin it is none.
    density = interpolated_profiles(_sound(cleaned, faults), axis, energy)
    edges = axis.edges_tev()
    own = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, axis.nbin - 1)
    density = np.where((faults[:, own] > 0)[..., np.newaxis], nodes[:, own], density)
    return rad, density.reshape(*shape, *density.shape[1:]), energy


def psf_densities(
    dataset: MapDataset, positions: SkyCoord, photons: Array, problems: dict[int, str]
) -> Array:
    """Densities (P, T or E, R) of the PSF at P positions, those that are none set to zero.

    What is wrong where there are ``photons``, (P, T or E), goes into ``problems``, by the index of
    the energy; elsewhere it does not matter.
    """
    rad, density, energy = _raw_tables(dataset, positions)
    cleaned, faults = checked_profiles(rad, density)
    name, used = f"psf of dataset {dataset.name!r}", np.where(photons, faults, 0)
    for number, text in profile_error(name, rad, density, used, energy).items():
        problems.setdefault(number, text)
    return _sound(cleaned, faults)


def psf_end(rad: Array, density: Array) -> float:
    """Angle [deg] beyond which there is nothing of a PSF (T, R) at any energy."""
    positive = np.flatnonzero((density > 0).any(axis=0))
    return float(rad[min(positive[-1] + 1, len(rad) - 1) if len(positive) else 0])


def reach(kernel: Kernel, scale: float = 1.0) -> int:
    """Pixels from the centre to where the PSF of all energies, widened by a factor, has ended."""
    size = np.linalg.svd(kernel.matrix, compute_uv=False).min()
    return int(np.ceil(scale * psf_end(kernel.rad, kernel.density) / size + 0.5))


def psf_margin(dataset: MapDataset, geom: WcsGeom) -> int:
    """Pixels of a grid beyond the map's edge from where photons can come in."""
    if dataset.psf is None:
        raise missing_psf(dataset)
    size = geom.pixel_scales.to_value("deg").min()
    return int(np.ceil(dataset.psf.rad_axis.center[-1].to_value("deg") / size)) + 1


def distinct_kernels(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission], images: Sequence[Array]
) -> tuple[list[Kernel], Array, dict[int, str]]:
    """Distinct kernels, and which of them each component has; ``images`` as for `mean_response`.

    Last, what is wrong with the PSF, by the index of its energy.
    """
    centers = centers_of(emissions)
    rad, _ = psf_tables(dataset, centers[:1])
    assert dataset.psf is not None
    if isinstance(dataset.psf, RecoPSFMap):
        images = [image.sum(axis=0, keepdims=True) for image in images]
    problems: dict[int, str] = {}
    tables = mean_response(
        dataset.psf,
        geom,
        emissions,
        images,
        lambda at, photons: psf_densities(dataset, at, photons, problems),
    )
    matrices = pixel_matrices(geom, centers)
    kernels: list[Kernel] = []
    which = np.empty(len(emissions), int)
    for index, emission in enumerate(emissions):
        matrix = matrices[index]
        size = np.abs(matrix).max()
        for number, known in enumerate(kernels):
            if (
                known.offset == emission.offset
                and np.abs(known.matrix - matrix).max() < SAME_SCALE * size
                and np.array_equal(known.density, tables[index])
            ):
                which[index] = number
                break
        else:
            which[index] = len(kernels)
            kernels.append(Kernel(rad, tables[index], matrix, emission.offset))
    return kernels, which, problems


def psf_radius(dataset: MapDataset, fraction: float = 0.68) -> Array:
    """Radius [deg] that holds a fraction of the PSF at the map's centre, for each energy.

    Zero where there is none.
    """
    return containment_radius(*psf_tables(dataset, dataset.geom.center_skydir), fraction)


ONE_SIGMA = 1 - np.exp(-0.5)
"""Fraction of a Gaussian within its standard deviation."""


def containment_radius(rad: Array, density: Array, fraction: float) -> Array:
    """Radius [deg] that holds a fraction of a PSF (T, R), (T,); zero where there is none."""
    r = np.concatenate([[0.0], rad])
    p = np.concatenate([density[:, :1], density], axis=1) * r
    rings = 0.5 * (p[:, 1:] + p[:, :-1]) * np.diff(r)
    inside = np.concatenate([np.zeros((len(p), 1)), np.cumsum(rings, axis=1)], axis=1)
    found = [np.interp(fraction * own[-1], own, r) for own in inside]
    return np.where(inside[:, -1] > 0, found, 0.0)


@dataclass(frozen=True)
class Responses:
    """PSF and energy dispersion of the components."""

    kernels: list[Kernel]
    """Distinct kernels."""
    which: Array
    """Kernel of each component, (C,)."""
    edisp: Array
    """Energy dispersion of each, (C, T, E)."""
    reco_psf: bool
    """Whether the PSF is in reconstructed energy."""
    problems: dict[int, str]
    """What is wrong, by the reconstructed energy whose prediction it spoils."""


def responses(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission], images: Sequence[Array]
) -> Responses:
    """PSF and energy dispersion of components; ``images`` as for `mean_response`."""
    reco_psf = isinstance(dataset.psf, RecoPSFMap)
    kernels, which, psf_problems = distinct_kernels(dataset, geom, emissions, images)
    edisp, problems = _edisp(dataset, geom, emissions, images)
    for energy, problem in psf_problems.items():
        reached = [energy] if reco_psf else np.flatnonzero(edisp[:, energy].any(axis=0))
        for k in reached:
            problems.setdefault(int(k), problem)
    return Responses(kernels, which, edisp, reco_psf, problems)


def check_energies(problems: dict[int, str], used: Array) -> None:
    """Raise a ValueError if the response at an energy in use, (E,), is none."""
    for energy, problem in sorted(problems.items()):
        if used[energy]:
            raise ValueError(problem)


def _edisp(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission], images: Sequence[Array]
) -> tuple[Array, dict[int, str]]:
    """Energy dispersion (C, T, E) of the components; what is wrong, by reconstructed energy."""
    problems: dict[int, str] = {}

    def response(positions: SkyCoord, photons: Array) -> Array:
        cleaned, faults = edisp_kernels(dataset, positions)
        faults = np.where(photons[:, :, np.newaxis], faults, 0)
        for k in np.flatnonzero(faults.any(axis=(0, 1))):
            own = np.where(np.arange(faults.shape[2]) == k, faults, 0)
            problems.setdefault(int(k), edisp_error(dataset, own))
        return cleaned

    assert dataset.edisp is not None
    return mean_response(dataset.edisp, geom, emissions, images, response), problems
