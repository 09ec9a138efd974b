"""The further axis of a stack of profiles: their times, or their names alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.time import Time

from jaxprof.datasets.gti import interval_times, time_span
from jaxprof.profile.fluxprofile import FluxProfile

AXES = ("time", "set")
ROUNDING = 1e-9
"""Days that intervals may overlap by rounding."""


def has_gti(profile: FluxProfile) -> bool:
    """Whether a profile has good time intervals."""
    return profile.gti is not None and len(profile.gti) > 0


def stack_axis(profiles: Sequence[FluxProfile], names: Sequence[str], axis: str | None) -> str:
    """The axis that was asked for; without, "time" if the profiles follow each other in time.

    Raises
    ------
    ValueError
        For an unknown axis, or "time" without good time intervals.
    """
    if axis is not None and axis not in AXES:
        raise ValueError(f"axis is {axis!r}; valid are {', '.join(map(repr, AXES))}")
    without = [name for name, own in zip(names, profiles, strict=True) if not has_gti(own)]
    if axis == "time" and without:
        raise ValueError(
            f"axis='time' needs good time intervals, which {without[0]!r} does not have; give "
            "its dataset a gti, or axis='set'"
        )
    if axis is not None:
        return axis
    if without or len(profiles) < 2:
        return "set"
    times = profile_times(profiles, names).tt.mjd
    return "time" if np.all(times[1:, 0] >= times[:-1, 1] - ROUNDING) else "set"


def profile_times(profiles: Sequence[FluxProfile], names: Sequence[str]) -> Time:
    """Begin and end of the good time intervals of each profile, (T, 2); ValueError without any."""
    spans = []
    for name, own in zip(names, profiles, strict=True):
        if own.gti is None or not len(own.gti):
            raise ValueError(f"times are not known: {name!r} has no good time intervals")
        spans.append(time_span(own.gti).tt)
    parts = (np.array([getattr(span, part) for span in spans]) for part in ("jd1", "jd2"))
    times = Time(*parts, format="jd", scale="tt")
    times.format = "mjd"
    return times


def overlap_in_time(profiles: Sequence[FluxProfile], names: Sequence[str]) -> str:
    """Which profiles have common good time intervals, in words; "" if none do."""
    each = [[] if own.gti is None else interval_times(own.gti).tt.mjd.tolist() for own in profiles]
    intervals = sorted((*ends, number) for number, own in enumerate(each) for ends in own)
    common: dict[tuple[int, int], float] = {}
    going: list[tuple[float, int]] = []
    for start, stop, number in intervals:
        going = [(end, other) for end, other in going if end > start + ROUNDING]
        for end, other in going:
            if other != number:
                # The one that begins first is named first.
                first, second = sorted((other, number), key=lambda k: (min(each[k]), k))
                common[first, second] = common.get((first, second), 0.0) + min(end, stop) - start
        going.append((stop, number))
    found = [f"{names[i]} and {names[j]} by {days:.4g} d" for (i, j), days in common.items()]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
