"""Checks of what a flux profile is made of, and of what is selected from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxprof.core.data import Data, OnOffData, ProfileData, blocks
from jaxprof.profile.limits import map_data
from jaxprof.profile.quantities import Array


def check_edges(energy_edges: Any) -> Array:
    """Edges of the groups as float64, positive and increasing."""
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
                f"be (bins, energy groups) = {shape}, a third counts slots"
            )
    return arrays


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
