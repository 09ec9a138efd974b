"""Changed copies of a flux profile: parts of it, other axes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.table import Table

from jaxprof.likelihood.data import Data
from jaxprof.profile.checks import selected_indices
from jaxprof.profile.joint import cut_groups, cut_matrices
from jaxprof.profile.limits import map_data
from jaxprof.profile.quantities import PER_BIN, Array
from jaxprof.sky.regions import ProfileAxis, axis_of_regions

if TYPE_CHECKING:
    from jaxprof.profile import FluxProfile


def _coordinate(value: Any, unit: str, name: str, default: float) -> float:
    """A position in a unit; numbers are in it already."""
    if value is None:
        return default
    quantity = u.Quantity(value)
    if quantity.unit == u.dimensionless_unscaled:
        return float(quantity.value)
    try:
        return float(quantity.to_value(unit))
    except u.UnitConversionError as error:
        raise ValueError(f"{name}: {error}") from None


def _energy(value: Any, name: str, default: float) -> float:
    if value is not None and u.Quantity(value).unit == u.dimensionless_unscaled:
        raise ValueError(f"{name} is {value!r}; give an energy with its unit, as '10 GeV'")
    return _coordinate(value, "TeV", name, default)


MOVED = 0.01
"""Part of an energy by which the edge of a group may lie outside of a range."""


class ProfileSlices:
    """Gives changed copies of a profile; the original stays as it is."""

    axis: ProfileAxis
    energy_edges: Array
    shape: tuple[int, int]
    quantities: dict[str, Array]
    reference_model: Any
    reference_models: list[Any] | None
    regions: list[Any] | None
    reference: dict[str, Array]
    likelihood_data: Data | None
    nuisance: Table | None
    goodness: Table | None

    def _copy(self, **changes: Any) -> FluxProfile:
        state = {name: value for name, value in vars(self).items() if name != "shape"}
        return type(self)(**(state | changes))  # type: ignore[return-value]

    def copy(self) -> FluxProfile:
        """A profile with arrays of its own."""
        return copy.deepcopy(self)  # type: ignore[return-value]

    def slice_by_idx(self, slices: Mapping[str, Any]) -> FluxProfile:
        """Part of a profile.

        Parameters
        ----------
        slices : mapping of str to slice, list of int or array of bool
            Which groups to keep under "energy", and which bins under the name of the axis,
            "projected-distance" as a rule.

        Returns
        -------
        FluxProfile
            The original stays as it is. The covariance and the response are those of the bins
            that are kept; nuisance parameters and goodness remain those of the whole fit.

        Raises
        ------
        ValueError
            For an unknown axis, an integer (which would drop the axis), indices that do not
            exist, or a selection of nothing.
        """
        axes = {self.axis.name: self.shape[0], "energy": self.shape[1]}
        if "projected-distance" in slices and self.axis.name not in slices:
            # The axis along the profile, whatever it shows.
            slices = {
                self.axis.name if k == "projected-distance" else k: v for k, v in slices.items()
            }
        if unknown := [name for name in slices if name not in axes]:
            raise ValueError(f"slices has no axis {unknown[0]!r}; valid are {', '.join(axes)}")
        bins, groups = (
            selected_indices(name, slices.get(name, slice(None)), size)
            for name, size in axes.items()
        )

        def take(array: Any) -> Any:
            return np.asarray(array)[bins][:, groups]

        stored = {
            name: array[bins] if name in PER_BIN else take(array)
            for name, array in self.quantities.items()
        }
        models = self.reference_models
        return self._copy(
            quantities=cut_matrices(stored, bins),
            axis=self.axis.take(bins),
            energy_edges=self.energy_edges[groups],
            regions=None if self.regions is None else [self.regions[i] for i in bins],
            likelihood_data=map_data(take, self.likelihood_data),
            reference={
                name: flux[groups] if flux.ndim == 1 else take(flux)
                for name, flux in self.reference.items()
            },
            reference_model=self.reference_model if models is None else models[bins[0]],
            reference_models=None if models is None else [models[i] for i in bins],
            nuisance=cut_groups(self.nuisance, groups, "group"),
            goodness=cut_groups(self.goodness, groups, None),
        )

    def slice_by_energy(self, energy_min: Any = None, energy_max: Any = None) -> FluxProfile:
        """The energy groups within a range.

        Parameters
        ----------
        energy_min, energy_max : Quantity or str, optional
            Groups that lie within are kept, to 1 % of an energy, as edges that were asked for move
            to those of the data; by default all.

        Returns
        -------
        FluxProfile

        Raises
        ------
        ValueError
            If there is no such group.
        """
        low, high = (
            _energy(energy_min, "energy_min", 0.0),
            _energy(energy_max, "energy_max", np.inf),
        )
        edges = self.energy_edges
        # Edges of an estimator move to those of the data, by up to this without a word.
        inside = (edges[:, 0] >= low * (1 - MOVED)) & (edges[:, 1] <= high * (1 + MOVED))
        if not inside.any():
            groups = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in edges)
            raise ValueError(
                f"no energy group lies between {low:.4g} and {high:.4g} TeV; there are {groups} TeV"
            )
        return self.slice_by_idx({"energy": inside})

    def slice_by_coord(self, slices: Mapping[str, Any]) -> FluxProfile:
        """The bins and energy groups of which the reference lies within a range.

        Parameters
        ----------
        slices : mapping of str to slice
            ``{"projected-distance": slice("0.2 deg", "1 deg"), "energy": slice("10 GeV", None)}``;
            either end may be None. Numbers are in the unit of the axis, or TeV.

        Returns
        -------
        FluxProfile

        Raises
        ------
        ValueError
            For an unknown axis, no slice, or a selection of nothing.
        """
        along = {self.axis.name: self.axis.ref, "projected-distance": self.axis.ref}
        values = {**along, "energy": np.sqrt(self.energy_edges[:, 0] * self.energy_edges[:, 1])}
        masks = {}
        for name, part in slices.items():
            if name not in values:
                valid = ", ".join(map(repr, dict.fromkeys((self.axis.name, "energy"))))
                raise ValueError(f"slices has no axis {name!r}; valid are {valid}")
            if not isinstance(part, slice) or part.step is not None:
                raise ValueError(f"slices[{name!r}] must be slice(low, high), got {part!r}")
            unit = "TeV" if name == "energy" else str(self.axis.unit)
            low, high = (
                _coordinate(end, unit, f"slices[{name!r}]", default)
                for end, default in ((part.start, -np.inf), (part.stop, np.inf))
            )
            masks[name] = (values[name] >= low) & (values[name] <= high)
            if not masks[name].any():
                raise ValueError(
                    f"slices[{name!r}] selects nothing: references go from "
                    f"{values[name].min():.4g} to {values[name].max():.4g} {unit}"
                )
        return self.slice_by_idx(masks)

    def with_axis(self, axis: Any, *, frame: str = "galactic", unit: Any = None) -> FluxProfile:
        """The profile with another horizontal axis, for figures, tables and files.

        Parameters
        ----------
        axis : ProfileAxis, str or ndarray
            What the bins lie along: "longitude", "latitude", "path" (the length along the centres),
            "region-index", or "projected-distance", as `~jaxprof.regions.axis_of_regions` makes
            them of the regions; or an axis of your own, of times for instance,
            ``ProfileAxis.from_edges(edges, name="phase")``; or its edges (n + 1,) or (n, 2), a
            Quantity or Time.
        frame : str
            Frame of longitude and latitude: "galactic", "icrs", ...
        unit : str or Unit, optional
            Another unit for it, such as "arcmin".

        Returns
        -------
        FluxProfile

        Raises
        ------
        ValueError
            If the regions are not known, the axis is not, or it has another number of bins.
        """
        if isinstance(axis, str):
            if self.regions is None:
                raise ValueError("with_axis: the regions of this profile are not known")
            axis = axis_of_regions(self.regions, axis, frame=frame)
        elif not isinstance(axis, ProfileAxis):
            axis = ProfileAxis.from_edges(axis)
        if len(axis) != self.shape[0]:
            raise ValueError(f"axis has {len(axis)} bins, the profile {self.shape[0]}")
        return self._copy(axis=axis if unit is None else axis.to(unit))
