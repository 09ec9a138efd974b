"""Asymmetric errors, upper limits and sensitivities from the likelihood itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from . import likelihood
from .compilation import jit_by_size
from .data import (
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
from .likelihood import Blocks
from .solve import differentiable_root, increasing_root


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Confidence limits; every array has shape ``(B, G)``.

    Attributes
    ----------
    norm_errn, norm_errp : array
        Distances from the norm down and up to where the statistic has risen by ``n_sigma**2``.
        ``norm_errn`` is NaN where it never does: cash data without counts, or a norm on its lower
        bound.
    norm_ul : array
        The upper norm at which the statistic has risen by ``n_sigma_ul**2``; finite wherever there
        is exposure.
    """

    norm_errn: Any
    norm_errp: Any
    norm_ul: Any


def _distance(data: Blocks, norm: jax.Array, side: jax.Array, rise: jax.Array) -> jax.Array:
    """Distance from the minimum, down (side -1) or up (+1), to where the statistic has risen.

    Where the domain goes on, the rise is convex in the distance: a Newton step from any point lands
    at or beyond the root and closes the bracket. Where it ends (cash, downwards, at a distance
    ``w``), the statistic has a logarithmic pole; in ``u = -w ln(1 - distance / w)`` it has none.
    With ``n`` counts in the slots that make the pole the rise is at least ``2 n (u / w - 1)``.
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
    pole = (rise / (2.0 * likelihood.pole_counts(data)) + 1.0) * width / unit
    high = jnp.where(ends, pole, beyond)
    y, converged = increasing_root(rise_and_slope, one, jnp.zeros_like(norm), high)
    return jnp.where(converged, distance(y), jnp.nan)


def _limit_without_counts(data: list[ProfileData], rise: jax.Array) -> jax.Array:
    """Norm at which the statistic of cash data without counts is ``rise``.

    The statistic is ``2 sum max(b + x s, 0)``. For any choice of slots, ``2 sum (b + x s)`` is a
    line that is nowhere above it, so that its root is never below the limit. The first is that of
    the best single slot; each root gives the slots of the next, those with a positive prediction
    there, until it goes down no more.
    """
    signal = jnp.concatenate([block.npred_ref for block in data])
    used = signal > 0
    background = jnp.concatenate([block.background for block in data])

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


def _limits_bin(
    data: Blocks, norm: jax.Array, status: jax.Array, rise: jax.Array, rise_ul: jax.Array
) -> Limits:
    fitted = status <= Status.BOUNDARY
    safe = jax.tree.map(lambda a: a if a.dtype == bool else jnp.where(fitted, a, 1.0), data)
    at = jnp.where(fitted, norm, 1.0)
    sides = jnp.asarray([-1.0, 1.0, 1.0], norm.dtype)
    rises = jnp.stack([rise, rise, rise_ul])
    fixed, fixed_at = jax.tree.map(jax.lax.stop_gradient, (safe, at))
    distances = jax.vmap(lambda side, r: _distance(fixed, fixed_at, side, r))(sides, rises)
    roots = fixed_at + sides * distances
    cash_blocks = [block for block in fixed if isinstance(block, ProfileData)]
    if len(cash_blocks) == len(data):
        # Without counts the norm is that of the slot with the most background for its signal. It
        # may be so far below the limit that the distance has too few digits left.
        flat = (status == Status.ZERO_COUNTS) & (fixed_at <= jnp.min(likelihood.kinks(fixed)))
        upper_roots = jax.vmap(lambda r: _limit_without_counts(cash_blocks, r))(rises)
        roots = jnp.where(flat & (sides > 0), upper_roots, roots)

    def limit(r: jax.Array, root: jax.Array) -> jax.Array:
        def residual(x: jax.Array) -> jax.Array:
            return likelihood.difference(safe, x, at) - r

        return differentiable_root(residual, root)

    low, high, upper = jax.vmap(limit)(rises, roots)
    # Left of its largest minimiser a bounded norm is not allowed, and cash without counts is flat.
    falls = likelihood.score(fixed, fixed_at - 1e-3 * distances[1]) < 0
    # At an upper bound of the norm the statistic still falls: the bound is the limit.
    capped = (status == Status.BOUNDARY) & (likelihood.score(fixed, fixed_at) < 0)
    return Limits(
        norm_errn=jnp.where(fitted & falls, at - low, jnp.nan),
        norm_errp=jnp.where(fitted & ~capped, high - at, jnp.nan),
        norm_ul=jnp.where(fitted, jnp.where(capped, at, upper), jnp.nan),
    )


@jit_by_size
def _limits(
    data: Blocks, norm: jax.Array, status: jax.Array, rise: jax.Array, rise_ul: jax.Array
) -> Limits:
    def limits_bin(block: Blocks, at: jax.Array, outcome: jax.Array) -> Limits:
        return _limits_bin(block, at, outcome, rise, rise_ul)

    return over_bins(limits_bin)(neutral(data), norm, status)


def _check_n_sigma(name: str, value: float) -> None:
    if not isinstance(value, jax.core.Tracer) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def limits(data: Data, fit: NormFit, *, n_sigma: float = 1, n_sigma_ul: float = 2) -> Limits:
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
    """
    _check_n_sigma("n_sigma", n_sigma)
    _check_n_sigma("n_sigma_ul", n_sigma_ul)
    prepared = prepare(data)
    dtype = float_dtype(prepared)
    rise, rise_ul = (jnp.asarray(n**2, dtype) for n in (n_sigma, n_sigma_ul))
    return _limits(prepared, jnp.asarray(fit.norm, dtype), fit.status, rise, rise_ul)


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
    fixed = jax.tree.map(jax.lax.stop_gradient, safe)
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
    norm = differentiable_root(lambda x: _asimov_ts(safe, x) - ts, y * unit)
    return jnp.where(has_signal & converged, norm, jnp.nan)


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
        NaN where there is no exposure. For On-Off data the background
        is ``alpha n_off`` as observed. Without any background only the floor of the
        prediction under the null hypothesis (see `jaxprof.core.cash`) makes it finite.

    Raises
    ------
    ValueError
        For a significance that is not positive.

    References
    ----------
    Cowan et al. (2011), Eur. Phys. J. C 71, 1554, for the Asimov data set.
    """
    _check_n_sigma("n_sigma", n_sigma)
    prepared = prepare(data)
    return _sensitivity(prepared, jnp.asarray(n_sigma**2, float_dtype(prepared)))
