"""Where bins are, in words: messages count bins, and figures show their positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxprof.sky.regions.axis import ProfileAxis, profile_axis

_MOST = 6


def positions_text(axis: ProfileAxis, bins: Any) -> str:
    """Ranges of some bins along their axis, "0.15 to 0.3, 0.6 to 0.75 deg".

    Neighbours share a range. Empty for an axis that counts the bins.
    """
    chosen = np.atleast_1d(np.asarray(bins, dtype=int))
    if not axis.unit or not chosen.size:
        return ""
    tolerance = 1e-6 * float(np.max(axis.max) - np.min(axis.min))
    spans: list[list[float]] = []
    for low, high in zip(axis.min[chosen], axis.max[chosen], strict=True):
        if spans and abs(spans[-1][1] - low) <= tolerance:
            spans[-1][1] = high
        else:
            spans.append([low, high])
    # Digits that tell the narrowest bin.
    narrow = float(np.min(axis.max - axis.min))
    decimals = max(0, 2 - int(np.floor(np.log10(narrow)))) if narrow > 0 else 4
    words = [" to ".join(_number(end, decimals) for end in span) for span in spans[:_MOST]]
    more = ", ..." if len(spans) > _MOST else ""
    return f"{', '.join(words)}{more} {axis.unit}"


def region_positions(regions: Any, bins: Any) -> str:
    """`positions_text` along the axis of the profile of some regions."""
    return positions_text(profile_axis(regions), bins)


def _number(value: float, decimals: int) -> str:
    # Annuli begin at 1e-5 deg, which reads better as what it stands for.
    text = f"{round(value, decimals) + 0.0:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
