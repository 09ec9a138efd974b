"""A likelihood as the arrays of separate fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from jaxprof.likelihood.data import Data, OnOffData, ProfileData
from jaxprof.likelihood.likelihood import Likelihood
from jaxprof.likelihood.terms import OnOff, Poisson


def profile_data(likelihood: Likelihood) -> Data:
    """Arrays of separate fits, for `jaxprof.core.fit_norms`.

    Parameters
    ----------
    likelihood : Likelihood
        Of `FluxProfileEstimator`: each bin has counts bins of its own.

    Returns
    -------
    ProfileData, OnOffData or a tuple of both
        Of shape (B, G, E); the data sets of one statistic stand one behind the other.

    Raises
    ------
    ValueError
        If components share counts bins or parameters, or fluxes are not part of the templates.
    """
    if not is_separable(likelihood):
        raise ValueError(
            "likelihood: its components share counts bins, or its spectra are free, or bins share "
            "nuisance parameters; only norms that are fitted separately have ProfileData"
        )
    predicted = [term for term in likelihood.terms if isinstance(term, Poisson)]
    measured = [term for term in likelihood.terms if isinstance(term, OnOff)]
    found: list[Any] = []
    if predicted:
        found.append(
            ProfileData(
                counts=_joined(term.counts for term in predicted),
                background=_joined(term.background + term.offset for term in predicted),
                npred_ref=_joined(term.templates[:, :, 0, 0] for term in predicted),
                mask=_joined(term.mask for term in predicted),
            )
        )
    if measured:
        found.append(
            OnOffData(
                n_on=_joined(term.n_on for term in measured),
                n_off=_joined(term.n_off for term in measured),
                alpha=_joined(term.alpha for term in measured),
                npred_ref=_joined(term.templates[:, :, 0, 0] for term in measured),
                mask=_joined(term.mask for term in measured),
            )
        )
    return found[0] if len(found) == 1 else tuple(found)


def is_separable(likelihood: Likelihood) -> bool:
    """Whether each bin has counts bins of its own, and the norm is all that it is predicted by."""
    separate = likelihood.spectra is None and likelihood.free == ("norm",)
    return separate and all(
        term.components.shape[2] == 1
        and term.components.shape[1] == likelihood.n_bins
        and getattr(term, "clipped", True)
        for term in likelihood.terms
    )


def _joined(arrays: Iterable[Any]) -> Any:
    """Arrays (G, B, E) behind each other, as (B, G, E)."""
    return jnp.swapaxes(jnp.concatenate(list(arrays), axis=2), 0, 1)
