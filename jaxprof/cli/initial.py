"""``jaxprof init``: a configuration for a dataset, with a comment for each key."""

from __future__ import annotations

import math
from pathlib import Path
from string import Template

import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.datasets.summary import energy_text
from jaxprof.io.paths import stem

_TEMPLATE = Template("""\
# Configuration of a flux profile. Run it with: jaxprof profile THIS_FILE
# Relative paths are relative to this file; $$VARIABLES and ~ are expanded.

# Files of gammapy's MapDataset or MapDatasetOnOff. Several are fitted jointly.
datasets:
  - path: $path
    name: $name

# Spectrum of norm one, in the layout of gammapy's model files (to_dict). What is fitted in each
# bin is the norm of it; the index matters within wide energy groups.
spectral_model:
  type: PowerLawSpectralModel
  parameters:
    - {name: index, value: 2.3}
    - {name: amplitude, value: 1.0e-12, unit: cm-2 s-1 TeV-1}
    - {name: reference, value: 1.0, unit: TeV}

# The bins. One of: boxes, annuli, grid, sectors, or file (a DS9 region file).
# This map is $width deg wide and $height deg high, with pixels of $pixel deg.
regions:
$regions

# Edges of the energy groups, each fitted by itself. Chosen from the edges of the dataset's axis
# ($span, $n_energy bins$masked); others snap to the nearest.
energy_edges: [$edges]

estimator:
  # per-region: each bin by itself, as gammapy does, without the point-spread function.
  # forward-folded: all bins together, with the point-spread function$psf.
  type: per-region
  # Beyond norm and norm_err: errn-errp, ul, scan (three sigma around each norm, unless
  # norm: {scan_values: [...]} or so says otherwise), sensitivity; all is [all].
  selection_optional: [errn-errp, ul]
  # Standard deviations of errors, and of upper limits (2: 95.45 %, two-sided; or cl: 0.95).
  n_sigma: 1
  n_sigma_ul: 2
  # Kind of the upper limits: profile, one-sided, bounded, feldman-cousins, cls or bayesian.
  interval: profile
  # Where a mask or the map's edge cuts a bin: coverage, strict, and of per-region fits
  # mean-exposure (gammapy 1.x).
  mask_policy: coverage
  # Of forward-folded fits only: bins beyond each end that are fitted as well, and the norm of the
  # background (fixed, free, or the width of a Gaussian constraint around one).
  # guard_bins: 1
  # background: 0.03
  # sources:
  #   - name: my source
  #     position: {lon: 0.9 deg, lat: 0.1 deg, frame: galactic}
  #     spectral_model: {type: PowerLawSpectralModel}
  #     free: true

outputs:
  # All files are called NAME.fits, NAME_flux.png, NAME_report.html and so on, in this folder.
  folder: .
  name: profile
  formats: [fits, ecsv, csv]
  # What figures, CSV and report show: dnde, e2dnde, flux, eflux or surface_brightness.
  sed_type: flux
  # What figures and report lie along: distance, longitude, latitude, path or region-index.
  axis: distance
  figures: [png]
  report: true
""")

_ANNULI = Template("""\
  annuli:
    center: {lon: $lon deg, lat: $lat deg, frame: $frame}
    radius_max: $radius deg
    radius_min: 1e-5 deg   # the default of gammapy; it may be 0
    nbin: $nbin   # number of edges, as in gammapy: one more than rings""")

_BOXES = Template("""\
  boxes:
    start: {lon: $start deg, lat: $lat deg, frame: $frame}
    end: {lon: $end deg, lat: $lat deg, frame: $frame}
    height: $tall deg   # across the line
    nbin: $nbin""")


def initial_config(dataset: MapDataset, path: str) -> str:
    """A configuration that runs, in YAML with comments.

    Parameters
    ----------
    dataset : MapDataset or MapDatasetOnOff
        With counts and exposure. Boxes along the longitude are proposed if the map is more than
        two and a half times as wide as high, otherwise annuli around its centre.
    path : str
        Its file, as the configuration names it.
    """
    mask = dataset.mask
    if not mask.any():
        raise ValueError(f"{path}: the mask leaves nothing of the dataset, nothing to propose")
    width, height = dataset.geom.width.to_value("deg")
    axis = dataset.energy_axis
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    first, last = int(used[0]), int(used[-1]) + 1
    chosen = np.unique(np.linspace(first, last, min(3, last - first + 1)).round().astype(int))
    inside = (axis.edges[first], axis.edges[last])
    narrower = (first, last) != (0, axis.nbin)
    kind = "; likelihood is then per region" if isinstance(dataset, MapDatasetOnOff) else ""
    return _TEMPLATE.substitute(
        path=_quoted(path),
        name=_quoted(stem(Path(path).name)),
        width=f"{width:.4g}",
        height=f"{height:.4g}",
        pixel=f"{dataset.geom.pixel_scales.to_value('deg').max():.3g}",
        regions=_regions(dataset, width, height),
        span=f"{energy_text(axis.edges[0])} to {energy_text(axis.edges[-1])}",
        n_energy=axis.nbin,
        masked=f", {energy_text(inside[0])} to {energy_text(inside[1])} unmasked" * narrower,
        edges=", ".join(energy_text(axis.edges[index]) for index in chosen),
        psf=(" (this dataset has none)" if dataset.psf is None else "") + kind,
    )


def _regions(dataset: MapDataset, width: float, height: float) -> str:
    """Bins within the unmasked part of the map, five pixels wide or more."""
    geom = dataset.geom
    rows, columns = (np.flatnonzero(dataset.mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    ny, nx = geom.npix_shape
    high = height * min(rows[-1] + 1 - ny / 2, ny / 2 - rows[0]) / ny * 2
    wide = width * min(columns[-1] + 1 - nx / 2, nx / 2 - columns[0]) / nx * 2
    pixel = float(geom.pixel_scales.to_value("deg").max())
    center = geom.center_skydir
    frame = "galactic" if geom.frame == "galactic" else "icrs"
    lon, lat = center.transform_to(frame).spherical.lon.deg, center.spherical.lat.deg
    if high <= 0 or wide <= 0:
        high, wide = height, width
    if wide > 2.5 * high:
        nbin = int(np.clip(wide / (5 * pixel), 2, 21))
        half = 0.9 * wide / 2
        return _BOXES.substitute(
            start=_degrees((lon + half) % 360),
            end=_degrees((lon - half) % 360),
            lat=_degrees(lat),
            tall=_degrees(_round_down(min(0.5 * high, half))),
            frame=frame,
            nbin=nbin,
        )
    # Rings of five pixels, about as wide as a PSF, which joint fits ask for too.
    radius = _round_down(min(0.9 * min(high, wide) / 2, 50 * pixel))
    nbin = int(np.clip(radius / (5 * pixel), 2, 10)) + 1
    return _ANNULI.substitute(
        lon=_degrees(lon), lat=_degrees(lat), radius=_degrees(radius), frame=frame, nbin=nbin
    )


def _round_down(value: float) -> float:
    """Two digits, not more than the value."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / step * (1 + 1e-12)) * step


def _degrees(value: float) -> str:
    return f"{round(float(value), 6) + 0.0:g}"


def _quoted(text: str) -> str:
    """A string for YAML."""
    return "'" + text.replace("'", "''") + "'"
