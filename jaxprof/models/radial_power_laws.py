"""Radial laws without a size of their own: constant and power laws, on the sky and in space.

Their ``amplitude`` is a brightness or, in space, an emissivity.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models import radial_functions as functions
from jaxprof.models.base import parameter
from jaxprof.models.radial_base import RadialModel, radial_model, scales
from jaxprof.models.radial_integrals import BRIGHTNESS
from jaxprof.models.units import is_concrete

EMISSIVITY = "cm-2 s-1 sr-1 deg-1"


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
        return self.amplitude * functions.ring_solid_angle(low, high)


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
        return functions.power_law(separation, self.amplitude, self.alpha, self.reference)

    def _ring_integral(self, low: Array, high: Array) -> Array:
        return functions.power_law_ring_integral(
            low, high, self.amplitude, self.alpha, self.reference
        )

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
        return functions.cored_power_law(separation, self.amplitude, self.alpha, self.core)

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.core, 1, 30)


@radial_model
class PowerLawDensityRadialModel(RadialModel):
    r"""Power law in space, :math:`A [(r^2 + r_c^2)/r_0^2]^{-\alpha/2}`, projected.

    Radii are given as the angles that they are seen under, and lines of sight are taken as
    parallel: for sizes of some degrees. Without an outer radius the projection is a closed form.

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
        inner = (separation, self.amplitude, self.alpha, self.core, self.reference)
        if self.radius_max is None:
            return functions.projected_power_law(*inner)
        return functions.truncated_power_law(*inner, self.radius_max)

    def _breaks(self) -> tuple[Any, ...]:
        return scales(self.core, 1) + (() if self.radius_max is None else (self.radius_max,))

    def _check_rings(self, inner: float) -> None:
        cusp = is_concrete(self.alpha) and is_concrete(self.core)
        if inner <= 0 and cusp and np.any((self.core == 0) & (np.asarray(self.alpha) >= 3)):
            raise ValueError(
                f"alpha={self.alpha}: the integral around the centre is infinite for alpha >= 3; "
                "begin outside of the centre, or give a core"
            )
