r"""Spectral models: :math:`dN/dE` as JAX pytrees, with gammapy's names and defaults.

Plain numbers are energies in TeV and differential fluxes in cm-2 s-1 TeV-1; quantities
and strings such as ``"10 GeV"`` are converted. The formulas are in
`jaxprof.models.spectral_functions`; integrals are closed forms for the power laws, the
template, constants, and their sums and multiples, and quadratures otherwise.

Parameters are keyword only, as in gammapy, except for `TemplateSpectralModel`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models import spectral_functions as functions
from jaxprof.models.base import parameter, register_model
from jaxprof.models.spectral_base import CompoundSpectralModel as CompoundSpectralModel
from jaxprof.models.spectral_base import ConstantSpectralModel as ConstantSpectralModel
from jaxprof.models.spectral_base import SpectralModel as SpectralModel
from jaxprof.models.spectral_base import spectral_model_from_dict as spectral_model_from_dict
from jaxprof.models.spectral_norms import (
    ExpCutoffPowerLawNormSpectralModel as ExpCutoffPowerLawNormSpectralModel,
)
from jaxprof.models.spectral_norms import (
    LogParabolaNormSpectralModel as LogParabolaNormSpectralModel,
)
from jaxprof.models.spectral_norms import PowerLawNormSpectralModel as PowerLawNormSpectralModel
from jaxprof.models.spectral_tables import (
    EBLAbsorptionNormSpectralModel as EBLAbsorptionNormSpectralModel,
)
from jaxprof.models.spectral_tables import PiecewiseNormSpectralModel as PiecewiseNormSpectralModel
from jaxprof.models.spectral_tables import TemplateSpectralModel as TemplateSpectralModel
from jaxprof.models.spectral_tables import with_fixed_tables as with_fixed_tables
from jaxprof.models.units import DNDE, FLUX, is_concrete


@register_model
class PowerLawSpectralModel(SpectralModel):
    r"""Power law :math:`\phi_0 (E/E_0)^{-\Gamma}`.

    Parameters
    ----------
    index : float, optional
        :math:`\Gamma`.
    amplitude : float or Quantity, optional
        :math:`\phi_0` [cm-2 s-1 TeV-1].
    reference : float or Quantity, optional
        :math:`E_0` [TeV].

    Examples
    --------
    >>> from jaxprof import PowerLawSpectralModel
    >>> model = PowerLawSpectralModel(index=2.3, reference="10 GeV")
    >>> float(model.integral(0.01, 0.5)) > 0
    True
    """

    tag: ClassVar[str] = "pl"
    index: Any = parameter(2.0)
    amplitude: Any = parameter(1e-12, unit=DNDE)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")

    def _dnde(self, energy: Array) -> Array:
        return functions.power_law(energy, **self.parameters)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        return functions.power_law_integral(low, high, **self.parameters, order=order)


@register_model
class PowerLaw2SpectralModel(SpectralModel):
    r"""Power law whose amplitude is its flux between two energies.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        Flux between ``emin`` and ``emax`` [cm-2 s-1].
    index : float, optional
        :math:`\Gamma`; 1 is allowed (gammapy gives NaN there).
    emin, emax : float or Quantity, optional
        The energies [TeV].

    Raises
    ------
    ValueError
        If ``emax`` is not above ``emin``.
    """

    tag: ClassVar[str] = "pl-2"
    amplitude: Any = parameter(1e-12, unit=FLUX)
    index: Any = parameter(2.0)
    emin: Any = parameter(0.1, unit="TeV", kind="positive")
    emax: Any = parameter(100.0, unit="TeV", kind="positive")

    def __post_init__(self) -> None:
        super().__post_init__()
        if is_concrete(self.emin) and is_concrete(self.emax) and np.any(self.emax <= self.emin):
            raise ValueError(f"emax={self.emax} TeV must be above emin={self.emin} TeV")

    def _dnde(self, energy: Array) -> Array:
        return functions.power_law(energy, self.index, self._at_emax(energy), self.emax)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        inner = (self.index, self._at_emax(low), self.emax)
        return functions.power_law_integral(low, high, *inner, order=order)

    def _at_emax(self, energy: Array) -> Array:
        """Differential flux at ``emax``; ``energy`` gives nothing but its dtype."""
        dtype = jnp.result_type(energy, *self.parameters.values())
        unit = functions.power_law_integral(self.emin, self.emax, self.index, 1.0, self.emax)
        return (self.amplitude / unit).astype(dtype)


@register_model
class BrokenPowerLawSpectralModel(SpectralModel):
    r"""Power law with index :math:`\Gamma_1` below and :math:`\Gamma_2` above a break.

    Parameters
    ----------
    index1, index2 : float, optional
        :math:`\Gamma_1` and :math:`\Gamma_2`.
    amplitude : float or Quantity, optional
        Differential flux at the break [cm-2 s-1 TeV-1].
    ebreak : float or Quantity, optional
        The break [TeV].
    """

    tag: ClassVar[str] = "bpl"
    index1: Any = parameter(2.0)
    index2: Any = parameter(2.0)
    amplitude: Any = parameter(1e-12, unit=DNDE)
    ebreak: Any = parameter(1.0, unit="TeV", kind="positive")

    def _dnde(self, energy: Array) -> Array:
        index = jnp.where(energy < self.ebreak, self.index1, self.index2)
        return functions.power_law(energy, index, self.amplitude, self.ebreak)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        below, above = (
            functions.power_law_integral(
                cut(low, self.ebreak),
                cut(high, self.ebreak),
                index,
                self.amplitude,
                self.ebreak,
                order=order,
            )
            for cut, index in ((jnp.minimum, self.index1), (jnp.maximum, self.index2))
        )
        return below + above

    def _breaks(self) -> tuple[Any, ...]:
        return (self.ebreak,)


@register_model
class SmoothBrokenPowerLawSpectralModel(SpectralModel):
    r"""Broken power law with a smooth transition.

    :math:`\phi_0 (E/E_0)^{-\Gamma_1} [1 + (E/E_b)^{(\Gamma_2-\Gamma_1)/\beta'}]^{-\beta'}`
    with :math:`\beta' = \beta\,\mathrm{sign}(\Gamma_2 - \Gamma_1)`; equal indices count as
    increasing, so that the limit :math:`2^{-\beta}` is finite (gammapy divides by zero there).

    Parameters
    ----------
    index1, index2 : float, optional
        :math:`\Gamma_1` and :math:`\Gamma_2`.
    amplitude : float or Quantity, optional
        :math:`\phi_0` [cm-2 s-1 TeV-1].
    ebreak, reference : float or Quantity, optional
        :math:`E_b` and :math:`E_0` [TeV].
    beta : float, optional
        Smoothness of the break, > 0; small is sharp.
    """

    tag: ClassVar[str] = "sbpl"
    index1: Any = parameter(2.0)
    index2: Any = parameter(2.0)
    amplitude: Any = parameter(1e-12, unit=DNDE)
    ebreak: Any = parameter(1.0, unit="TeV", kind="positive")
    reference: Any = parameter(1.0, unit="TeV", kind="positive")
    beta: Any = parameter(1.0, kind="positive")

    def _dnde(self, energy: Array) -> Array:
        delta = jnp.asarray(self.index2) - self.index1
        beta = self.beta * jnp.where(delta < 0, -1.0, 1.0)
        turn = jnp.logaddexp(delta / beta * jnp.log(energy / self.ebreak), 0.0)
        log_x = jnp.log(energy / self.reference)
        return self.amplitude * jnp.exp(-self.index1 * log_x - beta * turn)

    def _breaks(self) -> tuple[Any, ...]:
        # not a kink, but for small beta nearly one: a panel edge there keeps the accuracy
        return (self.ebreak,)


@register_model
class ExpCutoffPowerLawSpectralModel(SpectralModel):
    r"""Power law with exponential cut-off :math:`\phi_0 (E/E_0)^{-\Gamma} e^{-(\lambda E)^\alpha}`.

    Parameters
    ----------
    index : float, optional
        :math:`\Gamma`.
    amplitude : float or Quantity, optional
        :math:`\phi_0` [cm-2 s-1 TeV-1].
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    lambda_ : float or Quantity, optional
        Inverse of the cut-off energy [TeV-1], >= 0.
    alpha : float, optional
        Sharpness of the cut-off.
    """

    tag: ClassVar[str] = "ecpl"
    index: Any = parameter(1.5)
    amplitude: Any = parameter(1e-12, unit=DNDE)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")
    lambda_: Any = parameter(0.1, unit="TeV-1", kind="nonnegative")
    alpha: Any = parameter(1.0)

    def _dnde(self, energy: Array) -> Array:
        return functions.exp_cutoff_power_law(energy, **self.parameters)


@register_model
class LogParabolaSpectralModel(SpectralModel):
    r"""Log parabola :math:`\phi_0 (E/E_0)^{-\alpha - \beta \ln(E/E_0)}`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        :math:`\phi_0` [cm-2 s-1 TeV-1].
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    alpha, beta : float, optional
        Index at the reference and curvature; the logarithm is the natural one.
    """

    tag: ClassVar[str] = "lp"
    amplitude: Any = parameter(1e-12, unit=DNDE)
    reference: Any = parameter(10.0, unit="TeV", kind="positive")
    alpha: Any = parameter(2.0)
    beta: Any = parameter(1.0)

    def _dnde(self, energy: Array) -> Array:
        return functions.log_parabola(energy, **self.parameters)


@register_model
class SuperExpCutoffPowerLaw3FGLSpectralModel(SpectralModel):
    r"""Super-exponential cut-off power law of the 3FGL catalogue (arXiv:1501.02003).

    :math:`\phi_0 (E/E_0)^{-\Gamma_1} \exp[(E_0/E_c)^{\Gamma_2} - (E/E_c)^{\Gamma_2}]`.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        :math:`\phi_0`, the differential flux at the reference [cm-2 s-1 TeV-1].
    reference, ecut : float or Quantity, optional
        :math:`E_0` and :math:`E_c` [TeV].
    index_1, index_2 : float, optional
        :math:`\Gamma_1` and :math:`\Gamma_2`.
    """

    tag: ClassVar[str] = "secpl-3fgl"
    amplitude: Any = parameter(1e-12, unit=DNDE)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")
    ecut: Any = parameter(10.0, unit="TeV", kind="positive")
    index_1: Any = parameter(1.5)
    index_2: Any = parameter(2.0)

    def _dnde(self, energy: Array) -> Array:
        at_reference = jnp.exp(self.index_2 * jnp.log(self.reference / jnp.asarray(self.ecut)))
        at_energy = jnp.exp(self.index_2 * jnp.log(energy / self.ecut))
        log_x = jnp.log(energy / self.reference)
        return self.amplitude * jnp.exp(-self.index_1 * log_x + at_reference - at_energy)


@register_model
class SuperExpCutoffPowerLaw4FGLDR3SpectralModel(SpectralModel):
    r"""Super-exponential cut-off power law of the 4FGL-DR3 catalogue (arXiv:2201.11184).

    :math:`\phi_0 x^{-\Gamma_1 + d/b} \exp[\frac{d}{b^2} (1 - x^b)]` with :math:`x = E/E_0`,
    :math:`d` the ``expfactor`` and :math:`b` the ``index_2``; the limit at :math:`b = 0` is
    a regular point.

    Parameters
    ----------
    amplitude : float or Quantity, optional
        :math:`\phi_0` [cm-2 s-1 TeV-1].
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    expfactor : float, optional
        :math:`d`, the curvature at the reference.
    index_1 : float, optional
        :math:`\Gamma_1`, the index at the reference.
    index_2 : float, optional
        :math:`b`, the sharpness of the cut-off.
    """

    tag: ClassVar[str] = "secpl-4fgl-dr3"
    amplitude: Any = parameter(1e-12, unit=DNDE)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")
    expfactor: Any = parameter(1e-2)
    index_1: Any = parameter(1.5)
    index_2: Any = parameter(2.0)

    def _dnde(self, energy: Array) -> Array:
        # Eq. 2 with phi_2(y) = (exp(y) - 1 - y) / y^2, whose series begins as that of eq. 3 for
        # small y does: no branch is needed.
        log_x = jnp.log(energy / self.reference)
        second = functions.stable_exponential(self.index_2 * log_x, 2)
        return self.amplitude * jnp.exp(-self.index_1 * log_x - self.expfactor * log_x**2 * second)
