"""What spectral and spatial models share: a frozen dataclass that is a JAX pytree.

The leaves of the pytree are the parameters. Constructors strip units and check values;
JAX rebuilds models without calling the constructor, so leaves may then be tracers,
arrays with a batch axis, gradients or placeholders.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
import numpy as np

from jaxprof.models.units import check, is_concrete, is_quantity, to_value

T = TypeVar("T", bound="Model")
M = TypeVar("M", bound=type)


def parameter(default: Any = dataclasses.MISSING, *, unit: str = "", kind: str = "real") -> Any:
    """Dataclass field for a parameter in ``unit`` whose value passes the check ``kind``.

    With the default None the parameter may be left out, and then is no leaf of the pytree.
    """
    metadata = {"unit": unit, "kind": kind}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def static(default: Any) -> Any:
    """Dataclass field for a hashable setting that is part of the pytree's structure."""
    return dataclasses.field(default=default, metadata={"static": True})


def register_model(cls: M) -> M:
    """Class decorator: register a frozen dataclass of parameters as a JAX pytree."""
    fields = dataclasses.fields(cls)
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    fixed = tuple(f.name for f in fields if f.metadata.get("static"))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(model: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (
            tuple(getattr(model, name) for name in leaves),
            tuple(getattr(model, name) for name in fixed),
        )

    def flatten_with_keys(model: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(model)
        return tuple(zip(keys, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        # The constructor is skipped on purpose: children need not be numbers here.
        model: Any = object.__new__(cls)
        for name, value in (*zip(leaves, children, strict=True), *zip(fixed, aux, strict=True)):
            object.__setattr__(model, name, value)
        return model

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def in_double_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a model's method: numbers that are no JAX arrays are computed with in float64.

    JAX would cut them to float32 without a word where float64 is not enabled: 1e-40 would become
    zero. JAX arrays, traced ones too, and numpy arrays of lower precision are followed.
    """

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        leaves = [*jax.tree.leaves(self), *args, *kwargs.values()]
        single = any(
            isinstance(leaf, jax.Array)
            or (
                isinstance(leaf, np.ndarray | np.generic) and leaf.dtype in (np.float16, np.float32)
            )
            for leaf in leaves
            if not is_quantity(leaf)
        )
        if single or jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
            return method(self, *args, **kwargs)
        # Also while something else is traced: these numbers are known.
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            result = method(self, *args, **kwargs)
        # As numpy arrays, which JAX takes like any other.
        return jax.tree.map(lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, result)

    return call


def format_value(value: Any, unit: str = "") -> str:
    """Readable text of a parameter: ``1e-12 cm-2 s-1 TeV-1``; arrays and tracers by repr."""
    if isinstance(value, int | float | np.ndarray | jax.Array) and is_concrete(value):
        array = np.asarray(value)
        if array.ndim == 0:
            text = f"{float(array):.10g}"
        else:
            text = np.array2string(array, precision=6, threshold=8, separator=", ")
    else:
        text = repr(value)
    return f"{text} {unit}" if unit else text


class Model:
    """Base of the models: parameters by name, readable text, changed copies."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if "kind" in field.metadata:
                if field.default is None and getattr(self, field.name) is None:
                    continue
                value = to_value(getattr(self, field.name), self._unit(field), name=field.name)
                check(value, field.metadata["kind"], name=field.name)
                object.__setattr__(self, field.name, value)

    def _parameter_fields(self) -> list[dataclasses.Field[Any]]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return [f for f in fields if "kind" in f.metadata and getattr(self, f.name) is not None]

    def _unit(self, field: dataclasses.Field[Any]) -> str:
        return field.metadata["unit"]

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter values by name, in the units of the class's docstring."""
        return {f.name: getattr(self, f.name) for f in self._parameter_fields()}

    def replace(self: T, **changes: Any) -> T:
        """Return a copy with some parameters changed (quantities and strings allowed).

        Raises
        ------
        ValueError
            If a name is not a parameter or a value makes no sense.
        """
        fields = {f.name for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        if unknown := sorted(set(changes) - fields):
            raise ValueError(
                f"{type(self).__name__} has no parameter {unknown}; it has {sorted(fields)}"
            )
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def copy(self: T, **changes: Any) -> T:
        """Same as `replace`, the word gammapy uses."""
        return self.replace(**changes)

    def _parameter_dicts(self) -> list[dict[str, Any]]:
        return [
            {"name": f.name, "value": np.asarray(getattr(self, f.name)).tolist()}
            | ({"unit": self._unit(f)} if self._unit(f) else {})
            for f in self._parameter_fields()
        ]

    def __repr__(self) -> str:
        items = [
            f"{f.name}={format_value(getattr(self, f.name), self._unit(f))}"
            for f in self._parameter_fields()
        ]
        # Settings, such as the frame of a centre, where they are not the usual ones.
        items += [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if f.metadata.get("static") and getattr(self, f.name) not in ("", f.default)
        ]
        return f"{type(self).__name__}({', '.join(items)})"
