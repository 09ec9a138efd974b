"""The estimator that users configure and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.estimators.configuration import COMMON_CHECKS, ProfileEstimator
from jaxprof.estimators.fit_warnings import (
    warn_infinite_significance,
    warn_masked,
    warn_negative_limits,
    warn_no_sensitivity,
    warn_nothing_known,
    without_background,
)
from jaxprof.estimators.options import one_of
from jaxprof.estimators.precision import PRECISIONS, in_default_precision, in_precision
from jaxprof.estimators.separate_fits import predictions, separate_fits
from jaxprof.estimators.stack import StackEntry, check_groups
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.likelihood import BinGeometry, Likelihood
from jaxprof.likelihood.data import Data, NormFit
from jaxprof.likelihood.stacking import side_by_side
from jaxprof.profile import FluxProfile
from jaxprof.profile.quantities import SOLID_ANGLES
from jaxprof.reduce.bin_geometry import bin_geometry
from jaxprof.reduce.likelihood import separate_likelihood
from jaxprof.reduce.nuisances import energies_scaled, nuisances
from jaxprof.reduce.region_view import MASK_POLICIES, ReductionSettings
from jaxprof.reduce.separate import Reduction, RegionsOnMaps, reduce_datasets
from jaxprof.types import Array


class FluxProfileEstimator(ProfileEstimator):
    """Estimate the flux in each of a list of sky regions and in groups of energies.

    For each region and energy group the norm of a reference spectrum is fitted to the counts with a
    Poisson likelihood. All of them are solved at once.

    Parameters
    ----------
    regions : list of SkyRegion, regions.Regions or RegionGeom
        Bins of the profile, at least two. Text labels of DS9 files are left out, with a warning;
        names of regions, ``text={...}`` there, become the quantity ``name`` of the profile.
    spectral_model : SpectralModel, optional
        Reference spectrum, by default a power law of index 2. ``spectrum`` is the older name.
    energy_edges : Quantity, shape (G + 1,)
        Edges of the energy groups; they snap to the nearest edges of the data's reconstructed axis,
        with a warning where that moves one by more than a third of a bin or cuts it at the end of
        the data. By default 1 to 10 TeV.
    n_sigma : float
        Number of standard deviations of ``norm_err``, ``norm_errn`` and ``norm_errp``.
    n_sigma_ul : float, optional
        Number of standard deviations of the upper limits, by default 2 (95.45 %, two-sided).
    cl : float, optional
        The same as a probability, such as 0.95, in the place of `n_sigma_ul`; whatever
        `interval`, an interval has the probability ``cl`` of its kind, that of ``n_sigma_ul``
        standard deviations.
    interval : {"profile", "one-sided", "bounded", "feldman-cousins", "cls", "bayesian"}
        Kind of the upper limits, see `jaxprof.intervals`. Norms of the default may be negative, and
        so may be their limits; "bounded", "feldman-cousins", "cls" and "bayesian" are those of
        norms that are not. Kinds with two ends have the lower one as ``norm_ll``. ``norm_errn`` and
        ``norm_errp`` are those of "profile" always.
    n_sigma_sensitivity : float
        Significance of the sensitivity.
    selection_optional : list of str or "all", optional
        Quantities beyond ``norm`` and ``norm_err``: any of ``"errn-errp"``, ``"ul"``, ``"scan"``
        (at 11 norms from 0.2 to 5 as gammapy's, see `norm`), ``"sensitivity"``.
    sum_over_energy_groups : bool
        Whether the energies of a group are summed before the fit. By default each
        reconstructed energy is a term of the likelihood.
    norm : NormParameter or dict, optional
        Bounds of the norm, and where it is scanned: ``norm={"scan_n_sigma": 3}`` follows the errors
        of each bin, ``{"scan_values": np.linspace(-1, 5, 61)}`` is the same for all.
    mask_policy : {"coverage", "mean-exposure", "strict"}
        What happens where a mask or the map's edge cuts a region. ``"coverage"`` (the default)
        takes the exposure that the unmasked part saw, so that the norm is that of the whole
        region's flux. ``"mean-exposure"`` takes the mean exposure over the region's pixels
        whatever the mask, as gammapy 1.x does, which makes the norm of a cut region too low.
        ``"strict"`` refuses cut regions, as gammapy 2.1 does.
    likelihood : {"region", "pixel"}
        Whether the pixels of a region are summed, or each is a Poisson term with its own
        background. With On-Off data pixels need many OFF counts each, otherwise the norms are
        biased; a warning says so.
    reference_solid_angle : {"pixels", "region"}
        What the fluxes are those of: the pixels whose centres lie in the region (the default, as in
        gammapy), or the region itself, if its emission is even. The two solid angles,
        ``profile.solid_angle`` and ``profile.region_solid_angle``, differ where a region is a few
        pixels wide. With ``"region"`` norms and fluxes are larger by their ratio, whatever
        `mask_policy` and `likelihood`: the pixels have their share of the region's flux. The
        surface brightness is the same either way.
    source : str or list of str, optional
        Models of the datasets (`MapDataset.models`, or those attached to gammapy's) that are no
        background, by name: what they stand for is to be measured. By default all are background.
    precision : {"float64", "float32"}
        What fits are computed in. float32 takes half the memory and is good to a thousandth of an
        error; it is meant for GPUs, no faster on a CPU. Kinds of limits other than "profile" are
        in float64 always.
    spectrum : SpectralModel, optional
        The older name of ``spectral_model``.

    Raises
    ------
    TypeError
        For an unknown option.
    ValueError
        For fewer than two regions, energy edges that are not increasing energies, or values that an
        option does not take.

    Notes
    -----
    Options are attributes. Those assigned later are checked and completed as those given at first.

    A norm may be negative, and then its upper limit may be too, where counts are far below their
    background: it is the end of an interval around the norm, and no limit on a flux. A warning says
    so. With ``interval="bounded"``, or ``norm={"min": 0}``, it is above zero. Limits of the default
    kind end at bounds of the norm: ``norm_ul`` is the bound where that comes first, and
    ``norm_errn`` or ``norm_errp`` is NaN then.

    Where the background is zero, any count is infinitely significant: ``ts`` compares with a floor
    of 1e-25 expected counts, as gammapy's does, and ``norm_sensitivity`` is NaN, with warnings.
    With On-Off data and no OFF counts it is that of an unknown background, and needs no floor.
    """

    _checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        **COMMON_CHECKS,
        "mask_policy": partial(one_of, "mask_policy", valid=MASK_POLICIES),
        "reference_solid_angle": partial(one_of, "reference_solid_angle", valid=SOLID_ANGLES),
        "precision": partial(one_of, "precision", valid=PRECISIONS),
    }

    def reduce(
        self,
        datasets: Any,
        *,
        spectrum: str = "fixed",
        exposure: Any = "fixed",
        energy_scale: Sequence[float] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> Likelihood:
        """Reduce datasets to the likelihood of the fits, without fitting.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
        spectrum : {"fixed", "free"}
            Whether the spectrum is part of the templates, or the true energies are kept: then the
            likelihood takes a spectral model among its parameters, which all bins share or which
            each has of its own. Exposures that ``mask_policy="mean-exposure"`` gives to the pixels
            of ``likelihood="pixel"`` stay those of the reference spectrum.
        exposure : str, float, list or dict
            How the exposure of each dataset is fitted: "fixed", "free" or the width of a Gaussian
            constraint around one. A list gives one for each dataset, a dict one by name. If any is
            fitted ``exposure`` is among ``params()``.
        energy_scale : sequence of float, optional
            Factors on the energies that the signal is reconstructed at, in increasing order; counts
            and background stay where they are. Between the first and the last the likelihood has a
            parameter ``energy_scale``, which interpolates templates by the polynomial through
            these. For a tenth ln L is right to 0.001 with three of them at 1e3 counts of the
            signal, with five at 1e5, if the true bins are finer than the energy resolution:
            where they are as wide, predictions are not smooth in the scale. Densities in migra are
            scaled; matrices are taken at true energies that are higher by the factor; without
            energy dispersion what starts beyond the true energies is lost.
        constraints : dict, optional
            Widths of Gaussian constraints around one, as ``{"energy_scale": 0.1}``.

        Returns
        -------
        Likelihood
            Of all bins and energy groups, in JAX's default precision. `profile_data` makes of it
            what `jaxprof.core.fit_norms` takes.

        Warns
        -----
        UserWarning
            As `run` does, and if float64 is not enabled in JAX, so that arrays are cut to float32.

        Raises
        ------
        ValueError
            As `run` does, and for nodes that are not increasing around one, or constraints of
            anything without nodes.
        """
        one_of("spectrum", spectrum, ("fixed", "free"))
        datasets, made = self._with_models(datasets), []
        given = nuisances(
            [dataset.name for dataset in datasets],
            exposure=exposure,
            energy_scale=energy_scale,
            constraints=constraints,
        )
        with jax.enable_x64(True):
            for point in given.points():
                own = [energies_scaled(each, point, given.nodes) for each in datasets]
                reduction = self._reduction(own, per_true_energy=spectrum == "free")
                made.append(
                    separate_likelihood(
                        own,
                        reduction,
                        self.norm.bounds(),
                        spectral_model=self.spectral_model,
                        geometry=self._geometry(reduction),
                    )
                )
        return in_default_precision(given.added(made))

    def _geometry(self, reduction: Reduction) -> BinGeometry | None:
        of_pixels = self.reference_solid_angle == "pixels"
        return bin_geometry(
            self.regions,
            np.sum(self.spectral_model.integral(*reduction.energy_edges.T)),
            solid_angle=reduction.solid_angle if of_pixels else None,
            folded=False,
        )

    def _reduction(
        self,
        datasets: list[MapDataset],
        per_true_energy: bool = False,
        on_maps: RegionsOnMaps | None = None,
    ) -> Reduction:
        settings = ReductionSettings(
            mask_policy=self.mask_policy,
            likelihood=self.likelihood,
            sum_over_energy_groups=self.sum_over_energy_groups,
            reference_solid_angle=self.reference_solid_angle,
            per_true_energy=per_true_energy,
        )
        return reduce_datasets(
            datasets, self.regions, self.spectral_model, self.energy_edges, settings, on_maps
        )

    def simulate(self, datasets: Any, n_toys: int = 1000, **options: Any) -> Toys | ToySummary:
        """Fit toys of datasets: a parametric bootstrap, or a background alone.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
        n_toys : int
            Number of toys.
        **options
            Of `jaxprof.toys`: ``truth``, ``quantities``, ``seed``, ``store`` and others. By default
            errors and limits are those of ``n_sigma`` and ``n_sigma_ul``, of the kind ``interval``
            (see `FluxProfile.toys`).

        Returns
        -------
        Toys or ToySummary
            Mean, quantiles, coverage, p-values (also of the largest of all bins) and goodness of
            fit; the latter with ``keep=False``.

        Raises
        ------
        ValueError
            As `run` and `jaxprof.toys`.
        """
        with jax.enable_x64(True):
            likelihood = in_precision(self.reduce(datasets), self.precision)
            return self._toys(likelihood, n_toys, options)

    def run(self, datasets: Any) -> FluxProfile:
        """Estimate the flux profile.

        The computation is in `precision` whatever the global setting of JAX.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
            Several datasets are fitted jointly, with a shared norm per region and energy group.
            Those of gammapy are taken too, as `from_gammapy` converts them: the predicted counts of
            their models join the background, but for those that `source` names.

        Returns
        -------
        FluxProfile

        Raises
        ------
        TypeError
            For anything but datasets.
        ValueError
            If a dataset has no counts or exposure, has invalid values inside its mask, an energy
            dispersion that is none at energies in use, or energies that do not fit the edges.

        Warns
        -----
        UserWarning
            For regions that a dataset does not see (those that none sees have ``success`` False),
            for data that know nothing of any region, as all are masked or have no exposure,
            for regions whose solid angle differs by more than 20 % from that of their pixels, for
            energy edges that are moved by more than a third of a bin or cut, for upper limits below
            zero, for counts where no background is expected, and for sensitivities there.
        """
        datasets = self._with_models(datasets)
        with jax.enable_x64(True):
            reduction = self._reduction(datasets)
            return self._profile(datasets, reduction, *self._fitted(reduction.data))

    def _run_entries(self, entries: Sequence[StackEntry]) -> list[FluxProfile]:
        """Profiles of all entries of a stack, their bins fitted side by side."""
        owns = [entry.of(self) for entry in entries]
        reduced: list[tuple[list[MapDataset], Reduction]] = []
        on_maps: RegionsOnMaps | None = None

        def reduction(own: FluxProfileEstimator, datasets: Any) -> None:
            found = own._with_models(datasets)
            reduced.append((found, own._reduction(found, on_maps=on_maps)))

        with jax.enable_x64(True):
            for entry, own in zip(entries, owns, strict=True):
                if on_maps is None or on_maps.regions is not own.regions:
                    on_maps = RegionsOnMaps(own.regions)
                entry.named(partial(reduction, own, entry.datasets))
            check_groups(entries, [each.energy_edges for _, each in reduced])
            fits = side_by_side([each.data for _, each in reduced], self._fitted)
            return [
                entry.named(partial(own._profile, *each, *fit))
                for entry, own, each, fit in zip(entries, owns, reduced, fits, strict=True)
            ]

    def _profile(
        self,
        datasets: list[MapDataset],
        reduction: Reduction,
        fit: NormFit,
        fitted: dict[str, Array],
    ) -> FluxProfile:
        """The profile of fits, with what is predicted for them."""
        quantities = fitted | predictions(reduction, fit)
        for name in ("coverage", "solid_angle", "region_solid_angle"):
            quantities[name] = getattr(reduction, name)
        selection = self._selection()
        if selection.meta:
            likelihood = separate_likelihood(datasets, reduction, self.norm.bounds())
            quantities |= self._named_limits(likelihood)
        edges = reduction.energy_edges
        bins = self._bins(edges)
        if not reduction.unseen.all():  # which has warnings of its own
            warn_nothing_known(quantities["status"])
            warn_masked(quantities["status"], bins, reduction.unseen)
        warn_infinite_significance(without_background(reduction.data, counted=True), bins)
        warn_negative_limits(quantities.get("norm_ul"), bins)
        if "norm_sensitivity" in quantities:
            warn_no_sensitivity(without_background(reduction.data), bins)
        return FluxProfile(
            quantities,
            energy_edges=edges,
            likelihood_data=reduction.data,
            meta=selection.meta,
            reference_solid_angle=self.reference_solid_angle,
            **self._described(datasets),
        )

    def _fitted(self, data: Data) -> tuple[NormFit, dict[str, Array]]:
        return separate_fits(data, self._selection(), self.norm.bounds(), self.precision)
