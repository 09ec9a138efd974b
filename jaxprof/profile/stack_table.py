"""Tables of stacks of flux profiles.

A row is a bin of a profile. The first column has the axis of the stack as its name, "time" or
"set", and holds the names of the profiles; ``time_min`` and ``time_max`` follow where good time
intervals are known: MJD in d, in terrestrial time. The other columns are those of a profile's table
(`jaxprof.profile.table`), vectors over the energy groups, but:
counts of several datasets are summed, matrices of joint fits are left out, and so is what not all
profiles have in the same shape.

A light curve is a row for each time, of one bin, in gammapy's layout "lightcurve": ``time_min`` and
``time_max`` in d after the reference time in the meta (MJDREFI, MJDREFF, TIMESYS), vectors over the
energy groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Column, Table, vstack

from jaxprof.profile.fluxprofile import FluxProfile
from jaxprof.profile.papertable import check_style, paper_table, ranges
from jaxprof.profile.printed import with_formats
from jaxprof.profile.quantities import MATRICES, check_sed_type
from jaxprof.profile.stack import bin_values
from jaxprof.profile.stack_axis import has_gti
from jaxprof.profile.table import chosen_columns, convert_value, profile_to_table

if TYPE_CHECKING:
    from jaxprof.profile.stack import FluxProfileStack

_META = ("SED_TYPE", "UL_CONF", "N_SIGMA", "NSIGMAUL", "NSIGMASE", "SQRTTSUL", "SOLIDREF")


def stack_table(
    stack: FluxProfileStack,
    sed_type: str,
    columns: Sequence[str] | None = None,
    style: str = "full",
    *,
    unit: Any = None,
    formatted: bool = False,
    latex: bool = False,
) -> Table:
    """Table with a row for each profile and bin, as the module describes it.

    Parameters
    ----------
    stack : FluxProfileStack
        The profiles.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What norms, errors and limits are expressed in.
    columns : sequence of str, optional
        Which columns, in this order.
    style : {"full", "paper"}
        "paper" has a row for each profile, bin and energy group: the columns of
        `~jaxprof.profile.papertable.paper_table` after the names of the profiles and, along "time",
        their times.
    unit : str or Unit, optional
        Unit of what `sed_type` says, its errors and limits.
    formatted : bool
        Whether to show few digits.
    latex : bool
        Whether the cells of style "paper" are LaTeX.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        For an unknown sed type, style, column or unit.
    """
    check_sed_type(sed_type)
    check_style(style)
    if style == "paper":
        entries = {stack.axis: stack.names}
        if stack.axis == "time":
            spans = np.stack([stack.time_min.mjd, stack.time_max.mjd], axis=1)
            entries["MJD"] = tuple(ranges(spans, latex))
        return paper_table(
            stack.profiles, sed_type, entries=entries, columns=columns, unit=unit, latex=latex
        )
    table = _joined(stack, sed_type)
    if unit is not None:
        convert_value(table, "norm" if sed_type == "likelihood" else sed_type, unit)
    table = with_formats(table) if formatted else table
    return table if columns is None else chosen_columns(table, columns)


def light_curve_table(stack: FluxProfileStack, sed_type: str, bin: int | None) -> Table:
    """Table of one bin with a row for each time, in gammapy's layout.

    Parameters
    ----------
    stack : FluxProfileStack
        Profiles with good time intervals.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What norms, errors and limits are expressed in.
    bin : int or None
        Which bin; may be None if there is only one.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        For an unknown sed type, times that are not known, or a bin that does not exist.
    """
    fewest = min(own.shape[0] for own in stack.profiles)
    if bin is None and stack.shape[1] == 1:
        bin = 0
    if isinstance(bin, bool) or not isinstance(bin, int | np.integer) or not 0 <= bin < fewest:
        raise ValueError(f"bin is {bin!r}; a light curve is that of one bin, 0 to {fewest - 1}")
    start, stop = stack.time_min, stack.time_max
    table = _joined(stack.slice_by_idx({stack.profiles[0].axis.name: [bin]}), sed_type)
    left_out = {"time", "set", "name", "x_min", "x_max", "x_ref", "time_min", "time_max", "status"}
    for name in left_out.intersection(table.colnames):
        table.remove_column(name)
    for name in {"counts", "npred", "npred_excess"}.intersection(table.colnames):
        # With an axis of datasets, as gammapy has it.
        values = np.asarray(table[name])[..., np.newaxis]
        table.replace_column(name, Column(values, unit=table[name].unit))
    reference = int(np.floor(np.min(start.mjd)))
    for place, (name, times) in enumerate((("time_min", start), ("time_max", stop))):
        # Both parts of a Time keep the digits.
        days = (times.jd1 - 2400000.5 - reference) + times.jd2
        table.add_column(Column(days, unit="d"), name=name, index=place)
    table.meta |= {"MJDREFI": reference, "MJDREFF": 0.0, "TIMESYS": "tt", "TIMEUNIT": "d"}
    return table


def _joined(stack: FluxProfileStack, sed_type: str) -> Table:
    """Rows of all profiles, with the axis of the energy groups."""
    energy_unit = stack.profiles[0].energy_unit or "TeV"
    tables = [_own_table(own, sed_type, energy_unit) for own in stack.profiles]
    names = [
        name
        for name in tables[0].colnames
        if all(name in own.colnames for own in tables)
        and len({own[name].shape[1:] for own in tables}) == 1
        and len({own[name].unit for own in tables}) == 1
    ]
    table = vstack([own[names] for own in tables], metadata_conflicts="silent")
    table.meta = {key: tables[0].meta[key] for key in _META if key in tables[0].meta}
    rows = [len(own) for own in tables]
    if all(has_gti(own) for own in stack.profiles):
        for name in ("time_max", "time_min"):
            times = np.repeat(getattr(stack, name).tt.mjd, rows)
            table.add_column(Column(times, unit="d", format=".5f"), name=name, index=0)
        table.meta["TIMESYS"] = "tt"
    table.add_column(np.repeat(stack.names, rows), name=stack.axis, index=0)
    return table


def _own_table(profile: FluxProfile, sed_type: str, energy_unit: str) -> Table:
    table: Any = profile_to_table(profile, sed_type, energy_unit=energy_unit)
    for name in table.colnames:
        if name in MATRICES:
            table.remove_column(name)
        elif table[name].ndim == 3 and "scan" not in name:
            table.replace_column(name, Column(bin_values(profile, name), unit=table[name].unit))
    return table
