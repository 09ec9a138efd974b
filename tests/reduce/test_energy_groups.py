"""Requested energy edges on the axis of the data: what is used, and what is said."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_region_messages import boxes, dataset

from jaxprof import FluxProfileEstimator, ForwardFoldingProfileEstimator, MapAxis
from jaxprof.reduce.energy_groups import snap_energy_edges, warn_moved_edges

AXIS = MapAxis.from_edges([10, 20, 40, 80, 160] * u.GeV, name="energy", interp="log")


def messages(edges, axis=AXIS):
    """All that is said of edges."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warn_moved_edges(edges, axis, snap_energy_edges(edges, axis))
    return [str(w.message) for w in record]


@pytest.mark.parametrize(
    "edges",
    [
        [10, 160],
        [10.0001, 20, 40, 159.99],
        # A third of a bin is a factor of 2**(1/3) = 1.26 here.
        [10, 25.1, 160],
        [10, 32, 160],
        [12.5, 80],
    ],
)
def test_small_moves_pass(edges):
    assert messages(edges * u.GeV) == []


@pytest.mark.parametrize(
    ("edges", "used"),
    [
        ([10, 25.3, 160], "asked for 10, 25.3, 160 GeV, used 10, 20, 160 GeV"),
        ([10, 31.6, 160], "asked for 10, 31.6, 160 GeV, used 10, 40, 160 GeV"),
        ([13, 160], "asked for 13, 160 GeV, used 10, 160 GeV"),
    ],
)
def test_moves_of_more_than_a_third_of_a_bin(edges, used):
    (message,) = messages(edges * u.GeV)
    assert message == f"energy_edges: {used}: edges move to the nearest ones of the data"


def test_cuts_at_the_ends():
    (message,) = messages([0.02, 5] * u.TeV)
    assert message == (
        "energy_edges: asked for 0.02, 5 TeV, used 0.02, 0.16 TeV: the data range from 0.01 to 0.16"
    )
    # However little: the data end there.
    for edges in ([9.9, 80], [20, 162]):
        (message,) = messages(edges * u.GeV)
        assert message.endswith("the data range from 10 to 160")
    (message,) = messages([1, 57, 1000] * u.GeV)
    assert "used 10, 80, 160 GeV" in message or "used 10, 40, 160 GeV" in message
    assert message.endswith("from 10 to 160; edges move to the nearest ones of the data")
    # Rounding of the files is no cut.
    single = MapAxis.from_edges(
        np.float32([10, 20, 40, 80, 160]) * np.float32(1 - 1e-6) * u.GeV, name="energy"
    )
    assert messages([10, 160] * u.GeV, single) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0.3, 3.5), min_size=2, max_size=2, unique=True),
    st.sampled_from(["keV", "GeV", "TeV", "erg"]),
)
def test_a_warning_for_each_long_move(decades, unit):
    """Against a loop over the edges, in any unit."""
    edges = (10 ** np.sort(decades) * u.GeV).to(unit)
    try:
        snap_energy_edges(edges, AXIS)
    except ValueError:  # both on one edge
        return
    own = np.array([10.0, 20, 40, 80, 160])
    expected = False
    for edge in edges.to_value("GeV"):
        moved = np.min(np.abs(np.log2(edge / own)))  # bins are factors of two
        if abs(moved - 1 / 3) < 1e-9:
            return
        expected |= moved > 1 / 3 or edge < 9.99 or edge > 160.2
    assert (
        bool(messages(edges)) == expected
        or np.isclose(edges.to_value("GeV"), [10, 160], rtol=2e-3).any()
    )


@pytest.mark.parametrize("estimator", [FluxProfileEstimator, ForwardFoldingProfileEstimator])
@pytest.mark.slow
def test_both_estimators_say_it_once(estimator):
    one = estimator(boxes(-0.5, 0.5), energy_edges=[10, 5000] * u.GeV)
    for method in (one.run, one.reduce):
        with pytest.warns(UserWarning, match="asked for 10, 5000 GeV, used 10, 100 GeV") as record:
            method([dataset("a"), dataset("b")])
        assert [w.filename for w in record] == [__file__]
