"""The benchmarks run, at tiny sizes, and their numba kernel is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprof.core import ProfileData, fit_norms

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"

pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmarks beside the tests"),
    pytest.mark.slow,
]


def run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_benchmarks_side_by_side(tmp_path):
    run("run.py", "--quick", "--no-gammapy", "--out", str(tmp_path))
    text = (tmp_path / "bench.md").read_text()
    for title in ("Separate fits", "From maps to profiles", "20 toys", "Forward folding"):
        assert f"## {title}\n" in text
    for name in ("jaxprof float64", "jaxprof float32, limits", "numba", "scipy", "iminuit"):
        assert text.count(f"| {name} | ") == 4
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


def test_precisions_on_this_device(tmp_path):
    path = tmp_path / "gpu.md"
    run("gpu.py", "--bins", "400", "--repeat", "1", "--out", str(path))
    lines = path.read_text().splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    rows = [dict(zip(table[0], cells, strict=True)) for cells in table[2:]]
    assert len(rows) == 8
    for row in rows:
        allowed = 1e-3 if row["dtype"] == "float32" else 1e-9
        assert float(row["norm off by [sigma]"]) < allowed
        assert float(row["ul off by [sigma]"]) < allowed


@pytest.mark.parametrize("kind", ["index", "index and tilt"])
def test_fits_end_in_the_lowest_minimum(kind):
    """Of 16 problems, 96 fits at most: one too high is what 99 % allow.

    Of second minima nearly all are told, and what is told is one.
    """
    lines = run("minima.py", "--seed", "31000", "--number", "16", "--kinds", kind).splitlines()
    numbers = re.findall(r"(\d+) of (\d+)", lines[-1])
    assert len(numbers) == 4, lines
    failed, fitted = np.array(numbers, int).sum(axis=0)
    assert fitted >= 64 + 16 and failed <= 1, lines
    told, asked, right, said = map(
        int, re.search(r"told (\d+) of (\d+), right (\d+) of (\d+)", lines[-2]).groups()
    )
    assert told >= asked - 1 and right >= said - 1, lines


def test_the_numba_kernel_fits_what_we_do(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from many_fits import toys
    from numba_kernel import fit

    arrays = toys(150, hard=True)
    norm, error, _, _, ts = fit(*(a[:, 0] for a in arrays.values()))
    with jax.enable_x64(True):
        ours = fit_norms(ProfileData(**arrays))
    np.testing.assert_allclose(norm, ours.norm[:, 0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ts, ours.ts[:, 0], rtol=1e-10, atol=1e-10)
    regular = np.isfinite(ours.norm_err[:, 0])
    np.testing.assert_allclose(error[regular], ours.norm_err[regular, 0], rtol=1e-10)
