"""Sources that are much smaller than a pixel, and no points: a few points in their place."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxprof.core.spatial import ConstantSpatialModel, PointSpatialModel, SpatialModel
from jaxprof.forward.brightness import pixel_place
from jaxprof.forward.emission import Emission, source_emission
from jaxprof.forward.quadrature import extent
from jaxprof.maps import WcsGeom

LARGEST = 0.4
"""Standard deviation, in pixels, up to which points stand for a source."""
FINE = 15
"""Parts along each side of a pixel by which its moments are found."""
NODES = 5
"""Points along each axis of a source."""


def compact_emission(model: Any, geom: WcsGeom) -> Emission | None:
    """A source of less than a pixel as points with the same moments.

    Emission is otherwise spread evenly over parts of pixels, which would make it wider and move it.
    Along the axes of its covariance the points are the nodes of a Gauss-Hermite quadrature (exact
    for the moments of a Gaussian; those of any source to the second order).

    Parameters
    ----------
    model : SpatialModel
        The source.
    geom : WcsGeom
        Geometry of the map.

    Returns
    -------
    Emission or None
        None for a point itself, and for what is larger or no model of one place.
    """
    if not isinstance(model, SpatialModel) or isinstance(
        model, PointSpatialModel | ConstantSpatialModel
    ):
        return None
    size = geom.pixel_scales.to_value("deg").min()
    if extent(model).radius > 8 * LARGEST * size:
        return None
    fine = source_emission(model, geom.upsample(FINE))
    total = fine.weights.sum()
    if not total > 0:
        return None
    rows, columns = np.indices(fine.weights.shape)
    places = (np.stack([fine.x0 + columns.ravel(), fine.y0 + rows.ravel()]) + 0.5) / FINE - 0.5
    shares = fine.weights.ravel() / total
    deviation = places - (places @ shares)[:, np.newaxis]
    covariance = (deviation * shares) @ deviation.T
    variances, axes = np.linalg.eigh(covariance)
    # Less that of a part of a pixel.
    variances = np.maximum(variances - 1 / (12 * FINE**2), 0.0)
    if variances.max() > LARGEST**2:
        return None
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    steps = axes * np.sqrt(variances)
    cloud = tuple(
        (*(steps @ (nodes[i], nodes[j])).tolist(), float(weights[i] * weights[j]))
        for i in range(NODES)
        for j in range(NODES)
    )
    # All models are symmetric: their mean position is their centre.
    place = pixel_place(fine.center, geom)
    x0, y0 = (int(np.ceil(p - 0.5)) for p in place)
    offset = (place[0] - x0, place[1] - y0)
    return Emission(y0, x0, np.full((1, 1), total), fine.center, np.nan, offset, cloud=cloud)
