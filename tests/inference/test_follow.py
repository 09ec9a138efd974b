"""Newton steps along a profile: right where they say so, against a minimisation for each value."""

import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem
from numpy.testing import assert_allclose, assert_array_less
from test_basins import random_problem as free_spectra
from test_limits import C, random_problem

from jaxprof.inference.duality_gap import duality_gaps
from jaxprof.inference.follow import Goal, follow, follow_all
from jaxprof.inference.held_fit import at_fit, fit_held
from jaxprof.inference.interior import inside_of, interior, usable
from jaxprof.inference.joint_fit import fit_joint, fitted_problem
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_ts import fit_joint_ts
from jaxprof.inference.parabola import in_use, parabola_at


@pytest.mark.slow
@pytest.mark.parametrize("lower", [-np.inf, 0.0])
def test_followed_profiles_are_minima(lower):
    """At few counts, where constraints become active on the way, and at many."""
    n_found = [0, 0]
    for seed, level in enumerate((0.05, 0.7, 5.0)):
        data = random_problem(seed, lower, np.inf, level).joint(1, 32)
        fit, _, _ = fit_joint_ts(data, np.arange(C))
        free, inside, best = usable(data), interior(data), at_fit(data, fit)
        problem = inside_of(data, free, inside[0])[0]
        for at in range(C):
            rises = Goal(jnp.array(at), jnp.array(jnp.nan), jnp.array(1.0), jnp.array(4.0))
            has_value = rises._replace(value=best[at] + 1.5)
            for kind, goal in enumerate((rises, has_value)):
                z, found = follow(problem, best, free, inside[1], goal)
                if not found:
                    continue
                n_found[kind] += 1
                height = fit_held(data, best, inside, at, z[at]).rise
                known = (z, True)
                own = fit_held(data, best, inside, at, z[at], known).rise
                assert_allclose(own, height, atol=1e-9)
                if goal is rises:
                    assert_allclose(height, 4.0, atol=1e-9)
                else:
                    assert z[at] == goal.value
    assert min(n_found) >= 6


def test_a_limit_that_empty_counts_bins_hold():
    """Newton steps end beside it: the limit is searched for. By brentq and another minimiser."""
    background = np.array([1.4536, 0.8246, 0.4915, 1.68, 2.8488, 2.4186])
    templates = np.array(
        [
            [0.0, 0.0, 0.0, 0.0, 1.6453, 0.0],
            [0.8118, 0.0, 0.0, 0.0, 0.8266, 0.0],
            [1.4497, 1.6338, 0.6704, 0.7834, 0.05, 0.05],
        ]
    )
    part = Part(np.array([0.0, 1, 0, 0, 0, 2]), templates[:, None], background=background)
    data = Problem((part,)).joint(tiles=2, size=8)
    fit = fit_joint(data)
    found = joint_limits(data, fit, jnp.arange(1), jnp.array([1.0]), jnp.array([4.0]))
    assert_allclose(found, 1.3108148702639604, rtol=2e-6)


def test_constraints_that_become_active_keep_the_barrier_wide():
    """Where steps are short: narrower from step to step, it let none of them arrive."""
    data = random_problem(60, -np.inf, np.inf, 0.05).joint(1, 32)
    fitted = fitted_problem(data, fit_joint(data))
    zero, at = np.zeros((1, C)), np.arange(C)[np.newaxis]
    z, _, found = follow_all(fitted, Goal(at, zero, zero, zero))
    assert found.all() and np.all(np.diagonal(z[0]) == 0)
    # A proof that knows of no iteration.
    parabola = parabola_at(fitted, in_use(fitted.problem))
    assert_array_less(duality_gaps(parabola, fitted.free, z[0], at[0]), 1e-8)


@pytest.mark.slow
def test_profiles_of_free_spectra_are_followed_to_where_the_statistic_has_risen():
    """Both ways, at few counts and many; by plain numpy, and no step of the others goes down."""
    number, rng = 0, np.random.default_rng(0)
    for seed in (1, 5):
        own = free_spectra(seed, index=True, tilt=False)
        data = own.joint(1, 40)
        fitted = fitted_problem(data, fit_joint(data))
        best = own.value(np.asarray(fitted.best))
        every = np.broadcast_to(np.arange(C) * own.step, (2, C))
        sides = np.broadcast_to([[-1.0], [1.0]], every.shape)
        goals = Goal(every, np.full(every.shape, np.nan), sides, np.full(every.shape, 4.0))
        z, rises, found = follow_all(fitted, goals)
        assert_allclose(rises[found], 4.0, atol=1e-9)
        number += found.sum()
        for point, at in zip(z[found], every[found], strict=True):
            assert_allclose(own.value(point) - best, 4.0, atol=1e-7)
            free = np.asarray((point > data.lower) & (point < data.upper))
            steps = 1e-4 * rng.normal(size=(50, len(point))) * free
            steps[:, at] = 0.0
            assert min(own.value(point + step) for step in steps) > best + 4.0 - 1e-6
    assert number >= 11
