"""Joint data of every energy group: the response meets counts, background and parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.estimators.joint_options import check_backgrounds
from jaxprof.estimators.options import one_of
from jaxprof.likelihood.joint_data import FreeSpectra, JointData
from jaxprof.reduce.joint.bins import n_tiles
from jaxprof.reduce.joint.components import Components
from jaxprof.reduce.joint.counts import cash_block, cash_slots, on_off_block
from jaxprof.reduce.joint.parameters import (
    Parameters,
    background_options,
    make_parameters,
    smoothness_matrix,
)
from jaxprof.reduce.joint.response import ForwardResponse, usable_mask
from jaxprof.reduce.separate import LIKELIHOODS

if TYPE_CHECKING:
    from jaxprof.estimators.joint import ForwardFoldingProfileEstimator

Array = NDArray[Any]

STIFF = 1e10
"""How many times what the counts tell of a norm a smoothness may be."""

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
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    groups: Sequence[Group],
    parameters: Parameters,
    *,
    names: Sequence[str] = (),
    likelihood: str = "pixel",
    merge: bool = True,
    summed: bool = False,
    alone: Sequence[Sequence[Array | None]] | None = None,
) -> list[JointData]:
    """Everything that the fits of the energy groups need, in arrays of the same shapes.

    Parameters
    ----------
    datasets : sequence of MapDataset
        Counts and backgrounds.
    response : ForwardResponse
        Their response.
    groups : sequence of Group
        The groups.
    parameters : Parameters
        Parameters, bounds and penalties.
    names : sequence of str
        Free spectral parameters.
    likelihood : {"pixel", "region"}
        Whether pixels with counts are slots of their own, or are summed over the cells.
    merge : bool
        Whether pixels without counts share a slot, see `cash_slots`.
    summed : bool
        Whether the energies of a group are summed.
    alone : list of list of ndarray or None, optional
        For each group and dataset, pixels that are to have slots of their own, see `cash_slots`.

    Returns
    -------
    list of JointData
        One for each group.
    """
    blocks: list[list[Any]] = [[] for _ in groups]
    # Background parameters stand in pairs at the end, norm and tilt.
    pairs = parameters.free[len(parameters.free) - 2 * parameters.n_nuisance :]
    tilted = bool(pairs[1::2].any())
    for number, (dataset, own) in enumerate(zip(datasets, response.datasets, strict=True)):
        bins = [group.bins[number] for group in groups]
        if isinstance(dataset, MapDatasetOnOff):
            for part, group, found in zip(bins, groups, blocks, strict=True):
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
                per_pixel=likelihood == "pixel",
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
    made = [
        JointData(
            blocks=tuple(found),
            start=parameters.start,
            free=parameters.free,
            lower=parameters.lower,
            upper=parameters.upper,
            precision=_precision(parameters, response.components, found, len(names)),
            penalty_start=parameters.start,
            spectra=free_spectra(response, names, group),
            n_components=len(response.components),
            n_nuisance=parameters.n_nuisance,
        )
        for found, group in zip(blocks, groups, strict=True)
    ]
    # Not jnp.asarray, which compiles a program for every shape.
    return jax.tree.map(jax.device_put, made)


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


def reducer(
    datasets: Sequence[MapDataset],
    response: ForwardResponse,
    groups: Sequence[Group],
    options: ForwardFoldingProfileEstimator,
) -> Callable[..., list[JointData]]:
    """What makes the joint data of all groups, with the other keywords of `joint_data`.

    Parameters
    ----------
    datasets : sequence of MapDataset
        Counts and backgrounds.
    response : ForwardResponse
        Their response.
    groups : sequence of Group
        The groups.
    options : ForwardFoldingProfileEstimator
        Tells what is fitted.

    Returns
    -------
    callable
    """
    backgrounds = background_options(options.background, [d.name for d in datasets])
    check_backgrounds(datasets, backgrounds, options.sum_over_energy_groups)
    parameters = make_parameters(
        response.components,
        options.norm,
        backgrounds,
        options.free_spectral_parameters,
        options.smoothness,
        coverage(datasets, response, groups).mean(axis=1),
    )
    return partial(
        joint_data,
        datasets,
        response,
        groups,
        parameters,
        names=options.free_spectral_parameters,
        summed=options.sum_over_energy_groups,
        likelihood=one_of("likelihood", options.likelihood, LIKELIHOODS),
    )


def coverage(
    datasets: Sequence[MapDataset], response: ForwardResponse, groups: Sequence[Group]
) -> Array:
    """Part of each bin's flux that starts in a pixel in use, (B, G)."""
    n_bins = response.components.n_bins
    parts = []
    for number, (dataset, own) in enumerate(zip(datasets, response.datasets, strict=True)):
        usable = usable_mask(dataset)
        n_e, ny, nx = usable.shape
        share = np.zeros((n_bins, n_e))
        for index, emission in enumerate(own.emissions[:n_bins]):
            h, w = emission.weights.shape
            y0, x0 = max(emission.y0, 0), max(emission.x0, 0)
            y1, x1 = min(emission.y0 + h, ny), min(emission.x0 + w, nx)
            if y1 > y0 and x1 > x0:
                used = np.zeros((n_e, h, w))
                at = (
                    slice(y0 - emission.y0, y1 - emission.y0),
                    slice(x0 - emission.x0, x1 - emission.x0),
                )
                used[:, *at] = usable[:, y0:y1, x0:x1]
                # Over a sum in the same order: exactly one if nothing is cut.
                whole = (np.ones_like(used) * emission.weights).sum(axis=(1, 2))
                share[index] = (used * emission.weights).sum(axis=(1, 2)) / whole
        parts.append(
            np.stack([share[:, group.bins[number]].mean(axis=1) for group in groups], axis=1)
        )
    return np.mean(parts, axis=0)


def seen(
    datasets: Sequence[MapDataset], response: ForwardResponse, groups: Sequence[Group]
) -> Array:
    """Bins that pixels in use lie in, (B, G): what leaks out of the others is no test of them.

    The centre of a pixel tells; bins so narrow that they hold none are seen if most of their flux
    starts in pixels in use.
    """
    found = coverage(datasets, response, groups) > SEEN
    for number, group in enumerate(groups):
        for own, bins in zip(response.datasets, group.bins, strict=True):
            used = own.mask[bins].any(axis=(0, 2))
            found[:, number] |= own.cells.members[used, : len(found)].any(axis=0)
    return found
