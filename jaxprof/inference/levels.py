"""One convention for confidence levels: the probability that an interval holds the truth."""

from __future__ import annotations

import math
from typing import Any

import scipy

from jaxprof.inference.plain_numbers import plain_number


def confidence_level(
    cl: float | None = None, n_sigma: float | None = None, what: str = "n_sigma"
) -> float:
    """Confidence level, from itself or from a number of standard deviations, of some name.

    These are those of a two-sided interval of a normal distribution, whichever kind of interval is
    meant: 1 is 68.27 %, 2, which is taken if there is no `cl` either, 95.45 %.

    Raises
    ------
    ValueError
        For both, or for a level that is none.
    """
    if cl is not None and n_sigma is not None:
        raise ValueError(f"give cl or {what}, not both: got cl={cl} and {what}={n_sigma}")
    if cl is None:
        n_sigma = 2.0 if n_sigma is None else n_sigma
        number = plain_number(n_sigma)
        if not 0 < number < math.inf:
            raise ValueError(f"{what} must be a positive number, got {n_sigma!r}")
        return math.erf(number / math.sqrt(2.0))
    number = plain_number(cl)
    if not 0 < number < 1:
        raise ValueError(f"cl must be between 0 and 1, such as 0.95, got {cl!r}")
    return number


def sigma_of_limits(n_sigma_ul: Any = None, cl: float | None = None) -> Any:
    """Standard deviations of upper limits, by default 2, from themselves or a confidence level.

    Raises
    ------
    ValueError
        For both, or for a confidence level that is none.
    """
    if cl is None:
        return 2 if n_sigma_ul is None else n_sigma_ul
    if n_sigma_ul is not None:
        raise ValueError(f"give cl or n_sigma_ul, not both: got {cl} and {n_sigma_ul}")
    return two_sided_sigma(confidence_level(cl))


def two_sided_sigma(cl: float) -> float:
    """Standard deviations of a two-sided interval of this level: 1.96 for 0.95."""
    return float(-scipy.special.ndtri(0.5 * (1.0 - cl)))


def one_sided_sigma(cl: float) -> float:
    """Standard deviations of a one-sided interval of this level: 1.645 for 0.95."""
    return float(scipy.special.ndtri(cl))
