"""Maximum-likelihood norms of many bins at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprof.compilation import jit_by_size
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import (
    Block,
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
from jaxprof.solvers.solve import differentiable_root, increasing_root, tolerance


def _fittable(data: Blocks, valid: jax.Array) -> Blocks:
    """Replace a problem without a solution by a harmless one: no NaN enters derivatives."""
    replaced = []
    for block in data:
        ones = jnp.ones_like(block.npred_ref)
        filler = {"background": jnp.zeros_like(ones)}
        arrays = {
            name: jnp.where(valid, value, filler.get(name, ones))
            for name, value in vars(block).items()
            if name != "mask"
        }
        replaced.append(type(block)(**arrays, mask=block.mask))
    return tuple(replaced)


def _norm_bracket(data: Blocks, start: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two norms that enclose the largest minimiser, of the domain's start and the counts.

    The minimum of a sum of convex terms lies between the extremes of their own minima, and right of
    the domain's start. For cash alone, with ``N`` counts in counts bins that expect ``S`` at norm
    one, ``sum n s / mu <= N / (x - start)`` bounds it from above by ``start + N / S``; without any
    counts it is the leftmost kink.
    """
    minima = likelihood.bin_minima(data)
    low = jnp.maximum(jnp.nanmin(minima), start)
    high = jnp.nanmax(minima)
    cash_blocks = [block for block in data if isinstance(block, ProfileData)]
    if len(cash_blocks) == len(data):
        with_counts = [jnp.where(b.counts > 0, b.npred_ref, 0.0) for b in cash_blocks]
        signal = jnp.sum(jnp.concatenate(with_counts))
        has_counts = counts > 0
        bound = jnp.where(has_counts, start, 0.0) + counts / jnp.where(has_counts, signal, 1.0)
        high = jnp.where(has_counts, jnp.minimum(high, bound), low)
    return low, jnp.maximum(low, high)


def _minimise(data: Blocks) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Minimiser of a scaled problem, whether it is a kink, the kink's counts bin, and convergence.

    The minimiser carries no derivatives. Where bins with counts end the domain, the unknown is the
    logarithm of the distance from there: counts may be of any size.
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

    def score(v: jax.Array) -> jax.Array:
        # The score has a pole where the domain starts; times the distance from it, it has none.
        x = place(v)
        return likelihood.score(data, x) * jnp.where(ends, x - origin, 1.0)

    def score_and_slope(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(score, (v,), (jnp.ones_like(v),))

    low, high = _norm_bracket(data, start, counts)
    low = jnp.where(ends, origin + nearest, low)
    high = jnp.maximum(low, high)
    guess = sum(jnp.sum(jnp.where(b.npred_ref > 0, _excess(b), 0.0)) for b in data) / signal
    v, converged = increasing_root(score_and_slope, unknown(guess), unknown(low), unknown(high))
    kinks = likelihood.kinks(data)
    positions = unknown(kinks)
    at_bin = jnp.argmin(jnp.abs(positions - v))
    # The score's rounding grows with the counts: in float32 it passes the tolerance at 1e6 of them.
    rounding = 8.0 * jnp.finfo(v.dtype).eps * jnp.where(ends, 1.0, jnp.sqrt(variance))
    width = (4.0 * tolerance(v.dtype) + rounding) * (1.0 + jnp.abs(v))
    near = jnp.abs(positions[at_bin] - v) <= width
    centre = jnp.where(near, positions[at_bin], v)
    # One evaluation on both sides tells whether the score changes its sign here at all.
    sides = jax.vmap(score)(centre + width * jnp.asarray([-1, 1]))
    crosses = (sides[0] <= 0) & (sides[1] >= 0)
    # The kink is known exactly; the iteration only tells which one.
    x = jnp.where(near & crosses, kinks[at_bin], place(v))
    return x, near & crosses, at_bin, converged & crosses


def _excess(block: Block) -> jax.Array:
    if isinstance(block, OnOffData):
        return block.n_on - block.alpha * block.n_off
    return block.counts - block.background


def _fit_bin(data: Blocks, norm_min: jax.Array, norm_max: jax.Array) -> NormFit:
    """Fit one bin and group; arrays over counts bins, scalar results."""
    has_bins = jnp.any(jnp.concatenate([block.mask for block in data]))
    has_signal = jnp.any(jnp.concatenate([block.npred_ref > 0 for block in data]))
    valid = has_bins & has_signal
    safe = _fittable(data, valid)
    own = likelihood.scaled(safe)
    start, is_kink, at_bin, converged = _minimise(jax.tree.map(jax.lax.stop_gradient, own.data))
    # Bounds that are traced are not checked elsewhere.
    converged = converged & (norm_min < norm_max)

    def residual(x: jax.Array) -> jax.Array:
        at_kink = likelihood.kink_residual(own.data, x, at_bin)
        return jnp.where(is_kink, at_kink, likelihood.score(own.data, x))

    x = differentiable_root(residual, start)
    kink = jax.lax.stop_gradient(likelihood.kinks(safe)[at_bin])
    free = jnp.where(is_kink, kink + own.unit * (x - start), own.norm(x))
    norm = jnp.clip(free, norm_min, norm_max)
    bounded = (free < norm_min) | (free > norm_max)
    x = jnp.where(bounded, own.at(norm), x)
    _, counts, _ = likelihood.totals(safe)
    curvature = likelihood.curvature(own.data, x)
    regular = ~is_kink & ~bounded & (curvature > 0)
    status = jnp.where(bounded | is_kink, Status.BOUNDARY, Status.OK)
    status = jnp.where(counts > 0, status, Status.ZERO_COUNTS)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    status = jnp.where(has_signal, status, Status.NO_EXPOSURE)
    status = jnp.where(has_bins, status, Status.FULLY_MASKED)
    found = valid & converged
    zero = jnp.zeros_like(norm)

    def where_found(value: jax.Array) -> jax.Array:
        return jnp.where(found, value, jnp.nan)

    error = own.unit / jnp.sqrt(jnp.where(regular, curvature, 1.0))
    return NormFit(
        norm=where_found(norm),
        norm_err=jnp.where(found & regular, error, jnp.nan),
        stat=where_found(likelihood.stat(own.data, x)),
        stat_null=where_found(likelihood.stat(safe, zero)),
        ts=where_found(likelihood.difference(own.data, own.at(zero), x)),
        status=status.astype(jnp.int32),
    )


@jit_by_size
def _fit(data: Blocks, norm_min: jax.Array, norm_max: jax.Array) -> NormFit:
    return over_bins(lambda block: _fit_bin(block, norm_min, norm_max))(neutral(data))


def fit_norms(
    data: Data, *, norm_min: float | None = None, norm_max: float | None = None
) -> NormFit:
    """Fit the norm of every bin and group.

    Each fit is a convex problem in one variable, solved by a bracketed Newton iteration to
    rounding. All results are differentiable by the arrays of the data, in forward and reverse mode
    and to any order, also at zero counts and at a kink. There the derivative by the counts of the
    counts bin that makes the kink is the right-hand one (counts are not negative). Where another
    counts bin without counts is predicted below zero, as most are without any counts, the norm
    jumps as the first count arrives there; derivatives with respect to that count are zero.
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
    ``norm_err`` is ``1 / sqrt(d2stat/dnorm2 / 2)``, the second derivative by automatic
    differentiation.
    """
    lower = -jnp.inf if norm_min is None else norm_min
    upper = jnp.inf if norm_max is None else norm_max
    if not isinstance(lower, jax.core.Tracer) and not isinstance(upper, jax.core.Tracer):
        if not lower < upper:
            raise ValueError(f"norm_min must be below norm_max, got {norm_min} and {norm_max}")
    prepared = prepare(data)
    dtype = float_dtype(prepared)
    return _fit(prepared, jnp.asarray(lower, dtype), jnp.asarray(upper, dtype))
