"""The likelihood of a profile: named parameters in, the logarithm of a probability out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood.constraints import Constraints
from jaxprof.likelihood.nodes import node_weights
from jaxprof.likelihood.terms import OnOff, Term, signal


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CountsBins:
    """Where the counts bins of a term come from.

    Attributes
    ----------
    energy : array of int, shape (G, N, S)
        Reconstructed energy, counted on the axis of the data set; -1 for a sum over energies.
    pixel : array of int, shape (G, N, S)
        Index of the pixel in the flattened image, ``y * n_x + x``; -1 for a sum over pixels.
    region : array of bool, shape (G, N, B)
        Bins of the profile that the pixels of a disjoint region belong to.
    dataset : str
        Name of the data set.
    """

    energy: Any
    pixel: Any
    region: Any
    dataset: str = field(default="", metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Spectra of the components, where templates are kept per true energy.

    Parameters
    ----------
    edges : tuple of array, shape (T + 1,)
        Edges of the true energies of each data set [TeV].
    source_flux : tuple of array, shape (n_sources, T)
        Flux of the sources in the true energies of each data set [cm-2 s-1].
    group_edges : array, shape (G, 2)
        Edges of the energy groups [TeV].
    guard_bins : array of int, shape (n_guards,)
        Bin that each guard bin has the spectrum of.
    guard_flux : tuple of array, shape (n_guards, T), or None
        Flux of the guard bins in the true energies of each data set, if their spectra stay as they
        are whatever the parameters of those of the bins: where an estimator fits these.
    reference_flux : array, shape (n_regions, G), or None
        Flux of each bin and guard bin in the energy group that a norm of one stands for, whatever
        the parameters of its spectrum. If None, norms multiply the spectra as they are.
    """

    edges: tuple[Any, ...]
    source_flux: tuple[Any, ...]
    group_edges: Any
    guard_bins: Any = ()
    guard_flux: tuple[Any, ...] | None = None
    reference_flux: Any = None

    def flux(self, model: Any, dataset: int, n_regions: int) -> Any:
        """Flux of bins and guard bins at norm one, (n_regions, G, T); broadcast where equal.

        Parameters of ``model`` have the shape () if all bins share them, (B,) or (B, G).
        """
        edges, group = self.edges[dataset], self.group_edges
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(model)]
        shape = jnp.broadcast_shapes(*(_two_axes(leaf).shape for leaf in leaves))
        full = jax.tree.map(
            lambda leaf: jnp.broadcast_to(_two_axes(jnp.asarray(leaf)), shape), model
        )

        def one(own: Any, bounds: Any) -> Any:
            flux = own.integral(edges[:-1], edges[1:])
            if self.reference_flux is None:
                return flux
            return flux / own.integral(bounds[0], bounds[1])

        n_groups = group.shape[0]
        over_groups = jax.vmap(one, in_axes=(0 if shape[1] > 1 else None, 0))
        if shape[1] == 1:
            full = jax.tree.map(lambda leaf: leaf[:, 0], full)
        flux = jax.vmap(over_groups, in_axes=(0, None))(full, group)
        if flux.shape[0] > 1 and len(self.guard_bins):
            flux = jnp.concatenate([flux, flux[jnp.asarray(self.guard_bins)]])
        flux = jnp.broadcast_to(flux, (n_regions, n_groups, flux.shape[2]))
        if self.reference_flux is not None:
            flux = flux * self.reference_flux[:, :, None]
        if self.guard_flux is not None and len(self.guard_bins):
            own = self.guard_flux[dataset][:, None, :]
            flux = flux.at[n_regions - len(self.guard_bins) :].set(own)
        return flux


def _two_axes(leaf: Any) -> Any:
    """A parameter as an array over bins and groups, of length one where it is shared."""
    return leaf.reshape(leaf.shape + (1,) * (2 - leaf.ndim))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The likelihood of all bins and energy groups of a profile; `reduce` of an estimator makes it.

    A pytree of arrays. Every method is a pure function of its parameters: it can be compiled,
    mapped and differentiated, on any device, with respect to the parameters and to all arrays.

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
    spectra : Spectra or None
        For templates that are kept per true energy; None if fluxes are part of them.
    nodes : dict of array, shape (P,)
        Values of parameters between which templates are interpolated, by name: the leading axes
        of the templates, in alphabetical order.
    sources : tuple of str
        Names of the sources, in the order of their components.
    free : tuple of str
        Parameters that `params` gives.
    free_sources : tuple of str
        Sources whose norm is fitted.
    free_background, free_background_tilt : tuple of bool
        Data sets whose background norm or tilt is fitted.
    free_spectral_parameters : tuple of str
        Parameters of the spectrum that are fitted.
    free_spectra : tuple of bool
        Bins whose spectrum is fitted.
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
    background         (D, G)       norm of the background; that of On-Off data is profiled instead
    background_tilt    (D, G)       its tilt in energy
    exposure           (D,)         factor on the exposure of each data set
    psf_scale          ()           factor on the width of the point-spread function, within its
                                    nodes
    energy_scale       ()           factor on the energies that are reconstructed, within its nodes
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
    spectra: Spectra | None = None
    nodes: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = field(default=(), metadata={"static": True})
    free: tuple[str, ...] = field(default=("norm",), metadata={"static": True})
    free_sources: tuple[str, ...] = field(default=(), metadata={"static": True})
    free_background: tuple[bool, ...] = field(default=(), metadata={"static": True})
    free_background_tilt: tuple[bool, ...] = field(default=(), metadata={"static": True})
    free_spectral_parameters: tuple[str, ...] = field(default=(), metadata={"static": True})
    free_spectra: tuple[bool, ...] = field(default=(), metadata={"static": True})
    merged: bool = field(default=False, metadata={"static": True})

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
        found = {name: self.nominal[name] for name in self.free}
        if "source" in found:
            found["source"] = {name: found["source"][name] for name in self.free_sources}
        if self.free_spectral_parameters:
            model, shape = self.nominal["spectrum"], np.shape(self.nominal["norm"])
            found["spectrum"] = {
                name: jnp.broadcast_to(_two_axes(jnp.asarray(getattr(model, name))), shape)
                for name in self.free_spectral_parameters
            }
        return found

    def bounds(self, names: Iterable[str] | None = None) -> dict[str, tuple[Any, Any]]:
        """Bounds beyond which ``log_prob`` is -inf, as `jaxprof.fit` takes them.

        It keeps those of a likelihood by itself; functions of one do not have them.

        Parameters
        ----------
        names : iterable of str, optional
            Parameters, by default those of `params`.
        """
        lower, upper = self.constraints.lower, self.constraints.upper
        return {
            name: (lower.get(name), upper.get(name))
            for name in (self.free if names is None else names)
            if name in lower or name in upper
        }

    def fixed(self) -> tuple[str, ...]:
        """Elements of `params` that are not fitted, such as ``"background[0, 1]"``.

        They are the backgrounds of single data sets, and spectra of bins that are hardly seen.
        `jaxprof.fit` holds those of a likelihood by itself; functions of one do not have them.
        """
        measured = [term.dataset for term in self.terms if isinstance(term, OnOff)]
        found = [
            f"{name}[{row}, {group}]"
            for name, rows in (
                *(
                    (name, [own and row not in measured for row, own in enumerate(rows)])
                    for name, rows in (
                        ("background", self.free_background),
                        ("background_tilt", self.free_background_tilt),
                    )
                ),
                *((f"spectrum.{own}", self.free_spectra) for own in self.free_spectral_parameters),
            )
            if name.split(".")[0] in self.free
            for row, is_free in enumerate(rows)
            if not is_free
            for group in range(self.n_groups)
        ]
        return tuple(found)

    def region_models(self) -> Any:
        """One spectral model whose parameters have an axis of all bins and guard bins."""
        assert self.spectra is not None
        rows = np.concatenate([np.arange(self.n_bins), np.asarray(self.spectra.guard_bins, int)])
        return jax.tree.map(
            lambda leaf: np.broadcast_to(np.asarray(leaf), (self.n_bins,))[rows],
            self.nominal["spectrum"],
        )

    def npred(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Predicted counts of each term, (G, N, S); ON counts for On-Off data.

        Parameters
        ----------
        params : dict
            Named parameters, see the class.

        Raises
        ------
        ValueError
            For an unknown name or a wrong shape.
        """
        return tuple(term.npred(*own) for term, own in self._arguments(self._complete(params)))

    def log_prob(self, params: Mapping[str, Any]) -> Any:
        r"""Logarithm of the likelihood, :math:`\ln L`, with the factorials and the constraints.

        Constraints come without the constants of their Gaussians. ``-inf`` outside of the domain
        and beyond bounds, NaN for invalid counts.

        Parameters
        ----------
        params : dict
            Named parameters, see the class.

        Returns
        -------
        array, shape ()
        """
        values = self._complete(params)
        total, violation = self.constraints.log_prob(values)
        for term, own in self._arguments(values):
            value, below = term.log_prob(*own)
            total, violation = total + value, violation + below
        # Outside there is no plateau: the gradient leads back.
        outside = -jnp.inf + (violation - jax.lax.stop_gradient(violation))
        return jnp.where(violation < 0, outside, total)

    def stat(self, params: Mapping[str, Any]) -> Any:
        """Fit statistic as profiles report it, cash or wstat, summed over all counts bins.

        Without constraints, and without what depends on the counts only.

        Parameters
        ----------
        params : dict
            Named parameters, see the class.

        Returns
        -------
        array, shape ()
        """
        total: Any = 0.0
        for term, own in self._arguments(self._complete(params)):
            total = total + term.stat(*own)
        return total

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
        if len(counts) != len(self.terms):
            raise ValueError(f"counts must have {len(self.terms)} terms, got {len(counts)}")
        pairs = zip(self.terms, counts, strict=True)
        return replace(self, terms=tuple(term.with_counts(own) for term, own in pairs))

    def asimov(self, params: Mapping[str, Any]) -> Likelihood:
        """The likelihood of the counts that parameters predict.

        Parameters
        ----------
        params : dict
            Named parameters, see the class.
        """
        self._check_counts_may_change()
        pairs = self._arguments(self._complete(params))
        return replace(self, terms=tuple(term.expected(*own) for term, own in pairs))

    def simulate(
        self, key: Any, params: Mapping[str, Any], *, constraints: bool = False
    ) -> Likelihood:
        """The likelihood of counts drawn from their Poisson distributions.

        Parameters
        ----------
        key : jax.random key
            Source of randomness.
        params : dict
            The truth.
        constraints : bool
            Whether the centres of Gaussian constraints are drawn as well, as a new measurement
            would find them.
        """
        self._check_counts_may_change()
        values = self._complete(params)
        keys = jax.random.split(key, len(self.terms) + 1)
        drawn = [
            term.simulated(own_key, *own)
            for own_key, (term, own) in zip(keys[1:], self._arguments(values), strict=True)
        ]
        own = self.constraints.simulated(keys[0], values) if constraints else self.constraints
        return replace(self, terms=tuple(drawn), constraints=own)

    def _check_counts_may_change(self) -> None:
        if self.merged:
            raise ValueError(
                "the counts of this likelihood cannot change, because empty pixels share counts "
                "bins; make it with reduce(datasets, merge=False)"
            )

    def _complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, those that were left out at their nominal values; shapes checked."""
        if not isinstance(params, Mapping):
            raise ValueError(
                f"params must be a dict of named parameters, got {type(params).__name__}"
            )
        values = dict(self.nominal)
        for name, value in params.items():
            if name not in values:
                raise ValueError(
                    f"params: unknown {name!r}; this likelihood has {', '.join(map(repr, values))}"
                )
            if name == "source":
                values[name] = _sources(value, values[name])
            elif name == "spectrum":
                changed = isinstance(value, Mapping)
                own = values[name].replace(**value) if changed else value
                values[name] = _spectrum(own, np.shape(self.nominal["norm"]))
            else:
                values[name] = _shaped(name, value, np.shape(values[name]))
        return values

    def _arguments(self, values: Mapping[str, Any]) -> list[tuple[Term, tuple[Any, ...]]]:
        """Each term with its signal, background norm and background tilt."""
        parts = [values["norm"]]
        parts += [values["guard"]] if "guard" in values else []
        parts += [values["source"][name][None] for name in self.sources]
        norms = jnp.concatenate([jnp.asarray(part) for part in parts])
        weights = [node_weights(self.nodes[name], values[name]) for name in sorted(self.nodes)]
        found = []
        for term in self.terms:
            coefficients = self._coefficients(norms, values, term.dataset)
            own = signal(term.templates, term.components, coefficients, weights)
            number = term.dataset
            tilt = values["background_tilt"][number]
            found.append((term, (own, values["background"][number], tilt)))
        return found

    def _coefficients(self, norms: Any, values: Mapping[str, Any], number: int) -> Any:
        """Coefficients of the templates of a data set, (C, G, Q)."""
        scaled = norms * values["exposure"][number]
        if self.spectra is None:
            return scaled[:, :, None]
        flux_of_sources = self.spectra.source_flux[number]
        n_regions = norms.shape[0] - flux_of_sources.shape[0]
        flux = self.spectra.flux(values["spectrum"], number, n_regions)
        other = jnp.broadcast_to(
            flux_of_sources[:, None, :], (len(flux_of_sources), *flux.shape[1:])
        )
        return scaled[:, :, None] * jnp.concatenate([flux, other])


def _shaped(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """A parameter of its shape; a scalar stands for all, an axis of length one may be left out."""
    value = jnp.asarray(value)
    if value.ndim == 1 and len(shape) == 2 and shape[1] == 1 and value.shape[0] == shape[0]:
        value = value[:, None]
    if value.ndim and value.shape != shape:
        raise ValueError(f"params: {name!r} has shape {value.shape}; this likelihood has {shape}")
    return jnp.broadcast_to(value, shape)


def _spectrum(model: Any, shape: tuple[int, ...]) -> Any:
    """A spectral model whose parameters have shapes that are allowed."""
    if not hasattr(model, "integral"):
        raise ValueError(
            "params: 'spectrum' must be a spectral model, or a dict of some of its parameters, "
            f"got {type(model).__name__}"
        )
    for leaf in jax.tree.leaves(model):
        own = np.shape(leaf)
        if len(own) > 2 or any(n not in (1, m) for n, m in zip(own, shape, strict=False)):
            raise ValueError(
                f"params: 'spectrum' has a parameter of shape {own}; this likelihood takes (), "
                f"{shape[:1]} or {shape}"
            )
    return model


def _sources(given: Any, nominal: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(
            f"params: 'source' must be a dict of norms by name, got {type(given).__name__}"
        )
    unknown = [name for name in given if name not in nominal]
    if unknown:
        raise ValueError(
            f"params: there is no source {unknown[0]!r}; there are {', '.join(map(repr, nominal))}"
        )
    return {
        name: _shaped(name, given.get(name, value), np.shape(value))
        for name, value in nominal.items()
    }
