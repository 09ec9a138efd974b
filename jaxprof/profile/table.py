"""Flux profiles as tables: gammapy's "profile" layout, completed so that nothing is lost.

A row is a bin. Columns, in their order (those of quantities the profile lacks are left out):

- ``name`` of the bins, if any has one;
- ``x_min``, ``x_max``, ``x_ref`` in the unit of the axis, deg as a rule, none where it counts
  regions;
- ``e_ref``, ``e_min``, ``e_max`` in the unit of the energies (TeV in FITS and ECSV),
  ``ref_dnde``, ``ref_flux``, ``ref_eflux``: the same vectors over the G energy groups in every row,
  reference fluxes with a row's own values if its spectrum is its own;
- the value with ``_err``, ``_errn``, ``_errp``, ``_ul`` and ``_sensitivity`` of the sed type:
  ``norm`` for "likelihood", otherwise ``dnde``, ``e2dnde``, ``flux`` or ``eflux``; (G,);
- ``ts``, ``sqrt_ts``, ``stat``, ``stat_null``, ``is_ul``, ``success``, (G,);
- ``npred``, ``npred_excess``, ``npred_background``, ``npred_excess_ref``, ``counts``, (G, D) for
  D data sets;
- ``stat_scan`` and ``norm_scan``, (G, N);
- what else there is: of joint fits ``norm_covariance`` and ``response``, (G, B), and others (G,);
- ``coverage`` (G,), ``solid_angle`` and ``region_solid_angle`` in sr, ``status`` in words (G,).

One energy group is an axis of length one, as in gammapy. Text has no vectors: written as CSV or
another format of text, they become numbered columns, see `~jaxprof.profile.printed.plain_columns`.

``table.meta`` has SED_TYPE; UL_CONF (two-sided confidence of the upper limits); N_SIGMA,
NSIGMAUL, NSIGMASE (of errors, limits, sensitivities); SQRTTSUL (threshold of ``is_ul``); SOLIDREF
(which solid angle the fluxes refer to, "pixels" or "region"); AXISNAME; AXISINTE, "log" for a
logarithmic axis; NBINS; ENERUNIT, the unit that energies are shown in; REFBINS, true if the bins
have reference fluxes of their own; as JSON:
DSNAMES (data sets), REFMODEL (reference model), REFMODELS (a list, one for each bin, if they
differ) and PROFMETA (``profile.meta``); and REGIONS, a list of DS9 regions.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np
from astropy.table import Column, MaskedColumn, Table
from regions import Regions, SkyRegion

from jaxprof.inference.levels import confidence_level
from jaxprof.likelihood.data import Status
from jaxprof.models.spectral import spectral_model_from_dict
from jaxprof.profile.checks import check_format
from jaxprof.profile.papertable import check_style, paper_table
from jaxprof.profile.printed import ProfileTable, with_formats
from jaxprof.profile.quantities import (
    MATRICES,
    PER_DATASET,
    SCANS,
    SOLID_ANGLES,
    SUFFIXES,
    Array,
    check_sed_type,
    unit,
)
from jaxprof.user_warning import warn_user

if TYPE_CHECKING:
    from jaxprof.profile import FluxProfile

#: Vectors that are numbered columns in plain tables of one energy group.
NUMBERED = (*PER_DATASET, *SCANS, *MATRICES)
NORMS = tuple(f"norm{suffix}" for suffix in SUFFIXES)
_COMMON = (
    *("ts", "sqrt_ts", "npred", "npred_excess", "npred_background", "npred_excess_ref"),
    *("stat", "stat_null", "is_ul", "counts", "success", *SCANS, "coverage", "solid_angle"),
    "region_solid_angle",
)


def styled_table(
    profile: FluxProfile,
    sed_type: str,
    columns: Sequence[str] | None = None,
    style: str = "full",
    *,
    unit: Any = None,
    formatted: bool = False,
    latex: bool = False,
) -> Table:
    """Table for people: some columns, or the style of a paper; see `FluxProfile.to_table`."""
    check_sed_type(sed_type)
    check_style(style)
    if style == "paper":
        return paper_table([profile], sed_type, columns=columns, unit=unit, latex=latex)
    table = profile_to_table(profile, sed_type, formatted=formatted)
    if unit is not None:
        convert_value(table, "norm" if sed_type == "likelihood" else sed_type, unit)
    return table if columns is None else chosen_columns(table, columns)


def chosen_columns(table: Table, columns: Sequence[str]) -> Table:
    """Some columns of a table, in their order; ValueError with those there are if one is none."""
    columns = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in columns if name not in table.colnames]:
        what = table.meta.get("SED_TYPE", "likelihood")
        raise ValueError(
            f"columns: there is no {unknown[0]!r} with sed_type {what!r}; there are "
            f"{', '.join(table.colnames)}"
        )
    return table[columns]


def convert_value(table: Table, value: str, unit: Any) -> None:
    """Give a value, its errors and limits another unit."""
    own = table[value].unit or u.dimensionless_unscaled
    try:
        u.Unit(own).to(unit)
    except (ValueError, TypeError, u.UnitConversionError):
        raise ValueError(
            f"unit is {str(unit)!r}, but {value} is in {own.to_string() or 'plain numbers'!r}"
        ) from None
    for suffix in SUFFIXES:
        if f"{value}{suffix}" in table.colnames:
            column = table[f"{value}{suffix}"]
            column.unit = own
            column.convert_unit_to(unit)
            if column.unit == u.dimensionless_unscaled:
                column.unit = None


def profile_to_table(
    profile: FluxProfile,
    sed_type: str,
    *,
    format: str = "profile",
    formatted: bool = False,
    besides: Sequence[str] = (),
    energy_unit: str | None = None,
) -> Table:
    """Table of a profile, as the module describes it.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    sed_type : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What norms, errors and limits are expressed in.
    format : {"profile"}
        Layout of the columns.
    formatted : bool
        Whether to set display formats with few digits.
    besides : sequence of str
        Sed types whose columns are added to those of `sed_type`. Files have the norms, so that
        they come back to the last bit.
    energy_unit : str, optional
        Unit of the energies; by default that of the profile.

    Returns
    -------
    `~astropy.table.Table`

    Raises
    ------
    ValueError
        For an unknown sed type or format.
    """
    check_sed_type(sed_type)
    check_format(format)
    if sed_type not in ("likelihood", *profile.reference):
        needed = SOLID_ANGLES[profile.reference_solid_angle]
        raise ValueError(f"sed_type {sed_type!r} needs {needed!r}, which this profile lacks")
    energy_unit = energy_unit or profile.energy_unit or "TeV"
    table = ProfileTable()
    if "name" in profile.quantities:
        table["name"] = profile.quantities["name"]
    for name in ("min", "max", "ref"):
        table[f"x_{name}"] = Column(getattr(profile.axis, name), unit=profile.axis.unit or None)
    n_bins = len(profile.axis)
    low, high = profile.energy_edges.T
    for name, tev in {"ref": np.sqrt(low * high), "min": low, "max": high}.items():
        # Not by way of another unit: files keep the last bit.
        energy = u.Quantity(tev, "TeV").to(energy_unit)
        table[f"e_{name}"] = Column(np.tile(energy.value, (n_bins, 1)), unit=energy.unit)
    for name in ("dnde", "flux", "eflux"):
        flux = np.broadcast_to(profile.reference[name], profile.shape).copy()
        table[f"ref_{name}"] = Column(flux, unit=unit(name))
    values = ["norm" if sed == "likelihood" else sed for sed in (sed_type, *besides)]
    names = [f"{values[0]}{suffix}" for suffix in SUFFIXES] + list(_COMMON)
    names += [f"{value}{suffix}" for value in values[1:] for suffix in SUFFIXES]
    names = list(dict.fromkeys(names))
    left_out = (*names, *NORMS, "name", "status")
    names += [name for name in profile.quantities if name not in left_out]
    available = profile.available_quantities
    for name in names:
        computed = name in ("npred_background", "npred_excess_ref") and (
            name not in profile.quantities
        )
        if name not in available or computed:
            continue
        data = profile[name].data
        if name in PER_DATASET and data.ndim == 2:
            data = data[..., None]
        table[name] = Column(data, unit=unit(name, profile.norm_unit) or None)
    labels = np.array([status.label for status in Status])
    table["status"] = labels[profile.quantities["status"]]
    table.meta.update(_meta(profile, sed_type))
    return with_formats(table) if formatted else table


def with_vectors(table: Table) -> Table:
    """Inverse of `~jaxprof.profile.printed.plain_columns` for tables of one energy group.

    Raises
    ------
    ValueError
        If a number is missing.
    """
    if table["e_min"].ndim > 1:
        return table
    table = table.copy(copy_data=False)
    for name in set(NUMBERED) - set(table.colnames):
        found = [key for key in table.colnames if re.fullmatch(rf"{name}_\d+", key)]
        parts = [f"{name}_{number}" for number in range(len(found))]
        if missing := [part for part in parts if part not in found]:
            raise ValueError(f"there is no column {missing[0]!r}, but {found[-1]!r}")
        if found:
            stacked = np.ma.stack([table[part] for part in parts], axis=-1)
            table[name] = MaskedColumn(stacked, unit=table[parts[0]].unit)
            table.remove_columns(parts)
    return table


def _meta(profile: FluxProfile, sed_type: str) -> dict[str, Any]:
    meta = {
        "SED_TYPE": sed_type,
        "UL_CONF": confidence_level(n_sigma=profile.n_sigma_ul),
        "N_SIGMA": float(profile.n_sigma),
        "NSIGMAUL": float(profile.n_sigma_ul),
        "NSIGMASE": float(profile.n_sigma_sensitivity),
        "SQRTTSUL": float(profile.sqrt_ts_threshold_ul),
        "SOLIDREF": profile.reference_solid_angle,
        "AXISNAME": profile.axis.name,
        "NBINS": len(profile.axis),
        "DSNAMES": json.dumps(list(profile.dataset_names)),
    }
    if profile.energy_unit is not None:
        meta["ENERUNIT"] = profile.energy_unit
    if profile.axis.interp != "lin":
        meta["AXISINTE"] = profile.axis.interp
    if profile.reference["dnde"].ndim == 2:
        meta["REFBINS"] = True
    single = [] if profile.reference_model is None else [profile.reference_model]
    models = models_to_json([*single, *(profile.reference_models or [])])
    if models is not None:
        if single:
            meta["REFMODEL"] = models.pop(0)
        if models:
            meta["REFMODELS"] = models
    if profile.meta:
        meta["PROFMETA"] = json.dumps(profile.meta, default=str)
    if profile.regions is not None:
        lines = regions_to_ds9(profile.regions)
        if lines is not None:
            meta["REGIONS"] = lines
    return meta


def models_to_json(models: list[Any]) -> list[str] | None:
    """One line of JSON a spectral model.

    Returns
    -------
    list of str or None
        None, with a warning, if a model has no ``to_dict``. A warning also if its dict is none of
        a model known here, as of those that gammapy evaluates.
    """
    for model in {id(model): model for model in models}.values():
        if not hasattr(model, "to_dict"):
            warn_user(
                f"reference model {type(model).__name__} has no to_dict; tables and files have "
                "its fluxes only",
            )
            return None
        try:
            spectral_model_from_dict(model.to_dict())
        except (ValueError, KeyError, AttributeError):
            warn_user(
                f"the reference model {model!r} is kept by its name, which is not known here: what "
                "reads the table or file back has its fluxes, and no reference_model unless that "
                "is given"
            )
    return [json.dumps(model.to_dict()) for model in models]


def regions_to_ds9(regions: list[SkyRegion]) -> list[str] | None:
    """One line of DS9 text a region, with all digits and without its name.

    Names may have letters that no DS9 file can hold; they are a column of their own.

    Returns
    -------
    list of str or None
        None, with a warning, if a region has no DS9 form (compound regions).
    """
    lines = []
    for region in regions:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                text = Regions([_nameless(region)]).serialize(format="ds9", precision=20)
        except Exception as error:  # the package raises many kinds, warnings included
            warn_user(
                f"a {type(region).__name__} has no DS9 form ({error}); tables and files leave the "
                "regions out",
            )
            return None
        lines.append(";".join(line for line in text.splitlines() if not line.startswith("#")))
    return lines


def _nameless(region: SkyRegion) -> SkyRegion:
    if "text" not in region.meta:
        return region
    return region.copy(meta={key: v for key, v in region.meta.items() if key != "text"})


def regions_from_ds9(lines: list[str], names: Array | None = None) -> list[SkyRegion]:
    """Regions of the lines that `regions_to_ds9` made, with their names.

    Raises
    ------
    ValueError
        If a line is no region.
    """
    regions = []
    for line in lines:
        try:
            (region,) = Regions.parse(line, format="ds9")
        except Exception as error:
            raise ValueError(f"{line!r} is not a DS9 region: {error}") from error
        # What the parser adds to every region would make it unequal to the original.
        region.visual.clear()
        if region.meta.get("include") == 1:
            del region.meta["include"]
        regions.append(region)
    if names is not None:
        for region, name in zip(regions, names, strict=True):
            if name:
                region.meta["text"] = str(name)
    return regions


def column(table: Table, name: str, to: str = "") -> Array:
    """Values of a column in a unit, as native float64 (or bool, or str)."""
    data = np.ma.getdata(table[name])
    if np.ma.is_masked(table[name]):
        raise ValueError(f"column {name!r} has missing values")
    if data.dtype.kind not in "iuf":
        return np.asarray(data)
    data = np.array(data, dtype=float)
    given = table[name].unit
    if to and given is None:
        raise ValueError(f"column {name!r} has no unit; it should be like {to!r}")
    try:
        same = given is None or u.Unit(given) == u.Unit(to)
        return data if same else u.Quantity(data, given).to_value(to)
    except u.UnitConversionError as error:
        raise ValueError(f"column {name!r}: {error}") from error
