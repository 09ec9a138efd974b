"""The problem of a joint fit: datasets with their response, and their counts bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.backgrounds import BackgroundOption, check_backgrounds
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

    @property
    def per_pixel(self) -> bool:
        """Whether pixels may have counts bins of their own."""
        return self.likelihood == "pixel"


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
    in_use : ndarray of bool, shape (R, G)
        Bins, and guard bins after them, that pixels in use lie in.
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
