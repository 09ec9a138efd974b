r"""Surface brightness on the sky [sr-1] as pure functions.

Positions and parameters of models are in degrees, on the sphere; separations, and the radii that
profiles are compared with, in radians. All functions broadcast, follow the dtype of their arguments
and have finite derivatives everywhere, the centre included. Unless a docstring says otherwise the
integral over the sphere is one.

An elongated model has major semiaxis :math:`a`, eccentricity :math:`e` and the position angle
:math:`\phi` of the major axis, counted from north through east (gammapy's convention). Along
the position angle :math:`\theta` its size is
:math:`R(\theta) = ab / \sqrt{a^2 \sin^2(\phi-\theta) + b^2 \cos^2(\phi-\theta)}` with
:math:`b = a\sqrt{1 - e^2}`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erf, gammaln

from jaxprof.models.base import Real

#: The brightness of a disk with a smooth edge falls from 95 % to 5 % over ``edge_width`` radii:
#: erf(EDGE_95 / 2) = 0.9.
EDGE_95 = 2.326174307353347

# Periodic integrands converge geometrically with the number of equal steps in angle.
_COS2 = np.cos((np.arange(128) + 0.5) * (math.pi / 128)) ** 2
_EDGE_NODES, _EDGE_WEIGHTS = np.polynomial.legendre.leggauss(48)


def haversine(lon: Real, lat: Real, lon_0: Real, lat_0: Real) -> Array:
    """Return sin^2(separation / 2) of two positions [deg]; smooth and exact at zero."""
    lon, lat, lon_0, lat_0 = (jnp.deg2rad(x) for x in (lon, lat, lon_0, lat_0))
    across = jnp.cos(lat) * jnp.cos(lat_0) * jnp.sin((lon - lon_0) / 2) ** 2
    return jnp.sin((lat - lat_0) / 2) ** 2 + across


def versine_between(low: Real, high: Real) -> Array:
    """Difference of 1 - cos of two angles [deg], to full precision where they are close."""
    low, high = jnp.deg2rad(low), jnp.deg2rad(high)
    return 2 * jnp.sin((high - low) / 2) * jnp.sin((high + low) / 2)


def separation(lon: Real, lat: Real, lon_0: Real, lat_0: Real) -> Array:
    """Angle between two positions [deg], in radians; its derivative at zero is set to zero."""
    hav = haversine(lon, lat, lon_0, lat_0)
    apart = (hav > 0) & (hav < 1)
    safe = jnp.where(apart, hav, 0.5)
    angle = 2 * jnp.arctan2(jnp.sqrt(safe), jnp.sqrt(1 - safe))
    return jnp.where(apart, angle, jnp.where(hav >= 1, jnp.pi, 0.0))


def ellipse_radius(
    lon: Real, lat: Real, center: tuple[Real, Real], major: Real, e: Real, phi: Real
) -> Array:
    """Size R [rad] of an ellipse towards each position; ``major`` at the centre itself."""
    lon, lat, lon_0, lat_0, phi = (jnp.deg2rad(x) for x in (lon, lat, *center, phi))
    # components of the direction; sin(lat - lat_0) first, to keep digits at small separations
    half = jnp.sin((lon - lon_0) / 2) ** 2
    north = jnp.sin(lat - lat_0) + 2 * jnp.cos(lat) * jnp.sin(lat_0) * half
    east = jnp.cos(lat) * jnp.sin(lon - lon_0)
    square = north**2 + east**2
    centre = square == 0
    along = jnp.where(centre, 1.0, north * jnp.cos(phi) + east * jnp.sin(phi))
    cos2 = along**2 / jnp.where(centre, 1.0, square)
    return _radius(jnp.deg2rad(major), e, cos2)


def _radius(major: Real, e: Real, cos2: Real) -> Array:
    e2 = jnp.square(e)
    return major * jnp.sqrt((1 - e2) / (1 - e2 * cos2))


def radii_around(major: Real, e: Real, dtype: jnp.dtype) -> Array:
    """Sizes [rad] of an ellipse at equal steps over half a turn, on a new first axis."""
    return jax.vmap(lambda c: _radius(jnp.deg2rad(major), e, c))(jnp.asarray(_COS2, dtype))


def gaussian(half_versine: Real, radius: Real, around: Real) -> Array:
    r"""Gaussian on the sphere, :math:`N \exp[-(1 - \cos r) / (2 (1 - \cos R))]`.

    :math:`R` [rad] is its standard deviation or, of an elongated one, its size towards the
    position; ``around`` are these in all directions and ``half_versine`` is
    :math:`\sin^2(r/2)`. The norm is exact: :math:`1/N = \oint 2 A (1 - e^{-1/A})\,d\theta` with
    :math:`A = 1 - \cos R(\theta)`, which for a circle is gammapy's closed form. (gammapy takes the
    flat-sky norm for e > 0.)
    """
    a = 2 * jnp.sin(around / 2) ** 2
    total = 4 * jnp.pi * jnp.mean(-a * jnp.expm1(-1 / a), axis=0)
    return jnp.exp(-half_versine / (2 * jnp.sin(radius / 2) ** 2)) / total


def generalized_gaussian(separation: Real, radius: Real, eta: Real, area: Real) -> Array:
    r"""Return :math:`\exp[-(r/R)^{1/\eta}] / (2\pi a b\,\eta\,\Gamma(2\eta))` with area :math:`ab`.

    Disk-like for eta -> 0, Gaussian with sigma = r_0 / sqrt(2) at 1/2, Laplace at 1. The
    norm is that of the flat sky, as in gammapy: small angles only (off by about r_0^2).
    """
    centre = separation == 0
    scaled = jnp.where(centre, 1.0, separation) / radius
    power = jnp.where(centre, 0.0, jnp.exp(jnp.log(scaled) / eta))
    return jnp.exp(-power) / (2 * jnp.pi * area * eta * jnp.exp(gammaln(2.0 * eta)))


def disk(separation: Real, radius: Real, around: Real, edge_width: Real) -> Array:
    r"""Uniform disk or ellipse, with an error-function edge.

    :math:`N\,\frac12 [1 - \mathrm{erf}(c\,(r - R) / (w R))]`: the brightness falls from 95 % to
    5 % over ``edge_width`` radii; 0 is a hard edge, which has no useful derivatives. The norm
    counts the edge and is exact on the sphere for r_0 (1 + edge_width) < 90 deg. (gammapy
    leaves the edge out of the norm, 1e-5 at the default width and 1e-3 at 0.1.) The sizes
    ``around`` are in radians.
    """
    excess = separation / radius - 1
    soft = jnp.asarray(edge_width) > 0
    width = jnp.where(soft, edge_width, 1.0)
    profile = jnp.where(
        soft, 0.5 * (1 - erf(EDGE_95 * excess / width)), jnp.where(excess < 0, 1.0, 0.0)
    )
    return profile / _disk_solid_angle(around, edge_width, excess.dtype)


def _disk_solid_angle(around: Real, edge_width: Real, dtype: jnp.dtype) -> Array:
    """Solid angle [sr] of a disk of the sizes ``around`` weighted with its edge profile S.

    By parts over r in [0, pi]: the integral of S sin r is S(0) + S(pi) minus that of cos r
    times the normal density of the edge, written as the integral of 1 - cos r so that small
    disks keep their digits. The density is cut at nine of its standard deviations.
    """
    spread = jnp.asarray(edge_width) / (EDGE_95 * math.sqrt(2))  # edge's sigma over R
    safe = jnp.where(spread > 0, spread, 1.0)
    inner = jnp.where(spread > 0, jnp.minimum(1 / safe, 9.0), 9.0)  # r = 0, in sigmas below R
    half = (9.0 + inner) / 2

    def ring(node: Array, weight: Array) -> Array:
        sigmas = (9.0 - inner) / 2 + half * node
        density = jnp.exp(-(sigmas**2) / 2) / math.sqrt(2 * math.pi)
        scale = (1 + spread * sigmas) / 2
        caps = jnp.mean(jax.vmap(lambda r: jnp.sin(r * scale) ** 2)(around), axis=0)
        return 2 * caps * density * half * weight

    nodes, weights = jnp.asarray(_EDGE_NODES, dtype), jnp.asarray(_EDGE_WEIGHTS, dtype)
    return 2 * jnp.pi * jnp.sum(jax.vmap(ring)(nodes, weights), axis=0)


def shell(separation: Real, radius: Real, width: Real) -> Array:
    r"""Projection of a uniformly emitting spherical shell; separation and sizes in deg.

    :math:`N [\sqrt{R_o^2 - r^2} - \sqrt{R_i^2 - r^2}]`, each root zero outside its radius,
    with :math:`R_i` the ``radius`` and :math:`R_o = R_i +` ``width``. The norm is exact on the
    sphere (gammapy takes that of the flat sky, smaller by about R_o^2 / 15). Roots are taken in
    degrees, so that they vanish where a separation is a radius to the last digit.
    """
    outer = radius + width
    depth = jnp.deg2rad(half_chord(outer, separation) - half_chord(radius, separation))
    norm = _chord_integral(jnp.deg2rad(outer)) - _chord_integral(jnp.deg2rad(radius))
    return depth / (2 * jnp.pi * norm)


def half_chord(radius: Real, impact: Real) -> Array:
    """Half of the length within a sphere of a line at a distance from its centre; 0 beyond it."""
    square = jnp.square(radius) - jnp.square(impact)
    inside = square > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1.0)), 0.0)


def _chord_integral(radius: Real) -> Array:
    r"""Return the integral of sqrt(R^2 - r^2) sin r over [0, R], by the series of sin r.

    The terms are :math:`(-1)^k R^{2k+3} / (2k+1)!\; B(k+1, 3/2) / 2`; nine of them are exact
    to 1e-16 for R < 1 rad, and to 1e-12 for R < 2 rad.
    """
    square = jnp.square(radius)
    total = jnp.zeros_like(square)
    for k in reversed(range(9)):
        beta = math.gamma(k + 1) * math.gamma(1.5) / math.gamma(k + 2.5)
        total = total * square + (-1) ** k * beta / (2 * math.factorial(2 * k + 1))
    return total * square * radius
