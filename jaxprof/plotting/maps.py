"""Figures of sky maps and of regions on the sky."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.visualization import (
    AsinhStretch,
    ImageNormalize,
    LinearStretch,
    LogStretch,
    SqrtStretch,
)
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord, skycoord_to_pixel, wcs_to_celestial_frame
from matplotlib import pyplot as plt
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from regions import CompoundSkyRegion

from jaxprof.plotting.options import IMSHOW, PCOLORMESH, check_options
from jaxprof.plotting.style import set_label, unit_label
from jaxprof.sky.geometry import WcsGeom
from jaxprof.sky.regions import region_centers
from jaxprof.sky.regions.conversion import region_list

_STRETCHES = {
    "linear": LinearStretch,
    "sqrt": SqrtStretch,
    "log": LogStretch,
    "asinh": AsinhStretch,
}


def plot_map(
    map_: Any,
    *,
    ax: Any = None,
    stretch: str = "linear",
    add_cbar: bool = False,
    cbar_label: str | None = None,
    cmap: Any = "inferno",
    vmin: float | None = None,
    vmax: float | None = None,
    **kwargs: Any,
) -> Any:
    """Draw a sky image.

    Parameters
    ----------
    map_ : WcsNDMap
        Image, or cube with a single plane.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Where to draw. Axes of another projection are fine: the pixels then are drawn as
        quadrangles. Default: new axes, in the current figure if that is empty.
    stretch : {"linear", "sqrt", "log", "asinh"}
        How values become colours.
    add_cbar : bool
        Whether to add a colour bar.
    cbar_label : str, optional
        Its label. By default the unit; without one "Counts" for whole numbers, "Value per pixel"
        for others, or "Inside" for a mask.
    cmap : str or `~matplotlib.colors.Colormap`
        Colour map.
    vmin, vmax : float, optional
        Values of the first and the last colour, in the unit of the map. Default: the
        smallest and the largest finite value.
    **kwargs
        Passed to `~matplotlib.axes.Axes.imshow` (or ``pcolormesh`` on axes of another
        projection).

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        The axes.

    Raises
    ------
    ValueError
        If the map has more than one plane, the stretch is unknown, or `ax` has no sky
        coordinates.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_map, AxesImage, (*PCOLORMESH, *IMSHOW))
    if stretch not in _STRETCHES:
        raise ValueError(f"stretch must be one of {', '.join(_STRETCHES)}; got {stretch!r}")
    data = np.asarray(map_.data)
    if data.ndim < 2 or data[..., 0, 0].size != 1:
        raise ValueError(
            f"map_ has {data[..., 0, 0].size} planes (data of shape {data.shape}) and a figure "
            "shows one; add them up with map_.sum_over_axes()"
        )
    is_mask = data.dtype == bool
    ny, nx = int(data.shape[-2]), int(data.shape[-1])
    image: NDArray[np.float64] = data.reshape(ny, nx).astype(np.float64)
    wcs = map_.geom.wcs
    ax = _sky_axes(ax, wcs, (ny, nx))

    norm = kwargs.pop("norm", None)
    if norm is None:
        finite = image[np.isfinite(image)]
        low = (float(finite.min()) if finite.size else 0.0) if vmin is None else float(vmin)
        high = (float(finite.max()) if finite.size else 1.0) if vmax is None else float(vmax)
        if not high > low:  # a constant image has no range to spread colours over
            high = low + 1.0
        norm = ImageNormalize(vmin=low, vmax=high, stretch=_STRETCHES[stretch](), clip=False)
    kwargs = {"cmap": cmap, "norm": norm, **kwargs}
    if _same_pixels(ax.wcs, wcs):
        artist = ax.imshow(image, **{"origin": "lower", "interpolation": "nearest", **kwargs})
    else:
        for name in ("origin", "interpolation", "extent"):
            kwargs.pop(name, None)
        x, y = _corners_on(ax.wcs, wcs, (ny, nx))
        bad = ~np.isfinite(x + y)  # out of the projection of the axes
        hidden = bad[1:, 1:] | bad[1:, :-1] | bad[:-1, 1:] | bad[:-1, :-1] | ~np.isfinite(image)
        x, y = np.where(bad, 0.0, x), np.where(bad, 0.0, y)
        artist = ax.pcolormesh(x, y, np.ma.array(image, mask=hidden), **kwargs)
    _label_sky(ax)
    if add_cbar:
        # A map without a unit does not say what it is: whole numbers are taken for counts.
        whole = np.all(image[np.isfinite(image)] % 1 == 0)
        plain = "Counts" if whole else "Value per pixel"
        label = "Inside" if is_mask else unit_label(map_.unit) or plain
        _add_colorbar(ax, artist, label if cbar_label is None else cbar_label)
    return ax


def plot_regions(
    regions: Any,
    *,
    ax: Any = None,
    wcs: WCS | None = None,
    geom: WcsGeom | None = None,
    **kwargs: Any,
) -> Any:
    """Draw the outlines of sky regions.

    Parameters
    ----------
    regions : SkyRegion, Regions, RegionGeom or iterable of SkyRegion
        Sky regions. What lies off the map is cut off at its frame.
    ax : `~astropy.visualization.wcsaxes.WCSAxes`, optional
        Where to draw, usually the axes of a map. Default: new axes, in the current figure
        if that is empty.
    wcs : `~astropy.wcs.WCS`, optional
        Projection of new axes; by default a tangential one (plate carree beyond 60 deg)
        around all regions.
    geom : WcsGeom, optional
        Map whose projection and frame new axes get; instead of `wcs`.
    **kwargs
        Passed to the patches of `~matplotlib.patches`: `color` (white on an image, blue
        without one), `linewidth`, `linestyle`, `alpha`, ... Give `facecolor` for a fill.

    Returns
    -------
    ax : `~astropy.visualization.wcsaxes.WCSAxes`
        The axes.

    Raises
    ------
    ValueError
        If there are no regions, or `ax` has no sky coordinates.
    TypeError
        For an option that is not known.
    """
    check_options(kwargs, plot_regions, Patch)
    items = region_list(regions)
    if ax is None:
        if geom is not None:
            ax = _sky_axes(None, geom.wcs, geom.npix_shape)
            ny, nx = geom.npix_shape
            ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
        else:
            wcs = _wcs_around(items) if wcs is None else wcs
            extent = pixel_extent(items, wcs)
            low, high = np.ones((2, 2)) if extent is None else extent
            pad = 0.05 * max(*(high - low), 1.0)
            xlim, ylim = np.stack([low - pad, high + pad]).T
            ax = _sky_axes(None, wcs, (ylim[1] - ylim[0], xlim[1] - xlim[0]))
            ax.set(xlim=xlim, ylim=ylim, aspect="equal")
        _label_sky(ax)
    else:
        _check_sky_axes(ax)
    color = kwargs.pop("color", None)
    if color is not None:
        kwargs.setdefault("edgecolor", color)
    fill = "facecolor" in kwargs or kwargs.get("fill", False)
    for region in items:
        style = {"linewidth": 1.0, **kwargs, "fill": fill}
        if not {"color", "edgecolor"} & set(region.visual):
            style.setdefault("edgecolor", "w" if ax.images or ax.collections else "tab:blue")
        for artist in _artists(region, ax.wcs, style):
            # add_artist, unlike add_patch, leaves the limits of the image alone.
            ax.add_artist(artist)
    return ax


def _artists(region: Any, wcs: WCS, style: dict[str, Any]) -> list[Any]:
    """Patches of one region: none where it is out of the projection."""
    if isinstance(region, CompoundSkyRegion):
        return _artists(region.region1, wcs, style) + _artists(region.region2, wcs, style)
    coords = getattr(region, "vertices", None)
    x, y = skycoord_to_pixel(region.center if coords is None else coords, wcs, mode="wcs")
    if not np.isfinite(x + y).all():
        return []
    return [region.to_pixel(wcs).as_artist(**style)]


def pixel_extent(regions: list[Any], wcs: WCS) -> NDArray[np.float64] | None:
    """Lowest and highest pixels (x, y) of regions together, (2, 2); None if none is in sight."""
    extents = [
        artist.get_path().get_extents(artist.get_patch_transform())
        for region in regions
        for artist in _artists(region, wcs, {})
    ]
    if not extents:
        return None
    low, high = (np.array([getattr(e, end) for e in extents]) for end in ("min", "max"))
    return np.stack([low.min(axis=0), high.max(axis=0)])


def _wcs_around(regions: list[Any]) -> WCS:
    """Projection with its centre in the middle of all regions."""
    centers = region_centers(regions)
    frame = "galactic" if centers.frame.name == "galactic" else "icrs"
    centers = centers.transform_to(frame)
    mean = centers.cartesian.xyz.value.mean(axis=1)
    lon = float(np.rad2deg(np.arctan2(mean[1], mean[0])))
    lat = float(np.rad2deg(np.arctan2(mean[2], np.hypot(mean[0], mean[1]))))
    middle = SkyCoord(lon, lat, unit="deg", frame=frame)
    wide = middle.separation(centers).deg.max() > 30
    center, proj = ((lon, 0.0), "CAR") if wide else ((lon, lat), "TAN")
    return WcsGeom.create(center, binsz=0.01, npix=1, frame=frame, proj=proj).wcs


def _check_sky_axes(ax: Any) -> None:
    if not isinstance(ax, WCSAxes):
        raise ValueError(
            f"ax is a {type(ax).__name__} without sky coordinates; make one with "
            "plt.subplot(projection=map_.geom.wcs), or leave ax out"
        )


def _sky_axes(ax: Any, wcs: WCS, shape: tuple[float, ...]) -> Any:
    """Axes with sky coordinates: those given, in an empty figure, or in a new one."""
    if ax is not None:
        _check_sky_axes(ax)
        return ax
    if plt.get_fignums() and not plt.gcf().axes:
        figure = plt.gcf()
    else:
        height = float(np.clip(1.0 + 6.0 * shape[0] / shape[1], 2.4, 7.0))
        figure = plt.figure(figsize=(7.0, height), layout="tight")
    ax = figure.add_subplot(projection=wcs)
    # The background takes on new limits when it is drawn, which is too late for the layout.
    ax.patch.set_in_layout(False)
    return ax


def _add_colorbar(ax: Any, artist: Any, label: str) -> None:
    """Colour bar as tall as the map, which keeps its aspect and so rarely fills its place."""
    bar = ax.figure.colorbar(artist, ax=ax, pad=0.03, fraction=0.12)
    bar.ax.set_box_aspect(None)
    bar.ax.set_axes_locator(_Beside(ax, bar.ax))
    bar.ax.apply_aspect(bar.ax.get_axes_locator()(bar.ax, None))
    set_label(bar.ax.yaxis, label)


class _Beside:
    """Place of a colour bar: at the right of the map, after its aspect has been applied."""

    def __init__(self, ax: Any, bar: Any) -> None:
        self.ax = ax
        # tight_layout looks for this on the locator.
        self.get_subplotspec = bar.get_subplotspec

    def __call__(self, bar: Any, renderer: Any) -> Bbox:
        bar.set_box_aspect(None)  # layouts set it anew
        locator = self.ax.get_axes_locator()
        self.ax.apply_aspect(locator(self.ax, renderer) if locator else None)
        box = self.ax.get_position()
        return Bbox.from_bounds(box.x1 + 0.015, box.y0, 0.02, box.height)


def _label_sky(ax: Any) -> None:
    galactic = wcs_to_celestial_frame(ax.wcs).name == "galactic"
    names = ("Galactic Longitude", "Galactic Latitude") if galactic else (
        "Right Ascension", "Declination",
    )  # fmt: skip
    for coord, name in zip(ax.coords, names, strict=False):
        coord.set_axislabel(name)
    # "30'" alone does not tell its degree; hours and minutes of right ascension are too long.
    if galactic:
        ax.coords[0].set_ticks(number=4)
    ax.coords[0].set_ticklabel(exclude_overlapping=True, simplify=not galactic)
    ax.coords[1].set_ticklabel(exclude_overlapping=True, simplify=False)


def _same_pixels(a: WCS, b: WCS) -> bool:
    """Whether pixel coordinates of two WCS mean the same directions."""
    if a is b:
        return True
    corners = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    if wcs_to_celestial_frame(a).name != wcs_to_celestial_frame(b).name:
        return False
    there = a.wcs_pix2world(corners, 0), b.wcs_pix2world(corners, 0)
    return list(a.wcs.ctype) == list(b.wcs.ctype) and np.allclose(
        *there, rtol=0, atol=1e-7, equal_nan=True
    )


def _corners_on(
    target: WCS, wcs: WCS, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel corners of one WCS in pixels of another."""
    y, x = np.indices((shape[0] + 1, shape[1] + 1)) - 0.5
    x, y = skycoord_to_pixel(pixel_to_skycoord(x, y, wcs), target, mode="wcs")
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)
