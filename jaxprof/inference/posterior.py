"""Bayesian intervals of one parameter from its profiled likelihood, by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxprof.types import Array

DEGREE = 8
"""Nodes of Gauss and Legendre in each panel."""


def nodes_of(low: Array, high: Array, panels: int) -> tuple[Array, Array]:
    """Panels between the ends of ranges (...,): nodes (..., P * DEGREE), and edges (..., P + 1)."""
    edges = low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, panels + 1)
    x = 0.5 * (np.polynomial.legendre.leggauss(DEGREE)[0] + 1.0)
    nodes = edges[..., :-1, None] + np.diff(edges)[..., None] * x
    return nodes.reshape(*low.shape, -1), edges


def _tables(log_density: Array, edges: Array) -> tuple[Array, Array]:
    """Density at nodes and edges of panels and its integral up to there, (..., P, DEGREE + 2)."""
    x, _ = np.polynomial.legendre.leggauss(DEGREE)
    points = np.concatenate([[-1.0], x, [1.0]])
    # Polynomials through the nodes, and their integrals, at all points.
    powers = np.linalg.inv(np.polynomial.legendre.legvander(x, DEGREE - 1))
    integrals = np.stack(
        [
            np.polynomial.legendre.legval(points, np.polynomial.legendre.legint(row, lbnd=-1))
            for row in np.eye(DEGREE)
        ],
        axis=1,
    )
    density = np.exp(log_density.reshape(*edges.shape[:-1], -1, DEGREE))
    width = np.diff(edges)[..., None]
    within = 0.5 * width * (density @ (integrals @ powers).T)
    value = density @ (np.polynomial.legendre.legvander(points, DEGREE - 1) @ powers).T
    before = np.cumsum(within[..., -1], axis=-1) - within[..., -1]
    return np.maximum(value, 0.0), within + before[..., None]


def credible_interval(
    log_density: Array, edges: Array, cl: float, *, highest_density: bool
) -> tuple[Array, Array]:
    """Equal-tailed intervals, or those of highest density: the shortest, of one maximum.

    The logarithm of the density is given at `nodes_of` panels, (..., P * DEGREE), with its largest
    value about zero, and the edges of these, (..., P + 1).
    """
    value, total = _tables(log_density, edges)
    at = 0.5 * (np.concatenate([[-1.0], np.polynomial.legendre.leggauss(DEGREE)[0], [1.0]]) + 1.0)
    x = edges[..., :-1, None] + np.diff(edges)[..., None] * at
    shape = edges.shape[:-1]
    flat = [a.reshape(-1, a.shape[-2] * a.shape[-1]) for a in (x, value, total)]
    ends = np.full((2, int(np.prod(shape, dtype=int))), np.nan)
    for row, (points, density, integral) in enumerate(zip(*flat, strict=True)):
        if np.isfinite(integral[-1]) and integral[-1] > 0:
            ends[:, row] = _interval(points, density, integral / integral[-1], cl, highest_density)
    return ends[0].reshape(shape), ends[1].reshape(shape)


def _interval(x: Array, density: Array, integral: Array, cl: float, highest: bool) -> Array:
    """One interval, from points, densities and their integral up to there."""
    kept = np.concatenate([[True], (np.diff(x) > 0) & (np.diff(integral) > 0)])
    x, density, integral = x[kept], density[kept], integral[kept]
    # The inverse has the slope that the density tells; where there is none it is never asked.
    scale = (integral[-1] - integral[0]) / np.trapezoid(density, x)
    quantile = _hermite(integral, x, 1.0 / np.maximum(density * scale, 1e-290))
    if not highest:
        return np.array([quantile(0.5 * (1.0 - cl)), quantile(0.5 * (1.0 + cl))])
    level = _hermite(x, density, np.gradient(density, x))

    def excess(tail: float) -> float:
        return float(level(quantile(tail + cl)) - level(quantile(tail)))

    low, high = 0.0, 1.0 - cl
    if excess(low) <= 0:  # The density only falls.
        return np.array([quantile(0.0), quantile(cl)])
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return np.array([quantile(low), quantile(low + cl)])


def _hermite(x: Array, y: Array, slope: Array) -> Callable[[float], Any]:
    def value(at: float) -> Any:
        i = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
        h = x[i + 1] - x[i]
        t = (at - x[i]) / h
        if not max(slope[i], slope[i + 1]) * h < 3.0 * max(abs(y[i + 1] - y[i]), 1e-300):
            return y[i] + t * (y[i + 1] - y[i])  # too steep for a cubic
        return (
            (1 + 2 * t) * (1 - t) ** 2 * y[i]
            + t * (1 - t) ** 2 * h * slope[i]
            + t**2 * (3 - 2 * t) * y[i + 1]
            + t**2 * (t - 1) * h * slope[i + 1]
        )

    return value
