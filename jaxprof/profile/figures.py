"""The figures of a flux profile as its methods; `jaxprof.plotting` draws them."""

from __future__ import annotations

from typing import Any

from jaxprof.profile.quantities import Array, check_sed_type
from jaxprof.sky.regions import AXES, ProfileAxis


class ProfileFigures:
    """Gives the figures of a profile as methods."""

    axis: ProfileAxis
    quantities: dict[str, Array]
    sed_type_init: str

    def plot(
        self,
        ax: Any = None,
        sed_type: str | None = None,
        axis_name: str = "projected-distance",
        *,
        other: Any = None,
        curve: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Draw fluxes with their errors and upper limits.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness", "likelihood"}, optional
            What to draw; "likelihood" is the norm. By default ``sed_type_init``, but "dnde" if
            that is "likelihood".
        axis_name : {"projected-distance", "energy", "longitude", "latitude", "path", \
"region-index"}
            The horizontal axis; "projected-distance" is the profile's own. See `with_axis` for
            others.
        other : FluxProfile, optional
            Another profile of the same bins to draw as well, such as the one whose bins were fitted
            one by one; with a panel of residuals. See `plot_comparison`.
        curve : array, Quantity or FluxProfile, optional
            A model to draw as well, with a panel of residuals. See `plot_comparison`.
        **kwargs
            Passed to `jaxprof.plotting.plot_profile` or `jaxprof.plotting.plot_comparison`.

        Returns
        -------
        `~matplotlib.axes.Axes`
            With `other` or `curve` two of them, of the points and of the residuals.
        """
        from jaxprof.plotting import plot_profile

        if other is not None or curve is not None:
            if ax is not None:
                raise ValueError("ax cannot hold two panels; give axes=(ax, ax_residual) instead")
            sed_type = self._plot_sed_type(sed_type)
            return self.plot_comparison(other=other, curve=curve, sed_type=sed_type, **kwargs)

        valid = dict.fromkeys(("projected-distance", self.axis.name, "energy", *AXES))
        if axis_name not in valid:
            raise ValueError(
                f"axis_name is {axis_name!r}; valid are {', '.join(valid)}; with_axis() gives the "
                "profile another axis, of times for instance"
            )
        sed_type = self._plot_sed_type(sed_type)
        return plot_profile(self, ax=ax, sed_type=sed_type, axis_name=axis_name, **kwargs)

    def plot_ts_profiles(
        self, ax: Any = None, sed_type: str | None = None, add_cbar: bool = True, **kwargs: Any
    ) -> Any:
        """Draw the likelihood scan of every bin as a column of colours.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        sed_type : str, optional
            As for `plot`.
        add_cbar : bool
            Whether to add a colour bar.
        **kwargs
            Passed to `jaxprof.plotting.plot_ts_profiles`.

        Returns
        -------
        `~matplotlib.axes.Axes`
        """
        from jaxprof.plotting import plot_ts_profiles

        self._need("stat_scan", "estimate with selection_optional=['scan']")
        sed_type = self._plot_sed_type(sed_type)
        return plot_ts_profiles(self, ax=ax, sed_type=sed_type, add_cbar=add_cbar, **kwargs)

    def plot_correlation(self, group: int = 0, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the correlation of the norms of all bins as a matrix of colours.

        Parameters
        ----------
        group : int
            Energy group.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_correlation`.

        Returns
        -------
        `~matplotlib.axes.Axes`

        Raises
        ------
        ValueError
            If the profile has no ``norm_covariance``.
        """
        from jaxprof.plotting import plot_correlation

        self._need("norm_covariance", _JOINT)
        return plot_correlation(self, group=group, ax=ax, **kwargs)

    def plot_leakage(self, group: int = 0, ax: Any = None, **kwargs: Any) -> Any:
        """Draw where the photons of every bin are found, as a matrix of colours.

        Parameters
        ----------
        group : int
            Energy group.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_leakage`.

        Returns
        -------
        `~matplotlib.axes.Axes`

        Raises
        ------
        ValueError
            If the profile has no ``response``.
        """
        from jaxprof.plotting import plot_leakage

        self._need("response", _JOINT)
        return plot_leakage(self, group=group, ax=ax, **kwargs)

    def plot_comparison(
        self,
        other: Any = None,
        curve: Any = None,
        curve_label: str | None = None,
        sed_type: str | None = None,
        group: int | None = None,
        axes: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Draw the profile over another one or a model curve, with a panel of residuals.

        Parameters
        ----------
        other : FluxProfile, optional
            A profile of the same bins, such as the one of `~jaxprof.FluxProfileEstimator`.
        curve : array or Quantity, shape (B,) or (B, G), or FluxProfile, optional
            What a model has in every bin, as ``sed_type`` says. Or a profile of the same bins: that
            of a model folded as the data are is
            ``estimator.run(expected_dataset(dataset, model))``, see `~jaxprof.expected_dataset`.
        curve_label : str, optional
            Name of the curve in the legend.
        sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness", "likelihood"}, optional
            What to draw; "likelihood" is the norm. By default ``sed_type_init``, but "flux" if
            that is "likelihood".
        group : int, optional
            Energy group.
        axes : pair of `~matplotlib.axes.Axes`, optional
            Where to draw the profile and the residuals.
        **kwargs
            Passed to `jaxprof.plotting.plot_comparison`.

        Returns
        -------
        tuple of `~matplotlib.axes.Axes`
            Of the profile and of the residuals.

        Raises
        ------
        ValueError
            If there is neither another profile nor a curve, if one has other bins, or for a curve
            of a wrong kind, shape or unit.
        """
        from jaxprof.plotting import plot_comparison

        return plot_comparison(
            self,
            other=other,
            curve=curve,
            curve_label=curve_label,
            sed_type=self._plot_sed_type(sed_type, "flux"),
            group=group,
            axes=axes,
            **kwargs,
        )

    def plot_parameter(self, parameter: str = "index", ax: Any = None, **kwargs: Any) -> Any:
        """Draw a spectral parameter that was fitted in every bin, with its errors.

        Parameters
        ----------
        parameter : str
            Name of the parameter, "index" for instance.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_parameter`.

        Returns
        -------
        `~matplotlib.axes.Axes`

        Raises
        ------
        ValueError
            If the profile has no such parameter.
        """
        from jaxprof.plotting import plot_parameter

        self._need(
            parameter,
            "spectral parameters are fitted by ForwardFoldingProfileEstimator "
            "with free_index=True or free_spectral_parameters=",
        )
        return plot_parameter(self, parameter=parameter, ax=ax, **kwargs)

    def _need(self, name: str, remedy: str) -> None:
        """Say what to do where a figure has nothing to show."""
        if name not in self.quantities:
            raise ValueError(f"there is no {name}; {remedy}")

    def _plot_sed_type(self, sed_type: str | None, default: str = "dnde") -> str:
        if sed_type is None:
            return default if self.sed_type_init == "likelihood" else self.sed_type_init
        if sed_type == "norm" or check_sed_type(sed_type) == "likelihood":
            return "norm"
        return sed_type


_JOINT = "ForwardFoldingProfileEstimator gives it"
