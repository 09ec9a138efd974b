"""Responses averaged over where the photons of a component start."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose, assert_array_equal

from jaxprof.irf import PSFMap, RecoPSFMap
from jaxprof.reduce.joint.averages import mean_response
from jaxprof.reduce.joint.emission import Emission
from jaxprof.sky import MapAxis, WcsGeom

TRUE = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=3, name="energy_true")
RECO = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2, name="energy")
RAD = MapAxis.from_nodes([0.0, 0.1, 0.2, 0.3] * u.deg, name="rad")
GEOM = WcsGeom.create(binsz=0.1, width=(2, 2), frame="galactic")
SKY = WcsGeom.create(binsz=1.0, width=(2, 2), frame="galactic")
"""Two by two bins, the border between them in the middle of the map."""


def emission(y0, x0, weights, offset=None):
    weights = np.asarray(weights, float)
    y, x = y0 + weights.shape[0] // 2, x0 + weights.shape[1] // 2
    center = SkyCoord.from_pixel(x, y, GEOM.wcs)
    return Emission(y0, x0, weights, center, np.nan, offset=offset)


def profiles(psf):
    """The densities wherever there are photons."""
    return lambda positions, photons: psf.get_profile(positions)


def density(n_energy):
    return np.random.default_rng(0).uniform(1, 2, (n_energy, RAD.nbin, 2, 2))


def test_means_by_hand():
    data = density(3)
    psf = PSFMap(data, RAD, TRUE, SKY)
    across = emission(2, 8, [[0.1, 0.2, 0.3, 0.4]])  # columns 8, 9 | 10, 11
    within = emission(12, 3, [[0.5, 0.5]])
    point = emission(2, 9, [[1.0]], offset=(0.3, 0.0))
    exposure = np.array([1.0, 2.0, 0.0])[:, None, None]
    images = [exposure * one.weights for one in (across, within, point)]
    # In the second energy the exposure is larger on one side.
    images[0][1, 0, :2] *= 3.0
    found = mean_response(psf, GEOM, [across, within, point], images, profiles(psf))
    low = data[:, :, 0]
    share = np.array([0.3, 0.9 / 1.6, 0.0])
    # No photon of the last energy is seen: those of the others tell.
    total = images[0].sum(axis=0)[0]
    share[2] = total[:2].sum() / total.sum()
    expected = share[:, None] * low[..., 0] + (1 - share[:, None]) * low[..., 1]
    assert_allclose(found[0], expected, rtol=1e-12)
    assert_array_equal(found[1], data[:, :, 1, 0])
    assert_array_equal(found[2], low[..., 0])


def test_reconstructed_energies_have_the_mean_of_all_photons():
    data = density(2)
    psf = RecoPSFMap(data, RAD, RECO, SKY)
    across = emission(2, 8, [[0.1, 0.2, 0.3, 0.4]])
    image = np.array([1.0, 2.0, 4.0])[:, None, None] * across.weights
    image[1, 0, :2] *= 3.0
    found = mean_response(psf, GEOM, [across], [image], profiles(psf))
    share = image[..., :2].sum() / image.sum()
    low = data[:, :, 0]
    assert_allclose(found[0], share * low[..., 0] + (1 - share) * low[..., 1], rtol=1e-12)


def test_one_response_for_the_whole_sky_is_given_as_it_is():
    psf = PSFMap(density(3)[..., 0, 0], RAD, TRUE)
    across = emission(2, 8, [[0.1, 0.2, 0.3, 0.4]])
    image = np.ones((3, 1, 1)) * across.weights
    found = mean_response(psf, GEOM, [across], [image], profiles(psf))
    assert_array_equal(found[0], psf.data)


def test_components_without_photons_and_beyond_the_sky_grid():
    data = density(3)
    psf = PSFMap(data, RAD, TRUE, SKY)
    dark = emission(2, 2, [[0.0]])
    beyond = emission(-8, -8, [[0.5, 0.5]])
    images = [np.ones((3, 1, 1)) * one.weights for one in (dark, beyond)]
    found = mean_response(psf, GEOM, [dark, beyond], images, profiles(psf))
    # The nearest bin serves what is beyond all of them.
    assert_array_equal(found, np.stack([data[:, :, 0, 0]] * 2))
