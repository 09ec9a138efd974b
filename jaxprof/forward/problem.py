"""Joint data of every energy group: the response meets counts, background and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.core.joint_data import FreeSpectra, JointData
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.forward.parameters import Parameters
from jaxprof.forward.reduce import cash_block, cash_slots, on_off_block
from jaxprof.forward.response import Components, ForwardResponse
from jaxprof.forward.slots import n_tiles

Array = NDArray[Any]


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
    components: Components, names: Sequence[str], true_edges: Array, group: Group
) -> FreeSpectra | None:
    """Spectra with free parameters, or None."""
    if not names:
        return None
    models = components.models[: components.n_regions]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), *models)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), stacked)
    return FreeSpectra(
        models=stacked,
        edges=jnp.asarray(true_edges),
        group_edges=jnp.asarray(group.edges),
        fixed_flux=jnp.asarray(components.flux(true_edges)[components.n_regions :]).reshape(
            -1, len(true_edges) - 1
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
            )
            for part in bins
        ]
        # Groups of the same shape share compiled code.
        size = max(each.tile for each in slots)
        total = max(n_tiles(each.kept, size) for each in slots)
        for part, each, found in zip(bins, slots, blocks, strict=True):
            found.append(cash_block(each, own, part, number=number, size=size, total=total))
    edges = datasets[0].energy_axis_true.edges_tev()
    made = [
        JointData(
            blocks=tuple(found),
            start=parameters.start,
            free=parameters.free,
            lower=parameters.lower,
            upper=parameters.upper,
            precision=parameters.precision,
            penalty_start=parameters.start,
            spectra=free_spectra(response.components, names, edges, group),
            n_components=len(response.components),
            n_nuisance=parameters.n_nuisance,
        )
        for found, group in zip(blocks, groups, strict=True)
    ]
    return jax.tree.map(jnp.asarray, made)
