"""Cubes of ctools (gammalib) for a stacked analysis: counts, exposure, PSF, dispersion, background.

All give their values at energies (ENERGIES), PSF and dispersion on pixels of their own. The weights
of a counts cube are the part of the time in which a bin was inside the region and the energy range
of an observation. The background cube has them in it; exposures have not.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.datasets.gti import gti_table
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fitsmaps import celestial_geom, energy_axis, read_map
from jaxprof.io.nodes import at_energies, between
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.units import unit_of
from jaxprof.io.wcsmap import map_name
from jaxprof.irf import EDispMap, PSFMap
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.user_warning import warn_user

VARYING = 0.01
"""By how much weights of a pixel may differ between energies without a warning."""
NORMAL = 0.05
"""By how much densities may fail to integrate to one."""


def ctools_parts(
    counts: str | os.PathLike[str],
    exposure: str | os.PathLike[str] | None = None,
    psf: str | os.PathLike[str] | None = None,
    edisp: str | os.PathLike[str] | None = None,
    background: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Parts of a dataset from the cubes of ctools; see `MapDataset.from_ctools`."""
    parts: dict[str, Any] = {}
    with fits_file(counts) as hdulist:
        cube = read_map(hdulist, map_name(hdulist, None))
        if cube.geom.axes.names != ["energy"]:
            raise ValueError(f"it is no counts cube of ctools: {what_it_is(hdulist)}")
        weights = np.ones(cube.data.shape)
        if "WEIGHTS" in hdulist:
            weights = np.asarray(read_map(hdulist, "WEIGHTS").data, np.float64)
        if "GTI" in hdulist:
            table = read_table(hdulist, "GTI")
            parts["gti"] = gti_table(table)
            ontime = float(np.sum(np.asarray(table["STOP"]) - np.asarray(table["START"])))
        else:
            ontime = np.nan
    geom = cube.geom
    parts["counts"] = cube
    parts["mask_safe"] = WcsNDMap(geom, weights > 0)
    if exposure is not None:
        parts["exposure"] = _exposure(exposure, geom, weights)
        true = parts["exposure"].geom.axes[0]
        if edisp is not None:
            parts["edisp"] = _edisp(edisp, true)
    if psf is not None:
        parts["psf"] = _psf(psf)
    if background is not None:
        if not ontime > 0:
            raise ValueError(f"{counts}: the background needs the time of an HDU GTI")
        parts["background"] = _background(background, geom, ontime)
    return parts


def _exposure(path: str | os.PathLike[str], geom: WcsGeom, weights: NDArray[Any]) -> WcsNDMap:
    """Exposure on the pixels of the counts, on the bins between its energies."""
    with fits_file(path) as hdulist:
        map_ = read_map(hdulist, map_name(hdulist, None))
        if map_.geom.axes.names != ["energy_true"]:
            raise ValueError(f"it is no exposure cube: {what_it_is(hdulist)}")
        if map_.unit == u.dimensionless_unscaled:
            map_ = WcsNDMap(map_.geom, map_.data, "cm2 s")
    nodes = map_.geom.axes[0].center_tev()
    true = between(nodes)
    data = at_energies(map_.interp_to_geom(geom).data, nodes, true, "exposure")
    reco = geom.axes["energy"]
    # Weights are those of reconstructed energies: of the bin that the true energy is in.
    bins = np.searchsorted(reco.edges_tev(), true.center_tev()) - 1
    used = weights.any(axis=0)
    spread = weights.max(axis=0) - np.where(weights > 0, weights, np.inf).min(axis=0)
    if np.any(spread[used] > VARYING):
        warn_user(
            "the weights of the counts cube differ between energies (observations with other "
            "thresholds): they are applied to the exposure at the true energy of the same bin, "
            "which is right up to the energy dispersion; leave the lowest energies out of the fit"
        )
    data *= weights[np.clip(bins, 0, reco.nbin - 1)]
    return WcsNDMap(geom.to_cube([true]), data, map_.unit)


def _cube(
    hdulist: fits.HDUList, table: str
) -> tuple[NDArray[Any], NDArray[Any], u.Quantity, WcsGeom]:
    """Values (n_energies, n, ny, nx), energies [TeV], the n nodes of a table, and the pixels."""
    if table not in hdulist or "ENERGIES" not in hdulist:
        raise ValueError(f"it is no cube with HDUs {table} and ENERGIES: {what_it_is(hdulist)}")
    axis, order = energy_axis(hdulist, "ENERGIES")
    columns = hdulist[table].columns
    names = [str(name) for name in columns.names if str(name).upper() == "VALUE"]
    if not names:
        raise ValueError(f"HDU {table} has no column Value")
    unit = unit_of(columns[names[0]].unit or ("deg" if table == "DELTAS" else ""), table)
    nodes = u.Quantity(np.asarray(hdulist[table].data[names[0]], np.float64), unit)
    image = next(hdu for hdu in hdulist if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2)
    data = np.asarray(image.data, np.float64)
    if data.ndim != 4 or data.shape[:2] != (axis.nbin, len(nodes)):
        raise ValueError(
            f"HDU {image.name} has data of shape {data.shape}, but there are {axis.nbin} energies "
            f"and {len(nodes)} of {table}"
        )
    return data[order], axis.center_tev(), nodes, celestial_geom(image)


def _psf(path: str | os.PathLike[str]) -> PSFMap:
    with fits_file(path) as hdulist:
        data, energies, nodes, geom = _cube(hdulist, "DELTAS")
        with naming("HDU DELTAS"):
            rad = MapAxis.from_nodes(nodes, name="rad")
    axis = MapAxis.from_nodes(energies, name="energy_true", unit="TeV", interp="log")
    return PSFMap(data, rad, axis, geom)


def _edisp(path: str | os.PathLike[str], true: MapAxis) -> EDispMap:
    """Energy dispersion; the cube holds densities per MeV of reconstructed energy."""
    with fits_file(path) as hdulist:
        data, energies, nodes, geom = _cube(hdulist, "MIGRAS")
        with naming("HDU MIGRAS"):
            migra = MapAxis.from_nodes(nodes, name="migra")
        density = data * (energies * 1e6).reshape(-1, 1, 1, 1)
        width = migra.bin_width.value.reshape(1, -1, 1, 1)
        total = np.median(np.sum(density * width, axis=1))
        if abs(total - 1) > NORMAL:
            raise ValueError(
                "the densities of HDU IMAGE are none per MeV: multiplied by the true energy they "
                f"integrate to {total:.4g} instead of 1"
            )
    return EDispMap(at_energies(density, energies, true, "edisp"), migra, true, geom)


def _background(path: str | os.PathLike[str], geom: WcsGeom, ontime: float) -> WcsNDMap:
    """Counts of a background cube: its rate [MeV-1 s-1 sr-1] at the middle of each bin."""
    with fits_file(path) as hdulist:
        map_ = read_map(hdulist, map_name(hdulist, None))
        if len(map_.geom.axes) != 1:
            raise ValueError(f"it is no background cube: {what_it_is(hdulist)}")
        if not map_.geom.is_allclose_image(geom):
            map_ = map_.interp_to_geom(geom)
    reco = geom.axes["energy"]
    rate = at_energies(map_.data, map_.geom.axes[0].center_tev(), reco, "background")
    width = np.diff(reco.edges_tev()).reshape(-1, 1, 1) * 1e6
    return WcsNDMap(geom, rate * width * geom.solid_angle().to_value("sr") * ontime)
