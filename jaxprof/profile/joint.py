"""What a joint fit of all bins tells besides their norms: covariance, correlation and leakage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import Table

from jaxprof.profile.quantities import MATRICES, Array


def correlation_of(covariance: Array) -> Array:
    """Correlation matrices of covariance matrices.

    Parameters
    ----------
    covariance : ndarray, shape (..., B, B)

    Returns
    -------
    correlation : ndarray, shape (..., B, B)
        ``c_ij / sqrt(c_ii c_jj)``, with a diagonal of ones; NaN in the row and the column of
        what has no positive variance.
    """
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    width = np.sqrt(np.where(variance > 0, variance, np.nan))
    # One width after the other: the product of two small variances may underflow.
    with np.errstate(invalid="ignore"):
        # A variance that overflows, at norms of 1e200, leaves NaN.
        correlation = covariance / width[..., :, np.newaxis] / width[..., np.newaxis, :]
    ones = np.eye(covariance.shape[-1], dtype=bool) & np.isfinite(width)[..., np.newaxis]
    return np.where(ones, 1.0, correlation)


def leakage_of(response: Array) -> Array:
    """Where the photons of every bin are found.

    Parameters
    ----------
    response : ndarray, shape (..., B, B)
        Counts in the first bin from emission in the second.

    Returns
    -------
    leakage : ndarray, shape (..., B, B)
        Every column over its sum; NaN for a column without counts.
    """
    total = response.sum(axis=-2, keepdims=True)
    return response / np.where(total > 0, total, np.nan)


def cut_matrices(stored: Mapping[str, Array], bins: Array) -> dict[str, Array]:
    """Keep some bins on the last axis of the matrices among the quantities of a profile.

    Parameters
    ----------
    stored : mapping of str to ndarray
        Quantities of which the first axes are cut already.
    bins : ndarray of int
        Which bins to keep.

    Returns
    -------
    dict of ndarray
    """
    return {n: array[..., bins] if n in MATRICES else array for n, array in stored.items()}


def cut_groups(table: Table | None, groups: Array, column: str | None) -> Table | None:
    """Keep the rows of some energy groups, in their order.

    Parameters
    ----------
    table : `~astropy.table.Table` or None
        The table.
    groups : ndarray of int
        Which groups to keep.
    column : str or None
        Column that numbers the groups, which are numbered anew; None if a row is a group.

    Returns
    -------
    `~astropy.table.Table` or None
    """
    if table is None:
        return None
    if column is None:
        return table[groups]
    given = np.asarray(table[column])
    rows = [np.flatnonzero(given == group) for group in groups]
    part = table[np.concatenate(rows)]
    part[column] = np.repeat(np.arange(len(rows)), [len(found) for found in rows])
    return part


class JointAccess:
    """Gives the matrices that a joint fit knows, an energy group on the first axis."""

    quantities: dict[str, Array]

    def _matrix(self, name: str) -> Array:
        """A stored quantity (B, G, B) as matrices (G, B, B)."""
        if name not in self.quantities:
            # Then __getattr__ of the profile is called, which says what is missing.
            raise AttributeError(name)
        return np.moveaxis(self.quantities[name], 1, 0)

    @property
    def covariance(self) -> Array:
        """Covariance of the norms of all bins in every energy group, shape (G, B, B).

        That of one standard deviation, whatever ``n_sigma``: with ``n_sigma=1`` the root of its
        diagonal is ``norm_err``. Nuisance parameters are marginalised over.
        """
        return self._matrix("norm_covariance")

    @property
    def correlation(self) -> Array:
        """Correlation of the norms of all bins in every energy group, shape (G, B, B).

        The diagonal is one; rows and columns of bins without an error are NaN.
        """
        return correlation_of(self.covariance)

    @property
    def leakage(self) -> Array:
        """Share of the counts from bin ``j`` that are found in bin ``i``, shape (G, B, B).

        ``leakage[g, i, j]`` is the ``response`` over its sum over ``i``, so that every column
        sums to one: what is found outside of all bins of this profile does not count. Where
        regions overlap, a photon counts in each of them.
        """
        return leakage_of(self._matrix("response"))
