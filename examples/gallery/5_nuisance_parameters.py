r"""
Nuisance parameters: PSF, exposure, background
==============================================

How sure is a profile if the instrument is not quite as its responses say? The width of the
point-spread function, the exposure of each dataset and the level of each background are parameters
of the likelihood. Here they have priors, as a calibration gives them, and are fitted as well.
"""

# %%
# Data that are not as described
# ------------------------------
# Two simulated datasets of the Galactic centre, with a bright point source and a faint halo. The
# second has 15 % less exposure than it says.

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
parser = argparse.ArgumentParser(description="Nuisance parameters.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="fewer rings, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

spectrum = jaxprof.PowerLawSpectralModel(index=2.3, amplitude="1e-12 cm-2 s-1 TeV-1")
point = jaxprof.PointSpatialModel(lon_0=0, lat_0=0, frame="galactic")
halo = jaxprof.GaussianSpatialModel(lon_0=0, lat_0=0, sigma=0.5, frame="galactic")
sky = [jaxprof.SkyModel(20 * spectrum, point), jaxprof.SkyModel(10 * spectrum, halo)]
rng = np.random.default_rng(5)


def observe(name, part):
    """Counts of a part of the photons that the dataset expects from its sources."""
    empty = simulate_galactic_centre(
        0, shape=(80, 80), mask_margin=0.5, n_energy=4, sources=[], name=name
    )
    dataset = jaxprof.expected_dataset(empty, sky)
    background = dataset.background.data
    photons = dataset.counts.data - background
    dataset.counts.data[:] = rng.poisson(background + part * photons)
    return dataset


datasets = [observe("first", 1.0), observe("second", 0.85)]

# %%
# The likelihood with its nuisance parameters
# -------------------------------------------
# Templates are folded with three widths of the PSF and interpolated between these; the parameter
# ``psf_scale`` is the factor on the width. ``exposure`` has a factor and ``background`` a norm for
# each dataset. Priors are the user's, and are added outside of the likelihood.

n_rings = 4 if options.quick else 8
rings = jaxprof.make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.6 deg", nbin=n_rings + 1
)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    rings,
    spectral_model=spectrum,
    energy_edges=[10, 500] * u.GeV,
    sources=[jaxprof.SkyModel(spectrum, point, name="point", free=True)],
).reduce(datasets, psf_scale=(0.8, 1, 1.2))

# %%
# The fit
# -------

prior = {"psf_scale": 0.1, "exposure": 0.1, "background": 0.03}


def log_prob(params):
    pulls = [jnp.ravel((params[name] - 1) / width) for name, width in prior.items()]
    return likelihood.log_prob(params) - 0.5 * jnp.sum(jnp.concatenate(pulls) ** 2)


names = ("norm", "source", *prior)
start = {name: likelihood.nominal[name] for name in names}
fit = jaxprof.fit(log_prob, start, bounds=likelihood.bounds(names))
fixed = jaxprof.fit(log_prob, start, fixed=tuple(prior))
print(fit)
ratio = fit.params["exposure"][1] / fit.params["exposure"][0]
print(f"Exposure of the second over the first: {ratio:.3f} (truth: 0.85)")

# %%
# What they change
# ----------------
# The errors of bright rings contain the calibration now; those of faint ones hardly change. On the
# right are the nuisance parameters beside their priors: the counts say nothing of the exposure of
# both together, but tell one from the other.

figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=[1.3, 1], layout="constrained")
ax = axes[0]
centre, half = (np.arange(n_rings) + 0.5) * 1.6 / n_rings, 0.8 / n_rings
for own, shift, color, label in (
    (fixed, -0.1, "0.5", "instrument as described"),
    (fit, 0.1, "tab:red", "nuisance parameters fitted"),
):
    norm, error = own.params["norm"][:, 0], own.errors["norm"][:, 0]
    ax.errorbar(centre + shift * half, norm, error, fmt="o", color=color, ms=4, label=label)
edges = np.linspace(0, 1.6, n_rings + 1)
true = 10 * -np.diff(np.exp(-((edges / 0.5) ** 2) / 2))
ax.stairs(true, edges, color="k", ls="--", lw=1, label="truth")
ax.set(xlabel="Distance from the centre [deg]", ylabel="Norm", xlim=(0, 1.6))
ax.axhline(0, color="0.8", lw=0.8, zorder=0)
ax.set_title("Rings around the centre (simulation)")
ax.legend()

ax, labels = axes[1], []
for name, width in prior.items():
    values, errors = np.ravel(fit.params[name]), np.ravel(fit.errors[name])
    for number, (value, error) in enumerate(zip(values, errors, strict=True)):
        row = len(labels)
        ax.barh(row, 2 * width, left=1 - width, height=0.6, color="0.88", zorder=0)
        ax.errorbar(value, row, xerr=error, fmt="o", color="tab:red", ms=5)
        whose = f"\n({datasets[number].name})" if len(values) > 1 else ""
        labels.append(f"{name}{whose}")
ax.axvline(1, color="0.6", lw=0.8, zorder=0)
ax.set_yticks(range(len(labels)), labels)
ax.invert_yaxis()
ax.set(xlabel="Fitted value", title="Nuisance parameters (bars: priors)")
figure.savefig(out / "gallery_5_nuisance.png", dpi=120)
