r"""
A second instrument shares the spectrum
=======================================

A telescope resolves a halo into rings but has few photons; another one sees only the whole of it,
and has published flux points at lower energies. Both measure one spectrum. Their logarithms of the
likelihood are added, and every parameter of the spectrum is fitted to both.
"""

# %%
# The data
# --------
# A simulated halo with a log-parabolic spectrum, and seven flux points of the whole halo between
# 0.2 and 8 GeV with errors of 6 %.

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.flatten_util
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="A second instrument shares the spectrum.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="fewer rings, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

truth = jaxprof.LogParabolaSpectralModel(
    amplitude="1.5e-7 cm-2 s-1 TeV-1", reference="20 GeV", alpha=2.1, beta=0.08
)
halo = jaxprof.SkyModel(
    truth, jaxprof.GaussianSpatialModel(lon_0=0, lat_0=0, sigma=0.35, frame="galactic")
)
empty = simulate_galactic_centre(1, shape=(80, 80), n_energy=6, sources=[], mask_margin=0.5)
dataset = jaxprof.expected_dataset(empty, halo)
rng = np.random.default_rng(1)
dataset.counts.data[:] = rng.poisson(dataset.counts.data)

energy = np.geomspace(2e-4, 8e-3, 7)  # TeV
dnde = np.asarray(truth(energy)) * (1 + 0.06 * rng.normal(size=energy.size))
dnde_err = 0.06 * dnde

# %%
# The likelihood of the rings
# ---------------------------
# With ``spectrum="free"`` the spectrum is a parameter of the likelihood. Norms are then the parts
# of the halo's flux that come from each ring: they should add up to one.

n_rings = 4 if options.quick else 7
rings = jaxprof.make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.4 deg", nbin=n_rings + 1
)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    rings, spectral_model=truth, energy_edges=[10, 500] * u.GeV, background=0.03
).reduce(dataset, spectrum="free")

# %%
# The fit
# -------


def spectrum_of(params):
    """The spectrum of both instruments."""
    return truth.replace(
        amplitude=1e-7 * params["amplitude"], alpha=params["alpha"], beta=params["beta"]
    )


def log_prob(params, points):
    named = {"norm": params["norm"], "background": params["background"]}
    pull = (spectrum_of(params)(energy) - dnde) / dnde_err
    of_points = -0.5 * jnp.sum(pull**2) if points else 0.0
    return likelihood.log_prob(named | {"spectrum": spectrum_of(params)}) + of_points


start = {**likelihood.params(), "amplitude": 1.0, "alpha": 2.0, "beta": 0.0}
start["norm"] = start["norm"] / n_rings
fit = jaxprof.fit(lambda params: log_prob(params, True), start)
# Alone, the counts cannot tell the amplitude of the spectrum from the norms.
alone = jaxprof.fit(lambda params: log_prob(params, False), start, fixed="amplitude")
total = float(fit.params["norm"].sum())
gradient = np.array([name.startswith("norm") for name in fit.names], float)
total_err = float(np.sqrt(gradient @ fit.covariance @ gradient))
print("            counts alone       with points        truth")
for name, true in (("alpha", 2.1), ("beta", 0.08)):
    columns = (f"{own.params[name]:.3f} +- {own.errors[name]:.3f}" for own in (alone, fit))
    print(f"{name:10s}", *columns, true, sep="    ")
print(f"Rings together over the points: {total:.2f} +- {total_err:.2f}")

# %%
# The spectrum
# ------------
# The band of the counts alone is wide below the energies of the counts; together the two
# instruments fix slope and curvature.

figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
ax, grid = axes[0], np.geomspace(1.5e-4, 0.5, 100)


def log_spectrum(x, unravel):
    """Logarithm of E^2 dN/dE of the whole halo."""
    params = unravel(x)
    return jnp.log(grid**2 * spectrum_of(params)(grid) * jnp.sum(params["norm"]))


for own, color, label in (
    (alone, "tab:blue", "counts alone"),
    (fit, "tab:red", "counts and points"),
):
    x, unravel = jax.flatten_util.ravel_pytree(own.params)
    slope = jax.jacobian(log_spectrum)(x, unravel)
    error = np.sqrt(np.einsum("ei,ij,ej->e", slope, own.covariance, slope))
    curve = np.exp(log_spectrum(x, unravel))
    ax.plot(1e3 * grid, curve, color=color, label=label)
    ax.fill_between(
        1e3 * grid, curve * np.exp(-error), curve * np.exp(error), color=color, alpha=0.25, lw=0
    )
ax.plot(1e3 * grid, grid**2 * np.asarray(truth(grid)), "k--", lw=1, label="truth")
scale = energy**2
ax.errorbar(1e3 * energy, scale * dnde, scale * dnde_err, fmt="sk", ms=4, label="second instrument")
ax.axvspan(10, 500, color="0.93", zorder=0)
ax.text(11, 0.03, "energies of the counts", transform=ax.get_xaxis_transform(), color="0.4")
ax.set(xscale="log", yscale="log", xlabel="Energy [GeV]", xlim=(0.15, 500), ylim=(3e-12, 2e-10))
ax.set_ylabel(r"$E^2\,dN/dE$ [TeV cm$^{-2}$ s$^{-1}$]")
ax.set_title("Spectrum of the whole halo")
ax.legend(loc="upper right")

ax, centre = axes[1], (np.arange(n_rings) + 0.5) * 1.4 / n_rings
ax.errorbar(
    centre,
    fit.params["norm"][:, 0],
    fit.errors["norm"][:, 0],
    0.7 / n_rings,
    fmt="o",
    color="tab:red",
)
edges = np.linspace(0, 1.4, n_rings + 1)
ax.stairs(
    -np.diff(np.exp(-((edges / 0.35) ** 2) / 2)), edges, color="k", ls="--", lw=1, label="truth"
)
ax.axhline(0, color="0.8", lw=0.8, zorder=0)
ax.set(xlabel="Distance from the centre [deg]", ylabel="Part of the halo's flux", xlim=(0, 1.4))
ax.set_title(f"Rings; together {total:.2f} $\\pm$ {total_err:.2f}")
ax.legend()
figure.savefig(out / "gallery_4_shared_spectrum.png", dpi=120)
