"""What can be done with a dataset: parts of it, sums, predictions and simulated counts."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from jaxprof.attributes import KnownAttributes
from jaxprof.datasets.stacking import stacked_parts
from jaxprof.irf import EDispKernelMap
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.grids import degrees_pair
from jaxprof.sky.models import SkyModel


class DatasetOperations(KnownAttributes):
    """Methods of `MapDataset` and `MapDatasetOnOff` that make other data, under gammapy's names."""

    counts: WcsNDMap | None
    _counts_like: tuple[str, ...]
    _name: str

    if TYPE_CHECKING:

        @property
        def geom(self) -> WcsGeom: ...  # noqa: D102

        @property
        def mask(self) -> NDArray[np.bool_]: ...  # noqa: D102

        def npred_background(self) -> WcsNDMap: ...  # noqa: D102

    @classmethod
    def create(
        cls,
        geom: WcsGeom,
        energy_axis_true: MapAxis | None = None,
        *,
        name: str | None = None,
        meta_table: Table | None = None,
    ) -> Self:
        """Make a dataset of zeros, to stack others on or to fill.

        Parameters
        ----------
        geom : WcsGeom
            Pixels and the axis "energy" (reconstructed).
        energy_axis_true : MapAxis, optional
            Axis "energy_true" of the exposure; by default that of the reconstructed energy.
        name : str, optional
            Default: the next "dataset-0", "dataset-1", ..., as in `MapDataset`.
        meta_table : `~astropy.table.Table`, optional
            A row per observation.

        Returns
        -------
        MapDataset or MapDatasetOnOff
            Maps of zeros, a ``mask_safe`` that is False everywhere, no PSF and no energy
            dispersion: `stack` takes them from what it adds. Whoever fills the maps sets
            ``mask_safe`` too, to None for instance.
        """
        true = geom.axis("energy").rename("energy_true")
        axis = true if energy_axis_true is None else energy_axis_true
        values = [part for part in cls._counts_like if not part.startswith(("mask", "npred"))]
        parts: dict[str, Any] = {part: WcsNDMap(geom) for part in values}
        parts["mask_safe"] = WcsNDMap(geom, np.zeros(geom.data_shape, bool))
        parts["exposure"] = WcsNDMap(geom.to_cube([axis]), unit="cm2 s")
        return cls(**parts, name=name, meta_table=meta_table)  # type: ignore[call-arg]

    def copy(self, name: str | None = None) -> Self:
        """Copy with maps and responses of its own.

        Parameters
        ----------
        name : str, optional
            Name of the copy; by default the next "dataset-0", ..., as two datasets of one fit need
            different names.

        Returns
        -------
        MapDataset or MapDatasetOnOff
        """
        parts = {}
        for part in self._options():
            value = getattr(self, part)
            if isinstance(value, WcsNDMap | Table):
                value = value.copy()
            # Models cannot be changed, responses can.
            parts[part] = list(value) if isinstance(value, list) else copy.deepcopy(value)
        return self._with(parts, name)

    def cutout(self, position: SkyCoord, width: Any, *, name: str | None = None) -> Self:
        """Part of the dataset around a position.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            Centre.
        width : angle or (lon, lat)
            Size; plain numbers in deg. What leaves the map is trimmed.
        name : str, optional
            Name of the part; by default eight random characters.

        Returns
        -------
        MapDataset or MapDatasetOnOff
            With copies of these pixels, and the same responses and models. An exposure on coarser
            pixels keeps two more of them on each side, so that it is interpolated as before; all of
            them where its seam runs through the part.

        Raises
        ------
        ValueError
            If nothing of the part is on the map.
        """
        parts = {part: getattr(self, part) for part in self._options()}
        for part in self._counts_like:
            if parts[part] is not None:
                parts[part] = parts[part].cutout(position, width)
        cut = [parts[part].geom for part in self._counts_like if parts[part] is not None]
        exposure = parts["exposure"]
        if exposure is not None and (not cut or exposure.geom.is_allclose_image(self.geom)):
            parts["exposure"] = exposure.cutout(position, width)
        elif exposure is not None:
            parts["exposure"] = _coarse_cutout(exposure, cut[0], position, width)
        return self._with(parts, name)

    def downsample(self, factor: int, *, name: str | None = None) -> Self:
        """The dataset on pixels that are larger by a whole number.

        Parameters
        ----------
        factor : int
            Pixels along each side that become one; it must divide the numbers of pixels.
        name : str, optional
            Name of the new one; by default eight random characters.

        Returns
        -------
        MapDataset
            Counts and background are those within ``mask_safe``, summed; exposures are means; a
            pixel of a mask is true if all of its parts are. Responses and models are the same, and
            so is an exposure that is on other pixels than the counts.

        Raises
        ------
        ValueError
            If the factor does not divide the numbers of pixels, or for On-Off datasets, whose
            ratios of acceptances belong to their pixels.
        """
        parts = {part: getattr(self, part) for part in self._options()}
        if "counts_off" in parts:
            raise ValueError("datasets with OFF counts cannot be downsampled; reduce larger pixels")
        geom, mask = self.geom, parts["mask_safe"]
        for part in self._counts_like:
            if parts[part] is not None:
                weights = None if part.startswith("mask") else mask
                parts[part] = parts[part].downsample(factor, weights=weights)
        exposure = parts["exposure"]
        if exposure is not None and exposure.geom.is_allclose_image(geom):
            parts["exposure"] = exposure.downsample(factor, preserve_counts=False)
        return self._with(parts, name)

    def slice_by_energy(
        self, energy_min: Any = None, energy_max: Any = None, *, name: str | None = None
    ) -> Self:
        """Part of the dataset between two reconstructed energies.

        Parameters
        ----------
        energy_min, energy_max : Quantity or str, optional
            They snap to the nearest edges, in log energy; by default the ends of the axis.
        name : str, optional
            Name of the part; by default eight random characters.

        Returns
        -------
        MapDataset or MapDatasetOnOff
            With the true energies as before.

        Raises
        ------
        ValueError
            If no bin lies between the energies.
        """
        axis = self.geom.axis("energy")
        low = axis.edges[0] if energy_min is None else _energy("energy_min", energy_min)
        high = axis.edges[-1] if energy_max is None else _energy("energy_max", energy_max)
        edges = axis.edges_tev()
        start, stop = (
            int(np.argmin(np.abs(np.log(edges / energy.to_value("TeV"))))) for energy in (low, high)
        )
        if not start < stop:
            raise ValueError(
                f"energy_min={low:g}, energy_max={high:g}: no energy bin of dataset {self._name!r} "
                f"lies between them; it has {axis.nbin} from {axis.edges[0]:g} to "
                f"{axis.edges[-1]:g}"
            )
        sliced = MapAxis.from_edges(
            axis.edges[start : stop + 1], name=axis.name, interp=axis.interp
        )
        parts = {part: getattr(self, part) for part in self._options()}
        for part in self._counts_like:
            if (map_ := parts[part]) is not None:
                data = map_.data[start:stop].copy()
                parts[part] = WcsNDMap(map_.geom.to_cube([sliced]), data, map_.unit)
        if isinstance(edisp := parts["edisp"], EDispKernelMap):
            parts["edisp"] = EDispKernelMap(
                edisp.data[:, start:stop],
                sliced,
                edisp.energy_axis_true,
                edisp.geom,
                exposure=edisp.exposure,
            )
        return self._with(parts, name)

    def stack(self, other: Self) -> None:
        r"""Add another dataset to this one, which changes.

        Parameters
        ----------
        other : MapDataset or MapDatasetOnOff
            On the same pixels, or on a part of them; what lies beyond them is lost. Of gammapy too.

        Raises
        ------
        ValueError
            If pixels, axes or kinds of data and responses differ, a dataset lacks what the other
            has, or a response has no exposure to be weighted with. Nothing changes then.

        Warns
        -----
        UserWarning
            If the masks of a pixel differ from energy to energy, and the energy dispersion is no
            matrix, which could take that into account.

        Notes
        -----
        With the masks :math:`m_k` (``mask_safe``) of the two datasets the counts are
        :math:`\sum_k m_k n_k`, the background likewise, and the mask where either is. Exposures of
        pixels with any energy inside the mask are summed, PSF and energy dispersion averaged with
        them as weights, a matrix of the energy dispersion with each dataset's mask besides: see
        "Stacking multiple datasets" in gammapy's documentation. Here ``mask_safe`` holds for both,
        as in its formula, while gammapy 2.1 leaves out that of the first. Two datasets that are
        fitted jointly, as a list, tell more than their sum.
        """
        from jaxprof.datasets.gammapy import as_datasets

        added = as_datasets(other)
        if not isinstance(added, DatasetOperations):
            raise ValueError(f"other is a {type(other).__name__}; give one dataset to be stacked")
        for part, value in stacked_parts(self, added).items():  # type: ignore[arg-type]
            setattr(self, part, value)

    def npred_signal(self, models: SkyModel | Iterable[SkyModel] | None = None) -> WcsNDMap:
        """Predicted counts of models.

        Parameters
        ----------
        models : SkyModel or iterable of SkyModel, optional
            By default the dataset's own, without those that are for other datasets.

        Returns
        -------
        npred : WcsNDMap
            As the counts, in float64; see `jaxprof.predicted_counts`.
        """
        from jaxprof.reduce.joint.expectation import predicted_counts

        own = getattr(self, "models", [])
        found = [m for m in own if m.is_in(self._name)] if models is None else models
        if isinstance(found, list) and not found:
            return WcsNDMap(self.geom)
        return predicted_counts(self, found)  # type: ignore[arg-type]

    def npred(self) -> WcsNDMap:
        """Predicted counts of background and models.

        Returns
        -------
        npred : WcsNDMap
            As the counts, in float64.
        """
        return WcsNDMap(self.geom, self.npred_background().data + self.npred_signal().data)

    @property
    def excess(self) -> WcsNDMap:
        """Counts minus the predicted background."""
        if self.counts is None:
            raise ValueError(f"dataset {self._name!r} has no counts")
        return WcsNDMap(self.geom, self.counts.data - self.npred_background().data)

    def fake(self, random_state: Any = None) -> None:
        """Replace the counts by Poisson random numbers of what is predicted.

        Parameters
        ----------
        random_state : int, `numpy.random.Generator` or `numpy.random.RandomState`, optional
            Where the random numbers come from; by default different ones each time.

        Raises
        ------
        ValueError
            If a prediction inside the masks is negative or not a number. Outside there are no
            counts then.
        """
        self.counts = poisson_map(self.npred(), random_generator(random_state), self.mask)

    def _with(self, parts: dict[str, Any], name: str | None) -> Self:
        known = {part: value for part, value in parts.items() if not _is_absent(value)}
        return type(self)(**known, name=name)  # type: ignore[call-arg]


def _coarse_cutout(exposure: WcsNDMap, geom: WcsGeom, position: SkyCoord, width: Any) -> WcsNDMap:
    """Part of an exposure on coarser pixels that serves those of a geometry."""
    more = 4 * exposure.geom.pixel_scales
    found = exposure.cutout(position, degrees_pair(width, "width") * u.deg + more)
    coord = geom.get_coord()
    there, still = (own.holds(*own.pixel_coordinates(coord)) for own in (exposure.geom, found.geom))
    return exposure.copy() if np.any(there & ~still) else found


def _energy(name: str, value: Any) -> u.Quantity:
    try:
        energy = u.Quantity(value).to("TeV")
    except (u.UnitsError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}; give an energy, such as 1 * u.TeV") from error
    if not energy.isscalar or not 0 < energy.value < np.inf:
        raise ValueError(f"{name} is {value!r}; give one positive energy")
    return u.Quantity(value)


def _is_absent(part: Any) -> bool:
    return part is None or (isinstance(part, list) and not part)


def random_generator(random_state: Any) -> Any:
    """Random numbers of numpy, from a seed or as they are given."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if isinstance(random_state, WcsNDMap):
        raise ValueError("random_state is a map; give a background as npred_background=")
    return np.random.default_rng(random_state)


def poisson_map(npred: WcsNDMap, generator: Any, mask: NDArray[np.bool_]) -> WcsNDMap:
    """Map of Poisson random numbers, in float64; zero where a prediction outside a mask is none."""
    wrong = ~((npred.data >= 0) & (npred.data < np.inf))
    bad = wrong & mask
    if bad.any():
        first = tuple(int(k) for k in np.unravel_index(np.argmax(bad), bad.shape))
        raise ValueError(
            f"the predicted counts are negative or not finite in {np.count_nonzero(bad)} bins "
            f"inside the mask, first {npred.data[first]} at (energy, y, x) = {first}"
        )
    return WcsNDMap(npred.geom, generator.poisson(np.where(wrong, 0.0, npred.data)).astype(float))
