"""Fluxes that norms of one stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxprof.models.spectral import SpectralModel
from jaxprof.profile.quantities import SOLID_ANGLES
from jaxprof.types import Array


def reference_fluxes(model: Any, energy_edges: Array) -> dict[str, Array]:
    """Fluxes of the reference model in every energy group.

    Parameters
    ----------
    model : SpectralModel
        Called with energies in TeV.
    energy_edges : ndarray, shape (G, 2)
        Edges of the groups in TeV.

    Returns
    -------
    reference : dict of ndarray, shape (G,)
        "dnde", "e2dnde", "flux" and "eflux" in the units of `UNITS`; the first two at the
        geometric mean of the edges. In float64 whatever JAX's global setting.
    """
    low, high = energy_edges.T
    with jax.enable_x64(True):
        if isinstance(model, SpectralModel):
            return with_e2dnde(model.bin_fluxes(low, high), energy_edges)
        fluxes = {
            "dnde": model(np.sqrt(low * high)),
            "flux": model.integral(low, high),
            "eflux": model.energy_flux(low, high),
        }
        return with_e2dnde(fluxes, energy_edges)


def bin_references(models: list[Any], energy_edges: Array) -> dict[str, Array]:
    """Fluxes at norm one of a model for each bin, (B, G); see `reference_fluxes`."""
    known: dict[int, dict[str, Array]] = {}
    for model in models:
        if id(model) not in known:
            known[id(model)] = reference_fluxes(model, energy_edges)
    rows = [known[id(model)] for model in models]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def with_e2dnde(reference: Mapping[str, Any], energy_edges: Array) -> dict[str, Array]:
    """Complete reference fluxes by ``E**2 dN/dE``, and check their shapes."""
    n_groups = len(energy_edges)
    values = {}
    for name in ("dnde", "flux", "eflux"):
        values[name] = np.asarray(reference[name], dtype=float)
        if values[name].ndim not in (1, 2) or values[name].shape[-1] != n_groups:
            raise ValueError(
                f"reference flux {name!r} has shape {values[name].shape}; "
                f"give one value for each of the {n_groups} energy groups, or (bins, groups)"
            )
    values["e2dnde"] = values["dnde"] * energy_edges[:, 0] * energy_edges[:, 1]
    return values


def with_surface_brightness(
    reference: Mapping[str, Array], stored: Mapping[str, Array], solid_angle: str
) -> dict[str, Array]:
    """Complete fluxes at norm one by the flux over the solid angle that it is the flux of, (B, G).

    It stays out where that solid angle is not known. A region without any has NaN.
    """
    found = {name: flux for name, flux in reference.items() if name != "surface_brightness"}
    size = stored.get(SOLID_ANGLES[solid_angle])
    if size is not None:
        size = np.where(size > 0, size, np.nan)[:, None]
        found["surface_brightness"] = found["flux"] / size
    return found


def check_solid_angle(name: str) -> str:
    """Return the name of a solid angle if it is one of `SOLID_ANGLES`, else raise ValueError."""
    if name not in SOLID_ANGLES:
        valid = ", ".join(map(repr, SOLID_ANGLES))
        raise ValueError(f"reference_solid_angle is {name!r}; valid are {valid}")
    return name
