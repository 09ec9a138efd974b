"""How fast a profile's likelihood is: gradients, samples and simulated data sets.

    python benchmarks/likelihood.py
    python benchmarks/likelihood.py --skip nuts toys

On the Fermi-LAT Galactic centre if ``$GAMMAPY_DATA`` has it, otherwise on a simulation of the same
size. Times are processor times, which other programs on the machine change little; beside each
gradient stands the time of the same sum and its gradient written in plain numpy, in the same run.
NUTS needs blackjax.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
from astropy.coordinates import SkyCoord
from scipy.special import gammaln

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

SPECTRUM = jaxprof.PowerLawSpectralModel(index=2.3)
CENTRE = SkyCoord("0d", "0d", frame="galactic")


def load():
    """The dataset, and what it is."""
    path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
    if path.is_file():
        return jaxprof.MapDataset.read(path), "Fermi-LAT, real data"
    return simulate_galactic_centre(seed=0), "simulation"


def annuli():
    """Ten rings around the Galactic centre, to 1.5 deg."""
    rings = jaxprof.make_concentric_annulus_sky_regions(
        center=CENTRE, radius_max="1.5 deg", nbin=11
    )
    return {"regions": rings, "spectral_model": SPECTRUM, "energy_edges": [10, 500] * u.GeV}


def boxes(dataset):
    """51 boxes along the Galactic plane."""
    regions = jaxprof.make_orthogonal_rectangle_sky_regions(
        start_pos=SkyCoord("10d", "0d", frame="galactic"),
        end_pos=SkyCoord("350d", "0d", frame="galactic"),
        wcs=dataset.counts.geom.wcs,
        height="3 deg",
        nbin=51,
    )
    return {"regions": regions, "spectral_model": SPECTRUM, "energy_edges": [10, 2000] * u.GeV}


def processor_time(function, number=50, repeat=7):
    """The smallest processor time of a call, in seconds, and wall time of the first call."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    first = time.perf_counter() - start
    times = []
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(number):
            jax.block_until_ready(function())
        times.append((time.process_time() - start) / number)
    return min(times), first


def numpy_gradient(likelihood):
    """Sum and gradient with respect to norms in numpy, without nodes or free spectra."""
    terms = [jax.tree.map(np.asarray, term) for term in likelihood.terms]

    def value_and_gradient(norm, background):
        value, gradient = 0.0, np.zeros(norm.shape[0])
        for term in terms:
            templates, components = term.templates[0, :, :, 0], term.components[0]
            signal = np.einsum("nk,nks->ns", norm[components, 0], templates)
            npred = background * term.background[0] + term.offset[0] + signal
            counts, mask = term.counts[0], term.mask[0]
            safe = np.where(npred > 0, npred, 1.0)
            value += np.where(mask, counts * np.log(safe) - npred - gammaln(counts + 1), 0.0).sum()
            slope = np.where(mask, counts / safe - 1.0, 0.0)
            np.add.at(gradient, components, np.einsum("ns,nks->nk", slope, templates))
        return value, gradient

    return value_and_gradient


def gradients(title, likelihood, wanted, *, names=("norm", "background")):
    """One row: value and gradient a second."""
    params = {name: jnp.asarray(likelihood.nominal[name]) for name in names}
    # As a user's loop does: the likelihood is closed over, parameters are the argument.
    function = jax.jit(jax.value_and_grad(likelihood.log_prob))
    own, first = processor_time(lambda: function(params))
    row = f"{title:34s}{1 / own:12.0f}{wanted:12d}{first:12.2f}"
    if not likelihood.nodes:
        plain = numpy_gradient(likelihood)
        norm, background = np.asarray(params["norm"]), 1.0
        # It is the same sum.
        value = float(function(params)[0])
        constant = float(likelihood.constraints.log_prob(likelihood.nominal)[0])
        np.testing.assert_allclose(plain(norm, background)[0] + constant, value, rtol=1e-11)
        reference, _ = processor_time(lambda: plain(norm, background), number=5)
        row += f"{reference / own:12.1f}"
    print(row)


def nuts(likelihood):
    """Sample a random walk over all boxes, 2 chains of 300 steps of adaptation and 400 draws."""
    import blackjax

    number = likelihood.n_bins

    def log_prob(params):
        log_norm, log_tau = params["log_norm"], params["log_tau"]
        steps = jnp.diff(log_norm) / jnp.exp(log_tau)
        prior = -0.5 * (jnp.sum(steps**2) + (log_norm[0] / 5) ** 2 + jnp.exp(2 * log_tau))
        named = {"norm": jnp.exp(log_norm)[:, None], "background": params["background"]}
        return likelihood.log_prob(named) + prior - (number - 2) * log_tau

    start = {"log_norm": np.zeros(number), "log_tau": 0.0, "background": np.ones((1, 1))}
    began = time.process_time(), time.perf_counter()
    # The maximum is where all steps vanish with tau: that for tau = 1 is where the mass is.
    mode = jaxprof.fit(log_prob, start, fixed="log_tau")
    _, to_params = jaxprof.whiten(log_prob, mode)

    def whitened(x):
        return log_prob({**to_params(x[:-1]), "log_tau": 0.2 * x[-1]})

    @jax.jit
    def chain(key):
        warm, draw, first = jax.random.split(key, 3)
        adaptation = blackjax.window_adaptation(
            blackjax.nuts, whitened, target_acceptance_rate=0.85
        )
        (state, tuned), _ = adaptation.run(
            warm, 0.1 * jax.random.normal(first, (len(mode.names),)), num_steps=300
        )
        kernel = blackjax.nuts(whitened, **tuned).step

        def step(state, key):
            state, info = kernel(key, state)
            return state, (state.position, info.is_divergent, info.num_integration_steps)

        return jax.lax.scan(step, state, jax.random.split(draw, 400))[1]

    keys = jax.random.split(jax.random.key(0), 2)
    compiled = chain.lower(keys[0]).compile()
    with ThreadPoolExecutor(2) as pool:
        chains = list(pool.map(lambda key: jax.block_until_ready(compiled(key)), keys))
    draws, divergent, steps = map(np.stack, zip(*chains, strict=True))
    times = time.process_time() - began[0], time.perf_counter() - began[1]
    worst = np.max(blackjax.diagnostics.potential_scale_reduction(draws))
    print(
        f"NUTS: {times[0]:.1f} s of processor time, {times[1]:.1f} s of wall time (asked: 30 s); "
        f"{divergent.sum()} divergences, {steps.mean():.1f} gradients a draw, r-hat {worst:.3f}"
    )
    spread = draws.std(axis=(0, 1))
    print(f"      whitened standard deviations {spread.min():.2f} to {spread.max():.2f}")


def toys(likelihood, number=1000):
    """Fit a law of two parameters to simulated data sets."""
    edges = np.append(1e-5, np.linspace(0.15, 1.5, 10))
    flux = SPECTRUM.integral(0.01, 0.5)
    law = jaxprof.PowerLawRadialModel(frame="galactic")

    def named(params):
        own = law.replace(amplitude=1e-7 * jnp.exp(params["ln_c"]), alpha=params["alpha"])
        return {"norm": own.ring_norms(edges, flux)[:, None], "background": params["background"]}

    def log_prob(params, own):
        return own.log_prob(named(params))

    start = {"ln_c": 0.0, "alpha": 1.0, "background": np.ones((1, 1))}
    fitted = jaxprof.fit(log_prob, start, args=(likelihood,))
    if not fitted.success:
        raise SystemExit(f"the law does not fit the data: {fitted}")
    best = fitted.params
    keys = jax.random.split(jax.random.key(0), number)
    # Six standard deviations more than there are in the data.
    room = int(1.1 * max(np.sum(counts) for counts in likelihood.counts))

    def simulated(key):
        return likelihood.simulate(key, named(best), most=room)

    def one(key):
        found = jaxprof.fit(log_prob, best, args=(simulated(key),))
        return found.params["alpha"], found.success

    for title, function in (
        ("simulated", lambda key: simulated(key).terms[0].templates.sum()),
        ("simulated and fitted", one),
    ):
        # One after the other: what belongs to a few sets stays in the cache.
        run = jax.jit(lambda keys, own=function: jax.lax.map(own, keys))
        seconds, _ = processor_time(lambda run=run: run(keys), number=1, repeat=2)
        print(f"{number} Poisson sets of a law, {title}: {seconds:.2f} s of processor time")
    alpha, success = run(keys)
    print(
        f"      asked: 2 s; {int(success.sum())} succeeded; alpha {np.nanmean(alpha):.3f} +- "
        f"{np.nanstd(alpha):.3f}, truth {best['alpha']:.3f}"
    )


def main() -> None:
    """Read the options, run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip", nargs="*", default=[], choices=["gradients", "nuts", "toys"])
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    dataset, label = load()
    print(f"{label}; load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPU cores")
    radial = jaxprof.ForwardFoldingProfileEstimator(**annuli(), background=0.03)
    line = jaxprof.ForwardFoldingProfileEstimator(**boxes(dataset), background=0.03)
    response = line.response(dataset)
    folded = line.reduce(dataset, response, merge=True)
    if "gradients" not in options.skip:
        print(
            f"{'value and gradient':34s}{'a second':>12s}{'asked':>12s}{'first [s]':>12s}", end=""
        )
        print(f"{'x numpy':>12s}")
        separate = jaxprof.FluxProfileEstimator(**annuli()).reduce(dataset)
        gradients("10 annuli per region", separate, 20_000)
        gradients("10 annuli folded", radial.reduce(dataset, merge=True), 4_500)
        gradients("51 boxes folded", folded, 1_600)
        free = line.reduce(dataset, response, psf_scale=(0.8, 1, 1.2), merge=True)
        names = ("norm", "background", "psf_scale")
        gradients("51 boxes folded, PSF width free", free, 500, names=names)
    if "nuts" not in options.skip:
        nuts(folded)
    if "toys" not in options.skip:
        toys(radial.reduce(dataset))


if __name__ == "__main__":
    main()
