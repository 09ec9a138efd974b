"""Masks of maps: regions and energies."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u

from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.regions.pixels import region_members
from jaxprof.sky.regions.shapes import sky_shapes
from jaxprof.sky.wcsmap import WcsNDMap

SAME_EDGE = 1e-6


def region_mask(geom: WcsGeom, regions: Any, inside: bool = True) -> WcsNDMap:
    """True for the pixels of regions; see `WcsGeom.region_mask`."""
    members = region_members(sky_shapes(regions), geom)
    mask = np.zeros(geom.npix_shape, bool)
    mask.ravel()[members.pixel] = True
    return WcsNDMap(geom, mask if inside else ~mask)


def energy_mask(
    geom: WcsGeom, energy_min: Any = None, energy_max: Any = None, *, round_to_edge: bool = False
) -> WcsNDMap:
    """True for the bins of an energy range; see `WcsGeom.energy_mask`."""
    names = [axis.name for axis in geom.axes if axis.name in ("energy", "energy_true")]
    if len(names) != 1:
        raise ValueError(f"energy_mask needs one energy axis, the axes are {geom.axes_names}")
    axis = geom.axes[names[0]]
    edges = axis.edges_tev()
    limits = [0.0, np.inf]
    for k, (name, energy) in enumerate((("energy_min", energy_min), ("energy_max", energy_max))):
        if energy is None:
            continue
        try:
            limits[k] = float(u.Quantity(energy).to_value("TeV"))
        except (u.UnitsError, TypeError) as error:
            raise ValueError(f"{name} is {energy!r}; give an energy, such as 1 * u.TeV") from error
        if round_to_edge:
            within = np.clip(limits[k], edges[0], edges[-1])
            limits[k] = edges[np.argmin(np.abs(np.log(edges / within)))]
    low, high = limits
    used = (edges[:-1] >= low * (1 - SAME_EDGE)) & (edges[1:] <= high * (1 + SAME_EDGE))
    shape = [1] * len(geom.data_shape)
    shape[len(geom.axes) - 1 - geom.axes.index(axis)] = axis.nbin
    return WcsNDMap(geom, used.reshape(shape))
