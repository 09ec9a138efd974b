"""Expected counts of models of the sky, and datasets that hold exactly these."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.forward.components import source_emissions
from jaxprof.forward.kernels import missing_psf, subpixels
from jaxprof.forward.slots import templates_at
from jaxprof.forward.windows import Folding, check_energies
from jaxprof.maps import WcsNDMap
from jaxprof.models import SkyModel

Dataset = TypeVar("Dataset", bound=MapDataset)


def predicted_counts(dataset: MapDataset, models: SkyModel | Iterable[SkyModel]) -> WcsNDMap:
    """Counts that a model of the sky is expected to give, without any background.

    Each model is folded as `ForwardFoldingProfileEstimator` folds its bins and sources, through
    exposure, point-spread function and energy dispersion; the latter two are those at the centre of
    the model. Where the exposure is not finite it counts as zero.

    Parameters
    ----------
    dataset : MapDataset
        With exposure, PSF and the pixels of its counts; the counts themselves do not matter, and
        neither do the masks, but for this: at energies that they leave out altogether, what is
        wrong with PSF or energy dispersion counts as zero.
    models : SkyModel or iterable of SkyModel
        What the sky consists of; the sum of several. Their attribute ``free`` does not matter.

    Returns
    -------
    WcsNDMap
        As the counts of the dataset, in float64; zeros without any model. Negative where models of
        negative flux outweigh the others.

    Raises
    ------
    ValueError
        If the dataset has no PSF, exposure or pixels, its PSF or energy dispersion is none where
        it is used, the models are none, or the map's projection cannot show one of them.

    See Also
    --------
    expected_dataset : A dataset with these counts, to be estimated like the data.
    """
    if not isinstance(dataset, MapDataset):
        raise ValueError(
            f"dataset is a {type(dataset).__name__}; give a MapDataset (of several, one at a time)"
        )
    sky = _model_list(models)
    if dataset.psf is None:
        raise missing_psf(dataset)
    geom, _ = dataset.geom, dataset.energy_axis_true
    dataset = dataset_to_fold(dataset)
    true = dataset.energy_axis_true.edges_tev()
    used = np.asarray(dataset.mask.any(axis=(1, 2)))
    total = np.zeros(geom.data_shape)
    y, x = (index.reshape(1, -1) for index in np.indices(geom.npix_shape))
    factor = subpixels(dataset, None)
    with jax.enable_x64(True):
        # One model and one energy at a time: all together may be many times as large as the map.
        for model in sky:
            flux = np.asarray(model.spectral_model.integral(true[:-1], true[1:]))
            emissions = source_emissions([model], dataset, factor, name="models")
            folding = Folding(dataset, emissions)
            check_energies(folding, used)
            windows = folding.windows(flux[np.newaxis])
            only = [np.zeros((1, 1), int)]
            for k, image in enumerate(total):
                energy = np.full(y.shape, k)
                found = templates_at(windows, only, energy, y, x, np.ones(y.shape, bool))
                image += np.asarray(found).reshape(image.shape)
    return WcsNDMap(geom, total)


def expected_dataset(dataset: Dataset, models: SkyModel | Iterable[SkyModel]) -> Dataset:
    """The dataset with the counts that a model of the sky is expected to give (Asimov data).

    An estimator folds the model into the bins of a profile as it does the data:
    ``estimator.run(expected_dataset(dataset, models))`` is the curve that the points of
    ``estimator.run(dataset)`` scatter around if the model is right. That holds for
    `ForwardFoldingProfileEstimator` and for `FluxProfileEstimator`, whose curve is blurred by the
    point-spread function as its points are.

    Parameters
    ----------
    dataset : MapDataset or MapDatasetOnOff
        With exposure and PSF.
    models : SkyModel or iterable of SkyModel
        All that is not in the background or in ``npred_sources``; without any, the counts are the
        background's.

    Returns
    -------
    MapDataset or MapDatasetOnOff
        Of the class and name of `dataset`, with which it shares all maps but the counts. These, in
        float64, are those of the background, of ``npred_sources`` and of the models; the
        background of On-Off data is ``alpha`` times the Off counts, zero where a pixel has no
        acceptance.

    Raises
    ------
    ValueError
        As for `predicted_counts`; and as for `MapDataset.check`, if the expected counts are
        negative inside the masks for instance, because a model has a negative flux.
    """
    predicted = predicted_counts(dataset, models)
    background = dataset.npred_background().data
    if isinstance(dataset, MapDatasetOnOff):
        # Off maps made by a convolution may have rounding below zero, which counts must not have.
        background = np.maximum(background, 0.0)
    expected = copy.copy(dataset)
    expected.counts = WcsNDMap(predicted.geom, background + predicted.data)
    expected.check()
    return expected


def _model_list(models: Any) -> list[SkyModel]:
    """One model or several, as a list."""
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
