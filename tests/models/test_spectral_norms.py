"""Dimensionless models that spectra are multiplied by."""

import jax
import numpy as np
import pytest
from astropy import units as u
from numpy.testing import assert_allclose
from scipy.integrate import quad

from jaxprof.models.spectral import (
    ConstantSpectralModel,
    EBLAbsorptionNormSpectralModel,
    ExpCutoffPowerLawNormSpectralModel,
    LogParabolaNormSpectralModel,
    PiecewiseNormSpectralModel,
    PowerLawNormSpectralModel,
    PowerLawSpectralModel,
    TemplateSpectralModel,
    spectral_model_from_dict,
)

ENERGIES = np.geomspace(0.003, 300, 23)
NODES = np.array([0.01, 0.1, 1.0, 10.0])
REDSHIFTS = np.array([0.0, 0.1, 0.5])
TRANSMISSION = np.array([[1.0, 1.0, 1.0, 0.9], [1.0, 0.99, 0.7, 0.1], [1.0, 0.9, 0.3, 0.0]])


def absorption(**changes):
    return EBLAbsorptionNormSpectralModel(
        **{"energy": NODES, "param": REDSHIFTS, "values": TRANSMISSION, "redshift": 0.2} | changes
    )


MODELS = {
    "pl": (PowerLawNormSpectralModel(norm=2, tilt=0.3), lambda e: 2 * e**-0.3),
    "lp": (
        LogParabolaNormSpectralModel(norm=2, alpha=0.1, beta=0.05, reference="2 TeV"),
        lambda e: 2 * (e / 2) ** (-0.1 - 0.05 * np.log(e / 2)),
    ),
    "ecpl": (
        ExpCutoffPowerLawNormSpectralModel(index=0.2, norm=3, lambda_=0.05, alpha=0.5),
        lambda e: 3 * e**-0.2 * np.exp(-((0.05 * e) ** 0.5)),
    ),
    "piecewise": (
        PiecewiseNormSpectralModel(energy=NODES * u.TeV, norms=[1, 2, 0.5, 3]),
        lambda e: np.exp(np.interp(np.log(e), np.log(NODES), np.log([1, 2, 0.5, 3]))),
    ),
    "linear": (
        PiecewiseNormSpectralModel(energy=NODES, norms=[-1, 2, 0.5, 3], interp="lin"),
        lambda e: np.interp(e, NODES, [-1, 2, 0.5, 3]),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_formula_and_dict(name):
    model, formula = MODELS[name]
    assert_allclose(model(ENERGIES), formula(ENERGIES), rtol=1e-12)
    assert model.is_norm and model(1 * u.TeV).unit == u.dimensionless_unscaled
    again = spectral_model_from_dict(model.to_dict())
    assert type(again) is type(model)
    assert_allclose(again(ENERGIES), model(ENERGIES), rtol=0, atol=0)


def test_absorption_at_a_node_and_between():
    # At 0.1 TeV: logarithms of transmission, linear in redshift.
    log_t = np.log(0.99) + (0.2 - 0.1) / 0.4 * (np.log(0.9) - np.log(0.99))
    assert_allclose(absorption()(0.1), np.exp(log_t), rtol=1e-13)
    high = np.log(0.7) + 0.25 * (np.log(0.3) - np.log(0.7))
    middle = np.exp(0.5 * (log_t + high))
    assert_allclose(absorption()(np.sqrt(0.1)), middle, rtol=1e-12)
    # The power of the optical depth, and no amplification below the table.
    assert_allclose(absorption(alpha_norm=1.7)(np.sqrt(0.1)), middle**1.7, rtol=1e-12)
    assert absorption(redshift=0.0)(1e-4) == 1
    # Nothing is left where the table has zero, and no NaN; derivatives are numbers too.
    assert absorption(redshift=0.5)(10.0) == 0
    with jax.enable_x64(True):
        at = jax.numpy.asarray(0.1)
        slope = jax.jit(jax.grad(lambda z: absorption(redshift=z)._dnde(at)))(0.2)
    assert_allclose(slope, np.exp(log_t) * np.log(0.9 / 0.99) / 0.4, rtol=1e-12)
    again = spectral_model_from_dict(absorption(alpha_norm=1.7).to_dict())
    assert_allclose(again(ENERGIES), absorption(alpha_norm=1.7)(ENERGIES), rtol=0, atol=0)


def test_product_integrates_over_the_kinks():
    spectrum = PowerLawSpectralModel(index=2.2) * MODELS["piecewise"][0]
    assert not spectrum.is_norm and spectrum(1 * u.TeV).unit == u.Unit("cm-2 s-1 TeV-1")
    expected = sum(
        quad(lambda e: 1e-12 * e**-2.2 * MODELS["piecewise"][1](e), low, high, epsabs=0)[0]
        for low, high in ((0.05, 0.1), (0.1, 1), (1, 5))
    )
    assert_allclose(spectrum.integral(0.05, 5.0), expected, rtol=1e-10)


def test_a_factor_is_no_spectrum():
    with pytest.raises(ValueError, match="PowerLawNormSpectralModel is a factor"):
        PowerLawNormSpectralModel().integral(1, 2)
    assert ConstantSpectralModel(const=2, unit="").is_norm
    assert (1 - PowerLawNormSpectralModel()).is_norm and PowerLawNormSpectralModel().is_norm
    assert_allclose((1 + PowerLawNormSpectralModel(norm=2))(3.0), 3.0)
    table = TemplateSpectralModel([1.0, 2.0], [1.0, 0.5], unit="")
    assert table.is_norm and table(2 * u.TeV).unit == u.dimensionless_unscaled
    assert not (PowerLawSpectralModel() * table).is_norm
    for factor in (table, PowerLawNormSpectralModel()):
        with pytest.raises(ValueError, match="factors multiply a spectrum"):
            PowerLawSpectralModel() + factor
    assert (PowerLawNormSpectralModel() * PowerLawNormSpectralModel()).is_norm


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": TRANSMISSION[:2]}, r"values must have the shape \(param, energy\), \(3, 4\)"),
        ({"energy": NODES[::-1]}, "energy must be strictly increasing"),
        ({"param": [0.1]}, "param must have shape"),
        ({"redshift": -0.1}, "redshift must be finite and >= 0"),
    ],
)
def test_bad_absorption(changes, message):
    with pytest.raises(ValueError, match=message):
        absorption(**changes)


def test_bad_piecewise():
    with pytest.raises(ValueError, match="norms must be positive with interp='log'"):
        PiecewiseNormSpectralModel(energy=NODES, norms=[1, 2, 0, 3])
    with pytest.raises(ValueError, match="norms must have the shape of energy"):
        PiecewiseNormSpectralModel(energy=NODES, norms=[1, 2])
    data = PiecewiseNormSpectralModel(energy=NODES, norms=[1, 2, 1, 3]).to_dict()
    del data["spectral"]["parameters"][2]
    with pytest.raises(ValueError, match="its parameters must be norm_0 to norm_3"):
        spectral_model_from_dict(data)
    file = {"type": "EBLAbsorptionNormSpectralModel", "filename": "ebl.fits"}
    with pytest.raises(ValueError, match=r"is in the file 'ebl.fits'"):
        spectral_model_from_dict(file)
