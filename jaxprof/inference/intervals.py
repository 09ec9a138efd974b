"""Asymmetric errors, upper limits and sensitivities from the likelihood itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.compilation import jit_by_size
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import (
    Data,
    NormFit,
    OnOffData,
    ProfileData,
    Status,
    float_dtype,
    neutral,
    over_bins,
    prepare,
)
from jaxprof.likelihood.separable import Blocks
from jaxprof.solvers.solve import differentiable_root, increasing_root

NEWTON_STEPS = 4
"""Steps by which a fitted norm gets back the digits that a large background takes from it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Confidence limits; every array has shape ``(B, G)``.

    Attributes
    ----------
    norm_errn, norm_errp : array
        Distances from the norm down and up to where the statistic has risen by ``n_sigma**2``;
        NaN where it never does: where a bound of the norm comes first, and downwards for cash data
        without counts.
    norm_ul : array
        The upper norm at which the statistic has risen by ``n_sigma_ul**2``, or the upper bound of
        the norm where that comes first; finite wherever there is exposure.
    """

    norm_errn: Any
    norm_errp: Any
    norm_ul: Any


def _distance(data: Blocks, norm: jax.Array, side: jax.Array, rise: jax.Array) -> jax.Array:
    """Distance from the minimum, down (side -1) or up (+1), to where the statistic has risen.

    Where the domain goes on, the rise is convex in the distance: a Newton step from any point lands
    at or beyond the root and closes the bracket. Where it ends (cash, downwards, at a distance
    ``w``), the statistic has a logarithmic pole; in ``u = -w ln(1 - distance / w)`` it has none.
    With ``n`` counts in the counts bins that make the pole the rise is at least ``2 n (u / w -
    1)``.
    """
    _, _, signal = likelihood.totals(data)
    curvature = likelihood.curvature(data, norm)
    has_curvature = curvature > 0
    unit = jnp.where(
        has_curvature, jnp.sqrt(rise / jnp.where(has_curvature, curvature, 1.0)), rise / signal
    )
    start = likelihood.domain_start(data)
    ends = (side < 0) & jnp.isfinite(start)
    width = jnp.where(ends, norm - start, unit)

    def distance(y: jax.Array) -> jax.Array:
        return jnp.where(ends, -width * jnp.expm1(-unit * y / width), unit * y)

    def rise_and_slope(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        far = distance(y)
        x = norm + side * far
        stretch = jnp.where(ends, 1.0 - far / width, 1.0) * unit
        value = likelihood.difference(data, x, norm) - rise
        return value, 2.0 * side * stretch * likelihood.score(data, x)

    one = jnp.ones_like(norm)
    value, slope = rise_and_slope(one)
    beyond = jnp.maximum(one, one - value / jnp.where(slope > 0, slope, 1.0)) * (1.0 + 1e-3)
    pole = (rise / (2.0 * likelihood.pole_counts(data, start)) + 1.0) * width / unit
    high = jnp.where(ends, pole, beyond)
    y, converged = increasing_root(rise_and_slope, one, jnp.zeros_like(norm), high)
    return jnp.where(converged, distance(y), jnp.nan)


def _limit_without_counts(data: Blocks, rise: jax.Array) -> jax.Array:
    """Norm at which the statistic of cash data without counts is ``rise``.

    The statistic is ``2 sum max(b + x s, 0)``. For any choice of counts bins, ``2 sum (b + x s)``
    is a line that is nowhere above it, so that its root is never below the limit. The first is that
    of the best single counts bin; each root gives the counts bins of the next, those with a
    positive prediction there, until it goes down no more.
    """
    cash = [block for block in data if isinstance(block, ProfileData)]
    signal = jnp.concatenate([block.npred_ref for block in cash])
    used = signal > 0
    background = jnp.concatenate([block.background for block in cash])

    def root(x: jax.Array) -> jax.Array:
        chosen = used & (background + x * signal > 0)
        slope = jnp.sum(jnp.where(chosen, signal, 0.0))
        height = 0.5 * rise - jnp.sum(jnp.where(chosen, background, 0.0))
        return jnp.where(slope > 0, height / jnp.where(slope > 0, slope, 1.0), x)

    alone = (0.5 * rise - background) / jnp.where(used, signal, 1.0)
    best = jnp.min(jnp.where(used, alone, jnp.inf))
    first = best, root(best)
    x, _ = jax.lax.while_loop(lambda xs: xs[1] < xs[0], lambda xs: (xs[1], root(xs[1])), first)
    return x


class _Asked(NamedTuple):
    """Rises of the statistic, and bounds of the norm."""

    rise: jax.Array
    rise_ul: jax.Array
    norm_min: jax.Array
    norm_max: jax.Array


def _refined(own: likelihood.Scaled, fit: NormFit) -> jax.Array:
    """The scaled norm of a fit, with the digits that the norm itself has no room for.

    Next to a large background the norm is a small difference from where the domain starts. Close
    to that, the score times the distance is almost a straight line: some Newton steps find the
    minimum again, and kinks are known.
    """
    at = own.at(fit.norm)
    data, x = jax.tree.map(jax.lax.stop_gradient, (own.data, at))
    kinks = likelihood.kinks(data)
    kink = kinks[jnp.argmin(jnp.abs(kinks - x))]
    rounding = 8 * jnp.finfo(x.dtype).eps * (jnp.abs(x) + jnp.abs(own.origin / own.unit))
    near = jnp.abs(kink - x) <= rounding
    missing = jnp.where(near, kink - x, 0.0)
    if not any(isinstance(block, ProfileData) for block in data):
        return at + missing  # the domain has no start
    _, counts, signal = likelihood.totals(data)
    start = likelihood.domain_start(data)
    nearest = likelihood.pole_counts(data, start) / signal

    def score(x: jax.Array) -> jax.Array:
        return likelihood.score(data, x) * (x - start)

    def step(_: int, x: jax.Array) -> jax.Array:
        value, slope = jax.jvp(score, (x,), (jnp.ones_like(x),))
        new = x - value / jnp.where(slope > 0, slope, 1.0)
        return jnp.maximum(jnp.where(slope > 0, new, x), start + nearest)

    regular = (fit.status == Status.OK) & jnp.isfinite(start) & (counts > 0)
    exact = jax.lax.fori_loop(0, NEWTON_STEPS, step, jnp.where(regular, x, 1.0))
    return at + jnp.where(regular, exact - x, missing)


def _limits_bin(data: Blocks, fit: NormFit, asked: _Asked) -> Limits:
    fitted = (fit.status <= Status.BOUNDARY) & (asked.norm_min < asked.norm_max)
    safe = jax.tree.map(lambda a: a if a.dtype == bool else jnp.where(fitted, a, 1.0), data)
    norm = jnp.where(fitted, fit.norm, 1.0)
    own = likelihood.scaled(safe)
    at = _refined(own, dataclasses.replace(fit, norm=norm))
    sides = jnp.asarray([-1.0, 1.0, 1.0], norm.dtype)
    rises = jnp.stack([asked.rise, asked.rise, asked.rise_ul])
    fixed, fixed_at = jax.tree.map(jax.lax.stop_gradient, (own.data, at))
    distances = jax.vmap(lambda side, r: _distance(fixed, fixed_at, side, r))(sides, rises)
    roots = fixed_at + sides * distances

    def limit(of: Blocks, best: jax.Array, r: jax.Array, root: jax.Array) -> jax.Array:
        return differentiable_root(lambda x: likelihood.difference(of, x, best) - r, root)

    if all(isinstance(block, ProfileData) for block in data):
        # Without counts the norm is that of the counts bin with the most background for its signal.
        # It may be so far below the limit that the distance has too few digits left. The limit
        # itself, counted from zero, may be much closer to that than to the norm: this is a fourth
        # one.
        plain = likelihood.from_zero(safe, own.unit)
        problems = jax.tree.map(lambda a, b: jnp.stack([a, a, a, b]), own.data, plain)
        rises = jnp.append(rises, asked.rise_ul)
        flat = (fit.status == Status.ZERO_COUNTS) & (fixed_at <= jnp.min(likelihood.kinks(fixed)))
        alone = jax.vmap(_limit_without_counts)(jax.lax.stop_gradient(problems), rises)
        roots = jnp.where(flat & (sides > 0), alone[:3], roots)
        roots = jnp.append(roots, alone[3])
        best = jnp.stack([at, at, at, norm / own.unit])
        low, high, upper, counted = jax.vmap(limit)(problems, best, rises, roots)
        norm_ul = jnp.where(flat, own.unit * counted, own.norm(upper))
    else:
        low, high, upper = jax.vmap(lambda r, root: limit(own.data, at, r, root))(rises, roots)
        norm_ul = own.norm(upper)
    # Left of its largest minimiser a bounded norm is not allowed, and cash without counts is flat.
    falls = likelihood.score(fixed, fixed_at - 1e-3 * distances[1]) < 0
    below, above = own.norm(low) < asked.norm_min, own.norm(high) > asked.norm_max
    # At an upper bound of the norm the statistic still falls.
    capped = (fit.status == Status.BOUNDARY) & (likelihood.score(fixed, fixed_at) < 0)
    norm_ul = jnp.where(capped, norm, jnp.minimum(norm_ul, asked.norm_max))
    return Limits(
        norm_errn=jnp.where(fitted & falls & ~below, own.unit * (at - low), jnp.nan),
        norm_errp=jnp.where(fitted & ~capped & ~above, own.unit * (high - at), jnp.nan),
        norm_ul=jnp.where(fitted, norm_ul, jnp.nan),
    )


@jit_by_size
def _limits(data: Blocks, fit: NormFit, asked: _Asked) -> Limits:
    def limits_bin(block: Blocks, own: NormFit) -> Limits:
        return _limits_bin(block, own, asked)

    return over_bins(limits_bin)(neutral(data), fit)


def check_n_sigma(name: str, value: float) -> None:
    """Refuse a number of standard deviations that is not positive."""
    if not isinstance(value, jax.core.Tracer) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def limits(
    data: Data,
    fit: NormFit,
    *,
    n_sigma: float = 1,
    n_sigma_ul: float = 2,
    norm_min: float | None = None,
    norm_max: float | None = None,
) -> Limits:
    """Asymmetric errors and upper limits of fitted norms.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``.
    fit : NormFit
        What `fit_norms` gave for them.
    n_sigma : float
        Number of standard deviations of ``norm_errn`` and ``norm_errp``.
    n_sigma_ul : float
        Number of standard deviations of the upper limit: 2 gives 95.45 % for a two-sided interval.
    norm_min, norm_max : float, optional
        Bounds of the norm, those that `fit_norms` had; None for no bound.

    Returns
    -------
    limits : Limits
        ``norm_errn``, ``norm_errp`` and ``norm_ul``, each ``(B, G)``; NaN where there is no fit.

    Raises
    ------
    ValueError
        For a number of standard deviations that is not positive.

    Notes
    -----
    A limit is where ``stat(norm) - stat_min = n_sigma**2`` (Wilks 1938, Ann. Math. Stat. 9, 60).
    The difference is summed term by term with ``log1p``.

    A norm that may be negative may have an upper limit below zero, where counts fluctuate far below
    their background: it is the edge of the interval above, and no limit on a flux that cannot be
    negative. Fits and limits with ``norm_min=0`` give that.
    """
    check_n_sigma("n_sigma", n_sigma)
    check_n_sigma("n_sigma_ul", n_sigma_ul)
    prepared = prepare(data)
    dtype = float_dtype(prepared)
    low = -jnp.inf if norm_min is None else norm_min
    high = jnp.inf if norm_max is None else norm_max
    asked = _Asked(*(jnp.asarray(v, dtype) for v in (n_sigma**2, n_sigma_ul**2, low, high)))
    # Only these are used of the fit: another dtype, or None, may be in the others.
    own = NormFit(
        norm=jnp.asarray(fit.norm, dtype),
        status=fit.status,
        **dict.fromkeys(("norm_err", "stat", "stat_null", "ts")),
    )
    return _limits(prepared, own, asked)


def _asimov_ts(data: Blocks, norm: jax.Array) -> jax.Array:
    """TS of the data set that is exactly the prediction at ``norm``."""
    asimov = []
    for block in data:
        signal = norm * block.npred_ref
        if isinstance(block, OnOffData):
            counts = {"n_on": block.alpha * block.n_off + signal}
        else:
            counts = {"counts": block.background + signal}
        asimov.append(type(block)(**{**vars(block), **counts}))
    return likelihood.difference(tuple(asimov), jnp.zeros_like(norm), norm)


def _sensitivity_bin(data: Blocks, ts: jax.Array) -> jax.Array:
    has_signal = jnp.any(jnp.concatenate([block.npred_ref > 0 for block in data]))
    safe = jax.tree.map(lambda a: a if a.dtype == bool else jnp.where(has_signal, a, 1.0), data)
    own = likelihood.scaled(safe, shifted=False)
    fixed = jax.tree.map(jax.lax.stop_gradient, own.data)
    background = sum(
        jnp.sum(
            jnp.where(
                block.npred_ref > 0,
                block.alpha * (1 + block.alpha) * block.n_off
                if isinstance(block, OnOffData)
                else block.background,
                0.0,
            )
        )
        for block in fixed
    )
    _, _, signal = likelihood.totals(fixed)
    # Detection takes about n sqrt(background) counts, or n**2 of them without background.
    unit = (ts + jnp.sqrt(ts * background)) / signal

    def excess_ts(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, slope = jax.jvp(lambda x: _asimov_ts(fixed, x * unit), (y,), (jnp.ones_like(y),))
        return value - ts, slope

    one = jnp.ones_like(unit)
    value, slope = excess_ts(one)
    # TS is convex in the norm: a Newton step never stops short of the root.
    high = jnp.maximum(one, one - value / jnp.where(slope > 0, slope, 1.0)) * (1.0 + 1e-3)
    y, converged = increasing_root(excess_ts, one, jnp.zeros_like(one), high)
    x = differentiable_root(lambda x: _asimov_ts(own.data, x) - ts, y * unit)
    return jnp.where(has_signal & converged, own.norm(x), jnp.nan)


@jit_by_size
def _sensitivity(data: Blocks, ts: jax.Array) -> jax.Array:
    return over_bins(lambda block: _sensitivity_bin(block, ts))(neutral(data))


def sensitivity(data: Data, *, n_sigma: float = 5) -> jax.Array:
    """Smallest norm that would be detected with the given significance.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``. The observed (ON) counts are not used.
    n_sigma : float
        Significance of the detection, ``sqrt(TS)``.

    Returns
    -------
    norm_sensitivity : array, shape (B, G)
        The norm whose Asimov data set (counts equal to their prediction) has ``TS = n_sigma**2``;
        NaN where there is no exposure. For On-Off data the background is ``alpha n_off`` as
        observed. Where a counts bin of cash data has no background, only the floor of the
        prediction under the null hypothesis (see `jaxprof.core.cash`) makes it finite, and it is a
        number of that floor; `FluxProfileEstimator` gives NaN and warns.

    Raises
    ------
    ValueError
        For a significance that is not positive.

    References
    ----------
    Cowan et al. (2011), Eur. Phys. J. C 71, 1554, for the Asimov data set.
    """
    check_n_sigma("n_sigma", n_sigma)
    prepared = prepare(data)
    return _sensitivity(prepared, jnp.asarray(n_sigma**2, float_dtype(prepared)))
