"""Strip units from what users pass, and check the numbers that are known.

This is the only place below `jaxprof.sky` that knows units exist. It never imports astropy for
plain numbers, arrays or quantities.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DNDE = "cm-2 s-1 TeV-1"
FLUX = "cm-2 s-1"
EFLUX = "TeV cm-2 s-1"

_CHECKS = {
    "real": ("finite", lambda x: np.isfinite(x)),
    "positive": ("finite and > 0", lambda x: np.isfinite(x) & (x > 0)),
    "nonnegative": ("finite and >= 0", lambda x: np.isfinite(x) & (x >= 0)),
    "nonzero": ("finite and not 0", lambda x: np.isfinite(x) & (x != 0)),
    "fraction": ("in [0, 1)", lambda x: (x >= 0) & (x < 1)),
    "share": ("in [0, 1]", lambda x: (x >= 0) & (x <= 1)),
    "latitude": ("in [-90, 90] deg", lambda x: (x >= -90) & (x <= 90)),
}


def is_quantity(value: Any) -> bool:
    """Whether ``value`` converts itself between units (astropy's Quantity, Angle, ...)."""
    return hasattr(value, "to_value")


def attach(result: Any, unit: str, *given: Any) -> Any:
    """Return ``result`` as it is, or in ``unit`` if any of the ``given`` is a quantity.

    That is then one of the same package.
    """
    for like in filter(is_quantity, given):
        classes = type(like).__mro__
        # Angle, Longitude, SpectralCoord ... refuse other units than their own kind
        cls = next((c for c in classes if c.__name__ == "Quantity"), classes[0])
        return cls(np.asarray(result), unit)
    return result


def quantity(value: Any, unit: str) -> Any:
    """Numbers as astropy's Quantity in ``unit``, for what works with nothing else."""
    from astropy.units import Quantity

    return Quantity(np.asarray(value, float), unit)


def is_concrete(value: Any) -> bool:
    """Whether the numbers in ``value`` are known now (not a JAX tracer)."""
    return not isinstance(value, jax.core.Tracer)


def to_value(value: Any, unit: str, *, name: str = "value") -> Any:
    """Return ``value`` as plain numbers in ``unit``, ``""`` for dimensionless ones.

    Plain numbers are taken to be in ``unit`` already. Anything with a ``to_value(unit)`` method is
    converted by it; a string such as ``"1 TeV"`` is parsed by astropy. Concrete scalars become
    Python floats, which JAX treats as weakly typed: the dtype of a result then follows the
    energies. Tracers and JAX arrays pass unchanged.

    Raises
    ------
    ValueError
        If the unit cannot be converted or the value is not a number; the message has its ``name``.
    """
    original = value
    if isinstance(value, str):
        # Only strings need a parser of units: plain numbers must work without astropy.
        from astropy.units import Quantity

        try:
            value = Quantity(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}={original!r} is not a number with a unit; give for example a float in "
                f"{unit or 'no unit'} or a string that ends in one"
            ) from error
    if is_quantity(value):
        try:
            value = value.to_value(unit)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}={original!s} cannot be converted to {unit or 'a dimensionless number'}"
            ) from error
    if isinstance(value, jax.Array):  # tracers included
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must be a number or an array of numbers in {unit or 'no unit'}, "
            f"got {original!r}"
        )
    if array.ndim == 0:
        return float(array)
    return array if array.dtype.kind == "f" else array.astype(float)


def check(value: Any, kind: str, *, name: str) -> Any:
    """Return ``value`` if its numbers are of a ``kind``, see `_CHECKS`, or not known yet.

    Raises
    ------
    ValueError
        If a concrete number is not of this kind; the message has its ``name``.
    """
    wanted, test = _CHECKS[kind]
    if is_concrete(value) and not np.all(test(np.asarray(value))):
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return value


def numbers(value: Any, unit: str, name: str, kind: str = "real") -> Any:
    """Return what a user gave as a checked array of floats, the dtype of floats kept."""
    value = check(to_value(value, unit, name=name), kind, name=name)
    # Not jnp.asarray, which compiles a program for every shape.
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def read_number(data: dict[str, Any], key: str, own_unit: str, *, name: str) -> Any:
    """Return ``data[key]``, as a quantity if ``data["unit"]`` is not ``own_unit``."""
    value, unit = data[key], data.get("unit", own_unit)
    if unit == own_unit:
        return value
    # Another unit can only be read with astropy, which dicts of our own never need.
    from astropy.units import Quantity

    try:
        return Quantity(value, unit)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has a value or unit that cannot be read: {data}") from error
