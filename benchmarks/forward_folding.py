"""Time forward-folded profiles beside a straightforward scipy fit of the same likelihood.

    python benchmarks/forward_folding.py            # 51 boxes; 10 annuli with 2 groups
    python benchmarks/forward_folding.py --bins 500 # as many boxes, norms and covariance only

It needs gammapy's tutorial data in $GAMMAPY_DATA. "First" includes the response and compilation,
"then" keeps the response. The scipy fit has the same predicted counts per pixel and energy as a
sparse matrix, analytic gradients and scipy's L-BFGS-B; it finds the norms and nothing else, without
errors or test statistics.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

import astropy.units as u
import jax
import numpy as np
from astropy.coordinates import SkyCoord
from scipy import optimize, sparse

import jaxprof
from jaxprof.core import fit_joint


def data_file() -> Path:
    """The Fermi-LAT Galactic centre of gammapy's tutorials."""
    path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
    if not path.expanduser().is_file():
        sys.exit("set GAMMAPY_DATA to the folder with fermi-3fhl-gc/fermi-3fhl-gc.fits.gz")
    return path.expanduser()


def estimator(case: str, dataset, n_bins: int):
    """The estimator of one case."""
    if case == "line":
        regions = jaxprof.make_orthogonal_rectangle_sky_regions(
            start_pos=SkyCoord("10d", "0d", frame="galactic"),
            end_pos=SkyCoord("350d", "0d", frame="galactic"),
            wcs=dataset.counts.geom.wcs,
            height="3 deg",
            nbin=n_bins,
        )
        edges = [10, 2000] * u.GeV
    else:
        regions = jaxprof.make_concentric_annulus_sky_regions(
            center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=11
        )
        edges = [10, 100, 2000] * u.GeV
    return jaxprof.ForwardFoldingProfileEstimator(
        regions, spectral_model=jaxprof.PowerLawSpectralModel(index=2.3), energy_edges=edges
    )


def dense_problem(data):
    """Counts, background and predicted counts at norm one of every pixel and energy."""
    counts, background, rows, columns, values, start = [], [], [], [], [], 0
    for block in data.blocks:
        mask = np.asarray(block.mask)
        index = np.cumsum(mask.ravel()).reshape(mask.shape) - 1 + start
        templates = np.asarray(block.templates)[:, :, 0]
        tile, neighbour, slot = np.nonzero((templates > 0) & mask[:, np.newaxis])
        rows.append(index[tile, slot])
        columns.append(np.asarray(block.components)[tile, neighbour])
        values.append(templates[tile, neighbour, slot])
        counts.append(np.asarray(block.counts)[mask])
        background.append(np.asarray(block.background)[mask])
        start += mask.sum()
    shape = (start, data.n_components)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape
    )
    return np.concatenate(counts), np.concatenate(background), matrix


def scipy_fit(counts, background, matrix):
    """Norms by L-BFGS-B; a logarithm only where there are counts, floored to be finite."""
    seen = counts > 0

    def function(norms):
        npred = background + matrix @ norms
        safe = np.where(seen, np.maximum(npred, 1e-12), 1.0)
        ratio = np.where(seen, counts / safe, 0.0)
        return np.sum(npred) - np.sum(counts[seen] * np.log(safe[seen])), matrix.T @ (1 - ratio)

    start = np.full(matrix.shape[1], 0.1)
    return optimize.minimize(
        function,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 20000, "maxfun": 40000, "maxcor": 50, "ftol": 1e-15, "gtol": 1e-9},
    )


def main() -> None:
    """Print the times of both cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bins", type=int, default=51, help="number of boxes (default: 51)")
    parser.add_argument("--no-scipy", action="store_true", help="leave the scipy fit out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    dataset = jaxprof.MapDataset.read(data_file())
    for case in ("line", "radial"):
        own = estimator(case, dataset, options.bins)
        name = f"{len(own.regions)} {'boxes' if case == 'line' else 'annuli, 2 groups'}"
        begin = time.perf_counter()
        response = own.response(dataset)
        if case == "line" and options.bins > 100:
            print(f"{name}: response {time.perf_counter() - begin:.1f} s")
            data = own.reduce(dataset, response)
            with jax.enable_x64(True):
                for label in ("first", "then"):
                    begin = time.perf_counter()
                    fit = jax.block_until_ready(fit_joint(data[0]))
                    print(
                        f"{name}: norms and covariance, {label} "
                        f"{time.perf_counter() - begin:.2f} s, converged {bool(fit.converged)}"
                    )
            continue
        profile = own.run(dataset, response)
        first = time.perf_counter() - begin
        warm = []
        for _ in range(5):
            begin = time.perf_counter()
            profile = own.run(dataset, response)
            warm.append(time.perf_counter() - begin)
        print(
            f"{name}: first {first:.2f} s, then {statistics.median(warm):.3f} s, "
            f"{profile.success.sum()} of {profile.success.size} good"
        )
        if options.no_scipy:
            continue
        total = deviation = 0.0
        converged = []
        for group, data in enumerate(own.reduce(dataset, response, merge=False)):
            problem = dense_problem(data)
            begin = time.perf_counter()
            found = scipy_fit(*problem)
            total += time.perf_counter() - begin
            converged.append(found.success)
            good = profile.success[:, group]
            pull = (found.x - profile.norm[:, group]) / profile.norm_err[:, group]
            deviation = max(deviation, np.abs(pull[good]).max())
        print(
            f"{name}: scipy {total:.1f} s for the norms alone, "
            f"up to {deviation:.2g} of an error away, success {converged}"
        )
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"largest memory {used:.2f} GiB")


if __name__ == "__main__":
    main()
