r"""Dimensionless functions of energy that spectra are multiplied by: ``spectrum * norm_model``.

Names, parameters and formulas are gammapy's. The result of a product is in cm-2 s-1 TeV-1.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models import spectral_functions as functions
from jaxprof.models.base import parameter, register_model, static
from jaxprof.models.spectral_base import SpectralModel
from jaxprof.models.units import is_concrete, read_number

_model = dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)


class NormSpectralModel(SpectralModel):
    """Base of the dimensionless models; as a spectrum of its own such a model is refused."""

    @property
    def is_norm(self) -> bool:
        """Whether it is a dimensionless factor, not a spectrum: yes."""
        return True


@register_model
@_model
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
@_model
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
@_model
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


@register_model
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PiecewiseNormSpectralModel(NormSpectralModel):
    """Factor given at energies and interpolated between them; constant beyond the first and last.

    Parameters
    ----------
    energy : array_like or Quantity
        Energies [TeV], shape (n,), n >= 2, strictly increasing.
    norms : array_like
        Factors, shape (n,); positive with ``interp="log"``.
    interp : {"log", "lin"}
        Whether factor and energy are interpolated in their logarithms or as they are.

    Raises
    ------
    ValueError
        If the shapes differ, the energies do not increase or the factors make no sense.
    """

    tag: ClassVar[str] = "piecewise-norm"
    energy: Any = parameter(unit="TeV", kind="positive")
    norms: Any = parameter()
    interp: str = static("log")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interp not in ("log", "lin"):
            raise ValueError(f"interp must be 'log' or 'lin', got {self.interp!r}")
        _check_nodes("energy", self.energy)
        if np.shape(self.norms) != np.shape(self.energy):
            raise ValueError(
                f"norms must have the shape of energy, {np.shape(self.energy)}, got "
                f"{np.shape(self.norms)}"
            )
        positive = not is_concrete(self.norms) or np.all(np.asarray(self.norms) > 0)
        if self.interp == "log" and not positive:
            raise ValueError(f"norms must be positive with interp='log', got {self.norms}")

    def _dnde(self, energy: Array) -> Array:
        nodes, norms = jnp.asarray(self.energy), jnp.asarray(self.norms)
        if self.interp == "lin":
            return jnp.interp(energy, nodes, norms)
        return jnp.exp(jnp.interp(jnp.log(energy), jnp.log(nodes), jnp.log(norms)))

    def _breaks(self) -> tuple[Any, ...]:
        return (jnp.asarray(self.energy),)

    def _spectral_dict(self) -> dict[str, Any]:
        return {
            "type": type(self).__name__,
            "parameters": [
                {"name": f"norm_{k}", "value": float(norm)}
                for k, norm in enumerate(np.asarray(self.norms))
            ],
            "energy": {"data": np.asarray(self.energy).tolist(), "unit": "TeV"},
            "interp": self.interp,
        }

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> PiecewiseNormSpectralModel:
        energy = read_number(data["energy"], "data", "TeV", name="energy")
        norms = {item["name"]: item["value"] for item in data.get("parameters", [])}
        n = np.size(getattr(energy, "value", energy))
        missing = [f"norm_{k}" for k in range(n) if f"norm_{k}" not in norms]
        if missing or len(norms) != n:
            raise ValueError(
                f"PiecewiseNormSpectralModel has {n} energies, so its parameters must be norm_0 to "
                f"norm_{n - 1}; got {list(norms)}"
            )
        values = np.array([norms[f"norm_{k}"] for k in range(n)], float)
        return cls(energy=energy, norms=values, interp=data.get("interp", "log"))


@register_model
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EBLAbsorptionNormSpectralModel(NormSpectralModel):
    r"""Absorption by the extragalactic background light: a table of transmissions to a power.

    The transmission is interpolated linearly in its logarithm, in redshift and in log energy, also
    beyond the table, cut to [0, 1] and taken to the power of ``alpha_norm``.

    Parameters
    ----------
    energy : array_like or Quantity
        Energies of the table [TeV], shape (n,), strictly increasing.
    param : array_like
        Redshifts of the table, shape (m,), strictly increasing.
    values : array_like
        Transmissions, shape (m, n), >= 0. Zeros count as the smallest normal number.
    redshift : float, optional
        Redshift of the source.
    alpha_norm : float, optional
        Factor on the optical depth.

    Raises
    ------
    ValueError
        If the shapes do not fit or a number makes no sense.
    """

    tag: ClassVar[str] = "ebl-norm"
    energy: Any = parameter(unit="TeV", kind="positive")
    param: Any = parameter(kind="nonnegative")
    values: Any = parameter(kind="nonnegative")
    redshift: Any = parameter(0.1, kind="nonnegative")
    alpha_norm: Any = parameter(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_nodes("energy", self.energy)
        _check_nodes("param", self.param)
        expected = (*np.shape(self.param), *np.shape(self.energy))
        if np.shape(self.values) != expected:
            raise ValueError(
                f"values must have the shape (param, energy), {expected}, got "
                f"{np.shape(self.values)}"
            )

    def _dnde(self, energy: Array) -> Array:
        values = jnp.asarray(self.values)
        tiny = jnp.finfo(values.dtype).tiny
        table = jnp.log(jnp.maximum(values, tiny))
        at_redshift = _linear(self.redshift, jnp.asarray(self.param), table)
        log_value = _linear(jnp.log(energy), jnp.log(jnp.asarray(self.energy)), at_redshift)
        # A transmission of nothing but the smallest number is none.
        opaque = jnp.exp(log_value) <= 2 * tiny
        depth = -jnp.minimum(jnp.where(opaque, 0.0, log_value), 0.0)
        nothing = jnp.where(jnp.asarray(self.alpha_norm) > 0, 0.0, 1.0)
        return jnp.where(opaque, nothing, jnp.exp(-self.alpha_norm * depth))

    def _breaks(self) -> tuple[Any, ...]:
        return (jnp.asarray(self.energy)[1:-1],)

    def _spectral_dict(self) -> dict[str, Any]:
        items = {item["name"]: item for item in self._parameter_dicts()}
        tables = {
            name: {"data": items[name]["value"], "unit": items[name].get("unit", "")}
            for name in ("energy", "param", "values")
        }
        parameters = [items[name] for name in ("redshift", "alpha_norm")]
        return {"type": type(self).__name__, "parameters": parameters, **tables}

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> EBLAbsorptionNormSpectralModel:
        if "filename" in data:
            raise ValueError(
                f"the table of EBLAbsorptionNormSpectralModel is in the file {data['filename']!r}: "
                "read the model with jaxprof.Models.read, or give energy, param and values"
            )
        units = {"energy": "TeV", "param": "", "values": ""}
        tables = {
            key: read_number(data[key], "data", unit, name=key) for key, unit in units.items()
        }
        parameters = {item["name"]: item["value"] for item in data.get("parameters", [])}
        unknown = set(parameters) - {"redshift", "alpha_norm"}
        if unknown:
            raise ValueError(f"{cls.__name__} has no parameter {sorted(unknown)}")
        return cls(**tables, **parameters)


def _linear(x: Any, nodes: Array, values: Array) -> Array:
    """Values (n, ...) interpolated linearly at ``x``; the outer segments go on beyond the nodes."""
    low = jnp.searchsorted(nodes[1:-1], x, side="right")
    part = (x - nodes[low]) / (nodes[low + 1] - nodes[low])
    if values.ndim > 1:
        part = part[..., jnp.newaxis]
    return (1 - part) * values[low] + part * values[low + 1]


def _check_nodes(name: str, nodes: Any) -> None:
    shape = np.shape(nodes)
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"{name} must have shape (n,) with n >= 2, got shape {shape}")
    if is_concrete(nodes) and np.any(np.diff(np.asarray(nodes)) <= 0):
        raise ValueError(f"{name} must be strictly increasing, got {nodes}")
