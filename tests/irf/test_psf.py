"""PSF kernels against closed forms and plain two-dimensional sums, and the convolution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from scipy.special import ndtr

from jaxprof import MapDataset
from jaxprof.irf.psf_kernel import containment, convolve, psf_image, psf_kernel, psf_moments
from jaxprof.sky.moments import legendre, orders, point_moments

SQUARE = np.diag([-0.05, 0.05])
SKEW = np.array([[-0.05, 0.012], [0.004, 0.04]])
PER_DEG2 = np.deg2rad(1.0) ** 2


def gaussian(sigma):
    """Table of a Gaussian [deg], so fine that it is straight between the nodes."""
    rad = np.linspace(0, 7 * sigma, 1500)
    density = np.exp(-0.5 * (rad / sigma) ** 2) / (2 * np.pi * sigma**2 * PER_DEG2)
    return rad, density[np.newaxis]


def king():
    """Two King functions on few, uneven nodes, the first not at zero."""
    rad = np.array([0.004, 0.006, 0.011, 0.03, 0.034, 0.07, 0.1, 0.16, 0.3, 0.34, 0.6, 1.0])
    sigma = np.array([[0.02], [0.06]])
    # Straight lines between so few nodes hold more than the function does.
    return rad, 0.8 * (1 + rad**2 / (6 * sigma**2)) ** -3 / (3 * np.pi * sigma**2 * PER_DEG2)


def summed(rad, density, matrix, pixel, offset=None, n=200):
    """Integral over one pixel as a plain sum over n x n points a pixel, nothing normalised."""
    if offset is None:
        u = (np.arange(2 * n) + 0.5) / n - 1
        weight = np.outer(1 - np.abs(u), 1 - np.abs(u))
        offset = (0.0, 0.0)
    else:
        u = (np.arange(n) + 0.5) / n - 0.5
        weight = np.ones((n, n))
    x, y = np.meshgrid(pixel[0] - offset[0] + u, pixel[1] - offset[1] + u)
    r = np.hypot(matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y)
    area = abs(np.linalg.det(matrix)) * PER_DEG2 / n**2
    return np.array([(np.interp(r, rad, row, right=0.0) * weight).sum() * area for row in density])


def distance(one, other):
    """Part of the photons that are in another pixel, by energy."""
    return 0.5 * np.abs(np.asarray(one) - other).sum(axis=(-2, -1))


# --- values


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.1, 0.3, 1.0, 3.0])
def test_kernel_of_a_gaussian_has_the_closed_form(sigma):
    half = int(np.ceil(7 * sigma)) + 1
    found = psf_kernel(*gaussian(sigma * 0.05), SQUARE, half)[0]

    def primitive(x):
        return x * ndtr(x / sigma) + sigma * np.exp(-0.5 * (x / sigma) ** 2) / np.sqrt(2 * np.pi)

    x = np.arange(-half, half + 1)
    line = primitive(x + 1) - 2 * primitive(x) + primitive(x - 1)
    exact = np.outer(line, line)
    assert distance(found, exact) < (1e-3 if sigma > 2 else 4e-4)
    assert np.abs(found - exact).max() < 1.5e-4
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    # Whatever is the same by symmetry is the same to rounding.
    for other in (found[::-1], found[:, ::-1]):
        np.testing.assert_allclose(found, other, atol=1e-14)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.2), (0.47, 0.0), (-0.5, 0.1)], ids=str)
@pytest.mark.parametrize("sigma", [0.02, 0.2, 1.0, 2.5, 8.0])
def test_image_of_a_point_source_has_the_closed_form(sigma, offset):
    half = int(np.ceil(7 * sigma)) + 1
    found = psf_image(*gaussian(sigma * 0.05), SQUARE, offset, half)[0]
    edges = np.arange(-half, half + 2) - 0.5
    x, y = (np.diff(ndtr((edges - start) / sigma)) for start in offset)
    exact = np.outer(y, x)
    assert distance(found, exact) < 6e-4
    assert np.abs(found - exact).max() < 6e-4 * exact.max()
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(
        found.sum(axis=0) @ np.arange(-half, half + 1),
        exact.sum(axis=0) @ np.arange(-half, half + 1),
        atol=5e-4,
    )


def test_uneven_nodes_and_skew_pixels_agree_with_a_plain_sum():
    rad, density = king()
    half = 30
    kernel = psf_kernel(rad, density, SKEW, half)
    image = psf_image(rad, density, SKEW, (0.3, -0.4), half)
    inside = np.asarray(containment(rad, density))
    assert np.all(inside < 1)
    for pixel in [(0, 0), (1, 0), (0, -1), (-1, 1), (2, 1), (5, -3), (10, 8)]:
        at = (slice(None), half + pixel[1], half + pixel[0])
        expected = summed(rad, density, SKEW, pixel)
        np.testing.assert_allclose(kernel[at], expected, rtol=1.5e-2, atol=1e-7)
        assert np.abs(kernel[at] - expected).max() < 1e-4
        expected = summed(rad, density, SKEW, pixel, (0.3, -0.4))
        assert np.abs(image[at] - expected).max() < 1e-4
    np.testing.assert_allclose(kernel.sum(axis=(1, 2)), inside, rtol=1e-12)
    np.testing.assert_allclose(image.sum(axis=(1, 2)), inside, rtol=1e-12)


def test_orientation_is_that_of_the_matrix():
    # Pixels twice as long in y: the PSF is twice as wide in x, in pixels.
    kernel = psf_kernel(*gaussian(0.1), np.diag([0.05, 0.1]), 20)[0]
    x = np.arange(-20, 21)
    wide = (kernel.sum(axis=0) * x**2).sum()
    tall = (kernel.sum(axis=1) * x**2).sum()
    # The variance of the PSF and of the pixels on both ends.
    np.testing.assert_allclose([wide, tall], [4 + 1 / 6, 1 + 1 / 6], rtol=2e-3)
    image = psf_image(*gaussian(0.1), np.diag([0.05, 0.1]), (0.4, -0.3), 20)[0]
    np.testing.assert_allclose(image.sum(axis=0) @ x, 0.4, atol=5e-4)
    np.testing.assert_allclose(image.sum(axis=1) @ x, -0.3, atol=5e-4)


def test_real_table(gc_file):
    dataset = MapDataset.read(gc_file)
    rad = dataset.psf.rad_axis.center.to_value("deg")
    density = dataset.psf.get_profile(energy=dataset.energy_axis_true.center_tev())
    inside = np.asarray(containment(rad, density))
    assert inside.min() < 0.999 and inside.max() > 1.003
    exact = dataset.psf.containment(10, rad[-1])
    last = np.asarray(containment(rad, dataset.psf.get_profile()))[10]
    np.testing.assert_allclose(last, exact, rtol=1e-12)
    half = 38
    kernel = psf_kernel(rad, density, SQUARE, half)
    assert kernel.shape == (12, 77, 77) and kernel.min() >= 0
    np.testing.assert_allclose(kernel.sum(axis=(1, 2)), np.minimum(inside, 1), rtol=1e-12)
    for pixel in [(0, 0), (1, 0), (1, 1), (3, -2), (12, 5)]:
        expected = summed(rad, density, SQUARE, pixel) / np.maximum(inside, 1)
        found = kernel[:, half + pixel[1], half + pixel[0]]
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-7)
        assert np.abs(found - expected).max() < 1e-4


# --- normalisation


def test_containment_is_the_closed_form():
    rad, density = king()
    fine = np.linspace(0, 1, 2_000_001)
    for row, found in zip(density, np.asarray(containment(rad, density)), strict=True):
        values = np.interp(fine, rad, row) * fine
        expected = 2 * np.pi * np.trapezoid(values, fine) * PER_DEG2
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_falls_beyond_the_kernel_is_lost():
    rad, density = king()
    small, large = (psf_kernel(rad, density, SKEW, half) for half in (4, 40))
    np.testing.assert_allclose(small, large[:, 36:45, 36:45], rtol=1e-9, atol=1e-15)
    assert np.all(small.sum(axis=(1, 2)) < [0.995, 0.96])
    one = psf_kernel(rad, density, SKEW, 0)
    np.testing.assert_allclose(one[:, 0, 0], large[:, 40, 40], rtol=1e-9)


def test_tables_that_integrate_to_more_than_one_are_scaled_down():
    rad, density = king()
    kernel = psf_kernel(rad, 1.5 * density, SKEW, 40)
    np.testing.assert_allclose(kernel.sum(axis=(1, 2)), 1, rtol=1e-12)
    half = psf_kernel(rad, 0.5 * density, SKEW, 40)
    np.testing.assert_allclose(half, 0.5 * psf_kernel(rad, density, SKEW, 40), rtol=1e-12)


@pytest.mark.parametrize("width", [1e-7, 1e-10])
@pytest.mark.parametrize("first", [0.0, 0.1])
def test_delta_function_is_the_identity(width, first):
    rad = width * np.array([first, 0.5, 1.0])
    density = np.array([[1.0, 0.5, 0.0], [2.0, 2.0, 2.0]])
    density /= np.asarray(containment(rad, density))[:, np.newaxis]
    identity = np.zeros((2, 7, 7))
    identity[:, 3, 3] = 1
    np.testing.assert_allclose(psf_kernel(rad, density, SKEW, 3), identity, rtol=1e-13, atol=0)
    for offset in [(0, 0), (0.49, -0.49), (-0.1, 0.3)]:
        image = psf_image(rad, density, SKEW, offset, 3)
        np.testing.assert_allclose(image, identity, rtol=1e-13, atol=0)


def test_no_density_gives_no_photons():
    rad, density = king()
    density[1] = 0
    kernel = psf_kernel(rad, density, SKEW, 5)
    assert kernel[0].sum() > 0.9 and np.all(kernel[1] == 0)


@pytest.mark.parametrize(("sigma", "degree"), [(0.3, 8), (1.0, 4), (4.0, 2)])
def test_moments_have_the_closed_form(sigma, degree):
    """Products of Legendre coefficients of the probability as a function of the position."""
    half = int(np.ceil(3 * sigma)) + 1
    found = psf_moments(*gaussian(sigma * 0.05), SQUARE, half, degree)[:, 0]
    nodes, weights = np.polynomial.legendre.leggauss(30)
    pixel = np.arange(-half, half + 1)[:, np.newaxis]
    start = 0.5 * nodes
    inside = ndtr((pixel + 0.5 - start) / sigma) - ndtr((pixel - 0.5 - start) / sigma)
    number = 2 * np.arange(degree + 1) + 1
    line = (inside * 0.5 * weights) @ legendre(degree, start).T * number
    for image, (a, b) in zip(found, orders(degree), strict=True):
        exact = np.outer(line[:, b], line[:, a])
        assert np.abs(image - exact).max() < 2.5e-3 * found[0].max()


def test_moments_make_up_the_image_of_a_point():
    rad, density = king()
    point = (0.27, -0.31)
    kernels = psf_moments(rad, density, SKEW, 8, 8)
    image = psf_image(rad, density, SKEW, point, 8)
    peak = image.max(axis=(1, 2))
    for energy, degree, limit in ((0, 8, 1e-2), (1, 4, 3e-3)):
        n = len(orders(degree))
        summed = np.tensordot(point_moments(*point, degree), kernels[:n, energy], axes=1)
        # The first PSF is of less than half a pixel: the series has not yet converged.
        assert np.abs(summed - image[energy]).max() < limit * peak[energy]
    # The same integrals, by finer samples.
    np.testing.assert_allclose(kernels[0], psf_kernel(rad, density, SKEW, 8), atol=3e-4 * peak[0])
    with pytest.raises(ValueError, match="degree must be zero or more"):
        psf_moments(rad, density, SKEW, 8, -1)


# --- scale and derivatives


@pytest.mark.parametrize("scale", [0.6, 1.7])
def test_scale_widens_the_table(scale):
    rad, density = king()
    wide = psf_kernel(rad * scale, density / scale**2, SKEW, 20)
    np.testing.assert_allclose(
        psf_kernel(rad, density, SKEW, 20, scale=scale), wide, rtol=1e-9, atol=1e-15
    )


def test_traced_and_plain_agree():
    rad, density = king()
    for function in (
        lambda s, d: psf_kernel(rad, d, SKEW, 5, scale=s),
        lambda s, d: psf_image(rad, d, SKEW, (0.2, 0.1), 5, scale=s),
    ):
        plain = function(1.2, density)
        assert isinstance(plain, np.ndarray)
        traced = jax.jit(function)(1.2, density)
        np.testing.assert_allclose(traced, plain, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(
    ("kind", "point"), [("king", False), ("king", True), ("disk", False), ("narrow", True)]
)
def test_derivative_by_scale_agrees_with_differences(kind, point):
    if kind == "king":
        rad, density = king()
    elif kind == "disk":
        # A table that ends abruptly.
        rad = np.array([0.0, 0.1, 0.21])
        density = np.full((1, 3), 1 / (np.pi * 0.21**2 * PER_DEG2))
    else:
        rad, density = gaussian(0.002)

    def kernel(scale):
        if point:
            return psf_image(rad, density, SKEW, (0.3, -0.4), 5, scale=scale)
        return psf_kernel(rad, density, SKEW, 5, scale=scale)

    at, step, small = 1.1, 0.04, 1e-6
    # Slopes jump where nodes of the table pass samples: their mean is compared with differences.
    points, weights = np.polynomial.legendre.leggauss(24)
    scales = np.append(at + step * points, at)
    slopes = np.asarray(jax.jit(jax.vmap(jax.jacfwd(kernel)))(scales))
    mean = 0.5 * np.tensordot(weights, slopes[:-1], axes=1)
    expected = (kernel(at + step) - kernel(at - step)) / (2 * step)
    size = np.abs(expected).max()
    assert size > 1e-3
    # The abrupt end bends the curve at each panel, which costs the mean slope some digits.
    np.testing.assert_allclose(mean, expected, atol=(2e-2 if kind == "disk" else 3e-3) * size)
    expected = (kernel(at + small) - kernel(at - small)) / (2 * small)
    np.testing.assert_allclose(slopes[-1], expected, atol=1e-6 * size)


def test_derivative_by_density_agrees_with_differences():
    rad, density = king()
    weight = np.random.default_rng(3).random((11, 11))

    def total(d):
        return (psf_kernel(rad, d, SKEW, 5) * weight[np.newaxis]).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(density))
    direction = density * np.random.default_rng(4).standard_normal(density.shape)
    step = 1e-6
    expected = (total(density + step * direction) - total(density - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-7)


def test_single_precision_keeps_the_normalisation():
    rad, density = king()
    exact = psf_kernel(rad, density, SKEW, 20)
    with jax.enable_x64(False):
        traced = jax.jit(lambda s: psf_kernel(rad, density, SKEW, 20, scale=s))(1.0)
        assert traced.dtype == jnp.float32
        assert psf_kernel(rad, density, SKEW, 20).dtype == np.float32
    np.testing.assert_allclose(traced, exact, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(np.asarray(traced).sum(axis=(1, 2)), exact.sum(axis=(1, 2)), 1e-5)


# --- convolution


def test_convolution_agrees_with_the_sum():
    rng = np.random.default_rng(1)
    images, kernels = rng.random((2, 3, 6, 9)), rng.random((3, 5, 5))
    found = convolve(images, kernels)
    assert found.shape == (2, 3, 10, 13)
    for i in range(2):
        for t in range(3):
            expected = signal.convolve2d(images[i, t], kernels[t])
            np.testing.assert_allclose(found[i, t], expected, rtol=1e-12)
    own = rng.random((2, 3, 5, 5))
    found = convolve(images, own)
    np.testing.assert_allclose(found[1, 2], signal.convolve2d(images[1, 2], own[1, 2]), rtol=1e-12)


def test_convolution_has_no_rounding_noise():
    image = np.zeros((1, 40, 40))
    image[0, 3, 5] = 1e6
    kernel = np.zeros((1, 21, 21))
    kernel[0, 9:12, 9:12] = 1 / 9
    found = np.asarray(convolve(image, kernel))[0]
    assert found.min() == 0 and np.count_nonzero(found) == 9
    np.testing.assert_allclose(found.sum(), 1e6, rtol=1e-13)
    np.testing.assert_array_equal(convolve(0 * image, kernel), 0)


def test_convolution_is_differentiable():
    rng = np.random.default_rng(2)
    image, kernel = rng.random((1, 5, 5)), rng.random((1, 3, 3))
    slope = jax.jacobian(convolve)(image, kernel)[0, 3, 2, 0]
    expected = [
        [kernel[0, 3 - y, 2 - x] if 0 <= 3 - y < 3 and 0 <= 2 - x < 3 else 0.0 for x in range(5)]
        for y in range(5)
    ]
    np.testing.assert_allclose(slope, expected, atol=1e-14)


# --- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rad": [0.0, 0.2, 0.1]}, "rad must increase"),
        ({"rad": [-0.1, 0.0, 0.1]}, "rad must increase"),
        ({"density": np.ones((2, 4))}, "density must have the shape"),
        ({"density": np.ones(3)}, "density must have the shape"),
        ({"matrix": np.ones((2, 2))}, "matrix must be 2 x 2 and not singular"),
        ({"matrix": np.eye(3)}, "matrix must be 2 x 2"),
        ({"half": -1}, "half must be"),
        ({"scale": 0.0}, "scale must be positive"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    good = {"rad": [0.0, 0.1, 0.2], "density": np.ones((2, 3)), "matrix": SQUARE, "half": 2}
    with pytest.raises(ValueError, match=message):
        psf_kernel(**(good | change))
