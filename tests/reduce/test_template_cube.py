"""Templates with a brightness for each energy, against direct sums over pixels and energies."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose, assert_array_equal
from regions import RectangleSkyRegion
from scipy.ndimage import gaussian_filter

from jaxprof import (
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    LogParabolaSpectralModel,
    MapAxis,
    MapDataset,
    PowerLawSpectralModel,
    PSFMap,
    SkyModel,
    TemplateSpatialModel,
    WcsGeom,
    WcsNDMap,
    expected_dataset,
    predicted_counts,
)
from jaxprof.sky.template_cube import BinMeans, TemplateCube

BINSZ, NPIX, FINE, SIGMA = 0.1, 24, 4, 0.12
MODEL = PowerLawSpectralModel(index=2.2, amplitude=1e-12)
ENERGIES = np.geomspace(0.8, 14, 5)
EXPOSURE = 1e13 * np.array([1.0, 2.0, 3.0])


def axes(n=3):
    bounds = ("1 TeV", "10 TeV", n)
    return [MapAxis.from_energy_bounds(*bounds, name=name) for name in ("energy", "energy_true")]


def geom(**more):
    return WcsGeom.create((0, 0), binsz=BINSZ, npix=NPIX, frame="galactic", **more)


def dataset(n=3):
    reco, true = axes(n)
    sky = geom(axes=[reco])
    exposure = np.resize(EXPOSURE, n)[:, None, None] * np.ones((NPIX, NPIX))
    return MapDataset(
        counts=WcsNDMap(sky),
        exposure=WcsNDMap(sky.to_cube([true]), exposure, "cm2 s"),
        psf=PSFMap.from_gauss(true, SIGMA * u.deg),
        name="cube",
    )


def blob(sigma, lon, lat):
    coord = geom().upsample(FINE).get_coord()
    x, y = coord.l.wrap_at("180d").deg, coord.b.deg
    return np.exp(-0.5 * ((x - lon) ** 2 + (y - lat) ** 2) / sigma**2) / sigma**2


def node_axis(energies=ENERGIES):
    return MapAxis.from_nodes(energies, name="energy_true", unit="TeV", interp="log")


def sky_cube(energies=ENERGIES):
    """A soft wide source and a hard narrow one, as intensities: at 10 TeV the hard one wins."""
    planes = [
        e**-2.5 * (blob(0.35, 0.2, 0.1) + 1e-3) + 0.1 * e**-1.0 * blob(0.25, -0.3, -0.3)
        for e in energies
    ]
    fine = geom().upsample(FINE).to_cube([node_axis(energies)])
    return WcsNDMap(fine, np.stack(planes), "cm-2 s-1 TeV-1 sr-1")


def direct_brightness(planes, energies, energy):
    """Between two nodes each pixel is a power law in energy."""
    log = np.log(energies)
    k = int(np.clip(np.searchsorted(log, np.log(energy)) - 1, 0, len(log) - 2))
    slope = np.log(planes[k + 1] / planes[k]) / (log[k + 1] - log[k])
    return planes[k] * (energy / energies[k]) ** slope


def direct_counts(cube, model, exposure=EXPOSURE):
    """Sums over 201 energies a bin, and a Gaussian filter on the fine pixels."""
    solid_angle = cube.geom.to_image().solid_angle().to_value("sr")
    edges = axes(len(exposure))[1].edges_tev()
    found = []
    for low, high, seen in zip(edges, edges[1:], exposure, strict=False):
        energies = np.geomspace(low, high, 201)
        weights = np.asarray(model(energies)) * energies * np.log(high / low) / 200
        weights[[0, -1]] /= 2
        image = 0.0
        for energy, weight in zip(energies, weights, strict=True):
            plane = direct_brightness(cube.data, ENERGIES, energy) * solid_angle
            image = image + weight * plane / plane.sum()
        image = gaussian_filter(image, SIGMA / BINSZ * FINE, mode="constant", truncate=8)
        found.append(seen * image.reshape(NPIX, FINE, NPIX, FINE).sum(axis=(1, 3)))
    return np.stack(found)


def errors(found, expected):
    """Largest deviation in each energy, in parts of the peak."""
    return np.abs(found - expected).max(axis=(1, 2)) / expected.max(axis=(1, 2))


@pytest.mark.parametrize("model", [MODEL, LogParabolaSpectralModel(alpha=1.5, beta=0.4)])
def test_counts_against_a_direct_sum(model):
    cube = sky_cube()
    expected = direct_counts(cube, model)
    data = dataset()
    found = predicted_counts(data, SkyModel(model, cube)).data
    assert_allclose(found.sum(axis=(1, 2)), expected.sum(axis=(1, 2)), rtol=2e-3)
    assert np.all(errors(found, expected) < 0.01)
    # The sum of the nodes has the morphology of the lowest energies at all of them.
    image = WcsNDMap(cube.geom.to_image(), cube.data.sum(axis=0))
    summed = predicted_counts(data, SkyModel(model, image)).data
    assert errors(summed, expected)[-1] > 0.3


def test_only_ratios_within_an_energy_count():
    """The flux is that of the spectral model, whatever the level of the cube at each energy."""
    cube, data = sky_cube(), dataset()
    expected = predicted_counts(data, SkyModel(MODEL, cube)).data
    scaled = cube.copy(data=cube.data * np.array([1, 1e-9, 7, 1e12, 0.3])[:, None, None], unit="")
    assert_allclose(predicted_counts(data, SkyModel(MODEL, scaled)).data, expected, rtol=1e-9)
    doubled = SkyModel(MODEL.replace(amplitude=2e-12), cube)
    assert_allclose(predicted_counts(data, doubled).data, 2 * expected, rtol=1e-9)
    negative = SkyModel(MODEL.replace(amplitude=-1e-12), cube)
    assert_allclose(predicted_counts(data, negative).data, -expected, rtol=1e-9)


@pytest.mark.parametrize("energies", [ENERGIES, [2.0, 3.0], [100.0, 200.0]])
def test_a_cube_that_does_not_change_is_its_image(energies):
    data = dataset()
    image = WcsNDMap(geom().upsample(FINE), blob(0.3, 0.1, 0.2))
    planes = np.stack([image.data * e**-2.7 for e in energies])
    cube = WcsNDMap(image.geom.to_cube([node_axis(energies)]), planes)
    found = predicted_counts(data, SkyModel(MODEL, cube)).data
    assert_allclose(found, predicted_counts(data, SkyModel(MODEL, image)).data, rtol=1e-9)


def test_cubes_larger_than_the_map():
    """Part of the flux starts off the map, another part at each energy."""
    cube = sky_cube()
    data = dataset()
    rows = slice(6, 18)
    wcs = data.geom.wcs.slice((rows, rows))
    small = MapDataset(
        counts=WcsNDMap(WcsGeom(wcs, (12, 12), data.geom.axes)),
        exposure=WcsNDMap(
            WcsGeom(wcs, (12, 12), data.exposure.geom.axes),
            data.exposure.data[:, rows, rows],
            "cm2 s",
        ),
        psf=data.psf,
    )
    found = predicted_counts(small, SkyModel(MODEL, cube)).data
    expected = predicted_counts(data, SkyModel(MODEL, cube)).data[:, rows, rows]
    assert_allclose(found, expected, atol=2e-3 * expected.max())
    assert np.all(errors(found, direct_counts(cube, MODEL)[:, rows, rows]) < 0.01)


def boxes():
    center = SkyCoord([0.6, -0.6], [0, 0], unit="deg", frame="galactic")
    return [RectangleSkyRegion(c, 1.2 * u.deg, 2.4 * u.deg) for c in center]


def test_estimators_take_cubes():
    """As models of the dataset and as sources they leave nothing over."""
    cube = SkyModel(MODEL.replace(amplitude=1e-11), sky_cube(), name="diffuse")
    data = expected_dataset(dataset(), cube)
    assert data.counts.data.sum() > 50
    options = {"spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV}
    # This dataset has no background but the cube.
    with pytest.warns(UserWarning, match="bins 0 and 1 .*lie where nothing is expected"):
        bright = FluxProfileEstimator(boxes(), **options).run(data)
    assert np.all(bright.norm > 1)
    data.models = [cube]
    assert_allclose(FluxProfileEstimator(boxes(), **options).run(data).norm, 0, atol=1e-6)
    data.models = []
    estimator = ForwardFoldingProfileEstimator(boxes(), **options, sources=[cube])
    assert_allclose(estimator.run(data).norm, 0, atol=1e-6)
    # A response that is kept knows its cube.
    response = estimator.response(data)
    estimator.sources = [SkyModel(MODEL, sky_cube(), name="diffuse")]
    with pytest.raises(ValueError, match="other sources"):
        estimator.run(data, response)
    planes = sky_cube()
    planes.data[2] *= 1.0 + blob(0.3, 0, 0)
    estimator.sources = [SkyModel(cube.spectral_model, planes, name="diffuse")]
    with pytest.raises(ValueError, match="other sources"):
        estimator.run(data, response)


@pytest.mark.slow
def test_templates_of_bins():
    """Bins with the flux of their spectrum, and a morphology that changes with the energy."""
    center = {"lat": 0.1, "far": 0.6}
    widths = np.geomspace(0.5, 0.08, len(ENERGIES))
    planes = [
        blob(w, center["far"], center["lat"]) + blob(w, -center["far"], center["lat"])
        for w in widths
    ]
    cube = WcsNDMap(geom().upsample(FINE).to_cube([node_axis()]), np.stack(planes))
    data = expected_dataset(dataset(), SkyModel(MODEL.replace(amplitude=4e-10), cube))
    data.background = WcsNDMap(data.geom, np.full(data.geom.data_shape, 0.1))
    data.counts.data = data.counts.data + 0.1
    options = {"spectral_model": MODEL.replace(amplitude=2e-10), "energy_edges": [1, 10] * u.TeV}
    right = {}
    for name, template in {
        "map": cube,
        "model": TemplateSpatialModel(cube),
        "list": [cube, TemplateSpatialModel(cube)],
        "image": WcsNDMap(cube.geom.to_image(), cube.data.sum(axis=0)),
    }.items():
        profile = ForwardFoldingProfileEstimator(boxes(), **options, template=template).run(data)
        right[name] = profile
    for name in ("map", "model", "list"):
        assert_allclose(right[name].norm, 1, rtol=2e-3)
        assert right[name].goodness["stat"][0] < 0.02 * right["image"].goodness["stat"][0]
    assert_array_equal(right["map"].norm, right["list"].norm)
    with pytest.raises(ValueError, match="template is a list of 3, and there are 2 regions"):
        ForwardFoldingProfileEstimator(boxes(), **options, template=[cube] * 3).run(data)
    # Where a cube is zero at some energy there is nothing that could have the bin's flux.
    cube.data[-3:, :, : cube.data.shape[2] // 2 + 8] = 0.0
    with pytest.raises(ValueError, match="template is zero at the true energy bin 2"):
        ForwardFoldingProfileEstimator(boxes(), **options, template=cube).run(data)


# between energies


def test_between_nodes():
    planes = np.array([[[1.0, 4.0, 0.0]], [[100.0, 1.0, 6.0]]])
    cube = TemplateCube.from_data(planes, np.array([1.0, 100.0]), np.ones((1, 3)))
    assert_allclose(cube.planes.sum(axis=(1, 2)), 1, rtol=1e-14)
    # At 10, the middle in log energy: geometric means, and half where one of them is zero.
    a, b = planes[0, 0] / 5, planes[1, 0] / 107
    expected = [np.sqrt(a[0] * b[0]), np.sqrt(a[1] * b[1]), b[2] / 2]
    assert_allclose(cube.between(np.log(10.0))[0], expected, rtol=1e-12)
    assert_allclose(cube.at(np.log(10.0))[0], expected / np.sum(expected), rtol=1e-12)
    for energy, plane in ((1.0, a), (0.01, a), (100.0, b), (1e6, b)):
        assert_allclose(cube.at(np.log(energy))[0], plane, rtol=1e-12)
    assert_array_equal(
        cube.between(np.log(10.0), (slice(0, 1), slice(1, 3)))[0], cube.between(np.log(10.0))[0, 1:]
    )


@pytest.mark.parametrize("edges", [[1.0, 1.3, 2.0, 9.0], [0.1, 0.5], [3.0, 3.1, 3.2], [0.5, 50.0]])
def test_means_over_bins(edges):
    rng = np.random.default_rng(3)
    planes = rng.uniform(0.5, 2.0, (len(ENERGIES), 2, 3))
    solid_angle = rng.uniform(1, 2, (2, 3))
    model = LogParabolaSpectralModel(alpha=1.8, beta=0.3)
    cube = TemplateCube.from_data(planes, ENERGIES, solid_angle)
    edges = np.array(edges)
    flux = np.asarray(model.integral(edges[:-1], edges[1:]))
    found = BinMeans.over(cube, edges, model, flux)
    everything = (slice(None), slice(None))
    total = 0.0
    for k, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        energies = np.geomspace(low, high, 20_001)
        weights = np.asarray(model(energies)) * energies
        weights[[0, -1]] /= 2
        mean = 0.0
        clipped = np.clip(energies, ENERGIES[0], ENERGIES[-1])
        logs = np.log(planes / np.sum(planes * solid_angle, axis=(1, 2), keepdims=True))
        each = np.empty((len(energies), 2, 3))
        for i, j in np.ndindex(2, 3):
            each[:, i, j] = np.exp(np.interp(np.log(clipped), np.log(ENERGIES), logs[:, i, j]))
        each /= np.sum(each * solid_angle, axis=(1, 2), keepdims=True)
        mean = np.tensordot(weights / weights.sum(), each, 1)
        assert_allclose(found.plane(k, everything), mean, rtol=2e-5)
        total = total + mean * flux[k] / flux.sum()
    assert_allclose(found.image, total, rtol=2e-5)
    assert_allclose(np.sum(found.image * solid_angle), 1, rtol=1e-12)


# models


def test_brightness_at_an_energy():
    cube = sky_cube()
    model = TemplateSpatialModel(cube)
    assert model.is_energy_dependent
    assert repr(model) == "TemplateSpatialModel(96 x 96 pixels x 5 energies, frame='galactic')"
    solid_angle = cube.geom.to_image().solid_angle().to_value("sr")
    at = cube.geom.to_image().get_coord()[40:50, 30:33]
    lon, lat = at.l, at.b
    for energy in (ENERGIES[1], 2.5, 8.0):
        plane = direct_brightness(cube.data, ENERGIES, energy)
        expected = (plane / np.sum(plane * solid_angle))[40:50, 30:33]
        assert_allclose(model(lon, lat, energy * u.TeV).to_value("sr-1"), expected, rtol=1e-6)
        assert_allclose(model(lon.deg, lat.deg, energy), expected, rtol=1e-6)
    summed = cube.data.sum(axis=0)
    expected = (summed / np.sum(summed * solid_angle))[40:50, 30:33]
    assert_allclose(model(lon.deg, lat.deg), expected, rtol=1e-6)
    for wrong in (-1.0, [1.0, 2.0], 0 * u.TeV, np.nan, 1 * u.s):
        with pytest.raises(ValueError, match="energy"):
            model(0.0, 0.0, wrong)
    image = TemplateSpatialModel(WcsNDMap(geom(), 1.0))
    assert not image.is_energy_dependent
    assert image(0.0, 0.0, 3 * u.TeV) == image(0.0, 0.0)


def test_cubes_that_are_none():
    cube = sky_cube()
    # One energy, or reconstructed energies, which photons of many true ones share: an image.
    for axis, data in (
        (MapAxis.from_edges([1, 2], name="energy_true", unit="TeV"), cube.data[:1]),
        (MapAxis.from_edges([1, 2, 3], name="energy", unit="TeV"), cube.data[:2]),
    ):
        model = TemplateSpatialModel(WcsNDMap(cube.geom.to_cube([axis]), data))
        assert model.cube is None and not model.is_energy_dependent
    cube.data[3] = 0.0
    with pytest.raises(ValueError, match="zero everywhere at 1 of its 5 energies, the first 6.8"):
        TemplateSpatialModel(cube)
    axis = MapAxis.from_edges([1, 2, 3], name="energy_true", unit="deg")
    with pytest.raises(ValueError, match="energy_true.*not an energy"):
        TemplateSpatialModel(WcsNDMap(cube.geom.to_cube([axis]), cube.data[:2]))


def test_gammapy_agrees(tmp_path):
    """With bins and nodes as fine as gammapy needs, which takes the middle of each bin."""
    pytest.importorskip("gammapy")
    import gammapy.modeling.models as gm
    from gammapy.datasets import MapDataset as GammapyDataset
    from gammapy.maps import Map
    from gammapy.maps import MapAxis as GammapyAxis
    from gammapy.maps import WcsGeom as GammapyGeom

    energies = np.geomspace(0.8, 14, 16)
    cube = sky_cube(energies)
    data = dataset(12)
    data.write(tmp_path / "d.fits")
    theirs = GammapyDataset.read(tmp_path / "d.fits")
    axis = GammapyAxis.from_nodes(energies * u.TeV, name="energy_true", interp="log")
    shape = (NPIX * FINE, NPIX * FINE)
    options = {"binsz": BINSZ / FINE, "npix": shape, "frame": "galactic", "proj": "CAR"}
    fine = GammapyGeom.create(skydir=(0, 0), axes=[axis], **options)
    template = gm.TemplateSpatialModel(Map.from_geom(fine, data=cube.data, unit="sr-1"))
    spectrum = gm.PowerLawSpectralModel(index=2.2, amplitude="1e-12 cm-2 s-1 TeV-1")
    theirs.models = [gm.SkyModel(spectrum, template, name="cube")]
    expected = theirs.npred_signal().data
    found = predicted_counts(data, SkyModel(MODEL, cube)).data
    assert_allclose(found.sum(axis=(1, 2)), expected.sum(axis=(1, 2)), rtol=3e-3)
    assert np.all(errors(found, expected) < 0.012)
