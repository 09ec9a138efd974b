"""What enters a fit is checked where it is used; exposure and energies on bins of their own."""

import copy
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import CENTER, MODEL, estimator, rings
from numpy.testing import assert_allclose, assert_array_equal
from regions import RectangleSkyRegion
from scipy.integrate import quad
from scipy.interpolate import RegularGridInterpolator

import jaxprof
from jaxprof import (
    EDispKernelMap,
    EDispMap,
    FluxProfileEstimator,
    LogParabolaSpectralModel,
    MapAxis,
    MapDataset,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    PSFMap,
    RecoPSFMap,
    WcsGeom,
    WcsNDMap,
)

RECO = MapAxis.from_energy_bounds(1, 10, 4, unit="TeV")
TRUE = MapAxis.from_energy_bounds(0.5, 20, 6, unit="TeV", name="energy_true")
GEOM = WcsGeom.create(binsz=0.1, width=2.0, frame="galactic", axes=[RECO])
EDGES = RECO.edges.to_value("TeV")
MIGRA = MapAxis.from_edges(np.linspace(0.2, 5, 481), name="migra")
SKY = WcsGeom.create(binsz=1.0, width=2.0, frame="galactic")
"""Two by two bins of a response."""


def dataset(*, edisp="kernel", psf="true", sky=False, **changes):
    """Counts of MODEL and a background, with responses of any kind."""
    dispersion = EDispKernelMap.from_gauss(RECO, TRUE, 0.1)
    if edisp == "migra":
        density = np.exp(-0.5 * ((MIGRA.center.value - 1) / 0.1) ** 2) / np.sqrt(2 * np.pi) / 0.1
        dispersion = EDispMap(np.tile(density, (TRUE.nbin, 1)), MIGRA, TRUE)
    psf = (PSFMap if psf == "true" else RecoPSFMap).from_gauss(TRUE if psf == "true" else RECO, 0.1)
    if sky:
        dispersion, psf = (
            type(irf)(np.tile(irf.data[..., np.newaxis, np.newaxis], (1, 1, 2, 2)), *irf.axes, SKY)
            for irf in (dispersion, psf)
        )
    parts = {
        "counts": WcsNDMap(GEOM, 3.0),
        "background": WcsNDMap(GEOM, 1.0),
        "exposure": WcsNDMap(GEOM.to_cube([TRUE]), 1e12, "cm2 s"),
        "edisp": dispersion if isinstance(edisp, str) else edisp,
        "psf": psf,
        "name": "test",
    }
    return MapDataset(**(parts | changes))


def run(data, kind, low=1.0, high=10.0):
    """Norms by either estimator, in one group of energies."""
    cls = {"region": FluxProfileEstimator, "forward": jaxprof.ForwardFoldingProfileEstimator}[kind]
    own = cls(rings(2, 0.3), spectral_model=MODEL, energy_edges=[low, high] * u.TeV)
    return own.run(data).norm[:, 0]


def at(energy, reco):
    """Index of an element in a kernel or a density in migra."""
    if reco.name == "energy":
        return energy, 1
    ratio = RECO.center_tev()[1] / TRUE.center_tev()[energy]
    return energy, int(np.searchsorted(MIGRA.edges.value, ratio)) - 1


# --- energy dispersion


@pytest.mark.parametrize("kind", ["region", "forward"])
@pytest.mark.parametrize("edisp", ["kernel", "migra"])
@pytest.mark.parametrize("sky", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "is NaN or infinite"), (np.inf, "is NaN or infinite"), (-1.0, "is negative")],
)
def test_an_element_that_is_no_probability(kind, edisp, sky, value, message):
    data = dataset(edisp=edisp, sky=sky)
    data.edisp.data[at(2, data.edisp.axes[0])] = value
    with pytest.raises(ValueError, match=f"^edisp of dataset 'test' {message}"):
        run(data, kind)


@pytest.mark.parametrize("kind", ["region", "forward"])
@pytest.mark.parametrize("edisp", ["kernel", "migra"])
def test_rows_that_sum_to_more_than_one(kind, edisp):
    data = dataset(edisp=edisp)
    expected = run(data, kind)
    data.edisp.data *= 1.04
    assert_allclose(run(data, kind), expected / 1.04, rtol=2e-3)
    for factor in (1.2, 1000.0):
        data.edisp.data *= factor
        with pytest.raises(ValueError, match="edisp of dataset 'test' has rows that sum to more"):
            run(data, kind)


def test_rows_are_summed_beyond_the_reconstructed_energies():
    data = dataset(edisp="migra")
    data.edisp.data[:] = 1.1 / 4.8
    assert data.edisp.get_kernel(None, RECO).sum(axis=1).max() < 1.05
    with pytest.raises(ValueError, match="edisp of dataset 'test' has rows that sum to more"):
        run(data, "region")


@pytest.mark.parametrize("kind", ["region", "forward"])
@pytest.mark.parametrize("value", [np.nan, -1.0, 1000.0])
def test_energies_that_are_not_used_may_have_any_dispersion(kind, value):
    """Masked, beyond the edges of the groups, or without exposure."""
    data = dataset()
    mask = np.ones(GEOM.data_shape, bool)
    mask[0] = False
    data.mask_safe = WcsNDMap(GEOM, mask)
    data.exposure.data[4] = 0.0
    expected = run(data, kind, EDGES[1], EDGES[3])
    changed = copy.deepcopy(data)
    changed.edisp.data[:, [0, 3]] = value
    changed.edisp.data[4] = value
    assert_array_equal(run(changed, kind, EDGES[1], EDGES[3]), expected)
    with pytest.raises(ValueError, match="edisp of dataset 'test'"):
        run(changed, kind)


def test_rounding_below_zero_is_none():
    data = dataset()
    expected = run(data, "region")
    data.edisp.data[4, 0] = -1e-7
    assert_allclose(run(data, "region"), expected, rtol=1e-3)


def test_bins_of_the_sky_where_no_photon_starts_do_not_matter():
    region = [
        RectangleSkyRegion(SkyCoord(x, 0.5, unit="deg", frame="galactic"), 0.4 * u.deg, 0.4 * u.deg)
        for x in (0.3, 0.7)
    ]
    for cls in (FluxProfileEstimator, jaxprof.ForwardFoldingProfileEstimator):
        own = cls(region, spectral_model=MODEL)
        data = dataset(sky=True)
        expected = own.run(data).norm
        # l > 0, b > 0 is the bin at the upper left.
        data.edisp.data[2, 1, 0] = data.psf.data[2, 7, 0] = np.nan
        data.edisp.data[2, 1, :, 1] = data.psf.data[2, 7, :, 1] = np.nan
        assert_array_equal(own.run(data).norm, expected)


# --- point spread function


def spoil_nan(density):
    density[2, 7] = np.nan


def spoil_sign(density):
    density[2] = np.where(density[2] < 0.1 * density[2].max(), -density[2], density[2])


def spoil_size(density):
    density[2] *= 5


def spoil_all(density):
    density[2] = 0


SPOILT = [
    (spoil_nan, "is NaN or infinite at"),
    (spoil_sign, "has negative densities at"),
    (spoil_size, "integrates to 5"),
    (spoil_all, "integrates to 0 at"),
]


@pytest.mark.parametrize("psf", ["true", "reco"])
@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_psf_that_is_none_at_one_energy(psf, spoil, message):
    data = dataset(psf=psf)
    spoil(data.psf.data)
    energy = (TRUE if psf == "true" else RECO).center_tev()[2]
    with pytest.raises(ValueError, match=f"^psf of dataset 'test' {message}.* {energy:.4g} TeV"):
        run(data, "forward")
    # Without a PSF in the fit it does not matter.
    assert np.isfinite(run(data, "region")).all()


# Counts are even over the map, also beyond the last ring.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
@pytest.mark.parametrize(("spoil", "_"), SPOILT)
def test_energies_that_are_not_used_may_have_any_psf(spoil, _):
    data = dataset(psf="reco")
    mask = np.ones(GEOM.data_shape, bool)
    mask[2] = False
    data.mask_safe = WcsNDMap(GEOM, mask)
    expected = run(data, "forward")
    spoil(data.psf.data)
    assert_array_equal(run(data, "forward"), expected)
    # Without photons at a true energy.
    data = dataset(psf="true")
    data.exposure.data[2] = 0.0
    expected = run(data, "forward")
    spoil(data.psf.data)
    assert_array_equal(run(data, "forward"), expected)


def test_a_response_that_is_kept_knows_which_energies_it_cannot_tell():
    data = dataset(psf="reco")
    data.psf.data[3] *= 5
    own = estimator(rings(2, 0.3), energy_edges=[EDGES[0], EDGES[3]] * u.TeV)
    response = own.response(data)
    assert np.isfinite(own.run(data, response).norm).all()
    own.energy_edges = [EDGES[0], EDGES[4]] * u.TeV
    with pytest.raises(ValueError, match="psf of dataset 'test' integrates to 5"):
        own.run(data, response)


def test_expected_counts_need_no_psf_at_masked_energies():
    data = dataset(psf="reco")
    sky = jaxprof.SkyModel(
        spectral_model=MODEL,
        spatial_model=jaxprof.PointSpatialModel(lon_0="0 deg", lat_0="0 deg", frame="galactic"),
    )
    expected = jaxprof.predicted_counts(data, sky).data
    data.psf.data[3] = 0.002 * data.psf.data[3]
    with pytest.raises(ValueError, match="psf of dataset 'test' integrates to 0.002"):
        jaxprof.predicted_counts(data, sky)
    mask = np.ones(GEOM.data_shape, bool)
    mask[3] = False
    data.mask_safe = WcsNDMap(GEOM, mask)
    assert_allclose(jaxprof.predicted_counts(data, sky).data[:3], expected[:3], rtol=1e-12)


@pytest.mark.slow
def test_hawc_folds(cases_dir):
    """The PSF of a real file integrates to 0.002 or nothing at energies that are masked."""
    data = MapDataset.read(cases_dir / "data" / "hawc_nHit-5_cutout.fits.gz", name="nHit-5")
    center = SkyCoord(83.63, 22.01, unit="deg")
    regions = jaxprof.make_concentric_annulus_sky_regions(
        center=center, radius_max="0.9 deg", nbin=4
    )
    options = {
        "spectral_model": PowerLawSpectralModel(index=2.63),
        "energy_edges": [3.2, 31] * u.TeV,
    }
    point = jaxprof.PointSpatialModel(lon_0=center.ra, lat_0=center.dec, frame="icrs")
    own = jaxprof.ForwardFoldingProfileEstimator(
        regions, template=[point, *[None] * (len(regions) - 1)], **options
    )
    alone = FluxProfileEstimator(regions, **options).run(data)
    profile = own.run(data)
    assert (profile.status == 0).all()
    # The Crab in its bin, and what the PSF takes out of it.
    assert 1.0 < profile.norm[0, 0] / alone.norm[0, 0] < 1.2
    data.mask_safe.data[0] = True
    # Of some -1e-18 there.
    data.background.data[0] = 0.01
    with pytest.raises(ValueError, match="psf of dataset 'nHit-5' integrates to .* at 1.334 TeV"):
        estimator(regions, **options | {"energy_edges": [1, 31] * u.TeV}).run(data)


# --- acceptances


def on_off(**changes):
    data = dataset()
    rng = np.random.default_rng(2)
    parts = {
        "counts": WcsNDMap(GEOM, rng.poisson(8.0, GEOM.data_shape)),
        "counts_off": WcsNDMap(GEOM, rng.poisson(200.0, GEOM.data_shape)),
        "acceptance": WcsNDMap(GEOM, 1.0),
        "acceptance_off": WcsNDMap(GEOM, 38.0),
        "exposure": data.exposure,
        "edisp": data.edisp,
        "psf": data.psf,
        "name": "hess",
    }
    return MapDatasetOnOff(**(parts | changes))


@pytest.mark.parametrize("cls", [FluxProfileEstimator, jaxprof.ForwardFoldingProfileEstimator])
@pytest.mark.parametrize("part", ["acceptance", "acceptance_off"])
@pytest.mark.parametrize("value", [-4.0, np.nan, np.inf])
def test_pixels_with_an_acceptance_that_is_none_are_left_out(cls, part, value):
    own = cls(rings(2, 0.3), spectral_model=MODEL, likelihood="region")
    bad = np.zeros(GEOM.data_shape, bool)
    bad[1, 9:11, 10] = bad[2, 11, 12] = True
    data = on_off()
    data.mask_safe = WcsNDMap(GEOM, ~bad)
    expected = own.run(data)
    data = on_off()
    getattr(data, part).data[bad] = value
    data.counts_off.data = np.where(bad, np.nan, data.counts_off.data)
    with pytest.warns(UserWarning, match=f"^{part} of dataset 'hess': .* in 3 of 1600") as caught:
        found = own.run(data)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert_array_equal(found.norm, expected.norm)
    assert_array_equal(found.coverage, expected.coverage)
    # Masked pixels are no cause to warn, and rounding is none either.
    data.mask_safe = WcsNDMap(GEOM, ~bad)
    getattr(data, part).data[0, 0, 0] = -1e-7
    assert_array_equal(own.run(data).norm, expected.norm)


def test_background_without_an_acceptance_is_zero():
    data = on_off()
    data.acceptance_off.data[0, 0, :2] = [np.nan, -4.0]
    data.counts_off.data = data.counts_off.data.astype(float)
    data.counts_off.data[0, 0, 0] = np.nan
    background = data.npred_background().data
    assert_array_equal(background[0, 0, :2], 0.0)
    assert_allclose(background[1:], data.counts_off.data[1:] / 38.0)


# --- exposure on its own pixels


def coarse_exposure(binsz=0.5, width=(4.0, 3.0), frame="galactic", proj="CAR", seed=3):
    geom = WcsGeom.create(CENTER, binsz=binsz, width=width, frame=frame, proj=proj, axes=[TRUE])
    values = np.random.default_rng(seed).uniform(1e12, 2e12, geom.data_shape)
    return WcsNDMap(geom, values, "cm2 s")


@pytest.mark.parametrize(
    ("options"),
    [
        {},
        {"binsz": (0.7, 0.45), "width": (4.2, 3.15), "frame": "icrs", "proj": "TAN"},
        # The counts' outermost pixels lie within half a pixel of the edge: the line goes on.
        {"binsz": 0.5, "width": 2.0},
        {"binsz": (0.1, 1.0), "width": 2.0},
        {"binsz": 4.0, "width": 4.0},
    ],
)
def test_coarse_exposure_is_linear_between_pixels(options):
    exposure = coarse_exposure(**options)
    found = exposure.interp_to_geom(GEOM)
    assert found.unit == exposure.unit and found.geom.axes == [TRUE]
    x, y = GEOM.get_coord().to_pixel(exposure.geom.wcs)
    ny, nx = exposure.geom.npix_shape
    for image, expected in zip(found.data, exposure.data, strict=True):
        if nx == ny == 1:
            assert_array_equal(image, expected[0, 0])
            continue
        independent = RegularGridInterpolator(
            (np.arange(ny), np.arange(nx)), expected, bounds_error=False, fill_value=None
        )
        assert_allclose(image, independent((y, x)), rtol=1e-12)


def test_coarse_exposure_is_that_of_gammapy():
    """Numbers by gammapy 2.1: ``exposure.interp_to_geom(counts)`` of a ramp with a bend."""
    geom = WcsGeom.create(
        SkyCoord(10, 5, unit="deg", frame="galactic"), binsz=0.5, width=(3, 2), frame="galactic"
    )
    y, x = np.indices(geom.npix_shape)
    exposure = WcsNDMap(geom, 1.0 + x**2 + 3.0 * y + x * y**2, "m2 s")
    counts = WcsGeom.create(
        SkyCoord(10, 5, unit="deg", frame="galactic"), binsz=0.2, width=(3.6, 1.2), frame="galactic"
    )
    found = exposure.interp_to_geom(counts).data
    expected = {(0, 1): 1.75, (0, 2): 2.35, (1, 5): 5.99, (2, 9): 17.53, (3, 16): 52.65}
    for place, value in (expected | {(5, 12): 49.15, (0, 0): 0.0, (5, 17): 0.0}).items():
        assert_allclose(found[place], value, rtol=1e-11)


@pytest.mark.parametrize("kind", ["region", "forward"])
@pytest.mark.parametrize("proj", ["CAR", "TAN"])
def test_estimators_take_a_coarse_exposure(kind, proj):
    exposure = coarse_exposure(proj=proj)
    fine = exposure.interp_to_geom(GEOM)
    expected = run(dataset(exposure=fine), kind)
    assert_allclose(run(dataset(exposure=exposure), kind), expected, rtol=1e-12)
    later = dataset()
    later.exposure = exposure
    assert_allclose(run(later, kind), expected, rtol=1e-12)


def test_a_coarse_exposure_is_checked_where_it_is_used():
    data = dataset(exposure=coarse_exposure(width=(5.0, 5.0)))
    expected = run(data, "region")
    # The outermost pixels touch no pixel of the counts.
    data.exposure.data[:, 0] = np.nan
    assert_array_equal(run(data, "region"), expected)
    data.exposure.data[2, 4, 4] = np.nan
    for kind in ("region", "forward"):
        with pytest.raises(ValueError, match="exposure of dataset 'test' is NaN"):
            run(data, kind)


@pytest.mark.parametrize("kind", ["region", "forward"])
def test_pixels_beyond_a_coarse_exposure_have_none(kind):
    data = dataset(exposure=coarse_exposure(width=(1.0, 1.0)))
    assert data.exposure.interp_to_geom(GEOM).data[0, 0, 0] == 0
    with pytest.warns(UserWarning, match="exposure of dataset 'test', .* 300 of 400 unmasked"):
        expected = run(data, kind)
    mask = np.zeros(GEOM.data_shape, bool)
    mask[:, 5:15, 5:15] = True
    data.mask_safe = WcsNDMap(GEOM, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(data, kind)
    assert found.shape == expected.shape


def test_exposure_matters_at_true_energies_that_are_used():
    for edisp in (EDispKernelMap.from_diagonal(RECO, TRUE), None):
        data = dataset(edisp=edisp)
        mask = np.ones(GEOM.data_shape, bool)
        mask[:2] = False
        data.mask_safe = WcsNDMap(GEOM, mask)
        expected = run(data, "region", EDGES[2])
        data.exposure.data[[0, 5]] = np.nan
        assert_array_equal(run(data, "region", EDGES[2]), expected)
        data.exposure.data[3] = np.nan
        with pytest.raises(ValueError, match="exposure of dataset 'test' is NaN"):
            run(data, "region", EDGES[2])


# --- without energy dispersion


def integral(model, low, high):
    """By adaptive quadrature in the logarithm of the energy."""

    def integrand(log_energy):
        energy = np.exp(log_energy)
        return float(model(energy)) * energy

    return quad(integrand, np.log(low), np.log(high), epsrel=1e-12)[0]


@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
@pytest.mark.parametrize("kind", ["region", "forward"])
@pytest.mark.parametrize(
    "model",
    [
        PowerLawSpectralModel(index=2.7, amplitude="1e-12 cm-2 s-1 TeV-1"),
        LogParabolaSpectralModel(alpha=1.5, beta=0.8, amplitude="1e-12 cm-2 s-1 TeV-1"),
    ],
)
@pytest.mark.parametrize(
    "true",
    [
        [1.0, 10.0],
        [0.5, 3.0, 4.0, 30.0],
        [2.0, 2.5, 7.0],
        np.geomspace(0.3, 40, 24),
        EDGES,
    ],
)
def test_the_spectrum_shares_the_photons_of_a_true_bin(kind, model, true):
    true = MapAxis.from_edges(true, name="energy_true", unit="TeV", interp="log")
    exposure = np.linspace(1.0, 2.0, true.nbin)
    data = dataset(
        exposure=WcsNDMap(GEOM.to_cube([true]), 1e12 * exposure[:, None, None], "cm2 s"),
        psf=PSFMap.from_gauss(true, 0.02),
        edisp=None,
    )
    cls = {"region": FluxProfileEstimator, "forward": jaxprof.ForwardFoldingProfileEstimator}[kind]
    own = cls(rings(2, 0.3), spectral_model=model, energy_edges=EDGES * u.TeV)
    found = own.run(data).npred_excess_ref.sum(axis=0)
    expected = np.zeros(RECO.nbin)
    edges = true.edges_tev()
    for t, seen in enumerate(exposure):
        for e in range(RECO.nbin):
            low, high = max(edges[t], EDGES[e]), min(edges[t + 1], EDGES[e + 1])
            if high > low:
                expected[e] += 1e12 * seen * integral(model, low, high)
    if kind == "region":
        assert_allclose(found, 2 * expected, rtol=1e-7)
    else:
        # Some photons leave the regions, the same part at all energies.
        assert_allclose(found.sum() / expected.sum(), 1.8, atol=0.05)
        assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-7)


def test_a_free_index_shares_photons_by_the_fitted_spectrum():
    """Templates are kept for each piece of the one true bin."""
    true = MapAxis.from_edges([0.5, 12.0], name="energy_true", unit="TeV", interp="log")
    exposure = WcsNDMap(GEOM.to_cube([true]), 1e15, "cm2 s")
    data = dataset(exposure=exposure, psf=PSFMap.from_gauss(true, 0.1), edisp=None)
    truth = PowerLawSpectralModel(index=3.0, amplitude="1e-12 cm-2 s-1 TeV-1")
    expected = estimator(rings(2, 0.3), spectral_model=truth).response(data).datasets[0].sums
    pieces = estimator(rings(2, 0.3), free_index=True).response(data).datasets[0]
    flux = np.asarray(truth.integral(pieces.true_edges[:-1], pieces.true_edges[1:]))
    assert_allclose(pieces.true_edges, [0.5, *EDGES, 12.0], rtol=1e-12)
    found = np.einsum("q,nkqe->nke", flux, pieces.sums)
    assert_allclose(found, expected[:, :, 0], rtol=1e-10)


# --- pixels


HEADERS = [
    # CTYPE, cards of the counts, cards of the exposure, whether these are the same pixels
    ("CAR", {}, {"LONPOLE": 0.0, "LATPOLE": 90.0}, True),
    ("CAR", {}, {"PV2_1": 0.7}, True),
    ("CAR", {}, {"PV1_1": 95.0, "PV1_0": 1}, False),
    ("CAR", {}, {"PV1_1": 10.0}, False),
    ("TAN", {}, {"LONPOLE": 90.0}, False),
    ("TAN", {}, {"LONPOLE": 180.0}, True),
    ("TAN", {}, {"PV1_3": 170.0}, False),
    ("AZP", {"PV2_1": 2.0}, {"PV2_1": 2.5}, False),
    ("AZP", {"PV2_1": 2.0}, {"PV2_1": 2.0}, True),
    ("COP", {"PV2_1": 45.0, "PV2_2": 10.0}, {"PV2_1": 45.0, "PV2_2": 20.0}, False),
    ("CEA", {"PV2_1": 1.0}, {}, True),
    ("CEA", {"PV2_1": 1.0}, {"PV2_1": 0.5}, False),
]


@pytest.mark.parametrize(("proj", "own", "other", "same"), HEADERS)
def test_pixels_are_the_same_at_the_same_positions(proj, own, other, same):
    from astropy.io import fits
    from astropy.wcs import WCS

    def geom(cards):
        header = fits.Header(
            {"CTYPE1": f"GLON-{proj}", "CTYPE2": f"GLAT-{proj}", "CRPIX1": 10.5, "CRPIX2": 10.5}
        )
        header.update({"CRVAL1": 20.0, "CRVAL2": 40.0, "CDELT1": -1.0, "CDELT2": 1.0} | cards)
        return WcsGeom(WCS(header), (20, 20), [RECO])

    counts, exposure = geom(own), geom(other).to_cube([TRUE])
    assert counts.is_allclose_image(exposure) == same
    make = {"counts": WcsNDMap(counts), "exposure": WcsNDMap(exposure, 1.0, "cm2 s")}
    if same:
        MapDataset(**make)
    else:
        with pytest.raises(ValueError, match="the pixels of exposure are at other sky positions"):
            MapDataset(**make)


def test_frames_that_agree_have_the_same_pixels():
    """FK5 differs from ICRS by 20 mas; a shift of a hundredth of a pixel is another map."""
    icrs = WcsGeom.create((83.6, 22.0), binsz=0.1, npix=20, frame="icrs", proj="TAN")
    wcs = icrs.wcs.deepcopy()
    wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
    wcs.wcs.set()
    assert icrs.is_allclose_image(WcsGeom(wcs, (20, 20)))
    wcs = icrs.wcs.deepcopy()
    wcs.wcs.crpix = [10.51, 10.5]
    wcs.wcs.set()
    assert not icrs.is_allclose_image(WcsGeom(wcs, (20, 20)))
    turned = icrs.wcs.deepcopy()
    turned.wcs.pc = [[0, -1], [1, 0]]
    turned.wcs.set()
    assert not icrs.is_allclose_image(WcsGeom(turned, (20, 20)))
    # Pixels off the projection are no positions.
    sky = WcsGeom.create(binsz=5.0, frame="galactic", proj="AIT")
    assert sky.is_allclose_image(WcsGeom(sky.wcs.deepcopy(), sky.npix_shape))


def test_containment_radius_of_a_gaussian():
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2, name="energy_true")
    psf = PSFMap.from_gauss(axis, sigma=[0.1, 0.05] * u.deg)
    fraction = np.array([0.1, 0.393469, 0.68, 0.95])
    expected = 0.1 * np.sqrt(-2 * np.log(1 - fraction))
    found = psf.containment_radius(fraction, axis.center[0])
    np.testing.assert_allclose(found.to_value("deg"), expected, rtol=1e-4)
    assert found[0] > 3 * psf.containment_radius(0, "2 TeV")
    radii = psf.containment_radius(0.68, [1, 3.1, 10] * u.TeV)
    assert radii.shape == (3,) and np.all(np.diff(radii) < 0)
    inside = psf.containment(1, radii[-1])
    np.testing.assert_allclose(inside, 0.68, rtol=1e-6)


def test_containment_radius_checks_its_arguments():
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2, name="energy_true")
    psf = PSFMap.from_gauss(axis, sigma="0.1 deg")
    for energy in (1, "3 deg", "x"):
        with pytest.raises(ValueError, match="energy_true is .*give energies"):
            psf.containment_radius(0.5, energy)
    with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
        psf.containment_radius(68, "1 TeV")
    psf = PSFMap(np.zeros_like(psf.data), psf.rad_axis, axis)
    assert np.isnan(psf.containment_radius(0.68, "1 TeV"))
