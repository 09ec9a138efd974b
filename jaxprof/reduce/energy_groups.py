"""Energy groups: requested edges on the energy axes of datasets."""

from __future__ import annotations

import numpy as np
from astropy import units as u

from jaxprof.sky import MapAxis
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

MAX_MOVE = 1 / 3
"""Part of a bin, in log energy, by which edges of groups may move without a warning."""
_END = 1e-3  # of a bin; less beyond the end of the data is rounding


def snap_energy_edges(energy_edges: u.Quantity, axis: MapAxis) -> Array:
    """Indices (G + 1,) of the axis edges that are nearest, in log energy, to the requested ones.

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


def warn_moved_edges(energy_edges: u.Quantity, axis: MapAxis, indices: Array) -> None:
    """Warn of edges that moved by more than a third of a bin, or were cut at an end of the data.

    The ``indices`` of those that are used are from `snap_energy_edges`.
    """
    log_axis, log_edges = np.log(axis.edges_tev()), np.log(energy_edges.to_value("TeV"))
    # The bin that each edge lies in; the first or last one beyond the ends.
    width = np.diff(log_axis)
    width = width[np.clip(np.searchsorted(log_axis, log_edges) - 1, 0, len(width) - 1)]
    cut = (log_edges < log_axis[0] - _END * width) | (log_edges > log_axis[-1] + _END * width)
    moved = ~cut & (np.abs(log_edges - log_axis[indices]) > MAX_MOVE * width)
    if not (cut | moved).any():
        return
    edges = axis.edges.to_value(energy_edges.unit)
    parts = [f"the data range from {edges[0]:.4g} to {edges[-1]:.4g}"] * bool(cut.any())
    parts += ["edges move to the nearest ones of the data"] * bool(moved.any())
    asked, used = (
        ", ".join(f"{edge:.4g}" for edge in values)
        for values in (energy_edges.value, edges[indices])
    )
    unit = energy_edges.unit.to_string()
    warn_user(f"energy_edges: asked for {asked} {unit}, used {used} {unit}: {'; '.join(parts)}")


def same_edges(first: MapAxis, indices: Array, other: MapAxis, edges: Array, name: str) -> None:
    """Raise unless a dataset's snapped edges are those of the first dataset."""
    expected, got = first.edges_tev()[indices], other.edges_tev()[edges]
    if not np.allclose(expected, got, rtol=1e-6):
        raise ValueError(
            f"energy_edges: dataset {name!r} has its nearest edges at {got} TeV, the first dataset "
            f"at {expected} TeV; choose edges that all datasets share"
        )


def log_energies(axis: MapAxis, bins: slice) -> Array:
    """Logarithm of the energies of a group over their mean, shape (E,)."""
    log_edges = np.log(axis.edges_tev())[bins.start : bins.stop + 1]
    return 0.5 * (log_edges[1:] + log_edges[:-1]) - 0.5 * (log_edges[0] + log_edges[-1])
