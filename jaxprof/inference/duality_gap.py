r"""How far a fit with a norm held can be above the minimum, by duality.

Half the statistic :math:`f` is convex, and empty counts bins keep their predictions :math:`\mu_s`
from being negative. With any dual variables :math:`\lambda_s \ge 0` of these, what they leave of
the slope, :math:`r = \nabla f - \sum_s \lambda_s t_s`, and the curvature :math:`H` of the counts
alone, the minimum is lower than :math:`f(z)` by at most

.. math:: \sum_s \lambda_s \mu_s(z) + \frac{1}{2} r^T H^{-1} r

(Boyd & Vandenberghe 2004, *Convex optimization*, 5.5 and 9.6; the second term is that of
self-concordant functions where it is far below one). The dual variables are those that leave the
least. No iteration is trusted: a direction that constraints hold counts as any other.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from jaxprof.inference.parabola import Parabola

NEAR = 1e-3
"""Predictions, in units of their sizes, that dual variables are sought for."""
BELOW = 1e-6
"""How far below zero they may be: what that lowers the statistic by is counted."""
TOGETHER = 128
"""Points whose predictions are held in memory."""
PIECE = 64
"""Counts bins of a piece of the templates."""
EVEN = 1e-11
"""Curvature that is added for each parameter, in units of how far it can move: counts alone may not
identify it. That lowers half the statistic by half of this at most, which is counted."""


class _Pieces:
    """Products with templates (P, Z), mostly zero: neighbours see the same parameters."""

    def __init__(self, templates: np.ndarray) -> None:
        self.shape = templates.shape
        self.pieces = []
        for first in range(0, len(templates), PIECE):
            rows = slice(first, first + PIECE)
            seen = np.flatnonzero(templates[rows].any(axis=0))
            self.pieces.append((rows, seen, templates[rows, seen]))

    def changes(self, steps: np.ndarray) -> np.ndarray:
        """Of predictions, (B, P), by steps (B, Z)."""
        found = np.empty((len(steps), self.shape[0]))
        for rows, seen, own in self.pieces:
            found[:, rows] = steps[:, seen] @ own.T
        return found

    def projected(self, values: np.ndarray) -> np.ndarray:
        """Sums (B, Z) of templates times values (B, P)."""
        found = np.zeros((len(values), self.shape[1]))
        for rows, seen, own in self.pieces:
            found[:, seen] += values[:, rows] @ own
        return found

    def squared(self, weights: np.ndarray) -> np.ndarray:
        """Sum (Z, Z) of the squares of templates times weights (P,)."""
        found = np.zeros((self.shape[1],) * 2)
        for rows, seen, own in self.pieces:
            found[np.ix_(seen, seen)] += (own.T * weights[rows]) @ own
        return found


def duality_gaps(own: Parabola, free: Any, z: np.ndarray, held: np.ndarray) -> np.ndarray:
    """How far half the statistic can be above the minimum with one parameter held.

    Parameters
    ----------
    own : Parabola
        All counts bins around the fit without it.
    free : array of bool, shape (Z,)
        Parameters that vary otherwise.
    z : ndarray, shape (B, Z)
        Points.
    held : ndarray of int, shape (B,)
        The parameter that each of them holds, one that varies otherwise.

    Returns
    -------
    ndarray, shape (B,)
        Infinite where a prediction is negative.
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import nnls

    if not len(z):
        return np.zeros(0)
    rows, used, vary = own.rows, np.asarray(own.rows.spread) > 0, np.flatnonzero(free)
    templates = np.asarray(rows.templates, float)[used][:, vary]
    counts, before, sizes = (
        np.asarray(each, float)[used] for each in (rows.counts, rows.npred, rows.sizes)
    )
    few = counts <= 0
    precision = np.asarray(own.precision, float)[np.ix_(vary, vary)]
    pieces = _Pieces(templates)
    # What a parameter takes part in: it cannot move by much more than this.
    total = templates.sum(axis=0)
    reach = (1.0 + before @ (templates > 0)) / np.where(total > 0, total, 1.0)
    weights = np.where(few, 0.0, counts / before**2)
    curvature = precision + pieces.squared(weights) + np.diag(EVEN / reach**2)
    factor = cholesky(curvature, lower=True)

    def whitened(vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, Z) in units of the curvature."""
        return solve_triangular(factor, vectors.T, lower=True).T

    axes, normals = whitened(np.eye(len(vary))), whitened(templates[few])
    gaps = np.full(len(z), np.inf)
    for some in np.array_split(np.arange(len(z)), -(-len(z) // TOGETHER)):
        step = (np.asarray(z[some], float) - np.asarray(own.best, float))[:, vary]
        npred = before + pieces.changes(step)
        inside = np.where(few, npred >= -BELOW * sizes, npred > 0).all(axis=1)
        positive = np.where(npred > 0, npred, 1.0)
        ratio = np.where(few, 0.0, counts / positive)
        slopes = step @ precision + np.asarray(own.penalty, float)[vary]
        slopes = whitened(slopes + pieces.projected(1.0 - ratio))
        # Where predictions have grown there is less curvature.
        least = np.min(np.where(few, 1.0, before / positive), axis=1)
        near = npred[:, few] < (NEAR * sizes)[few]
        for k in np.flatnonzero(inside):
            # The parameter that is held does not matter.
            axis = axes[np.searchsorted(vary, held[some[k]])]
            axis = axis / np.linalg.norm(axis)
            slope, rows = slopes[k], normals[near[k]]
            slope = slope - (slope @ axis) * axis
            rows = rows - np.outer(rows @ axis, axis)
            duals = np.zeros(len(rows))
            if len(duals):
                with suppress(RuntimeError):  # too many steps
                    duals, _ = nnls(rows.T, slope)
            left = np.sum((slope - duals @ rows) ** 2) / min(least[k], 1.0) ** 2
            size = duals @ np.abs(npred[k, few][near[k]])
            gaps[some[k]] = 0.5 * (left + EVEN * len(vary)) + size
    return gaps
