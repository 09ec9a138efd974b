"""Spectral and spatial models of gammapy as those of this package.

Models that are known here by name become these; others are evaluated by gammapy, as
`GammapySpectralModel`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

import jax
import numpy as np
from jax import Array

from jaxprof.foreign import gammapy_class
from jaxprof.models.base import register_model, static
from jaxprof.models.spatial import SpatialModel, spatial_model_from_dict
from jaxprof.models.spectral import (
    CompoundSpectralModel,
    ConstantSpectralModel,
    EBLAbsorptionNormSpectralModel,
    SpectralModel,
    spectral_model_from_dict,
)
from jaxprof.models.spectral_base import SPECTRAL_MODELS
from jaxprof.models.units import DNDE, quantity, to_value


@register_model(kw_only=False)
class GammapySpectralModel(SpectralModel):
    """A spectral model that gammapy evaluates, for those that have no counterpart here.

    It works under jit and vmap, but has no parameters and no derivatives.

    Parameters
    ----------
    model : gammapy.modeling.models.SpectralModel
        It is copied.

    Raises
    ------
    ValueError
        If it is none, or gives neither a differential flux nor a number.
    """

    tag: ClassVar[str] = "gammapy"
    model: Any = static(None)
    unit: str = static(DNDE)

    def __post_init__(self) -> None:
        kind = gammapy_class(self.model)
        if kind is None or not callable(self.model):
            raise ValueError(f"model must be a spectral model of gammapy, got {self.model!r}")
        object.__setattr__(self, "model", self.model.copy())
        value = self.model(quantity([1.0], "TeV"))
        unit = getattr(value, "unit", None)
        if unit is None or unit.is_equivalent(""):
            object.__setattr__(self, "unit", "")
        else:
            to_value(value, DNDE, name=f"gammapy's {kind}")

    def _dnde(self, energy: Array) -> Array:
        def evaluate(energy: Any) -> Any:
            energies = np.asarray(energy)
            values = self.model(quantity(energies.ravel(), "TeV"))
            plain = np.asarray(to_value(values, self.unit, name="the spectral model"))
            return (
                np.broadcast_to(plain, energies.size).reshape(energies.shape).astype(energy.dtype)
            )

        like = jax.ShapeDtypeStruct(energy.shape, energy.dtype)
        return jax.pure_callback(evaluate, like, energy, vmap_method="expand_dims")

    def to_dict(self) -> dict[str, Any]:
        """Dict of the model, as gammapy writes it; of its name for those that gammapy cannot."""
        try:
            return dict(self.model.to_dict())
        except AttributeError:
            # Models without parameters have no tag, and no dict.
            return {"spectral": {"type": type(self.model).__name__, "parameters": []}}

    def _dict(self) -> dict[str, Any]:
        return dict(self.to_dict()["spectral"])

    def __repr__(self) -> str:
        return f"GammapySpectralModel({type(self.model).__name__})"


def spectral_model_from_gammapy(model: Any) -> SpectralModel:
    """The same spectrum as a model of this package.

    Parameters
    ----------
    model : gammapy.modeling.models.SpectralModel
        With the values that its parameters have now; errors, limits and links are left.

    Returns
    -------
    SpectralModel
        Of the class of the same name, part by part for sums, differences and products (so that
        absorption by the extragalactic background light keeps its parameters). Models of other
        classes, or with interpolation options of their own, become a `GammapySpectralModel`.

    Raises
    ------
    ValueError
        If it is no spectral model of gammapy, or its parameters make no sense.
    """
    kind = gammapy_class(model)
    if kind is None or not kind.endswith("SpectralModel"):
        raise ValueError(f"{type(model).__name__} is no spectral model of gammapy")
    # A class of the user's own may compute anything, whatever it derives from.
    own = type(model).__name__ == kind
    if own and kind == "CompoundSpectralModel" and _operator(model) in ("add", "sub", "mul"):
        first, second = map(spectral_model_from_gammapy, (model.model1, model.model2))
        return CompoundSpectralModel(first, second, _operator(model))
    if own and kind == "ScaleSpectralModel":
        factor = ConstantSpectralModel(const=float(model.norm.value), unit="")
        return CompoundSpectralModel(factor, spectral_model_from_gammapy(model.model), "mul")
    if not own or kind not in SPECTRAL_MODELS:
        return GammapySpectralModel(model)
    if kind == "ConstantSpectralModel" and model.const.unit.is_equivalent(""):
        return ConstantSpectralModel(const=float(model.const.quantity.to_value("")), unit="")
    if kind == "EBLAbsorptionNormSpectralModel":
        found: SpectralModel = _absorption(model)
    elif kind != "TemplateSpectralModel":
        return spectral_model_from_dict(model.to_dict())
    elif len(model.energy) < 2:
        return GammapySpectralModel(model)
    else:
        found = spectral_model_from_dict(model.to_dict())
    return found if _agrees(model, found, model.energy) else GammapySpectralModel(model)


def spectral_model_by_gammapy(data: dict[str, Any]) -> SpectralModel:
    """Spectral model of a dict that is not known here, if gammapy knows it.

    Raises
    ------
    ValueError
        If gammapy is not installed, or does not know it either.
    """
    kind = data.get("type")
    message = f"spectral models of type {kind!r} are not known here; known are "
    message += ", ".join(sorted(name for name in SPECTRAL_MODELS if name.endswith("Model")))
    try:
        registry = import_module("gammapy.modeling.models").SPECTRAL_MODEL_REGISTRY
    except ImportError as error:
        raise ValueError(
            f"{message}; gammapy evaluates others where it is installed: pip install "
            "'jaxprof[gammapy]'"
        ) from error
    try:
        model = registry.get_cls(kind).from_dict({"spectral": data})
    except KeyError as error:
        raise ValueError(f"{message}, and gammapy does not know it either") from error
    return spectral_model_from_gammapy(model)


def _operator(model: Any) -> str:
    return str(getattr(model.operator, "__name__", model.operator))


def _agrees(model: Any, found: SpectralModel, nodes: Any) -> bool:
    """Whether a table is interpolated here as gammapy does it, whose options may be others.

    To 1e-6, since tables in single precision have logarithms of that there.
    """
    x = np.log(to_value(nodes, "TeV"))
    middle = 0.5 * (x[1:] + x[:-1])
    # Between the nodes and beyond the ends.
    energies = np.exp(
        np.concatenate([[1.5 * x[0] - 0.5 * x[1]], middle, [1.5 * x[-1] - 0.5 * x[-2]]])
    )
    theirs = np.asarray(to_value(model(quantity(energies, "TeV")), found.unit))
    return bool(
        np.allclose(found(energies), theirs, rtol=1e-9, atol=1e-30 * np.max(np.abs(theirs)))
    )


def _absorption(model: Any) -> EBLAbsorptionNormSpectralModel:
    values = np.asarray(model.data.value)
    # gammapy takes zeros for the smallest number of the precision that the table has.
    tiny = np.finfo(values.dtype if values.dtype.kind == "f" else np.float32).tiny
    return EBLAbsorptionNormSpectralModel(
        energy=model.energy,
        param=np.asarray(getattr(model.param, "value", model.param), float),
        values=np.maximum(values, tiny).astype(float),
        redshift=float(model.redshift.value),
        alpha_norm=float(model.alpha_norm.value),
    )


def spatial_model_from_gammapy(model: Any) -> SpatialModel:
    """The same brightness as a model of this package.

    Parameters
    ----------
    model : gammapy.modeling.models.SpatialModel
        Any but those made of maps, which `jaxprof.sky.gammapy` converts.

    Raises
    ------
    ValueError
        If there is no such model here; the message says what to do.
    """
    kind = gammapy_class(model)
    if kind == "ConstantSpatialModel":
        # Its dict is without the value.
        value = float(model.value.quantity.to_value("sr-1"))
        return spatial_model_from_dict(
            {"type": kind, "parameters": [{"name": "value", "value": value, "unit": "sr-1"}]}
        )
    if type(model).__name__ != kind or not str(kind).endswith("SpatialModel"):
        raise ValueError(
            f"{type(model).__name__} is a spatial model of your own, which is not known here: put "
            "it on a map, TemplateSpatialModel(model.evaluate_geom(geom)) in gammapy, and give that"
        )
    try:
        return spatial_model_from_dict(model.to_dict())
    except ValueError as error:
        raise ValueError(
            f"gammapy's {kind}: {error}; gammapy puts any model on a map, "
            "TemplateSpatialModel(model.evaluate_geom(geom)): give that"
        ) from error
