r"""
A spectral index for each ring
==============================

A profile has the norm of a reference spectrum in each bin. Where spectra differ from bin to bin,
their parameters can be fitted as well: ``free_index=True`` of ``ForwardFoldingProfileEstimator``
gives each bin a power law of its own. Norms then are those of the fitted spectra, at the
reference energy, and errors include what the index does not tell.

Run it as ``python examples/spectral_index.py --out out``, or cell by cell.
"""

import argparse
import os
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof import (
    ForwardFoldingProfileEstimator,
    MapDataset,
    PowerLawSpectralModel,
    make_concentric_annulus_sky_regions,
)
from jaxprof.datasets import simulate_galactic_centre

parser = argparse.ArgumentParser(description="A spectral index for each ring.")
parser.add_argument("--out", default="out", help="folder for figures (default: out)")
out = Path(parser.parse_known_args()[0].out)
out.mkdir(parents=True, exist_ok=True)

# %%
# Data and rings
# --------------
#
# Real data if ``$GAMMAPY_DATA`` says where they are, otherwise a simulation **with invented
# sources**: that in the centre has an index of 2.6. The rings around it have counts enough for a
# spectrum each; further out an index would not be identifiable.

path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
real = "GAMMAPY_DATA" in os.environ and path.expanduser().is_file()
if real:
    data_label = "Fermi-LAT, real data"
    dataset = MapDataset.read(path, name="fermi-dataset")
else:
    data_label = "SIMULATION, not real data"
    dataset = simulate_galactic_centre(seed=0)
print("REAL DATA: Fermi-LAT counts." if real else "SIMULATED DATA: invented sources.")
rings = make_concentric_annulus_sky_regions(
    center=SkyCoord("0d", "0d", frame="galactic"), radius_max="0.45 deg", nbin=4
)

# %%
# The fit
# -------
#
# All energies are one group, whose counts are compared energy by energy: that is what the indices
# are from. A warning says that the centre is no ring of even brightness, see
# ``forward_folding.py``; the next ring makes up for it.

estimator = ForwardFoldingProfileEstimator(
    regions=rings,
    spectral_model=PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV,
    guard_bins=1,
    free_index=True,
)
indices = estimator.run(datasets=dataset)
ax = indices.plot_parameter("index")
ax.set_title(f"Spectral index of each ring ({data_label})")
ax.figure.savefig(out / "spectral_index.png", dpi=120)

# %%
# Norm and index of a ring are correlated, and each with those of its neighbours; the covariance of
# all norms is ``indices.covariance``.

print("\nring [deg]       norm            index")
axis = indices.axis
columns = indices.norm, indices.norm_err, indices.index, indices.index_err
rows = np.column_stack([axis.min, axis.max, *columns])
for low, high, norm, norm_err, index, index_err in rows:
    ring, brightness = f"{low:.2f} to {high:.2f}", f"{norm:6.1f} +- {norm_err:4.1f}"
    print(f"{ring}   {brightness}   {index:5.2f} +- {index_err:.2f}")
print(f"\nWritten:\n  {out / 'spectral_index.png'}")
