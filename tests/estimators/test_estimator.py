"""The estimator on datasets: reduction, masks, likelihoods, several datasets, bad input."""

import warnings

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion, RectangleSkyRegion

from jaxprof import (
    EDispKernelMap,
    EDispMap,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapAxis,
    MapDataset,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    PSFMap,
    WcsGeom,
    WcsNDMap,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.core import OnOffData, ProfileData, Status, fit_norms
from jaxprof.datasets import simulate_galactic_centre
from jaxprof.likelihood.arrays import profile_data
from jaxprof.sky.regions import region_pixels

GC = SkyCoord(0 * u.deg, 0 * u.deg, frame="galactic")
EDGES = [10, 70, 500] * u.GeV
MODEL = PowerLawSpectralModel(index=2.3)


def small_dataset(seed=0, *, flat=False, kind=MapDataset, edisp="kernel", name="small"):
    """A map of 30 x 20 pixels, 4 energies; flat: uniform background and exposure."""
    rng = np.random.default_rng(seed)
    axis = MapAxis.from_energy_bounds("10 GeV", "500 GeV", 4)
    true = MapAxis.from_energy_bounds("7 GeV", "700 GeV", 6, name="energy_true")
    geom = WcsGeom.create(
        skydir=GC, width=(3.0, 2.0), binsz=0.1, frame="galactic", proj="CAR", axes=[axis]
    )
    shape = geom.data_shape
    shade = np.ones(shape[1:]) if flat else 1 + 0.2 * np.indices(shape[1:])[1] / shape[2]
    level = np.array([4.0, 2.0, 1.0, 0.4])[:, None, None]
    background = WcsNDMap(geom, level * shade)
    counts = WcsNDMap(geom, rng.poisson(1.5 * background.data))
    exposure_geom = geom.to_image().to_cube([true])
    exposure = np.linspace(2e11, 4e11, 6)[:, None, None] * shade
    parts = {
        "counts": counts,
        "exposure": WcsNDMap(exposure_geom, exposure, unit="cm2 s"),
        "name": name,
    }
    if edisp == "kernel":
        parts["edisp"] = EDispKernelMap.from_gauss(axis, true, sigma=0.1)
    elif edisp == "migra":
        migra = MapAxis.from_edges(np.linspace(0.2, 5, 4801), name="migra")
        density = np.exp(-0.5 * ((migra.center.value - 1) / 0.1) ** 2) / np.sqrt(2 * np.pi) / 0.1
        parts["edisp"] = EDispMap(np.tile(density, (6, 1)), migra, true)
    if kind is MapDataset:
        return MapDataset(**parts, background=background)
    return MapDatasetOnOff(
        **parts,
        counts_off=WcsNDMap(geom, rng.poisson(5 * background.data)),
        acceptance=WcsNDMap(geom, np.ones(shape)),
        acceptance_off=WcsNDMap(geom, np.full(shape, 5.0)),
    )


def boxes(n=4, width=0.4, height=1.0, start=1.0):
    # Edges at multiples of the pixel size, so that no pixel centre lies on one.
    centres = start - width * np.arange(n)
    return [
        RectangleSkyRegion(
            SkyCoord(lon % 360 * u.deg, 0 * u.deg, frame="galactic"), width * u.deg, height * u.deg
        )
        for lon in centres
    ]


def estimator(regions=None, **options):
    options = {"spectral_model": MODEL, "energy_edges": EDGES, **options}
    return FluxProfileEstimator(regions=boxes() if regions is None else regions, **options)


def test_reduction_by_hand():
    """Counts, background and predicted signal of one region, summed pixel by pixel."""
    dataset = small_dataset()
    profile = estimator().run(dataset)
    data = profile.likelihood_data
    coords = dataset.geom.get_coord()
    lon, lat = coords.l.wrap_at("180d").deg, coords.b.deg
    inside = (np.abs(lon - 0.6) < 0.2) & (np.abs(lat) < 0.5)
    counts = dataset.counts.data[:, inside].sum(axis=1)
    background = dataset.background.data[:, inside].sum(axis=1)
    assert_allclose(np.asarray(data.counts)[1].ravel(), counts)
    assert_allclose(np.asarray(data.background)[1].ravel(), background, rtol=1e-12)
    edges = dataset.energy_axis_true.edges_tev()
    flux = 1e-12 / 1.3 * (edges[:-1] ** -1.3 - edges[1:] ** -1.3)
    solid_angle = dataset.geom.solid_angle().to_value("sr")[inside]
    exposure = dataset.exposure.data[:, inside] @ solid_angle / solid_angle.sum()
    kernel = dataset.edisp.get_kernel(None)
    assert_allclose(np.asarray(data.npred_ref)[1].ravel(), (flux * exposure) @ kernel, rtol=1e-12)
    assert_allclose(profile.counts[1], [counts[:2].sum(), counts[2:].sum()])
    assert_allclose(profile.solid_angle[1].to_value("sr"), solid_angle.sum(), rtol=1e-12)
    assert_allclose(profile.npred, profile.npred_background + profile.npred_excess, rtol=1e-12)


def test_energy_edges_snap():
    axis = small_dataset().energy_axis.edges.to_value("GeV")
    with pytest.warns(UserWarning, match="energy_edges: asked for 8, 60, 3000 GeV, used 10, 70.71"):
        profile = estimator(energy_edges=[8, 60, 3000] * u.GeV).run(small_dataset())
    assert_allclose(profile.energy_edges * 1e3, [[axis[0], axis[2]], [axis[2], axis[4]]])
    inner = estimator(energy_edges=[axis[1], axis[3]] * u.GeV).run(small_dataset())
    assert_allclose(inner.energy_edges * 1e3, [[axis[1], axis[3]]])
    assert inner.counts.shape == (4, 1)


def test_dispersion_kinds_agree():
    """A kernel and the same Gaussian as a density in migra give the same norms."""
    kernel = estimator().run(small_dataset(edisp="kernel"))
    migra = estimator().run(small_dataset(edisp="migra"))
    assert_allclose(migra.npred_excess_ref, kernel.npred_excess_ref, rtol=2e-5)
    none = estimator().run(small_dataset(edisp=None))
    assert np.max(np.abs(none.npred_excess_ref / kernel.npred_excess_ref - 1)) > 1e-3


def test_without_dispersion_the_spectrum_tells_where_photons_are():
    dataset = small_dataset(edisp=None)
    reco = dataset.energy_axis.edges_tev()
    true = dataset.energy_axis_true.edges_tev()
    low, high = (np.clip(edges, reco[0], reco[-1]) for edges in (true[:-1], true[1:]))
    flux = 1e-12 / 1.3 * (low**-1.3 - high**-1.3)
    profile = estimator().run(dataset)
    # Of the exposure only its change over the energies and the mean over the region matter.
    pixels = region_pixels(estimator().regions, dataset.geom)[1]
    size = pixels.solid_angle / pixels.solid_angle.sum()
    exposure = dataset.exposure.data[:, pixels.y, pixels.x] @ size
    assert_allclose(profile.npred_excess_ref[1].sum(), flux @ exposure, rtol=1e-12)


def masked(dataset, mask):
    dataset.mask_safe = WcsNDMap(dataset.geom, mask)
    return dataset


def test_coverage_is_unbiased_where_a_mask_cuts():
    """Half of a region masked: the default policy keeps the norm, the mean exposure halves it."""
    dataset = small_dataset(flat=True)
    exact = dataset.background.data.copy()
    norm = 4e-8 / 1e-12
    full = estimator().run(dataset)
    # Data that are exactly the prediction of a uniform source of that norm.
    data = full.likelihood_data
    per_pixel = np.asarray(data.npred_ref)[0].ravel() / 40 * norm
    dataset.counts = WcsNDMap(dataset.geom, exact + per_pixel[:, None, None])
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[:, :10] = False
    cut = estimator().run(masked(dataset, mask))
    assert_allclose(cut.coverage, 0.5, rtol=1e-3)
    # Pixels of the flat map differ in solid angle by cos(0.5 deg).
    assert_allclose(cut.norm, norm, rtol=1e-4)
    old = estimator(mask_policy="mean-exposure").run(dataset)
    assert_allclose(old.norm, norm / 2, rtol=1e-3)
    with pytest.raises(ValueError, match="'strict'.*regions 0, 1, 2, 3"):
        estimator(mask_policy="strict").run(dataset)


def test_energy_dependent_mask():
    """A mask that takes one energy only removes just that counts bin, and its share of coverage."""
    dataset = small_dataset()
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[0] = False
    profile = estimator().run(masked(dataset, mask))
    data = profile.likelihood_data
    assert_array_equal(np.asarray(data.mask)[:, 0], [[False, True]] * 4)
    assert_array_equal(profile.mask, data.mask)
    assert_allclose(profile.coverage[:, 0], 0.5, rtol=1e-12)
    # An energy that is masked everywhere cuts no region.
    strict = estimator(mask_policy="strict").run(dataset)
    assert_allclose(strict.norm, profile.norm, rtol=1e-5)
    dataset.mask_fit = WcsNDMap(dataset.geom, ~mask)
    with pytest.warns(UserWarning, match="^all norms are NaN: all pixels .* mask_fit") as record:
        dead = estimator(selection_optional="all").run(dataset)
    assert len(record) == 1
    assert_array_equal(dead.status, Status.FULLY_MASKED)
    assert np.all(np.isnan(dead.norm_ul))
    assert np.all(np.isnan(dead.stat_scan))
    assert not dead.success.any()


def test_a_masked_region_between_others_is_named():
    """One at the end of a line that reaches beyond the data is expected, and in the summary."""
    dataset = small_dataset(flat=True)
    regions = boxes(n=4)
    inside = dataset.geom.region_mask([regions[1]]).data
    dataset.mask_fit = WcsNDMap(dataset.geom, ~np.broadcast_to(inside, dataset.geom.data_shape))
    with pytest.warns(UserWarning, match=r"^bin 1 \(.* deg\): all pixels are masked") as record:
        profile = estimator(regions).run(dataset)
    assert len(record) == 1
    assert_array_equal(profile.success[:, 0], [True, False, True, True])
    ends = estimator(regions[1:]).run(dataset)
    assert "no estimate            : bin 0 (" in str(ends) and "fully masked" in str(ends)


def test_region_over_the_edge():
    """A region half off the map knows what it lost."""
    regions = boxes(n=4, start=1.5)
    dataset = small_dataset(flat=True)
    profile = estimator(regions).run(dataset)
    assert_allclose(profile.coverage[:, 0], [0.5, 1, 1, 1], atol=0.11)
    ratio = profile.npred_excess_ref[0] / profile.npred_excess_ref[1]
    assert_allclose(ratio, profile.coverage[0], rtol=1e-3)
    assert_allclose(profile.solid_angle[0], profile.solid_angle[1], rtol=0.21)


def test_regions_wholly_off_the_map():
    regions = [*boxes(), CircleSkyRegion(SkyCoord(90, 0, unit="deg", frame="galactic"), 1 * u.deg)]
    with pytest.warns(
        UserWarning, match="^region 4 of 5 .*: off the map of dataset 'small'; "
    ) as record:
        profile = estimator(regions).run(small_dataset())
    assert {w.filename for w in record} == {__file__}
    assert_array_equal(profile.success[:, 0], [True] * 4 + [False])
    assert profile.status[4, 0] == Status.FULLY_MASKED
    assert profile.coverage[4, 0] == 0


def test_all_regions_off_the_map():
    far = SkyCoord(90, 0, unit="deg", frame="galactic")
    regions = [CircleSkyRegion(far, radius * u.deg) for radius in (0.5, 1)]
    dataset = small_dataset()
    dataset.psf = PSFMap.from_gauss(dataset.energy_axis_true, 0.05 * u.deg)
    with pytest.warns(UserWarning, match="regions 0, 1 of 2 .*: off the map .*Look at the frame"):
        profile = estimator(regions).run(dataset)
    assert not profile.success.any()
    message = "^regions: none of the 2 lies on the map of dataset 'small'. Look at the frame"
    with pytest.raises(ValueError, match=message):
        ForwardFoldingProfileEstimator(regions, energy_edges=EDGES).run(dataset)


def test_no_exposure_anywhere():
    dataset = small_dataset()
    dataset.exposure.data[:] = 0
    with pytest.warns(UserWarning, match="^all norms are NaN: .* exposure") as record:
        profile = estimator().run(dataset)
    assert len(record) == 1
    assert_array_equal(profile.status, Status.NO_EXPOSURE)


def test_options_changed_later():
    one = estimator()
    one.selection_optional = "all"
    assert "norm_ul" in one.run(small_dataset()).available_quantities
    one.energy_edges = [10, 500] * u.GeV
    one.norm = {"min": 0.0, "scan_values": [1, 2]}
    profile = one.run(small_dataset())
    assert profile.stat_scan.shape == (4, 1, 2)
    assert np.all(profile.norm >= 0)
    one.norm.scan_values = [1, 2, 3]
    assert one.run(small_dataset()).stat_scan.shape == (4, 1, 3)
    one.norm = None
    assert len(one.norm.values()) == 11
    one.spectrum = PowerLawSpectralModel(index=3)
    assert one.spectral_model.index == 3
    one.spectral_model = None
    assert one.spectral_model.index == 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("regions", [], "regions is empty"),
        ("regions", boxes(1), "at least two regions"),
        ("spectral_model", 2.3, "spectral_model must be a spectral model"),
        ("spectrum", 2.3, "spectral_model must be a spectral model"),
        ("energy_edges", [10, 100], "energy_edges must be energies with a unit"),
        ("energy_edges", [100, 10] * u.GeV, "increasing energies"),
        ("n_sigma", 0, "n_sigma must be a positive number"),
        ("n_sigma_ul", "2", "n_sigma_ul must be a positive number"),
        ("n_sigma_sensitivity", -5, "n_sigma_sensitivity must be a positive number"),
        ("selection_optional", ["limits"], "selection_optional: unknown 'limits'"),
        ("norm", {"minimum": 0}, "norm must be a NormParameter or a dict of min"),
        ("norm", 1.0, "norm must be a NormParameter"),
        ("mask_policy", "none", "mask_policy must be one of"),
        ("likelihood", "bins", "likelihood must be one of"),
        ("precision", "float16", "precision must be one of 'float64', 'float32', got 'float16'"),
    ],
)
def test_options_are_checked_when_given_and_when_changed(option, value, message):
    """The same message both times; what is refused later changes nothing."""
    with pytest.raises(ValueError, match=message):
        FluxProfileEstimator(**{"regions": boxes(), option: value})
    one = estimator()
    before = getattr(one, option)
    with pytest.raises(ValueError, match=message):
        setattr(one, option, value)
    assert getattr(one, option) is before


def test_pixel_likelihood():
    """With flat templates pixels and regions give the same norms; with others not."""
    flat = small_dataset(flat=True)
    options = {"selection_optional": ["ul", "errn-errp"]}
    regions = boxes(height=0.2)
    region = estimator(regions, **options).run(flat)
    pixel = estimator(regions, likelihood="pixel", **options).run(flat)
    assert pixel.likelihood_data.counts.shape[2] > region.likelihood_data.counts.shape[2]
    for name in ("norm", "norm_err", "norm_ul", "norm_errn", "ts", "counts", "npred"):
        # Solid angles within two rows of pixels differ by 1e-6.
        assert_allclose(getattr(pixel, name), getattr(region, name), rtol=1e-5, err_msg=name)
    shaded = small_dataset()
    shaded.background.data *= np.linspace(0.2, 1.8, 20)[:, None]
    one, other = (
        estimator(likelihood=likelihood).run(shaded) for likelihood in ("region", "pixel")
    )
    assert_allclose(other.counts, one.counts)
    assert_allclose(other.npred_excess_ref, one.npred_excess_ref, rtol=1e-12)
    assert np.all(np.abs(other.norm - one.norm) > 1e-3 * one.norm_err)


@pytest.mark.parametrize("policy", ["coverage", "mean-exposure"])
def test_pixel_likelihood_where_a_mask_cuts(policy):
    dataset = small_dataset(flat=True)
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[1:, :9] = False
    masked(dataset, mask)
    regions = boxes(height=0.4)
    one, other = (
        estimator(regions, likelihood=likelihood, mask_policy=policy).run(dataset)
        for likelihood in ("region", "pixel")
    )
    assert np.all(one.coverage[:, 0] < 1)
    assert_allclose(other.npred_excess_ref, one.npred_excess_ref, rtol=1e-12)
    assert_allclose(other.norm, one.norm, rtol=1e-4)


def test_sum_over_energy_groups():
    """One counts bin a group, and then the norm in closed form."""
    profile = estimator(sum_over_energy_groups=True).run(small_dataset())
    assert profile.likelihood_data.counts.shape == (4, 2, 1)
    expected = (profile.counts - profile.npred_background) / profile.npred_excess_ref
    assert_allclose(profile.norm, expected, rtol=1e-11)
    plain = estimator().run(small_dataset())
    assert_allclose(plain.npred_excess_ref, profile.npred_excess_ref, rtol=1e-12)


def test_joint_fit_of_halves():
    """A dataset thinned in two and fitted jointly gives nearly the norms of the whole.

    With the same background-to-signal ratio in both, exactly those.
    """
    whole = small_dataset()
    rng = np.random.default_rng(5)
    part = rng.binomial(whole.counts.data.astype(int), 0.3)
    halves = []
    for share, counts in ((0.3, part), (0.7, whole.counts.data - part)):
        halves.append(
            MapDataset(
                counts=WcsNDMap(whole.geom, counts),
                background=WcsNDMap(whole.geom, whole.background.data * share),
                exposure=WcsNDMap(whole.exposure.geom, whole.exposure.data * share, unit="cm2 s"),
                edisp=whole.edisp,
                name=f"part-{share}",
            )
        )
    one = estimator(selection_optional=["ul"]).run(whole)
    joint = estimator(selection_optional=["ul"]).run(halves)
    for name in ("norm", "norm_err", "norm_ul", "ts"):
        assert_allclose(getattr(joint, name), getattr(one, name), rtol=1e-9)
    assert joint.counts.shape == (4, 2, 2)
    assert_allclose(joint.counts.sum(axis=-1), one.counts)
    assert_allclose(joint.npred[..., 0] / joint.npred.sum(axis=-1), 0.3, rtol=1e-9)
    assert tuple(joint.dataset_names) == ("part-0.3", "part-0.7")


def test_on_off():
    """On-Off sums keep the background; the result is that of the core on these sums."""
    dataset = small_dataset(kind=MapDatasetOnOff)
    profile = estimator(selection_optional="all").run(dataset)
    data = profile.likelihood_data
    assert isinstance(data, OnOffData)
    assert_allclose(np.asarray(data.alpha), 0.2, rtol=1e-12)
    coords = dataset.geom.get_coord()
    inside = (np.abs(coords.l.wrap_at("180d").deg - 1.0) < 0.2) & (np.abs(coords.b.deg) < 0.5)
    n_off = dataset.counts_off.data[:, inside].sum(axis=1)
    assert_allclose(np.asarray(data.n_off)[0].ravel(), n_off)
    assert np.all(np.isfinite(profile.norm_ul))
    # At the minimum the predicted ON counts are the signal and the profiled background.
    assert_allclose(profile.npred, profile.npred_excess + profile.npred_background, rtol=1e-9)
    mixed = estimator().run([dataset, small_dataset(seed=3)])
    assert np.all(mixed.norm_err < profile.norm_err)
    dataset.counts_off.data += 1
    plain = estimator().run(dataset)
    assert_allclose(estimator(likelihood="pixel").run(dataset).counts, plain.counts)
    dataset.counts_off.data[:, :, 3:6] = 0
    with pytest.warns(UserWarning, match="'small' that have no OFF counts") as record:
        estimator(likelihood="pixel").run(dataset)
    assert {w.filename for w in record} == {__file__}


@pytest.mark.parametrize("kind", [MapDataset, MapDatasetOnOff])
def test_single_precision(kind):
    """Results of float32 are those of float64 to a thousandth of an error."""
    dataset = small_dataset(kind=kind)
    one, expected = (
        estimator(selection_optional="all", precision=own).run(dataset)
        for own in ("float32", "float64")
    )
    for name in ("norm", "norm_err", "norm_errn", "norm_errp", "norm_ul", "norm_sensitivity"):
        found = getattr(one, name)
        assert found.dtype == np.float64
        assert_allclose(found, getattr(expected, name), rtol=0, atol=1e-3 * expected.norm_err.min())
    assert_array_equal(one.norm, one.norm.astype(np.float32))
    assert_array_equal(one.status, expected.status)
    assert_allclose(one.sqrt_ts, expected.sqrt_ts, atol=1e-3)
    assert_allclose(
        one.stat_scan - one.stat[..., None],
        expected.stat_scan - expected.stat[..., None],
        rtol=1e-3,
        atol=1e-3,
    )
    assert_allclose(one.npred, expected.npred, rtol=1e-4)


def test_joint_fits_are_in_double_precision():
    with pytest.raises(ValueError, match="precision='float32' is an option of FluxProfileEst"):
        ForwardFoldingProfileEstimator(regions=boxes(), precision="float32")


def test_on_off_maps_of_a_ring_background():
    """Rounding of an FFT is no error, and pixels without acceptance are left out."""
    dataset = small_dataset(kind=MapDatasetOnOff)
    expected = estimator().run(dataset)
    off = dataset.acceptance_off.data.copy()
    counts_off = dataset.counts_off.data.astype(float)
    off[:, :, 25:] = np.where(np.arange(5) % 2, -1e-14, 3e-13)
    counts_off[:, :, 25:] = -1e-8
    dataset.acceptance_off = WcsNDMap(dataset.geom, off)
    dataset.counts_off = WcsNDMap(dataset.geom, counts_off)
    assert_array_equal(estimator().run(dataset).norm, expected.norm)
    on = np.ones(dataset.geom.data_shape)
    on[:, :, :6] = 0.0
    dataset.acceptance = WcsNDMap(dataset.geom, on)
    profile = estimator().run(dataset)
    assert_allclose(profile.coverage[:, 0], [0.25, 1, 1, 1], rtol=1e-3)
    assert np.all(np.isfinite(profile.norm))
    with pytest.raises(ValueError, match="cuts the regions 0 "):
        estimator(mask_policy="strict").run(dataset)
    counts_off[0, 0, 0] = -0.5
    with pytest.raises(ValueError, match="counts_off of dataset 'small'"):
        estimator().run(dataset)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_exposure_outside_the_mask(value):
    """Only the policy that averages over masked pixels needs their exposure, and says so."""
    dataset = small_dataset()
    mask = np.ones(dataset.geom.data_shape, bool)
    # Pixels 7 to 10 of this row belong to region 1.
    mask[:, 8, 9] = False
    masked(dataset, mask)
    dataset.exposure.data[2, 8, 9] = value
    assert np.all(np.isfinite(estimator().run(dataset).norm))
    message = r"exposure of dataset 'small' .* regions 1 .* = \(2, 8, 9\).*'mean-exposure'"
    with pytest.raises(ValueError, match=message):
        estimator(mask_policy="mean-exposure").run(dataset)


def test_joint_good_time_intervals():
    """A joint profile has the intervals of all its datasets, each once."""
    one, other = small_dataset(), small_dataset(seed=2)
    one.gti = Table({"START": [0.0, 10.0], "STOP": [5.0, 12.0]}, meta={"MJDREFI": 51910})
    other.gti = Table({"START": [10.0, 20.0], "STOP": [12.0, 30.0]}, meta={"MJDREFI": 51910})
    joint = estimator().run([one, other])
    assert list(joint.gti["START"]) == [0.0, 10.0, 20.0]
    assert len(estimator().run(one).gti) == 2


def test_on_off_alpha_of_uneven_pixels():
    dataset = small_dataset(kind=MapDatasetOnOff)
    rng = np.random.default_rng(0)
    off = rng.uniform(2, 9, dataset.geom.data_shape)
    off[:, :, ::5] = 0.0
    dataset.acceptance_off = WcsNDMap(dataset.geom, off)
    profile = estimator().run(dataset)
    data = profile.likelihood_data
    coords = dataset.geom.get_coord()
    inside = (np.abs(coords.l.wrap_at("180d").deg - 1.0) < 0.2) & (np.abs(coords.b.deg) < 0.5)
    usable = inside & (off[0] > 0)
    background = (dataset.counts_off.data[:, usable] / off[:, usable]).sum(axis=1)
    got = np.asarray(data.alpha * data.n_off)[0].ravel()
    assert_allclose(got, background, rtol=1e-12)
    # Pixels without an OFF acceptance are left out of the coverage too.
    assert profile.coverage[0, 0] < 1


def test_other_sources_join_the_background():
    dataset = small_dataset()
    extra = WcsNDMap(dataset.geom, np.full(dataset.geom.data_shape, 0.5))
    with_sources = small_dataset()
    with_sources.npred_sources = extra
    plain, other = estimator().run(dataset), estimator().run(with_sources)
    assert_allclose(other.npred_background - plain.npred_background, 40.0, rtol=1e-9)
    assert np.all(other.norm < plain.norm)


def test_norm_bounds_and_scan_values():
    dataset = small_dataset()
    one = estimator(norm={"min": 0.0}, selection_optional=["ul"])
    one.norm.scan_values = np.linspace(-1, 5, 7)
    assert "scan_values" in str(one)
    dataset.background.data *= 3
    bounded = one.run(dataset)
    assert_array_equal(bounded.norm, 0.0)
    assert_array_equal(bounded.status, Status.BOUNDARY)
    assert np.all(bounded.norm_ul > 0)
    scanned = estimator(selection_optional=["scan"], norm={"scan_values": [0, 1, 2]}).run(dataset)
    assert scanned.stat_scan.shape == (4, 2, 3)
    assert_allclose(scanned.stat_scan[..., 0], scanned.stat_null, rtol=1e-12)
    default = estimator(selection_optional=["scan"]).run(dataset)
    assert_allclose(default.norm_scan[0, 0], np.geomspace(0.2, 5, 11))


@pytest.mark.parametrize("counted", [True, False])
def test_scans_follow_the_errors_of_each_bin(counted):
    """From three standard deviations below the norm to as many above, wherever it is."""
    dataset = small_dataset()
    dataset.counts.data[:, :, 15:] *= counted
    norm = {"scan_n_sigma": 3}
    profile = estimator(selection_optional=["scan"], norm=norm).run(dataset)
    rise = profile.stat_scan - profile.stat[..., np.newaxis]
    assert profile.norm_scan.shape == (4, 2, 11)
    assert_allclose(rise[..., -1], 9, rtol=1e-9)
    empty = profile.status == Status.ZERO_COUNTS
    assert empty.any() != counted
    # Without counts there is nothing below to tell.
    assert_allclose(rise[..., 0], np.where(empty, 0, 9), rtol=1e-9, atol=1e-9)
    assert_allclose(np.diff(profile.norm_scan, 2), 0, atol=1e-12)
    bounded = estimator(selection_optional=["scan"], norm={"min": 0, "max": 0.1, **norm}).run(
        dataset
    )
    assert bounded.norm_scan.min() == 0 and bounded.norm_scan.max() == 0.1


def test_selections():
    dataset = small_dataset()
    bare = estimator().run(dataset).available_quantities
    assert not {"norm_ul", "norm_errn", "stat_scan", "norm_sensitivity"} & set(bare)
    full = estimator(selection_optional="all").run(dataset).available_quantities
    assert {"norm_ul", "norm_errn", "norm_errp", "stat_scan", "norm_sensitivity"} <= set(full)


def test_global_precision_does_not_matter():
    """The estimator works in float64 and leaves the global setting alone."""
    dataset = small_dataset()
    expected = estimator(selection_optional="all").run(dataset)
    with jax.enable_x64(False):
        profile = estimator(selection_optional="all").run(dataset)
        assert jnp.ones(1).dtype == jnp.float32
    assert profile.norm.dtype == np.float64
    for name in ("norm", "norm_err", "norm_ul", "stat_scan", "norm_sensitivity"):
        assert_array_equal(getattr(profile, name), getattr(expected, name))


def test_older_name_and_defaults():
    dataset = small_dataset()
    older = FluxProfileEstimator(regions=boxes(), spectrum=MODEL, energy_edges=EDGES).run(dataset)
    assert_array_equal(older.norm, estimator().run(dataset).norm)
    plain = FluxProfileEstimator(regions=boxes(), energy_edges=EDGES)
    assert plain.spectral_model.index == 2
    text = str(plain)
    for name in ("energy_edges", "n_sigma_ul", "mask_policy", "spectral_model", "norm"):
        assert name in text


def test_n_sigma_scales_the_error():
    dataset = small_dataset()
    one, two = (estimator(n_sigma=n).run(dataset) for n in (1, 2))
    assert_allclose(two.norm_err, 2 * one.norm_err, rtol=1e-14)


def test_reduce_gives_the_data():
    data = profile_data(estimator().reduce(small_dataset()))
    assert isinstance(data, ProfileData)
    fit = fit_norms(data)
    assert_allclose(fit.norm, estimator().run(small_dataset()).norm, rtol=1e-12)


def test_whole_map_counts_are_conserved():
    """Boxes that tile the map share out every count."""
    dataset = small_dataset()
    tiles = boxes(n=6, width=0.5, height=2.0, start=1.25)
    profile = estimator(tiles, energy_edges=[10, 500] * u.GeV).run(dataset)
    assert profile.counts.sum() == dataset.counts.data.sum()


def test_simulation_recovers_the_truth():
    """The fitted excess of each box is that of the true sources, within its error."""
    simulated, truth = simulate_galactic_centre(seed=1, return_truth=True)
    regions = make_orthogonal_rectangle_sky_regions(
        start_pos=SkyCoord(10, 0, unit="deg", frame="galactic"),
        end_pos=SkyCoord(350, 0, unit="deg", frame="galactic"),
        wcs=simulated.geom.wcs,
        height="3 deg",
        nbin=51,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile = estimator(regions, energy_edges=[10, 500] * u.GeV, selection_optional=["ul"]).run(
            simulated
        )
    assert_array_equal(np.flatnonzero(~profile.success[:, 0]), [0, 1, 49, 50])
    good = profile.success[:, 0]
    assert np.all(np.isfinite(profile.norm_ul[good]))
    assert np.all((profile.coverage[[2, 48]] > 0.2) & (profile.coverage[[2, 48]] < 0.95))
    sources = sum(np.asarray(npred.data) for npred in truth.npred_sources.values())
    exact = simulated.background.data + sources
    simulated.counts = WcsNDMap(simulated.geom, exact)
    expected = profile.counts[good, 0]
    asimov = estimator(regions, energy_edges=[10, 500] * u.GeV).run(simulated)
    pulls = (expected - asimov.counts[good, 0]) / np.sqrt(asimov.counts[good, 0])
    assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls))
    assert 0.6 < pulls.std() < 1.5
    pulls = ((profile.norm - asimov.norm) / asimov.norm_err)[good, 0]
    assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls))
    assert 0.6 < pulls.std() < 1.5
    # The reference has nearly the sources' spectrum, so its norm gives back their counts.
    sources_found = asimov.npred_excess[good, 0]
    assert_allclose(sources_found, (asimov.counts - asimov.npred_background)[good, 0], atol=12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"selection_optional": ["errors"]}, ValueError, "'errn-errp', 'ul', 'scan', 'sensitiv"),
        ({"mask_policy": "none"}, ValueError, "'coverage', 'mean-exposure', 'strict'"),
        ({"likelihood": "unbinned"}, ValueError, "'region', 'pixel'"),
        ({"n_sigma": 0}, ValueError, "n_sigma must be positive|n_sigma must be a positive"),
        ({"n_sigma_ul": "2"}, ValueError, "n_sigma_ul must be a positive"),
        ({"n_sigma_sensitivity": np.nan}, ValueError, "n_sigma_sensitivity"),
        ({"energy_edges": [10, 100]}, ValueError, "energy_edges must be energies with a unit"),
        ({"energy_edges": [10, 100] * u.m}, ValueError, "energy_edges must be energies"),
        ({"energy_edges": [100, 10] * u.GeV}, ValueError, "increasing"),
        ({"energy_edges": [10] * u.GeV}, ValueError, "two or more"),
        ({"norm": {"lowest": 0}}, ValueError, "norm must be .* min, max"),
        ({"norm": {"min": 2, "max": 1}}, ValueError, r"norm\.min must be below"),
        ({"norm": {"min": "0"}}, ValueError, r"norm\.min must be a number"),
        ({"norm": {"scan_min": 0}}, ValueError, r"norm\.scan_min must be .* positive"),
        ({"norm": {"scan_max": 0.1, "interp": "lin"}}, ValueError, "below norm.scan_max"),
        ({"norm": {"scan_n_values": 1.5}}, ValueError, "scan_n_values must be a positive integer"),
        ({"norm": {"scan_values": []}}, ValueError, "scan_values must be a list of finite"),
        ({"spectral_model": "pl"}, ValueError, "spectral_model must be"),
        ({"spectral_model": PowerLawSpectralModel}, ValueError, "not PowerLawSpectralModel"),
        ({"n_sigma": True}, ValueError, "n_sigma must be a positive number, got True"),
        ({"spectrum": MODEL}, ValueError, "not both"),
        ({"reoptimise": True}, TypeError, "no option 'reoptimise'; it takes regions, "),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        estimator(**options)


@pytest.mark.parametrize("option", ["n_jobs", "parallel_backend", "reoptimize"])
def test_options_of_gammapy_say_what_replaces_them(option):
    with pytest.warns(
        UserWarning, match=f"{option} does nothing here: .*(fitted at once|together)"
    ):
        estimator(**{option: 4})
    assert repr(estimator(**{option: None})) == repr(estimator())


def test_bad_regions():
    with pytest.raises(ValueError, match="at least two regions, got 1"):
        estimator(boxes(n=1))
    with pytest.raises(ValueError, match="region"):
        estimator([])
    with pytest.raises(ValueError, match="regions: a profile needs some; see make_orthogonal"):
        FluxProfileEstimator(energy_edges=[10, 100] * u.GeV)


def test_bad_norm_settings():
    one = estimator(selection_optional=["scan"])
    one.norm.scan_values = ["a"]
    with pytest.raises(ValueError):
        one.run(small_dataset())
    one.norm.scan_values = [np.nan]
    with pytest.raises(ValueError, match="scan_values must be a list of finite"):
        one.run(small_dataset())
    one = estimator(norm={"min": 0})
    one.norm.max = -1
    with pytest.raises(ValueError, match=r"norm\.min must be below"):
        one.run(small_dataset())


def test_misspelt_attributes():
    """They are not taken in silence."""
    one = estimator()
    with pytest.raises(AttributeError, match="has no option 'n_sigma_upper'; it takes regions, "):
        one.n_sigma_upper = 3
    with pytest.raises(AttributeError, match="scan_vals"):
        one.norm.scan_vals = [1.0]
    one.spectrum = MODEL
    assert one.spectral_model is MODEL


def test_energies_outside_the_data():
    with pytest.raises(ValueError, match="no energy bin of the data lies between 1 TeV and 10 TeV"):
        estimator(energy_edges=[1, 10] * u.TeV).run(small_dataset())


def test_bad_datasets():
    with pytest.raises(TypeError, match="read a file with MapDataset.read"):
        estimator().run(["file.fits"])
    with pytest.raises(TypeError, match="MapDataset or a list"):
        estimator().run("file.fits")
    with pytest.raises(ValueError, match="empty"):
        estimator().run([])
    with pytest.raises(ValueError, match="same dataset twice"):
        estimator().run([small_dataset()] * 2)
    dark = PowerLawSpectralModel(amplitude=0.0)
    with pytest.raises(ValueError, match="PowerLawSpectralModel has no flux from .* TeV"):
        estimator(spectral_model=dark).run(small_dataset())
    dataset = small_dataset()
    dataset.exposure = None
    with pytest.raises(ValueError, match="has no exposure"):
        estimator().run(dataset)
    dataset = small_dataset()
    dataset.background.data[0, 3, 4] = -1.0
    with pytest.raises(ValueError, match="background of dataset 'small'"):
        estimator().run(dataset)
    dataset.background.data[0, 3, 4] = np.nan
    with pytest.raises(ValueError, match="background of dataset 'small'"):
        estimator().run(dataset)
    mask = np.ones(dataset.geom.data_shape, bool)
    mask[0, 3, 4] = False
    assert np.all(np.isfinite(estimator().run(masked(dataset, mask)).norm))


def test_datasets_of_other_energies():
    other = small_dataset(name="other")
    axis = MapAxis.from_energy_bounds("12 GeV", "300 GeV", 5)
    geom = other.geom.to_image().to_cube([axis])
    shifted = MapDataset(
        counts=WcsNDMap(geom), exposure=other.exposure, background=WcsNDMap(geom), name="shifted"
    )
    with pytest.raises(ValueError, match="dataset 'shifted' has its nearest edges"):
        estimator().run([small_dataset(), shifted])


def test_radial_profile_of_the_tutorial(simulated):
    """The newer tutorial's radial profile: two groups, limits and a scan."""
    annuli = make_concentric_annulus_sky_regions(center=GC, nbin=11)
    one = FluxProfileEstimator(
        regions=annuli,
        spectrum=MODEL,
        energy_edges=[10, 100, 2000] * u.GeV,
        selection_optional=["ul", "scan"],
    )
    one.norm.scan_values = np.linspace(-1, 5, 11)
    with pytest.warns(UserWarning, match="used 10, 84.47, 500 GeV: the data range from 10 to 500"):
        profile = one.run(datasets=simulated)
    assert profile.norm.shape == (10, 2)
    high = profile.slice_by_idx({"energy": slice(1, 2)})
    assert_array_equal(high.norm, profile.norm[:, 1:])
    assert high.stat_scan.shape == (10, 1, 11)


@pytest.mark.filterwarnings("ignore:regions:UserWarning")
@pytest.mark.parametrize("likelihood", ["region", "pixel"])
def test_a_dataset_that_sees_none_of_the_regions(likelihood):
    """All are off its map: nothing is fitted, and nothing is lost beside another dataset."""
    dataset = small_dataset(seed=1)
    away = [
        CircleSkyRegion(SkyCoord(120 + k, 40, unit="deg", frame="galactic"), 0.3 * u.deg)
        for k in (0, 2)
    ]
    made = FluxProfileEstimator(away, energy_edges=[10, 500] * u.GeV, likelihood=likelihood)
    profile = made.run(dataset)
    assert not np.any(profile.success) and np.all(profile.coverage == 0)
