"""Laws that give the norms of a likelihood: their log probability, starts, and what a fit tells.

Everything is pure: it can be compiled, mapped over and differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from jaxprof.compilation import is_traced
from jaxprof.inference.fit_result import Fit
from jaxprof.inference.model_fit import fit
from jaxprof.likelihood import Likelihood, OnOff
from jaxprof.likelihood.bin_geometry import with_centre
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.goodness import cash_expectation, deviance, wstat_expectation
from jaxprof.models.radial_power_laws import ConstantRadialModel
from jaxprof.models.units import is_concrete

DETERMINED = frozenset({"lon_0", "lat_0", "reference", "distance", "rho_s", "edge_width"})
"""Parameters of laws that are given, not fitted: no data tell them beside the others."""
OF_SPECTRUM = frozenset({"amplitude", "reference", "emin", "emax", "e_min", "e_max"})
"""Parameters of spectra that are not fitted: a law has the flux."""


def law_parameters(law: Any) -> dict[str, Any]:
    """Values of the parameters of a law that may be fitted, by name.

    Not a core of zero: nothing changes with it to first order there, so that no fit departs.
    """
    users = hasattr(law, "values")
    given = {"lon_0", "lat_0"} if users else DETERMINED

    def may(name: str, value: Any) -> bool:
        none = name == "core" and not users and is_concrete(value) and np.all(value == 0)
        return name not in given and not none

    return {
        name: value for name, value in law.parameters.items() if may(name.rpartition(".")[2], value)
    }


def with_parameters(law: Any, params: Mapping[str, Any]) -> Any:
    """A law with those of the parameters that are its own."""
    own = {name: params[name] for name in law_parameters(law) if name in params}
    return law.replace(**own) if own else law


def _rest(params: Mapping[str, Any], law: Any) -> dict[str, Any]:
    """Those of the parameters that are not a law's."""
    names = law_parameters(law)
    return {name: value for name, value in params.items() if name not in names}


def likelihood_params(params: Mapping[str, Any], likelihood: Any, law: Any) -> dict[str, Any]:
    """Parameters of a likelihood under a law: ``norm`` (B, 1), the same in all groups, and others.

    ``params`` are parameters of the law and nuisance parameters, by name; the law has the others.
    """
    rest = _rest(params, law)
    reference = _reference_flux(likelihood, rest)
    law = with_parameters(law, params)
    if likelihood.geometry.rings is not None:
        # Not fitted: a fit has derivatives with respect to all else.
        law = with_centre(law, jax.lax.stop_gradient)
    norm = likelihood.geometry.norms(law, reference)
    n_groups = jnp.shape(likelihood.nominal["norm"])[1]
    return {"norm": jnp.broadcast_to(norm, (norm.shape[0], n_groups)), **rest}


def _reference_flux(likelihood: Any, rest: Mapping[str, Any]) -> Any:
    """Flux at norm one under the spectrum of the parameters; None if that does not change it."""
    spectra = getattr(likelihood, "spectra", None)
    if spectra is None or spectra.reference_flux is not None:
        return None
    model = likelihood.nominal["spectrum"]
    if "spectrum" in rest:
        model = model.replace(**rest["spectrum"])
    model = jax.tree.map(lambda leaf: leaf[:, None] if jnp.ndim(leaf) == 1 else leaf, model)
    low, high = jnp.asarray(spectra.group_edges).T
    return jnp.sum(model.integral(low, high), axis=-1)


def law_log_prob(params: Mapping[str, Any], likelihood: Any, law: Any) -> Any:
    """Log probability of a likelihood under a law, for `jaxprof.fit` with ``(likelihood, law)``."""
    return likelihood.log_prob(likelihood_params(params, likelihood, law))


def flux_log_prob(params: Mapping[str, Any], likelihood: Any, law: Any) -> Any:
    """`law_log_prob` where ``amplitude`` is the sum of the norms, the flux of the law.

    The shape of a law may change its flux by orders of magnitude, those of halos do. The valley
    that fits follow is narrow and curved then, but hardly at a constant flux.
    """
    whole = _at_amplitude_one(params, likelihood, law)
    norm = whole["norm"] * (params["amplitude"] / jnp.sum(whole["norm"]))
    return likelihood.log_prob({**whole, "norm": norm})


def flux_per_amplitude(params: Mapping[str, Any], likelihood: Any, law: Any) -> Any:
    """Sum of the norms at an amplitude of one."""
    return jnp.sum(_at_amplitude_one(params, likelihood, law)["norm"])


def _at_amplitude_one(params: Mapping[str, Any], likelihood: Any, law: Any) -> dict[str, Any]:
    one = jnp.ones_like(params["amplitude"])
    return likelihood_params({**params, "amplitude": one}, likelihood, law)


def law_start(likelihood: Any, law: Any, fixed: tuple[str, ...]) -> dict[str, Any]:
    """Parameters from which a fit starts.

    Those of the law as it has them, but for its amplitudes: they are multiplied such that the law
    has the excess counts that were observed.
    """
    own = {name: value for name, value in law_parameters(law).items() if name not in fixed}
    rest = {name: value for name, value in likelihood.params().items() if name != "norm"}
    spectra = getattr(likelihood, "spectra", None)
    if spectra is not None and spectra.reference_flux is None:
        free = likelihood.nominal["spectrum"].parameters
        free = {name: value for name, value in free.items() if name not in OF_SPECTRUM}
        rest |= {"spectrum": free} if free else {}
    amplitudes = [name for name in own if name.rpartition(".")[2] == "amplitude"]
    if amplitudes:
        factor = _excess_ratio(likelihood, likelihood_params({**own, **rest}, likelihood, law))
        own |= {name: own[name] * factor for name in amplitudes}
    return {**own, **rest}


def search_law(args: tuple[Any, Any], start: dict[str, Any], **options: Any) -> Fit:
    """The fit; one that does not converge begins again where that with the law's flux ends."""
    found = fit(law_log_prob, start, args=args, **options)
    if is_traced(found) or found.status != Status.NOT_CONVERGED:
        return found
    if "amplitude" not in start or "amplitude" in options["bounds"]:
        return found
    options["starts"] = None
    flux = start["amplitude"] * flux_per_amplitude(start, *args)
    by_flux = fit(flux_log_prob, start | {"amplitude": flux}, args=args, **options)
    if by_flux.status == Status.NOT_CONVERGED:
        return found
    best = by_flux.params
    amplitude = best["amplitude"] / flux_per_amplitude(best, *args)
    return fit(law_log_prob, best | {"amplitude": amplitude}, args=args, **options)


def _excess_ratio(likelihood: Any, params: Mapping[str, Any]) -> Any:
    """Observed over predicted excess; one standard deviation where nothing is observed."""
    if not isinstance(likelihood, Likelihood):
        return likelihood.excess_ratio(params["norm"])
    counts = counts_of_bins(likelihood, params)
    excess = jnp.sum(counts["excess"])
    least = jnp.maximum(jnp.sqrt(jnp.sum(counts["variance"])), 1.0)
    predicted = jnp.sum(counts["signal"])
    ratio = jnp.maximum(excess, least) / jnp.where(predicted > 0, predicted, 1.0)
    return jnp.where((predicted > 0) & jnp.isfinite(ratio), ratio, 1.0)


def counts_of_bins(likelihood: Likelihood, params: Mapping[str, Any]) -> dict[str, Any]:
    """Counts in the pixels of each bin of the profile, (B,), of all energies and data sets.

    ``excess``, of counts over all that norms have no part in; ``signal``, the same as predicted;
    and ``variance`` of the excess. Where regions overlap a count is in each of them.
    """
    none = {**params, "norm": jnp.zeros_like(params["norm"])}
    geometry = likelihood.geometry
    assert geometry is not None
    total = dict.fromkeys(("excess", "signal", "variance"), jnp.zeros(geometry.n_bins))
    parts = zip(
        likelihood.terms,
        likelihood.bins,
        likelihood.npred(params),
        likelihood.signal(params),
        likelihood.signal(none),
        strict=True,
    )
    for term, bins, npred, signal, other in parts:
        part = signal - other
        values = {"signal": part}
        if isinstance(term, OnOff):
            alpha = jnp.where(term.mask, term.alpha, 0.0)
            values["excess"] = term.n_on - alpha * term.n_off - other
            values["variance"] = term.n_on + alpha**2 * term.n_off
        else:
            values |= {"excess": term.counts - (npred - part), "variance": npred}
        # Pixels of disjoint regions belong to a bin if they do to any of its parts.
        member = jnp.asarray(bins.region, float)
        inside = jax.ops.segment_max(
            jnp.moveaxis(member, 2, 0), jnp.asarray(geometry.parent), geometry.n_bins
        )
        for name, value in values.items():
            own = jnp.where(term.mask, value, 0.0)
            if inside.ndim == 3:
                total[name] = total[name] + jnp.einsum("gn,bgn->b", jnp.sum(own, axis=2), inside)
            else:
                total[name] = total[name] + jnp.einsum("gns,bgns->b", own, inside)
    return total


def law_bins(likelihood: Any, params: Mapping[str, Any], law: Any) -> dict[str, Any]:
    """A fitted law and what was observed, for each bin of the profile.

    Returns
    -------
    dict of array, shape (B, 1) or (B, G)
        ``law``, the mean brightness of the law in the bin; ``value`` and ``error``, what was
        observed, in this unit: the law and the counts that it leaves, over those that an even
        brightness of one everywhere leads to in the bin. Behind a PSF that is not what the bin
        emits: where a law is steep most counts come from other bins. ``residual``, in standard
        deviations of what was observed, and ``variance``, of the counts (infinite where a normal
        distribution is taken).
    """
    geometry = likelihood.geometry
    flux = geometry.flux(with_parameters(law, params))
    mean = (geometry.total(flux) / geometry.total(geometry.solid_angle))[:, None]
    whole = likelihood_params(params, likelihood, law)
    if not isinstance(likelihood, Likelihood):
        scale = mean / jnp.where(whole["norm"] == 0, jnp.nan, whole["norm"])
        value, error, residual = likelihood.observed(whole["norm"])
        found = {"law": mean, "value": value * scale, "error": error * scale}
        return found | {"residual": residual, "variance": jnp.full_like(residual, jnp.inf)}
    counts = {name: value[:, None] for name, value in counts_of_bins(likelihood, whole).items()}
    even = ConstantRadialModel(amplitude=1.0, frame=geometry.frame)
    norm = geometry.norms(even, _reference_flux(likelihood, _rest(params, law)))
    flat = {**whole, "norm": jnp.broadcast_to(norm, jnp.shape(whole["norm"]))}
    per_brightness = counts_of_bins(likelihood, flat)["signal"][:, None]
    per_brightness = jnp.where(per_brightness == 0, jnp.nan, per_brightness)
    left = counts["excess"] - counts["signal"]
    spread = jnp.sqrt(jnp.where(counts["variance"] > 0, counts["variance"], jnp.nan))
    return {
        "law": mean,
        "value": mean + left / per_brightness,
        "error": spread / per_brightness,
        "residual": left / spread,
        "variance": counts["variance"],
    }


def law_goodness(likelihood: Any, params: Mapping[str, Any], law: Any, n_free: int) -> Any:
    """Goodness of a fit: its statistic against what is expected, see `ModelFit`."""
    whole = likelihood_params(params, likelihood, law)
    if not isinstance(likelihood, Likelihood):
        return likelihood.goodness(whole, n_free)
    expected: Any = 0.0
    variance: Any = 0.0
    number: Any = 0
    parts = zip(likelihood.terms, likelihood.npred(whole), likelihood.signal(whole), strict=True)
    for term, npred, signal in parts:
        if isinstance(term, OnOff):
            off = (npred - term.offset - signal) / jnp.where(term.mask, term.alpha, 1.0)
            mean, spread = (
                jnp.where(term.mask, part, 0.0) for part in wstat_expectation(npred, off)
            )
        else:
            mean, spread = cash_expectation(jnp.where(term.mask, npred, 0.0))
        expected, variance = expected + jnp.sum(mean), variance + jnp.sum(spread)
        number = number + jnp.sum(term.mask)
    if likelihood.merged:
        # Bins that were merged since they are empty have no Poisson distribution.
        expected = variance = jnp.nan
    stat = jnp.sum(deviance(likelihood, whole))
    std = jnp.sqrt(variance)
    z = (stat - expected) / std
    return {
        "stat": stat,
        "expected": expected,
        "std": std,
        "n_bins": number,
        "n_free": n_free,
        "z": z,
        "p_value": 0.5 * erfc(z / np.sqrt(2.0)),
    }


def law_curve(law: Any, names: tuple[str, ...], covariance: Any, radius: Any) -> tuple[Any, Any]:
    """Brightness of a law at separations [deg] and its standard deviation, to first order.

    The covariance is that of the parameters with these names.
    """
    values = {name: jnp.asarray(law.parameters[name], covariance.dtype) for name in names}

    def brightness(own: dict[str, Any]) -> Any:
        return law.replace(**own)(radius)

    slopes = jax.jacfwd(brightness)(values)
    slope = jnp.stack([slopes[name] for name in names])
    variance = jnp.einsum("i...,ij,j...->...", slope, covariance, slope)
    return brightness(values), jnp.sqrt(variance)
