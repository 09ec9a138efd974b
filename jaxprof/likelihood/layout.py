"""The only place that knows where named parameters stand in the flat vector of a joint fit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxprof.likelihood.joint_data import FreeSpectra, JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.likelihood import Likelihood
from jaxprof.likelihood.terms import Poisson, Term

Array = NDArray[Any]


@dataclass(frozen=True)
class JointLayout:
    """Positions of the parameters of one energy group, see `JointData`.

    Attributes
    ----------
    n_bins, n_guards, n_sources : int
        Numbers of components.
    n_shape : int
        Number of free spectral parameters of each component.
    n_nuisance : int
        Number of data sets with background parameters: all, or none.
    """

    n_bins: int
    n_guards: int
    n_sources: int
    n_shape: int
    n_nuisance: int

    @property
    def n_components(self) -> int:
        """Number of components: bins, guard bins, sources."""
        return self.n_bins + self.n_guards + self.n_sources

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.n_components * (1 + self.n_shape) + 2 * self.n_nuisance

    @property
    def norm(self) -> Array:
        """Positions of the norms of the bins."""
        return self._norms[: self.n_bins]

    @property
    def guard(self) -> Array:
        """Positions of the norms of the guard bins."""
        return self._norms[self.n_bins : self.n_bins + self.n_guards]

    @property
    def source(self) -> Array:
        """Positions of the norms of the sources."""
        return self._norms[self.n_bins + self.n_guards :]

    @property
    def _norms(self) -> Array:
        return np.arange(self.n_components) * (1 + self.n_shape)

    @property
    def background(self) -> Array:
        """Positions of the background norms."""
        return self.n_components * (1 + self.n_shape) + 2 * np.arange(self.n_nuisance)

    @property
    def background_tilt(self) -> Array:
        """Positions of the background tilts."""
        return self.background + 1


def layout_of(likelihood: Likelihood) -> JointLayout:
    """Where the parameters of each energy group of a likelihood stand."""
    nominal = likelihood.nominal
    fitted = any(likelihood.free_background) or any(likelihood.free_background_tilt)
    return JointLayout(
        n_bins=likelihood.n_bins,
        n_guards=np.shape(nominal["guard"])[0] if "guard" in nominal else 0,
        n_sources=len(likelihood.sources),
        n_shape=len(likelihood.free_spectral_parameters),
        n_nuisance=np.shape(nominal["background"])[0] if fitted else 0,
    )


def joint_data(likelihood: Likelihood, group: int) -> JointData:
    """What `jaxprof.core.fit_joint` takes of one energy group.

    Parameters
    ----------
    likelihood : Likelihood
        Without nuisance parameters of the responses.
    group : int
        Index of the energy group.

    Returns
    -------
    JointData

    Raises
    ------
    ValueError
        For a likelihood whose exposures or scales are fitted, or free spectra that are not those
        of bins.
    """
    if likelihood.nodes or likelihood.source_nodes or "exposure" in likelihood.free:
        raise ValueError(
            "likelihood: exposures, scales or positions are among its parameters, which a fit of "
            "norms does not know; jaxprof.fit(likelihood, start) fits them"
        )
    names, nominal = likelihood.free_spectral_parameters, likelihood.nominal
    if likelihood.spectra is not None and not names:
        raise ValueError(
            "likelihood: its spectrum is a parameter; jaxprof.fit(likelihood, start) fits it"
        )
    at = layout_of(likelihood)
    constraints = likelihood.constraints
    start, free = np.zeros(at.size), np.zeros(at.size, bool)
    lower, upper = np.full(at.size, -np.inf), np.full(at.size, np.inf)
    precision, centre = np.zeros((at.size, at.size)), np.zeros(at.size)
    for name, rows in (("norm", at.norm), ("guard", at.guard)):
        free[rows] = True
        lower[rows] = constraints.lower.get(name, -np.inf)
        upper[rows] = constraints.upper.get(name, np.inf)
    start[at.source] = [nominal["source"][name][group] for name in likelihood.sources]
    free[at.source] = [name in likelihood.free_sources for name in likelihood.sources]
    for position, name in enumerate(names, start=1):
        _lay_out_shape(likelihood, at, position, name, (start, free, lower, upper))
    if at.n_nuisance:
        for name, rows, which in (
            ("background", at.background, likelihood.free_background),
            ("background_tilt", at.background_tilt, likelihood.free_background_tilt),
        ):
            start[rows] = nominal[name][:, group] if name in nominal else 0.0
            free[rows] = which
            lower[rows] = constraints.lower.get(name, -np.inf)
            upper[rows] = constraints.upper.get(name, np.inf)
    centre[:] = start
    for name, own in constraints.gaussian.items():
        rows = getattr(at, name)
        centre[rows] = own.centre[:, group]
        precision[rows, rows] = 1.0 / np.asarray(own.width)[:, group] ** 2
    if constraints.smoothness is not None:
        precision[np.ix_(at.norm, at.norm)] += constraints.smoothness[group]
    return JointData(
        blocks=tuple(_block(term, group) for term in likelihood.terms),
        start=start,
        free=free,
        lower=lower,
        upper=upper,
        precision=precision,
        penalty_start=centre,
        spectra=_free_spectra(likelihood, group) if names else None,
        n_components=at.n_components,
        n_nuisance=at.n_nuisance,
    )


def _lay_out_shape(
    likelihood: Likelihood, at: JointLayout, position: int, name: str, arrays: tuple[Array, ...]
) -> None:
    """Start, freedom and bounds of a free spectral parameter of all bins and guard bins."""
    start, free, lower, upper = arrays
    regions = np.concatenate([at.norm, at.guard])
    values = np.asarray(getattr(likelihood.region_models(), name))
    rows = regions + position
    start[rows] = values
    # Guard bins have too few counts of their own for a spectrum.
    free[rows[: at.n_bins]] = likelihood.free_spectra
    lower[rows] = likelihood.constraints.lower.get(f"spectrum.{name}", -np.inf)
    upper[rows] = likelihood.constraints.upper.get(f"spectrum.{name}", np.inf)


def _block(term: Term, group: int) -> JointBlock | JointOnOffBlock:
    kind = JointBlock if isinstance(term, Poisson) else JointOnOffBlock
    static = {"dataset": term.dataset}
    names = [each.name for each in fields(kind) if each.name != "dataset"]
    return kind(**{name: getattr(term, name)[group] for name in names}, **static)


def _free_spectra(likelihood: Likelihood, group: int) -> FreeSpectra:
    spectra = likelihood.spectra
    assert spectra is not None
    models = jax.tree.map(lambda leaf: np.asarray(leaf, float), likelihood.region_models())
    # Not jnp.asarray, which compiles a program for every shape.
    return FreeSpectra(
        models=models,
        edges=tuple(spectra.edges),
        group_edges=spectra.group_edges[group],
        fixed_flux=tuple(spectra.source_flux),
        names=likelihood.free_spectral_parameters,
    )
