"""What is drawn of profiles that are compared: values, errors, limits and models of equal bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.plotting.points import flux_unit, fluxes, get_quantity
from jaxprof.profile import FluxProfile

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """What is drawn of a profile: values (B, G), errors (2, B, G), limits (B, G), model (B, G)."""

    profile: Any
    name: str
    values: Array
    errors: Array
    limits: Array
    model: Array | None = None

    def group(self, k: int) -> Series:
        """Of one energy group, without its axis."""
        model = None if self.model is None else self.model[:, k]
        return replace(
            self,
            values=self.values[:, k],
            errors=self.errors[..., k],
            limits=self.limits[:, k],
            model=model,
        )

    def scaled(self, scale: float) -> Series:
        """In another unit."""
        return replace(
            self,
            values=scale * self.values,
            errors=scale * self.errors,
            limits=scale * self.limits,
            model=None if self.model is None else scale * self.model,
        )


def compared_series(
    profile: Any, other: Any, sed_type: str, label: str | None, other_label: Any
) -> list[Series]:
    """The profile and the others, all in the unit of the profile and with its rule for limits.

    If one of them has no limits, all are points.
    """
    others = list(other) if isinstance(other, list | tuple) else [] if other is None else [other]
    arguments = ["other"] if len(others) == 1 else [f"other[{k}]" for k in range(len(others))]
    rule = getattr(profile, "sqrt_ts_threshold_ul", None)
    parts = [list(fluxes(profile, sed_type, threshold=rule))]
    for own, argument in zip(others, arguments, strict=True):
        if not hasattr(own, "axis"):
            raise ValueError(f"{argument} must be a FluxProfile, got {type(own).__name__}")
        parts.append(_matching(own, argument, profile, sed_type))
    every = (profile, *others)
    if any(get_quantity(one, f"{sed_type}_ul") is None for one in every):
        parts = [[y, errors, np.full_like(y, np.nan)] for y, errors, _ in parts]
    names = _names(profile, others, label, other_label)
    return [Series(one, name, *own) for one, name, own in zip(every, names, parts, strict=True)]


def with_models(
    compared: list[Series], curve: Any, other_curve: Any, sed_type: str, groups: Sequence[int]
) -> list[Series]:
    """Each with its model: `curve`, and `other_curve`, if there is one, for the others."""
    first, *others = compared
    if not others and curve is None:
        raise ValueError("other and curve are both None; give a profile or a model to compare with")
    if other_curve is not None and (not others or curve is None):
        raise ValueError(
            "other_curve is the curve of the other profile; give other= and curve= with it"
        )
    if curve is None:
        return compared
    model = _curve(curve, "curve", first.profile, sed_type, groups)
    other_model = model
    if other_curve is not None:
        other_model = _curve(other_curve, "other_curve", first.profile, sed_type, groups)
    return [replace(first, model=model), *(replace(one, model=other_model) for one in others)]


def _names(profile: Any, others: list[Any], label: str | None, other_label: Any) -> list[str]:
    """Legend entries of the profiles."""
    all_of_them = [profile, *others]
    folded = ["norm_covariance" in getattr(p, "quantities", {}) for p in all_of_them]
    words = ["Forward-folded" if one else "Backward-folded" for one in folded]
    if len(set(words)) < len(words):
        words = ["Profile", "Other"] if len(others) == 1 else ["Profile", *words[1:]]
    if len(others) > 1:
        words = [words[0], *(f"Other {k}" for k in range(1, len(others) + 1))]
    given = [other_label] if isinstance(other_label, str) else list(other_label or [])
    if given and len(given) != len(others):
        raise ValueError(f"other_label has {len(given)} entries for {len(others)} other profiles")
    return [label or words[0], *(given or words[1:])]


def _matching(other: Any, name: str, profile: Any, sed_type: str) -> list[Array]:
    """`fluxes` of another profile of the same bins, in the unit and by the rule of the first."""
    _check_same_bins(profile, other, name)
    if sed_type == "norm" and not np.allclose(other.flux_ref, profile.flux_ref, rtol=1e-3, atol=0):
        raise ValueError(
            f"{name} has norms of another reference spectrum; estimate both with the same "
            "spectral_model, or draw sed_type='flux'"
        )
    factor = (1 * u.Unit(flux_unit(other, sed_type))).to_value(flux_unit(profile, sed_type))
    rule = getattr(profile, "sqrt_ts_threshold_ul", None)
    return [factor * part for part in fluxes(other, sed_type, threshold=rule)]


def _check_same_bins(profile: Any, other: Any, name: str) -> None:
    shapes = [(len(p.axis.ref), len(p.energy_edges)) for p in (profile, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} has {shapes[1][0]} bins and {shapes[1][1]} energy groups, the profile "
            f"{shapes[0][0]} and {shapes[0][1]}; estimate both with the same regions and "
            "energy_edges"
        )
    width = np.asarray(profile.axis.max) - np.asarray(profile.axis.min)
    for end in ("min", "max"):
        off = np.asarray(getattr(other.axis, end)) - np.asarray(getattr(profile.axis, end))
        if (abs(off) > 0.01 * width).any():
            raise ValueError(f"{name} has other bins; estimate both with the same regions")
    if not np.allclose(other.energy_edges, profile.energy_edges, rtol=1e-3, atol=0):
        raise ValueError(
            f"{name} has other energy groups; estimate both with the same energy_edges"
        )


def _curve(curve: Any, name: str, profile: Any, sed_type: str, groups: Any) -> Array:
    """Model values (B, G) as in a profile; those of groups that are not drawn may be missing."""
    if isinstance(curve, FluxProfile):
        return _matching(curve, name, profile, sed_type)[0]
    unit = flux_unit(profile, sed_type)
    try:
        data = curve.to_value(unit) if isinstance(curve, u.Quantity) else curve
    except u.UnitConversionError:
        raise ValueError(
            f"{name} has the unit {curve.unit}, which is none of {sed_type!r} [{unit}]"
        ) from None
    try:
        data = np.asarray(data, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} is a {type(curve).__name__}; give a value for each bin, or the profile of a "
            "model: estimator.run(expected_dataset(dataset, model))"
        ) from None
    shape = (len(profile.axis.ref), len(profile.energy_edges))
    if data.shape == shape:
        return data
    if data.shape not in (shape[:1], (shape[0], 1)):
        raise ValueError(
            f"{name} has shape {data.shape}; give a value for each of {shape[0]} bins, or "
            f"(bins, energy groups) = {shape}"
        )
    if len(groups) > 1 and sed_type != "norm":
        raise ValueError(
            f"{name} has shape {data.shape} for {shape[1]} energy groups, which differ in "
            f"{sed_type!r}; give the shape {shape}, or choose one with group="
        )
    return np.broadcast_to(data.reshape(-1, 1), shape)
