"""What a joint fit takes and what it gives: many norms that share the same counts.

It takes the terms of one energy group, see `jaxprof.likelihood.terms`. A component touches a small
part of the counts bins only. So the counts bins stand in padded batches of equal size, N of S, each
with the list of the components that reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.html import facts, titled
from jaxprof.likelihood.data import status_facts
from jaxprof.likelihood.terms import OnOff, Poisson
from jaxprof.models.spectral_functions import N_PANELS

JointBlock = Poisson
"""Term of one energy group, whose arrays lack the first axis: (N, S) counts bins."""
JointOnOffBlock = OnOff
"""The same of a background measured in OFF regions."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class FreeSpectra:
    """Spectra of the components where parameters of theirs are fitted."""

    models: Any
    """One model whose parameters have a leading axis of length J, the first J components."""
    edges: tuple[Any, ...]
    """Edges of the true energies [TeV] of each data set, (Q + 1,)."""
    group_edges: Any
    """Edges of the energy group [TeV]: the norm multiplies the flux between them, which the free
    parameters leave as it is, (2,)."""
    fixed_flux: tuple[Any, ...]
    """Flux of the other components in the true energies of each data set, (C - J, Q)."""
    names: tuple[str, ...] = field(metadata={"static": True})
    """Free parameters."""
    scale: Any = None
    """What all fluxes of each component are multiplied by: the unit of its norm, (C,)."""
    weights: Any = None
    """Counts per flux, for each data set. The norms of components that have some multiply the sum
    of these counts, which the free parameters then leave as it is, instead of the flux in the
    energy group; (C, Q)."""
    panels: int = field(default=N_PANELS, metadata={"static": True})
    group_panels: int = field(default=N_PANELS, metadata={"static": True})
    """Panels of quadratures within true energies and the energy group."""

    def flux(self, model: Any, dataset: int) -> Any:
        """Flux of a spectral model in the true energies of a data set, (Q,)."""
        edges = self.edges[dataset]
        return model.flux_by(self.panels, edges[:-1], edges[1:])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JointData:
    """Everything that a joint fit of one energy group needs.

    The parameters are, one after the other: per component its norm and its free spectral
    parameters; then, if ``n_nuisance`` is not zero, per data set the norm and the tilt of its
    background. Z is their number.

    Parameters
    ----------
    blocks : tuple of Poisson and OnOff
        The counts bins of all data sets, terms without the axis of the energy groups: (N, S).
    start : array, shape (Z,)
        Values of the fixed parameters, and where the others (except norms) start.
    free : array of bool, shape (Z,)
        Which parameters are fitted.
    lower, upper : array, shape (Z,)
        Bounds of the parameters.
    precision : array, shape (Z, Z)
        Matrix P of the penalty ``(z - start) P (z - start)`` that is added to the
        statistic: ``1 / width**2`` on its diagonal for a Gaussian constraint.
    penalty_start : array, shape (Z,)
        Where the penalty has its minimum.
    spectra : FreeSpectra or None
        Spectra with free parameters; None if all are fixed.
    n_components : int
        Number of components C.
    n_nuisance : int
        Number of data sets whose background has parameters: all of them, or zero.
    """

    blocks: tuple[Any, ...]
    start: Any
    free: Any
    lower: Any
    upper: Any
    precision: Any
    penalty_start: Any
    spectra: Any = None
    n_components: int = field(metadata={"static": True})
    n_nuisance: int = field(default=0, metadata={"static": True})

    @property
    def n_shape(self) -> int:
        """Number of free spectral parameters of each component."""
        return 0 if self.spectra is None else len(self.spectra.names)

    @property
    def norm_index(self) -> Any:
        """Positions of the norms among the parameters, shape (C,)."""
        return jnp.arange(self.n_components) * (1 + self.n_shape)

    @property
    def nuisance_start(self) -> int:
        """Position of the first background parameter."""
        return self.n_components * (1 + self.n_shape)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JointFit:
    """Result of a joint fit.

    Attributes
    ----------
    values : array, shape (Z,)
        Fitted parameters, see `JointData`; NaN for components that reach no counts bin.
    covariance : array, shape (Z, Z)
        Inverse of half the second derivatives of the statistic and the penalty. Where a prediction
        is held at zero, they are those of the counts alone, as if it could go on. Rows and columns
        of fixed parameters are zero, those of norms on a bound or without any counts NaN.
    stat : array, shape ()
        Fit statistic at the minimum, without the penalty.
    status : array of int, shape (C,)
        `Status` of each component.
    converged : array of bool, shape ()
        Whether the minimum was found.
    other_minimum : array, shape (Z,)
        Where spectral parameters or tilts of backgrounds are free: parameters of the components and
        backgrounds that have another minimum, found on the way, whose statistic and penalty are
        less than one higher. NaN for all others.
    other_without : array of bool, shape (M,), optional
        Whether the fits with a norm of zero that `fit_joint_ts` makes along have another one.
    """

    values: Any
    covariance: Any
    stat: Any
    status: Any
    converged: Any
    other_minimum: Any
    other_without: Any = None

    def _repr_html_(self) -> str:
        known = {"parameters": np.shape(self.values), **status_facts(self.status)}
        return titled(type(self).__name__, facts(known | {"stat": self.stat}))
