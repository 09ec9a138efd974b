"""Derivatives of limits, scans, sensitivities and test statistics of joint fits."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem
from numpy.testing import assert_allclose
from test_joint_fit import at_a_constraint, quickly, stencil

from jaxprof.inference.joint_fit import fit_joint
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.likelihood.joint_data import JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.terms import Poisson

SIDES, TARGETS = jnp.array([-1.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 4.0])
CLOSED = jnp.array([False, False, True])
CHANGES = (
    "counts",
    "background",
    "template",
    "n_on",
    "n_off",
    "alpha",
    "upper",
    "penalty",
    "held",
    "sigma",
)


def small(by, kind):
    """Two norms that leak into each other, of cash and of On-Off data; small changes of all.

    The second may be held; some counts, ON and OFF, may be zero.
    """
    held, counted = kind == "one norm held", float(kind != "zeros")
    rng = np.random.default_rng(8)
    templates = jnp.asarray(rng.uniform(0.5, 6.0, (1, 2, 1, 5)))
    common = {"components": jnp.array([[0, 1]]), "mask": jnp.ones((1, 5), bool)}
    cash = JointBlock(
        counts=jnp.array([[9.0, 4.0, 7.0 * counted, 12.0, 5.0]]).at[0, 1].add(by["counts"]),
        background=jnp.full((1, 5), 2.0).at[0, 2].add(by["background"]),
        offset=jnp.zeros((1, 5)),
        log_energy=jnp.zeros((1, 5)),
        templates=templates.at[0, 1, 0, 3].add(by["template"]),
        **common,
    )
    off = jnp.array([[9.0, 12.0 * counted, 8.0, 7.0 * counted, 11.0]])
    on_off = JointOnOffBlock(
        n_on=jnp.array([[6.0, 8.0, 3.0 * counted, 5.0 * counted, 9.0]]).at[0, 0].add(by["n_on"]),
        n_off=off.at[0, 4].add(by["n_off"]),
        alpha=jnp.full((1, 5), 0.3).at[0, 2].add(by["alpha"]),
        offset=jnp.zeros((1, 5)),
        templates=templates[..., ::-1],
        **common,
    )
    return JointData(
        blocks=(cash, on_off),
        start=jnp.array([0.0, 0.8]) * held + jnp.array([0.0, 1.0]) * by["held"],
        free=jnp.array([True, not held]),
        lower=jnp.full(2, -jnp.inf),
        # The upper limit of the second norm ends here.
        upper=jnp.array([jnp.inf, 1.4]) + by["upper"],
        precision=jnp.diag(jnp.array([0.8, 0.0])),
        penalty_start=jnp.array([0.5, 0.0]) + by["penalty"],
        n_components=2,
    )


def profiled(which, kind, by):
    """What is profiled; numbers of sigma and values of scans are multiplied as well."""
    by = dict(zip(CHANGES, by, strict=True))
    data, factor = small(by, kind), 1 + by["sigma"]
    components = jnp.arange(1 if kind == "one norm held" else 2)
    fit = fit_joint(data)
    if which == "limits":
        return joint_limits(data, fit, components, SIDES, TARGETS * factor**2, CLOSED)
    if which == "scan":
        return jnp.stack(joint_scan(data, fit, components, jnp.array([0.2, 1.1]) * factor))
    if which == "sensitivity":
        return joint_sensitivity(data, fit, components, 5.0 * factor)
    return joint_ts(data, fit, components).ts


@pytest.mark.slow
@pytest.mark.parametrize("which", ["limits", "scan", "sensitivity", "ts"])
@pytest.mark.parametrize("kind", ["all free", "one norm held", "zeros"])
def test_derivatives_of_what_is_profiled(which, kind):
    """With respect to everything, against finite differences."""
    zero, step = np.zeros(len(CHANGES)), 1e-3
    value = quickly(partial(profiled, which, kind))
    slopes = quickly(jax.jacfwd(partial(profiled, which, kind)))(zero)
    assert np.all(np.isfinite(value(zero)))
    for number, name in enumerate(CHANGES):
        row = np.eye(len(CHANGES))[number]
        expected = stencil(lambda h, row=row: np.asarray(value(h * row)), step)
        size = np.abs(expected).max()
        assert_allclose(
            slopes[..., number], expected, rtol=1e-5, atol=1e-6 * size + 1e-8, err_msg=name
        )
        if kind == "all free":
            assert size > 1e-6 or name in ("upper", "sigma", "held")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["limits", "scan", "limits at a bound"])
def test_both_modes_and_second_derivatives(name):
    """Where a prediction touches zero, or with a limit that does not exist."""

    def function(shift):
        at_bound = name.endswith("bound")
        data = at_a_constraint(shift=shift, low=5.0 if at_bound else -np.inf)
        fit = fit_joint(data)
        if name == "scan":
            return jnp.stack(joint_scan(data, fit, jnp.array([0]), jnp.array([3.0, 8.0])))
        return joint_limits(data, fit, jnp.array([int(at_bound)]), SIDES[:2], TARGETS[:2])

    step = 0.01
    compiled, slope = quickly(function), quickly(jax.jacfwd(function))
    value, at_zero = compiled(0.0), slope(0.0)
    # Beyond the domain a scan is infinite, whatever the data.
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(stencil(lambda h: np.asarray(compiled(h)), step))
    assert_allclose(at_zero, expected, rtol=1e-6, atol=1e-9)
    assert_allclose(quickly(jax.jacrev(function))(0.0), at_zero, rtol=1e-8, atol=1e-11)
    assert np.isnan(value).any() == (name == "limits at a bound")
    if name == "limits":
        # Norms are in units of the templates.
        assert_allclose(at_zero, -value, rtol=1e-8)
        assert_allclose(quickly(jax.jacfwd(jax.jacfwd(function)))(0.0), 2 * value, rtol=1e-7)


def test_fit_with_ts_refuses_derivatives():
    def ts(factor):
        return fit_joint_ts(at_a_constraint(factor=factor), jnp.array([0]))[1]

    for derivative in (jax.jacfwd, jax.jacrev):
        with pytest.raises(TypeError, match="differentiate fit_joint and joint_ts"):
            derivative(ts)(1.0)


@pytest.mark.slow
def test_drawn_counts_refuse_derivatives():
    """Whole numbers do not change with the rate; a gradient of zero would look like one."""
    shape = (1, 1, 3)
    zero, empty = jnp.zeros(shape), jnp.zeros((1, 1, 0))
    term = Poisson(
        counts=zero,
        background=jnp.full(shape, 5.0),
        offset=zero,
        log_energy=zero,
        templates=jnp.zeros((1, 1, 0, 1, 3)),
        components=empty.astype(int),
        mask=jnp.ones(shape, bool),
    )

    def total(norm):
        drawn = term.simulated(jax.random.key(1), zero, jnp.reshape(norm, 1), jnp.zeros(1))
        return jnp.sum(drawn.counts)

    assert total(jnp.asarray(1.0)) > 0
    with pytest.raises(TypeError, match="stop_gradient"):
        jax.grad(total)(1.0)

    # What else depends on the parameters may be differentiated.
    def also(norm):
        return total(jax.lax.stop_gradient(norm)) * norm

    assert jax.grad(also)(1.0) == total(jnp.asarray(1.0))


@pytest.mark.slow
def test_followed_limits_have_derivatives_outside_of_jit():
    """What `follow` finds has none, and needs the step of the search that gives them."""
    templates = np.array([[1.9, 0.3, 1.9, 0.6, 0.0, 0.8], [1.6, 0.05, 0.7, 1.6, 0.7, 0.4]])
    counts, background = np.array([13.0, 4, 7, 8, 4, 6]), np.array([1.6, 1.4, 0.3, 2.0, 2.6, 1.8])
    data = Problem((Part(counts, templates[:, None], background=background),)).joint(1, 6)
    (block,) = data.blocks

    def upper(counts):
        own = replace(data, blocks=(replace(block, counts=counts),))
        goals = jnp.arange(2), jnp.array([1.0]), jnp.array([4.0])
        return joint_limits(own, fit_joint(own), *goals).sum()

    eager = jax.grad(upper)(block.counts)
    assert_allclose(eager, jax.grad(jax.jit(upper))(block.counts), rtol=1e-9)
    assert np.all(np.abs(eager) > 1e-3)
