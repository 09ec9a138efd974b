"""`jaxprof.fit`: any parameters of any function, its derivatives, and what it says of failures."""

import warnings
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

import jaxprof
from jaxprof import PowerLawSpectralModel, fit, random_starts, whiten
from jaxprof.inference.undetermined import undetermined
from jaxprof.likelihood.arrays import separate_counts
from jaxprof.likelihood.data import ProfileData, Status

EDGES = np.geomspace(0.1, 10.0, 7)
EXPOSURE = 1e14
BACKGROUND = np.array([30.0, 20.0, 12.0, 6.0, 3.0, 1.0])


def poisson(counts, npred):
    inside = npred > 0
    safe = jnp.where(inside, npred, 1.0)
    return jnp.where(inside.all(), jnp.sum(counts * jnp.log(safe) - safe), -jnp.inf)


def spectrum_log_prob(params, counts):
    """Counts of a power law and of a background whose norm is known to 5 %."""
    flux = params["spectrum"].integral(EDGES[:-1], EDGES[1:])
    npred = EXPOSURE * flux + params["background"] * BACKGROUND
    return poisson(counts, npred) - 0.5 * ((params["background"] - 1) / 0.05) ** 2


START = {"spectrum": PowerLawSpectralModel(index=2.0, amplitude=1e-12), "background": 1.0}
TRUTH = {"spectrum": PowerLawSpectralModel(index=2.4, amplitude=4e-13), "background": 1.02}
RADII = np.linspace(0.1, 1.5, 10)


def law_npred(params):
    """Annuli whose norms follow a law, with a leak of a fifth into each neighbour."""
    norms = params["amplitude"] * RADII ** -params["index"]
    leak = 0.2 * (np.eye(10, k=1) + np.eye(10, k=-1)) + 0.6 * np.eye(10)
    return 20.0 * leak @ norms + 5.0


def law_log_prob(params, counts):
    return poisson(counts, law_npred(params))


LAW = {"amplitude": 3.0, "index": 1.2}


def expected_counts(params):
    flux = params["spectrum"].integral(EDGES[:-1], EDGES[1:])
    return EXPOSURE * flux + params["background"] * BACKGROUND


def draws(seed, npred, number=()):
    shape = number if isinstance(number, tuple) else (number,)
    return np.random.default_rng(seed).poisson(npred, (*shape, np.size(npred))).astype(float)


def test_spectrum_as_scipy():
    """A model pytree in a dict, with parameters that differ by twelve powers of ten."""
    counts = draws(3, expected_counts(TRUTH))
    found = fit(spectrum_log_prob, START, args=(counts,), fixed="spectrum.reference")
    assert found.names == (
        "background",
        "spectrum.index",
        "spectrum.amplitude",
        "spectrum.reference",
    )
    assert isinstance(found.params["spectrum"], PowerLawSpectralModel)

    def negative(x):
        npred = EXPOSURE * x[2] * 1e-12 * -np.diff(EDGES ** (1 - x[1])) / (x[1] - 1)
        npred = npred + x[0] * BACKGROUND
        return np.sum(npred - counts * np.log(npred)) + 0.5 * ((x[0] - 1) / 0.05) ** 2

    options = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    expected = minimize(negative, [1.0, 2.0, 1.0], method="Nelder-Mead", options=options)
    spectrum = found.params["spectrum"]
    values = [found.params["background"], spectrum.index, spectrum.amplitude / 1e-12]
    assert_allclose(values, expected.x, rtol=1e-6)
    assert_allclose(found.stat, 2 * expected.fun, rtol=1e-12)
    assert found.status == Status.OK and found.success
    steps = 1e-3 * np.eye(3)
    hessian = [
        [
            sum(s * t * negative(expected.x + s * a + t * b) for s in (1, -1) for t in (1, -1))
            / 4e-6
            for a in steps
        ]
        for b in steps
    ]
    units = np.array([1, 1, 1e-12])
    covariance = np.linalg.inv(hessian) * np.outer(units, units)
    assert_allclose(found.covariance[:3, :3], covariance, rtol=1e-4)
    assert_array_equal(found.covariance[3], 0.0)
    assert_array_equal(found.covariance[:, 3], 0.0)
    assert_allclose(found.errors["spectrum"].amplitude, np.sqrt(covariance[2, 2]), rtol=1e-4)
    assert found.errors["spectrum"].reference == 0.0
    assert "spectrum.reference  1 fixed" in str(found)


def test_closed_forms():
    """Norm of Poisson counts, and a line through points with errors: all elements by hand."""
    norm = fit(
        lambda q, n: poisson(n, q * jnp.array([1.0, 3.0])), 1.0, args=(np.array([3.0, 9.0]),)
    )
    assert_allclose(norm.params, 3.0, rtol=1e-14)
    assert_allclose(norm.errors, np.sqrt(12.0) / 4, rtol=1e-12)
    assert norm.names == ("parameter",)
    x, y, sigma = np.arange(5.0), np.array([1.0, 3.0, 2.0, 5.0, 4.0]), np.array([1, 2, 1, 3, 1.0])
    design = np.stack([np.ones(5), x], 1) / sigma[:, None]
    line = fit(lambda q: -0.5 * jnp.sum(((y - q[0] - q[1] * x) / sigma) ** 2), np.zeros(2))
    expected, chi2, *_ = np.linalg.lstsq(design, y / sigma, rcond=None)
    assert_allclose(line.params, expected, rtol=1e-12)
    assert_allclose(line.covariance, np.linalg.inv(design.T @ design), rtol=1e-12)
    assert_allclose(line.stat, chi2[0], rtol=1e-12)
    assert line.names == ("parameter[0]", "parameter[1]")


def law_params(counts):
    return fit(law_log_prob, LAW, args=(counts,))


@pytest.mark.slow
def test_derivatives_against_finite_differences():
    """Of parameters, covariance and stat by the counts, in both modes."""
    counts = draws(1, law_npred(LAW))

    @jax.jit
    def outputs(counts):
        found = law_params(counts)
        params = jnp.stack([found.params["amplitude"], found.params["index"]])
        return jnp.concatenate([params, found.covariance.ravel(), found.stat[None]])

    steps = 1e-3 * np.maximum(counts, 1.0)
    finite = np.stack(
        [
            (
                8 * (outputs(counts + h) - outputs(counts - h))
                - outputs(counts + 2 * h)
                + outputs(counts - 2 * h)
            )
            / (12 * h.sum())
            for h in np.diag(steps)
        ],
        axis=1,
    )
    forward = jax.jacfwd(outputs)(counts)
    assert_allclose(forward, finite, rtol=1e-7, atol=1e-8)
    assert_allclose(jax.jacrev(outputs)(counts), forward, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_second_derivatives_and_closures():
    """A closed form: the norm is the mean of counts over a function of what is closed over."""

    def norm(counts, scale):
        return fit(
            lambda q: poisson(counts, q["norm"] * jnp.exp(scale) * jnp.ones(3)), {"norm": 1.0}
        )

    def value(scale):
        return norm(jnp.array([1.0, 2.0, 6.0]), scale).params["norm"]

    for transformed in (lambda f: f, jax.jit):
        first, second = jax.grad(value), jax.grad(jax.grad(value))
        assert_allclose(transformed(first)(0.5), -3 * np.exp(-0.5), rtol=1e-12)
        assert_allclose(transformed(second)(0.5), 3 * np.exp(-0.5), rtol=1e-12)
    hessian = jax.jit(jax.hessian(lambda c, s: norm(c, s).errors["norm"], argnums=(0, 1)))
    found = hessian(jnp.array([1.0, 2.0, 6.0]), 0.5)
    # The error is sqrt(sum(n)) exp(-scale) / 3.
    root = np.exp(-0.5) / 3
    assert_allclose(found[0][0], -0.25 * 9.0**-1.5 * root * np.ones((3, 3)), rtol=1e-10)
    assert_allclose(found[0][1], -0.5 * 9.0**-0.5 * root * np.ones(3), rtol=1e-10)
    assert_allclose(found[1][1], 3.0 * root, rtol=1e-10)


@pytest.mark.slow
def test_jit_vmap_and_loop_agree():
    counts = draws(2, law_npred(LAW), 6)
    one_by_one = [law_params(row) for row in counts]
    for mapped in (jax.vmap(law_params), jax.jit(jax.vmap(law_params))):
        batch = mapped(counts)
        for row, single in enumerate(one_by_one):
            for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(single), strict=True):
                assert_allclose(a[row], b, rtol=1e-9, atol=1e-12)
    assert_array_equal(batch.success, True)
    starts = jax.vmap(lambda a: fit(law_log_prob, {**LAW, "amplitude": a}, args=(counts[0],)))
    assert_allclose(
        starts(jnp.array([0.1, 3.0, 200.0])).params["index"],
        one_by_one[0].params["index"] * np.ones(3),
        rtol=1e-9,
    )


def test_toys_of_a_law():
    """Pulls of both parameters of a law over a few hundred Poisson sets."""
    number = 400
    counts = draws(7, law_npred({"amplitude": 6.0, "index": 1.2}), number)
    found = jax.jit(jax.vmap(law_params))(counts)
    assert_array_equal(found.status, Status.OK)
    for name, truth in (("amplitude", 6.0), ("index", 1.2)):
        pull = (found.params[name] - truth) / found.errors[name]
        assert abs(pull.mean()) < 0.15  # three standard errors
        assert abs(pull.std() - 1) < 0.11


class Counting(NamedTuple):
    """A likelihood that is a pytree."""

    counts: jax.Array

    def log_prob(self, params):
        return law_log_prob(params, self.counts)


@pytest.mark.slow
def test_likelihood_objects():
    counts = draws(4, law_npred(LAW))
    expected = law_params(counts)

    class Plain:
        def log_prob(self, params):
            return law_log_prob(params, counts)

    for likelihood in (Counting(jnp.asarray(counts)), Plain()):
        assert_allclose(fit(likelihood, LAW).params["index"], expected.params["index"], rtol=1e-12)
    # A pytree is an argument: mapped over, and differentiated.
    batch = Counting(jnp.stack([counts, counts + 1]))
    assert_allclose(
        jax.vmap(lambda one: fit(one, LAW).params["index"])(batch)[0],
        expected.params["index"],
        rtol=1e-10,
    )


@pytest.mark.slow
def test_bounds_and_fixed():
    counts = draws(5, law_npred(LAW))
    free = law_params(counts)
    inside = fit(law_log_prob, LAW, args=(counts,), bounds={"index": (0, None)})
    assert inside.status == Status.OK
    assert_allclose(inside.params["index"], free.params["index"], rtol=1e-10)

    def bounded(top):
        return fit(law_log_prob, LAW, args=(counts,), bounds={"index": (None, top)})

    held = fit(law_log_prob, {**LAW, "index": 1.0}, args=(counts,), fixed=["index"])
    found = bounded(1.0)
    assert found.status == Status.BOUNDARY and found.success
    assert found.params["index"] == 1.0
    assert np.isnan(found.errors["index"])
    assert_allclose(found.params["amplitude"], held.params["amplitude"], rtol=1e-10)
    assert_allclose(found.errors["amplitude"], held.errors["amplitude"], rtol=1e-9)
    # The minimum follows the bound, as it follows the value held.
    slopes = jax.jacfwd(lambda top: bounded(top).params)(1.0)
    of_fixed = jax.jacrev(
        lambda index: (
            fit(law_log_prob, {**LAW, "index": index}, args=(counts,), fixed="index").params
        )
    )(1.0)
    assert_allclose(slopes["index"], 1.0, rtol=1e-12)
    assert_allclose(slopes["amplitude"], of_fixed["amplitude"], rtol=1e-9)
    # Names of nested parameters, elements of arrays.
    nested = {"a": {"b": np.ones(3)}, "c": 1.0}
    square = partial(fit, lambda q: -jnp.sum((q["a"]["b"] - 5) ** 2) - q["c"] ** 2, nested)
    for bounds in ({"a": {"b": (0, [2, 9, 3])}}, {"a.b": (None, np.array([2, 9, 3.0])), "c": None}):
        assert_allclose(square(bounds=bounds).params["a"]["b"], [2, 5, 3], rtol=1e-12)


def test_status_of_failures():
    """NaN wherever there is no value, and a status that says why; also inside jit."""

    def log_prob(q, case):
        sloping = jnp.stack([jnp.exp(q["a"]), jnp.nan, q["a"], (q["a"] + q["b"] - 1) ** 2])[case]
        return -sloping - (q["c"] - 2) ** 2

    @jax.vmap
    def run(case):
        return fit(log_prob, {"a": 0.1, "b": 0.2, "c": 0.3}, args=(case,))

    found = jax.jit(run)(jnp.arange(4))
    lost, failed = Status.DEGENERATE, Status.NOT_CONVERGED
    assert_array_equal(found.status, [lost, failed, failed, lost])
    assert_array_equal(found.success, False)
    without = np.array([False, True, True, False])
    for leaf in (*jax.tree.leaves(found.params), found.stat):
        assert_array_equal(np.isnan(leaf), without)
    assert_array_equal(np.isnan(found.errors["a"]), True)
    assert_allclose(found.errors["c"], np.where(without, np.nan, np.sqrt(0.5)), rtol=1e-10)
    assert_array_equal(np.isnan(jax.tree.leaves(found.other_minimum)), True)
    eager = fit(log_prob, {"a": 0.1, "b": 0.2, "c": 0.3}, args=(1,))
    assert eager.status == failed and np.isnan(eager.params["c"])
    assert "not converged" in str(eager)


def two_wells(q):
    return -((q["x"] ** 2 - 1) ** 2) * 20 + 0.1 * q["x"]


@pytest.mark.slow
def test_other_minimum():
    start = {"x": -0.9}
    starts = random_starts(jax.random.key(0), start, {"x": 1.0}, 10)
    assert starts["x"].shape == (10,)
    with pytest.warns(UserWarning, match="another minimum .* less than 1 higher"):
        found = fit(two_wells, start, starts=starts)
    roots = np.sort(np.roots([80.0, 0, -80.0, -0.1]).real)
    assert_allclose(found.params["x"], roots[2], rtol=1e-12)
    assert_allclose(found.other_minimum["x"], roots[0], rtol=1e-6)
    traced = jax.jit(lambda s: fit(two_wells, start, starts=s))(starts)
    assert_allclose(traced.other_minimum["x"], roots[0], rtol=1e-6)
    # One start finds the minimum that is next to it, and knows of no other.
    single = fit(two_wells, start)
    assert_allclose(single.params["x"], roots[0], rtol=1e-12)
    assert np.isnan(single.other_minimum["x"])


def test_whitening():
    """Exact for a normal density: a half of the squared coordinates."""
    rng = np.random.default_rng(2)
    factor = rng.normal(size=(3, 3)) * np.array([1e-13, 1.0, 50.0])[:, None]
    precision = np.linalg.inv(factor @ factor.T)
    mean = np.array([4e-12, 2.0, 300.0])

    def log_prob(q, mean):
        x = jnp.concatenate([q["pair"], q["other"][None]]) - mean
        return -0.5 * x @ precision @ x + 7.0

    start = {"pair": np.array([1e-12, 1.0]), "other": 100.0, "fixed": 5.0}
    found = fit(log_prob, start, args=(mean,), fixed="fixed")
    whitened, to_params = whiten(log_prob, found, args=(mean,))
    points = rng.normal(size=(20, 3))
    values = jax.jit(jax.vmap(whitened))(points)
    assert_allclose(values, 7.0 - 0.5 * np.sum(points**2, axis=1), rtol=1e-8)
    params = jax.vmap(to_params)(points)
    assert params["pair"].shape == (20, 2)
    assert_array_equal(params["fixed"], 5.0)
    assert_allclose(to_params(np.zeros(3))["pair"], found.params["pair"], rtol=1e-14)
    bounded = fit(log_prob, start, args=(mean,), fixed="fixed", bounds={"other": (None, 200)})
    with pytest.raises(ValueError, match="no covariance of other to whiten"):
        whiten(log_prob, bounded, args=(mean,))


def log_prob_of_data(params, counts, radii):
    return poisson(counts, 20.0 * params["amplitude"] * radii ** -params["index"] + 5.0)


@pytest.mark.slow
def test_precision():
    """Float64 whatever the setting; float32 parameters and what is traced are followed."""
    args = (draws(3, law_npred(LAW)), RADII.copy())
    expected = fit(log_prob_of_data, LAW, args=args)
    with jax.enable_x64(False):
        found = fit(log_prob_of_data, LAW, args=args)
        for leaf, same in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert isinstance(leaf, np.ndarray)
            assert leaf.dtype == same.dtype
            assert_allclose(leaf, same, rtol=1e-12)
        single = fit(log_prob_of_data, jax.tree.map(jnp.float32, LAW), args=args)
        mapped = jax.jit(lambda *args: fit(log_prob_of_data, LAW, args=args))(*args)
        for result in (single, mapped):
            assert result.params["index"].dtype == jnp.float32
            shift = float(result.params["index"]) - float(expected.params["index"])
            assert abs(shift) < 1e-3 * float(expected.errors["index"])
        slope = jax.grad(lambda x: fit(lambda q: -((q - x**2) ** 2), 1.0).params)(3.0)
        assert slope.dtype == jnp.float32
        assert_allclose(slope, 6.0, rtol=1e-5)


def test_numpy_arrays_in_both_precisions():
    """JAX may not trace a numpy array in one precision while a program has it in the other."""
    known = np.linspace(0.5, 3.0, 4)

    def log_prob(q):
        return -jnp.sum((q - known) ** 2)

    with jax.enable_x64(False):
        assert_allclose(fit(log_prob, 1.0).params, known.mean(), rtol=1e-15)
        single = jax.jit(log_prob)
        assert single(1.0).dtype == jnp.float32
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = fit(log_prob, 1.0)
        # With that program alive it is up to JAX, but never float32 without a word.
        said = any("this fit is in float32" in str(one.message) for one in caught)
        assert said == (found.params.dtype == np.float32)
        assert_allclose(found.params, known.mean(), rtol=1e-6 if said else 1e-15)


def test_compiled_once_for_all_data():
    traced = []

    def log_prob(q, counts):
        traced.append(1)
        return poisson(counts, q * jnp.ones(4))

    first = fit(log_prob, 1.0, args=(np.ones(4),))
    number = len(traced)
    second = fit(log_prob, 2.0, args=(np.full(4, 3.0),), bounds={"parameter": (0.1, 10)})
    assert len(traced) == number
    assert_allclose([first.params, second.params], [1.0, 3.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        ({}, {}, "start has no parameters"),
        ({"a": np.nan}, {}, "'a' must be finite"),
        ({"a": [1.0, "b"]}, {}, "'a.1' must be a real number"),
        ({"a": 1j}, {}, "'a' must be a real number"),
        ({"a": True}, {}, "'a' must be a real number"),
        ({"a": 1.0}, {"fixed": "b"}, "fixed names the parameter 'b', start has a"),
        ({"a": 1.0}, {"fixed": "a"}, "fixed='a' leaves no parameter"),
        ({"a": 1.0}, {"fixed": 3}, "fixed must be names of parameters.*got 3"),
        ({"a": 1.0}, {"fixed": [0]}, r"fixed must be names of parameters.*got \[0\]"),
        ({"a": 1.0}, {"bounds": {"b": (0, 1)}}, "bounds names the parameter 'b'"),
        ({"a": 1.0}, {"bounds": {"a": (2, 1)}}, "bounds of 'a' must increase"),
        ({"a": 1.0}, {"bounds": {"a": 3}}, r"bounds of 'a' must be \(min, max\)"),
        ({"a": 1.0}, {"starts": {"b": np.ones(2)}}, "starts has the structure"),
        (
            {"a": np.ones(2)},
            {"starts": {"a": np.ones((4, 3))}},
            r"'a' has shape \(4, 3\) in starts",
        ),
    ],
)
def test_bad_input(start, options, message):
    with pytest.raises(ValueError, match=message):
        fit(lambda q: 0.0, start, **options)


def test_bad_functions():
    with pytest.raises(ValueError, match=r"one real number, not an array of shape \(2,\)"):
        fit(lambda q: -(q**2), np.ones(2))
    with pytest.raises(TypeError, match="must be a function of the parameters .* got float"):
        fit(1.0, 1.0)
    with pytest.raises(TypeError, match="args must be a tuple, got list"):
        fit(lambda q: -(q**2), 1.0, args=[1.0])


def test_parameters_that_are_not_determined():
    """Those of the flattest direction where a search ended; none where nothing is finite."""

    def log_prob(params):
        p, q, r = params["p"], params["q"], params["r"]
        return -((p + 100 * q - 1) ** 2) - 1e-6 * p**2 - (r - 2) ** 2

    found = fit(log_prob, {"p": 1.0, "q": 1.0, "r": 1.0})
    assert undetermined(log_prob, found, ()) in (("p", "q"), ("q", "p"))
    assert undetermined(log_prob, replace(found, last=jnp.full(3, jnp.nan)), ()) == ()
    lost = replace(found, params={name: jnp.nan for name in found.params})
    assert set(undetermined(log_prob, lost, ())) == {"p", "q"}


def test_a_printed_fit_names_parameters_at_bounds():
    def log_prob(params):
        return -0.5 * ((params["a"] + 2) ** 2 + (params["b"] - 1) ** 2)

    start = {"a": 1.0, "b": 2.0}
    text = str(fit(log_prob, start, bounds={"a": (0, None)}))
    assert text.startswith("Fit: boundary (a at its lower bound), stat ")
    text = str(fit(log_prob, start, bounds={"b": (None, 0.5)}, fixed=["a"]))
    assert "boundary (b at its upper bound)" in text and "fixed" in text


def test_starts_of_separate_fits_have_the_shapes_of_their_parameters():
    """They are not used, but a wrong one is a mistake."""
    counts = np.array([3.0, 9.0]).reshape(2, 1, 1)
    data = ProfileData(counts=counts, background=counts, npred_ref=counts)
    own = separate_counts(data)
    for start in (1.0, np.ones(2), np.ones((2, 1))):
        assert fit(own, {"norm": start}).params["norm"].shape == (2, 1)
    with pytest.raises(ValueError, match=r"start: 'norm' has shape \(3, 1\).*has \(2, 1\)"):
        fit(own, {"norm": np.ones((3, 1))})


def test_starts_of_likelihoods_that_are_none():
    counts = np.array([3.0, 9.0]).reshape(2, 1, 1)
    own = separate_counts(ProfileData(counts=counts, background=counts, npred_ref=counts))
    for start, what in (
        (3.0, "float"),
        ([1.0], "list"),
        ("a", "str"),
        (np.ones((2, 1)), "ndarray"),
    ):
        with pytest.raises(
            ValueError, match=rf"start must be a dict .* got {what}; likelihood\.par"
        ):
            fit(own, start)
    # One number for several norms would be one parameter, without a word.
    for start in ({"norm": 1.0, "background": np.ones((1, 1))}, {"norm": 1.0}):
        with pytest.raises(
            ValueError, match=r"start: 'norm' is one number for 2 .* shape \(2, 1\)"
        ):
            fit(own, start, bounds={"norm": (0, 5)})
    found = fit(own, {"norm": np.ones((2, 1)), "background": 1.0}, fixed="background")
    assert_allclose(found.params["norm"], np.zeros((2, 1)), atol=1e-6)


def test_fits_of_other_likelihoods_and_what_is_none():
    """They have other shapes: limits were those of some of the bins."""
    counts = np.array([3.0, 9.0, 4.0]).reshape(3, 1, 1)
    whole, part = (
        separate_counts(ProfileData(counts=own, background=own + 1, npred_ref=own + 2))
        for own in (counts, counts[:2])
    )
    found = fit(whole)
    for function in (jaxprof.limits, jaxprof.sensitivity, jaxprof.intervals):
        with pytest.raises(ValueError, match=r"fit has a parameter of shape \(3, 1\), this like"):
            function(part, found)
    with pytest.raises(ValueError, match="bounds must be a dict of"):
        fit(whole, bounds=[(0, 1)])
    with pytest.raises(TypeError, match="log_prob must be a function .* got int"):
        fit(3)
