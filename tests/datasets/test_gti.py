"""Good time intervals: of gammapy, of its tables, and of files."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from numpy.testing import assert_allclose
from profile_factory import make_profile

from jaxprof import FluxProfile, MapDataset
from jaxprof.datasets.gti import gti_table, joined_gti

# Two intervals of one hour and of five seconds; UTC was 66.184 s behind TT then.
STARTS = ["2010-01-01T00:00:00", "2010-03-04T05:06:07.125"]
STOPS = ["2010-01-01T01:00:00", "2010-03-04T05:06:12.125"]


def table_of_times(scale="utc"):
    return Table({"START": Time(STARTS, scale=scale), "STOP": Time(STOPS, scale=scale)})


class GTI:
    """As gammapy's, without gammapy."""

    def __init__(self, table, time_ref):
        self.table, self.time_ref = table, time_ref


def times(table, column="START"):
    """Times of a table as FITS has them, by the standard: reference plus seconds."""
    meta = table.meta
    reference = Time(meta["MJDREFI"], meta["MJDREFF"], format="mjd", scale=meta["TIMESYS"].lower())
    return reference + np.asarray(table[column]) * u.s


@pytest.mark.parametrize("scale", ["utc", "tt", "tdb"])
@pytest.mark.parametrize("time_ref", [None, "2001-01-01T00:00:00", "2010-01-02T12:34:56.789"])
def test_times_become_seconds_after_a_reference(scale, time_ref):
    given = table_of_times(scale)
    gti = given if time_ref is None else GTI(given, Time(time_ref, scale=scale))
    found = gti_table(gti)
    assert found["START"].unit == found["STOP"].unit == u.s
    assert found["START"].dtype == float
    for name in ("START", "STOP"):
        # To 10 microseconds: a double has 1e-7 s of nine years.
        assert abs((times(found, name) - given[name]).to_value("s")).max() < 1e-5
    assert_allclose(np.asarray(found["STOP"] - found["START"]), [3600, 5], rtol=0, atol=2e-4)
    if time_ref is not None:
        reference = Time(found.meta["MJDREFI"], found.meta["MJDREFF"], format="mjd", scale="tt")
        assert abs((reference - gti.time_ref).to_value("s")) < 1e-6
    assert isinstance(given["START"], Time)  # what was given stays as it is


def numbers(unit=None, **meta):
    table = Table({"START": [0.0, 1.5], "STOP": [1.0, 2.0]}, meta=meta)
    for name in ("START", "STOP"):
        table[name].unit = unit
    return table


def test_numbers_keep_their_reference():
    meta = {"MJDREFI": 51910, "MJDREFF": 7.428703703703703e-4, "TIMESYS": "UTC", "OBSERVER": "me"}
    found = gti_table(numbers("s", **meta))
    assert {name: found.meta[name] for name in meta} == meta
    # Idempotent, whatever the file.
    again = gti_table(found)
    assert again.meta == found.meta
    np.testing.assert_array_equal(again["START"], found["START"])
    assert again is not found
    # Units: of the column, of TIMEUNIT, or seconds; text and one keyword for two, as some have it.
    in_days = (
        numbers("d", MJDREFI="55197", MJDREFF="0.5"),
        numbers(TIMEUNIT="d", MJDREF=55197.5),
        QTable(numbers("d", MJDREFI=55197.5)),
    )
    for table in in_days:
        found = gti_table(table)
        assert_allclose(np.asarray(found["STOP"]), [86400, 172800], rtol=1e-15)
        assert (found.meta["MJDREFI"], found.meta["MJDREFF"]) == (55197, 0.5)
        assert found.meta["TIMEUNIT"] == "s" and found.meta["TIMESYS"] == "TT"
        assert not isinstance(found, QTable)
    assert gti_table(numbers(MJDREFI=1))["STOP"].unit == u.s
    # Neither checksums of the file that it comes from nor values that no file keeps.
    other = gti_table(numbers(MJDREFI=1, CHECKSUM="x", DATASUM="y", CLOCKAPP=fits.card.Undefined()))
    assert not {"CHECKSUM", "DATASUM", "CLOCKAPP"} & set(other.meta)
    assert len(gti_table(table_of_times()[:0])) == 0


def masked():
    table = numbers(MJDREFI=1)
    table["STOP"] = MaskedColumn([1.0, 2.0], mask=[False, True])
    return table


def backwards():
    table = numbers(MJDREFI=1)
    table["STOP"][1] = 1.25
    return table


@pytest.mark.parametrize(
    ("gti", "message"),
    [
        (3, "gti is a int; give the GTI of gammapy"),
        ("file.fits", "gti is a str"),
        (Table({"START": [0.0]}), "no column STOP, but"),
        (Table({"T": [0.0]}), "no column START and no STOP"),
        (numbers(), "no reference time .* MJDREFI"),
        (numbers(MJDREFI="tomorrow"), "gti has the reference time MJDREFI='tomorrow'"),
        (numbers(MJDREFI=1, TIMESYS="XYZ"), "TIMESYS='XYZ'"),
        (numbers("m", MJDREFI=1), "column START is not a time"),
        (Table({"START": ["a"], "STOP": ["b"]}, meta={"MJDREFI": 1}), "START is not a time"),
        (masked(), "interval 1 is from 1.5 to nan s"),
        (backwards(), "interval 1 is from 1.5 to 1.25 s"),
    ],
)
def test_no_intervals(gti, message):
    for make in (gti_table, lambda gti: MapDataset(gti=gti), lambda gti: make_profile(gti=gti)):
        with pytest.raises(ValueError, match=message):
            make(gti)


def test_intervals_of_several_datasets():
    """Whatever their references: an interval that two have stands there once."""
    first = gti_table(GTI(table_of_times(), Time("2008-01-01", scale="tt")))
    second = gti_table(GTI(table_of_times("tt"), Time("2012-01-01", scale="utc")))
    same = gti_table(GTI(table_of_times()[1:], Time("2009-01-01", scale="utc")))
    joint = joined_gti([first, None, second, same])
    assert len(joint) == 4
    expected = Time([*table_of_times()["START"].tt, *table_of_times("tt")["START"]])
    found = times(joint)
    assert (
        abs((found[np.argsort(found)] - expected[np.argsort(expected)]).to_value("s")).max() < 1e-5
    )
    assert joined_gti([None, None]) is None
    assert joined_gti([None, first]) is first


@pytest.mark.parametrize("kind", ["table", "object"])
def test_files_have_them(kind, tmp_path, simulated):
    gti = table_of_times() if kind == "table" else GTI(table_of_times(), Time("2001-01-01"))
    profile = make_profile(gti=gti)
    dataset = MapDataset(counts=simulated.counts, gti=gti)
    dataset.write(tmp_path / "d.fits")
    found = [MapDataset.read(tmp_path / "d.fits").gti]
    for ending in ("fits", "ecsv"):
        profile.write(tmp_path / f"p.{ending}")
        found.append(FluxProfile.read(tmp_path / f"p.{ending}").gti)
    for again in found:
        for name in ("START", "STOP"):
            assert abs((times(again, name) - table_of_times()[name]).to_value("s")).max() < 1e-5
    for name in ("d.fits", "p.fits"):
        header = fits.getheader(tmp_path / name, "GTI")
        assert {"MJDREFI", "MJDREFF", "TIMESYS", "TIMEUNIT"} <= set(header)
        assert header["TUNIT1"] == "s" and header["TIMESYS"] == "TT"


def test_gammapy_reads_them(tmp_path, simulated):
    data = pytest.importorskip("gammapy.data")
    from gammapy.datasets import MapDataset as GammapyDataset
    from gammapy.estimators import FluxPoints

    given = data.GTI.create([0, 7200] * u.s, [5, 7260] * u.s, "2010-01-01T00:00:00")
    utc = data.GTI(table_of_times(), reference_time=Time("2005-01-01"))
    for gti, same in ((given, given), (given.table, given), (utc, utc), (utc.table, utc)):
        profile = make_profile(gti=gti)
        dataset = MapDataset(counts=simulated.counts, gti=gti)
        dataset.write(tmp_path / "d.fits", overwrite=True)
        profile.write(tmp_path / "p.fits", overwrite=True)
        # Once more from what was read.
        MapDataset.read(tmp_path / "d.fits").write(tmp_path / "d2.fits", overwrite=True)
        FluxProfile.read(tmp_path / "p.fits").write(tmp_path / "p2.fits", overwrite=True)
        for name in ("d.fits", "d2.fits"):
            check_gammapy(GammapyDataset.read(tmp_path / name).gti, same)
        for name in ("p.fits", "p2.fits"):
            check_gammapy(FluxPoints.read(tmp_path / name, format="profile").gti, same)
    # And theirs by us.
    given.write(tmp_path / "gti.fits")
    check_gammapy(data.GTI.read(tmp_path / "gti.fits"), given)
    dataset.gti = Table.read(tmp_path / "gti.fits", hdu="GTI")
    dataset.write(tmp_path / "d3.fits")
    check_gammapy(GammapyDataset.read(tmp_path / "d3.fits").gti, given)


def check_gammapy(found, expected):
    assert_allclose(found.time_sum.to_value("s"), expected.time_sum.to_value("s"), rtol=1e-7)
    assert len(found.table) == len(expected.table)
    assert abs((found.time_start - expected.time_start).to_value("s")).max() < 1e-5
    assert abs((found.time_stop - expected.time_stop).to_value("s")).max() < 1e-5
