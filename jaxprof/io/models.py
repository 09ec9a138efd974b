"""YAML files of models, in gammapy's layout, and the files that they name."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import yaml  # type: ignore[import-untyped]

from jaxprof.io.ecsvheader import LOADER
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file
from jaxprof.io.paths import atomic_write, existing_file, known_extension
from jaxprof.io.textfile import read_text
from jaxprof.io.wcsmap import read_wcs_map
from jaxprof.models.gammapy import spectral_model_by_gammapy
from jaxprof.models.spatial import spatial_model_from_dict
from jaxprof.models.spectral import CompoundSpectralModel, SpectralModel, spectral_model_from_dict
from jaxprof.models.spectral_base import SPECTRAL_MODELS
from jaxprof.sky import WcsNDMap
from jaxprof.sky.model_list import FoVBackgroundModel, TemplateNPredModel
from jaxprof.sky.models import SkyModel
from jaxprof.sky.template_map import TemplateSpatialModel, flux_times_template

EXTENSIONS = (".yaml", ".yml")
DATA = "$GAMMAPY_DATA"
MOST_VALUES = 1_000_000
"""Values in a YAML file. With aliases, which gammapy writes, ten lines can stand for any number."""


def read_models(path: str | os.PathLike[str]) -> list[Any]:
    """Models of a YAML file; see `Models.read`."""
    file = existing_file(path)
    with naming(str(file), always=True):
        return models_from_dict(read_yaml(file), file.parent)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises
    ------
    ValueError
        If it is no YAML, no mapping, or stands for more than a million values.
    """
    try:
        data = yaml.load(read_text(file), Loader=LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ValueError("a mapping is expected, with components (models) or datasets")
    for number, _ in enumerate(_values(data)):
        if number > MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {MOST_VALUES} values")
    return data


def _values(tree: Any) -> Iterator[Any]:
    """All values of nested lists and mappings, those that are there twice twice."""
    yield tree
    branches = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for branch in branches:
        yield from _values(branch)


def write_models(
    data: dict[str, Any], path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write the dict of models as YAML; see `Models.write`."""
    known_extension(path, EXTENSIONS)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def models_from_dict(data: dict[str, Any], folder: Path | None = None) -> list[Any]:
    """Models of the dict that gammapy's YAML files hold; see `Models.from_dict`.

    Parameters
    ----------
    data : dict
        It is left as it is.
    folder : Path, optional
        Where files are looked for that have no folder; by default the current one.
    """
    components = data.get("components") if isinstance(data, dict) else None
    if not isinstance(components, list):
        raise ValueError("no list of components: this is no dict of models")
    components = copy.deepcopy(components)
    _resolve_links(components)
    found = []
    for number, component in enumerate(components):
        with naming(f"component {number}, {_label(component)}"):
            found.append(_model(component, folder))
    return found


def mapping(data: Any) -> dict[str, Any]:
    """The same; ValueError if it is no mapping."""
    if not isinstance(data, dict):
        raise ValueError(f"{data!r} is given where a mapping is expected")
    return data


def _label(component: Any) -> str:
    name = component.get("name") if isinstance(component, dict) else None
    return repr(name or (component.get("type") if isinstance(component, dict) else component))


def _resolve_links(components: list[Any]) -> None:
    """Give linked parameters the value of the first, as gammapy does."""
    first: dict[str, dict[str, Any]] = {}
    for item in _parameters(components):
        label = item.get("link")
        if label is not None:
            leader = first.setdefault(str(label), item)
            item |= {key: leader[key] for key in ("value", "unit") if key in leader}


def _parameters(tree: Any) -> Iterator[dict[str, Any]]:
    """All items of lists called parameters, in order."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _parameters(branch)
    elif isinstance(tree, dict):
        for key, branch in tree.items():
            if key == "parameters" and isinstance(branch, list):
                yield from (item for item in branch if isinstance(item, dict))
            else:
                yield from _parameters(branch)


def _model(data: dict[str, Any], folder: Path | None) -> Any:
    kind = mapping(data).get("type", "SkyModel")
    if kind in ("SkyModel", "sky-model"):
        return SkyModel(**sky_model_parts(data, folder))
    names = data.get("datasets_names")
    if kind not in ("FoVBackgroundModel", "fov-bkg", "TemplateNPredModel"):
        raise ValueError(
            f"type is {kind!r}; SkyModel, FoVBackgroundModel and TemplateNPredModel are known"
        )
    if "spatial" in data:
        raise ValueError("a background with a spatial model is not known here; put it on a map")
    spectrum = spectral_model(data["spectral"], folder) if "spectral" in data else None
    if kind == "TemplateNPredModel":
        name = str(data["filename"])
        map_ = template_map(name, folder)
        own = {"name": data.get("name", kind), "datasets_names": names, "filename": name}
        return TemplateNPredModel(map_, spectrum, **own)
    if not names or len(names) != 1:
        raise ValueError(f"datasets_names is {names!r}; a background belongs to one dataset")
    return FoVBackgroundModel(spectrum, dataset_name=names[0], name=data.get("name"))


def sky_model_parts(data: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Arguments of the `SkyModel` of a dict; see `SkyModel.from_dict`."""
    if mapping(data).get("spectral") is None:
        raise ValueError("a model needs a spectral part")
    temporal = mapping(data.get("temporal") or {}).get("type", "const")
    if temporal not in ("ConstantTemporalModel", "const"):
        raise ValueError(
            f"it changes with time ({temporal}), which sources here do not: scale its spectrum to "
            "the mean over the observation and leave temporal out"
        )
    if not all(mapping(data.get("apply_irf") or {}).values()):
        raise ValueError("it is not folded through all of the response (apply_irf)")
    if data.get("spatial") is None:
        raise ValueError("it has no spatial part, and a source on a map must be somewhere")
    spectrum, spatial = spectral_model(data["spectral"], folder), mapping(data["spatial"])
    parts = {"name": data.get("name"), "datasets_names": data.get("datasets_names")}
    parts["free"] = data.get("free", False)
    if spatial.get("type") not in ("TemplateSpatialModel", "template"):
        return parts | {
            "spectral_model": spectrum,
            "spatial_model": spatial_model_from_dict(spatial),
        }
    name = str(spatial.get("filename"))
    map_ = template_map(name, folder)
    _check_position(spatial, map_)
    if not spatial.get("normalize", True):
        spectrum = flux_times_template(spectrum, map_)
    return parts | {
        "spectral_model": spectrum,
        "spatial_model": TemplateSpatialModel(map_, filename=name),
    }


def _check_position(spatial: dict[str, Any], map_: WcsNDMap) -> None:
    """Raise for a template that is moved."""
    values = {item["name"]: item.get("value") for item in spatial.get("parameters") or []}
    centre = map_.geom.center_skydir.spherical
    for name, own in (("lon_0", centre.lon.deg), ("lat_0", centre.lat.deg)):
        given = values.get(name)
        if given is None or np.isnan(given):
            continue
        if abs((given - own + 180) % 360 - 180) > 1e-6:
            raise ValueError(
                f"the template is moved to {name} = {given:.6g} deg from {own:.6g} deg, which "
                "templates here are not: give a map at the new position"
            )


def spectral_model(data: dict[str, Any], folder: Path | None = None) -> SpectralModel:
    """Spectral model of a dict, with the table that it names, by gammapy if it is not known here.

    Raises
    ------
    ValueError
        If gammapy is needed and not installed, or does not know it either.
    """
    kind = str(mapping(data).get("type"))
    if kind in ("CompoundSpectralModel", "compound"):
        if missing := {"model1", "model2", "operator"} - set(data):
            raise ValueError(f"a {kind} without {' and '.join(sorted(missing))}")
        first, second = (spectral_model(data[key], folder) for key in ("model1", "model2"))
        return CompoundSpectralModel(first, second, data["operator"])
    if kind in ("EBLAbsorptionNormSpectralModel", "ebl-norm") and "filename" in data:
        table = absorption_table(str(data["filename"]), folder)
        data = {key: value for key, value in data.items() if key != "filename"} | table
    if kind not in SPECTRAL_MODELS:
        return spectral_model_by_gammapy(data)
    return spectral_model_from_dict(data)


def named_file(name: str, folder: Path | None) -> Path:
    """The file that another one names.

    Parameters
    ----------
    name : str
        ``$GAMMAPY_DATA`` at its beginning is expanded, other variables and ``~`` are not.
    folder : Path or None
        Folder of the other one, in which names without a folder are looked for.

    Raises
    ------
    ValueError
        If there is none.
    """
    text = name
    if name.startswith(DATA) and os.environ.get(DATA[1:]):
        text = os.environ[DATA[1:]] + name[len(DATA) :]
    candidates = [Path(text)] if folder is None else [folder / text, Path(text)]
    for file in candidates:
        if "$" not in str(file) and file.is_file():
            return file
    raise ValueError(f"the file {name!r} that it names is not there; looked for {candidates[0]}")


def template_map(name: str, folder: Path | None = None) -> WcsNDMap:
    """The first map of a FITS file that another file names."""
    return WcsNDMap(*read_wcs_map(named_file(name, folder)))


def absorption_table(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Energies, redshifts and transmissions of a table model of XSPEC, as a dict has them."""
    try:
        file = named_file(name, folder)
    except ValueError:
        # Files written elsewhere name gammapy's tables by where they were there.
        file = named_file(f"{DATA}/ebl/{Path(name).name}", folder)
    with fits_file(file) as hdulist:
        redshift, rows = np.unique(hdulist["PARAMETERS"].data["VALUE"][0], return_index=True)
        bounds = [hdulist["ENERGIES"].data[key] for key in ("ENERG_LO", "ENERG_HI")]
        # Their unit is keV and stands nowhere.
        energy = u.Quantity(np.sqrt(bounds[0] * bounds[1]), "keV").to_value("TeV")
        values = np.asarray(hdulist["SPECTRA"].data["INTPSPEC"])[rows]
        tiny = np.finfo(values.dtype).tiny
    tables = {"energy": energy, "param": redshift, "values": np.maximum(values, tiny)}
    units = {"energy": "TeV", "param": "", "values": ""}
    return {
        key: {"data": np.asarray(table, float).tolist(), "unit": units[key]}
        for key, table in tables.items()
    }
