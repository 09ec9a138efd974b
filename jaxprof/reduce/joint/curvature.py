r"""What the curvature of the sky does to templates, to second order.

Each component is folded in the plane that touches the sky at its centre, with pixels that are all
alike. Off the equator of a plate carrée map, for instance, they are not: a pixel at :math:`p` is
displaced by :math:`q(p)` from where that plane has it. With the emission :math:`e` and the kernel
:math:`K` of the plane, the template is

.. math:: T(p) = \sum_{p'} e(p') \left|\frac{\partial u}{\partial p}\right| K(u(p) - u(p')),
    \qquad u(p) = p + q(p),

and to second order in the displacements :math:`\delta = q(p) - q(p')` of two pixels

.. math:: T = \sum_{p'} e \left[ K + \partial_i (\delta_i K) + \tfrac{1}{2} \partial_i \partial_j
    (\delta_i \delta_j K) - \partial_i \left( (\partial_j q_i)\, \delta_j K \right) \right]

with derivatives with respect to :math:`p`. The sums over :math:`p'` are convolutions of :math:`e`,
:math:`q_i e` and :math:`q_i q_j e` with the kernel. That of whole pixels is smeared by them, the
variance of a position in a pixel is :math:`v = 1/12` on either side, and this smearing moves along
with no displacement: :math:`\partial_i ( 2 v\, (\partial_j q_i)\, \partial_j K)` makes up for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.irf.psf_kernel import convolve
from jaxprof.reduce.joint.emission import Emission, centers_of
from jaxprof.sky import WcsGeom
from jaxprof.sky.closed import unwrapped
from jaxprof.sky.regions.grid import sky_vectors
from jaxprof.sky.regions.sphere import local_axes, unit_vectors
from jaxprof.types import Array

FLAT, STEEP = 3e-3, 0.4
"""Gradients of the displacement from where on it counts, changing templates by some 1e-3 of their
peak, and up to where its second order is enough for them to be good to 2e-3."""

DIFFERENCES = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
"""Weights of the central differences to one, two, ... pixels in a derivative."""


@dataclass(frozen=True)
class Planes:
    """Tangent planes at the centres of C components."""

    geom: WcsGeom
    """Pixels of the map."""
    origin: Array
    """Centres (x, y) in pixels; NaN off the projection; (C, 2)."""
    axes: Array
    """Unit vectors to the east, to the north and to the centre, in the map's frame, (C, 3, 3)."""
    matrix: Array
    """From pixels to the plane [deg], (C, 2, 2)."""

    def displacements(self, index: int, y: Array, x: Array) -> Array:
        """Displacements (x, y) of pixel positions [pixels], shape (2, ...).

        Distances from the centre are those on the sphere. Far away, where they are no small part of
        the distance, they are damped; zero off the projection.
        """
        found, offset = self._undamped(index, y, x)
        distance = np.hypot(*offset)
        part = np.hypot(*found) / np.where(distance > 0, distance, 1.0)
        found = found / (1 + (3 * part) ** 4)
        return np.where(np.isfinite(found), found, 0.0)

    def gradient(self, index: int, emission: Emission, radius: float) -> float:
        """Largest gradient of the displacement within a radius [deg] of an emission's corners.

        Infinite where the projection ends within it; zero for what is not on the projection.
        """
        if not np.isfinite(self.origin[index]).all():
            return 0.0
        h, w = emission.weights.shape
        corner = np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5, 1])).reshape(2, -1, 1)
        angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        circle = radius * np.linalg.solve(self.matrix[index], [np.cos(angle), np.sin(angle)])
        x, y = ([[emission.x0]], [[emission.y0]]) + corner * [[[w - 1]], [[h - 1]]]
        found, offset = self._undamped(index, y + circle[1], x + circle[0])
        size, distance = (
            np.hypot(*np.tensordot(self.matrix[index], v, 1)) for v in (found, offset)
        )
        # It is of second order in the offset.
        largest = np.max(2 * size / np.where(distance > 0, distance, 1.0))
        return float(largest) if np.isfinite(largest) else np.inf

    def beyond(self, index: int, emission: Emission) -> bool:
        """Whether some emission is beyond 90 deg from its centre, where the plane is no guide."""
        y, x = np.nonzero(emission.weights)
        points = sky_vectors(self.geom.wcs, x + emission.x0, y + emission.y0)
        return bool(np.any(points @ self.axes[index, 2] < 0))

    def _undamped(self, index: int, y: Array, x: Array) -> tuple[Array, Array]:
        """Displacements and offsets from the centre, (2, ...), NaN off the projection."""
        y, x = np.broadcast_arrays(np.asarray(y, float), np.asarray(x, float))
        points = sky_vectors(self.geom.wcs, x.ravel(), y.ravel()) @ self.axes[index].T
        away = np.hypot(points[:, 0], points[:, 1])
        scale = np.rad2deg(np.arctan2(away, points[:, 2])) / np.where(away > 0, away, 1.0)
        at = np.linalg.solve(self.matrix[index], (points[:, :2] * scale[:, np.newaxis]).T)
        offset = np.stack([x.ravel(), y.ravel()]) - self.origin[index][:, np.newaxis]
        offset[0] = unwrapped(offset[0], 0.0, self.geom.turn)
        return (at - offset).reshape(2, *x.shape), offset.reshape(2, *x.shape)


def tangent_planes(geom: WcsGeom, emissions: Sequence[Emission], matrices: Array) -> Planes:
    """Planes of components with the matrices (C, 2, 2) of their kernels."""
    centers = centers_of(emissions)
    lon, lat = centers.spherical.lon.rad, centers.spherical.lat.rad
    axes = np.stack([*local_axes(lon, lat), unit_vectors(lon, lat)], axis=1)
    return Planes(geom, np.stack(geom.pixel_coordinates(centers), axis=-1), axes, matrices)


def displacements(
    planes: Planes,
    first: int,
    curved: NDArray[np.bool_],
    origin: Sequence[Array],
    shape: tuple[int, ...],
    centroids: Sequence[Array | None] | None = None,
) -> Array:
    """Displacements on some pixels of components, (C, 2, H, W); zero for those not ``curved``.

    The first pixels of each are at ``origin``, (y0, x0); where there are ``centroids`` of their
    emission (dy, dx), of the first pixels, these are displaced.
    """
    found = np.zeros((len(curved), 2, *shape))
    for index in map(int, np.flatnonzero(curved)):
        at = np.indices(shape) + np.array([[[own[index]]] for own in origin], float)
        shift = None if centroids is None else centroids[index]
        if shift is not None:
            at[:, : shift.shape[1], : shift.shape[2]] += shift
        found[index] = planes.displacements(first + index, *at)
    return found


def moved(
    flow: Sequence[Any],
    even: Any,
    first: Sequence[Any],
    second: Sequence[Any],
    at: Any,
    within: Any,
) -> Any:
    """What displacements add to templates (C, T, H, W).

    The ``flow`` are sums of the displacements in x and y with the emission and the kernel; ``even``
    is the emission on the plane, even in its pixels, convolved with the kernel, ``first`` the same
    times its displacements in x and y, and ``second`` times their products x x, x y and y y. The
    templates are displaced by ``at`` (2, C, 1, H, W). The variance ``within`` a pixel of where
    photons start and where they are found [pixel2] is that of the pixels themselves, which the
    kernel contains and which are not displaced.
    """
    slope = [[_derivative(at[i], j) for j in (0, 1)] for i in (0, 1)]
    change = [_derivative(even, j) for j in (0, 1)]
    mixed = at[0] * at[1] * even - at[0] * first[1] - at[1] * first[0] + second[1]
    square = [(at[i] * even - 2 * first[i]) * at[i] + second[2 * i] for i in (0, 1)]
    parts = []
    for i, others in ((0, (square[0], mixed)), (1, (mixed, square[1]))):
        pulled = sum(slope[i][j] * (within * change[j] - flow[j]) for j in (0, 1))
        parts.append(flow[i] + pulled + 0.5 * sum(_derivative(others[j], j) for j in (0, 1)))
    return sum(_derivative(part, i) for i, part in enumerate(parts))


def _derivative(values: Any, direction: int) -> Any:
    """Derivative of images (..., H, W) in x (0) or y (1), by differences of eighth order.

    Zero is beyond the cutouts.
    """
    reach = len(DIFFERENCES)
    values = jnp.moveaxis(values, -1 - direction, -1)
    n = values.shape[-1]
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(reach, reach)])
    change = sum(
        weight * (padded[..., reach + k :][..., :n] - padded[..., reach - k :][..., :n])
        for k, weight in enumerate(DIFFERENCES, start=1)
    )
    return jnp.moveaxis(change, -1, -1 - direction)


def spread_on_sky(images: Any, ratios: Any, kernel: Any, near: Any, displacements: Any) -> Any:
    """Images (C, T, h, w) after the PSF on a sky that is curved.

    The ``ratios`` (C, n, h, w) tell where in its pixel the emission starts; their kernels ``near``
    have the shape (n, T, k, k), or (n, C, T, k, k). ``displacements`` are those of the emission
    (C, 2, h, w) and of the cutouts (C, 2, H, W) and the variance within pixels (C, 1, 1, 1), or
    None; see `jaxprof.reduce.joint.curvature.moved`. The result has the shape (C, T, H, W).
    """
    own = kernel if kernel.ndim == 4 else kernel[None]
    edge = 0 if near is None else (kernel.shape[-1] - near.shape[-1]) // 2

    def detailed(even: Any, weighted: Any) -> Any:
        return even if ratios is None else _with_moments(even, weighted, ratios, near, edge)

    even = convolve(images, own)
    spread = detailed(even, images)
    if displacements is not None:
        inner, outer = (jnp.moveaxis(part, 1, 0)[:, :, None] for part in displacements[:2])
        first = [convolve(images * along, own) for along in inner]
        pairs = ((0, 0), (0, 1), (1, 1))
        second = [convolve(images * inner[i] * inner[j], own) for i, j in pairs]
        flow = [
            at * spread - detailed(plain, images * along)
            for at, plain, along in zip(outer, first, inner, strict=True)
        ]
        spread = spread + moved(flow, even, first, second, outer, displacements[2])
    return jnp.maximum(spread, 0.0)


def _with_moments(even: Any, images: Any, ratios: Any, near: Any, edge: int) -> Any:
    """Spread images with what it adds that emission is uneven within its pixels.

    ``even`` (C, T, H, W) are the images (C, T, h, w) convolved with their kernel, which is wider by
    ``edge`` pixels on each side than the kernels ``near`` of the moments, (n, T, k, k) or
    (n, C, T, k, k); the ``ratios`` (C, n, h, w) are the moments in each pixel.
    """
    from scipy.fft import next_fast_len

    height, width = (size + near.shape[-1] - 1 for size in images.shape[-2:])
    fine = (next_fast_len(height, real=True), next_fast_len(width, real=True))

    def add(total: Any, pair: tuple[Any, Any]) -> tuple[Any, None]:
        ratio, own = pair
        own = own if own.ndim == 4 else own[None]
        detail = images * ratio[:, None]
        return total + jnp.fft.rfft2(detail, fine) * jnp.fft.rfft2(own, fine), None

    shape = (*images.shape[:2], fine[0], fine[1] // 2 + 1)
    start = jnp.zeros(shape, jnp.result_type(images, jnp.complex64))
    product, _ = jax.lax.scan(add, start, (jnp.swapaxes(ratios, 0, 1), near))
    extra = jnp.fft.irfft2(product, fine)[..., :height, :width]
    inner = (slice(edge, edge + height), slice(edge, edge + width))
    corrected = even.at[..., inner[0], inner[1]].add(extra)
    floor = 64 * jnp.finfo(even.dtype).eps * jnp.abs(even).max(axis=(-2, -1), keepdims=True)
    return jnp.where(jnp.abs(corrected) > floor, corrected, 0.0)
