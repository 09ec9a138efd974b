"""Axis limits that bins with huge errors do not wreck."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.transforms import blended_transform_factory

from jaxprof.types import Array

#: Errors larger than so many times the lower quartile of all are huge.
HUGE = 10.0


def ordinary_bins(values: Array, errors: Array, *, significant: bool) -> Array:
    """Whether the error of a bin is not huge compared with those of the others.

    Parameters
    ----------
    values : ndarray, shape (B,)
        NaN where there is nothing to draw.
    errors : ndarray, shape (2, B)
        Negative and positive errors; NaN for none.
    significant : bool
        Whether values of more than three errors count as ordinary in any case: bright
        sources have larger errors than empty fields.

    Returns
    -------
    ndarray of bool, shape (B,)
    """
    # A missing side says nothing; the other one counts.
    size = np.max(np.where(np.isfinite(errors), errors, 0.0), axis=0)
    known = size[np.isfinite(values) & (size > 0)]
    if not known.size:
        return np.ones(values.shape, dtype=bool)
    ordinary = size <= HUGE * np.quantile(known, 0.25)
    if significant:
        ordinary |= np.abs(np.where(np.isfinite(values), values, 0.0)) > 3 * size
    return np.asarray(ordinary)


@contextmanager
def keep_limits(
    ax: Any, values: Array, errors: Array, limits: Array, ordinary: Array
) -> Iterator[None]:
    """Let only the ordinary of the points drawn within count for the y limits of the axes.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes that are drawn into.
    values : ndarray, shape (B,)
        Positions of points and arrows; NaN for nothing.
    errors : ndarray, shape (2, B)
        Negative and positive errors.
    limits : ndarray, shape (B,)
        Finite where an arrow, which has no bar, takes the place of the point.
    ordinary : ndarray of bool, shape (B,)
        Result of `ordinary_bins`.
    """
    before = ax.dataLim.get_points().copy()
    yield
    if ordinary.all():
        return
    after = ax.dataLim.get_points().copy()
    sides = np.where(np.isfinite(errors) & ~np.isfinite(limits), np.maximum(errors, 0.0), 0.0)
    ends = np.stack([values - sides[0], values + sides[1]])[:, ordinary]
    ends = ends[np.isfinite(ends)]
    if not ends.size:  # better limits by huge errors than none
        return
    low, high = ends.min(), ends.max()
    if np.isfinite(before[:, 1]).all() and before[0, 1] <= before[1, 1]:
        low, high = min(low, before[0, 1]), max(high, before[1, 1])
    after[:, 1] = low, high
    ax.dataLim.set_points(after)
    ax.autoscale_view()


def mark_hidden(ax: Any, x: Array, y: Array, color: Any) -> None:
    """Draw a triangle at the edge of the axes for each point (x, y) beyond their y limits."""
    low, high = ax.get_ylim()
    transform = blended_transform_factory(ax.transData, ax.transAxes)
    for beyond, at, marker in ((y > high, 0.985, "^"), (y < low, 0.015, "v")):
        if beyond.any():
            ax.plot(
                x[beyond], np.full(beyond.sum(), at), linestyle="none", marker=marker, markersize=5,
                color=color, markerfacecolor="w", transform=transform, zorder=3, gid="off-frame",
                scalex=False, scaley=False, label="_nolegend_",
            )  # fmt: skip
