"""A likelihood as the arrays of separate fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood.constraints import Constraints, bounds_of
from jaxprof.likelihood.data import Block, Data, OnOffData, ProfileData, prepare
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
    prepared = jax.tree.map(jnp.asarray, prepare(data))
    terms = [separate_term(block, number) for number, block in enumerate(prepared)]
    n_bins, n_groups, _ = prepared[0].mask.shape
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


def separate_term(
    block: Block, number: int, *, templates: Any = None, offset: Any = None, log_energy: Any = None
) -> Term:
    """The term of a data set that is fitted separately, by numpy for numpy's arrays.

    The ``block`` has arrays (B, G, E) with a mask. Other ``templates`` than its ``npred_ref`` are
    (B, G, T, E); the ``offset`` (B, G, E) is a part of its background, as of `Poisson`, and
    ``log_energy`` (G, B, E) as there.
    """
    mask = block.mask
    xp = jnp if isinstance(mask, jax.Array) else np
    n_bins, n_groups, _ = mask.shape

    def groups_first(values: Any, empty: float = 0.0) -> Any:
        return xp.swapaxes(xp.where(mask, values, empty), 0, 1)

    templates = block.npred_ref[:, :, None] if templates is None else templates
    templates = xp.swapaxes(xp.where(mask[:, :, None], templates, 0.0), 0, 1)
    none = xp.zeros_like(templates[:, :, 0])
    components = xp.broadcast_to(xp.arange(n_bins)[:, None], (n_groups, n_bins, 1))
    common: dict[str, Any] = {
        "templates": templates[:, :, None],
        "components": components if xp is jnp else components.copy(),
        "mask": xp.swapaxes(mask, 0, 1),
        "offset": none if offset is None else groups_first(offset),
        "dataset": number,
    }
    if isinstance(block, OnOffData):
        alpha = groups_first(block.alpha, 1.0)
        return OnOff(
            n_on=groups_first(block.n_on), n_off=groups_first(block.n_off), alpha=alpha, **common
        )
    background = groups_first(block.background)
    if offset is not None:
        # What is left of a sum may be rounding below zero.
        background = xp.maximum(background - common["offset"], 0.0)
    return Poisson(
        counts=groups_first(block.counts),
        background=background,
        log_energy=none if log_energy is None else log_energy,
        clipped=True,
        **common,
    )


def is_separable(likelihood: Likelihood) -> bool:
    """Whether each bin has counts bins of its own, and the norm is all that it is predicted by."""
    separate = likelihood.spectra is None and likelihood.free.names == ("norm",)
    return separate and all(
        term.components.shape[2] == 1
        and term.components.shape[1] == likelihood.n_bins
        and getattr(term, "clipped", True)
        for term in likelihood.terms
    )
