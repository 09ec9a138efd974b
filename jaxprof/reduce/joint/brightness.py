"""Surface brightness of spatial models at positions on a map's pixel grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from jaxprof.sky import WcsGeom
from jaxprof.sky.moments import legendre_integrals, orders
from jaxprof.sky.regions.on_grid import GridRegion
from jaxprof.sky.regions.pixels import BLOCK
from jaxprof.sky.regions.sphere import lonlat, unit_vectors
from jaxprof.sky.template_map import TemplateSpatialModel
from jaxprof.types import Array

_CHUNK = 1 << 14  # positions for one call of a model, which is compiled for this size alone


def sky_frame(model: Any) -> Any:
    """Frame, as astropy takes it, of the positions that a spatial model is given."""
    if isinstance(model, TemplateSpatialModel):
        return wcs_to_celestial_frame(model.image.geom.wcs)
    return model.frame


def pixel_position(coord: SkyCoord, geom: WcsGeom) -> tuple[float, float]:
    """Pixel position (x, y) of a scalar coordinate; NaN off the projection."""
    # Without distortions, mode="wcs" keeps positions off the projection as NaN.
    mode = "all" if geom.wcs.has_distortion else "wcs"
    x, y = coord.to_pixel(geom.wcs, mode=mode)
    return float(x), float(y)


def model_positions(model: Any, geom: WcsGeom, y: Array, x: Array) -> tuple[Array, Array]:
    """Sky positions [deg] of pixel positions (n,) in a model's frame; NaN off the projection."""
    lon, lat = geom.wcs.all_pix2world(x, y, 0)
    coords = SkyCoord(lon, lat, unit="deg", frame=wcs_to_celestial_frame(geom.wcs))
    own = SkyCoord(0, 0, unit="deg", frame=sky_frame(model))
    if coords.is_equivalent_frame(own.frame):
        return np.asarray(lon), np.asarray(lat)
    moved = coords.transform_to(own.frame).spherical
    return moved.lon.deg, moved.lat.deg


def brightness(model: Any, lon: Array, lat: Array) -> NDArray[np.float64]:
    """Surface brightness [sr-1] at positions [deg] of shape (n,); zero where they are NaN."""
    if isinstance(model, TemplateSpatialModel):
        return model(lon, lat)
    return evaluate(model, lon, lat)


def evaluate(function: Any, lon: Array, lat: Array) -> NDArray[np.float64]:
    """Values of a JAX function of positions, shape (n,); zero where these are NaN.

    In float64 whatever the caller's JAX settings.
    """
    out = np.zeros(len(lon))
    known = np.flatnonzero(np.isfinite(lon + lat))
    with jax.enable_x64(True):
        for start in range(0, len(known), _CHUNK):
            chosen = known[start : start + _CHUNK]
            # Always the same number of positions: another one would be compiled again.
            padded = np.resize(chosen, _CHUNK)
            values = np.asarray(function(lon[padded], lat[padded]), dtype=np.float64)
            out[chosen] = values[: len(chosen)]
    return out


class PartsWithin(NamedTuple):
    """The parts of pixels that lie within a region."""

    region: GridRegion
    moments: Array
    """Of the part of each pixel within the region, (orders, n)."""


def brightness_moments(
    model: Any,
    geom: WcsGeom,
    pixels: tuple[Array, Array],
    n_sub: int,
    degree: int = 0,
    within: PartsWithin | None = None,
) -> NDArray[np.float64]:
    """Moments of the surface brightness of pixels, or of the parts of them within a region.

    The ``pixels``, rows and columns (n,), may be off the map. Positions of the ``n_sub`` sub-pixels
    along each side are interpolated linearly between the corners of the pixel on the unit sphere.
    With ``within`` only sub-pixels within the region count, in pixels it covers in part; their
    weights are adjusted to the moments of these parts.

    Returns
    -------
    ndarray, shape (orders, n)
        Up to a total degree, in sr-1: the first is the mean over the pixel, with zero outside of
        the region. Zero where a corner is off the projection.
    """
    y, x = pixels
    steps = (np.arange(n_sub) + 0.5) / n_sub - 0.5
    dy, dx = (d.ravel() for d in np.meshgrid(steps, steps, indexing="ij"))
    corner_y, corner_x = np.array([-0.5, -0.5, 0.5, 0.5]), np.array([-0.5, 0.5, -0.5, 0.5])
    bilinear = (0.5 + 2 * corner_y[:, None] * dy) * (0.5 + 2 * corner_x[:, None] * dx)
    basis = _sub_pixel_moments(n_sub, degree)
    out = np.empty((len(basis), len(y)))
    step = max(1, BLOCK // (4 * len(dy)))
    for start in range(0, len(y), step):
        chunk = slice(start, start + step)
        lon, lat = model_positions(
            model,
            geom,
            (y[chunk, None] + corner_y).ravel(),
            (x[chunk, None] + corner_x).ravel(),
        )
        corners = unit_vectors(np.deg2rad(lon), np.deg2rad(lat)).reshape(-1, 4, 3)
        points = lonlat(np.moveaxis(np.moveaxis(corners, -1, 0) @ bilinear, 0, -1))
        values = brightness(model, *(np.rad2deg(own).ravel() for own in points))
        values = values.reshape(-1, len(dy))
        if within is not None:
            parts = within.moments[:, chunk]
            cut = np.flatnonzero(parts[0] < 1)
            inside = within.region.contains(x[chunk][cut, None] + dx, y[chunk][cut, None] + dy)
            values[cut] *= _adjusted(inside, basis, parts[:, cut])
        out[:, chunk] = basis @ values.T
    return out


def _sub_pixel_moments(n: int, degree: int) -> NDArray[np.float64]:
    """Integrals of the Legendre polynomials over n x n sub-pixels, shape (orders, n * n)."""
    each = np.diff(legendre_integrals(degree, np.arange(n + 1) / n - 0.5), axis=1)
    return np.stack([np.outer(each[b], each[a]).ravel() for a, b in orders(degree)])


def _adjusted(inside: Array, basis: Array, parts: Array) -> NDArray[np.float64]:
    """Weights (n, sub-pixels) of sub-pixels, near one inside, with the moments of ``parts``.

    These are those of the first two degrees. Where no sub-pixel is inside all of them count alike.
    """
    inside = np.where(inside.any(axis=1, keepdims=True), inside, True)
    weights = inside * (parts[0] / (inside @ basis[0]))[:, np.newaxis]
    n = min(len(basis), len(orders(2))) - 1
    functions = basis[1 : 1 + n] / basis[0]
    mean = (weights @ basis[1 : 1 + n].T) / parts[0][:, np.newaxis]
    deviation = functions - mean[:, :, np.newaxis]
    spread = np.einsum("ns,nis,njs->nij", weights * basis[0], deviation, deviation)
    missing = parts[1 : 1 + n].T - parts[0][:, np.newaxis] * mean
    # Few sub-pixels cannot have all moments; those along a line have none across.
    spread += 1e-6 * parts[0][:, np.newaxis, np.newaxis] * np.eye(n)
    change = np.linalg.solve(spread, missing[..., np.newaxis])[..., 0]
    weights *= np.maximum(1 + np.einsum("ni,nis->ns", change, deviation), 0.0)
    return weights * (parts[0] / (weights @ basis[0]))[:, np.newaxis]
