"""Derivatives of joint fits with free spectra, and of what they profile, by finite differences."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem, Spectra
from numpy.testing import assert_allclose
from test_joint_fit import quickly, stencil

from jaxprof.inference.joint_fit import fit_joint
from jaxprof.inference.joint_intervals import joint_limits, joint_ts
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_sensitivity import joint_sensitivity

NAMES = (
    "counts",
    "background",
    "template",
    "index",
    "edge",
    "group edge",
    "other flux",
    "constraint",
    "precision",
    "start",
    "sigma",
)
UNCHANGED = {
    # The index only says what a norm of one is; nothing is held, so a start is only that.
    "fit": {"sigma", "start"},
    "ts": {"index", "group edge", "sigma", "start"},
    "scan": {"start"},
    "limits": {"start"},
    "sensitivity": {"start"},
}


def problem(on_off):
    """A free and a fixed spectrum that leak into each other, in eight counts bins."""
    n = 8
    dispersion = np.array([[0.8, 0.15, 0.05], [0.15, 0.7, 0.15], [0.02, 0.18, 0.8]])
    rate = np.array([5e13, 7e13, 1.6e14])[:, None]
    templates = np.full((2, 3, n), 2e12)
    templates[0, :, :3], templates[1, :, 3:6] = rate * dispersion, rate * dispersion
    templates[0, :, 3:6], templates[1, :, :3] = 0.15 * templates[1, :, 3:6], 0.15 * rate
    spectra = Spectra(
        index=np.array([2.0]),
        amplitude=np.array([1e-12]),
        edges=np.geomspace(1.0, 10.0, 4),
        group=np.array([1.0, 10.0]),
        fixed=np.array([[4e-13, 2e-13, 1e-13]]),
    )
    precision = np.zeros((4, 4))
    precision[1, 1] = 4.0
    part = Part(
        counts=np.zeros(n), templates=templates, background=np.full(n, 4.0), log_energy=np.zeros(n)
    )
    own = Problem(
        parts=(part,), spectra=spectra, precision=precision, lower={1: -3.0}, upper={1: 7.0}
    )
    expected = own.model(part, np.array([1.0, 2.2, 1.0, 0.0]))[0].real
    part = replace(part, counts=np.round(expected) + np.array([2, -2, 0, 4, -4, 2, 0, -2]))
    if on_off:
        off = np.array([9.0, 12, 8, 7, 11, 10, 6, 9])
        part = replace(part, background=None, n_off=off, alpha=np.full(n, 0.4))
    return replace(own, parts=(part,)).joint(tiles=1, size=n)


def changed(data, by):
    """The data with one of each changed."""
    by = dict(zip(NAMES, by, strict=True))
    (block,), spectra = data.blocks, data.spectra
    first, second = ("n_on", "n_off") if hasattr(block, "n_on") else ("counts", "background")
    block = replace(
        block,
        **{
            first: getattr(block, first).at[0, 1].add(by["counts"]),
            second: getattr(block, second).at[0, 2].add(by["background"]),
            "templates": block.templates.at[0, 0, 0, 3].multiply(1 + by["template"]),
        },
    )
    models = spectra.models
    spectra = replace(
        spectra,
        models=models.replace(index=models.index + by["index"]),
        edges=(spectra.edges[0].at[1].add(by["edge"]),),
        group_edges=spectra.group_edges.at[1].add(by["group edge"]),
        fixed_flux=(spectra.fixed_flux[0].at[0, 1].multiply(1 + by["other flux"]),),
    )
    return replace(
        data,
        blocks=(block,),
        spectra=spectra,
        start=data.start.at[1].add(by["start"]),
        penalty_start=data.penalty_start.at[1].add(by["constraint"]),
        precision=data.precision.at[1, 1].add(by["precision"]),
    )


def profiled(which, data, by):
    """What is fitted or profiled; numbers of sigma and values of scans are multiplied."""
    data, factor, components = changed(data, by), 1 + by[-1], jnp.arange(2)
    fit = fit_joint(data)
    match which:
        case "fit":
            return jnp.concatenate([fit.values, jnp.diag(fit.covariance), fit.stat[None]])
        case "ts":
            return joint_ts(data, fit, components).ts
        case "scan":
            return jnp.stack(joint_scan(data, fit, components, jnp.array([0.2, 1.1]) * factor))
        case "sensitivity":
            return joint_sensitivity(data, fit, components, 3.0 * factor)
    rises = jnp.array([1.0, 4.0]) * factor**2
    return joint_limits(data, fit, components, jnp.array([-1.0, 1.0]), rises)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "on_off"), [*((w, False) for w in UNCHANGED), ("fit", True)])
def test_derivatives_with_a_free_spectrum(which, on_off):
    """With respect to everything, of all that is fitted and profiled."""
    data, function, zero = problem(on_off), partial(profiled, which), np.zeros(len(NAMES))
    value, slopes = quickly(function), quickly(jax.jacfwd(function, argnums=1))(data, zero)
    assert np.all(np.isfinite(value(data, zero)))
    for number, name in enumerate(NAMES):
        row = np.eye(len(NAMES))[number]
        expected = stencil(lambda h, row=row: np.asarray(value(data, h * row)), 1e-3)
        size = np.abs(expected).max()
        atol = 1e-6 * size + 1e-9
        assert_allclose(slopes[..., number], expected, rtol=1e-5, atol=atol, err_msg=name)
        assert (size < 1e-8) == (name in UNCHANGED[which]), name
