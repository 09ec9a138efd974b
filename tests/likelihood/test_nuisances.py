"""Exposures and scales as nuisance parameters of likelihoods, with their constraints."""

import copy

import astropy.units as u
import jax
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose
from scipy.special import ndtr

from jaxprof import EDispKernelMap, EDispMap, FluxProfileEstimator, MapAxis, MapDataset, fit
from jaxprof.datasets.folding import dataset_at_scale
from jaxprof.likelihood.arrays import profile_data
from jaxprof.likelihood.layout import joint_data

TRUE = MapAxis.from_energy_bounds(0.4, 25, 44, unit="TeV", name="energy_true")
SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)


@pytest.fixture(scope="module")
def counted():
    """About 1e4 counts of a halo, behind a PSF and an energy dispersion."""
    rng = np.random.default_rng(1)
    image = sky_image(lambda x, y: np.exp(-np.hypot(x, y) / 0.3), 0.1)
    found = dataset_of(
        gaussian_image(image, 0.1, 0.1),
        0.1,
        sigma=0.1,
        n_photons=4e4,
        background=2.0,
        dispersion=0.15,
        true=TRUE,
        n_energy=6,
    )
    found.counts.data = rng.poisson(found.counts.data).astype(float)
    return found


def separate(**options):
    energies = {"energy_edges": [1, 10] * u.TeV, **options}
    return FluxProfileEstimator(rings(4, 0.2), spectral_model=MODEL, **energies)


def with_edisp(dataset, edisp):
    found = copy.copy(dataset)
    found.edisp = edisp
    return found


def gaussian_migra(width=0.15):
    axis = MapAxis.from_edges(np.linspace(0, 3, 3001), name="migra")
    density = np.diff(ndtr((axis.edges.value - 1) / width)) / axis.bin_width.value
    return EDispMap(np.tile(density, (TRUE.nbin, 1)), axis, TRUE)


def test_scaled_dispersions_are_those_of_other_gaussians(counted):
    reco = counted.energy_axis
    for factor in (0.9, 1.1):
        exact = EDispKernelMap.from_gauss(reco, TRUE, 0.15 * factor, bias=factor - 1).data
        migra = gaussian_migra().scaled(factor)
        assert_allclose(migra.get_kernel(None, reco), exact, atol=1e-5)
        inner = slice(2, -2)  # beyond the true energies of a matrix nothing is known
        assert_allclose(counted.edisp.scaled(factor).data[inner], exact[inner], atol=3e-3)
    assert counted.edisp.scaled(1.0) is counted.edisp
    one = MapAxis.from_energy_bounds(1, 10, 1, unit="TeV", name="energy_true")
    with pytest.raises(ValueError, match="one true energy"):
        EDispKernelMap.from_gauss(reco, one, 0.1).scaled(1.1)


def test_unknown_elements_of_a_matrix_stay_unknown(counted):
    data = counted.edisp.data.copy()
    data[20, 3] = np.nan
    found = EDispKernelMap(data, counted.energy_axis, TRUE).scaled(1.1).data
    assert np.isnan(found[:, 3]).any() and not np.isnan(np.delete(found, 3, axis=1)).any()
    assert not np.isnan(found[:10]).any()


def test_perfect_dispersions_move_the_edges(counted):
    """A power law of index 2.3 and an even exposure: counts go with the power 1.3 of the scale."""
    dataset = with_edisp(counted, None)
    plain, scaled = (
        separate().reduce(dataset_at_scale(dataset, factor, SCALES)).terms[0].templates
        for factor in (1.0, 1.1)
    )
    assert_allclose(scaled, 1.1**1.3 * np.asarray(plain), rtol=1e-10)


@pytest.mark.parametrize(
    "kind",
    [
        "kernel",
        pytest.param("migra", marks=pytest.mark.slow),
        pytest.param(None, marks=pytest.mark.slow),
    ],
)
def test_energy_scales_of_separate_fits(counted, kind):
    edisp = {"kernel": counted.edisp, "migra": gaussian_migra(), None: None}[kind]
    dataset = with_edisp(counted, edisp)
    own = separate()
    p = {"norm": own.run(dataset).norm}
    made = own.reduce(dataset, energy_scale=SCALES)
    log_prob = jax.jit(made.log_prob)
    assert made.terms[0].templates.shape[0] == len(SCALES)
    for scale, tolerance in ((0.9, 1e-9), (1.1, 1e-9), (0.925, 0.01), (1.075, 0.01)):
        exact = own.reduce(dataset_at_scale(dataset, scale, (*SCALES, scale)))
        difference = log_prob(p | {"energy_scale": scale}) - jax.jit(exact.log_prob)(p)
        assert abs(difference) < tolerance
    # It is about something.
    assert log_prob(p | {"energy_scale": 1.1}) < log_prob(p | {"energy_scale": 1.0}) - 5
    assert log_prob(p | {"energy_scale": 1.11}) == -np.inf
    # Beyond the nodes nothing is known of the templates: no polynomial goes on, nor is it flat.
    stat = jax.value_and_grad(lambda scale: made.stat(p | {"energy_scale": scale}))
    for scale, sign in ((1.11, 1), (0.89, -1)):
        value, slope = stat(scale)
        assert value == np.inf and np.sign(slope) == sign
    assert np.isfinite(stat(1.1)[0]) and np.isfinite(stat(0.9)[0])


@pytest.mark.slow
def test_both_scales_of_joint_fits(counted):
    own = estimator(rings(4, 0.2))
    response = own.response(counted)
    p = {"norm": own.run(counted, response).norm}
    made = own.reduce(counted, response, psf_scale=(0.9, 1.0, 1.1), energy_scale=SCALES)
    assert made.terms[0].templates.shape[:2] == (5, 3)  # in alphabetical order
    log_prob = jax.jit(made.log_prob)
    for energy, width, tolerance in ((0.9, 1.1, 1e-9), (1.075, 0.95, 0.01)):
        dataset = dataset_at_scale(counted, energy, SCALES)
        refolded = own.response(dataset).refolded(psf_scale=width, widest=1.1)
        exact = jax.jit(own.reduce(dataset, refolded).log_prob)(p)
        found = log_prob(p | {"energy_scale": energy, "psf_scale": width})
        assert abs(found - exact) < tolerance


@pytest.mark.slow
def test_widths_of_the_psf_half_way_between_nodes(counted):
    own = estimator(rings(4, 0.2))
    response = own.response(counted)
    p = {"norm": own.run(counted, response).norm}
    for nodes in ((0.9, 1.0, 1.1), (0.7, 0.85, 1.0, 1.2, 1.4)):
        made = own.reduce(counted, response, psf_scale=nodes)
        log_prob = jax.jit(made.log_prob)
        for scale in (*nodes, *(0.5 * (np.array(nodes[1:]) + nodes[:-1]))):
            exact = own.reduce(counted, response.refolded(psf_scale=scale, widest=nodes[-1]))
            difference = log_prob(p | {"psf_scale": scale}) - jax.jit(exact.log_prob)(p)
            assert abs(difference) < 0.01


def named(dataset, name):
    maps = ("counts", "background", "exposure", "psf", "edisp")
    return MapDataset(**{own: getattr(dataset, own) for own in maps}, name=name)


def test_constraints(counted):
    datasets = [named(counted, "zeta"), named(counted, "alpha")]
    own = separate()
    made = own.reduce(
        datasets,
        exposure={"alpha": 0.1},
        energy_scale=(0.9, 1, 1.1),
        constraints={"energy_scale": 0.05},
    )
    start = made.params()
    assert list(start) == ["norm", "exposure", "energy_scale"]
    assert made.fixed() == ("exposure[0]",)
    bounds = made.bounds()
    assert bounds["energy_scale"] == (0.9, 1.1) and bounds["exposure"] == (0.0, None)
    plain = own.reduce(datasets)
    factor = np.array([1.0, 1.2])
    expected = plain.log_prob({"exposure": factor}) - 0.5 * (0.2 / 0.1) ** 2
    assert_allclose(made.log_prob({"exposure": factor}), expected, rtol=1e-12)
    far = {"energy_scale": 1.1}
    added = made.log_prob(far) - own.reduce(datasets, energy_scale=(0.9, 1, 1.1)).log_prob(far)
    assert_allclose(added, -0.5 * (0.1 / 0.05) ** 2, rtol=1e-9)
    # Other measurements of the constrained parameters, around a truth.
    keys = jax.random.split(jax.random.key(1), 400)
    truth = {"exposure": np.array([1.0, 1.3]), "energy_scale": 1.02}
    drawn = jax.jit(jax.vmap(lambda key: made.simulate(key, truth, constraints=True).constraints))
    centres = {name: each.centre for name, each in drawn(keys).gaussian.items()}
    assert_allclose(centres["exposure"].mean(axis=0), [1.0, 1.3], atol=0.025)
    assert_allclose(centres["exposure"].std(axis=0), [0.0, 0.1], atol=0.02)
    assert_allclose(centres["energy_scale"].mean(), 1.02, atol=0.0125)
    assert_allclose(centres["energy_scale"].std(), 0.05, rtol=0.2)


@pytest.mark.slow
def test_a_fit_of_the_nuisance_parameters(counted):
    """On expected counts the truth comes back, and a constraint gives the norms its error."""
    made = separate().reduce(
        counted, exposure=0.1, energy_scale=(0.9, 1, 1.1), constraints={"energy_scale": 0.05}
    )
    own = made.asimov({})
    found = fit(own, made.params())
    assert found.success
    for name, value in found.params.items():
        assert_allclose(value, 1.0, atol=1e-5, err_msg=name)
    assert_allclose(found.errors["exposure"], 0.1, rtol=1e-3)
    assert found.errors["energy_scale"] < 0.05
    alone = fit(own, {"norm": np.ones((4, 1))})
    scaled = fit(own, {name: made.params()[name] for name in ("norm", "energy_scale")})
    total = np.hypot(scaled.errors["norm"], 0.1)
    assert_allclose(found.errors["norm"], total, rtol=0.01)
    assert np.all(scaled.errors["norm"] > alone.errors["norm"])


def test_likelihoods_with_nuisance_parameters_are_no_fits_of_norms(counted):
    with pytest.raises(ValueError, match="share nuisance parameters"):
        profile_data(separate().reduce(counted, exposure=0.1))
    own = estimator(rings(4, 0.2))
    with pytest.raises(ValueError, match="exposures, scales or positions are among its parameters"):
        joint_data(own.reduce(counted, exposure="free"), 0)
    other = own.response(counted).refolded(spectral_model=MODEL)
    with pytest.raises(ValueError, match="folded again with another spectral_model"):
        own.reduce(counted, other, psf_scale=(0.9, 1.1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"exposure": -0.1}, "exposure must be 'fixed', 'free' or the positive width"),
        ({"exposure": [0.1, 0.2]}, "exposure is a list of 2; give one for each of the 1 datasets"),
        ({"exposure": {"other": 0.1}}, "exposure: 'other' is no dataset; there are 'truth'"),
        ({"energy_scale": (1.1, 0.9)}, "energy_scale must be two or more positive and increasing"),
        ({"energy_scale": 1.1}, "energy_scale must be two or more"),
        ({"energy_scale": (0.9, 1.0, np.inf)}, "energy_scale must be two or more"),
        ({"energy_scale": [0.9, 1.0, 1.1] * u.deg}, "energy_scale must be two or more"),
        ({"energy_scale": (0.9, 1.1), "constraints": [0.1]}, "constraints must be a dict"),
        ({"energy_scale": (1.1, 1.2)}, "energy_scale must be around 1"),
        ({"constraints": {"exposure": 0.1}}, "'exposure' is no scale that has nodes; give expo"),
        ({"constraints": {"energy_scale": 0.1}}, r"give energy_scale=\(0.9, 1, 1.1\)"),
        (
            {"energy_scale": (0.9, 1.1), "constraints": {"energy_scale": 0.0}},
            "constraints: 'energy_scale' must be",
        ),
        (
            {"energy_scale": (0.9, 1.1), "constraints": {"energy_scale": "free"}},
            "must be a width, got 'free'",
        ),
    ],
)
def test_bad_input(counted, options, match):
    with pytest.raises(ValueError, match=match):
        separate().reduce(counted, **options)
