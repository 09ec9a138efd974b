"""Toys of joint fits: drawn in compiled code, and fitted with their empty pixels merged.

Most pixels of a toy are empty. A fit knows these by the sum of their predictions, so that those of
a disjoint region share one counts bin, and its Newton steps are many times cheaper. The merged
problem has fewer constraints: where its minimum predicts no pixel below zero it is that of all
pixels, and where it does, these are fitted.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size, jit_quickly
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import fit as fit_likelihood
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.terms import Poisson

SPREAD = 6.0
"""Standard deviations of the number of pixels with counts that there is room for."""
WORTH = 0.3
"""Largest part of the pixels with counts for which merging the others pays."""


@jit_by_size(static_argnames="constraints", small=0)
def drawn_toy(
    likelihood: Likelihood, params: Any, seed: Any, number: Any, *, constraints: bool
) -> Likelihood:
    """Toy of a number; its key is its own, whatever else is drawn."""
    key = jax.random.fold_in(jax.random.key(seed), number)
    return likelihood.simulate(key, params, constraints=constraints)


def room_of(likelihood: Likelihood, params: Any) -> int:
    """Number of pixels with counts that toys have at most; zero where merging does not pay.

    It follows from the truth alone: all toys are fitted by the same program.
    """
    if "background_tilt" in likelihood.free:
        return 0
    most, all_bins = 0, 0
    for term, npred in zip(likelihood.terms, likelihood.npred(params), strict=True):
        if isinstance(term, Poisson) and not term.clipped:
            expected = np.where(term.mask, -np.expm1(-np.maximum(np.asarray(npred), 0.0)), 0.0)
            number = expected.sum(axis=(1, 2)).max(initial=0.0)
            most = max(most, int(number + SPREAD * np.sqrt(number) + 10))
            all_bins = max(all_bins, np.size(term.mask) // len(term.mask))
    return most if most < WORTH * all_bins else 0


@jit_quickly("most")
def _merged(likelihood: Likelihood, most: int) -> Likelihood:
    return likelihood.merge_empty(most)


@jit_quickly()
def _is_minimum(likelihood: Likelihood, params: Any) -> jax.Array:
    """Whether parameters predict no pixel below zero."""
    good = jnp.asarray(True)
    for term, npred in zip(likelihood.terms, likelihood.npred(params), strict=True):
        if isinstance(term, Poisson):
            # Of parameters that are NaN none is.
            good = good & jnp.all(~term.mask | (npred >= 0))
    return good


def fit_toy(likelihood: Likelihood, room: int) -> Fit:
    """Fit a toy, with `room_of` its truth."""
    if room:
        found = fit_likelihood(_merged(likelihood, most=room))
        if _is_minimum(likelihood, found.params):
            return found
    return fit_likelihood(likelihood)
