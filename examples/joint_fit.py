r"""
A radial law fitted to all annuli at once
=========================================

A profile is often only a step towards a model: how does the surface brightness fall off with
distance? The usual way is to fit the law to the flux points with least squares, which treats
every point as a Gaussian. Here the law goes into the Poisson likelihood of the counts itself:

- the law predicts the norm of every annulus, ``norms(parameters)``;
- norms predict counts, and ``jaxprof.core.cash`` compares them with the counts observed;
- JAX differentiates all of it: gradients for the minimiser, the Hessian for the errors.

Run it as ``python examples/joint_fit.py --out out``.
"""

import argparse
import os
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from scipy.optimize import minimize
from scipy.stats import chi2 as chi2_distribution

from jaxprof import (
    FluxProfileEstimator,
    MapDataset,
    PowerLawSpectralModel,
    make_concentric_annulus_sky_regions,
)
from jaxprof.core import cash
from jaxprof.datasets import simulate_galactic_centre

# The estimator works in double precision by itself; our own functions must ask for it.
jax.config.update("jax_enable_x64", True)

parser = argparse.ArgumentParser(description="A radial law fitted to all annuli at once.")
parser.add_argument("--out", default="out", help="folder for the figures (default: out)")
out = Path(parser.parse_known_args()[0].out)
out.mkdir(parents=True, exist_ok=True)

# %%
# The data and their profile
# --------------------------
#
# Ten annuli around the Galactic centre, 10 to 500 GeV in one group. The profile keeps what was
# fitted as ``profile.likelihood_data``: counts, expected background and expected signal at norm
# one, arrays of shape (bins, groups, energies).

path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
real = "GAMMAPY_DATA" in os.environ and path.expanduser().is_file()
if real:
    data_label = "Fermi-LAT, real data"
    dataset = MapDataset.read(path, name="fermi-dataset")
else:
    data_label = "SIMULATION, not real data"
    dataset = simulate_galactic_centre(seed=0)
print("=" * 72)
if real:
    print("REAL DATA: Fermi-LAT counts of the Galactic centre, from $GAMMAPY_DATA.")
else:
    print("SIMULATED DATA: invented sources, simulate_galactic_centre(seed=0).")
    print("For real data set GAMMAPY_DATA to a folder with")
    print("fermi-3fhl-gc/fermi-3fhl-gc.fits.gz and run this again.")
print("=" * 72)

center = SkyCoord("0d", "0d", frame="galactic")
estimator = FluxProfileEstimator(
    regions=make_concentric_annulus_sky_regions(center=center, radius_max="1.5 deg", nbin=11),
    spectral_model=PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    selection_optional=["errn-errp", "ul"],
)
profile = estimator.run(datasets=dataset)
data = profile.likelihood_data

# %%
# The law
# -------
#
# The surface brightness at a distance :math:`r` is :math:`S(r) = c \, (r / 1^\circ)^{-\alpha}`, a
# flux per solid angle. Its mean over an annulus from :math:`r_1` to :math:`r_2`, weighted with the
# area, is
#
# .. math::
#
#    \langle S \rangle = \frac{2 c}{r_2^2 - r_1^2} \int_{r_1}^{r_2} r^{1 - \alpha} \, dr,
#    \qquad \int_{r_1}^{r_2} r^{1 - \alpha} \, dr = r_1^q \, L \, \frac{e^{q L} - 1}{q L},
#    \quad q = 2 - \alpha, \quad L = \ln (r_2 / r_1).
#
# The last form has no singularity at :math:`\alpha = 2`. Times the solid angle of the region, it is
# the flux of the annulus, and over the flux of the reference spectrum its norm.

inner, outer = profile.axis.min, profile.axis.max
flux_ref = profile.flux_ref[0].to_value("cm-2 s-1")
solid_angle = profile.solid_angle.to_value("sr")
C_UNIT = 1e-7  # cm-2 s-1 sr-1: the minimiser likes numbers of order one


@jax.jit
def mean_brightness(parameters, r1, r2):
    """Mean of the law over annuli, in units of C_UNIT."""
    c, alpha = parameters
    length = jnp.log(r2 / r1)
    x = (2.0 - alpha) * length
    small = jnp.abs(x) < 1e-6
    growth = jnp.where(small, 1.0 + x / 2, jnp.expm1(x) / jnp.where(small, 1.0, x))
    return c * 2.0 * r1 ** (2.0 - alpha) * length * growth / (r2**2 - r1**2)


def norms(parameters):
    """Norm of every annulus that the law predicts, shape (bins,)."""
    return mean_brightness(parameters, inner, outer) * C_UNIT * solid_angle / flux_ref


@jax.jit
def stat(parameters):
    """Minus twice the log likelihood of all annuli and energies, up to a constant."""
    npred = data.background + norms(parameters)[:, None, None] * data.npred_ref
    return jnp.sum(jnp.where(data.mask, cash(data.counts, npred), 0.0))


# %%
# The fit
# -------
#
# scipy minimises, with gradients from JAX; a few Newton steps with the Hessian then bring the
# minimum to machine precision. For a statistic that is :math:`-2 \ln L` the covariance matrix is
# twice the inverse of its Hessian.


def fit(function):
    """Minimum of a function of the parameters, covariance matrix and gradient there."""
    gradient, hessian = jax.jit(jax.grad(function)), jax.jit(jax.hessian(function))
    x = minimize(function, x0=[1.0, 1.0], jac=gradient, method="BFGS").x
    for _ in range(5):
        x = x - np.linalg.solve(hessian(x), gradient(x))
    return x, 2.0 * np.linalg.inv(hessian(x)), np.asarray(gradient(x))


best, covariance, gradient = fit(stat)
errors = np.sqrt(np.diag(covariance))
correlation = covariance[0, 1] / errors.prod()

# How good is the law? Compared with a free norm in each annulus it has eight parameters less.
excess_stat = float(stat(best) - profile.stat.sum())
dof = len(inner) - 2

# %%
# The same law through flux points
# --------------------------------
#
# Least squares on the fitted norms and their errors. The points are the same data, but a
# parabola stands for each likelihood: points that fluctuated down have smaller errors and pull
# the law down with them.

norm, norm_err = profile.norm[:, 0], profile.norm_err[:, 0]


@jax.jit
def chi2(parameters):
    """Least squares on the flux points."""
    return jnp.sum(((norms(parameters) - norm) / norm_err) ** 2)


best_points, covariance_points, _ = fit(chi2)
errors_points = np.sqrt(np.diag(covariance_points))

print("Surface brightness c (r / 1 deg)^-alpha; c in 1e-7 cm-2 s-1 sr-1")
print(f"{'':28s}{'c':>17s}{'alpha':>18s}")
for title, value, error in (
    ("likelihood of the counts", best, errors),
    ("least squares on the points", best_points, errors_points),
):
    print(
        f"{title:28s}"
        + "".join(f"  {v:7.4f} +- {e:.4f}" for v, e in zip(value, error, strict=True))
    )
shift = (best_points - best) / errors
print(f"{'difference [sigma]':28s}{shift[0]:17.2f}{shift[1]:18.2f}")
print(f"correlation of c and alpha: {correlation:.3f}")
print(f"largest gradient at the minimum: {np.abs(gradient).max():.1e}")
print(
    f"stat above that of free norms: {excess_stat:.1f} for {dof} degrees of freedom "
    f"(p = {chi2_distribution.sf(excess_stat, dof):.1e})"
)

# %%
# A law this simple need not be the truth. If the last line is far above the number of degrees of
# freedom, it is not: here the point-spread function, which is not folded in, spreads the centre
# over the inner annuli, and other sources lie in the outer ones. The errors then only say how
# well the counts determine the best law of this kind.
#
# The curve over the points
# -------------------------
#
# On the left are the fluxes of the annuli, with what the law predicts for each. On the right is the
# law itself, over the mean brightness of each annulus; a point stands at the radius where the law
# has its mean (Lafferty & Wyatt 1995, NIM A 355, 541). The bands are the 68 % errors propagated
# through the law, with Jacobians from JAX.

JOINT, POINTS = "tab:red", "tab:blue"


def band(function):
    """Values of a function of the parameters, and their one-sigma error."""
    jacobian = np.asarray(jax.jit(jax.jacfwd(function))(best))
    error = np.sqrt(np.einsum("ri,ij,rj->r", jacobian, covariance, jacobian))
    return np.asarray(function(best)), error


profile.sqrt_ts_threshold_ul = -np.inf  # points in all bins: the left panel shows their scatter
fig, axes = plt.subplot_mosaic(
    [["flux", "law"], ["residual", "law"]],
    figsize=(12, 5.5),
    height_ratios=[3, 1],
    layout="constrained",
)
fig.suptitle(
    f"c (r / 1 deg)$^{{-\\alpha}}$ with c = ({best[0]:.2f} $\\pm$ {errors[0]:.2f}) "
    f"$10^{{-7}}$ cm$^{{-2}}$ s$^{{-1}}$ sr$^{{-1}}$ and $\\alpha$ = {best[1]:.2f} $\\pm$ "
    f"{errors[1]:.2f} ({data_label})"
)

ax = axes["flux"]
edges = np.append(inner, outer[-1])
flux, flux_err = (flux_ref * value for value in band(norms))
ax.stairs(flux, edges, baseline=None, color=JOINT, label="law, fitted to the counts")
ax.fill_between(
    edges,
    np.append(flux - flux_err, 0.0),
    np.append(flux + flux_err, 0.0),
    step="post",
    color=JOINT,
    alpha=0.3,
    lw=0,
    label="its 68 % band",
)
flux_points = flux_ref * norms(best_points)
ax.stairs(
    flux_points, edges, baseline=None, color=POINTS, ls="--", label="law, fitted to the points"
)
profile.plot(ax=ax, sed_type="flux", color="k", label="annuli, one by one")
ax.set_xlabel("")
ax.tick_params(labelbottom=False)

ax = axes["residual"]
residual = norm - np.asarray(norms(best))
side = np.where(residual > 0, profile.norm_errn[:, 0], profile.norm_errp[:, 0])
ax.axhspan(-1, 1, color="0.9", zorder=0)
ax.axhline(0, color=JOINT, lw=1)
ax.errorbar(profile.axis.ref, residual / side, yerr=1, fmt="ok", ms=4)
ax.set_xlim(axes["flux"].get_xlim())
ax.set_xlabel("Projected distance [deg]")
ax.set_ylabel(r"Residual [$\sigma$]")

ax = axes["law"]
r = np.geomspace(0.02, 1.6, 200)
value, error = band(lambda parameters: parameters[0] * C_UNIT * r ** -parameters[1])
ax.plot(r, value, color=JOINT)
ax.fill_between(r, value - error, value + error, color=JOINT, alpha=0.3, lw=0)
ax.plot(r, best_points[0] * C_UNIT * r ** -best_points[1], color=POINTS, ls="--")
at = (mean_brightness(best, inner, outer) / best[0]) ** (-1 / best[1])
brightness, brightness_err, upper = (
    profile.surface_brightness("flux", kind)[:, 0].to_value("cm-2 s-1 sr-1")
    for kind in ("", "err", "ul")
)
seen = profile.sqrt_ts[:, 0] > 2
ax.errorbar(at[seen], brightness[seen], brightness_err[seen], fmt="ok", ms=4)
limit = ~seen & (upper > 0)
ax.errorbar(at[limit], upper[limit], 0.3 * upper[limit], uplims=True, fmt="none", color="k")
if hidden := np.count_nonzero(~seen & ~limit):
    ax.set_title(f"Not on a log axis: {hidden} annuli with limits below zero", fontsize="medium")
ax.set(xscale="log", yscale="log", xlabel="Distance from the Galactic centre [deg]")
ax.set_ylabel(r"Surface brightness [cm$^{-2}$ s$^{-1}$ sr$^{-1}$]")
fig.savefig(out / "joint_fit.png", dpi=120)

# %%
# What was written
# ----------------

plt.close("all")
print(f"\nWrote, from {data_label}:\n  {out / 'joint_fit.png'}")
