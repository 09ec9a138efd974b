"""Confidence and credible intervals of norms, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from jaxprof.compilation import is_traced
from jaxprof.inference.bracketed import falling_root
from jaxprof.inference.counting import cls_limit, unified_interval
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.levels import confidence_level, one_sided_sigma, two_sided_sigma
from jaxprof.inference.model_fit import fit as fit_likelihood
from jaxprof.inference.plain_numbers import whole_number
from jaxprof.inference.posterior import credible_interval, nodes_of
from jaxprof.inference.profiled import limits, scan
from jaxprof.inference.rise_curve import RiseCurve, expected_distance, rise_curve
from jaxprof.inference.toy_tests import toy_p_values
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import is_separable, profile_data
from jaxprof.likelihood.data import ProfileData, blocks
from jaxprof.types import Array

KINDS = ("profile", "one-sided", "bounded", "feldman-cousins", "cls", "bayesian")
"""Kinds of intervals."""
UPPER_ONLY = ("one-sided", "cls")
"""Those of them that are upper limits."""
METHODS = ("auto", "exact", "asymptotic", "toys")
ENOUGH = 60.0
"""Rise of the statistic beyond which a posterior density is left out: a part of 1e-13."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Intervals of norms.

    Attributes
    ----------
    low, high : array, shape (B, G)
        Their ends; NaN where there is none. Upper limits ("one-sided", "cls") begin at -inf and at
        zero.
    kind : str
        Kind of the interval.
    cl : float
        Probability that an interval contains the truth; with "bayesian" that of the truth within.
    method : str
        "asymptotic", "exact", "toys" or "quadrature".
    """

    low: Any
    high: Any
    kind: str
    cl: float
    method: str


@dataclass(frozen=True, kw_only=True)
class _Asked:
    kind: str
    cl: float
    method: str
    prior: Callable[[Array], Array] | None
    highest_density: bool
    n_toys: int
    seed: int


def intervals(
    likelihood: Likelihood,
    fit: Fit | None = None,
    *,
    kind: str = "profile",
    cl: float | None = None,
    n_sigma: float | None = None,
    method: str = "auto",
    prior: Callable[[Array], Array] | None = None,
    highest_density: bool = True,
    n_toys: int = 1000,
    seed: int = 0,
) -> Intervals:
    """Confidence or credible intervals of all norms of a profile, the other parameters profiled.

    Parameters
    ----------
    likelihood : Likelihood
        That of an estimator; for joint fits made with ``merge=False``, the default.
    fit : Fit, optional
        What `jaxprof.fit` gave for it.
    kind : {"profile", "one-sided", "bounded", "feldman-cousins", "cls", "bayesian"}
        - "profile": around the norm, which may be negative, by the rise of the statistic (Wilks
          1938, Ann. Math. Stat. 9, 60).
        - "one-sided": upper limit by the same rise.
        - "bounded": of norms that are not negative. Values are ordered by ``stat(norm) -
          stat(best)``, with the best norm that is not negative, as Feldman and Cousins do; the
          distribution of that is the asymptotic one at a bound (Cowan et al. 2011, Eur. Phys. J. C
          71, 1554, eq. 41). An upper limit alone for small counts, two ends for large ones.
        - "feldman-cousins": the same order with its true distribution (Feldman & Cousins 1998,
          Phys. Rev. D 57, 3873), by sums where a norm has one counts bin with a known background,
          else by toys.
        - "cls": upper limit of norms that are not negative, by CLs (Read 2002, J. Phys. G 28,
          2693): never shorter than what an experiment without a signal can exclude.
        - "bayesian": of the posterior density, zero below zero.
    cl : float, optional
        Confidence level, the probability of the interval, whatever its kind: 0.95.
    n_sigma : float, optional
        The same in standard deviations, 2 for 0.9545; by default 2.
    method : {"auto", "exact", "asymptotic", "toys"}
        How "feldman-cousins" and "cls" are computed. By default "exact" where each norm has one
        counts bin with a known background, else "toys" for the former and "asymptotic" for the
        latter.
    prior : callable, optional
        Prior density of norms above zero, from an array to an array, not normalised; by default
        flat. For "bayesian".
    highest_density : bool
        Whether "bayesian" gives the shortest interval, which is an upper limit for small counts, or
        the one with equal tails, whose lower end is never zero.
    n_toys, seed : int
        Toys for each value of the norm, and what they are drawn from.

    Returns
    -------
    Intervals

    Raises
    ------
    ValueError
        For a kind or method that the likelihood does not have; the message says what would do.

    Notes
    -----
    Nuisance parameters are profiled, also for "bayesian": of On-Off data the OFF rates. Results
    are numpy arrays without derivatives, but for "profile" and "one-sided".
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if not isinstance(likelihood, Likelihood):
        raise ValueError(
            f"likelihood must be a Likelihood, got {type(likelihood).__name__}; jaxprof.limits and "
            "jaxprof.scan take any function"
        )
    number, start = whole_number(n_toys), whole_number(seed)
    if number is None or not number > 0:
        raise ValueError(f"n_toys must be a positive whole number, got {n_toys!r}")
    if start is None:
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    if kind not in ("profile", "one-sided") and is_traced((likelihood, fit)):
        raise ValueError(f"kind: {kind!r} cannot be traced by jit or derivatives")
    level = confidence_level(cl, n_sigma)
    if level == 1.0:
        raise ValueError(f"n_sigma={n_sigma} is a confidence level of 1 but for rounding; take 8")
    asked = _Asked(
        kind=kind,
        cl=level,
        method=_method(likelihood, kind, method),
        prior=prior,
        highest_density=highest_density,
        n_toys=number,
        seed=start,
    )
    if asked.method == "exact":
        found = _exact(likelihood, asked)
    else:
        own = {
            "profile": _by_rise,
            "one-sided": _by_rise,
            "bounded": _bounded,
            "feldman-cousins": _unified,
            "cls": _cls,
            "bayesian": _bayesian,
        }
        fit = fit_likelihood(likelihood) if fit is None else fit
        found = own[kind](likelihood, fit, asked)
    return Intervals(low=found[0], high=found[1], kind=kind, cl=asked.cl, method=asked.method)


def _method(likelihood: Likelihood, kind: str, method: str) -> str:
    """Method by which intervals are computed, or the error that says which would do."""
    if kind == "bayesian":
        return "quadrature"
    if kind in ("profile", "one-sided", "bounded"):
        if method not in ("auto", "asymptotic"):
            raise ValueError(f"method: {kind!r} has 'asymptotic' only; 'feldman-cousins' has toys")
        return "asymptotic"
    if kind == "feldman-cousins" and method == "asymptotic":
        raise ValueError("method: 'feldman-cousins' has no 'asymptotic'; kind='bounded' is that")
    simple = counting_experiments(likelihood) is not None
    if method == "exact" and not simple:
        raise ValueError(
            "method: 'exact' needs norms with one counts bin each, a known background and whole "
            "counts, as with sum_over_energy_groups=True; 'toys' needs none of that"
        )
    if method == "auto":
        method = "exact" if simple else ("asymptotic" if kind == "cls" else "toys")
    if method == "toys" and not is_separable(likelihood):
        raise ValueError(
            f"method: {kind!r} by toys would fit all norms of a joint fit again for each value and "
            "toy; kind='bounded' has the same order of values with asymptotic probabilities"
            if kind == "feldman-cousins"
            else "method: toys of joint fits would take too long; 'asymptotic' does"
        )
    return method


def counting_experiments(likelihood: Likelihood) -> tuple[Array, Array, Array] | None:
    """Counts, background and signal at norm one of single counts bins, (B, G).

    None unless each norm has one counts bin or none, with a known background and whole counts.
    Without any counts bin the signal is zero.
    """
    if not is_separable(likelihood):
        return None
    data = blocks(profile_data(likelihood))
    if not all(isinstance(block, ProfileData) for block in data):
        return None
    parts = [
        np.concatenate([np.asarray(getattr(block, name)) for block in data], axis=2)
        for name in ("counts", "background", "npred_ref", "mask")
    ]
    used = parts[3].astype(bool) & (parts[2] > 0)
    counts, background, signal = (np.where(used, part, 0.0).sum(axis=2) for part in parts[:3])
    if (used.sum(axis=2) > 1).any() or (counts != np.round(counts)).any():
        return None
    return counts, background, signal


def _by_rise(likelihood: Likelihood, fit: Fit, asked: _Asked) -> tuple[Any, Any]:
    if asked.kind == "profile":
        z = two_sided_sigma(asked.cl)
        found = limits(likelihood, fit, n_sigma=z, n_sigma_ul=z)
        return fit.params["norm"] - found.errn["norm"], found.ul["norm"]
    if not asked.cl > 0.5:
        raise ValueError(f"cl of 'one-sided' must be above 0.5, got {asked.cl:g}")
    found = limits(likelihood, fit, n_sigma_ul=one_sided_sigma(asked.cl))
    high = found.ul["norm"]
    return high * 0.0 - np.inf, high


def _curve(likelihood: Likelihood, fit: Fit, asked: _Asked) -> RiseCurve:
    if likelihood.merged:
        raise ValueError(
            f"likelihood: {asked.kind!r} needs other counts, which a likelihood of merged pixels "
            "cannot have; make it with reduce(datasets, merge=False)"
        )
    return rise_curve(likelihood, fit, max(two_sided_sigma(asked.cl), 1.0))


def _bounded(likelihood: Likelihood, fit: Fit, asked: _Asked) -> tuple[Array, Array]:
    curve = _curve(likelihood, fit, asked)
    distance = expected_distance(curve)

    def excess(norm: Array) -> Array:
        """Of the p-value over one minus the confidence level."""
        rise, far = curve.rise(norm), distance(norm)
        root = np.sqrt(rise)
        beyond = rise > far**2
        with np.errstate(divide="ignore", invalid="ignore"):
            other = np.where(beyond, (rise + far**2) / (2.0 * far), root)
        other = np.where(np.isnan(other), np.inf, other)
        p = scipy.special.ndtr(-root) + scipy.special.ndtr(-other) - (1.0 - asked.cl)
        return np.where(np.isnan(far), np.nan, p)

    return _two_ends(excess, curve)


def _two_ends(
    excess: Callable[[Array], Array], curve: RiseCurve, tolerance: float = 1e-10, steps: int = 0
) -> tuple[Array, Array]:
    """Ends of where a function is positive around the best norm, from zero.

    The upper one is sought from the last of some steps at which it is positive.
    """
    start, width = curve.best.copy(), np.maximum(curve.reach, curve.best)
    for step in range(1, steps + 1):
        at = curve.best + 2.0 * width * step / steps
        start = np.where(excess(at) > 0, at, start)
    start = np.where(np.isfinite(start), start, curve.best)
    width = 2.0 * width / steps if steps else width
    high = falling_root(excess, start, start + width, tolerance=tolerance)
    # Towards zero it falls as well; where it is positive there, the interval begins there.
    down = falling_root(
        lambda far: np.where(far >= curve.best, -1.0, excess(np.maximum(curve.best - far, 0.0))),
        np.zeros_like(curve.best),
        curve.best,
        tolerance=tolerance,
    )
    at_zero = excess(np.zeros_like(curve.best)) > 0
    low = np.where(at_zero | (curve.best == 0), 0.0, curve.best - down)
    known = np.isfinite(high)
    return np.where(known, low, np.nan), high


def _exact(likelihood: Likelihood, asked: _Asked) -> tuple[Array, Array]:
    """By sums over the counts of counting experiments."""
    found = counting_experiments(likelihood)
    assert found is not None
    counts, background, signal = found
    seen = signal > 0
    if asked.kind == "cls":
        high = cls_limit(counts, background, asked.cl) / np.where(seen, signal, np.nan)
        return np.where(seen, 0.0, np.nan), high
    ends = np.full((2, *counts.shape), np.nan)
    for row, group in np.argwhere(seen):
        own = unified_interval(float(counts[row, group]), float(background[row, group]), asked.cl)
        ends[:, row, group] = np.array(own) / signal[row, group]
    return ends[0], ends[1]


def _unified(likelihood: Likelihood, fit: Fit, asked: _Asked) -> tuple[Array, Array]:
    curve = _curve(likelihood, fit, asked)

    def excess(norm: Array) -> Array:
        observed = curve.rise(norm)
        p = toy_p_values(
            likelihood, norm, observed, truth=norm, n_toys=asked.n_toys, seed=asked.seed
        )
        return np.where(np.isfinite(observed), p - (1.0 - asked.cl), np.nan)

    # Counts are whole numbers: the norms that accept them may have gaps.
    return _two_ends(excess, curve, tolerance=1e-2, steps=20)


def _cls(likelihood: Likelihood, fit: Fit, asked: _Asked) -> tuple[Array, Array]:
    curve = _curve(likelihood, fit, asked)
    low, start = np.zeros_like(curve.best), curve.best + curve.reach
    if asked.method == "toys":
        high = falling_root(_cls_by_toys(curve, asked), low, start, tolerance=1e-3)
    else:
        high = falling_root(_cls_by_formula(curve, asked.cl), low, start)
    return np.where(np.isfinite(high), low, np.nan), high


def _cls_by_formula(curve: RiseCurve, cl: float) -> Callable[[Array], Array]:
    distance, best = expected_distance(curve), np.asarray(curve.fit.params["norm"])

    def excess(norm: Array) -> Array:
        # Cowan et al. 2011, eqs. 65 and 66: the test statistic is zero below the best norm.
        rise, far = np.where(norm < best, 0.0, curve.rise(norm)), distance(norm)
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = (rise > far**2) & (far > 0)
            both = np.where(beyond, (rise + far**2) / (2.0 * far), np.sqrt(rise))
            alone = np.where(beyond, (rise - far**2) / (2.0 * far), np.sqrt(rise) - far)
        ratio = scipy.special.log_ndtr(-both) - scipy.special.log_ndtr(-alone)
        return np.where(np.isnan(far), np.nan, np.where(far > 0, ratio, 0.0) - np.log1p(-cl))

    return excess


def _cls_by_toys(curve: RiseCurve, asked: _Asked) -> Callable[[Array], Array]:
    def excess(norm: Array) -> Array:
        observed = np.where(norm < curve.best, 0.0, curve.rise(norm))
        both, alone = (
            toy_p_values(
                curve.likelihood,
                norm,
                observed,
                truth=truth,
                n_toys=asked.n_toys,
                seed=asked.seed,
                upper=True,
            )
            for truth in (norm, np.zeros_like(norm))
        )
        ratio = both / np.maximum(alone, 0.5 / asked.n_toys)
        return np.where(np.isfinite(observed), ratio - (1.0 - asked.cl), np.nan)

    return excess


def _bayesian(likelihood: Likelihood, fit: Fit, asked: _Asked) -> tuple[Array, Array]:
    curve = rise_curve(likelihood, fit)
    zero = np.zeros_like(curve.best)

    def excess(norm: Array) -> Array:
        return ENOUGH - curve.rise(norm)

    top = falling_root(excess, curve.best, curve.best + curve.reach, tolerance=1e-3)
    down = falling_root(
        lambda far: excess(np.maximum(curve.best - far, 0.0)), zero, curve.best, tolerance=1e-3
    )
    bottom = np.where(excess(zero) > 0, 0.0, np.maximum(curve.best - down, 0.0))
    separate = is_separable(likelihood)
    nodes, edges = nodes_of(bottom, top, 48 if separate else 8)
    rise = np.asarray(scan(likelihood, fit, nodes)) - curve.offset[..., None]
    log_density = -0.5 * rise
    if asked.prior is not None:
        density = np.asarray(asked.prior(nodes), float)
        if density.shape != nodes.shape or not (density >= 0).all():
            raise ValueError("prior must give a density that is not negative for each norm")
        with np.errstate(divide="ignore"):
            log_density = log_density + np.log(density)
        log_density -= np.max(log_density, axis=-1, keepdims=True)
    return credible_interval(log_density, edges, asked.cl, highest_density=asked.highest_density)
