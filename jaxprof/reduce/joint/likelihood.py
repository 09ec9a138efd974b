"""The likelihood of a joint fit: all energy groups, with named parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood import (
    BinGeometry,
    Constraints,
    FreeParameters,
    Gaussian,
    Likelihood,
    Spectra,
)
from jaxprof.likelihood.constraints import bounds_of, gaussian_of
from jaxprof.likelihood.joint_data import JointData
from jaxprof.likelihood.layout import joint_data
from jaxprof.likelihood.spectra import model_of_bins
from jaxprof.likelihood.true_energies import seen_true_energies
from jaxprof.models.spatial import PointSpatialModel
from jaxprof.models.spectral_functions import panels_within
from jaxprof.reduce.bin_geometry import bin_geometry
from jaxprof.reduce.joint.counts import Alone, Counted, counts_blocks
from jaxprof.reduce.joint.guards import nearest_bins
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.types import Array

TILT_RANGE = 5.0
"""Largest tilt of a background, in either direction."""
SHAPE_RANGE = {"index": 5.0, "alpha": 5.0, "beta": 5.0}
"""Distance from the reference values that free spectral parameters may go.

In a bin without counts they would run away.
"""
SHAPE_LIMITS = {"lambda_": (0.0, 1e3)}
"""Limits of other spectral parameters."""
COVERED = 0.1
"""Part of a bin that must be seen for a spectrum of its own: what leaks out of it tells none."""
STRONG = 1e10
"""How many times what the counts tell of a norm a smoothness may be."""


def joint_likelihood(
    problem: JointProblem,
    *,
    merge: bool = False,
    alone: Alone | None = None,
    parent: Sequence[int] | None = None,
) -> Likelihood:
    """The likelihood of all energy groups of a joint fit.

    For ``merge`` and ``alone`` see `counts_blocks`; ``parent`` is the bin of the profile that each
    bin is a part of.
    """
    components, model = problem.response.components, problem.model
    numbers = range(len(problem.datasets))
    found = [counts_blocks(problem, number, merge=merge, alone=alone) for number in numbers]
    terms, bins = zip(*(jax.tree.map(_stacked, *parts) for parts in found), strict=True)
    # Sums over energies have no tilt, nor has one energy.
    across = merge and model.merged_across_energies
    tilts = not across and any(np.any(getattr(term, "log_energy", 0.0)) for term in terms)
    tilts = tilts or model.tilted
    nominal, free = _nominal(problem)
    constraints = _constraints(problem, found)
    if not tilts:
        for known in (nominal, constraints.lower, constraints.upper):
            known.pop("background_tilt", None)
    resolved = problem.response.per_true_energy
    if resolved:
        nominal["spectrum"] = model_of_bins(components.models[: components.n_bins])
        if model.free_spectral_parameters:
            free.append("spectrum")
    covered = problem.coverage.mean(axis=1) > COVERED
    return Likelihood(
        terms=terms,
        constraints=constraints,
        nominal=nominal,
        bins=bins,
        geometry=_geometry(problem, parent),
        spectra=_spectra(problem) if resolved else None,
        sources=tuple(source.name for source in components.sources),
        free=FreeParameters(
            names=tuple(free),
            sources=tuple(source.name for source in components.sources if source.free),
            background=tuple(own.norm != "fixed" for own in model.backgrounds),
            background_tilt=tuple(own.tilt != "fixed" for own in model.backgrounds),
            spectral_parameters=model.free_spectral_parameters,
            spectra=tuple(map(bool, covered)),
        ),
        merged=merge and model.per_pixel,
    )


def group_data(
    problem: JointProblem, *, merge: bool = True, alone: Alone | None = None
) -> list[JointData]:
    """Everything that the fits of the energy groups need, in arrays of the same shapes.

    Arguments as for `joint_likelihood`.
    """
    likelihood = joint_likelihood(problem, merge=merge, alone=alone)
    likelihood = replace(likelihood, terms=seen_true_energies(likelihood.terms))
    made = [joint_data(likelihood, group) for group in range(len(problem.groups))]
    # Not jnp.asarray, which compiles a program for every shape.
    return jax.tree.map(jax.device_put, made)


def _stacked(*leaves: Any) -> Any:
    """Arrays with a new leading axis; traced ones while a response is differentiated."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return jnp.stack(leaves)
    first, *others = (np.asarray(leaf) for leaf in leaves)
    # One group is the most common, and its templates may be large: no copy of them.
    return np.stack([first, *others]) if others else first[np.newaxis]


def _nominal(problem: JointProblem) -> tuple[dict[str, Any], list[str]]:
    """Nominal values of all parameters, and which are fitted."""
    components, backgrounds = problem.response.components, problem.model.backgrounds
    n_groups, n_datasets = len(problem.groups), len(problem.datasets)
    nominal: dict[str, Any] = {"norm": np.ones((components.n_bins, n_groups))}
    if components.guards:
        nominal["guard"] = np.ones((len(components.guards), n_groups))
    if components.sources:
        nominal["source"] = {source.name: np.ones(n_groups) for source in components.sources}
    nominal["background"] = np.ones((n_datasets, n_groups))
    nominal["background_tilt"] = np.zeros((n_datasets, n_groups))
    nominal["exposure"] = np.ones(n_datasets)
    fitted = {
        "norm": True,
        "guard": True,
        "source": any(source.free for source in components.sources),
        "background": any(own.norm != "fixed" for own in backgrounds),
        "background_tilt": problem.model.tilted,
    }
    return nominal, [name for name in nominal if fitted.get(name)]


def _constraints(problem: JointProblem, found: Sequence[Sequence[Counted]]) -> Constraints:
    model, components = problem.model, problem.response.components
    gaussian: dict[str, Gaussian] = {}
    for name, options, centre in (
        ("background", [own.norm for own in model.backgrounds], 1.0),
        ("background_tilt", [own.tilt for own in model.backgrounds], 0.0),
    ):
        own = gaussian_of(options, centre, (len(options), len(problem.groups)))
        gaussian |= {} if own is None else {name: own}
    lower, upper = bounds_of(
        model.norm_bounds, ("norm", "guard") if components.guards else ("norm",)
    )
    lower |= {"background": 0.0, "background_tilt": -TILT_RANGE}
    upper |= {"background_tilt": TILT_RANGE}
    for name in model.free_spectral_parameters:
        values = [float(getattr(own, name)) for own in components.models[: components.n_bins]]
        kind = name.rpartition(".")[2]
        reach = SHAPE_RANGE.get(kind, np.inf)
        limits = SHAPE_LIMITS.get(kind, (min(values) - reach, max(values) + reach))
        lower[f"spectrum.{name}"], upper[f"spectrum.{name}"] = limits
    smoothness = None
    if model.smoothness:
        fixed = not model.free_spectral_parameters
        sizes = components.n_bins, len(components)
        smoothness = np.stack(
            [
                _smoothness_penalty(model.smoothness, [block for block, _ in parts], *sizes, fixed)
                for parts in zip(*found, strict=True)
            ]
        )
    return Constraints(gaussian=gaussian, smoothness=smoothness, lower=lower, upper=upper)


def _smoothness_penalty(
    smoothness: float, blocks: Sequence[Any], n_bins: int, n_components: int, fixed_spectra: bool
) -> Array:
    """Matrix (B, B) of the penalty of one energy group, of the bins that some counts bin feels.

    The ``blocks`` are those of all datasets. With ``fixed_spectra`` fluxes are part of the
    templates, which then tell how strong is too strong.

    Raises
    ------
    ValueError
        For a smoothness that leaves nothing of the counts.
    """
    felt = np.zeros(n_components, bool)
    expected, counts = np.zeros(n_components), 0.0
    for block in blocks:
        if isinstance(block.templates, jax.core.Tracer):
            # Which components it reaches is not known while the response is differentiated.
            felt[:] = True
            continue
        signal = np.einsum("nkqs,ns->nk", np.asarray(block.templates), np.asarray(block.mask))
        felt[np.asarray(block.components)[signal > 0]] = True
        np.add.at(expected, np.asarray(block.components), signal)
        counts += np.sum(getattr(block, "n_on", getattr(block, "counts", 0.0)))
    if expected.any() and fixed_spectra:
        # The counts tell about this much of a norm, the square of one over its error.
        told = np.max(expected) ** 2 / (1.0 + float(counts))
        if smoothness > STRONG * told:
            raise ValueError(
                f"smoothness={smoothness:g} leaves nothing of the counts but a straight line, and "
                f"these are lost by rounding; give less than {STRONG * told:.1g}, about {told:.1g} "
                "being as strong as the counts"
            )
    # Second differences of bins that are all felt: a norm that is not fitted pulls at none.
    rows = np.diff(np.eye(n_bins), n=2, axis=0)
    rows = rows[np.all(np.where(rows != 0, felt[:n_bins], True), axis=1)]
    return smoothness * (rows.T @ rows)


def _geometry(problem: JointProblem, parent: Sequence[int] | None) -> BinGeometry | None:
    components = problem.response.components
    template, n_bins = components.template, components.n_bins
    edges = np.array([group.edges for group in problem.groups])
    if isinstance(template, list | tuple) and any(
        isinstance(own, PointSpatialModel) for own in template
    ):
        return None
    # Also while something else is traced, such as the width of the PSF.
    with jax.ensure_compile_time_eval():
        flux = [np.asarray(model.integral(*edges.T)).sum() for model in components.models[:n_bins]]
        return bin_geometry(components.regions, np.array(flux), parent=parent, template=template)


def _spectra(problem: JointProblem) -> Spectra:
    components = problem.response.components
    edges = [own.true_edges for own in problem.response.datasets]
    group_edges = np.array([group.edges for group in problem.groups])
    reference = guards = None
    if problem.model.free_spectral_parameters:
        within = slice(components.n_bins, components.n_regions)
        guards = tuple(components.flux(own)[within].reshape(-1, len(own) - 1) for own in edges)
        models = components.models[: components.n_regions]
        reference = np.array([np.asarray(model.integral(*group_edges.T)) for model in models])
    return Spectra(
        edges=tuple(edges),
        source_flux=tuple(
            components.flux(own)[components.n_regions :].reshape(-1, len(own) - 1) for own in edges
        ),
        group_edges=group_edges,
        panels=panels_within(*edges),
        group_panels=panels_within(group_edges),
        guard_bins=np.array(nearest_bins(components.guards, components.regions), int),
        guard_flux=guards,
        reference_flux=reference,
    )
