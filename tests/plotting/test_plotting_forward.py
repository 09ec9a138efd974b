import astropy.units as u
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import LogNorm, to_rgb

from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.plotting import plot_comparison, plot_correlation, plot_leakage, plot_parameter
from jaxprof.profile import FluxProfile
from jaxprof.sky.regions import ProfileAxis

EDGES = [(0.01, 0.1), (0.1, 2.0)]
REF = np.array([2e-9, 3e-11])  # cm-2 s-1
REF_NAMES = ("dnde", "flux", "eflux")
MODEL = PowerLawSpectralModel(index=2.3)
NAMES = ["Profile", "Other"]
FLUX_LABEL = r"Flux [$\mathrm{cm^{-2}\,s^{-1}}$]"


@pytest.fixture(autouse=True)
def drawn_figures():
    plt.close("all")
    yield
    for number in plt.get_fignums():  # they must survive being laid out and drawn
        plt.figure(number).draw_without_rendering()
    plt.close("all")


def make_profile(n_bins=6, n_groups=2, *, seed=0, name="projected-distance", **more):
    """Profile with made-up matrices; arguments replace quantities or arguments of the class."""
    rng = np.random.default_rng(seed)
    shape = (n_bins, n_groups)
    x = np.linspace(0, 1.5, n_bins + 1) if name == "projected-distance" else np.arange(n_bins + 1.0)
    root = rng.normal(size=(n_groups, n_bins, 2 * n_bins))
    covariance = root @ root.swapaxes(1, 2) / 100
    quantities = {
        "norm": rng.uniform(1, 4, shape),
        "norm_err": np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T,
        "ts": np.full(shape, 25.0),
        "norm_covariance": np.moveaxis(covariance, 0, 1),
        "response": rng.uniform(1, 9, (n_bins, n_groups, n_bins)),
        "index": rng.uniform(2, 3, shape),
        "index_err": rng.uniform(0.1, 0.3, shape),
    }
    settings = {
        "axis": ProfileAxis(name, x[:-1], x[1:], (x[:-1] + x[1:]) / 2),
        "energy_edges": EDGES[:n_groups],
        "reference_model": MODEL,
        "reference": {k: REF[:n_groups] for k in REF_NAMES},
    }
    for key, value in more.items():
        (settings if key in settings or key == "reference_models" else quantities)[key] = value
    quantities = {key: value for key, value in quantities.items() if value is not None}
    return FluxProfile(quantities, **settings)


def series(ax):
    """Points (x, y) of each series, in the order of drawing."""
    drawn = [c.lines[0].get_xydata() for c in ax.containers if c.lines[0] is not None]
    return [points for points in drawn if len(points)]


def hidden(ax):
    lines = [line for line in ax.lines if line.get_gid() == "off-frame"]
    return {line.get_marker(): list(line.get_xdata()) for line in lines}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def without(array, bins):
    """A copy with NaN in some bins of the first group."""
    array = np.array(array, dtype=float)
    array[bins, 0] = np.nan
    return array


# matrices


@pytest.mark.parametrize(
    ("plot", "name", "bar"),
    [
        (plot_correlation, "correlation", "Correlation"),
        (plot_leakage, "leakage", "Share of the counts from one bin"),
    ],
)
@pytest.mark.parametrize("group", [0, 1])
def test_matrices(plot, name, bar, group):
    profile = make_profile()
    _, ax = plt.subplots()
    assert plot(profile, group, ax) is ax
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    matrix = getattr(profile, name)[group]
    # Rows, the first index, go up.
    np.testing.assert_array_equal(mesh.get_array().reshape(6, 6), matrix)
    corners = mesh.get_coordinates()
    edges = np.linspace(0, 1.5, 7)
    np.testing.assert_allclose(corners[0, :, 0], edges, atol=1e-12)
    np.testing.assert_allclose(corners[:, 0, 1], edges, atol=1e-12)
    assert ax.get_title() == ["10 - 100 GeV", "100 GeV - 2 TeV"][group]
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == [bar]
    assert mesh.get_clim() == ((-1, 1) if name == "correlation" else (0, matrix.max()))
    numbers = [text.get_text() for text in ax.texts]
    assert len(numbers) == 36 and numbers[1].strip("\N{MINUS SIGN}") in f"{abs(matrix[0, 1]):.2f}"
    assert not plot(profile, group, annotate=False).texts
    assert len(plot(profile, add_cbar=False).figure.axes) == 1


def test_labels_of_matrices():
    ax = make_profile().plot_correlation()
    assert ax.get_xlabel() == ax.get_ylabel() == "Projected distance [deg]"
    ax = make_profile().plot_leakage(group=1)
    assert ax.get_xlabel() == "Projected distance of the emission [deg]"
    assert ax.get_ylabel() == "Projected distance of the counts [deg]"
    ax = make_profile(name="region-index").plot_leakage()
    assert ax.get_xlabel() == "Region index of the emission"
    assert np.allclose(ax.get_xticks() % 1, 0)


def test_leakage_of_one_bin_goes_up_a_column():
    response = np.zeros((3, 1, 3))
    response[:, 0] = np.diag([5.0, 0, 8.0])
    response[2, 0, 0] = 15  # of bin 0, found in bin 2; bin 1 is never seen
    profile = make_profile(3, 1, response=response, norm_covariance=None)
    ax = plot_leakage(profile)
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    drawn = mesh.get_array().reshape(3, 3)
    np.testing.assert_allclose(drawn[:, 0], [0.25, 0, 0.75])
    np.testing.assert_allclose(drawn[:, 2], [0, 0, 1])
    assert np.ma.getmaskarray(drawn)[:, 1].all()


def test_bins_without_error_are_masked():
    profile = make_profile()
    profile.quantities["norm_covariance"][2] = np.nan
    profile.quantities["norm_covariance"][:, :, 2] = np.nan
    (mesh,) = (c for c in plot_correlation(profile).collections if isinstance(c, QuadMesh))
    expected = np.zeros((6, 6), dtype=bool)
    expected[2] = expected[:, 2] = True
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array().reshape(6, 6)), expected)


def test_matrix_options():
    ax = plot_leakage(make_profile(), cmap="viridis", vmax=0.5, rasterized=True)
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    assert mesh.get_cmap().name == "viridis" and mesh.get_clim() == (0, 0.5)
    assert mesh.get_rasterized()
    ax = plot_leakage(make_profile(), norm=LogNorm(0.01, 1))
    assert isinstance(ax.collections[0].norm, LogNorm)


def test_cells_of_bins_with_gaps_are_side_by_side():
    x = np.array([3.0, 0.0, 1.0])
    axis = ProfileAxis("projected-distance", x, x + 0.8, x + 0.4)
    ax = plot_correlation(make_profile(3, 1, axis=axis))
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-0.5, 0.5, 1.5, 2.5])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["3.4", "0.4", "1.4"]


def test_many_bins_have_no_numbers():
    ax = plot_leakage(make_profile(49, 1))
    assert not ax.texts and 4 <= len(ax.get_xticks()) <= 10


@pytest.mark.parametrize("group", [2, -3, "a", 0.5])
def test_unknown_group(group):
    for plot in (plot_correlation, plot_leakage, plot_parameter):
        with pytest.raises(ValueError, match="group (is|must be)"):
            plot(make_profile(), group=group)
    with pytest.raises(ValueError, match="group (is|must be)"):
        plot_comparison(make_profile(), make_profile(), group=group)
    assert not plt.get_fignums()


def test_matrices_need_a_joint_fit():
    profile = make_profile(norm_covariance=None, response=None)
    for plot in (plot_correlation, plot_leakage):
        with pytest.raises(ValueError, match="ForwardFoldingProfileEstimator"):
            plot(profile)
    assert not plt.get_fignums()  # no empty figure is left behind


# comparison


def test_comparison_draws_points_model_and_residuals():
    norm = np.array([[2.0], [3.0], [1.0], [4.0]])
    minus, plus = np.full((4, 1), 0.2), np.full((4, 1), 0.5)
    more = {"norm_errn": minus, "norm_errp": plus, "index": None, "index_err": None}
    profile = make_profile(4, 1, norm=norm, **more)
    other = make_profile(4, 1, norm=norm + 0.3, seed=1)
    curve = np.array([1.0, 3.5, 1.0, 2.0])
    ax, residual = profile.plot_comparison(other, curve * REF[0])
    assert ax.get_ylabel() == FLUX_LABEL
    assert residual.get_ylabel().split() == ["Residual", "/", "error"]
    assert residual.get_xlabel() == "Projected distance [deg]" and ax.get_xlabel() == ""
    assert legend_texts(ax) == ["Model", *NAMES]
    first, second = series(ax)
    np.testing.assert_allclose(first, np.stack([profile.axis.ref, norm[:, 0] * REF[0]], 1))
    np.testing.assert_allclose(second[:, 1], (norm[:, 0] + 0.3) * REF[0])
    # To the right, but within the bin.
    assert (second[:, 0] > first[:, 0]).all() and (second[:, 0] < profile.axis.max).all()
    # Above the model the negative error counts, below it the positive one.
    first, second = series(residual)
    np.testing.assert_allclose(first[:, 1], [1 / 0.2, -0.5 / 0.5, 0, 2 / 0.2])
    errors = other.norm_err[:, 0]
    np.testing.assert_allclose(second[:, 1], (norm[:, 0] + 0.3 - curve) / errors)
    (line,) = (li for li in ax.lines if li.get_label() == "Model")
    x, y = line.get_data()
    np.testing.assert_allclose(y[:6:3], curve[:2] * REF[0])
    np.testing.assert_allclose(x[:2], [0, 0.375])
    assert np.isfinite(x[:-1]).all()  # bins that touch: no gap


def test_comparison_of_two_profiles():
    profile, other = make_profile(), make_profile(seed=3)
    _, axes = plt.subplots(2, 1)
    result = plot_comparison(profile, other, sed_type="norm", group=1, axes=axes)
    assert result == tuple(axes)
    assert result[1].get_ylabel().split() == ["Difference", "/", "error"]
    assert result[0].get_ylabel() == "Norm"
    (points,) = series(result[1])
    expected = (profile.norm - other.norm) / profile.norm_err
    np.testing.assert_allclose(points[:, 1], expected[:, 1])
    assert legend_texts(result[0]) == NAMES
    assert result[0].get_title() == "100 GeV - 2 TeV"
    assert result[0].get_xlabel() == result[1].get_xlabel()  # not shared: both have a label


def test_what_is_compared_is_a_profile():
    with pytest.raises(ValueError, match="other must be a FluxProfile, got int"):
        plot_comparison(make_profile(), 3)
    with pytest.raises(ValueError, match=r"other\[1\] must be a FluxProfile, got str"):
        plot_comparison(make_profile(), [make_profile(), "file.fits"])


def test_options_of_a_comparison():
    profile, other = make_profile(6, 1), make_profile(6, 1, seed=3)
    _, axes = plt.subplots(2, sharex=True)
    axes[0].set_title("mine")
    plot_comparison(profile, other, sed_type="likelihood", axes=axes, c="k", marker="d")
    first, second = (c.lines[0] for c in axes[0].containers)
    assert first.get_marker() == "d" and to_rgb(first.get_color()) == (0, 0, 0)
    assert second.get_marker() == "s" and to_rgb(second.get_color()) != (0, 0, 0)
    assert axes[0].get_ylabel() == "Norm"
    assert axes[0].get_title() == "mine"


def test_groups_of_a_comparison():
    profile, other = make_profile(), make_profile(seed=3)
    curve = np.ones((6, 2)) * REF
    names = {"label": "a", "other_label": "b", "curve_label": "c"}
    ax, residual = plot_comparison(profile, other, curve, **names)
    ranges = ["10 - 100 GeV", "100 GeV - 2 TeV"]
    texts = {f"{name}, {text}" for name in "abc" for text in ranges}
    assert set(legend_texts(ax)) == texts
    drawn = series(ax)
    assert len(drawn) == len(series(residual)) == 4
    for k in range(2):
        np.testing.assert_allclose(drawn[2 * k][:, 1], profile.flux.value[:, k])
        np.testing.assert_allclose(drawn[2 * k + 1][:, 1], other.flux.value[:, k])
    at = np.array([points[0, 0] for points in drawn])
    assert len(set(at)) == 4 and (at > 0).all() and (at < 0.25).all()


def test_failed_bins_are_left_out():
    profile = make_profile(6, 1)
    success = np.ones((6, 1), dtype=bool)
    success[[1, 4]] = False
    other = make_profile(6, 1, norm=without(profile.norm, [0]))
    failed = make_profile(6, 1, success=success)  # norms are finite all the same
    ax, residual = plot_comparison(failed, other, np.full(6, REF[0]))
    for panel in (ax, residual):
        first, second = series(panel)
        np.testing.assert_allclose(first[:, 0], profile.axis.ref[[0, 2, 3, 5]])
        assert len(second) == 5


def test_upper_limits_are_arrows():
    ts = np.array([[25.0], [1], [25]])
    limits = np.array([[5.0], [2.0], [5.0]])
    profile = make_profile(3, 1, ts=ts, norm_ul=limits)
    ax, residual = plot_comparison(profile, curve=np.ones(3), sed_type="norm")
    (arrow,) = (line for line in ax.lines if line.get_gid() == "upper-limits")
    np.testing.assert_allclose(arrow.get_ydata(), [2.0])
    assert len(series(ax)[0]) == 2
    # The norm is there all the same: an open marker.
    points, opened = series(residual)
    assert len(points) == 2 and opened[0, 0] == profile.axis.ref[1]
    assert opened[0, 1] == pytest.approx((profile.norm[1, 0] - 1) / profile.norm_err[1, 0])


@pytest.mark.parametrize("value", [3.0, -4e3])
def test_huge_errors_do_not_set_the_limits(value):
    norm = np.linspace(1, 2, 8)[:, np.newaxis]
    error = np.full((8, 1), 0.2)
    norm[-1], error[-1] = value, 3e3
    profile = make_profile(8, 1, norm=norm, norm_err=error)
    ax, _ = plot_comparison(profile, curve=np.ones(8), sed_type="norm")
    low, high = ax.get_ylim()
    assert low < 0.8 and high > 2.0 and high - low < 4
    assert len(series(ax)[0]) == 8  # it is drawn all the same
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert any(np.ptp(s[:, 1]) > 5e3 for bar in bars for s in bar.get_segments())
    assert hidden(ax) == {("v" if value < 0 else "^"): [profile.axis.ref[-1]]}


def test_a_bright_bin_does_set_the_limits():
    norm, error = np.ones((8, 1)), np.full((8, 1), 0.02)
    norm[3], error[3] = 50.0, 0.5
    profile = make_profile(8, 1, norm=norm, norm_err=error)
    ax, _ = plot_comparison(profile, curve=np.ones(8), sed_type="norm")
    assert ax.get_ylim()[1] > 50.5 and not hidden(ax)


def test_limits_hold_what_was_there_before():
    profile = make_profile(8, 1, norm_err=np.array([[0.1] * 7 + [1e3]]).T)
    _, axes = plt.subplots(2, 1)
    axes[0].plot([0, 1], [-20, 30])
    plot_comparison(profile, curve=np.ones(8), sed_type="norm", axes=axes)
    low, high = axes[0].get_ylim()
    assert -35 < low < -20 and 30 < high < 45


def test_curve_with_units_and_gaps():
    x = np.array([0.0, 1.0, 3.0])
    axis = ProfileAxis("projected-distance", x, x + 1, x + 0.5)
    profile = make_profile(3, 1, axis=axis)
    ax, _ = plot_comparison(profile, curve=np.ones(3) * u.Unit("m-2 s-1"))
    (line,) = (li for li in ax.lines if li.get_label() == "Model")
    y = line.get_ydata()
    np.testing.assert_allclose(y[np.isfinite(y)], 1e-4)
    np.testing.assert_array_equal(np.isnan(line.get_xdata()), [0, 0, 0, 0, 0, 1, 0, 0, 0])


def curves(ax, name="Model"):
    """Value of each bin of the curves whose legend entry starts with a name."""
    lines = [line for line in ax.lines if line.get_label().startswith(name)]
    return [line.get_ydata()[::3] for line in lines]


@pytest.mark.parametrize("sed_type", ["flux", "e2dnde", "norm"])
def test_a_profile_as_curve(sed_type):
    profile, other = make_profile(), make_profile(seed=1)
    # Fluxes may be multiples of another reference, norms may not.
    factor = 1 if sed_type == "norm" else 2
    model = make_profile(seed=2, reference={k: factor * REF for k in REF_NAMES})
    # Limits are for points: of the model the value itself counts.
    model.quantities["ts"][:] = 1.0
    model.quantities["norm_ul"] = np.full(model.shape, 50.0)
    ax, residual = plot_comparison(profile, other, model, sed_type=sed_type)
    values, others, expected = (np.asarray(getattr(p, sed_type)) for p in (profile, other, model))
    drawn = curves(ax)
    assert len(drawn) == 2 and len(ax.containers) == 4
    pulls = series(residual)
    errors = [np.asarray(getattr(p, f"{sed_type}_err")) for p in (profile, other)]
    for k in range(2):
        np.testing.assert_allclose(drawn[k], expected[:, k])
        for n, points in enumerate((values, others)):
            pull = (points - expected)[:, k] / errors[n][:, k]
            np.testing.assert_allclose(pulls[2 * k + n][:, 1], pull)


def test_a_profile_as_curve_of_plot():
    profile, other, model = (make_profile(n_groups=1, seed=seed) for seed in range(3))
    model.quantities["success"][2] = False
    ax, residual = profile.plot(other=other, curve=model, curve_label="Disk")
    assert legend_texts(ax) == ["Disk", *NAMES]
    (drawn,) = curves(ax, "Disk")
    expected = np.where(np.arange(6) == 2, np.nan, model.dnde.value[:, 0])
    np.testing.assert_allclose(drawn, expected)
    assert [len(points) for points in series(residual)] == [5, 5]
    # One group of two, as a curve alone.
    profile, model = make_profile(), make_profile(seed=2)
    ax, _ = profile.plot_comparison(curve=model, sed_type="likelihood", group=1)
    (drawn,) = curves(ax)
    np.testing.assert_allclose(drawn, model.norm[:, 1])


def test_another_curve_for_the_other_profile():
    """A profile that ignores the PSF shows a model in its own way."""
    profile, other, model, blurred = (make_profile(n_groups=1, seed=seed) for seed in range(4))
    ax, residual = profile.plot(other=other, curve=model, other_curve=blurred)
    assert legend_texts(ax) == ["Model", "Model, other", *NAMES]
    np.testing.assert_allclose(curves(ax), [model.dnde.value[:, 0], blurred.dnde.value[:, 0]])
    for points, one, curve in zip(
        series(residual), (profile, other), (model, blurred), strict=True
    ):
        pull = ((one.dnde - curve.dnde) / one.dnde_err).to_value("")[:, 0]
        np.testing.assert_allclose(points[:, 1], pull)


def test_names_say_how_profiles_were_folded():
    profile, other = make_profile(n_groups=1), make_profile(n_groups=1, seed=1)
    del other.quantities["norm_covariance"]
    ax, _ = profile.plot_comparison(other)
    assert legend_texts(ax) == ["Forward-folded", "Backward-folded"]
    ax, _ = other.plot_comparison(profile, other_label="joint")
    assert legend_texts(ax) == ["Backward-folded", "joint"]


def test_current_figure_is_used_if_it_is_empty():
    figure = plt.figure(layout="constrained")
    ax, residual = plot_comparison(make_profile(), make_profile(seed=1))
    assert ax.figure is residual.figure is figure
    again, _ = plot_comparison(make_profile(), make_profile(seed=1))
    assert again.figure is not figure


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "other and curve are both None; give"),
        ({"curve": np.ones(6)}, r"curve has shape \(6,\) for 2 energy groups.*\(6, 2\).*group="),
        ({"curve": np.ones((6, 3)), "group": 0}, r"curve has shape \(6, 3\)"),
        ({"curve": np.ones((6, 2)) * u.m}, "curve has the unit m, which is none of 'flux'"),
        ({"other": make_profile(5)}, "other has 5 bins and 2 energy groups, the profile 6"),
        ({"other": make_profile(name="region-index")}, "other has other bins; .* same regions"),
        ({"other": make_profile(6, 1)}, "other has 6 bins and 1 energy groups"),
        (
            {"other": make_profile(energy_edges=[(0.01, 0.1), (0.1, 1)])},
            "other has other energy groups",
        ),
        ({"curve": np.ones((6, 2)), "sed_type": "foo"}, "sed_type must be one of dnde, flux"),
        ({"curve": np.ones((6, 2)), "axes": [1]}, "axes must be two, for the points"),
        ({"curve": make_profile(5)}, "curve has 5 bins and 2 energy groups, the profile 6"),
        ({"curve": make_profile(name="region-index")}, "curve has other bins; .* same regions"),
        ({"curve": make_profile(6, 1), "group": 0}, "curve has 6 bins and 1 energy groups"),
        (
            {"curve": make_profile(energy_edges=[(0.01, 0.1), (0.1, 1)])},
            "curve has other energy groups",
        ),
        (
            {"curve": make_profile(reference={k: 2 * REF for k in REF_NAMES}), "sed_type": "norm"},
            "curve has norms of another reference spectrum; .*sed_type='flux'",
        ),
        (
            {"other": make_profile(reference={k: 2 * REF for k in REF_NAMES}), "sed_type": "norm"},
            "other has norms of another reference spectrum",
        ),
        (
            {"curve": np.ones((6, 2)), "other_curve": np.ones(6)},
            "other_curve is the curve of the other profile; give",
        ),
        (
            {"other": make_profile(), "curve": make_profile(), "other_curve": make_profile(5)},
            "other_curve has 5 bins",
        ),
        ({"curve": MODEL}, r"curve is a PowerLawSpectralModel; give .*expected_dataset"),
    ],
)
def test_comparison_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        plot_comparison(make_profile(), **kwargs)
    assert not plt.get_fignums()


# parameters


def test_parameter():
    profile = make_profile()
    _, ax = plt.subplots()
    assert profile.plot_parameter(ax=ax) is ax
    assert ax.get_xlabel() == "Projected distance [deg]" and ax.get_ylabel() == "Spectral index"
    assert legend_texts(ax) == ["Reference", "10 - 100 GeV", "100 GeV - 2 TeV"]
    for k, points in enumerate(series(ax)):
        np.testing.assert_allclose(points[:, 1], profile.quantities["index"][:, k])
    (line,) = (li for li in ax.lines if li.get_label() == "Reference")
    np.testing.assert_allclose(line.get_ydata(), 2.3)
    ax = plot_parameter(profile, label="mine", color="k", marker="s")
    assert "mine, 10 - 100 GeV" in legend_texts(ax)
    assert ax.containers[-1].lines[0].get_marker() == "s"


def test_reference_of_each_bin():
    models = [PowerLawSpectralModel(index=2 + k / 10) for k in range(3)]
    profile = make_profile(3, 1, reference_models=models, reference_model=models[0])
    ax = plot_parameter(profile)
    (line,) = (li for li in ax.lines if li.get_label() == "Reference")
    np.testing.assert_allclose(line.get_ydata()[::3], [2, 2.1, 2.2])


def test_bins_without_the_parameter_are_left_out():
    base = make_profile(6, 1)
    success = np.ones((6, 1), dtype=bool)
    success[4] = False
    index = without(base.quantities["index"], [0])
    index_err = without(base.quantities["index_err"], [2])
    ax = plot_parameter(make_profile(6, 1, index=index, index_err=index_err, success=success))
    np.testing.assert_allclose(series(ax)[0][:, 0], base.axis.ref[[1, 3, 5]])


def test_huge_errors_of_a_parameter():
    profile = make_profile(8, 1)
    profile.quantities["index"][5], profile.quantities["index_err"][5] = 60.0, 15.0
    ax = plot_parameter(profile)
    assert ax.get_ylim()[1] < 5
    assert hidden(ax) == {"^": [profile.axis.ref[5]]}


def test_parameter_errors():
    for plot in (plot_parameter, FluxProfile.plot_parameter):
        with pytest.raises(ValueError, match=r"beta.*free_spectral_parameters"):
            plot(make_profile(), "beta")
        with pytest.raises(ValueError, match=r"index.*free_index=True"):
            plot(make_profile(index=None, index_err=None))
    assert not plt.get_fignums()


def test_groups_without_the_parameter_have_no_entry():
    profile = make_profile()
    profile.quantities["index_err"][:, 1] = np.nan
    assert legend_texts(plot_parameter(profile)) == ["Reference", "10 - 100 GeV"]


def test_residuals_are_in_single_standard_deviations():
    profile = make_profile(6, 1)
    double = FluxProfile(
        {"norm": profile.norm, "norm_err": 2 * profile.norm_err},
        **{name: getattr(profile, name) for name in ("axis", "energy_edges", "reference_model")},
        n_sigma=2,
    )
    drawn = [
        series(plot_comparison(p, curve=np.ones(6), sed_type="norm")[1])[0]
        for p in (profile, double)
    ]
    np.testing.assert_allclose(drawn[0], drawn[1])


def test_a_profile_with_nothing_to_show():
    norm = np.full((3, 1), np.nan)
    profile = make_profile(3, 1, norm=norm, index=norm, index_err=norm)
    ax, _ = plot_comparison(profile, curve=np.ones(3) * REF[0])
    assert not series(ax) and not series(plot_parameter(profile))


def test_plot_draws_another_profile_and_a_curve():
    profile, other = make_profile(n_groups=1), make_profile(n_groups=1, seed=1)
    ax, residual = profile.plot(sed_type="flux", other=other)
    assert ax is not residual
    assert ax.get_shared_x_axes().joined(ax, residual)
    curve = np.full(len(profile.axis.ref), float(np.mean(profile.flux.value)))
    assert len(profile.plot(sed_type="flux", curve=curve)) == 2
    with pytest.raises(ValueError, match="axes="):
        profile.plot(ax=ax, other=other)
