"""How far the fit statistic rises above that of the best norm that is not negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import fit as fit_likelihood
from jaxprof.inference.profiled import limits, scan
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import is_separable
from jaxprof.types import Array
from jaxprof.user_warning import warn_user


@dataclass(frozen=True)
class RiseCurve:
    """Rise of the statistic above that of the best norm that is not negative, as a function."""

    likelihood: Likelihood
    fit: Fit
    best: Array
    offset: Array
    reach: Array

    def rise(self, norm: Array) -> Array:
        """Of norms (B, G)."""
        return np.maximum(_rises(self.likelihood, self.fit, norm) - self.offset, 0.0)


def _rises(likelihood: Likelihood, fit: Fit, norm: Array) -> Array:
    return np.asarray(scan(likelihood, fit, np.asarray(norm, float)[..., None]))[..., 0]


def rise_curve(likelihood: Likelihood, fit: Fit, z: float = 3.0) -> RiseCurve:
    """Of the data as they are, with the upper limit at z standard deviations as its reach."""
    norm = np.asarray(fit.params["norm"], float)
    offset = np.where(norm < 0, _rises(likelihood, fit, np.zeros_like(norm)), 0.0)
    upper = np.asarray(limits(likelihood, fit, n_sigma_ul=z).ul["norm"])
    reach = np.maximum(upper - norm, np.maximum(upper, 0.0))
    return RiseCurve(likelihood, fit, np.maximum(norm, 0.0), offset, reach)


def expected_distance(curve: RiseCurve) -> Callable[[Array], Array]:
    """How many standard deviations norms (B, G) are from zero, by data without their signal."""
    likelihood = curve.likelihood
    if not is_separable(likelihood):
        width = _joint_widths(likelihood, curve.fit)
        return lambda norm: norm / width
    without = likelihood.asimov({"norm": np.zeros_like(curve.best)})
    expected = fit_likelihood(without)
    return lambda norm: np.sqrt(np.maximum(_rises(without, expected, norm), 0.0))


def _joint_widths(likelihood: Likelihood, fit: Fit) -> Array:
    """Standard deviation of each norm at zero, the others being as fitted, (B, G).

    That of the curvature: bounds of norms, at which there is none, are left out. NaN, with a
    warning, where negative norms of others predict counts below zero then.
    """
    found = np.full(np.shape(fit.params["norm"]), np.nan)
    bounds = likelihood.constraints
    lower, upper = (
        {name: own for name, own in each.items() if name != "norm"}
        for each in (bounds.lower, bounds.upper)
    )
    likelihood = replace(likelihood, constraints=replace(bounds, lower=lower, upper=upper))
    missing = []
    for row in range(len(found)):
        norm = np.array(fit.params["norm"])
        norm[row] = 0.0
        try:
            expected = likelihood.asimov({**fit.params, "norm": norm})
        except ValueError:
            missing.append(str(row))
            continue
        found[row] = np.asarray(fit_likelihood(expected).errors["norm"])[row]
    if missing:
        warn_user(
            f"there are no limits of this kind of bin {', '.join(missing)}: without its signal "
            "negative norms of others predict counts below zero. Norms that are not negative "
            '(norm={"min": 0}) and interval="bayesian" do without'
        )
    return found
