"""Parts, sums, copies and simulated counts of datasets, under gammapy's names."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.testing import assert_allclose
from regions import RectangleSkyRegion

from jaxprof import (
    FluxProfileEstimator,
    GaussianSpatialModel,
    MapAxis,
    MapDataset,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    PSFMap,
    SkyModel,
    WcsGeom,
    WcsNDMap,
    make_concentric_annulus_sky_regions,
    predicted_counts,
)
from jaxprof.irf import EDispKernelMap

RECO = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 4)
TRUE = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", 6, name="energy_true")
GEOM = WcsGeom.create((0, 0), binsz=0.1, width=(3, 2), frame="galactic", axes=[RECO])
SPATIAL = GaussianSpatialModel(lon_0="0 deg", lat_0="0 deg", sigma="0.2 deg", frame="galactic")
CENTRE = SkyCoord(0, 0, unit="deg", frame="galactic")


def observation(seed, time=1.0, sigma="0.1 deg", threshold=0, off=False, geom=GEOM):
    """A dataset with a mask that begins at an energy."""
    generator = np.random.default_rng(seed)
    shape = geom.data_shape
    mask = np.ones(shape, bool)
    mask[:threshold] = False
    parts = {
        "counts": WcsNDMap(geom, generator.poisson(3.0 * time, shape).astype(float)),
        "exposure": WcsNDMap(geom.to_cube([TRUE]), 1e13 * time, "cm2 s"),
        "edisp": EDispKernelMap.from_gauss(RECO, TRUE, sigma=0.1 + 0.02 * seed, bias=0.0),
        "psf": PSFMap.from_gauss(TRUE, sigma=sigma),
        "mask_safe": WcsNDMap(geom, mask),
        "name": f"run-{seed}",
    }
    if off:
        return MapDatasetOnOff(
            **parts,
            counts_off=WcsNDMap(geom, generator.poisson(5.0, shape).astype(float)),
            acceptance=WcsNDMap(geom, 1.0),
            acceptance_off=WcsNDMap(geom, generator.uniform(2, 5, shape)),
        )
    return MapDataset(**parts, background=WcsNDMap(geom, 2.0 * time))


def test_copy_has_maps_of_its_own():
    dataset = observation(1)
    copied = dataset.copy(name="copy")
    copied.counts.data[:] = -1
    copied.models = [SkyModel(PowerLawSpectralModel(), SPATIAL, name="s")]
    assert copied.name == "copy" and dataset.counts.data.min() >= 0 and not dataset.models
    assert dataset.copy().name not in ("run-1", "copy")
    assert copied.mask.sum() == dataset.mask.sum()
    assert not any(
        np.shares_memory(getattr(copied, part).data, getattr(dataset, part).data)
        for part in ("psf", "edisp", "counts", "background", "exposure", "mask_safe")
    )


def test_copy_of_on_off_data_keeps_its_class():
    copied = observation(1, off=True).copy()
    assert isinstance(copied, MapDatasetOnOff) and copied.counts_off is not None


def test_cutout_gives_the_profile_of_the_whole():
    dataset = observation(3)
    regions = make_concentric_annulus_sky_regions(CENTRE, "0.8 deg", nbin=4)
    estimator = FluxProfileEstimator(regions, selection_optional=["ul"])
    whole = estimator.run(dataset)
    part = dataset.cutout(CENTRE, "1.8 deg", name="part")
    assert part.geom.npix_shape == (18, 18) and part.name == "part"
    np.testing.assert_allclose(estimator.run(part).norm_ul, whole.norm_ul, rtol=1e-10)


def test_cutout_of_a_coarse_exposure_is_interpolated_as_before():
    dataset = observation(3)
    coarse = WcsGeom.create((0, 0), binsz=0.5, width=(4, 3), frame="galactic", axes=[TRUE])
    values = 1e13 * (1 + 0.1 * np.arange(coarse.npix_shape[1]))
    dataset.exposure = WcsNDMap(coarse, values, "cm2 s")
    part = dataset.cutout(CENTRE, (1.2, 0.8))
    geom = part.geom.to_image()
    np.testing.assert_allclose(
        part.exposure.interp_to_geom(geom).data, dataset.exposure.interp_to_geom(geom).data
    )
    part.check()


def test_cutout_keeps_an_exposure_of_the_whole_sky_across_its_seam():
    geom = WcsGeom.create((180, 0), binsz=0.5, width=(20, 10), frame="galactic", axes=[RECO])
    sky = WcsGeom.create((0, 0), binsz=2, frame="galactic", axes=[TRUE])
    dataset = MapDataset(counts=WcsNDMap(geom), exposure=WcsNDMap(sky, 1e13, "cm2 s"))
    part = dataset.cutout(SkyCoord(180, 0, unit="deg", frame="galactic"), (8, 6))
    part.check()
    np.testing.assert_allclose(part.exposure.interp_to_geom(part.geom.to_image()).data, 1e13)


def test_slice_by_energy_gives_the_profile_of_the_whole():
    dataset = observation(3)
    regions = make_concentric_annulus_sky_regions(CENTRE, "0.8 deg", nbin=3)
    edges = RECO.edges[[1, 2, 3]]
    estimator = FluxProfileEstimator(regions, energy_edges=edges)
    part = dataset.slice_by_energy(edges[0], edges[-1])
    assert part.geom.data_shape == (2, 20, 30) and part.energy_axis_true.is_allclose(TRUE)
    np.testing.assert_allclose(estimator.run(part).norm, estimator.run(dataset).norm, rtol=1e-12)
    assert dataset.slice_by_energy("2 TeV").energy_axis.nbin == 3
    with pytest.raises(ValueError, match="energy_min=.*no energy bin"):
        dataset.slice_by_energy("2 TeV", "2.1 TeV")
    for bad in ("3 deg", 3, "-3 TeV", np.inf * u.TeV, [1, 2] * u.TeV):
        with pytest.raises(ValueError, match="energy_max is .*give "):
            dataset.slice_by_energy("1 TeV", bad)


def test_stack_sums_what_the_masks_leave():
    first, second = observation(1, threshold=1), observation(2, time=3.0, threshold=2)
    total = MapDataset.create(GEOM, TRUE, name="total")
    assert not total.mask.any()
    for each in (first, second):
        total.stack(each)
    counts = first.counts.data * first.mask + second.counts.data * second.mask
    np.testing.assert_array_equal(total.counts.data, counts)
    np.testing.assert_allclose(
        total.background.data, 2.0 * first.mask + 6.0 * second.mask, rtol=1e-14
    )
    np.testing.assert_allclose(total.exposure.data, 4e13, rtol=1e-14)
    np.testing.assert_array_equal(total.mask, first.mask | second.mask)


def test_stack_predicts_the_sum_of_the_predictions():
    """A matrix of the energy dispersion has the masks in it."""
    first, second = observation(1, threshold=1), observation(2, time=3.0, threshold=2)
    model = SkyModel(PowerLawSpectralModel(index=2.5), SPATIAL, name="source")
    expected = sum(each.mask * predicted_counts(each, model).data for each in (first, second))
    first.stack(second)
    np.testing.assert_allclose(predicted_counts(first, model).data, expected, rtol=1e-9, atol=1e-12)


def test_stack_averages_the_psf_by_exposure():
    first, second = observation(1), observation(2, time=3.0, sigma="0.2 deg")
    second.psf = PSFMap.from_gauss(TRUE, sigma="0.2 deg", rad_axis=first.psf.rad_axis)
    average = 0.25 * first.psf.data + 0.75 * second.psf.data
    first.stack(second)
    np.testing.assert_allclose(first.psf.data, average, rtol=1e-12)
    np.testing.assert_allclose(first.psf.exposure.to_value("cm2 s"), 4e13)


def psf_on_grid(sigma, lon, exposure=None):
    """The PSF of one run, on a grid of 2 x 3 pixels of half a degree around a longitude."""
    rad = MapAxis.from_nodes(np.linspace(0, 1, 101) * u.deg, name="rad")
    grid = WcsGeom.create((lon, 0), binsz=0.5, npix=(2, 3), frame="galactic")
    data = PSFMap.from_gauss(TRUE, sigma, rad).data
    if exposure is not None:
        exposure = np.full((6, 3, 2), exposure) * u.Unit("cm2 s")
    return PSFMap(
        np.tile(data[..., np.newaxis, np.newaxis], (3, 2)), rad, TRUE, grid, exposure=exposure
    )


@pytest.mark.parametrize("own_exposure", [False, True])
def test_stack_keeps_the_psf_of_each_part_of_the_field(own_exposure):
    """Runs on neighbouring fields: neither has a response where only the other one looked."""
    total = MapDataset.create(GEOM, TRUE)
    for seed, (lon, time, sigma) in enumerate([(-0.75, 1, "0.1 deg"), (0.75, 3, "0.2 deg")]):
        run = observation(seed, time=time)
        run.psf = psf_on_grid(sigma, lon, 1e13 * time if own_exposure else None)
        position = SkyCoord(lon, 0, unit="deg", frame="galactic")
        total.stack(run.cutout(position, (1.5, 2.0)))
    for lon, sigma in ((1.2, 0.2), (0.3, 0.2), (-0.3, 0.1), (-1.2, 0.1)):
        position = SkyCoord(lon, 0.6, unit="deg", frame="galactic")
        radius = total.psf.containment_radius(0.393469, "2 TeV", position)
        assert radius.to_value("deg") == pytest.approx(sigma, rel=1e-3)


def test_stack_of_overlapping_fields_averages_where_both_are():
    wide, narrow = observation(1), observation(2, time=3.0)
    wide.psf, narrow.psf = psf_on_grid("0.1 deg", 0), psf_on_grid("0.2 deg", 1)
    both = 0.25 * wide.psf.data[..., 0, 0] + 0.75 * narrow.psf.data[..., 0, 0]
    only = wide.psf.data[..., 0, 0]
    wide.stack(narrow.cutout(SkyCoord(1, 0, unit="deg", frame="galactic"), (1.0, 2.0)))
    for lon, density in ((-1.2, only), (0.2, only), (0.8, both), (1.2, both)):
        position = SkyCoord(lon, 0.1, unit="deg", frame="galactic")
        np.testing.assert_allclose(wide.psf.get_profile(position), density, rtol=1e-12)


def test_stack_of_one_response_that_datasets_share():
    """Their masks are in the matrix, and both exposures count in the next average."""
    first, second, third = observation(1), observation(2), observation(3, time=2.0)
    shared = EDispKernelMap.from_gauss(RECO, TRUE, sigma=0.1, bias=0.0)
    exposure = np.full(6, 1e13) * u.Unit("cm2 s")
    for each in (first, second, third):
        each.edisp = EDispKernelMap(shared.data, RECO, TRUE, exposure=exposure)
        each.psf = PSFMap(*psf_parts(third.psf), exposure=exposure * (2 if each is third else 1))
    second.edisp, second.psf = first.edisp, first.psf
    second.mask_safe.data[:2] = False
    half = np.where(np.arange(4) < 2, 0.5, 1.0)
    first.stack(second)
    np.testing.assert_allclose(first.edisp.data, shared.data * half, rtol=1e-12)
    np.testing.assert_allclose(first.psf.exposure.to_value("cm2 s"), 2e13)
    third.psf = PSFMap(2 * third.psf.data, *psf_parts(third.psf)[1:], exposure=2 * exposure)
    expected = 0.75 * third.psf.data
    first.stack(third)
    np.testing.assert_allclose(first.psf.data, expected, rtol=1e-12)


def test_stack_of_responses_whose_exposures_are_zero():
    """As of gammapy's Galactic centre: the dataset's own exposure weights them."""
    first, second = observation(1), observation(2, time=3.0)
    expected = (first.edisp.data + 3 * second.edisp.data) / 4
    for each in (first, second):
        zero = np.zeros(6) * u.Unit("m2 s")
        each.edisp = EDispKernelMap(each.edisp.data, RECO, TRUE, exposure=zero)
    first.stack(second)
    np.testing.assert_allclose(first.edisp.data, expected, rtol=1e-12)


def psf_parts(psf):
    return psf.data, psf.rad_axis, psf.energy_axis_true


def test_stack_warns_of_thresholds_that_no_matrix_holds():
    first, second = observation(1), observation(2, threshold=2)
    first.edisp = second.edisp = None
    with pytest.warns(UserWarning, match="leaves other energies in 600 pixels that both have"):
        first.stack(second)


def test_stack_of_a_cutout_lands_where_it_was_cut():
    total, dataset = MapDataset.create(GEOM, TRUE), observation(1)
    part = dataset.cutout(SkyCoord(0.5, -0.3, unit="deg", frame="galactic"), (1.0, 0.8))
    total.stack(part)
    inside = total.mask
    assert inside.sum() == 4 * 10 * 8
    np.testing.assert_array_equal(total.counts.data, dataset.counts.data * inside)
    np.testing.assert_array_equal(
        total.exposure.data > 0, np.any(inside, axis=0) & np.ones((6, 1, 1), bool)
    )


def test_stack_of_on_off_data_keeps_background_and_off_counts():
    first, second = observation(1, off=True), observation(2, off=True, threshold=2)
    background = sum(each.mask * each.npred_background().data for each in (first, second))
    off = sum(each.mask * each.counts_off.data for each in (first, second))
    first.stack(second)
    np.testing.assert_array_equal(first.counts_off.data, off)
    np.testing.assert_allclose(first.npred_background().data, background, rtol=1e-13, atol=1e-14)
    # Without Off counts alpha is the mean over all of them.
    none = (off == 0) & first.mask
    assert none.any()
    np.testing.assert_allclose(first.alpha.data[none], background.sum() / off.sum(), rtol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {
                "geom": WcsGeom.create(
                    (0, 0), binsz=0.15, width=(3, 2), frame="galactic", axes=[RECO]
                )
            },
            "other sky positions",
        ),
        ({"off": True}, "MapDatasetOnOff, which cannot be stacked"),
    ],
)
def test_what_cannot_be_stacked_changes_nothing(change, message):
    dataset = observation(1)
    before = dataset.counts.data.copy()
    with pytest.raises(ValueError, match=message):
        dataset.stack(observation(2, **change))
    np.testing.assert_array_equal(dataset.counts.data, before)


def test_stack_names_what_is_missing():
    dataset, other = observation(1), observation(2)
    other.psf = None
    with pytest.raises(ValueError, match="'run-2' has no psf to stack"):
        dataset.stack(other)
    with pytest.raises(ValueError, match="other is a int; give one dataset"):
        dataset.stack(3)
    dataset, other = observation(1, off=True), observation(2, off=True)
    dataset.counts_off = other.counts_off = None
    with pytest.raises(ValueError, match="'run-1' has no counts_off to stack"):
        dataset.stack(other)


def test_npred_is_background_and_models():
    dataset = observation(1)
    model = SkyModel(PowerLawSpectralModel(), SPATIAL, name="source")
    np.testing.assert_array_equal(dataset.npred().data, dataset.background.data)
    dataset.models = model
    signal = predicted_counts(dataset, model).data
    assert signal.sum() > 1
    np.testing.assert_array_equal(dataset.npred().data, dataset.background.data + signal)
    np.testing.assert_array_equal(dataset.npred_signal().data, signal)
    np.testing.assert_array_equal(dataset.excess.data, dataset.counts.data - 2.0)
    elsewhere = SkyModel(PowerLawSpectralModel(), SPATIAL, name="other", datasets_names="run-7")
    dataset.models = [model, elsewhere]
    np.testing.assert_array_equal(dataset.npred_signal().data, signal)


def test_fake_draws_the_predicted_counts():
    dataset = observation(1)
    dataset.background = WcsNDMap(GEOM, np.linspace(0.5, 20, 2400).reshape(GEOM.data_shape))
    dataset.fake(random_state=5)
    counts = dataset.counts.data.copy()
    chi = np.sum((counts - dataset.background.data) ** 2 / dataset.background.data)
    assert abs(chi - 2400) < 5 * np.sqrt(2 * 2400)
    dataset.fake(random_state=np.random.default_rng(5))
    np.testing.assert_array_equal(dataset.counts.data, counts)
    dataset.background.data[:, :, 0] = np.nan
    dataset.mask_safe = WcsNDMap(GEOM, np.isfinite(dataset.background.data))
    dataset.fake(random_state=5)
    assert not dataset.counts.data[:, :, 0].any() and dataset.counts.data[:, :, 1:].sum() > 1e4
    dataset.background.data[0, 0, 1] = -1
    with pytest.raises(ValueError, match="negative or not finite in 1 bins"):
        dataset.fake()


def test_fake_of_on_off_data():
    dataset = observation(1, off=True)
    dataset.fake(3, npred_background=WcsNDMap(GEOM, 4.0))
    alpha = dataset.alpha.data
    for data, mean in ((dataset.counts.data, 4.0), (dataset.counts_off.data, 4.0 / alpha)):
        assert abs(np.sum((data - mean) ** 2 / mean) - 2400) < 5 * np.sqrt(2 * 2400)
    with pytest.raises(ValueError, match="npred_background="):
        dataset.fake(WcsNDMap(GEOM, 4.0))


def test_create_makes_zeros_of_the_class():
    empty = MapDatasetOnOff.create(GEOM, name="empty")
    assert isinstance(empty, MapDatasetOnOff) and empty.name == "empty"
    assert empty.energy_axis_true.is_allclose(RECO.rename("energy_true"))
    assert empty.exposure.unit == u.Unit("cm2 s") and not empty.counts_off.data.any()


def test_larger_pixels_keep_what_regions_hold():
    dataset = observation(1, threshold=1)
    mask = dataset.mask_safe.data.copy()
    mask[:, 4:8, 8:12] = False
    dataset.mask_safe = WcsNDMap(GEOM, mask)
    down = dataset.downsample(2, name="down")
    assert down.name == "down"
    assert_allclose(down.geom.pixel_scales.to_value("deg"), 0.2)
    blocks = (dataset.counts.data * mask).reshape(4, 10, 2, 15, 2)
    assert_allclose(down.counts.data, blocks.sum(axis=(2, 4)))
    assert_allclose(down.exposure.data, 1e13)
    # Boxes of whole large pixels hold the same counts and the same exposure.
    regions = [
        RectangleSkyRegion(SkyCoord(x, 0, unit="deg", frame="galactic"), 0.4 * u.deg, 0.4 * u.deg)
        for x in (-1.1, 1.1)
    ]
    run = FluxProfileEstimator(regions, energy_edges=RECO.edges[[1, 4]]).run
    assert_allclose(run(down).norm, run(dataset).norm, rtol=1e-5)
    with pytest.raises(ValueError, match="factor 7 does not divide"):
        dataset.downsample(7)
    with pytest.raises(ValueError, match="OFF counts"):
        observation(1, off=True).downsample(2)
