"""Bins that are sharded over devices and processes are fitted where they are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprof.core import ProfileData, fit_norms, limits
from jaxprof.inference.batches import _shards
from jaxprof.likelihood import data as data_module

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

# All checks in one process: each compiles what it needs once.
EIGHT_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxprof.core import ProfileData, fit_norms, limits, scan, sensitivity

jax.config.update("jax_enable_x64", True)
assert jax.device_count() == 8
rng = np.random.default_rng(0)
shape = (8 * 320, 1, 5)  # enough for each device that hard bins are finished apart
background = rng.uniform(0.5, 5.0, shape)
signal = rng.uniform(0.5, 5.0, shape)
counts = rng.poisson(background + rng.exponential(1.0, (shape[0], 1, 1)) * signal).astype(float)
counts[::7] = 0.0
counts[1::7] = rng.poisson(0.05 * background[1::7])
background[2::7] = 0.0
mask = rng.random(shape) < 0.9
mask[3::70] = False
arrays = dict(counts=counts, background=background, npred_ref=signal, mask=mask)

def scanned(data):
    return scan(data, [0.0, 1.0])

def gradient(background):
    data = ProfileData(counts=sharded.counts, background=background, npred_ref=sharded.npred_ref)
    return jnp.nansum(fit_norms(data).norm)

def equal(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)

one = ProfileData(**arrays)
fit = fit_norms(one)
expected = fit, limits(one, fit), scanned(one), sensitivity(one)
assert set(np.unique(fit.status)) == {0, 1, 2, 3}
single = {name: jnp.asarray(a) for name, a in arrays.items()}
slope = jax.jit(jax.grad(lambda b: jnp.nansum(fit_norms(ProfileData(
    counts=single["counts"], background=b, npred_ref=single["npred_ref"])).norm)))(background)
meshes = [
    Mesh(np.array(jax.devices()), ("bin",)),
    jax.make_mesh((8,), ("bin",)),
    Mesh(np.array(jax.devices()).reshape(4, 2), ("bin", "other")),
]
for mesh in meshes:
    sharding = NamedSharding(mesh, P("bin"))
    sharded = ProfileData(**{name: jax.device_put(a, sharding) for name, a in arrays.items()})
    eager = fit_norms(sharded)
    assert eager.norm.sharding.is_equivalent_to(sharding, 2), eager.norm.sharding
    equal((eager, limits(sharded, eager), scanned(sharded), sensitivity(sharded)), expected)
    calls = [(fit_norms, (sharded,)), (limits, (sharded, eager)), (scanned, (sharded,)),
             (sensitivity, (sharded,))]
    for (function, args), result in zip(calls, expected, strict=True):
        compiled = jax.jit(function).lower(*args).compile()
        text = compiled.as_text()
        for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
            assert word not in text, (function, mesh, word)
        equal(compiled(*args), result)
    if mesh is meshes[0]:
        equal(jax.jit(jax.grad(gradient))(sharded.background), slope)
        wrong = counts.copy()
        wrong[5, 0, 0] = -1.0
        bad = jax.device_put(wrong, sharding)
        try:
            fit_norms(ProfileData(**{**vars(sharded), "counts": bad, "mask": None}))
        except ValueError as error:
            assert "counts has 1 negative" in str(error), error
        else:
            raise AssertionError("negative counts on eight devices")
print("done")
"""

# Where the values are, nobody can look at all of them.
TWO_PROCESSES = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxprof.core import ProfileData, fit_norms, limits

jax.config.update("jax_enable_x64", True)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
sharding = NamedSharding(Mesh(np.array(jax.devices()), ("bin",)), P("bin"))
rng = np.random.default_rng(0)
counts = rng.poisson(4.0, (20, 1, 3)).astype(float)
counts[3, 0, 1] = np.nan

def made(values):
    return jax.make_array_from_callback(counts.shape, sharding, lambda index: values[index])

ones = np.ones_like(counts)
data = ProfileData(counts=made(counts), background=made(ones), npred_ref=made(ones))
assert not data.counts.is_fully_addressable
for wrap in (lambda f: f, jax.jit):
    fit = wrap(fit_norms)(data)
    found = wrap(limits)(data, fit)
    (part,) = fit.status.addressable_shards
    status = np.asarray(part.data)[:, 0]
    assert list(np.flatnonzero(status > 2)) == ([3] if part.index[0].start == 0 else []), status
    upper = np.asarray(found.norm_ul.addressable_shards[0].data)[:, 0]
    assert np.array_equal(np.isfinite(upper), status <= 2)
print("done")
"""


# Toys do not depend on who draws and fits them.
TOYS = """
import sys
import astropy.units as u, jax, numpy as np
from astropy.coordinates import SkyCoord
from jax.sharding import NamedSharding, PartitionSpec as P
import jaxprof
from jaxprof.datasets import simulate_galactic_centre
from jaxprof.inference.toy_tests import data_drawn_on_devices

jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 1:
    jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
centre = SkyCoord("0d", "0d", frame="galactic")
dataset = simulate_galactic_centre(seed=0, shape=(40, 40), n_energy=3, mask_margin=0.1)
likelihood = jaxprof.FluxProfileEstimator(
    jaxprof.make_concentric_annulus_sky_regions(center=centre, radius_max="0.9 deg", nbin=4),
    energy_edges=[10, 500] * u.GeV,
).reduce(dataset)
fit = jaxprof.fit(likelihood)
options = dict(n_toys=150, fit=fit, quantities=("norm", "ts", "ul", "deviance"), seed=3)
expected = jaxprof.toys(likelihood, **options)
sharding = NamedSharding(jax.make_mesh((jax.device_count(),), ("toy",)), P("toy"))
found = jaxprof.toys(likelihood, **options, chunk=70, sharding=sharding)
own = range(len(expected))
if len(sys.argv) > 1:
    # Of 70 toys each process has half of those that fill up a chunk to 128, then of 10 to 64.
    chunks = [range(0, 70), range(70, 140), range(140, 150)]
    own = [k for c, size in zip(chunks, (128, 128, 64)) for i, k in enumerate(c)
           if (i >= size // 2) == (sys.argv[2] == "1")]
    try:
        jaxprof.toys(likelihood, **options, sharding=sharding, store="toys.zarr")
    except ValueError as error:
        assert "only one process" in str(error)
    else:
        raise AssertionError("two processes write to one store")
assert len(found) == len(own)
for name, values in expected.values.items():
    np.testing.assert_allclose(found[name], values[np.array(own)], rtol=1e-12, err_msg=name)
summary = jaxprof.toys(likelihood, **options, sharding=sharding, keep=False)
np.savez(f"summary{sys.argv[2:]}.npz", first=summary.sums["first"]["norm"])
if len(sys.argv) == 1:
    np.testing.assert_allclose(summary.mean(), expected.mean(), rtol=1e-12)
    numbers = jax.device_put(np.arange(16), sharding)
    same = jax.tree.map(np.asarray, (likelihood, fit.params))
    text = data_drawn_on_devices.lower(*same, numbers, 3, sharding=sharding).compile().as_text()
    for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
        assert word not in text, word
print("done")
"""


def _address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _together(*commands: list[str]) -> list[str]:
    """What processes that wait for each other print."""
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**ENVIRONMENT, "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        found = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, found, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in found]


@pytest.mark.slow
def test_eight_devices_fit_their_own_bins_without_communication():
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    found = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES],
        env={**ENVIRONMENT, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert found.stdout == "done\n", found.stderr


@pytest.mark.slow
def test_toys_are_the_same_on_eight_devices(tmp_path):
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    found = subprocess.run(
        [sys.executable, "-c", TOYS],
        env={**ENVIRONMENT, "XLA_FLAGS": flags},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert found.stdout == "done\n", found.stderr


@pytest.mark.slow
def test_toys_of_two_processes_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = _address()
    assert _together(*(["-c", TOYS, address, str(k)] for k in range(2))) == ["done\n"] * 2
    parts = [np.load(f"summary['{k}'].npz")["first"] for k in range(2)]
    assert np.all(parts[0] != parts[1])


@pytest.mark.slow
def test_two_processes_fit_their_own_bins():
    address = _address()
    found = _together(*(["-c", TWO_PROCESSES, address, str(k)] for k in range(2)))
    assert found == ["done\n", "done\n"]


@pytest.mark.slow
def test_the_example_for_clusters_finds_what_one_process_does(tmp_path):
    address = _address()
    script = str(ROOT / "examples" / "distributed.py")
    options = ["--toys", "600", "--out", str(tmp_path), "--coordinator", address]
    commands = [[script, *options, "--processes", "2", "--process", str(k)] for k in range(2)]
    output = _together(*commands)
    assert "600 toys on 2 devices of 2 processes" in output[0]
    parts = [np.load(tmp_path / f"fits-{k}.npz") for k in range(2)]
    assert [len(part["norm"]) for part in parts] == [300, 300]
    background, signal = 5.0 * np.geomspace(1.0, 0.05, 8), 10.0 * np.geomspace(1.0, 0.2, 8)
    counts = np.array(
        [np.random.default_rng(k).poisson(background + signal) for k in range(600)], float
    )[:, np.newaxis]
    data = ProfileData(
        counts=counts,
        background=np.broadcast_to(background, counts.shape),
        npred_ref=np.broadcast_to(signal, counts.shape),
    )
    with jax.enable_x64(True):
        fit = fit_norms(data)
        expected = {"norm": fit.norm, "norm_ul": limits(data, fit).norm_ul}
    for name, values in expected.items():
        found = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(found, values, rtol=1e-12)


def test_values_on_other_devices_are_checked_where_they_are(monkeypatch):
    values = np.array([[[1.0, 2.0, -3.0, np.nan]]])
    monkeypatch.setattr(data_module, "_is_on_host", lambda array: False)

    def check(mask: list[bool]) -> None:
        data_module.check_values("counts", jax.numpy.asarray(values), np.array([[mask]]))

    check([True, True, False, False])
    with pytest.raises(ValueError, match=r"counts has 1 negative .* lowest is -3"):
        check([True, True, True, False])
    with pytest.raises(ValueError, match="counts has NaN"):
        check([True, True, False, True])


def test_arrays_of_one_device_have_no_shards():
    assert _shards((np.ones(3), jax.numpy.ones(3))) is None
    jax.jit(lambda x: _shards(x) and 1 / 0)(jax.numpy.ones(3))
