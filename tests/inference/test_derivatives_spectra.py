"""Derivatives of fits that are not of norms alone, and of what they profile.

Those of free spectra, tilts of backgrounds, exposures and PSF widths, by finite differences.
"""

from dataclasses import replace
from functools import partial

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, estimator, gaussian_image, rings, sky_image
from joint_factory import Part, Problem, Spectra
from numpy.testing import assert_allclose
from test_joint_fit import quickly, stencil

import jaxprof
from jaxprof import MapAxis, MapDatasetOnOff, WcsNDMap
from jaxprof.inference import held_fit
from jaxprof.inference.held_fit import fit_held
from jaxprof.inference.interior import interior
from jaxprof.inference.interior_point import minimise
from jaxprof.inference.joint_fit import fit_joint
from jaxprof.inference.joint_intervals import joint_limits
from jaxprof.inference.joint_scan import joint_scan
from jaxprof.inference.joint_sensitivity import joint_sensitivity
from jaxprof.inference.joint_ts import joint_ts
from jaxprof.likelihood.joint_model import difference

NAMES = (
    "counts",
    "background",
    "template",
    "index",
    "edge",
    "group edge",
    "other flux",
    "constraint",
    "precision",
    "start",
    "sigma",
)
UNCHANGED = {
    # The index only says what a norm of one is; nothing is held, so a start is only that.
    "fit": {"sigma", "start"},
    "ts": {"index", "group edge", "sigma", "start"},
    "scan": {"start"},
    "limits": {"start"},
    "sensitivity": {"start"},
}


KINDS = ("constrained", "free index", "norm at zero")


def problem(on_off, kind):
    """A free and a fixed spectrum that leak into each other, in eight counts bins.

    Without a constraint nothing tells the index of a norm that is held at zero, or at zero anyway.
    """
    n = 8
    dispersion = np.array([[0.8, 0.15, 0.05], [0.15, 0.7, 0.15], [0.02, 0.18, 0.8]])
    rate = np.array([5e13, 7e13, 1.6e14])[:, None]
    templates = np.full((2, 3, n), 2e12)
    templates[0, :, :3], templates[1, :, 3:6] = rate * dispersion, rate * dispersion
    templates[0, :, 3:6], templates[1, :, :3] = 0.15 * templates[1, :, 3:6], 0.15 * rate
    spectra = Spectra(
        index=np.array([2.0]),
        amplitude=np.array([1e-12]),
        edges=np.geomspace(1.0, 10.0, 4),
        group=np.array([1.0, 10.0]),
        fixed=np.array([[4e-13, 2e-13, 1e-13]]),
    )
    precision = np.zeros((4, 4))
    precision[1, 1] = 4.0 * (kind == "constrained")
    part = Part(
        counts=np.zeros(n), templates=templates, background=np.full(n, 4.0), log_energy=np.zeros(n)
    )
    zero, lower = kind == "norm at zero", {1: -3.0}
    own = Problem(
        parts=(part,),
        spectra=spectra,
        precision=precision,
        lower=lower | {0: 0.0} if zero else lower,
        upper={1: 7.0},
    )
    expected = own.model(part, np.array([-0.5 if zero else 1.0, 2.2, 1.0, 0.0]))[0].real
    counts = np.round(expected) + np.array([2, -2, 0, 4, -4, 2, 0, -2])
    part = replace(part, counts=np.maximum(counts, 1.0))
    if on_off:
        off = np.array([9.0, 12, 8, 7, 11, 10, 6, 9])
        part = replace(part, background=None, n_off=off, alpha=np.full(n, 0.4))
    data = replace(own, parts=(part,)).joint(tiles=1, size=n)
    return replace(data, start=data.start.at[1].add(0.5 * zero))


def changed(data, by):
    """The data with one of each changed."""
    by = dict(zip(NAMES, by, strict=True))
    (block,), spectra = data.blocks, data.spectra
    first, second = ("n_on", "n_off") if hasattr(block, "n_on") else ("counts", "background")
    block = replace(
        block,
        **{
            first: getattr(block, first).at[0, 1].add(by["counts"]),
            second: getattr(block, second).at[0, 2].add(by["background"]),
            "templates": block.templates.at[0, 0, 0, 3].multiply(1 + by["template"]),
        },
    )
    models = spectra.models
    spectra = replace(
        spectra,
        models=models.replace(index=models.index + by["index"]),
        edges=(spectra.edges[0].at[1].add(by["edge"]),),
        group_edges=spectra.group_edges.at[1].add(by["group edge"]),
        fixed_flux=(spectra.fixed_flux[0].at[0, 1].multiply(1 + by["other flux"]),),
    )
    return replace(
        data,
        blocks=(block,),
        spectra=spectra,
        start=data.start.at[1].add(by["start"]),
        penalty_start=data.penalty_start.at[1].add(by["constraint"]),
        precision=data.precision.at[1, 1].add(by["precision"]),
    )


def profiled(which, data, by):
    """What is fitted or profiled; numbers of sigma and values of scans are multiplied."""
    data, factor, components = changed(data, by), 1 + by[-1], jnp.arange(2)
    fit = fit_joint(data)
    match which:
        case "fit":
            return jnp.concatenate([fit.values, jnp.diag(fit.covariance), fit.stat[None]])
        case "ts":
            return joint_ts(data, fit, components).ts
        case "scan":
            return jnp.stack(joint_scan(data, fit, components, jnp.array([0.2, 1.1]) * factor))
        case "sensitivity":
            return joint_sensitivity(data, fit, components, 3.0 * factor)
    rises = jnp.array([1.0, 4.0]) * factor**2
    return joint_limits(data, fit, components, jnp.array([-1.0, 1.0]), rises)


def one_sided(function, h):
    """Derivative at zero from values above, of fourth order in the step."""
    weights = np.array([-25.0, 48.0, -36.0, 16.0, -3.0]) / (12 * h)
    return sum(w * function(k * h) for k, w in enumerate(weights))


@pytest.fixture(scope="module")
def one_minimum():
    """Fits that look for no other minima, which takes long to compile and has no derivatives."""

    def found(data, z, free, barrier, inside, *_known):
        return *minimise(data, z, free, barrier, inside), jnp.full_like(z, jnp.nan)

    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_fit, "lowest", found)
        yield
    jax.clear_caches()


def with_slope(function):
    """Of a problem and changes: values, and their derivatives along other changes; one program."""
    return quickly(lambda problem, by, to: jax.jvp(partial(function, problem), (by,), (to,)))


def assert_slopes(function, problem, names, from_above=(), steps=None, what=""):
    """What `with_slope` gives has the derivatives that finite differences have.

    Returns values, and the largest slope with respect to each name.
    """
    zero, sizes, steps = np.zeros(len(names)), {}, steps or {}
    whole = np.asarray(function(problem, zero, zero)[0])
    known = np.isfinite(whole)
    for name, row in zip(names, np.eye(len(names)), strict=True):

        def values(h, row=row):
            return np.asarray(function(problem, h * row, zero)[0])[known]

        rule = one_sided if name in from_above else stencil
        expected = rule(values, steps.get(name, 1e-3))
        size = sizes[name] = np.abs(expected).max()
        slopes, atol = function(problem, zero, row)[1][known], 1e-6 * size + 1e-9
        assert_allclose(slopes, expected, rtol=1e-5, atol=atol, err_msg=f"{what}: {name}")
    return whole, sizes


@pytest.mark.slow
@pytest.mark.parametrize("on_off", [False, True])
@pytest.mark.parametrize("which", UNCHANGED)
def test_derivatives_with_a_free_spectrum(one_minimum, which, on_off):
    """With respect to everything, of all that is fitted and profiled."""
    function = with_slope(partial(profiled, which))
    for kind in KINDS:
        # A precision is not below zero; from 1e-3 on it lets an index leave its bound in held fits.
        above = () if kind == "constrained" else ("precision",)
        # Below that the rounding of sensitivities, 1e-14, shows in the difference.
        longest = {"fit": 1e-3, "sensitivity": 1e-4}
        steps = dict.fromkeys(above, longest.get(which, 1e-5))
        whole, sizes = assert_slopes(function, problem(on_off, kind), NAMES, above, steps, kind)
        # Neither norm nor index has an error at the bound, nor has the norm a lower limit.
        missing = {"fit": 2, "limits": 1}.get(which, 0) * (kind == "norm at zero")
        assert np.sum(np.isnan(whole)) == missing
        if kind != "norm at zero":
            unchanged = UNCHANGED[which] | ({"constraint"} if kind == "free index" else set())
            assert {name for name in NAMES if sizes[name] < 1e-8} == unchanged, kind


SEPARATE = (
    "counts",
    "no counts",
    "background",
    "template",
    "edge",
    "n_off",
    "alpha",
    "fixed",
    "sigma",
)


@pytest.fixture(scope="module")
def counted():
    """About 300 counts of a disk behind a PSF and an energy dispersion."""
    true = MapAxis.from_energy_bounds(0.5, 20, 6, unit="TeV", name="energy_true")
    image = gaussian_image(sky_image(lambda x, y: np.hypot(x, y) < 0.5, 0.1), 0.1, 0.1)
    found = dataset_of(
        image, 0.1, sigma=0.1, n_photons=300, dispersion=0.2, true=true, n_energy=4, background=0.3
    )
    found.counts.data = np.random.default_rng(4).poisson(found.counts.data).astype(float)
    return found


@pytest.fixture(scope="module")
def separate(counted):
    """Two rings by themselves, of a cash and an On-Off dataset, with one index for both."""
    rng, first = np.random.default_rng(4), counted
    ones = np.ones(first.counts.data.shape)
    second = MapDatasetOnOff(
        counts=first.counts,
        counts_off=WcsNDMap(first.counts.geom, rng.poisson(1.2 * ones).astype(float)),
        acceptance=WcsNDMap(first.counts.geom, ones),
        acceptance_off=WcsNDMap(first.counts.geom, 4 * ones),
        exposure=first.exposure,
        edisp=first.edisp,
        name="on-off",
    )
    own = jaxprof.FluxProfileEstimator(
        rings(2, 0.2), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV
    )
    made = own.reduce([first, second], spectrum="free")
    cash, on_off = made.terms
    # One counts bin without counts.
    cash = replace(cash, counts=cash.counts.at[0, 1, 3].set(0.0))
    return replace(made, terms=(cash, on_off))


def with_changes(made, by):
    """The likelihood with one of each changed."""
    by = dict(zip(SEPARATE, by, strict=True))
    cash, on_off = made.terms
    cash = replace(
        cash,
        counts=cash.counts.at[0, 0, 1].add(by["counts"]).at[0, 1, 3].add(by["no counts"]),
        background=cash.background.at[0, 0, 2].add(by["background"]),
        offset=cash.offset.at[0, 1, 1].add(by["fixed"]),
        templates=cash.templates.at[0, 0, 0, 3, 1].multiply(1 + by["template"]),
    )
    on_off = replace(
        on_off,
        n_off=on_off.n_off.at[0, 1, 1].add(by["n_off"]),
        alpha=on_off.alpha.at[0, 0, 0].multiply(1 + by["alpha"]),
    )
    edges = (made.spectra.edges[0].at[2].add(by["edge"]), made.spectra.edges[1])
    return replace(made, terms=(cash, on_off), spectra=replace(made.spectra, edges=edges))


def named_log_prob(params, made):
    """All norms, and the index that they share."""
    return made.log_prob({"norm": params["norm"], "spectrum": {"index": params["index"]}})


def profiled_separately(scanned, made, by):
    """A fit and limits of its parameters, or a scan of one of them."""
    args, factor = (with_changes(made, by),), 1 + by[-1]
    start = {"norm": jnp.ones((2, 1)), "index": jnp.asarray(2.3)}
    fit = jaxprof.fit(named_log_prob, start, args=args)
    if scanned:
        values = jnp.array([0.0, 0.7, 1.6] if "norm" in scanned else [2.0, 2.6]) * factor
        return jaxprof.scan(named_log_prob, fit, values, name=scanned, args=args)
    sigmas = {"n_sigma": factor, "n_sigma_ul": 2 * factor}
    found = jaxprof.limits(named_log_prob, fit, args=args, **sigmas)
    leaves = jax.tree.leaves((fit.params, fit.covariance, fit.stat, vars(found)))
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


@pytest.mark.slow
@pytest.mark.parametrize("scanned", ["", "norm[0, 0]", "index"])
def test_derivatives_of_separate_fits_with_a_free_spectrum(separate, scanned):
    """With respect to everything, by the general solver; a scan at zero is a test statistic."""
    function = with_slope(partial(profiled_separately, scanned))
    # No counts are below zero.
    whole, sizes = assert_slopes(function, separate, SEPARATE, ("no counts",))
    assert np.all(np.isfinite(whole)) and min(sizes.values()) > 1e-6


NUISANCES = ("counts", "background", "template", "centre", "width", "sigma")


def profiled_with_nuisances(made, by):
    """A fit with exposure and PSF width; a scan of the latter and limits of a norm."""
    by, factor = dict(zip(NUISANCES, by, strict=True)), 1 + by[-1]
    (term,), gaussian = made.terms, dict(made.constraints.gaussian)
    term = replace(
        term,
        counts=term.counts.at[0, 0, 3].add(by["counts"]),
        background=term.background.at[0, 0, 5].add(by["background"]),
        templates=term.templates.at[1, 0, 0].multiply(1 + by["template"]),
    )
    own = gaussian["exposure"]
    width = own.width * (1 + by["width"])
    gaussian["exposure"] = replace(own, centre=own.centre + by["centre"], width=width)
    constraints = replace(made.constraints, gaussian=gaussian)
    made = replace(made, terms=(term,), constraints=constraints)
    fit = jaxprof.fit(made, made.params())
    values = [fit.params[name].ravel() for name in ("norm", "exposure", "psf_scale")]
    scan = jaxprof.scan(made, fit, jnp.array([0.96, 1.03]) * factor, name="psf_scale")
    limits = jaxprof.limits(made, fit, names="norm", n_sigma=factor, n_sigma_ul=2 * factor)
    found = [*values, jnp.diag(fit.covariance), fit.stat, scan, limits.errn["norm"]]
    found = [*found, limits.errp["norm"], limits.ul["norm"]]
    return jnp.concatenate([jnp.ravel(own) for own in found])


@pytest.mark.slow
def test_derivatives_with_exposure_and_psf_width(counted):
    made = estimator(rings(2, 0.2)).reduce(
        counted, exposure=0.1, psf_scale=(0.9, 1.0, 1.1), constraints={"psf_scale": 0.03}
    )
    whole, sizes = assert_slopes(with_slope(profiled_with_nuisances), made, NUISANCES)
    assert np.all(np.isfinite(whole)) and min(sizes.values()) > 1e-3


TILTED = ("n_on", "n_off", "alpha", "counts", "background", "log energy", "penalty", "sigma")


def tilted():
    """Two norms behind a background of free norm and tilt, and with On-Off data."""
    rng, n = np.random.default_rng(3), 6
    templates, axis = rng.uniform(2.0, 9.0, (2, 2, 1, n)), np.linspace(-1, 1, n)
    cash = Part(
        counts=rng.poisson(30.0, n).astype(float),
        templates=templates[0],
        background=20.0 * np.exp(-axis),
        log_energy=axis,
    )
    on_off = Part(
        counts=rng.poisson(25.0, n).astype(float),
        templates=templates[1],
        n_off=rng.poisson(40.0, n).astype(float),
        alpha=np.full(n, 0.3),
    )
    precision = np.diag([0.0, 0.0, 4.0, 0.0])
    bounds = {"lower": {3: -5.0}, "upper": {3: 5.0}, "precision": precision}
    return Problem((cash, on_off), n_nuisance=1, **bounds).joint(1, n)


def profiled_with_a_tilt(data, by):
    """Test statistics, scans and limits."""
    by, factor = dict(zip(TILTED, by, strict=True)), 1 + by[-1]
    cash, on_off = data.blocks
    cash = replace(
        cash,
        counts=cash.counts.at[0, 1].add(by["counts"]),
        background=cash.background.at[0, 2].add(by["background"]),
        log_energy=cash.log_energy.at[0, 0].add(by["log energy"]),
    )
    on_off = replace(
        on_off,
        n_on=on_off.n_on.at[0, 0].add(by["n_on"]),
        n_off=on_off.n_off.at[0, 4].add(by["n_off"]),
        alpha=on_off.alpha.at[0, 2].add(by["alpha"]),
    )
    penalty = data.penalty_start.at[2].add(by["penalty"])
    data = replace(data, blocks=(cash, on_off), penalty_start=penalty)
    fit, both = fit_joint(data), jnp.arange(2)
    rises = jnp.array([1.0, 4.0]) * factor**2
    found = (
        joint_ts(data, fit, both).ts,
        *joint_scan(data, fit, both, jnp.array([0.2, 1.1]) * factor),
        joint_limits(data, fit, both, jnp.array([-1.0, 1.0]), rises),
    )
    return jnp.concatenate([own.ravel() for own in found])


@pytest.mark.slow
def test_derivatives_with_a_tilt_and_on_off_data(one_minimum):
    whole, sizes = assert_slopes(with_slope(profiled_with_a_tilt), tilted(), TILTED)
    assert np.all(np.isfinite(whole)) and min(sizes.values()) > 1e-3


def test_derivatives_with_respect_to_a_precision_of_zero(monkeypatch):
    """A norm of zero leaves its index where the least penalty would have it, wherever it starts."""
    data = problem(on_off=False, kind="free index")
    data = replace(data, start=data.start.at[1].add(0.5))
    best = jnp.array([1.0, 2.3, 1.0, 0.0])
    # Of the fit the values of what is not free matter only.
    monkeypatch.setattr(held_fit, "lowest", lambda _, z, *rest: (z, jnp.asarray(True), z))
    at = (jnp.asarray(0), jnp.zeros(()))
    z = quickly(lambda inside: fit_held(data, best, inside, *at).z)(interior(data))

    def rise(precision):
        return difference(replace(data, precision=data.precision.at[1, 1].set(precision)), z, best)

    # At zero the centre costs nothing, at the best fit its distance does: the norm takes no part.
    assert_allclose(quickly(jax.grad(rise))(0.0), -((2.3 - 2.0) ** 2), rtol=1e-12)
