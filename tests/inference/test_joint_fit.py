"""Joint fits: an independent solution in numpy, and mathematical properties."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem, Spectra
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, linprog, nnls

from jaxprof.core import OnOffData, ProfileData, Status, fit_norms, scan, wstat
from jaxprof.core import limits as norm_limits
from jaxprof.inference.joint_fit import fit_joint
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.likelihood.joint_data import FreeSpectra, JointBlock, JointData
from jaxprof.models.spectral import PowerLawSpectralModel

C, BATCHES, SIZE = 8, 3, 32
"""Problems share these shapes, and so compiled programs: one data set, or all three."""
EVERY = jnp.arange(C)
DEVIATION = np.array([0.1, 0.05, 0.02, 0.3])
"""Widths of the constraints of the first two backgrounds' norms and tilts."""
SIDES, TARGETS = np.array([-1.0, 1.0, 1.0]), np.array([1.0, 1.0, 4.0])
"""Limits: errn, errp and the upper limit of two standard deviations."""


def templates(n, height=8.0, width=0.7):
    """Overlapping bumps, cut where they are small, shape (C, 1, n)."""
    x = np.linspace(0, C + 1, n)
    bumps = height * np.exp(-0.5 * ((x - 1 - np.arange(C)[:, None]) / width) ** 2)
    return np.where(bumps > 1e-3 * height, bumps, 0.0)[:, None]


def problem(*parts, **settings):
    """A problem where the norms alone are free."""
    free = np.arange(C + 2 * len(parts)) < C
    return Problem(parts, **{"n_nuisance": len(parts), "free": free, **settings})


@cache
def regular(seed=0):
    """Three data sets with enough counts, the last one with a measured background."""
    rng = np.random.default_rng(seed)
    norms = rng.uniform(0, 2, C)
    parts = []
    for dataset, n in enumerate([70, 91, 64]):
        t = templates(n)
        background = rng.uniform(2, 5, n)
        signal = norms @ t[:, 0]
        common = {"templates": t, "offset": rng.uniform(0, 0.5, n), "dataset": dataset}
        counts = rng.poisson(background + signal).astype(float)
        if dataset == 2:
            alpha = rng.uniform(0.2, 0.6, n)
            n_off = rng.poisson(background / alpha).astype(float)
            parts.append(Part(counts=counts, n_off=n_off, alpha=alpha, **common))
            continue
        log_energy = np.log(rng.uniform(0.5, 2.0, n))
        parts.append(Part(counts=counts, background=background, log_energy=log_energy, **common))
    # Where there are neither counts nor a constraint near, derivatives by the counts are one-sided.
    parts[0].counts[30] = 0.0
    parts[0].background[30] = 4.0
    return problem(*parts)


@cache
def one():
    return problem(regular().parts[0])


def constrained(own, precision=1 / DEVIATION**2):
    """Backgrounds that vary, apart from that of On-Off data."""
    n = min(2 * len(own.parts), 4)
    if own.parts[-1].n_off is not None:
        n = 2 * len(own.parts) - 2
    at = np.arange(C, C + n)
    matrix = np.zeros((own.size, own.size))
    matrix[at, at] = np.broadcast_to(precision, 4)[:n]
    return replace(own, free=np.arange(own.size) < C + n, precision=matrix)


def smooth(own, strength):
    """Penalty on the second differences of the norms."""
    difference = np.diff(np.eye(own.size)[:C], n=2, axis=0)
    return replace(own, precision=strength * difference.T @ difference)


def bounded(own):
    return replace(constrained(own), lower={3: 0.9, 5: -1.0}, upper={0: 0.8, C: 0.99, 6: 50.0})


def one_fixed(own):
    return replace(own, free=own.freedom() & (np.arange(own.size) != 2), start={2: 0.7})


VARIANTS = {
    "norms": lambda own: own,
    "free background": lambda own: constrained(own, 0.0),
    "constrained background": constrained,
    "smooth norms": lambda own: smooth(own, 20.0),
    "bounds": bounded,
    "fixed norm": one_fixed,
}


@cache
def fitted(name, whole=False):
    """A problem, its solution, its data, its fit and test statistics."""
    own = VARIANTS[name](regular() if whole else one())
    data = own.joint(BATCHES, SIZE, np.random.default_rng(1))
    return own, own.solve(), data, *fit_joint_ts(data, EVERY)[:2]


def norm_fit(own, rng=None):
    """Fit and test statistics, as numpy arrays."""
    return jax.tree.map(np.asarray, fit_joint_ts(own.joint(BATCHES, SIZE, rng), EVERY)[:2])


@pytest.mark.parametrize("name", VARIANTS)
def test_fit(name):
    own, best, _, fit, ts = fitted(name, whole=True)
    lower, upper = own.bounds()
    on_bound = (best <= lower) | (best >= upper)
    assert on_bound.sum() == (3 if name == "bounds" else 0)
    free = own.freedom()
    covariance = own.covariance(best, free & ~on_bound)
    errors = np.sqrt(np.diag(covariance))
    used = errors > 0
    assert bool(fit.converged)
    assert_allclose((fit.values - best)[used] / errors[used], 0.0, atol=1e-7)
    assert_array_equal(fit.values[~used], best[~used])
    assert_array_equal(fit.status, np.where(on_bound[:C], Status.BOUNDARY, Status.OK))
    expected = np.where(np.logical_or.outer(on_bound, on_bound), np.nan, covariance)
    assert_allclose(fit.covariance, expected, rtol=1e-6, atol=1e-8 * errors.max() ** 2)
    assert_allclose(fit.stat, own.stat(best), rtol=1e-12)
    for at in np.flatnonzero(~on_bound[:C] & free[:C]):
        assert_allclose(ts[at], own.rise(best, at, 0.0), atol=1e-8)


def test_ts():
    for name in ("constrained background", "bounds"):
        _, _, data, fit, ts = fitted(name)
        alone = joint_ts(data, fit, EVERY)
        assert_array_equal(alone.converged, True)
        assert_allclose(alone.ts, ts, atol=1e-9)


def test_limits():
    for name in ("constrained background", "smooth norms"):
        own, best, data, fit, _ = fitted(name)
        found = joint_limits(data, fit, EVERY, SIDES, TARGETS)
        for at in (0, 3, 4):
            expected = [own.limit(best, at, *pair) for pair in zip(SIDES, TARGETS, strict=True)]
            assert_allclose(found[at], expected, rtol=1e-7)


def test_no_limits_of_what_is_not_fitted():
    data = problem(without(one().parts[0], 4)).joint(BATCHES, SIZE)
    fit, _, _ = fit_joint_ts(data, EVERY)
    found = joint_limits(data, fit, EVERY, SIDES, TARGETS)
    assert_array_equal(np.isnan(found), (np.arange(C) == 4)[:, None] & np.ones(3, bool))


@pytest.mark.slow
def test_scan():
    own, best, data, fit, _ = fitted("constrained background")
    values = np.array([-0.1, 0.3, 1.0, 4.0])
    profiled, conditional = joint_scan(data, fit, EVERY, values)
    for at in (0, 5):
        expected = [own.rise(best, at, value) for value in values]
        assert_allclose(profiled[at], expected, rtol=1e-7)
        here = np.arange(best.size) == at
        held = [np.where(here, value, best) for value in values]
        expected = [own.value(z) - own.value(best) for z in held]
        assert_allclose(conditional[at], expected, rtol=1e-7)
    assert np.all(profiled <= conditional + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norms", "constrained background"])
def test_sensitivity(name):
    own, best, data, fit, _ = fitted(name)
    found = joint_sensitivity(data, fit, EVERY, jnp.array(5.0))

    def excess(norm, at):
        truth = best.copy()
        truth[:C] = np.maximum(truth[:C], 0.0)
        truth[at] = norm
        return own.asimov(truth).rise(truth, at, 0.0) - 25.0

    for at in (0, 4):
        assert_allclose(found[at], brentq(excess, 0.05, 10.0, args=(at,), xtol=1e-10), rtol=1e-7)


def without(part, component):
    changed = part.templates.copy()
    changed[component] = 0.0
    return replace(part, templates=changed)


def assert_same(result, other, order=slice(None)):
    """Fits of the same problem, the components of the second in another order."""
    (fit, ts), (fit2, ts2) = result, other
    at = np.arange(C)[order]
    expected = fit.covariance[np.ix_(at, at)]
    assert_allclose((fit2.values[:C] - fit.values[at]) / np.sqrt(np.diag(expected)), 0.0, atol=1e-8)
    assert_allclose(fit2.covariance[:C, :C], expected, rtol=1e-7, atol=1e-9 * expected.max())
    assert_allclose(fit2.stat, fit.stat, rtol=1e-10)
    assert_allclose(ts2, ts[order], atol=1e-8)


def test_order_does_not_matter():
    rng = np.random.default_rng(3)
    own = constrained(regular())
    order = rng.permutation(C)
    parts = []
    for part in own.parts:
        counts_bins = part.take(rng.permutation(part.counts.size))
        parts.append(replace(counts_bins, templates=counts_bins.templates[order]))
    other = replace(own, parts=tuple(parts))
    assert_same(norm_fit(own), norm_fit(other, rng), order)


def test_equal_bins_may_be_added_up_and_data_sets_are_both_their_bins():
    part = regular().parts[0]
    scale = np.random.default_rng(2).uniform(0.3, 3.0, part.counts.size)
    # All predictions have to be proportional, not equal.
    names = ("templates", "background", "offset")
    twin = replace(part, **{name: getattr(part, name) * scale for name in names}, dataset=1)
    twin = replace(twin, counts=np.roll(part.counts, 1))
    total = replace(part, **{name: getattr(part, name) * (1 + scale) for name in names})
    total = replace(total, counts=part.counts + twin.counts)
    nothing = regular().parts[2].take(slice(0, 0))
    (fit, ts), apart = norm_fit(problem(total)), norm_fit(problem(part, twin, nothing))
    # Splitting counts among counts bins of known shares changes the statistic by a constant.
    assert_same((replace(fit, stat=apart[0].stat), ts), apart)


@pytest.mark.slow
def test_components_without_overlap_are_fits_of_their_own():
    rng = np.random.default_rng(5)
    n = 11
    ref = rng.uniform(1, 6, (C, n))
    background = rng.uniform(1, 3, (C, n))
    counts = rng.poisson(background + rng.uniform(0.2, 2, (C, 1)) * ref).astype(float)
    single = np.zeros((C, 1, C, n))
    single[np.arange(C), 0, np.arange(C)] = ref
    part = Part(
        counts=counts.ravel(), background=background.ravel(), templates=single.reshape(C, 1, -1)
    )
    own = problem(part)
    data = own.joint(BATCHES, SIZE)
    fit, ts, _ = fit_joint_ts(data, EVERY)
    alone_data = ProfileData(
        counts=counts[:, None], background=background[:, None], npred_ref=ref[:, None]
    )
    alone = fit_norms(alone_data)
    errors = alone.norm_err[:, 0]
    assert_allclose((fit.values[:C] - alone.norm[:, 0]) / errors, 0.0, atol=1e-7)
    assert_allclose(np.sqrt(np.diag(fit.covariance)[:C]), errors, rtol=1e-8)
    assert_allclose(ts, alone.ts[:, 0], atol=1e-8)
    found = joint_limits(data, fit, EVERY, SIDES, TARGETS)
    expected = norm_limits(alone_data, alone, n_sigma=1.0, n_sigma_ul=2.0)
    assert_allclose(found[:, 0], expected.norm_errn[:, 0], rtol=1e-7)
    assert_allclose(found[:, 1], expected.norm_errp[:, 0], rtol=1e-7)
    assert_allclose(fit.values[:C] + found[:, 2], expected.norm_ul[:, 0], rtol=1e-7)
    # At -2 predictions are below zero: outside of the domain of a joint fit, while separate ones
    # have gammapy's floor inside the logarithm.
    values = np.array([-2.0, 0.3, 1.0, 4.0])
    expected = np.array((scan(alone_data, values) - alone.stat[..., None])[:, 0])
    assert np.all(np.isfinite(expected))
    expected[:, 0] = np.inf
    for rises in joint_scan(data, fit, EVERY, values):
        assert_allclose(rises, expected, rtol=1e-9, atol=1e-9)
    # Where all are possible, no search is compiled.
    for rises in joint_scan(data, fit, EVERY, values[1:]):
        assert_allclose(rises, expected[:, 1:], rtol=1e-9, atol=1e-9)


def assert_optimal(part, values):
    """Karush-Kuhn-Tucker conditions of a convex problem: they prove the minimum."""
    t = part.templates[:, 0]
    npred = part.background + part.offset + values @ t
    assert npred.min() > -1e-9
    counted = part.counts > 0
    assert np.all(npred[counted] > 0)
    score = 1 - part.counts / np.where(counted, npred, 1.0)
    active = ~counted & (npred < 1e-6)
    gradient = t @ score
    # What is left of the gradient must push against the constraints.
    if active.any():
        gradient = t[:, active] @ nnls(t[:, active], gradient)[0] - gradient
    assert_allclose(gradient / t.sum(axis=1), 0.0, atol=1e-6)
    return active


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_counts", [0, 2, 9])
@pytest.mark.slow
def test_few_counts(seed, n_counts):
    rng = np.random.default_rng(seed)
    n = 60
    counts = np.bincount(rng.integers(0, n, n_counts), minlength=n).astype(float)
    part = Part(
        counts=counts, background=rng.uniform(0.01, 0.1, n), templates=templates(n, height=1.0)
    )
    data = problem(part).joint(BATCHES, SIZE, rng)
    fit, ts, _ = fit_joint_ts(data, EVERY)
    assert bool(fit.converged)
    assert np.all(np.isfinite(fit.values)) and np.isfinite(fit.stat)
    active = assert_optimal(part, np.asarray(fit.values[:C]))
    assert np.any(fit.status == Status.BOUNDARY) == active.any()
    assert np.all((fit.status == Status.OK) | (fit.status == Status.BOUNDARY))
    # The errors are those of the counts, with or without constraints.
    t, seen = part.templates[:, 0], part.counts > 0
    told = (t[:, seen] > 0).any(axis=1)
    found = np.asarray(fit.covariance)[:C, :C]
    assert_array_equal(np.isfinite(np.diag(found)), told)
    rate = (part.background + part.offset + np.asarray(fit.values[:C]) @ t)[seen]
    fisher = (t[:, seen] * part.counts[seen] / rate**2) @ t[:, seen].T
    if n_counts == 9 and np.linalg.cond(fisher[np.ix_(told, told)]) < 1e8:
        expected = np.linalg.inv(fisher[np.ix_(told, told)])
        assert_allclose(found[np.ix_(told, told)], expected, rtol=1e-4)
    assert np.all(np.isfinite(ts)) and np.all(ts >= 0)
    if seed or not n_counts:
        return
    distances = joint_limits(data, fit, EVERY, SIDES, TARGETS)
    assert np.all(np.isfinite(distances[:, 1:]))
    assert np.all(distances[:, 2] > distances[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_limits_without_counts_are_those_of_a_linear_program(seed):
    """The statistic is twice the sum of the predictions then, none of which may be negative."""
    rng = np.random.default_rng(seed)
    n = 60
    part = Part(
        counts=np.zeros(n), background=rng.uniform(0.01, 0.1, n), templates=templates(n, 1.0)
    )
    data = problem(part).joint(BATCHES, SIZE, rng)
    fit, ts, _ = fit_joint_ts(data, EVERY)
    t, open_ends = part.templates[:, 0].T, (None, None)
    total = t.sum(axis=0)
    active = {"A_ub": -t, "b_ub": part.background}
    lowest = linprog(total, bounds=open_ends, **active).fun
    assert_allclose(total @ fit.values[:C], lowest, atol=1e-5)
    distances = joint_limits(data, fit, EVERY, SIDES[1:], TARGETS[1:])
    for k in range(C):
        held = [(0.0, 0.0) if j == k else open_ends for j in range(C)]
        at_zero = linprog(total, bounds=held, **active).fun
        assert_allclose(ts[k], 2 * (at_zero - lowest), atol=1e-5)
        for number, rise in enumerate(TARGETS[1:]):
            found = linprog(
                -np.eye(C)[k],
                A_ub=np.vstack([-t, total]),
                b_ub=np.append(part.background, lowest + rise / 2),
                bounds=open_ends,
            )
            assert_allclose(fit.values[k] + distances[k, number], -found.fun, rtol=1e-4)


@pytest.mark.slow
def test_negative_norms_are_made_up_for_by_others_without_counts():
    """By hand: below zero the second norm rises along, in two pixels instead of one."""
    templates = np.array([[0, 1.0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])[:, None]
    part = Part(np.array([0.0, 0, 0, 3]), templates, np.full(4, 0.05))
    data = Problem((part,)).joint(1, 4)
    fit = fit_joint(data)
    assert_allclose(fit.values, [0.0, -0.05, 2.95], atol=1e-9)
    norms = np.array([-0.1, -0.2, -0.5, -2.0])
    profiled, _ = joint_scan(data, fit, jnp.array([0]), norms)
    assert_allclose(profiled[0], -2 * norms, rtol=1e-6)
    (lower,) = joint_limits(data, fit, jnp.array([0]), SIDES[:1], TARGETS[:1])
    assert_allclose(lower, 0.5, rtol=1e-6)


@pytest.mark.slow
def test_limits_of_what_only_constraints_tell_apart():
    """Twice the same component for the counts, one of which has a pixel without counts more."""
    templates = np.array([[1.0, 0, 0], [1, 1e-7, 1]])[:, None]
    part = Part(np.array([5.0, 1.0, 0.0]), templates, np.full(3, 0.1))
    data = Problem((part,)).joint(1, 3)
    fit = fit_joint(data)
    # The pixel without counts puts the second norm at its constraint.
    assert_allclose(fit.values, [5.0, -0.1], atol=1e-4)
    found = joint_limits(data, fit, jnp.array([1]), SIDES[1:], TARGETS[1:])[0]
    # Each unit of it costs two in the statistic, and the first norm makes up for the counts.
    assert_allclose(found, [0.5, 2.0], rtol=1e-4)
    # A variance that knows of no constraints does not mislead the search.
    lost = replace(fit, status=jnp.full(2, Status.DEGENERATE), covariance=1e12 * jnp.eye(2))
    again = joint_limits(data, lost, jnp.array([1]), SIDES[1:], TARGETS[1:])[0]
    assert_allclose(again, [0.5, 2.0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("n_on", [0.0, 4.0])
@pytest.mark.parametrize("n_off", [0.0, 7.0])
def test_on_off_bins_without_counts(n_on, n_off):
    """One bin without ON counts, OFF counts or both, among others: as if it were on its own."""
    rng = np.random.default_rng(3)
    on, off = rng.poisson(6.0, (C, 1)).astype(float), rng.poisson(20.0, (C, 1)).astype(float)
    on[3], off[3] = n_on, n_off
    alpha, ref = np.full((C, 1), 0.25), rng.uniform(1, 4, (C, 1))
    single = (ref * np.eye(C))[:, None]
    part = Part(counts=on[:, 0], n_off=off[:, 0], alpha=alpha[:, 0], templates=single)
    free = np.ones(C, bool)
    data = Problem((part,), free=free).joint(BATCHES, SIZE)
    fit, ts, _ = fit_joint_ts(data, EVERY)
    alone_data = OnOffData(
        n_on=on[:, None], n_off=off[:, None], alpha=alpha[:, None], npred_ref=ref[:, None]
    )
    alone = fit_norms(alone_data)
    assert bool(fit.converged)
    assert_allclose(fit.values, alone.norm[:, 0], atol=1e-7)
    assert_allclose(ts, alone.ts[:, 0], atol=1e-7)
    at_kink = n_on == n_off == 0
    assert_array_equal(fit.status == Status.BOUNDARY, at_kink & (np.arange(C) == 3))
    regular = np.asarray(fit.status) == Status.OK
    errors = np.sqrt(np.diag(fit.covariance))
    assert_allclose(errors[regular], alone.norm_err[regular, 0], rtol=1e-6)
    found = joint_limits(data, fit, EVERY, SIDES[-1:], TARGETS[-1:])[:, 0]
    expected = norm_limits(alone_data, alone, n_sigma_ul=np.sqrt(TARGETS[-1])).norm_ul[:, 0]
    assert_allclose(fit.values + found, expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_few_on_off_counts(seed):
    """Overlapping bins at less than one count each: the minimum is one in every direction."""
    rng = np.random.default_rng(seed)
    n = 24
    on, alpha = rng.poisson(0.4, n).astype(float), rng.uniform(0.1, 0.5, n)
    off = rng.poisson(0.4 / alpha).astype(float)
    part = Part(counts=on, n_off=off, alpha=alpha, templates=templates(n, height=3.0))
    own = Problem((part,), free=np.ones(C, bool))
    fit, _, _ = fit_joint_ts(own.joint(BATCHES, SIZE), EVERY)
    assert bool(fit.converged) and np.all(np.isfinite(fit.values))
    best = np.asarray(fit.values)
    t = part.templates[:, 0]

    def stat(z):
        return float(np.sum(wstat(on, off, alpha, z @ t)))

    for direction in [*np.eye(C), *rng.normal(size=(20, C))]:
        for step in (-1e-2, -1e-4, 1e-4, 1e-2):
            assert stat(best + step * direction) > stat(best) - 1e-8


@pytest.mark.parametrize(
    ("n_on", "n_off"),
    [((9.0, 3.0), (5.0, 0.0)), ((9.0, 0.0), (5.0, 8.0))],
)
@pytest.mark.slow
def test_derivatives_by_on_off_counts_of_zero(n_on, n_off):
    """One component: those of the fit on its own, which are finite differences."""
    template, alpha = np.array([2.0, 1.0]), np.full(2, 0.25)
    part = Part(counts=np.array(n_on), n_off=np.array(n_off), alpha=alpha, templates=template[None])
    own = Problem((replace(part, templates=part.templates[:, None]),), free=np.ones(1, bool))
    data = own.joint(1, 2)

    def joint(on, off):
        block = replace(data.blocks[0], n_on=on[None], n_off=off[None])
        return fit_joint(replace(data, blocks=(block,))).values[0]

    def alone(on, off):
        one = OnOffData(
            n_on=on[None, None], n_off=off[None, None], alpha=alpha[None, None],
            npred_ref=template[None, None],
        )  # fmt: skip
        return fit_norms(one).norm[0, 0]

    counts = jnp.array(n_on), jnp.array(n_off)
    found, expected = (jax.grad(f, argnums=(0, 1))(*counts) for f in (joint, alone))
    assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    argument = 0 if n_on[1] == 0 else 1
    h, moved = 1e-4, list(counts)
    moved[argument] = counts[argument].at[1].add(h)
    difference = (joint(*moved) - joint(*counts)) / h
    assert abs(difference) > 0.03
    assert_allclose(found[argument][1], difference, rtol=1e-3)


@pytest.mark.slow
def test_free_spectra_of_data_sets_with_other_true_energies():
    """Each data set has templates in true energies of its own, and the same truth."""
    index, group = np.array([2.2, 2.5]), np.array([1.0, 10.0])
    x = np.linspace(0, 3, 20)
    place = np.exp(-0.5 * ((x - 1 - np.arange(2)[:, None]) / 0.6) ** 2)
    reco = np.tile(np.geomspace(1.2, 9.0, 5), 4)
    blocks, edges = [], []
    for dataset, own_edges in enumerate([np.geomspace(0.5, 20, 7), np.geomspace(0.8, 12, 10)]):
        middle = np.sqrt(own_edges[1:] * own_edges[:-1])
        mixing = np.exp(-0.5 * (np.log(reco / middle[:, None]) / 0.3) ** 2)
        spectra = Spectra(index, np.ones(2), own_edges, group, np.empty((0, len(middle))))
        phi = spectra.coefficients(np.array([1.3, 0.7]), np.array([2.0, 2.8]))[0]
        part = Part(
            counts=np.zeros(20), background=np.full(20, 0.5), dataset=dataset,
            templates=400 * place[:, None] * mixing,
        )  # fmt: skip
        counts = part.background + np.einsum("cq,cqs->s", phi, part.templates)
        (block,) = Problem((replace(part, counts=counts),), spectra=spectra).joint(1, 20).blocks
        blocks.append(block)
        edges.append(own_edges)
    model = Problem((part,), spectra=spectra).joint(1, 20)
    free_spectra = replace(
        model.spectra,
        edges=tuple(edges),
        fixed_flux=tuple(np.empty((0, len(own) - 1)) for own in edges),
    )
    data = replace(model, blocks=tuple(blocks), spectra=free_spectra)
    assert_allclose(fit_joint(data).values, [1.3, 2.0, 0.7, 2.8], rtol=1e-7)


def test_component_without_counts():
    part = one().parts[0]
    part = replace(part, counts=np.where(part.templates[3, 0] > 0, 0.0, part.counts))
    fit, _ = norm_fit(problem(part))
    assert bool(fit.converged) and np.all(np.isfinite(fit.values))
    assert fit.status[3] == Status.BOUNDARY
    assert assert_optimal(part, fit.values[:C]).any()


def test_components_that_cannot_be_told_apart():
    part = one().parts[0]
    changed = part.templates.copy()
    changed[1] = 2 * changed[0]
    degenerate = problem(replace(part, templates=changed))
    fit, ts = norm_fit(degenerate)
    assert_array_equal(fit.status[:2], Status.DEGENERATE)
    assert_array_equal(fit.status[2:], Status.OK)
    assert np.all(np.isfinite(fit.values)) and np.all(np.isfinite(fit.covariance))
    # Their sum is what a single one would have; the fit without one of them costs nothing.
    alone, alone_ts = norm_fit(problem(without(part, 1)))
    assert_allclose(fit.values[0] + 2 * fit.values[1], alone.values[0], rtol=1e-6)
    assert_allclose(fit.values[2:C], alone.values[2:C], rtol=1e-6)
    assert_allclose(fit.stat, alone.stat, rtol=1e-10)
    assert_allclose(ts[:2], 0.0, atol=1e-6)
    assert_allclose(ts[2:], alone_ts[2:], atol=1e-6)
    assert alone.status[1] == Status.NO_EXPOSURE
    assert np.isnan(alone.values[1]) and np.isnan(alone.covariance[1]).all()
    assert np.isnan(alone_ts[1])


def stencil(function, h=2e-3):
    """Derivative at zero, of fourth order in the step."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


CHANGES = ("counts", "no counts", "background", "template", "index", "n_on", "n_off", "alpha")


def changed(own, number, by):
    """The problem with one thing changed; of the first counts bins of batches 0 and 1."""
    parts = list(own.parts)

    def at(name, index, dataset=0):
        array = getattr(parts[dataset], name).astype(float)
        array[index] += by
        parts[dataset] = replace(parts[dataset], **{name: array})

    match CHANGES[number]:
        case "counts":
            at("counts", 20)
        case "no counts":
            at("counts", 30)
        case "background":
            at("background", 30)
        case "template":
            at("templates", (3, 0, 28))
        case "index":
            bend = np.ones((C, 1, 1)) * np.ones(parts[0].counts.size)
            bend[2] = np.exp(-by * parts[0].log_energy)
            parts[0] = replace(parts[0], templates=parts[0].templates * bend)
        case "n_on":
            at("counts", 12, 1)
        case "n_off":
            at("n_off", 12, 1)
        case "alpha":
            at("alpha", 12, 1)
    return replace(own, parts=tuple(parts))


def described(data, by):
    """Everything that a fit gives, with the changes of `CHANGES`; for the components as listed."""
    cash, *others = data.blocks
    counts = cash.counts.at[0, 20].add(by[0]).at[0, 30].add(by[1])
    bend = jnp.ones(cash.templates.shape).at[:, 2, 0].set(jnp.exp(-by[4] * cash.log_energy))
    cash = replace(
        cash,
        counts=counts,
        background=cash.background.at[0, 30].add(by[2]),
        templates=cash.templates.at[0, 3, 0, 28].add(by[3]) * bend,
    )
    others = [
        replace(
            on_off,
            n_on=on_off.n_on.at[0, 12].add(by[5]),
            n_off=on_off.n_off.at[0, 12].add(by[6]),
            alpha=on_off.alpha.at[0, 12].add(by[7]),
        )
        for on_off in others
    ]
    fit = fit_joint(replace(data, blocks=(cash, *others)))
    return jnp.concatenate([fit.values, jnp.diagonal(fit.covariance), fit.stat[None]])


def quickly(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def reference(own):
    """The same of the independent solution."""
    best = own.solve()
    return np.concatenate([best, np.diag(own.covariance(best)), [own.stat(best)]])


def slope_of(own, number):
    return stencil(lambda by: reference(changed(own, number, by)))


@pytest.mark.slow
def test_derivatives_of_mapped_and_looped_toys():
    own = constrained(one())
    data = own.joint(BATCHES, SIZE)
    toys = np.zeros((3, len(CHANGES)))
    toys[1, 0], toys[2, 2] = 2.0, 3.0
    slopes, results = quickly(
        jax.vmap(jax.jacfwd(lambda by: [described(data, by)] * 2, has_aux=True))
    )(toys)
    for toy, result in zip(toys, results, strict=True):
        alone = own
        for number in np.flatnonzero(toy):
            alone = changed(alone, number, toy[number])
        expected = reference(alone)
        assert_allclose(result, expected, rtol=1e-8, atol=1e-9)
        fit = fit_joint(alone.joint(BATCHES, SIZE))
        assert_allclose(fit.values, expected[: own.size], rtol=1e-8, atol=1e-9)
    for number in range(5):
        expected = slope_of(own, number)
        tolerance = {"rtol": 1e-6, "atol": 1e-7 * np.abs(expected).max()}
        assert_allclose(slopes[0, :, number], expected, **tolerance, err_msg=CHANGES[number])


def at_a_constraint(shift=0.0, factor=1.0, low=-np.inf):
    """Two norms of which an empty counts bin holds a combination; (data, function of it)."""
    templates = np.array([[1.0, 50.0, 0.3], [1.0, 60.0, 0.1]]) * (1 + shift)
    block = JointBlock(
        counts=jnp.array([[3.0, 0.0, 2.0]]),
        background=jnp.full((1, 3), 1e-3) * factor,
        offset=jnp.zeros((1, 3)),
        log_energy=jnp.zeros((1, 3)),
        templates=jnp.asarray(templates)[None, :, None],
        components=jnp.array([[0, 1]]),
        mask=jnp.ones((1, 3), bool),
    )
    return JointData(
        blocks=(block,),
        start=jnp.zeros(2),
        free=jnp.ones(2, bool),
        lower=jnp.stack([jnp.asarray(-np.inf), jnp.asarray(low)]),
        upper=jnp.full(2, np.inf),
        precision=jnp.zeros((2, 2)),
        penalty_start=jnp.zeros(2),
        n_components=2,
    )


@pytest.mark.parametrize("difference", [None, 0.0, 1e-3])
def test_errors_where_a_constraint_holds_norms_that_the_counts_hardly_tell_apart(difference):
    """With one bin that has counts, or two alike, there are none: not those that rounding makes."""
    data = at_a_constraint()
    (block,) = data.blocks
    rows = np.array([[1.0, 50.0, 1.0], [1.0, 60.0, 1.0 + (difference or 0.0)]])
    mask = np.array([[True, True, difference is not None]])
    # With flux in one true energy, whatever the index, which is fixed.
    models = PowerLawSpectralModel(index=[2.0, 2.0], amplitude=[1 / 0.9] * 2, reference=[1.0, 1.0])
    edges = np.array([1.0, 10.0])
    spectra = FreeSpectra(
        models=models,
        edges=(edges,),
        group_edges=edges,
        fixed_flux=(np.zeros((0, 1)),),
        names=("index",),
    )
    changed = {
        "blocks": (replace(block, templates=rows[None, :, None], mask=mask),),
        "start": np.array([0.0, 2.0, 0.0, 2.0]),
        "free": np.array([True, False, True, False]),
        "lower": np.full(4, -np.inf),
        "upper": np.full(4, np.inf),
        "precision": np.zeros((4, 4)),
        "penalty_start": np.zeros(4),
    }
    fit = fit_joint(replace(data, spectra=spectra, **changed))
    assert bool(fit.converged) and np.all(fit.status == Status.BOUNDARY)
    # On the constraint b + 50 x + 60 y = 0.
    x, y = np.asarray(fit.values)[::2]
    assert_allclose(50 * x + 60 * y, -1e-3, atol=1e-7)
    found = np.asarray(fit.covariance)[::2, ::2]
    if not difference:
        assert np.all(np.isnan(found))
        return
    t = rows[:, [0, 2]]
    fisher = (t * np.array([3.0, 2.0]) / (1e-3 + np.array([x, y]) @ t) ** 2) @ t.T
    # The inverse of a matrix of two rows.
    (a, b), (_, d) = fisher
    assert_allclose(found, np.array([[d, -b], [-b, a]]) / (a * d - b * b), rtol=1e-6)
    assert found[0, 0] * a > 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["values", "covariance", "stat"])
def test_derivatives_where_a_prediction_touches_zero(name):
    """The minimum slides along the constraint, and moves with it."""

    def function(factor):
        return getattr(fit_joint(at_a_constraint(factor=factor)), name)

    assert np.all(fit_joint(at_a_constraint()).status == Status.BOUNDARY)
    step = 1e-3
    expected = (function(1 + step) - function(1 - step)) / (2 * step)
    assert_allclose(jax.jacfwd(function)(1.0), expected, rtol=1e-5)
    assert_allclose(jax.jacrev(function)(1.0), expected, rtol=1e-5)


@pytest.mark.slow
def test_derivatives_at_a_constraint_by_hand():
    """On the constraint b + 50 x + 60 y = 0 one direction is left, whose score vanishes."""

    def on_constraint(factor):
        b = 1e-3 * factor

        def score(x):
            y = -(b + 50 * x) / 60
            slope = -50 / 60
            mu = np.array([b + x + y, b + 0.3 * x + 0.1 * y])
            change = np.array([1 + slope, 0.3 + 0.1 * slope])
            return np.sum(change * (1 - np.array([3.0, 2.0]) / mu))

        x = brentq(score, 0.1, 1e3, xtol=1e-14, rtol=1e-15)
        return np.array([x, -(b + 50 * x) / 60])

    assert_allclose(fit_joint(at_a_constraint()).values, on_constraint(1.0), rtol=1e-6)
    found = jax.jacfwd(lambda factor: fit_joint(at_a_constraint(factor=factor)).values)(1.0)
    assert_allclose(found, (on_constraint(1.01) - on_constraint(0.99)) / 0.02, rtol=1e-4)


@pytest.mark.slow
def test_derivatives_by_a_bound():
    """A norm on its bound moves with it, and the others make up for it."""

    def function(low):
        return fit_joint(at_a_constraint(low=low)).values

    # Above the minimum along the constraint, which is at negative norms of the second.
    expected = (function(5.001) - function(4.999)) / 0.002
    found = jax.jacfwd(function)(5.0)
    assert_allclose(found, expected, rtol=1e-6)
    assert found[1] == 1


@pytest.mark.slow
def test_reverse_derivatives():
    cash, _, on_off = regular().parts
    own = constrained(problem(cash, replace(on_off, dataset=1)))
    data = own.joint(BATCHES, SIZE)
    weights = np.random.default_rng(0).normal(size=2 * own.size + 1)
    slope = quickly(jax.grad(lambda by: described(data, by) @ weights))(jnp.zeros(len(CHANGES)))
    expected = [weights @ slope_of(own, number) for number in range(len(CHANGES))]
    assert_allclose(slope, expected, rtol=1e-6)


def spectral_problem():
    rng = np.random.default_rng(8)
    n, edges = 70, np.geomspace(0.5, 50.0, 6)
    group = np.array([1.0, 20.0])
    index = np.array([2.2, 2.5, 1.9])
    energies = np.sqrt(edges[1:] * edges[:-1])
    flux = 1.3 * (edges[:-1] ** -1.4 - edges[1:] ** -1.4) / 1.4
    spectra = Spectra(index, np.array([1.0, 2.0, 0.7]), edges, group, flux[None])
    x, reco = np.linspace(0, 5, n), rng.uniform(0.8, 20.0, n)
    place = np.exp(-0.5 * ((x - 1 - np.arange(4)[:, None]) / 0.6) ** 2)
    dispersion = np.exp(-0.5 * (np.log(reco / energies[:, None]) / 0.4) ** 2) * energies[:, None]
    part = Part(
        counts=np.zeros(n),
        background=rng.uniform(2, 5, n),
        log_energy=np.log(reco / 3),
        templates=60 * place[:, None] * dispersion,
    )
    own = Problem((part,), n_nuisance=1, spectra=spectra)
    truth = own.begin()
    truth[[0, 2, 4, 6]] = [1.2, 0.8, 1.0, 0.5]
    truth[[1, 3, 5]] = [2.6, 2.3, 2.1]
    counts = rng.poisson(own.model(part, truth.astype(complex))[0].real).astype(float)
    precision = np.zeros((own.size, own.size))
    precision[-2, -2], precision[-1, -1] = 1 / 0.1**2, 1 / 0.05**2
    return replace(own, parts=(replace(part, counts=counts),), precision=precision)


@pytest.mark.slow
def test_free_spectra():
    own = spectral_problem()
    free = own.freedom()
    expected = reference(own)
    data = own.joint(3, 32)

    def fit(by):
        block = data.blocks[0]
        block = replace(block, counts=block.counts.at[0, 15].add(by[0]))
        models = data.spectra.models
        models = models.replace(index=models.index.at[1].add(by[1]))
        spectra = replace(data.spectra, models=models)
        found = fit_joint(replace(data, blocks=(block,), spectra=spectra))
        return [found.values, found]

    slopes, found = quickly(jax.jacfwd(fit, has_aux=True))(jnp.zeros(2))
    n = own.size
    best, errors = expected[:n], np.sqrt(expected[n : 2 * n])
    assert_array_equal(found.status, Status.OK)
    used = errors > 0
    assert_array_equal(used, free)
    assert_allclose((found.values - best)[used] / errors[used], 0.0, atol=1e-7)
    assert_array_equal(found.values[~used], best[~used])
    covariance = own.covariance(best)
    assert_allclose(found.covariance, covariance, rtol=1e-6, atol=1e-8 * covariance.max())
    assert_allclose(found.stat, expected[-1], rtol=1e-12)

    def counts(by):
        part = own.parts[0]
        change = by * (np.arange(part.counts.size) == 15)
        return reference(replace(own, parts=(replace(part, counts=part.counts + change),)))

    def index(by):
        spectra = own.spectra
        spectra = replace(spectra, index=spectra.index + by * (np.arange(3) == 1))
        return reference(replace(own, spectra=spectra))

    for number, change in enumerate([counts, index]):
        slope = stencil(change)[:n]
        assert_allclose(slopes[:, number], slope, rtol=1e-6, atol=1e-7 * np.abs(slope).max())
