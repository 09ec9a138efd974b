"""Tables and files of a profile, and the way back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astropy.table import Table

from jaxprof.inference.levels import sigma_of_limits
from jaxprof.profile.checks import check_format
from jaxprof.profile.text_options import TextOptions

if TYPE_CHECKING:
    from jaxprof.profile.fluxprofile import FluxProfile


class ProfileFiles:
    """What `FluxProfile` is written to and read from."""

    def to_table(
        self: Any,
        sed_type: str | None = None,
        format: str = "profile",
        formatted: bool = False,
        *,
        columns: Sequence[str] | None = None,
        style: str = "full",
        unit: Any = None,
    ) -> Table:
        """Table of the profile, a row for each bin.

        Printed, it shows the columns that matter and fit into 80 characters, or into a wider
        terminal, with a line for each energy group of a bin; ``pprint_all()`` shows all.

        Its columns are vectors over the energy groups, of which there may be one, as in gammapy. In
        text, ``table.write("t.csv")``, and in data frames, ``table.to_pandas()``, they are numbered
        columns, such as ``flux_0``, ``flux_1``; `write` puts units into their names as well.

        Parameters
        ----------
        sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}, optional
            What to express norms, errors and limits in; by default ``sed_type_init``.
        format : {"profile"}
            Layout of the columns; see `jaxprof.profile.table`.
        formatted : bool
            Whether to show few digits. The values stay as they are.
        columns : sequence of str, optional
            Which columns, in this order. Those of "paper" are "name", "axis", "energy", "flux" (or
            another value with its errors), "sqrt_ts", "counts", "status" and other quantities.
        style : {"full", "paper"}
            "paper" is text with a row for each bin and energy group: a range of the axis, the value
            with its errors or, where ``is_ul`` and the limit is positive, the limit, and the
            significance. (A limit that is not positive is none on a flux.)
        unit : str or Unit, optional
            Unit of what `sed_type` says, its errors and limits.

        Returns
        -------
        `~astropy.table.Table`

        Raises
        ------
        ValueError
            For an unknown sed type, format, style, column or unit.
        """
        from jaxprof.profile.table import styled_table

        sed_type = self.sed_type_init if sed_type is None else sed_type
        check_format(format)
        return styled_table(self, sed_type, columns, style, unit=unit, formatted=formatted)

    @classmethod
    def from_table(
        cls,
        table: Table,
        *,
        sed_type: str | None = None,
        reference_model: Any = None,
        n_sigma_ul: float | None = None,
        cl: float | None = None,
    ) -> FluxProfile:
        """Profile of a table that `to_table`, or gammapy's ``to_table(format="profile")``, made.

        Parameters
        ----------
        table : `~astropy.table.Table`
            A row for each bin.
        sed_type, reference_model, n_sigma_ul, cl
            As for `read`.

        Returns
        -------
        FluxProfile

        Raises
        ------
        ValueError
            If columns are missing or wrong; the message names them.
        """
        from jaxprof.profile.parse import profile_from_table

        n_sigma_ul = n_sigma_ul if cl is None else sigma_of_limits(n_sigma_ul, cl)
        return profile_from_table(
            table, sed_type=sed_type, reference_model=reference_model, n_sigma_ul=n_sigma_ul
        )

    def write(
        self: Any,
        filename: str | os.PathLike[str],
        *,
        sed_type: str | None = None,
        format: str = "profile",
        overwrite: bool = False,
        include_likelihood: bool = True,
        columns: Sequence[str] | None = None,
        style: str | None = None,
        unit: Any = None,
        caption: str | None = None,
        label: str | None = None,
    ) -> None:
        """Write the profile to a file that `read`, and gammapy, can read, or as a text table.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits", ".fits.gz" or ".ecsv"; ``$VARIABLES`` and ``~`` are expanded, symbolic
            links are followed. It appears entirely or not at all. Or in ".csv",
            ".tex" or ".txt", which are for people and other programs: a row for each bin and
            energy group, whose numbers are the first columns, ``bin`` and ``group``, and units in
            the names of columns, as in "x_min [deg]".
        sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}, optional
            What gammapy reads, if it is told nothing. By default ``sed_type_init``; but if bins
            have spectra of their own "dnde" instead of "likelihood", which gammapy cannot read
            then. Such files have columns of all sed types: gammapy is right about the one that
            it is told to read, ``FluxPoints.read(filename, format="profile", sed_type="eflux")``,
            and computes the others from its own model.
        format : {"profile"}
            As for `to_table`.
        overwrite : bool
            Whether an existing file may be replaced. It keeps its permissions.
        include_likelihood : bool
            Whether to write ``likelihood_data``, without which `recompute_ul` is not exact.
        columns : sequence of str, optional
            Of text tables: which columns, in this order; see `to_table`.
        style : {"full", "paper"}, optional
            Of text tables, see `to_table`; by default "paper" for ".tex" without `columns`. Level
            and kind of the limits stand below it, in ".csv" they are the last columns.
        unit : str or Unit, optional
            Of text tables, see `to_table`.
        caption, label : str, optional
            Of LaTeX tables: caption, as LaTeX, and the label that the text refers to it by.

        Raises
        ------
        ValueError
            For another extension, an unknown sed type, format, column or unit; in FITS, for names
            of quantities that are not ASCII.
        OSError
            If the file exists and is not to be replaced (FileExistsError), or cannot be written.

        Warns
        -----
        UserWarning
            If FITS cannot hold a text, the name of a region for instance, that is not ASCII.
        """
        from jaxprof.io.fluxprofile import write_profile

        check_format(format)
        write_profile(
            self,
            filename,
            TextOptions(columns=columns, style=style, unit=unit, caption=caption, label=label),
            sed_type=sed_type,
            overwrite=overwrite,
            include_likelihood=include_likelihood,
        )

    def to_gammapy(self: Any) -> Any:
        """The profile as gammapy's ``FluxPoints``, with its reference model.

        Returns
        -------
        gammapy.estimators.FluxPoints
            What gammapy reads of the file that `write` writes.

        Raises
        ------
        ImportError
            If gammapy is not installed.
        ValueError
            If bins have spectra of their own, or gammapy has no such reference model.
        """
        from jaxprof.io.gammapy import profile_to_gammapy

        return profile_to_gammapy(self)

    @classmethod
    def read(
        cls,
        filename: str | os.PathLike[str],
        *,
        format: str = "profile",
        reference_model: Any = None,
        sed_type: str | None = None,
        n_sigma_ul: float | None = None,
        cl: float | None = None,
    ) -> FluxProfile:
        """Read a profile that this package or gammapy wrote.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits", ".fits.gz" or ".ecsv"; ``$VARIABLES`` and ``~`` are expanded.
        format : {"profile"}
            Layout of the table.
        reference_model : SpectralModel, or a list of these, one a bin, optional
            Needed only for files without reference fluxes: gammapy's of another sed type
            than "likelihood".
        sed_type : str, optional
            What the norms are taken from. By default as the file says, or what it has.
        n_sigma_ul : float, optional
            Number of standard deviations of the upper limits. Our files tell it, and those with
            UL_CONF; gammapy's profiles do not: of these it is 2 unless given.
        cl : float, optional
            The same as a probability, such as 0.95.

        Returns
        -------
        FluxProfile

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or no profile; the message names it and says why.
        """
        from jaxprof.io.readprofile import read_profile

        n_sigma_ul = n_sigma_ul if cl is None else sigma_of_limits(n_sigma_ul, cl)
        return read_profile(
            filename,
            format=format,
            reference_model=reference_model,
            sed_type=sed_type,
            n_sigma_ul=n_sigma_ul,
        )
