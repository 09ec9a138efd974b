"""Maximum-likelihood norms of many bins at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.batches import by_blocks, shared_value
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.cash_norms import cash_range, cash_score_parts, near_kink
from jaxprof.likelihood.data import (
    Data,
    NormFit,
    Status,
    float_dtype,
    neutral,
    prepare,
)
from jaxprof.likelihood.scaled import harmless, scaled
from jaxprof.likelihood.separable import Blocks, is_cash
from jaxprof.likelihood.sums import computed_once
from jaxprof.solvers.many_roots import FEW, finish_apart, increasing_roots
from jaxprof.solvers.solve import implicit_root, tolerance

STEPS = 5
"""Newton steps of all bins; few need more."""


class _Minimum(NamedTuple):
    """Minimisers of scaled problems; they carry no derivatives."""

    x: jax.Array
    is_kink: jax.Array
    at_bin: jax.Array
    """Counts bin that makes the kink."""
    converged: jax.Array


def _norm_bracket(data: Blocks, start: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two norms that enclose the largest minimiser, of the domain's start and the counts.

    The minimum of a sum of convex terms lies between the extremes of their own minima, and right of
    the domain's start. For cash alone, with ``N`` counts in counts bins that expect ``S`` at norm
    one, ``sum n s / mu <= N / (x - start)`` bounds it from above by ``start + N / S``; without any
    counts it is the leftmost kink.
    """
    minima = likelihood.bin_minima(data)
    low = jnp.maximum(jnp.nanmin(minima, axis=0), start)
    high = jnp.nanmax(minima, axis=0)
    if is_cash(data):
        has_counts = counts > 0
        signal = likelihood.counted_signal(data)
        bound = jnp.where(has_counts, start, 0.0) + counts / jnp.where(has_counts, signal, 1.0)
        high = jnp.where(has_counts, jnp.minimum(high, bound), low)
    return low, jnp.maximum(low, high)


def _minimise_carefully(data: Blocks) -> _Minimum:
    """Minimisers of problems that may be hard.

    Where bins with counts end the domain, the unknown is the logarithm of the distance from there:
    counts may be of any size.
    """
    variance, counts, signal = likelihood.totals(data)
    start = likelihood.domain_start(data)
    ends = jnp.isfinite(start)
    origin = jnp.where(ends, start, 0.0)
    # No score of other counts bins is above their signal.
    nearest = likelihood.pole_counts(data, start) / signal

    def place(v: jax.Array) -> jax.Array:
        return jnp.where(ends, origin + jnp.exp(jnp.where(ends, v, 0.0)), v)

    def unknown(x: jax.Array) -> jax.Array:
        inside = ~ends | (x > origin)
        distance = jnp.where(ends & inside, x - origin, 1.0)
        return jnp.where(inside, jnp.where(ends, jnp.log(distance), x), -jnp.inf)

    def score_and_slope(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The score has a pole where the domain starts; times the distance from it, it has none.
        x = place(v)
        stretch = jnp.where(ends, x - origin, 1.0)
        value, slope = likelihood.score_and_curvature(data, x)
        return value * stretch, stretch * (slope * stretch + jnp.where(ends, value, 0.0))

    low, high = _norm_bracket(data, start, counts)
    low = jnp.where(ends, origin + nearest, low)
    high = jnp.maximum(low, high)
    guess = jnp.clip(likelihood.total_excess(data) / signal, low, high)
    v, converged = increasing_roots(score_and_slope, unknown(guess), unknown(low), unknown(high))
    kinks = likelihood.kinks(data)
    positions = unknown(kinks)
    at_bin = jnp.argmin(jnp.abs(positions - v), axis=0)
    chosen = likelihood.at_index(kinks, at_bin)
    position = jnp.sum(jnp.where(chosen, positions, 0.0), axis=0)
    # The score's rounding grows with the counts: in float32 it passes the tolerance at 1e6 of them.
    rounding = 8.0 * jnp.finfo(v.dtype).eps * jnp.where(ends, 1.0, jnp.sqrt(variance))
    width = (4.0 * tolerance(v.dtype) + rounding) * (1.0 + jnp.abs(v))
    near = jnp.abs(position - v) <= width
    centre = jnp.where(near, position, v)
    # One evaluation on both sides tells whether the score changes its sign here at all.
    below, above = (likelihood.score(data, place(v)) for v in (centre - width, centre + width))
    crosses = (below <= 0) & (above >= 0)
    # The kink is known exactly; the iteration only tells which one.
    kink = jnp.sum(jnp.where(chosen, kinks, 0.0), axis=0)
    x = jnp.where(near & crosses, kink, place(v))
    return _Minimum(x, near & crosses, at_bin, converged & crosses)


def _minimise(data: Blocks) -> _Minimum:
    """Minimisers of scaled problems.

    Cash data with counts have their pole at zero there. Between kinks they are solved by Newton
    steps on ``1 / sum(n s / mu) - 1 / sum(s)``, which is concave: from the left the steps are
    monotonic, and where all predictions vanish together one is exact. Without counts the minimum is
    the first kink. What has not converged then, or may be at a kink, is looked at carefully.
    """
    if not is_cash(data) or data[0].npred_ref.shape[-1] <= FEW:
        return _minimise_carefully(data)
    kinks = likelihood.kinks(data)
    at_bin = jnp.argmin(kinks, axis=0)
    first = jnp.min(kinks, axis=0)
    start, high, counts = cash_range(data)
    x, regular = newton_cash(data, jnp.clip(start, 1e-3 * high, high), high, STEPS)
    empty = counts == 0
    converged = jnp.where(empty, jnp.isfinite(first), regular)
    found = _Minimum(jnp.where(empty, first, x), empty, at_bin, converged)
    return finish_apart(~empty & ~regular, _minimise_carefully, data, found)


def newton_cash(
    data: Blocks, x: jax.Array, high: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Newton steps towards minima between kinks, see `_minimise`, from ``x``.

    Returns
    -------
    x : array, shape (N,)
        Where they end.
    converged : array of bool, shape (N,)
        Whether that is the minimum, as far as it can be told: away from kinks.
    """
    step = jnp.full_like(x, jnp.inf)
    for _ in range(steps):
        falls, slope, rises = cash_score_parts(data, x)
        safe = (slope > 0) & (rises > 0)
        change = falls * (falls - rises) / jnp.where(safe, rises * slope, 1.0)
        new = jnp.clip(x + jnp.where(safe, change, jnp.nan), x / 16.0, high)
        x, step = computed_once((new, jnp.abs(new - x)))
    # The next step would be about the square of this one, in units of the distance from the pole;
    # an error is that distance over the root of the counts.
    eps = float(jnp.finfo(x.dtype).eps)
    close = step * jnp.sqrt(1.0 + falls * x) <= eps**0.5 * x + 8.0 * eps * x * jnp.sqrt(falls * x)
    return x, close & ~near_kink(data, x, 1e3 * eps**0.5 * x)


def _residual(x: jax.Array, data: Blocks, best: _Minimum) -> jax.Array:
    """What vanishes at minima, (N,)."""
    at_kink = likelihood.kink_residual(data, x, best.at_bin)
    return jnp.where(best.is_kink, at_kink, likelihood.score(data, x))


def _fit_bins(data: Blocks, _: None, bounds: tuple[jax.Array, jax.Array]) -> NormFit:
    """Fit bins side by side; arrays over counts bins and these, results over these."""
    norm_min, norm_max = bounds
    data = computed_once(neutral(data))
    has_bins, has_signal = likelihood.contents(data)
    valid = has_bins & has_signal
    safe = computed_once(harmless(data, valid))
    own = scaled(safe)
    best = _minimise(jax.tree.map(jax.lax.stop_gradient, own.data))
    # Bounds that are traced are not checked elsewhere.
    converged = best.converged & (norm_min < norm_max)
    x = implicit_root(_residual, best.x, own.data, best)
    kinks = jax.lax.stop_gradient(likelihood.kinks(safe))
    kink = jnp.sum(jnp.where(likelihood.at_index(kinks, best.at_bin), kinks, 0.0), axis=0)
    free = jnp.where(best.is_kink, kink + own.unit * (x - best.x), own.norm(x))
    norm = jnp.clip(free, norm_min, norm_max)
    bounded = (free < norm_min) | (free > norm_max)
    x = jnp.where(bounded, own.at(norm), x)
    zero = jnp.zeros_like(norm)
    curvature, stat, stat_null, ts = likelihood.summary(own.data, x, safe, own.at(zero))
    regular = ~best.is_kink & ~bounded & (curvature > 0)
    status = jnp.where(bounded | best.is_kink, Status.BOUNDARY, Status.OK)
    status = jnp.where(own.counts > 0, status, Status.ZERO_COUNTS)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    status = jnp.where(has_signal, status, Status.NO_EXPOSURE)
    status = jnp.where(has_bins, status, Status.FULLY_MASKED)
    found = valid & converged

    def where_found(value: jax.Array) -> jax.Array:
        return jnp.where(found, value, jnp.nan)

    error = own.unit / jnp.sqrt(jnp.where(regular, curvature, 1.0))
    return NormFit(
        norm=where_found(norm),
        norm_err=jnp.where(found & regular, error, jnp.nan),
        stat=where_found(stat),
        stat_null=where_found(stat_null),
        ts=where_found(ts),
        status=status.astype(jnp.int32),
    )


_fit = by_blocks(_fit_bins)


def fit_norms(
    data: Data, *, norm_min: float | None = None, norm_max: float | None = None
) -> NormFit:
    """Fit the norm of every bin and group.

    Each fit is a convex problem in one variable, solved by a bracketed Newton iteration to
    rounding. All results are differentiable with respect to the arrays of the data, in forward and
    reverse mode and to any order, also at zero counts and at a kink. There the one with respect to
    the counts of the counts bin that makes the kink is the right-hand one (counts are not
    negative). Where another counts bin without counts is predicted below zero, as most are without
    any counts, the norm jumps as the first count arrives there; derivatives with respect to that
    count are zero.
    Where several counts bins have their kink at the minimum (without counts, with equal backgrounds
    per expected signal) there is no derivative with respect to one of them alone: those of the
    first are given, and zero of the others, which is right for changes that keep kinks together.
    Where a result is NaN, its derivatives are zero: sums over the others can be differentiated.

    Parameters
    ----------
    data : ProfileData, OnOffData, or a tuple of these
        The data, arrays of shape ``(B, G, E)``; a tuple is fitted jointly with shared norms.
    norm_min, norm_max : float, optional
        Bounds of the norm. By default it is free and may be negative.

    Returns
    -------
    fit : NormFit
        ``norm``, ``norm_err`` (one standard deviation), ``stat``, ``stat_null``, ``ts`` and
        ``status``, each of shape ``(B, G)``, in the dtype of the data.

    Raises
    ------
    ValueError
        For arrays of different shapes, NaN or negative values in unmasked counts bins, or bounds
        that are not increasing. Inside of jit values are not known yet: results are NaN then, with
        the status "not converged".

    Notes
    -----
    The statistic is `cash` or `wstat`; see `jaxprof.likelihood.statistics` for the formulas.
    ``norm_err`` is ``1 / sqrt(d2stat/dnorm2 / 2)``.
    """
    lower = -jnp.inf if norm_min is None else norm_min
    upper = jnp.inf if norm_max is None else norm_max
    if not isinstance(lower, jax.core.Tracer) and not isinstance(upper, jax.core.Tracer):
        if not lower < upper:
            raise ValueError(f"norm_min must be below norm_max, got {norm_min} and {norm_max}")
    prepared = prepare(data)
    dtype = float_dtype(prepared)
    return _fit(prepared, None, (shared_value(lower, dtype), shared_value(upper, dtype)))
