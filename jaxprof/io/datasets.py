"""YAML files of datasets, in gammapy's layout."""

from __future__ import annotations

import os
from typing import Any

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.io.errors import naming
from jaxprof.io.models import mapping, named_file, read_yaml
from jaxprof.io.paths import existing_file

KINDS: dict[str, type[MapDataset]] = {
    "MapDataset": MapDataset,
    "MapDatasetOnOff": MapDatasetOnOff,
}


def read_datasets(path: str | os.PathLike[str]) -> list[MapDataset]:
    """Datasets of a YAML file; see `Datasets.read`."""
    file = existing_file(path)
    with naming(str(file), always=True):
        items = read_yaml(file).get("datasets")
        if not isinstance(items, list):
            raise ValueError("no list of datasets: this is no YAML file of datasets")
        return [_dataset(mapping(item), file) for item in items]


def _dataset(item: Any, file: Any) -> MapDataset:
    name, kind = str(item.get("name")), str(item.get("type"))
    with naming(f"dataset {name!r}"):
        if kind not in KINDS:
            raise ValueError(
                f"its type is {kind!r}; a profile needs pixels, which {' and '.join(KINDS)} have: "
                "take it out of the file, or give the map dataset that it was made from"
            )
        if item.get("filename") is None:
            raise ValueError("it has no filename")
        return KINDS[kind].read(named_file(str(item["filename"]), file.parent), name=name)
