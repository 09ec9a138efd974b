"""Parameters of a joint fit: which there are, which are free, their bounds and penalties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.reduce.joint.backgrounds import BackgroundOption
from jaxprof.reduce.joint.components import Components

Array = NDArray[Any]

#: Distance from the reference value that free spectral parameters may go: in a bin without counts
#: they would run away.
SHAPE_RANGE = {"index": 5.0, "alpha": 5.0, "beta": 5.0}
#: Largest spectral parameters, where they cannot be negative.
SHAPE_MAX = {"lambda_": 1e3}


@dataclass(frozen=True)
class Parameters:
    """Arrays of `JointData`, and what the parameters are.

    Attributes
    ----------
    start, lower, upper : ndarray, shape (Z,)
        Values of the fixed parameters, and bounds.
    free : ndarray of bool, shape (Z,)
        Which are fitted.
    precision : ndarray, shape (Z, Z)
        Matrix of the penalty, without that on second differences.
    smoothness : float
        Strength of the penalty on second differences of neighbouring norms.
    n_nuisance : int
        Number of datasets with background parameters, or zero.
    """

    start: Array
    lower: Array
    upper: Array
    free: Array
    precision: Array
    smoothness: float
    n_nuisance: int


def smoothness_matrix(seen: Array) -> Array:
    """Matrix (B, B) of the sum of squared second differences of the bins that are seen, (B,).

    A norm that is not fitted must not pull at its neighbours.
    """
    rows = np.diff(np.eye(len(seen)), n=2, axis=0)
    rows = rows[np.all(np.where(rows != 0, seen, True), axis=1)]
    return rows.T @ rows


def make_parameters(
    components: Components,
    norm_bounds: tuple[float | None, float | None],
    backgrounds: Sequence[BackgroundOption],
    names: Sequence[str] = (),
    smoothness: float = 0.0,
    covered: Array | None = None,
) -> Parameters:
    """Lay out the parameters of one energy group.

    Parameters
    ----------
    components : Components
        What is fitted.
    norm_bounds : tuple of float or None
        Bounds of the norms of bins and guard bins; None for no bound.
    backgrounds : sequence of BackgroundOption
        One for each dataset.
    names : sequence of str
        Free spectral parameters of the bins.
    smoothness : float
        Strength of the penalty on second differences of neighbouring norms.
    covered : ndarray, shape (B,), optional
        Part of each bin that is seen. Where it is less than a tenth, what leaks out of it tells no
        spectrum: its spectral parameters are not fitted.

    Returns
    -------
    made : Parameters
        The layout.
    """
    n_own, n_components = 1 + len(names), len(components)
    fitted = any(not option.is_fixed for option in backgrounds)
    n_nuisance = len(backgrounds) if fitted else 0
    size = n_components * n_own + 2 * n_nuisance
    start, free = np.zeros(size), np.zeros(size, bool)
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    precision = np.zeros((size, size))
    norms = np.arange(n_components) * n_own
    regions = norms[: components.n_regions]
    free[regions] = True
    low, high = norm_bounds
    lower[regions] = -np.inf if low is None else low
    upper[regions] = np.inf if high is None else high
    for at, source in zip(norms[components.n_regions :], components.sources, strict=True):
        start[at], free[at] = 1.0, source.free
    for index in range(components.n_regions):
        for position, name in enumerate(names, start=1):
            at = norms[index] + position
            start[at] = float(getattr(components.models[index], name))
            # Guard bins have too few counts of their own for a spectrum.
            free[at] = index < components.n_bins and (covered is None or covered[index] > 0.1)
            reach = SHAPE_RANGE.get(name, np.inf)
            lower[at], upper[at] = start[at] - reach, start[at] + reach
            if name in SHAPE_MAX:
                lower[at], upper[at] = 0.0, SHAPE_MAX[name]
    if n_nuisance:
        for number, option in enumerate(backgrounds):
            for offset, (value, middle) in enumerate(((option.norm, 1.0), (option.tilt, 0.0))):
                at = n_components * n_own + 2 * number + offset
                start[at] = middle
                free[at] = value != "fixed"
                if not isinstance(value, str):
                    precision[at, at] = 1.0 / value**2
                lower[at], upper[at] = (0.0, np.inf) if offset == 0 else (-5.0, 5.0)
    return Parameters(start, lower, upper, free, precision, smoothness, n_nuisance)
