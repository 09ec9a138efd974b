"""Emission folded through exposure, point-spread function and energy dispersion.

Each component is folded on a cutout of its own, as large as its emission and the reach of the
PSF; components of similar size share an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.compilation import jit_by_size
from jaxprof.datasets import MapDataset
from jaxprof.irf import RecoPSFMap
from jaxprof.irf.psf_kernel import psf_image, psf_kernel, psf_moments
from jaxprof.reduce.joint.averages import mean_response
from jaxprof.reduce.joint.curvature import (
    FLAT,
    STEEP,
    inner_displacements,
    outer_displacements,
    tangent_planes,
)
from jaxprof.reduce.joint.emission import Emission
from jaxprof.reduce.joint.inputs import (
    FoldingInput,
    chunks,
    exposures,
    pixels_off_map,
    uneven_ratios,
)
from jaxprof.reduce.joint.kernels import (
    Kernel,
    distinct_kernels,
    missing_psf,
    narrowest_moments,
    needed_degrees,
    psf_radius,
    reach,
)
from jaxprof.reduce.joint.spreading import spread_on_sky
from jaxprof.reduce.signal import edisp_error, edisp_kernels
from jaxprof.sky import WcsGeom
from jaxprof.sky.moments import degree_of, orders

Array = NDArray[Any]

CHUNK = 64
"""Components that are folded at a time."""
WIDEST = 1.5
"""How much wider the PSF may get by a factor that is traced, unless told otherwise."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cutouts:
    """Templates of some components on cutouts of one size.

    Attributes
    ----------
    values : array, shape (C, Q, R, H, W)
        Predicted counts per coefficient. Either ``R`` counts reconstructed energies; or it is one,
        ``Q`` counts true energies and ``edisp`` is still to be applied.
    edisp : array, shape (C, Q, E), or None
        Energy dispersion that is to be applied.
    y0, x0 : array of int, shape (C,)
        Pixel of the map at the lower left of each cutout.
    first : int
        Index of the first component; the others follow.
    turn : range or None
        Columns of the map if it closes on itself, see `jaxprof.sky.closed.whole_turn`.
    """

    values: Any
    edisp: Any
    y0: Any
    x0: Any
    first: int = field(default=0, metadata={"static": True})
    turn: range | None = field(default=None, metadata={"static": True})

    def __len__(self) -> int:
        return self.values.shape[0]


class Folding:
    """All components of a dataset, ready to be folded for any spectrum and PSF width.

    Parameters
    ----------
    dataset : MapDataset
        With exposure and PSF, as `dataset_to_fold` gives it.
    emissions : sequence of Emission
        One for each component.

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
            inner = inner_displacements(self.planes, part.start, chunk, curved)
            self.inputs.append(
                FoldingInput(
                    images=photons,
                    ratios=uneven_ratios(photons.shape[2:], chunk, narrowest),
                    kernel=which[part],
                    edisp=edisp[part],
                    y0=np.array([emission.y0 for emission in chunk]),
                    x0=np.array([emission.x0 for emission in chunk]),
                    first=part.start,
                    curved=curved,
                    inner=inner if curved.any() else None,
                    within=np.array([1 / 12 + e.variance() for e in chunk]).reshape(-1, 1, 1, 1),
                )
            )

    def halves(self, widest: float = 1.0) -> tuple[int, int]:
        """Pixels to where the PSF has ended, and to where it matters where in a pixel it began."""
        half = max(reach(k.rad, k.density, k.matrix, widest) for k in self.kernels)
        half = min(half, self.farthest)
        return half, min(int(np.ceil(self.radius * widest)) + 2, half)

    def kernel_images(self, half: int, psf_scale: Any = 1.0) -> list[Any]:
        """Kernels (T, 2 half + 1, 2 half + 1) with the PSF widened by a factor."""
        made = []
        for kernel in self.kernels:
            arguments = (kernel.rad, kernel.density, kernel.matrix)
            if kernel.offset is None:
                made.append(psf_kernel(*arguments, half, scale=psf_scale))
            else:
                made.append(psf_image(*arguments, kernel.offset, half, scale=psf_scale))
        return made

    def moment_kernels(self, number: int, degree: int, near: int, psf_scale: Any = 1.0) -> Any:
        """Kernels of the moments within a pixel, (orders - 1, T, 2 near + 1, 2 near + 1).

        Where in its pixel a photon starts matters nearby only.
        """
        kernel = self.kernels[number]
        arguments = (kernel.rad, kernel.density, kernel.matrix)
        found = psf_moments(*arguments, near, degree, scale=psf_scale)
        known = found if isinstance(found, np.ndarray) else psf_moments(*arguments, near, degree)
        # What is beyond the degrees that a wide PSF needs is the noise of its quadrature.
        total = np.array([a + b for a, b in orders(degree)])
        kept = total[:, np.newaxis] <= needed_degrees(known)
        return (found * kept[:, :, np.newaxis, np.newaxis])[1:]

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
            Flux in the true energies at norm one [cm-2 s-1]. Not used if ``per_true_energy``.
        psf_scale : float
            Factor by which the PSF is widened; may be traced.
        widest : float, optional
            Largest factor that the cutouts are to have room for; by default ``psf_scale``, or
            `WIDEST` if that is traced.
        per_true_energy : bool
            Whether to keep the true energies apart, for spectra with free parameters.

        Returns
        -------
        list of Cutouts
        """
        if widest is None:
            widest = WIDEST if isinstance(psf_scale, jax.core.Tracer) else float(psf_scale)
        half, near = self.halves(max(widest, 1.0))
        kernels = self.kernel_images(half, psf_scale)
        found = []
        for part in self.inputs:
            outer = self._outer(part, half)
            pieces = [
                self._fold_some(part, rows, kernels, near, flux, psf_scale, per_true_energy, outer)
                for rows in _equal_pieces(len(part.kernel))
            ]
            n = len(part.kernel)
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

    def _outer(self, part: FoldingInput, half: int) -> Array | None:
        """Displacements on the cutouts of a part."""
        if part.inner is None:
            return None
        h, w = (size + 2 * half for size in part.inner.shape[2:])
        origin = (part.y0 - half, part.x0 - half)
        return outer_displacements(self.planes, part.first, part.curved, origin, (h, w))

    def _fold_some(
        self,
        part: FoldingInput,
        rows: Array,
        kernels: list[Any],
        half_near: int,
        flux: Any,
        psf_scale: Any,
        per_true_energy: bool,
        outer: Array | None,
    ) -> Any:
        """Values of `Cutouts` for some components of a part."""
        which = part.kernel[rows]
        used, own = np.unique(which, return_inverse=True)
        shared = len(used) == 1
        kernel = kernels[used[0]] if shared else jnp.stack([kernels[k] for k in used])[own]
        ratios, near = None, None
        if part.ratios is not None:
            ratios = part.ratios[rows]
            degree = degree_of(1 + ratios.shape[1])
            tables = [self.moment_kernels(int(k), degree, half_near, psf_scale) for k in used]
            near = tables[0] if shared else jnp.moveaxis(jnp.stack(tables)[own], 1, 0)
        return _fold(
            part.images[rows],
            ratios,
            kernel,
            near,
            # Indexing outside of compiled code would be compiled on its own.
            (flux if isinstance(flux, np.ndarray) else jnp.asarray(flux))[part.first + rows],
            part.edisp[rows],
            None
            if part.inner is None or outer is None
            else (part.inner[rows], outer[rows], part.within[rows]),
            per_true_energy=per_true_energy,
            reco_psf=self.reco_psf,
        )


def _folded_over(values: Any, turn: range | None) -> Any:
    """Cutouts (..., W) of no more than one turn: further columns are added to the first."""
    if turn is None or values.shape[-1] <= len(turn):
        return values
    missing = -values.shape[-1] % len(turn)
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, len(turn)).sum(axis=-2)


@dataclass(frozen=True)
class Responses:
    """PSF and energy dispersion of the components.

    Attributes
    ----------
    kernels : list of Kernel
        Distinct kernels.
    which : ndarray of int, shape (C,)
        Kernel of each component.
    edisp : ndarray, shape (C, T, E)
        Energy dispersion of each.
    reco_psf : bool
        Whether the PSF is in reconstructed energy.
    problems : dict of int to str
        What is wrong, by the reconstructed energy whose prediction it spoils.
    """

    kernels: list[Kernel]
    which: Array
    edisp: Array
    reco_psf: bool
    problems: dict[int, str]


def responses(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission], images: Sequence[Array]
) -> Responses:
    """PSF and energy dispersion of components; ``images`` as for `mean_response`."""
    reco_psf = isinstance(dataset.psf, RecoPSFMap)
    kernels, which, psf_problems = distinct_kernels(dataset, geom, emissions, images)
    edisp, problems = _edisp(dataset, geom, emissions, images)
    for energy, problem in psf_problems.items():
        reached = [energy] if reco_psf else np.flatnonzero(edisp[:, energy].any(axis=0))
        for k in reached:
            problems.setdefault(int(k), problem)
    return Responses(kernels, which, edisp, reco_psf, problems)


def check_energies(problems: dict[int, str], used: Array) -> None:
    """Raise a ValueError if the response at an energy in use, (E,), is none."""
    for energy, problem in sorted(problems.items()):
        if used[energy]:
            raise ValueError(problem)


def _edisp(
    dataset: MapDataset, geom: WcsGeom, emissions: Sequence[Emission], images: Sequence[Array]
) -> tuple[Array, dict[int, str]]:
    """Energy dispersion (C, T, E) of the components; what is wrong, by reconstructed energy."""
    problems: dict[int, str] = {}

    def response(positions: SkyCoord, photons: Array) -> Array:
        cleaned, faults = edisp_kernels(dataset, positions)
        faults = np.where(photons[:, :, np.newaxis], faults, 0)
        for k in np.flatnonzero(faults.any(axis=(0, 1))):
            own = np.where(np.arange(faults.shape[2]) == k, faults, 0)
            problems.setdefault(int(k), edisp_error(dataset, own))
        return cleaned

    assert dataset.edisp is not None
    return mean_response(dataset.edisp, geom, emissions, images, response), problems


def _equal_pieces(n: int) -> list[Array]:
    """Indices in pieces of one length, `CHUNK` at most; the last repeats its end."""
    number = -(-n // CHUNK)
    size = -(-n // number)
    return [np.minimum(np.arange(i * size, (i + 1) * size), n - 1) for i in range(number)]


@jit_by_size(static_argnames=("per_true_energy", "reco_psf"))
def _fold(
    images: Any,
    ratios: Any,
    kernel: Any,
    near: Any,
    flux: Any,
    edisp: Any,
    displacements: Any,
    *,
    per_true_energy: bool,
    reco_psf: bool,
) -> Any:
    """Values (C, Q, R, H, W) of `Cutouts`."""
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
