"""Best norms of components at other spectral parameters, each with everything else held."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.likelihood.joint_data import JointBlock, JointData, JointOnOffBlock
from jaxprof.likelihood.joint_model import bin_derivatives

ITERATIONS = 16, 12
"""Most of the search for a norm: of On-Off data, whose statistic may have kinks, and of others."""
ACTIVE = 1e-3
"""Dual variables above which constraints are active."""
LOW = 1e-3
"""Where a bracket is entered that a step has left."""
CHANGE = 1e-10
"""Change of the statistic in its last step: the next one would be about the square of it."""


Block = JointBlock | JointOnOffBlock


class Family(NamedTuple):
    """Positions of the spectral parameters (M, A) and the norm (M,) of each component."""

    shape: np.ndarray
    norm: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """All parameters of the components, (M, 1 + A)."""
        return np.concatenate([self.norm[:, None], self.shape], axis=1)


class Part(NamedTuple):
    """A block with predictions of its components at norms of one (N, L, S).

    With the predictions (N, L, S) without each of these components (N, L), and dual variables.
    """

    block: Block
    dual: jax.Array
    base: jax.Array
    row: jax.Array
    at: jax.Array

    def derivatives_at(self, norms: jax.Array) -> tuple[jax.Array, jax.Array]:
        """First two derivatives (N, L, S) of half the statistic with respect to predictions."""

        def of_one(npred: jax.Array) -> tuple[jax.Array, jax.Array]:
            first, second = bin_derivatives(self.block, npred, jnp.zeros_like(npred))[:2]
            return first - jnp.where(npred < 0, self.dual, 0.0), second

        return jax.vmap(of_one, 1, 1)(self.with_norms(norms))

    def with_norms(self, norms: jax.Array) -> jax.Array:
        """Predictions (N, L, S) with norms of the components."""
        return self.base + norms[self.at][..., None] * self.row


def _bracket(
    data: JointData, norm: np.ndarray, parts: list[Part]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Signal of norm one, weight and value of a guess, what the norm is between; (M,) each.

    The guess is that of least squares, with one more than the counts for their variance.
    """
    low, high = data.lower[norm], data.upper[norm]
    least, most = jnp.full(norm.shape, jnp.inf), jnp.full(norm.shape, -jnp.inf)
    pole = most
    signal, total, weight = jnp.zeros((3, *norm.shape))
    for block, dual, base, row, at in parts:
        reached = block.mask[:, None] & (row > 0)
        safe = jnp.where(reached, row, 1.0)
        if isinstance(block, JointOnOffBlock):
            excess = block.n_on - block.alpha * block.n_off
            variance = block.n_on + block.alpha**2 * block.n_off + 1.0
        else:
            excess, variance = block.counts, block.counts + 1.0
            ends = jnp.where(reached & (dual < ACTIVE)[:, None], -base / safe, -jnp.inf)
            pole = pole.at[at].max(jnp.max(ends, axis=-1))
        own = (excess[:, None] - base) / safe
        signal = signal.at[at].add(jnp.sum(jnp.where(reached, row, 0.0), axis=-1))
        squared = jnp.where(reached, row**2 / variance[:, None], 0.0)
        total = total.at[at].add(jnp.sum(jnp.where(reached, squared * own, 0.0), axis=-1))
        weight = weight.at[at].add(jnp.sum(squared, axis=-1))
        least = least.at[at].min(jnp.min(jnp.where(reached, own, jnp.inf), axis=-1))
        most = most.at[at].max(jnp.max(jnp.where(reached, own, -jnp.inf), axis=-1))
    # Empty counts bins have no pole; where there are no others, they end the bracket all the same.
    low = jnp.where(jnp.isfinite(pole), jnp.maximum(pole, low), jnp.clip(least, low, high))
    high = jnp.clip(most, low, high)
    signal, weight = (jnp.where(each > 0, each, 1.0) for each in (signal, weight))
    # At a pole itself there is no derivative.
    above = jnp.where(jnp.isfinite(pole), low + LOW * (high - low), low)
    return signal, weight, jnp.clip(total / weight, above, high), low, high


def best_norm(
    data: JointData, z: jax.Array, family: Family, values: jax.Array, parts: list[Part]
) -> jax.Array:
    """Norms (M,) of the components, each with all else held, by Newton steps between bounds."""
    n, s = family.norm, family.shape
    pull, step = data.precision @ (z - data.penalty_start), values - z[s]
    pulled = pull[n] + jnp.sum(data.precision[n[:, None], s] * step, axis=1)
    signal, weight, guess, low, high = _bracket(data, n, parts)
    counted = not any(isinstance(part.block, JointOnOffBlock) for part in parts)

    def between(low: jax.Array, high: jax.Array) -> jax.Array:
        if counted:
            # Where a row is next to nothing the bracket is wide; from below, steps stay inside.
            return low + LOW * (high - low)
        # Slopes of On-Off data have no pole: half way, even near the guess, geometric far from it.
        unit = 1 / jnp.sqrt(weight)
        ends = [jnp.arcsinh((end - guess) / unit) for end in (low, high)]
        return jnp.clip(guess + unit * jnp.sinh(0.5 * sum(ends)), low, high)

    def nearer(carry: tuple) -> tuple:
        x, low, high, number, _ = carry
        score, curvature = jnp.zeros_like(x), jnp.zeros_like(x)
        for part in parts:
            one, two = part.derivatives_at(x)
            score = score.at[part.at].add(jnp.sum(one * part.row, axis=-1))
            curvature = curvature.at[part.at].add(jnp.sum(two * part.row**2, axis=-1))
        # The score is nearly that of a single bin, a constant minus one over the distance from a
        # pole: in such a step the root of that is exact. Not if there is a penalty.
        length = jnp.where(data.precision[n, n] > 0, 1.0, (signal - score) / signal)
        score += pulled + data.precision[n, n] * (x - z[n])
        curvature += data.precision[n, n]
        low, high = jnp.where(score < 0, x, low), jnp.where(score < 0, high, x)
        new = x - length * score / jnp.where(curvature > 0, curvature, 1.0)
        inside = (curvature > 0) & (new > low) & (new < high)
        more = jnp.any(~inside | (curvature * (new - x) ** 2 > CHANGE))
        return jnp.where(inside, new, between(low, high)), low, high, number + 1, more

    start, most = (guess, low, high, jnp.asarray(0), jnp.asarray(True)), ITERATIONS[counted]
    return jax.lax.while_loop(lambda c: c[-1] & (c[-2] < most), nearer, start)[0]
