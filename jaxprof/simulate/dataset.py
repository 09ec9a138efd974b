"""Simulation of a Fermi-LAT dataset of the Galactic centre above 10 GeV.

The dataset is of the same kind as a real one (pixels, axes, exposure, number of counts) and
its truth is known, so that recovered fluxes can be compared with it. The formulas and
numbers of the sky and of the instrument are in `jaxprof.simulate.sky`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from jaxprof.datasets import MapDataset
from jaxprof.irf import EDispKernelMap, PSFMap
from jaxprof.models.units import check, to_value
from jaxprof.simulate.sky import (
    PSF_RADIUS,
    bin_integrals,
    default_sources,
    dispersion_matrix,
    intensity,
    lon_lat,
    paste,
    psf_density,
    psf_image,
    psf_r68,
    relative_exposure,
    source_images,
)
from jaxprof.simulate.sky import SimulatedSource as SimulatedSource
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap


@dataclass(frozen=True)
class SimulationTruth:
    """What a simulated dataset was drawn from.

    Attributes
    ----------
    sources : dict of str to SimulatedSource
        With positions and true spectra.
    npred_sources : dict of str to WcsNDMap
        Expected counts of each source, like the counts.
    npred_background : WcsNDMap
        Expected counts of diffuse and isotropic emission; the dataset's background.
    """

    sources: dict[str, SimulatedSource]
    npred_sources: dict[str, WcsNDMap]
    npred_background: WcsNDMap

    @property
    def npred(self) -> WcsNDMap:
        """Expected counts of background and sources together, without noise."""
        total = self.npred_background.data.copy()
        for npred in self.npred_sources.values():
            total += npred.data
        return self.npred_background.copy(data=total)


# The overloads tell type checkers what return_truth does.
@overload
def simulate_galactic_centre(
    seed: Any = 0, *, return_truth: Literal[False] = False, **options: Any
) -> MapDataset: ...
@overload
def simulate_galactic_centre(
    seed: Any = 0, *, return_truth: Literal[True], **options: Any
) -> tuple[MapDataset, SimulationTruth]: ...
def simulate_galactic_centre(  # type: ignore[misc]  # they leave the options out
    seed: Any = 0,
    *,
    shape: tuple[int, int] = (200, 400),
    binsz: Any = 0.05,
    n_energy: int = 11,
    energy_min: Any = "10 GeV",
    energy_max: Any = "500 GeV",
    exposure: Any = "3.2e11 cm2 s",
    mask_margin: Any = 1.0,
    sources: Sequence[SimulatedSource] | None = None,
    name: str = "galactic-centre-simulation",
    return_truth: bool = False,
) -> MapDataset | tuple[MapDataset, SimulationTruth]:
    """Simulate Fermi-LAT counts of the Galactic centre region.

    The formulas are in `jaxprof.simulate.sky`.

    Parameters
    ----------
    seed : int or `numpy.random.Generator`
        For the Poisson noise. An integer gives the same counts at every call.
    shape : tuple of int
        Pixels ``(ny, nx)``, centred on l = b = 0 in a plate carree projection. The map
        may be 60 deg wide and high at most.
    binsz : float, str or Quantity
        Size of a pixel, in deg if plain; 0.01 to 1 deg.
    n_energy : int
        Number of reconstructed-energy bins, 2 at least. The ``n_energy + 1`` true bins
        have the edges of these as nodes.
    energy_min, energy_max : str, float or Quantity
        Range of the reconstructed energy, in TeV if plain; 1 GeV to 3 TeV.
    exposure : str, float or Quantity
        Exposure at the Galactic centre and 60 GeV, in cm2 s if plain.
    mask_margin : float, str or Quantity
        Width of the strip along the map's edges that ``mask_safe`` leaves out, in deg if
        plain; rounded to whole pixels.
    sources : sequence of SimulatedSource, optional
        Default: nine invented sources, the names and fluxes of which are in the truth.
    name : str
        Name of the dataset.
    return_truth : bool
        Whether to return the truth too.

    Returns
    -------
    dataset : MapDataset
        Counts drawn from background and sources; the background model without the
        sources; exposure, energy dispersion, PSF, safe mask and time interval.
    truth : SimulationTruth
        Only with `return_truth`.

    Raises
    ------
    ValueError
        If an argument makes no sense; the message names it.

    Notes
    -----
    The PSF is applied on the flat sky, and a source sees the exposure at its position.
    Emission from beyond the map's edges leaks in as it should.

    Examples
    --------
    >>> from jaxprof.datasets import simulate_galactic_centre
    >>> dataset = simulate_galactic_centre(seed=1, shape=(60, 200))
    >>> dataset.counts.data.shape
    (11, 60, 200)
    """
    rng = _generator(seed)
    size = float(check(to_value(binsz, "deg", name="binsz"), "positive", name="binsz"))
    scale = float(check(to_value(exposure, "cm2 s", name="exposure"), "positive", name="exposure"))
    geom, padded, energy_true = _geometries(shape, size, n_energy, energy_min, energy_max)
    mask = _safe_mask(geom, size, to_value(mask_margin, "deg", name="mask_margin"))
    by_name = _by_name(default_sources() if sources is None else sources)

    edges, nodes = energy_true.edges_tev(), energy_true.center_tev()
    dispersion = dispersion_matrix(geom.axes[0].edges_tev(), edges)
    r68 = psf_r68(nodes)
    pad = (padded.npix_shape[0] - geom.npix_shape[0]) // 2
    inner = (slice(None), slice(pad, pad + shape[0]), slice(pad, pad + shape[1]))

    def fold(true_counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tensordot(dispersion, true_counts, axes=(0, 0))

    lon, lat = lon_lat(padded)
    exposure_cube = scale * relative_exposure(lon, nodes)
    kernel = psf_image(r68, size)
    diffuse = intensity(lon, lat, edges)
    diffuse *= exposure_cube * padded.solid_angle().to_value("sr")
    background = WcsNDMap(geom, fold(_convolved(diffuse, kernel)[inner]))

    npred_sources = {}
    for source in by_name.values():
        images, row, column = source_images(source, geom, r68, kernel, size)
        flux = bin_integrals(source.spectral_model, edges)
        seen = scale * relative_exposure(source.lon, nodes)
        npred = fold(images * (flux * seen)[:, np.newaxis, np.newaxis])
        npred_sources[source.name] = WcsNDMap(geom, paste(npred, geom.data_shape, row, column))

    truth = SimulationTruth(by_name, npred_sources, background)
    at_centre = u.Quantity(scale * relative_exposure(0.0, nodes), "cm2 s")
    dataset = MapDataset(
        counts=WcsNDMap(geom, rng.poisson(truth.npred.data).astype(np.int32)),
        background=background.copy(),
        exposure=WcsNDMap(geom.to_cube([energy_true]), exposure_cube[inner], "cm2 s"),
        edisp=EDispKernelMap(dispersion, geom.axes[0], energy_true, exposure=at_centre),
        psf=_psf_map(r68, energy_true, at_centre),
        mask_safe=WcsNDMap(geom, mask),
        gti=_gti(),
        name=name,
    )
    return (dataset, truth) if return_truth else dataset


def _convolved(images: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Images, each with its kernel, without the noise of either sign that Fourier sums leave."""
    from scipy.signal import fftconvolve  # which imports much

    return np.maximum(fftconvolve(images, kernel, mode="same", axes=(1, 2)), 0.0)


def _psf_map(r68: NDArray[np.float64], energy_true: MapAxis, exposure: u.Quantity) -> PSFMap:
    nodes = PSF_RADIUS * np.linspace(0, 1, 201) ** 2
    rad = MapAxis.from_nodes(nodes, name="rad", unit="deg", interp="lin")
    density = psf_density(rad.center.value, r68[:, np.newaxis]) / np.deg2rad(1) ** 2
    return PSFMap(density, rad, energy_true, exposure=exposure)


def _generator(seed: Any) -> np.random.Generator:
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer or a Generator, got {seed!r}")
    return np.random.default_rng(int(seed))


def _geometries(
    shape: Any, size: float, n_energy: Any, energy_min: Any, energy_max: Any
) -> tuple[WcsGeom, WcsGeom, MapAxis]:
    """Map, map padded by the radius of the PSF, and true-energy axis."""
    try:
        ny, nx = (int(n) for n in shape)
    except (TypeError, ValueError):
        raise ValueError(f"shape must be two integers (ny, nx), got {shape!r}") from None
    if not 0.01 <= size <= 1:
        raise ValueError(f"binsz must be between 0.01 and 1 deg, got {size} deg")
    if min(ny, nx) < 1 or max(ny, nx) * size > 60 * (1 + 1e-9):
        raise ValueError(
            f"shape must be positive and the map 60 deg wide and high at most, got {shape} "
            f"pixels of {size} deg"
        )
    if isinstance(n_energy, bool) or not isinstance(n_energy, int | np.integer) or n_energy < 2:
        raise ValueError(f"n_energy must be an integer of 2 at least, got {n_energy!r}")
    low, high = (
        float(to_value(value, "TeV", name=name))
        for name, value in (("energy_min", energy_min), ("energy_max", energy_max))
    )
    if not 0.001 * (1 - 1e-9) <= low < high <= 3 * (1 + 1e-9):
        raise ValueError(
            "energy_min must be below energy_max and both between 1 GeV and 3 TeV, got "
            f"{low} and {high} TeV"
        )
    energy = MapAxis.from_energy_bounds(low * 1e3, high * 1e3, int(n_energy), unit="GeV")
    energy_true = MapAxis.from_nodes(energy.edges, name="energy_true", interp="log")
    pad = math.ceil(PSF_RADIUS / size)
    geom = WcsGeom.create(binsz=size, npix=(nx, ny), frame="galactic", axes=[energy])
    padded = WcsGeom.create(binsz=size, npix=(nx + 2 * pad, ny + 2 * pad), frame="galactic")
    return geom, padded, energy_true


def _by_name(sources: Sequence[SimulatedSource]) -> dict[str, SimulatedSource]:
    for source in sources:
        if not isinstance(source, SimulatedSource):
            raise ValueError(f"sources must be SimulatedSource objects, got {source!r}")
    by_name = {source.name: source for source in sources}
    if len(by_name) != len(sources):
        raise ValueError(f"sources must have different names, got {[s.name for s in sources]}")
    return by_name


def _safe_mask(geom: WcsGeom, size: float, margin: float) -> NDArray[np.bool_]:
    cut = round(margin / size) if 0 <= margin < math.inf else -1
    ny, nx = geom.npix_shape
    if cut < 0 or 2 * cut >= min(ny, nx):
        raise ValueError(
            f"mask_margin must be at least 0 and leave pixels of the {nx * size:.4g} x "
            f"{ny * size:.4g} deg map, got {margin} deg"
        )
    mask = np.zeros(geom.data_shape, dtype=bool)
    mask[:, cut : ny - cut, cut : nx - cut] = True
    return mask


def _gti() -> Table:
    """Seven years from the start of the survey, in the Fermi mission's elapsed time."""
    start = 239557417.0
    table = Table({"START": [start] * u.s, "STOP": [start + 7 * 365.25 * 86400] * u.s})
    table.meta.update(
        MJDREFI=51910, MJDREFF=7.428703703703703e-4, TIMEUNIT="s", TIMESYS="TT", TIMEREF="LOCAL"
    )
    return table
