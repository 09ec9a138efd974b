"""Count how many norms per second the core fits, on JAX's default device.

    python benchmarks/many_fits.py --bins 100000

The bins are toys: Poisson counts over 11 energies, drawn from a background and a signal.
``jaxprof.core`` is called as a method person would call it, without the host layer. Times are for
results that are ready; compilation is left out and given apart.
"""

from __future__ import annotations

import argparse
import os
import time

import jax
import numpy as np

N_ENERGIES = 11


def toys(n_bins: int, seed: int, dtype: str):
    """Counts of many bins, drawn from norms around one; arrays (B, 1, E)."""
    from jaxprof.core import ProfileData

    rng = np.random.default_rng(seed)
    shape = (n_bins, 1, N_ENERGIES)
    spectrum = np.geomspace(1.0, 0.01, N_ENERGIES)
    background = rng.uniform(5.0, 50.0, (n_bins, 1, 1)) * spectrum
    npred_ref = rng.uniform(1.0, 20.0, (n_bins, 1, 1)) * spectrum**0.8
    norm = rng.exponential(1.0, (n_bins, 1, 1))
    counts = rng.poisson(background + norm * npred_ref)
    arrays = {"counts": counts, "background": background, "npred_ref": npred_ref}
    arrays = {name: np.broadcast_to(array, shape) for name, array in arrays.items()}
    return ProfileData(**{name: jax.numpy.asarray(a, dtype) for name, a in arrays.items()})


def timed(function, repeat: int) -> tuple[float, float, object]:
    """Time of the first call, the best of the others [s], and the result."""
    seconds = []
    for _ in range(1 + repeat):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), result


def main() -> None:
    """Read the options, run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bins", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.dtype == "float64")

    from jaxprof.core import fit_norms, limits
    from jaxprof.likelihood.data import Status

    device = jax.devices()[0]
    load = f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPU cores"
    print(
        f"{device.platform} ({device.device_kind}), {options.dtype}, {N_ENERGIES} energies; {load}"
    )
    print(f"{'bins':>9s}  {'':28s}{'compile [s]':>12s}{'run [s]':>10s}{'per second':>12s}")
    for n_bins in options.bins:
        data = toys(n_bins, 0, options.dtype)
        first, best, fit = timed(lambda data=data: fit_norms(data), options.repeat)
        row("fit_norms (norm, error, TS)", n_bins, first, best)
        first, best, found = timed(lambda d=data, f=fit: limits(d, f), options.repeat)
        row("limits (errn, errp, ul)", n_bins, first, best)
        status = np.asarray(fit.status)
        bad = np.count_nonzero(status > Status.BOUNDARY)
        bad += np.count_nonzero(~np.isfinite(np.asarray(found.norm_ul)))
        print(f"{'':9s}  not converged: {bad}")


def row(title: str, n_bins: int, first: float, best: float) -> None:
    """Print one line of the table."""
    print(f"{n_bins:9d}  {title:28s}{first - best:12.2f}{best:10.3f}{n_bins / best:12.3g}")


if __name__ == "__main__":
    main()
