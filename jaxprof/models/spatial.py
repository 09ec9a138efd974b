"""Spatial models: surface brightness on the sky as JAX pytrees, with gammapy's names.

Plain numbers are degrees; quantities and strings such as ``"5 arcmin"`` are converted. The
functions, their norms and their conventions are in `jaxprof.models.spatial_functions`.
Positions are angles in the model's own ``frame``: nothing is transformed here.

Parameters are keyword only, as in gammapy.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxprof.compilation import jit_by_size
from jaxprof.models import spatial_functions as functions
from jaxprof.models.base import Model, in_double_precision, parameter, register_model, static
from jaxprof.models.units import attach, numbers

_evaluate = jit_by_size(lambda model, lon, lat: model._brightness(lon, lat))

#: Model classes by class name and by tag, filled when a class is defined.
_BY_NAME: dict[str, type[SpatialModel]] = {}


class SpatialModel(Model):
    """Base of the spatial models: surface brightness at positions on the sky.

    Quantities, Python numbers and numpy arrays of float64 are computed with in float64 even where
    JAX has it disabled; results then are numpy arrays.
    """

    _kind = "spatial"
    _by_name = _BY_NAME
    tag: ClassVar[str]
    frame: str

    def _brightness(self, lon: Array, lat: Array) -> Array:
        raise NotImplementedError

    @in_double_precision
    def __call__(self, lon: Any, lat: Any) -> Any:
        """Surface brightness.

        Parameters
        ----------
        lon, lat : array_like or Quantity
            Positions in the frame of the model, in deg if plain, broadcast.

        Returns
        -------
        jax.Array or Quantity
            In sr-1; a quantity if ``lon`` or ``lat`` is one.

        Raises
        ------
        ValueError
            If a concrete position is not finite or has a wrong unit.
        """
        result = _evaluate(self, numbers(lon, "deg", "lon"), numbers(lat, "deg", "lat"))
        return attach(result, "sr-1", lon, lat)


@register_model
class CentredSpatialModel(SpatialModel):
    """Base of the models with a centre, whose frame is that of all positions."""

    lon_0: Any = parameter(0.0, unit="deg")
    lat_0: Any = parameter(0.0, unit="deg", kind="latitude")
    frame: str = static("icrs")

    def _away(self, lon: Array, lat: Array) -> Array:
        return functions.separation(lon, lat, self.lon_0, self.lat_0)

    def _radius(self, lon: Array, lat: Array, *ellipse: Any) -> Array:
        return functions.ellipse_radius(lon, lat, (self.lon_0, self.lat_0), *ellipse)


@register_model
class PointSpatialModel(CentredSpatialModel):
    """Point source. It has no finite surface brightness: use `pixel_fraction`.

    Parameters
    ----------
    lon_0, lat_0, frame : optional
        Position [deg] and its frame.
    """

    tag: ClassVar[str] = "point"

    def __call__(self, lon: Any, lat: Any) -> Any:
        """Refuse: a point source has no surface brightness.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            "a point source has no finite surface brightness; PointSpatialModel.pixel_fraction "
            "gives its share of each pixel"
        )

    def pixel_fraction(self, x: Any, y: Any, x_0: Any, y_0: Any) -> Array:
        """Share of the source in each pixel.

        Bilinear weights of the four pixel centres around the source, as in gammapy: they sum to
        one, keep the centroid, and can be differentiated with respect to the position.

        Parameters
        ----------
        x, y : array_like
            Pixel indices.
        x_0, y_0 : array_like
            Pixel position of (lon_0, lat_0): the map's WCS knows it, the model does not.

        Returns
        -------
        jax.Array
            Dimensionless; sums to one over all pixels.
        """
        across = jnp.maximum(1 - jnp.abs(x - jnp.asarray(x_0)), 0)
        return across * jnp.maximum(1 - jnp.abs(y - jnp.asarray(y_0)), 0)


@register_model
class GaussianSpatialModel(CentredSpatialModel):
    """Gaussian on the sphere, round or elongated.

    Parameters
    ----------
    sigma : float or Quantity, optional
        Standard deviation along the major axis [deg].
    e : float, optional
        Eccentricity, in [0, 1).
    phi : float or Quantity, optional
        Position angle of the major axis, from north through east [deg].
    lon_0, lat_0, frame : optional
        Centre [deg] and its frame.
    """

    tag: ClassVar[str] = "gauss"
    sigma: Any = parameter(1.0, unit="deg", kind="positive")
    e: Any = parameter(0.0, kind="fraction")
    phi: Any = parameter(0.0, unit="deg")

    def _brightness(self, lon: Array, lat: Array) -> Array:
        radius = self._radius(lon, lat, self.sigma, self.e, self.phi)
        half_versine = functions.haversine(lon, lat, self.lon_0, self.lat_0)
        around = functions.radii_around(self.sigma, self.e, radius.dtype)
        return functions.gaussian(half_versine, radius, around)


@register_model
class GeneralizedGaussianSpatialModel(CentredSpatialModel):
    """Generalised Gaussian: between a disk (eta -> 0), a Gaussian (1/2) and a Laplace (1).

    Parameters
    ----------
    r_0 : float or Quantity, optional
        Major semiaxis [deg]. The norm is that of the flat sky: keep it to a few degrees.
    eta : float, optional
        Shape, > 0.
    e : float, optional
        Eccentricity, in [0, 1).
    phi : float or Quantity, optional
        Position angle of the major axis, from north through east [deg].
    lon_0, lat_0, frame : optional
        Centre [deg] and its frame.
    """

    tag: ClassVar[str] = "gauss-general"
    r_0: Any = parameter(1.0, unit="deg", kind="positive")
    eta: Any = parameter(0.5, kind="positive")
    e: Any = parameter(0.0, kind="fraction")
    phi: Any = parameter(0.0, unit="deg")

    def _brightness(self, lon: Array, lat: Array) -> Array:
        radius = self._radius(lon, lat, self.r_0, self.e, self.phi)
        area = jnp.deg2rad(self.r_0) ** 2 * jnp.sqrt(1 - jnp.square(self.e))
        return functions.generalized_gaussian(self._away(lon, lat), radius, self.eta, area)


@register_model
class DiskSpatialModel(CentredSpatialModel):
    """Uniform disk or ellipse with a smooth edge.

    Parameters
    ----------
    r_0 : float or Quantity, optional
        Radius or major semiaxis [deg].
    e : float, optional
        Eccentricity, in [0, 1).
    phi : float or Quantity, optional
        Position angle of the major axis, from north through east [deg].
    edge_width : float, optional
        Width over which the edge falls from 95 % to 5 %, as a fraction of the radius.
    lon_0, lat_0, frame : optional
        Centre [deg] and its frame.
    """

    tag: ClassVar[str] = "disk"
    r_0: Any = parameter(1.0, unit="deg", kind="positive")
    e: Any = parameter(0.0, kind="fraction")
    phi: Any = parameter(0.0, unit="deg")
    edge_width: Any = parameter(0.01, kind="share")

    def _brightness(self, lon: Array, lat: Array) -> Array:
        radius = self._radius(lon, lat, self.r_0, self.e, self.phi)
        around = functions.radii_around(self.r_0, self.e, radius.dtype)
        return functions.disk(self._away(lon, lat), radius, around, self.edge_width)


@register_model
class ShellSpatialModel(CentredSpatialModel):
    """Projection of a uniformly emitting spherical shell.

    Parameters
    ----------
    radius : float or Quantity, optional
        Inner radius [deg].
    width : float or Quantity, optional
        Outer minus inner radius [deg].
    lon_0, lat_0, frame : optional
        Centre [deg] and its frame.
    """

    tag: ClassVar[str] = "shell"
    radius: Any = parameter(1.0, unit="deg", kind="nonnegative")
    width: Any = parameter(0.2, unit="deg", kind="positive")

    def _brightness(self, lon: Array, lat: Array) -> Array:
        return functions.shell(jnp.rad2deg(self._away(lon, lat)), self.radius, self.width)


@register_model
class ConstantSpatialModel(SpatialModel):
    """The same brightness everywhere; 1 / (4 pi) normalises it to the whole sky.

    Parameters
    ----------
    value : float or Quantity, optional
        Brightness [sr-1].
    frame : str, optional
        Has no effect; for symmetry with the other models.
    """

    tag: ClassVar[str] = "const"
    value: Any = parameter(1.0, unit="sr-1")
    frame: str = static("icrs")

    def _brightness(self, lon: Array, lat: Array) -> Array:
        shape = jnp.broadcast_shapes(jnp.shape(lon), jnp.shape(lat))
        return self.value * jnp.ones(shape, jnp.result_type(float, lon, lat))


def spatial_model_from_dict(data: dict[str, Any]) -> SpatialModel:
    """Make a model of the dict that `SpatialModel.to_dict` or gammapy's ``to_dict`` wrote.

    Parameters
    ----------
    data : dict
        ``{"spatial": {"type": ..., "frame": ..., "parameters": [{"name", "value", "unit"}, ...]}}``
        or the inner dict. ``type`` is a class name or a tag; gammapy's ``Shell2SpatialModel``
        becomes a `ShellSpatialModel`. Missing parameters take their defaults, missing units are
        those of the class; errors, limits and links are dropped.

    Returns
    -------
    SpatialModel
        A model of one of the classes of `jaxprof.models.spatial`.

    Raises
    ------
    ValueError
        If the type or a parameter is unknown, or a unit is wrong; and for maps, which
        `SkyModel.from_dict` reads.
    """
    data = data.get("spatial", data)
    kind = str(data.get("type"))
    if kind in ("Shell2SpatialModel", "shell2"):
        data = _shell_from_shell2(data)
        kind = data["type"]
    cls = _BY_NAME.get(kind)
    if cls is None:
        hint = (
            "; a template is read by SkyModel.from_dict" if kind.lower().startswith("templ") else ""
        )
        raise ValueError(
            f"type is {data.get('type')!r}; known spatial models are {sorted(_BY_NAME)}{hint}"
        )
    return cls._from_dict(data)


def _shell_from_shell2(data: dict[str, Any]) -> dict[str, Any]:
    """The same shell by inner radius and width, where it was outer radius and relative width."""
    items = {item["name"]: item for item in data.get("parameters", [])}
    outer = items.pop("r_0", {"value": 1.0, "unit": "deg"})
    ratio = items.pop("eta", {"value": 0.2})["value"]
    sizes = {"radius": outer["value"] * (1 - ratio), "width": outer["value"] * ratio}
    new = [{"name": k, "value": v, "unit": outer.get("unit", "deg")} for k, v in sizes.items()]
    return {**data, "type": "ShellSpatialModel", "parameters": [*items.values(), *new]}
