"""Positions of bins in messages."""

import numpy as np
import pytest

from jaxprof.regions import ProfileAxis
from jaxprof.sky.regions.positions import positions_text


@pytest.mark.parametrize(
    ("edges", "unit", "expected"),
    [
        ([1e-5, 0.15, 0.3, 0.45], "deg", "0 to 0.15, 0.3 to 0.45 deg"),
        ([55000.0, 55040.0, 55080.0, 55120.0], "d", "55000 to 55040, 55080 to 55120 d"),
        ([1e-5, 2e-5, 3e-5, 4e-5], "kpc", "0.00001 to 0.00002, 0.00003 to 0.00004 kpc"),
        ([-1, -1 / 3, 1 / 3, 1], "deg", "-1 to -0.333, 0.333 to 1 deg"),
        ([0.0, 1.0, 2.0, 3.0], "", ""),
    ],
)
def test_positions_have_the_digits_that_tell_bins_apart(edges, unit, expected):
    edges = np.array(edges)
    axis = ProfileAxis("some", edges[:-1], edges[1:], 0.5 * (edges[:-1] + edges[1:]), unit)
    assert positions_text(axis, [0, 2]) == expected
    # Neighbours share a range.
    whole = positions_text(axis, [0, 1, 2])
    assert whole.count(" to ") == bool(unit)
