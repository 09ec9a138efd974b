"""Rings around a source, and where they lie on the pixels: geometry for PSF kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

Array = NDArray[Any]

CORE = 2.0 ** -np.arange(12.0, 2, -1)
"""Edges of the innermost panels, in pixels. Within the first the photon has not moved."""
NEAR, NEAR_STEP, FAR_STEP = 3.0, 0.125, 0.5
"""Up to where, in pixels, panels are narrow; widths of the narrow and of the wide ones."""
NEAR_ARC, FAR_ARC, MIN_ARCS = 0.1, 0.25, 64
"""Distance of samples along a ring, in pixels; least number of them."""
FINEST = 2
"""Factor by which narrow panels and arcs are finer for a source much smaller than a pixel."""
POINT_CLOUD = 0.1
"""A sample of a point source is this part of its distance wide: fewer samples are smooth then."""


@lru_cache(maxsize=16)
def rings_on_pixels(
    pixels: tuple[float, ...], half: int, offset: tuple[float, float], width: float, limit: float
) -> tuple[Array, Array, Array, Any]:
    """Rings around a source and where they lie on the pixels.

    Parameters
    ----------
    pixels
        The matrix, row by row [deg].
    half
        Pixels on each side of the central one.
    offset
        Middle of the source, in pixels from the centre of the central pixel.
    width
        Side of the square that the source is, in pixels; zero for a point.
    limit
        Radius where the PSF has ended [deg].

    Returns
    -------
    edges : ndarray, shape (P + 1,)
        Edges of the panels [deg], the first at zero.
    rings : ndarray, shape (P, Q)
        Radii [deg] at which each panel is sampled; the first panel only at zero.
    weights : ndarray, shape (Q,)
        Quadrature weights in a panel.
    shares : sparse array, shape (pixels, P * Q)
        Part of a ring that falls in a pixel, ``A`` of the module's formula.
    """
    matrix = np.reshape(pixels, (2, 2))
    size = np.linalg.svd(matrix, compute_uv=False).min()
    sides = half + 1 + np.abs(offset)
    corners = matrix @ np.array([[sides[0], sides[0]], [sides[1], -sides[1]]])
    end = min(np.hypot(*corners).max(), limit) / size
    # The smaller the source, the more abrupt are the borders of the pixels.
    fine = int(min(round(1 / width), FINEST)) if width else FINEST
    near = np.arange(CORE[-1], min(end, NEAR) + NEAR_STEP, NEAR_STEP)
    near = np.concatenate([CORE[:-1], near])
    near = np.interp(np.arange(fine * (len(near) - 1) + 1) / fine, np.arange(len(near)), near)
    far = np.arange(near[-1] + FAR_STEP, end + FAR_STEP, FAR_STEP)
    edges = np.concatenate([[0.0], near, far])
    nodes, weights = np.polynomial.legendre.leggauss(3)
    rings = edges[:-1, None] + np.diff(edges)[:, None] * 0.5 * (nodes + 1)
    rings[0] = 0.0

    radius = rings.ravel()
    arc = np.where(radius < NEAR, NEAR_ARC / fine, FAR_ARC)
    number = 8 * np.ceil(np.maximum(2 * np.pi * radius / arc, MIN_ARCS * fine) / 8).astype(int)
    number[:3] = 1
    ring = np.repeat(np.arange(len(radius)), number)
    step = np.arange(len(ring)) - np.repeat(np.cumsum(number) - number, number)
    angle = (step + 0.5) * (2 * np.pi / number[ring])
    cloud = np.full(len(radius), width) if width else np.minimum(POINT_CLOUD * radius, FAR_ARC)
    # The cloud's own extent comes off the distance, which keeps the second moment.
    shrunk = radius if width else np.sqrt(radius**2 - cloud**2 / 6)
    u = np.linalg.inv(matrix) @ (np.array([np.cos(angle), np.sin(angle)]) * shrunk[ring] * size)
    pixel, share = [], []
    for position in u + np.reshape(offset, (2, 1)):
        low = np.floor(position)
        upper = position - low - 0.5
        wide = np.maximum(cloud[ring], 1e-12)
        upper = np.clip(upper / wide + 0.5, 0.0, 1.0)
        pixel.append((low.astype(int) + half, low.astype(int) + half + 1))
        share.append((1.0 - upper, upper))
    side = 2 * half + 1
    entries = []
    for x, weight_x in zip(pixel[0], share[0], strict=True):
        for y, weight_y in zip(pixel[1], share[1], strict=True):
            weight = weight_x * weight_y / number[ring]
            kept = (x >= 0) & (x < side) & (y >= 0) & (y < side) & (weight > 0)
            entries.append((weight[kept], (y * side + x)[kept], ring[kept]))
    value, row, column = (np.concatenate(part) for part in zip(*entries, strict=True))
    shares = coo_array((value, (row, column)), shape=(side**2, len(radius))).tocsr()
    shares.sum_duplicates()
    return edges * size, rings * size, weights, shares
