r"""Folding on the pixels of HEALPix, as sums over pairs of pixels on the sphere.

The plane of a HEALPix map has cuts and kinks, which convolutions do not know. A photon that starts
in the pixel j is found in the pixel i with the probability

.. math:: P_{ij} = \int_j w(q) \int_i p(|p - q|)\, d\Omega_p\, d\Omega_q

with the density p of the PSF at the angle between two positions and the emission w, by Gauss-
Legendre quadrature: pixels of HEALPix are squares whose equal areas are equal on the sphere. The
sum over all pixels of the sky, on the map and off it, is the containment of the PSF by
normalisation: counts are conserved. Pixels that are far from each other, for the PSF and for their
size, need the second moments of both only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.irf.psf_kernel import containment
from jaxprof.reduce.joint.emission import Emission
from jaxprof.reduce.joint.folding import Cutouts, Folding, spectra_mixed
from jaxprof.reduce.joint.inputs import similar
from jaxprof.reduce.joint.kernels import (
    ONE_SIGMA,
    Kernel,
    Responses,
    containment_radius,
    psf_end,
    responses,
)
from jaxprof.sky.healpix_grid import HealpixGrid, chord, healpix_grid
from jaxprof.sky.moments import degree_of, legendre, orders
from jaxprof.types import Array

PAIRS = 1_000_000
"""Pairs of pixels, or of positions in them, at a time."""
WIDE = 0.15
"""Size of the pixels, in widths of the PSF, up to which second moments are enough."""
FINEST = 12
"""Most quadrature points along a pixel of extended emission; a point has `FINEST_POINT`."""
FINEST_POINT = 64


@dataclass(frozen=True)
class Starts:
    """Emission on pixels of HEALPix."""

    pixels: NDArray[np.int64]
    """Rows and columns of the emission, (2, J)."""
    index: NDArray[np.int64]
    """Their HEALPix pixels, (J,)."""
    images: Array
    """Exposure [cm2 s] times share of the flux, (T, J)."""
    offset: Array
    """Mean position (dy, dx) of the emission in each [pixels], (2, J)."""
    ratios: Array
    """Its further moments, for a share of one, (orders - 1, J)."""
    variance: float
    """Mean variance of where it starts [pixel2]."""
    is_point: bool
    """Whether it is a point."""

    def on_pixels(self, shape: tuple[int, ...]) -> Array:
        """Its images on the emission's own pixels, (T, h, w)."""
        found = np.zeros((len(self.images), *shape))
        found[:, self.pixels[0], self.pixels[1]] = self.images
        return found


class SphereFolding:
    """All components of a dataset on HEALPix pixels; otherwise as `Folding`.

    The width of the PSF must be a number, as pairs are chosen by it. No plane is in the way: the
    ``gradients`` are zero.
    """

    def __init__(
        self, dataset: MapDataset, emissions: Sequence[Emission], grid: HealpixGrid
    ) -> None:
        geom = dataset.geom.to_image()
        self.grid, self.shape = grid, geom.npix_shape
        self.starts = [_starts(dataset, emission, grid) for emission in emissions]
        images = [
            start.on_pixels(emission.weights.shape)
            for start, emission in zip(self.starts, emissions, strict=True)
        ]
        self.response: Responses = responses(dataset, geom, emissions, images)
        self.problems = self.response.problems
        self.gradients = np.zeros(len(emissions))
        self._spread: dict[float, list[tuple[int, int, Array]]] = {}

    def cutouts(
        self,
        flux: Any,
        *,
        psf_scale: Any = 1.0,
        widest: float | None = None,
        per_true_energy: bool = False,
    ) -> list[Cutouts]:
        """Fold all components, see `Folding.cutouts`; ``widest`` does not matter.

        Raises
        ------
        ValueError
            If ``psf_scale`` is traced.
        """
        if isinstance(psf_scale, jax.core.Tracer):
            raise ValueError(
                "psf_scale is traced by JAX, but on HEALPix pixels there are derivatives with "
                "respect to the width of the PSF between nodes only: reduce(..., psf_scale=(...))"
            )
        scale = float(psf_scale)
        if scale not in self._spread:
            kernels = [self.response.kernels[k] for k in self.response.which]
            pairs = zip(self.starts, kernels, strict=True)
            self._spread = {scale: [self._spread_one(*own, scale) for own in pairs]}
        spread = self._spread[scale]
        found = []
        kinds = [start.is_point for start in self.starts]
        for part in similar([values.shape[-2:] for _, _, values in spread], kinds):
            own = spread[part]
            height, width = np.max([values.shape[-2:] for _, _, values in own], axis=0)
            images = np.zeros((len(own), *own[0][2].shape[:-2], height, width))
            for image, (_, _, values) in zip(images, own, strict=True):
                image[..., : values.shape[-2], : values.shape[-1]] = values
            edisp = self.response.edisp[part]
            reco = self.response.reco_psf
            found.append(
                Cutouts(
                    values=_mixed(images, jnp.asarray(flux)[part], edisp, reco, per_true_energy),
                    edisp=edisp if per_true_energy and not reco else None,
                    y0=np.array([y0 for y0, _, _ in own]),
                    x0=np.array([x0 for _, x0, _ in own]),
                    first=part.start,
                )
            )
        return found

    def _spread_one(self, start: Starts, kernel: Kernel, scale: float) -> tuple[int, int, Array]:
        """First pixel (y0, x0) of a component and what is found there of each true energy.

        Values have the shape (T, H, W), or (T, E, H, W) for a PSF in reconstructed energy.
        """
        n_energies = len(kernel.density) if self.response.reco_psf else 1
        n_true, (ny, nx) = len(start.images), self.shape
        rad, density = kernel.rad * scale, kernel.density / scale**2
        if not len(start.index) or not (density > 0).any():
            return 0, 0, np.zeros((n_true, *((n_energies,) if n_energies > 1 else ()), 1, 1))
        centers = self.grid.vectors(start.index, *start.offset)
        targets = self.grid.near(centers, psf_end(rad, density) + 2 * self._size)
        y, x = self.grid.positions(targets)
        found = np.zeros((n_true, n_energies, len(targets)))
        for energy, part, pairs in self._probabilities(start, centers, targets, rad, density):
            if self.response.reco_psf:
                found[:, energy] += (pairs @ start.images[:, part].T).T
            else:
                found[energy, 0] += pairs @ start.images[energy, part]
        here = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
        y, x = (v[here] if here.any() else np.zeros(1, int) for v in (y, x))
        y0, x0 = int(y.min()), int(x.min())
        image = np.zeros((n_true, n_energies, int(y.max()) - y0 + 1, int(x.max()) - x0 + 1))
        if here.any():
            # Of quadrature with few moments a little may be negative.
            image[..., y - y0, x - x0] = np.maximum(found[..., here], 0.0)
        return y0, x0, image if self.response.reco_psf else image[:, 0]

    @property
    def _size(self) -> float:
        """Mean width of a pixel [deg]."""
        return float(np.rad2deg(np.sqrt(self.grid.solid_angle)))

    def _probabilities(
        self, start: Starts, centers: Array, targets: Array, rad: Array, density: Array
    ) -> Iterator[tuple[int, slice, scipy.sparse.csr_array]]:
        """Probabilities (targets, a part of the starts) at each energy, and which part."""
        from scipy.spatial import cKDTree  # which imports much

        at = self.grid.vectors(targets)
        tree = cKDTree(at)
        limit = np.deg2rad(psf_end(rad, density) + 2 * self._size)
        area = np.pi * limit**2
        step = max(1, int(PAIRS / min(len(targets), max(area / self.grid.solid_angle, 1.0))))
        widths = np.maximum(containment_radius(rad, density, ONE_SIGMA), 1e-9)
        contained = np.minimum(np.asarray(containment(rad, density)), 1.0)
        for first in range(0, len(centers), step):
            part = slice(first, min(first + step, len(centers)))
            pairs = cKDTree(centers[part]).sparse_distance_matrix(
                tree, chord(limit), output_type="ndarray"
            )
            j, i, away = pairs["i"], pairs["j"], np.rad2deg(2 * np.arcsin(pairs["v"] / 2))
            far = self._far_distances(start.variance, centers[part][j], targets[i])
            for energy in np.flatnonzero((density > 0).any(axis=1)):
                profile = (rad, density[energy])
                values = _density(far, *profile).mean(axis=-1)
                x = self._size / widths[energy]
                near = np.flatnonzero(away < 1.5 * self._size + 3 * widths[energy])
                if x > WIDE and len(near):
                    values[near] = self._near(start, j[near] + first, targets[i[near]], x, profile)
                total = np.bincount(j, values, part.stop - first)
                factor = np.where(total > 0, contained[energy] / np.where(total > 0, total, 1), 0.0)
                shape = (len(targets), part.stop - first)
                yield int(energy), part, scipy.sparse.csr_array((values * factor[j], (i, j)), shape)

    def _far_distances(self, variance: float, centers: Array, targets: Array) -> Array:
        """Chords (P, 4) with the second moments of where photons start and are found."""
        offset = np.sqrt(1 / 12 + variance) * np.array([[-1, -1, 1, 1], [-1, 1, -1, 1]])
        unique, inverse = np.unique(targets, return_inverse=True)
        vectors = self.grid.vectors(unique[:, np.newaxis], *offset)[inverse]
        return np.linalg.norm(vectors - centers[:, np.newaxis], axis=-1)

    def _near(
        self, start: Starts, own: Array, targets: Array, x: float, profile: tuple[Array, Array]
    ) -> Array:
        """Mean densities (P,) between starts and pixels that are near each other."""
        wanted = 2 if x < 0.6 else int(np.ceil(2 + 1.2 * x))
        # One point costs little; the more, the less do kinks in pixels matter.
        n = min(wanted + 4, FINEST_POINT) if start.is_point else min(wanted, FINEST)
        nodes, weights = _nodes(n)
        if start.is_point:
            offset, shares = start.offset[..., np.newaxis], np.ones((len(start.index), 1))
        else:
            offset, shares = nodes[:, np.newaxis], _shares(start.ratios, nodes, weights)
        found = np.empty(len(own))
        step = max(1, PAIRS // (shares.shape[1] * len(weights)))
        for first in range(0, len(own), step):
            part = slice(first, first + step)
            used, here = np.unique(own[part], return_inverse=True)
            points = offset if not start.is_point else offset[:, used]
            begin = self.grid.vectors(start.index[used, np.newaxis], *points)[here]
            some, there = np.unique(targets[part], return_inverse=True)
            end = self.grid.vectors(some[:, np.newaxis], *nodes)[there]
            # The difference of vectors, as their product has no digits for small angles.
            square = 2 - 2 * np.einsum("pkc,plc->pkl", begin, end)
            values = _density(np.sqrt(np.maximum(square, 0.0)), *profile)
            found[part] = np.einsum("pk,pkl,l->p", shares[own[part]], values, weights)
        return found


def folding_of(dataset: MapDataset, emissions: Sequence[Emission]) -> Folding | SphereFolding:
    """Components ready to be folded, on the plane or, of HEALPix pixels, on the sphere."""
    grid = healpix_grid(dataset.geom)
    if grid is None or dataset.psf is None:
        return Folding(dataset, emissions)
    return SphereFolding(dataset, emissions, grid)


def _mixed(images: Array, flux: Any, edisp: Array, reco_psf: bool, per_true_energy: bool) -> Any:
    """Values of `Cutouts` of spread images (C, T, H, W), or (C, T, E, H, W)."""
    if not reco_psf:
        return spectra_mixed(jnp.asarray(images), flux, edisp, per_true_energy=per_true_energy)
    if per_true_energy:
        return jnp.asarray(edisp[..., np.newaxis, np.newaxis] * images)
    return jnp.einsum("cte,ctehw->cehw", flux[:, :, None] * edisp, images)[:, None]


def _starts(dataset: MapDataset, emission: Emission, grid: HealpixGrid) -> Starts:
    """Emission on the pixels of HEALPix."""
    row, column = np.nonzero(emission.weights)
    index = grid.index(row + emission.y0, column + emission.x0)
    row, column, index = (v[index >= 0] for v in (row, column, index))
    centroids = emission.centroids()
    offset = np.zeros((2, len(index)))
    if centroids is not None:
        offset[:] = centroids[:, row, column]
    if len(emission.weights.ravel()) == 1 and emission.weights.any():
        # At a cut and at a pole a position may be next to the pixel that holds it on the plane.
        center = emission.center.spherical
        index, offset = grid.holding(center.lon.deg, center.lat.deg)
        row, column = np.zeros((2, 1), int)
    shares = emission.weights[row, column]
    if emission.by_energy is not None:
        shares = shares * emission.by_energy[:, row, column]
    return Starts(
        pixels=np.stack([row, column]),
        index=index,
        images=_exposures(dataset, grid, index, offset) * shares,
        offset=offset,
        ratios=emission.ratios()[:, row, column],
        variance=emission.variance(),
        is_point=emission.offset is not None,
    )


def _exposures(dataset: MapDataset, grid: HealpixGrid, index: Array, offset: Array) -> Array:
    """Exposure [cm2 s] where emission starts, (T, J), between those of the pixels around.

    Off the map it is that of the nearest pixel, as nothing else is known.
    """
    exposure = dataset.exposure
    assert exposure is not None
    ny, nx = exposure.geom.npix_shape
    on_map = np.isfinite(exposure.data).all(axis=0)
    on_map &= (grid.index(*(v.ravel() for v in np.indices((ny, nx)))) >= 0).reshape(ny, nx)
    around, weights = grid.around(index, *offset)
    y, x = grid.positions(around)
    known = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    known[known] = on_map[y[known], x[known]]
    weights = np.where(known, weights, 0.0)
    lost = ~(weights.sum(axis=0) > 0)
    if lost.any() and on_map.any():
        from scipy.spatial import cKDTree  # which imports much

        rows, columns = np.nonzero(on_map)
        tree = cKDTree(grid.vectors(grid.index(rows, columns)))
        _, nearest = tree.query(grid.vectors(index[lost]))
        y[0, lost], x[0, lost], weights[0, lost] = rows[nearest], columns[nearest], 1.0
    y, x = (np.where(weights > 0, v, 0) for v in (y, x))
    weights = weights / np.where(lost & ~on_map.any(), 1.0, weights.sum(axis=0))
    seen = np.where(on_map, exposure.data.astype(np.float64), 0.0)[:, y, x]
    return (seen * weights).sum(axis=1) * exposure.unit.to("cm2 s")


def _density(distance: Array, rad: Array, density: Array) -> Array:
    """Density at chords between unit vectors."""
    return np.interp(distance, chord(np.deg2rad(rad)), density, right=0.0)


def _nodes(n: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes (2, n * n) in a pixel, (dy, dx) from its centre, and their weights."""
    at, weight = np.polynomial.legendre.leggauss(n)
    dy, dx = np.meshgrid(at / 2, at / 2, indexing="ij")
    return np.stack([dy.ravel(), dx.ravel()]), np.outer(weight, weight).ravel() / 4


def _shares(ratios: Array, nodes: Array, weights: Array) -> Array:
    """Weights (J, nodes) of emission with the moments (orders - 1, J)."""
    degree, n = degree_of(len(ratios) + 1), round(np.sqrt(len(weights)))
    up, along = legendre(degree, nodes[0]), legendre(degree, nodes[1])
    found = np.ones((ratios.shape[1], len(weights)))
    for (a, b), ratio in zip(orders(degree)[1:], ratios, strict=True):
        # What so few nodes cannot tell does not matter to a PSF for which they are enough.
        if max(a, b) < n:
            found += (2 * a + 1) * (2 * b + 1) * ratio[:, np.newaxis] * along[a] * up[b]
    return found * weights
