"""The response of a joint fit: all that does not depend on counts and background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.reduce.joint.bins import (
    DisjointRegions,
    component_lists,
    disjoint_regions,
    reaching,
    region_sums,
)
from jaxprof.reduce.joint.components import (
    Components,
    component_emissions,
    warn_bins_off_map,
    warn_steep,
)
from jaxprof.reduce.joint.emission import Emission
from jaxprof.reduce.joint.fingerprint import (
    changed_component,
    component_fingerprints,
    dataset_fingerprints,
)
from jaxprof.reduce.joint.folding import Cutouts, Folding
from jaxprof.reduce.joint.kernels import check_energies
from jaxprof.reduce.joint.sphere import SphereFolding, folding_of
from jaxprof.reduce.region_checks import warn_solid_angles
from jaxprof.reduce.signal import check_expected
from jaxprof.sky.pixel_sums import check_uncut, member_pixels
from jaxprof.sky.regions import region_solid_angles
from jaxprof.sky.regions.pixels import region_members
from jaxprof.sky.regions.shapes import sky_shapes
from jaxprof.types import Array


@dataclass(frozen=True)
class DatasetResponse:
    """Response of one dataset."""

    name: str
    """Name of the dataset."""
    emissions: list[Emission]
    """Where the flux of each component starts."""
    folding: Folding | SphereFolding
    """Folds it for other spectra or PSF widths."""
    cutouts: list[Cutouts]
    """Templates of all components."""
    disjoint: DisjointRegions
    """Pixels of the fit."""
    lists: list[Array]
    """Components of each array of cutouts that reach each disjoint region."""
    components: Array
    """The same, in one list, (N, K)."""
    mask: Array
    """Pixels in use, at each reconstructed energy, (E, N, P)."""
    sums: Any
    """Templates summed over the pixels in use of each disjoint region, (N, K, Q, E)."""
    true_edges: Array
    """Edges of the true energies [TeV], (T + 1,)."""
    fingerprints: dict[str, str]
    """Digests of what it was made from."""

    def per_component(self, n_components: int) -> Array:
        """Counts in each disjoint region from each component per coefficient, (N, C, Q, E)."""
        n_disjoint, _, n_q, n_e = self.sums.shape
        found = np.zeros((n_disjoint, n_components, n_q, n_e))
        np.add.at(found, (np.arange(n_disjoint)[:, np.newaxis], self.components), self.sums)
        return found


@dataclass(frozen=True)
class ForwardResponse:
    """Response of a joint fit to all its datasets; `ForwardFoldingProfileEstimator.response`."""

    components: Components
    """What is fitted."""
    datasets: list[DatasetResponse]
    """One for each dataset."""
    per_true_energy: bool
    """Whether the templates are resolved by true energy, for spectra with free parameters."""
    mask_policy: str
    """What happened where a mask or the map's edge cuts a region."""
    fingerprints: dict[str, Any]
    """See `component_fingerprints`: the components are what users gave, which they may change."""
    other_spectrum: bool = False
    """Whether `refolded` gave it another spectrum than the components have."""

    def refolded(
        self, *, psf_scale: Any = 1.0, spectral_model: Any = None, widest: float | None = None
    ) -> ForwardResponse:
        """The response for a wider PSF or another spectrum; differentiable in both.

        Parameters
        ----------
        psf_scale : float
            Factor by which the PSF is widened; may be traced by JAX.
        spectral_model : SpectralModel, optional
            Spectrum of all bins and guard bins at norm one; its parameters may be traced. By
            default as it was. Not for a response with free spectral parameters.
        widest : float, optional
            Largest ``psf_scale`` to leave room for: what a wider PSF spreads further than that is
            lost. By default ``psf_scale`` itself, or 1.5 if that is traced.

        Returns
        -------
        ForwardResponse
            For the estimator's ``reduce``, whose result goes into `jaxprof.core.fit_joint`. With
            JAX arrays; in float64 only if the caller has enabled it. With another spectrum it is
            none for ``run``: the fluxes would be those of the estimator's own.

        Raises
        ------
        ValueError
            For a `spectral_model` where spectral parameters are fitted.
        """
        if spectral_model is not None and self.per_true_energy:
            raise ValueError(
                "spectral_model: this response leaves spectral parameters free, and their "
                "reference is the estimator's; give that another spectral_model"
            )
        other = self.other_spectrum or spectral_model is not None
        scale = {"psf_scale": psf_scale, "widest": widest}
        found = []
        for own in self.datasets:
            flux = jnp.asarray(self.components.flux(own.true_edges))
            if spectral_model is not None:
                new = spectral_model.integral(own.true_edges[:-1], own.true_edges[1:])
                flux = flux.at[: self.components.n_regions].set(new)
            found.append(_refolded(own, flux, per_true_energy=self.per_true_energy, **scale))
        return replace(self, datasets=found, other_spectrum=other)

    def per_energy(self) -> ForwardResponse:
        """The response resolved by true energy, for any spectrum."""
        found = [
            _refolded(own, self.components.flux(own.true_edges), per_true_energy=True)
            for own in self.datasets
        ]
        return replace(self, datasets=found, per_true_energy=True)

    def check(
        self,
        datasets: Sequence[MapDataset],
        components: Components,
        mask_policy: str,
        bins: Sequence[slice],
    ) -> None:
        """Make sure that the response is that of these datasets and components.

        ``bins`` are the reconstructed energies of all groups, for each dataset.

        Raises
        ------
        ValueError
            If anything that it was made from has changed; the message says what.
        """
        changed = changed_component(self.components, components)
        if changed is None:
            found = component_fingerprints(components)
            changed = next((name for name in found if found[name] != self.fingerprints[name]), None)
        if changed is None and mask_policy != self.mask_policy:
            changed = "mask_policy"
        if changed is not None:
            raise ValueError(
                f"response was made with other {changed} than the estimator has; make a new one "
                "with the estimator's response(datasets)"
            )
        if len(datasets) != len(self.datasets):
            raise ValueError(
                f"response is for {len(self.datasets)} datasets, and there are {len(datasets)}; "
                "make a new one with the estimator's response(datasets)"
            )
        for own, dataset, part in zip(self.datasets, datasets, bins, strict=True):
            found = dataset_fingerprints(dataset)
            other = [part for part in found if found[part] != own.fingerprints[part]]
            if not other and not np.array_equal(pixel_mask(dataset, own.disjoint), own.mask):
                other = ["mask"]
            if other:
                raise ValueError(
                    f"response was made for other {other[0]} than dataset {dataset.name!r} has; "
                    "make a new one with the estimator's response(datasets)"
                )
            # Other energies than those that the response was made for may be in use now.
            check_energies(own.folding.problems, energies_in_use(own.mask, part))


def _refolded(own: DatasetResponse, flux: Any, **how: Any) -> DatasetResponse:
    """The response of a dataset for other fluxes, see `Folding.cutouts`."""
    return replace(own, **_templates(own.folding, own.disjoint, own.mask, flux, **how))


def _templates(
    folding: Folding | SphereFolding, disjoint: DisjointRegions, mask: Array, flux: Any, **how: Any
) -> dict[str, Any]:
    """What a `DatasetResponse` has of its templates."""
    cutouts = folding.cutouts(flux, **how)
    lists = reaching(cutouts, disjoint)
    return {
        "cutouts": cutouts,
        "lists": lists,
        "components": component_lists(cutouts, lists),
        "sums": region_sums(cutouts, lists, disjoint, mask),
    }


def emission_sizes(
    components: Components, responses: Sequence[DatasetResponse]
) -> dict[str, Array]:
    """Solid angle (B,) that the emission of each bin is spread over, by the name of the dataset."""
    n_bins = components.n_bins
    return {
        own.name: np.array([each.solid_angle for each in own.emissions[:n_bins]])
        for own in responses
    }


def warn_rough_emissions(components: Components, responses: Sequence[DatasetResponse]) -> None:
    """Warn of bins whose emission is spread over a solid angle that is not theirs."""
    warn_solid_angles(
        emission_sizes(components, responses),
        region_solid_angles(components.regions),
        components.regions,
        "Emission is spread over these: use a larger oversampling or smaller pixels",
    )


def usable_mask(dataset: MapDataset) -> Array:
    """Where the data can be used, shape (E, ny, nx)."""
    mask = dataset.mask
    if isinstance(dataset, MapDatasetOnOff):
        # Without an ON or OFF acceptance a pixel's background is unknown: it tells nothing.
        mask = mask & (dataset.alpha.data > 0)
    return mask


def energies_in_use(mask: Array, bins: slice) -> Array:
    """Reconstructed energies (E,) within ``bins`` that any pixel of a mask (E, N, P) uses."""
    used = np.zeros(len(mask), bool)
    used[bins] = mask[bins].any(axis=(1, 2))
    return used


def pixel_mask(dataset: MapDataset, disjoint: DisjointRegions) -> Array:
    """Pixels of the disjoint regions that are in use, shape (E, N, P)."""
    return usable_mask(dataset)[:, disjoint.y, disjoint.x] & disjoint.used


def dataset_response(
    components: Components,
    dataset: MapDataset,
    bins: slice,
    *,
    per_true_energy: bool = False,
    mask_policy: str = "coverage",
) -> DatasetResponse:
    """Fold all components through the response of a dataset.

    ``bins`` are the reconstructed energies of all groups; only a mask within them can cut a region,
    which ``mask_policy="strict"`` refuses.
    """
    fingerprints = dataset_fingerprints(dataset)
    dataset = dataset_to_fold(dataset)
    emissions = component_emissions(components, dataset)
    warn_bins_off_map(components.regions, emissions[: components.n_bins], dataset)
    folding = folding_of(dataset, emissions)
    true = dataset.energy_axis_true.edges_tev()
    flux = components.flux(true)
    assert dataset.exposure is not None
    exposure = dataset.exposure.data * dataset.exposure.unit.to("cm2 s")
    check_expected(flux, exposure, dataset.name)
    regions = [*components.regions, *components.guards]
    shapes = sky_shapes(regions)
    members = member_pixels(region_members(shapes, dataset.geom), dataset.geom.npix_shape)
    warn_steep(folding.gradients, components, dataset.name)
    usable = usable_mask(dataset)
    if mask_policy == "strict":
        mask = usable[bins, members.y, members.x]
        check_uncut(mask, members, dataset.name, components.n_bins)
    disjoint = disjoint_regions(members, dataset.geom.npix_shape)
    mask = usable[:, disjoint.y, disjoint.x] & disjoint.used
    check_energies(folding.problems, energies_in_use(mask, bins))
    made = _templates(folding, disjoint, mask, flux, per_true_energy=per_true_energy)
    made["sums"] = np.asarray(made["sums"])
    return DatasetResponse(
        name=dataset.name,
        emissions=emissions,
        folding=folding,
        disjoint=disjoint,
        mask=mask,
        true_edges=true,
        fingerprints=fingerprints,
        **made,
    )
