"""Intervals by name against published tables and closed forms."""

import math

import astropy.units as u
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import gammaincc, gammaln, ndtr, pdtr, xlogy

import jaxprof
from jaxprof.inference.bracketed import falling_root
from jaxprof.inference.counting import cls_limit, unified_interval
from jaxprof.inference.levels import confidence_level, one_sided_sigma, two_sided_sigma
from jaxprof.likelihood.arrays import profile_data, separate_counts
from jaxprof.likelihood.data import OnOffData, ProfileData

BACKGROUNDS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
# Feldman & Cousins 1998, Phys. Rev. D 57, 3873, table IV: 90 %, a row for each of 0 to 10 counts.
LOW = """
0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00
0.11 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00
0.53 0.03 0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.00
1.10 0.60 0.10 0.00 0.00 0.00 0.00 0.00 0.00 0.00
1.47 1.17 0.74 0.24 0.00 0.00 0.00 0.00 0.00 0.00
1.84 1.53 1.25 0.93 0.43 0.00 0.00 0.00 0.00 0.00
2.21 1.90 1.61 1.33 1.08 0.65 0.15 0.00 0.00 0.00
3.56 3.06 2.56 2.09 1.59 1.18 0.89 0.39 0.00 0.00
3.96 3.46 2.96 2.51 2.14 1.81 1.51 1.06 0.66 0.00
4.36 3.86 3.36 2.91 2.53 2.19 1.88 1.59 1.33 0.43
5.50 5.00 4.50 4.00 3.50 3.04 2.63 2.27 1.94 1.19
"""
HIGH = """
 2.44  1.94  1.61  1.33  1.26  1.18  1.08  1.06  1.01  0.98
 4.36  3.86  3.36  2.91  2.53  2.19  1.88  1.59  1.39  1.22
 5.91  5.41  4.91  4.41  3.91  3.45  3.04  2.67  2.33  1.73
 7.42  6.92  6.42  5.92  5.42  4.92  4.42  3.95  3.53  2.78
 8.60  8.10  7.60  7.10  6.60  6.10  5.60  5.10  4.60  3.60
 9.99  9.49  8.99  8.49  7.99  7.49  6.99  6.49  5.99  4.99
11.47 10.97 10.47  9.97  9.47  8.97  8.47  7.97  7.47  6.47
12.53 12.03 11.53 11.03 10.53 10.03  9.53  9.03  8.53  7.53
13.99 13.49 12.99 12.49 11.99 11.49 10.99 10.49  9.99  8.99
15.30 14.80 14.30 13.80 13.30 12.80 12.30 11.80 11.30 10.30
16.50 16.00 15.50 15.00 14.50 14.00 13.50 13.00 12.50 11.50
"""


def table(text):
    return np.array([line.split() for line in text.strip().splitlines()], float)


def counting(counts, background, signal=2.0):
    """One counts bin for each norm."""
    n = np.asarray(counts, float).reshape(-1, 1, 1)
    arrays = {"background": np.broadcast_to(np.reshape(background, (-1, 1, 1)), n.shape)}
    with jax.enable_x64(True):
        return separate_counts(ProfileData(counts=n, npred_ref=np.full(n.shape, signal), **arrays))


def ends(likelihood, **options):
    with jax.enable_x64(True):
        found = jaxprof.intervals(likelihood, **options)
    return np.asarray(found.low)[:, 0], np.asarray(found.high)[:, 0]


def test_feldman_and_cousins_table():
    counts, background = np.meshgrid(np.arange(11.0), BACKGROUNDS, indexing="ij")
    likelihood = counting(counts, background.ravel())
    low, high = ends(likelihood, kind="feldman-cousins", cl=0.9)
    # They computed it on a grid of signals of 0.005.
    assert_allclose(2 * low.reshape(counts.shape), table(LOW), atol=0.0101)
    assert_allclose(2 * high.reshape(counts.shape), table(HIGH), atol=0.0101)


def accepted(n, b, s, cl):
    """Whether a signal accepts counts: an ordering of its own, of all counts that matter."""
    k = np.arange(200.0 + 2 * b)
    log_p = xlogy(k, s + b) - (s + b)
    best = np.maximum(k, b)
    rank = log_p - (xlogy(k, best) - best)
    p = np.exp(log_p - gammaln(k + 1))
    order = np.argsort(-rank, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    return before[np.flatnonzero(order == n)[0]] < cl


@pytest.mark.parametrize("cl", [0.6827, 0.95, 0.99])
def test_feldman_cousins_by_the_definition(cl):
    """Signals inside accept the counts, those right outside do not."""
    for n, b in ((0, 0.3), (3, 0.0), (7, 2.2), (30, 12.5)):
        low, high = unified_interval(float(n), float(b), cl)
        if n > b:
            assert accepted(n, b, high * (1 - 1e-6), cl)
            assert not accepted(n, b, high * (1 + 1e-6), cl)
        if low > 0:
            assert accepted(n, b, low * (1 + 1e-6), cl) and not accepted(n, b, low * (1 - 1e-6), cl)


@pytest.mark.parametrize("n", [0, 1])
def test_feldman_cousins_of_large_deficits(n):
    """Counts far above those that are observed are ranked before them.

    The limit is the largest of all backgrounds from the given one on.
    """
    _, high = unified_interval(float(n), 400.0, 0.9999)
    backgrounds = 400.0 + np.linspace(0.0, 5.0, 101)
    assert any(accepted(n, b, high * 0.99, 0.9999) for b in backgrounds)
    assert not any(accepted(n, b, high * 1.001, 0.9999) for b in backgrounds)


def test_cls_of_counting_experiments():
    """Without counts ln 20, whatever the background; else the ratio of two sums."""
    n, b = np.array([0, 0, 3, 10, 40.0]), np.array([0, 3.0, 5.0, 4.0, 40.0])
    low, high = ends(counting(n, b), kind="cls", cl=0.95)
    assert np.all(low == 0)
    assert_allclose(2 * high[:2], np.log(20), rtol=1e-9)
    assert_allclose(pdtr(n, 2 * high + b) / pdtr(n, b), 0.05, rtol=1e-9)


@pytest.mark.slow
def test_asymptotic_cls_is_that_of_many_counts():
    n, b = np.array([9800, 10000, 10250.0]), 1e4
    likelihood = counting(n, b)
    exact = ends(likelihood, kind="cls", cl=0.95)[1]
    assert_allclose(ends(likelihood, kind="cls", cl=0.95, method="asymptotic")[1], exact, rtol=0.01)


@pytest.mark.slow
def test_bayesian_closed_forms():
    """The posterior of a flat prior is a truncated gamma distribution."""
    n, b = np.array([0, 1, 3, 5, 12, 40.0]), 3.0
    likelihood = counting(n, b)
    low, high = ends(likelihood, kind="bayesian", cl=0.9, highest_density=False)
    for tail, end in ((0.95, low), (0.05, high)):
        assert_allclose(gammaincc(n + 1, 2 * end + b) / gammaincc(n + 1, b), tail, rtol=1e-5)
    low, high = ends(likelihood, kind="bayesian", cl=0.9)
    tails = gammaincc(n + 1, 2 * np.array([low, high]) + b) / gammaincc(n + 1, b)
    assert_allclose(tails[0] - tails[1], 0.9, rtol=1e-5)
    density = [xlogy(n, 2 * end + b) - (2 * end + b) for end in (low, high)]
    inside = low > 0
    assert list(inside) == [False, False, False, False, True, True]
    assert_allclose(density[0][inside], density[1][inside], atol=2e-3)
    with pytest.raises(ValueError, match="prior must"):
        ends(likelihood, kind="bayesian", prior=lambda x: -x)

    def prior(x):
        return 1 / (2 * x + b)

    # A prior of 1 / (2 s + b) takes one count away.
    low, high = ends(likelihood, kind="bayesian", cl=0.9, prior=prior, highest_density=False)
    m = n[1:]
    assert_allclose(gammaincc(m, 2 * high[1:] + b) / gammaincc(m, b), 0.05, rtol=2e-5)


@pytest.mark.slow
def test_bounded_is_feldman_cousins_of_a_normal_distribution():
    """Where counts are many: acceptance intervals of the likelihood ratio, one after the other."""
    x = np.array([-2.0, -0.5, 0.4, 1.5, 2.5])
    b, scale = 1e8, 1e4
    low, high = ends(counting(b + scale * x, b, scale), kind="bounded", cl=0.9)

    def accepted(measured, s):
        def t(y):
            return (y - s) ** 2 - (y**2 if y < 0 else 0.0)

        level = t(measured)
        left = (s**2 - level) / (2 * s) if level > s**2 else s - np.sqrt(level)
        return ndtr(np.sqrt(level)) - ndtr(left - s) - 0.9

    for measured, bottom, top in zip(x, low, high, strict=True):
        best = max(measured, 1e-9)
        expected = brentq(lambda s, m=measured: accepted(m, s), best, 6.0)
        assert_allclose(top, expected, rtol=1e-3)
        if accepted(measured, 1e-9) > 0:
            expected = brentq(lambda s, m=measured: accepted(m, s), 1e-9, best)
            assert_allclose(bottom, expected, rtol=3e-3)
        else:
            assert bottom == 0
    # Their table X: 1.64 at zero.
    assert_allclose(ends(counting(b, b, scale), kind="bounded", cl=0.9)[1], 1.645, atol=2e-3)


@pytest.mark.slow
def test_profile_and_one_sided_of_on_off_data():
    """Roots of the likelihood ratio of Li and Ma, profiled by hand (Rolke et al. 2005)."""
    on, off, alpha = 12.0, 15.0, 0.3
    with jax.enable_x64(True):
        likelihood = separate_counts(
            OnOffData(**{k: np.full((1, 1, 1), v) for k, v in
                         dict(n_on=on, n_off=off, alpha=alpha, npred_ref=1.0).items()})
        )  # fmt: skip

    def stat(s):
        a = alpha * (on + off) - (1 + alpha) * s
        rate = (a + np.sqrt(a**2 + 4 * alpha * (1 + alpha) * off * s)) / (2 * alpha * (1 + alpha))
        return 2 * (s + (1 + alpha) * rate - on * np.log(s + alpha * rate) - off * np.log(rate))

    best = on - alpha * off
    for kind, z in (("profile", two_sided_sigma(0.9)), ("one-sided", one_sided_sigma(0.9))):
        low, high = ends(likelihood, kind=kind, cl=0.9)
        expected = brentq(lambda s, z=z: stat(s) - stat(best) - z**2, best, 40)
        assert_allclose(high, expected, rtol=1e-8)
    assert low == -np.inf
    assert 0 < ends(likelihood, kind="bounded", cl=0.9)[1] < 40
    assert jaxprof.intervals(likelihood, kind="cls").method == "asymptotic"


@pytest.mark.slow
def test_toys_find_the_exact_ends():
    n, b = np.array([1.0, 8.0]), np.array([0.4, 3.0])
    likelihood = counting(n, b)
    for kind, tolerance in (("feldman-cousins", 0.1), ("cls", 0.06)):
        exact = ends(likelihood, kind=kind, cl=0.9)[1]
        found = ends(likelihood, kind=kind, cl=0.9, method="toys", n_toys=3000)[1]
        assert_allclose(found, exact, rtol=tolerance)


def test_levels():
    assert_allclose(confidence_level(n_sigma=2), 0.954499736)
    assert confidence_level() == confidence_level(n_sigma=2) and confidence_level(0.9) == 0.9
    for options in ({"cl": 1.0}, {"cl": 95}, {"n_sigma": 0}, {"cl": 0.9, "n_sigma": 1}):
        with pytest.raises(ValueError, match="cl|n_sigma"):
            confidence_level(**options)


def test_what_cannot_be_had_says_what_can():
    simple = counting([3.0], 1.0)
    several = separate_counts(
        ProfileData(**{k: np.ones((1, 1, 2)) for k in ("counts", "background", "npred_ref")})
    )
    for likelihood, options, match in (
        (simple, {"kind": "fc"}, "kind must be one of 'profile'"),
        (simple, {"kind": "cls", "method": "sums"}, "method must be one of"),
        (simple, {"kind": "bounded", "method": "toys"}, "'feldman-cousins' has toys"),
        (several, {"kind": "cls", "method": "exact"}, "sum_over_energy_groups"),
        (simple, {"kind": "feldman-cousins", "method": "asymptotic"}, "'bounded'"),
        (simple, {"kind": "one-sided", "cl": 0.3}, "above 0.5"),
        (lambda params: 0.0, {}, "jaxprof.limits"),
    ):
        with pytest.raises(ValueError, match=match):
            jaxprof.intervals(likelihood, **options)
    with pytest.raises(ValueError, match="cannot be traced"):
        jax.jit(lambda x: jaxprof.intervals(x, kind="cls").high)(simple)


def test_separate_counts_are_the_inverse():
    likelihood = counting([3.0, 4.0], 1.5)
    data = profile_data(likelihood)
    again = profile_data(separate_counts(data))
    for name in ("counts", "background", "npred_ref", "mask"):
        assert np.array_equal(getattr(again, name), getattr(data, name))


def test_roots_of_falling_functions():
    a = np.array([0.3, 2.0, 50.0, -1.0])
    found = falling_root(lambda x: a - x**3, np.zeros(4), np.ones(4))
    assert_allclose(found, np.cbrt(np.maximum(a, 0)), rtol=1e-9)
    assert np.isnan(falling_root(lambda x: 1 + 0 * x, np.zeros(1), np.ones(1)))

    def with_gap(x):
        return np.where((x > 0.3) & (x < 0.9), np.nan, np.where(x < 0.9, 0.2, -1.8))

    assert np.isnan(falling_root(with_gap, np.zeros(1), np.ones(1)))


@pytest.mark.parametrize("n, b", [(0.0, 1e6), (3.0, 1e4), (1e8, 1.004e8)])
def test_cls_where_probabilities_underflow(n, b):
    """The ratio of incomplete gamma functions, by mpmath."""
    signal = mpmath.mpf(float(cls_limit(np.array([n]), np.array([b]), 0.95)[0]))
    with mpmath.workdps(60):
        # Gamma(a, x) / Gamma(a, b) by the continued fraction from its end, with many terms.
        def tail(x):
            found = mpmath.mpf(0)
            for i in range(3000, 0, -1):
                found = i * (n + 1 - i) / (x - n + 2 * i + found)
            return x - n + found

        ratio = mpmath.exp(-signal) * (1 + signal / b) ** (n + 1) * tail(b) / tail(b + signal)
    assert_allclose(float(ratio), 0.05, rtol=1e-7)


def test_feldman_cousins_of_large_numbers():
    """In little time and memory; accepted is what lower counts leave of the probability."""
    _, high = unified_interval(0.0, 1e6, 0.95)
    assert unified_interval(1e8, 1e8, 0.95)[1] == pytest.approx(1.959964 * 1e4, rel=1e-3)
    for signal, expected in ((high - 2e-3, True), (high + 1e-4, False)):
        found = []
        for b in 1e6 + np.linspace(0.0, 4.0, 101):
            # Ranked before are counts whose ratio to that of their best signal is higher.
            k = np.arange(1e6 - 1e4, 1e6 + 1e4)
            best = np.maximum(k, b)
            before = xlogy(k, (signal + b) / best) - (signal + b) + best > -signal
            first, last = k[before][0], k[before][-1]
            found.append(pdtr(last, signal + b) - pdtr(first - 1, signal + b) < 0.95)
        assert any(found) is expected


def test_confidence_of_one_is_refused():
    with pytest.raises(ValueError, match="n_sigma=9"):
        jaxprof.intervals(counting([3.0], 1.0), n_sigma=9)


def test_numbers_in_arrays_without_axes_are_numbers():
    simple = counting([3.0], 1.0)
    fit = jaxprof.fit(simple)
    for two in (np.float32(2), np.array(2.0), jnp.asarray(2), 2 * u.dimensionless_unscaled):
        assert jaxprof.limits(simple, fit, n_sigma_ul=two).ul == jaxprof.limits(simple, fit).ul
        assert jaxprof.intervals(simple, fit, n_sigma=two).cl == math.erf(math.sqrt(2))
    for level in (np.array(0.75), jnp.asarray(0.75), 75 * u.percent):
        assert jaxprof.intervals(simple, fit, cl=level).cl == 0.75
    three = jaxprof.toys(simple, 3, fit=fit, seed=3).values["norm"]
    for own in (np.uint8(3), np.array(3), jnp.asarray(3)):
        again = jaxprof.toys(simple, own, fit=fit, seed=own, chunk=own).values["norm"]
        np.testing.assert_array_equal(again, three)


def test_values_of_wrong_types_are_named():
    """Not by errors from inside, and never by other numbers."""
    simple = counting([3.0], 1.0)
    fit = jaxprof.fit(simple)
    for value in (None, "a", [1.0], 3 * u.s, np.inf, True * u.s, 50 * u.percent):
        with pytest.raises(ValueError, match="n_sigma_ul must be positive"):
            jaxprof.limits(simple, fit, n_sigma_ul=value)
    for value in ("a", [0.9], 0.9 * u.s, True):
        with pytest.raises(ValueError, match="cl must be"):
            jaxprof.intervals(simple, fit, cl=value)
        with pytest.raises(ValueError, match="n_sigma must be"):
            jaxprof.intervals(simple, fit, n_sigma=value)
    for value in (None, {"norm": 1.0}, "fit"):
        for ask in (
            lambda fit: jaxprof.limits(simple, fit),
            lambda fit: jaxprof.scan(simple, fit, [1.0]),
            lambda fit: jaxprof.sensitivity(simple, fit),
        ):
            with pytest.raises(ValueError, match=r"fit must be what jaxprof\.fit gave"):
                ask(value)
    for options, name in (({"n_toys": 2.5}, "n_toys"), ({"chunk": "a"}, "chunk")):
        with pytest.raises(ValueError, match=f"{name} .*must be positive whole|whole numbers"):
            jaxprof.toys(simple, **options)
    for value in (None, 1.5, "a"):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            jaxprof.toys(simple, 2, seed=value)
        with pytest.raises(ValueError, match="seed must be a whole number"):
            jaxprof.intervals(simple, fit, kind="feldman-cousins", method="toys", seed=value)
    regions = jaxprof.make_concentric_annulus_sky_regions(
        center=SkyCoord(0, 0, unit="deg"), radius_max="1 deg", nbin=3
    )
    for name in ("interval", "likelihood", "mask_policy", "precision", "selection_optional"):
        with pytest.raises(ValueError, match=f"{name} must be|{name}: unknown"):
            jaxprof.FluxProfileEstimator(regions, **{name: [["a"]]})
