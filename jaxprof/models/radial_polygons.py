r"""Integrals of radial laws over polygons on the sphere, such as boxes and pixels.

With :math:`C(\theta) = \int_0^\theta S \sin\theta'\,d\theta'` the integral over a polygon is that
of :math:`C(\theta)\,d\varphi` around its outline, :math:`\varphi` being the position angle as seen
from the law's centre: Green's theorem in polar coordinates. A cusp is integrated in C, by the same
code as over rings, and the outline passes it at whatever distance.

Along a great circle that passes the centre at the distance p, at the arc length u from the nearest
point, :math:`\cos\theta = \cos p \cos u` and :math:`\tan\varphi = \tan u / \sin p`. With
:math:`\tan u = \sin p \sinh\tau` it is :math:`d\varphi = d\tau / \cosh\tau`, smooth for any p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models.base import Real
from jaxprof.models.spatial_functions import haversine

#: Gauss-Legendre nodes of each part of an edge.
N_NODES = 20


class _Edges(NamedTuple):
    """Edges as seen from the centre, each of the shape of the vertices."""

    sine: Array  # |sin p|
    sign: Array  # 1 if the position angle grows along the edge, otherwise -1; 0 without length
    start: Array  # tau at its first vertex
    stop: Array  # tau at its second


def polygon_integral(
    cone: Callable[[Array], Array],
    lon: Real,
    lat: Real,
    lon_0: Real,
    lat_0: Real,
    breaks: Sequence[Real] = (),
) -> Array:
    """Integrals (...) of a law over polygons (..., V) whose edges are arcs of great circles.

    The ``cone`` maps separations [deg], of any shape, to the law's integral within this separation
    from the centre, element by element; ``breaks`` are separations [deg], scalars, at which the
    brightness has a kink. Vertices [deg] may be in either sense and repeated; where one is 90 deg
    or more from the centre the integral is NaN.
    """
    edges = _edges(lon, lat, lon_0, lat_0)
    length = edges.stop - edges.start
    safe = jnp.where(length == 0, 1.0, length)
    # where the edge is nearest to the centre, and where it crosses the separations of the breaks
    splits = [jnp.zeros_like(length)]
    for separation in breaks:
        tangent = _tangent_at(jnp.deg2rad(separation), edges.sine)
        splits += [side * jnp.arcsinh(tangent / edges.sine) for side in (-1, 1)]
    shares = (jnp.stack(splits) - edges.start[None]) / safe[None]
    shares = jnp.sort(jnp.clip(shares, 0.0, 1.0), axis=0)
    ends = jnp.ones_like(length)[None]
    shares = jnp.concatenate([0 * ends, shares, ends])
    half, middle = jnp.diff(shares, axis=0)[None] / 2, (shares[1:] + shares[:-1])[None] / 2
    nodes, weights = (
        jnp.asarray(x, length.dtype).reshape(-1, *(1,) * (middle.ndim - 1))
        for x in np.polynomial.legendre.leggauss(N_NODES)
    )
    # on axes for the nodes and the parts
    sine, sign, start, length = (x[None, None] for x in (*edges[:3], length))
    tau = start + length * (middle + half * nodes)
    tangent = sine * jnp.sinh(tau)
    cosine = jnp.sqrt(1 - sine**2)  # of p
    opposite = jnp.sqrt(sine**2 + (cosine * tangent) ** 2 / (1 + tangent**2))
    theta = jnp.rad2deg(jnp.arctan2(opposite, cosine / jnp.sqrt(1 + tangent**2)))
    turn = sign * length * half * weights / jnp.cosh(tau)
    return jnp.sum(turn * cone(theta) / (2 * jnp.pi), axis=(0, 1, -1))


def _tangent_at(separation: Array, sine: Array) -> Array:
    """Tangent of the arc length u at a separation [rad]; 0 where the edge is further away."""
    # cos(separation) = cos(p) cos(u)
    inside = jnp.sin(separation) ** 2 - sine**2
    crosses = (inside > 0) & (separation < jnp.pi / 2)
    root = jnp.sqrt(jnp.where(crosses, inside, 1.0))
    return jnp.where(crosses, root / jnp.cos(jnp.where(crosses, separation, 0.0)), 0.0)


def _edges(lon: Real, lat: Real, lon_0: Real, lat_0: Real) -> _Edges:
    lon, lat = jnp.broadcast_arrays(lon, lat)
    half_versine = haversine(lon, lat, lon_0, lat_0)
    lon, lat, lon_0, lat_0 = (jnp.deg2rad(x) for x in (lon, lat, lon_0, lat_0))
    # vertices with the centre as the pole: east, north, and the cosine of the separation
    north = jnp.sin(lat - lat_0)
    north = north + 2 * jnp.cos(lat) * jnp.sin(lat_0) * jnp.sin((lon - lon_0) / 2) ** 2
    x, y, z = jnp.cos(lat) * jnp.sin(lon - lon_0), north, 1 - 2 * half_versine
    # arc lengths are told by their tangents
    z = jnp.where(z > 0, z, jnp.nan)
    dx, dy = jnp.roll(x, -1, axis=-1) - x, jnp.roll(y, -1, axis=-1) - y
    # not the difference of cosines, which has no digits near the centre
    dz = -2 * (jnp.roll(half_versine, -1, axis=-1) - half_versine)
    normal = (y * dz - z * dy, z * dx - x * dz, x * dy - y * dx)
    square = normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2
    long = square > 0
    norm = jnp.sqrt(jnp.where(long, square, 1.0))
    # tangents of the arc lengths of both ends from the point that is nearest to the centre
    start = (normal[1] * x - normal[0] * y) / (norm * z)
    x2, y2, z2 = (jnp.roll(value, -1, axis=-1) for value in (x, y, z))
    stop = (normal[1] * x2 - normal[0] * y2) / (norm * z2)
    signed = normal[2] / norm
    # an edge through the centre has no angle but at the centre itself, where C is zero
    smallest = 1e-30 if jnp.finfo(x.dtype).bits >= 64 else 1e-9
    sine = jnp.maximum(jnp.abs(signed), smallest)
    # vector area of the polygon: towards us for one sense, away from us for the other
    area = sum(
        jnp.sum(part, axis=-1) * jnp.sum(position, axis=-1)
        for part, position in zip(normal, (x, y, z), strict=True)
    )
    sign = jnp.where(long, jnp.sign(signed) * jnp.sign(area)[..., None], 0.0)
    return _Edges(sine, sign, jnp.arcsinh(start / sine), jnp.arcsinh(stop / sine))
