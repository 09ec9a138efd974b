"""The likelihood against plain numpy and scipy, its derivatives, its domain, its bad input."""

import dataclasses

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal
from regions import RectangleSkyRegion
from scipy import stats
from scipy.optimize import minimize_scalar

from jaxprof import (
    FluxProfileEstimator,
    MapDataset,
    MapDatasetOnOff,
    PowerLawSpectralModel,
    TemplateSpectralModel,
    WcsNDMap,
    fit,
)
from jaxprof.likelihood import (
    Constraints,
    CountsBins,
    FreeParameters,
    Gaussian,
    Likelihood,
    OnOff,
    Poisson,
    Spectra,
)
from jaxprof.likelihood.arrays import profile_data
from jaxprof.likelihood.data import Status
from jaxprof.likelihood.layout import joint_data, layout_of
from jaxprof.likelihood.merging import packed, with_merged
from jaxprof.likelihood.nodes import node_weights

B, G, D = 3, 2, 2
N, K, S = 4, 3, 5
SOURCES = ("nebula", "blazar")  # not in alphabetical order
EDGES = np.geomspace(1.0, 10.0, 5)
GROUPS = np.array([[1.0, 3.0], [3.0, 10.0]])


def parts(seed=0, n_q=1, nodes=()):
    """Arrays of two terms, the second of them On-Off."""
    rng = np.random.default_rng(seed)
    shape, n_c = (G, N, S), B + 1 + len(SOURCES)
    common = {
        "templates": rng.uniform(0.5, 3.0, (*nodes, G, N, K, n_q, S)),
        "components": np.stack([[rng.permutation(n_c)[:K] for _ in range(N)] for _ in range(G)]),
        "mask": rng.random(shape) > 0.2,
        "offset": rng.uniform(0.0, 2.0, shape),
    }
    first = common | {
        "counts": rng.poisson(3.0, shape).astype(float),
        "background": rng.uniform(0.5, 4.0, shape),
        "log_energy": rng.normal(0.0, 0.5, shape),
    }
    second = {name: np.array(value) for name, value in common.items()} | {
        "n_on": rng.poisson(8.0, shape).astype(float),
        "n_off": rng.poisson(20.0, shape).astype(float),
        "alpha": rng.uniform(0.1, 0.5, shape),
        "dataset": 1,
    }
    return first, second


def likelihood(seed=0, n_q=1, nodes=(), **changes):
    first, second = parts(seed, n_q, nodes)
    spectra = None
    nominal = {
        "norm": np.ones((B, G)),
        "guard": np.ones((1, G)),
        "source": {name: np.ones(G) for name in SOURCES},
        "background": np.ones((D, G)),
        "background_tilt": np.zeros((D, G)),
        "exposure": np.ones(D),
    }
    if n_q > 1:
        rng = np.random.default_rng(7)
        spectra = Spectra(
            edges=(EDGES, EDGES),
            source_flux=tuple(rng.uniform(0.1, 1.0, (len(SOURCES), n_q)) for _ in range(D)),
            group_edges=GROUPS,
            guard_bins=np.array([1]),
        )
        nominal["spectrum"] = PowerLawSpectralModel(index=2.0, amplitude=1.0)
    if nodes:
        nominal["psf_scale"] = np.asarray(1.0)
    origins = CountsBins(
        energy=np.zeros((G, N, S), int),
        pixel=np.zeros((G, N, S), int),
        region=np.zeros((G, N, B), bool),
    )
    made = Likelihood(
        terms=(Poisson(**first), OnOff(**second)),
        constraints=Constraints(),
        nominal=nominal,
        bins=(origins, origins),
        spectra=spectra,
        nodes={"psf_scale": np.array([0.8, 1.0, 1.3])} if nodes else {},
        sources=SOURCES,
    )
    return dataclasses.replace(made, **changes)


def params(seed=1):
    rng = np.random.default_rng(seed)
    return {
        "norm": rng.uniform(0.5, 2.0, (B, G)),
        "guard": rng.uniform(0.5, 2.0, (1, G)),
        "source": {name: rng.uniform(0.5, 2.0, G) for name in SOURCES},
        "background": rng.uniform(0.5, 2.0, (D, G)),
        "background_tilt": rng.normal(0.0, 0.3, (D, G)),
        "exposure": rng.uniform(0.8, 1.2, D),
    }


def coefficients(p, dataset):
    """(C, G), in the order of the components."""
    rows = [p["norm"], p["guard"], *(p["source"][name][None] for name in SOURCES)]
    return np.concatenate(rows) * p["exposure"][dataset]


def by_hand(arrays, c):
    """Signal (G, N, S) of coefficients (C, G, Q), one counts bin after the other."""
    found = np.zeros((G, N, S))
    for g, n, k in np.ndindex(G, N, K):
        own = c[arrays["components"][g, n, k], g]
        found[g, n] += own @ arrays["templates"][g, n, k]
    return found


def poisson_rate(arrays, p, signal):
    scale = p["background"][0][:, None, None]
    tilt = np.exp(-p["background_tilt"][0][:, None, None] * arrays["log_energy"])
    return scale * tilt * arrays["background"] + arrays["offset"] + signal


def profiled(n_on, n_off, alpha, signal):
    """Largest log probability of ON and OFF counts over the OFF rate, by a scalar search."""

    def minus(log_rate):
        rate = np.exp(log_rate)
        both = stats.poisson.logpmf([n_on, n_off], [signal + alpha * rate, rate])
        return -both.sum()

    best = minimize_scalar(minus, bounds=(-9.0, 6.0), method="bounded", options={"xatol": 1e-10})
    return -best.fun


def test_predicted_counts_and_probability_of_poisson_counts():
    first, _ = parts()
    p = params()
    made = likelihood(terms=(Poisson(**first),))
    rate = poisson_rate(first, p, by_hand(first, coefficients(p, 0)[..., None]))
    assert_allclose(made.npred(p)[0], rate, rtol=1e-13)
    log = stats.poisson.logpmf(first["counts"], rate)[first["mask"]].sum()
    assert_allclose(made.log_prob(p), log, rtol=1e-12)
    own = np.where(first["mask"], 2 * (rate - first["counts"] * np.log(rate)), 0.0)
    assert_allclose(made.stat(p), own.sum(), rtol=1e-12)


def test_probability_of_on_off_counts():
    _, second = parts()
    p = params()
    made = likelihood(terms=(OnOff(**second),))
    signal = by_hand(second, coefficients(p, 1)[..., None]) + second["offset"]
    total = sum(
        profiled(*(second[name][at] for name in ("n_on", "n_off", "alpha")), signal[at])
        for at in np.ndindex(G, N, S)
        if second["mask"][at]
    )
    assert_allclose(made.log_prob(p), total, rtol=1e-10)
    # The background parameters are not its.
    assert_allclose(made.log_prob(p | {"background": np.full((D, G), 3.0)}), total, rtol=1e-10)
    # The statistic and the probability differ by what depends on the counts only.
    other = params(5)
    rise = -2 * (made.log_prob(other) - made.log_prob(p))
    assert_allclose(made.stat(other) - made.stat(p), rise, rtol=1e-10)


def test_spectra_shared_per_bin_and_per_group():
    first, _ = parts(n_q=4)
    made = likelihood(n_q=4, terms=(Poisson(**first),))
    p = params()
    rng = np.random.default_rng(3)
    for shape in ((), (B,), (B, G)):
        index, amplitude = rng.uniform(1.5, 3.0, shape), rng.uniform(0.5, 2.0, shape)
        full = [
            np.broadcast_to(v.reshape(*v.shape, *[1] * (2 - v.ndim)), (B, G))
            for v in (index, amplitude)
        ]
        power = 1 - full[0][..., None]
        flux = full[1][..., None] * np.diff(EDGES**power, axis=-1) / power  # (B, G, Q)
        flux = np.concatenate([flux, flux[[1]]])  # the guard bin continues bin 1
        sources = np.broadcast_to(made.spectra.source_flux[0][:, None], (2, G, 4))
        c = coefficients(p, 0)[..., None] * np.concatenate([flux, sources])
        rate = poisson_rate(first, p, by_hand(first, c))
        model = PowerLawSpectralModel(index=jnp.asarray(index), amplitude=jnp.asarray(amplitude))
        assert_allclose(made.npred(p | {"spectrum": model})[0], rate, rtol=1e-12)
        named = {"index": jnp.asarray(index), "amplitude": jnp.asarray(amplitude)}
        assert_allclose(made.npred(p | {"spectrum": named})[0], rate, rtol=1e-12)


def test_spectra_that_keep_the_flux_of_the_group():
    """The index changes the share of true energies, not the flux between the group's edges."""
    first, _ = parts(n_q=4)
    made = likelihood(n_q=4, terms=(Poisson(**first),))
    kept = dataclasses.replace(made.spectra, reference_flux=np.full((B + 1, G), 2.5))
    model = PowerLawSpectralModel(index=2.7, amplitude=31.0)
    flux = kept.flux(model, 0, B + 1)
    power = 1 - 2.7
    whole = np.diff(GROUPS**power, axis=1)[:, 0]
    expected = 2.5 * np.diff(EDGES**power) / whole[:, None]
    assert_allclose(flux, np.broadcast_to(expected, (B + 1, G, 4)), rtol=1e-12)


def test_templates_between_nodes():
    made = likelihood(nodes=(3,))
    p = params()
    nodes = made.nodes["psf_scale"]
    for number, node in enumerate(nodes):
        plain = tuple(
            dataclasses.replace(term, templates=term.templates[number]) for term in made.terms
        )
        expected = likelihood(terms=plain).log_prob(p)
        assert_allclose(made.log_prob(p | {"psf_scale": node}), expected, rtol=1e-12)
    at = 1.17
    # A polynomial in the logarithm of the width.
    powers = np.vander(np.log(nodes), increasing=True).T
    weights = np.linalg.solve(powers, np.log(at) ** np.arange(3))
    mixed = tuple(
        dataclasses.replace(term, templates=np.tensordot(weights, term.templates, axes=1))
        for term in made.terms
    )
    expected = likelihood(terms=mixed).log_prob(p)
    assert_allclose(made.log_prob(p | {"psf_scale": at}), expected, rtol=1e-12)


def test_derivatives():
    made = likelihood(n_q=4, nodes=(3,))
    model = PowerLawSpectralModel(index=jnp.array([2.0, 2.2, 2.4]), amplitude=jnp.asarray(1.0))
    given = params() | {"psf_scale": 1.1, "spectrum": model}
    flat, unflatten = ravel_pytree(given)

    def log_prob(x):
        return made.log_prob(unflatten(x))

    # In one program each: operation by operation, compilation takes most of the time.
    value, gradient = jax.jit(jax.vmap(log_prob)), jax.jit(jax.vmap(jax.grad(log_prob)))
    steps = 1e-5 * np.eye(len(flat))
    low, lower, high, higher = (value(flat[None] + factor * steps) for factor in (-1, -2, 1, 2))
    slope = (8 * (high - low) - (higher - lower)) / 12e-5
    assert_allclose(gradient(flat[None])[0], slope, atol=1e-7 * np.abs(slope).max())
    hessian = jax.jit(jax.hessian(log_prob))(flat)
    second = (gradient(flat[None] + steps) - gradient(flat[None] - steps)) / 2e-5
    assert_allclose(hessian, second, atol=1e-7 * np.abs(hessian).max())
    assert_allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * np.abs(hessian).max())


def test_compiled_mapped_and_eager_agree():
    made = likelihood()
    many = [params(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *many)
    eager = [made.log_prob(p) for p in many]
    compiled = jax.jit(lambda own, p: own.log_prob(p))
    assert_allclose([compiled(made, p) for p in many], eager, rtol=1e-13)
    assert_allclose(jax.vmap(made.log_prob)(stacked), eager, rtol=1e-13)


def test_single_precision():
    made, p = likelihood(), params()
    single = jax.tree.map(
        lambda leaf: np.float32(leaf) if np.result_type(leaf).kind == "f" else leaf, (made, p)
    )
    found = single[0].log_prob(single[1])
    assert found.dtype == np.float32
    assert_allclose(found, made.log_prob(p), atol=1e-3)


def test_what_is_left_out_is_nominal():
    made = likelihood()
    assert_allclose(made.log_prob({}), made.log_prob(dict(made.nominal)), rtol=0)
    only = {"source": {"blazar": np.full(G, 2.0)}}
    both = {"source": {"blazar": np.full(G, 2.0), "nebula": np.ones(G)}}
    assert_allclose(made.log_prob(only), made.log_prob(both), rtol=0)
    # Parameters are the same after a round trip through a pytree, which sorts names.
    again = jax.tree.map(lambda leaf: leaf, made)
    assert_allclose(again.log_prob(params()), made.log_prob(params()), rtol=0)


def outside(clipped):
    """One empty counts bin and one with a count; a norm below -1 predicts less than nothing."""
    ones = np.ones((1, 1, 2))
    term = Poisson(
        counts=np.array([[[0.0, 1.0]]]),
        background=ones * np.array([1.0, 2.0]),
        offset=0 * ones,
        log_energy=0 * ones,
        templates=ones[:, :, None, None],
        components=np.zeros((1, 1, 1), int),
        mask=ones > 0,
        clipped=clipped,
    )
    nominal = {
        "norm": np.ones((1, 1)),
        "background": np.ones((1, 1)),
        "background_tilt": np.zeros((1, 1)),
        "exposure": np.ones(1),
    }
    origin = CountsBins(energy=None, pixel=None, region=None)
    return Likelihood(terms=(term,), constraints=Constraints(), nominal=nominal, bins=(origin,))


@pytest.mark.parametrize("clipped", [False, True])
def test_domain(clipped):
    made = outside(clipped)

    def log_prob(norm):
        return made.log_prob({"norm": jnp.full((1, 1), norm)})

    assert_allclose(log_prob(-0.9), np.log(1.1) - 1.2, rtol=1e-14)
    if clipped:
        assert_allclose(log_prob(-1.5), np.log(0.5) - 0.5, rtol=1e-14)
    else:
        assert log_prob(-1.5) == -np.inf
        assert jax.grad(log_prob)(-1.5) > 0
    assert np.isfinite(made.stat({"norm": jnp.full((1, 1), -1.5)})) == clipped
    # Where there are counts nothing may be predicted below zero.
    for norm in (-2.0, -2.5, -1e9):
        assert log_prob(norm) == -np.inf
        assert jax.grad(log_prob)(norm) > 0
    # A fit that ends at a prediction of zero ends there but for rounding.
    if not clipped:
        assert np.isfinite(log_prob(-1.0)) and np.isfinite(log_prob(-1.0 - 1e-12))


def test_masked_bins_change_nothing():
    made, p = likelihood(), params()
    expected = made.log_prob(p), made.stat(p), jax.grad(made.log_prob)(p)
    terms = []
    for term in made.terms:
        names = [name for name in ("counts", "background", "n_on", "n_off") if hasattr(term, name)]
        spoilt = {name: np.where(term.mask, getattr(term, name), 1e3) for name in names}
        terms.append(dataclasses.replace(term, **spoilt))
    changed = dataclasses.replace(made, terms=tuple(terms))
    found = changed.log_prob(p), changed.stat(p), jax.grad(changed.log_prob)(p)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-13), found, expected)


@pytest.mark.parametrize("what", ["log_prob", pytest.param("stat", marks=pytest.mark.slow)])
def test_what_is_no_number_gives_none_and_no_derivative(what):
    """Of all arrays and parameters: neither a probability nor a derivative of zero looks like one.

    What is masked has no say.
    """
    made, p = likelihood(constraints=Constraints(lower={"exposure": 0.1})), params()
    leaves, tree = jax.tree.flatten((made, p))
    at = [number for number, leaf in enumerate(leaves) if np.asarray(leaf).dtype.kind == "f"]

    @jax.jit
    @jax.value_and_grad
    def both(changed):
        whole = leaves.copy()
        for number, leaf in zip(at, changed, strict=True):
            whole[number] = leaf
        made, p = jax.tree.unflatten(tree, whole)
        return getattr(made, what)(p)

    plain = [np.asarray(leaves[number]) for number in at]
    value, slopes = both(plain)
    assert np.isfinite(value)

    def spoilt(number, element, bad):
        leaf = plain[number].copy()
        leaf.flat[element] = bad
        value, found = both([*plain[:number], leaf, *plain[number + 1 :]])
        return value, np.ravel(found[number])[element], found

    counted = {id(leaves[n]): n for n in at}
    never_negative = [
        at.index(counted[id(leaf)])
        for leaf in (made.terms[0].background, made.terms[1].alpha, *jax.tree.leaves(made.counts))
    ]
    known = 0
    for number, slope in enumerate(slopes):
        element = np.argmax(np.abs(slope))
        if np.ravel(slope)[element] == 0:
            continue
        known += 1
        for bad in (np.nan, np.inf, *([-1.0] if number in never_negative else [])):
            value, own, _ = spoilt(number, element, bad)
            assert np.isnan(value) and np.isnan(own), (number, bad)
    assert known > 10
    masked = np.argmin(np.ravel(made.terms[0].mask))
    value, _, found = spoilt(at.index(counted[id(made.terms[0].counts)]), masked, np.nan)
    assert np.all(np.isfinite(jax.flatten_util.ravel_pytree((value, found))[0]))
    # A bound that is none.
    broken = dataclasses.replace(made, constraints=Constraints(lower={"exposure": np.nan}))
    assert what == "stat" or np.isnan(broken.log_prob(p))
    assert np.isnan(node_weights("psf_scale", np.array([0.8, 1.0, 1.3]), np.nan)).all()


def test_constraints_and_bounds():
    made, p = likelihood(), params()
    width = np.full((D, G), 0.1)
    width[1] = np.inf
    own = Constraints(
        gaussian={"background": Gaussian(centre=np.full((D, G), 1.1), width=width)},
        smoothness=np.stack([np.eye(B), 2 * np.eye(B)]),
        lower={"norm": 0.4},
        upper={"exposure": 1.5},
    )
    constrained = dataclasses.replace(made, constraints=own)
    added = -0.5 * np.sum(((p["background"][0] - 1.1) / 0.1) ** 2)
    added -= 0.5 * np.sum(p["norm"] ** 2 * [1.0, 2.0])
    assert_allclose(constrained.log_prob(p), made.log_prob(p) + added, rtol=1e-12)
    assert_allclose(constrained.stat(p), made.stat(p), rtol=0)
    low = p | {"norm": p["norm"] - 1.0}
    assert constrained.log_prob(low) == -np.inf
    gradient = jax.grad(constrained.log_prob)(low)
    assert np.all(gradient["norm"][low["norm"] < 0.4] > 0)
    assert constrained.log_prob(p | {"exposure": np.array([1.0, 1.6])}) == -np.inf


@pytest.mark.slow
def test_simulated_counts_have_the_mean_and_the_constraint_its_width():
    made, p = likelihood(), params()
    own = Constraints(
        gaussian={"background": Gaussian(centre=np.ones((D, G)), width=np.full((D, G), 0.2))}
    )
    made = dataclasses.replace(made, constraints=own)
    keys = jax.random.split(jax.random.key(4), 1500)
    drawn = jax.jit(jax.vmap(lambda key: made.simulate(key, p, constraints=True)))(keys)
    expected = made.asimov(p)
    pairs = [
        (drawn.terms[0].counts, expected.terms[0].counts),
        (drawn.terms[1].n_on, expected.terms[1].n_on),
        (drawn.terms[1].n_off, expected.terms[1].n_off),
    ]
    for counts, mean in pairs:
        # Five standard deviations of a mean; as many for the variance, which is the mean.
        spread = 5 * np.sqrt(np.maximum(mean, 1e-3) / len(keys))
        assert np.all(np.abs(counts.mean(axis=0) - mean) <= spread)
        assert np.all(np.abs(counts.var(axis=0) - mean) <= 0.3 * mean + 1e-9)
        assert_array_equal(counts, np.round(counts))
    centres = drawn.constraints.gaussian["background"].centre
    assert_allclose(centres.mean(axis=0), p["background"], atol=0.03)
    assert_allclose(centres.std(axis=0), 0.2, rtol=0.1)
    fixed = made.simulate(keys[0], p).constraints.gaussian["background"].centre
    assert_array_equal(fixed, np.ones((D, G)))


def test_expected_counts_have_their_best_fit_at_the_truth():
    made, p = likelihood(), params()
    own = made.asimov(p)
    gradient = jax.grad(own.log_prob)(p)
    jax.tree.map(lambda leaf: assert_allclose(leaf, 0.0, atol=1e-10), gradient)
    assert_allclose(own.counts[0], np.where(made.terms[0].mask, made.npred(p)[0], 0.0), rtol=0)


def test_other_counts():
    made, p = likelihood(), params()
    again = made.with_counts(made.counts)
    assert_allclose(again.log_prob(p), made.log_prob(p), rtol=0)
    counts, pair = made.counts
    with pytest.raises(ValueError, match=r"counts have shape \(2, 4\); the likelihood needs"):
        made.with_counts((counts[..., 0], pair))
    with pytest.raises(ValueError, match="n_off have shape"):
        made.with_counts((counts, (pair[0], pair[1][0])))
    with pytest.raises(ValueError, match="counts must have 2 terms, got 1"):
        made.with_counts((counts,))
    merged = dataclasses.replace(made, merged=True)
    for change in (
        lambda: merged.with_counts(made.counts),
        lambda: merged.asimov(p),
        lambda: merged.simulate(jax.random.key(0), p),
    ):
        with pytest.raises(ValueError, match="merge=False"):
            change()


@pytest.mark.slow
def test_packed_rows_change_nothing():
    """Rows of the same components, each with its pixels with counts and one for the others."""
    made, p = likelihood(), params()
    del p["background_tilt"]
    counts, pair = made.counts
    counts = np.where(np.random.default_rng(3).random(counts.shape) > 0.4, 0.0, counts)
    term, other = made.with_counts((counts, pair)).terms
    components = np.repeat(np.asarray(term.components)[:, :1], N, axis=1)
    term = dataclasses.replace(term, components=components)
    made = dataclasses.replace(made, terms=(term, other))
    pack = np.maximum(np.arange(N) - 1, 0)
    number = np.sum((counts > 0) & term.mask, axis=2)
    most = int(max((number[:, 0] + number[:, 1]).max(), number.max()))

    def merged(room):
        parts = [packed(term, made.bins[0], pack, room), (other, made.bins[1])]
        return with_merged(made, parts)

    expected = jax.value_and_grad(made.log_prob)(p)
    for room in (most, most + 3):
        assert merged(room).terms[0].counts.shape == (G, N - 1, room + 1)
        found = jax.value_and_grad(merged(room).log_prob)(p)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)
    assert np.isnan(merged(most - 1).log_prob(p))


@pytest.mark.slow
def test_empty_bins_that_share_one_change_nothing():
    """Values and derivatives, also with templates per true energy and between nodes, under jit."""
    made, p = likelihood(n_q=4, nodes=(3,)), params()
    del p["background_tilt"]
    counts, pair = made.counts
    counts = np.where(np.random.default_rng(3).random(counts.shape) > 0.3, 0.0, counts)
    made = made.with_counts((counts, pair))
    most = int(np.sum((counts > 0) & made.terms[0].mask, axis=(1, 2)).max())
    p["psf_scale"] = np.asarray(1.1)
    expected = jax.value_and_grad(made.log_prob)(p)
    for room in (None, most, most + 3):
        merged = made.merge_empty(room)
        assert merged.terms[0].counts.shape == (G, 1, (room or most) + N)
        found = jax.value_and_grad(merged.log_prob)(p)
        jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)
    totals = [
        np.sum(own.npred(p)[0], where=np.asarray(own.terms[0].mask)) for own in (merged, made)
    ]
    assert_allclose(*totals, rtol=1e-12)

    def inside(counts, room):
        return made.with_counts((counts, pair)).merge_empty(room).log_prob(p)

    inside = jax.jit(inside, static_argnums=1)
    assert_allclose(inside(counts, most), expected[0], rtol=1e-12)
    assert np.isnan(inside(counts, most - 1))
    with pytest.raises(ValueError, match=f"most is {most - 1}, but {most} pixels have counts"):
        made.merge_empty(most - 1)
    with pytest.raises(ValueError, match="under jit the number of pixels must be given"):
        inside(counts, None)
    tilted = FreeParameters(names=("norm", "background_tilt"))
    with pytest.raises(ValueError, match="background tilts are fitted"):
        dataclasses.replace(made, free=tilted).merge_empty()
    with pytest.raises(ValueError, match="merge=False"):
        merged.with_counts(merged.counts)


@pytest.mark.slow
def test_counts_drawn_one_by_one():
    """Poisson counts of each pixel, and the likelihood of the same counts on all pixels."""
    pixel = np.broadcast_to(np.arange(N * S).reshape(N, S), (G, N, S))
    made = likelihood()
    made = dataclasses.replace(
        made, bins=tuple(dataclasses.replace(own, pixel=pixel) for own in made.bins)
    )
    p, n_sets = params(), 2000
    del p["background_tilt"]
    npred = np.where(made.terms[0].mask, made.npred(p)[0], 0.0).reshape(G, -1)
    total = npred.sum(axis=1).max()
    most = int(total + 8 * np.sqrt(total))

    def one(key):
        toy = made.simulate(key, p, most=most)
        return toy.terms[0].counts, toy.terms[0].mask, toy.bins[0].pixel

    keys = jax.random.split(jax.random.key(4), n_sets)
    drawn = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=100))(keys)
    counts, mask, pixel = (np.asarray(values)[:, :, 0, :most] for values in drawn)
    assert np.all(counts[~mask] == 0) and np.all(counts[mask] > 0)
    found = np.zeros((n_sets, G, N * S))
    number, group, _ = np.nonzero(mask)
    found[number, group, pixel[mask]] = counts[mask]
    # Each counts bin of a set is there once.
    assert np.count_nonzero(found) == mask.sum()
    some = npred > 0
    assert not np.any(found[:, ~some])
    expected, found = npred[some], found[:, some]
    pull = (found.mean(axis=0) - expected) / np.sqrt(expected / n_sets)
    assert np.abs(pull).max() < 4 and 0.6 < np.std(pull) < 1.4
    # The variances of Poisson distributions, and no correlations.
    spread = np.sqrt((2 * expected**2 + expected) / n_sets)
    assert np.all(np.abs(found.var(axis=0) - expected) <= 4.5 * spread)
    assert abs(np.var(found.sum(axis=1)) / expected.sum() - 1) < 4 * np.sqrt(2 / n_sets)
    toy = made.simulate(keys[0], p, most=most)
    whole = np.zeros((G, N * S))
    whole[some] = found[0]
    whole = made.with_counts((whole.reshape(G, N, S), toy.counts[1]))
    assert_allclose(toy.log_prob(p), whole.log_prob(p), rtol=1e-12)
    with pytest.raises(ValueError, match="most is 5, but more counts were drawn"):
        made.simulate(keys[0], p, most=5)
    assert np.isnan(jax.jit(lambda key: made.simulate(key, p, most=5).log_prob(p))(keys[0]))
    with pytest.raises(TypeError, match="stop_gradient"):
        jax.grad(lambda p: made.simulate(keys[0], p, most=most).terms[0].counts.sum())(p)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"norms": np.ones((B, G))}, "unknown 'norms'; this likelihood has 'norm'"),
        ({"norm": np.ones(B)}, r"'norm' has shape \(3,\); this likelihood has \(3, 2\)"),
        ({"norm": np.ones((G, B))}, r"'norm' has shape \(2, 3\)"),
        ({"source": {"star": np.ones(G)}}, "has no source 'star'; there are 'nebula', 'blazar'"),
        ({"source": {"nebula": np.ones(3)}}, r"'nebula' has shape \(3,\)"),
        ({"source": 1.0}, "'source' must be a dict of norms by name, got float"),
        ({"psf_scale": 1.0}, "unknown 'psf_scale'"),
        ({"norm": np.ones((B, G)) * u.TeV}, "'norm' has the unit 'TeV'; give a number of it"),
        ({"background": np.ones((D, G)) * u.one}, "'background' has the unit ''"),
        ({"norm": np.ones((B, G), complex)}, "'norm' is complex; give real numbers"),
        (np.ones((B, G)), "params must be a dict of named parameters, got ndarray"),
    ],
)
def test_bad_parameters(given, match):
    with pytest.raises(ValueError, match=match):
        likelihood().log_prob(given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            2.3,
            "'spectrum' must be a spectral model, or a dict of some of its parameters, got float",
        ),
        ({"index": np.ones(G)}, r"of shape \(2,\); this likelihood takes \(\), \(3,\) or \(3, 2\)"),
        ({"index": np.ones((B, G, 1))}, r"of shape \(3, 2, 1\)"),
        ({"index": jnp.asarray(2.0 + 0j)}, "'spectrum' has a complex parameter"),
    ],
)
def test_bad_spectra(given, match):
    with pytest.raises(ValueError, match=match):
        likelihood(n_q=4).log_prob({"spectrum": given})


def test_counts_below_zero_are_never_predicted():
    """Not as expected counts, and none are drawn there: an error, or NaN under jit."""
    made = outside(clipped=False)
    below = {"norm": np.full((1, 1), -1.5)}
    key = jax.random.key(0)
    for draw in (made.asimov, lambda p: made.simulate(key, p)):
        with pytest.raises(ValueError, match="params: they predict counts below zero"):
            draw(below)
        found = jax.jit(draw)(below)
        assert_array_equal(np.isnan(found.counts[0]), [[[True, False]]])
        assert np.isnan(found.log_prob({}))
        # Where a fit ends by rounding there are no counts.
        assert jax.jit(draw)({"norm": np.full((1, 1), -1.0 - 1e-12)}).counts[0][0, 0, 0] == 0.0


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_statistic_of_invalid_counts_is_no_number(value):
    made = likelihood(terms=likelihood().terms[:1])
    counts = np.array(made.counts[0])
    counts[tuple(np.argwhere(made.terms[0].mask)[0])] = value
    assert np.isnan(made.with_counts((counts,)).stat(params()))


@pytest.fixture(scope="module")
def counted():
    """A blurred disk with Poisson counts."""
    rng = np.random.default_rng(3)
    image = sky_image(lambda x, y: np.hypot(x, y) < 0.5, 0.1)
    dataset = dataset_of(
        gaussian_image(image, 0.1, 0.1), 0.1, sigma=0.1, n_photons=2e3, background=0.5
    )
    dataset.counts.data = rng.poisson(dataset.counts.data).astype(float)
    return dataset


@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_of_a_joint_fit(counted, merge):
    """The statistic of the profile, at its minimum; the same merged or not."""
    own = estimator(background=0.1)
    response = own.response(counted)
    profile = own.run(counted, response)
    made = own.reduce(counted, response, merge=merge)
    assert set(made.params()) == {"norm", "background"}
    p = {"norm": profile.norm, "background": np.array([[profile.nuisance["value"][0]]])}
    assert_allclose(made.stat(p), profile.stat[0, 0], rtol=1e-12)
    gradient = jax.jit(jax.grad(made.log_prob))(p)
    assert_allclose(gradient["norm"] * profile.norm_err, 0.0, atol=1e-6)
    hessian = jax.jit(jax.hessian(lambda norm: made.log_prob(p | {"norm": norm})))(profile.norm)
    assert np.all(np.linalg.eigvalsh(-hessian.reshape(3, 3)) > 0)


def test_counts_bins_know_their_pixels(counted):
    own = estimator(guard_bins=1)
    made = own.reduce(counted)
    (term,), (bins,) = made.terms, made.bins
    assert bins.dataset == "truth"
    flat = counted.counts.data.reshape(counted.counts.data.shape[0], -1)
    at = np.asarray(term.mask)
    assert_array_equal(flat[bins.energy[at], bins.pixel[at]], np.asarray(term.counts)[at])
    # Each pixel and energy once.
    pairs = np.stack([bins.energy[at], bins.pixel[at]])
    assert len(np.unique(pairs, axis=1).T) == at.sum()
    assert np.all(bins.energy[~at] == -1) and np.all(bins.pixel[~at] == -1)
    # Pixels lie in the rings that they are said to lie in.
    coords = counted.counts.geom.to_image().get_coord()
    radius = coords.separation(counted.counts.geom.center_skydir).deg.ravel()
    inside = np.stack([(0.2 * k <= radius) & (radius < 0.2 * (k + 1)) for k in range(3)], axis=1)
    region = np.broadcast_to(bins.region[:, :, None], (*at.shape, 3))[at]
    assert_array_equal(region, inside[bins.pixel[at]])


def test_free_spectrum_is_that_of_a_new_response(counted):
    own = estimator()
    response = own.response(counted)
    made = own.reduce(counted, response, spectrum="free")
    assert "spectrum" not in made.params()
    p = {"norm": np.array([[1.2], [0.8], [0.5]])}
    fixed = own.reduce(counted, response)
    assert_allclose(made.log_prob(p), fixed.log_prob(p), rtol=1e-12)
    model = MODEL.replace(index=2.9)
    other = estimator(spectral_model=model).reduce(counted)
    assert_allclose(made.log_prob(p | {"spectrum": model}), other.log_prob(p), rtol=1e-12)
    assert_allclose(made.log_prob(p | {"spectrum": {"index": 2.9}}), other.log_prob(p), rtol=1e-12)


def test_ranges_of_free_spectral_parameters(counted):
    own = estimator(free_index=True, guard_bins=1)
    made = own.reduce(counted)
    assert made.bounds()["spectrum.index"] == (-2.7, 7.3)
    assert made.bounds(["spectrum.index"]) == {"spectrum.index": (-2.7, 7.3)}
    assert made.bounds(["norm"]) == {}
    p = made.params()
    for index, inside in ((7.2, True), (7.4, False), (-2.8, False)):
        given = p | {"spectrum": {"index": np.full((3, 1), index)}}
        assert np.isfinite(made.log_prob(given)) == inside
    data = joint_data(made, 0)
    at = layout_of(made).norm + 1
    assert_array_equal(np.asarray(data.lower)[at], -2.7)
    assert_array_equal(np.asarray(data.upper)[at], 7.3)


@pytest.mark.parametrize("options", [{}, {"sum_over_energy_groups": True}])
def test_sums_over_energies_have_no_tilt(counted, options):
    tilted = {"background_tilt": np.full((1, 1), 0.5)}
    edges = {"energy_edges": [1, 10] * u.TeV, "spectral_model": MODEL}
    likelihoods = [
        FluxProfileEstimator(rings(3, 0.2), **edges, **options).reduce(counted),
        estimator(**options).reduce(counted, merge=not options),
    ]
    assert ("background_tilt" in likelihoods[0].nominal) == (not options)
    for made in likelihoods[0 if options else 1 :]:
        assert np.isfinite(made.log_prob({}))
        with pytest.raises(ValueError, match=r"'background_tilt' \(its energies are summed\)"):
            made.log_prob(tilted)


def test_tables_are_no_free_spectra(counted):
    table = TemplateSpectralModel(energy=[0.5, 3.0, 20.0], values=[3.0, 1.0, 0.1])
    with pytest.raises(ValueError, match="a TemplateSpectralModel has tables for parameters"):
        estimator(spectral_model=table).reduce(counted, spectrum="free")


@pytest.mark.slow
def test_width_of_the_psf_is_that_of_a_new_response(counted):
    own = estimator(guard_bins=1)
    response = own.response(counted)
    made = own.reduce(counted, response, psf_scale=(0.8, 0.9, 1.0, 1.1, 1.2))
    best = own.run(counted, response)
    p = {"norm": best.norm, "guard": np.array([[best.nuisance["value"][0]]])}
    for scale, tolerance in ((0.8, 1e-9), (1.2, 1e-9), (0.87, 0.01), (1.13, 0.01)):
        refolded = own.reduce(counted, response.refolded(psf_scale=scale, widest=1.2))
        difference = made.log_prob(p | {"psf_scale": scale}) - refolded.log_prob(p)
        assert abs(difference) < tolerance
    assert made.log_prob(p | {"psf_scale": 1.3}) == -np.inf
    with pytest.raises(ValueError, match="psf_scale must be two or more positive and increasing"):
        own.reduce(counted, response, psf_scale=(1.2, 0.8))
    with pytest.raises(ValueError, match="psf_scale must be around 1"):
        own.reduce(counted, response, psf_scale=(1.1, 1.2))


def test_a_wider_psf_reaches_more_bins(counted):
    """Boxes in a line: in the nodes each reaches more of them than as it is."""
    boxes = [
        RectangleSkyRegion(
            SkyCoord(x, 0.01, unit="deg", frame="galactic"), 0.1 * u.deg, 0.2 * u.deg
        )
        for x in np.arange(-0.8, 0.85, 0.1)
    ]
    own = estimator(boxes)
    response = own.response(counted)
    made = own.reduce(counted, response, psf_scale=(0.8, 1.0, 1.5))
    plain = own.reduce(counted, response)
    assert made.terms[0].components.shape[2] > plain.terms[0].components.shape[2]
    p = {"norm": np.linspace(0.5, 1.5, len(boxes))[:, None]}
    for scale in (0.8, 1.0, 1.5):
        refolded = own.reduce(counted, response.refolded(psf_scale=scale, widest=1.5))
        found = jax.jit(made.log_prob)(p | {"psf_scale": scale})
        assert_allclose(found, jax.jit(refolded.log_prob)(p), rtol=1e-12)


def named(counted, name):
    maps = ("counts", "background", "exposure", "psf", "edisp")
    return MapDataset(**{own: getattr(counted, own) for own in maps}, name=name)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"background": ["fixed", "free"]}, marks=pytest.mark.slow),
        {"norm": {"min": 0.3, "max": 0.9}},
        pytest.param({"background": [0.1, "fixed"]}, marks=pytest.mark.slow),
        pytest.param({"free_index": True, "guard_bins": 1}, marks=pytest.mark.slow),
    ],
)
def test_fit_is_that_of_the_estimator(counted, options):
    """With its bounds, and what it holds fixed."""
    datasets = [named(counted, "zeta"), named(counted, "alpha")]
    own = estimator(**options)
    response = own.response(datasets)
    profile = own.run(datasets, response)
    made = own.reduce(datasets, response)
    found = fit(made)
    assert found.success
    assert_allclose(found.params["norm"], profile.norm, atol=1e-7)
    assert_allclose(made.stat(found.params), profile.stat[0, 0], rtol=1e-10)
    assert np.isfinite(made.log_prob(found.params))
    again = fit(made.log_prob, made.params(), bounds=made.bounds(), fixed=made.fixed())
    assert_allclose(again.params["norm"], found.params["norm"], atol=1e-10)
    if "norm" in options:
        assert found.status == Status.BOUNDARY
        tighter = fit(made, made.params(), bounds={"norm": (0.4, None)})
        assert np.min(tighter.params["norm"]) == 0.4
    else:
        assert_allclose(found.errors["norm"], profile.norm_err, rtol=1e-6)


def test_a_bound_that_scaling_rounds(counted):
    made = estimator(norm={"min": 0.9}).reduce(counted)
    found = fit(made, {"norm": np.array([[0.97], [1.03], [1.37]])})
    assert found.success
    assert np.min(found.params["norm"]) == 0.9


OPTIONS = {"spectral_model": MODEL, "energy_edges": [1, 10 ** (1 / 3), 10] * u.TeV}


def with_fixed_counts(dataset):
    geom = dataset.counts.geom
    maps = ("counts", "background", "exposure", "psf", "edisp")
    found = MapDataset(**{name: getattr(dataset, name) for name in maps}, name="other")
    found.npred_sources = WcsNDMap(geom, np.full(geom.data_shape, 0.3))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"likelihood": "pixel"}, marks=pytest.mark.slow),
        {"sum_over_energy_groups": True},
    ],
)
def test_of_separate_fits(counted, options):
    """The statistic of the profile, bin by bin and at its minimum; two datasets."""
    datasets = [counted, with_fixed_counts(counted)]
    own = FluxProfileEstimator(rings(3, 0.2), **OPTIONS, **options)
    profile = own.run(datasets)
    made = own.reduce(datasets)
    assert list(made.params()) == ["norm"]
    p = {"norm": profile.norm}
    assert_allclose(made.stat(p), profile.stat.sum(), rtol=1e-12)
    gradient = jax.jit(jax.grad(made.log_prob))(p)["norm"]
    assert_allclose(gradient * profile.norm_err, 0.0, atol=1e-7)
    hessian = jax.jit(jax.hessian(lambda norm: made.log_prob({"norm": norm})))(profile.norm)
    error = np.linalg.inv(-hessian.reshape(6, 6)).diagonal().reshape(3, 2) ** 0.5
    assert_allclose(error, profile.norm_err, rtol=1e-9)
    rise = made.stat({"norm": np.zeros((3, 2))}) - made.stat(p)
    assert_allclose(rise, profile.ts.sum(), rtol=1e-9)
    npred = [
        np.where(term.mask, rate, 0.0).sum(axis=2).T
        for term, rate in zip(made.terms, made.npred(p), strict=True)
    ]
    assert_allclose(np.stack(npred, axis=-1), profile.npred, rtol=1e-12)
    # The background's norm leaves the other sources alone.
    without = made.npred({"norm": np.zeros((3, 2)), "background": 0.0})
    assert_allclose(np.where(made.terms[0].mask, without[0], 0.0), 0.0, atol=1e-12)
    fixed = profile.npred_background[..., 1] - profile.npred_background[..., 0]
    left = np.where(made.terms[1].mask, without[1], 0.0)
    assert_allclose(left.sum(axis=2).T, fixed, rtol=1e-9)


def test_tilts_of_separate_fits(counted):
    """Per energy, the background is tilted around the mean energy of its group."""
    made = FluxProfileEstimator(rings(3, 0.2), **OPTIONS).reduce(counted)
    (term,), (bins,) = made.terms, made.bins
    tilted = made.npred({"norm": np.zeros((3, 2)), "background_tilt": np.full((1, 2), 0.7)})[0]
    edges = counted.energy_axis.edges_tev()
    centres = np.sqrt(edges[1:] * edges[:-1])
    for g, n, s in np.ndindex(term.counts.shape):
        if term.mask[g, n, s]:
            own = bins.energy[g, 0][term.mask[g, 0]]
            mean = np.sqrt(edges[own.min()] * edges[own.max() + 1])
            factor = (centres[bins.energy[g, n, s]] / mean) ** -0.7
            assert_allclose(tilted[g, n, s], factor * term.background[g, n, s], rtol=1e-12)


def test_pixels_of_separate_fits(counted):
    made = FluxProfileEstimator(rings(3, 0.2), likelihood="pixel", **OPTIONS).reduce(counted)
    (term,), (bins,) = made.terms, made.bins
    at = np.asarray(term.mask)
    flat = counted.counts.data.reshape(counted.counts.data.shape[0], -1)
    assert_array_equal(flat[bins.energy[at], bins.pixel[at]], np.asarray(term.counts)[at])
    summed = FluxProfileEstimator(rings(3, 0.2), **OPTIONS).reduce(counted).bins[0]
    assert set(np.unique(summed.energy)) <= {-1, 0, 1, 2} and np.all(summed.pixel == -1)


def test_on_off_of_separate_fits(counted):
    geom = counted.counts.geom
    ones = WcsNDMap(geom, np.ones(geom.data_shape))
    rng = np.random.default_rng(4)
    off = WcsNDMap(geom, rng.poisson(2.0, geom.data_shape).astype(float))
    dataset = MapDatasetOnOff(
        counts=counted.counts,
        counts_off=off,
        acceptance=ones,
        acceptance_off=WcsNDMap(geom, 4 * np.ones(geom.data_shape)),
        exposure=counted.exposure,
        psf=counted.psf,
        name="on-off",
    )
    own = FluxProfileEstimator(rings(3, 0.2), **OPTIONS)
    profile = own.run([dataset, counted])
    made = own.reduce([dataset, counted])
    assert [type(term) for term in made.terms] == [OnOff, Poisson]
    assert [term.dataset for term in made.terms] == [0, 1]
    assert_allclose(made.stat({"norm": profile.norm}), profile.stat.sum(), rtol=1e-12)
    # The same arrays as those that are fitted, whatever the order of the datasets.
    found = profile_data(made)
    for block, expected in zip(found, profile.likelihood_data, strict=True):
        for name, array in vars(expected).items():
            assert_allclose(
                np.where(block.mask, getattr(block, name), 0.0),
                np.where(expected.mask, array, 0.0),
                rtol=1e-13,
            )


def test_a_joint_likelihood_has_no_separate_data(counted):
    with pytest.raises(ValueError, match="components share counts bins"):
        profile_data(estimator().reduce(counted))


def test_single_precision_is_said(counted):
    for own in (FluxProfileEstimator(rings(3, 0.2), **OPTIONS), estimator()):
        with jax.enable_x64(False), pytest.warns(UserWarning, match="cut to float32"):
            made = own.reduce(counted)
        assert made.terms[0].counts.dtype == np.float32


def test_second_derivatives_at_masked_on_off_bins_in_single_precision():
    ones = np.ones((1, 1, 2), np.float32)
    term = OnOff(
        n_on=jnp.asarray(ones * [2, 3], jnp.float32),
        n_off=jnp.asarray(ones * [3, 1], jnp.float32),
        alpha=jnp.asarray(ones),
        offset=jnp.asarray(0 * ones),
        templates=jnp.zeros((1, 1, 1, 1, 2), jnp.float32),
        components=np.zeros((1, 1, 1), int),
        mask=np.array([[[False, True]]]),
        dataset=0,
    )
    norm = jnp.ones(1, jnp.float32)
    signal = jnp.asarray(ones * [0.3, 0.2], jnp.float32)
    for function in (term.stat, lambda *own: term.log_prob(*own)[0]):
        found = jax.hessian(function)(signal, norm, None).reshape(2, 2)
        assert np.all(found[0] == 0) and np.all(found[:, 0] == 0) and found[1, 1] != 0
