"""A likelihood as the arrays of separate fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import jax.numpy as jnp

from jaxprof.likelihood.constraints import Constraints, bounds_of
from jaxprof.likelihood.data import Data, OnOffData, ProfileData, prepare
from jaxprof.likelihood.likelihood import Likelihood
from jaxprof.likelihood.terms import OnOff, Poisson, Term


def profile_data(likelihood: Likelihood) -> Data:
    """Arrays of separate fits, for `jaxprof.core.fit_norms`: of shape (B, G, E).

    The data sets of one statistic stand one behind the other. A ValueError if components share
    counts bins or parameters, or fluxes are not part of the templates.
    """
    if not is_separable(likelihood):
        raise ValueError(
            "likelihood: its components share counts bins, or its spectra are free, or bins share "
            "nuisance parameters; only norms that are fitted separately have ProfileData"
        )
    found: list[Any] = []
    for kind, of_kind in ((ProfileData, Poisson), (OnOffData, OnOff)):
        terms = [term for term in likelihood.terms if isinstance(term, of_kind)]
        if terms:
            names = [each.name for each in fields(kind)]
            found.append(kind(**{name: _joined(terms, name) for name in names}))
    return found[0] if len(found) == 1 else tuple(found)


def _joined(terms: Sequence[Term], name: str) -> Any:
    """Arrays (G, B, E) of terms behind each other, as (B, G, E)."""
    arrays: list[Any] = []
    for term in terms:
        if name == "npred_ref":
            arrays.append(term.templates[:, :, 0, 0])
        elif isinstance(term, Poisson) and name == "background":
            arrays.append(term.background + term.offset)
        else:
            arrays.append(getattr(term, name))
    return jnp.swapaxes(jnp.concatenate(arrays, axis=2), 0, 1)


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
    terms: list[Term] = []
    for number, block in enumerate(prepare(data)):
        n_bins, n_groups, _ = jnp.shape(block.npred_ref)
        arrays = {name: _groups_first(value) for name, value in vars(block).items()}
        mask = arrays.pop("mask")
        templates = jnp.where(mask, arrays.pop("npred_ref"), 0.0)
        none = jnp.zeros_like(templates)
        common: dict[str, Any] = {
            "templates": templates[:, :, None, None],
            "components": jnp.broadcast_to(jnp.arange(n_bins)[:, None], (n_groups, n_bins, 1)),
            "mask": mask,
            "offset": none,
            "dataset": number,
        }
        if isinstance(block, OnOffData):
            arrays["alpha"] = jnp.where(mask, arrays["alpha"], 1.0)
            terms.append(OnOff(**arrays, **common))
        else:
            terms.append(Poisson(**arrays, log_energy=none, clipped=True, **common))
    n_sets = len(terms)
    lower, upper = bounds_of((norm_min, norm_max))
    return Likelihood(
        terms=tuple(terms),
        constraints=Constraints(lower=lower, upper=upper),
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
