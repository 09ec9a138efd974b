"""Which parameters of a likelihood are fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FreeParameters:
    """Names of the parameters that are fitted, and which elements of them; a static record.

    Attributes
    ----------
    names : tuple of str
        Parameters that `Likelihood.params` gives.
    sources : tuple of str
        Sources whose norm is fitted.
    background, background_tilt : tuple of bool
        Data sets whose background norm or tilt is fitted.
    exposure : tuple of bool
        Data sets whose exposure is fitted.
    spectral_parameters : tuple of str
        Parameters of the spectrum that are fitted.
    spectra : tuple of bool
        Bins whose spectrum is fitted.
    """

    names: tuple[str, ...] = ("norm",)
    sources: tuple[str, ...] = ()
    background: tuple[bool, ...] = ()
    background_tilt: tuple[bool, ...] = ()
    exposure: tuple[bool, ...] = ()
    spectral_parameters: tuple[str, ...] = ()
    spectra: tuple[bool, ...] = ()

    def __contains__(self, name: object) -> bool:
        """Whether any element of a parameter is fitted."""
        return name in self.names

    @property
    def any_background(self) -> bool:
        """Whether a background norm or tilt is fitted."""
        return any(self.background) or any(self.background_tilt)

    def held_rows(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Parameters with an axis of data sets or bins, and the rows of it that are not fitted."""
        rows = {
            "background": self.background,
            "background_tilt": self.background_tilt,
            "exposure": self.exposure,
            **{f"spectrum.{name}": self.spectra for name in self.spectral_parameters},
        }
        for name, fitted in rows.items():
            if name.partition(".")[0] in self.names:
                yield name, tuple(row for row, own in enumerate(fitted) if not own)
