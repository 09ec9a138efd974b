"""Region makers, pixel membership and profile axes."""

from __future__ import annotations

import importlib
import json
import operator

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import Sip
from numpy.testing import assert_allclose, assert_array_equal
from regions import (
    CircleAnnulusSkyRegion,
    CirclePixelRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseAnnulusSkyRegion,
    EllipseSkyRegion,
    PixCoord,
    PointSkyRegion,
    PolygonSkyRegion,
    RectangleAnnulusSkyRegion,
    RectangleSkyRegion,
    Regions,
)
from sphere_reference import members

from jaxprof.sky import WcsGeom
from jaxprof.sky.regions import (
    RegionGeom,
    make_concentric_annulus_sky_regions,
    make_grid_rectangle_sky_regions,
    make_orthogonal_rectangle_sky_regions,
    make_sector_sky_regions,
    profile_axis,
    region_centers,
    region_pixels,
    regions_to_frame,
)


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def icrs(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="icrs")


def car_geom(shape=(200, 400), scale=(0.05, 0.05)):
    width = (shape[1] * scale[0], shape[0] * scale[1])
    return WcsGeom.create(skydir=gal(0, 0), binsz=scale, width=width, frame="galactic", proj="CAR")


def tan_geom(scale=(0.02, 0.02), center=(83.6, 62.0)):
    return WcsGeom.create(skydir=icrs(*center), binsz=scale, width=(8, 6), frame="icrs", proj="TAN")


def box_numbers(regions):
    return [
        (
            r.center.spherical.lon.deg,
            r.center.spherical.lat.deg,
            r.width.to_value("deg"),
            r.height.to_value("deg"),
            r.angle.to_value("deg"),
        )
        for r in regions
    ]


# Numbers of gammapy 2.1 (the grid: its development version of November 2026).
GAMMAPY_CAR = [
    (2.375, -0.625, 1.4575746453274345, 1.5, 30.923948055073975),
    (1.125, 0.125, 1.4575746453274345, 1.5, 30.923948055073975),
    (359.875, 0.875, 1.4575746453274345, 1.5, 30.923948055073975),
    (358.625, 1.625, 1.4575746453274345, 1.5, 30.923948055073975),
]
GAMMAPY_TAN = [
    (81.86187932378209, 61.38132668933723, 1.1279281659259182, 0.7, 141.92990692968112),
    (83.65033920217033, 62.127314598849736, 1.1279281659259182, 0.7, 141.92990692968112),
    (85.52743513785671, 62.84902935960078, 1.1279281659259182, 0.7, 141.92990692968112),
]
GAMMAPY_GRID = [
    (359.6337160015033, -0.8662196558739709, 2.0, 1.0, 30.0),
    (0.1337217877474501, -0.00019042647860842977, 2.0, 1.0, 30.0),
    (0.6337275739916408, 0.8658388029167541, 2.0, 1.0, 30.0),
    (1.3662724260083594, -1.865838802916754, 2.0, 1.0, 30.0),
    (1.86627821225255, -0.9998095735213917, 2.0, 1.0, 30.0),
    (2.3662839984967405, -0.13378034412602915, 2.0, 1.0, 30.0),
]


def test_boxes_match_gammapy_across_lon_zero():
    geom = car_geom()
    boxes = make_orthogonal_rectangle_sky_regions(gal(3, -1), gal(358, 2), geom.wcs, "1.5 deg", 4)
    assert_allclose(box_numbers(boxes), GAMMAPY_CAR, rtol=1e-12, atol=1e-12)
    same = make_orthogonal_rectangle_sky_regions(gal(3, -1), gal(358, 2), geom, "1.5 deg", 4)
    assert box_numbers(same) == box_numbers(boxes)  # a WcsGeom serves as well


@pytest.mark.parametrize("nbin", [1, 3])
def test_boxes_match_gammapy_on_tan(nbin):
    wcs = tan_geom().wcs
    ends = icrs(81, 61), icrs(86.5, 63.2)
    boxes = make_orthogonal_rectangle_sky_regions(*ends, wcs, 0.7 * u.deg, nbin)
    middle = (83.65033920217033, 62.127314598849736, 3.3837844977777545, 0.7, 141.92990692968112)
    expected = GAMMAPY_TAN if nbin == 3 else [middle]
    assert_allclose(box_numbers(boxes), expected, rtol=1e-12)


def test_boxes_in_another_frame_keep_the_maps_angle():
    """gammapy 2.1 gives -26.095 deg here: the angle of the path in its own frame."""
    wcs = car_geom().wcs
    boxes = make_orthogonal_rectangle_sky_regions(
        gal(3, -1).icrs, gal(358, 2).icrs, wcs, "1.5 deg", 4
    )
    assert_allclose(box_numbers(boxes), GAMMAPY_CAR, rtol=1e-10, atol=1e-10)


def test_boxes_take_a_height_each():
    heights = [0.5, 1.0, 2.0] * u.deg
    boxes = make_orthogonal_rectangle_sky_regions(gal(3, 0), gal(0, 0), car_geom().wcs, heights, 3)
    assert [box.height.to_value("deg") for box in boxes] == [0.5, 1.0, 2.0]


def test_tangent_boxes_follow_the_line_on_the_map():
    """On the map, the width axis of each box is parallel to the line, also near a pole."""
    wcs = tan_geom(center=(83.6, 80)).wcs
    start, end = icrs(75, 79), icrs(95, 81)
    line = np.subtract(wcs.world_to_pixel(end), wcs.world_to_pixel(start))
    worst = {}
    for tangent in (False, True):
        boxes = make_orthogonal_rectangle_sky_regions(
            start, end, wcs, "0.5 deg", 5, tangent=tangent
        )
        slopes = []
        for box in boxes:
            tip = box.center.directional_offset_by(box.angle + 90 * u.deg, 1 * u.arcsec)
            arm = np.subtract(wcs.world_to_pixel(tip), wcs.world_to_pixel(box.center))
            cross = arm[0] * line[1] - arm[1] * line[0]
            slopes.append(abs(cross) / np.linalg.norm(arm) / np.linalg.norm(line))
        worst[tangent] = max(slopes)
    assert worst[True] < 2e-3 < 0.1 < worst[False]


def test_grid_matches_gammapy():
    grid = make_grid_rectangle_sky_regions(
        gal(1, -0.5), 4 * u.deg, 3 * u.deg, car_geom().wcs, 2, 3, 30 * u.deg
    )
    assert_allclose(box_numbers(grid), GAMMAPY_GRID, rtol=1e-11, atol=1e-11)
    tan = make_grid_rectangle_sky_regions(
        icrs(84, 62.5), "4 deg", "3 deg", tan_geom().wcs, nbinx=2, angle="20 deg"
    )
    expected = [
        (81.9413482355529, 62.82713078733001, 2.0, 3.0, 20.0),
        (86.01198661214781, 62.143250066052914, 2.0, 3.0, 20.0),
    ]
    assert_allclose(box_numbers(tan), expected, rtol=1e-12)


def test_tangent_grid_tiles_without_gap_or_overlap():
    geom = tan_geom(center=(83.6, 75))
    overlaps = {}
    for tangent in (False, True):
        grid = make_grid_rectangle_sky_regions(
            icrs(83.6, 75), "3 deg", "3 deg", geom.wcs, 3, 3, tangent=tangent
        )
        pixels = region_pixels(grid, geom)
        keys = np.concatenate([p.y * 10_000 + p.x for p in pixels])
        overlaps[tangent] = len(keys) - len(np.unique(keys))
    assert overlaps[True] < 0.25 * overlaps[False]


def test_annuli_match_gammapy_and_count_edges():
    annuli = make_concentric_annulus_sky_regions(gal(0, 0), 2 * u.deg, 0.5 * u.deg, 4)
    radii = [(r.inner_radius.to_value("deg"), r.outer_radius.to_value("deg")) for r in annuli]
    assert_allclose(radii, [(0.5, 1.0), (1.0, 1.5), (1.5, 2.0)], rtol=1e-14)
    assert len(make_concentric_annulus_sky_regions(center=gal(0, 0), nbin=11)) == 10
    last = make_concentric_annulus_sky_regions(gal(0, 0))[-1]
    assert last.outer_radius == 1.5 * u.deg


def polygon_solid_angle(vertices):
    """Area of a spherical polygon [sr]: fan of signed triangles (Oosterom & Strackee 1983)."""
    v = vertices.cartesian.xyz.value.T
    a, b, c = v[0], v[1:-1], v[2:]
    triple = np.einsum("j,ij->i", a, np.cross(b, c))
    cosines = 1 + b @ a + c @ a + np.einsum("ij,ij->i", b, c)
    return abs(np.sum(2 * np.arctan2(triple, cosines)))


@pytest.mark.parametrize("opening", [0.5, 60.0, 200.0, 359.0])
@pytest.mark.parametrize("inner", [0.0, 0.4])
def test_sector_solid_angle(opening, inner):
    sectors = make_sector_sky_regions(
        gal(30, 60),
        radius_max="10 deg",
        radius_min=inner * u.deg,
        nbin=3,
        position_angle="100 deg",
        opening_angle=opening * u.deg,
    )
    edges = np.deg2rad(np.linspace(inner, 10, 4))
    exact = -np.diff(np.cos(edges)) * np.deg2rad(opening)
    assert_allclose([polygon_solid_angle(s.vertices) for s in sectors], exact, rtol=1e-4)


def test_sectors_cover_the_wedge_on_the_map():
    """Pixels are those with the right distance and position angle; bins share none."""
    geom = tan_geom()
    center = icrs(83.6, 62)
    sectors = make_sector_sky_regions(
        center, "2 deg", nbin=4, position_angle="90 deg", opening_angle="70 deg"
    )
    x, y = np.meshgrid(np.arange(400.0), np.arange(300.0))
    sky = geom.wcs.pixel_to_world(x, y)
    r, pa = center.separation(sky).deg, center.position_angle(sky).deg
    for k, pixels in enumerate(region_pixels(sectors, geom)):
        mine = np.zeros(x.shape, dtype=bool)
        mine[pixels.y, pixels.x] = True
        truth = (r > 0.5 * k) & (r <= 0.5 * (k + 1)) & (abs(pa - 90) < 35)
        near = (
            (abs(r - 0.5 * np.round(r / 0.5)) < 1e-3) | (abs(abs(pa - 90) - 35) < 0.3) | (r < 0.03)
        )
        assert_array_equal(mine[~near], truth[~near])
        assert truth.sum() > 300


def shapes(center):
    ring = center.directional_offset_by(np.linspace(0, 300, 6) * u.deg, [0.5, 1] * 3 * u.deg)
    return [
        RectangleSkyRegion(center, 2 * u.deg, 0.7 * u.deg),
        RectangleSkyRegion(center, 0.02 * u.rad, 50 * u.arcmin, 0.5 * u.rad),
        RectangleSkyRegion(center, 1 * u.deg, 1 * u.deg, 75 * u.deg),
        RectangleSkyRegion(center, 0.3 * u.deg, 1.9 * u.deg, -140 * u.deg),
        CircleSkyRegion(center, 1.1 * u.deg),
        CircleSkyRegion(center, 33 * u.arcmin),
        CircleAnnulusSkyRegion(center, 0.4 * u.deg, 1.2 * u.deg),
        EllipseSkyRegion(center, 2 * u.deg, 1 * u.deg, 20 * u.deg),
        EllipseSkyRegion(center, 1 * u.deg, 1.5 * u.deg, 200 * u.deg),
        EllipseAnnulusSkyRegion(center, 0.5 * u.deg, 1 * u.deg, 1 * u.deg, 2 * u.deg, 30 * u.deg),
        RectangleAnnulusSkyRegion(center, 0.5 * u.deg, 1 * u.deg, 1 * u.deg, 2 * u.deg),
        PolygonSkyRegion(ring),
        CompoundSkyRegion(
            CircleSkyRegion(center, 1 * u.deg),
            RectangleSkyRegion(center, 3 * u.deg, 0.3 * u.deg, 10 * u.deg),
            operator.xor,
        ),
    ]


def test_box_of_another_frame_keeps_its_place_on_the_sky():
    """Corners of an ICRS box on a Galactic map, where north is turned by 59 degrees."""
    geom = car_geom()
    center = gal(1, 0.5).icrs
    box = RectangleSkyRegion(center, 2 * u.deg, 0.5 * u.deg, 30 * u.deg)
    x, y = np.meshgrid(np.arange(400.0), np.arange(200.0))
    sky = geom.wcs.pixel_to_world(x, y).icrs
    r, pa = center.separation(sky).deg, center.position_angle(sky).deg
    along, across = r * np.cos(np.deg2rad(pa - 30 - 90)), r * np.sin(np.deg2rad(pa - 30 - 90))
    truth = (abs(along) < 1) & (abs(across) < 0.25)
    near = (abs(abs(along) - 1) < 0.01) | (abs(abs(across) - 0.25) < 0.01)
    compound = CompoundSkyRegion(box, CircleSkyRegion(gal(8, 3), 0.1 * u.deg), operator.or_)
    for pixels in region_pixels([box, compound], geom):
        mine = np.zeros(truth.shape, dtype=bool)
        mine[pixels.y, pixels.x] = True
        far = np.hypot(x - 39.5, y - 159.5) > 4
        assert_array_equal((mine & far)[~near], truth[~near])
    own = RectangleSkyRegion(gal(1, 0.5), 2 * u.deg, 0.5 * u.deg, 30 * u.deg)
    assert regions_to_frame(own, geom.wcs)[0] is own


def test_region_the_map_cannot_show_has_no_pixels():
    geom = tan_geom()
    far = icrs(263.6, -62)
    members = region_pixels(shapes(far) + [CircleSkyRegion(icrs(83.6, 62), 1 * u.deg)], geom)
    assert [len(p) for p in members[:-1]] == [0] * len(shapes(far))
    assert len(members[-1]) > 1000
    half = CompoundSkyRegion(
        CircleSkyRegion(far, 1 * u.deg), CircleSkyRegion(icrs(83.6, 62), 1 * u.deg), operator.or_
    )
    assert len(region_pixels(half, geom)[0]) == len(members[-1])


def test_distorted_wcs():
    """SIP distortions move the centres of pixels by up to a pixel here."""
    geom = tan_geom()
    wcs = geom.wcs.deepcopy()
    wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    a = np.zeros((3, 3))
    a[2, 0] = 1e-5
    wcs.sip = Sip(a, a.T, None, None, wcs.wcs.crpix)
    bent = WcsGeom(wcs, geom.npix_shape)
    y, x = (v.ravel() for v in np.indices(geom.npix_shape))
    coords = wcs.pixel_to_world(x, y)
    regions = shapes(icrs(83.3, 61.5))
    for region, pixels in zip(regions, region_pixels(regions, bent), strict=True):
        got = np.zeros(geom.npix_shape, bool)
        got[pixels.y, pixels.x] = True
        assert_array_equal(got.ravel(), members(region, coords))


def test_solid_angle_of_a_circle():
    geom = car_geom()
    pixels = region_pixels(CircleSkyRegion(gal(0, 0), 1.5 * u.deg), geom)[0]
    cap = 2 * np.pi * (1 - np.cos(np.deg2rad(1.5)))
    assert_allclose(pixels.solid_angle.sum(), cap, rtol=2e-3)


@pytest.fixture
def cases(reference_dir):
    paths = sorted(reference_dir.glob("*/config.json"))
    assert len(paths) >= 13
    return [(path.parent, json.loads(path.read_text())) for path in paths]


def test_reference_pixel_counts(cases):
    geom = car_geom()
    checked = 0
    for folder, _ in cases:
        if not (folder / "result.json").exists():
            continue
        expected = json.loads((folder / "result.json").read_text())["n_pix"]
        regions = Regions.read(folder / "regions.reg", format="ds9")
        assert [p.inside.sum() for p in region_pixels(regions, geom)] == expected
        checked += 1
    assert checked >= 12


def test_makers_give_the_reference_regions(cases):
    wcs = car_geom().wcs
    for _, config in cases:
        listed = config["regions"]
        lon, lat = [r["lon_deg"] for r in listed], [r["lat_deg"] for r in listed]
        if listed[0]["type"] == "CircleAnnulusSkyRegion":
            inner = [r["inner_radius_deg"] for r in listed]
            outer = [r["outer_radius_deg"] for r in listed]
            made = make_concentric_annulus_sky_regions(
                gal(lon[0], lat[0]), outer[-1] * u.deg, inner[0] * u.deg, len(listed) + 1
            )
            axis = profile_axis(made)
            assert_allclose(axis.min, inner, rtol=1e-12)
            assert_allclose(axis.max, outer, rtol=1e-12)
        else:
            width = listed[0]["width_deg"]
            ends = gal(lon[0] + width / 2, 0), gal(lon[-1] - width / 2, 0)
            made = make_orthogonal_rectangle_sky_regions(
                *ends, wcs, listed[0]["height_deg"] * u.deg, len(listed)
            )
            found = np.array(box_numbers(made))
            assert_allclose((found[:, 0] - lon + 180) % 360 - 180, 0, atol=1e-9)
            sizes = [(r["lat_deg"], r["width_deg"], r["height_deg"], 0.0) for r in listed]
            assert_allclose(found[:, 1:], sizes, rtol=1e-10, atol=1e-10)


def test_axis_of_boxes():
    wcs = car_geom().wcs
    row = make_orthogonal_rectangle_sky_regions(gal(2, 0), gal(358, 0), wcs, 3 * u.deg, 4)
    axis = profile_axis(row)
    assert (axis.name, axis.unit, len(axis)) == ("projected-distance", "deg", 4)
    assert_allclose(axis.ref, [0, 1, 2, 3], atol=1e-12)
    assert_allclose(axis.min, [-0.5, 0.5, 1.5, 2.5], atol=1e-9)
    assert_allclose(axis.max, [0.5, 1.5, 2.5, 3.5], atol=1e-9)
    column = [RectangleSkyRegion(gal(0, b), 3 * u.deg, 0.4 * u.deg) for b in (0, 0.5, 1)]
    assert_allclose(profile_axis(column).max, [0.2, 0.7, 1.2], atol=1e-9)  # their height
    oblique = make_orthogonal_rectangle_sky_regions(gal(3, -1), gal(358, 2), wcs, "1.5 deg", 4)
    axis = profile_axis(oblique)
    assert_allclose(axis.max - axis.min, 1.45757, rtol=1e-4)
    assert_allclose(axis.max[:-1], axis.min[1:], atol=1e-3)


def test_axis_of_rings_wedges_circles_and_the_rest():
    rings = profile_axis(make_concentric_annulus_sky_regions(gal(0, 0), "2 deg", "0.5 deg", 4))
    assert_allclose(
        (rings.min, rings.ref, rings.max), [(0.5, 1, 1.5), (0.75, 1.25, 1.75), (1, 1.5, 2)]
    )
    wedge = make_sector_sky_regions(
        gal(0, 0), "2 deg", nbin=4, position_angle="0 deg", opening_angle="40 deg"
    )
    assert_allclose(profile_axis(wedge).ref, [0.25, 0.75, 1.25, 1.75])
    circles = [CircleSkyRegion(gal(x, 0), 0.2 * u.deg) for x in (1, 0.4, 359.5)]
    axis = profile_axis(circles)
    assert_allclose((axis.min, axis.max), [(-0.2, 0.4, 1.3), (0.2, 0.8, 1.7)], atol=1e-9)
    ellipses = [EllipseSkyRegion(gal(x, 0), 0.4 * u.deg, 1 * u.deg, 90 * u.deg) for x in (0, 2)]
    assert_allclose(profile_axis(ellipses).max, [0.5, 2.5], atol=1e-9)
    unions = [CompoundSkyRegion(c, c, operator.or_) for c in circles]
    axis = profile_axis(unions)
    assert_allclose((axis.min, axis.max), [(-0.3, 0.3, 1.05), (0.3, 1.05, 1.95)], atol=1e-9)


def test_axis_falls_back_on_the_index():
    circles = [CircleSkyRegion(gal(x, 0), 0.2 * u.deg) for x in (0, 2, 1)]
    axis = profile_axis(circles)
    assert (axis.name, axis.unit) == ("region-index", "")
    assert_array_equal(axis.min, [-0.5, 0.5, 1.5])
    assert profile_axis(circles[:1]).name == "projected-distance"
    assert profile_axis(CompoundSkyRegion(*circles[:2], operator.or_)).name == "region-index"


def test_region_centers_mix_frames():
    mixed = [CircleSkyRegion(gal(1, 2), 1 * u.deg), CircleSkyRegion(gal(3, 4).icrs, 1 * u.deg)]
    square = gal([4, 6, 6, 4], [-1, -1, 1, 1])
    centers = region_centers([*mixed, PolygonSkyRegion(square)])
    assert centers.frame.name == "galactic"
    assert_allclose(centers.l.deg, [1, 3, 5], atol=1e-10)
    assert_allclose(centers.b.deg, [2, 4, 0], atol=1e-10)


def test_region_geom():
    annuli = make_concentric_annulus_sky_regions(gal(0, 0), nbin=11)
    geom = RegionGeom.create(region=annuli)
    assert len(geom) == 10 and list(geom) == annuli
    assert "10 CircleAnnulusSkyRegion" in str(geom)
    assert "projected-distance, 1e-05 to 1.5 deg" in str(geom)
    assert repr(geom) == "<RegionGeom: 10 regions>"
    assert len(RegionGeom.create(region=annuli[0])) == 1
    assert len(RegionGeom.create(Regions(annuli))) == 10
    assert RegionGeom.create(geom).regions == annuli


CIRCLE = CircleSkyRegion(gal(0, 0), 1 * u.deg)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], "regions is empty"),
        (Regions([]), "regions is empty"),
        ("a.reg", "Regions.read"),
        ([CIRCLE, CirclePixelRegion(PixCoord(1, 2), 3)], r"regions\[1\].*to_sky\(wcs\)"),
        (3.0, r"regions\[0\] is a float"),
        ([CIRCLE, None], r"regions\[1\] is a NoneType"),
        (PointSkyRegion(gal(0, 0)), "no area"),
        ([CIRCLE, CIRCLE.copy(meta={"include": False})], r"regions\[1\] is marked as an exclusion"),
    ],
)
def test_bad_regions(regions, message):
    for function in (RegionGeom.create, profile_axis, lambda r: region_pixels(r, car_geom())):
        with pytest.raises(ValueError, match=message):
            function(regions)


LINE = (gal(3, 0), gal(357, 0), car_geom().wcs)


@pytest.mark.parametrize(
    ("maker", "args", "kwargs", "message"),
    [
        ("orthogonal", (*LINE, "1 deg", 0), {}, "nbin is 0"),
        ("orthogonal", (*LINE, "1 deg", 2.5), {}, "nbin is 2.5"),
        ("orthogonal", (gal(3, 0), gal(3, 0), LINE[2], "1 deg"), {}, "same position"),
        ("orthogonal", (*LINE, 1 * u.m), {}, "height is"),
        ("orthogonal", (*LINE, 3.0), {}, "height is 3.0; give an angle with its unit"),
        ("orthogonal", (*LINE, "-1 deg"), {}, "height is.*positive"),
        ("orthogonal", (*LINE, [1, 2] * u.deg, 3), {}, "one angle or 3"),
        ("orthogonal", ((3, 0), LINE[1], LINE[2], "1 deg"), {}, "start_pos is"),
        ("orthogonal", (*LINE[:2], None, "1 deg"), {}, "wcs is not"),
        ("orthogonal", (*LINE[:2], tan_geom().wcs, "1 deg"), {}, "start_pos leads to"),
        ("orthogonal", (gal(179, 0), gal(181, 0), LINE[2], "1 deg"), {}, "across its seam"),
        ("grid", (gal(0, 0), "1 deg", "1 deg", LINE[2], 0), {}, "nbinx is 0"),
        ("grid", (gal(0, 0), "1 m", "1 deg", LINE[2]), {}, "width is '1 m'"),
        ("grid", (gal(0, 0), "0 deg", "1 deg", LINE[2]), {}, "width is 0.0 deg; give a positive"),
        ("annulus", (gal(0, 0),), {"nbin": 0}, "nbin is 0"),
        ("annulus", (gal(0, 0),), {"nbin": 1}, "nbin counts edges"),
        ("annulus", (gal(0, 0), "1 deg", "1 deg"), {}, "radius_max is 1.0 deg"),
        ("annulus", (gal(0, 0), "1 deg", "-1 deg"), {}, "radius_min is -1.0 deg"),
        ("annulus", (gal(0, 0),), {"edges": [0.5, 0.2] * u.deg}, "two or more radii that increase"),
        ("annulus", (gal(0, 0),), {"spacing": "sqrt"}, "valid are 'lin' and 'log'"),
        ("annulus", (gal(0, 0), 2.0), {}, "radius_max is 2.0"),
        ("annulus", (gal([0, 1], [0, 0]),), {}, "give one astropy SkyCoord"),
        ("sector", (gal(0, 0),), {"opening_angle": "360 deg"}, "make_concentric_annulus"),
        ("sector", (gal(0, 0),), {"opening_angle": "0 deg"}, "opening_angle is"),
        ("sector", (gal(0, 0),), {"nbin": 0}, "nbin is 0"),
        ("sector", (gal(0, 0), "1 deg", "-1 deg"), {}, "radius_min is -1.0 deg"),
        ("sector", (gal(0, 0), "1 deg", "2 deg"), {}, "radius_max is 1.0 deg"),
        ("sector", (gal(0, 0), "100 deg"), {}, "below 90 deg"),
    ],
)
def test_bad_arguments(maker, args, kwargs, message):
    makers = {
        "orthogonal": make_orthogonal_rectangle_sky_regions,
        "grid": make_grid_rectangle_sky_regions,
        "annulus": make_concentric_annulus_sky_regions,
        "sector": make_sector_sky_regions,
    }
    if maker == "sector":
        kwargs = {"position_angle": "0 deg", "opening_angle": "40 deg", **kwargs}
    with pytest.raises(ValueError, match=message):
        makers[maker](*args, **kwargs)


def test_the_path_of_earlier_versions():
    earlier = importlib.import_module("jaxprof.regions.geom")
    sky_regions = importlib.import_module("jaxprof.sky.regions")

    assert earlier.ProfileAxis is sky_regions.ProfileAxis
    assert earlier.RegionGeom is sky_regions.RegionGeom
