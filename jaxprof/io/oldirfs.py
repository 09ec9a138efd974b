"""Responses as gammapy 0.10 to 0.18 wrote them: EDISP_MATRIX and PSF_KERNEL.

EDISP_MATRIX is a redistribution matrix of the OGIP (CAL/GEN/92-002): a row for each true energy, of
groups of channels without those that are zero; EDISP_MATRIX_EBOUNDS holds the energies of the
channels. PSF_KERNEL is the image of a point on pixels like those of the counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from jaxprof.io.axes import axis_of_bins
from jaxprof.io.fitsfile import check_heap
from jaxprof.io.fitsmaps import read_map
from jaxprof.irf import EDispKernelMap, PSFMap
from jaxprof.irf.kernel import ROUND, psf_from_kernel
from jaxprof.sky import WcsNDMap
from jaxprof.user_warning import warn_user

EDISP, PSF = "EDISP_MATRIX", "PSF_KERNEL"


def read_edisp_matrix(hdulist: fits.HDUList) -> EDispKernelMap:
    """Energy dispersion of the HDUs EDISP_MATRIX and EDISP_MATRIX_EBOUNDS.

    Raises
    ------
    ValueError
        If columns are missing, or the energies or channels do not make sense.
    """
    if f"{EDISP}_EBOUNDS" not in hdulist:
        raise ValueError(f"HDU {EDISP} needs the energies of an HDU {EDISP}_EBOUNDS; there is none")
    matrix, bounds = hdulist[EDISP], hdulist[f"{EDISP}_EBOUNDS"]
    _need(matrix, ("ENERG_LO", "ENERG_HI", "N_GRP", "F_CHAN", "N_CHAN", "MATRIX"))
    _need(bounds, ("E_MIN", "E_MAX"))
    energy, channels = axis_of_bins(bounds, ("E_MIN", "E_MAX"), "energy")
    true, rows = axis_of_bins(matrix, ("ENERG_LO", "ENERG_HI"), "energy_true")
    number = matrix.columns.names.index("F_CHAN") + 1
    # gammapy counts channels from 0 and says so; where nothing is said it means the same.
    lowest = int(matrix.header.get(f"TLMIN{number}", 0))
    data = matrix_rows(matrix, len(bounds.data), lowest)
    return EDispKernelMap(data[rows][:, channels], energy, true)


def matrix_rows(matrix: Any, n_channels: int, lowest: int) -> NDArray[np.float64]:
    """Redistribution matrix (n_true, n_channels) of a table of groups of channels (OGIP).

    Parameters
    ----------
    matrix : HDU
        Table with the columns N_GRP, F_CHAN, N_CHAN and MATRIX.
    n_channels : int
        Number of channels.
    lowest : int
        Number of the first channel.

    Raises
    ------
    ValueError
        If columns are missing, or a group is beyond the channels or the values.
    """
    _need(matrix, ("N_GRP", "F_CHAN", "N_CHAN", "MATRIX"))
    check_heap(matrix)
    data = np.zeros((len(matrix.data), n_channels))
    for index, row in enumerate(matrix.data):
        values = np.atleast_1d(row["MATRIX"])
        groups = [*zip(*(np.atleast_1d(row[key]) for key in ("F_CHAN", "N_CHAN")), strict=False)]
        n_groups, start = int(row["N_GRP"]), 0
        if not 0 <= n_groups <= len(groups):
            raise ValueError(
                f"row {index} of HDU {matrix.name} has {n_groups} groups, but {len(groups)} "
                "of F_CHAN and N_CHAN"
            )
        for first, n in groups[:n_groups]:
            low, n = int(first) - lowest, int(n)
            if n < 0 or low < 0 or low + n > data.shape[1] or start + n > len(values):
                raise ValueError(
                    f"row {index} of HDU {matrix.name} has {n} values from channel {low} (counted "
                    f"from 0), but there are {data.shape[1]} channels and {len(values)} values"
                )
            data[index, low : low + n] = values[start : start + n]
            start += n
    return data


def read_psf_kernel(
    hdulist: fits.HDUList, exposure: WcsNDMap | None, cache: dict[Any, WCS]
) -> PSFMap:
    """Point spread function of the HDU PSF_KERNEL; see `psf_from_kernel`.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open file.
    exposure : WcsNDMap or None
        Its true energies serve a kernel of one energy.
    cache : dict
        As for `read_map`.

    Raises
    ------
    ValueError
        If the HDU is no map of true energies.

    Warns
    -----
    UserWarning
        If the kernel is not that of a round point spread function, which it is taken for.
    """
    kernel = read_map(hdulist, PSF, cache)
    axes, data = kernel.geom.axes, kernel.data
    if exposure is not None and data.size == np.prod(data.shape[-2:]):
        axis = exposure.geom.axes[0]
        data = np.broadcast_to(data.reshape(1, *data.shape[-2:]), (axis.nbin, *data.shape[-2:]))
    elif [axis.name for axis in axes] in (["energy"], ["energy_true"]):
        axis = axes[0].rename("energy_true")
    else:
        found = [axis.name for axis in axes]
        raise ValueError(f"HDU {PSF} has the axes {found}, but energy_true is expected")
    try:
        psf, misfit = psf_from_kernel(data, kernel.geom.to_image(), axis)
    except ValueError as error:
        raise ValueError(f"HDU {PSF}: {error}") from error
    if misfit.max() > ROUND:
        energy = axis.center[int(np.argmax(misfit))]
        warn_user(
            f"HDU {PSF} is taken for a round point spread function that falls outwards, from which "
            f"its pixels differ by up to {100 * misfit.max():.2g} % of the largest (at "
            f"{energy:.4g}); give a map PSF instead"
        )
    return psf


def _need(hdu: Any, columns: tuple[str, ...]) -> None:
    names = [name.upper() for name in hdu.columns.names] if hasattr(hdu, "columns") else []
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(f"HDU {hdu.name} has no column {' and no '.join(missing)}")
