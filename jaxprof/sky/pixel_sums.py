"""Sums over the pixels of many regions at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxprof.sky.regions.membership import blocks
from jaxprof.sky.regions.pixels import Membership, looked_up
from jaxprof.types import Array

_BLOCK = 4_000_000  # pairs of a region and a pixel that are summed at a time


@dataclass(frozen=True)
class MemberPixels:
    """The on-map pixels of all regions, each pixel once, and which regions they belong to.

    Attributes
    ----------
    y, x : ndarray of int, shape (U,)
        Indices of the pixels that belong to any region.
    solid_angle : ndarray, shape (U,)
        Solid angle of each pixel [sr].
    member : ndarray of int, shape (P,)
        Which of these belong to region i, at ``first[i]:first[i + 1]``.
    first : ndarray of int, shape (B + 1,)
        Where they begin.
    whole_solid_angle : ndarray, shape (B,)
        Solid angle of each region, its part off the map included [sr].
    off_map : ndarray of bool, shape (B,)
        Regions with a part off the map.
    """

    y: Array
    x: Array
    solid_angle: Array
    member: Array
    first: Array
    whole_solid_angle: Array
    off_map: Array

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.whole_solid_angle)

    @property
    def n_pixels(self) -> Array:
        """Number of on-map pixels of each region, shape (B,)."""
        return np.diff(self.first)

    @property
    def region(self) -> Array:
        """Index of the region of each of the P pairs of a region and a pixel, increasing."""
        return np.repeat(np.arange(self.n_regions), self.n_pixels)

    def of_map(self, data: Array) -> Array:
        """Values of a map, shape (..., ny, nx), in the pixels, (..., U)."""
        flat = data.reshape(*data.shape[:-2], -1)
        return flat.take(self.y * data.shape[-1] + self.x, axis=-1)

    def expanded(self, values: Array) -> Array:
        """Values of pixels, shape (..., U), for each pair of a region and a pixel, (..., P)."""
        return values.take(self.member, axis=-1)

    def total(self, values: Array) -> Array:
        """Sum values of pixels, shape (..., U), over each region, to (..., B)."""
        flat = values.reshape(math.prod(values.shape[:-1]), len(self.y))
        sums = _sums(self.member, self.first, flat)
        return sums.reshape(*values.shape[:-1], self.n_regions)

    def padded(self, values: Array) -> Array:
        """Values (E, P) as (B, E, P_max), zero where a region has fewer pixels than the largest."""
        counts, region = self.n_pixels, self.region
        position = np.arange(len(region)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (self.n_regions, len(values), max(counts.max(initial=0), 1))
        padded = np.zeros(shape, values.dtype)
        padded[region, :, position] = values.T
        return padded


def _sums(member: Array, first: Array, values: Array) -> Array:
    """Sums of values (E, U) over the members of regions, (E, B), in blocks to bound the memory."""
    sums = np.zeros((len(values), len(first) - 1))
    count = np.diff(first)
    filled = np.flatnonzero(count)  # `reduceat` gives no zero for an empty region
    for part in blocks(count[filled], _BLOCK // max(len(values), 1)):
        own = filled[part]
        low, high = first[own[0]], first[own[-1] + 1]
        chosen = values.take(member[low:high], axis=1)
        sums[:, own] = np.add.reduceat(chosen, first[own] - low, axis=1, dtype=np.float64)
    return sums


def member_pixels(members: Membership, shape: tuple[int, int]) -> MemberPixels:
    """Gather the pixels of all regions on a map of a shape (ny, nx)."""
    n_regions = len(members.lost)
    used = np.zeros(shape[0] * shape[1], bool)
    for start in range(0, len(members.pixel), _BLOCK):
        used[members.pixel[start : start + _BLOCK]] = True
    union = np.flatnonzero(used)
    number = np.zeros(len(used), np.int32)
    number[union] = np.arange(len(union), dtype=np.int32)
    column = np.empty_like(members.pixel)
    looked_up(number, members.pixel, out=column)
    y, x = np.divmod(union, shape[1])
    solid_angle = members.solid_angles[y, x]
    off = np.bincount(members.off_region, members.off_solid_angle, n_regions) + members.lost
    return MemberPixels(
        y=y,
        x=x,
        solid_angle=solid_angle,
        member=column,
        first=members.first,
        whole_solid_angle=_sums(column, members.first, solid_angle[np.newaxis])[0] + off,
        off_map=(np.bincount(members.off_region, minlength=n_regions) > 0) | (members.lost > 0),
    )


def check_uncut(mask: Array, pixels: MemberPixels, name: str, n_regions: int | None = None) -> None:
    """Raise for regions that leave the map or that a mask (E, U) cuts at some energy.

    Beyond the first `n_regions`, by default all, they are guard bins.
    """
    used = pixels.total(mask.astype(float))
    cut = pixels.off_map | np.any((used > 0) & (used < pixels.n_pixels), axis=0)
    if cut.any():
        parts = {"regions": cut[:n_regions], "guard bins": cut[len(cut[:n_regions]) :]}
        names = " and the ".join(
            f"{what} {', '.join(map(str, np.flatnonzero(own)))}"
            for what, own in parts.items()
            if own.any()
        )
        raise ValueError(
            f"mask_policy='strict': the map's edge or a mask of dataset {name!r} cuts the "
            f"{names} (counted from 0); leave them out, or use mask_policy='coverage'"
        )
