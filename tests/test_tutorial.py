"""The tutorial that the package was made for runs with its import lines changed, and no others."""

import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose

IMPORTS = """
import numpy as np
import matplotlib.pyplot as plt
from astropy import units as u
from astropy.coordinates import SkyCoord
from jaxprof import (
    FluxProfile as FluxPoints,
    FluxProfileEstimator,
    MapDataset,
    PowerLawSpectralModel,
    RegionGeom,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
display = print
"""

# What the saved page lost, as the design notes say.
LOST_LINE = 'profile_new = FluxPoints.read(filename="flux_profile_fermi.fits", format="profile")\n'


def tutorial_code(text):
    """The code cells of the page; what is not Python (the printed output) is left out."""
    cells = []
    for cell in re.findall(r"```(.*?)```", text, flags=re.DOTALL):
        cell = cell.replace("\\$", "$").replace("\nprofile[quantity]", "\n    profile[quantity]")
        cell = re.sub(
            r"from (gammapy|IPython)\S* import (\(.*?\)|[^\n]*)", "", cell, flags=re.DOTALL
        )
        cell = cell.replace("check_tutorials_setup()", "")
        cell = cell.replace("ax = profile_new.plot()", LOST_LINE + "ax = profile_new.plot()")
        try:
            compile(cell, "cell", "exec")
        except SyntaxError:
            continue
        # The print of an estimator reads like Python; names without values are no code.
        if re.search(r"[=(]", cell):
            cells.append(cell)
    return cells


@pytest.fixture
def code(gc_file, reference_dir):
    page = reference_dir.parent / "seed.txt"
    if not page.exists():
        pytest.skip("the page of the tutorial is not beside the reference profiles")
    return "\n".join([IMPORTS, *tutorial_code(page.read_text(encoding="utf-8"))])


def run(code, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        exec(compile(code, "tutorial", "exec"), names)
    # Both profiles ask for energies up to 2 TeV, where the data end at 500 GeV, and have bins whose
    # counts are far below their background. Nothing else.
    said = [re.split(r":| of bin", str(w.message))[0] for w in record]
    assert said == ["energy_edges", "negative upper limits"] * 2
    assert {w.filename for w in record} == {"tutorial"}
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    return names, capsys.readouterr().out


@pytest.mark.slow
def test_as_written(code, tmp_path, monkeypatch, capsys):
    names, output = run(code, tmp_path, monkeypatch, capsys)
    assert code.count("FluxProfileEstimator(") == 2
    assert "spectrum=" in code
    for text in ("WcsNDMap", "(400, 200, 11)", "FluxProfileEstimator", "n_sigma_ul", "norm_ul"):
        assert text in output
    assert names["table"]["counts"][[2, 3, 48]].ravel().tolist() == [163, 448, 172]
    assert len(names["table"]) == 51
    assert names["profile"].norm.shape == (10, 2)
    assert_allclose(names["profile"].norm_scan[0, 0], np.linspace(-1, 5, 11))
    assert (tmp_path / "flux_profile_fermi.fits").exists()
    # Most cells make a figure of their own.
    assert len(plt.get_fignums()) >= 8


@pytest.mark.slow
def test_newer_form(code, tmp_path, monkeypatch, capsys):
    newer = code.replace("spectrum=", "spectral_model=").replace("nbin=51", "nbin=49")
    newer = newer.replace('"10d"', '"9d"').replace('"350d"', '"351d"')
    names, _ = run(newer, tmp_path, monkeypatch, capsys)
    assert len(names["table"]) == 49
    assert np.all(names["table"]["success"])
    assert names["profile_new"].status.max() == 0
