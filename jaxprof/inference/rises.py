"""How far from the minimum the statistic of separate fits has risen by so much, on either side.

Most of the roots are found side by side in a few evaluations, the others with brackets, apart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood import separable as likelihood
from jaxprof.likelihood.cash_norms import cash_cumulants, cash_series
from jaxprof.likelihood.separable import Blocks
from jaxprof.likelihood.sums import computed_once
from jaxprof.solvers.many_roots import FEW, finish_apart, increasing_roots

HALLEY_STEPS = 2
"""Halley steps of all roots of On-Off data; few need more."""
SERIES_ORDER = 8
"""Order of the power series by which cash data find their roots: higher ones take no less time."""
SERIES_POINTS = 4
"""Points around which that series is taken; few need more than one."""
SERIES_STEPS = 4
"""Newton steps on that series; they cost little, as it has no counts bins."""
ROUNDING = 1e-9
"""Part of the usual curvature that is none."""
APART = 32
"""Hard ones that are finished together."""


class Asked(NamedTuple):
    """Sides of the minimum (-1 or 1) and rises of the statistic, (R, 1)."""

    side: jax.Array
    rise: jax.Array


def distances(
    data: Blocks, norm: jax.Array, asked: Asked, unused: jax.Array | None = None
) -> jax.Array:
    """Distances from minima to where the statistic has risen.

    Parameters
    ----------
    data : tuple of blocks
        Scaled problems, arrays (E, N).
    norm : array, shape (N,)
        Their minima.
    asked : Asked
        Which R points.
    unused : array of bool, shape (N,), optional
        Problems whose results do not matter.

    Returns
    -------
    distances : array, shape (R, N)
        Positive on either side, NaN where they were not found; they carry no derivatives.
    """

    def carefully(problem: tuple[Blocks, jax.Array]) -> jax.Array:
        return _bracketed(_search(*problem, asked))

    if len(norm) <= FEW:
        return carefully((data, norm))
    unused = jnp.zeros(norm.shape, bool) if unused is None else unused
    if likelihood.is_cash(data):
        found, enough = _by_series(data, norm, asked, unused)
    else:
        found, enough = _by_halley_steps(_search(data, norm, asked))
    return finish_apart(~jnp.all(enough, axis=0) & ~unused, carefully, (data, norm), found, APART)


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
        rise, score = likelihood.difference_and_slopes(self.data, x, self.norm)
        return rise, 2.0 * self.side * stretch * score

    def risen_with_curvature(self, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rise of the statistic, its slope, and its second derivative."""
        x, stretch = self._at(y)
        rise, score, second = likelihood.difference_and_slopes(self.data, x, self.norm, curved=True)
        shrinks = jnp.where(self.ends, self.unit / self.width, 0.0)
        slope = 2.0 * self.side * stretch * score
        return rise, slope, 2.0 * stretch**2 * second - shrinks * slope


def sided(data: Blocks) -> Blocks:
    """Data with an axis for the sides, (E, 1, N)."""
    return jax.tree.map(lambda a: a[:, jnp.newaxis], data)


def _search(data: Blocks, norm: jax.Array, asked: Asked) -> _Search:
    """Search for what is asked; arrays (E, N) and (N,)."""
    data = sided(data)
    side, rise = asked
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


def _bracketed(search: _Search) -> jax.Array:
    """Distances of problems that may be hard.

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


def _by_series(
    data: Blocks, norm: jax.Array, asked: Asked, unused: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Distances of cash data, and whether they are right: logarithms are taken at one point each.

    There the rise is known as a power series, whose root is theirs if the last term is nothing and
    no kink lies between. Where it is not, it is a better point: few need a second, hardly any a
    third.
    """
    eps = float(jnp.finfo(norm.dtype).eps)

    def look(state: tuple[jax.Array, jax.Array, int]) -> tuple[jax.Array, jax.Array, int]:
        point, right, count = state
        rise, powers, kinks = computed_once(
            cash_series(data, jnp.broadcast_to(norm, point.shape), point, SERIES_ORDER)
        )
        missing = 0.5 * asked.rise - rise
        h = jnp.zeros_like(point)
        for _ in range(SERIES_STEPS):
            value, slope = _polynomial(powers, h)
            step = (missing - value) / slope
            h += step
        last = jnp.abs(powers[-1] * h ** len(powers))
        now = (slope > 0) & (last <= 1e3 * eps * slope) & (jnp.abs(step) <= 0.1 * eps**0.5)
        now &= h**2 * kinks < 0.5
        # The domain ends at a norm of zero.
        other = jnp.maximum(point * (1.0 + jnp.clip(h, -0.5, 1.0)), -0.95 * norm)
        new = jnp.where(now, point * (1.0 + h), other)
        return jnp.where(right, point, new), right | now, count + 1

    def unfinished(state: tuple[jax.Array, jax.Array, int]) -> jax.Array:
        return (state[2] < SERIES_POINTS) & ~jnp.all(state[1])

    start = computed_once(_poisson_like(data, norm, asked))
    state = start, jnp.broadcast_to(unused, start.shape), 0
    found, right, _ = jax.lax.while_loop(unfinished, look, state)
    return jnp.abs(found), right


def _polynomial(powers: list[jax.Array], h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Value and slope of a polynomial without constant term."""
    value = slope = jnp.zeros_like(h)
    for coefficient in reversed(powers):
        slope = slope * h + value
        value = value * h + coefficient
    return value * h, slope * h + value


def _poisson_like(data: Blocks, norm: jax.Array, asked: Asked) -> jax.Array:
    """About the displacement to where the statistic of cash data has risen.

    That of a single counts bin whose curvature and skewness are theirs, ``n (z - ln(1 + z))`` with
    ``z = t + t**2 / 3 + ...`` where it is ``n t**2 / 2`` (a series of Lambert's function), then
    corrected for the kurtosis.
    """
    curvature, third, fourth = cash_cumulants(data, norm)
    error = 1.0 / jnp.sqrt(jnp.where(curvature > 0, curvature, 1.0))
    skewness, kurtosis = third * error**3, fourth * error**4
    root = asked.side * jnp.sqrt(asked.rise)
    t = jnp.clip(root * skewness, -2.5, 4.0)
    series = jnp.zeros_like(t)
    for divisor in (17010.0, 4320.0, -270.0, 36.0, 3.0, 1.0):
        series = 1.0 / divisor + t * series
    sigmas = root * series
    stretch = jnp.maximum(1.0 + t * series, 0.01)
    sigmas /= 1.0 + 0.25 * (kurtosis - skewness**2) * sigmas**2 * stretch
    # The pole is at zero.
    return jnp.maximum(error * sigmas, -0.95 * norm)


def _by_halley_steps(search: _Search) -> tuple[jax.Array, jax.Array]:
    """Distances by Halley steps on the root of the rise, and whether that was enough.

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
    for _ in range(HALLEY_STEPS):
        rise, slope, second = search.risen_with_curvature(y)
        safe = (rise > 0) & (slope > 0)
        risen = jnp.sqrt(jnp.where(safe, rise, 1.0))
        newton = 2.0 * risen * (risen - root) / jnp.where(safe, slope, 1.0)
        # The second derivative of the root over its first.
        relative = second / jnp.where(safe, slope, 1.0) - 0.5 * slope / risen**2
        change = newton / jnp.maximum(1.0 - 0.5 * newton * relative, 0.5)
        new = jnp.clip(y - jnp.where(safe, change, jnp.nan), y / 4.0, 4.0 * y)
        y, step = computed_once((new, jnp.abs(new - y)))
    # The next step would be about the cube of this one.
    small = step <= float(jnp.finfo(y.dtype).eps) ** (1 / 3) * y
    return search.distance(y), (curvature > 0) & small
