"""Numbers that users give: those of numpy, of JAX and in arrays without axes are numbers too."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def plain_number(value: Any) -> float:
    """A number, that of a quantity without unit as well; NaN for what is none, such as True."""
    if isinstance(value, bool | np.bool_ | str) or np.ndim(value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError):  # those of units are TypeErrors
        return np.nan


def whole_number(value: Any) -> int | None:
    """A whole number; None for what is none, such as True or 2.0."""
    if isinstance(value, bool | np.bool_) or hasattr(value, "unit"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
