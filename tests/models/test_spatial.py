"""Spatial models: norms by quadrature, values of gammapy 2.1 (literals), derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate

from jaxprof.models import spatial as sm
from jaxprof.models import spatial_functions as functions

LON, LAT = np.array([0.1, 0.3, -0.5]), np.array([0.2, 0.45, -0.1])
CENTRE = {"lon_0": 0.1, "lat_0": 0.3}

# model, values at LON, LAT [sr-1] by gammapy 2.1, relative difference from its norms, which
# are those of the flat sky (elongated Gaussian, shell) or leave out the edge (disk)
GAMMAPY = {
    "gauss": (
        sm.GaussianSpatialModel(**CENTRE, sigma=0.4),
        [3165.0124556166, 2686.1247795209, 643.0260490387],
        1e-11,
    ),
    "gauss-wide": (
        sm.GaussianSpatialModel(**CENTRE, sigma="20 deg"),
        [1.3195146715778, 1.3194271997388, 1.3186651765714],
        1e-12,
    ),
    "gauss-elongated": (
        sm.GaussianSpatialModel(**CENTRE, sigma=0.4, e=0.7, phi=30),
        [4398.7441537353, 3653.9732027002, 662.5725495244],
        5e-6,
    ),
    "disk": (sm.DiskSpatialModel(**CENTRE, r_0=0.4), [6530.9622485990, 6530.9622485990, 0.0], 2e-5),
    "disk-elongated": (
        sm.DiskSpatialModel(**CENTRE, r_0=0.6, e=0.7, phi=30, edge_width=0.1),
        [4064.5343647687, 4064.5343647687, 0.0],
        1.5e-3,
    ),
    "shell": (
        sm.ShellSpatialModel(**CENTRE, radius=0.3, width=0.4),
        [2033.5727257798, 2420.5782068687, 0.0],
        2e-5,
    ),
    "gauss-general": (
        sm.GeneralizedGaussianSpatialModel(**CENTRE, r_0=0.4, eta=0.7, e=0.5, phi=-40),
        [5218.4288502896, 3242.4767343463, 353.2814957504],
        1e-12,
    ),
}


@pytest.mark.parametrize("name", GAMMAPY)
def test_values_of_gammapy(name):
    model, expected, rtol = GAMMAPY[name]
    assert_allclose(model(LON, LAT), expected, rtol=rtol, atol=1e-12)


def _total(model, radius, breaks=()):
    """Integral over a cone of ``radius`` [deg] by Gauss-Legendre rings around (lon_0, lat_0)."""
    x, w = np.polynomial.legendre.leggauss(60)
    edges = np.deg2rad(np.unique([0, *breaks, radius]))
    r = np.concatenate(
        [(a + b) / 2 + (b - a) / 2 * x for a, b in zip(edges, edges[1:], strict=False)]
    )
    weight = np.concatenate([(b - a) / 2 * w for a, b in zip(edges, edges[1:], strict=False)])
    angle = (np.arange(180) + 0.5) * (2 * np.pi / 180)
    r, angle = r[:, None], angle[None, :]
    lat_0 = np.deg2rad(model.lat_0)
    lat = np.arcsin(np.sin(lat_0) * np.cos(r) + np.cos(lat_0) * np.sin(r) * np.cos(angle))
    east = np.sin(angle) * np.sin(r) * np.cos(lat_0)
    lon = np.deg2rad(model.lon_0) + np.arctan2(east, np.cos(r) - np.sin(lat_0) * np.sin(lat))
    values = np.asarray(model(np.rad2deg(lon), np.rad2deg(lat)))
    return float(np.sum(weight * np.sin(r[:, 0]) * values.mean(axis=1)) * 2 * np.pi)


FAR = {"lon_0": 83.6, "lat_0": -62.0}


@pytest.mark.parametrize(
    "model, radius, breaks, rtol",
    [
        (sm.GaussianSpatialModel(**FAR, sigma=0.3), 3, (0.7, 1.5), 1e-12),
        (sm.GaussianSpatialModel(**FAR, sigma=25), 180, (30, 60, 100), 1e-12),
        (sm.GaussianSpatialModel(**FAR, sigma=2.0, e=0.8, phi=40), 18, (3, 8), 1e-12),
        (sm.DiskSpatialModel(**FAR, r_0=1.0, edge_width=0.3), 3, (0.5, 0.8, 1.0, 1.2, 1.8), 1e-12),
        (sm.DiskSpatialModel(**FAR, r_0=20.0, edge_width=0.2), 60, (14, 17, 20, 23, 28), 1e-12),
        (
            sm.DiskSpatialModel(**FAR, r_0=1.5, e=0.6, phi=-70, edge_width=1.0),
            6,
            (0.4, 0.8, 1.2, 1.6, 2, 3, 4),
            1e-12,
        ),
        (sm.DiskSpatialModel(**FAR, r_0=1.5, edge_width=0.0), 1.5, (), 1e-12),
        (sm.ShellSpatialModel(**FAR, radius=1.0, width=0.5), 1.5, (1.0,), 1e-5),
        (sm.GeneralizedGaussianSpatialModel(**FAR, r_0=0.05, eta=0.5), 0.4, (0.1,), 1e-6),
        (
            sm.GeneralizedGaussianSpatialModel(**FAR, r_0=0.05, eta=1, e=0.5),
            2,
            (0.05, 0.2, 0.6),
            3e-6,
        ),
    ],
)
def test_norm(model, radius, breaks, rtol):
    # square-root edges limit the quadrature of the shell, see the next test
    assert_allclose(_total(model, radius, breaks), 1.0, rtol=rtol)


@pytest.mark.parametrize("radius, width", [(1.0, 0.5), (0.0, 30.0), (50.0, 2.0)])
def test_norm_of_shell(radius, width):
    model = sm.ShellSpatialModel(radius=radius, width=width)
    inner, outer = np.deg2rad(radius), np.deg2rad(radius + width)
    x, w = np.polynomial.legendre.leggauss(60)
    t, total = (x + 1) / 2, 0.0
    for start, end in ((0.0, inner), (inner, outer)):
        # a root at either end becomes smooth in r = start + (end - start) sin^2(pi t / 2)
        r = start + (end - start) * np.sin(np.pi / 2 * t) ** 2
        slope = (end - start) * np.pi / 2 * np.sin(np.pi * t)
        total += np.sum(w / 2 * slope * 2 * np.pi * np.sin(r) * model(0.0, np.rad2deg(r)))
    assert_allclose(total, 1.0, rtol=1e-9)


def test_chord_integral():
    for radius in (0.01, 0.5, 1.0, 2.0):
        expected, _ = integrate.quad(
            lambda t, radius=radius: radius**2 * np.cos(t) ** 2 * np.sin(radius * np.sin(t)),
            0,
            np.pi / 2,
            epsabs=0,
            epsrel=1e-13,
        )
        assert_allclose(functions._chord_integral(radius), expected, rtol=3e-12)


def test_constant_and_point():
    sky = sm.ConstantSpatialModel(value=1 / (4 * np.pi))
    assert_allclose(sky(LON, LAT), 1 / (4 * np.pi), rtol=1e-15)
    point = sm.PointSpatialModel(lon_0=0.1)
    with pytest.raises(NotImplementedError, match="pixel_fraction"):
        point(0.1, 0.0)
    y, x = np.mgrid[:7, :9]
    share = np.asarray(point.pixel_fraction(x, y, 3.3, 4.75))
    assert_allclose([share.sum(), (share * x).sum(), (share * y).sum()], [1, 3.3, 4.75], rtol=1e-14)
    assert np.count_nonzero(share) == 4


def test_separation():
    lon, lat = np.array([0.0, 1e-7, 90.0, 180.0, 10.0]), np.array([0.0, 0.0, 0.0, 0.0, 80.0])
    expected = np.deg2rad([0.0, 1e-7, 90.0, 180.0, 80.0])
    expected[4] = np.arccos(np.cos(np.deg2rad(80)) * np.cos(np.deg2rad(10)))
    assert_allclose(functions.separation(lon, lat, 0.0, 0.0), expected, rtol=1e-14)


@pytest.mark.parametrize("name", GAMMAPY)
def test_derivatives_jit_and_pytree(name):
    model, *_ = GAMMAPY[name]
    leaves, tree = jax.tree.flatten(model)
    jax.tree.unflatten(tree, [object()] * len(leaves))
    lon, lat = jnp.array([0.1, 0.23]), jnp.array([0.3, 0.17])  # the centre is one of them

    @jax.jit
    def both(leaves):
        def values(leaves):
            return jax.tree.unflatten(tree, leaves)(lon, lat)

        return values(leaves), jax.jacrev(values)(leaves)

    values, jacobian = both([float(x) for x in leaves])
    assert_allclose(values, model(lon, lat), rtol=1e-13)
    assert all(np.all(np.isfinite(x)) for x in jacobian)
    for i in range(len(leaves)):
        f = []
        for k in (-2, -1, 1, 2):
            moved = [float(x) for x in leaves]
            moved[i] += k * 1e-5
            f.append(np.asarray(both(moved)[0])[1])
        difference = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 12e-5
        assert_allclose(jacobian[i][1], difference, rtol=1e-6, atol=1e-6 * values[1])


@pytest.mark.parametrize("name", GAMMAPY)
def test_float32(name):
    model, expected, rtol = GAMMAPY[name]
    values = model(jnp.asarray(LON, jnp.float32), jnp.asarray(LAT, jnp.float32))
    assert values.dtype == jnp.float32
    assert_allclose(values, expected, rtol=rtol + 1e-4, atol=1e-3)


def test_units_text_and_errors():
    u = pytest.importorskip("astropy.units")
    from astropy.coordinates import Longitude

    model = sm.GaussianSpatialModel(**CENTRE, sigma="24 arcmin", frame="galactic")
    assert_allclose(model.sigma, 0.4, rtol=1e-14)
    values = model(Longitude([0.1] * u.deg), 12 * u.arcmin)
    assert type(values) is u.Quantity and values.unit == u.Unit("sr-1")
    assert_allclose(values.value, 3165.0124556166, rtol=1e-11)
    assert repr(model).startswith(
        "GaussianSpatialModel(lon_0=0.1 deg, lat_0=0.3 deg, sigma=0.4 deg"
    )
    assert jax.tree.map(lambda x: x, model).frame == "galactic"
    for kwargs in ({"sigma": 0.0}, {"e": 1.0}, {"lat_0": 91}, {"sigma": "1 TeV"}, {"phi": np.nan}):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            sm.GaussianSpatialModel(**kwargs)
    with pytest.raises(ValueError, match="edge_width"):
        sm.DiskSpatialModel(edge_width=1.5)
    with pytest.raises(ValueError, match="lon must be finite"):
        model(np.nan, 0.0)
