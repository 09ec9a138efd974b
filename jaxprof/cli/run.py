"""``jaxprof profile``: from a configuration to files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import yaml

from jaxprof.cli.build import make_estimator, make_regions, read_datasets
from jaxprof.cli.config import Loaded
from jaxprof.cli.figures import figures, image
from jaxprof.cli.messages import Log
from jaxprof.cli.provenance import provenance
from jaxprof.cli.report import report
from jaxprof.cli.sections import Config
from jaxprof.io.paths import expand_path
from jaxprof.io.textfile import write_bytes
from jaxprof.profile import FluxProfile
from jaxprof.profile.html import status_counts

SOME_FAILED = 3
"""Exit code where everything is written and some bins have no estimate."""
_STEPS = 5
_REPORTS = ("_config.yaml", "_report.html", "_provenance.json")


def in_folder(loaded: Loaded, folder: str | None) -> Loaded:
    """The same configuration with another folder for its outputs, relative to the current one."""
    if folder is None:
        return loaded
    outputs = loaded.config.outputs.model_copy(update={"folder": os.path.abspath(folder)})
    config: Config = loaded.config.model_copy(update={"outputs": outputs})
    return replace(loaded, config=config)


def run(loaded: Loaded, log: Log, *, overwrite: bool = False) -> tuple[list[Path], int]:
    """Make a profile and write all that was asked for.

    Parameters
    ----------
    loaded : Loaded
        The configuration.
    log : Log
        Where steps and warnings go.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    paths : list of Path
        What was written.
    code : int
        Exit code: 0, or `SOME_FAILED`.

    Raises
    ------
    ValueError, OSError
        If the configuration or the data are wrong, or a file exists.
    """
    document, outputs = loaded.document, loaded.config.outputs
    folder, inputs = loaded.path(outputs.folder), _inputs(loaded)
    with document.at("outputs"):
        own = [*inputs, expand_path(document.path)]
        _check_targets(folder, outputs.name, own, overwrite)
    start = time.perf_counter()
    with log.step(1, _STEPS, f"read datasets ({len(loaded.config.datasets)})"):
        datasets = read_datasets(loaded)
    record = provenance(inputs)
    with log.step(2, _STEPS, "make regions and estimator"):
        regions = make_regions(loaded, datasets)
        estimator = make_estimator(loaded, datasets, regions)
    with log.step(3, _STEPS, f"fit {len(regions)} bins"), document.at():
        profile = estimator.run(datasets)
    record["seconds"] = round(time.perf_counter() - start, 2)
    bins = {status.label: count for status, count in status_counts(profile).items()}
    code = 0 if np.all(profile.success) else SOME_FAILED
    record |= {"bins": bins, "warnings": log.warnings, "exit_code": code}
    with log.step(4, _STEPS, "draw figures"):
        drawn = figures(_along(profile, outputs.axis), datasets, outputs.sed_type)
    with log.step(5, _STEPS, f"write into {folder}"), document.at("outputs"):
        folder.mkdir(parents=True, exist_ok=True)
        written = _write(loaded, profile, drawn, record, overwrite)
    for _, figure in drawn.values():
        plt.close(figure)
    if code:
        log.say("some bins have no estimate: " + ", ".join(f"{n} {k}" for k, n in bins.items()))
    return written, code


def _along(profile: FluxProfile, axis: str) -> FluxProfile:
    """The profile as figures and report show it; files keep its own axis."""
    return profile if axis == "distance" else profile.with_axis(axis)


def _inputs(loaded: Loaded) -> list[Path]:
    found = [loaded.path(entry.path) for entry in loaded.config.datasets]
    if loaded.config.regions.file is not None:
        found.append(loaded.path(loaded.config.regions.file))
    return [path for path in found if path.is_file()]


def _check_targets(folder: Path, name: str, inputs: Sequence[Path], overwrite: bool) -> None:
    """Refuse what could not be written in the end, before anything is computed."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder {folder} is a file; name a folder")
    own = {path.resolve() for path in inputs}
    existing = [
        path for path in (sorted(folder.iterdir()) if folder.is_dir() else []) if _is(path, name)
    ]
    for path in existing:
        if path.resolve() in own:
            raise ValueError(f"{path} is an input; give the outputs another name or folder")
    if existing and not overwrite:
        raise FileExistsError(
            f"{existing[0]} exists already; give --overwrite, or the outputs another name or folder"
        )


def _is(path: Path, name: str) -> bool:
    """Whether a file may be one of a run's outputs."""
    if not path.name.startswith(name):
        return False
    rest = path.name.removeprefix(name)
    figure = rest.startswith("_") and rest.endswith((".png", ".pdf", ".svg"))
    return figure or rest in (".fits", ".ecsv", ".csv", *_REPORTS)


def _write(
    loaded: Loaded,
    profile: FluxProfile,
    drawn: Mapping[str, tuple[str, Any]],
    record: dict[str, Any],
    overwrite: bool,
) -> list[Path]:
    outputs = loaded.config.outputs
    base = str(loaded.path(outputs.folder) / outputs.name)
    written = []

    def write(ending: str, content: bytes) -> None:
        written.append(Path(base + ending))
        write_bytes(written[-1], content, overwrite=overwrite)

    for kind in outputs.formats:
        written.append(Path(f"{base}.{kind}"))
        # Other files keep all types of flux, and what the profile itself says of them.
        sed_type = outputs.sed_type if kind == "csv" else None
        profile.write(written[-1], sed_type=sed_type, overwrite=overwrite)
    for name, (_, figure) in drawn.items():
        for ending in outputs.figures:
            write(f"_{name}.{ending}", image(figure, ending))
    text = yaml.safe_dump(loaded.resolved(), sort_keys=False, allow_unicode=True)
    write("_config.yaml", text.encode())
    record = record | {"config_as_given": loaded.document.text}
    if outputs.report:
        shown = {name: (caption, image(f, "png")) for name, (caption, f) in drawn.items()}
        named = {"title": outputs.name, "sed_type": outputs.sed_type}
        page = report(_along(profile, outputs.axis), shown, record, **named)
        write("_report.html", page.encode())
    record["outputs"] = [path.name for path in written]
    write("_provenance.json", json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
    return written
