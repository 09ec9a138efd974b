"""Positions of sources as parameters: a source on a grid of positions, and what lies between.

A source that may move by an offset is the sum of the same source at the nodes of a grid, weighted
by the polynomials through them: components like all others, so that nothing else is folded twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.nodes import nodes_between
from jaxprof.reduce.joint.brightness import sky_frame
from jaxprof.reduce.joint.kernels import psf_radius
from jaxprof.sky.models import SkyModel

Array = NDArray[Any]

OFFSETS = ("source_lat", "source_lon")
"""Parameters of a position, in the order of the grid's axes."""
PRECISION = 2e-5
"""What interpolation may add to a template, as a part of its peak."""
MOST = 11
"""Largest number of nodes along each axis."""
_ONE_SIGMA = 1 - math.exp(-0.5)


@dataclass(frozen=True)
class MovingSources:
    """Sources with free positions.

    Attributes
    ----------
    sources : list of SkyModel
        All sources of a fit, with their nominal positions.
    nodes : dict of ndarray, shape (P,)
        Offsets [deg] from these along both axes, by the name of a source.
    """

    sources: Sequence[SkyModel]
    nodes: Mapping[str, Array]

    def components(self) -> list[SkyModel]:
        """The sources that are folded: those with free positions at all nodes."""
        found: list[SkyModel] = []
        for source in self.sources:
            if source.name not in self.nodes:
                found.append(source)
                continue
            own = self.nodes[source.name]
            for number, (lat, lon) in enumerate((lat, lon) for lat in own for lon in own):
                moved = moved_model(source.spatial_model, lon, lat)
                name = f"{source.name} at node {number}"
                found.append(SkyModel(source.spectral_model, moved, name=name, free=source.free))
        return found

    def added(self, likelihood: Likelihood) -> Likelihood:
        """The likelihood of the components, with offsets as parameters."""
        names = sorted(self.nodes)
        nominal, constraints = dict(likelihood.nominal), likelihood.constraints
        nominal["source"] = {each.name: np.ones(likelihood.n_groups) for each in self.sources}
        lower, upper = dict(constraints.lower), dict(constraints.upper)
        for parameter in OFFSETS:
            nominal[parameter] = {name: np.asarray(0.0) for name in names}
            for name in names:
                lower[f"{parameter}.{name}"] = float(self.nodes[name][0])
                upper[f"{parameter}.{name}"] = float(self.nodes[name][-1])
        return replace(
            likelihood,
            nominal=nominal,
            constraints=replace(constraints, lower=lower, upper=upper),
            source_nodes={name: dict.fromkeys(OFFSETS, self.nodes[name]) for name in names},
            sources=tuple(source.name for source in self.sources),
            free_sources=tuple(source.name for source in self.sources if source.free),
            free=(*likelihood.free, *OFFSETS),
        )


def moving_sources(
    sources: Sequence[SkyModel], ranges: Mapping[str, Any], datasets: Sequence[MapDataset]
) -> MovingSources:
    """Sources with free positions, and as many nodes as the PSF asks for.

    Parameters
    ----------
    sources : sequence of SkyModel
        All sources.
    ranges : dict of Quantity or float
        By how much [deg] sources may move in either direction, by name.
    datasets : sequence of MapDataset
        With their PSF.

    Returns
    -------
    MovingSources

    Raises
    ------
    ValueError
        For a name that no source has, a source without a position, or a range that is not positive
        or too wide for the PSF.
    """
    if not ranges:
        return MovingSources(sources=list(sources), nodes={})
    known = {source.name: source for source in sources}
    sizes = [psf_radius(dataset, _ONE_SIGMA) for dataset in datasets]
    width = min(float(size[size > 0].min(initial=np.inf)) for size in sizes)
    nodes = {}
    for name, given in ranges.items():
        if name not in known:
            raise ValueError(
                f"source_position: there is no source {name!r}; there are "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        if not hasattr(known[name].spatial_model, "lon_0"):
            kind = type(known[name].spatial_model).__name__
            raise ValueError(f"source_position: {name!r} is a {kind}, which has no position")
        reach = float(u.Quantity(given, "deg").value)
        if not 0 < reach < np.inf:
            raise ValueError(f"source_position: {name!r} must be a positive angle, got {given!r}")
        number = _number_of_nodes(reach / width)
        if number > MOST:
            raise ValueError(
                f"source_position: {name!r} may move by {reach:.3g} deg, too far for a PSF of "
                f"{width:.3g} deg; give a smaller angle around a better position"
            )
        nodes[name] = nodes_between(-reach, reach, number)
    return MovingSources(sources=list(sources), nodes=nodes)


def _number_of_nodes(reach: float) -> int:
    """Chebyshev nodes for a Gaussian that moves by so many of its standard deviations.

    Its n-th derivative is at most about ``sqrt(n!)`` over their n-th power.
    """
    number = 3
    while reach**number / (2 ** (number - 1) * math.sqrt(math.factorial(number))) > PRECISION:
        number += 2
        if number > MOST:
            break
    return number


def moved_model(model: Any, lon: float, lat: float) -> Any:
    """A spatial model at offsets on the sky [deg] from where it is."""
    at = SkyCoord(float(model.lon_0), float(model.lat_0), unit="deg", frame=sky_frame(model))
    there = at.spherical_offsets_by(lon * u.deg, lat * u.deg).spherical
    return model.replace(lon_0=float(there.lon.deg), lat_0=float(there.lat.deg))
