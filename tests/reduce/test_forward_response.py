"""Responses of joint fits: frames, what a kept response is good for, sources from afar, checks."""

import contextlib

import astropy.units as u
import jax
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import (
    CENTER,
    EXPOSURE,
    MODEL,
    dataset_of,
    estimator,
    gaussian_image,
    rings,
    sky_image,
)
from numpy.testing import assert_allclose
from regions import CircleAnnulusSkyRegion, CircleSkyRegion

from jaxprof import (
    GaussianSpatialModel,
    PointSpatialModel,
    PSFMap,
    SkyModel,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.core import fit_joint
from jaxprof.likelihood.layout import joint_data
from jaxprof.reduce.joint.components import source_emissions
from jaxprof.reduce.joint.guards import guard_regions, nearest_bins
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

EDGES = [1, 10] * u.TeV
BINSZ = 0.1
POINT = PointSpatialModel(lon_0=0.3, lat_0=0.2, frame="galactic")


def disk(**options):
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.4, BINSZ)
    options = {"sigma": 0.1, "background": 1.0, "n_photons": 3000.0, **options}
    return dataset_of(gaussian_image(image, 0.1, BINSZ), BINSZ, **options)


def in_icrs(region):
    """The same circle or annulus, with its centre in another frame."""
    changed = region.copy()
    changed.center = region.center.icrs
    return changed


@pytest.mark.parametrize("mixed", [False, True])
def test_regions_in_another_frame_than_the_map(mixed):
    """Circles and annuli are the same in any frame."""
    dataset = disk()
    source = SkyModel(MODEL, POINT, free=True)
    options = {"guard_bins": 1, "sources": source}
    expected = estimator(**options).run(dataset)
    regions = rings(3, 0.2)
    changed = [in_icrs(r) if k or not mixed else r for k, r in enumerate(regions)]
    found = estimator(changed, **options).run(dataset)
    assert_allclose(found.norm, expected.norm, rtol=1e-6, atol=1e-7)
    assert_allclose(found.norm_err, expected.norm_err, rtol=1e-6)
    assert_allclose(expected.norm[:2, 0], [0.25, 0.75], atol=0.01)


CHANGED = {
    "regions": {"regions": rings(3, 0.25)},
    "spectral_model": {"spectral_model": MODEL.replace(amplitude=5e-12)},
    "sources": {"sources": [SkyModel(MODEL, POINT)]},
    "guard_bins": {"guard_bins": 1},
    "template": {"template": GaussianSpatialModel(lon_0=0.0, lat_0=0.0, sigma=0.2)},
    "oversampling": {"oversampling": 1},
    "subpixels": {"subpixels": 2},
    "mask_policy": {"mask_policy": "strict"},
    "free spectral parameters": {"free_index": True},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_kept_response_tells_a_changed_estimator(name):
    dataset = disk()
    response = estimator().response(dataset)
    with pytest.raises(ValueError, match=f"response was made with (an)?other {name}"):
        estimator(**CHANGED[name]).run(dataset, response)


def test_a_kept_response_tells_what_changed_in_place():
    dataset = disk()
    near = CircleSkyRegion(SkyCoord("0d", "0.8d", frame="galactic"), 0.1 * u.deg)
    own = estimator(guard_bins=[near])
    response = own.response(dataset)
    for name, region, size, value in (
        ("regions", own.regions[2], "outer_radius", 0.65 * u.deg),
        ("guard_bins", own.guard_bins[0], "radius", 0.12 * u.deg),
    ):
        before = getattr(region, size)
        setattr(region, size, value)
        with pytest.raises(ValueError, match=f"response was made with other {name}"):
            own.run(dataset, response)
        setattr(region, size, before)


# Twice the counts are twice the background too, which is fixed.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
def test_a_kept_response_is_good_for_equal_options_and_other_counts():
    dataset = disk()
    response = estimator(sources=[SkyModel(MODEL, POINT)]).response(dataset)
    equal = estimator(
        rings(3, 0.2),
        spectral_model=MODEL.replace(),
        sources=[SkyModel(MODEL.replace(), POINT.replace())],
    )
    dataset.counts.data = 2 * dataset.counts.data
    assert_allclose(
        equal.run(dataset, response).norm, equal.run(dataset).norm, rtol=1e-10, atol=1e-12
    )


def moved(dataset):
    geom = WcsGeom.create(
        (10, 5), binsz=BINSZ, width=2.0, frame="galactic", axes=[dataset.energy_axis]
    )
    true = geom.to_cube([dataset.energy_axis_true])
    dataset.exposure = WcsNDMap(true, dataset.exposure.data, unit="cm2 s")
    dataset.counts = WcsNDMap(geom, dataset.counts.data)
    dataset.background = WcsNDMap(geom, dataset.background.data)


def half_exposure(dataset):
    dataset.exposure.data = 0.5 * dataset.exposure.data


def wider_psf(dataset):
    dataset.psf = PSFMap.from_gauss(dataset.energy_axis_true, 0.2 * u.deg)


def masked(dataset):
    dataset.mask_fit = WcsNDMap(dataset.geom, np.ones(dataset.geom.data_shape, bool))
    dataset.mask_fit.data[0, 10, 10] = False


@pytest.mark.parametrize(
    ("change", "name"),
    [(moved, "pixels"), (half_exposure, "exposure"), (wider_psf, "psf"), (masked, "mask")],
)
def test_a_kept_response_tells_a_changed_dataset(change, name):
    dataset = disk()
    own = estimator()
    response = own.response(dataset)
    own.run(dataset, response)
    change(dataset)
    with pytest.raises(ValueError, match=f"made for other {name} than dataset 'truth'"):
        own.run(dataset, response)


def test_refolding_with_a_wider_psf_has_room_for_it():
    """A table that ends at three sigma, of twice the width, against one made so."""
    dataset = disk()
    true = dataset.energy_axis_true
    rad = np.linspace(0, 0.3, 301)
    shape = np.exp(-0.5 * (rad / 0.1) ** 2) * np.ones((3, 1))
    mass = np.trapezoid(2 * np.pi * np.deg2rad(rad) * shape, np.deg2rad(rad), axis=1)[:, None]
    dataset.psf = PSFMap(shape / mass, MapAxis.from_nodes(rad * u.deg, name="rad"), true)
    own = estimator()
    response = own.response(dataset)
    found = response.refolded(psf_scale=2.0)
    dataset.psf = PSFMap(shape / mass / 4, MapAxis.from_nodes(2 * rad * u.deg, name="rad"), true)
    expected = own.response(dataset)
    assert_allclose(
        found.datasets[0].per_component(3), expected.datasets[0].per_component(3), rtol=1e-6
    )
    # Traced, the cutouts have room for half as much again, unless told otherwise.
    traced = jax.jit(
        lambda scale: response.refolded(psf_scale=scale, widest=2.0).datasets[0].sums.sum()
    )(2.0)
    assert_allclose(traced, expected.datasets[0].sums.sum(), rtol=1e-6)


def test_refolding_does_not_change_free_spectra():
    own = estimator(free_index=True)
    response = own.response(disk())
    with pytest.raises(ValueError, match="spectral_model: this response leaves"):
        response.refolded(spectral_model=MODEL)


def test_a_source_all_over_the_sky():
    """The flux that starts on the map is its part of the sphere."""
    dataset = disk()
    sky = WcsGeom.create((0, 0), binsz=3.0, width=(360, 180), frame="galactic", proj="CAR")
    template = WcsNDMap(sky, np.ones(sky.npix_shape))
    source = SkyModel(MODEL, template, name="diffuse")
    (emission,) = source_emissions([source], dataset, 1)
    ny, nx = dataset.geom.npix_shape
    own = emission.weights[-emission.y0 :, -emission.x0 :][:ny, :nx]
    share = dataset.geom.to_image().solid_angle().to_value("sr") / (4 * np.pi)
    assert_allclose(own, share, rtol=1e-3)
    assert emission.weights.shape < (3 * ny, 3 * nx)
    profile = estimator(sources=[source], guard_bins=1).run(dataset)
    flux = float(MODEL.integral(1.0, 10.0))
    scale = 3000.0 / (flux * EXPOSURE)
    solid_angle = profile.solid_angle.to_value("sr")
    expected = flux * scale * EXPOSURE * solid_angle / (4 * np.pi)
    assert_allclose(profile.npred_other[:, 0], expected, rtol=0.1)


def broken_psf(change):
    dataset = disk()
    old = dataset.psf
    dataset.psf = PSFMap(change(old.data), old.rad_axis, old.energy_axis_true)
    return dataset


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d * np.deg2rad(1) ** 2, "integrates to 0.000305.*sr-1"),
        (lambda d: d * 5, "integrates to 5"),
        (lambda d: 0 * d, "integrates to 0 .*nor NaN"),
        (lambda d: np.nan * d, "is NaN or infinite at .*nor NaN"),
        (lambda d: np.where(d < 0.1 * d.max(), -d, d), "negative densities"),
    ],
)
def test_a_psf_that_is_none(change, match):
    with pytest.raises(ValueError, match=f"psf of dataset 'truth' .*{match}"):
        estimator().response(broken_psf(change))


@pytest.mark.slow
def test_reduced_data_fit_in_either_precision():
    dataset = disk()
    own = estimator()
    expected = own.run(dataset).norm[:, 0]
    for enabled, precision in ((False, "float32"), (True, "float64")):
        cut = contextlib.nullcontext() if enabled else pytest.warns(match="cut to float32")
        with jax.enable_x64(enabled), cut:
            data = joint_data(own.reduce(dataset), 0)
            assert data.blocks[0].templates.dtype == precision
            found = fit_joint(data)
        assert_allclose(found.values, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"oversampling": 0}, "oversampling must be an integer of one or more, got 0"),
        ({"oversampling": 2.5}, "oversampling must be an integer"),
        ({"oversampling": "x"}, "oversampling must be an integer"),
        ({"guard_bins": None}, "guard_bins must be the number"),
        ({"guard_bins": 1.0}, "guard_bins must be the number"),
        ({"guard_bins": True}, "guard_bins must be the number"),
        ({"free_spectral_parameters": 5}, "free_spectral_parameters must be a list of names"),
        ({"free_spectral_parameters": [5]}, "free_spectral_parameters must be a list of names"),
        ({"free_spectral_parameters": "beta"}, "has no parameter 'beta' to fit"),
        ({"subpixels": 2.0}, "subpixels must be 1, 2, 3 or 4"),
        ({"subpixels": True}, "subpixels must be 1, 2, 3 or 4"),
        ({"sum_over_energy_groups": "yes"}, "sum_over_energy_groups must be True or False"),
        ({"background": "loose"}, "background norm must be 'fixed', 'free' or the positive width"),
        ({"background": {"norm": -1}}, "background norm must be"),
        ({"background": {"hess": {"slope": 1}}}, "background has no 'slope'"),
        ({"background": ["free", None]}, "background norm must be"),
        ({"template": "flat"}, "template is a str"),
        ({"template": [None, "flat", None]}, r"template\[1\] is a str"),
    ],
)
def test_options_that_make_no_sense(options, match):
    with pytest.raises(ValueError, match=match):
        estimator(**options)
    ((name, value),) = options.items()
    if name != "guard_bins":  # which needs the regions that are set with it
        with pytest.raises(ValueError, match=match):
            setattr(estimator(), name, value)


def test_backgrounds_that_cannot_be_fitted():
    bare = disk()
    bare.background = None
    with pytest.raises(ValueError, match="background of dataset 'truth' cannot be fitted"):
        estimator(background="free").run(bare)
    with pytest.raises(ValueError, match="background tilt cannot be fitted with sum_over"):
        estimator(background={"tilt": 0.1}, sum_over_energy_groups=True).run(disk())


def test_guard_bins_have_the_spectrum_of_the_bin_they_continue():
    wcs = disk().geom.wcs
    ends = SkyCoord([0.4, -0.4], [0, 0], unit="deg", frame="galactic")
    line = make_orthogonal_rectangle_sky_regions(*ends, wcs, "0.5 deg", nbin=3)
    assert nearest_bins(guard_regions(line, 2), line) == [0, 0, 2, 2]
    annuli = [
        CircleAnnulusSkyRegion(CENTER, k * 0.2 * u.deg, (k + 1) * 0.2 * u.deg) for k in (1, 2, 3)
    ]
    # One circle is left inside, however many are asked for.
    assert nearest_bins(guard_regions(annuli, 2), annuli) == [0, 2, 2]
    assert nearest_bins(guard_regions(annuli[::-1], 1), annuli[::-1]) == [0, 2]
    given = [CircleSkyRegion(SkyCoord(-0.9, 0.1, unit="deg", frame="galactic"), 0.1 * u.deg)]
    assert nearest_bins(given, line) == [2]
    models = [MODEL.replace(index=index) for index in (1.0, 2.0, 3.0)]
    own = estimator(line, spectral_model=models, guard_bins=np.int64(1))
    assert [float(m.index) for m in own.response(disk()).components.models] == [1, 2, 3, 1, 3]
