r"""Radial laws as pure functions: surface brightness at angles from a centre, or density at radii.

Separations and angular sizes are in degrees, on the sphere. All functions broadcast, follow the
dtype of their arguments, and have finite derivatives for separations above zero. Nothing is
validated here: the model classes of `jaxprof.models.radial` do that, and keep off the very centre.

Power laws are written :math:`\exp(-\alpha \ln x)`, which has derivatives of any order.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln

from jaxprof.models import spatial_functions as spatial
from jaxprof.models.radial_quadrature import chord_integral
from jaxprof.models.spectral_functions import exprel

#: A Python number, a NumPy or a JAX array: what JAX itself takes, without its complex numbers.
Real = Any

#: Terms of the series of the sine: right to 1e-15 up to 180 deg.
_N_SINE = 14


def power(x: Real, index: Real) -> Array:
    """``x ** -index`` for x > 0."""
    return jnp.exp(-index * jnp.log(x))


def power_law(separation: Real, amplitude: Real, alpha: Real, reference: Real) -> Array:
    r"""Return :math:`A (\theta/\theta_0)^{-\alpha}`."""
    return amplitude * power(separation / reference, alpha)


def power_law_ring_integral(
    low: Real, high: Real, amplitude: Real, alpha: Real, reference: Real
) -> Array:
    r"""Integrate `power_law` over rings on the sphere, in closed form.

    .. math:: 2\pi A \theta_0^\alpha \sum_k \frac{(-1)^k}{(2k+1)!}
              \int \theta^{2k+1-\alpha}\,d\theta

    Each term is counted from the outer radius b, :math:`b^{p} (1 - e^{-pu}) / p` with
    :math:`p = 2k + 2 - \alpha` and :math:`u = \ln(b/a)`, which has no special case at p = 0. For
    a = 0 it is infinite where the integral is, which is for alpha >= 2.
    """
    low, high = jnp.broadcast_arrays(low, high)
    centre, nothing = low <= 0, high <= 0
    outer = jnp.where(nothing, 1.0, high)
    width = jnp.log(outer / jnp.where(centre, outer, low))
    radius = jnp.deg2rad(outer)
    orders = jnp.arange(_N_SINE, dtype=radius.dtype).reshape(-1, *(1,) * radius.ndim)
    p = 2 * orders + 2 - jnp.asarray(alpha)
    finite = jnp.where(p > 0, 1 / jnp.where(p > 0, p, 1.0), jnp.inf)
    shares = jnp.where(centre[None], finite, width[None] * exprel(-p * width[None]))
    total = jnp.zeros_like(radius)
    for k in reversed(range(_N_SINE)):
        total = total * radius**2 + (-1) ** k / math.factorial(2 * k + 1) * shares[k]
    integral = 2 * jnp.pi * amplitude * power(outer / reference, alpha) * radius**2 * total
    return jnp.where(nothing, 0.0, integral)


def cored_power_law(separation: Real, amplitude: Real, alpha: Real, core: Real) -> Array:
    r"""Return :math:`A [1 + (\theta/\theta_c)^2]^{-\alpha/2}`."""
    return amplitude * jnp.exp(-0.5 * alpha * jnp.log1p(jnp.square(separation / core)))


def projected_power_law(
    separation: Real, amplitude: Real, alpha: Real, core: Real, reference: Real
) -> Array:
    r"""Project the density :math:`A [(r^2 + r_c^2) / r_0^2]^{-\alpha/2}` onto the sky, alpha > 1.

    With :math:`R^2 = \theta^2 + r_c^2` it is :math:`A \sqrt{\pi}\,\Gamma(\frac{\alpha-1}{2}) /
    \Gamma(\frac{\alpha}{2})\, R\,(R/r_0)^{-\alpha}`, A being per degree of depth: the Abel
    transform of a power law.
    """
    alpha = jnp.asarray(alpha)
    radius = jnp.sqrt(jnp.square(separation) + jnp.square(core))
    constant = math.sqrt(math.pi) * jnp.exp(gammaln((alpha - 1) / 2) - gammaln(alpha / 2))
    return amplitude * constant * reference * power(radius / reference, alpha - 1)


def truncated_power_law(
    separation: Real, amplitude: Real, alpha: Real, core: Real, reference: Real, radius_max: Real
) -> Array:
    """Project the density of `projected_power_law`, cut off at a radius; any alpha."""
    separation = jnp.asarray(separation)
    square = jnp.square(radius_max) - separation**2
    inside = square > 0
    rim = jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1.0)), 0.0)
    # With a core the line passes the centre as if further out.
    impact = jnp.sqrt(separation**2 + jnp.square(core))
    column = chord_integral(lambda r: power(r / reference, alpha), impact, 0.0, rim, jnp.inf)
    return 2 * amplitude * column


def gaussian(separation: Real, amplitude: Real, sigma: Real) -> Array:
    r"""Gaussian on the sphere, :math:`A N \exp[-(1 - \cos\theta) / (2 (1 - \cos\sigma))]`.

    :math:`1/N = 4\pi a (1 - e^{-1/a})` with :math:`a = 1 - \cos\sigma`, as in
    `jaxprof.models.spatial_functions.gaussian`.
    """
    a = _versine(sigma)
    return amplitude * jnp.exp(-_versine(separation) / (2 * a)) / _gaussian_total(a)


def gaussian_ring_integral(low: Real, high: Real, amplitude: Real, sigma: Real) -> Array:
    """Integrate `gaussian` over rings on the sphere, in closed form."""
    a = _versine(sigma)
    between = _versine_between(low, high) / (2 * a)
    share = -jnp.expm1(-between) * jnp.exp(-_versine(low) / (2 * a))
    return amplitude * 4 * jnp.pi * a * share / _gaussian_total(a)


def _versine(angle: Real) -> Array:
    """1 - cos of an angle [deg]."""
    return 2 * jnp.sin(jnp.deg2rad(angle) / 2) ** 2


def _versine_between(low: Real, high: Real) -> Array:
    """Difference of two versines [deg], to full precision in narrow rings as well."""
    low, high = jnp.deg2rad(low), jnp.deg2rad(high)
    return 2 * jnp.sin((high - low) / 2) * jnp.sin((high + low) / 2)


def _gaussian_total(a: Array) -> Array:
    return -4 * jnp.pi * a * jnp.expm1(-1 / a)


def ring_solid_angle(low: Real, high: Real) -> Array:
    """Solid angle of rings [sr]."""
    return 2 * jnp.pi * _versine_between(low, high)


def exponential(separation: Real, amplitude: Real, theta_0: Real) -> Array:
    r"""Return :math:`A N e^{-\theta/\theta_0}` with the integral A over the sphere.

    :math:`1/N = 2\pi (1 + e^{-\pi/\theta_0}) / (1 + 1/\theta_0^2)`.
    """
    scale = jnp.deg2rad(theta_0)
    total = 2 * jnp.pi * (1 + jnp.exp(-jnp.pi / scale)) * scale**2 / (1 + scale**2)
    return amplitude * jnp.exp(-separation / jnp.asarray(theta_0)) / total


def diffusion(separation: Real, amplitude: Real, theta_d: Real) -> Array:
    r"""Halo of electrons that diffuse and cool.

    :math:`\frac{1.22\,A}{\pi^{3/2} \theta_d (\theta + 0.06\,\theta_d)} e^{-\theta^2/\theta_d^2}`,
    an approximation of Abeysekara et al. 2017, Science 358, 911. On a flat sky its integral is
    1.0036 A.
    """
    x = separation / jnp.asarray(theta_d)
    size = jnp.deg2rad(theta_d)
    return 1.22 * amplitude * jnp.exp(-(x**2)) / (math.pi**1.5 * size**2 * (x + 0.06))


def _latitude(separation: Real) -> Array:
    """Separation from the origin as a latitude, off the origin, where functions of a position end.

    Nothing of these changes within it, but squares of squares of the separation are numbers.
    """
    single = jnp.finfo(jnp.result_type(separation, float)).bits < 64
    return jnp.maximum(jnp.asarray(separation), 1e-6 if single else 1e-30)


def disk(separation: Real, amplitude: Real, r_0: Real, edge_width: Real) -> Array:
    """`jaxprof.models.spatial_functions.disk`, a round one."""
    latitude = _latitude(separation)
    return amplitude * spatial.disk(0.0, latitude, 0.0, 0.0, r_0, edge_width=edge_width)


def shell(separation: Real, amplitude: Real, radius: Real, width: Real) -> Array:
    """`jaxprof.models.spatial_functions.shell`."""
    return amplitude * spatial.shell(0.0, _latitude(separation), 0.0, 0.0, radius, width)


def generalized_gaussian(separation: Real, amplitude: Real, r_0: Real, eta: Real) -> Array:
    """`jaxprof.models.spatial_functions.generalized_gaussian`, a round one."""
    latitude = _latitude(separation)
    return amplitude * spatial.generalized_gaussian(0.0, latitude, 0.0, 0.0, r_0, eta)


def zhao_density(
    radius: Real, rho_s: Real, r_s: Real, alpha: Real, beta: Real, gamma: Real
) -> Array:
    r"""Return :math:`\rho_s (r/r_s)^{-\gamma} [1 + (r/r_s)^{1/\alpha}]^{(\gamma-\beta)\alpha}`.

    Zhao 1996, MNRAS 278, 488, eq. 1; (1, 3, 1) is that of Navarro, Frenk & White.
    """
    log_x = jnp.log(radius / jnp.asarray(r_s))
    turn = jnp.logaddexp(log_x / alpha, 0.0)
    return rho_s * jnp.exp(-gamma * log_x + (gamma - jnp.asarray(beta)) * alpha * turn)


def einasto_density(radius: Real, rho_s: Real, r_s: Real, alpha: Real) -> Array:
    r"""Return :math:`\rho_s \exp\{-\frac{2}{\alpha} [(r/r_s)^\alpha - 1]\}`.

    Einasto 1965, Trudy Astrofizicheskogo Instituta Alma-Ata 5, 87; Navarro et al. 2004, MNRAS 349,
    1039.
    """
    return rho_s * jnp.exp(-2 / jnp.asarray(alpha) * jnp.expm1(alpha * jnp.log(radius / r_s)))


def burkert_density(radius: Real, rho_s: Real, r_s: Real) -> Array:
    r"""Return :math:`\rho_s / [(1 + r/r_s) (1 + (r/r_s)^2)]`; Burkert 1995, ApJ 447, L25."""
    x = radius / jnp.asarray(r_s)
    return rho_s / ((1 + x) * (1 + x**2))
