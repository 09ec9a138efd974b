r"""What a stored profile tells of its likelihood: scans of each norm, or their covariance.

Scans are interpolated in the signed root of the difference from the minimum,
:math:`\pm\sqrt{\Delta}`, which is close to a straight line, by cubic splines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc

from jaxprof.likelihood.bin_geometry import BinGeometry


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class _OfProfile:
    """What both have: norms (B, G) with symmetric errors; NaN for those that are left out."""

    norm: Any
    error: Any
    geometry: BinGeometry

    @property
    def nominal(self) -> dict[str, Any]:
        """Norms alone."""
        return {"norm": self.norm}

    def params(self) -> dict[str, Any]:
        """The norms; there are no nuisance parameters."""
        return dict(self.nominal)

    def bounds(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """None."""
        return {}

    def fixed(self) -> tuple[str, ...]:
        """None."""
        return ()

    def stat(self, norm: Any) -> Any:
        """Difference of the statistic from that of the norms as they were fitted."""
        raise NotImplementedError

    def log_prob(self, params: Mapping[str, Any]) -> Any:
        """Logarithm of the likelihood, over that of the norms as they were fitted."""
        return -0.5 * self.stat(params["norm"])

    def excess_ratio(self, norm: Any) -> Any:
        """Factor on norms that makes them most like those of the profile."""
        weight = jnp.where(jnp.isfinite(self.error * self.norm), 1 / self.error**2, 0.0)
        above = jnp.sum(weight * norm * jnp.where(weight > 0, self.norm, 0.0))
        below = jnp.sum(weight * norm**2)
        least = jnp.sqrt(below)
        return jnp.where(below > 0, jnp.maximum(above, least) / below, 1.0)

    def observed(self, norm: Any) -> tuple[Any, Any, Any]:
        """Norms, their errors, and their distance from others over the error, (B, G)."""
        return self.norm, self.error, (self.norm - norm) / self.error

    def goodness(self, params: Mapping[str, Any], n_free: int) -> dict[str, Any]:
        """The statistic against a chi-squared distribution."""
        number = jnp.sum(jnp.isfinite(self.norm))
        dof = number - n_free
        stat, std = self.stat(params["norm"]), jnp.sqrt(2.0 * dof)
        return {
            "stat": stat,
            "expected": dof * 1.0,
            "std": std,
            "n_bins": number,
            "n_free": n_free,
            "z": (stat - dof) / std,
            "p_value": gammaincc(dof / 2.0, stat / 2.0),
        }


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ScanLikelihood(_OfProfile):
    """The likelihood of separate fits by their scans.

    Parameters
    ----------
    norm, error : array, shape (B, G)
        Norms at the minimum, and their standard deviations; NaN for bins that are left out.
    geometry : BinGeometry
        Where the bins are.
    knots : array, shape (B, G, K + 1)
        Norms between which the splines change.
    coefficients : array, shape (B, G, 4, K)
        Of their polynomials, the highest power first.
    rooted : array of bool, shape (B, G)
        Whether a spline is that of the signed root; that of the difference itself otherwise.
    """

    knots: Any
    coefficients: Any
    rooted: Any

    def stat(self, norm: Any) -> Any:
        """Difference of the statistic, summed; a parabola (or a line) beyond the scan."""
        use = jnp.isfinite(self.norm)
        inside = jnp.clip(norm, self.knots[..., 0], self.knots[..., -1])
        index = jnp.sum(inside[..., None] >= self.knots[..., 1:-1], axis=-1)
        a, b, c, d = (
            jnp.take_along_axis(self.coefficients[..., power, :], index[..., None], -1)[..., 0]
            for power in range(4)
        )
        step = inside - jnp.take_along_axis(self.knots, index[..., None], -1)[..., 0]
        value = ((a * step + b) * step + c) * step + d
        value = value + (norm - inside) * ((3 * a * step + 2 * b) * step + c)
        return jnp.sum(jnp.where(use, jnp.where(self.rooted, value**2, value), 0.0))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CovarianceLikelihood(_OfProfile):
    """The likelihood of a joint fit by the covariance of its norms.

    Parameters
    ----------
    norm, error : array, shape (B, G)
        Norms and their standard deviations; NaN for bins that are left out.
    geometry : BinGeometry
        Where the bins are.
    precision : array, shape (G, B, B)
        Inverse of the covariance, zero in the rows of bins that are left out.
    """

    precision: Any

    def stat(self, norm: Any) -> Any:
        """Chi-squared of norms (B, G)."""
        away = jnp.where(jnp.isfinite(self.norm), norm - self.norm, 0.0)
        return jnp.einsum("bg,gbc,cg->", away, self.precision, away)
