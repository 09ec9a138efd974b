"""Radial laws: surface brightness as a function of the angle from a centre, as JAX pytrees.

Here are those of a certain size and flux, and the names of all others: power laws are in
`jaxprof.models.radial_power_laws`, halos of dark matter in `jaxprof.models.radial_halos`. Shapes
that spatial models have too are in `jaxprof.models.spatial_functions`. What laws can do, and how to
make one of a function, says `RadialModel`.

Plain numbers are degrees, fluxes in cm-2 s-1 and surface brightness in cm-2 s-1 sr-1; quantities
and strings such as ``"5 arcmin"`` are converted. Parameters are keyword only. The centre is in the
law's own ``frame``: nothing is transformed here.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxprof.models import spatial_functions as functions
from jaxprof.models.base import parameter
from jaxprof.models.radial_base import FunctionRadialModel as FunctionRadialModel
from jaxprof.models.radial_base import RadialModel as RadialModel
from jaxprof.models.radial_base import radial_model as radial_model
from jaxprof.models.radial_base import radial_model_from_dict as radial_model_from_dict
from jaxprof.models.radial_base import scales
from jaxprof.models.radial_halos import BurkertRadialModel as BurkertRadialModel
from jaxprof.models.radial_halos import EinastoRadialModel as EinastoRadialModel
from jaxprof.models.radial_halos import GeneralizedNFWRadialModel as GeneralizedNFWRadialModel
from jaxprof.models.radial_halos import HaloRadialModel as HaloRadialModel
from jaxprof.models.radial_halos import NFWRadialModel as NFWRadialModel
from jaxprof.models.radial_power_laws import ConstantRadialModel as ConstantRadialModel
from jaxprof.models.radial_power_laws import CoredPowerLawRadialModel as CoredPowerLawRadialModel
from jaxprof.models.radial_power_laws import (
    PowerLawDensityRadialModel as PowerLawDensityRadialModel,
)
from jaxprof.models.radial_power_laws import PowerLawRadialModel as PowerLawRadialModel
from jaxprof.models.radial_quadrature import line_of_sight_integral as line_of_sight_integral
from jaxprof.models.radial_sum import SumRadialModel as SumRadialModel
from jaxprof.models.units import FLUX


@radial_model
class GaussianRadialModel(RadialModel):
    r"""Gaussian on the sphere, :math:`A N \exp[-(1 - \cos\theta) / (2 (1 - \cos\sigma))]`.

    The shape of a round `GaussianSpatialModel`; :math:`A N \exp[-\theta^2 / (2\sigma^2)]` for small
    angles.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law [cm-2 s-1].
    sigma : float or Quantity, optional
        Standard deviation [deg].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "gauss"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    sigma: Any = parameter(1.0, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        half_versine, sigma = jnp.sin(jnp.deg2rad(separation) / 2) ** 2, jnp.deg2rad(self.sigma)
        return self.amplitude * functions.gaussian(half_versine, sigma, sigma[None])

    def _ring_integral(self, low: Array, high: Array) -> Array:
        a = functions.versine_between(0.0, self.sigma)
        inside = jnp.exp(-functions.versine_between(0.0, low) / (2 * a))
        share = inside * jnp.expm1(-functions.versine_between(low, high) / (2 * a))
        return self.amplitude * share / jnp.expm1(-1 / a)


@radial_model
class GeneralizedGaussianRadialModel(RadialModel):
    r"""Generalised Gaussian, :math:`A N e^{-(\theta/r_0)^{1/\eta}}`.

    The shape of a round `GeneralizedGaussianSpatialModel`, whose norm is that of the flat sky: keep
    it to a few degrees.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law [cm-2 s-1].
    r_0 : float or Quantity, optional
        Radius [deg].
    eta : float, optional
        Shape, > 0: nearly a disk (eta -> 0), a Gaussian (1/2) or an exponential (1).
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "gauss-general"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    r_0: Any = parameter(1.0, unit="deg", kind="positive")
    eta: Any = parameter(0.5, kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        away, radius = jnp.deg2rad(separation), jnp.deg2rad(self.r_0)
        return self.amplitude * functions.generalized_gaussian(away, radius, self.eta, radius**2)

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.r_0, 1, 5)


@radial_model
class DiskRadialModel(RadialModel):
    """Uniform disk, with a smooth edge unless told otherwise.

    The shape of a round `DiskSpatialModel`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law [cm-2 s-1].
    r_0 : float or Quantity, optional
        Radius [deg].
    edge_width : float, optional
        Width over which the edge falls from 95 % to 5 %, as a fraction of the radius, up to 1. With
        0 the brightness has no useful derivative with respect to the radius, but its integrals over
        rings and polygons have.
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "disk"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    r_0: Any = parameter(1.0, unit="deg", kind="positive")
    edge_width: Any = parameter(0.01, kind="share")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        away, radius = jnp.deg2rad(separation), jnp.deg2rad(self.r_0)
        return self.amplitude * functions.disk(away, radius, radius[None], self.edge_width)

    def _breaks(self) -> tuple[Any, ...]:
        # erf(x) is 1 to 1e-9 from x = 4.3 on, which is this many widths from the radius
        return tuple(self.r_0 * (1 + share * self.edge_width) for share in (-1.85, 0, 1.85))


@radial_model
class ShellRadialModel(RadialModel):
    """Projection of a uniformly emitting spherical shell.

    The shape of `ShellSpatialModel`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law [cm-2 s-1].
    radius : float or Quantity, optional
        Inner radius [deg].
    width : float or Quantity, optional
        Outer minus inner radius [deg].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "shell"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    radius: Any = parameter(1.0, unit="deg", kind="nonnegative")
    width: Any = parameter(0.2, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        return self.amplitude * functions.shell(separation, self.radius, self.width)

    def _breaks(self) -> tuple[Any, ...]:
        return self.radius, self.radius + self.width


@radial_model
class ExponentialRadialModel(RadialModel):
    r"""Exponential, :math:`A N e^{-\theta/\theta_0}`, with an exact norm on the sphere.

    :math:`1/N = 2\pi (1 + e^{-\pi/\theta_0}) / (1 + 1/\theta_0^2)`.

    The profile of galactic disks: Freeman 1970, ApJ 160, 811.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law [cm-2 s-1].
    theta_0 : float or Quantity, optional
        :math:`\theta_0` [deg].
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "exp"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    theta_0: Any = parameter(1.0, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        scale = jnp.deg2rad(self.theta_0)
        total = 2 * jnp.pi * (1 + jnp.exp(-jnp.pi / scale)) * scale**2 / (1 + scale**2)
        return self.amplitude * jnp.exp(-separation / jnp.asarray(self.theta_0)) / total

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.theta_0, 1, 10)


@radial_model
class DiffusionRadialModel(RadialModel):
    r"""Halo of electrons that diffuse away from a pulsar and cool.

    .. math:: \frac{1.22\,A}{\pi^{3/2} \theta_d (\theta + 0.06\,\theta_d)} e^{-\theta^2/\theta_d^2}

    An approximation for the inverse Compton emission of continuously injected electrons, of
    Abeysekara et al. 2017, Science 358, 911 (HAWC: Geminga and PSR B0656+14). Its integral is
    1.0036 A on a flat sky.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux of the whole law, but for 0.4 % [cm-2 s-1].
    theta_d : float or Quantity, optional
        Diffusion angle [deg], that of Geminga if not given.
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "diffusion"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    theta_d: Any = parameter(5.4, unit="deg", kind="positive")

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]."""
        x, size = separation / jnp.asarray(self.theta_d), jnp.deg2rad(self.theta_d)
        peak = 1.22 * self.amplitude / (math.pi**1.5 * size**2)
        return peak * jnp.exp(-(x**2)) / (x + 0.06)

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.theta_d, 0.06, 1, 4)
