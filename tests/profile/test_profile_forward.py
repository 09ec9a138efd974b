"""What profiles of joint fits have besides: matrices, tables, spectra per bin; and their files."""

import copy
import pickle

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_factory import (
    EDGES,
    assert_same_profile,
    assert_same_table,
    make_goodness,
    make_joint_profile,
    make_nuisance,
)

from jaxprof.likelihood.data import Status
from jaxprof.models.spectral import (
    ExpCutoffPowerLawSpectralModel,
    LogParabolaSpectralModel,
    PowerLawSpectralModel,
)
from jaxprof.profile import FluxProfile
from jaxprof.sky.regions import ProfileAxis

ENDINGS = (".fits", ".fits.gz", ".ecsv")
INDICES = (2.0, 2.3, 3.0, 1.5, 2.3)
NORM = np.ones((5, 2))


@pytest.fixture(scope="module")
def profile():
    return make_joint_profile()


def make_models():
    return [PowerLawSpectralModel(index=index) for index in INDICES]


def remade(p, **changes):
    """Arguments that make the profile again, with others in the place of some."""
    state = {name: value for name, value in vars(p).items() if name != "shape"}
    return FluxProfile(**(state | changes))


# Matrices


def test_covariance_is_that_of_the_pairs(profile):
    assert profile.covariance.shape == (2, 5, 5)
    for g, i, j in np.ndindex(2, 5, 5):
        np.testing.assert_array_equal(profile.covariance[g, i, j], profile.norm_covariance[i, g, j])
    diagonal = np.diagonal(profile.covariance, axis1=1, axis2=2).T
    np.testing.assert_allclose(diagonal, profile.norm_err**2, rtol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-90, 1e90])
def test_correlation_is_that_of_the_sample(scale):
    """Against numpy's estimate from the same sample, also where products of variances underflow."""
    sample = np.random.default_rng(3).normal(size=(2, 5, 40)) * scale
    covariance = np.stack([np.cov(s) for s in sample])
    stored = {"norm": NORM, "norm_covariance": np.moveaxis(covariance, 0, 1)}
    p = make_joint_profile()
    p = remade(p, quantities=stored)
    expected = np.stack([np.corrcoef(s / scale) for s in sample])
    np.testing.assert_allclose(p.correlation, expected, rtol=0, atol=1e-14)
    assert (np.diagonal(p.correlation, axis1=1, axis2=2) == 1).all()


def test_correlation_of_bins_without_an_error(profile):
    covariance = profile.norm_covariance.copy()
    covariance[4, 1, :] = covariance[:, 1, 4] = 0
    p = remade(profile, quantities={"norm": NORM, "norm_covariance": covariance})
    missing = np.isnan(p.correlation)
    expected = np.zeros((2, 5, 5), dtype=bool)
    expected[0, 2] = expected[0, :, 2] = True
    expected[1, 4] = expected[1, :, 4] = True
    np.testing.assert_array_equal(missing, expected)


def test_leakage_by_hand():
    response = np.array([[[8.0, 1.0, 0.0]], [[2.0, 6.0, 0.0]], [[0.0, 1.0, 0.0]]])
    axis = ProfileAxis("region-index", np.arange(3.0), np.arange(1.0, 4.0), np.arange(3.0) + 0.5)
    p = FluxProfile(
        {"norm": np.ones((3, 1)), "response": response},
        axis=axis,
        energy_edges=[[1.0, 10.0]],
        reference_model=PowerLawSpectralModel(),
    )
    expected = [[0.8, 0.125, np.nan], [0.2, 0.75, np.nan], [0.0, 0.125, np.nan]]
    np.testing.assert_allclose(p.leakage[0], expected, rtol=1e-15)


def test_columns_of_the_leakage_sum_to_one(profile):
    assert profile.leakage.shape == (2, 5, 5)
    np.testing.assert_allclose(profile.leakage.sum(axis=1), 1, rtol=1e-14)
    ratio = profile.leakage[1, 3, 0] / profile.leakage[1, 4, 0]
    expected = profile.response[3, 1, 0] / profile.response[4, 1, 0]
    assert ratio == pytest.approx(expected, rel=1e-14)


def test_profiles_of_single_fits_say_what_they_lack(profile):
    p = remade(profile, quantities={"norm": NORM})
    for name, needed in (
        ("covariance", "norm_covariance"),
        ("correlation", "norm_covariance"),
        ("leakage", "response"),
    ):
        assert not hasattr(p, name)
        with pytest.raises(AttributeError, match=f"no '{name}' without '{needed}', which joint"):
            getattr(p, name)


def test_joint_quantities_are_attributes_and_items(profile):
    for name in ("index", "lambda__err", "npred_guard", "stat_scan_conditional", "response"):
        assert name in profile.available_quantities and name in dir(profile)
        np.testing.assert_array_equal(getattr(profile, name), profile[name].data)
    assert not profile.success[3, 0] and profile.status[3, 0] == Status.DEGENERATE
    assert profile.to_table()["status"][3, 0] == "degenerate"
    assert "1 degenerate" in str(profile)


# Slices


@pytest.mark.parametrize(
    ("selection", "bins"),
    [(slice(1, 4), [1, 2, 3]), ([4, 0], [4, 0]), (NORM[:, 0] > 0, [0, 1, 2, 3, 4]), ([-1], [4])],
)
def test_slices_cut_both_axes_of_bins(profile, selection, bins):
    part = profile.slice_by_idx({"projected-distance": selection})
    for g in range(2):
        cut = np.ix_(bins, bins)
        np.testing.assert_array_equal(part.covariance[g], profile.covariance[g][cut])
        np.testing.assert_array_equal(part.correlation[g], profile.correlation[g][cut])
        response = profile.response[:, g][cut]
        np.testing.assert_allclose(part.leakage[g], response / response.sum(axis=0), rtol=1e-15)
    np.testing.assert_array_equal(part.index, profile.index[bins])
    assert_same_table(part.nuisance, profile.nuisance)
    assert_same_table(part.goodness, profile.goodness)
    assert profile.shape == (5, 2) and profile.response.shape == (5, 2, 5)


def test_slices_of_energy_keep_the_tables_in_step(profile):
    part = profile.slice_by_idx({"energy": [1]})
    np.testing.assert_array_equal(part.covariance, profile.covariance[1:])
    np.testing.assert_array_equal(part.leakage, profile.leakage[1:])
    assert part.nuisance["group"].tolist() == [0, 0]
    assert part.nuisance["value"].tolist() == [-0.3, 0.0]
    assert part.goodness["stat"].tolist() == [0.1]
    assert profile.nuisance["group"].tolist() == [0, 0, 1, 1]
    swapped = profile.slice_by_idx({"energy": slice(None, None, -1)})
    assert swapped.nuisance["group"].tolist() == [0, 0, 1, 1]
    assert swapped.nuisance["value"].tolist() == [-0.3, 0.0, 0.1, 1.0]
    assert swapped.goodness["n_counts_bins"].tolist() == [0, 100]


def test_slices_of_spectra_of_their_own():
    models = make_models()
    p = make_joint_profile(reference_model=models[0], reference_models=models)
    part = p.slice_by_idx({"projected-distance": [3, 1], "energy": [1]})
    assert part.reference_models == [models[3], models[1]] and part.reference_model is models[3]
    np.testing.assert_array_equal(part.flux_ref, p.flux_ref[[3, 1]][:, 1:])
    np.testing.assert_array_equal(part.eflux_err, p.eflux_err[[3, 1]][:, 1:])


def test_copies(profile):
    for other in (pickle.loads(pickle.dumps(profile)), copy.deepcopy(profile)):
        assert_same_profile(profile, other)


# Spectra of their own


def test_reference_fluxes_of_every_bin():
    p = make_joint_profile(reference_model=None, reference_models=make_models())
    low, high = EDGES.T
    for name in ("dnde", "e2dnde", "flux", "eflux"):
        assert p[f"{name}_ref"].data.shape == (5, 2)
        np.testing.assert_array_equal(
            p[f"{name}_err"].data, p.norm_err * p[f"{name}_ref"].data, err_msg=name
        )
    for b, index in enumerate(INDICES):
        np.testing.assert_allclose(p.dnde_ref.value[b], 1e-12 * (low * high) ** (-index / 2))
        flux = 1e-12 * (low ** (1 - index) - high ** (1 - index)) / (index - 1)
        np.testing.assert_allclose(p.flux_ref.value[b], flux, rtol=1e-12)
    np.testing.assert_allclose(p.eflux_ref.value[0], 1e-12 * np.log(high / low), rtol=1e-12)
    assert p.surface_brightness("dnde").shape == (5, 2)
    assert "ref. model             : pl (one a bin)" in str(p)
    np.testing.assert_array_equal(p.to_table()["ref_flux"], p.flux_ref.value)
    mixed = make_joint_profile(reference_models=[*make_models()[:4], LogParabolaSpectralModel()])
    assert ": pl, lp (one a bin)" in str(mixed)


def test_equal_spectra_give_what_one_gives():
    one = make_joint_profile()
    p = make_joint_profile(reference_models=[PowerLawSpectralModel(index=2.3)] * 5)
    np.testing.assert_array_equal(one.flux, p.flux)
    np.testing.assert_array_equal(np.tile(one.e2dnde_ref, (5, 1)), p.e2dnde_ref)


def test_reference_fluxes_that_are_given(profile):
    flux = {name: np.arange(1.0, 11).reshape(5, 2) for name in ("dnde", "flux")}
    p = make_joint_profile(reference=flux | {"eflux": [5.0, 6.0]})
    assert p.eflux_ref.shape == (5, 2)
    np.testing.assert_array_equal(p.eflux_ref.value, np.tile([5.0, 6.0], (5, 1)))
    np.testing.assert_array_equal(p.flux_ref.value, flux["flux"])
    for wrong in (np.ones((4, 2)), np.ones((5, 3)), np.ones((2, 5)), np.ones((5, 2, 1))):
        with pytest.raises(ValueError, match="reference flux 'flux' has shape"):
            make_joint_profile(reference=flux | {"eflux": [5.0, 6.0], "flux": wrong})


# Limits


@pytest.mark.parametrize("n_sigma", [1.0, 2.0, 2.75])
def test_recompute_ul_uses_the_profiled_scan(profile, n_sigma):
    new = profile.recompute_ul(n_sigma)
    expected = profile.norm + n_sigma * profile.norm_err
    # No counts: rise = 0.7 t + (t / error)^2 from the bound; nothing is straight there.
    a, c = profile.norm_err[1, 1] ** -2, -(n_sigma**2)
    expected[1, 1] = profile.norm[1, 1] + (-0.7 + np.sqrt(0.49 - 4 * a * c)) / (2 * a)
    expected[2, 0] = expected[3, 0] = np.nan
    np.testing.assert_allclose(new.norm_ul, expected, rtol=1e-9)
    np.testing.assert_array_equal(new.covariance, profile.covariance)
    stored = {k: v for k, v in profile.quantities.items() if "stat_scan" not in k}
    del stored["norm_scan"]
    with pytest.raises(ValueError, match="likelihood_data, or stat and stat_scan"):
        remade(profile, quantities=stored).recompute_ul()


# Files


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("sed", "n_datasets"), [("likelihood", 1), ("dnde", 2), ("flux", 1), ("eflux", 2)]
)
def test_round_trip_is_exact(tmp_path, ending, sed, n_datasets):
    p = make_joint_profile(n_datasets=n_datasets)
    p.write(tmp_path / f"p{ending}", sed_type=sed)
    q = FluxProfile.read(tmp_path / f"p{ending}")
    assert_same_profile(p, q)
    np.testing.assert_array_equal(p.covariance, q.covariance)
    np.testing.assert_array_equal(p.leakage, q.leakage)
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
@pytest.mark.parametrize("own", [False, True])
def test_round_trip_with_axes_of_length_one(tmp_path, slices, ending, own):
    """Also one norm in the scan, and reference fluxes of one bin that are its own."""
    options = {"reference_models": make_models()} if own else {}
    p = make_joint_profile(**options).slice_by_idx(slices)
    for name in ("stat_scan", "norm_scan", "stat_scan_conditional"):
        p.quantities[name] = p.quantities[name][..., :1]
    p.write(tmp_path / f"p{ending}", sed_type="dnde")
    q = FluxProfile.read(tmp_path / f"p{ending}")
    assert_same_profile(p, q)
    assert q.flux_ref.shape == (p.shape if own else p.shape[1:])


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize("sed", ["likelihood", "e2dnde"])
def test_round_trip_of_spectra_of_their_own(tmp_path, ending, sed):
    models = [*make_models()[:3], LogParabolaSpectralModel(), ExpCutoffPowerLawSpectralModel()]
    for first in (models[0], None):
        p = make_joint_profile(reference_model=first, reference_models=models)
        p.write(tmp_path / f"p{ending}", sed_type=sed, overwrite=True)
        assert_same_profile(p, FluxProfile.read(tmp_path / f"p{ending}"))


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_many_bins(tmp_path, ending):
    """Header keywords do not hold what grows with the bins."""
    n = 300
    edges = np.arange(n + 1.0)
    p = FluxProfile(
        {"norm": np.ones((n, 1)), "norm_covariance": np.eye(n)[:, np.newaxis] / 3},
        axis=ProfileAxis("region-index", edges[:-1], edges[1:], edges[:-1] + 0.5),
        energy_edges=[[1.0, 10.0]],
        reference_model=None,
        reference_models=[PowerLawSpectralModel(index=2 + i % 7 / 10) for i in range(7)] * 42
        + [PowerLawSpectralModel(index=3)] * 6,
        reference={
            name: np.arange(1.0, n + 1)[:, np.newaxis] for name in ("dnde", "flux", "eflux")
        },
    )
    p.write(tmp_path / f"p{ending}")
    assert_same_profile(p, FluxProfile.read(tmp_path / f"p{ending}"))
    if ending == ".fits":
        assert len(fits.getheader(tmp_path / "p.fits", "FLUXPOINTS")) < 100


def test_older_files_are_read(tmp_path, profile):
    """Their goodness has the number of counts bins as n_slots."""
    for name in ("p.fits", "p.ecsv"):
        path = tmp_path / name
        profile.write(path)
        raw = path.read_bytes()
        assert raw.count(b"n_counts_bins") >= 1 and b"n_slots" not in raw
        if name.endswith("fits"):
            with fits.open(path, mode="update") as hdus:
                hdus["GOODNESS"].columns.change_name("n_counts_bins", "n_slots")
            # As a message of the reader says.
            fits.setval(path, "NHDU", value=0)
        else:
            lines = [line for line in raw.splitlines() if b"TEXTCRC" not in line]
            path.write_bytes(b"\n".join(lines).replace(b"n_counts_bins", b"n_slots"))
        assert b"n_slots" in path.read_bytes()
        assert_same_profile(profile, FluxProfile.read(path))


def test_hdus(tmp_path, profile):
    path = tmp_path / "p.fits"
    profile.write(path)
    with fits.open(path) as hdus:
        names = ["PRIMARY", "FLUXPOINTS", "GTI", "NUISANCE", "GOODNESS"]
        assert [hdu.name for hdu in hdus] == names
        assert hdus["NUISANCE"].data["parameter"][1] == "background norm"
        assert hdus["NUISANCE"].data["parameter"].tolist()[2].isascii()
        assert hdus["GOODNESS"].data["n_counts_bins"].tolist() == [100, 0]
        assert hdus["FLUXPOINTS"].data["response"].shape == (5, 2, 5)
        assert "REFBINS" not in hdus["FLUXPOINTS"].header
    make_joint_profile(nuisance=None, goodness=None, gti=None).write(path, overwrite=True)
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "FLUXPOINTS"]
    read = FluxProfile.read(path)
    assert read.nuisance is None and read.goodness is None


text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
number = st.floats(allow_infinity=True, allow_subnormal=False)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), text, text, number, number, st.booleans()), max_size=4
    ),
    ending=st.sampled_from([".fits", ".ecsv"]),
)
def test_nuisance_of_any_name(tmp_path, rows, ending):
    names = ("group", "dataset", "parameter", "value", "error", "fixed")
    nuisance = Table(
        rows=rows or None, names=names, dtype=None if rows else (int, str, str, float, float, bool)
    )
    # An array of numpy loses NUL at the end of its text, before any file is written.
    bare = FluxProfile(
        {"norm": NORM},
        axis=make_joint_profile().axis,
        energy_edges=EDGES,
        reference_model=PowerLawSpectralModel(),
        nuisance=nuisance,
    )
    bare.write(tmp_path / f"p{ending}", overwrite=True)
    assert_same_profile(bare, FluxProfile.read(tmp_path / f"p{ending}"))


def test_scans_on_grids_of_their_own(tmp_path, profile):
    stored = dict(profile.quantities)
    stored["norm_scan"] = profile.norm_scan * np.arange(1, 11).reshape(5, 2, 1)
    p = remade(profile, quantities=stored)
    p.write(tmp_path / "p.fits")
    assert "own_norm_scan" in fits.getdata(tmp_path / "p.fits", "FLUXPOINTS").names
    assert_same_profile(p, FluxProfile.read(tmp_path / "p.fits"))


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_reference_models_must_fit_the_file(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    models = make_models()
    make_joint_profile(reference_models=models).write(path)
    read = FluxProfile.read(path, reference_model=models)
    assert read.reference_models == models and read.reference_model is models[0]
    with pytest.raises(ValueError, match="reference_model differs by"):
        FluxProfile.read(path, reference_model=PowerLawSpectralModel(index=2.3))
    with pytest.raises(ValueError, match="reference_model differs by"):
        FluxProfile.read(path, reference_model=models[::-1])
    with pytest.raises(ValueError, match="reference_model are 4; give one a bin, 5"):
        FluxProfile.read(path, reference_model=models[1:])


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_fitted_spectra_have_fluxes_that_the_model_has_not(tmp_path, ending):
    """Free index: the norm scales the flux of the group, the other fluxes are those of the fit."""
    path = tmp_path / f"p{ending}"
    model = PowerLawSpectralModel(index=2.3)
    start = make_joint_profile().reference
    tilt = np.linspace(0.5, 2, 10).reshape(5, 2)
    reference = {"flux": start["flux"] * np.ones((5, 1))}
    reference |= {name: start[name] * tilt for name in ("dnde", "eflux")}
    p = make_joint_profile(reference=reference)
    p.write(path, sed_type="eflux")
    assert_same_profile(p, FluxProfile.read(path))
    assert_same_profile(p, FluxProfile.read(path, reference_model=model))
    with pytest.raises(ValueError, match="reference_model differs by"):
        FluxProfile.read(path, reference_model=PowerLawSpectralModel(index=2.2))


def own_spectra(kind):
    """A profile whose bins have spectra of their own: a model for each, or fitted indices."""
    edges = np.array([[0.01, 0.1], [0.1, 0.5]])  # gammapy has no gaps
    if kind == "models":
        return make_joint_profile(reference_models=make_models(), energy_edges=edges)
    start = make_joint_profile(energy_edges=edges).reference
    reference = {"flux": start["flux"] * np.ones((5, 1))}
    reference["dnde"] = start["dnde"] * np.linspace(0.5, 2, 10).reshape(5, 2)
    reference["eflux"] = start["eflux"] * np.linspace(1.5, 0.7, 10).reshape(5, 2)
    return make_joint_profile(reference=reference, energy_edges=edges)


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize("kind", ["models", "indices"])
def test_files_of_spectra_of_their_own_have_all_fluxes(tmp_path, kind, ending):
    p = own_spectra(kind)
    path = tmp_path / f"p{ending}"
    p.write(path)
    hdu = {"hdu": "FLUXPOINTS"} if ending == ".fits" else {}
    table = Table.read(path, **hdu)
    assert table.meta["SED_TYPE"] == "dnde" and table.meta["SED_INIT"] == "likelihood"
    for name in ("norm_ul", "dnde_err", "e2dnde", "flux", "eflux_ul"):
        np.testing.assert_array_equal(table[name].data, p[name].data)
    q = FluxProfile.read(path)
    assert q.sed_type_init == "likelihood"
    assert_same_profile(p, q)
    # What is asked for is what the file and the profile say.
    for sed in ("likelihood", "eflux"):
        p.write(path, sed_type=sed, overwrite=True)
        assert Table.read(path, **hdu).meta["SED_TYPE"] == sed
        assert FluxProfile.read(path).sed_type_init == sed
    # One spectrum for all bins is what it was, also if every bin names it.
    for same in (make_joint_profile(), make_joint_profile(reference_models=make_models()[:1] * 5)):
        same.write(path, overwrite=True)
        table = Table.read(path, **hdu)
        assert table.meta["SED_TYPE"] == "likelihood" and "dnde" not in table.colnames


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
@pytest.mark.parametrize("kind", ["models", "indices"])
@pytest.mark.filterwarnings("ignore")
def test_gammapy_reads_spectra_of_their_own(tmp_path, kind, ending):
    estimators = pytest.importorskip("gammapy.estimators")
    path = tmp_path / f"p{ending}"

    def assert_equal(read, sed):
        for suffix in ("", "_err", "_ul"):
            name = f"{sed}{suffix}"
            values = getattr(read, name).quantity.to_value(p[name].unit).reshape(p.shape)
            # gammapy hides what has no success.
            expected = (
                p[name].data if suffix == "_ul" else np.where(p.success, p[name].data, np.nan)
            )
            np.testing.assert_allclose(values, expected, rtol=1e-12, atol=0, err_msg=name)
            assert np.isfinite(values).any()

    for group in (slice(None), slice(1, 2)):
        p = own_spectra(kind).slice_by_idx({"energy": group})
        p.write(path, overwrite=True)
        assert_equal(estimators.FluxPoints.read(path, format="profile"), "dnde")
        for sed in ("dnde", "e2dnde", "flux", "eflux"):
            read = estimators.FluxPoints.read(path, format="profile", sed_type=sed)
            assert_equal(read, sed)
            np.testing.assert_array_equal(read.counts.data.ravel(), p.counts.ravel())


def test_models_of_bins_give_norms_where_a_table_has_fluxes_only(tmp_path):
    models = make_models()
    p = make_joint_profile(reference_models=models)
    table = p.to_table("flux")
    table.remove_columns(["ref_dnde", "ref_flux", "ref_eflux"])
    for key in ("REFMODEL", "REFMODELS", "REFBINS"):
        del table.meta[key]
    table.write(tmp_path / "p.ecsv")
    q = FluxProfile.read(tmp_path / "p.ecsv", reference_model=models)
    np.testing.assert_allclose(q.norm, p.norm, rtol=1e-15)
    np.testing.assert_allclose(q.dnde_err.value, p.dnde_err.value, rtol=1e-15)


def test_models_that_are_not_known_here(tmp_path):
    class Own:
        def __call__(self, energy):
            return 1e-12 * energy**-2

        def integral(self, low, high):
            return high - low

        energy_flux = integral

    models = [*make_models()[:4], Own()]
    with pytest.warns(UserWarning, match="Own has no to_dict") as record:
        table = make_joint_profile(reference_models=models).to_table()
    assert {w.filename for w in record} == {__file__}
    assert not {"REFMODEL", "REFMODELS"} & set(table.meta) and table.meta["REFBINS"]
    Own.to_dict = lambda self: {"spectral": {"type": "Own"}}
    p = make_joint_profile(reference_model=models[0], reference_models=models)
    with pytest.warns(UserWarning, match="kept by its name, which is not known here"):
        p.write(tmp_path / "p.fits")
    with pytest.warns(UserWarning, match="'Own'; known models") as record:
        q = FluxProfile.read(tmp_path / "p.fits")
    assert {w.filename for w in record} == {__file__}
    assert q.reference_models is None
    np.testing.assert_array_equal(q.flux, p.flux)


OLD = """\
# %ECSV 1.0
# ---
# datatype:
# - {name: x_min, datatype: float64}
# - {name: x_max, datatype: float64}
# - {name: x_ref, datatype: float64}
# - {name: e_ref, unit: TeV, datatype: string, subtype: 'float64[1]'}
# - {name: e_min, unit: TeV, datatype: string, subtype: 'float64[1]'}
# - {name: e_max, unit: TeV, datatype: string, subtype: 'float64[1]'}
# - {name: ref_dnde, unit: 1 / (TeV s cm2), datatype: string, subtype: 'float64[1]'}
# - {name: ref_flux, unit: 1 / (s cm2), datatype: string, subtype: 'float64[1]'}
# - {name: ref_eflux, unit: TeV / (s cm2), datatype: string, subtype: 'float64[1]'}
# - {name: norm, datatype: string, subtype: 'float64[1]'}
# - {name: norm_err, datatype: string, subtype: 'float64[1]'}
# - {name: success, datatype: string, subtype: 'bool[1]'}
# - {name: stat_scan, datatype: string, subtype: 'float64[1,2]'}
# - {name: norm_scan, datatype: string, subtype: 'float64[1,2]'}
# - {name: status, datatype: string, subtype: 'string[1]'}
# meta: !!omap
# - {SED_TYPE: likelihood}
# - {UL_CONF: 0.9544997361036416}
# - {N_SIGMA: 1.0}
# - {NSIGMAUL: 2.0}
# - {NSIGMASE: 5.0}
# - {SQRTTSUL: 2.0}
# - {AXISNAME: region-index}
# - {NBINS: 2}
# - {DSNAMES: '[]'}
# - {REFMODEL: '{"spectral": {"type": "PowerLawSpectralModel", "parameters": [{"name": "index",
#     "value": 2.0}, {"name": "amplitude", "value": 1e-12, "unit": "cm-2 s-1 TeV-1"},
#     {"name": "reference", "value": 1.0, "unit": "TeV"}]}}'}
# schema: astropy-2.0
x_min x_max x_ref e_ref e_min e_max ref_dnde ref_flux ref_eflux norm norm_err success stat_scan \
norm_scan status
-0.5 0.5 0.0 [3.1622776601683795] [1.0] [10.0] [9.999999999999998e-14] [8.999999999999998e-13] \
[2.3025850929940458e-12] [1.5] [0.25] [true] [[1.0,2.0]] [[0.0,1.0]] "[""ok""]"
0.5 1.5 1.0 [3.1622776601683795] [1.0] [10.0] [9.999999999999998e-14] [8.999999999999998e-13] \
[2.3025850929940458e-12] [0.1] [0.3333333333333333] [true] [[3.0,4.0]] [[0.0,1.0]] "[""ok""]"
"""


def test_files_from_before_joint_fits(tmp_path):
    (tmp_path / "old.ecsv").write_text(OLD)
    p = FluxProfile.read(tmp_path / "old.ecsv")
    assert p.norm.tolist() == [[1.5], [0.1]] and p.norm_err.tolist() == [[0.25], [1 / 3]]
    assert p.stat_scan.tolist() == [[[1.0, 2.0]], [[3.0, 4.0]]]
    assert p.flux_ref.shape == (1,) and p.reference_model.index == 2
    assert p.nuisance is None and p.goodness is None and p.reference_models is None


# Bad input


def test_bad_quantities(profile):
    scan = np.ones((5, 2, 3))
    for quantities, message in (
        (
            {"norm_covariance": np.ones((5, 2, 4))},
            r"'norm_covariance' has shape \(5, 2, 4\).*5 bins",
        ),
        ({"norm_covariance": np.ones((2, 5, 5))}, "'norm_covariance' has shape"),
        ({"response": NORM}, "'response' has shape"),
        ({"npred_guard": np.ones((5, 2, 1))}, "'npred_guard' has shape"),
        ({"stat_scan_conditional": scan}, "need each other"),
        ({"norm_scan": scan}, "need each other"),
        ({"stat_scan_conditional": scan, "norm_scan": scan[..., 1:]}, "conditional has shape"),
        ({"covariance": np.ones((2, 5, 5))}, "'covariance' is derived from others"),
        ({"leakage": NORM}, "'leakage' is derived from others"),
    ):
        with pytest.raises(ValueError, match=message):
            remade(profile, quantities={"norm": NORM} | quantities)


def test_bad_tables_and_models():
    nuisance, goodness = make_nuisance(), make_goodness()
    late, vague, short = nuisance.copy(), nuisance.copy(), nuisance.copy()
    late["group"] = [0, 0, 1, 2]
    vague["value"] = ["much"] * 4
    del short["error"]
    for options, message in (
        ({"nuisance": {"group": [0]}}, "nuisance must be an astropy Table, not dict"),
        ({"nuisance": late}, r"nuisance has groups \[0, 1, 2\]; there are 2"),
        ({"nuisance": vague}, "nuisance: column 'value'"),
        ({"nuisance": short}, "nuisance has no column error; it has"),
        ({"goodness": goodness[:1]}, "goodness has 1 rows; give one an energy group, 2"),
        (
            {"goodness": goodness["stat", "z"]},
            "goodness has no column expected, std, n_counts_bins",
        ),
        ({"reference_models": make_models()[:2]}, "reference_models are 2; give one a bin, 5"),
    ):
        with pytest.raises(ValueError, match=message):
            make_joint_profile(**options)


def test_tables_are_copies_and_keep_further_columns(tmp_path):
    given = make_nuisance()
    given["unit"] = ["", "TeV", "", "\N{DEGREE SIGN}"]
    p = make_joint_profile(nuisance=given)
    given["value"][0] = 17
    assert p.nuisance["value"][0] == 0.1
    for ending in (".fits", ".ecsv"):
        p.write(tmp_path / f"p{ending}")
        assert_same_profile(p, FluxProfile.read(tmp_path / f"p{ending}"))


@pytest.mark.parametrize("ending", [".fits", ".ecsv"])
def test_damaged_tables_name_the_file(tmp_path, profile, ending):
    path = tmp_path / f"p{ending}"
    profile.write(path)
    if ending == ".fits":
        with fits.open(path) as hdus:
            hdus["NUISANCE"].columns.change_name("value", "volume")
            hdus.writeto(path, overwrite=True)
    else:
        # Names of the inner table, which is a list of lines in the meta.
        path.write_text(path.read_text().replace("name: value,", "name: volume,"))
        path.write_text(path.read_text().replace("parameter value", "parameter volume"))
    with pytest.raises(ValueError, match=f"p{ending}: .*nuisance has no column value"):
        FluxProfile.read(path)


# Figures


def test_figures_get_what_was_asked_for(profile, monkeypatch):
    calls = []
    plotting = pytest.importorskip("jaxprof.plotting")
    for name in ("plot_correlation", "plot_leakage", "plot_comparison", "plot_parameter"):
        monkeypatch.setattr(
            plotting, name, lambda *args, _name=name, **kwargs: calls.append((_name, args, kwargs))
        )
    for name in ("plot_correlation", "plot_leakage"):
        getattr(profile, name)()
        assert calls[-1] == (name, (profile,), {"group": 0, "ax": None})
        getattr(profile, name)(1, "ax", cmap="gray")
        assert calls[-1][2] == {"group": 1, "ax": "ax", "cmap": "gray"}
    profile.plot_parameter("beta", "ax", color="r")
    assert calls[-1][2] == {"parameter": "beta", "ax": "ax", "color": "r"}
    defaults = {"other": None, "curve": None, "curve_label": None, "group": None, "axes": None}
    profile.plot_comparison()
    assert calls[-1] == ("plot_comparison", (profile,), defaults | {"sed_type": "flux"})
    profile.plot_comparison(profile, curve=NORM, sed_type="likelihood", group=1, label="A")
    wanted = {"other": profile, "curve": NORM, "sed_type": "norm", "group": 1, "label": "A"}
    assert calls[-1][2] == defaults | wanted
    make_joint_profile(sed_type_init="dnde").plot_comparison()
    assert calls[-1][2]["sed_type"] == "dnde"


def test_figures_say_what_they_need(profile):
    p = remade(profile, quantities={"norm": NORM})
    for call, message in (
        (p.plot_correlation, "no norm_covariance; ForwardFoldingProfileEstimator gives it"),
        (p.plot_leakage, "no response; ForwardFoldingProfileEstimator gives it"),
        (p.plot_parameter, "no index; spectral parameters are fitted by"),
        (lambda: p.plot_comparison(sed_type="norms"), "'norms'; valid are 'likelihood'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
