"""A likelihood as the arrays of separate fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from jaxprof.likelihood.constraints import Constraints
from jaxprof.likelihood.data import Data, OnOffData, ProfileData, prepare
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


def separate_counts(
    data: Data, *, norm_min: float | None = None, norm_max: float | None = None
) -> Likelihood:
    """The likelihood of separate fits from their arrays: the inverse of `profile_data`.

    Parameters
    ----------
    data : ProfileData, OnOffData or a tuple of both
        Arrays of shape (B, G, E), such as ``likelihood_data`` of a profile, or counting experiments
        of your own.
    norm_min, norm_max : float, optional
        Bounds of the norm; None for no bound.

    Returns
    -------
    Likelihood
        With the norms as its only parameters. It does not know where its counts bins come from.

    Raises
    ------
    TypeError, ValueError
        As `jaxprof.core.fit_norms`.
    """
    terms: list[Poisson | OnOff] = []
    for number, block in enumerate(prepare(data)):
        n_bins, n_groups, _ = jnp.shape(block.npred_ref)
        mask = _groups_first(block.mask)
        templates = jnp.where(mask, _groups_first(block.npred_ref), 0.0)
        common: dict[str, Any] = {
            "templates": templates[:, :, None, None],
            "components": jnp.broadcast_to(jnp.arange(n_bins)[:, None], (n_groups, n_bins, 1)),
            "mask": mask,
            "offset": jnp.zeros_like(templates),
            "dataset": number,
        }
        if isinstance(block, OnOffData):
            measured = {n: _groups_first(getattr(block, n)) for n in ("n_on", "n_off")}
            alpha = jnp.where(mask, _groups_first(block.alpha), 1.0)
            terms.append(OnOff(**measured, alpha=alpha, **common))
        else:
            given = {n: _groups_first(getattr(block, n)) for n in ("counts", "background")}
            flat = jnp.zeros_like(templates)
            terms.append(Poisson(**given, log_energy=flat, clipped=True, **common))
    n_sets = len(terms)
    return Likelihood(
        terms=tuple(terms),
        constraints=Constraints(
            lower={} if norm_min is None else {"norm": norm_min},
            upper={} if norm_max is None else {"norm": norm_max},
        ),
        nominal={
            "norm": jnp.ones((n_bins, n_groups)),
            "background": jnp.ones((n_sets, n_groups)),
            "exposure": jnp.ones(n_sets),
        },
        bins=(),
    )


def _groups_first(array: Any) -> Any:
    values = jnp.swapaxes(jnp.asarray(array), 0, 1)
    return values if values.dtype == bool else values.astype(jnp.result_type(float, values.dtype))


def is_separable(likelihood: Likelihood) -> bool:
    """Whether each bin has counts bins of its own, and the norm is all that it is predicted by."""
    separate = likelihood.spectra is None and likelihood.free.names == ("norm",)
    return separate and all(
        term.components.shape[2] == 1
        and term.components.shape[1] == likelihood.n_bins
        and getattr(term, "clipped", True)
        for term in likelihood.terms
    )


def _joined(arrays: Iterable[Any]) -> Any:
    """Arrays (G, B, E) behind each other, as (B, G, E)."""
    return jnp.swapaxes(jnp.concatenate(list(arrays), axis=2), 0, 1)
