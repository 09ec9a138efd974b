"""Derivatives through the fit against finite differences, in both modes and to second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose

from jaxprof.core import OnOffData, ProfileData, fit_norms, limits, sensitivity
from jaxprof.inference.scan import norm_rises
from jaxprof.solvers.solve import implicit_roots

REGULAR = {
    "counts": [7.0, 3.0, 0.0, 2.0],
    "background": [4.0, 2.5, 1.0, 0.4],
    "npred_ref": [3.0, 2.0, 1.5, 0.7],
}
KINK = {
    "counts": [0.0, 1.0, 0.0],
    "background": [3.82284913, 2.5358368, 1.71843505],
    "npred_ref": [2.88864023, 1.6728921, 0.94015157],
}
ZERO = {"counts": [0.0, 0.0], "background": [1.5, 3.0], "npred_ref": [1.0, 1.2]}
ON_OFF = {
    "n_on": [6.0, 2.0, 0.0],
    "n_off": [9.0, 0.0, 3.0],
    "alpha": [0.3, 0.4, 0.5],
    "npred_ref": [2.0, 1.0, 0.5],
}


def arrays_of(case):
    return {name: jnp.asarray(values)[None, None] for name, values in case.items()}


def norm_of(arrays):
    kind = OnOffData if "n_on" in arrays else ProfileData
    return fit_norms(kind(**arrays)).norm[0, 0]


def upper_of(arrays):
    kind = OnOffData if "n_on" in arrays else ProfileData
    data = kind(**arrays)
    return limits(data, fit_norms(data)).norm_ul[0, 0]


def sensitivity_of(arrays):
    kind = OnOffData if "n_on" in arrays else ProfileData
    return sensitivity(kind(**arrays))[0, 0]


def difference(function, arrays, name, counts_bin, step, one_sided=False):
    """Finite difference; counts of zero only have a right-hand one."""

    def at(change):
        moved = dict(arrays)
        moved[name] = arrays[name].at[0, 0, counts_bin].add(change)
        return float(function(moved))

    if one_sided:
        # Second order from the right.
        return (-3 * at(0.0) + 4 * at(step) - at(2 * step)) / (2 * step)
    return (at(step) - at(-step)) / (2 * step)


@pytest.mark.parametrize("function", [norm_of, upper_of, sensitivity_of])
@pytest.mark.parametrize("case", [REGULAR, pytest.param(ON_OFF, marks=pytest.mark.slow)])
def test_regular(function, case):
    arrays = arrays_of(case)
    reverse = jax.jit(jax.grad(function))(arrays)
    if function is norm_of:
        forward = jax.jit(jax.jacfwd(function))(arrays)
        for name in arrays:
            assert_allclose(forward[name], reverse[name], rtol=1e-12, atol=1e-15)
    for name, values in arrays.items():
        for counts_bin in range(values.size):
            at_zero = float(values[0, 0, counts_bin]) == 0.0
            if at_zero and name == "n_off" and function is not norm_of:
                # The first OFF count changes a limit like n ln n: there is no derivative.
                continue
            expected = difference(function, arrays, name, counts_bin, 1e-4, one_sided=at_zero)
            assert_allclose(reverse[name][0, 0, counts_bin], expected, rtol=3e-6, atol=2e-6)


def quantities(arrays):
    """Everything that is known of a norm: its ts, limits, and rises of a scan."""
    data = OnOffData(**arrays) if "n_on" in arrays else ProfileData(**arrays)
    fit = fit_norms(data)
    found = limits(data, fit)
    scan = norm_rises(data, fit, jnp.array([[[0.5, 6.0]]]))
    parts = fit.norm, fit.ts, found.norm_errn, found.norm_errp, found.norm_ul
    return jnp.stack([*(jnp.ravel(part)[0] for part in parts), *scan[0, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("n_off", [[9.0, 4.0, 3.0, 0.0], [9.0, 0.0, 3.0, 0.0]])
def test_everything_of_on_off_data_with_zeros(n_off):
    """ON, OFF or both without counts.

    But for the first count where its rate vanishes at one end of a difference: the statistic
    changes as n ln n there, and has no derivative.
    """
    arrays = arrays_of(
        {
            "n_on": [6.0, 2.0, 0.0, 0.0],
            "n_off": n_off,
            "alpha": [0.3, 0.4, 0.5, 0.6],
            "npred_ref": [2.0, 1.0, 0.5, 0.4],
        }
    )
    slopes, value = jax.jit(jax.jacfwd(quantities))(arrays), jax.jit(quantities)
    assert np.all(np.isfinite(value(arrays)))
    step = 1e-4
    for name, values in arrays.items():
        for at in range(values.size):
            at_zero = float(values[0, 0, at]) == 0.0
            if at_zero and name == "n_off":
                continue

            def moved(change, name=name, at=at):
                own = arrays[name].at[0, 0, at].add(change)
                return np.asarray(value({**arrays, name: own}))

            if at_zero:
                expected = (-3 * moved(0.0) + 4 * moved(step) - moved(2 * step)) / (2 * step)
            else:
                expected = (moved(step) - moved(-step)) / (2 * step)
            # ts and the lower error go where there is no ON rate.
            exists = np.array([0, 3, 4, 5, 6]) if at_zero else slice(None)
            found = np.asarray(slopes[name])[exists, 0, 0, at]
            assert_allclose(found, expected[exists], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [KINK, ZERO], ids=["kink", "zero counts"])
@pytest.mark.slow
def test_kink_and_zero_counts(case):
    arrays = arrays_of(case)
    reverse = jax.jit(jax.grad(norm_of))(arrays)
    forward = jax.jit(jax.jacfwd(norm_of))(arrays)
    for name in ("background", "npred_ref"):
        for counts_bin in range(arrays[name].size):
            expected = difference(norm_of, arrays, name, counts_bin, 1e-5)
            assert_allclose(reverse[name][0, 0, counts_bin], expected, rtol=1e-8, atol=1e-10)
        assert_allclose(forward[name], reverse[name], rtol=1e-12)
    kink = int(
        np.argmin(np.abs(np.array(case["background"]) / case["npred_ref"] + norm_of(arrays)))
    )
    expected = difference(norm_of, arrays, "counts", kink, 1e-6, one_sided=True)
    assert expected > 0.1
    assert_allclose(reverse["counts"][0, 0, kink], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("counted", [[0.0, 1.0], [1.0, 1.5]])
def test_kinks_of_several_counts_bins_at_the_minimum(counted):
    """The norm is -b / s of the first two: derivatives along what keeps these together."""
    count, background = counted
    arrays = arrays_of(
        {
            "counts": [0.0, 0.0, count],
            "background": [1.0, 2.0, background],
            "npred_ref": [1.0, 2.0, 1.0],
        }
    )
    assert_allclose(norm_of(arrays), -1.0, rtol=1e-14)
    gradient = jax.grad(norm_of)(arrays)
    own, rates = gradient["background"][0, 0], gradient["npred_ref"][0, 0]
    assert_allclose([own[0] + 2 * own[1], own[2]], [-1.0, 0.0], atol=1e-12)
    assert_allclose([rates[0] + 2 * rates[1], rates[2]], [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("background", [[0.0, 0.0], [0.1, 0.2], [0.1, 0.5]])
@pytest.mark.slow
def test_limit_without_counts(background):
    """UL = (2 - sum b) / sum s, also where the counts bins reach zero at the same norm."""
    arrays = arrays_of({"counts": [0.0, 0.0], "background": background, "npred_ref": [1.0, 2.0]})
    assert_allclose(upper_of(arrays), (2 - sum(background)) / 3, rtol=1e-12)
    gradient = jax.grad(upper_of)(arrays)
    assert_allclose(gradient["background"][0, 0], [-1 / 3, -1 / 3], rtol=1e-10)
    assert_allclose(gradient["npred_ref"][0, 0], -upper_of(arrays) / 3, rtol=1e-10)

    def ts(arrays):
        return fit_norms(ProfileData(**arrays)).ts[0, 0]

    assert_allclose(jax.grad(ts)(arrays)["background"][0, 0], [2.0, 2.0], rtol=1e-12)


@pytest.mark.slow
def test_limit_without_counts_of_uneven_bins():
    """The same where one counts bin has hardly any signal and the norm is at -1e13."""
    arrays = arrays_of({"counts": [0.0, 0.0], "background": [0.1, 0.1], "npred_ref": [1.0, 1e-14]})
    assert_allclose(norm_of(arrays), -1e13, rtol=1e-12)
    assert_allclose(upper_of(arrays), 1.8, rtol=1e-13)
    gradient = jax.grad(upper_of)(arrays)
    assert_allclose(gradient["background"][0, 0], [-1.0, -1.0], rtol=1e-12)
    assert_allclose(gradient["npred_ref"][0, 0], [-1.8, -1.8], rtol=1e-12)


@pytest.mark.parametrize(
    "case, moving",
    [
        pytest.param(
            {"n_on": [0.0, 3.0], "n_off": [0.0, 7.0], "alpha": [0.5, 0.5], "npred_ref": [1.0, 0.4]},
            [("n_on", 0), ("n_off", 0)],
            marks=pytest.mark.slow,
        ),
        # Two kinks: the second one holds the norm where the first counts bin gets a count.
        (
            {
                "n_on": [0.0, 0.0, 2.0],
                "n_off": [0.0, 0.0, 1.0],
                "alpha": [0.8, 0.9, 1.0],
                "npred_ref": [0.6, 2.5, 2.1],
            },
            [("n_on", 1), ("n_off", 1)],
        ),
    ],
)
def test_on_off_kink(case, moving):
    """Counts bins without any count at zero signal: both one-sided derivatives by their counts."""
    arrays = arrays_of(case)
    norm = jax.jit(norm_of)
    assert float(norm(arrays)) == 0.0
    gradient = jax.grad(norm_of)(arrays)
    for name in ("n_on", "n_off"):
        for counts_bin in range(len(case["n_on"]) - 1):
            expected = difference(norm, arrays, name, counts_bin, 1e-6, one_sided=True)
            assert (abs(expected) > 0.1) == ((name, counts_bin) in moving)
            assert_allclose(gradient[name][0, 0, counts_bin], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", [REGULAR, KINK, ZERO, ON_OFF])
def test_hessian(case):
    """Second derivatives by background (or alpha) and prediction against finite differences."""
    arrays = arrays_of(case)
    names = ("alpha" if "n_on" in case else "background", "npred_ref")
    hessian = jax.jit(jax.hessian(norm_of))(arrays)
    gradient = jax.jit(jax.grad(norm_of))
    for first in names:
        for second in names:
            for counts_bin in range(arrays[first].size):

                def component(moved, second=second):
                    return gradient(moved)[second]

                step = 1e-4
                up, down = dict(arrays), dict(arrays)
                up[first] = arrays[first].at[0, 0, counts_bin].add(step)
                down[first] = arrays[first].at[0, 0, counts_bin].add(-step)
                expected = (component(up) - component(down)) / (2 * step)
                got = hessian[second][first][0, 0, :, 0, 0, counts_bin]
                assert_allclose(got, expected[0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_check_grads():
    """JAX's own check, first and second order, forward and reverse."""
    arrays = arrays_of(REGULAR)

    @jax.jit
    def norm(background, npred_ref):
        return norm_of({**arrays, "background": background, "npred_ref": npred_ref})

    check_grads(norm, (arrays["background"], arrays["npred_ref"]), order=2, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_vmapped_gradients_are_finite():
    """One bad bin (masked, without exposure) puts no NaN into the gradients of the others."""
    shape = (4, 1, 3)
    counts = np.array([[[5, 2, 1]], [[0, 0, 0]], [[3, 0, 2]], [[4, 1, 1]]], float)
    npred_ref = np.ones(shape)
    npred_ref[2] = 0.0
    mask = np.ones(shape, bool)
    mask[3] = False
    background = jnp.full(shape, 1.3)

    def total(background, npred_ref):
        data = ProfileData(counts=counts, background=background, npred_ref=npred_ref, mask=mask)
        fit = fit_norms(data)
        result = limits(data, fit)
        return jnp.nansum(fit.norm) + jnp.nansum(fit.norm_err) + jnp.nansum(result.norm_ul)

    gradients = jax.grad(total, argnums=(0, 1))(background, jnp.asarray(npred_ref))
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient[2:] == 0)
        assert np.any(gradient[0] != 0)


def test_error_is_the_norms_variance():
    """For Poisson counts the propagated variance sum (dnorm/dn)^2 n is norm_err^2."""
    arrays = arrays_of({name: [v[0], v[1]] for name, v in REGULAR.items()})
    fit = fit_norms(ProfileData(**arrays))
    slopes = jax.grad(norm_of)(arrays)["counts"]
    assert_allclose(jnp.sum(slopes**2 * arrays["counts"]), fit.norm_err[0, 0] ** 2, rtol=1e-10)


@pytest.mark.slow
def test_spectral_index_derivative():
    """From the spectral index through the response and the fit to the norm."""
    from jaxprof import PowerLawSpectralModel

    edges = np.geomspace(0.01, 0.5, 6)
    edisp, exposure = jnp.eye(5), jnp.full((5, 5), 3e11)
    arrays = arrays_of(
        {"counts": [30.0, 18.0, 9.0, 4.0, 3.0], "background": [20.0, 12.0, 7.0, 2.0, 1.0]}
    )

    def norm(index):
        flux = PowerLawSpectralModel(index=index).integral(edges[:-1], edges[1:])
        npred_ref = (flux[:, None] * edisp * exposure).sum(axis=0)
        return norm_of({**arrays, "npred_ref": npred_ref[None, None]})

    step = 1e-5
    expected = (norm(2.3 + step) - norm(2.3 - step)) / (2 * step)
    assert_allclose(jax.grad(norm)(2.3), expected, rtol=1e-7)


@pytest.mark.slow
def test_second_derivatives_of_a_system():
    """Cube roots in other coordinates: the linear system changes along with its solution."""
    mixing = jnp.array([[2.0, 1.0], [1.0, 3.0]])

    def solve(right, x, a):
        return jnp.linalg.solve(mixing.T @ jnp.diag(3 * (mixing @ x) ** 2) @ mixing, right)

    def roots(a):
        found = jnp.linalg.solve(mixing, jnp.cbrt(jax.lax.stop_gradient(a)))
        return implicit_roots(lambda x, a: mixing.T @ ((mixing @ x) ** 3 - a), solve, found, a)

    a = jnp.array([8.0, 27.0])

    def exact(a):
        return jnp.linalg.solve(mixing, jnp.cbrt(a))

    for order in (jax.jacfwd, jax.jacrev):
        assert_allclose(order(roots)(a), order(exact)(a), rtol=1e-12)
        assert_allclose(order(order(roots))(a), order(order(exact))(a), rtol=1e-12, atol=1e-16)


def test_a_first_counts_bin_without_signal():
    """Without any kink the first counts bin stands in its place: no NaN of it may get out."""

    def norm(counts, background, npred_ref):
        data = ProfileData(counts=counts, background=background, npred_ref=npred_ref)
        return fit_norms(data).norm[0, 0]

    one = [jnp.array([[own]]) for own in ([0.0, 3.0], [0.03, 8.6], [0.0, 1.5])]
    value, slopes = jax.value_and_grad(norm, argnums=(0, 1, 2))(*one)
    # The norm is (n - b) / s of the second.
    assert_allclose(value, -5.6 / 1.5, rtol=1e-12)
    expected = [0.0, 1 / 1.5], [0.0, -1 / 1.5], [0.0, 5.6 / 1.5**2]
    assert_allclose(slopes, np.array(expected)[:, None, None], rtol=1e-10)
