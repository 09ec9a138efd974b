"""Binned gamma-ray data: counts with their background, exposure, responses and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, ClassVar

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from jaxprof.datasets.checks import (
    check_edisp_axes,
    check_exposure_pixels,
    check_plain_numbers,
    check_same_geom,
    refuse_array,
    warn_unreached,
)
from jaxprof.datasets.folding import exposure_on_counts, true_energies_in_use
from jaxprof.datasets.from_files import FromOtherFiles
from jaxprof.datasets.gti import gti_table
from jaxprof.datasets.operations import DatasetOperations
from jaxprof.datasets.summary import dataset_html, dataset_summary
from jaxprof.irf import EDispKernelMap, EDispMap, PSFMap
from jaxprof.irf.gammapy import as_irf
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.gammapy import as_map
from jaxprof.sky.models import SkyModel, model_list
from jaxprof.user_warning import warn_user

EXPOSURE_UNIT = u.cm**2 * u.s

_MAPS = ("counts", "background", "exposure", "npred_sources")


def map_of_part(part: str, value: Any) -> Any:
    """A map of this package or of gammapy; a ValueError for an array, which has no pixels."""
    return as_map(refuse_array(part, value))


def _as_mask(part: str, value: Any) -> WcsNDMap | None:
    mask = map_of_part(part, value)
    if mask is None or mask.is_mask:
        return mask
    return WcsNDMap(mask.geom, mask.data != 0)


def models_or_none(models: Any) -> list[SkyModel]:
    """A list of sky models, empty for None."""
    return [] if models is None else model_list(models)


_numbers = count()
"""Of the datasets without a name."""


def _check_one_axis(part: str, geom: WcsGeom, name: str) -> None:
    names = [axis.name for axis in geom.axes]
    if names != [name]:
        raise ValueError(f"{part} must have the one axis {name!r}, got {names}")


class MapDataset(FromOtherFiles, DatasetOperations):
    """Counts cube with background model, exposure and instrument responses.

    Any part may be missing; `check` tells what a profile needs.

    Parameters
    ----------
    counts : WcsNDMap, optional
        Counts with one axis "energy" (reconstructed), without unit (or in counts or photons).
    background : WcsNDMap, optional
        Predicted background counts, as `counts`.
    exposure : WcsNDMap, optional
        Effective area times time with one axis "energy_true", on the same pixels or on coarser
        ones, from which it is interpolated (`WcsNDMap.interp_to_geom`).
    edisp : EDispKernelMap or EDispMap, optional
        Energy dispersion; none means that true and reconstructed energy agree: the spectrum tells
        how photons of a true bin are shared by the reconstructed ones that it reaches over.
    psf : PSFMap or RecoPSFMap, optional
        Point spread function, per true or per reconstructed energy.
    mask_safe, mask_fit : WcsNDMap, optional
        True where the data may be used, as `counts`; both must be.
    gti : `~astropy.table.Table` or GTI of gammapy, optional
        Good time intervals, kept for writing; see `jaxprof.datasets.gti.gti_table`.
    meta_table : `~astropy.table.Table`, optional
        A row per observation, kept for writing.
    name : str, optional
        Default: "dataset-0" for the first of a process without one, then "dataset-1", ...
    npred_sources : WcsNDMap, optional
        Predicted counts of other sources, as `counts`; they join the background.
    models : SkyModel or iterable of SkyModel, optional
        Other sources, which join the background as well: the estimators fold them through exposure,
        PSF and energy dispersion (`predicted_counts`), and the profile is that of the rest. Their
        attribute ``free`` does not matter. They are not written to files.

    Raises
    ------
    ValueError
        If pixels, axes or units of the parts do not fit together, or a part is not one.
    AttributeError
        Later, if an attribute is set that a dataset does not have.

    Notes
    -----
    Parts are attributes, which may be set later; maps, responses and models may be gammapy's.
    ``models`` is a list, empty without any. Each run of an estimator folds them again; for many
    runs, set ``npred_sources`` to what `predicted_counts` gives for them.
    """

    counts: WcsNDMap | None
    background: WcsNDMap | None
    exposure: WcsNDMap | None
    edisp: EDispKernelMap | EDispMap | None
    psf: PSFMap | None
    mask_safe: WcsNDMap | None
    mask_fit: WcsNDMap | None
    gti: Table | None
    meta_table: Table | None
    npred_sources: WcsNDMap | None
    models: list[SkyModel]
    _name: str
    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **{part: partial(map_of_part, part) for part in _MAPS},
        **dict.fromkeys(("edisp", "psf"), as_irf),
        **{part: partial(_as_mask, part) for part in ("mask_safe", "mask_fit")},
        "gti": gti_table,
        "models": models_or_none,
    }
    stat_type = "cash"
    _counts_like: tuple[str, ...] = (
        "counts",
        "background",
        "npred_sources",
        "mask_safe",
        "mask_fit",
    )

    def __init__(
        self,
        *,
        counts: WcsNDMap | None = None,
        background: WcsNDMap | None = None,
        exposure: WcsNDMap | None = None,
        edisp: EDispKernelMap | EDispMap | None = None,
        psf: PSFMap | None = None,
        mask_safe: WcsNDMap | None = None,
        mask_fit: WcsNDMap | None = None,
        gti: Any = None,
        meta_table: Table | None = None,
        name: str | None = None,
        npred_sources: WcsNDMap | None = None,
        models: Any = None,
    ) -> None:
        self.counts = counts
        self.background = background
        self.exposure = exposure
        self.edisp = edisp
        self.psf = psf
        self.mask_safe = mask_safe
        self.mask_fit = mask_fit
        self.gti = gti
        self.meta_table = meta_table
        self.npred_sources = npred_sources
        self.models = models
        self._name = str(name) if name else f"dataset-{next(_numbers)}"
        self._check_geometry()

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self._name

    @property
    def has_geom(self) -> bool:
        """Whether there is any map on the pixels of the counts."""
        return any(getattr(self, part) is not None for part in self._counts_like)

    @property
    def geom(self) -> WcsGeom:
        """Pixels and energy axis of the counts."""
        for part in self._counts_like:
            if (map_ := getattr(self, part)) is not None:
                return map_.geom
        raise ValueError(f"dataset {self.name!r} has no counts")

    @property
    def energy_axis(self) -> MapAxis:
        """Reconstructed-energy axis."""
        return self.geom.axis("energy")

    @property
    def energy_axis_true(self) -> MapAxis:
        """True-energy axis of the exposure."""
        if self.exposure is None:
            raise ValueError(f"dataset {self.name!r} has no exposure")
        return self.exposure.geom.axis("energy_true")

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where both masks allow the use of the data, shape ``(n_energy, ny, nx)``."""
        mask = np.ones(self.geom.data_shape, dtype=bool)
        for part in (self.mask_safe, self.mask_fit):
            if part is not None:
                mask &= part.data.astype(bool, copy=False)
        return mask

    def npred_background(self) -> WcsNDMap:
        """Predicted counts of `background` and `npred_sources`.

        Returns
        -------
        npred : WcsNDMap
            In float64, as the counts; zeros if the dataset has neither. Without `models`, whose
            counts are ``predicted_counts(dataset, dataset.models)``.
        """
        parts = [part for part in (self.background, self.npred_sources) if part is not None]
        total = parts[0].data.astype(float) if parts else np.zeros(self.geom.data_shape)
        for part in parts[1:]:
            total += part.data
        return WcsNDMap(self.geom, total)

    def _check_geometry(self) -> None:
        parts = [part for part in self._counts_like if getattr(self, part) is not None]
        for part in parts:
            geom = getattr(self, part).geom
            _check_one_axis(part, geom, "energy")
            check_same_geom(part, geom, parts[0], self.geom)
            if part in self._value_parts():
                check_plain_numbers(part, getattr(self, part).unit)
        if self.exposure is not None:
            geom = self.exposure.geom
            _check_one_axis("exposure", geom, "energy_true")
            if parts:
                check_exposure_pixels(geom, parts[0], self.geom)
            if not self.exposure.unit.is_equivalent(EXPOSURE_UNIT):
                raise ValueError(
                    f"exposure has the unit {self.exposure.unit.to_string()!r}, which does not "
                    "convert to cm2 s (area times time)"
                )
        if self.edisp is not None:
            check_edisp_axes(
                self.edisp,
                None if self.exposure is None else self.energy_axis_true,
                self.energy_axis if parts else None,
            )

    def check(self) -> None:
        """Make sure that a profile can be computed.

        Only what is inside the mask matters; the exposure matters where any energy of a
        pixel is inside, at true energies that reach one that is.

        Raises
        ------
        ValueError
            If counts or exposure are missing, maps that were assigned later do not fit
            together, or there are NaN, infinite or negative values in the counts, background
            or exposure. The message names the map, the number of such values and the first
            of them. (Responses are checked by the estimators, which know what is used.)

        Warns
        -----
        UserWarning
            For pixels beyond an exposure on coarser pixels, where it is zero.
        """
        self._require("counts", "exposure")
        self._check_geometry()
        mask = self._mask_of_values()
        for part in self._value_parts():
            map_ = getattr(self, part)
            if map_ is not None and not part.startswith("acceptance"):
                self._check_values(part, map_.data, mask)
        self._check_exposure(mask)

    def _mask_of_values(self) -> NDArray[np.bool_]:
        """Where values matter."""
        return self.mask

    def _check_exposure(self, mask: NDArray[np.bool_]) -> None:
        assert self.exposure is not None
        exposure = exposure_on_counts(self)
        if exposure is not self.exposure:
            used = np.asarray(mask.any(axis=0))
            warn_unreached(self.name, self.exposure.geom, self.geom, used)
        if not self._all_allowed("exposure", exposure.data):
            energies = true_energies_in_use(self, np.asarray(mask.any(axis=(1, 2))))
            used = energies[:, np.newaxis, np.newaxis] & mask.any(axis=0)
            self._check_values("exposure", exposure.data, used)

    def _value_parts(self) -> tuple[str, ...]:
        return ("counts", "background", "npred_sources")

    def _require(self, *parts: str) -> None:
        missing = [part for part in parts if getattr(self, part) is None]
        if missing:
            raise ValueError(f"dataset {self.name!r} has no {' and no '.join(missing)}")

    def _check_values(self, part: str, data: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        if self._all_allowed(part, data):
            return
        bad = ~((data >= self._lowest_allowed(part, data)) & (data < np.inf)) & mask
        if bad.any():
            first = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
            raise ValueError(
                f"{part} of dataset {self.name!r} is NaN, infinite or negative in "
                f"{np.count_nonzero(bad)} bins inside the mask, first {data[first]} at "
                f"(energy, y, x) = {first}; mask these bins or mend the map"
            )

    def _all_allowed(self, part: str, data: NDArray[Any]) -> bool:
        """Whether all values are, masked ones too; NaN fails the comparisons."""
        if data.dtype.kind in "ub":
            return True
        if data.dtype.kind == "c":
            raise ValueError(f"{part} of dataset {self.name!r} is complex; give real numbers")
        return bool(np.min(data) >= self._lowest_allowed(part, data) and np.max(data) < np.inf)

    def _lowest_allowed(self, part: str, data: NDArray[Any]) -> float:
        return 0.0

    @classmethod
    def read(cls, path: str | os.PathLike[str], name: str | None = None) -> MapDataset:
        """Read a dataset from a FITS file in gammapy's format.

        Parameters
        ----------
        path : str or path-like
            ``$VARIABLES`` and ``~`` are expanded; may be gzipped.
        name : str, optional
            Name of the dataset; by default the one in the file, if it has one.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, not a dataset, of the other kind (On-Off or not), or
            its parts do not fit together.
        """
        from jaxprof.io.mapdataset import read_map_dataset

        def make(**parts: Any) -> MapDataset:
            return cls(**(parts if name is None else parts | {"name": name}))

        return read_map_dataset(path, make, on_off=cls.stat_type == "wstat")

    def write(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the dataset to a FITS file that gammapy reads.

        Parameters
        ----------
        path : str or path-like
            Ends in ".fits" or, to be compressed, ".fits.gz"; ``$VARIABLES`` and ``~`` are
            expanded, symbolic links are followed.
        overwrite : bool
            Whether an existing file may be replaced. It keeps its permissions.

        Raises
        ------
        OSError
            FileExistsError if the file exists and `overwrite` is false; others if the folder
            does not exist or may not be written to. The file appears in one step or not at all.
        ValueError
            For another extension, or if the dataset has `npred_sources`, for which the format
            has no place.

        Warns
        -----
        UserWarning
            If the dataset has `models`: the file is without them, as gammapy's are, which keeps
            models in files of their own. Set them again on what is read.
        """
        from jaxprof.io.mapdataset import write_map_dataset

        if self.models:
            names = ", ".join(repr(model.name) for model in self.models)
            warn_user(
                f"dataset {self.name!r} is written without its models {names}, for which the file "
                "format has no place; set them again on the dataset that is read"
            )
        write_map_dataset(self, path, overwrite=overwrite)

    def __str__(self) -> str:
        return dataset_summary(self)

    def _repr_html_(self) -> str:
        return dataset_html(self)

    def __repr__(self) -> str:
        named = (*self._counts_like, "exposure", "edisp", "psf")
        parts = [part for part in named if getattr(self, part) is not None]
        if self.models:
            parts.append(f"models={[model.name for model in self.models]}")
        return f"{type(self).__name__}({', '.join([repr(self.name), *parts])})"
