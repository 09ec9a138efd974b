"""Energy groups of joint fits, and which bins are seen in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.response import ForwardResponse, usable_mask
from jaxprof.sky.closed import wrapped

Array = NDArray[Any]

SEEN = 0.5
"""Bins without a pixel's centre are seen if this part of their flux starts in pixels in use."""


@dataclass(frozen=True)
class Group:
    """Energy group of a joint fit.

    Attributes
    ----------
    bins : list of slice
        Reconstructed energies of the group in each dataset.
    width : int
        Number of energies that the groups are padded to.
    edges : tuple of float
        Edges of the group [TeV].
    """

    bins: list[slice]
    width: int
    edges: tuple[float, float]


def make_groups(edge_indices: Sequence[Array], edges_tev: Array) -> list[Group]:
    """Groups from the indices of their edges, (G + 1,) for each dataset."""
    width = max(int(np.diff(indices).max()) for indices in edge_indices)
    return [
        Group(
            bins=[slice(int(own[g]), int(own[g + 1])) for own in edge_indices],
            width=width,
            edges=(float(edges_tev[g]), float(edges_tev[g + 1])),
        )
        for g in range(len(edges_tev) - 1)
    ]


def flux_coverage(
    datasets: Sequence[MapDataset], response: ForwardResponse, groups: Sequence[Group]
) -> Array:
    """Part of the flux of each bin and guard bin that starts in a pixel in use, (R, G)."""
    n_regions = response.components.n_regions
    parts = []
    for number, (dataset, own) in enumerate(zip(datasets, response.datasets, strict=True)):
        usable = usable_mask(dataset)
        n_e, ny, nx = usable.shape
        share = np.zeros((n_regions, n_e))
        for index, emission in enumerate(own.emissions[:n_regions]):
            h, w = emission.weights.shape
            y0, y1 = max(emission.y0, 0), min(emission.y0 + h, ny)
            x = wrapped(emission.x0 + np.arange(w), dataset.geom.turn)
            on_map = (x >= 0) & (x < nx)
            if y1 > y0 and on_map.any():
                used = np.zeros((n_e, h, w))
                used[:, y0 - emission.y0 : y1 - emission.y0, on_map] = usable[:, y0:y1, x[on_map]]
                # Over a sum in the same order: exactly one if nothing is cut.
                whole = (np.ones_like(used) * emission.weights).sum(axis=(1, 2))
                share[index] = (used * emission.weights).sum(axis=(1, 2)) / whole
        parts.append(
            np.stack([share[:, group.bins[number]].mean(axis=1) for group in groups], axis=1)
        )
    return np.mean(parts, axis=0)


def bins_in_use(coverage: Array, response: ForwardResponse, groups: Sequence[Group]) -> Array:
    """Bins and guard bins that pixels in use lie in, (R, G): others have nothing but leakage.

    The centre of a pixel tells; bins so narrow that they hold none are seen if most of their flux
    starts in pixels in use.
    """
    found = coverage > SEEN
    for number, group in enumerate(groups):
        for own, bins in zip(response.datasets, group.bins, strict=True):
            used = own.mask[bins].any(axis=(0, 2))
            found[:, number] |= own.disjoint.members[used, : len(found)].any(axis=0)
    return found
