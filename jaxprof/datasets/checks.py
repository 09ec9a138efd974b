"""Checks that the maps of a dataset fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from jaxprof.irf import EDispKernelMap, EDispMap
from jaxprof.sky import MapAxis, WcsGeom
from jaxprof.user_warning import warn_user

#: Units of plain numbers: counts may say what they count.
COUNT_UNITS = (u.dimensionless_unscaled, u.ct, u.ph)

COARSER = 0.01
"""Part by which coarser pixels are wider, at least."""


def refuse_array(part: str, value: Any) -> Any:
    """The value, unless it is an array where a map is needed: that does not know its sky."""
    if isinstance(value, np.ndarray | list | tuple):
        line = "WcsNDMap(dataset.geom, array)"
        if part == "exposure":
            line = 'WcsNDMap(dataset.geom.to_image().to_cube([energy_axis_true]), array, "cm2 s")'
        raise ValueError(
            f"{part} is an array ({type(value).__name__}), which does not know its pixels on the "
            f"sky; make a map of it: {line}"
        )
    return value


def check_plain_numbers(part: str, unit: u.UnitBase) -> None:
    """Raise for a map that has a unit, and so is no map of counts or acceptances."""
    if unit not in COUNT_UNITS:
        raise ValueError(
            f"{part} has the unit {unit.to_string()!r}, but must be plain numbers; multiply a rate "
            "or density by the time, energy range and solid angle, and give the map no unit"
        )


def check_same_geom(part: str, geom: WcsGeom, reference: str, expected: WcsGeom) -> None:
    """Raise unless a map has the energy axis and pixels of the reference."""
    axis, axis_expected = geom.axes[0], expected.axes[0]
    if not axis.is_allclose(axis_expected):
        raise ValueError(f"{part} has the axis {axis!r}, but {reference} {axis_expected!r}")
    if not geom.is_allclose_image(expected):
        raise ValueError(geom_message(part, geom, reference, expected))


def check_exposure_pixels(geom: WcsGeom, reference: str, expected: WcsGeom) -> None:
    """Raise unless an exposure is on the pixels of the reference, or on coarser ones."""
    if geom.is_allclose_image(expected):
        return
    ratio = (geom.pixel_scales / expected.pixel_scales).to_value("")
    if ratio.min() < 1 - COARSER or ratio.max() < 1 + COARSER:
        message = geom_message("exposure", geom, reference, expected)
        raise ValueError(f"{message}; only an exposure on coarser pixels is interpolated")


def warn_unreached(name: str, exposure: WcsGeom, counts: WcsGeom, used: NDArray[np.bool_]) -> None:
    """Warn of used pixels (ny, nx) of the counts that an exposure of other pixels lacks."""
    inside = exposure.holds(*exposure.pixel_coordinates(counts.get_coord()))
    lost = np.count_nonzero(used & ~inside)
    if lost:
        warn_user(
            f"exposure of dataset {name!r}, which has pixels of its own, does not "
            f"reach {lost} of {np.count_nonzero(used)} unmasked pixels of the counts: "
            "it is taken as zero there; mask these pixels or give a larger map"
        )


def check_edisp_axes(
    edisp: EDispKernelMap | EDispMap, true: MapAxis | None, reconstructed: MapAxis | None
) -> None:
    """Raise unless an energy dispersion has the axes of exposure and counts that are given."""
    if true is not None and not edisp.energy_axis_true.is_allclose(true):
        own = edisp.energy_axis_true
        raise ValueError(f"edisp has the true axis {own!r}, but exposure {true!r}")
    # Another kind than kernels is integrated over any reconstructed energies.
    if reconstructed is None or not isinstance(edisp, EDispKernelMap):
        return
    if not edisp.energy_axis.is_allclose(reconstructed):
        raise ValueError(
            f"edisp has the reconstructed axis {edisp.energy_axis!r}, but counts {reconstructed!r}"
        )


def geom_message(part: str, geom: WcsGeom, reference: str, expected: WcsGeom) -> str:
    """In which way the pixels of a map are not those of the reference."""
    if geom.npix_shape != expected.npix_shape:
        return (
            f"{part} has {geom.npix_shape} pixels (ny, nx), but {reference} {expected.npix_shape}"
        )
    return f"the pixels of {part} are at other sky positions than those of {reference}"
