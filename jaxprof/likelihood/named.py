"""Named parameters: what is left out is nominal, names and shapes are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def complete(
    nominal: Mapping[str, Any], params: Mapping[str, Any], what: str = "params"
) -> dict[str, Any]:
    """All parameters, those that were left out at their nominal values; shapes checked."""
    if not isinstance(params, Mapping):
        raise ValueError(
            f"{what} must be a dict of named parameters, got {type(params).__name__}; "
            "likelihood.params() has them"
        )
    try:
        return _complete(nominal, params)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _complete(nominal: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(nominal)
    for name, value in params.items():
        if name not in values:
            why = " (its energies are summed)" if name == "background_tilt" else ""
            raise ValueError(
                f"unknown {name!r}{why}; this likelihood has {', '.join(map(repr, values))}"
            )
        if isinstance(values[name], Mapping):
            values[name] = _sources(name, value, values[name])
        elif name == "spectrum":
            changed = isinstance(value, Mapping)
            own = values[name].replace(**value) if changed else value
            values[name] = _spectrum(own, np.shape(nominal["norm"]))
        else:
            values[name] = _shaped(name, value, np.shape(values[name]))
    return values


def _shaped(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """A parameter of its shape; a scalar stands for all, an axis of length one may be left out."""
    if hasattr(value, "unit"):
        raise ValueError(f"{name!r} has the unit {str(value.unit)!r}; give a number of it")
    value = jnp.asarray(value)
    if jnp.iscomplexobj(value):
        raise ValueError(f"{name!r} is complex; give real numbers")
    if value.ndim == 1 and len(shape) == 2 and shape[1] == 1 and value.shape[0] == shape[0]:
        value = value[:, None]
    if value.ndim and value.shape != shape:
        raise ValueError(f"{name!r} has shape {value.shape}; this likelihood has {shape}")
    return jnp.broadcast_to(value, shape)


def _spectrum(model: Any, shape: tuple[int, ...]) -> Any:
    """A spectral model whose parameters have shapes that are allowed."""
    if not hasattr(model, "integral"):
        raise ValueError(
            "'spectrum' must be a spectral model, or a dict of some of its parameters, "
            f"got {type(model).__name__}"
        )
    for leaf in jax.tree.leaves(model):
        if jnp.iscomplexobj(leaf):
            raise ValueError("'spectrum' has a complex parameter; give real numbers")
        own = np.shape(leaf)
        if len(own) > 2 or any(n not in (1, m) for n, m in zip(own, shape, strict=False)):
            raise ValueError(
                f"'spectrum' has a parameter of shape {own}; this likelihood takes (), "
                f"{shape[:1]} or {shape}"
            )
    return model


def _sources(parameter: str, given: Any, nominal: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        what = {"source": "norms", "source_width": "factors"}.get(parameter, "offsets")
        raise ValueError(
            f"{parameter!r} must be a dict of {what} by name, got {type(given).__name__}"
        )
    unknown = [name for name in given if name not in nominal]
    if unknown:
        raise ValueError(
            f"{parameter!r} has no source {unknown[0]!r}; there are {', '.join(map(repr, nominal))}"
        )
    return {
        name: _shaped(name, given.get(name, value), np.shape(value))
        for name, value in nominal.items()
    }
