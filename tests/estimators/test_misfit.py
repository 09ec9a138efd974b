"""Bins that a joint fit does not describe: ringing is seen, right models are left alone."""

import re
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import MODEL, dataset_of, gaussian_image, rings, sky_image
from scipy import stats

from jaxprof import ForwardFoldingProfileEstimator
from jaxprof.estimators.bin_residuals import (
    oversubtracted,
    peak_probability,
    peak_significance,
    peaked,
    signed_significance,
)

MESSAGE = "does not describe what is in bins? .*template=.*sources=.*norm="


def estimate(dataset, **options):
    estimator = ForwardFoldingProfileEstimator(
        rings(5, 0.1), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV, **options
    )
    return estimator.run(dataset)


def observed(image, seed, **options):
    image = gaussian_image(image, 0.1, 0.05)
    dataset = dataset_of(image, 0.05, sigma=0.1, background=0.3, **options)
    counts = np.random.default_rng(seed).poisson(dataset.counts.data)
    dataset.counts.data = counts.astype(float)
    return dataset


@pytest.mark.filterwarnings("error")
@pytest.mark.slow
def test_a_right_model_is_left_alone():
    disk = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.05)
    for seed in range(2):
        p = estimate(observed(disk, seed, n_photons=2e3))
        assert not p.misfit.any()
        assert np.abs(p.goodness_z).max() < 4 and p.residual_peak.max() < 3


def test_a_bright_point_in_a_ring_is_seen():
    point = sky_image(lambda x, y: None, 0.05, point=(0.15, 0.2))
    dataset = observed(point, 1, n_photons=2e3)
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        p = estimate(dataset)
    # It says where the point is, and how many counts are around it.
    found = re.search(
        r"(\d+) counts for \S+ predicted within (\S+) deg of lon (\S+), lat (\S+) deg \((\w+);",
        str(caught[0].message),
    )
    within, lon, lat = map(float, found.groups()[1:4])
    place = SkyCoord(lon, lat, unit="deg", frame=found[5])
    true = SkyCoord(-0.15, 0.2, unit="deg", frame="galactic")
    assert place.separation(true).deg < 0.1
    pixels = dataset.geom.to_image()
    centre = pixels.get_coord().ravel()[np.argmin(pixels.separation(place))]
    near = pixels.region_mask(p.regions).data & (pixels.separation(centre).deg < within)
    assert dataset.counts.data[:, near].sum() == int(found[1])
    assert p.misfit[2, 0] and p.residual_peak[2, 0] > 5
    assert "not described by the model" in str(p)
    assert "nuisance" not in str(p)
    ax = p.plot(sed_type="flux")
    (marks,) = (line for line in ax.lines if line.get_gid() == "misfit")
    assert p.axis.ref[2] in marks.get_xdata()
    assert "Not described by the model" in [t.get_text() for t in ax.get_legend().texts]


def test_probabilities_of_peaks():
    rng = np.random.default_rng(0)
    npred = np.full((20, 24), 0.7)
    members = np.zeros((2, 20, 24), bool)
    members[0, 6:14, 6:10], members[1, 6:14, 12:20] = True, True
    found = np.array([peak_probability(rng.poisson(npred), npred, members) for _ in range(400)])
    # Conservative at all levels: circles overlap.
    for level in (0.1, 0.02):
        assert np.mean(found < level) < level + 2 * np.sqrt(level / 800)
    counts = np.zeros((20, 24))
    counts[10, 8] = 9
    chance = stats.poisson.sf(8, 9 * 0.7)  # nine pixels in the smaller circle
    wide = stats.poisson.sf(8, 37 * 0.7)
    expected = -np.expm1(2 * 32 * np.log1p(-min(chance, wide)))
    np.testing.assert_allclose(peak_probability(counts, npred, members)[0], expected, rtol=1e-9)
    np.testing.assert_allclose(peak_significance(stats.norm.sf([1.0, 5.0])), [1, 5], rtol=1e-9)
    assert peaked(np.array([[1.0, 6.0, np.nan]])).tolist() == [[False, True, False]]


def test_negative_neighbours_of_bright_bins():
    correlation = np.eye(4)[np.newaxis] - 0.5 * (np.eye(4, k=1) + np.eye(4, k=-1))
    negative, bright = oversubtracted(np.array([[13.0], [-2.9], [1.0], [-2.9]]), correlation)
    assert negative[:, 0].tolist() == [False, True, False, False]
    assert bright[:, 0].tolist() == [True, False, False, False]
    quiet, _ = oversubtracted(np.array([[13.0], [-2.2], [1.0], [-5.0]]), correlation)
    assert not quiet.any()


def test_significance_is_sqrt_ts_but_for_free_spectra():
    norm, ts = np.array([2.0, -1.0, -1.0, 0.0]), np.array([9.0, 4.0, np.nan, 0.0])
    np.testing.assert_allclose(signed_significance(norm, ts), [3, -2, np.nan, 0], rtol=1e-12)
    # Two degrees of freedom: exp(-ts / 2) of the tail.
    found = stats.norm.sf(signed_significance(norm[:1], ts[:1], 1))
    np.testing.assert_allclose(found, 0.5 * np.exp(-4.5), rtol=1e-12)


def test_no_warning_where_norms_describe_the_data_exactly():
    disk = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.05)
    dataset = dataset_of(gaussian_image(disk, 0.1, 0.05), 0.05, sigma=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not estimate(dataset).misfit.any()
