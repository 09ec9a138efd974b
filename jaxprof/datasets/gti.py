"""Good time intervals as tables: seconds after a reference time, as FITS files have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable, Table, unique, vstack
from astropy.time import Time

COLUMNS = ("START", "STOP")
#: Time scales that convert to each other without tables of the rotation of the Earth.
SCALES = ("tt", "utc", "tai", "tdb", "tcb", "tcg")
_REMEDY = (
    "give the GTI of gammapy, its table, or a table of START and STOP in seconds with the "
    "reference time in its meta as MJDREFI and MJDREFF"
)


def gti_table(gti: Any) -> Table | None:
    """Good time intervals in the layout of FITS files (GADF), which gammapy reads.

    Parameters
    ----------
    gti : `~astropy.table.Table`, GTI of gammapy, or None
        A table has the columns START and STOP: either times (`~astropy.time.Time`), as in the
        ``table`` of gammapy's GTI, or numbers with respect to the reference time that the table's
        ``meta`` has as MJDREFI and MJDREFF (or MJDREF) and TIMESYS ("TT" by default), in the unit
        of the column, or else of TIMEUNIT, or else seconds.

    Returns
    -------
    `~astropy.table.Table` or None
        A copy with START and STOP in s, with the reference time in ``meta``; other columns and
        entries as they were. The reference of times is that of the GTI, or the beginning of the
        first day, in terrestrial time.

    Raises
    ------
    ValueError
        If it is neither, has no reference time, or intervals that are not finite or end before
        they begin.
    """
    if gti is None:
        return None
    reference = getattr(gti, "time_ref", None)
    table = getattr(gti, "table", gti)
    if not isinstance(table, Table):
        raise ValueError(f"gti is a {type(gti).__name__}; {_REMEDY}")
    if missing := [name for name in COLUMNS if name not in table.colnames]:
        raise ValueError(
            f"gti has no column {' and no '.join(missing)}, but {table.colnames}; {_REMEDY}"
        )
    if all(isinstance(table[name], Time) for name in COLUMNS):
        found = _from_times(table, reference)
    else:
        found = _from_numbers(table)
    start, stop = (np.asarray(found[name]) for name in COLUMNS)
    # NaN fails the comparison too.
    bad = ~((stop >= start) & np.isfinite(stop - start))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"gti: interval {row} is from {start[row]} to {stop[row]} s; give finite times, the "
            "first before the second"
        )
    return found


def _with_columns(table: Table, start: Any, stop: Any, meta: dict[str, Any]) -> Table:
    """A plain table with these seconds, and what else there was."""
    found = Table(table, copy=True) if isinstance(table, QTable) else table.copy()
    for name, values in zip(COLUMNS, (start, stop), strict=True):
        found[name] = Column(np.asarray(values, dtype=float), unit="s")
    # What a file can keep, but not the checksums of the one that this comes from.
    kept = {k: v for k, v in found.meta.items() if isinstance(v, str | int | float | list)}
    found.meta = {k: v for k, v in kept.items() if k not in ("CHECKSUM", "DATASUM")} | meta
    return found


def _from_times(table: Table, reference: Time | None) -> Table:
    if reference is None:
        reference = _reference(table.meta)
    if reference is None:
        first = float(np.min(table["START"].tt.mjd)) if len(table) else 51910.0
        reference = Time(np.floor(first), format="mjd", scale="tt")
    reference = reference.tt
    days = np.floor(reference.mjd)
    # The two parts of a Time, one after the other, to keep the digits of the fraction.
    fraction = float((reference.jd1 - 2400000.5 - days) + reference.jd2)
    meta = {"MJDREFI": int(days), "MJDREFF": fraction, "TIMESYS": "TT", "TIMEUNIT": "s"}
    start, stop = ((table[name].tt - reference).to_value("s") for name in COLUMNS)
    return _with_columns(table, start, stop, meta)


def _from_numbers(table: Table) -> Table:
    reference = _reference(table.meta)
    if reference is None:
        raise ValueError(f"gti has no reference time in its meta; {_REMEDY}")
    values: list[Any] = []
    for name in COLUMNS:
        column = table[name]
        unit = column.unit or table.meta.get("TIMEUNIT", "s")
        try:
            data: Any = np.ma.asarray(getattr(column, "value", column), float)
            values.append(np.ma.filled(data, np.nan) * u.Unit(unit).to("s"))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"gti: column {name} is not a time: {error}; {_REMEDY}") from error
    meta: dict[str, Any] = {"TIMEUNIT": "s", "TIMESYS": table.meta.get("TIMESYS", "TT")}
    if "MJDREFI" in table.meta:
        # Some files have them as text.
        meta["MJDREFI"] = int(float(table.meta["MJDREFI"]))
        meta["MJDREFF"] = float(table.meta.get("MJDREFF", 0.0))
        meta["MJDREFF"] += float(table.meta["MJDREFI"]) - meta["MJDREFI"]
    else:
        whole = float(table.meta["MJDREF"])
        meta |= {"MJDREFI": int(whole), "MJDREFF": whole - int(whole)}
    return _with_columns(table, values[0], values[1], meta)


def _reference(meta: dict[str, Any]) -> Time | None:
    """Reference time of a table's meta; None if it has none."""
    if "MJDREFI" not in meta and "MJDREF" not in meta:
        return None
    whole: Any = meta.get("MJDREFI", meta.get("MJDREF"))
    part = meta.get("MJDREFF", 0.0) if "MJDREFI" in meta else 0.0
    scale = str(meta.get("TIMESYS", "TT")).strip().lower()
    try:
        if scale not in SCALES:
            raise ValueError(f"the time scale must be one of {', '.join(map(str.upper, SCALES))}")
        return Time(float(whole), float(part), format="mjd", scale=scale)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"gti has the reference time MJDREFI={whole!r}, MJDREFF={part!r}, "
            f"TIMESYS={scale.upper()!r}, which is none: {error}"
        ) from error


def joined_gti(tables: Sequence[Table | None]) -> Table | None:
    """Good time intervals of several datasets, each interval once.

    Parameters
    ----------
    tables : sequence of Table or None
        What `gti_table` gave.

    Returns
    -------
    `~astropy.table.Table` or None
        With respect to the reference time of the first; None without any.
    """
    known = [table for table in tables if table is not None]
    if len(known) < 2:
        return known[0] if known else None
    first = _reference(known[0].meta)
    moved = []
    for table in known:
        own = _reference(table.meta)
        assert own is not None and first is not None
        shift = (own - first).to_value("s")
        if shift != 0:
            # To the microsecond, which the sum keeps: the same interval must stay the same.
            start, stop = (np.round(np.asarray(table[name]) + shift, 6) for name in COLUMNS)
            table = _with_columns(table, start, stop, {})
        moved.append(table)
    found = unique(vstack(moved, metadata_conflicts="silent"), keys=list(COLUMNS))
    found.meta = dict(known[0].meta)
    return found


def interval_times(table: Table) -> Time:
    """Begin and end of each good time interval, shape (N, 2).

    Parameters
    ----------
    table : Table
        What `gti_table` gave.
    """
    return _times(table, np.stack([np.asarray(table["START"]), np.asarray(table["STOP"])], axis=1))


def time_span(table: Table) -> Time:
    """Begin of the first and end of the last good time interval, shape (2,).

    Parameters
    ----------
    table : Table
        What `gti_table` gave, with one interval or more.
    """
    return _times(table, [np.min(np.asarray(table["START"])), np.max(np.asarray(table["STOP"]))])


def _times(table: Table, seconds: Any) -> Time:
    """Times at seconds since the reference of a table that `gti_table` gave."""
    reference = _reference(table.meta)
    assert reference is not None
    return reference + u.Quantity(seconds, "s")
