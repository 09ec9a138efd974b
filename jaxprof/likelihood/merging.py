"""Poisson terms in which empty counts bins are merged, whatever the counts are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.differentiation import refuse_derivatives
from jaxprof.likelihood.terms import NO_DERIVATIVES, CountsBins, Poisson, Term

if TYPE_CHECKING:
    from jaxprof.likelihood.likelihood import Likelihood


def may_merge(term: Term) -> TypeGuard[Poisson]:
    """Whether empty counts bins of a term may share one."""
    return isinstance(term, Poisson) and not term.clipped


def check_may_merge(likelihood: Likelihood) -> None:
    """Raise a ValueError for background tilts that are fitted."""
    if "background_tilt" in likelihood.free:
        raise ValueError(
            "merge_empty: background tilts are fitted, which tell empty pixels of different "
            "energies from each other"
        )


def room_for(term: Poisson, most: int | None) -> int:
    """Number of counts bins to keep in each energy group: `most`, or as many as have counts.

    Raises
    ------
    ValueError
        If more have counts; if they are traced, and `most` is not given.
    """
    # Of counts bins with counts, or invalid ones.
    number = jnp.max(jnp.sum(_found(term), axis=(1, 2)), initial=0)
    if isinstance(number, jax.core.Tracer):
        if most is None:
            raise ValueError("merge_empty: under jit the number of pixels must be given: most")
        return most
    if most is not None and most < number:
        raise ValueError(f"merge_empty: most is {most}, but {number} pixels have counts")
    return int(number) if most is None else most


class Gathered(NamedTuple):
    """Counts bins that keep their own, in each energy group; room that is left over is masked."""

    at: Any
    """Their numbers among all N * S, (G, M)."""
    counts: Any
    """Their counts, (G, M)."""
    mask: Any
    """Whether there is a counts bin, (G, M)."""


def found_in(term: Poisson, most: int) -> Gathered:
    """The counts bins of a term with counts, up to M in each group; NaN if there are more."""
    found = _found(term)
    size = term.counts[0].size

    def positions(own: Any) -> Any:
        return jnp.nonzero(own.ravel(), size=most, fill_value=size)[0]

    at = jax.vmap(positions)(found)
    mask = at < size
    at = jnp.where(mask, at, 0)
    counts = jnp.take_along_axis(term.counts.reshape(len(at), -1), at, axis=1)
    fits = jnp.all(jnp.sum(found, axis=(1, 2)) <= most)
    return Gathered(at, jnp.where(fits, jnp.where(mask, counts, 0.0), jnp.nan), mask)


def drawn(key: Any, rates: Any, most: int) -> Gathered:
    """Counts bins with counts of a Poisson distribution, up to M counts in each group.

    Along the sum of the rates (G, N, S) of all counts bins, the distances from one count to the
    next are those of a Poisson process, exponential: each counts bin has the counts in its own
    part. Rates are in float64, and zero where masked. If there are more counts, all are NaN, or a
    ValueError is raised where they are not traced.
    """
    rates = refuse_derivatives(rates, NO_DERIVATIVES)
    edges = jnp.cumsum(rates.reshape(len(rates), -1), axis=1)
    steps = jax.random.exponential(key, (len(edges), most), rates.dtype)
    positions = jnp.cumsum(steps, axis=1)
    fits = jnp.all(positions[:, -1] > edges[:, -1])
    if not isinstance(fits, jax.core.Tracer) and not fits and jnp.all(rates >= 0):
        raise ValueError(f"simulate: most is {most}, but more counts were drawn; give it more room")

    def counted(edges: Any, positions: Any) -> tuple[Any, ...]:
        at = jnp.searchsorted(edges, positions, side="right")
        first = jnp.diff(at, prepend=-1) > 0
        number = jnp.cumsum(first) - 1
        counts = jnp.zeros_like(positions).at[number].add(1.0)
        mask = first & (at < edges.size)
        return jnp.where(mask, at, 0), jnp.where(mask, counts[number], 0.0), mask

    at, counts, mask = jax.vmap(counted)(edges, positions)
    return Gathered(at, jnp.where(fits, counts, jnp.nan), mask)


def merged(likelihood: Likelihood, gathered: Sequence[Gathered | None]) -> Likelihood:
    """The likelihood with all pixels of each term merged but those that are given."""
    # Bins, guard bins and sources, these at all of their nodes.
    nodes = (likelihood.source_nodes.get(name, {}).values() for name in likelihood.sources)
    n_components = likelihood.n_bins + len(likelihood.nominal.get("guard", ()))
    n_components += sum(math.prod(map(len, own)) for own in nodes)
    return with_merged(
        likelihood,
        [
            merged_empty(term, own, found, n_components)
            if found is not None and may_merge(term)
            else (term, own)
            for term, own, found in zip(likelihood.terms, likelihood.bins, gathered, strict=True)
        ],
    )


def with_merged(likelihood: Likelihood, parts: Sequence[tuple[Term, CountsBins]]) -> Likelihood:
    """The likelihood with terms whose empty pixels are merged, and where they come from."""
    terms, bins = zip(*parts, strict=True)
    known = likelihood.constraints
    nominal, lower, upper = (
        {name: own for name, own in values.items() if name != "background_tilt"}
        for values in (likelihood.nominal, known.lower, known.upper)
    )
    return replace(
        likelihood,
        terms=terms,
        bins=bins,
        nominal=nominal,
        constraints=replace(known, lower=lower, upper=upper),
        merged=True,
    )


def merged_empty(
    term: Poisson, bins: CountsBins, found: Gathered, n_components: int
) -> tuple[Poisson, CountsBins]:
    """A term of the same likelihood whose size does not grow with the number of empty counts bins.

    Their predictions enter the likelihood by their sum only, so that those of a disjoint region
    share one counts bin. Of counts bins (G, N, S) without background tilt it makes (G, 1, M + N),
    those that were found first, in one disjoint region that all components reach: gathered counts
    bins are of too many regions for anything else to be as fast.
    """
    n_groups, n_regions, size = term.mask.shape
    groups = jnp.arange(n_groups)[:, None]
    row = found.at // size
    taken = jnp.where(found.mask, found.at, n_regions * size)
    full = jnp.zeros((n_groups, n_regions * size), bool).at[groups, taken].set(True, mode="drop")
    empty = term.mask & ~full.reshape(term.mask.shape)

    def both(values: Any, rest: Any) -> Any:
        """Values (G, N, S) of single counts bins, then of the merged ones, (G, 1, M + N)."""
        own = jnp.asarray(values).reshape(n_groups, -1)[groups, found.at]
        own = jnp.where(found.mask, own, jnp.zeros_like(own))
        return jnp.concatenate([own, rest], axis=1)[:, None]

    def summed(values: Any) -> Any:
        return jnp.sum(jnp.where(empty, values, 0.0), axis=2)

    def of_rows(values: Any) -> Any:
        """Values (G, N, ...) of the disjoint regions of all counts bins, (G, M + N, ...)."""
        return jnp.concatenate([jnp.asarray(values)[groups, row], values], axis=1)

    none = jnp.zeros((n_groups, n_regions), found.counts.dtype)
    counts = jnp.concatenate([found.counts, none], axis=1)[:, None]
    several = jnp.full((n_groups, n_regions), -1)
    made = replace(
        term,
        counts=counts,
        background=both(term.background, summed(term.background)),
        offset=both(term.offset, summed(term.offset)),
        log_energy=jnp.zeros_like(counts),
        templates=_templates(term, empty, found, n_components),
        components=jnp.broadcast_to(jnp.arange(n_components), (n_groups, 1, n_components)),
        mask=jnp.concatenate([found.mask, jnp.any(empty, axis=2)], axis=1)[:, None],
    )
    return made, replace(
        bins,
        energy=both(bins.energy, several),
        pixel=both(bins.pixel, several),
        region=jnp.moveaxis(of_rows(bins.region), 2, 1)[:, None],
    )


def _templates(term: Poisson, empty: Any, own: Gathered, n_components: int) -> Any:
    """Templates (..., G, 1, C, Q, M + N) of single counts bins, and of sums over empty ones."""
    n_groups, _, size = empty.shape
    components = jnp.asarray(term.components)
    groups = jnp.arange(n_groups)[:, None]
    row, column = own.at // size, own.at % size
    reached = jnp.concatenate([components[groups, row], components], axis=1)

    def of_node(templates: Any) -> Any:
        # Not of counts bins brought to the front, which would be copied for each set of counts.
        single = templates[groups, row, :, :, column]
        single = jnp.where(own.mask[..., None, None], single, 0.0)
        rest = jnp.einsum("gnkqs,gns->gnkq", templates, empty.astype(templates.dtype))
        both = jnp.concatenate([single, rest], axis=1)
        # (G, C, M + N, Q); padding adds zeros.
        found = jnp.zeros((n_groups, n_components, both.shape[1], both.shape[3]), both.dtype)
        columns = jnp.arange(both.shape[1])[None, :, None]
        found = found.at[groups[..., None], reached, columns].add(both)
        return jnp.swapaxes(found, 2, 3)[:, None]

    templates = jnp.asarray(term.templates)
    nodes, shape = templates.shape[:-5], templates.shape[-5:]
    found = jax.vmap(of_node)(templates.reshape(-1, *shape))
    return found.reshape(*nodes, *found.shape[1:])


def packed(term: Poisson, bins: CountsBins, pack: Any, room: int) -> tuple[Poisson, CountsBins]:
    """A term of the same likelihood with the rows of counts bins that share components packed.

    As of `merged_empty`, but each counts bin stays with the few components that reach it. ``pack``
    (N,) is the pack of each row, in order: all rows of a pack have the same components. Of counts
    bins (G, N, S) without background tilt or interpolation nodes it makes (G, P, M + 1) for P
    packs, each with ``room`` M for counts bins of their own; the last are the merged ones. Counts
    are NaN if more are found than that.
    """
    n_groups, n_rows, size = term.mask.shape
    n_packs = int(pack[-1]) + 1
    first = np.searchsorted(pack, np.arange(n_packs + 1))
    found, groups = _found(term), jnp.arange(n_groups)[:, None, None]
    # How many are found up to each counts bin: the search is sooner done than a scatter.
    number = jnp.cumsum(found.reshape(n_groups, -1), axis=1)
    ends = jnp.concatenate([jnp.zeros((n_groups, 1), number.dtype), number[:, size - 1 :: size]], 1)
    before, after = ends[:, first[:-1], None], ends[:, first[1:], None]
    wanted = before + jnp.arange(1, room + 1)[None, None]
    mask = wanted <= after
    at = jax.vmap(jnp.searchsorted)(number, wanted)
    at = jnp.where(mask, at, 0)
    empty = term.mask & ~found

    def summed(values: Any) -> Any:
        """Sums over the rows of each pack, (G, P, ...)."""
        return jnp.zeros((n_groups, n_packs, *values.shape[2:])).at[:, pack].add(values)

    def both(values: Any, rest: Any) -> Any:
        own = jnp.asarray(values).reshape(n_groups, -1)[groups, at]
        own = jnp.where(mask, own, jnp.zeros_like(own))
        return jnp.concatenate([own, rest[..., None]], axis=2)

    def with_sums(values: Any) -> Any:
        return both(values, summed(jnp.sum(jnp.where(empty, values, 0.0), axis=2)))

    templates = jnp.asarray(term.templates)
    single = jnp.moveaxis(templates[groups, at // size, :, :, at % size], 2, -1)
    rest = summed(jnp.einsum("gnkqs,gns->gnkq", templates, empty.astype(templates.dtype)))
    fits = jnp.all(after - before <= room)
    several = jnp.full((n_groups, n_packs), -1)
    counts = jnp.where(fits, both(term.counts, jnp.zeros((n_groups, n_packs))), jnp.nan)
    return replace(
        term,
        counts=counts,
        background=with_sums(term.background),
        offset=with_sums(term.offset),
        log_energy=jnp.zeros_like(counts),
        templates=jnp.concatenate(
            [jnp.where(mask[:, :, None, None], single, 0.0), rest[..., None]], axis=-1
        ),
        components=jnp.asarray(term.components)[:, first[:-1]],
        mask=jnp.concatenate([mask, summed(jnp.any(empty, axis=2))[..., None] > 0], axis=2),
    ), replace(
        bins,
        energy=both(bins.energy, several),
        pixel=both(bins.pixel, several),
        region=jnp.asarray(bins.region)[:, first[:-1]],
    )


def _found(term: Poisson) -> Any:
    return term.mask & ~(term.counts == 0)
