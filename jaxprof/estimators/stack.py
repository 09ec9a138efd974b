"""The entries of a stack of profiles: which datasets and regions each is made from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.user_warning import warn_again, warn_user

Estimator = TypeVar("Estimator")
Result = TypeVar("Result")


@dataclass(frozen=True)
class StackEntry:
    """One entry of a stack."""

    name: str
    """Its name."""
    datasets: Any
    """What is fitted."""
    regions: Any = None
    """Bins of the profile, if they are not those of the estimator."""
    said: dict[str, list[str]] = field(default_factory=dict)
    """Warnings, and the names of the entries that they are for; one dict for all entries."""

    def of(self, estimator: Estimator) -> Estimator:
        """The estimator with the regions of this entry."""
        if self.regions is None:
            return estimator
        found: Any = copy.copy(estimator)
        self.named(partial(setattr, found, "regions", self.regions))
        return found

    def named(self, function: Callable[[], Result]) -> Result:
        """Call a function; errors name the entry, and warnings are kept for `warn_together`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = function()
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error
        for each in caught:
            if issubclass(each.category, UserWarning):
                names = self.said.setdefault(str(each.message), [])
                if self.name not in names:
                    names.append(self.name)
            else:
                warn_again(each)
        return found


def stack_entries(datasets: Any, regions: Mapping[str, Any] | None) -> list[StackEntry]:
    """Entries of what the user gave, see `FluxProfileEstimator.run_stack`.

    Raises
    ------
    ValueError
        For no entries, names that are no text or occur twice, or two mappings.
    """
    entries: list[StackEntry] = []
    said: dict[str, list[str]] = {}
    if regions is not None:
        if isinstance(datasets, Mapping) or not isinstance(regions, Mapping):
            raise ValueError(
                "regions must be a mapping of names to regions, and datasets those that all share: "
                "run_stack(dataset, regions={'east': ..., 'west': ...})"
            )
        entries = [StackEntry(name, datasets, own, said) for name, own in regions.items()]
    elif isinstance(datasets, Mapping):
        entries = [StackEntry(name, own, said=said) for name, own in datasets.items()]
    else:
        if isinstance(datasets, MapDataset | str) or not isinstance(datasets, Iterable):
            raise ValueError(
                "datasets must be a mapping of names to datasets, {'2019': dataset, ...}, or a list"
                f" of them, not {type(datasets).__name__}; run() takes a single one"
            )
        entries = [StackEntry(getattr(own, "name", ""), own, said=said) for own in datasets]
    if not entries:
        raise ValueError(f"{'datasets' if regions is None else 'regions'}: a stack needs entries")
    names = [entry.name for entry in entries]
    if any(not isinstance(name, str) or not name.strip() for name in names):
        raise ValueError(f"names of a stack must be text, got {names}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the name {twice[0]!r} occurs twice; give a mapping of names to datasets")
    return entries


def warn_together(entries: Sequence[StackEntry]) -> None:
    """Issue the warnings of all entries, each once with the names that it is for."""
    said = entries[0].said
    for message, names in said.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
        warn_user(f"{shown}: {message}")
    said.clear()


def check_groups(entries: Sequence[StackEntry], energy_edges: Sequence[Any]) -> None:
    """Raise ValueError unless all entries have the same energy groups."""
    for entry, edges in zip(entries, energy_edges, strict=True):
        first = energy_edges[0]
        if edges.shape != first.shape or not np.allclose(edges, first, rtol=1e-6):
            raise ValueError(
                f"{entry.name}: energy groups are {edges.tolist()} TeV, those of "
                f"{entries[0].name} {first.tolist()}: give energy_edges that lie on the "
                "reconstructed axes of all datasets"
            )
