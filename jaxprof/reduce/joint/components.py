"""The components of a joint fit, and where the flux of each starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.models.spatial import PointSpatialModel
from jaxprof.reduce.joint.cubes import cube_emissions, resolved
from jaxprof.reduce.joint.curvature import STEEP
from jaxprof.reduce.joint.degrees import moment_degree
from jaxprof.reduce.joint.emission import Emission, region_emissions, source_emission
from jaxprof.reduce.joint.kernels import psf_margin
from jaxprof.reduce.region_checks import OFF_MAP_HINT, listed
from jaxprof.reduce.signal import reference_flux
from jaxprof.sky.models import SkyModel
from jaxprof.types import Array
from jaxprof.user_warning import warn_user


@dataclass(frozen=True)
class Components:
    """What is fitted together: the bins of the profile, then guard bins, then other sources."""

    regions: list[Any]
    guards: list[Any]
    """Bins of the profile, and beyond them."""
    sources: list[Any]
    """Other sources."""
    models: list[Any]
    """Spectrum at norm one of each bin, guard bin and source."""
    template: Any
    """Surface brightness within the bins and guard bins."""
    oversampling: int
    """Sub-pixels along each side of a pixel, see `region_emissions`."""
    subpixels: int | None = None
    """Degrees of the moments of emission within its pixel, see `moment_degree`."""

    def __len__(self) -> int:
        return len(self.models)

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return len(self.regions)

    @property
    def n_regions(self) -> int:
        """Number of bins and guard bins."""
        return len(self.regions) + len(self.guards)

    def flux(self, edges: Array) -> Array:
        """Flux of each component in bins of true energy, (C, T) [cm-2 s-1]; edges in TeV."""
        table = {}
        # Also while something else is traced, such as the width of the PSF.
        with jax.ensure_compile_time_eval():
            for index, model in enumerate(self.models):
                if id(model) in table:
                    continue
                try:
                    table[id(model)] = reference_flux(model, edges)
                except ValueError as error:
                    if index < self.n_regions:
                        raise
                    name = self.sources[index - self.n_regions].name
                    raise ValueError(f"sources: {name!r}: {error}") from error
        return np.array([table[id(model)] for model in self.models])


def component_emissions(components: Components, dataset: MapDataset) -> list[Emission]:
    """Where the flux of each component starts, on the map of a dataset."""
    geom = dataset.geom.to_image()
    regions = [*components.regions, *components.guards]
    template = components.template
    many = list(template) if isinstance(template, list | tuple) else [template] * len(regions)
    if len(many) == components.n_bins:
        # A template for each bin leaves the guard bins even.
        many += [None] * len(components.guards)
    cubes = cube_emissions(many, components.models, dataset)
    degree = moment_degree(dataset, components.subpixels)
    points = {i: m for i, m in enumerate(many) if isinstance(m, PointSpatialModel)}
    for index, cube in enumerate(cubes):
        many[index] = None if index in points else many[index] if cube is None else cube.mean
    found = region_emissions(
        regions, geom, template=many, oversampling=components.oversampling, degree=degree
    )
    for index, model in points.items():
        # A bin whose flux is a point's: the region tells its counts and solid angle only.
        found[index] = replace(source_emission(model, geom), solid_angle=found[index].solid_angle)
    found = resolved(found, cubes, geom)
    return [*found, *source_emissions(components.sources, dataset, degree)]


def source_emissions(
    sources: Sequence[SkyModel], dataset: MapDataset, degree: int, *, name: str = "sources"
) -> list[Emission]:
    """Where the flux of each source starts, as far as its photons can reach the map.

    The largest ``degree`` of the moments within pixels is from `moment_degree`; ``name`` is what
    errors call the sources.
    """
    geom = dataset.geom.to_image()
    margin = psf_margin(dataset, geom)
    models = [source.spatial_model for source in sources]
    cubes = cube_emissions(models, [source.spectral_model for source in sources], dataset)
    found = []
    for source, cube in zip(sources, cubes, strict=True):
        model = source.spatial_model if cube is None else cube.mean
        try:
            found.append(source_emission(model, geom, margin=margin, degree=degree))
        except ValueError as error:
            raise ValueError(f"{name}: {source.name!r}: {error}") from error
    return resolved(found, cubes, geom)


def warn_bins_off_map(
    regions: Sequence[Any], emissions: Sequence[Emission], dataset: MapDataset
) -> None:
    """Warn of bins that lie wholly off the map; ValueError if all do."""
    ny, nx = dataset.geom.npix_shape
    lost = []
    for index, emission in enumerate(emissions):
        h, w = emission.weights.shape
        on_map = emission.y0 < ny and emission.x0 < nx and emission.y0 > -h and emission.x0 > -w
        if not on_map or not emission.weights.any():
            lost.append(index)
    if len(lost) == len(emissions):
        raise ValueError(
            f"regions: none of the {len(lost)} lies on the map of dataset {dataset.name!r}. "
            f"{OFF_MAP_HINT}. Leave out datasets of other parts of the sky"
        )
    if lost:
        warn_user(
            f"{listed(np.array(lost), regions)}: off the map of dataset {dataset.name!r}, "
            "where all that is known of them is what leaks into the map"
        )


TORN = (
    "the map's projection ends, as along the seam of a map of the whole sky, and what leaks across "
    "is lost"
)


def warn_steep(gradients: Array, components: Components, name: str) -> None:
    """Warn of bins and point sources around which pixels change by more than is followed.

    The ``gradients`` (C,) of `Planes.gradient` are infinite where the projection ends within the
    PSF; ``name`` is that of the dataset.
    """
    n = components.n_bins

    def named(chosen: NDArray[np.bool_]) -> str:
        said = [listed(np.flatnonzero(chosen[:n]), components.regions)] if chosen[:n].any() else []
        for source, found in zip(components.sources, chosen[components.n_regions :], strict=True):
            if found and isinstance(source.spatial_model, PointSpatialModel):
                said.append(f"source {source.name!r}")
        return ", ".join(said)

    steep, torn = named(gradients > STEEP), named(np.isinf(gradients))
    if steep:
        warn_user(
            f"{steep}: within the PSF of dataset {name!r} the map's pixels change by "
            "more than is followed, as next to a pole or to the edge of a projection; predicted "
            "counts may be off by some percent of their peak"
            + (f". Within that of {torn} {TORN}" if torn else "")
            + ". Use a map with its reference nearby"
        )
