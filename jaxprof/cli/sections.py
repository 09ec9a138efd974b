"""What a configuration may say: its sections as pydantic models."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import astropy.units as u
from astropy.coordinates import SkyCoord
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)


def _quantity(text: Any, unit: str, example: str) -> str:
    if isinstance(text, str):
        try:
            value = u.Quantity(text).to_value(unit)
        except (TypeError, ValueError) as error:
            raise ValueError(f"got {text!r}; give a number with its unit, as {example}") from error
        if math.isfinite(value):
            return text
    raise ValueError(f"got {text!r}; give a number with its unit, as {example}")


Angle = Annotated[Any, AfterValidator(lambda text: _quantity(text, "deg", "1.5 deg"))]
Energy = Annotated[Any, AfterValidator(lambda text: _quantity(text, "TeV", "10 GeV"))]
Spectrum = dict[str, Any]


class Section(BaseModel):
    """Keys that are known; others are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Position(Section):
    """A position on the sky."""

    lon: Angle
    lat: Angle
    frame: Literal["galactic", "icrs"] = "galactic"

    def skycoord(self) -> SkyCoord:
        """The position for astropy."""
        return SkyCoord(u.Quantity(self.lon), u.Quantity(self.lat), frame=self.frame)


class DatasetFile(Section):
    """A file of a dataset, and the name that it is to have."""

    path: StrictStr
    name: StrictStr | None = None


class Boxes(Section):
    """Boxes in a row: `jaxprof.make_orthogonal_rectangle_sky_regions`."""

    start: Position
    end: Position
    height: Angle
    nbin: StrictInt
    tangent: StrictBool = False


class Annuli(Section):
    """Rings: `jaxprof.make_concentric_annulus_sky_regions`; nbin counts their edges."""

    center: Position
    radius_max: Angle
    radius_min: Angle = "1e-5 deg"
    nbin: StrictInt = 11


class Grid(Section):
    """Boxes that tile a field: `jaxprof.make_grid_rectangle_sky_regions`."""

    center: Position
    width: Angle
    height: Angle
    nbinx: StrictInt = 1
    nbiny: StrictInt = 1
    angle: Angle = "0 deg"
    tangent: StrictBool = False


class Sectors(Section):
    """The bins of a wedge: `jaxprof.make_sector_sky_regions`."""

    center: Position
    radius_max: Angle
    radius_min: Angle = "0 deg"
    nbin: StrictInt = 10
    position_angle: Angle
    opening_angle: Angle


class Regions(Section):
    """The bins of the profile: one of the makers, or a file."""

    boxes: Boxes | None = None
    annuli: Annuli | None = None
    grid: Grid | None = None
    sectors: Sectors | None = None
    file: StrictStr | None = None

    @model_validator(mode="after")
    def _one(self) -> Regions:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}; got {found}")
        return self


class Source(Section):
    """Another point source in the field, for forward-folded fits."""

    name: StrictStr
    position: Position
    spectral_model: Spectrum
    free: StrictBool = True


Constraint = StrictFloat | Literal["fixed", "free"]


class Estimator(Section):
    """The estimator and its options, as those of the two classes."""

    type: Literal["per-region", "forward-folded"] = "per-region"
    selection_optional: list[Literal["errn-errp", "ul", "scan", "sensitivity", "all"]] = ["ul"]
    n_sigma: StrictFloat = 1.0
    n_sigma_ul: StrictFloat | None = None
    cl: StrictFloat | None = None
    interval: Literal["profile", "one-sided", "bounded", "feldman-cousins", "cls", "bayesian"] = (
        "profile"
    )
    n_sigma_sensitivity: StrictFloat = 5.0
    norm: dict[str, Any] | None = None
    sum_over_energy_groups: StrictBool = False
    mask_policy: Literal["coverage", "mean-exposure", "strict"] = "coverage"
    likelihood: Literal["region", "pixel"] | None = None
    reference_solid_angle: Literal["pixels", "region"] = "pixels"
    precision: Literal["float64", "float32"] = "float64"
    guard_bins: StrictInt | None = None
    background: Any = None
    sources: list[Source] | None = None
    free_index: StrictBool | None = None
    free_spectral_parameters: list[StrictStr] | None = None
    smoothness: StrictFloat | None = None
    oversampling: StrictInt | None = None
    subpixels: StrictInt | None = None

    @model_validator(mode="after")
    def _belong_together(self) -> Estimator:
        if self.type == "per-region":
            for name in FORWARD_ONLY:
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is an option of forward-folded fits; set type: forward-folded, "
                        "or leave it out"
                    )
        return self


FORWARD_ONLY = (
    *("guard_bins", "background", "sources", "free_index", "free_spectral_parameters"),
    *("smoothness", "oversampling", "subpixels"),
)


class Outputs(Section):
    """What is written, and where."""

    folder: StrictStr = "."
    name: StrictStr = "profile"
    formats: list[Literal["fits", "ecsv", "csv"]] = ["fits", "ecsv", "csv"]
    sed_type: Literal["dnde", "e2dnde", "flux", "eflux", "surface_brightness"] = "flux"
    axis: Literal["distance", "longitude", "latitude", "path", "region-index"] = "distance"
    figures: list[Literal["png", "pdf", "svg"]] = ["png"]
    report: StrictBool = True

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not name or name.startswith(".") or set(name) & set("/\\\0"):
            raise ValueError(f"got {name!r}; give the beginning of file names, without a folder")
        return name


class Config(Section):
    """The whole configuration."""

    datasets: list[DatasetFile] = Field(min_length=1)
    spectral_model: Spectrum = {"type": "PowerLawSpectralModel"}
    regions: Regions
    energy_edges: list[Energy] = Field(min_length=2)
    estimator: Estimator = Estimator()
    outputs: Outputs = Outputs()

    @field_validator("datasets", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str | dict) else value
        if not isinstance(value, list):
            return value
        return [{"path": item} if isinstance(item, str) else item for item in value]

    @field_validator("energy_edges")
    @classmethod
    def _increasing(cls, edges: list[str]) -> list[str]:
        values = [u.Quantity(edge).to_value("TeV") for edge in edges]
        if not all(0 < low < high for low, high in zip(values[:-1], values[1:], strict=True)):
            raise ValueError(f"must be increasing and positive, got {', '.join(edges)}")
        return edges
