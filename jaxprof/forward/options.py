"""Checks of the options of the forward-folding estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprof.models import SkyModel
from jaxprof.options import checked_spectral_model


def bin_models(models: list[Any] | None, n_bins: int) -> list[Any] | None:
    """One checked model a bin, or None for the same everywhere."""
    if models is None:
        return None
    if len(models) != n_bins:
        raise ValueError(
            f"spectral_model is a list of {len(models)}; give one for each of the {n_bins} regions"
        )
    return [checked_spectral_model(model) for model in models]


def source_list(sources: Any) -> list[SkyModel]:
    """The sources as a list, with different names."""
    found = [sources] if isinstance(sources, SkyModel) else list(sources or ())
    for source in found:
        if not isinstance(source, SkyModel):
            raise ValueError(
                f"sources must be SkyModel objects, found {type(source).__name__}; make one with "
                "SkyModel(spectral_model=..., spatial_model=...)"
            )
    names = [source.name for source in found]
    if len(set(names)) != len(names):
        raise ValueError(f"sources must have different names, got {names}; set name=")
    return found


def free_names(free_index: bool, names: Sequence[str], models: list[Any]) -> tuple[str, ...]:
    """Names of the spectral parameters to fit, checked against the models."""
    found = [names] if isinstance(names, str) else list(names)
    if free_index and "index" not in found:
        found.insert(0, "index")
    if found and len({type(model) for model in models}) > 1:
        raise ValueError(
            "spectral_model: free spectral parameters need models of one class in all bins"
        )
    for name in found:
        if name not in getattr(models[0], "parameters", {}) or name in ("amplitude", "reference"):
            known = [
                n
                for n in getattr(models[0], "parameters", {})
                if n not in ("amplitude", "reference")
            ]
            raise ValueError(
                f"free_spectral_parameters: {type(models[0]).__name__} has no parameter {name!r} "
                f"to fit; it has {', '.join(map(repr, known)) or 'none'}"
            )
    return tuple(found)


def not_negative(name: str, value: float) -> float:
    """A number that is not negative."""
    if not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a number that is not negative, got {value!r}")
    return float(value)


def checked_subpixels(value: int | None) -> int | None:
    """A number of parts, or None."""
    if value not in (None, 1, 2, 3, 4):
        raise ValueError(
            f"subpixels must be 1, 2, 3 or 4, or None for a good choice, got {value!r}"
        )
    return value
