"""Fit statistics for Poisson counts, element by element.

Each function works on one counts bin (or, by broadcasting, on arrays of counts bins); sums belong
to the caller. Three forms are given of each statistic: its value, the difference between two norms
without subtracting two large numbers, and its *score*, half its derivative with respect to
the norm.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

TRUNCATION = 1e-25
"""Floor of the predicted counts inside a logarithm, the value gammapy uses."""


def _log_term(counts: jax.Array, rate: jax.Array) -> jax.Array:
    """``counts * log(rate)`` with the floor; its derivative with respect to counts is the log."""
    return counts * jnp.log(jnp.maximum(rate, TRUNCATION))


def _log_ratio(
    counts: jax.Array, rate: jax.Array, rate0: jax.Array, change: jax.Array
) -> jax.Array:
    """``counts * log(rate / rate0)`` for ``rate = rate0 + change``, accurate for small changes."""
    regular = (rate > TRUNCATION) & (rate0 > TRUNCATION)
    relative = jnp.where(regular, change / jnp.where(regular, rate0, 1.0), 0.0)
    # log1p loses its advantage where the rate drops by orders of magnitude.
    use_close = regular & (relative > -0.5)
    close = jnp.log1p(jnp.where(use_close, relative, 0.0))
    far = jnp.log(jnp.maximum(rate, TRUNCATION)) - jnp.log(jnp.maximum(rate0, TRUNCATION))
    return counts * jnp.where(use_close, close, far)


def _deviance(counts: jax.Array, rate: jax.Array, per_count: jax.Array) -> jax.Array:
    """``rate - counts - counts * log(rate / counts)``, accurate for rates close to the counts.

    There it is a small difference of large terms, of the second order in ``rate - counts``: the
    logarithm is that of one plus the relative change. Without counts it is the rate, and its
    derivative with respect to these is that of a first fraction of a count, for which see
    `_per_count`.
    """
    found = counts > 0
    change = rate - counts
    log = _log_ratio(counts, rate, jnp.where(found, counts, 1.0), change)
    first = _log_term(counts, jnp.where(rate > TRUNCATION, rate, per_count))
    return change - jnp.where(found, log, first)


def log_factorial(n: jax.Array) -> jax.Array:
    r""":math:`\ln \Gamma(n + 1)` of numbers that are not negative.

    Stirling's series, which is right to rounding from eight on, after the recurrence up to there.
    `jax.scipy.special.gammaln` is right for all arguments, but takes most of a likelihood's time.
    """
    z = jnp.where(n >= 0, n, 0.0) + 1.0
    small = z < 8.0
    low = jnp.where(small, z, 1.0)
    product = low
    for step in range(1, 7):
        product = product * (low + step)
    y = jnp.where(small, z + 7.0, z)
    square = 1.0 / (y * y)
    # B_2k / (2k (2k - 1)), k = 7 to 1
    series: jax.Array | float = 1.0 / 156.0
    for term in (
        -691.0 / 360360.0,
        1.0 / 1188.0,
        -1.0 / 1680.0,
        1.0 / 1260.0,
        -1.0 / 360.0,
        1.0 / 12.0,
    ):
        series = term + square * series
    stirling = (y - 0.5) * jnp.log(y) - y + 0.5 * math.log(2.0 * math.pi) + series / y
    return stirling - jnp.where(small, jnp.log(product), 0.0)


def cash(counts: ArrayLike, npred: ArrayLike) -> jax.Array:
    r"""Cash statistic of Poisson counts with a known prediction.

    .. math:: C = 2 \left( \mu - n \ln \mu \right)

    without the term of :math:`n!`, the logarithmic term only where :math:`n > 0`. Predictions below
    zero count as zero, and :math:`\mu` is floored at ``TRUNCATION`` inside the logarithm.

    Parameters
    ----------
    counts : array_like
        Observed counts.
    npred : array_like
        Predicted counts (signal and background), of a shape that broadcasts with ``counts``.

    Returns
    -------
    stat : jax.Array
        The statistic, element by element.

    References
    ----------
    Cash, W. (1979), ApJ 228, 939.
    """
    counts, npred = jnp.asarray(counts), jnp.asarray(npred)
    # At zero the right-hand derivative: that of a maximum would be half of it.
    return 2.0 * (jnp.where(npred < 0, 0.0, npred) - _log_term(counts, npred))


def cash_difference(
    counts: jax.Array,
    background: jax.Array,
    npred_ref: jax.Array,
    norm: jax.Array,
    norm0: jax.Array,
) -> jax.Array:
    """``cash`` at ``norm`` minus ``cash`` at ``norm0``, without cancellation.

    The linear part is a difference of norms and the logarithmic one a ``log1p``, so that float32
    keeps the digits that a difference of two sums would lose.
    """
    rate0 = background + norm0 * npred_ref
    rate = background + norm * npred_ref
    change = (norm - norm0) * npred_ref
    # At a kink of the minimum (norm0) a prediction is zero but for rounding. It then stays zero for
    # derivatives too; at norm a prediction of zero can only grow.
    rounding = 4 * jnp.finfo(rate.dtype).eps * jnp.abs(background)
    counted, counted0 = rate >= 0, rate0 > rounding
    linear = jnp.where(
        counted & counted0, change, jnp.where(counted, rate, 0.0) - jnp.where(counted0, rate0, 0.0)
    )
    return 2.0 * (linear - _log_ratio(counts, rate, rate0, change))


def cash_score(
    counts: jax.Array, background: jax.Array, npred_ref: jax.Array, norm: jax.Array
) -> jax.Array:
    """Half the derivative of ``cash`` by the norm; the right-hand one at a kink.

    A counts bin without counts contributes once its prediction is positive. Whether it is, is asked
    of the norm (``norm >= -background / npred_ref``) and not of the rounded prediction, so that a
    norm that was set to the kink itself is on its right side.
    """
    rate = background + norm * npred_ref
    has_counts, positive = counts > 0, rate > TRUNCATION
    safe_rate = jnp.where(positive, rate, jnp.where(has_counts, TRUNCATION, 1.0))
    ratio = jnp.where(positive | has_counts, counts / safe_rate, 0.0)
    active = has_counts | (norm >= cash_kink(counts, background, npred_ref))
    return npred_ref * (jnp.where(active, 1.0, 0.0) - ratio)


def cash_curvature(
    counts: jax.Array, background: jax.Array, npred_ref: jax.Array, norm: jax.Array
) -> jax.Array:
    """The derivative of `cash_score` with respect to the norm."""
    rate = background + norm * npred_ref
    positive = rate > TRUNCATION
    ratio = jnp.where(positive, npred_ref / jnp.where(positive, rate, 1.0), 0.0)
    return counts * ratio**2


def cash_kink(counts: jax.Array, background: jax.Array, npred_ref: jax.Array) -> jax.Array:
    """Norm at which the prediction of a counts bin reaches zero, ``-background / npred_ref``.

    ``inf`` where the counts bin has no expected signal. With counts it is the end of the domain,
    without counts a kink of the statistic.
    """
    has_signal = npred_ref > 0
    return jnp.where(has_signal, -background / jnp.where(has_signal, npred_ref, 1.0), jnp.inf)


def wstat_rates(
    n_on: jax.Array, n_off: jax.Array, alpha: jax.Array, signal: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Maximum-likelihood OFF and ON rates, and the root ``D``, for a given signal.

    With ``C = alpha (n_on + n_off) - (1 + alpha) m`` and
    ``P = alpha (n_on + n_off) + (1 + alpha) m``, the OFF rate is
    ``(C + D) / (2 alpha (1 + alpha))`` and the ON rate ``(P + D) / (2 (1 + alpha))``; each is
    rewritten by its conjugate where its sum would cancel. Both are never negative.
    """
    total = alpha * (n_on + n_off)
    c = total - (1 + alpha) * signal
    p = total + (1 + alpha) * signal
    # D^2 in the one of its two forms that adds what is positive.
    square = jnp.where(
        signal > 0,
        c**2 + 4 * alpha * (1 + alpha) * n_off * signal,
        p**2 - 4 * alpha * (1 + alpha) * n_on * signal,
    )
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    off_low, on_low = c < 0, p < 0
    off = jnp.where(
        off_low,
        2 * n_off * signal / jnp.where(off_low, root - c, 1.0),
        (c + root) / (2 * alpha * (1 + alpha)),
    )
    on = jnp.where(
        on_low,
        -2 * alpha * n_on * signal / jnp.where(on_low, root - p, 1.0),
        (p + root) / (2 * (1 + alpha)),
    )
    return off, on, root


def _per_count(
    n_on: jax.Array, n_off: jax.Array, alpha: jax.Array, signal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """OFF and ON rates over their counts where rates vanish with these; elsewhere one.

    The logarithm of this ratio is what a first fraction of a count costs there.
    """
    _, _, root = wstat_rates(n_on, n_off, alpha, signal)
    total = alpha * (n_on + n_off)
    c, p = total - (1 + alpha) * signal, total + (1 + alpha) * signal
    off, on = 2 * signal / jnp.where(c < 0, root - c, 1.0), -2 * alpha * signal
    return jnp.where(c < 0, off, 1.0), jnp.where(p < 0, on / jnp.where(p < 0, root - p, 1.0), 1.0)


def wstat(
    n_on: ArrayLike, n_off: ArrayLike, alpha: ArrayLike, npred_signal: ArrayLike
) -> jax.Array:
    r"""On-Off statistic: Poisson counts with a background measured in an OFF region.

    The background is profiled analytically: with :math:`m` the predicted signal,
    :math:`C = \alpha (n_{on} + n_{off}) - (1 + \alpha) m` and
    :math:`D^2 = C^2 + 4 \alpha (\alpha + 1) n_{off} m`, the OFF rate is
    :math:`\mu_b = (C + D) / (2 \alpha (\alpha + 1))` and

    .. math::
        W = 2 \left[ m + (1 + \alpha) \mu_b - n_{on} \ln (m + \alpha \mu_b) - n_{off} \ln \mu_b
            - n_{on} (1 - \ln n_{on}) - n_{off} (1 - \ln n_{off}) \right]

    each logarithmic term only where its count is not zero. The saturated terms make it zero for a
    perfect prediction.

    Parameters
    ----------
    n_on, n_off : array_like
        Counts in the ON and the OFF region.
    alpha : array_like
        Ratio of the acceptances, ON over OFF; positive.
    npred_signal : array_like
        Predicted signal counts in the ON region.

    Returns
    -------
    stat : jax.Array
        The statistic, element by element, of the broadcast shape.

    Notes
    -----
    The derivative with respect to a count of zero is that from above where the rate vanishes with
    the count, as that of OFF counts where the signal is more than all ON counts would be. Elsewhere
    it is infinite, that of ``n ln n``, which is left out: no other derivative is lost by it.

    References
    ----------
    XSPEC manual, appendix B (Poisson data with Poisson background); Li & Ma (1983), ApJ 272, 317
    for ``W(0) - W(excess)``.
    """
    arrays = jnp.broadcast_arrays(*map(jnp.asarray, (n_on, n_off, alpha, npred_signal)))
    dtype = jnp.result_type(*arrays)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    n_on, n_off, alpha, signal = (array.astype(dtype) for array in arrays)
    off, on, _ = wstat_rates(n_on, n_off, alpha, signal)
    per_off, per_on = _per_count(n_on, n_off, alpha, signal)
    return 2.0 * (_deviance(n_on, on, per_on) + _deviance(n_off, off, per_off))


def wstat_difference(
    n_on: jax.Array,
    n_off: jax.Array,
    alpha: jax.Array,
    npred_ref: jax.Array,
    norm: jax.Array,
    norm0: jax.Array,
) -> jax.Array:
    """``wstat`` at ``norm`` minus ``wstat`` at ``norm0``, without cancellation.

    The changes of the profiled rates follow from that of ``D^2``, which factors: the OFF rate
    changes by ``step (2 n_off - (1 + alpha) (off + off0)) / (D + D0)``, and the ON rate
    by ``step ((1 + alpha) (on + on0) - 2 alpha n_on) / (D + D0)``. Where there are ON and OFF
    counts, the slopes by the two rates are ``e0 = 1 - n_on / on0`` and ``-alpha e0``: what is of
    the first order adds up to ``e0 step``, and what is left is positive,
    ``n (r - ln(1 + r))`` with the relative change ``r`` of each rate. Nothing cancels then.

    Its derivative with respect to a count of zero is that from above, also where both rates vanish
    with the count. Where only one of them does it is infinite; that of a floor ``TRUNCATION`` of
    the rate in the logarithm is given.
    """
    # ON and OFF, here and there, stand in one array: a program of half the size to compile.
    signals = jnp.stack(jnp.broadcast_arrays(norm * npred_ref, norm0 * npred_ref))
    both_off, both_on, roots = jax.vmap(lambda s: wstat_rates(n_on, n_off, alpha, s))(signals)
    on, off = both_on.sum(axis=0), both_off.sum(axis=0)
    step, root = (norm - norm0) * npred_ref, roots.sum(axis=0)
    factor = jnp.where(root > 0, step / jnp.where(root > 0, root, 1.0), 0.0)
    on_change = factor * ((1 + alpha) * on - 2 * alpha * n_on)
    change = jnp.stack([on_change, factor * (2 * n_off - (1 + alpha) * off)])
    counts = jnp.stack(jnp.broadcast_arrays(n_on, n_off))
    rate, rate0 = jnp.stack([both_on, both_off], axis=1)
    per_off, per_on = jax.vmap(lambda s: _per_count(n_on, n_off, alpha, s))(signals)
    ratio, ratio0 = jnp.stack([per_on, per_off], axis=1)
    vanish = (counts <= 0) & (rate <= TRUNCATION) & (rate0 <= TRUNCATION)
    own, own0 = jnp.where(vanish, ratio, rate), jnp.where(vanish, ratio0, rate0)
    plain = change - _log_ratio(counts, own, own0, jnp.where(vanish, ratio - ratio0, change))
    regular = jnp.all((counts > 0) & (rate0 > TRUNCATION), axis=0, keepdims=True)
    safe = jnp.where(regular, rate0, 1.0)
    relative = jnp.where(regular, change, 0.0) / safe
    close = regular & jnp.all(relative > -0.5, axis=0, keepdims=True)
    second = counts * _minus_log1p(jnp.where(close, relative, 0.0))
    split = step * (1.0 - n_on / safe[0]) + second.sum(axis=0)
    return 2.0 * jnp.where(close[0], split, plain.sum(axis=0))


def _minus_log1p(x: jax.Array) -> jax.Array:
    """``x - ln(1 + x)`` for ``x > -1``, accurate for small ones: ``x^2 / 2`` to leading order.

    With ``t = x / (2 + x)`` it is ``x t - 2 (atanh(t) - t)``, and its second part a series.
    """
    small = jnp.abs(x) < 0.1
    near = jnp.where(small, x, 0.0)
    t = near / (2.0 + near)
    square = t * t
    series = jnp.zeros_like(t)
    # t is 0.053 at most: the first term that is left out is below 1e-16 of the sum.
    for power in range(13, 1, -2):
        series = 1.0 / power + square * series
    far = jnp.where(small, 1.0, x)
    return jnp.where(small, near * t - 2.0 * t * square * series, far - jnp.log1p(far))


def wstat_score(
    n_on: jax.Array, n_off: jax.Array, alpha: jax.Array, npred_ref: jax.Array, norm: jax.Array
) -> jax.Array:
    """Half the derivative of ``wstat`` by the norm; the right-hand one at a kink.

    By the envelope theorem it is ``npred_ref (1 - n_on / rate_on)``. Where the ON rate is the small
    difference of two terms (``P < 0``, see `wstat_rates`) the ratio is ``(D - P) / (-2 alpha m)``,
    which holds without ON counts too, when that rate sits on its bound of zero.
    """
    signal = norm * npred_ref
    _, on, root = wstat_rates(n_on, n_off, alpha, signal)
    p = alpha * (n_on + n_off) + (1 + alpha) * signal
    small = p < 0
    positive = on > TRUNCATION
    regular = jnp.where(positive, n_on / jnp.where(positive, on, 1.0), 0.0)
    conjugate = (root - p) / jnp.where(small, -2 * alpha * signal, 1.0)
    return npred_ref * (1.0 - jnp.where(small, conjugate, regular))
