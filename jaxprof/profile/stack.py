"""Many flux profiles along a further axis: a light curve of profiles, or sets of regions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from astropy.time import Time

from jaxprof.html import facts, titled
from jaxprof.likelihood.data import Status
from jaxprof.profile import quantities as quantities_
from jaxprof.profile.checks import selected_indices
from jaxprof.profile.fluxprofile import FluxProfile
from jaxprof.profile.quantities import Array
from jaxprof.profile.stack_axis import profile_times, stack_axis
from jaxprof.profile.stack_outputs import StackOutputs


class FluxProfileStack(StackOutputs):
    """Flux profiles with a further axis, "time" or "set"; what `run_stack` of the estimators gives.

    Every quantity of the profiles is an attribute, with the profiles as first axis: ``stack.flux``
    is (T, B, G). Profiles that have fewer bins than others (of other regions) are padded: by NaN,
    False, empty text, zeros of integers, and "fully masked" as status.

    Parameters
    ----------
    profiles : sequence of FluxProfile
        With the same energy groups.
    names : sequence of str
        Name of each.
    axis : {"time", "set"}, optional
        What they lie along. By default "time" if all have good time intervals that follow each
        other in time without an overlap, otherwise "set".

    Attributes
    ----------
    profiles : tuple of FluxProfile
    names : tuple of str
    axis : str
    shape : tuple of int
        Numbers of profiles, of bins (the largest) and of energy groups.

    Raises
    ------
    ValueError
        For no profiles, other energy groups, names that occur twice, an unknown axis, or "time"
        without good time intervals.
    """

    __slots__ = ("axis", "names", "profiles", "shape")
    profiles: tuple[FluxProfile, ...]
    names: tuple[str, ...]
    axis: str
    shape: tuple[int, int, int]

    def __init__(
        self,
        profiles: Sequence[FluxProfile],
        names: Sequence[str],
        *,
        axis: str | None = None,
    ) -> None:
        self.profiles, self.names = tuple(profiles), tuple(map(str, names))
        if not self.profiles:
            raise ValueError("profiles: a stack needs one or more")
        if len(self.names) != len(self.profiles) or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"names must be one for each of {len(self.profiles)} profiles, got {self.names}"
            )
        first = self.profiles[0]
        for name, own in zip(self.names, self.profiles, strict=True):
            edges = own.energy_edges
            if edges.shape != first.energy_edges.shape or not np.allclose(
                edges, first.energy_edges, rtol=1e-6
            ):
                raise ValueError(f"{name}: its energy groups are not those of {self.names[0]}")
            if own.norm_unit != first.norm_unit:
                raise ValueError(
                    f"{name}: its norms are in {own.norm_unit!r}, those of {self.names[0]} in "
                    f"{first.norm_unit!r}"
                )
        self.shape = (len(self.profiles), max(p.shape[0] for p in self.profiles), first.shape[1])
        self.axis = stack_axis(self.profiles, self.names, axis)

    @property
    def time_min(self) -> Time:
        """Begin of the first good time interval of each profile, (T,); ValueError without any."""
        return profile_times(self.profiles, self.names)[:, 0]

    @property
    def time_max(self) -> Time:
        """End of the last good time interval of each profile, (T,); ValueError without any."""
        return profile_times(self.profiles, self.names)[:, 1]

    @property
    def energy_edges(self) -> Array:
        """Edges of the energy groups in TeV, (G, 2)."""
        return self.profiles[0].energy_edges

    # A sequence of profiles

    def __len__(self) -> int:
        return len(self.profiles)

    def __iter__(self) -> Iterator[FluxProfile]:
        return iter(self.profiles)

    def __getitem__(self, key: Any) -> Any:
        """A profile by name or index; a stack for a slice."""
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no profile {key!r}; there are {', '.join(self.names)}")
            key = self.names.index(key)
        if isinstance(key, slice):
            return self.slice_by_idx({self.axis: key})
        return self.profiles[key]

    def slice_by_idx(self, slices: Mapping[str, Any]) -> FluxProfileStack:
        """Part of a stack.

        Parameters
        ----------
        slices : mapping of str to slice, list of int or array of bool
            Which profiles to keep under the name of the stack's axis, "time" or "set"; which energy
            groups under "energy", and which bins under the name of the profiles' axis.

        Returns
        -------
        FluxProfileStack
            On the same axis.

        Raises
        ------
        ValueError
            As `FluxProfile.slice_by_idx`.
        """
        rest = dict(slices)
        kept = selected_indices(self.axis, rest.pop(self.axis, slice(None)), len(self))
        profiles = [self.profiles[k] for k in kept]
        if rest:
            valid = (self.axis, self.profiles[0].axis.name, "energy")
            if unknown := [name for name in rest if name not in valid]:
                raise ValueError(f"slices has no axis {unknown[0]!r}; valid are {', '.join(valid)}")
            profiles = [own.slice_by_idx(rest) for own in profiles]
        return FluxProfileStack(profiles, [self.names[k] for k in kept], axis=self.axis)

    # Quantities

    @property
    def available_quantities(self) -> list[str]:
        """Names of the quantities that all profiles have and that have a value per bin."""
        first, *others = (own.available_quantities for own in self.profiles)
        common = [name for name in first if all(name in own for own in others)]
        return [n for n in common if n not in (*quantities_.MATRICES, *quantities_.NEEDED)]

    def quantity(self, name: str) -> u.Quantity:
        """Values of a quantity of all profiles with their unit, as attributes have them.

        Parameters
        ----------
        name : str
            One of `available_quantities`.

        Returns
        -------
        Quantity, shape (T, B, G, ...)
            Counts of several datasets are summed.

        Raises
        ------
        ValueError
            If a profile has no such quantity, or scans have other numbers of norms.
        """
        if name not in self.available_quantities:
            raise ValueError(f"no quantity {name!r}; there are {self.available_quantities}")
        unit = self.profiles[0][name].unit
        return u.Quantity(self._stacked(name), unit)

    def _stacked(self, name: str) -> Array:
        parts = [bin_values(own, name) for own in self.profiles]
        if len({part.shape[1:] for part in parts}) > 1:
            raise ValueError(f"{name} has other shapes in each profile: {[p.shape for p in parts]}")
        kind = np.result_type(*parts)
        fill: Any = np.nan if kind.kind == "f" else np.zeros((), kind)[()]
        if name == "status":
            fill = Status.FULLY_MASKED
        found = np.full((len(parts), self.shape[1], *parts[0].shape[1:]), fill, kind)
        for own, part in zip(found, parts, strict=True):
            own[: len(part)] = part
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in FluxProfileStack.__slots__:
            raise AttributeError(f"FluxProfileStack object has no attribute {name!r}")
        if name not in self.available_quantities:
            raise AttributeError(
                f"FluxProfileStack has no {name!r}; available: "
                f"{', '.join(self.available_quantities)}"
            )
        data, unit = self._stacked(name), quantities_.unit(name)
        return u.Quantity(data, unit) if unit else data

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.available_quantities})

    def variability(self) -> Table:
        """Likelihood-ratio test of constancy: the same norm in all profiles, bin by bin.

        Returns
        -------
        Table
            See `jaxprof.profile.variability.variability`.

        Raises
        ------
        ValueError
            As `jaxprof.profile.variability.variability`.
        """
        from jaxprof.profile.variability import variability

        return variability(self)

    @classmethod
    def read(cls, filename: str | os.PathLike[str]) -> FluxProfileStack:
        """Read what `write` wrote.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits" or ".fits.gz".

        Returns
        -------
        FluxProfileStack

        Raises
        ------
        ValueError, FileNotFoundError
            See `jaxprof.io.stack.read_stack`.
        """
        from jaxprof.io.stack import read_stack

        return read_stack(filename)

    def __repr__(self) -> str:
        n, bins, groups = self.shape
        return (
            f"<FluxProfileStack: {n} profiles ({self.axis}), {bins} bins, {groups} energy groups>"
        )

    def _repr_html_(self) -> str:
        shown = {
            "Profiles": f"{len(self)}, along {self.axis}: {', '.join(self.names)}",
            "Bins": str(self.shape[1]),
            "Energy groups": str(self.shape[2]),
        }
        return titled(type(self).__name__, facts(shown))


def bin_values(profile: FluxProfile, name: str) -> Array:
    """Values of a quantity, (B, G, ...); counts of several datasets are summed."""
    data = profile[name].data
    if name.endswith("_ref") and name != "npred_excess_ref":
        # The reference fluxes of all bins are one vector.
        return np.broadcast_to(data, profile.shape)
    counted = name in quantities_.PER_DATASET or name.startswith("npred_excess")
    return data.sum(axis=2) if counted and data.ndim == 3 else data
