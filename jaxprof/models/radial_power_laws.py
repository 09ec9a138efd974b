"""Radial laws without a size of their own: constant and power laws, on the sky and in space.

Their ``amplitude`` is a brightness or, in space, an emissivity.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln

from jaxprof.models.base import Real, parameter
from jaxprof.models.radial_base import RadialModel, radial_model, scales
from jaxprof.models.radial_integrals import BRIGHTNESS
from jaxprof.models.radial_quadrature import chord_integral
from jaxprof.models.spatial_functions import half_chord, versine_between
from jaxprof.models.spectral_functions import exprel
from jaxprof.models.units import is_concrete

EMISSIVITY = "cm-2 s-1 sr-1 deg-1"


#: Terms of the series of the sine: right to 1e-15 up to 180 deg.
_N_SINE = 14


def power(x: Real, index: Real) -> Array:
    """``x ** -index`` for x > 0."""
    return jnp.exp(-index * jnp.log(x))


def power_law_ring_integral(
    low: Real, high: Real, amplitude: Real, alpha: Real, reference: Real
) -> Array:
    r"""Integrate a power law over rings on the sphere, in closed form.

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


@radial_model
class ConstantRadialModel(RadialModel):
    r"""The same brightness everywhere.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Brightness [cm-2 s-1 sr-1].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "const"
    amplitude: Any = parameter(1e-9, unit=BRIGHTNESS)

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        return self.amplitude * jnp.ones_like(separation)

    def _ring_integral(self, low: Array, high: Array) -> Array:
        return 2 * jnp.pi * self.amplitude * versine_between(low, high)


@radial_model
class PowerLawRadialModel(RadialModel):
    r"""Power law of the separation, :math:`A (\theta/\theta_0)^{-\alpha}`.

    Its integral over a ring that holds the centre is infinite for alpha >= 2: an error where values
    are known, inf in a function that JAX traces.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Brightness at `reference` [cm-2 s-1 sr-1].
    alpha : float, optional
        :math:`\alpha`, of any sign.
    reference : float or Quantity, optional
        :math:`\theta_0` [deg].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "pl"
    amplitude: Any = parameter(1e-9, unit=BRIGHTNESS)
    alpha: Any = parameter(1.0)
    reference: Any = parameter(1.0, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        return self.amplitude * power(separation / self.reference, self.alpha)

    def _ring_integral(self, low: Array, high: Array) -> Array:
        return power_law_ring_integral(low, high, self.amplitude, self.alpha, self.reference)

    def _check_rings(self, inner: float) -> None:
        if inner <= 0 and is_concrete(self.alpha) and np.any(np.asarray(self.alpha) >= 2):
            raise ValueError(
                f"alpha={self.alpha}: the integral around the centre is infinite for alpha >= 2; "
                "begin outside of the centre, or use CoredPowerLawRadialModel"
            )


@radial_model
class CoredPowerLawRadialModel(RadialModel):
    r"""Power law with a core, :math:`A [1 + (\theta/\theta_c)^2]^{-\alpha/2}`.

    The profile of King 1962, AJ 67, 471, for alpha = 2, and the beta model of Cavaliere &
    Fusco-Femiano 1976, A&A 49, 137, with :math:`\alpha = 6\beta - 1`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Brightness at the centre [cm-2 s-1 sr-1].
    alpha : float, optional
        :math:`\alpha`, of any sign.
    core : float or Quantity, optional
        :math:`\theta_c` [deg].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "pl-core"
    amplitude: Any = parameter(1e-9, unit=BRIGHTNESS)
    alpha: Any = parameter(2.0)
    core: Any = parameter(0.1, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        turn = jnp.log1p(jnp.square(separation / self.core))
        return self.amplitude * jnp.exp(-0.5 * self.alpha * turn)

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.core, 1, 30)


@radial_model
class PowerLawDensityRadialModel(RadialModel):
    r"""Power law in space, :math:`A [(r^2 + r_c^2)/r_0^2]^{-\alpha/2}`, projected.

    Radii are given as the angles that they are seen under, and lines of sight are taken as
    parallel: for sizes of some degrees. Without an outer radius the projection is the Abel
    transform of a power law: with :math:`R^2 = \theta^2 + r_c^2` it is :math:`A \sqrt{\pi}\,
    \Gamma(\frac{\alpha-1}{2}) / \Gamma(\frac{\alpha}{2})\, R\,(R/r_0)^{-\alpha}`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Emissivity at `reference`, but for the core: brightness per degree of depth
        [cm-2 s-1 sr-1 deg-1].
    alpha : float, optional
        :math:`\alpha`, of the density. Without an outer radius it is above 1, and the brightness
        falls with alpha - 1.
    core, reference : float or Quantity, optional
        :math:`r_c`, may be 0, and :math:`r_0` [deg].
    radius_max : float or Quantity, optional
        Outer radius [deg]; None for an infinite one.
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "pl-density"
    amplitude: Any = parameter(1e-9, unit=EMISSIVITY)
    alpha: Any = parameter(2.0)
    core: Any = parameter(0.0, unit="deg", kind="nonnegative")
    reference: Any = parameter(1.0, unit="deg", kind="positive")
    radius_max: Any = parameter(None, unit="deg", kind="positive")

    def __post_init__(self) -> None:
        super().__post_init__()
        shallow = is_concrete(self.alpha) and np.any(np.asarray(self.alpha) <= 1)
        if self.radius_max is None and shallow:
            raise ValueError(f"alpha must be above 1 without a radius_max, got {self.alpha}")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        alpha, separation = jnp.asarray(self.alpha), jnp.asarray(separation)
        impact = jnp.sqrt(jnp.square(separation) + jnp.square(self.core))
        if self.radius_max is None:
            constant = math.sqrt(math.pi) * jnp.exp(gammaln((alpha - 1) / 2) - gammaln(alpha / 2))
            brightness = self.amplitude * constant * self.reference
            return brightness * power(impact / self.reference, alpha - 1)
        # With a core the line passes the centre as if further out.
        column = chord_integral(
            lambda radius: power(radius / self.reference, alpha),
            impact,
            0.0,
            half_chord(self.radius_max, separation),
            jnp.inf,
        )
        return 2 * self.amplitude * column

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.core, 1) + (() if self.radius_max is None else (self.radius_max,))

    def _check_rings(self, inner: float) -> None:
        cusp = is_concrete(self.alpha) and is_concrete(self.core)
        if inner <= 0 and cusp and np.any((self.core == 0) & (np.asarray(self.alpha) >= 3)):
            raise ValueError(
                f"alpha={self.alpha}: the integral around the centre is infinite for alpha >= 3; "
                "begin outside of the centre, or give a core"
            )
