"""Brightness of radial laws, integrals over rings, polygons and points, and norms of profiles."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprof.compilation import jit_by_size
from jaxprof.models.base import Model, in_double_precision
from jaxprof.models.radial_polygons import polygon_integral
from jaxprof.models.radial_quadrature import ring_integral
from jaxprof.models.spatial_functions import separation
from jaxprof.models.units import FLUX, attach, check, is_concrete, is_quantity, numbers, to_value

BRIGHTNESS = "cm-2 s-1 sr-1"

_evaluate = jit_by_size(lambda model, angle: model._known(model._off_centre(angle)))
_brightness = jit_by_size(lambda model, lon, lat: model._known(model._at(lon, lat)))
_rings = jit_by_size(
    lambda model, edges: model._known(model._ring_integral(edges[..., :-1], edges[..., 1:]))
)
_polygons = jit_by_size(lambda model, lon, lat: model._known(model._polygon_integral(lon, lat)))


@jit_by_size
def _weighted(
    model: Any, lon: Array, lat: Array, solid_angle: Array, factor: Array
) -> tuple[Array, Array]:
    """The weighted sum, and whether a point that counts is where the law is infinite."""
    weights = solid_angle * factor
    result = jnp.sum(weights * model._at(lon, lat), axis=-1)
    return model._known(result), jnp.any(model._on_cusp(lon, lat) & (weights != 0))


def in_range(value: Any, low: float, high: float, name: str) -> Any:
    """Return angles [deg] if they are in a range or not known yet."""
    if is_concrete(value) and np.any((np.asarray(value) < low) | (np.asarray(value) > high)):
        raise ValueError(f"{name} must be in [{low:g}, {high:g}] deg, got {value}")
    return value


class RadialIntegrals(Model):
    """What a brightness that depends on the separation alone can be asked for.

    A subclass defines ``evaluate(separation)``, the separations in deg and of any shape.
    """

    lon_0: Any
    lat_0: Any

    def evaluate(self, separation: Array) -> Array:
        """Brightness [cm-2 s-1 sr-1] at separations [deg]; neither checked nor compiled."""
        raise NotImplementedError

    def _ring_integral(self, low: Array, high: Array) -> Array:
        return ring_integral(self.evaluate, low, high, self._breaks())

    def _breaks(self) -> tuple[Any, ...]:
        """Separations [deg] where the quadrature is split."""
        return ()

    def _off_centre(self, separation: Array) -> Array:
        # At the centre a law may be infinite: its own derivatives would not be numbers, nor those
        # of a sum in which it is multiplied with zero.
        single = jnp.finfo(jnp.result_type(separation, float)).bits < 64
        return self.evaluate(jnp.maximum(separation, 1e-9 if single else 1e-20))

    def _at(self, lon: Array, lat: Array) -> Array:
        """Brightness at positions [deg]."""
        return self._off_centre(jnp.rad2deg(separation(lon, lat, self.lon_0, self.lat_0)))

    def _on_cusp(self, lon: Array, lat: Array) -> Array:
        """Whether positions [deg] are on the centre of a law that is infinite there."""
        on_centre = separation(lon, lat, self.lon_0, self.lat_0) == 0
        centre, beside = self._off_centre(jnp.array([0.0, 1e-6], jnp.result_type(lon, lat)))
        return on_centre & (jnp.abs(centre) > 1.5 * jnp.abs(beside))

    def _polygon_integral(self, lon: Array, lat: Array) -> Array:
        def cone(separation: Array) -> Array:
            return self._ring_integral(jnp.zeros_like(separation), separation)

        return polygon_integral(cone, lon, lat, self.lon_0, self.lat_0, self._breaks())

    def _check_scalars(self) -> None:
        """Refuse parameters that would be taken for those of as many separations."""
        for field in self._parameter_fields():
            if shape := np.shape(getattr(self, field.name)):
                raise ValueError(
                    f"{field.name} has the shape {shape}; a law has one value of each parameter: "
                    "use jax.vmap(lambda law: ...)(law) for many laws"
                )

    def _in_domain(self) -> Any:
        """Whether parameters make sense, of which nothing can be said while they are traced."""
        found: Any = True
        for field in self._parameter_fields():
            value, kind = jnp.asarray(getattr(self, field.name)), field.metadata["kind"]
            if kind == "positive":
                found = found & jnp.all(value > 0)
            elif kind in ("nonnegative", "share"):
                found = found & jnp.all(value >= 0)
        return found

    def _known(self, result: Array) -> Array:
        """A result; NaN where parameters make no sense, so that fits turn back there."""
        return jnp.where(self._in_domain(), result, jnp.nan)

    def _check_rings(self, inner: float) -> None:
        """Refuse rings from an inner radius [deg] on over which the law has no integral."""

    @in_double_precision
    def __call__(self, separation: Any) -> Any:
        """Surface brightness.

        Parameters
        ----------
        separation : array_like or Quantity
            Angles from the centre, in deg if plain, 0 to 180.

        Returns
        -------
        jax.Array or Quantity
            In cm-2 s-1 sr-1; a quantity if `separation` is one. At the centre it is that at 1e-20
            deg (float32: 1e-9), which for a law with a cusp is very large but finite.

        Raises
        ------
        ValueError
            If a concrete separation is not finite, out of range, or has a wrong unit.
        """
        self._check_scalars()
        angle = in_range(numbers(separation, "deg", "separation"), 0, 180, "separation")
        return attach(_evaluate(self, angle), BRIGHTNESS, separation)

    @in_double_precision
    def brightness(self, lon: Any, lat: Any) -> Any:
        """Surface brightness at positions on the sky.

        Parameters
        ----------
        lon, lat : array_like or Quantity
            Positions in the frame of the law, in deg if plain, broadcast.

        Returns
        -------
        jax.Array or Quantity
            In cm-2 s-1 sr-1; a quantity if `lon` or `lat` is one.

        Raises
        ------
        ValueError
            If a concrete position is not finite or has a wrong unit.
        """
        self._check_scalars()
        result = _brightness(self, numbers(lon, "deg", "lon"), numbers(lat, "deg", "lat"))
        return attach(result, BRIGHTNESS, lon, lat)

    @in_double_precision
    def ring_integral(self, edges: Any) -> Any:
        r"""Flux of concentric rings, :math:`2\pi \int S(\theta) \sin\theta\,d\theta`.

        Parameters
        ----------
        edges : array_like or Quantity, shape (..., R + 1)
            Edges of the rings, in deg if plain; each ring begins where the one before ends. Rings
            that do not touch have edges of shape (R, 2).

        Returns
        -------
        jax.Array or Quantity, shape (..., R)
            In cm-2 s-1; a quantity if `edges` is one. In closed form for power laws, Gaussians and
            constants; otherwise by double-exponential quadrature, to 1e-8 or better as long as a
            ring is less than 100 times as wide as what it holds of the law. A cusp in the innermost
            ring takes nothing from this.

        Raises
        ------
        ValueError
            If concrete edges do not increase, are out of range or have a wrong unit, or if the
            integral over the innermost ring is infinite.
        """
        self._check_scalars()
        angles = in_range(numbers(edges, "deg", "edges"), 0, 180, "edges")
        if np.ndim(angles) == 0 or np.shape(angles)[-1] < 2:
            raise ValueError(f"edges must be two or more along the last axis, got {edges}")
        if is_concrete(angles):
            if np.any(np.diff(np.asarray(angles)) < 0):
                raise ValueError(f"edges must increase, got {edges}")
            self._check_rings(float(np.min(np.asarray(angles))))
        return attach(_rings(self, angles), FLUX, edges)

    @in_double_precision
    def polygon_integral(self, lon: Any, lat: Any) -> Any:
        """Flux of boxes, pixels or other polygons, whose edges are arcs of great circles.

        The integral is worked out around the outline: a cusp within the polygon, on its outline or
        beside it takes nothing from its accuracy.

        Parameters
        ----------
        lon, lat : array_like or Quantity, shape (..., V)
            Vertices in the frame of the law, in deg if plain, in either sense, broadcast; less than
            90 deg from the centre. Repeat one where polygons have different numbers of them.

        Returns
        -------
        jax.Array or Quantity, shape (...)
            In cm-2 s-1; a quantity if `lon` or `lat` is one. Right to 1e-7 of the integral over the
            circle around the centre that reaches as far as the polygon. In a function that JAX
            traces it is NaN where a vertex is 90 deg or more from the centre.

        Raises
        ------
        ValueError
            If concrete vertices are not finite, 90 deg or more from the centre or have a wrong
            unit, if there are less than three, or if the law has no integral around its centre.
        """
        self._check_scalars()
        x, y = numbers(lon, "deg", "lon"), numbers(lat, "deg", "lat")
        if np.broadcast_shapes(np.shape(x), np.shape(y))[-1:] < (3,):
            raise ValueError(f"lon and lat must be three vertices or more, got {lon} and {lat}")
        self._check_rings(0.0)
        result = _polygons(self, x, y)
        if is_concrete(result) and np.any(np.isnan(np.asarray(result))):
            raise ValueError(
                "lon, lat: a vertex is 90 deg or more from the centre of the law; cut the polygon"
            )
        return attach(result, FLUX, lon, lat)

    @in_double_precision
    def integral(self, lon: Any, lat: Any, solid_angle: Any, factor: Any = 1.0) -> Any:
        """Flux of regions that are given by quadrature points; times a map, if wanted.

        Parameters
        ----------
        lon, lat : array_like or Quantity, shape (..., Q)
            The points, in the frame of the law, in deg if plain. Pixel centres are good as long as
            the law changes little within a pixel, which near a cusp it does not: see
            `polygon_integral`.
        solid_angle : array_like or Quantity, shape (..., Q)
            Weight of each point, in sr if plain; zero for points that do not count.
        factor : array_like, shape (..., Q), optional
            Values at the points of a map that the law is multiplied with, such as the column
            density of the gas that cosmic rays meet; plain numbers.

        Returns
        -------
        jax.Array, shape (...)
            In cm-2 s-1, times the unit of `factor`; plain numbers.

        Raises
        ------
        ValueError
            If concrete numbers are not finite or have a wrong unit, or if a point with a weight is
            on the very centre of a law that is infinite there.
        """
        if is_quantity(factor):
            raise ValueError("factor is a quantity; give plain numbers, in whatever unit")
        self._check_scalars()
        points = numbers(lon, "deg", "lon"), numbers(lat, "deg", "lat")
        weights = numbers(solid_angle, "sr", "solid_angle"), numbers(factor, "", "factor")
        result, on_cusp = _weighted(self, *points, *weights)
        if is_concrete(on_cusp) and on_cusp:
            raise ValueError(
                f"lon, lat: one of the points is on the centre, where {type(self).__name__} is "
                "infinite; move it, or use ring_integral or polygon_integral"
            )
        return result

    @in_double_precision
    def ring_norms(self, edges: Any, reference_flux: Any) -> Any:
        """Norms of rings as a profile reports them: flux of each over the reference flux.

        Parameters
        ----------
        edges : array_like or Quantity, shape (R + 1,)
            Edges of the rings around the centre of the law, in deg if plain. They go where it
            goes: nothing here depends on ``lon_0`` and ``lat_0``.
        reference_flux : array_like or Quantity, shape () or (G,)
            Flux of the reference spectrum in each energy group, in cm-2 s-1 if plain, not 0.

        Returns
        -------
        jax.Array, shape (R,) or (R, G)

        Raises
        ------
        ValueError
            As `ring_integral`, or if `reference_flux` is zero or has a wrong unit.

        Notes
        -----
        The norm of a ring is right however wide it is, but a fit that takes the flux to come evenly
        from all of a ring folds it wrongly through the PSF. Ten rings of this kind around a law,
        with a PSF of a quarter to one ring, make its index 1.02 instead of 1 or 1.53 instead of
        1.5, and a halo of 5.4 deg 5.33 deg (`DiffusionRadialModel`, rings of 1 deg). With rings a
        quarter as wide they are right to 0.2 %, with a tenth to 0.03 %; the counts may stay in wide
        bins. Worse is to take the law at the middle of each ring instead of integrating it: 1.63 to
        1.7 instead of 1.5.
        """
        # Of plain edges, so that the result is plain too.
        plain = to_value(edges, "deg", name="edges")
        return _over_reference(self.ring_integral(plain), reference_flux)

    @in_double_precision
    def norms(
        self, lon: Any, lat: Any, solid_angle: Any, reference_flux: Any, factor: Any = 1.0
    ) -> Any:
        """Norms of regions that are given by quadrature points: flux over the reference flux.

        Parameters
        ----------
        lon, lat, solid_angle, factor : array_like or Quantity, shape (B, Q)
            As for `integral`.
        reference_flux : array_like or Quantity, shape () or (G,)
            Flux of the reference spectrum in each energy group, in cm-2 s-1 if plain, not 0.

        Returns
        -------
        jax.Array, shape (B,) or (B, G)

        Raises
        ------
        ValueError
            As `integral`, or if `reference_flux` is zero or has a wrong unit.
        """
        return _over_reference(self.integral(lon, lat, solid_angle, factor), reference_flux)


def _over_reference(flux: Any, reference_flux: Any) -> Any:
    reference = to_value(reference_flux, FLUX, name="reference_flux")
    check(reference, "nonzero", name="reference_flux")
    if np.ndim(reference) == 0:
        return flux / reference
    return flux[..., None] / jnp.expand_dims(reference, tuple(range(np.ndim(flux))))
