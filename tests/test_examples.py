"""The examples run as users run them, and what they print and write is right."""

import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    MapDataset,
    PowerLawSpectralModel,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.datasets import simulate_galactic_centre

ROOT = Path(__file__).parent.parent
CENTER = SkyCoord("0d", "0d", frame="galactic")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "examples").is_dir(), reason="no examples beside the tests"),
    # The real data have bins whose counts are far below their background.
    pytest.mark.filterwarnings("ignore:negative upper limits of bin"),
    # The second minima of spectral indices are said, and true.
    pytest.mark.filterwarnings("ignore:joint fit. another minimum"),
    # A point is in the centre, and the uniform rings do not describe it.
    pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin"),
]


SAID = {"forward_folding.py": ("ignore:background norm:UserWarning",)}
"""Warnings that an example speaks of."""


def run_example(name, out, gc_file=None):
    """Run an example; its output.

    On simulated data as users run it, in a process of its own, with warnings as errors; on
    real data in this process, which is quicker because what was compiled is used again.
    """
    if gc_file is not None:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as output:
            patch.setenv("GAMMAPY_DATA", str(gc_file.parent.parent))
            patch.setattr(sys, "argv", [name, "--out", str(out)])
            runpy.run_path(str(ROOT / "examples" / name))
        return output.getvalue()
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    env.pop("GAMMAPY_DATA", None)
    ignored = (
        "ignore:JAXopt is no longer maintained:DeprecationWarning",
        "ignore:negative upper limits of bin:UserWarning",
        "ignore:joint fit",
        "ignore:the joint fit does not describe what is in bin",
    )
    options = [part for each in ("error", *ignored, *SAID.get(name, ())) for part in ("-W", each)]
    command = [sys.executable, *options, str(ROOT / "examples" / name)]
    done = subprocess.run(
        [*command, "--out", str(out)], env=env, cwd=out.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module", params=["simulation", "real"])
def source(request):
    """The file, or None for the simulation; skipped without the file."""
    return None if request.param == "simulation" else request.getfixturevalue("gc_file")


@pytest.fixture(scope="module")
def dataset(source):
    return simulate_galactic_centre(seed=0) if source is None else MapDataset.read(source)


@pytest.fixture(scope="module")
def flux_profiles(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("flux_profiles") / "new" / "out"
    out.parent.mkdir()
    return run_example("flux_profiles.py", out, source), out


@pytest.fixture(scope="module")
def joint_fit(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("joint_fit") / "out"
    return run_example("joint_fit.py", out, source), out


@pytest.fixture(scope="module")
def plane(dataset):
    """The profile along the plane, estimated once more."""
    regions = make_orthogonal_rectangle_sky_regions(
        start_pos=SkyCoord("10d", "0d", frame="galactic"),
        end_pos=SkyCoord("350d", "0d", frame="galactic"),
        wcs=dataset.counts.geom.wcs,
        height="3 deg",
        nbin=51,
    )
    estimator = FluxProfileEstimator(
        regions=regions,
        spectral_model=PowerLawSpectralModel(index=2.3),
        energy_edges=[10, 500] * u.GeV,
        selection_optional=["ul"],
    )
    return estimator.run(dataset)


def test_forward_folding(tmp_path):
    # On simulated data only: it takes long.
    output = run_example("forward_folding.py", tmp_path / "out")
    assert "SIMULATED DATA" in output
    listed = output.split("\nWritten:")[1].splitlines()[1:]
    assert sorted(Path(line.strip()) for line in listed) == sorted((tmp_path / "out").iterdir())
    figures = list((tmp_path / "out").glob("*.png"))
    assert len(figures) == 5
    for path in figures:
        content = path.read_bytes()
        assert content.startswith(PNG_MAGIC) and len(content) > 20_000
    read = FluxProfile.read(tmp_path / "out" / "radial_forward.fits")
    assert read.success.all()
    # Neighbouring rings share photons, so their norms are anticorrelated.
    assert np.all(np.diagonal(read.correlation, 1, axis1=1, axis2=2) < -0.1)
    assert np.all(read.norm_err > 0) and np.all(read.norm_ul > read.norm)


def test_spectral_index(tmp_path):
    output = run_example("spectral_index.py", tmp_path / "out")
    assert (tmp_path / "out" / "spectral_index.png").read_bytes().startswith(PNG_MAGIC)
    rows = re.findall(r"^\d\.\d+ to .* (\S+) \+- (\S+)$", output, flags=re.M)
    index, error = np.array(rows, dtype=float).T
    assert len(index) == 3 and np.all((error > 0.03) & (error < 0.6))
    # The source in the centre.
    assert abs(index[0] - 2.6) < 3 * error[0]


def test_flux_profiles_says_what_it_used_and_wrote(flux_profiles, source):
    output, out = flux_profiles
    assert ("SIMULATED DATA" in output) == (source is None)
    assert ("REAL DATA: Fermi-LAT" in output) == (source is not None)
    listed = output.split("\nWrote, from")[1].splitlines()[1:]
    assert sorted(Path(line.strip()) for line in listed) == sorted(out.iterdir())
    figures = [path for path in out.iterdir() if path.suffix == ".png"]
    assert len(figures) == 9
    for path in figures:
        content = path.read_bytes()
        assert content.startswith(PNG_MAGIC) and len(content) > 20_000


def test_flux_profiles_writes_the_right_numbers(flux_profiles, plane):
    _, out = flux_profiles
    for name in ("flux_profile.fits", "flux_profile.ecsv"):
        read = FluxProfile.read(out / name)
        for quantity in ("norm", "norm_err", "norm_ul", "ts", "counts", "coverage", "success"):
            expected = getattr(plane, quantity)
            np.testing.assert_allclose(getattr(read, quantity), expected, rtol=1e-12, atol=1e-12)
    # What the file says, without our reader.
    with fits.open(out / "flux_profile.fits") as hdus:
        columns = hdus["FLUXPOINTS"].data
        dnde = plane.dnde.to_value(hdus["FLUXPOINTS"].columns["dnde"].unit)
        np.testing.assert_allclose(columns["dnde"].reshape(51), dnde[:, 0], rtol=1e-12)
    table = Table.read(out / "flux_profile.ecsv")
    np.testing.assert_allclose(table["x_ref"], plane.axis.ref, rtol=1e-12)
    assert FluxProfile.read(out / "radial_profile.fits").stat_scan.shape == (10, 2, 161)


def test_flux_profiles_prints_the_table_and_the_cut_bins(flux_profiles, plane):
    output, _ = flux_profiles
    rows = re.findall(r"^ *-?\d+\.\d+ .*(?:ok|fully masked) *$", output, flags=re.M)
    rows = [row.split() for row in rows]
    cut = np.flatnonzero(plane.coverage[:, 0] < 1)
    assert list(cut) == [0, 1, 2, 48, 49, 50]
    assert len(rows) == 51
    norm = [float(row[2]) for row in rows]
    np.testing.assert_allclose(norm, plane.norm[:, 0], rtol=0, atol=5.1e-4)
    assert [row[-2:] for row in rows[:2]] == [["fully", "masked"]] * 2
    lines = re.findall(r"^ *(\d+) +(\d\.\d+)  (?:ok|fully masked) ", output, flags=re.M)
    assert [int(index) for index, _ in lines] == list(cut)
    shown = [float(coverage) for _, coverage in lines]
    np.testing.assert_allclose(shown, plane.coverage[cut, 0], atol=5.1e-4)


def printed_fit(output, title):
    """(c, error of c, alpha, error of alpha) of a line of the joint fit's table."""
    line = next(line for line in output.splitlines() if line.startswith(title))
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_joint_fit_is_the_minimum_with_the_right_errors(joint_fit, dataset):
    """Against an independent minimisation in numpy: quadrature, finite differences, a scan."""
    output, out = joint_fit
    assert (out / "joint_fit.png").read_bytes().startswith(PNG_MAGIC)
    gradient = re.search(r"largest gradient at the minimum: (\S+)", output)
    assert float(gradient.group(1)) < 1e-9

    regions = make_concentric_annulus_sky_regions(center=CENTER, radius_max="1.5 deg", nbin=11)
    estimator = FluxProfileEstimator(
        regions=regions,
        spectral_model=PowerLawSpectralModel(index=2.3),
        energy_edges=[10, 500] * u.GeV,
    )
    profile = estimator.run(dataset)
    data = profile.likelihood_data
    solid_angle = profile.solid_angle.to_value("sr")
    flux_ref = profile.flux_ref[0].to_value("cm-2 s-1")
    low, high = profile.axis.min, profile.axis.max
    # In log r the pole at the centre is gone, and the midpoint rule is good to 1e-7.
    edges = np.linspace(np.log(low), np.log(high), 2001)
    nodes = 0.5 * (edges[1:] + edges[:-1])
    step = np.diff(edges, axis=0)

    def stat(c, alpha):
        mean = 2 * np.sum(np.exp((2 - alpha) * nodes) * step, axis=0) / (high**2 - low**2)
        norms = c * 1e-7 * mean * solid_angle / flux_ref
        mu = data.background + norms[:, None, None] * data.npred_ref
        return 2 * np.sum(np.where(data.mask, mu - data.counts * np.log(mu), 0.0))

    c, c_err, alpha, alpha_err = printed_fit(output, "likelihood of the counts")
    best, sigma = np.array([c, alpha]), np.array([c_err, alpha_err])
    hessian = np.zeros((2, 2))
    for i in range(2):
        for j in range(2):
            e, f = np.eye(2)[[i, j]] * sigma * 0.05
            hessian[i, j] = (
                stat(*(best + e + f))
                - stat(*(best + e - f))
                - stat(*(best - e + f))
                + stat(*(best - e - f))
            ) / (4 * 0.05**2 * sigma[i] * sigma[j])
    covariance = 2 * np.linalg.inv(hessian)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), sigma, rtol=5e-3)
    # A Newton step from the printed values is as long as their last digit at most.
    slope = [
        (stat(*(best + e)) - stat(*(best - e))) / (2 * e.sum()) for e in np.diag(sigma) * 0.001
    ]
    np.testing.assert_allclose(np.linalg.solve(hessian, slope), 0.0, atol=1e-4)

    free = re.search(r"stat above that of free norms: (\S+) for 8", output)
    assert float(free.group(1)) == pytest.approx(stat(c, alpha) - profile.stat.sum(), abs=0.06)
    points = printed_fit(output, "least squares on the points")
    assert abs(points[0] - c) < 2 * c_err and points[0] != c
