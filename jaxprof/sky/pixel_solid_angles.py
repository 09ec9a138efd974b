"""Solid angles of pixels on the sphere, whose edges a projection bends."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

_BULGE = 3e-4  # part of a pixel's area by which the bends of its edges may change it
_RIM_DEPTH = 6  # pixels on the rim of a projection are resolved to this power of one half


def map_solid_angles(wcs: WCS, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Solid angles [sr] of the pixels of a map of a shape (ny, nx); see `pixel_solid_angles`."""
    ny, nx = shape
    y, x = np.indices((ny + 1, nx + 1)) - 0.5
    corner = _unit_vectors(wcs, x, y)
    along = _unit_vectors(wcs, x[:, :-1] + 0.5, y[:, :-1])
    across = _unit_vectors(wcs, x[:-1], y[:-1] + 0.5)
    # What every edge adds as it bends, once for the two pixels on its sides.
    below = _triangle_area(corner[:, :-1], along, corner[:, 1:])
    left = _triangle_area(corner[:-1], across, corner[1:])
    area = _quadrangle_area(corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1])
    bulge = np.stack([below[:-1], -below[1:], left[:, 1:], -left[:, :-1]])
    area = _extrapolated(area, bulge)
    return _completed(wcs, area, *np.indices(area.shape))


def pixel_solid_angles(wcs: WCS, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Solid angles of any pixels, on the map or off it.

    Parameters
    ----------
    wcs : WCS
        Celestial WCS of the map.
    x, y : array_like
        Zero-based pixel indices, any integers.

    Returns
    -------
    solid_angle : ndarray
        In sr, in the broadcast shape. The area of the spherical polygon with the pixel's
        corners and the middles of its edges as vertices, and that of the quadrangle of
        the corners, extrapolated to edges as the projection bends them (Richardson);
        the areas are sums of spherical triangles (Van Oosterom & Strackee 1983, IEEE
        Trans. Biomed. Eng. 30, 125). Where edges bend much, the pixel is cut into smaller
        ones. Of a pixel on the rim of the projection only the part on the sky counts;
        zero where there is none.
    """
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    area = _cell_area(wcs, x, y, 0.5)
    return _completed(wcs, area, y, x)


def _cell_area(
    wcs: WCS, x: NDArray[Any], y: NDArray[Any], half: float, last: bool = False
) -> NDArray[np.float64]:
    """Areas [sr] of squares around pixel positions; NaN where they are not known."""
    corner_x = np.stack([x - half, x + half, x + half, x - half])
    corner_y = np.stack([y - half, y - half, y + half, y + half])
    middle_x = np.stack([x, x + half, x, x - half])
    middle_y = np.stack([y - half, y, y + half, y])
    corner = _unit_vectors(wcs, corner_x, corner_y)
    bulge = _triangle_area(
        corner, _unit_vectors(wcs, middle_x, middle_y), np.roll(corner, -1, axis=0)
    )
    return _extrapolated(_quadrangle_area(*corner), bulge, last)


def _completed(
    wcs: WCS, area: NDArray[Any], y: NDArray[Any], x: NDArray[Any]
) -> NDArray[np.float64]:
    """Areas with the NaN replaced, on the rim by that of the part on the sky.

    The pixels are cut into four again and again where the rim runs through them or their
    edges bend.
    """
    area = np.array(area, dtype=np.float64)
    rim = np.flatnonzero(np.isnan(area))
    out = area.ravel()
    out[rim] = 0.0
    cx, cy = (np.ravel(v)[rim].astype(float) for v in (x, y))
    half, whole = 0.5, np.zeros(len(out))
    for depth in range(_RIM_DEPTH + 1):
        if not len(rim):
            break
        step = np.array([0.0, -half, half, half, -half])[:, None]
        rise = np.array([0.0, -half, -half, half, half])[:, None]
        on_sky = np.isfinite(_unit_vectors(wcs, cx + step, cy + rise)[..., 0])
        if depth == _RIM_DEPTH:
            # The last squares count by their centres, as large as the others of the pixel.
            part = np.bincount(rim[on_sky[0]], minlength=len(out)) * (2 * half) ** 2
            known = whole > 0
            out[known] *= 1 + part[known] / whole[known]
            break
        full = on_sky.all(axis=0)
        size = np.full(len(rim), np.nan)
        size[full] = _cell_area(wcs, cx[full], cy[full], half, depth == _RIM_DEPTH - 1)
        full = np.isfinite(size)
        out += np.bincount(rim[full], size[full], minlength=len(out))
        whole += np.bincount(rim[full], minlength=len(out)) * (2 * half) ** 2
        mixed = on_sky.any(axis=0) & ~full
        half /= 2
        rim = np.repeat(rim[mixed], 4)
        cx = (cx[mixed][:, None] + half * np.array([-1, 1, -1, 1])).ravel()
        cy = (cy[mixed][:, None] + half * np.array([-1, -1, 1, 1])).ravel()
    return out.reshape(area.shape)


def _unit_vectors(wcs: WCS, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Cartesian unit vectors of pixel positions; NaN off the projection."""
    lon, lat = wcs.all_pix2world(x.ravel(), y.ravel(), 0)
    lon, lat = np.deg2rad(lon), np.deg2rad(lat)
    v = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    return v.reshape(*x.shape, 3)


def _quadrangle_area(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any]
) -> NDArray[np.float64]:
    """Signed area of spherical quadrangles from their corners' unit vectors."""
    return _triangle_area(a, b, c) + _triangle_area(a, c, d)


def _extrapolated(
    area: NDArray[Any], bulge: NDArray[Any], last: bool = False
) -> NDArray[np.float64]:
    """Areas from those of quadrangles and what the middle of each edge adds to them, (4, ...).

    NaN where that is too much for an accuracy of 1e-6, unless it is the `last` resort.
    """
    added, size = bulge.sum(axis=0), np.abs(area)
    with np.errstate(invalid="ignore"):
        rough = (np.abs(added) > _BULGE * size) | (np.abs(bulge).sum(axis=0) > 30 * _BULGE * size)
    return np.where(rough & (not last), np.nan, np.abs(area + 4 / 3 * added))


def _triangle_area(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[np.float64]:
    # Differences before the product: the triple product of three nearly equal unit
    # vectors would lose the digits that a small pixel needs.
    triple = np.sum(a * np.cross(b - a, c - a), axis=-1)
    pairs = itertools.combinations((a, b, c), 2)
    denominator = 1 + sum(np.sum(p * q, axis=-1) for p, q in pairs)
    return 2 * np.arctan2(triple, denominator)
