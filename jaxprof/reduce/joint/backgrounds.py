"""How the backgrounds of datasets are fitted, from what users give for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.reduce.nuisances import fixed_free_or_width, per_dataset


@dataclass(frozen=True)
class BackgroundOption:
    """How the background of a dataset is fitted."""

    norm: str | float = "fixed"
    tilt: str | float = "fixed"
    """A number is the width of a Gaussian constraint around one (norm) or zero (tilt)."""

    def __post_init__(self) -> None:
        for name in ("norm", "tilt"):
            fixed_free_or_width(f"background {name}", getattr(self, name))
        if not isinstance(self.norm, str) and self.norm >= 1:
            raise ValueError(
                f"background norm: a width of {self.norm:g} is {100 * self.norm:g} % of the "
                f"background, which constrains nothing; was {self.norm / 100:g} meant? 'free' "
                "leaves it free"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is fitted."""
        return self.norm == "fixed" and self.tilt == "fixed"


def background_options(option: Any, names: Sequence[str]) -> list[BackgroundOption]:
    """One option for each dataset, from what the user gave.

    "fixed", "free" and widths are those of the norm; a list has one for each dataset, a mapping may
    have them by name.

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(option, Mapping) and set(option) <= {"norm", "tilt"}:
        option = background_option(option)
    hint = " (or give 'norm' and 'tilt')"
    return [background_option(own) for own in per_dataset("background", option, names, hint)]


def background_option(option: Any) -> BackgroundOption:
    """What the user gave for one dataset."""
    if isinstance(option, BackgroundOption):
        return option
    if isinstance(option, Mapping):
        if unknown := set(option) - {"norm", "tilt"}:
            raise ValueError(f"background has no {sorted(unknown)[0]!r}; it has 'norm' and 'tilt'")
        return BackgroundOption(**option)
    return BackgroundOption(norm=option)


def check_backgrounds(
    datasets: Sequence[MapDataset], options: Sequence[BackgroundOption], summed: bool
) -> None:
    """Raise a ValueError for backgrounds that are to be fitted and cannot be."""
    for dataset, option in zip(datasets, options, strict=True):
        if option.is_fixed:
            continue
        if isinstance(dataset, MapDatasetOnOff):
            raise ValueError(
                f"background of the On-Off dataset {dataset.name!r} cannot be fitted: it is "
                "measured in the OFF counts; give 'fixed' for it"
            )
        if dataset.background is None:
            raise ValueError(
                f"background of dataset {dataset.name!r} cannot be fitted: it has none; give "
                "'fixed' for it"
            )
        if option.tilt != "fixed" and summed:
            raise ValueError(
                "background tilt cannot be fitted with sum_over_energy_groups=True, which leaves "
                "one energy; give tilt='fixed'"
            )
