"""Time the two profiles of the tutorial, with jaxprof and with gammapy.

    python benchmarks/vs_gammapy.py             # both packages in this process
    python benchmarks/vs_gammapy.py --process   # a process each: import, read, run, table

It needs gammapy (``pip install --editable '.[gammapy]'``) and its tutorial data in $GAMMAPY_DATA.
Wall times mean little on a loaded machine: ``--clock processor`` takes processor times.
What is timed in one process is ``FluxProfileEstimator(...).run(dataset)``: masks and reduction are
in, reading the file is not. The first call of each profile (cold) has JAX compile, the others
(warm) do not. Deviations are in units of jaxprof's errors.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

CASES = {
    "line": "49 boxes, 1 energy group, limits",
    "radial": "10 annuli, 2 energy groups, all quantities",
}


def processor_time() -> float:
    """Processor time [s] of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "processor": processor_time}

# One script for both packages: only the imports differ.
PROCESS = """
import astropy.units as u
from astropy.coordinates import SkyCoord
{imports}
dataset = MapDataset.read({path!r})
regions = make_orthogonal_rectangle_sky_regions(
    start_pos=SkyCoord("9d", "0d", frame="galactic"),
    end_pos=SkyCoord("351d", "0d", frame="galactic"),
    wcs=dataset.counts.geom.wcs, height="3 deg", nbin=49,
)
profile = FluxProfileEstimator(
    regions=regions, spectral_model=PowerLawSpectralModel(index=2.3),
    energy_edges=[10, 500] * u.GeV, selection_optional=["ul"],
).run(dataset)
print(profile.to_table(format="profile", formatted=True))
"""
IMPORTS = {
    "jaxprof": """
from jaxprof import (
    FluxProfileEstimator, MapDataset, PowerLawSpectralModel, make_orthogonal_rectangle_sky_regions,
)""",
    "gammapy": """
from gammapy.datasets import MapDataset
from gammapy.estimators import FluxProfileEstimator
from gammapy.modeling.models import PowerLawSpectralModel
from gammapy.utils.regions import make_orthogonal_rectangle_sky_regions""",
}


def data_file() -> Path:
    """The Fermi-LAT Galactic centre of gammapy's tutorials."""
    path = Path(os.environ.get("GAMMAPY_DATA", "")) / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
    if not path.expanduser().is_file():
        sys.exit("set GAMMAPY_DATA to the folder with fermi-3fhl-gc/fermi-3fhl-gc.fits.gz")
    return path.expanduser()


def runner(package: str, case: str, dataset):
    """A function that estimates one profile from nothing but the dataset."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    if package == "jaxprof":
        import jaxprof as regions_module
        from jaxprof import FluxProfileEstimator, PowerLawSpectralModel
    else:
        import gammapy.utils.regions as regions_module
        from gammapy.estimators import FluxProfileEstimator
        from gammapy.modeling.models import PowerLawSpectralModel

    def line_regions():
        return regions_module.make_orthogonal_rectangle_sky_regions(
            start_pos=SkyCoord("9d", "0d", frame="galactic"),
            end_pos=SkyCoord("351d", "0d", frame="galactic"),
            wcs=dataset.counts.geom.wcs,
            height="3 deg",
            nbin=49,
        )

    def radial_regions():
        return regions_module.make_concentric_annulus_sky_regions(
            center=SkyCoord("0d", "0d", frame="galactic"), radius_max="1.5 deg", nbin=11
        )

    regions = line_regions() if case == "line" else radial_regions()

    def run():
        estimator = FluxProfileEstimator(
            regions=regions,
            spectral_model=PowerLawSpectralModel(index=2.3),
            energy_edges=([10, 500] if case == "line" else [10, 85, 500]) * u.GeV,
            selection_optional=["ul"] if case == "line" else "all",
        )
        return estimator.run(datasets=dataset)

    return run


def times(function: Callable, repeat: int, clock: str) -> tuple[list[float], object]:
    """Times [s] of some calls, and what the last returned."""
    seconds = []
    for _ in range(repeat):
        start = CLOCKS[clock]()
        result = function()
        seconds.append(CLOCKS[clock]() - start)
    return seconds, result


def in_one_process(repeat_ours: int, repeat_theirs: int, clock: str = "wall") -> None:
    """Print the table of times and the largest deviations."""
    path = data_file()
    import jaxprof

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import gammapy
        from gammapy.datasets import MapDataset

        ours = jaxprof.MapDataset.read(path)
        theirs = MapDataset.read(path)
        print(f"jaxprof {jaxprof.__version__}, gammapy {gammapy.__version__}")
        print(f"seconds of {clock} time; {load()}")
        head = f"{'':42s}{'':8s}{'first':>9s}{'best':>9s}{'median':>9s}{'calls':>7s}"
        print(head)
        for case, title in CASES.items():
            # Ours first, so that gammapy has warmed up nothing that both share.
            jp_times, jp_profile = times(runner("jaxprof", case, ours), 1 + repeat_ours, clock)
            gp_times, gp_profile = times(runner("gammapy", case, theirs), repeat_theirs, clock)
            rows = {"gammapy": gp_times, "jaxprof": jp_times}
            shown = {}
            for package, seconds in rows.items():
                # gammapy has nothing to warm up: its first call counts like the others.
                warm = seconds[1:] if package == "jaxprof" else seconds
                shown[package] = seconds[0], min(warm), statistics.median(warm)
                print(
                    f"{title if package == 'gammapy' else '':42s}{package:8s}"
                    + "".join(f"{value:9.4g}" for value in shown[package])
                    + f"{len(seconds):7d}"
                )
            ratio = np.divide(shown["gammapy"], shown["jaxprof"])
            print(f"{'':42s}{'ratio':8s}" + "".join(f"{value:9.4g}" for value in ratio))
            deviations(gp_profile, jp_profile)
        print(load())


def deviations(theirs, ours) -> None:
    """Print the largest differences between the packages, in units of the errors."""

    def array(name: str):
        """Quantity of gammapy's profile, shape (bins, groups)."""
        data = np.squeeze(np.moveaxis(getattr(theirs, name).data, 0, 1), axis=(2, 3))
        return data if data.shape == ours.norm.shape else data.T

    sigma = ours.norm_err
    words = [f"norm {np.nanmax(np.abs(array('norm') - ours.norm) / sigma):.1e} sigma"]
    words += [f"norm_ul {np.nanmax(np.abs(array('norm_ul') - ours.norm_ul) / sigma):.1e} sigma"]
    words += [f"ts {np.nanmax(np.abs(array('ts') - ours.ts)):.1e}"]
    print(f"{'':42s}largest difference: {', '.join(words)}")


def load() -> str:
    """The load of the machine, without which times mean little."""
    return f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPU cores"


def whole_process(repeat: int, clock: str = "wall") -> None:
    """Print times of processes that import, read, run and print a table."""
    path = str(data_file())
    # As installed packages have it: without bytecode half of an import is compiling Python.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    print(f"import, read, run (line profile), table; seconds of {clock} time; {load()}")
    best = {}
    for package, imports in IMPORTS.items():
        script = PROCESS.format(imports=imports, path=path)
        command = [sys.executable, "-W", "ignore", "-c", script]
        seconds, _ = times(
            lambda own=command: subprocess.run(
                own, check=True, stdout=subprocess.DEVNULL, env=environment
            ),
            1 + repeat,
            clock,
        )
        seconds = seconds[1:]  # the first may have to write the bytecode
        best[package] = min(seconds)
        median = statistics.median(seconds)
        print(f"{package:10s} best {min(seconds):6.2f}  median {median:6.2f}  of {repeat}")
    ratio = best["gammapy"] / best["jaxprof"]
    print(f"gammapy takes {ratio:.1f} times jaxprof's time; {load()}")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--process", action="store_true", help="time whole processes instead")
    parser.add_argument("--repeat", type=int, default=20, help="warm calls of jaxprof")
    parser.add_argument("--repeat-gammapy", type=int, default=2, help="calls of gammapy, processes")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    if options.process:
        whole_process(options.repeat_gammapy, options.clock)
    else:
        in_one_process(options.repeat, options.repeat_gammapy, options.clock)


if __name__ == "__main__":
    main()
