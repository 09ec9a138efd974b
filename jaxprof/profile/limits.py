"""Upper limits of norms that were fitted before, from the data or from a scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxprof.inference.intervals import limits
from jaxprof.inference.named_intervals import intervals
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.inference.toys import interval_of_toys, toys
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import separate_counts
from jaxprof.likelihood.data import Data, NormFit, OnOffData, ProfileData, Status
from jaxprof.profile.quantities import Array


def map_data(function: Any, data: Data | None) -> Data | None:
    """Apply a function to every array of likelihood data, masks included.

    Parameters
    ----------
    function : callable
        Takes and returns an array.
    data : ProfileData, OnOffData, a tuple of these, or None

    Returns
    -------
    data : of the same kind
    """
    if data is None:
        return None

    def apply(block: ProfileData | OnOffData) -> ProfileData | OnOffData:
        arrays = {k: None if v is None else function(v) for k, v in vars(block).items()}
        return type(block)(**arrays)

    return tuple(apply(block) for block in data) if isinstance(data, tuple) else apply(data)


def _doubled(data: Data) -> Data:
    """Data with all arrays but masks in float64."""
    double = map_data(lambda a: a if a.dtype == bool else np.asarray(a, dtype=float), data)
    assert double is not None
    return double


def named_limits_from_data(data: Data, kind: str, n_sigma_ul: float) -> tuple[Array, Array]:
    """Ends of intervals of another kind than "profile" from the likelihood, (B, G) each.

    Parameters
    ----------
    data : ProfileData, OnOffData or a tuple of these
        What was fitted, arrays (B, G, E).
    kind : str
        See `jaxprof.intervals`.
    n_sigma_ul : float
        Their level as a number of standard deviations.
    """
    with jax.enable_x64(True):
        found = intervals(separate_counts(_doubled(data)), kind=kind, n_sigma=n_sigma_ul)
        return np.asarray(found.low), np.asarray(found.high)


def options_of_toys(
    likelihood: Likelihood, levels: tuple[float, float], kind: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Options of toys of a profile: its own levels and kind of limits unless they are given.

    The levels are standard deviations of its errors and limits.
    """
    own = {"n_sigma": levels[0], **options}
    if "cl" not in own:
        own.setdefault("n_sigma_ul", levels[1])
    if "interval" not in own:
        own["interval"] = interval_of_toys(likelihood, kind, own.get("quantities", ()))
    return own


def toys_of_data(
    data: Data, n_toys: int, levels: tuple[float, float], kind: str, options: dict[str, Any]
) -> Toys | ToySummary:
    """Toys of separate fits, in float64: see `options_of_toys`."""
    with jax.enable_x64(True):
        likelihood = separate_counts(_doubled(data))
        return toys(likelihood, n_toys, **options_of_toys(likelihood, levels, kind, options))


def upper_limits_from_data(data: Data, norm: Array, status: Array, n_sigma_ul: float) -> Array:
    """Upper limits from the likelihood, in float64 whatever JAX's global setting.

    Parameters
    ----------
    data : ProfileData, OnOffData or a tuple of these
        What was fitted, arrays (B, G, E).
    norm : ndarray, shape (B, G)
        Fitted norms.
    status : ndarray of int, shape (B, G)
        `~jaxprof.likelihood.data.Status` of each fit.
    n_sigma_ul : float
        Number of standard deviations.

    Returns
    -------
    norm_ul : ndarray, shape (B, G)
        NaN where there is no fit.
    """
    status = np.where(np.isfinite(norm), status, Status.NOT_CONVERGED).astype(np.int32)
    unused = {name: norm for name in ("norm_err", "stat", "stat_null", "ts")}
    with jax.enable_x64(True):
        fit = NormFit(norm=norm, status=status, **unused)
        return np.asarray(limits(_doubled(data), fit, n_sigma_ul=n_sigma_ul).norm_ul)


def upper_limits_from_scan(quantities: Mapping[str, Array], n_sigma_ul: float) -> Array:
    """Upper limits from a likelihood scan.

    Parameters
    ----------
    quantities : mapping of str to ndarray
        ``norm``, ``status`` and ``stat`` of the fits, shape (B, G); ``norm_scan``, increasing, and
        ``stat_scan``, shape (B, G, N).
    n_sigma_ul : float
        Number of standard deviations.

    Returns
    -------
    norm_ul : ndarray, shape (B, G)
        Where the statistic, interpolated from the minimum upwards, has risen by
        ``n_sigma_ul**2``; NaN where there is no fit. The interpolation is a cubic spline, and
        linear without counts, where the statistic of a bin alone consists of straight pieces
        (not so in a joint fit, where the other norms change with it).

    Raises
    ------
    ValueError
        If a scan ends before that.
    """
    norm, status, stat = (quantities[name] for name in ("norm", "status", "stat"))
    norm_scan, stat_scan = quantities["norm_scan"], quantities["stat_scan"]
    norm_ul = np.full(norm.shape, np.nan)
    short = []
    joint = "norm_covariance" in quantities
    fitted = np.isfinite(norm) & np.isfinite(stat) & (status <= Status.BOUNDARY)
    for index in zip(*np.nonzero(fitted), strict=True):
        above = norm_scan[index] > norm[index]
        x = np.concatenate([[norm[index]], norm_scan[index][above]])
        rise = np.concatenate([[0.0], stat_scan[index][above] - stat[index]])
        outcome = Status(status[index])
        if joint and outcome == Status.ZERO_COUNTS:
            outcome = Status.BOUNDARY
        norm_ul[index] = _crossing(x, rise, n_sigma_ul**2, outcome)
        if np.isnan(norm_ul[index]):
            short.append(index)
    if short:
        raise ValueError(
            f"the scan does not reach the upper limit of {len(short)} of {fitted.sum()} fits, the "
            f"first in bin {short[0][0]}, group {short[0][1]}; scan up to higher norms, or "
            f"estimate with n_sigma_ul={n_sigma_ul}"
        )
    return norm_ul


def _crossing(x: Array, rise: Array, target: float, status: Status) -> float:
    """Where the interpolated rise crosses the target; NaN if it does not."""
    if len(x) > 2 and x[1] - x[0] < 1e-2 * (x[2] - x[1]):
        # Next to the minimum the rise is all rounding, which would bend the spline.
        x, rise = np.delete(x, 1), np.delete(rise, 1)
    reached = np.flatnonzero(rise >= target)
    if not reached.size or not np.isfinite(rise).all():
        return np.nan
    end = reached[0]
    if status == Status.ZERO_COUNTS:
        return float(np.interp(target, rise[end - 1 : end + 1], x[end - 1 : end + 1]))
    start = (1, 0.0) if status == Status.OK else "not-a-knot"
    from scipy.interpolate import CubicSpline
    from scipy.optimize import brentq

    spline = CubicSpline(x, rise, bc_type=(start, "not-a-knot"))
    return brentq(lambda at: spline(at) - target, x[end - 1], x[end], xtol=1e-14, rtol=1e-14)
