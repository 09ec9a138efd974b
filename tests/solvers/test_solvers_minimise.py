"""The general minimiser against closed forms and scipy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from jaxprof.solvers.minimise import minimise


@partial(jax.jit, static_argnums=0)
def solve(function, starts, lower, upper, data):
    return minimise(lambda x: function(x, *data), starts, lower, upper)


def run(function, start, *data, lower=None, upper=None):
    """The minimum from one start or several, compiled once for all data of the same shapes."""
    starts = np.atleast_2d(np.asarray(start))
    starts = starts if starts.dtype == np.float32 else starts.astype(float)
    ends = [np.full(starts.shape[1], end, starts.dtype) for end in (-np.inf, np.inf)]
    given = [
        default if end is None else end for end, default in zip((lower, upper), ends, strict=True)
    ]
    return solve(function, starts, *given, data)


def run_each(function, start, *data):
    """The minimum for each of several data."""
    starts = jnp.asarray([start], float)
    ends = jnp.full(len(start), jnp.inf)
    return jax.vmap(lambda *one: solve(function, starts, -ends, ends, one))(*data)


def wood(x):
    return (
        100 * (x[1] - x[0] ** 2) ** 2
        + (1 - x[0]) ** 2
        + 90 * (x[3] - x[2] ** 2) ** 2
        + (1 - x[2]) ** 2
        + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2)
        + 19.8 * (x[1] - 1) * (x[3] - 1)
    )


def helical_valley(x):
    angle = jnp.arctan2(x[1], x[0]) / (2 * jnp.pi)
    return 100 * ((x[2] - 10 * angle) ** 2 + (jnp.hypot(x[0], x[1]) - 1) ** 2) + x[2] ** 2


def beale(x):
    powers = jnp.arange(1, 4)
    return jnp.sum((jnp.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** powers)) ** 2)


# More, Garbow & Hillstrom 1981, ACM Trans. Math. Software 7, 17: minima from there.
PROBLEMS = {
    "rosenbrock": (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [-1.2, 1.0], [1, 1]),
    "wood": (wood, [-3.0, -1.0, -3.0, -1.0], [1, 1, 1, 1]),
    "helical valley": (helical_valley, [-1.0, 0.01, 0.0], [1, 0, 0]),
    "beale": (beale, [1.0, 1.0], [3, 0.5]),
    "brown": (
        lambda x: (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2,
        [1.0, 1.0],
        [1e6, 2e-6],
    ),
}


SLOW = ("wood", "helical valley", "beale")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in PROBLEMS]
)
def test_known_minima(name):
    function, start, expected = PROBLEMS[name]
    found = run(function, start)
    assert found.converged
    assert_allclose(found.x, expected, rtol=1e-9, atol=1e-9)
    hessian = jax.hessian(function)(jnp.asarray(expected, float))
    assert_allclose(found.covariance @ hessian, np.eye(len(start)), atol=1e-6)
    assert_allclose(found.errors, np.sqrt(np.diag(found.covariance)), rtol=1e-12)


def test_units_do_not_matter():
    """The same problem in other units takes the same steps."""

    def function(x, units):
        y = x / units
        return (y[0] - 3.0) ** 4 + (y[0] - 3 + y[1]) ** 2 + jnp.exp(y[1]) * 0.1

    expected = run(function, [1.0, 1.0], np.ones(2))
    assert expected.converged
    for unit in (1e-12, 1e-40, 1e30):
        units = np.array([unit, 1.0])
        found = run(function, units, units)
        assert found.converged
        assert_allclose(found.x / units, expected.x, rtol=1e-12)
        assert_allclose(found.errors / units, expected.errors, rtol=1e-9)


def poisson(q, design, counts):
    """A penalised Poisson model of the logarithms of norms."""
    npred = design @ jnp.exp(q)
    return jnp.sum(npred - counts * jnp.log(npred)) + 0.5 * jnp.sum((q / 3) ** 2)


def poisson_data(seed, n):
    rng = np.random.default_rng(seed)
    design = rng.gamma(0.5, 1.0, (120, n)) * rng.lognormal(0, 1, n)
    return design, rng.poisson(design @ rng.lognormal(0, 1, n)).astype(float)


def test_many_parameters():
    n = 40
    data = poisson_data(1, n)
    found = run(poisson, np.zeros(n), *data)
    value, gradient, hessian = (
        jax.jit(lambda q, of=of: of(lambda q: poisson(q, *data))(q))
        for of in (lambda f: f, jax.grad, jax.hessian)
    )
    options = {"gtol": 1e-8}
    expected = minimize(
        value, np.zeros(n), jac=gradient, hess=hessian, method="trust-exact", options=options
    )
    assert found.converged
    assert np.all(np.abs(found.x - expected.x) < 1e-3 * found.errors)
    assert found.value <= expected.fun + 1e-9
    slope = gradient(found.x)
    assert slope @ found.covariance @ slope < 1e-18
    assert_allclose(found.covariance, np.linalg.inv(hessian(found.x)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_bounds_as_scipy(seed):
    n = 8
    data, rng = poisson_data(seed, n), np.random.default_rng(seed)
    value_and_gradient = jax.jit(lambda q: jax.value_and_grad(poisson)(q, *data))
    lower = np.where(rng.random(n) < 0.5, rng.normal(0.5, 1, n), -np.inf)
    upper = np.where(rng.random(n) < 0.5, rng.normal(-0.5, 1, n), np.inf)
    upper = np.where(upper > lower, upper, np.inf)
    found = run(poisson, np.zeros(n), *data, lower=lower, upper=upper)
    expected = minimize(
        value_and_gradient,
        np.clip(np.zeros(n), lower, upper),
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([lower, upper], 1),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000},
    )
    assert found.converged
    assert np.any(found.active)
    assert_allclose(found.value, expected.fun, rtol=1e-12)
    assert_allclose(found.x, expected.x, atol=1e-4)
    at = (found.x == lower) | (found.x == upper)
    assert_array_equal(at, found.active)
    free = np.flatnonzero(~found.active)
    part = np.ix_(free, free)
    inverse = np.linalg.inv(jax.hessian(poisson)(found.x, *data)[part])
    assert_allclose(found.covariance[part], inverse, rtol=1e-9, atol=1e-13)
    assert np.all(np.isnan(found.errors[found.active]))


def test_leaves_saddles_and_maxima():
    """From where the gradient is zero, and the curvature is not that of a minimum."""
    double_well = run(lambda x: x[0] ** 4 - x[0] ** 2 + x[1] ** 2, [0.0, 0.0])
    assert double_well.converged
    assert_allclose(np.abs(double_well.x), [np.sqrt(0.5), 0.0], atol=1e-12)
    hill = run(lambda x: 4.0 * jnp.cos(x[0]) + jnp.cosh(x[1] - 1), [0.0, 5.0])
    assert hill.converged
    assert_allclose(np.abs(hill.x), [np.pi, 1.0], atol=1e-9)


def test_domain():
    """Infinite or NaN outside, where a full Newton step ends."""

    def function(x, outside):
        inside = x[0] > 0
        safe = jnp.where(inside, x[0], 1.0)
        return jnp.where(inside, safe - 7.0 * jnp.log(safe), outside)

    for outside in (np.inf, np.nan, -np.inf):
        found = run(function, [700.0], outside)
        assert found.converged
        assert_allclose(found.x, 7.0, rtol=1e-12)
        assert_allclose(found.errors, np.sqrt(7.0), rtol=1e-9)


def test_large_values():
    """Rounding of the value is 1e-4, yet the gradient vanishes to its own rounding."""
    found = run(lambda x: 1e12 + 0.5 * jnp.sum((x - 3.0) ** 2) + 0.1 * jnp.sum(x**4), [1.0, -9.0])
    root = np.roots([0.4, 0, 1, -3])
    assert found.converged
    assert_allclose(found.x, root[np.isreal(root)].real[0], rtol=1e-10)


def test_single_precision():
    def function(x, unit):
        return 100 * (x[1] / unit - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    unit = np.float32(1e-25)  # its square is no number in single precision
    found = run(function, np.array([-1.2, unit], np.float32), unit)
    expected = run(function, [-1.2, 1.0], 1.0)
    assert found.converged
    assert found.x.dtype == found.errors.dtype == jnp.float32
    assert_allclose(found.x / np.array([1.0, unit]), 1.0, atol=1e-3)
    assert_allclose(found.errors / np.array([1.0, unit]), expected.errors, rtol=1e-3)


def test_lowest_of_several_starts():
    """Two wells: the second is told of when it is less than a half higher, and only then."""

    def wells(x, height):
        left, right = -0.5 * ((x[0] + 4) / 0.5) ** 2, -0.5 * ((x[0] - 4) / 0.5) ** 2
        inside = x[0] < 20
        return jnp.where(inside, -jnp.logaddexp(left, right - height), jnp.inf)

    # One of the starts is outside of the domain.
    starts = [[3.0], [30.0], [4.5], [-3.5]]
    for height, near in ((0.4, True), (0.6, False), (-0.4, True)):
        found = run(wells, starts, height)
        deepest = -4.0 if height > 0 else 4.0
        assert found.converged
        assert_allclose(found.x, deepest, atol=1e-9)
        assert_allclose(found.other, -deepest if near else np.nan, atol=1e-9)
    # The same minimum reached from all is no other.
    again = run(wells, [[-3.0], [-4.5], [-4.0], [-4.1]], 0.4)
    assert_allclose(again.x, -4.0, atol=1e-9)
    assert np.isnan(again.other)


def test_no_minimum():
    def function(x, case):
        values = (
            x[0],  # falls for ever
            jnp.nan,
            jnp.inf,
            -jnp.inf,
            jnp.where(x[0] > 0.5, x[0], jnp.inf),  # falls until the border
            x[0] ** 2,
        )
        return jnp.stack([jnp.asarray(value) for value in values])[case] + x[1] ** 2

    found = run_each(function, [2.0, 1.0], jnp.arange(6))
    assert_array_equal(found.converged, [False] * 5 + [True])


def test_not_determined():
    """What is flat, only approached far away, or has no curvature, has no error; the rest has."""

    def function(x, case):
        sloping = jnp.stack([(x[0] + 2 * x[1] - 3) ** 2, jnp.exp(x[0]), x[0] ** 4])[case]
        return sloping + 2.0 * (x[2] - 5) ** 2

    for start in ([1.0, 1.0, 1.0], [-60.0, 1.0, 1.0]):  # also deep in the tail from the beginning
        found = run_each(function, start, jnp.arange(3))
        assert np.all(found.converged)
        assert_allclose(found.errors, [[np.nan, np.nan, 0.5]] * 3, rtol=1e-9)
        assert_allclose(found.covariance[:, 2, 2], 0.25, rtol=1e-9)
    # Almost alike is not alike: a correlation of 1 - 2e-8.
    alike = run(lambda x: (x[0] + x[1] - 3) ** 2 + 1e-8 * (x[0] - x[1] - 1) ** 2, [9.0, -5.0])
    assert_allclose(alike.x, [2, 1], rtol=1e-6)
    assert_allclose(alike.errors, np.sqrt((1 + 1e8) / 8), rtol=1e-6)
