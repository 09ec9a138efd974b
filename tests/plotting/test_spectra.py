"""Figures of spectral models."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from matplotlib import pyplot as plt

from jaxprof import MapAxis, PowerLawSpectralModel
from jaxprof.plotting import plot_spectral_model

MODEL = PowerLawSpectralModel(index=2.3, amplitude="1e-12 cm-2 s-1 TeV-1")


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_curve_is_the_model_in_the_units_asked_for(ax):
    assert MODEL.plot([100, 1e5] * u.GeV, ax=ax, sed_type="e2dnde", unit="erg cm-2 s-1") is ax
    x, y = ax.lines[0].get_data()
    expected = (MODEL(x * u.GeV) * (x * u.GeV) ** 2).to_value("erg cm-2 s-1")
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert (x[0], x[-1], len(x)) == (pytest.approx(100), pytest.approx(1e5), 100)
    assert ax.get_xlabel() == "Energy [GeV]" and ax.get_xscale() == ax.get_yscale() == "log"
    assert "erg" in ax.get_ylabel() and "E^2" in ax.get_ylabel()


def test_power_of_the_energy_and_an_axis_as_bounds(ax):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 3)
    plot_spectral_model(MODEL, axis, ax=ax, energy_power=2.3, label="law")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 1e-12, rtol=1e-12)
    assert "E^{2.3}" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["law"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sed_type": "flux"}, "sed_type is 'flux'; valid are 'dnde', 'e2dnde'"),
        ({"unit": "m"}, "unit is 'm', but the curve is in"),
        ({"n_points": 1}, "n_points must be at least 2"),
        ({"energy_bounds": [2, 1] * u.TeV}, "energy_bounds must increase"),
    ],
)
def test_bad_arguments_are_named(ax, arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_spectral_model(
            **{"model": MODEL, "energy_bounds": [1, 2] * u.TeV, "ax": ax} | arguments
        )
