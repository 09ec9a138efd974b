r"""
Forward-folded profiles: what the point-spread function changes
===============================================================

A telescope spreads the photons of a point over a few tenths of a degree. Where the bins of a
profile are not much wider than that, part of each bin's photons is counted in its neighbours.
``FluxProfileEstimator`` fits each bin on its own and takes all counts in it for its own.
``ForwardFoldingProfileEstimator`` fits all bins together: it folds the emission of each bin
through exposure, point-spread function (PSF) and energy dispersion, and asks which norms
explain the pixels of all bins at once.

This example does both for the two profiles of ``flux_profiles.py``; ``spectral_index.py`` fits the
spectral index of each bin as well. Run it as ``python examples/forward_folding.py --out out``, or
cell by cell.
"""

import argparse
import os
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapDataset,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
    expected_dataset,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.datasets import simulate_galactic_centre

parser = argparse.ArgumentParser(description="Forward-folded profiles of the Galactic centre.")
parser.add_argument("--out", default="out", help="folder for figures and files (default: out)")
out = Path(parser.parse_known_args()[0].out)
out.mkdir(parents=True, exist_ok=True)
written = []


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure into the output folder."""
    figure.savefig(out / name, dpi=120)
    written.append(out / name)


# %%
# The data
# --------
#
# Real data if ``$GAMMAPY_DATA`` says where they are, otherwise a simulation **with invented
# sources**. Either has a PSF; without one, the estimator refuses and says what else to do.

path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
real = "GAMMAPY_DATA" in os.environ and path.expanduser().is_file()
if real:
    data_label = "Fermi-LAT, real data"
    dataset = MapDataset.read(path, name="fermi-dataset")
else:
    data_label = "SIMULATION, not real data"
    dataset = simulate_galactic_centre(seed=0)
print("=" * 72)
print("REAL DATA: Fermi-LAT counts." if real else "SIMULATED DATA: invented sources.")
print("=" * 72)
for radius in ["0.1 deg", "0.2 deg", "0.5 deg"]:
    shares = [dataset.psf.containment(index, radius) for index in (0, 5)]
    low, high = dataset.psf.energy_axis_true.center[[0, 5]].to("GeV")
    print(f"PSF within {radius}: {shares[0]:.2f} at {low:.0f}, {shares[1]:.2f} at {high:.0f}")

# %%
# Around the Galactic centre
# --------------------------
#
# The annuli are 0.15 deg wide: half of a ring's photons are found outside it. One guard bin
# beyond the last ring is fitted as well and left out of the result, because emission from
# there leaks in.

annuli = make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=11
)
options = {
    "regions": annuli,
    "spectral_model": PowerLawSpectralModel(index=2.3),
    "energy_edges": [10, 85, 500] * u.GeV,
}
separate = FluxProfileEstimator(**options).run(datasets=dataset)
estimator = ForwardFoldingProfileEstimator(
    **options, guard_bins=1, selection_optional=["errn-errp", "ul"]
)
response = estimator.response(dataset)  # kept for the next fit of the same regions
radial = estimator.run(datasets=dataset, response=response)
print(radial)
print(radial.to_table(sed_type="flux", formatted=True))

# %%
# The central source is a point. Fitted one by one, the second and third ring have much of
# its flux; fitted together, it is where it belongs, in the first. The price are larger errors: the
# data cannot tell neighbouring rings apart as well as independent bins pretend.
#
# The estimator warns of bins that it does not describe, the crosses in the figure: emission is not
# even in these rings. The point is narrower than the first one, and the Galactic plane crosses
# others.

ax, residual = radial.plot_comparison(other=separate, sed_type="flux", group=0)
ax.set_title(f"Around the Galactic centre ({data_label})")
save(ax.figure, "forward_1_radial.png")

# %%
ax = radial.plot_leakage(group=0)
ax.set_title("Where the photons of each ring are found")
save(ax.figure, "forward_2_leakage.png")

# %%
ax = radial.plot_correlation(group=0)
ax.set_title("Correlation of the norms")
save(ax.figure, "forward_3_correlation.png")
own = np.diag(radial.leakage[0])
print("\nPart of a ring's counts that are found in it:", np.round(own, 2))
print(f"Correlation of neighbouring rings: {np.diag(radial.correlation[0], 1).mean():.2f}")

# %%
# A model, folded the same way
# ----------------------------
#
# Is the centre a point and nothing else? ``expected_dataset`` gives the counts that a model is
# expected to make, and the same estimator makes a profile of them: that is the curve to compare
# with. The separate fits have a curve of their own, in which the point fills three rings. A ring of
# even brightness is not as narrow as a point, so that the second ring of the joint fit's curve
# makes up for it by a negative flux, which the flux of the model itself would not show. Where
# the points do not follow it, there is more than a point. (Where no emission can be negative,
# ``norm={"min": 0}`` keeps the rings from it.)

scale = radial.norm[:2, 0].sum()  # of the reference spectrum
center = SkyModel(
    PowerLawSpectralModel(index=2.3, amplitude=scale * 1e-12),
    PointSpatialModel(lon_0=-0.056, lat_0=-0.046, frame="galactic"),  # Sagittarius A*
)
expected = expected_dataset(dataset, center)
estimator = ForwardFoldingProfileEstimator(**options, guard_bins=1)
ax, residual = radial.plot(
    curve=estimator.run(datasets=expected, response=response),
    curve_label="Point source",
    other=separate,
    other_curve=FluxProfileEstimator(**options).run(datasets=expected),
    sed_type="flux",
    group=0,
)
ax.set_title(f"The centre as a point ({data_label})")
save(ax.figure, "forward_4_model.png")

# %%
# Nuisance parameters, and whether the whole describes the counts: the Cash statistic against
# what it is expected to be.

print(radial.nuisance)
print(radial.goodness)

# %%
# Along the Galactic plane
# ------------------------
#
# The boxes are 0.4 deg wide and 3 deg high: the PSF matters less, most of all next to bright
# sources: one of them near the centre, which takes flux from both its neighbours.
#
# How far can the background model be trusted? Here its norm is fitted as well, with a Gaussian
# constraint of 3 %: if it comes out far from one, so do all fluxes of faint bins. Here it does,
# as boxes without structure do not describe the point sources in them, and a warning says so.

boxes = make_orthogonal_rectangle_sky_regions(
    start_pos=SkyCoord("9d", "0d", frame="galactic"),
    end_pos=SkyCoord("351d", "0d", frame="galactic"),
    wcs=dataset.counts.geom.wcs,
    height="3 deg",
    nbin=47,
)
options = {
    "regions": boxes,
    "spectral_model": PowerLawSpectralModel(index=2.3),
    "energy_edges": [10, 500] * u.GeV,
}
separate = FluxProfileEstimator(**options).run(datasets=dataset)
estimator = ForwardFoldingProfileEstimator(**options, guard_bins=1, background=0.03)
line = estimator.run(datasets=dataset)
norm = line.nuisance[line.nuisance["parameter"] == "background norm"][0]
print(f"\nBackground norm: {norm['value']:.3f} +- {norm['error']:.3f}")
ax, residual = line.plot_comparison(other=separate, sed_type="flux")
ax.set_title(f"Along the Galactic plane ({data_label})")
save(ax.figure, "forward_5_line.png")

# %%
# Into a file and back
# --------------------
#
# Covariance, response, nuisance parameters and goodness of fit are in the file.

radial.write(out / "radial_forward.fits", overwrite=True)
written.append(out / "radial_forward.fits")
again = FluxProfile.read(out / "radial_forward.fits")
assert np.array_equal(again.covariance, radial.covariance)

print("\nWritten:")
for name in written:
    print(f"  {name}")
