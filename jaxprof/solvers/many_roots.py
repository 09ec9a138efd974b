"""Roots of many functions at once: steps that suffice for most, then what is hard apart.

The functions stand side by side in the last axis of arrays. A loop over all of them would run as
long as the hardest takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.solvers.solve import MAX_ITERATIONS, tolerance

APART = 128
"""Hard ones that are finished together, at least."""
SHARE = 16
"""Of many problems one in so many is finished together with others: each time, the results of all
are gone through."""
FEW = 256
"""Number of problems that are all taken for hard: to compile quick steps takes longer than these
save."""


def increasing_roots(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    low: jax.Array,
    high: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Roots of increasing functions, as `increasing_root` finds one: guarded by bisection.

    Parameters
    ----------
    function : callable
        Maps an array to the value and the slope of each element's own function.
    start, low, high : array
        First points, and finite ends with a root between them.

    Returns
    -------
    roots : array
        They carry no derivatives.
    converged : array of bool
        Whether the last step was below the tolerance.
    """
    tol = tolerance(start.dtype)

    def iterate(state: tuple[Any, ...]) -> tuple[Any, ...]:
        x, low, high, step, count = state
        active = step > tol
        value, slope = function(x)
        low = jnp.where(active & ~(value > 0), x, low)
        high = jnp.where(active & (value > 0), x, high)
        newton = x - value / jnp.where(slope > 0, slope, 1.0)
        # Rounding makes the last steps erratic: below the tolerance they need not shrink.
        shrinks = jnp.abs(newton - x) <= jnp.maximum(0.5 * step, tol)
        usable = (slope > 0) & (newton >= low) & (newton <= high) & shrinks
        new = jnp.where(usable, newton, low + 0.5 * (high - low))
        step = jnp.where(active, jnp.abs(new - x), step)
        return jnp.where(active, new, x), low, high, step, count + 1

    def unfinished(state: tuple[Any, ...]) -> jax.Array:
        return (state[4] < MAX_ITERATIONS) & jnp.any(state[3] > tol)

    x = jnp.clip(start, low, high)
    # Twice the width lets the first Newton step reach any point of the bracket; a problem whose
    # bracket is a point needs one step too, which tells its value.
    step = jnp.maximum(2.0 * (high - low), 2.0 * tol)
    x, _, _, step, _ = jax.lax.while_loop(unfinished, iterate, (x, low, high, step, 0))
    return x, step <= tol


def finish_apart(
    hard: jax.Array, solve: Callable[[Any], Any], problems: Any, results: Any, size: int = APART
) -> Any:
    """Solve the hard ones among many problems, some at a time.

    Parameters
    ----------
    hard : array of bool, shape (N,)
        Which problems to solve.
    solve : callable
        Maps problems, as many as it is given, to their results.
    problems, results : pytree of array, shape (..., N)
        All problems, and the results of those that are not hard.
    size : int
        How many are solved together, at least.

    Returns
    -------
    results : pytree of array
        With those of the hard ones, without derivatives.
    """
    n = len(hard)
    size = min(n, max(size, n // SHARE))
    rank = jnp.cumsum(hard) - 1
    total = rank[-1] + 1

    def chunk(state: tuple[Any, Any]) -> tuple[Any, Any]:
        first, results = state
        # The last of a chunk stands in for those that are too many.
        wanted = jnp.minimum(first + jnp.arange(size), total - 1)
        index = jnp.searchsorted(rank, wanted)
        found = solve(jax.tree.map(lambda a: a[..., index], problems))
        own = hard & (rank >= first) & (rank < first + size)
        place = jnp.clip(rank - first, 0, size - 1)
        merged = jax.tree.map(lambda new, old: jnp.where(own, new[..., place], old), found, results)
        return first + size, merged

    start = jnp.zeros_like(total), results
    return jax.lax.while_loop(lambda state: state[0] < total, chunk, start)[1]
