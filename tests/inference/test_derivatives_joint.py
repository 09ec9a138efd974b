"""Derivatives of limits, scans, sensitivities and test statistics of joint fits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_joint_fit import (
    BATCHES,
    SIZE,
    at_a_constraint,
    bounded,
    one_fixed,
    quickly,
    regular,
    spectral_problem,
    stencil,
)

from jaxprof.inference.joint_fit import fit_joint, fit_joint_ts
from jaxprof.inference.joint_intervals import joint_limits, joint_scan, joint_sensitivity, joint_ts
from jaxprof.likelihood.terms import Poisson

COMPONENTS = jnp.array([0, 2, 3])
SIDES, TARGETS = jnp.array([-1.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 4.0])
CLOSED = jnp.array([False, False, True])


def profiled(data, factor, which=("limits", "scan", "sensitivity", "ts")):
    """Everything that is profiled; ``factor`` multiplies numbers of sigma and values of scans."""
    fit = fit_joint(data)
    found = {}
    if "limits" in which:
        rises = TARGETS * factor**2
        found["limits"] = joint_limits(data, fit, COMPONENTS, SIDES, rises, CLOSED)
    if "scan" in which:
        values = jnp.array([0.9, 1.4]) * factor
        found["scan"], found["conditional"] = joint_scan(data, fit, COMPONENTS, values)
    if "sensitivity" in which:
        found["sensitivity"] = joint_sensitivity(data, fit, COMPONENTS, 5.0 * factor)
    if "ts" in which:
        found["ts"] = joint_ts(data, fit, COMPONENTS).ts
    return found


def changed(data, by):
    """The data with small changes of everything; by has a number for each."""
    cash, *others = data.blocks
    cash = replace(
        cash,
        counts=cash.counts.at[0, 20].add(by["counts"]),
        background=cash.background.at[0, 30].add(by["background"]),
        offset=cash.offset.at[0, 21].add(by["offset"]),
        templates=cash.templates.at[0, 3, :, 28].add(by["template"]),
    )
    on_off = others[-1:]
    if on_off:
        on_off = [
            replace(
                on_off[0],
                n_on=on_off[0].n_on.at[0, 12].add(by["n_on"]),
                n_off=on_off[0].n_off.at[0, 12].add(by["n_off"]),
                alpha=on_off[0].alpha.at[0, 12].add(by["alpha"]),
            )
        ]
    spectra = data.spectra
    if spectra is not None:
        models = spectra.models.replace(reference=spectra.models.reference + by["reference"])
        spectra = replace(
            spectra, models=models, fixed_flux=(spectra.fixed_flux[0] * (1 + by["flux"]),)
        )
    return replace(
        data,
        blocks=(cash, *others[:-1], *on_off),
        lower=data.lower.at[3].add(by["lower"]),
        upper=data.upper.at[0].add(by["upper"]),
        start=data.start.at[2].add(by["start"]),
        precision=data.precision.at[-2, -2].multiply(1 + by["precision"]),
        penalty_start=data.penalty_start.at[-2].add(by["penalty"]),
        spectra=spectra,
    )


PLAIN = ("counts", "background", "offset", "template", "precision", "penalty", "sigma")
ON_OFF = ("n_on", "n_off", "alpha")
SPECTRAL = ("reference", "flux")
EVERYTHING = (*PLAIN, *ON_OFF, *SPECTRAL, "lower", "upper", "start")


def everything(data, by):
    changes = dict(zip(EVERYTHING, by, strict=True))
    which = ("limits", "scan", "ts") + (("sensitivity",) if data.spectra is None else ())
    return profiled(changed(data, changes), 1 + changes["sigma"], which)


values = quickly(everything)
slopes = quickly(jax.jacfwd(everything, argnums=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "own, names",
    [
        (lambda: bounded(regular()), (*PLAIN, *ON_OFF, "lower", "upper")),
        (lambda: one_fixed(regular()), ("counts", "start", "alpha")),
        (spectral_problem, (*PLAIN, *SPECTRAL)),
    ],
    ids=["bounds", "fixed norm", "free spectra"],
)
def test_derivatives_of_all_that_is_profiled(own, names):
    data = own().joint(BATCHES, SIZE)
    every = slopes(data, np.zeros(len(EVERYTHING)))
    moved = 0
    for name in names:
        number = EVERYTHING.index(name)
        row = np.eye(len(EVERYTHING))[number]
        at = {h: values(data, h * row) for h in 1e-3 * np.array([-2, -1, 1, 2])}
        for key, found in every.items():
            expected = stencil(lambda h, key=key, at=at: at[h][key], 1e-3)
            # What does not exist has no derivatives.
            expected = np.nan_to_num(expected)
            size = np.abs(expected).max()
            tolerance = {"rtol": 1e-5, "atol": 1e-6 * size + 1e-10}
            assert_allclose(found[..., number], expected, **tolerance, err_msg=f"{key} by {name}")
            moved += size > 1e-6
    assert moved > 3 * len(names)


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
    expected = np.nan_to_num(stencil(lambda h: np.asarray(compiled(h)), step))
    assert_allclose(at_zero, expected, rtol=1e-6, atol=1e-9)
    assert_allclose(quickly(jax.jacrev(function))(0.0), at_zero, rtol=1e-8)
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
