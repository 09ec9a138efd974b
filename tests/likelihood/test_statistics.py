"""cash and wstat against published values, brute force and high precision."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special
from scipy.optimize import minimize_scalar

from jaxprof.core import cash, wstat
from jaxprof.likelihood.statistics import (
    TRUNCATION,
    cash_difference,
    cash_score,
    log_factorial,
    wstat_difference,
    wstat_rates,
    wstat_score,
)

# Predicted signal, counts and acceptance ratios, with the values that sherpa gives for them.
SIGNAL = np.array(
    [0.59752422, 9.13666449, 12.98288095, 5.56974565, 13.52509804]
    + [11.81725635, 0.47963765, 11.17708176, 5.18504894, 8.30202394]
)
N_ON = np.array([0, 13, 7, 5, 11, 16, 0, 9, 3, 12])
N_OFF = np.array([0, 7, 4, 0, 18, 7, 1, 5, 12, 25])
ALPHA = np.array(
    [0.83746243, 0.17003354, 0.26034507, 0.69197751, 0.89557033]
    + [0.34068848, 0.0646732, 0.86411967, 0.29087245, 0.74108241]
)
SHERPA_CASH = np.array(
    [1.19504844, -39.24635098872072, -9.925081055136996, -6.034002586236575, -30.249839537105466]
    + [-55.39143500383233, 0.9592753, -21.095413867175516, 0.49542219758430406]
    + [-34.19193611846045]
)
SHERPA_WSTAT = np.array(
    [1.19504844, 0.625311794002, 4.25810886127, 0.0603765381044, 11.7285002468]
    + [0.206014834301, 1.084611, 2.72972381792, 4.60602990838, 7.51658734973]
)


def test_cash_published():
    assert_allclose(cash(N_ON, SIGNAL), SHERPA_CASH, rtol=1e-8)


def test_wstat_published():
    # sherpa's values are given with 7 to 12 digits.
    assert_allclose(wstat(N_ON, N_OFF, ALPHA, SIGNAL), SHERPA_WSTAT, rtol=2e-7)


def test_cash_by_hand():
    assert float(cash(0, 3.0)) == 6.0
    assert_allclose(cash(2, 1.0), 2.0)
    assert_allclose(cash(1, np.e), 2 * np.e - 2, rtol=1e-15)


def test_cash_floor():
    """Below zero the prediction is zero, and a count there costs the logarithm of the floor."""
    assert_allclose(cash([0, 3], [-1.0, -1.0]), [0.0, -6 * np.log(1e-25)], rtol=1e-15)


def test_wstat_is_li_ma():
    """W(0) - W(excess) is the square of Li & Ma's significance, their equation 17."""
    n_on, n_off, alpha = 30.0, 80.0, 0.25
    ratio_on = (1 + alpha) / alpha * n_on / (n_on + n_off)
    ratio_off = (1 + alpha) * n_off / (n_on + n_off)
    squared = 2 * (n_on * np.log(ratio_on) + n_off * np.log(ratio_off))
    assert_allclose(wstat(n_on, n_off, alpha, 0.0), squared, rtol=1e-13)
    assert_allclose(wstat(n_on, n_off, alpha, n_on - alpha * n_off), 0.0, atol=1e-12)


@pytest.mark.parametrize("n_on", [0, 1, 7])
@pytest.mark.parametrize("n_off", [0, 1, 12])
@pytest.mark.parametrize("signal", [-3.0, -0.4, 0.0, 0.3, 2.5, 40.0])
def test_wstat_profile_brute_force(n_on, n_off, signal):
    """The analytic background minimises the two-Poisson likelihood over all allowed rates."""
    alpha = 0.4

    def full(off):
        on = signal + alpha * off
        total = 2 * (on + off)
        total -= 2 * n_on * np.log(on) if n_on else 0.0
        return total - (2 * n_off * np.log(off) if n_off else 0.0)

    lowest = max(0.0, -signal / alpha)
    best = minimize_scalar(
        full, bounds=(lowest + 1e-12, lowest + 100), method="bounded", options={"xatol": 1e-12}
    )
    saturated = sum(2 * (n - (n * np.log(n) if n else 0.0)) for n in (n_on, n_off))
    assert_allclose(wstat(n_on, n_off, alpha, signal), best.fun - saturated, atol=1e-7)
    off, on, _ = wstat_rates(*map(jnp.asarray, (float(n_on), float(n_off), alpha, signal)))
    assert off >= 0
    assert on >= 0


@pytest.mark.parametrize("norm", [1.7, 0.2, -0.3])
@pytest.mark.parametrize("step", [1e-9, 1e-4, 0.5])
def test_differences_high_precision(norm, step):
    """Differences keep their digits where the two values agree to many."""
    n, b, s, alpha, n_off = 1234.0, 1000.0, 300.0, 0.3, 3100.0
    x, x0 = jnp.asarray(norm + step), jnp.asarray(norm)
    with mpmath.workdps(50):

        def exact_cash(value):
            mu = mpmath.mpf(b) + mpmath.mpf(value) * s
            return 2 * (mu - n * mpmath.log(mu))

        def exact_wstat(value):
            m, a = mpmath.mpf(value) * s, mpmath.mpf(alpha)
            c = a * (n + n_off) - (1 + a) * m
            off = (c + mpmath.sqrt(c**2 + 4 * a * (a + 1) * n_off * m)) / (2 * a * (a + 1))
            on = m + a * off
            return 2 * (on + off - n * mpmath.log(on) - n_off * mpmath.log(off))

        expected_cash = float(exact_cash(float(x)) - exact_cash(norm))
        expected_wstat = float(exact_wstat(float(x)) - exact_wstat(norm))
    got = cash_difference(*map(jnp.asarray, (n, b, s)), x, x0)
    assert_allclose(got, expected_cash, rtol=1e-11)
    got = wstat_difference(*map(jnp.asarray, (n, n_off, alpha, s)), x, x0)
    assert_allclose(got, expected_wstat, rtol=1e-11)


@pytest.mark.parametrize("counts", [0.0, 4.0])
@pytest.mark.parametrize("norm", [-0.3, 0.0, 1.2])
def test_scores_are_derivatives(counts, norm):
    """The hand-written scores are half the automatic derivatives of the statistics."""
    b, s = jnp.asarray(2.0), jnp.asarray(3.0)
    n, x = jnp.asarray(counts), jnp.asarray(norm)
    automatic = jax.grad(lambda z: cash(n, b + z * s))(x) / 2
    assert_allclose(cash_score(n, b, s, x), automatic, rtol=1e-13)
    off, alpha = jnp.asarray(5.0), jnp.asarray(0.4)
    automatic = jax.grad(lambda z: wstat(n, off, alpha, z * s))(x) / 2
    assert_allclose(wstat_score(n, off, alpha, s, x), automatic, rtol=1e-10, atol=1e-12)


def test_wstat_bound_derivative():
    """Without ON counts and far below zero the derivative is that of the bound OFF rate."""
    n_off, alpha, s = map(jnp.asarray, (6.0, 0.5, 2.0))
    for norm in (-3.0, -1.2, -0.9):
        step = 1e-5
        x = jnp.asarray(norm)
        low, high = (wstat(0.0, n_off, alpha, s * z) for z in (x - step, x + step))
        got = wstat_score(jnp.asarray(0.0), n_off, alpha, s, x)
        assert_allclose(got, (high - low) / (4 * step), rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    arrays = [np.asarray(a, dtype) for a in (N_ON, N_OFF, ALPHA, SIGNAL)]
    assert wstat(*arrays).dtype == dtype
    assert cash(arrays[0], arrays[3]).dtype == dtype
    assert_allclose(wstat(*arrays), SHERPA_WSTAT, rtol=1e-4 if dtype == np.float32 else 2e-7)


@pytest.mark.parametrize("n_off", [1e3, 1e5, 1e7])
def test_wstat_of_many_counts_in_float32(n_off):
    """No cancellation of the counts' size: the statistic is good to its own last digits."""
    alpha, n_on = 0.125, 0.14 * n_off
    signals = np.linspace(-0.5, 3, 8) * (n_on - alpha * n_off)
    with mpmath.workdps(40):
        expected = []
        for m in map(mpmath.mpf, signals):
            c = alpha * (n_on + n_off) - (1 + alpha) * m
            root = mpmath.sqrt(c**2 + 4 * alpha * (alpha + 1) * n_off * m)
            off = (c + root) / (2 * alpha * (alpha + 1))
            on = m + alpha * off
            terms = [rate - n - n * mpmath.log(rate / n) for n, rate in ((n_on, on), (n_off, off))]
            expected.append(float(2 * sum(terms)))
    single = [np.asarray(value, np.float32) for value in (n_on, n_off, alpha, signals)]
    assert_allclose(wstat(*single), expected, rtol=3e-5, atol=1e-6)
    assert_allclose(wstat(n_on, n_off, alpha, signals), expected, rtol=1e-13, atol=1e-13)


def test_wstat_derivatives_by_the_counts():
    """2 ln(n / rate), and how it changes with the signal also where there are no counts."""
    n_on, n_off, alpha, signal = 7.0, 12.0, 0.4, 1.3
    off, on, _ = wstat_rates(*map(jnp.asarray, (n_on, n_off, alpha, signal)))
    slopes = jax.grad(wstat, argnums=(0, 1))(n_on, n_off, alpha, signal)
    assert_allclose(slopes, 2 * np.log([n_on / on, n_off / off]), rtol=1e-12)
    mixed = jax.grad(jax.grad(wstat, argnums=3), argnums=0)
    step = 1e-6
    for counts in (0.0, 7.0):
        high = jax.grad(wstat, argnums=3)(counts + step, n_off, alpha, signal)
        low = jax.grad(wstat, argnums=3)(counts, n_off, alpha, signal)
        assert_allclose(mixed(counts, n_off, alpha, signal), (high - low) / step, rtol=1e-5)


def test_gradient_without_counts_is_finite():
    gradient = jax.grad(lambda mu: cash(jnp.zeros(3), mu).sum())(jnp.asarray([0.0, 1.0, -1.0]))
    assert np.all(np.isfinite(gradient))
    gradients = jax.grad(lambda *a: wstat(*a, 1.0), argnums=(0, 1, 2))(0.0, 0.0, 0.5)
    assert np.all(np.isfinite(gradients))


def test_logarithm_of_the_factorial():
    n = np.r_[0.0, 0.1, 1.0, 3.3, 6.0, 6.999, 7.0, 8.0, 20.0, 1e4, 1e9]
    assert_allclose(log_factorial(n), special.gammaln(n + 1), rtol=1e-14, atol=4e-15)
    slope = jax.vmap(jax.grad(log_factorial))(jnp.asarray(n))
    assert_allclose(slope, special.digamma(n + 1), rtol=1e-13, atol=1e-14)
    single = log_factorial(jnp.asarray(n, jnp.float32))
    assert single.dtype == jnp.float32
    assert_allclose(single, special.gammaln(n + 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("first", ["on", "off"])
def test_derivatives_by_a_first_count(first):
    """One-sided ones: rates that vanish with their count leave ``n ln n`` in no difference."""
    sign, other = (-1.0, 5.0) if first == "on" else (1.0, 3.0)
    alpha, one = jnp.asarray(0.4), jnp.asarray(1.0)

    def counts(n):
        return (n, jnp.asarray(other)) if first == "on" else (jnp.asarray(other), n)

    # Beyond these signals the rate of the first count is zero without it.
    vanishing = sign * jnp.array([3.4, 6.0])

    def rises(n):
        between = wstat_difference(*counts(n), alpha, one, *vanishing)
        return jnp.stack([between, wstat(*counts(n), alpha, vanishing[0])])

    def others(n):
        usual = wstat_difference(*counts(n), alpha, one, jnp.asarray(0.5), jnp.asarray(0.2))
        return jnp.stack([usual, wstat_score(*counts(n), alpha, one, vanishing[1])])

    for function in map(jax.jit, (rises, others)):
        n = 1e-5 * np.arange(5)
        values = np.array([function(value) for value in n])
        expected = np.array([-25.0, 48.0, -36.0, 16.0, -3.0]) @ values / (12 * n[1])
        slopes = jax.jvp(function, (0.0,), (1.0,))[1]
        assert_allclose(slopes, expected, rtol=1e-5)
        assert np.all(np.abs(expected) > 1e-3)

    # A floor of the rate stands for what is infinite: no rate here, one there.
    def mixed(n):
        return wstat_difference(*counts(n), alpha, one, vanishing[0], jnp.asarray(0.1))

    assert np.abs(jax.jit(jax.grad(mixed))(0.0)) > 50
    # The same of cash, whose floor is part of its definition.
    slope = jax.grad(lambda n: cash_difference(n, *map(jnp.asarray, (0.0, 1.0, 2.0, 0.0))))(0.0)
    assert_allclose(slope, -2 * np.log(2.0 / TRUNCATION), rtol=1e-12)
