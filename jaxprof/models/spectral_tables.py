"""Spectral models that are tables: fluxes or factors at energies, and transmissions of light."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.models import spectral_functions as functions
from jaxprof.models.base import parameter, register_model, static
from jaxprof.models.spectral_base import CompoundSpectralModel, NormSpectralModel, SpectralModel
from jaxprof.models.units import DNDE, is_concrete, is_quantity, read_number


@register_model(kw_only=False)
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
        if is_quantity(self.values) and not self.values.unit.to_string():
            object.__setattr__(self, "unit", "")
        super().__post_init__()
        check_nodes("energy", self.energy)
        if np.shape(self.values) != np.shape(self.energy):
            raise ValueError(
                f"values must have the shape of energy, {np.shape(self.energy)}, got "
                f"{np.shape(self.values)}"
            )

    def _dnde(self, energy: Array) -> Array:
        return functions.template(energy, self.energy, self.values)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        return functions.template_integral(low, high, self.energy, self.values, order=order)

    def _breaks(self) -> tuple[Any, ...]:
        return (jnp.asarray(self.energy)[1:-1],)

    def _dict(self) -> dict[str, Any]:
        arrays = {
            item["name"]: {"data": item["value"], "unit": item.get("unit", "")}
            for item in self._parameter_dicts()
        }
        return {"type": type(self).__name__, "parameters": [], **arrays}

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> TemplateSpectralModel:
        energy = read_number(data["energy"], "data", "TeV", name="energy")
        unit = DNDE if data["values"].get("unit", DNDE) else ""
        return cls(energy, read_number(data["values"], "data", unit, name="values"), unit)


@register_model(kw_only=False)
class FixedTableSpectralModel(TemplateSpectralModel):
    """A `TemplateSpectralModel` whose table is no parameter: part of the structure of a pytree."""

    tag: ClassVar[str] = "fixed-table"
    energy: tuple[float, ...] = static(())
    values: tuple[float, ...] = static(())


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
            side = FixedTableSpectralModel(energy=energy, values=values, unit=side.unit)
        sides[name] = side
    return dataclasses.replace(model, **sides)


@register_model
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
        check_nodes("energy", self.energy)
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

    def _dict(self) -> dict[str, Any]:
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
        check_nodes("energy", self.energy)
        check_nodes("param", self.param)
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

    def _dict(self) -> dict[str, Any]:
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


def check_nodes(name: str, nodes: Any) -> None:
    """Refuse what are no two or more increasing numbers."""
    shape = np.shape(nodes)
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"{name} must have shape (n,) with n >= 2, got shape {shape}")
    if is_concrete(nodes) and np.any(np.diff(np.asarray(nodes)) <= 0):
        raise ValueError(f"{name} must be strictly increasing, got {nodes}")
