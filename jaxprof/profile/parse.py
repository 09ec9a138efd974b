"""Tables back to flux profiles: our own tables and gammapy's (see `jaxprof.profile.table`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from astropy.table import Table

from jaxprof.inference.levels import confidence_level
from jaxprof.likelihood.data import Data, Status
from jaxprof.models.spectral import spectral_model_from_dict
from jaxprof.profile import FluxProfile
from jaxprof.profile.checks import check_models
from jaxprof.profile.file_checks import (
    check_axis,
    check_columns,
    meta_json,
    meta_number,
    meta_texts,
    short,
)
from jaxprof.profile.quantities import (
    PER_BIN,
    PER_DATASET,
    SOLID_ANGLES,
    SUFFIXES,
    UNITS,
    Array,
    check_is_ul,
    check_sed_type,
    unit,
    value,
)
from jaxprof.profile.reference import (
    bin_references,
    check_solid_angle,
    reference_fluxes,
    with_e2dnde,
    with_surface_brightness,
)
from jaxprof.profile.table import NUMBERED, column, regions_from_ds9, with_vectors
from jaxprof.sky.models import as_spectral_model
from jaxprof.sky.regions import ProfileAxis
from jaxprof.user_warning import warn_user

_FLUX_COLUMNS = {f"{sed}{suffix}" for sed in UNITS for suffix in SUFFIXES}
_FRAME = {f"{axis}_{edge}" for axis in "xe" for edge in ("min", "max", "ref")}
_REF = {f"ref_{name}" for name in ("dnde", "flux", "eflux")}
#: Greatest relative difference between a file's reference fluxes and those of the model
#: given for it. gammapy's quadrature is 1.5e-5 off for curved spectra.
_SAME_MODEL = 1e-4


def profile_from_table(
    table: Table,
    *,
    sed_type: str | None = None,
    reference_model: Any = None,
    n_sigma_ul: float | None = None,
    gti: Table | None = None,
    likelihood_data: Data | None = None,
    nuisance: Table | None = None,
    goodness: Table | None = None,
) -> FluxProfile:
    """Profile of a table that this package or gammapy made.

    Parameters
    ----------
    table : `~astropy.table.Table`
        A row for each bin. Without SED_TYPE in its meta the sed type is guessed from the columns.
        What gammapy leaves out takes defaults: one sigma for errors, two for limits; the
        status is inferred from success and counts. Bins with a norm of NaN are not converged where
        the status says that the fit succeeded; a warning says so.
    sed_type : str, optional
        What the norms are taken from.
    reference_model : SpectralModel, or a list of these, one a bin, optional
        Needed where the table has no ``ref_`` columns.
    n_sigma_ul : float, optional
        Number of standard deviations of the upper limits, for tables that do not tell it.
    gti, likelihood_data, nuisance, goodness
        As for `~jaxprof.profile.FluxProfile`.

    Returns
    -------
    FluxProfile

    Raises
    ------
    ValueError
        If columns are missing or wrong; the message names them.
    """
    meta = table.meta
    needed = ("x_min", "x_max", "x_ref", "e_min", "e_max")
    if missing := [name for name in needed if name not in table.colnames]:
        raise ValueError(
            f"not a flux profile: no column {', '.join(map(repr, missing))}; "
            f"there are {', '.join(table.colnames) or 'none'}"
        )
    if len(table) != meta.get("NBINS", len(table)) or not len(table):
        expected = short(meta.get("NBINS", "some"))
        raise ValueError(f"there are {len(table)} bins, should be {expected}: cut off?")
    table = with_vectors(table)
    check_columns(table)
    edges = np.stack([_vector(table, "e_min", "TeV"), _vector(table, "e_max", "TeV")], axis=-1)
    given, models = as_spectral_model(reference_model), None
    reference_model = given
    if given is None:
        reference_model, models = _models_of_file(meta)
    elif isinstance(given, list | tuple):
        models = check_models(given, len(table), "reference_model")
        reference_model = None if models is None else models[0]
    reference = _reference(table, edges, reference_model if models is None else models, given)
    asked, sed_type = sed_type, _sed_type(table, sed_type)
    sed_type_init = sed_type if asked else str(meta.get("SED_INIT", sed_type))
    stored = _quantities(table, sed_type, reference)
    regions = meta_texts(meta, "REGIONS")
    return FluxProfile(
        stored,
        axis=_axis(table),
        energy_edges=edges,
        reference_model=reference_model,
        reference=reference,
        regions=None if regions is None else regions_from_ds9(list(regions), stored.get("name")),
        dataset_names=_names(meta),
        n_sigma=meta_number(meta, "N_SIGMA", 1),
        n_sigma_ul=_n_sigma_ul(meta, n_sigma_ul),
        n_sigma_sensitivity=meta_number(meta, "NSIGMASE", 5),
        sqrt_ts_threshold_ul=meta_number(meta, "SQRTTSUL", 2, positive=False),
        sed_type_init=sed_type_init,
        gti=gti,
        likelihood_data=likelihood_data,
        meta=meta_json(meta, "PROFMETA", {}),
        reference_models=models,
        nuisance=nuisance,
        goodness=goodness,
        reference_solid_angle=str(meta.get("SOLIDREF", "pixels")),
        energy_unit=_energy_unit(table),
    )


def _names(meta: dict[str, Any]) -> list[str]:
    names = meta_json(meta, "DSNAMES", [])
    if not all(isinstance(name, str) for name in names):
        raise ValueError("DSNAMES in the header must be a list of text")
    return names


def _energy_unit(table: Table) -> str | None:
    """Unit that energies are shown in: what the table says, or has itself if it is not TeV."""
    own = str(table["e_min"].unit)
    return str(table.meta.get("ENERUNIT", "")) or (None if own == "TeV" else own)


def _n_sigma_ul(meta: dict[str, Any], given: float | None) -> float:
    """Level of the upper limits: as the table says by NSIGMAUL or UL_CONF, as given, or two."""
    found = meta_number(meta, "NSIGMAUL", 2) if "NSIGMAUL" in meta else None
    conf = meta.get("UL_CONF")
    if found is not None and isinstance(conf, int | float):
        level = confidence_level(n_sigma=found)
        if not abs(level - conf) < 1e-3:
            raise ValueError(
                f"UL_CONF in the header is {conf:g} and NSIGMAUL {found:g}, a level of {level:.4g}"
                "; remove the one that is wrong"
            )
    if found is None and "UL_CONF" in meta:
        if not isinstance(conf, int | float) or not 0 < conf < 1:
            raise ValueError(f"UL_CONF in the header must be in (0, 1), got {conf!r}")
        # Two-sided; the rounding is that of the confidence.
        found = float(np.round(-scipy.special.ndtri(0.5 * (1 - conf)), 6))
    if given is None:
        return 2 if found is None else found
    if not isinstance(given, int | float | np.number) or not 0 < given < np.inf:
        raise ValueError(f"n_sigma_ul must be a positive number, got {given!r}")
    if found is not None and not np.isclose(found, given, rtol=1e-3):
        raise ValueError(f"n_sigma_ul={given}, but the limits in the table are those of {found}")
    return given


def _model(text: str) -> Any:
    data = meta_json({"REFMODEL": text}, "REFMODEL", {})
    try:
        return spectral_model_from_dict(data)
    except (ValueError, KeyError, AttributeError) as error:
        warn_user(f"the reference model of the file is not known here, its fluxes are: {error}")
        return None
    except Exception as error:
        raise ValueError(
            f"REFMODEL in the header is no spectral model: {type(error).__name__}: {error}"
        ) from error


def _models_of_file(meta: dict[str, Any]) -> tuple[Any, list[Any] | None]:
    """Reference model, and those of all bins; None where there is none, or one is not known."""
    lines = meta_texts(meta, "REFMODELS") or []
    # Every text once: many bins may share a model, or a warning.
    known = {text: _model(text) for text in dict.fromkeys([*lines, meta.get("REFMODEL")]) if text}
    models = [known[text] for text in lines]
    complete = bool(models) and all(model is not None for model in models)
    return known.get(meta.get("REFMODEL")), models if complete else None


def _vector(table: Table, name: str, to: str) -> Array:
    """A vector over energy that is the same in all rows."""
    data = column(table, name, to)
    data = data.reshape(len(table), -1)
    if not np.array_equal(data, np.broadcast_to(data[:1], data.shape), equal_nan=True):
        raise ValueError(f"column {name!r} differs between rows; all bins share the energy groups")
    return data[0]


def _axis(table: Table) -> ProfileAxis:
    given = table["x_ref"].unit
    angular = given is not None
    own = "AXISNAME" in table.meta and table.meta["AXISNAME"] != "projected-distance"
    # Distances of gammapy's and our files are in deg; other axes are in units of their own.
    to = given.to_string() if angular and (own or not given.is_equivalent("deg")) else "deg"
    to = to if angular else ""
    low, high, ref = (column(table, f"x_{edge}", to) for edge in ("min", "max", "ref"))
    name = table.meta.get("AXISNAME", "projected-distance" if angular else "region-index")
    if not isinstance(name, str):
        raise ValueError(f"AXISNAME in the meta is {short(name)}, it must be text")
    check_axis(low, high, ref)
    interp = "log" if table.meta.get("AXISINTE") == "log" else "lin"
    return ProfileAxis(name, low, high, ref, to, interp)


def _reference(table: Table, edges: Array, model: Any, given: Any) -> dict[str, Array]:
    """Fluxes at norm one, (G,), or (B, G) if the bins have their own."""
    if not _REF.issubset(table.colnames):
        if model is None:
            raise ValueError(
                "there are no columns ref_dnde, ref_flux and ref_eflux; give the model that the "
                "profile was made with as reference_model"
            )
        return _computed(model, edges)
    names = {name.removeprefix("ref_"): name for name in _REF}
    fluxes = {
        key: column(table, name, unit(key)).reshape(len(table), -1) for key, name in names.items()
    }
    same = all(
        np.array_equal(flux, np.broadcast_to(flux[:1], flux.shape), equal_nan=True)
        for flux in fluxes.values()
    )
    own = table.meta.get("REFBINS", not same)
    if not own:
        fluxes = {key: _vector(table, name, unit(key)) for key, name in names.items()}
    reference = with_e2dnde(fluxes, edges)
    if given is not None or (model is not None and not own):
        computed = _computed(model, edges)
        # With fitted spectral parameters dN/dE and the energy flux are those of the fit.
        keys = ["flux"] if own else list(reference)
        off = max(np.max(np.abs(computed[key] / reference[key] - 1)) for key in keys)
        if not off < _SAME_MODEL:
            raise ValueError(
                f"reference_model differs by {off:.2g} from the reference fluxes in the table; "
                "give the model that the profile was made with, or none"
            )
    return reference


def _computed(model: Any, edges: Array) -> dict[str, Array]:
    """Fluxes of a model, or of one for each bin."""
    several = isinstance(model, list)
    return bin_references(model, edges) if several else reference_fluxes(model, edges)


def _sed_type(table: Table, sed_type: str | None) -> str:
    """The sed type that was asked for, that the table names, or whose column it has."""
    found = [sed for sed in UNITS if sed in table.colnames]
    found += ["likelihood"] if "norm" in table.colnames else []
    if sed_type is None:
        sed_type = table.meta.get("SED_TYPE", found[0] if found else "likelihood")
    if check_sed_type(str(sed_type)) not in found:
        name = "norm" if sed_type == "likelihood" else sed_type
        raise ValueError(
            f"there is no column {name!r} for sed_type {sed_type!r}; there are columns for "
            f"{', '.join(map(repr, found)) or 'none'}"
        )
    return str(sed_type)


def _quantities(table: Table, sed_type: str, reference: dict[str, Array]) -> dict[str, Array]:
    stored: dict[str, Array] = {}
    shape = (len(table), reference["dnde"].shape[-1])
    norm_unit = str(meta_json(table.meta, "PROFMETA", {}).get("norm_unit", ""))
    skip = _FRAME | _REF | _FLUX_COLUMNS | {"is_ul", "status", "sqrt_ts", "region", "ref_model"}
    for name in table.colnames:
        if name in skip or name.startswith("likelihood_"):
            continue
        if name == "name":
            # ECSV has no other empty text than missing text.
            stored[name] = np.ma.filled(np.ma.asarray(table[name]).astype(str), "")
            continue
        data = column(table, name, unit(name, norm_unit))
        if shape[1] == 1 and data.ndim == 2 and name in NUMBERED:
            data = data[:, None]  # Tables of one energy group have no axis of it.
        if name in PER_DATASET and data.ndim == 3 and data.shape[-1] == 1:
            data = data[..., 0]
        stored[name] = data[:, None] if data.ndim == 1 and name not in PER_BIN else data
    solid_angle = str(table.meta.get("SOLIDREF", "pixels"))
    reference = with_surface_brightness(reference, stored, check_solid_angle(solid_angle))
    if sed_type not in ("likelihood", *reference):
        needed = SOLID_ANGLES[solid_angle]
        raise ValueError(f"sed_type {sed_type!r} needs the column {needed!r}, which is not there")
    if sed_type != "likelihood":
        _take_norms(table, sed_type, reference[sed_type], stored)
    if "sqrt_ts" in table.colnames:
        _take_sqrt_ts(column(table, "sqrt_ts").reshape(shape), stored)
    if "status" in table.colnames:
        labels = {status.label: int(status) for status in Status}
        words = np.char.strip(np.asarray(table["status"], dtype=str)).reshape(shape)
        if unknown := sorted(set(words.ravel().tolist()) - set(labels)):
            raise ValueError(f"column 'status' has {unknown[0]!r}; known are {list(labels)}")
        stored["status"] = np.vectorize(labels.__getitem__, otypes=[int])(words)
    else:
        stored["status"] = _inferred_status(stored)
    if "is_ul" in table.colnames:
        is_ul = check_is_ul(column(table, "is_ul").reshape(shape), shape)
        # Kept where it says more than the rule does.
        rule = value("is_ul", stored, reference, table.meta.get("SQRTTSUL", 2))
        if rule is None or not np.array_equal(is_ul, rule):
            stored["is_ul"] = is_ul
    return stored


def _take_norms(table: Table, sed_type: str, ref: Array, stored: dict[str, Array]) -> None:
    """Norms from fluxes, unless the table has both; then they must agree."""
    for suffix in SUFFIXES:
        if (name := f"{sed_type}{suffix}") not in table.colnames:
            continue
        flux = column(table, name, UNITS[sed_type]).reshape(len(table), -1)
        norm = stored.get(f"norm{suffix}")
        if norm is None:
            stored[f"norm{suffix}"] = flux / ref
        elif not np.allclose(norm * ref, flux, rtol=1e-9, atol=0, equal_nan=True):
            raise ValueError(
                f"columns {name!r} and 'norm{suffix}' disagree; remove the one that is wrong"
            )


def _take_sqrt_ts(sqrt_ts: Array, stored: dict[str, Array]) -> None:
    """Keep what the table says only where it says more than ts and norm do."""
    if "ts" not in stored:
        stored["ts"] = sqrt_ts**2
    computed = np.sign(stored["norm"]) * np.sqrt(np.maximum(stored["ts"], 0.0))
    if not np.allclose(sqrt_ts, computed, rtol=1e-12, atol=1e-12, equal_nan=True):
        stored["sqrt_ts"] = sqrt_ts


def _inferred_status(stored: dict[str, Array]) -> Array:
    """Status of the fits of a file that has none: gammapy's success is all it says."""
    norm = stored["norm"]
    success = stored.get("success", np.isfinite(norm)).astype(bool) & np.isfinite(norm)
    status = np.where(success, Status.OK, Status.NOT_CONVERGED)
    if "counts" in stored:
        counts = stored["counts"].reshape(*norm.shape, -1).sum(axis=-1)
        limited = np.isfinite(stored.get("norm_ul", stored.get("ts", np.full(norm.shape, np.nan))))
        status = np.where(~success & (counts == 0) & limited, Status.ZERO_COUNTS, status)
        status = np.where(~success & (counts == 0) & ~limited, Status.FULLY_MASKED, status)
    return status.astype(int)
