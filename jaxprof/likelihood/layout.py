"""The only place that knows where named parameters stand in the flat vector of a joint fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood.joint_data import FreeSpectra, JointData
from jaxprof.likelihood.likelihood import Likelihood
from jaxprof.types import Array


class JointLayout(NamedTuple):
    """Positions of the parameters of one energy group, see `JointData`, by their names."""

    norm: Array
    guard: Array
    source: Array
    background: Array
    background_tilt: Array


def put(array: Any, rows: Any, values: Any) -> Any:
    """A copy of an array with other values in some rows; by numpy where nothing is traced."""
    if any(isinstance(each, jax.core.Tracer) for each in (array, values)):
        return jnp.asarray(array).at[rows].set(values)
    changed = np.array(array)
    changed[rows] = values
    return changed


def layout_of(likelihood: Likelihood) -> JointLayout:
    """Where the parameters of each energy group of a likelihood stand."""
    nominal, free = likelihood.nominal, likelihood.free
    ends = np.cumsum([likelihood.n_bins, len(nominal.get("guard", ())), len(likelihood.sources)])
    n_own = 1 + len(free.spectral_parameters)
    norm, guard, source = np.split(n_own * np.arange(ends[-1]), ends[:-1])
    # Background parameters are those of all data sets, or none.
    n_nuisance = len(nominal["background"]) if free.any_background else 0
    background = n_own * ends[-1] + 2 * np.arange(n_nuisance)
    return JointLayout(norm, guard, source, background, background + 1)


def positions_of(likelihood: Likelihood) -> dict[str, Any]:
    """Where each of `Likelihood.params` stands in the vector of its group.

    Arrays of int in the structure of the parameters, of a likelihood that `joint_data` takes; the
    last axis of each is that of the groups.
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

    A ValueError for a likelihood whose exposures or scales are fitted, or free spectra that are not
    those of bins.
    """
    if likelihood.nodes or likelihood.source_nodes or "exposure" in likelihood.free:
        raise ValueError(
            "likelihood: exposures, scales or positions are among its parameters, which a fit of "
            "norms does not know; jaxprof.fit(likelihood, start) fits them"
        )
    names = likelihood.free.spectral_parameters
    if likelihood.spectra is not None and not names:
        raise ValueError(
            "likelihood: its spectrum is a parameter; jaxprof.fit(likelihood, start) fits it"
        )
    at = layout_of(likelihood)
    vectors = _vectors(likelihood, at, group)
    centre, precision = _penalty(likelihood, at, group, vectors["start"])
    return JointData(
        blocks=jax.tree.map(lambda leaf: leaf[group], likelihood.terms),
        **vectors,
        precision=precision,
        penalty_start=centre,
        spectra=_free_spectra(likelihood, group) if names else None,
        n_components=sum(map(len, (at.norm, at.guard, at.source))),
        n_nuisance=len(at.background),
    )


def _vectors(likelihood: Likelihood, at: JointLayout, group: int) -> dict[str, Any]:
    """Values of all parameters (Z,), which are fitted, and their bounds."""
    nominal, free, bounds = likelihood.nominal, likelihood.free, likelihood.constraints
    names = free.spectral_parameters
    size = (1 + len(names)) * sum(map(len, (at.norm, at.guard, at.source))) + 2 * len(at.background)
    found: dict[str, Any] = {
        "start": np.zeros(size),
        "free": np.zeros(size, bool),
        "lower": np.full(size, -np.inf),
        "upper": np.full(size, np.inf),
    }

    def change(rows: Any, name: str, **values: Any) -> None:
        values["lower"] = bounds.lower.get(name, -np.inf)
        values["upper"] = bounds.upper.get(name, np.inf)
        for key, own in values.items():
            found[key] = put(found[key], rows, own)

    change(at.norm, "norm", free=True)
    change(at.guard, "guard", free=True)
    for row, name in zip(at.source, likelihood.sources, strict=True):
        change(row, "source", start=nominal["source"][name][group], free=name in free.sources)
    for position, name in enumerate(names, start=1):
        rows = np.concatenate([at.norm, at.guard]) + position
        # Guard bins have too few counts of their own for a spectrum.
        own = np.concatenate([np.array(free.spectra), np.zeros(len(at.guard), bool)])
        values = getattr(region_models(likelihood), name)
        change(rows, f"spectrum.{name}", start=values, free=own)
    if at.background.size:
        for name in ("background", "background_tilt"):
            values = nominal[name][:, group] if name in nominal else 0.0
            change(getattr(at, name), name, start=values, free=np.array(getattr(free, name)))
    return found


def region_models(likelihood: Likelihood) -> Any:
    """One spectral model whose parameters have an axis of all bins and guard bins."""
    spectra, model = likelihood.spectra, likelihood.nominal["spectrum"]
    assert spectra is not None
    leaves = [spectra.guard_bins, *jax.tree.leaves(model)]
    xp = jnp if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else np
    n_bins = likelihood.n_bins
    rows = xp.concatenate([xp.arange(n_bins), xp.asarray(spectra.guard_bins, int)])
    return jax.tree.map(lambda leaf: xp.broadcast_to(xp.asarray(leaf), (n_bins,))[rows], model)


def _penalty(likelihood: Likelihood, at: JointLayout, group: int, start: Any) -> tuple[Any, Any]:
    """Where the penalty of all parameters has its minimum, (Z,), and its matrix."""
    constraints = likelihood.constraints
    centre, precision = start, np.zeros((len(start), len(start)))
    for name, own in constraints.gaussian.items():
        rows = getattr(at, name)
        centre = put(centre, rows, own.centre[:, group])
        precision = put(precision, (rows, rows), 1.0 / own.width[:, group] ** 2)
    if constraints.smoothness is not None:
        square = np.ix_(at.norm, at.norm)
        precision = put(precision, square, precision[square] + constraints.smoothness[group])
    return centre, precision


def _as_floats(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.core.Tracer) else np.asarray(leaf, float)


def _free_spectra(likelihood: Likelihood, group: int) -> FreeSpectra:
    spectra = likelihood.spectra
    assert spectra is not None
    models = jax.tree.map(_as_floats, region_models(likelihood))
    # Not jnp.asarray, which compiles a program for every shape.
    return FreeSpectra(
        models=models,
        edges=tuple(spectra.edges),
        group_edges=spectra.group_edges[group],
        fixed_flux=tuple(spectra.source_flux),
        names=likelihood.free.spectral_parameters,
        panels=spectra.panels,
        group_panels=spectra.group_panels,
    )
