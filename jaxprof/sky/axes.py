"""Binned axes of maps: energies, offsets and energy ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

_SCALES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "lin": (lambda x: x, lambda x: x),
    "log": (np.log, np.exp),
    "sqrt": (np.sqrt, np.square),
}


def _values_and_unit(values: Any, unit: Any, what: str) -> tuple[NDArray[np.float64], u.UnitBase]:
    """Split numbers or a Quantity into float64 values and a unit."""
    if not isinstance(values, np.ndarray):
        # A list of quantities ([1 TeV, 10 TeV]) becomes one Quantity.
        values = u.Quantity(values) if _holds_quantities(values) else np.asarray(values, float)
    if isinstance(values, u.Quantity):
        unit = values.unit if unit in ("", None) else u.Unit(unit)
        values = values.to_value(unit)
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{what} must be one-dimensional, got the shape {array.shape}")
    return array, u.Unit(unit or "")


def _holds_quantities(values: Any) -> bool:
    return isinstance(values, u.Quantity) or any(
        isinstance(value, u.Quantity | str) for value in np.atleast_1d(np.asarray(values, object))
    )


class MapAxis:
    """An axis of contiguous bins.

    Parameters
    ----------
    edges : array_like or `~astropy.units.Quantity`
        The ``n + 1`` bin edges, strictly increasing.
    name : str
        Name of the axis: "energy" (reconstructed), "energy_true", "rad", "migra", ...
    unit : str or `~astropy.units.Unit`, optional
        Unit of plain-number edges; a Quantity is converted to it.
    interp : {"lin", "log", "sqrt"}
        Scale in which the axis is regular, or nearly so; it places the bin centres.
    center : array_like or `~astropy.units.Quantity`, optional
        The ``n`` centres, where they are nodes at which a quantity was evaluated
        (an exposure cube). Default: middle of the edges in the scale of `interp`.

    Raises
    ------
    ValueError
        If the edges are not strictly increasing and finite, or not positive on a
        logarithmic axis, or the centres do not lie inside their bins.
    """

    def __init__(
        self,
        edges: Any,
        *,
        name: str,
        unit: Any = "",
        interp: str = "lin",
        center: Any = None,
    ) -> None:
        if interp not in _SCALES:
            raise ValueError(f"interp must be one of {sorted(_SCALES)}, got {interp!r}")
        values, self._unit = _values_and_unit(edges, unit, f"edges of axis {name!r}")
        _check_increasing(values, f"edges of axis {name!r}", 2)
        if interp == "log" and values[0] <= 0:
            raise ValueError(
                f"edges of axis {name!r} must be positive with interp='log', got {values[0]}"
            )
        self._name = str(name)
        self._interp = interp
        self._edges = values
        self._node_type = "edges" if center is None else "center"
        if center is None:
            forward, inverse = _SCALES[interp]
            scaled = forward(values)
            self._center = np.asarray(inverse(0.5 * (scaled[:-1] + scaled[1:])))
        else:
            self._center, _ = _values_and_unit(center, self._unit, f"center of axis {name!r}")
            inside = self._center.shape == (values.size - 1,) and bool(
                np.all((values[:-1] <= self._center) & (self._center <= values[1:]))
            )
            if not inside:
                raise ValueError(
                    f"center of axis {name!r} must hold one value inside each of the "
                    f"{values.size - 1} bins"
                )

    @classmethod
    def from_edges(cls, edges: Any, *, name: str, unit: Any = "", interp: str = "lin") -> MapAxis:
        """Axis from bin edges; see `MapAxis` for the arguments."""
        return cls(edges, name=name, unit=unit, interp=interp)

    @classmethod
    def from_nodes(cls, nodes: Any, *, name: str, unit: Any = "", interp: str = "lin") -> MapAxis:
        """Axis from nodes at which a quantity is given.

        Parameters
        ----------
        nodes : array_like or `~astropy.units.Quantity`
            At least two strictly increasing values. Bin edges are put half-way
            between them in the scale of `interp`; the first and last bin are
            continued symmetrically about their node.
        name, unit, interp
            As for `MapAxis`.

        Raises
        ------
        ValueError
            If there are fewer than two nodes or they do not increase.
        """
        if interp not in _SCALES:
            raise ValueError(f"interp must be one of {sorted(_SCALES)}, got {interp!r}")
        values, unit = _values_and_unit(nodes, unit, f"nodes of axis {name!r}")
        _check_increasing(values, f"nodes of axis {name!r}", 2)
        if interp == "log" and values[0] <= 0:
            raise ValueError(
                f"nodes of axis {name!r} must be positive with interp='log', got {values[0]}"
            )
        forward, inverse = _SCALES[interp]
        x = forward(values)
        middle = 0.5 * (x[:-1] + x[1:])
        edges = inverse(np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]]))
        return cls(edges, name=name, unit=unit, interp=interp, center=values)

    @classmethod
    def from_energy_bounds(
        cls,
        energy_min: Any,
        energy_max: Any,
        nbin: int,
        *,
        name: str = "energy",
        unit: Any = None,
        per_decade: bool = False,
    ) -> MapAxis:
        """Logarithmic energy axis between two energies.

        Parameters
        ----------
        energy_min, energy_max : `~astropy.units.Quantity`, str or float
            Outer edges; plain numbers are in `unit`.
        nbin : int
            Number of bins, or of bins per decade with `per_decade`.
        name : str
            "energy" or "energy_true".
        unit : str, optional
            Unit of the axis; default that of `energy_min`.
        per_decade : bool
            Whether `nbin` counts bins per decade (rounded up to whole bins).

        Raises
        ------
        ValueError
            If `nbin` is not positive or the energies do not increase.
        """
        low, high = u.Quantity(energy_min), u.Quantity(energy_max)
        if unit is None:
            unit = low.unit
        low_value, high_value = (
            float(q.value) if q.unit.is_equivalent("") else float(q.to_value(unit))
            for q in (low, high)
        )
        if not 0 < low_value < high_value:
            raise ValueError(f"energy_min must lie in (0, energy_max), got {low} and {high}")
        if per_decade:
            nbin = int(np.ceil(np.log10(high_value / low_value) * nbin - 1e-9))
        if nbin < 1:
            raise ValueError(f"nbin must be at least 1, got {nbin}")
        edges = np.geomspace(low_value, high_value, nbin + 1)
        return cls(edges, name=name, unit=unit, interp="log")

    @property
    def name(self) -> str:
        """Name of the axis."""
        return self._name

    @property
    def unit(self) -> u.UnitBase:
        """Unit of edges and centres."""
        return self._unit

    @property
    def interp(self) -> str:
        """Scale of the axis: "lin", "log" or "sqrt"."""
        return self._interp

    @property
    def node_type(self) -> str:
        """Kind of the axis: "edges" for bins, "center" where the centres are given nodes."""
        return self._node_type

    @property
    def nbin(self) -> int:
        """Number of bins."""
        return int(self._edges.size - 1)

    @property
    def edges(self) -> u.Quantity:
        """Bin edges, shape ``(n + 1,)``."""
        return u.Quantity(self._edges, self._unit)

    @property
    def center(self) -> u.Quantity:
        """Bin centres or nodes, shape ``(n,)``."""
        return u.Quantity(self._center, self._unit)

    @property
    def bin_width(self) -> u.Quantity:
        """Widths of the bins, shape ``(n,)``."""
        return u.Quantity(np.diff(self._edges), self._unit)

    def edges_tev(self) -> NDArray[np.float64]:
        """Bin edges of an energy axis in TeV, shape ``(n + 1,)``."""
        return self._edges * self._factor_to_tev()

    def center_tev(self) -> NDArray[np.float64]:
        """Bin centres of an energy axis in TeV, shape ``(n,)``."""
        return self._center * self._factor_to_tev()

    def _factor_to_tev(self) -> float:
        try:
            return float(self._unit.to("TeV"))
        except u.UnitConversionError:
            raise ValueError(
                f"axis {self._name!r} has the unit {self._unit.to_string()!r}, which is not "
                "an energy; keV, MeV, GeV and TeV are"
            ) from None

    def squash(self) -> MapAxis:
        """The axis with all bins joined into one."""
        return MapAxis(self._edges[[0, -1]], name=self._name, unit=self._unit, interp=self._interp)

    def rename(self, name: str) -> MapAxis:
        """The same bins under another name."""
        center = self._center if self._node_type == "center" else None
        return MapAxis(self._edges, name=name, unit=self._unit, interp=self._interp, center=center)

    def is_allclose(self, other: MapAxis, *, rtol: float = 1e-6) -> bool:
        """Whether another axis has the same name and the same edges.

        Parameters
        ----------
        other : MapAxis
            Any unit that converts.
        rtol : float
            Tolerance on the edges; the default lets single precision pass.
        """
        if not isinstance(other, MapAxis) or (self.name, self.nbin) != (other.name, other.nbin):
            return False
        if not self._unit.is_equivalent(other.unit):
            return False
        theirs = other.edges.to_value(self._unit)
        # The axis may start at zero, where a relative tolerance is none.
        atol = 1e-9 * float(self._edges[-1] - self._edges[0])
        return bool(np.allclose(self._edges, theirs, rtol=rtol, atol=atol))

    def __eq__(self, other: object) -> bool:
        """Whether another axis is the same: name, scale, kind, and edges and centres to 1e-6.

        As in gammapy, axes in other units may be equal.
        """
        if not isinstance(other, MapAxis):
            return NotImplemented
        if (self._interp, self._node_type) != (other.interp, other.node_type):
            return False
        if not self.is_allclose(other):
            return False
        atol = 1e-9 * float(self._edges[-1] - self._edges[0])
        theirs = other.center.to_value(self._unit)
        return bool(np.allclose(self._center, theirs, rtol=1e-6, atol=atol))

    def __hash__(self) -> int:
        # What equal axes have in common exactly.
        return hash((self._name, self.nbin))

    def __repr__(self) -> str:
        low, high = self._edges[[0, -1]]
        unit = self._unit.to_string()
        span = f"{low:.4g} to {high:.4g} {unit}".rstrip()
        return f"MapAxis({self._name!r}, {self.nbin} bins, {span}, interp={self._interp!r})"


class MapAxes(list[MapAxis]):
    """Axes of a map, the fastest first, by number or by name: ``axes["energy"]``."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for axis in self:
            if axis.name == key:
                return axis
        raise ValueError(f"no axis {key!r}; the axes are {self.names}")

    @property
    def names(self) -> list[str]:
        """Names of the axes."""
        return [axis.name for axis in self]


def _check_increasing(values: NDArray[np.float64], what: str, minimum: int) -> None:
    if values.size < minimum:
        raise ValueError(f"{what}: at least {minimum} values are needed, got {values.size}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{what} must be finite")
    if not np.all(np.diff(values) > 0):
        raise ValueError(f"{what} must be strictly increasing")
