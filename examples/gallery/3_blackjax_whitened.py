r"""
The same density with blackjax, whitened
========================================

The density of the previous example is an ordinary function of a dict of parameters. blackjax takes
it as it is; after `jaxprof.whiten` its coordinates have unit variance and hardly any correlation,
so that the sampler needs few steps and no long adaptation.
"""

# %%
# The likelihood, as before.

import argparse
from pathlib import Path

import astropy.units as u
import blackjax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="The same density with blackjax, whitened.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="fewer boxes, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

n_boxes = 6 if options.quick else 16
diffuse = jaxprof.SkyModel(
    jaxprof.PowerLawSpectralModel(index=2.3, amplitude="2.5e-11 cm-2 s-1 TeV-1"),
    jaxprof.GaussianSpatialModel(lon_0=0, lat_0=0, sigma=1, frame="galactic"),
)
empty = simulate_galactic_centre(3, shape=(60, 160), n_energy=4, sources=[], mask_margin=0.5)
dataset = jaxprof.expected_dataset(empty, diffuse)
dataset.counts.data[:] = np.random.default_rng(3).poisson(dataset.counts.data)
boxes = jaxprof.make_orthogonal_rectangle_sky_regions(
    start_pos=SkyCoord("3d", "0d", frame="galactic"),
    end_pos=SkyCoord("-3d", "0d", frame="galactic"),
    wcs=dataset.counts.geom.wcs,
    height="1.5 deg",
    nbin=n_boxes,
)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    boxes,
    spectral_model=jaxprof.PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    background=0.03,
).reduce(dataset, merge=True)

# %%
# The density
# -----------
# The logarithms of the norms are a random walk of step size tau, whose logarithm is a parameter
# with a normal prior.


def log_prob(params):
    log_norm, log_tau = params["log_norm"], params["log_tau"]
    steps = jnp.diff(log_norm) / jnp.exp(log_tau)
    prior = -0.5 * jnp.sum(steps**2) - (n_boxes - 1) * log_tau - 0.5 * (log_norm[0] / 3) ** 2
    prior = prior - 0.5 * ((log_tau - np.log(0.5)) / 0.5) ** 2
    norm = jnp.exp(log_norm)[:, None]
    return prior + likelihood.log_prob({"norm": norm, "background": params["background"]})


# %%
# Mode, whitening and samples
# ---------------------------
# A density like this has its maximum where all steps and tau vanish, which says nothing of where
# its mass is. So tau is held for the mode, and whitening is that of the other parameters; the
# sampler gets the logarithm of tau as one more coordinate, of about unit width.

start = {
    "log_norm": np.zeros(n_boxes),
    "log_tau": np.log(0.5),
    "background": np.ones((1, 1)),
}
mode = jaxprof.fit(log_prob, start, fixed="log_tau")
_, to_others = jaxprof.whiten(log_prob, mode)


def to_params(x):
    return {**to_others(x[:-1]), "log_tau": np.log(0.5) + 0.25 * x[-1]}


def whitened(x):
    return log_prob(to_params(x))


@jax.jit
def chain(key):
    """Positions, whether a trajectory diverged, and how many gradients it took."""
    warm, draw, first = jax.random.split(key, 3)
    adaptation = blackjax.window_adaptation(blackjax.nuts, whitened, target_acceptance_rate=0.85)
    centre = 0.1 * jax.random.normal(first, (n_boxes + 2,))
    (state, tuned), _ = adaptation.run(warm, centre, num_steps=400)
    kernel = blackjax.nuts(whitened, **tuned).step

    def step(state, key):
        state, info = kernel(key, state)
        return state, (state.position, info.is_divergent, info.num_integration_steps)

    return jax.lax.scan(step, state, jax.random.split(draw, 1000))[1]


draws, divergent, gradients = map(
    np.stack, zip(*(chain(key) for key in jax.random.split(jax.random.key(1), 2)), strict=True)
)
print(f"divergences: {divergent.sum()}; gradients per draw: {gradients.mean():.1f}")
print(f"largest r-hat: {np.max(blackjax.diagnostics.potential_scale_reduction(draws)):.4f}")

# %%
# Whitened coordinates
# --------------------
# On the left every coordinate's standard deviation: one, where the density is that of a normal
# distribution. On the right the norms.

samples = jax.vmap(lambda x: jnp.exp(to_params(x)["log_norm"]))(draws.reshape(-1, draws.shape[-1]))
low, middle, high = np.quantile(samples, [0.16, 0.5, 0.84], axis=0)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
axes[0].plot(draws.std(axis=(0, 1)), "o", ms=4)
axes[0].axhline(1, color="0.6", lw=0.8)
axes[0].set(
    xlabel="Whitened coordinate (the last: tau)",
    ylabel="Standard deviation of the samples",
    ylim=(0, 2),
    xticks=range(0, draws.shape[-1], 5),
)
edges = np.linspace(3, -3, n_boxes + 1)
centre = 0.5 * (edges[1:] + edges[:-1])
axes[1].errorbar(centre, middle, [middle - low, high - middle], fmt="o", color="tab:red", ms=4)
axes[1].invert_xaxis()
axes[1].set(xlabel="Galactic longitude [deg]", ylabel="Norm: median and central 68 %")
figure.suptitle("Hierarchical profile along the Galactic plane (simulation)")
figure.savefig(out / "gallery_3_blackjax.png", dpi=120)
