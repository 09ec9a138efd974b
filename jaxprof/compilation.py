"""Compilation: on a CPU no longer than it is worth.

The first call of a function compiles it, which for many profiles is most of the time. XLA spends it
on code that is no faster here: its newer emitters of fused loops take half of the time (those
before them compile the same loops, where a version still has them), and the last of its levels of
optimisation another sixth. Small programs are compiled in one piece: in the 32 that are usual they
take a third more of processor time, and five times as many memory maps.

Compiled programs are kept for the next call, but not all of them for ever: each takes some dozens
to hundreds of memory maps, of which a process may have 65530 on Linux, and JAX itself drops none.
"""

from __future__ import annotations

import gc
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from functools import cache, partial, wraps
from threading import Lock
from typing import Any

import jax
import numpy as np

SMALL = 50_000
"""Number of array elements below which running is faster than compiling, however compiled."""
KEPT = 128
"""Programs, one for each function and shape of its arguments, that are kept: those used last. A
joint fit has about twelve, and each takes some ten megabytes."""

_in_pieces = ContextVar("_in_pieces", default=False)


def jit_by_size(
    function: Callable | None = None,
    *,
    static_argnames: str | tuple[str, ...] = (),
    large: int | None = 1,
    small: float | None = None,
) -> Callable:
    """Like `jax.jit`, but small problems on a CPU are compiled without optimisation.

    Large ones are compiled at the level ``large``; with None as `jax.jit` does, which takes longer
    and is worth it where most of the time is spent in fused loops. Small are those whose arguments
    have less than ``small`` elements, by default `SMALL`: zero for a function that makes much work
    of few.

    A profile of some dozens of bins runs in a millisecond, while the optimising compiler takes a
    second for each function; without optimisation it takes a fraction of that. Other devices and
    anything traced get `jax.jit` as it is.
    """
    if function is None:
        return partial(jit_by_size, static_argnames=static_argnames, large=large, small=small)
    return _choice(function, static_argnames, large=large, small=small)


def jit_quickly(*static_argnames: str) -> Callable:
    """Like `jit_by_size` for problems of any size: for functions whose work libraries do.

    Fourier transforms, products of matrices and gathers run as fast however their surroundings are
    compiled.
    """
    return lambda function: _choice(function, static_argnames, large=1, small=math.inf)


@contextmanager
def _pieces(wanted: bool) -> Iterator[None]:
    """Compile nothing but functions of this module, or all."""
    token = _in_pieces.set(wanted)
    try:
        with jax.disable_jit(wanted):
            yield
    finally:
        _in_pieces.reset(token)


def jit_in_pieces(where: Callable[[Any], bool], small: float | None = None) -> Callable:
    """Like `jit_by_size`, but for some arguments the function itself is not compiled.

    What it calls is, if it is one of the functions of this module; the rest is Python: several
    functions that call a dear one share its program.

    Parameters
    ----------
    where : callable
        Whether that is so for a first argument; never where anything is traced.
    small : float, optional
        As of `jit_by_size`, for the others.
    """

    def decorated(function: Callable) -> Callable:
        whole = jit_by_size(function, small=small)

        @wraps(function)
        def call(first: Any, *rest: Any) -> Any:
            # Loops over nothing have to be traced; what data lack does not matter.
            empty = not all(map(np.size, jax.tree.leaves(rest, is_leaf=is_dataclass)))
            if is_traced((first, rest)) or empty or not where(first):
                return whole(first, *rest)
            with _pieces(True):
                return function(first, *rest)

        return call

    return decorated


def is_traced(values: Any) -> bool:
    """Whether any leaf of a pytree is traced by jit, vmap or a derivative."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


@cache
def _known(*options: tuple[str, Any]) -> bool:
    """Whether this version of the compiler has all of some options, names with values."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options))()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _compiler_options(level: int) -> dict[str, Any]:
    wanted = [("xla_backend_optimization_level", level), ("xla_cpu_use_fusion_emitters", False)]
    if level == 0:
        wanted.append(("xla_cpu_parallel_codegen_split_count", 1))
    return dict(wanted if _known(*wanted) else filter(_known, wanted))


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect no garbage: what tracing makes is needed, and all of JAX's objects are looked at."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Programs:
    """Jitted functions, by a key that begins with the function; old ones make room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            found = self._kept[key] = make()
            old = [self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - KEPT)]
        for program in old:
            # Without this JAX keeps the compiled code, and its memory maps, for ever.
            program.clear_cache()
        return found

    def forget(self, function: Callable) -> None:
        with self._lock:
            old = [self._kept.pop(key) for key in list(self._kept) if key[0] == function]
        for program in old:
            program.clear_cache()


_programs = _Programs()


def forget(function: Callable) -> None:
    """Drop the compiled programs of a function that was called through one of the jits here."""
    _programs.forget(function)


def _signature(leaves: list[Any], structure: Any) -> Hashable:
    """What a function is compiled for: structure, shapes and dtypes of its arguments."""
    shapes = ((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves)
    return structure, jax.config.read("jax_enable_x64"), tuple(shapes)


def _choice(
    function: Callable,
    static_argnames: str | tuple[str, ...],
    *,
    large: int | None,
    small: float | None,
) -> Callable:
    def compiled(signature: Hashable, level: int | None) -> Any:
        def make() -> Any:
            # JAX finds compiled code by the function: one of its own can be forgotten alone.
            @wraps(function)
            def own(*args: Any, **kwargs: Any) -> Any:
                return function(*args, **kwargs)

            options = None if level is None else _compiler_options(level)
            return jax.jit(own, static_argnames=static_argnames, compiler_options=options)

        return _programs.get((function, level, signature), make)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _in_pieces.get():
            with _pieces(False):
                return call(*args, **kwargs)
        leaves, structure = jax.tree.flatten((args, kwargs))
        signature = _signature(leaves, structure)
        if jax.default_backend() == "cpu" and not is_traced(leaves):
            limit = SMALL if small is None else small
            level = 0 if sum(np.size(leaf) for leaf in leaves) < limit else large
            try:
                with _garbage_kept():
                    return compiled(signature, level)(*args, **kwargs)
            except ValueError:
                # Inside somebody's jit, with constants for arguments, no options are allowed.
                pass
        return compiled(signature, None)(*args, **kwargs)

    return call
