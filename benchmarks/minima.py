"""How often fits that are not convex end in the lowest minimum.

    python benchmarks/minima.py
    python benchmarks/minima.py --seed 1000 --kinds "index" "index and tilt"

200 random problems with free spectral parameters or tilts of backgrounds, as likelihoods by their
public names. Each fit, and each fit with a norm held (at zero for the test statistic, at two values
of a scan, at its limits), is compared with the lowest of the minima that are reached from 20 random
points: by Newton steps in a trust region, those of `jaxprof.fit` for any function, which joint fits
do not use; with ``--scipy`` by L-BFGS-B, which takes an hour. It fails where it is higher by more
than 0.02. Second minima that the random points show less than 0.9 above the lowest are to be told.
Times are processor times.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import erf

import jaxprof
from jaxprof import core
from jaxprof.likelihood import Constraints, Gaussian, Likelihood, OnOff, Poisson, Spectra
from jaxprof.likelihood.layout import joint_data
from jaxprof.solvers.minimise import minimise

STARTS = 20
ENOUGH = 0.02
"""How much higher than scipy's a minimum may be: what that leaves is well below."""
TOLD = (0.02, 0.9)
"""Second minima that are this much above the lowest are to be told."""
TRUE, RECO = np.geomspace(0.5, 20, 9), np.geomspace(1, 10, 7)
"""Edges of true and reconstructed energies [TeV]."""
EPS, STEEP = 1e-7, 1e6
"""The statistic goes on as a parabola below so many counts, so that scipy can come back."""


@dataclass(frozen=True)
class Kind:
    """What is free."""

    number: int
    shape: str = ""
    tilted: int = 0
    n_bins: int = 3
    on_off: bool = False


KINDS = {
    "index": Kind(40, "index"),
    "index, On-Off": Kind(20, "index", on_off=True),
    "log parabola": Kind(20, "alpha beta"),
    "cutoff": Kind(20, "index lambda_"),
    "tilt": Kind(30, tilted=1),
    "tilts of two datasets": Kind(20, tilted=2),
    "index and tilt": Kind(40, "index", tilted=1),
    "index and tilt, 6 bins": Kind(10, "index", tilted=1, n_bins=6),
}


def spectral_model(shape: str, index):
    """A spectral model with these free parameters, and their bounds in `Constraints`."""
    one = np.ones_like(index)
    known = {"amplitude": one, "reference": one}
    if shape == "alpha beta":
        model = jaxprof.LogParabolaSpectralModel(alpha=index, beta=0 * one, **known)
    elif shape == "index lambda_":
        model = jaxprof.ExpCutoffPowerLawSpectralModel(
            index=index, lambda_=0.1 * one, alpha=one, **known
        )
    else:
        model = jaxprof.PowerLawSpectralModel(index=index, **known)
    lower, upper = {}, {}
    for name in shape.split():
        own = float(np.mean(getattr(model, name)))
        limits = (0.0, 1e3) if name == "lambda_" else (own - 5, own + 5)
        lower[f"spectrum.{name}"], upper[f"spectrum.{name}"] = limits
    return model, lower, upper


def random_term(rng, kind: Kind, dataset: int, flux, signal):
    """Bins in a row that leak into each other and into two background regions."""
    n, reco = kind.n_bins, np.sqrt(RECO[1:] * RECO[:-1])
    true = np.sqrt(TRUE[1:] * TRUE[:-1])
    within = erf(np.log(RECO / true[:, None]) / rng.uniform(0.08, 0.25) / np.sqrt(2)) / 2
    response = (true ** rng.uniform(0.3, 1.2))[:, None] * np.diff(within, axis=1)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n + 2) - 1))
    leak = rng.uniform(0, 0.3)
    psf = np.select([apart == 0, apart == 1], [1 - leak, leak / 2], 0.0)
    templates = psf[:, None, :, None] * response[None, :, None, :]
    unit = np.einsum("cq,cqbe->c", flux, templates)
    templates *= (np.maximum(signal, 10.0) / unit)[:, None, None, None]
    norm = signal / np.maximum(signal, 10.0)
    expected = np.einsum("c,cq,cqbe->be", norm, flux, templates)
    level = 10 ** rng.uniform(-2, 1.3) * max(signal.mean(), 5.0) / reco.size
    background = level * reco ** -rng.uniform(1, 2.7) * rng.uniform(0.7, 1.3, (n + 2, 1))
    log_energy = np.broadcast_to(np.log(reco / np.sqrt(10)), background.shape)
    mask = np.ones(background.shape, bool)
    mask[[0, -1]] = rng.random() < 0.5
    truth = background
    if kind.tilted:
        truth = background * rng.uniform(0.6, 1.5) * np.exp(-rng.normal(0, 0.7) * log_energy)
    if not kind.shape:
        templates = np.einsum("cq,cqbe->cbe", flux, templates)[:, None]
    counts = rng.poisson(expected + truth)
    alpha = rng.uniform(0.05, 0.5) * np.ones(background.shape)

    def flat(values):
        return np.asarray(values, float).reshape(1, 1, -1)

    common = {
        "offset": flat(0 * background),
        "templates": templates.reshape(1, 1, n, templates.shape[1], -1),
        "components": np.arange(n)[None, None],
        "mask": mask.reshape(1, 1, -1),
        "dataset": dataset,
    }
    if kind.on_off:
        off = rng.poisson(background / alpha)
        return OnOff(n_on=flat(counts), n_off=flat(off), alpha=flat(alpha), **common)
    return Poisson(
        counts=flat(counts), background=flat(background), log_energy=flat(log_energy), **common
    )


def random_likelihood(kind: Kind, rng) -> Likelihood:
    """Bins with 5 to 1000 counts each, or none, over any background."""
    n, sets = kind.n_bins, max(kind.tilted, 1)
    power = 1 - rng.uniform(1.2, 3.8, n)[:, None]
    flux = np.diff(TRUE**power, axis=1) / power
    signal = 10 ** rng.uniform(np.log10(5), 3, n) * (rng.random(n) > 0.25)
    terms = tuple(random_term(rng, kind, d, flux, signal / sets) for d in range(sets))
    nominal = {
        "norm": np.ones((n, 1)),
        "background": np.ones((sets, 1)),
        "background_tilt": np.zeros((sets, 1)),
        "exposure": np.ones(sets),
    }
    lower, upper, gaussian, spectra = {}, {}, {}, None
    if kind.tilted:
        lower |= {"background": 0.0, "background_tilt": -5.0}
        upper["background_tilt"] = 5.0
        if rng.random() < 0.3:
            width = np.full((sets, 1), 0.1)
            gaussian["background"] = Gaussian(centre=np.ones((sets, 1)), width=width)
    if rng.random() < 0.25:
        lower["norm"] = 0.0
    if kind.shape:
        model, *bounds = spectral_model(kind.shape, np.full(n, 2.0))
        lower, upper = lower | bounds[0], upper | bounds[1]
        group = RECO[[0, -1]]
        reference = np.asarray(model.integral(*group))[:, None]
        nominal["spectrum"] = model
        none = (np.zeros((0, TRUE.size - 1)),) * sets
        spectra = Spectra(
            edges=(TRUE,) * sets,
            source_flux=none,
            group_edges=group[None],
            guard_flux=none,
            reference_flux=reference,
        )
    tilts = ("background", "background_tilt") if kind.tilted else ()
    return Likelihood(
        terms=terms,
        constraints=Constraints(gaussian=gaussian, lower=lower, upper=upper),
        nominal=nominal,
        bins=(),
        spectra=spectra,
        free=("norm", *tilts, *(("spectrum",) if kind.shape else ())),
        free_background=(bool(tilts),) * sets,
        free_background_tilt=(bool(tilts),) * sets,
        free_spectral_parameters=tuple(kind.shape.split()),
        free_spectra=(True,) * n,
    )


class Reference:
    """Minima of a likelihood from random points, in the vector of `joint_data`."""

    def __init__(self, likelihood: Likelihood, rng, scipy: bool):
        self.rng, self.scipy = rng, scipy
        self.likelihood = jax.tree.map(jnp.asarray, likelihood)
        data = joint_data(likelihood, 0)
        self.bounds = np.array(data.lower), np.array(data.upper)
        self.norms = np.arange(likelihood.n_bins) * (1 + data.n_shape)
        self.begin = data.nuisance_start

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
        """The minima that are reached from points, maybe with a parameter held: values and x."""
        bounds = [bound.copy() for bound in self.bounds]
        if held is not None:
            bounds[0][held] = bounds[1][held] = value
        points = np.clip(points, *bounds)
        if self.scipy:
            found = [by_scipy(self.likelihood, x, *bounds) for x in points]
            return np.array([own[0] for own in found]), np.array([own[1] for own in found])
        values, x = (np.asarray(own) for own in by_newton(self.likelihood, points, *bounds))
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
        own, step = np.arange(x.size), self.begin // len(self.norms)
        of_bins = own < self.begin
        norm = np.where(of_bins, own // step * step, own - (own - self.begin) % 2)
        told = (norm != own) & (np.abs(best[norm]) > 1e-6) & (np.abs(x[norm]) > 1e-6)
        return bool(np.any(told & (np.abs(x - best) > 0.1 + errors)))

    def curvature(self, x):
        """Its second derivatives."""
        return np.asarray(curvature(self.likelihood, jnp.asarray(x)))

    def is_minimum(self, x) -> bool:
        """Whether the statistic has no slope and is curved upwards, but for active bounds."""
        slope = np.asarray(value_and_slope(self.likelihood, jnp.asarray(x))[1])
        lower, upper = self.bounds
        free = ((x > lower) | (slope < 0)) & ((x < upper) | (slope > 0))
        own = self.curvature(x)[np.ix_(free, free)]
        diagonal = np.sqrt(np.maximum(np.diagonal(own), 1e-300))
        return bool(
            np.linalg.eigvalsh(own / diagonal / diagonal[:, None])[0] > 1e-4
            and np.all(np.abs(slope[free]) < 0.02 * diagonal)
        )


def by_scipy(likelihood, x, lower, upper):
    """A minimum by L-BFGS-B; the last steps in other units."""
    for _ in range(2):
        unit = np.where(x != 0, np.abs(x), 1.0)

        def scaled(y, unit=unit):
            stat, slope = value_and_slope(likelihood, y * unit)
            return float(stat), np.asarray(slope) * unit

        found = minimize(
            scaled,
            x / unit,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(lower / unit, upper / unit, strict=True)),
            options={"maxiter": 300, "ftol": 1e-12, "gtol": 1e-6, "maxcor": 20},
        )
        x = np.clip(found.x * unit, lower, upper)
    return found.fun, x


@jax.jit
def by_newton(likelihood, points, lower, upper):
    """Minima by the Newton steps of `jaxprof.fit` of any function."""

    def of(start):
        unit = jnp.where(start != 0, jnp.abs(start), 1.0)
        found = minimise(
            lambda y: 0.5 * statistic(likelihood, y * unit),
            (start / unit)[None],
            lower / unit,
            upper / unit,
        )
        return 2 * found.value, found.x * unit

    return jax.vmap(of)(points)


def params_of(likelihood, x):
    """Named parameters of a vector of `joint_data`."""
    names = likelihood.free_spectral_parameters
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


def statistic(likelihood: Likelihood, x):
    """Cash, written out, or the likelihood's own statistic for On-Off data; with constraints."""
    params, total = params_of(likelihood, x), 0.0
    for term, mu in zip(likelihood.terms, likelihood.npred(params), strict=True):
        if isinstance(term, OnOff):
            continue
        safe = jnp.maximum(mu, EPS)
        step = (mu - EPS) / EPS
        log = jnp.where(mu > EPS, jnp.log(safe), jnp.log(EPS) + step - 0.5 * step**2)
        cash = 2 * (mu - term.counts * log) + STEEP * jnp.minimum(mu, 0.0) ** 2
        total += jnp.sum(jnp.where(term.mask, cash, 0.0))
    if isinstance(likelihood.terms[0], OnOff):
        total = likelihood.stat(params)
    for name, own in likelihood.constraints.gaussian.items():
        total += jnp.sum(((params[name] - own.centre) / own.width) ** 2)
    return total


value_and_slope = jax.jit(jax.value_and_grad(statistic, argnums=1))
curvature = jax.jit(jax.hessian(statistic, argnums=1))


def study(name: str, seed: int, scipy: bool = False):
    """Failures of one problem: heights above the reference's minima, second minima, times."""
    kind = KINDS[name]
    rng = np.random.default_rng([seed, list(KINDS).index(name)])
    likelihood = random_likelihood(kind, rng)
    data = jax.tree.map(jnp.asarray, joint_data(likelihood, 0))
    reference = Reference(likelihood, rng, scipy)
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
        # Where no other norms make the predictions positive, there is no rise.
        if held < minima[0][0] + 1e4 or np.isfinite(rise):
            excess.setdefault(what, []).append(float(own + rise - held))
    heights = reference.others(minima)
    there = bool(np.any((heights > TOLD[0]) & (heights < TOLD[1])))
    told = np.asarray(fit.other_minimum)
    said = bool(np.isfinite(told).any())
    if said and not heights.size:
        other = reference.descend(np.where(np.isfinite(told), told, best)[None])
        pairs = zip(minima, other, strict=True)
        heights = reference.others([np.concatenate([a[:1], b]) for a, b in pairs])
    return excess, (there, said, said and heights.size > 0), spent


def kind_studied(name: str, seeds: range, scipy: bool) -> tuple[dict[str, list[int]], str]:
    """Numbers of failures and of all, by what was fitted; and a line that says so."""
    failed: dict[str, list[int]] = {}
    seconds, told = [], np.zeros(4, int)
    for seed in seeds:
        excess, (asked, said, true), spent = study(name, seed, scipy)
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
    parser.add_argument("--scipy", action="store_true", help="the reference by scipy's L-BFGS-B")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    total: dict[str, list[int]] = {}
    for name in args.kinds:
        seeds = range(args.seed, args.seed + (args.number or KINDS[name].number))
        failed, line = kind_studied(name, seeds, args.scipy)
        print(line, flush=True)
        for what, numbers in failed.items():
            own = total.setdefault(what, [0, 0])
            own[0], own[1] = own[0] + numbers[0], own[1] + numbers[1]
    print("all: too high", _counted(total))


if __name__ == "__main__":
    main()
