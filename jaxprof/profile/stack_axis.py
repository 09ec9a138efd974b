"""The further axis of a stack of profiles: their times, or their names alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.time import Time

from jaxprof.datasets.gti import time_span
from jaxprof.profile.fluxprofile import FluxProfile

AXES = ("time", "set")


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
    return "time" if np.all(times[1:, 0] >= times[:-1, 1] - 1e-9) else "set"


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
    """Which profiles overlap in time with one that begins before them, in words; "" if none do."""
    times = profile_times(profiles, names).tt.mjd
    order = np.lexsort((times[:, 1], times[:, 0]))
    longest, found = order[0], []
    for k in order[1:]:
        common = min(times[k, 1], times[longest, 1]) - times[k, 0]
        if common > 1e-9:
            found.append(f"{names[longest]} and {names[k]} by {common:.4g} d")
        if times[k, 1] > times[longest, 1]:
            longest = k
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
