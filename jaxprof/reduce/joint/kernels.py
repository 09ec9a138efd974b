"""Which point-spread functions the components of a joint fit need, and how fine these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import pixel_to_skycoord
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.irf import PSFMap, RecoPSFMap
from jaxprof.irf.checks import checked_profiles, profile_error
from jaxprof.irf.psf import interpolated_profiles
from jaxprof.irf.psf_kernel import psf_kernel, psf_moments
from jaxprof.reduce.joint.averages import mean_response
from jaxprof.reduce.joint.emission import Emission
from jaxprof.sky import WcsGeom
from jaxprof.sky.moments import degree_of, orders

Array = NDArray[Any]

SAME_SCALE = 1e-3
"""Kernels whose pixels agree to this part in size are one."""


@dataclass(frozen=True)
class Kernel:
    """What one PSF kernel is made of.

    Attributes
    ----------
    rad : ndarray, shape (R,)
        Distances [deg].
    density : ndarray, shape (T, R)
        Probability density [sr-1].
    matrix : ndarray, shape (2, 2)
        From pixels to the tangent plane [deg].
    offset : tuple of float or None
        Position of a point source within its pixel; None for anything else.
    """

    rad: Array
    density: Array
    matrix: Array
    offset: tuple[float, float] | None


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
    around = pixel_to_skycoord(at[0] + steps[:, 0], at[1] + steps[:, 1], geom.wcs).spherical
    lon, lat = around.lon.rad, around.lat.rad
    lon_0, lat_0 = (
        p.rad[:, np.newaxis] for p in (positions.spherical.lon, positions.spherical.lat)
    )
    turn = lon - lon_0
    up = np.sin(lat) * np.cos(lat_0) - np.cos(lat) * np.sin(lat_0) * np.cos(turn)
    ahead = np.sin(lat) * np.sin(lat_0) + np.cos(lat) * np.cos(lat_0) * np.cos(turn)
    east = np.rad2deg(np.arctan2(np.cos(lat) * np.sin(turn), ahead))
    north = np.rad2deg(np.arcsin(up))
    offsets = np.stack([east, north], axis=1)
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


def psf_tables(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array, bool]:
    """Radii [deg] and densities (P, T or E, R) [sr-1] of the PSF, and whether in true energy.

    Densities that are none are zero: whether their energy is in use is found out by
    `psf_densities`.
    """
    rad, density, true = _raw_tables(dataset, positions)
    return rad, _sound(*checked_profiles(rad, density)), true


def _sound(cleaned: Array, faults: Array) -> Array:
    return np.where((faults == 0)[..., np.newaxis], cleaned, 0.0)


def _raw_tables(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array, bool]:
    """As `psf_tables`, with the densities as they are, NaN included."""
    psf = dataset.psf
    if psf is None:
        raise missing_psf(dataset)
    if isinstance(psf, RecoPSFMap):
        energy, true = dataset.energy_axis.center_tev(), False
    elif isinstance(psf, PSFMap):
        energy, true = dataset.energy_axis_true.center_tev(), True
    else:
        raise ValueError(
            f"psf of dataset {dataset.name!r} must be PSFMap or RecoPSFMap, "
            f"not {type(psf).__name__}"
        )
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
    density = density.reshape(*shape, *density.shape[1:])
    return rad, density, true


def psf_energies(dataset: MapDataset, true: bool) -> Array:
    """Energies [TeV] of the PSF of a dataset."""
    return (dataset.energy_axis_true if true else dataset.energy_axis).center_tev()


def psf_densities(
    dataset: MapDataset, positions: SkyCoord, photons: Array, problems: dict[int, str]
) -> Array:
    """Densities (P, T or E, R) of the PSF, those that are none set to zero.

    Parameters
    ----------
    dataset : MapDataset
        With a PSF.
    positions : SkyCoord
        P positions.
    photons : ndarray of bool, shape (P, T or E)
        Where there are any: what is wrong elsewhere does not matter.
    problems : dict
        Takes what is wrong, by the index of the energy.
    """
    rad, density, true = _raw_tables(dataset, positions)
    cleaned, faults = checked_profiles(rad, density)
    found = profile_error(
        f"psf of dataset {dataset.name!r}",
        rad,
        density,
        np.where(photons, faults, 0),
        psf_energies(dataset, true),
    )
    for energy, text in found.items():
        problems.setdefault(energy, text)
    return _sound(cleaned, faults)


def reach(rad: Array, density: Array, matrix: Array, scale: float = 1.0) -> int:
    """Pixels from the centre to where the PSF of all energies, widened by a factor, has ended."""
    positive = np.flatnonzero((density > 0).any(axis=tuple(range(density.ndim - 1))))
    last = min(positive[-1] + 1, len(rad) - 1) if len(positive) else 0
    size = np.linalg.svd(matrix, compute_uv=False).min()
    return int(np.ceil(scale * rad[last] / size + 0.5))


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
    centers = SkyCoord([emission.center for emission in emissions])
    rad, _, true = psf_tables(dataset, centers[:1])
    assert dataset.psf is not None
    if not true:
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
    position = dataset.geom.center_skydir
    rad, density, _ = psf_tables(dataset, position)
    r = np.deg2rad(rad)
    step = np.pi * (density[:, 1:] * r[1:] + density[:, :-1] * r[:-1]) * np.diff(r)
    inside = np.concatenate([np.zeros((len(density), 1)), np.cumsum(step, axis=1)], axis=1)
    level = fraction * inside[:, -1]
    radius = [np.interp(one, own, rad) for one, own in zip(level, inside, strict=True)]
    return np.where(inside[:, -1] > 0, radius, 0.0)


DEGREE_MAX = 8
"""Largest degree of the moments of emission within its pixel."""
POINT_TRUNCATION, TRUNCATION = 2e-3, 1e-3
"""What moments left out may add to a pixel, as a part of the largest of a template.

The first is for the next degree of a point in the corner of a pixel, where the series does worst.
The second is for all that a component could do without.
"""


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


def center_moments(dataset: MapDataset) -> Array:
    """Kernels (orders, T, 3, 3) of all moments within the nearest pixels, at the map's centre."""
    geom = dataset.geom.to_image()
    center = SkyCoord([geom.center_skydir])
    rad, density, _ = psf_tables(dataset, center)
    (matrix,) = pixel_matrices(geom, center)
    return np.asarray(psf_moments(rad, density[0], matrix, 1, DEGREE_MAX + 1))


def narrowest_moments(dataset: MapDataset, degree: int) -> Array:
    """Those (orders, k, k) of the energy at which most stays in its pixel, as far as they matter.

    That is twice the radius of 68 %: the wider the PSF, the more pixels add up to what moments do.
    """
    geom = dataset.geom.to_image()
    center = SkyCoord([geom.center_skydir])
    rad, density, _ = psf_tables(dataset, center)
    (matrix,) = pixel_matrices(geom, center)
    narrowest = np.argmax(psf_kernel(rad, density[0], matrix, 0)[:, 0, 0])
    radius = psf_radius(dataset)[narrowest] / np.linalg.svd(matrix, compute_uv=False).min()
    half = min(int(np.ceil(2 * radius)) + 1, max(geom.npix_shape))
    return np.asarray(psf_moments(rad, density[0, [narrowest]], matrix, half, degree))[:, 0]


def moment_degree(dataset: MapDataset, wanted: int | None) -> int:
    """Largest degree of the moments of emission within its pixel that are followed.

    Parameters
    ----------
    dataset : MapDataset
        With its PSF.
    wanted : int or None
        Number of degrees, see the option ``subpixels`` of the estimator. By default as many as the
        PSF of any energy at the map's centre asks for, see `POINT_TRUNCATION`.
    """
    if wanted is not None:
        return wanted - 1
    return min(int(needed_degrees(center_moments(dataset)).max(initial=0)), DEGREE_MAX)


def sufficient_degree(emission: Emission, kernels: Array) -> int:
    """Degree of the moments beyond which they add less than `TRUNCATION` to a component.

    ``kernels`` are the `narrowest_moments`. The more even emission is, the fewer it takes. What is
    left out is bounded, without regard to signs, from the pixels around, where a PSF changes most;
    from all that it reaches it is summed as it is.
    """
    n, middle = len(emission.moments), kernels.shape[-1] // 2
    if n == 1:
        return 0
    around = kernels[:n, middle - 1 : middle + 2, middle - 1 : middle + 2]
    left_out = np.maximum(
        _left_out(emission.moments, kernels[:n]),
        _left_out(np.abs(emission.moments), np.abs(around)),
    )
    return int(np.count_nonzero(left_out > TRUNCATION))


def _left_out(moments: Array, kernels: Array) -> Array:
    """Largest part of a template's peak that moments beyond each degree add, shape (degrees,)."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    total = np.array([a + b for a, b in orders(degree_of(len(moments)))])
    full = [m + k - 1 for m, k in zip(moments.shape[1:], kernels.shape[1:], strict=True)]
    fine = [next_fast_len(size, real=True) for size in full]
    product = rfft2(moments, fine) * rfft2(kernels, fine)
    by_degree = np.add.reduceat(product, np.flatnonzero(np.diff(total, prepend=-1)))
    added = np.abs(irfft2(by_degree, fine)[:, : full[0], : full[1]])
    beyond = np.cumsum(added[:0:-1], axis=0)[::-1].max(axis=(1, 2))
    return beyond / added[0].max()
