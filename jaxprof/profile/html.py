"""A flux profile as HTML, for notebooks and reports; what each status means, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxprof.datasets.summary import energy_text
from jaxprof.html import facts, number, table, titled
from jaxprof.likelihood.data import Status
from jaxprof.profile.papertable import bin_ranges, level_text
from jaxprof.profile.quantities import energy_span, partly_seen

if TYPE_CHECKING:
    from jaxprof.profile.fluxprofile import FluxProfile

STATUS_MEANING: dict[Status, str] = {
    Status.OK: "A regular minimum of the statistic: value and error are estimates.",
    Status.ZERO_COUNTS: (
        "No counts at all. The statistic falls towards lower norms without a minimum; the value is "
        "the largest norm that is as likely as any, the error does not exist. Use the upper limit."
    ),
    Status.BOUNDARY: (
        "The minimum lies at a boundary: of the norm, or where a predicted number of counts would "
        "become negative. The value is an estimate; in separate fits it has no symmetric error. "
        "Use errn, errp and the upper limit, which know the boundary."
    ),
    Status.FULLY_MASKED: (
        "No unmasked pixel lies in this bin, so that it has no counts of its own. Look at the mask "
        "and the map's edges."
    ),
    Status.NO_EXPOSURE: "No signal is expected from this bin, whatever its flux: no exposure.",
    Status.NOT_CONVERGED: (
        "The minimum was not found, and no number is given. Make bins larger, or constrain what is "
        "fitted as well."
    ),
    Status.DEGENERATE: (
        "The data do not determine this norm: others can make up for it. Make bins larger than the "
        "point-spread function, or merge bins that overlap."
    ),
}
"""What the outcome of a fit means for the reader of its numbers."""

_HEADS = {"": "{sed}", "_err": "error", "_errn": "errn", "_errp": "errp", "_ul": "upper limit"}
_DIGITS = {"sqrt_ts": ".2f", "counts": ".6g", "npred": ".1f", "coverage": ".3g"}


def energy_ranges(profile: FluxProfile) -> list[str]:
    """The energy groups in words, as "10 GeV to 85 GeV"."""
    pairs = zip(profile.energy_min, profile.energy_max, strict=True)
    if profile.energy_unit is None:
        return [f"{energy_text(low)} to {energy_text(high)}" for low, high in pairs]
    return [energy_span(edges, profile.energy_unit) for edges in profile.energy_edges]


def status_counts(profile: FluxProfile) -> dict[Status, int]:
    """How many bins have each status that occurs."""
    codes, counts = np.unique(profile.status, return_counts=True)
    return {Status(code): int(count) for code, count in zip(codes, counts, strict=True)}


def profile_facts(profile: FluxProfile) -> dict[str, str]:
    """What a reader must know of a profile before its numbers."""
    models = profile.reference_models or [profile.reference_model]
    names = dict.fromkeys("none, fluxes only" if m is None else repr(m) for m in models)
    spectrum = f"{len(names)} spectra" if len(names) > 3 else "; ".join(names)
    found = [f"{count} {status.label}" for status, count in status_counts(profile).items()]
    return {
        "Bins": f"{profile.shape[0]}, along {profile.axis.name.replace('-', ' ')}",
        "Energies": "; ".join(energy_ranges(profile)),
        "Reference spectrum": spectrum,
        "Datasets": ", ".join(profile.dataset_names) or "not known",
        "Errors, upper limits": f"{profile.n_sigma:g} sigma, {level_text(profile)}",
        "Status": ", ".join(found),
    }


def profile_rows(profile: FluxProfile, sed_type: str) -> tuple[list[str], list[list[str]]]:
    """Fluxes with their errors and limits in words.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What to show.

    Returns
    -------
    heads : list of str
        What the columns are.
    rows : list of list of str
        A row for each bin and energy group.
    """
    axis = profile.axis
    names = [] if "name" not in profile.quantities else ["name"]
    suffixes = [s for s in _HEADS if f"{sed_type}{s}" in profile.available_quantities]
    unit = profile[sed_type].unit
    along = axis.name.replace("-", " ")
    heads = [*names, f"{along} [{axis.unit}]" if axis.unit else along, "energy"]
    heads += [
        "status",
        *(_HEADS[s].format(sed=sed_type) + f" [{unit}]" * (not s) for s in suffixes),
    ]
    extra = [name for name in _DIGITS if name in profile.available_quantities]
    if not partly_seen(profile).any():
        extra = [name for name in extra if name != "coverage"]
    heads += extra
    fluxes = [np.asarray(profile[f"{sed_type}{s}"].data) for s in suffixes]
    others = [np.asarray(profile[name].data) for name in extra]
    # Counts of several data sets have an axis more.
    others = [array.sum(axis=2) if array.ndim == 3 else array for array in others]
    energies, bins = energy_ranges(profile), bin_ranges([axis], latex=False)
    rows = []
    for b in range(profile.shape[0]):
        for g in range(profile.shape[1]):
            row = [str(profile.quantities["name"][b])] if names else []
            row += [bins[b], energies[g]]
            row += [Status(int(profile.status[b, g])).label]
            row += [number(array[b, g]) for array in fluxes]
            digits = zip(extra, others, strict=True)
            rows.append(row + [f"{array[b, g]:{_DIGITS[name]}}" for name, array in digits])
    return heads, rows


def profile_table(profile: FluxProfile, sed_type: str = "flux", max_rows: int | None = None) -> str:
    """`profile_rows` as HTML."""
    heads, rows = profile_rows(profile, sed_type)
    return table(heads, rows, max_rows=max_rows)


def profile_html(profile: FluxProfile) -> str:
    """What a notebook shows of a profile: facts and the first rows."""
    sed_type = "flux" if profile.sed_type_init == "likelihood" else profile.sed_type_init
    shown = profile_table(profile, sed_type, max_rows=20)
    return titled(type(profile).__name__, facts(profile_facts(profile)), shown)
