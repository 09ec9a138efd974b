"""Guard bins beyond the ends of a profile."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    EllipseSkyRegion,
    RectangleSkyRegion,
    Regions,
)

from jaxprof import (
    WcsGeom,
    make_concentric_annulus_sky_regions,
    make_grid_rectangle_sky_regions,
    make_orthogonal_rectangle_sky_regions,
    make_sector_sky_regions,
)
from jaxprof.reduce.joint.guards import guard_regions


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def icrs(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="icrs")


def lon_lat(region):
    return region.center.spherical.lon.wrap_at("180d").deg, region.center.spherical.lat.deg


def radii(regions):
    return [
        (0.0, r.radius.to_value("deg"))
        if isinstance(r, CircleSkyRegion)
        else (r.inner_radius.to_value("deg"), r.outer_radius.to_value("deg"))
        for r in regions
    ]


GEOM = WcsGeom.create((0, 0), binsz=0.05, npix=(400, 200), frame="galactic")


def test_line_along_the_equator():
    # Closed form: on the equator the great circle is the equator.
    bins = make_orthogonal_rectangle_sky_regions(gal(4, 0), gal(-4, 0), GEOM.wcs, "3 deg", nbin=8)
    guards = guard_regions(Regions(bins), 2)
    places = np.array([lon_lat(region) for region in guards])
    assert_allclose(places[:, 0], [5.5, 4.5, -4.5, -5.5], atol=1e-9)
    assert_allclose(places[:, 1], 0, atol=1e-9)
    for guard in guards:
        assert_allclose(guard.width.to_value("deg"), 1, atol=1e-9)
        assert_allclose(guard.height.to_value("deg"), 3)
        assert_allclose(guard.angle.to_value("deg"), bins[0].angle.to_value("deg"), atol=1e-9)


def test_guards_continue_the_maker_on_a_slanted_line():
    # The maker itself, on a line longer by two boxes at each end, is the independent answer.
    start, end = np.array([5.0, -1.0]), np.array([-5.0, 2.0])
    step = (end - start) / 10
    bins = make_orthogonal_rectangle_sky_regions(
        gal(*start), gal(*end), GEOM.wcs, "3 deg", nbin=10, tangent=True
    )
    longer = make_orthogonal_rectangle_sky_regions(
        gal(*(start - 2 * step)), gal(*(end + 2 * step)), GEOM.wcs, "3 deg", nbin=14, tangent=True
    )
    guards = guard_regions(bins, 2)
    for guard, expected in zip(guards, [*longer[:2], *longer[-2:]], strict=True):
        # A straight line on the map is a great circle only nearly.
        assert guard.center.separation(expected.center).deg < 5e-3
        assert abs(guard.angle - expected.angle).to_value("deg") < 0.1


def test_far_from_the_equator_the_angle_turns_along():
    # Boxes along a great circle over high latitudes: each keeps its angle to the circle.
    origin, pa = icrs(10, 60), 50 * u.deg
    centers = [origin.directional_offset_by(pa, k * u.deg) for k in range(-3, 4)]
    pole = origin.directional_offset_by(pa - 90 * u.deg, 90 * u.deg)  # of the great circle
    boxes = [
        RectangleSkyRegion(c, 1 * u.deg, 2 * u.deg, c.position_angle(pole) + 0 * u.deg)
        for c in centers
    ]
    guards = guard_regions(boxes[1:-1], 1)
    for guard, expected in zip(guards, [boxes[0], boxes[-1]], strict=True):
        assert guard.center.separation(expected.center).deg < 1e-9
        assert_allclose(guard.angle.to_value("deg"), expected.angle.to_value("deg"), atol=1e-6)


def test_touching_where_sizes_differ_and_along_the_height():
    boxes = [
        RectangleSkyRegion(gal(0, y), 5 * u.deg, h * u.deg)
        for y, h in [(0.0, 2.0), (1.5, 1.0), (2.25, 0.5)]
    ]
    below, above = guard_regions(boxes)
    assert_allclose([lon_lat(below)[1], lon_lat(above)[1]], [-2.0, 2.75], atol=1e-9)
    assert_allclose([below.height.value, above.height.value], [2.0, 0.5])


@pytest.mark.parametrize("kind", ["circle", "ellipse"])
def test_other_shapes_in_a_line(kind):
    def make(lon):
        if kind == "circle":
            return CircleSkyRegion(gal(lon, 0), 0.5 * u.deg)
        return EllipseSkyRegion(gal(lon, 0), 1 * u.deg, 3 * u.deg)

    guards = guard_regions([make(lon) for lon in (0, 1, 2, 3)], 1)
    assert_allclose([lon_lat(g)[0] for g in guards], [-1, 4], atol=1e-9)
    assert {type(g) for g in guards} == {type(make(0))}


def test_one_box():
    box = RectangleSkyRegion(gal(0, 0), 1 * u.deg, 3 * u.deg, 30 * u.deg)
    first, last = guard_regions([box])
    # The width lies 30 deg from the longitude axis (towards increasing latitude and longitude).
    expected = np.array([np.cos(np.deg2rad(30)), -np.sin(np.deg2rad(30))])
    place = np.array(lon_lat(last))
    assert_allclose(np.abs(place), np.abs(expected), atol=2e-4)
    assert_allclose(lon_lat(first), -place, atol=1e-9)
    for guard in (first, last):
        assert_allclose(guard.angle.to_value("deg"), 30, atol=0.02)
        # Guard and box share a side: none of the box's places lies in the guard, but they touch.
        outline = guard.to_pixel(GEOM.wcs)
        assert_allclose(np.hypot(outline.center.x - 199.5, outline.center.y - 99.5), 20, atol=1e-2)
        both = outline.corners, box.to_pixel(GEOM.wcs).corners
        apart = np.hypot(*np.moveaxis(both[0][:, None] - both[1][None], -1, 0))
        assert (apart < 0.02).sum() == 2


def test_annuli():
    bins = make_concentric_annulus_sky_regions(gal(0, 0), "1.5 deg", "0.3 deg", nbin=5)
    assert_allclose(radii(guard_regions(bins)), [(0, 0.3), (1.5, 1.8)], atol=1e-12)
    assert_allclose(radii(guard_regions(bins[::-1])), [(1.5, 1.8), (0, 0.3)], atol=1e-12)
    assert_allclose(
        radii(guard_regions(bins[2:], 3)),
        [(0, 0.3), (0.3, 0.6), (0.6, 0.9), (1.5, 1.8), (1.8, 2.1), (2.1, 2.4)],
        atol=1e-12,
    )
    wider = [CircleAnnulusSkyRegion(gal(0, 0), 0.5 * u.deg, 0.7 * u.deg), *bins[2:]]
    # 0.5 deg hold two rings and half of a third: the last one is that narrower circle.
    assert_allclose(
        radii(guard_regions(wider, 3))[:3], [(0, 0.1), (0.1, 0.3), (0.3, 0.5)], atol=1e-12
    )


def test_annuli_without_room_inside():
    bins = make_concentric_annulus_sky_regions(gal(0, 0), "1.5 deg", nbin=11)
    assert_allclose(radii(guard_regions(bins, 2)), [(1.5, 1.65), (1.65, 1.8)], rtol=1e-5)
    disk = CircleSkyRegion(gal(0, 0), 0.5 * u.deg)
    ring = CircleAnnulusSkyRegion(gal(0, 0), 0.5 * u.deg, 0.8 * u.deg)
    assert_allclose(radii(guard_regions([disk, ring])), [(0.8, 1.1)])
    assert_allclose(radii(guard_regions([disk])), [(0.5, 1.0)])


def test_none_asked():
    bins = make_concentric_annulus_sky_regions(gal(0, 0), "1.5 deg", nbin=3)
    assert guard_regions(bins, 0) == []


@pytest.mark.parametrize(
    ("regions", "n", "match"),
    [
        (
            make_grid_rectangle_sky_regions(gal(0, 0), "4 deg", "4 deg", GEOM.wcs, 2, 2),
            1,
            "not along a line.*give the guard bins",
        ),
        (
            make_sector_sky_regions(gal(0, 0), position_angle="0 deg", opening_angle="30 deg"),
            1,
            "PolygonSkyRegion.*give the guard bins",
        ),
        (
            [CircleAnnulusSkyRegion(gal(k, 0), 1 * u.deg, 2 * u.deg) for k in (0, 1)],
            1,
            "centres 1 deg apart",
        ),
        (
            [
                CircleAnnulusSkyRegion(gal(0, 0), 1 * u.deg, 2 * u.deg),
                RectangleSkyRegion(gal(0, 0), 1 * u.deg, 2 * u.deg),
            ],
            1,
            "mix annuli",
        ),
        (
            [
                CircleSkyRegion(gal(0, 0), 1 * u.deg),
                RectangleSkyRegion(gal(3, 0), 1 * u.deg, 2 * u.deg),
            ],
            1,
            "CircleSkyRegion, RectangleSkyRegion",
        ),
        ([CircleAnnulusSkyRegion(gal(0, 0), 1 * u.deg, 80 * u.deg)], 2, "n is 2"),
        ([CircleSkyRegion(gal(0, 0), 1 * u.deg)], -1, "n is -1"),
        ([CircleSkyRegion(gal(0, 0), 1 * u.deg)], 1.5, "n is 1.5"),
    ],
)
def test_refused(regions, n, match):
    with pytest.raises(ValueError, match=match):
        guard_regions(regions, n)
