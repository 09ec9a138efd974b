"""Predicted counts of all components in the pixels of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.reduce.joint.response import DatasetResponse
from jaxprof.sky.closed import wrapped

Array = NDArray[Any]


def pixel_signal(own: DatasetResponse, coefficients: Array, bins: slice) -> Array:
    """Predicted counts of all components in the pixels of the disjoint regions, (E, N, P)."""
    disjoint = own.disjoint
    ny, nx = disjoint.y.max() + 1, disjoint.x.max() + 1
    cube = np.zeros((len(own.mask[bins]), ny, nx))
    for part in own.cutouts:
        values = np.asarray(part.values)
        for index in range(len(part)):
            factor = coefficients[part.first + index]
            y0 = int(part.y0[index])
            height, width = values.shape[-2:]
            y = slice(max(y0, 0), min(y0 + height, ny))
            x = wrapped(int(part.x0[index]) + np.arange(width), part.turn)
            on_map = (x >= 0) & (x < nx)
            x = x[on_map]
            if y.start >= y.stop or not len(x):
                continue
            inner = values[index][..., y.start - y0 : y.stop - y0, on_map]
            if part.edisp is None:
                image = np.einsum("q,qehw->ehw", factor, inner[:, bins])
            else:
                mixed = factor[:, np.newaxis] * np.asarray(part.edisp)[index][:, bins]
                image = np.einsum("qe,qhw->ehw", mixed, inner[:, 0])
            cube[:, y, x] += image
    return np.where(own.mask[bins], cube[:, disjoint.y, disjoint.x], 0.0)
