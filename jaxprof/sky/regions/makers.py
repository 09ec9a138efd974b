"""Makers of the sky regions of a profile: boxes, grids, annuli and wedges.

The makers that take a map's WCS centre their boxes in the frame of the map, so that files,
figures and pixel membership agree on the meaning of an angle (which counts from the
longitude axis of the frame of a region's centre).
"""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
)

Array: TypeAlias = np.ndarray[Any, Any]
Angle: TypeAlias = u.Quantity | str
_ARC_STEP = np.deg2rad(1.0)  # chords of 1 deg lose 5e-5 of a sector's area (step squared / 6)
_SIDE_STEP = np.deg2rad(0.5)  # longest straight piece of a sector's radial side


def make_orthogonal_rectangle_sky_regions(
    start_pos: SkyCoord,
    end_pos: SkyCoord,
    wcs: WCS,
    height: Angle,
    nbin: int = 1,
    *,
    tangent: bool = False,
) -> list[RectangleSkyRegion]:
    """Make boxes in a row along a straight line on a map.

    Centres are equidistant in pixels, every box is as wide as the line's great-circle
    length over `nbin`, as in gammapy. Unlike there, the angle is measured in the map's
    frame also when the positions are in another one.

    Parameters
    ----------
    start_pos, end_pos : SkyCoord
        Ends of the line, in any frame.
    wcs : WCS or WcsGeom
        Celestial WCS of the map.
    height : Quantity or str
        Extent across the line; one angle, or one for each box.
    nbin : int
        Number of boxes.
    tangent : bool
        Turn every box to the direction of the line at its own centre. The default gives
        all boxes the direction at the end of the line, as gammapy does; on long lines
        far from the equator of the map these differ by degrees.

    Returns
    -------
    list of RectangleSkyRegion
        From start to end, centred in the frame of the map.

    Raises
    ------
    ValueError
        For fewer than one bin, coinciding ends, a height that is not a positive angle,
        ends the map's projection cannot show, and a line that goes round the long way.
    """
    nbin = whole_number(nbin, "nbin")
    wcs = _celestial(wcs)
    frame = wcs_to_celestial_frame(wcs)
    start = _position(start_pos, "start_pos").transform_to(frame)
    end = _position(end_pos, "end_pos").transform_to(frame)
    length = start.separation(end).to(u.deg)
    if length.value < 1e-9:
        raise ValueError("start_pos and end_pos are the same position; give two ends of a line")
    heights = np.atleast_1d(_angle(height, "height"))
    if heights.shape not in ((1,), (nbin,)):
        raise ValueError(f"height has shape {heights.shape}; give one angle or {nbin}, one a box")
    _positive(heights, "height")
    heights = np.broadcast_to(heights, (nbin,), subok=True)

    pixels = np.array([_to_pixel(start, wcs, "start_pos"), _to_pixel(end, wcs, "end_pos")])
    track = wcs.pixel_to_world(*np.linspace(pixels[0], pixels[1], 33).T)
    walked = track[:-1].separation(track[1:]).deg.sum()
    if not walked < 1.5 * length.value:
        raise ValueError(
            f"the straight line on the map from start_pos to end_pos is {walked:.4g} deg long, "
            f"their distance {length.value:.4g} deg: the line leaves the projection or runs "
            "across its seam; use a map centred near the line"
        )
    edges = np.linspace(pixels[0], pixels[1], nbin + 1)
    middles = 0.5 * (edges[:-1] + edges[1:])
    centers = wcs.pixel_to_world(*middles.T)
    if tangent:
        behind = wcs.pixel_to_world(*(middles - 1e-3 * (edges[1:] - edges[:-1])).T)
        angles = (centers.position_angle(behind) - 90 * u.deg).to(u.deg)
    else:
        angles = np.full(nbin, (end.position_angle(start) - 90 * u.deg).to_value(u.deg)) * u.deg
    return [
        RectangleSkyRegion(center, width=length / nbin, height=h, angle=angle)
        for center, h, angle in zip(centers, heights, angles, strict=True)
    ]


def make_grid_rectangle_sky_regions(
    center: SkyCoord,
    width: Angle,
    height: Angle,
    wcs: WCS,
    nbinx: int = 1,
    nbiny: int = 1,
    angle: Angle = "0 deg",
    *,
    tangent: bool = False,
) -> list[RectangleSkyRegion]:
    """Make a grid of equal boxes that tile a field on a map.

    Arguments and order are those of gammapy's function of the same name: the index along
    latitude runs fastest, and both run with increasing longitude and latitude. Width and
    height are laid off from the centre in the frame of the map.

    Parameters
    ----------
    center : SkyCoord
        Centre of the grid.
    width, height : Quantity or str
        Extent of the whole grid along longitude and latitude, before it is turned.
    wcs : WCS or WcsGeom
        Celestial WCS of the map.
    nbinx, nbiny : int
        Number of boxes along the width and along the height.
    angle : Quantity or str
        Turns the grid from north to east, in the frame of the map.
    tangent : bool
        Turn every box to the direction of the grid at its own centre, so that the boxes
        tile the map also far from its equator. The default gives all boxes `angle`, as
        gammapy does.

    Returns
    -------
    list of RectangleSkyRegion
        ``nbinx * nbiny`` boxes, centred in the frame of the map.

    Raises
    ------
    ValueError
        For fewer than one bin, extents or an angle that are not angles, or a grid that
        the map's projection cannot show.
    """
    nbinx, nbiny = whole_number(nbinx, "nbinx"), whole_number(nbiny, "nbiny")
    full_width, full_height = _scalar(width, "width"), _scalar(height, "height")
    _positive(full_width, "width")
    _positive(full_height, "height")
    turn = _scalar(angle, "angle")
    wcs = _celestial(wcs)
    middle = _position(center, "center").transform_to(wcs_to_celestial_frame(wcs))
    origin = _to_pixel(middle, wcs, "center")
    east = middle.directional_offset_by(turn + 90 * u.deg, full_width / 2)
    north = middle.directional_offset_by(turn, full_height / 2)
    along_x = _to_pixel(east, wcs, "width") - origin
    along_y = _to_pixel(north, wcs, "height") - origin
    steps_x = (2 * np.arange(nbinx) + 1) / nbinx - 1
    steps_y = (2 * np.arange(nbiny) + 1) / nbiny - 1
    offsets = [sx * along_x + sy * along_y for sx in steps_x for sy in steps_y]
    middles = origin + np.array(offsets)
    centers = wcs.pixel_to_world(*middles.T)
    if not np.isfinite(centers.spherical.lat.deg).all():
        raise ValueError(
            f"width {full_width} and height {full_height} reach beyond the map's projection; "
            "make the grid smaller"
        )
    angles = np.full(len(centers), turn.value) * u.deg
    if tangent:
        beyond = wcs.pixel_to_world(*(middles + 1e-3 * along_x / nbinx).T)
        angles = (centers.position_angle(beyond) - 90 * u.deg).to(u.deg)
    size = {"width": full_width / nbinx, "height": full_height / nbiny}
    return [
        RectangleSkyRegion(position, angle=turned, **size)
        for position, turned in zip(centers, angles, strict=True)
    ]


def make_concentric_annulus_sky_regions(
    center: SkyCoord,
    radius_max: Angle = "1.5 deg",
    radius_min: Angle = "1e-5 deg",
    nbin: int = 11,
    *,
    edges: Any = None,
    spacing: str = "lin",
) -> list[CircleAnnulusSkyRegion | CircleSkyRegion]:
    """Make annuli around a position; with an innermost radius of zero the first is a circle.

    Parameters
    ----------
    center : SkyCoord
        Common centre.
    radius_max, radius_min : Quantity or str
        Outermost and innermost radius.
    nbin : int
        Number of EDGES, as in gammapy: 11 give ten annuli.
    edges : Quantity, optional
        Increasing radii, from zero or above, instead of the three before.
    spacing : {"lin", "log"}
        Whether the edges are equally spaced or in constant ratios. With "log" and an innermost
        radius of zero each edge is the square root of two times the last: every annulus has the
        solid angle of all within it. Give `edges` for others, ``[0, *np.geomspace(0.1, 2, 10)] *
        u.deg``.

    Returns
    -------
    list of CircleAnnulusSkyRegion and CircleSkyRegion
        ``nbin - 1`` of them from inside out, centred in the frame of `center`.

    Raises
    ------
    ValueError
        For fewer than two edges, radii that are not ``0 <= radius_min < radius_max``, edges that
        do not increase, or an unknown spacing.
    """
    position = _position(center, "center")
    if edges is None:
        radii = _radii(_scalar(radius_max, "radius_max"), radius_min, nbin, spacing)
    else:
        radii = np.atleast_1d(_angle(edges, "edges"))
        rising = radii.ndim == 1 and len(radii) > 1 and np.all(np.diff(radii) > 0)
        if not (rising and np.isfinite(radii).all() and radii[0] >= 0):
            raise ValueError(f"edges are {radii}; give two or more radii that increase, from zero")
    return [
        CircleSkyRegion(position, high)
        if low == 0
        else CircleAnnulusSkyRegion(position, inner_radius=low, outer_radius=high)
        for low, high in zip(radii[:-1], radii[1:], strict=True)
    ]


def _radii(outer: u.Quantity, radius_min: Angle, nbin: int, spacing: str) -> u.Quantity:
    """Edges of annuli, equally spaced or in constant ratios."""
    n_edges = whole_number(nbin, "nbin")
    if n_edges < 2:
        raise ValueError("nbin counts edges, and 1 edge makes no annulus; give 2 or more")
    inner = _scalar(radius_min, "radius_min")
    if inner < 0:
        raise ValueError(f"radius_min is {inner}; give zero or a positive angle")
    _ordered(inner, outer)
    if spacing == "lin":
        return np.linspace(inner, outer, n_edges)
    if spacing != "log":
        raise ValueError(f"spacing is {spacing!r}; valid are 'lin' and 'log'")
    if inner > 0:
        return np.geomspace(inner, outer, n_edges)
    powers = 0.5 * np.arange(n_edges - 2, -1, -1)
    return np.concatenate([[0.0], outer.to_value(u.deg) / 2**powers]) * u.deg


def make_sector_sky_regions(
    center: SkyCoord,
    radius_max: Angle = "1.5 deg",
    radius_min: Angle = "0 deg",
    nbin: int = 10,
    *,
    position_angle: Angle,
    opening_angle: Angle,
) -> list[PolygonSkyRegion]:
    """Make the bins of a wedge, split in radius, as polygons that follow the arcs.

    The polygons' vertices lie on the arcs, at most 1 deg apart as seen from the centre, so
    that the solid angle is right to 1e-4.

    Parameters
    ----------
    center : SkyCoord
        Tip of the wedge.
    radius_max, radius_min : Quantity or str
        Outermost and innermost radius; below 90 deg; the innermost may be zero.
    nbin : int
        Number of BINS (not of edges, unlike the annuli).
    position_angle : Quantity or str
        Direction of the middle of the wedge, from north to east in the frame of `center`.
    opening_angle : Quantity or str
        Full angle of the wedge, below 360 deg.

    Returns
    -------
    list of PolygonSkyRegion
        From inside out, vertices in the frame of `center`. `profile_axis` knows their
        radii; copies and files lose that knowledge.

    Raises
    ------
    ValueError
        For fewer than one bin, radii out of order, or an opening angle of a full turn.
    """
    n_bins = whole_number(nbin, "nbin")
    inner, outer = _scalar(radius_min, "radius_min"), _scalar(radius_max, "radius_max")
    if inner < 0:
        raise ValueError(f"radius_min is {inner}; give zero or a positive angle")
    _ordered(inner, outer)
    if outer >= 90 * u.deg:
        raise ValueError(f"radius_max is {outer}; sectors end below 90 deg")
    opening = _scalar(opening_angle, "opening_angle")
    _positive(opening, "opening_angle")
    if opening >= 360 * u.deg:
        raise ValueError(
            f"opening_angle is {opening}, a full turn; "
            "use make_concentric_annulus_sky_regions for annuli"
        )
    middle = _scalar(position_angle, "position_angle")
    tip = _position(center, "center")
    n_arc = max(2, int(np.ceil(opening.to_value(u.rad) / _ARC_STEP)) + 1)
    arc = middle.to_value(u.rad) + np.linspace(-0.5, 0.5, n_arc) * opening.to_value(u.rad)
    edges = np.linspace(inner.to_value(u.rad), outer.to_value(u.rad), n_bins + 1)
    out = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        side = np.linspace(low, high, max(2, int(np.ceil((high - low) / _SIDE_STEP)) + 1))
        start = (np.full(1, arc[0]), side[:1]) if low == 0 else (arc[::-1], np.full(n_arc, low))
        angles = [start[0], np.full(len(side) - 2, arc[0]), arc, np.full(len(side) - 2, arc[-1])]
        radii = [start[1], side[1:-1], np.full(n_arc, high), side[-2:0:-1]]
        vertices = tip.directional_offset_by(
            np.concatenate(angles) * u.rad, np.concatenate(radii) * u.rad
        )
        region = PolygonSkyRegion(vertices)
        region._jaxprof_radii = (float(np.rad2deg(low)), float(np.rad2deg(high)))
        out.append(region)
    return out


def _position(value: Any, name: str) -> SkyCoord:
    if not isinstance(value, SkyCoord) or not value.isscalar:
        raise ValueError(f"{name} is {value!r}; give one astropy SkyCoord")
    return value


def _angle(value: Any, name: str) -> u.Quantity:
    try:
        return u.Quantity(value).to(u.deg)
    except (u.UnitConversionError, TypeError, ValueError) as err:
        raise ValueError(f"{name} is {value!r}; give an angle with its unit, as '3 deg'") from err


def _scalar(value: Any, name: str) -> u.Quantity:
    angle = _angle(value, name)
    if not angle.isscalar or not np.isfinite(angle):
        raise ValueError(f"{name} is {value!r}; give one finite angle")
    return angle


def _positive(angle: u.Quantity, name: str, hint: str = "") -> None:
    if not np.all(np.isfinite(angle) & (angle > 0)):
        raise ValueError(f"{name} is {angle}; give a positive angle{hint}")


def _ordered(inner: u.Quantity, outer: u.Quantity) -> None:
    if outer <= inner:
        raise ValueError(f"radius_max is {outer}, not above radius_min, {inner}; give a larger one")


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """Return an integer that is large enough, or raise a ValueError that names it."""
    try:
        count = operator.index(value)
    except TypeError as err:
        raise ValueError(f"{name} is {value!r}; give an integer") from err
    if count < least:
        raise ValueError(f"{name} is {count}; give {least} or more")
    return count


def _celestial(wcs: Any) -> WCS:
    wcs = wcs if isinstance(wcs, WCS) else getattr(wcs, "wcs", None)
    if not isinstance(wcs, WCS) or not wcs.has_celestial:
        raise ValueError("wcs is not a celestial WCS; give a map's geom.wcs, or its geom")
    return wcs.celestial


def _to_pixel(coord: SkyCoord, wcs: WCS, name: str) -> Array:
    pixel = np.array(wcs.world_to_pixel(coord), dtype=float)
    if not np.isfinite(pixel).all():
        raise ValueError(
            f"{name} leads to {coord.to_string()} deg, which the map's projection cannot show; "
            "use a position nearer to the map, or another projection"
        )
    return pixel
