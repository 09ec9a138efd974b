"""Sensitivities of joint fits: norms that would be detected, with Asimov data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size
from jaxprof.inference.follow_asimov import follow_asimov
from jaxprof.inference.held_fit import at_fit, fit_held, in_searches, known_interior
from jaxprof.inference.interior import usable
from jaxprof.inference.joint_intervals import (
    FAR,
    farthest,
    last_step,
    unit_of,
    was_fitted,
)
from jaxprof.inference.newton_step import is_linear
from jaxprof.inference.start import barrier_at
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointFit, JointOnOffBlock
from jaxprof.likelihood.joint_model import difference, predictions
from jaxprof.solvers.solve import implicit_root, increasing_root, root_against

RAISED = 0.1
"""How far Asimov data's fit begins from their truth, on the way to a point well inside."""


def _asimov(data: JointData, z: jax.Array) -> JointData:
    """The same problem with counts equal to their prediction, and penalties without a pull.

    What constrains a parameter is a measurement too: left where it is, it would pull the minimum of
    the Asimov data away from the truth.
    """
    blocks: list[Any] = []
    for block, npred in zip(data.blocks, predictions(data, z), strict=True):
        if isinstance(block, JointOnOffBlock):
            background = block.alpha * block.n_off
            blocks.append(replace(block, n_on=background + npred))
        else:
            blocks.append(replace(block, counts=jnp.maximum(npred, 0.0)))
    return replace(data, blocks=tuple(blocks), penalty_start=z)


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
    # Close to the minimum; norms of zero are raised, since predictions may vanish there.
    still, of = jax.tree.map(jax.lax.stop_gradient, (truth, asimov))
    raised = still.at[at].add(RAISED * jnp.maximum(positive[at] - still[at], 0.0))
    inside = raised, barrier_at(of, raised)
    held = fit_held(asimov, truth, inside, parameter, jnp.zeros_like(norm))
    return truth, asimov, held.z, held.converged


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
def _followed_sensitivity(
    data: JointData, fit: JointFit, components: jax.Array, n_sigma: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Norms (M,) that would be detected by Newton's method, and whether they are right."""
    data, fit, target = jax.tree.map(jax.lax.stop_gradient, (data, fit, n_sigma**2))
    at, best = data.norm_index, at_fit(data, fit)
    free, truth = usable(data), best.at[at].max(0.0)

    def one(component: jax.Array) -> tuple[jax.Array, jax.Array]:
        unit = unit_of(data, fit, component, target)
        norm, found = follow_asimov(data, truth, free, component, target)
        fitted = was_fitted(fit, component)
        found = found & (norm > 0) & (norm < 0.9 * FAR * unit)
        return jnp.where(fitted & found, norm, jnp.nan), found | ~fitted

    return jax.lax.map(one, components)


@in_searches
def _searched_sensitivity(
    data: JointData,
    fit: JointFit,
    components: jax.Array,
    n_sigma: jax.Array,
    followed: tuple[jax.Array, jax.Array],
) -> jax.Array:
    """Norms (M,) with those searched for that were not found, and with derivatives."""
    target = n_sigma**2
    positive = known_interior(data)[0]
    still = jax.tree.map(jax.lax.stop_gradient, (data, fit, target))

    def searched(component: jax.Array) -> tuple[jax.Array, jax.Array]:
        fixed, known, rise = still
        parameter = component * (1 + data.n_shape)
        unit = jnp.maximum(unit_of(fixed, known, parameter, rise), 1e-300)
        one_ = jnp.ones_like(unit)

        def excess(y: jax.Array) -> tuple[jax.Array, jax.Array]:
            truth, _, z, converged = _asimov_fit(unit * y, fixed, known, positive, parameter)

            def ts(y: jax.Array) -> jax.Array:
                # Both points are minima: that they move with the counts does not matter.
                return difference(_asimov(fixed, truth.at[parameter].set(unit * y)), z, truth)

            value, slope = jax.jvp(ts, (y,), (one_,))
            return root_against(rise, jnp.where(converged, value, jnp.inf), slope)

        far, last = farthest(known, component) * one_, last_step(unit)
        y, converged = increasing_root(excess, one_, jnp.zeros_like(unit), far, last)
        found = converged & (y < 0.9 * far) & was_fitted(fit, parameter)
        return jnp.where(found, unit * y, 0.0), found

    def one(each: tuple[jax.Array, ...]) -> jax.Array:
        component, norm, known = each
        parameter = component * (1 + data.n_shape)
        root, found = jax.lax.cond(
            known,
            lambda: (jnp.nan_to_num(norm), jnp.isfinite(norm)),
            lambda: searched(component),
        )
        root = implicit_root(_asimov_excess, root, data, fit, positive, parameter, target)
        return jnp.where(found, root, jnp.nan)

    norms, known = (jax.lax.stop_gradient(each) for each in followed)
    return jax.lax.map(one, (components, norms, known))


def joint_sensitivity(data: JointData, fit: JointFit, components: Any, n_sigma: Any) -> jax.Array:
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
        Significance, the root of the test statistic with all other parameters profiled.

    Returns
    -------
    norms : array, shape (M,)
        NaN where nothing would be detected.

    Notes
    -----
    Norms have derivatives, as the distances of `joint_limits`, also with respect to ``n_sigma``.
    """
    if not is_linear(data) or not all(isinstance(block, JointBlock) for block in data.blocks):
        # Their predictions and statistics have no simple form.
        none = jnp.zeros(len(components), data.start.dtype), jnp.zeros(len(components), bool)
        return _searched_sensitivity(data, fit, components, n_sigma, none)
    followed = _followed_sensitivity(data, fit, components, n_sigma)
    if not isinstance(followed[1], jax.core.Tracer) and np.asarray(followed[1]).all():
        return followed[0]
    return _searched_sensitivity(data, fit, components, n_sigma, followed)
