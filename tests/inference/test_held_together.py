"""Fits with one of many norms held at zero: as in plain numpy, and as one after the other."""

import numpy as np
import pytest
from joint_factory import Part, Problem
from numpy.testing import assert_allclose

from jaxprof.inference import joint_ts
from jaxprof.inference.held_together import held_together, is_simple
from jaxprof.inference.joint_fit import fit_joint, fitted_problem
from jaxprof.inference.joint_ts import fit_joint_ts, searched_ts

C, BATCHES, SIZE = 8, 4, 32


def problem(seed, counts=40.0, background=3.0, **settings):
    """Two data sets of overlapping bumps, one norm of them zero and one negative."""
    rng = np.random.default_rng(seed)
    norms = rng.uniform(0.2, 2, C)
    norms[[2, 5]] = 0.0, -0.2 * background / counts
    parts = []
    for dataset, n in enumerate([90, 110]):
        x = np.linspace(0, C + 1, n)
        bumps = counts * np.exp(-0.5 * ((x - 1 - np.arange(C)[:, None]) / 0.8) ** 2)
        templates = np.where(bumps > 1e-3 * counts, bumps, 0.0)[:, None]
        rate = rng.uniform(0.5, 1.0, n) * background
        signal = np.maximum(norms @ templates[:, 0] + rate, 0.1 * rate)
        parts.append(Part(rng.poisson(signal) * 1.0, templates, rate, dataset=dataset))
    return Problem(tuple(parts), **settings)


def smoothness(strength):
    difference = np.diff(np.eye(C), n=2, axis=0)
    return strength * difference.T @ difference


CASES = {
    "norms": {},
    "smooth norms": {"precision": smoothness(20.0)},
    "fixed norm": {"free": np.arange(C) != 3, "start": {3: 0.7}},
    "strong signal": {"counts": 100.0},
}


@pytest.mark.parametrize("name", CASES)
def test_norms_of_zero(name):
    own = problem(0, **CASES[name])
    best = own.solve()
    data = own.joint(BATCHES, SIZE, np.random.default_rng(1))
    fitted = fitted_problem(data, fit_joint(data))
    which = np.flatnonzero(own.freedom())
    assert is_simple(fitted.problem)
    z, rises, found = held_together(fitted, which)
    assert found.all()
    points = [own.held(best, at, 0.0) for at in which]
    exact = [own.value(point) - own.value(best) for point in points]
    assert_allclose(rises, exact, rtol=1e-9, atol=1e-9)
    errors = np.sqrt(np.diag(own.covariance(best)))
    scale = np.where(errors > 0, errors, 1.0)
    assert_allclose((z - np.stack(points)) / scale, 0.0, atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_with_few_counts(seed, monkeypatch):
    """Empty counts bins whose prediction becomes zero, or no longer is."""
    data = problem(seed, counts=0.5, background=0.1).joint(BATCHES, SIZE)
    _, exact, _ = searched_ts(data, np.arange(C))
    fitted = fitted_problem(data, fit_joint(data))
    z, rises, found = held_together(fitted, np.arange(C))
    assert found.all()
    assert_allclose(rises[found], np.asarray(exact)[found], rtol=1e-7, atol=1e-8)
    monkeypatch.setattr(joint_ts, "MANY", 0)
    _, ts, points = fit_joint_ts(data, np.arange(C))
    assert_allclose(ts, exact, rtol=1e-7, atol=1e-8)
    assert_allclose(points[found], z[found])


def test_only_what_it_can(monkeypatch):
    monkeypatch.setattr(joint_ts, "MANY", 0)
    own = problem(0)
    bounded = Problem(own.parts, lower={1: 0.0}).joint(BATCHES, SIZE)
    assert is_simple(own.joint(BATCHES, SIZE))
    assert not is_simple(bounded)
    _, exact, _ = searched_ts(bounded, np.arange(C))
    assert_allclose(fit_joint_ts(bounded, np.arange(C))[1], exact, rtol=1e-7, atol=1e-8)
