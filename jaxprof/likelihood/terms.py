r"""Terms of a likelihood: counts bins of one data set, and what their statistic is.

The predicted counts of a counts bin :math:`s` are

.. math:: \mu_s = \theta\, e^{-\tau \ell_s} b_s + o_s + \sum_{cq} \varphi_{cq}\, T_{cq,s}

with the background :math:`b`, its norm :math:`\theta` and tilt :math:`\tau`, fixed counts :math:`o`
and components :math:`c` (bins of the profile, guard bins, other sources) of templates :math:`T`.
Coefficients :math:`\varphi` are norms or, where templates are kept per true energy :math:`q`, norms
times fluxes.

Arrays have the shape (G, N, S): energy groups, disjoint regions, counts bins of a region. A
disjoint region is reached by a few of all components only, those that ``components`` lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.differentiation import refuse_derivatives
from jaxprof.likelihood import statistics
from jaxprof.likelihood.poisson import poisson

ROUNDING = 1e-9
"""Part of its background that an empty counts bin may be predicted below zero, by rounding."""

NO_DERIVATIVES = (
    "simulate: drawn counts have no derivatives with respect to the parameters; give it "
    "jax.lax.stop_gradient(params), or differentiate asimov(params)"
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Poisson:
    """Counts of a data set with a predicted background.

    Parameters
    ----------
    counts : array, shape (G, N, S)
        Observed counts.
    background : array, shape (G, N, S)
        Predicted background, which its norm multiplies.
    offset : array, shape (G, N, S)
        Predicted counts that no parameter changes.
    log_energy : array, shape (G, N, S)
        Logarithm of the energy over the reference energy of the background tilt.
    templates : array, shape (..., G, N, K, Q, S)
        See `signal`.
    components : array of int, shape (G, N, K)
        See `signal`. Padding repeats any component, with templates of zero.
    mask : array of bool, shape (G, N, S)
        True for the counts bins to use.
    dataset : int
        Index of the data set.
    clipped : bool
        What a prediction below zero means where there are no counts. If True, as in fits of each
        region by itself, it counts as zero: the statistic has a kink there. If False, as in fits
        of all regions together, it is outside of the domain: components could otherwise cancel
        each other where there are no counts, at no cost.
    """

    counts: Any
    background: Any
    offset: Any
    log_energy: Any
    templates: Any
    components: Any
    mask: Any
    dataset: int = field(default=0, metadata={"static": True})
    clipped: bool = field(default=False, metadata={"static": True})

    def npred(self, signal: Any, norm: Any, tilt: Any) -> Any:
        """Predicted counts (G, N, S) of a signal (G, N, S), and norm and tilt (G,) or None."""
        scale = norm[:, None, None]
        if tilt is not None:
            scale = scale * jnp.exp(-tilt[:, None, None] * self.log_energy)
        total = scale * self.background + self.offset + signal
        if self.clipped:
            total = jnp.where((self.counts > 0) | ~(total < 0), total, 0.0)
        return total

    def log_prob(self, signal: Any, norm: Any, tilt: Any) -> tuple[Any, Any]:
        """Sum of the logarithms of Poisson probabilities, with the factorials, and the violation.

        The violation is zero in the domain, and otherwise the sum of what is predicted below it.
        The logarithm is NaN for counts or predictions that are none.
        """
        npred, counts = self.npred(signal, norm, tilt), jnp.where(self.mask, self.counts, 0.0)
        inside = self._inside(npred, norm)
        # Also without counts, for the sake of the derivatives with respect to them.
        safe = jnp.where(npred > 0, npred, 1.0)
        if jnp.finfo(npred.dtype).bits < 64:
            # In single precision large terms of many counts would leave nothing of their sum.
            value = _rise(counts, safe, npred)
        else:
            value = counts * jnp.log(safe) - npred - statistics.log_factorial(counts)
        valid = self._valid(npred)
        # At a prediction of exactly zero there is no distance, but no probability of counts either.
        below = jnp.where(inside | ~valid, 0.0, npred - jnp.finfo(npred.dtype).tiny)
        value = _or_nan(valid, value, npred, self.counts, self.background)
        return _sum(value, self.mask), _sum(below, self.mask)

    def _valid(self, npred: Any) -> Any:
        """Where counts, backgrounds and predictions are valid, or masked."""
        counted = (self.counts >= 0) & (self.counts < jnp.inf) & (self.background >= 0)
        return ~self.mask | (counted & jnp.isfinite(npred) & jnp.isfinite(self.log_energy))

    def _inside(self, npred: Any, norm: Any) -> Any:
        """Predictions in the domain: without counts they may be zero but for rounding."""
        level = ROUNDING * (norm[:, None, None] * self.background + self.offset)
        return jnp.where(self.counts > 0, npred > 0, npred >= -level)

    def stat(self, signal: Any, norm: Any, tilt: Any) -> Any:
        """Cash statistic, without the factorials: see `jaxprof.core.cash`.

        Infinite outside of the domain of a joint fit; separate ones have gammapy's floor.
        """
        npred = self.npred(signal, norm, tilt)
        value = statistics.cash(jnp.where(self.mask, self.counts, 0.0), npred)
        if not self.clipped:
            value = jnp.where(self._inside(npred, norm), value, jnp.inf)
        value = _or_nan(self._valid(npred), value, npred, self.counts, self.background)
        return _sum(value, self.mask)

    def simulated(self, key: Any, signal: Any, norm: Any, tilt: Any) -> Poisson:
        """The same term with Poisson counts."""
        return self.with_counts(_poisson(key, self.rates(signal, norm, tilt)))

    def expected(self, signal: Any, norm: Any, tilt: Any) -> Poisson:
        """The same term with the predicted counts."""
        return self.with_counts(self.rates(signal, norm, tilt))

    def rates(self, signal: Any, norm: Any, tilt: Any) -> Any:
        """Predicted counts, zero where masked; NaN where below zero by more than rounding."""
        npred = self.npred(signal, norm, tilt)
        level = ROUNDING * (norm[:, None, None] * self.background + self.offset)
        rates = jnp.where(npred >= -level, jnp.maximum(npred, 0.0), jnp.nan)
        return jnp.where(self.mask, rates, 0.0)

    @property
    def observed(self) -> Any:
        """The counts."""
        return self.counts

    def with_counts(self, counts: Any) -> Poisson:
        """The same term with other counts, (G, N, S)."""
        counts = _like(counts, self.counts, "counts")
        return replace(self, counts=counts)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OnOff:
    """Counts of a data set with a background measured in OFF regions.

    The OFF rate of each counts bin is profiled: there is no background parameter, and every signal
    is inside of the domain.

    Parameters
    ----------
    n_on, n_off, alpha : array, shape (G, N, S)
        Counts in the ON and the OFF region; acceptance ON over acceptance OFF.
    offset, templates, components, mask, dataset
        As in `Poisson`.
    """

    n_on: Any
    n_off: Any
    alpha: Any
    offset: Any
    templates: Any
    components: Any
    mask: Any
    dataset: int = field(default=0, metadata={"static": True})

    def _rates(self, signal: Any) -> tuple[Any, Any]:
        alpha = jnp.where(self.mask, self.alpha, 1.0)
        off, on, _ = statistics.wstat_rates(self.n_on, self.n_off, alpha, self.offset + signal)
        return on, off

    def npred(self, signal: Any, norm: Any, tilt: Any) -> Any:
        """Predicted ON counts (G, N, S) of a signal, with the profiled OFF rate."""
        return self._rates(signal)[0]

    def log_prob(self, signal: Any, norm: Any, tilt: Any) -> tuple[Any, Any]:
        """Sum of the logarithms of the probabilities of ON and OFF counts, as of `Poisson`.

        Its derivative with respect to a count of zero whose rate vanishes with it is infinite: that
        of a floor of the rate is given, see `statistics.wstat_difference`.
        """
        value = -0.5 * self._terms(signal)
        for counts, rate in zip(self.observed, self._rates(signal), strict=True):
            n, least = jnp.where(self.mask, counts, 0.0), statistics.TRUNCATION
            # Elsewhere the infinite derivative at zero is left out of the statistic as well.
            reference = jnp.where(n > 0, n, jnp.where(rate > least, 1.0, least))
            saturated = n * jnp.log(reference)
            value = value + (saturated - n - statistics.log_factorial(n))
        value = self._or_nan(value, signal)
        return _sum(value, self.mask), jnp.zeros_like(self.n_on[0, 0, 0])

    def _or_nan(self, value: Any, signal: Any) -> Any:
        """Values where counts, acceptances and predictions are valid, or masked; NaN elsewhere."""
        valid = (self.alpha > 0) & jnp.isfinite(self.alpha) & jnp.isfinite(self.offset + signal)
        for counts in self.observed:
            valid &= (counts >= 0) & (counts < jnp.inf)
        return _or_nan(valid | ~self.mask, value, *self.observed, self.alpha, signal, self.offset)

    def _terms(self, signal: Any) -> Any:
        # Without counts second derivatives in single precision are NaN.
        on, off = (jnp.where(self.mask, n, 1.0) for n in self.observed)
        alpha = jnp.where(self.mask, self.alpha, 1.0)
        return statistics.wstat(on, off, alpha, self.offset + signal)

    def stat(self, signal: Any, norm: Any, tilt: Any) -> Any:
        """On-Off statistic: see `jaxprof.core.wstat`."""
        return _sum(self._or_nan(self._terms(signal), signal), self.mask)

    def simulated(self, key: Any, signal: Any, norm: Any, tilt: Any) -> OnOff:
        """The same term with Poisson counts, ON and OFF."""
        on, off = (jnp.where(self.mask, rate, 0.0) for rate in self._rates(signal))
        key_on, key_off = jax.random.split(key)
        return self.with_counts((_poisson(key_on, on), _poisson(key_off, off)))

    def expected(self, signal: Any, norm: Any, tilt: Any) -> OnOff:
        """The same term with the predicted counts, ON and OFF."""
        on, off = (jnp.where(self.mask, rate, 0.0) for rate in self._rates(signal))
        return self.with_counts((on, off))

    @property
    def observed(self) -> Any:
        """Pair of ON and OFF counts."""
        return self.n_on, self.n_off

    def with_counts(self, counts: Any) -> OnOff:
        """The same term with other counts: a pair of ON and OFF counts, (G, N, S) each."""
        on, off = counts
        return replace(
            self, n_on=_like(on, self.n_on, "n_on"), n_off=_like(off, self.n_off, "n_off")
        )


Term = Poisson | OnOff


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CountsBins:
    """Where the counts bins of a term come from.

    Attributes
    ----------
    energy : array of int, shape (G, N, S)
        Reconstructed energy, counted on the axis of the data set; -1 for a sum over energies.
    pixel : array of int, shape (G, N, S)
        Index of the pixel in the flattened image, ``y * n_x + x``; -1 for a sum over pixels.
    region : array of bool, shape (G, N, B)
        Bins of the profile that the pixels of a disjoint region belong to; (G, N, B, S) after
        ``Likelihood.merge_empty``, which brings pixels of many regions together.
    dataset : str
        Name of the data set.
    """

    energy: Any
    pixel: Any
    region: Any
    dataset: str = field(default="", metadata={"static": True})


def _sum(values: Any, mask: Any) -> Any:
    return jnp.sum(jnp.where(mask, values, 0.0))


def _or_nan(valid: Any, values: Any, *inputs: Any) -> Any:
    """Values where they are valid, else NaN, as are the derivatives with respect to the inputs."""
    nan = jnp.nan * sum(jnp.where(valid, 0.0, own) for own in inputs)
    return jnp.where(valid, values, nan)


def _rise(counts: Any, safe: Any, npred: Any) -> Any:
    """Logarithms of probabilities as their differences from the largest, and this.

    Where the counts themselves are the prediction. Both are small; as a reference the counts are
    constants, so that derivatives with respect to them are the same.
    """
    still = jax.lax.stop_gradient(counts)
    reference = jnp.where(still > 0, still, 1.0)
    largest = counts * jnp.log(reference) - still - statistics.log_factorial(counts)
    ratio = safe / reference
    # That both are of the same ratio takes its rounding from the difference.
    more = jnp.where((still > 0) & (npred > 0), still * (ratio - 1.0), npred - still)
    return counts * jnp.log(ratio) - more + largest


def _poisson(key: Any, rate: Any) -> Any:
    return poisson(key, refuse_derivatives(rate, NO_DERIVATIVES))


def _like(values: Any, old: Any, name: str) -> Any:
    """New counts of the shape and floating dtype of the old ones."""
    if hasattr(values, "unit") or isinstance(values, str):
        raise ValueError(f"{name} must be an array of plain numbers, got {values!r}")
    values = jnp.asarray(values)
    if values.shape != old.shape:
        raise ValueError(f"{name} have shape {values.shape}; the likelihood needs {old.shape}")
    return values.astype(jnp.result_type(old))
