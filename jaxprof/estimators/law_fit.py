"""Physical laws, fitted to the counts of a profile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table
from scipy import stats

from jaxprof.compilation import jit_by_size
from jaxprof.inference.law_fit import (
    law_bins,
    law_curve,
    law_goodness,
    law_log_prob,
    law_parameters,
    law_start,
    likelihood_params,
    with_parameters,
)
from jaxprof.inference.model_fit import fit
from jaxprof.inference.parameters import is_traced
from jaxprof.io.lawfit import law_table, read_law_table, write_law_table
from jaxprof.likelihood import BinGeometry, Likelihood
from jaxprof.likelihood.data import Status
from jaxprof.models.radial_base import RadialModel, SumRadialModel
from jaxprof.plotting.laws import plot_law
from jaxprof.profile import FluxProfile
from jaxprof.profile.likelihoods import profile_likelihood
from jaxprof.reduce.bin_geometry import in_frame
from jaxprof.user_warning import warn_user

#: Change of the logarithm of a law across a bin, on average over its flux, that costs more than a
#: few parts in a thousand of its index.
WIDE = 0.2
#: Distance [deg] of the centres of a law and of rings that counts as none.
SAME_CENTRE = 1e-6


@dataclass(frozen=True)
class LawComparison:
    """Two laws that were fitted to the same data.

    Attributes
    ----------
    delta_stat : float
        Stat of the second less that of the first: positive if the first is more probable.
    delta_aic : float
        The same of Akaike's information criterion, stat plus twice the number of parameters.
    nested : bool
        Whether one is a special case of the other: of one class with fewer free parameters, or
        part of a sum. Others are not known to be.
    dof : int
        Parameters that the first has more.
    p_value : float
        Probability of such a ``delta_stat`` or a larger one if the special case is true (Wilks
        1938); NaN for laws that are not nested, for which ``delta_aic`` must do.
    significance : float
        The same in standard deviations of a normal distribution, two-sided.
    """

    delta_stat: float
    delta_aic: float
    nested: bool
    dof: int
    p_value: float
    significance: float

    def __str__(self) -> str:
        head = f"delta stat {self.delta_stat:.4g}, delta AIC {self.delta_aic:.4g}"
        if self.nested:
            return f"{head}; nested, {abs(self.dof)} more parameters: {self.significance:.2g} sigma"
        return f"{head}; the laws are not nested, so that there is no significance"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ModelFit:
    """A law that was fitted to the data of a profile; a pytree.

    Attributes
    ----------
    model : RadialModel
        The fitted law.
    params, errors : dict
        Parameters that were fitted, and their standard deviations, by name: those of the law
        first, then nuisance parameters as the likelihood names them.
    covariance : array, shape (N, N)
        Of all of them; its rows are ``names``.
    names : tuple of str
        A name for each element of the parameters.
    law_names : tuple of str
        Those of the law.
    stat : array, shape ()
        Minus twice the log probability, with constraints.
    status : array of int, shape ()
        See `jaxprof.Fit`.
    goodness : dict
        ``stat`` (cash with the saturated term), ``expected`` and ``std`` of it (Kaastra 2017,
        A&A 605, A51), number of counts bins ``n_bins`` and of parameters ``n_free``,
        ``z = (stat - expected) / std`` and its ``p_value``; NaN with On-Off data. Fits to a
        profile have chi-squared, and ``expected`` is the number of degrees of freedom.
    bins : dict
        For each bin of the profile (B, 1), or (B, G) in fits to a profile: ``law``, its mean
        brightness [cm-2 s-1 sr-1]; ``value`` and ``error``, the law times observed over predicted
        excess counts, or the norm of the profile as a brightness; ``residual`` in standard
        deviations.
    geometry : BinGeometry
        Where the bins are.
    likelihood_params : dict
        Parameters of the likelihood, for its ``npred``, ``simulate`` and so on.
    against : ModelFit or None
        The law that it was tested against, see `comparison`.
    fitted_to : str
        "counts", "likelihood scans" or "covariance of the norms".
    """

    model: Any
    params: dict[str, Any]
    errors: dict[str, Any]
    covariance: Any
    stat: Any
    status: Any
    goodness: dict[str, Any]
    bins: dict[str, Any]
    geometry: BinGeometry
    likelihood_params: dict[str, Any]
    against: Any = None
    names: tuple[str, ...] = field(metadata={"static": True})
    law_names: tuple[str, ...] = field(metadata={"static": True})
    fixed: tuple[bool, ...] = field(metadata={"static": True})
    fitted_to: str = field(default="counts", metadata={"static": True})

    @property
    def success(self) -> Any:
        """Whether the parameters are estimates: status ok or boundary."""
        return self.status <= Status.BOUNDARY

    @property
    def n_free(self) -> int:
        """Number of parameters that were fitted."""
        return len(self.fixed) - sum(self.fixed)

    @property
    def comparison(self) -> LawComparison:
        """Test against the second law.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.against is None:
            raise ValueError("this law was fitted alone; give fit_model a second, against=law")
        return self.compare(self.against)

    def compare(self, other: ModelFit) -> LawComparison:
        """Test against another law that was fitted to the same data.

        Parameters
        ----------
        other : ModelFit
            What `fit_model` gave for it.

        Returns
        -------
        LawComparison

        Raises
        ------
        ValueError
            If one was fitted to the counts and the other to a profile.
        """
        if self.fitted_to != other.fitted_to:
            raise ValueError(
                f"other was fitted to {other.fitted_to}, this to {self.fitted_to}; fit the same"
            )
        delta, dof = float(other.stat - self.stat), self.n_free - other.n_free
        nested = _is_special_case(other, self) or _is_special_case(self, other)
        p_value = significance = np.nan
        if nested:
            gain = max(np.sign(dof) * delta, 0.0)
            p_value = float(stats.chi2.sf(gain, abs(dof)))
            significance = float(-stats.norm.ppf(p_value / 2))
            if not np.isfinite(significance):
                significance = float(np.sqrt(gain))
        aic = delta - 2 * dof
        return LawComparison(delta, aic, nested, dof, p_value, significance)

    def curve(self, radius: Any) -> tuple[Any, Any]:
        """Brightness of the law, with its error propagated to first order.

        Parameters
        ----------
        radius : array_like
            Separations from the centre [deg].

        Returns
        -------
        brightness, error : array
            In cm-2 s-1 sr-1 (per unit of the template, if there is one), in the shape of `radius`;
            one standard deviation.
        """
        at = np.array([self.names.index(name) for name in self.law_names])
        covariance = self.covariance[np.ix_(at, at)]
        if is_traced((self, radius)) or jax.config.read("jax_enable_x64"):
            return law_curve(self.model, self.law_names, covariance, radius)
        with jax.enable_x64(True):
            found = law_curve(
                self.model, self.law_names, np.asarray(covariance), np.asarray(radius, float)
            )
            return np.asarray(found[0]), np.asarray(found[1])

    def plot(self, ax: Any = None, *, profile: FluxProfile | None = None, n_sigma: int = 1) -> Any:
        """Draw the law with its error band over what was observed, and the residuals below.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes` or a pair of these, optional
            Where to draw. Axes alone make room for the residuals below; of a pair the second is
            for these.
        profile : FluxProfile, optional
            Its points are drawn instead of those of the fit.
        n_sigma : float
            Standard deviations of the band.

        Returns
        -------
        tuple of `~matplotlib.axes.Axes`
            Those of the law and those of the residuals.
        """
        return plot_law(self, ax=ax, profile=profile, n_sigma=n_sigma)

    def to_table(self) -> Table:
        """Table of the parameters, a row for each.

        Returns
        -------
        `~astropy.table.Table`
            Columns ``name``, ``value``, ``error``, ``unit``, ``fixed``, ``of_law`` and
            ``covariance`` (N, N); the meta has the law, stat, status and goodness.
        """
        return law_table(self)

    def write(self, filename: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the table to a file that `read_table` reads.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits", ".fits.gz" or ".ecsv".
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        ValueError, OSError
            For another extension; if the file exists, or cannot be written.
        """
        write_law_table(self.to_table(), filename, overwrite=overwrite)

    @staticmethod
    def read_table(filename: str | os.PathLike[str]) -> Table:
        """Read the table of a fit, as `to_table` gives it.

        Parameters
        ----------
        filename : str or path-like
            What `write` wrote.

        Raises
        ------
        ValueError, FileNotFoundError
            For what is no such file.
        """
        return read_law_table(filename)

    def __str__(self) -> str:
        if np.ndim(self.stat) or isinstance(self.stat, jax.core.Tracer):
            return repr(self)
        good = self.goodness
        lines = [
            f"{type(self.model).__name__}, fitted to the {self.fitted_to}: "
            f"{Status(int(self.status)).label}, stat {float(self.stat):.6g}",
            f"goodness: stat {float(good['stat']):.5g}, expected {float(good['expected']):.5g} "
            f"+- {float(good['std']):.3g} (p = {float(good['p_value']):.2g})",
        ]
        lines += [f"{row['name']}: {row['value']:.6g} +- {row['error']:.2g}" for row in _rows(self)]
        if self.against is not None:
            lines.append(f"against {type(self.against.model).__name__}: {self.comparison}")
        return "\n".join(lines)


def _rows(result: ModelFit) -> Table:
    table = result.to_table()
    return table[~np.asarray(table["fixed"])]


def _is_special_case(small: ModelFit, large: ModelFit) -> bool:
    """Whether a law is another with fewer free parameters, or part of a sum."""
    if small.n_free >= large.n_free:
        return False
    if isinstance(large.model, SumRadialModel) and not isinstance(small.model, SumRadialModel):
        return any(
            _same_kind(small.model, part) for part in (large.model.model1, large.model.model2)
        )
    return _same_kind(small.model, large.model) and set(small.law_names) < set(large.law_names)


def _same_kind(law: Any, other: Any) -> bool:
    return jax.tree.structure(law) == jax.tree.structure(other)


def fit_model(
    data: Likelihood | FluxProfile,
    law: RadialModel,
    *,
    fixed: str | Iterable[str] = (),
    bounds: Mapping[str, Any] | None = None,
    starts: Any = None,
    against: RadialModel | ModelFit | None = None,
) -> ModelFit:
    """Fit a physical law to the counts of a profile, through the response.

    Parameters
    ----------
    data : Likelihood or FluxProfile
        What ``estimator.reduce(datasets)`` gave; with a `ForwardFoldingProfileEstimator` best with
        ``subdivide=4`` or more, so that the law is followed within the bins. Or a profile, such as
        one from a file: the law is fitted to its likelihood scans (of fits of separate bins) or to
        the covariance of its norms (of joint fits), which is less than the counts tell.
    law : RadialModel
        The law, at the parameters to start from. Its amplitude need not be near: it is scaled to
        the observed excess. Its flux is that of all energy groups together, from the first edge to
        the last without gaps. With a ``template`` of the estimator the law is multiplied with it:
        its amplitude is a flux per solid angle and unit of that map.
    fixed : str or list of str
        Parameters that keep their values, beside those that no data determine: centre, reference,
        distance, ``rho_s`` and ``edge_width``.
    bounds : dict, optional
        ``(min, max)`` by the name of a parameter, see `jaxprof.fit`.
    starts : dict, optional
        Values of parameters of the law at further starts, arrays of the same length; the lowest
        minimum is taken.
    against : RadialModel or ModelFit, optional
        A second law to test against, fitted alike, or what `fit_model` gave for one.

    Returns
    -------
    ModelFit
        A pytree. In a function that JAX traces there are no warnings, and all of its arrays can be
        mapped over and differentiated: ``jax.vmap(lambda key: fit_model(likelihood.simulate(key,
        truth), law).params)(keys)``.

    Raises
    ------
    ValueError
        If the data have no geometry (compound regions; templates in other regions than rings),
        the law is not at the centre of the rings, a profile has neither scans nor covariance, or
        names are none of parameters.

    Warns
    -----
    UserWarning
        Where emission is folded as if it came evenly from bins across which the law changes much;
        if the fit fails or another minimum is almost as low.

    Notes
    -----
    Background, guard bins, sources and, with ``spectrum="free"``, the spectral parameters are
    fitted along, with the constraints that they have. The norms of guard bins are free, not those
    of the law.

    Separate fits (`FluxProfileEstimator`) know no PSF: the law is integrated over the bins, and
    takes what leaks between them for their own. Where masks cut a region they take the law to be
    even within it.

    A fit of uniform bins takes an index of 1 for 1.02 and of 1.5 for 1.53 if the rings are as wide
    as one to four standard deviations of the PSF; four parts of each make it right to 0.2 %.
    """
    likelihood, fitted_to = _likelihood_of(data)
    if not isinstance(law, RadialModel):
        raise ValueError(f"law must be a radial law, got {type(law).__name__}")
    options = (fixed, bounds, starts)
    traced = is_traced((likelihood, law, starts, bounds))
    if traced or jax.config.read("jax_enable_x64"):
        found = _fit_law(likelihood, law, options, fitted_to)
    else:
        with jax.enable_x64(True):
            likelihood = jax.tree.map(_in_float64, likelihood)
            found = jax.tree.map(np.asarray, _fit_law(likelihood, law, options, fitted_to))
    if not traced:
        _warn(found)
    if against is not None:
        if not isinstance(against, ModelFit):
            names = {*law_parameters(against), *likelihood.params(), "spectrum"}
            asked = (fixed,) if isinstance(fixed, str) else tuple(fixed)
            kept = tuple(name for name in asked if name.partition("[")[0].split(".")[0] in names)
            limits = {name: pair for name, pair in (bounds or {}).items() if name in names}
            against = fit_model(data, against, fixed=kept, bounds=limits)
        found = replace(found, against=against)
    return found


def _fit_law(likelihood: Any, law: Any, options: tuple[Any, Any, Any], fitted_to: str) -> ModelFit:
    fixed, bounds, starts = options
    asked = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    own = law_parameters(law)
    likelihood = replace(likelihood, geometry=_geometry_for(likelihood.geometry, law))
    held = tuple(name for name in asked if name in law.parameters)
    start = law_start(likelihood, law, held)
    nuisance = [name for name in start if name not in own]
    names = tuple(name for name in start if name in own)
    kept = [name for name in likelihood.fixed() if name.partition("[")[0] in nuisance]
    found = fit(
        law_log_prob,
        start,
        args=(likelihood, law),
        bounds={**likelihood.bounds(nuisance), **(bounds or {})},
        fixed=(*kept, *(name for name in asked if name not in held)),
        starts=_more_starts(start, starts, names),
    )
    n_free = len(found.fixed) - sum(found.fixed)
    goodness, bins, whole = _summary(n_free)(likelihood, found.params, law)
    order = (*names, *nuisance)
    return ModelFit(
        model=with_parameters(law, found.params),
        params={name: found.params[name] for name in order},
        errors={name: found.errors[name] for name in order},
        covariance=found.covariance,
        stat=found.stat,
        status=found.status,
        goodness=goodness,
        bins=bins,
        geometry=likelihood.geometry,
        likelihood_params=whole,
        names=found.names,
        law_names=names,
        fixed=found.fixed,
        fitted_to=fitted_to,
    )


@cache
def _summary(n_free: int) -> Callable:
    def summary(likelihood: Any, params: Any, law: Any) -> tuple[Any, Any, Any]:
        return (
            law_goodness(likelihood, params, law, n_free),
            law_bins(likelihood, params, law),
            likelihood_params(params, likelihood, law),
        )

    return jit_by_size(summary)


def _geometry_for(geometry: BinGeometry, law: RadialModel) -> BinGeometry:
    """The geometry in the frame of a law, whose centre must be that of rings."""
    geometry = in_frame(geometry, law.frame)
    if geometry.rings is None:
        return geometry
    lon, lat = (float(x) for x in np.asarray(geometry.centre))
    parameters = law.parameters
    for name in parameters:
        # Sums have a centre in each part.
        above, found, _ = name.partition("lon_0")
        centre = parameters[name], parameters.get(f"{above}lat_0")
        if not found or is_traced(centre):
            continue
        across = ((centre[0] - lon + 180) % 360 - 180) * np.cos(np.deg2rad(lat))
        if np.hypot(across, centre[1] - lat) > SAME_CENTRE:
            raise ValueError(
                f"law is centred at ({centre[0]:.6g}, {centre[1]:.6g}) deg, {law.frame}, but the "
                f"rings at ({lon:.6f}, {lat:.6f}): give it lon_0 and lat_0 in its frame"
            )
    return geometry


def _more_starts(start: dict[str, Any], starts: Any, names: tuple[str, ...]) -> Any:
    """Further starts of all parameters, of those that are given for some."""
    if starts is None:
        return None
    if not isinstance(starts, Mapping) or not set(starts) <= set(names) or not starts:
        raise ValueError(
            f"starts must be a dict of arrays for some of {', '.join(names)}, got {starts!r}"
        )
    lengths = {np.shape(values) for values in starts.values()}
    if len(lengths) > 1 or len(next(iter(lengths))) != 1:
        raise ValueError(f"starts must be arrays of one length, got shapes {sorted(lengths)}")
    (size,) = next(iter(lengths))
    found = {
        name: jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))), value)
        for name, value in start.items()
    }
    return found | {name: jnp.asarray(values) for name, values in starts.items()}


def _warn(found: ModelFit) -> None:
    if np.ndim(found.status) == 0 and not found.success:
        warn_user(f"fit_model: the fit failed, {Status(int(found.status)).label}")
        return
    geometry = found.geometry
    if geometry.rings is None or not geometry.folded or np.ndim(found.status):
        return
    flux = np.abs(np.asarray(geometry.flux(found.model)))
    low, high = np.asarray(geometry.rings)[:, [0, -1]].T
    # A cusp matters as far as there is flux.
    inner = low + 0.05 * (high - low)
    change = np.log(np.abs(np.asarray(found.model(inner)) / np.asarray(found.model(high))))
    mean = np.sum(np.minimum(np.abs(change), 3.0) * flux) / np.sum(flux)
    if mean > WIDE:
        what = (
            "fit the law to estimator.reduce(datasets, subdivide=4)"
            if found.fitted_to != "counts"
            else "give reduce a larger subdivide"
        )
        warn_user(
            f"fit_model: the law changes by {100 * np.expm1(mean):.0f} % across a bin, on average, "
            "but emission is folded as if it came evenly from all of a bin: an index of 1 may "
            f"come out as 1.02, one of 1.5 as 1.53; {what}"
        )


def _in_float64(leaf: Any) -> Any:
    array = np.asarray(leaf)
    return array.astype(float) if np.issubdtype(array.dtype, np.floating) else array


def _likelihood_of(data: Any) -> tuple[Any, str]:
    """The likelihood, and what it is that of."""
    if isinstance(data, FluxProfile):
        joint = "norm_covariance" in data.quantities
        return profile_likelihood(data), (
            "covariance of the norms" if joint else "likelihood scans"
        )
    if not isinstance(data, Likelihood):
        raise ValueError(
            "data must be a Likelihood, estimator.reduce(datasets), or a FluxProfile, got "
            f"{type(data).__name__}"
        )
    if data.geometry is None:
        raise ValueError(
            "data: it is not known how to integrate a law over these bins: compound regions, "
            "points, or a template in other bins than rings; give norms of your own to jaxprof.fit"
        )
    return data, "counts"
