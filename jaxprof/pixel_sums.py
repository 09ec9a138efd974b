"""Sums over the pixels of many regions at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxprof.regions.pixels import RegionPixels

Array = NDArray[Any]


@dataclass(frozen=True)
class MemberPixels:
    """The on-map pixels of all regions in one list.

    Attributes
    ----------
    y, x : ndarray of int, shape (P,)
        Pixel indices.
    region : ndarray of int, shape (P,)
        Index of the region that each pixel belongs to, increasing.
    solid_angle : ndarray, shape (P,)
        Solid angle of each pixel [sr].
    whole_solid_angle : ndarray, shape (B,)
        Solid angle of each region, its pixels off the map included [sr].
    n_off_map : ndarray, shape (B,)
        Number of each region's pixels that are off the map.
    """

    y: Array
    x: Array
    region: Array
    solid_angle: Array
    whole_solid_angle: Array
    n_off_map: Array

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.whole_solid_angle)

    @property
    def n_pixels(self) -> Array:
        """Number of on-map pixels of each region, shape (B,)."""
        return np.bincount(self.region, minlength=self.n_regions)

    def total(self, values: Array) -> Array:
        """Sum values, shape (..., P), over the pixels of each region, to (..., B)."""
        flat = values.reshape(math.prod(values.shape[:-1]), len(self.region))
        sums = [np.bincount(self.region, weights=row, minlength=self.n_regions) for row in flat]
        return np.array(sums).reshape(*values.shape[:-1], self.n_regions)

    def padded(self, values: Array) -> Array:
        """Values (E, P) as (B, E, P_max), zero where a region has fewer pixels than the largest."""
        counts = self.n_pixels
        position = np.arange(len(self.region)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (self.n_regions, len(values), max(counts.max(initial=0), 1))
        padded = np.zeros(shape, values.dtype)
        padded[self.region, :, position] = values.T
        return padded


def member_pixels(pixels: list[RegionPixels]) -> MemberPixels:
    """Gather the pixels of each region in one list."""
    region = np.repeat(np.arange(len(pixels)), [len(p) for p in pixels])
    inside = np.concatenate([p.inside for p in pixels])
    solid_angle = np.concatenate([p.solid_angle for p in pixels])
    return MemberPixels(
        y=np.concatenate([p.y for p in pixels])[inside],
        x=np.concatenate([p.x for p in pixels])[inside],
        region=region[inside],
        solid_angle=solid_angle[inside],
        whole_solid_angle=np.bincount(region, weights=solid_angle, minlength=len(pixels)),
        n_off_map=np.bincount(region, weights=~inside, minlength=len(pixels)),
    )


def check_uncut(mask: Array, pixels: MemberPixels, name: str) -> None:
    """Raise for regions that leave the map or that a mask (E, P) cuts at some energy."""
    used = pixels.total(mask.astype(float))
    cut = (pixels.n_off_map > 0) | np.any((used > 0) & (used < pixels.n_pixels), axis=0)
    if cut.any():
        names = ", ".join(map(str, np.flatnonzero(cut)))
        raise ValueError(
            f"mask_policy='strict': the map's edge or a mask of dataset {name!r} cuts the regions "
            f"{names} (counted from 0); leave them out, or use mask_policy='coverage'"
        )
