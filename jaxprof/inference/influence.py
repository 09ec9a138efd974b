"""How the counts move what is fitted to them: implicit derivatives of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import forget, is_traced, jit_by_size
from jaxprof.inference.model_fit import Fit
from jaxprof.inference.parameters import layout_of
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.data import Status


def influence(
    likelihood: Likelihood,
    result: Fit,
    quantity: str | Callable[[Any], Any],
    *,
    log_prob: Callable[[Any, Likelihood], Any] | None = None,
) -> tuple[Any, ...]:
    r"""Derivative of what was fitted with respect to the counts of each counts bin.

    Parameters
    ----------
    likelihood : Likelihood
        What was fitted, with ``merge=False``.
    result : Fit
        What `jaxprof.fit` gave for it.
    quantity : str or callable
        What to differentiate: a parameter by its name in ``result.names``, such as
        ``"norm[0, 0]"``; all those of one name, ``"norm"``, in the order of ``result.names``; or a
        function of the parameters that gives a number or an array.
    log_prob : callable, optional
        ``log_prob(params, likelihood)``, if a function of the likelihood was fitted: a law, or a
        product with priors. By default ``likelihood.log_prob(params)``.

    Returns
    -------
    tuple of array, shape (..., G, N, S)
        In the structure of ``likelihood.counts``, after the axes of `quantity`; `likelihood.bins`
        tells where each counts bin is, and `jaxprof.influence_map` draws it. Zero for counts bins
        that are masked.

    Raises
    ------
    ValueError
        If empty pixels share counts bins, the fit did not succeed, or there is no such parameter.

    Notes
    -----
    At the maximum the gradient of :math:`\ln L` with respect to the parameters p vanishes,
    whatever the counts n. So with the covariance C of the fit

    .. math:: \frac{dq}{dn} = \nabla q^T\, C\, \frac{\partial^2 \ln L}{\partial p\, \partial n}

    (implicit function theorem). Parameters at active bounds stay there. A count more or less
    changes the quantity by this much as long as that is small beside its error.

    Where JAX has float64 disabled, the computation is in float64 all the same, and the result are
    numpy arrays.
    """
    if is_traced((likelihood, result)):
        return _Problem(quantity, log_prob)(likelihood, result)
    if not bool(result.success):
        label = Status(int(result.status)).label
        raise ValueError(
            f"result: a fit with status {label!r} has no derivatives with respect to the counts"
        )
    problem = _Problem(quantity, log_prob)
    if jax.config.read("jax_enable_x64"):
        return jit_by_size(problem)(likelihood, result)
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, jit_by_size(problem)(likelihood, result))
    # Numpy arrays that a function closes over are not to live on in this precision.
    forget(problem)
    return found


@dataclass(frozen=True)
class _Problem:
    """What is compiled, besides the shapes of arrays."""

    quantity: str | Callable[[Any], Any]
    log_prob: Callable[[Any, Likelihood], Any] | None

    def __call__(self, likelihood: Likelihood, result: Fit) -> tuple[Any, ...]:
        layout = layout_of(result.params)
        vector = jnp.asarray(layout.flatten(result.params, result.covariance.dtype))

        def value(x: jax.Array) -> Any:
            if isinstance(self.quantity, str):
                own = x[layout.positions(self.quantity, "quantity")]
                return own[0] if self.quantity in layout.names else own
            return jnp.asarray(self.quantity(layout.unflatten(x)))

        # At an active bound there is no covariance: the parameter does not move.
        covariance = jnp.where(jnp.isnan(result.covariance), 0.0, result.covariance)
        gradient = jax.jacobian(value)(vector)
        steps = gradient.reshape(-1, vector.size) @ covariance
        steps = jnp.where(result.success, steps, jnp.nan)

        def rise(counts: tuple[Any, ...], step: jax.Array) -> Any:
            """Derivative of the log probability along a step of the parameters."""
            own = likelihood.with_counts(counts)

            def along(x: jax.Array) -> Any:
                params = layout.unflatten(x)
                return own.log_prob(params) if self.log_prob is None else self.log_prob(params, own)

            return jax.jvp(along, (vector,), (step,))[1]

        found = jax.vmap(jax.grad(rise), in_axes=(None, 0))(likelihood.counts, steps)
        shape = gradient.shape[:-1]
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)
