"""Sky regions as arrays: the shapes of many regions as unit vectors, axes and sizes.

The meaning of each shape on the sphere. An angle turns width and height counter-clockwise as
seen on the sky, where east is to the left of north: the height points to the position angle of
that value, in the frame of the centre.

- circle, annulus: the separation from the centre is below the radius (at least the inner and
  below the outer one);
- ellipse: elliptical in separation and direction from the centre, that is, an ellipse of the
  given axes in the zenithal equidistant projection around the centre;
- rectangle: ``|lon| < width / 2`` and ``|lat| < height / 2`` in the sky-offset frame of its
  centre, turned by its angle; its solid angle is ``width * 2 sin(height / 2)``;
- polygon: the vertices are joined by the shorter great-circle arcs. The inside is the smaller
  side; where the outline crosses itself, an odd number of crossings from the side opposite to
  the vertices.

Elliptical and rectangle annuli are the outer shape without the inner one, and compound
regions combine their parts by set logic.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from regions import (
    CircleAnnulusSkyRegion,
    CircleSkyRegion,
    CompoundSkyRegion,
    EllipseAnnulusSkyRegion,
    EllipseSkyRegion,
    PolygonSkyRegion,
    RectangleAnnulusSkyRegion,
    RectangleSkyRegion,
)

from jaxprof.sky.regions.conversion import region_list
from jaxprof.sky.regions.sphere import (
    FrameGroups,
    local_axes,
    read_coords,
    separation,
    transformed,
    unit_vectors,
)

Array: TypeAlias = np.ndarray[Any, Any]
Node: TypeAlias = Any  # index of a shape, or (operator, Node, Node)
ROUND, BOX, POLYGON = 0, 1, 2
_DEGREE = np.pi / 180
_STEP = 0.01  # rad; from a centre to the points that tell its axes in another frame


@dataclass(frozen=True, eq=False)
class SkyShapes:
    """Simple shapes on the unit sphere, and how they make up regions.

    Attributes
    ----------
    kind : ndarray of int, shape (S,)
        ROUND (circles, ellipses and their annuli), BOX or POLYGON.
    region : ndarray of int, shape (S,)
        Index of the region that each shape is part of.
    axes : ndarray, shape (S, 3, 3)
        Rows are the directions of width and height, and the centre: orthonormal. The first
        two are arbitrary for polygons, whose centre is the mean direction of their vertices.
    size, hole : ndarray, shape (S, 2)
        Half of width and height [rad], or radii; of the shape and of the hole in it, zero for
        none. Zero for polygons.
    cap : ndarray, shape (S,)
        Radius [rad] around the centre that holds the whole shape.
    vertices : ndarray, shape (V, 3)
        Unit vectors of the vertices of polygons, those of shape s at
        ``first[s]:first[s + 1]``.
    first : ndarray of int, shape (S + 1,)
        Where they begin.
    area : ndarray, shape (S,)
        Solid angle within a polygon's outline, counted counter-clockwise as seen from outside
        the sphere [sr]; signed, and the part opposite to the centre left out. Zero for others.
    nodes : list
        For each region the index of its shape, or ``(operator, node, node)``.
    frame : astropy frame
        Frame of the unit vectors.
    """

    kind: Array
    region: Array
    axes: Array
    size: Array
    hole: Array
    cap: Array
    vertices: Array
    first: Array
    area: Array
    nodes: list[Node]
    frame: Any

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def inverted(self) -> Array:
        """Polygons whose inside holds the point opposite to their centre, shape (S,)."""
        return np.abs(self.area) > 2 * np.pi

    @property
    def simple(self) -> bool:
        """Whether every region is one shape, with the same index."""
        return all(isinstance(node, int) for node in self.nodes)

    def fingerprint(self) -> Hashable:
        """What shapes of one frame are equal by."""
        arrays = self.kind, self.region, self.axes, self.size, self.hole, self.vertices, self.first
        return tuple(self.nodes), *(array.tobytes() for array in arrays)


def sky_shapes(regions: Any, frame: Any = None) -> SkyShapes:
    """Turn sky regions into arrays.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        Sky regions in any frames, compound ones included.
    frame : astropy frame, optional
        Frame of the unit vectors; by default that of the first region.

    Returns
    -------
    SkyShapes

    Raises
    ------
    ValueError
        For what `region_list` refuses, for shapes that are not known, and for sizes and
        positions that are not finite, naming ``regions[i]``.
    """
    parts = _Parts([], [], [], [], [])
    nodes = [parts.add(i, region) for i, region in enumerate(region_list(regions))]
    kind = np.array(parts.kind, dtype=np.int8)
    region = np.array(parts.region, dtype=np.intp)
    sizes = np.array(parts.sizes, dtype=float)
    angle = np.array(parts.angle, dtype=float)
    _check_sizes(sizes, angle, region)
    lon, lat, count, frames = read_coords(parts.coords)
    if frame is None:
        frame = frames[0][1]
    _check_positions(lon, lat, np.repeat(region, count))

    centred = kind != POLYGON
    of_center = np.repeat(centred, count)  # which positions are centres, and not vertices
    first = np.concatenate([[0], np.cumsum(np.where(centred, 0, count))])
    axes = np.zeros((len(kind), 3, 3))
    axes[centred] = _center_axes(
        lon[of_center], lat[of_center], angle[centred], _some(frames, of_center), frame
    )
    vertices = unit_vectors(lon[~of_center], lat[~of_center])
    for members, own in _some(frames, ~of_center):
        vertices[members] = transformed(vertices[members], own, frame)
    none = np.zeros(len(kind))
    return _completed(
        SkyShapes(
            kind=kind, region=region, axes=axes, size=sizes[:, :2], hole=sizes[:, 2:], cap=none,
            vertices=vertices, first=first, area=none, nodes=nodes, frame=frame,
        )
    )  # fmt: skip


def in_frame(shapes: SkyShapes, frame: Any) -> SkyShapes:
    """The same shapes in another frame; themselves if it is theirs."""
    if shapes.frame.is_equivalent_frame(frame):
        return shapes
    axes = shapes.axes.copy()
    centred = shapes.kind != POLYGON
    axes[centred] = _carried(axes[centred], shapes.frame, frame)
    vertices = transformed(shapes.vertices, shapes.frame, frame)
    return _completed(replace(shapes, axes=axes, vertices=vertices, frame=frame))


def _completed(shapes: SkyShapes) -> SkyShapes:
    """The shapes with what follows from the rest: caps, and the axes and areas of polygons."""
    axes, area = shapes.axes.copy(), np.zeros(len(shapes.kind))
    polygons = np.flatnonzero(shapes.kind == POLYGON)
    if len(polygons):
        axes[polygons] = _polygon_axes(shapes.vertices, shapes.first, polygons)
        area[polygons] = _signed_area(shapes.vertices, shapes.first, polygons, axes[polygons, 2])
    cap = _caps(shapes.kind, shapes.size, axes, shapes.vertices, shapes.first)
    cap[np.abs(area) > 2 * np.pi] = np.pi
    return replace(shapes, axes=axes, cap=cap, area=area)


def _some(frames: FrameGroups, chosen: Array) -> FrameGroups:
    """Groups of a part of the positions, counted within that part."""
    number = np.cumsum(chosen) - 1
    return [(number[members[chosen[members]]], own) for members, own in frames]


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass
class _Parts:
    """What is collected of each shape before anything is computed."""

    kind: list[int]
    region: list[int]
    sizes: list[tuple[float, ...]]
    angle: list[float]
    coords: list[SkyCoord]

    def add(self, index: int, node: Any) -> Node:
        """Add the shapes of a region; the node that stands for it."""
        if isinstance(node, CompoundSkyRegion):
            first, second = self.add(index, node.region1), self.add(index, node.region2)
            return (node.operator, first, second)
        read = _READERS.get(type(node)) or _inherited(index, node)
        code, coord, sizes, angle = read(node)
        self.kind.append(code)
        self.region.append(index)
        self.sizes.append(sizes)
        self.angle.append(angle)
        self.coords.append(coord)
        return len(self.kind) - 1


def _inherited(index: int, region: Any) -> Callable[[Any], Any]:
    """Reader of a region whose class derives from a known one."""
    for kind, read in _READERS.items():
        if isinstance(region, kind):
            return read
    raise ValueError(
        f"regions[{index}] is a {type(region).__name__}, whose shape is not known; "
        "use circles, ellipses, rectangles, their annuli, polygons, or compounds of them"
    )


def _rad(angle: u.Quantity) -> float:
    if angle.unit is u.deg:  # not worth the cost of a conversion
        return float(angle.value) * _DEGREE
    return float(angle.to_value(u.rad))


def _circle(region: Any) -> tuple[int, SkyCoord, tuple[float, ...], float]:
    radius = _rad(region.radius)
    return ROUND, region.center, (radius, radius, 0.0, 0.0), 0.0


def _annulus(region: Any) -> tuple[int, SkyCoord, tuple[float, ...], float]:
    inner, outer = _rad(region.inner_radius), _rad(region.outer_radius)
    return ROUND, region.center, (outer, outer, inner, inner), 0.0


def _turned(region: Any, code: int) -> tuple[int, SkyCoord, tuple[float, ...], float]:
    sizes = (0.5 * _rad(region.width), 0.5 * _rad(region.height), 0.0, 0.0)
    return code, region.center, sizes, _rad(region.angle)


def _turned_annulus(region: Any, code: int) -> tuple[int, SkyCoord, tuple[float, ...], float]:
    outer = (0.5 * _rad(region.outer_width), 0.5 * _rad(region.outer_height))
    inner = (0.5 * _rad(region.inner_width), 0.5 * _rad(region.inner_height))
    return code, region.center, (*outer, *inner), _rad(region.angle)


def _polygon(region: Any) -> tuple[int, SkyCoord, tuple[float, ...], float]:
    return POLYGON, region.vertices, (0.0, 0.0, 0.0, 0.0), 0.0


_READERS: dict[type, Callable[[Any], Any]] = {
    RectangleSkyRegion: partial(_turned, code=BOX),
    CircleSkyRegion: _circle,
    CircleAnnulusSkyRegion: _annulus,
    EllipseSkyRegion: partial(_turned, code=ROUND),
    PolygonSkyRegion: _polygon,
    EllipseAnnulusSkyRegion: partial(_turned_annulus, code=ROUND),
    RectangleAnnulusSkyRegion: partial(_turned_annulus, code=BOX),
}


def _check_sizes(sizes: Array, angle: Array, region: Array) -> None:
    bad = ~((sizes >= 0) & (sizes < np.inf)).all(axis=1) | ~np.isfinite(angle)
    if bad.any():
        raise ValueError(
            f"regions[{region[bad][0]}] has a size or an angle that is negative, infinite or "
            "NaN; give finite ones"
        )


def _check_positions(lon: Array, lat: Array, owner: Array) -> None:
    bad = ~np.isfinite(lon + lat)
    if bad.any():
        raise ValueError(
            f"regions[{owner[bad][0]}] has a position that is infinite or NaN; give a finite one"
        )


def _center_axes(lon: Array, lat: Array, angle: Array, frames: FrameGroups, frame: Any) -> Array:
    """Directions of width, height and centre (n, 3, 3), turned by an angle in their own frame."""
    center = unit_vectors(lon, lat)
    east, north = local_axes(lon, lat)
    cos, sin = np.cos(angle)[:, np.newaxis], np.sin(angle)[:, np.newaxis]
    axes = np.stack([cos * east - sin * north, cos * north + sin * east, center], axis=1)
    for members, own in frames:
        axes[members] = _carried(axes[members], own, frame)
    return axes


def _carried(axes: Array, own: Any, frame: Any) -> Array:
    """Directions of width, height and centre (n, 3, 3) of another frame."""
    if own.is_equivalent_frame(frame):
        return axes
    # Points a step away in the directions of width and height, carried over with the centre.
    c = axes[:, 2]
    steps = [np.cos(_STEP) * c + np.sin(_STEP) * axes[:, k] for k in (0, 1)]
    first, second, c = transformed(np.concatenate([*steps, c]), own, frame).reshape(3, -1, 3)
    width = _unit(first - np.sum(first * c, axis=-1, keepdims=True) * c)
    height = second - np.sum(second * c, axis=-1, keepdims=True) * c
    height = _unit(height - np.sum(height * width, axis=-1, keepdims=True) * width)
    return np.stack([width, height, c], axis=1)


def _polygon_axes(vertices: Array, first: Array, polygons: Array) -> Array:
    """Axes (n, 3, 3) of polygons: their centre is the mean direction of their vertices."""
    start = first[polygons]
    mean = np.add.reduceat(vertices, start, axis=0)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    # The mean of vertices all around the sphere has no direction: any serves.
    center = np.where(length > 1e-9, mean / np.maximum(length, 1e-300), vertices[start])
    other = np.eye(3)[np.argmin(np.abs(center), axis=1)]
    width = _unit(np.cross(other, center))
    return np.stack([width, np.cross(center, width), center], axis=1)


def _signed_area(vertices: Array, first: Array, polygons: Array, center: Array) -> Array:
    """Sum of the signed areas of the triangles that a centre makes with every edge [sr]."""
    ends = edge_ends(first, polygons)
    count = first[polygons + 1] - first[polygons]
    c = np.repeat(center, count, axis=0)
    start = np.repeat(first[polygons], count)
    a = vertices[start + np.arange(len(start)) - np.repeat(np.cumsum(count) - count, count)]
    areas = triangle_area(c, a, vertices[ends])
    return np.add.reduceat(areas, np.cumsum(count) - count)


def edge_ends(first: Array, polygons: Array) -> Array:
    """Index of the vertex that follows each one of polygons, closing each outline."""
    count = first[polygons + 1] - first[polygons]
    begin = np.cumsum(count) - count
    end = np.arange(1, count.sum() + 1) + np.repeat(first[polygons] - begin, count)
    end[begin + count - 1] = first[polygons]
    return end


def triangle_area(a: Array, b: Array, c: Array) -> Array:
    """Signed area [sr] of spherical triangles (Van Oosterom & Strackee 1983)."""
    # Differences before the product: that of three nearly equal vectors would lose digits.
    triple = np.sum(a * np.cross(b - a, c - a), axis=-1)
    cosines = np.sum(a * b, axis=-1) + np.sum(b * c, axis=-1) + np.sum(a * c, axis=-1)
    return 2 * np.arctan2(triple, 1 + cosines)


def _caps(kind: Array, size: Array, axes: Array, vertices: Array, first: Array) -> Array:
    """Radius [rad] around the centre that holds the whole shape."""
    cap = size.max(axis=1)
    boxes = kind == BOX
    lon, lat = np.minimum(size[boxes, 0], np.pi), np.minimum(size[boxes, 1], np.pi / 2)
    corner = np.arctan2(np.hypot(np.cos(lat) * np.sin(lon), np.sin(lat)), np.cos(lat) * np.cos(lon))
    # Beyond 90 deg of longitude the equator is farther from the centre than the corners.
    cap[boxes] = np.where(lon > np.pi / 2, lon, corner)
    polygons = np.flatnonzero(kind == POLYGON)
    if len(polygons):
        count = first[polygons + 1] - first[polygons]
        centers = np.repeat(axes[polygons, 2], count, axis=0)
        away = separation(centers, vertices)
        farthest = np.maximum.reduceat(away, np.cumsum(count) - count)
        # Arcs between points of a cap of less than 90 deg stay within it.
        cap[polygons] = np.where(farthest < np.pi / 2 - 1e-6, farthest, np.pi)
    return np.minimum(cap, np.pi)
