"""Where the counts bins of a likelihood come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CountsBins:
    """Where the counts bins of a term come from.

    Attributes
    ----------
    energy : array of int, shape (G, N, S)
        Reconstructed energy, counted on the axis of the data set; -1 for a sum over energies.
    pixel : array of int, shape (G, N, S)
        Index of the pixel in the flattened image, ``y * n_x + x``; -1 for a sum over pixels.
    region : array of bool, shape (G, N, B)
        Bins of the profile that the pixels of a disjoint region belong to; (G, N, B, S) after
        ``Likelihood.merge_empty``, which brings pixels of many regions together.
    dataset : str
        Name of the data set.
    """

    energy: Any
    pixel: Any
    region: Any
    dataset: str = field(default="", metadata={"static": True})
