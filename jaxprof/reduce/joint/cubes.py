"""Template cubes as components: their brightness in each true energy of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.brightness import model_positions
from jaxprof.reduce.joint.emission import Emission, template_oversampling
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.sky.template_cube import BinMeans
from jaxprof.sky.template_map import TemplateSpatialModel, between_pixels, map_pixels
from jaxprof.types import Array


@dataclass(frozen=True, eq=False)
class CubeEmission:
    """A template cube and the spectrum that it is folded with."""

    mean: TemplateSpatialModel
    """Image of the mean over the true energies of a dataset, weighted by the flux."""
    bins: BinMeans
    """Brightness in each of them."""

    def resolved(self, emission: Emission, geom: WcsGeom) -> Emission:
        """The emission of the mean, with what differs from it at each true energy.

        The shares of the pixels change with the energy; where within its pixel a photon starts
        stays that of the mean.
        """
        shares = self._pixel_brightness(emission, geom)
        mean = np.tensordot(self.bins.shares, shares, 1)
        ratio = np.divide(shares, mean, out=np.ones_like(shares), where=mean > 0)
        found = np.sum(ratio * emission.weights, axis=(1, 2), keepdims=True)
        whole = emission.weights.sum()
        if abs(whole - 1) < 1e-6:
            # All of the flux is here, at each energy.
            if not (found > 0).all():
                number = int(np.argmin(found > 0))
                raise ValueError(
                    f"template is zero at the true energy bin {number}, where it has to have the "
                    "emission of a component; give a cube that is positive there at all energies"
                )
            ratio *= whole / found
        return replace(emission, by_energy=ratio)

    def _pixel_brightness(self, emission: Emission, geom: WcsGeom) -> Array:
        """Mean brightness of the pixels of an emission in each true energy, (T, h, w)."""
        own = self.mean.image.geom
        h, w = emission.weights.shape
        n_sub = template_oversampling(own, geom)
        steps = (np.arange(n_sub) + 0.5) / n_sub - 0.5
        rows = (emission.y0 + np.arange(h)[:, np.newaxis] + steps).ravel()
        columns = (emission.x0 + np.arange(w)[:, np.newaxis] + steps).ravel()
        y, x = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        py, px, inside = map_pixels(own, *model_positions(self.mean, geom, y, x))
        found = np.zeros((len(self.bins.shares), h, w))
        if not inside.any():
            return found
        # Of the cube only what is near these pixels.
        low_y, low_x = (int(np.floor(part[inside].min())) for part in (py, px))
        high_y, high_x = (int(np.ceil(part[inside].max())) + 1 for part in (py, px))
        low_y, low_x = max(low_y, 0), max(low_x, 0)
        cut = (slice(low_y, high_y), slice(low_x, high_x))
        at = (np.where(inside, py - low_y, 0.0), np.where(inside, px - low_x, 0.0))
        for number, image in enumerate(found):
            values = np.where(inside, between_pixels(self.bins.plane(number, cut), *at), 0.0)
            image += values.reshape(h, n_sub, w, n_sub).mean(axis=(1, 3))
        return found


def _cube_emission(model: Any, spectral_model: Any, dataset: MapDataset) -> CubeEmission | None:
    """A template cube with its spectrum on a dataset's true energies; None for what is none."""
    if not isinstance(model, TemplateSpatialModel) or model.cube is None:
        return None
    edges = dataset.energy_axis_true.edges_tev()
    flux = np.asarray(spectral_model.integral(edges[:-1], edges[1:]))
    bins = BinMeans.over(model.cube, edges, spectral_model, flux)
    return CubeEmission(TemplateSpatialModel(WcsNDMap(model.image.geom, bins.image)), bins)


def cube_emissions(
    templates: Sequence[Any], models: Sequence[Any], dataset: MapDataset
) -> list[CubeEmission | None]:
    """The cubes among spatial models, each with its spectrum; None for what is no cube."""
    known: dict[tuple[int, int], CubeEmission | None] = {}
    # Of the wrong number of templates says who spreads the emission.
    pairs = list(zip(templates, models, strict=False))
    for item, model in pairs:
        if (id(item), id(model)) not in known:
            own = TemplateSpatialModel(item) if isinstance(item, WcsNDMap) else item
            known[id(item), id(model)] = _cube_emission(own, model, dataset)
    return [known[id(item), id(model)] for item, model in pairs]


def resolved(
    emissions: Sequence[Emission], cubes: Sequence[CubeEmission | None], geom: WcsGeom
) -> list[Emission]:
    """Emissions of the means with what differs at each true energy, see `CubeEmission`."""
    return [
        emission if cube is None else cube.resolved(emission, geom)
        for emission, cube in zip(emissions, cubes, strict=True)
    ]
