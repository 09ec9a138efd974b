"""Sums of radial laws."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxprof.models.base import register_model
from jaxprof.models.radial_base import RadialModel, named_law, radial_model_from_dict
from jaxprof.models.units import is_concrete


@named_law
@register_model
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SumRadialModel(RadialModel):
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
    def parameters(self) -> dict[str, Any]:
        """Parameter values named ``model1.<name>`` and ``model2.<name>``."""
        return {
            f"{side}.{name}": value
            for side in ("model1", "model2")
            for name, value in getattr(self, side).parameters.items()
        }

    def replace(self, **changes: Any) -> SumRadialModel:
        """Return a copy with some parameters changed, ``replace(**{"model1.alpha": 2.0})``.

        Raises
        ------
        ValueError
            If a name is not a parameter or a value makes no sense.
        """
        own: dict[str, dict[str, Any]] = {"model1": {}, "model2": {}}
        for name, value in changes.items():
            side, _, rest = name.partition(".")
            if side not in own or not rest:
                raise ValueError(
                    f"a sum of laws has no parameter {name!r}; it has {sorted(self.parameters)}"
                )
            own[side][rest] = value
        return SumRadialModel(*(getattr(self, side).replace(**own[side]) for side in own))

    @property
    def parameter_units(self) -> dict[str, str]:
        """Units of the parameters, named as in `parameters`."""
        return {
            f"{side}.{name}": unit
            for side in ("model1", "model2")
            for name, unit in getattr(self, side).parameter_units.items()
        }

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

    def _radial_dict(self) -> dict[str, Any]:
        return {
            "type": type(self).__name__,
            "model1": self.model1._radial_dict(),
            "model2": self.model2._radial_dict(),
        }

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> SumRadialModel:
        return cls(*(radial_model_from_dict(data[side]) for side in ("model1", "model2")))

    def __repr__(self) -> str:
        return f"({self.model1!r} + {self.model2!r})"
