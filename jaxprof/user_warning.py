"""Warnings that point at the user's line, however deep in the package they arise."""

from __future__ import annotations

import sys
import warnings

_PACKAGE = __name__.partition(".")[0]


def warn_user(message: str) -> None:
    """Issue a UserWarning for the innermost call from outside of this package.

    Frames are counted because `warnings.warn` takes ``skip_file_prefixes`` from Python 3.12 only.

    Parameters
    ----------
    message : str
        What to say.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level + 1)


def warn_again(caught: warnings.WarningMessage) -> None:
    """Issue a warning that was caught, for the line that it was for."""
    warnings.warn_explicit(caught.message, caught.category, caught.filename, caught.lineno)


def _is_own(module: str) -> bool:
    return module == _PACKAGE or module.startswith(f"{_PACKAGE}.")
