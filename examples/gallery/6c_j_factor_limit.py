r"""
A limit on annihilating dark matter: J-factors
==============================================

Dark matter that annihilates in the Galactic halo would shine as
:math:`\frac{\langle\sigma v\rangle}{8\pi m^2}\,\frac{dN}{dE}\,J`, with the J-factor of a
Navarro-Frenk-White profile in each ring. Here that is fitted to counts that hold none of it, and
the cross section is scanned for its upper limit, for many masses at once: one likelihood with free
spectrum serves all of them.
"""

# %%
# Counts without dark matter
# --------------------------

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="A limit on annihilating dark matter.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="fewer rings and masses, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

dataset = simulate_galactic_centre(4, shape=(80, 80), n_energy=8, sources=[], mask_margin=0.5)
n_rings = 7 if options.quick else 14
edges = np.linspace(0, 1.4, n_rings + 1)
rings = jaxprof.make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.4 deg", nbin=n_rings + 1
)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    rings,
    spectral_model=jaxprof.PowerLawSpectralModel(index=2.0),
    energy_edges=[10, 500] * u.GeV,
    background=0.03,
).reduce(dataset, spectrum="free")

# %%
# J-factors and spectra
# ---------------------
# J-factors of the rings in GeV2 cm-5, for the parameters of the Milky Way in Cirelli et al. 2011.
# The spectrum of photons per annihilation is that of Bergstrom, Ullio & Buckley 1998:
# :math:`dN/dx = 0.73\,x^{-1.5}\,e^{-7.8x}` with x = E/m, a power law with a cutoff.

j_factor = np.asarray(jaxprof.NFWRadialModel(frame="galactic").ring_integral(edges))
print(f"J-factor within 1.4 deg: {j_factor.sum():.2e} GeV2 cm-5")


def log_prob(params, mass):
    """With the cross section in 1e-26 cm3 s-1 and the mass in GeV."""
    norm = 1e-26 * params["sigma_v"] * j_factor / (8 * jnp.pi * mass**2)
    tev = 1e-3 * mass
    photons = jaxprof.ExpCutoffPowerLawSpectralModel(
        index=1.5, amplitude=0.73 / tev, reference=tev, lambda_=7.8 / tev
    )
    named = {"norm": norm[:, None], "spectrum": photons, "background": params["background"]}
    return likelihood.log_prob(named)


# %%
# The limit
# ---------
# The scan of the cross section, with the background fitted at each value, is mapped over values and
# masses. It starts at zero: the limit is where stat has risen by 2.71 above its minimum.

masses = np.geomspace(30, 3000, 4 if options.quick else 9)
start = {"sigma_v": 1.0, "background": np.ones((1, 1))}


def limit(mass):
    """Upper limit at 95 % confidence [1e-26 cm3 s-1], and the scan that it comes from."""
    best = jaxprof.fit(log_prob, start, args=(mass,), bounds={"sigma_v": (0.0, None)})
    # The curvature at zero tells how far the scan must go.
    size = jnp.sqrt(2.71) / jnp.sqrt(-jax.hessian(log_prob_along)(best.params["sigma_v"], mass))
    grid = best.params["sigma_v"] + size * jnp.linspace(0, 2, 25)

    def stat(value):
        held = {**start, "sigma_v": value}
        return jaxprof.fit(log_prob, held, args=(mass,), fixed="sigma_v").stat

    rise = jax.vmap(stat)(grid) - best.stat
    return jnp.interp(2.71, rise, grid), grid, rise


def log_prob_along(sigma_v, mass):
    return log_prob({**start, "sigma_v": sigma_v}, mass)


upper, grids, rises = jax.jit(jax.vmap(limit))(masses)
for mass, value in zip(masses, upper, strict=True):
    print(f"m = {mass:6.0f} GeV: <sigma v> < {1e-26 * value:.2e} cm3 s-1")

# %%
# Scan and limit
# --------------

figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
middle = len(masses) // 2
axes[0].plot(grids[middle], rises[middle], "o-", ms=3, color="tab:red")
axes[0].axhline(2.71, color="0.5", lw=0.8, ls="--", label="upper limit, 95 %: 2.71")
axes[0].axvline(upper[middle], color="0.5", lw=0.8, ls="--")
axes[0].set(xlabel=r"$\langle\sigma v\rangle$ [$10^{-26}$ cm$^3$ s$^{-1}$]", ylim=(0, None))
axes[0].set_ylabel("Fit statistic above its minimum")
axes[0].legend()
axes[0].set_title(f"Scan for a mass of {masses[middle]:.0f} GeV")
axes[1].loglog(masses, 1e-26 * upper, "o-", color="tab:red", label="upper limit, 95 %")
axes[1].axhline(2.2e-26, color="0.5", ls=":", label="thermal relic")
axes[1].set(xlabel="Mass [GeV]", ylabel=r"$\langle\sigma v\rangle$ [cm$^3$ s$^{-1}$]")
axes[1].set_title("Navarro-Frenk-White halo (simulated counts)")
axes[1].legend()
figure.savefig(out / "gallery_6c_j_factor.png", dpi=120)
