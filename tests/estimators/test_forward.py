"""Forward-folded profiles: the truth behind the point-spread function."""

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import (
    CENTER,
    MODEL,
    dataset_of,
    energy_axes,
    estimator,
    gaussian_image,
    joint_data_of,
    rings,
    sky_image,
)
from numpy.testing import assert_allclose
from regions import CircleSkyRegion

from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    GaussianSpatialModel,
    MapDatasetOnOff,
    PointSpatialModel,
    PowerLawSpectralModel,
    PSFMap,
    RecoPSFMap,
    SkyModel,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.core import fit_joint
from jaxprof.likelihood.data import Status
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

EDGES = [1, 10] * u.TeV


def estimate(dataset, regions, **options):
    options = {"spectral_model": MODEL, "energy_edges": EDGES, **options}
    return ForwardFoldingProfileEstimator(regions, **options).run(dataset)


@pytest.mark.parametrize("likelihood", ["pixel", "region"])
@pytest.mark.parametrize("binsz", [pytest.param(0.02, marks=pytest.mark.slow), 0.05])
def test_disk_in_rings(binsz, likelihood):
    """A disk of two rings, blurred by a PSF as wide as a ring."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, binsz)
    dataset = dataset_of(gaussian_image(image, 0.1, binsz), binsz, sigma=0.1)
    profile = estimate(dataset, rings(6, 0.1), likelihood=likelihood, guard_bins=1)
    assert_allclose(profile.norm[:, 0], [0.25, 0.75, 0, 0, 0, 0], atol=0.005)
    if binsz == 0.02:
        # What the same counts give without the PSF, as gammapy 2.1 has it.
        blurred = [0.203, 0.416, 0.291, 0.085, 0.011, 0.000]
        separate = FluxProfileEstimator(rings(6, 0.1), spectral_model=MODEL, energy_edges=EDGES)
        assert_allclose(separate.run(dataset).norm[:, 0], blurred, atol=0.01)


@pytest.mark.slow
def test_disk_with_energy_dispersion_and_varying_exposure():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.02)
    dataset = dataset_of(
        image, 0.02, sigma=[0.12, 0.1, 0.08], blur=True, dispersion=0.15, gradient=0.5
    )
    profile = estimate(dataset, rings(6, 0.1), guard_bins=1)
    assert_allclose(profile.norm[:, 0], [0.25, 0.75, 0, 0, 0, 0], atol=0.005)


@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
@pytest.mark.parametrize("likelihood", [pytest.param("pixel", marks=pytest.mark.slow), "region"])
@pytest.mark.parametrize("offset", [pytest.param((0.0, 0.0), marks=pytest.mark.slow), (0.05, 0.03)])
def test_point_source_is_in_its_ring(offset, likelihood):
    """No ring is as narrow as a point: unless norms may be negative, all of it is in the first."""
    image = sky_image(lambda x, y: None, 0.02, point=offset)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.02), 0.02, sigma=0.1)
    options = {"likelihood": likelihood, "selection_optional": None}
    profile = estimate(dataset, rings(6, 0.1), norm={"min": 0}, **options)
    assert_allclose(profile.norm[:, 0], [1, 0, 0, 0, 0, 0], atol=0.004)
    assert profile.success.all()
    assert list(profile.status[:, 0]) == [Status.OK] + 5 * [Status.BOUNDARY]
    free = estimate(dataset, rings(6, 0.1), **options)
    assert_allclose(free.norm.sum(), 1.0, atol=0.02)
    assert free.norm[0, 0] > 1.1 and free.norm[1, 0] < -0.1


@pytest.mark.slow
def test_point_source_stays_in_its_ring():
    """As a source in the field, and as what a bin consists of."""
    offset = (0.013, -0.031)
    image = sky_image(lambda x, y: None, 0.02, point=offset)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.02), 0.02, sigma=0.1)
    source = SkyModel(
        MODEL,
        PointSpatialModel(lon_0=-offset[0], lat_0=offset[1], frame="galactic"),
        name="point",
        free=True,
    )
    profile = estimate(dataset, rings(6, 0.1), sources=source)
    assert np.abs(profile.norm / profile.norm_err).max() < 0.1
    found = profile.nuisance[0]
    assert (found["parameter"], found["fixed"]) == ("norm of point", False)
    # At the centre of the first ring the two are hard to tell apart.
    assert_allclose(found["value"], 1.0, atol=0.1 * found["error"])
    fixed = SkyModel(MODEL, source.spatial_model)
    profile = estimate(dataset, rings(6, 0.1), sources=fixed)
    assert_allclose(profile.norm[:, 0], 0.0, atol=0.004)
    assert_allclose(profile.npred_other.sum(), profile.counts.sum(), rtol=0.02)
    # The same as the first bin of the profile, which then is that point.
    template = [source.spatial_model, *[None] * 5]
    profile = estimate(dataset, rings(6, 0.1), template=template)
    assert_allclose(profile.norm[:, 0], [1, 0, 0, 0, 0, 0], atol=0.004)
    assert_allclose(profile.solid_angle, estimate(dataset, rings(6, 0.1)).solid_angle)


@pytest.mark.parametrize("likelihood", [pytest.param("region", marks=pytest.mark.slow), "pixel"])
def test_delta_psf_gives_the_separate_fits(likelihood):
    rng = np.random.default_rng(1)
    image = sky_image(lambda x, y: np.exp(-(x**2 + y**2) / 0.3), 0.05)
    dataset = dataset_of(
        image, 0.05, sigma=1e-7, n_photons=5000.0, background=3.0, gradient=0.3, dispersion=0.1
    )
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    options = {"spectral_model": MODEL, "energy_edges": [1, 2.2, 10] * u.TeV}
    separate = FluxProfileEstimator(rings(8, 0.1), likelihood=likelihood, **options).run(dataset)
    joint = ForwardFoldingProfileEstimator(
        rings(8, 0.1), likelihood=likelihood, oversampling=1, **options
    ).run(dataset)
    assert np.all(separate.status == Status.OK)
    assert np.all(joint.status == Status.OK)
    deviation = (joint.norm - separate.norm) / separate.norm_err
    assert np.abs(deviation).max() < 1e-6
    assert_allclose(joint.norm_err, separate.norm_err, rtol=1e-6)
    assert_allclose(joint.ts, separate.ts, rtol=1e-6, atol=1e-8)
    assert_allclose(joint.npred_excess, separate.npred_excess, rtol=1e-6, atol=1e-6)
    assert_allclose(joint.solid_angle, separate.solid_angle)
    assert_allclose(joint.coverage, separate.coverage)
    off_diagonal = joint.correlation[0] - np.eye(8)
    assert np.abs(off_diagonal).max() < 1e-10


@pytest.mark.slow
def test_guard_bins_take_what_leaks_in():
    """Even emission everywhere: without guard bins the last ring counts what starts beyond it."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 1, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1)
    regions = rings(2, 0.2)
    share = np.array([0.04, 0.12])
    found = {n: estimate(dataset, regions, guard_bins=n).norm[:, 0] / share for n in (0, 3)}
    assert_allclose(found[3], 1.0, atol=0.02)
    assert found[0][-1] > 1.05
    given = [
        CircleSkyRegion(SkyCoord("0d", "0d", frame="galactic"), 0.9 * u.deg),
    ]
    assert estimate(dataset, regions, guard_bins=given).norm.shape == (2, 1)


@pytest.mark.slow
def test_psf_that_varies_over_the_sky():
    """Two sky bins of the PSF: each region has its own."""
    left = sky_image(lambda x, y: np.hypot(x + 0.5, y) < 0.2, 0.05)
    right = sky_image(lambda x, y: np.hypot(x - 0.5, y) < 0.2, 0.05)
    dataset = dataset_of(gaussian_image(left, 0.06, 0.05), 0.05, sigma=0.06)
    other = dataset_of(gaussian_image(right, 0.14, 0.05), 0.05, sigma=0.14)
    dataset.counts.data = dataset.counts.data + other.counts.data - other.background.data
    # Longitude grows to the left.
    centers = SkyCoord([0.5, -0.5], [0, 0], unit="deg", frame="galactic")
    regions = [CircleSkyRegion(center, 0.2 * u.deg) for center in centers]
    assert np.abs(estimate(dataset, regions).norm[:, 0] - 1).max() > 0.1
    _, true = energy_axes()
    nodes = MapAxis.from_nodes(np.linspace(0, 0.9, 1801) * u.deg, name="rad")
    parts = [PSFMap.from_gauss(true, width * u.deg, nodes).data for width in (0.06, 0.14)]
    sky = WcsGeom.create(binsz=1.0, width=(2, 1), frame="galactic")
    dataset.psf = PSFMap(np.stack(parts, axis=-1)[:, :, np.newaxis], nodes, true, sky)
    assert_allclose(estimate(dataset, regions).norm[:, 0], 1.0, atol=0.01)


@pytest.mark.slow
def test_rings_around_the_pointing_have_the_psf_where_they_are():
    """The PSF gets wider outwards; it is not that of the rings' common centre."""

    def width(r):
        return 0.05 + 0.12 * r**2

    def part(low, high):
        return sky_image(lambda x, y: (np.hypot(x, y) >= low) & (np.hypot(x, y) < high), 0.1)

    edges = np.linspace(0.4, 0.6, 9)
    image = sum(
        (high**2 - low**2) * gaussian_image(part(low, high), width(0.5 * (low + high)), 0.1)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    )
    dataset = dataset_of(image / image.sum(), 0.1, sigma=0.05)
    center = estimate(dataset, rings(4, 0.2)).norm[:, 0]
    assert np.abs(center - [0, 0, 1, 0]).max() > 0.1
    _, true = energy_axes()
    nodes = MapAxis.from_nodes(np.linspace(0, 0.9, 901) * u.deg, name="rad")
    sky = WcsGeom.create(binsz=0.1, width=(2.1, 2.1), frame="galactic")
    rows, columns = np.indices(sky.npix_shape) - 10
    sigma = width(0.1 * np.hypot(rows, columns))
    density = np.stack([PSFMap.from_gauss(true, s * u.deg, nodes).data for s in sigma.ravel()], -1)
    dataset.psf = PSFMap(density.reshape(*density.shape[:2], *sigma.shape), nodes, true, sky)
    norms = estimate(dataset, rings(4, 0.2)).norm[:, 0]
    # Within the ring of 0.2 deg it changes too, which is not folded.
    assert_allclose(norms, [0, 0, 1, 0], atol=0.02)


@pytest.mark.slow
def test_psf_per_reconstructed_energy():
    """Without energy dispersion it is the same thing; with it, another order of operations."""
    reco, _ = energy_axes()
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(image, 0.05, sigma=[0.12, 0.1, 0.08], blur=True)
    expected = estimate(dataset, rings(6, 0.1))
    dataset.psf = RecoPSFMap.from_gauss(reco, [0.12, 0.1, 0.08] * u.deg)
    found = estimate(dataset, rings(6, 0.1))
    assert_allclose(found.norm, expected.norm, atol=1e-9)
    free = estimate(dataset, rings(6, 0.1), free_index=True)
    assert_allclose(free.norm[:2, 0], [0.25, 0.75], atol=0.01)
    assert_allclose(free.index[:2, 0], MODEL.index, atol=0.05)


@pytest.mark.slow
def test_index_profile():
    """Two rings of different spectra: the index of each comes out, and its flux."""
    inner = sky_image(lambda x, y: np.hypot(x, y) < 0.15, 0.05)
    outer = sky_image(lambda x, y: (np.hypot(x, y) > 0.15) & (np.hypot(x, y) < 0.3), 0.05)
    hard = PowerLawSpectralModel(index=1.6, amplitude="3e-12 cm-2 s-1 TeV-1")
    parts = [
        dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, model=model, n_energy=6)
        for image, model in ((inner, hard), (outer, MODEL))
    ]
    parts[0].counts.data = parts[0].counts.data + parts[1].counts.data
    parts[0].background.data = 2 * parts[0].background.data
    profile = estimate(parts[0], rings(2, 0.15), free_index=True, selection_optional=["ul"])
    assert_allclose(profile.index[:, 0], [1.6, MODEL.index], atol=0.03)
    low, high = EDGES.to_value("TeV")
    flux = [float(model.integral(low, high)) for model in (hard, MODEL)]
    assert_allclose(profile.flux[:, 0].value, flux, rtol=0.02)
    # dnde is that of the fitted spectrum, not of the reference.
    energy = float(profile.energy_ref[0].to_value("TeV"))
    assert_allclose(profile.dnde[0, 0].value, float(hard(energy)), rtol=0.02)
    assert np.all(profile.index_err > 0)
    assert np.all(profile.norm_ul > profile.norm)
    fixed = estimate(parts[0], rings(2, 0.15), spectral_model=[hard, MODEL])
    assert_allclose(fixed.norm[:, 0], 1.0, rtol=0.01)
    assert_allclose(fixed.flux[:, 0].value, flux, rtol=0.01)
    # More freedom, larger errors.
    assert np.all(profile.flux_err > 1.001 * fixed.flux_err)


@pytest.mark.slow
def test_background_is_fitted_along():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, background=4.0)
    energy = dataset.energy_axis.center_tev()
    factor = 1.2 * (energy / np.sqrt(10)) ** -0.4  # the group ends at 1 and 10 TeV
    dataset.counts.data = (
        dataset.counts.data + dataset.background.data * (factor - 1)[:, None, None]
    )
    biased = estimate(dataset, rings(6, 0.1)).norm
    assert np.abs(biased[2:]).max() > 0.5
    free = estimate(dataset, rings(6, 0.1), background={"norm": "free", "tilt": "free"})
    assert list(free.nuisance["parameter"]) == ["background norm", "background tilt"]
    assert_allclose(free.nuisance["value"], [1.2, 0.4], rtol=1e-2)
    assert_allclose(free.norm[:, 0], [0.25, 0.75, 0, 0, 0, 0], atol=0.02)
    # A narrow constraint holds it; the pull of a wide one falls with the square of its width.
    held = estimate(dataset, rings(6, 0.1), background=1e-6)
    assert_allclose(held.nuisance["value"][0], 1.0, atol=1e-6)
    alone = estimate(dataset, rings(6, 0.1), background={dataset.name: "free"})
    wide, wider = (estimate(dataset, rings(6, 0.1), background=[w]).norm for w in (0.3, 0.9))
    pull = np.abs(wide - alone.norm).max()
    assert 1e-6 < pull < 1e-2
    assert_allclose(wider - alone.norm, (wide - alone.norm) / 9, rtol=1e-2, atol=1e-3 * pull)
    # Its uncertainty enters the errors.
    assert np.all(alone.norm_err > estimate(dataset, rings(6, 0.1)).norm_err)


@pytest.mark.slow
def test_sources_are_subtracted():
    """A fixed source of known flux changes nothing when it is in the counts and the model."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    plain = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1)
    halo = sky_image(lambda x, y: np.exp(-((x - 0.3) ** 2 + y**2) / 2 / 0.15**2), 0.05)
    both = dataset_of(gaussian_image(halo, 0.1, 0.05), 0.05, sigma=0.1)
    both.counts.data = both.counts.data - both.background.data + plain.counts.data
    shape = GaussianSpatialModel(lon_0=-0.3, lat_0=0.0, sigma=0.15, frame="galactic")
    source = SkyModel(MODEL, shape, name="halo")
    expected = estimate(plain, rings(6, 0.1))
    found = estimate(both, rings(6, 0.1), sources=[source])
    assert_allclose(found.norm, expected.norm, atol=0.005)
    assert np.all(found.nuisance["fixed"])
    assert np.isnan(found.nuisance["error"][0])
    with pytest.warns(UserWarning, match="does not describe what is in bin"):
        wrong = estimate(both, rings(6, 0.1))
    assert np.abs(wrong.norm - expected.norm).max() > 0.1


@pytest.mark.slow
def test_overlaps_gaps_and_cuts_are_legal():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1)
    dataset.mask_fit = type(dataset.counts)(dataset.geom, np.ones(dataset.geom.data_shape, bool))
    dataset.mask_fit.data[0, :, :18] = False  # at one energy only
    centers = SkyCoord([0, 0.25, -0.6, 1.05], [0, 0, 0.2, 0], unit="deg", frame="galactic")
    regions = [CircleSkyRegion(center, 0.3 * u.deg) for center in centers]
    for likelihood in ("pixel", "region"):
        profile = estimate(
            dataset, regions, likelihood=likelihood, selection_optional=["errn-errp", "ul"]
        )
        assert np.all(np.isfinite(profile.norm))
        assert_allclose(profile.norm[0, 0], 1.0, atol=0.03)
        assert_allclose(profile.norm[1:3, 0], 0.0, atol=0.03)
        assert profile.coverage[3, 0] < 0.6
        assert_allclose(profile.coverage[2, 0], 1.0)
        assert 0.7 < profile.coverage[1, 0] < 0.95
        assert np.all(profile.norm_ul > profile.norm)
        # The first two share pixels, and what they predict there.
        assert_allclose(profile.npred, profile.counts, rtol=0.02)


@pytest.mark.slow
def test_two_datasets_are_one_with_their_sum():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    first = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, n_photons=3000)
    second = dataset_of(gaussian_image(image, 0.2, 0.05), 0.05, sigma=0.2, n_photons=5000)
    joint = estimate([first, second], rings(4, 0.1))
    assert_allclose(joint.norm[:, 0], [0.25, 0.75, 0, 0], atol=0.005)
    assert joint.counts.shape == (4, 1, 2)
    alone = [estimate(one, rings(4, 0.1)) for one in (first, second)]
    assert_allclose(joint.counts[..., 0], alone[0].counts)
    information = sum(np.linalg.inv(one.covariance[0]) for one in alone)
    # Both are Asimov data of the same norms: their information adds up.
    assert_allclose(np.linalg.inv(joint.covariance[0]), information, rtol=2e-3)


@pytest.mark.slow
def test_goodness_of_on_off_data():
    """Toys: chi-squared of the counts bins less the norms where counts are many; NaN at few."""
    dataset = dataset_of(
        gaussian_image(sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.1), 0.1, 0.1),
        0.1,
        sigma=0.1,
        n_photons=5e3,
        background=30.0,
    )
    own = estimator(rings(3, 0.2), likelihood="region")
    rng, found, response = np.random.default_rng(3), [], None
    for scale in (*[1.0] * 60, 1e-3):
        one = np.ones(dataset.geom.data_shape)
        on_off = MapDatasetOnOff(
            counts=WcsNDMap(dataset.geom, rng.poisson(scale * dataset.counts.data).astype(float)),
            counts_off=WcsNDMap(dataset.geom, rng.poisson(60.0 * scale * one).astype(float)),
            acceptance=WcsNDMap(dataset.geom, one),
            acceptance_off=WcsNDMap(dataset.geom, 2.0 * one),
            exposure=dataset.exposure,
            psf=dataset.psf,
            name="on-off",
        )
        response = own.response(on_off) if response is None else response
        profile = own.run(on_off, response)
        found.append(profile.goodness[0])
    *many, few = found
    assert {row["n_counts_bins"] for row in found} == {9.0} and {
        row["n_free"] for row in found
    } == {3}
    assert np.isfinite(profile.norm).all() and np.isfinite(few["stat"])
    assert np.isnan(few["expected"]) and np.isnan(few["z"])
    stat = np.array([row["stat"] for row in many])
    assert_allclose([row["expected"] for row in many], 9.0)
    assert_allclose([row["std"] for row in many], np.sqrt(18.0))
    assert_allclose([row["z"] for row in many], (stat - 9.0) / np.sqrt(18.0))
    n_free = 9 - 3
    assert abs(stat.mean() - n_free) < 4 * np.sqrt(2 * n_free / len(stat))
    assert 0.5 < stat.var() / (2 * n_free) < 1.8


@pytest.mark.slow
@pytest.mark.parametrize("summed", [False, True])
def test_on_off_data(summed):
    """OFF counts ten times as many as their expectation in the ON pixels, without noise."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, n_photons=5e3, background=3.0
    )
    one = np.ones(dataset.geom.data_shape)
    on_off = MapDatasetOnOff(
        counts=dataset.counts,
        counts_off=WcsNDMap(dataset.geom, 30.0 * one),
        acceptance=WcsNDMap(dataset.geom, one),
        acceptance_off=WcsNDMap(dataset.geom, 10.0 * one),
        exposure=dataset.exposure,
        psf=dataset.psf,
        name="on-off",
    )
    options = {"likelihood": "region", "sum_over_energy_groups": summed, "guard_bins": 0}
    options |= {"energy_edges": [1, 2.2, 10] * u.TeV}
    options |= {"selection_optional": ["errn-errp", "sensitivity"] if summed else None}
    found = estimate(on_off, rings(4, 0.1), **options)
    known = estimate(dataset, rings(4, 0.1), **options)
    assert found.success.all()
    assert_allclose(found.norm[:, 0], [0.25, 0.75, 0, 0], atol=0.005)
    assert_allclose(found.norm, known.norm, atol=1e-3)
    more = ("norm_errn", "norm_errp", "norm_sensitivity") if summed else ()
    for name in ("norm_err", *more):
        # The OFF counts add a tenth of the background's variance.
        ratio = getattr(found, name) / getattr(known, name)
        assert np.all((ratio > 1.0) & (ratio < 1.06)), name
    assert_allclose(found.npred, found.counts, rtol=1e-3)
    assert_allclose(found.npred_background, known.npred_background, rtol=0.02)
    options["selection_optional"] = None
    both = estimate([on_off, dataset], rings(4, 0.1), **options)
    assert_allclose(both.norm, known.norm, atol=1e-3)
    assert np.all(both.norm_err < 0.75 * known.norm_err)
    with pytest.raises(ValueError, match="use likelihood='region'"):
        estimate(on_off, rings(4, 0.1))


def test_smoothness_is_a_known_penalty():
    rng = np.random.default_rng(5)
    image = sky_image(lambda x, y: np.exp(-(x**2 + y**2) / 0.2), 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, n_photons=300)
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    free = estimate(dataset, rings(8, 0.08))
    smooth = estimate(dataset, rings(8, 0.08), smoothness=1e3)
    straight = estimate(dataset, rings(8, 0.08), smoothness=1e9)
    bend = [np.abs(np.diff(p.norm[:, 0], 2)).max() for p in (free, smooth, straight)]
    assert bend[0] > 2 * bend[1] > 100 * bend[2]
    assert np.all(smooth.norm_err < free.norm_err)


@pytest.mark.slow
def test_written_and_read_again(tmp_path):
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, background=2.0)
    profile = estimate(
        dataset,
        rings(3, 0.1),
        energy_edges=[1, 2.2, 10] * u.TeV,
        selection_optional="all",
        background="free",
        guard_bins=1,
        free_index=False,
        norm={"scan_values": np.linspace(0, 1.5, 4)},
    )
    for name in ("profile.fits", "profile.ecsv"):
        profile.write(tmp_path / name)
        again = FluxProfile.read(tmp_path / name)
        for quantity in profile.quantities:
            assert_allclose(again.quantities[quantity], profile.quantities[quantity], rtol=1e-15)
        assert_allclose(again.correlation, profile.correlation)
        assert list(again.nuisance["parameter"]) == list(profile.nuisance["parameter"])
        assert_allclose(again.goodness["stat"], profile.goodness["stat"])
    # Profiled, the statistic rises less than with the other norms held.
    assert np.all(profile.stat_scan <= profile.stat_scan_conditional + 1e-9)
    assert np.any(profile.stat_scan < profile.stat_scan_conditional - 0.1)
    # The sensitivity is a norm that would be found with five sigma.
    ratio = profile.norm_sensitivity / profile.norm_err
    assert np.all((ratio > 2) & (ratio < 25))


def test_goodness_of_fit_tells_a_wrong_model():
    rng = np.random.default_rng(2)
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, 0.05)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, n_photons=2e4, background=0.3
    )
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    right = estimate(dataset, rings(4, 0.1)).goodness[0]
    assert abs(right["z"]) < 3
    assert right["n_free"] == 4
    dataset.counts.data = np.roll(dataset.counts.data, 3, axis=2)
    with pytest.warns(UserWarning, match="does not describe what is in bin"):
        assert estimate(dataset, rings(4, 0.1)).goodness["z"][0] > 10


@pytest.mark.slow
def test_gradients_by_the_psf_and_the_spectrum():
    """Norms as functions of the width of the PSF, the index, and the counts of a pixel."""
    rng = np.random.default_rng(3)
    image = sky_image(lambda x, y: np.exp(-(x**2 + y**2) / 0.1), 0.05)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, n_photons=2e4, background=0.5
    )
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    estimator = ForwardFoldingProfileEstimator(
        rings(3, 0.12), spectral_model=MODEL, energy_edges=EDGES, subpixels=1
    )
    response = estimator.response(dataset)

    def norms(scale, index):
        model = MODEL.replace(index=index)
        changed = response.refolded(psf_scale=scale, spectral_model=model)
        return fit_joint(joint_data_of(estimator, dataset, changed)[0]).values

    at = (1.0, jnp.asarray(MODEL.index))
    expected = estimator.run(dataset, response)
    assert_allclose(norms(*at), expected.norm[:, 0], rtol=1e-10)
    weights = jnp.asarray([1.0, -0.5, 0.2])
    gradient = jax.grad(lambda *values: norms(*values) @ weights, argnums=(0, 1))(*at)
    step = 1e-5
    for number in (0, 1):
        low, high = (
            norms(*(value + side * step * (k == number) for k, value in enumerate(at))) @ weights
            for side in (-1, 1)
        )
        assert_allclose(gradient[number], (high - low) / (2 * step), rtol=1e-4)


@pytest.mark.slow
def test_bins_that_cannot_be_told_apart():
    """Far narrower than a pixel and the PSF: finite, with large errors, and flagged."""
    rng = np.random.default_rng(4)
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, background=1.0)
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    regions = make_orthogonal_rectangle_sky_regions(
        start_pos=SkyCoord("0.1d", "0d", frame="galactic"),
        end_pos=SkyCoord("359.9d", "0d", frame="galactic"),
        wcs=dataset.geom.wcs,
        height="0.4 deg",
        nbin=20,
    )
    profile = estimate(dataset, regions)
    assert np.all(np.isfinite(profile.norm))
    assert Status.DEGENERATE in profile.status
    assert not profile.success[profile.status == Status.DEGENERATE].any()
    finite = np.isfinite(profile.norm_err)
    assert finite.mean() > 0.8
    assert np.all(profile.norm_err[finite] > 1)


@pytest.mark.slow
def test_no_counts_at_all():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(gaussian_image(image, 0.1, 0.05), 0.05, sigma=0.1, background=0.01)
    dataset.counts.data = np.zeros_like(dataset.counts.data)
    profile = estimate(dataset, rings(4, 0.1), selection_optional=["ul", "errn-errp"])
    assert np.all(profile.status == Status.ZERO_COUNTS)
    assert np.all(np.isfinite(profile.norm))
    assert np.all(np.isfinite(profile.norm_ul) & (profile.norm_ul > profile.norm))
    assert np.all(np.isnan(profile.norm_err))
    assert np.abs(profile.norm).max() < 0.05


def test_bad_input():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.05)
    dataset = dataset_of(image, 0.05, sigma=0.1)
    regions = rings(3, 0.1)
    bare = dataset_of(image, 0.05, sigma=0.1)
    bare.psf = None
    with pytest.raises(ValueError, match="has no psf.*from_gauss.*FluxProfileEstimator"):
        estimate(bare, regions)
    with pytest.raises(ValueError, match="one for each of the 3 regions"):
        estimate(dataset, regions, spectral_model=[MODEL])
    with pytest.raises(ValueError, match="guard_bins must not be negative"):
        estimate(dataset, regions, guard_bins=-1)
    with pytest.raises(ValueError, match="background: 'x' is no dataset"):
        estimate(dataset, regions, background={"x": "free"})
    with pytest.raises(ValueError, match="width of a Gaussian"):
        estimate(dataset, regions, background=-0.1)
    with pytest.raises(ValueError, match="sources must be SkyModel"):
        estimate(dataset, regions, sources=[MODEL])
    with pytest.raises(ValueError, match="no parameter 'beta'"):
        estimate(dataset, regions, free_spectral_parameters=["beta"])
    with pytest.raises(ValueError, match="smoothness"):
        estimate(dataset, regions, smoothness=-1)
    with pytest.raises(ValueError, match="mask_policy"):
        estimate(dataset, regions, mask_policy="mean-exposure")
    with pytest.raises(ValueError, match="subpixels"):
        estimate(dataset, regions, subpixels=5)
    with pytest.raises(TypeError, match="ForwardFoldingProfileEstimator has no option 'nonsense'"):
        estimate(dataset, regions, nonsense=1)
    estimator = ForwardFoldingProfileEstimator(regions, spectral_model=MODEL, energy_edges=EDGES)
    response = estimator.response(dataset)
    other = dataset_of(sky_image(lambda x, y: x < 9, 0.1), 0.1, sigma=0.1)
    with pytest.raises(ValueError, match="response was made for other pixels"):
        estimator.run(other, response)
    again = response.refolded(spectral_model=MODEL.replace(amplitude=2e-12))
    with pytest.raises(ValueError, match="folded again with another spectral_model"):
        estimator.run(dataset, again)
    with pytest.raises(ValueError, match="free_index must be True or False, got 'yes'"):
        estimate(dataset, regions, free_index="yes")
    with pytest.raises(ValueError, match="sum_over_energy_groups=True leaves one energy.*'index'"):
        estimate(dataset, regions, free_index=True, sum_over_energy_groups=True)
    with pytest.raises(ValueError, match="energy group 0 leaves one energy, which does not tell"):
        estimate(
            dataset, regions, free_index=True, energy_edges=dataset.energy_axis.edges[[0, 1, 3]]
        )
    far = SkyModel(MODEL, PointSpatialModel(lon_0=90, lat_0=0, frame="galactic"), "far", free=True)
    with pytest.warns(UserWarning, match="sources: no photons of 'far' reach the pixels") as record:
        lost = estimate(dataset, regions, sources=[far])
    assert {w.filename for w in record} == {__file__}
    assert np.isnan(lost.nuisance["value"]).all() and lost.success.all()
    assert "guard_bins" in str(estimator)
    with pytest.raises(AttributeError, match="has no option 'guard_bin'"):
        estimator.guard_bin = 1
    estimator.free_index = True
    assert estimator.free_spectral_parameters == ("index",)
    estimator.free_index = False
    assert estimator.free_spectral_parameters == ()
    assert CENTER.frame.name == "galactic"
