"""Whether points of several series cover each other, and how far apart they must stand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.plotting.legend import ARROW_POINTS

Array = NDArray[np.float64]

_FILLED = 0.7
"""Share of a bin that series side by side fill."""
_HALF = 3.0
"""Half the height of a marker [points]."""


def clear_offset(ax: Any, values: Array, errors: Array, limits: Array, *, signed: bool) -> float:
    """Distance between series that stand side by side, zero if they keep clear of each other.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Where they will be drawn, and nothing else.
    values, limits : ndarray, shape (series, bins)
        As `jaxprof.plotting.points.draw_points` draws them.
    errors : ndarray, shape (2, series, bins)
        Negative and positive errors.
    signed : bool
        Whether limits that are not positive are drawn where they are, not at the edge.

    Returns
    -------
    float
        In widths of the bins.
    """
    n = len(values)
    is_limit = np.isfinite(limits)
    drawn = np.where(is_limit, limits, values)
    at_edge = is_limit & (limits <= 0) & (not signed)
    drawn = np.where(at_edge, np.nan, drawn)
    spread = np.where(is_limit | ~np.isfinite(errors), 0.0, np.maximum(errors, 0.0))
    low, high = drawn - spread[0], drawn + spread[1]
    known = np.isfinite(drawn)
    if n < 2 or (at_edge.sum(axis=0) > 1).any():
        return _FILLED / n if n > 1 else 0.0
    if not known.any():
        return 0.0
    bottom, top = low[known].min(), high[known].max()
    if ax.get_yscale() == "log" or 0 < 100 * bottom <= top:
        least = drawn[known & (drawn > 0)].min(initial=top)
        low, high = (np.log(np.maximum(edge, 0.5 * least)) for edge in (low, high))
        bottom, top = low[known].min(), high[known].max()
    if not top > bottom:
        return _FILLED / n
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    scale = 0.8 * height / (top - bottom)
    low = scale * low - np.where(is_limit, ARROW_POINTS, _HALF)
    high = scale * high + _HALF
    for k in range(1, n):
        if ((low[k:] < high[:-k]) & (low[:-k] < high[k:])).any():
            return _FILLED / n
    return 0.0
