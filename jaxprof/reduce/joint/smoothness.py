"""The penalty on second differences of neighbouring norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxprof.types import Array

STRONG = 1e10
"""How many times what the counts tell of a norm a smoothness may be."""


def smoothness_penalty(
    smoothness: float, blocks: Sequence[Any], n_bins: int, n_components: int, fixed_spectra: bool
) -> Array:
    """Matrix (B, B) of the penalty of one energy group, of the bins that some counts bin feels.

    The ``blocks`` are those of all datasets. With ``fixed_spectra`` fluxes are part of the
    templates, which then tell how strong is too strong.

    Raises
    ------
    ValueError
        For a smoothness that leaves nothing of the counts.
    """
    felt = np.zeros(n_components, bool)
    expected, counts = np.zeros(n_components), 0.0
    for block in blocks:
        if isinstance(block.templates, jax.core.Tracer):
            # Which components it reaches is not known while the response is differentiated.
            felt[:] = True
            continue
        signal = np.einsum("nkqs,ns->nk", np.asarray(block.templates), np.asarray(block.mask))
        felt[np.asarray(block.components)[signal > 0]] = True
        np.add.at(expected, np.asarray(block.components), signal)
        counts += np.sum(getattr(block, "n_on", getattr(block, "counts", 0.0)))
    if expected.any() and fixed_spectra:
        # The counts tell about this much of a norm, the square of one over its error.
        told = np.max(expected) ** 2 / (1.0 + float(counts))
        if smoothness > STRONG * told:
            raise ValueError(
                f"smoothness={smoothness:g} leaves nothing of the counts but a straight line, and "
                f"these are lost by rounding; give less than {STRONG * told:.1g}, about {told:.1g} "
                "being as strong as the counts"
            )
    return smoothness * smoothness_matrix(felt[:n_bins])


def smoothness_matrix(seen: Array) -> Array:
    """Matrix (B, B) of the sum of squared second differences of the bins that are seen, (B,).

    A norm that is not fitted must not pull at its neighbours.
    """
    rows = np.diff(np.eye(len(seen)), n=2, axis=0)
    rows = rows[np.all(np.where(rows != 0, seen, True), axis=1)]
    return rows.T @ rows
