"""Energy groups: requested edges on the energy axes of datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.maps import MapAxis

Array = NDArray[Any]


def snap_energy_edges(energy_edges: u.Quantity, axis: MapAxis) -> Array:
    """Indices of the axis edges that are nearest, in log energy, to the requested ones.

    Parameters
    ----------
    energy_edges : Quantity, shape (G + 1,)
        Edges of the energy groups, increasing.
    axis : MapAxis
        Reconstructed-energy axis.

    Returns
    -------
    indices : ndarray of int, shape (G + 1,)
        Indices into ``axis.edges``.

    Raises
    ------
    ValueError
        If two requested edges fall on the same edge of the axis, so that a group is empty.
    """
    log_axis = np.log(axis.edges_tev())
    log_edges = np.log(energy_edges.to_value("TeV"))
    indices = np.abs(log_edges[:, np.newaxis] - log_axis).argmin(axis=1)
    empty = np.flatnonzero(np.diff(indices) <= 0)
    if len(empty):
        low, high = energy_edges[empty[0]], energy_edges[empty[0] + 1]
        span = axis.edges.to(energy_edges.unit)
        raise ValueError(
            f"energy_edges: no energy bin of the data lies between {low:g} and {high:g}; the data "
            f"have {axis.nbin} bins from {span[0]:g} to {span[-1]:g}"
        )
    return indices


def same_edges(first: MapAxis, indices: Array, other: MapAxis, edges: Array, name: str) -> None:
    """Raise unless a dataset's snapped edges are those of the first dataset."""
    expected, got = first.edges_tev()[indices], other.edges_tev()[edges]
    if not np.allclose(expected, got, rtol=1e-6):
        raise ValueError(
            f"energy_edges: dataset {name!r} has its nearest edges at {got} TeV, the first dataset "
            f"at {expected} TeV; choose edges that all datasets share"
        )
