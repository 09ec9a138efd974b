"""Nuisance parameters of the responses: exposures, and scales between a few nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any
from warnings import catch_warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.datasets.folding import dataset_at_scale
from jaxprof.likelihood import Constraints, Gaussian, Likelihood
from jaxprof.likelihood.constraints import gaussian_of
from jaxprof.likelihood.terms import Term
from jaxprof.types import Array

#: Smallest width of a Gaussian constraint: below it, "fixed" is the same and is exact.
NARROWEST = 1e-9


def fixed_free_or_width(what: str, value: Any) -> str | float:
    """How a parameter is fitted: "fixed", "free", or the width of its Gaussian constraint.

    Anything else is refused; the message begins with ``what``.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    known = NARROWEST <= value < np.inf if number else value in ("fixed", "free")
    if not known:
        raise ValueError(
            f"{what} must be 'fixed', 'free' or the positive width of a Gaussian constraint of at "
            f"least {NARROWEST:g}, got {value!r}"
        )
    return value


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """How exposures and scales enter a likelihood."""

    exposure: tuple[str | float, ...]
    """How the exposure of each dataset is fitted; a number is the width of a Gaussian constraint
    around one."""
    nodes: Mapping[str, Array]
    """Values of the scales between which templates are interpolated, in alphabetical order,
    (P,)."""
    widths: Mapping[str, float]
    """Widths of Gaussian constraints of the scales around one."""

    def points(self) -> Iterator[dict[str, float]]:
        """All combinations of the nodes, the first name outermost; what is warned of is said once.

        Warnings are those of the first, which users see.
        """
        values = itertools.product(*self.nodes.values())
        for number, point in enumerate(values):
            with nullcontext() if number == 0 else catch_warnings(action="ignore"):
                yield {name: float(own) for name, own in zip(self.nodes, point, strict=True)}

    def added(self, made: Sequence[Likelihood]) -> Likelihood:
        """One likelihood of these parameters, from those at all `points`, in their order."""
        first = made[0]
        if not self.nodes and not self._fitted:
            return first
        terms = tuple(map(self._term, *(each.terms for each in made)))
        return with_parameters(
            replace(first, terms=terms, nodes=dict(self.nodes)),
            [*(["exposure"] if self._fitted else []), *self.nodes],
            {name: np.asarray(1.0) for name in self.nodes},
            self._constraints,
            exposure=tuple(option != "fixed" for option in self.exposure),
        )

    @property
    def _fitted(self) -> bool:
        return any(option != "fixed" for option in self.exposure)

    @property
    def _constraints(self) -> Constraints:
        gaussian = {
            name: Gaussian(centre=np.asarray(1.0), width=np.asarray(width))
            for name, width in self.widths.items()
        }
        own = gaussian_of(self.exposure, 1.0, (len(self.exposure),))
        gaussian |= {} if own is None else {"exposure": own}
        lower = {name: float(values[0]) for name, values in self.nodes.items()}
        upper = {name: float(values[-1]) for name, values in self.nodes.items()}
        return Constraints(
            gaussian=gaussian,
            lower=lower | ({"exposure": 0.0} if self._fitted else {}),
            upper=upper,
        )

    def _term(self, *terms: Term) -> Term:
        """A term with the templates of all nodes."""
        if not self.nodes:
            return terms[0]
        parts = [term.templates for term in terms]
        traced = any(isinstance(part, jax.core.Tracer) for part in parts)
        stacked = jnp.stack(parts) if traced else np.stack(parts)
        sizes = tuple(len(values) for values in self.nodes.values())
        return replace(terms[0], templates=stacked.reshape(*sizes, *parts[0].shape))


def with_parameters(
    likelihood: Likelihood,
    names: Sequence[str],
    nominal: Mapping[str, Any],
    constraints: Constraints,
    **free: tuple[Any, ...],
) -> Likelihood:
    """The likelihood with further parameters, which are fitted; ``free`` are `FreeParameters`."""
    before = likelihood.constraints
    return replace(
        likelihood,
        nominal={**likelihood.nominal, **nominal},
        constraints=replace(
            before,
            gaussian={**before.gaussian, **constraints.gaussian},
            lower={**before.lower, **constraints.lower},
            upper={**before.upper, **constraints.upper},
        ),
        free=replace(likelihood.free, names=(*likelihood.free.names, *names), **free),
    )


def nuisances(
    names: Sequence[str],
    *,
    exposure: Any = "fixed",
    constraints: Mapping[str, float] | None = None,
    **scales: Sequence[float] | None,
) -> Nuisances:
    """Nuisance parameters of the responses, from what users give for them.

    The ``exposure`` is "fixed", "free" or the width of a constraint; one for each dataset in a
    list, or by name. The ``constraints`` are widths of Gaussian constraints of the scales, whose
    nodes follow by name, None for one that is no parameter.

    Raises
    ------
    ValueError
        For anything else; the message names the argument.
    """
    given = sorted(name for name, values in scales.items() if values is not None)
    nodes = {name: scale_nodes(name, scales[name]) for name in given}
    widths = {}
    if not isinstance(constraints, Mapping | None):
        raise ValueError(f"constraints must be a dict of widths by name, got {constraints!r}")
    for name, width in (constraints or {}).items():
        if name not in nodes:
            hint = "exposure=0.1" if name == "exposure" else f"{name}=(0.9, 1, 1.1) if it is one"
            raise ValueError(f"constraints: {name!r} is no scale that has nodes; give {hint}")
        if isinstance(fixed_free_or_width(f"constraints: {name!r}", width), str):
            raise ValueError(f"constraints: {name!r} must be a width, got {width!r}")
        widths[name] = float(width)
    exposures = per_dataset("exposure", exposure, names)
    return Nuisances(
        exposure=tuple(fixed_free_or_width("exposure", own) for own in exposures),
        nodes=nodes,
        widths=widths,
    )


def scale_nodes(name: str, values: Any) -> Array:
    """Nodes of a scale, (P,), which must be positive, increasing and around one."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        found = np.zeros(0)
    known = found.ndim == 1 and len(found) >= 2 and found[0] > 0 and np.isfinite(found[-1])
    if not known or not np.all(np.diff(found) > 0) or getattr(values, "unit", "") != "":
        raise ValueError(
            f"{name} must be two or more positive and increasing factors, got {values!r}"
        )
    if not found[0] <= 1 <= found[-1]:
        raise ValueError(f"{name} must be around 1, what it is without a change, got {values!r}")
    return found


def per_dataset(what: str, option: Any, names: Sequence[str], hint: str = "") -> list[Any]:
    """What users give for each dataset: the same for all, a list, or by name, "fixed" otherwise.

    Raises
    ------
    ValueError
        For a name that no dataset has, and a list of another length.
    """
    if isinstance(option, Mapping):
        unknown = [name for name in option if name not in names]
        if unknown:
            raise ValueError(
                f"{what}: {unknown[0]!r} is no dataset; there are "
                f"{', '.join(map(repr, names))}{hint}"
            )
        return [option.get(name, "fixed") for name in names]
    if not isinstance(option, list | tuple):
        return [option] * len(names)
    if len(option) != len(names):
        raise ValueError(
            f"{what} is a list of {len(option)}; give one for each of the {len(names)} datasets"
        )
    return list(option)


def energies_scaled(
    dataset: MapDataset, point: Mapping[str, float], nodes: Mapping[str, Array]
) -> MapDataset:
    """A dataset with the energy scale of a point of the nodes, if there is one."""
    if "energy_scale" not in point:
        return dataset
    return dataset_at_scale(dataset, point["energy_scale"], [*nodes["energy_scale"]])
