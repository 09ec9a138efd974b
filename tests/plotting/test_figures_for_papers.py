"""Units, axes, series, limits and legends of figures that go into a paper."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from scipy.stats import chi2

from jaxprof.likelihood.data import Status
from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.plotting import (
    plot_comparison,
    plot_correlation,
    plot_profile,
    plot_quantity,
    plot_regions,
)
from jaxprof.plotting.options import COLORS
from jaxprof.plotting.quantity import poisson_errors
from jaxprof.profile import FluxProfile
from jaxprof.sky import WcsGeom
from jaxprof.sky.regions import (
    ProfileAxis,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
    profile_axis,
)

EDGES = np.array([[0.01, 0.1], [0.1, 1.0]])


@pytest.fixture(autouse=True)
def closed_figures():
    plt.close("all")
    yield
    plt.close("all")


def line_of_boxes(n=5):
    geom = WcsGeom.create(SkyCoord(0, 0, unit="deg", frame="galactic"), binsz=0.1, npix=(100, 40))
    ends = SkyCoord([2, 358], [0.5, -0.5], unit="deg", frame="galactic")
    return make_orthogonal_rectangle_sky_regions(ends[0], ends[1], geom, "0.4 deg", n)


def profile_of(regions, norm=None, edges=EDGES, **more):
    axis = profile_axis(regions)
    shape = (len(axis), len(edges))
    norm = np.linspace(1, 2, np.prod(shape)).reshape(shape) if norm is None else norm
    quantities = {
        "norm": norm,
        "norm_err": np.full(shape, 0.1),
        "norm_ul": norm + 0.2,
        "ts": np.full(shape, 9.0),
        "solid_angle": np.linspace(1, 2, len(axis)) * 1e-4,
        **more,
    }
    return FluxProfile(
        {k: v for k, v in quantities.items() if v is not None},
        axis=axis,
        energy_edges=edges,
        reference_model=PowerLawSpectralModel(),
        regions=regions,
    )


def drawn(ax):
    """Values of the points of each series."""
    return [c.lines[0].get_xydata() for c in ax.containers if c.lines[0] is not None]


def assert_legend_is_clear(ax):
    ax.figure.draw_without_rendering()
    box = ax.get_legend().get_window_extent()
    for points in drawn(ax):
        assert box.count_contains(ax.transData.transform(points)) == 0
    for line in ax.lines:
        if line.get_gid() == "obstacles" and len(line.get_xydata()):
            assert box.count_contains(ax.transData.transform(line.get_xydata())) == 0


@pytest.mark.parametrize("how", ["option", "axis", "both"])
def test_units(how):
    p = profile_of(line_of_boxes())
    ax = plt.figure().add_subplot()
    if how != "option":
        ax.yaxis.set_units(u.Unit("erg cm-2 s-1" if how == "axis" else "GeV cm-2 s-1"))
    plot_profile(p, ax=ax, sed_type="e2dnde", unit=None if how == "axis" else "erg cm-2 s-1")
    assert r"\mathrm{erg\,cm^{-2}\,s^{-1}}" in ax.get_ylabel()
    expected = p.e2dnde.to_value("erg cm-2 s-1")
    for group, points in enumerate(drawn(ax)):
        np.testing.assert_allclose(points[:, 1], expected[:, group], rtol=1e-12)
    if how == "option":  # what is drawn later is converted, too
        plot_profile(p, ax=ax, sed_type="e2dnde")
        np.testing.assert_allclose(drawn(ax)[-1][:, 1], expected[:, 1], rtol=1e-12)
    with pytest.raises(ValueError, match="'m', but e2dnde is in"):
        plot_profile(p, sed_type="e2dnde", unit="m")


def vertices(ax):
    """Vertices on the screen of all that is drawn in units of the data."""
    found = [line.get_transform().transform(line.get_xydata()) for line in ax.lines]
    for collection in ax.collections:
        paths = [path.vertices for path in collection.get_paths()]
        found += [ax.transData.transform(path) for path in paths]
    found = np.concatenate(found)
    return found[found[:, 1] > -1e4]  # below there is what a log axis has no position for


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_units_of_an_axis_that_are_set_afterwards(scale):
    """Points, errors, limits, curves of the user, their limits and the label: all is converted."""
    norm = np.linspace(-0.5, 2, 10).reshape(5, 2)
    ts, area = np.linspace(0, 20, 10).reshape(5, 2), "erg m-2 s-1"
    p = profile_of(line_of_boxes(), norm, ts=ts, norm_errn=np.full((5, 2), 0.2))
    figures = []
    for unit in (None, area):
        ax = plt.figure().add_subplot()
        plot_profile(p, ax=ax, sed_type="eflux", unit=unit)
        factor = 1 if unit is None else u.Unit("TeV cm-2 s-1").to(unit)
        ax.axhline(factor * 1e-12)
        ax.fill_between([0, 1], factor * 1e-12, factor * 2e-12)
        ax.set_yscale(scale)
        figures.append(ax)
    converted, ax = figures
    before = vertices(converted)
    converted.yaxis.set_units(area)
    converted.xaxis.set_units("arcmin")
    np.testing.assert_allclose(vertices(converted), before, atol=1e-6)
    np.testing.assert_allclose(converted.get_ylim(), ax.get_ylim(), rtol=1e-9)
    assert converted.get_ylabel() == ax.get_ylabel()
    assert converted.get_xlabel() == "Projected distance [arcmin]"
    np.testing.assert_allclose(converted.get_xlim(), 60 * np.array(ax.get_xlim()), rtol=1e-9)
    # What is drawn later fits in, in its own unit and in another one, which all have then.
    plot_profile(p, ax=converted, sed_type="eflux", color="k")
    plot_profile(p, ax=converted, sed_type="eflux", unit="TeV cm-2 s-1")
    lines = [points[:, 1] for points in drawn(converted)]
    for group in (0, 1):
        np.testing.assert_allclose(lines[group], lines[group + 2], rtol=1e-12)
        np.testing.assert_allclose(lines[group], lines[group + 4], rtol=1e-12)
    assert "TeV" in converted.get_ylabel()
    with pytest.raises(ValueError, match="drawn in 'TeV / .* does not convert to 'm'"):
        converted.yaxis.set_units("m")
    converted.clear()
    plot_profile(p, ax=converted, sed_type="flux")
    converted.yaxis.set_units("m-2 s-1")
    np.testing.assert_allclose(drawn(converted)[1][:, 1], 1e4 * lines_of(p)[1], rtol=1e-12)


def lines_of(profile):
    """Fluxes that are drawn as points, by group."""
    flux = profile.flux.to_value("cm-2 s-1")
    return [flux[~profile.is_ul[:, k], k] for k in (0, 1)]


def test_spectra_of_a_profile_and_a_model_share_their_axes():
    p = profile_of(line_of_boxes())
    ax = p.plot(axis_name="energy", sed_type="e2dnde")
    unit = ax.get_xlabel()
    p.reference_model.plot([10, 1000] * u.GeV, ax=ax, sed_type="e2dnde", unit="erg cm-2 s-1")
    energy, curve = ax.lines[-1].get_xydata().T
    np.testing.assert_allclose(energy[[0, -1]], [0.01, 1])
    assert ax.get_xlabel() == unit == "Energy [TeV]" and "erg" in ax.get_ylabel()
    np.testing.assert_allclose(curve[0], u.Unit("TeV").to("erg") * 1e-12, rtol=1e-12)
    np.testing.assert_allclose(drawn(ax)[0][:, 1], p.e2dnde[0].to_value("erg cm-2 s-1"))


def test_limits_of_many_spectra_stand_side_by_side():
    """Within their groups, in the order of the bins, with short bars; points stay at the energy."""
    p = profile_of(line_of_boxes())
    p.is_ul = np.ones_like(p.is_ul)
    p.is_ul[0, 0] = False
    ax = plot_profile(p, axis_name="energy", sed_type="dnde")
    arrows = [line.get_xdata() for line in ax.lines if line.get_gid() == "upper-limits"]
    first = np.array([x[0] for x in arrows[1:]])
    low, high = p.energy_edges[0]
    assert len(first) >= 4 and np.all(np.diff(first) > 0) and low < first[0] < first[-1] < high
    np.testing.assert_allclose(drawn(ax)[0][:, 0], np.sqrt(low * high))
    few = p.slice_by_idx({p.axis.name: [0, 1, 2]})
    ax = plot_profile(few, ax=plt.figure().add_subplot(), axis_name="energy", sed_type="dnde")
    arrows = [line.get_xdata() for line in ax.lines if line.get_gid() == "upper-limits"]
    np.testing.assert_allclose([x[-1] for x in arrows], np.sqrt(p.energy_edges[-1].prod()))


def test_an_empty_figure_says_why():
    status = np.full((5, 2), Status.FULLY_MASKED)
    p = profile_of(line_of_boxes(), np.full((5, 2), np.nan), status=status)
    for name in ("projected-distance", "energy"):
        ax = plot_profile(p, ax=plt.figure().add_subplot(), axis_name=name)
        said = [text.get_text() for text in ax.texts if text.get_gid() == "no-values"]
        assert said == ["No bin has a value: fully masked"]
    p = profile_of(line_of_boxes(), status=status * (np.arange(10).reshape(5, 2) > 0))
    ax = plot_profile(p, ax=plt.figure().add_subplot())
    assert "no-values" not in [text.get_gid() for text in ax.texts]


def test_energy_power_and_the_energy_of_a_differential_flux():
    p = profile_of(line_of_boxes())
    ax = plot_profile(p, energy_power=2, unit="erg cm-2 s-1")
    expected = p.e2dnde.to_value("erg cm-2 s-1")
    np.testing.assert_allclose(drawn(ax)[1][:, 1], expected[:, 1], rtol=1e-12)
    assert ax.get_ylabel().startswith("$E^{2}") and "at 316 GeV" in ax.get_legend().texts[1]._text
    one = plot_profile(p.slice_by_idx({"energy": [0]}), sed_type="dnde")
    assert "at 31.6 GeV [" in one.get_ylabel()


def test_surface_brightness_is_a_sed_type():
    p = profile_of(line_of_boxes())
    ax = plot_profile(p, sed_type="surface_brightness", unit="cm-2 s-1 deg-2")
    expected = (p.flux / p.solid_angle[:, np.newaxis]).to_value("cm-2 s-1 deg-2")
    np.testing.assert_allclose(drawn(ax)[0][:, 1], expected[:, 0], rtol=1e-12)
    table = p.to_table("surface_brightness")
    np.testing.assert_allclose(
        table["surface_brightness_ul"].quantity.to_value("cm-2 s-1 sr-1"),
        p.surface_brightness("flux", "ul").to_value("cm-2 s-1 sr-1"),
        rtol=1e-12,
    )
    back = FluxProfile.from_table(table)
    np.testing.assert_allclose(back.norm, p.norm, rtol=1e-12)
    with pytest.raises(ValueError, match="needs 'solid_angle'"):
        profile_of(line_of_boxes(), solid_angle=None).to_table("surface_brightness")


def test_longitudes_increase_to_the_left_and_do_not_jump():
    p = profile_of(line_of_boxes())
    ax = plot_profile(p, sed_type="flux", axis_name="longitude")
    x = drawn(ax)[0][:, 0]
    lon = SkyCoord([r.center for r in p.regions]).galactic.l.wrap_at("180d").deg
    np.testing.assert_allclose(x, lon, atol=1e-9)
    assert ax.xaxis_inverted() and ax.get_xlabel() == "Galactic longitude [deg]"
    arc = p.with_axis("longitude", unit="arcmin")
    np.testing.assert_allclose(arc.axis.ref, 60 * lon, atol=1e-7)
    assert arc.to_table()["x_ref"].unit == u.arcmin
    again = FluxProfile.from_table(arc.to_table())
    assert again.axis == arc.axis and again.axis.unit == "arcmin"
    path = p.with_axis("path").axis
    np.testing.assert_allclose(path.ref, p.axis.ref, atol=1e-3)  # of a straight line
    with pytest.raises(ValueError, match="valid are 'projected-distance', 'longitude'"):
        p.with_axis("depth")
    with pytest.raises(ValueError, match="axis has 2 bins, the profile 5"):
        p.with_axis([0, 1, 2] * u.day)


def test_an_axis_of_times():
    p = profile_of(line_of_boxes())
    own = ProfileAxis.from_edges(np.arange(6) * 2 * u.day, name="time", interp="log")
    q = p.with_axis(own)
    ax = plot_profile(q, sed_type="flux")
    assert ax.get_xlabel() == "Time [d]" and ax.get_xscale() == "log"
    assert q.slice_by_coord({"time": slice("3.5 d", "8 d")}).shape == (2, 2)
    np.testing.assert_allclose(own.edges[1], [2, 4])


def test_a_circle_and_its_annuli_are_a_radial_axis():
    center = SkyCoord(0, 0, unit="deg", frame="galactic")
    edges = [0, 0.1, 0.3, 0.9] * u.deg
    axis = profile_axis(make_concentric_annulus_sky_regions(center, edges=edges))
    assert axis.name == "projected-distance"
    np.testing.assert_allclose(axis.edges, [[0, 0.1], [0.1, 0.3], [0.3, 0.9]])
    log = profile_axis(make_concentric_annulus_sky_regions(center, "2 deg", "0 deg", spacing="log"))
    np.testing.assert_allclose(log.max[1:] ** 2 / log.max[:-1] ** 2, 2.0)
    assert log.min[0] == 0 and np.isclose(log.max[-1], 2)
    log = profile_axis(
        make_concentric_annulus_sky_regions(center, "2 deg", "0.2 deg", 3, spacing="log")
    )
    np.testing.assert_allclose(log.max, [0.2 * 10**0.5, 2.0])


def test_series_differ_in_grey_and_by_marker():
    p = profile_of(line_of_boxes())
    ax = plot_profile(p, sed_type="flux", offset=0.1)
    first, second = (c.lines[0] for c in ax.containers if c.lines[0] is not None)
    assert first.get_marker() != second.get_marker()
    weights = [0.2126, 0.7152, 0.0722]
    grey = [np.dot(weights, to_rgb(color)) for color in COLORS[:3]]
    assert np.min(np.abs(np.diff(np.sort(grey)))) > 0.15
    width = p.axis.max - p.axis.min
    apart = second.get_xdata() - first.get_xdata()
    np.testing.assert_allclose(apart, 0.1 * width, rtol=1e-9)


def test_panels_have_a_group_each():
    p = profile_of(line_of_boxes())
    axes = plot_profile(p, sed_type="flux", groups="panels")
    for group, ax in enumerate(axes):
        (points,) = drawn(ax)
        np.testing.assert_allclose(points[:, 1], p.flux.value[:, group])
    with pytest.raises(ValueError, match="needs 2, one a group"):
        plot_profile(p, groups="panels", ax=plt.figure().add_subplot())
    with pytest.raises(ValueError, match="valid are 'together' and 'panels'"):
        plot_profile(p, groups="rows")


def test_comparisons_show_limits_by_one_rule():
    regions = line_of_boxes()
    mine = profile_of(regions, ts=np.full((5, 2), 9.0))
    weak = profile_of(regions, ts=np.full((5, 2), 1.0))
    weak.sqrt_ts_threshold_ul = 0.5
    ax, _ = plot_comparison(mine, weak, sed_type="flux", group=0)
    assert sum(len(li.get_xdata()) for li in ax.lines if li.get_gid() == "upper-limits") == 5
    without = profile_of(regions, ts=np.full((5, 2), 1.0), norm_ul=None)
    ax, _ = plot_comparison(weak, without, sed_type="flux", group=0)
    assert not any(line.get_gid() == "upper-limits" for line in ax.lines)
    ax, below = plot_comparison(mine, [mine, mine], other_label=["a", "b"], group=0, unit="m-2 s-1")
    assert [text.get_text() for text in ax.get_legend().texts] == ["Profile", "a", "b"]
    np.testing.assert_allclose(drawn(ax)[0][:, 1], mine.flux[:, 0].to_value("m-2 s-1"))
    assert all(np.allclose(points[:, 1], 0) for points in drawn(below))


def test_observed_counts_have_the_errors_of_poisson():
    n = np.array([0.0, 1.0, 9.0, 400.0])
    low, high = poisson_errors(n)
    tail = 0.15865525393145707
    np.testing.assert_allclose(n + high, 0.5 * chi2.ppf(1 - tail, 2 * n + 2), rtol=1e-9)
    np.testing.assert_allclose((n - low)[1:], 0.5 * chi2.ppf(tail, 2 * n[1:]), rtol=1e-9)
    assert low[0] == 0 and np.isclose(high[0], 1.841, atol=1e-3)
    p = profile_of(line_of_boxes(), counts=np.full((5, 2), 9.0))
    bars = plot_quantity(p, "counts").containers[0].lines[2]
    assert len(bars) == 2  # horizontal and vertical


def test_unknown_options_name_the_valid_ones():
    p = profile_of(line_of_boxes())
    with pytest.raises(TypeError, match="'colour' .did you mean 'color'.*valid are ax, sed_type"):
        p.plot(colour="r")
    with pytest.raises(TypeError, match="plot_quantity has no option 'foo'.*per_dataset"):
        p["ts"].plot(foo=1)


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_legends_cover_no_data(width):
    rng = np.random.default_rng(0)
    norm = rng.uniform(0.5, 9, (40, 2))
    axis = ProfileAxis.from_edges(np.linspace(0, 4, 41) * u.deg, name="projected-distance")
    p = FluxProfile(
        {"norm": norm, "norm_err": 0.3 * norm, "ts": 9 * np.ones((40, 2))},
        axis=axis,
        energy_edges=EDGES,
        reference_model=PowerLawSpectralModel(),
    )
    ax = plt.figure(figsize=(width, 0.7 * width), layout="constrained").add_subplot()
    plot_profile(p, ax=ax, sed_type="flux")
    assert_legend_is_clear(ax)


def test_matrices_of_uneven_bins_are_drawn_in_one_size():
    low = np.geomspace(0.01, 1, 6)
    p = FluxProfile(
        {"norm": np.ones((5, 1)), "norm_covariance": np.eye(5)[:, np.newaxis]},
        axis=ProfileAxis("projected-distance", low[:-1], low[1:], 0.5 * (low[1:] + low[:-1])),
        energy_edges=EDGES[:1],
        reference_model=PowerLawSpectralModel(),
    )
    ax = plot_correlation(p, ax=plt.figure(figsize=(3.4, 3.0)).add_subplot())
    assert ax.get_xlim() == (-0.5, 4.5)
    texts = [text for text in ax.texts if text.get_gid() == "numbers"]
    assert all(text.get_fontsize() >= 4.5 for text in texts)


def test_marks_of_misfits_tell_the_energy_group():
    """In the colours of the groups that are shown, and none of groups that are not."""
    misfit = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [0, 0]], bool)
    profile = profile_of(line_of_boxes(), misfit=misfit)

    def marks(ax):
        found = [line for line in ax.lines if line.get_gid() == "misfit"]
        return {to_rgb(line.get_color()): line.get_xdata().tolist() for line in found}

    at = profile.axis.ref
    expected = {to_rgb(COLORS[k]): at[misfit[:, k]].tolist() for k in range(2)}
    ax = plot_profile(profile)
    assert marks(ax) == expected
    heights = [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "misfit"]
    assert heights[0] > heights[1]  # none hides the other
    entries = [text.get_text() for text in ax.get_legend().texts]
    assert entries.count("Not described by the model") == 1
    plt.figure()
    assert marks(plot_comparison(profile, curve=profile.flux)[0]) == expected
    plt.figure()
    ax, _ = plot_comparison(profile, curve=profile.flux, group=1)
    assert marks(ax) == {to_rgb("0.3"): at[misfit[:, 1]].tolist()}


def assert_label_fits(axis):
    axis.axes.figure.draw_without_rendering()
    label, box = axis.label.get_window_extent(), axis.axes.get_window_extent()
    which = "width" if axis.axis_name == "x" else "height"
    assert getattr(label, which) <= 1.35 * getattr(box, which)  # it was cut off at 1.5 and more


def test_groups_that_overlap_stand_side_by_side():
    """Where they do not, points are at the middle of their bins, as they are with offset=0."""
    regions = line_of_boxes()
    flat = np.array([[1.0, 10.2]] * 5)  # equal fluxes: the reference falls as E^-1
    near, far = profile_of(regions, flat), profile_of(regions, flat * [1, 0.1])
    width = near.axis.max - near.axis.min
    flux = near.flux.value[0]
    far_flux = far.flux.value[0]
    assert abs(flux[1] / flux[0] - 1) < 0.3 and far_flux[1] / far_flux[0] < 0.2

    def at(ax):
        return [points[:, 0] - near.axis.ref for points in drawn(ax)]

    first, second = at(plot_profile(near, ax=plt.figure().add_subplot(), sed_type="flux"))
    np.testing.assert_allclose(second - first, 0.35 * width, rtol=1e-9)
    np.testing.assert_allclose(first, -second, rtol=1e-9)
    for ax in (
        plot_profile(far, ax=plt.figure().add_subplot(), sed_type="flux"),
        plot_profile(near, ax=plt.figure().add_subplot(), sed_type="flux", offset=0),
    ):
        np.testing.assert_allclose(at(ax), 0, atol=1e-12)
    # A differential flux belongs to its energy.
    ax = plot_profile(near, axis_name="energy", sed_type="dnde", offset=0.1)
    energy = np.sqrt(EDGES.prod(axis=1))
    np.testing.assert_allclose(drawn(ax)[0][:, 0], energy * 10 ** (-0.1 * 2), rtol=1e-9)
    ax = plot_profile(near, ax=plt.figure().add_subplot(), axis_name="energy", sed_type="dnde")
    np.testing.assert_allclose(drawn(ax)[3][:, 0], energy, rtol=1e-9)


def test_a_legend_moves_when_the_scale_or_the_limits_do():
    norm = np.concatenate([np.full(6, 0.03), np.geomspace(0.03, 9, 6)[::-1]])
    axis = ProfileAxis.from_edges(np.arange(13) * u.deg, name="projected-distance")
    p = FluxProfile(
        {"norm": norm[:, None], "norm_err": 0.1 * norm[:, None], "ts": np.full((12, 1), 9.0)},
        axis=axis,
        energy_edges=EDGES[:1],
        reference_model=PowerLawSpectralModel(),
    )
    ax = plot_profile(p, sed_type="norm", label="a series of points")
    for change in (
        lambda: ax.set_yscale("linear"),
        lambda: ax.set_yscale("log"),
        lambda: ax.set_ylim(0.001, 10),
        lambda: ax.set(xlim=(5, 13), ylim=(0.02, 12)),
    ):
        change()
        assert_legend_is_clear(ax)
    ax.legend(loc="lower left")  # the user's own stays
    ax.set_yscale("linear")
    ax.figure.draw_without_rendering()
    assert ax.get_legend()._loc == 3


def test_panels_share_one_legend():
    axes = plot_profile(profile_of(line_of_boxes(), ts=np.ones((5, 2))), groups="panels")
    assert axes[0].get_legend() is not None and axes[1].get_legend() is None
    assert [ax.get_title("right") for ax in axes] == ["10 - 100 GeV", "100 GeV - 1 TeV"]


def test_arrows_of_limits_are_filled_as_the_markers_are():
    """Grey print tells limits of neighbouring groups by it."""
    ax = plot_profile(profile_of(line_of_boxes(), ts=np.ones((5, 2))), sed_type="flux")
    heads = [line for line in ax.lines if line.get_gid() == "upper-limits"]
    assert [line.get_markerfacecolor() for line in heads] == [COLORS[0], "white"]


@pytest.mark.parametrize("figure", ["leakage", "residuals", "brightness"])
def test_labels_fit_into_a_narrow_figure(figure):
    matrix = np.eye(5)[:, np.newaxis]
    p = profile_of(line_of_boxes(), edges=EDGES[:1], norm_covariance=matrix, response=matrix)
    size = {"figsize": (3.4, 2.4), "layout": "constrained"}
    if figure == "residuals":
        plt.figure(**size)
        axes = plot_comparison(p, curve=p.flux, sed_type="flux")
    elif figure == "leakage":
        ax = p.plot_leakage(ax=plt.figure(**size).add_subplot())
        axes = [ax, ax.figure.axes[1]]
    else:
        axes = [plot_profile(p, ax=plt.figure(**size).add_subplot(), sed_type="surface_brightness")]
    for ax in axes:
        assert_label_fits(ax.yaxis)
        assert_label_fits(ax.xaxis)


def test_axes_along_which_regions_have_no_extent_are_refused():
    center = SkyCoord(0, 0, unit="deg", frame="galactic")
    rings = profile_of(make_concentric_annulus_sky_regions(center, "1 deg", nbin=5))
    for kind in ("path", "longitude"):
        with pytest.raises(ValueError, match=f"'{kind}' has no extent.*'projected-distance'"):
            rings.plot(axis_name=kind)
    with pytest.raises(ValueError, match="valid are projected-distance.*with_axis"):
        rings.plot(axis_name="time")


def test_unknown_options_of_all_figures_name_the_valid_ones():
    p = profile_of(line_of_boxes(), norm_covariance=np.ones((5, 2, 5)))
    with pytest.raises(TypeError, match="plot_correlation has no option 'vmni'.*'vmin'.*annotate"):
        p.plot_correlation(vmni=0)
    with pytest.raises(TypeError, match="plot_regions has no option 'colour'.*edgecolor"):
        plot_regions(p.regions, colour="r")
    with pytest.raises(TypeError, match="plot_spectral_model has no option 'foo'.*energy_power"):
        p.reference_model.plot([1, 10] * u.TeV, foo=1)


def test_names_are_in_legends():
    """Those of spectra, if all bins have one; on axes if they are asked for."""
    regions = line_of_boxes(3)
    for region, name in zip(regions, ["Sgr A*", "G0.9+0.1", "a third"], strict=True):
        region.meta["text"] = name
    p = profile_of(regions, np.ones((3, 2)))
    names = [str(name) for name in p.quantities["name"]]

    def ticks(profile, **options):
        ax = plot_profile(profile, ax=plt.figure().add_subplot(), **options)
        return [label.get_text() for label in ax.get_xticklabels()]

    assert ticks(p, axis_name="region-index", show_names=True) == names
    assert not set(names) & set(ticks(p, axis_name="region-index"))
    assert not set(names) & set(ticks(p))
    ax = plot_profile(p, ax=plt.figure().add_subplot(), axis_name="energy")
    assert [text.get_text() for text in ax.get_legend().get_texts()][:3] == names


def test_legends_cover_no_data_after_the_layout():
    """Names at the ticks take height from the axes when the figure is laid out."""
    norm = np.where(np.arange(13) == 6, 16.0, 1.0)[:, None] * np.ones(2)
    regions = line_of_boxes(13)
    for k, region in enumerate(regions):
        region.meta["text"] = f"a long name {k}"
    p = profile_of(regions, norm).slice_by_idx({"energy": [0]})
    ax = plt.figure(figsize=(3.4, 2.5), layout="constrained").add_subplot()
    plot_profile(p, ax=ax, sed_type="flux", show_names=True)
    assert_legend_is_clear(ax)


def test_bins_that_failed_are_no_points():
    """A joint fit has norms of bins that no pixel in use lies in: of their leakage."""
    regions = line_of_boxes(4)
    norm = np.array([1.0, -50.0, 2.0, 1.5])[:, None] * np.ones(2)
    status = np.zeros((4, 2), int)
    status[1] = Status.FULLY_MASKED
    p = profile_of(regions, norm, status=status)
    ax = plot_profile(p, ax=plt.figure().add_subplot(), sed_type="norm")
    for points in drawn(ax):
        np.testing.assert_array_equal(np.isfinite(points[:, 1]).sum(), 3)
        assert np.nanmin(points[:, 1]) > 0
    cells = list(p.to_table("likelihood", style="paper", columns=["norm"]).columns[0])
    assert [cell == "-" for cell in cells] == [False, False, True, True, False, False, False, False]


def test_bins_seen_in_part_are_marked():
    """In the figure with a legend entry, and by their coverage in tables and summaries."""
    coverage = np.array([[0.5, 0.5], [1, 1], [0.95, 1], [0, 0], [1, 0.8]])
    success = coverage > 0
    profile = profile_of(line_of_boxes(), coverage=coverage, success=success)
    ax = plot_profile(profile)
    (marks,) = (line for line in ax.lines if line.get_gid() == "partly-seen")
    assert marks.get_xdata().tolist() == profile.axis.ref[[0, 4]].tolist()
    entries = [text.get_text() for text in ax.get_legend().texts]
    assert entries[-1] == "Seen in part (coverage below 0.9)"
    plt.figure()
    ax, _ = plot_comparison(profile, curve=profile.flux, group=0)
    (marks,) = (line for line in ax.lines if line.get_gid() == "partly-seen")
    assert marks.get_xdata().tolist() == profile.axis.ref[[0]].tolist()
    paper = profile.to_table(style="paper")
    assert paper["Coverage"][:2].tolist() == ["0.5", "0.5"]
    assert "coverage" in str(profile.to_table()).split("\n")[0]
    assert "seen in part           : bins 0, 4 (" in str(profile)
    whole = profile_of(line_of_boxes(), coverage=np.ones((5, 2)))
    assert not any(line.get_gid() == "partly-seen" for line in plot_profile(whole).lines)
    assert "Coverage" not in whole.to_table(style="paper").colnames
    assert "seen in part" not in str(whole)


def test_open_markers_of_residuals_have_an_entry():
    is_ul = np.array([[True, False]] * 5)
    profile = profile_of(line_of_boxes(), is_ul=is_ul)
    entry = "Below: value of a bin with a limit"
    for group, expected in ((0, 1), (1, 0)):
        plt.figure()
        ax, residual = plot_comparison(profile, curve=profile.flux, group=group)
        entries = [text.get_text() for text in ax.get_legend().texts]
        assert entries.count(entry) == expected
        assert residual.get_ylabel().replace("\n", " ") == "Residual / error"
