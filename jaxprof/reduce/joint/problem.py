"""The problem of a joint fit: datasets with their response, and their counts bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.reduce.joint.backgrounds import BackgroundOption, check_backgrounds
from jaxprof.reduce.joint.bins import batch_size, n_batches
from jaxprof.reduce.joint.counts import (
    cash_bins,
    cash_block,
    cash_origins,
    on_off_block,
    on_off_origins,
)
from jaxprof.reduce.joint.groups import Group, bins_in_use, flux_coverage
from jaxprof.reduce.joint.response import DatasetResponse, ForwardResponse

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class JointModel:
    """What a joint fit varies, and how counts enter it.

    Attributes
    ----------
    norm_bounds : tuple of float or None
        Bounds of the norms of bins and guard bins; None for no bound.
    backgrounds : tuple of BackgroundOption
        One for each dataset.
    free_spectral_parameters : tuple of str
        Spectral parameters of the bins that are fitted.
    smoothness : float
        Strength of the penalty on second differences of neighbouring norms.
    likelihood : {"pixel", "region"}
        Whether pixels are Poisson terms, or sums over disjoint regions.
    sum_over_energy_groups : bool
        Whether the energies of a group are summed.
    """

    norm_bounds: tuple[float | None, float | None]
    backgrounds: tuple[BackgroundOption, ...]
    free_spectral_parameters: tuple[str, ...] = ()
    smoothness: float = 0.0
    likelihood: str = "pixel"
    sum_over_energy_groups: bool = False

    @property
    def tilted(self) -> bool:
        """Whether the tilt of any background is fitted."""
        return any(own.tilt != "fixed" for own in self.backgrounds)


@dataclass(frozen=True)
class JointProblem:
    """Datasets with their response, and what is fitted to them.

    Attributes
    ----------
    datasets : tuple of MapDataset
        Counts and backgrounds.
    response : ForwardResponse
        Their response.
    groups : tuple of Group
        The energy groups.
    model : JointModel
        What is fitted.
    coverage : ndarray, shape (B, G)
        Part of each bin's flux that starts in a pixel in use.
    in_use : ndarray of bool, shape (B, G)
        Bins that pixels in use lie in.
    """

    datasets: tuple[MapDataset, ...]
    response: ForwardResponse
    groups: tuple[Group, ...]
    model: JointModel
    coverage: Array
    in_use: Array

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return self.response.components.n_bins

    def pairs(self) -> Iterator[tuple[MapDataset, DatasetResponse]]:
        """Each dataset with its response."""
        return zip(self.datasets, self.response.datasets, strict=True)


@dataclass(frozen=True)
class CountsBlock:
    """Counts bins of one dataset and energy group, and where they come from.

    Attributes
    ----------
    block : JointBlock or JointOnOffBlock
        Counts, background and templates.
    energy, pixel : ndarray of int, shape (N, S)
        See `jaxprof.likelihood.CountsBins`.
    region : ndarray of int, shape (N,)
        Disjoint region of each row.
    """

    block: Any
    energy: Array
    pixel: Array
    region: Array


def joint_problem(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    groups: Sequence[Group],
    model: JointModel,
) -> JointProblem:
    """Put a joint fit together.

    Parameters
    ----------
    datasets : sequence of MapDataset
        Counts and backgrounds.
    response : ForwardResponse
        Their response.
    groups : sequence of Group
        The energy groups.
    model : JointModel
        What is fitted.

    Returns
    -------
    JointProblem

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
        coverage=coverage,
        in_use=bins_in_use(coverage, response, groups),
    )


def counts_blocks(
    problem: JointProblem,
    number: int,
    *,
    merge: bool = True,
    alone: Sequence[Sequence[Array | None]] | None = None,
) -> list[CountsBlock]:
    """Counts, background and templates of a dataset, for each energy group.

    Parameters
    ----------
    problem : JointProblem
        The problem.
    number : int
        Index of the dataset.
    merge : bool
        Whether pixels without counts share a counts bin, see `cash_bins`.
    alone : list of list of ndarray or None, optional
        For each group and dataset, pixels that are to have counts bins of their own, see
        `cash_bins`.

    Returns
    -------
    list of CountsBlock
        In arrays of the same shapes.
    """
    dataset, own = problem.datasets[number], problem.response.datasets[number]
    parts = [group.bins[number] for group in problem.groups]
    summed = problem.model.sum_over_energy_groups
    if isinstance(dataset, MapDatasetOnOff):
        width = problem.groups[0].width
        return [
            CountsBlock(
                on_off_block(dataset, own, part, width=width, number=number, summed=summed),
                *on_off_origins(own, part, width=width, summed=summed),
            )
            for part in parts
        ]
    counts_bins = [
        cash_bins(
            dataset,
            own,
            part,
            per_pixel=problem.model.likelihood == "pixel",
            merge=merge,
            summed=summed,
            across=not problem.model.tilted,
            alone=None if alone is None else alone[index][number],
        )
        for index, part in enumerate(parts)
    ]
    # Groups of the same shape share compiled code.
    size = batch_size([each.kept for each in counts_bins], max(each.batch for each in counts_bins))
    total = max(n_batches(each.kept, size) for each in counts_bins)
    n_x = dataset.geom.npix_shape[1]
    return [
        CountsBlock(
            cash_block(each, own, part, number=number, size=size, total=total),
            *cash_origins(each, own, part, size=size, total=total, n_x=n_x),
        )
        for part, each in zip(parts, counts_bins, strict=True)
    ]
