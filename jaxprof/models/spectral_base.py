"""What all spectral models share, and the two models that their arithmetic makes."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.compilation import is_traced, jit_by_size
from jaxprof.models.base import (
    Model,
    PairOfModels,
    in_double_precision,
    parameter,
    register_model,
    static,
)
from jaxprof.models.spectral_functions import N_PANELS, integrate_log_energy
from jaxprof.models.units import DNDE, EFLUX, FLUX, attach, is_concrete, numbers

# One compiled program per kind of model, dtype and shape; parameter values are arguments.
_evaluate = jit_by_size(lambda model, energy: model._dnde(energy))
_evaluate_bins = jit_by_size(
    lambda model, low, high: (
        model._dnde(jnp.sqrt(low * high)),
        model._moment(low, high, 0),
        model._moment(low, high, 1),
    )
)
_integrate = jit_by_size(
    lambda model, low, high, order, n_panels: model._moment_by(n_panels, low, high, order),
    static_argnames=("order", "n_panels"),
)

SHARED_BINS = 32
"""Energy bins that fewer are padded to: most profiles share the program of one kind of model."""


def _bin_fluxes(model: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """What `_evaluate_bins` gives; the same program for all lists of few bins."""
    rows = isinstance(low, np.ndarray) and low.ndim == 1 and np.shape(high) == low.shape
    if not rows or is_traced((model, high)) or any(map(np.ndim, jax.tree.leaves(model))):
        return _evaluate_bins(model, low, high)
    n, padding = len(low), (0, max(SHARED_BINS - len(low), 0))
    with jax.ensure_compile_time_eval():
        found = _evaluate_bins(
            model, *(np.pad(ends, padding, constant_values=1.0) for ends in (low, high))
        )
    return tuple(np.asarray(fluxes)[:n] for fluxes in found)


#: Model classes by class name and by tag, filled when a class is defined.
SPECTRAL_MODELS: dict[str, type[SpectralModel]] = {}


class SpectralModel(Model):
    """Base of the spectral models: a differential flux of energy, and its integrals.

    Models are frozen and are JAX pytrees whose leaves are the parameters: `jax.grad`,
    `jax.jit` and `jax.vmap` take them as arguments. Parameters given as Python numbers are
    weakly typed, so results follow the dtype of the energies. Parameters may also be
    arrays that broadcast with the energies. Quantities, Python numbers and numpy arrays of
    float64 are computed with in float64 even where JAX has it disabled; results then are numpy
    arrays.

    A subclass defines ``tag`` and ``_dnde(energy)``, and ``_moment(low, high, order)`` where
    there is a closed form.
    """

    _kind = "spectral"
    _by_name = SPECTRAL_MODELS
    tag: ClassVar[str]
    unit: str = DNDE
    """That of values: that of a differential flux, or none of dimensionless factors."""

    def __post_init__(self) -> None:
        if self.unit not in (DNDE, ""):
            raise ValueError(f"unit must be {DNDE!r} or '', got {self.unit!r}")
        super().__post_init__()

    @property
    def is_norm(self) -> bool:
        """Whether it is a dimensionless factor, not a spectrum."""
        return not self.unit

    def _unit(self, field: dataclasses.Field[Any]) -> str:
        unit = super()._unit(field)
        return self.unit if unit == DNDE else unit

    def _dnde(self, energy: Array) -> Array:
        raise NotImplementedError

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        return self._moment_by(N_PANELS, low, high, order)

    def _moment_by(self, n_panels: int, low: Array, high: Array, order: int) -> Array:
        """`_moment`, with so many panels in quadratures."""
        if type(self)._moment is not SpectralModel._moment:
            return self._moment(low, high, order)
        how: dict[str, Any] = {"order": order, "breaks": self._breaks(), "n_panels": n_panels}
        return integrate_log_energy(self._dnde, low, high, **how)

    def _breaks(self) -> tuple[Any, ...]:
        """Energies [TeV] where the derivative jumps; quadratures of products split there."""
        return ()

    @in_double_precision
    def __call__(self, energy: Any) -> Any:
        """Differential flux.

        Parameters
        ----------
        energy : array_like or Quantity
            Energies, in TeV if plain; > 0.

        Returns
        -------
        jax.Array or Quantity
            dN/dE in cm-2 s-1 TeV-1, of the class of ``energy`` if that is a quantity. Factors
            (``is_norm``) have no unit.

        Raises
        ------
        ValueError
            If a concrete energy is not finite and > 0, or has a wrong unit.
        """
        result = _evaluate(self, numbers(energy, "TeV", "energy", "positive"))
        return attach(result, self.unit, energy)

    @in_double_precision
    def _integrated(self, energy_min: Any, energy_max: Any, order: int, unit: str) -> Any:
        if self.is_norm:
            raise ValueError(
                f"{type(self).__name__} is a factor, not a spectrum: multiply one by it, such as "
                "PowerLawSpectralModel() * norm_model"
            )
        low, high = _edges(energy_min, energy_max)
        if is_concrete(low) and is_concrete(high) and np.any(np.asarray(high) < np.asarray(low)):
            raise ValueError(f"energy_max={energy_max} must not be below energy_min={energy_min}")
        result = _integrate(self, low, high, order, N_PANELS)
        return attach(result, unit, energy_min, energy_max)

    def integral(self, energy_min: Any, energy_max: Any) -> Any:
        """Flux between two energies [cm-2 s-1].

        Parameters
        ----------
        energy_min, energy_max : array_like or Quantity
            Bin edges, in TeV if plain, broadcast against each other.

        Returns
        -------
        jax.Array or Quantity
            In closed form where there is one, otherwise by Gauss-Legendre quadrature in
            log energy with a relative error below 1e-10 (float64) for smooth spectra.

        Raises
        ------
        ValueError
            If concrete energies are not finite, not > 0, or the wrong way round.
        """
        return self._integrated(energy_min, energy_max, 0, FLUX)

    @in_double_precision
    def flux_by(self, n_panels: int, low: Any, high: Any) -> Any:
        """`integral` by so many panels where it is a quadrature; see `panels_within`."""
        return _integrate(self, *_edges(low, high), 0, n_panels)

    def energy_flux(self, energy_min: Any, energy_max: Any) -> Any:
        """Energy flux between two energies [TeV cm-2 s-1]; arguments as `integral`."""
        return self._integrated(energy_min, energy_max, 1, EFLUX)

    @in_double_precision
    def bin_fluxes(self, energy_min: Any, energy_max: Any) -> dict[str, Array]:
        """All fluxes of energy bins in one compiled call.

        Parameters
        ----------
        energy_min, energy_max : array_like
            Bin edges [TeV].

        Returns
        -------
        dict of array
            "dnde" [cm-2 s-1 TeV-1] at the geometric mean of the edges, "flux" [cm-2 s-1] and
            "eflux" [TeV cm-2 s-1] between them.
        """
        low, high = _edges(energy_min, energy_max)
        return dict(zip(("dnde", "flux", "eflux"), _bin_fluxes(self, low, high), strict=True))

    def plot(self, energy_bounds: Any, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the model; see `jaxprof.plotting.plot_spectral_model` for the arguments."""
        from jaxprof.plotting import plot_spectral_model

        return plot_spectral_model(self, energy_bounds, ax=ax, **kwargs)

    def _dict(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "parameters": self._parameter_dicts()}

    def __add__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(self, _as_model(other, self), "add")

    def __radd__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(_as_model(other, self), self, "add")

    def __sub__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(self, _as_model(other, self), "sub")

    def __rsub__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(_as_model(other, self), self, "sub")

    def __mul__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(self, _as_factor(other), "mul")

    def __rmul__(self, other: Any) -> CompoundSpectralModel:
        return CompoundSpectralModel(_as_factor(other), self, "mul")

    # Quantities and arrays on the left must leave the arithmetic to the model.
    __array_ufunc__ = None
    __array_priority__ = 1e6


class NormSpectralModel(SpectralModel):
    """Base of the dimensionless models; as a spectrum of its own such a model is refused."""

    unit = ""


def _edges(energy_min: Any, energy_max: Any) -> tuple[Any, Any]:
    low = numbers(energy_min, "TeV", "energy_min", "positive")
    return low, numbers(energy_max, "TeV", "energy_max", "positive")


def _as_model(value: Any, like: SpectralModel) -> SpectralModel:
    """A term of a sum: a number is a factor in a sum with factors, and else a flux."""
    if like.is_norm:
        return _as_factor(value)
    return value if isinstance(value, SpectralModel) else ConstantSpectralModel(const=value)


def _as_factor(value: Any) -> SpectralModel:
    if isinstance(value, SpectralModel):
        return value
    return ConstantSpectralModel(const=value, unit="")


@register_model
class ConstantSpectralModel(SpectralModel):
    """The same differential flux at all energies.

    Parameters
    ----------
    const : float or Quantity, optional
        The constant [``unit``].
    unit : {"cm-2 s-1 TeV-1", ""}, optional
        ``""`` makes it a dimensionless factor; ``2 * model`` makes such a constant.
    """

    tag: ClassVar[str] = "const"
    const: Any = parameter(1e-12, unit=DNDE)
    unit: str = static(DNDE)

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> ConstantSpectralModel:
        items = data.get("parameters", [])
        if items and not items[0].get("unit"):
            return cls(const=items[0]["value"], unit="")
        return super()._from_dict(data)

    def _dnde(self, energy: Array) -> Array:
        return self.const * jnp.ones_like(energy)

    def _moment(self, low: Array, high: Array, order: int) -> Array:
        # the factored form keeps the digits of narrow bins
        return self.const * (high - low) * (1.0 if order == 0 else (high + low) / 2)


@register_model(kw_only=False)
class CompoundSpectralModel(PairOfModels, SpectralModel):
    """Sum, difference or product of two spectral models: ``m1 + m2``, ``m1 - m2``, ``m1 * m2``.

    Numbers take part: ``2 * m`` scales, ``m + 1e-13`` adds a constant flux (to a dimensionless
    factor of energy, a constant).

    Parameters
    ----------
    model1, model2 : SpectralModel
        The components, subtrees of the pytree. In a product one of them is read as a
        dimensionless function of energy: the plain numbers are multiplied and the result
        is again taken in cm-2 s-1 TeV-1.
    operator : {"add", "sub", "mul"}
        What to do with them.

    Raises
    ------
    ValueError
        If one is no spectral model, the operator unknown, or a factor added to a spectrum.
    """

    tag: ClassVar[str] = "compound"
    model1: SpectralModel
    model2: SpectralModel
    operator: str = static("add")

    def __post_init__(self) -> None:
        for name in ("model1", "model2"):
            if not isinstance(getattr(self, name), SpectralModel):
                raise ValueError(f"{name} must be a spectral model, got {getattr(self, name)!r}")
        if self.operator not in ("add", "sub", "mul"):
            raise ValueError(f"operator must be 'add', 'sub' or 'mul', got {self.operator!r}")
        if self.operator != "mul" and self.model1.is_norm != self.model2.is_norm:
            raise ValueError(
                f"model1={self.model1!r} and model2={self.model2!r}: one is a dimensionless "
                "factor, and factors multiply a spectrum, they are not added to it"
            )

    @property
    def unit(self) -> str:  # type: ignore[override]
        """That of a differential flux, or none if both are dimensionless factors."""
        return "" if self.model1.is_norm and self.model2.is_norm else DNDE

    def _combine(self, first: Any, second: Any) -> Any:
        if self.operator == "mul":
            return first * second
        return first + second if self.operator == "add" else first - second

    def _dnde(self, energy: Array) -> Array:
        return self._combine(self.model1._dnde(energy), self.model2._dnde(energy))

    def _moment_by(self, n_panels: int, low: Array, high: Array, order: int) -> Array:
        args, both = (n_panels, low, high, order), (self.model1, self.model2)
        if self.operator != "mul":
            return self._combine(*(model._moment_by(*args) for model in both))
        for factor, model in (both, both[::-1]):
            if isinstance(factor, ConstantSpectralModel):
                return factor.const * model._moment_by(*args)
        return super()._moment_by(*args)

    def _breaks(self) -> tuple[Any, ...]:
        return self.model1._breaks() + self.model2._breaks()

    def __getattr__(self, name: str) -> Any:
        """Parameters of the components by the names of `parameters`."""
        side, _, inner = name.partition(".")
        if inner and side in ("model1", "model2"):
            return getattr(getattr(self, side), inner)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _dict(self) -> dict[str, Any]:
        return {**super()._dict(), "operator": self.operator}

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> CompoundSpectralModel:
        model1, model2 = (spectral_model_from_dict(data[key]) for key in ("model1", "model2"))
        return cls(model1, model2, data["operator"])

    def __repr__(self) -> str:
        symbol = {"add": "+", "sub": "-", "mul": "*"}[self.operator]
        return f"({self.model1!r} {symbol} {self.model2!r})"


def spectral_model_from_dict(data: dict[str, Any]) -> SpectralModel:
    """Make a model of the dict that `SpectralModel.to_dict` or gammapy's ``to_dict`` wrote.

    Parameters
    ----------
    data : dict
        ``{"spectral": {"type": ..., "parameters": [{"name", "value", "unit"}, ...]}}`` or the
        inner dict. ``type`` is a class name or a tag. Missing parameters take their
        defaults, missing units are those of the class, but a constant without unit is a
        dimensionless factor; errors, limits and links are dropped.

    Returns
    -------
    SpectralModel
        A model of one of the classes of `jaxprof.models.spectral`.

    Raises
    ------
    ValueError
        If the type or a parameter is unknown, or a unit is wrong.
    """
    data = data.get("spectral", data)
    cls = SPECTRAL_MODELS.get(str(data.get("type")))
    if cls is None:
        kind = str(data.get("type"))
        near = get_close_matches(kind, SPECTRAL_MODELS, n=1)
        public = [name for name in sorted(SPECTRAL_MODELS) if name.endswith("SpectralModel")]
        raise ValueError(
            f"type is {kind!r}; did you mean {near[0]!r}?"
            if near
            else f"type is {kind!r}; known models are {', '.join(public)}"
        )
    return cls._from_dict(data)
