r"""Integrals of radial laws: over rings on the sphere, and along the line of sight.

Separations are in degrees, solid angles in steradians, distances in one unit of length. All
functions follow the dtype of what they are given and can be differentiated with respect to
limits, breaks and whatever the functions that they integrate close over. Nothing is validated
here.

The quadrature in separation is the double-exponential one of Takahasi & Mori (1974, Publ. RIMS 9,
721): with :math:`x = 1 / (1 + e^{-\pi \sinh t})` it is a sum with equal steps in :math:`t`, whose
points come together double-exponentially at both ends. Whatever power of the distance from an end
the integrand starts with, a cusp :math:`\theta^{1 - \alpha}` or the square root at the rim of a
sphere, it converges as for a smooth function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxprof.models.base import Real

#: Step in t of the double-exponential rule.
STEP = 0.12
#: Nodes along the line of sight: within the scale radius, beyond it up to OUTER in t, which is a
#: factor of 12 in radius, and from there on.
N_INNER, N_OUTER, N_FAR = 40, 14, 14
OUTER = 2.5


def smallest(dtype: Any) -> float:
    """Separation or radius that counts as next to nothing beside one of the law's own size."""
    return 1e-80 if jnp.finfo(dtype).bits >= 64 else 1e-9


def double_exponential(dtype: Any) -> tuple[Array, Array]:
    """Nodes in (0, 1) and weights of the double-exponential rule, shape (n,).

    The first node is at 1e-80 (float64): an integrand :math:`x^{p - 1}` is integrated to
    :math:`10^{-80 p}`, which is 1e-8 for p = 0.1.
    """
    low = np.arcsinh(-math.log(smallest(dtype)) / math.pi)
    high = np.arcsinh(-math.log(np.finfo(dtype).eps / 8) / math.pi)
    t, step = np.linspace(-low, high, math.ceil((low + high) / STEP) + 1, retstep=True)
    power = math.pi * np.sinh(t)
    x = np.where(power < 0, np.exp(np.minimum(power, 0)), 1) / (1 + np.exp(-np.abs(power)))
    slope = math.pi * np.cosh(t) * x / (1 + np.exp(power))
    return jnp.asarray(x, dtype), jnp.asarray(step * slope, dtype)


def ring_integral(
    brightness: Callable[[Array], Array], low: Real, high: Real, breaks: Sequence[Real] = ()
) -> Array:
    r"""Integrate a brightness over rings, :math:`2\pi \int S(\theta) \sin\theta\,d\theta`.

    The ``brightness`` [sr-1] is a function of separations [deg] of any shape, element by element.
    The quadrature between ``low`` and ``high`` [deg] is split at the ``breaks`` [deg], scalars,
    where it has a kink or changes its slope.
    """
    low, high = jnp.broadcast_arrays(low, high)
    dtype = jnp.result_type(low, high, float)
    edges = [low.astype(dtype), high.astype(dtype)]
    if len(breaks):
        inner = jnp.sort(jnp.stack([jnp.asarray(b).astype(dtype) for b in breaks]))
        # On an edge itself it moves as within: half of its derivative, as of a clip, would leave
        # the quadrature with a root that moves away from the end of its piece.
        edges[1:1] = [
            jnp.where((low <= b) & (b <= high), b, jnp.clip(b, low, high)).astype(dtype)
            for b in inner
        ]
    start, width = jnp.stack(edges[:-1]), jnp.diff(jnp.stack(edges), axis=0)
    # At the centre itself, where a piece without width may be, the brightness may be infinite.
    start = jnp.where((width <= 0) & (start <= 0), 1.0, start)
    nodes, weights = double_exponential(dtype)
    nodes, weights = (x.reshape(-1, *(1,) * start.ndim) for x in (nodes, weights))
    start, width = start[None], width[None]
    theta = start + width * nodes
    measure = 2 * jnp.pi * jnp.deg2rad(width) * weights * jnp.sin(jnp.deg2rad(theta))
    return jnp.sum(measure * brightness(theta), axis=(0, 1))


def _panel(low: Array, high: Array, n: int, *, dense_ends: bool = False) -> tuple[Array, Array]:
    """Gauss-Legendre nodes between limits of any shape, on a new first axis, and their weights.

    With dense ends they are the rule's in u, x = u^2 (3 - 2 u): nodes come together at the ends
    with their fourth power, for exponentials that are far narrower than the panel.
    """
    u, w = (v / 2 for v in np.polynomial.legendre.leggauss(n))
    u = u + 0.5
    if dense_ends:
        u, w = u**2 * (3 - 2 * u), w * 6 * u * (1 - u)
    share, weight = (jnp.asarray(v, low.dtype).reshape(-1, *(1,) * low.ndim) for v in (u, w))
    return low[None] + (high - low)[None] * share, (high - low)[None] * weight


def chord_integral(
    density: Callable[[Array], Array], impact: Real, low: Real, high: Real, scale: Real
) -> Array:
    r"""Integrate along a line that passes the centre: :math:`\int f(\sqrt{s^2 + b^2})\,ds`.

    With :math:`s = b \sinh t` and :math:`r = b \cosh t` it is :math:`\int f(r)\,r\,dt`, in which
    powers of the radius are exponentials, whatever their index. The ``density`` is a function of
    radii of any shape, element by element; ``impact`` is the distance b > 0 of the line from the
    centre, and 0 <= ``low`` <= ``high`` are the limits of s. The quadrature is split where r is the
    ``scale`` radius, at which the density changes its slope.
    """
    impact, low, high, scale = jnp.broadcast_arrays(impact, low, high, scale)
    start, stop = jnp.arcsinh(low / impact), jnp.arcsinh(high / impact)
    # The value does not depend on where the quadrature is split, hence no derivatives by it.
    ratio = lax.stop_gradient(scale / impact)
    middle = jnp.arccosh(jnp.maximum(ratio, 1.0))
    middle = jnp.where(middle < start, start, jnp.where(middle < stop, middle, stop))
    outer = lax.stop_gradient(middle) + OUTER
    outer = jnp.where(outer < stop, outer, stop)
    panels = (
        _panel(start, middle, N_INNER, dense_ends=True),
        _panel(middle, outer, N_OUTER),
        _panel(outer, stop, N_FAR),
    )
    nodes, weights = (jnp.concatenate(parts) for parts in zip(*panels, strict=True))
    radius = impact[None] * jnp.cosh(nodes)
    return jnp.sum(weights * radius * density(radius), axis=0)


def line_of_sight_integral(
    density: Callable[[Array], Array],
    separation: Real,
    distance: Real,
    scale: Real,
    radius_max: Real = math.inf,
) -> Array:
    r"""Integrate a spherical density along lines of sight, :math:`\int_0^\infty f(r(l))\,dl`.

    From an observer at a finite distance d of the centre, with
    :math:`r^2 = l^2 + d^2 - 2 l d \cos\theta`: exact at any separation, inside the sphere or
    outside. Nearer to the centre than 1e-80 of the scale radius (float32: 1e-9) lines of sight
    pass as if they were at this distance from it.

    Parameters
    ----------
    density : callable
        Maps radii, in the unit of `distance`, to values; any shape, element by element. Without
        an outer radius it must fall more steeply than 1 / r.
    separation : array_like
        Between the line of sight and the centre [deg].
    distance : float
        Of the centre, > 0.
    scale : float
        Radius at which the density changes its slope. It has no effect but on the accuracy.
    radius_max : float, optional
        Radius beyond which there is nothing; an infinite one counts as 1e6 times the sum of
        distance and scale radius.

    Returns
    -------
    jax.Array
        In the unit of the density times that of the distance, shape of the separations.
    """
    separation = jnp.deg2rad(separation)
    dtype = jnp.result_type(separation, distance, scale, float)
    floor = lax.stop_gradient(smallest(dtype) * jnp.asarray(scale, dtype))
    cosine = jnp.cos(separation)
    impact = jnp.maximum(distance * jnp.abs(jnp.sin(separation)), floor).astype(dtype)
    infinite = jnp.isinf(jnp.asarray(radius_max))
    limit = lax.stop_gradient(1e6 * (jnp.asarray(distance) + scale))
    square = jnp.where(infinite, limit, radius_max) ** 2 - impact**2
    hit = square > 0
    rim = jnp.where(hit, jnp.sqrt(jnp.where(hit, square, 1.0)), 0.0).astype(dtype)
    # The observer is at s = -d cos(theta), the far rim at s = rim; both sides of s = 0 apart.
    ahead = cosine > 0
    observer = jnp.minimum(jnp.abs(distance * cosine).astype(dtype), rim)
    zero = jnp.zeros_like(rim)
    low = jnp.stack([jnp.where(ahead, zero, observer), zero])
    high = jnp.stack([rim, jnp.where(ahead, observer, zero)])
    far_and_near = chord_integral(density, jnp.stack([impact, impact]), low, high, scale)
    return far_and_near[0] + far_and_near[1]
