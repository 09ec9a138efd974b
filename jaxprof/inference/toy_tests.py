"""Distributions of test statistics of separate fits, by toys."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprof.compilation import jit_by_size
from jaxprof.inference.fit import fit_norms
from jaxprof.inference.profile_fit import norm_bounds
from jaxprof.inference.scan import norm_rises
from jaxprof.likelihood import Likelihood
from jaxprof.likelihood.arrays import profile_data
from jaxprof.likelihood.data import Data
from jaxprof.types import Array

CHUNK = 200_000
"""Fits of toys at once."""
SAME = 1e-9
"""Difference below which two values of a test statistic are the same counts'."""


@jit_by_size(small=0)
def drawn_data(likelihood: Likelihood, params: Any, numbers: Any, seed: Any) -> Data:
    """Data of toys by their numbers (T,), as arrays (T * B, G, E) of separate fits.

    Each toy has a key of its own, so that it is the same whatever is drawn beside it.
    """

    def one(number: Any) -> Data:
        key = jax.random.fold_in(jax.random.key(seed), number)
        return profile_data(likelihood.simulate(key, params))

    made = jax.vmap(one)(numbers)
    return jax.tree.map(lambda a: jnp.reshape(a, (-1, *a.shape[2:])), made)


@partial(jax.jit, static_argnames="sharding")
def data_drawn_on_devices(
    likelihood: Likelihood, params: Any, numbers: Any, seed: Any, sharding: NamedSharding
) -> Data:
    """The same for numbers that are sharded: each device draws its own toys, and keeps them."""
    same, by_toy = PartitionSpec(), PartitionSpec(sharding.spec[0])
    return jax.shard_map(
        drawn_data,
        mesh=sharding.mesh,
        in_specs=(same, same, by_toy, same),
        out_specs=by_toy,
        check_vma=False,
    )(likelihood, params, numbers, seed)


def toy_p_values(
    likelihood: Likelihood,
    norm: Array,
    observed: Array,
    *,
    truth: Array,
    n_toys: int,
    seed: int = 0,
    upper: bool = False,
) -> Array:
    """Part of toys whose test statistic for a norm is as large as the observed one, (B, G).

    The statistic is the rise of a norm (B, G) above the best norm that is not negative. Toys are
    drawn with ``truth`` (B, G); OFF rates are those that the data have with them. With ``upper``
    estimates above the norm do not count against it.
    """
    drawn_with = np.where(np.isfinite(truth), truth, 0.0)
    tested = np.where(np.isfinite(norm), norm, 0.0)
    size = max(1, CHUNK // norm.size)
    found, known = np.zeros((2, *norm.shape))
    for first in range(0, n_toys, size):
        numbers = np.arange(first, min(first + size, n_toys))
        data = drawn_data(likelihood, {"norm": drawn_with}, numbers, seed)
        fit = fit_norms(data, **norm_bounds(likelihood))
        at = np.tile(tested, (len(numbers), 1))
        rises = np.asarray(norm_rises(data, fit, jnp.stack([at, 0.0 * at], axis=-1)))
        best = np.asarray(fit.norm)
        rise = rises[..., 0] - np.where(best < 0, rises[..., 1], 0.0)
        if upper:
            rise = np.where(best > at, 0.0, rise)
        rise = np.maximum(rise, 0.0).reshape(-1, *norm.shape)
        found += np.sum(rise >= observed - SAME * (1.0 + observed), axis=0)
        known += np.sum(np.isfinite(rise), axis=0)
    return found / np.where(known > 0, known, np.nan)
