r"""Spectral models: :math:`dN/dE` as JAX pytrees, with gammapy's names and defaults.

Plain numbers are energies in TeV and differential fluxes in cm-2 s-1 TeV-1; quantities
and strings such as ``"10 GeV"`` are converted. The formulas are in
`jaxprof.models.spectral_functions`; integrals are closed forms for the power laws, the
template, constants, and their sums and multiples, and quadratures otherwise.

Parameters are keyword only, as in gammapy, except for `TemplateSpectralModel`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models import spectral_functions as functions
from jaxprof.models.base import parameter, register_model, static
from jaxprof.models.spectral_base import CompoundSpectralModel as CompoundSpectralModel
from jaxprof.models.spectral_base import ConstantSpectralModel as ConstantSpectralModel
from jaxprof.models.spectral_base import SpectralModel as SpectralModel
from jaxprof.models.spectral_base import spectral_model_from_dict as spectral_model_from_dict
from jaxprof.models.spectral_norms import (
    EBLAbsorptionNormSpectralModel as EBLAbsorptionNormSpectralModel,
)
from jaxprof.models.spectral_norms import (
    ExpCutoffPowerLawNormSpectralModel as ExpCutoffPowerLawNormSpectralModel,
)
from jaxprof.models.spectral_norms import (
    LogParabolaNormSpectralModel as LogParabolaNormSpectralModel,
)
from jaxprof.models.spectral_norms import PiecewiseNormSpectralModel as PiecewiseNormSpectralModel
from jaxprof.models.spectral_norms import PowerLawNormSpectralModel as PowerLawNormSpectralModel
from jaxprof.models.units import DNDE, FLUX, is_concrete, is_quantity, read_number

_model = dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)


@register_model
@_model
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
@_model
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
        amplitude = functions.power_law_2_amplitude(energy, **self.parameters)
        return functions.power_law(energy, self.index, amplitude, self.emax)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        amplitude = functions.power_law_2_amplitude(low, **self.parameters)
        return functions.power_law_integral(
            low, high, self.index, amplitude, self.emax, order=order
        )


@register_model
@_model
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
        return functions.broken_power_law(energy, **self.parameters)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        return functions.broken_power_law_integral(low, high, **self.parameters, order=order)

    def _breaks(self) -> tuple[Any, ...]:
        return (self.ebreak,)


@register_model
@_model
class SmoothBrokenPowerLawSpectralModel(SpectralModel):
    r"""Broken power law with a smooth transition.

    :math:`\phi_0 (E/E_0)^{-\Gamma_1} [1 + (E/E_b)^{(\Gamma_2-\Gamma_1)/\beta'}]^{-\beta'}`
    with :math:`\beta' = \beta\,\mathrm{sign}(\Gamma_2 - \Gamma_1)`.

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
        return functions.smooth_broken_power_law(energy, **self.parameters)

    def _breaks(self) -> tuple[Any, ...]:
        # not a kink, but for small beta nearly one: a panel edge there keeps the accuracy
        return (self.ebreak,)


@register_model
@_model
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
@_model
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
@_model
class SuperExpCutoffPowerLaw3FGLSpectralModel(SpectralModel):
    r"""Super-exponential cut-off power law of the 3FGL catalogue.

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
        return functions.super_exp_cutoff_power_law_3fgl(energy, **self.parameters)


@register_model
@_model
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
        return functions.super_exp_cutoff_power_law_4fgl_dr3(energy, **self.parameters)


@register_model
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TemplateSpectralModel(SpectralModel):
    """Table of differential fluxes, linear in log-log, also beyond its ends.

    Zeros count as the smallest normal number. The flux is zero beyond an end whose last two values
    are not both positive.

    Parameters
    ----------
    energy : array_like or Quantity
        Energies [TeV], shape (n,), n >= 2, strictly increasing.
    values : array_like or Quantity
        Differential fluxes [cm-2 s-1 TeV-1], shape (n,), >= 0.
    unit : {"cm-2 s-1 TeV-1", ""}, optional
        ``""`` makes it a dimensionless factor of energy, an absorption for instance, that other
        models are multiplied by; so do dimensionless quantities.

    Raises
    ------
    ValueError
        If the shapes differ or the energies do not increase.
    """

    tag: ClassVar[str] = "template"
    energy: Any = parameter(unit="TeV", kind="positive")
    values: Any = parameter(unit=DNDE, kind="nonnegative")
    unit: str = static(DNDE)

    def __post_init__(self) -> None:
        if self.unit not in (DNDE, ""):
            raise ValueError(f"unit must be {DNDE!r} or '', got {self.unit!r}")
        if is_quantity(self.values) and not self.values.unit.to_string():
            object.__setattr__(self, "unit", "")
        super().__post_init__()
        shape = np.shape(self.energy)
        if len(shape) != 1 or shape[0] < 2:
            raise ValueError(f"energy must have shape (n,) with n >= 2, got shape {shape}")
        if np.shape(self.values) != shape:
            raise ValueError(
                f"values must have the shape of energy, {shape}, got {np.shape(self.values)}"
            )
        if is_concrete(self.energy) and np.any(np.diff(np.asarray(self.energy)) <= 0):
            raise ValueError(f"energy must be strictly increasing, got {self.energy}")

    @property
    def is_norm(self) -> bool:
        """Whether it is a dimensionless factor, not a spectrum."""
        return not self.unit

    def _unit(self, field: dataclasses.Field[Any]) -> str:
        return self.unit if field.name == "values" else super()._unit(field)

    def _dnde(self, energy: Array) -> Array:
        return functions.template(energy, self.energy, self.values)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        return functions.template_integral(low, high, self.energy, self.values, order=order)

    def _breaks(self) -> tuple[Any, ...]:
        return (jnp.asarray(self.energy)[1:-1],)

    def _spectral_dict(self) -> dict[str, Any]:
        items = self._parameter_dicts()
        arrays = {
            item["name"]: {"data": item["value"], "unit": item.get("unit", "")} for item in items
        }
        return {"type": type(self).__name__, "parameters": [], **arrays}

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> TemplateSpectralModel:
        energy = read_number(data["energy"], "data", "TeV", name="energy")
        if "unit" in data["values"] and not data["values"]["unit"]:
            return cls(energy, read_number(data["values"], "data", "", name="values"), unit="")
        return cls(energy, read_number(data["values"], "data", DNDE, name="values"))


@register_model
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FixedTableSpectralModel(SpectralModel):
    """A `TemplateSpectralModel` whose table is no parameter: part of the structure of a pytree."""

    tag: ClassVar[str] = "fixed-table"
    energy: tuple[float, ...] = static(())
    values: tuple[float, ...] = static(())
    unit: str = static(DNDE)

    @property
    def is_norm(self) -> bool:
        """Whether it is a dimensionless factor, not a spectrum."""
        return not self.unit

    def _dnde(self, energy: Array) -> Array:
        return functions.template(energy, jnp.asarray(self.energy), jnp.asarray(self.values))

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        table = jnp.asarray(self.energy), jnp.asarray(self.values)
        return functions.template_integral(low, high, *table, order=order)

    def _breaks(self) -> tuple[Any, ...]:
        return (jnp.asarray(self.energy)[1:-1],)


def with_fixed_tables(model: Any) -> Any:
    """A spectral model with its factors that are tables held fixed, so that others can be free.

    A table by itself stays as it is.
    """
    if not isinstance(model, CompoundSpectralModel):
        return model
    sides = {}
    for name in ("model1", "model2"):
        side = with_fixed_tables(getattr(model, name))
        if isinstance(side, TemplateSpectralModel):
            energy, values = (
                tuple(np.asarray(own, float).tolist()) for own in (side.energy, side.values)
            )
            side = FixedTableSpectralModel(energy, values, side.unit)
        sides[name] = side
    return dataclasses.replace(model, **sides)
