"""The scripts of the gallery run, find the truth that they simulate, and draw figures."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GALLERY = Path(__file__).parent.parent / "examples" / "gallery"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
LIBRARIES = {
    "1_optax_two_datasets": ["optax"],
    "2_numpyro_smooth_profile": ["numpyro"],
    "3_blackjax_whitened": ["blackjax"],
}
IGNORED = (
    "ignore:JAXopt is no longer maintained:DeprecationWarning",
    "ignore:negative upper limits of bin:UserWarning",
)

pytestmark = pytest.mark.skipif(not GALLERY.is_dir(), reason="no examples beside the tests")
SCRIPTS = sorted(path.stem for path in GALLERY.glob("*.py"))


def run(name, folder):
    """Run a script with small settings, warnings as errors; what it prints."""
    for library in LIBRARIES.get(name, []):
        pytest.importorskip(library)
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    options = [part for each in ("error", *IGNORED) for part in ("-W", each)]
    command = [sys.executable, *options, str(GALLERY / f"{name}.py"), "--quick", "--out", folder]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [figure] = Path(folder).glob("*.png")
    content = figure.read_bytes()
    assert content.startswith(PNG_MAGIC) and len(content) > 20_000
    return done.stdout


def numbers(pattern, output):
    """Numbers that a pattern finds in the output, whose spaces stand for any number of these."""
    found = re.search(
        pattern.replace(" ", r"\s+").replace("NUMBER", r"(-?[\d.]+(?:e[+-]\d+)?)"), output
    )
    assert found, output
    return [float(own) for own in found.groups()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_style(name):
    """Title, cells with prose, and public names only."""
    source = (GALLERY / f"{name}.py").read_text(encoding="utf-8")
    title, rule, *_ = ast.get_docstring(ast.parse(source)).splitlines()
    assert rule == "=" * len(title)
    assert len(re.findall(r"^# %%\n# \S", source, flags=re.M)) >= 3
    own = re.findall(r"^(?:from|import) (jaxprof[.\w]*)", source, flags=re.M)
    assert set(own) <= {"jaxprof", "jaxprof.datasets"}
    assert not re.search(r"\._\w", source)


@pytest.mark.slow
def test_optax(tmp_path):
    output = run("1_optax_two_datasets", tmp_path)
    assert numbers("difference of the two: NUMBER of an error", output)[0] < 1e-5
    sigma, error = numbers(r"sigma \S+ NUMBER \+- NUMBER", output)
    assert error < 0.03 and abs(sigma - 0.4) < 4 * error


@pytest.mark.slow
def test_numpyro(tmp_path):
    worst, divergences = numbers(
        "r-hat: NUMBER; divergences: NUMBER", run("2_numpyro_smooth_profile", tmp_path)
    )
    assert worst < 1.01 and divergences == 0


@pytest.mark.slow
def test_blackjax(tmp_path):
    output = run("3_blackjax_whitened", tmp_path)
    divergences, gradients = numbers("divergences: NUMBER; gradients per draw: NUMBER", output)
    assert divergences == 0 and gradients < 20
    assert numbers("r-hat: NUMBER", output)[0] < 1.01


@pytest.mark.slow
def test_shared_spectrum(tmp_path):
    output = run("4_shared_spectrum", tmp_path)
    alone, alone_err, both, error = numbers(r"alpha NUMBER \+- NUMBER NUMBER \+- NUMBER", output)
    assert error < 0.7 * alone_err and abs(both - 2.1) < 4 * error
    total, error = numbers(r"over the points: NUMBER \+- NUMBER", output)
    assert error < 0.2 and abs(total - 1) < 4 * error


@pytest.mark.slow
def test_nuisance_parameters(tmp_path):
    output = run("5_nuisance_parameters", tmp_path)
    assert abs(numbers(r"over the first: NUMBER", output)[0] - 0.85) < 0.1
    width, error = numbers(r"psf_scale NUMBER \+- NUMBER", output)
    assert error < 0.06 and abs(width - 1) < 4 * error


@pytest.mark.slow
def test_diffusion_halo(tmp_path):
    angle, error = numbers(r"theta_d NUMBER \+- NUMBER", run("6a_diffusion_halo", tmp_path))
    assert 0.2 < error < 0.8 and abs(angle - 5.4) < 4 * error


@pytest.mark.slow
def test_gas_ratio(tmp_path):
    output = run("6b_gas_ratio", tmp_path)
    alpha, error = numbers(r"alpha NUMBER \+- NUMBER", output)
    assert error < 0.05 and abs(alpha - 1) < 4 * error
    for constant in ("0", "2"):
        assert numbers(f"alpha = {constant}: stat NUMBER above", output)[0] > 100


@pytest.mark.slow
def test_j_factor_limit(tmp_path):
    output = run("6c_j_factor_limit", tmp_path)
    limits = [float(own) for own in re.findall(r"v> < (\S+) cm3", output)]
    assert len(limits) == 4 and all(1e-28 < own < 1e-22 for own in limits)


@pytest.mark.slow
def test_influence_map(tmp_path):
    output = run("7_influence_map", tmp_path)
    own, refitted = numbers("Influence of a pixel: NUMBER, by another fit: NUMBER", output)
    assert own == pytest.approx(refitted, abs=2e-6) and own != 0
