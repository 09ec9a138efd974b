"""What is known of the joint fit of an energy group."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jaxprof.inference.scaling import Units
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.reduce.joint.problem import Group, JointProblem
from jaxprof.types import Array


@dataclass(frozen=True)
class GroupResult:
    """Joint fit of one energy group."""

    group: Group
    """The group."""
    data: JointData
    """What was fitted."""
    fit: JointFit
    """The fit, as numpy arrays."""
    errors: Array
    """One standard deviation of each parameter, NaN where it has none: also where the covariance
    overflows, (Z,)."""
    coefficients: list[Array]
    coefficients_one: list[Array]
    """Coefficients of the templates of each dataset, as fitted (NaN if the fit failed) and at norm
    one, (C, Q)."""
    values: dict[str, Array] = field(default_factory=dict)
    """``ts``, and what else was asked for: ``norm_errn``, ``norm_errp``, ``norm_ul``,
    ``norm_sensitivity`` (B,); ``scan`` and ``scan_conditional`` (B, V), rises above the minimum at
    the norms ``scan_norms``; ``other``, whether a fit with the norm held has another minimum (B,).
    Of free sources ``source_ts``, ``source_other``, and ``source_ul`` if limits are asked for."""


@dataclass(frozen=True)
class StartedFit:
    """A fit of one group with its test statistics, before the optional quantities.

    Of the ``plain`` data; ``data``, fit and the ``points`` with a norm of zero are in ``units``.
    """

    plain: JointData
    data: JointData
    fit: JointFit
    ts: Array
    points: Array
    units: Units


def free_sources(problem: JointProblem) -> Array:
    """Indices of the components that are free sources."""
    components = problem.response.components
    free = [k for k, source in enumerate(components.sources) if source.free]
    return components.n_regions + np.array(free, dtype=int)


def best_of(data: JointData, fit: JointFit) -> Array:
    """`at_fit` outside of compiled code, (Z,)."""
    return np.where(np.isfinite(fit.values), fit.values, np.asarray(data.start))
