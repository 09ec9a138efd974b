"""Cubes of ctools (gammalib) for a stacked analysis: counts, exposure, PSF, dispersion, background.

All give their values at energies (ENERGIES), PSF and dispersion on pixels of their own. The weights
of a counts cube are the part of the livetime in which a bin was inside the region and the energy
range of an observation. The background cube has them in it; exposures have not.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.datasets.gti import gti_table
from jaxprof.io.axes import energy_axis
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fitsmaps import celestial_geom, read_map
from jaxprof.io.nodes import at_energies, between
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.units import unit_of
from jaxprof.io.wcsmap import map_name
from jaxprof.irf import EDispKernelMap, EDispMap, PSFMap
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.user_warning import warn_user

REACH = 0.2
"""Part of an energy by which it may be reconstructed higher or lower, roughly."""
RATE = u.Unit("MeV-1 s-1 sr-1")
"""Unit of background cubes, which do not say it."""
ALL = 0.999
"""Part of the weights up to which some may be missing unsaid."""
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
            if weights.shape != cube.data.shape or not np.all((weights >= 0) & (weights <= 1.001)):
                raise ValueError(
                    "HDU WEIGHTS must have a number from 0 to 1 for each bin of counts"
                )
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
        parts["exposure"] = _exposure(exposure, geom)
        true = parts["exposure"].geom.axes[0]
        if edisp is not None:
            parts["edisp"] = _edisp(edisp, true)
            _warn_of_ends(true, geom.axes["energy"])
        _weighted(parts, weights)
        _warn_of_weights(weights, geom.axes["energy"])
    if psf is not None:
        parts["psf"] = _psf(psf)
    if background is not None:
        if not ontime > 0:
            raise ValueError(f"{counts}: the background needs the time of an HDU GTI")
        parts["background"] = _background(background, geom, ontime)
    return parts


def _exposure(path: str | os.PathLike[str], geom: WcsGeom) -> WcsNDMap:
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
    return WcsNDMap(geom.to_cube([true]), data, map_.unit)


def _warn_of_ends(true: MapAxis, reco: MapAxis) -> None:
    """Warn if photons from energies that the cubes do not have are reconstructed in the counts."""
    (first, *_, last), (low, *_, high) = true.edges_tev(), reco.edges_tev()
    if first > low * (1 - REACH) or last < high * (1 + REACH):
        warn_user(
            f"the cubes of exposure and energy dispersion go from {first:.4g} to {last:.4g} TeV, "
            f"not beyond those of the counts, {low:.4g} to {high:.4g}: photons from beyond "
            "are missing in the outermost bins, whose norms are too high; leave these out, or make "
            "the cubes wider"
        )


def _weighted(parts: dict[str, Any], weights: NDArray[Any]) -> None:
    """Apply the weights (E, ny, nx) of the bins to exposure and energy dispersion.

    Photons of a true energy lose the mean of the weights of the reconstructed energies that they
    get, pixel by pixel: that belongs to the exposure. How it differs between reconstructed energies
    belongs to the dispersion, on the larger pixels of its cube, where the mean of the pixels of the
    counts is taken. Photons are lost as the weights say, whatever these pixels are.
    """
    exposure, geom = parts["exposure"], parts["counts"].geom
    reco, true = geom.axes["energy"], exposure.geom.axes[0]
    if "edisp" not in parts:
        bins = np.searchsorted(reco.edges_tev(), true.center_tev()) - 1
        exposure.data *= weights[np.clip(bins, 0, reco.nbin - 1)]
        return
    kernel = parts["edisp"].to_kernel_map(reco)
    ny, nx = kernel.geom.npix_shape
    y, x, _ = kernel.geom.pixel_index(geom.get_coord())
    pixel = np.clip(y, 0, ny - 1) * nx + np.clip(x, 0, nx - 1)
    rows = kernel.data.reshape(true.nbin, reco.nbin, ny * nx)
    number = np.bincount(pixel.ravel(), minlength=ny * nx)

    def mean(image: NDArray[Any]) -> NDArray[np.float64]:
        """Means in the pixels of the dispersion, one where there are no pixels of the counts."""
        sums = np.bincount(pixel.ravel(), image.ravel(), ny * nx)
        return np.where(number > 0, sums / np.maximum(number, 1), 1.0)

    mean_weights = np.stack([mean(image) for image in weights])
    data = np.zeros(rows.shape)
    for index, row in enumerate(rows):
        total = row.sum(axis=0)
        share = np.divide(row, total, out=np.full(row.shape, 1 / reco.nbin), where=total > 0)
        kept = np.einsum("eyx,eyx->yx", share[:, pixel], weights)
        exposure.data[index] *= kept
        lost = mean(kept)
        data[index] = row * np.divide(mean_weights, lost, out=np.ones(row.shape), where=lost > 0)
    parts["edisp"] = EDispKernelMap(data.reshape(kernel.data.shape), reco, true, kernel.geom)


def _warn_of_weights(weights: NDArray[Any], reco: MapAxis) -> None:
    """Warn if not all observations of a pixel count at all energies."""
    largest = weights.max(axis=0)
    used = largest > 0
    whole = np.array([np.mean(image[used]) for image in weights]) >= ALL * np.mean(largest[used])
    if whole.all() or not whole.any():
        return
    edges = reco.edges_tev()
    first, last = np.flatnonzero(whole)[[0, -1]]
    warn_user(
        "not all observations count at all energies, and ctools weighs them by their livetimes, "
        "not by their effective areas (GammaLib technical note 2): norms outside of "
        f"{edges[first]:.4g} to {edges[last + 1]:.4g} TeV are off by as much as these differ, "
        "often by 10 to 20 %; besides, the background cube leaves out an observation in a bin in "
        "which its energies begin or end"
    )


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
        if len(map_.geom.axes) != 1 or "GTI" in hdulist:
            raise ValueError(f"it is no background cube: {what_it_is(hdulist)}")
        if map_.unit == u.dimensionless_unscaled:
            map_ = map_.copy(unit=RATE)
        if not map_.geom.is_allclose_image(geom):
            map_ = map_.interp_to_geom(geom)
    reco = geom.axes["energy"]
    data = map_.data * map_.unit.to(RATE)
    rate = at_energies(data, map_.geom.axes[0].center_tev(), reco, "background")
    width = np.diff(reco.edges_tev()).reshape(-1, 1, 1) * 1e6
    return WcsNDMap(geom, rate * width * geom.solid_angle().to_value("sr") * ontime)
