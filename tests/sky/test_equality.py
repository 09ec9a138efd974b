"""Axes and geometries that describe the same are equal, whatever objects they are."""

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from jaxprof import MapAxis, MapDataset, RegionGeom, WcsGeom, make_concentric_annulus_sky_regions
from jaxprof.sky.regions import profile_axis

EDGES = np.geomspace(0.01, 10, 7)


def axis(edges=EDGES, name="energy", unit="TeV", interp="log", **more):
    return MapAxis(edges, name=name, unit=unit, interp=interp, **more)


def geom(**changes):
    options = {"binsz": 0.5, "npix": (4, 3), "frame": "galactic", "axes": [axis()], **changes}
    return WcsGeom.create((12.0, -3.0), **options)


SAME_AXES = {
    "again": axis(),
    "in GeV": axis(1000 * EDGES, unit="GeV"),
    "a quantity": axis(EDGES * u.TeV, unit=""),
    "in single precision": axis(EDGES.astype(np.float32)),
    "off by less than the tolerance": axis(EDGES * (1 + 5e-7)),
    "copied": copy.deepcopy(axis()),
    "pickled": pickle.loads(pickle.dumps(axis())),
}
OTHER_AXES = {
    "name": axis(name="energy_true"),
    "edges": axis(EDGES * (1 + 5e-6)),
    "one edge": axis(EDGES * np.where(np.arange(7) == 3, 1.00001, 1)),
    "bins": axis(EDGES[:-1]),
    "unit": axis(unit="deg"),
    "scale": axis(interp="lin"),
    "nodes": axis(center=1.1 * EDGES[:-1]),
}


@pytest.mark.parametrize("name", SAME_AXES)
def test_equal_axes(name):
    other = SAME_AXES[name]
    assert axis() == other and other == axis()
    assert not axis() != other
    assert hash(axis()) == hash(other)
    assert len({axis(), other}) == 1 and [axis()].index(other) == 0


@pytest.mark.parametrize("name", OTHER_AXES)
def test_other_axes(name):
    other = OTHER_AXES[name]
    assert axis() != other and other != axis()
    assert not axis() == other


def test_nodes_count():
    nodes = axis(center=1.1 * EDGES[:-1])
    assert nodes == axis(center=1.1 * EDGES[:-1]) != axis(center=1.2 * EDGES[:-1])
    # From zero, where a relative tolerance is none.
    rad = MapAxis([0, 0.1, 0.2], name="rad", unit="deg")
    assert rad == MapAxis([1e-12, 0.1, 0.2], name="rad", unit="deg")
    assert rad != MapAxis([1e-4, 0.1, 0.2], name="rad", unit="deg")


def test_equal_geometries():
    for other in (geom(), copy.deepcopy(geom()), pickle.loads(pickle.dumps(geom()))):
        assert geom() == other and hash(geom()) == hash(other)
    in_gev = geom(axes=[axis(1000 * EDGES, unit="GeV")])
    assert geom() == in_gev and hash(geom()) == hash(in_gev)
    assert geom().to_image() == geom(axes=[]) != geom()
    assert geom().to_image().to_cube([axis()]) == geom()


@pytest.mark.parametrize(
    "changes",
    [
        {"binsz": 0.51},
        {"npix": (3, 4)},
        {"frame": "icrs"},
        {"proj": "TAN"},
        {"axes": []},
        {"axes": [axis(name="energy_true")]},
        {"axes": [axis(), axis(name="rad")]},
    ],
)
def test_other_geometries(changes):
    assert geom() != geom(**changes) and geom(**changes) != geom()
    shifted = WcsGeom.create((12.001, -3.0), binsz=0.5, npix=(4, 3), frame="galactic")
    assert shifted != geom().to_image()


@pytest.mark.parametrize("made", [axis(), geom()])
def test_other_kinds_are_not_equal(made):
    for other in (None, 3, "energy", [made], np.float64(1.0)):
        assert made != other and not made == other and other != made
    assert not np.any(made == EDGES)


def test_of_files(simulated, tmp_path):
    """What is written and read is equal; exposures and counts have the same pixels."""
    simulated.write(tmp_path / "d.fits")
    again = MapDataset.read(tmp_path / "d.fits")
    assert again.geom == simulated.geom
    assert again.exposure.geom == simulated.exposure.geom != again.geom
    assert again.energy_axis == simulated.energy_axis != simulated.energy_axis_true
    assert again.exposure.geom.to_image() == simulated.geom.to_image()


def test_axes_and_regions_of_profiles():
    center = SkyCoord(0.1, -0.2, unit="deg", frame="galactic")

    def make(radius=1.5, nbin=4):
        return make_concentric_annulus_sky_regions(center, radius * u.deg, nbin=nbin)

    found = profile_axis(make())
    assert found == profile_axis(make()) and hash(found) == hash(profile_axis(make()))
    assert found != profile_axis(make(1.6)) and found != profile_axis(make(nbin=5))
    assert found != profile_axis(make()[::-1]) and found != 3
    regions = RegionGeom(make())
    assert regions == RegionGeom(make()) and hash(regions) == hash(RegionGeom(make()))
    assert regions != RegionGeom(make(1.6)) and regions != RegionGeom(make()[::-1])
    assert regions != make()
