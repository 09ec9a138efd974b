"""What users are told about numbers of fits that are easily taken for what they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table

from jaxprof.estimators.bin_residuals import Peak
from jaxprof.likelihood.data import Data, OnOffData, Status, blocks
from jaxprof.likelihood.joint_data import JointBlock, JointData
from jaxprof.likelihood.statistics import TRUNCATION
from jaxprof.profile.quantities import energy_span
from jaxprof.sky.regions.positions import region_positions
from jaxprof.types import Array
from jaxprof.user_warning import warn_user

_MOST_BINS = 10
_MOST_GROUPS = 5
_PULLED = 3.0
"""Widths of its constraint that a background may be off without a word."""
LOST = 1e10
"""Expected background over counts above which joint fits may lose the counts by rounding."""


@dataclass(frozen=True)
class Bins:
    """What messages name bins by."""

    regions: Sequence[Any]
    """Regions of the bins."""
    energy_edges: Array
    """Edges of the energy groups [TeV], (G, 2)."""
    energy_unit: str = "TeV"
    """Unit that energies are given in."""

    def energies(self, group: int) -> str:
        """The range of an energy group, "10 to 36.84 GeV"."""
        return energy_span(self.energy_edges[group], self.energy_unit)

    def named(self, which: Array) -> str:
        """Some bins (B, G) by number and position; with their energies if there are several groups.

        "bin 2 (0.3 to 0.45 deg)", "bins 0, 1 and 3 (0 to 0.3, 0.45 to 0.6 deg)" or
        "bin 2 (0.3 to 0.45 deg; 1 to 3 TeV); bins 0 and 4 (0 to 0.15, 0.6 to 0.75 deg; 3 to 10
        TeV)".
        """
        clauses = []
        for group in map(int, np.flatnonzero(which.any(axis=0))):
            found = np.flatnonzero(which[:, group])
            names = [str(number) for number in found[:_MOST_BINS]]
            if found.size > _MOST_BINS:
                names.append(f"{found.size - _MOST_BINS} more")
            text = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
            energies = self.energies(group) if len(self.energy_edges) > 1 else ""
            inside = "; ".join(filter(None, [region_positions(self.regions, found), energies]))
            text = f"{text} ({inside})" if inside else text
            clauses.append(f"bin{'s' if found.size > 1 else ''} {text}")
        if len(clauses) > _MOST_GROUPS:
            clauses[_MOST_GROUPS:] = [f"{len(clauses) - _MOST_GROUPS} more energy groups"]
        return "; ".join(clauses)


def alone_somewhere(data: JointData, *, counted: bool = False) -> Array:
    """Components (C,) that reach a counts bin which nothing else reaches, not even a background.

    A fit without that component predicts nothing there; see `without_background`. With ``counted``
    there must be counts in it. The background of On-Off data is never known to be zero.
    """
    found = np.zeros(data.n_components, bool)
    # The norm of a background may be fitted, however small it is.
    least = 0.0 if data.n_nuisance else TRUNCATION
    for block in data.blocks:
        if not isinstance(block, JointBlock):
            continue
        others = np.asarray(block.background) + np.asarray(block.offset)
        empty = np.asarray(block.mask) & (others <= least)
        if counted:
            empty &= np.asarray(block.counts) > 0
        rows = np.flatnonzero(empty.any(axis=1))
        reached = np.any(np.asarray(block.templates)[rows] > 0, axis=2)
        lone = empty[rows] & (reached.sum(axis=1) == 1)
        found[np.asarray(block.components)[rows][np.any(reached & lone[:, np.newaxis], axis=2)]] = 1
    return found


def counts_are_lost(data: JointData) -> bool:
    """Whether some background is so far above the counts that its rounding hides them."""
    for block in data.blocks:
        if isinstance(block, JointBlock):
            expected = np.asarray(block.background) + np.asarray(block.offset)
            lost = np.asarray(block.mask) & (expected > LOST * (1.0 + np.asarray(block.counts)))
            if lost.any():
                return True
    return False


def without_background(data: Data, *, counted: bool = False) -> Array:
    """Where nothing is expected without a signal, (B, G), at some energy or pixel.

    A single count there is infinitely significant. A background that is measured is never known to
    be zero. With ``counted`` there must be counts.
    """
    found = np.zeros(blocks(data)[0].npred_ref.shape[:2], bool)
    for block in blocks(data):
        if not isinstance(block, OnOffData):
            used = np.asarray(block.mask) & (np.asarray(block.npred_ref) > 0)
            empty = used & (np.asarray(block.background) <= TRUNCATION)
            found |= np.any(empty & (np.asarray(block.counts) > 0) if counted else empty, axis=2)
    return found


def warn_masked(status: Array, bins: Bins, unseen: Array) -> None:
    """Warn of bins that are masked in all groups (B, G), between others that have an estimate.

    Those at the ends of a profile that reaches beyond the data are expected, and those that are
    `unseen` (B,), off the map, have a warning of their own.
    """
    lost = (status == Status.FULLY_MASKED).all(axis=1) & ~unseen
    known = np.flatnonzero(status.min(axis=1) <= Status.BOUNDARY)
    lost[: known.min(initial=len(lost))] = lost[known.max(initial=0) :] = False
    if lost.any():
        of_all = replace(bins, energy_edges=bins.energy_edges[:1])
        warn_user(
            f"{of_all.named(lost[:, np.newaxis])}: all pixels are masked (look at mask_safe and "
            "mask_fit of the datasets); there is no estimate, and success is False"
        )


def warn_nothing_known(status: Array) -> None:
    """Warn if no bin of any group (B, G) has data, and say why."""
    masked, dark = status == Status.FULLY_MASKED, status == Status.NO_EXPOSURE
    if not (masked | dark).all():
        return
    causes = []
    if masked.any():
        causes.append(
            "all pixels of the bins are masked at these energies (look at mask_safe and mask_fit "
            "of the datasets)"
        )
    if dark.any():
        causes.append(
            "no signal is expected in the bins (look at exposure and energy "
            "dispersion of the datasets)"
        )
    warn_user(f"all norms are NaN: {', or '.join(causes)}")


def warn_negative_limits(norm_ul: Array | None, bins: Bins) -> None:
    """Warn of upper limits below zero, (B, G), if they were asked for."""
    if norm_ul is None:
        return
    negative = norm_ul < 0  # not where it is NaN
    if negative.any():
        warn_user(
            f"negative upper limits of {bins.named(negative)}: the counts are "
            "so far below what is expected without a signal that the whole interval around the "
            "norm is below zero, often as the background (or a source that is subtracted) is taken "
            'too high. They are no limits on a flux; interval="bounded", "feldman-cousins", "cls" '
            'or "bayesian" gives limits of norms that are not negative, as norm={"min": 0} does'
        )


def warn_misfit(which: Array | None, bins: Bins, peaks: Sequence[Peak] = ()) -> None:
    """Warn of bins that a joint fit does not describe, by the quantity ``misfit``.

    The highest peaks of the residuals are named, with their place, size and energies.
    """
    if which is not None and which.any():
        highest = "; ".join(_peak_text(own, bins) for own in peaks)
        where = f" (misfit), most of all {highest}" if highest else " (misfit)"
        warn_user(
            f"the joint fit does not describe what is in {bins.named(which)}{where}: emission "
            "there is not spread as its template says, a point in a uniform bin "
            "for instance, and norms around it may alternate in sign. Give template=[...] with a "
            "PointSpatialModel or a map for such bins, or the point as "
            'sources=[SkyModel(..., free=True)]; norm={"min": 0} keeps norms from being negative'
        )


def _peak_text(peak: Peak, bins: Bins) -> str:
    """A peak of residuals by counts, place, energies and significance."""
    lon, lat = peak.position.spherical.lon.deg, peak.position.spherical.lat.deg
    decimals = max(0, 1 - int(np.floor(np.log10(peak.radius))))
    energies = f", {bins.energies(peak.group)}" if len(bins.energy_edges) > 1 else ""
    return (
        f"{peak.counts:.0f} counts for {peak.npred:.3g} predicted within {peak.radius:.3g} deg of "
        f"lon {lon:.{decimals}f}, lat {lat + 0.0:.{decimals}f} deg "
        f"({peak.position.frame.name}{energies}; {peak.significance:.2g} sigma)"
    )


def warn_pulled_backgrounds(nuisance: Table | None, widths: Mapping[str, float]) -> None:
    """Warn of background norms far from one, in units of the widths of their constraints.

    Widths are by name of the dataset; `nuisance` is the profile's table.
    """
    pulled = []
    for row in [] if nuisance is None else nuisance:
        if row["parameter"] == "background norm" and row["dataset"] in widths:
            pull = abs(row["value"] - 1.0) / widths[row["dataset"]]
            if pull > _PULLED:
                pulled.append(f"{row['value']:.3g} for {row['dataset']}, {pull:.2g} widths off")
    if pulled:
        warn_user(
            f"background norm: {'; '.join(pulled[:_MOST_GROUPS])}. The counts disagree with the "
            "constraint around 1, and norms of bins make up for it: is emission outside of the "
            "bins missing (sources=[...], guard_bins), or is the constraint too narrow? All "
            "backgrounds are in profile.nuisance"
        )


def warn_infinite_significance(which: Array, bins: Bins) -> None:
    """Warn of test statistics that rest on the floor of the predicted counts, (B, G)."""
    if which.any():
        warn_user(
            f"counts of {bins.named(which)} lie where nothing is expected without a "
            f"signal, which makes them infinitely significant: ts and sqrt_ts compare with a floor "
            f"of {TRUNCATION:g} expected counts there, and are no significance"
        )


def warn_no_sensitivity(which: Array, bins: Bins) -> None:
    """Warn of sensitivities that would be nothing but the floor of the predicted counts, (B, G)."""
    if which.any():
        warn_user(
            f"norm_sensitivity of {bins.named(which)} is NaN: the background is zero "
            "at some energies or pixels there, where a single count is infinitely significant"
        )


def warn_other_minima(
    which: Array, bins: Bins, *, backgrounds: bool, held: Array, sources: bool
) -> None:
    """Warn of joint fits with another minimum that is almost as low.

    In bins and groups (B, G) norm and spectrum are others there, in some groups backgrounds.
    Or something is while the norms of bins (B, G) or of sources are held.
    """
    fitted = ([bins.named(which)] if which.any() else []) + ["a background"] * backgrounds
    fixed = ([bins.named(held)] if held.any() else []) + ["a source"] * sources
    texts = [f"for {' and '.join(fitted)}"] if fitted else []
    if fixed:
        texts.append(f"with the norm of {' or '.join(fixed)} held, as for ts, limits and scans")
    if texts:
        warn_user(
            f"joint fit: another minimum is almost as low {', and '.join(texts)}, the statistic "
            "being less than 1 higher there: errors are those of the lowest one; fixed spectral "
            "parameters or tilts, or wider bins, leave one"
        )
