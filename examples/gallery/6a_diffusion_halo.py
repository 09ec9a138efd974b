r"""
A Geminga-like halo: the diffusion law
======================================

Electrons that diffuse away from a pulsar make a halo of gamma rays, whose brightness falls as
:math:`e^{-(\theta/\theta_d)^2} / (\theta_d\,(\theta + 0.06\,\theta_d))` (Abeysekara et al. 2017,
Science 358, 911). Its angle is fitted to the counts through the response, with a second halo beside
it, as a telescope like HAWC sees them. The photons are simulated.
"""

# %%
# A simulated observation
# -----------------------
# A field of 24 deg with a point-spread function of 0.25 to 0.45 deg; the parameters of both halos
# are close to the published ones, with an angle of 5.4 deg.

import argparse
from pathlib import Path

import astropy.units as u
import jax
import jax.flatten_util
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

import jaxprof

jax.config.update("jax_enable_x64", True)
parser = argparse.ArgumentParser(description="A Geminga-like halo: the diffusion law.")
parser.add_argument("--out", default="out", help="folder for the figure (default: out)")
parser.add_argument("--quick", action="store_true", help="larger pixels, for tests")
options = parser.parse_known_args()[0]
out = Path(options.out)
out.mkdir(parents=True, exist_ok=True)

geminga = SkyCoord(98.48, 17.77, unit="deg")
monogem = SkyCoord(104.95, 14.24, unit="deg")
spectrum = jaxprof.PowerLawSpectralModel(
    index=2.34, amplitude="1.4e-14 cm-2 s-1 TeV-1", reference="20 TeV"
)
reco = jaxprof.MapAxis.from_energy_bounds("8 TeV", "40 TeV", 3)
true = jaxprof.MapAxis.from_energy_bounds("6 TeV", "60 TeV", 6, name="energy_true")
geom = jaxprof.WcsGeom.create(
    skydir=geminga, width=24, binsz=0.5 if options.quick else 0.25, proj="TAN", axes=[reco]
)


def template(position):
    """The diffusion law around a position, on a map that is wider than the field."""
    fine = jaxprof.WcsGeom.create(skydir=position, width=60, binsz=0.1, proj="TAN")
    angle = np.maximum(fine.get_coord().separation(position).deg, 0.03)
    law = np.exp(-((angle / 5.4) ** 2)) / (angle + 0.06 * 5.4)
    return jaxprof.TemplateSpatialModel(jaxprof.WcsNDMap(fine, law, "sr-1"))


share = np.diff(-(reco.edges.to_value("TeV") ** -1.7))
level = 1100 * (share / share.sum())[:, None, None] * geom.solid_angle().to_value("deg2")
exposure = np.full(geom.to_cube([true]).data_shape, 1.1e16)
empty = jaxprof.MapDataset(
    counts=jaxprof.WcsNDMap(geom),
    background=jaxprof.WcsNDMap(geom, level),
    exposure=jaxprof.WcsNDMap(geom.to_cube([true]), exposure, "cm2 s"),
    psf=jaxprof.PSFMap.from_gauss(true, np.linspace(0.45, 0.25, 6)),
    edisp=jaxprof.EDispKernelMap.from_gauss(reco, true, sigma=0.3),
    name="hawc-like",
)
other = jaxprof.SkyModel(0.4 * spectrum, template(monogem), name="Monogem", free=True)
dataset = jaxprof.expected_dataset(empty, [jaxprof.SkyModel(spectrum, template(geminga)), other])
dataset.counts.data[:] = np.random.default_rng(1).poisson(dataset.counts.data)

# %%
# The law on rings
# ----------------
# Rings of a quarter of the width of those of a profile, so that the law is right within them.
# Guard bins take what comes from beyond.

n_rings = 20 if options.quick else 40
edges = np.linspace(0, 10, n_rings + 1)
rings = jaxprof.make_concentric_annulus_sky_regions(geminga, radius_max="10 deg", nbin=n_rings + 1)
likelihood = jaxprof.ForwardFoldingProfileEstimator(
    rings, spectral_model=spectrum, energy_edges=[8, 40] * u.TeV, guard_bins=2, sources=[other]
).reduce(dataset, merge=True)

# %%
# The fit
# -------

law = jaxprof.DiffusionRadialModel(lon_0=geminga.ra, lat_0=geminga.dec, frame="icrs")
flux = spectrum.integral(8.0, 40.0)


def law_of(params):
    return law.replace(amplitude=1e-12 * params["amplitude"], theta_d=params["theta_d"])


def log_prob(params):
    norm = law_of(params).ring_norms(edges, flux)[:, None]
    return likelihood.log_prob({"norm": norm, **params["other"]})


others = {name: value for name, value in likelihood.params().items() if name != "norm"}
start = {"amplitude": 1.0, "theta_d": 4.0, "other": others}
fit = jaxprof.fit(log_prob, start, bounds={"theta_d": (0.1, None)})
print(fit)
print("Truth: theta_d = 5.4 deg; norm of Monogem 1")

# %%
# The law over a profile
# ----------------------
# The points are rings of 1 deg fitted without a law, which takes emission as even within each.

points = jaxprof.ForwardFoldingProfileEstimator(
    jaxprof.make_concentric_annulus_sky_regions(geminga, radius_max="10 deg", nbin=11),
    spectral_model=spectrum,
    energy_edges=[8, 40] * u.TeV,
    guard_bins=1,
    sources=[other],
).run(dataset)
unit = "1e-15 cm-2 s-1 deg-2"
brightness = points.surface_brightness("flux")[:, 0].to_value(unit)
brightness_err = points.surface_brightness("flux", "err")[:, 0].to_value(unit)

theta, scale = np.geomspace(0.1, 10, 200), 1e15 * np.deg2rad(1) ** 2
x, unravel = jax.flatten_util.ravel_pytree(fit.params)


def curve_of(x):
    return scale * law_of(unravel(x)).evaluate(theta)


slope = jax.jacobian(curve_of)(x)
band = np.sqrt(np.einsum("ti,ij,tj->t", slope, fit.covariance, slope))
curve = curve_of(x)
figure, ax = plt.subplots(layout="constrained")
half = 0.5 * (points.axis.max - points.axis.min)
ax.errorbar(
    points.axis.ref,
    brightness,
    brightness_err,
    half,
    fmt="o",
    color="0.4",
    ms=4,
    label="rings of 1 deg",
)
label = f"$\\theta_d$ = {fit.params['theta_d']:.2f} $\\pm$ {fit.errors['theta_d']:.2f} deg"
ax.plot(theta, curve, color="tab:red", label=label)
ax.fill_between(theta, curve - band, curve + band, color="tab:red", alpha=0.3, lw=0)
ax.axhline(0, color="0.8", lw=0.8, zorder=0)
ax.set(
    xlabel="Distance from the pulsar [deg]", xlim=(0, 10), ylim=(None, 1.2 * curve[theta > 0.4][0])
)
ax.set_ylabel(r"Brightness [$10^{-15}$ cm$^{-2}$ s$^{-1}$ deg$^{-2}$]")
ax.set_title("A Geminga-like halo (simulation)")
ax.legend()
figure.savefig(out / "gallery_6a_diffusion.png", dpi=120)
