"""Norms of templates that keep their own normalisation: ratios of a flux to a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.reduce.joint.emission import region_emissions
from jaxprof.sky.template_map import TemplateSpatialModel

Array = NDArray[Any]


def template_integrals(
    template: TemplateSpatialModel, regions: Sequence[Any], oversampling: int
) -> Array:
    """Integral of a map over each region, (B,), in the unit of the map times sr.

    Between the centres of its pixels an image is linear, off it is zero; ``oversampling`` is that
    of `region_emissions`.
    """
    found = region_emissions(
        regions, template.image.geom, template=template, oversampling=oversampling
    )
    return np.array([own.integral for own in found]) * template.integral.value


def scaled_spectrum(model: Any, factor: float) -> Any:
    """A spectral model times a number, of the same class if it has an amplitude."""
    if hasattr(model, "amplitude"):
        return model.replace(amplitude=model.amplitude * factor)
    return model * factor
