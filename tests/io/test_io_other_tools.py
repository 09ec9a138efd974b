"""Files of Fermi tools, ctools and HEALPix: datasets, and what other files are."""

import itertools
import shutil
import sys

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleAnnulusSkyRegion, CircleSkyRegion
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    MapAxis,
    MapDataset,
    PointSpatialModel,
    PowerLawSpectralModel,
    PSFMap,
    SkyModel,
    WcsGeom,
    WcsNDMap,
    predicted_counts,
)
from jaxprof.io.kinds import read_file
from jaxprof.sky.healpix import HealpixMap

try:
    import astropy_healpix as healpix
except ImportError:
    healpix = None
needs_healpix = pytest.mark.skipif(healpix is None, reason="astropy-healpix is not installed")

EDGES = np.geomspace(1e3, 1e5, 5)  # MeV
RECO = MapAxis.from_edges(EDGES, name="energy", unit="MeV", interp="log")
TRUE = RECO.rename("energy_true")
CENTER = SkyCoord(30, -5, unit="deg", frame="galactic")
GEOM = WcsGeom.create(CENTER, binsz=0.5, npix=(9, 8), frame="galactic", axes=[RECO])
SPECTRUM = PowerLawSpectralModel(index=2.3, amplitude="1e-12 cm-2 s-1 TeV-1")


def table(name, **columns):
    """A table of columns: arrays, or arrays with units."""
    parts = []
    for key, value in columns.items():
        unit = str(value.unit) if isinstance(value, u.Quantity) else None
        value = np.asarray(getattr(value, "value", value))
        shape = value.shape[1:]
        form = f"{int(np.prod(shape)) if shape else 1}D"
        parts.append(fits.Column(key, form, unit=unit, array=value))
    return fits.BinTableHDU.from_columns(parts, name=name)


def ebounds():
    return table("EBOUNDS", E_MIN=EDGES[:-1] * 1e3 * u.keV, E_MAX=EDGES[1:] * 1e3 * u.keV)


def drm():
    """A file of gtdrm: two more true bins on either side, groups of channels counted from 1."""
    edges = np.geomspace(1e3 / 10**0.5, 1e5 * 10**0.5, 7)
    rng = np.random.default_rng(3)
    matrix = rng.uniform(0.1, 0.2, (6, 4)).astype(np.float32)
    columns = [
        fits.Column("ENERG_LO", "D", array=edges[:-1]),
        fits.Column("ENERG_HI", "D", array=edges[1:]),
        fits.Column("N_GRP", "I", array=np.ones(6)),
        fits.Column("F_CHAN", "PI()", array=np.array([[1]] * 6, dtype=object)),
        fits.Column("N_CHAN", "PI()", array=np.array([[4]] * 6, dtype=object)),
        fits.Column("MATRIX", "PE()", array=np.array([*matrix, None], dtype=object)[:-1]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="DRM")
    hdu.header["DETCHANS"] = 4
    return [fits.PrimaryHDU(), hdu], edges, matrix


@pytest.fixture
def fermi(tmp_path):
    """Files as the Fermi tools write them, in a folder as fermipy's."""
    rng = np.random.default_rng(1)
    header = GEOM.wcs.to_header()
    counts = rng.poisson(3, GEOM.data_shape)
    exposure = rng.uniform(1e11, 2e11, (7, 18, 36)).astype(np.float32)
    nodes = np.geomspace(500, 2e5, 7)
    sky = WcsGeom.create(binsz=10, frame="galactic").wcs.to_header()
    theta = np.linspace(0, 8, 81)
    width = 0.7 * (nodes / 1e3) ** -0.3
    psf = np.exp(-0.5 * (theta / width[:, None]) ** 2) / (
        2 * np.pi * np.deg2rad(width[:, None]) ** 2
    )
    files = {
        "ccube": [fits.PrimaryHDU(counts.astype(np.int32), header), ebounds()],
        "bexpmap": [fits.PrimaryHDU(exposure, sky), table("ENERGIES", Energy=nodes)],
        "psf": [
            fits.PrimaryHDU(),
            table("PSF", Energy=nodes, Exposure=np.ones(7), Psf=psf),
            table("THETA", Theta=theta),
        ],
        "drm": drm()[0],
    }
    for name, hdus in files.items():
        fits.HDUList(hdus).writeto(tmp_path / f"{name}_00.fits")
    return tmp_path, counts, exposure, nodes, psf


def test_fermi_files(fermi):
    folder, counts, exposure, nodes, psf = fermi
    dataset = MapDataset.from_fermipy(folder, name="fermi")
    assert_array_equal(dataset.counts.data, counts)
    assert dataset.name == "fermi"
    _, edges, matrix = drm()
    assert_allclose(dataset.energy_axis_true.edges.to_value("MeV"), edges)
    assert_array_equal(dataset.edisp.data, matrix)
    # Linear in longitude, latitude and the logarithm of the energy.
    true = np.sqrt(edges[1:] * edges[:-1])
    k = np.interp(np.log(true), np.log(nodes), np.arange(7))
    low, part = k.astype(int), (k % 1)[:, None, None]
    cube = exposure[low] * (1 - part) + exposure[low + 1] * part
    at = GEOM.get_coord()
    x = 17.5 - np.where(at.l.deg > 180, at.l.deg - 360, at.l.deg) / 10
    y = 8.5 + at.b.deg / 10
    i, j, s, t = x.astype(int), y.astype(int), x % 1, y % 1
    rows = cube[:, j, i] * (1 - s) + cube[:, j, i + 1] * s
    above = cube[:, j + 1, i] * (1 - s) + cube[:, j + 1, i + 1] * s
    assert_allclose(dataset.exposure.data, rows * (1 - t) + above * t, rtol=1e-6)
    assert_allclose(
        dataset.psf.data, psf[low] * (1 - part[..., 0]) + psf[low + 1] * part[..., 0], rtol=1e-12
    )
    assert dataset.exposure.unit == u.Unit("cm2 s")


def test_fermi_without_dispersion(fermi):
    folder, *_ = fermi
    dataset = MapDataset.from_fermi(folder / "ccube_00.fits", folder / "bexpmap_00.fits")
    assert dataset.energy_axis_true.is_allclose(TRUE)
    assert dataset.psf is None and dataset.edisp is None


@pytest.mark.slow
def test_isotropic_and_galactic(fermi, tmp_path):
    folder, *_ = fermi
    energies = np.geomspace(300, 3e5, 16)
    intensity = 1e-9 * (energies / 1e3) ** -2.4
    np.savetxt(tmp_path / "iso.txt", np.stack([energies, intensity], axis=1))
    sky = WcsGeom.create(CENTER, binsz=1.0, width=60, frame="galactic")
    image = np.broadcast_to(intensity[:, None, None], (16, *sky.npix_shape)).astype(np.float32)
    header = sky.wcs.to_header()
    header["BUNIT"] = "photon/cm2/s/MeV/sr"
    fits.HDUList([fits.PrimaryHDU(image, header), table("ENERGIES", Energy=energies)]).writeto(
        tmp_path / "gal.fits"
    )
    dataset = MapDataset.from_fermipy(folder, isotropic=tmp_path / "iso.txt")
    _, edges, matrix = drm()
    flux = [
        quad(lambda e: 1e-9 * (e / 1e3) ** -2.4, *pair)[0] for pair in itertools.pairwise(edges)
    ]
    right = np.einsum("te,t,tyx->eyx", matrix, flux, dataset.exposure.data)
    right *= GEOM.solid_angle().to_value("sr")
    assert_allclose(dataset.npred_sources.data, right, rtol=1e-6)
    # The same intensity as a cube; the exposure changes a little within the PSF.
    both = MapDataset.from_fermipy(folder, galactic=tmp_path / "gal.fits")
    assert_allclose(both.npred_sources.data[:, 3:5, 3:6], right[:, 3:5, 3:6], rtol=0.02)


def test_source_maps(fermi, tmp_path):
    folder, *_ = fermi
    # Counts per flux of a source: all its photons in one pixel, with an exposure of 1e11 cm2 s.
    image = np.zeros((5, 8, 9))
    image[:, 4, 4] = 1e11
    path = tmp_path / "srcmap.fits"
    main = fits.PrimaryHDU(np.zeros(GEOM.data_shape, np.int32), GEOM.wcs.to_header())
    source = fits.ImageHDU(image, GEOM.wcs.to_header(), name="4FGL J1")
    diffuse = fits.ImageHDU(
        image * 1e-3 * EDGES[:, None, None] ** -2, GEOM.wcs.to_header(), name="galdiff"
    )
    fits.HDUList([main, source, diffuse, ebounds()]).writeto(path)
    spectra = {"4FGL J1": SPECTRUM, "galdiff": 2.0}
    dataset = MapDataset.from_fermipy(folder, source_maps=path, spectra=spectra)
    tev = EDGES * 1e-6
    right = 1e11 * np.asarray(SPECTRUM.integral(tev[:-1], tev[1:]))
    right += 2 * 1e-3 * 1e11 * (1 / EDGES[:-1] - 1 / EDGES[1:])
    assert_allclose(dataset.npred_sources.data[:, 4, 4], right, rtol=1e-6)
    assert np.count_nonzero(dataset.npred_sources.data) == 4
    with pytest.raises(ValueError, match=r"srcmap.fits: there is no source 'X' in it"):
        MapDataset.from_fermipy(folder, source_maps=path, spectra={"X": SPECTRUM})
    # As many pixels and energies, but others.
    for change, message in (
        (lambda file: file["4FGL J1"].header.update(CRVAL1=31.0), "on other pixels than"),
        (lambda file: file["EBOUNDS"].data["E_MAX"].__imul__(2), "bins must follow one another"),
        (lambda file: [file["EBOUNDS"].data[key].__imul__(2) for key in ("E_MIN", "E_MAX")],
         "its energies are .*, those of the counts"),
    ):  # fmt: skip
        with fits.open(path) as file:
            change(file)
            file.writeto(tmp_path / "other.fits", overwrite=True)
        with pytest.raises(ValueError, match=f"other.fits: .*{message}"):
            MapDataset.from_fermipy(
                folder, source_maps=tmp_path / "other.fits", spectra={"4FGL J1": SPECTRUM}
            )
    with pytest.raises(ValueError, match="give both source_maps"):
        MapDataset.from_fermipy(folder, source_maps=path)


def test_what_is_wrong_with_fermi_files(fermi, tmp_path):
    folder, *_ = fermi
    ccube, psf = folder / "ccube_00.fits", folder / "psf_00.fits"
    with pytest.raises(ValueError, match=r"ccube_00.fits: it is no file of gtpsf .*counts cube"):
        MapDataset.from_fermi(ccube, psf=ccube)
    with pytest.raises(ValueError, match=r"psf_00.fits: it is no file of gtdrm .*gtpsf"):
        MapDataset.from_fermi(ccube, edisp=psf)
    with pytest.raises(ValueError, match=r"psf_00.fits: there is no map in it: .*gtpsf"):
        MapDataset.from_fermi(psf)
    with pytest.raises(FileNotFoundError, match=r"no ccube_03.fits; there are \['ccube_00.fits'\]"):
        MapDataset.from_fermipy(folder, 3)
    hdus, *_ = drm()
    hdus[1].header["DETCHANS"] = 5
    fits.HDUList(hdus).writeto(tmp_path / "five.fits")
    with pytest.raises(ValueError, match=r"five.fits: it has 5 channels, but the counts have 4"):
        MapDataset.from_fermi(ccube, edisp=tmp_path / "five.fits")
    hdus, *_ = drm()
    hdus[1].data["N_GRP"][2] = 2
    fits.HDUList(hdus).writeto(tmp_path / "groups.fits")
    with pytest.raises(ValueError, match=r"groups.fits: row 2 of HDU DRM has 2 groups, but 1"):
        MapDataset.from_fermi(ccube, edisp=tmp_path / "groups.fits")
    with pytest.raises(ValueError, match=r"ccube_00.fits: exposure holds whole numbers"):
        MapDataset.from_fermi(ccube, exposure=ccube)
    # A cube of ctools, whose weights would be ignored.
    with fits.open(ccube) as file:
        file.append(fits.ImageHDU(np.ones(GEOM.data_shape), name="WEIGHTS"))
        file.writeto(tmp_path / "weights.fits")
    with pytest.raises(ValueError, match=r"weights.fits: it is a counts cube of ctools"):
        MapDataset.from_fermi(tmp_path / "weights.fits")


def test_energies_of_a_psf(fermi, tmp_path):
    """Rows in another order are the same; those of one energy are none."""
    folder, *_ = fermi
    ccube = folder / "ccube_00.fits"
    right = MapDataset.from_fermi(ccube, psf=folder / "psf_00.fits").psf.data
    with fits.open(folder / "psf_00.fits") as file:
        rows = file["PSF"].data.copy()
        file["PSF"].data[:] = rows[::-1]
        file.writeto(tmp_path / "down.fits")
        file["PSF"].data["Energy"] = 1e3
        file.writeto(tmp_path / "one.fits")
        file["PSF"].data[:] = rows
        file["PSF"].data["Energy"] *= 10
        file.writeto(tmp_path / "high.fits")
    found = MapDataset.from_fermi(ccube, psf=tmp_path / "down.fits").psf.data
    assert_array_equal(found, right)
    with pytest.raises(ValueError, match="one.fits: the energies of psf must be positive and dif"):
        MapDataset.from_fermi(ccube, psf=tmp_path / "one.fits")
    with pytest.warns(UserWarning, match="psf is known from 0.005 TeV, and taken to be the same"):
        found = MapDataset.from_fermi(ccube, psf=tmp_path / "high.fits").psf.data
    assert_array_equal(found[0], rows["Psf"][0])


def data_file(cases_dir, name):
    path = cases_dir / "data" / name
    if not path.exists():
        pytest.skip(f"$JAXPROF_CASES has no data/{name}")
    return path


@pytest.mark.slow
def test_fermi_crab_profile(cases_dir, tmp_path):
    for name in ("ccube", "bexpmap", "psf", "drm"):
        shutil.copy(
            data_file(cases_dir, f"fermi_{name}_00.fits.gz"), tmp_path / f"{name}_00.fits.gz"
        )
    dataset = MapDataset.from_fermipy(tmp_path)
    # Values of gammapy 2.1, FermipyDatasetsReader.create_dataset with the same files.
    assert_allclose(
        dataset.exposure.data[:, 5, 5],
        [1.55369979e11, 1.36009995e11, 1.11802454e11, 8.00459634e10],
        rtol=1e-8,
    )
    assert_allclose(
        dataset.psf.data[:, :4],
        [
            [43859.30328279, 43600.78967263, 40053.09632418, 29820.01469818],
            [57805.47627489, 57408.49086298, 51971.94915807, 36434.26753904],
            [72116.78003812, 71605.99538018, 64566.38846048, 44018.77649127],
            [79851.62892711, 79309.03742513, 71790.4907992, 49321.71688677],
        ],
        rtol=1e-10,
    )
    assert_allclose(
        dataset.edisp.data[0], [0.896659851, 0.0204092339, 3.04728339e-4, 1.00321859e-5]
    )
    crab = SkyCoord(83.633, 22.014, unit="deg")
    regions = [
        CircleSkyRegion(crab, 0.4 * u.deg),
        CircleAnnulusSkyRegion(crab, 0.4 * u.deg, 0.9 * u.deg),
    ]
    dataset.background = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 0.01))
    profile = FluxProfileEstimator(regions, energy_edges=dataset.energy_axis.edges[[0, -1]]).run(
        dataset
    )
    members = [dataset.geom.region_mask(region).data for region in regions]
    counts = [dataset.counts.data[mask].sum() for mask in members]
    assert counts[0] > 5
    assert_array_equal(np.ravel(profile.counts), counts)
    # FluxProfileEstimator of gammapy 2.1 on its own reading; its minima end 3e-3 errors away.
    rings = [
        CircleAnnulusSkyRegion(crab, inner * u.deg, outer * u.deg)
        for inner, outer in ((0.001, 0.4), (0.4, 0.9))
    ]
    profile = FluxProfileEstimator(
        rings,
        spectral_model=PowerLawSpectralModel(index=2.1),
        energy_edges=dataset.energy_axis.edges[[0, -1]],
        selection_optional="ul",
        mask_policy="mean-exposure",
    ).run(dataset)
    errors = np.array([11.364479524767521, 5.00605198638972])
    right = np.array([34.47801602158201, 2.8148162541264696])
    assert_allclose((profile.norm[:, 0] - right) / errors, 0, atol=5e-3)
    assert_allclose(profile.norm_err[:, 0], errors, rtol=1.5e-3)
    assert_allclose(profile.norm_ul[:, 0], [62.284621360861806, 18.176748876564275], rtol=1e-8)


CTOOLS = ("cntcube", "expcube", "psfcube", "edispcube", "bkgcube")


def ctools_files(folder, weights):
    """Counts, exposure of 1e10 cm2 s and a Gaussian energy dispersion of 10 %, as of ctools."""
    pixels = WcsGeom.create((83, 22), binsz=0.1, npix=8).wcs.to_header()
    cells = WcsGeom.create((83, 22), binsz=0.4, npix=2).wcs.to_header()
    nodes = np.geomspace(5e4, 5e7, 25)
    migra = np.arange(0.01, 2, 0.02)
    density = norm.pdf(migra, 1, 0.1) / nodes[:, None]
    hdus = {
        "counts": [
            fits.PrimaryHDU(np.ones((4, 8, 8), np.float32), pixels),
            fits.ImageHDU(weights, pixels, name="WEIGHTS"),
            table("EBOUNDS", E_MIN=EDGES[:-1] / 1e4 * u.TeV, E_MAX=EDGES[1:] / 1e4 * u.TeV),
        ],
        "exposure": [
            fits.PrimaryHDU(np.full((25, 8, 8), 1e10), pixels),
            table("ENERGIES", Energy=nodes * u.MeV),
        ],
        "edisp": [
            fits.PrimaryHDU(np.tile(density[..., None, None], (2, 2)), cells),
            table("ENERGIES", Energy=nodes * u.MeV),
            table("MIGRAS", Value=migra),
        ],
    }
    for name, content in hdus.items():
        fits.HDUList(content).writeto(folder / f"{name}.fits")
    with pytest.warns(UserWarning, match="not all observations count .* outside of 1 to 10 TeV"):
        found = MapDataset.from_ctools(
            *(folder / f"{name}.fits" for name in ("counts", "exposure"))
        )
    with pytest.warns(UserWarning, match="not all observations count .* outside of 1 to 10 TeV"):
        both = MapDataset.from_ctools(
            folder / "counts.fits", folder / "exposure.fits", edisp=folder / "edisp.fits"
        )
    energy = both.energy_axis_true.center.to_value("TeV")
    cumulative = norm.cdf(EDGES / 1e4 / energy[:, None], 1, 0.1)
    return found, both, np.diff(cumulative, axis=1)


@pytest.mark.parametrize("within", [False, True])
def test_weights_of_ctools(tmp_path, within):
    """Photons are lost as the weights say, also where these change within a pixel of the edisp."""
    weights = np.ones((4, 8, 8))
    weights[:2] = np.array([0.4, 0.7])[:, None, None]
    if within:
        weights[:2, :, 6:] = np.array([0.2, 0.1])[:, None, None]
    alone, dataset, spread = ctools_files(tmp_path, weights)
    edisp = np.repeat(np.repeat(dataset.edisp.data, 4, axis=2), 4, axis=3)
    found = dataset.exposure.data[:, None] * edisp
    right = 1e10 * spread[..., None, None] * weights
    assert_allclose(found.sum(axis=1), right.sum(axis=1), rtol=3e-3, atol=1e6)
    if not within:
        assert_allclose(found, right, rtol=3e-3, atol=1e7)
    with fits.open(tmp_path / "counts.fits") as file:
        file["WEIGHTS"].data[0, 0, 0] = np.nan
        file.writeto(tmp_path / "nan.fits")
    with pytest.raises(ValueError, match="nan.fits: HDU WEIGHTS must have a number from 0 to 1"):
        MapDataset.from_ctools(tmp_path / "nan.fits")
    # Without dispersion photons have the weight of their own energy.
    energy = alone.energy_axis_true.center.to_value("TeV")
    bins = np.clip(np.searchsorted(EDGES / 1e4, energy) - 1, 0, 3)
    assert_allclose(alone.exposure.data, 1e10 * weights[bins], rtol=1e-12)


@pytest.mark.slow
def test_ctools_crab(cases_dir):
    files = [data_file(cases_dir, f"gammalib_stacked_{name}.fits.gz") for name in CTOOLS]
    with (
        pytest.warns(UserWarning, match="photons from beyond are missing in the outermost"),
        pytest.warns(UserWarning, match="outside of 0.3981 to 8.913 TeV are off"),
    ):
        dataset = MapDataset.from_ctools(*files)
    cubes = [fits.open(path) for path in files]
    counts, exposure, _, edisp, background = (cube[0].data.astype(float) for cube in cubes)
    weights = cubes[0]["WEIGHTS"].data
    assert_array_equal(dataset.counts.data, counts)
    assert_array_equal(dataset.mask_safe.data, weights > 0)
    # The rate in the middle of a bin, over the 3000 s of the three observations.
    bounds = cubes[0]["EBOUNDS"].data
    width = (bounds["E_MAX"] - bounds["E_MIN"]) / 1e3
    solid_angle = dataset.geom.solid_angle().to_value("sr")
    right = background * width[:, None, None] * solid_angle * 3000
    assert_allclose(dataset.background.data, right, rtol=1e-6)
    # Far from the source the counts are those of the background.
    away = dataset.geom.separation(SkyCoord(83.63, 22.01, unit="deg")).deg
    far = (away > 0.8) & (away < 1.2)
    n, b = counts[:, far].sum(), dataset.background.data[:, far].sum()
    assert abs(n - b) < 4 * np.sqrt(b) + 0.05 * b
    # All photons of the source, by quadrature over true energies between the nodes of the cubes.
    nodes = cubes[1]["ENERGIES"].data["Energy"] / 1e6
    migra = cubes[3]["MIGRAS"].data["Value"]
    at = exposure[:, 19:21, 19:21].mean(axis=(1, 2)), edisp[:, :, 5, 5] * (nodes * 1e6)[:, None]
    edges = np.append(bounds["E_MIN"], bounds["E_MAX"][-1]) / 1e9
    energy = np.geomspace(nodes[0], nodes[-1], 4001)
    spectrum = np.asarray(SPECTRUM(energy))
    place = np.interp(np.log(energy), np.log(nodes), np.arange(21))
    low = np.minimum(place.astype(int), 19)
    part = (place - low)[:, None]
    area = at[0][low] * (1 - part[:, 0]) + at[0][low + 1] * part[:, 0]
    density = at[1][low] * (1 - part) + at[1][low + 1] * part
    inside = np.concatenate([np.zeros((4001, 1)), np.cumsum(density, axis=1) * 0.02], axis=1)
    steps = np.append(migra - 0.01, 2.0)
    share = np.array(
        [np.interp(edges / e, steps, row) for e, row in zip(energy, inside, strict=True)]
    )
    right = np.trapezoid(spectrum[:, None] * area[:, None] * np.diff(share, axis=1), energy, axis=0)
    right *= weights[:, 50, 50]
    model = SkyModel(SPECTRUM, PointSpatialModel(lon_0=83.63, lat_0=22.01))
    found = predicted_counts(dataset, model).data.sum(axis=(1, 2))
    assert_allclose(found[4:18], right[4:18], rtol=0.03)
    # The spectrum that was simulated, where all observations count.
    truth = PowerLawSpectralModel(
        index=2.48, amplitude="5.7e-16 cm-2 s-1 MeV-1", reference="0.3 TeV"
    )
    crab = SkyCoord(83.6331, 22.0145, unit="deg")
    regions = [
        CircleSkyRegion(crab, 0.2 * u.deg),
        CircleAnnulusSkyRegion(crab, 0.2 * u.deg, 0.4 * u.deg),
    ]
    profile = FluxProfileEstimator(
        regions, spectral_model=truth, energy_edges=dataset.energy_axis.edges[[4, 13]]
    ).run(dataset)
    assert profile.norm_err[0, 0] < 0.025
    assert profile.norm[0, 0] == pytest.approx(1, abs=2.5 * profile.norm_err[0, 0])


def healpix_counts(nside, nest, inside, rng, frame="galactic"):
    """Pixels within 8 deg of a position, their coordinates and Poisson counts of two energies."""
    order = "nested" if nest else "ring"
    pixels = np.arange(12 * nside**2)
    lon, lat = healpix.healpix_to_lonlat(pixels, nside, order=order)
    coord = SkyCoord(lon, lat, frame=frame)
    if inside is not None:
        pixels = rng.permutation(pixels[coord.separation(inside).deg < 8])
    return pixels, coord[pixels], rng.poisson(5, (2, len(pixels)))


def healpix_file(path, nside, nest, pixels, values, frame="GAL", bounds=None):
    columns = [] if pixels is None else [fits.Column("PIX", "J", array=pixels)]
    columns += [fits.Column(f"CHANNEL{k + 1}", "D", array=row) for k, row in enumerate(values)]
    hdu = fits.BinTableHDU.from_columns(columns, name="SKYMAP")
    cards = {"PIXTYPE": "HEALPIX", "NSIDE": nside, "COORDSYS": frame, "FIRSTPIX": 0}
    cards |= {"ORDERING": "NESTED" if nest else "RING"}
    cards |= {"INDXSCHM": "IMPLICIT" if pixels is None else "EXPLICIT"}
    hdu.header.update(cards)
    tables = [] if bounds is None else [bounds]
    fits.HDUList([fits.PrimaryHDU(), hdu, *tables]).writeto(path)


TWO = [1.0, 10.0, 100.0]


@needs_healpix
@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize(
    "center",
    [
        CENTER,
        SkyCoord(177, 75, unit="deg", frame="galactic"),
        pytest.param(None, marks=pytest.mark.slow),
    ],
)
def test_healpix_counts_are_conserved(tmp_path, nest, center):
    nside = 32
    rng = np.random.default_rng(5)
    pixels, coord, counts = healpix_counts(nside, nest, center, rng)
    bounds = table("EBOUNDS", E_MIN=TWO[:2] * u.GeV, E_MAX=TWO[1:] * u.GeV)
    path = tmp_path / "hpx.fits"
    healpix_file(path, nside, nest, None if center is None else pixels, counts, bounds=bounds)

    dataset = MapDataset.from_fermi(path)
    assert_array_equal(dataset.counts.data.sum(axis=(1, 2)), counts.sum(axis=1))
    assert np.count_nonzero(dataset.mask_safe.data) == counts.size
    # Every pixel is where it was.
    at = dataset.geom.get_coord()[dataset.mask_safe.data[0]]
    lon, lat = at.spherical.lon, at.spherical.lat
    index = healpix.lonlat_to_healpix(lon, lat, nside, order="nested" if nest else "ring")
    assert_array_equal(np.sort(index), np.sort(pixels))
    order = np.argsort(pixels)
    assert_array_equal(
        dataset.counts.data[0][dataset.mask_safe.data[0]][np.argsort(index)], counts[0][order]
    )
    # Regions hold the pixels whose centres they hold, over seams and the pole, too.
    where = SkyCoord(180, 0, unit="deg", frame="galactic") if center is None else center
    away = coord.separation(where).deg
    regions = [
        CircleSkyRegion(where, 3 * u.deg),
        CircleAnnulusSkyRegion(where, 3 * u.deg, 6 * u.deg),
    ]
    # An exposure on larger pixels, in the other order, that grows towards the north.
    b = healpix.healpix_to_lonlat(np.arange(12 * 16**2), 16, order="ring" if nest else "nested")[1]
    values = 1e12 * (2 + np.sin(b.rad)) * np.ones((3, 1))
    nodes = table("ENERGIES", Energy=[500.0, 1e4, 2e5])
    healpix_file(tmp_path / "exposure.fits", 16, not nest, None, values, bounds=nodes)
    dataset = MapDataset.from_fermi(path, tmp_path / "exposure.fits")
    mask = dataset.mask_safe.data
    lat = dataset.geom.get_coord().spherical.lat.rad
    right = np.broadcast_to(1e12 * (2 + np.sin(lat)), mask.shape)
    assert_allclose(dataset.exposure.data[mask], right[mask], rtol=2e-3)
    dataset.background = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 0.1))
    profile = FluxProfileEstimator(regions, energy_edges=TWO * u.GeV).run(dataset)
    for own, low, high in ((0, 0, 3), (1, 3, 6)):
        right = (counts[:, (away >= low) & (away < high)] - 0.1).sum(axis=1)
        assert_allclose(profile.norm[own] * profile.npred_excess_ref[own], right, rtol=1e-9)


def test_healpix_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "astropy_healpix", None)
    healpix_file(tmp_path / "hpx.fits", 1, False, None, np.ones((1, 12)))
    with pytest.raises(ImportError, match=r"pip install 'jaxprof\[healpix\]'"):
        WcsNDMap.read(tmp_path / "hpx.fits")


@needs_healpix
@pytest.mark.parametrize("region", [None, "DISK(110.,75.,30.)"])
def test_sparse_healpix(tmp_path, region):
    """As gammapy writes it: what is not listed is zero, within the region of the map."""
    nside = 8
    values = np.random.default_rng(1).poisson(0.4, (2, 12 * nside**2)).astype(float)
    lon, lat = healpix.healpix_to_lonlat(np.arange(12 * nside**2), nside)
    away = SkyCoord(lon, lat, frame="galactic").separation(
        SkyCoord(110, 75, unit="deg", frame="galactic")
    )
    inside = away.deg < (30 if region else 181)
    values[:, ~inside] = 0
    channel, pixel = np.nonzero(values)
    columns = [
        fits.Column("PIX", "J", array=pixel),
        fits.Column("CHANNEL", "I", array=channel),
        fits.Column("VALUE", "E", array=values[channel, pixel]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="SKYMAP")
    hdu.header.update(
        {"PIXTYPE": "HEALPIX", "NSIDE": nside, "COORDSYS": "GAL", "ORDERING": "RING"}
        | {"INDXSCHM": "SPARSE", "BANDSHDU": "EBOUNDS"}
    )
    if region:
        hdu.header["HPX_REG"] = region
    bounds = table("EBOUNDS", E_MIN=TWO[:2] * u.GeV, E_MAX=TWO[1:] * u.GeV)
    path = tmp_path / "sparse.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu, bounds]).writeto(path)
    map_ = WcsNDMap.read(path)
    assert np.isfinite(map_.data[0]).sum() == inside.sum()
    assert_array_equal(np.nansum(map_.data, axis=(1, 2)), values.sum(axis=1))
    at = SkyCoord(lon, lat, frame="galactic")[inside]
    assert_array_equal(map_.sample(at), values[:, inside])
    with fits.open(path, mode="update") as hdulist:
        hdulist["SKYMAP"].header["HPX_REG"] = "HPX_PIXEL(NESTED,4,1)"
    with pytest.raises(ValueError, match="sparse HEALPix map of the region 'HPX_PIXEL"):
        WcsNDMap.read(path)


@needs_healpix
def test_healpix_seam():
    """The plane is turned so that its seam is far from the pixels."""
    pixels = np.arange(12 * 8**2)
    lon, lat = healpix.healpix_to_lonlat(pixels, 8)
    pixels, lon = pixels[abs(lat.deg) < 30], lon[abs(lat.deg) < 30]
    part = pixels[np.abs(lon.deg - 180) < 100]
    found = HealpixMap(np.ones(len(part)), 8, part).to_wcs()
    assert np.nansum(found.data) == len(part)
    assert found.geom.wcs.wcs.crval[0] == 180


@needs_healpix
def test_healpix_interpolation():
    nside = 16
    lon, lat = healpix.healpix_to_lonlat(np.arange(12 * nside**2), nside)
    values = np.sin(lat.rad) + 2
    at = SkyCoord([10, 100, 250], [20, -60, 5], unit="deg")
    found = HealpixMap(values, nside).interp(at)
    assert_allclose(found, np.sin(at.dec.rad) + 2, atol=0.01)
    # Of a partial map, the pixels that there are.
    part = HealpixMap(values[:100], nside, np.arange(100))
    assert np.isnan(part.interp(at)).all()
    north = SkyCoord(12, 85, unit="deg")
    assert_allclose(part.interp(north), np.sin(north.dec.rad) + 2, atol=0.01)


@needs_healpix
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"nside": 3}, "must be a power of two"),
        ({"nside": 2}, "values of 12 pixels, but nside=2 has 48"),
        ({"nside": 1, "pixels": [0] * 12}, "a pixel is there twice"),
        ({"nside": 1, "pixels": range(1, 13)}, "pixel 12 is none of the 12"),
        ({"nside": 1, "frame": "fk5"}, "frame must be"),
        ({"nside": 2**20, "pixels": 10**12 + 10**10 * np.arange(12)}, "scattered over the sky"),
    ],
)
def test_what_is_wrong_with_healpix(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HealpixMap(np.ones(12), **kwargs).to_wcs()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"ORDERING": "SPIRAL"}, "ORDERING of HDU SKYMAP is 'SPIRAL'"),
        ({"COORDSYS": "E"}, "COORDSYS of HDU SKYMAP is 'E'"),
        ({"NSIDE": 64}, "values of 48 pixels, but nside=64 has 49152"),
        ({"NSIDE": "x"}, "NSIDE of HDU SKYMAP is 'x'"),
        ({"NSIDE": True}, "NSIDE of HDU SKYMAP is True"),
        ({"INDXSCHM": "SPARSE"}, "sparse"),
        ({"EXTNAME": "NONE"}, "has the columns .*WcsNDMap.from_healpix"),
    ],
)
def test_damaged_healpix_file(tmp_path, card, message):
    path = tmp_path / "hpx.fits"
    bounds = table("EBOUNDS", E_MIN=TWO[:2] * u.GeV, E_MAX=TWO[1:] * u.GeV)
    healpix_file(path, 2, False, None, np.ones((2, 48)), bounds=bounds)
    with fits.open(path, mode="update") as file:
        file[1].header.update(card)
        if "EXTNAME" in card:
            del file[2]
    with pytest.raises(ValueError, match=f"hpx.fits: .*{message}"):
        WcsNDMap.read(path)


@needs_healpix
def test_healpix_background_has_the_pixels_of_the_counts(tmp_path):
    """Interpolated to other pixels its counts would not be conserved."""
    nside, near = 4, np.arange(80, 100)
    counts, bounds = (
        np.full((2, 20), 4.0),
        table("EBOUNDS", E_MIN=[1, 10] * u.GeV, E_MAX=[10, 100] * u.GeV),
    )
    healpix_file(tmp_path / "counts.fits", nside, False, near, counts, bounds=bounds)
    path = tmp_path / "background.fits"

    def read(nside, pixels, values, **kwargs):
        path.unlink(missing_ok=True)
        healpix_file(path, nside, kwargs.pop("nest", False), pixels, values, **kwargs)
        return MapDataset.from_fermi(tmp_path / "counts.fits", background=path)

    # In any order of the energies, and with more pixels than the counts have.
    values = np.arange(2 * 192.0).reshape(2, 192)
    down = table("EBOUNDS", E_MIN=[10, 1] * u.GeV, E_MAX=[100, 10] * u.GeV)
    dataset = read(nside, None, values[::-1], bounds=down)
    mask = dataset.mask_safe.data
    assert_array_equal(np.sort(dataset.background.data[mask]), np.sort(values[:, near].ravel()))
    assert dataset.background.data[~mask].sum() == 0
    assert_array_equal(
        dataset.background.data[1][mask[1]] - dataset.background.data[0][mask[0]], 192
    )
    for changed, message in (
        ((8, None, np.ones((2, 768))), "nside=8 .galactic., the others are not"),
        ((nside, near[:15], counts[:, :15]), "no value in 10 bins of the counts"),
    ):
        with pytest.raises(ValueError, match=f"background.fits: .*{message}"):
            read(*changed, bounds=bounds)
    with pytest.raises(ValueError, match="nside=4 .icrs., the others are not"):
        read(nside, None, values, frame="CEL", bounds=bounds)


@needs_healpix
@pytest.mark.parametrize("index", [[1.0, 2.5], [1.0, np.nan]])
def test_healpix_indices_are_whole_numbers(tmp_path, index):
    path = tmp_path / "hpx.fits"
    healpix_file(path, 2, False, [1, 2], np.ones((1, 2)), bounds=None)
    with fits.open(path) as file:
        columns = [fits.Column("PIX", "D", array=index), file[1].columns[1]]
        hdu = fits.BinTableHDU.from_columns(columns, header=file[1].header)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "new.fits")
    with pytest.raises(ValueError, match="column PIX of HDU SKYMAP must hold whole numbers"):
        WcsNDMap.read(tmp_path / "new.fits")


@needs_healpix
@pytest.mark.slow
def test_fermi_healpix(cases_dir):
    path = data_file(cases_dir, "ccube_single_src_events_hpx.fits")
    dataset = MapDataset.from_fermi(path)
    with fits.open(path) as file:
        columns = file[1].data
        pixels = columns["PIX"]
        counts = np.array([columns[f"CHANNEL{k + 1}"] for k in range(12)])
    assert dataset.counts.data.sum() == counts.sum() == 233
    center = SkyCoord(184.74562, -5.3523726, unit="deg", frame="galactic")
    coord = SkyCoord(*healpix.healpix_to_lonlat(pixels, 256), frame="galactic")
    away = coord.separation(center).deg
    true = dataset.energy_axis.rename("energy_true")
    geom = dataset.geom.to_cube([true])
    dataset.exposure = WcsNDMap(geom, np.full(geom.data_shape, 1e10), "cm2 s")
    dataset.psf = PSFMap.from_gauss(true, 0.5)
    dataset.background = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 1e-3))
    circle = CircleSkyRegion(center, 1 * u.deg)
    regions = [circle, CircleAnnulusSkyRegion(center, 1 * u.deg, 3 * u.deg)]
    profile = FluxProfileEstimator(regions, energy_edges=[0.1, 100] * u.GeV).run(dataset)
    # All that is in the circle, by the pixels of the file.
    members = [away < 1, (away >= 1) & (away < 3)]
    inside = [counts[:, member].sum() for member in members]
    assert_array_equal(np.ravel(profile.counts), inside)
    assert profile.sqrt_ts[0, 0] > 10
    # The same fit by hand: no dispersion, one exposure, so that photons are shared as the flux is.
    edges = dataset.energy_axis.edges.to_value("TeV")
    signal = 1e10 * np.asarray(PowerLawSpectralModel(index=2).integral(edges[:-1], edges[1:]))
    for row, member in enumerate(members):
        n, b = counts[:, member].sum(axis=1), 1e-3 * member.sum()
        slope = lambda x, n=n, b=b: np.sum(signal - n * signal / (b + x * signal))  # noqa: E731
        right = brentq(slope, 0, 1e6, rtol=1e-13)
        assert_allclose(profile.norm[row, 0], right, rtol=1e-6)
    part = MapDataset.from_fermi(path, position=center, width=4)
    assert part.counts.data.sum() == counts[:, away <= 2].sum()


def hdu(name, **header):
    found = fits.BinTableHDU.from_columns(
        [fits.Column(key, "D", array=[1.0]) for key in header.pop("columns", ["X"])], name=name
    )
    found.header.update(header)
    return found


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([hdu("EVENTS")], "it is an event list"),
        ([hdu("SPECTRUM", HDUCLAS1="SPECTRUM", columns=["CHANNEL", "COUNTS"])], "OGIP PHA"),
        ([hdu("SPECRESP", HDUCLAS1="RESPONSE")], "OGIP ARF or RMF"),
        ([hdu("MATRIX", HDUCLAS1="RESPONSE"), hdu("EBOUNDS")], "OGIP ARF or RMF"),
        ([hdu("RATE", columns=["TIME", "RATE"])], "it is a light curve"),
        ([hdu("EFFECTIVE AREA", columns=["ENERG_LO", "THETA_LO"])], "functions of the offset"),
        ([hdu("OBS_INDEX")], "index of a data store"),
        ([hdu("SC_DATA")], "spacecraft file"),
        ([hdu("EXPOSURE", columns=["COSBINS"]), hdu("CTHETABOUNDS")], "livetime cube"),
        ([hdu("FLUXPOINTS", columns=["x_min", "norm"])], "FluxProfile.read"),
        ([hdu("FLUXPOINTS", columns=["e_ref", "norm"])], "the spectrum of one source"),
        ([hdu("X", columns=["e_ref", "dnde"])], "the spectrum of one source"),
        ([hdu("EVT", HDUCLAS1="EVENTS")], "it is an event list"),
        ([hdu("DATA", columns=["time", "reco_ra", "reco_dec", "energy"])], "it is an event list"),
        ([hdu("ARF", columns=["ENERG_LO", "SPECRESP"])], "OGIP ARF or RMF"),
        ([hdu("LC", columns=["TIME", "COUNTS"])], "it is a light curve"),
        ([hdu("X", columns=["time_min", "time_max", "norm"])], "it is a light curve"),
        ([hdu("STACK"), hdu("P0_FLUXPOINTS")], "FluxProfileStack.read"),
        ([hdu("LAWFIT")], "ModelFit.read_table"),
        ([hdu("PSF", columns=["PSF"]), hdu("THETA")], "gtpsf"),
        ([hdu("DRM")], "gtdrm"),
        ([hdu("LAT_POINT_SOURCE_CATALOG")], "catalogue"),
        ([hdu("ANY")], r"its HDUs are \['PRIMARY', 'ANY'\], with the columns \['X'\]"),
    ],
)
def test_what_other_fits_files_are(tmp_path, made, message):
    path = tmp_path / "other.fits"
    fits.HDUList([fits.PrimaryHDU(), *made]).writeto(path)
    readers = (MapDataset.read, WcsNDMap.read, MapDataset.from_fermi, MapDataset.from_ctools)
    for read in (
        *readers,
        *(() if made[0].name == "FLUXPOINTS" else (FluxProfile.read, read_file)),
    ):
        with pytest.raises(ValueError, match=f"other.fits: .*{message}"):
            read(path)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5.*WcsNDMap.from_healpix"),
        (b"root\0\0", "a ROOT file.*uproot"),
        (b"components:\n- name: x\n", "YAML file of models"),
        (b"datasets:\n- name: x\n", "list of datasets"),
        (b"<source_library>", "XML library of sources"),
        (b"# %ECSV 1.0\n", "ECSV.*FluxProfile.read"),
        (b"# Region file format: DS9\n", "DS9 regions"),
        (b"e_ref,dnde\n1,2\n", "a text file: .*numpy.loadtxt"),
        (b"<!DOCTYPE html><html>404", "web page.*download the file again"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"PK\x03\x04", "zip archive: unpack it"),
        (b"x" * 257 + b"ustar", "a tar archive: unpack it"),
        (b"\x1f\x9d", "unpack it with uncompress"),
        (b"\x00nonsense", "does not begin with SIMPLE"),
    ],
)
def test_what_files_are_that_are_not_fits(tmp_path, first, message):
    path = tmp_path / "other.dat"
    path.write_bytes(first + b"\n" * 3000)
    for read in (MapDataset.read, WcsNDMap.read, MapDataset.from_fermi):
        with pytest.raises(ValueError, match=f"other.dat: not a FITS file.*{message}"):
            read(path)
