"""Joint fits on HEALPix pixels, against sums over small pixels of the sphere."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleAnnulusSkyRegion, CircleSkyRegion

from jaxprof.datasets import MapDataset
from jaxprof.estimators.joint import ForwardFoldingProfileEstimator
from jaxprof.irf import PSFMap, RecoPSFMap
from jaxprof.models.spatial import GaussianSpatialModel, PointSpatialModel
from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.reduce.joint.expectation import predicted_counts
from jaxprof.sky import MapAxis, WcsNDMap
from jaxprof.sky.healpix import HealpixMap
from jaxprof.sky.healpix_grid import healpix_grid
from jaxprof.sky.models import SkyModel

healpix = pytest.importorskip("astropy_healpix")

NSIDE = 16
SPECTRUM = PowerLawSpectralModel(index=2.3)
RECO = MapAxis.from_energy_bounds(1, 10, 1, unit="TeV")
TRUE = RECO.rename("energy_true")
SIZE = np.rad2deg(np.sqrt(np.pi / 3)) / NSIDE


def small_pixels(center, radius, part):
    """Positions of small pixels around a position, and the pixels that they are in."""
    near = INDEX.near(center, 2 * radius + 4 * SIZE).pixels
    fine = (near[:, np.newaxis] * part**2 + np.arange(part**2)).ravel()
    lon, lat = healpix.healpix_to_lonlat(fine, NSIDE * part, order="nested")
    at = SkyCoord(lon, lat, frame="galactic")
    within = at.separation(center).deg < radius
    return at[within], fine[within] // part**2


def gaussian(center, sigma, part=8):
    """Probabilities of all pixels for a Gaussian on the sphere, summed over small pixels."""
    each = []
    for fine in (part, 2 * part):
        at, pixel = small_pixels(center, 5.5 * sigma, fine)
        away = at.separation(center).deg
        found = np.bincount(pixel, np.exp(-0.5 * (away / sigma) ** 2), 12 * NSIDE**2)
        each.append(found / found.sum())
    # The error of the mid-point rule falls by four.
    return (4 * each[1] - each[0]) / 3


def dataset_of(counts, psf, exposure=1.0):
    """A dataset of a HEALPix map, with the exposure on its pixels."""
    map_ = counts.to_wcs()
    values = np.where(np.isfinite(map_.data), exposure, np.nan)
    exposures = WcsNDMap(map_.geom.to_cube([TRUE]), values, "cm2 s")
    return MapDataset.from_fermi(map_, exposures, psf=psf)


def in_order(map_, data):
    """Values of all HEALPix pixels of a map of their indices."""
    known = np.isfinite(map_.data)
    found = np.zeros(12 * NSIDE**2)
    found[map_.data[known].astype(int)] = data[known]
    return found


INDEX = HealpixMap(np.arange(12.0 * NSIDE**2), NSIDE, nest=True, frame="galactic")
# The middle of a facet, the kink at 41.8 deg aside of it, cuts, both poles, the seam.
PLACES = [
    (45, 20),
    (10, 41.8),
    (20, 50),
    (0.3, 60),
    (90.2, -75),
    (123, 89.7),
    (10, -90),
    (180.2, 5),
]


def test_pixels_and_positions():
    map_ = INDEX.to_wcs()
    grid = healpix_grid(map_.geom)
    assert grid.nside == NSIDE
    y, x = grid.positions(np.arange(12 * NSIDE**2))
    assert_array_equal(map_.data[y, x], np.arange(12 * NSIDE**2))
    assert_array_equal(grid.index(y, x), np.arange(12 * NSIDE**2))
    # Offsets in pixels are those of the plane.
    at = np.flatnonzero(np.abs(x - y) < NSIDE)
    lon, lat = map_.geom.wcs.all_pix2world(x[at] + 0.3, y[at] - 0.2, 0)
    known = np.isfinite(lon)
    right = SkyCoord(lon[known], lat[known], unit="deg").cartesian.xyz.T
    assert_allclose(grid.vectors(at[known], -0.2, 0.3), right, atol=1e-12)
    # A part of the sky, near a pole and over the seam, has all its pixels within a radius.
    for place in ((120, 89), (180, 0)):
        center = SkyCoord(*place, unit="deg")
        vectors = grid.vectors(np.arange(12 * NSIDE**2))
        away = np.rad2deg(np.arccos(np.clip(vectors @ center.cartesian.xyz.value, -1, 1)))
        found = grid.near(center.cartesian.xyz.value[np.newaxis], 9.0)
        assert_array_equal(np.sort(found), np.flatnonzero(away <= 9))
    other = WcsNDMap.create(npix=(10, 8), proj="HPX").geom
    assert healpix_grid(other) is None
    assert healpix_grid(WcsNDMap.create(npix=(10, 8)).geom) is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("part", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_point(place, part):
    center = SkyCoord(*place, unit="deg", frame="galactic")
    sigma = 1.1 * SIZE
    right = gaussian(center, sigma)
    index = INDEX.near(center, 50) if part else INDEX
    counts = HealpixMap(
        right[None, index.pixels], NSIDE, index.pixels, nest=True, frame="galactic", axes=(RECO,)
    )
    dataset = dataset_of(counts, PSFMap.from_gauss(TRUE, sigma * u.deg))
    model = PointSpatialModel(lon_0=place[0], lat_0=place[1], frame="galactic")
    found = predicted_counts(dataset, SkyModel(SPECTRUM, model)).data[0] / float(
        SPECTRUM.integral(1, 10)
    )
    known = dataset.mask_safe.data[0]
    assert_allclose(found[known], dataset.counts.data[0][known], atol=1.5e-3 * right.max())
    if not part:
        assert found[known].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("width", "extension"), [(0.2, 0.0), (0.5, 0.0), (2.0, 0.0), (0.2, 0.7), (0.5, 0.7)]
)
def test_narrow_and_wide(place, width, extension):
    center = SkyCoord(*place, unit="deg", frame="galactic")
    sigma = width * SIZE
    extent = extension * SIZE
    right = gaussian(center, np.hypot(sigma, extent), 16 if width < 1 else 8)
    counts = HealpixMap(right[None], NSIDE, nest=True, frame="galactic", axes=(RECO,))
    dataset = dataset_of(counts, PSFMap.from_gauss(TRUE, sigma * u.deg))
    where = {"lon_0": place[0], "lat_0": place[1], "frame": "galactic"}
    model = GaussianSpatialModel(sigma=extent, **where) if extent else PointSpatialModel(**where)
    found = predicted_counts(dataset, SkyModel(SPECTRUM, model)).data[0] / float(
        SPECTRUM.integral(1, 10)
    )
    known = dataset.mask_safe.data[0]
    assert_allclose(found[known], dataset.counts.data[0][known], atol=2e-3 * right.max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PSFMap, RecoPSFMap])
def test_norms_of_regions_over_a_cut_and_an_exposure_that_changes(kind):
    """Counts by brute force, with an exposure that doubles over the map, give the norms back."""
    center = SkyCoord(0.2, 52, unit="deg", frame="galactic")
    edges, sigma, norms = [0.0, 8.0, 14.0], 1.2 * SIZE, [3.0, 1.5]
    at, pixel = small_pixels(center, 14.0, 4)
    away = at.separation(center).deg
    all_pixels = np.arange(12 * NSIDE**2)
    exposure = 1e13 * (1.5 + np.sin(INDEX._coord().b.rad))
    expected = np.zeros(len(all_pixels))
    targets, own = small_pixels(center, 35.0, 4)
    points = targets.cartesian.xyz.value.T
    flux = float(SPECTRUM.integral(1, 10))
    for low, high, norm in zip(edges[:-1], edges[1:], norms, strict=True):
        inside = (away >= low) & (away < high)
        start = at[inside].cartesian.xyz.value.T
        weight = exposure[pixel[inside]] / inside.sum()
        density = np.exp(
            -0.5 * (np.rad2deg(2 * np.arcsin(_chords(start, points) / 2)) / sigma) ** 2
        )
        density /= density.sum(axis=1, keepdims=True)
        expected += norm * flux * np.bincount(own, weight @ density, len(all_pixels))
    counts = HealpixMap(expected[None], NSIDE, nest=True, frame="galactic", axes=(RECO,))
    values = HealpixMap(exposure, NSIDE, nest=True, frame="galactic").to_wcs().data
    axis = TRUE if kind is PSFMap else RECO
    dataset = dataset_of(counts, kind.from_gauss(axis, sigma * u.deg), values)
    dataset.background = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 1e-3))
    regions = [
        CircleSkyRegion(center, 8 * u.deg),
        CircleAnnulusSkyRegion(center, 8 * u.deg, 14 * u.deg),
    ]
    profile = ForwardFoldingProfileEstimator(
        regions, spectral_model=SPECTRUM, energy_edges=[1, 10] * u.TeV
    ).run(dataset)
    assert_allclose(profile.norm[:, 0], norms, rtol=5e-3)


def _chords(a, b):
    return np.sqrt(np.maximum(2 - 2 * a @ b.T, 0.0))
