"""Images through the PSF, on a sky whose pixels are not all alike."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.irf.psf_kernel import convolve
from jaxprof.reduce.joint.curvature import moved


def spread_on_sky(images: Any, ratios: Any, kernel: Any, near: Any, displacements: Any) -> Any:
    """Images (C, T, h, w) after the PSF on a sky that is curved.

    The ``ratios`` (C, n, h, w) tell where in its pixel the emission starts; their kernels ``near``
    have the shape (n, T, k, k), or (n, C, T, k, k). ``displacements`` are those of the emission
    (C, 2, h, w) and of the cutouts (C, 2, H, W) and the variance within pixels (C, 1, 1, 1), or
    None; see `jaxprof.reduce.joint.curvature.moved`. The result has the shape (C, T, H, W).
    """
    own = kernel if kernel.ndim == 4 else kernel[None]
    edge = 0 if near is None else (kernel.shape[-1] - near.shape[-1]) // 2

    def detailed(even: Any, weighted: Any) -> Any:
        return even if ratios is None else _with_moments(even, weighted, ratios, near, edge)

    even = convolve(images, own)
    spread = detailed(even, images)
    if displacements is not None:
        inner, outer = (jnp.moveaxis(part, 1, 0)[:, :, None] for part in displacements[:2])
        first = [convolve(images * along, own) for along in inner]
        pairs = ((0, 0), (0, 1), (1, 1))
        second = [convolve(images * inner[i] * inner[j], own) for i, j in pairs]
        flow = [
            at * spread - detailed(plain, images * along)
            for at, plain, along in zip(outer, first, inner, strict=True)
        ]
        spread = spread + moved(flow, even, first, second, outer, displacements[2])
    return jnp.maximum(spread, 0.0)


def _with_moments(even: Any, images: Any, ratios: Any, near: Any, edge: int) -> Any:
    """Spread images with what it adds that emission is uneven within its pixels.

    ``even`` (C, T, H, W) are the images (C, T, h, w) convolved with their kernel, which is wider by
    ``edge`` pixels on each side than the kernels ``near`` of the moments, (n, T, k, k) or
    (n, C, T, k, k); the ``ratios`` (C, n, h, w) are the moments in each pixel.
    """
    from scipy.fft import next_fast_len

    height, width = (size + near.shape[-1] - 1 for size in images.shape[-2:])
    fine = (next_fast_len(height, real=True), next_fast_len(width, real=True))

    def add(total: Any, pair: tuple[Any, Any]) -> tuple[Any, None]:
        ratio, own = pair
        own = own if own.ndim == 4 else own[None]
        detail = images * ratio[:, None]
        return total + jnp.fft.rfft2(detail, fine) * jnp.fft.rfft2(own, fine), None

    shape = (*images.shape[:2], fine[0], fine[1] // 2 + 1)
    start = jnp.zeros(shape, jnp.result_type(images, jnp.complex64))
    product, _ = jax.lax.scan(add, start, (jnp.swapaxes(ratios, 0, 1), near))
    extra = jnp.fft.irfft2(product, fine)[..., :height, :width]
    inner = (slice(edge, edge + height), slice(edge, edge + width))
    corrected = even.at[..., inner[0], inner[1]].add(extra)
    floor = 64 * jnp.finfo(even.dtype).eps * jnp.abs(even).max(axis=(-2, -1), keepdims=True)
    return jnp.where(jnp.abs(corrected) > floor, corrected, 0.0)
