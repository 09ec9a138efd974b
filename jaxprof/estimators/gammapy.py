"""Objects of gammapy as those of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jaxprof.datasets.collection import Datasets
from jaxprof.datasets.gammapy import as_datasets, dataset_from_gammapy
from jaxprof.datasets.gti import gti_table
from jaxprof.estimators.options import norm_from_gammapy
from jaxprof.foreign import gammapy_class
from jaxprof.irf.gammapy import irf_from_gammapy
from jaxprof.models.gammapy import spectral_model_from_gammapy
from jaxprof.sky.gammapy import (
    axis_from_gammapy,
    geom_from_gammapy,
    map_from_gammapy,
)
from jaxprof.sky.model_list import Models
from jaxprof.sky.models import as_spatial_model, sky_model_from_gammapy
from jaxprof.sky.regions import RegionGeom


def _profile(points: Any) -> Any:
    # What reads and writes files is imported when it is needed.
    from jaxprof.io.gammapy import profile_from_gammapy

    return profile_from_gammapy(points)


_ENDINGS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("SpectralModel", spectral_model_from_gammapy),
    ("SpatialModel", as_spatial_model),
    ("SkyModel", sky_model_from_gammapy),
    ("FoVBackgroundModel", lambda model: Models([model])[0]),
    ("TemplateNPredModel", lambda model: Models([model])[0]),
    ("Models", Models),
    ("RegionGeom", RegionGeom),
    ("Geom", geom_from_gammapy),
    ("MapAxis", axis_from_gammapy),
    ("MapAxes", lambda axes: [axis_from_gammapy(axis) for axis in axes]),
    ("NDMap", map_from_gammapy),
    ("GTI", gti_table),
    ("Parameter", norm_from_gammapy),
    ("FluxPoints", _profile),
)
_RESPONSES = ("PSFMap", "PSFKernel", "EDispMap", "EDispKernelMap", "EDispKernel")


def from_gammapy(value: Any, leave_out: str | Iterable[str] = ()) -> Any:
    """The same data or model as an object of this package.

    Wherever this package takes its own objects it takes gammapy's as well; this is what becomes of
    them there.

    Parameters
    ----------
    value : object of gammapy
        Dataset or Datasets; map, geometry or axis; RegionGeom; PSF, energy dispersion; GTI;
        spectral, spatial or sky model, background model, Models; Parameter (a norm); FluxPoints
        that are a profile.
    leave_out : str or iterable of str
        Of datasets: names of attached models that are not background. The predicted counts of all
        others are, with the values that their parameters have now; gammapy evaluates them.

    Returns
    -------
    object of jaxprof
        Of the same name as a rule; it shares its data. GTI become a table, a Parameter a
        `NormParameter`, FluxPoints a `FluxProfile`. Spectral models that have no counterpart become
        a model that gammapy evaluates.

    Raises
    ------
    ValueError
        For others, and where there is nothing that says the same; the message says what to do.
    """
    kind = gammapy_class(value)
    if kind is None:
        raise ValueError(f"value is a {type(value).__name__}, which is not gammapy's")
    names = [leave_out] if isinstance(leave_out, str) else list(leave_out)
    if kind == "Datasets":
        return Datasets(as_datasets(value, names))
    if "Dataset" in kind:
        return dataset_from_gammapy(value, names)
    if names:
        raise ValueError(f"leave_out is for datasets, not for a {kind}")
    if kind.endswith(_RESPONSES):
        return irf_from_gammapy(value)
    for ending, convert in _ENDINGS:
        if kind.endswith(ending):
            return convert(value)
    raise ValueError(f"gammapy's {kind} has no counterpart here")
