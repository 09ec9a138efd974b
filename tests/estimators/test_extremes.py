"""Estimators at the ends of what numbers can hold, and what they refuse by name."""

import re
import warnings

import astropy.units as u
import mpmath
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from forward_factory import MODEL, dataset_of, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal
from regions import RectangleSkyRegion

import jaxprof
from jaxprof import (
    FluxProfile,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    PowerLawSpectralModel,
    TemplateSpectralModel,
)
from jaxprof.estimators.fit_warnings import Bins, warn_pulled_backgrounds

ESTIMATORS = [FluxProfileEstimator, ForwardFoldingProfileEstimator]


def dataset(background=0.5):
    """Poisson counts of a disk behind a PSF, and an even background."""
    image = sky_image(lambda x, y: (np.hypot(x, y) < 0.4) * 1.0, 0.1)
    made = dataset_of(image, 0.1, sigma=0.1, background=background, n_photons=200, n_energy=1)
    made.counts.data = np.random.default_rng(3).poisson(made.counts.data).astype(float)
    return made


def run(cls, made, model=MODEL, **options):
    options = {"energy_edges": [1, 10] * u.TeV, "selection_optional": "all", **options}
    return cls(rings(2, 0.3), spectral_model=model, **options).run(made)


@pytest.mark.slow
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_amplitudes_and_exposures_of_any_size(cls):
    names = ("norm", "norm_err", "norm_errn", "norm_errp", "norm_ul", "norm_sensitivity")
    # A scan is at the norms that it is given.
    selection = ("errn-errp", "ul", "sensitivity")
    expected = run(cls, dataset(), selection_optional=selection)
    for amplitude, exposure in ((1e-250, 1.0), (1e250, 1.0), (1.0, 1e-200), (1.0, 1e200)):
        made = dataset()
        made.exposure.data = made.exposure.data * exposure
        model = MODEL.replace(amplitude=MODEL.amplitude * amplitude)
        found = run(cls, made, model, selection_optional=selection)
        for name in names:
            scaled = getattr(found, name) * (amplitude * exposure)
            assert np.isfinite(scaled).all()
            assert_allclose(scaled, getattr(expected, name), rtol=1e-9)
        for name in ("flux", "flux_err", "flux_ul", "eflux", "dnde"):
            one, other = getattr(found, name), getattr(expected, name)
            assert_allclose(one.value * exposure, other.value, rtol=1e-9)
        assert_allclose(found.ts, expected.ts, rtol=1e-9)
        assert_allclose(found.npred_excess, expected.npred_excess, rtol=1e-9)
        assert_array_equal(found.status, expected.status)


@pytest.mark.slow
@pytest.mark.parametrize("index", [-200.0, 200.0])
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_indices_of_any_size(cls, index):
    """All photons are at one end of the only energy, whose flux alone the result knows."""
    flat, steep = (run(cls, dataset(), PowerLawSpectralModel(index=i)) for i in (2.0, index))
    assert_allclose(steep.flux.value, flat.flux.value, rtol=1e-9)
    assert_allclose(steep.flux_ul.value, flat.flux_ul.value, rtol=1e-9)
    assert_allclose(steep.ts, flat.ts, rtol=1e-9)


@pytest.mark.parametrize(
    ("index", "amplitude", "reference"),
    [
        (-200.0, 1e-12, 1.0),
        (-200.0, 1e-250, 1e-3),
        (200.0, 1e-250, 0.01),
        (200.0, 1e250, 0.001),
        (2.3, 1e250, 1.0),
        (1.0 + 1e-9, 1e-250, 1.0),
    ],
)
def test_integrals_of_power_laws(index, amplitude, reference):
    model = PowerLawSpectralModel(index=index, amplitude=amplitude, reference=reference)
    with mpmath.workdps(50):
        power = 1 - mpmath.mpf(index)
        start, stop = (mpmath.mpf(e) / mpmath.mpf(reference) for e in (0.01, 0.5))
        area = mpmath.mpf(amplitude) * reference * (stop**power - start**power) / power
        at = mpmath.mpf(amplitude) * start ** -mpmath.mpf(index)
    assert_allclose(model.integral(0.01, 0.5), float(area), rtol=1e-12)
    assert_allclose(model(0.01), float(at), rtol=1e-12)


@pytest.mark.parametrize("values", [[1.0, 0, 0, 1.0], [0, 1.0, 2.0, 0], [0, 0, 1.0, 2.0]])
def test_template_spectra_with_zeros(values):
    """No flux beyond an end with a zero; elsewhere as if the other points were alone."""
    energy = np.array([0.01, 0.02, 0.05, 0.09])
    model = TemplateSpectralModel(energy=energy, values=1e-12 * np.array(values))
    assert_allclose(model(energy), 1e-12 * np.array(values), rtol=1e-9, atol=1e-40)
    beyond = np.array([0.005, 0.0099, 0.0901, 0.2, 1e3])
    goes_on = (beyond > 0.05) & (values[2] > 0) & (values[3] > 0)
    assert_array_equal(np.asarray(model(beyond)) > 0, goes_on)
    edges = np.geomspace(0.001, 0.085, 40)
    parts = np.asarray(model.integral(edges[:-1], edges[1:]))
    assert np.all(np.isfinite(parts)) and np.all(parts >= 0)
    assert_allclose(parts.sum(), model.integral(0.001, 0.085), rtol=1e-9)
    # A power law between two positive values; next to a zero nothing but a spike of a few percent.
    whole = 0.0
    for e1, e2, f1, f2 in zip(energy, energy[1:], values, values[1:], strict=False):
        if f1 > 0 and f2 > 0:
            stop = min(e2, 0.085)
            slope = np.log(f2 / f1) / np.log(e2 / e1) + 1
            whole += f1 * e1 / slope * ((stop / e1) ** slope - 1)
    assert_allclose(parts.sum(), 1e-12 * whole, rtol=2e-2, atol=1e-12 * 1e-4)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PowerLawSpectralModel(index=2) - 2 * PowerLawSpectralModel(index=2.5), "is negative"),
        (PowerLawSpectralModel(amplitude=1e300), "overflow|more than 1e.300"),
        (PowerLawSpectralModel(amplitude=1e290), "more than 1e.300 expected counts"),
        (PowerLawSpectralModel(index=-200, reference=1e-3), "overflows"),
        (PowerLawSpectralModel(index=200, reference=1e-3), "has no flux"),
    ],
)
def test_spectra_that_no_norm_can_multiply(cls, model, message):
    with pytest.raises(ValueError, match=f"^spectral_model: .*({message})"):
        run(cls, dataset(), model)


def test_sources_are_named():
    source = jaxprof.SkyModel(
        spectral_model=PowerLawSpectralModel(index=2) - 2 * PowerLawSpectralModel(index=2.5),
        spatial_model=jaxprof.PointSpatialModel(lon_0="0.5 deg", lat_0="0.5 deg"),
        name="odd",
    )
    with pytest.raises(ValueError, match="^sources: 'odd': spectral_model: .*is negative"):
        run(ForwardFoldingProfileEstimator, dataset(), sources=[source])


def test_options_that_leave_nothing_of_the_counts():
    with pytest.raises(ValueError, match="background norm must be .* at least 1e-09, got 1e-300"):
        ForwardFoldingProfileEstimator(rings(2, 0.3), background=1e-300)
    with pytest.raises(ValueError, match=r"smoothness=1e\+300 .* straight line"):
        ForwardFoldingProfileEstimator(
            rings(4, 0.2), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV, smoothness=1e300
        ).run(dataset())


def boxes_apart():
    """Three bins that nothing leaks between."""
    centers = [SkyCoord(x, 0.01, unit="deg", frame="galactic") for x in (-0.7, 0.0, 0.7)]
    return [RectangleSkyRegion(center, 0.2 * u.deg, 0.2 * u.deg) for center in centers]


@pytest.mark.parametrize(
    "cls",
    [FluxProfileEstimator, pytest.param(ForwardFoldingProfileEstimator, marks=pytest.mark.slow)],
)
def test_no_background_is_said(cls):
    """Counts where nothing is expected, and sensitivities: both would be those of the floor."""
    made = dataset_of(sky_image(lambda x, y: 1.0 + 0 * x, 0.1), 0.1, sigma=0.03, background=0.0)
    made.counts.data[:] = 0.0
    made.counts.data[0, 9, 9] = 3.0  # in the second box

    def run_apart(**options):
        options = {"spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV, **options}
        return cls(boxes_apart(), **options).run(made)

    with pytest.warns(UserWarning) as caught:
        found = run_apart(selection_optional=["ul", "sensitivity"])
    assert {warning.filename for warning in caught} == {__file__}
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    for start, rest in (
        ("counts of bin 1 (", "lie where nothing is expected .* no significance"),
        ("", "norm_sensitivity of bins 0, 1 and 2 .* is NaN: .* infinitely significant"),
    ):
        assert sum(m.startswith(start) and bool(re.search(rest, m)) for m in messages) == 1
    assert np.isnan(found.norm_sensitivity).all()
    assert np.isfinite(found.norm_ul).all() and np.isfinite(found.ts).all()
    # Nothing is said of what does not rest on the floor.
    made.counts.data[:] = 0.0
    assert_allclose(run_apart(selection_optional="ul").ts, 0.0, atol=1e-9)


def test_bins_are_named():
    which = np.zeros((30, 7), bool)
    which[[0, 3, 4], 0] = True
    which[2, 1] = True
    regions = rings(30, 0.2)
    one = Bins(regions, np.array([[1.0, 10.0]]))
    assert one.named(which[:, :1]) == "bins 0, 3 and 4 (0 to 0.2, 0.6 to 1 deg)"
    bins = Bins(regions, np.array([[k, k + 1.0] for k in range(7)]), "GeV")
    assert bins.named(which) == (
        "bins 0, 3 and 4 (0 to 0.2, 0.6 to 1 deg; 0 to 1000 GeV); "
        "bin 2 (0.4 to 0.6 deg; 1000 to 2000 GeV)"
    )
    which[:] = True
    text = bins.named(which)
    assert text.startswith("bins 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more (0 to 6 deg; 0 to 1000 ")
    assert text.endswith("4000 to 5000 GeV); 2 more energy groups")


def deficit():
    """No counts where 14 are expected, in the first ring."""
    made = dataset()
    y, x = np.indices(made.counts.data.shape[1:])
    made.counts.data[0, np.hypot(x - 9.5, y - 9.5) < 4] = 0.0
    return made


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_negative_upper_limits_are_said(cls):
    made = deficit()
    with pytest.warns(
        UserWarning, match=r"negative upper limits of bin 0 \(.* deg\): .*\"bounded\".*\"min\": 0"
    ) as caught:
        found = run(cls, made, selection_optional="ul")
    assert caught[0].filename == __file__ and len(caught) == 1
    assert_array_equal(found.norm_ul[:, 0] < 0, [True, False])
    bounded = run(cls, made, selection_optional="ul", norm={"min": 0})
    assert np.all(bounded.norm_ul > 0)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_confidence_levels_that_conflict(cls):
    for level in (2, 1.96):  # 2 is the default, and another level all the same
        with pytest.raises(ValueError, match=f"cl or n_sigma_ul, not both: got 0.95 and {level}"):
            cls(boxes_apart(), cl=0.95, n_sigma_ul=level)
    assert cls(boxes_apart()).n_sigma_ul == 2
    assert_allclose(cls(boxes_apart(), cl=0.95).n_sigma_ul, 1.959964, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cls", ESTIMATORS)
def test_named_limits_of_estimators(cls, tmp_path):
    """They are not negative, and files know their kind."""
    made = deficit()
    named = run(cls, made, selection_optional="ul", interval="bounded", cl=0.95)
    assert np.all(named.norm_ul > 0) and named.norm_ll[0, 0] == 0
    assert_allclose(named.n_sigma_ul, 1.959964, rtol=1e-6)
    named.write(tmp_path / "named.fits")
    again = FluxProfile.read(tmp_path / "named.fits")
    assert again.meta["interval"] == "bounded"
    assert_array_equal(again.norm_ll, named.norm_ll)
    assert_array_equal(again.norm_ul, named.norm_ul)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.slow
def test_limits_of_both_estimators_end_at_the_bounds(cls):
    free = run(cls, dataset())
    assert (free.norm > 0).all()
    high = int(np.argmax(free.norm[:, 0]))
    bound = float(free.norm[high, 0] + 0.5 * free.norm_errp[high, 0])
    bounded = run(cls, dataset(), norm={"min": 0.0, "max": bound})
    assert_allclose(bounded.norm, free.norm, rtol=1e-6)
    assert_allclose(bounded.norm_ul[high, 0], bound, rtol=1e-14)
    assert np.isnan(bounded.norm_errp[high, 0]) and np.isfinite(free.norm_errp[high, 0])
    assert (bounded.norm_ul <= bound).all()
    assert_allclose(bounded.norm_errn[high], free.norm_errn[high], rtol=1e-6)


def test_a_background_that_hides_the_counts_is_named():
    """A joint fit cannot tell counts of order one from the rounding of 1e16; a separate one can."""
    made = dataset()
    made.background.data[:] = 1e16
    with pytest.warns(UserWarning, match="background is more than 1e.10 times .* FluxProfileEst"):
        joint = run(ForwardFoldingProfileEstimator, made, selection_optional=None)
    assert np.all(np.isnan(joint.norm)) and not joint.success.any()
    alone = run(FluxProfileEstimator, made, selection_optional=None)
    # Counts are those of n = mu in each bin: the error is that of the counts.
    assert_allclose(alone.norm_err, np.sqrt(alone.counts) / alone.npred_excess_ref, rtol=1e-9)


@pytest.mark.slow
def test_joint_limits_of_a_kind_that_a_bin_does_not_have():
    """Without the bright second ring the first, whose norm is negative, predicts less than zero."""
    made = deficit()
    y, x = np.indices(made.counts.data.shape[1:])
    bright = (np.hypot(x - 9.5, y - 9.5) >= 4) & (np.hypot(x - 9.5, y - 9.5) < 8)
    made.counts.data[0, bright] = 30.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run(
            jaxprof.ForwardFoldingProfileEstimator,
            made,
            selection_optional="ul",
            interval="bounded",
        )
    texts = [str(one.message) for one in caught]
    assert any("no limits of this kind of bin 1: " in text for text in texts), texts
    assert found.norm[0, 0] < 0 and np.isnan(found.norm_ul[1, 0])
    assert np.isfinite(found.norm).all() and found.success.all()


def test_backgrounds_far_from_their_constraints_are_said():
    """A constraint of 3 % around one: 1.145 is 4.8 widths off, 1.05 is within three."""
    rows = [
        (0, "gc", "background norm", 1.145),
        (0, "east", "background norm", 1.05),
        (0, "free", "background norm", 2.0),
        (0, "gc", "background tilt", 4.0),
    ]
    table = Table(rows=rows, names=("group", "dataset", "parameter", "value"))
    widths = {"gc": 0.03, "east": 0.03}
    with pytest.warns(UserWarning, match=r"1\.1[45] for gc, 4\.8 widths off\. .*nuisance"):
        warn_pulled_backgrounds(table, widths)
    warn_pulled_backgrounds(table[1:], widths)
    warn_pulled_backgrounds(None, widths)
