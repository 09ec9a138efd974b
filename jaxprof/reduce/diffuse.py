"""Expected counts of diffuse emission that is given as an intensity: Galactic, isotropic."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.models.spectral import TemplateSpectralModel
from jaxprof.reduce.joint.expectation import predicted_counts
from jaxprof.reduce.joint.kernels import missing_psf, psf_radius
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.sky.models import SkyModel
from jaxprof.sky.template_map import TemplateSpatialModel

INTENSITY = 1 / (u.cm**2 * u.s * u.sr * u.TeV)
CONTAINED = 0.99
"""Part of the PSF that decides how far around the counts the sky matters."""


def isotropic_counts(
    dataset: MapDataset, energy: NDArray[Any], intensity: NDArray[Any]
) -> WcsNDMap:
    """Counts of an intensity that is the same everywhere; no PSF is needed for it.

    Intensities [cm-2 s-1 sr-1 TeV-1] at energies [TeV], both (n,), are power laws in between. The
    energy dispersion is that of the centre of the map.
    """
    geom = dataset.geom
    folded = dataset_to_fold(dataset)
    assert folded.exposure is not None and folded.edisp is not None
    true = folded.energy_axis_true.edges_tev()
    spectrum = TemplateSpectralModel(energy=energy, values=intensity)
    flux = np.asarray(spectrum.integral(true[:-1], true[1:]), float)
    exposure = np.nan_to_num(folded.exposure.quantity.to_value("cm2 s"), posinf=0.0)
    kernel = folded.edisp.get_kernel(None, dataset.energy_axis)
    found = np.einsum("te,tyx->eyx", kernel * flux[:, np.newaxis], exposure)
    return WcsNDMap(geom, found * geom.solid_angle().to_value("sr"))


def galactic_counts(dataset: MapDataset, cube: WcsNDMap) -> WcsNDMap:
    """Counts of a cube of intensities, such as gll_iem_v07.fits, through the response.

    Its values at energies (axis "energy_true") are in MeV-1 cm-2 s-1 sr-1 if it has no unit. The
    sky up to 99 % containment of the PSF around the counts is folded.

    Raises
    ------
    ValueError
        If the cube is none of intensities, or the dataset has no PSF.
    """
    if dataset.psf is None:
        raise missing_psf(dataset)
    if cube.geom.axes.names != ["energy_true"]:
        raise ValueError(
            f"galactic has the axes {cube.geom.axes.names}, but a cube of intensities at energies "
            "(HDU ENERGIES) is expected"
        )
    unit = cube.unit
    if unit == u.dimensionless_unscaled:
        unit = u.Unit("cm-2 s-1 sr-1 MeV-1")
    try:
        factor = unit.to(INTENSITY)
    except u.UnitConversionError:
        raise ValueError(f"galactic has the unit {unit}, which is no intensity") from None
    part = _around(cube, dataset.geom, float(psf_radius(dataset, CONTAINED).max()))
    part = WcsNDMap(part.geom, part.data * factor, INTENSITY)
    solid_angle = part.geom.solid_angle().to_value("sr")
    flux = np.sum(part.data * solid_angle, axis=(1, 2), dtype=np.float64)
    spectrum = TemplateSpectralModel(energy=part.geom.axes[0].center_tev(), values=flux)
    model = SkyModel(spectrum, TemplateSpatialModel(part), name="galactic")
    return predicted_counts(dataset, model)


def _around(cube: WcsNDMap, geom: WcsGeom, margin: float) -> WcsNDMap:
    """The rows and columns of a cube within a margin [deg] of a map."""
    center = geom.center_skydir
    away = geom.separation(center).deg
    radius = float(np.nanmax(away)) + margin + float(cube.geom.pixel_scales.to_value("deg").max())
    near = cube.geom.separation(center).deg <= radius
    if not near.any():
        raise ValueError("galactic is a cube of another part of the sky than the counts")
    rows, columns = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    data = cube.data[..., cut[0], cut[1]]
    part = WcsGeom(cube.geom.wcs.slice(cut), data.shape[-2:], cube.geom.axes)
    return WcsNDMap(part, data, cube.unit)
