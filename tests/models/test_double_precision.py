"""Models that are called without float64 enabled: numbers keep their digits, JAX arrays theirs."""

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_spatial import GAMMAPY as SPATIAL
from test_spectral import MODELS

from jaxprof import GaussianSpatialModel, PowerLawSpectralModel, TemplateSpectralModel

ENERGIES = np.geomspace(0.05, 20, 5)


@pytest.fixture
def single():
    """JAX as it is by default, where the tests enable float64."""
    with jax.enable_x64(False):
        assert jnp.ones(1).dtype == jnp.float32
        yield


@pytest.mark.parametrize("name", ["pl", "ecpl", "template"])
def test_spectra(name):
    model = MODELS[name]
    calls = {
        "numbers": lambda: model(0.7),
        "array": lambda: model(ENERGIES),
        "quantity": lambda: model(ENERGIES * u.TeV),
        "integral": lambda: model.integral(ENERGIES[:-1], ENERGIES[1:]),
        "energy flux": lambda: model.energy_flux(1 * u.GeV, "3 TeV"),
        "all": lambda: model.bin_fluxes(ENERGIES[:-1], ENERGIES[1:])["eflux"],
    }
    expected = {what: call() for what, call in calls.items()}
    with jax.enable_x64(False):
        for what, call in calls.items():
            found = call()
            assert found.dtype == np.float64, what
            assert isinstance(found, u.Quantity) == isinstance(expected[what], u.Quantity)
            assert_array_equal(np.asarray(found), np.asarray(expected[what]), err_msg=what)
        # JAX arrays are followed, and so is single precision.
        assert model(jnp.asarray(ENERGIES)).dtype == jnp.float32
        assert model(ENERGIES.astype(np.float32)).dtype == jnp.float32


@pytest.mark.parametrize("name", list(SPATIAL)[:2])
def test_brightness(name):
    model = SPATIAL[name][0]
    lon, lat = np.array([0.013, 0.1, 359.9]), np.array([-0.2, 0.0, 0.31])
    expected = model(lon, lat)
    with jax.enable_x64(False):
        assert_array_equal(model(lon, lat), expected)
        assert_array_equal(model(lon * u.deg, lat * u.deg).value, expected)
        assert model(jnp.asarray(lon), lat).dtype == jnp.float32


def test_small_numbers_and_small_differences(single):
    assert PowerLawSpectralModel(amplitude=1e-40)(1.0) == 1e-40
    assert_allclose(TemplateSpectralModel([1.0, 2.0], [1e-38, 1e-46])(2.0), 1e-46, rtol=1e-14)
    narrow = PowerLawSpectralModel(index=2).integral(1 * u.TeV, 1.001 * u.TeV)
    assert_allclose(narrow.to_value("cm-2 s-1"), (1 - 1 / 1.001) * 1e-12, rtol=1e-12)
    # 1e-5 deg from a position of 266 deg, which has 3e-5 deg in single precision.
    model = GaussianSpatialModel(lon_0=266.4, lat_0=0.0, sigma=1e-5)
    ratio = model(266.40001, 0.0) / model(266.4, 0.0)
    assert_allclose(ratio, np.exp(-0.5), rtol=1e-6)


def test_while_something_is_traced(single):
    """Known numbers are in float64 inside of jit and grad too; what is traced is followed."""
    model = PowerLawSpectralModel(index=2.5)

    def scaled(factor):
        return factor * model(2.0) / 1e-12

    assert_allclose(jax.jit(scaled)(3.0), 3 * 2**-2.5, rtol=1e-6)
    assert_allclose(jax.grad(scaled)(3.0), 2**-2.5, rtol=1e-6)
    slope = jax.grad(lambda index: model.replace(index=index)(2.0) / 1e-12)(2.5)
    assert slope.dtype == jnp.float32
    assert_allclose(slope, -np.log(2.0) * 2**-2.5, rtol=1e-5)
    values = jax.vmap(model)(jnp.array([1.0, 2.0]))
    assert values.dtype == jnp.float32
    assert not jax.config.jax_enable_x64
