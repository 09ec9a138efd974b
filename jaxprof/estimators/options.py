"""Options of the estimators and their checks: each error names the option and what would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import astropy.units as u
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.datasets.gammapy import as_datasets, attached_names
from jaxprof.estimators.scan_grid import Scan
from jaxprof.foreign import gammapy_class
from jaxprof.sky import MapAxis
from jaxprof.sky.gammapy import as_axis
from jaxprof.sky.models import as_spectral_model
from jaxprof.sky.regions import region_list
from jaxprof.types import Array

SELECTIONS = ("errn-errp", "ul", "scan", "sensitivity")


@dataclass(slots=True)
class NormParameter:
    """The norm: its bounds, and the values at which the likelihood is scanned.

    Parameters
    ----------
    min, max : float
        Bounds; NaN (the default) leaves the norm free, so that it may be negative.
    scan_min, scan_max : float
        Ends of the scan of all bins; the defaults are gammapy's.
    scan_n_sigma : float, optional
        Gives each bin a scan of its own instead, evenly spaced over so many standard deviations by
        its likelihood on both sides of its norm.
    scan_n_values : int
        Number of values of the scan.
    scan_values : array, optional
        The values themselves, in the place of all this.
    interp : {"log", "lin"}
        Spacing between ``scan_min`` and ``scan_max``.
    """

    min: float = np.nan
    max: float = np.nan
    scan_min: float = 0.2
    scan_max: float = 5.0
    scan_n_sigma: float | None = None
    scan_n_values: int = 11
    scan_values: Any = None
    interp: str = "log"

    def scan(self) -> Scan:
        """The norms of the scan, checked."""
        if self.scan_values is not None:
            values = np.asarray(self.scan_values, float)
            if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)):
                raise ValueError(
                    f"norm.scan_values must be a list of finite numbers, got {self.scan_values!r}"
                )
            return Scan(values)
        one_of("norm.interp", self.interp, ("log", "lin"))
        if not is_integer(self.scan_n_values) or self.scan_n_values < 1:
            raise ValueError(
                f"norm.scan_n_values must be a positive integer, got {self.scan_n_values!r}"
            )
        if self.scan_n_sigma is not None:
            if not is_number(self.scan_n_sigma) or not 0 < self.scan_n_sigma < np.inf:
                raise ValueError(
                    f"norm.scan_n_sigma must be a positive number, got {self.scan_n_sigma!r}"
                )
            return Scan(n_values=self.scan_n_values, n_sigma=float(self.scan_n_sigma))
        start = 0.0 if self.interp == "log" else -np.inf
        if not start < self.scan_min < self.scan_max < np.inf:
            raise ValueError(
                "norm.scan_min must be below norm.scan_max, and both positive with interp='log', "
                f"got {self.scan_min} and {self.scan_max}"
            )
        space = np.geomspace if self.interp == "log" else np.linspace
        return Scan(space(self.scan_min, self.scan_max, self.scan_n_values))

    def values(self) -> Array | None:
        """Values of the scan of all bins, shape (N,); None if each has its own."""
        return self.scan().values

    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds as `jaxprof.core.fit_norms` takes them; None for no bound."""
        for name, value in (("min", self.min), ("max", self.max)):
            if not is_number(value):
                raise ValueError(
                    f"norm.{name} must be a number, or NaN for no bound, got {value!r}"
                )
        low, high = (None if np.isnan(value) else float(value) for value in (self.min, self.max))
        if low is not None and high is not None and not low < high:
            raise ValueError(f"norm.min must be below norm.max, got {low} and {high}")
        return low, high


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is asked for of each bin, beyond its norm."""

    quantities: frozenset[str]
    """Any of ``"errn-errp"``, ``"ul"``, ``"scan"``, ``"sensitivity"``."""
    n_sigma: float
    n_sigma_ul: float
    n_sigma_sensitivity: float
    """Numbers of standard deviations of errors, upper limits and sensitivities."""
    interval: str
    """Kind of the intervals that upper limits are the ends of."""
    scan: Scan
    """Norms that likelihoods are scanned at."""

    def __contains__(self, name: str) -> bool:
        return name in self.quantities

    @property
    def meta(self) -> dict[str, str]:
        """What a profile keeps of the kind of its limits: nothing of the default."""
        asked = "ul" in self and self.interval != "profile"
        return {"interval": self.interval} if asked else {}


def source_names(source: Any) -> tuple[str, ...]:
    """Names of the models of datasets that a profile measures."""
    names = (source,) if isinstance(source, str) else () if source is None else source
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"source must be the name of a model or a list of names, got {source!r}")
    return tuple(names)


def check_source_names(names: Iterable[str], datasets: Any) -> None:
    """Raise for names that no model of the datasets has."""
    known = attached_names(datasets)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"source: no dataset has a model {', '.join(map(repr, unknown))}; they have "
            f"{', '.join(map(repr, sorted(known))) or 'none'}"
        )


def dataset_list(datasets: Any, leave_out: Iterable[str] = ()) -> list[MapDataset]:
    """One dataset or several, of gammapy too, as a list.

    Counts of models that are attached to gammapy's are part of these, but for the names in
    `leave_out`.
    """
    given = datasets
    datasets = as_datasets(datasets, leave_out)
    found = [datasets] if isinstance(datasets, MapDataset) else datasets
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise TypeError(
            f"datasets must be MapDataset or a list of these, not {type(datasets).__name__}"
        )
    found = list(found)
    for dataset in found:
        if not isinstance(dataset, MapDataset):
            raise TypeError(
                f"datasets must be MapDataset or a list of these, found {type(dataset).__name__}; "
                "read a file with MapDataset.read(path)"
            )
    if not found:
        raise ValueError("datasets is empty")
    # Of gammapy's a new one is made each time.
    same = given if isinstance(given, list | tuple) else found
    if len({id(dataset) for dataset in same}) < len(found):
        raise ValueError("datasets has the same dataset twice: its counts would count twice")
    return _named_apart(found)


def _named_apart(datasets: list[MapDataset]) -> list[MapDataset]:
    """The datasets, copies with numbered names of those that have the name of another."""
    names = [dataset.name for dataset in datasets]
    if len(set(names)) == len(names):
        return datasets
    used, found = set(names), []
    for position, dataset in enumerate(datasets):
        if names.count(dataset.name) > 1:
            number = names[: position + 1].count(dataset.name)
            while (name := f"{dataset.name}-{number}") in used:
                number += 1
            used.add(name)
            dataset = copy(dataset)
            dataset._name = name
        found.append(dataset)
    return found


def profile_regions(regions: Any) -> list[Any]:
    """The regions of a profile, at least two."""
    if regions is None:
        raise ValueError(
            "regions: a profile needs some; see make_orthogonal_rectangle_sky_regions and "
            "make_concentric_annulus_sky_regions"
        )
    found = region_list(regions)
    if len(found) < 2:
        raise ValueError(f"regions: a profile needs at least two regions, got {len(found)}")
    return found


def checked_energy_edges(energy_edges: Any) -> u.Quantity:
    """Energy edges with a unit, increasing; those of an axis too."""
    axis = as_axis(energy_edges)
    if isinstance(axis, MapAxis):
        energy_edges = axis.edges
    try:
        if isinstance(energy_edges, list | tuple):
            # Each may be a text, "10 GeV".
            energy_edges = [u.Quantity(edge) for edge in energy_edges]
        edges = u.Quantity(energy_edges)
        values = edges.to_value("TeV")
    except (TypeError, ValueError, u.UnitConversionError) as error:
        raise ValueError(
            f"energy_edges must be energies with a unit, such as [10, 2000] * u.GeV: {error}"
        ) from error
    if values.ndim != 1 or len(values) < 2 or not values[0] > 0 or not np.all(np.diff(values) > 0):
        raise ValueError(f"energy_edges must be two or more increasing energies, got {edges}")
    return edges


def checked_spectral_model(model: Any) -> Any:
    """Something that can be folded through the response."""
    if gammapy_class(model) == "SkyModel":
        raise ValueError(
            "spectral_model is gammapy's SkyModel; the profile knows where: give its spectral_model"
        )
    model = as_spectral_model(model)
    if isinstance(model, type) or not callable(model) or not hasattr(model, "integral"):
        raise ValueError(
            f"spectral_model must be a spectral model such as PowerLawSpectralModel(index=2.3), "
            f"not {model.__name__ if isinstance(model, type) else type(model).__name__}"
        )
    if getattr(model, "is_norm", False):
        raise ValueError(
            f"spectral_model is a {type(model).__name__}, a factor: multiply a spectrum by it"
        )
    return model


def norm_from_gammapy(norm: Any) -> NormParameter:
    """The bounds and the scan of gammapy's `Parameter`; its value is where fits start there."""
    if norm.frozen:
        raise ValueError("norm is gammapy's Parameter and frozen, but the norm is what is fitted")
    found = NormParameter(min=float(norm.min), max=float(norm.max), interp=norm.interp)
    own = getattr(norm, "_scan_values", None)
    if own is not None:
        found.scan_values = np.asarray(own, float)
    # Unless told, gammapy 1.3 scans the value and some errors around it: nothing, before a fit.
    elif None not in (norm.scan_min, norm.scan_max) and norm.scan_min != norm.scan_max:
        found.scan_min, found.scan_max = float(norm.scan_min), float(norm.scan_max)
        found.scan_n_values = int(norm.scan_n_values)
    else:
        found.interp = "log"
    return found


def norm_parameter(norm: Any) -> NormParameter:
    """The norm from what the user gave for it."""
    names = [field.name for field in fields(NormParameter)]
    if gammapy_class(norm) == "Parameter":
        norm = norm_from_gammapy(norm)
    if isinstance(norm, Mapping) and set(norm) <= {*names, "name", "value"}:
        # gammapy's dicts have a name and a start, which no fit here depends on.
        norm = NormParameter(**{key: norm[key] for key in norm if key in names})
    norm = NormParameter() if norm is None else norm
    if not isinstance(norm, NormParameter):
        raise ValueError(
            f"norm must be a NormParameter or a dict of {', '.join(names)}, got {norm!r}"
        )
    norm.bounds()
    norm.scan()
    return norm


def is_number(value: Any) -> bool:
    """Whether something is a real number."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether something is a whole number by its type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def positive(name: str, value: float) -> float:
    """A positive number."""
    if not is_number(value) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return value


def optional_selection(selection: str | Iterable[str] | None) -> tuple[str, ...]:
    """Names of the optional quantities, in a fixed order."""
    if selection is None:
        return ()
    if not isinstance(selection, Iterable) or hasattr(selection, "unit"):
        raise ValueError(f"selection_optional must be a list of names or 'all', got {selection!r}")
    wanted = [selection] if isinstance(selection, str) else list(selection)
    if "all" in wanted:
        return SELECTIONS
    unknown = [name for name in wanted if name not in SELECTIONS]
    if unknown:
        raise ValueError(
            f"selection_optional: unknown {', '.join(map(repr, unknown))}; "
            f"choose from {', '.join(map(repr, SELECTIONS))} or 'all'"
        )
    return tuple(name for name in SELECTIONS if name in wanted)


def switch(name: str, value: bool) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def one_of(name: str, value: str, valid: Iterable[str], why_not: Mapping[str, str] = {}) -> str:
    """A value that the option takes; of some of them the error says why it does not."""
    if isinstance(value, str) and value in why_not:
        raise ValueError(why_not[value])
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}, got {value!r}")
    return value
