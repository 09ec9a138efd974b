"""Asymmetric errors and upper limits from the likelihood itself."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.batches import by_blocks, shared_value
from jaxprof.inference.levels import sigma_of_limits
from jaxprof.inference.plain_numbers import plain_number
from jaxprof.inference.rises import Asked, distances, sided
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import (
    Data,
    NormFit,
    Status,
    float_dtype,
    neutral,
    prepare,
)
from jaxprof.likelihood.scaled import Scaled, from_zero, harmless, scaled
from jaxprof.likelihood.separable import Blocks
from jaxprof.likelihood.sums import computed_once
from jaxprof.solvers.many_roots import FEW, finish_apart
from jaxprof.solvers.solve import implicit_root

REFINEMENTS = 3
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


def _limit_without_counts(data: Blocks, rise: jax.Array) -> jax.Array:
    """Norm at which the statistic of cash data without counts is ``rise``.

    The statistic is ``2 sum max(b + x s, 0)``. For any choice of counts bins, ``2 sum (b + x s)``
    is a line that is nowhere above it, so that its root is never below the limit. The first is that
    of the best single counts bin; each root gives the counts bins of the next, those with a
    positive prediction there, until it goes down no more.
    """
    cash = likelihood.cash_blocks(data)
    signal = jnp.concatenate([block.npred_ref for block in cash])  # (E, N)
    used = signal > 0
    background = jnp.concatenate([block.background for block in cash])

    def root(x: jax.Array) -> jax.Array:
        chosen = used & (background + x * signal > 0)
        slope = jnp.sum(jnp.where(chosen, signal, 0.0), axis=0)
        height = 0.5 * rise - jnp.sum(jnp.where(chosen, background, 0.0), axis=0)
        return jnp.where(slope > 0, height / jnp.where(slope > 0, slope, 1.0), x)

    alone = (0.5 * rise - background) / jnp.where(used, signal, 1.0)
    best = jnp.min(jnp.where(used, alone, jnp.inf), axis=0)

    def descend(xs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x = jnp.minimum(*xs)
        return x, root(x)

    first = best, root(best)
    x, _ = jax.lax.while_loop(lambda xs: jnp.any(xs[1] < xs[0]), descend, first)
    return x


class _Asked(NamedTuple):
    """Rises of the statistic, and bounds of the norm."""

    rise: jax.Array
    rise_ul: jax.Array
    norm_min: jax.Array
    norm_max: jax.Array


def _refined(own: Scaled, fit: NormFit) -> jax.Array:
    """The scaled norm of a fit, with the digits that the norm itself has no room for.

    Next to a large background the norm is a small difference from where the domain starts. Close
    to that, the score times the distance is almost a straight line: some Newton steps find the
    minimum again, and kinks are known.
    """
    at = own.at(fit.norm)
    data, x = jax.tree.map(jax.lax.stop_gradient, (own.data, at))
    rounding = 8 * jnp.finfo(x.dtype).eps * (jnp.abs(x) + jnp.abs(own.origin / own.unit))
    missing = likelihood.to_nearest_kink(data, x)
    missing = jnp.where(jnp.abs(missing) <= rounding, missing, 0.0)
    if not likelihood.cash_blocks(data):
        return at + missing  # the domain has no start
    start = likelihood.domain_start(data)
    nearest = likelihood.pole_counts(data, start) / likelihood.totals(data)[2]
    regular = (fit.status == Status.OK) & jnp.isfinite(start) & (own.counts > 0)

    def refined(_: int, exact: jax.Array) -> jax.Array:
        value, second = likelihood.score_and_curvature(data, exact)
        # Of the score times the distance from the start.
        slope = second * (exact - start) + value
        new = exact - value * (exact - start) / jnp.where(slope > 0, slope, 1.0)
        return jnp.maximum(jnp.where(slope > 0, new, exact), start + nearest)

    exact = jax.lax.fori_loop(0, REFINEMENTS, refined, jnp.where(regular, x, 1.0))
    return at + jnp.where(regular, exact - x, missing)


def _excess(x: jax.Array, data: Blocks, best: jax.Array, rise: jax.Array) -> jax.Array:
    """What vanishes at limits."""
    return likelihood.difference(data, x, best) - rise


def _limits_bins(data: Blocks, fit: NormFit, asked: _Asked) -> Limits:
    """Limits of bins side by side, arrays (E, N) and (N,)."""
    data = neutral(data)
    # Padded bins have no signal, and a status that says nothing.
    fitted = (fit.status <= Status.BOUNDARY) & likelihood.contents(data)[1]
    fitted &= asked.norm_min < asked.norm_max
    safe = harmless(data, fitted)
    # The minimum of what stands in where there is no fit.
    norm = jnp.where(fitted, fit.norm, 0.0)
    own = scaled(computed_once(safe))
    at = _refined(own, dataclasses.replace(fit, norm=norm))
    sides = jnp.asarray([[-1.0], [1.0], [1.0]], norm.dtype)
    rises = jnp.stack([asked.rise, asked.rise, asked.rise_ul])[:, jnp.newaxis]
    fixed, fixed_at = jax.tree.map(jax.lax.stop_gradient, (own.data, at))
    flat: jax.Array | None = None
    if likelihood.is_cash(data):
        first = jnp.min(likelihood.kinks(fixed), axis=0)
        flat = (fit.status == Status.ZERO_COUNTS) & (fixed_at <= first)
    far = distances(fixed, fixed_at, Asked(sides, rises), flat)
    if flat is not None:
        far = jnp.where(flat, 1.0, far)  # not used, and no NaN in derivatives
    roots = fixed_at + sides * far

    by_side = sided(own.data)
    if flat is not None:
        # Without counts the norm is that of the counts bin with the most background for its signal.
        # It may be so far below the limit that the distance has too few digits left. The limit
        # itself, counted from zero, may be much closer to that than to the norm: this is a fourth
        # one.
        plain = from_zero(safe, own.unit)
        alone = _limits_without_counts(flat, jax.lax.stop_gradient((own.data, plain)), rises)
        roots = jnp.where(flat & (sides > 0), alone[:3], roots)
        counted = implicit_root(_excess, alone[3], plain, norm / own.unit, rises[2])
        low, high, upper = implicit_root(_excess, roots, by_side, at, rises)
        norm_ul = jnp.where(flat, own.unit * counted, own.norm(upper))
    else:
        low, high, upper = implicit_root(_excess, roots, by_side, at, rises)
        norm_ul = own.norm(upper)
    # Left of its largest minimiser a bounded norm is not allowed, and cash without counts is flat.
    falls = likelihood.score(fixed, fixed_at - 1e-3 * far[1]) < 0
    below, above = own.norm(low) < asked.norm_min, own.norm(high) > asked.norm_max
    # At an upper bound of the norm the statistic still falls.
    capped = (fit.status == Status.BOUNDARY) & (norm >= asked.norm_max)
    capped &= likelihood.score(fixed, fixed_at) < 0
    norm_ul = jnp.where(capped, norm, jnp.minimum(norm_ul, asked.norm_max))
    return Limits(
        norm_errn=jnp.where(fitted & falls & ~below, own.unit * (at - low), jnp.nan),
        norm_errp=jnp.where(fitted & ~capped & ~above, own.unit * (high - at), jnp.nan),
        norm_ul=jnp.where(fitted, norm_ul, jnp.nan),
    )


def _limits_without_counts(
    flat: jax.Array, problems: tuple[Blocks, Blocks], rises: jax.Array
) -> jax.Array:
    """What `_limit_without_counts` gives of two problems where they are flat, (4, N)."""
    four = jnp.concatenate([rises, rises[2:]])

    def solve(chosen: tuple[Blocks, Blocks]) -> jax.Array:
        stacked = jax.tree.map(lambda a, b: jnp.stack([a, a, a, b], axis=1), *chosen)
        return _limit_without_counts(stacked, four)

    n = len(flat)
    if n <= FEW:
        return solve(problems)
    return finish_apart(flat, solve, problems, jnp.ones((4, n), rises.dtype))


_limits = by_blocks(_limits_bins)


def check_n_sigma(name: str, value: float) -> None:
    """Refuse a number of standard deviations that is none."""
    if isinstance(value, jax.core.Tracer):
        return
    # Computed with as it is given: a percentage would be another number.
    if not 0 < plain_number(value) < math.inf or getattr(value, "unit", "") != "":
        raise ValueError(f"{name} must be positive, and a plain number, got {value!r}")


def limits(
    data: Data,
    fit: NormFit,
    *,
    n_sigma: float = 1,
    n_sigma_ul: float = 2,
    cl: float | None = None,
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
    cl : float, optional
        The same as a probability, such as 0.95, in its place.
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

    Limits have derivatives as the fit has, but for the first ON or OFF count of On-Off data where
    the rate that belongs to it vanishes at the norm or at the limit: the statistic changes as
    n ln n there, and what is given is without that. So it is for ``ts``, scans and sensitivities.

    A norm that may be negative may have an upper limit below zero, where counts fluctuate far below
    their background: it is the edge of the interval above, and no limit on a flux that cannot be
    negative. Fits and limits with ``norm_min=0`` give that.
    """
    check_n_sigma("n_sigma", n_sigma)
    if cl is not None:
        n_sigma_ul = sigma_of_limits(None if n_sigma_ul == 2 else n_sigma_ul, cl)
    check_n_sigma("n_sigma_ul", n_sigma_ul)
    prepared = prepare(data)
    dtype = float_dtype(prepared)
    low = -jnp.inf if norm_min is None else norm_min
    high = jnp.inf if norm_max is None else norm_max
    asked = _Asked(*(shared_value(v, dtype) for v in (n_sigma**2, n_sigma_ul**2, low, high)))
    # Only these are used of the fit: another dtype, or None, may be in the others.
    own = NormFit(
        norm=fit.norm if fit.norm.dtype == dtype else jnp.asarray(fit.norm, dtype),
        status=fit.status,
        **dict.fromkeys(("norm_err", "stat", "stat_null", "ts")),
    )
    return _limits(prepared, own, asked)
