"""Root finding for one bin and group; the only module that imports jaxopt.

A bracketed Newton iteration is handed to jaxopt as a fixed-point problem. jaxopt's own implicit
derivatives are reverse-mode only, so the iteration runs without them, inside `jax.lax.custom_root`:
then ``grad``, ``jvp``, ``jacfwd`` and ``hessian`` all pass through the solution.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

MAX_ITERATIONS = 120
"""Bisection alone gains 16 digits in 53 steps from any bracket of order one."""


def tolerance(dtype: jnp.dtype) -> float:
    """Step (in units of the problem's scale) below which the iteration stops.

    Newton's next step would be the square of it: the solution is good to rounding.
    """
    return 1e-10 if jnp.finfo(dtype).bits == 64 else 1e-5


def increasing_root(
    function: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    low: jax.Array,
    high: jax.Array,
    tol: float | None = None,
    *,
    to_end: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Root of an increasing function between two ends, by Newton steps guarded by bisection.

    A step that leaves the bracket, or that is not at most half of the one before, is replaced by
    bisection: the iteration converges for any increasing function, jumps included (then to the
    jump), and quadratically where the function is smooth.

    Parameters
    ----------
    function : callable
        Maps a scalar to the function's value and its slope.
    start, low, high : array, shape ()
        First point, and finite ends with a root between them. The problem should be scaled such
        that steps of order one matter.
    tol : float, optional
        Step below which the iteration stops, `tolerance` unless told.
    to_end : bool
        Whether a step beyond the upper end goes there instead: for functions that may be below zero
        there still, and have no root.

    Returns
    -------
    root : array, shape ()
        The root; it carries no derivatives, see `implicit_root`.
    converged : array of bool, shape ()
        Whether the last step was below the tolerance.
    """
    tol = tolerance(start.dtype) if tol is None else tol

    def iterate(state: jax.Array) -> jax.Array:
        x, low, high, step = state
        value, slope = function(x)
        low = jnp.where(value > 0, low, x)
        high = jnp.where(value > 0, x, high)
        newton = x - value / jnp.where(slope > 0, slope, 1.0)
        if to_end:
            newton = jnp.minimum(newton, high)
        # Rounding makes the last steps erratic: below the tolerance they need not shrink.
        shrinks = jnp.abs(newton - x) <= jnp.maximum(0.5 * step, tol)
        usable = (slope > 0) & (newton >= low) & (newton <= high) & shrinks
        new = jnp.where(usable, newton, low + 0.5 * (high - low))
        return jnp.stack([new, low, high, jnp.abs(new - x)])

    with warnings.catch_warnings():
        # jaxopt announces on import that it is no longer maintained; its users know.
        warnings.simplefilter("ignore", DeprecationWarning)
        import jaxopt  # here: it takes as long to import as all else

    x = jnp.clip(start, low, high)
    # Twice the width lets the first Newton step reach any point of the bracket.
    state = jnp.stack([x, low, high, 2.0 * (high - low)])
    solver = jaxopt.FixedPointIteration(
        iterate, maxiter=MAX_ITERATIONS, tol=tol, implicit_diff=False, unroll=False
    )
    state, info = solver.run(state)
    return state[0], info.error <= tol


def root_against(
    target: jax.Array, rise: jax.Array, slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How far the root of a rise is above that of a target, and its slope.

    The root of a parabola is a straight line, on which one Newton step does.
    """
    possible = jnp.isfinite(rise)
    usable = possible & (rise > 0)
    root = jnp.sqrt(jnp.where(usable, rise, 0.0))
    value = jnp.where(possible, root, 2.0 * jnp.sqrt(target)) - jnp.sqrt(target)
    return value, jnp.where(usable, slope / (2.0 * jnp.where(usable, root, 1.0)), 0.0)


def searched_root(
    residual: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    search: Callable[[jax.Array], tuple[jax.Array, Any]],
) -> tuple[jax.Array, Any]:
    """Find a root and give it its derivatives by the implicit function theorem.

    Parameters
    ----------
    residual : callable
        Smooth function of a scalar; it may close over anything that is to be differentiated.
    start : array, shape ()
        What the search starts from.
    search : callable
        Maps the start to the root and whatever else is known of it. It is not differentiated.

    Returns
    -------
    root : array, shape ()
        The root, with derivatives of any order and in both modes; none where the residual has no
        slope.
    found : pytree
        What else the search gave, without derivatives.
    """

    def tangent_solve(linear: Callable, y: jax.Array) -> jax.Array:
        slope = linear(jnp.ones_like(y))
        regular = slope != 0
        return jnp.where(regular, y / jnp.where(regular, slope, 1.0), 0.0)

    guess = jax.lax.stop_gradient(start)
    return jax.lax.custom_root(residual, guess, lambda _, x: search(x), tangent_solve, has_aux=True)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def implicit_roots(residual: Callable, solve: Callable, roots: jax.Array, *args: Any) -> jax.Array:
    """Give the roots of a system their derivatives, which cost nothing where none are taken.

    Parameters
    ----------
    residual : callable
        Function of the roots and ``args``, zero at the roots. It closes over nothing that is
        traced.
    solve : callable
        Of a right side, the roots and ``args``: solves the linear system of the residual's
        Jacobian at the roots.
    roots : array, shape (Z,)
        The roots; derivatives of their own do not matter.
    *args : pytree
        What may be differentiated.

    Returns
    -------
    roots : array, shape (Z,)
        The same values, with derivatives of any order and in both modes.
    """
    return roots


@implicit_roots.defjvp
def _(residual: Callable, solve: Callable, primals: tuple, tangents: tuple) -> tuple:
    args = primals[1:]
    # Once more through this rule: for derivatives of higher order.
    roots = implicit_roots(residual, solve, *primals)
    _, change = jax.jvp(lambda *args: residual(roots, *args), args, tangents[1:])
    still = jax.tree.map(jax.lax.stop_gradient, (roots, *args))

    def linear(step: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: residual(x, *args), (roots,), (step,))[1]

    def solved(_: Any, right: jax.Array) -> jax.Array:
        return solve(right, *still)

    def transposed(_: Any, right: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda y: solve(y, *still), right)(right)[0]

    return roots, -jax.lax.custom_linear_solve(linear, change, solved, transposed)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def implicit_root(residual: Callable, root: jax.Array, *args: Any) -> jax.Array:
    """As `implicit_roots`, for a single equation or many that know nothing of each other.

    Parameters
    ----------
    residual : callable
        Function of the root and ``args``, zero at the root; it may be dear. It closes over nothing
        that is traced. Of an array it is that of each element alone.
    root : array
        Its root; derivatives of its own do not matter.
    *args : pytree
        What may be differentiated.

    Returns
    -------
    root : array
        The same value, with derivatives of any order and in both modes; zero where the residual
        has no slope.
    """
    return root


@implicit_root.defjvp
def _(residual: Callable, primals: tuple, tangents: tuple) -> tuple:
    args = primals[1:]
    root = implicit_root(residual, *primals)
    # One evaluation for both derivatives. Roots side by side may lack the first axis of the data,
    # whatever a user's setting says of that.
    with jax.numpy_rank_promotion("allow"):
        _, change_of = jax.linearize(residual, root, *args)
    change = change_of(jnp.zeros_like(root), *tangents[1:])
    slope = change_of(jnp.ones_like(root), *jax.tree.map(jnp.zeros_like, tangents[1:]))
    regular = slope != 0
    return root, jnp.where(regular, -change / jnp.where(regular, slope, 1.0), 0.0)
