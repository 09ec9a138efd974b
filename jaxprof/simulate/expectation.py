"""Datasets with the counts that models of the sky are expected to give."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.datasets.gammapy import as_datasets
from jaxprof.reduce.joint.expectation import predicted_counts, with_models_as_counts
from jaxprof.sky import WcsNDMap
from jaxprof.sky.models import SkyModel

Dataset = TypeVar("Dataset", bound=MapDataset)


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
        All that is not in the background, in ``npred_sources`` or in ``dataset.models``; without
        any, the counts are theirs.

    Returns
    -------
    MapDataset or MapDatasetOnOff
        Of the class and name of `dataset`, with which it shares all maps but the counts, and the
        models. The counts, in float64, are those of the background, of ``npred_sources``, of
        ``dataset.models`` and of `models`: a profile has those of `models`. The background of
        On-Off data is ``alpha`` times the Off counts, zero where a pixel has no
        acceptance.

    Raises
    ------
    ValueError
        As for `predicted_counts`; and as for `MapDataset.check`, if the expected counts are
        negative inside the masks for instance, because a model has a negative flux.
    """
    dataset = as_datasets(dataset)
    predicted = predicted_counts(dataset, models)
    background = with_models_as_counts(dataset).npred_background().data
    if isinstance(dataset, MapDatasetOnOff):
        # Off maps made by a convolution may have rounding below zero, which counts must not have.
        background = np.maximum(background, 0.0)
    expected = copy.copy(dataset)
    expected.counts = WcsNDMap(predicted.geom, background + predicted.data)
    expected.check()
    return expected
