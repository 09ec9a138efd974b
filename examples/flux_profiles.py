r"""
Flux profiles of the Galactic centre
====================================

A flux profile is a list of sky regions with a flux for each: boxes along a line, annuli
around a source, or any other regions. In every region, and in every group of energies, the
*norm* of a reference spectrum is fitted to the counts. This example makes two profiles from
Fermi-LAT counts above 10 GeV: one along the Galactic plane, and one around the Galactic
centre. It prints the results, draws them, writes them to a file and reads the file back.

Run it as ``python examples/flux_profiles.py --out out``, or cell by cell in an editor that
knows ``# %%``.
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
    MapDataset,
    PowerLawSpectralModel,
    RegionGeom,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.datasets import simulate_galactic_centre

parser = argparse.ArgumentParser(description="Flux profiles of the Galactic centre.")
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
# A ``MapDataset`` holds maps of the counts, the expected background and the exposure, the
# instrument's responses and a mask. Real data come from the file of gammapy's tutorials, if
# ``$GAMMAPY_DATA`` says where that is. Otherwise the data are simulated: the pixels, energies and
# exposure are the same and the number of counts is similar, but **the sources are invented**.

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
print(dataset)

# %%
# This is the counts image, all energies summed and smoothed a little.

print(dataset.counts)
counts_image = dataset.counts.sum_over_axes()
smooth = counts_image.smooth("0.1 deg")
ax = smooth.plot(stretch="sqrt", add_cbar=True, cbar_label="Counts per pixel, smoothed")
ax.set_title(f"Counts ({data_label})")
save(ax.figure, "1_counts.png")

# %%
# A profile along the Galactic plane
# ----------------------------------
#
# The regions are 51 boxes side by side, 3 deg high, from longitude 10 deg through the Galactic
# centre to 350 deg.

regions = make_orthogonal_rectangle_sky_regions(
    start_pos=SkyCoord("10d", "0d", frame="galactic"),
    end_pos=SkyCoord("350d", "0d", frame="galactic"),
    wcs=counts_image.geom.wcs,
    height="3 deg",
    nbin=51,
)
geom = RegionGeom.create(region=regions)
ax = smooth.plot(stretch="sqrt")
geom.plot_region(ax=ax, color="w")
ax.set_title(f"Boxes along the Galactic plane ({data_label})")
save(ax.figure, "2_boxes.png")

# %%
# The estimator holds the configuration. The reference spectrum is a power law of index 2.3;
# "ul" asks for upper limits. The edges of the energy groups snap to the nearest edges of the
# data, which end at 500 GeV; a warning says so where that moves them far.

estimator = FluxProfileEstimator(
    regions=regions,
    spectral_model=PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    selection_optional=["ul"],
)
print(estimator)

# %%
profile = estimator.run(datasets=dataset)
print(profile)

# %%
# All quantities are attributes: arrays of shape (bins, energy groups), with units where they
# have any. The table has them all; these are the columns that differ from bin to bin and fit on
# a screen. Norms refer to the reference spectrum.

table = profile.to_table(format="profile", formatted=True)
print(f"The table has {len(table)} rows and the columns {', '.join(table.colnames)}.\n")
shown = "x_min x_max norm norm_err norm_ul sqrt_ts counts npred is_ul success coverage status"
table[shown.split()].pprint(max_lines=-1, max_width=-1)

# %%
# Bins that the mask cuts
# ~~~~~~~~~~~~~~~~~~~~~~~
#
# The safe mask of these data leaves out a strip along the edges of the map. The two outermost
# boxes at each end lie wholly in it: there is nothing to fit, so that their norm is NaN,
# ``success`` is False and ``status`` says why. The next box at each end is cut by the mask. Its
# exposure is taken from the part that is seen, so that its flux is that of the whole box all
# the same, with a larger error. ``coverage`` tells how much of each region was seen.

print("bin  coverage  status          flux [1e-10 cm-2 s-1]")
flux, flux_err = (q.to_value("1e-10 cm-2 s-1") for q in (profile.flux, profile.flux_err))
for index in np.flatnonzero(profile.coverage[:, 0] < 1):
    status, value, error = table["status"][index, 0], flux[index, 0], flux_err[index, 0]
    print(
        f"{index:3d}  {profile.coverage[index, 0]:8.3f}  {status:14s}  {value:.2f} +- {error:.2f}"
    )

# %%
# Figures
# ~~~~~~~
#
# The differential flux at the reference energy, on a linear axis: negative values are where
# the background model expects more than there is. Arrows are upper limits, of the bins with
# sqrt(TS) below ``sqrt_ts_threshold_ul``.

fig, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
profile.plot(ax=ax, sed_type="dnde")
ax.set_yscale("linear")
ax.set_title(f"Along the Galactic plane ({data_label})")
save(fig, "3_plane_dnde.png")

# %%
# Other types of flux follow from the reference spectrum. Here is the energy flux, with a
# stricter threshold: what is below 3 sigma becomes an upper limit.

profile.sqrt_ts_threshold_ul = 3
fig, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
profile.plot(ax=ax, sed_type="eflux")
ax.set_yscale("linear")
ax.set_title(f"Energy flux, limits below 3 sigma ({data_label})")
save(fig, "4_plane_eflux.png")
profile.sqrt_ts_threshold_ul = 2

# %%
# Any other quantity can be drawn in the same way. The bins outside the mask have no prediction.

fig, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
for quantity in ["npred", "npred_excess", "npred_background"]:
    profile[quantity].plot(ax=ax)
ax.set_ylabel("Counts")
ax.set_title(f"Predicted counts ({data_label})")
save(fig, "5_plane_counts.png")

# %%
# Files
# ~~~~~
#
# FITS and ECSV files keep everything, the regions and the likelihood included; gammapy can read
# them too. What is read back is the same profile.

for name in ("flux_profile.fits", "flux_profile.ecsv"):
    profile.write(out / name, format="profile", sed_type="dnde", overwrite=True)
    written.append(out / name)
profile_new = FluxProfile.read(out / "flux_profile.fits", format="profile")
same = np.array_equal(profile_new.norm, profile.norm, equal_nan=True)
print(f"The profile read back has the same norms: {same}")

fig, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
profile_new.plot(ax=ax)
ax.set_yscale("linear")
ax.set_title(f"Read back from the file ({data_label})")
save(fig, "6_plane_read_back.png")

# %%
# A radial profile around the Galactic centre
# -------------------------------------------
#
# As in gammapy, ``nbin`` counts the edges: 11 edges make 10 annuli.

center = SkyCoord("0d", "0d", frame="galactic")
regions = make_concentric_annulus_sky_regions(center=center, radius_max="1.5 deg", nbin=11)
geom = RegionGeom.create(region=regions)
gc_image = counts_image.cutout(position=center, width=3 * u.deg)
ax = gc_image.smooth("0.1 deg").plot(stretch="sqrt")
geom.plot_region(ax=ax, color="w")
ax.set_title(f"Annuli ({data_label})")
save(ax.figure, "7_annuli.png")

# %%
# This time there are two groups of energies, and the fit statistic is scanned over a grid of
# norms, which is set on the estimator's ``norm``. ("all" would add asymmetric errors and
# sensitivities.)

estimator = FluxProfileEstimator(
    regions=regions,
    spectral_model=PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 85, 500] * u.GeV,
    selection_optional=["ul", "scan"],
)
estimator.norm.scan_values = np.linspace(-3, 5, 161)
radial = estimator.run(datasets=dataset)

fig, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
radial.plot(ax=ax, axis_name="projected-distance", sed_type="flux")
ax.set_title(f"Around the Galactic centre ({data_label})")
save(fig, "8_radial_flux.png")

# %%
# At high energies the flux is much lower. Slices take one group alone; the colours behind the
# points are its likelihood.

radial_high = radial.slice_by_idx({"energy": slice(1, 2)})
fig, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
radial_high.plot(ax=ax, sed_type="eflux", color="tab:orange")
radial_high.plot_ts_profiles(ax=ax, sed_type="eflux")
ax.set_yscale("linear")
ax.set_title(f"High energies ({data_label})")
save(fig, "9_radial_likelihood.png")

radial.write(out / "radial_profile.fits", format="profile", overwrite=True)
written.append(out / "radial_profile.fits")

# %%
# What was written
# ----------------

plt.close("all")
print(f"\nWrote, from {data_label}:")
for item in written:
    print(f"  {item}")
