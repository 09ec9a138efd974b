"""How many moments of the emission within its pixels a PSF asks for."""

from __future__ import annotations

import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof.datasets import MapDataset
from jaxprof.irf.psf_kernel import psf_kernel, psf_moments
from jaxprof.reduce.joint.emission import Emission
from jaxprof.reduce.joint.kernels import needed_degrees, pixel_matrices, psf_radius, psf_tables
from jaxprof.sky.moments import degree_of, orders
from jaxprof.types import Array

DEGREE_MAX = 8
"""Largest degree of the moments of emission within its pixel."""
TRUNCATION = 1e-3
"""What all moments that a component could do without may add to a pixel, as a part of the largest
of its template."""


def center_moments(dataset: MapDataset) -> Array:
    """Kernels (orders, T, 3, 3) of all moments within the nearest pixels, at the map's centre."""
    return np.asarray(psf_moments(*_central_psf(dataset), 1, DEGREE_MAX + 1))


def _central_psf(dataset: MapDataset) -> tuple[Array, Array, Array]:
    """Radii, densities (T, R) and the matrix of pixels at the centre of the map."""
    geom = dataset.geom.to_image()
    center = SkyCoord([geom.center_skydir])
    rad, density = psf_tables(dataset, center)
    return rad, density[0], pixel_matrices(geom, center)[0]


def narrowest_moments(dataset: MapDataset, degree: int) -> Array:
    """Those (orders, k, k) of the energy at which most stays in its pixel, as far as they matter.

    That is twice the radius of 68 %: the wider the PSF, the more pixels add up to what moments do.
    """
    rad, density, matrix = _central_psf(dataset)
    narrowest = np.argmax(psf_kernel(rad, density, matrix, 0)[:, 0, 0])
    radius = psf_radius(dataset)[narrowest] / np.linalg.svd(matrix, compute_uv=False).min()
    half = min(int(np.ceil(2 * radius)) + 1, max(dataset.geom.npix_shape))
    return np.asarray(psf_moments(rad, density[[narrowest]], matrix, half, degree))[:, 0]


def moment_degree(dataset: MapDataset, wanted: int | None) -> int:
    """Largest degree of the moments of emission within its pixel that are followed.

    Of the ``wanted`` number of degrees (the option ``subpixels`` of the estimator) or, if that is
    None, of as many as the PSF of any energy at the map's centre asks for, see `POINT_TRUNCATION`.
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
