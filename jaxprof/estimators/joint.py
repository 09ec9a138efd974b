"""The estimator that fits all bins of a profile together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.estimators.fit_warnings import (
    warn_misfit,
    warn_negative_limits,
    warn_nothing_known,
    warn_pulled_backgrounds,
)
from jaxprof.estimators.fitting import fit_groups
from jaxprof.estimators.joint_configuration import JointProfileEstimator
from jaxprof.estimators.options import one_of
from jaxprof.estimators.precision import in_default_precision
from jaxprof.estimators.result import joint_quantities
from jaxprof.estimators.stack import StackEntry, check_groups
from jaxprof.inference.toy_results import Toys, ToySummary
from jaxprof.likelihood import Likelihood
from jaxprof.profile import FluxProfile
from jaxprof.reduce.joint.likelihood import joint_likelihood
from jaxprof.reduce.joint.positions import moving_sources
from jaxprof.reduce.joint.response import ForwardResponse
from jaxprof.reduce.nuisances import nuisances


class ForwardFoldingProfileEstimator(JointProfileEstimator):
    """Estimate a flux profile with the point-spread function folded in, all bins in one fit.

    The sibling of `FluxProfileEstimator`, which fits each bin on its own. Here the norms of all
    bins of an energy group are fitted together: the emission of each bin is folded
    through exposure, point-spread function and energy dispersion, so that what leaks from one bin
    into the next counts for the one that it came from.

    Parameters
    ----------
    regions : list of SkyRegion, regions.Regions or RegionGeom
        Bins of the profile, at least two. They may overlap, have gaps between them and be cut.
    spectral_model : SpectralModel or list of SpectralModel, optional
        Reference spectrum of all bins, or one for each; by default a power law of index 2.
    energy_edges, n_sigma, n_sigma_ul, n_sigma_sensitivity, cl, interval, selection_optional
        As for `FluxProfileEstimator`. Errors, limits, ``ts`` and scans have all other parameters
        optimised again, which takes time: of 51 bins on 20 000 pixels and energies, with many
        empty pixels, each takes 10 to 20 ms a bin, and much longer with free spectral parameters;
        beyond some seconds a bar counts what is done, where there is a terminal and tqdm.
        The sensitivity of a bin takes the other parameters as fitted; it needs a counts bin for
        every pixel, and a tenth of a second a bin there.
    sum_over_energy_groups : bool
        Whether the energies of a group are summed before the fit.
    norm : NormParameter or dict, optional
        Bounds and scan values of the norms.
    mask_policy : {"coverage", "strict"}
        Whether a mask or the map's edge may cut a region. Emission from the part that is
        not seen is folded too: it leaks in.
    likelihood : {"pixel", "region"}
        Whether each pixel is a Poisson term, or each region's sum. On-Off data need "region".
    guard_bins : int or list of SkyRegion
        Emission just outside the first and last bin leaks in. So many bins beyond each end,
        or these regions, are fitted as well and left out of the result but for ``nuisance``. There
        the status of those that no pixel in use lies in is "fully masked": their norms make up for
        whatever leaks in and tell nothing about the sky; fewer guard bins do.
    background : str, float, dict or list
        The norm of each dataset's background in each group: "fixed" (the default), "free", or the
        width of a Gaussian constraint around one. A dict with "norm" and "tilt" says so
        for the tilt in energy as well; a list gives one for each dataset, a dict one by name. A
        fitted norm is zero or more, a fitted tilt within five of zero.
    sources : list of SkyModel
        Other sources. Of those with ``free=True`` the norm is fitted, in each group. Models
        of the datasets with the same names are not counted again.
    source, spectrum
        As for `FluxProfileEstimator`.
    free_index : bool
        Whether the spectral index of each bin is fitted. Norms then are norms of the flux in
        the energy group, with the index profiled.
    free_spectral_parameters : list of str
        The same for any parameters of the spectral model, such as ``["alpha", "beta"]``.
    template : SpatialModel, WcsNDMap or list of these, optional
        Surface brightness within the bins; by default it is uniform. A cube with a brightness for
        each energy is folded energy by energy; the flux of a bin at each of them stays that of its
        spectrum. In a list a bin may have a PointSpatialModel: uniform emission does not describe a
        bin that holds a bright point, and its neighbours would make up for it by norms that
        alternate in sign. Where no emission can be negative, ``norm={"min": 0}`` prevents that too.
        Guard bins have the template that all bins share, and uniform emission with a list.
    template_norm : {"flux", "ratio"}
        Whether the norms multiply the flux of a bin, whatever the values of the template, or the
        template with its own normalisation. With "ratio" the spectral model is that of one unit of
        the map times sr, so that norms are ratios such as flux over gas column; their unit, one
        over that of the map and sr, is ``profile.norm_unit``. Fluxes are those of the bins still.
        `template` must be one image, and `spectral_model` one model.
    smoothness : float
        Strength of a penalty ``smoothness * sum((x[j-1] - 2 x[j] + x[j+1])**2)`` that is added to
        the statistic. It pulls norms towards a line through their neighbours: the errors get
        smaller, but peaks and edges are flattened, and errors do not include this bias. By default
        none. So strong a penalty that rounding loses the counts is refused by `run`.
    oversampling : int
        Sub-pixels along each side of a pixel where a template or a compound region needs them; with
        1 a pixel belongs to a region when its centre does.
    subpixels : int, optional
        How well the PSF knows where in a pixel emission starts: 1 spreads it evenly over the pixel,
        2 knows its mean position there, 3 and 4 its moments of second and third degree as well. By
        default as many as the PSF asks for, such that templates are good to 0.2 % of their peak.

    Raises
    ------
    TypeError
        For an unknown option.
    ValueError
        For values that an option does not take.

    Notes
    -----
    Point-spread function and energy dispersion that change over the sky are averaged over the
    photons of each component; how they change within one is not folded. Where in a pixel
    emission starts is known by its moments, for bins and sources of any size: behind a PSF of a
    standard deviation of 0.3 pixels or more templates are good to 0.2 % of their peak. How pixels
    change within the PSF is followed to second order, as far as 70 deg from the reference of a
    tangential or orthographic projection, or 5 deg from the poles of a plate carrée map; where they
    change by more, one warning names the bins and point sources. Template maps are as good as their
    own pixels and ``oversampling`` allow.

    No prediction of a pixel and energy (of a sum, if sums are fitted) is negative: norms of bins
    that are over-subtracted go down to where one vanishes. ``status`` then is "boundary" for all
    bins that reach the pixel; their errors are those of the counts alone, and ``norm_errn``,
    ``norm_errp`` and ``norm_ul`` know the boundary, and bounds of the norm as those of
    `FluxProfileEstimator` do. That estimator cuts predictions at zero instead; in a joint fit, bins
    could then cancel each other where there are no counts at no cost.

    Fluxes are those of the regions: emission is spread over the parts of pixels within them (whole
    ones with ``oversampling=1``), of which ``solid_angle`` is the sum.

    Penalties and constraints are part of what ``ts`` and scans compare; ``stat`` is without them,
    and ``stat_null`` is ``stat + ts``. A bin that no pixel in use lies in is "fully masked": it has
    the norm that its leakage tells, and no ``ts``. A spectral parameter that runs into the end of
    its range (five from the references of all bins, for an index) has no error.
    """

    def response(self, datasets: Any, *, subdivide: int = 1) -> ForwardResponse:
        """Fold all components through the response of datasets.

        Keep the result and give it to `run` where the same regions, spectra and responses are
        fitted to many counts.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
        subdivide : int
            As for `reduce`, if it is made for that.

        Returns
        -------
        ForwardResponse

        Raises
        ------
        ValueError
            If a dataset has no PSF, counts or exposure, or a region is cut and must not be.
        """
        if subdivide != 1:
            return self._in_parts(subdivide)[0].response(datasets)
        with jax.enable_x64(True):
            names = self.free_spectral_parameters
            return self._folded(self._datasets(datasets), bool(names), self.sources)

    def reduce(
        self,
        datasets: Any,
        response: ForwardResponse | None = None,
        *,
        spectrum: str = "fixed",
        exposure: Any = "fixed",
        psf_scale: Sequence[float] | None = None,
        energy_scale: Sequence[float] | None = None,
        source_position: Mapping[str, Any] | None = None,
        source_width: Mapping[str, tuple[float, float]] | None = None,
        constraints: Mapping[str, float] | None = None,
        merge: bool = False,
        subdivide: int = 1,
    ) -> Likelihood:
        """Reduce datasets to the likelihood of the joint fits, without fitting.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
        response : ForwardResponse, optional
            What `response` gave for them, and for `subdivide`.
        spectrum : {"fixed", "free"}
            Whether spectra are part of the templates, or the true energies are kept: then the
            likelihood takes a spectral model among its parameters. Within each bin of true energy
            what changes, such as a template cube, is weighted by the reference spectrum still: an
            index that differs by 0.5 moves the mean energy of a tenth of a decade by 0.2 %.
        exposure : str, float, list or dict
            How the exposure of each dataset is fitted, see `FluxProfileEstimator.reduce`.
        psf_scale : sequence of float, optional
            Factors on the width of the PSF, in increasing order: between the first and the last the
            likelihood has a parameter ``psf_scale``, which interpolates templates by the
            polynomial in its logarithm through these. Of 1e4 to 1e5 counts ln L is right to 0.002
            with three of them for a tenth of the width, and to 0.01 with five from 0.7 to 1.4.
        energy_scale : sequence of float, optional
            The same for factors on the energies that the signal is reconstructed at; counts,
            background and models of the datasets stay where they are. See `FluxProfileEstimator`'s
            for how right that is. With both scales templates are made for all pairs of their
            values, and take as much memory.
        source_position : dict, optional
            Sources with free positions: by name the angle (Quantity, or in deg) by which each may
            move in either direction. The likelihood then has parameters ``source_lon`` and
            ``source_lat``, offsets on the sky in deg by name. The source is folded at 9 to 121
            positions, as many as make its templates right to 2e-5 of their peak behind a Gaussian
            PSF: 81 for its standard deviation. ln L is right to 0.01, or 5e-5 of what it is below
            its largest value where that is more. Not with a `response`.
        source_width : dict, optional
            Sources with free widths: by name the smallest and the largest factor on the ``sigma``,
            ``r_0`` or ``radius`` of its model, as ``{"halo": (0.7, 1.4)}``; a shell keeps its
            relative width. The likelihood then has a parameter ``source_width``, factors by name.
            As right as positions are, with 3 to 11 nodes.
        constraints : dict, optional
            Widths of Gaussian constraints of the scales around one, as ``{"psf_scale": 0.05}``.
        merge : bool
            Whether the pixels of a region without counts share a counts bin, which is quicker: then
            the counts cannot be changed, and the sum of their predictions is kept from being
            negative, not each of them.
        subdivide : int
            Parts of each annulus along its radius, and of boxes along both sides: the likelihood
            then has a norm for each part, for laws that give them (`jaxprof.fit_model`). Emission
            is even within a bin, which is none of a law where bins are wide: with rings as wide as
            one to four times the standard deviation of the PSF an index of 1 comes out as 1.02, of
            1.5 as 1.53. Four parts make that right to 0.2 %, ten to 0.03 %.

        Returns
        -------
        Likelihood
            Of all energy groups, in JAX's default precision.

        Raises
        ------
        ValueError
            Also for `subdivide` with other regions than circles, annuli and rectangles, or with
            ``smoothness``.

        Warns
        -----
        UserWarning
            If float64 is not enabled in JAX, so that the arrays are cut to float32.
        """
        one_of("spectrum", spectrum, ("fixed", "free"))
        datasets = self._with_models(datasets)
        given = nuisances(
            [dataset.name for dataset in datasets],
            exposure=exposure,
            psf_scale=psf_scale,
            energy_scale=energy_scale,
            constraints=constraints,
        )
        for name, sources in (("source_position", source_position), ("source_width", source_width)):
            if sources and response is not None:
                raise ValueError(f"{name}: a response has sources as they are; give none")
        with jax.enable_x64(True):
            own, parent = self._in_parts(subdivide)
            moving = moving_sources(self.sources, source_position or {}, datasets, source_width)
            how = given, spectrum == "free", moving.components()
            problems = own._problems(datasets, response, *how)
            found = [joint_likelihood(each, merge=merge, parent=parent) for each in problems]
            made = given.added(found)
        return in_default_precision(moving.added(made) if moving.nodes else made)

    def simulate(
        self,
        datasets: Any,
        n_toys: int = 1000,
        response: ForwardResponse | None = None,
        **options: Any,
    ) -> Toys | ToySummary:
        """Fit toys of datasets, as `FluxProfileEstimator.simulate`.

        Parameters
        ----------
        datasets, n_toys, **options
            As there.
        response : ForwardResponse, optional
            What `response` gave for the datasets; by default it is computed.

        Returns
        -------
        Toys or ToySummary

        Raises
        ------
        ValueError
            As `run` and `jaxprof.toys`.
        """
        with jax.enable_x64(True):
            return self._toys(self.reduce(datasets, response), n_toys, options)

    def run(self, datasets: Any, response: ForwardResponse | None = None) -> FluxProfile:
        """Estimate the flux profile.

        The computation is in float64 whatever the global setting of JAX.

        Parameters
        ----------
        datasets : MapDataset, MapDatasetOnOff or a list of these
            Several datasets are fitted jointly, with shared norms.
        response : ForwardResponse, optional
            What `response` gave for them; by default it is computed.

        Returns
        -------
        FluxProfile
            With ``covariance``, ``correlation``, ``leakage``, ``nuisance`` and ``goodness``; by bin
            ``goodness_z``, ``residual_peak`` (significance of the highest peak of the residuals, in
            standard deviations, after trials) and ``misfit``: true where the model does not
            describe what is in the bin (see `jaxprof.estimators.bin_residuals`).

        Raises
        ------
        TypeError
            For anything but datasets.
        ValueError
            If a dataset has no PSF, counts or exposure, has invalid values inside its mask, a PSF
            or energy dispersion that is none at energies in use, or energies that do not fit the
            edges; if no region lies on the map of one.

        Warns
        -----
        UserWarning
            For regions off the map of a dataset or with another solid angle there, for data that
            know nothing of any region, as all are masked or have no exposure, for energy edges
            that are moved by more than a third of a bin or cut, for upper limits below zero, for
            background norms more than three widths of their constraint from one, for counts where
            nothing else is expected, for bins that the fit does not describe, and for fits that
            fail.
        """
        datasets = self._with_models(datasets)
        with jax.enable_x64(True):
            response = self._checked(datasets, response) if response else self.response(datasets)
            if response.other_spectrum:
                raise ValueError(
                    "response was folded again with another spectral_model, and fluxes would be "
                    "those of the estimator's; make an estimator with that spectral_model"
                )
            problem, selection = self.problem(datasets, response), self._selection()
            edges = np.array([group.edges for group in problem.groups])
            bins = self._bins(edges)
            results = fit_groups(problem, selection, bins)
            quantities, reference, tables, peaks = joint_quantities(problem, results, selection)
            if selection.meta:
                quantities |= self._named_limits(joint_likelihood(problem, merge=False))
        warn_nothing_known(quantities["status"])
        warn_negative_limits(quantities.get("norm_ul"), bins)
        warn_misfit(quantities["misfit"], bins, peaks)
        warn_pulled_backgrounds(tables["nuisance"], problem.background_widths())
        meta = {"estimator": type(self).__name__, "likelihood": self.likelihood, **selection.meta}
        models = self.spectral_models
        if self.template_norm == "ratio":
            meta["norm_unit"] = (1 / self._ratio_template().integral.unit).to_string()
            models = response.components.models[: len(self.regions)]
        return FluxProfile(
            quantities,
            energy_edges=edges,
            reference_models=models,
            reference=reference,
            meta=meta,
            nuisance=tables["nuisance"],
            goodness=tables["goodness"],
            **self._described(datasets),
        )

    def _run_entries(self, entries: Sequence[StackEntry]) -> list[FluxProfile]:
        """Profiles of all entries of a stack; responses are folded again where they differ."""
        profiles: list[FluxProfile] = []
        response: ForwardResponse | None = None

        def fit(own: ForwardFoldingProfileEstimator, datasets: Any) -> None:
            nonlocal response
            response = own._shared(own._datasets(datasets), response)
            profiles.append(own.run(datasets, response))

        for entry in entries:
            entry.named(partial(fit, entry.of(self), entry.datasets))
        check_groups(entries, [each.energy_edges for each in profiles])
        return profiles

    def _shared(
        self, datasets: list[MapDataset], response: ForwardResponse | None
    ) -> ForwardResponse:
        """The response of other datasets, if it is that of these too, or their own."""
        if response is not None and len(response.datasets) == len(datasets):
            with jax.enable_x64(True), suppress(ValueError):
                return self._checked(datasets, response)
        return self.response(datasets)
