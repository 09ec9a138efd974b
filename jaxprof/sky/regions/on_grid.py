"""Sky regions on the pixel grid of a map: their outlines in pixels, and what lies within."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from astropy.wcs.utils import wcs_to_celestial_frame

from jaxprof.sky.closed import ClosedWCS, unwrapped
from jaxprof.sky.regions.grid import pixel_positions, sky_vectors
from jaxprof.sky.regions.membership import combine, within
from jaxprof.sky.regions.outlines import outline_loops
from jaxprof.sky.regions.shapes import Node, SkyShapes, sky_shapes

Array: TypeAlias = np.ndarray[Any, Any]
Outlines: TypeAlias = list[tuple[int, Array]]  # sign and vertices (n, 2) of closed polygons


@dataclass(frozen=True, eq=False)
class GridRegion:
    """A region, or a part of a compound one, on the pixel grid of a map.

    Attributes
    ----------
    shapes : SkyShapes
        Shapes in the frame of the map.
    node : int or tuple
        The shape, or ``(operator, node, node)``.
    geom : WcsGeom
        Geometry of the map.
    """

    shapes: SkyShapes
    node: Node
    geom: Any

    @cached_property
    def parts(self) -> tuple[Any, GridRegion, GridRegion] | None:
        """Operator and parts of a compound region; None for a simple one."""
        if isinstance(self.node, int):
            return None
        operator, first, second = self.node
        return (
            operator,
            GridRegion(self.shapes, first, self.geom),
            GridRegion(self.shapes, second, self.geom),
        )

    def contains(self, x: Array, y: Array) -> Array:
        """Whether pixel positions, which broadcast, are in the region on the sky."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        points = sky_vectors(self.geom.wcs, x.ravel(), y.ravel())
        on_sky = np.flatnonzero(np.isfinite(points).all(axis=1))
        inside = np.zeros(x.size, bool)

        def own(leaf: int) -> Array:
            return within(self.shapes, np.full(len(on_sky), leaf), points[on_sky])

        inside[on_sky] = combine(self.node, own)
        return inside.reshape(x.shape)

    @cached_property
    def outlines(self) -> Outlines | None:
        """Outlines of a simple region in pixels; None where the projection tears them.

        Empty for a region without area and for one that the projection does not show.
        """
        unit = float(self.geom.pixel_scales.to_value("rad").min())
        loops = []
        for sign, points in outline_loops(self.shapes, self.node, unit):
            x, y = pixel_positions(self.geom.wcs, points)
            if isinstance(self.geom.wcs, ClosedWCS):
                x = unwrapped(x, _center(self)[0], self.geom.turn)
            shown = np.isfinite(x + y)
            if not shown.any() and not np.isfinite(_center(self)).all():
                return []
            if not shown.all():
                return None
            step = np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0]))
            if step.max() > 2 + 20 * np.median(step) and step.max() > 0.1 * np.sum(step):
                return None  # across a seam, or around a pole
            loops.append((sign, np.stack([x, y], axis=-1)))
        return loops


def _center(region: GridRegion) -> Array:
    return np.array(pixel_positions(region.geom.wcs, region.shapes.axes[[region.node], 2]))


def grid_regions(regions: Any, geom: Any) -> list[GridRegion]:
    """Sky regions, in any frame, on the pixel grid of a map."""
    shapes = sky_shapes(regions, wcs_to_celestial_frame(geom.wcs))
    return [GridRegion(shapes, node, geom) for node in shapes.nodes]
