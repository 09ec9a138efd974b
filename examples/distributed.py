"""Fit toys of a profile on all devices of a cluster: the limit's coverage, without gathering.

A cluster's launcher starts one process a node (or a GPU); JAX finds the others by itself:

    srun python examples/distributed.py              # SLURM
    mpirun -n 4 python examples/distributed.py       # Open MPI

By hand, one process a terminal:

    python examples/distributed.py --coordinator localhost:29500 --processes 2 --process 0
    python examples/distributed.py --coordinator localhost:29500 --processes 2 --process 1

Each process draws its own toys, its devices fit them, and only sums leave it. Fits stay where they
are: each process writes its own to ``--out``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprof.core import ProfileData, fit_norms, limits

BACKGROUND = 5.0 * np.geomspace(1.0, 0.05, 8)
SIGNAL = 10.0 * np.geomspace(1.0, 0.2, 8)
"""Expected counts of a bin in 8 energies, background and signal of norm one."""


def sharded_toys(n_toys: int, sharding: NamedSharding) -> ProfileData:
    """Toys of norm one; each process draws those of its own devices.

    A toy is drawn with its own number for the seed: it does not depend on who draws it.
    """
    shape = (n_toys, 1, len(SIGNAL))

    def counts(index: tuple[slice, ...]) -> np.ndarray:
        numbers = range(*index[0].indices(n_toys))
        drawn = [np.random.default_rng(k).poisson(BACKGROUND + SIGNAL) for k in numbers]
        return np.asarray(drawn, float)[:, np.newaxis]

    def same(values: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...]) -> np.ndarray:
            n = len(range(*index[0].indices(n_toys)))
            return np.broadcast_to(values, (n, 1, len(values)))

        return jax.make_array_from_callback(shape, sharding, part)

    return ProfileData(
        counts=jax.make_array_from_callback(shape, sharding, counts),
        background=same(BACKGROUND),
        npred_ref=same(SIGNAL),
    )


def own_part(array: jax.Array) -> np.ndarray:
    """What this process holds of an array."""
    parts = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in parts])


@jax.jit
def summary(norm: jax.Array, norm_ul: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and scatter of the norms, and the part of upper limits above the truth."""
    return jnp.mean(norm), jnp.std(norm), jnp.mean(norm_ul >= 1.0)


def main() -> None:
    """Join the other processes, fit, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toys", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("out/distributed"))
    parser.add_argument("--coordinator", help="address of process 0; the launcher tells, if any")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    try:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    except ValueError as error:
        parser.error(f"{error} Start it with srun or mpirun, or give --coordinator and the others.")

    mesh = jax.make_mesh((jax.device_count(),), ("toy",))
    n_toys = -(-options.toys // mesh.size) * mesh.size
    toys = sharded_toys(n_toys, NamedSharding(mesh, PartitionSpec("toy")))
    fit = fit_norms(toys)
    found = limits(toys, fit, n_sigma_ul=2)
    mean, std, covered = (float(value) for value in summary(fit.norm, found.norm_ul))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"fits-{jax.process_index()}.npz"
    np.savez(path, norm=own_part(fit.norm), norm_ul=own_part(found.norm_ul))
    if jax.process_index() == 0:
        print(f"{n_toys} toys on {mesh.size} devices of {jax.process_count()} processes")
        print(
            f"norm {mean:.4f} +- {std:.4f}; {100 * covered:.2f} % of the upper limits are above 1"
        )
    print(f"process {jax.process_index()} wrote {path}", flush=True)


if __name__ == "__main__":
    main()
