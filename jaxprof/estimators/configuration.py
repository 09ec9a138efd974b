"""The configuration that the two estimators share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import astropy.units as u
import numpy as np

from jaxprof.attributes import KnownAttributes
from jaxprof.datasets import MapDataset
from jaxprof.datasets.gti import joined_gti
from jaxprof.estimators.fit_warnings import Bins
from jaxprof.estimators.options import (
    Selection,
    check_source_names,
    checked_energy_edges,
    checked_spectral_model,
    dataset_list,
    norm_parameter,
    one_of,
    optional_selection,
    positive,
    profile_regions,
    source_names,
    switch,
)
from jaxprof.estimators.stack import StackEntry, stack_entries, warn_together
from jaxprof.html import facts, titled
from jaxprof.inference.levels import confidence_level, sigma_of_limits
from jaxprof.inference.named_intervals import KINDS, UPPER_ONLY, intervals
from jaxprof.inference.toys import toys
from jaxprof.likelihood import Likelihood
from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.profile import FluxProfile
from jaxprof.profile.limits import options_of_toys
from jaxprof.profile.stack import FluxProfileStack
from jaxprof.profile.stack_axis import overlap_in_time
from jaxprof.reduce.joint.expectation import with_models_as_counts
from jaxprof.reduce.region_view import LIKELIHOODS
from jaxprof.sky.regions import profile_axis
from jaxprof.types import Array
from jaxprof.user_warning import warn_user


def _spectral_model(model: Any) -> Any:
    return PowerLawSpectralModel() if model is None else checked_spectral_model(model)


COMMON_CHECKS: dict[str, Callable[[Any], Any]] = {
    "regions": profile_regions,
    "spectral_model": _spectral_model,
    "energy_edges": checked_energy_edges,
    "n_sigma": partial(positive, "n_sigma"),
    "n_sigma_ul": partial(positive, "n_sigma_ul"),
    "n_sigma_sensitivity": partial(positive, "n_sigma_sensitivity"),
    "interval": partial(one_of, "interval", valid=KINDS),
    "selection_optional": optional_selection,
    "sum_over_energy_groups": partial(switch, "sum_over_energy_groups"),
    "norm": norm_parameter,
    "likelihood": partial(one_of, "likelihood", valid=LIKELIHOODS),
    "source": source_names,
}
"""What makes of each option what the estimator works with, or raises."""


REPLACED = {
    "fit": "norms are minimised to rounding, without a minimiser to choose",
    "n_jobs": "all bins are fitted at once, on all cores",
    "parallel_backend": "all bins are fitted at once, on all cores or on a GPU",
    "reoptimize": (
        "FluxProfileEstimator fits the norms alone; ForwardFoldingProfileEstimator fits "
        "background, sources and norms together"
    ),
}
"""Options of gammapy's estimator that have no use here, and what is there instead."""


class ProfileEstimator(KnownAttributes):
    """Options that every estimator of a profile has; each documents them itself.

    Options are attributes. Those assigned later are checked and completed as those given at first.
    """

    _word: ClassVar[str] = "option"

    def __init__(
        self,
        regions: Any = None,
        *,
        spectral_model: Any = None,
        energy_edges: u.Quantity = (1.0, 10.0) * u.TeV,
        n_sigma: float = 1,
        n_sigma_ul: float | None = None,
        n_sigma_sensitivity: float = 5,
        interval: str = "profile",
        cl: float | None = None,
        selection_optional: Any = None,
        sum_over_energy_groups: bool = False,
        norm: Any = None,
        mask_policy: str = "coverage",
        likelihood: str = "region",
        reference_solid_angle: str = "pixels",
        source: Any = None,
        precision: str = "float64",
        spectrum: Any = None,
        **unknown: Any,
    ) -> None:
        for name in [name for name in unknown if name in REPLACED]:
            if unknown.pop(name) is not None:
                warn_user(f"{name} does nothing here: {REPLACED[name]}")
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}; it takes "
                f"{', '.join(self._options())}"
            )
        if spectral_model is not None and spectrum is not None:
            raise ValueError("give spectral_model or spectrum (its older name), not both")
        self.regions = regions
        self.spectral_model = spectral_model if spectral_model is not None else spectrum
        self.energy_edges = energy_edges
        self.n_sigma = n_sigma
        self.n_sigma_ul = sigma_of_limits(n_sigma_ul, cl)
        self.n_sigma_sensitivity = n_sigma_sensitivity
        self.interval = interval
        self.selection_optional = selection_optional
        self.sum_over_energy_groups = sum_over_energy_groups
        self.norm = norm
        self.mask_policy = mask_policy
        self.likelihood = likelihood
        self.reference_solid_angle = reference_solid_angle
        self.source = source
        self.precision = precision

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        return tuple(cls._checks)

    @property
    def cl(self) -> float:
        """Confidence level of the upper limits, ``n_sigma_ul`` as a probability: 2 is 0.9545."""
        return confidence_level(n_sigma=self.n_sigma_ul)

    @cl.setter
    def cl(self, level: float) -> None:
        self.n_sigma_ul = sigma_of_limits(cl=level)

    @property
    def spectrum(self) -> Any:
        """The older name of ``spectral_model``."""
        return self.spectral_model

    @spectrum.setter
    def spectrum(self, model: Any) -> None:
        self.spectral_model = model

    def _shown(self) -> dict[str, Any]:
        """The options as they are shown to the user."""
        return {
            **{name: getattr(self, name) for name in self._options()},
            "regions": f"{len(self.regions)} {type(self.regions[0]).__name__}, ...",
            "selection_optional": list(self.selection_optional),
        }

    def _repr_html_(self) -> str:
        return titled(type(self).__name__, facts(self._shown()))

    def __str__(self) -> str:
        shown = self._shown()
        width = max(map(len, shown)) + 1
        lines = [f"{name:{width}}: {shown[name]}" for name in sorted(shown)]
        return "\n".join([type(self).__name__, "-" * len(type(self).__name__), "", *lines])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.regions)} regions>"

    def run_stack(
        self,
        datasets: Any,
        *,
        regions: Mapping[str, Any] | None = None,
        axis: str | None = None,
    ) -> FluxProfileStack:
        """Estimate many profiles in one call: of time bins, or of sets of regions.

        Parameters
        ----------
        datasets : mapping of str to datasets, or list of datasets
            By name what each profile is fitted to, as `run` takes it: time bins, event types,
            observations. A list makes a profile of each of its datasets, under the dataset's name.
            With `regions` the datasets that all sets of regions are fitted to. A dataset cannot be
            split by time here: its counts are binned, so that bins of time are made where events
            are filled into maps.
        regions : mapping of str to regions, optional
            By name the regions of each profile, in place of the estimator's.
        axis : {"time", "set"}, optional
            What the profiles lie along. By default "time" if all have good time intervals that
            follow each other in time without an overlap, otherwise "set".

        Returns
        -------
        FluxProfileStack
            The profiles, each as `run` gives it, and their quantities as arrays (T, B, G).

        Raises
        ------
        ValueError
            As `run`, with the name of the entry; for names that are empty or occur twice, energy
            groups that are not the same, or "time" without good time intervals.

        Warns
        -----
        UserWarning
            As `run`, with the names of the entries that a warning is for; and for ``axis="time"``
            with entries that overlap in time.

        Notes
        -----
        `FluxProfileEstimator` looks for the pixels of regions once on equal maps and fits all bins
        of all profiles side by side. `ForwardFoldingProfileEstimator` fits one profile after the
        other, and folds again where response or mask differ from the entry before.
        """
        entries = stack_entries(datasets, regions)
        found = self._run_entries(entries)
        warn_together(entries)
        names = [entry.name for entry in entries]
        stack = FluxProfileStack(found, names, axis=axis)
        if stack.axis == "time" and (common := overlap_in_time(found, names)):
            warn_user(
                f"datasets overlap in time: {common}. Counts of these times may be in both points "
                'of the light curve; axis="set" is for entries that do not follow each other'
            )
        return stack

    def _run_entries(self, entries: Sequence[StackEntry]) -> list[FluxProfile]:
        """The profile of each entry."""
        raise NotImplementedError

    def _selection(self) -> Selection:
        """What is asked for of each bin."""
        return Selection(
            quantities=frozenset(optional_selection(self.selection_optional)),
            n_sigma=self.n_sigma,
            n_sigma_ul=self.n_sigma_ul,
            n_sigma_sensitivity=self.n_sigma_sensitivity,
            interval=self.interval,
            scan=self.norm.scan(),
        )

    def _bins(self, energy_edges: Array) -> Bins:
        """What messages name bins by, in energy groups with these edges [TeV], (G, 2)."""
        return Bins(self.regions, energy_edges, self.energy_edges.unit.to_string())

    def _toys(self, likelihood: Likelihood, n_toys: int, options: dict[str, Any]) -> Any:
        """Toys of what is fitted, with the estimator's levels and limits unless told otherwise."""
        levels = self.n_sigma, self.n_sigma_ul
        own = options_of_toys(likelihood, levels, self.interval, options)
        return toys(likelihood, n_toys, **own)

    def _named_limits(self, likelihood: Likelihood) -> dict[str, Array]:
        """Upper limits ``norm_ul`` of the norms, and ``norm_ll`` of kinds that have a lower end."""
        found = intervals(likelihood, kind=self.interval, n_sigma=self.n_sigma_ul)
        limits = {"norm_ul": np.array(found.high)}
        if self.interval not in UPPER_ONLY:
            limits["norm_ll"] = np.array(found.low)
        return limits

    def _measured(self) -> tuple[str, ...]:
        """Names of models of the datasets that are not background."""
        return self.source

    def _datasets(self, datasets: Any) -> list[MapDataset]:
        """The datasets as a list, without models that are measured."""
        check_source_names(self.source, datasets)
        return dataset_list(datasets, self._measured())

    def _with_models(self, datasets: Any) -> list[MapDataset]:
        """The datasets with the counts of all other models in their background."""
        measured = self._measured()
        return [with_models_as_counts(each, measured) for each in self._datasets(datasets)]

    def _described(self, datasets: list[MapDataset]) -> dict[str, Any]:
        """What a profile tells of the estimator and of the data, beside its quantities."""
        return {
            "axis": profile_axis(self.regions),
            "regions": self.regions,
            "reference_model": self.spectral_model,
            "dataset_names": tuple(dataset.name for dataset in datasets),
            "n_sigma": self.n_sigma,
            "n_sigma_ul": self.n_sigma_ul,
            "n_sigma_sensitivity": self.n_sigma_sensitivity,
            "energy_unit": self.energy_edges.unit,
            "gti": joined_gti([dataset.gti for dataset in datasets]),
        }
