"""Poisson random numbers: their distribution, and that they depend on nothing but key and mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from jaxprof.likelihood import poisson as module
from jaxprof.likelihood.poisson import poisson

MEANS = np.array([1e-6, 1e-3, 0.3, 2.0, 9.0, 15.9, 16.0, 17.5, 60.0, 4e3, 1e6, 1e8])


def p_value(counts, mean):
    """Of Pearson's chi2, in bins of about equal probability that end between integers."""
    edges = np.unique(stats.poisson.ppf(np.linspace(0, 1, 42)[1:-1], mean))
    below = stats.poisson.cdf(edges, mean)
    expected = np.diff(np.concatenate([[0.0], below, [1.0]])) * len(counts)
    found = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    keep = expected > 5
    rest = expected[~keep].sum()
    chi2 = np.sum((found[keep] - expected[keep]) ** 2 / expected[keep])
    if rest > 0:
        chi2 += (found[~keep].sum() - rest) ** 2 / max(rest, 1.0)
    return stats.chi2.sf(chi2, max(len(expected) - 1, 1))


def check_distribution(seed, n, dtype):
    mean = jnp.asarray(np.repeat(MEANS[:, None], n, axis=1), dtype)
    counts = jax.jit(poisson)(jax.random.key(seed), mean)
    assert counts.dtype == dtype
    counts = np.asarray(counts, float)
    assert_array_equal(counts, np.round(counts))
    assert np.all(counts >= 0)
    for own, mu in zip(counts, MEANS, strict=True):
        if dtype == jnp.float64 or mu < 1e5:  # float32 counts are not all integers beyond
            assert p_value(own, mu) > 1e-4, mu
        assert abs(own.mean() - mu) < 5 * np.sqrt(mu / n) + 5 / n, mu
        spread = np.sqrt((mu + 2 * mu**2) / n)
        assert abs(np.mean((own - mu) ** 2) - mu) < 5 * spread + 5 / n, mu


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_distribution(dtype):
    check_distribution(3, 4000, dtype)


@pytest.mark.slow
def test_distribution_of_many():
    check_distribution(4, 200_000, jnp.float64)


def test_small_means_invert_the_survival_function():
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**32, (2, 6000), dtype=np.uint32)
    # A third so small that counts are improbable.
    words[0, ::3] >>= rng.integers(0, 32, 2000).astype(np.uint32)
    mean = np.geomspace(1e-7, 15.9, 6000)
    counts = np.asarray(module._inverse(jnp.asarray(words), jnp.asarray(mean)))
    uniform = (words[0] + (words[1] + 0.5) / 2**32) / 2**32
    above = np.where(counts > 0, special.pdtrc(counts - 1, mean), 1.0)
    assert np.all(uniform < above + 1e-15)
    assert np.all(uniform > special.pdtrc(counts, mean) - 1e-15)
    assert counts.max() > 30


def test_logarithm_of_large_probabilities():
    mean = np.array([16.0, 16.0, 16.0, 40.0, 1e3, 1e6])
    counts = np.array([4.0, 9.0, 55.0, 41.0, 900.0, 1.003e6])
    found = module._log_probability(jnp.asarray(counts), jnp.asarray(mean)) - 0.5 * np.log(mean)
    expected = counts * np.log(mean) - mean - special.gammaln(counts + 1)
    assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_counts_depend_on_their_key_and_mean_alone():
    """The same in blocks, under vmap and beside other means."""
    keys = jax.random.split(jax.random.key(0), 3)
    mean = jnp.asarray(np.random.default_rng(2).uniform(0, 3.0, 7000) ** 4)
    assert 2 * mean.size < module.BLOCK < 3 * mean.size
    one = jax.jit(poisson)
    loop = np.stack([one(key, mean) for key in keys])
    assert_array_equal(jax.jit(jax.vmap(poisson, (0, None)))(keys, mean), loop)
    other = mean.at[1::2].set(1000.0)
    assert_array_equal(one(keys[0], other)[::2], loop[0, ::2])
    assert not np.array_equal(loop[0], loop[1])
    both = jax.jit(jax.vmap(poisson, (None, 0)))(keys[0], jnp.stack([mean, other]))
    assert_array_equal(both, [loop[0], one(keys[0], other)])


def test_means_that_are_special():
    mean = np.array([0.0, -1.0, np.nan, np.inf, 1e30, 1e-30, 5.0], np.float32)
    counts = np.asarray(poisson(jax.random.key(1), mean))
    assert_array_equal(np.isnan(counts), [False, True, True, True, False, False, False])
    assert counts[0] == 0 == counts[5]
    assert_allclose(counts[4], 1e30, rtol=1e-6)
    assert jax.eval_shape(poisson, jax.random.key(1), jnp.zeros((0, 3))).shape == (0, 3)
