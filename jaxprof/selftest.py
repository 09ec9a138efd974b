"""``python -m jaxprof.selftest``: whether this installation computes what it should.

A small profile, per region and forward-folded, compared with the numbers in selftest.json. These
were computed without jaxprof, by mpmath and scipy; the file says how.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import astropy.units as u
import jax
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof

_TOLERANCES = {
    "per region": (1e-7, "relative"),
    "forward-folded": (1e-3, "of the error"),
}
"""Folded numbers of the reference are those of a flat sky and of the PSF as a formula."""


def read_reference() -> dict[str, Any]:
    """The stored problem and its solution."""
    return json.loads(files("jaxprof").joinpath("selftest.json").read_text(encoding="utf-8"))


def make_dataset(reference: Mapping[str, Any]) -> jaxprof.MapDataset:
    """The dataset of the stored problem."""
    problem = reference["problem"]
    edges = problem["energy_edges"] * u.TeV
    energy = jaxprof.MapAxis.from_edges(edges, name="energy", interp="log")
    true = jaxprof.MapAxis.from_edges(edges, name="energy_true", interp="log")
    ny, nx = problem["shape"]
    image = jaxprof.WcsGeom.create(
        (0.0, 0.0), binsz=problem["pixel"], npix=(nx, ny), frame="galactic", proj="CAR"
    )
    counts = np.array(reference["counts"], dtype=float)
    background = np.broadcast_to(
        np.array(problem["background"])[:, None, None], counts.shape
    ).copy()
    exposure = np.full(counts.shape, problem["exposure"])
    return jaxprof.MapDataset(
        counts=jaxprof.WcsNDMap(image.to_cube([energy]), counts),
        background=jaxprof.WcsNDMap(image.to_cube([energy]), background),
        exposure=jaxprof.WcsNDMap(image.to_cube([true]), exposure, unit="cm2 s"),
        psf=jaxprof.PSFMap.from_gauss(true, problem["psf_sigma"] * u.deg),
        name="self-test",
    )


def compute(reference: Mapping[str, Any]) -> dict[str, jaxprof.FluxProfile]:
    """The profiles of the stored problem."""
    problem, dataset = reference["problem"], make_dataset(reference)
    half = problem["pixel"] * problem["shape"][1] / 2
    regions = jaxprof.make_orthogonal_rectangle_sky_regions(
        SkyCoord(half, 0, unit="deg", frame="galactic"),
        SkyCoord(-half, 0, unit="deg", frame="galactic"),
        dataset.geom.wcs,
        problem["height"] * u.deg,
        problem["n_boxes"],
    )
    options: dict[str, Any] = {
        "energy_edges": problem["group_edges"] * u.TeV,
        "spectral_model": jaxprof.PowerLawSpectralModel().replace(
            index=problem["index"], amplitude=problem["amplitude"], reference=1.0
        ),
    }
    separate = jaxprof.FluxProfileEstimator(regions, selection_optional="ul", **options)
    joint = jaxprof.ForwardFoldingProfileEstimator(regions, **options)
    return {"per region": separate.run(dataset), "forward-folded": joint.run(dataset)}


def compare(
    profiles: Mapping[str, jaxprof.FluxProfile], reference: Mapping[str, Any]
) -> list[tuple[str, float, float, str]]:
    """Largest difference of each quantity, its tolerance, and what they are relative to."""
    stored = {"per region": reference["separate"], "forward-folded": reference["joint"]}
    rows = []
    for kind, profile in profiles.items():
        limit, what = _TOLERANCES[kind]
        error = np.array(stored[kind]["norm_err"])
        for name, values in stored[kind].items():
            expected = np.array(values)
            scale = np.abs(expected) if what == "relative" else error
            difference = np.abs(np.asarray(getattr(profile, name)) - expected) / scale
            # NaN is no agreement, and max() keeps it.
            rows.append((f"{kind}: {name}", float(np.max(difference)), limit, what))
    return rows


def main() -> int:
    """Compute, compare, say so; 1 if any number is off, else 0."""
    start = time.perf_counter()
    device = jax.devices()[0]
    names = ("jax", "jaxlib", "numpy", "scipy", "astropy", "regions")
    print(f"jaxprof {jaxprof.__version__}, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(f"device: {device.platform} ({device.device_kind})")
    reference = read_reference()
    failed = 0
    for name, difference, limit, what in compare(compute(reference), reference):
        good = difference <= limit
        failed += not good
        verdict = "ok" if good else "WRONG"
        print(f"{name:26} differs by {difference:8.1e} {what}, at most {limit:g}: {verdict}")
    seconds = time.perf_counter() - start
    result = f"{failed} WRONG" if failed else "all agree with the reference"
    print(f"{result}, {seconds:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
