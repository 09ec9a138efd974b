"""Lists of regions as other programs write them: text labels, centres of compounds."""

import functools
import itertools
import operator
import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from regions import (
    CircleSkyRegion,
    CompoundSkyRegion,
    LineSkyRegion,
    PointSkyRegion,
    Regions,
    TextSkyRegion,
)

from jaxprof import FluxProfileEstimator, RegionGeom
from jaxprof.sky.regions import region_centers

DS9 = """# Region file format: DS9
icrs
# text(83.6,22.3) text={a label}
circle(83.6,22.0,0.2) # text={Crab}
circle(84.6,22.0,0.2) # text={off}
# text(84.6,22.3) text={another}
"""


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def circle(lon, lat, meta=None):
    return CircleSkyRegion(gal(lon, lat), 0.1 * u.deg, meta=meta)


def test_text_labels_are_left_out():
    read = Regions.parse(DS9, format="ds9")
    assert len(read) == 4
    with pytest.warns(UserWarning, match="2 text labels are left out") as record:
        estimator = FluxProfileEstimator(regions=read)
    (warning,) = record
    assert "'a label', 'another'" in str(warning.message)
    assert warning.filename == __file__
    assert [r.center.ra.deg for r in estimator.regions] == [83.6, 84.6]
    with pytest.warns(UserWarning, match="1 text label is left out"):
        assert len(RegionGeom.create(read[:2])) == 1


def test_only_labels_points_and_lines():
    label = TextSkyRegion(gal(0, 0), "x")
    with pytest.raises(ValueError, match=r"only text labels \('x'\)"):
        RegionGeom([label])
    # The index is that of the list that was given, labels included.
    for shape in (PointSkyRegion(gal(0, 0)), LineSkyRegion(gal(0, 0), gal(1, 0))):
        with pytest.raises(ValueError, match=rf"regions\[2\] is a {type(shape).__name__}.*no area"):
            RegionGeom([label, circle(0, 0), shape])
    with pytest.raises(ValueError, match=r"regions\[0\] is a TextSkyRegion"):
        RegionGeom(CompoundSkyRegion(circle(0, 0), label, operator.or_))


def test_file_of_the_fermi_collaboration(cases_dir):
    path = cases_dir / "data" / "LAT_ext_14y.reg"
    if not path.exists():
        pytest.skip("$JAXPROF_CASES has no data/LAT_ext_14y.reg")
    assert len(RegionGeom(Regions.read(path, format="ds9"))) == 82


CORNERS = [(1, 1), (-1, 1), (1, -1), (-1, -1)]


def nested_right(parts):
    """``a | (b | (c | d))``; `functools.reduce` gives ``((a | b) | c) | d``."""
    return functools.reduce(lambda a, b: b | a, reversed(parts))


@pytest.mark.parametrize("join", [lambda p: functools.reduce(operator.or_, p), nested_right])
def test_center_of_compound_is_the_mean_of_its_parts(join):
    for order in itertools.permutations(CORNERS):
        (center,) = region_centers([join([circle(*corner) for corner in order])])
        assert center.separation(gal(0, 0)).deg < 1e-12
    # Three of them: the mean direction, by hand.
    (center,) = region_centers([join([circle(*corner) for corner in CORNERS[:3]])])
    lon, lat = np.deg2rad(CORNERS[:3]).T
    x, y, z = (
        (np.cos(lat) * np.cos(lon)).sum(),
        (np.cos(lat) * np.sin(lon)).sum(),
        np.sin(lat).sum(),
    )
    mean = gal(*np.rad2deg([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))]))
    assert center.separation(mean).deg < 1e-12


def test_center_of_compound_across_the_seam_and_of_a_difference():
    (center,) = region_centers([circle(359, 0) | circle(1, 0) | circle(358, 0) | circle(2, 0)])
    assert center.separation(gal(0, 0)).deg < 1e-12
    # What is cut out is no part.
    cut = CompoundSkyRegion(circle(1, 0) | circle(3, 0), circle(1.5, 0), lambda a, b: a & ~b)
    assert region_centers([cut])[0].separation(gal(2, 0)).deg < 1e-12


def test_regions_as_text():
    """In the syntax of DS9, as gammapy takes them."""
    text = RegionGeom("galactic;circle(0,0,1)").regions[0]
    assert text.center.galactic.separation(gal(0, 0)).deg < 1e-12
    assert text.radius.to_value("deg") == 1
    for wrong in ("my.reg", "galactic;circle(0,0)"):
        with pytest.raises(ValueError, match=f"regions is the string '{re.escape(wrong)}', no DS9"):
            RegionGeom(wrong)
