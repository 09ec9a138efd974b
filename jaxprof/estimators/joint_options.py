"""Checks of the options of the forward-folding estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxprof.estimators.options import checked_spectral_model, is_integer, is_number
from jaxprof.foreign import gammapy_class
from jaxprof.models.spatial import PointSpatialModel
from jaxprof.reduce.joint.backgrounds import background_option
from jaxprof.reduce.joint.emission import template_model
from jaxprof.reduce.joint.guards import guard_regions
from jaxprof.sky.models import SkyModel, as_spatial_model, sky_model_from_gammapy
from jaxprof.sky.regions import region_list


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
    one = isinstance(sources, SkyModel) or gammapy_class(sources) == "SkyModel"
    found = [
        sky_model_from_gammapy(source) if gammapy_class(source) == "SkyModel" else source
        for source in ([sources] if one else [] if sources is None else sources)
    ]
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


def guard_list(guard_bins: Any, regions: list[Any]) -> list[Any]:
    """Guard bins as regions, from their number at each end or as they were given."""
    if is_integer(guard_bins):
        if guard_bins < 0:
            raise ValueError(f"guard_bins must not be negative, got {guard_bins}")
        return guard_regions(regions, int(guard_bins)) if guard_bins else []
    is_list = hasattr(guard_bins, "__len__") and not hasattr(guard_bins, "unit")
    if is_list and not isinstance(guard_bins, str):
        return region_list(guard_bins) if len(guard_bins) else []
    raise ValueError(
        "guard_bins must be the number of bins beyond each end or a list of sky regions, got "
        f"{guard_bins!r}"
    )


def checked_template(template: Any) -> Any:
    """Something that tells the brightness within bins; points may be in lists only."""
    many = isinstance(template, list | tuple)
    template = [as_spatial_model(x) for x in template] if many else as_spatial_model(template)
    for number, item in enumerate(template if many else [template]):
        if not (many and isinstance(item, PointSpatialModel)):
            template_model(item, f"template[{number}]" if many else "template")
    return template


def checked_background(option: Any) -> Any:
    """Something that `background_options` takes, whatever the datasets are called."""
    named = isinstance(option, Mapping) and not set(option) <= {"norm", "tilt"}
    items = option.values() if named else option if isinstance(option, list | tuple) else [option]
    for item in items:
        background_option(item)
    return option


def checked_oversampling(value: Any) -> int:
    """A number of sub-pixels."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"oversampling must be an integer of one or more, got {value!r}")
    return int(value)


def free_names(names: Sequence[str], models: list[Any]) -> tuple[str, ...]:
    """Names of the spectral parameters to fit, checked against the models."""
    if not isinstance(names, str | list | tuple) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"free_spectral_parameters must be a list of names, got {names!r}")
    found = [names] if isinstance(names, str) else list(names)
    if found and len({type(model) for model in models}) > 1:
        raise ValueError(
            "spectral_model: free spectral parameters need models of one class in all bins"
        )
    fixed = ("amplitude", "reference", "energy", "values", "const")
    parameters = getattr(models[0], "parameters", {})
    known = [name for name in parameters if name.rpartition(".")[2] not in fixed]
    for name in found:
        if name not in known:
            raise ValueError(
                f"free_spectral_parameters: {type(models[0]).__name__} has no parameter {name!r} "
                f"to fit; it has {', '.join(map(repr, known)) or 'none'}"
            )
    return tuple(found)


def check_free_energies(names: Sequence[str], n_energies: Sequence[int], summed: bool) -> None:
    """Raise a ValueError for spectral parameters that no energies could tell.

    ``n_energies`` counts the reconstructed energies of each group.
    """
    if names and (summed or min(n_energies) < 2):
        group = 0 if summed else int(np.argmin(n_energies))
        cause = "sum_over_energy_groups=True" if summed else f"energy group {group}"
        raise ValueError(
            f"free_spectral_parameters: {cause} leaves one energy, which does not tell "
            f"{', '.join(map(repr, names))}; give groups of two or more energy bins, or fix it"
        )


def not_negative(name: str, value: float) -> float:
    """A number that is not negative."""
    if not is_number(value) or not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a number that is not negative, got {value!r}")
    return float(value)


def checked_subpixels(value: int | None) -> int | None:
    """A number of degrees of the moments within a pixel, or None."""
    if value is not None and not (is_integer(value) and 1 <= value <= 4):
        raise ValueError(
            f"subpixels must be 1, 2, 3 or 4, or None for a good choice, got {value!r}"
        )
    return None if value is None else int(value)
