import copy
import pickle

import astropy.units as u
import jax
import numpy as np
import pytest
from profile_factory import EDGES, assert_same_profile, make_data, make_profile
from scipy.optimize import brentq

from jaxprof import core
from jaxprof.likelihood.data import Status
from jaxprof.models.spectral import LogParabolaSpectralModel, PowerLawSpectralModel
from jaxprof.profile import FluxProfile, limits
from jaxprof.sky.regions import ProfileAxis

SEDS = ("dnde", "e2dnde", "flux", "eflux")


@pytest.fixture(scope="module")
def profile():
    return make_profile()


def one_bin(**quantities):
    axis = ProfileAxis("projected-distance", np.array([0.0]), np.array([1.0]), np.array([0.5]))
    stored = {name: np.array([[value]]) for name, value in quantities.items()}
    return FluxProfile(
        stored,
        axis=axis,
        energy_edges=[[1.0, 10.0]],
        reference_model=PowerLawSpectralModel(index=2, amplitude=1e-12),
    )


def test_reference_fluxes_of_a_power_law():
    p = one_bin(norm=3.0)
    # 1e-12 E^-2 from 1 to 10 TeV
    np.testing.assert_allclose(p.dnde_ref.to_value("cm-2 s-1 TeV-1"), [1e-13], rtol=1e-14)
    np.testing.assert_allclose(p.e2dnde_ref.to_value("TeV cm-2 s-1"), [1e-12], rtol=1e-14)
    np.testing.assert_allclose(p.flux_ref.to_value("cm-2 s-1"), [0.9e-12], rtol=1e-14)
    np.testing.assert_allclose(p.eflux_ref.to_value("TeV cm-2 s-1"), [1e-12 * np.log(10)])
    np.testing.assert_allclose(p.flux.value, [[2.7e-12]], rtol=1e-14)
    assert p.flux.shape == (1, 1)


def test_reference_fluxes_are_float64_whatever_the_setting():
    with jax.enable_x64(False):
        p = one_bin(norm=3.0)
    np.testing.assert_allclose(p.dnde_ref.value, [1e-13], rtol=1e-14)


@pytest.mark.parametrize("sed", SEDS)
@pytest.mark.parametrize("suffix", ["", "_err", "_errn", "_errp", "_ul", "_sensitivity"])
def test_fluxes_are_norms_times_reference(profile, sed, suffix):
    got = getattr(profile, sed + suffix)
    assert isinstance(got, u.Quantity) and got.shape == (4, 2)
    ratio = (got / getattr(profile, f"{sed}_ref")).to_value("")
    np.testing.assert_allclose(ratio, getattr(profile, f"norm{suffix}"), rtol=1e-15)
    assert got.unit == getattr(profile, f"{sed}_ref").unit


def test_energies(profile):
    np.testing.assert_array_equal(profile.energy_min.to_value("TeV"), EDGES[:, 0])
    np.testing.assert_array_equal(profile.energy_max.to_value("TeV"), EDGES[:, 1])
    np.testing.assert_allclose(profile.energy_ref.to_value("TeV") ** 2, EDGES.prod(axis=1))


def test_sqrt_ts_and_is_ul():
    p = one_bin(norm=-2.0, ts=9.0)
    assert p.sqrt_ts == -3 and p.is_ul
    p = one_bin(norm=2.0, ts=9.0)
    assert p.sqrt_ts == 3 and not p.is_ul
    p.sqrt_ts_threshold_ul = 3.5
    assert p.is_ul
    assert one_bin(norm=2.0, ts=-1e-12).sqrt_ts == 0
    p = one_bin(norm=np.nan, ts=np.nan)
    assert np.isnan(p.sqrt_ts) and not p.is_ul


def test_status_of_real_fits(profile):
    assert profile.status[1, 1] == Status.ZERO_COUNTS and profile.success[1, 1]
    assert profile.status[2, 0] == Status.FULLY_MASKED and not profile.success[2, 0]
    assert not profile.is_ul[2, 0]
    assert np.isfinite(profile.norm_ul[1, 1])


def test_status_and_success_complete_each_other():
    assert one_bin(norm=1.0).status == Status.OK
    assert one_bin(norm=np.nan).status == Status.NOT_CONVERGED
    assert one_bin(norm=1.0, success=False).status == Status.NOT_CONVERGED
    assert one_bin(norm=1.0, status=Status.BOUNDARY).success


@pytest.mark.parametrize("n_datasets", [1, 2])
def test_excess_quantities(n_datasets):
    p = make_profile(n_datasets=n_datasets)
    ref = p.npred_excess_ref
    assert ref.shape == (4, 2) if n_datasets == 1 else (4, 2, n_datasets)
    for suffix in ("_err", "_errn", "_errp", "_ul"):
        norm = getattr(p, f"norm{suffix}")
        expected = ref * (norm if n_datasets == 1 else norm[..., None])
        np.testing.assert_array_equal(getattr(p, f"npred_excess{suffix}"), expected)
    np.testing.assert_allclose(p.npred_background[p.success], 7.125, rtol=1e-13)


def test_excess_reference_from_the_excess():
    p = one_bin(norm=4.0, npred_excess=2.0, norm_ul=6.0)
    assert p.npred_excess_ref == 0.5 and p.npred_excess_ul == 3.0
    assert np.isnan(one_bin(norm=0.0, npred_excess=0.0).npred_excess_ref)


def test_every_available_quantity_is_an_attribute_and_an_item(profile):
    names = profile.available_quantities
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(profile))
    assert {"norm", "flux_errp", "npred_background", "is_ul", "sqrt_ts", "ts_scan"} <= set(names)
    for name in names:
        value, item = getattr(profile, name), profile[name]
        if name == "surface_brightness":  # a method: there is that of other fluxes, too
            value = value()
            np.testing.assert_allclose(value, item.quantity, rtol=1e-14)
        else:
            np.testing.assert_array_equal(u.Quantity(value, item.unit), item.quantity)
        assert item.name == name and item.profile is profile


def test_what_is_not_there_is_an_error_that_lists_what_is():
    p = one_bin(norm=1.0)
    assert "flux_ul" not in p.available_quantities
    for name in ("flux_ul", "is_ul", "npred", "nonsense"):
        with pytest.raises(AttributeError, match=f"no '{name}'.*; available: .*norm.*dnde_ref"):
            getattr(p, name)
        with pytest.raises(KeyError, match="available: .*norm"):
            p[name]
    assert not hasattr(p, "__array__")
    hints = {
        "norm_errn": r"ask for selection_optional=\['errn-errp'\]",
        "is_ul": "'is_ul'; available",
    }
    for name, hint in hints.items():
        with pytest.raises(AttributeError, match=hint):
            getattr(p, name)


def test_ts_scan_is_never_negative(profile):
    good = profile.success
    assert profile.ts_scan[good].min() > -1e-9
    np.testing.assert_array_equal(profile["solid_angle"].data, profile.solid_angle.to_value("sr"))


def test_surface_brightness(profile):
    got = profile.surface_brightness("dnde", "err")
    assert got.unit == u.Unit("cm-2 s-1 TeV-1 sr-1")
    expected = profile.dnde_err.value / profile.solid_angle.value[:, None]
    np.testing.assert_allclose(got.value, expected, rtol=1e-15)
    assert profile.surface_brightness().unit == u.Unit("cm-2 s-1 sr-1")
    for args in (("norm",), ("flux", "nonsense"), ("flux", "ref"), ("likelihood",)):
        with pytest.raises(ValueError, match="valid are dnde"):
            profile.surface_brightness(*args)
    with pytest.raises(ValueError, match="needs 'solid_angle'"):
        one_bin(norm=1.0).surface_brightness()


def test_print(profile):
    text = str(profile)
    assert text.startswith("FluxProfile\n-----------\n")
    for words in (
        "axes                   : ['projected-distance', 'energy']",
        "shape                  : (4, 2)",
        "ref. model             : pl",
        "n_sigma_ul             : 2",
        "sqrt_ts_threshold_ul   : 2",
        "sed type init          : likelihood",
        "status                 : 6 ok, 1 zero counts, 1 fully masked",
    ):
        assert words in text
    assert repr(profile) == "<FluxProfile: 4 bins, 2 energy groups>"
    assert repr(profile["flux"]) == "<ProfileQuantity 'flux' [cm-2 s-1], shape (4, 2)>"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [3, 1]),
        ([0, -1], [0, 3]),
        (np.array([True, False, False, True]), [0, 3]),
    ],
)
def test_slices_of_bins(profile, selection, expected):
    part = profile.slice_by_idx({"projected-distance": selection})
    assert part.shape == (len(expected), 2)
    for name in profile.available_quantities:
        if not name.endswith("_ref") or name.startswith("npred"):
            whole = profile[name].data
            np.testing.assert_array_equal(part[name].data, whole[expected], err_msg=name)
    np.testing.assert_array_equal(part.axis.ref, profile.axis.ref[expected])
    assert part.regions == [profile.regions[i] for i in expected]
    np.testing.assert_array_equal(
        part.likelihood_data.counts, profile.likelihood_data.counts[expected]
    )
    assert profile.shape == (4, 2)


def test_slices_of_energy(profile):
    part = profile.slice_by_idx({"energy": slice(1, 2)})
    assert part.shape == (4, 1)
    np.testing.assert_array_equal(part.energy_edges, EDGES[1:])
    np.testing.assert_array_equal(part.flux_ul, profile.flux_ul[:, 1:])
    np.testing.assert_array_equal(part.stat_scan, profile.stat_scan[:, 1:])
    np.testing.assert_array_equal(part.solid_angle, profile.solid_angle)
    np.testing.assert_array_equal(part.eflux_ref, profile.eflux_ref[1:])
    both = profile.slice_by_idx({"energy": [1], "projected-distance": [2]})
    assert both.norm == profile.norm[2, 1]


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ({"energy": 1}, r"integer 1.*use slice\(1, 2\)"),
        ({"energy": np.int64(0)}, r"use slice\(0, 1\)"),
        ({"distance": slice(1)}, "valid are projected-distance, energy"),
        ({"energy": slice(2, 2)}, "selects nothing"),
        ({"energy": [5]}, "does not fit"),
        ({"energy": [True]}, "does not fit"),
        ({"energy": [0.5]}, "must be a slice"),
    ],
)
def test_bad_slices(profile, slices, message):
    with pytest.raises(ValueError, match=message):
        profile.slice_by_idx(slices)


def exact_upper_limit(data, index, norm, n_sigma):
    """Root of the plain cash difference, by scipy."""
    n, b, s = (
        np.asarray(getattr(data, name))[index][data.mask[index]]
        for name in ("counts", "background", "npred_ref")
    )

    def rise(x):
        def stat(x):
            mu = b + x * s
            mu = np.maximum(mu, 0)
            return 2 * np.sum(mu) - 2 * np.sum(n[n > 0] * np.log(mu[n > 0]))

        return stat(x) - stat(norm) - n_sigma**2

    return brentq(rise, norm, norm + 100, xtol=1e-13)


@pytest.mark.parametrize("x64", [True, False])
def test_recompute_ul_is_exact(profile, x64):
    with jax.enable_x64(x64):
        new = profile.recompute_ul(n_sigma_ul=3)
    assert new.n_sigma_ul == 3 and profile.n_sigma_ul == 2
    for index in np.ndindex(profile.shape):
        if not profile.success[index]:
            assert np.isnan(new.norm_ul[index])
            continue
        expected = exact_upper_limit(make_data(), index, profile.norm[index], 3)
        assert new.norm_ul[index] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(profile.recompute_ul(2).norm_ul, profile.norm_ul, rtol=1e-12)


def test_recompute_ul_of_joint_and_float32_data():
    # The same data twice: the statistic doubles, sqrt(2) times the significance.
    p = make_profile(likelihood_data=(make_data(), make_data()))
    np.testing.assert_allclose(p.recompute_ul(8**0.5).norm_ul, p.norm_ul, rtol=1e-10)
    small = core.ProfileData(
        **{k: v if v.dtype == bool else v.astype("f4") for k, v in vars(make_data()).items()}
    )
    # Solved in double precision, though the data have single precision.
    q = make_profile(likelihood_data=small)
    np.testing.assert_allclose(q.recompute_ul(2).norm_ul, q.norm_ul, rtol=1e-5)
    assert q.recompute_ul(2).norm_ul.dtype == np.float64


def test_recompute_ul_from_a_scan():
    p = make_profile(likelihood_data=None)
    exact = make_profile().recompute_ul(2.5).norm_ul
    new = p.recompute_ul(2.5)
    assert new.n_sigma_ul == 2.5
    regular = p.status == Status.OK
    np.testing.assert_allclose(new.norm_ul[regular], exact[regular], rtol=1e-5)
    # Without counts there may be a kink between two nodes, which are 0.25 apart.
    np.testing.assert_allclose(new.norm_ul, exact, atol=0.05)
    # A node next to the minimum must not bend the spline.
    p.quantities["norm_scan"] = p.norm_scan.copy()
    p.quantities["stat_scan"] = p.stat_scan.copy()
    k = int(np.searchsorted(p.norm_scan[0, 1], p.norm[0, 1]))
    p.quantities["norm_scan"][0, 1, k] = p.norm[0, 1] + 1e-9
    p.quantities["stat_scan"][0, 1, k] = p.stat[0, 1] - 1e-6
    np.testing.assert_allclose(p.recompute_ul(2.5).norm_ul[0, 1], exact[0, 1], rtol=1e-3)


def test_recompute_ul_says_what_it_needs():
    p = make_profile(likelihood_data=None)
    with pytest.raises(ValueError, match="scan does not reach the upper limit of 7 of 7"):
        p.recompute_ul(30)
    with pytest.raises(ValueError, match="likelihood_data, or stat and stat_scan"):
        make_profile(likelihood_data=None, scan=False).recompute_ul(3)
    for value in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="n_sigma_ul must be a positive number"):
            p.recompute_ul(value)


def test_pickle_and_copy(profile):
    for other in (pickle.loads(pickle.dumps(profile)), copy.deepcopy(profile)):
        assert_same_profile(profile, other)
        np.testing.assert_array_equal(
            other.recompute_ul(3).norm_ul, profile.recompute_ul(3).norm_ul
        )


def test_figures_get_what_was_asked_for(profile, monkeypatch):
    calls = []
    plotting = pytest.importorskip("jaxprof.plotting")
    for name in ("plot_profile", "plot_quantity", "plot_ts_profiles"):
        monkeypatch.setattr(
            plotting, name, lambda *args, _name=name, **kwargs: calls.append((_name, args, kwargs))
        )
    profile.plot()
    assert calls[-1][2] == {"ax": None, "sed_type": "dnde", "axis_name": "projected-distance"}
    profile.plot("ax", sed_type="likelihood", axis_name="energy", color="r")
    assert calls[-1][2] == {"ax": "ax", "sed_type": "norm", "axis_name": "energy", "color": "r"}
    make_profile(sed_type_init="eflux").plot()
    assert calls[-1][2]["sed_type"] == "eflux"
    profile.plot_ts_profiles(ax="ax", sed_type="flux", add_cbar=False)
    assert calls[-1][2] == {"ax": "ax", "sed_type": "flux", "add_cbar": False}
    profile["npred"].plot(ax="ax", label="Npred")
    assert calls[-1] == ("plot_quantity", (profile, "npred"), {"ax": "ax", "label": "Npred"})
    with pytest.raises(ValueError, match="'dndE'; valid are 'likelihood', 'dnde'"):
        profile.plot(sed_type="dndE")
    with pytest.raises(ValueError, match="valid are projected-distance, energy"):
        profile.plot(axis_name="distance")
    with pytest.raises(ValueError, match="no stat_scan"):
        make_profile(scan=False).plot_ts_profiles()


def test_real_figures(profile):
    pytest.importorskip("jaxprof.plotting")
    profile.plot(sed_type="flux")
    profile.plot(sed_type="likelihood", axis_name="energy")
    profile["npred"].plot()
    profile.slice_by_idx({"energy": slice(0, 1)}).plot_ts_profiles(sed_type="eflux")


def test_reference_fluxes_without_a_model():
    flux = {"dnde": [1e-12, 2e-12], "flux": [3.0, 4.0], "eflux": [5.0, 6.0]}
    p = make_profile(reference_model=None, reference=flux)
    np.testing.assert_array_equal(p.flux_ref.value, [3.0, 4.0])
    np.testing.assert_allclose(p.e2dnde_ref.value, p.dnde_ref.value * EDGES.prod(axis=1))
    assert "ref. model             : none" in str(p)
    with pytest.raises(ValueError, match="give reference_model"):
        make_profile(reference_model=None)
    with pytest.raises(ValueError, match="'flux' has shape"):
        make_profile(reference=flux | {"flux": [1.0]})
    curved = make_profile(reference_model=LogParabolaSpectralModel())
    assert curved.flux_ref.shape == (2,)


def test_bad_input(profile):
    settings = {"axis": profile.axis, "energy_edges": EDGES, "reference_model": None}
    settings["reference"] = profile.reference
    norm = np.ones((4, 2))

    def make(quantities=None, **changes):
        return FluxProfile(
            {"norm": norm} if quantities is None else quantities, **(settings | changes)
        )

    for quantities, message in (
        ({"ts": norm}, "must have 'norm'"),
        ({"norm": norm.T}, r"'norm' has shape \(2, 4\)"),
        ({"norm": norm, "counts": np.ones((4, 2, 1, 1))}, "several data sets a third"),
        ({"norm": norm, "stat_scan": norm, "norm_scan": norm}, "a third counts the norms"),
        ({"norm": norm, "stat_scan": norm[..., None]}, "need each other"),
        (
            {"norm": norm, "stat_scan": np.ones((4, 2, 3)), "norm_scan": np.ones((4, 2, 2))},
            "a norm for every value",
        ),
        ({"norm": norm, "solid_angle": norm}, "one value a bin"),
        ({"norm": norm, "flux": norm}, "'flux' is derived"),
        ({"norm": norm, "status": norm * 17}, "status must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            make(quantities)
    for changes, message in (
        ({"energy_edges": [1.0, 2.0]}, r"shape \(G, 2\)"),
        ({"energy_edges": [[2.0, 1.0], [2.0, 3.0]]}, "lower before upper"),
        ({"regions": profile.regions[:2]}, "regions are 2"),
        ({"sed_type_init": "norm"}, "valid are 'likelihood'"),
        ({"likelihood_data": {"counts": norm}}, "ProfileData, OnOffData"),
        ({"likelihood_data": make_data(3)}, "first axes must be"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**changes)


def test_slices_by_energy_know_that_edges_move():
    """What an estimator was asked for is what a slice takes, though its edges moved a little."""
    p = make_profile()
    (_, end), (start, high) = p.energy_edges
    for first, last in ((start, high), (1.006 * start, 0.994 * high)):
        found = p.slice_by_energy(first * u.TeV, last * u.TeV)
        np.testing.assert_array_equal(found.energy_edges, [[start, high]])
    assert p.slice_by_energy(energy_max=0.994 * end * u.TeV).shape[1] == 1
    with pytest.raises(ValueError, match="no energy group lies between"):
        p.slice_by_energy(1.03 * start * u.TeV)


def test_toys_have_limits_of_the_profile_s_own_kind(monkeypatch):
    """That toys of a kind have its limits is tested with them."""
    monkeypatch.setattr(limits, "toys", lambda likelihood, n_toys, **options: options)
    p = make_profile()
    p.meta["interval"] = "one-sided"
    assert p.toys(quantities=("ul",))["interval"] == "one-sided"
    assert p.toys(quantities=("ul",), interval="profile")["interval"] == "profile"
    p.meta["interval"] = "feldman-cousins"
    with pytest.warns(UserWarning, match='of kind "profile", two-sided, not "feldman-cousins"'):
        assert p.toys(quantities=("ul",))["interval"] == "profile"


def test_a_bin_that_is_taken_out_has_no_errors_and_limits():
    """Its norm set to NaN, in the quantities, in place or in a table; limits alone are kept."""
    whole = make_profile()
    names = [n for n in whole.available_quantities if n.endswith(("_err", "_errn", "_errp", "_ul"))]
    names.remove("is_ul")
    assert {"flux_err", "flux_ul", "npred_excess_err"} <= set(names)
    gone = np.zeros(whole.shape, bool)
    gone[1, 0] = True
    norm = np.where(gone, np.nan, whole.norm)
    table = whole.to_table(sed_type="dnde")
    table["dnde"][gone] = np.nan
    in_place = whole.copy()
    in_place.quantities["norm"][gone] = np.nan
    known = {"axis": whole.axis, "energy_edges": whole.energy_edges}
    known["reference_model"] = whole.reference_model
    with pytest.warns(UserWarning, match=r"1 fits \(rows 1\) whose status is a success"):
        anew = FluxProfile({**whole.quantities, "norm": norm}, **known)
    with pytest.warns(UserWarning, match="read as 'not converged', without errors and limits"):
        from_table = FluxProfile.from_table(table)
    for profile in (in_place, anew, from_table):
        for name in names:
            value = np.asarray(profile[name].data)
            assert np.isnan(value[gone]).all(), name
            np.testing.assert_allclose(
                value[~gone], np.asarray(whole[name].data)[~gone], rtol=1e-12
            )
    for profile in (anew, from_table):
        assert (profile.success == (whole.success & ~gone)).all()
        assert (profile.quantities["status"][gone] == Status.NOT_CONVERGED).all()
    alone = FluxProfile({"norm": norm, "norm_ul": whole.norm_ul}, **known)  # no status
    np.testing.assert_allclose(alone.norm_ul, whole.norm_ul, rtol=1e-12)


def test_recompute_ul_of_a_probability(profile):
    by_level = profile.recompute_ul(cl=0.95)
    assert by_level.n_sigma_ul == pytest.approx(1.959963984540054, rel=1e-12)
    known = np.isfinite(profile.norm)
    with jax.enable_x64(True):
        other = profile.recompute_ul(1.959963984540054)
    np.testing.assert_allclose(by_level.norm_ul[known], other.norm_ul[known], rtol=1e-12)
    with pytest.raises(ValueError, match="give cl or n_sigma_ul, not both"):
        profile.recompute_ul(2, cl=0.95)
