"""What a fit of a law gives: parameters, goodness, a curve with its band, tests, tables."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import scipy
from astropy.table import Table

from jaxprof.compilation import is_traced
from jaxprof.html import facts, table, titled
from jaxprof.inference.double_precision import in_float64
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.law_fit import law_curve
from jaxprof.io.lawfit import law_table, read_law_table, write_law_table
from jaxprof.likelihood import BinGeometry
from jaxprof.likelihood.data import Status
from jaxprof.models.radial_power_laws import (
    ConstantRadialModel,
    CoredPowerLawRadialModel,
    PowerLawRadialModel,
)
from jaxprof.models.radial_sum import SumRadialModel
from jaxprof.profile import FluxProfile

POOR_P_VALUE = 1e-3
"""Probability of the data below which a law is said not to describe them."""
POOR = (
    "the law does not describe the data: its errors and limits mean little. What is left shows "
    "in .plot(); try another law, a sum of two, or further sources"
)


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
        Whether one is a special case of the other: of one class with fewer free parameters,
        constant beside a power law, or part of a sum. Others are not known to be.
    dof : int
        Parameters that the first has more.
    p_value : float
        Probability of such a ``delta_stat`` or a larger one if the special case is true (Wilks
        1938); NaN for laws that are not nested, for which ``delta_aic`` must do. For a part of a
        sum it is rough: the other parameters of the rest tell nothing where its amplitude is zero.
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
        first, then nuisance parameters as the likelihood names them. Of few counts errors grow
        with the value, or fall: see `jaxprof.model_limits`.
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
        ``stat`` (cash with the saturated term, or the On-Off statistic), ``expected`` and ``std``
        of it (Kaastra 2017, A&A 605, A51), number of counts bins ``n_bins`` and of parameters
        ``n_free``, ``z = (stat - expected) / std`` and its ``p_value``. On-Off data have
        chi-squared of one degree of freedom in each counts bin, if all of these predict 20 ON and
        20 OFF counts or more. With fewer, and of likelihoods with merged pixels, nobody knows
        the mean of the statistic: what is expected is NaN. Fits to a profile have chi-squared, and
        ``expected`` is the number of degrees of freedom.
    bins : dict
        For each bin of the profile (B, 1), or (B, G) in fits to a profile: ``law``, its mean
        brightness [cm-2 s-1 sr-1]; ``value`` and ``error``, the law times observed over predicted
        excess counts, or the norm of the profile as a brightness; ``residual`` in standard
        deviations, and ``variance`` of the counts, infinite in fits to a profile.
    geometry : BinGeometry
        Where the bins are.
    likelihood_params : dict
        Parameters of the likelihood, for its ``npred``, ``simulate`` and so on.
    fit : Fit
        What `jaxprof.fit` gave, for `jaxprof.model_limits`.
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
    fit: Fit
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
    def is_poor(self) -> bool:
        """Whether the statistic or the bins are less probable than 0.001 if the law is true."""
        # NaN where nobody knows what to expect.
        values = self.goodness["p_value"], self.bins_goodness["p_value"]
        return any(float(value) < POOR_P_VALUE for value in values)

    @property
    def bins_goodness(self) -> dict[str, float]:
        """Whether the law describes the bins of the profile, which all pixels together may hide.

        Returns
        -------
        dict
            ``chi2``, the sum of the squares of the residuals of the bins; ``dof``, bins less
            parameters of the law that were fitted, at least one; and ``p_value``, of a multiple
            of chi-squared with the variance that this sum has for Poisson counts, two and one over
            the variance of the counts in each bin (Pearson 1900 for many counts). Of right laws 0.5
            to 1.1 in a thousand are below 0.001 (40 000 sets each, 1 to 1000 counts in a bin).
        """
        residual = np.asarray(self.bins["residual"], float)
        known = np.isfinite(residual)
        chi2 = float(np.sum(residual[known] ** 2))
        free = dict(zip(self.names, self.fixed, strict=True))
        dof = max(int(known.sum()) - sum(not free[name] for name in self.law_names), 1)
        variance = np.asarray(self.bins["variance"], float)[known]
        stretch = 1 + float(np.sum(1 / variance)) / (2 * max(int(known.sum()), 1))
        p_value = float(scipy.special.chdtrc(dof / stretch, chi2 / stretch))
        return {"chi2": chi2, "dof": dof, "p_value": p_value}

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
            p_value = float(scipy.special.chdtrc(abs(dof), gain))
            significance = float(-scipy.special.ndtri(p_value / 2))
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

        def of_arrays(arrays: tuple[Any, Any]) -> tuple[Any, Any]:
            return law_curve(self.model, self.law_names, *arrays)

        if is_traced(self):
            return of_arrays((covariance, radius))
        return in_float64(of_arrays, (covariance, radius))

    def plot(self, ax: Any = None, *, profile: FluxProfile | None = None, n_sigma: int = 1) -> Any:
        """Draw the law with its error band over what was observed, and the residuals below.

        The law that it was tested against is a dashed line.

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
        from jaxprof.plotting.laws import plot_law

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
        """Write the table to a file that `read_table` reads, or as text.

        Parameters
        ----------
        filename : str or path-like
            Ends in ".fits", ".fits.gz" or ".ecsv". Or in ".csv", with the columns of the
            covariance numbered, or in ".tex", the parameters as a table for a paper.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        ValueError, OSError
            For another extension; if the file exists, or cannot be written.
        """
        write_law_table(self, filename, overwrite=overwrite)

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

    def _repr_html_(self) -> str:
        if np.ndim(self.stat) or isinstance(self.stat, jax.core.Tracer):
            return titled(type(self).__name__, facts({"fits": np.shape(self.stat)}))
        head, *rest = str(self).split("\n")
        names = ("parameter", "value", "error", "unit")
        known = {name: text for name, _, text in (line.partition(": ") for line in rest[:2])}
        if self.is_poor:
            known["warning"] = POOR
        if self.against is not None:
            known[f"against {type(self.against.model).__name__}"] = str(self.comparison)
        rows = [
            (row["name"], f"{row['value']:.6g}", f"{row['error']:.2g}", row["unit"])
            for row in _rows(self)
        ]
        return titled(head, facts(known), table(names, rows))

    def __str__(self) -> str:
        if np.ndim(self.stat) or isinstance(self.stat, jax.core.Tracer):
            return repr(self)
        good = self.goodness
        expected = (
            f"expected {float(good['expected']):.5g} +- {float(good['std']):.3g} "
            f"(p = {float(good['p_value']):.2g})"
        )
        if np.isnan(good["expected"]):
            expected = "nothing known to compare with (merged pixels, or few On-Off counts)"
        # Not by the name of the statistic above, which lacks what does not depend on the law.
        measure = "deviance" if self.fitted_to == "counts" else "chi2"
        lines = [
            f"{type(self.model).__name__}, fitted to the {self.fitted_to}: "
            f"{Status(int(self.status)).label}, stat {float(self.stat):.6g}",
            f"goodness: {measure} {float(good['stat']):.5g}, {expected}",
            "bins: chi2 {chi2:.4g} for {dof} degrees of freedom (p = {p_value:.2g})".format(
                **self.bins_goodness
            ),
        ]
        if self.is_poor:
            lines.append(POOR)
        lines += [
            f"{row['name']}: {row['value']:.6g} +- {row['error']:.2g} {row['unit']}".rstrip()
            for row in _rows(self)
        ]
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
    if _free(small) < _free(large):
        # With a free core as well, that would not be identifiable where the law is constant.
        flat = isinstance(small.model, ConstantRadialModel)
        sloped = isinstance(large.model, PowerLawRadialModel | CoredPowerLawRadialModel)
        flat &= sloped and set(large.law_names) == {"amplitude", "alpha"}
        return flat or _same_kind(small.model, large.model)
    return False


def _free(result: ModelFit) -> set[str]:
    """Names of what was fitted."""
    return {name for name, fixed in zip(result.names, result.fixed, strict=True) if not fixed}


def _same_kind(law: Any, other: Any) -> bool:
    kind: Any = jax.tree.structure(law)
    return bool(kind == jax.tree.structure(other))
