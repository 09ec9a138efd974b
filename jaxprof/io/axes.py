"""Axes of maps in FITS files: tables of bins and nodes.

A table ``<NAME>_BANDS`` lists every combination of the bins of the axes of a map; the header
keywords AXCOLSn name the columns of axis n, the fastest first: two columns (MIN, MAX) for bins, one
for nodes. Other tools have one axis, of energies, in a table EBOUNDS or ENERGIES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.io.errors import naming
from jaxprof.io.units import unit_of
from jaxprof.sky import MapAxis

SAME_EDGE = 1e-5
"""Relative distance up to which the end of a bin is the beginning of the next."""
NO_COLUMNS = fits.ColDefs([])


def axes_of(hdulist: fits.HDUList, hdu: Any) -> tuple[str, list[MapAxis], list[NDArray[np.int64]]]:
    """Table with the axes of a map, the axes, and in which order their bins are in the file."""
    name = str(hdu.header.get("BANDSHDU", f"{hdu.name}_BANDS"))
    if name in hdulist:
        return (name, *read_axes(hdulist[name]))
    planes = hdu.header.get("NAXIS3") if hdu.is_image else None
    tables = energy_tables(hdulist) if planes else []
    for table in sorted(tables, key=lambda table: len(hdulist[table].data) != planes):
        axis, order = energy_axis(hdulist, table)
        return table, [axis], [order]
    return name, [], []


def energy_tables(hdulist: fits.HDUList) -> list[str]:
    """Names of the tables of energies: EBOUNDS, ENERGIES, or the only other one that has such."""
    names = [table for table in ("EBOUNDS", "ENERGIES") if table in hdulist]
    tables = [hdu for hdu in hdulist if isinstance(hdu, fits.BinTableHDU) and hdu.name]
    energies = ({"E_MIN", "E_MAX"}, {"CHANNEL", "E_MIN", "E_MAX"}, {"ENERGY"})
    others = [hdu.name for hdu in tables if _columns(hdu) in energies]
    return names or (others if len(others) == 1 else [])


def _columns(hdu: Any) -> set[str]:
    """Names of columns in capitals; astropy finds them so."""
    return {str(name).upper() for name in getattr(hdu, "columns", NO_COLUMNS).names}


def energy_axis(hdulist: fits.HDUList, name: str) -> tuple[MapAxis, NDArray[np.int64]]:
    """Axis of a table of energies, and its rows in the order of these.

    Bins (columns E_MIN and E_MAX) make an axis "energy", nodes (ENERGY) one "energy_true".

    Raises
    ------
    ValueError
        If the columns are missing, have no unit that is known or make no axis.
    """
    hdu = hdulist[name]
    if name == "EBOUNDS" or (name != "ENERGIES" and "ENERGY" not in _columns(hdu)):
        axis, order = axis_of_bins(hdu, ("E_MIN", "E_MAX"), "energy")
    else:
        with naming(f"HDU {name}"):
            # Tools of Fermi write no unit, and mean MeV.
            nodes, unit = column_values(hdu, ["ENERGY"], "MeV")
            order = np.argsort(nodes[0], kind="stable")
            axis = MapAxis.from_nodes(nodes[0][order], name="energy_true", unit=unit, interp="log")
    if not axis.unit.is_equivalent("eV"):
        raise ValueError(f"HDU {name} has the unit {axis.unit}, which is no energy")
    return axis, order


def axis_of_bins(
    hdu: Any, columns: tuple[str, str], name: str, default: str | None = None
) -> tuple[MapAxis, NDArray[np.int64]]:
    """Axis of the bins in two columns, and the rows in their order; see `column_values`."""
    bins, unit = column_values(hdu, columns, default)
    order = np.argsort(bins[0], kind="stable")
    with naming(f"{','.join(columns)} of HDU {hdu.name}"):
        return _bins_axis(bins[:, order], name=name, unit=unit, interp="log"), order


def column_values(
    hdu: Any, columns: Sequence[str], default: str | None = ""
) -> tuple[NDArray[np.float64], u.UnitBase]:
    """Numbers (columns, rows) in the unit of the first column, and that unit.

    Parameters
    ----------
    hdu : HDU
        A table.
    columns : sequence of str
        Their names, in capitals or not.
    default : str or None
        Unit of what has none; None if that is an error.

    Raises
    ------
    ValueError
        If columns or rows are missing, or units are missing, not known or do not convert.
    """
    if missing := [column for column in columns if column.upper() not in _columns(hdu)]:
        raise ValueError(f"HDU {hdu.name} has no column {' and no '.join(missing)}")
    if not len(hdu.data):
        raise ValueError(f"HDU {hdu.name} has no rows")
    found = []
    for column in columns:
        unit = hdu.columns[column].unit or default
        if unit is None:
            raise ValueError(
                f"column {column} of HDU {hdu.name} has no unit; write it, as TUNIT (keV, MeV)"
            )
        found.append(u.Quantity(np.asarray(hdu.data[column], np.float64), unit_of(unit, hdu.name)))
    return np.stack([values.to_value(found[0].unit) for values in found]), found[0].unit


def read_axes(hdu: Any) -> tuple[list[MapAxis], list[NDArray[np.int64]]]:
    """Axes of increasing bins, the fastest first, and in which order these stand in the file."""
    if not isinstance(hdu, fits.BinTableHDU) or not len(hdu.data):
        raise ValueError(f"HDU {hdu.name} is no table with a row for each bin")
    axes: list[MapAxis] = []
    orders: list[NDArray[np.int64]] = []
    for index in range(1, 10):
        columns = hdu.header.get(f"AXCOLS{index}")
        if columns is None:
            break
        interp = str(hdu.header.get(f"INTERP{index}", "lin")).strip().lower()
        try:
            names = [column.strip() for column in str(columns).upper().split(",")]
            bins, order = _distinct_bins(hdu, names, int(np.prod([axis.nbin for axis in axes])))
            axes.append(_read_axis(hdu, names, bins, interp))
            orders.append(order)
        except (KeyError, ValueError, u.UnitTypeError) as error:
            raise ValueError(f"axis {columns!r} of HDU {hdu.name}: {error}") from error
    if not axes:
        raise ValueError(f"HDU {hdu.name} names no axis (AXCOLS1 is missing)")
    return axes, orders


def _distinct_bins(
    hdu: fits.BinTableHDU, columns: list[str], repeat: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Nodes (1, n) or bounds (2, n) of the bins of an axis, increasing, and their order.

    Each stands in ``repeat`` rows, one for each combination of the bins of faster axes.
    """
    values, _ = column_values(hdu, columns)
    if "CHANNEL" in hdu.columns.names:
        values = values[:, np.argsort(hdu.data["CHANNEL"], kind="stable")]
    bins, first = np.unique(values, axis=1, return_index=True)
    order = np.argsort(np.argsort(first))
    rows = np.arange(values.shape[1]) // repeat % len(first)
    if not np.array_equal(values, bins[:, np.argsort(first)][:, rows]):
        raise ValueError("the rows do not list all bins in turn, that of the first axis fastest")
    return bins, order


def _read_axis(
    hdu: fits.BinTableHDU, columns: list[str], bins: NDArray[np.float64], interp: str
) -> MapAxis:
    name = "energy" if columns[0] == "E_MIN" else columns[0].removesuffix("_MIN").lower()
    name = {"theta": "rad"}.get(name, name)
    unit = unit_of(hdu.columns[columns[0]].unit or "", hdu.name)
    if len(columns) == 1 and bins.shape[1] > 1:
        return MapAxis.from_nodes(bins[0], name=name, unit=unit, interp=interp)
    if len(columns) == 1:
        # One node says nothing about its bin; the MIN and MAX columns do.
        prefix = "E" if name == "energy" else columns[0]
        bins, _ = _distinct_bins(hdu, [f"{prefix}_MIN", f"{prefix}_MAX"], 1)
    return _bins_axis(bins, name=name, unit=unit, interp=interp)


def _bins_axis(bins: NDArray[np.float64], *, name: str, unit: u.UnitBase, interp: str) -> MapAxis:
    """Axis of increasing bins (2, n), lower and upper bounds; ValueError for gaps or overlaps."""
    low, high = bins
    apart = np.abs(low[1:] - high[:-1]) > SAME_EDGE * np.abs(low[1:])
    if apart.any():
        first = int(np.argmax(apart))
        raise ValueError(
            f"bins must follow one another, but one ends at {high[first]:.6g} and the next begins "
            f"at {low[first + 1]:.6g} {unit}"
        )
    edges = np.append(low, high[-1])
    return MapAxis.from_edges(edges, name=name, unit=unit, interp=interp)


def reordered(data: NDArray[Any], orders: list[NDArray[np.int64]]) -> NDArray[Any]:
    """Data (n_axis_last, ..., n_axis_first, ...) with the bins of each axis in another order."""
    for dimension, order in enumerate(reversed(orders)):
        if np.any(np.diff(order) < 0):
            data = np.take(data, order, axis=dimension)
    return data


def axis_cards(axes: list[MapAxis]) -> dict[str, str]:
    """Header cards that name the columns of the axes."""
    cards = {}
    for index, axis in enumerate(axes, start=1):
        node, low, high = _column_names(axis)
        cards[f"AXCOLS{index}"] = node if axis.node_type == "center" else f"{low},{high}"
        cards[f"INTERP{index}"] = axis.interp
    return cards


def _column_names(axis: MapAxis) -> tuple[str, str, str]:
    name = axis.name.upper()
    prefix = "E" if name == "ENERGY" else name
    return name, f"{prefix}_MIN", f"{prefix}_MAX"


def bands_hdu(axes: list[MapAxis], name: str, cards: dict[str, str]) -> fits.BinTableHDU:
    """Table with a row for each combination of the bins of the axes."""
    shape = tuple(axis.nbin for axis in reversed(axes))
    indices = np.indices(shape).reshape(len(shape), -1)[::-1]
    columns = [fits.Column("CHANNEL", "K", array=np.arange(indices.shape[1]))]
    for axis, index in zip(axes, indices, strict=True):
        unit = axis.unit.to_string("fits") or None
        parts = (axis.center.value, axis.edges.value[:-1], axis.edges.value[1:])
        for column, values in zip(_column_names(axis), parts, strict=True):
            columns.append(fits.Column(column, "D", unit=unit, array=values[index]))
    hdu = fits.BinTableHDU.from_columns(columns, name=name)
    hdu.header.update(cards)
    return hdu
