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
TOGETHER = 64
"""Points whose predictions are held in memory."""
EVEN = 1e-11
"""Curvature that is added for each parameter, in units of how far it can move: counts alone may not
identify it. That lowers half the statistic by half of this at most, which is counted."""


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
    # What a parameter takes part in: it cannot move by much more than this.
    total = templates.sum(axis=0)
    reach = (1.0 + before @ (templates > 0)) / np.where(total > 0, total, 1.0)
    seen = templates[~few]
    curvature = precision + (seen.T * (counts / before**2)[~few]) @ seen + np.diag(EVEN / reach**2)
    factor = cholesky(curvature, lower=True)

    def whitened(vectors: np.ndarray, at: int) -> np.ndarray:
        """Vectors (Z, n) of which the parameter does not matter, in units of the curvature."""
        found = solve_triangular(
            factor, np.column_stack([np.eye(len(vary))[at], vectors.T]), lower=True
        )
        axis = found[:, 0] / np.linalg.norm(found[:, 0])
        return found[:, 1:] - np.outer(axis, axis @ found[:, 1:])

    gaps = np.full(len(z), np.inf)
    for some in np.array_split(np.arange(len(z)), -(-len(z) // TOGETHER)):
        step = (np.asarray(z[some], float) - np.asarray(own.best, float))[:, vary]
        npred = before + step @ templates.T
        inside = np.where(few, npred >= -BELOW * sizes, npred > 0).all(axis=1)
        positive = np.where(npred > 0, npred, 1.0)
        ratio = np.where(few, 0.0, counts / positive)
        slopes = step @ precision + np.asarray(own.penalty, float)[vary] + (1.0 - ratio) @ templates
        # Where predictions have grown there is less curvature.
        least = np.min(np.where(few, 1.0, before / positive), axis=1)
        for k in np.flatnonzero(inside):
            near = few & (npred[k] < NEAR * sizes)
            at = np.searchsorted(vary, held[some[k]])
            white = whitened(np.vstack([slopes[k], templates[near]]), at)
            slope, normals = white[:, 0], white[:, 1:]
            duals = np.zeros(normals.shape[1])
            if len(duals):
                with suppress(RuntimeError):  # too many steps
                    duals, _ = nnls(normals, slope)
            left = np.sum((slope - normals @ duals) ** 2) / min(least[k], 1.0) ** 2
            gaps[some[k]] = 0.5 * (left + EVEN * len(vary)) + duals @ np.abs(npred[k][near])
    return gaps
