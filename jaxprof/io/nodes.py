"""Responses of files that give them at energies, on bins of true energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.sky import MapAxis
from jaxprof.user_warning import warn_user

BEYOND = 0.01
"""Part of an energy by which nodes may fail to reach it without a warning."""


def at_energies(values: Any, nodes: NDArray[Any], axis: MapAxis, what: str) -> NDArray[np.float64]:
    """Values at the centres of the bins of an axis.

    Parameters
    ----------
    values : array_like
        Shape ``(n, ...)``.
    nodes : ndarray, shape (n,)
        Their energies [TeV], increasing.
    axis : MapAxis
        Energy axis of m bins.
    what : str
        What they are, for the warning.

    Returns
    -------
    found : ndarray, shape (m, ...)
        Linear in the logarithm of the energy, as in gammapy and gammalib; beyond the nodes those of
        the first or last one.

    Warns
    -----
    UserWarning
        If there are no nodes where there are centres.
    """
    values = np.asarray(values, dtype=np.float64)
    centers = axis.center_tev()
    edges = axis.edges_tev()
    if edges[0] < nodes[0] * (1 - BEYOND) and centers[0] < nodes[0] * (1 - BEYOND):
        _warn(what, "first", nodes[0], edges[0])
    if edges[-1] > nodes[-1] * (1 + BEYOND) and centers[-1] > nodes[-1] * (1 + BEYOND):
        _warn(what, "last", nodes[-1], edges[-1])
    at = np.interp(np.log(centers), np.log(nodes), np.arange(len(nodes)))
    left = np.minimum(at.astype(int), max(len(nodes) - 2, 0))
    right = np.minimum(left + 1, len(nodes) - 1)
    weight = (at - left).reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - weight) + values[right] * weight


def _warn(what: str, which: str, node: float, edge: float) -> None:
    warn_user(
        f"{what} is known from or up to its {which} energy, {node:.4g} TeV, and taken to be the "
        f"same beyond, where the energies in use go on to {edge:.4g} TeV"
    )


def between(nodes: NDArray[Any]) -> MapAxis:
    """Axis "energy_true" [TeV] of the bins between nodes [TeV]."""
    return MapAxis.from_edges(nodes, name="energy_true", unit="TeV", interp="log")
