"""Predicted counts of all components in the pixels of a dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxprof.reduce.joint.folding import Cutouts
from jaxprof.reduce.joint.response import DatasetResponse
from jaxprof.sky.closed import wrapped
from jaxprof.types import Array


def pixel_signal(own: DatasetResponse, coefficients: Array, bins: slice) -> Array:
    """Predicted counts of all components in the pixels of the disjoint regions, (E, N, P)."""
    disjoint, mask = own.disjoint, own.mask[bins]
    cube = np.zeros((len(mask), disjoint.y.max() + 1, disjoint.x.max() + 1))
    add_images(cube, own.cutouts, coefficients, bins)
    return np.where(mask, cube[:, disjoint.y, disjoint.x], 0.0)


def add_images(cube: Array, cutouts: Sequence[Cutouts], coefficients: Array, bins: slice) -> None:
    """Add what components with coefficients (C, Q) predict to the pixels of a map, (E, ny, nx)."""
    _, ny, nx = cube.shape
    for part in cutouts:
        values = np.asarray(part.values)
        height, width = values.shape[-2:]
        for index in range(len(part)):
            factor = coefficients[part.first + index]
            y0 = int(part.y0[index])
            y = slice(max(y0, 0), min(y0 + height, ny))
            x = wrapped(int(part.x0[index]) + np.arange(width), part.turn)
            on_map = (x >= 0) & (x < nx)
            if y.start >= y.stop or not on_map.any():
                continue
            inner = values[index][..., y.start - y0 : y.stop - y0, on_map]
            if part.edisp is None:
                image = np.einsum("q,qehw->ehw", factor, inner[:, bins])
            else:
                mixed = factor[:, np.newaxis] * np.asarray(part.edisp)[index][:, bins]
                image = np.einsum("qe,qhw->ehw", mixed, inner[:, 0])
            cube[:, y, x[on_map]] += image
