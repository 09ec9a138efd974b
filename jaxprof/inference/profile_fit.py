"""The fit of a profile's likelihood, by the method that its structure asks for."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.inference.fit import fit_norms
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.joint_fit import describe, fit_joint
from jaxprof.inference.parameters import (
    Layout,
    bound_vectors,
    fixed_names,
    layout_of,
)
from jaxprof.inference.scaling import units_of
from jaxprof.likelihood import Likelihood, OnOff
from jaxprof.likelihood.arrays import is_separable, profile_data
from jaxprof.likelihood.data import NormFit, Status, check_values
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.layout import joint_data, positions_of
from jaxprof.likelihood.true_energies import seen_true_energies

JOINT = {"norm", "guard", "source", "background", "background_tilt", "spectrum"}
"""Parameters that the fit of an energy group knows."""


class Structure(Enum):
    """How the parameters of a likelihood depend on each other."""

    SEPARABLE = "separable"
    """Each norm has counts bins of its own."""
    JOINT = "joint"
    """The norms of an energy group share counts bins."""
    GENERAL = "general"
    """Energy groups share parameters."""


def structure_of(likelihood: Likelihood, start: Any) -> Structure:
    """Structure of a likelihood as a function of some of its parameters."""
    params = likelihood.params()
    own: Any = jax.tree.structure(params)
    if jax.tree.structure(start) != own:
        return Structure.GENERAL
    for value, known in zip(jax.tree.leaves(start), jax.tree.leaves(params), strict=True):
        if np.size(value) not in (1, np.size(known)):
            raise ValueError(
                f"fit has a parameter of shape {np.shape(value)}, this likelihood one of "
                f"{np.shape(known)}: give what jaxprof.fit gave for it"
            )
    if likelihood.free.names == ("norm",) and is_separable(likelihood):
        return Structure.SEPARABLE
    spectra = likelihood.spectra is None or bool(likelihood.free.spectral_parameters)
    clipped = any(getattr(term, "clipped", False) for term in likelihood.terms)
    known = not likelihood.nodes and spectra and not clipped and set(likelihood.free.names) <= JOINT
    return Structure.JOINT if known else Structure.GENERAL


def fit_profile(likelihood: Likelihood, structure: Structure) -> Fit:
    """Fit all parameters of a likelihood of a structure that is not the general one.

    Derivatives are those of `jaxprof.core.fit_norms` and `jaxprof.core.fit_joint`.

    Raises
    ------
    ValueError
        For counts that are negative or not finite, unless they are traced.
    """
    if structure is Structure.SEPARABLE:
        return _of_norms(likelihood, norm_fit(likelihood)[1])
    for term in likelihood.terms:
        for name in ("n_on", "n_off") if isinstance(term, OnOff) else ("counts",):
            check_values(name, getattr(term, name), term.mask)
    problems, scales = zip(*groups_of(likelihood), strict=True)
    return _of_groups(likelihood, [fit_joint(data) for data in problems], scales)


@jit_by_size
def _of_norms(likelihood: Likelihood, fit: NormFit) -> Fit:
    errors = jnp.ravel(fit.norm_err)
    lost = jnp.ravel(fit.status == Status.NOT_CONVERGED)
    parts = jnp.ravel(fit.norm), jnp.diag(errors**2), errors, jnp.full_like(errors, jnp.nan)
    return _assembled(likelihood, parts, fit.status, lost)


@jit_by_size
def _of_groups(likelihood: Likelihood, fits: list[JointFit], scales: tuple[Any, ...]) -> Fit:
    rows = _rows(likelihood)
    group = group_of(layout_of(likelihood.params()))
    values, covariances, errors, others = [], [], [], []
    for fit, scale in zip(fits, scales, strict=True):
        values.append(fit.values * scale)
        others.append(fit.other_minimum * scale)
        variance = jnp.diagonal(fit.covariance)
        known = variance > 0
        error = jnp.sqrt(jnp.where(known, variance, 1.0)) * scale
        errors.append(jnp.where(known, error, jnp.where(variance == 0, 0.0, jnp.nan)))
        covariances.append(fit.covariance * scale[:, None] * scale[None, :])
    found = jnp.stack(covariances)[group[:, None], rows[:, None], rows[None, :]]
    parts = (
        jnp.stack(values)[group, rows],
        jnp.where(group[:, None] == group[None, :], found, 0.0),
        jnp.stack(errors)[group, rows],
        jnp.stack(others)[group, rows],
    )
    status = jnp.stack([fit.status[: likelihood.n_bins] for fit in fits], axis=1)
    lost = jnp.stack([~fit.converged for fit in fits])
    return _assembled(likelihood, parts, status, lost[group])


def _assembled(likelihood: Likelihood, parts: tuple[Any, ...], status: Any, lost: Any) -> Fit:
    """A fit from values (N,), covariance, errors and values of another minimum.

    The status is that of the norms (B, G); the last tells which parameters are not converged.
    """
    x, covariance, errors, other = parts
    start = likelihood.params()
    layout = layout_of(start)
    lower, upper = bound_vectors(layout, likelihood.bounds(layout.leaves), x.dtype)
    # A norm that reaches no counts bin may be anything.
    nominal = layout.flatten(start, x.dtype)
    params = layout.unflatten(
        jnp.where(lost, jnp.nan, jnp.where(jnp.isnan(x), nominal, x)),
    )
    unseen = (status == Status.NO_EXPOSURE) | (status == Status.FULLY_MASKED)
    worst = jnp.max(jnp.where(status == Status.ZERO_COUNTS, Status.BOUNDARY, status))
    worst = jnp.where(jnp.any(unseen), Status.DEGENERATE, worst)
    worst = jnp.where(jnp.any(lost), Status.NOT_CONVERGED, worst)
    return Fit(
        params=params,
        covariance=covariance,
        errors=layout.unflatten(errors),
        stat=-2.0 * likelihood.log_prob(params),
        status=worst.astype(jnp.int32),
        other_minimum=layout.unflatten(_filled(other, x)),
        lower=lower,
        upper=upper,
        norm_status=status,
        names=layout.names,
        fixed=fixed_names(layout, likelihood.fixed()),
    )


def _filled(other: Any, x: Any) -> Any:
    """Another minimum with what it shares with the lowest; NaN if there is none."""
    known = jnp.isfinite(other)
    return jnp.where(jnp.any(known), jnp.where(known, other, x), jnp.nan)


def group_of(layout: Layout) -> Any:
    """Energy group of each parameter of a likelihood, (N,): the last index of its array."""
    return np.concatenate([np.indices(shape)[-1].ravel() for shape in layout.shapes])


def norm_fit(likelihood: Likelihood) -> tuple[Any, NormFit]:
    """Data of separate fits, and their fit within the bounds of the likelihood."""
    data = profile_data(likelihood)
    return data, fit_norms(data, **norm_bounds(likelihood))


def norm_bounds(likelihood: Likelihood) -> dict[str, Any]:
    """Bounds of the norms as `fit_norms` takes them, None where there are none."""
    constraints = likelihood.constraints
    return {"norm_min": constraints.lower.get("norm"), "norm_max": constraints.upper.get("norm")}


def groups_of(likelihood: Likelihood) -> list[tuple[JointData, Any]]:
    """The problem of each energy group in units in which nothing overflows, and these, (Z,).

    What is traced is in the units that it has.
    """
    made = []
    likelihood = replace(likelihood, terms=seen_true_energies(likelihood.terms))
    for group in range(likelihood.n_groups):
        data = joint_data(likelihood, group)
        if is_traced(data):
            made.append((data, np.ones(len(data.start))))
        else:
            units = units_of(data)
            made.append((units.data(data), units.values))
    return made


def _rows(likelihood: Likelihood) -> Any:
    """Position of each parameter in the vector of its group, (N,)."""
    return np.concatenate([own.ravel() for own in jax.tree.leaves(positions_of(likelihood))])


def joint_fit_at(
    likelihood: Likelihood, fit: Fit, group: int, problem: tuple[JointData, Any]
) -> JointFit:
    """What the fit of a whole likelihood is for one of its energy groups, in that one's units."""
    data, scale = problem
    layout = layout_of(likelihood.params())
    own = np.flatnonzero(group_of(layout) == group)
    dtype, rows = data.start.dtype, _rows(likelihood)[own]
    x, other = (layout.flatten(of, dtype)[own] for of in (fit.params, fit.other_minimum))
    z = jnp.asarray(data.start).at[rows].set(x / scale[rows])
    other = jnp.full_like(z, jnp.nan).at[rows].set(jnp.where(other == x, jnp.nan, other))
    return describe(data, z, jnp.all(jnp.isfinite(x)), other / scale)
