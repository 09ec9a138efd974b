"""Maps as spatial models: a surface brightness given by an image or a cube."""

from __future__ import annotations

from typing import Any, ClassVar

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import NDArray

from jaxprof.models.spectral import ConstantSpectralModel, TemplateSpectralModel
from jaxprof.models.units import attach, to_value
from jaxprof.sky import WcsGeom, WcsNDMap
from jaxprof.sky.gammapy import as_map
from jaxprof.sky.template_cube import TemplateCube


class TemplateSpatialModel:
    """Surface brightness given by a map, such as a gas map, or by a map for each energy.

    Parameters
    ----------
    map : WcsNDMap
        Image, or a cube; of gammapy too. Values are a surface brightness in any unit; only their
        ratios count. Between the pixel centres they are interpolated linearly along both pixel
        axes, off the map they are zero.

        A cube with an axis "energy_true" of several bins has a brightness for each energy (the
        centre of the bin), such as the Galactic diffuse emission. It is folded energy by energy: at
        each of them its integral is one, as with ``normalize=True`` in gammapy, and the flux is
        that of the spectral model. Between two energies each pixel follows a power law (or is
        linear in log energy, where it is zero at one of them); beyond the first and the last energy
        nothing changes. A cube with any other axis is summed over it.
    filename : str, optional
        File of the map, which `to_dict` names.

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

    def __init__(self, map: WcsNDMap, filename: str | None = None) -> None:
        map = as_map(map)
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
        self.filename = filename
        self.image = WcsNDMap(geom, summed / total, "sr-1")
        self.integral = u.Quantity(total, map.unit * u.sr)
        self.cube: TemplateCube | None = None
        axes = [axis for axis in map.geom.axes if axis.nbin > 1]
        if [axis.name for axis in axes] == ["energy_true"]:
            planes = data.reshape(axes[0].nbin, *geom.npix_shape)
            self.cube = TemplateCube.from_data(planes, axes[0].center_tev(), solid_angle)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict in the layout of gammapy's YAML model files, which names the map's file.

        Raises
        ------
        ValueError
            Without ``filename``: a dict has no place for a map.
        """
        if not self.filename:
            raise ValueError(
                "a template in a dict is the name of its file: write the map, and make the model "
                "with TemplateSpatialModel(map, filename=...)"
            )
        found = {"type": "TemplateSpatialModel", "frame": self.frame, "parameters": []}
        return {"spatial": {**found, "filename": str(self.filename), "normalize": True}}

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
        return attach(values, "sr-1", lon, lat)

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
    from scipy.ndimage import map_coordinates

    # The outer half of the pixels on the rim has no neighbour: it takes the pixel's value.
    return map_coordinates(image, np.stack([y, x]), order=1, mode="nearest")


def diffuse_spectrum(map_: WcsNDMap) -> Any:
    """Spectrum of a map that is not normalised: what it integrates to over the sky.

    Parameters
    ----------
    map_ : WcsNDMap
        Image in sr-1, or in cm-2 s-1 sr-1 TeV-1 (any unit that converts); or a cube of these, at
        the energies of its axis "energy_true".

    Returns
    -------
    SpectralModel
        A `TemplateSpectralModel` for the cube, else a `ConstantSpectralModel`; a dimensionless
        factor for an image in sr-1.

    Raises
    ------
    ValueError
        For other units and axes, and for a cube of plain sr-1.
    """
    geom = map_.geom
    planes = map_.data.reshape(-1, *geom.npix_shape).astype(float)
    totals = np.sum(planes * geom.to_image().solid_angle().to_value("sr"), axis=(1, 2))
    per_sr = map_.unit if map_.unit.is_equivalent("sr-1") else map_.unit * u.sr
    if map_.unit.is_equivalent("sr-1") or map_.unit.is_equivalent(""):
        if len(totals) > 1:
            raise ValueError(
                "a cube of energies that is not normalised needs a flux as its unit, such as "
                f"'cm-2 s-1 sr-1 MeV-1', not {map_.unit.to_string()!r}"
            )
        factor = map_.unit.to("sr-1") if map_.unit.is_equivalent("sr-1") else 1.0
        return ConstantSpectralModel(const=float(totals[0]) * factor, unit="")
    fluxes = u.Quantity(totals, per_sr)
    if len(totals) == 1:
        return ConstantSpectralModel(const=fluxes[0])
    return TemplateSpectralModel(geom.axis("energy_true").center, fluxes)


def flux_times_template(spectrum: Any, map_: WcsNDMap) -> Any:
    """Spectrum of a source whose map is not normalised (``normalize=False`` in gammapy).

    Raises
    ------
    ValueError
        If the units of the two do not make a flux.
    """
    of_map = diffuse_spectrum(map_)
    factor = isinstance(of_map, ConstantSpectralModel) and of_map.unit == ""
    if factor == spectrum.is_norm:
        raise ValueError(
            "a map that is not normalised is either in sr-1 and multiplied by a spectrum, or a "
            f"flux per sr and multiplied by a dimensionless model; got {map_.unit.to_string()!r} "
            f"and {type(spectrum).__name__}"
        )
    return spectrum * of_map
