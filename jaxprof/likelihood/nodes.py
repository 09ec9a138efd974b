"""Interpolation of templates between a few values of a parameter that is dear to fold again."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def nodes_between(low: float, high: float, number: int) -> Array:
    """Chebyshev points of the second kind from ``low`` to ``high``, ends included, (P,).

    References
    ----------
    Berrut, J.-P. & Trefethen, L. N. (2004), SIAM Review 46, 501, section 5.
    """
    steps = np.arange(number) / (number - 1)
    return 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * steps)


def node_weights(nodes: Any, value: Any) -> Any:
    """Weights (P,) of the values at some nodes in the polynomial through them.

    Parameters
    ----------
    nodes : array, shape (P,)
        Different values of the parameter.
    value : array, shape ()
        Where the polynomial is evaluated; derivatives with respect to it are exact.

    Returns
    -------
    array, shape (P,)
        They add up to one.
    """
    nodes = jnp.asarray(nodes)
    number = nodes.shape[0]
    apart = ~jnp.eye(number, dtype=bool)
    # Lagrange's products, not the barycentric quotients, which are 0 / 0 at the nodes.
    above = jnp.where(apart, value - nodes[None, :], 1.0)
    below = jnp.where(apart, nodes[:, None] - nodes[None, :], 1.0)
    return jnp.prod(above / below, axis=1)
