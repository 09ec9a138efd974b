"""Lists of sky regions, checked; their positions in one frame; regions for drawing."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseSkyRegion,
    LineSkyRegion,
    PixelRegion,
    PointSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
    Regions,
    SkyRegion,
    TextPixelRegion,
    TextSkyRegion,
)

from jaxprof.foreign import gammapy_class
from jaxprof.sky.regions.sphere import mean_directions
from jaxprof.user_warning import warn_user

_LABELS = (TextSkyRegion, TextPixelRegion)
_SIMPLE = {
    CircleSkyRegion,
    CircleAnnulusSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
}


def region_list(regions: Any) -> list[SkyRegion]:
    """Check regions and return them as a list, without text labels.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        What the user gave. RegionGeom of gammapy is taken too: alone, it stands for the regions
        that its union is made of; in a list, each is one region.

    Returns
    -------
    list of SkyRegion

    Raises
    ------
    ValueError
        For an empty list, for anything that is not a sky region with an area, and for
        regions marked as exclusions ("-" in a DS9 file).

    Warns
    -----
    UserWarning
        For text labels, which DS9 files have beside their regions and which are left out.
    """
    if isinstance(regions, str):
        regions = _parsed(regions)
    if gammapy_class(regions) == "RegionGeom":
        regions = _joined_regions(_region_of_geom(regions))
    if hasattr(regions, "regions"):  # regions.Regions and RegionGeom
        regions = regions.regions
    items = list(regions) if isinstance(regions, Iterable) else [regions]
    if not items:
        raise ValueError("regions is empty; give at least one sky region")
    for i, item in enumerate(items):
        if type(item) in _SIMPLE and item.meta.get("include", True) is True:
            continue
        if gammapy_class(item) == "RegionGeom":
            item = items[i] = _region_of_geom(item)
        for leaf in _leaves(item):
            if leaf is not item or not isinstance(item, _LABELS):
                _check_region(i, leaf)
    return _without_labels(items)


def _parsed(text: str) -> Regions:
    """Regions of a string in DS9's syntax, as gammapy takes it: ``"galactic;circle(0,0,1)"``."""
    try:
        found = Regions.parse(text, format="ds9")
    except Exception:  # the package raises many kinds
        found = []
    if not len(found):
        raise ValueError(
            f"regions is the string {text!r}, no DS9 region such as 'galactic;circle(0,0,1)'; "
            "read a file with regions.Regions.read(path)"
        )
    return found


def _region_of_geom(geom: Any) -> SkyRegion:
    """The region of gammapy's RegionGeom."""
    if geom.region is None:
        raise ValueError("regions: gammapy's RegionGeom has no region; make it with one")
    return geom.region


def _joined_regions(region: SkyRegion) -> list[SkyRegion]:
    """Regions that a union was made of, as gammapy makes it of several."""
    if isinstance(region, CompoundSkyRegion) and region.operator is operator.or_:
        return [*_joined_regions(region.region1), *_joined_regions(region.region2)]
    return [region]


def _without_labels(items: list[Any]) -> list[SkyRegion]:
    """Leave out text labels, with a warning that names them."""
    labels = [item for item in items if isinstance(item, _LABELS)]
    if not labels:
        return items
    shown = ", ".join(repr(label.text) for label in labels[:5]) + ", ..." * (len(labels) > 5)
    if len(labels) == len(items):
        raise ValueError(f"regions has only text labels ({shown}); give at least one sky region")
    plural = "s are" if len(labels) > 1 else " is"
    warn_user(f"regions: {len(labels)} text label{plural} left out, as they have no area: {shown}")
    return [item for item in items if not isinstance(item, _LABELS)]


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
    if isinstance(region, PointSkyRegion | LineSkyRegion):
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
    return mean_directions(coords, frame)


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
