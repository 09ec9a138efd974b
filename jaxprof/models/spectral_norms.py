r"""Dimensionless functions of energy that spectra are multiplied by: ``spectrum * norm_model``.

Names, parameters and formulas are gammapy's. The result of a product is in cm-2 s-1 TeV-1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jax import Array

from jaxprof.models import spectral_functions as functions
from jaxprof.models.base import parameter, register_model
from jaxprof.models.spectral_base import NormSpectralModel


@register_model
class PowerLawNormSpectralModel(NormSpectralModel):
    r"""Factor :math:`n (E/E_0)^{-t}`.

    Parameters
    ----------
    norm, tilt : float, optional
        :math:`n` and :math:`t`.
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    """

    tag: ClassVar[str] = "pl-norm"
    tilt: Any = parameter(0.0)
    norm: Any = parameter(1.0)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")

    def _dnde(self, energy: Array) -> Array:
        return functions.power_law(energy, self.tilt, self.norm, self.reference)


@register_model
class LogParabolaNormSpectralModel(NormSpectralModel):
    r"""Factor :math:`n (E/E_0)^{-\alpha - \beta \ln(E/E_0)}`.

    Parameters
    ----------
    norm, alpha, beta : float, optional
        :math:`n`, :math:`\alpha` and :math:`\beta`.
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    """

    tag: ClassVar[str] = "lp-norm"
    norm: Any = parameter(1.0)
    reference: Any = parameter(10.0, unit="TeV", kind="positive")
    alpha: Any = parameter(0.0)
    beta: Any = parameter(0.0)

    def _dnde(self, energy: Array) -> Array:
        return functions.log_parabola(energy, self.norm, self.reference, self.alpha, self.beta)


@register_model
class ExpCutoffPowerLawNormSpectralModel(NormSpectralModel):
    r"""Factor :math:`n (E/E_0)^{-\Gamma} e^{-(\lambda E)^\alpha}`.

    Parameters
    ----------
    norm, index, alpha : float, optional
        :math:`n`, :math:`\Gamma` and :math:`\alpha`.
    reference : float or Quantity, optional
        :math:`E_0` [TeV].
    lambda_ : float or Quantity, optional
        Inverse of the cut-off energy [TeV-1], >= 0.
    """

    tag: ClassVar[str] = "ecpl-norm"
    index: Any = parameter(0.0)
    norm: Any = parameter(1.0)
    reference: Any = parameter(1.0, unit="TeV", kind="positive")
    lambda_: Any = parameter(0.1, unit="TeV-1", kind="nonnegative")
    alpha: Any = parameter(1.0)

    def _dnde(self, energy: Array) -> Array:
        return functions.exp_cutoff_power_law(
            energy, self.index, self.norm, self.reference, self.lambda_, self.alpha
        )
