"""Fits, limits, sensitivities and scans: independent solutions and mathematical properties."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, minimize_scalar

from jaxprof.core import (
    OnOffData,
    ProfileData,
    Status,
    cash,
    fit_norms,
    limits,
    scan,
    sensitivity,
    wstat,
)
from jaxprof.likelihood.data import float_dtype, prepare

SHAPE = (6, 3, 5)


def random_data(seed=0, shape=SHAPE, mean=4.0):
    rng = np.random.default_rng(seed)
    background = rng.uniform(0.2, 2.0, shape) * mean
    npred_ref = rng.uniform(0.2, 2.0, shape) * mean
    norm = rng.uniform(-0.3, 3.0, (*shape[:2], 1))
    counts = rng.poisson(np.maximum(background + norm * npred_ref, 0.0)).astype(float)
    return {"counts": counts, "background": background, "npred_ref": npred_ref}


def random_on_off(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    alpha = rng.uniform(0.1, 0.8, shape)
    n_off = rng.poisson(rng.uniform(0, 12, shape)).astype(float)
    npred_ref = rng.uniform(0.2, 4.0, shape)
    n_on = rng.poisson(alpha * n_off + rng.uniform(0, 2, (*shape[:2], 1)) * npred_ref)
    return {"n_on": n_on.astype(float), "n_off": n_off, "alpha": alpha, "npred_ref": npred_ref}


def one_bin(**arrays):
    kind = OnOffData if "n_on" in arrays else ProfileData
    return kind(**{name: np.array([[values]], float) for name, values in arrays.items()})


def cash_sum(data, x):
    """The statistic of one bin in plain numpy, infinite outside the domain."""
    n, b, s = (np.asarray(data[name]) for name in ("counts", "background", "npred_ref"))
    mu = b + x * s
    if np.any(mu[n > 0] <= 0):
        return np.inf
    return 2 * np.sum(np.maximum(mu, 0) - np.where(n > 0, n * np.log(np.where(n > 0, mu, 1)), 0))


def scipy_minimum(function, low, high):
    return minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-13})


def test_fit_against_scipy():
    arrays = random_data()
    fit = fit_norms(ProfileData(**arrays))
    assert_array_equal(fit.status, Status.OK)
    for index in np.ndindex(*SHAPE[:2]):
        one = {name: array[index] for name, array in arrays.items()}
        norm, err = float(fit.norm[index]), float(fit.norm_err[index])
        best = scipy_minimum(lambda x, one=one: cash_sum(one, x), norm - 5 * err, norm + 9 * err)
        # A minimiser that compares values cannot see more than the root of the precision.
        assert abs(norm - best.x) < 2e-6 * err
        assert_allclose(fit.stat[index], best.fun, rtol=1e-12)
        assert_allclose(fit.stat_null[index], cash_sum(one, 0.0), rtol=1e-12)
        assert_allclose(fit.ts[index], cash_sum(one, 0.0) - best.fun, atol=1e-10)
        step = 1e-3 * err
        bend = cash_sum(one, norm + step) - 2 * best.fun + cash_sum(one, norm - step)
        assert_allclose(err, np.sqrt(2 * step**2 / bend), rtol=1e-4)


def test_limits_against_brentq():
    arrays = random_data(seed=3)
    data = ProfileData(**arrays)
    fit = fit_norms(data)
    result = limits(data, fit, n_sigma=1.5, n_sigma_ul=3)
    for index in np.ndindex(*SHAPE[:2]):
        one = {name: array[index] for name, array in arrays.items()}
        norm, err = float(fit.norm[index]), float(fit.norm_err[index])
        start = np.max((-one["background"] / one["npred_ref"])[one["counts"] > 0])

        def rise(x, n, one=one, norm=norm):
            return cash_sum(one, x) - cash_sum(one, norm) - n**2

        low = brentq(rise, start + 1e-13, norm, args=(1.5,), xtol=1e-14)
        high = brentq(rise, norm, norm + 20 * err, args=(1.5,), xtol=1e-14)
        upper = brentq(rise, norm, norm + 30 * err, args=(3.0,), xtol=1e-14)
        assert_allclose(result.norm_errn[index], norm - low, rtol=1e-8)
        assert_allclose(result.norm_errp[index], high - norm, rtol=1e-8)
        assert_allclose(result.norm_ul[index], upper, rtol=1e-8)


def test_on_off_against_scipy():
    arrays = random_on_off()
    data = OnOffData(**arrays)
    fit = fit_norms(data)
    result = limits(data, fit)
    for index in np.ndindex(*SHAPE[:2]):
        one = {name: array[index] for name, array in arrays.items()}

        def total(x, one=one):
            values = wstat(one["n_on"], one["n_off"], one["alpha"], x * one["npred_ref"])
            return float(np.sum(np.asarray(values)))

        norm = float(fit.norm[index])
        assert total(norm) <= min(total(norm + d) for d in (-1e-3, 1e-3, -0.1, 0.1))
        assert_allclose(fit.stat[index], total(norm), rtol=1e-12)
        for name, n in (("norm_errp", 1), ("norm_ul", 2), ("norm_errn", 1)):
            value = float(getattr(result, name)[index])
            x = {"norm_errp": norm + value, "norm_errn": norm - value, "norm_ul": value}[name]
            assert_allclose(total(x) - total(norm), n**2, rtol=1e-7)


def test_sensitivity_is_asimov():
    """Counts set to their prediction at the sensitivity give the asked-for TS."""
    arrays = random_data(seed=5)
    norm = np.asarray(sensitivity(ProfileData(**arrays), n_sigma=4))
    signal = norm[..., np.newaxis] * arrays["npred_ref"]
    asimov = ProfileData(**{**arrays, "counts": arrays["background"] + signal})
    fit = fit_norms(asimov)
    assert_allclose(fit.norm, norm, rtol=1e-9)
    assert_allclose(fit.ts, 16.0, rtol=1e-9)
    arrays = random_on_off(seed=5)
    norm = np.asarray(sensitivity(OnOffData(**arrays), n_sigma=4))
    n_on = arrays["alpha"] * arrays["n_off"] + norm[..., np.newaxis] * arrays["npred_ref"]
    assert_allclose(fit_norms(OnOffData(**{**arrays, "n_on": n_on})).ts, 16.0, rtol=1e-9)


def test_sensitivity_without_background():
    """b = 0: TS = 2 (mu ln(mu / floor) - mu), with the floor that keeps the null finite."""
    value = float(sensitivity(one_bin(counts=[0], background=[0], npred_ref=[2.0]))[0, 0])
    mu = 2 * value
    assert_allclose(2 * (mu * np.log(mu / 1e-25) - mu), 25.0, rtol=1e-9)


def test_scan_is_the_statistic():
    arrays = random_data(seed=7)
    values = np.linspace(-3, 6, 13)
    got = scan(ProfileData(**arrays), values)
    assert got.shape == (*SHAPE[:2], 13)
    for k, value in enumerate(values):
        mu = arrays["background"] + value * arrays["npred_ref"]
        expected = np.sum(cash(arrays["counts"], mu), axis=-1)
        # Terms of some hundreds may add up to nearly nothing.
        assert_allclose(got[:, :, k], expected, rtol=1e-14, atol=1e-12)
    grids = np.broadcast_to(values, (*SHAPE[:2], 13)) + np.arange(SHAPE[0])[:, None, None]
    assert_allclose(scan(ProfileData(**arrays), grids)[0], got[0], rtol=0)


def test_single_bin_closed_form():
    """One counts bin: norm = (n - b) / s, its error sqrt(n) / s."""
    fit = fit_norms(one_bin(counts=[25], background=[10], npred_ref=[5]))
    assert_allclose([fit.norm[0, 0], fit.norm_err[0, 0]], [3.0, 1.0], rtol=1e-12)


@pytest.mark.parametrize("background", [[0.0, 0.0], [3.0, 1.0]])
def test_zero_counts(background):
    """Flat to the left: the largest minimiser, no error, and a limit where 2 mu is n^2."""
    s = np.array([2.0, 4.0])
    data = one_bin(counts=[0, 0], background=background, npred_ref=s)
    fit, result = fit_norms(data), limits(data, fit_norms(data))
    assert fit.status[0, 0] == Status.ZERO_COUNTS
    first = np.min(-np.array(background) / s)
    assert_allclose(fit.norm[0, 0], first, atol=1e-14)
    assert np.isnan(fit.norm_err[0, 0])
    assert np.isnan(result.norm_errn[0, 0])

    def expected(x):
        return 2 * np.sum(np.maximum(np.array(background) + x * s, 0))

    assert_allclose(expected(float(result.norm_ul[0, 0])), 4.0, rtol=1e-9)
    assert_allclose(expected(first + float(result.norm_errp[0, 0])), 1.0, rtol=1e-9)
    assert_allclose(fit.ts[0, 0], 2 * sum(background), atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spread", [0, 4, 14, 20])
def test_limits_without_counts_of_uneven_bins(dtype, spread):
    """The statistic rises by n^2 at the limit, whatever the signals' orders of magnitude.

    The norm is where the counts bin of the least signal for its background is empty, far below.
    """
    rng = np.random.default_rng(spread)
    shape = (40, 1, 5)
    background = rng.exponential(0.7, shape).astype(dtype)
    npred_ref = (10 ** rng.uniform(-spread, 0, shape)).astype(dtype)
    data = ProfileData(counts=np.zeros(shape, dtype), background=background, npred_ref=npred_ref)
    fit = fit_norms(data)
    assert_array_equal(fit.status, Status.ZERO_COUNTS)
    upper = np.asarray(limits(data, fit).norm_ul, float)[..., np.newaxis]
    stat = 2 * np.sum(np.maximum(background.astype(float) + upper * npred_ref, 0), axis=-1)
    assert_allclose(stat, 4.0, rtol=50 * np.finfo(dtype).eps)


def test_kink():
    """The minimum where a counts bin without counts reaches zero is that point exactly."""
    data = one_bin(
        counts=[0, 1, 0],
        background=[3.82284913, 2.5358368, 1.71843505],
        npred_ref=[2.88864023, 1.6728921, 0.94015157],
    )
    fit = fit_norms(data)
    assert fit.status[0, 0] == Status.BOUNDARY
    assert float(fit.norm[0, 0]) == -3.82284913 / 2.88864023
    assert np.isnan(fit.norm_err[0, 0])
    result = limits(data, fit)
    assert np.isfinite([result.norm_errn[0, 0], result.norm_errp[0, 0]]).all()


def test_clearly_detected_beyond_the_plateau():
    """Where the floored statistic has a lower plateau, the minimum stays in the domain."""
    data = one_bin(counts=[35], background=[4.6], npred_ref=[4000.0])
    fit = fit_norms(data)
    assert_allclose(fit.norm[0, 0], (35 - 4.6) / 4000, rtol=1e-12)
    crowded = one_bin(counts=[1, 0], background=[2.0, 500.0], npred_ref=[1.0, 1.0])
    norm = float(fit_norms(crowded).norm[0, 0])
    assert -2.0 < norm < 0.0


def test_masked_and_without_exposure():
    arrays = random_data()
    mask = np.ones(SHAPE, bool)
    mask[1, 2] = False
    arrays["npred_ref"][3, 0] = 0.0
    data = ProfileData(**arrays, mask=mask)
    fit = fit_norms(data)
    result = limits(data, fit)
    assert fit.status[1, 2] == Status.FULLY_MASKED
    assert fit.status[3, 0] == Status.NO_EXPOSURE
    bad = np.zeros(SHAPE[:2], bool)
    bad[1, 2] = bad[3, 0] = True
    for values in (fit.norm, fit.norm_err, fit.ts, result.norm_ul, sensitivity(data)):
        assert_array_equal(np.isnan(values), bad)
    # The neighbours do not notice.
    fresh = fit_norms(ProfileData(**random_data()))
    assert_array_equal(np.asarray(fit.norm)[~bad], np.asarray(fresh.norm)[~bad])


def test_bounds():
    data = ProfileData(**random_data(seed=11))
    free = np.asarray(fit_norms(data).norm)
    bounded = fit_norms(data, norm_min=0.9, norm_max=1.6)
    assert_array_equal(bounded.norm, np.clip(free, 0.9, 1.6))
    outside = (free < 0.9) | (free > 1.6)
    assert outside.any()
    assert_array_equal(np.asarray(bounded.status) == Status.BOUNDARY, outside)
    upper = limits(data, bounded).norm_ul
    assert np.all(np.isfinite(upper))


def test_permutation_padding_and_splitting():
    """Counts bins may be reordered, padded with anything masked, and bins fitted one by one."""
    arrays = random_data(seed=13)
    data = ProfileData(**arrays)
    fit = fit_norms(data)
    order = [3, 0, 4, 2, 1]
    shuffled = fit_norms(ProfileData(**{k: v[:, :, order] for k, v in arrays.items()}))
    assert_allclose(shuffled.norm, fit.norm, rtol=1e-10)
    pad = np.full((*SHAPE[:2], 2), np.nan)
    padded = {name: np.concatenate([pad, array], axis=2) for name, array in arrays.items()}
    mask = np.isfinite(padded["counts"])
    again = fit_norms(ProfileData(**padded, mask=mask))
    for name in ("norm", "norm_err", "stat", "ts"):
        assert_allclose(getattr(again, name), getattr(fit, name), rtol=1e-10)
    single = fit_norms(ProfileData(**{k: v[2:3, 1:2] for k, v in arrays.items()}))
    assert_allclose(single.norm[0, 0], fit.norm[2, 1], rtol=1e-11)


def test_scaling():
    """A reference c times brighter has norms c times smaller, whatever c."""
    arrays = random_data(seed=17)
    fit = fit_norms(ProfileData(**arrays))
    for factor in (1e-12, 1e12):
        scaled = {**arrays, "npred_ref": arrays["npred_ref"] * factor}
        other = fit_norms(ProfileData(**scaled))
        assert_allclose(np.asarray(other.norm) * factor, fit.norm, rtol=1e-9)
        assert_allclose(np.asarray(other.norm_err) * factor, fit.norm_err, rtol=1e-9)
        assert_allclose(other.ts, fit.ts, rtol=1e-10, atol=1e-12)


def test_same_bins_twice():
    """A counts bin split in two with the same ratio of signal to background changes nothing."""
    arrays = random_data(seed=19)
    fit = fit_norms(ProfileData(**arrays))
    halves = {k: np.concatenate([v / 2, v / 2], axis=2) for k, v in arrays.items()}
    assert_allclose(fit_norms(ProfileData(**halves)).norm, fit.norm, rtol=1e-9)


def test_joint_blocks():
    """Cash and On-Off data may share a norm; the joint score is zero at it."""
    cash_arrays, on_off_arrays = random_data(seed=23), random_on_off(seed=23)
    data = (ProfileData(**cash_arrays), OnOffData(**on_off_arrays))
    fit = fit_norms(data)

    def total(x):
        x = x[..., None]
        first = cash(
            cash_arrays["counts"], cash_arrays["background"] + x * cash_arrays["npred_ref"]
        )
        on_off = [on_off_arrays[k] for k in ("n_on", "n_off", "alpha")]
        second = wstat(*on_off, x * on_off_arrays["npred_ref"])
        return jnp.sum(first) + jnp.sum(second)

    assert np.all(np.abs(jax.grad(total)(fit.norm)) * np.asarray(fit.norm_err) < 1e-8)
    assert_allclose(np.sum(fit.stat), total(fit.norm), rtol=1e-12)
    assert np.all(np.isfinite(limits(data, fit).norm_ul))


def test_on_off_large_off_is_cash():
    """With a background known ever better wstat becomes cash."""
    arrays = random_data(seed=29)
    alpha = 1e-7
    on_off = OnOffData(
        n_on=arrays["counts"],
        n_off=arrays["background"] / alpha,
        alpha=np.full(SHAPE, alpha),
        npred_ref=arrays["npred_ref"],
    )
    fit, exact = fit_norms(on_off), fit_norms(ProfileData(**arrays))
    assert np.all(np.abs(fit.norm - exact.norm) < 1e-5 * np.asarray(exact.norm_err))


def test_on_off_without_any_counts():
    """No count anywhere: the norm is zero, at a kink with slopes 2 s and -2 s / alpha."""
    data = one_bin(n_on=[0, 0], n_off=[0, 0], alpha=[0.5, 0.5], npred_ref=[1.0, 2.0])
    fit = fit_norms(data)
    result = limits(data, fit)
    assert float(fit.norm[0, 0]) == 0.0
    assert fit.status[0, 0] == Status.ZERO_COUNTS
    assert_allclose(result.norm_ul[0, 0], 4 / (2 * 3.0), rtol=1e-9)
    assert_allclose(result.norm_errn[0, 0], 1 / (2 * 3.0 / 0.5), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.floats(0, 1e4).map(lambda b: b if b > 1e-30 else 0.0),
            st.floats(1e-3, 1e3),
        ),
        min_size=4,
        max_size=4,
    )
)
def test_any_data_has_a_minimum(counts_bins):
    """Whatever the counts: converged, finite limits, and no norm nearby is better."""
    n, b, s = map(np.array, zip(*counts_bins, strict=True))
    data = one_bin(counts=n, background=b, npred_ref=s)
    fit = fit_norms(data)
    result = limits(data, fit)
    assert fit.status[0, 0] <= Status.BOUNDARY
    norm, upper = float(fit.norm[0, 0]), float(result.norm_ul[0, 0])
    assert np.isfinite(norm)
    assert np.isfinite(upper)
    assert upper >= norm
    one = {"counts": n, "background": b, "npred_ref": s}
    scale = max(abs(norm), (np.sqrt(n.sum()) + 1) / s.sum())
    best = cash_sum(one, norm)
    if np.isfinite(best):
        for step in (1e-3, 1e-1, 1.0):
            noise = 1e-12 * (abs(best) + 10 * n.sum() + b.sum())
            assert cash_sum(one, norm + step * scale) >= best - noise
            assert cash_sum(one, norm - step * scale) >= best - noise


def test_float32():
    """float32 gives norms to a thousandth of their error, and TS to a thousandth."""
    for mean in (0.3, 4.0, 400.0):
        arrays = random_data(seed=31, mean=mean)
        exact = fit_norms(ProfileData(**arrays))
        single = {name: array.astype(np.float32) for name, array in arrays.items()}
        data = ProfileData(**single)
        fit = fit_norms(data)
        assert fit.norm.dtype == np.float32
        assert_array_equal(fit.status, exact.status)
        error = np.where(np.isfinite(exact.norm_err), exact.norm_err, 1 / mean)
        assert np.all(np.abs(fit.norm - exact.norm) < 1e-3 * error)
        assert_allclose(fit.ts, exact.ts, rtol=1e-3, atol=1e-3)
        upper = limits(ProfileData(**arrays), exact).norm_ul
        assert np.all(np.abs(limits(data, fit).norm_ul - upper) < 3e-3 * error)


def test_float32_of_many_counts():
    """Up to 1e7 counts a counts bin every fit converges, to a thousandth of its error."""
    arrays = random_data(seed=37, shape=(300, 1, 3), mean=1e7)
    exact = fit_norms(ProfileData(**arrays))
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    fit = fit_norms(ProfileData(**single))
    assert_array_equal(fit.status, Status.OK)
    rounded = fit_norms(ProfileData(**{k: v.astype(np.float64) for k, v in single.items()}))
    assert np.all(np.abs(fit.norm - rounded.norm) < 2e-3 * np.asarray(exact.norm_err))


def test_jit_vmap_loop():
    """Compiled, mapped over toys and one by one give the same."""
    stacks = [random_data(seed=seed) for seed in range(3)]
    toys = {name: np.stack([stack[name] for stack in stacks]) for name in stacks[0]}

    def norms(**arrays):
        return fit_norms(ProfileData(**arrays)).norm

    mapped = jax.jit(jax.vmap(lambda arrays: norms(**arrays)))(toys)
    for k, stack in enumerate(stacks):
        assert_allclose(mapped[k], norms(**stack), rtol=1e-11)


def test_default_precision_and_byte_order():
    """Without x64 float64 arrays are fitted in float32 without a warning; big-endian ones too."""
    arrays = random_data()
    expected = fit_norms(ProfileData(**arrays))
    with jax.enable_x64(False):
        fit = fit_norms(ProfileData(**{k: v.astype(">f8") for k, v in arrays.items()}))
    assert fit.norm.dtype == np.float32
    assert np.all(np.abs(fit.norm - expected.norm) < 1e-3 * np.asarray(expected.norm_err))


def test_constants_inside_a_jit():
    """A fit of constants inside somebody's jit is compiled with it."""
    data = ProfileData(**random_data())
    expected = fit_norms(data).norm
    got = jax.jit(lambda factor: factor * fit_norms(data).norm)(2.0)
    assert_allclose(got, 2 * expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"counts": np.ones((2, 1, 4))}, "counts has shape"),
        ({"background": -np.ones((2, 1, 3))}, "background has 6 negative"),
        ({"npred_ref": np.full((2, 1, 3), np.nan)}, "npred_ref has NaN"),
        ({"mask": np.ones((2, 1))}, "mask has shape"),
    ],
)
def test_bad_data(arrays, message):
    good = {name: np.ones((2, 1, 3)) for name in ("counts", "background", "npred_ref")}
    with pytest.raises(ValueError, match=message):
        fit_norms(ProfileData(**{**good, **arrays}))


def test_bad_arguments():
    arrays = {name: np.ones((2, 1, 3)) for name in ("counts", "background", "npred_ref")}
    data = ProfileData(**arrays)
    fit = fit_norms(data)
    with pytest.raises(TypeError, match="ProfileData"):
        fit_norms(arrays)
    with pytest.raises(ValueError, match="norm_min"):
        fit_norms(data, norm_min=1.0, norm_max=0.0)
    with pytest.raises(ValueError, match="n_sigma_ul"):
        limits(data, fit, n_sigma_ul=0)
    with pytest.raises(ValueError, match="n_sigma"):
        sensitivity(data, n_sigma=-1)
    with pytest.raises(ValueError, match="values"):
        scan(data, np.ones((2, 2)))
    on_off = {name: np.ones((2, 1, 3)) for name in ("n_on", "n_off", "npred_ref")}
    with pytest.raises(ValueError, match="alpha must be positive"):
        fit_norms(OnOffData(**on_off, alpha=np.zeros((2, 1, 3))))
    with pytest.raises(ValueError, match="jointly fitted"):
        fit_norms((data, OnOffData(**{k: np.ones((3, 1, 3)) for k in (*on_off, "alpha")})))


def test_the_precision_is_that_of_the_numbers_whatever_the_mask():
    array = np.ones((1, 1, 2), np.float32)
    data = ProfileData(
        counts=array, background=array, npred_ref=array, mask=np.ones(array.shape, np.float64)
    )
    with jax.enable_x64(True):
        (block,) = prepared = prepare(data)
        assert block.mask.dtype == bool
        assert float_dtype(prepared) == np.float32
        assert float_dtype(replace(block, npred_ref=np.ones(array.shape))) == np.float64
        assert float_dtype({"counts": np.ones(3, int)}) == np.float64
