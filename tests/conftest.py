"""Settings and data that the tests share."""

import os
import time
from importlib.metadata import version
from pathlib import Path

# Most of the time of the tests is compilation, which takes a fraction without optimisation. Set
# XLA_FLAGS, if to nothing, to test what users run. Later versions of the compiler stop at the
# second flag, which names the emitters that they have left.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)

os.environ["COLUMNS"] = "80"  # of printed tables, whatever the terminal is

import jax
import matplotlib
import pytest

matplotlib.use("Agg")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "warn")


UNTIL = os.environ.get("JAXPROF_TESTS_UNTIL")
"""When no further test begins, in seconds since 1970."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there may be no time for all tests, begin with another file each time."""
    if UNTIL:
        files = list(dict.fromkeys(item.path for item in items))
        place = {path: (i - int(UNTIL)) % len(files) for i, path in enumerate(files)}
        items.sort(key=lambda item: place[item.path])


def pytest_runtest_setup() -> None:
    """Skip what there is no time for."""
    if UNTIL and time.time() > int(UNTIL):
        pytest.skip("no time is left, see $JAXPROF_TESTS_UNTIL")


@pytest.fixture(scope="session")
def gc_file() -> Path:
    """The Fermi-LAT Galactic-centre file of $GAMMAPY_DATA; the test is skipped without it."""
    folder = os.environ.get("GAMMAPY_DATA")
    if not folder:
        pytest.skip("$GAMMAPY_DATA is not set")
    path = Path(folder).expanduser() / "fermi-3fhl-gc" / "fermi-3fhl-gc.fits.gz"
    if not path.exists():
        pytest.skip("$GAMMAPY_DATA has no fermi-3fhl-gc/fermi-3fhl-gc.fits.gz")
    return path


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder with the reference profiles; the test is skipped without it."""
    folder = os.environ.get("JAXPROF_REFERENCE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$JAXPROF_REFERENCE is not set to the folder of the reference profiles")
    return Path(folder)


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """Folder with other people's files; the test is skipped without it."""
    folder = os.environ.get("JAXPROF_CASES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("$JAXPROF_CASES is not set to the folder of other people's files")
    return Path(folder)


@pytest.fixture(autouse=True)
def close_figures():
    """No figure outlives its test."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="session")
def simulated():
    """A simulated Galactic-centre dataset."""
    from jaxprof.datasets import simulate_galactic_centre

    return simulate_galactic_centre(seed=1)
