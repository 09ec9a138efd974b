"""Joint fits that are not convex: the lowest of the minima that scipy finds from random starts."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from joint_factory import Part, Problem, Spectra
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import erf

from jaxprof.compilation import jit_by_size
from jaxprof.inference import descents, held_fit, norm_profiles
from jaxprof.inference.counted_norms import has_flux, to_counts, to_fluxes, with_counted_norms
from jaxprof.inference.descents import descend, descended, spread
from jaxprof.inference.held_fit import at_fit, profiles_are_followed
from jaxprof.inference.joint_intervals import joint_limits, limited
from jaxprof.inference.joint_scan import joint_scan, scanned
from jaxprof.inference.joint_ts import fit_joint_ts, joint_ts
from jaxprof.inference.norm_profiles import (
    around,
    family_of,
    grid_of,
    nodes_of,
    profiled,
    where_changed,
)
from jaxprof.likelihood.joint_model import predictions, summed_signals

C, STARTS = 3, 8
TRUE, RECO = np.geomspace(0.5, 20, 9), np.geomspace(1, 10, 7)
"""Edges of true and reconstructed energies [TeV]."""
ENOUGH = 0.02
"""How much higher than the lowest a minimum may be: scipy's own tolerance is well below."""


def random_problem(seed, *, index, tilt):
    """Three bins that leak into each other, 5 to 1000 counts each, over any background."""
    rng = np.random.default_rng(seed)
    true, reco = np.sqrt(TRUE[1:] * TRUE[:-1]), np.sqrt(RECO[1:] * RECO[:-1])
    within = erf(np.log(RECO / true[:, None]) / rng.uniform(0.08, 0.25) / np.sqrt(2)) / 2
    response = (true ** rng.uniform(0.3, 1.2))[:, None] * np.diff(within, axis=1)
    apart = np.abs(np.subtract.outer(np.arange(C), np.arange(C + 2) - 1))
    leak = rng.uniform(0, 0.3)
    psf = np.select([apart == 0, apart == 1], [1 - leak, leak / 2], 0.0)
    templates = psf[:, None, :, None] * response[None, :, None, :]
    power = 1 - rng.uniform(1.2, 3.8, C)[:, None]
    flux = np.diff(TRUE**power, axis=1) / power
    unit = np.einsum("cq,cqbe->c", flux, templates)
    signal = 10 ** rng.uniform(np.log10(5), 3, C) * (rng.random(C) > 0.25)
    expected = np.einsum("cq,cqbe->be", flux * (signal / unit)[:, None], templates)
    level = 10 ** rng.uniform(-2, 1.3) * max(signal.mean(), 5.0) / reco.size
    background = level * reco ** -rng.uniform(1, 2.7) * rng.uniform(0.7, 1.3, (C + 2, 1))
    log_energy = np.broadcast_to(np.log(reco / np.sqrt(10)), background.shape)
    truth = background
    if tilt:
        truth = background * rng.uniform(0.6, 1.5) * np.exp(-rng.normal(0, 0.7) * log_energy)
    spectra = None
    if index:
        spectra = Spectra(
            np.full(C, 2.0), np.ones(C), TRUE, RECO[[0, -1]], np.zeros((0, true.size))
        )
    else:
        scale = np.maximum(signal, 10.0) / unit
        templates = np.einsum("cq,cqbe->cbe", flux * scale[:, None], templates)[:, None]
    part = Part(
        counts=rng.poisson(expected + truth).ravel().astype(float),
        templates=templates.reshape(*templates.shape[:2], -1),
        background=background.ravel(),
        log_energy=log_energy.ravel(),
    )
    step = 1 + index
    last = C * step
    lower = {c * step: 0.0 for c in range(C)} | {c * step + 1: -3.0 for c in range(C) if index}
    upper = {c * step + 1: 7.0 for c in range(C) if index}
    if tilt:
        lower |= {last: 0.05, last + 1: -5.0}
        upper |= {last + 1: 5.0}
    return Problem((part,), n_nuisance=int(tilt), spectra=spectra, lower=lower, upper=upper)


def lowest(own, rng, held=None, value=0.0):
    """The lowest of the minima from random starts."""
    lower, upper = own.bounds()
    if held is not None:
        lower[held] = upper[held] = value
    norms, counts = own.norms, own.parts[0].counts.sum() / C
    found = []
    for _ in range(STARTS):
        high = np.where(np.isfinite(upper), upper, 2.0)
        z = rng.uniform(np.maximum(lower, -5), high)
        one = z.copy()
        one[norms] = 1.0
        reach = own.model(own.parts[0], one)[1][norms].real.sum(axis=1)
        z[norms] = counts * rng.uniform(0.01, 1.2, C) / reach
        z = np.clip(z, lower, upper)
        unit = np.where(z != 0, np.abs(z), 1.0)
        result = minimize(
            lambda x, unit=unit: own.value(x * unit),
            z / unit,
            jac=lambda x, unit=unit: (own.gradient((x * unit).astype(complex)) * unit).real,
            method="L-BFGS-B",
            bounds=list(zip(lower / unit, upper / unit, strict=True)),
            options={"maxiter": 150, "ftol": 1e-12, "gtol": 1e-6},
        )
        found.append((result.fun, result.x * unit))
    return min(found, key=lambda pair: pair[0])


def excesses(seed, **kind):
    """How much higher than scipy's are the fit and those with a norm held at two values."""
    own = random_problem(seed, **kind)
    rng = np.random.default_rng(seed + 1)
    component = seed % C
    at = component * own.step
    stat, z = lowest(own, rng)
    values = np.array([0.0, 1.7]) * z[at]
    data = own.joint(1, 32)
    fit, ts, _ = fit_joint_ts(data, jnp.array([component]))
    rises, _ = joint_scan(data, fit, jnp.array([component]), jnp.asarray(values[1:]))
    best = own.value(np.asarray(at_fit(data, fit)))
    held = np.array([lowest(own, rng, at, value)[0] for value in values])
    return np.array([best, *(best + np.array([ts[0], *rises[0]]))]) - [stat, *held], fit


def two_ends(ratio):
    """A source that is bright at both ends of the energies, over a background with a tilt."""
    log_energy = np.linspace(-1.2, 1.2, 12)
    shape = 30 * (ratio * np.exp(5 * (-1.2 - log_energy)) + np.exp(5 * (log_energy - 1.2)))
    part = Part(
        counts=np.round(105.0 + 10 * shape),
        templates=shape[None, None],
        background=np.full(12, 5.0),
        offset=np.full(12, 100.0),
        log_energy=log_energy,
    )
    return Problem((part,), n_nuisance=1, lower={1: 0.0, 2: -5.0}, upper={2: 5.0})


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.1, 2.0])
def test_background_takes_the_source_by_the_better_tilt(ratio):
    own = two_ends(ratio)
    (part,) = own.parts
    fit, ts, points = fit_joint_ts(own.joint(1, 12), jnp.array([0]))

    def without(tilt):
        """The statistic with a norm of zero, lowest by the norm of the background."""
        shape = part.background * np.exp(-tilt * part.log_energy)

        def slope(norm):
            return np.sum(shape * (1 - part.counts / (part.offset + norm * shape)))

        norm = brentq(slope, 0.0, 1e4, xtol=1e-13) if slope(0.0) < 0 else 0.0
        npred = part.offset + norm * shape
        return 2 * np.sum(npred - part.counts * np.log(npred))

    lowest = [
        minimize_scalar(without, bounds=ends, method="bounded", options={"xatol": 1e-10})
        for ends in zip(np.arange(-5, 5), np.arange(-4, 6), strict=True)
    ]
    rises = np.array([found.fun for found in lowest]) - own.value(np.asarray(fit.values))
    np.testing.assert_allclose(ts[0], rises.min(), rtol=1e-7)
    np.testing.assert_allclose(points[0, 2], lowest[rises.argmin()].x, atol=1e-4)


def test_second_minima_of_held_fits_are_told():
    """Without the source either tilt of the background is as good; with it there is one minimum."""
    own, components = two_ends(1.0), jnp.array([0])
    data = own.joint(1, 12)
    fit, _, points = fit_joint_ts(data, components)
    # The other minimum, by the symmetry of the data.
    mirrored = points[0] * [1, 1, -1]
    np.testing.assert_allclose(own.value(mirrored), own.value(points[0]), rtol=1e-12)
    assert abs(points[0, 2]) > 3 and fit.other_without == [True]
    assert not np.isfinite(fit.other_minimum).any()
    norms = jnp.array([0.0, fit.values[0]])
    assert np.array_equal(scanned(data, fit, components, norms)[2], [[True, False]])
    goals = jnp.array([-1.0, 1.0]), jnp.array([1.0, 4.0]), jnp.array([False, True])
    assert np.array_equal(limited(data, fit, components, goals)[1], [[False, False]])
    # What the fit has another minimum of has been told.
    known = replace(fit, other_minimum=jnp.array([jnp.nan, 1.0, 1.0]))
    assert not joint_ts(data, known, components).other and joint_ts(data, fit, components).other


def test_scans_and_limits_compile_no_search_of_their_own(monkeypatch):
    own, components = two_ends(0.9), jnp.array([0])
    data = own.joint(1, 12)
    fit, ts, _ = fit_joint_ts(data, components)
    monkeypatch.setattr(held_fit, "lowest", None)
    rises, fixed = joint_scan(data, fit, components, jnp.array([0.0, 0.8]))
    np.testing.assert_allclose(rises[0, 0], ts[0], rtol=1e-9)
    held = np.array(fit.values)
    held[0] = 0.8
    np.testing.assert_allclose(fixed[0, 1], own.value(held) - own.value(fit.values), rtol=1e-7)
    (low, high), targets = (-1.0, 1.0), jnp.array([1.0, 4.0])
    distances = joint_limits(data, fit, components, jnp.array([low, high]), targets)[0]
    limits = fit.values[0] + jnp.array([low, high]) * distances
    there = joint_scan(data, fit, components, limits)[0][0]
    np.testing.assert_allclose(there, targets, rtol=1e-5)


@pytest.mark.slow
def test_counted_norms_do_not_depend_on_the_shape():
    data = random_problem(3, index=True, tilt=False).joint(1, 32)
    free = jnp.ones(data.start.size, bool).at[2].set(False)
    counted = with_counted_norms(data, free)
    z = jnp.array([0.7, 1.2, 1.1, 5.5, 0.4, -0.5])
    own = to_counts(data, counted, z)
    np.testing.assert_allclose(predictions(counted, own)[0], predictions(data, z)[0], rtol=1e-12)
    np.testing.assert_allclose(to_fluxes(data, counted, own), z, rtol=1e-13)
    # What is held keeps its norm.
    assert np.all(own[2:4] == z[2:4]) and np.all(abs(own[::4] / z[::4] - 1) > 0.01)
    steeper = summed_signals(counted, own.at[1::2].add(1.0)) / summed_signals(counted, own)
    np.testing.assert_allclose(steeper[::2], 1.0, rtol=1e-12)
    assert abs(steeper[1] - 1) > 0.01
    # With an index of 60 all counts come from below the group.
    steep = own.at[5].set(60.0)
    assert np.array_equal(np.flatnonzero(~has_flux(data, counted, steep)), [4])
    assert has_flux(data, counted, own).all() and to_fluxes(data, counted, steep)[4] < 1e-10


@pytest.mark.slow
def test_descents_go_down_within_bounds():
    own = two_ends(0.9)
    data = own.joint(1, 12)
    start = jnp.array([1.0, 1.0, 2.5])
    free = jnp.array([True, True, False])
    points = spread(data, start, free)
    ends, values = map(np.asarray, jax.jit(descend)(data, points, free))
    lower, upper = own.bounds()
    assert np.all((ends >= lower) & (ends <= upper)) and np.all(ends[:, 2] == 2.5)
    np.testing.assert_allclose(values, [own.value(z) for z in ends], rtol=1e-12)
    # Convex, with the tilt held: all of them arrive.
    norms = own.solve(np.asarray(start), np.asarray(free))
    np.testing.assert_allclose(ends, np.broadcast_to(norms, ends.shape), rtol=1e-4)
    assert np.all(values < [own.value(z) - 1 for z in np.asarray(points)])


@pytest.mark.slow
def test_points_cover_the_ranges_of_tilts():
    own = two_ends(0.9)
    points = np.asarray(spread(own.joint(1, 12), jnp.array([1.0, 1.0, 0.0]), np.ones(3, bool)))
    counts = own.parts[0].counts.sum()
    predicted = own.parts[0].templates.sum() * points[:, 0]
    assert np.all((points > own.bounds()[0]) & (points < own.bounds()[1]))
    assert np.all(predicted < 1.01 * counts) and predicted.max() > 0.8 * counts
    # As even as numbers in order can be, but for a factor of two, in the logarithm of the tilt.
    gaps = np.diff(np.sort(np.concatenate([[-5, 5], points[:, 2]])))
    assert gaps.max() < 2.5 and abs(np.sum(points[:, 2] > 0) - len(points) / 2) < 1


@pytest.mark.slow
def test_half_of_the_points_have_a_source_that_is_negative():
    """With a background that exceeds the counts: there lowest minima were missed."""
    own = two_ends(0.9)
    (part,) = own.parts
    for lowest, number in ((-np.inf, 8), (0.0, 0)):
        data = replace(own, lower={**own.lower, 0: lowest}).joint(1, 12)
        z = np.asarray(spread(data, jnp.array([1.0, 1.0, 0.0]), np.ones(3, bool), 1))
        rows = part.background * np.exp(-z[:, [2]] * part.log_energy)
        npred = part.offset + z[:, [0]] * part.templates[0, 0] + z[:, [1]] * rows
        negative = z[:, 0] < 0
        assert np.all(npred > 0) and np.sum(negative) == number
        assert np.all((z[:, [1]] * rows).sum(axis=1)[negative] > part.counts.sum())


@pytest.mark.slow
def test_norms_of_constrained_backgrounds_begin_near_their_centres():
    """Descents from far away take all their steps to come back: a lowest minimum was missed."""
    data = two_ends(0.9).joint(1, 12)
    precision = np.diag([0.0, 1 / 0.1**2, 0.0])
    data = replace(data, precision=precision, penalty_start=np.array([1.0, 1.2, 0.0]))
    for batch in range(2):
        z = np.asarray(spread(data, jnp.array([1.0, 1.0, 0.0]), np.ones(3, bool), batch))
        assert np.all(np.abs(z[:, 1] - 1.2) < 0.3 + 1e-12) and np.ptp(z[:, 1]) > 0.3
        assert np.all(predictions(data, z[0])[0] > 0) and z[:, 2].min() < -3 and z[:, 2].max() > 3


def test_descents_go_on_where_many_end_apart(monkeypatch):
    """By how many ends of how many are apart: 5 of 17 are no reason for others, 6 are."""
    data, free = two_ends(0.9).joint(1, 12), jnp.ones(3, bool)
    start, n = jnp.array([1.0, 1.0, 2.5]), np.arange(17)
    monkeypatch.setattr(descents, "spread", lambda *own: jnp.full((17, 3), 17.0 * own[-1]))
    for apart, batches in ((5, 1), (6, 2), (16, 3)):
        # What is far above the lowest does not matter.
        heights = np.where(n < 16, 0.05 * (n % apart), 10.0 + n)
        monkeypatch.setattr(descents, "descend", lambda _, points, free, own=heights: (points, own))
        z, (every, used) = descended(data, start, free, jnp.asarray(True))
        assert np.array_equal(z, start) and np.array_equal(every[0], start)
        assert np.array_equal(np.flatnonzero(~used), np.arange(1, 17 * batches))
        assert np.all(every[17 : 17 * batches].ravel() == np.repeat(17 * np.arange(1, batches), 51))
    z, (every, used) = descended(data, start, free, jnp.asarray(False))
    assert np.array_equal(z, start) and np.all(used)


@pytest.mark.slow
def test_profiles_where_predictions_have_changed(monkeypatch):
    """As those with all templates, for all components that are complete: the one that moved is."""
    monkeypatch.setattr(norm_profiles, "FEW", 0)
    monkeypatch.setattr(norm_profiles, "PART", 2)
    data = random_problem(3, index=True, tilt=False).joint(5, 8)
    family, best = family_of(data), data.start.at[::2].set(30.0)
    covariance = jnp.diag(jnp.linspace(0.1, 0.2, best.size))

    @jit_by_size
    def both(values, before):
        here = around(data, best, family)
        *some, complete = where_changed(data, here, before)
        every = (best, data.free, covariance)
        whole = profiled(data, *every, here, family, values)
        return whole, profiled(some[0], *every, some[1], family, values), complete

    for moved in range(C):
        whole, some, complete = both(best[family.shape] + 0.7, best.at[2 * moved].add(5.0))
        assert complete[moved] and not complete.all()
        for one, other in zip(whole, some, strict=True):
            np.testing.assert_allclose(other[complete], one[complete], rtol=1e-10)


def test_profiles_pass_constraints_at_their_price():
    """Where others hold a prediction at zero, a norm may go on, at the price of the constraint."""
    own, rng = random_problem(5, index=True, tilt=False), np.random.default_rng(5)
    (part,) = own.parts
    counts = rng.poisson(0.3, part.counts.size) * 1.0
    held = np.flatnonzero(counts == 0)[:4]
    background = np.where(np.isin(np.arange(counts.size), held), 1e-3, 1.0)
    own = replace(own, parts=(replace(part, counts=counts, background=background),), lower={})
    data = own.joint(1, 32)
    family, best = family_of(data), data.start.at[::2].set(0.02)
    (block,), (npred,) = data.blocks, map(np.asarray, predictions(data, best))
    dual = np.zeros(npred.shape)
    dual[0, held] = 0.6
    passed = 0
    free, none = jnp.ones(best.size, bool), jnp.zeros((best.size, best.size))

    @jax.jit
    def found_at(values):
        here = around(data, best, family, (jnp.asarray(dual),))
        return profiled(data, best, free, none, here, family, values)

    mask = np.asarray(block.mask[0])
    n, old, priced = np.asarray(block.counts[0])[mask], npred[0, mask], dual[0, mask] > 0
    for index in (1.5, 2.5, 4.0):
        norms, heights, bounds = map(np.asarray, found_at(jnp.full((C, 1), index)))
        for c in range(C):
            changed = best.at[2 * c + 1].set(index)
            base, one = (
                np.asarray(predictions(data, changed.at[2 * c].set(norm))[0][0])
                for norm in (0.0, 1.0)
            )
            grid = norms[c] + np.append(0.0, np.linspace(-1, 1, 401) * (0.01 + abs(norms[c])))
            new = (base + grid[:, None] * (one - base))[:, mask]
            bad = (new < -1e-9) & ~priced | (new <= 0) & (n > 0)
            logs = n * np.log(np.where(bad | (n == 0), 1.0, new / old))
            values = 2 * np.sum(new - old - logs - np.where(new < 0, 0.6 * new, 0.0), axis=1)
            values[np.any(bad, axis=1)] = np.inf
            np.testing.assert_allclose(heights[c], values[0], rtol=1e-6, atol=1e-8)
            assert values[0] < values.min() + 1e-6
            inside = np.all(new[0] > -1e-9)
            assert np.isfinite(bounds[c]) == inside
            passed += not inside
    assert passed > 0


def test_profiles_of_on_off_data_are_lowest_by_their_norms():
    """At few counts, where bins with next to no signal make the range of norms wide."""
    own, rng = random_problem(3, index=True, tilt=False), np.random.default_rng(3)
    (part,) = own.parts
    level = np.full(part.counts.size, 0.3)
    counts = {"counts": rng.poisson(level) * 1.0, "n_off": rng.poisson(5 * level) * 1.0}
    on_off = replace(part, **counts, background=None, alpha=0.2 + 0 * level)
    own = replace(own, parts=(on_off,), lower={})
    data = own.joint(1, 32)
    family, best = family_of(data), data.start.at[::2].set(0.01)
    free, none = jnp.ones(best.size, bool), jnp.zeros((best.size, best.size))

    @jax.jit
    def bounds(values):
        here = around(data, best, family)
        return jax.lax.map(
            lambda own: profiled(data, best, free, none, here, family, own)[2], values
        )

    indices = np.array([-1.0, 2.5, 4.0, 6.0])
    found = bounds(jnp.broadcast_to(indices[:, None, None], (4, C, 1)))
    for k, index in enumerate(indices):
        for c in range(C):

            def rise(far, at=2 * c, index=index):
                z = np.array(best)
                z[at : at + 2] = np.sinh(far), index
                return own.value(z) - own.value(np.asarray(best))

            # Of a convex function, the other way to its minimum.
            lowest = minimize_scalar(
                rise, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9}
            )
            np.testing.assert_allclose(found[k, c], lowest.fun, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5])
def test_profiles_of_large_problems_lead_to_the_lowest_minima(seed, monkeypatch):
    monkeypatch.setattr(descents, "LARGE", 0)
    monkeypatch.setattr(held_fit, "MANY", 0)
    own, rng = random_problem(seed, index=True, tilt=False), np.random.default_rng(seed)
    # A shape of its own, so that nothing compiled for small problems is taken.
    data, at = own.joint(1, 40), seed % C * own.step
    assert profiles_are_followed(data)
    fit, ts, points = fit_joint_ts(data, np.array([seed % C]))
    up, target = np.array([1.0]), np.array([4.0])
    distance = joint_limits(data, fit, np.array([seed % C]), up, target)[0, 0]
    norm, best = fit.values[at], own.value(np.asarray(at_fit(data, fit)))
    np.testing.assert_allclose(best, lowest(own, rng)[0], atol=ENOUGH)
    np.testing.assert_allclose(best + ts[0], lowest(own, rng, at, 0.0)[0], atol=ENOUGH)
    held = lowest(own, rng, at, norm + distance)[0]
    np.testing.assert_allclose(best + target[0], held, atol=ENOUGH)
    assert np.isfinite(points).all() and points[0, at] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["index", "tilt", "both"])
def test_lowest_minimum(kind):
    choice = {"index": kind != "tilt", "tilt": kind != "index"}
    found = np.array([excesses(seed, **choice)[0] for seed in range(4)])
    assert np.mean(found > ENOUGH) <= 0.01, np.argwhere(found > ENOUGH)


def test_grid_shows_narrow_minima_of_log_parabolas():
    """Of counts that rise to both ends: with 10 values of each parameter, not 22, none is near."""
    edges, reco = np.geomspace(0.5, 20, 9), np.geomspace(1, 10, 7)
    fine = np.geomspace(edges[:-1], edges[1:], 30)
    within = erf(np.log(reco / np.sqrt(edges[1:] * edges[:-1])[:, None]) / 0.238 / 2**0.5) / 2
    response = (edges[1:] * edges[:-1])[:, None] ** 0.3 * np.diff(within, axis=1)
    counts = np.array([93.0, 22, 11, 4, 0, 6])
    background = np.array([65.59, 29.16, 12.97, 5.76, 2.56, 1.14])

    def gained(alpha, beta):
        """Largest fall of the statistic from a norm of zero, by bisections of the score."""
        flux = np.mean(fine ** (1 - alpha - beta * np.log(fine)), axis=0)
        signal = flux @ response / np.sum(flux @ response)
        low, high = 0.0, counts.sum()
        for _ in range(50):
            norm = 0.5 * (low + high)
            score = np.sum(signal * (1 - counts / (background + norm * signal)))
            low, high = (norm, high) if score < 0 else (low, norm)
        return 2 * np.sum(counts * np.log1p(low * signal / background) - low * signal)

    start, reach = jnp.array([0.0, 2.0, 0.0]), jnp.array([np.inf, 5.0, 5.0])
    bounds = {"start": start, "lower": start - reach, "upper": start + reach}
    problem = SimpleNamespace(n_shape=2, n_components=1, blocks=(), **bounds)
    nodes = np.asarray(nodes_of(grid_of(problem, family_of(problem), start)))[:, 0]
    # It falls by 16.3 in all, by 10.142 at the other minimum.
    assert max(gained(*node) for node in nodes) > 10.142 + 1.0
