"""Expected counts of models of the sky."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import TypeVar

import jax
import numpy as np

from jaxprof.datasets import MapDataset
from jaxprof.datasets.folding import dataset_to_fold
from jaxprof.datasets.gammapy import as_datasets
from jaxprof.reduce.joint.components import TORN, source_emissions
from jaxprof.reduce.joint.degrees import moment_degree
from jaxprof.reduce.joint.kernels import check_energies, missing_psf
from jaxprof.reduce.joint.pixel_signal import add_images
from jaxprof.reduce.joint.sphere import folding_of
from jaxprof.sky import WcsNDMap
from jaxprof.sky.models import SkyModel, model_list
from jaxprof.user_warning import warn_user

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
        What the sky consists of; the sum of several. Their attribute ``free`` does not matter, and
        neither does ``dataset.models``, which may be given here.

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

    Warns
    -----
    UserWarning
        If the map's projection ends within the PSF of a source (at the seam of a map of the whole
        sky, unless its columns close on themselves there): what leaks across is lost.

    See Also
    --------
    expected_dataset : A dataset with these counts, to be estimated like the data.
    """
    dataset = as_datasets(dataset)
    if not isinstance(dataset, MapDataset):
        raise ValueError(
            f"dataset is a {type(dataset).__name__}; give a MapDataset (of several, one at a time)"
        )
    sky = model_list(models)
    if dataset.psf is None:
        raise missing_psf(dataset)
    geom, _ = dataset.geom, dataset.energy_axis_true
    dataset = dataset_to_fold(dataset)
    true = dataset.energy_axis_true.edges_tev()
    used = np.asarray(dataset.mask.any(axis=(1, 2)))
    total = np.zeros(geom.data_shape)
    degree = moment_degree(dataset, None)
    with jax.enable_x64(True):
        # One model at a time: all together may be many times as large as the map.
        for model in sky:
            flux = np.asarray(model.spectral_model.integral(true[:-1], true[1:]))
            emissions = source_emissions([model], dataset, degree, name="models")
            folding = folding_of(dataset, emissions)
            check_energies(folding.problems, used)
            if hasattr(model.spatial_model, "lon_0") and folding.gradients[0] == np.inf:
                warn_user(
                    f"models: {model.name!r}: within the PSF of dataset {dataset.name!r} {TORN}"
                )
            add_images(total, folding.cutouts(flux[np.newaxis]), np.ones((1, 1)), slice(None))
    return WcsNDMap(geom, total)


def with_models_as_counts(dataset: Dataset, leave_out: Collection[str] = ()) -> Dataset:
    """The dataset with the expected counts of its models among its ``npred_sources``.

    Models for other datasets do not count, nor do those whose names are to be left out. Without any
    it is the dataset itself, otherwise a copy without models that shares all else.

    Raises
    ------
    ValueError
        As for `predicted_counts`, and for models that predict negative counts inside the mask.
    """
    if not dataset.models:
        return dataset
    found = copy.copy(dataset)
    models = [m for m in dataset.models if m.name not in leave_out and m.is_in(dataset.name)]
    if not models:
        found.models = []
        return found
    name = f"models of dataset {dataset.name!r}"
    if dataset.psf is None:
        raise ValueError(
            f"{name} cannot be folded, as it has no psf: set dataset.psf (PSFMap.from_gauss makes "
            "a Gaussian one), or give the counts of the models as npred_sources"
        )
    try:
        total = predicted_counts(dataset, models)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if dataset.npred_sources is not None:
        total.data += dataset.npred_sources.data
    negative = (total.data < 0) & dataset.mask
    if negative.any():
        raise ValueError(
            f"{name} predict negative counts, down to {total.data[negative].min():.4g}, in "
            f"{np.count_nonzero(negative)} bins inside the mask; give models of positive flux"
        )
    found.npred_sources, found.models = total, []
    return found
