"""Binned gamma-ray data, measured or simulated."""

from typing import Any

from jaxprof.datasets.mapdataset import MapDataset as MapDataset
from jaxprof.datasets.onoff import MapDatasetOnOff as MapDatasetOnOff


def __getattr__(name: str) -> Any:
    # Simulations build datasets, so the import the other way must wait.
    if name == "simulate_galactic_centre":
        from jaxprof.simulate import simulate_galactic_centre

        return simulate_galactic_centre
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
