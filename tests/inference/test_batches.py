"""Many separate fits: how many there are, and which others there are, changes no result."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxprof import compilation
from jaxprof.core import OnOffData, ProfileData, fit_norms, limits, scan, sensitivity
from jaxprof.inference import batches


def toys(n_bins, seed=0):
    """Counts as in gamma-ray data, one bin in ten hard to fit; arrays (B, 1, E)."""
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1.0, 0.02, 4)
    background = rng.uniform(5.0, 50.0, (n_bins, 1, 1)) * spectrum
    npred_ref = rng.uniform(1.0, 20.0, (n_bins, 1, 1)) * spectrum**0.8
    counts = rng.poisson(background + rng.exponential(1.0, (n_bins, 1, 1)) * npred_ref)
    counts = counts.astype(float)
    mask = np.ones(counts.shape, bool)
    kind = np.arange(n_bins) % 70
    counts[kind == 1] = 0.0
    background[kind == 2] = 0.0
    deficit = kind == 3
    counts[deficit] = rng.poisson(0.05 * background[deficit])
    mask[kind == 4] = False
    npred_ref[kind == 5] = 0.0
    background[kind == 6, 0, 2], counts[kind == 6, 0, 2] = 1e-30, 1.0
    counts[kind == 7] = 0.0
    counts[kind == 7, 0, -1] = 1.0
    # At the kink of the last counts bin: score -0.2 on its left and 0.8 on its right.
    counts[kind == 8], background[kind == 8] = [2, 0, 0, 0], [2, 0.1, 0.2, 0.3]
    npred_ref[kind == 8] = 1.0
    return {"counts": counts, "background": background, "npred_ref": npred_ref, "mask": mask}


def results(arrays):
    """Norm, error, TS, the limits and the sensitivity, each (B,), and the status."""
    data = ProfileData(**arrays)
    fit = fit_norms(data)
    own = limits(data, fit)
    values = [fit.norm, fit.norm_err, fit.ts, *vars(own).values(), sensitivity(data)]
    return np.stack([np.asarray(v)[:, 0] for v in values]), np.asarray(fit.status)[:, 0]


def taken(arrays, rows):
    return {name: array[rows] for name, array in arrays.items()}


def assert_same(found, expected):
    assert_array_equal(found[1], expected[1])
    assert_array_equal(np.isnan(found[0]), np.isnan(expected[0]))
    # To 1e-10 of an error, or of the limit where there is no error.
    unit = np.nan_to_num(expected[0][1], nan=1.0)
    assert np.nanmax(np.abs(found[0] - expected[0]) / (unit + np.abs(expected[0]))) < 1e-10


@pytest.fixture(scope="module")
def many():
    arrays = toys(1030)
    return arrays, results(arrays)


def test_fits_of_many_are_those_of_few():
    arrays = toys(1030)
    many, few = (fit_norms(ProfileData(**taken(arrays, slice(0, n)))) for n in (1030, 140))
    assert_array_equal(many.status[:140], few.status)
    assert_allclose(many.norm[:140], few.norm, rtol=1e-11, atol=1e-12)
    assert_allclose(many.ts[:140], few.ts, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_bins_of_many_are_those_of_few(many):
    """A bin gets the same in a block of its own size, with others, and at the end of a block."""
    arrays, (values, status) = many
    assert set(status) == {0, 1, 2, 3, 4}
    for rows in (slice(0, 1), slice(0, 140), slice(1000, 1030)):
        assert_same(results(taken(arrays, rows)), (values[:, rows], status[rows]))


@pytest.mark.slow
@pytest.mark.parametrize("n_bins", [999, 1000, 1024, 1025])
def test_block_boundaries(many, n_bins):
    arrays, (values, status) = many
    rows = slice(0, n_bins)
    assert_same(results(taken(arrays, rows)), (values[:, rows], status[rows]))


@pytest.mark.slow
def test_order_and_padding_change_nothing(many):
    arrays, (values, status) = many
    order = np.random.default_rng(1).permutation(len(status))
    assert_same(results(taken(arrays, order)), (values[:, order], status[order]))
    padded = {
        name: np.concatenate([array, np.ones_like(array) * (name != "mask")], axis=2)
        for name, array in arrays.items()
    }
    padded["mask"] = np.concatenate([arrays["mask"], np.zeros_like(arrays["mask"])], axis=2)
    assert_same(results(padded), (values, status))


@pytest.mark.slow
def test_derivatives_of_many(many):
    """Through blocks and what is finished apart, as through few bins."""
    arrays, _ = many

    def total(background, rows):
        data = ProfileData(**{**taken(arrays, rows), "background": background})
        fit = fit_norms(data)
        return jax.numpy.nansum(limits(data, fit).norm_ul) + jax.numpy.nansum(fit.norm)

    few = slice(0, 140)
    expected = jax.grad(total)(arrays["background"][few], few)
    found = jax.grad(total)(arrays["background"], slice(None))
    assert_allclose(found[few], expected, rtol=1e-8, atol=1e-12)


@pytest.fixture
def traced(monkeypatch):
    """Names of the functions that are compiled anew."""
    names = []
    monkeypatch.setattr(compilation, "_programs", compilation._Programs())
    original = compilation._Programs.get

    def get(self, key, make):
        def counted():
            names.append(key[0])
            return make()

        return original(self, key, counted)

    monkeypatch.setattr(compilation._Programs, "get", get)
    return names


@pytest.mark.parametrize("kind", [ProfileData, OnOffData])
@pytest.mark.parametrize("backend", [jax.default_backend(), "gpu"])
def test_other_numbers_of_bins_compile_nothing(traced, monkeypatch, kind, backend):
    """50 bins after 51, in other groups, and with 19 after 20 counts bins; on a GPU as well."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )

    def run(shape):
        rng = np.random.default_rng(0)
        ones = rng.uniform(1.0, 2.0, shape)
        arrays = (
            {"counts": rng.poisson(3.0 * ones).astype(float), "background": ones}
            if kind is ProfileData
            else {"n_on": rng.poisson(ones).astype(float), "n_off": ones, "alpha": ones}
        )
        return scan(kind(**arrays, npred_ref=ones), [0.0, 1.0])

    assert run((51, 1, 20)).shape == (51, 1, 2)
    assert len(traced) == 1
    compiled.clear()
    for shape in ((50, 1, 20), (17, 3, 19), (64, 1, 20)):
        assert run(shape).shape == (*shape[:2], 2)
    assert len(traced) == 1
    assert compiled == []


@pytest.mark.parametrize("n", [1, 8, 9, 51, 64, 1000, 1025, 5000, 99_999, 1_000_000])
def test_buckets_are_not_much_larger(n):
    rows = batches._bucket(n)
    assert n <= rows <= max(8, 2 * n)
    assert n <= 16 * batches.BLOCK or rows <= 1.13 * n
    assert n <= batches.BLOCK or rows % batches.BLOCK == 0
    assert n <= batches._counts_bins_bucket(n) <= 1.25 * n
