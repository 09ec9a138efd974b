"""FITS HDUs of maps, cubes and instrument responses (the "gadf" map format).

A map is an image HDU or, for a response without a sky grid, a table with the columns
CHANNEL and DATA. Its further axes are in a table ``<NAME>_BANDS`` that lists every
combination of their bins; the header keywords AXCOLSn name the columns of axis n, the
fastest first: two columns (MIN, MAX) for bins, one for nodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from jaxprof.io.errors import naming
from jaxprof.io.units import unit_of
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

# The cards that define a celestial image. Dates and the like are left out: they change
# nothing about the pixels and make astropy warn.
_WCS_KEYS = ("CTYPE", "CRPIX", "CRVAL", "CDELT", "CUNIT", "CROTA", "PC", "CD", "PV")
_WCS_TEXT = ("CTYPE", "CUNIT")
_WCS_NAMES = ("LONPOLE", "LATPOLE", "RADESYS", "RADECSYS", "EQUINOX")

SAME_EDGE = 1e-5
"""Relative distance up to which the end of a bin is the beginning of the next."""


class FitsArray(NamedTuple):
    """Contents of a map HDU.

    Attributes
    ----------
    data : ndarray
        Shape ``(n_axis_last, ..., n_axis_first[, ny, nx])``.
    axes : list of MapAxis
        Further axes, the fastest first.
    geom : WcsGeom or None
        Sky grid with the axes; None for a table.
    unit : `~astropy.units.Unit`
        Unit of the data.
    """

    data: NDArray[Any]
    axes: list[MapAxis]
    geom: WcsGeom | None
    unit: u.UnitBase


def image_names(hdulist: fits.HDUList) -> list[str]:
    """Names of the HDUs that hold an image, or a HEALPix map, with sky coordinates."""
    found = []
    for number, hdu in enumerate(hdulist):
        header = hdu.header
        if not hdu.name:
            hdu.name = f"HDU{number}"
        sky = str(header.get("CTYPE1", "")) != "" and header.get("NAXIS", 0) >= 2
        if (hdu.is_image and sky) or str(header.get("PIXTYPE", "")).upper() == "HEALPIX":
            found.append(hdu.name)
    return found


def read_map(hdulist: fits.HDUList, name: str, cache: dict[Any, WCS] | None = None) -> WcsNDMap:
    """Read a sky image or cube; see `read_array` for the arguments.

    Raises
    ------
    ValueError
        Also if the HDU has no sky grid.
    """
    data, _, geom, unit = read_array(hdulist, name, cache)
    if geom is None:
        raise ValueError(
            f"HDU {name} is a table of one sky region, not a sky map; spectrum datasets "
            "have no profile"
        )
    return WcsNDMap(geom, data, unit)


def read_array(hdulist: fits.HDUList, name: str, cache: dict[Any, WCS] | None = None) -> FitsArray:
    """Read the data, axes and sky grid of an HDU.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open file.
    name : str
        Name of the HDU. Data of a HDU with "MASK" in its name become boolean.
    cache : dict, optional
        Keeps WCS objects, so that maps on the same sky grid share one.

    Returns
    -------
    array : FitsArray

    Raises
    ------
    ValueError
        If the HDU or its axes cannot be understood; the message names the HDU.
    """
    hdu = hdulist[name]
    bands_name, axes, orders = _axes_of(hdulist, hdu)
    if isinstance(hdu, fits.BinTableHDU):
        data, unit = _read_table(hdu, axes)
        return FitsArray(_reordered(data, orders), axes, None, unit)
    data = hdu.data
    if data is None:
        raise ValueError(f"HDU {name} has no data")
    _check_numbers(data, name)
    shape = tuple(axis.nbin for axis in reversed(axes))
    if not axes and data.ndim > 2 and data.size == np.prod(data.shape[-2:]):
        # Axes of one bin about which nothing is said.
        data = data.reshape(data.shape[-2:])
    if data.ndim > 2 and not axes:
        raise ValueError(
            f"HDU {name} has data of shape {data.shape}, but no table says what its images are: "
            f"{bands_name}, EBOUNDS (energy bins) or ENERGIES (energies of nodes)"
        )
    if data.shape[:-2] != shape or data.ndim < 2:
        raise ValueError(
            f"HDU {name} has data of shape {data.shape}, but the axes of {bands_name} make "
            f"{(*shape, 'ny', 'nx')}"
        )
    data = _reordered(data.astype(data.dtype.newbyteorder("="), copy=False), orders)
    if "MASK" in name.upper():
        data = data != 0
    geom = WcsGeom(_celestial_wcs(hdu, cache), data.shape[-2:], axes)
    return FitsArray(data, axes, geom, unit_of(str(hdu.header.get("BUNIT", "")), name))


def _axes_of(hdulist: fits.HDUList, hdu: Any) -> tuple[str, list[MapAxis], list[NDArray[np.int64]]]:
    """Table with the axes of a map, the axes, and in which order their bins are in the file."""
    name = str(hdu.header.get("BANDSHDU", f"{hdu.name}_BANDS"))
    if name in hdulist:
        return (name, *read_axes(hdulist[name]))
    planes = hdu.header.get("NAXIS3") if hdu.is_image else None
    tables = [table for table in ("EBOUNDS", "ENERGIES") if planes and table in hdulist]
    for table in sorted(tables, key=lambda table: len(hdulist[table].data) != planes):
        axis, order = energy_axis(hdulist, table)
        return table, [axis], [order]
    return name, [], []


def energy_axis(hdulist: fits.HDUList, name: str) -> tuple[MapAxis, NDArray[np.int64]]:
    """Axis of a table EBOUNDS ("energy") or ENERGIES ("energy_true"), and its rows in their order.

    Raises
    ------
    ValueError
        If the columns are missing, have no unit that is known or make no axis.
    """
    hdu = hdulist[name]
    columns = {str(c).upper(): str(c) for c in getattr(hdu, "columns", fits.ColDefs([])).names}
    wanted = ["E_MIN", "E_MAX"] if name == "EBOUNDS" else ["ENERGY"]
    if missing := [column for column in wanted if column not in columns]:
        raise ValueError(f"HDU {name} has no column {' and no '.join(missing)}")
    values = [np.asarray(hdu.data[columns[column]], np.float64) for column in wanted]
    unit = hdu.columns[columns[wanted[0]]].unit
    if name == "EBOUNDS" and not unit:
        raise ValueError(f"column E_MIN of HDU {name} has no unit; write it, as TUNIT (keV, MeV)")
    order = np.argsort(values[0], kind="stable")
    with naming(f"HDU {name}"):
        if name == "EBOUNDS":
            unit = unit_of(unit, name)
            bins = np.stack(values)[:, order]
            return bins_axis(bins, name="energy", unit=unit, interp="log"), order
        # Tools of Fermi write no unit, and mean MeV.
        unit = unit_of(unit or "MeV", name)
        nodes = values[0][order]
        axis = MapAxis.from_nodes(nodes, name="energy_true", unit=unit, interp="log")
        return axis, order


def _read_table(hdu: fits.BinTableHDU, axes: list[MapAxis]) -> tuple[NDArray[Any], u.UnitBase]:
    """DATA column of a region table, in native byte order."""
    names = [column.upper() for column in hdu.columns.names]
    if "DATA" not in names:
        kind = hdu.header.get("PIXTYPE", "")
        raise ValueError(
            f"HDU {hdu.name} is a {kind + ' ' if kind else ''}table with the columns {names}; "
            "a sky image, or a table with CHANNEL and DATA, is expected"
        )
    column = np.asarray(hdu.data["DATA"])
    _check_numbers(column, hdu.name)
    shape = tuple(axis.nbin for axis in reversed(axes))
    if column.size != np.prod(shape, dtype=int):
        raise ValueError(f"HDU {hdu.name} has {column.size} rows, but its axes make {shape} bins")
    data = column.astype(column.dtype.newbyteorder("=")).reshape(shape)
    return data, unit_of(hdu.columns["DATA"].unit or "", hdu.name)


def _check_numbers(data: NDArray[Any], name: str) -> None:
    if data.dtype.kind not in "iufb":
        raise ValueError(f"HDU {name} holds {data.dtype.name}, it must hold numbers")


def _reordered(data: NDArray[Any], orders: list[NDArray[np.int64]]) -> NDArray[Any]:
    """Data (n_axis_last, ..., n_axis_first, ...) with the bins of each axis in another order."""
    for dimension, order in enumerate(reversed(orders)):
        if np.any(np.diff(order) < 0):
            data = np.take(data, order, axis=dimension)
    return data


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
    values = np.stack([np.asarray(hdu.data[column], np.float64) for column in columns])
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
    unit = column_unit(hdu, columns[0])
    if len(columns) == 1 and bins.shape[1] > 1:
        return MapAxis.from_nodes(bins[0], name=name, unit=unit, interp=interp)
    if len(columns) == 1:
        # One node says nothing about its bin; the MIN and MAX columns do.
        prefix = "E" if name == "energy" else columns[0]
        bins, _ = _distinct_bins(hdu, [f"{prefix}_MIN", f"{prefix}_MAX"], 1)
    return bins_axis(bins, name=name, unit=unit, interp=interp)


def bins_axis(bins: NDArray[np.float64], *, name: str, unit: u.UnitBase, interp: str) -> MapAxis:
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


def column_unit(hdu: fits.BinTableHDU, column: str) -> u.UnitBase:
    """Unit of a column; ValueError if it is not known."""
    return unit_of(hdu.columns[column].unit or "", hdu.name)


def celestial_geom(hdu: Any) -> WcsGeom:
    """Pixels of an image HDU, whatever further axes it has."""
    return WcsGeom(_celestial_wcs(hdu, None), hdu.data.shape[-2:])


def _celestial_wcs(hdu: Any, cache: dict[Any, WCS] | None) -> WCS:
    cards = []
    for key, value in hdu.header.items():
        stem = key.rstrip("0123456789_")
        axes = key[len(stem) :].split("_")
        if stem == "PV":  # PVi_m is parameter m of axis i
            axes = axes[:1]
        if key in _WCS_NAMES or (stem in _WCS_KEYS and all(axis in ("1", "2") for axis in axes)):
            _check_card(hdu.name, key, value, stem)
            # The old name of a keyword, about which astropy would warn.
            cards.append((key.replace("RADECSYS", "RADESYS"), value))
    identity = tuple(cards)
    if cache is not None and identity in cache:
        return cache[identity]
    try:
        wcs = WCS(fits.Header(cards), naxis=2, fix=False)
    except ValueError as error:
        raise ValueError(f"the coordinates of HDU {hdu.name} make no sense: {error}") from error
    if not wcs.has_celestial:
        raise ValueError(
            f"HDU {hdu.name} has no celestial coordinates (CTYPE {list(wcs.wcs.ctype)})"
        )
    if cache is not None:
        cache[identity] = wcs
    return wcs


def _check_card(hdu_name: str, key: str, value: Any, stem: str) -> None:
    """Raise for a value that WCS would replace by its default."""
    is_text = stem in _WCS_TEXT
    known = stem in _WCS_KEYS or key in ("LONPOLE", "LATPOLE")
    right = isinstance(value, str) if is_text else isinstance(value, int | float)
    if known and (isinstance(value, bool) or not right):
        raise ValueError(
            f"{key} of HDU {hdu_name} is {value!r}, it must be {'text' if is_text else 'a number'}"
        )


def map_to_hdus(map_: WcsNDMap, name: str) -> list[Any]:
    """HDUs of a sky map: the image and, if it has further axes, its BANDS table.

    Parameters
    ----------
    map_ : WcsNDMap
        Boolean data are written as 8-bit integers.
    name : str
        Name of the image HDU.
    """
    return array_to_hdus(FitsArray(map_.data, map_.geom.axes, map_.geom, map_.unit), name)


def array_to_hdus(array: FitsArray, name: str) -> list[Any]:
    """HDUs of an array with axes, with or without a sky grid.

    Parameters
    ----------
    array : FitsArray
        The axes are taken from ``array.axes``.
    name : str
        Name of the first HDU; the second is ``<name>_BANDS``.
    """
    data = array.data.astype(np.uint8) if array.data.dtype == bool else array.data
    unit = array.unit.to_string("fits")
    if array.geom is None:
        columns = [
            fits.Column("CHANNEL", "K", array=np.arange(data.size)),
            fits.Column("DATA", "D", unit=unit or None, array=data.astype(np.float64).ravel()),
        ]
        hdu = fits.BinTableHDU.from_columns(columns, name=name)
    else:
        hdu = fits.ImageHDU(data, header=array.geom.wcs.to_header(), name=name)
        shape = (*array.geom.npix_shape[::-1], *(axis.nbin for axis in array.axes))
        hdu.header["WCSSHAPE"] = "({})".format(",".join(str(n) for n in shape))
        hdu.header["BUNIT"] = unit
        hdu.header["META"] = "{}"
    if not array.axes:
        return [hdu]
    bands = f"{name}_BANDS"
    hdu.header["BANDSHDU"] = bands
    axis_cards = _axis_cards(array.axes)
    hdu.header.update(axis_cards)
    return [hdu, _bands_hdu(array.axes, bands, axis_cards)]


def _axis_cards(axes: list[MapAxis]) -> dict[str, str]:
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


def _bands_hdu(axes: list[MapAxis], name: str, cards: dict[str, str]) -> fits.BinTableHDU:
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
