import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxprof.likelihood import goodness
from jaxprof.likelihood.goodness import LARGE, SMALL, cash_expectation, wstat_expectation
from jaxprof.likelihood.statistics import wstat

SIZE = 256
compiled = jax.jit(cash_expectation)


def find(mu):
    """Mean and variance; all calls have one shape, so that one compilation serves them."""
    mu = np.asarray(mu)
    padded = np.ones(SIZE, mu.dtype)
    padded[: len(mu)] = mu
    return tuple(np.asarray(array)[: len(mu)] for array in compiled(padded))


def exact(mu):
    """Mean and variance by the definition, in 30 digits."""
    with mpmath.workdps(30):
        mu = mpmath.mpf(float(mu))
        spread = int(14 * mpmath.sqrt(mu)) + 30
        first = max(0, int(mu) - spread)
        weight = mpmath.exp(first * mpmath.log(mu) - mu - mpmath.loggamma(first + 1))
        mean = square = mpmath.mpf(0)
        for n in range(first, int(mu) + spread):
            value = 2 * (mu - n + (n * mpmath.log(n / mu) if n else 0))
            mean += weight * value
            square += weight * value**2
            weight *= mu / (n + 1)
        return float(mean), float(square - mean**2)


NEAR = [s * (1 + d) for s in (SMALL, LARGE) for d in (-1e-9, 0, 1e-9)]
EXACT_AT = [*np.geomspace(1e-12, 3e3, 120), *NEAR[:3]]


@pytest.fixture(scope="module")
def moments():
    """Predictions, and their exact moments."""
    return np.array(EXACT_AT), np.array([exact(mu) for mu in EXACT_AT]).T


def test_against_exact_sums(moments):
    mu, expected = moments
    np.testing.assert_allclose(find(mu), expected, rtol=5e-8)


def test_single_precision_stays_single(moments):
    mu, expected = moments
    found = find(mu.astype(np.float32))
    assert all(array.dtype == np.float32 for array in found)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_single_precision_by_default(moments):
    mu, expected = moments
    with jax.enable_x64(False):
        np.testing.assert_allclose(find(mu), expected, rtol=1e-5)


def test_many_counts():
    mu = np.array([2e4, 3e4, 1e5, 1e6])
    mean, variance = find(mu)
    np.testing.assert_allclose(mean - 1, 1 / (6 * mu), rtol=2e-4)  # the asymptotic series
    np.testing.assert_allclose((mean[0], variance[0]), exact(mu[0]), rtol=2e-9)
    np.testing.assert_allclose(variance, 2, rtol=1e-4)
    assert np.all(np.diff(variance) < 0)


def test_few_counts():
    # One count at most: it has the probability mu and the statistic -2 (1 + ln mu).
    mu = np.array([1e-12, 1e-8])
    mean, variance = find(mu)
    np.testing.assert_allclose(mean, -2 * mu * np.log(mu), rtol=1e-6)
    np.testing.assert_allclose(variance, 4 * mu * (1 + np.log(mu)) ** 2, rtol=1e-6)


def test_kaastra():
    # Approximations published by Kaastra (2017), A&A 605, A51, section 4.
    def mean(mu):
        if mu < 0.5:
            return -0.25 * mu**3 + 1.38 * mu**2 - 2 * mu * np.log(mu)
        if mu < 2:
            high = -0.00335 * mu**5 + 0.04259 * mu**4 - 0.27331 * mu**3
            return high + 1.381 * mu**2 - 2 * mu * np.log(mu)
        if mu < 5:
            return 1.019275 + 0.1345 * mu ** (0.461 - 0.9 * np.log(mu))
        if mu < 10:
            return 1.00624 + 0.604 / mu**1.68
        return 1 + 0.1649 / mu + 0.226 / mu**2

    def variance(mu):  # two of its ranges
        if mu > 10:
            return 2 + 0.6747 / mu + 0.79 / mu**2 + 12 / mu**3
        return 2.12336 + 0.012202 * mu ** (5.717 - 2.6 * np.log(mu))

    mu = np.geomspace(1e-3, 1e3, 200)
    found = find(mu)
    np.testing.assert_allclose(found[0], [mean(m) for m in mu], rtol=3e-3)
    few = ((mu > 3) & (mu < 5)) | (mu > 10)
    np.testing.assert_allclose(found[1][few], [variance(m) for m in mu[few]], rtol=3e-3)


def test_toys():
    rng = np.random.default_rng(3)
    mu = rng.uniform(0.001, 4, SIZE)
    counts = rng.poisson(mu, (20_000, SIZE))
    terms = 2 * (mu - counts + counts * np.log(np.maximum(counts, 1) / mu))
    stat = terms.sum(axis=1)
    mean, variance = (array.sum() for array in find(mu))
    assert abs(stat.mean() - mean) < 4 * np.sqrt(variance / len(stat))
    assert stat.var() == pytest.approx(variance, rel=0.05)


def test_continuous():
    moments = np.array(find(NEAR)).reshape(2, 2, 3)
    np.testing.assert_allclose(moments[..., ::2], moments[..., [1, 1]], rtol=2e-9)


def test_zero_negative_infinite_nan():
    mean, variance = find([0.0, -1.0, np.inf, np.nan, 1e-300])
    np.testing.assert_array_equal(mean[:4], [0, 0, 1, np.nan])
    np.testing.assert_array_equal(variance[:4], [0, 0, 2, np.nan])
    assert 0 < mean[4] < 1e-296 and 0 < variance[4] < 1e-293


def test_shapes_and_integers():
    shapes = jax.eval_shape(cash_expectation, np.zeros((2, 3, 0), int))
    assert all(s.shape == (2, 3, 0) and s.dtype == np.float64 for s in shapes)
    mean, variance = compiled(3)
    assert mean.shape == variance.shape == ()
    np.testing.assert_allclose((mean, variance), exact(3), rtol=5e-8)


def test_derivatives():
    slope = jax.jit(jax.vmap(jax.jacfwd(lambda x: jnp.stack(cash_expectation(jnp.exp(x))))))
    x, step = np.log([1e-9, 1e-5, 1.1e-3, 0.3, 3.0, 70.0, 9e3, 2e4]), 1e-4
    numeric = (np.array(find(np.exp(x + step))) - find(np.exp(x - step))) / (2 * step)
    np.testing.assert_allclose(slope(x), numeric.T, rtol=1e-5, atol=1e-10)
    ends = jax.grad(lambda m: sum(a.sum() for a in compiled(m)))(jnp.array([0.0, SMALL, LARGE]))
    assert np.isfinite(ends).all()


def test_spline_is_made_once():
    assert goodness._spline() is goodness._spline()


@pytest.mark.parametrize("few", [20.0, 200.0])
def test_expectation_of_on_off_data(few):
    """Toys with the true signal: the background is profiled, one count of two is left."""
    alpha, background = 0.5, 2 * few
    rng = np.random.default_rng(1)
    n_toys = 40_000
    signal = few - alpha * background + 30.0
    n_on = rng.poisson(signal + alpha * background, n_toys).astype(float)
    n_off = rng.poisson(background, n_toys).astype(float)
    with jax.enable_x64(True):
        toys = np.asarray(wstat(n_on, n_off, alpha, signal))
        mean, variance = wstat_expectation(signal + alpha * background, background)
    assert abs(toys.mean() / mean - 1) < 0.013 + 4 * np.sqrt(2 / n_toys)
    assert abs(toys.var() / variance - 1) < 0.05 + 4 * np.sqrt(14 / n_toys)


def test_no_expectation_of_few_on_off_counts():
    mean, variance = wstat_expectation(jnp.array([19.9, 30.0, 30.0]), jnp.array([30.0, 19.9, 30.0]))
    assert np.isnan(mean[:2]).all() and np.isnan(variance[:2]).all()
    assert mean[2] == 1.0 and variance[2] == 2.0
