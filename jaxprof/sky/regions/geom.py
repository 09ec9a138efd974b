"""Sky regions of a profile: the list as one object, their centres, and the profile's axis."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleSkyRegion,
    SkyRegion,
)

from jaxprof.sky.regions.conversion import region_list, stack_coords
from jaxprof.sky.regions.sphere import mean_directions

Array: TypeAlias = np.ndarray[Any, Any]


class RegionGeom:
    """Regions of a profile as one object that can be listed and drawn.

    Parameters
    ----------
    regions : SkyRegion, Regions or iterable of SkyRegion
        Sky regions.
    """

    def __init__(self, regions: Any) -> None:
        self.regions: list[SkyRegion] = region_list(regions)

    @classmethod
    def create(cls, region: Any) -> RegionGeom:
        """Make a RegionGeom from one region, a list, or `regions.Regions`.

        Parameters
        ----------
        region : SkyRegion, Regions or iterable of SkyRegion
            Sky regions.

        Returns
        -------
        RegionGeom
        """
        return cls(region)

    def plot_region(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the outlines of the regions.

        Parameters
        ----------
        ax : WCSAxes, optional
            Where to draw; a new map around the regions by default.
        **kwargs
            Passed to `jaxprof.plotting.plot_regions`.

        Returns
        -------
        WCSAxes
        """
        from jaxprof.plotting import plot_regions

        return plot_regions(self.regions, ax=ax, **kwargs)

    def __len__(self) -> int:
        return len(self.regions)

    def __iter__(self) -> Iterator[SkyRegion]:
        return iter(self.regions)

    def __eq__(self, other: object) -> bool:
        """Whether another one has equal regions, in the same order."""
        return self.regions == other.regions if isinstance(other, RegionGeom) else NotImplemented

    def __hash__(self) -> int:
        return hash((RegionGeom, len(self.regions)))

    def __str__(self) -> str:
        names = [type(region).__name__ for region in self.regions]
        kinds = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
        centers = region_centers(self.regions)
        lon, lat = centers.spherical.lon.deg, centers.spherical.lat.deg
        first, last = (f"{lon[k]:.3f}, {lat[k]:.3f}" for k in (0, -1))
        axis = profile_axis(self.regions)
        unit = f" {axis.unit}" if axis.unit else ""
        return (
            "RegionGeom\n\n"
            f"  regions : {kinds}\n"
            f"  frame   : {centers.frame.name}\n"
            f"  first   : {first} deg\n"
            f"  last    : {last} deg\n"
            f"  axis    : {axis.name}, {axis.min[0]:.4g} to {axis.max[-1]:.4g}{unit}"
        )

    def __repr__(self) -> str:
        return f"<RegionGeom: {len(self)} region{'s' if len(self) != 1 else ''}>"


def region_name(region: SkyRegion) -> str:
    """Name of a region: ``text={...}`` in a DS9 file, ``label="..."`` in a CRTF file.

    Parameters
    ----------
    region : SkyRegion
        Its ``meta`` is looked up.

    Returns
    -------
    str
        Empty if it has none.
    """
    found = (region.meta.get(key) for key in ("text", "label", "name"))
    return next((" ".join(str(name).split()) for name in found if name), "")


def region_centers(regions: Any) -> SkyCoord:
    """Centres of regions as one coordinate array.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions. A polygon's centre is the mean direction of its vertices, a compound
        region's that of the simple regions it is made of, each counted once whatever the
        nesting.

    Returns
    -------
    SkyCoord, shape (n,)
        In the frame of the first region.
    """
    items = region_list(regions)
    if not any(isinstance(region, CompoundSkyRegion) for region in items):
        positions = [r.vertices if isinstance(r, PolygonSkyRegion) else r.center for r in items]
        return mean_directions(positions, positions[0].frame.replicate_without_data())
    coords = [_center(region) for region in items]
    return stack_coords(coords, coords[0].frame.replicate_without_data())


def _center(region: Any) -> SkyCoord:
    if isinstance(region, CompoundSkyRegion):
        centers = [_center(part) for part in _parts(region)]
        return _mean_direction(stack_coords(centers, centers[0].frame.replicate_without_data()))
    center = getattr(region, "center", None)
    return _mean_direction(region.vertices) if center is None else center


def _parts(region: Any) -> list[Any]:
    """Simple regions that a compound one joins, whatever the nesting, without those cut out."""
    if not isinstance(region, CompoundSkyRegion):
        return [region]
    if region.operator not in (operator.or_, operator.xor, operator.and_):
        return _parts(region.region1)
    return [*_parts(region.region1), *_parts(region.region2)]


def _mean_direction(coords: SkyCoord) -> SkyCoord:
    mean = coords.cartesian.xyz.value.mean(axis=1)
    lon, lat = np.arctan2(mean[1], mean[0]), np.arctan2(mean[2], np.hypot(mean[0], mean[1]))
    return SkyCoord(lon * u.rad, lat * u.rad, frame=coords.frame.replicate_without_data())


@dataclass(frozen=True, eq=False)
class ProfileAxis:
    """Axis of a profile.

    Attributes
    ----------
    name : {"projected-distance", "region-index"}
        What the axis counts.
    min, max, ref : ndarray of float64, shape (n,)
        Edges and reference position of every bin, in `unit`. Bins may overlap or leave
        gaps.
    """

    name: str
    min: Array
    max: Array
    ref: Array

    @property
    def unit(self) -> str:
        """Unit of the axis: "deg", or "" for an index."""
        return "deg" if self.name == "projected-distance" else ""

    def __len__(self) -> int:
        return len(self.ref)

    def __eq__(self, other: object) -> bool:
        """Whether another axis has the same name and, to 1e-6 of the axis, the same bins."""
        if not isinstance(other, ProfileAxis):
            return NotImplemented
        if (self.name, len(self)) != (other.name, len(other)):
            return False
        atol = 1e-6 * float(np.max(self.max) - np.min(self.min))
        return all(
            np.allclose(getattr(self, part), getattr(other, part), rtol=0, atol=atol)
            for part in ("min", "max", "ref")
        )

    def __hash__(self) -> int:
        return hash((self.name, len(self)))


def profile_axis(regions: Any) -> ProfileAxis:
    """Derive the axis of a profile from its regions.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions in the order of the profile.

    Returns
    -------
    ProfileAxis
        - concentric annuli and the bins of a wedge: the radii, with their mean as
          reference;
        - other regions: the distance of the centre from that of the first region. Boxes,
          ellipses and circles reach from there as far as they cut the line; the edges of
          other shapes are the mid-points between the references;
        - where the references do not increase strictly: the index of the region.
    """
    items = region_list(regions)
    n = len(items)
    centers = region_centers(items)
    distance = centers[0].separation(centers).deg
    half = None
    radii: list[Any] = [getattr(region, "_jaxprof_radii", None) for region in items]
    if all(isinstance(region, CircleAnnulusSkyRegion) for region in items):
        annuli = [(r.inner_radius.to_value(u.deg), r.outer_radius.to_value(u.deg)) for r in items]
        if distance.max() < 1e-3 * min(high for _, high in annuli):
            radii = annuli
    if all(pair is not None for pair in radii):
        low, high = np.array(radii, dtype=float).T
        ref = 0.5 * (low + high)
    else:
        ref = distance
        half = _half_extents(items, centers)
        if half is not None:
            low, high = ref - half, ref + half
        elif n > 1:
            middle = 0.5 * (ref[:-1] + ref[1:])
            low = np.concatenate([[2 * ref[0] - middle[0]], middle])
            high = np.concatenate([middle, [2 * ref[-1] - middle[-1]]])
        else:
            ref = np.zeros(0)  # one region of another shape has no extent along a line
    if len(ref) == n and (np.diff(ref) > 0).all():
        return ProfileAxis("projected-distance", low, high, ref)
    index = np.arange(n, dtype=float)
    return ProfileAxis("region-index", index - 0.5, index + 0.5, index)


def _half_extents(regions: list[Any], centers: SkyCoord) -> Array | None:
    """Half the chord [deg] that every box, ellipse or circle cuts from the profile's line.

    The line goes from the first centre to each of the others. None where a region has
    another shape.
    """
    if not all(
        isinstance(r, CircleSkyRegion | RectangleSkyRegion | EllipseSkyRegion) for r in regions
    ):
        return None
    lines = _line_angles(regions, centers) if len(regions) > 1 else [None]
    return np.array([_half_chord(r, line) for r, line in zip(regions, lines, strict=True)])


def _line_angles(regions: list[Any], centers: SkyCoord) -> Array:
    """Position angle [rad] of the profile's line at every centre, in the region's own frame."""
    other = np.zeros(len(regions), dtype=int)
    other[0] = 1
    if all(region.center.frame.is_equivalent_frame(centers.frame) for region in regions):
        return centers.position_angle(centers[other]).to_value(u.rad)
    return np.array(
        [
            r.center.position_angle(centers[k].transform_to(r.center.frame)).to_value(u.rad)
            for r, k in zip(regions, other, strict=True)
        ]
    )


def _half_chord(region: Any, line: float | None) -> float:
    """Half the chord [deg] that a region cuts from a line through its centre."""
    if isinstance(region, CircleSkyRegion):
        return float(region.radius.to_value(u.deg))
    a, b = region.width.to_value(u.deg) / 2, region.height.to_value(u.deg) / 2
    if line is None:
        return float(a)
    # A region's angle counts from east (longitude) to north: position angle - 90 deg.
    slant = line - region.angle.to_value(u.rad) - np.pi / 2
    cos, sin = abs(np.cos(slant)), abs(np.sin(slant))
    if isinstance(region, EllipseSkyRegion):
        return float(1 / np.hypot(cos / a, sin / b))
    return float(min(a / max(cos, 1e-12), b / max(sin, 1e-12)))
