"""Test statistics, limits and scans of joint fits, with the other parameters optimised again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.compilation import jit_by_size
from jaxprof.inference.joint_fit import Interior, at_fit, fit_held, interior, rise
from jaxprof.inference.start import barrier_at, component_signal
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointFit, JointOnOffBlock
from jaxprof.likelihood.joint_model import difference, predictions
from jaxprof.solvers.solve import implicit_root, increasing_root, tolerance

FAR = 1e4
"""Limits are sought up to this many times the length over which the statistic should rise."""
VERY_FAR = 1e10
"""The same where the norm can be made up for by others, but perhaps not for ever."""
STEP = 1e-6
"""Last step of a search, in units of that length, in double precision: the next one would be about
its square."""

NEAR_BOUND = 3.0
"""In units of that length, how near the bound of a norm is tried first."""

RAISED = 0.1
"""How far Asimov data's fit begins from their truth, on the way to a point well inside."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class JointTS:
    """Test statistics of norms, shape (M,) each.

    Attributes
    ----------
    ts : array
        Rise of the statistic from the minimum to the best fit with the norm held at zero.
    converged : array of bool
        Whether that fit was found; ``ts`` is NaN otherwise.
    """

    ts: Any
    converged: Any


@jit_by_size
def joint_ts(data: JointData, fit: JointFit, components: jax.Array) -> JointTS:
    """Test statistic of each norm against zero, all other parameters optimised again.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.

    Returns
    -------
    JointTS
    """
    step = 1 + data.n_shape
    inside = interior(data)

    def one(component: jax.Array) -> tuple[jax.Array, jax.Array]:
        zero = jnp.zeros_like(fit.values[0])
        z, converged, _ = fit_held(data, fit, inside, component * step, zero)
        converged = converged & (fit.status[component] < Status.FULLY_MASKED)
        value = difference(data, z, at_fit(data, fit))
        return jnp.where(converged, jnp.maximum(value, 0.0), jnp.nan), converged

    ts, converged = jax.lax.map(one, components)
    return JointTS(ts=ts, converged=converged)


def _unit(data: JointData, fit: JointFit, parameter: jax.Array, target: jax.Array) -> jax.Array:
    """Length over which the statistic rises by about ``target``."""
    variance = fit.covariance[parameter, parameter]
    component = parameter // (1 + data.n_shape)
    signal = component_signal(data)[component]
    # Where constraints hold a norm, its variance may tell nothing of how the statistic rises.
    known = jnp.isfinite(variance) & (variance > 0) & (fit.status[component] == Status.OK)
    return jnp.where(
        known,
        jnp.sqrt(target * jnp.where(known, variance, 1.0)),
        target / jnp.where(signal > 0, signal, 1.0),
    )


def _far(fit: JointFit, component: jax.Array) -> jax.Array:
    """Up to how many units a limit is sought."""
    return jnp.where(fit.status[component] == Status.DEGENERATE, VERY_FAR, FAR)


def _against(
    target: jax.Array, rise: jax.Array, slope: jax.Array, possible: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How far the root of a rise is above that of a target, and its slope.

    The root of a parabola is a straight line, on which one Newton step does.
    """
    usable = possible & (rise > 0)
    root = jnp.sqrt(jnp.where(usable, rise, 0.0))
    value = jnp.where(possible, root, 2.0 * jnp.sqrt(target)) - jnp.sqrt(target)
    return value, jnp.where(usable, slope / (2.0 * jnp.where(usable, root, 1.0)), 0.0)


def _last_step(of: jax.Array) -> float:
    return max(STEP, tolerance(of.dtype))


def _limit(
    data: JointData,
    fit: JointFit,
    inside: Interior,
    component: jax.Array,
    side: jax.Array,
    target: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Distance from a norm, down (side -1) or up (+1), to where the statistic has risen.

    Also whether it exists, and whether the norm's own bound comes first: nothing is evaluated
    beyond that. The distance carries no derivatives, and is zero where it does not exist.
    """
    data, fit, target = jax.tree.map(jax.lax.stop_gradient, (data, fit, target))
    parameter = component * (1 + data.n_shape)
    norm = at_fit(data, fit)[parameter]
    unit = _unit(data, fit, parameter, target)
    bound = jnp.where(side > 0, data.upper[parameter], data.lower[parameter])
    room = side * (bound - norm)

    def excess(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, slope = rise(data, fit, inside, parameter, norm + side * unit * y)
        return _against(target, value, side * unit * slope, jnp.isfinite(value))

    one = jnp.ones_like(norm)
    far = _far(fit, component) * one
    end = jnp.minimum(far, room / unit)
    # If the bound is near, it is tried first: a statistic that has not risen there ends the search.
    start = jnp.where(end < NEAR_BOUND, end, one)
    y, converged = increasing_root(
        excess, start, jnp.zeros_like(norm), end, _last_step(norm), to_end=True
    )
    at_bound = converged & (end < far) & (y >= end)
    # No rise far away: there is no limit. A constraint at the minimum itself: none on this side.
    exists = converged & (y < 0.9 * far) & (y > 1e-6) & ~at_bound
    return jnp.where(exists, unit * y, 0.0), exists, at_bound


def _excess(
    distance: jax.Array,
    data: JointData,
    fit: JointFit,
    inside: Interior,
    parameter: jax.Array,
    side: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """How far the statistic has risen above the target at a distance from the norm."""
    at = at_fit(data, fit)[parameter] + side * distance
    return rise(data, fit, inside, parameter, at)[0] - target


@jit_by_size
def joint_limits(
    data: JointData,
    fit: JointFit,
    components: jax.Array,
    sides: jax.Array,
    targets: jax.Array,
    closed: bool | jax.Array = False,
) -> jax.Array:
    """Distances from norms to where the profiled statistic has risen.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.
    sides : array, shape (L,)
        -1 for the way down and +1 for the way up.
    targets : array, shape (L,)
        Rise of the statistic, the square of the number of standard deviations.
    closed : bool or array of bool, shape (L,)
        Whether the norm's own bound is the limit where it comes first, as it is for upper limits.
        By default there is none then.

    Returns
    -------
    distances : array, shape (M, L)
        NaN where the statistic never rises that far, or the norm was not fitted.

    Notes
    -----
    All other parameters are optimised again at each norm (Rolke, Lopez & Conrad 2005, NIM A 551,
    493; "MINOS").

    Distances have derivatives in both modes and of any order, with respect to the arrays of the
    data, the fit (which must be differentiated along with them) and the targets. A limit at the
    bound of its norm moves with that. Where there is none, the derivatives are zero: the NaN tells,
    and sums over the others can be differentiated.
    """
    inside = interior(data)
    ends = jnp.broadcast_to(closed, sides.shape)

    def one(pair: jax.Array) -> jax.Array:
        component, number = pair[0], pair[1]
        side, target = sides[number], targets[number]
        parameter = component * (1 + data.n_shape)
        root, exists, at_bound = _limit(data, fit, inside, component, side, target)
        root = implicit_root(_excess, root, data, fit, inside, parameter, side, target)
        bound = jnp.where(side > 0, data.upper[parameter], data.lower[parameter])
        # An infinite bound is never reached.
        bound = jnp.where(at_bound, bound, 0.0)
        room = side * (bound - at_fit(data, fit)[parameter])
        found = jnp.where(exists, root, jnp.where(at_bound & ends[number], room, jnp.nan))
        fitted = fit.converged & jnp.isfinite(fit.values[parameter])
        return jnp.where(fitted, found, jnp.nan)

    n_sides = sides.shape[0]
    grid = jnp.stack(
        [jnp.repeat(components, n_sides), jnp.tile(jnp.arange(n_sides), components.shape[0])],
        axis=1,
    )
    return jax.lax.map(one, grid).reshape(components.shape[0], n_sides)


@jit_by_size
def joint_scan(
    data: JointData, fit: JointFit, components: jax.Array, values: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rise of the statistic above its minimum on a grid of norms.

    Parameters
    ----------
    data : JointData
        The problem.
    fit : JointFit
        Its fit.
    components : array of int, shape (M,)
        Which components.
    values : array, shape (V,) or (M, V)
        Norms, the same for all components or a row for each.

    Returns
    -------
    profiled : array, shape (M, V)
        All other parameters optimised again; infinite where no values of these are possible. Where
        a minimisation does not reach its tolerance, the rise at its last point.
    conditional : array, shape (M, V)
        All other parameters held at their best fit.

    Notes
    -----
    Both have derivatives, as those of `joint_limits`, also with respect to the values; where they
    are NaN or infinite, their derivatives are zero.
    """
    best = at_fit(data, fit)
    inside = interior(data)

    def one(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        component, value = pair
        parameter = component * (1 + data.n_shape)
        profiled, _ = rise(data, fit, inside, parameter, value)
        fixed = difference(data, best.at[parameter].set(value), best)
        fitted = fit.converged & jnp.isfinite(fit.values[parameter])
        return jnp.where(fitted, profiled, jnp.nan), jnp.where(fitted, fixed, jnp.nan)

    shape = (len(components), values.shape[-1])
    grid = (jnp.repeat(components, shape[1]), jnp.broadcast_to(values, shape).ravel())
    profiled, conditional = jax.lax.map(one, grid)
    return profiled.reshape(shape), conditional.reshape(shape)


def _asimov(data: JointData, z: jax.Array) -> JointData:
    """The same problem with counts equal to their prediction, and penalties without a pull.

    What constrains a parameter is a measurement too: left where it is, it would pull the minimum of
    the Asimov data away from the truth.
    """
    blocks: list[Any] = []
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            background = block.alpha * block.n_off
            blocks.append(JointOnOffBlock(**{**vars(block), "n_on": background + npred}))
        else:
            blocks.append(JointBlock(**{**vars(block), "counts": jnp.maximum(npred, 0.0)}))
    return JointData(**{**vars(data), "blocks": tuple(blocks), "penalty_start": z})


def _asimov_fit(
    norm: jax.Array, data: JointData, fit: JointFit, positive: jax.Array, parameter: jax.Array
) -> tuple[jax.Array, JointData, jax.Array, jax.Array]:
    """Parameters of Asimov data with one norm given, and these data.

    Also their fit with that norm held at zero, and whether it was found.
    """
    at = data.norm_index
    best = at_fit(data, fit)
    truth = best.at[at].set(jnp.where(best[at] < 0, 0.0, best[at])).at[parameter].set(norm)
    asimov = _asimov(data, truth)
    known = JointFit(**{**vars(fit), "values": truth})
    # Close to the minimum; norms of zero are raised, since predictions may vanish there.
    still, of = jax.tree.map(jax.lax.stop_gradient, (truth, asimov))
    raised = still.at[at].add(RAISED * jnp.maximum(positive[at] - still[at], 0.0))
    inside = raised, barrier_at(of, raised)
    z, converged, _ = fit_held(asimov, known, inside, parameter, jnp.zeros_like(norm))
    return truth, asimov, z, converged


def _asimov_excess(
    norm: jax.Array,
    data: JointData,
    fit: JointFit,
    positive: jax.Array,
    parameter: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """How far the test statistic of Asimov data with one norm given is above the target."""
    truth, asimov, z, _ = _asimov_fit(norm, data, fit, positive, parameter)
    return difference(asimov, z, truth) - target


@jit_by_size
def joint_sensitivity(
    data: JointData, fit: JointFit, components: jax.Array, n_sigma: jax.Array
) -> jax.Array:
    """Smallest norms that would be detected, the other parameters being as fitted.

    Parameters
    ----------
    data : JointData
        The problem; the observed counts enter by the fit only.
    fit : JointFit
        Its fit. The other parameters of the Asimov data (Cowan et al. 2011, Eur. Phys. J. C 71,
        1554) are those fitted, negative norms taken as zero.
    components : array of int, shape (M,)
        Which components.
    n_sigma : array, shape ()
        Significance, the root of the test statistic with all other parameters optimised again.

    Returns
    -------
    norms : array, shape (M,)
        NaN where nothing would be detected.

    Notes
    -----
    Norms have derivatives, as the distances of `joint_limits`, also with respect to ``n_sigma``.
    """
    target = n_sigma**2
    positive = interior(data)[0]
    still = jax.tree.map(jax.lax.stop_gradient, (data, fit, target))

    def one(component: jax.Array) -> jax.Array:
        fixed, known, rise = still
        parameter = component * (1 + data.n_shape)
        unit = jnp.maximum(_unit(fixed, known, parameter, rise), 1e-300)
        one_ = jnp.ones_like(unit)

        def excess(y: jax.Array) -> tuple[jax.Array, jax.Array]:
            truth, _, z, converged = _asimov_fit(unit * y, fixed, known, positive, parameter)

            def ts(y: jax.Array) -> jax.Array:
                # Both points are minima: that they move with the counts does not matter.
                return difference(_asimov(fixed, truth.at[parameter].set(unit * y)), z, truth)

            value, slope = jax.jvp(ts, (y,), (one_,))
            return _against(rise, value, slope, converged)

        far, last = _far(known, component) * one_, _last_step(unit)
        y, converged = increasing_root(excess, one_, jnp.zeros_like(unit), far, last)
        found = converged & (y < 0.9 * far) & jnp.isfinite(fit.values[parameter]) & fit.converged
        root = jnp.where(found, unit * y, 0.0)
        root = implicit_root(_asimov_excess, root, data, fit, positive, parameter, target)
        return jnp.where(found, root, jnp.nan)

    return jax.lax.map(one, components)
