"""Profiles as flux points of gammapy, and back: what the files of the two say."""

from __future__ import annotations

import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxprof.foreign import gammapy_class
from jaxprof.io.fluxprofile import write_profile
from jaxprof.io.readprofile import read_profile
from jaxprof.models.gammapy import GammapySpectralModel, spectral_model_from_gammapy
from jaxprof.profile import FluxProfile


def spectral_model_to_gammapy(model: Any) -> Any:
    """The same spectrum as a model of gammapy.

    Raises
    ------
    ImportError
        If gammapy is not installed.
    ValueError
        If gammapy has no such model.
    """
    models = _gammapy("modeling.models")
    if gammapy_class(model) is not None:
        return model
    if isinstance(model, GammapySpectralModel):
        return model.model.copy()
    if not hasattr(model, "to_dict"):
        raise ValueError(
            f"the reference model is a {type(model).__name__} of your own, which gammapy does not "
            "know: make the profile with a TemplateSpectralModel of it"
        )
    data = model.to_dict()
    return models.SPECTRAL_MODEL_REGISTRY.get_cls(data["spectral"]["type"]).from_dict(data)


def profile_to_gammapy(profile: FluxProfile) -> Any:
    """Flux points of gammapy; see `FluxProfile.to_gammapy`."""
    points = _gammapy("estimators").FluxPoints
    if profile.reference_models is not None:
        raise ValueError(
            "the bins have spectra of their own, and gammapy's FluxPoints have one for all: write "
            "the profile, and read one sed_type of it, FluxPoints.read(filename, "
            "format='profile', sed_type='dnde')"
        )
    if profile.reference_model is None:
        raise ValueError("the profile has no reference_model, which gammapy's FluxPoints need")
    model = spectral_model_to_gammapy(profile.reference_model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.fits"
        with warnings.catch_warnings():
            # Units of deg and the like, as gammapy writes them itself; the file is without models
            # that gammapy evaluates, which are given.
            warnings.simplefilter("ignore")
            write_profile(profile, path, sed_type="likelihood", include_likelihood=False)
            found = points.read(path, format="profile", reference_model=model)
    found.meta |= {"n_sigma": profile.n_sigma, "n_sigma_ul": profile.n_sigma_ul}
    found.sqrt_ts_threshold_ul = profile.sqrt_ts_threshold_ul
    return found


def profile_from_gammapy(points: Any) -> FluxProfile:
    """The profile in flux points of gammapy, as its file of the format "profile" has it.

    Raises
    ------
    ValueError
        If the points are no profile: they need an axis of regions or of projected distance.
    """
    names = list(points.geom.axes.names)
    if not {"projected-distance", "region-index"} & set(names):
        raise ValueError(
            f"gammapy's FluxPoints with the axes {names} are no profile: these have "
            "projected-distance or region-index"
        )
    # gammapy keeps it as a source without a position.
    model = getattr(points.reference_model, "spectral_model", points.reference_model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.fits"
        points.write(path, format="profile", sed_type="likelihood")
        found = read_profile(
            path,
            reference_model=spectral_model_from_gammapy(model),
            n_sigma_ul=points.n_sigma_ul,
        )
    found.sqrt_ts_threshold_ul = points.sqrt_ts_threshold_ul
    return found


def _gammapy(module: str) -> Any:
    try:
        return import_module(f"gammapy.{module}")
    except ImportError as error:
        raise ImportError("gammapy is not installed: pip install 'jaxprof[gammapy]'") from error
