"""Emission folded through exposure, point-spread function and energy dispersion.

Each component is folded on a cutout of its own, as large as its emission and the reach of the
PSF; components of similar size share an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.compilation import jit_by_size
from jaxprof.datasets import MapDataset
from jaxprof.reduce.joint.curvature import (
    FLAT,
    STEEP,
    displacements,
    spread_on_sky,
    tangent_planes,
)
from jaxprof.reduce.joint.degrees import narrowest_moments
from jaxprof.reduce.joint.emission import Emission
from jaxprof.reduce.joint.inputs import (
    FoldingInput,
    chunks,
    exposures,
    pixels_off_map,
    uneven_ratios,
)
from jaxprof.reduce.joint.kernels import (
    missing_psf,
    psf_radius,
    reach,
    responses,
)
from jaxprof.sky.moments import degree_of
from jaxprof.types import Array

CHUNK = 64
"""Components that are folded at a time."""
WIDEST = 1.5
"""How much wider the PSF may get by a factor that is traced, unless told otherwise."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cutouts:
    """Templates of some components on cutouts of one size."""

    values: Any
    """Predicted counts per coefficient. Either ``R`` counts reconstructed energies; or it is one,
    ``Q`` counts true energies and ``edisp`` is still to be applied; (C, Q, R, H, W)."""
    edisp: Any
    """Energy dispersion that is to be applied, (C, Q, E)."""
    y0: Any
    x0: Any
    """Pixel of the map at the lower left of each cutout, (C,)."""
    first: int = field(default=0, metadata={"static": True})
    """Index of the first component; the others follow."""
    turn: range | None = field(default=None, metadata={"static": True})
    """Columns of the map if it closes on itself, see `jaxprof.sky.closed.whole_turn`."""

    def __len__(self) -> int:
        return self.values.shape[0]


class FoldingPiece(NamedTuple):
    """Some components of a part that are folded at once."""

    images: Any
    """Exposures times shares, (C, T, H, W)."""
    ratios: Any
    """Higher moments of the shares over these, or None, see `uneven_ratios`."""
    kernel: Any
    """The PSF, of each component or of all."""
    near: Any
    """Moments of the PSF for the ``ratios``, or None."""
    edisp: Any
    """Energy dispersion, (C, T, E)."""
    displacements: Any
    """Of curved components, see `jaxprof.reduce.joint.curvature.spread_on_sky`; or None."""


class Folding:
    """All components of a dataset, ready to be folded for any spectrum and PSF width.

    Attributes
    ----------
    problems : dict of int to str
        What is wrong with the responses, by the reconstructed energy whose prediction it spoils;
        see `check_energies`.
    gradients : ndarray, shape (C,)
        How much pixels change around each component, see `Planes.gradient`.

    Raises
    ------
    ValueError
        If the dataset has no PSF, or responses of a kind that is not known.
    """

    def __init__(self, dataset: MapDataset, emissions: Sequence[Emission]) -> None:
        if dataset.psf is None:
            raise missing_psf(dataset)
        geom = dataset.geom.to_image().closed()
        # Nothing travels further than from where it starts across the map.
        self.farthest = max(geom.npix_shape) + max(
            pixels_off_map(e, geom.npix_shape) for e in emissions
        )
        degree = max(degree_of(len(emission.moments)) for emission in emissions)
        narrowest = narrowest_moments(dataset, degree)
        parts = chunks(emissions)
        images = [exposures(dataset, emissions[part]) for part in parts]
        each = [image for chunk in images for image in chunk]
        found = responses(dataset, geom, emissions, each)
        self.kernels, which, edisp = found.kernels, found.which, found.edisp
        self.reco_psf, self.problems = found.reco_psf, found.problems
        matrices = np.stack([self.kernels[k].matrix for k in which])
        size = np.linalg.svd(matrices, compute_uv=False).min()
        wide = 2 * psf_radius(dataset).max()
        self.radius = wide / size
        self.planes = tangent_planes(geom, emissions, matrices)
        self.gradients = np.array(
            [self.planes.gradient(*own, wide) for own in enumerate(emissions)]
        )
        # Around most of what covers the sky the plane at its centre is worse than none.
        flat = [
            i
            for i, emission in enumerate(emissions)
            if self.gradients[i] > STEEP and self.planes.beyond(i, emission)
        ]
        self.inputs: list[FoldingInput] = []
        for part, photons in zip(parts, images, strict=True):
            chunk = emissions[part]
            curved = self.gradients[part] > FLAT
            curved &= ~np.isin(np.arange(part.start, part.stop), flat)
            corner = tuple(np.array([getattr(e, n) for e in chunk]) for n in ("y0", "x0"))
            shape, shifts = photons.shape[2:], [e.centroids() for e in chunk]
            inner = displacements(self.planes, part.start, curved, corner, shape, shifts)
            self.inputs.append(
                FoldingInput(
                    images=photons,
                    ratios=uneven_ratios(photons.shape[2:], chunk, narrowest),
                    kernel=which[part],
                    edisp=edisp[part],
                    y0=corner[0],
                    x0=corner[1],
                    first=part.start,
                    curved=curved,
                    inner=inner if curved.any() else None,
                    within=np.array([1 / 12 + e.variance() for e in chunk]).reshape(-1, 1, 1, 1),
                )
            )

    def halves(self, widest: float = 1.0) -> tuple[int, int]:
        """Pixels to where the PSF has ended, and to where it matters where in a pixel it began."""
        half = max(reach(kernel, widest) for kernel in self.kernels)
        half = min(half, self.farthest)
        return half, min(int(np.ceil(self.radius * widest)) + 2, half)

    def cutouts(
        self,
        flux: Any,
        *,
        psf_scale: Any = 1.0,
        widest: float | None = None,
        per_true_energy: bool = False,
    ) -> list[Cutouts]:
        """Fold all components.

        Parameters
        ----------
        flux : array, shape (C, T)
            Flux in the true energies at norm one [cm-2 s-1]. Not used if ``per_true_energy``, which
            keeps these apart, for spectra with free parameters.
        psf_scale : float
            Factor by which the PSF is widened; may be traced.
        widest : float, optional
            Largest factor that the cutouts are to have room for; by default ``psf_scale``, or
            `WIDEST` if that is traced.
        """
        if widest is None:
            widest = WIDEST if isinstance(psf_scale, jax.core.Tracer) else float(psf_scale)
        half, near = self.halves(max(widest, 1.0))
        kernels = [kernel.image(half, psf_scale) for kernel in self.kernels]
        # Indexing outside of compiled code would be compiled on its own.
        flux = flux if isinstance(flux, np.ndarray) else jnp.asarray(flux)
        found = []
        for part in self.inputs:
            outer = None
            if part.inner is not None:
                corner, shape = (part.y0 - half, part.x0 - half), part.inner.shape[2:]
                shape = tuple(size + 2 * half for size in shape)
                outer = displacements(self.planes, part.first, part.curved, corner, shape)
            n, pieces = len(part.kernel), []
            for rows in _equal_pieces(n):
                piece = self._piece(part, rows, kernels, near, psf_scale, outer)
                own = flux[part.first + rows]
                options = {"per_true_energy": per_true_energy, "reco_psf": self.reco_psf}
                pieces.append(_fold(piece, own, **options))
            values = pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)[:n]
            values = _folded_over(values, self.planes.geom.turn)
            pending = per_true_energy and not self.reco_psf
            found.append(
                Cutouts(
                    values=values,
                    edisp=part.edisp if pending else None,
                    y0=part.y0 - half,
                    x0=part.x0 - half,
                    first=part.first,
                    turn=self.planes.geom.turn,
                )
            )
        return found

    def _piece(
        self,
        part: FoldingInput,
        rows: Array,
        kernels: list[Any],
        half_near: int,
        psf_scale: Any,
        outer: Array | None,
    ) -> FoldingPiece:
        """Some components of a part, with what they are folded with."""
        which = part.kernel[rows]
        used, own = np.unique(which, return_inverse=True)
        shared = len(used) == 1
        kernel = kernels[used[0]] if shared else jnp.stack([kernels[k] for k in used])[own]
        ratios, near = None, None
        if part.ratios is not None:
            ratios = part.ratios[rows]
            degree = degree_of(1 + ratios.shape[1])
            tables = [self.kernels[k].moments(degree, half_near, psf_scale) for k in used]
            near = tables[0] if shared else jnp.moveaxis(jnp.stack(tables)[own], 1, 0)
        moved = None
        if part.inner is not None and outer is not None:
            moved = part.inner[rows], outer[rows], part.within[rows]
        return FoldingPiece(part.images[rows], ratios, kernel, near, part.edisp[rows], moved)


def _folded_over(values: Any, turn: range | None) -> Any:
    """Cutouts (..., W) of no more than one turn: further columns are added to the first."""
    if turn is None or values.shape[-1] <= len(turn):
        return values
    missing = -values.shape[-1] % len(turn)
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, len(turn)).sum(axis=-2)


def _equal_pieces(n: int) -> list[Array]:
    """Indices in pieces of one length, `CHUNK` at most; the last repeats its end."""
    number = -(-n // CHUNK)
    size = -(-n // number)
    return [np.minimum(np.arange(i * size, (i + 1) * size), n - 1) for i in range(number)]


@jit_by_size(static_argnames=("per_true_energy", "reco_psf"))
def _fold(piece: FoldingPiece, flux: Any, *, per_true_energy: bool, reco_psf: bool) -> Any:
    """Values (C, Q, R, H, W) of `Cutouts`."""
    images, ratios, kernel, near, edisp, displacements = piece
    if reco_psf:
        # The PSF is in reconstructed energy: the dispersion comes first.
        if per_true_energy:
            # One true energy after the other, as if each were a component of its own.
            n, n_true = images.shape[:2]

            def mixed(values: Any) -> Any:
                return edisp[..., None, None] * values[..., None, :, :]

            def one(values: Any) -> Any:
                return values.reshape(n * n_true, *values.shape[2:])

            own = kernel if kernel.ndim == 3 else jnp.repeat(kernel, n_true, axis=0)
            if ratios is not None:
                ratios = jnp.repeat(ratios, n_true, axis=0)
                near = near if near.ndim == 4 else jnp.repeat(near, n_true, axis=1)
            if displacements is not None:
                displacements = tuple(jnp.repeat(part, n_true, axis=0) for part in displacements)
            spread = spread_on_sky(one(mixed(images)), ratios, own, near, displacements)
            return spread.reshape(n, n_true, *spread.shape[1:])
        mix = flux[:, :, None] * edisp
        before = jnp.einsum("cte,cthw->cehw", mix, images)
        return spread_on_sky(before, ratios, kernel, near, displacements)[:, None]
    spread = spread_on_sky(images, ratios, kernel, near, displacements)
    return spectra_mixed(spread, flux, edisp, per_true_energy=per_true_energy)


def spectra_mixed(spread: Any, flux: Any, edisp: Any, *, per_true_energy: bool) -> Any:
    """Values (C, Q, R, H, W) of `Cutouts` of spread images (C, T, H, W)."""
    if per_true_energy:
        return spread[:, :, None]
    mix = jnp.swapaxes(flux[:, :, None] * edisp, 1, 2)
    flat = mix @ spread.reshape(*spread.shape[:2], -1)
    return flat.reshape(flat.shape[0], 1, flat.shape[1], *spread.shape[2:])
