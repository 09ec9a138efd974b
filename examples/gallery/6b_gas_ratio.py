r"""
Cosmic rays over gas: a density profile of the Galactic centre
==============================================================

Where cosmic rays meet gas, the gamma rays are their density times the column of the gas. A profile
of that ratio tells a source at the centre (density falling as 1/r) from a sea of cosmic rays
(constant) (H.E.S.S. Collaboration 2016, Nature 531, 476). Here the law is multiplied with the map
of the gas and fitted to the counts through the response. Photons and gas are invented.
"""

# %%
# Gas, cosmic rays and counts
# ---------------------------

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="Cosmic rays over gas.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="larger pixels, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

centre = SkyCoord(0, 0, unit="deg", frame="galactic")
spectrum = jaxprof.PowerLawSpectralModel(index=2.32, amplitude="4e-12 cm-2 s-1 TeV-1")
reco = jaxprof.MapAxis.from_energy_bounds("1 TeV", "20 TeV", 3)
true = jaxprof.MapAxis.from_energy_bounds("0.8 TeV", "30 TeV", 6, name="energy_true")
geom = jaxprof.WcsGeom.create(
    skydir=centre,
    width=(2.8, 2.4),
    binsz=0.05 if options.quick else 0.025,
    frame="galactic",
    axes=[reco],
)
fine = jaxprof.WcsGeom.create(skydir=centre, width=(2.8, 1.6), binsz=0.01, frame="galactic")
position = fine.get_coord()
lon, lat = position.l.wrap_at("180d").deg, position.b.deg
clouds = [  # longitude, latitude, widths, mass
    (0.66, -0.04, 0.10, 0.07, 1.0),
    (0.05, -0.06, 0.12, 0.05, 0.9),
    (-0.55, -0.11, 0.14, 0.06, 0.5),
    (1.13, -0.10, 0.10, 0.08, 0.4),
    (0.30, 0.00, 0.30, 0.08, 1.0),
    (-0.20, -0.05, 0.30, 0.08, 0.8),
]
gas = sum(
    mass * np.exp(-0.5 * (((lon - x) / width) ** 2 + ((lat - y) / height) ** 2))
    for x, y, width, height, mass in clouds
)
law = jaxprof.CoredPowerLawRadialModel(alpha=1.0, core=0.02, lon_0=0, lat_0=0, frame="galactic")
density = np.asarray(law.evaluate(position.separation(centre).deg))
share = np.diff(-(reco.edges.to_value("TeV") ** -2.0))
level = 5000 * (share / share.sum())[:, None, None] * geom.solid_angle().to_value("deg2")
exposure = np.full(geom.to_cube([true]).data_shape, 2.7e15)
empty = jaxprof.MapDataset(
    counts=jaxprof.WcsNDMap(geom),
    background=jaxprof.WcsNDMap(geom, level),
    exposure=jaxprof.WcsNDMap(geom.to_cube([true]), exposure, "cm2 s"),
    psf=jaxprof.PSFMap.from_gauss(true, np.linspace(0.06, 0.05, 6)),
    edisp=jaxprof.EDispKernelMap.from_gauss(reco, true, sigma=0.15),
    name="hess-like",
)
sky = jaxprof.TemplateSpatialModel(jaxprof.WcsNDMap(fine, gas * density, "sr-1"))
dataset = jaxprof.expected_dataset(empty, jaxprof.SkyModel(spectrum, sky))
dataset.counts.data[:] = np.random.default_rng(2).poisson(dataset.counts.data)

# %%
# The gas as a template
# ---------------------
# Within each ring the emission follows the gas. Norms that the law predicts are integrals of law
# times gas over the ring, by the pixels of the gas map.

n_rings = 9 if options.quick else 18
edges = np.linspace(0, 0.9, n_rings + 1)
rings = jaxprof.make_concentric_annulus_sky_regions(centre, radius_max="0.9 deg", nbin=n_rings + 1)
model = {
    "spectral_model": spectrum,
    "energy_edges": [1, 20] * u.TeV,
    "guard_bins": 2,
    "template": jaxprof.TemplateSpatialModel(jaxprof.WcsNDMap(fine, gas, "sr-1")),
    "background": 0.02,
}
likelihood = jaxprof.ForwardFoldingProfileEstimator(rings, **model).reduce(dataset, merge=True)

radius, weight = position.separation(centre).deg, fine.solid_angle().to_value("sr")
ring = np.digitize(radius, edges) - 1
inside = [np.flatnonzero(ring == number) for number in range(n_rings)]
mass = np.array([(gas * weight).flat[pixels].sum() for pixels in inside])

# %%
# The fit
# -------


def norms(params):
    """Norms of the rings: sums of law times gas over their pixels."""
    values = gas * weight * law.replace(amplitude=1.0, alpha=params["alpha"]).evaluate(radius)
    sums = jnp.bincount(ring.ravel(), values.ravel(), length=n_rings + 1)[:n_rings]
    return params["amplitude"] * sums / mass.sum()


def log_prob(params):
    return likelihood.log_prob({"norm": norms(params)[:, None], **params["other"]})


others = {name: value for name, value in likelihood.params().items() if name != "norm"}
start = {"amplitude": 1.0, "alpha": 0.5, "other": others}
fit = jaxprof.fit(log_prob, start)
print(fit)
held = {
    alpha: jaxprof.fit(log_prob, fit.params | {"alpha": alpha}, fixed="alpha")
    for alpha in (0.0, 1.0, 2.0)
}
for alpha, own in held.items():
    print(f"alpha = {alpha:g}: stat {own.stat - fit.stat:.1f} above the best law")

# %%
# The ratio profile
# -----------------
# Norms over the mass of the gas in their rings, against the mean of the law over the same gas. The
# points are rings of 0.1 deg, fitted without a law: narrower ones cannot be told apart one by one.

wide = jaxprof.make_concentric_annulus_sky_regions(centre, radius_max="0.9 deg", nbin=10)
profile = jaxprof.ForwardFoldingProfileEstimator(wide, **model).run(dataset)
per_mass = mass.sum() / mass.reshape(9, -1).sum(axis=1)
ratio, ratio_err = profile.norm[:, 0] * per_mass, profile.norm_err[:, 0] * per_mass
figure, ax = plt.subplots(layout="constrained")
ax.errorbar(
    profile.axis.ref,
    ratio,
    ratio_err,
    0.05,
    fmt="o",
    color="0.4",
    ms=4,
    label="rings: flux over gas",
)
label = f"$r^{{-\\alpha}}$, $\\alpha$ = {fit.params['alpha']:.3f} $\\pm$ {fit.errors['alpha']:.3f}"
curve = np.asarray(norms(fit.params)) / mass * mass.sum()
ax.stairs(curve, edges, baseline=None, color="tab:red", label=label)
for alpha, style in ((0.0, ":"), (2.0, "--")):
    other = np.asarray(norms(held[alpha].params)) / mass * mass.sum()
    ax.stairs(
        other, edges, baseline=None, color="tab:blue", ls=style, label=f"$\\alpha$ = {alpha:g}"
    )
ax.set(xlabel="Distance from the Galactic centre [deg]", xlim=(0, 0.9))
ax.set(yscale="log", ylim=(0.5 * curve.min(), 2 * max(curve.max(), ratio.max())))
ax.set_ylabel("Cosmic rays: flux over gas, arbitrary unit")
ax.set_title("Density of cosmic rays (simulation)")
ax.legend()
figure.savefig(out / "gallery_6b_gas_ratio.png", dpi=120)
