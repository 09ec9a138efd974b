"""Simulated data for a machine without any."""

from jaxprof.simulate.dataset import SimulationTruth as SimulationTruth
from jaxprof.simulate.dataset import simulate_galactic_centre as simulate_galactic_centre
from jaxprof.simulate.sky import SimulatedSource as SimulatedSource
