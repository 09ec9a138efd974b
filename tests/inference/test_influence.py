"""Derivatives of fits with respect to the counts: against refits and closed forms, and as maps."""

from dataclasses import replace

import astropy.units as u
import jax
import numpy as np
import pytest
from forward_factory import CENTER, MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose
from scipy.optimize import brentq

import jaxprof
from jaxprof.likelihood.data import Status
from jaxprof.sky import WcsNDMap

BINSZ, SIGMA = 0.1, 0.1


@pytest.fixture(scope="module")
def counted():
    """Poisson counts in three rings, one of whose pixels in use is empty."""
    image = gaussian_image(sky_image(lambda x, y: np.exp(-5 * np.hypot(x, y)), BINSZ), SIGMA, BINSZ)
    dataset = dataset_of(image, BINSZ, sigma=SIGMA, n_photons=3000, background=1.0)
    dataset.counts.data[:] = np.random.default_rng(4).poisson(dataset.counts.data)
    return dataset


@pytest.fixture(scope="module")
def joint(counted):
    return estimator(background=0.1).reduce(counted)


@pytest.fixture(scope="module")
def fitted(joint):
    return jaxprof.fit(joint, joint.params())


def moved(likelihood, fit_of, at, step=1e-3):
    """Central difference of fits by one of the counts; at zero counts one-sided, second order."""
    [counts] = likelihood.counts

    def found(shift):
        return fit_of(likelihood.with_counts((counts.at[at].add(shift),)))

    if counts[at] > 0:
        return (found(step) - found(-step)) / (2 * step)
    return (-3 * found(0.0) + 4 * found(step) - found(2 * step)) / (2 * step)


def some_bins(likelihood):
    """Counts bins, one in the middle, and one without counts."""
    mask, counts = np.asarray(likelihood.terms[0].mask), np.asarray(likelihood.counts[0])
    used = np.argwhere(mask)
    empty = np.argwhere(mask & (counts == 0))
    assert len(empty)
    return [tuple(used[len(used) // 2]), tuple(empty[0])]


@pytest.mark.slow
def test_against_refits(joint, fitted):
    names = ("norm", "background")
    values = {name: jaxprof.influence(joint, fitted, name)[0] for name in names}
    assert values["norm"].shape == (3, *joint.counts[0].shape)
    one = jaxprof.influence(joint, fitted, "norm[1, 0]")[0]
    assert_allclose(one, values["norm"][1], rtol=1e-12)
    total = jaxprof.influence(joint, fitted, lambda params: params["norm"].sum())[0]
    assert_allclose(total, values["norm"].sum(axis=0), atol=1e-12 * np.abs(total).max())

    def refit(own):
        found = jaxprof.fit(own, fitted.params).params
        return np.concatenate([found[name].ravel() for name in names])

    for at in some_bins(joint):
        expected = moved(joint, refit, at)
        own = np.concatenate([values[name][(slice(None), *at)] for name in names])
        assert_allclose(own, expected, atol=2e-6 * np.abs(expected).max())
    mask = np.asarray(joint.terms[0].mask)
    assert not mask.all()
    assert np.all(np.asarray(values["norm"])[:, ~mask] == 0)


@pytest.mark.slow
def test_a_law_with_a_prior(joint):
    """A function of the likelihood, one of whose parameters is at a bound."""
    law = jaxprof.ExponentialRadialModel(amplitude=1e-9, theta_0=0.2, frame="galactic")
    flux, edges = float(MODEL.integral(1.0, 10.0)), [0.0, 0.2, 0.4, 0.6]

    def log_prob(params, own):
        norm = law.replace(theta_0=params["theta_0"]).ring_norms(edges, flux)[:, None]
        named = {"norm": params["scale"] * norm, "background": params["background"]}
        return own.log_prob(named) - 0.5 * ((params["theta_0"] - 0.2) / 0.1) ** 2

    start = {"scale": 100.0, "theta_0": 0.2, "background": np.ones((1, 1))}
    options = {"bounds": {"background": (1.2, None)}}
    result = jaxprof.fit(log_prob, start, args=(joint,), **options)
    assert result.status == Status.BOUNDARY and result.params["background"] == 1.2
    own = jaxprof.influence(joint, result, "theta_0", log_prob=log_prob)[0]

    def refit(other):
        return jaxprof.fit(log_prob, result.params, args=(other,), **options).params["theta_0"]

    for at in some_bins(joint):
        assert_allclose(own[at], moved(joint, refit, at), rtol=1e-5)
    held = jaxprof.influence(joint, result, "background", log_prob=log_prob)[0]
    assert np.all(held == 0)


@pytest.mark.slow
def test_closed_form_of_separate_fits(counted):
    """One bin: sum over pixels of s (n / mu - 1) = 0, so dx/dn = (s / mu) / sum(n s^2 / mu^2)."""
    likelihood = jaxprof.FluxProfileEstimator(
        rings(2, 0.3), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV, likelihood="pixel"
    ).reduce(counted)
    result = jaxprof.fit(likelihood, likelihood.params())
    image = jaxprof.influence_map(likelihood, result, "norm[0, 0]", counted)
    inside = counted.geom.get_coord().separation(CENTER).deg < 0.3
    beyond = np.isfinite(image.data) & ~inside
    assert np.all(np.isfinite(image.data[:, inside])) and np.all(image.data[beyond] == 0)
    term = likelihood.terms[0]
    mask = np.asarray(term.mask) & (np.arange(2) == 0)[:, None]
    s, b = np.asarray(term.templates)[:, :, 0, 0][mask], np.asarray(term.background)[mask]
    n = np.asarray(term.counts)[mask]
    x = brentq(lambda x: np.sum(s * (n / (b + x * s) - 1)), 1e-3, 1e5, xtol=1e-12)
    mu = b + x * s
    expected = np.full(image.data.shape, np.nan)
    energy = np.asarray(likelihood.bins[0].energy)[mask]
    y, column = np.divmod(np.asarray(likelihood.bins[0].pixel)[mask], counted.geom.npix_shape[1])
    expected[energy, y, column] = s / mu / np.sum(n * s**2 / mu**2)
    assert_allclose(np.where(beyond, np.nan, image.data), expected, rtol=1e-9)
    assert_allclose(counted.counts.data[:, inside].sum(), n.sum())


def test_map_of_a_joint_fit(counted, joint, fitted):
    """Photons of the middle ring: counts there raise its norm, those in its neighbours lower it."""
    image = jaxprof.influence_map(joint, fitted, "norm[1, 0]", counted)
    assert image.data.shape == counted.counts.data.shape
    radius = counted.geom.get_coord().separation(CENTER).deg
    within = np.isfinite(image.data[0])
    assert within[radius < 0.5].all() and not within[radius > 1.2].any()
    mean = [np.mean(image.data[0][(radius > a) & (radius < a + 0.2)]) for a in (0, 0.2, 0.4)]
    assert mean[0] < 0 < mean[1] and mean[2] < 0
    # Twice the counts and the background are twice the norm: the derivative along both together.
    values = jaxprof.influence(joint, fitted, "norm[1, 0]")[0]
    assert_allclose(np.nansum(image.data), np.sum(values), rtol=1e-12)


@pytest.mark.slow
def test_on_off_counts(counted):
    """ON and OFF counts, empty ON ones among them."""
    geom = counted.geom
    dataset = jaxprof.MapDatasetOnOff(
        counts=counted.counts,
        counts_off=WcsNDMap(geom, 1.0 + np.random.default_rng(1).poisson(2.0, geom.data_shape)),
        acceptance=WcsNDMap(geom, np.full(geom.data_shape, 1.0)),
        acceptance_off=WcsNDMap(geom, np.full(geom.data_shape, 2.0)),
        exposure=counted.exposure,
        name="on-off",
    )
    likelihood = jaxprof.FluxProfileEstimator(
        rings(2, 0.3), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV, likelihood="pixel"
    ).reduce(dataset)
    result = jaxprof.fit(likelihood, likelihood.params())
    [(on, off)] = jaxprof.influence(likelihood, result, "norm[1, 0]")
    [(n_on, n_off)] = likelihood.counts
    mask = np.asarray(likelihood.terms[0].mask[:, 1])

    def refit(k, at, shift):
        counts = [n_on, n_off]
        counts[k] = counts[k].at[at].add(shift)
        own = likelihood.with_counts((tuple(counts),))
        return jaxprof.fit(own, result.params).params["norm"][1, 0]

    for k, own in enumerate((on, off)):
        assert np.all(own[:, 0] == 0)  # each bin is by itself
        at = (0, 1, np.flatnonzero(mask[0] & (np.asarray((n_on, n_off)[k])[0, 1] > 0))[0])
        expected = (refit(k, at, 1e-3) - refit(k, at, -1e-3)) / 2e-3
        assert_allclose(own[at], expected, rtol=1e-5)
    image = jaxprof.influence_map(likelihood, result, "norm[1, 0]", dataset)
    assert_allclose(np.nansum(image.data), np.sum(on), rtol=1e-12)


def test_inside_of_jit(joint, fitted):
    inside = jax.jit(lambda own, result: jaxprof.influence(own, result, "norm[0, 0]"))
    expected = jaxprof.influence(joint, fitted, "norm[0, 0]")[0]
    assert_allclose(inside(joint, fitted)[0], expected, rtol=1e-9, atol=1e-15)


def test_what_cannot_be_given_is_said(counted, joint, fitted):
    with pytest.raises(ValueError, match="merge=False"):
        jaxprof.influence(replace(joint, merged=True), fitted, "norm[0, 0]")
    with pytest.raises(ValueError, match="quantity names the parameter 'flux'"):
        jaxprof.influence(joint, fitted, "flux")
    with pytest.raises(ValueError, match="quantity must be one number"):
        jaxprof.influence_map(joint, fitted, "norm", counted)
    other = jaxprof.MapDataset(counts=counted.counts, name="other")
    with pytest.raises(ValueError, match="dataset: 'other'.*there are 'truth'"):
        jaxprof.influence_map(joint, fitted, "norm[0, 0]", other)
    [bins] = joint.bins
    for name, match in (
        ("pixel", 'sums over pixels.*likelihood="pixel"'),
        ("energy", "sums over energies.*sum_over_energy_groups=False"),
    ):
        summed = replace(bins, **{name: np.full_like(getattr(bins, name), -1)})
        with pytest.raises(ValueError, match=match):
            jaxprof.influence_map(replace(joint, bins=(summed,)), fitted, "norm[0, 0]", counted)
    lost = replace(fitted, status=np.asarray(Status.DEGENERATE))
    with pytest.raises(ValueError, match="status 'degenerate' has no derivatives"):
        jaxprof.influence(joint, lost, "norm[0, 0]")
