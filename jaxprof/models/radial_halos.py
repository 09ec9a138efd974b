r"""Halos of dark matter: J- and D-factors as radial laws, JAX pytrees.

The density is spherical and seen from a finite distance d of its centre. The brightness is
:math:`A \int_0^\infty \rho^n(r(l))\,dl` with :math:`r^2 = l^2 + d^2 - 2 l d \cos\theta`, exact at
any separation. With ``annihilation`` n is 2 and the integral that of the J-factor, without it n is
1 and it is that of the D-factor.

With the default ``amplitude`` of 1 results are J- or D-factors: brightness in GeV2 cm-5 sr-1 or
GeV cm-2 sr-1, integrals in GeV2 cm-5 or GeV cm-2. For results in flux units,

.. math:: A = \frac{\langle\sigma v\rangle}{8\pi m^2} N_\gamma
          \quad\text{or}\quad A = \frac{1}{4\pi m \tau} N_\gamma

with the number :math:`N_\gamma` of photons per annihilation or decay between the energies of the
reference flux (Cirelli et al. 2011, JCAP 03, 051). Scale radii and densities of the Milky Way, the
defaults, are those of this paper, as in gammapy, with the distance of 8.33 kpc.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models.base import Real, parameter, static
from jaxprof.models.radial_base import RadialModel, radial_model, scales
from jaxprof.models.radial_quadrature import line_of_sight_integral
from jaxprof.models.units import is_concrete

DENSITY = "GeV cm-3"
#: Centimetres in a kiloparsec: 648 000 / pi astronomical units of 149 597 870 700 m in a parsec.
KPC = 648_000_000 / np.pi * 149_597_870_700 * 100


@radial_model
class HaloRadialModel(RadialModel):
    """Base of the halos: a density of the radius, integrated along lines of sight.

    A subclass defines ``tag`` and ``density(radius)``, and the defaults of ``r_s`` and ``rho_s``.
    """

    amplitude: Any = parameter(1.0)
    r_s: Any = parameter(unit="kpc", kind="positive")
    rho_s: Any = parameter(unit=DENSITY, kind="nonnegative")
    distance: Any = parameter(8.33, unit="kpc", kind="positive")
    radius_max: Any = parameter(None, unit="kpc", kind="positive")
    annihilation: bool = static(True)

    def density(self, radius: Any) -> Any:
        """Density [GeV cm-3] at radii [kpc] > 0, without an outer radius."""
        raise NotImplementedError

    def _slope(self) -> Any:
        """Slope of the density at the centre, minus d ln(density) / d ln(radius)."""
        return 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.annihilation, bool | np.bool_):
            raise ValueError(f"annihilation must be True or False, got {self.annihilation!r}")
        object.__setattr__(self, "annihilation", bool(self.annihilation))
        slope, steepest = self._slope(), 1.5 if self.annihilation else 3.0
        if is_concrete(slope) and np.any(np.asarray(slope) >= steepest):
            raise ValueError(
                f"gamma must be below {steepest}, got {slope}: the integral of "
                f"density{'^2' * self.annihilation} over the centre is infinite"
            )

    def _unit(self, field: dataclasses.Field[Any]) -> str:
        if field.name == "amplitude":
            return "cm3 s-1 GeV-2" if self.annihilation else "s-1 GeV-1"
        return super()._unit(field)

    def evaluate(self, separation: Array) -> Array:
        """Brightness at separations [deg]; see the module for its unit."""
        radius_max = {} if self.radius_max is None else {"radius_max": self.radius_max}
        column = line_of_sight_integral(
            lambda radius: self.density(radius) ** (2 if self.annihilation else 1),
            separation,
            self.distance,
            self.r_s,
            **radius_max,
        )
        return self.amplitude * column * KPC

    def _breaks(self) -> tuple[Any, ...]:
        rim = () if self.radius_max is None else (self._angle(self.radius_max),)
        return scales(self._angle(self.r_s), 1) + rim

    def _angle(self, radius: Any) -> Array:
        """Angle [deg] that a radius [kpc] is seen under; 90 deg where the observer is within it."""
        sine = jnp.asarray(radius) / self.distance
        outside = sine < 1
        angle = jnp.arcsin(jnp.where(outside, sine, 0.5))
        return jnp.where(outside, jnp.rad2deg(angle), 90.0)


def zhao_density(
    radius: Real, rho_s: Real, r_s: Real, alpha: Real, beta: Real, gamma: Real
) -> Array:
    r"""Return :math:`\rho_s (r/r_s)^{-\gamma} [1 + (r/r_s)^{1/\alpha}]^{(\gamma-\beta)\alpha}`.

    Zhao 1996, MNRAS 278, 488, eq. 1; (1, 3, 1) is that of Navarro, Frenk & White.
    """
    log_x = jnp.log(radius / jnp.asarray(r_s))
    turn = jnp.logaddexp(log_x / alpha, 0.0)
    return rho_s * jnp.exp(-gamma * log_x + (gamma - jnp.asarray(beta)) * alpha * turn)


@radial_model
class NFWRadialModel(HaloRadialModel):
    r"""Navarro-Frenk-White halo, :math:`\rho_s (r_s/r) (1 + r/r_s)^{-2}`.

    Navarro, Frenk & White 1997, ApJ 490, 493.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux per J-factor [cm3 s-1 GeV-2], or per D-factor [s-1 GeV-1].
    r_s : float or Quantity, optional
        Scale radius [kpc].
    rho_s : float or Quantity, optional
        Density [GeV cm-3]: that of the formula.
    distance : float or Quantity, optional
        Distance of the centre [kpc].
    radius_max : float or Quantity, optional
        Outer radius of the halo [kpc]; None for an infinite one.
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    annihilation : bool, optional
        Whether the square of the density is integrated (J-factor) or the density (D-factor).
    """

    tag: ClassVar[str] = "nfw"
    r_s: Any = parameter(24.42, unit="kpc", kind="positive")
    rho_s: Any = parameter(0.184, unit=DENSITY, kind="nonnegative")

    def density(self, radius: Any) -> Any:
        """Density [GeV cm-3] at radii [kpc] > 0, without an outer radius."""
        return zhao_density(radius, self.rho_s, self.r_s, 1.0, 3.0, 1.0)

    def _slope(self) -> Any:
        return 1.0

    def _breaks(self) -> tuple[Any, ...]:
        # the turn at the scale radius is a slow one, which needs no split
        return super()._breaks()[1:]


@radial_model
class GeneralizedNFWRadialModel(HaloRadialModel):
    r"""Generalised NFW halo, with three slopes.

    :math:`\rho_s (r/r_s)^{-\gamma} [1 + (r/r_s)^{1/\alpha}]^{(\gamma-\beta) \alpha}`, the profile
    of Zhao 1996, MNRAS 278, 488, eq. 1, in gammapy `ZhaoProfile`. Slopes :math:`\gamma` of 1.1 to
    1.4 are those of contracted halos.

    Parameters
    ----------
    gamma : float, optional
        Slope at the centre; below 1.5 for annihilation and 3 for decay, whose integrals are
        infinite from there on.
    alpha, beta : float, optional
        Width of the transition, > 0, and slope at large radii; above 1/2 for annihilation and 1 for
        decay unless there is a `radius_max`.
    amplitude, r_s, rho_s, distance, radius_max, annihilation, lon_0, lat_0, frame : optional
        As in `NFWRadialModel`.
    """

    tag: ClassVar[str] = "gnfw"
    r_s: Any = parameter(24.42, unit="kpc", kind="positive")
    rho_s: Any = parameter(0.184, unit=DENSITY, kind="nonnegative")
    gamma: Any = parameter(1.0)
    alpha: Any = parameter(1.0, kind="positive")
    beta: Any = parameter(3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        shallowest = 0.5 if self.annihilation else 1.0
        known = self.radius_max is None and is_concrete(self.beta)
        if known and np.any(np.asarray(self.beta) <= shallowest):
            raise ValueError(
                f"beta must be above {shallowest} without a radius_max, got {self.beta}: the "
                "integral along the line of sight is infinite"
            )

    def density(self, radius: Any) -> Any:
        """Density [GeV cm-3] at radii [kpc] > 0, without an outer radius."""
        return zhao_density(radius, self.rho_s, self.r_s, self.alpha, self.beta, self.gamma)

    def _slope(self) -> Any:
        return self.gamma


@radial_model
class EinastoRadialModel(HaloRadialModel):
    r"""Einasto halo, :math:`\rho_s \exp\{-\frac{2}{\alpha} [(r/r_s)^\alpha - 1]\}`.

    Einasto 1965, Trudy Astrofizicheskogo Instituta Alma-Ata 5, 87; for halos Navarro et al. 2004,
    MNRAS 349, 1039.

    Parameters
    ----------
    alpha : float, optional
        :math:`\alpha`, > 0.
    amplitude, r_s, rho_s, distance, radius_max, annihilation, lon_0, lat_0, frame : optional
        As in `NFWRadialModel`.
    """

    tag: ClassVar[str] = "einasto"
    r_s: Any = parameter(28.44, unit="kpc", kind="positive")
    rho_s: Any = parameter(0.033, unit=DENSITY, kind="nonnegative")
    alpha: Any = parameter(0.17, kind="positive")

    def density(self, radius: Any) -> Any:
        """Density [GeV cm-3] at radii [kpc] > 0, without an outer radius."""
        power = jnp.expm1(self.alpha * jnp.log(radius / self.r_s))
        return self.rho_s * jnp.exp(-2 / jnp.asarray(self.alpha) * power)


@radial_model
class BurkertRadialModel(HaloRadialModel):
    r"""Burkert halo, with a core: :math:`\rho_s / [(1 + r/r_s) (1 + (r/r_s)^2)]`.

    Burkert 1995, ApJ 447, L25.

    Parameters
    ----------
    amplitude, r_s, rho_s, distance, radius_max, annihilation, lon_0, lat_0, frame : optional
        As in `NFWRadialModel`.
    """

    tag: ClassVar[str] = "burkert"
    r_s: Any = parameter(12.67, unit="kpc", kind="positive")
    rho_s: Any = parameter(0.712, unit=DENSITY, kind="nonnegative")

    def density(self, radius: Any) -> Any:
        """Density [GeV cm-3] at radii [kpc] > 0, without an outer radius."""
        x = radius / jnp.asarray(self.r_s)
        return self.rho_s / ((1 + x) * (1 + x**2))
