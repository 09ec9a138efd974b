"""Joint fits of many norms, and their covariance."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size, jit_in_pieces
from jaxprof.inference.follow import FittedProblem
from jaxprof.inference.held_fit import NOTHING, RUN_ONCE, at_fit, fit_held
from jaxprof.inference.interior import (
    inside_of,
    interior,
    usable,
    without_derivatives,
)
from jaxprof.inference.newton_step import is_linear
from jaxprof.inference.start import component_signal
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointData, JointFit, JointOnOffBlock
from jaxprof.likelihood.joint_model import (
    Barrier,
    Curvature,
    derivatives,
    stat,
)
from jaxprof.solvers.linear import factor_solve, rounding, scaled_factor

INFLATION = 1e6
"""Variance over that with all other parameters known, above which a norm is degenerate."""
LOST = 0.05
"""Part of a variance that is rounding, above which there is none: free spectra at constraints."""
AT_BOUNDARY = 0.5
"""Share of a norm's curvature from the barrier above which it sits on the boundary."""


def _of_component(data: JointData, flags: jax.Array) -> jax.Array:
    """Whether any parameter of each component has a flag, (C,)."""
    return flags[: data.nuisance_start].reshape(-1, 1 + data.n_shape).any(axis=1)


def _counts_alone(
    data: JointData, curvature: Curvature, active: jax.Array
) -> tuple[jax.Array, tuple, jax.Array, jax.Array]:
    """Curvature of the counts, its factor, the parameters that it determines, whether held.

    What remains is that of the counts. For a model that is not linear it need not be positive where
    constraints hold the minimum (the last value): then that of the linearised model is given, which
    is the expected one.
    """

    def of(matrix: jax.Array) -> tuple[jax.Array, tuple, jax.Array]:
        told = active & (jnp.diagonal(matrix) > 0)
        return matrix, scaled_factor(matrix, told), told

    observed = of(curvature.bare)
    if is_linear(data):
        return *observed, jnp.asarray(False)
    expected = of(curvature.expected)
    good = jnp.all(jnp.isfinite(observed[1][0])) & ~jnp.any(expected[2] & ~observed[2])
    return *jax.tree.map(lambda a, b: jnp.where(good, a, b), observed, expected), ~good


@jit_by_size(small=RUN_ONCE)
def described(
    data: JointData,
    z: jax.Array,
    converged: jax.Array,
    free: jax.Array,
    barrier: Barrier,
    other: jax.Array,
) -> JointFit:
    """Covariance, statistic and status at a minimum."""
    still = without_derivatives(data)
    first, curvature = derivatives(data, z, barrier)
    bounded = (z <= data.lower) | (z >= data.upper)
    n_own = 1 + data.n_shape
    # Also of a spectral parameter at the end of its range, which has no error then.
    own = _of_component(data, free & bounded)
    active = free & ~bounded
    whole = jnp.diagonal(curvature.expected) + curvature.barrier
    share = curvature.barrier / jnp.where(whole > 0, whole, 1.0)
    at_boundary = active & ((share > AT_BOUNDARY) | (whole <= 0))
    matrix, factor, told, held = _counts_alone(data, curvature, active)
    diagonal = jnp.diagonal(matrix)
    covariance = jax.vmap(lambda y: factor_solve(factor, y))(jnp.eye(z.size, dtype=z.dtype))
    both = told[:, None] & told[None, :]
    covariance = jnp.where(both, 0.5 * (covariance + covariance.T), 0.0)
    inflation = jnp.diagonal(covariance) * diagonal
    lost = free & (bounded | ~told)
    covariance = jnp.where(lost[:, None] | lost[None, :], jnp.nan, covariance)
    at = data.norm_index
    seen = component_signal(still) > 0
    status = jnp.where(inflation[at] > INFLATION, Status.DEGENERATE, Status.OK)
    # What a constraint holds alone, where the counts would have it go on, has no error either.
    own = own | held | _of_component(data, active & ~(jnp.diagonal(covariance) > 0))
    own = own | at_boundary[at]
    status = jnp.where(own, Status.BOUNDARY, status)
    status = jnp.where(converged, status, Status.NOT_CONVERGED)
    status = jnp.where(seen, status, Status.NO_EXPOSURE)
    norms = jnp.where(seen & converged, z[at], jnp.nan)
    # Nor has what constraints and counts hold together: the part of a curvature that the counts
    # leave it while others vary, the inverse of its inflation, is a difference that rounding makes.
    rounded = (inflation * rounding(matrix) > LOST) & (data.spectra is not None)
    constrained = jnp.full(z.size, jnp.any(own))
    constrained = constrained.at[: data.nuisance_start].set(jnp.repeat(own, n_own))
    unseen = jnp.repeat(~seen, n_own)
    none = (rounded & constrained).at[: data.nuisance_start].max(unseen)
    covariance = jnp.where(none[:, None] | none[None, :], jnp.nan, covariance)
    return JointFit(
        values=z.at[at].set(norms),
        covariance=jnp.where(converged, covariance, jnp.nan),
        stat=jnp.where(converged, stat(data, z), jnp.nan),
        status=status.astype(jnp.int32),
        converged=converged,
        other_minimum=jnp.where(converged, other, jnp.nan),
    )


def is_valid(data: JointData) -> jax.Array:
    """Whether data can be fitted at all: nobody else looks at what is traced."""

    def all_of(good: jax.Array) -> jax.Array:
        return jnp.all(jnp.where(block.mask, good, True))

    found = [jnp.all(data.lower <= data.upper), jnp.all(jnp.isfinite(data.precision))]
    # The sums of the templates are at hand.
    found += [jnp.all(jnp.isfinite(component_signal(data)))]
    for block in data.blocks:
        if isinstance(block, JointOnOffBlock):
            counted, positive = (block.n_on, block.n_off), block.alpha
        else:
            counted, positive = (block.counts, block.background), jnp.ones_like(block.counts)
        found += [all_of((values >= 0) & (values < jnp.inf)) for values in counted]
        found += [all_of((positive > 0) & (positive < jnp.inf) & jnp.isfinite(block.offset))]
    return jnp.all(jnp.stack(found))


class Ready(NamedTuple):
    """A problem that is ready for its fit, without derivatives."""

    problem: JointData  # with a mask for what its norms can reach
    free: jax.Array  # parameters (Z,) that vary
    barrier: Barrier
    point: jax.Array  # with positive predictions, (Z,)
    possible: jax.Array  # whether there is a fit
    valid: jax.Array  # whether the data can be fitted at all


@jit_by_size(small=RUN_ONCE)
def ready(data: JointData) -> Ready:
    """A problem, made ready for its fit."""
    still = without_derivatives(data)
    start, barrier = interior(data)
    free = usable(data)
    problem, point, possible = inside_of(still, free, start)
    return Ready(problem, free, barrier, point, possible, is_valid(still))


@jit_in_pieces(lambda data: not is_linear(data), small=RUN_ONCE)
def fit_ready(data: JointData, own: Ready) -> JointFit:
    """The fit of a problem, where what `ready` gives for it is known."""
    held = fit_held(data, own.point, (own.point, own.barrier), NOTHING, np.nan)
    z, converged = jnp.where(own.valid, held.z, jnp.nan), held.converged & own.valid
    return described(data, z, converged, own.free, own.barrier, held.other)


def fit_joint(data: JointData) -> JointFit:
    """Fit all norms and other free parameters of one energy group together.

    Parameters
    ----------
    data : JointData
        Counts bins, templates, bounds and penalties. Map over toys with `jax.vmap`.

    Returns
    -------
    fit : JointFit
        Values, covariance, statistic and status. Values, covariance and statistic can be
        differentiated by the arrays of the data in both modes and to any order. They are NaN, and
        the status is "not converged", for invalid data: negative or infinite counts or backgrounds,
        NaN, bounds that decrease.

    Notes
    -----
    The covariance is the inverse of half the second derivatives of statistic and penalty at the
    minimum (the observed Fisher information).
    """
    return fit_ready(data, ready(data))


@jit_by_size
def describe(data: JointData, z: jax.Array, converged: jax.Array, other: jax.Array) -> JointFit:
    """Covariance, statistic and status of all components at a minimum that is known.

    Parameters
    ----------
    data : JointData
        The problem.
    z : array, shape (Z,)
        Its minimum.
    converged : array of bool, shape ()
        Whether it is one.
    other : array, shape (Z,)
        Another one, as `JointFit` has it.

    Returns
    -------
    JointFit
    """
    return described(data, z, converged, usable(data), interior(data)[1], other)


def fitted_problem(data: JointData, fit: JointFit, own: Ready | None = None) -> FittedProblem:
    """What the profiles of a fit are followed on; ``own`` is what `ready` gives for the data."""
    own = ready(data) if own is None else own
    return FittedProblem(own.problem, at_fit(data, fit), own.free, own.barrier)
