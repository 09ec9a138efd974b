"""A small dataset and configurations for the tests of the command line."""

import pytest

pytest.importorskip("click", reason="the command line needs jaxprof[cli]")
pytest.importorskip("pydantic", reason="the command line needs jaxprof[cli]")
pytest.importorskip("yaml", reason="the command line needs jaxprof[cli]")

from click.testing import CliRunner

from jaxprof.cli.app import app
from jaxprof.simulate.dataset import simulate_galactic_centre

CONFIG = """\
datasets:
  - path: gc.fits.gz
    name: tiny <b>
spectral_model:
  type: PowerLawSpectralModel
  parameters:
    - {name: index, value: 2.3}
    - {name: amplitude, value: 1e-12, unit: cm-2 s-1 TeV-1}
regions:
  annuli:
    center: {lon: 0 deg, lat: 0 deg, frame: galactic}
    radius_max: 1.5 deg
    nbin: 4
energy_edges: [10 GeV, 70.710678 GeV, 500 GeV]
estimator:
  selection_optional: [ul]
outputs:
  folder: out
  name: tiny
"""


def tiny_dataset():
    return simulate_galactic_centre(
        seed=0, shape=(24, 30), binsz=0.2, n_energy=4, name="tiny", mask_margin=0.4
    )


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def replaced(old, new):
    """The configuration with a part replaced, which must be there."""
    assert CONFIG.count(old) == 1
    return CONFIG.replace(old, new)


def line_of(text, part):
    """Number of the line that has a text."""
    (found,) = (n for n, line in enumerate(text.splitlines(), 1) if part in line)
    return found
