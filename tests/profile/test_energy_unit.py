"""Energies in the unit that the user gave: profile, tables, files and figures."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal
from profile_factory import EDGES, make_profile

from jaxprof import FluxProfile, FluxProfileStack
from jaxprof.profile.printed import with_formats
from jaxprof.profile.quantities import energy_span


def test_energies_are_in_the_unit_of_the_edges():
    profile = make_profile(edges=u.Quantity(EDGES, "TeV").to("GeV"))
    assert profile.energy_unit == "GeV"
    assert profile.energy_min.unit == profile.energy_ref.unit == u.GeV
    assert_allclose(profile.energy_max.value, 1000 * EDGES[:, 1], rtol=1e-15)
    assert_allclose(profile.energy_edges, EDGES, rtol=1e-15)
    table = profile.to_table()
    assert table["e_min"].unit == u.GeV
    again = FluxProfile.from_table(table)
    assert again.energy_unit == "GeV"
    assert_allclose(again.energy_edges, EDGES, rtol=1e-15)
    part = profile.slice_by_idx({"energy": [0]})
    assert part.energy_unit == "GeV"
    # Plain numbers are TeV, and nobody has chosen a unit.
    assert make_profile().energy_unit is None and make_profile().energy_min.unit == u.TeV


@pytest.mark.parametrize("kind", ["fits", "ecsv"])
def test_files_are_in_tev_and_keep_the_unit(tmp_path, kind):
    profile = make_profile()
    profile.energy_unit = "MeV"
    path = tmp_path / f"a.{kind}"
    profile.write(path)
    again = FluxProfile.read(path)
    assert again.energy_unit == "MeV"
    assert_array_equal(again.energy_edges, EDGES)
    if kind == "ecsv":
        assert "{name: e_min, unit: TeV" in path.read_text()


def test_text_and_figures_show_the_unit():
    profile = make_profile()
    profile.energy_unit = "MeV"
    paper = profile.to_table(style="paper")
    assert paper["Energy [MeV]"][:2].tolist() == ["10000 - 100000", "200000 - 500000"]
    ax = profile.plot(ax=plt.figure().add_subplot(), sed_type="flux")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "10000 - 100000 MeV" in labels
    ax = profile.plot(ax=plt.figure().add_subplot(), sed_type="flux", axis_name="energy")
    assert ax.get_xlabel() == "Energy [MeV]"
    assert_allclose(ax.dataLim.x1, 5e5, rtol=1e-12)
    assert "10000 to 100000 MeV" in profile._repr_html_()
    plt.close("all")


def test_other_units_are_refused():
    profile = make_profile()
    with pytest.raises(ValueError, match="energy_unit must be one of energies, .* got 'cm'"):
        profile.energy_unit = "cm"
    with pytest.raises(ValueError, match="energy_edges must be energies"):
        make_profile(edges=EDGES * u.cm)
    for unit in ("1e3 GeV", 2 * u.GeV, ""):
        with pytest.raises(ValueError, match="energy_unit must be one of energies"):
            make_profile(energy_unit=unit)


def test_stacks_of_several_units_have_that_of_the_first(tmp_path):
    profiles = [make_profile(energy_unit=unit) for unit in ("GeV", None, "keV")]
    stack = FluxProfileStack(profiles, ["a", "b", "c"])
    table = stack.to_table()
    assert table["e_min"].unit == u.GeV
    assert_allclose(table["e_min"], np.tile(1000 * EDGES[:, 0], (len(table), 1)), rtol=1e-12)


def test_energies_need_no_exponents_in_words():
    """keV would be 1e+07, as it stands in tables with their unit; a suitable unit is kept."""
    edges = [0.01, 0.5]
    assert energy_span(edges, "keV") == "10 to 500 GeV"
    assert energy_span(edges, "MeV") == "10000 to 500000 MeV"
    assert energy_span([1e-4, 0.01], "keV") == "0.1 to 10 GeV"
    table = with_formats(Table({"e_min": [1e4, 36840.3], "e_max": [36840.3, 5e5]}))
    assert "36840" in str(table["e_min"]) and "e+0" not in str(table["e_min"]) + str(table["e_max"])
