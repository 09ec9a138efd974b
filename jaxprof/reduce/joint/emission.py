"""Where the photons of a region or of a source start: their share of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from jaxprof.models.spatial import ConstantSpatialModel, PointSpatialModel, SpatialModel
from jaxprof.reduce.joint.brightness import PartsWithin, brightness_moments, pixel_position
from jaxprof.reduce.joint.quadrature import (
    adaptive_moments,
    clipped,
    cutout,
    even_moments,
    extent,
)
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.sky.closed import unwrapped
from jaxprof.sky.moments import orders, point_moments
from jaxprof.sky.regions.centers import region_centers
from jaxprof.sky.regions.conversion import region_list, stack_coords
from jaxprof.sky.regions.coverage import pixel_moments
from jaxprof.sky.regions.makers import whole_number
from jaxprof.sky.regions.on_grid import grid_regions
from jaxprof.sky.regions.pixels import RegionPixels, box_limit, pixel_solid_angles, region_pixels
from jaxprof.sky.template_map import TemplateSpatialModel
from jaxprof.types import Array


@dataclass(frozen=True, eq=False)
class Emission:
    """Share of the flux of a component that starts in each pixel of a map's grid."""

    y0: int
    x0: int
    """Pixel of ``moments[:, 0, 0]``; it may be off the map, also negative."""
    moments: NDArray[np.float64]
    """Legendre moments of the emission within each pixel (`jaxprof.sky.moments`). The first are the
    shares of the pixels. They sum to one over the unbounded grid: pixels off the map count. A
    single zero stands for a component that is not on the map's projection; (orders, h, w)."""
    center: SkyCoord
    """Scalar; where the responses are taken."""
    solid_angle: float
    """Of the whole region [sr]; NaN for sources."""
    offset: tuple[float, float] | None = None
    """For a point source its position (dx, dy), in pixels from the centre of the pixel
    ``(y0, x0)``; the moments then are ``[[[1.0]]]``. None for anything else."""
    by_energy: NDArray[np.float64] | None = None
    """Shares at each true energy of a dataset over ``weights``, for template cubes, (T, h, w)."""
    integral: float = np.nan
    """Of the brightness of the template over a region, or its solid angle [sr]; NaN for sources."""

    @property
    def weights(self) -> NDArray[np.float64]:
        """Shares of the pixels, shape (h, w)."""
        return self.moments[0]

    def ratios(self) -> NDArray[np.float64]:
        """Moments beyond the first, for a share of one, shape (orders - 1, h, w)."""
        return self.moments[1:] / np.where(self.weights > 0, self.weights, 1.0)

    def centroids(self) -> NDArray[np.float64] | None:
        """Mean position (dy, dx) of the emission in each pixel, in pixels from its centre.

        Shape (2, h, w); None if it is in the centre of all.
        """
        if self.offset is not None:
            return np.array(self.offset[::-1]).reshape(2, 1, 1)
        if len(self.moments) == 1:
            return None
        return 0.5 * self.ratios()[1::-1]

    def variance(self) -> float:
        """Variance of where photons start in their pixel, in x and y alike [pixel2]."""
        if self.offset is not None:
            return 0.0
        if len(self.moments) < 6:
            return 1 / 12
        # Of the orders (2, 0) and (0, 2), less the squares of the mean positions.
        ratios = self.ratios()
        own = (1 + ratios[2] + ratios[4]) / 12 - 0.125 * (ratios[0] ** 2 + ratios[1] ** 2)
        total = self.weights.sum()
        return float(np.sum(own * self.weights) / total) if total > 0 else 0.0


def centers_of(emissions: Sequence[Emission]) -> SkyCoord:
    """Where the responses of components are taken, (C,), in the frame of the first."""
    frame = emissions[0].center.frame.replicate_without_data()
    return stack_coords([emission.center for emission in emissions], frame)


def region_emissions(
    regions: Any, geom: WcsGeom, *, template: Any = None, oversampling: int = 10, degree: int = 0
) -> list[Emission]:
    """Spread flux over regions, evenly or as a template does.

    A pixel's share is the part of it that lies within the region, times its solid angle, times the
    mean brightness of the template within that part, over the sum of these products. Areas and
    moments of the parts are exact for boxes, circles, ellipses, annuli and polygons
    (`pixel_moments`), whose outlines on the sphere are projected onto the pixel grid. Regions may
    be compound ones, overlap and leave the map.

    Parameters
    ----------
    template : SpatialModel, TemplateSpatialModel or WcsNDMap, or a list of them, optional
        Surface brightness within the regions, of all or, as a list, of each (None in the
        list for an even one). Only its ratios within a region count.
    oversampling : int
        Sub-pixels along each side of a pixel, for templates and for the pixels of compound
        regions where outlines of their parts meet. With 1 a pixel belongs to a region when
        its centre does, as in `region_pixels`, whatever the shape, and emission is even in it.
    degree : int
        Largest total degree of the moments.

    Returns
    -------
    list of Emission
        One per region. Regions too small for any area are points (with ``oversampling=1`` those
        without any pixel centre put all their flux into the pixel that holds their centre); regions
        that the projection cannot show have a single weight of zero.

    Raises
    ------
    ValueError
        For what `region_list` and `region_pixels` refuse, an `oversampling` below one, a
        template that is not one, is a point, or is zero all over a region.
    """
    items = region_list(regions)
    n_sub = whole_number(oversampling, "oversampling")
    if n_sub == 1:
        degree = 0
    templates = _templates(template, len(items))
    pixel_regions = grid_regions(items, geom)
    geom = geom.closed()
    # The parts of a compound region are on the map alone: they may lie on both sides of its seam.
    pixel_regions = [
        region if region.parts else replace(region, geom=geom) for region in pixel_regions
    ]
    # Regions may be in any frame; all else happens in that of the map.
    centers = region_centers(items).transform_to(wcs_to_celestial_frame(geom.wcs))
    limit = box_limit(geom)
    if n_sub == 1:
        parts = [_centres_within(own) for own in region_pixels(items, geom)]
    else:
        parts = [
            pixel_moments(i, region, limit, n_sub, degree) for i, region in enumerate(pixel_regions)
        ]
    placed = [
        part or _nearest_pixel(region_center, geom, degree)
        for part, region_center in zip(parts, centers, strict=True)
    ]
    where = [np.nonzero(moments[0]) for _, _, moments in placed]
    y = [y0 + iy for (y0, _, _), (iy, _) in zip(placed, where, strict=True)]
    x = [x0 + ix for (_, x0, _), (_, ix) in zip(placed, where, strict=True)]
    sizes = pixel_solid_angles(geom, np.concatenate(y), np.concatenate(x))
    pieces = np.split(sizes, np.cumsum([len(column) for column in x])[:-1])
    out = []
    for i, ((y0, x0, moments), inside) in enumerate(zip(placed, where, strict=True)):
        own = moments[:, inside[0], inside[1]]
        solid_angle = float(np.sum(own[0] * pieces[i]))
        if templates[i] is not None and solid_angle > 0:
            pixels = y[i], x[i]
            if parts[i] is None:
                own = own * brightness_moments(templates[i], geom, pixels, n_sub)
            else:
                within = PartsWithin(pixel_regions[i], own)
                own = brightness_moments(templates[i], geom, pixels, n_sub, degree, within)
            if not own[0].sum() > 0:
                raise ValueError(
                    f"template is zero all over regions[{i}]; give one that covers the region, "
                    "or a list of templates with None for an even brightness there"
                )
        shares = np.zeros((len(orders(degree)), *moments.shape[1:]))
        integral = float(np.sum(own[0] * pieces[i]))
        if solid_angle > 0:
            shares[:, inside[0], inside[1]] = own * pieces[i] / integral
        out.append(Emission(y0, x0, shares, centers[i], solid_angle, integral=integral))
    return out


def source_emission(
    spatial_model: Any,
    geom: WcsGeom,
    *,
    oversampling: int | None = None,
    margin: int | None = None,
    degree: int = 0,
) -> Emission:
    """Spread the flux of a source over pixels; the shares sum to one unless `margin` cuts it.

    The source may be in any frame. A `ConstantSpatialModel` is even over the map, and its whole
    flux on it; all others have the integral one over the sky.

    Parameters
    ----------
    oversampling : int, optional
        Sub-pixels along each side of a pixel. By default pixels are split further where the
        brightness varies, so that shares are right to 1e-4 of the largest one also for
        sources far smaller than a pixel; for templates, twice as finely as their own
        pixels, at most 10.
    margin : int, optional
        Pixels off the map that are kept on each side; what is further out is lost. By
        default as many as hold all but 1e-6 of the flux (a template: all of it).
    degree : int
        Largest total degree of the moments.

    Raises
    ------
    ValueError
        If the model is not a spatial model, the map's projection cannot show the centre of
        the source, the source covers too many pixels for a missing `margin`, or an integer
        is out of range.
    """
    if isinstance(spatial_model, WcsNDMap):
        spatial_model = TemplateSpatialModel(spatial_model)
    if not isinstance(spatial_model, SpatialModel | TemplateSpatialModel):
        raise ValueError(
            f"spatial_model is a {type(spatial_model).__name__}; give a spatial model such as "
            "PointSpatialModel, or a map"
        )
    n_sub = None if oversampling is None else whole_number(oversampling, "oversampling")
    kept = None if margin is None else whole_number(margin, "margin", least=0)
    geom = geom.closed()
    if isinstance(spatial_model, ConstantSpatialModel):
        size = geom.solid_angle().to_value("sr")
        return Emission(0, 0, (size / size.sum())[np.newaxis], geom.center_skydir, np.nan)
    if isinstance(spatial_model, TemplateSpatialModel):
        return _template_emission(spatial_model, geom, n_sub, kept, degree)
    center, position = _source_place(spatial_model, geom)
    if isinstance(spatial_model, PointSpatialModel):
        x0, y0 = (int(np.ceil(p - 0.5)) for p in position)
        offset = (position[0] - x0, position[1] - y0)
        return Emission(y0, x0, np.ones((1, 1, 1)), center, np.nan, offset)
    sizes = extent(spatial_model)
    box, cut = clipped(cutout(center, sizes.radius, geom), geom, kept)
    if box is None:
        return Emission(0, 0, np.zeros((1, 1, 1)), center, np.nan)
    if n_sub is None:
        moments = adaptive_moments(spatial_model, geom, box, position, sizes, degree)
    else:
        moments = even_moments(spatial_model, geom, box, n_sub, degree)
    return Emission(box[2], box[0], moments if cut else _normalised(moments), center, np.nan)


def _normalised(moments: Array) -> Array:
    """Moments whose shares sum to one, unless all are zero."""
    total = moments[0].sum()
    return moments / total if total > 0 else moments


def _source_place(model: Any, geom: WcsGeom) -> tuple[SkyCoord, tuple[float, float]]:
    """Centre of a source in the frame of the map, and its pixel position (x, y)."""
    lon, lat = float(model.lon_0), float(model.lat_0)
    try:
        own = SkyCoord(lon, lat, unit="deg", frame=model.frame)
    except ValueError as err:
        raise ValueError(
            f"spatial_model has the frame {model.frame!r}; give one that astropy knows, "
            "such as 'icrs' or 'galactic'"
        ) from err
    center = own.transform_to(wcs_to_celestial_frame(geom.wcs))
    x, y = pixel_position(center, geom)
    if not np.isfinite(x + y):
        raise ValueError(
            f"spatial_model is centred at ({lon:g}, {lat:g}) deg ({model.frame}), which the "
            "map's projection cannot show; leave the source out"
        )
    return center, (x, y)


def _template_emission(
    model: TemplateSpatialModel, geom: WcsGeom, n_sub: int | None, margin: int | None, degree: int
) -> Emission:
    own = model.image.geom
    ny, nx = own.npix_shape
    x, y = (np.linspace(-0.5, n - 0.5, 65) for n in (nx, ny))
    corners = own.wcs.pixel_to_world(*np.meshgrid(x, y))
    px, py = (np.asarray(p) for p in corners.to_pixel(geom.wcs, mode="wcs"))
    middle = own.center_skydir.transform_to(wcs_to_celestial_frame(geom.wcs))
    px = unwrapped(px, np.nan_to_num(pixel_position(middle, geom)[0]), geom.turn)
    known = np.isfinite(px + py)
    box = None
    if known.all():
        # What lies between the points may bulge out a little.
        pad = 1 + int(0.02 * max(np.ptp(px), np.ptp(py)))
        box = (
            int(np.floor(px.min())) - pad,
            int(np.ceil(px.max())) + pad + 1,
            int(np.floor(py.min())) - pad,
            int(np.ceil(py.max())) + pad + 1,
        )
    box, cut = clipped(box, geom, margin)
    if box is None:
        return Emission(0, 0, np.zeros((1, 1, 1)), middle, np.nan)
    if n_sub is None:
        n_sub = template_oversampling(own, geom)
    moments = even_moments(model, geom, box, n_sub, degree)
    return Emission(box[2], box[0], moments if cut else _normalised(moments), middle, np.nan)


def template_oversampling(own: WcsGeom, geom: WcsGeom) -> int:
    """Sub-pixels along each side of a pixel that are half as large as those of a template."""
    ratio = np.max(geom.pixel_scales.to_value("deg")) / np.min(own.pixel_scales.to_value("deg"))
    return int(np.clip(np.ceil(2 * ratio), 2, 10))


def _centres_within(pixels: RegionPixels) -> tuple[int, int, Array] | None:
    """Moments of whole pixels by the membership of their centres; None without any."""
    y, x = pixels.y, pixels.x
    if len(y) == 0:
        return None
    y0, x0 = int(y.min()), int(x.min())
    moments = np.zeros((1, int(y.max()) - y0 + 1, int(x.max()) - x0 + 1))
    moments[0, y - y0, x - x0] = 1.0
    return y0, x0, moments


def _nearest_pixel(center: SkyCoord, geom: WcsGeom, degree: int) -> tuple[int, int, Array]:
    """All of a tiny region at its centre; nothing where there is none."""
    x, y = pixel_position(center, geom)
    if not np.isfinite(x + y):
        return 0, 0, np.zeros((1, 1, 1))
    x0, y0 = int(np.ceil(x - 0.5)), int(np.ceil(y - 0.5))
    return y0, x0, point_moments(x - x0, y - y0, degree).reshape(-1, 1, 1)


def _templates(template: Any, n: int) -> list[Any]:
    """One checked template for each of n regions, None for an even brightness."""
    if isinstance(template, list | tuple):
        if len(template) != n:
            raise ValueError(
                f"template is a list of {len(template)}, and there are {n} regions; "
                "give one (or None) for each, or a single template for all"
            )
        return [template_model(item, f"template[{i}]") for i, item in enumerate(template)]
    return [template_model(template, "template")] * n


def template_model(template: Any, name: str) -> Any:
    """A checked template, None for an even brightness; ``name`` is for messages."""
    if template is None or isinstance(template, ConstantSpatialModel):
        return None
    if isinstance(template, WcsNDMap):
        return TemplateSpatialModel(template)
    if isinstance(template, PointSpatialModel):
        raise ValueError(
            f"{name} is a PointSpatialModel, which has no surface brightness; "
            "give a point source as one of the sources, or a narrow Gaussian"
        )
    if not isinstance(template, SpatialModel | TemplateSpatialModel):
        raise ValueError(
            f"{name} is a {type(template).__name__}; give a spatial model such as "
            "GaussianSpatialModel, a map, or None for an even brightness"
        )
    return template
