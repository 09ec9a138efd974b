"""Objects of gammapy, known by the module of their class: gammapy itself is not imported."""

from __future__ import annotations

from typing import Any


def gammapy_class(value: Any) -> str | None:
    """Name of the class of gammapy that an object is of, or that its class derives from.

    Returns
    -------
    str or None
        The nearest such class; None for anything else, classes themselves included.
    """
    for cls in type(value).__mro__:
        if cls.__module__.partition(".")[0] == "gammapy":
            return cls.__name__
    return None
