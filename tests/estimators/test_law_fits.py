"""Physical laws fitted to the counts through the response, on data blurred by independent code."""

from types import SimpleNamespace

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose

import jaxprof
from jaxprof.estimators.law_warnings import uneven_bins, warn_of_fit
from jaxprof.likelihood import BinGeometry
from jaxprof.reduce.bin_geometry import bin_geometry

BINSZ, SIGMA, CORE = 0.05, 0.08, 0.1
FLUX = float(MODEL.integral(1.0, 10.0))
LAW = jaxprof.CoredPowerLawRadialModel(amplitude=1e-9, alpha=1.3, core=CORE, frame="galactic")


@pytest.fixture(scope="module")
def expected():
    """Expected counts of the law with alpha 1, cut at 0.9 deg, behind a PSF of 1.6 pixels."""

    def brightness(x, y):
        return (x**2 + y**2 + CORE**2) ** -0.5 * (np.hypot(x, y) < 0.9)

    image = gaussian_image(sky_image(brightness, BINSZ), SIGMA, BINSZ)
    return dataset_of(image, BINSZ, sigma=SIGMA, n_photons=2e4, background=0.5)


def log_prob_of(likelihood, edges):
    def log_prob(params):
        law = LAW.replace(amplitude=params["amplitude"], alpha=params["alpha"])
        norm = law.ring_norms(edges, FLUX)[:, None]
        return likelihood.log_prob({"norm": norm, "background": params["background"]})

    return log_prob


def start(likelihood):
    background = likelihood.params()["background"]
    return {"amplitude": LAW.amplitude, "alpha": LAW.alpha, "background": background}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "tolerance"), [(36, 0.002), (9, 0.03)])
def test_a_law_on_rings(expected, number, tolerance):
    """On fine rings the law is the true one; on wide ones it is off by what its emission is uneven.

    Its amplitude is that of a flux: all photons come from within 0.9 deg.
    """
    edges = np.linspace(0.0, 0.9, number + 1)
    likelihood = estimator(rings(number, 0.9 / number), background=0.02).reduce(expected)
    log_prob = log_prob_of(likelihood, edges)
    found = jaxprof.fit(log_prob, start(likelihood))
    assert found.success
    assert_allclose(found.params["alpha"], 1.0, atol=tolerance)
    if number < 20:
        assert abs(found.params["alpha"] - 1.0) > 0.01
        return
    law = LAW.replace(amplitude=found.params["amplitude"], alpha=found.params["alpha"])
    n_photons = law.ring_norms([0.0, 0.9], FLUX)[0] * FLUX * 1e15
    scale = np.sum(expected.exposure.data[0, 0, 0]) / 1e15
    assert_allclose(n_photons * scale, 2e4, rtol=2e-3)
    assert_allclose(found.params["background"], 1.0, atol=2e-3)
    # The error is that of the curvature; a step of it costs half a unit of ln L.
    rest = {"background": found.params["background"], "amplitude": found.params["amplitude"]}
    moved = jaxprof.fit(
        lambda q: log_prob(q | {"alpha": found.params["alpha"] + found.errors["alpha"]}), rest
    )
    assert_allclose(moved.stat - found.stat, 1.0, atol=0.05)


@pytest.mark.slow
def test_a_law_of_ones_own(expected):
    """Five lines for the law, and the same numbers as ours."""
    law = jaxprof.RadialModel.from_function(
        lambda theta, amplitude, alpha: amplitude * (theta**2 + CORE**2) ** (-alpha / 2),
        amplitude=1e-9,
        alpha=1.3,
        frame="galactic",
    )
    edges = np.linspace(0.0, 0.9, 10)
    likelihood = estimator(rings(9, 0.1), background=0.02).reduce(expected)

    def log_prob(params):
        own = law.replace(amplitude=params["amplitude"], alpha=params["alpha"])
        norm = own.ring_norms(edges, FLUX)[:, None]
        return likelihood.log_prob({"norm": norm, "background": params["background"]})

    found = jaxprof.fit(log_prob, start(likelihood))
    ours = jaxprof.fit(log_prob_of(likelihood, edges), start(likelihood))
    assert_allclose(found.params["alpha"], ours.params["alpha"], rtol=1e-7)
    assert_allclose(found.errors["alpha"], ours.errors["alpha"], rtol=1e-6)
    assert_allclose(found.stat, ours.stat, rtol=1e-12)


@pytest.mark.slow
def test_a_law_and_its_spectrum(expected):
    """The index of the spectrum is fitted together with the law, and is the true one."""
    edges = np.linspace(0.0, 0.9, 19)
    likelihood = estimator(rings(18, 0.05)).reduce(expected, spectrum="free")

    def log_prob(params):
        law = LAW.replace(amplitude=params["amplitude"], alpha=params["alpha"])
        spectrum = MODEL.replace(index=params["index"])
        flux = spectrum.integral(1.0, 10.0)
        norm = law.ring_norms(edges, 1.0)[:, None] / flux
        return likelihood.log_prob({"norm": norm, "spectrum": spectrum})

    begin = {"amplitude": LAW.amplitude, "alpha": LAW.alpha, "index": jnp.asarray(2.0)}
    found = jaxprof.fit(log_prob, begin)
    assert found.success
    assert_allclose(found.params["index"], MODEL.index, atol=2e-3)
    assert_allclose(found.params["alpha"], 1.0, atol=6e-3)


@pytest.mark.parametrize(
    "cls",
    [
        jaxprof.FluxProfileEstimator,
        pytest.param(jaxprof.ForwardFoldingProfileEstimator, marks=pytest.mark.slow),
    ],
)
def test_norms_are_those_of_the_profile(expected, cls):
    """The same likelihood, minimised by another method than `run` has."""
    own = cls(rings(3, 0.2), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV)
    profile, likelihood = own.run(expected), own.reduce(expected)
    found = jaxprof.fit(likelihood.log_prob, likelihood.params())
    assert found.success
    assert_allclose(found.params["norm"], profile.norm, rtol=1e-9)
    assert_allclose(found.errors["norm"], profile.norm_err, rtol=1e-8)


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (jaxprof.ExponentialRadialModel(), "theta_0"),
        (jaxprof.GaussianRadialModel(), "sigma"),
        (jaxprof.DiffusionRadialModel(), "theta_d"),
        (jaxprof.ShellRadialModel(), "width"),
        (jaxprof.GaussianRadialModel() + jaxprof.ExponentialRadialModel(), "theta_0"),
    ],
)
def test_parameters_that_make_no_sense_are_no_plateau(law, name):
    """Inside jit, where nothing can be raised; a fit that comes there turns back."""

    def rings(value):
        own = getattr(law, "model2", law).replace(**{name: value})
        whole = law.model1 + own if hasattr(law, "model1") else own
        return whole.ring_integral(np.array([0.0, 0.2, 0.5]))

    assert np.all(np.isnan(jax.jit(rings)(-0.1)))
    assert np.all(np.isfinite(jax.jit(rings)(0.1)))


def test_the_centre_of_a_law_over_rings_has_no_derivatives():
    """A zero would look like one; the rings of a law itself go with it."""
    geometry = bin_geometry(rings(3, 0.2), 1.0)
    law = jaxprof.GaussianRadialModel(frame="galactic") + LAW

    def flux(value, name):
        return jnp.sum(geometry.flux(law.replace(**{name: value})))

    for name in law.parameters:
        slope = jax.grad(flux)
        if name.rpartition(".")[2] in ("lon_0", "lat_0"):
            with pytest.raises(TypeError, match="lon_0 and lat_0 over rings"):
                slope(0.0, name)
        elif name.endswith("amplitude"):
            assert slope(1e-9, name) > 0


def ring_geometry(edges):
    """Rings that begin at the centre, through a PSF."""
    edges = np.asarray(edges, float)
    n = len(edges) - 1
    solid_angle = np.diff(-2 * np.pi * np.cos(np.deg2rad(edges)))
    return BinGeometry(
        reference_flux=np.ones(n), solid_angle=solid_angle, centre=np.zeros(2),
        rings=np.stack([edges[:-1], edges[1:]], 1), ring_weights=np.ones((n, 1)),
        parent=tuple(range(n)), frame="galactic",
    )  # fmt: skip


@pytest.mark.parametrize("n", [4, 16, 64, 256])
def test_a_cusp_is_named_since_no_subdivide_resolves_it(n):
    """However fine the bins are, the innermost keeps its share of a power law near r^-2."""
    geometry = ring_geometry(np.linspace(1e-5, 1.0, n + 1))
    law = jaxprof.PowerLawRadialModel(alpha=1.9, frame="galactic")
    text = uneven_bins(geometry, law, "FINER")
    share = (1e-5 ** (2 - 1.9), geometry.rings[0, 1] ** (2 - 1.9))
    share = 100 * (share[1] - share[0]) / (1 - share[0])
    assert f": {share:.0f} % of its flux are within" in text
    assert "r^-1.90" in text and "FINER" not in text
    for advice in ("CoredPowerLawRadialModel", "PointSpatialModel", "radius_min"):
        assert advice in text


def test_finer_bins_where_they_help():
    wide, fine = (ring_geometry(np.linspace(1e-5, 1.0, n + 1)) for n in (4, 64))
    shallow = jaxprof.PowerLawRadialModel(alpha=0.8, frame="galactic")
    cored = LAW.replace(alpha=2.0)
    assert "FINER" in uneven_bins(wide, shallow, "FINER")
    assert "FINER" in uneven_bins(wide, cored, "FINER")
    assert uneven_bins(fine, shallow, "FINER") == uneven_bins(fine, cored, "FINER") == ""
    point = jaxprof.GaussianRadialModel(amplitude=1e-9, sigma=0.02, frame="galactic")
    assert "is a point" in uneven_bins(wide, point, "FINER")


def test_wide_bins_are_said_as_far_as_errors_let_them_matter():
    """An exponential in rings of 0.2 deg: its radius by its mean distance, 2 theta_0 on the sky."""
    law = jaxprof.ExponentialRadialModel(amplitude=1e-9, theta_0=0.1, frame="galactic")
    geometry = ring_geometry(np.linspace(1e-5, 2.0, 11))
    edges = np.asarray(geometry.rings)
    mean = 2 / 3 * (edges[:, 1] ** 3 - edges[:, 0] ** 3) / (edges[:, 1] ** 2 - edges[:, 0] ** 2)
    flux = np.asarray(law.ring_integral(edges[:, [0, 1]]))[:, 0]
    shift = (np.sum(flux * mean) / np.sum(flux) - 2 * law.theta_0) / 2  # of the radius

    def fit(error):
        return SimpleNamespace(
            status=np.array(0), success=True, geometry=geometry, model=law, fitted_to="counts",
            names=("theta_0",), law_names=("theta_0",), covariance=np.array([[error**2]]),
        )  # fmt: skip

    for errors in (0.5, 3.0):
        with pytest.warns(UserWarning, match=f"about {errors:g} of their errors") as caught:
            warn_of_fit(fit(shift / errors))
    assert "subdivide=10)" in str(caught[0].message)  # 0.2 deg change it by a factor exp(2)
    warn_of_fit(fit(shift / 0.05))  # warnings are errors
