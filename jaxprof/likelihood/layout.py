"""The only place that knows where named parameters stand in the flat vector of a joint fit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxprof.likelihood.constraints import Constraints
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


def put(array: Any, rows: Any, values: Any) -> Any:
    """A copy of an array with other values in some rows; by numpy where nothing is traced."""
    if any(isinstance(each, jax.core.Tracer) for each in (array, values)):
        return jnp.asarray(array).at[rows].set(values)
    changed = np.array(array)
    changed[rows] = values
    return changed


def layout_of(likelihood: Likelihood) -> JointLayout:
    """Where the parameters of each energy group of a likelihood stand."""
    nominal = likelihood.nominal
    fitted = likelihood.free.any_background
    return JointLayout(
        n_bins=likelihood.n_bins,
        n_guards=np.shape(nominal["guard"])[0] if "guard" in nominal else 0,
        n_sources=len(likelihood.sources),
        n_shape=len(likelihood.free.spectral_parameters),
        n_nuisance=np.shape(nominal["background"])[0] if fitted else 0,
    )


def positions_of(likelihood: Likelihood) -> dict[str, Any]:
    """Where each of `Likelihood.params` stands in the vector of its group.

    Parameters
    ----------
    likelihood : Likelihood
        One that `joint_data` takes.

    Returns
    -------
    dict of ndarray of int
        In the structure of the parameters; the last axis of each is that of the groups.
    """
    at = layout_of(likelihood)
    apart = ("source", "spectrum")
    rows: dict[str, Any] = {
        name: getattr(at, name) for name in likelihood.free.names if name not in apart
    }
    if "source" in likelihood.free:
        own = dict(zip(likelihood.sources, at.source, strict=True))
        rows["source"] = {name: own[name] for name in likelihood.free.sources}
    if likelihood.free.spectral_parameters:
        rows["spectrum"] = {
            name: at.norm + position
            for position, name in enumerate(likelihood.free.spectral_parameters, start=1)
        }
    return jax.tree.map(
        lambda own: np.repeat(np.asarray(own)[..., np.newaxis], likelihood.n_groups, axis=-1), rows
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
    names, nominal = likelihood.free.spectral_parameters, likelihood.nominal
    if likelihood.spectra is not None and not names:
        raise ValueError(
            "likelihood: its spectrum is a parameter; jaxprof.fit(likelihood, start) fits it"
        )
    at = layout_of(likelihood)
    constraints = likelihood.constraints
    vectors = _Vectors(
        start=np.zeros(at.size),
        free=np.zeros(at.size, bool),
        lower=np.full(at.size, -np.inf),
        upper=np.full(at.size, np.inf),
    )
    for name, rows in (("norm", at.norm), ("guard", at.guard)):
        vectors = vectors.put(rows, free=True, **_bounds(constraints, name))
    sources = [nominal["source"][name][group] for name in likelihood.sources]
    for row, value, name in zip(at.source, sources, likelihood.sources, strict=True):
        vectors = vectors.put(row, start=value, free=name in likelihood.free.sources)
    for position, name in enumerate(names, start=1):
        vectors = _with_shape(likelihood, at, position, name, vectors)
    if at.n_nuisance:
        for name, rows, which in (
            ("background", at.background, likelihood.free.background),
            ("background_tilt", at.background_tilt, likelihood.free.background_tilt),
        ):
            values = nominal[name][:, group] if name in nominal else 0.0
            given = {"start": values, "free": np.array(which), **_bounds(constraints, name)}
            vectors = vectors.put(rows, **given)
    centre, precision = vectors.start, np.zeros((at.size, at.size))
    for name, own in constraints.gaussian.items():
        rows = getattr(at, name)
        centre = put(centre, rows, own.centre[:, group])
        precision = put(precision, (rows, rows), 1.0 / own.width[:, group] ** 2)
    if constraints.smoothness is not None:
        square = np.ix_(at.norm, at.norm)
        precision = put(precision, square, precision[square] + constraints.smoothness[group])
    return JointData(
        blocks=tuple(_block(term, group) for term in likelihood.terms),
        **vars(vectors),
        precision=precision,
        penalty_start=centre,
        spectra=_free_spectra(likelihood, group) if names else None,
        n_components=at.n_components,
        n_nuisance=at.n_nuisance,
    )


@dataclass(frozen=True)
class _Vectors:
    """Values of all parameters (Z,), which are fitted, and their bounds."""

    start: Any
    free: Any
    lower: Any
    upper: Any

    def put(self, rows: Any, **values: Any) -> _Vectors:
        """With other values in some rows."""
        changed = {name: put(getattr(self, name), rows, own) for name, own in values.items()}
        return replace(self, **changed)


def _bounds(constraints: Constraints, name: str) -> dict[str, Any]:
    return {
        "lower": constraints.lower.get(name, -np.inf),
        "upper": constraints.upper.get(name, np.inf),
    }


def _with_shape(
    likelihood: Likelihood, at: JointLayout, position: int, name: str, vectors: _Vectors
) -> _Vectors:
    """Start, freedom and bounds of a free spectral parameter of all bins and guard bins."""
    regions = np.concatenate([at.norm, at.guard])
    values = getattr(likelihood.region_models(), name)
    rows = regions + position
    vectors = vectors.put(rows, start=values, **_bounds(likelihood.constraints, f"spectrum.{name}"))
    # Guard bins have too few counts of their own for a spectrum.
    return vectors.put(rows[: at.n_bins], free=np.array(likelihood.free.spectra))


def _block(term: Term, group: int) -> JointBlock | JointOnOffBlock:
    kind = JointBlock if isinstance(term, Poisson) else JointOnOffBlock
    static = {"dataset": term.dataset}
    names = [each.name for each in fields(kind) if each.name != "dataset"]
    return kind(**{name: getattr(term, name)[group] for name in names}, **static)


def _as_floats(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.core.Tracer) else np.asarray(leaf, float)


def _free_spectra(likelihood: Likelihood, group: int) -> FreeSpectra:
    spectra = likelihood.spectra
    assert spectra is not None
    models = jax.tree.map(_as_floats, likelihood.region_models())
    # Not jnp.asarray, which compiles a program for every shape.
    return FreeSpectra(
        models=models,
        edges=tuple(spectra.edges),
        group_edges=spectra.group_edges[group],
        fixed_flux=tuple(spectra.source_flux),
        names=likelihood.free.spectral_parameters,
    )
