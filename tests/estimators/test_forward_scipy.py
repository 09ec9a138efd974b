"""Forward-folded profiles against scipy: the same likelihood on all pixels, fitted by SLSQP."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import joint_data_of
from numpy.testing import assert_allclose
from scipy import optimize

from jaxprof import (
    ForwardFoldingProfileEstimator,
    MapDataset,
    PowerLawSpectralModel,
    make_concentric_annulus_sky_regions,
)
from jaxprof.core import Status
from jaxprof.datasets import simulate_galactic_centre


@pytest.fixture(params=[pytest.param("real", marks=pytest.mark.slow), "simulation"])
def dataset(request):
    if request.param == "real":
        return MapDataset.read(request.getfixturevalue("gc_file"))
    return simulate_galactic_centre(seed=4)


def dense(data):
    """Counts, background (P,) and templates (P, C) of all pixels and energies."""
    counts, background, templates = [], [], []
    for block in data.blocks:
        whole = np.zeros((*block.mask.shape, data.n_components))
        for tile, own in enumerate(np.asarray(block.components)):
            for k, component in enumerate(own):
                whole[tile, :, component] += block.templates[tile, k, 0]
        mask = np.asarray(block.mask)
        counts.append(np.asarray(block.counts)[mask])
        background.append(np.asarray(block.background)[mask])
        templates.append(whole[mask])
    return tuple(map(np.concatenate, (counts, background, templates)))


def solve(counts, background, templates, held=None):
    """Norms and statistic; pixels become constraints once their prediction is negative."""
    seen = counts > 0
    scale = 1 / np.sqrt((templates**2 / np.maximum(background, 1e-3)[:, None]).sum(axis=0))
    t = templates * scale
    total, x = t.sum(axis=0), np.full(len(scale), 0.1) / scale
    bounds = [(None, None)] * len(scale)
    if held is not None:
        bounds[held], x[held] = (0.0, 0.0), 0.0

    def function(x):
        npred = np.maximum(background[seen] + t[seen] @ x, 1e-12)
        value = total @ x - np.sum(counts[seen] * np.log(npred))
        return value, total - t[seen].T @ (counts[seen] / npred)

    active = np.zeros(len(counts), bool)
    while True:
        limits = [optimize.LinearConstraint(t[active], -background[active], np.inf)]
        found = optimize.minimize(
            function,
            x,
            jac=True,
            method="SLSQP",
            bounds=bounds,
            constraints=limits if active.any() else [],
            options={"maxiter": 1000, "ftol": 1e-15},
        )
        assert found.success
        x = found.x
        new = (background + t @ x < -1e-9 * background) & ~seen & ~active
        if not new.any():
            return x * scale, 2 * found.fun
        active |= new


# The Galactic centre is no even emission in boxes, measured or simulated.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
def test_norms_errors_and_test_statistics(dataset):
    """The second group has few counts: there some pixels hold the norms at a prediction of zero."""
    regions = make_concentric_annulus_sky_regions(
        center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=11
    )
    estimator = ForwardFoldingProfileEstimator(
        regions,
        spectral_model=PowerLawSpectralModel(index=2.3),
        energy_edges=[10, 85, 500] * u.GeV,
    )
    response = estimator.response(dataset)
    profile = estimator.run(dataset, response)
    assert np.all(profile.success)
    for group, data in enumerate(joint_data_of(estimator, dataset, response, merge=False)):
        counts, background, templates = dense(data)
        norms, stat = solve(counts, background, templates)
        npred = (background + templates @ norms)[counts > 0]
        weight = (counts[counts > 0] / npred**2)[:, None]
        fisher = templates[counts > 0].T @ (weight * templates[counts > 0])
        covariance = np.linalg.inv(fisher)
        errors = np.sqrt(np.diag(covariance))
        assert_allclose((profile.norm[:, group] - norms) / errors, 0.0, atol=1e-5)
        assert_allclose(profile.norm_err[:, group], errors, rtol=1e-4)
        size = np.outer(errors, errors)
        assert_allclose(profile.covariance[group] / size, covariance / size, atol=1e-4)
        for k in (0, 1, 9):
            null = solve(counts, background, templates, held=k)[1]
            assert_allclose(profile.ts[k, group], null - stat, rtol=1e-5, atol=1e-5)
    assert np.all(profile.status[:, 0] == Status.OK)
