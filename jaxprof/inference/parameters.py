"""Any pytree of parameters as a flat vector: names, and what is said of parameters by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced

ONLY = "parameter"
"""Name of a parameter that is not in any container."""


def numpy_of(tree: Any) -> Any:
    """Numpy, which compiles nothing, for what is known; `jax.numpy` for what is traced."""
    return jnp if is_traced(tree) else np


@dataclass(frozen=True)
class Layout:
    """Where each parameter of a pytree stands in a flat vector."""

    structure: Any
    """Structure of the pytree."""
    leaves: tuple[str, ...]
    """A name for each leaf: keys, attributes and indices joined by dots."""
    shapes: tuple[tuple[int, ...], ...]
    """Shapes of the leaves."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each leaf."""
        return tuple(int(np.prod(shape)) for shape in self.shapes)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each element of the vector: those of arrays have indices."""
        found = []
        for leaf, shape in zip(self.leaves, self.shapes, strict=True):
            for index in np.ndindex(shape):
                found.append(f"{leaf}[{', '.join(map(str, index))}]" if index else leaf)
        return tuple(found)

    def flatten(self, params: Any, dtype: Any, what: str = "start") -> jax.Array:
        """The vector of a pytree of this structure, or, with one more axis in front, several."""
        leaves, structure = jax.tree.flatten(params)
        if structure != self.structure:
            raise ValueError(f"{what} has the structure {structure}, start has {self.structure}")
        xp = numpy_of(leaves)
        parts = []
        for leaf, name, shape in zip(leaves, self.leaves, self.shapes, strict=True):
            array = xp.asarray(leaf, dtype)
            front = array.shape[: array.ndim - len(shape)]
            if array.shape[len(front) :] != shape or len(front) > 1:
                raise ValueError(f"{name!r} has shape {array.shape} in {what} and {shape} in start")
            parts.append(array.reshape(*front, -1))
        return xp.concatenate(parts, axis=-1)

    def unflatten(self, vector: jax.Array) -> Any:
        """The pytree of a vector."""
        ends = np.cumsum(self.sizes)[:-1]
        parts = jnp.split(vector, ends)
        leaves = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)

    def positions(self, name: str, what: str) -> slice:
        """Elements of the leaf or the branch with a name, or the element with it.

        Raises
        ------
        ValueError
            If there is none.
        """
        if name in self.names:
            at = self.names.index(name)
            return slice(at, at + 1)
        ends = np.cumsum((0, *self.sizes))
        own = [
            number
            for number, leaf in enumerate(self.leaves)
            if leaf == name or leaf.startswith((f"{name}.", f"{name}["))
        ]
        if not own:
            raise ValueError(
                f"{what} names the parameter {name!r}, start has {', '.join(self.leaves)}"
            )
        return slice(int(ends[own[0]]), int(ends[own[-1] + 1]))


def layout_of(start: Any, *, finite: bool = True) -> Layout:
    """Layout of a pytree of numbers and arrays.

    Raises
    ------
    ValueError
        If there is no parameter, or one is not real, has a unit or, where they are to be, is not
        finite.
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(start)
    if not with_paths:
        raise ValueError(f"start has no parameters: {start!r}")
    names, shapes = [], []
    for path, leaf in with_paths:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or ONLY
        _check_no_unit(f"start: {name!r}", leaf)
        dtype = getattr(leaf, "dtype", None)
        kind = np.asarray(leaf).dtype if dtype is None else dtype
        if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
            raise ValueError(f"start: {name!r} must be a real number or an array, got {leaf!r}")
        known = finite and not isinstance(leaf, jax.core.Tracer)
        if known and not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(f"start: {name!r} must be finite, got {leaf!r}")
        names.append(name)
        shapes.append(tuple(np.shape(leaf)))
    return Layout(structure, tuple(names), tuple(shapes))


def _check_no_unit(what: str, value: Any) -> None:
    if hasattr(value, "unit"):
        raise ValueError(f"{what} must be a plain number or array, got {value!r}")


def names_given(what: str, given: Any) -> tuple[str, ...]:
    """Names of parameters that an argument gives: one, or several.

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(given, str):
        return (given,)
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"{what} must be names of parameters, such as 'norm' or ['norm[0, 0]'], got {given!r}"
        )
    return found


def fixed_names(layout: Layout, fixed: str | Iterable[str]) -> tuple[bool, ...]:
    """Whether each element of the vector keeps its value.

    Raises
    ------
    ValueError
        For names that are none of parameters, or if nothing is left to fit.
    """
    found = np.zeros(len(layout.names), bool)
    for name in names_given("fixed", fixed):
        found[layout.positions(name, "fixed")] = True
    if found.all():
        raise ValueError(f"fixed={fixed!r} leaves no parameter to fit")
    return tuple(bool(is_fixed) for is_fixed in found)


def bound_vectors(
    layout: Layout, bounds: Mapping[str, Any] | None, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Lower and upper bounds of all elements of the vector, infinite where there are none.

    Raises
    ------
    ValueError
        For names that are none of parameters, and for bounds that are not two increasing numbers.
    """
    if not isinstance(bounds or {}, Mapping):
        raise ValueError(f"bounds must be a dict of (min, max) by name, got {bounds!r}")
    xp = numpy_of(bounds)
    lower: list[Any] = [-np.inf] * len(layout.names)
    upper: list[Any] = [np.inf] * len(layout.names)
    for name, pair in _by_name(bounds or {}):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"bounds of {name!r} must be (min, max), got {pair!r}")
        for own in pair:
            _check_no_unit(f"bounds of {name!r}", own)
        at = layout.positions(name, "bounds")
        low = xp.asarray(-np.inf if pair[0] is None else pair[0], dtype)
        high = xp.asarray(np.inf if pair[1] is None else pair[1], dtype)
        if xp is np and not np.all(low < high):
            raise ValueError(f"bounds of {name!r} must increase, got {pair!r}")
        size = at.stop - at.start
        lower[at] = xp.broadcast_to(low.ravel(), size)
        upper[at] = xp.broadcast_to(high.ravel(), size)
    return xp.asarray(lower, dtype), xp.asarray(upper, dtype)


def _by_name(bounds: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Bounds in nested dicts under the names of the parameters."""
    found = []
    for key, value in bounds.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            found += _by_name(value, name)
        elif value is not None:
            found.append((name, value))
    return found
