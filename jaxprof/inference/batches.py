"""Many bins and groups at once: block by block, and in shapes that many problems share.

A block of bins fits into the cache of a CPU, and a bin that takes long holds back its own block
only. Bins, and counts bins beyond some, are padded to few sizes: other profiles find the program of
one before them.

A GPU takes all bins as one block; where they are many, they are not padded either.

Bins that are sharded over devices, here or of other processes, are fitted where they are: each
device runs the program for one device on its own bins, without padding, and results are sharded as
the bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxprof.compilation import jit_by_size
from jaxprof.likelihood.separable import Blocks
from jaxprof.likelihood.sums import computed_once

BLOCK = 1024
"""Bins of a block, if they have few counts bins."""
PIECE = 131_072
"""Bins that are brought into blocks at a time: copies of all would take too much memory."""
BLOCK_ELEMENTS = 16_384
"""Elements of each array of a block, at most."""
FEW_ELEMENTS = 262_144
"""Elements of all arrays below which bins on a GPU are padded on the host: copying takes less than
a millisecond, compiling for another number of bins takes seconds."""


@dataclass(frozen=True)
class _Shards:
    """A mesh of devices, and those of its axes that bins are sharded over."""

    mesh: Any
    axes: tuple[str, ...]


Function = Callable[[Any, Any, Any], Any]


def by_blocks(function: Function) -> Function:
    """Compile a function of bins side by side, and map it over all bins and groups.

    It is one of data (a tuple of blocks), a pytree of other arrays of each bin, and a pytree of
    what all bins share; it gets arrays with the bins in their last axis, as `separable` takes them,
    and returns a pytree of such. What is made of it takes and gives arrays ``(B, G, ...)``.
    """

    def mapped(data: Blocks, others: Any, shared: Any) -> Any:
        bins = (data, others)
        if not _on_host(bins):
            return _compiled(bins, shared, function=function, shards=_shards(bins))
        shape = data[0].npred_ref.shape[:2]
        flat = _flat(jax.tree.map(np.asarray, bins))
        n = shape[0] * shape[1]
        n_pieces = max(-(-n // PIECE), 1)
        each = -(-n // n_pieces)
        pieces = [
            _on_piece(function, jax.tree.map(lambda a, i=i: a[i : i + each], flat), shared, each)
            for i in range(0, max(n, 1), max(each, 1))
        ]
        # Inside somebody's jit results of constants are traced.
        known = _on_host(pieces)
        xp = np if known else jnp
        found = jax.tree.map(lambda *a: xp.concatenate(a).reshape(*shape, *a[0].shape[1:]), *pieces)
        return jax.device_put(found) if known else found

    return mapped


def _on_block(function: Function, bins: Any, shared: Any) -> Any:
    data, others = computed_once(bins)
    # Norms lack the axis of the counts bins, whatever a user's setting says of that.
    with jax.numpy_rank_promotion("allow"):
        return function(data, others, shared)


@jit_by_size(static_argnames="function", large=None)
def _on_blocks(blocks: Any, shared: Any, *, function: Function) -> Any:
    if len(blocks[0][0].npred_ref) > 1:
        return jax.lax.map(lambda bins: _on_block(function, bins, shared), blocks)
    # A loop of one step would take a tenth of the time to compile.
    found = _on_block(function, jax.tree.map(lambda a: a[0], blocks), shared)
    return jax.tree.map(lambda a: a[jnp.newaxis], found)


def _on_piece(function: Function, piece: Any, shared: Any, each: int) -> Any:
    """Results of some bins, brought into blocks by numpy; pieces have up to so many bins each."""
    data, others = piece
    n, n_counts_bins = data[0].npred_ref.shape
    rows = _bucket(each)
    size = rows
    if jax.default_backend() == "cpu":
        size = min(rows, _block_size(_counts_bins_bucket(n_counts_bins)))
    blocks = (
        jax.tree.map(lambda a: _in_blocks(a, rows, size, _counts_bins_bucket), data),
        jax.tree.map(lambda a: _in_blocks(a, rows, size), others),
    )
    found = _on_blocks(blocks, shared, function=function)
    xp = np if _on_host(found) else jnp

    def of_bins(array: Any) -> Any:
        own = xp.moveaxis(xp.asarray(array), -1, 1)
        return own.reshape(-1, *own.shape[2:])[:n]

    return jax.tree.map(of_bins, found)


@jit_by_size(static_argnames=("function", "shards"), large=None)
def _compiled(bins: Any, shared: Any, *, function: Function, shards: _Shards | None) -> Any:
    """Results of all bins and groups in one program, for each device that has some."""

    def flat(bins: Any, shared: Any) -> Any:
        shape = bins[0][0].npred_ref.shape[:2]
        found = _on_one_device(function, _flat(bins), shared)
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), found)

    if shards is None:
        return flat(bins, shared)
    by_bin, same = PartitionSpec(shards.axes), PartitionSpec()
    return jax.shard_map(
        flat, mesh=shards.mesh, in_specs=(by_bin, same), out_specs=by_bin, check_vma=False
    )(bins, shared)


def _on_one_device(function: Function, bins: Any, shared: Any) -> Any:
    n, n_counts_bins = bins[0][0].npred_ref.shape

    def columns(rows: Any) -> Any:
        found = _on_block(function, jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), rows), shared)
        return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), found)

    size = _block_size(n_counts_bins)
    if n <= size or jax.default_backend() != "cpu":
        return columns(bins)
    n_blocks = -(-n // size)
    blocks = jax.tree.map(
        lambda a: jnp.pad(a, [(0, n_blocks * size - n), *[(0, 0)] * (a.ndim - 1)]).reshape(
            n_blocks, size, *a.shape[1:]
        ),
        bins,
    )
    found = jax.lax.map(columns, blocks)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:n], found)


def spread(numbers: Any, sharding: NamedSharding) -> jax.Array:
    """Numbers of bins or toys on the devices that deal with them, each process its own."""
    return jax.make_array_from_callback(numbers.shape, sharding, lambda index: numbers[index])


def own_rows(array: Any) -> np.ndarray[Any, Any]:
    """The rows of an array that are on devices of this process."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def shared_value(value: Any, dtype: Any) -> Any:
    """A number that all bins share, in their precision; no array on the device if it is known."""
    known = not isinstance(value, jax.Array)
    return np.asarray(value, dtype) if known else jnp.asarray(value, dtype)


def _flat(tree: Any) -> Any:
    """Bins and groups of arrays in one axis."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)


def _shards(tree: Any) -> _Shards | None:
    """How bins are sharded over devices; None if there is one, or no sharding is known.

    Of arrays that are traced JAX tells the mesh, but not always which of its axes: then bins are
    sharded over all.
    """
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array):
            continue
        traced = isinstance(leaf, jax.core.Tracer)
        sharding = jax.typeof(leaf).sharding if traced else leaf.sharding
        if not isinstance(sharding, NamedSharding) or sharding.mesh.size < 2:
            continue
        types = sharding.mesh.axis_types
        # Each device has a program of its own already.
        if AxisType.Manual in types:
            return None
        unknown = traced and AxisType.Explicit not in types
        axes = sharding.mesh.axis_names if unknown else (*sharding.spec, None)[0]
        names = (axes,) if isinstance(axes, str) else axes
        if names and len(leaf) % np.prod([sharding.mesh.shape[name] for name in names]) == 0:
            return _Shards(sharding.mesh, names)
    return None


def _block_size(n_counts_bins: int) -> int:
    """Bins of a block."""
    size = BLOCK
    while size > 64 and size * n_counts_bins > BLOCK_ELEMENTS:
        size //= 2
    return size


def _bucket(n: int) -> int:
    """Number of bins that is compiled for: powers of two, then sixteenths of them."""
    power = 1 << max(n - 1, 7).bit_length()
    return power if power <= BLOCK else _up(n, max(power // 16, BLOCK))


def _counts_bins_bucket(n: int) -> int:
    """Number of counts bins that is compiled for; few are as many as they are."""
    return n if n <= 16 else _up(n, (1 << (n - 1).bit_length()) // 8)


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _in_blocks(
    array: Any, rows: int, size: int, bucket: Callable[[int], int] = lambda n: n
) -> np.ndarray[Any, Any]:
    """An array (n, ...) as (rows / size, ..., size), with zeros behind its own elements.

    NumPy moves the bins to the last axis several times as fast as the compiler does.
    """
    array = np.asarray(array)
    n, rest = len(array), array.shape[1:]
    longer = (*(bucket(k) for k in rest[:1]), *rest[1:])
    made = np.zeros((rows // size, *longer, size), array.dtype)
    inside: Any = (slice(None), slice(None), *(slice(k) for k in rest))
    by_bin = np.moveaxis(made, -1, 1)[inside]
    whole = n // size
    by_bin[:whole] = array[: whole * size].reshape(whole, size, *rest)
    by_bin[whole : whole + 1, : n - whole * size] = array[np.newaxis, whole * size :]
    return made


def _on_host(tree: Any) -> bool:
    """Whether all arrays can be read at little cost."""
    leaves = jax.tree.leaves(tree)
    if any(
        isinstance(leaf, jax.core.Tracer)
        or (isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1)
        for leaf in leaves
    ):
        return False
    if jax.default_backend() == "cpu":
        return True
    # Results of bins that somebody put on another device belong there.
    elsewhere = any(isinstance(leaf, jax.Array) and leaf.committed for leaf in leaves)
    return not elsewhere and sum(np.size(leaf) for leaf in leaves) <= FEW_ELEMENTS
