"""Sums of datasets: counts inside their masks, and responses averaged by exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import Table, vstack

from jaxprof.datasets.folding import exposure_on_counts
from jaxprof.datasets.gti import joined_gti
from jaxprof.irf import EDispKernelMap, RecoPSFMap
from jaxprof.irf.base import IRFMap
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from jaxprof.datasets import MapDataset


ALIGNED = 1e-3
"""Part of a pixel by which the pixels of two maps may differ and still be the same."""


def placed(map_: WcsNDMap, geom: WcsGeom, fill: Any = 0) -> Array:
    """Data of a map on pixels of the same grid, which may be a larger or smaller part of it.

    Parameters
    ----------
    map_ : WcsNDMap
        What lies on none of the pixels is left out.
    geom : WcsGeom
        Its pixels are taken, not its axes.
    fill : scalar
        Value of pixels that the map does not have.

    Returns
    -------
    data : ndarray
        Axes of the map, then the pixels of `geom`.

    Raises
    ------
    ValueError
        If the pixels of the two are at different positions.
    """
    if map_.geom.is_allclose_image(geom):
        return map_.data
    x, y = geom.pixel_coordinates(map_.geom.get_coord())
    first = np.round(y[0, 0]), np.round(x[0, 0])
    rows, columns = np.indices(map_.geom.npix_shape)
    if not (
        np.all(np.abs(y - first[0] - rows) < ALIGNED)
        and np.all(np.abs(x - first[1] - columns) < ALIGNED)
    ):
        raise ValueError(
            "the pixels of the dataset to be stacked are at other sky positions; reduce both on "
            "one geometry, or fit them jointly as a list of datasets"
        )
    y, x = np.round(y).astype(int), np.round(x).astype(int)
    inside = geom.holds(x, y)
    data = np.full((*map_.data.shape[:-2], *geom.npix_shape), fill, dtype=map_.data.dtype)
    data[..., y[inside], x[inside]] = map_.data[..., inside]
    return data


def stacked_parts(dataset: MapDataset, other: MapDataset) -> dict[str, Any]:
    """What a dataset has after another was added; see `MapDataset.stack`."""
    if type(dataset).stat_type != type(other).stat_type:
        raise ValueError(
            f"dataset {other.name!r} is a {type(other).__name__}, which cannot be stacked on the "
            f"{type(dataset).__name__} {dataset.name!r}"
        )
    if not other.energy_axis.is_allclose(dataset.energy_axis):
        raise ValueError(
            f"dataset {other.name!r} has the axis {other.energy_axis!r}, but {dataset.name!r} "
            f"{dataset.energy_axis!r}"
        )
    geom = dataset.geom
    masks = _safe(dataset).data, placed(_safe(other), geom, fill=False)
    _warn_of_thresholds(dataset, other, masks)
    parts: dict[str, Any] = {
        "counts": _summed("counts", dataset, other, masks),
        "mask_safe": WcsNDMap(geom, masks[0] | masks[1]),
        "gti": joined_gti([dataset.gti, other.gti]),
        "meta_table": _rows([dataset.meta_table, other.meta_table]),
        "psf": _response("psf", dataset, other),
        "edisp": _response("edisp", dataset, other),
        "exposure": _exposure(dataset, other, masks),
    }
    fits = [each.mask_fit for each in (dataset, other)]
    if any(each is not None for each in fits):
        shown = [None if each is None else placed(each, geom, fill=False) != 0 for each in fits]
        own = [masks[k] if each is None else each for k, each in enumerate(shown)]
        parts["mask_fit"] = WcsNDMap(geom, own[0] | own[1])
    if dataset.stat_type == "wstat":
        return parts | _off_parts(dataset, other, masks)
    known = {model.name for model in dataset.models}
    models = [*dataset.models, *(model for model in other.models if model.name not in known)]
    backgrounds = [each.npred_background() for each in (dataset, other)]
    total = np.where(masks[0], backgrounds[0].data, 0.0)
    total += np.where(masks[1], placed(backgrounds[1], geom), 0.0)
    return parts | {"background": WcsNDMap(geom, total), "npred_sources": None, "models": models}


def _warn_of_thresholds(dataset: MapDataset, other: MapDataset, masks: tuple[Array, Array]) -> None:
    """Warn of masks that differ from energy to energy where no matrix can hold them."""
    both = np.asarray(masks[0].any(axis=0) & masks[1].any(axis=0))
    differ = both & (masks[0] != masks[1]).any(axis=0)
    if differ.any() and not isinstance(other.edisp, EDispKernelMap):
        warn_user(
            f"stack: mask_safe of datasets {dataset.name!r} and {other.name!r} leaves other "
            f"energies in {np.count_nonzero(differ)} pixels that both have. Without a matrix of "
            "the energy dispersion the summed exposure is too large at energies that one of them "
            "lacks; set edisp of both to an EDispKernelMap (dataset.edisp.to_kernel_map"
            "(dataset.energy_axis), EDispKernelMap.from_diagonal), or fit them jointly as a list"
        )


def _safe(dataset: MapDataset) -> WcsNDMap:
    if dataset.mask_safe is not None:
        return dataset.mask_safe
    return WcsNDMap(dataset.geom, np.ones(dataset.geom.data_shape, bool))


def _summed(part: str, dataset: MapDataset, other: MapDataset, masks: tuple[Array, Array]) -> Any:
    """Sum of a part inside the masks; None if neither has it."""
    maps = [getattr(each, part) for each in (dataset, other)]
    if maps[0] is None and maps[1] is None:
        return None
    if None in maps:
        without = (dataset, other)[maps.index(None)]
        raise ValueError(f"dataset {without.name!r} has no {part} to stack")
    own = np.where(masks[0], maps[0].data, 0.0)
    return WcsNDMap(dataset.geom, own + np.where(masks[1], placed(maps[1], dataset.geom), 0.0))


def _rows(tables: list[Table | None]) -> Table | None:
    known = [table for table in tables if table is not None]
    if len(known) < 2:
        return known[0] if known else None
    return vstack(known, join_type="outer", metadata_conflicts="silent")


def _exposure(dataset: MapDataset, other: MapDataset, masks: tuple[Array, Array]) -> Any:
    """Sum of the exposures of pixels that have any energy inside the mask."""
    if dataset.exposure is None or other.exposure is None:
        if dataset.exposure is None and other.exposure is None:
            return None
        without = dataset if dataset.exposure is None else other
        raise ValueError(f"dataset {without.name!r} has no exposure to stack")
    if not other.energy_axis_true.is_allclose(dataset.energy_axis_true):
        raise ValueError(
            f"exposure of dataset {other.name!r} has the axis {other.energy_axis_true!r}, but that "
            f"of {dataset.name!r} {dataset.energy_axis_true!r}"
        )
    unit = dataset.exposure.unit
    own = exposure_on_counts(dataset)
    added = exposure_on_counts(other)
    total = np.where(masks[0].any(axis=0), own.data, 0.0)
    moved = placed(added.copy(data=added.quantity.to_value(unit), unit=unit), dataset.geom)
    return WcsNDMap(own.geom, total + np.where(masks[1].any(axis=0), moved, 0.0), unit)


def _response(part: str, dataset: MapDataset, other: MapDataset) -> IRFMap | None:
    """Average of a response, weighted with the exposures of the datasets that have it."""
    pair: list[IRFMap | None] = [getattr(each, part) for each in (dataset, other)]
    datasets = [dataset, other]
    # What nothing was exposed with tells nothing: a dataset that `MapDataset.create` made.
    exposed = [each.exposure is None or bool(np.any(each.exposure.data)) for each in datasets]
    if not exposed[0] or pair[0] is pair[1] is None:
        return pair[1]
    if not exposed[1]:
        return pair[0]
    first, second = pair
    if first is None or second is None:
        raise ValueError(f"dataset {datasets[pair.index(None)].name!r} has no {part} to stack")
    same = type(first) is type(second) and all(
        a.is_allclose(b) for a, b in zip(first.axes, second.axes, strict=True)
    )
    if not same:
        raise ValueError(
            f"{part} of dataset {other.name!r} is {second!r}, which cannot be averaged with "
            f"{first!r} of {dataset.name!r}; fit the datasets jointly as a list"
        )
    grid = _common_grid(dataset.geom, [each.geom for each in (first, second)])
    shape = (1, 1) if grid is None else grid.npix_shape
    total = np.zeros((*first.data.shape[:2], *shape))
    exposures = np.zeros((first.data.shape[0], *shape))
    for each, response in zip(datasets, (first, second), strict=True):
        mask = _energies_on_grid(each, grid)
        covered = np.asarray(mask.any(axis=0))
        exposure = _exposure_on_grid(part, each, response, grid, covered)
        density = _on_grid(response.data, response, grid, covered)
        total += exposure[:, np.newaxis] * (
            density * mask if isinstance(response, EDispKernelMap) else density
        )
        exposures += exposure
    weights = np.broadcast_to(exposures[:, np.newaxis], total.shape)
    data = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    axis, energy_axis = first.axes
    if grid is None:
        data, exposures = data[..., 0, 0], exposures[..., 0, 0]
    return type(first)(data, axis, energy_axis, grid, exposure=exposures * u.Unit("cm2 s"))


def _common_grid(geom: WcsGeom, grids: list[WcsGeom | None]) -> WcsGeom | None:
    """Sky grid of an average over the pixels of a map: one of the two that holds them, or a new."""
    known = [grid for grid in grids if grid is not None]
    if not known:
        return None
    position = geom.get_coord()
    on_sky = np.isfinite(position.spherical.lat.deg)
    for grid in known:
        if grid.pixel_index(position[on_sky])[2].all():
            return grid
    finest = min(float(grid.pixel_scales.min().to_value("deg")) for grid in known)
    return geom.downsample(max(int(finest / geom.pixel_scales.max().to_value("deg")), 1))


def _on_grid(data: Array, response: IRFMap, grid: WcsGeom | None, covered: Array) -> Array:
    """Values of a response (..., ny, nx) at the positions of a grid, zero where not covered."""
    if response.geom is None:
        return data[..., np.newaxis, np.newaxis]
    assert grid is not None
    found = np.zeros((*data.shape[:-2], *grid.npix_shape))
    y, x = response.sky_index(grid.get_coord()[covered])
    found[..., covered] = data[..., y, x]
    return found


def _exposure_on_grid(
    part: str, dataset: MapDataset, response: IRFMap, grid: WcsGeom | None, covered: Array
) -> Array:
    """Exposure [cm2 s] that goes with a response at the positions of a grid, (n_true, ny, nx)."""
    # Some files, such as that of gammapy's Galactic centre, have maps of zeros.
    if response.exposure is not None and np.any(response.exposure > 0):
        return _on_grid(response.exposure.to_value("cm2 s"), response, grid, covered) * covered
    exposure = dataset.exposure
    if exposure is None or isinstance(response, RecoPSFMap):
        raise ValueError(
            f"{part} of dataset {dataset.name!r} has no exposure to weight it with; give it one "
            "as exposure="
        )
    values = exposure.quantity.to_value("cm2 s")
    if grid is None:
        values = values.mean(axis=(1, 2))[:, np.newaxis, np.newaxis]
    else:
        # The nearest pixel: the centre of a grid's pixel may be just beyond a small map.
        x, y = exposure.geom.pixel_coordinates(grid.get_coord()[covered])
        ny, nx = exposure.geom.npix_shape
        nearest = [
            np.clip(np.nan_to_num(np.round(at)), 0, n - 1).astype(int)
            for at, n in ((y, ny), (x, nx))
        ]
        own = np.zeros((len(values), *grid.npix_shape))
        own[:, covered] = values[:, nearest[0], nearest[1]]
        values = own
    energies = response.energy_axis_true.center_tev()
    nodes = dataset.energy_axis_true.center_tev()
    at = np.interp(np.log(energies), np.log(nodes), np.arange(len(nodes)))
    low = np.minimum(at.astype(int), max(len(nodes) - 2, 0))
    high = np.minimum(low + 1, len(nodes) - 1)
    part_above = (at - low)[:, np.newaxis, np.newaxis]
    return np.asarray(values[low] * (1 - part_above) + values[high] * part_above) * covered


def _energies_on_grid(dataset: MapDataset, grid: WcsGeom | None) -> Array:
    """Reconstructed energies at which any pixel of a grid's has data in the mask, (E, ny, nx)."""
    mask = _safe(dataset).data
    if grid is None:
        return np.any(mask, axis=(1, 2), keepdims=True)
    y, x, inside = grid.pixel_index(dataset.geom.get_coord())
    found = np.zeros((len(mask), *grid.npix_shape), bool)
    energy, row, column = np.nonzero(mask & inside)
    found[energy, y[row, column], x[row, column]] = True
    return found


def _off_parts(dataset: Any, other: Any, masks: tuple[Array, Array]) -> dict[str, WcsNDMap]:
    """Off counts and acceptances whose ratio gives the sum of both backgrounds.

    The acceptance of the On counts is the sum; that of the Off counts is such that the background,
    ``alpha`` times the Off counts, is the sum of the two, and where there are no Off counts such
    that ``alpha`` is the mean over all of them (gammapy's ``MapDatasetOnOff.stack``).
    """
    for each in (dataset, other):
        for part in ("counts_off", "acceptance", "acceptance_off"):
            if getattr(each, part) is None:
                raise ValueError(f"dataset {each.name!r} has no {part} to stack")
    off = _summed("counts_off", dataset, other, masks)
    on = _summed("acceptance", dataset, other, masks)
    geom = dataset.geom
    background = np.where(masks[0], dataset.npred_background().data, 0.0)
    background += np.where(masks[1], placed(other.npred_background(), geom), 0.0)
    total = background.sum()
    mean = off.data.sum() / total if total > 0 else 0.0
    ratio = np.where(off.data > 0, 0.0, mean)
    np.divide(off.data, background, out=ratio, where=(off.data > 0) & (background > 0))
    parts = {"counts_off": off, "acceptance": on}
    return parts | {"acceptance_off": WcsNDMap(geom, on.data * ratio)}
