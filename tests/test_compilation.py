"""Compilation: the same values however compiled, with any version of the compiler."""

import gc
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, rings, sky_image
from numpy.testing import assert_allclose

import jaxprof
from jaxprof import compilation
from jaxprof.compilation import is_traced, jit_by_size, jit_in_pieces, jit_quickly
from jaxprof.likelihood.joint_data import JointFit

X = np.linspace(0.1, 2.0, 7)


def function(x, power):
    return jnp.sum(jnp.log(x) ** power) * x


EXPECTED = np.sum(np.log(X) ** 2) * X


@pytest.fixture(params=["small", "large", "quick"])
def compiled(request, monkeypatch):
    monkeypatch.setattr(compilation, "SMALL", 0 if request.param == "large" else 50_000)
    if request.param == "quick":
        return jit_quickly("power")(function)
    return jit_by_size(function, static_argnames="power")


def test_values_are_the_same_in_every_transformation(compiled):
    assert_allclose(compiled(X, 2), EXPECTED, rtol=1e-14)
    assert_allclose(compiled(X, power=2), EXPECTED, rtol=1e-14)
    assert_allclose(jax.jit(lambda x: compiled(x, 2))(X), EXPECTED, rtol=1e-14)
    assert_allclose(jax.vmap(lambda x: compiled(x, 2))(np.stack([X, X]))[1], EXPECTED, rtol=1e-14)
    step = 1e-6
    expected = (compiled(X + step, 2)[0] - compiled(X - step, 2)[0]) / (2 * step)
    gradient = jax.grad(lambda x: compiled(x, 2)[0])(X)
    assert_allclose(np.sum(gradient), expected, rtol=1e-7)


def test_constants_inside_of_a_jit(compiled):
    """There a compiler option is an error, and no argument tells that something is traced."""
    assert_allclose(jax.jit(lambda: compiled(X, 2))(), EXPECTED, rtol=1e-14)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before(enabled):
    during = []

    def traced(x, fails):
        during.append(gc.isenabled())
        return x / 0 if fails else x

    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        compiled = jit_by_size(traced, static_argnames="fails")
        assert compiled(1.0, False) == 1.0
        with pytest.raises(TypeError):
            compiled(None, True)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert during == [False, False]


def test_options_that_the_compiler_does_not_have(monkeypatch):
    level, other = ("xla_backend_optimization_level", 1), ("xla_no_such_option", True)
    assert compilation._known(level)
    assert not compilation._known(other)
    assert not compilation._known(level, other)
    monkeypatch.setattr(compilation, "_known", lambda *options: set(options) == {level})
    assert compilation._compiler_options(1) == dict([level])
    monkeypatch.setattr(compilation, "_known", lambda *options: False)
    assert compilation._compiler_options(0) == {}
    assert_allclose(jit_by_size(function, static_argnames="power")(X, 2), EXPECTED, rtol=1e-14)


def test_decorators_keep_name_and_docstring():
    def documented(x):
        """Say what it is."""
        return x

    for decorated in (jit_by_size(documented), jit_quickly()(documented)):
        assert (decorated.__name__, decorated.__doc__) == ("documented", "Say what it is.")


def test_errors_of_the_function_come_through(compiled):
    with pytest.raises(TypeError, match="power|unsupported|exponent"):
        compiled(X, "two")


MAPS_OF_MANY_SHAPES = """
import jax.numpy as jnp
import numpy as np
from jaxprof import compilation

compilation.KEPT = 4
grown = compilation.jit_by_size(
    lambda x: jnp.sort(jnp.cumsum(jnp.sin(x))) @ jnp.linalg.inv(jnp.outer(x, x))
)
for n in range(2, 17):
    grown(np.ones(n))
    with open("/proc/self/maps") as maps:
        print(len(maps.readlines()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_memory_maps_do_not_grow_with_the_number_of_shapes():
    """A process may have 65530 of them; JAX alone keeps every shape's for ever.

    In a process of its own, where no other test's programs come and go.
    """
    ran = subprocess.run(
        [sys.executable, "-c", MAPS_OF_MANY_SHAPES], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    maps = np.array(ran.stdout.split(), int)
    assert maps[3] > maps[0]
    assert maps[-1] - maps[3] <= 0.5 * (maps[3] - maps[0])


def compiled_programs():
    """Programs that the compiler's client holds, whoever asked for them."""
    return len(jax.devices()[0].client.live_executables())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:region.*solid angle")
def test_estimators_leave_nothing_compiled_behind(monkeypatch):
    """Each fit has another shape; no more programs live than are kept, those of JAX's own too."""
    kept = 6
    monkeypatch.setattr(compilation, "KEPT", kept)
    monkeypatch.setattr(compilation, "_programs", compilation._Programs())
    image = sky_image(lambda x, y: np.exp(-8 * (x * x + y * y)), 0.1)

    def run_all(n, selection):
        made = dataset_of(image, 0.1, sigma=0.1, background=0.5, n_photons=500, n_energy=1)
        for cls in (jaxprof.FluxProfileEstimator, jaxprof.ForwardFoldingProfileEstimator):
            cls(
                rings(n, 0.8 / n), spectral_model=MODEL, energy_edges=[1, 10] * u.TeV,
                selection_optional=selection,
            ).run(made)  # fmt: skip

    run_all(2, "all")
    before = compiled_programs()
    for n in range(3, 8):
        run_all(n, "all" if n == 3 else None)
        # As many others may have made room before.
        assert compiled_programs() <= before + kept


def test_the_programs_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(compilation, "KEPT", 3)
    traced = []

    @jit_by_size
    def counted(x):
        traced.append(x.size)
        return x + 1

    for size in (1, 2, 3, 1, 2, 3):
        assert_allclose(counted(np.zeros(size)), 1.0)
    assert traced == [1, 2, 3]
    for size in (1, 4, 1, 3, 2):
        counted(np.zeros(size))
    # 2 made room for 4, and comes again at the end.
    assert traced == [1, 2, 3, 4, 2]
    # Other functions have their programs among the same number.
    jit_quickly()(lambda x: x * 2)(np.zeros(1))
    counted(np.zeros(1))
    assert traced == [1, 2, 3, 4, 2, 1]


def test_in_pieces_what_is_called_is_compiled():
    whole, pieces = [], []

    @jit_by_size
    def doubled(x):
        pieces.append(is_traced(x))
        return 2 * x

    @jit_in_pieces(lambda x: x.size < 3)
    def power(x, n):
        whole.append(is_traced(x))
        return jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, doubled(c[1])), (0, x))[
            1
        ]

    for _ in range(2):
        assert_allclose(power(jnp.ones(2), 3), 8.0)
    # Python runs the loop, each time; its piece is compiled once.
    assert whole == [False, False] and pieces == [True]
    assert_allclose(power(jnp.ones(4), 3), 8.0)
    assert_allclose(jax.jit(power)(jnp.ones(2), 3), 8.0)
    assert whole[2:] == [True] * 2


def test_in_pieces_whatever_fields_of_data_are_empty():
    seen = []

    @jit_in_pieces(lambda x: True)
    def added(x, fit, values):
        seen.append(is_traced(x))
        return x + fit.values.sum() + values.sum()

    none = np.zeros(0)
    fit = JointFit(
        values=none, covariance=none, stat=1.0, status=0, converged=True, other_minimum=none
    )
    assert_allclose(added(np.ones(2), fit, np.ones(1)), 2.0)
    # A loop over nothing is traced.
    assert_allclose(added(np.ones(2), fit, none), 1.0)
    assert seen == [False, True]
