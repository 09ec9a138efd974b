"""What users are told about regions that datasets do not see, and where the warning points."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_array_equal
from regions import CircleAnnulusSkyRegion, CircleSkyRegion, PolygonSkyRegion, RectangleSkyRegion

from jaxprof import (
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapAxis,
    MapDataset,
    PSFMap,
    WcsGeom,
    WcsNDMap,
)
from jaxprof.reduce.region_checks import listed, touches_map

EDGES = [10, 100] * u.GeV


def gal(lon, lat):
    return SkyCoord(lon, lat, unit="deg", frame="galactic")


def dataset(name="a", npix=(40, 20), center=(0, 0), binsz=0.1):
    """One energy; by default 4 x 2 deg around the Galactic centre."""
    axes = [
        MapAxis.from_energy_bounds("10 GeV", "100 GeV", 1, name=kind)
        for kind in ("energy", "energy_true")
    ]
    image = WcsGeom.create(center, binsz=binsz, npix=npix, frame="galactic", proj="CAR")
    geom, true = (image.to_cube([axis]) for axis in axes)
    return MapDataset(
        counts=WcsNDMap(geom, np.full(geom.data_shape, 3.0)),
        background=WcsNDMap(geom, np.ones(geom.data_shape)),
        exposure=WcsNDMap(true, np.full(true.data_shape, 1e12), unit="cm2 s"),
        psf=PSFMap.from_gauss(axes[1], sigma=0.05 * u.deg),
        name=name,
    )


def boxes(*lons, side=1.0):
    return [RectangleSkyRegion(gal(lon, 0), side * u.deg, side * u.deg) for lon in lons]


def said(regions, datasets, **options):
    """The profile and all warnings; each must point at the line that calls run."""
    estimator = FluxProfileEstimator(regions, energy_edges=EDGES, **options)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        profile = estimator.run(datasets)
    assert {w.filename for w in record} <= {__file__}
    return profile, [str(w.message) for w in record]


def test_second_dataset_does_not_see_a_region():
    """The norm comes from the other one, and nobody says that it is NaN."""
    both = [dataset("a"), dataset("b", npix=(20, 20), center=(0.5, 0))]
    profile, messages = said(boxes(-1.5, -0.5, 0.5, 1.5), both)
    assert np.isfinite(profile.norm).all()
    (message,) = messages
    assert message == (
        "dataset 'b' does not see region 0 of 4 (counted from 0; -0.5 to 0.5 deg), off its map: "
        "norms there come from the other datasets alone"
    )


def test_each_dataset_and_reason_is_told_apart():
    tiny = CircleSkyRegion(gal(0, 0), 0.02 * u.deg)  # sits where four pixels meet
    far = CircleSkyRegion(gal(90, 0), 1 * u.deg)
    regions = [*boxes(-1.5, 1.5), tiny, far]
    fine = dataset("fine", npix=(50, 50), center=(1, 0), binsz=0.04)  # 0 to 2 deg, cuts the tiny
    with_centre = CircleSkyRegion(gal(0.02, 0.02), 0.022 * u.deg)
    profile, messages = said(regions, [dataset("a"), fine, dataset("c")])
    lost, nowhere_centred, partly = sorted(
        messages, key=lambda text: ("off the maps" not in text, "holding" not in text)
    )
    # These bins are not along a line: figures show their numbers, too.
    assert lost.startswith("region 3 of 4 (counted from 0): off the maps of datasets 'a', 'fine'")
    assert nowhere_centred.startswith("region 2 of 4 (counted from 0): holding no pixel's centre")
    assert partly.startswith("dataset 'fine' does not see region 0 of 4 (counted from 0), off its")
    assert "'a' does not see" not in partly and "'c' does not see" not in partly
    assert_array_equal(np.isfinite(profile.norm[:, 0]), [True, True, False, False])
    # Its pixels are smaller, so that one holds the circle's centre.
    profile, (message,) = said([*boxes(0.8, 1.5), with_centre], [dataset("a"), fine])
    assert message.startswith("dataset 'a' does not see region 2 of 3 (counted from 0; 0.7583 to ")
    assert "without a pixel" in message
    assert np.isfinite(profile.norm).all()


def test_no_centre_is_not_off_the_map():
    profile, (message,) = said(
        [CircleSkyRegion(gal(x, 0), 0.02 * u.deg) for x in (0, 0.5)], dataset()
    )
    assert message.startswith(
        "regions 0, 1 of 2 (counted from 0; -0.02 to 0.02, 0.48 to 0.52 deg): holding no pixel's "
        "centre on the map of dataset 'a'; norms there are NaN and success is False. "
        "ForwardFoldingProfileEstimator"
    )
    assert "off" not in message
    assert not profile.success.any() and np.isnan(profile.norm).all()
    far = [CircleSkyRegion(gal(x, 0), 2 * u.deg) for x in (50, 90)]
    profile, (message,) = said([*boxes(0.5), *far], dataset())
    assert message.startswith("regions 1, 2 of 3 (counted from 0; 47.5 to 51.5, 87.5 to 91.5 deg):")
    assert "off the map of dataset 'a'" in message and "centre" not in message
    _, (message,) = said(far, [dataset("a"), dataset("b")])
    assert "off the maps of datasets 'a', 'b'" in message and "Look at the frame" in message


def test_what_the_message_promises():
    """Narrow rings without a pixel's centre, in a joint fit with their neighbours as bins."""
    edges = np.array([0.0, 0.2, 0.21, 0.5])  # no centre lies 0.2 to 0.21 deg from (0, 0)
    rings = [
        CircleSkyRegion(gal(0, 0), edges[1] * u.deg),
        *(
            CircleAnnulusSkyRegion(gal(0, 0), a * u.deg, b * u.deg)
            for a, b in zip(edges[1:-1], edges[2:], strict=True)
        ),
    ]
    _, (message,) = said(rings, dataset())
    assert message.startswith("region 1 of 3 (counted from 0; 0.2 to 0.21 deg): holding ")
    joint = ForwardFoldingProfileEstimator(rings, energy_edges=EDGES).run(dataset())
    assert np.isfinite(joint.norm[1, 0]) and joint.success[1, 0]


def test_joint_fit_says_what_it_knows_of_a_region_off_a_map():
    both = [dataset("a"), dataset("b", npix=(20, 20), center=(0.5, 0))]
    estimator = ForwardFoldingProfileEstimator(boxes(-1.5, -0.5, 0.5, 1.5), energy_edges=EDGES)
    with pytest.warns(UserWarning) as record:
        estimator.response(both)
    (warning,) = record
    assert str(warning.message).startswith(
        "region 0 of 4 (counted from 0; -0.5 to 0.5 deg): off the map of dataset 'b'"
    )
    assert "NaN" not in str(warning.message) and warning.filename == __file__


def test_touching():
    """By area, not by the centre of the region."""
    geom = dataset().geom.to_image()  # |l| < 2, |b| < 1
    regions = [
        CircleAnnulusSkyRegion(gal(3, 0), 1.2 * u.deg, 1.201 * u.deg),  # centre off, ring on
        CircleAnnulusSkyRegion(gal(0, 0), 3 * u.deg, 3.001 * u.deg),  # the other way round
        CircleSkyRegion(gal(2.03, 0), 0.04 * u.deg),  # over the edge by a tenth of a pixel
        CircleSkyRegion(gal(2.03, 0), 0.02 * u.deg),
        PolygonSkyRegion(gal([2.5, 1.99, 2.5], [0.1, 0.02, -0.1])),
        CircleSkyRegion(gal(1, 0), 0.01 * u.deg) | CircleSkyRegion(gal(9, 0), 0.01 * u.deg),
        CircleSkyRegion(gal(-170, 80), 0.5 * u.deg),
        *[CircleSkyRegion(gal(x, y), 0.1 * u.deg) for x, y in ((3, 0), (-3, 0), (0, 2), (0, -2))],
    ]
    expected = [True, False, True, False, True, True, False, False, False, False, False]
    assert touches_map(regions, geom).tolist() == expected
    assert touches_map([], geom).tolist() == []
    tan = WcsGeom.create((0, 0), binsz=0.1, npix=(40, 20), frame="galactic", proj="TAN")
    assert touches_map(regions, tan).tolist() == expected
    # A projection that shows half of the sky has nothing to say against the other half.
    behind = [
        CircleSkyRegion(gal(180, 0), 1 * u.deg),
        CircleSkyRegion(gal(90, 0), 5 * u.deg),
        PolygonSkyRegion(gal([80, 100, 90], [0, 0, 40])),
        RectangleSkyRegion(gal(88, 0), 10 * u.deg, 10 * u.deg),
    ]
    assert touches_map(behind, tan).tolist() == [False] * 4
    sky = WcsGeom.create((0, 0), binsz=1, npix=(360, 180), frame="galactic", proj="AIT")
    assert touches_map([*behind, CircleSkyRegion(gal(20, 60), 0.1 * u.deg)], sky).all()


def test_lists_in_messages():
    five = boxes(*range(5))
    assert listed(np.array([3]), five) == "region 3 of 5 (counted from 0; 2.5 to 3.5 deg)"
    # Neighbours share a range.
    found = listed(np.array([0, 1, 4]), five)
    assert found == "regions 0, 1, 4 of 5 (counted from 0; -0.5 to 1.5, 3.5 to 4.5 deg)"
    assert listed(np.array([0]), five[::2] + five[:1]) == "region 0 of 4 (counted from 0)"
    text = listed(np.arange(0, 30, 2), boxes(*range(30)))
    assert text.startswith("regions 0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 5 more of 30 (counted")
    assert text.endswith("9.5 to 10.5, ... deg)")
