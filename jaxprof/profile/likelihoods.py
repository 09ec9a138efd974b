"""The likelihood that a stored profile knows, by its scans or its covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxprof.likelihood.profile_likelihoods import CovarianceLikelihood, ScanLikelihood
from jaxprof.profile import FluxProfile
from jaxprof.profile.quantities import SOLID_ANGLES
from jaxprof.reduce.bin_geometry import bin_geometry
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline


COARSE = 0.05
"""Part of an error that a scan may be off by where it is told by its neighbours."""


def profile_likelihood(profile: FluxProfile) -> ScanLikelihood | CovarianceLikelihood:
    """The likelihood of the norms of a profile.

    Parameters
    ----------
    profile : FluxProfile
        With ``norm_covariance`` (of joint fits), or with ``stat_scan`` and ``stat``.

    Returns
    -------
    CovarianceLikelihood or ScanLikelihood

    Raises
    ------
    ValueError
        If it has neither, or its regions are not known.

    Warns
    -----
    UserWarning
        If the values of a scan are too far apart to be interpolated.
    """
    if profile.regions is None:
        raise ValueError("profile has no regions, over which a law would be integrated")
    stored = profile.quantities
    joint = "norm_covariance" in stored
    if not joint and not {"stat_scan", "stat", "norm_err"} <= set(stored):
        raise ValueError(
            "profile has no scan of its likelihood; run the estimator with "
            "selection_optional=['scan'], and norm={'scan_values': ...} around the norms, or give "
            "the likelihood itself, estimator.reduce(datasets)"
        )
    flux = np.broadcast_to(profile.reference["flux"], profile.shape).sum(axis=1)
    solid_angle = None if joint else stored.get(SOLID_ANGLES[profile.reference_solid_angle])
    geometry = bin_geometry(profile.regions, flux, solid_angle=solid_angle, folded=joint)
    if geometry is None:
        raise ValueError("profile has compound regions, over which no law can be integrated")
    known = stored["success"] & np.isfinite(stored["norm"])
    norm = np.where(known, stored["norm"], np.nan)
    if not known.any():
        raise ValueError("profile has no bin whose fit succeeded")
    if joint:
        return _by_covariance(profile, norm, geometry)
    return _by_scans(profile, norm, geometry)


def _by_covariance(profile: FluxProfile, norm: Array, geometry: Any) -> CovarianceLikelihood:
    covariance = profile.covariance
    variance = np.diagonal(covariance, axis1=1, axis2=2).T
    known = np.isfinite(norm) & (variance > 0)
    precision = np.zeros(covariance.shape)
    for group, own in enumerate(known.T):
        at = np.ix_(own, own)
        precision[group][at] = np.linalg.inv(covariance[group][at])
    return CovarianceLikelihood(
        norm=np.where(known, norm, np.nan),
        error=np.sqrt(np.where(known, variance, np.nan)),
        geometry=geometry,
        precision=precision,
    )


def _by_scans(profile: FluxProfile, norm: Array, geometry: Any) -> ScanLikelihood:
    stored = profile.quantities
    error = np.where(np.isfinite(norm), stored["norm_err"], np.nan) / profile.n_sigma
    splines: dict[tuple[int, int], CubicSpline] = {}
    coarse = []
    for at in np.argwhere(np.isfinite(norm)):
        place = (int(at[0]), int(at[1]))
        values = stored["norm_scan"][place]
        change = stored["stat_scan"][place] - stored["stat"][place]
        found = _spline(values, change, norm[place], error[place])
        if found is None:
            norm[place] = np.nan
            continue
        splines[place] = found
        if np.isfinite(error[place]) and abs(found(norm[place], 1) * error[place] - 1) > COARSE:
            coarse.append(place[0])
    if not splines:
        raise ValueError("profile: no scan has three values or more that are finite")
    if coarse:
        warn_user(
            f"fit_model: the scans of bins {sorted(set(coarse))} are too coarse around their norms "
            "to be interpolated well; give the estimator norm={'scan_values': ...} a third of an "
            "error apart, or fit the law to estimator.reduce(datasets)"
        )
    size = max(len(own.x) for own in splines.values())
    knots = np.zeros((*norm.shape, size))
    coefficients = np.zeros((*norm.shape, 4, size - 1))
    for place, own in splines.items():
        count = len(own.x)
        knots[place] = own.x[-1]
        knots[place][:count] = own.x
        coefficients[place][:, : count - 1] = own.c
        # Behind the last knot the last polynomial would begin anew there.
        coefficients[place][:, count - 1 :] = _moved(own)[:, np.newaxis]
    return ScanLikelihood(
        norm=norm,
        error=error,
        geometry=geometry,
        knots=knots,
        coefficients=coefficients,
        rooted=np.isfinite(error),
    )


def _spline(values: Array, change: Array, norm: float, error: float) -> CubicSpline | None:
    """Spline of the signed root of a scan, or of itself where the minimum is a kink."""
    regular = np.isfinite(error)
    scale = error if regular else max(abs(norm), 1e-300)
    # Values next to the minimum tell only rounding.
    kept = np.isfinite(values + change) & (np.abs(values - norm) > 1e-3 * scale)
    kept &= True if regular else values > norm
    x = np.append(values[kept], norm)
    y = np.maximum(change[kept], 0.0)
    y = np.append(np.sign(values[kept] - norm) * np.sqrt(y) if regular else y, 0.0)
    x, first = np.unique(x, return_index=True)
    from scipy.interpolate import CubicSpline

    return CubicSpline(x, y[first]) if len(x) > 3 else None


def _moved(spline: CubicSpline) -> Array:
    """The last polynomial of a spline around its end, (4,)."""
    end = float(spline.x[-1])
    a, b, c, d = (float(spline(end, order)) for order in (3, 2, 1, 0))
    return np.array([a / 6, b / 2, c, d])
