"""The result of a flux profile estimation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from astropy.table import Table

from jaxprof.attributes import KnownAttributes
from jaxprof.datasets.gti import gti_table
from jaxprof.likelihood.data import Data
from jaxprof.profile.access import QuantityAccess, describe
from jaxprof.profile.checks import (
    FIXED,
    check_data,
    check_edges,
    check_energy_unit,
    check_goodness,
    check_models,
    check_nuisance,
    check_reference,
    check_threshold,
    refuse_fixed,
)
from jaxprof.profile.figures import ProfileFigures
from jaxprof.profile.files import ProfileFiles
from jaxprof.profile.html import profile_html
from jaxprof.profile.joint import JointAccess
from jaxprof.profile.quantities import (
    Array,
    check_quantities,
    check_sed_type,
    with_names,
)
from jaxprof.profile.reference import (
    bin_references,
    check_solid_angle,
    reference_fluxes,
    with_e2dnde,
    with_surface_brightness,
)
from jaxprof.profile.refits import ProfileRefits
from jaxprof.profile.slices import ProfileSlices
from jaxprof.sky.models import as_spectral_model
from jaxprof.sky.regions import ProfileAxis


class FluxProfile(
    KnownAttributes,
    JointAccess,
    ProfileSlices,
    ProfileRefits,
    ProfileFigures,
    ProfileFiles,
    QuantityAccess,
):
    """Norms and fluxes of the bins of a profile, in energy groups.

    Every quantity is an attribute. Those without a unit are arrays, fluxes and
    solid angles are quantities: ``profile.norm``, ``profile.flux_ul``. For each flux
    "dnde", "e2dnde", "flux" and "eflux" there are the value and, where the norm has them,
    ``_err``, ``_errn``, ``_errp``, ``_ul`` and ``_sensitivity``, all of shape (B, G), and
    ``_ref``, the flux at norm one, of shape (G,), or (B, G) if the bins have spectra of their
    own. `available_quantities` lists them all.

    Parameters
    ----------
    quantities : mapping of str to array
        First axes (B, G), bins and energy groups. ``norm`` is needed; known are
        ``norm_err``, ``norm_errn``, ``norm_errp``, ``norm_ul``, ``norm_ll``,
        ``norm_sensitivity``, ``ts``, ``stat``, ``stat_null``, ``success``,
        ``status`` (`~jaxprof.likelihood.data.Status`), ``coverage``; ``stat_scan`` and
        ``norm_scan`` (B, G, N); ``counts``, ``npred``,
        ``npred_excess``, ``npred_background`` and ``npred_excess_ref`` (the excess at norm
        one), (B, G) or with several data sets (B, G, D); ``solid_angle`` of the pixels of the
        regions and ``region_solid_angle`` of the regions themselves, (B,) in sr; ``name`` (B,),
        text. Of joint fits: ``norm_covariance`` (B, G, B), of norms ``[b, g]`` and ``[b2, g]``,
        for one standard deviation whatever ``n_sigma``; ``response`` (B, G, B), the counts in bin
        ``b`` from the emission of bin ``b2`` at norm one; ``stat_scan_conditional`` (B, G, N),
        with the other norms held, where ``stat_scan`` fits them again; ``npred_guard`` and
        ``npred_other``, the counts from guard bins and other sources. Others of shape (B, G) are
        kept as they are, such as fitted spectral parameters.
    axis : ProfileAxis
        Axis of the bins.
    energy_edges : array or Quantity, shape (G, 2)
        Edges of the energy groups, in TeV if plain; there may be gaps between them.
    reference_model : SpectralModel or None
        Spectral model at norm one; with `reference_models` the first of them, or None.
    regions : sequence of SkyRegion, optional
        One for each bin. If any has a name (``text={...}`` in a DS9 file), the profile has the
        quantity ``name``.
    dataset_names : sequence of str
        Names of the data sets.
    n_sigma, n_sigma_ul, n_sigma_sensitivity : float
        Numbers of standard deviations of errors, upper limits and sensitivities.
    sqrt_ts_threshold_ul : float
        ``is_ul`` is true where ``sqrt_ts`` is below it, unless it is set itself.
    gti : `~astropy.table.Table` or GTI of gammapy, optional
        Good time intervals; see `jaxprof.datasets.gti.gti_table`.
    sed_type_init : {"likelihood", "dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What tables, files and figures show if not told otherwise.
    likelihood_data : ProfileData, OnOffData or a tuple of these, optional
        What was fitted, arrays (B, G, E); lets `recompute_ul` work exactly.
    energy_unit : str or Unit, optional
        Unit that energies are shown in: ``energy_min`` and the like, tables and figures; that of
        the estimator's ``energy_edges``, or of `energy_edges` with one. Otherwise TeV, but figures
        and tables for papers choose a readable one. Files of FITS and ECSV are in TeV.
    meta : mapping, optional
        Anything else to keep.
    reference : mapping of str to array, shape (G,) or (B, G), optional
        "dnde", "flux" and "eflux" at norm one, in cm-2 s-1 TeV-1, cm-2 s-1 and TeV cm-2 s-1.
        By default those of the model; without a model it must be given.
    reference_models : list of SpectralModel, optional
        Spectral model at norm one of each bin, if they differ; fluxes at norm one then are
        (B, G).
    nuisance : `~astropy.table.Table`, optional
        Nuisance parameters: columns ``group`` (int), ``dataset`` and ``parameter`` (str),
        ``value``, ``error`` and ``fixed`` (bool).
    goodness : `~astropy.table.Table`, optional
        Goodness of fit, a row for each energy group: ``stat`` (cash with the saturated term),
        ``expected`` and ``std`` of it, ``n_counts_bins``, ``n_free`` and
        ``z = (stat - expected) / std``.
    reference_solid_angle : {"pixels", "region"}
        What the fluxes are those of: the pixels of a region (``solid_angle``) or the region itself
        (``region_solid_angle``). `surface_brightness` divides by it.

    Raises
    ------
    ValueError
        For arrays of a wrong shape, edges that are not increasing, an unknown name or
        sed type, or neither a model nor reference fluxes.
    AttributeError
        Later, if an attribute is set that a profile does not have, or that other values follow
        from: quantities, ``n_sigma_ul``.

    Notes
    -----
    ``sqrt_ts_threshold_ul``, ``is_ul``, ``gti``, ``meta``, ``sed_type_init``, ``energy_unit`` and
    names may be set later, and tables, files, figures and slices follow.
    """

    axis: ProfileAxis
    energy_edges: Array
    energy_unit: str | None
    shape: tuple[int, int]
    quantities: dict[str, Array]
    reference_model: Any
    regions: list[Any] | None
    dataset_names: tuple[str, ...]
    n_sigma: float
    n_sigma_ul: float
    n_sigma_sensitivity: float
    sqrt_ts_threshold_ul: float
    gti: Table | None
    sed_type_init: str
    likelihood_data: Data | None
    meta: dict[str, Any]
    reference_models: list[Any] | None
    nuisance: Table | None
    goodness: Table | None
    reference: dict[str, Array]
    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "gti": gti_table,
        "energy_unit": check_energy_unit,
        "sed_type_init": check_sed_type,
        "sqrt_ts_threshold_ul": check_threshold,
        "dataset_names": tuple,
        "meta": lambda meta: dict(meta or {}),
    }

    def __init__(
        self,
        quantities: Mapping[str, Any],
        *,
        axis: ProfileAxis,
        energy_edges: Any,
        reference_model: Any,
        regions: Sequence[Any] | None = None,
        dataset_names: Sequence[str] = (),
        n_sigma: float = 1,
        n_sigma_ul: float = 2,
        n_sigma_sensitivity: float = 5,
        sqrt_ts_threshold_ul: float = 2,
        gti: Any = None,
        sed_type_init: str = "likelihood",
        likelihood_data: Data | None = None,
        meta: Mapping[str, Any] | None = None,
        reference: Mapping[str, Any] | None = None,
        reference_models: Sequence[Any] | None = None,
        nuisance: Table | None = None,
        goodness: Table | None = None,
        reference_solid_angle: str = "pixels",
        energy_unit: Any = None,
    ) -> None:
        self.axis = axis
        self.energy_edges = check_edges(energy_edges)
        if energy_unit is None:
            energy_unit = getattr(energy_edges, "unit", None)
        self.energy_unit = energy_unit
        self.shape = (len(axis), len(self.energy_edges))
        reference_model = as_spectral_model(reference_model)
        self.reference_model = reference_model
        self.regions = None if regions is None else list(regions)
        if self.regions is not None and len(self.regions) != len(axis):
            raise ValueError(f"regions are {len(self.regions)}; give one a bin, {len(axis)}")
        self.quantities = check_quantities(with_names(quantities, self.regions), self.shape)
        self.dataset_names = tuple(dataset_names)
        self.n_sigma = n_sigma
        self.n_sigma_ul = n_sigma_ul
        self.n_sigma_sensitivity = n_sigma_sensitivity
        self.sqrt_ts_threshold_ul = sqrt_ts_threshold_ul
        self.gti = gti
        self.sed_type_init = sed_type_init
        self.likelihood_data = check_data(likelihood_data, self.shape)
        self.meta = dict(meta or {})
        self.reference_models = check_models(reference_models, len(axis))
        self.nuisance = check_nuisance(nuisance, self.shape[1])
        self.goodness = check_goodness(goodness, self.shape[1])
        self.reference_solid_angle = check_solid_angle(reference_solid_angle)
        if reference is not None:
            fluxes = check_reference(with_e2dnde(reference, self.energy_edges), self.shape)
        elif self.reference_models is not None:
            fluxes = bin_references(self.reference_models, self.energy_edges)
        elif reference_model is not None:
            fluxes = reference_fluxes(reference_model, self.energy_edges)
        else:
            raise ValueError("give reference_model, or the fluxes at norm one as reference")
        size = self.reference_solid_angle
        self.reference = with_surface_brightness(fluxes, self.quantities, size)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what may be set; the message says what to do for what may not."""
        refuse_fixed(name, vars(self))
        changed = name in vars(self)
        super().__setattr__(name, value)
        if changed and name == "sqrt_ts_threshold_ul":
            # What was set last holds, the rule or the mask, as in gammapy.
            self.is_ul = None

    @classmethod
    @cache
    def _options(cls) -> tuple[str, ...]:
        return (*(name for name in super()._options() if name not in FIXED), "is_ul")

    def __str__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        return profile_html(self)

    def __repr__(self) -> str:
        return f"<FluxProfile: {self.shape[0]} bins, {self.shape[1]} energy groups>"
