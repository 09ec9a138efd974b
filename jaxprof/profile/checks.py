"""Checks of what a flux profile is made of, and of what is selected from it."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from jaxprof.likelihood.data import Data, OnOffData, ProfileData, blocks
from jaxprof.profile.limits import map_data
from jaxprof.profile.printed import WholeTable
from jaxprof.profile.quantities import Array, is_quantity_of
from jaxprof.sky.models import as_spectral_model

#: Columns of the table of parameters that were fitted together with the norms.
NUISANCE = {
    "group": int,
    "dataset": str,
    "parameter": str,
    "value": float,
    "error": float,
    "fixed": bool,
}
#: Columns of the table that compares the statistic with its expectation.
GOODNESS = {
    "stat": float,
    "expected": float,
    "std": float,
    "n_counts_bins": int,
    "n_free": int,
    "z": float,
}

_SCALED = "in the profile would stay those of {old}; estimate again with another {name}"
_MADE_OF = "what follows from it would stay as it is; make a new FluxProfile"
#: Attributes of a profile that cannot be set later, and why.
FIXED = {
    "n_sigma": f"errors {_SCALED}",
    "n_sigma_ul": "upper limits in the profile would stay those of {old}; "
    "profile.recompute_ul(n_sigma_ul=...) is a profile with others",
    "n_sigma_sensitivity": f"sensitivities {_SCALED}",
    "shape": _MADE_OF,
    "energy_edges": _MADE_OF,
    "quantities": _MADE_OF,
    "reference": _MADE_OF,
    "reference_model": _MADE_OF,
    "reference_models": _MADE_OF,
}


FORMATS = ("profile",)


def check_format(format: str) -> str:
    """Return the format if it is one of `FORMATS`, else raise ValueError."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; valid are {', '.join(map(repr, FORMATS))}")
    return format


def refuse_fixed(name: str, state: dict[str, Any]) -> None:
    """Raise an AttributeError for an attribute of a profile that other values follow from.

    Parameters
    ----------
    name : str
        The attribute that is to be set.
    state : dict
        The attributes that the profile has already.
    """
    if name in FIXED and name in state:
        reason = FIXED[name].format(name=name, old=f"{name}={state[name]}")
    elif name != "is_ul" and is_quantity_of(name, state.get("quantities", {})):
        reason = "it is one of its quantities, and others follow from it; make a new FluxProfile"
    else:
        return
    raise AttributeError(f"{name} of a profile cannot be set: {reason}")


def check_threshold(value: Any) -> float:
    """A number that ``sqrt_ts`` is compared with."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or np.isnan(value):
        raise ValueError(f"sqrt_ts_threshold_ul must be a number, got {value!r}")
    return value


def check_edges(energy_edges: Any) -> Array:
    """Edges of the groups [TeV] as float64, positive and increasing; quantities are converted."""
    if isinstance(energy_edges, u.Quantity):
        try:
            energy_edges = energy_edges.to_value("TeV")
        except u.UnitConversionError as error:
            raise ValueError(f"energy_edges must be energies: {error}") from None
    edges = np.asarray(energy_edges, dtype=float)
    if edges.ndim != 2 or edges.shape[1] != 2 or not len(edges):
        raise ValueError(
            f"energy_edges has shape {edges.shape}; give a lower and an upper edge for each of G "
            "groups, shape (G, 2)"
        )
    flat = edges.ravel()
    if not (np.isfinite(flat).all() and (flat > 0).all() and (edges[:, 0] < edges[:, 1]).all()):
        raise ValueError(f"energy_edges must be positive, lower before upper, got {edges.tolist()}")
    return edges


def check_energy_unit(unit: Any) -> str | None:
    """A unit of energies by its name, or None."""
    if unit is None:
        return None
    try:
        found = u.Unit(unit)
        # Not of some number of a unit, such as "1e3 GeV".
        known = found.is_equivalent("TeV") and getattr(found, "scale", 1.0) == 1.0
    except (ValueError, TypeError):
        known = False
    if not known:
        raise ValueError(f"energy_unit must be one of energies, such as 'GeV', got {unit!r}")
    return str(found.to_string())


def check_data(data: Data | None, shape: tuple[int, int]) -> Data | None:
    """Likelihood data as numpy arrays of the profile's shape."""
    if data is None:
        return None
    for block in blocks(data):
        if not isinstance(block, ProfileData | OnOffData):
            raise ValueError(
                "likelihood_data must be ProfileData, OnOffData or a tuple of these, "
                f"not {type(block).__name__}"
            )
    arrays = map_data(np.asarray, data)
    assert arrays is not None
    for block in blocks(arrays):
        if block.npred_ref.ndim != 3 or block.npred_ref.shape[:2] != shape:
            raise ValueError(
                f"likelihood_data has arrays of shape {block.npred_ref.shape}; the first axes must "
                f"be (bins, energy groups) = {shape}, a third counts counts bins"
            )
    return arrays


def check_models(models: Any, n_bins: int, name: str = "reference_models") -> list[Any] | None:
    """One spectral model a bin, or None."""
    if models is None:
        return None
    found = [as_spectral_model(model) for model in models]
    if len(found) != n_bins:
        raise ValueError(f"{name} are {len(found)}; give one a bin, {n_bins}")
    return found


def check_reference(reference: dict[str, Array], shape: tuple[int, int]) -> dict[str, Array]:
    """Reference fluxes of all bins, (G,), or of each, (B, G): the same for all of them."""
    for name, flux in reference.items():
        if flux.ndim == 2 and flux.shape != shape:
            raise ValueError(
                f"reference flux {name!r} has shape {flux.shape}; it must be {shape[1:]} or {shape}"
            )
    if all(flux.ndim == 1 for flux in reference.values()):
        return reference
    return {name: np.broadcast_to(flux, shape).copy() for name, flux in reference.items()}


DIGITS = {
    "value": ".4g",
    "error": ".2g",
    "stat": ".1f",
    "expected": ".1f",
    "std": ".1f",
    "n_counts_bins": ".0f",
    "z": ".2f",
}
"""How the columns of nuisance parameters and goodness of fit are printed."""


def check_nuisance(table: Table | None, n_groups: int) -> Table | None:
    """A copy with the columns `NUISANCE`, without meta, or None."""
    found = _with_columns("nuisance", table, NUISANCE)
    if found is not None:
        group = np.asarray(found["group"])
        if ((group < 0) | (group >= n_groups)).any():
            raise ValueError(
                f"nuisance has groups {sorted(set(group.tolist()))}; there are {n_groups}, "
                "counted from 0"
            )
    return found


def check_goodness(table: Table | None, n_groups: int) -> Table | None:
    """A copy with the columns `GOODNESS`, a row for each energy group, without meta, or None."""
    found = _with_columns("goodness", table, GOODNESS)
    if found is not None and len(found) != n_groups:
        raise ValueError(f"goodness has {len(found)} rows; give one an energy group, {n_groups}")
    return found


def _with_columns(name: str, table: Any, columns: dict[str, type]) -> Table | None:
    """A copy with columns of these types, which come first; others stay as they are."""
    if table is None:
        return None
    if not isinstance(table, Table):
        raise ValueError(f"{name} must be an astropy Table, not {type(table).__name__}")
    if missing := [column for column in columns if column not in table.colnames]:
        raise ValueError(f"{name} has no column {', '.join(missing)}; it has {table.colnames}")
    found = WholeTable()
    for column in [*columns, *(other for other in table.colnames if other not in columns)]:
        data = np.asarray(table[column])
        try:
            found[column] = data.astype(columns.get(column, data.dtype))
        except ValueError as error:
            raise ValueError(f"{name}: column {column!r}: {error}") from error
        # For printing; a file has all digits.
        found[column].info.format = DIGITS.get(column, table[column].info.format)
        found[column].unit = table[column].unit
    return found


def selected_indices(name: str, selection: Any, size: int) -> Array:
    """Positive indices that a slice, a list of integers or a mask selects."""
    if isinstance(selection, int | np.integer) and not isinstance(selection, bool):
        raise ValueError(
            f"slices[{name!r}] is the integer {selection}, which would drop the axis; "
            f"use slice({selection}, {int(selection) + 1})"
        )
    if not isinstance(selection, slice):
        selection = np.asarray(selection)
        if selection.ndim != 1 or selection.dtype.kind not in "iub":
            raise ValueError(
                f"slices[{name!r}] must be a slice, a list of integers or a mask of {size} booleans"
            )
    try:
        chosen = np.arange(size)[selection]
    except IndexError as error:
        raise ValueError(f"slices[{name!r}] does not fit {size} bins: {error}") from error
    if not chosen.size:
        raise ValueError(f"slices[{name!r}] selects nothing of {size} bins")
    return chosen
