"""Responses that change over the sky, for emission that is spread over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import pixel_to_skycoord

from jaxprof.irf.base import IRFMap
from jaxprof.reduce.joint.emission import Emission, centers_of
from jaxprof.sky import WcsGeom
from jaxprof.types import Array


def mean_response(
    irf: IRFMap,
    geom: WcsGeom,
    emissions: Sequence[Emission],
    images: Sequence[Array],
    response: Callable[[SkyCoord, Array], Array],
) -> Array:
    """Mean of a response over the photons of each component, (C, T, ...).

    What starts in a pixel has the response there; the mean is what all of it has. Where in the
    component a response is broader than elsewhere is lost. Components that are smaller than a
    pixel, or have no photons, have the response at their centre.

    Parameters
    ----------
    irf : IRFMap
        The response.
    geom : WcsGeom
        The map's pixels.
    emissions : sequence of Emission
        The components.
    images : sequence of ndarray, shape (T, h, w) each
        Photons that start in each pixel (in any unit), on the emissions' own pixels.
    response : callable
        Gives the response (P, T, ...) at P positions, of which it is told where there are photons,
        (P, T); for a response in reconstructed energies, (P, E, ...), the mean is over the photons
        of all true energies, and (P, 1) says where there are any.
    """
    centers = centers_of(emissions)
    seen = np.array([image.any(axis=(1, 2)) for image in images])
    if irf.geom is None or irf.geom.npix_shape == (1, 1):
        return response(centers, seen)
    owners, ys, xs, photons = [], [], [], []
    for number, (emission, image) in enumerate(zip(emissions, images, strict=True)):
        row, column = np.nonzero(image.any(axis=0))
        if emission.offset is None and len(row):
            owners.append(np.full(len(row), number))
            ys.append(emission.y0 + row)
            xs.append(emission.x0 + column)
            photons.append(image[:, row, column].T)
    if not owners:
        return response(centers, seen)
    owner, values = np.concatenate(owners), np.concatenate(photons)
    positions = pixel_to_skycoord(np.concatenate(xs), np.concatenate(ys), geom.wcs)
    known = np.isfinite(positions.spherical.lon.rad)
    owner, values, positions = owner[known], values[known], positions[known]
    place = np.ravel_multi_index(irf.sky_index(positions), irf.geom.npix_shape)
    places, place = np.unique(place, return_inverse=True)
    # At the centre of what has a mean no photon need start.
    seen[np.unique(owner)] = False
    found = response(centers, seen)
    started = np.zeros((len(places), values.shape[1]), bool)
    np.logical_or.at(started, place, values > 0)
    tables = response(irf.geom.get_coord()[np.unravel_index(places, irf.geom.npix_shape)], started)
    if tables.shape[1] != values.shape[1]:
        values = np.broadcast_to(values.sum(axis=1, keepdims=True), (len(values), tables.shape[1]))
    for number in np.unique(owner):
        own = owner == number
        used, at = np.unique(place[own], return_inverse=True)
        if len(used) == 1:
            found[number] = tables[used[0]]
            continue
        weight = np.zeros((len(used), values.shape[1]))
        np.add.at(weight, at, values[own])
        total = weight.sum(axis=0)
        # Energies without exposure have no photons: those of the others tell where they would be.
        weight = np.where(total > 0, weight, weight.sum(axis=1, keepdims=True))
        weight /= weight.sum(axis=0)
        found[number] = np.einsum("kt,kt...->t...", weight, tables[used])
    return found
