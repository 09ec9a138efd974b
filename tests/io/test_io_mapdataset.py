"""Dataset files: written and read back, the real file, and files that are not right.

Numbers marked "gammapy" were read from the file with gammapy 2.1.
"""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.io.paths import atomic_write, existing_file, expand_path
from jaxprof.irf import EDispKernelMap, EDispMap, PSFMap, RecoPSFMap
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

RECO = MapAxis.from_energy_bounds("1e7 keV", "5e8 keV", 3)
# Nodes for the exposure, as Fermi's tools make them, in another unit.
TRUE = MapAxis.from_nodes(np.geomspace(8e3, 6e5, 4), name="energy_true", unit="MeV", interp="log")
GEOM = WcsGeom.create((83.6, 22.0), binsz=0.25, width=(1.5, 1), proj="TAN", axes=[RECO])
IRF_GEOM = WcsGeom.create((83.6, 22.0), binsz=0.5, width=(1.5, 1), proj="TAN")
MIGRA = MapAxis.from_edges(np.linspace(0, 2, 6), name="migra")
RAD = MapAxis.from_nodes([0, 0.1, 0.3, 0.7], name="rad", unit="deg")
EXPOSURE = u.Unit("m2 s")


def random(*shape):
    return np.random.default_rng(sum(shape)).random(shape)


def edisp_of(kind):
    exposure = random(4, 2, 3) * EXPOSURE
    return {
        "none": None,
        "kernel": EDispKernelMap.from_gauss(RECO, TRUE, 0.1),
        "kernel on sky": EDispKernelMap(
            random(4, 3, 2, 3), RECO, TRUE, IRF_GEOM, exposure=exposure
        ),
        "migra": EDispMap(random(4, 5), MIGRA, TRUE, exposure=random(4) * EXPOSURE),
        "migra on sky": EDispMap(random(4, 5, 2, 3), MIGRA, TRUE, IRF_GEOM, exposure=exposure),
    }[kind]


def gti():
    meta = {"MJDREFI": 51544, "MJDREFF": 0.5, "TIMESYS": "TT"}
    return Table({"START": [0.0, 10.0] * u.s, "STOP": [5.0, 20.0] * u.s}, meta=meta)


def parts(**changes):
    everything = {
        "counts": WcsNDMap(GEOM, np.arange(72, dtype=np.int32).reshape(GEOM.data_shape)),
        "background": WcsNDMap(GEOM, random(*GEOM.data_shape).astype(np.float32)),
        "exposure": WcsNDMap(GEOM.to_cube([TRUE]), 1e10 * random(4, 4, 6), "m2 s"),
        "edisp": edisp_of("kernel"),
        "psf": PSFMap(random(4, 4), RAD, TRUE, exposure=random(4) * EXPOSURE),
        "mask_safe": WcsNDMap(GEOM, random(*GEOM.data_shape) > 0.2),
        "mask_fit": WcsNDMap(GEOM, random(*GEOM.data_shape) > 0.6),
        "gti": gti(),
        "meta_table": Table({"OBS_ID": ["23523", "23526"], "ZENITH": [30.5, 31.5]}),
        "name": "crab",
    }
    return everything | changes


def on_off_parts():
    everything = parts()
    del everything["background"]
    return everything | {
        "counts_off": WcsNDMap(GEOM, 8 * np.ones(GEOM.data_shape, np.int64)),
        "acceptance": WcsNDMap(GEOM, random(*GEOM.data_shape)),
        "acceptance_off": WcsNDMap(GEOM, 4.0),
    }


def assert_same_map(map_, other):
    assert (map_ is None) == (other is None)
    if map_ is not None:
        np.testing.assert_array_equal(map_.data, other.data)
        assert map_.unit == other.unit
        assert map_.geom.is_allclose(other.geom)
        for axis, expected in zip(map_.geom.axes, other.geom.axes, strict=True):
            assert_same_axis(axis, expected)


def assert_same_axis(axis, expected):
    assert axis.unit == expected.unit
    assert (axis.interp, axis.node_type) == (expected.interp, expected.node_type)
    np.testing.assert_allclose(axis.edges.value, expected.edges.value, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(axis.center.value, expected.center.value, rtol=1e-13)


def assert_same_irf(irf, other):
    assert type(irf) is type(other)
    if irf is not None:
        np.testing.assert_array_equal(irf.data, other.data)
        for axis, expected in zip(irf.axes, other.axes, strict=True):
            assert axis.name == expected.name
            assert_same_axis(axis, expected)
        assert (irf.geom is None) == (other.geom is None)
        if irf.geom is not None:
            assert irf.geom.is_allclose(other.geom)
        assert (irf.exposure is None) == (other.exposure is None)
        if irf.exposure is not None:
            np.testing.assert_array_equal(irf.exposure.value, other.exposure.value)
            assert irf.exposure.unit == other.exposure.unit


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "crab.fits"
    MapDataset(**parts()).write(path)
    return path.read_bytes()


@pytest.fixture
def file(written, tmp_path):
    """A written dataset, not compressed."""
    path = tmp_path / "crab.fits"
    path.write_bytes(written)
    return path


def edited(file, edit):
    """The file with its HDU list changed, as by a program that renews the checksums."""
    with fits.open(file, memmap=False) as hdulist:
        edit(hdulist)
        hdulist[0].header["NHDU"] = 0
        hdulist.writeto(file, overwrite=True, checksum=True)
    return file


# --- round trips


@pytest.mark.parametrize("name", ["crab.fits", "crab.fits.gz"])
@pytest.mark.parametrize("kind", ["none", "kernel", "kernel on sky", "migra", "migra on sky"])
def test_dataset_survives_the_file(tmp_path, name, kind):
    dataset = MapDataset(**parts(edisp=edisp_of(kind)))
    dataset.write(tmp_path / name)
    with (tmp_path / name).open("rb") as stream:
        assert (stream.read(2) == b"\x1f\x8b") == name.endswith(".gz")
    again = MapDataset.read(tmp_path / name)
    assert again.name == "crab"
    for part in ("counts", "background", "exposure", "mask_safe", "mask_fit"):
        assert_same_map(getattr(again, part), getattr(dataset, part))
    assert_same_irf(again.edisp, dataset.edisp)
    assert_same_irf(again.psf, dataset.psf)
    assert again.mask_safe.is_mask and again.mask_fit.is_mask
    assert again.gti.meta["MJDREFI"] == 51544 and again.gti.meta["TIMESYS"] == "TT"
    np.testing.assert_array_equal(again.gti["STOP"], [5, 20])
    assert again.gti["STOP"].unit == u.s
    assert list(again.meta_table["OBS_ID"]) == ["23523", "23526"]
    assert MapDataset.read(tmp_path / name, name="other").name == "other"
    # What was read can be changed in place.
    again.counts.data[...] = 0


@pytest.mark.parametrize("on_sky", [False, True])
def test_psf_per_reconstructed_energy_survives_the_file(tmp_path, on_sky):
    shape, geom = ((2, 3), IRF_GEOM) if on_sky else ((), None)
    exposure = random(3, *shape) * EXPOSURE
    psf = RecoPSFMap(random(3, 4, *shape), RAD, RECO, geom, exposure=exposure)
    dataset = MapDataset(**parts(psf=psf))
    assert "RecoPSFMap" in str(dataset.summary() if hasattr(dataset, "summary") else dataset)
    dataset.write(tmp_path / "reco.fits")
    with fits.open(tmp_path / "reco.fits") as hdulist:
        assert hdulist["PSF_BANDS"].header["AXCOLS2"] == "E_MIN,E_MAX"
        assert "ENERGY_TRUE" not in hdulist["PSF_BANDS"].columns.names
    again = MapDataset.read(tmp_path / "reco.fits")
    assert_same_irf(again.psf, psf)
    assert again.psf.energy_axis.is_allclose(again.energy_axis)


def test_psf_in_true_energy_stays_so_whatever_its_axis_is_called(tmp_path):
    psf = PSFMap(random(4, 4), RAD, TRUE.rename("energy"), exposure=random(4) * EXPOSURE)
    MapDataset(**parts(psf=psf)).write(tmp_path / "psf.fits")
    again = MapDataset.read(tmp_path / "psf.fits").psf
    assert type(again) is PSFMap and again.energy_axis_true.name == "energy_true"
    np.testing.assert_array_equal(again.data, psf.data)
    np.testing.assert_array_equal(again.exposure.value, psf.exposure.value)


def test_on_off_dataset_survives_the_file(tmp_path):
    dataset = MapDatasetOnOff(**on_off_parts())
    dataset.write(tmp_path / "onoff.fits")
    again = MapDatasetOnOff.read(tmp_path / "onoff.fits")
    for part in ("counts", "counts_off", "acceptance", "acceptance_off", "mask_safe"):
        assert_same_map(getattr(again, part), getattr(dataset, part))
    np.testing.assert_array_equal(again.alpha.data, dataset.alpha.data)
    assert again.background is None


def test_only_what_there_is_gets_written(tmp_path):
    MapDataset(counts=WcsNDMap(GEOM, 1.0)).write(tmp_path / "counts.fits")
    again = MapDataset.read(tmp_path / "counts.fits")
    assert again.exposure is None and again.edisp is None and again.gti is None
    with pytest.raises(ValueError, match="no exposure"):
        again.check()


def test_layout_of_the_file(file):
    with fits.open(file) as hdulist:
        names = [hdu.name for hdu in hdulist]
        assert names[:3] == ["PRIMARY", "COUNTS", "COUNTS_BANDS"]
        assert {"EDISP", "PSF_EXPOSURE_BANDS", "GTI", "META_TABLE"} <= set(names)
        assert hdulist["COUNTS"].header["AXCOLS1"] == "E_MIN,E_MAX"
        assert hdulist["COUNTS"].header["WCSSHAPE"] == "(6,4,3)"
        assert hdulist["EXPOSURE"].header["AXCOLS1"] == "ENERGY_TRUE"
        assert hdulist["EXPOSURE"].header["BUNIT"] == "m2 s"
        assert hdulist["EXPOSURE"].header["BANDSHDU"] == "EXPOSURE_BANDS"
        assert hdulist["MASK_SAFE"].data.dtype == np.uint8
        assert hdulist["EDISP"].columns.names == ["CHANNEL", "DATA"]
        bands = hdulist["EDISP_BANDS"]
        # The reconstructed energy runs faster than the true one.
        np.testing.assert_allclose(bands.data["E_MIN"][:4], RECO.edges.value[[0, 1, 2, 0]])
        np.testing.assert_allclose(bands.data["ENERGY_TRUE"][::3], TRUE.center.value)


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint8])
def test_masks_may_be_integers(file, dtype):
    def edit(hdulist):
        hdulist["MASK_SAFE"].data = hdulist["MASK_SAFE"].data.astype(dtype)

    expected = MapDataset.read(file).mask_safe.data
    mask = MapDataset.read(edited(file, edit)).mask_safe
    assert mask.is_mask
    np.testing.assert_array_equal(mask.data, expected)


def test_units_are_kept_and_convert(file):
    def edit(hdulist):
        hdulist["EXPOSURE"].header["BUNIT"] = "cm2 s"
        for name in ("COUNTS", "BACKGROUND", "MASK_SAFE", "MASK_FIT", "EDISP"):
            for column in ("ENERGY", "E_MIN", "E_MAX"):
                hdulist[f"{name}_BANDS"].data[column] *= 1e-9
                hdulist[f"{name}_BANDS"].columns[column].unit = "TeV"

    before = MapDataset.read(file)
    after = MapDataset.read(edited(file, edit))
    assert after.exposure.unit == u.Unit("cm2 s")
    assert after.energy_axis.unit == u.TeV
    np.testing.assert_allclose(
        after.energy_axis.edges.value, before.energy_axis.edges_tev(), rtol=1e-12
    )


def test_old_exposure_axis_is_the_true_energy(file):
    def edit(hdulist):
        hdulist["EXPOSURE"].header["AXCOLS1"] = "ENERGY"
        bands = hdulist["EXPOSURE_BANDS"]
        bands.header["AXCOLS1"] = "ENERGY"
        bands.columns.change_name("ENERGY_TRUE", "ENERGY")

    dataset = MapDataset.read(edited(file, edit))
    assert dataset.energy_axis_true.name == "energy_true"
    np.testing.assert_allclose(dataset.energy_axis_true.center.value, TRUE.center.value)


def test_sources_have_no_place_in_the_file(tmp_path):
    dataset = MapDataset(**parts(npred_sources=WcsNDMap(GEOM, 1.0)))
    with pytest.raises(ValueError, match="npred_sources"):
        dataset.write(tmp_path / "crab.fits")
    assert list(tmp_path.iterdir()) == []


# --- the real file


def test_real_file_is_read_as_gammapy_reads_it(gc_file):
    dataset = MapDataset.read(gc_file)
    dataset.check()
    counts, exposure = dataset.counts.data, dataset.exposure.data
    # gammapy
    assert counts.shape == (11, 200, 400) and counts.sum() == 32684
    np.testing.assert_array_equal(counts[:, 100, 200], [7, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(
        dataset.npred_background().data.sum(), 28548.632302860686, rtol=1e-12
    )
    np.testing.assert_array_equal(
        exposure[[0, 6, 11], 100, 200],
        np.float32([3.231310e11, 3.302587e11, 3.200284e11]),
    )
    assert dataset.exposure.unit == u.Unit("cm2 s")
    assert dataset.mask.sum() == 633600 and counts[dataset.mask].sum() == 27727
    assert dataset.energy_axis.unit == u.keV and dataset.energy_axis_true.unit == u.MeV
    np.testing.assert_allclose(
        dataset.energy_axis.edges.value[:3], [1e7, 1.42709150e7, 2.03659020e7], rtol=1e-8
    )
    np.testing.assert_allclose(
        dataset.energy_axis_true.edges.value[[0, 12]], [8370.93731368, 597304.66645546], rtol=1e-11
    )
    assert dataset.energy_axis_true.node_type == "center"
    kernel = dataset.edisp.get_kernel(SkyCoord(1, 0, unit="deg", frame="galactic"))
    assert kernel.shape == (12, 11)
    expected = [[0.54433805, 0, 0], [0.45566195, 0.54433805, 0], [0, 0.45566204, 0.544338]]
    np.testing.assert_allclose(kernel[:3, :3], expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(kernel.sum(axis=1)[[0, 1, 11]], [0.54433805, 1, 0.45566195])
    expected = [5.1635105117144820e05, 9.7011777132314160e02, 5.3735910035051071e-01]
    np.testing.assert_allclose(dataset.psf.data[5, [0, 50, 129]], expected, rtol=1e-14)
    np.testing.assert_allclose(
        dataset.psf.exposure.to_value("cm2 s")[:2], [3.2313102779663623e11, 3.2195965320135583e11]
    )
    # gammapy takes a pixel for two flat triangles.
    np.testing.assert_allclose(
        dataset.geom.solid_angle().value[:2, 0], [7.58674462e-07, 7.58731805e-07], rtol=3e-7
    )
    assert dataset.geom.frame == "galactic"


# --- files that are not right


def test_missing_file_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such file: .*nothing.fits$"):
        MapDataset.read(tmp_path / "nothing.fits")
    monkeypatch.delenv("GAMMAPY_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"variable \$GAMMAPY_DATA is not set"):
        MapDataset.read("$GAMMAPY_DATA/fermi-3fhl-gc/fermi-3fhl-gc.fits.gz")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        MapDataset.read(tmp_path)


@pytest.mark.parametrize("keep", [10, 3000, 0.3, 0.5, 0.9, -8])
def test_truncated_gzip(file, tmp_path, keep):
    raw = gzip.compress(file.read_bytes())
    keep = int(keep * len(raw)) if 0 < keep < 1 else keep
    path = tmp_path / "cut.fits.gz"
    path.write_bytes(raw[:keep])
    with pytest.raises(ValueError, match=r"cut\.fits\.gz is cut off or damaged"):
        MapDataset.read(path)


@pytest.mark.parametrize("keep", [100, 2880 * 2, 2880 * 3 + 17, 0.5, 0.9, -1, -2880])
def test_truncated_fits(file, keep):
    raw = file.read_bytes()
    keep = int(keep * len(raw)) if 0 < keep < 1 else keep
    file.write_bytes(raw[:keep])
    with pytest.raises(ValueError, match=r"crab\.fits"):
        MapDataset.read(file)


def test_file_cut_between_two_hdus_lacks_the_later_parts(file):
    # Every FITS reader takes such a file for a complete one.
    with fits.open(file) as hdulist:
        end = hdulist["EXPOSURE"].fileinfo()["hdrLoc"]
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(ValueError, match=r"crab\.fits: .*EXPOSURE, .*META_TABLE missing: cut off"):
        MapDataset.read(file)


def test_damaged_gzip(file, tmp_path):
    raw = bytearray(gzip.compress(file.read_bytes()))
    raw[len(raw) // 2] ^= 0xFF
    (tmp_path / "bad.fits.gz").write_bytes(raw)
    with pytest.raises(ValueError, match="cut off or damaged"):
        MapDataset.read(tmp_path / "bad.fits.gz")


@pytest.mark.parametrize("content", [b"", b"not FITS at all\n", b"SIMPLE  = nonsense" * 200])
def test_file_that_is_not_fits(tmp_path, content):
    (tmp_path / "notes.fits").write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.fits"):
        MapDataset.read(tmp_path / "notes.fits")


def test_fits_file_of_another_kind(tmp_path):
    path = tmp_path / "events.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("TIME", "D", array=[1.0])], name="EVENTS")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    with pytest.raises(ValueError, match=r"not a map dataset: none of the HDUs.*EVENTS"):
        MapDataset.read(path)


def test_on_off_and_other_files_are_not_confused(tmp_path, file):
    MapDatasetOnOff(**on_off_parts()).write(tmp_path / "onoff.fits")
    with pytest.raises(ValueError, match=r"On-Off dataset; read it with MapDatasetOnOff\.read"):
        MapDataset.read(tmp_path / "onoff.fits")
    with pytest.raises(ValueError, match=r"read it with MapDataset\.read"):
        MapDatasetOnOff.read(file)


def _spectrum(hdulist):
    columns = [fits.Column("CHANNEL", "K", array=range(3)), fits.Column("DATA", "D", array=[1] * 3)]
    hdulist["COUNTS"] = fits.BinTableHDU.from_columns(columns, name="COUNTS")


def _healpix(hdulist):
    columns = [fits.Column("CHANNEL1", "D", array=[1.0])]
    hdulist["COUNTS"] = fits.BinTableHDU.from_columns(columns, name="COUNTS")


def _set(hdu, key, value):
    def edit(hdulist):
        hdulist[hdu].header[key] = value

    return edit


def _linear(hdulist):
    hdulist["COUNTS"].header.update({"CTYPE1": "X", "CTYPE2": "Y"})
    hdulist["COUNTS"].header.remove("RADESYS")


def _short_table(hdulist):
    hdulist["EDISP"].data = hdulist["EDISP"].data[:-1]


def _no_bands(hdulist):
    del hdulist["COUNTS_BANDS"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_spectrum, "COUNTS is a table of one sky region"),
        (_healpix, "COUNTS is a table with the columns"),
        (_short_table, "EDISP has 11 rows"),
        (_no_bands, r"COUNTS has data of shape \(3, 4, 6\)"),
        (_set("EXPOSURE", "BUNIT", "deg"), "exposure has the unit 'deg'"),
        (_set("EXPOSURE", "BUNIT", "furlong"), "unit 'furlong' of HDU EXPOSURE is not known"),
        (_set("COUNTS", "CTYPE1", "LINEAR"), "coordinates of HDU COUNTS make no sense"),
        (_linear, "COUNTS has no celestial coordinates"),
        (_set("COUNTS_BANDS", "AXCOLS1", "E_LOW,E_HIGH"), "axis 'E_LOW,E_HIGH' of HDU COUNTS_B"),
        (_set("BACKGROUND", "CRVAL1", 80.0), "background are at other sky positions"),
        (_set("PSF_BANDS", "AXCOLS1", "ENERGY_TRUE"), "PSF"),
    ],
)
def test_contents_that_are_not_right(file, edit, message):
    edited(file, edit)
    with pytest.raises(ValueError, match=rf"crab\.fits.*{message}"):
        MapDataset.read(file)


# --- writing


def test_existing_file_is_kept_unless_told(file):
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match=r"crab\.fits exists already; overwrite=True"):
        MapDataset(**parts(name="other")).write(file)
    assert file.read_bytes() == before
    MapDataset(**parts(name="other")).write(file, overwrite=True)
    assert MapDataset.read(file).name == "other"
    assert [path.name for path in file.parent.iterdir()] == ["crab.fits"]


@pytest.mark.parametrize("exists", [False, True])
def test_failing_write_leaves_nothing_behind(tmp_path, monkeypatch, exists):
    path = tmp_path / "crab.fits"
    if exists:
        path.write_bytes(b"precious")

    def fail(self, name, *args, **kwargs):
        with open(name, "wb") as stream:
            stream.write(b"SIMPLE")
        raise OSError("disk full")

    monkeypatch.setattr(fits.HDUList, "writeto", fail)
    with pytest.raises(OSError, match="disk full"):
        MapDataset(**parts()).write(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == (["crab.fits"] if exists else [])
    if exists:
        assert path.read_bytes() == b"precious"


def test_paths_expand(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    MapDataset(counts=WcsNDMap(GEOM)).write("$SOME_FOLDER/a.fits")
    assert existing_file("~/a.fits") == existing_file("${SOME_FOLDER}/a.fits")
    with pytest.raises(ValueError, match="empty"):
        expand_path("")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        MapDataset(counts=WcsNDMap(GEOM)).write("$SOME_FOLDER/none/a.fits")
    with pytest.raises(IsADirectoryError, match="is a folder"), atomic_write(tmp_path):
        pass
    with pytest.raises(OSError, match="nothing was written"), atomic_write(tmp_path / "b"):
        pass


def test_every_parameter_of_a_projection_is_read(tmp_path):
    # PVi_m is parameter m of axis i: ZPN has up to 20 of the latitude.
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-ZPN", "GLAT-ZPN"]
    wcs.wcs.crpix, wcs.wcs.cdelt, wcs.wcs.crval = [3, 3], [-0.5, 0.5], [0, 0]
    wcs.wcs.set_pv([(2, 1, 1.0), (2, 3, 20.0)])
    axis = MapAxis.from_edges([1, 2], unit="TeV", name="energy")
    geom = WcsGeom(wcs, (6, 6), [axis])
    path = tmp_path / "zpn.fits"
    MapDataset(counts=WcsNDMap(geom, np.ones(geom.data_shape))).write(path)
    read = MapDataset.read(path).counts.geom.wcs
    np.testing.assert_allclose(read.wcs_pix2world(0, 0, 0), wcs.wcs_pix2world(0, 0, 0), rtol=1e-12)
    assert abs(wcs.wcs_pix2world(0, 0, 0)[1] + 1.0) > 0.001  # the parameter matters
