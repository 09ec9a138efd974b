"""What a dataset holds, in words and in HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.html import facts, titled
from jaxprof.sky import MapAxis

if TYPE_CHECKING:
    from jaxprof.datasets import MapDataset


def dataset_facts(dataset: MapDataset) -> list[dict[str, str]]:
    """What a dataset holds: name, counts, exposure, axes and mask, responses.

    Parameters
    ----------
    dataset : MapDataset or MapDatasetOnOff
        Parts may be missing.

    Returns
    -------
    list of dict
        Keys and values that belong together.
    """
    blocks = [{"Name": dataset.name}]
    if dataset.has_geom:
        mask = dataset.mask
        blocks += [_counts(dataset, mask), _exposure(dataset), _binning(dataset, mask)]
    else:
        blocks += [_exposure(dataset)]
    blocks.append(
        {
            "Energy dispersion": _class_name(dataset.edisp),
            "Point spread function": _class_name(dataset.psf),
            "Fit statistic type": dataset.stat_type,
            "Models": ", ".join(m.name for m in dataset.models) or "none",
        }
    )
    return blocks


def dataset_html(dataset: MapDataset) -> str:
    """`dataset_facts` as HTML, for notebooks."""
    rows = {key: value for part in dataset_facts(dataset) for key, value in part.items()}
    return titled(type(dataset).__name__, facts(rows))


def dataset_summary(dataset: MapDataset) -> str:
    """`dataset_facts` in lines of "key : value", under the name of the class."""
    title = type(dataset).__name__
    lines = [title, "-" * len(title)]
    for part in dataset_facts(dataset):
        lines += ["", *(f"  {key:<24s}: {value}" for key, value in part.items())]
    return "\n".join(lines)


def _counts(dataset: MapDataset, mask: NDArray[np.bool_]) -> dict[str, str]:
    background = dataset.npred_background().data
    if dataset.counts is None:
        return {"Total counts": "none", "Total background counts": _number(background.sum())}
    counts = dataset.counts.data.astype(np.float64)
    n, b = np.nansum(counts), np.nansum(background)
    rows = {
        "Total counts": _number(n),
        "Total background counts": _number(b),
        "Total excess counts": _number(n - b),
    }
    if not mask.all():
        n, b = np.nansum(counts[mask]), np.nansum(background[mask])
        rows["Counts inside mask"] = _number(n)
        rows["Background inside mask"] = _number(b)
        rows["Excess inside mask"] = _number(n - b)
    counts_off = getattr(dataset, "counts_off", None)
    if counts_off is not None:
        rows["Total off counts"] = _number(np.nansum(counts_off.data))
    return rows


def _exposure(dataset: MapDataset) -> dict[str, str]:
    if dataset.exposure is None:
        return {"Exposure": "none"}
    exposure, unit = dataset.exposure.data, dataset.exposure.unit.to_string()
    rows = {"Exposure": "not a number"}
    if np.isfinite(exposure).any():
        rows = {
            "Exposure min": f"{np.nanmin(exposure):.3g} {unit}",
            "Exposure max": f"{np.nanmax(exposure):.3g} {unit}",
        }
    return rows


def _binning(dataset: MapDataset, mask: NDArray[np.bool_]) -> dict[str, str]:
    axis = dataset.energy_axis
    rows = {"Reconstructed energy": f"{_span(axis)}, {axis.nbin} bins"}
    if dataset.exposure is not None:
        true = dataset.energy_axis_true
        rows["True energy"] = f"{_span(true)}, {true.nbin} bins"
    lon, lat = dataset.geom.width.to_value("deg")
    ny, nx = dataset.geom.npix_shape
    rows["Map"] = f"{nx} x {ny} pixels, {lon:.4g} x {lat:.4g} deg, {dataset.geom.frame}"
    middle = dataset.geom.center_skydir.spherical
    rows["Map centre"] = f"{middle.lon.deg:.4g}, {middle.lat.deg:.4g} deg"
    rows["Bins inside mask"] = (
        f"{np.count_nonzero(mask)} of {mask.size} ({100 * mask.mean():.1f} %)"
    )
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    if 0 < used.size < axis.nbin:
        low, high = axis.edges[used[0]], axis.edges[used[-1] + 1]
        rows["Energy inside mask"] = f"{energy_text(low)} to {energy_text(high)}"
    return rows


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"


def energy_text(value: u.Quantity) -> str:
    """Energy in the unit that makes it a number between 1 and 1000."""
    for unit in ("PeV", "TeV", "GeV", "MeV", "keV"):
        if value.to_value(unit) >= 0.9995:
            break
    return f"{value.to_value(unit):.4g} {unit}"


def _span(axis: MapAxis) -> str:
    return f"{energy_text(axis.edges[0])} to {energy_text(axis.edges[-1])}"


def _class_name(part: object) -> str:
    return "none" if part is None else type(part).__name__
