"""Flux profiles of gamma-ray data: batched, differentiable, on any device."""

from jaxprof.core.spatial import ConstantSpatialModel as ConstantSpatialModel
from jaxprof.core.spatial import DiskSpatialModel as DiskSpatialModel
from jaxprof.core.spatial import GaussianSpatialModel as GaussianSpatialModel
from jaxprof.core.spatial import GeneralizedGaussianSpatialModel as GeneralizedGaussianSpatialModel
from jaxprof.core.spatial import PointSpatialModel as PointSpatialModel
from jaxprof.core.spatial import ShellSpatialModel as ShellSpatialModel
from jaxprof.core.spectral import BrokenPowerLawSpectralModel as BrokenPowerLawSpectralModel
from jaxprof.core.spectral import CompoundSpectralModel as CompoundSpectralModel
from jaxprof.core.spectral import ConstantSpectralModel as ConstantSpectralModel
from jaxprof.core.spectral import ExpCutoffPowerLawSpectralModel as ExpCutoffPowerLawSpectralModel
from jaxprof.core.spectral import LogParabolaSpectralModel as LogParabolaSpectralModel
from jaxprof.core.spectral import PowerLaw2SpectralModel as PowerLaw2SpectralModel
from jaxprof.core.spectral import PowerLawSpectralModel as PowerLawSpectralModel
from jaxprof.core.spectral import (
    SmoothBrokenPowerLawSpectralModel as SmoothBrokenPowerLawSpectralModel,
)
from jaxprof.core.spectral import (
    SuperExpCutoffPowerLaw3FGLSpectralModel as SuperExpCutoffPowerLaw3FGLSpectralModel,
)
from jaxprof.core.spectral import (
    SuperExpCutoffPowerLaw4FGLDR3SpectralModel as SuperExpCutoffPowerLaw4FGLDR3SpectralModel,
)
from jaxprof.core.spectral import TemplateSpectralModel as TemplateSpectralModel
from jaxprof.datasets import MapDataset as MapDataset
from jaxprof.datasets import MapDatasetOnOff as MapDatasetOnOff
from jaxprof.estimator import FluxProfileEstimator as FluxProfileEstimator
from jaxprof.forward import ForwardFoldingProfileEstimator as ForwardFoldingProfileEstimator
from jaxprof.forward import expected_dataset as expected_dataset
from jaxprof.forward import predicted_counts as predicted_counts
from jaxprof.irf import EDispKernelMap as EDispKernelMap
from jaxprof.irf import EDispMap as EDispMap
from jaxprof.irf import PSFMap as PSFMap
from jaxprof.irf import RecoPSFMap as RecoPSFMap
from jaxprof.maps import WcsNDMap as WcsNDMap
from jaxprof.maps.axes import MapAxis as MapAxis
from jaxprof.maps.geometry import WcsGeom as WcsGeom
from jaxprof.models import SkyModel as SkyModel
from jaxprof.models import TemplateSpatialModel as TemplateSpatialModel
from jaxprof.options import NormParameter as NormParameter
from jaxprof.profile import FluxProfile as FluxProfile
from jaxprof.regions import RegionGeom as RegionGeom
from jaxprof.regions import (
    make_concentric_annulus_sky_regions as make_concentric_annulus_sky_regions,
)
from jaxprof.regions import make_grid_rectangle_sky_regions as make_grid_rectangle_sky_regions
from jaxprof.regions import (
    make_orthogonal_rectangle_sky_regions as make_orthogonal_rectangle_sky_regions,
)
from jaxprof.regions import make_sector_sky_regions as make_sector_sky_regions

__version__ = "0.1.0"
