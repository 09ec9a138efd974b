"""Positions of any frame as unit vectors, many at once."""

from __future__ import annotations

from typing import Any, TypeAlias

import astropy.units as u
import numpy as np
from astropy.coordinates import (
    CartesianRepresentation,
    SkyCoord,
    SphericalRepresentation,
    UnitSphericalRepresentation,
)

Array: TypeAlias = np.ndarray[Any, Any]
FrameGroups: TypeAlias = list[tuple[Array, Any]]
_SPHERICAL = (UnitSphericalRepresentation, SphericalRepresentation)


def unit_vectors(lon: Array, lat: Array) -> Array:
    """Unit vectors (..., 3) of longitudes and latitudes [rad]."""
    cos = np.cos(lat)
    return np.stack([cos * np.cos(lon), cos * np.sin(lon), np.sin(lat)], axis=-1)


def local_axes(lon: Array, lat: Array) -> tuple[Array, Array]:
    """Unit vectors (..., 3) to the east and the north at positions [rad], the poles included."""
    zero = np.zeros_like(lon)
    east = np.stack([-np.sin(lon), np.cos(lon), zero], axis=-1)
    sin = np.sin(lat)
    north = np.stack([-sin * np.cos(lon), -sin * np.sin(lon), np.cos(lat)], axis=-1)
    return east, north


def lonlat(vectors: Array) -> tuple[Array, Array]:
    """Longitude and latitude [rad] of vectors (..., 3) of any length."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def separation(a: Array, b: Array) -> Array:
    """Angle [rad] between vectors (..., 3), accurate for all angles."""
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1))


def read_coords(coords: list[SkyCoord]) -> tuple[Array, Array, Array, FrameGroups]:
    """Longitudes and latitudes of coordinates in their own frames.

    Objects are read one by one, so this avoids what is slow in astropy.

    Parameters
    ----------
    coords : list of SkyCoord
        Scalars or arrays of one axis, in any frames.

    Returns
    -------
    lon, lat : ndarray, shape (n,)
        [rad], of all coordinates one after the other.
    count : ndarray of int, shape (len(coords),)
        Number of positions of each.
    frames : list of (ndarray of int, frame)
        Indices of the positions of each frame.
    """
    lons, lats = [], []
    groups: list[Any] = []
    alike: dict[type, int] = {}  # frames without attributes, which are known by their type
    which = np.empty(len(coords), np.intp)
    for k, coord in enumerate(coords):
        frame = coord.frame
        data = frame.data
        if type(data) not in _SPHERICAL:
            data = data.represent_as(UnitSphericalRepresentation)
        lon, lat = data.lon, data.lat
        lons.append(lon.value if lon.unit is u.deg else lon.to_value(u.deg))
        lats.append(lat.value if lat.unit is u.deg else lat.to_value(u.deg))
        number = alike.get(type(frame), -1)
        if number < 0:
            number = _group(frame, groups, alike)
        which[k] = number
    count = np.fromiter(map(np.size, lons), np.intp, len(lons))
    of_position = np.repeat(which, count)
    frames = [(np.flatnonzero(of_position == number), frame) for number, frame in enumerate(groups)]
    return np.deg2rad(_joined(lons)), np.deg2rad(_joined(lats)), count, frames


def _joined(values: list[Any]) -> Array:
    """One array of scalars and arrays."""
    if all(map(np.isscalar, values)):  # concatenating scalars would take most of the time
        return np.array(values, dtype=float)
    return np.concatenate([np.atleast_1d(value) for value in values])


def _group(frame: Any, groups: list[Any], alike: dict[type, int]) -> int:
    """Number of the group of a frame, a new one where it is needed."""
    for number, known in enumerate(groups):
        if frame.is_equivalent_frame(known):
            return number
    groups.append(frame.replicate_without_data())
    if not frame.frame_attributes:
        alike[type(frame)] = len(groups) - 1
    return len(groups) - 1


def transformed(vectors: Array, own: Any, frame: Any) -> Array:
    """Unit vectors (n, 3) of another frame in that of a map."""
    if own.is_equivalent_frame(frame):
        return vectors
    data = CartesianRepresentation(vectors.T).represent_as(UnitSphericalRepresentation)
    moved = SkyCoord(own.realize_frame(data)).transform_to(frame)
    return moved.data.represent_as(UnitSphericalRepresentation).to_cartesian().xyz.value.T


def mean_directions(coords: list[SkyCoord], frame: Any) -> SkyCoord:
    """Mean direction of each of many coordinates, scalars or arrays in any frames.

    Parameters
    ----------
    coords : list of SkyCoord
        Scalars or arrays of one axis.
    frame : astropy frame
        Frame of the result.

    Returns
    -------
    SkyCoord, shape (len(coords),)
    """
    lon, lat, count, frames = read_coords(coords)
    same = all(own.is_equivalent_frame(frame) for _, own in frames)
    # Single positions in the frame already stay as they are, to the last bit.
    if len(count) < len(lon) or not same:
        vectors = unit_vectors(lon, lat)
        for members, own in frames:
            vectors[members] = transformed(vectors[members], own, frame)
        lon, lat = lonlat(np.add.reduceat(vectors, np.cumsum(count) - count, axis=0))
    data = UnitSphericalRepresentation(lon * u.rad, lat * u.rad)
    return SkyCoord(frame.realize_frame(data))
