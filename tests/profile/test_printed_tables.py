"""What tables look like in terminals and papers."""

import numpy as np
import pytest
from astropy.table import Table
from profile_factory import make_nuisance, make_profile

from jaxprof.core import Status
from jaxprof.profile.table import styled_table
from jaxprof.regions import ProfileAxis


def test_wide_terminals_show_more_columns(monkeypatch):
    table = make_profile().to_table(formatted=True)
    found = {}
    for width in ("60", "80", "400"):
        monkeypatch.setenv("COLUMNS", width)
        lines = str(table).split("\n")
        found[width] = max(map(len, lines[:-1]))
        assert "more columns" in lines[-1]
    assert found["60"] == found["80"] <= 80 < found["400"]


def test_energies_of_one_group_are_shown_with_both_ends_or_not_at_all(monkeypatch):
    table = make_profile().slice_by_idx({"energy": [0]}).to_table("flux", formatted=True)
    found = set()
    for width in (80, 120, 400):
        monkeypatch.setenv("COLUMNS", str(width))
        header = str(table).split("\n")[0].split()
        assert ("e_min" in header) == ("e_max" in header)
        if "e_min" in header:
            assert header.index("e_max") == header.index("e_min") + 1 < header.index("flux")
        found.add("e_min" in header)
    assert found == {True, False}


def test_nuisance_parameters_are_printed_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = make_nuisance()
    for number in range(9):
        table[f"another_long_column_{number}"] = np.zeros(len(table))
    found = make_profile(nuisance=table).nuisance
    text = str(found)
    assert all(name in text.split("\n")[0] for name in table.colnames)
    assert len(text.split("\n")) == len(table) + 2
    assert "..." not in text


def test_latex_tables_have_captions_and_labels(tmp_path):
    profile = make_profile()
    profile.write(tmp_path / "a.tex", caption=r"Fluxes of \object{Sgr A}", label="tab:gc")
    text = (tmp_path / "a.tex").read_text()
    assert text.startswith("\\begin{table}\n\\caption{Fluxes of \\object{Sgr A}\\label{tab:gc}}\n")
    profile.write(tmp_path / "b.tex")
    assert "caption" not in (tmp_path / "b.tex").read_text()
    for name, message in (("a.csv", "those of LaTeX tables"), ("a.fits", "those of text tables")):
        with pytest.raises(ValueError, match=f"caption and label are {message}"):
            profile.write(tmp_path / name, caption="c")


def test_the_status_is_printed_where_not_all_are_ok(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    profile = make_profile()
    profile.quantities["name"] = np.array([f"a long name {k}" for k in range(4)])
    profile.axis = ProfileAxis("region-index", *(np.arange(4.0) + d for d in (-0.5, 0.5, 0)))
    profile.quantities["status"][2, 1] = Status.FULLY_MASKED
    text = str(profile.to_table("flux", formatted=True))
    header = text.split("\n")[0]
    assert "status" in header and "fully masked" in text
    # They count the bins, which have names.
    assert "x_min" not in header and "a long name 3" in text


def test_tables_of_papers_are_printed_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table = make_profile().to_table("e2dnde", style="paper", unit="erg cm-2 s-1")
    assert "..." not in str(table)
    assert all(name in str(table) for name in table.colnames)


def test_tables_for_papers_say_which_limits_they_have_and_why_errors_lack(tmp_path):
    profile = make_profile()
    for name, value in {"norm_err": np.nan, "norm_errn": np.nan, "norm_errp": np.nan}.items():
        profile.quantities[name][0, 0] = value
    profile.quantities["status"][0, 0] = Status.ZERO_COUNTS
    profile.quantities["ts"][0, 0] = 100.0  # shown as a value
    profile.quantities["ts"][1, 0] = 0.0  # and this as a limit
    profile.meta["interval"] = "one-sided"
    notes = profile.to_table("flux", style="paper").meta["notes"]
    assert notes[0] == "Upper limits (<): 95.45 % one-sided where the root of TS is below 2."
    assert notes[1].startswith("Values without errors: bins without counts")
    assert notes[2:] == ["No values: fully masked."]
    assert str(profile.to_table("flux", style="paper")).endswith("\n".join(notes))
    profile.write(tmp_path / "a.tex", sed_type="flux")
    below = (tmp_path / "a.tex").read_text().split(r"\end{tabular}")[1]
    assert r"($<$): 95.45 \% one-sided where the root of TS is below 2. Values without" in below
    profile.write(tmp_path / "a.csv", sed_type="flux")
    rows = Table.read(tmp_path / "a.csv")
    assert set(rows["ul_interval"]) == {"one-sided"} and len(rows) == profile.norm.size
    np.testing.assert_allclose(rows["ul_conf"], 0.9545, atol=1e-4)
    # A CSV table has no place for notes: level and kind are columns.
    profile.write(tmp_path / "b.csv", sed_type="flux", style="paper")
    rows = Table.read(tmp_path / "b.csv")
    assert rows.colnames[-2:] == ["ul_conf", "ul_interval"] and set(rows["ul_conf"]) == {0.9545}
    assert rows.colnames[:-2] == profile.to_table("flux", style="paper").colnames
    profile.write(tmp_path / "c.csv", columns=["flux"], style="paper")
    rows = Table.read(tmp_path / "c.csv")
    assert rows.colnames[1:] == ["ul_conf", "ul_interval"]
    assert set(rows["ul_interval"]) == {"one-sided"} and any("<" in own for own in rows.columns[0])


def test_small_numbers_in_latex_have_powers_of_ten():
    profile = make_profile()
    profile.quantities["stat_null"][0, 0] = 7.66e-197
    cells = profile.to_table("flux", style="paper", columns=["stat_null"]).columns[0]
    assert cells[0] == "7.66e-197"
    cells = styled_table(profile, "flux", ["stat_null"], "paper", latex=True).columns[0]
    assert cells[0] == r"$7.66 \times 10^{-197}$"


def test_tables_for_papers_say_why_values_lack_and_write_zero_without_a_sign():
    profile = make_profile()
    for name in ("norm", "norm_ul", "norm_err", "norm_errn", "norm_errp"):
        profile.quantities[name][0, 0] = np.nan
    profile.quantities["status"][0, 0] = Status.FULLY_MASKED
    profile.quantities["norm"][1, 0], profile.quantities["ts"][1, 0] = -0.1, 1e-4
    table = profile.to_table("likelihood", style="paper")
    assert table.meta["notes"][-1] == f"No values: {Status.FULLY_MASKED.label}."
    assert "-0.0" not in table["sqrt_ts"] and "0.0" in table["sqrt_ts"]
    with pytest.raises(ValueError, match="columns: there is no 'name'") as error:
        profile.to_table("likelihood", style="paper", columns=["name"])
    assert "are name" not in str(error.value) and " name," not in str(error.value)
