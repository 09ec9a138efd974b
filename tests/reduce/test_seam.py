"""Components at the seam of a map of the whole sky, which is no edge of the sky."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

import jaxprof
from jaxprof.reduce.joint.pixel_signal import pixel_signal
from jaxprof.reduce.joint.problem import flux_coverage
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

MODEL = jaxprof.PowerLawSpectralModel(index=2.3, amplitude="1e-12 cm-2 s-1 TeV-1")
EXPOSURE = 1e15  # cm2 s
PHOTONS = float(MODEL.integral(1.0, 10.0)) * EXPOSURE
RECO, TRUE = (
    MapAxis.from_energy_bounds(1, 10, 1, unit="TeV", name=name)
    for name in ("energy", "energy_true")
)


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def all_sky(**more):
    """A map of the whole sky with pixels of 2 deg, a PSF of 2 deg and an even exposure."""
    geom = WcsGeom.create(**{"binsz": 2.0, "frame": "galactic", **more})
    cube = geom.to_cube([RECO])
    return jaxprof.MapDataset(
        counts=WcsNDMap(cube, np.ones(cube.data_shape)),
        background=WcsNDMap(cube, np.ones(cube.data_shape)),
        exposure=WcsNDMap(geom.to_cube([TRUE]), np.full((1, *geom.npix_shape), EXPOSURE), "cm2 s"),
        psf=jaxprof.PSFMap.from_gauss(TRUE, [2.0]),
        name="sky",
    )


def at(lon, lat=5.0):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def templates(dataset, lon):
    """Predicted counts (2, ny, nx) of a circle of 3 deg and a wider one around it."""
    regions = [CircleSkyRegion(at(lon), size * u.deg) for size in (3, 20)]
    own = jaxprof.ForwardFoldingProfileEstimator(
        regions, spectral_model=MODEL, energy_edges=[1, 10] * u.TeV
    )
    response = own.response([dataset])
    one = response.datasets[0]
    ny, nx = dataset.geom.npix_shape
    found = np.zeros((2, ny, nx))
    for index, image in enumerate(found):
        norms = np.eye(2)[index][:, np.newaxis]
        signal = pixel_signal(one, norms, slice(0, 1))[0]
        image[one.disjoint.y[one.disjoint.used], one.disjoint.x[one.disjoint.used]] = signal[
            one.disjoint.used
        ]
    # What the fit itself has of each.
    assert_allclose(one.per_component(2).sum(axis=(0, 2, 3)), found.sum(axis=(1, 2)), rtol=1e-10)
    return found, one


def point(lon):
    place = jaxprof.PointSpatialModel(lon_0=lon, lat_0=5.0, frame="galactic")
    return jaxprof.SkyModel(MODEL, place, name="point")


@pytest.mark.parametrize("lon", [180.0, slow(179.9)])
def test_templates_are_the_same_at_the_seam(lon):
    dataset = all_sky()
    seam, own = templates(dataset, lon)
    middle, other = templates(dataset, lon - 180)
    assert_allclose(seam, np.roll(middle, 90, axis=2), rtol=1e-9, atol=1e-12 * middle.max())
    assert_allclose(seam[0].sum(), PHOTONS, rtol=1e-6)
    # Nor are their cutouts as wide as the map.
    assert own.cutouts[0].values.shape == other.cutouts[0].values.shape


@pytest.mark.parametrize("lon", [179.95, -177.0])
@pytest.mark.parametrize("model", ["point", slow("Gaussian")])
def test_predicted_counts_of_sources_at_the_seam(lon, model):
    def counts(lon):
        source = point(lon)
        if model == "Gaussian":
            wide = jaxprof.GaussianSpatialModel(lon_0=lon, lat_0=5.0, sigma=4.0, frame="galactic")
            source = jaxprof.SkyModel(MODEL, wide, name="wide")
        return jaxprof.predicted_counts(dataset, source).data[0]

    dataset = all_sky()
    seam = counts(lon)
    assert_allclose(seam, np.roll(counts(lon - 180), 90, axis=1), rtol=1e-6, atol=1e-9 * seam.max())
    assert_allclose(seam.sum(), PHOTONS, rtol=1e-5)


def test_even_emission_stays_even_across_the_seam():
    """A source as wide as the map: its cutout overlaps itself."""
    found = jaxprof.predicted_counts(
        all_sky(), jaxprof.SkyModel(MODEL, jaxprof.ConstantSpatialModel(), name="even")
    ).data[0]
    # Rows that the poles, where the projection does end, do not reach.
    assert_allclose(found[30:60], np.broadcast_to(found[30:60, 90:91], (30, 180)), rtol=1e-9)


def test_maps_a_little_wider_or_narrower_than_the_sky():
    closed = all_sky()
    whole = jaxprof.predicted_counts(closed, point(179.95)).data[0]
    for columns in (184, 176):
        dataset = all_sky(npix=(columns, 90))
        found = jaxprof.predicted_counts(dataset, point(179.95)).data[0]
        less = (180 - columns) // 2
        expected = np.pad(whole, [(0, 0), (-less, -less)]) if less < 0 else whole[:, less:-less]
        assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * whole.max())


def test_coverage_of_a_bin_at_the_seam():
    """A mask on one side of the seam takes half of a circle around it."""
    dataset = all_sky()
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[..., :20] = False
    dataset.mask_fit = WcsNDMap(dataset.geom, mask)
    region = [CircleSkyRegion(at(lon), 6 * u.deg) for lon in (180.0, 90.0)]
    own = jaxprof.ForwardFoldingProfileEstimator(
        region, spectral_model=MODEL, energy_edges=[1, 10] * u.TeV
    )
    response = own.response([dataset])
    groups = own.problem([dataset], response).groups
    coverage = flux_coverage([dataset], response, groups)
    assert_allclose(coverage[:, 0], [0.5, 1.0], rtol=1e-6)


MAPS = [{"npix": (181, 90)}, slow({"proj": "AIT"}), slow({"binsz": 2.1})]
ENDS = "the map's projection ends, as along the seam of a map of the whole sky"


@pytest.mark.parametrize("more", MAPS)
def test_a_source_at_a_seam_that_does_not_close_is_named(more):
    dataset = all_sky(**more)
    with pytest.warns(UserWarning, match=f"'point': within the PSF of dataset 'sky' {ENDS}"):
        jaxprof.predicted_counts(dataset, point(179.95))
    jaxprof.predicted_counts(dataset, point(0.0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the solid angle of the pixels on the map:UserWarning")
@pytest.mark.parametrize("more", MAPS)
def test_bins_at_a_seam_that_does_not_close_are_named(more):
    with pytest.warns(UserWarning, match=f"Within that of regions 0, 1 of 2 .*{ENDS}"):
        templates(all_sky(**more), 180.0)
