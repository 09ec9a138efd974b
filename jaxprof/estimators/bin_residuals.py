"""Whether a joint fit describes what is in each bin: goodness, peaks of residuals, ringing.

Uniform emission does not describe a bin with a bright point in it. The fit then makes up for the
rest of the bin, and for what reaches its neighbours, by norms that alternate in sign, while the sum
of the counts in each bin, and the statistic of all pixels, look well. Two tests see it:

- a peak of the residuals within a bin: the counts within circles around each pixel against those
  predicted, by the Poisson probability of as many or more, times the number of circles tried
  (Bonferroni, which is conservative as they overlap);
- a bin next to a significant one, and anticorrelated with it, that is itself significantly
  negative, which emission is not: by the probability of its ``ts``, times the number of such
  neighbours.

Together they are wrong for less than `FALSE_ALARMS` of the fits whose model is right: for 9 of 4760
Poisson data sets of 14 settings (rings and boxes, 30 to 40 000 counts, 0.1 to 2700 in the brightest
pixel, free index in three), all by the second test, and for 3 of 400 in the worst of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy

from jaxprof.types import Array

FALSE_ALARMS = 0.006
"""Share of fits with the right model that are said to be wrong, at most."""
PEAKS = 0.4
"""Part of these that the first test may cause; the rest is the second one's."""
RADII = (1.5, 3.5)
"""Radii of the circles [pixels]."""
BRIGHT = 5.0
"""Significance of bins that may cause ringing."""
ANTICORRELATED = -0.15
"""Correlation with such a bin, below which a neighbour makes up for it."""


class Peaks(NamedTuple):
    """The circle with the least probable excess within each bin, (B,) each."""

    probability: Array
    """Of a peak as high by chance, after trials; NaN for bins without pixels."""
    y: Array
    """Row of its centre."""
    x: Array
    """Column of its centre."""
    radius: Array
    """Its radius [pixels]."""
    counts: Array
    """Counts observed within."""
    npred: Array
    """Counts predicted within."""


class Peak(NamedTuple):
    """Where counts exceed what a fit predicts."""

    group: int
    significance: float
    position: Any
    """A SkyCoord."""
    radius: float
    """Of the circle that the counts are in [deg]."""
    counts: float
    npred: float


def peak_probability(counts: Array, npred: Array, members: Array) -> Array:
    """Probability of a peak as high as the highest within each bin, by chance, (B,); NaN if empty.

    As `highest_peaks`.
    """
    return highest_peaks(counts, npred, members).probability


def highest_peaks(counts: Array, npred: Array, members: Array) -> Peaks:
    """The highest peak of the residuals within each bin.

    Observed and predicted counts are images (ny, nx), zero where pixels are not in use, and so are
    the pixels in use of each bin, (B, ny, nx).
    """
    from scipy.ndimage import convolve

    pixels = [np.flatnonzero(own) for own in members]
    size = np.array([own.size for own in pixels])
    best, found = np.ones(len(pixels)), np.zeros((4, len(pixels)))
    for radius in RADII:
        reach = np.arange(-int(radius), int(radius) + 1)
        kernel = (np.hypot(reach[:, np.newaxis], reach) <= radius).astype(float)
        observed = convolve(counts, kernel, mode="constant").ravel()
        expected = np.maximum(convolve(npred, kernel, mode="constant"), 1e-10).ravel()
        # P(N >= n) is the regularised lower incomplete gamma function of n and the mean.
        chance = np.where(
            observed > 0, scipy.special.gammainc(np.maximum(observed, 1.0), expected), 1.0
        )
        for b in np.flatnonzero(size):
            at = pixels[b][np.argmin(chance[pixels[b]])]
            if chance[at] < best[b]:
                best[b], found[:, b] = chance[at], (at, radius, observed[at], expected[at])
    probability = -np.expm1(len(RADII) * size * np.log1p(-np.minimum(best, 1 - 1e-16)))
    y, x = np.divmod(found[0].astype(int), counts.shape[1])
    return Peaks(np.where(size > 0, probability, np.nan), y, x, *found[1:])


def peak_significance(probability: Array) -> Array:
    """The probability as a number of standard deviations, zero for one half and more."""
    return np.maximum(-scipy.special.ndtri(np.clip(probability, 1e-300, 1.0)), 0.0)


def signed_significance(norm: Array, ts: Array, n_free: int = 0) -> Array:
    """Standard deviations of norms from zero: ``sqrt_ts``, but for free spectral parameters.

    Without emission these are fitted to fluctuations, and the test statistic is distributed as
    chi-square of as many more degrees of freedom (conservative: they have no effect at zero norm).
    """
    chance = 0.5 * scipy.special.chdtrc(1 + n_free, np.maximum(ts, 0.0))
    return -np.sign(norm) * scipy.special.ndtri(chance)


def oversubtracted(significance: Array, correlation: Array) -> tuple[Array, Array]:
    """Bins (B, G) that are negative beside a bright one, and the ones that they make up for.

    By the significance of the norms (B, G), with their signs, NaN for none, and their correlation
    (G, B, B).
    """
    clean = np.nan_to_num(significance)
    beside = np.nan_to_num(correlation) < ANTICORRELATED  # (G, B, B)
    beside &= (clean.T > BRIGHT)[:, np.newaxis, :]
    tried = beside.any(axis=2).T & (clean <= BRIGHT)
    level = FALSE_ALARMS * (1 - PEAKS) / max(int(tried.sum()), 1)
    negative = tried & (scipy.special.ndtr(clean) < level)
    bright = (beside & negative.T[:, :, np.newaxis]).any(axis=1).T
    return negative, bright


def peaked(significance: Array) -> Array:
    """Bins of which the peak is not by chance, (B, G), of all that are looked at."""
    level = FALSE_ALARMS * PEAKS / max(int(np.isfinite(significance).sum()), 1)
    return np.nan_to_num(significance) > -scipy.special.ndtri(level)
