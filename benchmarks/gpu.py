"""Fits on a GPU: checked against the CPU in both precisions, timed, and the record of where it ran.

    pip install 'jax[cuda12]'
    python benchmarks/gpu.py --bins 10000000 --out out/bench/gpu.md

Bandwidth is that of reading the data and writing the results once, as a share of what a copy of an
array of the same size reaches on the same device. Without a GPU it runs on the CPU and says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from many_fits import timed, toys
from report import markdown, where

CHECKED = 20_000
"""Bins that are compared with the CPU."""


def bandwidth(n_bytes: int, repeat: int) -> float:
    """Bytes per second, read and written, of the sum of an array and a number."""
    array = jnp.zeros(max(n_bytes // 8, 1), jnp.float32)
    add = jax.jit(lambda a: a + 1)
    return 2 * array.nbytes / timed(lambda: add(array), repeat)[1]


def deviations(arrays: dict[str, np.ndarray], dtype: str) -> tuple[float, float, int]:
    """Largest differences of norms and upper limits from float64 on the CPU, in errors."""
    from jaxprof.core import ProfileData, fit_norms, limits

    found = []
    for device, kind in ((jax.devices("cpu")[0], "float64"), (jax.devices()[0], dtype)):
        with jax.default_device(device):
            data = ProfileData(
                **{
                    name: jax.device_put(a[:CHECKED].astype(kind), device)
                    for name, a in arrays.items()
                }
            )
            fit = fit_norms(data)
            found.append((fit, limits(data, fit)))
    (fit, own), (other, theirs) = found
    # Without a regular minimum there is no error to compare with.
    good = np.isfinite(np.asarray(fit.norm_err))
    error = np.asarray(fit.norm_err)[good]

    def largest(a: Any, b: Any) -> float:
        return float(np.max(np.abs(np.asarray(a)[good] - np.asarray(b)[good]) / error))

    status = int(np.sum(np.asarray(fit.status) != np.asarray(other.status)))
    return largest(fit.norm, other.norm), largest(own.norm_ul, theirs.norm_ul), status


def rows(n_bins: int, repeat: int) -> list[dict[str, Any]]:
    """Checks and times of norms and limits in both precisions."""
    from jaxprof.core import ProfileData, fit_norms, limits

    found = []
    for hard in (False, True):
        arrays = toys(n_bins, hard=hard)
        for dtype in ("float64", "float32"):
            norm, upper, status = deviations(arrays, dtype)
            data = ProfileData(**{name: jnp.asarray(a, dtype) for name, a in arrays.items()})
            fit = fit_norms(data)
            n_bytes = sum(a.nbytes for a in jax.tree.leaves((data, fit)))
            peak = bandwidth(n_bytes, repeat)
            for what, call in (
                ("norms", lambda d=data: fit_norms(d)),
                ("limits", lambda d=data, f=fit: limits(d, f)),
            ):
                best = timed(call, repeat)[1]
                row = {"what": what, "bins": n_bins, "hard": "yes" if hard else "no"}
                row |= {"dtype": dtype, "fits per second": n_bins / best}
                row |= {"bandwidth [%]": 100 * n_bytes / best / peak}
                row |= {"norm off by [sigma]": norm, "ul off by [sigma]": upper}
                found.append({**row, "other status": status})
    return found


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bins", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/bench/gpu.md"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    platform = jax.devices()[0].platform
    title = "# Fits on a GPU\n" if platform != "cpu" else "# Fits on the CPU: no GPU was found\n"
    text = "\n".join([title, where(), markdown(rows(options.bins, options.repeat))])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
