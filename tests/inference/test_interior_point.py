"""The minimiser of joint fits: proofs of the minima that it finds, from any start."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem, Spectra
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import nnls

from jaxprof.core import Status
from jaxprof.inference.interior import interior, usable
from jaxprof.inference.interior_point import minimise
from jaxprof.inference.joint_fit import fit_joint

INDEX = np.array([2.2, 2.5, 1.9])
FEW_STEPS = 100
"""Fits take 5 to 60 steps; those that crawl along a constraint take hundreds."""


def nonlinear_problem(seed, n_counts):
    """Power laws of three overlapping bins and a source of a known spectrum, almost no background.

    The spectrum of a component bends the constraint that it meets where there are no counts.
    """
    rng = np.random.default_rng(seed)
    n, edges = 60, np.geomspace(0.5, 50.0, 6)
    energies = np.sqrt(edges[1:] * edges[:-1])
    fixed = (edges[:-1] ** -1.4 - edges[1:] ** -1.4)[None]
    spectra = Spectra(INDEX, np.ones(3), edges, np.array([1.0, 20.0]), fixed)
    x, reco = np.linspace(0, 5, n), rng.uniform(0.8, 20.0, n)
    place = np.exp(-0.5 * ((x - 1 - np.arange(4)[:, None]) / 0.6) ** 2)
    dispersion = np.exp(-0.5 * (np.log(reco / energies[:, None]) / 0.4) ** 2)
    templates = 10 * place[:, None] * dispersion
    own = Problem((Part(np.zeros(n), templates, np.full(n, 0.01)),), spectra=spectra)
    truth = own.begin()
    truth[own.norms] = [1.0, 0.5, 1.0, 0.3]
    rate = own.model(own.parts[0], truth.astype(complex))[0].real
    counts = rng.multinomial(n_counts, rate / rate.sum()).astype(float)
    lower = {1: -2.0, 3: -2.0, 5: -2.0}
    upper = {1: 7.0, 3: 7.0, 5: 7.0}
    return replace(own, parts=(replace(own.parts[0], counts=counts),), lower=lower, upper=upper)


def first_order(own, z):
    """Karush-Kuhn-Tucker conditions, from numpy alone; the constraints and bounds that the point
    touches.

    What is left of the gradient in units of the signal has to be a push against these.
    """
    (part,) = own.parts
    npred, slopes = own.model(part, z.astype(complex))
    npred, slopes = npred.real, slopes.real
    assert npred.min() > -1e-9
    assert np.all(npred[part.counts > 0] > 0)
    gradient = 0.5 * own.gradient(z.astype(complex)).real
    lower, upper = own.bounds()
    at_constraint = (part.counts == 0) & (npred < 1e-6)
    # The gradient of the numpy problem divides zero counts by a prediction that may be zero too.
    assert np.all(np.isfinite(gradient))
    ways = [slopes[:, at_constraint]]
    for end, sign in ((z <= lower, 1.0), (z >= upper, -1.0)):
        ways.append(sign * np.eye(own.size)[:, end])
    ways = np.concatenate(ways, axis=1)
    free = own.freedom()
    scale = np.abs(slopes[:, ~at_constraint]).sum(axis=1)[free] + 1e-300
    left = gradient[free] / scale
    if ways.size:
        matrix = ways[free] / scale[:, None]
        left = left - matrix @ nnls(matrix, left)[0]
    assert_allclose(left, 0.0, atol=1e-6)
    return int(at_constraint.sum()), ways.shape[1] - int(at_constraint.sum())


@pytest.fixture(scope="module")
def few_steps():
    """The fit, compiled once, with few steps."""

    @jax.jit
    def fit(data, start):
        at_start, barrier = interior(data)
        start = jnp.where(jnp.isfinite(start), start, at_start)
        return minimise(data, start, usable(data), barrier, at_start, FEW_STEPS)

    return fit


@pytest.mark.parametrize(
    "n_counts",
    [
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(5, marks=pytest.mark.slow),
        pytest.param(12, marks=pytest.mark.slow),
        40,
    ],
)
def test_nonlinear_constraints(n_counts, few_steps):
    """Few counts: a minimum to machine precision in few steps, and none lower near by."""
    touched = 0
    for seed in range(5):
        own = nonlinear_problem(seed, n_counts)
        data = own.joint(2, 32)
        z, converged = few_steps(data, jnp.full(own.size, jnp.nan))
        assert bool(converged), seed
        z = np.asarray(z)
        active, _ = first_order(own, z)
        touched += active
        rng = np.random.default_rng(seed)
        best, free = own.stat(z + 0.0), own.freedom()
        lower, upper = own.bounds()
        (part,) = own.parts
        for size in 10.0 ** rng.uniform(-4, -2, 200):
            other = np.clip(z + np.where(free, rng.normal(size=own.size) * size, 0), lower, upper)
            if own.model(part, other)[0].min() > 0:
                assert own.stat(other) > best - 1e-6
    assert touched > 0, "no constraint was touched, so that this test shows nothing"


def straight_problem(seed, n_counts=30, **settings):
    """Eight overlapping bins, few counts: a convex problem."""
    rng = np.random.default_rng(seed)
    n, c = 60, 8
    x = np.linspace(0, c + 1, n)
    templates = np.exp(-0.5 * ((x - 1 - np.arange(c)[:, None]) / 0.7) ** 2)[:, None]
    counts = np.bincount(rng.integers(0, n, n_counts), minlength=n).astype(float)
    return Problem((Part(counts, templates, np.full(n, 0.05)),), **settings)


@pytest.mark.parametrize("bounds", [{}, {"lower": dict.fromkeys(range(8), 0.0), "upper": {2: 0.1}}])
def test_any_start_will_do(bounds, few_steps):
    """Also starts where predictions are negative, or parameters are out of bounds."""
    own = straight_problem(0, **bounds)
    data = own.joint(2, 32)
    best, converged = few_steps(data, jnp.full(8, jnp.nan))
    assert bool(converged)
    active, ends = first_order(own, np.asarray(best))
    assert ends > 0 if bounds else active > 0
    rng = np.random.default_rng(1)
    for scale in (0.1, 1.0, 10.0, 100.0):
        start = scale * rng.normal(size=8)
        z, converged = few_steps(data, start)
        assert bool(converged)
        assert_allclose(z, best, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_norms_that_are_not_negative(seed, few_steps):
    """Bounds at zero: the minimum of expectation and maximisation (Shepp & Vardi 1982)."""
    own = straight_problem(seed, 100, lower=dict.fromkeys(range(8), 0.0))
    z, converged = few_steps(own.joint(2, 32), jnp.full(8, jnp.nan))
    assert bool(converged)
    first_order(own, np.asarray(z))
    (part,) = own.parts
    t = part.templates[:, 0]
    x = np.ones(8)
    for _ in range(20000):
        x = x * (t @ (part.counts / (part.background + x @ t))) / t.sum(axis=1)
    assert own.stat(np.asarray(z)) <= own.stat(x) + 1e-9
    assert_allclose(z, x, atol=1e-3)


def test_bounds_are_met_exactly(few_steps):
    own = straight_problem(3, 100, lower=dict.fromkeys(range(8), 1.0), upper={0: 1.1})
    data = own.joint(2, 32)
    z, _ = few_steps(data, jnp.full(8, jnp.nan))
    at_low = np.asarray(z) == 1.0
    assert at_low.any() and not at_low.all()
    assert np.all(np.asarray(z) >= 1.0)


@pytest.mark.slow
def test_a_background_that_is_not_needed():
    """Its norm comes to rest at zero, where pixels that it alone reaches are exactly zero."""
    part = Part(np.array([3.0, 0.0]), np.array([[[1.0, 0.0]]]), np.ones(2))
    own = Problem((part,), n_nuisance=1, free=np.array([True, True, False]), lower={0: 0.0, 1: 0.0})
    fit = fit_joint(own.joint(1, 2))
    assert bool(fit.converged)
    assert_allclose(fit.values, [3.0, 0.0, 0.0], atol=1e-9)
    assert fit.values[1] == 0.0


def test_an_upper_bound_below_zero():
    """Another component makes up for it, where there are counts too."""
    templates = np.array([[[1.0, 0.0]], [[1.0, 1.0]]])
    part = Part(np.array([4.0, 0.0]), templates, np.full(2, 0.1))
    fit = fit_joint(Problem((part,), upper={0: -100.0}).joint(1, 2))
    assert bool(fit.converged)
    # The second pixel costs what the first would gain: x - 99.9 is 4 / 2, by hand.
    assert_allclose(fit.values, [-100.0, 101.9], rtol=1e-9)


def test_bounds_that_allow_no_prediction():
    part = Part(np.array([4.0]), np.array([[[1.0]]]), np.array([0.1]))
    fit = fit_joint(Problem((part,), lower={0: -2.0}, upper={0: -1.0}).joint(1, 1))
    assert not bool(fit.converged)
    assert fit.status[0] == Status.NOT_CONVERGED
    assert np.isnan(fit.values[0])


@pytest.mark.parametrize("difference", [0.0, 1e-12, 1e-10, 1e-6, 1e-5])
def test_components_that_are_almost_the_same(difference):
    """Their sum is that of one of them; apart they are not known."""
    rng = np.random.default_rng(0)
    one = 8 * np.exp(-0.5 * np.linspace(-3, 3, 30) ** 2)
    other = one * (1 + difference * rng.normal(size=30))
    counts = rng.poisson(3 + one).astype(float)
    own = Problem((Part(counts, np.stack([one, other])[:, None], np.full(30, 3.0)),))
    alone = Problem((Part(counts, one[None, None], np.full(30, 3.0)),))
    fit, expected = (fit_joint(problem.joint(1, 30)) for problem in (own, alone))
    assert bool(fit.converged)
    assert np.all(fit.status == Status.DEGENERATE)
    assert np.all(np.isfinite(fit.values)) and np.all(np.diag(fit.covariance) > 1e3)
    assert_allclose(np.sum(fit.values), expected.values[0], atol=0.1)
    # What one more parameter may gain.
    assert -20 < fit.stat - expected.stat < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_many_bins_that_are_hardly_told_apart(dtype):
    """Bumps six times wider than their distance: rounding grows with the number of them."""
    rng = np.random.default_rng(0)
    n, c = 400, 250
    centers = np.linspace(20, n - 20, c)
    bumps = np.exp(-0.5 * ((np.arange(n) - centers[:, None]) / 9.0) ** 2)
    counts = rng.poisson(5.0 + bumps.sum(axis=0)).astype(float)
    data = Problem((Part(counts, bumps[:, None], np.full(n, 5.0)),)).joint(1, n)
    fit = fit_joint(jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, data))
    assert bool(fit.converged)
    assert np.all(np.isfinite(fit.values))
    if dtype == jnp.float64:
        assert np.all(fit.status[1:-1] == Status.DEGENERATE)
    # The counts are described, however the norms share them.
    rate = 5.0 + np.asarray(fit.values, float) @ bumps
    assert rate.min() > 0
    smooth = 5.0 + bumps.sum(axis=0)
    assert np.sum(rate - counts * np.log(rate)) < np.sum(smooth - counts * np.log(smooth))
    assert_allclose(rate.sum(), counts.sum(), rtol=0.02)


def test_parameters_that_are_not_free_stay(few_steps):
    free = np.arange(8) != 3
    own = straight_problem(1, free=free, start={3: 0.7})
    z, converged = few_steps(own.joint(2, 32), jnp.full(8, jnp.nan))
    assert bool(converged)
    assert z[3] == 0.7
    first_order(own, np.asarray(z))


@pytest.mark.slow
def test_without_enough_steps_the_point_is_inside():
    own = straight_problem(0)
    data = own.joint(2, 32)
    start, barrier = interior(data)
    # From this start all predictions are negative for some steps.
    for most in range(4):
        z, converged = minimise(data, jnp.full(8, -5.0), usable(data), barrier, start, most)
        assert not bool(converged)
        assert own.model(own.parts[0], np.asarray(z))[0].min() > 0


@pytest.mark.slow
def test_single_precision():
    """Good to some 1e-3 of an error, and converged."""
    for seed in range(3):
        own = straight_problem(seed, 300)
        double = own.joint(2, 32)
        single = jax.tree.map(
            lambda a: a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a, double
        )
        exact, found = fit_joint(double), fit_joint(single)
        assert found.values.dtype == jnp.float32
        assert bool(found.converged)
        errors = np.sqrt(np.diag(exact.covariance))
        assert_allclose((found.values - exact.values) / errors, 0.0, atol=5e-3)
        assert_array_equal(found.status, exact.status)
