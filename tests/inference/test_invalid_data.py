"""Inside of jit nobody can look at values: invalid ones give NaN and a status."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_joint_fit import at_a_constraint

from jaxprof.core import (
    OnOffData,
    ProfileData,
    Status,
    cash,
    fit_joint,
    fit_norms,
    limits,
    scan,
    sensitivity,
)

CASH = {"counts": [3.0, 2.0], "background": [1.0, 1.0], "npred_ref": [1.0, 2.0]}
ON_OFF = {"n_on": [3.0, 2.0], "n_off": [1.0, 4.0], "alpha": [0.5, 0.5], "npred_ref": [1.0, 2.0]}
INVALID = [-1e-3, -1.0, -2.0, np.nan, np.inf]


def everything(data, low=-9.0, high=9.0):
    fit = fit_norms(data, norm_min=low, norm_max=high)
    found = limits(data, fit, norm_min=low, norm_max=high)
    values = (fit.norm, fit.norm_err, fit.ts, fit.stat, found.norm_errn, found.norm_ul)
    return fit.status, jnp.stack(values), sensitivity(data), scan(data, jnp.array([1.0]))


@pytest.mark.parametrize(
    "kind, case", [(ProfileData, CASH), pytest.param(OnOffData, ON_OFF, marks=pytest.mark.slow)]
)
def test_separate_fits(kind, case):
    """A bin for each invalid value of each array, and at last a valid one."""
    bad = [(name, value) for name in case for value in INVALID]
    arrays = {name: np.tile(values, (len(bad) + 1, 1, 1)) for name, values in case.items()}
    for row, (name, value) in enumerate(bad):
        arrays[name][row, 0, 1] = value
    compiled = jax.jit(lambda arrays, *bounds: everything(kind(**arrays), *bounds))
    status, values, norms, stats = compiled(arrays, -9.0, 9.0)
    assert_array_equal(status[:-1], Status.NOT_CONVERGED)
    for found in (values[:, :-1], norms[:-1], stats[:-1]):
        assert np.isnan(found).all()
    for found in (status[-1], values[:, -1], norms[-1], stats[-1]):
        assert np.isfinite(found).all()
    # Bounds that do not increase.
    for low, high in ((2.0, 1.0), (1.0, 1.0), (np.nan, 1.0), (0.0, np.nan)):
        status, values, _, _ = compiled(arrays, low, high)
        assert_array_equal(status, Status.NOT_CONVERGED)
        assert np.isnan(values).all()


def test_joint_fits():
    good = at_a_constraint()
    (block,) = good.blocks

    def with_block(**changes):
        return replace(good, blocks=(replace(block, **changes),))

    bad = [
        with_block(**{name: getattr(block, name).at[0, 1].set(value)})
        for name in ("counts", "background")
        for value in (-0.5, np.nan, np.inf)
    ]
    bad.append(with_block(offset=block.offset.at[0, 1].set(np.nan)))
    bad.append(with_block(templates=block.templates.at[0, 1, 0, 2].set(np.nan)))
    bad.append(replace(good, lower=jnp.array([3.0, 0.0]), upper=jnp.array([2.0, 9.0])))
    bad.append(replace(good, precision=good.precision.at[0, 0].set(np.nan)))
    compiled = jax.jit(fit_joint, compiler_options={"xla_backend_optimization_level": 0})
    assert compiled(good).converged
    # What is masked does not matter.
    masked = with_block(
        counts=block.counts.at[0, 0].set(np.nan), mask=block.mask.at[0, 0].set(False)
    )
    assert compiled(masked).converged
    for data in bad:
        fit = compiled(data)
        assert not fit.converged
        assert fit.status[0] == Status.NOT_CONVERGED and np.all(fit.status > Status.BOUNDARY)
        for found in (fit.values, fit.covariance, fit.stat):
            assert np.isnan(found).all()


def test_derivative_of_cash_at_zero_is_the_right_hand_one():
    assert jax.grad(cash, argnums=1)(0.0, 0.0) == 2.0
