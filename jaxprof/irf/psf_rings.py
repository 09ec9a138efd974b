"""Rings around a source, and where they lie on the pixels: geometry for PSF kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy

from jaxprof.sky.moments import legendre_integrals, orders
from jaxprof.types import Array

CORE = 2.0 ** -np.arange(12.0, 2, -1)
"""Edges of the innermost panels, in pixels. Within the first the photon has not moved."""
NEAR, NEAR_STEP, FAR_STEP = 3.0, 0.125, 0.5
"""Up to where, in pixels, panels are narrow; widths of the narrow and of the wide ones."""
FINE, POINT_FINE = 2, 8
"""Parts of each narrow panel, for emission from a pixel and from a point."""
NEAR_ARC, FAR_ARC, MOMENT_ARC, MIN_ARCS = 0.05, 0.0625, 0.03, 128
"""Distance of samples along a ring, in pixels; that for moments, which change faster within a
pixel; least number of them."""
POINT_PANELS = 50
"""Wide panels of a point: so many to a distance."""
DENSE = 1 << 20
"""Shares of rings in pixels that are held at a time before they become sparse."""
BATCH = 32
"""Discs whose areas on the pixels are held at a time."""


@lru_cache(maxsize=16)
def rings_on_pixels(
    pixels: tuple[float, ...],
    half: int,
    offset: tuple[float, float],
    degree: int | None,
    limit: float,
) -> tuple[Array, Array, Array, Any]:
    """Rings around a source and where they lie on the pixels.

    Parameters
    ----------
    pixels
        The matrix, row by row [deg].
    half
        Pixels on each side of the central one.
    offset
        Position of a point source, in pixels from the centre of the central pixel.
    degree
        Of the moments of the emission within the central pixel (zero for emission that is even);
        None for a point.
    limit
        Radius where the PSF has ended [deg].

    Returns
    -------
    edges : ndarray, shape (P + 1,)
        Edges of the panels [deg], the first at zero.
    rings : ndarray, shape (P, Q)
        Radii [deg] at which each panel is sampled; the first panel only at zero. For a point one a
        panel, in its middle.
    weights : ndarray, shape (Q,)
        Quadrature weights in a panel.
    shares : sparse array, shape (orders * pixels, P * Q)
        Part of a ring (for a point, of a panel) that falls in a pixel, ``A`` of the formulas in
        `jaxprof.irf.psf_kernel`, for each of the moments.
    """
    matrix = np.reshape(pixels, (2, 2))
    size = np.linalg.svd(matrix, compute_uv=False).min()
    sides = half + 1 + np.abs(offset)
    corners = matrix @ np.array([[sides[0], sides[0]], [sides[1], -sides[1]]])
    end = min(np.hypot(*corners).max(), limit) / size
    fine = POINT_FINE if degree is None else FINE
    near = np.arange(CORE[-1], min(end, NEAR) + NEAR_STEP, NEAR_STEP)
    near = np.concatenate([CORE[:-1], near])
    near = np.interp(np.arange(fine * (len(near) - 1) + 1) / fine, np.arange(len(near)), near)
    edges = np.concatenate([[0.0], near])
    while edges[-1] < end:
        point_step = np.clip(edges[-1] / POINT_PANELS, NEAR_STEP, FAR_STEP)
        edges = np.append(edges, edges[-1] + (point_step if degree is None else FAR_STEP))
    turn = np.linalg.inv(matrix) * size
    if degree is not None:
        nodes, weights = np.polynomial.legendre.leggauss(3)
        rings = edges[:-1, None] + np.diff(edges)[:, None] * 0.5 * (nodes + 1)
        rings[0] = 0.0
        shares = _samples(rings.ravel(), turn, degree, half)
    else:
        weights = np.ones(1)
        rings = 0.5 * (edges[:-1] + edges[1:])[:, None]
        shares = _areas(edges, turn, np.array(offset), half)
    return edges * size, rings * size, weights, shares


def _samples(radius: Array, turn: Array, degree: int, half: int) -> scipy.sparse.csr_array:
    """Shares of rings around the central pixel in all pixels, from samples along each ring.

    ``turn`` takes positions on a ring to pixels.
    """
    arc = MOMENT_ARC if degree else np.where(radius < NEAR, NEAR_ARC, FAR_ARC)
    number = 4 * np.ceil(np.maximum(2 * np.pi * radius / arc, MIN_ARCS) / 8).astype(int)
    number[:3] = 1
    size = (2 * half + 1) ** 2
    step = max(1, DENSE // size)
    found = []
    for start in range(0, len(radius), step):
        part = slice(start, start + step)
        found.append(_dense_shares(radius[part], number[part], turn, degree, half))
    return scipy.sparse.vstack(
        [scipy.sparse.hstack(blocks) for blocks in zip(*found, strict=True)], format="csr"
    )


def _dense_shares(
    radius: Array, number: Array, turn: Array, degree: int, half: int
) -> list[scipy.sparse.csr_array]:
    """Shares (pixels, rings) for each of the moments, from samples on half of each ring.

    The other half mirrors it: moments of odd total degree change their sign there.
    """
    side, n_rings = 2 * half + 1, len(radius)
    ring = np.repeat(np.arange(n_rings), number)
    step = np.arange(len(ring)) - np.repeat(np.cumsum(number) - number, number)
    angle = (step + 0.5) * (np.pi / number[ring])
    position = turn @ (np.array([np.cos(angle), np.sin(angle)]) * radius[ring])
    low = np.floor(position)
    # What starts below 1/2 - (position - low) stays in the pixel `low`, the rest is in the next.
    stays = legendre_integrals(degree, 0.5 - (position - low))
    stays *= (2 * np.arange(degree + 1) + 1)[:, None, None]
    goes = (np.arange(degree + 1) == 0)[:, None, None] - stays
    low = low.astype(int) + half
    pieces = []
    for up, share_y in enumerate((stays[:, 1], goes[:, 1])):
        for right, share_x in enumerate((stays[:, 0], goes[:, 0])):
            x, y = low[0] + right, low[1] + up
            kept = np.flatnonzero((x >= 0) & (x < side) & (y >= 0) & (y < side))
            at = (y[kept] * side + x[kept]) * n_rings + ring[kept]
            pieces.append((at, share_x[:, kept], 0.5 * share_y[:, kept] / number[ring[kept]]))
    at, share_x, share_y = (np.concatenate(part, axis=-1) for part in zip(*pieces, strict=True))
    found = []
    for a, b in orders(degree):
        dense = np.bincount(at, share_x[a] * share_y[b], side**2 * n_rings)
        dense = dense.reshape(side**2, n_rings)
        found.append(scipy.sparse.csr_array(dense + (-1) ** (a + b) * dense[::-1]))
    return found


def _areas(edges: Array, turn: Array, offset: Array, half: int) -> scipy.sparse.csr_array:
    """Shares of the panels around a point in the pixels: the areas that they have in common."""
    side = 2 * half + 1
    found, inner = [], np.zeros((1, side**2))
    for start in range(1, len(edges), BATCH):
        discs = _discs(edges[start : start + BATCH], turn, offset, half)
        panels = np.diff(discs, axis=0, prepend=inner)
        inner = discs[-1:]
        part = edges[start - 1 : start + BATCH]
        panels /= np.pi * abs(np.linalg.det(turn)) * np.diff(part**2)[:, None]
        panels[panels < 1e-9] = 0.0  # rounding
        total = panels.sum(axis=1, keepdims=True)
        panels /= np.where(total > 1 - 1e-6, total, 1.0)
        found.append(scipy.sparse.csr_array(panels.T))
    return scipy.sparse.hstack(found, format="csr")


def _discs(radius: Array, turn: Array, offset: Array, half: int) -> Array:
    """Areas that discs around a point share with the pixels, (discs, pixels).

    By Green's theorem: a circle is cut where it crosses the borders of pixels, and every arc adds
    the area to its right, in its own pixel and in those that follow in the row.
    """
    side = 2 * half + 1
    borders = np.arange(-half, half + 2) - 0.5
    angles = [np.zeros((len(radius), 1)), np.full((len(radius), 1), 2 * np.pi)]
    for row, start in zip(turn, offset, strict=True):
        # The coordinate is start + reach * cos(angle - phase).
        phase, reach = np.arctan2(row[1], row[0]), np.hypot(*row) * radius[:, None]
        ratio = (borders - start) / reach
        crossed = np.abs(ratio) < 1
        swing = np.arccos(np.where(crossed, ratio, 0.0))
        for sign in (-1, 1):
            angles.append(np.where(crossed, (phase + sign * swing) % (2 * np.pi), 0.0))
    cuts = np.sort(np.concatenate(angles, axis=1), axis=1)
    disc, number = np.nonzero(np.diff(cuts, axis=1) > 0)
    low, high = cuts[disc, number], cuts[disc, number + 1]
    # A place on each arc; not its middle, where it may touch a border.
    r, place = radius[disc], low + 0.382 * (high - low)
    places = turn @ (r * np.array([np.cos(place), np.sin(place)])) + offset[:, None]
    column, line = np.floor(places + 0.5).astype(int) + half

    # Integrals of dy and of x dy along the arcs; x from the left border of the pixel.
    (a, b), (c, d) = turn
    rise = r * (c * (np.cos(high) - np.cos(low)) + d * (np.sin(high) - np.sin(low)))
    turned, double = 0.5 * (high - low), 0.25 * (np.sin(2 * high) - np.sin(2 * low))
    square = 0.5 * (np.sin(high) ** 2 - np.sin(low) ** 2)
    moment = r**2 * (
        a * d * (turned + double) - b * c * (turned - double) + (b * d - a * c) * square
    )
    moment += (offset[0] - (column - half - 0.5)) * rise
    # To the left of all pixels, a whole row follows.
    moment = np.where(column < 0, 0.0, moment)
    column = np.maximum(column, 0)
    seen = (column < side) & (line >= 0) & (line < side)
    at = ((disc * side + line) * (side + 1) + column)[seen]
    size = len(radius) * side * (side + 1)
    total = np.bincount(at, (rise - moment)[seen], size) + np.bincount(at + 1, moment[seen], size)
    area = np.cumsum(total.reshape(len(radius), side, side + 1), axis=2)[:, :, :side]
    return -np.sign(a * d - b * c) * area.reshape(len(radius), side**2)
