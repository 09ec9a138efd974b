"""Tables of a joint fit: nuisance parameters, and the goodness of fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Column, Table

from jaxprof.estimators.fitting import GroupResult, free_sources
from jaxprof.estimators.prediction import Prediction
from jaxprof.likelihood.data import Status
from jaxprof.reduce.joint.problem import JointProblem
from jaxprof.types import Array


def nuisance_table(problem: JointProblem, results: Sequence[GroupResult]) -> Table | None:
    """Every nuisance parameter, a row for each group and parameter; None if there is none.

    Columns ``group``, ``dataset``, ``parameter``, ``value``, ``error`` (one standard deviation, NaN
    if fixed), ``fixed`` and ``status``, in words as that of bins; with free sources ``flux`` and
    ``flux_err`` between the edges of the group, ``ts``, and the upper limits ``ul`` of the norm and
    ``flux_ul``, if limits are asked for, NaN for other parameters.
    """
    components, backgrounds = problem.response.components, problem.model.backgrounds
    rows: list[tuple[Any, ...]] = []
    for group, result in enumerate(results):
        data = result.data
        labels: list[tuple[str, str, int, Status]] = []
        status = result.fit.status.copy()
        in_use = problem.in_use[:, group]
        status[: len(in_use)] = seen_status(status[: len(in_use)], in_use)
        whole = Status.OK if result.fit.converged else Status.NOT_CONVERGED
        for index in range(components.n_bins, len(components)):
            if index < components.n_regions:
                label = f"norm of guard bin {index - components.n_bins}"
            else:
                label = f"norm of {components.sources[index - components.n_regions].name}"
            labels.append(("", label, index * (1 + data.n_shape), Status(status[index])))
        if data.n_nuisance:
            pairs = zip(problem.datasets, backgrounds, strict=True)
            for number, (dataset, option) in enumerate(pairs):
                at = data.nuisance_start + 2 * number
                labels.append((dataset.name, "background norm", at, whole))
                if option.tilt != "fixed":
                    labels.append((dataset.name, "background tilt", at + 1, whole))
        rows += [(group, *own, *_fitted(result, at), code.label) for *own, at, code in labels]
    if not rows:
        return None
    columns = ("group", "dataset", "parameter", "value", "error", "fixed", "status")
    table = Table(rows=rows, names=columns)
    return _with_sources(table, problem, results) if free_sources(problem).size else table


def seen_status(status: Array, in_use: Array) -> Array:
    """The outcomes, "fully masked" where no pixel in use lies.

    What leaks out may still tell a norm, but not without the assumption of where the emission
    started.
    """
    lost = ~in_use & (status != Status.NOT_CONVERGED)
    return np.where(lost, Status.FULLY_MASKED, status)


def _with_sources(table: Table, problem: JointProblem, results: Sequence[GroupResult]) -> Table:
    """The table with flux, test statistic and upper limits of the free sources, NaN elsewhere."""
    components = problem.response.components
    limited = "source_ul" in results[0].values
    names = ("flux", "flux_err", "ts", *(("ul", "flux_ul") if limited else ()))
    extra = {name: np.full(len(table), np.nan) for name in names}
    for group, result in enumerate(results):
        for position, index in enumerate(free_sources(problem)):
            name = components.sources[index - components.n_regions].name
            label = table["parameter"] == f"norm of {name}"
            rows = label & (table["group"] == group)
            at_one = float(np.asarray(components.models[index].integral(*result.group.edges)))
            extra["flux"][rows] = at_one * table["value"][rows]
            extra["flux_err"][rows] = at_one * table["error"][rows]
            extra["ts"][rows] = result.values["source_ts"][position]
            if limited:
                extra["ul"][rows] = result.values["source_ul"][position]
                extra["flux_ul"][rows] = at_one * result.values["source_ul"][position]
    for name, values in extra.items():
        unit = "cm-2 s-1" if name.startswith("flux") else None
        table[name] = Column(values, unit=unit, format=".3g")
    return table


def _fitted(result: GroupResult, at: int) -> tuple[float, float, bool]:
    """Value and error of a parameter, and whether it was fixed."""
    fixed = not np.asarray(result.data.free)[at]
    known = fixed or result.fit.converged
    found = result.fit.values[at] if known else np.nan, np.nan if fixed else result.errors[at]
    return float(found[0]), float(found[1]), fixed


def goodness_table(results: Sequence[GroupResult], predictions: Sequence[Prediction]) -> Table:
    """The statistic against its expectation, a row for each group.

    Columns ``stat`` (with the saturated term, over all pixels of the fit), ``expected`` and ``std``
    of it if the fitted prediction is true, ``n_counts_bins`` (number of counts bins), ``n_free``
    and ``z = (stat - expected) / std``. Fitting lowers ``stat`` by about ``n_free`` where counts
    are many. The statistic is Cash, for On-Off data that of the regions' ON and OFF counts with the
    background profiled; of these ``expected``, ``std`` and ``z`` are NaN where fewer than 20 ON or
    OFF counts are predicted anywhere, see `wstat_expectation` (toys give p-values at any counts).
    """
    rows = []
    for result, prediction in zip(results, predictions, strict=True):
        stat, expected, variance, n_counts_bins = (
            prediction.goodness[name] for name in ("stat", "expected", "variance", "n_counts_bins")
        )
        std, n_free = np.sqrt(variance), int(np.sum(np.asarray(result.data.free)))
        z = (stat - expected) / std if std > 0 else np.nan
        rows.append((stat, expected, std, n_counts_bins, n_free, z))
    return Table(rows=rows, names=("stat", "expected", "std", "n_counts_bins", "n_free", "z"))
