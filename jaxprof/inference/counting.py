"""Intervals of a counting experiment with a known background, exactly, by sums over the counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxprof.inference.bracketed import falling_root

BEYOND, NODES = 4.0, 400
"""How far above a background, in so many steps, others are sought that make a limit longer."""

Array = NDArray[np.float64]


def _crossings(counts: float, n: Array, background: Array) -> Array:
    """Signals at which other counts are ranked as high as the observed ones: (K, N).

    The logarithm of the ratio by which Feldman and Cousins rank counts is ``n ln(s + b) - (s + b)``
    and something that only `n` and the background know. So two counts change their order once.
    """
    b = background[:, None]

    def known(k: Any) -> Array:
        best = np.maximum(k, b)
        return scipy.special.xlogy(k, best) - best

    return np.exp((known(n) - known(counts)) / (n - counts)) - b


def _bisected(
    accepted: Callable[[float], Any], inside: float, outside: float, steps: int = 60
) -> float:
    """A point that is accepted, very close to one that is not, between two such points."""
    for _ in range(steps):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
    return float(inside)


def _ranked_before(counts: float, background: Array, cl: float) -> Array:
    """Counts that may be ranked before lower ones, up to those of an upper end."""
    # Far above both no counts as low as these are expected.
    most = max(counts, float(background.max()))
    last = most + 20.0 + 12.0 * np.sqrt(most + 1.0) - 4.0 * np.log(1.0 - cl)
    # All up to the background are ranked before at any signal.
    return np.arange(max(counts + 1.0, np.floor(background.min())), last + 1.0)


def _upper(counts: float, n: Array, background: Array) -> tuple[Array, Array, Array]:
    """Where upper ends may be: signals (K, N), what is ranked before there, and starts.

    Between the crossings of neighbours in `n` (N + 1,) the same counts, all above the observed
    ones, are ranked before these. Their probability rises and falls again: it is lowest at an end,
    and where it is below the confidence level there the observed counts are accepted.
    """
    ends = _crossings(counts, n, background)
    starts, rate = ends[:, :-1], ends[:, 1:] + background[:, None]
    before = scipy.special.pdtr(n[:-1], rate) - scipy.special.pdtr(counts, rate)
    return ends[:, 1:], before, starts


def _first(counts: float, background: float, cl: float) -> float:
    """Upper end for one background."""
    own = np.array([background])
    n = _ranked_before(counts, own, cl)
    ends, lowest, starts = (array[0] for array in _upper(counts, n, own))
    accepted = lowest < cl

    def before(signal: Any, at: Any) -> Array:
        return scipy.special.pdtr(at, signal + background) - scipy.special.pdtr(
            counts, signal + background
        )

    whole = np.flatnonzero(accepted)
    best = float(ends[whole[-1]]) if whole.size else max(counts - background, 0.0)
    # Beyond, the counts may be accepted at the start of a piece and no more at its end.
    part = np.flatnonzero((before(starts, n[:-1]) < cl) & ~accepted & (ends > best))
    if not part.size:
        return best
    at = part[-1]
    return max(best, _bisected(lambda x: before(x, n[at]) < cl, starts[at], ends[at]))


def _lower(counts: float, background: float, cl: float) -> float:
    """Lower end: the counts below the observed ones that are ranked before, in the same way."""
    if counts <= background:
        return 0.0
    n = np.arange(0.0, counts)
    if counts > 1000:
        n = n[n > counts - 40.0 * np.sqrt(counts)]
    at = np.maximum(_crossings(counts, n, np.array([background]))[0], 0.0)

    def before(signal: Any, lowest: Any) -> Array:
        rate = signal + background
        return scipy.special.pdtr(counts - 1.0, rate) - np.where(
            lowest > 0, scipy.special.pdtr(lowest - 1.0, rate), 0.0
        )

    # Pieces from the crossing of n - 1 to that of n, where n and all above it are ranked before.
    left, right = np.concatenate([[0.0], at[:-1]]), at
    at_left = before(left, n) < cl
    at_right = (before(right, n) < cl) & (right > left)
    found = np.flatnonzero(at_left | at_right)
    last = counts - background
    if not found.size:
        return float(at[-1]) if len(at) else min(last, 0.0)
    first = found[0]
    if at_left[first]:
        return float(left[first])
    return _bisected(lambda x: before(x, n[first]) < cl, right[first], left[first])


@lru_cache(maxsize=65536)
def unified_interval(counts: float, background: float, cl: float) -> tuple[float, float]:
    """Interval of Feldman and Cousins for the expected signal of some counts, at a level.

    It holds all signals that accept the counts, which are accepted in the order of ``P(n | signal)
    / P(n | best)``, with the best signal that is not negative, until their sum reaches the
    confidence level. Exact but for rounding. As in the tables of the paper no upper limit is below
    that of the same counts with a larger background. Counts are whole numbers, and the limit would
    else go up here and there as the background does.

    References
    ----------
    Feldman & Cousins 1998, Phys. Rev. D 57, 3873.
    """
    low, high = _lower(counts, background, cl), _first(counts, background, cl)
    if counts > background:
        return low, high  # falls by as much as the background grows
    # Each piece ends the lower the larger the background: the first that accepts the counts counts.
    nodes = background + BEYOND * np.linspace(0.0, 1.0, NODES)
    n = _ranked_before(counts, nodes, cl)
    ends, lowest, _ = (array[0] for array in _upper(counts, n, nodes[:1]))
    # By no more does what is ranked before change from the first of these backgrounds to the last.
    with np.errstate(divide="ignore"):
        change = 2.0 * BEYOND * np.sqrt(ends + background) / background
    near = np.flatnonzero((ends > high) & (lowest < cl + change))
    if not near.size:
        return low, high
    n = n[near[0] : near[-1] + 2]
    accepted = _upper(counts, n, nodes)[1] < cl
    first = np.argmax(accepted, axis=0)
    pieces = np.flatnonzero((first > 0) & accepted.any(axis=0))
    for piece in map(int, pieces):
        pair = n[piece : piece + 2]

        def accepts(at: float, pair: Array = pair) -> bool:
            return bool(_upper(counts, pair, np.array([at]))[1][0, 0] < cl)

        at = _bisected(accepts, nodes[first[piece]], nodes[first[piece] - 1], 24)
        if accepts(at):
            high = max(high, float(_upper(counts, pair, np.array([at]))[0][0, 0]))
    return low, high


def cls_limit(counts: Array, background: Array, cl: float) -> Array:
    """Upper limit of the expected signal by CLs: ``P(n <= counts | s + b) / P(n <= counts | b)``.

    One minus the confidence level is that ratio at the limit. It is the same as that of a Bayesian
    with a flat prior (Zech 1989, NIM A 277, 608; Read 2002, J. Phys. G 28, 2693).
    """
    alone = scipy.special.gammaincc(counts + 1.0, background)
    high = counts + 10.0 * (1.0 - np.log(1.0 - cl)) + 10.0 * np.sqrt(counts + 1.0)
    # Probabilities that underflow have a ratio that does not.
    lost = alone < 1e-250
    tail = _tail_ratio(counts, np.where(lost, background, 10.0 * counts + 1000.0))

    def excess(signal: Array) -> Array:
        both = scipy.special.gammaincc(counts + 1.0, signal + background)
        ratio = np.where(lost, tail(signal), both / np.where(lost, 1.0, alone))
        return ratio - (1.0 - cl)

    return falling_root(excess, np.zeros_like(high), high, tolerance=1e-13)


def _tail_ratio(counts: Array, background: Array) -> Callable[[Array], Array]:
    """``P(n <= counts | s + b) / P(n <= counts | b)`` for counts far below b, as a function of s.

    By Legendre's continued fraction of the incomplete gamma function (DLMF 8.9.2).
    """
    a = counts + 1.0

    def fraction(x: Array) -> Array:
        found = np.zeros_like(x)
        for i in range(100, 0, -1):
            found = i * (a - i) / (x - a + 2.0 * i + 1.0 + found)
        return x - a + 1.0 + found

    alone = fraction(background)

    def ratio(signal: Array) -> Array:
        rise = np.exp(a * np.log1p(signal / background) - signal)
        return rise * alone / fraction(signal + background)

    return ratio
