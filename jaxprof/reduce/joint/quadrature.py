"""Spatial models integrated over the pixels of a map, also where they are far smaller."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from astropy import units as u
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from jaxprof.compilation import jit_by_size
from jaxprof.models import spatial_functions as functions
from jaxprof.models.spatial import (
    DiskSpatialModel,
    GaussianSpatialModel,
    GeneralizedGaussianSpatialModel,
    ShellSpatialModel,
)
from jaxprof.reduce.joint.brightness import (
    brightness,
    brightness_moments,
    evaluate,
    model_positions,
)
from jaxprof.sky import WcsGeom
from jaxprof.sky.closed import unwrapped
from jaxprof.sky.moments import point_moments
from jaxprof.sky.regions.pixels import BLOCK, box_limit
from jaxprof.sky.regions.sphere import unit_vectors
from jaxprof.types import Array

_LOST = 1e-6  # of the flux may lie outside the cutout of a source
_TOLERANCE = 3e-8  # of the flux: two estimates of a rectangle may differ by so much
_EDGE_POINT = 1 / 400  # of the radius: rectangles on an edge are not larger, nor than the next
_EDGE_PIXEL = 1 / 16  # of a pixel
_LEVELS = 12  # halvings for accuracy, after those that the size of the source asks for
_MAX_POINTS = 2_000_000


@jit_by_size
def _from_ellipse(lon: Any, lat: Any, center: Any, major: Any, e: Any, phi: Any) -> Any:
    """Distance [rad] of positions from an ellipse, along the line to its centre."""
    size = functions.ellipse_radius(lon, lat, center, major, e, phi)
    return abs(functions.separation(lon, lat, *center) - size)


@dataclass(frozen=True)
class Extent:
    """Sizes of an extended source [deg]."""

    radius: float
    """Holds all but 1e-6 of the flux."""
    core: float
    """Within it rectangles are not larger than `feature`, so that none jumps over the source."""
    feature: float
    """See `core`."""
    smooth: float = 0.0
    """Rectangles below this size are accurate with the brightness in their middle."""
    edges: tuple[float, ...] = ()
    """Major semiaxes of the ellipses along which the brightness has an edge."""


def extent(model: Any) -> Extent:
    """Sizes of an analytic spatial model.

    A Gaussian holds all but f of its flux within sigma sqrt(-2 ln f); a generalised one
    within r_0 Q^eta, with Q where the regularised incomplete gamma function P(2 eta, Q) is
    1 - f (from the integral of its profile over the plane).
    """
    p = {name: float(value) for name, value in model.parameters.items()}
    minor = math.sqrt(1 - p.get("e", 0.0) ** 2)
    if isinstance(model, GaussianSpatialModel):
        sigma = p["sigma"]
        small = minor * sigma
        return Extent(sigma * math.sqrt(-2 * math.log(_LOST)), 3 * sigma, small / 2, small / 20)
    if isinstance(model, GeneralizedGaussianSpatialModel):
        radius = p["r_0"] * float(scipy.special.gammaincinv(2 * p["eta"], 1 - _LOST)) ** p["eta"]
        edges = (p["r_0"],) if p["eta"] < 0.25 else ()
        return Extent(radius, 2 * p["r_0"], minor * p["r_0"] / 8, edges=edges)
    if isinstance(model, DiskSpatialModel):
        # The edge's error function is below 1e-7 where its argument is above 3.7.
        radius = p["r_0"] * (1 + 3.7 * p["edge_width"] / functions.EDGE_95)
        return Extent(radius, radius, minor * p["r_0"] / 8, edges=(p["r_0"],))
    if isinstance(model, ShellSpatialModel):
        outer = p["radius"] + p["width"]
        return Extent(outer, outer, outer / 8, edges=(p["radius"], outer))
    raise ValueError(f"the extent of a {type(model).__name__} is not known")


def cutout(center: SkyCoord, radius: float, geom: WcsGeom) -> tuple[int, int, int, int] | None:
    """Pixel ranges (x0, x1, y0, y1) that hold a circle on the sky; None if they cannot be told.

    `center` is in the frame of the map, `radius` in deg.
    """
    if radius > 85:
        return None
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    # Not the rim alone: a circle around a pole of the map is no circle in pixels.
    steps = np.linspace(0, radius, 9)
    # At a pole astropy wants the full shape.
    angle, step = np.meshgrid(angles, steps, indexing="ij")
    points = center.directional_offset_by(angle * u.rad, step * u.deg)
    x, y = (np.asarray(p) for p in points.to_pixel(geom.wcs, mode="wcs"))
    if not np.isfinite(x + y).all():
        return None
    x = unwrapped(x, x[0, 0], geom.turn)
    pad_x, pad_y = 1 + 0.01 * np.ptp(x), 1 + 0.01 * np.ptp(y)
    low_x, low_y = math.floor(x.min() - pad_x), math.floor(y.min() - pad_y)
    return low_x, math.ceil(x.max() + pad_x) + 1, low_y, math.ceil(y.max() + pad_y) + 1


def clipped(
    box: tuple[int, int, int, int] | None, geom: WcsGeom, margin: int | None
) -> tuple[tuple[int, int, int, int] | None, bool]:
    """Clip a cutout (x0, x1, y0, y1) to the map plus a margin; None if nothing is left.

    A source whose cutout is not known gets the map plus the margin.
    """
    ny, nx = geom.npix_shape
    turn = geom.turn
    if turn is not None and box is not None and box[1] - box[0] > len(turn):
        box = (turn.start, turn.stop, *box[2:])
    if margin is None and box is not None:
        x0, x1, y0, y1 = box
        if (x1 - x0) * (y1 - y0) > box_limit(geom):
            raise ValueError(
                f"spatial_model covers {x1 - x0} x {y1 - y0} pixels of the map's grid, more "
                f"than the {box_limit(geom)} allowed; give a margin around the map"
            )
        return box, False
    m = margin or 0
    whole = (-m, nx + m, -m, ny + m)
    if turn is not None:
        # No column is far from the map.
        across = (turn.start, turn.stop) if box is None else box[:2]
        whole = (*across, *whole[2:])
    if box is None:
        return whole, True
    x0, x1 = max(box[0], whole[0]), min(box[1], whole[1])
    y0, y1 = max(box[2], whole[2]), min(box[3], whole[3])
    if x0 >= x1 or y0 >= y1:
        return None, True
    return (x0, x1, y0, y1), (x0, x1, y0, y1) != box


def even_moments(
    model: Any, geom: WcsGeom, box: tuple[int, int, int, int], n_sub: int, degree: int = 0
) -> NDArray[np.float64]:
    """Moments of the flux in each pixel by n_sub x n_sub sub-pixels, (orders, y1 - y0, x1 - x0)."""
    x0, x1, y0, y1 = box
    y, x = (d.ravel() for d in np.mgrid[y0:y1, x0:x1])
    moments = brightness_moments(model, geom, (y, x), n_sub, degree) * geom.pixel_solid_angle(x, y)
    return moments.reshape(-1, y1 - y0, x1 - x0)


def adaptive_moments(
    model: Any,
    geom: WcsGeom,
    box: tuple[int, int, int, int],
    position: tuple[float, float],
    sizes: Extent,
    degree: int = 0,
) -> NDArray[np.float64]:
    """Moments of the flux in each pixel, by rectangles that are halved where the brightness varies.

    The first rectangles are the pixels. One is split in four until these agree with it to 3e-8 of
    the flux; their sum is then extrapolated, as the error of the mid-point rule falls by four.
    Rectangles on an edge are split in any case: five positions may well lie on the same side of it.

    The ``position`` is that of the source's centre (x, y) in pixels, the ``box`` has the pixel
    ranges (x0, x1, y0, y1). Result and ``degree`` as for `even_moments`.
    """
    x0, x1, y0, y1 = box
    iy, ix = (d.ravel() for d in np.mgrid[y0:y1, x0:x1])
    solid_angle = geom.pixel_solid_angle(ix, iy)
    must_split, smooth = _splitting(model, geom, position, sizes, degree)
    total = np.zeros((len(point_moments(0.0, 0.0, degree)), len(ix)))

    def flux(pixel: Array, x: Array, y: Array, side: float) -> Array:
        lon, lat = model_positions(model, geom, y + position[1], x + position[0])
        return brightness(model, lon, lat) * solid_angle[pixel] * side**2

    def add(pixel: Array, x: Array, y: Array, values: Array) -> None:
        for start in range(0, len(pixel), BLOCK):
            chunk = slice(start, start + BLOCK)
            own = pixel[chunk]
            dx, dy = x[chunk] + position[0] - ix[own], y[chunk] + position[1] - iy[own]
            for order, basis in zip(total, point_moments(dx, dy, degree), strict=True):
                order += np.bincount(own, basis * values[chunk], len(ix))

    pixel = np.arange(len(ix))
    # Offsets from the source, not pixel positions: those of tiny rectangles keep their digits.
    x, y, side = ix - position[0], iy - position[1], 1.0
    values = flux(pixel, x, y, side)
    level = 0
    while len(pixel):
        must = must_split(x, y, side, values)
        if side <= smooth:
            add(pixel, x, y, values)
            break
        child_x = x[:, np.newaxis] + side / 4 * np.array([-1, 1, -1, 1])
        child_y = y[:, np.newaxis] + side / 4 * np.array([-1, -1, 1, 1])
        fours = np.repeat(pixel, 4)
        parts = flux(fours, child_x.ravel(), child_y.ravel(), side / 2).reshape(-1, 4)
        sums = parts.sum(axis=1)
        done = ~must & (np.abs(sums - values) < _TOLERANCE)
        if not must.any():
            level += 1
        if level > _LEVELS or 4 * np.count_nonzero(~done) > _MAX_POINTS:
            done[:] = True
        # Next to an edge the extrapolation may fall below zero: there is nothing then.
        better = done & (sums + (sums - values) / 3 > 0)
        fine = 4 / 3 * parts[better].ravel()
        add(np.repeat(pixel[better], 4), child_x[better].ravel(), child_y[better].ravel(), fine)
        add(pixel[better], x[better], y[better], -values[better] / 3)
        left = ~done
        pixel = np.repeat(pixel[left], 4)
        x, y, values = child_x[left].ravel(), child_y[left].ravel(), parts[left].ravel()
        side /= 2
    return total.reshape(-1, y1 - y0, x1 - x0)


def _splitting(
    model: Any, geom: WcsGeom, position: tuple[float, float], sizes: Extent, degree: int
) -> tuple[Callable[..., Array], float]:
    """Whether rectangles must be split whatever their sums, and the side below which none is."""
    small, large = sorted(_pixel_sides(position, geom))
    core, feature = sizes.core / small, sizes.feature / large
    edge = min(_EDGE_POINT * max(sizes.edges, default=0.0) / large, _EDGE_PIXEL)
    # The extrapolated sum is exact for polynomials of the third degree.
    coarsest = min(1.0, 4 / (degree + 1))

    def must_split(x: Array, y: Array, side: float, values: Array) -> Array:
        must = (np.hypot(x, y) - side < core) & (side > feature)
        must |= (values > 0) & (side > coarsest)
        for radius in sizes.edges if side > edge else ():
            lon, lat = model_positions(model, geom, y + position[1], x + position[0])
            must |= _edge_distance(model, radius, lon, lat) < 0.75 * side * large
        return must

    return must_split, sizes.smooth / large


def _edge_distance(model: Any, radius: float, lon: Array, lat: Array) -> NDArray[np.float64]:
    """Lower limit on the distance [deg] from an ellipse around the centre of a model."""
    p = {name: float(value) for name, value in model.parameters.items()}
    e = p.get("e", 0.0)
    ellipse = ((p["lon_0"], p["lat_0"]), radius, e, p.get("phi", 0.0))
    distance = evaluate(lambda lon, lat: _from_ellipse(lon, lat, *ellipse), lon, lat)
    # Along the line to the centre the ellipse is further than at its nearest, by up to a / b.
    return np.rad2deg(distance) * math.sqrt(1 - e**2)


def _pixel_sides(position: tuple[float, float], geom: WcsGeom) -> tuple[float, float]:
    """Angles [deg] that one pixel spans along x and along y at a pixel position."""
    x, y = position
    points = [(x - 0.5, y), (x + 0.5, y), (x, y - 0.5), (x, y + 0.5)]
    lon, lat = (np.deg2rad(c) for c in geom.wcs.all_pix2world(*np.array(points).T, 0))
    v = unit_vectors(lon, lat)
    sides = np.rad2deg([np.linalg.norm(v[1] - v[0]), np.linalg.norm(v[3] - v[2])])
    if not np.isfinite(sides).all() or sides.min() <= 0:  # at the rim of a projection
        return tuple(geom.pixel_scales.to_value("deg"))
    return float(sides[0]), float(sides[1])
