"""One law, two data sets, shared index, constrained backgrounds: against iminuit and numpy."""

import astropy.units as u
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, gaussian_image, rings, sky_image
from iminuit import Minuit
from numpy.testing import assert_allclose
from scipy.integrate import quad

import jaxprof

EDGES = np.linspace(0.0, 0.9, 7)
FLUX = float(MODEL.integral(1.0, 10.0))
CORE, WIDTH = 0.15, 0.05
START = {"amplitude": 1e-9, "alpha": 1.0, "background": np.ones((2, 1))}


@pytest.fixture(scope="module")
def datasets():
    """Two instruments, whose exposures and point-spread functions differ."""
    made = []
    for number, (sigma, photons) in enumerate(((0.08, 3e3), (0.15, 8e3))):
        image = sky_image(lambda x, y: (x**2 + y**2 + CORE**2) ** -0.6, 0.1)
        own = dataset_of(
            gaussian_image(image, sigma, 0.1), 0.1, sigma=sigma, n_photons=photons, background=1.0
        )
        own.counts.data[:] = np.random.default_rng(number).poisson(own.counts.data)
        made.append(own)
    return made


def log_prob(params, likelihood):
    law = jaxprof.CoredPowerLawRadialModel(
        amplitude=params["amplitude"], alpha=params["alpha"], core=CORE
    )
    norm = law.ring_norms(EDGES, FLUX)[:, None]
    own = likelihood.log_prob({"norm": norm, "background": params["background"]})
    if "background" in likelihood.free:
        return own
    return own - 0.5 * (((params["background"] - 1.0) / WIDTH) ** 2).sum()


def numpy_cost(terms):
    """Of amplitude, index and background norms; rings by quadrature, counts bins one by one."""

    def brightness(theta, alpha):
        return (1 + (theta / CORE) ** 2) ** (-0.5 * alpha) * np.sin(np.deg2rad(theta))

    arrays = [
        {
            name: np.asarray(value)[0]
            for name, value in vars(term).items()
            if name not in ("dataset", "clipped")
        }
        for term in terms
    ]

    def cost(amplitude, alpha, first, second):
        unit = 2 * np.pi * np.deg2rad(1.0) * 1e-9 * amplitude / FLUX
        norm = unit * np.array(
            [
                quad(brightness, *ring, alpha, epsabs=0)[0]
                for ring in zip(EDGES[:-1], EDGES[1:], strict=True)
            ]
        )
        total = 0.0
        for own, background in zip(arrays, (first, second), strict=True):
            signal = np.einsum("nk,nks->ns", norm[own["components"]], own["templates"][:, :, 0])
            npred = background * own["background"] + own["offset"] + signal
            used = own["mask"]
            n, mu = own["counts"][used], npred[used]
            total += 2 * np.sum(mu - n * np.log(mu)) + ((background - 1) / WIDTH) ** 2
        return total

    return cost


@pytest.mark.filterwarnings("ignore:region.*solid angle")
@pytest.mark.parametrize("folded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_shared_law(datasets, folded):
    regions = rings(6, 0.15)
    options = {"spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV}
    if folded:
        own = jaxprof.ForwardFoldingProfileEstimator(regions, background=WIDTH, **options)
    else:
        own = jaxprof.FluxProfileEstimator(regions, **options)
    likelihood = own.reduce(datasets)
    found = jaxprof.fit(log_prob, START, args=(likelihood,))
    assert found.success
    cost = numpy_cost(likelihood.terms)
    minuit = Minuit(cost, amplitude=1.0, alpha=1.0, first=1.0, second=1.0)
    minuit.limits = [(0.01, 100.0), (0.0, 4.0), (0.5, 1.5), (0.5, 1.5)]
    minuit.errordef, minuit.strategy, minuit.tol = 1.0, 2, 1e-6
    minuit.migrad()
    minuit.limits = [(None, None)] * 4  # their transformation is no part of the errors
    minuit.hesse()
    scale = np.array([1e9, 1, 1, 1])
    values, errors = (
        scale * np.array([own["amplitude"], own["alpha"], *np.ravel(own["background"])], float)
        for own in (found.params, found.errors)
    )
    expected = np.array(minuit.errors)
    assert_allclose((values - np.array(minuit.values)) / expected, 0.0, atol=1e-3)
    assert_allclose(errors, expected, rtol=1e-3)
    if folded:
        # Within three errors of the truth, and what even emission in rings of 0.15 deg costs.
        assert abs(values[1] - 1.2) < 3 * errors[1] + 0.1
