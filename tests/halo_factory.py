"""A halo of 5.4 deg behind a wide PSF, on the sphere and without the package's code."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.polynomial.legendre import leggauss

import jaxprof
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

PULSAR = SkyCoord(98.5, 17.8, unit="deg", frame="icrs")
THETA_D = 5.4  # deg
PSF = 0.4  # deg
MODEL = jaxprof.PowerLawSpectralModel(
    index=2.3, amplitude="1e-14 cm-2 s-1 TeV-1", reference="20 TeV"
)
EDGES = [8, 40] * u.TeV
BINSZ, PIXELS = 0.4, 64


def halo(theta):
    """Abeysekara et al. 2017, without their norm; theta in deg."""
    return np.exp(-((theta / THETA_D) ** 2)) / (theta + 0.06 * THETA_D)


def blurred(brightness, sigma, degree=900):
    """A function of the separation [deg] after a Gaussian, by Legendre's polynomials.

    The Gaussian of the sphere, of which the flat one differs by the square of its width in rad.
    """
    # Nodes in the angle: fine where the cusp is.
    x, w = leggauss(1500)
    angle = np.deg2rad(30.0) * (0.5 * (x + 1)) ** 2
    w = w * 0.5 * np.deg2rad(30.0) * (x + 1)
    weighted = 2 * np.pi * brightness(np.rad2deg(angle)) * np.sin(angle) * w
    grid = np.deg2rad(np.linspace(0, 25, 1001))
    last, now = [np.ones_like(c) for c in (angle, grid)], [np.cos(angle), np.cos(grid)]
    s = np.deg2rad(sigma)
    total = weighted.sum() / (4 * np.pi) * last[1]
    for ell in range(1, degree):
        damping = np.exp(-0.5 * ell * (ell + 1) * s**2)
        total = total + (2 * ell + 1) / (4 * np.pi) * damping * np.sum(weighted * now[0]) * now[1]
        cosines = np.cos(angle), np.cos(grid)
        following = [
            ((2 * ell + 1) * c * p - ell * q) / (ell + 1)
            for c, p, q in zip(cosines, now, last, strict=True)
        ]
        last, now = now, following
    return lambda theta: np.interp(theta, np.rad2deg(grid), total)


def expected(n_photons=2e4, background=60.0):
    """Counts equal to their expectation: so many photons, and a background per square degree."""
    energy = MapAxis.from_energy_bounds(8, 40, 1, unit="TeV")
    true = MapAxis.from_energy_bounds(8, 40, 1, unit="TeV", name="energy_true")
    geom = WcsGeom.create(skydir=PULSAR, npix=PIXELS, binsz=BINSZ, proj="TAN", axes=[energy])
    fine = (np.arange(PIXELS * 4) + 0.5) / 4 - PIXELS / 2
    x, y = np.meshgrid(fine * np.deg2rad(BINSZ), fine * np.deg2rad(BINSZ))
    theta = np.arctan(np.hypot(x, y))
    size = np.deg2rad(BINSZ / 4) ** 2 * np.cos(theta) ** 3
    values = blurred(halo, PSF)(np.rad2deg(theta)) * size
    angles = np.deg2rad(np.linspace(0, 30, 300_001))
    whole = 2 * np.pi * np.trapezoid(halo(np.rad2deg(angles)) * np.sin(angles), angles)
    signal = values.reshape(PIXELS, 4, PIXELS, 4).sum(axis=(1, 3)) * n_photons / whole
    area = size.reshape(PIXELS, 4, PIXELS, 4).sum(axis=(1, 3)) * np.rad2deg(1) ** 2
    flux = float(np.asarray(MODEL.integral(8.0, 40.0)))
    exposure = np.full((1, PIXELS, PIXELS), n_photons / flux)
    return jaxprof.MapDataset(
        counts=WcsNDMap(geom, (signal + background * area)[np.newaxis]),
        background=WcsNDMap(geom, (background * area)[np.newaxis]),
        exposure=WcsNDMap(geom.to_cube([true]), exposure, unit="cm2 s"),
        psf=jaxprof.PSFMap.from_gauss(true, np.array([PSF])),
        name="halo",
    )


def estimator(**options):
    """Ten rings of one degree, and two guard bins."""
    rings = jaxprof.make_concentric_annulus_sky_regions(PULSAR, "10 deg", nbin=11)
    options = {"guard_bins": 2, "background": 0.02, **options}
    return jaxprof.ForwardFoldingProfileEstimator(
        rings, spectral_model=MODEL, energy_edges=EDGES, **options
    )
