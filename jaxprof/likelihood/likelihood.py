"""The likelihood of a profile: named parameters in, the logarithm of a probability out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood.bin_geometry import BinGeometry
from jaxprof.likelihood.constraints import Constraints, FreeParameters
from jaxprof.likelihood.data import float_dtype
from jaxprof.likelihood.merging import (
    Gathered,
    check_may_merge,
    drawn,
    found_in,
    may_merge,
    merged,
    room_for,
)
from jaxprof.likelihood.named import complete
from jaxprof.likelihood.signals import beyond_all_nodes, signals_of
from jaxprof.likelihood.spectra import Spectra, two_axes
from jaxprof.likelihood.terms import CountsBins, OnOff, Term


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The likelihood of all bins and energy groups of a profile; `reduce` of an estimator makes it.

    A pytree of arrays. Every method is a pure function of its named parameters ``params``, see
    below: it can be compiled, mapped and differentiated, on any device, with respect to the
    parameters and to all arrays. Unknown names and wrong shapes raise a ValueError.

    Attributes
    ----------
    terms : tuple of Poisson and OnOff
        Counts and templates, one for each data set.
    constraints : Constraints
        Constraints and bounds of the parameters, which ``log_prob`` contains.
    nominal : dict
        All parameters at their nominal values.
    bins : tuple of CountsBins
        Where the counts bins of each term come from.
    geometry : BinGeometry or None
        Where on the sky the emission of each norm lies, for laws: ``geometry.norms(law)``. None if
        the regions are compound.
    spectra : Spectra or None
        For templates that are kept per true energy; None if fluxes are part of them.
    nodes : dict of array, shape (P,)
        Values of parameters between which templates are interpolated, by name: the leading axes
        of the templates, in alphabetical order.
    source_nodes : dict of dict of array, shape (P,)
        Offsets and factors between which sources with free positions and widths are interpolated,
        by the names of source and parameter: such a source has a component for each of their
        combinations.
    sources : tuple of str
        Names of the sources, in the order of their components.
    free : FreeParameters
        Parameters that are fitted.
    merged : bool
        Whether empty pixels share counts bins: then the counts cannot be changed.

    Notes
    -----
    Parameters, with B bins, G energy groups and D data sets:

    ================== ============ ==============================================================
    name               shape        meaning
    ================== ============ ==============================================================
    norm               (B, G)       norm of each bin, as in the profile
    guard              (n, G)       norms of the guard bins
    source             dict of (G,) norms of the sources, by name
    source_lon         dict of ()   offsets of sources on the sky [deg], by name: along longitude
    source_lat         dict of ()   and along latitude, of those whose position is free
    source_width       dict of ()   factors on the widths of sources, by name, of those whose width
                                    is free
    background         (D, G)       norm of the background; that of On-Off data is profiled instead
    background_tilt    (D, G)       its tilt, around the mean energy of the group; likelihoods of
                                    sums over energies have none
    exposure           (D,)         factor on the exposure of each data set
    psf_scale          ()           factor on the width of the point-spread function, within its
                                    nodes
    energy_scale       ()           factor on the energies that the signal is reconstructed at,
                                    within its nodes
    spectrum           a model      spectral model of the bins, if templates are kept per true
                                    energy, or a dict with some of its parameters; these have the
                                    shape (), (B,) or (B, G)
    ================== ============ ==============================================================

    Any of them may be left out, and then has its nominal value.
    """

    terms: tuple[Term, ...]
    constraints: Constraints
    nominal: Mapping[str, Any]
    bins: tuple[CountsBins, ...]
    geometry: BinGeometry | None = None
    spectra: Spectra | None = None
    nodes: Mapping[str, Any] = field(default_factory=dict)
    source_nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sources: tuple[str, ...] = field(default=(), metadata={"static": True})
    free: FreeParameters = field(default=FreeParameters(), metadata={"static": True})
    merged: bool = field(default=False, metadata={"static": True})

    def __repr__(self) -> str:
        shape = np.shape(self.nominal["norm"])
        terms = ", ".join(
            f"{type(term).__name__} {np.shape(jax.tree.leaves(term.observed)[0])}"
            for term in self.terms
        )
        names = ", ".join(self.free.names)
        return f"<Likelihood: norms {shape}, counts of {terms}; fitted: {names}>"

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile."""
        return int(jnp.shape(self.nominal["norm"])[0])

    @property
    def n_groups(self) -> int:
        """Number of energy groups."""
        return int(jnp.shape(self.nominal["norm"])[1])

    def params(self) -> dict[str, Any]:
        """Parameters that are fitted, at their nominal values.

        Returns
        -------
        dict of array
            A new one: change it as you like.
        """
        found = {name: self.nominal[name] for name in self.free.names}
        if "source" in found:
            found["source"] = {name: found["source"][name] for name in self.free.sources}
        if self.free.spectral_parameters:
            model, shape = self.nominal["spectrum"], np.shape(self.nominal["norm"])
            found["spectrum"] = {
                name: jnp.broadcast_to(two_axes(jnp.asarray(getattr(model, name))), shape)
                for name in self.free.spectral_parameters
            }
        return found

    def bounds(self, names: Iterable[str] | None = None) -> dict[str, tuple[Any, Any]]:
        """Bounds beyond which ``log_prob`` is -inf, as `jaxprof.fit` takes them.

        It keeps those of a likelihood by itself; functions of one do not have them.

        Parameters
        ----------
        names : iterable of str, optional
            Parameters, by default those of `params`. Those of the spectrum are called
            ``"spectrum.index"``; ``"spectrum"`` stands for all of them.
        """
        lower, upper = self.constraints.lower, self.constraints.upper
        wanted = set(self.free.names if names is None else names)
        return {
            name: (lower.get(name), upper.get(name))
            for name in {**lower, **upper}
            if name in wanted or name.partition(".")[0] in wanted
        }

    def fixed(self) -> tuple[str, ...]:
        """Elements of `params` that are not fitted, such as ``"background[0, 1]"``.

        They are backgrounds and exposures of single data sets, and spectra of bins that are hardly
        seen. `jaxprof.fit` holds those of a likelihood by itself; functions of one do not.
        """
        measured = {term.dataset for term in self.terms if isinstance(term, OnOff)}
        found = []
        for name, rows in self.free.held_rows():
            held = {*rows, *measured} if name.startswith("background") else set(rows)
            indices = [f"{row}" for row in sorted(held)]
            if name != "exposure":
                indices = [f"{row}, {group}" for row in indices for group in range(self.n_groups)]
            found += [f"{name}[{index}]" for index in indices]
        return tuple(found)

    def npred(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Predicted counts of each term, (G, N, S); ON counts for On-Off data.

        Raises
        ------
        ValueError
            For an unknown name or a wrong shape.
        """
        return tuple(term.npred(*own) for term, own in signals_of(self, params))

    def signal(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Predicted counts of all bins, guard bins and sources in each term, (G, N, S)."""
        return tuple(own[0] for _, own in signals_of(self, params))

    def log_prob(self, params: Mapping[str, Any]) -> Any:
        r"""Logarithm of the likelihood, :math:`\ln L`, with the factorials and the constraints.

        Constraints come without the constants of their Gaussians. ``-inf`` outside of the domain
        and beyond bounds; NaN, as are its derivatives, for invalid data or parameters.
        """
        total, violation = self.constraints.log_prob(complete(self.nominal, params))
        for term, own in signals_of(self, params):
            value, below = term.log_prob(*own)
            total, violation = total + value, violation + below
        # Outside there is no plateau: the gradient leads back.
        outside = -jnp.inf + (violation - jax.lax.stop_gradient(violation))
        value = jnp.where(violation < 0, outside, total)
        return jnp.where(jnp.isnan(total) | jnp.isnan(violation), total + violation, value)

    def stat(self, params: Mapping[str, Any]) -> Any:
        """Fit statistic as profiles report it, cash or wstat, summed over all counts bins.

        Without constraints, and without what depends on the counts only. It is infinite where joint
        fits predict counts below zero, and beyond the nodes of ``psf_scale`` and so on, between
        which alone templates are known; for separate fits predictions below zero are floored
        inside the logarithm, as in `jaxprof.core.cash`. Bounds of norms do not matter.
        """
        total: Any = 0.0
        for term, own in signals_of(self, params):
            total = total + term.stat(*own)
        if not (self.nodes or self.source_nodes):
            return total
        beyond = beyond_all_nodes(self, params)
        # As for log_prob, the gradient leads back.
        outside = jnp.inf - (beyond - jax.lax.stop_gradient(beyond))
        return jnp.where(beyond < 0, outside, total)

    @property
    def counts(self) -> tuple[Any, ...]:
        """Counts of each term, (G, N, S); a pair of ON and OFF counts for On-Off data."""
        return tuple(term.observed for term in self.terms)

    def with_counts(self, counts: Any) -> Likelihood:
        """The likelihood of other counts.

        Parameters
        ----------
        counts : tuple of array
            As ``likelihood.counts``.

        Raises
        ------
        ValueError
            For other shapes, or if empty pixels were merged.
        """
        self._check_counts_may_change()
        given = len(counts) if hasattr(counts, "__len__") else counts
        if given != len(self.terms):
            raise ValueError(f"counts must have {len(self.terms)} terms, got {given}")
        pairs = zip(self.terms, counts, strict=True)
        return replace(self, terms=tuple(term.with_counts(own) for term, own in pairs))

    def asimov(self, params: Mapping[str, Any]) -> Likelihood:
        """The likelihood of the counts that parameters predict.

        Raises
        ------
        ValueError
            For parameters that predict counts below zero. Under jit these counts are NaN, and so
            is ``log_prob``.
        """
        self._check_counts_may_change()
        pairs = signals_of(self, params)
        return _predicted(replace(self, terms=tuple(term.expected(*own) for term, own in pairs)))

    def simulate(
        self,
        key: Any,
        params: Mapping[str, Any],
        *,
        constraints: bool = False,
        most: int | None = None,
    ) -> Likelihood:
        """The likelihood of counts drawn from their Poisson distributions.

        Parameters
        ----------
        key : jax.random key
            Source of randomness, ``jax.random.key(0)``.
        params : dict
            The truth.
        constraints : bool
            Whether the centres of Gaussian constraints are drawn as well, as a new measurement
            would find them.
        most : int, optional
            Number of counts that there is room for, in each data set and energy group. Then empty
            pixels share counts bins, as after `merge_empty`, and counts are drawn one by one: where
            they are fewer than pixels that is several times as fast. They are others than without.
            If there are more, counts and ``log_prob`` are NaN under jit.

        Raises
        ------
        ValueError
            For parameters that predict counts below zero, as `asimov` does; for more counts than
            `most`, or background tilts that are fitted, where that is given.
        """
        self._check_counts_may_change()
        keys = jax.random.split(key, len(self.terms) + 1)
        own = self.constraints
        if constraints:
            own = own.simulated(keys[0], complete(self.nominal, params))
        # In single precision the sum of many rates has no room for one of them.
        one_by_one = most is not None and float_dtype(self.counts) == np.float64
        if one_by_one:
            check_may_merge(self)
        terms: list[Term] = []
        gathered: list[Gathered | None] = []
        for own_key, (term, given) in zip(keys[1:], signals_of(self, params), strict=True):
            found = None
            if most is not None and one_by_one and may_merge(term):
                found = drawn(own_key, term.rates(*given), most)
            terms.append(term.simulated(own_key, *given) if found is None else term)
            gathered.append(found)
        made = replace(self, terms=tuple(terms), constraints=own)
        made = _predicted(merged(made, gathered) if one_by_one else made)
        return made if most is None or one_by_one else made.merge_empty(most)

    def merge_empty(self, most: int | None = None) -> Likelihood:
        """The same likelihood, faster where most pixels are empty, as in simulated data sets.

        Empty pixels enter it by the sum of their predictions only, so that those with the same
        components share a counts bin. The number of arrays' elements depends on `most` alone:
        this works under jit and vmap.

        Parameters
        ----------
        most : int, optional
            Number of pixels with counts that there is room for, in each data set and energy group;
            by default, and outside of jit only, as many as there are.

        Returns
        -------
        Likelihood
            With counts that cannot change, and without background tilts. A single empty pixel may
            be predicted below zero here. Norms of separate fits and On-Off data stay as they are.

        Raises
        ------
        ValueError
            If background tilts are fitted, or there are more pixels with counts. Under jit
            ``log_prob`` is NaN then.

        Examples
        --------
        >>> from jaxprof import fit_model
        >>> def one(key, likelihood, truth, law):
        ...     toy = likelihood.simulate(key, truth).merge_empty(4000)
        ...     return fit_model(toy, law).params

        ``likelihood.simulate(key, truth, most=4000)`` is such a likelihood, and sooner drawn.
        """
        check_may_merge(self)
        return merged(
            self,
            [
                found_in(term, room_for(term, most)) if may_merge(term) else None
                for term in self.terms
            ],
        )

    def whiten(self, params: Any) -> tuple[Any, Any]:
        """Coordinates that samplers like: `jaxprof.whiten` of this likelihood.

        Parameters
        ----------
        params : Fit or dict
            What `jaxprof.fit` gave, or the parameters from which it is to start.

        Returns
        -------
        whitened, to_params : callable
            The same log probability of coordinates, and what maps these to parameters.
        """
        from jaxprof.inference.whitening import whiten

        return whiten(self, params)

    def _check_counts_may_change(self) -> None:
        if self.merged:
            raise ValueError(
                "the counts of this likelihood cannot change, because empty pixels share counts "
                "bins; make it with reduce(datasets, merge=False)"
            )


def _predicted(likelihood: Likelihood) -> Likelihood:
    """The same; a ValueError for predicted counts that are none, where they are not traced."""
    for counts in jax.tree.leaves(likelihood.counts):
        if not isinstance(counts, jax.core.Tracer) and np.isnan(np.asarray(counts)).any():
            raise ValueError(
                "params: they predict counts below zero, or none at all, which no data set can "
                "have; give larger norms"
            )
    return likelihood
