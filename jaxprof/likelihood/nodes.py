"""Interpolation of templates between a few values of a parameter that is dear to fold again."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprof.types import Array

LOGARITHMIC = ("psf_scale", "source_width")
"""Parameters whose polynomials are those of their logarithm.

Of templates behind a wider or narrower PSF that is five times better than in the width itself, its
square or one over it. Energy scales are best as they are: counts of a power law go with a power of
them that is between one and two.
"""


def nodes_between(low: float, high: float, number: int) -> Array:
    """Chebyshev points of the second kind from ``low`` to ``high``, ends included, (P,).

    References
    ----------
    Berrut, J.-P. & Trefethen, L. N. (2004), SIAM Review 46, 501, section 5.
    """
    steps = np.arange(number) / (number - 1)
    return 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * steps)


def node_weights(name: str, nodes: Any, value: Any) -> Any:
    """Weights (P,) of the values at some nodes in the polynomial through them; they add up to one.

    The nodes (P,) are different values of a parameter, whose name tells whether it is a polynomial
    in its logarithm. Derivatives with respect to the value are exact.
    """
    nodes = jnp.asarray(nodes)
    if name in LOGARITHMIC:
        # Below zero is beyond the bounds, where nothing but a finite gradient is asked for.
        value, nodes = jnp.log(jnp.where(value <= 0, nodes[0], value)), jnp.log(nodes)
    apart = ~jnp.eye(nodes.shape[0], dtype=bool)
    # Lagrange's products, not the barycentric quotients, which are 0 / 0 at the nodes.
    above = jnp.where(apart, value - nodes[None, :], 1.0)
    below = jnp.where(apart, nodes[:, None] - nodes[None, :], 1.0)
    return jnp.prod(above / below, axis=1)


def beyond_nodes(nodes: Any, value: Any) -> Any:
    """How far a value is beyond the first or last node, below zero; zero between them.

    There the polynomial extrapolates, to anything.
    """
    nodes = jnp.asarray(nodes)
    return jnp.minimum(jnp.minimum(value - jnp.min(nodes), jnp.max(nodes) - value), 0.0)
