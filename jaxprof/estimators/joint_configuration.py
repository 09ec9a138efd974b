"""The configuration of the estimator that fits all bins together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.estimators.configuration import COMMON_CHECKS, ProfileEstimator
from jaxprof.estimators.joint_options import (
    bin_models,
    check_free_energies,
    checked_background,
    checked_oversampling,
    checked_subpixels,
    checked_template,
    free_names,
    guard_list,
    not_negative,
    source_list,
)
from jaxprof.estimators.options import one_of, switch
from jaxprof.estimators.precision import PRECISIONS
from jaxprof.inference.named_intervals import KINDS
from jaxprof.profile.quantities import SOLID_ANGLES
from jaxprof.reduce.energy_groups import same_edges, snap_energy_edges, warn_moved_edges
from jaxprof.reduce.joint.backgrounds import background_options
from jaxprof.reduce.joint.components import Components
from jaxprof.reduce.joint.emission import region_emissions
from jaxprof.reduce.joint.fingerprint import component_fingerprints
from jaxprof.reduce.joint.guards import nearest_bins
from jaxprof.reduce.joint.problem import (
    Group,
    JointModel,
    JointProblem,
    joint_problem,
    make_groups,
)
from jaxprof.reduce.joint.response import ForwardResponse, dataset_response, warn_rough_emissions
from jaxprof.reduce.nuisances import Nuisances, energies_scaled
from jaxprof.sky import WcsNDMap
from jaxprof.sky.models import SkyModel
from jaxprof.sky.regions.subdivision import subdivided_regions
from jaxprof.sky.template_map import TemplateSpatialModel
from jaxprof.types import Array

POLICIES = ("coverage", "strict")


NOT_HERE = {
    "region": (
        "reference_solid_angle='region' is an option of FluxProfileEstimator: "
        "ForwardFoldingProfileEstimator spreads emission over the parts of pixels that lie in "
        "a region, so its fluxes are those of the regions already; leave it at 'pixels'"
    ),
    "float32": (
        "precision='float32' is an option of FluxProfileEstimator: the barrier method of "
        "joint fits needs the digits of float64; leave it at 'float64'"
    ),
    "feldman-cousins": (
        'interval: "feldman-cousins" would fit all norms again for each value and toy; '
        '"bounded" has the same order of values with asymptotic probabilities'
    ),
}
"""Values of common options that this estimator does not take, and why."""


class JointProfileEstimator(ProfileEstimator):
    """Options of `ForwardFoldingProfileEstimator`, which documents them, and what they make up.

    Bins, guard bins and sources become components; energies become groups.
    """

    spectral_models: list[Any] | None = None  # of the bins, where they differ
    _free_names: tuple[str, ...] = ()
    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **COMMON_CHECKS,
        "mask_policy": partial(one_of, "mask_policy", valid=POLICIES),
        "interval": partial(one_of, "interval", valid=KINDS, why_not=NOT_HERE),
        "sources": source_list,
        "smoothness": partial(not_negative, "smoothness"),
        "background": checked_background,
        "template": checked_template,
        "template_norm": partial(one_of, "template_norm", valid=("flux", "ratio")),
        "oversampling": checked_oversampling,
        "subpixels": checked_subpixels,
        "reference_solid_angle": partial(
            one_of, "reference_solid_angle", valid=SOLID_ANGLES, why_not=NOT_HERE
        ),
        "precision": partial(one_of, "precision", valid=PRECISIONS, why_not=NOT_HERE),
    }

    def __init__(
        self,
        regions: Any = None,
        *,
        spectral_model: Any = None,
        likelihood: str = "pixel",
        guard_bins: int | Sequence[Any] = 0,
        background: Any = "fixed",
        sources: Any = (),
        free_index: bool = False,
        free_spectral_parameters: Sequence[str] = (),
        template: Any = None,
        template_norm: str = "flux",
        smoothness: float = 0.0,
        oversampling: int = 10,
        subpixels: int | None = None,
        spectrum: Any = None,
        **options: Any,
    ) -> None:
        if spectral_model is not None and spectrum is not None:
            raise ValueError("give spectral_model or spectrum (its older name), not both")
        model = spectral_model if spectral_model is not None else spectrum
        models = list(model) if isinstance(model, list | tuple) else None
        super().__init__(
            regions,
            spectral_model=models[0] if models else model,
            likelihood=likelihood,
            **options,
        )
        self.spectral_models = bin_models(models, len(self.regions))
        self.guard_bins = guard_bins
        self.background = background
        self.sources = sources
        self.free_spectral_parameters = free_spectral_parameters
        if switch("free_index", free_index):
            self.free_index = True
        self.template = template
        self.template_norm = template_norm
        self.smoothness = smoothness
        self.oversampling = oversampling
        self.subpixels = subpixels
        self._guards()

    @classmethod
    def _options(cls) -> tuple[str, ...]:
        return (*super()._options(), "guard_bins", "free_spectral_parameters")

    def _measured(self) -> tuple[str, ...]:
        return (*self.source, *(source.name for source in self.sources))

    @property
    def free_spectral_parameters(self) -> tuple[str, ...]:
        """Names of the spectral parameters that are fitted in each bin."""
        return self._free_names

    @free_spectral_parameters.setter
    def free_spectral_parameters(self, names: Sequence[str]) -> None:
        self._free_names = free_names(names, self._bin_models())

    @property
    def free_index(self) -> bool:
        """Whether the spectral index of each bin is fitted as well."""
        return "index" in self.free_spectral_parameters

    @free_index.setter
    def free_index(self, free: bool) -> None:
        own = ("index",) if switch("free_index", free) else ()
        others = (name for name in self.free_spectral_parameters if name != "index")
        self.free_spectral_parameters = (*own, *others)

    def _bin_models(self) -> list[Any]:
        if self.spectral_models is not None:
            return self.spectral_models
        return [self.spectral_model] * len(self.regions)

    def _guards(self) -> list[Any]:
        return guard_list(self.guard_bins, self.regions)

    def _components(self, sources: list[SkyModel]) -> Components:
        guards = self._guards()
        models = self._bin_models()
        near = [models[k] for k in nearest_bins(guards, self.regions)]
        if self.template_norm == "ratio":
            scaled = self._ratio_spectra(guards)
            models, near = scaled[: len(models)], scaled[len(models) :]
        return Components(
            regions=list(self.regions),
            guards=guards,
            sources=sources,
            models=[*models, *near, *(source.spectral_model for source in sources)],
            template=self.template,
            oversampling=self.oversampling,
            subpixels=self.subpixels,
        )

    def _ratio_template(self) -> TemplateSpatialModel:
        """The map that norms are ratios to."""
        found = self.template
        if isinstance(found, WcsNDMap):
            found = TemplateSpatialModel(found)
        if not isinstance(found, TemplateSpatialModel) or found.is_energy_dependent:
            raise ValueError(
                "template_norm='ratio' needs one image as template, whose values the norms are "
                f"compared with; got {type(self.template).__name__}"
            )
        if self.spectral_models is not None:
            raise ValueError("template_norm='ratio' needs one spectral_model, not a list of them")
        return found

    def _ratio_spectra(self, guards: list[Any]) -> list[Any]:
        """The spectrum times the integral of the map over each bin and guard bin."""
        template, model = self._ratio_template(), self.spectral_model
        # Between the centres of its pixels the map is linear, off it is zero.
        found = region_emissions(
            [*self.regions, *guards],
            template.image.geom,
            template=template,
            oversampling=self.oversampling,
        )
        integrals = [own.integral * template.integral.value for own in found]
        if hasattr(model, "amplitude"):
            return [model.replace(amplitude=model.amplitude * own) for own in integrals]
        return [model * own for own in integrals]

    def _edges(self, datasets: Sequence[MapDataset]) -> list[Array]:
        """Indices of the groups' edges on each dataset's axis."""
        first = datasets[0].energy_axis
        found = [snap_energy_edges(self.energy_edges, d.energy_axis) for d in datasets]
        for dataset, edges in zip(datasets, found, strict=True):
            same_edges(first, found[0], dataset.energy_axis, edges, dataset.name)
        check_free_energies(
            self.free_spectral_parameters,
            np.sum([np.diff(edges) for edges in found], axis=0),
            self.sum_over_energy_groups,
        )
        return found

    def _groups(self, datasets: Sequence[MapDataset]) -> list[Group]:
        edges, axis = self._edges(datasets), datasets[0].energy_axis
        warn_moved_edges(self.energy_edges, axis, edges[0])
        return make_groups(edges, axis.edges_tev()[edges[0]])

    def _in_parts(self, subdivide: int) -> tuple[Self, list[int] | None]:
        """The estimator of the parts of all bins, and which bin each is a part of."""
        regions, parent = subdivided_regions(self.regions, subdivide)
        if subdivide == 1:
            return self, None
        if self.smoothness:
            raise ValueError(
                "subdivide: smoothness pulls at the norms of bins, not at those of their parts; "
                "a law is smooth without it"
            )
        template, models, own = self.template, self.spectral_models, copy.copy(self)
        own.guard_bins = self._guards()
        own.regions = regions
        if isinstance(template, list | tuple):
            own.template = [template[k] for k in parent]
        own.spectral_models = None if models is None else [models[k] for k in parent]
        return own, parent

    def _check_kind(self, dataset: MapDataset) -> None:
        if isinstance(dataset, MapDatasetOnOff) and self.likelihood == "pixel":
            raise ValueError(
                f"likelihood='pixel' with the On-Off dataset {dataset.name!r}: a background "
                "profiled pixel by pixel biases the norms; use likelihood='region'"
            )

    def _folded(
        self, datasets: Sequence[MapDataset], per_true_energy: bool, sources: list[SkyModel]
    ) -> ForwardResponse:
        components, found = self._components(sources), []
        for dataset, edges in zip(datasets, self._edges(datasets), strict=True):
            dataset.check()
            self._check_kind(dataset)
            found.append(
                dataset_response(
                    components,
                    dataset,
                    slice(int(edges[0]), int(edges[-1])),
                    per_true_energy=per_true_energy,
                    mask_policy=self.mask_policy,
                )
            )
        warn_rough_emissions(components, found)
        fingerprints = component_fingerprints(components)
        return ForwardResponse(components, found, per_true_energy, self.mask_policy, fingerprints)

    def _problems(
        self,
        datasets: list[MapDataset],
        response: ForwardResponse | None,
        given: Nuisances,
        per_true_energy: bool,
        sources: list[SkyModel],
    ) -> Iterator[JointProblem]:
        """What is fitted, at all nodes of the nuisance parameters."""
        resolved = per_true_energy or bool(self.free_spectral_parameters)
        if response is not None:
            response = self._checked(datasets, response)
            if given.nodes and response.other_spectrum:
                raise ValueError(
                    "response was folded again with another spectral_model, which nodes of scales "
                    "do not keep; make an estimator with that spectral_model"
                )
            if resolved and not response.per_true_energy:
                response = response.per_energy()
        energies: float | None = None
        problem: JointProblem | None = None
        for point in given.points():
            if problem is None or point.get("energy_scale") != energies:
                energies = point.get("energy_scale")
                own = [energies_scaled(each, point, given.nodes) for each in datasets]
                folded = response if energies is None else None
                problem = self.problem(own, folded or self._folded(own, resolved, sources))
            if "psf_scale" in point:
                # All have room for the widest, so that the same components reach each region.
                scales = {"psf_scale": point["psf_scale"], "widest": given.nodes["psf_scale"][-1]}
                yield replace(problem, response=problem.response.refolded(**scales))
            else:
                yield problem

    def problem(self, datasets: Sequence[MapDataset], response: ForwardResponse) -> JointProblem:
        """What is fitted: the datasets with their `response`, in energy groups.

        For `jaxprof.reduce.joint.likelihood.group_data`.
        """
        names = [dataset.name for dataset in datasets]
        model = JointModel(
            norm_bounds=self.norm.bounds(),
            backgrounds=tuple(background_options(self.background, names)),
            free_spectral_parameters=tuple(self.free_spectral_parameters),
            smoothness=self.smoothness,
            likelihood=self.likelihood,
            sum_over_energy_groups=self.sum_over_energy_groups,
        )
        return joint_problem(datasets, response, self._groups(datasets), model)

    def _checked(self, datasets: list[MapDataset], response: ForwardResponse) -> ForwardResponse:
        """A response that is kept, if it is that of these datasets and options."""
        for dataset in datasets:
            dataset.check()
            self._check_kind(dataset)
        bins = [slice(int(edges[0]), int(edges[-1])) for edges in self._edges(datasets)]
        response.check(datasets, self._components(self.sources), self.mask_policy, bins)
        if response.per_true_energy != bool(self.free_spectral_parameters):
            raise ValueError(
                "response was made with other free spectral parameters; make a new one with the "
                "estimator's response(datasets)"
            )
        return response
