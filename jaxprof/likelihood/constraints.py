"""What a likelihood knows of its parameters: which are fitted, their constraints and bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    r"""Gaussian constraint, :math:`-(p - c)^2 / (2 w^2)` in the logarithm of the likelihood.

    Parameters
    ----------
    centre : array
        Value that the parameter was measured to have, of its shape.
    width : array
        Standard deviation, of a shape that broadcasts with it; infinite where there is none.
    """

    centre: Any
    width: Any

    def log_prob(self, value: Any) -> Any:
        """Logarithm without its constant, summed."""
        return -0.5 * jnp.sum(((value - self.centre) / self.width) ** 2)

    def simulated(self, key: Any, value: Any) -> Gaussian:
        """The constraint after another measurement of a parameter that has this value."""
        width = jnp.broadcast_to(self.width, jnp.shape(self.centre))
        drawn = value + jnp.where(jnp.isfinite(width), width, 0.0) * jax.random.normal(
            key, width.shape, width.dtype
        )
        return Gaussian(centre=jnp.where(jnp.isfinite(width), drawn, self.centre), width=self.width)


def gaussian_of(options: Sequence[str | float], centre: float, shape: tuple[int, ...]) -> Any:
    """The constraint of parameters (N, ...) of this shape, by the widths among their N options.

    None if no option is a width.
    """
    widths = np.array([np.inf if isinstance(own, str) else own for own in options])
    if not np.isfinite(widths).any():
        return None
    widths = widths.reshape(-1, *(1,) * (len(shape) - 1))
    return Gaussian(centre=np.full(shape, centre), width=np.broadcast_to(widths, shape).copy())


def bounds_of(
    bounds: tuple[Any, Any], names: Sequence[str] = ("norm",)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lower and upper bounds of some parameters by name; None is no bound."""
    low, high = ({} if own is None else dict.fromkeys(names, own) for own in bounds)
    return low, high


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Constraints and bounds of named parameters.

    Parameters
    ----------
    gaussian : dict of Gaussian
        By the name of the parameter.
    smoothness : array, shape (G, B, B), or None
        Matrix M of the penalty ``norm @ M @ norm`` on the statistic of each group.
    lower, upper : dict of float
        Bounds, which a parameter may have as its value. Those of the spectrum are called
        ``"spectrum.index"``, those of sources ``"source_lon.name"``.
    """

    gaussian: Mapping[str, Gaussian] = field(default_factory=dict)
    smoothness: Any = None
    lower: dict[str, Any] = field(default_factory=dict)
    upper: dict[str, Any] = field(default_factory=dict)

    def log_prob(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """Logarithm of all constraints, and the violation: the sum of what is beyond bounds."""
        total: Any = 0.0
        beyond: Any = 0.0
        for name, own in self.gaussian.items():
            total = total + own.log_prob(values[name])
        if self.smoothness is not None:
            norm = values["norm"]
            total = total - 0.5 * jnp.einsum("bg,gbc,cg->", norm, self.smoothness, norm)
        for name, bound in self.lower.items():
            beyond = beyond + jnp.sum(jnp.minimum(_named(values, name) - bound, 0.0))
        for name, bound in self.upper.items():
            beyond = beyond + jnp.sum(jnp.minimum(bound - _named(values, name), 0.0))
        return total, beyond

    def simulated(self, key: Any, values: Mapping[str, Any]) -> Constraints:
        """The constraints after other measurements of parameters of these values."""
        keys = jax.random.split(key, max(len(self.gaussian), 1))
        drawn = {
            name: own.simulated(keys[index], values[name])
            for index, (name, own) in enumerate(sorted(self.gaussian.items()))
        }
        return Constraints(
            gaussian=drawn, smoothness=self.smoothness, lower=self.lower, upper=self.upper
        )


@dataclass(frozen=True, kw_only=True)
class FreeParameters:
    """Names of the parameters that are fitted, and which elements of them; a static record.

    Attributes
    ----------
    names : tuple of str
        Parameters that `Likelihood.params` gives.
    sources : tuple of str
        Sources whose norm is fitted.
    background, background_tilt : tuple of bool
        Data sets whose background norm or tilt is fitted.
    exposure : tuple of bool
        Data sets whose exposure is fitted.
    spectral_parameters : tuple of str
        Parameters of the spectrum that are fitted.
    spectra : tuple of bool
        Bins whose spectrum is fitted.
    """

    names: tuple[str, ...] = ("norm",)
    sources: tuple[str, ...] = ()
    background: tuple[bool, ...] = ()
    background_tilt: tuple[bool, ...] = ()
    exposure: tuple[bool, ...] = ()
    spectral_parameters: tuple[str, ...] = ()
    spectra: tuple[bool, ...] = ()

    def __contains__(self, name: object) -> bool:
        """Whether any element of a parameter is fitted."""
        return name in self.names

    @property
    def any_background(self) -> bool:
        """Whether a background norm or tilt is fitted."""
        return any(self.background) or any(self.background_tilt)

    def held_rows(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Parameters with an axis of data sets or bins, and the rows of it that are not fitted."""
        rows = {
            "background": self.background,
            "background_tilt": self.background_tilt,
            "exposure": self.exposure,
            **{f"spectrum.{name}": self.spectra for name in self.spectral_parameters},
        }
        for name, fitted in rows.items():
            if name.partition(".")[0] in self.names:
                yield name, tuple(row for row, own in enumerate(fitted) if not own)


def _named(values: Mapping[str, Any], name: str) -> Any:
    """A parameter, or one of a spectral model or of a source among them."""
    first, _, own = name.partition(".")
    if isinstance(values[first], Mapping):
        return values[first][own]
    return getattr(values[first], own) if own else values[first]
