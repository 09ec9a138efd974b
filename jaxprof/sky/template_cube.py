"""Template cubes: a surface brightness for each of several energies, and between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprof.types import Array

NODES, WEIGHTS = np.polynomial.legendre.leggauss(3)
"""Quadrature in log energy between two nodes of a cube, where all that enters is smooth."""


@dataclass(frozen=True, eq=False)
class TemplateCube:
    """Brightness of a template at the energies of its nodes.

    Attributes
    ----------
    planes : ndarray, shape (N, ny, nx)
        Surface brightness [sr-1], of integral one at each node.
    log_nodes : ndarray, shape (N,)
        Logarithms of the energies [TeV].
    solid_angle : ndarray, shape (ny, nx)
        Solid angles of the pixels [sr].
    """

    planes: Array
    log_nodes: Array
    solid_angle: Array

    @classmethod
    def from_data(cls, data: Array, energies: Array, solid_angle: Array) -> TemplateCube:
        """Cube of any surface brightness, which is normalised at each energy.

        Raises
        ------
        ValueError
            If it is zero everywhere at an energy.
        """
        total = np.sum(data * solid_angle, axis=(1, 2))
        if not (total > 0).all():
            first = energies[np.argmax(total <= 0)]
            raise ValueError(
                f"map is zero everywhere at {np.count_nonzero(total <= 0)} of its {len(total)} "
                f"energies, the first {first:.4g} TeV; leave these out of it"
            )
        return cls(data / total[:, np.newaxis, np.newaxis], np.log(energies), solid_angle)

    def between(self, log_energy: float, cut: tuple[slice, slice] = (slice(None),) * 2) -> Array:
        """Brightness at an energy, up to a factor: power laws in each pixel between two nodes.

        Linear in log energy where it is zero at one of these; beyond the first and last node it is
        that of the node. `cut` are the rows and columns wanted.
        """
        k = int(np.clip(np.searchsorted(self.log_nodes, log_energy) - 1, 0, len(self.planes) - 2))
        low, high = self.planes[k][cut], self.planes[k + 1][cut]
        step = self.log_nodes[k + 1] - self.log_nodes[k]
        part = float(np.clip((log_energy - self.log_nodes[k]) / step, 0.0, 1.0))
        linear = (1 - part) * low + part * high
        power = low ** (1 - part) * high**part
        return np.where((low > 0) & (high > 0), power, linear)

    def at(self, log_energy: float) -> Array:
        """Brightness at an energy [sr-1], of integral one, shape (ny, nx)."""
        found = self.between(log_energy)
        return found / np.sum(found * self.solid_angle)


@dataclass(frozen=True, eq=False)
class BinMeans:
    """Brightness of a cube averaged over bins of true energy, weighted by a spectrum.

    Attributes
    ----------
    cube : TemplateCube
        The cube.
    log_energies, factors : list of ndarray, shape (Q,)
        Quadrature points of each of the T bins, and what `TemplateCube.between` is multiplied by.
    shares : ndarray, shape (T,)
        Part of the flux in each bin.
    image : ndarray, shape (ny, nx)
        Mean over all bins [sr-1], of integral one.
    """

    cube: TemplateCube
    log_energies: list[Array]
    factors: list[Array]
    shares: Array
    image: Array

    @classmethod
    def over(
        cls, cube: TemplateCube, edges: Array, spectrum: Callable[[Array], Any], flux: Array
    ) -> BinMeans:
        """Mean brightness in bins.

        Parameters
        ----------
        cube : TemplateCube
            The cube.
        edges : ndarray, shape (T + 1,)
            Edges of the bins [TeV].
        spectrum : callable
            Differential flux at energies in TeV.
        flux : ndarray, shape (T,)
            Its integrals over the bins.
        """
        points = [
            _points(ends, cube.log_nodes) for ends in np.log(np.stack([edges[:-1], edges[1:]], 1))
        ]
        log_energies = [x for x, _ in points]
        energies = np.exp(np.concatenate(log_energies))
        # Of negative flux the shape is the same.
        density = np.abs(np.asarray(spectrum(energies), float)) * energies
        splits = np.cumsum([len(x) for x in log_energies])[:-1]
        shares = _normalised(np.abs(flux))
        image = np.zeros(cube.solid_angle.shape)
        factors = []
        for (x, w), part, share in zip(points, np.split(density, splits), shares, strict=True):
            found = _normalised(w * part)
            for q, energy in enumerate(x):
                plane = cube.between(energy)
                found[q] /= np.sum(plane * cube.solid_angle)
                image += share * found[q] * plane
            factors.append(found)
        return cls(cube, log_energies, factors, shares, image)

    def plane(self, number: int, cut: tuple[slice, slice]) -> Array:
        """Mean brightness in a bin [sr-1], in the rows and columns of `cut`."""
        points = zip(self.log_energies[number], self.factors[number], strict=True)
        return sum(factor * self.cube.between(energy, cut) for energy, factor in points)


def _normalised(values: Array) -> Array:
    """Values over their sum, or the same for all where they are zero."""
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


def _points(ends: Array, log_nodes: Array) -> tuple[Array, Array]:
    """Quadrature points of one bin in log energy, with weights, split at the nodes in it."""
    inside = log_nodes[(log_nodes > ends[0]) & (log_nodes < ends[1])]
    breaks = np.concatenate([ends[:1], inside, ends[1:]])
    half, middle = 0.5 * np.diff(breaks), 0.5 * (breaks[1:] + breaks[:-1])
    points = middle[:, np.newaxis] + half[:, np.newaxis] * NODES
    return points.ravel(), (half[:, np.newaxis] * WEIGHTS).ravel()
