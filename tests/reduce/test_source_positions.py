"""Sources whose position is a parameter of a joint fit."""

import astropy.units as u
import jax
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose

from jaxprof import (
    DiskSpatialModel,
    GaussianSpatialModel,
    PointSpatialModel,
    SkyModel,
    TemplateSpatialModel,
    fit,
)
from jaxprof.likelihood.layout import joint_data
from jaxprof.reduce.joint.positions import (
    _number_of_nodes,
    _number_of_wider,
    moved_model,
    moving_sources,
    widened_model,
)

SIGMA = 0.1
BRIGHT = MODEL.replace(index=2.2)


def star(lon=0.05, lat=-0.02, name="G0.9+0.1"):
    return SkyModel(BRIGHT, PointSpatialModel(lon_0=lon, lat_0=lat, frame="galactic"), name=name)


@pytest.fixture(scope="module")
def counted():
    rng = np.random.default_rng(1)
    image = sky_image(None, 0.05, point=(0.0, 0.0))
    found = dataset_of(
        gaussian_image(image, SIGMA, 0.05), 0.05, sigma=SIGMA, n_photons=3e3, background=0.01
    )
    found.counts.data = rng.poisson(found.counts.data).astype(float)
    return found


def with_sources(*sources):
    return estimator(rings(2, 0.3), sources=sources)


@pytest.mark.slow
def test_templates_between_positions_are_those_of_moved_sources(counted):
    """The name has dots, and there is another source whose position stays."""
    other = SkyModel(
        MODEL, GaussianSpatialModel(lon_0=0.2, lat_0=0.1, sigma=0.1, frame="galactic"), name="halo"
    )
    made = with_sources(other, star()).reduce(counted, source_position={"G0.9+0.1": 0.1 * u.deg})
    assert made.sources == ("halo", "G0.9+0.1")
    assert made.bounds()["source_lon.G0.9+0.1"] == (-0.1, 0.1)
    assert float(made.params()["source_lat"]["G0.9+0.1"]) == 0.0
    log_prob = jax.jit(made.log_prob)
    p = {
        "norm": np.full((2, 1), 0.05),
        "source": {"G0.9+0.1": np.full(1, 0.9), "halo": np.full(1, 0.1)},
    }
    # The data are at (-0.05, 0.02): the second is 50 standard deviations away.
    there = {"source_lon": {"G0.9+0.1": -0.05}, "source_lat": {"G0.9+0.1": 0.02}}
    best = log_prob(p | there)
    for lon, lat in ((-0.045, 0.018), (0.043, 0.066), (0.1, -0.1)):
        moved = SkyModel(BRIGHT, moved_model(star().spatial_model, lon, lat), name="G0.9+0.1")
        exact = with_sources(other, moved).reduce(counted)
        offsets = {"source_lon": {"G0.9+0.1": lon}, "source_lat": {"G0.9+0.1": lat}}
        expected = jax.jit(exact.log_prob)(p)
        assert abs(log_prob(p | offsets) - expected) < 0.01 + 5e-5 * (best - expected)
    beyond = {"source_lon": {"G0.9+0.1": 0.101}}
    assert log_prob(p | beyond) == -np.inf


@pytest.mark.slow
def test_error_of_a_position_is_that_of_its_photons(counted):
    """The width of the PSF, with the pixels, over the root of the number of photons."""
    made = with_sources(star()).reduce(counted, source_position={"G0.9+0.1": 0.05})
    start = {
        "norm": np.zeros((2, 1)),
        "source": {"G0.9+0.1": np.ones(1)},
        "source_lon": {"G0.9+0.1": np.asarray(0.01)},
        "source_lat": {"G0.9+0.1": np.asarray(0.0)},
    }
    truth = start | {"source_lon": {"G0.9+0.1": -0.02}, "source_lat": {"G0.9+0.1": 0.013}}
    asimov = made.asimov(truth)
    found = fit(asimov, start, fixed="norm")
    assert found.success
    assert_allclose(found.params["source_lon"]["G0.9+0.1"], -0.02, atol=1e-6)
    assert_allclose(found.params["source_lat"]["G0.9+0.1"], 0.013, atol=1e-6)
    photons = np.asarray(asimov.counts[0]).sum() - np.asarray(made.terms[0].background).sum()
    expected = np.hypot(SIGMA, 0.05 / np.sqrt(12)) / np.sqrt(photons)
    for name in ("source_lon", "source_lat"):
        assert_allclose(found.errors[name]["G0.9+0.1"], expected, rtol=0.02)
    # On counts too, the position comes back within its error.
    best = fit(made, start, fixed="norm")
    assert abs(best.params["source_lon"]["G0.9+0.1"] + 0.05) < 4 * expected + 1e-9
    assert abs(best.params["source_lat"]["G0.9+0.1"] - 0.02) < 4 * expected


WIDE = {
    "gauss": GaussianSpatialModel(lon_0=0.0, lat_0=0.0, sigma=0.12, frame="galactic"),
    "disk": DiskSpatialModel(lon_0=0.0, lat_0=0.0, r_0=0.2, frame="galactic"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WIDE)
def test_templates_between_widths_are_those_of_wider_sources(counted, kind):
    halo = SkyModel(BRIGHT, WIDE[kind], name="halo")
    made = with_sources(star(), halo).reduce(counted, source_width={"halo": (0.7, 1.4)})
    assert made.bounds()["source_width.halo"] == pytest.approx((0.7, 1.4), rel=1e-12)
    assert float(made.params()["source_width"]["halo"]) == 1.0
    p = {
        "norm": np.full((2, 1), 0.05),
        "source": {"G0.9+0.1": np.full(1, 0.1), "halo": np.full(1, 0.9)},
    }
    made = made.simulate(jax.random.key(1), p)
    log_prob = jax.jit(made.log_prob)
    best = log_prob(p)
    for factor in (0.7, 0.76, 0.97, 1.13, 1.37):
        model = widened_model(WIDE[kind], factor)
        exact = with_sources(star(), SkyModel(BRIGHT, model, name="halo")).reduce(counted)
        expected = jax.jit(exact.with_counts(made.counts).log_prob)(p)
        found = log_prob(p | {"source_width": {"halo": factor}})
        assert abs(found - expected) < 0.01 + 5e-5 * (best - expected)
    assert log_prob(p | {"source_width": {"halo": 1.401}}) == -np.inf


@pytest.mark.slow
def test_a_source_that_moves_and_widens(counted):
    """The best width is that of the source that was simulated, with the error of its photons."""
    halo = SkyModel(BRIGHT, WIDE["gauss"], name="halo")
    ranges = {"source_position": {"halo": 0.01}, "source_width": {"halo": (0.9, 1.1)}}
    made = with_sources(halo).reduce(counted, **ranges)
    p = {"norm": np.full((2, 1), 1e-3), "source": {"halo": np.ones(1)}}
    there = {
        "source_lon": {"halo": 0.007},
        "source_lat": {"halo": -0.004},
        "source_width": {"halo": 1.06},
    }
    other = moved_model(widened_model(WIDE["gauss"], 1.06), 0.007, -0.004)
    exact = with_sources(SkyModel(BRIGHT, other, name="halo")).reduce(counted)
    asimov = made.asimov(p | there)
    expected = jax.jit(exact.with_counts(asimov.counts).log_prob)(p)
    assert abs(jax.jit(asimov.log_prob)(p | there) - expected) < 0.01
    rest = {name: {"halo": np.asarray(float(name == "source_width"))} for name in there}
    start = p | rest
    found = fit(asimov, start, fixed="norm")
    assert found.success
    assert_allclose(found.params["source_width"]["halo"], 1.06, atol=1e-6)
    assert_allclose(found.params["source_lon"]["halo"], 0.007, atol=1e-6)
    # Of n photons with a variance v each way that of the estimate of v is v^2 / n.
    photons = np.asarray(asimov.counts[0]).sum() - np.asarray(made.terms[0].background).sum()
    sigma = 0.12 * 1.06
    variance = sigma**2 + SIGMA**2 + 0.05**2 / 12
    expected = 1.06 * 0.5 * variance / sigma**2 / np.sqrt(photons)
    assert_allclose(found.errors["source_width"]["halo"], expected, rtol=0.1)


def test_offsets_are_angles_on_the_sky():
    model = PointSpatialModel(lon_0=30.0, lat_0=60.0, frame="galactic")
    moved = moved_model(model, 0.1, -0.05)
    assert_allclose(moved.lat_0, 59.95, atol=2e-4)
    assert_allclose((moved.lon_0 - 30) * np.cos(np.deg2rad(moved.lat_0)), 0.1, rtol=1e-4)


def test_nodes_grow_with_the_range():
    numbers = [_number_of_nodes(reach) for reach in (0.1, 0.5, 1.0, 1.5)]
    assert numbers == [5, 7, 9, 11]
    assert [_number_of_wider(reach) for reach in (0.05, 0.1, 0.35)] == [6, 6, 9]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"halo": (0.7, 1.4)}, "source_width: there is no source 'halo'; there are 'G0.9"),
        ({"G0.9+0.1": (0.7, 1.4)}, "'G0.9.0.1' is a PointSpatialModel, which has no width"),
        ({"wide": 1.4}, r"two positive factors around 1, the smaller first, got 1\.4"),
        ({"wide": (1.1, 1.4)}, "two positive factors around 1"),
        ({"wide": (0.0, 1.4)}, "two positive factors around 1"),
        ({"wide": (0.1, 10.0)}, "0.1 to 10 times as wide, too much for a PSF of 0.1 deg"),
    ],
)
def test_bad_widths(counted, given, match):
    own = [star(), SkyModel(MODEL, WIDE["disk"], name="wide")]
    with pytest.raises(ValueError, match=match):
        moving_sources(own, {}, [counted], given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"star": 0.1}, "source_position: there is no source 'star'; there are 'G0.9"),
        ({"map": 0.1}, "'map' is a TemplateSpatialModel, which has no position"),
        ({"G0.9+0.1": 0.0}, "must be a positive angle"),
        ({"G0.9+0.1": 1.0}, "may move by 1 deg, too far for a PSF of 0.1 deg"),
    ],
)
def test_bad_input(counted, given, match):
    gas = TemplateSpatialModel(counted.exposure)
    own = with_sources(star(), SkyModel(MODEL, gas, name="map"))
    with pytest.raises(ValueError, match=match):
        own.reduce(counted, source_position=given)


@pytest.mark.slow
def test_what_positions_do_not_go_with(counted):
    own = with_sources(star())
    with pytest.raises(ValueError, match="a response has sources as they are"):
        own.reduce(counted, own.response(counted), source_position={"G0.9+0.1": 0.05})
    made = own.reduce(counted, source_position={"G0.9+0.1": 0.01})
    with pytest.raises(ValueError, match="positions are among its parameters"):
        joint_data(made, 0)
    with pytest.raises(ValueError, match="'source_lon' must be a dict of offsets"):
        made.log_prob({"source_lon": 0.1})
