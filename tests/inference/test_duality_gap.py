"""Bounds of how far points are above a minimum, against what they are above it in plain numpy."""

import numpy as np
import pytest
from joint_factory import Part, Problem
from numpy.testing import assert_array_less

from jaxprof.inference.duality_gap import duality_gaps
from jaxprof.inference.held_together import GAP, held_together
from jaxprof.inference.joint_fit import fit_joint, fitted_problem
from jaxprof.inference.joint_ts import searched_ts
from jaxprof.inference.parabola import in_use, parabola_at


def problem(seed, n_norms=3, n_bins=16):
    """Norms that share counts bins, some of which are empty."""
    rng = np.random.default_rng(seed)
    shape = n_norms, n_bins
    templates = rng.uniform(0, 3, shape) * (rng.random(shape) < rng.uniform(0.2, 0.7))
    templates[np.arange(n_norms), np.arange(n_norms)] += 1
    background = 10 ** rng.uniform(-3, 1) * rng.uniform(0.2, 1, n_bins)
    background[rng.random(n_bins) < 0.2] = 1e-3
    norms = rng.uniform(-0.02, 2, n_norms) * 10 ** rng.uniform(-1, 1.5)
    norms[rng.random(n_norms) < 0.3] = 0
    counts = rng.poisson(np.maximum(background + norms @ templates, 0.01)) * 1.0
    return Problem((Part(counts, templates[:, None], background),))


# In the second, a constraint of the fit is no longer active where the first norm is zero.
@pytest.mark.parametrize("seed", [96, 353, 184])
def test_points_are_not_further_above_the_minimum(seed):
    own = problem(seed)
    data = own.joint(1, 16)
    fitted = fitted_problem(data, fit_joint(data))
    parabola = parabola_at(fitted, in_use(data))
    held = np.arange(3)
    _, ts, _ = searched_ts(data, held)
    z, rises, found = held_together(fitted, held)
    assert found.all()
    np.testing.assert_allclose(rises, ts, rtol=1e-7, atol=1e-8)
    assert_array_less(duality_gaps(parabola, fitted.free, z, held), GAP)
    inside = np.maximum(z, 0.05)  # all predictions are positive
    inside[held, held] = 0.0
    for part in (1e-6, 1e-3, 0.3):
        points = z + part * (inside - z)
        above = [own.value(point) - own.value(best) for point, best in zip(points, z, strict=True)]
        gaps = duality_gaps(parabola, fitted.free, points, held)
        assert_array_less(0.5 * np.array(above) - 1e-10, gaps)
    outside = z.copy()
    outside[held, (held + 1) % 3] = -1e3
    assert np.all(np.isinf(duality_gaps(parabola, fitted.free, outside, held)))
