"""Which parameters keep a fit from its minimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import negative_log_prob
from jaxprof.inference.parameters import layout_of
from jaxprof.solvers.trust_region import quadratic_model

SHARE = 0.1
"""Part of the largest step in a direction that counts, in conditional standard deviations."""


def undetermined(log_prob: Callable, found: Fit, args: tuple[Any, ...]) -> tuple[str, ...]:
    """Parameters along whose valley a search has ended that did not converge.

    Names of those that change in the direction of the least curvature, the one that changes most
    first; none where derivatives are not finite: the search has left the domain, or started beyond
    it.
    """
    free = np.flatnonzero(~np.array(found.fixed))
    layout, last = layout_of(found.params, finite=False), found.last
    negative = negative_log_prob(log_prob, layout, args)

    def of_free(x: jax.Array) -> jax.Array:
        return negative(last.at[free].set(x))

    x = jnp.asarray(last)[free]
    hessian = jax.jit(jax.hessian(of_free))(x)
    if not (np.isfinite(of_free(x)) and np.all(np.isfinite(hessian))):
        return ()
    model = quadratic_model(jnp.zeros_like(x), hessian, jnp.zeros(x.shape, bool))
    axis = model.axes[:, np.argmin(np.abs(model.curvature))]
    step = np.abs(np.asarray(axis) * np.sqrt(np.abs(np.diagonal(hessian))))
    order = np.argsort(-step)
    return tuple(found.names[free[n]] for n in order if step[n] >= SHARE * step.max())
