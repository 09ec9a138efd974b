"""Whether numbers are those of an energy dispersion or a point spread function.

Both checks give the values cleaned, and what is wrong with which of them: the caller knows which
energies and positions are in use, and only those count.
"""

from __future__ import annotations

import numpy as np

from jaxprof.types import Array

ROUNDING = 1e-5
"""Part of the largest value below which a negative one is rounding."""
LARGEST_SUM = 1.05
"""What the probabilities of a row may sum to."""
CONTAINMENT = (0.01, 1.1)
"""What a density in sr-1 may integrate to; in deg-2 it would be 3e-4 or 3e3."""

NOT_FINITE, NEGATIVE, TOO_MUCH, TOO_LITTLE = 1, 2, 3, 4
"""What is wrong; 0 if nothing is."""


def checked_kernels(kernels: Array) -> tuple[Array, Array]:
    """Probabilities of energy dispersion matrices, and which of them are none.

    Parameters
    ----------
    kernels : ndarray, shape (..., T, E)
        From true to reconstructed energies.

    Returns
    -------
    cleaned : ndarray, shape (..., T, E)
        With zeros for values that are NaN, infinite or negative.
    faults : ndarray of int, shape (..., T, E)
        `NOT_FINITE`, `NEGATIVE` (beyond rounding), `TOO_MUCH` for a probability above, or all of a
        row that sums to more than, `LARGEST_SUM`; else 0.
    """
    finite = np.isfinite(kernels)
    cleaned = np.where(finite & (kernels > 0), kernels, 0.0)
    faults = np.zeros(kernels.shape, np.int8)
    # What is no probability itself tells nothing about its row.
    single = np.where(cleaned > LARGEST_SUM, 0.0, cleaned)
    much = (single.sum(axis=-1, keepdims=True) > LARGEST_SUM) & (single > 0)
    faults[much | (cleaned > LARGEST_SUM)] = TOO_MUCH
    lowest = -ROUNDING * np.minimum(cleaned.max(axis=-1, keepdims=True, initial=0.0), 1.0)
    faults[finite & (kernels < np.minimum(lowest, -1e-8))] = NEGATIVE
    faults[~finite] = NOT_FINITE
    return cleaned, faults


def containment(rad: Array, density: Array) -> Array:
    """Integral of densities (..., R) [sr-1] over the sky, out to the last radius [deg]."""
    r = np.deg2rad(rad)
    rings = np.trapezoid(2 * np.pi * r * density, r, axis=-1)
    return np.asarray(rings + np.pi * r[0] ** 2 * density[..., 0])


def checked_profiles(rad: Array, density: Array) -> tuple[Array, Array]:
    """Densities of point spread functions, and which of them are none.

    Parameters
    ----------
    rad : ndarray, shape (R,)
        Distances [deg].
    density : ndarray, shape (..., T, R)
        Densities [sr-1] of each energy.

    Returns
    -------
    cleaned : ndarray, shape (..., T, R)
        With zeros for values that are NaN, infinite or negative.
    faults : ndarray of int, shape (..., T)
        `NOT_FINITE`, `NEGATIVE` (beyond rounding), or `TOO_MUCH` or `TOO_LITTLE` for what
        integrates to more or less than `CONTAINMENT`; else 0.
    """
    finite = np.isfinite(density)
    cleaned = np.where(finite & (density > 0), density, 0.0)
    inside = containment(rad, cleaned)
    faults = np.zeros(inside.shape, np.int8)
    faults[inside < CONTAINMENT[0]] = TOO_LITTLE
    faults[inside > CONTAINMENT[1]] = TOO_MUCH
    lowest = -ROUNDING * cleaned.max(axis=-1, keepdims=True, initial=0.0)
    faults[np.any(finite & (density < lowest), axis=-1)] = NEGATIVE
    faults[~np.all(finite, axis=-1)] = NOT_FINITE
    return cleaned, faults


def kernel_error(name: str, faults: Array, true: Array, reco: Array) -> str:
    """What is wrong with an energy dispersion.

    Parameters
    ----------
    name : str
        What the message calls it.
    faults : ndarray of int, shape (..., T, E)
        As `checked_kernels` gives them, those in use; one at least is not 0.
    true, reco : ndarray, shape (T,) and (E,)
        Energies [TeV].
    """
    kind = faults[faults > 0][0]
    *_, t, e = np.argwhere(faults == kind)[0]
    what = {
        NOT_FINITE: "is NaN or infinite",
        NEGATIVE: "is negative",
        TOO_MUCH: f"has rows that sum to more than {LARGEST_SUM}",
    }[kind]
    return (
        f"{name} {what}, first at {true[t]:.4g} TeV true and {reco[e]:.4g} TeV reconstructed "
        "energy, and its elements are probabilities; mend it, or mask these energies"
    )


def profile_error(
    name: str, rad: Array, density: Array, faults: Array, energies: Array
) -> dict[int, str]:
    """What is wrong with a point spread function, by the index of the energy.

    Parameters
    ----------
    name : str
        What the messages call it.
    rad, density
        As for `checked_profiles`.
    faults : ndarray of int, shape (..., T)
        As `checked_profiles` gives them, those in use.
    energies : ndarray, shape (T,)
        Energies [TeV].
    """
    found: dict[int, str] = {}
    for *where, t in np.argwhere(faults > 0):
        if int(t) in found:
            continue
        kind, own = faults[(*where, t)], density[(*where, t)]
        at = f"at {energies[t]:.4g} TeV"
        if kind == NOT_FINITE:
            text = f"is NaN or infinite {at}"
        elif kind == NEGATIVE:
            text = f"has negative densities {at}, down to {own.min():.3g} sr-1"
        else:
            inside = float(containment(rad, own))
            text = f"integrates to {inside:.3g} {at}, out to {rad[-1]:.4g} deg"
        found[int(t)] = (
            f"{name} {text}; a probability is at most 1: give densities in sr-1 that are neither "
            "zero nor NaN nor negative where the exposure is positive, or mask these energies"
        )
    return found
