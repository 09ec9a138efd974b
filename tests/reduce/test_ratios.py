"""Profiles of a flux over a map: templates that keep their own normalisation."""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from forward_factory import CENTER, MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

from jaxprof import (
    FluxProfile,
    WcsGeom,
    WcsNDMap,
)
from jaxprof.profile.parse import profile_from_table

RATIO = 0.7
LEVEL = 3e21


def gas(level=LEVEL):
    """Two clouds and what lies between them, as a column density; none beyond the rings."""
    geom = WcsGeom.create(skydir=CENTER, binsz=0.02, width=1.6, frame="galactic")
    coords = geom.get_coord()
    lon, lat = coords.l.wrap_at("180d").deg, coords.b.deg
    clouds = [(0.2, 0.1, 0.15, 1.0), (-0.3, -0.1, 0.2, 0.6), (0.0, 0.0, 0.5, 0.3)]
    values = sum(
        a * np.exp(-0.5 * ((lon - x) ** 2 + (lat - y) ** 2) / s**2) for x, y, s, a in clouds
    )
    values = values * np.maximum(1 - (lon**2 + lat**2) / 0.58**2, 0.0)
    return WcsNDMap(geom, level * values, unit="cm-2")


@pytest.fixture(scope="module")
def profile_and_map():
    """Exact counts of emission that is everywhere 0.7 times the reference, per cm-2 sr."""
    column = gas()

    def between_pixels(x, y):
        return map_coordinates(
            column.data, [(y + 0.8) / 0.02 - 0.5, (x + 0.8) / 0.02 - 0.5], order=1
        )

    image = gaussian_image(sky_image(between_pixels, 0.05), 0.1, 0.05)
    dataset = dataset_of(image, 0.05, sigma=0.1, n_photons=1e4)
    total = np.sum(column.data * column.geom.solid_angle().to_value("sr"))
    # Per cm-2 sr, where all photons of the dataset are those of MODEL.
    model = MODEL.replace(amplitude=MODEL.amplitude / (RATIO * total))
    own = estimator(
        rings(3, 0.2),
        spectral_model=model,
        template=column,
        template_norm="ratio",
    )
    return own.run(dataset), column, model, own, dataset


@pytest.mark.slow
def test_ratio_of_a_synthetic_profile(profile_and_map):
    profile, column, model, *_ = profile_and_map
    assert_allclose(profile.norm, RATIO, rtol=5e-4)
    masses = profile.flux_ref.value
    assert_allclose(np.average(profile.norm, weights=masses), RATIO, rtol=1e-4)
    assert u.Unit(profile.norm_unit) == u.Unit("cm2 sr-1")
    # Fluxes are those of the bins: the ratio times the mass of each, on pixels cut in 100.
    geom = WcsGeom.create(skydir=CENTER, binsz=0.002, width=1.6, frame="galactic")
    radius = geom.get_coord().separation(CENTER).deg
    fine = np.indices(radius.shape) / 10 - 0.45  # linear between the centres of pixels
    mass = map_coordinates(column.data, fine, order=1) * geom.solid_angle().to_value("sr")
    masses = np.histogram(radius, np.arange(4) * 0.2, weights=mass)[0]
    one = float(model.integral(1.0, 10.0))
    assert_allclose(profile.flux_ref.value[:, 0], masses * one, rtol=1e-3)
    assert_allclose(profile.flux.value, profile.norm * profile.flux_ref.value, rtol=1e-12)


@pytest.mark.slow
def test_norms_of_a_flux_tell_the_same(profile_and_map):
    profile, column, model, own, dataset = profile_and_map
    other = estimator(rings(3, 0.2), spectral_model=MODEL, template=column).run(dataset)
    assert_allclose(other.flux.value, profile.flux.value, rtol=1e-9)
    assert_allclose(other.flux_err.value, profile.flux_err.value, rtol=1e-7)
    response = own.response(dataset)
    assert_allclose(own.run(dataset, response).norm, profile.norm, rtol=1e-12)
    made = own.reduce(dataset, response)
    assert_allclose(made.stat({"norm": profile.norm}), profile.stat[0, 0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_units_in_tables_and_files(profile_and_map, tmp_path, suffix):
    profile = profile_and_map[0]
    table = profile.to_table(sed_type="likelihood")
    for name in ("norm", "norm_err"):
        assert table[name].unit == u.Unit("cm2 sr-1")
    assert table["norm_covariance"].unit == u.Unit("cm4 sr-2")
    assert table["counts"].unit is None
    assert profile["norm"].quantity.unit == u.Unit("cm2 sr-1")
    profile.write(tmp_path / f"ratio{suffix}")
    again = FluxProfile.read(tmp_path / f"ratio{suffix}")
    assert_array_equal(again.norm, profile.norm)
    assert_array_equal(again.norm_covariance, profile.norm_covariance)
    assert again.norm_unit == profile.norm_unit
    for sed_type in ("likelihood", "dnde"):
        back = profile_from_table(profile.to_table(sed_type=sed_type))
        assert_allclose(back.norm, profile.norm, rtol=1e-12)


@pytest.mark.slow
def test_label_of_a_figure(profile_and_map):
    profile = profile_and_map[0]
    ax = profile.plot(sed_type="norm", ax=plt.figure().subplots())
    assert "cm" in ax.get_ylabel() and "sr" in ax.get_ylabel()
    ax = profile["norm"].plot(ax=plt.figure().subplots())
    assert "sr" in ax.get_ylabel()
    plt.close("all")


def test_what_has_no_ratio():
    image = sky_image(lambda x, y: np.exp(-0.5 * (x**2 + y**2) / 0.3**2), 0.1)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.1), 0.1, sigma=0.1, n_photons=1e3)
    with pytest.raises(ValueError, match="template_norm"):
        estimator(template_norm="mass")
    for template in (None, [gas()] * 3):
        with pytest.raises(ValueError, match="template_norm='ratio' needs one image"):
            estimator(template=template, template_norm="ratio").reduce(dataset)
    with pytest.raises(ValueError, match="needs one spectral_model"):
        models = [MODEL] * 3
        estimator(spectral_model=models, template=gas(), template_norm="ratio").reduce(dataset)


def test_expected_counts_go_with_the_map():
    """Twice the column, twice the counts at norm one; the unit is that of one over the map."""
    image = sky_image(lambda x, y: np.exp(-0.5 * (x**2 + y**2) / 0.3**2), 0.1)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.1), 0.1, sigma=0.1, n_photons=1e3)
    counts = []
    for level in (1.0, 2.0):
        own = estimator(template=gas(level), template_norm="ratio", likelihood="region")
        made = own.reduce(dataset)
        counts.append(np.asarray(made.terms[0].templates))
    assert_allclose(counts[1], 2 * counts[0], rtol=1e-12)
