"""``dataset.models``: other sources that join the background, folded as the bins are."""

import copy
import warnings

import astropy.units as u
import numpy as np
import pytest
from forward_factory import MODEL, dataset_of, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose, assert_array_equal

from jaxprof import (
    DiskSpatialModel,
    FluxProfileEstimator,
    ForwardFoldingProfileEstimator,
    MapDataset,
    MapDatasetOnOff,
    PointSpatialModel,
    SkyModel,
    WcsNDMap,
    expected_dataset,
    predicted_counts,
)
from jaxprof.likelihood.arrays import profile_data

BINSZ, WIDTH = 0.05, 0.1
OPTIONS = {"regions": rings(4, 0.1), "spectral_model": MODEL, "energy_edges": [1, 10] * u.TeV}
# On the centre of a pixel of the fine image, off that of the map's: in the second ring.
PLACE = (-0.095, -0.115)
POINT = SkyModel(
    MODEL.replace(amplitude=4 * MODEL.amplitude),
    PointSpatialModel(lon_0=PLACE[0], lat_0=PLACE[1], frame="galactic"),
    name="neighbour",
)
DISK = SkyModel(MODEL, DiskSpatialModel(r_0=0.2, frame="galactic"), name="disk")


def blurred(image, **more):
    return dataset_of(gaussian_image(image, WIDTH, BINSZ), BINSZ, sigma=WIDTH, **more)


@pytest.fixture(scope="module")
def made():
    """Counts of a disk alone, and with a point source besides: neither by the package's code."""
    disk = blurred(sky_image(lambda x, y: np.hypot(x, y) < 0.2, BINSZ), background=0.5)
    point = blurred(sky_image(None, BINSZ, point=(-PLACE[0], PLACE[1])))
    both = copy.copy(disk)
    both.counts = WcsNDMap(disk.geom, disk.counts.data + 4 * point.counts.data)
    return disk, both


# Without its model the point is in uniform rings.
@pytest.mark.filterwarnings("ignore:the joint fit does not describe what is in bin")
@pytest.mark.parametrize("kind", [FluxProfileEstimator, ForwardFoldingProfileEstimator])
def test_the_profile_is_that_of_the_rest(made, kind):
    disk, both = copy.copy(made[0]), copy.copy(made[1])
    estimator = kind(**OPTIONS)
    alone, disturbed = estimator.run(disk), estimator.run(both)
    both.models = [POINT]
    found = estimator.run(both)
    # The point is most of what is in two of the rings.
    assert np.max(np.abs(disturbed.norm - alone.norm)) > 1
    assert_allclose(found.norm, alone.norm, atol=0.01)
    # The errors know the counts of the point: they are those of the data.
    assert np.all(found.norm_err[1] > 1.2 * alone.norm_err[1])
    # As the same counts as npred_sources, to the last digits.
    same = copy.copy(both)
    same.models, same.npred_sources = None, predicted_counts(both, POINT)
    expected = estimator.run(same)
    for name in ("norm", "norm_err", "ts", "npred", "npred_background"):
        assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    added = found.npred_background - alone.npred_background
    assert np.all(added > 0) and added.max() > 10
    # Half of it as a model, half as counts; and a model twice as bright, taken back.
    half = SkyModel(MODEL.replace(amplitude=2 * MODEL.amplitude), POINT.spatial_model)
    both.models, both.npred_sources = half, predicted_counts(both, half)
    assert_allclose(estimator.run(both).norm, found.norm, rtol=1e-9, atol=1e-9)
    # The dataset is as it was.
    assert both.models == [half]
    assert_array_equal(both.npred_background().data, 0.5 + both.npred_sources.data)


def test_with_a_kept_response_and_in_reduce(made):
    both = copy.copy(made[1])
    estimator = ForwardFoldingProfileEstimator(**OPTIONS)
    response = estimator.response(both)
    both.models = [POINT, DISK]
    found = estimator.run(both, response=response)
    assert_allclose(found.norm, 0, atol=0.02)
    likelihood = estimator.reduce(both, response)
    total = sum(float(np.sum(term.offset)) for term in likelihood.terms)
    disjoint = response.datasets[0].disjoint
    predicted = predicted_counts(both, [POINT, DISK]).data[:, disjoint.y, disjoint.x]
    assert_allclose(total, np.sum(predicted * response.datasets[0].mask), rtol=1e-6)
    own = profile_data(FluxProfileEstimator(**OPTIONS).reduce(both))
    both.models = []
    without = profile_data(FluxProfileEstimator(**OPTIONS).reduce(both))
    assert np.all(own.background >= without.background)
    assert_array_equal(own.counts, without.counts)


def test_several_datasets_have_their_own(made):
    disk, both = copy.copy(made[0]), copy.copy(made[1])
    both.models = [POINT]
    joint = FluxProfileEstimator(**OPTIONS).run([disk, both])
    assert_allclose(joint.norm, FluxProfileEstimator(**OPTIONS).run(disk).norm, atol=0.01)


def test_expected_dataset_with_models(made):
    both = copy.copy(made[1])
    both.models = [POINT]
    expected = expected_dataset(both, DISK)
    assert_allclose(
        expected.counts.data, 0.5 + predicted_counts(both, [POINT, DISK]).data, rtol=1e-12
    )
    assert expected.models == [POINT]
    found = ForwardFoldingProfileEstimator(**OPTIONS).run(expected)
    assert_allclose(found.norm[:, 0], [0.25, 0.75, 0, 0], atol=0.005)
    # Only the models that are given are predicted.
    assert_array_equal(predicted_counts(both, []).data, 0)


def test_what_a_dataset_takes_for_models(made):
    dataset = copy.copy(made[0])
    assert dataset.models == []
    for given, expected in ((POINT, [POINT]), ((POINT, DISK), [POINT, DISK]), (None, [])):
        dataset.models = given
        assert dataset.models == expected
    dataset.models += [DISK]
    assert dataset.models == [DISK]
    assert MapDataset(models=[POINT]).models == [POINT]
    for wrong, message in (
        ([MODEL], r"models\[0\] is a PowerLawSpectralModel; give a SkyModel"),
        ("crab", "models is a str"),
        (3, "models is a int"),
        ([DISK, None], r"models\[1\] is a NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            dataset.models = wrong
    assert dataset.models == [DISK]
    for other in (copy.copy(dataset), copy.deepcopy(dataset)):
        assert [model.name for model in other.models] == ["disk"]


def test_texts_name_the_models(made):
    dataset = copy.copy(made[0])
    assert "Models                  : none" in str(dataset)
    assert "models" not in repr(dataset)
    dataset.models = [POINT, DISK]
    assert "Models                  : neighbour, disk" in str(dataset)
    assert repr(dataset).endswith("exposure, psf, models=['neighbour', 'disk'])")


def test_models_that_cannot_be_folded(made):
    estimators = [
        kind(**OPTIONS) for kind in (FluxProfileEstimator, ForwardFoldingProfileEstimator)
    ]
    dataset = copy.copy(made[0])
    dataset.models = [SkyModel(MODEL.replace(amplitude=-1.0), DISK.spatial_model)]
    for estimator in estimators:
        with pytest.raises(
            ValueError, match="models of dataset '.*' predict negative counts, down"
        ):
            estimator.run(dataset)
    dataset.models = SkyModel(MODEL, PointSpatialModel(frame="moon"), name="far")
    with pytest.raises(ValueError, match="models of dataset '.*: models: 'far': .*frame 'moon'"):
        estimators[0].run(dataset)
    dataset.models, dataset.psf = [DISK], None
    with pytest.raises(ValueError, match="models of dataset .* no psf: .*npred_sources"):
        estimators[0].run(dataset)
    dataset.models = None
    estimators[0].run(dataset)
    dataset.models, dataset.exposure = [DISK], None
    with pytest.raises(ValueError, match="no exposure|no psf"):
        estimators[0].run(dataset)


def test_on_off_data_have_no_place_for_them(made):
    dataset = MapDatasetOnOff(counts=made[0].counts)
    with pytest.raises(ValueError, match=r"models of an On-Off dataset.*sources="):
        dataset.models = [DISK]
    with pytest.raises(ValueError, match="models is a int"):
        dataset.models = 3
    dataset.models = []
    dataset.models = None
    assert dataset.models == []


def test_files_are_without_them(made, tmp_path):
    dataset = copy.copy(made[0])
    dataset.models = [POINT, DISK]
    with pytest.warns(UserWarning, match="without its models 'neighbour', 'disk'") as caught:
        dataset.write(tmp_path / "d.fits")
    assert caught[0].filename == __file__
    assert MapDataset.read(tmp_path / "d.fits").models == []
    dataset.models = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.write(tmp_path / "d.fits", overwrite=True)
