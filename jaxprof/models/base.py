"""What spectral and spatial models share: a frozen dataclass that is a JAX pytree.

The leaves of the pytree are the parameters. Constructors strip units and check values;
JAX rebuilds models without calling the constructor, so leaves may then be tracers,
arrays with a batch axis, gradients or placeholders.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import numpy as np

from jaxprof.models.units import check, is_concrete, is_quantity, read_number, to_value

T = TypeVar("T", bound="Model")
#: A Python number, a NumPy or a JAX array: what JAX itself takes, without its complex numbers.
Real = Any


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


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
def register_model(cls: Any = None, *, kw_only: bool = True) -> Any:
    """Class decorator: a frozen dataclass of parameters that is a JAX pytree."""
    if cls is None:
        return lambda cls: register_model(cls, kw_only=kw_only)
    cls = dataclasses.dataclass(frozen=True, kw_only=kw_only, eq=False, repr=False)(cls)
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
    """Base of the models: parameters by name, readable text, changed copies, dicts.

    A family of models has a ``_kind``, the key of its dicts, and ``_by_name``, which its classes
    with a ``tag`` enter by this and by their names when they are defined.
    """

    _kind: ClassVar[str]
    _by_name: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "tag" in cls.__dict__:
            cls._by_name.update({cls.__name__: cls, cls.__dict__["tag"]: cls})

    def __post_init__(self) -> None:
        for field in self._fields():
            if "kind" in field.metadata:
                if field.default is None and getattr(self, field.name) is None:
                    continue
                value = to_value(getattr(self, field.name), self._unit(field), name=field.name)
                check(value, field.metadata["kind"], name=field.name)
                object.__setattr__(self, field.name, value)

    @classmethod
    def _fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        return dataclasses.fields(cls)  # type: ignore[arg-type]

    def _parameter_fields(self) -> list[dataclasses.Field[Any]]:
        fields = [f for f in self._fields() if "kind" in f.metadata]
        return [f for f in fields if getattr(self, f.name) is not None]

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
        fields = {f.name for f in self._fields()}
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

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of numbers and strings, in the layout of gammapy's YAML model files."""
        return {self._kind: self._dict()}

    def _dict(self) -> dict[str, Any]:
        settings = {f.name: getattr(self, f.name) for f in self._fields() if "static" in f.metadata}
        return {"type": type(self).__name__, **settings, "parameters": self._parameter_dicts()}

    @classmethod
    def _from_dict(cls: type[T], data: dict[str, Any]) -> T:
        settings = {
            f.name: data[f.name] for f in cls._fields() if "static" in f.metadata and f.name in data
        }
        # The unit of a parameter may depend on the settings.
        bare = object.__new__(cls)
        vars(bare).update(settings)
        units = {f.name: bare._unit(f) for f in cls._fields() if "kind" in f.metadata}
        values = {}
        for item in data.get("parameters", []):
            name = item["name"]
            if name not in units:
                raise ValueError(f"{cls.__name__} has no parameter {name!r}; it has {list(units)}")
            values[name] = read_number(item, "value", units[name], name=name)
        return cls(**settings, **values)

    def __repr__(self) -> str:
        items = [
            f"{f.name}={format_value(getattr(self, f.name), self._unit(f))}"
            for f in self._parameter_fields()
        ]
        # Settings, such as the frame of a centre, where they are not the usual ones.
        items += [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in self._fields()
            if f.metadata.get("static") and getattr(self, f.name) not in ("", f.default)
        ]
        return f"{type(self).__name__}({', '.join(items)})"


class PairOfModels(Model):
    """What sums and products share: parameters of two models by the names of both sides."""

    model1: Any
    model2: Any

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter values named ``model1.<name>`` and ``model2.<name>``."""
        return self._of_both(lambda model: model.parameters)

    def _of_both(self, named: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Values by the names of their side and their own."""
        sides = {"model1": self.model1, "model2": self.model2}
        return {
            f"{side}.{name}": value
            for side, model in sides.items()
            for name, value in named(model).items()
        }

    def replace(self: T, **changes: Any) -> T:
        """Return a copy with some parameters changed, ``replace(**{"model1.alpha": 2.0})``.

        Raises
        ------
        ValueError
            If a name is not a parameter or a value makes no sense.
        """
        own = {name: value for name, value in changes.items() if "." not in name}
        inner: dict[str, dict[str, Any]] = {}
        for name in set(changes) - set(own):
            side, _, rest = name.partition(".")
            if side not in ("model1", "model2"):
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has "
                    f"{sorted(self.parameters)}"
                )
            inner.setdefault(side, {})[rest] = changes[name]
        for side, values in inner.items():
            own[side] = own.get(side, getattr(self, side)).replace(**values)
        return super().replace(**own)  # type: ignore[misc]

    def _dict(self) -> dict[str, Any]:
        return {
            "type": type(self).__name__,
            "model1": self.model1._dict(),
            "model2": self.model2._dict(),
        }
