"""Point spread functions from images of a point on pixels (kernels)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from astropy import units as u
from astropy.wcs.utils import pixel_to_skycoord
from numpy.typing import ArrayLike, NDArray

from jaxprof.irf.psf import PSFMap
from jaxprof.sky.axes import MapAxis
from jaxprof.sky.geometry import WcsGeom

N_WIDTHS = 120
"""Gaussians whose sum is fitted, up to one as wide as the kernel."""
NARROWEST = 0.05
"""Standard deviation of the narrowest, in pixels."""
ROUND = 0.02
"""Part of its peak by which a kernel may differ from that of a round function unsaid."""


def psf_from_kernel(
    kernel: ArrayLike, geom: WcsGeom, energy_axis_true: MapAxis
) -> tuple[PSFMap, NDArray[np.float64]]:
    """Point spread function whose image of a point is a kernel.

    A kernel holds the integrals of the density over pixels, for a point in the middle of the
    central one. The density is found as a sum of Gaussians of positive weights, whose integrals
    come closest (least squares; Emsellem et al. 1994, A&A 285, 723).

    Parameters
    ----------
    kernel : array_like, shape (n_true, ny, nx)
        Odd numbers of pixels. Each energy is scaled to a sum of one, as gammapy does.
    geom : WcsGeom
        Pixels of the kernel.
    energy_axis_true : MapAxis
        True-energy axis.

    Returns
    -------
    psf : PSFMap
        The same all over the sky; normalised within the kernel's farthest corner. Zero for energies
        at which the kernel is, NaN where it is NaN or negative.
    misfit : ndarray, shape (n_true,)
        Largest difference between the kernel and that of the density, as a part of its peak. Large
        for what is not round on the sky or does not fall outwards.

    Raises
    ------
    ValueError
        If the shapes disagree, or a number of pixels is even.
    """
    values = np.asarray(kernel, np.float64)
    if values.shape != (energy_axis_true.nbin, *geom.npix_shape):
        raise ValueError(
            f"the kernel has the shape {values.shape}, but its axis and pixels make "
            f"{(energy_axis_true.nbin, *geom.npix_shape)}"
        )
    if not all(n % 2 for n in geom.npix_shape):
        raise ValueError(
            f"the kernel has {geom.npix_shape} pixels (ny, nx); the point is in the middle of the "
            "central one, so both numbers must be odd"
        )
    size = _pixel_size(geom)
    corner = float(np.hypot(*(n / 2 * s for n, s in zip(geom.npix_shape, size, strict=True))))
    widths = np.geomspace(NARROWEST * size.min(), corner, N_WIDTHS)
    images = _gaussian_images(widths, geom.npix_shape, size)
    from scipy.optimize import nnls

    rad = np.concatenate([[0.0], np.geomspace(0.2 * widths[0], corner, 400)])
    shapes = np.exp(-0.5 * (rad / widths[:, np.newaxis]) ** 2)
    shapes /= 2 * np.pi * np.deg2rad(widths[:, np.newaxis]) ** 2
    # Least squares in as many equations as there are Gaussians, not pixels.
    basis, triangle = np.linalg.qr(images.reshape(N_WIDTHS, -1).T)
    density = np.zeros((len(values), len(rad)))
    misfit = np.zeros(len(values))
    for index, image in enumerate(values):
        if not np.all(image >= 0) or not np.isfinite(image.sum()):
            density[index] = np.nan
        elif image.any():
            image = image / image.sum()
            # Gaussians of neighbouring widths are much alike: that takes more than the usual steps.
            weights, _ = nnls(triangle, image.ravel() @ basis, maxiter=100 * N_WIDTHS)
            found = np.tensordot(weights, images, axes=1)
            misfit[index] = np.abs(found - image).max() / image.max()
            density[index] = weights @ shapes
    axis = MapAxis.from_nodes(rad * u.deg, name="rad")
    psf = PSFMap(density, axis, energy_axis_true)
    inside = np.array([psf.containment(k, corner) for k in range(len(values))])
    density = density / np.where(inside > 0, inside, 1.0)[:, np.newaxis]
    return PSFMap(density, axis, energy_axis_true), misfit


def _pixel_size(geom: WcsGeom) -> NDArray[np.float64]:
    """Height and width [deg] on the sky of the pixel in the middle."""
    y, x = ((n - 1) / 2 for n in geom.npix_shape)
    ends = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]) + [y, x]
    at = pixel_to_skycoord(ends[:, 1], ends[:, 0], geom.wcs)
    return np.array([at[0].separation(at[1]).deg, at[2].separation(at[3]).deg])


def _gaussian_images(
    widths: NDArray[np.float64], shape: tuple[int, int], size: NDArray[np.float64]
) -> Any:
    """Integrals over pixels of Gaussians of each width [deg] around the middle, (N, ny, nx)."""
    sides = []
    for n, step in zip(shape, size, strict=True):
        edges = (np.arange(n + 1) - n / 2) * step
        sides.append(np.diff(scipy.special.ndtr(edges / widths[:, np.newaxis]), axis=1))
    return sides[0][:, :, np.newaxis] * sides[1][:, np.newaxis]
