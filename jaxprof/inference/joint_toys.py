"""Toys of joint fits: drawn in compiled code, and fitted with their empty pixels merged.

Most pixels of a toy are empty. A fit knows these by the sum of their predictions, so that those of
a disjoint region share one counts bin, and its Newton steps are many times cheaper. The merged
problem has fewer constraints: where its minimum predicts no pixel below zero it is that of all
pixels, and where it does, these are fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import fit as fit_likelihood
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.merging import packed, with_merged
from jaxprof.likelihood.terms import Poisson

SPREAD = 6.0
"""Standard deviations of the number of pixels with counts that there is room for."""
WORTH = 0.3
"""Largest part of the pixels with room for counts for which merging the others pays."""
PACK = 100
"""Pixels with counts that a pack is expected to have."""


@jit_by_size(static_argnames="constraints", small=0)
def drawn_toy(
    likelihood: Likelihood, params: Any, seed: Any, number: Any, *, constraints: bool
) -> Likelihood:
    """Toy of a number; its key is its own, whatever else is drawn."""
    key = jax.random.fold_in(jax.random.key(seed), number)
    return likelihood.simulate(key, params, constraints=constraints)


@dataclass(frozen=True)
class Packs:
    """For each term the pack of each row, and the room of a pack; None where it stays as it is."""

    of_terms: tuple[tuple[tuple[int, ...], int] | None, ...]


def packs_of(likelihood: Likelihood, params: Any) -> Packs | None:
    """Packs of the rows of counts bins of all terms; None where merging does not pay.

    They follow from the truth alone: all toys are fitted by the same program.
    """
    found: list[tuple[tuple[int, ...], int] | None] = []
    for term, npred in zip(likelihood.terms, likelihood.npred(params), strict=True):
        plain = isinstance(term, Poisson) and not term.clipped and np.ndim(term.templates) == 5
        if not plain or "background_tilt" in likelihood.free:
            found.append(None)
            continue
        expected = np.where(term.mask, -np.expm1(-np.maximum(np.asarray(npred), 0.0)), 0.0)
        of_rows = expected.sum(axis=2)
        pack = _packs(np.asarray(term.components), of_rows.max(axis=0))
        of_packs = np.stack([np.bincount(pack, own) for own in of_rows]).max()
        room = int(of_packs + SPREAD * np.sqrt(of_packs) + 10)
        pays = (pack[-1] + 1) * (room + 1) < WORTH * term.mask[0].size
        found.append((tuple(pack.tolist()), room) if pays else None)
    return Packs(tuple(found)) if any(found) else None


def _packs(components: Any, expected: Any) -> Any:
    """Pack of each row, (N,): of rows with the same components while few pixels are expected."""
    pack, full, number = np.zeros(len(expected), int), 0.0, 0
    for row in range(1, len(expected)):
        full += expected[row - 1]
        same = np.array_equal(components[:, row], components[:, row - 1])
        if not same or full + expected[row] > PACK:
            number, full = number + 1, 0.0
        pack[row] = number
    return pack


@jit_by_size(static_argnames="packs", small=0)
def _merged(likelihood: Likelihood, packs: Packs) -> Likelihood:
    parts = zip(likelihood.terms, likelihood.bins, packs.of_terms, strict=True)
    return with_merged(
        likelihood,
        [
            packed(term, own, np.array(plan[0]), plan[1])
            if plan is not None and isinstance(term, Poisson)
            else (term, own)
            for term, own, plan in parts
        ],
    )


@jit_by_size(small=0)
def _is_minimum(likelihood: Likelihood, params: Any) -> jax.Array:
    """Whether parameters predict no pixel below zero."""
    good = jnp.asarray(True)
    for term, npred in zip(likelihood.terms, likelihood.npred(params), strict=True):
        if isinstance(term, Poisson):
            # Of parameters that are NaN none is.
            good = good & jnp.all(~term.mask | (npred >= 0))
    return good


def fit_packed(likelihood: Likelihood, packs: Packs) -> Fit:
    """Fit a toy with its empty pixels merged."""
    return fit_likelihood(_merged(likelihood, packs=packs))


def fit_toy(likelihood: Likelihood, packs: Packs | None) -> Fit:
    """Fit a toy, with `packs_of` its truth."""
    if packs is not None:
        found = fit_packed(likelihood, packs)
        if _is_minimum(likelihood, found.params):
            return found
    return fit_likelihood(likelihood)
