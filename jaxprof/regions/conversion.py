"""Sky regions to pixel regions, all regions of a profile at once.

The `regions` package converts one region in several milliseconds, nearly all of it sky
coordinate objects. Here the coordinates of all regions go through the WCS together. The
package has changed its rule between versions (0.11 uses one scale, that along north;
0.12 the local Jacobian), so the rule of the installed version is found out by experiment,
once, and a version that follows neither rule is left to do its own work.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from regions import (
    CircleAnnulusPixelRegion,
    CircleAnnulusSkyRegion,
    CirclePixelRegion,
    CircleSkyRegion,
    CompoundPixelRegion,
    CompoundSkyRegion,
    EllipsePixelRegion,
    EllipseSkyRegion,
    LineSkyRegion,
    PixCoord,
    PixelRegion,
    PointSkyRegion,
    PolygonSkyRegion,
    RectanglePixelRegion,
    RectangleSkyRegion,
    SkyRegion,
    TextSkyRegion,
)

Array: TypeAlias = np.ndarray[Any, Any]
_RECT_LIKE = {RectangleSkyRegion: RectanglePixelRegion, EllipseSkyRegion: EllipsePixelRegion}
_SIMPLE = {
    CircleSkyRegion,
    CircleAnnulusSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
}
_FAST = (*_RECT_LIKE, CircleSkyRegion, CircleAnnulusSkyRegion)


def region_list(regions: Any) -> list[SkyRegion]:
    """Check regions and return them as a list.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        What the user gave.

    Returns
    -------
    list of SkyRegion

    Raises
    ------
    ValueError
        For an empty list, for anything that is not a sky region with an area, and for
        regions marked as exclusions ("-" in a DS9 file).
    """
    if isinstance(regions, str):
        raise ValueError(
            f"regions is the string {regions!r}; read a file with regions.Regions.read(path)"
        )
    if hasattr(regions, "regions"):  # regions.Regions and RegionGeom
        regions = regions.regions
    if isinstance(regions, Iterable):
        items = list(regions)
    else:
        items = [regions]
    if not items:
        raise ValueError("regions is empty; give at least one sky region")
    for i, item in enumerate(items):
        if type(item) in _SIMPLE and item.meta.get("include", True) is True:
            continue
        for leaf in _leaves(item):
            _check_region(i, leaf)
    return items


def _leaves(region: Any) -> list[Any]:
    """Simple regions of a compound one, in order; the region itself otherwise."""
    if isinstance(region, CompoundSkyRegion):
        return _leaves(region.region1) + _leaves(region.region2)
    return [region]


def _check_region(index: int, region: Any) -> None:
    name = type(region).__name__
    if isinstance(region, PixelRegion):
        raise ValueError(
            f"regions[{index}] is a {name}, which has no place on the sky; "
            "convert it with region.to_sky(wcs)"
        )
    if not isinstance(region, SkyRegion):
        hint = "; convert it with .to_sky()" if hasattr(region, "to_sky") else ""
        raise ValueError(f"regions[{index}] is a {name}, not a regions.SkyRegion{hint}")
    if isinstance(region, PointSkyRegion | LineSkyRegion | TextSkyRegion):
        raise ValueError(
            f"regions[{index}] is a {name}, which has no area; use a circle or a box instead"
        )
    if region.meta.get("include", True) in (False, "-"):
        raise ValueError(
            f"regions[{index}] is marked as an exclusion; mask it in mask_fit, "
            "or subtract it from another region with a compound region"
        )


def stack_coords(coords: list[SkyCoord], frame: Any) -> SkyCoord:
    """Join scalar coordinates of any frames into one array, with one transformation a frame.

    Parameters
    ----------
    coords : list of SkyCoord
        Scalar positions.
    frame : astropy frame
        Frame of the result.

    Returns
    -------
    SkyCoord, shape (n,)
    """
    lon, lat = np.empty(len(coords)), np.empty(len(coords))
    groups: list[tuple[SkyCoord, list[int]]] = []
    for k, coord in enumerate(coords):
        data = coord.spherical
        lon[k], lat[k] = data.lon.to_value(u.deg), data.lat.to_value(u.deg)
        for first, members in groups:
            if coord.is_equivalent_frame(first.frame):
                members.append(k)
                break
        else:
            groups.append((coord, [k]))
    for first, members in groups:
        if not first.is_equivalent_frame(frame):
            own = first.frame.replicate_without_data()
            moved = SkyCoord(lon[members], lat[members], unit="deg", frame=own)
            moved = moved.transform_to(frame)
            lon[members], lat[members] = moved.spherical.lon.deg, moved.spherical.lat.deg
    return SkyCoord(lon, lat, unit="deg", frame=frame)


def regions_to_frame(regions: Any, wcs: WCS) -> list[SkyRegion]:
    """Express boxes and ellipses given in another frame in the frame of a map.

    The angle of a box counts from the longitude axis of the frame of its centre (so in
    DS9 files). Version 0.12 of `regions` reads it as counting from the axis of the map's
    frame, and so turns an ICRS box on a Galactic map by up to 180 degrees. Carry the
    regions over with this function before drawing or converting them.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Any sky regions.
    wcs : WCS
        Celestial WCS of the map.

    Returns
    -------
    list of SkyRegion
        The same objects where nothing has to change.
    """
    frame = wcs_to_celestial_frame(wcs)
    return [_to_frame(region, frame) for region in region_list(regions)]


def _to_frame(region: SkyRegion, frame: Any) -> SkyRegion:
    if isinstance(region, CompoundSkyRegion):
        first, second = _to_frame(region.region1, frame), _to_frame(region.region2, frame)
        if first is region.region1 and second is region.region2:
            return region
        return CompoundSkyRegion(first, second, region.operator, region.meta, region.visual)
    if not hasattr(region, "angle") or region.center.is_equivalent_frame(frame):
        return region
    center = region.center.transform_to(frame)
    # The old frame's north is the direction of its pole, which is exact at any distance.
    own = region.center.frame.replicate_without_data()
    pole = SkyCoord(0 * u.deg, 90 * u.deg, frame=own).transform_to(frame)
    return region.copy(center=center, angle=region.angle + center.position_angle(pole))


def to_pixel_regions(regions: Any, wcs: WCS) -> list[PixelRegion]:
    """Convert sky regions to pixel regions, as the `regions` package does but all at once.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions in any frame; `regions_to_frame` is applied.
    wcs : WCS
        Celestial WCS of the map.

    Returns
    -------
    list of PixelRegion
        Simple regions that cannot be projected become circles at NaN, which contain nothing.
    """
    items = regions_to_frame(regions, wcs)
    leaves = [(i, leaf) for i, item in enumerate(items) for leaf in _leaves(item)]
    rule = None if wcs.has_distortion else conversion_rule()
    converted = _convert(leaves, wcs, rule)
    following = iter(converted)

    def rebuild(region: SkyRegion) -> PixelRegion:
        if isinstance(region, CompoundSkyRegion):
            first, second = rebuild(region.region1), rebuild(region.region2)
            return CompoundPixelRegion(first, second, region.operator)
        return next(following)

    return [rebuild(item) for item in items]


def _convert(leaves: list[tuple[int, Any]], wcs: WCS, rule: str | None) -> list[PixelRegion]:
    """Convert simple regions, given with the index to name in errors."""
    out: list[PixelRegion] = [CirclePixelRegion(PixCoord(np.nan, np.nan), 1.0) for _ in leaves]
    centred = [k for k, (_, leaf) in enumerate(leaves) if hasattr(leaf, "center")]
    if centred:
        frame = wcs_to_celestial_frame(wcs)
        centers = stack_coords([leaves[k][1].center for k in centred], frame)
        x, y = wcs.world_to_pixel(centers)
        shown = np.isfinite(x) & np.isfinite(y)
        fast = shown & [rule is not None and type(leaves[k][1]) in _FAST for k in centred]
        if fast.any():
            where = np.flatnonzero(fast)
            chosen = [leaves[centred[j]] for j in where]
            convert = _by_jacobian if rule == "jacobian" else _by_north
            regions = convert(chosen, centers[where], x[where], y[where], wcs)
            for j, region in zip(where, regions, strict=True):
                out[centred[j]] = region
        for j in np.flatnonzero(shown & ~fast):
            out[centred[j]] = _by_package(*leaves[centred[j]], wcs)
    for k in sorted(set(range(len(leaves))) - set(centred)):
        index, leaf = leaves[k]
        if isinstance(leaf, PolygonSkyRegion):
            shown = np.isfinite(np.sum(wcs.world_to_pixel(leaf.vertices), axis=0))
            if not shown.any():
                continue
            if not shown.all():
                raise ValueError(
                    f"regions[{index}]: {int((~shown).sum())} of the polygon's {shown.size} "
                    "vertices cannot be shown by the map's projection; use a smaller polygon"
                )
        out[k] = _by_package(index, leaf, wcs)
    return out


def _singular(index: int) -> ValueError:
    return ValueError(
        f"regions[{index}]: the map's projection is singular at the centre of the region "
        "(a pole or the rim of the map?); use a map in another projection, such as TAN"
    )


def _by_package(index: int, leaf: Any, wcs: WCS) -> PixelRegion:
    try:
        return leaf.to_pixel(wcs)
    except (np.linalg.LinAlgError, ValueError) as err:
        # regions 0.13 refuses a singular projection with an error of its own.
        raise _singular(index) from err


def _by_jacobian(
    leaves: list[tuple[int, Any]], centers: SkyCoord, x: Array, y: Array, wcs: WCS
) -> list[PixelRegion]:
    """The rule of `regions` 0.12: the sky plane maps to pixels by the local Jacobian.

    One-pixel differences give it; boxes and ellipses keep the principal axes of the mapped
    ellipse, circles take the geometric mean of the two pixel scales. The order of the
    floating-point operations is the package's, so that a pixel centre which lies exactly
    on an edge falls on the same side.
    """
    sky = wcs.pixel_to_world(x, y)
    steps = []
    for dx, dy in ((1, 0), (0, 1)):
        moved = wcs.pixel_to_world(x + dx, y + dy)
        steps.append((sky.separation(moved), sky.position_angle(moved).rad))
    arcsec = 3600.0 * np.degrees(1)
    east = np.array([sep.rad * np.sin(pa) * arcsec for sep, pa in steps])
    north = np.array([sep.rad * np.cos(pa) * arcsec for sep, pa in steps])
    scale = np.sqrt(steps[0][0].arcsec * steps[1][0].arcsec)
    out = []
    for k, (index, leaf) in enumerate(leaves):
        forward = np.array([east[:, k], north[:, k]])
        if not (np.isfinite(forward).all() and scale[k] > 0):
            raise _singular(index)
        center = PixCoord(float(x[k]), float(y[k]))
        if type(leaf) not in _RECT_LIKE:
            per_arcsec = 1.0 / scale[k]
            out.append(
                _round_region(leaf, center, lambda r, s=per_arcsec: r.to_value(u.arcsec) * s)
            )
            continue
        try:
            jacobian = np.linalg.inv(forward)
        except np.linalg.LinAlgError as err:
            raise _singular(index) from err
        width, height = leaf.width.to_value(u.arcsec), leaf.height.to_value(u.arcsec)
        pa = leaf.angle.to_value(u.radian) - np.pi / 2
        half = np.array(
            [
                [0.5 * width * np.sin(pa), 0.5 * height * np.cos(pa)],
                [0.5 * width * np.cos(pa), -(0.5 * height) * np.sin(pa)],
            ]
        )
        mapped = jacobian @ half
        axes, lengths, _ = np.linalg.svd(mapped)
        along = mapped[:, 0]
        major = int(np.abs(np.dot(axes[:, 0], along)) < np.abs(np.dot(axes[:, 1], along)))
        direction = axes[:, major]
        if np.dot(direction, along) < 0:
            direction = -direction
        if abs(width - height) <= 1e-8 + 1e-5 * height:  # axes of a circle are arbitrary
            direction = along / np.linalg.norm(along)
        # Wrapped to [0, 360) as Angle.wrap_at does, without its cost.
        angle = np.rad2deg(np.arctan2(direction[1], direction[0]))
        angle = u.Quantity(angle + 360.0 if angle < 0 else angle, u.deg)
        shape = _RECT_LIKE[type(leaf)]
        out.append(shape(center, 2 * lengths[major], 2 * lengths[1 - major], angle=angle))
    return out


def _by_north(
    leaves: list[tuple[int, Any]], centers: SkyCoord, x: Array, y: Array, wcs: WCS
) -> list[PixelRegion]:
    """The rule of `regions` up to 0.11: the scale along north serves both axes."""
    x_north, y_north = wcs.world_to_pixel(centers.directional_offset_by(0.0, 1 * u.arcsec))
    dx, dy = x_north - x, y_north - y
    angles = (np.arctan2(dy, dx) * u.radian).to(u.deg)
    out = []
    for k, (index, leaf) in enumerate(leaves):
        scale = (1 * u.arcsec) / (np.hypot(dx[k], dy[k]) * u.pixel)
        if not (np.isfinite(scale) and scale > 0):
            raise _singular(index)
        center = PixCoord(float(x[k]), float(y[k]))
        if type(leaf) in _RECT_LIKE:
            size = [(side / scale).to_value(u.pix) for side in (leaf.width, leaf.height)]
            angle = leaf.angle + (angles[k] - 90 * u.deg)
            out.append(_RECT_LIKE[type(leaf)](center, *size, angle=angle))
        else:
            out.append(_round_region(leaf, center, lambda r, s=scale: (r / s).to_value(u.pix)))
    return out


def _round_region(leaf: Any, center: PixCoord, to_pixels: Any) -> PixelRegion:
    """Circle or annulus, its radii converted by a function from Quantity to pixels."""
    if isinstance(leaf, CircleSkyRegion):
        return CirclePixelRegion(center, to_pixels(leaf.radius))
    inner, outer = to_pixels(leaf.inner_radius), to_pixels(leaf.outer_radius)
    return CircleAnnulusPixelRegion(center, inner, outer)


@lru_cache(maxsize=1)
def conversion_rule() -> str | None:
    """Rule by which the installed `regions` package converts sky shapes to pixels.

    Returns
    -------
    {"jacobian", "north", None}
        None if the package follows neither rule; it then converts region by region.
    """
    wcs = WCS(naxis=2)  # oblong, turned pixels away from the tangent point tell the rules apart
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 83.0, 22.0
    wcs.wcs.cdelt = -0.05, 0.08
    wcs.wcs.pc = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    center = SkyCoord(85.0, 24.5, unit="deg")
    probes = [
        RectangleSkyRegion(center, 2 * u.deg, 1.3 * u.deg, 25 * u.deg),
        EllipseSkyRegion(center, 1 * u.deg, 1.3 * u.deg, 110 * u.deg),
        CircleSkyRegion(center, 1 * u.deg),
        CircleAnnulusSkyRegion(center, 0.5 * u.deg, 0.8 * u.deg),
    ]
    truth = [_numbers(probe.to_pixel(wcs)) for probe in probes]
    for rule in ("jacobian", "north"):
        regions = _convert(list(enumerate(probes)), wcs, rule)
        if all(
            np.allclose(_numbers(region), own, rtol=1e-12, atol=1e-12)
            for region, own in zip(regions, truth, strict=True)
        ):
            return rule
    return None


def _numbers(region: PixelRegion) -> list[float]:
    """Parameters of a pixel region as plain numbers (pixels and degrees)."""
    out = [float(region.center.x), float(region.center.y)]
    for name in ("width", "height", "radius", "inner_radius", "outer_radius"):
        if hasattr(region, name):
            out.append(float(getattr(region, name)))
    if hasattr(region, "angle"):
        out.append(float(region.angle.to_value(u.deg)) % 360)
    return out
