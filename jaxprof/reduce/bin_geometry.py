"""The geometry of bins, as laws that give their norms need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord

from jaxprof.likelihood import BinGeometry
from jaxprof.reduce.joint.brightness import brightness, sky_frame
from jaxprof.sky import WcsNDMap
from jaxprof.sky.regions import region_list
from jaxprof.sky.regions.outlines import outline_arcs
from jaxprof.sky.regions.shapes import BOX, POLYGON, ROUND, SkyShapes, sky_shapes
from jaxprof.sky.regions.solid_angles import shape_solid_angles
from jaxprof.sky.regions.sphere import lonlat
from jaxprof.sky.template_map import TemplateSpatialModel
from jaxprof.types import Array

CONCENTRIC = 1e-9
"""Distance [rad] of the centres of rings that have one centre."""
RINGS = 16
"""Rings within each bin over which the mean of a template is taken."""
ROUND_EDGES = 128
"""Edges of the polygon that stands for a circle or an ellipse, of the same area."""


def bin_geometry(
    regions: Any,
    reference_flux: Any,
    *,
    solid_angle: Any = None,
    parent: Sequence[int] | None = None,
    template: Any = None,
    folded: bool = True,
) -> BinGeometry | None:
    """The geometry of the bins of a profile, or of their parts.

    The ``reference_flux`` () or (B,) is that at norm one [cm-2 s-1], and the ``solid_angle`` (B,)
    what it is that of [sr], by default that of the regions; ``parent`` tells the bin of the profile
    that each is a part of, for ``folded`` see `BinGeometry`. A law is multiplied with the template,
    of which values of maps are taken as they are.

    Returns
    -------
    BinGeometry or None
        None for compound regions, and for templates in anything but rings.
    """
    shapes = sky_shapes(region_list(regions))
    n_bins = len(shapes.nodes)
    whole = shape_solid_angles(shapes)
    scale = np.ones(n_bins) if solid_angle is None else np.asarray(solid_angle) / whole
    frame = shapes.frame
    known: dict[str, Any] = {
        "reference_flux": np.broadcast_to(np.asarray(reference_flux, float), (n_bins,)).copy(),
        "parent": tuple(range(n_bins)) if parent is None else tuple(int(k) for k in parent),
        "frame": frame.name,
        "folded": folded,
        "templated": template is not None,
    }
    if not shapes.simple:
        return None
    middle = shapes.axes[:, 2].mean(axis=0)
    if _concentric(shapes):
        middle = shapes.axes[0, 2]
        edges, weights = _rings(shapes, template, middle)
        weights = weights * scale[:, np.newaxis]
        areas = 2 * np.pi * -np.diff(np.cos(np.deg2rad(edges)), axis=1)
        known |= {"rings": edges, "ring_weights": weights}
        known["solid_angle"] = np.sum(weights * areas, axis=1)
    elif template is None:
        lon, lat, owner, sign = _polygons(shapes)
        known |= {"lon": lon, "lat": lat, "polygon_bin": owner}
        known |= {"polygon_weights": sign * scale[owner], "solid_angle": whole * scale}
    else:
        return None
    return BinGeometry(centre=np.array(_lon_lat(middle)), **known)


def in_frame(geometry: BinGeometry, frame: str) -> BinGeometry:
    """The same geometry with positions in another frame, such as that of a law.

    Raises
    ------
    ValueError
        For a frame that is not known.
    """
    if frame == geometry.frame:
        return geometry

    def moved(lon: Any, lat: Any) -> tuple[Array, Array]:
        lon, lat = np.asarray(lon, float), np.asarray(lat, float)
        found = SkyCoord(lon, lat, unit="deg", frame=geometry.frame).transform_to(frame).spherical
        return found.lon.deg, found.lat.deg

    try:
        changed = replace(geometry, frame=frame, centre=np.array(moved(*geometry.centre)))
    except ValueError as error:
        raise ValueError(f"law has the frame {frame!r}, which astropy does not know") from error
    if geometry.lon is None:
        return changed
    lon, lat = moved(geometry.lon, geometry.lat)
    return replace(changed, lon=lon, lat=lat)


def _lon_lat(vectors: Array) -> tuple[Array, Array]:
    lon, lat = np.rad2deg(lonlat(vectors))
    return lon % 360, lat


def _concentric(shapes: SkyShapes) -> bool:
    """Whether all shapes are circles and circular annuli around one centre."""
    centres = shapes.axes[:, 2]
    circular = [np.array_equal(sizes[:, 0], sizes[:, 1]) for sizes in (shapes.size, shapes.hole)]
    away = np.linalg.norm(centres - centres[0], axis=1)
    return bool(np.all(shapes.kind == ROUND) and all(circular) and np.all(away < CONCENTRIC))


def _rings(shapes: SkyShapes, template: Any, centre: Array) -> tuple[Array, Array]:
    """Edges [deg] of the rings of each bin, (B, M + 1), and the mean of the template in each."""
    ends = np.rad2deg(np.stack([shapes.hole[:, 0], shapes.size[:, 0]], axis=1))
    if template is None:
        return ends, np.ones((len(ends), 1))
    steps = np.linspace(0, 1, RINGS + 1)
    edges = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * steps
    many = template if isinstance(template, list | tuple) else [template] * len(edges)
    lon, lat = _lon_lat(centre)
    middle = SkyCoord(lon, lat, unit="deg", frame=shapes.frame)
    means = [_ring_means(model, middle, own) for model, own in zip(many, edges, strict=True)]
    return edges, np.array(means)


def _ring_means(template: Any, centre: SkyCoord, edges: Array) -> Array:
    """Means of a template over rings, (M,): at four radii each, of the same solid angle."""
    if template is None:
        return np.ones(len(edges) - 1)
    scale = 1.0
    if isinstance(template, WcsNDMap):
        data = template.data.reshape(-1, *template.geom.npix_shape).sum(axis=0)
        total = np.sum(data * template.geom.to_image().solid_angle().to_value("sr"))
        template, scale = TemplateSpatialModel(template), float(total)
    step = edges[-1] / 400
    if isinstance(template, TemplateSpatialModel):
        step = 0.5 * float(np.min(template.image.geom.pixel_scales.to_value("deg")))
    n = int(np.clip(np.ceil(2 * np.pi * edges[-1] / step), 64, 4000))
    turns = (np.arange(n) + 0.5) * 2 * np.pi / n
    share = (np.arange(4) + 0.5) / 4
    cosine = np.cos(np.deg2rad(edges))
    radii = np.arccos(cosine[:-1, None] + (cosine[1:] - cosine[:-1])[:, None] * share)
    points = centre.directional_offset_by(turns * u.rad, radii[..., None] * u.rad)
    own = points.transform_to(sky_frame(template)).spherical
    values = brightness(template, own.lon.deg.ravel(), own.lat.deg.ravel())
    return scale * values.reshape(len(edges) - 1, -1).mean(axis=1)


def _polygons(shapes: SkyShapes) -> tuple[Array, Array, Array, Array]:
    """Vertices [deg] of the polygons (L, V) that bound shapes, whose they are, and their signs."""
    loops, owner, sign = [], [], []
    for index in range(len(shapes)):
        for way, points in _loops(shapes, index):
            loops.append(points)
            owner.append(index)
            sign.append(way)
    longest = max(map(len, loops))
    filled = [np.concatenate([own, np.repeat(own[-1:], longest - len(own), 0)]) for own in loops]
    lon, lat = _lon_lat(np.array(filled))
    return lon, lat, np.array(owner), np.array(sign, float)


def _loops(shapes: SkyShapes, index: int) -> list[tuple[int, Array]]:
    """Unit vectors along the outline of a shape, and along that of its hole with -1."""
    kind, arcs = shapes.kind[index], outline_arcs(shapes, index)
    # The sides of boxes along their width are no great circles; those of polygons are.
    steps = {ROUND: ROUND_EDGES, BOX: 8, POLYGON: 1}[int(kind)]
    points = [arc.points(np.arange(steps) / steps) for arc in arcs]
    if kind == ROUND:
        return [
            (way, _same_area(own, shapes.axes[index, 2]))
            for way, own in zip((1, -1), points, strict=False)
        ]
    if kind == BOX and len(points) == 8:
        return [(1, np.concatenate(points[:4])), (-1, np.concatenate(points[4:]))]
    return [(1, np.concatenate(points))]


def _same_area(points: Array, centre: Array) -> Array:
    """A polygon within a round outline, widened to the area of the outline."""
    turn = 2 * np.pi / len(points)
    cosine = points @ centre
    across = points - cosine[:, np.newaxis] * centre
    angle = np.arctan2(np.linalg.norm(across, axis=1), cosine) * np.sqrt(turn / np.sin(turn))
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    return np.cos(angle)[:, np.newaxis] * centre + np.sin(angle)[:, np.newaxis] * across
