"""Several datasets, and the models of their field."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from typing import Any

from jaxprof.datasets.gammapy import as_datasets
from jaxprof.datasets.mapdataset import MapDataset
from jaxprof.sky.model_list import FoVBackgroundModel, Models, TemplateNPredModel


class Datasets(list[MapDataset]):
    """Datasets that are analysed together; a list.

    Parameters
    ----------
    datasets : MapDataset or iterable of MapDataset
        Of gammapy too.

    Raises
    ------
    ValueError
        If one is no dataset, or names occur twice.
    """

    def __init__(self, datasets: Any = ()) -> None:
        found = as_datasets(datasets)
        super().__init__([found] if isinstance(found, MapDataset) else found)
        for dataset in self:
            if not isinstance(dataset, MapDataset):
                raise ValueError(f"datasets has a {type(dataset).__name__}; give MapDataset")
        names = self.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"datasets have the same name: {', '.join(map(repr, twice))}")

    @property
    def names(self) -> list[str]:
        """Names of the datasets."""
        return [dataset.name for dataset in self]

    def _repr_html_(self) -> str:
        return "".join(dataset._repr_html_() for dataset in self)

    def __getitem__(self, key: Any) -> Any:
        """A dataset by name or index; a slice of the list."""
        if isinstance(key, str):
            if key not in self.names:
                raise ValueError(f"there is no dataset {key!r}; there are {self.names}")
            key = self.names.index(key)
        found = super().__getitem__(key)
        return Datasets(found) if isinstance(key, slice) else found

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], path_models: str | os.PathLike[str] | None = None
    ) -> Datasets:
        """Read the YAML file of datasets that gammapy writes, and the FITS files that it names.

        Parameters
        ----------
        path : str or path-like
            The YAML file ("datasets.yaml"); ``$VARIABLES`` and ``~`` are expanded. The files that
            it names are looked for in its folder.
        path_models : str or path-like, optional
            YAML file of the models, see `Models.read`, which join the datasets as `with_models`
            says.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no such file, or has datasets that have no pixels.
        """
        from jaxprof.io.datasets import read_datasets

        found = cls(read_datasets(path))
        return found if path_models is None else found.with_models(Models.read(path_models))

    def with_models(self, models: Iterable[Any]) -> Datasets:
        """The datasets with models, each with those that are for it.

        Parameters
        ----------
        models : Models or iterable of models
            Sources become the `models` of the datasets, background models change their background,
            and predicted counts join `npred_sources`.

        Returns
        -------
        Datasets
            Copies that share all other maps.

        Raises
        ------
        ValueError
            If a model is for a dataset that is not there, or a background model for one without
            background.
        """
        checked = Models(models)
        for model in checked:
            if missing := [n for n in model.datasets_names or () if n not in self.names]:
                raise ValueError(
                    f"model {model.name!r} is for dataset {missing[0]!r}; there are {self.names}"
                )
        return Datasets([_with_models(dataset, checked) for dataset in self])


def _with_models(dataset: MapDataset, models: Models) -> MapDataset:
    found = copy.copy(dataset)
    sources = models.sources(dataset.name)
    if sources:
        found.models = sources
    for model in models:
        if not model.is_in(dataset.name):
            continue
        if isinstance(model, FoVBackgroundModel):
            if found.background is None:
                raise ValueError(
                    f"model {model.name!r}: dataset {dataset.name!r} has no background"
                )
            factor = model.factor(found.energy_axis)
            found.background = found.background.copy(data=found.background.data * factor)
        elif isinstance(model, TemplateNPredModel):
            npred = model.npred()
            if found.npred_sources is not None:
                npred = npred.copy(data=npred.data + found.npred_sources.data)
            found.npred_sources = npred
    return found
