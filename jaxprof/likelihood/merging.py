"""Poisson terms in which empty counts bins are merged, whatever the counts are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.likelihood.counts_bins import CountsBins
from jaxprof.likelihood.terms import Poisson


def number_found(term: Poisson) -> Any:
    """The largest number of counts bins with counts (or invalid ones) in one energy group."""
    return jnp.max(jnp.sum(_found(term), axis=(1, 2)), initial=0)


def merged_empty(
    term: Poisson, bins: CountsBins, most: int, n_components: int
) -> tuple[Poisson, CountsBins]:
    """A term of the same likelihood whose size does not grow with the number of empty counts bins.

    Their predictions enter the likelihood by their sum only, so that those of a disjoint region
    share one counts bin.

    Parameters
    ----------
    term : Poisson
        Counts bins, (G, N, S), without background tilt.
    bins : CountsBins
        Where they come from.
    most : int
        Number of counts bins with counts that there is room for, M, in each energy group. If there
        are more, the counts are NaN.
    n_components : int
        Number of all components, C.

    Returns
    -------
    term, bins
        Of counts bins (G, 1, M + N), in one disjoint region that all components reach: gathered
        counts bins are of too many regions for anything else to be as fast.
    """
    found = _found(term)
    empty = term.mask & ~found
    n_groups, n_regions, size = found.shape

    def positions(own: Any) -> Any:
        return jnp.nonzero(own.ravel(), size=most, fill_value=own.size)[0]

    # (G, M); numbers past the end are room that is left over.
    at = jax.vmap(positions)(found)
    used = at < n_regions * size
    at = jnp.where(used, at, 0)
    groups = jnp.arange(n_groups)[:, None]
    row = at // size

    def both(values: Any, rest: Any) -> Any:
        """Values (G, N, S) of single counts bins, then of the merged ones, (G, 1, M + N)."""
        own = jnp.asarray(values).reshape(n_groups, -1)[groups, at]
        own = jnp.where(used, own, jnp.zeros_like(own))
        return jnp.concatenate([own, rest], axis=1)[:, None]

    def summed(values: Any) -> Any:
        return jnp.sum(jnp.where(empty, values, 0.0), axis=2)

    def of_rows(values: Any) -> Any:
        """Values (G, N, ...) of the disjoint regions of all counts bins, (G, M + N, ...)."""
        return jnp.concatenate([jnp.asarray(values)[groups, row], values], axis=1)

    fits = jnp.all(jnp.sum(found, axis=(1, 2)) <= most)
    counts = both(term.counts, jnp.zeros((n_groups, n_regions), term.counts.dtype))
    several = jnp.full((n_groups, n_regions), -1)
    merged = replace(
        term,
        counts=jnp.where(fits, counts, jnp.nan),
        background=both(term.background, summed(term.background)),
        offset=both(term.offset, summed(term.offset)),
        log_energy=jnp.zeros_like(counts),
        templates=_templates(term, empty, at, n_components),
        components=jnp.broadcast_to(jnp.arange(n_components), (n_groups, 1, n_components)),
        mask=jnp.concatenate([used, jnp.any(empty, axis=2)], axis=1)[:, None],
    )
    return merged, replace(
        bins,
        energy=both(bins.energy, several),
        pixel=both(bins.pixel, several),
        region=jnp.moveaxis(of_rows(bins.region), 2, 1)[:, None],
    )


def _templates(term: Poisson, empty: Any, at: Any, n_components: int) -> Any:
    """Templates (..., G, 1, C, Q, M + N) of counts bins at (G, M), and of sums over empty ones."""
    n_groups, n_regions, size = empty.shape
    components = jnp.asarray(term.components)
    groups = jnp.arange(n_groups)[:, None]
    reached = jnp.concatenate([components[groups, at // size], components], axis=1)

    def of_node(templates: Any) -> Any:
        # Counts bins are in front, so that whole rows are gathered: (G, N * S, K, Q).
        flat = jnp.moveaxis(templates, -1, 2)
        flat = flat.reshape(n_groups, n_regions * size, *flat.shape[3:])
        rest = jnp.einsum("gnkqs,gns->gnkq", templates, empty.astype(templates.dtype))
        both = jnp.concatenate([flat[groups, at], rest], axis=1)
        # (G, C, M + N, Q); padding adds zeros.
        found = jnp.zeros((n_groups, n_components, both.shape[1], both.shape[3]), both.dtype)
        columns = jnp.arange(both.shape[1])[None, :, None]
        found = found.at[groups[..., None], reached, columns].add(both)
        return jnp.swapaxes(found, 2, 3)[:, None]

    templates = jnp.asarray(term.templates)
    nodes, shape = templates.shape[:-5], templates.shape[-5:]
    found = jax.vmap(of_node)(templates.reshape(-1, *shape))
    return found.reshape(*nodes, *found.shape[1:])


def _found(term: Poisson) -> Any:
    return term.mask & ~(term.counts == 0)
