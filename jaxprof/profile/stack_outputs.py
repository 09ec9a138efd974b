"""Tables, files and figures of many flux profiles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from astropy.table import Table

from jaxprof.profile.text_options import TextOptions

if TYPE_CHECKING:
    from jaxprof.profile.fluxprofile import FluxProfile
    from jaxprof.profile.stack import FluxProfileStack


class StackOutputs:
    """What `FluxProfileStack` is made into."""

    __slots__ = ()
    if TYPE_CHECKING:
        profiles: tuple[FluxProfile, ...]

    def to_table(
        self,
        sed_type: str | None = None,
        format: str = "profile",
        bin: int | None = None,
        *,
        columns: Sequence[str] | None = None,
        style: str = "full",
        unit: Any = None,
    ) -> Table:
        """Table of all profiles.

        Parameters
        ----------
        sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}, optional
            What to express norms, errors and limits in; by default that of the first profile.
        format : {"profile", "lightcurve"}
            "profile" has a row for each profile and bin, "lightcurve" a row for each time of one
            bin: gammapy's layout, which ``FluxPoints.read(file, format="lightcurve")`` reads.
        bin : int, optional
            The bin of a light curve.
        columns, style, unit
            Of format "profile", as `FluxProfile.to_table` has them. Columns of style "paper" may
            be "time" or "set" as well, the names of the profiles, and along time "MJD".

        Returns
        -------
        Table
            See `jaxprof.profile.stack_table`.

        Raises
        ------
        ValueError
            For an unknown sed type, format, style, column or unit, a light curve without times, or
            a bin that does not exist.
        """
        from jaxprof.profile.stack_table import light_curve_table, stack_table

        if format not in ("profile", "lightcurve"):
            raise ValueError(f"format is {format!r}; valid are 'profile', 'lightcurve'")
        sed_type = self.profiles[0].sed_type_init if sed_type is None else sed_type
        if format == "lightcurve":
            if columns is not None or style != "full" or unit is not None:
                raise ValueError("columns, style and unit are for format='profile'")
            return light_curve_table(_stack(self), sed_type, bin)
        if bin is not None:
            raise ValueError(f"bin={bin} is for format='lightcurve'; use slice_by_idx for parts")
        return stack_table(_stack(self), sed_type, columns, style, unit=unit)

    def write(
        self,
        filename: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        include_likelihood: bool = True,
        sed_type: str | None = None,
        columns: Sequence[str] | None = None,
        style: str | None = None,
        unit: Any = None,
        caption: str | None = None,
        label: str | None = None,
    ) -> None:
        """Write all profiles to a FITS file, with nothing lost, or as a text table.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits" or ".fits.gz". Or in ".csv", ".tex" or ".txt", for people and other
            programs: a row for each profile, bin and energy group.
        overwrite : bool
            Whether an existing file may be replaced.
        include_likelihood : bool
            Whether to write the data that were fitted.
        sed_type, columns, style, unit, caption, label
            Of text tables, see `to_table`; the style is "paper" by default for ".tex" without
            `columns`.

        Raises
        ------
        ValueError, OSError
            See `jaxprof.io.stack.write_stack`.
        """
        from jaxprof.io.stack import write_stack

        write_stack(
            _stack(self),
            filename,
            overwrite=overwrite,
            include_likelihood=include_likelihood,
            sed_type=sed_type,
            text=TextOptions(columns=columns, style=style, unit=unit, caption=caption, label=label),
        )

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw bins along the axis of the stack, as a light curve: all, or the most significant.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_light_curve`: ``bins`` (of more than eight by default
            the eight most significant), ``group``, ``sed_type``.

        Returns
        -------
        `~matplotlib.axes.Axes`
        """
        from jaxprof.plotting import plot_light_curve

        return plot_light_curve(_stack(self), ax=ax, **kwargs)

    def plot_map(self, quantity: str = "flux", ax: Any = None, **kwargs: Any) -> Any:
        """Draw a quantity of all bins and profiles in colours.

        Parameters
        ----------
        quantity : str
            Which.
        ax : `~matplotlib.axes.Axes`, optional
            Where to draw; the current axes by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_stack_map`: ``group``, ``cmap``.

        Returns
        -------
        `~matplotlib.axes.Axes`
        """
        from jaxprof.plotting import plot_stack_map

        return plot_stack_map(_stack(self), quantity, ax=ax, **kwargs)


def _stack(outputs: StackOutputs) -> FluxProfileStack:
    """The stack that this is part of."""
    return cast("FluxProfileStack", outputs)
