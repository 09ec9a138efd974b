"""From cutouts and pixels to the counts bins of a joint fit.

The pixels of the fit stand in *disjoint regions*: sets of pixels that belong to the same regions.
Where regions do not overlap, a disjoint region is a region. Pixels with counts are counts bins of
their own; pixels of a disjoint region without counts, of all energies, have one counts bin
together: only their total prediction enters the likelihood, and only that is kept from being
negative. For a likelihood by region all pixels of a disjoint region are summed, at each energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_quickly
from jaxprof.reduce.joint.folding import Cutouts
from jaxprof.sky.closed import unwrapped
from jaxprof.sky.pixel_sums import MemberPixels
from jaxprof.types import Array

BATCH = 128
"""Counts bins of a batch of pixels with counts."""
OF_ENERGY = 32
"""The same where a batch is of one energy; their number is rounded up by half of itself at most:
problems with many true energies take long to compile."""
ROUND = 16
"""The number of batches is a multiple of this: data of similar size share compiled code."""


@dataclass(frozen=True)
class DisjointRegions:
    """Pixels of the fit, by the regions they belong to."""

    y: Array
    x: Array
    """Pixels of each disjoint region; padded by pixel (0, 0); (N, P)."""
    used: Array
    """False for the padding, (N, P)."""
    members: Array
    """Regions that the pixels of a disjoint region belong to, (N, regions)."""


def disjoint_regions(pixels: MemberPixels, shape: tuple[int, int]) -> DisjointRegions:
    """Sort the pixels on the map, of the shape (ny, nx), by the regions they belong to."""
    union = np.ravel_multi_index((pixels.y, pixels.x), shape)
    if not len(union):
        raise ValueError(
            "regions: none of them holds the centre of a pixel on the map; give larger regions, "
            "or a map with smaller pixels"
        )
    belongs = np.zeros((len(union), pixels.n_regions), bool)
    belongs[pixels.member, pixels.region] = True
    packed = np.packbits(belongs, axis=1)
    _, first, region = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    # In the order of the regions, so that neighbours stay neighbours.
    order = np.argsort([np.argmax(belongs[i]) for i in first], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    region = rank[region.reshape(-1)]
    counts = np.bincount(region, minlength=len(first))
    sort = np.argsort(region, kind="stable")
    position = np.arange(len(union)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = np.zeros((len(first), counts.max()), int)
    used = np.zeros(index.shape, bool)
    index[region[sort], position] = union[sort]
    used[region[sort], position] = True
    y, x = np.unravel_index(index, shape)
    return DisjointRegions(y=y, x=x, used=used, members=belongs[first][order])


def reaching(cutouts: Sequence[Cutouts], disjoint: DisjointRegions) -> list[Array]:
    """Components of each array of cutouts that can reach each disjoint region, (N, K) for each.

    They are indices within the array of cutouts; -1 pads.
    """
    big = np.iinfo(np.int64).max
    low_y, low_x = (np.where(disjoint.used, v, big).min(axis=1) for v in (disjoint.y, disjoint.x))
    high_y, high_x = (np.where(disjoint.used, v, -1).max(axis=1) for v in (disjoint.y, disjoint.x))
    found = []
    for part in cutouts:
        height, width = part.values.shape[-2:]
        y0, x0 = np.asarray(part.y0), np.asarray(part.x0)
        hits = (low_y[:, None] < y0 + height) & (high_y[:, None] >= y0)
        if part.turn is None:
            hits &= (low_x[:, None] < x0 + width) & (high_x[:, None] >= x0)
        else:
            x = unwrapped(disjoint.x, disjoint.x[:, :1], part.turn)
            low = np.where(disjoint.used, x, big).min(axis=1)
            size = np.where(disjoint.used, x, -big).max(axis=1) - low
            start = (low[:, None] - x0) % len(part.turn)
            hits &= (start < width) | (start + size[:, None] >= len(part.turn))
        number = hits.sum(axis=1)
        lists = np.full((len(hits), max(number.max(), 1)), -1)
        for row, own in enumerate(hits):
            lists[row, : number[row]] = np.flatnonzero(own)
        found.append(lists)
    return found


@jit_quickly()
def _take(part: Cutouts, lists: Any, energy: Any, y: Any, x: Any, used: Any) -> Any:
    """Templates (N, K, Q, S) of a part's components at energy, y and x of counts bins, (N, S)."""
    n_own, n_coefficients, n_energies, height, width = part.values.shape
    own = jnp.maximum(lists, 0)
    row = y[:, None, :] - jnp.asarray(part.y0)[own][:, :, None]
    column = x[:, None, :] - jnp.asarray(part.x0)[own][:, :, None]
    if part.turn is not None:
        column = column % len(part.turn)
        used = used & (x >= part.turn.start) & (x < part.turn.stop)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    inside = inside & (lists >= 0)[:, :, None] & used[:, None, :]
    at_energy = energy[:, None, :] if part.edisp is None else jnp.zeros_like(energy)[:, None, :]
    rest = (at_energy * height + row) * width + column
    flat = part.values.reshape(n_own, n_coefficients, -1)
    stride = n_energies * height * width
    q = jnp.arange(n_coefficients)[None, None, :, None]
    index = (own[:, :, None, None] * n_coefficients + q) * stride + rest[:, :, None, :]
    index = jnp.where(inside[:, :, None, :], index, 0)
    values = jnp.take(flat.reshape(-1), index)
    values = jnp.where(inside[:, :, None, :], values, 0.0)
    if part.edisp is not None:
        # (N, K, Q, S): the dispersion of each component to the energy of each counts bin
        dispersion = jnp.asarray(part.edisp)[own[:, :, None, None], q, energy[:, None, None, :]]
        values = values * dispersion
    return values


def templates_at(
    cutouts: Sequence[Cutouts],
    lists: Sequence[Array],
    energy: Any,
    y: Any,
    x: Any,
    used: Any,
) -> Any:
    """Templates (N, K, Q, S) at counts bins, K being the sum of all K_i.

    The ``lists`` (N, K_i) are the components that reach each batch, see `reaching`; ``energy``,
    ``y`` and ``x`` (N, S) the reconstructed energy and pixel of each counts bin, ``used`` false for
    padding.
    """
    parts = [_take(part, own, energy, y, x, used) for part, own in zip(cutouts, lists, strict=True)]
    return jnp.concatenate(parts, axis=1)


def component_lists(cutouts: Sequence[Cutouts], lists: Sequence[Array]) -> Array:
    """Indices of all components of each batch, (N, K); padding repeats the first component."""
    return np.concatenate(
        [np.maximum(own, 0) + part.first for part, own in zip(cutouts, lists, strict=True)], axis=1
    )


def region_sums(
    cutouts: Sequence[Cutouts], lists: Sequence[Array], disjoint: DisjointRegions, mask: Array
) -> Any:
    """Templates summed over the unmasked pixels of each disjoint region, shape (N, K, Q, E).

    Arguments as for `templates_at`; the ``mask`` (E, N, P) tells pixels to use at each energy.
    """
    mask = np.asarray(mask)
    if is_traced(cutouts) or jax.default_backend() != "cpu":
        return _sums(list(cutouts), list(lists), disjoint.y, disjoint.x, mask)
    parts = [_counted(part, own, disjoint, mask) for part, own in zip(cutouts, lists, strict=True)]
    return np.concatenate(parts, axis=1)


def _counted(part: Cutouts, lists: Array, disjoint: DisjointRegions, mask: Array) -> Array:
    """`region_sums` of one array of cutouts, (N, K, Q, E).

    A pixel is in one disjoint region at most: each value is read once, for whatever it counts.
    """
    n_energies, n = mask.shape[:2]
    height, width = part.values.shape[-2:]
    bottom, left = (int(own.max(initial=-1)) + 1 for own in (disjoint.y, disjoint.x))
    # The region of each pixel, counted on from one energy to the next; N of those not in use.
    region: Array = np.full((n_energies, bottom + 1, left + 1), n)
    energy, number, position = np.nonzero(mask)
    region[energy, disjoint.y[number, position], disjoint.x[number, position]] = number
    region += (n + 1) * np.arange(n_energies)[:, None, None]
    row, column = (
        np.asarray(first)[:, None] + np.arange(size)
        for first, size in ((part.y0, height), (part.x0, width))
    )
    if part.turn is not None:
        width = min(width, len(part.turn))
        column = part.turn.start + (column[:, :width] - part.turn.start) % len(part.turn)
    row = np.where((row >= 0) & (row < bottom), row, bottom)
    column = np.where((column >= 0) & (column < left), column, left)
    sums: Array = np.zeros((*part.values.shape[:2], n_energies * (n + 1)))
    for own, values in enumerate(np.asarray(part.values)):
        at = region[:, row[own][:, None], column[own]]
        for q, value in enumerate(values[..., :width]):
            weights = np.broadcast_to(value, at.shape)
            sums[own, q] = np.bincount(at.ravel(), weights.ravel(), sums.shape[-1])
    sums = sums.reshape(*sums.shape[:2], n_energies, n + 1)
    if part.edisp is not None:
        sums *= np.asarray(part.edisp)[..., None]
    found = sums[np.maximum(lists, 0), :, :, np.arange(n)[:, None]]
    return np.where((lists >= 0)[..., None, None], found, 0.0)


@jit_quickly()
def _sums(cutouts: Any, lists: Any, y: Any, x: Any, mask: Any) -> Any:
    def at_energy(pair: tuple[Any, Any]) -> Any:
        number, used = pair
        energy = jnp.full(y.shape, number)
        return templates_at(cutouts, lists, energy, y, x, used).sum(axis=-1)

    sums = jax.lax.map(at_energy, (jnp.arange(len(mask)), mask))
    return jnp.moveaxis(sums, 0, -1)


@dataclass(frozen=True)
class PixelBins:
    """Counts bins of single pixels, in batches of one disjoint region (and energy) each."""

    region: Array
    """Disjoint region of each batch, (N,)."""
    energy: Array
    pixel: Array
    """Reconstructed energy, and pixel within the disjoint region, (N, S)."""
    used: Array
    """False for padding, (N, S)."""


def _own_batches(kept: Array, size: int, by_energy: bool) -> tuple[Array, Array]:
    """Pixels and batches of each disjoint region, or of each of its energies, (N,) or (N, E)."""
    counts = kept.sum(axis=2).T if by_energy else kept.sum(axis=(0, 2))
    return counts, -(-counts // size)


def n_batches(kept: Array, size: int = BATCH, by_energy: bool = False) -> int:
    """Number of batches that `batched_pixels` needs, rounded up."""
    total = max(int(_own_batches(kept, size, by_energy)[1].sum()), 1)
    step = max(ROUND, 2 ** (total.bit_length() - 2)) if by_energy else ROUND
    return -(-total // step) * step


def batched_pixels(
    kept: Array, size: int = BATCH, total: int | None = None, by_energy: bool = False
) -> PixelBins:
    """Counts bins for the pixels ``kept`` (E, N, P), ``size`` a batch.

    The ``total`` number of batches is that of `n_batches` unless it is given.
    """
    region, energy, pixel = np.nonzero(kept.transpose(1, 0, 2))
    counts, batches = _own_batches(kept, size, by_energy)
    total = n_batches(kept, size, by_energy) if total is None else total
    owner = np.zeros(total, int)
    owner[: batches.sum()] = np.repeat(np.indices(batches.shape)[0].ravel(), batches.ravel())
    counts, batches = counts.ravel(), batches.ravel()
    own = region * len(kept) + energy if by_energy else region
    first = np.cumsum(batches) - batches
    position = np.arange(len(region)) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = first[own] + position // size, position % size
    shape = (total, size)
    counts_bins = PixelBins(
        owner, np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool)
    )
    counts_bins.energy[row, column] = energy
    counts_bins.pixel[row, column] = pixel
    counts_bins.used[row, column] = True
    return counts_bins
