"""Spectra as parameters of the likelihood of separate fits."""

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, energy_axes, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from jaxprof import (
    FluxProfileEstimator,
    MapAxis,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    TemplateSpectralModel,
    WcsNDMap,
    fit,
)
from jaxprof.likelihood.arrays import profile_data

TRUE = MapAxis.from_energy_bounds(0.5, 20, 9, unit="TeV", name="energy_true")
OPTIONS = {"spectral_model": MODEL, "energy_edges": [1, 10 ** (1 / 2), 10] * u.TeV}
NORM = np.array([[1.2, 0.7], [0.8, 0.6], [0.5, 1.1]])


def estimator(**options):
    return FluxProfileEstimator(rings(3, 0.2), **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def datasets():
    """A counted dataset with a cut region, an On-Off one, one without energy dispersion."""
    rng = np.random.default_rng(3)
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.5, 0.1)
    common = {"sigma": 0.1, "background": 0.5, "gradient": 0.4, "n_energy": 4}
    blurred = gaussian_image(image, 0.1, 0.1)
    first = dataset_of(blurred, 0.1, n_photons=4e3, dispersion=0.2, true=TRUE, **common)
    plain = dataset_of(blurred, 0.1, n_photons=2e3, **common)
    for dataset in (first, plain):
        dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    geom = first.counts.geom
    mask = np.ones(geom.data_shape, bool)
    mask[:, 10:, 11:] = False
    mask[1, 8:] = False
    first.mask_safe = WcsNDMap(geom, mask)
    ones = WcsNDMap(geom, np.ones(geom.data_shape))
    on_off = MapDatasetOnOff(
        counts=plain.counts,
        counts_off=WcsNDMap(geom, rng.poisson(2.0, geom.data_shape).astype(float)),
        acceptance=ones,
        acceptance_off=WcsNDMap(geom, 4 * np.ones(geom.data_shape)),
        exposure=first.exposure,
        edisp=first.edisp,
        name="on-off",
    )
    return [first, on_off, plain]


def used_npred(made, params):
    pairs = zip(made.terms, jax.jit(made.npred)(params), strict=True)
    return np.concatenate([np.where(term.mask, rate, 0.0).ravel() for term, rate in pairs])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"mask_policy": "mean-exposure"}, marks=pytest.mark.slow),
        {"sum_over_energy_groups": True, "reference_solid_angle": "region"},
        pytest.param(
            {"likelihood": "pixel", "reference_solid_angle": "region"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"likelihood": "pixel", "mask_policy": "mean-exposure"}, marks=pytest.mark.slow
        ),
    ],
)
def test_predictions_are_those_of_a_reduction_with_the_spectrum(datasets, options):
    pixels = options.get("likelihood") == "pixel"
    own = datasets[::2] if pixels else datasets
    made = estimator(**options).reduce(own, spectrum="free")
    assert list(made.params()) == ["norm"]
    fixed = estimator(**options).reduce(own)
    assert_allclose(used_npred(made, {"norm": NORM}), used_npred(fixed, {"norm": NORM}), rtol=1e-12)
    steep = PowerLawSpectralModel(index=2.9, amplitude="1e-12 cm-2 s-1 TeV-1")
    other = estimator(**options, spectral_model=steep).reduce(own)
    expected = used_npred(other, {"norm": NORM})
    for given in (steep, {"index": 2.9}, {"index": np.full((3, 2), 2.9)}):
        found = used_npred(made, {"norm": NORM, "spectrum": given})
        if pixels and "mask_policy" in options:
            # The shares of the pixels are those of the reference spectrum.
            assert_allclose(found.sum(), expected.sum(), rtol=1e-9)
            assert_allclose(found, expected, rtol=0.01)
        else:
            assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_each_bin_has_its_own_spectrum(datasets):
    made = estimator().reduce(datasets, spectrum="free")
    index = np.array([[2.0, 2.2], [2.4, 2.9], [3.1, 1.7]])
    found = made.npred({"norm": NORM, "spectrum": {"index": index}})
    for b, g in np.ndindex(index.shape):
        model = MODEL.replace(index=index[b, g])
        shared = estimator(spectral_model=model).reduce(datasets).npred({"norm": NORM})
        for term, rate, expected in zip(made.terms, found, shared, strict=True):
            at = np.asarray(term.mask)[g, b]
            assert_allclose(rate[g, b][at], expected[g, b][at], rtol=1e-12)


@pytest.mark.slow
def test_derivatives_with_respect_to_the_index(datasets):
    made = estimator().reduce(datasets, spectrum="free")

    def log_prob(index):
        return made.log_prob({"norm": NORM, "spectrum": {"index": index}})

    value, gradient = jax.jit(jax.vmap(log_prob)), jax.jit(jax.grad(log_prob))
    h = 1e-3
    for index in (np.asarray(2.3), np.array([2.1, 2.5, 2.8])):
        rows = np.eye(index.size).reshape(-1, *index.shape)
        low, lower, high, higher = (value(index + h * n * rows) for n in (-1, -2, 1, 2))
        slope = ((8 * (high - low) - (higher - lower)) / (12 * h)).reshape(index.shape)
        assert_allclose(gradient(jnp.asarray(index)), slope, rtol=1e-7)


@pytest.mark.slow
def test_a_shared_index_is_fitted(datasets):
    """Against scipy and a cost in numpy, two datasets, with a power law in closed form."""
    own = datasets[::2]
    made = estimator().reduce(own, spectrum="free")
    start = {"norm": np.ones((3, 2)), "spectrum": {"index": np.asarray(2.3)}}
    found = fit(made, start)
    assert found.success

    terms, edges = jax.tree.map(np.asarray, (made.terms, made.spectra.edges))

    def cost(x):
        total, power = 0.0, 1 - x[-1]
        norm = x[:-1].reshape(3, 2)
        for term, own in zip(terms, edges, strict=True):
            flux = 1e-12 * np.diff(own**power) / power
            signal = np.einsum("ng,gnqs,q->gns", norm, term.templates[:, :, 0], flux)
            rate = (term.background + signal)[term.mask]
            total += 2 * np.sum(rate - term.counts[term.mask] * np.log(rate))
        return total

    x = np.append(np.ravel(found.params["norm"]), found.params["spectrum"]["index"])
    errors = np.append(np.ravel(found.errors["norm"]), found.errors["spectrum"]["index"])
    best = minimize(lambda y: cost(x + errors * y), np.full(7, 0.5))
    assert_allclose(best.x, 0.0, atol=1e-3)
    assert cost(x) <= best.fun + 1e-8
    # The inverse of the second derivatives of the cost, by central differences.
    h = 0.02 * errors
    steps = np.diag(h)
    curvature = [
        [(cost(x + a + b) - cost(x + a - b) - cost(x - a + b) + cost(x - a - b)) for b in steps]
        for a in steps
    ]
    covariance = 2 * np.linalg.inv(np.array(curvature) / (4 * np.outer(h, h)))
    assert_allclose(errors, np.sqrt(covariance.diagonal()), rtol=1e-3)


def test_free_spectra_have_no_arrays_of_separate_fits(datasets):
    with pytest.raises(ValueError, match="its spectra are free"):
        profile_data(estimator().reduce(datasets, spectrum="free"))
    with pytest.raises(ValueError, match="spectrum"):
        estimator().reduce(datasets, spectrum="shared")
    table = TemplateSpectralModel(energy=[0.1, 3.0, 90.0], values=[3.0, 1.0, 0.1])
    with pytest.raises(ValueError, match="a TemplateSpectralModel has tables"):
        estimator(spectral_model=table).reduce(datasets, spectrum="free")


def test_axes_of_the_templates(datasets):
    made = estimator().reduce(datasets, spectrum="free")
    _, true = energy_axes(4)
    for term, n_true in zip(made.terms, (TRUE.nbin, TRUE.nbin, true.nbin), strict=True):
        assert term.templates.shape == (2, 3, 1, n_true, 2)
