"""Where on the sky the emission of each norm lies, for laws that give the norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxprof.differentiation import refuse_derivatives

CENTRED = (
    "a law has no derivatives with respect to lon_0 and lat_0 over rings, which are around its "
    "centre: hold these with jax.lax.stop_gradient, or take boxes or other regions than rings"
)


def with_centre(law: Any, change: Callable[[Any], Any]) -> Any:
    """A law whose position is passed through a function."""
    return law.replace(
        **{
            name: change(value)
            for name, value in law.parameters.items()
            if name.rpartition(".")[2] in ("lon_0", "lat_0")
        }
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class BinGeometry:
    """Where on the sky the emission of each of B norms lies, and what flux a norm of one is.

    Either all of the bins are concentric rings, or they are bounded by polygons.

    Attributes
    ----------
    reference_flux : array, shape (B,)
        Flux at norm one, of all energy groups together [cm-2 s-1].
    solid_angle : array, shape (B,)
        Integral over each bin of one, or of the template [sr].
    parent : tuple of int
        Bin of the profile that each is a part of; their own numbers if these are not subdivided.
    centre : array, shape (2,)
        Centre of the rings, or the mean of the bins' centres [deg].
    rings : array, shape (B, M + 1), or None
        Edges of the M rings that each bin consists of [deg].
    ring_weights : array, shape (B, M), or None
        Factors on the integrals over them, such as the mean of a template.
    lon, lat : array, shape (L, V), or None
        Vertices of polygons [deg]; the last is repeated where one has fewer.
    polygon_bin : array of int, shape (L,), or None
        Bin that each polygon bounds.
    polygon_weights : array, shape (L,), or None
        Factors on the integrals over them, below zero for holes.
    frame : str
        Frame of all positions.
    folded : bool
        Whether emission goes through the PSF, as if it came evenly from all of a bin.
    templated : bool
        Whether it is a template's, not even.
    """

    reference_flux: Any
    solid_angle: Any
    centre: Any
    rings: Any = None
    ring_weights: Any = None
    lon: Any = None
    lat: Any = None
    polygon_bin: Any = None
    polygon_weights: Any = None
    parent: tuple[int, ...] = field(metadata={"static": True})
    frame: str = field(default="icrs", metadata={"static": True})
    folded: bool = field(default=True, metadata={"static": True})
    templated: bool = field(default=False, metadata={"static": True})

    @property
    def n_bins(self) -> int:
        """Number of bins of the profile, whatever they are subdivided into."""
        return max(self.parent) + 1

    def flux(self, law: Any) -> Any:
        """Flux of a radial law in each bin, times the template if there is one.

        Parameters
        ----------
        law : RadialModel
            In the frame of this geometry; rings are taken to be around its centre.

        Returns
        -------
        array, shape (B,)
            In cm-2 s-1; differentiable with respect to all parameters of the law.

        Raises
        ------
        TypeError
            If it is differentiated with respect to the centre of a law over rings.
        """
        if self.rings is not None:
            law = with_centre(law, lambda value: refuse_derivatives(value, CENTRED))
            return jnp.sum(self.ring_weights * law.ring_integral(self.rings), axis=1)
        parts = self.polygon_weights * law.polygon_integral(self.lon, self.lat)
        return jax.ops.segment_sum(parts, self.polygon_bin, len(self.parent))

    def norms(self, law: Any, reference_flux: Any = None) -> Any:
        """Norms of all bins under a law.

        Parameters
        ----------
        law : RadialModel
            As for `flux`.
        reference_flux : array, shape () or (B,), optional
            Flux at norm one [cm-2 s-1], where it is another than this record has.

        Returns
        -------
        array, shape (B, 1)
            The same in all energy groups.
        """
        reference = self.reference_flux if reference_flux is None else reference_flux
        return (self.flux(law) / reference)[:, None]

    def total(self, values: Any) -> Any:
        """Sums over the parts of each bin of the profile, of values (B,)."""
        return jax.ops.segment_sum(values, jnp.asarray(self.parent), self.n_bins)
