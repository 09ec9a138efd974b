r"""The simulated sky of the Galactic centre and a telescope like the Fermi-LAT.

Every formula and number of `jaxprof.simulate.simulate_galactic_centre` is here. The sources
are invented, not taken from a catalogue. Angles are in deg and energies in TeV.

Galactic diffuse emission, intensity at galactic longitude l and latitude b:

.. math:: I(l, b, E) \propto E^{-2.5} \left[0.55 + 0.45\, e^{-l^2 / 2 (3^\circ)^2}\right]
    \left[6.0\, \mathrm{sech}^2 (b / 0.6^\circ) + 1.8\, \mathrm{sech}^2 (b / 5^\circ)\right]
    10^{-6}\,\mathrm{cm^{-2}\,s^{-1}\,sr^{-1}}

between 10 and 500 GeV. The squared hyperbolic secant is the density across a
self-gravitating isothermal sheet (Spitzer 1942, ApJ 95, 329); widths, intensities and the
index are rounded from the look of the real sky. The isotropic background is the power law
with exponential cut-off of Ackermann et al. (2015, ApJ 799, 86): index 2.32, cut-off at
279 GeV, 7.2e-6 cm-2 s-1 sr-1 above 100 MeV.

The point spread function is a King function, as the Fermi-LAT collaboration
parametrises it ("Cicerone", https://fermi.gsfc.nasa.gov/ssc/data/analysis/documentation):

.. math:: p(r) = \frac{1}{2 \pi \sigma^2} \left(1 - \frac{1}{\gamma}\right)
    \left[1 + \frac{r^2}{2 \gamma \sigma^2}\right]^{-\gamma}, \quad \gamma = 2,

cut at 2 deg and normalised within. :math:`\sigma` follows from the 68 % containment radius
:math:`r_{68}(E) = [(0.11^\circ (E / 10\,\mathrm{GeV})^{-0.8})^2 + (0.10^\circ)^2]^{1/2}`, the
same source's scaling: 0.15 deg at 10 GeV, 0.10 deg above 100 GeV.

The energy dispersion is Gaussian in ln E with a width of 0.09, averaged over each true bin
with the weight E^-2.5. The exposure, 8500 cm2 times the 3.8e7 s that a survey of seven
years leaves for one direction, falls by 0.17 % per degree of longitude and by
0.008 ln(E / 60 GeV)^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy
from numpy.typing import NDArray

from jaxprof.models.spectral import (
    ExpCutoffPowerLawSpectralModel,
    PowerLaw2SpectralModel,
    SpectralModel,
)
from jaxprof.sky import WcsGeom

DIFFUSE_INDEX = 2.5
# Surface-brightness components of the plane: intensity at l = b = 0 between 10 and 500 GeV
# [cm-2 s-1 sr-1] and scale height [deg].
DIFFUSE_LAYERS = ((6.0e-6, 0.6), (1.8e-6, 5.0))
PSF_RADIUS = 2.0  # deg, where the PSF is cut
# The amplitude per sr, at 100 MeV, gives the integral of the reference.
ISOTROPIC = {"amplitude": 0.095, "index": 2.32, "reference": 1e-4, "lambda_": 1 / 0.279}
PULSAR = {"amplitude": 8.5e-8, "index": 1.8, "reference": 0.01, "lambda_": 1 / 0.025}
ENERGY_RESOLUTION = 0.09
SHELL_INNER = 0.75
SUBPIXEL = 0.0125  # deg; the half-width of the narrowest PSF is 0.04 deg

_SHAPES = ("point", "gauss", "shell")


@dataclass(frozen=True)
class SimulatedSource:
    """A source of the simulated sky.

    Parameters
    ----------
    name : str
        Unique within a simulation.
    lon, lat : float
        Galactic position in deg.
    spectral_model : SpectralModel
        Flux of the whole source.
    shape : {"point", "gauss", "shell"}
        A shell is the projection of a homogeneous shell whose inner radius is 0.75 of the
        outer one.
    size : float
        Standard deviation of "gauss", outer radius of "shell", in deg, at most 5.

    Raises
    ------
    ValueError
        If the shape or the size make no sense.
    """

    name: str
    lon: float
    lat: float
    spectral_model: SpectralModel
    shape: str = "point"
    size: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in _SHAPES:
            raise ValueError(f"shape of {self.name!r} must be one of {_SHAPES}, got {self.shape!r}")
        if not isinstance(self.spectral_model, SpectralModel):
            raise ValueError(
                f"spectral_model of {self.name!r} must be a spectral model of jaxprof, "
                f"got {self.spectral_model!r}"
            )
        if not (-90 <= self.lat <= 90 and math.isfinite(self.lon)):
            raise ValueError(f"position of {self.name!r} is not on the sky: {self.lon}, {self.lat}")
        if self.shape == "point" and self.size != 0:
            raise ValueError(f"size of the point source {self.name!r} must be 0, got {self.size}")
        if self.shape != "point" and not 0 < self.size <= 5:
            raise ValueError(f"size of {self.name!r} must be in (0, 5] deg, got {self.size}")


def _model(cls: Any, **parameters: float) -> SpectralModel:
    # Through Any: static type checkers do not see the parameters of the models.
    return cls(**parameters)


def _power_law(flux: float, index: float) -> SpectralModel:
    """Power law of a flux in cm-2 s-1 between 10 and 500 GeV."""
    return _model(PowerLaw2SpectralModel, amplitude=flux, index=index, emin=0.01, emax=0.5)


def default_sources() -> tuple[SimulatedSource, ...]:
    """Invented sources: a bright centre, an extended source, a shell, a pulsar and five points."""
    pulsar = _model(ExpCutoffPowerLawSpectralModel, **PULSAR)
    return (
        SimulatedSource("centre", 0.0, -0.05, _power_law(1.6e-9, 2.6)),
        SimulatedSource("extended", 6.3, -0.2, _power_law(2.4e-9, 2.7), "gauss", 0.25),
        SimulatedSource("shell", -4.2, 1.7, _power_law(1.1e-9, 1.9), "shell", 0.5),
        SimulatedSource("pulsar", -7.3, -2.2, pulsar),
        SimulatedSource("point-1", 0.9, 0.1, _power_law(5e-10, 2.3)),
        SimulatedSource("point-2", -1.8, -0.4, _power_law(4e-10, 2.2)),
        SimulatedSource("point-3", 3.4, 2.6, _power_law(3e-10, 2.0)),
        SimulatedSource("point-4", -6.1, 0.2, _power_law(4e-10, 2.5)),
        SimulatedSource("point-5", 7.6, -3.1, _power_law(2e-10, 2.4)),
    )


def psf_r68(energy: Any) -> NDArray[np.float64]:
    """Radius in deg that holds 68 % of the uncut PSF, for energies in TeV."""
    return np.hypot(0.11 * (np.asarray(energy) / 0.01) ** -0.8, 0.10)


def psf_density(rad: Any, r68: Any) -> NDArray[np.float64]:
    """King function in deg-2 at distances in deg; zero beyond its cut, integral one."""
    # With gamma = 2 the containment of a radius r is r^2 / (r^2 + 4 sigma^2).
    width2 = np.square(r68) * (0.32 / 0.68)
    norm = (1 + width2 / PSF_RADIUS**2) / (np.pi * width2)
    rad2 = np.square(rad)
    return np.where(rad2 <= PSF_RADIUS**2, norm / np.square(1 + rad2 / width2), 0.0)


def lon_lat(geom: WcsGeom) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Galactic coordinates of the pixels in deg, the longitude from -180 to 180."""
    coord = geom.get_coord()
    return coord.l.wrap_at("180d").deg, coord.b.deg


def relative_exposure(lon: Any, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exposure relative to l = 0 and 60 GeV, shape (n_true, *lon.shape); lon in deg."""
    spectrum = 1 - 0.008 * np.log(energy / 0.06) ** 2
    return np.multiply.outer(spectrum, 1 - 0.0017 * np.asarray(lon))


def bin_integrals(model: SpectralModel, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Photons in cm-2 s-1 per true bin, shape (n_true,); edges in TeV."""
    # In double precision always: the counts must not depend on the caller's JAX settings.
    with jax.enable_x64(True):
        return np.array(model.integral(edges[:-1], edges[1:]), dtype=np.float64)


def intensity(
    lon: NDArray[np.float64], lat: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Diffuse and isotropic photons in cm-2 s-1 sr-1 per true bin, shape (n_true, ny, nx)."""
    along = 0.55 + 0.45 * np.exp(-0.5 * (lon / 3.0) ** 2)
    across = sum(level / np.cosh(lat / height) ** 2 for level, height in DIFFUSE_LAYERS)
    plane = _power_law(1.0, DIFFUSE_INDEX)
    isotropic = _model(ExpCutoffPowerLawSpectralModel, **ISOTROPIC)
    galactic = np.multiply.outer(bin_integrals(plane, edges), along * across)
    return galactic + bin_integrals(isotropic, edges)[:, np.newaxis, np.newaxis]


def dispersion_matrix(reco: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of each reconstructed bin, shape (n_true, n_reco); edges in TeV."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    low, high = np.log(true[:-1, np.newaxis]), np.log(true[1:, np.newaxis])
    log_energy = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    weight = weights * np.exp((1 - DIFFUSE_INDEX) * (log_energy - low))
    weight /= weight.sum(axis=1, keepdims=True)
    below = scipy.special.ndtr((np.log(reco) - log_energy[..., np.newaxis]) / ENERGY_RESOLUTION)
    return np.einsum("tk,tke->te", weight, np.diff(below, axis=-1))


def _offsets(half: int, size: float, shift: float) -> NDArray[np.float64]:
    """Distances in deg of the sub-pixels of 2 half + 1 pixels from a point; (n, n_sub)."""
    n_sub = math.ceil(size / SUBPIXEL - 1e-9)
    inside = (np.arange(n_sub) + 0.5) / n_sub - 0.5
    return size * (np.arange(-half, half + 1)[:, np.newaxis] + inside - shift)


def psf_image(
    r68: NDArray[np.float64], size: float, shift: tuple[float, float] = (0, 0), stretch: float = 1
) -> NDArray[np.float64]:
    """PSF integrated over pixels, sum one, shape (n_true, n, n); `shift` in pixels (x, y)."""
    half = math.ceil(PSF_RADIUS / size / stretch) + 1
    x = _offsets(half, size, shift[0]) * stretch
    y = _offsets(half, size, shift[1])
    rad = np.hypot(x[np.newaxis, np.newaxis], y[:, :, np.newaxis, np.newaxis])
    image = np.stack([psf_density(rad, value).sum(axis=(1, 3)) for value in r68])
    return image / image.sum(axis=(1, 2), keepdims=True)


def source_images(
    source: SimulatedSource,
    geom: WcsGeom,
    r68: NDArray[np.float64],
    kernel: NDArray[np.float64],
    size: float,
) -> tuple[NDArray[np.float64], int, int]:
    """Where a source's photons go.

    Returns
    -------
    images : ndarray
        Probability per pixel, shape (n_true, n, n) with n odd, sum one.
    row, column : int
        Pixel of `geom`, on the map or off it, on which the images are centred.
    """
    lon = (source.lon + 180) % 360 - 180
    x, y = (float(p) for p in geom.wcs.wcs_world2pix(lon, source.lat, 0))
    column, row = round(x), round(y)
    shift = x - column, y - row
    # Pixels are narrower away from the equator; nothing reaches the map from beyond 60 deg.
    stretch = max(math.cos(math.radians(source.lat)), 0.5)
    if source.shape == "point":
        local = psf_image(r68, size, shift, stretch)
    else:
        extent = source.size * (5 if source.shape == "gauss" else 1)
        half = kernel.shape[-1] // 2 + math.ceil(extent / size / stretch) + 1
        dx, dy = _offsets(half, size, shift[0]) * stretch, _offsets(half, size, shift[1])
        rad2 = dx[np.newaxis, np.newaxis] ** 2 + dy[:, :, np.newaxis, np.newaxis] ** 2
        template = _profile(source, rad2).sum(axis=(1, 3))
        # One copy per energy: mode "same" would cut a single one's result to one energy.
        template = np.broadcast_to(template / template.sum(), (len(r68), *template.shape))
        from scipy.signal import fftconvolve  # which imports much

        local = fftconvolve(template, kernel, mode="same", axes=(1, 2))
        local = np.maximum(local, 0.0)
    return local, row, column


def _profile(source: SimulatedSource, rad2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness of an extended source at squared distances in deg2, not normalised."""
    if source.shape == "gauss":
        return np.exp(-0.5 * rad2 / source.size**2)
    outer2 = source.size**2
    chord = np.sqrt(np.clip(outer2 - rad2, 0, None))
    return chord - np.sqrt(np.clip(SHELL_INNER**2 * outer2 - rad2, 0, None))


def paste(
    local: NDArray[np.float64], shape: tuple[int, ...], row: int, column: int
) -> NDArray[np.float64]:
    """Put images around a pixel into zeros; what leaves the frame is lost."""
    full = np.zeros(shape)
    target: list[slice] = [slice(None)]
    origin: list[slice] = [slice(None)]
    for middle, n, n_local in zip((row, column), shape[1:], local.shape[1:], strict=True):
        start = middle - n_local // 2
        low, high = max(start, 0), min(start + n_local, n)
        if low >= high:
            return full
        target.append(slice(low, high))
        origin.append(slice(low - start, high - start))
    full[tuple(target)] = local[tuple(origin)]
    return full
