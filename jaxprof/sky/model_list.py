"""Lists of models, as files of gammapy have them: sources and backgrounds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.foreign import gammapy_class
from jaxprof.models.spectral import PowerLawNormSpectralModel, SpectralModel
from jaxprof.sky.axes import MapAxis
from jaxprof.sky.gammapy import as_map
from jaxprof.sky.models import SkyModel, as_spectral_model, sky_model_from_gammapy
from jaxprof.sky.wcsmap import WcsNDMap


class _BackgroundModel:
    """What background models share: a factor that depends on the energy."""

    def __init__(self, spectral_model: Any, datasets_names: Any, name: str | None) -> None:
        names = (datasets_names,) if isinstance(datasets_names, str) else datasets_names
        factor = PowerLawNormSpectralModel() if spectral_model is None else spectral_model
        factor = as_spectral_model(factor)
        if not isinstance(factor, SpectralModel) or not factor.is_norm:
            raise ValueError(
                f"spectral_model of a background is {spectral_model!r}; give a dimensionless one, "
                "such as PowerLawNormSpectralModel(norm=1.1, tilt=0.05)"
            )
        self.spectral_model = factor
        self.datasets_names = None if names is None else tuple(names)
        self.name = str(name)

    def is_in(self, dataset_name: str) -> bool:
        """Whether it belongs to a dataset."""
        return self.datasets_names is None or dataset_name in self.datasets_names

    def factor(self, axis: MapAxis) -> NDArray[np.float64]:
        """Its factor at the centres of the bins of an energy axis, shape (n, 1, 1)."""
        return np.asarray(self.spectral_model(axis.center_tev()), float).reshape(-1, 1, 1)

    def _named(self, kind: str) -> dict[str, Any]:
        names = {} if self.datasets_names is None else {"datasets_names": [*self.datasets_names]}
        return {"name": self.name, "type": kind, **names, **self.spectral_model.to_dict()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, spectral_model={self.spectral_model!r})"


class FoVBackgroundModel(_BackgroundModel):
    """Norm and tilt of the background of a dataset.

    Parameters
    ----------
    spectral_model : SpectralModel, optional
        Dimensionless, a `PowerLawNormSpectralModel` by default; the background is multiplied by its
        value at the centres of the reconstructed energies.
    dataset_name : str
        The dataset.
    name : str, optional
        By default the name of the dataset and "-bkg".

    Raises
    ------
    ValueError
        If the spectral model is none, or has a unit.
    """

    def __init__(
        self, spectral_model: Any = None, *, dataset_name: str, name: str | None = None
    ) -> None:
        super().__init__(spectral_model, dataset_name, name or f"{dataset_name}-bkg")

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, in the layout of gammapy's YAML model files."""
        return self._named("FoVBackgroundModel")


class TemplateNPredModel(_BackgroundModel):
    """Predicted counts of something, by a map and a dimensionless factor.

    Parameters
    ----------
    map : WcsNDMap
        Counts, on the pixels and energies of the dataset.
    spectral_model : SpectralModel, optional
        Dimensionless, as for `FoVBackgroundModel`.
    name : str
        Name of the model.
    datasets_names : str or list of str, optional
        The datasets; by default all.
    filename : str, optional
        File of the map, which `to_dict` names.

    Raises
    ------
    ValueError
        If the map is none, or the spectral model none or with a unit.
    """

    def __init__(
        self,
        map: Any,
        spectral_model: Any = None,
        *,
        name: str = "template-npred",
        datasets_names: Any = None,
        filename: str | None = None,
    ) -> None:
        super().__init__(spectral_model, datasets_names, name)
        self.map = as_map(map)
        self.filename = filename
        if not isinstance(self.map, WcsNDMap):
            raise ValueError(f"map is a {type(map).__name__}; give a WcsNDMap")

    def npred(self) -> WcsNDMap:
        """Predicted counts."""
        return self.map.copy(data=self.map.data * self.factor(self.map.geom.axis("energy")))

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, in the layout of gammapy's YAML model files; needs ``filename``."""
        if not self.filename:
            raise ValueError(
                f"model {self.name!r} in a dict is the name of its file: give filename="
            )
        return {**self._named("TemplateNPredModel"), "filename": str(self.filename)}


class Models(list[Any]):
    """Models of a field: `SkyModel`, `FoVBackgroundModel`, `TemplateNPredModel`.

    Parameters
    ----------
    models : iterable of models
        Of gammapy too; ``Models`` of gammapy as well.

    Raises
    ------
    ValueError
        If one is no such model, or names occur twice.
    """

    def __init__(self, models: Iterable[Any] = ()) -> None:
        super().__init__(_as_model(model) for model in models)
        names = self.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"models have the same name: {', '.join(map(repr, twice))}")

    @property
    def names(self) -> list[str]:
        """Names of all models."""
        return [model.name for model in self]

    def __getitem__(self, key: Any) -> Any:
        """A model by name or index; a slice of the list."""
        if isinstance(key, str):
            if key not in self.names:
                raise ValueError(f"there is no model {key!r}; there are {self.names}")
            key = self.names.index(key)
        found = super().__getitem__(key)
        return Models(found) if isinstance(key, slice) else found

    def sources(self, dataset_name: str | None = None) -> list[SkyModel]:
        """The sources, of one dataset if it is named."""
        found = [model for model in self if isinstance(model, SkyModel)]
        return [m for m in found if dataset_name is None or m.is_in(dataset_name)]

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, in the layout of gammapy's YAML model files."""
        return {"components": [model.to_dict() for model in self]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Models:
        """Make models of the dict that `to_dict` or gammapy's ``to_dict`` wrote.

        Parameters
        ----------
        data : dict
            With "components". Parameters with the same "link" take the value of the first of them.
            Errors, limits and covariance are left. Templates are read from the files that are
            named.

        Raises
        ------
        ValueError
            For what is not known here, with its name. Spectra that gammapy knows are evaluated by
            it where it is installed.
        """
        from jaxprof.io.models import models_from_dict

        return cls(models_from_dict(data))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Models:
        """Read a YAML file of gammapy, 1.x or 2.x.

        Parameters
        ----------
        path : str or path-like
            ``$VARIABLES`` and ``~`` are expanded. Files that it names are looked for in its folder;
            ``$GAMMAPY_DATA`` at the beginning of their names is expanded, and nothing else.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            As for `from_dict`, and if the file is no such file.
        """
        from jaxprof.io.models import read_models

        return cls(read_models(path))

    def write(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a YAML file that gammapy reads; files of templates must be there already.

        Raises
        ------
        OSError
            FileExistsError if the file exists and `overwrite` is false.
        ValueError
            For another extension than ".yaml" or ".yml", and for templates without ``filename``.
        """
        from jaxprof.io.models import write_models

        write_models(self.to_dict(), path, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"Models([{', '.join(f'{type(m).__name__} {m.name!r}' for m in self)}])"


def _as_model(model: Any) -> Any:
    kind = gammapy_class(model)
    if kind == "SkyModel":
        return sky_model_from_gammapy(model)
    if kind in ("FoVBackgroundModel", "TemplateNPredModel"):
        if model.spatial_model is not None:
            raise ValueError(
                f"gammapy's {kind} {model.name!r} has a spatial_model, which backgrounds here have "
                "not: multiply the background by it"
            )
        if kind == "FoVBackgroundModel":
            dataset = model.datasets_names[0]
            return FoVBackgroundModel(model.spectral_model, dataset_name=dataset, name=model.name)
        return TemplateNPredModel(
            model.map,
            model.spectral_model,
            name=model.name,
            datasets_names=model.datasets_names,
            filename=model.filename,
        )
    if not isinstance(model, SkyModel | FoVBackgroundModel | TemplateNPredModel):
        raise ValueError(
            f"{type(model).__name__} is no model of a list; give SkyModel, FoVBackgroundModel or "
            "TemplateNPredModel"
        )
    return model
