r"""Point-spread functions on a pixel grid: kernels, and the convolution with them.

A PSF is a table of densities :math:`p(r)` at uneven radii, linear in between. A photon that starts
anywhere in its pixel is found in the pixel at :math:`\Delta` with the probability

.. math:: K(\Delta) = \int_0^\infty 2 \pi r\, p(r)\, A_\Delta(r)\, dr, \qquad
    A_\Delta(r) = \frac{1}{2 \pi} \oint \Lambda(\Delta_x - u_x)\, \Lambda(\Delta_y - u_y)\, d\varphi

where :math:`u` is the point at the distance r and the angle :math:`\varphi`, in pixels, and
:math:`\Lambda(x) = \max(1 - |x|, 0)` the overlap of two pixels. Emission that is not even in its
pixel has moments there (`jaxprof.sky.moments`), and

.. math:: K_{ab}(\Delta) = (2 a + 1) (2 b + 1) \int P_a(2 x)\, P_b(2 y)\, k_\Delta(x, y)\, dx\, dy

is what each of them adds to the pixel at :math:`\Delta`: the terms of the Legendre series of
:math:`k_\Delta(x, y)`, the probability for a photon that starts at the place x, y of its pixel.
They have the same form, with integrals of Legendre polynomials for :math:`\Lambda`.

The integral over r is cut into
panels, narrow ones near the centre. The mass of a panel has a closed form, so that the kernel is
normalised whatever the table, and derivatives by its width are right at an abrupt end; quadrature
only distributes the mass within a panel. For a point the mass of a panel is spread by the exact
areas that it shares with the pixels. Either way a pixel is good to some 1e-3 of the largest, behind
a PSF that is wide as well. ``A`` is geometry alone
(see `jaxprof.irf.psf_rings`) and knows nothing of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.irf.psf_rings import rings_on_pixels
from jaxprof.types import Array


def containment(rad: Any, density: Any) -> jax.Array:
    """Integral of a density over the sky, for each energy.

    Parameters
    ----------
    rad : array, shape (R,)
        Radii [deg], increasing; below the first the density is constant, beyond the last zero.
    density : array, shape (T, R)
        Density [sr-1], linear between the radii.

    Returns
    -------
    containment : array, shape (T,)
        Closed form of ``2 pi r p(r)`` integrated piece by piece, in the flat-sky limit.
    """
    rad, density = _from_zero(jnp.asarray(rad), jnp.asarray(density), jnp)
    return _mass_beyond(rad, density, jnp.zeros_like(rad[:1]), jnp)[..., 0]


def _from_zero(rad: Any, density: Any, xp: Any) -> tuple[Any, Any]:
    """The table with a node at zero, in radians."""
    zero = xp.zeros_like(rad[:1])
    first = density[..., :1]
    return xp.concatenate([zero, xp.deg2rad(rad)]), xp.concatenate([first, density], axis=-1)


def _interpolate(rad: Any, density: Any, at: Any, xp: Any) -> tuple[Any, Any]:
    """Density (T, N) at radii (N,), constant beyond the nodes; index of the node to the right."""
    right = xp.clip(xp.searchsorted(rad, at, side="right"), 1, len(rad) - 1)
    left = right - 1
    step = rad[right] - rad[left]
    share = xp.where(step > 0, at - rad[left], 0.0) / xp.where(step > 0, step, 1.0)
    share = xp.minimum(share, 1.0)[None]
    return density[..., left] * (1.0 - share) + density[..., right] * share, right


def _ring_mass(inner: Any, outer: Any, density_inner: Any, density_outer: Any) -> Any:
    """Integral of 2 pi r p(r) between two radii with p linear between them, without cancellation.

    The integrand is of second order in r: Simpson's rule is exact.
    """
    inner, outer = inner[None], outer[None]
    middle = (inner + outer) * (density_inner + density_outer)
    return np.pi / 3 * (outer - inner) * (inner * density_inner + middle + outer * density_outer)


def _mass_beyond(rad: Any, density: Any, at: Any, xp: Any) -> Any:
    """Integral (T, N) from radii (N,) outwards; summed from outside, to keep digits."""
    pieces = _ring_mass(rad[:-1], rad[1:], density[..., :-1], density[..., 1:])
    outside = xp.cumsum(pieces[..., ::-1], axis=-1)[..., ::-1]
    outside = xp.concatenate([outside, xp.zeros_like(outside[..., :1])], axis=-1)
    value, right = _interpolate(rad, density, at, xp)
    rest = _ring_mass(at, rad[right], value, density[..., right])
    return xp.where((at < rad[-1])[None], outside[..., right] + rest, 0.0)


@dataclass(frozen=True)
class _Table:
    """A PSF: its densities (T, R) at radii (R,) [deg], widened by a scale."""

    rad: Any
    density: Any
    scale: Any


@dataclass(frozen=True)
class _Pixels:
    """Pixels to each side of the central one, and where in that emission starts."""

    matrix: Array
    """From pixels to the tangent plane [deg], (2, 2)."""
    half: int
    """Number of pixels on each side."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Position of a point from the centre of the central pixel, in pixels."""


def _check(table: _Table, pixels: _Pixels, rad_traced: bool, widened: bool) -> None:
    """Raise ValueErrors for tables and pixels that make no sense."""
    rad, density, matrix, half = table.rad, table.density, pixels.matrix, pixels.half
    if matrix.shape != (2, 2) or not abs(np.linalg.det(matrix)) > 0:
        raise ValueError(f"matrix must be 2 x 2 and not singular, got {matrix.tolist()}")
    if half < 0:
        raise ValueError(f"half must be a number of pixels, zero or more, got {half}")
    if np.ndim(rad) != 1 or np.ndim(density) != 2 or np.shape(density)[1] != np.size(rad):
        raise ValueError(
            "density must have the shape (energies, radii) with the radii of rad, got "
            f"{np.shape(density)} for rad of shape {np.shape(rad)}"
        )
    if not rad_traced and (np.any(np.diff(rad) <= 0) or np.min(rad) < 0):
        raise ValueError("rad must increase from zero or more; sort the table by distance")
    if not widened and not table.scale > 0:
        raise ValueError(f"scale must be positive, got {table.scale}")


def _pixelised(table: _Table, pixels: _Pixels, degree: int | None) -> Any:
    """Images (orders, T, 2 half + 1, 2 half + 1); of a point for a degree of None."""
    rad, density, scale, half = table.rad, table.density, table.scale, pixels.half
    traced = [isinstance(value, jax.core.Tracer) for value in (rad, scale, density)]
    _check(table, pixels, *traced[:2])
    # Without anything to differentiate numpy does it, which need not be compiled.
    xp = jnp if any(traced) else np
    scale = scale if traced[1] else float(scale)
    limit = np.inf if any(traced[:2]) else float(np.max(rad)) * scale
    matrix = tuple(pixels.matrix.ravel().tolist())
    start = (float(pixels.offset[0]), float(pixels.offset[1]))
    edges, rings, weights, shares = rings_on_pixels(matrix, int(half), start, degree, limit)

    dtype = jnp.result_type(float)
    rad, density = _from_zero(xp.asarray(rad, dtype), xp.asarray(density, dtype), xp)
    radians = np.pi / 180 / scale
    beyond = _mass_beyond(rad, density, xp.asarray(edges, dtype) * radians, xp)
    mass = xp.maximum(beyond[:, :-1] - beyond[:, 1:], 0.0)
    # A table may integrate to more than one by its linear interpolation, and is scaled down then.
    total = _mass_beyond(rad, density, xp.zeros_like(rad[:1]), xp)
    mass = mass / xp.maximum(total, 1.0)
    # Beyond the table's end the density goes on here, so that nothing jumps when the end, which the
    # mass of its panel knows, passes a ring.
    at = xp.asarray(rings, dtype)
    value, _ = _interpolate(rad, density, at.ravel() * radians, xp)
    part = value.reshape(-1, *at.shape) * (at * weights.astype(dtype)[None])[None]
    sums = part.sum(axis=-1, keepdims=True)
    # All of a panel goes to its innermost ring where the table is too narrow to meet any.
    narrow = sums <= 0
    innermost = np.eye(1, at.shape[1], dtype=dtype)
    part = xp.where(narrow, innermost[None], part / xp.where(narrow, 1.0, sums))
    on_rings = (mass[..., None] * part).reshape(len(part), -1)
    if xp is np:
        image = (shares @ on_rings.T).T.astype(dtype)
    else:
        rows = np.repeat(np.arange(shares.shape[0]), np.diff(shares.indptr))
        terms = on_rings.T[shares.indices] * shares.data.astype(dtype)[:, None]
        image = jax.ops.segment_sum(terms, rows, shares.shape[0], indices_are_sorted=True).T
    side = 2 * half + 1
    return xp.moveaxis(image.reshape(len(part), -1, side, side), 1, 0)


def psf_kernel(
    rad: Any,
    density: Any,
    matrix: Any,
    half: int,
    *,
    scale: Any = 1.0,
) -> Any:
    """Probability that a photon from a pixel is found in a pixel nearby.

    Parameters
    ----------
    rad : array, shape (R,)
        Radii [deg], increasing; within the first the density is constant, beyond the last zero.
    density : array, shape (T, R)
        Density of each energy [sr-1], linear between the radii.
    matrix : array, shape (2, 2)
        From pixels to the tangent plane [deg]; not traced.
    half : int
        Pixels on each side of the central one. What falls beyond is lost.
    scale : float, optional
        Widens the PSF: ``density(r / scale) / scale**2``; may be traced.

    Returns
    -------
    kernel : array, shape (T, 2 half + 1, 2 half + 1)
        ``kernel[t, half + dy, half + dx]``; on an infinite grid the sum is the containment of the
        table, at most one (tables of real instruments may integrate to a little more). The
        identity where the table is much narrower than a pixel, zero where it is zero. A numpy
        array unless something is traced.

    Raises
    ------
    ValueError
        For a table, a matrix or a number that makes no sense.
    """
    pixels = _Pixels(np.asarray(matrix, float), half)
    return _pixelised(_Table(rad, density, scale), pixels, 0)[0]


def psf_moments(
    rad: Any, density: Any, matrix: Any, half: int, degree: int, *, scale: Any = 1.0
) -> Any:
    """What each moment of the emission within a pixel adds to the pixels nearby.

    Parameters
    ----------
    rad, density, matrix, half, scale
        As for `psf_kernel`.
    degree : int
        Largest total degree of the moments.

    Returns
    -------
    kernels : array, shape (orders, T, 2 half + 1, 2 half + 1)
        ``K_ab`` of the module's formula in the order of `jaxprof.sky.moments.orders`; the first is
        that of `psf_kernel`, by finer samples; the others sum to zero on an infinite grid.

    Raises
    ------
    ValueError
        As for `psf_kernel`, and for a degree below zero.
    """
    if degree < 0:
        raise ValueError(f"degree must be zero or more, got {degree}")
    pixels = _Pixels(np.asarray(matrix, float), half)
    return _pixelised(_Table(rad, density, scale), pixels, degree)


def psf_image(
    rad: Any,
    density: Any,
    matrix: Any,
    offset: tuple[float, float],
    half: int,
    *,
    scale: Any = 1.0,
) -> Any:
    """Image of a point source: the probability that its photon is found in each pixel.

    Parameters
    ----------
    rad, density, matrix, half, scale
        As for `psf_kernel`.
    offset : tuple of float
        Position (dx, dy) of the source from the centre of the central pixel, in pixels.

    Returns
    -------
    image : array, shape (T, 2 half + 1, 2 half + 1)
        Normalised as the kernel is.
    """
    pixels = _Pixels(np.asarray(matrix, float), half, offset)
    return _pixelised(_Table(rad, density, scale), pixels, None)[0]


def convolve(images: Any, kernels: Any) -> jax.Array:
    """Convolve images with kernels, in full.

    Parameters
    ----------
    images : array, shape (..., T, h, w)
        Of either sign.
    kernels : array, shape (..., T, 2k + 1, 2k + 1)
        Leading axes broadcast with those of the images.

    Returns
    -------
    convolved : array, shape (..., T, h + 2k, w + 2k)
        By fast Fourier transforms; their rounding noise, below 1e-14 of an image's largest value,
        is set to zero.
    """
    from scipy.fft import next_fast_len

    images, kernels = jnp.asarray(images), jnp.asarray(kernels)
    kernels = kernels.reshape((1,) * (images.ndim - kernels.ndim) + kernels.shape)
    height = images.shape[-2] + kernels.shape[-2] - 1
    width = images.shape[-1] + kernels.shape[-1] - 1
    size = (next_fast_len(height, real=True), next_fast_len(width, real=True))
    product = jnp.fft.rfft2(images, size) * jnp.fft.rfft2(kernels, size)
    found = jnp.fft.irfft2(product, size)[..., :height, :width]
    size_of = jnp.abs(found)
    floor = 64 * jnp.finfo(found.dtype).eps * size_of.max(axis=(-2, -1), keepdims=True)
    return jnp.where(size_of > floor, found, 0.0)
