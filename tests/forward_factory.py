"""Datasets with a known truth, blurred without any of the package's code."""

import astropy.units as u
import jax
import numpy as np
from astropy.coordinates import SkyCoord
from regions import CircleAnnulusSkyRegion, CircleSkyRegion
from scipy.special import ndtr

import jaxprof
from jaxprof.reduce.joint.likelihood import group_data
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

CENTER = SkyCoord("0d", "0d", frame="galactic")
MODEL = jaxprof.PowerLawSpectralModel(index=2.3, amplitude="1e-12 cm-2 s-1 TeV-1")
WIDTH = 2.0  # deg
FINE = 5  # parts of a pixel of the sky image
EXPOSURE = 1e15  # cm2 s


def energy_axes(n_energy=3):
    """Reconstructed and true energies."""
    return (
        MapAxis.from_energy_bounds(1, 10, n_energy, unit="TeV"),
        MapAxis.from_energy_bounds(1, 10, n_energy, unit="TeV", name="energy_true"),
    )


def rings(n, width):
    """A disk and annuli around the centre, all of one width in deg."""
    first = CircleSkyRegion(CENTER, width * u.deg)
    others = [
        CircleAnnulusSkyRegion(CENTER, k * width * u.deg, (k + 1) * width * u.deg)
        for k in range(1, n)
    ]
    return [first, *others]


def sky_image(brightness, binsz, point=None):
    """Normalised image on pixels FINE times smaller, from a function of x and y in deg."""
    n = round(WIDTH / binsz) * FINE
    step = WIDTH / n
    axis = (np.arange(n) + 0.5) * step - 0.5 * WIDTH
    if point is not None:
        # A point between pixels is shared by its neighbours, as its centroid asks.
        across, up = (np.maximum(1 - np.abs(axis - c) / step, 0) for c in point)
        return np.outer(up, across)
    image = np.zeros((n, n))
    for dx in (np.arange(4) - 1.5) / 4 * step:
        for dy in (np.arange(4) - 1.5) / 4 * step:
            x, y = np.meshgrid(axis + dx, axis + dy)
            image += brightness(x, y)
    return image / image.sum()


def gaussian_image(image, sigma, binsz):
    """The fine image after a Gaussian, by exact integrals over the fine pixels."""
    n, step = len(image), binsz / FINE
    distance = (np.arange(n)[:, None] - np.arange(n)) * step
    matrix = ndtr((distance + step / 2) / sigma) - ndtr((distance - step / 2) / sigma)
    return matrix @ image @ matrix.T


def dataset_of(
    image,
    binsz,
    *,
    sigma,
    blur=False,
    model=MODEL,
    background=1e-3,
    n_photons=None,
    dispersion=None,
    gradient=0.0,
    n_energy=3,
    true=None,
):
    """Counts equal to their expectation.

    ``blur`` applies the Gaussians here, energy by energy; ``gradient`` is the relative change of
    the exposure per deg, which grows with energy. ``true`` is an axis of the true energy of its
    own, which needs a ``dispersion``.
    """
    reco, same = energy_axes(n_energy)
    true = same if true is None else true
    n_true = true.nbin
    geom = WcsGeom.create(binsz=binsz, width=WIDTH, frame="galactic", axes=[reco])
    n = geom.npix_shape[0]
    edges = true.edges_tev()
    flux = np.asarray(model.integral(edges[:-1], edges[1:]))
    scale = 1.0 if n_photons is None else n_photons / (flux.sum() * EXPOSURE)
    exposure = scale * EXPOSURE * np.ones((n_true, n, n))
    slope = gradient * np.linspace(0.5, 1.0, n_true)
    axis = (np.arange(n * FINE) + 0.5) * WIDTH / (n * FINE) - 0.5 * WIDTH
    widths = np.broadcast_to(sigma, (n_true,))
    npred_true = np.empty((n_true, n, n))
    for k in range(n_true):
        ramp = 1.0 + slope[k] * axis
        exposure[k] *= ramp.reshape(n, FINE).mean(axis=1)
        fine = image * ramp
        if blur:
            fine = gaussian_image(fine, widths[k], binsz)
        npred_true[k] = fine.reshape(n, FINE, n, FINE).sum(axis=(1, 3)) * flux[k] * scale * EXPOSURE
    edisp = None
    npred = npred_true
    if dispersion is not None:
        edisp = jaxprof.EDispKernelMap.from_gauss(reco, true, dispersion)
        npred = np.einsum("te,tyx->eyx", edisp.get_kernel(), npred_true)
    level = np.full((n_energy, n, n), float(background))
    return jaxprof.MapDataset(
        counts=WcsNDMap(geom, npred + level),
        background=WcsNDMap(geom, level),
        exposure=WcsNDMap(geom.to_cube([true]), exposure, unit="cm2 s"),
        psf=jaxprof.PSFMap.from_gauss(true, np.asarray(sigma, float)),
        edisp=edisp,
        name="truth",
    )


def estimator(regions=None, **options):
    """A forward-folding estimator, of three rings of 0.2 deg unless told otherwise."""
    options = {"spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV, **options}
    regions = rings(3, 0.2) if regions is None else regions
    return jaxprof.ForwardFoldingProfileEstimator(regions, **options)


def joint_data_of(own, datasets, response=None, *, merge=True):
    """Arrays of the joint fits of an estimator, one `JointData` for each energy group."""
    datasets = datasets if isinstance(datasets, list) else [datasets]
    with jax.enable_x64(True):
        response = own.response(datasets) if response is None else response
        made = group_data(own.problem(datasets, response), merge=merge)
    return jax.tree.map(_in_default_precision, made)


def _in_default_precision(leaf):
    return leaf if isinstance(leaf, jax.core.Tracer) else jax.device_put(np.asarray(leaf))
