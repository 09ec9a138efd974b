"""Pixels that must not share a counts bin: those whose prediction would be negative.

Pixels of a disjoint region without counts share one counts bin, because the likelihood knows only
the sum of their predictions as long as none is negative. The fit keeps that sum positive, and so at
low counts a single pixel may end below zero, at a gain that does not exist. Such pixels get counts
bins of their own, and the fit is repeated until there are none: an active-set method for
constraints that are hardly ever met.
"""

from __future__ import annotations

import numpy as np

from jaxprof.inference.scaling import coefficients_at, norm_positions
from jaxprof.likelihood.joint_data import JointData, JointFit
from jaxprof.reduce.energy_groups import log_energies
from jaxprof.reduce.joint.bins import batched_pixels
from jaxprof.reduce.joint.counts import batch_templates, bin_values
from jaxprof.reduce.joint.pixel_signal import pixel_signal
from jaxprof.reduce.joint.problem import Group, JointProblem
from jaxprof.types import Array

ROUNDING = 1e-9
"""Part of the positive terms of a prediction below which it is zero but for rounding."""


def held_points(data: JointData, fit: JointFit, shifts: Array) -> Array:
    """About where the other parameters go where each norm is moved, (M * L, Z).

    By the covariance at the minimum, which is exact for a parabola. The ``shifts`` (M, L) are
    distances that the first M norms are moved by; NaN leaves one out, as norms without a variance
    are.
    """
    at = norm_positions(data)[: len(shifts)]
    best = np.where(np.isfinite(fit.values), fit.values, np.asarray(data.start))
    columns = fit.covariance[:, at]
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = columns / np.diagonal(fit.covariance)[at]
    # Parameters that are held, or on a boundary, have no covariance: they stay.
    slopes = np.where(np.isfinite(slopes), slopes, 0.0)
    points = best + shifts[:, :, np.newaxis] * slopes.T[:, np.newaxis]
    low, high = np.asarray(data.lower), np.asarray(data.upper)
    points = np.clip(points.reshape(-1, best.size), low, high)
    return points[np.all(np.isfinite(points), axis=1)]


def negative_pixels(
    problem: JointProblem, group: Group, data: JointData, points: Array, number: int
) -> tuple[Array, Array]:
    """Pixels without counts, (E, N, P), whose prediction is negative at any of some points, (M,).

    The ``points`` (M, Z) are parameters: the minimum, and minima with one norm held. The dataset of
    this ``number`` has a predicted background; if energies are summed there is one, (1, N, P). Also
    at which of the points it is.
    """
    dataset, response = problem.datasets[number], problem.response.datasets[number]
    bins, summed = group.bins[number], problem.model.sum_over_energy_groups
    (counts, background, offset), mask = bin_values(dataset, response, bins, summed)
    factors = _background_factors(
        data, points, number, log_energies(dataset.energy_axis, bins), summed
    )
    phi = coefficients_at(data, points, number)
    # No prediction of any point is below that of the lowest coefficients.
    lowest = pixel_signal(response, np.minimum(phi.min(axis=0), 0.0), bins)
    if summed:
        lowest = lowest.sum(axis=0, keepdims=True)
    fixed = background * factors.min(axis=0)[:, np.newaxis, np.newaxis] + offset
    suspects = mask & (counts == 0) & (fixed + lowest < 0)
    somewhere: Array = np.zeros(len(points), bool)
    if not suspects.any():
        return suspects, somewhere
    batches = batched_pixels(suspects)
    templates = np.asarray(
        batch_templates(response, batches, bins.start, response.mask[bins] if summed else None)
    )
    at = (batches.energy, batches.region[:, np.newaxis], batches.pixel)
    background_of_bins, offset_of_bins = background[at], offset[at]
    found = np.zeros_like(batches.used)
    # One batch after the other: products of matrices that stay in the cache.
    for row, (components, own) in enumerate(
        zip(response.components[batches.region], templates, strict=True)
    ):
        part = phi[:, components].reshape(len(phi), -1)
        matrix = own.reshape(-1, own.shape[-1])
        rest = background_of_bins[row] * factors[:, batches.energy[row]] + offset_of_bins[row]
        signal = part @ matrix
        if np.any(signal + rest < 0):
            positive = np.maximum(part, 0.0) @ matrix
            below = (signal + rest < -ROUNDING * (positive + rest)) & batches.used[row]
            found[row] = np.any(below, axis=0)
            somewhere |= np.any(below, axis=1)
    negative = np.zeros_like(suspects)
    where = tuple(np.broadcast_to(index, found.shape)[found] for index in at)
    negative[where] = True
    return negative, somewhere


def add_pixels(known: list[Array | None], new: list[Array | None]) -> bool:
    """Add pixels, for each dataset, to those with counts bins of their own; whether any was new."""
    added = False
    for number, pixels in enumerate(new):
        old = known[number]
        if pixels is not None and (pixels if old is None else pixels & ~old).any():
            known[number] = pixels if old is None else pixels | old
            added = True
    return added


def _background_factors(
    data: JointData, points: Array, number: int, log_energy: Array, summed: bool
) -> Array:
    """Norm and tilt of the background at each point and energy, (M, E)."""
    log_energy = np.zeros(1) if summed else log_energy
    if not data.n_nuisance:
        return np.ones((len(points), len(log_energy)))
    norm, tilt = points[:, data.nuisance_start + 2 * number :][:, :2].T
    return norm[:, np.newaxis] * np.exp(-tilt[:, np.newaxis] * log_energy)
