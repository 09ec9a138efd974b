"""Outlines of shapes on the sphere, as smooth arcs that keep the inside on their left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from jaxprof.sky.regions.shapes import BOX, ROUND, SkyShapes

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arc:
    """A smooth curve on the unit sphere.

    Attributes
    ----------
    points : callable
        Unit vectors (n, 3) at parameters (n,) from 0 to 1.
    velocity : callable
        Their derivatives with respect to the parameter, (n, 3).
    parameter : callable
        Parameters (n,) of unit vectors (n, 3) that are on the curve; anything for others.
    scale : float
        Size of the shape that it bounds [rad].
    """

    points: Callable[[Array], Array]
    velocity: Callable[[Array], Array]
    parameter: Callable[[Array], Array]
    scale: float

    def left(self, t: Array) -> Array:
        """Unit vectors (n, 3) along the sphere to the left of the curve."""
        across = np.cross(self.points(t), self.velocity(t))
        length = np.linalg.norm(across, axis=1, keepdims=True)
        return across / np.where(length > 0, length, 1.0)


def outline_arcs(shapes: SkyShapes, index: int) -> list[Arc]:
    """Arcs around a shape, holes included, in order; none for a shape without area.

    They run counter-clockwise as seen from outside the sphere, and around holes clockwise;
    those of polygons run as the vertices do.
    """
    axes, size, hole = shapes.axes[index], shapes.size[index], shapes.hole[index]
    kind = shapes.kind[index]
    if kind not in (ROUND, BOX):
        vertices = shapes.vertices[shapes.first[index] : shapes.first[index + 1]]
        scale = float(min(shapes.cap[index], 1.0))
        arcs = [
            _great_circle(a, b, scale)
            for a, b in zip(vertices, np.roll(vertices, -1, 0), strict=True)
        ]
        return [arc for arc in arcs if arc is not None]
    make = _ellipse if kind == ROUND else _box
    outer = make(axes, size, 1) if size.all() else []
    inner = make(axes, hole, -1) if hole.all() else []
    return [*outer, *inner]


def _ellipse(axes: Array, semi: Array, sense: int) -> list[Arc]:
    """One closed arc by the eccentric angle; radii end at the opposite point."""
    a, b = np.minimum(semi, np.pi)
    u, v, c = axes

    def parts(t: Array) -> tuple[Array, ...]:
        turn = sense * 2 * np.pi * t
        x, y = a * np.cos(turn), b * np.sin(turn)
        dx, dy = -a * np.sin(turn) * sense * 2 * np.pi, b * np.cos(turn) * sense * 2 * np.pi
        return x, y, np.hypot(x, y), dx, dy

    def points(t: Array) -> Array:
        x, y, rho, _, _ = parts(t)
        s = np.sin(rho) / rho
        return np.cos(rho)[:, None] * c + (s * x)[:, None] * u + (s * y)[:, None] * v

    def velocity(t: Array) -> Array:
        x, y, rho, dx, dy = parts(t)
        s, along = np.sin(rho) / rho, (x * dx + y * dy) / rho
        ds = (np.cos(rho) - s) / rho * along
        return (
            (-np.sin(rho) * along)[:, None] * c
            + (ds * x + s * dx)[:, None] * u
            + (ds * y + s * dy)[:, None] * v
        )

    def parameter(points: Array) -> Array:
        x, y, z = points @ u, points @ v, points @ c
        across = np.hypot(x, y)
        rho = np.arctan2(across, z) / np.where(across > 0, across, 1.0)
        turn = np.arctan2(rho * y / b, rho * x / a)
        return sense * turn / (2 * np.pi) % 1

    return [Arc(points, velocity, parameter, float(min(a, b, 1.0)))]


def _box(axes: Array, half: Array, sense: int) -> list[Arc]:
    """Four sides in the sky-offset frame of the centre."""
    w, h = min(half[0], np.pi), min(half[1], np.pi / 2)
    corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)])[::sense]
    scale = float(min(w, h, 1.0))
    return [
        _side(axes, start, end - start, scale)
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]


def _side(axes: Array, start: Array, span: Array, scale: float) -> Arc:
    u, v, c = axes

    def points(t: Array) -> Array:
        lon, lat = start[0] + span[0] * t, start[1] + span[1] * t
        cos = np.cos(lat)
        return (
            (cos * np.sin(lon))[:, None] * u
            + np.sin(lat)[:, None] * v
            + (cos * np.cos(lon))[:, None] * c
        )

    def velocity(t: Array) -> Array:
        lon, lat = start[0] + span[0] * t, start[1] + span[1] * t
        cos, sin = np.cos(lat), np.sin(lat)
        return (
            (cos * np.cos(lon) * span[0] - sin * np.sin(lon) * span[1])[:, None] * u
            + (cos * span[1])[:, None] * v
            + (-cos * np.sin(lon) * span[0] - sin * np.cos(lon) * span[1])[:, None] * c
        )

    def parameter(points: Array) -> Array:
        x, y, z = points @ u, points @ v, points @ c
        lon, lat = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
        return ((lon - start[0]) * span[0] + (lat - start[1]) * span[1]) / (span @ span)

    return Arc(points, velocity, parameter, scale)


def _great_circle(a: Array, b: Array, scale: float) -> Arc | None:
    """The shorter arc from one vertex to the next; None where they coincide."""
    across = np.cross(a, b)
    length = np.arctan2(np.linalg.norm(across), a @ b)
    if not length > 0 or not across.any():
        return None
    ahead = np.cross(across / np.linalg.norm(across), a)

    def points(t: Array) -> Array:
        return np.cos(length * t)[:, None] * a + np.sin(length * t)[:, None] * ahead

    def velocity(t: Array) -> Array:
        return length * (np.cos(length * t)[:, None] * ahead - np.sin(length * t)[:, None] * a)

    def parameter(points: Array) -> Array:
        return np.arctan2(points @ ahead, points @ a) / length

    return Arc(points, velocity, parameter, scale)


def outline_loops(shapes: SkyShapes, index: int, unit: float) -> list[tuple[int, Array]]:
    """Closed polygons on the sphere that follow the outlines of a shape.

    Parameters
    ----------
    shapes : SkyShapes
        The shapes.
    index : int
        One of them.
    unit : float
        Side of a pixel [rad]; polygons depart from the outlines by about 1e-4 of it.

    Returns
    -------
    list of (int, ndarray)
        1 for an outline and -1 for that of a hole, with unit vectors (n, 3). Ellipses become
        polygons of the same area.
    """
    if shapes.kind[index] == ROUND:
        loops = []
        for sign, semi in ((1, shapes.size[index]), (-1, shapes.hole[index])):
            if semi.all():
                n = int(np.clip(np.ceil(222 * np.sqrt(2 * semi.max() / unit)), 64, 20_000))
                same_area = np.sqrt((2 * np.pi / n) / np.sin(2 * np.pi / n))
                (arc,) = _ellipse(shapes.axes[index], semi * same_area, 1)
                loops.append((sign, arc.points((np.arange(n) + 0.5) / n)))
        return loops
    arcs = outline_arcs(shapes, index)
    points = []
    for arc in arcs:
        length = float(np.linalg.norm(arc.velocity(np.zeros(1))))
        n = int(np.clip(np.ceil(70 * length / np.sqrt(unit)), 1, 20_000))
        points.append(arc.points(np.arange(n) / n))
    if not points:
        return []
    if shapes.kind[index] == BOX and len(points) == 8:
        return [(1, np.concatenate(points[:4])), (-1, np.concatenate(points[4:]))]
    return [(1, np.concatenate(points))]
