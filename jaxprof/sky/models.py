"""Sources in the field: a spectral and a spatial model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxprof.foreign import gammapy_class
from jaxprof.models.gammapy import (
    spatial_model_from_gammapy,
    spectral_model_from_gammapy,
)
from jaxprof.models.spatial import SpatialModel
from jaxprof.models.spectral import SpectralModel
from jaxprof.sky import WcsNDMap
from jaxprof.sky.gammapy import as_map, is_gammapy_map
from jaxprof.sky.template_map import (
    TemplateSpatialModel,
    flux_times_template,
)


class SkyModel:
    """A source in the field: a spectral and a spatial model.

    Parameters
    ----------
    spectral_model : SpectralModel
        Flux of the whole source; of gammapy too.
    spatial_model : SpatialModel, TemplateSpatialModel or WcsNDMap
        Where it comes from; a map becomes a `TemplateSpatialModel`. Of gammapy too.
    name : str, optional
        Name in tables and errors; by default the tag of the spatial model.
    free : bool
        Whether the norm of the source is fitted as well, in every energy group on its own.
    datasets_names : str or list of str, optional
        Names of the datasets that the source is seen in; by default all.

    Raises
    ------
    ValueError
        If an argument is of another kind.
    """

    def __init__(
        self,
        spectral_model: Any = None,
        spatial_model: Any = None,
        name: str | None = None,
        free: bool = False,
        datasets_names: Any = None,
    ) -> None:
        spatial_model, map_ = _spatial_model(spatial_model)
        spectral_model = as_spectral_model(spectral_model)
        if not isinstance(spectral_model, SpectralModel):
            raise ValueError(
                f"spectral_model is {spectral_model!r}; give a spectral model of jaxprof, "
                "such as PowerLawSpectralModel()"
            )
        if not isinstance(spatial_model, SpatialModel | TemplateSpatialModel):
            raise ValueError(
                f"spatial_model is {spatial_model!r}; give a spatial model of jaxprof, such as "
                "PointSpatialModel(lon_0=..., lat_0=..., frame='galactic'), or a map"
            )
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name is {name!r}; give a string that is not empty")
        if not isinstance(free, bool | np.bool_):
            raise ValueError(f"free is {free!r}; give True or False")
        if map_ is not None:
            spectral_model = flux_times_template(spectral_model, map_)
        if spectral_model.is_norm:
            raise ValueError(
                f"spectral_model is a {type(spectral_model).__name__}, a factor: multiply a "
                "spectrum by it"
            )
        self.spectral_model = spectral_model
        self.spatial_model = spatial_model
        self.name = spatial_model.tag if name is None else name
        self.free = bool(free)
        self.datasets_names = _names(datasets_names)

    def is_in(self, dataset_name: str) -> bool:
        """Whether the source is seen in a dataset."""
        return self.datasets_names is None or dataset_name in self.datasets_names

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of numbers and strings, in the layout of gammapy's YAML model files.

        A source that is ``free`` says so, which gammapy does not read.

        Raises
        ------
        ValueError
            For a template that has no file.
        """
        names = {} if self.datasets_names is None else {"datasets_names": [*self.datasets_names]}
        free = {"free": True} if self.free else {}
        found = {"name": self.name, "type": "SkyModel", **names, **free}
        return found | self.spectral_model.to_dict() | self.spatial_model.to_dict()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SkyModel:
        """Make a model of the dict that `to_dict` or gammapy's ``to_dict`` wrote.

        Parameters
        ----------
        data : dict
            With "name", "spectral", "spatial" and possibly "datasets_names" and "free" (False
            without it, whatever parameters are free in gammapy). Values are those of the dict,
            errors, limits and links are dropped. The files of templates are opened.

        Raises
        ------
        ValueError
            For what is not known here, with its name. Spectra that gammapy knows are evaluated by
            it where it is installed.
        """
        from jaxprof.io.models import sky_model_parts

        return cls(**sky_model_parts(data))

    def __repr__(self) -> str:
        return (
            f"SkyModel(name={self.name!r}, free={self.free},\n"
            f"  spectral_model={self.spectral_model!r},\n"
            f"  spatial_model={self.spatial_model!r})"
        )


def as_spectral_model(model: Any) -> Any:
    """A spectral model of gammapy as ours; anything else as it is."""
    known = str(gammapy_class(model)).endswith("SpectralModel")
    return spectral_model_from_gammapy(model) if known else model


def as_spatial_model(model: Any) -> Any:
    """A spatial model or map of gammapy as ours, anything else as it is.

    Raises
    ------
    ValueError
        If it is one that is not normalised, or has no counterpart.
    """
    found, map_ = _spatial_model(model)
    if map_ is not None:
        # Where only the shape matters, such as that of a template.
        return TemplateSpatialModel(map_)
    return found


def _spatial_model(model: Any) -> tuple[Any, WcsNDMap | None]:
    """A spatial model as ours, and its map if that is not normalised."""
    if isinstance(model, WcsNDMap) or is_gammapy_map(model):
        return TemplateSpatialModel(model), None
    kind = str(gammapy_class(model))
    if kind == "TemplateSpatialModel":
        map_, centre = as_map(model.map), model.map.geom.center_skydir
        moved = abs((model.position.separation(centre)).deg)
        if moved > 1e-9:
            raise ValueError(
                f"gammapy's TemplateSpatialModel is moved by {moved:.3g} deg (lon_0, lat_0), which "
                "templates here are not: give a map at the new position"
            )
        name = None if model.filename is None else str(model.filename)
        return TemplateSpatialModel(map_, name), None if model.normalize else map_
    if kind.endswith("SpatialModel"):
        return spatial_model_from_gammapy(model), None
    return model, None


def _names(names: Any) -> tuple[str, ...] | None:
    if names is None:
        return None
    found = (names,) if isinstance(names, str) else tuple(names)
    if not all(isinstance(name, str) for name in found):
        raise ValueError(f"datasets_names must be names of datasets, got {names!r}")
    return found


def sky_model_from_gammapy(model: Any) -> SkyModel:
    """The same source as a model of this package.

    Parameters
    ----------
    model : gammapy.modeling.models.SkyModel
        With the values that its parameters have now. Whether they are free there does not matter:
        ``free`` is False.

    Raises
    ------
    ValueError
        If it is none, has no spatial model, a temporal one, or any that has no counterpart.
    """
    if gammapy_class(model) != "SkyModel":
        raise ValueError(f"{type(model).__name__} is no SkyModel of gammapy")
    name = f"gammapy's SkyModel {model.name!r}"
    if model.spatial_model is None:
        raise ValueError(f"{name} has no spatial_model, and a source on a map must be somewhere")
    temporal = gammapy_class(model.temporal_model)
    if temporal not in (None, "ConstantTemporalModel"):
        raise ValueError(
            f"{name} changes with time ({temporal}), which sources here do not: scale its spectrum "
            "to the mean over the observation and leave temporal_model out"
        )
    if not all(model.apply_irf.values()):
        raise ValueError(f"{name} is not folded through all of the response (apply_irf)")
    try:
        return SkyModel(
            model.spectral_model,
            model.spatial_model,
            name=model.name,
            datasets_names=model.datasets_names,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def model_list(models: Any) -> list[SkyModel]:
    """One model or several, of gammapy too, as a list.

    Raises
    ------
    ValueError
        If `models` is neither a SkyModel nor an iterable of these.
    """
    remedy = "give a SkyModel(spectral_model=..., spatial_model=...) or a list of these"
    if isinstance(models, SkyModel):
        return [models]
    if gammapy_class(models) == "SkyModel":
        return [sky_model_from_gammapy(models)]
    if isinstance(models, str | bytes) or not isinstance(models, Iterable):
        raise ValueError(f"models is a {type(models).__name__}; {remedy}")
    found = [
        sky_model_from_gammapy(model) if gammapy_class(model) == "SkyModel" else model
        for model in models
    ]
    for index, model in enumerate(found):
        if not isinstance(model, SkyModel):
            raise ValueError(f"models[{index}] is a {type(model).__name__}; {remedy}")
    return found
