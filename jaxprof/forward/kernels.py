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
from jaxprof.forward.emission import Emission
from jaxprof.irf import PSFMap, RecoPSFMap
from jaxprof.maps import WcsGeom

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
        Position of a point source within its pixel; None for emission from the whole pixel.
    """

    rad: Array
    density: Array
    matrix: Array
    offset: tuple[float, float] | None


def pixel_matrix(geom: WcsGeom, position: SkyCoord) -> Array:
    """Offsets in the tangent plane, to the east and north [deg], of one pixel in x and in y."""
    x, y = (float(p) for p in position.to_pixel(geom.wcs, mode="wcs"))
    if not np.isfinite(x + y):
        # Not on the projection: such a component has no pixels to spread.
        return np.diag(geom.pixel_scales.to_value("deg"))
    steps = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    around = pixel_to_skycoord(x + steps[:, 0], y + steps[:, 1], geom.wcs)
    east, north = (o.to_value("deg") for o in position.spherical_offsets_to(around))
    return np.array([[axis[0] - axis[1], axis[2] - axis[3]] for axis in (east, north)])


def missing_psf(dataset: MapDataset) -> ValueError:
    """Error for a dataset without a PSF, with the alternatives."""
    return ValueError(
        f"dataset {dataset.name!r} has no psf, which forward folding needs: read a file with an "
        "HDU PSF, set dataset.psf (PSFMap.from_gauss makes a Gaussian one), or use "
        "FluxProfileEstimator, which fits each region on its own and ignores the PSF"
    )


def psf_tables(dataset: MapDataset, positions: SkyCoord) -> tuple[Array, Array, bool]:
    """Radii [deg] and densities (P, T or E, R) [sr-1] of the PSF, and whether in true energy."""
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
    return rad, np.asarray(psf.get_profile(positions, energy=energy)), true


def reach(rad: Array, density: Array, matrix: Array) -> int:
    """Pixels from the centre to where the PSF of all energies has ended."""
    positive = np.flatnonzero((density > 0).any(axis=tuple(range(density.ndim - 1))))
    last = min(positive[-1] + 1, len(rad) - 1) if len(positive) else 0
    size = np.linalg.svd(matrix, compute_uv=False).min()
    return int(np.ceil(rad[last] / size + 0.5))


def distinct_kernels(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission]
) -> tuple[list[Kernel], Array]:
    """Distinct kernels, and which of them each component has."""
    centers = SkyCoord([emission.center for emission in emissions])
    rad, tables, _ = psf_tables(dataset, centers)
    kernels: list[Kernel] = []
    which = np.empty(len(emissions), int)
    for index, emission in enumerate(emissions):
        matrix = pixel_matrix(geom, emission.center)
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
    return kernels, which


def psf_radius(dataset: MapDataset, fraction: float = 0.68) -> Array:
    """Radius [deg] that holds a fraction of the PSF at the map's centre, for each energy."""
    position = dataset.geom.center_skydir
    rad, density, _ = psf_tables(dataset, position)
    r = np.deg2rad(rad)
    step = np.pi * (density[:, 1:] * r[1:] + density[:, :-1] * r[:-1]) * np.diff(r)
    inside = np.concatenate([np.zeros((len(density), 1)), np.cumsum(step, axis=1)], axis=1)
    level = fraction * inside[:, -1]
    return np.array([np.interp(one, own, rad) for one, own in zip(level, inside, strict=True)])


def subpixels(dataset: MapDataset, wanted: int | None) -> int:
    """Parts along each side of a pixel that emission is spread over.

    By default such that a part is below a tenth of the PSF's 68 % radius, three at most: a disk in
    rings of the PSF's width and of two pixels then has its flux to 0.3 %.
    """
    if wanted is not None:
        return wanted
    radius = psf_radius(dataset)
    radius = radius[radius > 0].min(initial=np.inf)
    pixel = dataset.geom.pixel_scales.to_value("deg").max()
    if radius < 0.05 * pixel:
        # Nothing leaves its pixel: where it started in it does not matter.
        return 1
    return int(np.clip(np.ceil(10 * pixel / radius), 1, 3))
