"""What users are told about fits of laws."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxprof.estimators.law_result import ModelFit
from jaxprof.inference.double_precision import in_float64
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.law_fit import law_log_prob
from jaxprof.inference.undetermined import undetermined
from jaxprof.likelihood import BinGeometry
from jaxprof.likelihood.data import Status
from jaxprof.user_warning import warn_user

WIDE = 0.2
"""Change of the logarithm of a law across a bin, on average over its flux, that costs more than a
few parts in a thousand of its index."""
CUSP = 1.5
"""Index of a law around its centre from which on finer bins hardly help: n times finer, the
innermost has n ** (index - 2) times the flux."""
PARTS = 48
"""Distances within a bin that a law is looked at."""
MOST = 32
"""Parts of a bin, at most, that a warning proposes."""
SMALL = 0.1
"""Part of the statistical errors that wide bins may move parameters by without a word."""
A_POINT = (
    "describe what is at the centre as a point source, sources=[SkyModel(spectrum, "
    'PointSpatialModel(...), name="centre", free=True)] of the estimator'
)
ONE_BIN = (
    "nearly all of the flux of the law is in one bin, within which nothing tells its shape: if "
    f"that is a point, {A_POINT}"
)


def why_not(found: Fit, likelihood: Any, law: Any) -> str:
    """Why a fit has no parameters, and what would do."""
    names, what = undetermined(law_log_prob, found, (likelihood, law)), type(law).__name__
    if not names:
        return (
            f"law: the fit of {what} from its own parameters left what can be computed; start from "
            "other ones, such as a radius within the bins and a wider edge, or give fixed= or "
            "bounds="
        )
    many = len(names) > 1
    listed = f"{', '.join(names)} {'are' if many else 'is'} hardly identifiable{' together' * many}"
    shapes = [name for name in names if name != "amplitude"] or names
    return (
        f"law: the fit of {what} did not converge: {listed}; hold some, such as "
        f"fixed={shapes[0]!r}, or give bounds="
    )


def warn_of_fit(found: ModelFit) -> None:
    """Warn of a fit of a law that failed, or for which the bins are too wide."""
    if np.ndim(found.status):
        return
    if not found.success:
        warn_user(
            f"fit_model: the fit failed, {Status(int(found.status)).label}; {_why_failed(found)}"
        )
        return
    if not _change(found.geometry, found.model)[1] > WIDE or (moved := _moved(found)) < SMALL:
        return
    wanted = f"estimator.reduce(datasets, subdivide={_wanted_subdivide(found)}) or so"
    counts = found.fitted_to == "counts"
    finer = f"take {wanted}, which follows it" if counts else f"fit the law to {wanted}"
    size = f" (about {float(f'{moved:.1g}'):g} of their errors here)" if np.isfinite(moved) else ""
    warn_user(f"fit_model: {uneven_bins(found.geometry, found.model, finer, size)}")


def _why_failed(found: ModelFit) -> str:
    """Why a fit has parameters that are no estimates, and what would do."""
    variances = np.diagonal(np.asarray(found.covariance))
    lost = [name for name, own in zip(found.names, variances, strict=True) if np.isnan(own)]
    if found.status != Status.DEGENERATE or any(name.startswith("guard") for name in lost):
        return (
            "where guard bins go so low that predictions vanish, "
            'norm={"min": 0} of the estimator helps'
        )
    texts = [f"the data do not determine {' and '.join(lost)}"]
    if found.geometry.rings is not None and _in_one_bin(found.geometry.flux(found.model)):
        texts.append(ONE_BIN)
    return "; ".join([*texts, f"hold some, such as fixed={lost[0]!r}, or give bounds="])


def _change(geometry: BinGeometry, law: Any) -> tuple[Any, float]:
    """Change of the logarithm of a law across rings, times their flux (B,), and its mean.

    None and zero where emission is not folded as if it came evenly from rings.
    """
    if geometry.rings is None or not geometry.folded:
        return None, 0.0
    flux = np.abs(np.asarray(geometry.flux(law)))
    low, high = np.asarray(geometry.rings)[:, [0, -1]].T
    # A cusp matters as far as there is flux.
    parts = np.minimum(np.abs(np.nan_to_num(_fall(law, low, high, 0.05, 1.0), nan=0.0)), 3.0) * flux
    return parts, float(np.sum(parts) / np.sum(flux))


def uneven_bins(geometry: BinGeometry, law: Any, finer: str, moved: str = "") -> str:
    """What it costs that the emission of rings is folded as if it were even; "" if little.

    `finer` says how to make the bins finer, `moved` how far these move parameters.
    """
    parts, mean = _change(geometry, law)
    if not mean > WIDE:
        return ""
    flux = np.abs(np.asarray(geometry.flux(law)))
    low, high = np.asarray(geometry.rings)[:, [0, -1]].T
    size = f"{100 * np.expm1(mean):.0f} %" if mean < 1 else f"a factor of {np.exp(mean):.2g}"
    head = f"the law changes by {size} across a bin, on average"
    first = int(np.argmin(low))
    # The power of the distance that it falls with, near the centre.
    index = _fall(law, 0.0, high[first], 0.02, 0.1) / np.log(5.0)
    if low[first] < 0.01 * high[first] and index > CUSP and parts[first] > 0.5 * np.sum(parts):
        return (
            f"{head}: {100 * flux[first] / np.sum(flux):.0f} % of its flux are within "
            f"{high[first]:.3g} deg of the centre, in the innermost bin, where it goes as "
            f"r^-{index:.2f} (from r^-2 on this flux is infinite). No subdivide resolves that, and "
            "the parameters depend on the size of this bin: take a law with a core, "
            f"CoredPowerLawRadialModel for instance, {A_POINT}, or begin outside of it, with a "
            "larger radius_min of the annuli"
        )
    if _in_one_bin(flux):
        return f"{head}: {ONE_BIN}, or {finer}"
    return (
        f"{head}, but emission is folded as if it came evenly from all of a bin, which moves its "
        f"parameters{moved}, above all a scale that is smaller than a bin; {finer}"
    )


def _fine(geometry: BinGeometry) -> tuple[Any, Any, Any]:
    """Lower and upper edges of the bins (B,), and distances within them (B, PARTS)."""
    low, high = np.asarray(geometry.rings, float)[:, [0, -1]].T
    steps = (np.arange(PARTS) + 0.5) / PARTS
    return low, high, low[:, np.newaxis] + (high - low)[:, np.newaxis] * steps


def _wanted_subdivide(found: ModelFit) -> int:
    """Parts of the bins of the profile across which a law changes little, at most `MOST`."""
    low, high, radius = _fine(found.geometry)
    law = np.abs(np.asarray(found.model(radius)))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.gradient(np.log(law), axis=1)) * PARTS
    now = int(np.bincount(found.geometry.parent).max())
    weight = law * radius * (high - low)[:, np.newaxis]
    for times in range(2, MOST // now + 1):
        across = np.minimum(np.nan_to_num(change / times, nan=0.0), 3.0)
        if np.sum(across * weight) <= WIDE * np.sum(weight):
            return now * times
    return max(MOST, 2 * now)


def _moved(found: ModelFit) -> float:
    """About how far even emission within the bins moves the parameters, in their errors.

    The mean distance of the emission from the centre is what the shape of a law says first. Bins
    that are even move it; the fit makes up for that as far as its error allows.
    """
    low, high, radius = _fine(found.geometry)
    at = [found.names.index(name) for name in found.law_names]
    covariance = np.asarray(found.covariance)[np.ix_(at, at)]

    def values(own: dict[str, Any]) -> Any:
        law = found.model.replace(**own)
        return law(radius), jax.jacfwd(lambda own: law.replace(**own)(radius))(own)

    own = {name: np.asarray(found.model.parameters[name], float) for name in found.law_names}
    law, slopes = in_float64(values, own)
    weight = radius * (high - low)[:, np.newaxis]
    within = np.abs(np.asarray(law)) * weight
    flux = within.sum(axis=1)
    even = 2 / 3 * (high**3 - low**3) / (high**2 - low**2)
    shift = np.sum(np.abs((within * radius).sum(axis=1) - flux * even)) / flux.sum()
    away = weight * (radius - np.sum(within * radius) / flux.sum()) / flux.sum()
    slope = np.array([np.sum(away * np.asarray(slopes[name])) for name in found.law_names])
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nan_to_num(shift / np.sqrt(slope @ covariance @ slope), nan=np.inf))


def _fall(law: Any, low: Any, high: Any, start: float, stop: float) -> Any:
    """Logarithm of how much a law falls within rings, from and to parts of their widths."""
    inner, outer = (low + part * (high - low) for part in (start, stop))
    with np.errstate(divide="ignore", invalid="ignore"):  # a disk ends within a bin
        return np.log(np.abs(np.asarray(law(inner)) / np.asarray(law(outer))))


def _in_one_bin(flux: Any) -> bool:
    flux = np.abs(np.asarray(flux))
    return flux.size > 1 and bool(np.max(flux) > 0.9 * np.sum(flux))
