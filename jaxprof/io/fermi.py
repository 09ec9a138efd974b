"""Files of the Fermi tools: gtbin, gtexpcube2, gtpsf, gtdrm, gtsrcmaps; fermipy's folders."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.typing import NDArray

from jaxprof.datasets.gti import gti_table
from jaxprof.io.axes import axis_of_bins, energy_axis
from jaxprof.io.errors import naming
from jaxprof.io.fitsfile import fits_file, read_table
from jaxprof.io.fitsmaps import celestial_geom, image_names, read_map
from jaxprof.io.healpix import is_healpix, read_healpix
from jaxprof.io.nodes import at_energies
from jaxprof.io.oldirfs import matrix_rows
from jaxprof.io.otherfiles import what_it_is
from jaxprof.io.paths import existing_file, expand_path
from jaxprof.io.textfile import read_text
from jaxprof.io.units import unit_of
from jaxprof.io.wcsmap import map_name
from jaxprof.irf import EDispKernelMap, PSFMap
from jaxprof.irf.base import IRFMap
from jaxprof.models.spectral_base import SpectralModel
from jaxprof.reduce.diffuse import galactic_counts, isotropic_counts
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.healpix import HealpixMap

FERMIPY = ("ccube", "bexpmap", "psf", "drm")


def fermi_parts(
    counts: Any,
    exposure: Any = None,
    psf: Any = None,
    edisp: Any = None,
    background: Any = None,
    *,
    position: SkyCoord | None = None,
    width: Any = None,
) -> dict[str, Any]:
    """Parts of a dataset from files of the Fermi tools; see `MapDataset.from_fermi`."""
    parts: dict[str, Any] = {}
    if isinstance(counts, WcsNDMap):
        cube = counts
    else:
        with fits_file(counts) as hdulist:
            cube = _counts(hdulist, position, width)
            gti = _gti(hdulist)
            if gti is not None:
                parts["gti"] = gti
    if cube.geom.axes.names != ["energy"]:
        raise ValueError(
            f"counts have the axes {cube.geom.axes.names}, one axis 'energy' is expected"
        )
    known = np.isfinite(cube.data)
    if not known.all() and cube.geom.wcs.wcs.ctype[0].endswith("HPX"):
        # The square around the pixels of a HEALPix map has more; NaN elsewhere is a fault.
        parts["mask_safe"] = WcsNDMap(cube.geom, known)
        cube = WcsNDMap(cube.geom, np.where(known, cube.data, 0.0), cube.unit)
    parts["counts"] = cube
    reco = cube.geom.axes["energy"]
    if edisp is not None:
        parts["edisp"] = edisp if isinstance(edisp, IRFMap) else read_drm(edisp, reco)
        true = parts["edisp"].energy_axis_true
    else:
        true = reco.rename("energy_true")
    if exposure is not None:
        parts["exposure"] = _exposure(exposure, cube.geom, true)
    if psf is not None:
        parts["psf"] = psf if isinstance(psf, IRFMap) else read_gtpsf(psf, true)
    if background is not None:
        parts["background"] = _background(background, cube.geom, known)
    return parts


def read_fermi_dataset(
    make: Callable[..., Any],
    parts: dict[str, Any],
    *,
    galactic: Any = None,
    isotropic: Any = None,
    source_maps: Any = None,
    spectra: Mapping[str, Any] | None = None,
) -> Any:
    """Dataset of parts, and of models whose counts join the background; see `fermi_parts`."""
    dataset = make(**parts)
    if (source_maps is None) != (not spectra):
        raise ValueError("give both source_maps, a file of gtsrcmaps, and spectra, by source name")
    found = []
    if isotropic is not None:
        found.append(isotropic_counts(dataset, *read_isotropic(isotropic)))
    if galactic is not None:
        cube = galactic
        if not isinstance(cube, WcsNDMap):
            with fits_file(galactic) as hdulist:
                cube = read_map(hdulist, map_name(hdulist, None))
        found.append(galactic_counts(dataset, cube))
    if spectra:
        found.append(read_source_maps(source_maps, spectra, dataset.geom))
    if found:
        dataset.npred_sources = sum(found)
    return dataset


def _counts(hdulist: fits.HDUList, position: SkyCoord | None, width: Any) -> WcsNDMap:
    name = map_name(hdulist, None)
    if is_healpix(hdulist[name]):
        return read_healpix(hdulist, name).to_wcs(position, width)
    if "WEIGHTS" in hdulist:
        raise ValueError(what_it_is(hdulist))
    cube = read_map(hdulist, name)
    if position is not None:
        return cube.cutout(position, width)
    return cube


def _gti(hdulist: fits.HDUList) -> Any:
    """Good time intervals, if the file says what its times are relative to."""
    if "GTI" not in hdulist:
        return None
    header = hdulist["GTI"].header
    reference = [header.get(key) for key in ("MJDREFI", "MJDREFF")]
    if not all(isinstance(value, int | float) for value in reference):
        return None
    return gti_table(read_table(hdulist, "GTI"))


def _exposure(exposure: Any, geom: WcsGeom, true: MapAxis) -> WcsNDMap:
    """Exposure on the pixels of the counts and on true bins."""
    if isinstance(exposure, WcsNDMap):
        return _on_pixels(exposure, geom, true, "exposure")
    with fits_file(exposure) as hdulist:
        name = map_name(hdulist, None)
        if is_healpix(hdulist[name]):
            return _on_pixels(read_healpix(hdulist, name), geom, true, "exposure")
        return _on_pixels(read_map(hdulist, name), geom, true, "exposure")


def _on_pixels(map_: WcsNDMap | HealpixMap, geom: WcsGeom, true: MapAxis, what: str) -> WcsNDMap:
    axes = map_.axes if isinstance(map_, HealpixMap) else map_.geom.axes
    if len(axes) != 1 or axes[0].name not in ("energy_true", "energy"):
        raise ValueError(
            f"{what} has the axes {[axis.name for axis in axes]}, but a cube over energies is "
            "expected (gtexpcube2)"
        )
    given = map_.values if isinstance(map_, HealpixMap) else map_.data
    if axes[0].name == "energy" and given.dtype.kind != "f":
        raise ValueError(f"{what} holds whole numbers, which are counts and no {what}")
    if isinstance(map_, HealpixMap):
        values = map_.interp(geom.get_coord())
        # Off the map is nothing; a region there is told so by its coverage.
        values = np.where(np.isfinite(values), values, 0.0)
    elif map_.geom.is_allclose_image(geom):
        values = map_.data
    else:
        x, y = map_.geom.pixel_coordinates(geom.get_coord())
        if not np.any(map_.geom.holds(x, y)):
            raise ValueError(f"{what} is on another part of the sky than the counts")
        values = map_.interp_to_geom(geom).data
    unit = map_.unit
    if unit == u.dimensionless_unscaled and what == "exposure":
        # Files of gtexpcube2 have no BUNIT.
        unit = u.Unit("cm2 s")
    data = at_energies(values, axes[0].center_tev(), true, what)
    return WcsNDMap(geom.to_cube([true]), data, unit)


def _background(background: Any, geom: WcsGeom, known: NDArray[np.bool_]) -> WcsNDMap:
    """Background in the pixels that counts are known in, zero in the others."""
    if isinstance(background, WcsNDMap):
        return background
    with fits_file(background) as hdulist:
        name = map_name(hdulist, None)
        if is_healpix(hdulist[name]):
            map_ = read_healpix(hdulist, name).onto(geom)
            if map_.data.shape == known.shape:
                missing = known & np.isnan(map_.data)
                if missing.any():
                    raise ValueError(f"it has no value in {missing.sum()} bins of the counts")
                map_ = map_.copy(data=np.where(known, map_.data, 0.0))
        else:
            map_ = read_map(hdulist, name)
        if not map_.geom.is_allclose(geom):
            raise ValueError(
                "it must have the pixels and energies of the counts (a model cube of gtmodel or "
                f"fermipy), but has {map_.geom!r}"
            )
        return map_


def read_gtpsf(path: str | os.PathLike[str], true: MapAxis) -> PSFMap:
    """Point spread function of a file of gtpsf, on bins of true energy.

    Raises
    ------
    ValueError
        If it is none, or its energies or angles make no axis.
    """
    with fits_file(path) as hdulist:
        if "PSF" not in hdulist or "THETA" not in hdulist:
            raise ValueError(f"it is no file of gtpsf (PSF, THETA): {what_it_is(hdulist)}")
        table, theta = hdulist["PSF"], hdulist["THETA"]
        energy = _column(table, "Energy", "MeV").to_value("TeV")
        order = np.argsort(energy, kind="stable")
        angle = _column(theta, "Theta", "deg")
        density = _column(table, "Psf", "sr-1").to_value("sr-1")
        if density.shape != (len(energy), len(angle)):
            raise ValueError(
                f"Psf has the shape {density.shape}, but there are {len(energy)} energies and "
                f"{len(angle)} angles"
            )
        rad = MapAxis.from_nodes(angle, name="rad")
        profile = at_energies(density[order], energy[order], true, "psf")
        exposure = None
        if "EXPOSURE" in [name.upper() for name in table.columns.names]:
            values = _column(table, "Exposure", "cm2 s")
            exposure = u.Quantity(
                at_energies(values.value[order], energy[order], true, "psf"), values.unit
            )
        return PSFMap(profile, rad, true, exposure=exposure)


def _column(hdu: Any, name: str, unit: str) -> u.Quantity:
    """Column of a table, in a unit that is understood where the file names none."""
    columns = hdu.columns.names if isinstance(hdu, fits.BinTableHDU) else []
    names = {str(column).upper(): str(column) for column in columns}
    if name.upper() not in names:
        raise ValueError(f"HDU {hdu.name} has no column {name}")
    column = names[name.upper()]
    values = np.asarray(hdu.data[column], dtype=np.float64)
    return u.Quantity(values, unit_of(hdu.columns[column].unit or unit, hdu.name))


def read_drm(path: str | os.PathLike[str], reco: MapAxis) -> EDispKernelMap:
    """Energy dispersion of a file of gtdrm for counts of an energy axis.

    Raises
    ------
    ValueError
        If it is none, or is made for other energies.
    """
    with fits_file(path) as hdulist:
        if "DRM" not in hdulist:
            raise ValueError(f"it is no file of gtdrm (DRM): {what_it_is(hdulist)}")
        table = hdulist["DRM"]
        true, order = axis_of_bins(table, ("ENERG_LO", "ENERG_HI"), "energy_true", "MeV")
        # Its EBOUNDS are those of a template; the channels are the bins of the counts.
        channels = table.header.get("DETCHANS", reco.nbin)
        if channels != reco.nbin:
            raise ValueError(
                f"it has {channels} channels, but the counts have {reco.nbin} energies; make both "
                "with the same energies"
            )
        return EDispKernelMap(matrix_rows(table, reco.nbin, 1)[order], reco, true)


def read_source_maps(
    path: str | os.PathLike[str], spectra: Mapping[str, Any], geom: WcsGeom
) -> WcsNDMap:
    """Predicted counts of sources of a file of gtsrcmaps.

    Parameters
    ----------
    path : str or path-like
        Its images hold, for each energy of an edge of a bin, the counts per flux: exposure and PSF
        (for diffuse sources the intensity) without the spectrum.
    spectra : dict
        For each source wanted its spectrum, a spectral model; or a number, by which the map of a
        diffuse source is multiplied.
    geom : WcsGeom
        Geometry of the counts.

    Returns
    -------
    npred : WcsNDMap
        Sum of the sources. Between the edges of a bin the product of map and spectrum follows a
        power law, as in the Fermi tools.

    Raises
    ------
    ValueError
        If a source is not there, or a map does not belong to the counts.
    """
    total = np.zeros(geom.data_shape)
    with fits_file(path) as hdulist:
        names = [name for name in image_names(hdulist) if hdulist[name].header.get("NAXIS") == 3]
        edges = geom.axes["energy"].edges_tev()
        if "EBOUNDS" in hdulist:
            axis, _ = energy_axis(hdulist, "EBOUNDS")
            if not axis.is_allclose(geom.axes["energy"], rtol=1e-4):
                raise ValueError(f"its energies are {axis}, those of the counts {geom.axes[0]}")
        for source, spectrum in spectra.items():
            if source.upper() not in (name.upper() for name in names):
                raise ValueError(
                    f"there is no source {source!r} in it; the sources are {names[1:]}"
                )
            map_ = np.asarray(hdulist[source].data, np.float64)
            if map_.shape != (len(edges), *geom.npix_shape):
                raise ValueError(
                    f"source {source!r} has a map of shape {map_.shape}, but the counts have "
                    f"{len(edges) - 1} bins, with {len(edges)} edges, of shape {geom.npix_shape}"
                )
            if not celestial_geom(hdulist[source]).is_allclose_image(geom):
                raise ValueError(f"source {source!r} is on other pixels than the counts")
            flux = np.full(len(edges), 1e6 * spectrum if _is_number(spectrum) else np.nan)
            if isinstance(spectrum, SpectralModel):
                flux = np.asarray(spectrum(edges), float)
            elif not _is_number(spectrum):
                raise ValueError(f"spectra[{source!r}] is {spectrum!r}; give a spectral model")
            total += _power_law_integral(edges, map_ * flux[:, np.newaxis, np.newaxis])
    return WcsNDMap(geom, total)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _power_law_integral(edges: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Integrals of values at edges, shape (n + 1, ...), over the bins, (n, ...), as power laws."""
    x = np.diff(np.log(edges)).reshape(-1, *[1] * (values.ndim - 1))
    energy = edges.reshape(-1, *[1] * (values.ndim - 1))
    y = values * energy
    low, high = y[:-1], y[1:]
    both = (low > 0) & (high > 0)
    ratio = np.log(np.where(both, high, 1.0) / np.where(both, low, 1.0))
    small = np.abs(ratio) < 1e-6
    # The mean of an exponential in log energy; a straight line where one end is zero.
    exact = (high - low) / np.where(small, 1.0, ratio)
    return x * np.where(both & ~small, exact, 0.5 * (low + high))


def read_isotropic(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Energies [TeV] and intensities [cm-2 s-1 sr-1 TeV-1] of an isotropic file (iso_..._v1.txt).

    Raises
    ------
    ValueError
        If it does not hold two or three columns of numbers: MeV, and MeV-1 cm-2 s-1 sr-1.
    """
    file = existing_file(path)
    with naming(str(file), always=True):
        values = np.loadtxt(io.StringIO(read_text(file, 2**20)), ndmin=2)
        if values.shape[1] < 2 or len(values) < 2:
            raise ValueError(f"two columns of numbers are expected, got the shape {values.shape}")
        energy, intensity = values[:, 0] * 1e-6, values[:, 1] * 1e6
        if not (np.all(np.diff(energy) > 0) and energy[0] > 0 and np.all(intensity >= 0)):
            raise ValueError("energies must increase and intensities not be negative")
        return energy, intensity


def fermipy_files(folder: str | os.PathLike[str], component: int = 0) -> dict[str, Path]:
    """Files of a component of an analysis of fermipy, by their part of `fermi_parts`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no counts or exposure in it.
    """
    where = expand_path(folder)
    if not where.is_dir():
        raise FileNotFoundError(f"no such folder: {where}")
    found = {}
    for part, stem in zip(("counts", "exposure", "psf", "edisp"), FERMIPY, strict=True):
        for extension in (".fits", ".fits.gz"):
            path = where / f"{stem}_{component:02d}{extension}"
            if path.is_file():
                found[part] = path
                break
        else:
            if part in ("counts", "exposure"):
                others = sorted(path.name for path in where.glob(f"{stem}_*.fits*"))
                raise FileNotFoundError(
                    f"{where} has no {stem}_{component:02d}.fits; there are {others or 'none'}"
                )
    return found
