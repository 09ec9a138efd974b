"""Text in files: FITS holds ASCII, ECSV all letters."""

import locale

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from profile_factory import assert_same_profile, make_gti, make_profile
from regions import CircleSkyRegion

from jaxprof.datasets import MapDataset
from jaxprof.io.asciitext import ascii_table, ascii_text
from jaxprof.profile import FluxProfile
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.regions import ProfileAxis

AXIS = MapAxis.from_edges([1.0, 10.0], name="energy", unit="TeV", interp="log")
GEOM = WcsGeom.create(skydir=(83.63, 22.01), npix=(5, 4), binsz=0.1, axes=[AXIS])
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def test_ascii_text():
    assert ascii_text("Crab 1, it's {plain} ~") == "Crab 1, it's {plain} ~"
    assert ascii_text("Góra Świętokrzyska, é") == "Gora Swietokrzyska, e"
    assert ascii_text(f"{ALPHA} ß\n\t") == r"\u03b1 \xdf\n\t"
    assert ascii_text("e\N{COMBINING ACUTE ACCENT}") == "e"


@given(st.text())
def test_any_text_becomes_printable_ascii(text):
    plain = ascii_text(text)
    assert plain.isascii() and plain.isprintable() and ascii_text(plain) == plain
    fits.Header()["NAME"] = plain


def test_tables():
    table = Table(
        {"a": [["é", "b"], ["c", "é"]], "n": [1, 2]}, meta={"K": "ü", "L": ["ö", "o"], "M": 1}
    )
    found, changes = ascii_table(table, "T")
    assert found["a"].tolist() == [["e", "b"], ["c", "e"]] and found["n"].tolist() == [1, 2]
    assert dict(found.meta) == {"K": "u", "L": ["o", "o"], "M": 1}
    assert changes == ["K of T 'ü' as 'u'", "L of T 'ö' as 'o'", "a of T 'é' as 'e'"]
    assert table["a"][0, 0] == "é" and table.meta["K"] == "ü"
    assert ascii_table(found, "T") == (found, []) and ascii_table(found, "T")[0] is found
    masked = Table({"a": ["é", "b"]}, masked=True)
    masked["a"].mask[1] = True
    found, _ = ascii_table(masked, "T")
    assert found["a"].mask.tolist() == [False, True] and found["a"][0] == "e"
    for bad, kind in ((Table({"é": [1]}), "column"), (Table({"a": [1]}, meta={"é": 1}), "keyword")):
        with pytest.raises(ValueError, match=rf"T: .*{kind} is called 'é'; rename it.*to 'e'"):
            ascii_table(bad, "T")


def test_datasets(tmp_path):
    gti = make_gti()
    gti.meta["OBSERVER"] = "Müller"
    gti.meta["TELESCOP"] = "H.E.S.S."
    targets = Table({"TARGET": [f"{ALPHA} Cen", "Crab"]})
    d = MapDataset(counts=WcsNDMap(GEOM), name="Größe", gti=gti, meta_table=targets)
    with pytest.warns(UserWarning) as caught:
        d.write(tmp_path / "d.fits")
    (warning,) = caught
    assert warning.filename == __file__
    for change in (
        r"the name of the dataset 'Größe' as 'Gro\\xdfe'",
        "OBSERVER of GTI 'Müller' as 'Muller'",
        rf"TARGET of META_TABLE '{ALPHA} Cen' as '\\u03b1 Cen'",
    ):
        assert change in str(warning.message)
    assert "H.E.S.S." not in str(warning.message)
    read = MapDataset.read(tmp_path / "d.fits")
    assert read.name == r"Gro\xdfe" and d.name == "Größe"
    assert fits.getheader(tmp_path / "d.fits", "GTI")["OBSERVER"] == "Muller"
    assert fits.getdata(tmp_path / "d.fits", "META_TABLE")["TARGET"].tolist() == [
        r"\u03b1 Cen",
        "Crab",
    ]


@pytest.mark.filterwarnings("error")
def test_nothing_is_written_where_warnings_are_errors(tmp_path):
    with pytest.raises(UserWarning, match="'ü' as 'u'"):
        MapDataset(counts=WcsNDMap(GEOM), name="ü").write(tmp_path / "d.fits")
    assert not list(tmp_path.iterdir())


def with_text(p):
    """Text that is not ASCII wherever a profile takes text."""
    regions = list(p.regions)
    regions[1] = CircleSkyRegion(regions[0].center, regions[0].outer_radius, meta={"text": "Süd"})
    gti = make_gti()
    gti.meta["OBSERVER"] = "Müller"
    return make_profile(
        regions=regions,
        gti=gti,
        axis=ProfileAxis("Abstand-für", p.axis.min, p.axis.max, p.axis.ref),
        dataset_names=("Größe",),
        meta={"é": ALPHA},
    )


def test_profiles(tmp_path):
    p = with_text(make_profile())
    with pytest.warns(UserWarning) as caught:
        p.write(tmp_path / "p.fits")
    (warning,) = caught
    assert warning.filename == __file__ and "ECSV keeps it" in str(warning.message)
    for change in ("'Abstand-für' as 'Abstand-fur'", "'Müller' as 'Muller'", "Süd", "Sud"):
        assert change in str(warning.message)
    q = FluxProfile.read(tmp_path / "p.fits")
    # What is JSON in the header keeps its letters.
    assert q.meta == p.meta and q.dataset_names == p.dataset_names
    assert q.axis.name == "Abstand-fur" and q.gti.meta["OBSERVER"] == "Muller"
    np.testing.assert_array_equal(q.norm, p.norm)


def test_names_of_quantities(tmp_path):
    p = make_profile()
    p.quantities["größe"] = p.norm
    with pytest.raises(ValueError, match="FLUXPOINTS: .*column is called 'größe'; rename it"):
        p.write(tmp_path / "p.fits")
    assert not list(tmp_path.iterdir())
    p.write(tmp_path / "p.ecsv")
    assert_same_profile(p, FluxProfile.read(tmp_path / "p.ecsv"))


def test_ecsv_keeps_all_letters(tmp_path):
    p = with_text(make_profile())
    p.write(tmp_path / "p.ecsv")
    q = FluxProfile.read(tmp_path / "p.ecsv")
    assert_same_profile(p, q)
    assert q.axis.name == "Abstand-für" and q.gti.meta["OBSERVER"] == "Müller"


def test_ecsv_is_utf8_whatever_the_locale(tmp_path):
    p = make_profile()
    p.quantities["größe"] = p.norm
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        # Files are opened as ASCII if they are not told otherwise.
        locale.setlocale(locale.LC_CTYPE, "C")
        p.write(tmp_path / "p.ecsv")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert " größe " in (tmp_path / "p.ecsv").read_text(encoding="utf-8")
