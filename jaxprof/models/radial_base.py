"""What all radial laws share, and the one that is made of a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxprof.models.base import format_value, parameter, static
from jaxprof.models.base import register_model as radial_model
from jaxprof.models.radial_integrals import RadialIntegrals
from jaxprof.models.units import check, to_value

#: Model classes by class name and by tag.
_BY_NAME: dict[str, Any] = {}


def scales(size: Any, *factors: float) -> tuple[Any, ...]:
    """Multiples of a size at which to split a quadrature of something smooth.

    Without derivatives with respect to the size: the integral does not depend on them.
    """
    return tuple(jax.lax.stop_gradient(jnp.asarray(size)) * factor for factor in factors)


@radial_model
class RadialModel(RadialIntegrals):
    """Base of the radial laws: a surface brightness that depends on the angle from a centre alone.

    Laws are frozen and are JAX pytrees whose leaves are the parameters, the centre ``lon_0``,
    ``lat_0`` included: `jax.grad`, `jax.jit` and `jax.vmap` take them as arguments, and all
    integrals can be differentiated with respect to all parameters. Parameters are numbers;
    `jax.vmap` takes many sets of them.

    Plain angles are in degrees. Quantities, Python numbers and numpy arrays of float64 are computed
    with in float64 even where JAX has it disabled; results then are numpy arrays.

    A law of one's own needs no class, see `from_function`. A subclass is decorated with
    `radial_model` and has fields for its parameters, a ``tag``, and ``evaluate(separation)``, with
    the separations in deg, of any shape; if it has a kink, ``_breaks()``, and
    ``_ring_integral(low, high)`` where there is a closed form.

    Parameters
    ----------
    lon_0, lat_0 : float or Quantity, optional
        Centre [deg].
    frame : str, optional
        Frame of the centre.
    """

    _kind = "radial"
    _by_name = _BY_NAME
    tag: ClassVar[str]
    lon_0: Any = parameter(0.0, unit="deg")
    lat_0: Any = parameter(0.0, unit="deg", kind="latitude")
    frame: str = static("icrs")

    def _parameter_fields(self) -> list[dataclasses.Field[Any]]:
        # the law's own first
        return sorted(super()._parameter_fields(), key=lambda f: f.name in ("lon_0", "lat_0"))

    @staticmethod
    def from_function(
        function: Callable[..., Any],
        *,
        lon_0: Any = 0.0,
        lat_0: Any = 0.0,
        frame: str = "icrs",
        breaks: Sequence[float] | Callable[..., Sequence[Any]] = (),
        **parameters: Any,
    ) -> FunctionRadialModel:
        """Make a law of a function of the separation and of parameters.

        Parameters
        ----------
        function : callable
            ``function(separation, **parameters)``: brightness [cm-2 s-1 sr-1] at separations [deg]
            of any shape, element by element, in `jax.numpy`. A named function, or a lambda that is
            defined once: a new one for each call is compiled each time.
        lon_0, lat_0 : float or Quantity, optional
            Centre [deg].
        frame : str, optional
            Frame of the centre.
        breaks : sequence of float, or callable, optional
            Separations [deg] at which the function has a kink or changes its slope, or
            ``breaks(**parameters)`` that returns these: the quadrature is split there. Not needed
            for a cusp at the centre, which may be any power of the separation that has an integral.
        **parameters : float or array_like
            Names and values of the parameters.

        Returns
        -------
        FunctionRadialModel
            A law like any other: ``model.alpha``, ``model.replace(alpha=...)``, a pytree.

        Raises
        ------
        ValueError
            If a parameter is no number, or `function` or `breaks` does not take these parameters.

        Examples
        --------
        >>> from jaxprof import RadialModel
        >>> law = RadialModel.from_function(
        ...     lambda theta, amplitude, alpha: amplitude * theta**-alpha, amplitude=1e-9, alpha=1.2
        ... )
        >>> law.ring_integral([0.0, 0.1, 0.2]).shape
        (2,)
        """
        return FunctionRadialModel(
            function=function,
            breaks=breaks if callable(breaks) else tuple(float(b) for b in breaks),
            values=dict(parameters),
            lon_0=lon_0,
            lat_0=lat_0,
            frame=frame,
        )

    @property
    def parameter_units(self) -> dict[str, str]:
        """Units of the parameters by name; those of a function of one's own have none."""
        units = {field.name: self._unit(field) for field in self._parameter_fields()}
        return {name: units.get(name, "") for name in self.parameters}

    def __add__(self, other: Any) -> RadialModel:
        if not isinstance(other, RadialModel):
            return NotImplemented
        made: RadialModel = _BY_NAME["sum"](self, other)
        return made


@radial_model
class FunctionRadialModel(RadialModel):
    """A law by a function of one's own, see `RadialModel.from_function`.

    Parameters
    ----------
    function : callable
        ``function(separation, **values)``.
    breaks : tuple of float, or callable
        As in `RadialModel.from_function`.
    values : dict of str to float or array_like
        The parameters of the function; leaves of the pytree, as the centre is.
    lon_0, lat_0, frame : optional
        Centre, as in `RadialModel`.
    """

    tag: ClassVar[str] = "function"
    values: dict[str, Any]
    function: Callable[..., Any] = static(None)
    breaks: Any = static(())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise ValueError(f"function must be callable, got {self.function!r}")
        if taken := sorted(name for name in self.values if hasattr(type(self), name)):
            raise ValueError(f"parameters {taken} have names that every law has; rename them")
        values = {
            name: check(to_value(value, "", name=name), "real", name=name)
            for name, value in self.values.items()
        }
        object.__setattr__(self, "values", values)
        try:
            probe = jax.eval_shape(self.evaluate, jax.ShapeDtypeStruct((2, 3), jnp.zeros(()).dtype))
            self._breaks()
        except TypeError as error:
            raise ValueError(
                f"function (or breaks) with the parameters {sorted(values)} cannot be called, or "
                f"not be traced by JAX: {error}"
            ) from error
        if probe.shape != (2, 3):
            raise ValueError(
                f"function returns the shape {probe.shape} for separations of the shape (2, 3); it "
                "must work element by element"
            )

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if isinstance(values, dict) and name in values:
            return values[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameter values by name, those of the function first."""
        return {**self.values, "lon_0": self.lon_0, "lat_0": self.lat_0}

    def replace(self, **changes: Any) -> FunctionRadialModel:
        """Return a copy with some parameters changed.

        Raises
        ------
        ValueError
            If a name is not a parameter or a value makes no sense.
        """
        own = {name: changes.pop(name) for name in list(changes) if name in self.values}
        if own:
            changes["values"] = {**self.values, **own}
        return super().replace(**changes)

    def evaluate(self, separation: Array) -> Array:
        """Brightness at separations [deg] by the function; neither checked nor compiled."""
        return jnp.asarray(self.function(separation, **self.values))

    def _breaks(self) -> tuple[Any, ...]:
        return tuple(self.breaks(**self.values)) if callable(self.breaks) else self.breaks

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> FunctionRadialModel:
        raise ValueError("type is that of a law made of a function, which is in no file")

    def _dict(self) -> dict[str, Any]:
        raise ValueError("a law made of a function cannot be written: only its parameters could be")

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        items = [f"{key}={format_value(value)}" for key, value in self.values.items()]
        centre = f"lon_0={format_value(self.lon_0, 'deg')}, lat_0={format_value(self.lat_0, 'deg')}"
        return f"RadialModel.from_function({', '.join([name, *items, centre])})"


def radial_model_from_dict(data: dict[str, Any]) -> RadialModel:
    """Make a law of the dict that `RadialModel.to_dict` wrote.

    Parameters
    ----------
    data : dict
        ``{"radial": {"type": ..., "frame": ..., "parameters": [{"name", "value", "unit"}, ...]}}``
        or the inner dict. ``type`` is a class name or a tag. Missing parameters take their
        defaults, missing units are those of the class.

    Returns
    -------
    RadialModel
        A law of one of the classes of `jaxprof.models.radial` or `jaxprof.models.radial_halos`.

    Raises
    ------
    ValueError
        If the type or a parameter is unknown, a unit is wrong, or it is a law made of a function.
    """
    data = data.get("radial", data)
    cls = _BY_NAME.get(str(data.get("type")))
    if cls is None:
        raise ValueError(f"type is {data.get('type')!r}; known laws are {sorted(_BY_NAME)}")
    return cls._from_dict(data)
