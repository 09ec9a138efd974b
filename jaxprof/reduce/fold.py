"""From flux to predicted counts: exposure and energy dispersion."""

from __future__ import annotations

from typing import Any


def fold_flux(flux: Any, exposure: Any, edisp: Any) -> Any:
    r"""Predicted counts per reconstructed energy.

    .. math:: n_e = \sum_t D_{te} F_t \epsilon_{te}

    Parameters
    ----------
    flux : array, shape (..., T)
        Flux in each bin of true energy [cm-2 s-1].
    exposure : array, shape (..., T, E)
        Effective exposure [cm2 s]; it depends on the reconstructed energy because the mask may.
    edisp : array, shape (..., T, E)
        Probability that a photon of true bin ``t`` is reconstructed in bin ``e``.

    Returns
    -------
    npred : array, shape (..., E)
        Predicted counts; a JAX array if any of the arguments is one, otherwise a numpy array.
    """
    return (flux[..., :, None] * edisp * exposure).sum(axis=-2)
