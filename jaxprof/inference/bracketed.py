"""Roots of many functions at once, of values that no compiled program gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxprof.types import Array

MOST = 60
"""Evaluations at most, to find an end and between the ends."""


def falling_root(
    function: Callable[[Array], Array],
    low: Array,
    high: Array,
    *,
    tolerance: float = 1e-10,
) -> Array:
    """Where falling functions vanish, one for each element.

    Parameters
    ----------
    function : callable
        From points, of the shape of the ends, to values.
    low, high : ndarray
        Ends of the brackets. Where the function is not positive at the lower one, that is the root;
        the upper ones are moved up until it is not positive there.
    tolerance : float
        Width of the last bracket, in units of the first.

    Returns
    -------
    ndarray
        NaN where the function is NaN, or stays positive however far up.

    Notes
    -----
    Regula falsi with the Illinois weights (Dowell & Jarratt 1971, BIT 11, 168), with a bisection
    wherever two steps did not halve the bracket.
    """
    low, high = (np.array(end, float) for end in np.broadcast_arrays(low, high))
    at_low, at_high = function(low), function(high)
    for _ in range(MOST):
        short = (at_low > 0) & (at_high > 0)
        if not short.any():
            break
        width = high - low
        low, at_low = np.where(short, high, low), np.where(short, at_high, at_low)
        high = np.where(short, high + 2.0 * width, high)
        at_high = np.where(short, function(high), at_high)
    at_end = ~(at_low > 0)
    lost = np.isnan(at_low) | np.isnan(at_high) | ((at_low > 0) & (at_high > 0))
    first, widest = low.copy(), np.abs(high - low)
    weight_low, weight_high = at_low.copy(), at_high.copy()
    before = np.full(low.shape, np.inf)
    side = np.zeros(low.shape)
    for step in range(MOST):
        width = high - low
        done = at_end | lost | (width <= tolerance * widest) | (at_high == 0)
        if done.all():
            break
        with np.errstate(invalid="ignore", divide="ignore"):
            x = low + width * weight_low / (weight_low - weight_high)
        slow = (width > 0.5 * before) & (step % 3 == 2)
        # Close to an end a step beyond the root shuts the bracket.
        margin = 0.5 * tolerance * widest
        x = np.where(slow | ~np.isfinite(x), low + 0.5 * width, x)
        x = np.where(done, high, np.clip(x, low + margin, high - margin))
        if step % 3 == 2:
            before = width
        value = function(x)
        above = value > 0
        moved = ~done & above
        weight_high = np.where(moved & (side > 0), 0.5 * weight_high, weight_high)
        low, weight_low = np.where(moved, x, low), np.where(moved, value, weight_low)
        side = np.where(moved, 1.0, side)
        moved = ~done & ~above
        weight_low = np.where(moved & (side < 0), 0.5 * weight_low, weight_low)
        high, weight_high = np.where(moved, x, high), np.where(moved, value, weight_high)
        at_high = np.where(moved, value, at_high)
        side = np.where(moved, -1.0, side)
    lost |= np.isnan(at_high)
    root = np.where(at_high == 0, high, 0.5 * (low + high))
    return np.where(lost, np.nan, np.where(at_end, first, root))
