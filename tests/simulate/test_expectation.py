"""Models of the sky folded to counts, and into the bins of a profile as the data are."""

import copy

import astropy.units as u
import jax
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, energy_axes, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr

from jaxprof import (
    DiskSpatialModel,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    GaussianSpatialModel,
    MapDataset,
    MapDatasetOnOff,
    PointSpatialModel,
    PowerLawSpectralModel,
    PSFMap,
    RecoPSFMap,
    SkyModel,
    WcsGeom,
    WcsNDMap,
    expected_dataset,
    predicted_counts,
)

BINSZ = 0.05
WIDTHS = [0.12, 0.1, 0.08]
EDGES = [1, 10] * u.TeV
# At the centre of a pixel of the sky image, but not of the map.
PLACE = {"lon_0": -0.095, "lat_0": -0.115, "frame": "galactic"}
X, Y = 0.095, -0.115
SOURCES = {
    "point": (PointSpatialModel(**PLACE), None),
    "gauss": (
        GaussianSpatialModel(sigma=0.15, **PLACE),
        lambda x, y: np.exp(-((x - X) ** 2 + (y - Y) ** 2) / 2 / 0.15**2),
    ),
    "disk": (DiskSpatialModel(r_0=0.2, **PLACE), lambda x, y: np.hypot(x - X, y - Y) < 0.2),
}


def truth(kind, sigma=WIDTHS, **more):
    """A dataset with a source, blurred without the package's code, and the source's counts."""
    _, brightness = SOURCES[kind]
    image = sky_image(brightness, BINSZ, point=(X, Y) if brightness is None else None)
    options = {"blur": True, "dispersion": 0.15, "gradient": 0.5, "background": 2.0, **more}
    dataset = dataset_of(image, BINSZ, sigma=sigma, **options)
    return dataset, dataset.counts.data - dataset.background.data


def sky(kind, **changes):
    return SkyModel(MODEL.replace(**changes), SOURCES[kind][0])


def disk_dataset(**more):
    """A disk of the area of the inner two of the rings, a quarter of it in the first."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, BINSZ)
    return dataset_of(gaussian_image(image, 0.1, BINSZ), BINSZ, sigma=0.1, **more)


def central_disk():
    return SkyModel(MODEL, DiskSpatialModel(lon_0=0.0, lat_0=0.0, r_0=0.2, frame="galactic"))


def on_off(dataset):
    """On-Off data of the same background, with the ratio 1 / 10, but a column without acceptance"""
    acceptance = np.ones(dataset.geom.data_shape)
    acceptance[:, :, 3] = 0.0
    return MapDatasetOnOff(
        counts=WcsNDMap(dataset.geom),
        counts_off=WcsNDMap(dataset.geom, 10 * dataset.background.data),
        acceptance=WcsNDMap(dataset.geom, acceptance),
        acceptance_off=WcsNDMap(dataset.geom, 10 * np.ones_like(acceptance)),
        exposure=dataset.exposure,
        psf=dataset.psf,
        name="on-off",
    )


# predicted counts


@pytest.mark.parametrize("kind", SOURCES)
def test_counts_of_a_source(kind):
    """Pixel by pixel, with energy dispersion and an exposure that is not the same everywhere."""
    dataset, expected = truth(kind)
    dataset.mask_fit = WcsNDMap(dataset.geom, np.zeros(dataset.geom.data_shape, bool))
    found = predicted_counts(dataset, sky(kind))
    assert found.geom is dataset.geom
    assert found.data.dtype == np.float64
    peak = expected.max(axis=(1, 2))
    limit = {"point": 6e-4}.get(kind, 2e-3)
    assert np.all(np.abs(found.data - expected).max(axis=(1, 2)) < limit * peak)
    assert_allclose(found.data.sum(axis=(1, 2)), expected.sum(axis=(1, 2)), rtol=1e-4)


def test_total_is_flux_times_exposure():
    dataset, _ = truth("gauss", dispersion=None, gradient=0.0)
    found = predicted_counts(dataset, sky("gauss", index=1.8)).data
    edges = energy_axes()[0].edges_tev()
    # The integral of a power law by hand.
    flux = 1e-12 / 0.8 * (edges[:-1] ** -0.8 - edges[1:] ** -0.8)
    assert_allclose(found.sum(axis=(1, 2)), flux * 1e15, rtol=1e-5)
    # The exposure in another unit is the same exposure; JAX's global setting does not matter.
    dataset.exposure = WcsNDMap(dataset.exposure.geom, dataset.exposure.data / 1e4, "m2 s")
    with jax.enable_x64(False):
        again = predicted_counts(dataset, sky("gauss", index=1.8))
    assert_allclose(again.data, found, rtol=1e-12, atol=1e-14 * found.max())


@pytest.mark.parametrize(
    "spatial",
    [
        PointSpatialModel(lon_0=-0.113, lat_0=0.022, frame="galactic"),
        GaussianSpatialModel(lon_0=-0.113, lat_0=0.022, sigma=0.012, frame="galactic"),
    ],
    ids=lambda model: model.tag,
)
def test_exposure_is_that_where_a_source_is_in_its_pixel(spatial):
    """On a slope the counts of a source off the centre of a pixel are those of its own place."""
    dataset, _ = truth("point", sigma=0.1, dispersion=None, gradient=0.8)
    found = predicted_counts(dataset, SkyModel(MODEL, spatial)).data.sum(axis=(1, 2))
    edges = energy_axes()[0].edges_tev()
    flux = np.asarray(MODEL.integral(edges[:-1], edges[1:]))
    ramp = 1 + 0.8 * np.linspace(0.5, 1.0, 3) * 0.113
    assert_allclose(found, flux * 1e15 * ramp, rtol=1e-4)


def test_sum_of_models():
    dataset, _ = truth("disk")
    models = [sky("point", amplitude=3e-12), sky("disk", index=3.0), sky("point")]
    parts = [predicted_counts(dataset, model).data for model in models]
    assert_allclose(parts[0], 3 * parts[2], rtol=1e-12)
    assert np.abs(parts[1] - parts[2]).max() > 0.1 * parts[2].max()
    together = predicted_counts(dataset, iter(models))
    assert_allclose(together.data, parts[0] + parts[1] + parts[2], rtol=1e-12)
    assert not predicted_counts(dataset, []).data.any()
    # Of a dataset without counts: its background tells the pixels.
    dataset.counts = None
    assert_allclose(predicted_counts(dataset, models).data, together.data, rtol=1e-12)


def test_psf_per_reconstructed_energy():
    """The PSF after the energy dispersion: each energy is that of a PSF of its own width."""
    parts = [truth("disk", sigma=width, dispersion=0.3) for width in WIDTHS]
    expected = np.stack([counts[k] for k, (_, counts) in enumerate(parts)])
    dataset = parts[0][0]
    dataset.psf = RecoPSFMap.from_gauss(energy_axes()[0], WIDTHS * u.deg)
    found = predicted_counts(dataset, sky("disk")).data
    peak = expected.max(axis=(1, 2))
    assert np.all(np.abs(found - expected).max(axis=(1, 2)) < 2e-3 * peak)
    # The other order is another thing here.
    _, other = truth("disk", dispersion=0.3)
    assert np.all(np.abs(found - other).max(axis=(1, 2))[1:] > 6e-3 * peak[1:])


def test_source_off_the_map_leaks_in():
    dataset, _ = truth("point", gradient=0.0)
    n = dataset.geom.npix_shape[1]
    outside = PointSpatialModel(lon_0=-1.1, lat_0=0.0, frame="galactic")
    found = predicted_counts(dataset, SkyModel(MODEL, outside)).data
    total = predicted_counts(dataset, sky("point")).data.sum(axis=(1, 2))
    share = found.sum(axis=(1, 2)) / total
    # A tenth of a degree beyond the edge, a bit less than one to one and a quarter sigma of a
    # Gaussian with a width of 0.12 to 0.08 deg, is a sixth to a tenth.
    assert np.all((share > 0.1) & (share < 0.21))
    assert found[..., n // 2 :].sum() > 0.999 * found.sum()
    far = PointSpatialModel(lon_0=30.0, lat_0=0.0, frame="galactic")
    assert not predicted_counts(dataset, SkyModel(MODEL, far)).data.any()


# expected datasets


@pytest.mark.parametrize("phi", [0.0, 90.0])
@pytest.mark.parametrize("width", [0.05, 0.25])
def test_sources_smaller_than_a_pixel(width, phi):
    """Anywhere in its pixel, an elongated Gaussian behind a Gaussian PSF is a Gaussian."""
    sky = WcsGeom.create(npix=15, binsz=0.1, frame="galactic", axes=[energy_axes(1)[0]])
    true = sky.to_image().to_cube([energy_axes(1)[1]])
    ones = np.ones(sky.data_shape)
    dataset = MapDataset(
        counts=WcsNDMap(sky, ones),
        exposure=WcsNDMap(true, 1e15 * ones, unit="cm2 s"),
        psf=PSFMap.from_gauss(true.axes[0], 0.05 * u.deg),
    )
    model = GaussianSpatialModel(
        lon_0=0.041, lat_0=-0.023, sigma=0.1 * width, e=0.8, phi=phi, frame="galactic"
    )
    found = predicted_counts(dataset, SkyModel(MODEL, model)).data[0]
    minor = width * np.sqrt(1 - 0.8**2)
    sizes = (minor, width) if phi == 0 else (width, minor)
    edges = np.arange(16) - 7.5
    x, y = (
        np.diff(ndtr((edges - middle) / np.hypot(0.5, size)))
        for middle, size in zip((-0.41, -0.23), sizes, strict=True)
    )
    expected = np.outer(y, x)
    assert_allclose(found / found.sum(), expected, atol=5e-4 * expected.max())


def test_emission_from_off_the_map_reaches_as_far_as_the_psf():
    """The counts in the same pixels of a map of any size."""

    def counts(width, model):
        sky = WcsGeom.create(npix=width, binsz=0.1, frame="galactic", axes=[energy_axes(1)[0]])
        ones = np.ones(sky.data_shape)
        true = sky.to_image().to_cube([energy_axes(1)[1]])
        dataset = MapDataset(
            counts=WcsNDMap(sky, ones),
            exposure=WcsNDMap(true, 1e15 * ones, unit="cm2 s"),
            psf=PSFMap.from_gauss(true.axes[0], 0.5 * u.deg),
        )
        return predicted_counts(dataset, SkyModel(MODEL, model)).data[0]

    for model in (
        PointSpatialModel(lon_0=1.2, lat_0=0.0, frame="galactic"),
        DiskSpatialModel(lon_0=-1.5, lat_0=0.3, r_0=0.3, frame="galactic"),
    ):
        small, large = counts(14, model), counts(60, model)
        assert_allclose(small, large[23:37, 23:37], rtol=1e-9, atol=1e-12 * large.max())
        assert small.min() > 0


def test_expected_dataset():
    dataset, _ = truth("disk")
    dataset.npred_sources = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 0.25))
    dataset.counts.data = np.arange(dataset.counts.data.size).reshape(dataset.geom.data_shape)
    dataset.mask_safe = WcsNDMap(dataset.geom, np.ones(dataset.geom.data_shape, bool))
    before = copy.deepcopy(dataset)
    expected = expected_dataset(dataset, sky("disk"))
    assert type(expected) is MapDataset
    predicted = predicted_counts(dataset, sky("disk")).data
    assert predicted.max() > 1
    assert_allclose(expected.counts.data, 2.0 + 0.25 + predicted, rtol=1e-14)
    assert expected.name == "truth"
    for part in ("background", "npred_sources", "exposure", "psf", "edisp", "mask_safe"):
        assert getattr(expected, part) is getattr(dataset, part) is not None
    assert expected.mask_fit is None
    # The original has kept its counts, and they do not enter.
    assert_array_equal(dataset.counts.data, before.counts.data)
    assert_array_equal(dataset.background.data, before.background.data)
    dataset.counts = None
    again = expected_dataset(dataset, sky("disk"))
    assert_array_equal(again.counts.data, expected.counts.data)
    assert dataset.counts is None
    nothing = expected_dataset(dataset, [])
    assert_allclose(nothing.counts.data, 2.25)


@pytest.mark.slow
def test_a_model_in_the_bins_of_both_estimators():
    """Forward-folded it has the fractions of the disk, one by one those of the blurred disk."""
    dataset = disk_dataset(background=0.5)
    blurred = dataset.counts.data - dataset.background.data
    dataset.counts.data = np.zeros_like(blurred)
    expected = expected_dataset(dataset, central_disk())
    options = {"regions": rings(4, 0.1), "spectral_model": MODEL, "energy_edges": EDGES}
    joint = ForwardFoldingProfileEstimator(**options, guard_bins=1).run(expected)
    assert_allclose(joint.norm[:, 0], [0.25, 0.75, 0, 0], atol=0.005)
    assert np.all(joint.norm_err > 0)
    separate = FluxProfileEstimator(**options).run(expected)
    dataset.counts.data = blurred + dataset.background.data
    assert_allclose(separate.norm, FluxProfileEstimator(**options).run(dataset).norm, atol=2e-3)
    assert np.abs(separate.norm - joint.norm).max() > 0.2


@pytest.mark.slow
def test_on_off():
    dataset = disk_dataset(background=2.0)
    data = on_off(dataset)
    predicted = predicted_counts(dataset, central_disk()).data
    expected = expected_dataset(data, central_disk())
    assert type(expected) is MapDatasetOnOff
    assert expected.name == "on-off"
    counts = predicted + 2.0
    counts[:, :, 3] = predicted[:, :, 3]  # no acceptance, no background
    assert_allclose(expected.counts.data, counts, rtol=1e-12)
    assert expected.counts_off is data.counts_off
    assert not data.counts.data.any()
    options = {"regions": rings(4, 0.1), "spectral_model": MODEL, "energy_edges": EDGES}
    joint = ForwardFoldingProfileEstimator(**options, likelihood="region").run(expected)
    assert_allclose(joint.norm[:, 0], [0.25, 0.75, 0, 0], atol=0.005)
    # Rounding below zero of Off maps does not become negative counts.
    data.counts_off.data[0, 5, 5] = -1e-6
    counts[0, 5, 5] = predicted[0, 5, 5]
    found = expected_dataset(data, central_disk()).counts.data
    assert_allclose(found, counts, rtol=1e-12)


# errors


def test_bad_input():
    dataset, _ = truth("disk")
    source = sky("disk")
    for function in (predicted_counts, expected_dataset):
        with pytest.raises(ValueError, match="models is a PowerLawSpectralModel; give a SkyModel"):
            function(dataset, PowerLawSpectralModel())
        with pytest.raises(ValueError, match="models is a str; give a SkyModel"):
            function(dataset, "crab")
        with pytest.raises(ValueError, match=r"models\[1\] is a DiskSpatialModel; give a SkyModel"):
            function(dataset, [source, source.spatial_model])
        with pytest.raises(ValueError, match="dataset is a list; give a MapDataset"):
            function([dataset], source)
    bare = copy.copy(dataset)
    bare.psf = None
    with pytest.raises(ValueError, match="'truth' has no psf.*from_gauss"):
        predicted_counts(bare, source)
    bare = copy.copy(dataset)
    bare.exposure = None
    with pytest.raises(ValueError, match="'truth' has no exposure"):
        predicted_counts(bare, source)
    with pytest.raises(ValueError, match="^models: 'far': spatial_model .*frame 'moon'"):
        predicted_counts(dataset, SkyModel(MODEL, PointSpatialModel(frame="moon"), name="far"))
    with pytest.raises(ValueError, match="counts of dataset 'truth' .* negative"):
        expected_dataset(dataset, sky("disk", amplitude=-1e-9))
    assert predicted_counts(dataset, sky("disk", amplitude=-1e-9)).data.min() < -1
