"""What users of gammapy type on the first day: arithmetic of maps, masks, separations, files."""

import operator

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from jaxprof import MapAxis, WcsGeom, WcsNDMap
from jaxprof.io.units import unit_of

ENERGY = MapAxis.from_energy_bounds(1, 100, 4, unit="TeV")
CENTER = SkyCoord(10, 5, unit="deg", frame="galactic")


def cube(unit="", seed=0):
    geom = WcsGeom.create(CENTER, binsz=0.5, npix=(7, 5), frame="galactic", axes=[ENERGY])
    data = np.random.default_rng(seed).uniform(1, 2, geom.data_shape)
    return WcsNDMap(geom, data, unit)


def test_units_of_arithmetic():
    a, b = cube("m2 s"), cube("cm2 s", 1)
    assert_allclose((a + b).quantity.to_value("cm2 s"), a.data * 1e4 + b.data)
    assert_allclose((a - b).quantity.to_value("m2 s"), a.data - b.data / 1e4)
    assert (a / b).quantity.to_value("").shape == a.data.shape
    assert_allclose((a / b).quantity.to_value(""), 1e4 * a.data / b.data)
    product = a * (2 / u.s)
    assert product.unit == u.Unit("m2")
    assert_allclose((3 * u.s / a).quantity.to_value("m-2"), 3 / a.data)
    assert_allclose((np.ones(a.data.shape) - cube()).data, 1 - cube().data)
    assert_allclose((-a).data, -a.data)
    assert_allclose(sum([cube(), cube(seed=1)]).data, cube().data + cube(seed=1).data)
    assert_allclose((2 * cube() ** 2 / 4).data, cube().data ** 2 / 2)


def test_image_serves_all_energies():
    a = cube()
    weights = a.sum_over_axes()
    assert_allclose((a / weights).data.sum(axis=0), 1)
    image = WcsNDMap(a.geom.to_image(), np.arange(35.0).reshape(5, 7))
    assert_allclose((image * a).data, image.data * a.data)
    assert (image * a).geom == a.geom


def test_masks():
    a, b = cube(), cube(seed=1)
    mask = (a > 1.5) & ~(b < 1.5)
    assert mask.is_mask
    assert_array_equal(mask.data, (a.data > 1.5) & (b.data >= 1.5))
    assert_allclose((a * mask).data, np.where(mask.data, a.data, 0))
    with pytest.raises(ValueError, match="are for masks"):
        a & mask
    counts = a.copy(data=np.round(a.data))
    assert_array_equal((counts == 1).data, counts.data == 1)
    assert_array_equal((counts != counts.copy(data=counts.data + mask.data)).data, mask.data)
    assert (cube("m2") == cube("m2")).data.all() and len({a, b}) == 2
    with pytest.raises(ValueError, match="unit 'm2'"):
        operator.eq(cube("m2"), cube("s"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (cube("s"), "unit 'm2'"),
        (1.0, "unit 'm2'"),
        (WcsNDMap.create(CENTER, binsz=0.4, npix=(7, 5), frame="galactic"), "other pixels"),
        (np.ones(3), "cannot be combined"),
        (WcsNDMap(cube().geom.to_cube([ENERGY.rename("energy_true")])), "other axes"),
    ],
)
def test_what_does_not_fit(other, message):
    with pytest.raises(ValueError, match=message):
        operator.add(cube("m2"), other)


def test_axes_by_name():
    geom = cube().geom
    assert geom.axes["energy"] is ENERGY is geom.axes[0]
    assert geom.axes.names == ["energy"]
    with pytest.raises(ValueError, match="no axis 'time'"):
        geom.axes["time"]


def test_region_energy_and_separation():
    geom = cube().geom
    circle = CircleSkyRegion(CENTER, 0.9 * u.deg)
    mask = geom.region_mask([circle])
    away = geom.separation(CENTER)
    assert away.shape == (5, 7)
    assert_array_equal(mask.data, np.broadcast_to(away.deg < 0.9, geom.data_shape))
    assert_array_equal(geom.region_mask(circle, inside=False).data, ~mask.data)
    # Edges at 1, 3.16, 10, 31.6, 100 TeV.
    kept = geom.energy_mask(2 * u.TeV, "40 TeV").data
    assert_array_equal(kept.all(axis=(1, 2)), [False, True, True, False])
    assert_array_equal(kept.any(axis=(1, 2)), [False, True, True, False])
    rounded = geom.energy_mask(2.5 * u.TeV, 90 * u.TeV, round_to_edge=True).data
    assert_array_equal(rounded[:, 0, 0], [False, True, True, True])
    for low, high in ((0, np.inf), (-1, 1e9), (1e-9, 101)):
        assert geom.energy_mask(low * u.TeV, high * u.TeV, round_to_edge=True).data.all()
    with pytest.raises(ValueError, match="energy_min is 3"):
        geom.energy_mask(3)
    with pytest.raises(ValueError, match="needs one energy axis"):
        geom.to_image().energy_mask(1 * u.TeV)


@pytest.mark.parametrize("proj", ["CAR", "TAN", "AIT", "ZEA", "SIN", "HPX"])
def test_written_map_is_read(tmp_path, proj):
    geom = WcsGeom.create(CENTER, binsz=0.5, npix=(7, 5), frame="galactic", proj=proj)
    for name, axes, unit in (("image", [], "cm-2 s-1"), ("cube", [ENERGY], "cm2 s")):
        map_ = WcsNDMap(geom.to_cube(axes), np.arange(35.0).reshape(5, 7), unit)
        map_.write(tmp_path / f"{name}.fits.gz")
        found = WcsNDMap.read(tmp_path / f"{name}.fits.gz")
        assert found.geom == map_.geom and found.unit == map_.unit
        assert_array_equal(found.data, map_.data)
    (map_ > 3 * u.Unit("cm2 s")).write(tmp_path / "mask.fits")
    assert_array_equal(WcsNDMap.read(tmp_path / "mask.fits").data, map_.data > 3)
    with pytest.raises(FileExistsError):
        map_.write(tmp_path / "mask.fits")


def test_cubes_with_ebounds_and_energies(tmp_path):
    header = cube().geom.wcs.to_header()
    header["BUNIT"] = "ph cm-2 s-1 sr-1 MeV-1"
    values = cube().data.astype(np.float32)
    edges = ENERGY.edges.to_value("MeV")
    columns = [
        fits.Column(name, "E", unit="keV", array=value * 1e3)
        for name, value in (("E_MIN", edges[:-1]), ("E_MAX", edges[1:]))
    ]
    bounds = fits.BinTableHDU.from_columns(columns, name="EBOUNDS")
    image = fits.PrimaryHDU(values, header)
    path = tmp_path / "bins.fits"
    fits.HDUList([image, bounds]).writeto(path)
    found = WcsNDMap.read(path)
    assert found.geom.axes["energy"].is_allclose(ENERGY)
    assert found.unit.to("cm-2 s-1 sr-1 TeV-1") == pytest.approx(1e6)
    assert_array_equal(found.data, values)

    # Nodes, in MeV without saying so; in any order.
    energies = fits.BinTableHDU.from_columns(
        [fits.Column("Energy", "D", array=edges[:4][::-1])], name="ENERGIES"
    )
    path = tmp_path / "nodes.fits"
    fits.HDUList([image, energies]).writeto(path)
    found = WcsNDMap.read(path)
    assert_allclose(found.geom.axes["energy_true"].center.to_value("MeV"), edges[:4])
    assert_array_equal(found.data, values[::-1])

    path = tmp_path / "nothing.fits"
    fits.HDUList([image]).writeto(path)
    with pytest.raises(
        ValueError, match=r"nothing.fits: HDU PRIMARY has data of shape .* no table"
    ):
        WcsNDMap.read(path)
    path = tmp_path / "unit.fits"
    columns[0].unit = columns[1].unit = None
    bounds = fits.BinTableHDU.from_columns(columns, name="EBOUNDS")
    fits.HDUList([image, bounds]).writeto(path)
    with pytest.raises(ValueError, match=r"unit.fits: column E_MIN of HDU EBOUNDS has no unit"):
        WcsNDMap.read(path)
    with pytest.raises(ValueError, match=r"there is no HDU 'X'; maps are \['PRIMARY'\]"):
        WcsNDMap.read(path, hdu="X")


def test_template_image(cases_dir):
    path = cases_dir / "data" / "W44_template_AIT.fits"
    if not path.exists():
        pytest.skip("$JAXPROF_CASES has no W44 template")
    map_ = WcsNDMap.read(path)
    with fits.open(path) as file:
        assert_array_equal(map_.data, file[0].data)
    # EQUINOX 2000 without RADESYS is FK5.
    at = SkyCoord(283.99, 1.355, unit="deg", frame="fk5")
    x, y = map_.geom.pixel_coordinates(at)
    assert_allclose([x, y], [31.5, 34.0], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("cm2 s", "cm2 s"),
        ("cm^2 s", "cm2 s"),
        ("cm**2*s", "cm2 s"),
        ("cm2 sec", "cm2 s"),
        ("m2.s", "m2 s"),
        ("1/cm**2/s/sr", "cm-2 s-1 sr-1"),
        ("/cm2/s", "cm-2 s-1"),
        ("ph cm-2 s-1 sr-1 MeV-1", "cm-2 s-1 sr-1 MeV-1"),
        ("photons/cm2/s/MeV/sr", "cm-2 s-1 sr-1 MeV-1"),
        ("1/(cm2 s sr)", "cm-2 s-1 sr-1"),
        ("cm^{-2} s^{-1}", "cm-2 s-1"),
        ("MeV^-1 cm^-2 s^-1 sr^-1", "MeV-1 cm-2 s-1 sr-1"),
        ("GeV / cm2 / s / sr", "GeV cm-2 s-1 sr-1"),
        ("counts", "ct"),
        ("Photons", "ph"),
        ("None", ""),
        ("", ""),
    ],
)
def test_spellings_of_units(text, unit):
    assert unit_of(text, "X") == u.Unit(unit)


def test_unknown_unit():
    with pytest.raises(ValueError, match="the unit 'furlongs' of HDU X is not known"):
        unit_of("furlongs", "X")


@pytest.mark.parametrize("proj", ["CAR", "TAN", "AIT"])
def test_down_and_up(proj):
    axis = MapAxis.from_energy_bounds(1, 100, 2, unit="TeV")
    geom = WcsGeom.create((30, 20), binsz=(0.2, 0.1), npix=(12, 6), proj=proj, axes=[axis])
    values = np.random.default_rng(3).poisson(3, geom.data_shape).astype(float)
    map_ = WcsNDMap(geom, values, "s")
    down = map_.downsample(3)
    right = np.array(
        [[v[i : i + 3, j : j + 3].sum() for j in range(0, 12, 3)] for v in values for i in (0, 3)]
    )
    assert_allclose(down.data, right.reshape(2, 2, 4))
    assert_allclose(map_.downsample(3, preserve_counts=False).data, right.reshape(2, 2, 4) / 9)
    assert down.unit == "s"
    # The middle pixel of nine has the centre of the large one.
    middle = geom.get_coord()[1::3, 1::3]
    assert down.geom.get_coord().separation(middle).arcsec.max() < 1e-6
    up = down.upsample(3)
    assert up.geom == geom
    assert_allclose(up.data[:, 4, 7], down.data[:, 1, 2] / 9)
    assert_allclose(up.downsample(3).data, down.data)
    # A linear map is linear between its pixels.
    line = WcsNDMap(geom, np.broadcast_to(np.arange(12.0), geom.data_shape))
    fine = line.upsample(2, order=1, preserve_counts=False).data
    assert_allclose(fine[0, 3, 1:-1], np.arange(22) / 2 + 0.25)
    # Masks, weights and NaN.
    mask = WcsNDMap(geom, values > 0)
    first = mask.downsample(3).data[1, 0, 0]
    assert first == (values[1, :3, :3] > 0).all()
    weighted = map_.downsample(3, weights=mask.copy(data=values > 4))
    assert weighted.data[0, 0, 0] == np.where(values > 4, values, 0)[0, :3, :3].sum()
    values[0, 0, 0] = np.nan
    assert map_.downsample(3).data[0, 0, 0] == pytest.approx(np.nansum(values[0, :3, :3]))
    for factor in (5, 0, 1.5, True):
        with pytest.raises(ValueError, match="factor"):
            map_.downsample(factor)
    with pytest.raises(ValueError, match="order is 7"):
        map_.upsample(2, order=7)
