"""What is fitted again from the counts that a profile holds: limits of other levels, toys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxprof.inference.levels import confidence_level, sigma_of_limits
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.likelihood.data import Data
from jaxprof.profile.limits import (
    named_limits_from_data,
    toys_of_data,
    upper_limits_from_data,
    upper_limits_from_scan,
)
from jaxprof.profile.quantities import Array

if TYPE_CHECKING:
    from jaxprof.profile import FluxProfile


class ProfileRefits:
    """Fits once more what a profile was made of; the original stays as it is."""

    quantities: dict[str, Array]
    meta: dict[str, Any]
    likelihood_data: Data | None
    n_sigma: float
    n_sigma_ul: float

    if TYPE_CHECKING:

        def _copy(self, **changes: Any) -> FluxProfile: ...

    def recompute_ul(
        self, n_sigma_ul: float | None = None, *, cl: float | None = None
    ) -> FluxProfile:
        """Profile with upper limits of another confidence level.

        Parameters
        ----------
        n_sigma_ul : float, optional
            Number of standard deviations, by default 2.
        cl : float, optional
            The same as a probability, such as 0.95.

        Returns
        -------
        FluxProfile
            With new ``norm_ul`` (of the same kind) and ``n_sigma_ul``; the original stays as it is.

        Raises
        ------
        ValueError
            For both, or a level that is none; if there is neither ``likelihood_data`` nor a scan
            that reaches up to the limits.

        Notes
        -----
        Exact if the profile has ``likelihood_data``. Otherwise the scan is interpolated by a
        cubic spline from the minimum upwards; the result is as good as the grid is fine.
        """
        n_sigma_ul = sigma_of_limits(n_sigma_ul, cl)
        confidence_level(None, n_sigma_ul, "n_sigma_ul")
        stored, kind = self.quantities, self.meta.get("interval", "profile")
        if kind != "profile":
            if self.likelihood_data is None:
                raise ValueError(
                    f"recompute_ul: limits of kind {kind!r} need the profile's likelihood_data; "
                    f"estimate again with n_sigma_ul={n_sigma_ul}"
                )
            low, norm_ul = named_limits_from_data(self.likelihood_data, kind, n_sigma_ul)
            if "norm_ll" in stored:
                stored = {**stored, "norm_ll": low}
        elif self.likelihood_data is not None:
            norm_ul = upper_limits_from_data(
                self.likelihood_data, stored["norm"], stored["status"], n_sigma_ul
            )
        elif "stat_scan" in stored and "stat" in stored:
            norm_ul = upper_limits_from_scan(stored, n_sigma_ul)
        else:
            raise ValueError(
                "recompute_ul needs the profile's likelihood_data, or stat and stat_scan "
                "(selection_optional=['scan']); this profile has neither"
            )
        return self._copy(quantities={**stored, "norm_ul": norm_ul}, n_sigma_ul=n_sigma_ul)

    def toys(self, n_toys: int = 1000, **options: Any) -> Toys | ToySummary:
        """Fit toys of the profile: a parametric bootstrap, or a background alone.

        Parameters
        ----------
        n_toys : int
            Number of toys.
        **options
            Of `jaxprof.toys`; by default errors and limits are those of ``n_sigma`` and
            ``n_sigma_ul``, and limits of the profile's own kind. Where Feldman-Cousins limits would
            take toys of each toy, limits are of kind "profile", with a warning.

        Returns
        -------
        Toys

        Raises
        ------
        ValueError
            Without ``likelihood_data``: a profile does not hold the likelihood of a joint fit.
        """
        if self.likelihood_data is None:
            raise ValueError(
                "toys need the profile's likelihood_data, which this one lacks; the estimator "
                "makes toys of datasets, estimator.simulate(datasets, n_toys)"
            )
        levels, kind = (self.n_sigma, self.n_sigma_ul), self.meta.get("interval", "profile")
        return toys_of_data(self.likelihood_data, n_toys, levels, kind, options)
