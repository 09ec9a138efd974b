"""Maps around the whole sky: what is one turn apart is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs import WCS

CYLINDRICAL = ("CAR", "CEA", "MER")
"""Projections whose x is the native longitude."""


class ClosedWCS(WCS):
    """A cylindrical WCS that goes on beyond its seam: further columns are those a turn away."""

    turn: range

    def all_pix2world(self, x: Any, y: Any, origin: int) -> Any:
        """World coordinates of pixel positions, as `~astropy.wcs.WCS.all_pix2world`."""
        low = self.turn.start - 0.5 + origin
        return super().all_pix2world(low + (np.asarray(x, float) - low) % len(self.turn), y, origin)


def closed_wcs(wcs: WCS, turn: range) -> ClosedWCS:
    """The same WCS, closed after the columns of one turn."""
    found = ClosedWCS(naxis=2)
    found.wcs = wcs.deepcopy().wcs
    found.turn = turn
    return found


class HealpixWCS(WCS):
    """A WCS of HEALPix pixels in which those that the seam cuts are whole."""

    def all_pix2world(self, x: Any, y: Any, origin: int) -> Any:
        """World coordinates of pixel positions, as `~astropy.wcs.WCS.all_pix2world`.

        A turn is as many pixels in x as in y. Of the two pixels a turn apart one has the centre.
        """
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        lon, lat = (np.array(v) for v in super().all_pix2world(x, y, origin))
        centers = np.stack([np.ceil(x - 0.5), np.ceil(y - 0.5)])
        back = self.wcs_world2pix(*super().all_pix2world(*centers, origin), origin)
        other = ~(np.abs(back - centers).max(axis=0) < 0.25)
        lon[other], lat[other] = np.nan, np.nan
        turn = 180 / abs(self.pixel_scale_matrix[0, 0])
        for step in (turn, -turn):
            lost = ~np.isfinite(lon) & ~other
            if lost.any():
                lon[lost], lat[lost] = super().all_pix2world(x[lost] + step, y[lost] + step, origin)
        return lon, lat


def healpix_wcs(wcs: WCS) -> HealpixWCS:
    """The same WCS, with whole pixels along its seam."""
    found = HealpixWCS(naxis=2)
    found.wcs = wcs.deepcopy().wcs
    return found


def whole_turn(wcs: WCS, nx: int) -> range | None:
    """Columns of one turn around the sky, the last of which is next to the first.

    Parameters
    ----------
    wcs : WCS
        Celestial.
    nx : int
        Columns of the map.

    Returns
    -------
    range or None
        None for maps of less than half a turn, where it does not matter, and where columns a turn
        apart are not the same: for other projections, if the seam cuts through pixels, or a turn is
        no whole number of them. The map may begin and end elsewhere.
    """
    if wcs.wcs.ctype[0][-3:] not in CYLINDRICAL or wcs.has_distortion:
        return None
    step = wcs.pixel_scale_matrix
    if abs(step[0, 1]) + abs(step[1, 0]) > 0 or wcs.wcs.get_pv() or wcs.wcs.lng != 0:
        return None
    length = 360 / abs(step[0, 0])
    # The seam is half a turn from the reference point.
    first = wcs.wcs.crpix[0] - 0.5 - length / 2
    whole = max(abs(length - round(length)), abs(first - round(first))) < 1e-6 * length
    return range(round(first), round(first) + round(length)) if whole and 2 * nx > length else None


def wrapped(x: Any, turn: range | None) -> Any:
    """Columns of a map for columns that may lie beyond its seam."""
    return x if turn is None else turn.start + (x - turn.start) % len(turn)


def unwrapped(x: Any, near: Any, turn: range | None) -> Any:
    """Columns beyond the seam for those of a map that are nearer from there to others."""
    if turn is None:
        return x
    half = len(turn) // 2
    return near - half + (x - near + half) % len(turn)
