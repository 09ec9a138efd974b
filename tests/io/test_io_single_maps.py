"""Files of single maps, and what is read differently from what it says, or was."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal

from jaxprof import WcsGeom, WcsNDMap
from jaxprof.io.units import unit_of

GEOM = WcsGeom.create((10, 5), binsz=0.5, npix=(6, 4), frame="galactic")
IMAGE = np.arange(24.0).reshape(4, 6)
CUBE = np.arange(72.0).reshape(3, 4, 6)


def image(data=IMAGE, name=None, **cards):
    header = GEOM.wcs.to_header()
    header.update(cards)
    return fits.PrimaryHDU(data, header) if name is None else fits.ImageHDU(data, header, name=name)


def energies(name, low, high=None, units=("keV", "keV"), names=("E_MIN", "E_MAX")):
    columns = [
        fits.Column(column, "D", unit=unit, array=np.array(values, float))
        for column, unit, values in zip(names, units, (low, high), strict=True)
        if values is not None
    ]
    return fits.BinTableHDU.from_columns(columns, name=name)


@pytest.fixture
def read(tmp_path):
    """Write HDUs, change cards as they are on the disk, and read the map."""

    def reader(*hdus, hdu=None, **cards):
        path = tmp_path / "map.fits"
        primary = [] if isinstance(hdus[0], fits.PrimaryHDU) else [fits.PrimaryHDU()]
        fits.HDUList([*primary, *hdus]).writeto(path, overwrite=True)
        for key, value in cards.items():
            fits.setval(path, key, value=value)
        return WcsNDMap.read(path, hdu)

    return reader


def test_scaled_integers(read):
    whole = image(IMAGE.astype(np.int16))
    assert_array_equal(read(whole, BSCALE=0.5, BZERO=3.0).data, 3 + 0.5 * IMAGE)
    assert_array_equal(read(whole, BLANK=5).data, np.where(IMAGE == 5, np.nan, IMAGE))
    assert_array_equal(read(image(IMAGE.astype(np.uint16))).data, IMAGE)


def test_masks_are_true_or_false(read):
    values = np.where(IMAGE < 3, np.nan, 1.0)
    with pytest.raises(ValueError, match=r"map.fits: HDU MASK_SAFE is a mask with 3 pixels NaN"):
        read(image(values, "MASK_SAFE"))


def test_energies_in_two_units(read):
    # Three bins of a decade from 1 keV, and one bin, where no gap shows what is wrong.
    bounds = energies("EBOUNDS", [1e-3, 1e-2, 1e-1], [1, 10, 100], ("MeV", "keV"))
    bounds.data["E_MAX"] *= 10
    axis = read(image(CUBE), bounds).geom.axes["energy"]
    assert_allclose(axis.edges.to_value("keV"), [1, 10, 100, 1000])
    one = read(image(CUBE[:1]), energies("EBOUNDS", [1], [2], ("MeV", "GeV")))
    assert_allclose(one.geom.axes[0].edges.to_value("MeV"), [1, 2000])
    bands = energies("IMAGE_BANDS", [1], [2], ("MeV", "GeV"))
    bands.header["AXCOLS1"] = "E_MIN,E_MAX"
    found = read(image(CUBE[:1], "IMAGE"), bands)
    assert_allclose(found.geom.axes[0].edges.to_value("MeV"), [1, 2000])


def test_energies_by_another_name(read):
    bounds = energies("ENERGY_BOUNDS", [1, 10, 100], [10, 100, 1000])
    assert read(image(CUBE), bounds).geom.axes[0].name == "energy"
    nodes = energies("MYENERGY", [1, 10, 100], units=("GeV", ""), names=("Energy", ""))
    axis = read(image(CUBE), nodes).geom.axes[0]
    assert axis.name == "energy_true" and axis.node_type == "center"
    assert_allclose(axis.center.to_value("GeV"), [1, 10, 100])
    # Nobody knows which of two tables is meant.
    with pytest.raises(ValueError, match="no table says what its images are"):
        read(image(CUBE), bounds, energies("OTHER", [1, 10, 100], [10, 100, 1000]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (energies("EBOUNDS", [], []), "HDU EBOUNDS has no rows"),
        (energies("EBOUNDS", [1, 10, 100], [10, 100, 1000], ("m", "m")), "m, which is no energy"),
        (energies("EBOUNDS", [1, 10, 100], [10, 100, 1000], ("", "")), "E_MIN .* has no unit"),
        (energies("EBOUNDS", [1, 10, 90], [10, 100, 1000]), "bins must follow one another"),
        (energies("EBOUNDS", [1, 10, np.nan], [10, 100, 1000]), "must be finite"),
        (fits.ImageHDU(IMAGE, name="EBOUNDS"), "HDU EBOUNDS has no column E_MIN and no E_MAX"),
        (energies("ENERGIES", [1], names=("X", "")), "HDU ENERGIES has no column ENERGY"),
    ],
)
def test_energies_that_are_none(read, table, message):
    with pytest.raises(ValueError, match=f"map.fits: .*{message}"):
        read(image(CUBE), table)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"CUNIT1": "degrees", "CUNIT2": "DEG"}, "galactic"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "RADESYS": "fk5"}, "fk5"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "EQUINOX": "J2000"}, "fk5"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "EQUINOX": 1950.0}, "fk4"),
    ],
)
def test_coordinates_in_other_words(read, cards, frame):
    geom = read(image(**cards)).geom
    assert geom.frame == frame
    assert_allclose(geom.pixel_scales.to_value("deg"), 0.5)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        # astropy reads ecliptic coordinates as equatorial ones, without a word.
        ({"CTYPE1": "ELON-CAR", "CTYPE2": "ELAT-CAR"}, "no celestial coordinates that are known"),
        ({"CTYPE1": "SLON-CAR", "CTYPE2": "SLAT-CAR"}, "PRIMARY make no sense"),
        ({"CTYPE1": "GLAT-CAR", "CTYPE2": "GLON-CAR"}, "is the latitude; transpose"),
        ({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "RADESYS": "J2000"}, "make no sense"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "distorted .*TAN-SIP"),
        ({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 0.1}, "distorted .A_ORDER = 2"),
        ({"CDELT1": 0.0}, "make no sense"),
        ({"RADESYS": 1.0}, "RADESYS of HDU PRIMARY is 1.0, it must be text"),
    ],
)
def test_coordinates_that_are_not_known(read, cards, message):
    with pytest.raises(ValueError, match=f"map.fits: .*{message}"):
        read(image(**cards))


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("CM2 S", "cm2 s"),
        ("CM^2*S", "cm2 s"),
        ("MEV", "MeV"),
        ("KEV", "keV"),
        ("PH/CM2/S/SR/MEV", "cm-2 s-1 sr-1 MeV-1"),
        ("photon/cm**2/s/MeV/sr)", "cm-2 s-1 sr-1 MeV-1"),
        ("Degrees", "deg"),
        ("counts/pixel", "ct"),
        ("Events / bin", "ct"),
        ("K km s^-1", "K km s-1"),
        ("none", ""),
    ],
)
def test_spellings_of_units(text, unit):
    assert unit_of(text, "X") == u.Unit(unit)


@pytest.mark.parametrize(
    ("card", "value", "message"),
    [
        ("TTYPE1", 3, "TTYPE1 is 3; it must be text"),
        ("TFORM2", True, "TFORM2 is True; it must be text"),
        ("EXTNAME", 1.5, "EXTNAME is 1.5; it must be text"),
        ("PCOUNT", None, "PCOUNT is missing"),
    ],
)
def test_headers_of_tables(tmp_path, card, value, message):
    path = tmp_path / "map.fits"
    fits.HDUList([image(CUBE), energies("EBOUNDS", [1, 10, 100], [10, 100, 1000])]).writeto(path)
    new = fits.Card("COMMENT", "") if value is None else fits.Card(card, value)
    with fits.open(path) as hdus:
        old = hdus[1].header.cards[card].image
    path.write_bytes(path.read_bytes().replace(old.encode(), new.image.encode()))
    with pytest.raises(ValueError, match=f"map.fits: the header of HDU 1 is damaged: {message}"):
        WcsNDMap.read(path)


def test_image_without_sky(read):
    with pytest.raises(ValueError, match="there is no map in it: .* without sky coordinates"):
        read(fits.PrimaryHDU(IMAGE))


@pytest.mark.parametrize("hdu", ["PRIMARY", "é", "A\n", 3])
def test_names_that_could_not_be_read_again(tmp_path, hdu):
    with pytest.raises(ValueError, match="hdu is .*; it must be text in ASCII, and not PRIMARY"):
        WcsNDMap(GEOM, IMAGE).write(tmp_path / "x.fits", hdu=hdu)
    assert not any(tmp_path.iterdir())


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "x.fits"
    with pytest.raises(ValueError, match="hdu is 'MASK_X', but the map holds float64"):
        WcsNDMap(GEOM, IMAGE).write(path, hdu="MASK_X")
    for dtype in ("complex64", object):
        with pytest.raises(ValueError, match="which FITS does not; convert it"):
            WcsNDMap(GEOM, IMAGE.astype(dtype)).write(path)
    assert not any(tmp_path.iterdir())
    for dtype in ("float16", "int8", "uint32", "uint64", ">f4", bool):
        values = IMAGE.astype(dtype)
        WcsNDMap(GEOM, values).write(path, overwrite=True)
        assert_array_equal(WcsNDMap.read(path).data, values)
