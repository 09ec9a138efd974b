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

    Raises
    ------
    ValueError
        If the nodes do not increase, are not positive, or none of the centres is between them.

    Warns
    -----
    UserWarning
        If there are no nodes where there are centres.
    """
    values = np.asarray(values, dtype=np.float64)
    centers = axis.center_tev()
    edges = axis.edges_tev()
    if not (len(nodes) and nodes[0] > 0 and np.all(np.diff(nodes) > 0) and nodes[-1] < np.inf):
        raise ValueError(f"the energies of {what} must be positive and differ, got {nodes} TeV")
    if centers[-1] < nodes[0] * (1 - BEYOND) or centers[0] > nodes[-1] * (1 + BEYOND):
        raise ValueError(
            f"{what} is known from {nodes[0]:.4g} to {nodes[-1]:.4g} TeV, and the energies in use "
            f"are {edges[0]:.4g} to {edges[-1]:.4g} TeV: is it of other data?"
        )
    if centers[0] < nodes[0] * (1 - BEYOND):
        _warn(what, "from", nodes[0], edges[0])
    if centers[-1] > nodes[-1] * (1 + BEYOND):
        _warn(what, "up to", nodes[-1], edges[-1])
    at = np.interp(np.log(centers), np.log(nodes), np.arange(len(nodes)))
    left = np.minimum(at.astype(int), max(len(nodes) - 2, 0))
    right = np.minimum(left + 1, len(nodes) - 1)
    weight = (at - left).reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - weight) + values[right] * weight


def _warn(what: str, since: str, node: float, edge: float) -> None:
    warn_user(
        f"{what} is known {since} {node:.4g} TeV, and taken to be the same beyond, where the "
        f"energies in use reach to {edge:.4g} TeV"
    )


def between(nodes: NDArray[Any]) -> MapAxis:
    """Axis "energy_true" [TeV] of the bins between nodes [TeV]."""
    return MapAxis.from_edges(nodes, name="energy_true", unit="TeV", interp="log")
