"""Images on other pixels: smoothed, merged, split and interpolated; arrays (..., ny, nx)."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.types import Array


def whole_factor(factor: Any) -> int:
    """A factor between sizes of pixels, checked."""
    whole = isinstance(factor, int | np.integer) or (isinstance(factor, float) and factor % 1 == 0)
    if isinstance(factor, bool) or not whole or factor < 1:
        raise ValueError(f"factor is {factor!r}; it must be a whole number, one or more")
    return int(factor)


def smoothing_weights(width: Any, kernel: str, pixel_scales: u.Quantity) -> Array:
    """Standard deviations (y, x) of a Gaussian in pixels, or the weights (h, w) of another kernel.

    Raises
    ------
    ValueError
        For an unknown kernel, or a width that is negative or no angle.
    """
    if kernel not in ("gauss", "disk", "box"):
        raise ValueError(f"kernel must be 'gauss', 'disk' or 'box', got {kernel!r}")
    if isinstance(width, u.Quantity | str):
        # Per direction, so that the smoothing is round on the sky whatever the pixels.
        try:
            pixels = (u.Quantity(width) / pixel_scales).to_value("")
        except (u.UnitsError, TypeError) as error:
            raise ValueError(f"width is {width!r}; give an angle or pixels") from error
    else:
        pixels = np.array([width, width], dtype=np.float64)
    if not np.all(pixels >= 0):
        raise ValueError(f"width must not be negative, got {width}")
    if kernel == "gauss":
        return np.asarray(pixels)
    return _kernel(kernel, pixels if kernel == "disk" else pixels / 2)


def smoothed(data: Array, weights: Array) -> Array:
    """Image planes smoothed with `smoothing_weights`, in float64; borders reflect."""
    from scipy import ndimage

    data, front = data.astype(np.float64), (1,) * (data.ndim - 2)
    if weights.ndim == 1:
        return np.asarray(ndimage.gaussian_filter(data, (*(0.0 for _ in front), *weights)))
    return np.asarray(ndimage.convolve(data, weights.reshape(front + weights.shape)))


def _kernel(shape: str, half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a disk or box of half axes (y, x) in pixels, by parts of pixels; they sum to 1."""
    fine = 11  # sub-pixels along a side
    offsets = []
    for size in half:
        reach = int(np.floor(size + 0.5))
        edges = np.arange(-reach, reach + 1)[:, np.newaxis]
        offsets.append((edges + (np.arange(fine) - fine // 2) / fine).ravel())
    y, x = (own / max(size, 1e-9) for own, size in zip(offsets, half, strict=True))
    y = y[:, np.newaxis]
    inside = np.hypot(y, x) <= 1 if shape == "disk" else (abs(y) <= 1) & (abs(x) <= 1)
    parts = inside.reshape(inside.shape[0] // fine, fine, inside.shape[1] // fine, fine)
    weights = parts.sum(axis=(1, 3)).astype(float)
    if not weights.any():
        weights[weights.shape[0] // 2, weights.shape[1] // 2] = 1.0
    return np.asarray(weights / weights.sum())


def blocks_of(data: Array, n: int) -> Array:
    """View of images in blocks of ``n`` x ``n`` pixels, (..., ny / n, n, nx / n, n)."""
    *front, ny, nx = data.shape
    return data.reshape(*front, ny // n, n, nx // n, n)


def merged_pixels(data: Array, n: int, *, mean: bool) -> Array:
    """Sums or means over blocks of ``n`` x ``n`` pixels, but those that are not finite."""
    blocks = blocks_of(data, n)
    known = np.isfinite(blocks)
    total: Array = np.where(known, blocks, 0).sum(axis=(-3, -1))
    if not mean:
        return total
    number = known.sum(axis=(-3, -1))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def split_pixels(data: Array, n: int, order: int) -> Array:
    """Values at the centres of the ``n`` x ``n`` parts of pixels, by splines of some order."""
    if order == 0:
        return data.repeat(n, axis=-2).repeat(n, axis=-1)
    from scipy import ndimage

    *front, ny, nx = data.shape
    steps = [(np.arange(n * size) + 0.5) / n - 0.5 for size in (ny, nx)]
    at = np.meshgrid(*steps, indexing="ij")
    images = data.astype(np.float64).reshape(-1, ny, nx)
    between = [ndimage.map_coordinates(i, at, order=order, mode="nearest") for i in images]
    return np.reshape(between, (*front, ny * n, nx * n))


def interpolated(data: Array, y: Array, x: Array) -> Array:
    """Values (..., *shape) at pixel coordinates of some shape, linear between pixels."""
    ny, nx = data.shape[-2:]
    rows, columns = _two_nearest(y, ny), _two_nearest(x, nx)
    found = np.zeros((*data.shape[:-2], *np.shape(y)))
    for row, up in rows:
        for column, across in columns:
            weight = up * across
            # A pixel without weight may be NaN.
            found += np.where(weight != 0, data[..., row, column] * weight, 0.0)
    return found


def _two_nearest(position: NDArray[np.float64], n: int) -> list[tuple[NDArray[np.int64], Any]]:
    """Indices of two neighbours on an axis of ``n`` pixels, each with its weight at a position."""
    low = np.clip(np.floor(position).astype(np.int64), 0, max(n - 2, 0))
    if n == 1:
        return [(low, 1.0)]
    return [(low, 1.0 - (position - low)), (low + 1, position - low)]
