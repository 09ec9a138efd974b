"""The problem of a joint fit: datasets with their response, in energy groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.backgrounds import BackgroundOption, check_backgrounds
from jaxprof.reduce.joint.response import DatasetResponse, ForwardResponse, usable_mask
from jaxprof.sky.closed import wrapped
from jaxprof.types import Array

SEEN = 0.5
"""Bins without a pixel's centre are seen if this part of their flux starts in pixels in use."""


@dataclass(frozen=True)
class Group:
    """Energy group of a joint fit."""

    bins: list[slice]
    """Reconstructed energies of the group in each dataset."""
    edges: tuple[float, float]
    """Edges of the group [TeV]."""


def make_groups(edge_indices: Sequence[Array], edges_tev: Array) -> list[Group]:
    """Groups from the indices of their edges, (G + 1,) for each dataset."""
    return [
        Group(
            bins=[slice(int(own[g]), int(own[g + 1])) for own in edge_indices],
            edges=(float(edges_tev[g]), float(edges_tev[g + 1])),
        )
        for g in range(len(edges_tev) - 1)
    ]


@dataclass(frozen=True, kw_only=True)
class JointModel:
    """What a joint fit varies, and how counts enter it."""

    norm_bounds: tuple[float | None, float | None]
    """Bounds of the norms of bins and guard bins; None for no bound."""
    backgrounds: tuple[BackgroundOption, ...]
    """One for each dataset."""
    free_spectral_parameters: tuple[str, ...] = ()
    """Spectral parameters of the bins that are fitted."""
    smoothness: float = 0.0
    """Strength of the penalty on second differences of neighbouring norms."""
    likelihood: str = "pixel"
    """Whether pixels are Poisson terms, or sums over disjoint regions, "pixel" or "region"."""
    sum_over_energy_groups: bool = False
    """Whether the energies of a group are summed."""

    @property
    def tilted(self) -> bool:
        """Whether the tilt of any background is fitted."""
        return any(own.tilt != "fixed" for own in self.backgrounds)

    @property
    def per_pixel(self) -> bool:
        """Whether pixels may have counts bins of their own."""
        return self.likelihood == "pixel"

    @property
    def merged_across_energies(self) -> bool:
        """Whether merged pixels are of all energies, which a tilt changes differently.

        Spectra that are fitted may be negative at some energies only, where single pixels would
        not stay positive; and a counts bin of one energy sees few true energies.
        """
        return self.per_pixel and not self.tilted and not self.free_spectral_parameters


@dataclass(frozen=True)
class JointProblem:
    """Datasets with their response, and what is fitted to them."""

    datasets: tuple[MapDataset, ...]
    """Counts and backgrounds."""
    response: ForwardResponse
    """Their response."""
    groups: tuple[Group, ...]
    """The energy groups."""
    model: JointModel
    """What is fitted."""
    coverage: Array
    """Part of each bin's flux that starts in a pixel in use, (B, G)."""
    in_use: Array
    """Bins, and guard bins after them, that pixels in use lie in, (R, G)."""

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return self.response.components.n_bins

    def background_widths(self) -> dict[str, float]:
        """Widths of the constraints of background norms, of the datasets that have one."""
        options = zip(self.datasets, self.model.backgrounds, strict=True)
        return {data.name: own.norm for data, own in options if not isinstance(own.norm, str)}

    def pairs(self) -> Iterator[tuple[MapDataset, DatasetResponse]]:
        """Each dataset with its response."""
        return zip(self.datasets, self.response.datasets, strict=True)


def joint_problem(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    groups: Sequence[Group],
    model: JointModel,
) -> JointProblem:
    """Put a joint fit together.

    Raises
    ------
    ValueError
        For backgrounds that are to be fitted and cannot be.
    """
    check_backgrounds(datasets, model.backgrounds, model.sum_over_energy_groups)
    coverage = flux_coverage(datasets, response, groups)
    return JointProblem(
        datasets=tuple(datasets),
        response=response,
        groups=tuple(groups),
        model=model,
        coverage=coverage[: response.components.n_bins],
        in_use=bins_in_use(coverage, response, groups),
    )


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
