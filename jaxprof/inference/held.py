"""One parameter of a log probability held, and all others profiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import forget, jit_by_size
from jaxprof.inference.double_precision import in_double_precision, is_followed
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import negative_log_prob, split_function
from jaxprof.inference.parameters import Layout, layout_of
from jaxprof.solvers.minimise import minimise
from jaxprof.solvers.solve import increasing_root, root_against, searched_root

FAR = 1e4
"""Limits are sought up to this many times the length over which the statistic should rise."""
STEP = 1e-8
"""Last step of a search, in units of that length: the next one would be about its square."""


class Point(NamedTuple):
    """A fit: parameters and bounds (N,), covariance (N, N), and what it was made of."""

    best: jax.Array
    lower: jax.Array
    upper: jax.Array
    covariance: jax.Array
    args: tuple[Any, ...]


class Wanted(NamedTuple):
    """Limits: parameters, sides (-1 or 1), rises of the statistic, whether bounds will do."""

    at: Any
    side: Any
    rise: Any
    closed: Any


@dataclass(frozen=True)
class _Problem:
    """What limits and scans are compiled for, besides the shapes of their arrays."""

    log_prob: Callable
    layout: Layout
    fixed: tuple[bool, ...]
    method: str

    def __call__(self, point: Point, *wanted: Any) -> Any:
        return getattr(self, self.method)(point, *wanted)

    def held(self, point: Point, at: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rise of the profiled statistic where one parameter is held, and its derivative."""
        free = np.flatnonzero(~np.array(self.fixed))
        negative = negative_log_prob(self.log_prob, self.layout, point.args)

        def of_free(x: jax.Array) -> jax.Array:
            return negative(point.best.at[free].set(x))

        best, covariance = point.best[free], point.covariance[np.ix_(free, free)]
        held = jnp.asarray(free) == at
        lower = jnp.where(held, value, point.lower[free])
        upper = jnp.where(held, value, point.upper[free])
        # The other parameters start where those of a normal distribution would be.
        row = jnp.argmax(held)
        slopes = covariance[row] / covariance[row, row]
        step = jnp.where(jnp.isfinite(slopes), slopes * (value - best[row]), 0.0)
        near, plain = (jnp.clip(x, lower, upper) for x in (best + step, best))
        start = jnp.where(jnp.isfinite(of_free(near)), near, plain)
        found = minimise(of_free, jax.lax.stop_gradient(start)[None, :], lower, upper)
        slope = jax.grad(of_free)(found.x)[row]
        return 2.0 * (found.value - of_free(best)), 2.0 * slope

    def unit(self, point: Point, at: jax.Array) -> jax.Array:
        """Length over which the statistic rises by about one; without derivatives."""
        negative = negative_log_prob(self.log_prob, self.layout, point.args)
        variance, best = point.covariance[at, at], point.best
        one = jnp.zeros_like(best).at[at].set(1.0)
        curvature = jax.jvp(lambda x: jax.grad(negative)(x)[at], (best,), (one,))[1]
        known, curved = variance > 0, curvature > 0
        size = jnp.where(best[at] != 0, jnp.abs(best[at]), 1.0)
        alone = jnp.where(curved, 1.0 / jnp.sqrt(jnp.where(curved, curvature, 1.0)), size)
        found = jnp.where(known, jnp.sqrt(jnp.where(known, variance, 1.0)), alone)
        return jax.lax.stop_gradient(found)

    def limit(self, point: Point, wanted: Wanted) -> jax.Array:
        """Value at which the statistic has risen; the bound if that is wanted and comes first."""
        at, side, rise, closed = wanted
        best = point.best[at]
        bound = jnp.where(side > 0, point.upper[at], point.lower[at])
        unit = self.unit(point, at) * jnp.sqrt(rise)
        end = jnp.minimum(FAR, jax.lax.stop_gradient(side * (bound - best)) / unit)

        def search(start: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            def excess(y: jax.Array) -> tuple[jax.Array, jax.Array]:
                value, slope = self.held(point, at, start + side * unit * y)
                return root_against(rise, value, side * unit * slope)

            first = jnp.minimum(1.0, end)
            y, converged = increasing_root(
                excess, first, jnp.zeros_like(first), end, STEP, to_end=True
            )
            at_bound = converged & (end < FAR) & (y >= end)
            exists = converged & (y < 0.9 * FAR) & (y > STEP) & ~at_bound
            # Derivatives are defined of floating numbers only.
            flags = exists.astype(unit.dtype), at_bound.astype(unit.dtype)
            return jnp.where(exists, start + side * unit * y, start), flags

        root, (exists, at_bound) = searched_root(
            lambda x: self.held(point, at, x)[0] - rise, best, search
        )
        return jnp.where(exists > 0, root, jnp.where((at_bound > 0) & closed, bound, jnp.nan))

    def limits(self, point: Point, wanted: Wanted) -> jax.Array:
        """Several of them, one after the other."""
        return jax.lax.map(lambda own: self.limit(point, Wanted(*own)), wanted)

    def scan(self, point: Point, at: jax.Array, values: jax.Array) -> jax.Array:
        """Rises of the statistic at several values of parameters."""
        return jax.lax.map(lambda pair: self.held(point, *pair)[0], (at, values))


def compute(
    method: str, log_prob: Any, fit: Fit, args: tuple[Any, ...], wanted: tuple[Any, ...]
) -> Any:
    """Limits or scans of what was fitted, in the precision of the fit.

    Parameters
    ----------
    method : str
        ``"limits"`` or ``"scan"``.
    log_prob, fit, args
        As for `jaxprof.limits`.
    wanted : tuple
        Further arguments of the method.
    """
    function, args = split_function(log_prob, args)
    layout = layout_of(fit.params)
    problem = _Problem(function, layout, fit.fixed, method)

    def run(lasting: bool) -> Any:
        dtype = jax.dtypes.canonicalize_dtype(fit.covariance.dtype)
        vectors = layout.flatten(fit.params, dtype), fit.lower, fit.upper, fit.covariance
        point = Point(*vectors, args)
        result = jit_by_size(problem)(point, *wanted)
        if not lasting:
            forget(problem)
        return result

    if is_followed(fit.params, (fit, args, wanted)):
        return run(True)
    return in_double_precision(run, function, (fit.params, *args))
