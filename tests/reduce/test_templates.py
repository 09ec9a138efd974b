"""Folded templates against direct sums over 40 x 40 sub-pixels a pixel."""

from contextlib import nullcontext
from functools import lru_cache

import astropy.units as u
import jax
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from numpy.testing import assert_allclose
from regions import (
    CircleAnnulusSkyRegion,
    CirclePixelRegion,
    CircleSkyRegion,
    PixCoord,
    RectanglePixelRegion,
)
from scipy.signal import fftconvolve
from scipy.special import ndtr

from jaxprof import (
    DiskSpatialModel,
    ForwardFoldingProfileEstimator,
    GaussianSpatialModel,
    GeneralizedGaussianSpatialModel,
    MapAxis,
    MapDataset,
    PointSpatialModel,
    PSFMap,
    ShellSpatialModel,
    WcsGeom,
    WcsNDMap,
)
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.reduce.joint.degrees import moment_degree, sufficient_degree
from jaxprof.reduce.joint.emission import region_emissions, source_emission
from jaxprof.reduce.joint.folding import Folding
from jaxprof.sky.moments import point_moments
from jaxprof.sky.regions.coverage import polygon_moments

SIZE = 0.1  # deg, of a pixel
NPIX = 15
N_SUB = 40
N_EDGE = 4  # parts of a sub-pixel along each side, of which an edge cuts some off
TOLERANCE = 1.5e-3  # of the peak
PER_DEG2 = np.deg2rad(1.0) ** 2
AXES = [
    MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=1, name=name)
    for name in ("energy", "energy_true")
]


def dataset_of(rad, density, geom=None):
    """A map with an exposure of one; the PSF [deg-2] at radii in pixels."""
    if geom is None:
        geom = WcsGeom.create(binsz=SIZE, npix=(NPIX, NPIX), frame="galactic")
    psf = PSFMap(
        np.asarray(density)[np.newaxis] / PER_DEG2,
        MapAxis.from_nodes(np.asarray(rad) * SIZE * u.deg, name="rad"),
        AXES[1],
    )
    counts = WcsNDMap(geom.to_cube([AXES[0]]))
    exposure = WcsNDMap(geom.to_cube([AXES[1]]), np.ones((1, *geom.npix_shape)), unit="cm2 s")
    return MapDataset(counts=counts, exposure=exposure, psf=psf, name="templates")


def gaussian(sigma):
    """Radii [pixels] and density [deg-2] of a Gaussian PSF."""
    rad = np.linspace(0, 6 * sigma, 1200)
    return rad, np.exp(-0.5 * (rad / sigma) ** 2) / (2 * np.pi * (sigma * SIZE) ** 2)


def king(sigma):
    """The same for a King function on a few nodes, cut off at 10 pixels."""
    rad = np.concatenate([np.linspace(0, 3 * sigma, 40), np.geomspace(3 * sigma, 10, 40)[1:]])
    density = (1 + rad**2 / (4 * sigma**2)) ** -2 / (4 * np.pi * (sigma * SIZE) ** 2)
    return rad, 0.9 * density


def folded(dataset, emissions):
    """Predicted counts (components, ny, nx) at a flux of one."""
    with jax.enable_x64(True):
        cutouts = Folding(dataset_to_fold(dataset), emissions).cutouts(np.ones((len(emissions), 1)))
    ny, nx = dataset.geom.npix_shape
    found = np.zeros((len(emissions), ny, nx))
    for part in cutouts:
        values = np.asarray(part.values)[:, 0, 0]
        for k, (value, y0, x0) in enumerate(zip(values, part.y0, part.x0, strict=True)):
            rows, columns = y0 + np.arange(value.shape[0]), x0 + np.arange(value.shape[1])
            y, x = (rows >= 0) & (rows < ny), (columns >= 0) & (columns < nx)
            found[part.first + k, rows[y][:, None], columns[x]] = value[np.ix_(y, x)]
    return found


def sub_pixels(n):
    return (np.arange(NPIX * n) + 0.5) / n - 0.5


def sub_image(inside, x, y):
    """Even emission in 40 x 40 sub-pixels a pixel; ``inside`` takes offsets from x, y."""
    fine = sub_pixels(N_SUB * N_EDGE)
    image = inside(fine - x, fine[:, None] - y).astype(float)
    n = NPIX * N_SUB
    image = image.reshape(n, N_EDGE, n, N_EDGE).mean(axis=(1, 3))
    return image / image.sum()


def direct_gaussian(image, sigma):
    """Each sub-pixel through a Gaussian, integrated over each pixel in closed form."""
    start, end = sub_pixels(N_SUB), np.arange(NPIX)[:, None]
    matrix = ndtr((end + 0.5 - start) / sigma) - ndtr((end - 0.5 - start) / sigma)
    return matrix @ image @ matrix.T


def direct_table(image, rad, density):
    """Each sub-pixel through a tabulated PSF, summed over the sub-pixels of each pixel."""
    half = int(np.ceil(rad[-1] * N_SUB))
    distance = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) / N_SUB
    kernel = np.interp(distance, rad, density, right=0.0) * (SIZE / N_SUB) ** 2
    spread = fftconvolve(image, kernel)[half:-half, half:-half]
    return spread.reshape(NPIX, N_SUB, NPIX, N_SUB).sum(axis=(1, 3))


def convolved_gaussians(x, y, sigma):
    edges = np.arange(NPIX + 1) - 0.5
    return np.outer(np.diff(ndtr((edges - y) / sigma)), np.diff(ndtr((edges - x) / sigma)))


def ring(inner, outer):
    return lambda dx, dy: (np.hypot(dx, dy) >= inner) & (np.hypot(dx, dy) < outer)


def box(width, height, angle):
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return lambda dx, dy: (
        (np.abs(cos * dx + sin * dy) < width / 2) & (np.abs(cos * dy - sin * dx) < height / 2)
    )


RINGS = [(0, 0.5), (0, 1), (0, 5), (0.5, 1), (2, 2.8), (2.5, 3), (3, 5)]
BOXES = [(0.5, 0.5, 30), (0.5, 5, 75), (1, 1.5, 10), (2, 2, 0), (5, 3, 140)]
DISKS = [0.05, 0.2, 0.42, 0.7, 1.5, 3]
GAUSSIANS = [0.05, 0.2, 0.39, 0.42, 1, 3]
# Edges along the pixels end with a part of a sub-pixel.
POSITIONS = {"corner": (7.475, 6.525), "within": (7.125, 7.2)}


@lru_cache
def sub_images(x, y):
    """Emission in sub-pixels of each of the shapes at a pixel position."""
    insides = [ring(*radii) for radii in RINGS] + [box(*sides) for sides in BOXES]
    return [sub_image(inside, x, y) for inside in [*insides, *(ring(0, r) for r in DISKS)]]


def components(geom, x, y, degree):
    """Place, and emissions of the shapes at a pixel position."""
    center = SkyCoord.from_pixel(x, y, geom.wcs)
    place = {"lon_0": center.l.deg, "lat_0": center.b.deg, "frame": "galactic"}
    regions = [
        CircleAnnulusSkyRegion(center, inner * SIZE * u.deg, outer * SIZE * u.deg)
        if inner
        else CircleSkyRegion(center, outer * SIZE * u.deg)
        for inner, outer in RINGS
    ]
    regions += [
        RectanglePixelRegion(PixCoord(x, y), w, h, angle * u.deg).to_sky(geom.wcs)
        for w, h, angle in BOXES
    ]
    emissions = region_emissions(regions, geom, degree=degree)
    for radius in DISKS:
        model = DiskSpatialModel(r_0=radius * SIZE, edge_width=0, **place)
        emissions.append(source_emission(model, geom, degree=degree))
    return place, emissions


@pytest.mark.parametrize(
    ("sigma", "position"),
    [
        pytest.param(0.3, "corner", marks=pytest.mark.slow),
        pytest.param(0.55, "within", marks=pytest.mark.slow),
        (1.0, "within"),
        pytest.param(2.2, "corner", marks=pytest.mark.slow),
        pytest.param(4.0, "corner", marks=pytest.mark.slow),
    ],
)
def test_shapes_behind_a_gaussian(sigma, position):
    position = POSITIONS[position]
    dataset = dataset_of(*gaussian(sigma))
    geom, degree = dataset.geom.to_image(), moment_degree(dataset, None)
    place, emissions = components(geom, *position, degree)
    expected = [direct_gaussian(image, sigma) for image in sub_images(*position)]
    for width in GAUSSIANS:
        model = GaussianSpatialModel(sigma=width * SIZE, **place)
        emissions.append(source_emission(model, geom, degree=degree))
        expected.append(convolved_gaussians(*position, np.hypot(sigma, width)))
    emissions.append(source_emission(PointSpatialModel(**place), geom))
    expected.append(convolved_gaussians(*position, sigma))
    # The smallest disk is of a few sub-pixels: it is a Gaussian of its variance here.
    first = len(RINGS) + len(BOXES)
    expected[first] = convolved_gaussians(*position, np.hypot(sigma, DISKS[0] / 2))
    for k, (found, right) in enumerate(zip(folded(dataset, emissions), expected, strict=True)):
        assert np.abs(found - right).max() < TOLERANCE * right.max(), k


def test_sources_behind_a_wide_psf():
    """What moments do adds up over many pixels there; even a point needs little of them."""
    sigma, (x, y) = 5.0, (6.66, 7.45)
    dataset = dataset_of(*gaussian(sigma))
    geom, degree = dataset.geom.to_image(), moment_degree(dataset, None)
    center = SkyCoord.from_pixel(x, y, geom.wcs)
    place = {"lon_0": center.l.deg, "lat_0": center.b.deg, "frame": "galactic"}
    widths = (0.05, 1.0, 1.9, 2.1, 3.0)
    models = [GaussianSpatialModel(sigma=width * SIZE, **place) for width in widths]
    models.append(DiskSpatialModel(r_0=0.05 * SIZE, edge_width=0, **place))
    for width, model in zip((*widths, 0.025), models, strict=True):
        # One at a time: those that are folded together have the moments of the least even.
        (found,) = folded(dataset, [source_emission(model, geom, degree=degree)])
        right = convolved_gaussians(x, y, np.hypot(sigma, width))
        assert np.abs(found - right).max() < TOLERANCE * right.max(), width


@pytest.mark.parametrize("sigma", [0.2, pytest.param(0.6, marks=pytest.mark.slow)])
def test_shapes_behind_a_king_function(sigma):
    rad, density = king(sigma)
    dataset = dataset_of(rad, density)
    geom, degree = dataset.geom.to_image(), moment_degree(dataset, None)
    position = POSITIONS["within"]
    place, emissions = components(geom, *position, degree)
    # Every third of the shapes; not the disk of a few sub-pixels.
    emissions, images = emissions[2::3], sub_images(*position)[2::3]
    fine = sub_pixels(N_SUB)
    r = np.hypot(fine - position[0], fine[:, None] - position[1])
    models = [
        (
            ShellSpatialModel(radius=1.5 * SIZE, width=0.5 * SIZE, **place),
            np.sqrt(np.maximum(4 - r**2, 0)) - np.sqrt(np.maximum(2.25 - r**2, 0)),
        ),
        (
            GeneralizedGaussianSpatialModel(r_0=SIZE, eta=0.3, **place),
            np.exp(-(r ** (1 / 0.3))),
        ),
        (GaussianSpatialModel(sigma=0.42 * SIZE, **place), np.exp(-0.5 * (r / 0.42) ** 2)),
    ]
    for model, brightness in models:
        emissions.append(source_emission(model, geom, degree=degree))
        images.append(brightness / brightness.sum())
    for k, (found, image) in enumerate(zip(folded(dataset, emissions), images, strict=True)):
        right = direct_table(image, rad, density)
        assert np.abs(found - right).max() < TOLERANCE * right.max(), k


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.3])
def test_no_jump_in_the_size(sigma):
    """Predictions are smooth functions of the size, from a point to pixels."""
    dataset = dataset_of(*gaussian(sigma))
    geom, degree = dataset.geom.to_image(), moment_degree(dataset, None)
    center = SkyCoord.from_pixel(7.31, 6.83, geom.wcs)
    place = {"lon_0": center.l.deg, "lat_0": center.b.deg, "frame": "galactic"}
    sizes = np.linspace(0.02, 1.2, 30)
    models = [GaussianSpatialModel(sigma=size * SIZE, **place) for size in sizes]
    models += [DiskSpatialModel(r_0=2 * size * SIZE, edge_width=0, **place) for size in sizes]
    regions = [CircleSkyRegion(center, 2 * size * SIZE * u.deg) for size in sizes]
    emissions = [source_emission(model, geom, degree=degree) for model in models]
    emissions += region_emissions(regions, geom, degree=degree)
    for found in np.split(folded(dataset, emissions), 3):
        # Third differences of a smooth curve are small; a jump of 2e-3 adds 6e-3.
        change = np.abs(np.diff(found, 3, axis=0)).max(axis=(1, 2))
        assert np.all(change < 4e-3 * found[1:-2].max(axis=(1, 2)))


def off_equator(lat, shape=(NPIX, NPIX)):
    """A cutout of a plate carrée map with pixels that are not square, far off its equator."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-CAR", "GLAT-CAR"]
    wcs.wcs.cdelt = [-1.5 * SIZE, SIZE]
    wcs.wcs.crval = [10, 0]
    wcs.wcs.crpix = [shape[1] / 2, shape[0] / 2 - lat / SIZE]
    return WcsGeom(wcs, shape)


def vectors(geom, x, y):
    lon, lat = np.deg2rad(geom.wcs.all_pix2world(x, y, 0))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


@pytest.mark.slow
def test_off_the_equator():
    """By true separations: from sub-pixels of the emission to 3 x 3 nodes in each pixel."""
    sigma = 0.8
    geom = off_equator(50.0)
    dataset = dataset_of(*gaussian(sigma), geom=geom)
    degree = moment_degree(dataset, None)
    center = SkyCoord.from_pixel(7.4, 6.7, geom.wcs)
    place = {"lon_0": center.l.deg, "lat_0": center.b.deg, "frame": "galactic"}
    models = [
        GaussianSpatialModel(sigma=0.5 * SIZE, **place),
        ShellSpatialModel(radius=SIZE, width=0.5 * SIZE, **place),
    ]
    emissions = [source_emission(model, geom, degree=degree) for model in models]
    annulus = CircleAnnulusSkyRegion(center, SIZE * u.deg, 1.8 * SIZE * u.deg)
    emissions += region_emissions(annulus, geom, degree=degree)
    x, y = (grid.ravel() for grid in np.meshgrid(*[sub_pixels(N_SUB)] * 2))
    middle = vectors(geom, 7.4, 6.7)
    start = vectors(geom, x, y)
    r = np.rad2deg(np.linalg.norm(start - middle, axis=1)) / SIZE
    brightness = [
        np.exp(-2 * r**2),
        np.sqrt(np.maximum(2.25 - r**2, 0)) - np.sqrt(np.maximum(1 - r**2, 0)),
        (r >= 1) & (r < 1.8),
    ]
    nodes, weights = np.polynomial.legendre.leggauss(3)
    nodes = (np.arange(NPIX)[:, None] + 0.5 * nodes).ravel()
    end = vectors(geom, *(grid.ravel() for grid in np.meshgrid(nodes, nodes)))
    weights = np.tile(0.5 * weights, NPIX)
    area = 1.5 * SIZE**2 * np.sqrt(1 - end[:, 2] ** 2) * np.outer(weights, weights).ravel()
    for found, share in zip(folded(dataset, emissions), brightness, strict=True):
        used = share > 1e-5 * share.max()
        weight = (share * np.sqrt(1 - start[:, 2] ** 2))[used]
        separation = np.rad2deg(np.sqrt(np.maximum(2 - 2 * end @ start[used].T, 0))) / SIZE
        density = np.exp(-0.5 * (separation / sigma) ** 2) / (2 * np.pi * (sigma * SIZE) ** 2)
        right = (density @ (weight / weight.sum()) * area).reshape(NPIX, 3, NPIX, 3).sum((1, 3))
        assert np.abs(found - right).max() < TOLERANCE * right.max()


@pytest.mark.parametrize(("lat", "turn"), [(0.0, 0.0), (55.0, 0.0), (-60.0, 35.0)])
def test_wide_psf_off_the_equator(lat, turn):
    """Half a degree wide: pixels change in it, by up to 3 %; templates would be off by 1 %."""
    sigma, (x, y) = 5.0, (7.3, 6.6)
    geom = off_equator(lat)
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    geom.wcs.wcs.pc = [[cos, sin / 1.5], [-1.5 * sin, cos]]
    geom.wcs.wcs.crpix = [1, 1]
    geom.wcs.wcs.set()
    geom.wcs.wcs.crpix = 8 + 1 - geom.wcs.wcs_world2pix([[13.0, lat]], 1)[0]
    geom.wcs.wcs.set()
    dataset = dataset_of(*gaussian(sigma), geom=geom)
    center = SkyCoord.from_pixel(x, y, geom.wcs)
    place = {"lon_0": center.l.deg, "lat_0": center.b.deg, "frame": "galactic"}
    annulus = CircleAnnulusSkyRegion(center, SIZE * u.deg, 2.5 * SIZE * u.deg)
    emissions = [
        source_emission(PointSpatialModel(**place), geom),
        *region_emissions(annulus, geom, degree=moment_degree(dataset, None)),
    ]
    fine = (np.arange(-8 * 12, (NPIX + 8) * 12) + 0.5) / 12 - 0.5
    start = vectors(geom, *(grid.ravel() for grid in np.meshgrid(fine, fine)))
    r = np.rad2deg(np.linalg.norm(start - vectors(geom, x, y), axis=1)) / SIZE
    start = start[(r >= 1) & (r < 2.5)]
    nodes, weights = np.polynomial.legendre.leggauss(2)
    nodes = (np.arange(NPIX)[:, None] + 0.5 * nodes).ravel()
    end = vectors(geom, *(grid.ravel() for grid in np.meshgrid(nodes, nodes)))
    area = 1.5 * SIZE**2 / 4 * np.sqrt(1 - end[:, 2] ** 2)
    found = folded(dataset, emissions)
    for image, source in zip(found, (vectors(geom, x, y)[None], start), strict=True):
        separation = np.rad2deg(np.sqrt(np.maximum(2 - 2 * end @ source.T, 0))) / SIZE
        density = np.exp(-0.5 * (separation / sigma) ** 2) / (2 * np.pi * (sigma * SIZE) ** 2)
        share = np.sqrt(1 - source[:, 2] ** 2)  # of the sub-pixels' solid angles
        right = (density @ (share / share.sum()) * area).reshape(NPIX, 2, NPIX, 2).sum((1, 3))
        assert np.abs(image - right).max() < TOLERANCE * right.max()


def map_around(projection, place, reference, size, rotation=0.0, npix=(NPIX, NPIX)):
    """A cutout around a place (lon, lat) far from the reference; sizes (x, y) [deg]."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"GLON-{projection}", f"GLAT-{projection}"]
    wcs.wcs.crval, wcs.wcs.cdelt = reference, size
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    ratio = size[1] / size[0]
    wcs.wcs.pc = [[cos, -sin * ratio], [sin / ratio, cos]]
    wcs.wcs.crpix = [1, 1]
    wcs.wcs.set()
    middle = (np.array(npix[::-1]) + 1) / 2
    wcs.wcs.crpix = middle + 1 - wcs.wcs_world2pix([place], 1)[0]
    wcs.wcs.set()
    return WcsGeom(wcs, npix)


def ring_on_sphere(center, inner, outer, n=(10, 32)):
    """Directions from which an even ring sends its photons, and their shares; radii in deg."""
    east = np.cross([0, 0, 1.0], center)
    east /= np.linalg.norm(east)
    north = np.cross(center, east)
    nodes, weights = np.polynomial.legendre.leggauss(n[0])
    r = np.deg2rad(inner + (outer - inner) * (nodes + 1) / 2)
    angle = 2 * np.pi * np.arange(n[1])[:, None, None] / n[1]
    side = np.cos(angle) * east + np.sin(angle) * north
    points = np.cos(r)[:, None] * center + np.sin(r)[:, None] * side
    share = np.tile(weights * np.sin(r), n[1])
    return points.reshape(-1, 3), share / share.sum()


STEEP_MAPS = {
    "CAR -69": ("CAR", (13, -69), (10, 0), (-0.1, 0.02), 0.0, (41, 15), 0.2),
    "CAR 80": ("CAR", (13, 80), (10, 0), (-0.2, 0.1), 0.0, (15, 27), 0.3),
    "CAR 60, wide": ("CAR", (13, 60), (10, 0), (-1.0, 0.5), 0.0, (15, 15), 2.5),
    "TAN": ("TAN", (10, 60), (10, 0), (0.1, 0.1), 0.0, (15, 15), 0.4),
    "ZEA": ("ZEA", (10, -30), (10, 90), (-0.2, 0.2), 40.0, (15, 15), 0.6),
    "SIN": ("SIN", (70, 10), (10, 0), (-0.1, 0.1), 0.0, (15, 15), 0.3),
    "AIT": ("AIT", (150, 60), (0, 0), (0.2, 0.2), 0.0, (15, 15), 0.6),
    "MOL": ("MOL", (150, 50), (0, 0), (-0.2, 0.2), 20.0, (15, 15), 0.5),
}


@pytest.mark.parametrize(
    "case",
    [case if case == "TAN" else pytest.param(case, marks=pytest.mark.slow) for case in STEEP_MAPS],
)
def test_far_from_the_reference_of_a_projection(case):
    """A ring as wide as the PSF; without regard to signs in the first order it was 1 % off."""
    projection, place, reference, size, rotation, npix, sigma = STEEP_MAPS[case]
    geom = map_around(projection, place, reference, size, rotation, npix)
    rad, density = gaussian(sigma / SIZE)
    dataset = dataset_of(rad, density, geom=geom)
    x, y = npix[1] / 2 - 0.2, npix[0] / 2 - 0.7
    center = SkyCoord.from_pixel(x, y, geom.wcs)
    annulus = CircleAnnulusSkyRegion(center, sigma * u.deg, 1.6 * sigma * u.deg)
    emissions = region_emissions(annulus, geom, degree=moment_degree(dataset, None))
    emissions.append(
        source_emission(
            PointSpatialModel(lon_0=center.l.deg, lat_0=center.b.deg, frame="galactic"), geom
        )
    )
    nodes, weights = np.polynomial.legendre.leggauss(2)
    columns, rows = ((np.arange(n)[:, None] + 0.5 * nodes).ravel() for n in npix[::-1])
    x_end, y_end = (grid.ravel() for grid in np.meshgrid(columns, rows))
    end, step = vectors(geom, x_end, y_end), 1e-3
    along, up = (
        vectors(geom, x_end + dx, y_end + dy) - vectors(geom, x_end - dx, y_end - dy)
        for dx, dy in ((step, 0), (0, step))
    )
    area = np.linalg.norm(np.cross(along, up), axis=1) / (2 * step) ** 2 / PER_DEG2 / 4
    middle = vectors(geom, x, y)
    sources = [ring_on_sphere(middle, sigma, 1.6 * sigma), (middle[None], np.ones(1))]
    for found, (start, share) in zip(folded(dataset, emissions), sources, strict=True):
        separation = np.rad2deg(np.sqrt(np.maximum(2 - 2 * end @ start.T, 0)))
        right = np.exp(-0.5 * (separation / sigma) ** 2) / (2 * np.pi * sigma**2) @ share * area
        right = right.reshape(npix[0], 2, npix[1], 2).sum((1, 3))
        assert np.abs(found - right).max() < TOLERANCE * right.max()


def test_warning_next_to_a_pole():
    """Bins 0.5 deg from the pole of a plate carrée map, and 5 deg from it."""
    geom = map_around("CAR", (13, 89.5), (10, 0), (-2.0, 0.1), npix=(13, 15))
    far = map_around("CAR", (13, 85), (10, 0), (-0.5, 0.1), npix=(13, 15))
    for own, expected in ((far, None), (geom, "regions 0, 1 of 2.*PSF of dataset 'templ")):
        dataset = dataset_of(*gaussian(1.0), geom=own)
        center = SkyCoord.from_pixel(7, 6, own.wcs)
        regions = [CircleSkyRegion(center, SIZE * u.deg)]
        regions.append(CircleAnnulusSkyRegion(center, SIZE * u.deg, 2 * SIZE * u.deg))
        estimator = ForwardFoldingProfileEstimator(regions, energy_edges=[1, 10] * u.TeV)
        with pytest.warns(UserWarning, match=expected) if expected else nullcontext():
            estimator.response([dataset])


def test_template_within_a_region():
    """A brightness that changes within the pixels that the region cuts."""
    sigma, position = 0.5, (7.2, 6.9)
    dataset = dataset_of(*gaussian(sigma))
    geom, degree = dataset.geom.to_image(), moment_degree(dataset, None)
    center = SkyCoord.from_pixel(*position, geom.wcs)
    template = GaussianSpatialModel(
        lon_0=center.l.deg - SIZE, lat_0=center.b.deg, sigma=2 * SIZE, frame="galactic"
    )
    regions = [
        CircleSkyRegion(center, 1.3 * SIZE * u.deg),
        CircleAnnulusSkyRegion(center, 2 * SIZE * u.deg, 2.8 * SIZE * u.deg),
    ]
    emissions = region_emissions(regions, geom, template=template, degree=degree)
    fine = sub_pixels(N_SUB)
    # Longitude grows to the left.
    dx, dy = fine - position[0] - 1, fine[:, None] - position[1]
    brightness = np.exp(-0.125 * (dx**2 + dy**2))
    for found, inside in zip(folded(dataset, emissions), (ring(0, 1.3), ring(2, 2.8)), strict=True):
        image = sub_image(inside, *position) * brightness
        right = direct_gaussian(image / image.sum(), sigma)
        assert np.abs(found - right).max() < TOLERANCE * right.max()


def test_moments_of_a_polygon():
    corners = np.array([(0.2, 0.3), (3.4, 0.6), (3.0, 3.7), (0.7, 2.2)])
    found = polygon_moments(corners, (5, 5), 5)
    fine = (np.arange(5 * 200) + 0.5) / 200
    x, y = np.meshgrid(fine, fine)
    inside = np.ones(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
    basis = point_moments(x % 1 - 0.5, y % 1 - 0.5, 5) * inside
    expected = basis.reshape(-1, 5, 200, 5, 200).mean(axis=(2, 4))
    assert_allclose(found, expected, atol=2e-4)
    assert_allclose(polygon_moments(corners[::-1], (5, 5), 5), found, atol=1e-14)
    # A triangle and the rest make up the polygon, to rounding.
    parts = [polygon_moments(corners[list(own)], (5, 5), 5) for own in ((0, 1, 2), (0, 2, 3))]
    assert_allclose(sum(parts), found, atol=1e-14)


def test_moments_of_a_gaussian_source():
    """The shares of a pixel and the mean position in it, by numerical integration."""
    geom = dataset_of(*gaussian(1.0)).geom.to_image()
    x, y = 7.3, 6.8
    center = SkyCoord.from_pixel(x, y, geom.wcs)
    model = GaussianSpatialModel(
        lon_0=center.l.deg, lat_0=center.b.deg, sigma=0.4 * SIZE, frame="galactic"
    )
    emission = source_emission(model, geom, degree=4)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    at = (np.arange(NPIX)[:, None] + 0.5 * nodes).ravel()
    across, up = (np.exp(-0.5 * ((at - c) / 0.4) ** 2) for c in (x, y))
    image = np.outer(up * np.tile(weights, NPIX), across * np.tile(weights, NPIX))
    offset = np.tile(0.5 * nodes, NPIX)
    basis = point_moments(*np.meshgrid(offset, offset), 4) * image / image.sum()
    expected = basis.reshape(-1, NPIX, 30, NPIX, 30).sum(axis=(2, 4))
    h, w = emission.weights.shape
    full = np.zeros((15, 40, 40))
    full[:, emission.y0 + 10 : emission.y0 + 10 + h, emission.x0 + 10 : emission.x0 + 10 + w] = (
        emission.moments
    )
    assert_allclose(full[:, 10 : 10 + NPIX, 10 : 10 + NPIX], expected, atol=2e-4)


def test_degree_grows_as_the_psf_narrows_and_even_emission_needs_none():
    degrees = [moment_degree(dataset_of(*gaussian(s)), None) for s in (1e-4, 12.0, 3.0, 1.0, 0.3)]
    assert degrees == sorted(degrees) and degrees[0] == 0 and degrees[-1] >= 6
    assert [moment_degree(dataset_of(*gaussian(1.0)), n) for n in (1, 4)] == [0, 3]
    geom = dataset_of(*gaussian(1.0)).geom.to_image()
    kernels = np.zeros((15, 3, 3))
    kernels[:, 1, 1] = 1.0
    whole = RectanglePixelRegion(PixCoord(7, 7), 5, 3).to_sky(geom.wcs)
    part = CirclePixelRegion(PixCoord(7.3, 7), 2.2).to_sky(geom.wcs)
    even, uneven = region_emissions([whole, part], geom, degree=4)
    assert sufficient_degree(even, kernels) == 0
    assert sufficient_degree(uneven, kernels) == 4
