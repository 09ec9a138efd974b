"""Limits: roots of the profiled statistic inside of the bounds of their norm, of any magnitude.

Both estimators' fits are compared with minimisations by scipy and with closed forms.
"""

import jax
import numpy as np
import pytest
from joint_factory import Part, Problem
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, minimize

from jaxprof.core import OnOffData, ProfileData, fit_norms, limits, sensitivity, wstat
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_ts import fit_joint_ts
from jaxprof.likelihood.data import Status

SIDES, TARGETS = np.array([-1.0, 1.0, 1.0]), np.array([1.0, 1.0, 4.0])
CLOSED = np.array([False, False, True])
C, N = 4, 24


def random_problem(seed, lower, upper, level):
    """Bins that overlap, with a background of about ``level`` counts a counts bin."""
    rng = np.random.default_rng(seed)
    x = np.arange(N) - 3.0
    heights, widths = rng.uniform(0.5, 2, (C, 1)), rng.uniform(2, 6, (C, 1))
    templates = heights * np.exp(-0.5 * ((x - 6 * np.arange(C)[:, None]) / widths) ** 2)
    background = level * rng.uniform(0.3, 1.5, N)
    truth = rng.uniform(0, 1.2 if level > 0.1 else 0.4, C)
    part = Part(
        counts=rng.poisson(background + truth @ templates).astype(float),
        background=background,
        templates=templates[:, None],
    )
    bounds = [dict.fromkeys(range(C), bound) for bound in (lower, upper)]
    return Problem((part,), lower=bounds[0], upper=bounds[1])


def least(own, start, held=None):
    """Least statistic inside of the bounds, one norm held, by scipy."""
    part = own.parts[0]
    templates, (lower, upper) = part.templates[:, 0], own.bounds()
    free = np.arange(C) != held

    def function(x):
        z = np.array(start)
        z[free] = x
        npred = part.background + z @ templates
        stat = 2 * np.sum(npred - part.counts * np.log(npred))
        return stat, (2 * templates @ (1 - part.counts / npred))[free]

    bounds = list(zip(lower[free], upper[free], strict=True))
    first = np.clip(start[free], lower[free] + 1e-3, upper[free] - 1e-3)
    options = {"L-BFGS-B": {"ftol": 1e-16, "gtol": 1e-12}, "SLSQP": {"ftol": 1e-16}, "TNC": {}}
    found = [
        minimize(function, first, jac=True, method=method, bounds=bounds, options=own_options)
        for method, own_options in options.items()
    ]
    return min(each.fun for each in found)


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
@pytest.mark.parametrize("level", [0.05, 0.7])
@pytest.mark.parametrize("upper", [1.2, 1e3])
def test_joint_limits_are_roots_or_bounds(seed, level, upper):
    own = random_problem(seed, 0.0, upper, level)
    data = own.joint(1, 32)
    fit, _, _ = fit_joint_ts(data, np.arange(C))
    found = np.asarray(joint_limits(data, fit, np.arange(C), SIDES, TARGETS, CLOSED))
    z = np.asarray(fit.values)
    lowest = least(own, z)
    kinds = set()
    for at in range(C):
        for distance, side, target, closed in zip(found[at], SIDES, TARGETS, CLOSED, strict=True):
            bound = upper if side > 0 else 0.0
            held = np.array(z)
            held[at] = bound
            if least(own, held, at) - lowest < target:
                kinds.add("bound")
                if closed:
                    assert_allclose(z[at] + distance, bound, rtol=1e-14)
                else:
                    assert np.isnan(distance)
                continue
            kinds.add("root")
            held[at] = z[at] + side * distance
            assert 0 <= held[at] <= upper
            assert_allclose(least(own, held, at) - lowest, target, atol=1e-6)
    assert kinds == {"bound", "root"}


@pytest.mark.parametrize("on_off", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_limits_of_bins_alone_are_roots_or_bounds(on_off):
    rng = np.random.default_rng(5)
    shape = (40, 1, 3)
    reference = rng.uniform(0.5, 2, shape)
    counts, background = rng.poisson(3.0, shape), rng.uniform(0.5, 2, shape)
    data = ProfileData(counts=counts, background=background, npred_ref=reference)
    if on_off:
        off = rng.poisson(6.0, shape) + 1
        data = OnOffData(n_on=counts, n_off=off, alpha=background / 3, npred_ref=reference)
    low, high = 0.3, 1.6
    fit = fit_norms(data, norm_min=low, norm_max=high)
    found = limits(data, fit, norm_min=low, norm_max=high)
    free = limits(data, fit_norms(data))
    norm = np.asarray(fit.norm)

    def rises(x):
        signal = reference * x[..., None]
        if on_off:
            terms = wstat(data.n_on, data.n_off, data.alpha, signal)
        else:
            npred = background + signal
            terms = 2 * (npred - counts * np.log(np.where(counts > 0, npred, 1.0)))
        return np.sum(terms, axis=2)

    best = rises(norm)
    for name, side, target, bound in (
        ("norm_errn", -1, 1.0, low),
        ("norm_errp", 1, 1.0, high),
    ):
        distance = np.asarray(getattr(found, name))
        first = rises(np.full_like(norm, bound)) - best < target
        assert first.any() and not first.all()
        assert_array_equal(np.isnan(distance), first)
        there = norm + side * np.where(first, 0.0, distance)
        assert_allclose((rises(there) - best)[~first], target, atol=1e-9)
    first = rises(np.full_like(norm, high)) - best < 4.0
    assert_array_equal(np.asarray(found.norm_ul)[first], high)
    assert_allclose((rises(np.asarray(found.norm_ul)) - best)[~first], 4.0, atol=1e-9)
    # Without bounds some go on.
    assert np.any(np.asarray(free.norm_ul) > high)


def test_a_norm_on_its_bound():
    data = ProfileData(
        counts=np.array([[[9.0]], [[0.0]]]),
        background=np.ones((2, 1, 1)),
        npred_ref=np.ones((2, 1, 1)),
    )
    fit = fit_norms(data, norm_min=0.0, norm_max=4.0)
    found = limits(data, fit, norm_min=0.0, norm_max=4.0)
    assert_array_equal(fit.norm, [[4.0], [0.0]])
    assert np.isnan(found.norm_errp[0, 0]) and np.isnan(found.norm_errn[1, 0])
    assert found.norm_ul[0, 0] == 4.0
    # 2 x = 4 for the bin without counts; 2 (x - 4) - 18 ln((1 + x) / 5) = 1 below the other.
    assert_allclose(found.norm_ul[1, 0], 2.0, rtol=1e-12)
    low = brentq(lambda x: 2 * (x - 4) - 18 * np.log((1 + x) / 5) - 1, 1, 4)
    assert_allclose(found.norm_errn[0, 0], 4 - low, rtol=1e-9)


@pytest.mark.parametrize("background", [1.0, 1e6, 1e10, 1e13, 1e16])
@pytest.mark.parametrize("counts", [1e-12, 3.0, 1e4])
def test_a_large_background_leaves_the_error_of_the_counts(background, counts):
    """One counts bin: the prediction is the counts at the minimum, whatever the background.

    The statistic in terms of the prediction does not know the background.
    """
    reference = 0.33
    data = ProfileData(
        counts=np.full((1, 1, 1), counts),
        background=np.full((1, 1, 1), background),
        npred_ref=np.full((1, 1, 1), reference),
    )
    fit = fit_norms(data)
    found = limits(data, fit)
    assert_allclose(fit.norm[0, 0], (counts - background) / reference, rtol=1e-15)
    assert_allclose(fit.norm_err[0, 0], np.sqrt(counts) / reference, rtol=1e-12)

    def rise(change, target):
        return 2 * (change - counts * np.log1p(change / counts)) - target

    far = counts + 4 * np.sqrt(counts) + 4
    up = brentq(rise, 1e-3 * np.sqrt(counts), far, args=(1.0,), rtol=1e-14)
    assert_allclose(found.norm_errp[0, 0], up / reference, rtol=1e-9)
    if counts > 1e-3:
        down = brentq(rise, -counts * (1 - 1e-15), -1e-3, args=(1.0,), rtol=1e-14)
        assert_allclose(found.norm_errn[0, 0], -down / reference, rtol=1e-9)
    far_up = brentq(rise, 1e-3 * np.sqrt(counts), far, args=(4.0,), rtol=1e-14)
    expected = (counts + far_up - background) / reference
    assert_allclose(found.norm_ul[0, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("on_off", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(1e-250, marks=pytest.mark.slow),
        pytest.param(1e-170, marks=pytest.mark.slow),
        1e170,
        pytest.param(1e250, marks=pytest.mark.slow),
    ],
)
def test_results_scale_with_the_reference(on_off, factor):
    rng = np.random.default_rng(2)
    shape = (5, 2, 4)
    counts, reference = rng.poisson(2.0, shape), rng.uniform(0.1, 2, shape)
    counts[0, 0] = 0

    def results(factor):
        signal = reference * factor
        data = ProfileData(counts=counts, background=0.3 + 0 * signal, npred_ref=signal)
        if on_off:
            ratio = np.full(shape, 0.4)
            data = OnOffData(n_on=counts, n_off=counts[::-1], alpha=ratio, npred_ref=signal)
        fit = fit_norms(data, norm_max=2.5 / factor)
        found = limits(data, fit, norm_max=2.5 / factor)
        norms = [fit.norm, fit.norm_err, *vars(found).values(), sensitivity(data)]
        return [np.asarray(a) * factor for a in norms] + [fit.stat, fit.stat_null, fit.ts]

    for one, other in zip(results(1.0), results(factor), strict=True):
        assert np.isfinite(one).any()
        assert_allclose(other, one, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 0.1, 1e-3])
@pytest.mark.parametrize("excess", [-2.0, 1.0, 3.0, 10.0])
def test_on_off_data_of_many_counts_in_single_precision(alpha, excess):
    """To 1e-3 of what double precision gives, with 1e7 OFF counts a counts bin."""
    off = np.full((1, 1, 3), 1e7)
    spread = np.sqrt(alpha * off * (1 + alpha)) * np.array([0.5, 1.0, 1.5])
    arrays = {
        "n_on": np.round(alpha * off + excess * spread),
        "n_off": off,
        "alpha": np.full(off.shape, alpha),
        "npred_ref": np.array([[[2.5, 5.0, 7.5]]]),
    }

    def results(dtype):
        data = OnOffData(**{name: a.astype(dtype) for name, a in arrays.items()})
        fit = fit_norms(data)
        assert fit.status[0, 0] == Status.OK
        found = [fit.ts, fit.norm_err, *vars(limits(data, fit)).values(), sensitivity(data)]
        assert all(value.dtype == dtype for value in found)
        return np.squeeze(found)

    with jax.enable_x64(False):
        single = results(np.float32)
    assert_allclose(single, results(np.float64), rtol=1e-3)


@pytest.mark.parametrize("copies", [1, pytest.param(400, marks=pytest.mark.slow)])
def test_kinks_of_several_empty_counts_bins_at_the_minimum(copies):
    """Counts bins with neither counts nor background: their kinks are at zero but for rounding."""
    rng = np.random.default_rng(5)
    shape = (60, 1, 11)
    arrays = {
        "background": np.where(rng.random(shape) < 0.3, rng.uniform(0.1, 3.0, shape), 0.0),
        "npred_ref": rng.uniform(0.02, 3.0, shape),
    }
    counts = rng.poisson(arrays["background"]) + (rng.random(shape) < 0.02)
    arrays["counts"] = np.where(arrays["background"] > 0, counts, 0.0)
    arrays["counts"][:, 0, 0] += arrays["background"][:, 0, 0] > 0
    data = ProfileData(**{name: np.tile(a, (copies, 1, 1)) for name, a in arrays.items()})
    with jax.enable_x64(True):
        fit = fit_norms(data)
        found = limits(data, fit)
        norm, upper = np.asarray(fit.norm)[:60, 0], np.asarray(found.norm_ul)[:60, 0]
    known = arrays["counts"].sum(axis=(1, 2)) > 0
    assert np.sum(known & (norm == 0)) > 5
    assert np.all(upper > norm)

    def stat(x):
        mu = np.maximum(arrays["background"] + x[:, None, None] * arrays["npred_ref"], 0.0)
        log = np.log(np.where(arrays["counts"] > 0, mu, 1.0))
        return 2 * np.sum(mu - arrays["counts"] * log, axis=(1, 2))

    assert_allclose((stat(upper) - stat(norm))[known], 4.0, rtol=1e-8)


def rate_terms(counts, rate):
    """Half of the statistic of each counts bin, in long doubles."""
    return rate - counts * np.log(np.where(counts > 0, rate, 1.0))


def precise_stat(data, norm):
    """Cash and wstat in long doubles; W minimised in closed form."""
    total = 0.0
    for block in data:
        arrays = {name: np.longdouble(value) for name, value in vars(block).items()}
        signal = norm[:, None, None] * arrays["npred_ref"]
        if isinstance(block, ProfileData):
            rate = np.maximum(arrays["background"] + signal, 0.0)
            total += 2 * np.sum(rate_terms(arrays["counts"], rate), axis=(1, 2))
            continue
        on, off, alpha = (arrays[name] for name in ("n_on", "n_off", "alpha"))
        c = alpha * (on + off) - (1 + alpha) * signal
        root = np.sqrt(np.maximum(c**2 + 4 * alpha * (1 + alpha) * off * signal, 0.0))
        low = 2 * off * signal / np.where(root - c > 0, root - c, 1.0)
        rate_off = np.where(c > 0, (c + root) / (2 * alpha * (1 + alpha)), low)
        rate_off = np.where((c <= 0) & (signal < 0), -signal / alpha, rate_off)
        rate_on = np.maximum(signal + alpha * rate_off, 0.0)
        total += 2 * np.sum(rate_terms(on, rate_on) + rate_terms(off, rate_off), axis=(1, 2))
    return total


@pytest.mark.parametrize(
    ("n_bins", "on_off"), [(600, False), pytest.param(250, True, marks=pytest.mark.slow)]
)
def test_limits_are_where_the_statistic_has_risen(n_bins, on_off):
    """Of few counts and many kinks; a block of On-Off data whose curvature may be rounding."""
    rng = np.random.default_rng(2)
    signal, background = rng.lognormal(0, 1, (2, n_bins, 1, 3))
    counts = rng.poisson(0.3 * background).astype(float)
    data = [ProfileData(counts=counts, background=0.3 * background, npred_ref=signal)]
    if on_off:
        shape, alpha = (n_bins, 1, 11), rng.uniform(0.05, 2, (n_bins, 1, 11))
        on = rng.poisson(0.03 + 0.24 * alpha).astype(float)
        off = rng.poisson(0.3, shape).astype(float)
        signals = rng.lognormal(0, 1, shape)
        data.insert(0, OnOffData(n_on=on, n_off=off, alpha=alpha, npred_ref=signals))
    with jax.enable_x64(True):
        fit = fit_norms(tuple(data))
        found = limits(tuple(data), fit)
    norm = np.longdouble(np.asarray(fit.norm)[:, 0])
    down, up, upper = (np.longdouble(np.asarray(a)[:, 0]) for a in vars(found).values())
    # Cash data without counts are flat below the norm.
    assert_array_equal(np.isnan(down), (fit.status[:, 0] == Status.ZERO_COUNTS) & (not on_off))
    with np.errstate(all="ignore"):
        for end, rise in ((norm - down, 1.0), (norm + up, 1.0), (upper, 4.0)):
            known = np.isfinite(end) & (counts.sum(axis=(1, 2)) > 0 if not on_off else True)
            assert known.sum() > n_bins / 4
            risen = precise_stat(data, end) - precise_stat(data, norm)
            assert_allclose(np.float64(risen[known]), rise, rtol=1e-9)


def test_no_counts_bins():
    none = np.zeros((3, 1, 0))
    with pytest.raises(ValueError, match=r"no counts bins: arrays of the shape \(3, 1, 0\)"):
        fit_norms(ProfileData(counts=none, background=none, npred_ref=none))


@pytest.mark.slow
def test_no_limit_beyond_an_empty_counts_bin_that_nothing_else_reaches():
    """By hand: the domain ends at a norm of -1/2, where the statistic has risen by 1.108."""
    part = Part(
        counts=np.array([5.0, 0.0, 4.0]),
        background=np.array([3.0, 0.5, 2.0]),
        templates=np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])[:, None],
    )
    data = Problem((part,)).joint(1, 3)

    def stat(norm):
        return 2 * (3.5 + 3 * norm - 5 * np.log(3 + 2 * norm))

    fit, _, _ = fit_joint_ts(data, np.arange(2))
    assert_allclose(fit.values, [1 / 6, 2.0], rtol=1e-9)
    norms = np.array([-0.7, -0.5, -0.2])
    rises = joint_scan(data, fit, np.arange(1), norms)[0][0]
    assert_allclose(rises, [np.inf, *(stat(norms[1:]) - stat(1 / 6))], rtol=1e-6)
    found = np.asarray(joint_limits(data, fit, np.arange(1), SIDES[[0, 0, 1]], TARGETS[[0, 2, 2]]))
    assert np.isnan(found[0, 1]) and np.all(np.isfinite(found[0, [0, 2]]))
    for at, rise in ((1 / 6 - found[0, 0], 1.0), (1 / 6 + found[0, 2], 4.0)):
        assert_allclose(stat(at) - stat(1 / 6), rise, rtol=1e-6)
