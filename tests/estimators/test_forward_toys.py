"""Closure: over many simulated data sets the errors of joint fits mean what they say."""

import dataclasses

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, gaussian_image, joint_data_of, rings, sky_image

import jaxprof
from jaxprof import ForwardFoldingProfileEstimator
from jaxprof.core import fit_joint
from jaxprof.inference.held_fit import fit_held
from jaxprof.inference.interior import interior
from jaxprof.inference.joint_toys import fit_packed, packs_of
from jaxprof.likelihood.data import Status

N_TOYS = 1500
N_BINS = 4


@pytest.fixture(scope="module")
def toys():
    """Fits of toys: norms, errors, and the rise of the statistic at the truth."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.48, 0.08)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.08), 0.08, sigma=0.1, n_photons=6000.0, background=1.0
    )
    estimator = ForwardFoldingProfileEstimator(
        rings(N_BINS, 0.12), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV, subpixels=3
    )
    data = joint_data_of(estimator, dataset, merge=False)[0]
    (block,) = data.blocks
    # What the fit of the expectation gives is the truth of the toys.
    truth = fit_joint(data)
    counts = np.random.default_rng(8).poisson(np.asarray(block.counts), (N_TOYS, *block.mask.shape))

    def one(toy):
        own = dataclasses.replace(
            data, blocks=(dataclasses.replace(block, counts=toy.astype(float)),)
        )
        fit = fit_joint(own)
        inside = interior(own)
        rises = [fit_held(own, fit.values, inside, k, truth.values[k]).rise for k in range(N_BINS)]
        return fit.values, fit.covariance, jnp.stack(rises), fit.converged

    found = jax.jit(lambda all_toys: jax.lax.map(one, all_toys, batch_size=100))(
        jnp.asarray(counts)
    )
    return np.asarray(truth.values), *(np.asarray(part) for part in found)


@pytest.mark.slow
def test_the_truth_is_what_was_put_in(toys):
    """Rings of a disk that is as bright everywhere; its pixels are 0.08 deg wide."""
    truth, expected = toys[0], np.diff(np.arange(N_BINS + 1) ** 2) / 16
    errors = np.sqrt(np.diagonal(toys[2].mean(axis=0)))
    np.testing.assert_allclose((truth - expected) / errors, 0.0, atol=0.03)


@pytest.mark.slow
def test_all_toys_converge(toys):
    assert toys[-1].all()


@pytest.mark.slow
def test_pulls(toys):
    truth, norms, covariance, _, _ = toys
    pulls = (norms - truth) / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert np.abs(pulls.mean(axis=0)).max() < 0.1
    assert np.abs(pulls.std(axis=0) - 1).max() < 0.07


@pytest.mark.slow
def test_covariance_is_the_scatter(toys):
    _, norms, covariance, _, _ = toys
    scatter, mean = np.cov(norms.T), covariance.mean(axis=0)
    np.testing.assert_allclose(np.diag(scatter), np.diag(mean), rtol=0.1)
    neighbours = np.diag(scatter, 1) / np.diag(mean, 1)
    np.testing.assert_allclose(neighbours, 1.0, rtol=0.1)


@pytest.mark.slow
def test_coverage(toys):
    rises = toys[3]
    inside = (rises <= 1.0).mean(axis=0)
    assert np.abs(inside.mean() - 0.6827) < 0.02
    assert np.abs((rises <= 4.0).mean() - 0.9545) < 0.01


@pytest.mark.slow
def test_toys_of_joint_fits_are_fits_of_all_pixels():
    """Also where the fit with merged empty pixels predicts some of them below zero."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.08)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.08), 0.08, sigma=0.1, n_photons=40.0, background=0.01
    )
    with jax.enable_x64(True):
        likelihood = ForwardFoldingProfileEstimator(
            rings(N_BINS, 0.2), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV
        ).reduce(dataset)
        options = {"seed": 4, "quantities": ("deviance",), "progress": False}
        found = jaxprof.toys(likelihood, 12, **options)
        other = jaxprof.toys(likelihood, 12, chunk=5, **options)
        truth = jaxprof.fit(likelihood).params
        packs = packs_of(likelihood, truth)
        assert packs is not None
        outside = 0
        for number in range(12):
            key = jax.random.fold_in(jax.random.key(4), number)
            drawn = likelihood.simulate(key, truth)
            fit = jaxprof.fit(drawn)
            assert int(fit.status) <= Status.BOUNDARY
            for name, value in (("norm", fit.params["norm"]), ("norm_err", fit.errors["norm"])):
                scale = np.asarray(fit.errors["norm"])
                difference = (found[name][number] - np.asarray(value)) / scale
                np.testing.assert_allclose(difference[np.isfinite(scale)], 0.0, atol=1e-6)
                np.testing.assert_array_equal(np.isnan(found[name][number]), np.isnan(value))
            outside += (
                min(
                    np.min(npred, where=np.asarray(term.mask), initial=np.inf)
                    for term, npred in zip(
                        drawn.terms, drawn.npred(fit_packed(drawn, packs).params), strict=True
                    )
                )
                < 0
            )
    for name, value in found.values.items():
        np.testing.assert_array_equal(other[name], value)
    assert 0 < outside < 12
