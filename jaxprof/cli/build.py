"""From a configuration to datasets, regions and the estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import astropy.units as u

from jaxprof.cli.config import Loaded
from jaxprof.cli.sections import FORWARD_ONLY
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.estimators.joint import ForwardFoldingProfileEstimator
from jaxprof.estimators.separate import FluxProfileEstimator
from jaxprof.io.kinds import read_dataset, read_regions
from jaxprof.io.paths import stem
from jaxprof.models.spatial import PointSpatialModel
from jaxprof.models.spectral import spectral_model_from_dict
from jaxprof.sky.models import SkyModel
from jaxprof.sky.regions import (
    make_concentric_annulus_sky_regions,
    make_grid_rectangle_sky_regions,
    make_orthogonal_rectangle_sky_regions,
    make_sector_sky_regions,
)

_MAKERS: dict[str, Callable[..., list[Any]]] = {
    "boxes": make_orthogonal_rectangle_sky_regions,
    "annuli": make_concentric_annulus_sky_regions,
    "grid": make_grid_rectangle_sky_regions,
    "sectors": make_sector_sky_regions,
}
SCAN_N_SIGMA = 3.0
"""Standard deviations around each norm that are scanned, unless the configuration says where."""
_ON_MAPS = ("boxes", "grid")
_POSITIONS = {"start": "start_pos", "end": "end_pos", "center": "center"}


def read_datasets(loaded: Loaded) -> list[MapDataset]:
    """The datasets, each with the name that it is to have."""
    found = []
    for index, entry in enumerate(loaded.config.datasets):
        with loaded.document.at("datasets", index):
            path = loaded.path(entry.path)
            # Files of gammapy have no name, and a random one would not be reproducible.
            dataset = read_dataset(path, entry.name or stem(path.name))
            dataset.check()
            found.append(dataset)
    return found


def make_regions(loaded: Loaded, datasets: Sequence[MapDataset]) -> list[Any]:
    """The regions; boxes and grids lie in the projection of the first dataset's map."""
    regions = loaded.config.regions
    if regions.file is not None:
        with loaded.document.at("regions", "file"):
            return read_regions(loaded.path(regions.file))
    name = next(name for name in _MAKERS if getattr(regions, name) is not None)
    section = getattr(regions, name)
    with loaded.document.at("regions", name):
        arguments = {
            _POSITIONS.get(key, key): value.skycoord() if key in _POSITIONS else value
            for key, value in section
        }
        if name in _ON_MAPS:
            arguments["wcs"] = datasets[0].geom.wcs
        return _MAKERS[name](**arguments)


def make_estimator(
    loaded: Loaded, datasets: Sequence[MapDataset], regions: list[Any]
) -> FluxProfileEstimator | ForwardFoldingProfileEstimator:
    """The estimator with all its options."""
    config, document = loaded.config, loaded.document
    with document.at("spectral_model"):
        spectrum = _spectrum(config.spectral_model)
    given = config.estimator
    options = given.model_dump(exclude={"type", "sources", *FORWARD_ONLY}, exclude_none=True)
    norm = given.norm or {}
    scanned = {"scan", "all"} & set(given.selection_optional)
    if scanned and not any(key.startswith(("scan_", "interp")) for key in norm):
        # The grid of the estimators, gammapy's, misses faint bins.
        options["norm"] = {"scan_n_sigma": SCAN_N_SIGMA, **norm}
    joint = given.type == "forward-folded"
    if joint:
        options |= given.model_dump(include=set(FORWARD_ONLY) - {"sources"}, exclude_none=True)
        options["sources"] = _sources(loaded)
        if given.likelihood is None and any(isinstance(d, MapDatasetOnOff) for d in datasets):
            options["likelihood"] = "region"  # the only one that On-Off data have
    with document.at("estimator"):
        return (ForwardFoldingProfileEstimator if joint else FluxProfileEstimator)(
            regions,
            spectral_model=spectrum,
            energy_edges=u.Quantity([u.Quantity(edge) for edge in config.energy_edges]),
            **options,
        )


def _spectrum(data: dict[str, Any]) -> Any:
    try:
        return spectral_model_from_dict(data)
    except (KeyError, AttributeError) as error:
        raise ValueError(
            f"not a spectral model as gammapy writes it ({error!r}); "
            "give type, and parameters as a list of name, value and unit"
        ) from error


def _sources(loaded: Loaded) -> list[SkyModel]:
    found = []
    for index, source in enumerate(loaded.config.estimator.sources or ()):
        with loaded.document.at("estimator", "sources", index):
            where = source.position
            coordinates = {"lon_0": u.Quantity(where.lon), "lat_0": u.Quantity(where.lat)}
            spatial = PointSpatialModel(**coordinates | {"frame": where.frame})
            spectrum = _spectrum(source.spectral_model)
            found.append(SkyModel(spectrum, spatial, name=source.name, free=source.free))
    return found
