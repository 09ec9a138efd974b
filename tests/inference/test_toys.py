"""Toys: reproducible, right in their moments and p-values, and kept through an interrupt."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import pdtr

import jaxprof
from jaxprof.inference import toys as toys_module
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.inference.toys import interval_of_toys
from jaxprof.likelihood.arrays import separate_counts
from jaxprof.likelihood.data import OnOffData, ProfileData


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def counting(counts, background=4.0, signal=2.0):
    n = np.asarray(counts, float).reshape(-1, 1, 1)
    arrays = {"background": np.full(n.shape, background), "npred_ref": np.full(n.shape, signal)}
    return separate_counts(ProfileData(counts=n, **arrays))


@pytest.mark.slow
def test_a_toy_is_the_same_in_any_chunk():
    likelihood = counting([5, 9, 4])
    whole = jaxprof.toys(likelihood, 12, seed=5, progress=False)
    parts = jaxprof.toys(likelihood, 12, seed=5, chunk=5, progress=False)
    assert_allclose(parts["norm"], whole["norm"], rtol=1e-12)
    # Each is the fit of what simulate draws with the key of its number.
    key = jax.random.fold_in(jax.random.key(5), 7)
    fit = jaxprof.fit(likelihood)
    drawn = likelihood.simulate(key, fit.params).counts[0].ravel()
    assert_allclose(whole["norm"][7].ravel(), (drawn - 4.0) / 2.0, rtol=1e-9)
    other = jaxprof.toys(likelihood, 12, seed=6, chunk=12)
    assert not np.array_equal(other["norm"], whole["norm"])


def test_toys_in_words():
    norm, cl = np.zeros((1000, 3, 2)), 0.95449973
    known = {"truth": norm[0], "observed": {"norm": norm[0], "norm_err": norm[0]}, "n_sigma": 1.0}
    toys = Toys(values={"norm": norm, "norm_err": norm + 1}, cl=cl, **known)
    words = "(1000 toys of 3 bins x 2 energy groups: norm, norm_err; n_sigma=1, cl=0.9545)"
    assert str(toys) == repr(toys) == f"Toys{words}"
    summary = ToySummary(cl=cl, **known)
    assert repr(summary).startswith("ToySummary(0 toys of 3 bins x 2 energy groups")
    summary.add(toys.values)
    assert repr(summary) == f"ToySummary{words}"


@pytest.mark.slow
def test_sums_of_toys_are_those_of_all():
    likelihood = counting([12, 9, 4])
    options = {
        "quantities": ("ts", "errn-errp", "ul", "deviance"),
        "truth": "background",
        "seed": 5,
    }
    kept = jaxprof.toys(likelihood, 12, **options)
    added = jaxprof.toys(likelihood, 12, chunk=5, keep=False, **options)
    assert len(added) == 12
    assert not hasattr(added, "values")
    for name in kept.values:
        assert_allclose(added.mean(name), kept.mean(name), rtol=1e-12, atol=1e-12)
        assert_allclose(added.std(name), kept.std(name), rtol=1e-11, atol=1e-12)
    assert set(added.coverage()) == {"norm_err", "errn-errp", "ul"}
    for name, part in added.coverage().items():
        assert_array_equal(part, kept.coverage()[name])
    assert_array_equal(added.p_values(), kept.p_values())
    assert_array_equal(added.p_values(look_elsewhere=True), kept.p_values(look_elsewhere=True))
    assert 1 / 13 <= added.p_values()[0, 0] < added.p_values()[2, 0]
    assert_array_equal(added.goodness(), kept.goodness())
    both = added.join(jaxprof.toys(likelihood, 12, keep=False, **{**options, "seed": 6}))
    others = jaxprof.toys(likelihood, 12, **{**options, "seed": 6})
    assert len(both) == 24 and len(added) == 12
    assert_allclose(both.mean(), 0.5 * (kept.mean() + others.mean()), rtol=1e-12)
    with pytest.raises(ValueError, match="others: toys of other data, truths"):
        added.join(jaxprof.toys(likelihood, 12, keep=False, cl=0.9, **options))
    with pytest.raises(ValueError, match="keep=True"):
        added.quantiles(0.5)
    with pytest.raises(ValueError, match="no 'flux'"):
        added.mean("flux")
    with pytest.raises(ValueError, match="store: it keeps all toys"):
        jaxprof.toys(likelihood, 12, keep=False, store="toys")


@pytest.mark.slow
def test_p_values_of_counting_experiments():
    """The probability of as many counts; of the largest of three, by independence."""
    likelihood = counting([10, 7, 4])
    toys = jaxprof.toys(likelihood, 4000, truth="background", seed=1)
    local = 1 - pdtr(np.array([9.0, 6.0, 3.0]), 4.0)
    largest = toys.p_values(look_elsewhere=True)[:, 0]
    for found, p in ((toys.p_values()[:, 0], local), (largest, 1 - (1 - local) ** 3)):
        assert np.all(np.abs(found - p) < 4 * np.sqrt(p * (1 - p) / 4000) + 1 / 4000)
    assert_allclose(toys.mean()[:, 0], 0.0, atol=4 / np.sqrt(4000))
    assert_allclose(toys.std()[:, 0], 1.0, rtol=0.05)
    assert_allclose(toys.quantiles(0.5)[:, 0], 0.0, atol=0.01)
    assert len(toys) == 4000


@pytest.mark.slow
def test_coverage_of_many_counts():
    likelihood = counting([500, 480], background=400.0, signal=50.0)
    toys = jaxprof.toys(likelihood, 3000, quantities=("errn-errp", "ul"), cl=0.9, seed=2)
    found = toys.coverage()
    for name, expected in (("norm_err", 0.683), ("errn-errp", 0.683), ("ul", 0.95)):
        assert_allclose(found[name], expected, atol=0.035)


@pytest.mark.slow
def test_goodness_at_few_counts_and_on_off():
    """The part of fits that are worse is even where the model is true, whatever the counts."""
    rng = np.random.default_rng(4)
    low = []
    for data in (0, 1):
        for _ in range(40):
            shape = (1, 1, 60)
            n = rng.poisson(0.3, shape).astype(float)
            if data:
                off = rng.poisson(0.9, shape).astype(float)
                block = OnOffData(
                    n_on=n, n_off=off, alpha=np.full(shape, 0.3333), npred_ref=0.1 + 0 * n
                )
            else:
                block = ProfileData(counts=n, background=0.3 + 0 * n, npred_ref=0.1 + 0 * n)
            found = jaxprof.toys(
                separate_counts(block), 200, truth="background", quantities=("deviance",)
            )
            low.append(found.goodness()[0])
    low = np.array(low)
    assert np.all(np.isfinite(low))
    assert 0.3 < low[:40].mean() < 0.7 and low[40:].std() > 0.1
    # Wrong by a factor of four in half of the counts bins.
    n = rng.poisson(np.repeat([4.0, 1.0], 30)).astype(float).reshape(1, 1, 60)
    block = ProfileData(counts=n, background=1.0 + 0 * n, npred_ref=1.0 + 0 * n)
    found = jaxprof.toys(separate_counts(block), 500, quantities=("deviance",))
    assert found.goodness()[0] < 0.01


@pytest.mark.slow
def test_store_goes_on(tmp_path):
    pytest.importorskip("zarr")
    likelihood, store = counting([5, 9]), tmp_path / "toys"
    whole = jaxprof.toys(likelihood, 9, seed=3)
    jaxprof.toys(likelihood, 4, seed=3, chunk=2, store=store)
    found = jaxprof.toys(likelihood, 9, seed=3, chunk=3, store=store)
    assert_allclose(found["norm"], whole["norm"], rtol=1e-12)
    assert len(found) == 9
    with pytest.raises(ValueError, match="store: .* holds other toys"):
        jaxprof.toys(likelihood, 9, seed=4, store=store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(ValueError, match="no zarr store"):
        jaxprof.toys(likelihood, 9, store=tmp_path / "other")
    assert_array_equal((tmp_path / "other" / "file").read_text(), "mine")


def test_what_is_refused():
    likelihood = counting([0, 9])
    with pytest.raises(ValueError, match="'flux'"):
        jaxprof.toys(likelihood, 9, quantities=("flux",))
    with pytest.raises(ValueError, match="truth must be"):
        jaxprof.toys(likelihood, 9, truth="null")
    with pytest.raises(ValueError, match="truth: .*below zero"):
        jaxprof.toys(likelihood, 9, truth={"norm": np.full((2, 1), -9.0)})
    with pytest.raises(ValueError, match="positive"):
        jaxprof.toys(likelihood, 0)
    with pytest.raises(ValueError, match="no 'ts'"):
        jaxprof.toys(likelihood, 3, quantities=())["ts"]
    with pytest.raises(ValueError, match="no 'ts'"):
        jaxprof.toys(likelihood, 3, quantities=()).p_values()
    with pytest.raises(ValueError, match="no 'deviance'"):
        jaxprof.toys(likelihood, 3, quantities=()).goodness()


def test_a_bin_without_exposure_leaves_the_others_their_goodness():
    block = ProfileData(
        counts=np.array([[[5.0]], [[9.0]]]),
        background=np.full((2, 1, 1), 4.0),
        npred_ref=np.array([[[2.0]], [[0.0]]]),
    )
    toys = jaxprof.toys(separate_counts(block), 40, quantities=("deviance",))
    assert not np.isnan(toys["deviance"]).any()
    assert 0 < toys.goodness()[0] <= 1
    assert np.isnan(toys.coverage()["norm_err"][1, 0])
    for found in (toys.mean(), toys.std(), toys.quantiles(0.5)):
        assert np.isfinite(found[0, 0]) and np.isnan(found[1, 0])


@pytest.mark.parametrize(
    "kind", ["cls", "feldman-cousins", pytest.param("bounded", marks=pytest.mark.slow)]
)
def test_limits_of_toys_by_name(kind):
    """Those of each toy alone, as `jaxprof.intervals` gives them; exact ones cover the truth."""
    likelihood = counting([12, 9, 4])
    toys = jaxprof.toys(likelihood, 4, quantities=("ul",), interval=kind, cl=0.9, seed=1)
    counts = np.round(4.0 + 2.0 * toys["norm"][2].ravel())
    assert_allclose(4.0 + 2.0 * toys["norm"][2].ravel(), counts, atol=1e-6)
    alone = jaxprof.intervals(counting(counts), kind=kind, cl=0.9)
    assert_allclose(toys["norm_ul"][2], alone.high, rtol=1e-7)
    own = jaxprof.intervals(likelihood, kind=kind, cl=0.9)
    assert_allclose(toys.observed["norm_ul"], own.high, rtol=1e-9)
    assert toys.interval == kind


def test_limits_of_toys_that_are_refused():
    pair = np.array([[[3.0, 4.0]]])
    likelihood = separate_counts(ProfileData(counts=pair, background=pair, npred_ref=pair))
    with pytest.raises(ValueError, match="toys of each toy"):
        jaxprof.toys(likelihood, 3, interval="feldman-cousins")
    with pytest.raises(ValueError, match="interval must be one of"):
        jaxprof.toys(likelihood, 3, interval="two-sided")
    with pytest.raises(ValueError, match="above 0.5"):
        jaxprof.toys(likelihood, 3, interval="one-sided", cl=0.4)
    # Profiles with such limits have toys with others, and say so where limits are asked for.
    with pytest.warns(UserWarning, match='of kind "profile", two-sided, not "feldman-cousins"'):
        assert interval_of_toys(likelihood, "feldman-cousins", ("ul",)) == "profile"
    assert interval_of_toys(likelihood, "feldman-cousins", ("ts",)) == "profile"
    assert interval_of_toys(counting([1]), "feldman-cousins", ("ul",)) == "feldman-cousins"


def test_one_method_for_all_toys_of_a_likelihood(monkeypatch):
    """CLs by formula, as the data's own, where one bin of several has several counts bins."""
    monkeypatch.setattr(toys_module, "ROWS", 1)  # one bin of a toy at once
    n = np.array([[[3.0, 4.0]], [[2.0, 0.0]]])
    mask = np.array([[[True, True]], [[True, False]]])
    data = ProfileData(counts=n, background=n + 1, npred_ref=n + 2, mask=mask)
    likelihood = separate_counts(data)
    options = {"quantities": ("ul",), "interval": "cls", "cl": 0.9, "seed": 3, "progress": False}
    toys = jaxprof.toys(likelihood, 2, **options)
    for number in range(2):
        key = jax.random.fold_in(jax.random.key(3), number)
        drawn = likelihood.simulate(key, jaxprof.fit(likelihood).params)
        alone = jaxprof.intervals(drawn, kind="cls", cl=0.9)
        assert alone.method == "asymptotic"
        assert_allclose(toys["norm_ul"][number], alone.high, rtol=1e-7)
    parts = jaxprof.toys(likelihood, 2, chunk=1, **options)
    assert_allclose(parts["norm_ul"], toys["norm_ul"], rtol=1e-9)


def test_levels_of_toys_in_either_convention():
    likelihood = counting([12, 9])
    options = {"quantities": ("ul",), "progress": False}
    by_level = jaxprof.toys(likelihood, 3, cl=0.95, **options)
    by_sigma = jaxprof.toys(likelihood, 3, n_sigma_ul=1.959963984540054, **options)
    assert_allclose(by_sigma["norm_ul"], by_level["norm_ul"], rtol=1e-9)
    assert by_sigma.cl == pytest.approx(0.95, rel=1e-12)
    with pytest.raises(ValueError, match="give cl or n_sigma_ul, not both"):
        jaxprof.toys(likelihood, 3, cl=0.95, n_sigma_ul=2, **options)


def test_truths_that_are_none_are_told_without_advice_for_others():
    likelihood = counting([12, 9])
    known = {"nrm": 1.0}, {"norm": np.ones(3)}, {"norm": -1e6}
    for truth, message in zip(
        known, ("truth: unknown 'nrm'", "has shape", "below zero"), strict=True
    ):
        with pytest.raises(ValueError, match=message) as error:
            jaxprof.toys(likelihood, 3, truth=truth)
        assert "estimate with" not in str(error.value)
