"""Progress bars of what takes more than a few seconds, where there is a terminal and tqdm."""

from __future__ import annotations

from importlib import import_module
from typing import Any

DELAY = 3.0
"""Seconds before a bar appears that nobody asked for."""


class _NoBar:
    def update(self, n: int = 1) -> None:
        """Count nothing."""

    def close(self) -> None:
        """Close nothing."""


def progress_bar(total: int, what: str, unit: str, progress: bool | None = None) -> Any:
    """A bar with ``update(n)`` and ``close()``.

    Parameters
    ----------
    total : int
        Number of steps.
    what, unit : str
        What makes progress, and what a step is.
    progress : bool, optional
        Whether to show it; by default after some seconds, where there is a terminal and the package
        tqdm.

    Raises
    ------
    ImportError
        If it is asked for, and tqdm is not there.
    """
    if progress is False or total < 2:
        return _NoBar()
    try:
        tqdm = import_module("tqdm").tqdm
    except ImportError:
        if progress:
            raise ImportError("progress: a bar needs the package tqdm; pip install tqdm") from None
        return _NoBar()
    # disable=None: only where there is a terminal.
    quiet = {"disable": None, "delay": DELAY} if progress is None else {}
    return tqdm(total=total, desc=what, unit=unit, **quiet)
