"""Flux profiles of gamma-ray data: batched, differentiable, on any device."""

from importlib import import_module
from typing import Any

from jaxprof.datasets import MapDataset as MapDataset
from jaxprof.datasets import MapDatasetOnOff as MapDatasetOnOff
from jaxprof.datasets.collection import Datasets as Datasets
from jaxprof.estimators.gammapy import from_gammapy as from_gammapy
from jaxprof.estimators.joint import (
    ForwardFoldingProfileEstimator as ForwardFoldingProfileEstimator,
)
from jaxprof.estimators.law_fit import fit_model as fit_model
from jaxprof.estimators.law_fit import model_limits as model_limits
from jaxprof.estimators.law_result import ModelFit as ModelFit
from jaxprof.estimators.options import NormParameter as NormParameter
from jaxprof.estimators.separate import FluxProfileEstimator as FluxProfileEstimator
from jaxprof.inference.fit_result import Fit as Fit
from jaxprof.inference.influence import influence as influence
from jaxprof.inference.model_fit import fit as fit
from jaxprof.inference.model_fit import random_starts as random_starts
from jaxprof.inference.named_intervals import Intervals as Intervals
from jaxprof.inference.named_intervals import intervals as intervals
from jaxprof.inference.profiled import ProfileLimits as ProfileLimits
from jaxprof.inference.profiled import limits as limits
from jaxprof.inference.profiled import scan as scan
from jaxprof.inference.profiled import sensitivity as sensitivity
from jaxprof.inference.toy_results import Toys as Toys
from jaxprof.inference.toy_results import ToySummary as ToySummary
from jaxprof.inference.toys import toys as toys
from jaxprof.inference.whitening import whiten as whiten
from jaxprof.irf import EDispKernelMap as EDispKernelMap
from jaxprof.irf import EDispMap as EDispMap
from jaxprof.irf import PSFMap as PSFMap
from jaxprof.irf import RecoPSFMap as RecoPSFMap
from jaxprof.likelihood import Likelihood as Likelihood
from jaxprof.models.radial import BurkertRadialModel as BurkertRadialModel
from jaxprof.models.radial import ConstantRadialModel as ConstantRadialModel
from jaxprof.models.radial import CoredPowerLawRadialModel as CoredPowerLawRadialModel
from jaxprof.models.radial import DiffusionRadialModel as DiffusionRadialModel
from jaxprof.models.radial import DiskRadialModel as DiskRadialModel
from jaxprof.models.radial import EinastoRadialModel as EinastoRadialModel
from jaxprof.models.radial import ExponentialRadialModel as ExponentialRadialModel
from jaxprof.models.radial import GaussianRadialModel as GaussianRadialModel
from jaxprof.models.radial import GeneralizedGaussianRadialModel as GeneralizedGaussianRadialModel
from jaxprof.models.radial import GeneralizedNFWRadialModel as GeneralizedNFWRadialModel
from jaxprof.models.radial import NFWRadialModel as NFWRadialModel
from jaxprof.models.radial import PowerLawDensityRadialModel as PowerLawDensityRadialModel
from jaxprof.models.radial import PowerLawRadialModel as PowerLawRadialModel
from jaxprof.models.radial import RadialModel as RadialModel
from jaxprof.models.radial import ShellRadialModel as ShellRadialModel
from jaxprof.models.radial import SumRadialModel as SumRadialModel
from jaxprof.models.spatial import ConstantSpatialModel as ConstantSpatialModel
from jaxprof.models.spatial import DiskSpatialModel as DiskSpatialModel
from jaxprof.models.spatial import GaussianSpatialModel as GaussianSpatialModel
from jaxprof.models.spatial import (
    GeneralizedGaussianSpatialModel as GeneralizedGaussianSpatialModel,
)
from jaxprof.models.spatial import PointSpatialModel as PointSpatialModel
from jaxprof.models.spatial import ShellSpatialModel as ShellSpatialModel
from jaxprof.models.spectral import BrokenPowerLawSpectralModel as BrokenPowerLawSpectralModel
from jaxprof.models.spectral import CompoundSpectralModel as CompoundSpectralModel
from jaxprof.models.spectral import ConstantSpectralModel as ConstantSpectralModel
from jaxprof.models.spectral import (
    EBLAbsorptionNormSpectralModel as EBLAbsorptionNormSpectralModel,
)
from jaxprof.models.spectral import (
    ExpCutoffPowerLawNormSpectralModel as ExpCutoffPowerLawNormSpectralModel,
)
from jaxprof.models.spectral import ExpCutoffPowerLawSpectralModel as ExpCutoffPowerLawSpectralModel
from jaxprof.models.spectral import LogParabolaNormSpectralModel as LogParabolaNormSpectralModel
from jaxprof.models.spectral import LogParabolaSpectralModel as LogParabolaSpectralModel
from jaxprof.models.spectral import PiecewiseNormSpectralModel as PiecewiseNormSpectralModel
from jaxprof.models.spectral import PowerLaw2SpectralModel as PowerLaw2SpectralModel
from jaxprof.models.spectral import PowerLawNormSpectralModel as PowerLawNormSpectralModel
from jaxprof.models.spectral import PowerLawSpectralModel as PowerLawSpectralModel
from jaxprof.models.spectral import (
    SmoothBrokenPowerLawSpectralModel as SmoothBrokenPowerLawSpectralModel,
)
from jaxprof.models.spectral import (
    SuperExpCutoffPowerLaw3FGLSpectralModel as SuperExpCutoffPowerLaw3FGLSpectralModel,
)
from jaxprof.models.spectral import (
    SuperExpCutoffPowerLaw4FGLDR3SpectralModel as SuperExpCutoffPowerLaw4FGLDR3SpectralModel,
)
from jaxprof.models.spectral import TemplateSpectralModel as TemplateSpectralModel
from jaxprof.profile import FluxProfile as FluxProfile
from jaxprof.profile.stack import FluxProfileStack as FluxProfileStack
from jaxprof.reduce.influence_map import influence_map as influence_map
from jaxprof.reduce.joint.expectation import predicted_counts as predicted_counts
from jaxprof.simulate.expectation import expected_dataset as expected_dataset
from jaxprof.sky import WcsNDMap as WcsNDMap
from jaxprof.sky.axes import MapAxis as MapAxis
from jaxprof.sky.geometry import WcsGeom as WcsGeom
from jaxprof.sky.model_list import FoVBackgroundModel as FoVBackgroundModel
from jaxprof.sky.model_list import Models as Models
from jaxprof.sky.model_list import TemplateNPredModel as TemplateNPredModel
from jaxprof.sky.models import SkyModel as SkyModel
from jaxprof.sky.regions import RegionGeom as RegionGeom
from jaxprof.sky.regions import (
    make_concentric_annulus_sky_regions as make_concentric_annulus_sky_regions,
)
from jaxprof.sky.regions import make_grid_rectangle_sky_regions as make_grid_rectangle_sky_regions
from jaxprof.sky.regions import (
    make_orthogonal_rectangle_sky_regions as make_orthogonal_rectangle_sky_regions,
)
from jaxprof.sky.regions import make_sector_sky_regions as make_sector_sky_regions
from jaxprof.sky.template_map import TemplateSpatialModel as TemplateSpatialModel

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What is heavy or seldom needed is imported when it is asked for."""
    if name in ("core", "plotting"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
