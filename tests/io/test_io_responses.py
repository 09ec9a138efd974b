"""Axes of files in any order, and responses as gammapy 0.10 to 0.18 wrote them."""

import re

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from forward_factory import dataset_of, estimator, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import ndtr

import jaxprof
from jaxprof import EDispKernelMap, FluxProfileEstimator, MapAxis, MapDataset, PSFMap, WcsGeom
from jaxprof.io.fitsmaps import map_to_hdus
from jaxprof.io.nodes import at_energies
from jaxprof.irf.kernel import psf_from_kernel
from jaxprof.sky import WcsNDMap

RECO = MapAxis.from_energy_bounds(1, 10, 4, unit="TeV")
TRUE = MapAxis.from_energy_bounds(0.5, 20, 3, unit="TeV", name="energy_true")
GEOM = WcsGeom.create(binsz=0.1, width=1.0, frame="galactic", axes=[RECO])
SKY = WcsGeom.create(binsz=0.5, width=1.0, frame="galactic")
RAD = MapAxis.from_nodes([0, 0.1, 0.3], name="rad", unit="deg")


def random(*shape):
    return np.random.default_rng(sum(shape)).uniform(0.1, 0.3, shape)


@pytest.fixture(params=["on sky", "no sky"])
def hdus(tmp_path, request):
    """HDUs of a dataset whose values all differ, and the dataset."""
    sky, geom = ((2, 2), SKY) if request.param == "on sky" else ((), None)
    dataset = MapDataset(
        counts=WcsNDMap(GEOM, random(*GEOM.data_shape)),
        background=WcsNDMap(GEOM, random(*GEOM.data_shape)),
        exposure=WcsNDMap(GEOM.to_cube([TRUE]), random(3, 10, 10), "m2 s"),
        edisp=EDispKernelMap(random(3, 4, *sky), RECO, TRUE, geom),
        psf=PSFMap(random(3, 3, *sky), RAD, TRUE, geom),
        mask_safe=WcsNDMap(GEOM, random(*GEOM.data_shape) > 0.2),
        name="axes",
    )
    path = tmp_path / "axes.fits"
    dataset.write(path)
    with fits.open(path) as file:
        return [hdu.copy() for hdu in file], dataset


def written(tmp_path, hdus):
    path = tmp_path / "changed.fits"
    for hdu in hdus:
        # Sums of the contents are no longer right.
        for key in ("CHECKSUM", "DATASUM"):
            hdu.header.remove(key, ignore_missing=True)
    fits.HDUList(hdus).writeto(path)
    return path


def by_name(hdus, name):
    return next(hdu for hdu in hdus if hdu.name == name)


def permute(hdus, name, orders):
    """Another order of the bins of each axis, in the data and in BANDS."""
    hdu, bands = by_name(hdus, name), by_name(hdus, f"{name}_BANDS")
    shape = tuple(len(order) for order in reversed(orders))
    table = isinstance(hdu, fits.BinTableHDU)
    data = np.array(hdu.data["DATA"] if table else hdu.data)
    values = data.reshape(*shape, -1)[np.ix_(*reversed(orders))]
    if table:
        hdu.data["DATA"] = values.ravel()
    else:
        hdu.data = values.reshape(data.shape)
    rows = np.arange(np.prod(shape)).reshape(shape)[np.ix_(*reversed(orders))].ravel()
    for column in bands.columns.names:
        if column != "CHANNEL":
            bands.data[column] = np.array(bands.data[column])[rows]


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]])
def test_bins_in_another_order_are_sorted_with_their_data(hdus, tmp_path, order):
    hdus, dataset = hdus
    for name in ("COUNTS", "BACKGROUND", "MASK_SAFE"):
        permute(hdus, name, [order])
    permute(hdus, "EXPOSURE", [[2, 1, 0]])
    permute(hdus, "EDISP", [order, [1, 2, 0]])
    permute(hdus, "PSF", [[2, 1, 0], [2, 0, 1]])
    found = MapDataset.read(written(tmp_path, hdus))
    for part in ("counts", "background", "mask_safe", "exposure", "edisp", "psf"):
        new, old = getattr(found, part), getattr(dataset, part)
        assert_array_equal(new.data, old.data)
    assert found.energy_axis.is_allclose(RECO) and found.psf.rad_axis.is_allclose(RAD)


def test_rows_of_bands_are_those_of_their_channel(hdus, tmp_path):
    hdus, dataset = hdus
    bands = by_name(hdus, "EDISP_BANDS")
    bands.data = bands.data[np.random.default_rng(0).permutation(12)]
    assert_array_equal(MapDataset.read(written(tmp_path, hdus)).edisp.data, dataset.edisp.data)


@pytest.mark.parametrize("name", ["COUNTS", "EDISP"])
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_gaps_and_overlaps_are_refused(hdus, tmp_path, name, factor):
    hdus, _ = hdus
    bands = by_name(hdus, f"{name}_BANDS")
    upper = np.array(bands.data["E_MAX"])
    bands.data["E_MAX"] = np.where(np.isclose(upper, RECO.edges.value[2]), factor * upper, upper)
    match = rf"changed.fits: .*HDU {name}_BANDS.* bins must follow one another.* begins at 3.16228"
    with pytest.raises(ValueError, match=match):
        MapDataset.read(written(tmp_path, hdus))


def test_rows_that_leave_bins_out_are_refused(hdus, tmp_path):
    hdus, _ = hdus
    bands = by_name(hdus, "EDISP_BANDS")
    for column in ("ENERGY", "E_MIN", "E_MAX"):
        bands.data[column][5] = bands.data[column][4]
    with pytest.raises(ValueError, match="HDU EDISP_BANDS.* list all bins in turn"):
        MapDataset.read(written(tmp_path, hdus))


# --- EDISP_MATRIX


def matrix_hdus(kernel, *, lowest=0, unit="TeV", reco=RECO, true=TRUE):
    """HDUs of a matrix: groups of channels that are not zero, as the OGIP wants them."""
    first, number, values = [], [], []
    for row in kernel:
        positive = np.flatnonzero(row)
        groups = np.split(positive, np.flatnonzero(np.diff(positive) != 1) + 1)
        groups = [group for group in groups if len(group)]
        first.append(np.array([group[0] + lowest for group in groups], np.int16))
        number.append(np.array([len(group) for group in groups], np.int16))
        values.append(row[positive].astype(np.float32))
    n_groups = [len(own) for own in first]

    def column(name, kind, rows):
        array = np.empty(len(rows), object)
        array[:] = rows
        return fits.Column(name, f"P{kind}()", array=array)

    edges = true.edges.to_value(unit)
    matrix = fits.BinTableHDU.from_columns(
        [
            fits.Column("ENERG_LO", "E", unit=unit, array=edges[:-1]),
            fits.Column("ENERG_HI", "E", unit=unit, array=edges[1:]),
            fits.Column("N_GRP", "I", array=n_groups),
            column("F_CHAN", "I", first),
            column("N_CHAN", "I", number),
            column("MATRIX", "E", values),
        ],
        name="EDISP_MATRIX",
    )
    matrix.header["TLMIN4"] = lowest
    matrix.header["DETCHANS"] = kernel.shape[1]
    edges = reco.edges.to_value(unit)
    bounds = fits.BinTableHDU.from_columns(
        [
            fits.Column("CHANNEL", "I", array=np.arange(len(edges) - 1) + lowest),
            fits.Column("E_MIN", "D", unit=unit, array=edges[:-1]),
            fits.Column("E_MAX", "D", unit=unit, array=edges[1:]),
        ],
        name="EDISP_MATRIX_EBOUNDS",
    )
    return [matrix, bounds]


def old_file(tmp_path, hdus, *, background=1.0):
    """Counts and exposure with responses of an old kind."""
    path = tmp_path / "old.fits"
    maps = {
        "COUNTS": WcsNDMap(GEOM, 3.0),
        "BACKGROUND": WcsNDMap(GEOM, background),
        "EXPOSURE": WcsNDMap(GEOM.to_cube([TRUE.rename("energy")]), 1e9, "m2 s"),
    }
    found = [fits.PrimaryHDU(), *(h for name, m in maps.items() for h in map_to_hdus(m, name))]
    fits.HDUList([*found, *hdus]).writeto(path, overwrite=True)
    return path


KERNEL = np.array([[0.4, 0.0, 0.3, 0.1], [0.0, 0.0, 0.0, 0.0], [0.0, 0.25, 0.5, 0.0]])


@pytest.mark.parametrize("lowest", [0, 1])
@pytest.mark.parametrize("unit", ["TeV", "keV"])
def test_matrices_are_read(tmp_path, lowest, unit):
    dataset = MapDataset.read(old_file(tmp_path, matrix_hdus(KERNEL, lowest=lowest, unit=unit)))
    assert isinstance(dataset.edisp, EDispKernelMap)
    assert_allclose(dataset.edisp.get_kernel(None, RECO), KERNEL, rtol=1e-7)
    assert dataset.edisp.energy_axis_true.is_allclose(TRUE)


def test_norms_scale_with_the_efficiency_of_a_matrix(tmp_path):
    regions = jaxprof.make_concentric_annulus_sky_regions(
        center=SkyCoord(0, 0, unit="deg", frame="galactic"), radius_max="0.45 deg", nbin=3
    )
    kernel = np.eye(4)[[0, 1, 3]]

    def norms(matrix):
        dataset = MapDataset.read(old_file(tmp_path, matrix_hdus(matrix)))
        return FluxProfileEstimator(regions, energy_edges=[1, 10] * u.TeV).run(dataset).norm

    assert_allclose(norms(0.4 * kernel), 2.5 * norms(kernel), rtol=1e-6)


def test_energies_of_a_matrix_may_descend(tmp_path):
    matrix, bounds = matrix_hdus(KERNEL[::-1, ::-1])
    for hdu, columns in ((matrix, ("ENERG_LO", "ENERG_HI")), (bounds, ("E_MIN", "E_MAX"))):
        for column in columns:
            hdu.data[column] = np.array(hdu.data[column])[::-1]
    dataset = MapDataset.read(old_file(tmp_path, [matrix, bounds]))
    assert_allclose(dataset.edisp.get_kernel(None, RECO), KERNEL, rtol=1e-7)


def test_a_newer_response_comes_first(tmp_path):
    new = tmp_path / "new.fits"
    other = EDispKernelMap(0.2 + 0 * KERNEL, RECO, TRUE)
    MapDataset(counts=WcsNDMap(GEOM, 3.0), edisp=other).write(new)
    with fits.open(new) as file:
        found = [hdu.copy() for hdu in file if hdu.name in ("EDISP", "EDISP_BANDS")]
    dataset = MapDataset.read(old_file(tmp_path, [*matrix_hdus(KERNEL), *found]))
    assert_allclose(dataset.edisp.data, 0.2)


def no_bounds(matrix, bounds):
    return [matrix]


def no_column(matrix, bounds):
    return [fits.BinTableHDU(bounds.data, name="EDISP_MATRIX"), bounds]


def other_channels(matrix, bounds):
    matrix.header["TLMIN4"] = 2
    return [matrix, bounds]


def fewer_channels(matrix, bounds):
    return [matrix, fits.BinTableHDU(bounds.data[:2], name="EDISP_MATRIX_EBOUNDS")]


def gap(matrix, bounds):
    bounds.data["E_MAX"][1] *= 0.9
    return [matrix, bounds]


def gap_true(matrix, bounds):
    matrix.data["ENERG_HI"][1] *= 1.1
    return [matrix, bounds]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (no_bounds, "HDU EDISP_MATRIX needs the energies of an HDU EDISP_MATRIX_EBOUNDS"),
        (no_column, "HDU EDISP_MATRIX has no column ENERG_LO and no ENERG_HI"),
        (other_channels, "row 0 of HDU EDISP_MATRIX has 1 values from channel -2"),
        (fewer_channels, "HDU EDISP_MATRIX has .* but there are 2 channels"),
        (gap, "E_MIN,E_MAX of HDU EDISP_MATRIX_EBOUNDS: bins must follow one another"),
        (gap_true, "ENERG_LO,ENERG_HI of HDU EDISP_MATRIX: bins must follow one another"),
    ],
)
def test_matrices_that_make_no_sense(tmp_path, change, match):
    with pytest.raises(ValueError, match=f"old.fits: .*{match}"):
        MapDataset.read(old_file(tmp_path, change(*matrix_hdus(KERNEL))))


# --- PSF_KERNEL


def gaussian_kernel(sigma, binsz, n, elongation=1.0):
    """Exact integrals over the pixels of a Gaussian in the middle, scaled to one."""
    edges = (np.arange(n + 1) - n / 2) * binsz
    image = np.outer(np.diff(ndtr(edges / sigma / elongation)), np.diff(ndtr(edges / sigma)))
    return image / image.sum()


@pytest.mark.parametrize("sigma", [0.003, 0.02, 0.05, 0.12])
def test_the_density_of_a_gaussian_kernel(sigma):
    geom = WcsGeom.create(binsz=0.05, npix=25, frame="galactic")
    kernel = np.stack([gaussian_kernel(sigma, 0.05, 25)] * 3)
    psf, misfit = psf_from_kernel(kernel, geom, TRUE)
    assert misfit.max() < 2e-3
    radius = np.array([1.0, 2.0, 3.0]) * sigma
    if sigma < 0.01:
        # A Gaussian of a seventeenth of a pixel is as good as a point.
        assert psf.containment(1, 0.012) > 0.999
    else:
        inside = 1 - np.exp(-0.5 * (radius / sigma) ** 2)
        assert_allclose(psf.containment(1, radius), inside, atol=4e-3)
    assert_allclose(psf.containment(1, 1.0), 1, rtol=1e-9)


def test_a_king_profile_comes_back():
    """Integrals over pixels by 20 x 20 points; containment in closed form."""
    sigma, gamma, binsz, n = 0.04, 2.2, 0.03, 61
    fine = ((np.arange(20 * n) + 0.5) / 20 - n / 2) * binsz
    density = (1 + (fine[:, None] ** 2 + fine**2) / (2 * gamma * sigma**2)) ** -gamma
    kernel = density.reshape(n, 20, n, 20).mean(axis=(1, 3))
    geom = WcsGeom.create(binsz=binsz, npix=n, frame="galactic")
    psf, misfit = psf_from_kernel(np.stack([kernel] * 3), geom, TRUE)
    assert misfit.max() < 1e-3
    radius = np.array([0.02, 0.04, 0.1, 0.3])
    inside = 1 - (1 + radius**2 / (2 * gamma * sigma**2)) ** (1 - gamma)
    # Within the kernel's corner, and scaled as the part that its square holds.
    assert_allclose(psf.containment(0, radius) / inside, 1.0, atol=0.01)


@pytest.mark.parametrize(
    ("kind", "binsz", "n"),
    [("king", 0.02, 51), ("two", 0.02, 51), ("exponential", 0.02, 51), ("king", 0.1, 15)],
)
def test_round_densities_come_back(kind, binsz, n):
    """The density itself, scaled to one within the corner; integrals over pixels by 20 x 20 points.

    The first of these once took too many steps.
    """

    def density(r):
        if kind == "king":
            return (1 + r**2 / (4 * 0.08**2)) ** -2.0
        if kind == "two":
            return np.exp(-0.5 * (r / 0.05) ** 2) + 0.02 * np.exp(-0.5 * (r / 0.25) ** 2)
        return np.exp(-r / 0.1)

    fine = ((np.arange(20 * n) + 0.5) / 20 - n / 2) * binsz
    kernel = density(np.hypot(fine[:, None], fine)).reshape(n, 20, n, 20).mean(axis=(1, 3))
    geom = WcsGeom.create((10, 5), binsz=binsz, npix=n, proj="TAN")
    psf, misfit = psf_from_kernel(np.stack([kernel] * 3), geom, TRUE)
    assert misfit.max() < 1e-3
    radius = np.array([0.02, 0.05, 0.1, 0.2, 0.4])

    def inside(r):
        return quad(lambda x: 2 * np.pi * np.deg2rad(x) * density(x) * np.deg2rad(1), 0, r)[0]

    total = inside(np.hypot(n, n) / 2 * binsz)
    expected = np.array([inside(r) for r in radius]) / total
    assert_allclose(psf.containment(0, radius), expected, atol=1.5e-3)
    found = np.interp(radius, psf.rad_axis.center.to_value("deg"), psf.get_profile()[0])
    assert_allclose(found, density(radius) / total, atol=2e-3 * density(0.0) / total)


def test_a_kernel_is_round_on_the_sky():
    """Plate carree at a latitude of 60 deg: pixels are half as wide as high."""
    center = SkyCoord(30, 60, unit="deg", frame="galactic")
    geom = WcsGeom.create(center, binsz=(0.1, 0.05), npix=41, frame="galactic", proj="CAR")
    wide = WcsGeom.create(center, binsz=(0.05, 0.05), npix=41, frame="galactic", proj="TAN")
    for own in (geom, wide):
        # Both have pixels of 0.05 deg by 0.05 deg on the sky, the first up to some 1e-3.
        if own is geom:
            wcs = own.wcs.deepcopy()
            wcs.wcs.crval, wcs.wcs.crpix = [30, 0], [21, 21 - 60 / 0.05]
            wcs.wcs.set()
            own = WcsGeom(wcs, (41, 41))
        psf, misfit = psf_from_kernel(np.stack([gaussian_kernel(0.1, 0.05, 41)] * 3), own, TRUE)
        assert misfit.max() < 5e-3
        assert_allclose(psf.containment(0, 0.1), 1 - np.exp(-0.5), atol=5e-3)


def kernel_hdus(kernel, binsz=0.1, axis=TRUE):
    n = np.shape(kernel)[-2:]
    geom = WcsGeom.create(binsz=binsz, npix=n[::-1], frame="galactic", axes=[axis] if axis else [])
    return map_to_hdus(WcsNDMap(geom, kernel), "PSF_KERNEL")


@pytest.mark.slow
def test_kernels_fold_as_the_psf_that_they_are_of(tmp_path):
    image = sky_image(lambda x, y: np.exp(-0.5 * (x**2 + y**2) / 0.3**2), 0.1)
    dataset = dataset_of(image, 0.1, sigma=0.12, blur=True, n_photons=1e5)
    expected = estimator(rings(3, 0.3)).run(dataset)
    axis = dataset.energy_axis_true.rename("energy")
    dataset.psf = None
    path = tmp_path / "modern.fits"
    dataset.write(path)
    with fits.open(path) as file:
        hdus = [hdu.copy() for hdu in file]
    kernel = np.stack([gaussian_kernel(0.12, 0.1, 11)] * 3)
    found = MapDataset.read(written(tmp_path, [*hdus, *kernel_hdus(kernel, axis=axis)]))
    assert isinstance(found.psf, PSFMap) and found.psf.energy_axis_true.name == "energy_true"
    assert_allclose(estimator(rings(3, 0.3)).run(found).norm, expected.norm, rtol=3e-3)
    # It is written as today's files have it.
    again = tmp_path / "again.fits"
    found.write(again)
    assert_allclose(MapDataset.read(again).psf.data, found.psf.data, rtol=1e-12)


def test_a_kernel_of_one_energy_serves_all(tmp_path):
    one = gaussian_kernel(0.15, 0.1, 11)
    for kernel, axis in ((one, None), (one[np.newaxis], TRUE.squash())):
        found = MapDataset.read(old_file(tmp_path, kernel_hdus(kernel, axis=axis)))
        assert found.psf.energy_axis_true.is_allclose(TRUE)
        assert_allclose(found.psf.containment(2, 0.15), 1 - np.exp(-0.5), atol=0.01)


@pytest.mark.parametrize("what", ["elongated", "ring"])
def test_a_kernel_that_is_not_round_is_said_to_be(tmp_path, what):
    kernel = np.stack([gaussian_kernel(0.15, 0.1, 11)] * 3)
    if what == "elongated":
        kernel[1] = gaussian_kernel(0.15, 0.1, 11, elongation=1.3)
    else:
        kernel[1, 5, 5] = 0.0
    path = old_file(tmp_path, kernel_hdus(kernel))
    with pytest.warns(UserWarning, match="PSF_KERNEL is taken for a round .*3.162 TeV") as caught:
        psf = MapDataset.read(path).psf
    assert caught[0].filename == __file__
    # By how much, against integrals of what was read over pixels, by 40 x 40 points.
    fine = ((np.arange(440) + 0.5) / 40 - 5.5) * 0.1
    radius = psf.rad_axis.center.to_value("deg")
    density = np.interp(np.hypot(fine[:, None], fine), radius, psf.get_profile()[1])
    image = density.reshape(11, 40, 11, 40).mean(axis=(1, 3))
    one = kernel[1] / kernel[1].sum()
    off = np.abs(image / image.sum() - one).max() / one.max()
    said = float(re.search(r"up to ([\d.]+) %", str(caught[0].message))[1]) / 100
    assert_allclose(said, off, rtol=0.1)


@pytest.mark.parametrize("value", [np.nan, -0.1, 0.0])
def test_a_kernel_that_is_none_is_found_where_it_is_used(tmp_path, value):
    kernel = np.stack([gaussian_kernel(0.15, 0.1, 11)] * 3)
    kernel[1] = value
    matrix = np.eye(4)[[0, 1, 3]]
    dataset = MapDataset.read(old_file(tmp_path, kernel_hdus(kernel) + matrix_hdus(matrix)))
    own = estimator(rings(2, 0.2))
    with pytest.raises(ValueError, match="psf of dataset .* at 3.162 TeV"):
        own.response(dataset)
    # Cut at the edges of reconstructed energies, true bins lie next to the one that is none.
    dataset.edisp = None
    with pytest.raises(ValueError, match="psf of dataset .* at 1.744 TeV"):
        own.response(dataset)
    dataset.exposure.data[1] = 0.0
    own.response(dataset)


@pytest.mark.parametrize(
    ("kernel", "axis", "match"),
    [
        (np.ones((3, 4, 5)), TRUE, r"HDU PSF_KERNEL: the kernel has \(4, 5\) pixels"),
        (np.ones((3, 5, 5)), RAD, r"HDU PSF_KERNEL has the axes \['rad'\]"),
    ],
)
def test_kernels_that_make_no_sense(tmp_path, kernel, axis, match):
    with pytest.raises(ValueError, match=f"old.fits: .*{match}"):
        MapDataset.read(old_file(tmp_path, kernel_hdus(kernel, axis=axis)))


def test_a_file_of_an_old_version(cases_dir):
    """Its matrix is diagonal but for one element; its kernel was made of a Gaussian-like PSF."""
    dataset = MapDataset.read(cases_dir / "data" / "gammapy_0.1x_gc_example.fits")
    assert_allclose(dataset.edisp.data, np.diag([0.9999791, 1, 1]), rtol=1e-7)
    rad = dataset.psf.rad_axis.center.to_value("deg")
    image = jaxprof.irf.psf_kernel.psf_image(rad, dataset.psf.data, np.diag([-0.1, 0.1]), (0, 0), 2)
    # The middle row of each energy, as it stands in the file.
    middle = [
        [0.0071486337, 0.11493696, 0.30688432, 0.11493696, 0.0071486337],
        [6.1692967e-06, 0.062785298, 0.72707736, 0.062785298, 6.1692967e-06],
        [4.0966202e-06, 0.057759687, 0.75070512, 0.057759687, 4.0966202e-06],
    ]
    assert_allclose(np.asarray(image)[:, 2], middle, atol=1e-3)


def test_nodes_of_other_energies_are_refused():
    axis = MapAxis.from_energy_bounds("0.1 TeV", "1 TeV", nbin=3, name="energy_true")
    for nodes in ([2.0, 5.0], [0.001, 0.01]):
        with pytest.raises(ValueError, match=r"exposure is known from .* is it of other data\?"):
            at_energies(np.ones(2), np.array(nodes), axis, "exposure")
