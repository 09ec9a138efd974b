"""Where results of toys are kept: in memory, or in a zarr store that outlives an interrupt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from jaxprof.types import Array


class ToyStore:
    """Arrays of toys, to which chunks are added.

    Parameters
    ----------
    path : path-like or None
        Folder of a zarr store; None for memory.
    shapes : mapping of str to tuple of int
        Shape of each array, toys first.
    chunk : int
        Toys that a chunk of a new store holds.
    fingerprint : str
        What makes toys the same; a store of another one is refused.

    Raises
    ------
    ValueError
        For a folder that is something else, or a store of other toys.
    ImportError
        Without zarr, if there is a path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        shapes: Mapping[str, tuple[int, ...]],
        chunk: int,
        fingerprint: str,
    ) -> None:
        self._shapes = shapes
        self._n_toys = next(iter(shapes.values()))[0]
        if path is None:
            self.arrays: dict[str, Any] = {
                name: np.full(shape, np.nan) for name, shape in shapes.items()
            }
            self._done: Any = np.zeros(self._n_toys, np.uint8)
            return
        try:
            zarr = import_module("zarr")
        except ImportError:
            raise ImportError("store: needs the package zarr; pip install zarr") from None
        path = os.path.expanduser(os.fspath(path))
        known = os.path.isdir(path) and bool(os.listdir(path))
        try:
            group = zarr.open_group(path, mode="r+" if known else "w")
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f"store: {path} is no zarr store, and not empty") from error
        if known and group.attrs.get("toys") != fingerprint:
            raise ValueError(
                f"store: {path} holds other toys (of other data, parameters, quantities or another "
                "seed); give another folder"
            )
        if not known:
            for name, shape in shapes.items():
                group.create_array(
                    name,
                    shape=shape,
                    chunks=(min(chunk, shape[0]), *shape[1:]),
                    dtype="float64",
                    fill_value=np.nan,
                )
            group.create_array(
                "done", shape=(self._n_toys,), chunks=(self._n_toys,), dtype="uint8", fill_value=0
            )
            # Last: what an interrupt left unfinished is refused as a store of others.
            group.attrs["toys"] = fingerprint
        self.arrays = {name: group[name] for name in shapes}
        self._done = group["done"]
        self._n_toys = max(self._n_toys, int(self._done.shape[0]))
        for array in (*self.arrays.values(), self._done):
            array.resize((self._n_toys, *array.shape[1:]))

    def missing(self) -> Array:
        """Numbers of the toys that are still to be made."""
        return np.flatnonzero(np.asarray(self._done[:]) == 0)

    def made(self) -> Array:
        """Numbers of the toys that are there."""
        return np.flatnonzero(np.asarray(self._done[:]))

    def put(self, numbers: Array, values: Mapping[str, Array]) -> None:
        """Add toys; they count as made when all of theirs is written."""
        # Those that follow each other are written together.
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        runs = [run for run in np.split(np.arange(len(numbers)), breaks) if run.size]
        for name, array in self.arrays.items():
            for run in runs:
                array[numbers[run[0]] : numbers[run[-1]] + 1] = values[name][run]
        for run in runs:
            self._done[numbers[run[0]] : numbers[run[-1]] + 1] = 1
