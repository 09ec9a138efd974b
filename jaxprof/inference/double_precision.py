"""Functions of users in float64, whatever the global setting of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from jaxprof.compilation import is_traced
from jaxprof.user_warning import warn_user

T = TypeVar("T")


def is_followed(start: Any, others: tuple[Any, ...]) -> bool:
    """Whether a computation is in the precision of its parameters, or of what is traced."""
    if jax.config.read("jax_enable_x64"):
        return True
    single = [getattr(leaf, "dtype", None) == np.float32 for leaf in jax.tree.leaves(start)]
    return any(single) or is_traced((start, others))


def in_double_precision(
    compute: Callable[[bool], T], function: Callable, args: tuple[Any, ...]
) -> T:
    """Compute in float64 where JAX has it disabled; numpy arrays, which JAX takes like any other.

    The argument of ``compute`` tells whether what it compiles may be kept: the ``function`` of
    ``args``, with all that it closes over.

    Warns
    -----
    UserWarning
        If that is not possible, so that the result is in float32.
    """
    with jax.enable_x64(True):
        constants = _constants(function, *args)
        # Derivatives and maps that a traced constant belongs to end outside of the context.
        traced = is_traced(constants)
        # JAX remembers numpy arrays in the precision in which a live program has them, and fails to
        # trace them in the other one: such programs must not live on, here or elsewhere.
        lasting = not any(isinstance(constant, np.ndarray) for constant in constants)
        del constants
        if not traced:
            try:
                return jax.tree.map(np.asarray, compute(lasting))
            except (TypeError, ValueError):
                if lasting:
                    raise
    # Whatever else was wrong is wrong again.
    found = compute(True)
    if not traced:
        warn_user(
            "fit: numpy arrays that log_prob closes over are part of a compiled function in "
            "float32, so that this fit is in float32 too; give them in args, or enable float64 "
            "in JAX"
        )
    return found


def in_float64(function: Callable[[Any], T], data: Any) -> T:
    """What a function gives for data in float64: numpy arrays, where JAX has that disabled.

    Data that are traced are followed.
    """
    if is_traced(data) or jax.config.read("jax_enable_x64"):
        return function(data)

    def wide(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return array.astype(float) if np.issubdtype(array.dtype, np.floating) else array

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(jax.tree.map(wide, data)))


def _constants(function: Callable, *args: Any) -> list[Any]:
    """What a function closes over."""
    # A function of its own, so that JAX does not keep what it traces.
    return jax.make_jaxpr(lambda *args: function(*args))(*args).consts
