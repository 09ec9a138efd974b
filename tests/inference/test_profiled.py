"""Fits, limits, scans and sensitivities of a likelihood, and of any function."""

from dataclasses import replace

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, minimize, minimize_scalar

import jaxprof
from jaxprof import core
from jaxprof.inference import profiled
from jaxprof.likelihood.arrays import separate_counts
from jaxprof.likelihood.data import ProfileData, Status

RADII = np.linspace(0.1, 1.5, 10)
LEAK = 0.2 * (np.eye(10, k=1) + np.eye(10, k=-1)) + 0.6 * np.eye(10)
COUNTS = np.random.default_rng(7).poisson(20.0 * LEAK @ (3.0 * RADII**-1.2) + 5.0) * 1.0
START = {"amplitude": 2.0, "index": 1.0}


def log_prob(params, counts, background):
    """Annuli whose norms follow a law, with a leak of a fifth into each neighbour."""
    npred = 20.0 * LEAK @ (params["amplitude"] * RADII ** -params["index"]) + background
    return jnp.sum(counts * jnp.log(npred) - npred)


def stat(amplitude, index):
    npred = 20.0 * LEAK @ (amplitude * RADII**-index) + 5.0
    return 2 * np.sum(npred - COUNTS * np.log(npred))


@pytest.fixture(scope="module")
def fitted():
    return jaxprof.fit(log_prob, START, args=(COUNTS, 5.0))


@pytest.mark.slow
def test_limits_of_a_law_are_those_of_scipy(fitted):
    """Of the amplitude, with the index profiled."""
    best = minimize(lambda p: stat(*p), [3.0, 1.2], method="Nelder-Mead", options={"xatol": 1e-9})
    lowest = stat(*best.x)

    def rise(amplitude):
        return minimize_scalar(lambda i: stat(amplitude, i), (1.0, 1.3), tol=1e-12).fun - lowest

    found = jaxprof.limits(log_prob, fitted, args=(COUNTS, 5.0), names="amplitude")
    value = best.x[0]
    for got, n, end in (
        (value - found.errn["amplitude"], 1, 0.3 * value),
        (value + found.errp["amplitude"], 1, 3 * value),
        (found.ul["amplitude"], 2, 3 * value),
    ):
        assert_allclose(got, brentq(lambda a: rise(a) - n**2, value, end), rtol=1e-6)  # noqa: B023
    grid = value * np.array([0.7, 1.0, 1.3])
    got = jaxprof.scan(log_prob, fitted, grid, name="amplitude", args=(COUNTS, 5.0))
    assert_allclose(got, [rise(a) for a in grid], atol=1e-7)
    assert set(vars(found)) == {"errn", "errp", "ul"}


@pytest.mark.slow
def test_limits_of_a_parabola_are_its_errors():
    def parabola(params):
        return -0.5 * jnp.sum(((params["x"] - 3.0) / jnp.array([0.1, 20.0])) ** 2)

    own = jaxprof.fit(parabola, {"x": jnp.zeros(2)})
    found = jaxprof.limits(parabola, own, n_sigma=2, n_sigma_ul=3)
    assert_allclose(found.errn["x"], [0.2, 40.0], rtol=1e-8)
    assert_allclose(found.errp["x"], [0.2, 40.0], rtol=1e-8)
    assert_allclose(found.ul["x"], [3.3, 63.0], rtol=1e-8)
    one = jaxprof.limits(parabola, own, names=["x[1]"])
    assert_allclose(one.errn["x[1]"], 20.0, rtol=1e-8)


def test_bounds_end_limits():
    """An error is none there, an upper limit is the bound."""

    def parabola(params):
        return -0.5 * (params["x"] - 3.0) ** 2

    own = jaxprof.fit(parabola, {"x": 2.5}, bounds={"x": (2.4, 4.5)})
    found = jaxprof.limits(parabola, own)
    assert np.isnan(found.errn["x"])
    assert_allclose(found.errp["x"], 1.0, rtol=1e-8)
    assert found.ul["x"] == 4.5


@pytest.mark.slow
def test_scans_end_with_the_domain():
    """Rises are those of the statistic, and infinite where the likelihood is zero."""
    data = ProfileData(
        counts=np.array([[[20.0, 0.0]]]),
        background=np.array([[[3.0, 0.5]]]),
        npred_ref=np.array([[[1.0, 3.0]]]),
    )
    separate = separate_counts(data)
    joint = replace(separate, terms=(replace(separate.terms[0], clipped=False),))
    norms = np.array([-4.0, -3.0, -2.9, -0.2, -1 / 6, 0.0, 2.0])
    for own, end in ((separate, -3.0), (joint, -0.5 / 3)):
        best = jaxprof.fit(own)
        found = jaxprof.scan(own, best, norms)[0, 0]
        values = [own.log_prob({"norm": jnp.full((1, 1), norm)}) for norm in norms]
        expected = 2 * (own.log_prob(best.params) - np.array(values))
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert_array_equal(np.isinf(found), norms <= end if end == -3.0 else norms < end)


@pytest.mark.slow
def test_derivatives_of_limits_and_scans(fitted):
    """With respect to counts and background, by the implicit function theorem."""

    def limit(counts, background):
        own = jaxprof.fit(log_prob, START, args=(counts, background))
        found = jaxprof.limits(log_prob, own, args=(counts, background), names="amplitude")
        scan = jaxprof.scan(
            log_prob, own, np.array([2.0]), name="amplitude", args=(counts, background)
        )
        return jnp.stack([found.errn["amplitude"], found.ul["amplitude"], scan[0]])

    limit = jax.jit(limit)
    counts, step = jnp.asarray(COUNTS), 1e-3
    by_counts, by_background = jax.jacobian(limit, argnums=(0, 1))(counts, 5.0)
    up, down = limit(counts, 5.0 + step), limit(counts, 5.0 - step)
    assert_allclose(by_background, (up - down) / (2 * step), rtol=1e-5)
    moved = jnp.zeros(10).at[3].set(step)
    up, down = limit(counts + moved, 5.0), limit(counts - moved, 5.0)
    assert_allclose(by_counts[:, 3], (up - down) / (2 * step), rtol=1e-5)


def test_what_cannot_be_asked_for(fitted):
    args = (COUNTS, 5.0)
    with pytest.raises(ValueError, match="names the parameter 'alpha'"):
        jaxprof.limits(log_prob, fitted, args=args, names="alpha")
    with pytest.raises(ValueError, match="n_sigma_ul must be positive"):
        jaxprof.limits(log_prob, fitted, args=args, n_sigma_ul=0)
    with pytest.raises(ValueError, match=r"values must have shape \(V,\)"):
        jaxprof.scan(log_prob, fitted, np.zeros((2, 3)), name="index", args=args)
    with pytest.raises(ValueError, match="start is needed"):
        jaxprof.fit(log_prob, args=args)
    fixed = jaxprof.fit(log_prob, START, args=args, fixed="index")
    with pytest.raises(ValueError, match="'index' was fixed"):
        jaxprof.scan(log_prob, fixed, [1.0], name="index", args=args)
    assert np.isnan(jaxprof.limits(log_prob, fixed, args=args).ul["index"])


@pytest.mark.parametrize("joint", [False, True])
def test_values_of_wrong_types_are_named(joint):
    """Not by errors from inside, and units are not left out."""
    data = ProfileData(counts=[[[3.0, 0.0]]], npred_ref=[[[1.0, 2.0]]], background=[[[0.5, 0.5]]])
    with jax.enable_x64(True):
        own = separate_counts(jax.tree.map(np.asarray, data, is_leaf=lambda x: isinstance(x, list)))
    own = replace(own, terms=(replace(own.terms[0], clipped=not joint),))
    counts = np.asarray(own.counts[0])
    for value in ("a", 1 * u.s, np.array([[None]], object)):
        with pytest.raises(ValueError, match="start: 'norm' must be a"):
            jaxprof.fit(own, {"norm": value})
        with pytest.raises(ValueError, match=r"bounds of 'norm'|could not"):
            jaxprof.fit(own, bounds={"norm": (value, None)})
    for value in (counts * u.s, "a", None):
        with pytest.raises(ValueError, match="counts (must|have)"):
            own.with_counts((value,) if value is not None else None)
    compiled = jax.jit(lambda bad: jaxprof.fit(own.with_counts((bad,))))
    for value in (-1.0, np.nan, np.inf):
        bad = np.full_like(counts, value)
        with pytest.raises(ValueError, match="counts has"):
            jaxprof.fit(own.with_counts((bad,)))
        found = compiled(bad)
        assert found.status == Status.NOT_CONVERGED and np.isnan(found.params["norm"]).all()


@pytest.fixture(scope="module")
def counted():
    """Counts of a Gaussian source behind a PSF, two in most pixels and none in some."""
    image = gaussian_image(sky_image(lambda x, y: np.exp(-8 * (x * x + y * y)), 0.1), 0.1, 0.1)
    made = dataset_of(image, 0.1, sigma=0.1, n_photons=500, background=0.5)
    made.counts.data[:] = np.random.default_rng(1).poisson(made.counts.data)
    return made


def options(cls):
    if cls is jaxprof.FluxProfileEstimator:
        own = {"spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV}
        return cls(rings(3, 0.3), selection_optional="all", **own)
    return estimator(rings(3, 0.3), background=0.1, selection_optional="all")


@pytest.mark.parametrize(
    "cls",
    [
        jaxprof.FluxProfileEstimator,
        pytest.param(jaxprof.ForwardFoldingProfileEstimator, marks=pytest.mark.slow),
    ],
)
def test_a_likelihood_gives_what_run_gives(counted, cls, monkeypatch):
    own = options(cls)
    profile, likelihood = own.run(counted), own.reduce(counted)
    fit = jaxprof.fit(likelihood)
    assert fit.status == Status.OK
    assert_allclose(fit.params["norm"], profile.norm, rtol=1e-10)
    assert_allclose(fit.errors["norm"], profile.norm_err, rtol=1e-10)
    assert np.array_equal(fit.norm_status, profile.status)
    limits = jaxprof.limits(likelihood, fit)
    assert_allclose(limits.errn["norm"], profile.norm_errn, rtol=1e-8)
    assert_allclose(limits.errp["norm"], profile.norm_errp, rtol=1e-8)
    assert_allclose(limits.ul["norm"], profile.norm_ul, rtol=1e-8)
    ts = jaxprof.scan(likelihood, fit, [0.0])[..., 0]
    assert_allclose(ts, profile.ts, rtol=1e-9)
    found = jaxprof.sensitivity(likelihood, fit)
    assert_allclose(found, profile.norm_sensitivity, rtol=1e-8)
    if cls is jaxprof.ForwardFoldingProfileEstimator:
        check_that_second_minima_are_said(likelihood, fit, monkeypatch)


def check_that_second_minima_are_said(likelihood, fit, monkeypatch):
    """Of fits with a norm held, but not where these are traced."""

    def scanned(data, fit, bins, norms):
        return norms, norms, np.array(bins)[:, np.newaxis] + norms > 2.5

    monkeypatch.setattr(profiled, "scanned", scanned)
    traced = jax.jit(lambda norm: jaxprof.scan(likelihood, fit, norm[None]))(2.0)
    assert_array_equal(traced, np.full((3, 1, 1), 2.0))
    match = r"^scan: with norm\[1, 0\], norm\[2, 0\] held, another minimum"
    with pytest.warns(UserWarning, match=match) as record:
        jaxprof.scan(likelihood, fit, [1.0, 2.0])
    assert [w.filename for w in record] == [__file__]


@pytest.mark.slow
@pytest.mark.parametrize(
    "cls", [jaxprof.FluxProfileEstimator, jaxprof.ForwardFoldingProfileEstimator]
)
def test_any_function_gives_what_a_likelihood_gives(counted, cls):
    """Other solvers, and one of them knows nothing of the structure."""
    likelihood = options(cls).reduce(counted)
    fit = jaxprof.fit(likelihood)
    function = likelihood.log_prob
    plain = jaxprof.fit(function, likelihood.params(), bounds=likelihood.bounds())
    assert_allclose(plain.params["norm"], fit.params["norm"], rtol=1e-7)
    assert_allclose(plain.covariance, fit.covariance, atol=1e-9 * np.max(fit.covariance))
    known, found = jaxprof.limits(likelihood, fit), jaxprof.limits(function, plain, names="norm")
    for kind in ("errn", "errp", "ul"):
        assert_allclose(getattr(found, kind)["norm"], getattr(known, kind)["norm"], rtol=1e-7)
    grid = np.array([0.0, 0.3])
    rises = jaxprof.scan(function, plain, grid)
    assert_allclose(rises, jaxprof.scan(likelihood, fit, grid), rtol=1e-7)
    # An exposure that all energies share is for the general method.
    with pytest.raises(ValueError, match="energy groups share"):
        jaxprof.sensitivity(likelihood, jaxprof.fit(likelihood, fixed="norm[0, 0]"))


@pytest.mark.slow
def test_joint_limits_and_scans_can_be_traced(counted):
    """Nothing of them needs to know values, as users find out who compile their loops."""

    def everything(likelihood):
        fit = jaxprof.fit(likelihood)
        limits = jaxprof.limits(likelihood, fit)
        return limits, jaxprof.scan(likelihood, fit, [0.0]), jaxprof.sensitivity(likelihood, fit)

    own = estimator(rings(3, 0.3), selection_optional="all").reduce(counted)
    limits, rises, norms = jax.eval_shape(everything, own)
    assert limits.ul["norm"].shape == rises.shape[:2] == norms.shape == own.nominal["norm"].shape


@pytest.mark.slow
def test_a_minimum_where_predictions_vanish():
    """Without any background, in a map of few counts: the minimum is at the end of the domain."""
    few = dataset_of(sky_image(lambda x, y: 1.0 + 0 * x, 0.1), 0.1, sigma=0.1, background=0.01)
    few.counts.data[:] = 0
    few.counts.data[0, 8, 9] = few.counts.data[0, 12, 12] = 2
    own = estimator(rings(3, 0.2))
    profile, likelihood = own.run(few), own.reduce(few)
    fit = jaxprof.fit(likelihood)
    assert np.any(profile.status == Status.BOUNDARY)
    assert fit.status == Status.BOUNDARY
    assert fit.success
    assert_allclose(fit.params["norm"], profile.norm, atol=1e-6 * np.max(profile.norm))
    assert np.isfinite(likelihood.log_prob(fit.params))


def test_a_likelihood_whitens_itself(counted):
    """Near the minimum it is a unit normal density, from the fit or from a start alike."""
    likelihood = options(jaxprof.FluxProfileEstimator).reduce(counted)
    fit = jaxprof.fit(likelihood)
    whitened, to_params = likelihood.whiten(fit)
    step = 1e-3 * np.array([1.0, -1.0, 2.0])
    fall = whitened(np.zeros(3)) - whitened(step)
    assert_allclose(fall, 0.5 * np.sum(step**2), rtol=1e-3)
    _, again = likelihood.whiten(likelihood.params())
    assert_allclose(again(step)["norm"], to_params(step)["norm"], rtol=1e-12)


@pytest.mark.slow
def test_toys_of_separate_fits_under_vmap(counted):
    own = options(jaxprof.FluxProfileEstimator)
    likelihood = own.reduce(counted)
    truth = {"norm": 0.4}

    def toy(key):
        drawn = likelihood.simulate(key, truth)
        fit = jaxprof.fit(drawn)
        return fit.params["norm"], jaxprof.limits(drawn, fit).ul["norm"]

    keys = jax.random.split(jax.random.key(3), 200)
    norm, ul = jax.vmap(toy)(keys)
    one = toy(keys[17])
    assert_allclose(norm[17], one[0], rtol=1e-12)
    assert_allclose(ul[17], one[1], rtol=1e-12)
    # An upper end at two standard deviations covers in about 98 %.
    assert 0.93 < np.mean(ul > 0.4) <= 1.0


def test_levels_of_limits_in_either_convention():
    """As probabilities, against the closed form of a parabola and the sum of one counts bin."""

    def parabola(params):
        return -0.5 * params["x"] ** 2

    own = jaxprof.fit(parabola, {"x": 1.0})
    assert_allclose(jaxprof.limits(parabola, own, cl=0.95).ul["x"], 1.959963984540054, rtol=1e-6)
    with pytest.raises(ValueError, match="give cl or n_sigma_ul, not both"):
        jaxprof.limits(parabola, own, cl=0.95, n_sigma_ul=3)
    with pytest.raises(ValueError, match="cl must be between 0 and 1, such as 0.95, got 95"):
        jaxprof.limits(parabola, own, cl=95)
    with pytest.raises(ValueError, match=r"names is empty; there are x"):
        jaxprof.limits(parabola, own, names=[])
    data = ProfileData(counts=[[[9.0]]], npred_ref=[[[2.0]]], background=[[[0.5]]])
    data = jax.tree.map(np.asarray, data, is_leaf=lambda x: isinstance(x, list))
    with jax.enable_x64(True):
        high = core.limits(data, core.fit_norms(data), cl=0.95).norm_ul[0, 0]
    total = 2.0 * high + 0.5
    assert_allclose(2 * (total - 9 - 9 * np.log(total / 9)), 1.959963984540054**2, rtol=1e-9)
