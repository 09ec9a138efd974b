"""How often fits that are not convex end in the lowest minimum.

    python benchmarks/minima.py
    python benchmarks/minima.py --seed 1000 --kinds "index" "index and tilt"

200 random problems with free spectral parameters or tilts of backgrounds, as likelihoods by their
public names. Each fit, and each fit with a norm held (at zero for the test statistic, at two values
of a scan, at its limits), is compared with the lowest of the minima that are reached from 20 random
points: by Newton steps in a trust region, those of `jaxprof.fit` for any function, which joint fits
do not use. It fails where it is higher by more than 0.02. Second minima that the random points show
less than 0.9 above the lowest are to be told.
Times are processor times.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from minima_problems import KINDS, random_likelihood

from jaxprof import core
from jaxprof.likelihood import Likelihood, OnOff
from jaxprof.likelihood.layout import joint_data
from jaxprof.solvers.minimise import minimise

STARTS = 20
ENOUGH = 0.02
"""How much higher than the reference a minimum may be: what Newton steps leave is well below."""
TOLD = (0.02, 0.9)
"""Second minima that are this much above the lowest are to be told."""
EPS, STEEP, STEEPER = 1e-7, 1e6, 1e9
"""The statistic goes on as a parabola below so many counts; so steep below zero, first and last.
With the first alone minima are up to 1e-4 counts outside of the domain, and 0.03 too low."""
BEYOND = 3e-6
"""In standard deviations, how far a limit may be from where it is: twice the search's last step."""


class Reference:
    """Minima of a likelihood from random points, in the vector of `joint_data`."""

    def __init__(self, likelihood: Likelihood, rng):
        self.rng = rng
        self.likelihood = jax.tree.map(jnp.asarray, likelihood)
        data = joint_data(likelihood, 0)
        self.bounds = np.array(data.lower), np.array(data.upper)
        step, begin = 1 + data.n_shape, data.nuisance_start
        self.norms = np.arange(likelihood.n_bins) * step
        own = np.arange(data.start.size)
        self.norm_of = np.where(own < begin, own // step * step, own - (own - begin) % 2)
        self.is_shape = self.norm_of != own

    def value(self, x) -> float:
        """The statistic with constraints."""
        return float(value_and_slope(self.likelihood, jnp.asarray(x))[0])

    def random_points(self):
        """Shapes anywhere within bounds or near the middle, norms between nothing and all."""
        n, rng, (lower, upper) = len(self.norms), self.rng, self.bounds
        low, high = np.where(np.isfinite(lower), lower, 0.0), np.where(np.isfinite(upper), upper, 2)
        size = STARTS, low.size
        wide = rng.choice([1.0, 0.3], (STARTS, 1))
        x = 0.5 * (low + high) + 0.5 * (high - low) * rng.uniform(-1, 1, size) * wide
        x = np.where(upper > 100, 10 ** rng.uniform(-2, 1.5, size), x)
        x[:, self.norms] = 1.0
        reach, counts = signal_of_each(self.likelihood, jnp.asarray(x))
        x[:, self.norms] = counts[:1] / n * rng.uniform(-0.02, 1.2, (STARTS, n)) / reach
        return np.clip(x, lower, upper)

    def descend(self, points, held=None, value=0.0):
        """The minima that are reached from points, maybe with parameters held: values and x."""
        bounds = [bound.copy() for bound in self.bounds]
        if held is not None:
            bounds[0][held] = bounds[1][held] = value
        x = np.clip(points, *bounds)
        for steep in (STEEP, STEEPER):
            found = by_newton(self.likelihood, x, *bounds, steep)
            values, x = (np.asarray(own) for own in found)
        return np.where(np.isfinite(values), values, np.inf), x

    def minima(self, held=None, value=0.0, also=()):
        """Minima from random points and others, lowest first."""
        points = np.concatenate([self.random_points(), np.reshape(also, (-1, self.bounds[0].size))])
        values, x = self.descend(points, held, value)
        order = np.argsort(values)
        return values[order], x[order]

    def others(self, minima):
        """Heights of true second minima, less than one higher, with other shapes."""
        values, points = minima
        heights = values - values[0]
        found = [
            height
            for height, x in zip(heights, points, strict=True)
            if height < TOLD[1] + 0.1 and self.is_apart(x, points[0]) and self.is_minimum(x)
        ]
        return np.array(found)

    def is_apart(self, x, best) -> bool:
        """Whether a shape differs by more than its error and 0.1, with its norm not zero."""
        errors = 1 / np.sqrt(np.maximum(np.diagonal(self.curvature(best)) / 2, 1e-12))
        norm = self.norm_of
        told = self.is_shape & (np.abs(best[norm]) > 1e-6) & (np.abs(x[norm]) > 1e-6)
        return bool(np.any(told & (np.abs(x - best) > 0.1 + errors)))

    def curvature(self, x, steep=STEEP):
        """Its second derivatives, (Z, Z)."""
        return np.asarray(curvature(self.likelihood, jnp.asarray(x), steep))

    def is_minimum(self, x) -> bool:
        """Whether the statistic has no slope and is curved upwards, but for active bounds."""
        slope = np.asarray(value_and_slope(self.likelihood, jnp.asarray(x))[1])
        lower, upper = self.bounds
        free = ((x > lower) | (slope < 0)) & ((x < upper) | (slope > 0))
        own, counts = (self.curvature(x, s)[np.ix_(free, free)] for s in (STEEP, 0.0))
        if not np.all(np.isfinite(own)):
            return False
        diagonal = np.sqrt(np.maximum(np.diagonal(own), 1e-300))
        # Not the unit of the eigenvalues: predictions at zero would make all others small.
        unit = np.sqrt(np.maximum(np.abs(np.diagonal(counts)), 1e-12))
        return bool(
            np.linalg.eigvalsh(own / unit / unit[:, None])[0] > 1e-4
            and np.all(np.abs(slope[free]) < 0.02 * diagonal)
        )


@jax.jit
def by_newton(likelihood, points, lower, upper, steep):
    """Minima by the Newton steps of `jaxprof.fit` of any function."""

    def of(start):
        unit = jnp.where(start != 0, jnp.abs(start), 1.0)
        found = minimise(
            lambda y: 0.5 * statistic(likelihood, y * unit, steep),
            (start / unit)[None],
            lower / unit,
            upper / unit,
        )
        return 2 * found.value, found.x * unit

    return jax.vmap(of)(points)


def params_of(likelihood, x):
    """Named parameters of a vector of `joint_data`."""
    names = likelihood.free.spectral_parameters
    begin = likelihood.n_bins * (1 + len(names))
    own = x[:begin].reshape(likelihood.n_bins, -1)
    found = {"norm": own[:, :1]}
    if names:
        found["spectrum"] = {name: own[:, [k]] for k, name in enumerate(names, start=1)}
    if x.size > begin:
        found["background"], found["background_tilt"] = x[begin::2, None], x[begin + 1 :: 2, None]
    return found


@jax.jit
def signal_of_each(likelihood, points):
    """Counts that each bin predicts at points, (N, B), and all that there are, (N,)."""

    def of(x):
        params, sums, counts = params_of(likelihood, x), 0.0, 0.0
        each = jax.vmap(lambda row: likelihood.signal({**params, "norm": row[:, None]}))
        for term, signal in zip(likelihood.terms, each(jnp.eye(likelihood.n_bins)), strict=True):
            observed = term.n_on if isinstance(term, OnOff) else term.counts
            sums += jnp.sum(jnp.where(term.mask, signal, 0.0), axis=(1, 2, 3))
            counts += jnp.sum(jnp.where(term.mask, observed, 0.0))
        return sums, counts

    return jax.vmap(of)(points)


def statistic(likelihood: Likelihood, x, steep=STEEP):
    """Cash, written out, or the likelihood's own statistic for On-Off data; with constraints."""
    params, total = params_of(likelihood, x), 0.0
    for term, mu in zip(likelihood.terms, likelihood.npred(params), strict=True):
        if isinstance(term, OnOff):
            continue
        safe = jnp.maximum(mu, EPS)
        step = (mu - EPS) / EPS
        log = jnp.where(mu > EPS, jnp.log(safe), jnp.log(EPS) + step - 0.5 * step**2)
        cash = 2 * (mu - term.counts * log) + steep * jnp.minimum(mu, 0.0) ** 2
        total += jnp.sum(jnp.where(term.mask, cash, 0.0))
    if isinstance(likelihood.terms[0], OnOff):
        total = likelihood.stat(params)
    for name, own in likelihood.constraints.gaussian.items():
        total += jnp.sum(((params[name] - own.centre) / own.width) ** 2)
    return total


value_and_slope = jax.jit(jax.value_and_grad(statistic, argnums=1))
curvature = jax.jit(jax.hessian(statistic, argnums=1))


def study(name: str, seed: int):
    """Failures of one problem: heights above the reference's minima, second minima, times."""
    kind = KINDS[name]
    rng = np.random.default_rng([seed, list(KINDS).index(name)])
    likelihood = random_likelihood(kind, rng)
    data = jax.tree.map(jnp.asarray, joint_data(likelihood, 0))
    reference = Reference(likelihood, rng)
    component = seed % kind.n_bins
    at = int(reference.norms[component])
    which, spent = jnp.array([component]), []

    def timed(function, *args):
        begin = time.process_time()
        found = jax.block_until_ready(function(data, *args))
        spent.append(time.process_time() - begin)
        return found

    fit = timed(core.fit_joint)
    best = np.asarray(fit.values)
    error = np.sqrt(np.asarray(fit.covariance)[at, at])
    if not np.isfinite(error) or error == 0:
        error = abs(best[at]) + 0.1
    low = max(best[at] - 1.5 * error, reference.bounds[0][at])
    values = np.array([0.0, low, best[at] + 2 * error])
    rises = np.asarray(timed(core.joint_scan, fit, which, jnp.asarray(values))[0])[0]
    sides, targets = jnp.array([-1.0, 1.0]), jnp.array([1.0, 4.0])
    distances = np.asarray(timed(core.joint_limits, fit, which, sides, targets))[0]
    minima = reference.minima(also=best)
    own = reference.value(best)
    limits = best[at] + sides * distances
    asked = [
        *zip(("ts", "scan", "scan"), values, rises, strict=True),
        *zip(("limit", "limit"), limits, targets, strict=True),
    ]
    excess = {"fit": [own - minima[0][0]]}
    for what, value, rise in asked:
        if np.isnan(value):
            continue
        held = reference.minima(at, float(value), also=minima[1][0])[0][0]
        if what == "limit" and own + rise - held > ENOUGH:
            # The profile may jump there: a spectrum is not identifiable at a norm of zero.
            further = value + np.sign(value - best[at]) * BEYOND * error
            further = float(np.clip(further, *(bound[at] for bound in reference.bounds)))
            held = max(held, reference.minima(at, further, also=minima[1][0])[0][0])
            rise = min(rise, held - own)
        # Where no other norms make the predictions positive, there is no rise.
        if held < minima[0][0] + 1e4 or np.isfinite(rise):
            excess.setdefault(what, []).append(float(own + rise - held))
    heights = reference.others(minima)
    there = bool(np.any((heights > TOLD[0]) & (heights < TOLD[1])))
    told = np.asarray(fit.other_minimum)
    said = bool(np.isfinite(told).any())
    if said and not heights.size:
        # What is not told follows first: it may be the same but for its error.
        shapes = np.flatnonzero(np.isfinite(told) & reference.is_shape)
        begin = np.where(np.isfinite(told), told, best)[None]
        for held in (shapes, None):
            other = reference.descend(begin, held, None if held is None else told[held])
            begin = other[1]
        pairs = zip(minima, other, strict=True)
        heights = reference.others([np.concatenate([a[:1], b]) for a, b in pairs])
    return excess, (there, said, said and heights.size > 0), spent


def kind_studied(name: str, seeds: range) -> tuple[dict[str, list[int]], str]:
    """Numbers of failures and of all, by what was fitted; and a line that says so."""
    failed: dict[str, list[int]] = {}
    seconds, told = [], np.zeros(4, int)
    for seed in seeds:
        excess, (asked, said, true), spent = study(name, seed)
        seconds.append(spent)
        told += [asked, asked and said, said, said and true]
        for what, values in excess.items():
            bad = [value for value in values if not value <= ENOUGH]
            own = failed.setdefault(what, [0, 0])
            own[0], own[1] = own[0] + len(bad), own[1] + len(values)
            for value in bad:
                print(f"  seed {seed}: {what} {value:.3f} too high", flush=True)
        if asked and not said:
            print(f"  seed {seed}: a second minimum is not told", flush=True)
        if said and not true:
            print(f"  seed {seed}: what is told is no second minimum", flush=True)
    one, three, two = 1e3 * np.median(seconds, axis=0)
    return failed, (
        f"{name}: too high {_counted(failed)}; second minima told {told[1]} of {told[0]}, right "
        f"{told[3]} of {told[2]}; {one:.0f} ms a fit, {three:.0f} ms 3 values, {two:.0f} ms 2 "
        "limits"
    )


def _counted(failed: dict[str, list[int]]) -> str:
    return ", ".join(f"{what} {bad} of {number}" for what, (bad, number) in failed.items())


def main() -> None:
    """Study the kinds that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--number", type=int, help="problems of each kind")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    total: dict[str, list[int]] = {}
    for name in args.kinds:
        seeds = range(args.seed, args.seed + (args.number or KINDS[name].number))
        failed, line = kind_studied(name, seeds)
        print(line, flush=True)
        for what, numbers in failed.items():
            own = total.setdefault(what, [0, 0])
            own[0], own[1] = own[0] + numbers[0], own[1] + numbers[1]
    print("all: too high", _counted(total))


if __name__ == "__main__":
    main()
