"""Stacks of profiles: tables, files, figures, slices, and the test of constancy."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.table import Table
from matplotlib.colors import Normalize
from numpy.testing import assert_allclose, assert_array_equal
from profile_factory import (
    EDGES,
    assert_same_profile,
    make_data,
    make_joint_profile,
    make_on_off,
    make_profile,
)
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from jaxprof import FluxProfile, FluxProfileStack
from jaxprof.profile.stack_axis import overlap_in_time
from jaxprof.regions import ProfileAxis

DAY = 86400.0


def day(k):
    """Two intervals in days k to k + 0.75 after MJD 55000.5."""
    values = {"START": [k * DAY, (k + 0.5) * DAY], "STOP": [(k + 0.25) * DAY, (k + 0.75) * DAY]}
    meta = {"MJDREFI": 55000, "MJDREFF": 0.5, "TIMESYS": "TT", "TIMEUNIT": "s"}
    return Table(values, units={"START": "s", "STOP": "s"}, meta=meta)


def make_stack(n=3, **options):
    profiles = [make_profile(gti=day(k), **options) for k in range(n)]
    return FluxProfileStack(profiles, [f"day {k}" for k in range(n)])


def of_data(data, norm, **options):
    """A profile that knows nothing but its likelihood and norms."""
    return FluxProfile(
        {"norm": norm},
        axis=options.pop("axis"),
        energy_edges=[[0.01, 0.1], [0.2, 0.5]],
        reference=dict.fromkeys(("dnde", "flux", "eflux"), [1.0, 1.0]),
        reference_model=None,
        likelihood_data=data,
    )


def test_quantities_and_times():
    stack = make_stack(n_datasets=2)
    assert stack.axis == "time" and stack.shape == (3, 4, 2) and len(stack) == 3
    assert_array_equal(stack.norm[1], stack.profiles[1].norm)
    assert stack.flux.unit == stack.profiles[0].flux.unit
    assert_array_equal(stack.counts[2], stack.profiles[2].counts.sum(axis=2))
    assert_allclose(stack.time_min.mjd, 55000.5 + np.arange(3), rtol=0, atol=1e-9)
    assert_allclose(stack.time_max.mjd, 55001.25 + np.arange(3), rtol=0, atol=1e-9)
    part = stack.slice_by_idx({"time": [0, 2], "energy": [1], "projected-distance": [1, 2, 3]})
    assert part.shape == (2, 3, 1) and part.names == ("day 0", "day 2")
    assert stack["day 2"] is stack.profiles[2] and stack[1:].names == ("day 1", "day 2")
    overlap = FluxProfileStack([make_profile(), make_profile()], ["a", "b"])
    assert overlap.axis == "set"
    fewer = make_profile().slice_by_idx({"projected-distance": slice(0, 2)})
    padded = FluxProfileStack([make_profile(), fewer], ["a", "b"])
    assert np.isnan(padded.norm[1, 2:]).all() and np.isfinite(padded.norm[1, 0]).all()


def test_what_overlaps_in_time_is_named():
    """Each has two quarters of a day, with a gap between them."""
    days = {"late": 2.5, "early": 1, "same": 1, "next": 4}
    profiles = [make_profile(gti=day(k)) for k in days.values()]
    found = overlap_in_time(profiles, list(days))
    assert found == "early and same by 0.5 d"
    profiles[0] = make_profile(gti=day(1.5))
    assert "early and late by 0.25 d, same and late by 0.25 d" in overlap_in_time(
        profiles, list(days)
    )
    assert overlap_in_time(profiles[:1], ["late"]) == ""
    # One within the gap of the other.
    between = [make_profile(gti=day(k)) for k in (1, 1.25)]
    assert overlap_in_time(between, ["a", "b"]) == ""
    without = [make_profile(gti=None), profiles[1], profiles[2]]
    assert overlap_in_time(without, ["a", "b", "c"]) == "b and c by 0.5 d"


def test_bad_input():
    profile = make_profile()
    with pytest.raises(ValueError, match="needs one or more"):
        FluxProfileStack([], [])
    with pytest.raises(ValueError, match="names must be one for each"):
        FluxProfileStack([profile, profile], ["a", "a"])
    with pytest.raises(ValueError, match="'set'"):
        FluxProfileStack([profile], ["a"], axis="energy")
    with pytest.raises(ValueError, match="'b' does not have"):
        FluxProfileStack([profile, make_profile(gti=None)], ["a", "b"], axis="time")
    other = make_profile(edges=np.array([[0.01, 0.1], [0.2, 0.6]]))
    with pytest.raises(ValueError, match="b: its energy groups"):
        FluxProfileStack([profile, other], ["a", "b"])
    stack = FluxProfileStack([profile, make_profile(gti=None)], ["a", "b"])
    for call, message in (
        (lambda: stack.time_min, "'b' has no good time"),
        (lambda: stack.to_table(format="lightcurve", bin=0), "'b' has no good time"),
        (lambda: stack.to_table(format="sed"), "valid are 'profile'"),
        (lambda: stack.to_table(format="lightcurve"), "bin is None"),
        (lambda: stack.slice_by_idx({"time": [0]}), "no axis 'time'"),
        (lambda: stack.plot(bins=[9]), "0 to 3"),
        (lambda: stack.plot(group=2), "2 energy groups"),
        (lambda: stack.plot_map("nonsense"), "nonsense"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(AttributeError, match="available: norm"):
        stack.nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        stack.extra = 1


def test_tables():
    stack = make_stack(n_datasets=2)
    table = stack.to_table("flux")
    assert table.colnames[:3] == ["time", "time_min", "time_max"] and len(table) == 12
    assert_array_equal(table["time"][4:8], ["day 1"] * 4)
    assert_array_equal(np.asarray(table["flux"]).reshape(3, 4, 2), stack.flux.value)
    assert str(table["flux"].unit) == "1 / (s cm2)"
    # Printed, each row says of which profile it is.
    header, *_ = str(table).splitlines()
    assert header.split()[0] == table.colnames[0]
    flat = stack.slice_by_idx({"energy": [0]}).to_table()
    assert flat["norm"].shape[1:] == flat["counts"].shape[1:] == (1,)
    curve = stack.to_table("flux", format="lightcurve", bin=2)
    assert curve.meta["MJDREFI"] == 55000 and len(curve) == 3
    assert_allclose(curve["time_min"], [0.5, 1.5, 2.5], rtol=0, atol=1e-9)
    assert_array_equal(np.asarray(curve["flux"]), stack.flux.value[:, 2])
    assert curve["counts"].shape == (3, 2, 1)


def test_tables_for_papers_and_text(tmp_path):
    fewer = make_profile(gti=day(1)).slice_by_idx({"projected-distance": slice(0, 2)})
    stack = FluxProfileStack([make_profile(gti=day(0)), fewer], ["first", "50_%"])
    paper = stack.to_table("flux", style="paper")
    # Of the profiles by themselves, below each other: all have the same power of ten here.
    alone = [own.to_table("flux", style="paper") for own in stack]
    for name in alone[0].colnames:
        assert list(paper[name]) == [text for own in alone for text in own[name]]
    assert list(paper["Time"]) == ["first"] * 8 + ["50_%"] * 4
    assert list(paper["MJD"][[0, -1]]) == ["55000.50 - 55001.25", "55001.50 - 55002.25"]
    chosen = stack.to_table(columns=["time", "x_min", "norm"], unit="%")
    assert_array_equal(chosen["norm"], 100.0 * stack.to_table()["norm"])
    assert chosen.colnames == ["time", "x_min", "norm"] and chosen["norm"].unit == "%"
    stack.write(tmp_path / "stack.tex", sed_type="flux", columns=["time", "flux"], style="paper")
    text = (tmp_path / "stack.tex").read_text()
    assert r"50\_\% & $" in text and "10^{-10}" in text
    stack.write(tmp_path / "stack.csv")
    found = Table.read(tmp_path / "stack.csv")
    assert found.colnames[:3] == ["time", "bin", "group"]
    assert list(found["bin"]) == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1]
    assert_array_equal(found["norm"], np.concatenate([own.norm.ravel() for own in stack]))
    for call, message in (
        (lambda: stack.to_table(style="papers"), "valid are 'full', 'paper'"),
        (lambda: stack.to_table(style="paper", columns=["set"]), "there are time, MJD, "),
        (lambda: stack.to_table("flux", unit="m"), "unit is 'm'"),
        (lambda: stack.to_table(format="lightcurve", bin=0, unit="m"), "format='profile'"),
        (lambda: stack.write(tmp_path / "a.fits", unit="m"), "unit: of text tables"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not (tmp_path / "a.fits").exists()


def test_paper_tables_of_profiles_on_other_axes():
    other = make_profile(axis=ProfileAxis.from_edges([1, 2, 3, 4, 5] * u.arcmin, name="offset"))
    table = FluxProfileStack([make_profile(), other], ["a", "b"], axis="set").to_table(
        style="paper"
    )
    assert list(table["Bin"][6:12:2]) == ["1.13 - 1.50 deg", "1 - 2 arcmin", "2 - 3 arcmin"]


def test_files_keep_everything(tmp_path):
    path = tmp_path / "stack.fits"
    profiles = [make_profile(gti=day(0)), make_joint_profile(), make_profile(n_datasets=3)]
    stack = FluxProfileStack(profiles, ["a", "b c", "d"], axis="time")
    stack.write(path)
    found = FluxProfileStack.read(path)
    assert found.names == stack.names and found.axis == "time"
    for first, second in zip(stack, found, strict=True):
        assert_same_profile(first, second)
    with pytest.raises(FileExistsError):
        stack.write(path)
    with pytest.raises(ValueError, match=r"to_table\(\)"):
        stack.write(tmp_path / "stack.ecsv")
    single = tmp_path / "one.fits"
    profiles[0].write(single)
    with pytest.raises(ValueError, match=r"one.fits: .*FluxProfile.read reads it"):
        FluxProfileStack.read(single)
    with pytest.raises(ValueError, match="no HDU FLUXPOINTS"):
        FluxProfile.read(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 // 2880 * 2880])
    with pytest.raises(ValueError, match="stack.fits: "):
        FluxProfileStack.read(path)


def cash(data, norm, at):
    mu = np.maximum(data.background[at] + norm * data.npred_ref[at], 0)
    mu, n = mu[data.mask[at]], data.counts[at][data.mask[at]]
    with np.errstate(all="ignore"):
        return 2 * np.sum(mu - np.where(n > 0, n * np.log(mu), 0))


def test_variability_is_a_likelihood_ratio():
    axis = make_profile().axis
    data = [make_data(seed=k) for k in range(1, 5)]
    stack = FluxProfileStack([of_data(d, np.ones((4, 2)), axis=axis) for d in data], list("abcd"))
    found = stack.variability()

    def least(function):
        return minimize_scalar(function, bounds=(-0.15, 10), options={"xatol": 1e-10})

    for at in ((0, 0), (0, 1), (3, 1)):
        common = least(lambda x, at=at: sum(cash(d, x, at) for d in data))
        alone = sum(least(lambda x, d=d, at=at: cash(d, x, at)).fun for d in data)
        assert_allclose(found["norm"][at], common.x, atol=1e-5)
        assert_allclose(found["ts"][at], common.fun - alone, atol=1e-8)
        assert found["ndf"][at] == 3
        assert_allclose(found["p_value"][at], chi2.sf(found["ts"][at], 3), rtol=1e-12)
    assert np.isnan(found["ts"][2, 0]) and np.isnan(found["p_value"][2, 0])  # masked everywhere


@pytest.mark.slow
def test_variability_is_printed_with_a_line_for_each_energy_group():
    profiles = [make_profile(), make_profile()]
    found = FluxProfileStack(profiles, "ab").variability()
    head, *lines = str(found).split("\n")
    assert len(found) == 4 and len(lines) == 2 + 8 and max(map(len, lines)) <= 80
    assert {"e_min", "norm", "ts", "ndf", "p_value"} <= set(head.split()) and ".." not in str(found)


def test_variability_of_both_statistics():
    axis, data = make_profile().axis, make_data()
    # The same data again: nothing varies, and an ON-OFF profile among them is no obstacle.
    same = [of_data(d, np.ones((4, 2)), axis=axis) for d in (data, data, make_on_off())]
    assert_allclose(
        FluxProfileStack(same[:2], "ab").variability()["ts"][[0, 1, 3], 1], 0, atol=1e-9
    )
    assert np.all(FluxProfileStack(same, "abc").variability()["ndf"][[0, 1, 3]] == 2)


def test_variability_by_scans():
    """Parabolas: the weighted mean and its chi2, by hand."""
    profiles = [make_joint_profile() for _ in range(2)]
    moved = profiles[1].quantities
    grid = moved["norm_scan"]
    shift = np.where(np.arange(5) < 2, 0.5, 1.0)[:, np.newaxis]
    stored = moved | {"norm": moved["norm"] + shift}
    off = (grid - stored["norm"][..., np.newaxis]) / moved["norm_err"][..., np.newaxis]
    stored["stat_scan"] = moved["stat"][..., np.newaxis] + off**2
    state = {k: v for k, v in vars(profiles[1]).items() if k not in ("shape", "quantities")}
    stack = FluxProfileStack([profiles[0], FluxProfile(stored, **state)], ["a", "b"])
    found = stack.variability()
    error = moved["norm_err"]
    for at in ((0, 0), (0, 1), (1, 0), (4, 1)):
        assert_allclose(found["ts"][at], shift[at[0], 0] ** 2 / (2 * error[at] ** 2), rtol=1e-6)
        assert_allclose(found["norm"][at], moved["norm"][at] + shift[at[0], 0] / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="selection_optional"):
        FluxProfileStack(
            [of_data(None, np.ones((4, 2)), axis=make_profile().axis)] * 2, "ab"
        ).variability()
    with pytest.raises(ValueError, match="same regions"):
        few = make_profile().slice_by_idx({"projected-distance": [0, 1]})
        FluxProfileStack([make_profile(), few], "ab").variability()


def test_figures():
    stack = make_stack()
    figure, axes = plt.subplots(1, 2)
    assert stack.plot(ax=axes[0], bins=[0, 3]) is axes[0]
    assert axes[0].get_xlabel() == "Time [MJD]" and "Flux" in axes[0].get_ylabel()
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == [
        "0 - 0.375 deg",
        "1.12 - 1.5 deg",
    ]
    stack.plot_map("norm", ax=axes[1], group=1)
    drawn = np.concatenate([np.ma.filled(m.get_array(), np.nan) for m in axes[1].collections])
    assert_array_equal(drawn.ravel(), stack.norm[:, :, 1].ravel())
    assert axes[1].get_ylabel() == "Projected distance [deg]"
    sets = FluxProfileStack(stack.profiles, stack.names, axis="set")
    ax = sets.plot(sed_type="norm")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["day 0", "day 1", "day 2"]


def test_figures_take_masks_and_scales():
    stack = make_stack()
    figure, axes = plt.subplots(1, 3)
    stack.plot(ax=axes[0], bins=np.array([False, False, True, True]))
    stack.plot(ax=axes[1], bins=[2, 3])
    legends = [[t.get_text() for t in ax.get_legend().get_texts()] for ax in axes[:2]]
    assert legends[0] == legends[1]
    with pytest.raises(ValueError, match=r"bins must be indices.* got \[0.7\]"):
        stack.plot(bins=[0.7])
    scale = Normalize()
    stack.plot_map("norm", ax=axes[2], norm=scale)
    shown = stack.norm[:, :, 0]
    assert (scale.vmin, scale.vmax) == (np.nanmin(shown), np.nanmax(shown))


def test_many_bins_are_drawn_without_a_choice():
    """The eight most significant ones, which the title says; heat maps have all."""
    profiles = [make_profile() for _ in range(2)]
    n = 12
    axis = ProfileAxis("projected-distance", np.arange(n), np.arange(n) + 1.0, np.arange(n) + 0.5)
    ts = np.random.default_rng(1).permutation(n).astype(float)[:, None]
    wide = [
        FluxProfile(
            {"norm": np.ones((n, 1)), "ts": ts, "norm_err": np.ones((n, 1))},
            axis=axis,
            energy_edges=EDGES[:1],
            reference_model=profiles[0].reference_model,
        )
        for _ in range(2)
    ]
    ax = FluxProfileStack(wide, ["a", "b"]).plot(ax=plt.figure().add_subplot())
    assert "the 8 most significant of 12 bins" in ax.get_title()
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    expected = [f"{k} - {k + 1} deg" for k in np.flatnonzero(ts[:, 0] >= 4)]
    assert [text for text in entries if text.endswith("deg")] == expected
    few = FluxProfileStack(profiles, ["a", "b"]).plot(ax=plt.figure().add_subplot())
    assert "most significant" not in few.get_title()
    plt.close("all")
