"""Norms of likelihood scans that follow the errors of each bin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

N_SIGMA = 3.0
"""How far scans go on both sides of the norm, in standard deviations by the likelihood."""
SHARED = (0.2, 5.0)
"""Ends of gammapy's default scan, the same for all bins; where nothing was fitted, of any scan."""


def scan_grid(
    norm: Array,
    errors: tuple[Array, Array, Array],
    bounds: tuple[float | None, float | None],
    n_values: int,
) -> Array:
    """Norms to scan, (..., V), between the points where the statistic is 9 above its minimum.

    Parameters
    ----------
    norm : ndarray, shape (...)
        Best norms.
    errors : tuple of ndarray, shape (...)
        Distances of the points below and above where the statistic has risen by `N_SIGMA` squared,
        and the symmetric error of one standard deviation that stands in for those that do not
        exist. Without both the scan begins, or ends, at the bound, or at the norm.
    bounds : tuple of float or None
        Bounds of the norms, which no scan passes.
    n_values : int
        Number of norms.
    """
    below, above, error = errors
    start, stop = (
        _end(norm, sign, distance, error, bound)
        for sign, distance, bound in ((-1.0, below, bounds[0]), (1.0, above, bounds[1]))
    )
    known = np.isfinite(start) & np.isfinite(stop) & (start < stop)
    start = np.where(known, start, SHARED[0])
    stop = np.where(known, stop, SHARED[1])
    return np.linspace(start, stop, n_values, axis=-1)


def _end(norm: Array, sign: float, distance: Array, error: Array, bound: float | None) -> Array:
    """The end of scans on one side."""
    nothing = norm if bound is None else np.full_like(norm, bound)
    far = np.where(np.isfinite(error), norm + sign * N_SIGMA * error, nothing)
    end = np.where(np.isfinite(distance), norm + sign * distance, far)
    if bound is None:
        return end
    return np.minimum(end, bound) if sign > 0 else np.maximum(end, bound)
