"""Source models of the field."""

import astropy.units as u
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxprof import (
    GaussianSpatialModel,
    MapAxis,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
    TemplateSpatialModel,
    WcsGeom,
    WcsNDMap,
)

GEOM = WcsGeom.create((0, 0), binsz=0.5, npix=(8, 6), frame="galactic")


def test_template_is_linear_between_centres():
    # A plane is its own bilinear interpolation: the values are those of the plane.
    lon = GEOM.get_coord().l.wrap_at("180d").deg
    lat = GEOM.get_coord().b.deg
    model = TemplateSpatialModel(WcsNDMap(GEOM, 10 + 2 * lon - lat, "K km s-1"))
    total = np.sum((10 + 2 * lon - lat) * GEOM.solid_angle().value)
    x = np.random.default_rng(0).uniform((-1.7, -1.2), (1.7, 1.2), (50, 2))
    assert_allclose(model(*x.T), (10 + 2 * x[:, 0] - x[:, 1]) / total, rtol=1e-9)
    assert model.frame == "galactic"
    assert repr(model) == "TemplateSpatialModel(8 x 6 pixels, frame='galactic')"


def test_template_off_the_map_and_on_its_rim():
    model = TemplateSpatialModel(WcsNDMap(GEOM, 3.0))
    flat = 1 / GEOM.solid_angle().to_value("sr").sum()
    lon = [1.99, 2.01, 0.0, 0.0, 180.0, np.nan]
    lat = [0.0, 0.0, 1.49, 1.51, 0.0, 0.0]
    assert_allclose(model(lon, lat), flat * np.array([1, 0, 1, 0, 0, 0]), rtol=1e-12)
    assert model(0.0, 0.0).shape == ()
    assert model(np.zeros((2, 1)), np.zeros(3)).shape == (2, 3)


def test_template_units_and_cube():
    axis = MapAxis.from_edges([1, 2, 3, 4], name="energy", unit="TeV")
    data = np.random.default_rng(1).uniform(0, 1, (3, 6, 8))
    cube = TemplateSpatialModel(WcsNDMap(GEOM.to_cube([axis]), data))
    image = TemplateSpatialModel(WcsNDMap(GEOM, data.sum(axis=0)))
    value = cube(0.3 * u.deg, 12 * u.arcmin)
    assert value.unit == "sr-1"
    assert_allclose(value.value, image(0.3, 0.2), rtol=1e-12)
    total = np.sum(image.image.data * GEOM.solid_angle().to_value("sr"))
    assert_allclose(total, 1, rtol=1e-12)
    with pytest.raises(ValueError, match="lon"):
        image(1 * u.s, 0.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [(-1.0, "1 negative values, down to -1"), (np.nan, "1 values that are not finite")],
)
def test_template_refuses_bad_values(change, match):
    data = np.ones((6, 8))
    data[2, 3] = change
    with pytest.raises(ValueError, match=match):
        TemplateSpatialModel(WcsNDMap(GEOM, data))


def test_template_refuses_other_things():
    with pytest.raises(ValueError, match="zero everywhere"):
        TemplateSpatialModel(WcsNDMap(GEOM))
    with pytest.raises(ValueError, match="map is a ndarray"):
        TemplateSpatialModel(np.ones((3, 3)))


def test_sky_model():
    spectrum, place = PowerLawSpectralModel(), PointSpatialModel(lon_0=1, frame="galactic")
    model = SkyModel(spectral_model=spectrum, spatial_model=place, name="pulsar", free=True)
    assert model.spectral_model is spectrum and model.spatial_model is place
    assert model.name == "pulsar" and model.free is True
    assert "pulsar" in repr(model) and "PointSpatialModel" in repr(model)
    plain = SkyModel(spectrum, WcsNDMap(GEOM, 1.0))
    assert plain.name == "template" and plain.free is False
    assert isinstance(plain.spatial_model, TemplateSpatialModel)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"spatial_model": GaussianSpatialModel()}, "spectral_model is None"),
        ({"spectral_model": PowerLawSpectralModel()}, "spatial_model is None"),
        ({"name": 3}, "name is 3"),
        ({"name": ""}, "name is ''"),
        ({"free": "yes"}, "free is 'yes'"),
    ],
)
def test_sky_model_refuses(arguments, match):
    given = dict(arguments)
    if "name" in given or "free" in given:
        given |= {
            "spectral_model": PowerLawSpectralModel(),
            "spatial_model": GaussianSpatialModel(),
        }
    with pytest.raises(ValueError, match=match):
        SkyModel(**given)
