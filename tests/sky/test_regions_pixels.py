"""Pixels of regions against spherical trigonometry; seams, poles, borders and what is off maps."""

from __future__ import annotations

import operator
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
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
from sphere_reference import members

from jaxprof.sky import WcsGeom
from jaxprof.sky.pixel_sums import check_uncut, member_pixels
from jaxprof.sky.regions import (
    make_grid_rectangle_sky_regions,
    make_sector_sky_regions,
    region_pixels,
    region_solid_angles,
)
from jaxprof.sky.regions import pixels as module
from jaxprof.sky.regions.shapes import sky_shapes

DEG = u.deg
OPERATORS = (operator.or_, operator.and_, operator.xor, lambda a, b: a & ~b)


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def random_region(rng, size, kind=None):
    """A region of any kind, position, size, angle and frame."""
    lon, lat = rng.uniform(0, 360), np.rad2deg(np.arcsin(rng.uniform(-1, 1)))
    frame = rng.choice(["galactic", "icrs", "fk5"])
    center = SkyCoord(lon, lat, unit="deg", frame=frame)
    kind = rng.integers(8) if kind is None else kind
    a, b = rng.uniform(0.1, 1, 2) * size * DEG
    angle = rng.uniform(-400, 400) * DEG
    inner = rng.uniform(0.2, 0.9)
    if kind == 0:
        return CircleSkyRegion(center, a)
    if kind == 1:
        return CircleAnnulusSkyRegion(center, inner * a, a)
    if kind == 2:
        return EllipseSkyRegion(center, 2 * a, 2 * b, angle)
    if kind == 3:
        return EllipseAnnulusSkyRegion(center, inner * a, a, inner * b, b, angle)
    if kind == 4:
        return RectangleSkyRegion(center, 2 * a, 2 * b, angle)
    if kind == 5:
        return RectangleAnnulusSkyRegion(center, inner * a, 2 * a, inner * b, 2 * b, angle)
    if kind == 6:
        n = rng.integers(3, 12)
        turns = np.sort(rng.uniform(0, 360, n)) if rng.random() < 0.7 else rng.uniform(0, 360, n)
        radii = rng.uniform(0.2, 1, n) * min(size, 40)
        return PolygonSkyRegion(center.directional_offset_by(turns * DEG, radii * DEG))
    first, second = random_region(rng, size, rng.integers(7)), random_region(rng, size)
    return CompoundSkyRegion(first, second, OPERATORS[rng.integers(4)])


def turned(proj, angle, scale, crval, shape):
    """A map of turned, flipped or oblong pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = f"GLON-{proj}", f"GLAT-{proj}"
    wcs.wcs.crval = crval
    wcs.wcs.cdelt = scale
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.set()
    return WcsGeom(wcs, shape)


def whole_sky(proj, binsz=3.0):
    npix = int(360 / binsz), int(180 / binsz)
    return WcsGeom.create((0, 0), binsz=binsz, npix=npix, frame="galactic", proj=proj)


GEOMS = {
    **{proj: whole_sky(proj) for proj in ("CAR", "AIT", "MOL", "ZEA", "SIN", "TAN")},
    "turned": turned("TAN", 33, (-1.5, 1.5), (266, 40), (70, 90)),
    "upside down": turned("CAR", 0, (-2, -2), (0, 0), (90, 180)),
    "mirrored, oblong": turned("ZEA", 120, (2.5, 1.0), (100, -80), (120, 60)),
    "oblique": turned("CAR", 10, (-2, 2), (50, 35), (60, 120)),
}


@pytest.mark.parametrize("name", GEOMS)
def test_members_are_those_of_spherical_trigonometry(name):
    geom = GEOMS[name]
    rng = np.random.default_rng(list(GEOMS).index(name))
    y, x = (v.ravel() for v in np.indices(geom.npix_shape))
    lon, lat = geom.wcs.all_pix2world(x, y, 0)
    on_sky = np.isfinite(lon)
    coords = gal(lon[on_sky], lat[on_sky])
    regions = [random_region(rng, size) for size in (4, 15, 60) for _ in range(14)]
    found = region_pixels(regions, geom)
    n_members = 0
    for region, pixels in zip(regions, found, strict=True):
        expected = np.zeros(len(x), bool)
        expected[on_sky] = members(region, coords)
        got = np.zeros(geom.npix_shape, bool)
        got[pixels.y[pixels.inside], pixels.x[pixels.inside]] = True
        assert_array_equal(got.ravel(), expected, err_msg=str(region))
        n_members += expected.sum()
        on_map = pixels.solid_angle[pixels.inside]
        sizes = geom.solid_angle().to_value("sr")[got]
        assert_allclose(on_map, sizes, rtol=1e-12)
    assert n_members > 700


# ---- borders ----------------------------------------------------------------------------------


def shared_and_lost(regions, geom, whole=None):
    """How often pixels are in several regions, and how many within `whole` are in none."""
    hits = np.zeros(geom.npix_shape, int)
    for pixels in region_pixels(regions, geom):
        hits[pixels.y[pixels.inside], pixels.x[pixels.inside]] += 1
    lost = 0
    if whole is not None:
        (all_of_it,) = region_pixels(whole, geom)
        on = all_of_it.inside
        lost = int(np.sum(hits[all_of_it.y[on], all_of_it.x[on]] == 0))
    return int(np.sum(hits > 1)), lost, hits


def edges_on_centres(proj="CAR", flip=(-1, 1), turn=0):
    return turned(proj, turn, (0.1 * flip[0], 0.1 * flip[1]), (0, 0), (41, 61))


@pytest.mark.parametrize("flip", [(-1, 1), (1, 1), (-1, -1), (1, -1)])
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_line_of_boxes_with_edges_on_pixel_centres(flip, angle):
    geom = edges_on_centres(flip=flip)
    boxes = [
        RectangleSkyRegion(gal(-0.8 + 0.4 * i, 0), 0.4 * DEG, 0.4 * DEG, a * DEG)
        for i, a in enumerate((0, angle, 90, angle, 180))
    ]
    whole = RectangleSkyRegion(gal(0, 0), 2 * DEG, 0.4 * DEG)
    shared, lost, hits = shared_and_lost(boxes, geom, whole)
    assert (shared, lost) == (0, 0)
    assert [len(p) for p in region_pixels([*boxes, whole], geom)] == [16] * 5 + [80]


@pytest.mark.parametrize("flip", [(-1, 1), (1, 1), (-1, -1), (1, -1)])
def test_a_grid_of_boxes_with_edges_on_pixel_centres(flip):
    """Rows do not meet exactly on a sphere: by 1e-5 deg here, 1e-4 of a pixel."""
    geom = edges_on_centres(flip=flip)
    boxes = [
        RectangleSkyRegion(gal(0.4 * i, 0.4 * k), 0.4 * DEG, 0.4 * DEG)
        for k in (-3, -2, -1, 0, 1, 2, 3)
        for i in (-2, -1, 0, 1, 2)
    ]
    shared, _, hits = shared_and_lost(boxes, geom)
    assert shared == 0
    assert [len(p) for p in region_pixels(boxes, geom)] == [16] * 35
    rows, columns = np.nonzero(hits)
    assert (np.ptp(rows), np.ptp(columns)) == (27, 19) and hits.sum() == 28 * 20


def test_a_grid_made_for_the_map():
    geom = edges_on_centres()
    grid = make_grid_rectangle_sky_regions(gal(0.05, 0), "4 deg", "3 deg", geom.wcs, 8, 6)
    shared, _, hits = shared_and_lost(grid, geom)
    assert shared == 0 and hits.sum() == 40 * 30


@pytest.mark.parametrize("proj", ["CAR", "TAN", "ZEA"])
def test_rings_share_and_lose_nothing(proj):
    """Radii to pixel centres of the row of the centre, in frames that round differently."""
    geom = edges_on_centres(proj)
    rings = [
        CircleAnnulusSkyRegion(gal(0, 0) if i % 2 else gal(0, 0).icrs, r * DEG, (r + 0.3) * DEG)
        for i, r in enumerate((0.3, 0.6, 0.9, 1.2))
    ]
    everything = CircleSkyRegion(gal(0, 0).fk5, 1.5 * DEG)
    shared, lost, hits = shared_and_lost([CircleSkyRegion(gal(0, 0), 0.3 * DEG), *rings], geom)
    assert shared == 0
    assert hits.sum() == len(region_pixels(everything, geom)[0])
    ellipses = [
        EllipseAnnulusSkyRegion(gal(0, 0), a * DEG, b * DEG, a / 2 * DEG, b / 2 * DEG)
        for a, b in ((0.6, 1.2), (1.2, 1.8), (1.8, 2.4))
    ]
    core = EllipseSkyRegion(gal(0, 0), 0.6 * DEG, 0.3 * DEG)
    shared, _, hits = shared_and_lost([core, *ellipses], geom)
    whole = EllipseSkyRegion(gal(0, 0), 2.4 * DEG, 1.2 * DEG)
    assert shared == 0 and hits.sum() == len(region_pixels(whole, geom)[0])


@pytest.mark.parametrize("center", [(0, 0), (0.05, 0.05)])
def test_sectors_share_and_lose_nothing(center):
    """Their straight sides run along rows and columns of pixel centres."""
    geom = edges_on_centres("TAN")
    sectors = [
        sector
        for angle in (45, 135, 225, 315)
        for sector in make_sector_sky_regions(
            gal(*center),
            "1.5 deg",
            nbin=3,
            position_angle=angle * DEG,
            opening_angle="90 deg",
        )
    ]
    shared, lost, _ = shared_and_lost(sectors, geom, CircleSkyRegion(gal(*center), 1.49 * DEG))
    assert (shared, lost) == (0, 0)


def test_box_annuli_and_polygons_share_edges():
    geom = edges_on_centres()
    core = RectangleSkyRegion(gal(0, 0), 1 * DEG, 0.8 * DEG)
    rings = [
        RectangleAnnulusSkyRegion(gal(0, 0), w * DEG, (w + 0.6) * DEG, h * DEG, (h + 0.6) * DEG)
        for w, h in ((1, 0.8), (1.6, 1.4))
    ]
    whole = RectangleSkyRegion(gal(0, 0), 2.2 * DEG, 2.0 * DEG)
    shared, lost, hits = shared_and_lost([core, *rings], geom, whole)
    assert (shared, lost, hits.sum()) == (0, 0, 22 * 20)
    corners = gal([-1, 1, 1, -1], [-1, -1, 1, 1])
    triangles = [PolygonSkyRegion(corners[[i, (i + 1) % 4, j]]) for i, j in ((0, 2), (2, 0))]
    shared, lost, _ = shared_and_lost(triangles, geom, PolygonSkyRegion(corners))
    assert (shared, lost) == (0, 0)


def test_a_partition_of_the_whole_sky():
    """Eight octants, and lunes, on every all-sky map: each pixel in exactly one."""
    octants = [
        PolygonSkyRegion(gal([lon, lon + 90, lon], [0, 0, lat]))
        for lon in (0, 90, 180, 270)
        for lat in (-90, 90)
    ]
    zones = [
        CircleSkyRegion(gal(0, 90), 30 * DEG),
        *[CircleAnnulusSkyRegion(gal(0, 90), a * DEG, (a + 30) * DEG) for a in (30, 60, 90, 120)],
        CircleSkyRegion(gal(0, -90), 29.9999999 * DEG),
    ]
    for proj in ("CAR", "AIT", "MOL", "ZEA"):
        geom = whole_sky(proj, 5.0)
        lon, _ = geom.wcs.all_pix2world(*np.indices(geom.npix_shape)[::-1].reshape(2, -1), 0)
        for parts in (octants, zones):
            _, _, hits = shared_and_lost(parts, geom)
            assert_array_equal(hits.ravel(), np.isfinite(lon).astype(int))


# ---- seams, poles and what is off the map -----------------------------------------------------


@pytest.mark.parametrize("proj", ["CAR", "AIT", "MOL", "ZEA"])
def test_solid_angles_across_seams_and_over_poles(proj):
    geom = whole_sky(proj, 2.0)
    for center in ((179.6, 40), (20, 88), (100, -90), (0, 0)):
        regions = [
            CircleSkyRegion(gal(*center), 20 * DEG),
            RectangleSkyRegion(gal(*center), 44 * DEG, 35 * DEG, 20 * DEG),
            PolygonSkyRegion(gal(*center).directional_offset_by([10, 130, 250] * DEG, 25 * DEG)),
        ]
        found, areas = region_pixels(regions, geom), region_solid_angles(regions)
        for pixels, exact in zip(found, areas, strict=True):
            # What is on the map and off it together is the region, to the noise of pixels,
            # which are long and thin at the poles of MOL.
            total = pixels.solid_angle.sum() + pixels.lost
            assert_allclose(total, exact, rtol=0.12 if proj == "MOL" else 0.05)
            if proj == "CAR" or center == (0, 0):
                assert pixels.inside.all() and pixels.lost == 0


def test_regions_that_leave_the_map():
    geom = turned("TAN", 20, (-0.1, 0.1), (266, 40), (40, 60))
    rng = np.random.default_rng(3)
    wide = turned("TAN", 20, (-0.1, 0.1), (266, 40), (240, 260))  # 100 more on each side
    for _ in range(30):
        x, y = rng.uniform(-30, 90), rng.uniform(-30, 70)
        center = geom.wcs.pixel_to_world(x, y)
        region = random_region(rng, 3, rng.integers(6)).copy(center=center)
        (pixels,), (same,) = region_pixels(region, geom), region_pixels(region, wide)
        assert_array_equal((pixels.y + 100, pixels.x + 100), (same.y, same.x))
        on = (pixels.y >= 0) & (pixels.y < 40) & (pixels.x >= 0) & (pixels.x < 60)
        assert_array_equal(pixels.inside, on)
        assert_allclose(pixels.solid_angle, same.solid_angle, rtol=1e-7)
        assert pixels.lost == 0


def test_what_the_projection_cannot_show_is_lost():
    geom = GEOMS["TAN"]
    far, near = gal(180, 0), gal(0, 0)
    regions = [
        CircleSkyRegion(far, 5 * DEG),
        CircleSkyRegion(near, 5 * DEG),
        CircleSkyRegion(near, 120 * DEG),
        CompoundSkyRegion(
            CircleSkyRegion(far, 5 * DEG), CircleSkyRegion(near, 5 * DEG), operator.or_
        ),
    ]
    pixels = region_pixels(regions, geom)
    exact = region_solid_angles(regions)
    assert [p.inside.any() for p in pixels] == [False, True, True, True]
    assert_allclose(pixels[0].lost, exact[0], rtol=1e-12)
    assert pixels[1].lost == 0
    for p, whole in zip(pixels[2:], exact[2:], strict=True):
        assert_allclose(p.solid_angle.sum() + p.lost, whole, rtol=1e-10)


def test_tiny_regions_have_no_pixels():
    geom = edges_on_centres()
    pixels = region_pixels([CircleSkyRegion(gal(0, 0), r * DEG) for r in (1e-30, 1e-11)], geom)
    assert [len(p) for p in pixels] == [0, 0]
    box = RectangleSkyRegion(gal(0.03, 0.04), 1e-30 * DEG, 1 * DEG)
    assert len(region_pixels(box, geom)[0]) == 0


def test_compounds_of_any_operator():
    geom = whole_sky("CAR", 5.0)
    first, second = CircleSkyRegion(gal(10, 5), 40 * DEG), CircleSkyRegion(gal(50, 5), 30 * DEG)
    nested = CompoundSkyRegion(
        CompoundSkyRegion(first, second, operator.xor),
        CircleSkyRegion(gal(200, -40), 50 * DEG),
        lambda a, b: ~(a | b),
    )
    lon, lat = geom.wcs.all_pix2world(*np.indices(geom.npix_shape)[::-1].reshape(2, -1), 0)
    (pixels,) = region_pixels(nested, geom)
    got = np.zeros(geom.npix_shape, bool)
    got[pixels.y, pixels.x] = True
    assert_array_equal(got.ravel(), members(nested, gal(lon, lat)))
    assert pixels.inside.all() and pixels.lost == 0


def test_large_polygons_and_the_smaller_side():
    """Wedges of nearly 90 deg, and a ring of vertices that is larger than a hemisphere."""
    geom = whole_sky("MOL", 4.0)
    y, x = (v.ravel() for v in np.indices(geom.npix_shape))
    lon, lat = geom.wcs.all_pix2world(x, y, 0)
    sky = np.isfinite(lon)
    tip = gal(140, 35)
    for opening in (60, 200, 340):
        bins = make_sector_sky_regions(
            tip, "89 deg", nbin=2, position_angle="30 deg", opening_angle=opening * DEG
        )
        away = tip.separation(gal(lon[sky], lat[sky])).deg
        turn = tip.position_angle(gal(lon[sky], lat[sky])).deg
        inside = np.abs((turn - 30 + 180) % 360 - 180) < opening / 2
        for k, pixels in enumerate(region_pixels(bins, geom)):
            got = np.zeros(geom.npix_shape, bool)
            got[pixels.y[pixels.inside], pixels.x[pixels.inside]] = True
            expected = inside & (away > 44.5 * k) & (away < 44.5 * (k + 1))
            assert np.sum(got.ravel()[sky] != expected) <= 3  # chords instead of arcs
            assert expected.sum() > 50
    ring = PolygonSkyRegion(gal(np.arange(0, 360, 30), np.full(12, -20.0)))
    (pixels,) = region_pixels(ring, geom)
    assert np.all(geom.wcs.all_pix2world(pixels.x, pixels.y, 0)[1][pixels.inside] < -19)
    assert pixels.solid_angle.sum() < 2 * np.pi


def test_a_wcs_changed_in_place_has_other_pixels():
    geom = WcsGeom.create((0, 0), binsz=0.1, width=4, frame="galactic")
    circle = [CircleSkyRegion(gal(0.3, 1), 0.5 * DEG)]
    region_pixels(circle, geom), geom.solid_angle()
    geom.wcs.wcs.crval = [0.5, 0.0]
    geom.wcs.wcs.cdelt = [-0.05, 0.05]
    fresh = WcsGeom(geom.wcs, geom.npix_shape)
    [moved], [exact] = region_pixels(circle, geom), region_pixels(circle, fresh)
    assert_array_equal(moved.x, exact.x)
    assert_array_equal(moved.solid_angle, exact.solid_angle)
    assert_array_equal(geom.solid_angle(), fresh.solid_angle())


def test_pixels_of_regions_are_kept_until_others_are_asked_for(monkeypatch):
    """Regions count as the same by what they are, to the last bit, not by which objects."""
    looked_for = []
    original = module.shape_members

    def counted(*args):
        looked_for.append(len(args[0]))
        return original(*args)

    monkeypatch.setattr(module, "shape_members", counted)

    def map_geom():
        return WcsGeom.create(skydir=gal(0, 0), binsz=0.1, width=(6, 4), frame="galactic")

    geom = map_geom()

    def box(width, lon=0.0):
        return RectangleSkyRegion(gal(lon, 0), width * DEG, 1 * DEG)

    circle = CircleSkyRegion(gal(0, 0), 1 * DEG)

    def found(regions, on=geom):
        return [len(each) for each in region_pixels(regions, on)]

    assert found([box(2), box(1)]) == found([box(2), box(1)]) == [200, 100]
    assert looked_for == [2]
    for other in ([box(1), box(2)], [box(2)], [box(2 + 1e-9)], [box(2, 1e-9)], [circle]):
        looked_for.clear()
        assert found(other) == found(other, on=map_geom())
        assert len(looked_for) == 2  # once on each of the geometries
    both = found([CompoundSkyRegion(box(2), circle, operator.or_)])
    assert found([CompoundSkyRegion(box(2), circle, operator.and_)]) < both


def test_guard_bins_that_are_cut_are_told_from_regions():
    """Three regions of a pixel each and two guard bins: numbers begin again with these."""
    geom = WcsGeom.create(npix=(5, 1), binsz=1.0)
    columns = [RectangleSkyRegion(at, 1 * u.deg, 1 * u.deg) for at in geom.get_coord()[0]]
    pixels = member_pixels(module.region_members(sky_shapes(columns), geom), geom.npix_shape)
    whole = np.ones((1, len(pixels.y)))
    check_uncut(whole, pixels, "a", 3)
    for lost, names in (
        ([4], "guard bins 1 "),
        ([2, 3], "regions 2 and the guard bins 0 "),
    ):
        cut = replace(pixels, off_map=np.isin(np.arange(5), lost))
        with pytest.raises(ValueError, match=f"cuts the {names}"):
            check_uncut(whole, cut, "a", 3)
