"""Asymmetric errors and upper limits from the likelihood itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.inference.batches import by_blocks, shared_value
from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.data import (
    Data,
    NormFit,
    ProfileData,
    Status,
    float_dtype,
    neutral,
    prepare,
)
from jaxprof.likelihood.separable import Blocks
from jaxprof.likelihood.sums import computed_once
from jaxprof.solvers.many_roots import FEW, finish_apart, increasing_roots
from jaxprof.solvers.solve import differentiable_root

STEPS = 2
"""Halley steps of all limits; few need more."""
ROUNDING = 1e-9
"""Part of the usual curvature that is none."""
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


class _Search(NamedTuple):
    """Where to look for the distances from minima to where the statistic has risen.

    Where the domain goes on, the rise is convex in the distance. Where it ends (cash, downwards, at
    a distance ``width``), the statistic has a logarithmic pole; in
    ``y = -width ln(1 - distance / width)`` it has none. ``y`` is counted in ``unit``.
    """

    data: Blocks
    norm: jax.Array
    side: jax.Array
    rise: jax.Array
    unit: jax.Array
    ends: jax.Array
    width: jax.Array

    def distance(self, y: jax.Array) -> jax.Array:
        """Distance from the minimum."""
        to_pole = -self.width * jnp.expm1(-self.unit * y / self.width)
        return jnp.where(self.ends, to_pole, self.unit * y)

    def _at(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Norm, and the derivative of the distance."""
        far = self.distance(y)
        stretch = jnp.where(self.ends, 1.0 - far / self.width, 1.0) * self.unit
        # Not once more for each counts bin.
        return computed_once(self.norm + self.side * far), stretch

    def risen(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rise of the statistic and its slope."""
        x, stretch = self._at(y)
        rise, score = likelihood.difference_and_score(self.data, x, self.norm)
        return rise, 2.0 * self.side * stretch * score

    def risen_with_curvature(self, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rise of the statistic, its slope, and its second derivative."""
        x, stretch = self._at(y)
        rise, score, bend = likelihood.difference_score_curvature(self.data, x, self.norm)
        shrinks = jnp.where(self.ends, self.unit / self.width, 0.0)
        slope = 2.0 * self.side * stretch * score
        return rise, slope, 2.0 * stretch**2 * bend - shrinks * slope


def _sided(data: Blocks) -> Blocks:
    """Data with an axis for the sides, (E, 1, N)."""
    return jax.tree.map(lambda a: a[:, jnp.newaxis], data)


def _search(data: Blocks, norm: jax.Array, side: jax.Array, rise: jax.Array) -> _Search:
    """Search down (side -1) or up (+1); arrays (E, N), (N,), (3, 1) and (3, 1)."""
    data = _sided(data)
    variance, counts, signal = likelihood.totals(data)
    rounding = max(ROUNDING, 64 * float(jnp.finfo(norm.dtype).eps))
    curvature = likelihood.curvature(data, norm)
    # At a regular minimum it is signal**2 / counts or more, by Cauchy and Schwarz; at a kink it may
    # be nothing but rounding.
    has_curvature = curvature > rounding * signal**2 / (variance + counts + 1.0)
    unit = jnp.where(
        has_curvature, jnp.sqrt(rise / jnp.where(has_curvature, curvature, 1.0)), rise / signal
    )
    start = likelihood.domain_start(data)
    ends = (side < 0) & jnp.isfinite(start)
    width = jnp.where(ends, norm - start, unit)
    return computed_once(_Search(data, norm, side, rise, unit, ends, width))


def _distances(search: _Search) -> jax.Array:
    """Distances from minima to where the statistic has risen, of problems that may be hard.

    Without a pole a Newton step from any point lands at or beyond the root and closes the bracket.
    With ``n`` counts in the counts bins that make a pole the rise is at least
    ``2 n (y / width - 1)``.
    """

    def function(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        rise, slope = search.risen(y)
        return rise - search.rise, slope

    one = jnp.ones_like(search.unit)
    value, slope = function(one)
    beyond = jnp.maximum(one, one - value / jnp.where(slope > 0, slope, 1.0)) * (1.0 + 1e-3)
    counts = likelihood.pole_counts(search.data, likelihood.domain_start(search.data))
    pole = (search.rise / (2.0 * counts) + 1.0) * search.width / search.unit
    high = jnp.where(search.ends, pole, beyond)
    y, converged = increasing_roots(function, one, jnp.zeros_like(high), high)
    return jnp.where(converged, search.distance(y), jnp.nan)


def _all_distances(
    search: _Search, data: Blocks, norm: jax.Array, unused: jax.Array | None
) -> jax.Array:
    """The same, (3, N), of problems of which most are not hard, or not used."""
    if len(norm) <= FEW:
        return _distances(search)
    distances, enough = _distances_between_kinks(search)

    def apart(problem: tuple[Blocks, jax.Array]) -> jax.Array:
        return _distances(_search(*problem, search.side, search.rise))

    hard = ~jnp.all(enough, axis=0)
    hard = hard if unused is None else hard & ~unused
    return finish_apart(hard, apart, (data, norm), distances)


def _distances_between_kinks(search: _Search) -> tuple[jax.Array, jax.Array]:
    """The same by Halley steps on the root of the rise, and whether that was enough.

    The root is almost a straight line. The start is right to the fourth order of the statistic.
    """
    along = (search.norm,), (jnp.ones_like(search.norm),)

    def changing(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(lambda x: likelihood.curvature(search.data, x), (x,), along[1])

    (curvature, change), (_, kurtosis) = jax.jvp(changing, *along)
    scale = search.unit / jnp.where(curvature > 0, curvature, 1.0)
    a, b = search.side * change * scale / 3.0, kurtosis * scale * search.unit / 12.0
    start = jnp.clip(1.0 - 0.5 * a + 0.625 * a**2 - 0.5 * b, 0.3, 3.0)
    to_pole = jnp.minimum(start * search.unit / search.width, 0.9)
    y = jnp.where(search.ends, -search.width / search.unit * jnp.log1p(-to_pole), start)
    root = jnp.sqrt(search.rise)
    step = jnp.full_like(y, jnp.inf)
    for _ in range(STEPS):
        rise, slope, bend = search.risen_with_curvature(y)
        safe = (rise > 0) & (slope > 0)
        risen = jnp.sqrt(jnp.where(safe, rise, 1.0))
        newton = 2.0 * risen * (risen - root) / jnp.where(safe, slope, 1.0)
        # The second derivative of the root over its first.
        relative = bend / jnp.where(safe, slope, 1.0) - 0.5 * slope / risen**2
        change = newton / jnp.maximum(1.0 - 0.5 * newton * relative, 0.5)
        new = jnp.clip(y - jnp.where(safe, change, jnp.nan), y / 4.0, 4.0 * y)
        y, step = computed_once((new, jnp.abs(new - y)))
    # The next step would be about the cube of this one.
    small = step <= float(jnp.finfo(y.dtype).eps) ** (1 / 3) * y
    return search.distance(y), (curvature > 0) & small


def _limit_without_counts(data: Blocks, rise: jax.Array) -> jax.Array:
    """Norm at which the statistic of cash data without counts is ``rise``.

    The statistic is ``2 sum max(b + x s, 0)``. For any choice of counts bins, ``2 sum (b + x s)``
    is a line that is nowhere above it, so that its root is never below the limit. The first is that
    of the best single counts bin; each root gives the counts bins of the next, those with a
    positive prediction there, until it goes down no more.
    """
    cash = [block for block in data if isinstance(block, ProfileData)]
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


def _refined(own: likelihood.Scaled, fit: NormFit) -> jax.Array:
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
    if not any(isinstance(block, ProfileData) for block in data):
        return at + missing  # the domain has no start
    start = likelihood.domain_start(data)
    nearest = likelihood.pole_counts(data, start) / likelihood.totals(data)[2]
    regular = (fit.status == Status.OK) & jnp.isfinite(start) & (own.counts > 0)
    exact = jnp.where(regular, x, 1.0)
    for _ in range(REFINEMENTS):
        value, bend = likelihood.score_and_curvature(data, exact)
        # Of the score times the distance from the start.
        slope = bend * (exact - start) + value
        new = exact - value * (exact - start) / jnp.where(slope > 0, slope, 1.0)
        exact = computed_once(jnp.maximum(jnp.where(slope > 0, new, exact), start + nearest))
    return at + jnp.where(regular, exact - x, missing)


def _limits_bins(data: Blocks, fit: NormFit, asked: _Asked) -> Limits:
    """Limits of bins side by side, arrays (E, N) and (N,)."""
    fitted = (fit.status <= Status.BOUNDARY) & (asked.norm_min < asked.norm_max)
    data = neutral(data)
    safe = jax.tree.map(lambda a: a if a.dtype == bool else jnp.where(fitted, a, 1.0), data)
    norm = jnp.where(fitted, fit.norm, 1.0)
    own = likelihood.scaled(computed_once(safe))
    at = _refined(own, dataclasses.replace(fit, norm=norm))
    sides = jnp.asarray([[-1.0], [1.0], [1.0]], norm.dtype)
    rises = jnp.stack([asked.rise, asked.rise, asked.rise_ul])[:, jnp.newaxis]
    fixed, fixed_at = jax.tree.map(jax.lax.stop_gradient, (own.data, at))
    search = _search(fixed, fixed_at, sides, rises)
    flat: jax.Array | None = None
    if likelihood.is_cash(data):
        first = jnp.min(likelihood.kinks(fixed), axis=0)
        flat = (fit.status == Status.ZERO_COUNTS) & (fixed_at <= first)
    distances = _all_distances(search, fixed, fixed_at, flat)
    if flat is not None:
        distances = jnp.where(flat, search.unit, distances)  # not used, and no NaN in derivatives
    roots = fixed_at + sides * distances

    def limit(of: Blocks, best: jax.Array, rise: jax.Array, root: jax.Array) -> jax.Array:
        return differentiable_root(lambda x: likelihood.difference(of, x, best) - rise, root)

    sided = _sided(own.data)
    if flat is not None:
        # Without counts the norm is that of the counts bin with the most background for its signal.
        # It may be so far below the limit that the distance has too few digits left. The limit
        # itself, counted from zero, may be much closer to that than to the norm: this is a fourth
        # one.
        plain = likelihood.from_zero(safe, own.unit)
        alone = _limits_without_counts(flat, jax.lax.stop_gradient((own.data, plain)), rises)
        roots = jnp.where(flat & (sides > 0), alone[:3], roots)
        counted = limit(plain, norm / own.unit, rises[2], alone[3])
        low, high, upper = limit(sided, at, rises, roots)
        norm_ul = jnp.where(flat, own.unit * counted, own.norm(upper))
    else:
        low, high, upper = limit(sided, at, rises, roots)
        norm_ul = own.norm(upper)
    # Left of its largest minimiser a bounded norm is not allowed, and cash without counts is flat.
    falls = likelihood.score(fixed, fixed_at - 1e-3 * distances[1]) < 0
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

    Limits have derivatives as the fit has, but for the first ON or OFF count of On-Off data where
    the rate that belongs to it vanishes at the norm or at the limit: the statistic changes as
    n ln n there, and what is given is without that. So it is for ``ts``, scans and sensitivities.

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
    asked = _Asked(*(shared_value(v, dtype) for v in (n_sigma**2, n_sigma_ul**2, low, high)))
    # Only these are used of the fit: another dtype, or None, may be in the others.
    own = NormFit(
        norm=fit.norm if fit.norm.dtype == dtype else jnp.asarray(fit.norm, dtype),
        status=fit.status,
        **dict.fromkeys(("norm_err", "stat", "stat_null", "ts")),
    )
    return _limits(prepared, own, asked)
