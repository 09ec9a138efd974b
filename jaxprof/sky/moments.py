r"""Legendre moments within a pixel.

How emission lies in its pixel is told by its moments :math:`\langle P_a(2 x) P_b(2 y) \rangle` with
the Legendre polynomials P and positions x, y from the pixel's centre, in pixels. All but the first
vanish for an even spread. They are kept up to a total degree :math:`a + b`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.polynomial.legendre import legvander

from jaxprof.types import Array


def orders(degree: int) -> list[tuple[int, int]]:
    """Degrees (a, b) in x and y of all moments, by increasing total degree; (0, 0) is first."""
    return [(total - b, b) for total in range(degree + 1) for b in range(total + 1)]


def degree_of(n_orders: int) -> int:
    """Total degree of so many moments, ``(degree + 1) (degree + 2) / 2``."""
    return (math.isqrt(8 * n_orders + 1) - 3) // 2


def legendre(degree: int, x: Any) -> Array:
    """``P_a(2 x)`` for a from 0 to the degree, shape (degree + 1, ...)."""
    x = np.asarray(x, float)
    return np.moveaxis(legvander(2 * x, degree).reshape(*x.shape, degree + 1), -1, 0)


def legendre_integrals(degree: int, x: Any) -> Array:
    """Integrals of ``P_a(2 t)`` over t from -1/2 to x, shape (degree + 1, ...).

    By ``(2 a + 1) P_a = P'_{a+1} - P'_{a-1}``; for ``x = 1/2`` they are 1, 0, 0, ...
    """
    x = np.asarray(x, float)
    values = legendre(degree + 1, x)
    found = np.empty((degree + 1, *x.shape))
    found[0] = x + 0.5
    for a in range(1, degree + 1):
        found[a] = (values[a + 1] - values[a - 1]) / (4 * a + 2)
    return found


def point_moments(x: Any, y: Any, degree: int) -> Array:
    """Moments of points at x, y from the centre of their pixel, shape (orders, ...)."""
    along, up = legendre(degree, x), legendre(degree, y)
    return np.stack([along[a] * up[b] for a, b in orders(degree)])
