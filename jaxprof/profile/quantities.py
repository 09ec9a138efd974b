"""Names, units and derived values of the quantities of a flux profile: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np

from jaxprof.likelihood.data import Status
from jaxprof.sky.regions import region_name
from jaxprof.user_warning import warn_user

Array: TypeAlias = np.ndarray[Any, Any]

#: Flux quantities and the units in which they are given.
UNITS = {
    "dnde": "cm-2 s-1 TeV-1",
    "e2dnde": "TeV cm-2 s-1",
    "flux": "cm-2 s-1",
    "eflux": "TeV cm-2 s-1",
    "surface_brightness": "cm-2 s-1 sr-1",
}
#: What a profile can be expressed in; "likelihood" is the norm itself.
SED_TYPES = ("likelihood", *UNITS)
#: What a norm and a flux come with, in the order of a table's columns.
SUFFIXES = ("", "_err", "_errn", "_errp", "_ul", "_sensitivity", "_ll")
#: Quantities that have one value a data set.
PER_DATASET = ("counts", "npred", "npred_excess", "npred_background", "npred_excess_ref")
#: Quantities that have one value a bin, whatever the energy, and their units.
PER_BIN = {"solid_angle": "sr", "region_solid_angle": "sr", "name": ""}
#: Which solid angle the fluxes of a profile refer to: the quantity, by the name of the option.
SOLID_ANGLES = {"pixels": "solid_angle", "region": "region_solid_angle"}
SCANS = ("stat_scan", "norm_scan", "stat_scan_conditional")
#: Quantities of shape (B, G, B), of joint fits.
MATRICES = ("norm_covariance", "response")
#: Matrices that are derived from these; see `jaxprof.profile.joint`.
NEEDED = {
    "covariance": "norm_covariance",
    "correlation": "norm_covariance",
    "leakage": "response",
}

#: What there is with a norm only.
_OF_NORM = ("norm_err", "norm_errn", "norm_errp", "norm_ul", "norm_ll")
_NORMS = (*(f"norm{suffix}" for suffix in SUFFIXES), "norm_scan")
_FLUX_NAMES = {f"{sed}{suffix}": (sed, f"norm{suffix}") for sed in UNITS for suffix in SUFFIXES}
_REF_NAMES = {f"{sed}_ref": sed for sed in UNITS}
_EXCESS_NAMES = {f"npred_excess{suffix}": f"norm{suffix}" for suffix in SUFFIXES[1:5]}
_COMPUTED = ("sqrt_ts", "is_ul", "npred_background", "ts_scan")
_DERIVED = (*_FLUX_NAMES, *_REF_NAMES, *_COMPUTED, "npred_excess_ref", *_EXCESS_NAMES)


def check_sed_type(sed_type: str) -> str:
    """Return the sed type if it is one of `SED_TYPES`, else raise ValueError."""
    if sed_type not in SED_TYPES:
        raise ValueError(f"sed_type is {sed_type!r}; valid are {', '.join(map(repr, SED_TYPES))}")
    return sed_type


def shown_energy_unit(profile: Any) -> str:
    """Unit of energies in figures and papers: the profile's, or GeV if all are below 1 TeV."""
    own = getattr(profile, "energy_unit", None)
    own = own or ("TeV" if np.max(profile.energy_edges) >= 1 else "GeV")
    return readable_energy_unit(profile.energy_edges, own)


def readable_energy_unit(edges: Any, unit: str) -> str:
    """A unit for energies [TeV] in words: another one where numbers would need exponents."""
    low, high = np.min(edges), np.max(edges)
    if u.TeV.to(unit, low) >= 1e-4 and u.TeV.to(unit, high) < 1e6:
        return unit
    return next((own for own in ("TeV", "GeV", "MeV", "keV") if u.TeV.to(own, low) >= 0.1), unit)


PARTLY_SEEN = 0.9
"""Coverage below which figures, tables and summaries say that a bin is seen in part."""


def partly_seen(profile: Any) -> Array:
    """Bins and groups (B, G) with an estimate of which masks, or the map's edge, cut much off."""
    stored = getattr(profile, "quantities", {})
    if "coverage" not in stored:
        return np.zeros((len(profile.axis.ref), len(profile.energy_edges)), bool)
    found: Array = (stored["coverage"] < PARTLY_SEEN) & np.asarray(profile.success, bool)
    return found


def energy_span(edges: Any, unit: str) -> str:
    """A range of energies [TeV] in a unit, "10 to 36.84 GeV"; see `readable_energy_unit`."""
    unit = readable_energy_unit(edges, unit)
    low, high = (f"{float(f'{edge:.4g}'):g}" for edge in u.TeV.to(unit, np.asarray(edges)))
    return f"{low} to {high} {unit}"


def with_names(quantities: Mapping[str, Any], regions: Sequence[Any] | None) -> Mapping[str, Any]:
    """Complete quantities by the names of the regions, where any has one."""
    if "name" in quantities or regions is None:
        return quantities
    return {**quantities, "name": [region_name(region) for region in regions]}


def check_quantities(quantities: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Array]:
    """Check shapes, set dtypes, and complete ``success`` and ``status`` from each other.

    Parameters
    ----------
    quantities : mapping of str to array
        As `~jaxprof.profile.FluxProfile` takes them.
    shape : tuple of int
        Number of bins and of energy groups.

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ValueError
        For a missing norm, an array of another shape, a name that is derived from others,
        or a scan without its norms.
    """
    if "norm" not in quantities:
        raise ValueError(f"quantities must have 'norm'; they have {sorted(quantities)}")
    stored: dict[str, Array] = {}
    for name, value in quantities.items():
        if name in {*_FLUX_NAMES, *_REF_NAMES, *NEEDED, "ts_scan"}:
            raise ValueError(f"quantity {name!r} is derived from others; leave it out")
        if name == "is_ul":
            stored[name] = check_is_ul(value, shape)
            continue
        array = np.asarray(value)
        _check_shape(name, array, shape)
        if name == "success":
            array = array.astype(bool)
        elif name == "status":
            array = array.astype(int)
        elif array.dtype.kind in "iuf" and name in _KNOWN_FLOATS:
            array = array.astype(float)
        elif name == "name":
            array = np.char.strip(array.astype(str))  # files lose outer blanks
            if not (array != "").any():
                continue
        stored[name] = array
    scans = {name: stored[name].shape for name in SCANS if name in stored}
    norms = scans.pop("norm_scan", None)
    if bool(scans) != (norms is not None):
        raise ValueError("quantities stat_scan and norm_scan need each other")
    for name, given in scans.items():
        if given != norms:
            raise ValueError(
                f"{name} has shape {given}, norm_scan {norms}; give a norm for every value"
            )
    if "status" not in stored:
        success = stored.get("success", np.isfinite(stored["norm"]))
        stored["status"] = np.where(success, Status.OK, Status.NOT_CONVERGED).astype(int)
    if not np.isin(stored["status"], list(Status)).all():
        raise ValueError(f"status must be one of {[int(s) for s in Status]} (see Status)")
    stored.setdefault("success", stored["status"] <= Status.BOUNDARY)
    if (out := _taken_out(stored)).any():
        stored |= {name: _existing(name, stored) for name in _OF_NORM if name in stored}
        stored["status"] = np.where(out, Status.NOT_CONVERGED, stored["status"]).astype(int)
        stored["success"] = stored["success"] & ~out
        rows = ", ".join(map(str, np.flatnonzero(out.any(axis=1))[:10]))
        warn_user(
            f"norm is NaN in {out.sum()} fits (rows {rows}) whose status is a success: they are "
            f"read as {Status.NOT_CONVERGED.label!r}, without errors and limits"
        )
    return stored


def check_is_ul(mask: Any, shape: tuple[int, ...]) -> Array:
    """A copy of a mask of upper limits; ValueError unless it is booleans of this shape."""
    array = np.array(mask)
    if array.dtype != bool or array.shape != shape:
        raise ValueError(
            f"is_ul must be booleans of the shape (bins, energy groups) = {shape}, got "
            f"{array.dtype} of shape {array.shape}"
        )
    return array


def _check_shape(name: str, array: Array, shape: tuple[int, int]) -> None:
    if name in PER_BIN:
        if array.shape != shape[:1]:
            raise ValueError(
                f"quantity {name!r} has shape {array.shape}; give one value a bin, {shape[:1]}"
            )
        return
    n_axes: tuple[int, ...] = (2,)
    third = "there are no others"
    if name in SCANS:
        n_axes, third = (3,), "a third counts the norms of the scan"
    elif name in MATRICES:
        n_axes, third = (3,), f"a third counts the {shape[0]} bins again"
        if array.ndim == 3 and array.shape[2] != shape[0]:
            n_axes = ()
    elif name in PER_DATASET:
        n_axes, third = (2, 3), "with several data sets a third counts them"
    if array.shape[:2] != shape or array.ndim not in n_axes:
        raise ValueError(
            f"quantity {name!r} has shape {array.shape}; its first axes must be "
            f"(bins, energy groups) = {shape}, {third}"
        )


_KNOWN_FLOATS = {
    *(f"norm{suffix}" for suffix in SUFFIXES),
    *PER_DATASET,
    *SCANS,
    *MATRICES,
    *(
        "npred_guard",
        "npred_other",
        "stat",
        "stat_null",
        "ts",
        "sqrt_ts",
        "coverage",
        "solid_angle",
        "region_solid_angle",
    ),
}


def unit(name: str, norm_unit: str = "") -> str:
    """Unit of a quantity, as a string; that of norms is given."""
    if name in _NORMS:
        return norm_unit
    if name == "norm_covariance" and norm_unit:
        return (u.Unit(norm_unit) ** 2).to_string()
    if name in _FLUX_NAMES:
        return UNITS[_FLUX_NAMES[name][0]]
    if name in _REF_NAMES:
        return UNITS[_REF_NAMES[name]]
    return PER_BIN.get(name, "")


def names(stored: Mapping[str, Array], reference: Mapping[str, Array] | None = None) -> list[str]:
    """Names of all quantities that can be had from the stored ones and the reference fluxes."""
    lacking = tuple(sed for sed in UNITS if reference is not None and sed not in reference)
    derived = (name for name in _DERIVED if not name.startswith(lacking))
    return [*stored, *(n for n in derived if n not in stored and _inputs_exist(n, stored))]


def is_quantity_of(name: str, stored: Mapping[str, Array]) -> bool:
    """Whether a name is among `names`."""
    return name in stored or (name in _DERIVED and _inputs_exist(name, stored))


def _inputs_exist(name: str, stored: Mapping[str, Array]) -> bool:
    if name in _REF_NAMES:
        return True
    if name in _FLUX_NAMES:
        return _FLUX_NAMES[name][1] in stored
    if name == "is_ul":
        return "sqrt_ts" in stored or "ts" in stored
    if name in _EXCESS_NAMES or name == "npred_excess_ref":
        has_excess = "npred_excess_ref" in stored or "npred_excess" in stored
        return has_excess and _EXCESS_NAMES.get(name, "norm") in stored
    needs = {"npred_background": ("npred", "npred_excess"), "ts_scan": ("stat_scan", "stat")}
    return all(need in stored for need in needs.get(name, ("ts",)))


def value(
    name: str, stored: Mapping[str, Array], reference: Mapping[str, Array], threshold: float
) -> Array | None:
    """Values of a stored or derived quantity, in the units that `unit` gives.

    Parameters
    ----------
    name : str
        Name of the quantity.
    stored : mapping of str to ndarray
        Result of `check_quantities`.
    reference : mapping of str to ndarray
        Fluxes at norm one, shape (G,) or (B, G).
    threshold : float
        ``sqrt_ts`` below which a point counts as an upper limit.

    Returns
    -------
    ndarray or None
        None if there is no such quantity.
    """
    if name in stored:
        return _existing(name, stored)
    if name not in names(stored, reference):
        return None
    if name in _REF_NAMES:
        return reference[_REF_NAMES[name]]
    if name in _FLUX_NAMES:
        sed_type, norm_name = _FLUX_NAMES[name]
        return _existing(norm_name, stored) * reference[sed_type]
    if name == "sqrt_ts":
        return sqrt_ts(stored)
    if name == "is_ul":
        return np.asarray(sqrt_ts(stored) < threshold)
    if name == "npred_background":
        return stored["npred"] - stored["npred_excess"]
    if name == "ts_scan":
        return stored["stat_scan"] - stored["stat"][..., None]
    excess = stored.get("npred_excess_ref")
    if excess is None:
        excess = _excess_at_norm_one(stored)
    if name == "npred_excess_ref":
        return excess
    norm = _existing(_EXCESS_NAMES[name], stored)
    return excess * (norm[..., None] if excess.ndim == 3 else norm)


def _taken_out(stored: Mapping[str, Array]) -> Array:
    """Where there is no norm, but a status with which any fit has one, (B, G).

    Whoever takes a bin out does so by making its norm NaN. Bins without counts have limits without
    norms in files of gammapy, and so have failed fits.
    """
    found: Array = np.isnan(stored["norm"]) & np.isin(
        stored["status"], [Status.OK, Status.BOUNDARY]
    )
    return found


def _existing(name: str, stored: Mapping[str, Array]) -> Array:
    """A stored quantity; errors and limits of a bin that was taken out are NaN, as its norm is."""
    if name not in _OF_NORM:
        return stored[name]
    out = _taken_out(stored)
    return np.where(out, np.nan, stored[name]) if out.any() else stored[name]


def sqrt_ts(stored: Mapping[str, Array]) -> Array:
    """Root of the test statistic with the sign of the norm, unless it is stored itself."""
    if "sqrt_ts" in stored:
        return stored["sqrt_ts"]
    return np.sign(stored["norm"]) * np.sqrt(np.maximum(stored["ts"], 0.0))


def _excess_at_norm_one(stored: Mapping[str, Array]) -> Array:
    """Excess over norm; NaN where the norm is zero, which tells nothing."""
    excess, norm = stored["npred_excess"], stored["norm"]
    norm = np.where(norm == 0, np.nan, norm)
    return excess / (norm[..., None] if excess.ndim == 3 else norm)
