"""Sums of radial laws."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxprof.models.base import PairOfModels, register_model
from jaxprof.models.radial_base import RadialModel, radial_model_from_dict
from jaxprof.models.units import is_concrete


@register_model(kw_only=False)
class SumRadialModel(PairOfModels, RadialModel):
    """Sum of two laws: ``law1 + law2``.

    Parameters
    ----------
    model1, model2 : RadialModel
        The laws, subtrees of the pytree, in the same frame. They may have different centres, but
        for rings, which are around both.

    Raises
    ------
    ValueError
        If one is no radial law, or their frames differ.
    """

    tag: ClassVar[str] = "sum"
    # no centre of its own
    lon_0: ClassVar[Any] = None  # type: ignore[misc]
    lat_0: ClassVar[Any] = None  # type: ignore[misc]
    model1: RadialModel
    model2: RadialModel

    def __post_init__(self) -> None:
        for name in ("model1", "model2"):
            if not isinstance(getattr(self, name), RadialModel):
                raise ValueError(f"{name} must be a radial law, got {getattr(self, name)!r}")
        if self.model1.frame != self.model2.frame:
            raise ValueError(
                f"model2 is in frame {self.model2.frame!r}, but model1 in {self.model1.frame!r}"
            )
        object.__setattr__(self, "frame", self.model1.frame)

    @property
    def parameter_units(self) -> dict[str, str]:
        """Units of the parameters, named as in `parameters`."""
        return self._of_both(lambda model: dict(model.parameter_units))

    def ring_integral(self, edges: Any) -> Any:
        """Flux of rings around the centre of both laws, see `RadialModel.ring_integral`.

        Raises
        ------
        ValueError
            Also if the centres are known to be different.
        """
        centres = self._centres
        if is_concrete(centres[0][0]) and any(
            all(is_concrete(x) for x in other) and not np.array_equal(other, centres[0])
            for other in centres[1:]
        ):
            raise ValueError(
                f"edges: rings have one centre, but the laws have {centres}; integrate each of them"
            )
        return super().ring_integral(edges)

    @property
    def _centres(self) -> list[Any]:
        models = (self.model1, self.model2)
        return [
            centre
            for m in models
            for centre in (m._centres if isinstance(m, SumRadialModel) else [(m.lon_0, m.lat_0)])
        ]

    def evaluate(self, separation: Array) -> Array:
        """Sum of the brightness at separations [deg] from the centre of each."""
        return self.model1.evaluate(separation) + self.model2.evaluate(separation)

    def _at(self, lon: Array, lat: Array) -> Array:
        return self.model1._at(lon, lat) + self.model2._at(lon, lat)

    def _on_cusp(self, lon: Array, lat: Array) -> Array:
        return self.model1._on_cusp(lon, lat) | self.model2._on_cusp(lon, lat)

    def _ring_integral(self, low: Array, high: Array) -> Array:
        return self.model1._ring_integral(low, high) + self.model2._ring_integral(low, high)

    def _polygon_integral(self, lon: Array, lat: Array) -> Array:
        return self.model1._polygon_integral(lon, lat) + self.model2._polygon_integral(lon, lat)

    def _check_scalars(self) -> None:
        self.model1._check_scalars()
        self.model2._check_scalars()

    def _in_domain(self) -> Any:
        return self.model1._in_domain() & self.model2._in_domain()

    def _check_rings(self, inner: float) -> None:
        self.model1._check_rings(inner)
        self.model2._check_rings(inner)

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> SumRadialModel:
        return cls(*(radial_model_from_dict(data[side]) for side in ("model1", "model2")))

    def __repr__(self) -> str:
        return f"({self.model1!r} + {self.model2!r})"
