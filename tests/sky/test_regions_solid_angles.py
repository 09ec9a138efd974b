"""Exact solid angles of regions against closed forms and areas by Monte Carlo."""

from __future__ import annotations

import operator

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
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
from scipy.integrate import quad

from jaxprof.sky.regions import region_solid_angles


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def cap(radius):
    return 4 * np.pi * np.sin(0.5 * np.deg2rad(radius)) ** 2


def box(width, height):
    return np.deg2rad(width) * 2 * np.sin(0.5 * np.deg2rad(height))


def ellipse(width, height):
    """Directly by the angle around the centre; adaptive, and quite another integrand."""
    a, b = np.deg2rad(width) / 2, np.deg2rad(height) / 2

    def part(phi):
        return 2 * np.sin(0.5 / np.hypot(np.cos(phi) / a, np.sin(phi) / b)) ** 2

    return 4 * quad(part, 0, np.pi / 2, epsabs=0, epsrel=1e-12, limit=500)[0]


def lens(radius, distance):
    """Two caps of the same radius, and what they share (by Gauss-Bonnet)."""
    r, d = np.deg2rad([radius, distance])
    corner = np.arccos((np.cos(d) - np.cos(r) ** 2) / np.sin(r) ** 2)
    arc = np.arccos((np.cos(r) - np.cos(d) * np.cos(r)) / (np.sin(d) * np.sin(r)))
    return 2 * (np.pi - corner - 2 * np.cos(r) * arc)


CENTER = gal(33.0, 71.0)
DEG = u.deg
SIMPLE = {
    "circle": (CircleSkyRegion(CENTER, 5 * DEG), cap(5)),
    "tiny circle": (CircleSkyRegion(CENTER, 1e-30 * DEG), np.pi * np.deg2rad(1e-30) ** 2),
    "large circle": (CircleSkyRegion(CENTER, 150 * DEG), cap(150)),
    "thin annulus": (
        CircleAnnulusSkyRegion(CENTER, 1 * DEG, 1.000001 * DEG),
        2 * np.pi * np.sin(np.deg2rad(1.0000005)) * np.deg2rad(0.000001),
    ),
    "ellipse": (EllipseSkyRegion(CENTER, 60 * DEG, 20 * DEG, 33 * DEG), ellipse(60, 20)),
    "thin ellipse": (EllipseSkyRegion(CENTER, 170 * DEG, 0.5 * DEG), ellipse(170, 0.5)),
    "ellipse annulus": (
        EllipseAnnulusSkyRegion(CENTER, 4 * DEG, 8 * DEG, 3 * DEG, 5 * DEG, 20 * DEG),
        ellipse(8, 5) - ellipse(4, 3),
    ),
    "box": (RectangleSkyRegion(CENTER, 10 * DEG, 4 * DEG, 20 * DEG), box(10, 4)),
    "large box": (RectangleSkyRegion(CENTER, 350 * DEG, 170 * DEG), box(350, 170)),
    "box annulus": (
        RectangleAnnulusSkyRegion(CENTER, 1 * DEG, 4 * DEG, 2 * DEG, 3 * DEG),
        box(4, 3) - box(1, 2),
    ),
    "octant": (PolygonSkyRegion(gal([0, 90, 0], [0, 0, 90])), np.pi / 2),
    "three quarters of a hemisphere": (
        PolygonSkyRegion(gal([0, 90, 180, 270, 270], [0, 0, 0, 0, 90])),
        1.5 * np.pi,
    ),
    "triangle around a pole": (
        # Excess of the three equal angles, by Napier's rules in each half.
        PolygonSkyRegion(gal([10, 130, 250], [50, 50, 50])),
        6 * np.arctan(1 / (np.sin(np.deg2rad(50)) * np.tan(np.pi / 3))) - np.pi,
    ),
    "small polygon": (
        PolygonSkyRegion(gal([7, 7 + 1e-4, 7 + 1e-4, 7], [0, 0, 1e-4, 1e-4])),
        np.deg2rad(1e-4) ** 2,
    ),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_closed_forms(name):
    region, expected = SIMPLE[name]
    rtol = 1e-8 if name in ("small polygon", "thin annulus") else 2e-10  # rounding of degrees
    assert_allclose(region_solid_angles(region), [expected], rtol=rtol)


def test_many_regions_in_any_frame():
    regions = [region for region, _ in SIMPLE.values()]
    turned = [CircleSkyRegion(CENTER.icrs, 5 * DEG), *regions]
    assert region_solid_angles(turned).shape == (len(regions) + 1,)
    assert_allclose(region_solid_angles(turned)[1:], region_solid_angles(regions), rtol=1e-9)
    assert_allclose(region_solid_angles(turned)[0], cap(5), rtol=1e-14)


def pair(operation, first=5.0, distance=7.0):
    return CompoundSkyRegion(
        CircleSkyRegion(gal(1, 40), first * DEG),
        CircleSkyRegion(gal(1, 40 + distance), 5 * DEG),
        operation,
    )


def test_compounds_by_closed_forms():
    shared = lens(5, 7)
    expected = {
        operator.or_: 2 * cap(5) - shared,
        operator.and_: shared,
        operator.xor: 2 * cap(5) - 2 * shared,
        (lambda a, b: a & ~b): cap(5) - shared,
        (lambda a, b: ~(a | b)): 4 * np.pi - 2 * cap(5) + shared,
    }
    regions = [pair(operation) for operation in expected]
    assert_allclose(region_solid_angles(regions), list(expected.values()), rtol=1e-9)


@pytest.mark.parametrize("width", [0.3, 0.002, 1e-4])
def test_a_strip_much_narrower_than_what_it_crosses(width):
    radius = np.deg2rad(5)
    shared = quad(
        lambda lon: 2 * np.sin(np.arccos(np.cos(radius) / np.cos(lon))),
        *(-np.deg2rad(width) / 2, np.deg2rad(width) / 2),
        epsrel=1e-12,
    )[0]
    center = gal(179.99, 71)
    circle = CircleSkyRegion(center, 5 * DEG)
    strip = RectangleSkyRegion(center, width * DEG, 20 * DEG, 33 * DEG)
    ring = CircleAnnulusSkyRegion(center, 6 * DEG, 7 * DEG)
    regions = [circle & strip, circle | strip, strip ^ circle, ((circle & strip) | ring) ^ circle]
    both = cap(5) + box(width, 20)
    assert_allclose(
        region_solid_angles(regions),
        [shared, both - shared, both - 2 * shared, cap(7) - cap(6) + cap(5) - shared],
        rtol=1e-6,
    )


def test_compounds_are_the_same_alone_and_among_others():
    shapes = [SIMPLE[name][0] for name in sorted(SIMPLE)]
    pairs = [a ^ b for a, b in zip(shapes, shapes[1:], strict=False)]
    alone = [region_solid_angles([pair])[0] for pair in pairs]
    assert_allclose(region_solid_angles([*pairs, *shapes])[: len(pairs)], alone, rtol=1e-12)


def test_compounds_whose_borders_coincide():
    twice = pair(operator.or_, distance=0.0)
    nothing = pair(operator.xor, distance=0.0)
    ring = pair(operator.xor, first=4.0, distance=0.0)
    row = CompoundSkyRegion(
        RectangleSkyRegion(gal(0, 0), 2 * DEG, 2 * DEG),
        RectangleSkyRegion(gal(2, 0), 2 * DEG, 2 * DEG),
        operator.or_,
    )
    nested = CompoundSkyRegion(row, RectangleSkyRegion(gal(0.5, 0), 1 * DEG, 2 * DEG), operator.xor)
    got = region_solid_angles([twice, nothing, ring, row, nested])
    assert_allclose(got, [cap(5), 0, cap(5) - cap(4), box(4, 2), box(3, 2)], rtol=1e-9, atol=1e-12)


def test_a_polygon_that_crosses_itself():
    """Two triangles with a common corner on the equator, where the diagonals meet."""
    bow = PolygonSkyRegion(gal([0, 4, 4, 0], [-2, 2, -2, 2]))
    half = PolygonSkyRegion(gal([0, 2, 0], [-2, 0, 2]))
    assert_allclose(region_solid_angles([bow]), 2 * region_solid_angles([half]), rtol=1e-9)


def test_by_monte_carlo():
    """Points even in longitude and in sin(latitude), tested with distances by haversines."""
    rng = np.random.default_rng(5)
    n = 400_000
    lon, lat = rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-1, 1, n))

    def away(lon_0, lat_0):
        lon_0, lat_0 = np.deg2rad([lon_0, lat_0])
        sin2 = np.sin(0.5 * (lat - lat_0)) ** 2
        sin2 = sin2 + np.cos(lat) * np.cos(lat_0) * np.sin(0.5 * (lon - lon_0)) ** 2
        return np.rad2deg(2 * np.arcsin(np.sqrt(sin2)))

    first, second, third = away(10, 80) < 40, away(100, 60) < 30, away(200, 75) < 50
    circles = [
        CircleSkyRegion(gal(10, 80), 40 * DEG),
        CircleSkyRegion(gal(100, 60), 30 * DEG),
        CircleSkyRegion(gal(200, 75).icrs, 50 * DEG),
    ]
    nested = CompoundSkyRegion(
        CompoundSkyRegion(circles[0], circles[1], operator.or_), circles[2], operator.xor
    )
    share = np.mean((first | second) ^ third)
    sigma = 4 * np.pi * np.sqrt(share * (1 - share) / n)
    assert abs(region_solid_angles(nested)[0] - 4 * np.pi * share) < 4 * sigma < 0.04


def test_an_infinite_radius_is_named():
    regions = [CircleSkyRegion(CENTER, 1 * DEG), CircleSkyRegion(CENTER, np.inf * DEG)]
    with pytest.raises(ValueError, match=r"regions\[1\] has a size"):
        region_solid_angles(regions)
