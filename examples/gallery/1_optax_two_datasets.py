r"""
One law, two datasets, and optax
================================

The likelihood of a profile is a pure function of named parameters. Any optimiser that takes a
gradient can minimise it: here that of optax, which trains neural networks elsewhere.

Two datasets see one halo. Its brightness is a Gaussian and its spectrum a power law; width, flux
and index are shared, and each dataset has a background norm of its own, known to 3 %. The
answer is compared with that of `jaxprof.fit`.
"""

# %%
# Two datasets
# ------------
# They are simulated, so that the truth is known: a halo of 0.4 deg and index 2.2, on the background
# of a Fermi-LAT-like instrument, seen with two exposures.

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.flatten_util
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="One law, two datasets, and optax.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="less data, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

halo = jaxprof.SkyModel(
    jaxprof.PowerLawSpectralModel(index=2.2, amplitude="3e-11 cm-2 s-1 TeV-1"),
    jaxprof.GaussianSpatialModel(lon_0=0, lat_0=0, sigma=0.4, frame="galactic"),
)


def observe(seed, exposure):
    """Poisson counts of the halo and the background."""
    empty = simulate_galactic_centre(
        seed,
        shape=(80, 80),
        mask_margin=0.5,
        n_energy=4,
        sources=[],
        exposure=exposure,
        name=exposure,
    )
    dataset = jaxprof.expected_dataset(empty, halo)
    dataset.counts.data[:] = np.random.default_rng(seed).poisson(dataset.counts.data)
    return dataset


datasets = [observe(1, "3e11 cm2 s"), observe(2, "1e11 cm2 s")]

# %%
# The law on rings
# ----------------
# The emission stands on rings that are fine beside the point-spread function. With
# ``spectrum="free"`` the likelihood keeps the true energies, and a spectral model is one of its
# parameters. Parameters are of order one, as optimisers like them.

n_rings = 8 if options.quick else 15
edges = np.linspace(0.0, 1.5, n_rings + 1)
rings = jaxprof.make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=n_rings + 1
)
estimator = jaxprof.ForwardFoldingProfileEstimator(
    rings,
    spectral_model=jaxprof.PowerLawSpectralModel(index=2.0),
    energy_edges=[10, 500] * u.GeV,
    background=0.03,
)
likelihood = estimator.reduce(datasets, spectrum="free")


def law_of(params):
    """Brightness of the halo in 1e-7 cm-2 s-1 sr-1."""
    return jaxprof.GaussianRadialModel(
        amplitude=params["amplitude"], sigma=params["sigma"], frame="galactic"
    )


def minus_log_prob(params):
    """Half of the fit statistic."""
    spectrum = jaxprof.PowerLawSpectralModel(index=params["index"])
    norm = law_of(params).ring_norms(edges, 1e7 * spectrum.integral(0.01, 0.5))
    named = {"norm": norm[:, None], "background": params["background"], "spectrum": spectrum}
    return -likelihood.log_prob(named)


start = {"amplitude": 1.0, "sigma": 0.3, "index": 2.0, "background": np.ones((2, 1))}
start = jax.tree.map(jnp.asarray, start)

# %%
# The fit
# -------
# Outside of its domain a likelihood is -inf, and its gradient leads back: the line search turns
# around there.


@jax.jit
def minimise(params):
    """L-BFGS until the gradient vanishes."""
    optimiser, value_and_grad = optax.lbfgs(), optax.value_and_grad_from_state(minus_log_prob)

    def step(carry):
        params, state, _ = carry
        value, grad = value_and_grad(params, state=state)
        update, state = optimiser.update(
            grad, state, params, value=value, grad=grad, value_fn=minus_log_prob
        )
        return optax.apply_updates(params, update), state, optax.tree.norm(grad)

    first = params, optimiser.init(params), jnp.inf
    return jax.lax.while_loop(lambda carry: carry[2] > 1e-5, step, first)[0]


found = minimise(start)
fit = jaxprof.fit(lambda params: -minus_log_prob(params), start, bounds={"sigma": (0, None)})
print("         optax    jaxprof.fit        truth")
for name, truth in (("sigma", 0.4), ("index", 2.2)):
    print(f"{name}  {found[name]:.5f}  {fit.params[name]:.5f} +- {fit.errors[name]:.5f}  {truth}")
print("background norms:", np.round(np.ravel(found["background"]), 3))
apart = jax.tree.map(
    lambda a, b, error: np.max(np.abs((a - b) / error)), found, fit.params, fit.errors
)
print(f"largest difference of the two: {max(jax.tree.leaves(apart)):.1e} of an error")

# %%
# The law over the profile
# ------------------------
# The points are the rings fitted one beside the other, without a law: neighbours are
# anticorrelated. The band is that of the law's parameters.

profile = estimator.run(datasets)
points = profile.surface_brightness("flux")[:, 0].to_value("1e-7 cm-2 s-1 sr-1")
errors = profile.surface_brightness("flux", "err")[:, 0].to_value("1e-7 cm-2 s-1 sr-1")
theta = np.linspace(0.0, 1.5, 200)
flat, unravel = jax.flatten_util.ravel_pytree(fit.params)
jacobian = jax.jacobian(lambda x: law_of(unravel(x)).evaluate(theta))(flat)
band = np.sqrt(np.einsum("ti,ij,tj->t", jacobian, fit.covariance, jacobian))

figure, ax = plt.subplots(layout="constrained")
curve = law_of(found).evaluate(theta)
ax.errorbar(
    profile.axis.ref,
    points,
    errors,
    xerr=np.diff(edges) / 2,
    fmt="o",
    color="0.4",
    ms=4,
    label="rings, without a law",
)
ax.plot(theta, curve, color="tab:red", label="law, found by optax")
ax.fill_between(theta, curve - band, curve + band, color="tab:red", alpha=0.3, lw=0)
total = float(halo.spectral_model.integral(0.01, 0.5)) * 1e7
truth = total / (2 * np.pi * np.deg2rad(0.4) ** 2) * np.exp(-((theta / 0.4) ** 2) / 2)
ax.plot(theta, truth, "k--", lw=1, label="truth")
ax.axhline(0, color="0.8", lw=0.8, zorder=0)
ax.set_xlim(0, 1.5)
ax.set_xlabel("Distance from the centre [deg]")
ax.set_ylabel(r"Brightness [$10^{-7}$ cm$^{-2}$ s$^{-1}$ sr$^{-1}$]")
ax.set_title("Two simulated datasets, one law")
ax.legend()
figure.savefig(out / "gallery_1_optax.png", dpi=120)
