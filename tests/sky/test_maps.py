"""Axes, geometries and maps.

Numbers marked "gammapy" were computed once with gammapy 2.1.
"""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

CRAB = SkyCoord(83.63, 22.01, unit="deg", frame="icrs")


@pytest.fixture
def energy_axis():
    return MapAxis.from_energy_bounds("10 GeV", "500 GeV", 4)


@pytest.fixture
def geom(energy_axis):
    return WcsGeom.create((0, 0), binsz=0.5, width=(10, 6), frame="galactic", axes=[energy_axis])


# --- axes


def test_log_axis_has_geometric_centres_and_converts_to_tev(energy_axis):
    np.testing.assert_allclose(energy_axis.edges.value[[0, -1]], [10, 500], rtol=1e-14)
    assert energy_axis.unit == u.GeV and energy_axis.nbin == 4
    edges = energy_axis.edges_tev()
    np.testing.assert_allclose(edges[1:] / edges[:-1], 50**0.25, rtol=1e-13)
    np.testing.assert_allclose(
        energy_axis.center_tev(), np.sqrt(edges[1:] * edges[:-1]), rtol=1e-13
    )
    np.testing.assert_allclose(edges[[0, -1]], [0.01, 0.5], rtol=1e-13)
    np.testing.assert_allclose(energy_axis.bin_width.to_value("TeV"), np.diff(edges), rtol=1e-12)


def test_bins_per_decade():
    axis = MapAxis.from_energy_bounds("10 GeV", "500 GeV", 3, per_decade=True)
    # gammapy
    expected = [10, 19.193831036664843, 36.840314986403854, 70.71067811865471]
    np.testing.assert_allclose(axis.edges.value[:4], expected, rtol=1e-13)
    assert axis.nbin == 6
    # A whole number of decades must not gain a bin by rounding.
    assert MapAxis.from_energy_bounds(0.001, 1000, 5, unit="TeV", per_decade=True).nbin == 30


def test_nodes_give_edges_half_way_in_the_scale_of_the_axis():
    axis = MapAxis.from_nodes([10, 20, 50] * u.GeV, name="energy_true", interp="log")
    # gammapy
    expected = [7.071067811865478, 14.142135623730955, 31.62277660168379, 79.05694150420948]
    np.testing.assert_allclose(axis.edges.value, expected, rtol=1e-13)
    np.testing.assert_array_equal(axis.center.value, [10, 20, 50])
    assert axis.node_type == "center"
    linear = MapAxis.from_nodes([0, 1, 3], name="rad", unit="deg")
    np.testing.assert_allclose(linear.edges.value, [-0.5, 0.5, 2, 4])


def test_axis_from_quantities_of_other_units():
    axis = MapAxis.from_edges([1 * u.GeV, 1 * u.TeV], name="energy", interp="log")
    assert axis.unit == u.GeV
    np.testing.assert_allclose(axis.edges.value, [1, 1000])
    same = MapAxis([1, 1000] * u.GeV, name="energy", unit="TeV")
    assert same.unit == u.TeV
    assert axis.is_allclose(same)


def test_axes_compare_by_name_and_edges(energy_axis):
    single = np.float32(energy_axis.edges.value)
    assert energy_axis.is_allclose(MapAxis(single, name="energy", unit="GeV", interp="log"))
    assert not energy_axis.is_allclose(energy_axis.rename("energy_true"))
    shifted = MapAxis(energy_axis.edges * (1 + 1e-4), name="energy", interp="log")
    assert not energy_axis.is_allclose(shifted)
    other_unit = MapAxis(energy_axis.edges.value, name="energy", unit="deg")
    assert not energy_axis.is_allclose(other_unit)
    assert energy_axis.squash().nbin == 1
    assert "4 bins" in repr(energy_axis)


@pytest.mark.parametrize(
    ("edges", "kwargs", "message"),
    [
        ([1, 1, 2], {}, "strictly increasing"),
        ([2, 1], {}, "strictly increasing"),
        ([1], {}, "at least 2"),
        ([0, 1], {"interp": "log"}, "positive"),
        ([1, np.nan], {}, "finite"),
        ([[1, 2]], {}, "one-dimensional"),
        ([1, 2], {"interp": "cubic"}, "interp"),
        ([1, 2, 3], {"center": [1.5, 1.7]}, "center"),
    ],
)
def test_bad_axes_are_refused(edges, kwargs, message):
    with pytest.raises(ValueError, match=message):
        MapAxis(edges, name="energy", **kwargs)


def test_bad_energy_bounds_are_refused():
    with pytest.raises(ValueError, match="energy_min"):
        MapAxis.from_energy_bounds("2 TeV", "1 TeV", 3)
    with pytest.raises(ValueError, match="nbin"):
        MapAxis.from_energy_bounds("1 TeV", "2 TeV", 0)
    with pytest.raises(ValueError, match="at least 2"):
        MapAxis.from_nodes([1], name="energy")
    with pytest.raises(ValueError, match=r"not an energy|not\s+an"):
        MapAxis([1, 2], name="rad", unit="deg").edges_tev()


# --- geometries


def test_created_wcs_places_pixels_as_gammapy_does():
    geom = WcsGeom.create((83.63, 22.01), binsz=(0.2, 0.1), width=(1, 0.4), proj="TAN")
    assert geom.npix_shape == (4, 5)
    assert geom.frame == "icrs"
    coord = geom.get_coord()
    # gammapy
    lon = [84.06098009693716, 83.8454930966621, 83.63, 83.4145069033379, 83.19901990306283]
    lat = [21.859440205791618, 21.8598603044228, 21.860000342693183]
    np.testing.assert_allclose(coord.ra.deg[0], lon, rtol=1e-13)
    np.testing.assert_allclose(coord.dec.deg[0, :3], lat, rtol=1e-13)
    assert geom.center_skydir.separation(CRAB) < 1e-9 * u.deg
    np.testing.assert_allclose(geom.width.to_value("deg"), [1, 0.4])
    np.testing.assert_allclose(geom.pixel_scales.to_value("deg"), [0.2, 0.1])
    assert "TAN" in repr(geom)


def test_created_wcs_in_another_frame_than_its_centre():
    geom = WcsGeom.create(CRAB, binsz=(0.2, 0.1), width=(1, 0.4), frame="galactic")
    coord = geom.get_coord()
    # gammapy
    np.testing.assert_allclose(coord.l.deg[0, 0], 184.96189736786363, rtol=1e-13)
    np.testing.assert_allclose(coord.b.deg[0, 0], -5.939038552019673, rtol=1e-13)


def test_solid_angles_of_the_whole_sky_add_up():
    sky = WcsGeom.create(binsz=3)
    assert sky.npix_shape == (60, 120)
    area = sky.solid_angle().to_value("sr")
    np.testing.assert_allclose(area.sum(), 4 * np.pi, rtol=2e-9)
    # Each row is a zone between two latitudes.
    ends = np.sin(np.deg2rad(np.arange(-90, 91, 3)))
    np.testing.assert_allclose(area, np.deg2rad(3) * np.diff(ends)[:, None] + 0 * area, rtol=3e-8)


@pytest.mark.parametrize("proj", ["CAR", "AIT", "MOL", "ZEA", "SIN", "TAN"])
def test_solid_angles_are_those_of_the_projected_pixels(proj):
    """Closed forms: CAR rows are zones, TAN and SIN have known densities, others none."""
    geom = WcsGeom.create((10, 0), binsz=4, npix=(90, 45), frame="galactic", proj=proj)
    area = geom.solid_angle().to_value("sr")
    y, x = (
        np.deg2rad(4) * (v - (n - 1) / 2)
        for v, n in zip(np.indices((45, 90)), (45, 90), strict=True)
    )
    node, weight = np.polynomial.legendre.leggauss(12)
    step = np.deg2rad(2) * node
    radius = np.hypot(x[..., None, None] + step, y[..., None, None] + step[:, None])
    with np.errstate(invalid="ignore"):
        density = {
            "CAR": np.cos(y[..., None, None] + step[:, None] + 0 * step),
            "TAN": (1 + radius**2) ** -1.5,
            "SIN": 1 / np.sqrt(1 - radius**2),
        }.get(proj, np.ones_like(radius))
    exact = np.einsum("yxij,i,j->yx", density, weight, weight) * np.deg2rad(2) ** 2
    inner = radius.max(axis=(-1, -2)) < (0.9 if proj == "SIN" else 1.3)
    np.testing.assert_allclose(area[inner], exact[inner], rtol=5e-6)
    whole = {"CAR": 1, "AIT": 1, "MOL": 1, "ZEA": None, "SIN": 0.5, "TAN": None}[proj]
    if whole is not None:  # pixels on the rim have the area of their part on the sky
        rtol = 5e-2 if proj == "SIN" else 1e-4
        np.testing.assert_allclose(area.sum(), 4 * np.pi * whole, rtol=rtol)


def test_solid_angles_on_the_equator_match_the_closed_form(geom):
    # A CAR pixel is bounded by parallels, the quadrangle by great circles: they differ
    # by the square of the pixel size.
    rows = np.deg2rad(-3 + 0.5 * np.arange(13))
    expected = np.deg2rad(0.5) * np.diff(np.sin(rows))
    np.testing.assert_allclose(geom.solid_angle().value[:, 0], expected, rtol=1e-5)
    fine = WcsGeom.create(binsz=0.001, npix=(2, 2)).solid_angle().value
    np.testing.assert_allclose(fine, np.deg2rad(0.001) ** 2, rtol=1e-9)


def test_pixel_solid_angle_goes_on_off_the_map(geom):
    y, x = np.indices(geom.npix_shape)
    np.testing.assert_allclose(geom.pixel_solid_angle(x, y), geom.solid_angle().value, rtol=1e-12)
    larger = WcsGeom.create((0, 0), binsz=0.5, width=(20, 16), frame="galactic")
    off = geom.pixel_solid_angle(np.array([-3, 4, 22]), np.array([2, -5, 13]))
    dy, dx = 10, 10
    inside = larger.solid_angle().value[np.array([2, -5, 13]) + dy, np.array([-3, 4, 22]) + dx]
    np.testing.assert_allclose(off, inside, rtol=1e-12)


@pytest.mark.parametrize("proj", ["AIT", "ZEA", "TAN", "SIN", "CAR"])
def test_solid_angle_is_zero_off_the_projection(proj):
    geom = WcsGeom.create(binsz=2, proj=proj)
    area = geom.pixel_solid_angle([0, 90, -500, 10**6], [0, 45, 300, 0])
    assert np.all(np.isfinite(area)) and np.all(area >= 0)
    np.testing.assert_allclose(area[1], np.deg2rad(2) ** 2, rtol=2e-3)
    if proj != "TAN":
        assert np.all(area[2:] == 0)


def test_pixel_index_of_positions_on_and_off_the_map(geom):
    coord = SkyCoord([0.1, 4.9, 30, 0], [0.1, -2.9, 0, 80], unit="deg", frame="galactic")
    y, x, inside = geom.pixel_index(coord.icrs)
    np.testing.assert_array_equal(inside, [True, True, False, False])
    np.testing.assert_array_equal((y[0], x[0], y[1], x[1]), (6, 9, 0, 0))


def random_header(rng):
    """Cards of a random grid, and the same with one change that may or may not move pixels."""
    proj = rng.choice(["CAR", "TAN", "AIT", "ZEA", "SIN", "MOL"])
    size = rng.choice([0.05, 0.5, 3.0])
    lat = rng.choice([0.0, 35.0, rng.uniform(-80, 80)])
    cards = {"CTYPE1": f"GLON-{proj}", "CTYPE2": f"GLAT-{proj}", "CRPIX1": 12.5, "CRPIX2": 10.5}
    cards |= {"CRVAL1": rng.uniform(0, 360), "CRVAL2": lat, "CDELT1": -size, "CDELT2": 2 * size}
    key = rng.choice(["LONPOLE", "LATPOLE", "PV1_1", "PV1_2", "PV2_1", "CD", "PC", "CRPIX1"])
    angle = rng.choice([0.0, 1e-8, 0.02, 1.0])
    cosine, sine = np.cos(angle), np.sin(angle)
    other = dict(cards)
    if key == "CD":
        low, high = other.pop("CDELT1"), other.pop("CDELT2")
        other |= {"CD1_1": low * cosine, "CD1_2": -high * sine}
        other |= {"CD2_1": low * sine, "CD2_2": high * cosine}
    elif key == "PC":
        other |= {"PC1_1": cosine, "PC1_2": 2 * sine, "PC2_1": -sine / 2, "PC2_2": cosine}
    elif key == "CRPIX1":
        other[key] += rng.choice([1e-6, 0.01, 1.0])
    else:
        other[key] = rng.choice([0.0, 0.7, 30.0, 90.0, 180.0, lat])
    return key, cards, other


def directions(wcs, x, y):
    lon, lat = np.deg2rad(wcs.wcs_pix2world(x, y, 0))
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def test_pixels_are_the_same_exactly_when_their_positions_are():
    """Whatever the headers say: against positions of random points on the map by wcslib."""
    rng = np.random.default_rng(8)
    shape, seen = (20, 24), {True: set(), False: set()}
    x, y = rng.uniform(-0.5, 23.5, 1000), rng.uniform(-0.5, 19.5, 1000)
    for _ in range(200):
        key, cards, other = random_header(rng)
        try:
            pair = [WCS(fits.Header(header), fix=False) for header in (cards, other)]
        except ValueError:  # not every LONPOLE goes with every CRVAL2
            continue
        here, there = (directions(wcs, x, y) for wcs in pair)
        distance = np.rad2deg(np.linalg.norm(here - there, axis=0)) / abs(cards["CDELT1"])
        lost = np.isfinite(here[0]) != np.isfinite(there[0])
        same = not lost.any() and np.nanmax(distance) < 1e-3
        # No case is near the limit.
        assert same == bool(not lost.any() and np.nanmax(distance) < 1e-4), (cards, other)
        geoms = [WcsGeom(wcs, shape) for wcs in pair]
        assert geoms[0].is_allclose_image(geoms[1]) == same, (cards, other)
        seen[same].add(key)
    assert seen[True] == seen[False] and len(seen[True]) == 8


def test_geometries_compare(geom, energy_axis):
    again = WcsGeom.create((0, 0), binsz=0.5, width=(10, 6), frame="galactic", axes=[energy_axis])
    assert geom.is_allclose(again)
    shifted = WcsGeom.create((0.1, 0), binsz=0.5, width=(10, 6), frame="galactic")
    assert not geom.is_allclose_image(shifted)
    assert geom.is_allclose_image(again.to_image()) and not geom.is_allclose(again.to_image())
    other = WcsGeom.create((0, 0), binsz=0.5, width=(10, 6), frame="icrs")
    assert not geom.is_allclose_image(other)
    with pytest.raises(ValueError, match="no axis 'rad'"):
        geom.axis("rad")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frame": "altaz"}, "frame"),
        ({"binsz": -1}, "binsz"),
        ({"binsz": (1, 2, 3)}, "binsz"),
        ({"width": "0 deg"}, "width"),
    ],
)
def test_bad_geometries_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WcsGeom.create(**kwargs)


# --- maps


def test_map_prints_like_gammapy(geom):
    text = str(WcsNDMap(geom, np.zeros(geom.data_shape, ">i4"), unit="cm2 s"))
    assert "axes  : ['lon', 'lat', 'energy']" in text
    assert "shape : (20, 12, 4)" in text
    assert "unit  : cm2 s" in text
    assert "dtype : >i4" in text


def test_data_must_fit_the_geometry(geom):
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        WcsNDMap(geom, np.zeros((3, 3)))
    assert WcsNDMap(geom, 2.0).data.shape == (4, 12, 20)
    assert WcsNDMap(geom).data.sum() == 0
    map_ = WcsNDMap(geom, np.ones(geom.data_shape) * u.m)
    assert map_.unit == u.m and map_.quantity.unit == u.m


def test_sum_over_axes_keeps_axes_of_one_bin(geom):
    data = np.arange(np.prod(geom.data_shape), dtype=">i4").reshape(geom.data_shape)
    image = WcsNDMap(geom, data).sum_over_axes()
    assert image.data.shape == (1, 12, 20)
    assert image.geom.axes[0].nbin == 1
    np.testing.assert_array_equal(image.data[0], data.sum(axis=0))


def test_smooth_agrees_with_gammapy():
    geom = WcsGeom.create(binsz=0.1, width=(0.5, 0.4))
    map_ = WcsNDMap(geom, np.arange(20.0).reshape(4, 5))
    # gammapy, gaussian of one pixel
    expected = [2.56157655, 3.20235763, 4.1345356, 5.06671356, 5.70749465]
    smoothed = map_.smooth("0.1 deg")
    np.testing.assert_allclose(smoothed.data, map_.smooth(1).data, rtol=1e-12)
    np.testing.assert_allclose(smoothed.data.sum(), map_.data.sum(), rtol=1e-12)
    np.testing.assert_allclose(smoothed.data[0], expected, rtol=1e-8)


def test_smooth_is_round_on_the_sky_and_leaves_other_planes_alone(energy_axis):
    geom = WcsGeom.create(binsz=(0.2, 0.1), width=(8, 8), axes=[energy_axis])
    map_ = WcsNDMap(geom)
    map_.data[2, 40, 20] = 1
    smoothed = map_.smooth("0.5 deg").data
    assert smoothed[[0, 1, 3]].sum() == 0
    y, x = np.indices(geom.npix_shape)
    np.testing.assert_allclose(np.sum(smoothed[2] * ((x - 20) * 0.2) ** 2), 0.25, rtol=1e-2)
    np.testing.assert_allclose(np.sum(smoothed[2] * ((y - 40) * 0.1) ** 2), 0.25, rtol=1e-2)


def test_smooth_refuses_unknown_kernels(geom):
    with pytest.raises(ValueError, match="kernel"):
        WcsNDMap(geom).smooth(1, kernel="top-hat")
    with pytest.raises(ValueError, match="width"):
        WcsNDMap(geom).smooth("-1 deg")
    with pytest.raises(ValueError, match="width is '3 TeV'"):
        WcsNDMap(geom).smooth("3 TeV")


def test_smooth_by_boxes_and_disks():
    geom = WcsGeom.create(binsz=0.1, npix=(21, 21))
    point = np.zeros(geom.data_shape)
    point[10, 10] = 1.0
    box = WcsNDMap(geom, point).smooth(3, kernel="box").data
    np.testing.assert_allclose(box[9:12, 9:12], 1 / 9, rtol=1e-12)
    assert box[10, 12] == 0
    disk = WcsNDMap(geom, point).smooth("0.5 deg", kernel="disk").data
    np.testing.assert_allclose(disk.sum(), 1.0, rtol=1e-12)
    # The mean square radius of a disk is half the square of its radius [pixels].
    y, x = np.indices(disk.shape) - 10
    np.testing.assert_allclose((disk * (x**2 + y**2)).sum(), 12.5, rtol=0.02)


def test_cutout_keeps_sky_positions(geom):
    map_ = WcsNDMap(geom, np.random.default_rng(0).random(geom.data_shape))
    position = SkyCoord(1.1, 0.6, unit="deg", frame="galactic")
    part = map_.cutout(position, (3, "2 deg"))
    assert part.geom.npix_shape == (4, 6)
    coord = part.geom.get_coord()
    np.testing.assert_array_equal(part.data.reshape(4, -1), map_.sample(coord).reshape(4, -1))
    corner = map_.cutout(SkyCoord(4.8, 2.9, unit="deg", frame="galactic"), 2)
    assert corner.geom.npix_shape == (2, 2)
    with pytest.raises(ValueError, match="width is 'x', which is no angle"):
        map_.cutout(position, "x")
    with pytest.raises(ValueError, match="position is .*give one astropy SkyCoord"):
        map_.cutout((0, 0), 1)
    with pytest.raises(ValueError, match="off the map"):
        map_.cutout(SkyCoord(40, 0, unit="deg", frame="galactic"), 2)


def test_sample_is_nan_off_the_map(geom):
    map_ = WcsNDMap(geom, np.full(geom.data_shape, 3, dtype=np.int32))
    coord = SkyCoord([[0, 90]], [[0, 0]], unit="deg", frame="galactic")
    values = map_.sample(coord)
    assert values.shape == (4, 1, 2)
    np.testing.assert_array_equal(values[0], [[3, np.nan]])
    mask = WcsNDMap(geom, np.ones(geom.data_shape, bool))
    np.testing.assert_array_equal(mask.sample(coord)[0], [[True, False]])


def test_data_and_unit_that_are_set_are_checked_as_arguments():
    geom = WcsGeom.create(npix=(3, 2), binsz=1)
    own = WcsNDMap(geom, np.arange(6.0).reshape(2, 3), "cm2 s")
    own.unit = "m2 s"
    assert own.unit.is_equivalent("cm2 s") and own.quantity[1, 2] == 5 * u.Unit("m2 s")
    own.data = 5e4 * u.Unit("cm2 s")  # in its unit
    np.testing.assert_allclose(own.data, np.full((2, 3), 5.0))
    with pytest.raises(ValueError, match=r"data has the shape \(2, 2\) and the geometry \(2, 3\)"):
        own.data = np.ones((2, 2))
