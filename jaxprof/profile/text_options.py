"""What text tables of profiles look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What text tables look like; None for the default."""

    columns: Sequence[str] | None = None
    """Which columns. By default all, after the numbers ``bin`` and ``group``, from zero; in a stack
    these follow the name of the profile."""
    style: str | None = None
    """"full" or "paper"; by default "paper" for ".tex" without `columns`."""
    unit: Any = None
    """Unit of what `sed_type` says, its errors and limits."""
    caption: str | None = None
    """Caption of a LaTeX table, as LaTeX."""
    label: str | None = None
    """The label that a text refers to it by."""

    def given(self) -> list[str]:
        """Names of those that are given."""
        return [name for name, value in vars(self).items() if value is not None]


PLAIN = TextOptions()
"""Nothing but the defaults."""
