"""Compilation: on a CPU no longer than it is worth.

The first call of a function compiles it, which for many profiles is most of the time. XLA spends it
on code that is no faster here: its newer emitters of fused loops take half of the time (those
before them compile the same loops, where a version still has them), and the last of its levels of
optimisation another sixth.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import jax
import numpy as np

SMALL = 50_000
"""Number of array elements below which running is faster than compiling, however compiled."""


def jit_by_size(
    function: Callable | None = None, *, static_argnames: str | tuple[str, ...] = ()
) -> Callable:
    """Like `jax.jit`, but small problems on a CPU are compiled without optimisation.

    A profile of some dozens of bins runs in a millisecond, while the optimising compiler takes a
    second for each function; without optimisation it takes a fraction of that. Other devices and
    anything traced get `jax.jit` as it is.
    """
    if function is None:
        return partial(jit_by_size, static_argnames=static_argnames)
    return _choice(function, static_argnames, by_size=True)


def jit_quickly(*static_argnames: str) -> Callable:
    """Like `jit_by_size` for problems of any size: for functions whose work libraries do.

    Fourier transforms, products of matrices and gathers run as fast however their surroundings are
    compiled.
    """
    return lambda function: _choice(function, static_argnames, by_size=False)


@cache
def _known(name: str, value: Any) -> bool:
    """Whether this version of the compiler has an option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value})()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _compiler_options(level: int) -> dict[str, Any]:
    wanted = {"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": False}
    return {name: value for name, value in wanted.items() if _known(name, value)}


def _choice(
    function: Callable, static_argnames: str | tuple[str, ...], *, by_size: bool
) -> Callable:
    plain = jax.jit(function, static_argnames=static_argnames)

    @cache
    def at_level(level: int) -> Callable:
        options = _compiler_options(level)
        return jax.jit(function, static_argnames=static_argnames, compiler_options=options)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = jax.tree.leaves((args, kwargs))
        if jax.default_backend() == "cpu" and not any(
            isinstance(leaf, jax.core.Tracer) for leaf in leaves
        ):
            small = not by_size or sum(np.size(leaf) for leaf in leaves) < SMALL
            try:
                return at_level(0 if small else 1)(*args, **kwargs)
            except ValueError:
                # Inside somebody's jit, with constants for arguments, no options are allowed.
                pass
        return plain(*args, **kwargs)

    return call
