"""Sources in the field: a spectrum and a place on the sky."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray
from scipy import ndimage

from jaxprof.models.spatial import SpatialModel
from jaxprof.models.spectral_base import SpectralModel
from jaxprof.models.units import attach, is_quantity, to_value
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.sky.template_cube import TemplateCube


class TemplateSpatialModel:
    """Surface brightness given by a map, such as a gas map, or by a map for each energy.

    Parameters
    ----------
    map : WcsNDMap
        Image, or a cube. Values are a surface brightness in any unit; only their ratios count.
        Between the pixel centres they are interpolated linearly along both pixel axes, off the map
        they are zero.

        A cube with an axis "energy_true" of several bins has a brightness for each energy (the
        centre of the bin), such as the Galactic diffuse emission. It is folded energy by energy: at
        each of them its integral is one, as with ``normalize=True`` in gammapy, and the flux is
        that of the spectral model. Between two energies each pixel follows a power law (or is
        linear in log energy, where it is zero at one of them); beyond the first and the last energy
        nothing changes. A cube with any other axis is summed over it.

    Raises
    ------
    ValueError
        If `map` is not a map, or has values that are negative or not finite, or no
        positive one (at one of the energies).

    Attributes
    ----------
    image : WcsNDMap
        The image, or the sum over the energies, in sr-1: its values times the pixels' solid angles
        sum to one.
    integral : Quantity
        Integral of the map over the sky, in its unit times sr.
    cube : TemplateCube or None
        The brightness at each energy.
    """

    tag: ClassVar[str] = "template"

    def __init__(self, map: WcsNDMap) -> None:
        if not isinstance(map, WcsNDMap):
            raise ValueError(
                f"map is a {type(map).__name__}; give a WcsNDMap (MapDataset files: "
                "read them, or put an array on a WcsGeom)"
            )
        data = map.data.astype(np.float64)
        wrong = np.count_nonzero(~np.isfinite(data))
        if wrong:
            raise ValueError(f"map has {wrong} values that are not finite; replace them, by 0")
        if data.min() < 0:
            raise ValueError(
                f"map has {np.count_nonzero(data < 0)} negative values, down to {data.min():.4g}, "
                "and emission is not negative; set them to 0"
            )
        geom = map.geom.to_image()
        solid_angle = geom.solid_angle().to_value("sr")
        summed = data.sum(axis=tuple(range(data.ndim - 2)))
        total = np.sum(summed * solid_angle)
        if not total > 0:
            raise ValueError("map is zero everywhere; give a map with emission")
        self.image = WcsNDMap(geom, summed / total, "sr-1")
        self.integral = u.Quantity(total, map.unit * u.sr)
        self.cube: TemplateCube | None = None
        axes = [axis for axis in map.geom.axes if axis.nbin > 1]
        if [axis.name for axis in axes] == ["energy_true"]:
            planes = data.reshape(axes[0].nbin, *geom.npix_shape)
            self.cube = TemplateCube.from_data(planes, axes[0].center_tev(), solid_angle)

    @property
    def is_energy_dependent(self) -> bool:
        """Whether there is a brightness for each energy."""
        return self.cube is not None

    @property
    def frame(self) -> str:
        """Name of the frame of the map, in which positions are taken."""
        return self.image.geom.frame

    def __call__(self, lon: Any, lat: Any, energy: Any = None) -> Any:
        """Surface brightness.

        Parameters
        ----------
        lon, lat : array_like or Quantity
            Positions in the frame of the map, in deg if plain, broadcast.
        energy : float or Quantity, optional
            True energy, in TeV if plain. Without one it is the brightness of ``image``. Of no
            effect unless there is a brightness for each energy.

        Returns
        -------
        ndarray or Quantity
            In sr-1; a quantity if `lon` or `lat` is one. Zero off the map, and at positions
            that are NaN.

        Raises
        ------
        ValueError
            If a position or the energy has a wrong unit, or the energy is not one positive number.
        """
        lon_deg, lat_deg = np.broadcast_arrays(
            np.asarray(to_value(lon, "deg", name="lon"), dtype=float),
            np.asarray(to_value(lat, "deg", name="lat"), dtype=float),
        )
        image = self.image.data
        if energy is not None:
            value = np.asarray(to_value(energy, "TeV", name="energy"), dtype=float)
            if value.size != 1 or not value > 0:
                raise ValueError(f"energy must be one positive number, got {energy!r}")
            if self.cube is not None:
                image = self.cube.at(float(np.log(value)))
        y, x, inside = map_pixels(self.image.geom, lon_deg.ravel(), lat_deg.ravel())
        values = np.where(inside, between_pixels(image, y, x), 0.0).reshape(lon_deg.shape)
        for position in (lon, lat):
            if is_quantity(position):
                return attach(values, "sr-1", position)
        return values

    def __repr__(self) -> str:
        ny, nx = self.image.geom.npix_shape
        energies = "" if self.cube is None else f" x {len(self.cube.planes)} energies"
        return f"TemplateSpatialModel({nx} x {ny} pixels{energies}, frame={self.frame!r})"


def map_pixels(
    geom: WcsGeom, lon: NDArray[Any], lat: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pixel positions y, x of sky positions [deg] in the frame of a map, and which are on it.

    Zero where they are not on the map; all of shape (n,).
    """
    ny, nx = geom.npix_shape
    frame = wcs_to_celestial_frame(geom.wcs)
    known = np.isfinite(lon + lat)
    coords = SkyCoord(np.where(known, lon, 0.0), np.where(known, lat, 0.0), unit="deg", frame=frame)
    x, y = (np.asarray(p, dtype=float) for p in coords.to_pixel(geom.wcs, mode="wcs"))
    with np.errstate(invalid="ignore"):
        inside = known & (np.abs(x - (nx - 1) / 2) <= nx / 2) & (np.abs(y - (ny - 1) / 2) <= ny / 2)
    return np.where(inside, y, 0.0), np.where(inside, x, 0.0), inside


def between_pixels(image: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """Values of an image at pixel positions, linear between the centres of the pixels."""
    # The outer half of the pixels on the rim has no neighbour: it takes the pixel's value.
    return ndimage.map_coordinates(image, np.stack([y, x]), order=1, mode="nearest")


class SkyModel:
    """A source in the field: a spectral and a spatial model.

    Parameters
    ----------
    spectral_model : SpectralModel
        Flux of the whole source.
    spatial_model : SpatialModel, TemplateSpatialModel or WcsNDMap
        Where it comes from; a map becomes a `TemplateSpatialModel`.
    name : str, optional
        Name in tables and errors; by default the tag of the spatial model.
    free : bool
        Whether the norm of the source is fitted along, in every energy group on its own.

    Raises
    ------
    ValueError
        If an argument is of another kind.
    """

    def __init__(
        self,
        spectral_model: Any = None,
        spatial_model: Any = None,
        name: str | None = None,
        free: bool = False,
    ) -> None:
        if not isinstance(spectral_model, SpectralModel):
            raise ValueError(
                f"spectral_model is {spectral_model!r}; give a spectral model of jaxprof, "
                "such as PowerLawSpectralModel()"
            )
        if isinstance(spatial_model, WcsNDMap):
            spatial_model = TemplateSpatialModel(spatial_model)
        if not isinstance(spatial_model, SpatialModel | TemplateSpatialModel):
            raise ValueError(
                f"spatial_model is {spatial_model!r}; give a spatial model of jaxprof, such as "
                "PointSpatialModel(lon_0=..., lat_0=..., frame='galactic'), or a map"
            )
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name is {name!r}; give a string that is not empty")
        if not isinstance(free, bool | np.bool_):
            raise ValueError(f"free is {free!r}; give True or False")
        self.spectral_model = spectral_model
        self.spatial_model = spatial_model
        self.name = spatial_model.tag if name is None else name
        self.free = bool(free)

    def __repr__(self) -> str:
        return (
            f"SkyModel(name={self.name!r}, free={self.free},\n"
            f"  spectral_model={self.spectral_model!r},\n"
            f"  spatial_model={self.spatial_model!r})"
        )


def model_list(models: Any) -> list[SkyModel]:
    """One model or several, as a list.

    Raises
    ------
    ValueError
        If `models` is neither a SkyModel nor an iterable of these.
    """
    remedy = "give a SkyModel(spectral_model=..., spatial_model=...) or a list of these"
    if isinstance(models, SkyModel):
        return [models]
    if isinstance(models, str | bytes) or not isinstance(models, Iterable):
        raise ValueError(f"models is a {type(models).__name__}; {remedy}")
    found = list(models)
    for index, model in enumerate(found):
        if not isinstance(model, SkyModel):
            raise ValueError(f"models[{index}] is a {type(model).__name__}; {remedy}")
    return found
