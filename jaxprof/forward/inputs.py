"""What folding needs of the components of a dataset, before any JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from jaxprof.datasets import MapDataset
from jaxprof.forward.emission import Emission

Array = NDArray[Any]


@dataclass(frozen=True)
class FoldingInput:
    """What folding needs of one dataset and its components, before any JAX.

    Attributes
    ----------
    images : ndarray, shape (C, T, h, w)
        Exposure [cm2 s] times share of the flux, on the emission's own pixels.
    details : ndarray, shape (C, n * n, T, h, w), or None
        How much more starts in each part of a pixel than if all of it did evenly.
    kernel : ndarray of int, shape (C,)
        Index into the list of kernels.
    edisp : ndarray, shape (C, T, E)
        Energy dispersion of the components.
    y0, x0 : ndarray of int, shape (C,)
        Pixel of ``images[:, :, 0, 0]`` on the map.
    first : int
        Index of the first component.
    """

    images: Array
    details: Array | None
    kernel: Array
    edisp: Array
    y0: Array
    x0: Array
    first: int


def exposures(dataset: MapDataset, chunk: Sequence[Emission]) -> Array:
    """Exposure [cm2 s] times share of the flux (C, T, h, w), zero beyond each emission's pixels.

    The exposure is interpolated to the mean position of the emission in each pixel. Off the map it
    is that of the nearest pixel: nothing else is known, and emission from there does leak in.
    """
    exposure = dataset.exposure
    assert exposure is not None
    factor = exposure.unit.to("cm2 s")
    ny, nx = exposure.geom.npix_shape
    shape = np.max([emission.weights.shape for emission in chunk], axis=0)
    images = np.zeros((len(chunk), exposure.data.shape[0], *shape))
    for index, emission in enumerate(chunk):
        h, w = emission.weights.shape
        y = np.clip(np.arange(emission.y0, emission.y0 + h), 0, ny - 1)
        x = np.clip(np.arange(emission.x0, emission.x0 + w), 0, nx - 1)
        seen = exposure.data[:, y[:, np.newaxis], x].astype(np.float64)
        shift = emission.centroids()
        if shift is not None:
            row, column = np.nonzero(np.abs(shift).max(axis=0) > 1e-6)
            at = np.stack([y[row], x[column]]) + shift[:, row, column]
            for image, values in zip(exposure.data, seen, strict=True):
                between = map_coordinates(image.astype(np.float64), at, order=1, mode="nearest")
                known = np.isfinite(between)
                values[row[known], column[known]] = between[known]
        seen = np.where(np.isfinite(seen) & (emission.weights > 0), seen, 0.0)
        images[index, :, :h, :w] = seen * factor * emission.weights
        if emission.by_energy is not None:
            images[index, :, :h, :w] *= emission.by_energy
    return images


def pixels_off_map(emission: Emission, shape: tuple[int, int]) -> int:
    """Pixels that an emission reaches beyond the map."""
    ends = [
        (start, start + size - whole)
        for start, size, whole in zip(
            (emission.y0, emission.x0), emission.weights.shape, shape, strict=True
        )
    ]
    return max(0, *(max(-start, over) for start, over in ends))


def uneven_parts(images: Array, chunk: Sequence[Emission]) -> Array | None:
    """Images (C, n * n, T, h, w) of the parts of pixels, less their mean; None if all are even."""
    n = max((len(e.parts) for e in chunk if e.parts is not None), default=1)
    if n == 1:
        return None
    found = np.zeros((len(chunk), n * n, *images.shape[1:]))
    for index, emission in enumerate(chunk):
        if emission.parts is None:
            continue
        h, w = emission.weights.shape
        parts = emission.parts.reshape(n * n, h, w)
        whole = np.where(emission.weights > 0, emission.weights, 1.0)
        excess = parts / whole - np.where(emission.weights > 0, 1.0 / n**2, 0.0)
        excess[np.abs(excess) < 1e-9] = 0.0
        found[index, :, :, :h, :w] = excess[:, np.newaxis] * images[index, :, :h, :w]
    return found if found.any() else None


def chunks(emissions: Sequence[Emission]) -> list[slice]:
    """Neighbouring components of similar size."""
    found, start = [], 0
    for index in range(1, len(emissions) + 1):
        if index == len(emissions):
            new = True
        else:
            shapes = np.array([e.weights.shape for e in emissions[start : index + 1]])
            area = shapes.prod(axis=1)
            new = shapes.max(axis=0).prod() * len(area) > 4 * area.sum() + 40_000
            new = new or (emissions[index].offset is None) != (emissions[start].offset is None)
        if new:
            found.append(slice(start, index))
            start = index
    return found
