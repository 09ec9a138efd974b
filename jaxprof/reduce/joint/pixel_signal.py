"""Predicted counts of all components in the pixels of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.reduce.joint.response import DatasetResponse

Array = NDArray[Any]


def pixel_signal(own: DatasetResponse, coefficients: Array, bins: slice) -> Array:
    """Predicted counts of all components in the pixels of the cells, (E, N, P)."""
    cells = own.cells
    ny, nx = cells.y.max() + 1, cells.x.max() + 1
    cube = np.zeros((len(own.mask[bins]), ny, nx))
    for part in own.windows:
        values = np.asarray(part.values)
        for index in range(len(part)):
            factor = coefficients[part.first + index]
            y0, x0 = int(part.y0[index]), int(part.x0[index])
            height, width = values.shape[-2:]
            y = slice(max(y0, 0), min(y0 + height, ny))
            x = slice(max(x0, 0), min(x0 + width, nx))
            if y.start >= y.stop or x.start >= x.stop:
                continue
            inner = values[index][..., y.start - y0 : y.stop - y0, x.start - x0 : x.stop - x0]
            if part.edisp is None:
                image = np.einsum("q,qehw->ehw", factor, inner[:, bins])
            else:
                mixed = factor[:, np.newaxis] * np.asarray(part.edisp)[index][:, bins]
                image = np.einsum("qe,qhw->ehw", mixed, inner[:, 0])
            cube[:, y, x] += image
    return np.where(own.mask[bins], cube[:, cells.y, cells.x], 0.0)
