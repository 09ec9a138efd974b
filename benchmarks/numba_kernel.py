"""Norms, errors and test statistics by a loop in numba: what a careful person writes by hand.

A bracketed Newton iteration on the score of the cash statistic for each bin, on all cores. It has
no masks, bounds, limits or derivatives, and ends at a kink by bisection.
"""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(error_model="numpy")
def score_parts(counts, background, signal, x):
    """Signal that counts at ``x``, the sum of ``n s / mu``, and that of ``n (s / mu)**2``."""
    active = falls = curvature = 0.0
    for e in range(len(counts)):
        mu = background[e] + x * signal[e]
        if counts[e] > 0:
            share = signal[e] / mu
            active += signal[e]
            falls += counts[e] * share
            curvature += counts[e] * share * share
        elif mu >= 0:
            active += signal[e]
    return active, falls, curvature


@numba.njit(error_model="numpy")
def minimiser(counts, background, signal):
    """The norm of one bin."""
    low, total, counted, kink = -math.inf, 0.0, 0.0, math.inf
    for e in range(len(counts)):
        if signal[e] > 0:
            kink = min(kink, -background[e] / signal[e])
            if counts[e] > 0:
                low = max(low, -background[e] / signal[e])
                total += counts[e]
                counted += signal[e]
    if total == 0:
        return kink
    high = low + total / counted
    x = 0.5 * (low + high)
    for _ in range(100):
        active, falls, curvature = score_parts(counts, background, signal, x)
        if falls > active:
            low = x
        else:
            high = x
        # On 1 / falls - 1 / active, which is concave.
        new = x + falls * (falls - active) / (active * curvature)
        if not low <= new <= high:
            new = 0.5 * (low + high)
        step, x = abs(new - x), new
        if step <= 1e-12 * (abs(x) + high - low) or step <= 1e-10 / math.sqrt(curvature):
            break
    return x


@numba.njit(parallel=True, error_model="numpy")
def fit(counts, background, signal):
    """Norm, error, statistic, statistic at zero and TS of arrays (N, E), as (5, N)."""
    n, n_energies = counts.shape
    found = np.empty((5, n))
    for i in numba.prange(n):
        x = minimiser(counts[i], background[i], signal[i])
        curvature = stat = null = ts = 0.0
        for e in range(n_energies):
            b, s, k = background[i, e], signal[i, e], counts[i, e]
            mu = max(b + x * s, 0.0)
            stat += mu
            null += b
            ts += b - mu
            if k > 0:
                stat -= k * math.log(mu)
                null -= k * math.log(max(b, 1e-25))
                ts += k * (math.log1p(x * s / b) if b > 0 else math.log(mu / 1e-25))
                curvature += k * (s / mu) ** 2
        found[0, i] = x
        found[1, i] = 1 / math.sqrt(curvature) if curvature > 0 else math.nan
        found[2, i], found[3, i], found[4, i] = 2 * stat, 2 * null, 2 * ts
    return found
