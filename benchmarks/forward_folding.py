"""Time forward-folded profiles beside a straightforward scipy fit of the same likelihood.

    python benchmarks/forward_folding.py            # 51 boxes; 10 annuli with 2 groups
    python benchmarks/forward_folding.py --bins 500 # as many boxes, norms and covariance only

It needs gammapy's tutorial data in $GAMMAPY_DATA. "First" includes the response and compilation,
"then" keeps the response; both give norms, their covariance and test statistics. The scipy fit
has the same predicted counts per pixel and energy as a sparse matrix, and analytic gradients; SLSQP
runs once for the norms and once more for the test statistic of each.
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
from jaxprof.reduce.joint.likelihood import group_data


def data_file() -> Path:
    """The Fermi-LAT Galactic centre of gammapy's tutorials."""
    path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
    if not path.expanduser().is_file():
        sys.exit("set GAMMAPY_DATA to the folder with fermi-3fhl-gc/fermi-3fhl-gc.fits.gz")
    return path.expanduser()


def estimator(case: str, dataset, n_bins: int, optional: tuple[str, ...] = ()):
    """The estimator of one case, with what is asked for besides norms and test statistics."""
    if case == "line":
        regions = jaxprof.make_orthogonal_rectangle_sky_regions(
            start_pos=SkyCoord("10d", "0d", frame="galactic"),
            end_pos=SkyCoord("350d", "0d", frame="galactic"),
            wcs=dataset.counts.geom.wcs,
            height="3 deg",
            nbin=n_bins,
        )
        edges = [10, 500] * u.GeV
    else:
        regions = jaxprof.make_concentric_annulus_sky_regions(
            center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=11
        )
        edges = [10, 85, 500] * u.GeV
    return jaxprof.ForwardFoldingProfileEstimator(
        regions,
        spectral_model=jaxprof.PowerLawSpectralModel(index=2.3),
        energy_edges=edges,
        selection_optional=list(optional),
    )


def dense_problem(data):
    """Counts, background and predicted counts at norm one of every pixel and energy."""
    counts, background, rows, columns, values, start = [], [], [], [], [], 0
    for block in data.blocks:
        mask = np.asarray(block.mask)
        index = np.cumsum(mask.ravel()).reshape(mask.shape) - 1 + start
        templates = np.asarray(block.templates)[:, :, 0]
        tile, neighbour, counts_bin = np.nonzero((templates > 0) & mask[:, np.newaxis])
        rows.append(index[tile, counts_bin])
        columns.append(np.asarray(block.components)[tile, neighbour])
        values.append(templates[tile, neighbour, counts_bin])
        counts.append(np.asarray(block.counts)[mask])
        background.append(np.asarray(block.background)[mask])
        start += mask.sum()
    shape = (start, data.n_components)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape
    )
    return np.concatenate(counts), np.concatenate(background), matrix


def scipy_fit(counts, background, matrix, start, held=None):
    """Norms by SLSQP, and the statistic; no prediction of a pixel may be negative.

    Pixels become constraints once they are found to be negative: all of them would be too many.
    """
    seen = counts > 0
    # Steps of one are about a standard deviation then.
    fisher = matrix.multiply(matrix).T @ (1 / np.maximum(background + matrix @ start, 1e-3))
    scale = 1 / np.sqrt(fisher)
    scaled = matrix.multiply(scale).tocsr()
    total, inner = np.asarray(scaled.sum(axis=0)).ravel(), scaled[seen]
    bounds = [(None, None)] * len(start)
    x = start / scale
    if held is not None:
        bounds[held], x[held] = (0.0, 0.0), 0.0

    def function(x):
        npred = np.maximum(background[seen] + inner @ x, 1e-12)
        value = total @ x - np.sum(counts[seen] * np.log(npred))
        return value, total - inner.T @ (counts[seen] / npred)

    active = np.zeros(len(counts), bool)
    while True:
        limits = optimize.LinearConstraint(scaled[active].toarray(), -background[active], np.inf)
        found = optimize.minimize(
            function,
            x,
            jac=True,
            method="SLSQP",
            bounds=bounds,
            constraints=[limits] if active.any() else [],
            options={"maxiter": 2000, "ftol": 1e-14},
        )
        x = found.x
        new = (background + scaled @ x < -1e-9 * (background + 1e-9)) & ~seen & ~active
        if not new.any():
            return scale * x, 2 * found.fun, found.success
        active |= new


def optional_quantities(case: str, dataset, n_bins: int, name: str, response) -> None:
    """Print what errors, limits, scans and sensitivities take, in one run with norms and ts."""
    for quantity in ("errn-errp", "ul", "scan", "sensitivity"):
        own, seconds = estimator(case, dataset, n_bins, (quantity,)), []
        for _ in range(2):
            begin = time.process_time()
            own.run(dataset, response)
            seconds.append(time.process_time() - begin)
        print(
            f"{name}: with {quantity} first {seconds[0]:.2f} s, then {seconds[1]:.2f} s "
            "of processor time"
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
            with jax.enable_x64(True):
                data = group_data(own.problem([dataset], response))
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
        optional_quantities(case, dataset, options.bins, name, response)
        if options.no_scipy:
            continue
        seconds = {"norms": 0.0, "ts": 0.0}
        deviation = {"norms": 0.0, "ts": 0.0}
        converged = []
        for group, data in enumerate(group_data(own.problem([dataset], response), merge=False)):
            problem = dense_problem(data)
            begin = time.perf_counter()
            norms, stat, success = scipy_fit(*problem, np.full(data.n_components, 0.1))
            seconds["norms"] += time.perf_counter() - begin
            begin = time.perf_counter()
            nulls = [scipy_fit(*problem, norms, held=k) for k in range(len(own.regions))]
            seconds["ts"] += time.perf_counter() - begin
            converged += [success, all(null[2] for null in nulls)]
            pull = (norms - profile.norm[:, group]) / profile.norm_err[:, group]
            deviation["norms"] = max(deviation["norms"], np.nanmax(np.abs(pull)))
            change = np.array([null[1] - stat for null in nulls]) - profile.ts[:, group]
            deviation["ts"] = max(deviation["ts"], np.nanmax(np.abs(change)))
        print(
            f"{name}: scipy {seconds['norms']:.2f} s for the norms (up to "
            f"{deviation['norms']:.1g} of an error away), {seconds['ts']:.1f} s more for ts (up to "
            f"{deviation['ts']:.1g} away), all converged: {all(converged)}"
        )
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"largest memory {used:.2f} GiB")


if __name__ == "__main__":
    main()
