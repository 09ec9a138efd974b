"""Reading a configuration: YAML, checked, with errors that name file, line and key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from jaxprof.cli.document import ConfigError, Document, Location, parse_document
from jaxprof.cli.sections import Config
from jaxprof.io.paths import expand_path
from jaxprof.io.textfile import read_text


@dataclass(frozen=True)
class Loaded:
    """A configuration that is valid, and the document that it stands in."""

    config: Config
    document: Document
    folder: Path

    def path(self, given: str) -> Path:
        """A path of the configuration: relative ones are relative to its file."""
        expanded = expand_path(given)
        return expanded if expanded.is_absolute() else self.folder / expanded

    def resolved(self) -> dict[str, Any]:
        """The configuration with all defaults and absolute paths: it runs from anywhere."""
        data = self.config.model_dump(exclude_none=True)
        for dataset in data["datasets"]:
            dataset["path"] = str(self.path(dataset["path"]).absolute())
        if "file" in data["regions"]:
            data["regions"]["file"] = str(self.path(data["regions"]["file"]).absolute())
        data["outputs"]["folder"] = str(self.path(data["outputs"]["folder"]).absolute())
        return data


def load_config(path: str | os.PathLike[str]) -> Loaded:
    """Read and check a configuration.

    Parameters
    ----------
    path : str or path-like
        A YAML file.

    Raises
    ------
    ConfigError
        With all that is wrong, a line for each error: file, line, key, and what would do.
    OSError
        If it cannot be read.
    """
    if os.fspath(path).lower().endswith((".fits", ".fits.gz", ".ecsv")):
        raise ConfigError(
            f"{path}: a file of data, no configuration; `jaxprof init {path}` proposes one for a "
            "dataset"
        )
    document = parse_document(read_text(path), os.fspath(path))
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        lines = {_explained(document, dict(found)): None for found in error.errors()}
        raise ConfigError("\n".join(lines)) from None
    return Loaded(config, document, expand_path(path).parent)


def _explained(document: Document, error: dict[str, Any]) -> str:
    """One error of pydantic in a line."""
    location: Location = tuple(error["loc"])
    # Alternatives of a type stand at the end of pydantic's location, and not in the document.
    while location and location not in document.lines and error["type"] != "missing":
        location = location[:-1]
    kind, got = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = _keys(location[:-1])
        text = f"unknown key{_near(str(location[-1]), known)}; known are {', '.join(known)}"
    elif kind == "missing":
        text = f"this key is needed, and {_section(location[:-1])} does not have it"
    elif kind == "literal_error":
        valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        text = f"must be one of {', '.join(valid)}, got {got!r}{_near(str(got), valid)}"
    elif kind == "value_error":
        text = str(error["ctx"]["error"])
    elif kind in ("model_type", "dict_type"):
        text = f"must be keys with values, got {got!r}"
    elif kind == "list_type":
        text = f"must be a list, got {got!r}" + f"; write [{got}]" * isinstance(got, str)
    elif kind == "too_short":
        text = f"must have {error['ctx']['min_length']} items or more, got {got!r}"
    else:
        said = error["msg"].replace("Input should be", "must be").replace("dictionary", "mapping")
        text = f"{said}, got {got!r}"
    return document.message(location, text)


def _section(location: Location) -> str:
    return ".".join(map(str, location)) or "the configuration"


def _near(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _keys(location: Location) -> list[str]:
    """Keys that the section at a location may have."""
    section: type[BaseModel] = Config
    for part in location:
        if isinstance(part, str):
            section = _model(section.model_fields[part].annotation)
    return list(section.model_fields)


def _model(annotation: Any) -> Any:
    """The section within a type such as ``list[Section]`` or ``Section | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)
