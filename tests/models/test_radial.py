"""Radial laws: closed forms, scipy and mpmath, derivatives, properties, laws of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, special

from jaxprof.models import radial as rm
from jaxprof.models import spatial as sm
from jaxprof.models.base import parameter
from jaxprof.models.radial_halos import KPC

DEG = np.pi / 180
EDGES = np.array([0.0, 0.05, 0.3, 1.0, 1.5, 10.0])
quad = dict(epsabs=0, epsrel=1e-12, limit=400)


def ring(brightness, low, high, points=()):
    """2 pi int S sin by scipy, split at some points."""
    cuts = [low, *(p for p in points if low < p < high), high]
    parts = [
        integrate.quad(lambda t: brightness(t) * np.sin(t * DEG) * DEG, a, b, **quad)[0]
        for a, b in zip(cuts, cuts[1:], strict=False)
    ]
    return 2 * np.pi * sum(parts)


def _exponential(t):
    k = 1 / (0.7 * DEG)
    return 2 * np.exp(-t / 0.7) * (1 + k**2) / (2 * np.pi * (1 + np.exp(-np.pi * k)))


def _gaussian(t):
    a = 1 - np.cos(0.7 * DEG)
    return 2 * np.exp(-(1 - np.cos(t * DEG)) / (2 * a)) / (4 * np.pi * a * (1 - np.exp(-1 / a)))


def _generalized(t):
    norm = 2 * np.pi * (0.7 * DEG) ** 2 * 0.9 * special.gamma(1.8)
    return 2 * np.exp(-((t / 0.7) ** (1 / 0.9))) / norm


def _diffusion(t):
    norm = np.pi**1.5 * (0.7 * DEG) * (t + 0.06 * 0.7) * DEG
    return 2 * 1.22 / norm * np.exp(-((t / 0.7) ** 2))


# law, its brightness written down again, where quad is split
SMOOTH = {
    "const": (rm.ConstantRadialModel(amplitude=2), lambda t: 2.0, ()),
    "pl": (
        rm.PowerLawRadialModel(amplitude=2, alpha=-1.7, reference=0.5),
        lambda t: 2 * (t / 0.5) ** 1.7,
        (),
    ),
    "pl-core": (
        rm.CoredPowerLawRadialModel(amplitude=2, alpha=1.7, core=0.01),
        lambda t: 2 * (1 + (t / 0.01) ** 2) ** -0.85,
        (0.01, 0.03, 2.0),
    ),
    "gauss": (rm.GaussianRadialModel(amplitude=2, sigma=0.7), _gaussian, (3.0, 5.0)),
    "exp": (rm.ExponentialRadialModel(amplitude=2, theta_0=0.7), _exponential, (3.0, 6.0)),
    "gauss-general": (
        rm.GeneralizedGaussianRadialModel(amplitude=2, r_0=0.7, eta=0.9),
        _generalized,
        (3.0, 6.0),
    ),
    "diffusion": (
        rm.DiffusionRadialModel(amplitude=2, theta_d=0.7),
        _diffusion,
        (0.01, 0.04, 0.1, 2.0, 3.0),
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_rings_and_brightness(name):
    model, brightness, points = SMOOTH[name]
    t = np.array([0.001, 0.05, 0.3, 1.2, 2.0])
    assert_allclose(model(t), [brightness(x) for x in t], rtol=1e-12)
    expected = [ring(brightness, a, b, points) for a, b in zip(EDGES, EDGES[1:], strict=False)]
    assert_allclose(model.ring_integral(EDGES), expected, rtol=1e-10)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 1.95, 1.99999])
def test_power_law_cusp(alpha):
    # in u = theta^(2 - alpha) nothing is left of the cusp
    model = rm.PowerLawRadialModel(amplitude=3.0, alpha=alpha, reference=0.2)
    got = model.ring_integral(np.array([0.0, 0.1, 30.0]))
    p = 2 - alpha
    for value, low, high in zip(got, (0.0, 0.1), (0.1, 30.0), strict=True):
        part, _ = integrate.quad(
            lambda u: np.sinc(u ** (1 / p) / 180) * DEG**2 / p, low**p, high**p, **quad
        )
        assert_allclose(value, 3.0 * 2 * np.pi * 0.2**alpha * part, rtol=1e-11)


@pytest.mark.parametrize("alpha", [2.0, 3.0, 4.0, 2 + 1e-9])
def test_steep_power_law_outside(alpha):
    model = rm.PowerLawRadialModel(amplitude=3.0, alpha=alpha)
    expected = ring(lambda t: 3 * t**-alpha, 0.1, 2.0)
    assert_allclose(model.ring_integral([0.1, 2.0]), [expected], rtol=1e-11)


def test_steep_power_law_around_centre():
    model = rm.PowerLawRadialModel(alpha=2.0)
    with pytest.raises(ValueError, match="alpha=2"):
        model.ring_integral([0.0, 1.0])
    with pytest.raises(ValueError, match="alpha=2"):
        model.polygon_integral([0, 1, 0], [0, 0, 1])
    traced = jax.jit(lambda m, e: m.ring_integral(e))
    assert np.isinf(traced(model, jnp.array([0.0, 1.0]))[0])


def test_shell_and_disk():
    model = rm.ShellRadialModel(amplitude=2.0, radius=0.7, width=0.2)
    inner, outer = 0.7 * DEG, 0.9 * DEG

    def part(low, high):
        # int sqrt(R^2 - r^2) sin r, with r = R sin(x)
        total = 0.0
        for sign, size in ((1, outer), (-1, inner)):
            ends = np.arcsin(np.clip(np.array([low, high]) * DEG / size, 0, 1))
            f = lambda x, size=size: (size * np.cos(x)) ** 2 * np.sin(size * np.sin(x))  # noqa: E731
            total += sign * integrate.quad(f, *ends, **quad)[0]
        return total

    expected = [2 * part(a, b) / part(0, 1) for a, b in ((0, 0.3), (0.3, 0.75), (0.75, 1.2))]
    assert_allclose(model.ring_integral([0, 0.3, 0.75, 1.2]), expected, rtol=1e-11)
    # a hard disk: caps
    disk = rm.DiskRadialModel(amplitude=2.0, r_0=0.7, edge_width=0.0)
    cap = lambda t: np.sin(t * DEG / 2) ** 2  # noqa: E731
    assert_allclose(
        disk.ring_integral([0, 0.3, 1.0, 2.0]),
        2 * np.array([cap(0.3), cap(0.7) - cap(0.3), 0]) / cap(0.7),
        rtol=1e-13,
    )
    soft = rm.DiskRadialModel(amplitude=2.0, r_0=0.7, edge_width=0.01)
    s = lambda t: 0.5 * special.erfc(2.326174307353347 * (t / 0.7 - 1) / 0.01)  # noqa: E731
    cuts = (0.68, 0.69, 0.7, 0.71, 0.72)
    total = ring(s, 0, 1.0, cuts)
    expected = [2 * ring(s, a, b, cuts) / total for a, b in ((0, 0.695), (0.695, 0.705))]
    assert_allclose(soft.ring_integral([0, 0.695, 0.705]), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "model",
    [
        rm.GaussianRadialModel(sigma=0.3),
        rm.GaussianRadialModel(sigma=40),
        rm.ExponentialRadialModel(theta_0=25.0),
        rm.ShellRadialModel(radius=0.5, width=0.1),
        rm.DiskRadialModel(r_0=20.0, edge_width=0.2),
    ],
)
def test_whole_sky_is_the_amplitude(model):
    assert_allclose(model.ring_integral([0.0, 180.0]), [1e-12], rtol=1e-9)


def test_whole_halo_of_diffusion():
    # the norm of the formula, 0.4 % off on a flat sky
    whole = rm.DiffusionRadialModel(amplitude=1.0, theta_d=0.1).ring_integral([0, 5.0])
    x = integrate.quad(lambda x: x * np.exp(-x * x) / (x + 0.06), 0, np.inf, **quad)[0]
    assert_allclose(whole, [2 * 1.22 / np.sqrt(np.pi) * x], rtol=3e-6)
    assert_allclose(whole, [1.0036], atol=1e-4)


@pytest.mark.parametrize(
    "radial, spatial",
    [
        (rm.GaussianRadialModel(sigma=0.4), sm.GaussianSpatialModel(sigma=0.4)),
        (rm.DiskRadialModel(r_0=0.4), sm.DiskSpatialModel(r_0=0.4)),
        (rm.ShellRadialModel(radius=0.4), sm.ShellSpatialModel(radius=0.4)),
        (
            rm.GeneralizedGaussianRadialModel(r_0=0.4, eta=0.8),
            sm.GeneralizedGaussianSpatialModel(r_0=0.4, eta=0.8),
        ),
    ],
)
def test_shapes_of_spatial_models(radial, spatial):
    centre = {"lon_0": 83.6, "lat_0": -42.0}
    lon, lat = np.array([83.6, 83.9, 84.1]), np.array([-42.0, -42.1, -41.9])
    expected = 1e-12 * spatial.replace(**centre)(lon, lat)
    assert_allclose(radial.replace(**centre).brightness(lon, lat), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "alpha, core, radius_max",
    [(2.3, 0, None), (2.8, 0, None), (2.5, 0.1, None), (2.3, 0, 1.2), (0.5, 0, 1.2), (2, 0.1, 9)],
)
def test_power_law_in_space(alpha, core, radius_max):
    model = rm.PowerLawDensityRadialModel(
        amplitude=2, alpha=alpha, reference=0.5, core=core, radius_max=radius_max
    )

    def density(s, t):
        return 2 * ((s * s + t * t + core**2) / 0.25) ** (-alpha / 2)

    t = np.array([1e-4, 0.1, 1.0, 1.199])
    expected = []
    for x in t:
        rim = np.inf if radius_max is None else np.sqrt(radius_max**2 - x**2)
        cuts = [0, *(c for c in x * 10.0 ** np.arange(5) if c < rim), rim]
        parts = zip(cuts, cuts[1:], strict=False)
        expected.append(2 * sum(integrate.quad(density, a, b, (x,), **quad)[0] for a, b in parts))
    assert_allclose(model(t), expected, rtol=1e-9)
    if radius_max == 1.2:
        assert np.all(np.asarray(model([1.2, 1.3, 2.0, 90.0])) == 0)
    # rings in ln theta, on which a cusp theta^(1 - alpha) is smooth
    edges = np.linspace(np.log(0.5) - 40 / min(3 - alpha, 2), np.log(0.5), 121)
    x, w = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[:, None] / 2
    theta = np.exp(edges[:-1, None] + half * (1 + x))
    values = np.asarray(jax.jit(model.evaluate)(theta))
    total = np.sum(half * w * values * theta * DEG * np.sin(theta * DEG))
    assert_allclose(model.ring_integral([0, 0.5]), [2 * np.pi * total], rtol=1e-8)


def _los(density, theta, distance, power, radius_max):
    """Along l from the observer, by scipy, in pieces around the point nearest to the centre."""
    b, near = distance * np.sin(theta * DEG), distance * np.cos(theta * DEG)
    low, high = -near, 1e7
    if radius_max is not None:
        if b >= radius_max:
            return 0.0
        rim = np.sqrt(radius_max**2 - b**2)
        low, high = max(low, -rim), rim
        if low >= high:
            return 0.0
    steps = 10.0 ** np.arange(-7.0, 7.0, 0.5)
    cuts = [low, *(s for s in np.sort([*steps, 0, *-steps]) if low < s < high), high]
    f = lambda s: density(np.hypot(s, b)) ** power  # noqa: E731
    parts = [integrate.quad(f, a, c, **quad)[0] for a, c in zip(cuts, cuts[1:], strict=False)]
    return 3.0856775814913673e21 * sum(parts)


def _zhao(r, rho_s, r_s, alpha, beta, gamma):
    x = r / r_s
    return rho_s * x**-gamma * (1 + x ** (1 / alpha)) ** ((gamma - beta) * alpha)


def _einasto(r):
    return 0.033 * np.exp(-2 / 0.17 * ((r / 28.44) ** 0.17 - 1))


def _burkert(r):
    return 0.712 / ((1 + r / 12.67) * (1 + (r / 12.67) ** 2))


HALOS = {
    "nfw": (rm.NFWRadialModel, {}, lambda r: _zhao(r, 0.184, 24.42, 1, 3, 1)),
    "nfw-dwarf": (
        rm.NFWRadialModel,
        {"r_s": 0.3, "rho_s": 2.0, "distance": 80.0},
        lambda r: _zhao(r, 2.0, 0.3, 1, 3, 1),
    ),
    "nfw-dwarf-cut": (
        rm.NFWRadialModel,
        {"r_s": 0.3, "rho_s": 2.0, "distance": 80.0, "radius_max": 2.0},
        lambda r: _zhao(r, 2.0, 0.3, 1, 3, 1),
    ),
    "nfw-cut": (
        rm.NFWRadialModel,
        {"radius_max": 100.0},
        lambda r: _zhao(r, 0.184, 24.42, 1, 3, 1),
    ),
    "gnfw": (
        rm.GeneralizedNFWRadialModel,
        {"gamma": 1.4},
        lambda r: _zhao(r, 0.184, 24.42, 1, 3, 1.4),
    ),
    "gnfw-sharp": (
        rm.GeneralizedNFWRadialModel,
        {"gamma": 0.5, "alpha": 0.5, "beta": 4.0},
        lambda r: _zhao(r, 0.184, 24.42, 0.5, 4, 0.5),
    ),
    "einasto": (rm.EinastoRadialModel, {}, _einasto),
    "burkert": (rm.BurkertRadialModel, {}, _burkert),
}


@pytest.mark.parametrize("annihilation", [True, False])
@pytest.mark.parametrize("name", HALOS)
def test_lines_of_sight(name, annihilation):
    cls, kwargs, density = HALOS[name]
    model = cls(**kwargs, annihilation=annihilation)
    t = np.array([1e-3, 0.5, 1.3, 30.0, 90.0, 150.0])
    power = 2 if annihilation else 1
    expected = [_los(density, x, model.distance, power, model.radius_max) for x in t]
    assert_allclose(model(t), expected, rtol=2e-8)
    if name == "nfw-dwarf-cut":
        assert np.count_nonzero(expected) == 3  # the dwarf is 1.43 deg in radius


def test_projected_nfw():
    # Bartelmann 1996, A&A 313, 697, eq. 7, for a far observer
    model = rm.NFWRadialModel(r_s=1.0, rho_s=1.0, distance=1e5, annihilation=False)
    x = np.array([0.01, 0.3, 0.9])
    f = (1 - 2 / np.sqrt(1 - x**2) * np.arctanh(np.sqrt((1 - x) / (1 + x)))) / (x**2 - 1)
    assert_allclose(model(np.rad2deg(np.arcsin(x / 1e5))), 2 * f * KPC, rtol=1e-7)


@pytest.mark.parametrize("gamma", [1.0, 1.3, 1.45])
def test_cusp_of_halo_in_innermost_ring(gamma):
    # J-factor of a cone: thin shells of radius r around the centre instead of lines of sight
    model = rm.GeneralizedNFWRadialModel(
        r_s=1e4, rho_s=1e-4**gamma, gamma=gamma, distance=100.0, radius_max=1.0
    )
    d, top = 100.0, 0.3 * DEG
    b = d * np.sin(top)

    def solid(r, side):
        """Solid angle of the near (-1) or far half of a shell within the cone, over 2 pi r^2."""
        along = d * np.cos(top) + side * np.sqrt(max(r**2 - b**2, 0.0))
        cut = abs(along * np.cos(top) - d) / r if r > b else 0.0
        # int dc / (d^2 + r^2 + 2 side d r c) over the cosines c from the cut to 1
        x = 2 * side * d * r
        return np.log1p(x * (1 - cut) / (d**2 + r**2 + x * cut)) / x

    def shell(log_r):
        r = np.exp(log_r)
        # r^3 rho^2
        weight = r ** (3 - 2 * gamma) * (1 + r / 1e4) ** (2 * gamma - 6)
        return 2 * np.pi * weight * (solid(r, -1) + solid(r, 1))

    cuts = [*np.linspace(np.log(b) - 36 / (3 - 2 * gamma), np.log(b), 20), 0.0]
    parts = zip(cuts, cuts[1:], strict=False)
    expected = KPC * sum(integrate.quad(shell, *part, **quad)[0] for part in parts)
    got = model.ring_integral([0.0, 0.3])[0]
    assert_allclose(got, expected, rtol=1e-7)
    # rings inside add up to it, however narrow the innermost one is
    parts = model.ring_integral([0.0, 1e-6, 1e-3, 0.1, 0.3])
    assert_allclose(np.sum(parts), got, rtol=3e-8)


# each law with parameters of no round number, so that no break is on an edge
LAWS = {
    "const": rm.ConstantRadialModel(amplitude=0.7),
    "pl": rm.PowerLawRadialModel(amplitude=0.7, alpha=1.3),
    "pl-core": rm.CoredPowerLawRadialModel(amplitude=0.7, core=0.13),
    "pl-density": rm.PowerLawDensityRadialModel(amplitude=0.7, alpha=2.2, core=0.05),
    "pl-density-cut": rm.PowerLawDensityRadialModel(
        amplitude=0.7, alpha=2.2, core=0.11, radius_max=1.07
    ),
    "gauss": rm.GaussianRadialModel(amplitude=0.7, sigma=0.8),
    "gauss-general": rm.GeneralizedGaussianRadialModel(amplitude=0.7, r_0=0.6, eta=0.8),
    "disk": rm.DiskRadialModel(amplitude=0.7, r_0=0.9, edge_width=0.1),
    "shell": rm.ShellRadialModel(amplitude=0.7, radius=0.8, width=0.33),
    "exp": rm.ExponentialRadialModel(amplitude=0.7, theta_0=0.4),
    "diffusion": rm.DiffusionRadialModel(amplitude=0.7, theta_d=0.9),
    "nfw": rm.NFWRadialModel(amplitude=1e-22, r_s=0.5, distance=80.0, radius_max=3.0),
    "gnfw": rm.GeneralizedNFWRadialModel(amplitude=1e-22, gamma=1.2, alpha=0.9),
    "einasto": rm.EinastoRadialModel(amplitude=1e-22, annihilation=False),
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=SLOW if k in ("gnfw", "einasto") else ()) for k in LAWS]
)
def test_derivatives(name):
    model = LAWS[name].replace(lon_0=83.6, lat_0=-42.0)
    paths, tree = jax.tree.flatten_with_path(model)
    names, leaves = zip(*((path[0].name, leaf) for path, leaf in paths), strict=True)
    edges = jnp.array([0.0, 0.3, 1.0, 2.5])
    lon, lat = jnp.array([83.6, 83.9]), jnp.array([-42.0, -41.9])

    def values(leaves):
        law = jax.tree.unflatten(tree, leaves)
        # the brightness at the very centre takes part in the derivatives, not in the value
        centre = law.brightness(lon, lat)
        rings = law.ring_integral(edges)
        return jnp.concatenate([rings, centre[1:] + 0 * centre[0]])

    @jax.jit
    def along(leaves, tangents):
        return jax.jvp(values, (leaves,), (tangents,))

    base = np.array([float(x) for x in leaves])
    for i, name in enumerate(names):
        unit = np.eye(len(base))[i]
        h = 1e-3 * max(abs(base[i]), 0.1) if name not in ("lon_0", "lat_0") else 1e-4
        step = {k: along([*(base + k * h * unit)], [*unit]) for k in (-2, -1, -0.5, 0, 0.5, 1, 2)}
        f = {k: np.asarray(value) for k, (value, _) in step.items()}
        # central differences extrapolated twice: of order h^6
        d = [(f[k] - f[-k]) / (2 * k * h) for k in (2, 1, 0.5)]
        d = [(4 * fine - coarse) / 3 for coarse, fine in zip(d, d[1:], strict=False)]
        difference = (16 * d[1] - d[0]) / 15
        scale = np.abs(f[0]) / max(abs(base[i]), 0.1)
        slope = np.asarray(step[0][1])
        assert_allclose(slope / scale, difference / scale, rtol=1e-7, atol=1e-7, err_msg=name)


def test_a_shell_that_ends_on_an_edge_of_rings():
    """Second derivatives there are those from within: a default shell on round edges is fitted."""

    @jax.jit
    @jax.hessian
    def curvature(x):
        return rm.ShellRadialModel(radius=x[0], width=x[1]).ring_integral([0.5, 1.0, 1.25, 1.5])

    on, within = curvature(jnp.array([1.0, 0.25])), curvature(jnp.array([1.0, 0.25]) - 5e-9)
    assert_allclose(on, within, atol=1e-3 * np.abs(within).max())


@pytest.mark.parametrize("name", ["pl", "disk", pytest.param("nfw", marks=SLOW)])
def test_reverse_mode(name):
    model = LAWS[name]
    edges = jnp.array([0.0, 0.3, 2.5])

    def first(model):
        return model.ring_integral(edges)[0] + model(0.0) * 0

    gradient = jax.jit(jax.grad(first))(model)
    ones = jax.tree.map(lambda x: jnp.ones(()), model)
    slope = jax.jit(lambda m: jax.jvp(first, (m,), (ones,))[1])(jax.tree.map(jnp.asarray, model))
    assert_allclose(sum(jax.tree.leaves(gradient)), slope, rtol=1e-10)


def test_derivatives_by_edges_and_centre():
    model = LAWS["diffusion"]
    edges = jnp.array([0.0, 0.9, 0.9, 2.0])  # a break on edges, and a ring of no width
    slope = jax.jit(jax.jacfwd(model.ring_integral))(edges)
    expected = 2 * np.pi * DEG * np.sin(np.asarray(edges) * DEG) * np.asarray(model(edges))
    expected = expected[:, None] * (np.eye(4)[:, 1:] - np.eye(4)[:, :-1])
    assert_allclose(slope, expected.T, atol=1e-12 * np.abs(expected).max())
    # a hard disk moves its flux between rings with its radius
    disk = rm.DiskRadialModel(amplitude=1.0, r_0=0.9, edge_width=0.0)
    first = lambda r: disk.replace(r_0=r).ring_integral(jnp.array([0.0, 0.5]))[0]  # noqa: E731
    got = jax.jit(jax.grad(first))(0.9)
    cap = lambda t: np.sin(t * DEG / 2) ** 2  # noqa: E731
    assert_allclose(got, -cap(0.5) / cap(0.9) ** 2 * np.sin(0.9 * DEG) / 2 * DEG, rtol=1e-10)


@pytest.mark.parametrize("name", ["pl", "diffusion", pytest.param("nfw", marks=SLOW)])
def test_properties(name):
    model = LAWS[name]
    edges = np.array([0.0, 0.1, 0.4, 1.1])
    rings = np.asarray(model.ring_integral(edges))
    assert_allclose(model.ring_integral(edges[[0, 3]]), [np.sum(rings)], rtol=1e-9)
    assert_allclose(model.ring_integral(np.array([[0, 0.1], [0.4, 1.1]]))[:, 0], rings[[0, 2]])
    scaled = model.replace(amplitude=-3 * model.amplitude)
    assert_allclose(scaled.ring_integral(edges), -3 * rings, rtol=1e-14)
    assert_allclose(scaled([0.2]), -3 * model([0.2]), rtol=1e-14)
    # jit == vmap == loop
    amplitudes = model.amplitude * jnp.arange(1.0, 4.0)

    def one(amplitude):
        return model.replace(amplitude=amplitude).ring_integral(jnp.asarray(edges))

    loop = np.stack([one(a) for a in amplitudes])
    assert_allclose(jax.jit(jax.vmap(one))(amplitudes), loop, rtol=1e-13)
    # many laws in one pytree, and the law itself as an argument
    many = jax.tree.map(lambda x: jnp.full(3, x), model).replace(amplitude=amplitudes)
    assert_allclose(jax.vmap(lambda m: m.ring_integral(edges))(many), loop, rtol=1e-13)
    assert_allclose(jax.jit(lambda m: m.ring_integral(edges))(model), rings, rtol=1e-13)


def gnomonic(x, y, lon_0, lat_0):
    """Sky positions [deg] of tangent-plane ones: straight lines are great circles."""
    rho = np.hypot(x, y)
    c, lat = np.arctan(rho), np.deg2rad(lat_0)
    sine = np.cos(c) * np.sin(lat) + y * np.cos(c) * np.cos(lat)  # sin(c) / rho = cos(c)
    east = np.arctan2(x, np.cos(lat) - y * np.sin(lat))
    return lon_0 + np.rad2deg(east), np.rad2deg(np.arcsin(sine))


def box_of_power_law(alpha, x_0, x_1, y_0, y_1):
    """Integral over a box of the tangent plane, by angle around its centre: signed quadrants."""

    def cone(t):  # int theta^-alpha sin(theta) within t, by the series of the sine
        k = np.arange(8)
        terms = (-1.0) ** k / special.factorial(2 * k + 1) * t ** (2 * k + 2 - alpha)
        return np.sum(terms / (2 * k + 2 - alpha)) * DEG**alpha

    def quadrant(x, y):
        corner = np.arctan2(abs(y), abs(x))
        across = lambda p: cone(np.arctan(abs(x) / np.cos(p)))  # noqa: E731
        up = lambda p: cone(np.arctan(abs(y) / np.sin(p)))  # noqa: E731
        total = integrate.quad(across, 0, corner, **quad)[0]
        total += integrate.quad(up, corner, np.pi / 2, **quad)[0]
        return np.sign(x) * np.sign(y) * total

    return quadrant(x_1, y_1) - quadrant(x_0, y_1) - quadrant(x_1, y_0) + quadrant(x_0, y_0)


BOXES = np.array(
    [
        [-0.3, 0.5, -0.2, 0.1],  # the cusp is within
        [0.1, 0.5, 0.2, 0.3],
        [0.001, 0.5, -0.2, 0.1],  # close by
        [1.0, 1.05, 2.0, 2.05],
        [-15.0, 20.0, -5.0, 10.0],
    ]
)


@pytest.mark.parametrize("alpha", [-1.0, 1.0, 1.9])
def test_boxes(alpha):
    centre = {"lon_0": 83.6, "lat_0": -72.0}
    x_0, x_1, y_0, y_1 = np.tan(BOXES * DEG).T
    lon, lat = gnomonic(
        np.stack([x_0, x_1, x_1, x_0], 1), np.stack([y_0, y_0, y_1, y_1], 1), 83.6, -72
    )
    model = rm.PowerLawRadialModel(amplitude=1, alpha=alpha, **centre)
    expected = [box_of_power_law(alpha, *box) for box in np.tan(BOXES * DEG)]
    assert_allclose(model.polygon_integral(lon, lat), expected, rtol=1e-9)
    # the other way round, and with a vertex twice
    again = model.polygon_integral(lon[:, [3, 2, 1, 0, 0]], lat[:, [3, 2, 1, 0, 0]])
    assert_allclose(again, expected, rtol=1e-9)


def test_box_on_the_cusp():
    # edges through the very centre: quarters of a square
    x = np.tan(np.array([0, 0.2, 0.2, 0]) * DEG)
    lon, lat = gnomonic(x, np.roll(x, 1), 0.0, 0.0)
    model = rm.PowerLawRadialModel(amplitude=1, alpha=1.2)
    quarter = model.polygon_integral(lon, lat)
    whole = model.polygon_integral([0.2, -0.2, -0.2, 0.2], lat[2] * np.array([1, 1, -1, -1.0]))
    assert_allclose(4 * quarter, whole, rtol=1e-9)
    # derivatives with respect to the centre and the index, next to an edge and on it
    both = jax.jit(
        jax.value_and_grad(
            lambda x: model.replace(lon_0=x[0], alpha=x[1]).polygon_integral(lon, lat)
        )
    )
    assert np.all(np.isfinite(both(np.array([0.0, 1.2]))[1]))
    slope = both(np.array([1e-3, 1.2]))[1]
    for i in range(2):
        f = [both(np.array([1e-3, 1.2]) + h * np.eye(2)[i])[0] for h in (1e-6, -1e-6)]
        assert_allclose(slope[i], (f[0] - f[1]) / 2e-6, rtol=1e-5)


def test_disk_in_boxes():
    # its rim crosses the box: pixels of the plane, exactly in y
    disk = rm.DiskRadialModel(amplitude=1, r_0=0.3, edge_width=0.0)
    x_0, x_1, y_0, y_1 = np.tan(np.array([-0.1, 0.5, -0.2, 0.25]) * DEG)
    lon, lat = gnomonic(np.array([x_0, x_1, x_1, x_0]), np.array([y_0, y_0, y_1, y_1]), 0, 0)

    def column(x):
        root = np.sqrt(max(np.tan(0.3 * DEG) ** 2 - x**2, 0))
        low, high = max(y_0, -root), min(y_1, root)
        part = lambda y: y / ((1 + x**2) * np.sqrt(1 + x**2 + y**2))  # noqa: E731
        return part(high) - part(low) if high > low else 0.0

    rim = [np.sqrt(np.tan(0.3 * DEG) ** 2 - y**2) for y in (y_0, y_1)] + [np.tan(0.3 * DEG)]
    cuts = np.sort([x_0, *np.clip([*rim, -rim[1]], x_0, x_1), x_1])
    area = sum(
        integrate.quad(column, a, b, epsabs=1e-20, epsrel=1e-11)[0]
        for a, b in zip(cuts, cuts[1:], strict=False)
        if a < b
    )
    expected = area / (4 * np.pi * np.sin(0.15 * DEG) ** 2)
    assert_allclose(disk.polygon_integral(lon, lat), expected, rtol=1e-9)


def test_points_and_product_with_a_map():
    model = rm.CoredPowerLawRadialModel(amplitude=2.0, alpha=1.5, core=0.3, lon_0=10.0, lat_0=50.0)
    x, w = np.polynomial.legendre.leggauss(24)
    lon, sine = 10 + 0.5 * x, np.sin(50.1 * DEG) + 0.005 * x  # a box in lon and sin(lat)
    lon, lat = np.meshgrid(lon, np.rad2deg(np.arcsin(sine)))
    omega = np.outer(w * 0.005, w * 0.5 * DEG)
    shape = (2, 24 * 24 // 2)  # two halves
    lon, lat, omega = (a.reshape(shape) for a in (lon, lat, omega))
    parts = model.integral(lon, lat, omega)
    # the box by scipy
    hav = lambda lo, la: (  # noqa: E731
        np.sin((la - 50 * DEG) / 2) ** 2
        + np.cos(la) * np.cos(50 * DEG) * np.sin((lo - 10 * DEG) / 2) ** 2
    )
    theta = lambda lo, la: 2 * np.arcsin(np.sqrt(hav(lo, la))) / DEG  # noqa: E731
    f = lambda s, lo: 2 * (1 + (theta(lo, np.arcsin(s)) / 0.3) ** 2) ** -0.75  # noqa: E731
    mid = np.sin(50.1 * DEG)
    ends = (9.5 * DEG, 10.5 * DEG, mid - 0.005, mid + 0.005)
    expected, _ = integrate.dblquad(f, *ends, epsabs=0, epsrel=1e-9)
    assert_allclose(np.sum(parts), expected, rtol=1e-6)
    gas = 1 + 0.3 * np.cos(lon * 7)
    expected = np.sum(np.asarray(model.brightness(lon, lat)) * omega * gas, axis=-1)
    assert_allclose(model.integral(lon, lat, omega, gas), expected, rtol=1e-13)
    norms = model.norms(lon, lat, omega, [2.0, 4.0], factor=gas)
    assert_allclose(norms, expected[:, None] / np.array([2.0, 4.0]), rtol=1e-13)


def test_point_on_the_cusp():
    lon, lat, omega = [0.0, 0.1], [0.0, 0.0], [1e-6, 1e-6]
    for model in (LAWS["pl"], rm.PowerLawDensityRadialModel(alpha=1.1)):
        with pytest.raises(ValueError, match="on the centre"):
            model.integral(lon, lat, omega)
        # a point without a weight may be there
        expected = 1e-6 * np.asarray(model(0.1))
        assert_allclose(model.integral(lon, lat, [0.0, 1e-6]), expected, rtol=1e-12)
        grad = jax.jit(jax.grad(lambda m: m.integral(lon, lat, jnp.array([0.0, 1e-6]))))
        slope = grad(model)
        assert all(np.isfinite(x) for x in jax.tree.leaves(slope))
    model = LAWS["gauss"]
    expected = 1e-6 * np.sum(model([0.0, 0.1]))
    assert_allclose(model.integral(lon, lat, omega), expected, rtol=1e-12)


def test_norms_of_rings():
    model = LAWS["diffusion"]
    edges = [0, 0.5, 1.0]
    flux = np.asarray(model.ring_integral(edges))
    assert_allclose(model.ring_norms(edges, 2e-3), flux / 2e-3, rtol=1e-15)
    norms = model.ring_norms(edges, np.array([2e-3, 1e-3, 5e-4]))
    assert norms.shape == (2, 3)
    assert_allclose(norms[:, 1], flux / 1e-3, rtol=1e-15)
    slope = jax.grad(lambda f: model.ring_norms(edges, f)[0])(2e-3)
    assert_allclose(slope, -flux[0] / 2e-3**2, rtol=1e-13)
    with pytest.raises(ValueError, match="reference_flux"):
        model.ring_norms(edges, 0.0)


def test_cost_of_a_law_at_the_middle_of_rings():
    # what the docstring of ring_norms says of the innermost ring, and of all others
    model = rm.PowerLawRadialModel(amplitude=1.0, alpha=1.5)
    edges = np.linspace(0, 1, 11)
    flux = np.asarray(model.ring_integral(edges))
    middle = np.asarray(model((edges[1:] + edges[:-1]) / 2)) * np.pi * DEG**2 * np.diff(edges**2)
    assert_allclose(flux[0] / middle[0], 4 * 2**-1.5, rtol=1e-5)  # 41 % more
    assert np.all(np.abs(flux[2:] / middle[2:] - 1) < 0.02)


def own(theta, amplitude, alpha):
    return amplitude * theta**-alpha


def test_law_of_a_function():
    model = rm.RadialModel.from_function(own, amplitude=0.7, alpha=1.3, lon_0=3.0)
    ours = LAWS["pl"].replace(lon_0=3.0)
    edges = np.array([0.0, 0.3, 2.0])
    assert_allclose(model.ring_integral(edges), ours.ring_integral(edges), rtol=1e-10)
    lon, lat = [2.8, 3.1, 3.1], [-0.2, -0.2, 0.3]
    assert_allclose(model.polygon_integral(lon, lat), ours.polygon_integral(lon, lat), rtol=1e-9)
    slopes = [jax.jit(jax.grad(lambda m: m.ring_integral(edges)[0]))(m) for m in (model, ours)]
    assert_allclose(slopes[0].alpha, slopes[1].alpha, rtol=1e-9)
    assert_allclose(slopes[0].amplitude, slopes[1].amplitude, rtol=1e-9)
    moved = model.replace(alpha=1.1, lat_0=2.0)
    assert (moved.alpha, moved.amplitude, moved.lat_0, model.alpha) == (1.1, 0.7, 2.0, 1.3)
    assert model.parameters == {"amplitude": 0.7, "alpha": 1.3, "lon_0": 3.0, "lat_0": 0.0}
    assert repr(model).startswith(
        "RadialModel.from_function(own, amplitude=0.7, alpha=1.3, lon_0=3"
    )
    with pytest.raises(AttributeError, match="beta"):
        _ = model.beta
    with pytest.raises(ValueError, match="beta"):
        model.replace(beta=1.0)
    with pytest.raises(ValueError, match="gamma"):
        rm.RadialModel.from_function(own, amplitude=0.7, gamma=1.3)
    with pytest.raises(ValueError, match="alpha"):
        rm.RadialModel.from_function(own, amplitude=0.7, alpha=np.nan)
    with pytest.raises(ValueError, match="cannot be written"):
        model.to_dict()


def test_function_with_kink_and_halo_of_ones_own():
    def cone(theta, height, radius):
        return jnp.where(theta < radius, height * (1 - theta / radius), 0.0)

    model = rm.RadialModel.from_function(
        cone, height=2.0, radius=0.7, breaks=lambda height, radius: (radius,)
    )
    expected = ring(lambda t: 2 * (1 - t / 0.7), 0.3, 0.7)
    assert_allclose(model.ring_integral([0.3, 1.0]), [expected], rtol=1e-12)

    def isothermal(theta, rho_0, core):
        square = lambda r: (rho_0 / (1 + (r / core) ** 2)) ** 2  # noqa: E731
        return rm.line_of_sight_integral(square, theta, 8.5, core)

    halo = rm.RadialModel.from_function(isothermal, rho_0=0.5, core=4.0)
    # int ds / (b^2 + s^2)^2 from -d cos(theta) on
    t = np.array([0.0, 5.0, 60.0, 120.0])
    b2, s = (8.5 * np.sin(t * DEG)) ** 2 + 16, -8.5 * np.cos(t * DEG)
    b = np.sqrt(b2)
    integral = (np.pi / 2 - np.arctan(s / b)) / (2 * b**3) - s / (2 * b2 * (b2 + s**2))
    assert_allclose(halo(t), 0.25 * 256 * integral, rtol=1e-7)


def test_subclass():
    @rm.radial_model
    class Own(rm.RadialModel):
        tag = "own-test"
        amplitude: float = parameter(1.0)

        def evaluate(self, separation):
            return self.amplitude * jnp.exp(-separation)

    got = Own(amplitude=2.0).ring_integral([0, 1.0])
    assert_allclose(got, [ring(lambda t: 2 * np.exp(-t), 0, 1)], rtol=1e-12)


def test_sum():
    model = LAWS["pl"] + LAWS["gauss"].replace(lon_0=0.2)
    lon, lat = np.array([0.1, 0.5]), np.array([0.0, 0.3])
    expected = model.model1.brightness(lon, lat) + model.model2.brightness(lon, lat)
    assert_allclose(model.brightness(lon, lat), expected, rtol=1e-14)
    omega = np.array([1e-5, 2e-5])
    assert_allclose(model.integral(lon, lat, omega), np.sum(omega * expected), rtol=1e-14)
    box = [0, 0.3, 0.3], [0, 0, 0.3]
    expected = model.model1.polygon_integral(*box) + model.model2.polygon_integral(*box)
    assert_allclose(model.polygon_integral(*box), expected, rtol=1e-14)
    with pytest.raises(ValueError, match="on the centre"):
        model.integral([0.0, 0.1], [0.0, 0.1], omega)
    with pytest.raises(ValueError, match="one centre"):
        model.ring_integral([0, 1.0])
    model = LAWS["pl"] + LAWS["gauss"] + LAWS["const"]
    expected = sum(LAWS[k].ring_integral([0, 1.0]) for k in ("pl", "gauss", "const"))
    assert_allclose(model.ring_integral([0, 1.0]), expected, rtol=1e-14)
    assert_allclose(model(0.3), sum(LAWS[k](0.3) for k in ("pl", "gauss", "const")), rtol=1e-14)
    assert model.frame == "icrs" and model.parameters["model1.model1.alpha"] == 1.3
    copy = rm.radial_model_from_dict(model.to_dict())
    assert_allclose(copy.ring_integral([0, 1.0]), expected, rtol=1e-14)
    with pytest.raises(ValueError, match="frame"):
        LAWS["pl"] + LAWS["gauss"].replace(frame="galactic")
    with pytest.raises(ValueError, match="alpha=2"):
        (rm.PowerLawRadialModel(alpha=2.5) + LAWS["gauss"]).ring_integral([0, 1.0])
    with pytest.raises(ValueError, match="model2"):
        rm.SumRadialModel(LAWS["pl"], 3.0)


@pytest.mark.parametrize("name", LAWS)
def test_dicts_and_text(name):
    model = LAWS[name].replace(lon_0=1.5, frame="galactic")
    data = model.to_dict()
    copy = rm.radial_model_from_dict(data)
    assert type(copy) is type(model) and copy.frame == "galactic"
    assert copy.parameters == model.parameters
    assert copy.to_dict() == data
    assert repr(copy) == repr(model)
    assert jax.tree.structure(copy) == jax.tree.structure(model)


def test_dicts_with_units_and_errors():
    pytest.importorskip("astropy")
    data = rm.DiffusionRadialModel(theta_d=3.0).to_dict()
    data["radial"]["parameters"][1] |= {"value": 30.0, "unit": "arcmin"}
    assert_allclose(rm.radial_model_from_dict(data).theta_d, 0.5, rtol=1e-14)
    for change, match in (({"type": "x"}, "type"), ({"parameters": [{"name": "y"}]}, "y")):
        with pytest.raises(ValueError, match=match):
            rm.radial_model_from_dict({"radial": data["radial"] | change})
    with pytest.raises(ValueError, match="function"):
        rm.radial_model_from_dict({"type": "function"})
    decay = rm.NFWRadialModel(annihilation=False, amplitude=2.0).to_dict()
    assert decay["radial"]["parameters"][0] == {
        "name": "amplitude",
        "value": 2.0,
        "unit": "s-1 GeV-1",
    }
    assert rm.radial_model_from_dict(decay).annihilation is False


def test_units():
    u = pytest.importorskip("astropy.units")
    model = rm.NFWRadialModel(r_s=24420 * u.pc, rho_s="184 TeV m-3", distance="8330 pc")
    assert_allclose([model.r_s, model.rho_s, model.distance], [24.42, 0.184, 8.33], rtol=1e-12)
    law = rm.DiffusionRadialModel(amplitude="1e-8 m-2 s-1", theta_d=324 * u.arcmin)
    assert_allclose([law.amplitude, law.theta_d], [1e-12, 5.4], rtol=1e-12)
    rings = law.ring_integral([0, 60] * u.arcmin)
    assert rings.unit == u.Unit("cm-2 s-1")
    assert_allclose(rings.value, law.ring_integral([0, 1.0]), rtol=1e-13)
    assert law(1 * u.deg).unit == u.Unit("cm-2 s-1 sr-1")
    assert law.brightness(0.1 * u.deg, 0 * u.deg).unit == u.Unit("cm-2 s-1 sr-1")
    box = [0, 60, 60] * u.arcmin, [0, 0, 1] * u.deg
    assert law.polygon_integral(*box).unit == u.Unit("cm-2 s-1")
    norms = law.ring_norms([0, 60] * u.arcmin, 2e-8 * u.Unit("m-2 s-1"))
    assert_allclose(norms, rings.value / 2e-12, rtol=1e-13)
    omega = [3.0, 0, 0] * u.deg**2
    got = law.integral(*box, omega)
    assert_allclose(got, 3.0 * DEG**2 * np.asarray(law(0.0)), rtol=1e-12)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: rm.GaussianRadialModel(sigma=0.0), "sigma"),
        (lambda: rm.GaussianRadialModel(sigma="1 TeV"), "sigma"),
        (lambda: rm.PowerLawRadialModel(alpha=np.inf), "alpha"),
        (lambda: rm.PowerLawRadialModel(lat_0=91), "lat_0"),
        (lambda: rm.PowerLawDensityRadialModel(alpha=1.0), "alpha"),
        (lambda: rm.PowerLawDensityRadialModel(radius_max=-1.0), "radius_max"),
        (lambda: rm.PowerLawDensityRadialModel(alpha=3.0).ring_integral([0, 1.0]), "alpha"),
        (lambda: rm.DiskRadialModel(edge_width=1.5), "edge_width"),
        (lambda: rm.GeneralizedNFWRadialModel(gamma=1.5), "gamma"),
        (lambda: rm.GeneralizedNFWRadialModel(gamma=3.0, annihilation=False), "gamma"),
        (lambda: rm.GeneralizedNFWRadialModel(beta=0.5, gamma=0.0), "beta"),
        (lambda: rm.NFWRadialModel(annihilation="yes"), "annihilation"),
        (lambda: rm.EinastoRadialModel(distance=0.0), "distance"),
        (lambda: LAWS["pl"](181.0), "separation"),
        (lambda: LAWS["pl"](-1.0), "separation"),
        (lambda: LAWS["pl"].ring_integral([1.0, 0.5]), "edges"),
        (lambda: LAWS["pl"].ring_integral([1.0]), "edges"),
        (lambda: LAWS["pl"].ring_integral([0.0, np.nan]), "edges"),
        (lambda: LAWS["pl"].ring_integral([0.0, 200.0]), "edges"),
        (lambda: LAWS["pl"].brightness(np.nan, 0.0), "lon"),
        (lambda: LAWS["pl"].polygon_integral([0, 1.0], [0, 1.0]), "vertices"),
        (lambda: LAWS["pl"].polygon_integral([0, 1.0, 91.0], [0, 1.0, 0]), "90 deg"),
        (lambda: LAWS["pl"].integral([1.0], [1.0], [np.nan]), "solid_angle"),
        (lambda: LAWS["pl"].integral([1.0], [1.0], [1.0], [np.nan]), "factor"),
        (lambda: LAWS["pl"].replace(alpha=np.ones(3))([1.0, 2.0, 3.0]), "alpha has the shape"),
        (lambda: rm.RadialModel.from_function(3.0), "function"),
        (lambda: rm.RadialModel.from_function(lambda t, tag: t, tag=1.0), "tag"),
        (lambda: rm.RadialModel.from_function(lambda t: jnp.sum(t)), "element by element"),
        (lambda: rm.RadialModel.from_function(lambda t: np.exp(t)), "traced by JAX"),
    ],
)
def test_errors(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_single_precision():
    edges = np.array([0.0, 0.1, 0.5, 1.0])
    for name in ("pl", "diffusion", "pl-density-cut"):
        model = LAWS[name]
        got = model.ring_integral(jnp.asarray(edges, jnp.float32))
        assert got.dtype == jnp.float32
        assert_allclose(got, model.ring_integral(edges), rtol=1e-4)


def test_numbers_are_float64_without_float64():
    edges, box = np.array([0.0, 0.1, 0.5]), (np.array([0, 0.1, 0.1]), np.array([0, 0, 0.1]))
    model = rm.GaussianRadialModel(amplitude=1e-44, sigma=0.3)
    calls = (
        lambda: model(edges),
        lambda: model.ring_norms(edges, [1e-40, 2e-44]),
        lambda: model.polygon_integral(*box),
        lambda: model.norms(*box, np.array([1e-5, 1e-5, 0]), [2e-44]),
    )
    expected = [np.asarray(call()) for call in calls]
    with jax.enable_x64(False):
        for call, value in zip(calls, expected, strict=True):
            found = call()
            assert found.dtype == np.float64
            assert_allclose(found, value, rtol=1e-15)
        assert model.ring_integral(jnp.asarray(edges)).dtype == jnp.float32
