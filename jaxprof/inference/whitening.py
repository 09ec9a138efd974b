"""A Laplace preconditioner: coordinates in which a density is about a unit normal distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import is_traced
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import fit, split_function
from jaxprof.inference.parameters import layout_of


def whiten(
    log_prob: Any, result: Any, *, args: tuple[Any, ...] = ()
) -> tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], Any]]:
    """Make a log probability one of coordinates that samplers like.

    The new coordinates are zero at the fitted parameters, and have unit covariance as far as the
    density is that of a normal distribution.

    Parameters
    ----------
    log_prob : callable or object
        As for `jaxprof.fit`.
    result : Fit or pytree
        What that gave, or the parameters from which it is to start.
    args : tuple of pytree
        Further arguments of `log_prob`.

    Returns
    -------
    whitened : callable
        The same log probability of coordinates (n,), one for each parameter that is not fixed. The
        factor by which volumes differ is constant and left out.
    to_params : callable
        Maps coordinates (n,) to the parameters. Use `jax.vmap` for those of a chain.

    Raises
    ------
    ValueError
        If the fit has no covariance.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from jaxprof import fit, whiten
    >>> def log_prob(params):
    ...     return -0.5 * ((params["norm"] - 3.0) / 0.1) ** 2
    >>> whitened, to_params = whiten(log_prob, fit(log_prob, {"norm": 1.0}))
    >>> print(f"{to_params(jnp.ones(1))['norm']:.3f} {whitened(jnp.ones(1)):.3f}")
    3.100 -0.500
    """
    if not isinstance(result, Fit):
        result = fit(log_prob, result, args=args)
    function, args = split_function(log_prob, args)
    free = np.flatnonzero(~np.array(result.fixed))
    covariance = result.covariance[np.ix_(free, free)]
    if not is_traced(covariance) and not np.all(np.isfinite(covariance)):
        lost = [result.names[i] for i in free if not np.isfinite(result.covariance[i, i])]
        raise ValueError(f"the fit has no covariance of {', '.join(lost)} to whiten with")
    layout = layout_of(result.params)
    dtype = jax.dtypes.canonicalize_dtype(covariance.dtype)
    errors = layout.flatten(result.errors, covariance.dtype)[free]
    # Of the correlation matrix: variances may be too small numbers for single precision.
    correlation = covariance / errors[:, None] / errors[None, :]
    factor = errors[:, None] * jnp.linalg.cholesky(jnp.asarray(correlation, dtype))
    centre = jnp.asarray(layout.flatten(result.params, covariance.dtype), dtype)

    def to_params(coordinates: jax.Array) -> Any:
        return layout.unflatten(centre.at[free].add(factor @ coordinates))

    def whitened(coordinates: jax.Array) -> jax.Array:
        return function(to_params(coordinates), *args)

    return whitened, to_params
