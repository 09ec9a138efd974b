"""Norms per second: jaxprof in both precisions beside numba, scipy and iminuit.

    python benchmarks/many_fits.py --bins 1000 100000 1000000

The bins are toys: Poisson counts over 11 energies, drawn from a background and a signal; of the
hard ones a part has no counts, no background, or a large deficit. ``jaxprof.core`` is called as a
method person would call it. `rows` gives the table that `benchmarks/run.py` writes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

N_ENERGIES = 11
FEW = 100
"""Fits of what fits one bin after the other."""
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def toys(n_bins: int, *, hard: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Counts of many bins, drawn from norms around one; arrays (B, 1, E)."""
    rng = np.random.default_rng(seed)
    shape = (n_bins, 1, N_ENERGIES)
    spectrum = np.geomspace(1.0, 0.01, N_ENERGIES)
    background = np.broadcast_to(rng.uniform(5, 50, (n_bins, 1, 1)) * spectrum, shape).copy()
    signal = np.broadcast_to(rng.uniform(1, 20, (n_bins, 1, 1)) * spectrum**0.8, shape).copy()
    counts = rng.poisson(background + rng.exponential(1.0, (n_bins, 1, 1)) * signal).astype(float)
    if hard:
        counts[1::50] = 0.0
        background[2::50] = 0.0
        counts[3::50] = rng.poisson(0.05 * background[3::50])
        signal[4::50] *= np.geomspace(1.0, 1e-12, N_ENERGIES)
    return {"counts": counts, "background": background, "npred_ref": signal}


def timed(function: Callable[[], Any], repeat: int, clock: str = "wall") -> tuple[float, float]:
    """Seconds of the first call, and the least of the others."""
    seconds = []
    for _ in range(1 + repeat):
        start = CLOCKS[clock]()
        jax.block_until_ready(function())
        seconds.append(CLOCKS[clock]() - start)
    return seconds[0], min(seconds[1:], default=seconds[0])


def scipy_fit(counts: np.ndarray, background: np.ndarray, signal: np.ndarray) -> float:
    """The norm of one bin by scipy's bounded minimiser."""
    from scipy.optimize import minimize_scalar

    low, high = bracket(counts, background, signal)

    def stat(x: float) -> float:
        mu = np.maximum(background + x * signal, 1e-25)
        return 2 * np.sum(mu - counts * np.log(mu))

    return minimize_scalar(stat, bounds=(low, high), method="bounded", options={"xatol": 1e-8}).x


def iminuit_fit(counts: np.ndarray, background: np.ndarray, signal: np.ndarray) -> float:
    """The norm of one bin, with its error, by MIGRAD."""
    from iminuit import Minuit

    low, high = bracket(counts, background, signal)

    def stat(x: float) -> float:
        mu = np.maximum(background + x * signal, 1e-25)
        return 2 * np.sum(mu - counts * np.log(mu))

    minuit = Minuit(stat, x=0.5 * (low + high))
    minuit.errordef = 1.0
    minuit.migrad()
    return minuit.values["x"]


def bracket(counts: np.ndarray, background: np.ndarray, signal: np.ndarray) -> tuple[float, float]:
    """Norms around the minimum: the pole of the bins with counts, and as many counts above it."""
    counted = counts > 0
    low = np.max((-background / signal)[counted], initial=-1.0)
    return low, low + counts.sum() / signal[counted].sum() if counted.any() else low + 1.0


def jaxprof_rows(
    arrays: dict[str, np.ndarray], repeat: int, clock: str
) -> Iterator[tuple[str, float, float, int]]:
    """Name, first and best time, and number of fits, of jaxprof in both precisions."""
    from jaxprof.core import ProfileData, fit_norms, limits

    n_bins = len(arrays["counts"])
    for dtype in ("float64", "float32"):
        with jax.enable_x64(True):
            data = ProfileData(**{name: jax.numpy.asarray(a, dtype) for name, a in arrays.items()})
            fit = fit_norms(data)
            jax.clear_caches()
            yield f"jaxprof {dtype}", *timed(lambda d=data: fit_norms(d), repeat, clock), n_bins
            own = timed(lambda d=data, f=fit: limits(d, f), repeat, clock)
            yield f"jaxprof {dtype}, limits", *own, n_bins


def other_rows(
    arrays: dict[str, np.ndarray], repeat: int, clock: str
) -> Iterator[tuple[str, float, float, int] | tuple[str, str]]:
    """The same of other packages, or why there is none."""
    own = [a[:, 0] for a in arrays.values()]
    try:
        from numba_kernel import fit
    except ImportError:
        yield "numba", "not installed"
    else:
        yield "numba", *timed(lambda: fit(*own), repeat, clock), len(own[0])
    few = list(zip(*(a[:FEW] for a in own), strict=True))
    for name, one in (("scipy", scipy_fit), ("iminuit", iminuit_fit)):
        try:
            seconds = timed(lambda one=one: [one(*bin_) for bin_ in few], min(repeat, 1), clock)
        except ImportError:
            yield name, "not installed"
        else:
            yield name, *seconds, len(few)


def rows(sizes: list[int], repeat: int, clock: str = "wall") -> Iterator[dict[str, Any]]:
    """Throughput of each package at each size, plain and hard bins."""
    for n_bins in sizes:
        for hard in (False, True):
            arrays = toys(n_bins, hard=hard)
            found = [*jaxprof_rows(arrays, repeat, clock), *other_rows(arrays, repeat, clock)]
            for name, *values in found:
                row = {"what": name, "bins": n_bins, "hard": "yes" if hard else "no"}
                if len(values) == 1:
                    yield {**row, "us per fit": values[0]}
                    continue
                first, best, n = values
                yield {**row, "first [s]": first, "us per fit": 1e6 * best / n, "fits": n}


def main() -> None:
    """Read the options, run and print a table."""
    from report import markdown, where

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bins", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(where())
    print(markdown(list(rows(options.bins, options.repeat, options.clock))))


if __name__ == "__main__":
    main()
