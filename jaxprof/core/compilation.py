"""Compilation: quick for small problems, thorough for large ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax

SMALL = 50_000
"""Number of array elements below which running is faster than compiling, however compiled."""


def jit_by_size(function: Callable) -> Callable:
    """Like `jax.jit`, but small problems on a CPU are compiled without optimisation.

    A profile of some dozens of bins runs in a millisecond, while the optimising compiler takes a
    second for each function; without optimisation it takes half of that. Large
    problems, other devices and anything traced get `jax.jit` as it is.
    """
    thorough = jax.jit(function)
    quick = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})

    @wraps(function)
    def call(*args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        small = sum(leaf.size for leaf in leaves) < SMALL and jax.default_backend() == "cpu"
        if small and not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            try:
                return quick(*args)
            except (ValueError, jax.errors.JaxRuntimeError):
                # Inside somebody's jit, with constants for arguments, no options are allowed; and
                # another version of the compiler may not know this one.
                pass
        return thorough(*args)

    return call
