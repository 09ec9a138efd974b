r"""
Which photons decide a norm: influence maps
===========================================

A norm of a joint fit is not the counts of its region over what is expected there: through the
point-spread function, counts elsewhere take part. The derivative of the fit with respect to the
counts says how much, pixel by pixel. It comes from the implicit function theorem, without another
fit.
"""

# %%
# The fit
# -------
# Rings around the centre of the simulated Galactic centre, narrower than the PSF's reach.

import argparse
from pathlib import Path

import astropy.units as u
import jax
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof.datasets import simulate_galactic_centre

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="Which photons decide a norm.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="fewer rings, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

n_rings = 4 if options.quick else 6
dataset = simulate_galactic_centre(0, shape=(80, 80), n_energy=4, mask_margin=0.5)
rings = jaxprof.make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.2 deg", nbin=n_rings + 1
)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    rings,
    spectral_model=jaxprof.PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    background=0.03,
).reduce(dataset)
fit = jaxprof.fit(likelihood, likelihood.params())
print(fit)

# %%
# The map
# -------
# One call gives a map with the axes of the counts. In its own ring a photon raises the norm; in the
# neighbours it lowers it, because what they explain is taken from the ring. Counts of high energy,
# where the PSF is narrow and the background low, weigh more.

image = jaxprof.influence_map(likelihood, fit, "norm[2, 0]", dataset)

# %%
# It is the change of a new fit, if one pixel has one count more:

[counts], [bins] = likelihood.counts, likelihood.bins
at = tuple(np.argwhere(likelihood.terms[0].mask & (counts > 0))[0])
again = jaxprof.fit(likelihood.with_counts((counts.at[at].add(0.01),)), fit.params)
change = 100 * (again.params["norm"][2, 0] - fit.params["norm"][2, 0])
value = image.data[bins.energy[at]].ravel()[bins.pixel[at]]
print(f"Influence of a pixel: {value:.6f}, by another fit: {change:.6f}")

# %%
# Zero influence is white; pixels outside of the fit are grey.

axis = dataset.geom.axes[0]
limit = np.nanpercentile(np.abs(image.data), 99.5)
near = image.cutout(SkyCoord("0d", "0d", frame="galactic"), "2.6 deg")
figure = plt.figure(figsize=(11, 4.6), layout="constrained")
for number, plane in enumerate((0, 3)):
    ax = figure.add_subplot(1, 2, number + 1, projection=near.geom.wcs)
    ax.set_facecolor("0.85")
    shown = ax.imshow(near.data[plane], origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
    low, high = axis.edges[plane : plane + 2].to_value("GeV")
    ax.set_title(f"Counts of {low:.0f} to {high:.0f} GeV")
    for coordinate, label in zip(ax.coords, ("longitude", "latitude"), strict=True):
        coordinate.set_axislabel(f"Galactic {label}")
        coordinate.set_major_formatter("d.d")
    for radius in (rings[2].inner_radius, rings[2].outer_radius):
        style = {"fill": False, "color": "k", "ls": ":", "transform": ax.get_transform("galactic")}
        ax.add_patch(plt.Circle((0, 0), radius.to_value("deg"), **style))
figure.colorbar(shown, ax=figure.axes, label="Change of the ring's norm per count", shrink=0.9)
figure.suptitle("Influence of single counts on the norm of the third ring (dotted; simulation)")
figure.savefig(out / "gallery_7_influence.png", dpi=120)
