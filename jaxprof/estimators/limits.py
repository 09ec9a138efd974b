"""Limits of profiles that are the ends of intervals of a kind, and toys of their likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxprof.estimators.options import Selection
from jaxprof.inference.named_intervals import UPPER_ONLY, intervals
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.inference.toys import toys
from jaxprof.likelihood import Likelihood

Array = NDArray[Any]


def named_limits(likelihood: Likelihood, selection: Selection) -> dict[str, Array]:
    """Limits of all norms.

    Parameters
    ----------
    likelihood : Likelihood
        Whose norms they are.
    selection : Selection
        Kind and level of the intervals.

    Returns
    -------
    dict of ndarray
        ``norm_ul``, and ``norm_ll`` of kinds that have a lower end.
    """
    found = intervals(likelihood, kind=selection.interval, n_sigma=selection.n_sigma_ul)
    limits = {"norm_ul": np.array(found.high)}
    if selection.interval not in UPPER_ONLY:
        limits["norm_ll"] = np.array(found.low)
    return limits


def interval_meta(selection: Selection) -> dict[str, str]:
    """What a profile keeps of the kind of its limits: nothing of the default."""
    if "ul" not in selection or selection.interval == "profile":
        return {}
    return {"interval": selection.interval}


def simulated(reduce: Callable[[], Likelihood], n_toys: int, **options: Any) -> Toys | ToySummary:
    """Toys of what an estimator fits, in float64."""
    with jax.enable_x64(True):
        return toys(reduce(), n_toys, **options)
