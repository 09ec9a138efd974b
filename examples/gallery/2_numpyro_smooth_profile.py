r"""
A smooth profile, sampled with numpyro
======================================

Where a profile has few photons, its points scatter. If the emission is known to be smooth, a
hierarchical model says so: the logarithms of the norms are a random walk, whose step size is fitted
along. The likelihood of the counts is one factor of the density that numpyro samples.
"""

# %%
# The likelihood
# --------------
# Boxes along the Galactic plane, where diffuse emission is simulated, all folded together. Pixels
# without counts share counts bins (``merge=True``), which is quicker: the counts do not change.

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from astropy.coordinates import SkyCoord
from numpyro.diagnostics import summary

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="A smooth profile, sampled with numpyro.")
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
estimator = jaxprof.ForwardFoldingProfileEstimator(
    boxes,
    spectral_model=jaxprof.PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    background=0.03,
)
likelihood = estimator.reduce(dataset, merge=True)

# %%
# The model and its samples
# -------------------------
# The Gaussian constraint of the background is part of the likelihood, so it has no other prior.


def model():
    tau = numpyro.sample("tau", dist.LogNormal(jnp.log(0.5), 0.5))
    first = numpyro.sample("first", dist.Normal(0, 3))
    steps = numpyro.sample("steps", dist.Normal(0, tau).expand([n_boxes - 1]))
    log_norm = numpyro.deterministic("log_norm", first + jnp.append(0.0, jnp.cumsum(steps)))
    background = numpyro.sample(
        "background", dist.ImproperUniform(dist.constraints.positive, (), ())
    )
    params = {"norm": jnp.exp(log_norm)[:, None], "background": background[None, None]}
    numpyro.factor("counts", likelihood.log_prob(params))


mcmc = numpyro.infer.MCMC(
    numpyro.infer.NUTS(model, dense_mass=True, target_accept_prob=0.9),
    num_warmup=500,
    num_samples=1000,
    num_chains=2,
    chain_method="vectorized",
    progress_bar=False,
)
mcmc.run(jax.random.PRNGKey(0))
diagnostics = summary(mcmc.get_samples(group_by_chain=True))
worst = max(np.max(own["r_hat"]) for own in diagnostics.values())
divergences = int(mcmc.get_extra_fields()["diverging"].sum())
print(f"largest r-hat: {worst:.4f}; divergences: {divergences}")
print("step size tau: {mean:.2f} +- {std:.2f}".format(**diagnostics["tau"]))

# %%
# The profile
# -----------
# The points are the norms without any prior, the band the central 68 % of the samples.

samples = np.exp(mcmc.get_samples()["log_norm"])
profile = estimator.run(dataset)
low, middle, high = np.quantile(samples, [0.16, 0.5, 0.84], axis=0)
edges = np.append(profile.axis.min, profile.axis.max[-1])

figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
ax.errorbar(
    profile.axis.ref,
    profile.norm[:, 0],
    profile.norm_err[:, 0],
    fmt="o",
    color="0.4",
    ms=4,
    label="joint fit, no prior",
)
ax.stairs(middle, edges, baseline=None, color="tab:red", label="smooth: median")
ax.stairs(high, edges, baseline=low, fill=True, color="tab:red", alpha=0.25, label="smooth: 68 %")
ax.axhline(0, color="0.8", lw=0.8, zorder=0)
ax.set(xlabel="Position along the plane [deg]", ylabel="Norm", xlim=(edges[0], edges[-1]))
ax.set_title("Boxes along the Galactic plane (simulation)")
ax.legend()
figure.savefig(out / "gallery_2_numpyro.png", dpi=120)
