"""Shares of flux per pixel: exact areas, analytic integrals, positions, frames."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import Sip
from numpy.testing import assert_allclose, assert_array_equal
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseAnnulusSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleAnnulusSkyRegion,
    RectangleSkyRegion,
)
from scipy import integrate, special
from sphere_reference import members

from jaxprof import (
    ConstantSpatialModel,
    DiskSpatialModel,
    GaussianSpatialModel,
    GeneralizedGaussianSpatialModel,
    PointSpatialModel,
    ShellSpatialModel,
    TemplateSpatialModel,
    WcsGeom,
    WcsNDMap,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
    make_sector_sky_regions,
)
from jaxprof.reduce.joint.emission import region_emissions, source_emission
from jaxprof.sky.regions import region_pixels
from jaxprof.sky.regions.coverage import pixel_moments, polygon_moments
from jaxprof.sky.regions.on_grid import grid_regions

SIZE = 0.05  # deg, of a pixel of GEOM


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


GEOM = WcsGeom.create((0, 0), binsz=SIZE, npix=(400, 200), frame="galactic")


def moments(y0, x0, weights):
    """Centroid (x, y) and variance (x, y) of shares, in pixels."""
    y, x = np.indices(weights.shape)
    total = weights.sum()
    mean = np.array([np.sum(weights * x), np.sum(weights * y)]) / total
    square = np.array([np.sum(weights * x**2), np.sum(weights * y**2)]) / total
    return mean + (x0, y0), square - mean**2


def pixel_position(coord):
    return np.array(GEOM.wcs.world_to_pixel(coord), dtype=float)


# ---- coverage -------------------------------------------------------------------------------

FINE = 1e-4  # deg, of a pixel: so small that the sky is flat
FLAT = WcsGeom.create((0, 0), binsz=FINE, npix=(21, 31), frame="galactic")


def at(x, y):
    """The sky position of a pixel position of FLAT."""
    lon, lat = FLAT.wcs.wcs_pix2world(x, y, 0)
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def box(x, y, width, height, angle=0.0):
    """A box on FLAT, in pixels."""
    sides = (width * FINE * u.deg, height * FINE * u.deg)
    return RectangleSkyRegion(at(x, y), *sides, angle=angle * u.deg)


def round_shape(kind, *sizes, **options):
    return kind(at(3.3, -4.7), *(size * FINE * u.deg for size in sizes), **options)


def polygon(x, y):
    return PolygonSkyRegion(at(np.array(x, float), np.array(y, float)))


def coverage_of(region):
    """Indices of the first pixel, and the part of every pixel within a region."""
    (own,) = grid_regions([region], FLAT)
    y0, x0, found = pixel_moments(0, own, 10**6)
    return y0, x0, found[0]


TURN = {"angle": 20 * u.deg}
HEXAGON = 5 * np.exp(1j * np.pi / 3 * np.arange(6))
ONE, OTHER = box(3.3, 4.7, 8.13, 6.7), box(7.5, 4.7, 8.13, 6.7)  # edges along y in common
HOLE = CircleSkyRegion(at(3.3, 4.7), 2 * FINE * u.deg)
AREAS = {
    "box": (box(3.3, 4.7, 8.13, 60.7), 8.13 * 60.7, 1e-8),
    "box turned": (box(3.3, 4.7, 8.13, 60.7, 31), 8.13 * 60.7, 1e-8),
    "box on the edges": (box(3.5, 4.5, 4, 2), 8, 1e-8),
    "box in a pixel": (box(3.3, 4.7, 0.2, 0.1, 31), 0.02, 1e-7),
    "circle": (round_shape(CircleSkyRegion, 7.3), np.pi * 7.3**2, 1e-8),
    "circle in a pixel": (round_shape(CircleSkyRegion, 1e-4), np.pi * 1e-8, 1e-4),
    "annulus": (
        round_shape(CircleAnnulusSkyRegion, 7.3, 7.5),
        np.pi * (7.5**2 - 7.3**2),
        1e-7,
    ),
    "ellipse": (round_shape(EllipseSkyRegion, 7, 3, **TURN), np.pi * 21 / 4, 1e-8),
    "ellipse annulus": (
        round_shape(EllipseAnnulusSkyRegion, 2, 7, 1, 3, **TURN),
        np.pi * 19 / 4,
        1e-8,
    ),
    "box annulus": (round_shape(RectangleAnnulusSkyRegion, 2, 7, 1, 3, **TURN), 19, 1e-8),
    "hexagon": (polygon(3.3 + HEXAGON.real, HEXAGON.imag - 4.7), 37.5 * np.sqrt(3), 1e-8),
    "polygon clockwise": (polygon([0, 0.3, 4], [0, 5, 0]), 10, 1e-8),
    "bow-tie": (polygon([0, 4, 4, 0], [0, 4, 0, 4]), 8, 1e-3),
    "box without a disk": (box(3.3, 4.7, 8.13, 6.7, 31) ^ HOLE, 8.13 * 6.7 - 4 * np.pi, 1e-8),
    "union": (ONE | OTHER, 12.33 * 6.7, 1e-3),
    "intersection": (ONE & OTHER, 3.93 * 6.7, 1e-3),
    "exclusion": (ONE ^ OTHER, 8.4 * 6.7, 1e-3),
}


@pytest.mark.parametrize("name", AREAS)
def test_areas(name):
    region, area, rtol = AREAS[name]
    _, _, coverage = coverage_of(region)
    assert_allclose(coverage.sum(), area, rtol=rtol)
    assert coverage.min() >= 0 and coverage.max() <= 1
    assert coverage[0].any() and coverage[-1].any()
    assert coverage[:, 0].any() and coverage[:, -1].any()


@pytest.mark.parametrize(
    "name", [name for name in AREAS if name not in ("circle in a pixel", "box in a pixel")]
)
def test_each_pixel_against_fine_sampling(name):
    """By spherical trigonometry of the sub-pixels."""
    region = AREAS[name][0]
    y0, x0, coverage = coverage_of(region)
    n = 31
    steps = (np.arange(n) + 0.5) / n - 0.5
    y = (y0 + np.arange(coverage.shape[0]))[:, None] + steps
    x = (x0 + np.arange(coverage.shape[1]))[:, None] + steps
    grid = np.meshgrid(x.ravel(), y.ravel())
    inside = members(region, at(*(axis.ravel() for axis in grid))).reshape(len(y), n, len(x), n)
    # A straight edge along the pixels is sampled to 1 / n; compound ones are sampled by us too.
    atol = 0.04 if isinstance(region, CompoundSkyRegion | PolygonSkyRegion) else 1.05 / n
    assert_allclose(coverage, inside.mean(axis=(1, 3)), atol=atol)


def test_fractions_of_an_aligned_box():
    # Width 2.5 from x = 0.2: pixels 0, 1, 2 span [-0.5, 0.5], ... and hold 0.3, 1, 1, 0.2.
    y0, x0, coverage = coverage_of(box(0.2 + 1.25, 5.0, 2.5, 0.4))
    assert (y0, x0) == (5, 0)
    assert_allclose(coverage, [[0.12, 0.4, 0.4, 0.08]], rtol=1e-7)


def test_areas_of_polygons_are_additive():
    # A triangle and the rest of a square tile it, cell by cell.
    square = np.array([(0.2, 0.3), (4.7, 0.3), (4.7, 4.1), (0.2, 4.1)])
    (whole,) = polygon_moments(square, (6, 5), 0)
    parts = [polygon_moments(square[own], (6, 5), 0)[0] for own in ([0, 1, 2], [0, 2, 3])]
    assert_allclose(sum(parts), whole, atol=1e-14)
    across = np.clip(np.minimum(4.7, np.arange(1, 6)) - np.maximum(0.2, np.arange(5)), 0, 1)
    up = np.clip(np.minimum(4.1, np.arange(1, 7)) - np.maximum(0.3, np.arange(6)), 0, 1)
    assert_allclose(whole, np.outer(up, across), atol=1e-14)


def test_parts_nowhere_and_too_large():
    geom = WcsGeom.create((0, 0), binsz=1.0, npix=(40, 20), frame="galactic", proj="TAN")
    nowhere = CircleSkyRegion(gal(180, 0), 1 * u.deg)  # behind the projection
    shown = CircleSkyRegion(gal(0, 0), 2 * u.deg)
    behind, either, alone = grid_regions([nowhere, nowhere | shown, shown], geom)
    assert pixel_moments(0, behind, 10**6) is None
    found = [pixel_moments(0, region, 10**6) for region in (either, alone)]
    assert found[0][:2] == found[1][:2]
    assert_array_equal(found[0][2], found[1][2])
    (large,) = grid_regions([box(0, 0, 19, 39)], FLAT)
    with pytest.raises(ValueError, match=r"regions\[7\] spans 21 x 41 pixels"):
        pixel_moments(7, large, 500)


# ---- regions --------------------------------------------------------------------------------


def profile_boxes(nbin=51):
    return make_orthogonal_rectangle_sky_regions(
        gal(10, 0.3), gal(-10, 1.1), GEOM.wcs, "3 deg", nbin=nbin
    )


def check_emission(emission):
    assert emission.weights.ndim == 2 and emission.weights.min() >= 0
    assert_allclose(emission.weights.sum(), 1, rtol=1e-12)
    assert emission.center.isscalar


def test_boxes_solid_angle_and_place():
    boxes = profile_boxes()
    emissions = region_emissions(boxes, GEOM)
    assert len(emissions) == 51
    for region, emission in zip(boxes, emissions, strict=True):
        check_emission(emission)
        area = region.width.to_value("rad") * region.height.to_value("rad")
        # Boxes are placed flat on the map, whose pixels shrink away from the equator.
        assert_allclose(emission.solid_angle, area, rtol=1e-3)
        mean, variance = moments(emission.y0, emission.x0, emission.weights)
        assert_allclose(mean, pixel_position(region.center), atol=0.02)
        # A uniform box's variance along its width and height adds up over the axes; the pixel adds.
        sides = np.array([region.width.to_value("deg"), region.height.to_value("deg")]) / SIZE
        assert_allclose(variance.sum(), np.sum(sides**2) / 12 + 2 / 12, rtol=2e-3)
        assert emission.offset is None
        assert emission.center.separation(region.center).deg < 1e-10


def test_rings_and_disk_solid_angle():
    rings = make_concentric_annulus_sky_regions(gal(1.013, 0.021), nbin=11)
    for ring, emission in zip(rings, region_emissions(rings, GEOM), strict=True):
        check_emission(emission)
        low, high = np.cos(ring.inner_radius), np.cos(ring.outer_radius)
        assert_allclose(emission.solid_angle, 2 * np.pi * (low - high), rtol=3e-4)
    disk = CircleSkyRegion(gal(1.013, 0.021), 1 * u.deg)
    cap = 2 * np.pi * (1 - np.cos(np.deg2rad(1)))
    assert_allclose(region_emissions(disk, GEOM)[0].solid_angle, cap, rtol=1e-4)


def test_adjoining_rings_tile_the_disk():
    rings = make_concentric_annulus_sky_regions(gal(1.013, 0.021), "1 deg", "1e-9 deg", nbin=21)
    image = np.zeros(GEOM.npix_shape)
    for e in region_emissions(rings, GEOM):
        part = image[e.y0 : e.y0 + e.weights.shape[0], e.x0 : e.x0 + e.weights.shape[1]]
        part += e.weights * e.solid_angle
    (e,) = region_emissions(CircleSkyRegion(gal(1.013, 0.021), 1 * u.deg), GEOM)
    image[e.y0 : e.y0 + e.weights.shape[0], e.x0 : e.x0 + e.weights.shape[1]] -= (
        e.weights * e.solid_angle
    )
    # The polygon of a small ring departs from its arc by up to 1e-4 pixel.
    assert np.abs(image).max() < 5e-4 * GEOM.solid_angle().value.max()


def test_sector_as_polygon():
    (sector,) = make_sector_sky_regions(
        gal(0.3, 0.2), "1 deg", "0.5 deg", 1, position_angle="30 deg", opening_angle="60 deg"
    )
    (emission,) = region_emissions(sector, GEOM)
    expected = np.deg2rad(60) * (np.cos(np.deg2rad(0.5)) - np.cos(np.deg2rad(1)))
    assert_allclose(emission.solid_angle, expected, rtol=3e-4)


def test_compound_region():
    ring = CircleAnnulusSkyRegion(gal(0.2, 0.1), 0.5 * u.deg, 1 * u.deg)
    cut = CircleSkyRegion(gal(0.2, 0.1), 0.7 * u.deg)
    (emission,) = region_emissions(ring & cut, GEOM)
    expected = 2 * np.pi * (np.cos(np.deg2rad(0.5)) - np.cos(np.deg2rad(0.7)))
    assert_allclose(emission.solid_angle, expected, rtol=3e-4)
    # The radius of gyration of a uniform ring: r^2 = (a^2 + b^2) / 2.
    _, variance = moments(emission.y0, emission.x0, emission.weights)
    assert_allclose(variance.sum(), (0.5**2 + 0.7**2) / 2 / SIZE**2 + 2 / 12, rtol=1e-3)


def test_off_the_map():
    half = RectangleSkyRegion(gal(10, 0), 2 * u.deg, 1 * u.deg)  # the map ends at l = 10
    away = RectangleSkyRegion(gal(13, 0), 2 * u.deg, 1 * u.deg)
    cut, off = region_emissions([half, away], GEOM)
    for emission in (cut, off):
        check_emission(emission)
        assert_allclose(emission.solid_angle, np.deg2rad(1) * np.deg2rad(2), rtol=1e-4)
    assert cut.x0 < 0 and off.x0 + off.weights.shape[1] < 0
    assert_allclose(cut.weights[:, -cut.x0 :].sum(), 0.5, atol=1e-9)


def test_below_a_pixel():
    strip = RectangleSkyRegion(gal(0.11, 0.0), 0.2 * SIZE * u.deg, 20 * SIZE * u.deg)
    speck = CircleSkyRegion(gal(0.11, 0.018), 1e-12 * u.deg)
    thin, tiny = region_emissions([strip, speck], GEOM)
    assert_allclose(thin.solid_angle, 4 * np.deg2rad(SIZE) ** 2, rtol=1e-4)
    assert_allclose(
        moments(thin.y0, thin.x0, thin.weights)[0], pixel_position(strip.center), atol=0.5
    )
    x, y = pixel_position(speck.center)
    assert (tiny.y0, tiny.x0) == (round(y), round(x))
    assert_array_equal(tiny.weights, [[1.0]])


def test_whatever_has_no_place_has_no_weight():
    geom = WcsGeom.create((0, 0), binsz=0.1, npix=(50, 50), frame="galactic", proj="TAN")
    (emission,) = region_emissions(CircleSkyRegion(gal(180, 0), 1 * u.deg), geom)
    assert_array_equal(emission.weights, [[0.0]])
    assert emission.solid_angle == 0


def test_centre_membership():
    boxes = profile_boxes(7)
    pixels = region_pixels(boxes, GEOM)
    for own, emission in zip(pixels, region_emissions(boxes, GEOM, oversampling=1), strict=True):
        share = np.zeros(emission.weights.shape)
        share[own.y - emission.y0, own.x - emission.x0] = own.solid_angle / own.solid_angle.sum()
        assert_allclose(emission.weights, share, rtol=1e-12)
        assert_allclose(emission.solid_angle, own.solid_angle.sum(), rtol=1e-12)
    speck = CircleSkyRegion(gal(0.11, 0.018), 0.001 * u.deg)
    assert_array_equal(region_emissions(speck, GEOM, oversampling=1)[0].weights, [[1.0]])


def test_icrs_box_on_a_galactic_map():
    center = gal(2.0, 1.0)
    icrs = RectangleSkyRegion(center.icrs, 0.4 * u.deg, 2 * u.deg, 0 * u.deg)
    # North of ICRS, seen from the galactic frame, is the direction of the celestial pole.
    pole = SkyCoord(0, 90, unit="deg", frame="icrs").galactic
    turned = RectangleSkyRegion(center, 0.4 * u.deg, 2 * u.deg, center.position_angle(pole))
    one, other = (region_emissions(region, GEOM)[0] for region in (icrs, turned))
    assert (one.y0, one.x0) == (other.y0, other.x0)
    assert_allclose(one.weights, other.weights, atol=1e-8)


def test_template_of_a_gradient():
    # Brightness of a plane over a box: centroid by the second moment, analytically.
    geom = WcsGeom.create((0, 0), binsz=0.25, npix=(40, 20), frame="galactic")
    lon, lat = geom.get_coord().l.wrap_at("180d").deg, geom.get_coord().b.deg
    template = WcsNDMap(geom, 13 + 1.5 * lon + 2 * lat)
    region = RectangleSkyRegion(gal(0.513, 0.021), 0.83 * u.deg, 0.41 * u.deg)
    for given in (template, TemplateSpatialModel(template), [template]):
        (emission,) = region_emissions(region, GEOM, template=given)
        check_emission(emission)
        mean, _ = moments(emission.y0, emission.x0, emission.weights)
        level = 13 + 1.5 * 0.513 + 2 * 0.021
        shift = np.array([-1.5 * 0.83**2, 2 * 0.41**2]) / 12 / level / SIZE  # longitude grows left
        assert_allclose(mean - pixel_position(region.center), shift, atol=0.02)
        assert_allclose(emission.solid_angle, region_emissions(region, GEOM)[0].solid_angle)


def test_template_of_a_narrow_gaussian_within_its_region():
    model = GaussianSpatialModel(lon_0=0.512, lat_0=0.021, sigma=0.04, frame="galactic")
    boxes = [
        RectangleSkyRegion(gal(0.513, 0.021), 0.9 * u.deg, 0.9 * u.deg),
        RectangleSkyRegion(gal(2.513, 0.021), 0.9 * u.deg, 0.9 * u.deg),
    ]
    first, second = region_emissions(boxes, GEOM, template=[model, None])
    mean, variance = moments(first.y0, first.x0, first.weights)
    assert_allclose(mean, pixel_position(gal(0.512, 0.021)), atol=1e-3)
    assert_allclose(variance, (0.04 / SIZE) ** 2 + 1 / 12, rtol=2e-3)  # the pixels add theirs
    assert_allclose(second.weights, region_emissions(boxes[1], GEOM)[0].weights)
    icrs = gal(0.512, 0.021).icrs
    moved = GaussianSpatialModel(lon_0=icrs.ra, lat_0=icrs.dec, sigma=0.04, frame="icrs")
    (same,) = region_emissions(boxes[0], GEOM, template=moved)
    assert_allclose(same.weights, first.weights, atol=1e-8)


def test_template_cut_by_the_region_counts_within_it_only():
    # Half a pixel with a Gaussian's flank: the share is that of the part inside.
    model = GaussianSpatialModel(lon_0=0, lat_0=0, sigma=0.05, frame="galactic")
    region = RectangleSkyRegion(gal(-0.0625, 0), 0.075 * u.deg, 0.05 * u.deg)  # 1.5 x 1 pixels
    (emission,) = region_emissions(region, GEOM, template=model, oversampling=20)
    columns = emission.weights.sum(axis=0)
    columns = columns[columns > 1e-6]  # a rounded edge may touch one pixel more
    edges = np.array([0.025, 0.05, 0.1])  # deg from the centre: half a pixel, a whole one
    shares = np.diff(special.ndtr(edges / 0.05))
    assert_allclose(columns[-2:], shares / shares.sum(), rtol=5e-3)


def test_template_refused():
    ring = make_concentric_annulus_sky_regions(gal(0, 0), nbin=3)
    far = DiskSpatialModel(lon_0=0, lat_0=0, r_0=0.3, frame="galactic")
    with pytest.raises(ValueError, match=r"template is zero all over regions\[1\]"):
        region_emissions(ring, GEOM, template=far)
    with pytest.raises(ValueError, match="list of 1, and there are 2 regions"):
        region_emissions(ring, GEOM, template=[far])
    with pytest.raises(ValueError, match="template is a PointSpatialModel"):
        region_emissions(ring, GEOM, template=PointSpatialModel())
    with pytest.raises(ValueError, match=r"template\[1\] is a str"):
        region_emissions(ring, GEOM, template=[None, "gas"])
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match="oversampling is"):
            region_emissions(ring, GEOM, oversampling=wrong)


def test_constant_template_is_even():
    ring = make_concentric_annulus_sky_regions(gal(0, 0), nbin=2)
    (even,) = region_emissions(ring, GEOM)
    (same,) = region_emissions(ring, GEOM, template=ConstantSpatialModel())
    assert_array_equal(even.weights, same.weights)


def test_even_shares_are_exact_areas():
    # No sub-pixels enter: any number of them gives the same.
    boxes = profile_boxes(7)
    coarse, fine = (region_emissions(boxes, GEOM, oversampling=n) for n in (2, 20))
    for one, other in zip(coarse, fine, strict=True):
        assert_array_equal(one.weights, other.weights)


# ---- sources --------------------------------------------------------------------------------


def gaussian_shares(emission, place, sigma):
    """Separable integral of a flat Gaussian over the pixels; sigma in pixels."""
    n_y, n_x = emission.weights.shape
    x = np.diff(special.ndtr((emission.x0 - 0.5 + np.arange(n_x + 1) - place[0]) / sigma))
    y = np.diff(special.ndtr((emission.y0 - 0.5 + np.arange(n_y + 1) - place[1]) / sigma))
    return np.outer(y, x)


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.02, 0.05, 0.3, 1.0])
def test_gaussian_source(sigma):
    model = GaussianSpatialModel(lon_0=1.013, lat_0=0.021, sigma=sigma, frame="galactic")
    emission = source_emission(model, GEOM)
    check_emission(emission)
    assert np.isnan(emission.solid_angle) and emission.offset is None
    expected = gaussian_shares(emission, pixel_position(gal(1.013, 0.021)), sigma / SIZE)
    assert expected.sum() > 1 - 1e-5
    # Beside the quadrature, the map's equator is not the whole map: 1 - cos(b) at b = 3 sigma.
    rtol = 2e-4 + 0.5 * np.deg2rad(3 * sigma) ** 2
    assert_allclose(emission.weights, expected, atol=rtol * expected.max())


@pytest.mark.parametrize(
    "model",
    [
        GaussianSpatialModel(lon_0=1.013, lat_0=0.021, sigma=0.06, e=0.9, phi=30, frame="galactic"),
        ShellSpatialModel(lon_0=1.013, lat_0=0.021, radius=0.3, width=0.005, frame="galactic"),
        DiskSpatialModel(lon_0=1.013, lat_0=0.021, r_0=0.15, e=0.9, phi=30, frame="galactic"),
        GeneralizedGaussianSpatialModel(
            lon_0=1.013, lat_0=0.021, r_0=0.1, eta=0.05, e=0.6, frame="galactic"
        ),
        GeneralizedGaussianSpatialModel(
            lon_0=1.013, lat_0=0.021, r_0=0.02, eta=1, frame="galactic"
        ),
    ],
    ids=["gauss", "shell", "disk", "flat", "cusp"],
)
def test_disjoint_regions_against_a_fine_grid(model):
    # Sharp and elongated shapes, by brute force.
    adaptive, fixed = (source_emission(model, GEOM, oversampling=n) for n in (None, 50))
    assert_allclose(fixed.weights, adaptive.weights, atol=5e-4 * adaptive.weights.max())


def test_source_frames():
    place = gal(1.013, 0.421)
    own = GaussianSpatialModel(lon_0=1.013, lat_0=0.421, sigma=0.2, e=0.8, phi=20, frame="galactic")
    pole = SkyCoord(0, 90, unit="deg", frame="galactic").icrs
    turn = place.icrs.position_angle(pole).deg
    other = GaussianSpatialModel(
        lon_0=place.icrs.ra, lat_0=place.icrs.dec, sigma=0.2, e=0.8, phi=20 + turn, frame="icrs"
    )
    one, two = source_emission(own, GEOM), source_emission(other, GEOM)
    assert_allclose(one.weights, two.weights, atol=1e-8)
    assert (one.y0, one.x0) == (two.y0, two.x0)
    assert two.center.frame.name == "galactic"
    assert two.center.separation(place).deg < 1e-9
    # Elongated: sigma along the major axis, 20 deg from north to east (left on the map).
    mean, variance = moments(one.y0, one.x0, one.weights)
    assert_allclose(mean, pixel_position(place), atol=1e-3)
    major, minor = 0.2**2, 0.2**2 * (1 - 0.64)
    cos2 = np.cos(np.deg2rad(20)) ** 2
    expected = np.array([major * (1 - cos2) + minor * cos2, major * cos2 + minor * (1 - cos2)])
    # A Gaussian in 1 - cos r is the flat one's up to terms of sigma^2; its ellipse is only nearly
    # Gaussian in the plane. The trace tests the width, the difference the direction.
    assert_allclose(variance - 1 / 12, expected / SIZE**2, rtol=5e-3)


@pytest.mark.parametrize("r_0", [0.004, 0.2, 1.0])
def test_disk_source(r_0):
    model = DiskSpatialModel(lon_0=1.013, lat_0=0.021, r_0=r_0, edge_width=0, frame="galactic")
    emission = source_emission(model, GEOM)
    check_emission(emission)
    (region,) = region_emissions(CircleSkyRegion(gal(1.013, 0.021), r_0 * u.deg), GEOM)
    image = np.zeros(emission.weights.shape)
    y, x = region.y0 - emission.y0, region.x0 - emission.x0
    image[y : y + region.weights.shape[0], x : x + region.weights.shape[1]] = region.weights
    # Exact areas beside quadrature; the region is a circle in pixels, stretched by 1 - cos(b).
    assert_allclose(emission.weights, image, atol=5e-3 * image.max())
    if r_0 > 10 * SIZE:  # sharp edges alias in the moments of a few pixels
        mean, variance = moments(emission.y0, emission.x0, emission.weights)
        assert_allclose(mean, pixel_position(gal(1.013, 0.021)), atol=1e-2)
        assert_allclose(variance, (r_0 / SIZE) ** 2 / 4 + 1 / 12, rtol=2e-3)


@pytest.mark.parametrize(("radius", "width"), [(0.3, 0.1), (0.0, 0.4)])
def test_shell_source(radius, width):
    model = ShellSpatialModel(lon_0=0.5, lat_0=0.02, radius=radius, width=width, frame="galactic")
    emission = source_emission(model, GEOM)
    check_emission(emission)
    mean, variance = moments(emission.y0, emission.x0, emission.weights)
    assert_allclose(mean, pixel_position(gal(0.5, 0.02)), atol=5e-3)
    # A uniform ball's mean of x^2 is R^2 / 5: the shell is the difference of two balls.
    outer = radius + width
    expected = 0.2 * (outer**5 - radius**5) / (outer**3 - radius**3)
    assert_allclose(variance, expected / SIZE**2 + 1 / 12, rtol=2e-3)


@pytest.mark.parametrize("eta", [0.05, 0.5, 1.0])
def test_generalized_gaussian_source(eta):
    model = GeneralizedGaussianSpatialModel(
        lon_0=0.5, lat_0=0.02, r_0=0.4, eta=eta, frame="galactic"
    )
    emission = source_emission(model, GEOM)
    check_emission(emission)
    _, variance = moments(emission.y0, emission.x0, emission.weights)
    # <r^2> = r_0^2 Gamma(4 eta) / Gamma(2 eta), half of it along each axis; by quadrature.
    moment = [
        integrate.quad(lambda r, k=k: r**k * np.exp(-(r ** (1 / eta))), 0, 30, points=[1])[0]
        for k in (1, 3)
    ]
    expected = 0.5 * 0.4**2 * moment[1] / moment[0]
    assert_allclose(variance, expected / SIZE**2 + 1 / 12, rtol=2e-3)


def test_point_source():
    emission = source_emission(PointSpatialModel(lon_0=1.013, lat_0=0.021, frame="galactic"), GEOM)
    assert_array_equal(emission.weights, [[1.0]])
    place = np.array([emission.x0, emission.y0]) + emission.offset
    assert_allclose(place, pixel_position(gal(1.013, 0.021)), atol=1e-9)
    assert np.abs(emission.offset).max() <= 0.5
    away = source_emission(PointSpatialModel(lon_0=30, lat_0=0, frame="galactic"), GEOM)
    assert away.x0 < 0


def test_point_source_on_a_distorted_map():
    geom = WcsGeom.create((0, 0), binsz=SIZE, npix=(40, 40), frame="galactic", proj="TAN")
    bend = np.zeros((3, 3))
    bend[2, 0] = 1e-3
    geom.wcs.sip = Sip(bend, -bend.T, None, None, geom.wcs.wcs.crpix)
    geom.wcs.wcs.ctype = ["GLON-TAN-SIP", "GLAT-TAN-SIP"]
    emission = source_emission(PointSpatialModel(lon_0=0.7, lat_0=0.4, frame="galactic"), geom)
    x, y = np.array([emission.x0, emission.y0]) + emission.offset
    lon, lat = geom.wcs.all_pix2world(x, y, 0)
    assert_allclose([lon, lat], [0.7, 0.4], atol=1e-5)


def test_constant_source():
    emission = source_emission(ConstantSpatialModel(), GEOM)
    check_emission(emission)
    size = GEOM.solid_angle().value
    assert_allclose(emission.weights, size / size.sum(), rtol=1e-12)
    assert (emission.y0, emission.x0) == (0, 0)


def test_template_source_and_margin():
    geom = WcsGeom.create((9.5, 0), binsz=0.2, npix=(12, 10), frame="galactic")
    data = np.zeros((10, 12))
    data[4, 2] = 1.0
    x, y = 2, 4
    middle = geom.wcs.pixel_to_world(x, y)
    emission = source_emission(WcsNDMap(geom, data), GEOM)
    check_emission(emission)
    mean, variance = moments(emission.y0, emission.x0, emission.weights)
    assert_allclose(mean, pixel_position(middle), atol=1e-2)
    # Bilinear interpolation makes a triangle of half-width w out of a pixel: variance w^2 / 6.
    assert_allclose(variance, (0.2 / SIZE) ** 2 / 6 + 1 / 12, rtol=0.02)
    flat = WcsNDMap(geom, 1.0)  # 2.4 deg wide, reaches 0.7 deg beyond the map's edge at l = 10
    whole = source_emission(flat, GEOM)
    check_emission(whole)
    assert whole.x0 < 0
    cut = source_emission(flat, GEOM, margin=4)
    assert cut.x0 == -4
    assert_allclose(cut.weights.sum(), 1 - (0.7 - 0.2) / 2.4, atol=2e-3)


def test_margin_cuts_a_gaussian():
    # Centred on the edge of the map: half of it, and what the margin holds of the other half.
    model = GaussianSpatialModel(lon_0=10, lat_0=0, sigma=0.5, frame="galactic")
    emission = source_emission(model, GEOM, margin=10)
    assert emission.x0 == -10
    assert_allclose(emission.weights.sum(), special.ndtr(1.0), atol=1e-4)
    far = GaussianSpatialModel(lon_0=60, lat_0=0, sigma=0.5, frame="galactic")
    assert_array_equal(source_emission(far, GEOM, margin=10).weights, [[0.0]])
    wide = GaussianSpatialModel(lon_0=0, lat_0=0, sigma=30, frame="galactic")
    small = WcsGeom.create((0, 0), binsz=1, npix=(20, 10), frame="galactic")
    assert_allclose(
        source_emission(wide, small, margin=0).weights,
        np.asarray(
            wide(small.get_coord().l.deg, small.get_coord().b.deg) * small.solid_angle().value
        ),
        rtol=1e-3,
    )


def test_source_refused():
    tan = WcsGeom.create((0, 0), binsz=0.1, npix=(50, 50), frame="galactic", proj="TAN")
    with pytest.raises(ValueError, match="centred at .180, 0. deg .galactic."):
        source_emission(PointSpatialModel(lon_0=180, frame="galactic"), tan)
    with pytest.raises(ValueError, match="frame 'nowhere'"):
        source_emission(PointSpatialModel(frame="nowhere"), tan)
    with pytest.raises(ValueError, match="spatial_model is a str"):
        source_emission("point", GEOM)
    with pytest.raises(ValueError, match="give a margin"):
        source_emission(GaussianSpatialModel(sigma=10), WcsGeom.create(binsz=0.02, npix=(50, 50)))
    point = PointSpatialModel(frame="galactic")
    for name, value in (("oversampling", 0), ("margin", -1), ("margin", 0.5)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            source_emission(point, GEOM, **{name: value})
