"""What separate fits take from a dataset, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.sky.pixel_sums import MemberPixels
from jaxprof.types import Array

MASK_POLICIES = ("coverage", "mean-exposure", "strict")
LIKELIHOODS = ("region", "pixel")


@dataclass(frozen=True)
class ReductionSettings:
    """How datasets are reduced; the options of `FluxProfileEstimator` of these names."""

    mask_policy: str = "coverage"
    """How the exposure of a cut region is taken, "coverage" or "mean-exposure" or "strict"."""
    likelihood: str = "region"
    """Whether the pixels of a region are summed, or each is a term of its own, "region" or
    "pixel"."""
    sum_over_energy_groups: bool = False
    """Whether the energies of a group are summed into one counts bin."""
    reference_solid_angle: str = "pixels"
    """What the fluxes are those of, "pixels" or "region"."""
    per_true_energy: bool = False
    """Whether templates keep true energies apart, for spectra with free parameters."""

    @property
    def per_pixel(self) -> bool:
        """Whether each pixel is a counts bin."""
        return self.likelihood == "pixel"


@dataclass(frozen=True)
class RegionView:
    """A dataset in the pixels of the regions."""

    dataset: MapDataset
    """With all of its pixels."""
    regions: Any
    """Bins of the profile."""
    pixels: MemberPixels
    """Pixels of the regions."""
    bins: slice
    """Reconstructed energies of all groups."""

    @cached_property
    def maps(self) -> dict[str, Array]:
        """Counts, and background or Off counts and acceptances, of the pixels (E, U).

        The ``offset`` is the part of the background that is no background model.
        """
        dataset = self.dataset
        if isinstance(dataset, MapDatasetOnOff):
            parts = {
                "n_on": dataset.counts,
                "n_off": dataset.counts_off,
                "on": dataset.acceptance,
                "off": dataset.acceptance_off,
                "alpha": dataset.alpha,
            }
        else:
            parts = {
                "counts": dataset.counts,
                "background": dataset.npred_background(),
                "offset": dataset.npred_sources,
            }
        return {
            name: self.pixels.of_map(map_.data).astype(np.float64, copy=False)
            for name, map_ in parts.items()
            if map_ is not None
        }

    @cached_property
    def mask(self) -> Array:
        """Where the counts of the pixels are used (E, U)."""
        mask = self.pixels.of_map(self.dataset.mask)
        # Without an ON or OFF acceptance a pixel's background is unknown: it tells nothing.
        return mask & (self.maps["alpha"] > 0) if "alpha" in self.maps else mask

    @cached_property
    def distinct_masks(self) -> tuple[Array, Array]:
        """The masks that energies have (K, U), mostly a single one, and which each has (E,)."""
        packed = [row.tobytes() for row in np.packbits(self.mask, axis=1)]
        distinct = list(dict.fromkeys(packed))
        first = [packed.index(key) for key in distinct]
        return self.mask[first], np.array([distinct.index(key) for key in packed], int)

    @cached_property
    def values(self) -> dict[str, Array]:
        """The maps with zeros where they are not used.

        OFF maps made by a convolution have rounding below zero, see `MapDatasetOnOff`.
        """
        return {
            name: np.where(self.mask, np.maximum(array, 0.0), 0.0)
            for name, array in self.maps.items()
        }
