"""Joint fits with one parameter held.

Where predictions are not linear in all parameters, a search for the lowest minimum is by far the
largest program of a joint fit. So the fit, test statistics, limits, scans and sensitivities of such
problems call one compiled search with other values, and are not compiled themselves, as long as
nothing is traced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced, jit_by_size, jit_in_pieces
from jaxprof.inference.basins import lowest
from jaxprof.inference.descents import is_large
from jaxprof.inference.implicit import rooted
from jaxprof.inference.interior import (
    Interior,
    inside_of,
    interior,
    masked_as,
    usable,
    with_centred_spectra,
    without_derivatives,
    without_spectrum,
)
from jaxprof.inference.newton_step import is_linear
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.likelihood.joint_model import difference, gradient

RUN_ONCE = 1_000_000
"""Number of array elements below which what runs once takes less time than to compile it well."""
INWARDS = 0.3
"""How far a fit with a norm held begins from the best one, on the way to a point well inside."""
MANY = 20
"""Components with free spectra from which on profiles are followed to fits with a norm held."""
NOTHING = -1
"""The parameter where none is held."""

Known = tuple[Any, Any]
"""A minimiser (Z,), and whether it is one."""


class HeldFit(NamedTuple):
    """A fit with one parameter held at a value and all others profiled."""

    z: jax.Array
    """The minimiser, shape (Z,)."""
    converged: jax.Array
    """Whether it was found."""
    other: jax.Array
    """Another minimum (Z,), as `lowest` gives it; without derivatives."""
    rise: jax.Array
    """Of the statistic, from the fit to the last point; infinite where no values of the others make
    all predictions positive."""
    slope: jax.Array
    """Its derivative with respect to the value that is held; zero there."""

    def has_other(self, fit: JointFit) -> jax.Array:
        """Whether there is another minimum, less than one higher, of what has none in the fit."""
        new = jnp.isfinite(self.other) & jnp.isnan(fit.other_minimum)
        return self.converged & jnp.any(new)


in_searches = jit_in_pieces(lambda data: not is_linear(data))
"""Like `jit_by_size`, for functions of data, but that where fits are searches only these are."""


@jit_by_size(small=RUN_ONCE)
def at_fit(data: JointData, fit: JointFit) -> jax.Array:
    """Fitted values, with those of components without signal set to zero again; (Z,)."""
    return jnp.where(jnp.isfinite(fit.values), fit.values, data.start)


def profiles_are_followed(data: JointData) -> bool:
    """Whether fits with a norm held begin where the profile from the minimum leads.

    A problem that is not linear may have lower minima elsewhere, which searches from all over the
    ranges find. In large problems with many free spectra, where these are not worth their time, the
    minimum that the profile leads to is left where profiles of spectral parameters around it show a
    lower one. With few, compiling those steps takes longer than the search.
    """
    many = is_large(data) and data.n_components >= MANY
    return is_linear(data) or (many and not data.n_nuisance)


known_interior = jit_by_size(small=RUN_ONCE)(interior)


def fit_held(
    data: JointData,
    best: jax.Array,
    inside: Interior,
    parameter: Any,
    value: Any,
    known: Known | None = None,
) -> HeldFit:
    """Fit with one parameter held at a value, or with none, and all others profiled.

    Parameters
    ----------
    data : JointData
        The problem.
    best : array, shape (Z,)
        Its fit, which searches begin from and rises are counted from.
    inside : Interior
        What `interior` gives for the data.
    parameter : int
        Position of the parameter, or `NOTHING`.
    value : float
        Where it is held; NaN for nothing.
    known : tuple of array, optional
        The minimiser (Z,), and whether it is known already. Where predictions are not linear in all
        parameters a lower minimum may be elsewhere, and profiles around it are evaluated.

    Returns
    -------
    HeldFit
    """
    if is_traced((data, best, inside, parameter, value, known)):
        return _fit_held(data, best, inside, parameter, value, known)
    near, is_known = (best, False) if known is None else known
    # In types of which there is one program.
    known = np.asarray(near, best.dtype), np.asarray(is_known, bool)
    at, value = np.asarray(parameter, np.int32), np.asarray(value, best.dtype)
    return _fit_held_alone(data, best, inside, at, value, known)


def _fit_held(
    data: JointData,
    best: jax.Array,
    inside: Interior,
    parameter: jax.Array,
    value: jax.Array,
    known: Known | None,
) -> HeldFit:
    start, barrier = inside
    at = jnp.arange(data.start.size) == parameter
    still = jax.lax.stop_gradient(value)
    held, free = without_spectrum(data, usable(data) & ~at, parameter, still)
    target = jnp.where(at, value, held.start)
    constant, fixed, begin = jax.tree.map(jax.lax.stop_gradient, (held, target, best))
    problem, point, possible = inside_of(constant, free, jnp.where(free, start, fixed))
    begin = jnp.where(free, begin, fixed)
    begin = jnp.where(parameter == NOTHING, point, begin + INWARDS * (point - begin))
    if known is None:
        z, converged, other = lowest(problem, begin, free, barrier, point)
    elif is_linear(data):
        z, converged = jax.lax.cond(
            known[1], lambda: known, lambda: lowest(problem, begin, free, barrier, point)[:2]
        )
        possible, other = possible | known[1], jnp.full_like(z, jnp.nan)
    else:
        begin = jnp.where(known[1] & free, known[0], begin)
        since = jax.lax.stop_gradient(best) if profiles_are_followed(data) else None
        z, converged, other = lowest(problem, begin, free, barrier, point, known[1], since)
    z = with_centred_spectra(constant, z, free)
    z = rooted(masked_as(held, problem), z, free, barrier, target)
    z = with_centred_spectra(held, z, free)
    slope = 2.0 * jnp.sum(jnp.where(at, gradient(data, z, barrier), 0.0))
    rise = jnp.where(possible, difference(data, z, best), jnp.inf)
    return HeldFit(z, converged & possible, other, rise, jnp.where(possible, slope, 0.0))


_fit_held_alone = jit_by_size(_fit_held)


@jit_by_size
def is_possible(
    data: JointData, inside: Interior, parameter: jax.Array, value: jax.Array
) -> jax.Array:
    """Whether others can make all predictions positive where a parameter is held; shape ()."""
    constant = without_derivatives(data)
    free = usable(data).at[parameter].set(False)
    return inside_of(constant, free, inside[0].at[parameter].set(value))[2]
