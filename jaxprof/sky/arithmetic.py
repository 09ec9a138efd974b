"""Arithmetic of maps: with maps on the same pixels, numbers, arrays and quantities."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.sky.geometry import WcsGeom


class MapArithmetic:
    """Operators of maps, which give new maps.

    Of two maps the pixels must be the same; the axes too, unless one of them has bins of one each
    (an image, or a sum over energies), which then serves all bins of the other. Units are those
    of `~astropy.units.Quantity`: sums convert, products multiply. Comparisons, ``==`` and ``!=``
    too, give masks, and masks know ``&``, ``|``, ``^`` and ``~``.

    Raises
    ------
    ValueError
        If pixels, axes, shapes or units do not fit together.
    """

    geom: WcsGeom
    data: NDArray[Any]
    unit: u.UnitBase
    # Arrays and quantities leave operations with maps to the maps.
    __array_ufunc__ = None

    @property
    def quantity(self) -> u.Quantity:
        """Data with unit."""
        return self.data << self.unit

    @classmethod
    def _made(cls, geom: WcsGeom, data: NDArray[Any], unit: u.UnitBase) -> Self:
        make: Any = cls
        made: Self = make(geom, data, unit)
        return made

    def _combined(self, function: Callable[[Any, Any], Any], other: Any, swapped: bool) -> Self:
        geom, theirs = self.geom, other
        if isinstance(other, MapArithmetic):
            geom, theirs = _common_geom(self.geom, other.geom), other.quantity
        elif isinstance(other, str | bytes) or not (
            np.isscalar(other) or isinstance(other, np.ndarray | u.Quantity)
        ):
            return NotImplemented
        pair = (theirs, self.quantity) if swapped else (self.quantity, theirs)
        try:
            result = function(*pair)
        except (u.UnitsError, TypeError, ValueError) as error:
            raise ValueError(
                f"a map of shape {self.data.shape} and unit {self.unit.to_string()!r} cannot be "
                f"combined with that: {error}"
            ) from error
        if np.shape(result) != geom.data_shape:
            raise ValueError(
                f"a map of shape {geom.data_shape} cannot be combined with an array of shape "
                f"{np.shape(theirs)}"
            )
        return self._made(geom, np.asarray(getattr(result, "value", result)), _unit(result))

    def _logical(self, function: Callable[[Any, Any], Any], other: Any) -> Self:
        theirs = other.data if isinstance(other, MapArithmetic) else np.asarray(other)
        if self.data.dtype != bool or theirs.dtype != bool:
            raise ValueError("&, | and ^ are for masks; compare maps first (map > 0)")
        geom = self.geom
        if isinstance(other, MapArithmetic):
            geom = _common_geom(self.geom, other.geom)
        return self._made(geom, function(self.data, theirs), u.dimensionless_unscaled)

    def __add__(self, other: Any) -> Self:
        return self._combined(operator.add, other, False)

    def __radd__(self, other: Any) -> Self:
        # So that sum() of maps works.
        if np.isscalar(other) and other == 0:
            return self
        return self._combined(operator.add, other, True)

    def __sub__(self, other: Any) -> Self:
        return self._combined(operator.sub, other, False)

    def __rsub__(self, other: Any) -> Self:
        return self._combined(operator.sub, other, True)

    def __mul__(self, other: Any) -> Self:
        return self._combined(operator.mul, other, False)

    def __rmul__(self, other: Any) -> Self:
        return self._combined(operator.mul, other, True)

    def __truediv__(self, other: Any) -> Self:
        return self._combined(operator.truediv, other, False)

    def __rtruediv__(self, other: Any) -> Self:
        return self._combined(operator.truediv, other, True)

    def __pow__(self, power: float) -> Self:
        return self._combined(operator.pow, power, False)

    def __neg__(self) -> Self:
        return self._combined(operator.mul, -1, False)

    def __lt__(self, other: Any) -> Self:
        return self._combined(operator.lt, other, False)

    def __le__(self, other: Any) -> Self:
        return self._combined(operator.le, other, False)

    def __gt__(self, other: Any) -> Self:
        return self._combined(operator.gt, other, False)

    def __ge__(self, other: Any) -> Self:
        return self._combined(operator.ge, other, False)

    def __eq__(self, other: Any) -> Self:  # type: ignore[override]
        # The ufuncs raise for units that do not fit, where == of quantities is False.
        return self._combined(np.equal, other, False)

    def __ne__(self, other: Any) -> Self:  # type: ignore[override]
        return self._combined(np.not_equal, other, False)

    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Self:
        return self._logical(operator.and_, other)

    def __or__(self, other: Any) -> Self:
        return self._logical(operator.or_, other)

    def __xor__(self, other: Any) -> Self:
        return self._logical(operator.xor, other)

    def __invert__(self) -> Self:
        return self._logical(operator.xor, np.True_)


def _unit(result: Any) -> u.UnitBase:
    return getattr(result, "unit", u.dimensionless_unscaled)


def _common_geom(one: WcsGeom, two: WcsGeom) -> WcsGeom:
    """Geometry of what two maps are combined to; ValueError if they do not fit together."""
    if not one.is_allclose_image(two):
        raise ValueError(
            "the maps have other pixels; bring one to those of the other with interp_to_geom(geom)"
        )
    if all(axis.nbin == 1 for axis in two.axes) and len(two.axes) <= len(one.axes):
        return one
    if all(axis.nbin == 1 for axis in one.axes) and len(one.axes) <= len(two.axes):
        return two
    if not one.is_allclose(two):
        raise ValueError(f"the maps have other axes, {list(one.axes)} and {list(two.axes)}")
    return one
