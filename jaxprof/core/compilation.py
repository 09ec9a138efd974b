"""Compilation: quick for small problems, thorough for large ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import numpy as np

SMALL = 50_000
"""Number of array elements below which running is faster than compiling, however compiled."""


def jit_by_size(function: Callable) -> Callable:
    """Like `jax.jit`, but small problems on a CPU are compiled without optimisation.

    A profile of some dozens of bins runs in a millisecond, while the optimising compiler takes a
    second for each function; without optimisation it takes half of that. Large
    problems, other devices and anything traced get `jax.jit` as it is.
    """
    return _choice(function, {}, by_size=True)


def jit_quickly(*static_argnames: str) -> Callable:
    """Like `jit_by_size` for problems of any size: for functions whose work libraries do.

    Fourier transforms, products of matrices and gathers run as fast however their surroundings are
    compiled.
    """
    options = {"static_argnames": static_argnames}
    return lambda function: _choice(function, options, by_size=False)


def _choice(function: Callable, options: dict[str, Any], *, by_size: bool) -> Callable:
    thorough = jax.jit(function, **options)
    quick = jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = jax.tree.leaves(args)
        small = jax.default_backend() == "cpu" and (
            not by_size or sum(np.size(leaf) for leaf in leaves) < SMALL
        )
        if small and not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            try:
                return quick(*args, **kwargs)
            except (ValueError, jax.errors.JaxRuntimeError):
                # Inside somebody's jit, with constants for arguments, no options are allowed; and
                # another version of the compiler may not know this one.
                pass
        return thorough(*args, **kwargs)

    return call
