"""What folding needs of the components of a dataset, before any JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.degrees import sufficient_degree
from jaxprof.reduce.joint.emission import Emission
from jaxprof.sky.closed import wrapped
from jaxprof.sky.moments import orders
from jaxprof.sky.template_map import between_pixels
from jaxprof.types import Array


@dataclass(frozen=True)
class FoldingInput:
    """What folding needs of one dataset and its components, before any JAX."""

    images: Array
    """Exposure [cm2 s] times share of the flux, on the emission's own pixels, (C, T, h, w)."""
    ratios: Array | None
    """Moments of the emission within each pixel, for a share of one; None if all is even; (C,
    orders - 1, h, w)."""
    kernel: Array
    """Index into the list of kernels, (C,)."""
    edisp: Array
    """Energy dispersion of the components, (C, T, E)."""
    y0: Array
    x0: Array
    """Pixel of ``images[:, :, 0, 0]`` on the map, (C,)."""
    first: int
    """Index of the first component."""
    curved: NDArray[np.bool_]
    """Components for which the curvature of the sky counts; see `jaxprof.reduce.joint.curvature`;
    (C,)."""
    inner: Array | None
    """Displacements of their emission; None if there are none; (C, 2, h, w)."""
    within: Array
    """Variance of positions within a pixel [pixel2]: where photons start and are found,
    (C, 1, 1, 1)."""


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
        x = np.clip(wrapped(emission.x0 + np.arange(w), exposure.geom.turn), 0, nx - 1)
        seen = exposure.data[:, y[:, np.newaxis], x].astype(np.float64)
        shift = emission.centroids()
        if shift is not None:
            row, column = np.nonzero(np.abs(shift).max(axis=0) > 1e-6)
            at = np.stack([y[row], x[column]]) + shift[:, row, column]
            for image, values in zip(exposure.data, seen, strict=True):
                between = between_pixels(image.astype(np.float64), *at)
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


def uneven_ratios(
    shape: tuple[int, ...], chunk: Sequence[Emission], kernels: Array
) -> Array | None:
    """Moments beyond the first of some components, for a share of one, (C, orders - 1, h, w).

    None if no component is uneven within its pixels. The ``kernels`` (orders, k, k) are the
    `narrowest_moments`, which tell what can be left out; ``shape`` is that of the images, (h, w).
    """
    degree = max(sufficient_degree(emission, kernels) for emission in chunk)
    if degree == 0:
        return None
    n = len(orders(degree)) - 1
    found = np.zeros((len(chunk), n, *shape))
    for index, emission in enumerate(chunk):
        ratios = emission.ratios()[:n]
        h, w = emission.weights.shape
        found[index, : len(ratios), :h, :w] = np.where(np.abs(ratios) < 1e-9, 0.0, ratios)
    return found


def chunks(emissions: Sequence[Emission]) -> list[slice]:
    """Neighbouring components of similar size."""
    return similar([e.weights.shape for e in emissions], [e.offset is None for e in emissions])


def similar(shapes: Sequence[tuple[int, ...]], kinds: Sequence[bool]) -> list[slice]:
    """Neighbouring images of similar shape (h, w) and of one kind."""
    found, start = [], 0
    for index in range(1, len(shapes) + 1):
        if index == len(shapes):
            new = True
        else:
            some = np.array(shapes[start : index + 1])
            area = some.prod(axis=1)
            new = some.max(axis=0).prod() * len(area) > 4 * area.sum() + 40_000
            new = new or kinds[index] != kinds[start]
        if new:
            found.append(slice(start, index))
            start = index
    return found
