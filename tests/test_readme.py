"""The README's code works as printed, and what it names exists."""

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="no README beside the tests")


def run_block(index, names=None):
    """Run a python block of the README, after another one if it needs its names; its names."""
    block = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)[
        index
    ]
    names = {} if names is None else names
    exec(compile(block, f"README.md, python block {index}", "exec"), names)
    return names


# Sources stand in other rings than the first.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
def test_the_profile_in_a_few_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_block(0)
    profile = names["profile"]
    assert profile.norm.shape == (10, 2) and profile.success.all()
    printed = capsys.readouterr().out
    assert str(profile.flux_ul.unit) in printed
    assert [line.split()[0] for line in printed.splitlines()].count("x_min") == 1
    with fits.open("profile.fits") as hdus:
        np.testing.assert_allclose(hdus["FLUXPOINTS"].data["norm"], profile.norm, rtol=1e-14)
    assert Path("profile.png").read_bytes().startswith(b"\x89PNG")
    folded = run_block(1, names)["folded"]
    assert folded.success.all() and folded.correlation.shape == (2, 10, 10)
    # The bright centre: what leaks out of the first annulus comes back to it.
    assert folded.norm[0, 0] > profile.norm[0, 0] and folded.norm[1, 0] < profile.norm[1, 0]
    assert Path("folded.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_law_in_a_few_lines(capsys):
    """What is printed is a fit that succeeded, and finds the law that was simulated."""
    names = {}
    head = README.read_text(encoding="utf-8").split("```python\n")[1].split("profile = ")[0]
    exec(compile(head, "README.md, imports, dataset and options", "exec"), names)
    run_block(2, names)
    printed = capsys.readouterr().out
    assert re.search(r"ExponentialRadialModel, .* ok, stat \d+", printed)
    for line in (r"amplitude: ", r"background\[0, 1\]: "):
        assert re.search(line, printed)
    value, error = map(float, re.search(r"theta_0: (\S+) \+- (\S+) deg\n", printed).groups())
    assert abs(value - 0.5) < 3 * error < 0.3


def test_the_core_in_a_few_lines():
    names = run_block(3)
    # All energies alike: the norm is the excess over the signal expected, (13 - 4.5) / 6.
    norm = np.asarray(names["fit"].norm)[:, 0]
    np.testing.assert_allclose(norm, [8.5 / 6, -0.75], rtol=1e-12)
    # Without counts the statistic 2 (4.5 + 6 x) rises by 4 from its end at x = -0.75.
    np.testing.assert_allclose(names["upper"][1, 0], -0.75 + 4 / 12, rtol=1e-12)
    # All counts bins have the same prediction mu, and the score is sum s (1 - n / mu): by the
    # implicit function theorem dnorm/db_i = -n_i / (s sum n).
    counts = np.array([9.0, 4.0, 0.0])
    np.testing.assert_allclose(names["gradient"][0, 0], -0.5 * counts / 13, rtol=1e-10)


def test_what_it_names_exists():
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:examples|benchmarks)/\S+?\.py)`|`(\w+\.(?:cff|md))`", text):
        assert (ROOT / "".join(path)).exists(), path
