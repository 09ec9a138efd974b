import io
import itertools

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgb, to_rgba
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
)

from jaxprof.likelihood.data import Status
from jaxprof.plotting import (
    plot_map,
    plot_profile,
    plot_quantity,
    plot_regions,
    plot_ts_profiles,
)
from jaxprof.plotting.legend import update_legend
from jaxprof.plotting.likelihood import _likelihood_column
from jaxprof.plotting.options import COLORS
from jaxprof.plotting.style import (
    add_obstacles,
    axis_label,
    bin_label,
    energy_label,
    quantity_label,
    unit_label,
)
from jaxprof.plotting.xaxis import bin_names
from jaxprof.profile import FluxProfile
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.regions import ProfileAxis


@pytest.fixture(autouse=True)
def closed_figures():
    plt.close("all")
    yield
    if plt.get_fignums():  # it must survive being laid out and drawn
        plt.gcf().draw_without_rendering()
    plt.close("all")


def make_profile(
    norm, ts=None, *, edges=((0.01, 0.5),), ref=1e-9, name="projected-distance", level=2, **more
):
    norm = np.asarray(norm, dtype=float)
    n_bins, n_groups = norm.shape
    x = np.linspace(0, 2, n_bins + 1)
    if name == "region-index":
        x = np.arange(n_bins + 1) - 0.5
    quantities = {
        "norm": norm,
        "norm_err": np.where(np.isfinite(norm), 0.2, np.nan),
        "norm_ul": norm + 0.4,
        "ts": np.full(norm.shape, 9.0) if ts is None else np.asarray(ts, dtype=float),
        **more,
    }
    reference = {k: np.full(n_groups, ref) for k in ("dnde", "flux", "eflux")}
    return FluxProfile(
        {k: v for k, v in quantities.items() if v is not None},
        axis=ProfileAxis(name, x[:-1], x[1:], (x[:-1] + x[1:]) / 2),
        energy_edges=edges,
        reference_model=None,
        reference=reference,
        n_sigma_ul=level,
    )


def points(ax):
    """Positions of all markers of points."""
    lines = [c.lines[0] for c in ax.containers if c.lines[0] is not None]
    return np.concatenate([line.get_xydata() for line in lines])


def arrows(ax):
    lines = [line for line in ax.lines if line.get_gid() == "upper-limits"]
    return np.concatenate([line.get_xydata() for line in lines]) if lines else np.empty((0, 2))


def drawn_ends(ax):
    """Ends of all bars."""
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    return np.concatenate([segment for bar in bars for segment in bar.get_segments()])


def assert_inside(ax, ends=None, room_below=0.0):
    """Everything drawn is inside the frame, arrows with their length."""
    ends = drawn_ends(ax) if ends is None else ends
    if ax.get_yscale() == "log":
        ends = ends[ends[:, 1] > 0]
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    assert (ends[:, 0] > x0).all() and (ends[:, 0] < x1).all()
    assert (ends[:, 1] > y0).all() and (ends[:, 1] < y1).all()
    box = ax.get_window_extent()
    tips = ax.transData.transform(arrows(ax)) if len(arrows(ax)) else np.empty((0, 2))
    tips = tips[np.isfinite(tips).all(axis=1)]
    if ax.get_yscale() == "linear":
        assert (tips[:, 1] - 14 * ax.figure.dpi / 72 > box.y0).all()
    # Wider than the bins, by a little.
    assert x1 - x0 < 1.1 * np.ptp(ends[:, 0])


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# words


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.010000000000000005, 0.08447163999999996, "10 - 84.5 GeV"),
        (0.5, 2.0, "500 GeV - 2 TeV"),
        (1, 10, "1 - 10 TeV"),
        (1e-4, 5e-4, "100 - 500 MeV"),
        (0.1, 0.99999, "100 GeV - 1 TeV"),
        (0.1, 0.9999999, "100 GeV - 1 TeV"),
        (3e-8, 2e-7, "30 - 200 keV"),
    ],
)
def test_energy_label(low, high, text):
    assert energy_label(low, high) == text


def test_unit_and_quantity_labels():
    assert unit_label("cm-2 s-1 TeV-1") == r"$\mathrm{cm^{-2}\,s^{-1}\,TeV^{-1}}$"
    assert unit_label("TeV s-1 cm-2") == r"$\mathrm{TeV\,cm^{-2}\,s^{-1}}$"
    assert unit_label("cm-2 s-1 sr-1") == r"$\mathrm{cm^{-2}\,s^{-1}\,sr^{-1}}$"
    assert unit_label("") == ""
    assert quantity_label("npred") == "Predicted counts"
    assert quantity_label("norm_err") == "Norm error"
    assert quantity_label("flux_ul", "cm-2 s-1") == (
        r"Flux upper limit [$\mathrm{cm^{-2}\,s^{-1}}$]"
    )
    assert quantity_label("my_number") == "My number"


def test_axis_labels():
    axis = ProfileAxis("projected-distance", np.array([1e-5]), np.array([0.15]), np.array([0.07]))
    assert axis_label(axis) == "Projected distance [deg]"
    assert bin_label(axis, 0) == "0 - 0.15 deg"
    index = ProfileAxis("region-index", np.array([1.5]), np.array([2.5]), np.array([2.0]))
    assert axis_label(index) == "Region index"
    assert bin_label(index, 0) == "Region 2"


# profiles


@pytest.mark.parametrize("scale", [None, "linear", "log"])
@pytest.mark.parametrize("dynamic", [1.0, 1e4])
def test_everything_is_inside_the_frame(scale, dynamic):
    norm = np.array([[3.0], [1.0], [0.5], [2.0], [0.3]]) * np.array([[dynamic], [1], [1], [1], [1]])
    ax = plot_profile(make_profile(norm, ts=[[9], [1], [9], [9], [0]]), sed_type="flux")
    assert ax.get_yscale() == ("log" if dynamic > 1 else "linear")
    if scale:
        ax.set_yscale(scale)
    assert_inside(ax)
    assert ax.get_xlabel() == "Projected distance [deg]"
    assert ax.get_ylabel() == r"Flux [$\mathrm{cm^{-2}\,s^{-1}}$]"
    assert legend_texts(ax) == ["10 - 500 GeV", "Upper limits, 95.45 %"]


def test_points_errors_and_arrows():
    norm = np.array([[2.0], [0.5], [np.nan], [-1.0], [3.0]])
    ts = [[9], [1], [np.nan], [2], [16]]
    errors = {"norm_errn": np.full((5, 1), 0.3), "norm_errp": np.full((5, 1), 0.5)}
    errors["norm_errp"][4] = np.nan  # norm_err takes its place
    ax = plot_profile(make_profile(norm, ts, **errors), sed_type="dnde", color="tab:red")
    np.testing.assert_allclose(points(ax), [[0.2, 2e-9], [1.8, 3e-9]])
    np.testing.assert_allclose(arrows(ax), [[0.6, 0.9e-9]])
    np.testing.assert_allclose(at_the_edge(ax), [1.4])
    ends = drawn_ends(ax)
    vertical = sorted(ends[np.isclose(ends[:, 0], 0.2), 1])
    np.testing.assert_allclose(vertical, [1.7e-9, 2.5e-9])
    np.testing.assert_allclose(sorted(ends[np.isclose(ends[:, 0], 1.8), 1]), [2.7e-9, 3.2e-9])
    # Horizontal bars are the bins; the failed bin from 0.8 to 1.2 is a gap.
    assert {0.0, 0.4, 1.6, 2.0} <= set(np.round(ends[:, 0], 9))
    assert not ((ends[:, 0] > 0.81) & (ends[:, 0] < 1.19)).any()
    assert ax.get_yscale() == "linear"
    assert_inside(ax)
    arrow = next(line for line in ax.lines if line.get_gid() == "upper-limits")
    assert to_rgba(arrow.get_color()) == to_rgba("tab:red")
    tip = arrow.get_marker().vertices
    assert tip[:, 1].min() < 0 and tip[:, 1].max() == 0


def at_the_edge(ax):
    """Positions of limits that are not positive, which no flux axis has a place for."""
    marks = [line for line in ax.lines if line.get_gid() == "limit-not-positive"]
    return np.concatenate([mark.get_xdata() for mark in marks]) if marks else np.zeros(0)


def test_norms_below_zero_and_their_limits():
    profile = make_profile([[2.0], [-1.0], [-0.5]], ts=[[9], [2], [9]])
    ax = plot_profile(profile, sed_type="norm")
    np.testing.assert_allclose(arrows(ax), [[1.0, -0.6], [5 / 3, -0.1]])
    assert not at_the_edge(ax).size
    # Nothing below zero fits on a log axis, and zero is marked.
    assert ax.get_yscale() == "linear"
    zero = [line for line in ax.lines if line.get_gid() == "zero-line"]
    assert len(zero) == 1 and zero[0].get_zorder() < ax.containers[0].lines[0].get_zorder()
    assert_inside(ax)


def test_a_significant_deficit_is_a_point_as_in_the_table():
    """Not its limit, which is none on a flux; a weak one is a limit, and one of norms as well."""
    profile = make_profile([[3.0], [-2.0], [-0.2]], ts=[[9], [16], [0.25]])
    assert profile.is_ul.ravel().tolist() == [False, True, True]
    ax = plot_profile(profile, sed_type="flux")
    np.testing.assert_allclose(points(ax)[:, 1], [3e-9, -2e-9])
    np.testing.assert_allclose(arrows(ax)[:, 1], [0.2e-9])
    assert not at_the_edge(ax).size
    cells = profile.to_table(sed_type="flux", style="paper").columns[1]
    assert ["<" in cell for cell in cells] == [False, False, True]


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_vanishes_on_a_log_axis(when):
    """Neither limits (second bin) nor points (fourth) that are not positive; linear as ever."""
    profile = make_profile([[3.0], [-0.6], [40.0], [-1.0], [2.0]], ts=[[9], [1], [9], [9], [9]])
    profile.is_ul = np.array([[False], [True], [False], [False], [False]])
    _, axes = plt.subplots(2)

    def drawn_at(ax):
        ax.figure.savefig(io.BytesIO(), format="png")  # carries out what is pending
        marks = [a for a in ax.get_children() if a.get_gid() == "not-positive"]
        assert {mark.get_marker() for mark in marks} == {"v", r"$\leq 0$"}
        for mark in marks:
            assert to_rgba(mark.get_color()) == to_rgba("tab:green")
            np.testing.assert_allclose(mark.get_xdata(), [1.4])
        np.testing.assert_allclose(at_the_edge(ax), [0.6])
        low, high = ax.get_ylim()
        return marks, low, high

    if when == "before":
        axes[0].set_yscale("log")
    for ax in axes:
        plot_profile(profile, ax=ax, sed_type="flux", color="tab:green")
    axes[0].set_yscale("log")
    marks, low, high = drawn_at(axes[0])
    # The axis is that of the positive points; the legend may take some room.
    assert 1e-10 < low < 1.8e-9 and 40.2e-9 < high < 1e-6
    others, _, _ = drawn_at(axes[1])
    assert all(pixels_of(mark) for mark in marks)
    assert not any(pixels_of(mark) for mark in others)
    for ax in axes:
        assert legend_texts(ax) == [
            "10 - 500 GeV",
            "Upper limits, 95.45 %",
            "Upper limit not positive",
        ]


def pixels_of(artist):
    """How many pixels of the figure an artist alone paints."""
    figure = artist.axes.figure
    renderer = RendererAgg(*figure.canvas.get_width_height(), figure.dpi)
    artist.draw(renderer)
    return np.count_nonzero(np.asarray(renderer.buffer_rgba())[..., 3])


def test_no_marks_where_all_is_positive():
    ax = plot_profile(make_profile([[3.0], [1.0]]))
    assert not any(artist.get_gid() == "not-positive" for artist in ax.get_children())


def test_no_zero_line_without_negative_values_and_no_arrows_without_limits():
    ax = plot_profile(make_profile([[1.0], [2.0]], ts=[[0], [9]], norm_ul=None))
    assert not any(line.get_gid() in ("zero-line", "upper-limits") for line in ax.lines)
    assert len(points(ax)) == 2


def test_threshold_decides_on_arrows():
    profile = make_profile([[1.0], [2.0]], ts=[[9], [25]])
    assert len(arrows(plot_profile(profile))) == 0
    profile.sqrt_ts_threshold_ul = 4
    assert len(arrows(plot_profile(profile))) == 1


@pytest.mark.parametrize(
    ("level", "kind", "text"),
    [
        (2, None, "Upper limits, 95.45 %"),
        (1.96, "feldman-cousins", "Upper limits, 95 %, Feldman-Cousins"),
        (1.645, "cls", "Upper limits, 90 % CLs"),
        (5, "one-sided", "Upper limits, 5 sigma one-sided"),
    ],
)
def test_the_legend_tells_level_and_kind_of_limits(level, kind, text):
    profile = make_profile([[1.0], [2.0]], [[9], [1]], level=level)
    if kind is not None:
        profile.meta["interval"] = kind
    ax = plot_profile(profile)
    assert legend_texts(ax)[1:] == [text]
    plot_profile(profile, ax=ax)
    assert legend_texts(ax).count(text) == 1
    profile = make_profile([[1.0], [2.0]], [[9], [9]])
    assert len(legend_texts(plot_profile(profile))) == 1


def test_groups_have_colours_and_ranges():
    edges = [(0.01, 0.08447163999999996), (0.08447163999999996, 0.5)]
    profile = make_profile([[1.0, 2.0], [2.0, 0.1]], [[9, 9], [9, 1]], edges=edges)
    ax = plot_profile(profile)
    ranges = ["10 - 84.5 GeV, at 29.1 GeV", "84.5 - 500 GeV, at 206 GeV"]
    assert legend_texts(ax) == [*ranges, "Upper limits, 95.45 %"]
    assert legend_texts(plot_profile(profile, sed_type="flux")) == [
        "10 - 84.5 GeV",
        "84.5 - 500 GeV",
        "Upper limits, 95.45 %",
    ]
    first, second = (c.lines[0].get_color() for c in ax.containers if c.lines[0] is not None)
    assert first != second
    assert next(li for li in ax.lines if li.get_gid() == "upper-limits").get_color() == second
    ax = plot_profile(profile, label="mine")
    assert legend_texts(ax)[0] == "mine, 10 - 84.5 GeV, at 29.1 GeV"
    assert legend_texts(plot_profile(profile, label=["a", "b"]))[:2] == ["a", "b"]
    with pytest.raises(ValueError, match="label has 3 entries for 2"):
        plot_profile(profile, label=["a", "b", "c"])


def test_repeated_calls_and_styles():
    _, ax = plt.subplots()
    profile = make_profile([[1.0], [2.0]])
    assert plot_profile(profile, ax=ax, label="one") is ax
    plot_profile(profile, ax=ax, label="two", color="k", marker="s", ms=7, alpha=0.5)
    assert legend_texts(ax) == ["one", "two"]
    line = ax.containers[-1].lines[0]
    assert (line.get_marker(), line.get_markersize(), line.get_color()) == ("s", 7, "k")
    plot_profile(profile, ax=ax, fmt="r^", label="three")
    assert ax.containers[-1].lines[0].get_marker() == "^"
    assert to_rgba(ax.containers[-1].lines[0].get_color()) == to_rgba("r")


def test_scale_set_by_the_user_stays():
    _, ax = plt.subplots()
    plot_profile(make_profile([[1.0], [1e4]]), ax=ax)
    assert ax.get_yscale() == "log"
    ax.set_yscale("linear")
    plot_profile(make_profile([[2.0], [2e4]]), ax=ax)
    assert ax.get_yscale() == "linear"
    _, ax = plt.subplots()
    ax.set_yscale("log")
    plot_profile(make_profile([[1.0], [2.0]]), ax=ax)
    assert ax.get_yscale() == "log"


def test_default_axes_are_never_someone_elses():
    figure = plt.figure()
    first = plot_profile(make_profile([[1.0], [2.0]]))
    assert first.figure is figure
    second = plot_profile(make_profile([[1.0], [2.0]]))
    assert second.figure is not figure
    empty = plt.subplots()[1]
    assert plot_profile(make_profile([[1.0], [2.0]])) is empty


def test_all_failed_gives_empty_axes():
    ax = plot_profile(make_profile(np.full((3, 1), np.nan), ts=np.full((3, 1), np.nan)))
    assert len(points(ax)) == 0 and len(arrows(ax)) == 0
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 2  # the bins are there all the same


def test_region_index_axis():
    ax = plot_profile(make_profile([[1.0], [2.0], [3.0]], name="region-index"), sed_type="norm")
    assert ax.get_xlabel() == "Region index" and ax.get_ylabel() == "Norm"
    assert np.allclose(ax.get_xticks() % 1, 0)


def test_spectra():
    edges = [(0.01, 0.1), (0.1, 0.9)]
    profile = make_profile([[1.0, 2.0], [2.0, 0.1]], edges=edges)
    ax = plot_profile(profile, axis_name="energy", sed_type="e2dnde")
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "Energy [GeV]"
    assert legend_texts(ax) == ["0 - 1 deg", "1 - 2 deg"]
    np.testing.assert_allclose(np.unique(points(ax)[:, 0]), [np.sqrt(1000), 300])
    assert ax.get_xlim()[0] < 10 and ax.get_xlim()[1] > 900


def test_many_spectra_get_a_colour_bar():
    ax = plot_profile(make_profile(np.linspace(1, 2, 20)[:, None]), axis_name="energy")
    assert ax.get_legend() is None
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == ["Projected distance [deg]"]


def test_of_too_many_spectra_the_most_significant_are_drawn():
    """Fifty would hide each other; the title says which are shown, and labels for all draw all."""
    ts = np.linspace(0, 50, 51)[:, None]
    profile = make_profile(np.full((51, 1), 2.0), ts=ts[::-1])
    ax = plot_profile(profile, axis_name="energy", sed_type="norm", color="k")
    assert ax.get_title() == "The 10 most significant of 51 bins"
    entries = [text for text in legend_texts(ax) if text.endswith("deg")]
    assert len(entries) == 10 and entries[0].startswith("0 - 0.0392")
    labelled = plot_profile(
        profile, ax=plt.figure().add_subplot(), axis_name="energy", label=["_"] * 51
    )
    assert labelled.get_title() == "" and len(labelled.containers) >= 51


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sed_type": "foo"}, "sed_type must be one of dnde, flux"),
        ({"axis_name": "time"}, "'time'; valid are 'projected-distance', 'energy', 'longitude'"),
    ],
)
def test_plot_profile_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        plot_profile(make_profile([[1.0], [2.0]]), **kwargs)


def test_legend_is_not_over_the_data():
    # Error bars and values all over the place: the axis has to grow.
    rng = np.random.default_rng(0)
    ax = plot_profile(make_profile(rng.uniform(1, 5, (60, 1)), norm_err=np.full((60, 1), 0.6)))
    box = ax.get_legend().get_window_extent()
    assert box.count_contains(ax.transData.transform(drawn_ends(ax))) == 0
    assert_inside(ax)
    low, high = ax.get_ylim()
    assert high - low < 2 * np.ptp(drawn_ends(ax)[:, 1])


def test_legend_does_not_depend_on_the_time(monkeypatch):
    """On a busy machine matplotlib takes the search for a place of a legend for slow, and warns."""
    clock = itertools.count(0, 5.0)
    monkeypatch.setattr("matplotlib.legend.time.perf_counter", lambda: next(clock))
    ax = plot_profile(make_profile([[1.0], [2.0]]))
    ax.figure.draw_without_rendering()
    assert next(clock) == 0  # ours looks at no clock


def test_legend_is_where_the_user_wants_it():
    with plt.rc_context({"legend.loc": "lower left"}):
        ax = plot_profile(make_profile([[1.0], [2.0]]))
        ax.figure.draw_without_rendering()
        box, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert box.x0 - frame.x0 < 20 and box.y0 - frame.y0 < 20


def test_legend_keeps_limits_of_the_user():
    _, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], label="line")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    grid = np.linspace(0, 1, 50)
    x, y = np.meshgrid(grid, grid)
    add_obstacles(ax, np.stack([x.ravel()] * 2, 1), np.stack([y.ravel()] * 2, 1))
    update_legend(ax)
    assert ax.get_ylim() == (0, 1)


# quantities


def test_three_quantities_in_one_figure():
    n = np.array([[10.0], [20.0], [15.0]])
    profile = make_profile(n, npred=n, npred_excess=n - 16.0)
    _, ax = plt.subplots()
    for name in ("npred", "npred_excess", "npred_background"):
        assert profile[name].plot(ax=ax, label=name.title()) is ax
    assert legend_texts(ax) == ["Npred", "Npred_Excess", "Npred_Background"]
    assert ax.get_ylabel() == "Counts"
    assert_inside(ax)
    assert ax.get_ylim()[0] < -6
    np.testing.assert_allclose(points(ax)[:, 1], np.concatenate([n, n - 16, n * 0 + 16])[:, 0])


def test_counts_of_masked_bins_are_not_drawn_as_zeros():
    status = np.array([[Status.OK], [Status.FULLY_MASKED]])
    for name in ("npred", "counts"):
        profile = make_profile(np.ones((2, 1)), **{name: np.zeros((2, 1)), "status": status})
        np.testing.assert_array_equal(points(plot_quantity(profile, name))[:, 1], 0.0)
        assert len(points(plot_quantity(profile, name))) == 1


def test_quantity_names_groups_and_datasets():
    npred = np.arange(12.0).reshape(2, 2, 3)
    profile = make_profile(np.ones((2, 2)), edges=[(0.01, 0.1), (0.1, 1)], npred=npred)
    profile.dataset_names = ("a", "b", "c")
    ax = plot_quantity(profile, "npred")
    assert ax.get_ylabel() == "Predicted counts"
    assert legend_texts(ax) == [
        "Predicted counts, 10 - 100 GeV",
        "Predicted counts, 100 GeV - 1 TeV",
    ]
    np.testing.assert_allclose(points(ax)[:, 1], npred.sum(axis=2).T.ravel())
    ax = plot_quantity(profile, "npred", per_dataset=True, label="x")
    assert legend_texts(ax)[1] == "x, 10 - 100 GeV, b" and len(legend_texts(ax)) == 6
    np.testing.assert_allclose(points(ax)[:, 1], npred.reshape(2, 6).T.ravel())
    assert plot_quantity(profile, "norm_err").get_ylabel() == "Norm error"
    assert "TS" in plot_quantity(profile, "sqrt_ts").get_ylabel()
    assert plot_quantity(profile, "success").get_ylabel() == "Success"


def test_quantity_of_the_regions_alone():
    profile = make_profile(np.ones((2, 2)), edges=[(0.01, 0.1), (0.1, 1)], solid_angle=[1e-3, 2e-3])
    ax = plot_quantity(profile, "solid_angle")
    assert ax.get_ylabel() == r"Solid angle [$\mathrm{sr}$]"
    assert legend_texts(ax) == ["Solid angle"]


def test_quantity_errors():
    scan = np.zeros((2, 1, 5))
    profile = make_profile([[1.0], [2.0]], stat_scan=scan, norm_scan=scan)
    with pytest.raises(ValueError, match=r"name is 'foo'.*norm_err"):
        plot_quantity(profile, "foo")
    with pytest.raises(ValueError, match="plot_ts_profiles"):
        plot_quantity(profile, "stat_scan")


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("norm_covariance", "plot_correlation"),
        ("covariance", "plot_correlation"),
        ("correlation", "plot_correlation"),
        ("response", "plot_leakage"),
        ("leakage", "plot_leakage"),
        ("stat_scan", "plot_ts_profiles"),
        ("norm_scan", "plot_ts_profiles"),
        ("ts_scan", "plot_ts_profiles"),
        ("stat_scan_conditional", "plot_ts_profiles"),
        ("dnde_ref", "a quantity that has one"),
    ],
)
def test_matrices_and_scans_are_no_points(name, figure):
    """With as many bins as groups and scanned norms, no shape tells them from datasets."""
    cube = np.ones((2, 2, 2))
    stored = dict.fromkeys(
        ("norm_covariance", "response", "stat_scan", "stat_scan_conditional", "norm_scan"), cube
    )
    profile = make_profile(
        np.ones((2, 2)), edges=[(0.01, 0.1), (0.1, 1)], stat=np.zeros((2, 2)), **stored
    )
    with pytest.raises(ValueError, match=rf"'{name}' has the shape \(2,.* use {figure}"):
        plot_quantity(profile, name)
    assert not plt.get_fignums()


# likelihood profiles


def poisson_profile(counts, background=2.0, **changes):
    """Bins of one counts bin: mu = background + norm, on a scan as coarse as the tutorial's."""
    counts = np.asarray(counts, dtype=float)[:, None]

    def stat(norm):
        mu = background + norm
        n = counts if norm.ndim == 2 else counts[..., None]
        return 2 * (mu - np.where(n > 0, n * np.log(np.maximum(mu, 1e-25)), 0.0))

    norm = counts - background
    scan = np.broadcast_to(np.linspace(-1, 5, 11), (len(counts), 1, 11)).copy()
    more = {"stat": stat(norm), "norm_scan": scan, "stat_scan": stat(scan), "norm_ul": None}
    return make_profile(
        norm, ts=stat(0 * norm) - stat(norm), ref=1e-11, **{**more, **changes}
    ), stat


@pytest.mark.parametrize("vmin", [-4.0, -9.0])
def test_density_follows_the_statistic(vmin):
    profile, stat = poisson_profile([2, 4, 6])
    for k in range(3):
        edges, difference = _likelihood_column(profile, k, vmin)
        middle = (edges[1:] + edges[:-1]) / 2
        exact = stat(np.broadcast_to(middle, (3, 1, len(middle))))[k, 0] - stat(profile.norm)[k]
        shown = ~np.ma.getmaskarray(difference)
        assert shown.sum() > 100  # nothing wasted on what is transparent
        # Eleven values 0.6 apart hold the curve to a percent of a sigma squared.
        np.testing.assert_allclose(difference[shown], exact[shown], atol=0.03, rtol=0.01)
        assert difference.min() >= 0 and difference.max() <= -vmin
        assert (exact[~shown] > -vmin - 0.2).all()
        inside = (edges[0] <= profile.norm[k, 0]) & (profile.norm[k, 0] <= edges[-1])
        assert inside and difference.min() < 0.01


def test_density_passes_through_known_limits():
    # Away from the scan the exact limit is all there is to go by.
    profile, _ = poisson_profile([8], norm_ul=np.array([[12.0]]))
    edges, difference = _likelihood_column(profile, 0, -4.0)
    middle = (edges[1:] + edges[:-1]) / 2
    shown = ~np.ma.getmaskarray(difference)
    assert middle[shown].max() == pytest.approx(12.0, abs=0.1)


def test_density_has_nothing_of_limits_of_other_kinds():
    profile, _ = poisson_profile([8])
    expected = _likelihood_column(profile, 0, -4.0)
    profile, _ = poisson_profile([8], norm_ul=np.array([[12.0]]))
    profile.meta["interval"] = "bounded"
    for found, own in zip(_likelihood_column(profile, 0, -4.0), expected, strict=True):
        np.testing.assert_array_equal(found, own)


def test_density_of_failed_and_flat_bins():
    profile, _ = poisson_profile([2, 4, 0])
    profile.quantities["stat_scan"][1] = np.nan
    assert _likelihood_column(profile, 1, -4.0) is None
    edges, difference = _likelihood_column(profile, 2, -4.0)  # 2 mu: no minimum inside
    assert np.isfinite(edges).all() and difference.min() >= 0
    ax = plot_ts_profiles(profile)
    assert len([c for c in ax.collections if isinstance(c, QuadMesh)]) == 2


@pytest.mark.parametrize("density_first", [True, False])
def test_density_lies_below_the_points(density_first):
    profile, _ = poisson_profile([2, 4, 6])
    _, ax = plt.subplots()
    calls = [
        lambda: plot_ts_profiles(profile, ax=ax, sed_type="eflux"),
        lambda: plot_profile(profile, ax=ax, sed_type="eflux", color="tab:orange"),
    ]
    for call in calls if density_first else calls[::-1]:
        assert call() is ax
    ax.set_yscale("linear")
    meshes = [c for c in ax.collections if isinstance(c, QuadMesh)]
    assert len(meshes) == 3
    others = [c.lines[0] for c in ax.containers if c.lines[0] is not None]
    others += [c for c in ax.collections if isinstance(c, LineCollection)]
    others += [line for line in ax.lines if line.get_gid() == "zero-line"]
    assert max(m.get_zorder() for m in meshes) < min(o.get_zorder() for o in others)
    corners = np.concatenate([m.get_coordinates().reshape(-1, 2) for m in meshes])
    np.testing.assert_allclose(
        np.unique(np.round(corners[:, 0], 9)), [0, 2 / 3, 4 / 3, 2], atol=1e-8
    )
    assert_inside(ax, corners)
    assert_inside(ax)
    assert meshes[0].get_clim() == (0, 4)
    assert all(0 <= m.get_array().min() and m.get_array().max() <= 4 for m in meshes)
    # The minimum has the strongest colour: "Blues" end in the darkest.
    assert sum(meshes[0].cmap(0.0)[:3]) < 1 < sum(meshes[0].cmap(1.0)[:3])
    (bar,) = (a for a in ax.figure.axes if a is not ax)
    assert bar.get_ylabel() == "Fit statistic above its minimum" and bar.get_ylim() == (0, 4)
    assert legend_texts(ax) == ["10 - 500 GeV"]
    assert ax.get_ylabel() == r"Energy flux [$\mathrm{TeV\,cm^{-2}\,s^{-1}}$]"


def test_points_are_seen_on_the_density():
    """Points of the first colour, a blue, on another one; and after it in another colour."""
    profile, _ = poisson_profile([2, 4, 6])
    ax = plot_ts_profiles(profile, ax=plot_profile(profile, ax=plt.figure().add_subplot()))
    strongest = [c for c in ax.collections if isinstance(c, QuadMesh)][0].cmap(0.0)[:3]
    assert strongest[0] > strongest[2]
    ax = plot_ts_profiles(profile, ax=plt.figure().add_subplot())
    plot_profile(profile, ax=ax)
    assert to_rgb(COLORS[0]) not in {
        to_rgb(c.lines[0].get_color()) for c in ax.containers if c.lines[0] is not None
    }


def test_density_errors():
    profile, _ = poisson_profile([2, 4])
    with pytest.raises(ValueError, match="vmin is 3"):
        plot_ts_profiles(profile, vmin=3)
    with pytest.raises(ValueError, match="sed_type must be one of"):
        plot_ts_profiles(profile, sed_type="foo")
    with pytest.raises(ValueError, match=r'selection_optional=\["scan"\]'):
        plot_ts_profiles(make_profile([[1.0], [2.0]]))
    two = make_profile(np.ones((2, 2)), edges=[(0.01, 0.1), (0.1, 1)])
    with pytest.raises(ValueError, match="2 energy groups.*slice_by_idx"):
        plot_ts_profiles(two)
    assert len(plot_ts_profiles(profile, add_cbar=False).figure.axes) == 1


# maps and regions


def make_map(n_planes=0, unit="", frame="galactic", shape=(20, 40)):
    axes = [MapAxis.from_energy_bounds("10 GeV", "2 TeV", n_planes)] if n_planes else []
    geom = WcsGeom.create((0, 0), binsz=0.1, npix=shape[::-1], frame=frame, axes=axes)
    data = np.arange(geom.data_shape[-1] * geom.data_shape[-2], dtype=float)
    return WcsNDMap(geom, np.broadcast_to(data.reshape(shape), geom.data_shape).copy(), unit)


@pytest.mark.parametrize("stretch", ["linear", "sqrt", "log", "asinh"])
def test_map(stretch):
    image = make_map(1)
    ax = plot_map(image, stretch=stretch)
    (artist,) = ax.images
    np.testing.assert_array_equal(artist.get_array(), image.data[0])
    assert artist.origin == "lower"
    assert ax.coords[0].get_axislabel() == "Galactic Longitude"
    assert ax.coords[1].get_axislabel() == "Galactic Latitude"
    assert artist.norm(artist.norm.vmin) == pytest.approx(0, abs=1e-12)
    assert artist.norm(artist.norm.vmax) == pytest.approx(1)
    half = float(artist.norm(0.25 * (image.data.max() - image.data.min())))
    expected = {
        "linear": 0.25,
        "sqrt": 0.5,
        "log": np.log(251) / np.log(1001),
        "asinh": np.arcsinh(2.5) / np.arcsinh(10),
    }
    assert half == pytest.approx(expected[stretch])


def test_map_options():
    image = make_map(frame="icrs", unit="cm2 s")
    image.data[3, 4] = np.nan
    ax = image.plot(add_cbar=True, vmin=2, vmax=30, cmap="viridis", alpha=0.5, stretch="sqrt")
    assert ax.coords[0].get_axislabel() == "Right Ascension"
    assert ax.coords[1].get_axislabel() == "Declination"
    (artist,) = ax.images
    assert artist.get_clim() == (2, 30) and artist.get_cmap().name == "viridis"
    (bar,) = [a for a in ax.figure.axes if a is not ax]
    assert bar.get_ylabel() == r"$\mathrm{cm^{2}\,s}$"
    ax.figure.canvas.draw()
    map_box, bar_box = ax.get_window_extent(), bar.get_window_extent()
    assert bar_box.height == pytest.approx(map_box.height, abs=1)
    assert bar_box.x0 > map_box.x1
    ax = make_map().plot(add_cbar=True)
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == ["Counts"]


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_constant_map(value):
    image = make_map()
    image.data[:] = value
    plot_map(image, stretch="sqrt", add_cbar=True)


def test_mask_map():
    image = make_map()
    ax = plot_map(WcsNDMap(image.geom, image.data > 100), add_cbar=True)
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == ["Inside"]


def test_map_on_given_axes():
    image = make_map()
    figure = plt.figure()
    ax = figure.add_subplot(projection=image.geom.wcs)
    assert plot_map(image, ax=ax) is ax and len(ax.images) == 1
    other = WcsGeom.create((266.4, -28.9), binsz=0.1, npix=30, frame="icrs", proj="TAN")
    ax = plt.figure().add_subplot(projection=other.wcs)
    plot_map(image, ax=ax)
    (mesh,) = ax.collections
    # The centre of the map's pixel (x, y) must lie in the quadrangle with its value.
    corners = mesh.get_coordinates()
    x, y = image.geom.get_coord()[5, 7].to_pixel(other.wcs)
    middle = corners[5:7, 7:9].reshape(4, 2).mean(axis=0)
    np.testing.assert_allclose(middle, [x, y], atol=1e-3)
    assert mesh.get_array()[5, 7] == image.data[5, 7]


def test_map_errors():
    with pytest.raises(ValueError, match=r"3 planes.*sum_over_axes\(\)"):
        plot_map(make_map(3))
    with pytest.raises(ValueError, match="stretch must be one of"):
        plot_map(make_map(), stretch="cube")
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=r"plt.subplot\(projection=map_.geom.wcs\)"):
        plot_map(make_map(), ax=ax)
    with pytest.raises(ValueError, match="sky coordinates"):
        plot_regions(CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 1 * u.deg), ax=ax)


def position(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def test_regions_on_a_map():
    ax = plot_map(make_map())
    limits = ax.get_xlim(), ax.get_ylim()
    regions = [
        RectangleSkyRegion(position(0.5, 0), 0.5 * u.deg, 1 * u.deg),
        CircleAnnulusSkyRegion(position(0, 0), 0.2 * u.deg, 0.4 * u.deg),
        PolygonSkyRegion(position([0, 0, 1], [0, 0.5, 0])),
        CircleSkyRegion(position(30, 10), 0.4 * u.deg),  # off the map
        CircleSkyRegion(position(0, 0), 0.3 * u.deg) | CircleSkyRegion(position(1, 0), 0.3 * u.deg),
    ]
    assert plot_regions(regions, ax=ax, color="w", linestyle="--") is ax
    assert len(ax.patches) == 6  # the union has two outlines
    for patch in ax.patches:
        assert patch.get_edgecolor() == to_rgba("w") and not patch.get_fill()
        assert patch.get_clip_on() and patch.get_clip_path() is not None
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    # The box in pixels: 5 wide, 10 high, 5 pixels to the left of the middle.
    extent = ax.patches[0].get_path().get_extents(ax.patches[0].get_patch_transform())
    np.testing.assert_allclose(extent.bounds, [12, 4.5, 5, 10], atol=2e-3)
    ax = plot_regions(regions[:1], ax=plot_map(make_map()))
    assert ax.patches[0].get_edgecolor() == to_rgba("w")


def test_region_behind_the_projection_is_left_out():
    geom = WcsGeom.create((0, 0), binsz=0.1, npix=30, frame="galactic", proj="TAN")
    ax = plt.figure().add_subplot(projection=geom.wcs)
    plot_regions([CircleSkyRegion(position(170, 0), 1 * u.deg)], ax=ax)
    assert not ax.patches


@pytest.mark.parametrize(
    ("centers", "frame"), [(([9, 0, 351], [0, 0, 0]), "GLON"), (([0, 70, 140], [5, 0, 5]), "GLON")]
)
def test_regions_on_axes_of_their_own(centers, frame):
    circles = [CircleSkyRegion(c, 0.5 * u.deg) for c in position(*centers)]
    ax = plot_regions(circles, color="tab:red", facecolor="y")
    assert ax.wcs.wcs.ctype[0].startswith(frame)
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    for patch in ax.patches:
        box = patch.get_path().get_extents(patch.get_patch_transform())
        assert x0 < box.x0 < box.x1 < x1 and y0 < box.y0 < box.y1 < y1
        assert patch.get_fill()


def test_regions_with_a_given_geometry():
    geom = make_map().geom
    ax = plot_regions(CircleSkyRegion(position(0, 0), 0.5 * u.deg), geom=geom)
    assert ax.get_xlim() == (-0.5, 39.5) and ax.get_ylim() == (-0.5, 19.5)
    ax = plot_regions(CircleSkyRegion(position(0, 0), 0.5 * u.deg), wcs=geom.wcs)
    assert ax.wcs is geom.wcs and ax.get_xlim()[1] - ax.get_xlim()[0] == pytest.approx(11)


def test_equal_values_on_a_log_axis():
    """But for rounding, and one of them negative: matplotlib would find no room for its axis."""
    limits = np.array([[1.0], [1.0 + 3e-16], [-0.5], [1.0]])
    profile = make_profile([[0.4], [0.4], [-1.0], [0.4]], ts=[[0.0]] * 4, norm_ul=limits)
    ax = plot_profile(profile, sed_type="flux")
    ax.set_yscale("log")
    ax.figure.savefig(io.BytesIO(), format="png")
    low, high = ax.get_ylim()
    assert low < 0.9e-9 and 1.1e-9 < high


def test_the_colour_bar_says_which_scans_miss_the_best_norm():
    profile, _ = poisson_profile([2, 4, 6])
    for missed in (False, True):
        if missed:
            profile.quantities["norm"][1] = profile.quantities["norm_scan"].max() + 1
        figure = plot_ts_profiles(profile).figure
        label = figure.axes[-1].get_ylabel()
        assert ("scans miss the best norm in 1 of 3 bins" in " ".join(label.split())) == missed


@pytest.mark.parametrize("names", [["a", "a", "b", "c"], ["a", "", "b", "c"]])
def test_names_that_do_not_tell_bins_apart_are_shown_on_request_only(names):
    profile = make_profile(norm=np.ones((4, 1)))
    profile.quantities["name"] = np.array(names)
    assert bin_names(profile, None, in_legend=True) is None
    assert bin_names(profile, True) is not None
