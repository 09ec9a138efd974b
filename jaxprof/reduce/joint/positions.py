"""Positions and widths of sources as parameters: a source at some nodes, and what lies between.

A source that may move by an offset is the sum of the same source at the nodes of a grid, weighted
by the polynomials through them: components like all others, so that nothing else is folded twice.
So is one that may be wider, with nodes along its width.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof.datasets import MapDataset
from jaxprof.likelihood import Constraints, Likelihood
from jaxprof.likelihood.nodes import nodes_between
from jaxprof.reduce.joint.brightness import sky_frame
from jaxprof.reduce.joint.kernels import ONE_SIGMA, psf_radius
from jaxprof.reduce.nuisances import with_parameters
from jaxprof.sky.models import SkyModel
from jaxprof.types import Array

OFFSETS = ("source_lat", "source_lon")
"""Parameters of a position, in the order of the grid's axes."""
WIDTH = "source_width"
"""The parameter of a width, a factor: the last axis of the grid."""
WIDTHS = {
    "GaussianSpatialModel": ("sigma",),
    "DiskSpatialModel": ("r_0",),
    "GeneralizedGaussianSpatialModel": ("r_0",),
    "ShellSpatialModel": ("radius", "width"),
}
"""What a width multiplies."""
PRECISION = 2e-5
"""What interpolation may add to a template, as a part of its peak."""
MOST = 11
"""Largest number of nodes along each axis."""


@dataclass(frozen=True)
class MovingSources:
    """Sources with free positions or widths."""

    sources: Sequence[SkyModel]
    """All sources of a fit, with their nominal positions and widths."""
    nodes: Mapping[str, Mapping[str, Array]]
    """By the names of source and parameter: offsets [deg] from its position along both axes, and
    factors on its width, (P,)."""

    def components(self) -> list[SkyModel]:
        """The sources that are folded: those with free parameters at all nodes."""
        found: list[SkyModel] = []
        for source in self.sources:
            if source.name not in self.nodes:
                found.append(source)
                continue
            # In alphabetical order, as the likelihood takes them.
            own = sorted(self.nodes[source.name].items())
            for number, values in enumerate(itertools.product(*(nodes for _, nodes in own))):
                at = dict(zip((name for name, _ in own), map(float, values), strict=True))
                model = source.spatial_model
                if WIDTH in at:
                    model = widened_model(model, at[WIDTH])
                if OFFSETS[0] in at:
                    model = moved_model(model, at["source_lon"], at["source_lat"])
                name = f"{source.name} at node {number}"
                found.append(SkyModel(source.spectral_model, model, name=name, free=source.free))
        return found

    def added(self, likelihood: Likelihood) -> Likelihood:
        """The likelihood of the components, with offsets and widths as parameters."""
        norms = {each.name: np.ones(likelihood.n_groups) for each in self.sources}
        nominal: dict[str, Any] = {"source": norms}
        constraints, free = Constraints(), []
        for parameter in (*OFFSETS, WIDTH):
            own = {name: at[parameter] for name, at in self.nodes.items() if parameter in at}
            if not own:
                continue
            free.append(parameter)
            at_rest = 1.0 if parameter == WIDTH else 0.0
            nominal[parameter] = {name: np.asarray(at_rest) for name in sorted(own)}
            for name, nodes in own.items():
                constraints.lower[f"{parameter}.{name}"] = float(nodes[0])
                constraints.upper[f"{parameter}.{name}"] = float(nodes[-1])
        made = replace(
            likelihood,
            source_nodes={name: dict(at) for name, at in self.nodes.items()},
            sources=tuple(norms),
        )
        sources = tuple(source.name for source in self.sources if source.free)
        return with_parameters(made, free, nominal, constraints, sources=sources)


def moving_sources(
    sources: Sequence[SkyModel],
    ranges: Mapping[str, Any],
    datasets: Sequence[MapDataset],
    widths: Mapping[str, Any] | None = None,
) -> MovingSources:
    """Sources with free positions or widths, and as many nodes as the PSF asks for.

    By name, ``ranges`` tell by how much [deg] sources may move in either direction and ``widths``
    between which factors on their widths they may be.

    Raises
    ------
    ValueError
        For a name that no source has, a source without a position or width, or a range that is not
        positive or too wide for the PSF.
    """
    widths = widths or {}
    if not ranges and not widths:
        return MovingSources(sources=list(sources), nodes={})
    known = {source.name: source for source in sources}
    for argument, names in (("source_position", ranges), ("source_width", widths)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"{argument}: there is no source {unknown[0]!r}; there are "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
    sizes = [psf_radius(dataset, ONE_SIGMA) for dataset in datasets]
    psf = min(float(size[size > 0].min(initial=np.inf)) for size in sizes)
    nodes: dict[str, dict[str, Array]] = {name: {} for name in sorted({*ranges, *widths})}
    for name, given in ranges.items():
        nodes[name] |= dict.fromkeys(OFFSETS, _offsets(known[name], given, psf))
    for name, given in widths.items():
        nodes[name][WIDTH] = _factors(known[name], given, psf)
    return MovingSources(sources=list(sources), nodes=nodes)


def _offsets(source: SkyModel, given: Any, psf: float) -> Array:
    """Nodes [deg] of an offset that may be as large as given, behind a PSF of this width [deg]."""
    what = f"source_position: {source.name!r}"
    if not hasattr(source.spatial_model, "lon_0"):
        kind = type(source.spatial_model).__name__
        raise ValueError(f"{what} is a {kind}, which has no position")
    reach = float(u.Quantity(given, "deg").value)
    if not 0 < reach < np.inf:
        raise ValueError(f"{what} must be a positive angle, got {given!r}")
    number = _number_of_nodes(reach / psf)
    if number > MOST:
        raise ValueError(
            f"{what} may move by {reach:.3g} deg, too far for a PSF of {psf:.3g} deg; give a "
            "smaller angle around a better position"
        )
    return nodes_between(-reach, reach, number)


def _factors(source: SkyModel, given: Any, psf: float) -> Array:
    """Nodes of a factor on the width of a source, between those given, behind a PSF [deg]."""
    what, model = f"source_width: {source.name!r}", source.spatial_model
    names = WIDTHS.get(type(model).__name__)
    if names is None:
        raise ValueError(f"{what} is a {type(model).__name__}, which has no width")
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (0 < low <= 1 <= high < math.inf and low < high):
        raise ValueError(
            f"{what} must be two positive factors around 1, the smaller first, got {given!r}"
        )
    reach = 0.5 * math.log(high / low)
    if names == ("sigma",):
        number = _number_of_wider(reach)
    else:
        # Edges move, behind the PSF, and most where they are furthest out; all around the source at
        # once, for which the two more are.
        size = float(getattr(model, names[0])) * high
        number = 2 + _number_of_nodes(reach * size / psf)
    if number > MOST:
        raise ValueError(
            f"{what} may be {low:.3g} to {high:.3g} times as wide, too much for a PSF of "
            f"{psf:.3g} deg; give factors closer to 1 around a better width"
        )
    return np.exp(nodes_between(math.log(low), math.log(high), number))


def _number_of_wider(reach: float) -> int:
    """Chebyshev nodes for a Gaussian whose width's logarithm changes by so much either way.

    As a function of that it is entire, but grows at distances of pi / 4 from the real axis: the
    ellipse of convergence is the one that comes so close (Trefethen 2013, Approximation Theory and
    Approximation Practice, theorem 8.2).
    """
    half = 0.25 * math.pi / reach
    rate = half + math.hypot(half, 1.0)
    return max(3, 2 + math.ceil(math.log(1 / PRECISION) / math.log(rate)))


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


def widened_model(model: Any, factor: float) -> Any:
    """A spatial model whose width is multiplied by a factor."""
    names = WIDTHS[type(model).__name__]
    return model.replace(**{name: float(getattr(model, name)) * factor for name in names})
