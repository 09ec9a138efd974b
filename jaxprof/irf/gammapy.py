"""Instrument responses of gammapy as those of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u

from jaxprof.foreign import gammapy_class
from jaxprof.irf.base import IRFMap
from jaxprof.irf.kernel import ROUND, psf_from_kernel
from jaxprof.irf.psf import PSFMap, RecoPSFMap
from jaxprof.irf.responses import EDispKernelMap, EDispMap
from jaxprof.sky import MapAxis
from jaxprof.sky.gammapy import axis_from_gammapy, geom_from_gammapy, no_counterpart

_MAPS: dict[str, tuple[str, type[IRFMap], str]] = {
    "EDispKernelMap": ("edisp_map", EDispKernelMap, ""),
    "EDispMap": ("edisp_map", EDispMap, ""),
    "PSFMap": ("psf_map", PSFMap, "sr-1"),
    "RecoPSFMap": ("psf_map", RecoPSFMap, "sr-1"),
}


def irf_from_gammapy(irf: Any, true_axis: MapAxis | None = None) -> IRFMap:
    """The same response as one of this package, with which it shares its data.

    Parameters
    ----------
    irf : gammapy.irf.PSFMap, RecoPSFMap, PSFKernel, EDispMap, EDispKernelMap or EDispKernel
        On pixels of a projection, or of one region.
    true_axis : MapAxis, optional
        True energies that a kernel of a single one is meant for.

    Raises
    ------
    ValueError
        For others; and for a PSFKernel that is not that of a round point spread function that
        falls outwards, by more than 2 % of its peak, since there is no other here.
    """
    kind = str(gammapy_class(irf))
    if kind == "EDispKernel":
        true, reco = (irf.axes[name] for name in ("energy_true", "energy"))
        return EDispKernelMap(
            np.asarray(irf.pdf_matrix), axis_from_gammapy(reco), axis_from_gammapy(true)
        )
    if kind == "PSFKernel":
        return _psf_of_kernel(irf, true_axis)
    if kind not in _MAPS:
        raise no_counterpart(irf)
    part, cls, unit = _MAPS[kind]
    map_, exposure_map = getattr(irf, part), irf.exposure_map
    axes = [axis_from_gammapy(axis) for axis in map_.geom.axes]
    data, factor = np.asarray(map_.data), map_.unit.to(unit)
    if factor != 1:
        data = data * factor
    of_region = gammapy_class(map_.geom) == "RegionGeom"
    sky = (slice(None),) * 2 if not of_region else (0, 0)
    exposure = None
    if exposure_map is not None:
        exposure = u.Quantity(np.asarray(exposure_map.data)[:, 0][(..., *sky)], exposure_map.unit)
    geom = None if of_region else geom_from_gammapy(map_.geom)
    return cls(data[(..., *sky)], axes[0], axes[1], geom, exposure=exposure)


def as_irf(irf: Any, true_axis: MapAxis | None = None) -> Any:
    """A response of gammapy as ours; anything else as it is."""
    return irf if gammapy_class(irf) is None else irf_from_gammapy(irf, true_axis)


def _psf_of_kernel(irf: Any, true_axis: MapAxis | None) -> PSFMap:
    map_ = irf.psf_kernel_map
    geom = geom_from_gammapy(map_.geom)
    data = np.asarray(map_.data).reshape(-1, *geom.npix_shape)
    names = [axis.name for axis in geom.axes]
    if len(data) == 1 and true_axis is not None:
        axis, data = true_axis, np.broadcast_to(data, (true_axis.nbin, *geom.npix_shape))
    elif names == ["energy_true"]:
        axis = geom.axes[0]
    else:
        raise ValueError(
            f"gammapy's PSFKernel has the axes {names}, and what is needed is energy_true: give "
            "the PSFMap that it was made from"
        )
    psf, misfit = psf_from_kernel(data, geom.to_image(), axis)
    if misfit.max() > ROUND:
        raise ValueError(
            "gammapy's PSFKernel is not that of a round point spread function that falls outwards: "
            f"its pixels differ by up to {100 * misfit.max():.2g} % of the largest (at "
            f"{axis.center[int(np.argmax(misfit))]:.4g}); give the PSFMap that it was made from"
        )
    return psf
