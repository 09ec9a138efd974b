"""Norms that likelihoods are scanned at: the same of all bins, or by the errors of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxprof.types import Array

NOTHING_FITTED = (0.2, 5.0)
"""Where the scan of a bin without an estimate begins and ends."""


@dataclass(frozen=True)
class Scan:
    """Norms of likelihood scans."""

    values: Array | None = None
    """Those of all bins; None if each bin has its own; (V,)."""
    n_values: int = 11
    """Number of norms of a bin of its own."""
    n_sigma: float = 3.0
    """How far these go on both sides of the norm, in standard deviations by the likelihood."""

    def around(
        self,
        norm: Array,
        errors: tuple[Array, Array, Array],
        bounds: tuple[float | None, float | None],
    ) -> Array:
        """Norms (..., V) between the points where the statistic is ``n_sigma`` squared higher.

        The ``errors`` of the best norms (...) are the distances of these points below and above,
        and the symmetric error of one standard deviation that stands in for those that do not
        exist. Without both the scan begins, or ends, at the bound, which no scan passes, or at the
        norm.
        """
        below, above, error = errors
        start, stop = (
            self._end(norm, sign, (distance, error), bound)
            for sign, distance, bound in ((-1.0, below, bounds[0]), (1.0, above, bounds[1]))
        )
        known = np.isfinite(start) & np.isfinite(stop) & (start < stop)
        start = np.where(known, start, NOTHING_FITTED[0])
        stop = np.where(known, stop, NOTHING_FITTED[1])
        return np.linspace(start, stop, self.n_values, axis=-1)

    def _end(
        self, norm: Array, sign: float, distances: tuple[Array, Array], bound: float | None
    ) -> Array:
        """The end of scans on one side, at a distance or so many symmetric errors away."""
        distance, error = distances
        nothing = norm if bound is None else np.full_like(norm, bound)
        far = np.where(np.isfinite(error), norm + sign * self.n_sigma * error, nothing)
        end = np.where(np.isfinite(distance), norm + sign * distance, far)
        if bound is None:
            return end
        return np.minimum(end, bound) if sign > 0 else np.maximum(end, bound)
