"""Estimators, datasets and profiles refuse attributes that they do not have."""

import copy
import pickle

import astropy.units as u
import numpy as np
import pytest
from profile_factory import make_joint_profile, make_profile

from jaxprof import FluxProfile, FluxProfileEstimator, ForwardFoldingProfileEstimator, MapDataset
from jaxprof.datasets import MapDatasetOnOff
from jaxprof.sky import WcsNDMap


@pytest.fixture
def profile():
    return make_profile()


@pytest.fixture
def dataset(simulated):
    return copy.copy(simulated)


@pytest.mark.parametrize(
    ("name", "near"),
    [("npred_source", "npred_sources"), ("Counts", "counts"), ("mask_save", "mask_safe")],
)
def test_datasets_refuse_typos(dataset, name, near):
    for found in (dataset, MapDatasetOnOff()):
        if near not in found._options():
            continue
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*mean '{near}'"):
            setattr(found, name, None)
        assert not hasattr(found, name)


def test_datasets_take_what_they_have(dataset):
    mask = WcsNDMap(dataset.geom, np.ones(dataset.geom.data_shape, int))
    dataset.mask_fit = mask
    # Checked when it is set, too: masks are boolean.
    assert dataset.mask_fit.is_mask
    with pytest.raises(AttributeError, match="name"):
        dataset.name = "other"
    with pytest.raises(AttributeError, match="no attribute 'check'"):
        dataset.check = None
    for same in (copy.copy(dataset), copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert same.name == dataset.name
        np.testing.assert_array_equal(same.counts.data, dataset.counts.data)
        with pytest.raises(AttributeError, match="no attribute 'count'"):
            same.count = 3


def test_on_off_data_refuse_what_cannot_join_their_background(dataset):
    found = MapDatasetOnOff(counts=dataset.counts)
    for name in ("background", "npred_sources"):
        with pytest.raises(ValueError, match=f"{name} of an On-Off dataset.*sources="):
            setattr(found, name, dataset.background)
        setattr(found, name, None)
    assert found.background is None


def test_subclasses_declare_their_own():
    class Mine(MapDataset):
        note: str
        version = 1

        @property
        def doubled(self):
            return 2 * self.version

        @doubled.setter
        def doubled(self, value):
            self.version = value // 2

    mine = Mine(name="mine")
    mine.note, mine.doubled = "hello", 6
    assert (mine.note, mine.version) == ("hello", 3)
    with pytest.raises(AttributeError, match="Mine has no attribute 'notes'.*mean 'note'"):
        mine.notes = "hello"


def test_estimators_refuse_typos():
    regions = make_profile().regions
    for kind in (FluxProfileEstimator, ForwardFoldingProfileEstimator):
        estimator = kind(regions, energy_edges=[1, 10] * u.TeV)
        with pytest.raises(AttributeError, match="no option 'n_sigma_uls'; it takes.*'n_sigma_ul'"):
            estimator.n_sigma_uls = 3
        with pytest.raises(AttributeError, match="no option 'run'"):
            estimator.run = None


@pytest.mark.parametrize("make", [make_profile, make_joint_profile])
def test_profiles_refuse_typos(make):
    p = make()
    with pytest.raises(AttributeError, match="'sqrt_ts_treshold_ul'.*mean 'sqrt_ts_threshold_ul'"):
        p.sqrt_ts_treshold_ul = 5
    # The profile works as before.
    part = p.slice_by_idx({"energy": slice(0, 1)})
    assert part.shape == (p.shape[0], 1)
    for same in (copy.copy(p), copy.deepcopy(p), pickle.loads(pickle.dumps(p)), part):
        with pytest.raises(AttributeError, match="no attribute 'color'"):
            same.color = "red"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n_sigma_ul", r"upper limits .* those of n_sigma_ul=2; .*recompute_ul"),
        ("n_sigma", r"errors .* those of n_sigma=1; estimate again with another n_sigma"),
        ("n_sigma_sensitivity", "sensitivities .* n_sigma_sensitivity=5"),
        ("norm", "it is one of its quantities"),
        ("flux_ul", "it is one of its quantities"),
        ("reference_model", "make a new FluxProfile"),
        ("energy_edges", "make a new FluxProfile"),
        ("mask", "mask"),
    ],
)
def test_profiles_refuse_what_other_values_follow_from(profile, name, message):
    before = profile.to_table()
    with pytest.raises(AttributeError, match=message):
        setattr(profile, name, 3)
    assert profile.n_sigma_ul == before.meta["NSIGMAUL"] == 2
    np.testing.assert_array_equal(profile.to_table()["norm_ul"], before["norm_ul"])


@pytest.mark.parametrize("value", ["2", True, np.nan, None])
def test_threshold_is_checked(profile, value):
    with pytest.raises(ValueError, match="sqrt_ts_threshold_ul must be a number"):
        profile.sqrt_ts_threshold_ul = value


def test_is_ul_can_be_set(profile, tmp_path):
    rule = profile.is_ul.copy()
    mask = ~rule
    shallow = copy.copy(profile)
    profile.is_ul = mask
    mask[0] = ~mask[0]  # what was given was copied
    np.testing.assert_array_equal(profile.is_ul, ~rule)
    np.testing.assert_array_equal(shallow.is_ul, rule)
    np.testing.assert_array_equal(profile["is_ul"].data, ~rule)
    np.testing.assert_array_equal(profile.to_table()["is_ul"], ~rule)
    part = profile.slice_by_idx({"energy": [1], "projected-distance": [2, 0]})
    np.testing.assert_array_equal(part.is_ul, ~rule[[2, 0]][:, [1]])
    np.testing.assert_array_equal(profile.recompute_ul(1).is_ul, ~rule)
    for ending in ("fits", "ecsv"):
        path = tmp_path / f"p.{ending}"
        profile.write(path)
        again = FluxProfile.read(path)
        np.testing.assert_array_equal(again.is_ul, ~rule)
        # What the rule gives is not kept: a profile that is read follows its threshold.
        shallow.write(path, overwrite=True)
        again = FluxProfile.read(path)
        again.sqrt_ts_threshold_ul = -np.inf
        assert not again.is_ul.any()
    profile.is_ul = None
    np.testing.assert_array_equal(profile.is_ul, rule)


def test_the_threshold_set_last_holds(profile):
    profile.is_ul = np.ones(profile.shape, bool)
    profile.sqrt_ts_threshold_ul = -np.inf
    assert not profile.is_ul.any()


@pytest.mark.parametrize("mask", [True, [True], np.ones((4, 2)), np.ones((2, 4), bool), "yes"])
def test_is_ul_that_is_none(profile, mask):
    with pytest.raises(ValueError, match=r"is_ul must be booleans of the shape .* \(4, 2\), got"):
        profile.is_ul = mask
    with pytest.raises(ValueError, match="is_ul must be booleans"):
        FluxProfile(
            {"norm": profile.norm, "is_ul": mask},
            axis=profile.axis,
            energy_edges=profile.energy_edges,
            reference_model=profile.reference_model,
        )


def test_figures_follow_is_ul(profile):
    """A point that is set to be a limit has no marker with errors, and an arrow at its limit."""
    import matplotlib.pyplot as plt

    mask = np.zeros(profile.shape, bool)
    profile.is_ul = mask
    count = []
    for value in (False, True):
        mask[0, 0] = value
        profile.is_ul = mask
        _, ax = plt.subplots()
        profile.plot(ax, sed_type="flux")
        at = profile.flux_ul[0, 0].value
        drawn = [
            y
            for line in ax.get_lines()
            for y in np.ravel(line.get_ydata()).astype(float)
            if np.isclose(y, at, rtol=1e-9, atol=0)
        ]
        count.append(len(drawn))
    assert count[0] == 0 < count[1]
