"""The problem of a joint fit, and its data for every energy group.

The response meets counts, background and parameters here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.likelihood.joint_data import FreeSpectra, JointData
from jaxprof.reduce.joint.backgrounds import BackgroundOption, check_backgrounds
from jaxprof.reduce.joint.bins import n_tiles
from jaxprof.reduce.joint.components import Components
from jaxprof.reduce.joint.counts import cash_block, cash_slots, on_off_block
from jaxprof.reduce.joint.groups import Group, bins_in_use, flux_coverage
from jaxprof.reduce.joint.parameters import Parameters, make_parameters, smoothness_matrix
from jaxprof.reduce.joint.response import DatasetResponse, ForwardResponse

Array = NDArray[Any]

STIFF = 1e10
"""How many times what the counts tell of a norm a smoothness may be."""


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
    parameters : Parameters
        Layout, bounds and penalties of the parameters of a group.
    coverage : ndarray, shape (B, G)
        Part of each bin's flux that starts in a pixel in use.
    in_use : ndarray of bool, shape (B, G)
        Bins that pixels in use lie in.
    """

    datasets: tuple[MapDataset, ...]
    response: ForwardResponse
    groups: tuple[Group, ...]
    model: JointModel
    parameters: Parameters
    coverage: Array
    in_use: Array

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return self.response.components.n_bins

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
        parameters=make_parameters(
            response.components,
            model.norm_bounds,
            model.backgrounds,
            model.free_spectral_parameters,
            model.smoothness,
            coverage.mean(axis=1),
        ),
        coverage=coverage,
        in_use=bins_in_use(coverage, response, groups),
    )


def free_spectra(
    response: ForwardResponse, names: Sequence[str], group: Group
) -> FreeSpectra | None:
    """Spectra with free parameters, or None."""
    if not names:
        return None
    components = response.components
    edges = [own.true_edges for own in response.datasets]
    models = components.models[: components.n_regions]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), *models)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), stacked)
    return FreeSpectra(
        models=stacked,
        edges=tuple(map(jnp.asarray, edges)),
        group_edges=jnp.asarray(group.edges),
        fixed_flux=tuple(
            jnp.asarray(components.flux(own)[components.n_regions :]).reshape(-1, len(own) - 1)
            for own in edges
        ),
        names=tuple(names),
    )


def joint_data(
    problem: JointProblem,
    *,
    merge: bool = True,
    alone: Sequence[Sequence[Array | None]] | None = None,
) -> list[JointData]:
    """Everything that the fits of the energy groups need, in arrays of the same shapes.

    Parameters
    ----------
    problem : JointProblem
        The problem.
    merge : bool
        Whether pixels without counts share a counts bin, see `cash_slots`.
    alone : list of list of ndarray or None, optional
        For each group and dataset, pixels that are to have counts bins of their own, see
        `cash_slots`.

    Returns
    -------
    list of JointData
        One for each group.
    """
    response, parameters, model = problem.response, problem.parameters, problem.model
    made = [
        JointData(
            blocks=tuple(found),
            start=parameters.start,
            free=parameters.free,
            lower=parameters.lower,
            upper=parameters.upper,
            precision=_precision(
                parameters, response.components, found, len(model.free_spectral_parameters)
            ),
            penalty_start=parameters.start,
            spectra=free_spectra(response, model.free_spectral_parameters, group),
            n_components=len(response.components),
            n_nuisance=parameters.n_nuisance,
        )
        for found, group in zip(_blocks(problem, merge, alone), problem.groups, strict=True)
    ]
    # Not jnp.asarray, which compiles a program for every shape.
    return jax.tree.map(jax.device_put, made)


def _blocks(
    problem: JointProblem, merge: bool, alone: Sequence[Sequence[Array | None]] | None
) -> list[list[Any]]:
    """Blocks of counts bins, one for each group and dataset."""
    model, parameters = problem.model, problem.parameters
    blocks: list[list[Any]] = [[] for _ in problem.groups]
    # Background parameters stand in pairs at the end, norm and tilt.
    pairs = parameters.free[len(parameters.free) - 2 * parameters.n_nuisance :]
    tilted = bool(pairs[1::2].any())
    summed = model.sum_over_energy_groups
    for number, (dataset, own) in enumerate(problem.pairs()):
        bins = [group.bins[number] for group in problem.groups]
        if isinstance(dataset, MapDatasetOnOff):
            for part, group, found in zip(bins, problem.groups, blocks, strict=True):
                found.append(
                    on_off_block(
                        dataset, own, part, width=group.width, number=number, summed=summed
                    )
                )
            continue
        slots = [
            cash_slots(
                dataset,
                own,
                part,
                per_pixel=model.likelihood == "pixel",
                merge=merge,
                summed=summed,
                across=not tilted,
                alone=None if alone is None else alone[index][number],
            )
            for index, part in enumerate(bins)
        ]
        # Groups of the same shape share compiled code.
        size = max(each.tile for each in slots)
        total = max(n_tiles(each.kept, size) for each in slots)
        for part, each, found in zip(bins, slots, blocks, strict=True):
            found.append(cash_block(each, own, part, number=number, size=size, total=total))
    return blocks


def _precision(
    parameters: Parameters, components: Components, blocks: Sequence[Any], n_shape: int
) -> Array:
    """Matrix of the penalties, with the smoothness of the bins that some slot feels."""
    if not parameters.smoothness:
        return parameters.precision
    seen = np.zeros(len(components), bool)
    expected, counts = np.zeros(len(components)), 0.0
    for block in blocks:
        if isinstance(block.templates, jax.core.Tracer):
            # Which components it reaches is not known while the response is differentiated.
            seen[:] = True
            continue
        signal = np.einsum("nkqs,ns->nk", np.asarray(block.templates), np.asarray(block.mask))
        seen[np.asarray(block.components)[signal > 0]] = True
        np.add.at(expected, np.asarray(block.components), signal)
        counts += np.sum(getattr(block, "n_on", getattr(block, "counts", 0.0)))
    if expected.any() and not n_shape:
        # The counts tell about this much of a norm, the square of one over its error.
        told = np.max(expected) ** 2 / (1.0 + float(counts))
        if parameters.smoothness > STIFF * told:
            raise ValueError(
                f"smoothness={parameters.smoothness:g} leaves nothing of the counts but a straight "
                f"line, and these are lost by rounding; give less than {STIFF * told:.1g}, about "
                f"{told:.1g} being as strong as the counts"
            )
    norms = np.arange(components.n_bins) * (1 + n_shape)
    precision = parameters.precision.copy()
    curved = smoothness_matrix(seen[: components.n_bins])
    precision[np.ix_(norms, norms)] += parameters.smoothness * curved
    return precision
