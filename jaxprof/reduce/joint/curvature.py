r"""What the curvature of the sky does to templates, to first order.

Each component is folded in the plane that touches the sky at its centre, with pixels that are all
alike. Off the equator of a plate carrée map, for instance, they are not: a pixel at :math:`p` is
displaced by :math:`q(p)` from where that plane has it. With the emission :math:`e` and the kernel
:math:`K` of the plane, the template is

.. math:: T(p) = \sum_{p'} e(p') \left|\frac{\partial u}{\partial p}\right| K(u(p) - u(p')),
    \qquad u(p) = p + q(p),

and to first order in the displacements

.. math:: T = K * e + \nabla \cdot \left[ q\, (K * e) - K * (q e) \right].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.reduce.joint.emission import Emission
from jaxprof.sky import WcsGeom
from jaxprof.sky.regions.grid import sky_vectors
from jaxprof.sky.regions.sphere import local_axes, unit_vectors

Array = NDArray[Any]

FLAT, STRONG = 3e-3, 0.3
"""Gradients of the displacement from where on it counts, changing templates by some 1e-3 of their
peak, and up to where its first order is enough."""

DIFFERENCES = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
"""Weights of the central differences to one, two, ... pixels in a derivative."""


@dataclass(frozen=True)
class Planes:
    """Tangent planes at the centres of C components.

    Attributes
    ----------
    geom : WcsGeom
        Pixels of the map.
    origin : ndarray, shape (C, 2)
        Centres (x, y) in pixels; NaN off the projection.
    axes : ndarray, shape (C, 3, 3)
        Unit vectors to the east, to the north and to the centre, in the map's frame.
    matrix : ndarray, shape (C, 2, 2)
        From pixels to the plane [deg].
    """

    geom: WcsGeom
    origin: Array
    axes: Array
    matrix: Array

    def displacements(self, index: int, y: Array, x: Array) -> Array:
        """Displacements (x, y) of pixel positions [pixels], shape (2, ...).

        Distances from the centre are those on the sphere. Far away, where they are no small part of
        the distance, they are damped; zero off the projection.
        """
        y, x = np.broadcast_arrays(np.asarray(y, float), np.asarray(x, float))
        points = sky_vectors(self.geom.wcs, x.ravel(), y.ravel()) @ self.axes[index].T
        away = np.hypot(points[:, 0], points[:, 1])
        scale = np.rad2deg(np.arctan2(away, points[:, 2])) / np.where(away > 0, away, 1.0)
        at = np.linalg.solve(self.matrix[index], (points[:, :2] * scale[:, np.newaxis]).T)
        offset = np.stack([x.ravel(), y.ravel()]) - self.origin[index][:, np.newaxis]
        found = at - offset
        distance = np.hypot(*offset)
        part = np.hypot(*found) / np.where(distance > 0, distance, 1.0)
        found = found / (1 + (4 * part) ** 2)
        return np.where(np.isfinite(found), found, 0.0).reshape(2, *x.shape)


def tangent_planes(geom: WcsGeom, emissions: Sequence[Emission], matrices: Array) -> Planes:
    """Planes of components with the matrices (C, 2, 2) of their kernels."""
    centers = SkyCoord([emission.center for emission in emissions])
    lon, lat = centers.spherical.lon.rad, centers.spherical.lat.rad
    axes = np.stack([*local_axes(lon, lat), unit_vectors(lon, lat)], axis=1)
    return Planes(geom, np.stack(geom.pixel_coordinates(centers), axis=-1), axes, matrices)


def curved(
    planes: Planes, first: int, chunk: Sequence[Emission], radius: float
) -> NDArray[np.bool_]:
    """Components, (C,), for which the curvature of the sky counts, and its first order is enough.

    Parameters
    ----------
    planes : Planes
        Of all components.
    first : int
        Index of the first of these.
    chunk : sequence of Emission
        The components.
    radius : float
        How far from its pixels a component is looked at [pixels].
    """
    gradients = [
        _gradient(planes, index, emission, radius) for index, emission in enumerate(chunk, first)
    ]
    return (np.array(gradients) > FLAT) & (np.array(gradients) < STRONG)


def inner_displacements(
    planes: Planes, first: int, chunk: Sequence[Emission], bent: NDArray[np.bool_]
) -> Array:
    """Displacements of the emission of components, (C, 2, h, w); zero for those not ``bent``."""
    shape = np.max([emission.weights.shape for emission in chunk], axis=0)
    found = np.zeros((len(chunk), 2, *shape))
    for index, emission in enumerate(chunk):
        if not bent[index]:
            continue
        h, w = emission.weights.shape
        y, x = emission.y0 + np.arange(h)[:, np.newaxis], emission.x0 + np.arange(w)
        shift = emission.centroids()
        dy, dx = (0.0, 0.0) if shift is None else shift
        found[index, :, :h, :w] = planes.displacements(first + index, y + dy, x + dx)
    return found


def _gradient(planes: Planes, index: int, emission: Emission, radius: float) -> float:
    """Largest gradient of the displacement around a component; infinite where it is not known."""
    h, w = emission.weights.shape
    y, x = np.meshgrid(
        np.linspace(emission.y0 - radius, emission.y0 + h - 1 + radius, 3),
        np.linspace(emission.x0 - radius, emission.x0 + w - 1 + radius, 3),
    )
    offset = np.hypot(*(np.stack([x, y]) - planes.origin[index][:, np.newaxis, np.newaxis]))
    points = sky_vectors(planes.geom.wcs, x.ravel(), y.ravel())
    if not (np.isfinite(points).all() and np.isfinite(offset).all()):
        return np.inf
    size = np.hypot(*planes.displacements(index, y, x))
    # It is of second order in the offset.
    return float(np.max(2 * size / np.maximum(offset, 1.0)))


def outer_displacements(
    planes: Planes,
    first: int,
    bent: NDArray[np.bool_],
    origin: tuple[Array, Array],
    shape: tuple[int, int],
) -> Array:
    """Displacements on windows (C, 2, H, W) with the first pixels (y0, x0) of ``origin``."""
    found = np.zeros((len(bent), 2, *shape))
    for index in np.flatnonzero(bent):
        y = origin[0][index] + np.arange(shape[0])[:, np.newaxis]
        x = origin[1][index] + np.arange(shape[1])
        found[index] = planes.displacements(first + int(index), y, x)
    return found


def divergence(flow: Any) -> Any:
    """Divergence of a flow (C, 2, T, H, W) in x and y, by differences of eighth order.

    Zero is beyond the windows.
    """
    reach, parts = len(DIFFERENCES), []
    for component, axis in ((0, -1), (1, -2)):
        values = jnp.moveaxis(flow[:, component], axis, -1)
        n = values.shape[-1]
        padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(reach, reach)])
        change = sum(
            weight * (padded[..., reach + k :][..., :n] - padded[..., reach - k :][..., :n])
            for k, weight in enumerate(DIFFERENCES, start=1)
        )
        parts.append(jnp.moveaxis(change, -1, axis))
    return parts[0] + parts[1]
