"""Datasets of gammapy as those of this package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets.mapdataset import MapDataset
from jaxprof.datasets.onoff import MapDatasetOnOff
from jaxprof.foreign import gammapy_class
from jaxprof.irf.gammapy import irf_from_gammapy
from jaxprof.sky import MapAxis
from jaxprof.sky.gammapy import map_from_gammapy

MAPS = ("counts", "exposure", "mask_safe", "mask_fit")
MAPS_ON_OFF = ("counts_off", "acceptance", "acceptance_off")
ROUNDING = 1e-6
"""Part of the largest predicted counts up to which negative ones are rounding."""
KINDS = ("MapDataset", "MapDatasetOnOff")


def dataset_from_gammapy(dataset: Any, leave_out: str | Iterable[str] = ()) -> MapDataset:
    """The same data as a dataset of this package.

    Parameters
    ----------
    dataset : gammapy.datasets.MapDataset or MapDatasetOnOff
        Its maps are shared, not copied.
    leave_out : str or iterable of str
        Names of models that are not background: what they stand for is to be measured.

    Returns
    -------
    MapDataset or MapDatasetOnOff
        What the file that gammapy writes would give. Models that are attached are evaluated by
        gammapy with the values that their parameters have now: background models (norm and tilt)
        change the ``background``, the predicted counts of all others are ``npred_sources`` (zero
        where they are negative by no more than 1e-6 of the largest, the rounding of convolutions).

    Raises
    ------
    ValueError
        If it is no such dataset, a part of it has no counterpart, `leave_out` has a name that no
        model has, or an On-Off dataset has models, for whose counts its likelihood has no place.
    """
    kind = gammapy_class(dataset)
    if kind not in KINDS:
        raise ValueError(
            f"{type(dataset).__name__} is no map dataset: a profile needs counts on pixels, as "
            "gammapy's MapDataset and MapDatasetOnOff have them"
        )
    on_off = kind == "MapDatasetOnOff"
    parts: dict[str, Any] = {
        part: map_from_gammapy(getattr(dataset, part))
        for part in MAPS + (MAPS_ON_OFF if on_off else ())
        if getattr(dataset, part) is not None
    }
    true = parts["exposure"].geom.axes[0] if "exposure" in parts else None
    parts |= _responses(dataset, true)
    names = _names_of_sources(dataset, (leave_out,) if isinstance(leave_out, str) else leave_out)
    if on_off and names:
        raise ValueError(
            f"gammapy's MapDatasetOnOff {dataset.name!r} has the models {names}: its background is "
            "measured in the Off counts, and nothing can join it; set dataset.models = None, and "
            "give other sources to ForwardFoldingProfileEstimator as sources="
        )
    parts |= {"gti": dataset.gti, "meta_table": dataset.meta_table, "name": dataset.name}
    if on_off:
        return MapDatasetOnOff(**parts)
    if dataset.background is not None:
        # With what a background model makes of it.
        background = dataset.npred_background() if dataset.models else dataset.background
        parts["background"] = map_from_gammapy(background)
    if names:
        npred = map_from_gammapy(dataset.npred_signal(model_names=names))
        parts["npred_sources"] = npred.copy(data=_without_rounding(npred.data))
    return MapDataset(**parts)


def _without_rounding(npred: NDArray[Any]) -> NDArray[Any]:
    """Zeros for what convolutions by FFT leave below zero where there is nothing."""
    lowest = -ROUNDING * float(np.max(npred, initial=0.0))
    return np.where((npred < 0) & (npred >= lowest), 0.0, npred)


def _responses(dataset: Any, true: MapAxis | None) -> dict[str, Any]:
    found = {}
    for part in ("edisp", "psf"):
        irf = getattr(dataset, part)
        if irf is not None:
            try:
                found[part] = irf_from_gammapy(irf, true)
            except ValueError as error:
                raise ValueError(f"{part} of dataset {dataset.name!r}: {error}") from error
    return found


def model_names(dataset: Any) -> list[str]:
    """Names of the models of a dataset of gammapy, without those of its background."""
    models = getattr(dataset, "models", None) or []
    return [m.name for m in models if gammapy_class(m) != "FoVBackgroundModel"]


def _names_of_sources(dataset: Any, leave_out: Iterable[str]) -> list[str]:
    known, left = model_names(dataset), list(leave_out)
    if unknown := [name for name in left if name not in known]:
        raise ValueError(
            f"leave_out: dataset {dataset.name!r} has no model {', '.join(map(repr, unknown))}; it "
            f"has {', '.join(map(repr, known)) or 'none'}"
        )
    return [name for name in known if name not in left]


def as_datasets(datasets: Any, leave_out: Iterable[str] = ()) -> Any:
    """Datasets of gammapy, one or several, as ours; anything else as it is.

    Models of the names in `leave_out` are left out where a dataset has them.
    """
    kind = str(gammapy_class(datasets))
    if kind.endswith(("Dataset", "DatasetOnOff")):
        known = model_names(datasets)
        return dataset_from_gammapy(datasets, [name for name in leave_out if name in known])
    if kind == "Datasets" or isinstance(datasets, list | tuple):
        return [as_datasets(dataset, leave_out) for dataset in datasets]
    return datasets


def attached_names(datasets: Any) -> set[str]:
    """Names of the sources that datasets have, of gammapy or not."""
    if isinstance(datasets, MapDataset):
        return {model.name for model in datasets.models}
    if str(gammapy_class(datasets)).endswith(("Dataset", "DatasetOnOff")):
        return set(model_names(datasets))
    if isinstance(datasets, Iterable) and not isinstance(datasets, str | bytes):
        return set().union(*(attached_names(dataset) for dataset in datasets))
    return set()
