"""Templates of the true energies that counts bins see."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import dataset_of, estimator, gaussian_image, sky_image
from numpy.testing import assert_allclose

from jaxprof.compilation import jit_by_size
from jaxprof.inference.counted_norms import with_counted_norms
from jaxprof.likelihood.joint_model import Barrier, derivatives, summed_signals
from jaxprof.likelihood.layout import joint_data
from jaxprof.likelihood.true_energies import seen_true_energies
from jaxprof.reduce.joint.bins import batched_pixels


@pytest.fixture(scope="module")
def likelihood():
    """Six energies without dispersion, an index for each bin, a background with a tilt."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.1)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.1), 0.1, sigma=0.1, n_photons=300.0, background=0.2, n_energy=6
    )
    own = estimator(free_index=True, background={"norm": "free", "tilt": "free"})
    return own.reduce(dataset)


def test_predictions_and_derivatives_are_the_same(likelihood):
    (term,) = likelihood.terms
    own = replace(likelihood, terms=seen_true_energies(likelihood.terms))
    assert own.terms[0].templates.shape[3] < 0.5 * term.templates.shape[3]
    params = jax.tree.map(lambda leaf: 1.1 * leaf, likelihood.params())
    for one, two in zip(own.npred(params), likelihood.npred(params), strict=True):
        assert_allclose(one, two, rtol=1e-12)
    slope = jax.grad(lambda made, params: made.log_prob(params), argnums=1)
    for one, two in zip(
        *(jax.tree.leaves(slope(m, params)) for m in (own, likelihood)), strict=True
    ):
        assert_allclose(one, two, rtol=1e-9, atol=1e-9)


def test_a_joint_fit_sees_the_same_curvature(likelihood):
    whole, few = (
        jax.tree.map(jnp.asarray, joint_data(replace(likelihood, terms=terms), 0))
        for terms in (likelihood.terms, seen_true_energies(likelihood.terms))
    )
    z = jnp.linspace(0.5, 1.5, whole.start.size) + whole.start
    barrier = Barrier(jnp.asarray(1e-3), tuple(jnp.ones(b.mask.shape) for b in whole.blocks))
    every = jit_by_size(lambda data: (derivatives(data, z, barrier), summed_signals(data, z)))
    (one, signal), (two, expected_signal) = every(few), every(whole)
    for found, expected in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    assert_allclose(signal, expected_signal, rtol=1e-12)
    counted = [with_counted_norms(data, data.free).spectra.weights[0] for data in (few, whole)]
    assert_allclose(*counted, rtol=1e-12)


def test_what_sees_most_energies_is_left_alone(likelihood):
    (term,) = likelihood.terms
    full = replace(term, templates=np.asarray(term.templates) + 1.0)
    assert seen_true_energies([full])[0] is full


def test_batches_of_one_energy_hold_every_pixel_once():
    kept = np.random.default_rng(0).random((4, 3, 90)) < 0.4
    found = batched_pixels(kept, 8, by_energy=True)
    back = np.zeros_like(kept, int)
    region = np.broadcast_to(found.region[:, None], found.used.shape)
    np.add.at(back, tuple(a[found.used] for a in (found.energy, region, found.pixel)), 1)
    np.testing.assert_array_equal(back, kept)
    for energy, used in zip(found.energy, found.used, strict=True):
        assert len(set(energy[used])) <= 1
