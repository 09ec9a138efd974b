"""The problems of bins and groups, with norms counted in units and from origins of their own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprof.likelihood.data import ProfileData
from jaxprof.likelihood.separable import Blocks, cash_blocks, is_cash, totals
from jaxprof.likelihood.statistics import cash_kink
from jaxprof.likelihood.sums import computed_once, extremes


class Scaled(NamedTuple):
    """The same problem with the norm counted in ``unit`` from ``origin``.

    There numbers are of order one whatever the amplitude of the spectrum, and predictions close to
    zero keep their digits however large the background is. ``origin`` and ``unit`` (a power of two)
    carry no derivatives.
    """

    data: Blocks
    origin: jax.Array
    unit: jax.Array
    counts: jax.Array
    """Counts where a signal is expected."""

    def norm(self, x: jax.Array) -> jax.Array:
        """The norm at a scaled one."""
        return self.origin + self.unit * x

    def at(self, norm: jax.Array) -> jax.Array:
        """The scaled norm at a norm."""
        return (norm - self.origin) / self.unit


def scaled(data: Blocks, *, shifted: bool = True) -> Scaled:
    """Scale a problem, see `Scaled`.

    Cash data begin where the prediction of a bin with counts reaches zero or, without counts, at
    the first kink: the background there is what remains of it. With ``shifted=False`` norms keep
    their origin.
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, data)
    if is_cash(data):
        # No minimum is further from the start of the domain (see `_norm_bracket` of `fit`).
        counts, all_signal, counted, start, first = _frame(fixed)
        # What is NaN stays so.
        size = jnp.where(counts > 0, counts, counts + 1.0)
        signal = jnp.where(counts > 0, counted, all_signal)
        origin = jnp.where(counts > 0, start, first)
        origin = jnp.where(shifted & jnp.isfinite(origin), origin, 0.0)
    else:
        variance, counts, signal = totals(fixed)
        size = jnp.sqrt(variance) + 1.0
        origin = jnp.zeros_like(signal)
    unit = _power_of_two(size / jnp.where(signal > 0, signal, 1.0))
    moved = []
    for new, block in zip(from_zero(data, unit), data, strict=True):
        if shifted and isinstance(new, ProfileData) and isinstance(block, ProfileData):
            new = dataclasses.replace(new, background=_from(origin, block))
        moved.append(new)
    return Scaled(computed_once(tuple(moved)), origin, unit, counts)


def _frame(data: Blocks) -> tuple[jax.Array, ...]:
    """Counts, signal, signal where there are counts, pole and first kink of cash data."""
    found = []
    for b in cash_blocks(data):
        kink = cash_kink(b.counts, b.background, b.npred_ref)
        has_signal, counted = b.npred_ref > 0, b.counts > 0
        added = (
            jnp.where(has_signal, b.counts, 0.0),
            b.npred_ref,
            jnp.where(counted, b.npred_ref, 0.0),
        )
        pole = jnp.where(counted & has_signal, kink, -jnp.inf)
        found.append(extremes(added, (pole,), (jnp.where(counted, jnp.inf, kink),)))
    parts = list(zip(*found, strict=True))
    totals_of_all = (jnp.asarray(sum(each)) for each in parts[:3])
    return *totals_of_all, jnp.stack(parts[3]).max(axis=0), jnp.stack(parts[4]).min(axis=0)


def from_zero(data: Blocks, unit: jax.Array) -> Blocks:
    """The same problem with the norm counted in ``unit`` from zero."""
    return tuple(dataclasses.replace(b, npred_ref=b.npred_ref * unit) for b in data)


def harmless(data: Blocks, valid: jax.Array) -> Blocks:
    """Data with ones where there is nothing to solve: no NaN enters derivatives."""
    return jax.tree.map(lambda a: a if a.dtype == bool else jnp.where(valid, a, 1.0), data)


def _power_of_two(value: jax.Array) -> jax.Array:
    """The power of two next above a positive number: to scale with it rounds nothing."""
    # `frexp` and `ldexp` would be a tenth of the whole program: the exponent bits are the number.
    finfo = jnp.finfo(value.dtype)
    integer = jnp.dtype(f"int{finfo.bits}")
    bits = jax.lax.bitcast_convert_type(jnp.clip(value, finfo.tiny, 0.25 * finfo.max), integer)
    exponent = bits >> finfo.nmant << finfo.nmant
    return 2.0 * jax.lax.bitcast_convert_type(exponent, value.dtype)


def _from(origin: jax.Array, block: ProfileData) -> jax.Array:
    """Predictions at ``origin``, which a sum would round as their background is rounded."""
    background, signal = block.background, block.npred_ref
    fixed, rate = jax.lax.stop_gradient((background, signal))
    has_signal = rate > 0
    kink = -fixed / jnp.where(has_signal, rate, 1.0)
    value = jnp.where(has_signal & (origin != 0), rate * (origin - kink), fixed)
    # Zeros with the derivatives of the sum.
    return value + (background - fixed) + origin * (signal - rate)
