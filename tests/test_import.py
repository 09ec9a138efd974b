"""Importing the package is quick: what is heavy is imported when it is used."""

import subprocess
import sys

HEAVY = [
    f"scipy.{name}" for name in "fft interpolate ndimage optimize signal spatial stats".split()
]
HEAVY += "click gammapy jaxopt matplotlib.pyplot pydantic tqdm typer zarr".split()
BASE = "import jax, astropy.coordinates, astropy.io.fits, astropy.table, astropy.wcs, regions"


def loaded(statement):
    """Which of the heavy modules a statement loads, in a process of its own."""
    code = f"{statement}; import sys; print([n for n in {HEAVY} if n in sys.modules])"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.strip(" []\n").replace("'", "").split(", ")) - {""}


def test_heavy_modules_are_imported_when_they_are_used():
    assert loaded("import scipy.ndimage") >= {"scipy.ndimage"}
    assert loaded("import jaxprof") <= loaded(BASE)


def test_submodules_are_there_when_they_are_asked_for():
    code = "import jaxprof; print(jaxprof.plotting.plot_map.__name__, jaxprof.core.cash.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plot_map", "cash"]
