"""The axis of a profile: where its bins are, as distances, coordinates, times or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.time import Time
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    EllipseSkyRegion,
    RectangleSkyRegion,
)

from jaxprof.sky.regions.centers import region_centers
from jaxprof.sky.regions.conversion import region_list

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class ProfileAxis:
    """Axis of a profile.

    Attributes
    ----------
    name : str
        What the axis is: "projected-distance", "region-index", "longitude", "time", ...
    min, max, ref : ndarray of float64, shape (n,)
        Edges and reference position of every bin, in `unit`. Bins may overlap or leave
        gaps.
    unit : str, optional
        Unit, "" for none. By default "deg" for a projected distance, none for other axes.
    interp : {"lin", "log"}
        How figures draw it.
    """

    name: str
    min: Array
    max: Array
    ref: Array
    unit: str | None = None
    interp: str = "lin"

    def __post_init__(self) -> None:
        if self.unit is None:
            unit = "deg" if self.name == "projected-distance" else ""
        else:
            unit = u.Unit(self.unit).to_string()
        object.__setattr__(self, "unit", unit)
        if self.interp not in ("lin", "log"):
            raise ValueError(f"interp must be 'lin' or 'log', got {self.interp!r}")
        for part in ("min", "max", "ref"):
            object.__setattr__(self, part, np.asarray(getattr(self, part), dtype=float))

    @classmethod
    def from_edges(
        cls, edges: Any, *, name: str = "position", ref: Any = None, interp: str = "lin"
    ) -> ProfileAxis:
        """Axis of bins that follow each other, or have edges of their own.

        Parameters
        ----------
        edges : Quantity, Time or array_like, shape (n + 1,) or (n, 2)
            Common edges, or the lower and upper edge of each bin. Times become MJD in days.
        name : str
            What the axis is, as figures label it.
        ref : of the same kind, shape (n,), optional
            Reference positions; by default the middle of each bin, the geometric one on a
            logarithmic axis.
        interp : {"lin", "log"}
            How figures draw it.

        Returns
        -------
        ProfileAxis

        Raises
        ------
        ValueError
            For edges of another shape, or that are not finite.
        """
        if isinstance(edges, Time):
            edges = edges.mjd * u.d
            name = "time (MJD)" if name == "position" else name
        ref = ref.mjd * u.d if isinstance(ref, Time) else ref
        quantity = u.Quantity(edges)
        values = quantity.value.astype(float)
        if values.ndim == 1 and len(values) > 1:
            values = np.stack([values[:-1], values[1:]], axis=1)
        if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
            raise ValueError(
                f"edges have the shape {quantity.shape}; give n + 1 finite edges of n bins that "
                "follow each other, or the shape (n, 2)"
            )
        low, high = values.min(axis=1), values.max(axis=1)
        if ref is None:
            positive = interp == "log" and (low > 0).all()
            middle = np.sqrt(low * high) if positive else 0.5 * (low + high)
        else:
            middle = u.Quantity(ref).to_value(quantity.unit)
        if np.shape(middle) != low.shape:
            raise ValueError(f"ref has the shape {np.shape(middle)}; give one for {len(low)} bins")
        return cls(name, low, high, middle, quantity.unit.to_string(), interp)

    @property
    def edges(self) -> Array:
        """Lower and upper edge of every bin, shape (n, 2), in `unit`."""
        return np.stack([self.min, self.max], axis=1)

    def take(self, bins: Any) -> ProfileAxis:
        """Axis of some of the bins, by their indices."""
        low, high, ref = (part[bins] for part in (self.min, self.max, self.ref))
        return ProfileAxis(self.name, low, high, ref, self.unit, self.interp)

    def to(self, unit: Any) -> ProfileAxis:
        """Axis in another unit.

        Raises
        ------
        ValueError
            If the unit is none of this axis.
        """
        try:
            factor = u.Unit(self.unit).to(unit)
        except (u.UnitConversionError, ValueError, TypeError) as error:
            raise ValueError(f"the axis {self.name!r} [{self.unit}]: {error}") from None
        low, high, ref = (factor * part for part in (self.min, self.max, self.ref))
        return ProfileAxis(self.name, low, high, ref, u.Unit(unit).to_string(), self.interp)

    def __len__(self) -> int:
        return len(self.ref)

    def __eq__(self, other: object) -> bool:
        """Whether another axis has the same name, unit and, to 1e-6 of the axis, bins."""
        if not isinstance(other, ProfileAxis):
            return NotImplemented
        if (self.name, self.unit, len(self)) != (other.name, other.unit, len(other)):
            return False
        atol = 1e-6 * float(np.max(self.max) - np.min(self.min))
        return all(
            np.allclose(getattr(self, part), getattr(other, part), rtol=0, atol=atol)
            for part in ("min", "max", "ref")
        )

    def __hash__(self) -> int:
        return hash((self.name, self.unit, len(self)))


#: Axes that `axis_of_regions` makes of any regions.
AXES = ("projected-distance", "longitude", "latitude", "path", "region-index")


def axis_of_regions(regions: Any, kind: str, *, frame: str = "galactic") -> ProfileAxis:
    """Another axis for the bins of a profile.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions in the order of the profile.
    kind : {"projected-distance", "longitude", "latitude", "path", "region-index"}
        A coordinate of the centres, the length of the path along them (from the first centre to
        the second, from there to the third, ...), the number of the region; or what
        `profile_axis` gives. Longitudes are continuous and between -180 and 180 deg in the middle.
    frame : str
        Frame of the coordinates, "galactic" or "icrs" for instance.

    Returns
    -------
    ProfileAxis
        Bins of a coordinate or path reach as far as boxes, circles and ellipses do along it; of
        other shapes to the middle between their neighbours.

    Raises
    ------
    ValueError
        For an unknown kind, or a coordinate or path along which all regions are at one position.
    """
    items = region_list(regions)
    if kind == "projected-distance":
        return profile_axis(items)
    centers = region_centers(items)
    index = np.arange(len(items), dtype=float)
    if kind == "region-index":
        return ProfileAxis(kind, index - 0.5, index + 0.5, index)
    if kind == "path":
        ref = np.concatenate([[0.0], np.cumsum(centers[:-1].separation(centers[1:]).deg)])
        half = _half_extents(items, centers)
        name = "position along the path"
    elif kind in ("longitude", "latitude"):
        own = centers.transform_to(frame).spherical
        if kind == "latitude":
            ref = own.lat.deg
        else:
            ref = np.rad2deg(np.unwrap(own.lon.rad))
            ref = ref - 360.0 * np.round(np.median(ref) / 360.0)
        half = _extents_along(items, centers, kind, frame)
        galactic = "galactic" if frame == "galactic" else ""
        equatorial = {"longitude": "right ascension", "latitude": "declination"}[kind]
        name = f"{galactic} {kind}".strip() if galactic else equatorial
    else:
        raise ValueError(f"kind is {kind!r}; valid are {', '.join(map(repr, AXES))}")
    if len(ref) > 1 and np.ptp(ref) < 1e-6:
        raise ValueError(
            f"the axis {kind!r} has no extent: all regions are at one position along it; take "
            "'projected-distance' (of annuli the radius), 'region-index' or another coordinate"
        )
    if half is None:
        middle = 0.5 * (ref[:-1] + ref[1:])
        ends = (2 * ref[0] - middle[0], 2 * ref[-1] - middle[-1]) if len(ref) > 1 else ref[[0, 0]]
        edges = np.concatenate([ends[:1], middle, ends[1:]])
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        return ProfileAxis(name, low, high, ref, "deg")
    return ProfileAxis(name, ref - half, ref + half, ref, "deg")


def _extents_along(items: list[Any], centers: SkyCoord, kind: str, frame: str) -> Array | None:
    """Half the chord [deg] of every region along a coordinate, in that coordinate."""
    if not all(
        isinstance(r, CircleSkyRegion | RectangleSkyRegion | EllipseSkyRegion) for r in items
    ):
        return None
    step = 1e-4 * u.deg
    own = centers.transform_to(frame)
    angle = (90 if kind == "longitude" else 0) * u.deg
    ahead = own.directional_offset_by(angle, step)
    half = []
    for region, here, there in zip(items, own, ahead, strict=True):
        line = region.center.position_angle(there.transform_to(region.center.frame))
        stretch = 1.0 / np.cos(here.spherical.lat.rad) if kind == "longitude" else 1.0
        half.append(_half_chord(region, line.to_value(u.rad)) * stretch)
    return np.array(half)


def profile_axis(regions: Any) -> ProfileAxis:
    """Derive the axis of a profile from its regions.

    Parameters
    ----------
    regions : SkyRegion or iterable of SkyRegion
        Sky regions in the order of the profile.

    Returns
    -------
    ProfileAxis
        - concentric annuli, also around a circle, and the bins of a wedge: the radii, with their
          mean as reference;
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
    rings = [_radii(region) for region in items]
    if all(rings) and any(isinstance(region, CircleAnnulusSkyRegion) for region in items):
        if distance.max() < 1e-3 * min(high for _, high in rings):
            radii = rings
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


def _radii(region: Any) -> Any:
    """Inner and outer radius [deg] of an annulus or a circle; None for other shapes."""
    if isinstance(region, CircleAnnulusSkyRegion):
        return region.inner_radius.to_value(u.deg), region.outer_radius.to_value(u.deg)
    return (0.0, region.radius.to_value(u.deg)) if isinstance(region, CircleSkyRegion) else None


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
