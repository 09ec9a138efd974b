"""Joint fits of few counts, of bins that are not seen, and fits that fail."""

import dataclasses
import warnings

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, joint_data_of, sky_image
from numpy.testing import assert_allclose
from regions import CircleSkyRegion, RectangleSkyRegion

import jaxprof.estimators.fitting as fitting
from jaxprof import (
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapDatasetOnOff,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
    make_concentric_annulus_sky_regions,
    make_orthogonal_rectangle_sky_regions,
)
from jaxprof.core import Status, fit_joint
from jaxprof.datasets import simulate_galactic_centre
from jaxprof.inference import basins
from jaxprof.inference.interior_point import STEPS
from jaxprof.inference.joint_intervals import Limits
from jaxprof.inference.joint_ts import fit_joint_ts, searched_ts
from jaxprof.reduce.joint.pixel_signal import pixel_signal
from jaxprof.sky import WcsNDMap

EDGES = [1, 10] * u.TeV
BINSZ = 0.1


def few(seed, background=0.01, **options):
    """Sixty photons of a disk of radius 0.3 deg, almost no background at high energies."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, BINSZ)
    options = {"sigma": 0.1, "n_photons": 60.0, "n_energy": 4, **options}
    dataset = dataset_of(gaussian_image(image, 0.1, BINSZ), BINSZ, background=background, **options)
    dataset.counts.data = np.random.default_rng(seed).poisson(dataset.counts.data).astype(float)
    dataset.background.data[2:] *= 1e-3
    return dataset


@pytest.mark.slow
@pytest.mark.parametrize("summed", [False, True])
def test_no_prediction_is_negative(summed):
    """The profile is that of a fit in which every pixel and energy has a counts bin of its own."""
    differs = 0
    for seed in range(4):
        dataset = few(seed)
        own = estimator(sum_over_energy_groups=summed)
        response = own.response(dataset)
        profile = own.run(dataset, response)
        exact, shared = (
            fit_joint(joint_data_of(own, dataset, response, merge=merge)[0])
            for merge in (False, True)
        )
        assert bool(exact.converged)
        assert_allclose(profile.norm[:, 0], exact.values, atol=1e-6)
        assert_allclose(profile.stat[:, 0], exact.stat, atol=1e-6)
        assert np.all(np.isfinite(profile.norm_err))
        assert_allclose(profile.norm_err[:, 0], np.sqrt(np.diag(exact.covariance)), rtol=1e-3)
        (of_dataset,) = response.datasets
        (group,) = own._groups([dataset])
        signal = pixel_signal(of_dataset, profile.norm, group.bins[0])
        disjoint = of_dataset.disjoint
        background = dataset.background.data[:, disjoint.y, disjoint.x]
        total = np.where(of_dataset.mask, signal + background, 0.0)
        total = total.sum(axis=0) if summed else total
        assert total.min() > -1e-8
        # Otherwise this test would show nothing.
        differs += np.abs(profile.norm[:, 0] - shared.values).max() > 0.02
    assert differs > 0


@pytest.mark.slow
def test_test_statistics_and_limits_know_the_pixels_too():
    """Against fits of the same pixels with one norm held, which no pixel may be sacrificed for."""
    dataset = few(2)
    own = estimator(selection_optional=["ul", "errn-errp"])
    profile = own.run(dataset)
    (data,) = joint_data_of(own, dataset, merge=False)
    exact = fit_joint(data)
    for k in range(3):

        def rise(norm, k=k):
            held = dataclasses.replace(
                data, free=data.free.at[k].set(False), start=data.start.at[k].set(norm)
            )
            return float(fit_joint(held).stat - exact.stat)

        assert_allclose(rise(0.0), profile.ts[k, 0], atol=1e-5)
        assert_allclose(rise(profile.norm_ul[k, 0]), 4.0, atol=1e-2)
        assert_allclose(rise(profile.norm[k, 0] + profile.norm_errp[k, 0]), 1.0, atol=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:joint fit. another minimum")
def test_free_indices_converge_at_low_counts():
    for seed in range(6):
        profile = estimator(free_index=True).run(few(seed, background=0.05))
        assert np.all(np.isfinite(profile.norm))
        assert np.all(np.isfinite(profile.ts))
        assert Status.NOT_CONVERGED not in profile.status


# The spectrum is harder than any that the fit may take.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
@pytest.mark.slow
def test_an_index_at_the_end_of_its_range_is_flagged():
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.3, BINSZ)
    harder = MODEL.replace(index=MODEL.index - 6.0)
    dataset = dataset_of(
        gaussian_image(image, 0.1, BINSZ), BINSZ, sigma=0.1, model=harder, n_photons=3000.0,
        background=1.0, n_energy=4,
    )  # fmt: skip
    profile = estimator(free_index=True).run(dataset)
    assert profile.index[0, 0] == MODEL.index - 5.0
    assert profile.status[0, 0] == Status.BOUNDARY
    assert np.isnan(profile.index_err[0, 0])
    assert np.isfinite(profile.norm_err[0, 0])


@pytest.mark.slow
def test_a_bin_without_a_pixel_in_use():
    """What leaks out of it tells its norm only as far as the brightness within it is known."""
    dataset = few(1, n_photons=3000.0, background=0.5)
    pixels = np.indices(dataset.geom.npix_shape)
    radius = np.hypot(*(pixels - 9.5)) * BINSZ
    mask = np.ones(dataset.geom.data_shape, bool) & ~((radius > 0.2) & (radius < 0.4))
    mask[:, :4, :4] = False
    dataset.mask_fit = WcsNDMap(dataset.geom, mask)
    guards = [dataset.geom.get_coord()[at, at] for at in (1, 16)]
    guards = [CircleSkyRegion(center, 0.15 * u.deg) for center in guards]
    profile = estimator(guard_bins=guards).run(dataset)
    assert list(profile.nuisance["status"]) == ["fully masked", "ok"]
    assert str(profile).count("(fully masked)") == 1
    assert list(profile.status[:, 0]) == [Status.OK, Status.FULLY_MASKED, Status.OK]
    assert list(profile.success[:, 0]) == [True, False, True]
    assert profile.coverage[1, 0] < 0.1
    assert profile.counts[1, 0] == 0
    assert np.isfinite(profile.norm[1, 0])
    assert list(np.isnan(profile.ts[:, 0])) == [False, True, False]


@pytest.mark.slow
def test_a_bin_between_the_centres_of_pixels():
    """Photons of a bin narrower than a pixel are seen: it is masked only if its pixels are."""
    dataset = few(1, n_photons=3000.0, background=0.5)
    center = dataset.geom.center_skydir
    regions = [
        CircleSkyRegion(center.directional_offset_by(90 * u.deg, x * u.deg), radius * u.deg)
        for x, radius in ((0.0, 0.02), (0.4, 0.15))
    ]
    for masked, status in ((False, Status.OK), (True, Status.FULLY_MASKED)):
        if masked:
            mask = np.ones(dataset.geom.data_shape, bool)
            mask[:, 9:11, 9:11] = False
            dataset.mask_fit = WcsNDMap(dataset.geom, mask)
        profile = estimator(regions).run(dataset)
        assert list(profile.status[:, 0]) == [status, Status.OK]
        assert list(profile.coverage[:, 0]) == [float(not masked), 1.0]
        assert np.all(np.isfinite(profile.norm)) and np.all(profile.norm_err > 0)
        assert list(np.isnan(profile.ts[:, 0])) == [masked, False]
        assert profile.counts[0, 0] == 0


@pytest.mark.slow
def test_smoothness_does_not_pull_towards_bins_that_are_not_seen():
    """Even emission in boxes on the map, two more of them far beyond its edge."""
    image = sky_image(lambda x, y: x < 9, BINSZ)
    dataset = dataset_of(image, BINSZ, sigma=0.01, n_photons=1e4, background=1.0)
    boxes = [
        RectangleSkyRegion(
            dataset.geom.center_skydir.directional_offset_by(90 * u.deg, x * u.deg),
            0.2 * u.deg,
            0.4 * u.deg,
        )
        for x in (-0.4, -0.2, 0.0, 0.2, 0.4, 3.0, 3.2)
    ]
    alone = estimator(boxes[:5], smoothness=1e8).run(dataset)
    with pytest.warns(UserWarning, match="regions 5, 6 of 7 .*: off the map") as record:
        found = estimator(boxes, smoothness=1e8).run(dataset)
    assert {w.filename for w in record} == {__file__}
    assert_allclose(found.norm[:5], alone.norm, rtol=1e-6)
    assert_allclose(alone.norm[:, 0], alone.norm[2, 0], rtol=1e-2)
    assert np.all(found.status[5:] != Status.OK)


@pytest.mark.slow
def test_a_fit_that_failed_predicts_nothing(monkeypatch):
    fit_joint_ts = fitting.fit_joint_ts

    def failing(*arguments):
        fit, ts, points = fit_joint_ts(*arguments)
        lost = jax.tree.map(lambda a: np.full(a.shape, np.nan), (fit.covariance, fit.stat))
        at = np.asarray(arguments[0].norm_index)
        values = np.asarray(fit.values).copy()
        values[at] = np.nan
        failed = dataclasses.replace(
            fit,
            values=values,
            covariance=lost[0],
            stat=lost[1],
            status=np.full(fit.status.shape, Status.NOT_CONVERGED),
            converged=np.asarray(False),
        )
        return failed, np.full(ts.shape, np.nan), np.full(points.shape, np.nan)

    monkeypatch.setattr(fitting, "fit_joint_ts", failing)
    with pytest.warns(
        UserWarning, match="fit from 1 to 10 TeV did not converge, and its profile"
    ) as record:
        profile = estimator(background="free", guard_bins=1).run(few(0))
    assert {w.filename for w in record} == {__file__}
    assert np.all(profile.status == Status.NOT_CONVERGED)
    for name in ("norm", "npred", "npred_excess", "npred_background", "npred_leaked"):
        assert np.all(np.isnan(profile.quantities[name])), name
    assert np.all(np.isfinite(profile.counts))
    assert np.all(np.isnan(profile.nuisance["value"]))
    assert np.isnan(profile.goodness["stat"][0]) and np.isnan(profile.goodness["z"][0])


@pytest.mark.slow
def test_a_ts_whose_fit_stalls_is_an_upper_bound(monkeypatch):
    """Fits with a norm held that may take so many steps and no more."""
    (data,) = joint_data_of(estimator(), few(3), merge=False)
    _, exact, _ = fit_joint_ts(data, np.arange(3))

    minimise = basins.minimise

    @jax.jit
    def within(steps):
        def stalling(problem, begin, free, barrier, point):
            most = jnp.where(jnp.all(free), STEPS, steps)
            return minimise(problem, begin, free, barrier, point, most)

        monkeypatch.setattr(basins, "minimise", stalling)
        return searched_ts.__wrapped__(data, np.arange(3))

    assert np.all(data.free)
    stalled = 0
    for steps in range(20, 0, -1):
        fit, ts, points = jax.tree.map(np.asarray, within(steps))
        assert fit.converged
        missed = np.isnan(points).any(axis=1)
        assert_allclose(ts[~missed], exact[~missed], rtol=1e-6)
        bounds = missed & np.isfinite(ts)
        assert np.all(ts[bounds] > exact[bounds] * (1 - 1e-6))
        stalled += np.sum(ts[bounds] > exact[bounds] + 1e-6)
    assert missed.all(), "one step does"
    assert stalled > 0

    # Without the best fit there is nothing to rise from.
    def one_step(problem, begin, free, barrier, point):
        return minimise(problem, begin, free, barrier, point, 1)

    monkeypatch.setattr(basins, "minimise", one_step)
    fit, ts, _ = jax.jit(lambda data: searched_ts.__wrapped__(data, np.arange(3)))(data)
    assert not fit.converged and np.isnan(ts).all()


def test_a_ts_that_is_an_upper_bound_says_so(monkeypatch):
    fit_joint_ts = fitting.fit_joint_ts

    def stalling(*arguments):
        fit, ts, points = fit_joint_ts(*arguments)
        points = np.asarray(points).copy()
        points[1] = np.nan
        return fit, ts, points

    monkeypatch.setattr(fitting, "fit_joint_ts", stalling)
    with pytest.warns(
        UserWarning, match="without the flux of bin 1 .* did not .* upper bound"
    ) as record:
        profile = estimator().run(few(0))
    assert {w.filename for w in record} == {__file__}
    assert np.all(np.isfinite(profile.ts))


def test_second_minima_with_a_norm_held_are_said(monkeypatch):
    """In one warning, of test statistics and limits."""
    fit_joint_ts = fitting.fit_joint_ts

    def tested(*arguments):
        fit, ts, points = fit_joint_ts(*arguments)
        return dataclasses.replace(fit, other_without=np.array([True, False, False])), ts, points

    def limited(data, fit, which, goals):
        assert len(goals[0]) == 3
        other = np.array([[False] * 3, [False, True, False], [False] * 3])
        return Limits(np.ones((3, 3)), other, np.full((3, 3, data.start.size), np.nan))

    monkeypatch.setattr(fitting, "fit_joint_ts", tested)
    monkeypatch.setattr(fitting, "limited", limited)
    held = r"low with the norm of bins 0 and 1 .0 to 0.4 deg. held, as for ts, limits and scans"
    with pytest.warns(UserWarning, match=held) as record:
        estimator(selection_optional=["errn-errp", "ul"]).run(few(0))
    assert [w.filename for w in record] == [__file__]


@pytest.mark.slow
def test_the_unit_of_a_norm_does_not_matter():
    """A source with a reference flux that is far off has the same fit."""
    dataset = few(4)
    found = []
    for amplitude in (1e-12, 1e-6):
        source = SkyModel(
            PowerLawSpectralModel(index=2, amplitude=amplitude),
            PointSpatialModel(lon_0=0.3, lat_0=0.1, frame="galactic"),
            name="source",
            free=True,
        )
        found.append(estimator(sources=[source]).run(dataset))
    one, other = found
    assert_allclose(other.norm, one.norm, rtol=1e-5)
    assert_allclose(other.norm_err, one.norm_err, rtol=1e-5)
    assert_allclose(other.ts, one.ts, rtol=1e-5, atol=1e-6)
    assert_allclose(1e6 * other.nuisance["value"], one.nuisance["value"], rtol=1e-4)


@pytest.mark.slow
def test_the_unit_of_a_free_background_does_not_matter():
    """Without a bin the background makes up for it, by hundreds of times what it was."""
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.2, BINSZ)
    options = {"sigma": 0.1, "blur": True, "n_photons": 1000.0}
    dataset = dataset_of(image, BINSZ, background=1e-3, **options)
    found = []
    for factor in (1.0, 500.0):
        dataset.background.data[:] = 1e-3 * factor
        found.append(estimator(background="free").run(dataset))
    low, high = found
    assert low.ts[0, 0] > 1000
    assert_allclose(low.ts, high.ts, rtol=1e-6)
    assert_allclose(low.norm, high.norm, atol=1e-6)
    assert_allclose(low.nuisance["value"][0], 500 * high.nuisance["value"][0], rtol=1e-5)


@pytest.mark.slow
def test_errors_of_nonlinear_models_at_constraints():
    """Where the observed information is not positive, the expected one gives the errors."""
    dataset = few(3)
    own = estimator(free_index=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of test statistics, see above
        profile = own.run(dataset)
    assert np.all(profile.status == Status.BOUNDARY)
    # Of the size of those with fixed indices.
    fixed = estimator().run(dataset)
    ratio = profile.norm_err[:2] / fixed.norm_err[:2]
    assert np.all((ratio > 0.8) & (ratio < 2))
    assert np.all(np.isfinite(profile.norm_err)) and np.all(np.isfinite(profile.ts))


@pytest.mark.slow
def test_the_sensitivity_would_be_detected():
    """Counts as expected with a bin at its sensitivity: five standard deviations."""
    dataset = few(3, n_photons=1000.0, background=0.5)
    own = estimator(selection_optional=["sensitivity"])
    response = own.response(dataset)
    profile = own.run(dataset, response)
    (of_dataset,) = response.datasets
    disjoint = of_dataset.disjoint
    for k in range(3):
        norms = np.maximum(profile.norm, 0.0)
        norms[k] = profile.norm_sensitivity[k]
        signal = pixel_signal(of_dataset, norms, slice(None))
        counts = dataset.background.data.copy()
        for energy, values in enumerate(signal):
            counts[energy, disjoint.y[disjoint.used], disjoint.x[disjoint.used]] += values[
                disjoint.used
            ]
        expected = type(dataset)(
            counts=WcsNDMap(dataset.geom, counts),
            background=dataset.background,
            exposure=dataset.exposure,
            psf=dataset.psf,
        )
        assert_allclose(own.run(expected).ts[k, 0], 25.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("n_on", "n_off"),
    [
        pytest.param(0, 30, marks=pytest.mark.slow),
        pytest.param(0, 0, marks=pytest.mark.slow),
        pytest.param(5, 0, marks=pytest.mark.slow),
    ],
)
def test_on_off_without_counts_in_one_bin(n_on, n_off):
    """Behind a PSF that spreads nothing, one bin does not change the others."""
    image = sky_image(lambda x, y: x < 9, BINSZ)
    plain = dataset_of(image, BINSZ, sigma=1e-7, n_photons=4000.0)
    rng = np.random.default_rng(2)
    shape = plain.geom.data_shape
    boxes = make_orthogonal_rectangle_sky_regions(
        *plain.geom.center_skydir.directional_offset_by([90, 270] * u.deg, 0.5 * u.deg),
        plain.geom.wcs,
        "0.4 deg",
        nbin=5,
    )
    dataset = MapDatasetOnOff(
        counts=WcsNDMap(plain.geom, rng.poisson(1.0, shape).astype(float)),
        counts_off=WcsNDMap(plain.geom, rng.poisson(3.0, shape).astype(float)),
        acceptance=WcsNDMap(plain.geom, np.ones(shape)),
        acceptance_off=WcsNDMap(plain.geom, np.full(shape, 5.0)),
        exposure=plain.exposure,
        psf=plain.psf,
    )
    middle = np.abs(np.indices(shape)[2] - 9.5) < 1.1
    for name, total in (("counts", n_on), ("counts_off", n_off)):
        data = getattr(dataset, name).data
        data[middle] = 0.0
        data[0, 10, 9] = total
    options = {"likelihood": "region", "selection_optional": ["ul"]}
    joint = estimator(boxes, oversampling=1, **options).run(dataset)
    separate = FluxProfileEstimator(boxes, spectral_model=MODEL, energy_edges=EDGES, **options).run(
        dataset
    )
    assert_allclose(joint.norm, separate.norm, atol=1e-6)
    assert_allclose(joint.norm_ul, separate.norm_ul, rtol=1e-5)
    others = [0, 1, 3, 4]
    assert np.all(joint.status[others] == Status.OK)
    assert joint.success.all()


@pytest.mark.slow
def test_lower_errors_of_free_spectra_keep_all_pixels_positive():
    """At this one empty pixels would be sacrificed; against scipy's SLSQP with all pixels."""
    centre = SkyCoord(0 * u.deg, 0 * u.deg, frame="galactic")
    dataset = simulate_galactic_centre(
        seed=5, exposure="2e10 cm2 s", shape=(40, 40), binsz=0.1, n_energy=4, mask_margin=0.5
    )
    profile = ForwardFoldingProfileEstimator(
        make_concentric_annulus_sky_regions(center=centre, radius_max="0.9 deg", nbin=4),
        spectral_model=PowerLawSpectralModel(index=2.3),
        energy_edges=[70, 500] * u.GeV,
        free_spectral_parameters=["index"],
        background=0.1,
        selection_optional=["errn-errp"],
    ).run(dataset)
    # The rise of the statistic is 1.0002 at 1.9468 below, and 4.9 at 2.56.
    assert_allclose(profile.norm_errn[2, 0], 1.9467, atol=2e-3)
