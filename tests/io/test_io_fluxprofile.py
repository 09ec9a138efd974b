import json
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_factory import (
    assert_same_data,
    assert_same_profile,
    make_data,
    make_joint_profile,
    make_on_off,
    make_profile,
)
from regions import CircleSkyRegion

from jaxprof.likelihood.data import ProfileData, Status
from jaxprof.models.spectral import (
    LogParabolaSpectralModel,
    PowerLawSpectralModel,
    spectral_model_from_dict,
)
from jaxprof.profile import FluxProfile
from jaxprof.profile.papertable import paper_table, table_cell
from jaxprof.profile.printed import plain_columns
from jaxprof.sky.regions import ProfileAxis

SEDS = ("likelihood", "dnde", "e2dnde", "flux", "eflux")
ENDINGS = (".fits", ".fits.gz", ".ecsv")
#: Arguments without which all that a profile has is in its table.
NO_TABLES = {make_joint_profile: {"nuisance": None, "goodness": None}}


# Tables


@pytest.mark.parametrize("n_datasets", [1, 2])
@pytest.mark.parametrize("sed", SEDS)
def test_columns(sed, n_datasets):
    p = make_profile(n_datasets=n_datasets)
    table = p.to_table(sed_type=sed)
    names = table.colnames
    assert names[:9] == [
        *("x_min", "x_max", "x_ref", "e_ref", "e_min", "e_max"),
        *("ref_dnde", "ref_flux", "ref_eflux"),
    ]
    value = "norm" if sed == "likelihood" else sed
    suffixes = ("", "_err", "_errn", "_errp", "_ul", "_sensitivity")
    assert names[9:15] == [value + suffix for suffix in suffixes]
    assert "datasets" not in names
    assert [n for n in names if n.startswith("norm")] == (
        [f"norm{s}" for s in suffixes] + ["norm_scan"] if sed == "likelihood" else ["norm_scan"]
    )
    assert len(table) == 4
    for name in ("counts", "npred", "npred_excess"):
        assert table[name].shape == (4, 2, n_datasets)
    assert table["stat_scan"].shape == table["norm_scan"].shape == (4, 2, 41)
    assert table["solid_angle"].shape == (4,) and table["solid_angle"].unit == u.sr
    assert table["x_ref"].unit == u.deg and table["e_min"].unit == u.TeV
    np.testing.assert_array_equal(table[value].data, p[value].data)
    assert (table[value].unit or u.dimensionless_unscaled) == u.Unit(p[value].unit)
    np.testing.assert_array_equal(table["is_ul"], p.is_ul)
    assert table["status"][1, 1] == "zero counts" and table["status"][2, 0] == "fully masked"


def test_meta():
    p = make_profile(n_sigma=2, n_sigma_ul=3, n_sigma_sensitivity=4, sqrt_ts_threshold_ul=2.5)
    meta = p.to_table("flux").meta
    assert meta["SED_TYPE"] == "flux"
    # two-sided probability of three standard deviations
    assert meta["UL_CONF"] == pytest.approx(0.9973002039367398, abs=1e-15)
    assert [meta[k] for k in ("N_SIGMA", "NSIGMAUL", "NSIGMASE", "SQRTTSUL")] == [2, 3, 4, 2.5]
    model = spectral_model_from_dict(json.loads(meta["REFMODEL"]))
    assert model.index == 2.3
    assert json.loads(meta["DSNAMES"]) == ["it's number 0"]
    assert len(meta["REGIONS"]) == 4 and meta["REGIONS"][0].startswith("galactic;annulus(")


def test_formatted_tables_are_short_and_unchanged():
    p = make_profile(scan=False)
    table, plain = p.to_table("dnde", formatted=True), p.to_table("dnde")
    for name in plain.colnames:
        np.testing.assert_array_equal(table[name], plain[name])
    text = "\n".join(table["x_ref", "dnde", "ts", "npred", "e_min"].pformat(max_width=-1))
    assert "0.188" in text and f"{p.axis.ref[0]:.4f}" not in text
    assert f"{p.dnde[0, 0].value:.3e}" in text and f"{p.ts[0, 0]:.3f}" in text


def test_printed_tables_show_all_energy_groups():
    p = make_profile(scan=False)
    lines = str(p.to_table("flux")).splitlines()
    assert max(map(len, lines)) <= 80 and "more columns" in lines[-1]
    names = lines[0].split()
    assert {"e_min", "flux", "flux_err", "flux_ul"} < set(names)
    rows = [line.split() for line in lines[3:-1]]
    assert len(rows) == p.norm.size
    for name in ("flux", "flux_ul"):
        shown = [row[names.index(name)] for row in rows]
        assert shown == [f"{value:.3e}" for value in p[name].data.ravel()]
    assert len({row[names.index("x_max")] for row in rows}) == 4
    one = p.slice_by_idx({"energy": slice(1, 2)}).to_table("flux")
    assert len(str(one).splitlines()) == 3 + 4 + 1


def test_default_sed_type_and_bad_arguments():
    assert make_profile(sed_type_init="flux").to_table().meta["SED_TYPE"] == "flux"
    with pytest.raises(ValueError, match="sed_type is 'norm'; valid are 'likelihood', 'dnde'"):
        make_profile().to_table("norm")
    with pytest.raises(ValueError, match="format is 'lightcurve'; valid are 'profile'"):
        make_profile().to_table(format="lightcurve")


# Tables of one energy group


def test_tables_of_one_group_are_vectors_but_in_text(tmp_path):
    """Shapes as in gammapy, which of one group has (bins, 1); text has no vectors."""
    p = make_profile(scan=False).slice_by_idx({"energy": slice(1, 2)})
    assert p.to_table()["norm"].shape == (4, 1)
    for sed in SEDS:
        table = plain_columns(p.to_table(sed))
        assert {table[name].shape for name in table.colnames} == {(4,)}
        value = "norm" if sed == "likelihood" else sed
        np.testing.assert_array_equal(table[value].data, p[value].data[:, 0])
        assert (table[value].unit or u.dimensionless_unscaled) == u.Unit(p[value].unit)
        np.testing.assert_array_equal(table["counts"].data, p.counts[:, 0])
        np.testing.assert_array_equal(table["is_ul"], p.is_ul[:, 0])
    p.to_table("flux").write(tmp_path / "p.csv")
    p.to_table("flux", formatted=True).write(tmp_path / "p.txt", format="ascii")
    for name, form in (("p.csv", "csv"), ("p.txt", "ascii")):
        table = Table.read(tmp_path / name, format=form)
        np.testing.assert_allclose(table["flux"], p.flux.value[:, 0], rtol=1e-3)
        assert list(table["status"]) == ["ok", "zero counts", "ok", "ok"]
    # Two groups are two columns.
    p = make_profile(scan=False)
    assert p.to_table()["norm"].shape == (4, 2)
    for form, read in (("csv", "csv"), ("ascii.latex", "latex"), ("html", None)):
        p.to_table().write(tmp_path / f"two.{form}", format=form)
        if read:
            table = Table.read(tmp_path / f"two.{form}", format=read)
            # Units are a row of LaTeX.
            np.testing.assert_array_equal(table["norm_1"][-4:], p.norm[:, 1])
    p.to_table().write(tmp_path / "p.ecsv")
    assert Table.read(tmp_path / "p.ecsv")["norm"].shape == (4, 2)


def test_data_frame():
    pytest.importorskip("pandas")
    p = make_profile(scan=False).slice_by_idx({"energy": slice(1, 2)})
    frame = p.to_table("flux").to_pandas()
    np.testing.assert_array_equal(frame["flux"], p.flux.value[:, 0])
    assert frame["status"].tolist() == ["ok", "zero counts", "ok", "ok"]


def test_vectors_of_one_group_are_numbered_columns(tmp_path):
    """Scans, counts of several data sets and covariances: everything writes as CSV."""
    p = make_profile(n_datasets=2).slice_by_idx({"energy": [0]})
    q = make_joint_profile().slice_by_idx({"energy": [0]})
    for profile in (p, q):
        table = plain_columns(profile.to_table("flux"))
        assert {table[name].shape for name in table.colnames} == {(profile.shape[0],)}
        table.write(tmp_path / "p.csv", overwrite=True)
        assert Table.read(tmp_path / "p.csv", format="csv").colnames == table.colnames
    table = Table.read(tmp_path / "p.csv", format="csv")
    for name in ("norm_covariance", "response"):
        assert not any(key in table.colnames for key in (name, f"{name}_5"))
        columns = np.stack([table[f"{name}_{number}"] for number in range(5)], axis=-1)
        np.testing.assert_array_equal(columns, q.quantities[name][:, 0])
    table = plain_columns(p.to_table())
    np.testing.assert_array_equal(table["stat_scan_40"], p.stat_scan[:, 0, 40])
    np.testing.assert_array_equal(table["npred_1"], p.npred[:, 0, 1])
    assert "counts_2" not in table.colnames and "counts" not in table.colnames


def test_a_missing_column_of_a_vector_is_named(tmp_path):
    table = make_joint_profile(**NO_TABLES[make_joint_profile]).slice_by_idx({"energy": [0]})
    table = plain_columns(table.to_table())
    table.remove_column("response_2")
    table.write(tmp_path / "p.ecsv")
    with pytest.raises(ValueError, match="p.ecsv: there is no column 'response_2'"):
        FluxProfile.read(tmp_path / "p.ecsv")


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize("n_datasets", [1, 2])
@pytest.mark.parametrize("make", [make_profile, make_joint_profile])
@pytest.mark.parametrize("bins", [slice(None), slice(1, 2)])
def test_both_shapes_are_read(tmp_path, make, n_datasets, ending, bins):
    """With the axis of one energy group, and plain as in older tables."""
    p = make(n_datasets=n_datasets).slice_by_idx({"energy": [1], "projected-distance": bins})
    path = tmp_path / f"p{ending}"
    p.write(path, include_likelihood=False)
    assert_same_profile(p, FluxProfile.read(path))
    if ending == ".fits":
        columns = fits.getdata(path, "FLUXPOINTS")
        assert columns["norm"].shape == (p.shape[0], 1)
        return
    assert Table.read(path)["norm"].shape == p.shape
    p = make(n_datasets=n_datasets, gti=None, **NO_TABLES.get(make, {})).slice_by_idx(
        {"energy": [1], "projected-distance": bins}
    )
    for table in (p.to_table(), plain_columns(p.to_table())):
        table.write(path, overwrite=True)
        assert_same_profile(p, FluxProfile.read(path))


@pytest.mark.parametrize("ending", [".csv", ".txt", ".tex"])
def test_text_tables(tmp_path, ending):
    p = make_profile(scan=False)
    p.write(tmp_path / f"p{ending}", sed_type="flux")
    text = (tmp_path / f"p{ending}").read_text()
    assert "cm" in text and "deg" in text
    with pytest.raises(FileExistsError):
        p.write(tmp_path / f"p{ending}")


def test_csv_has_a_row_for_each_bin_and_group(tmp_path):
    """Units stand in the names; counts of several datasets and scans are numbered columns."""
    p = make_profile(n_datasets=2)
    p.write(tmp_path / "p.csv", sed_type="flux")
    table = Table.read(tmp_path / "p.csv")
    assert len(table) == 8
    np.testing.assert_array_equal(table["bin"], np.repeat(np.arange(4), 2))
    np.testing.assert_array_equal(table["group"], np.tile([0, 1], 4))
    np.testing.assert_array_equal(table["e_min [TeV]"], np.tile([0.01, 0.2], 4))
    np.testing.assert_array_equal(table["x_max [deg]"], np.repeat(p.axis.max, 2))
    np.testing.assert_allclose(table["flux [1 / (s cm2)]"], p.flux.value.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(table["counts_1"], p.counts[..., 1].ravel())
    np.testing.assert_allclose(table["stat_scan_40"], p.stat_scan[..., 40].ravel(), rtol=1e-12)
    assert list(table["status"][:4]) == ["ok", "ok", "ok", "zero counts"]
    p.write(tmp_path / "p.csv", columns=["x_min", "group", "norm"], overwrite=True)
    table = Table.read(tmp_path / "p.csv")
    assert table.colnames == ["x_min [deg]", "group", "norm"]
    np.testing.assert_allclose(table["norm"], p.norm.ravel(), rtol=1e-12)
    joint = make_joint_profile()
    joint.write(tmp_path / "j.csv")
    columns = Table.read(tmp_path / "j.csv")
    for number in range(joint.shape[0]):
        expected = joint.quantities["norm_covariance"][..., number].ravel()
        np.testing.assert_allclose(columns[f"norm_covariance_{number}"], expected, rtol=1e-12)


def test_units_and_columns_of_tables(tmp_path):
    p = make_profile(scan=False, n_datasets=2)
    unit = "erg m-2 s-1"
    factor = u.Unit("TeV cm-2 s-1").to(unit)
    table = p.to_table("e2dnde", unit=unit)
    for name in ("e2dnde", "e2dnde_err", "e2dnde_ul"):
        assert table[name].unit == u.Unit(unit)
        np.testing.assert_allclose(table[name], factor * p[name].data, rtol=1e-12)
    np.testing.assert_allclose(FluxProfile.from_table(table).norm, p.norm, rtol=1e-12)
    p.write(tmp_path / "p.csv", sed_type="e2dnde", unit=unit)
    text = Table.read(tmp_path / "p.csv")
    np.testing.assert_allclose(
        text["e2dnde_ul [erg / (s m2)]"], factor * p.e2dnde_ul.value.ravel(), rtol=1e-12
    )
    columns = ["axis", "e2dnde", "energy", "counts", "sqrt_ts", "status"]
    p.sqrt_ts_threshold_ul = -np.inf
    paper = p.to_table("e2dnde", style="paper", columns=columns, unit=unit)
    value = paper.colnames[1]
    assert paper.colnames[2:] == ["Energy [GeV]", "Counts", "sqrt_ts", "Status"]
    assert value.startswith("E^2 dN/dE [1e") and value.endswith(f" {u.Unit(unit)}]")
    power = float(value.split("[")[1].split(" ")[0])
    first = [cell.split(" ")[0] for cell in paper[value]]  # "-" of the bin that has no value
    shown = [power * float("nan" if text == "-" else text) for text in first]
    expected, size = factor * p.e2dnde.value.ravel(), np.nanmax(np.abs(factor * p.e2dnde.value))
    np.testing.assert_allclose(shown, expected, rtol=0, atol=0.01 * size)
    np.testing.assert_array_equal(paper["Counts"].astype(int), p.counts.sum(axis=2).ravel())
    assert paper["Energy [GeV]"][0] == "10 - 100, at 31.6"
    assert paper["Status"].tolist()[:4] == ["ok", "ok", "ok", "zero counts"]
    one = p.slice_by_idx({"energy": [0]}).to_table("dnde", style="paper")
    assert one.colnames[1].startswith("dN/dE at 31.6 GeV [")
    for bad, words in (
        ({"unit": "m"}, "unit is 'm', but e2dnde is in"),
        ({"style": "paper", "unit": "m"}, "unit is 'm', but e2dnde is in"),
        ({"style": "paper", "columns": ["foo"]}, "no 'foo' in tables of style 'paper'; there are"),
    ):
        with pytest.raises(ValueError, match=words):
            p.to_table("e2dnde", **bad)


def test_names_of_bins_are_text_in_latex(tmp_path):
    """Characters that mean something to LaTeX would shift columns, or drop the rest of a row."""
    p = make_profile(scan=False)
    names = np.array(["G0.9_1", "a&b", "50%", "#1"])
    p.quantities["name"] = names
    p.write(tmp_path / "p.tex", sed_type="flux", style="paper")
    text = (tmp_path / "p.tex").read_text()
    rows = [line for line in text.splitlines() if " & " in line and "\\\\" in line]
    assert all(row.count(" & ") == rows[0].count(" & ") for row in rows)
    for escaped in (r"G0.9\_1", r"a\&b", r"50\%", r"\#1"):
        assert escaped in text


def test_ranges_energies_and_limits_of_paper_tables():
    """Ends below zero keep their signs apart; a limit that is not positive is none on a flux."""
    low = np.array([-0.4, -0.2, -1e-12, 0.2])
    axis = ProfileAxis("longitude", low, low + 0.2, low + 0.1, "deg")
    p = make_profile(scan=False, axis=axis, edges=np.array([[0.01, 0.1], [0.1, 0.9]]))
    p.quantities["norm"] = np.ones((4, 2))
    p.quantities["success"] = np.ones((4, 2), bool)
    p.quantities["norm_ul"] = np.repeat([[2.0], [-0.5], [0.0], [3.0]], 2, axis=1)
    p.is_ul = np.ones((4, 2), bool)
    ranges = [("-0.4", "-0.2"), ("-0.2", "0.0"), ("0.0", "0.2"), ("0.2", "0.4")]
    for latex, pair in ((False, "{} to {}"), (True, "${}$ to ${}$")):
        table = paper_table([p], "likelihood", latex=latex)
        assert table[table.colnames[0]][::2].tolist() == [pair.format(*ends) for ends in ranges]
        dash = "--" if latex else " - "
        assert table["Energy [GeV]"][:2].tolist() == [f"10{dash}100", f"100{dash}900"]
        is_limit = ["<" in cell for cell in table["Norm"]]
        assert is_limit == [True] * 2 + [False] * 4 + [True] * 2
        assert all("1.0" in cell for cell in table["Norm"][2:6])
    tev = make_profile(scan=False, edges=np.array([[0.1, 1.0], [1.0, 2000.0]]))
    assert paper_table([tev], "likelihood")["Energy [TeV]"][1] == "1 - 2000"


def test_a_value_with_one_error():
    """A bound of the norm comes first on the other side."""
    one = {"value": 1.0, "low": np.nan, "high": 0.2, "limit": np.nan}
    assert table_cell(one, latex=False) == "1.00 +0.20"
    assert table_cell(one, latex=True) == "$1.00^{+0.20}$"
    assert table_cell(one | {"low": 0.1}, latex=False) == "1.00 -0.10 +0.20"


# Round trips


@pytest.mark.parametrize("n_datasets", [1, 2])
@pytest.mark.parametrize("sed", SEDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_is_exact(tmp_path, ending, sed, n_datasets):
    p = make_profile(n_datasets=n_datasets, n_sigma_ul=1.9599639845400538)
    p.write(tmp_path / f"p{ending}", sed_type=sed)
    q = FluxProfile.read(tmp_path / f"p{ending}")
    assert_same_profile(p, q)
    assert_same_data(p.likelihood_data, q.likelihood_data)
    assert q.sed_type_init == sed
    np.testing.assert_array_equal(p.flux_ul, q.flux_ul)
    # and again
    q.write(tmp_path / f"q{ending}")
    assert_same_profile(p, FluxProfile.read(tmp_path / f"q{ending}"))


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize(
    "slices",
    [
        {"energy": slice(0, 1)},
        {"projected-distance": slice(1, 2)},
        {"energy": [1], "projected-distance": [1]},
    ],
)
def test_round_trip_with_axes_of_length_one(tmp_path, slices, ending):
    for n_datasets in (1, 2):
        p = make_profile(n_datasets=n_datasets).slice_by_idx(slices)
        p.write(tmp_path / f"p{ending}", sed_type="dnde", overwrite=True)
        q = FluxProfile.read(tmp_path / f"p{ending}")
        assert_same_profile(p, q)
        assert_same_data(p.likelihood_data, q.likelihood_data)


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_round_trip_of_a_bare_profile(tmp_path, ending):
    """Index axis, no regions, model, GTI or data, quantities that only the user knows."""
    index = np.arange(3.0)
    p = FluxProfile(
        {"norm": [[0.1], [np.nan], [-np.inf]], "chi2": [[1.5], [2.5], [0.1]]},
        axis=ProfileAxis("region-index", index - 0.5, index + 0.5, index),
        energy_edges=[[0.1, 0.3]],
        reference_model=None,
        reference={"dnde": [0.1], "flux": [0.2], "eflux": [0.3]},
    )
    p.write(tmp_path / f"p{ending}")
    q = FluxProfile.read(tmp_path / f"p{ending}")
    assert_same_profile(p, q)
    assert q.axis.name == "region-index" and q.axis.unit == "" and q.likelihood_data is None


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize("kind", ["joint", "on-off", "one counts bin", "no mask"])
def test_likelihood_data_survive(tmp_path, ending, kind):
    data = {
        "joint": (make_on_off(), make_data(), make_data(n_counts_bins=1)),
        "on-off": make_on_off(),
        "one counts bin": make_data(n_counts_bins=1),
        "no mask": ProfileData(**(vars(make_data()) | {"mask": None})),
    }[kind]
    p = make_profile(likelihood_data=data)
    p.write(tmp_path / f"p{ending}")
    assert_same_data(data, FluxProfile.read(tmp_path / f"p{ending}").likelihood_data)


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_recompute_ul_after_reading(tmp_path, ending):
    p = make_profile()
    p.write(tmp_path / f"p{ending}", sed_type="eflux")
    q = FluxProfile.read(tmp_path / f"p{ending}")
    np.testing.assert_array_equal(q.recompute_ul(3).norm_ul, p.recompute_ul(3).norm_ul)
    p.write(tmp_path / f"p{ending}", include_likelihood=False, overwrite=True)
    assert FluxProfile.read(tmp_path / f"p{ending}").likelihood_data is None


numbers = st.floats(allow_nan=True, allow_infinity=False, allow_subnormal=False, width=64)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    norm=st.lists(numbers, min_size=4, max_size=4),
    n_sigma=st.floats(1e-3, 8),
    name=st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=200),
    ending=st.sampled_from([".fits", ".ecsv"]),
)
def test_round_trip_of_anything(tmp_path, norm, n_sigma, name, ending):
    p = FluxProfile(
        {"norm": np.reshape(norm, (2, 2))},
        axis=ProfileAxis("projected-distance", *np.array([[-0.1, 0.2], [0.2, 1.1], [0.1, 0.3]])),
        energy_edges=[[0.1, 0.3], [1 / 3, 0.7]],
        reference_model=PowerLawSpectralModel(index=n_sigma),
        n_sigma=n_sigma,
        dataset_names=(name,),
        meta={"name": name},
    )
    p.write(tmp_path / f"p{ending}", overwrite=True)
    assert_same_profile(p, FluxProfile.read(tmp_path / f"p{ending}"))


@pytest.mark.parametrize("n_sigma", [0.0010000000000000002, 1.2345678901234567e-05, 1 / 3, 2.0])
def test_numbers_of_the_header_keep_their_digits(tmp_path, n_sigma):
    """Some take more than the 20 characters that astropy gives them."""
    p = make_profile(scan=False, n_sigma=n_sigma)
    p.write(tmp_path / "p.fits")
    assert FluxProfile.read(tmp_path / "p.fits").n_sigma == n_sigma
    assert fits.getheader(tmp_path / "p.fits", "FLUXPOINTS")["N_SIGMA"] == n_sigma


def test_norms_from_fluxes_alone(tmp_path):
    """Without the norm columns they come back to rounding."""
    p = make_profile()
    for sed in SEDS[1:]:
        table = p.to_table(sed)
        del table.meta["REGIONS"]
        table.write(tmp_path / "p.ecsv", overwrite=True)
        q = FluxProfile.read(tmp_path / "p.ecsv")
        for suffix in ("", "_err", "_ul", "_sensitivity"):
            np.testing.assert_allclose(q[f"norm{suffix}"].data, p[f"norm{suffix}"].data, rtol=3e-16)


def test_hdus(tmp_path):
    make_profile().write(tmp_path / "p.fits", sed_type="dnde")
    with fits.open(tmp_path / "p.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "FLUXPOINTS", "LIKELIHOOD", "GTI"]
        header = hdus["FLUXPOINTS"].header
        assert header["SED_TYPE"] == "dnde" and header["NSIGMAUL"] == 2
        assert hdus["FLUXPOINTS"].columns["dnde"].unit == "TeV-1 s-1 cm-2"
        assert hdus["LIKELIHOOD"].data["counts"].shape == (4, 2, 3)
    make_profile(gti=None).write(tmp_path / "q.fits", include_likelihood=False)
    with fits.open(tmp_path / "q.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "FLUXPOINTS"]


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_scans_on_grids_of_their_own(tmp_path, ending):
    p = make_profile()
    p.quantities["norm_scan"] = p.norm_scan * np.arange(1, 9).reshape(4, 2, 1)
    p.write(tmp_path / f"p{ending}")
    assert_same_profile(p, FluxProfile.read(tmp_path / f"p{ending}"))
    if ending == ".fits":
        # gammapy cannot read these and must not mistake them.
        names = fits.getdata(tmp_path / "p.fits", "FLUXPOINTS").names
        assert "norm_scan" not in names and "own_norm_scan" in names


def test_regions_without_ds9_form_are_left_out_with_a_warning(tmp_path):
    p = make_profile()
    circle = CircleSkyRegion(p.regions[0].center, 1 * u.deg)
    p.regions[1] = circle | p.regions[1]
    with pytest.warns(UserWarning, match="CompoundSkyRegion has no DS9 form") as record:
        p.write(tmp_path / "p.fits")
    assert {w.filename for w in record} == {__file__}
    assert FluxProfile.read(tmp_path / "p.fits").regions is None


def test_models_that_are_not_known_here(tmp_path):
    class Own:
        def __call__(self, energy):
            return 1e-12 * energy**-2

        def integral(self, low, high):
            return high - low

        energy_flux = integral

    p = make_profile(reference_model=Own())
    with pytest.warns(UserWarning, match="Own has no to_dict") as record:
        p.write(tmp_path / "p.fits")
    assert {w.filename for w in record} == {__file__}
    q = FluxProfile.read(tmp_path / "p.fits")
    assert q.reference_model is None
    np.testing.assert_array_equal(q.flux, p.flux)
    Own.to_dict = lambda self: {"spectral": {"type": "Own"}}
    with pytest.warns(UserWarning, match="kept by its name, which is not known here"):
        p.write(tmp_path / "p.fits", overwrite=True)
    with pytest.warns(UserWarning, match="'Own'; known models") as record:
        q = FluxProfile.read(tmp_path / "p.fits")
    assert {w.filename for w in record} == {__file__}
    np.testing.assert_array_equal(q.flux, p.flux)


# Bad input


@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_files_stay(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_profile().write(path)
    assert path.read_text() == "precious"
    make_profile().write(path, overwrite=True)
    FluxProfile.read(path)
    assert [p.name for p in tmp_path.iterdir()] == [f"p{ending}"]


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    p = make_profile()
    p.nuisance = "not a table"
    for ending in ENDINGS:
        with pytest.raises((AttributeError, ValueError, TypeError)):
            p.write(tmp_path / f"p{ending}")
    assert not list(tmp_path.iterdir())


def test_bad_arguments(tmp_path):
    p = make_profile()
    for call, message in (
        (lambda: p.write(tmp_path / "p.h5"), r"unknown extension; valid are \.fits"),
        (lambda: p.write(tmp_path / "p.csv", columns=["foo"]), "no 'foo' with sed_type"),
        (lambda: p.write(tmp_path / "p.fits", style="paper"), "those of text tables"),
        (lambda: p.write(tmp_path / "p.fits", format="gadf-sed"), "format is 'gadf-sed'"),
        (lambda: p.write(tmp_path / "p.fits", sed_type="norm"), "sed_type is 'norm'"),
        (lambda: FluxProfile.read(tmp_path / "p.txt"), "unknown extension"),
        (lambda: FluxProfile.read(tmp_path / "p.fits", format="x"), "format is 'x'"),
        (lambda: FluxProfile.read(tmp_path / "p.fits", sed_type="x"), "sed_type is 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for ending in ENDINGS:
        with pytest.raises(FileNotFoundError, match="no such file"):
            FluxProfile.read(tmp_path / f"p{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_that_are_no_profile(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    for content in (b"", b"nonsense\n", b"\x1f\x8bnonsense", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"p{ending}"):
            FluxProfile.read(path)
    if ending == ".ecsv":
        Table({"a": [1.0]}).write(path, overwrite=True)
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(name="COUNTS")]).writeto(
            path, overwrite=True
        )
    with pytest.raises(ValueError, match="not a flux profile"):
        FluxProfile.read(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("include_likelihood", [True, False])
def test_truncated_files(tmp_path, ending, include_likelihood):
    path = tmp_path / f"p{ending}"
    p = make_profile(gti=None)
    p.write(path, include_likelihood=include_likelihood)
    whole = path.read_bytes()
    lines = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    cuts = [len(whole) // 3, len(whole) * 9 // 10, len(whole) - 5]
    # An ECSV table may also end with a whole row, which looks like a shorter table.
    cuts += lines[-3:-1] if ending == ".ecsv" else []
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=f"p{ending}"):
            FluxProfile.read(path)


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_a_bin_that_was_taken_out_by_hand_is_no_success(tmp_path, ending):
    """By a norm of NaN in the table, which says ok."""
    p = make_profile()
    table = p.to_table("likelihood")
    bin_ = int(np.flatnonzero((p.status == Status.OK).all(axis=1))[0])
    for name in [n for n in table.colnames if n.startswith("norm") and n != "norm_scan"]:
        table[name][bin_] = np.nan
    with pytest.warns(UserWarning, match=rf"2 fits \(rows {bin_}\).*'not converged'"):
        found = FluxProfile.from_table(table)
    assert (found.status[bin_] == Status.NOT_CONVERGED).all() and not found.success[bin_].any()
    others = np.arange(len(p.norm)) != bin_
    assert np.array_equal(found.status[others], p.status[others])
    found.write(tmp_path / f"p{ending}")
    assert_same_profile(found, FluxProfile.read(tmp_path / f"p{ending}"))


def test_tables_with_mistakes(tmp_path):
    p = make_profile()
    path = tmp_path / "p.ecsv"

    def read(change, **kwargs):
        table = p.to_table(kwargs.pop("as_", "likelihood"))
        change(table)
        table.write(path, overwrite=True)
        return FluxProfile.read(path, **kwargs)

    def e_min(table):
        table["e_min"][1] *= 2

    def status(table):
        table["status"] = np.full((4, 2), "splendid")

    def unit(table):
        table["e_min"].unit = "deg"

    def no_unit(table):
        table["ref_flux"].unit = None

    def disagree(table):
        table["norm"] = 2 * p.norm

    def ds9(table):
        table.meta["REGIONS"] = ["nonsense"] * 4

    def model(table):
        table.meta["REFMODEL"] = "{"

    def remove(*names):
        return lambda table: table.remove_columns(names)

    for change, message, kwargs in (
        (remove("x_min", "e_max"), "no column 'x_min', 'e_max'", {}),
        (remove("norm"), "no column 'norm' for sed_type 'likelihood'", {}),
        (lambda table: None, "no column 'dnde'.*columns for 'likelihood'", {"sed_type": "dnde"}),
        (e_min, "'e_min' differs between rows", {}),
        (status, "'splendid'; known are", {}),
        (unit, "'e_min'.*not convertible", {}),
        (no_unit, "'ref_flux' has no unit", {}),
        (disagree, "'flux' and 'norm' disagree", {"as_": "flux"}),
        (ds9, "not a DS9 region", {}),
        (model, "REFMODEL in the header is not JSON", {}),
        (lambda table: table.remove_rows([0, 1, 2]), "there are 1 bins, should be 4", {}),
        (remove("norm_scan"), "need each other", {}),
    ):
        with pytest.raises(ValueError, match=f"p.ecsv: .*{message}"):
            read(change, **kwargs)


def test_reference_models_must_fit_the_table(tmp_path):
    path = tmp_path / "p.ecsv"
    make_profile().write(path)
    q = FluxProfile.read(path, reference_model=PowerLawSpectralModel(index=2.3))
    assert q.reference_model.index == 2.3
    with pytest.raises(ValueError, match="reference_model differs by .* from the reference fluxes"):
        FluxProfile.read(path, reference_model=LogParabolaSpectralModel())
    table = make_profile().to_table("flux")
    table.remove_columns(["ref_dnde", "ref_flux", "ref_eflux"])
    del table.meta["REFMODEL"]
    table.write(path, overwrite=True)
    with pytest.raises(ValueError, match="give the model .* as reference_model"):
        FluxProfile.read(path)
    q = FluxProfile.read(path, reference_model=PowerLawSpectralModel(index=2.3))
    np.testing.assert_allclose(q.norm, make_profile().norm, rtol=1e-15)


def test_units_of_others(tmp_path):
    """GeV, keV, erg and arcmin as other programs write them."""
    p = make_profile(scan=False)
    table = p.to_table("eflux")
    for name in ("e_min", "e_max", "e_ref"):
        table[name] = table[name].quantity.to("keV")
    for name in ("ref_eflux", "eflux", "eflux_err", "eflux_ul"):
        table[name] = table[name].quantity.to("erg cm-2 s-1")
    for name in ("x_min", "x_max", "x_ref"):
        table[name] = table[name].quantity.to("arcmin")
    table.write(tmp_path / "p.ecsv")
    q = FluxProfile.read(tmp_path / "p.ecsv")
    np.testing.assert_allclose(q.energy_edges, p.energy_edges, rtol=1e-14)
    np.testing.assert_allclose(q.axis.ref, p.axis.ref, rtol=1e-14)
    np.testing.assert_allclose(q.norm_ul, p.norm_ul, rtol=1e-14)
    np.testing.assert_allclose(q.eflux.value, p.eflux.value, rtol=1e-14)


# Files that gammapy wrote

CASES = [
    *("01b_linear_9_351_gp21", "02a_seed_radial", "02b_seed_radial_all", "03b_5groups_logparabola"),
    *("01a_seed_linear_gp13", "06b_joint_linear"),
]
FILES = [(case, "profile_likelihood.ecsv") for case in CASES]
FILES += [(case, f) for case in CASES[:2] for f in ("profile.fits", "profile_dnde.fits")]
# Written for comparisons only, or axes.
OTHERS = (
    "norm_raw",
    "norm_err_raw",
    "norm_errn_raw",
    "x_ref",
    "x_edges",
    "e_ref",
    "e_min",
    "e_max",
)


@pytest.mark.parametrize(("case", "file"), FILES)
@pytest.mark.parametrize("with_model", [True, False])
def test_files_of_gammapy(reference_dir, case, file, with_model):
    folder = reference_dir / case
    config = json.loads((folder / "config.json").read_text())
    expected = json.loads((folder / "result.json").read_text())["gammapy"]
    model = spectral_model_from_dict(config["spectral_model"]) if with_model else None
    if "dnde" in file and not with_model:
        with pytest.raises(ValueError, match="no columns ref_dnde.*as reference_model"):
            FluxProfile.read(folder / file)
        return
    p = FluxProfile.read(folder / file, reference_model=model)
    assert p.sed_type_init == ("dnde" if "dnde" in file else "likelihood")
    assert (p.n_sigma, p.n_sigma_ul) == (1, 2)
    np.testing.assert_allclose(p.axis.ref, expected["x_ref"], rtol=1e-14, atol=1e-12)
    np.testing.assert_allclose(p.axis.min, expected["x_edges"][:-1], rtol=1e-14, atol=1e-12)
    np.testing.assert_allclose(p.energy_ref.to_value("TeV"), expected["e_ref"], rtol=1e-14)
    for name, values in expected.items():
        if name in OTHERS:
            continue
        name = f"{name[4:]}_ref" if name.startswith("ref_") else name
        got = p[name].data[0, 0] if name == "norm_scan" else p[name].data
        # npred_excess is float32, and its ratio to the norm has that precision too.
        tolerance = 3e-6 if name.startswith("npred_") else 1e-12
        np.testing.assert_allclose(got, values, rtol=tolerance, atol=0, err_msg=name)
    assert (p.status == Status.OK)[np.array(expected["success"], dtype=bool)].all()


def test_what_gammapy_does_not_say_is_inferred(reference_dir, tmp_path):
    folder = reference_dir / "03b_5groups_logparabola"
    p = FluxProfile.read(folder / "profile_likelihood.ecsv")
    flags = json.loads((folder / "result.json").read_text())["exact_flag"]
    empty = np.array(flags) == "zero_counts"
    assert (p.status[empty] == Status.ZERO_COUNTS).all()
    assert p.reference_model is None and p.regions is None
    p.write(tmp_path / "p.fits", sed_type="eflux")
    assert_same_profile(p, FluxProfile.read(tmp_path / "p.fits"))


def test_upper_limits_from_the_scan_of_gammapy(reference_dir):
    folder = reference_dir / "02b_seed_radial_all"
    p = FluxProfile.read(folder / "profile_likelihood.ecsv").slice_by_idx({"energy": slice(0, 1)})
    exact = json.loads((folder / "result.json").read_text())["exact"]["exact_norm_ul"]
    np.testing.assert_allclose(p.recompute_ul(2).norm_ul, np.array(exact)[:, :1], rtol=5e-3)


@pytest.mark.parametrize("n_datasets", [1, 2])
@pytest.mark.parametrize("sed", ["likelihood", "dnde", "eflux"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore")
def test_gammapy_reads_our_files(tmp_path, ending, sed, n_datasets):
    estimators = pytest.importorskip("gammapy.estimators")
    models = pytest.importorskip("gammapy.modeling.models")
    p = make_profile(n_datasets=n_datasets, edges=np.array([[0.01, 0.1], [0.1, 0.5]]))
    p.write(tmp_path / f"p{ending}", sed_type=sed)
    q = estimators.FluxPoints.read(
        tmp_path / f"p{ending}",
        format="profile",
        reference_model=models.PowerLawSpectralModel(index=2.3),
    )
    assert q.n_sigma_ul == 2 and q.sed_type_init == sed
    for name in p.available_quantities:
        if hasattr(q, name) and not name.endswith("_ref") and "scan" not in name:
            values = np.asarray(getattr(q, name).quantity.to_value(p[name].unit), dtype=float)
            expected = p[name].data.astype(float)
            tolerance = {"rtol": 1e-12, "atol": 0, "err_msg": name}
            np.testing.assert_allclose(values.reshape(expected.shape), expected, **tolerance)


def test_nothing_warns(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = make_profile(meta={"comment": "x" * 300, "é": "ü'\n"})
        p.write(tmp_path / "p.fits")
        assert FluxProfile.read(tmp_path / "p.fits").meta == p.meta
