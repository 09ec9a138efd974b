"""Membership of sky positions in regions by spherical trigonometry in plain numpy.

Written without the package's vectors: longitudes and latitudes, haversines, position angles and
gnomonic projections.
"""

from __future__ import annotations

import numpy as np
from regions import CompoundSkyRegion, PolygonSkyRegion


def offsets(center, lon, lat):
    """Separation and position angle [rad] of positions [rad] from a centre."""
    lon_0, lat_0 = center.spherical.lon.rad, center.spherical.lat.rad
    dlon = lon - lon_0
    north = np.cos(lat_0) * np.sin(lat) - np.sin(lat_0) * np.cos(lat) * np.cos(dlon)
    east = np.cos(lat) * np.sin(dlon)
    along = np.sin(lat_0) * np.sin(lat) + np.cos(lat_0) * np.cos(lat) * np.cos(dlon)
    return np.arctan2(np.hypot(east, north), along), np.arctan2(east, north)  # Vincenty


def _ellipse(separation, angle, width, height):
    a, b = width.to_value("rad") / 2, height.to_value("rad") / 2
    radius = a * b / np.hypot(b * np.cos(angle), a * np.sin(angle))
    return separation < radius


def _box(separation, angle, width, height):
    # Sine and cosine rules in the triangle of the centre, the position and the pole of the box.
    lat = np.arcsin(np.clip(np.sin(separation) * np.sin(angle), -1, 1))
    lon = np.arctan2(np.sin(separation) * np.cos(angle), np.cos(separation))
    return (np.abs(lon) < width.to_value("rad") / 2) & (np.abs(lat) < height.to_value("rad") / 2)


def _polygon(region, coords):
    """Even-odd rule in a gnomonic projection about the mean direction of the vertices."""
    v = region.vertices.cartesian.xyz.value.T
    middle = v.mean(axis=0) / np.linalg.norm(v.mean(axis=0))
    east = np.cross([0.3, 0.5, 0.8], middle)
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    p = coords.transform_to(region.vertices.frame).cartesian.xyz.value.T
    ahead = p @ middle > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (p @ east) / (p @ middle), (p @ north) / (p @ middle)
    vx, vy = (v @ east) / (v @ middle), (v @ north) / (v @ middle)
    assert (v @ middle > 0).all()
    inside = np.zeros(len(p), bool)
    for i in range(len(v)):
        j = (i + 1) % len(v)
        between = (vy[i] > y) != (vy[j] > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = vx[i] + (y - vy[i]) * (vx[j] - vx[i]) / (vy[j] - vy[i])
        inside ^= between & (x < crossing)
    return inside & ahead


def members(region, coords):
    """Which positions (a SkyCoord of one axis) lie in a region."""
    if isinstance(region, CompoundSkyRegion):
        return region.operator(members(region.region1, coords), members(region.region2, coords))
    if isinstance(region, PolygonSkyRegion):
        return _polygon(region, coords)
    own = coords.transform_to(region.center.frame).spherical
    separation, position_angle = offsets(region.center, own.lon.rad, own.lat.rad)
    if hasattr(region, "radius"):
        return separation < region.radius.to_value("rad")
    if hasattr(region, "inner_radius"):
        inner, outer = (
            getattr(region, k).to_value("rad") for k in ("inner_radius", "outer_radius")
        )
        return (separation >= inner) & (separation < outer)
    # The height is at the position angle of the region's angle, the width 90 deg further.
    angle = position_angle - np.pi / 2 - region.angle.to_value("rad")
    shape = _ellipse if "Ellipse" in type(region).__name__ else _box
    if hasattr(region, "width"):
        return shape(separation, angle, region.width, region.height)
    inner = shape(separation, angle, region.inner_width, region.inner_height)
    return shape(separation, angle, region.outer_width, region.outer_height) & ~inner
