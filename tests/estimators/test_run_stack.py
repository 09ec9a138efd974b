"""run_stack: equal to the loop over run, for both estimators, with messages that name entries."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from forward_factory import MODEL, dataset_of, gaussian_image, rings, sky_image
from numpy.testing import assert_allclose

from jaxprof import FluxProfileEstimator, ForwardFoldingProfileEstimator

EDGES = [1, 10] * u.TeV


@pytest.fixture(scope="module")
def datasets():
    image = gaussian_image(sky_image(lambda x, y: np.hypot(x, y) < 0.2, 0.1), 0.1, 0.1)
    made = [dataset_of(image, 0.1, sigma=0.1).copy(name=f"run {k}") for k in range(3)]
    for k, dataset in enumerate(made):
        dataset.counts.data[...] = np.random.default_rng(k).poisson(dataset.counts.data)
    made[2].exposure.data[...] *= 1.3
    return made


def same(stack, loop):
    """Equal to 1e-12, and equally NaN."""
    for own, other in zip(stack, loop, strict=True):
        assert set(own.quantities) == set(other.quantities)
        for name, values in other.quantities.items():
            if values.dtype.kind == "f":
                scale = np.nanmax(np.abs(values), initial=0.0)
                assert_allclose(
                    own.quantities[name], values, rtol=1e-12, atol=1e-12 * scale, err_msg=name
                )
            else:
                assert np.array_equal(own.quantities[name], values), name


def test_separate_fits(datasets):
    options = {"spectral_model": MODEL, "energy_edges": EDGES, "selection_optional": ["scan"]}
    estimator = FluxProfileEstimator(rings(4, 0.2), **options)
    entries = {"a": datasets[0], "both": datasets[:2], "c": datasets[2]}
    stack = estimator.run_stack(entries)
    assert stack.names == ("a", "both", "c") and stack.axis == "set"
    same(stack, [estimator.run(own) for own in entries.values()])
    sets = {"wide": rings(4, 0.2), "few": rings(2, 0.3)}
    stack = estimator.run_stack(datasets[0], regions=sets)
    same(
        stack,
        [FluxProfileEstimator(own, **options).run(datasets[0]) for own in sets.values()],
    )
    assert stack.shape == (2, 4, 1)


def test_a_light_curve_of_the_same_times_is_said(datasets):
    estimator = FluxProfileEstimator(rings(4, 0.2), spectral_model=MODEL, energy_edges=EDGES)
    times = Table({"START": [0.0] * u.s, "STOP": [86400.0] * u.s})
    times.meta = {"MJDREFI": 55000, "MJDREFF": 0.0, "TIMESYS": "TT"}
    twice = {name: datasets[0].copy(name=name) for name in ("old", "new")}
    for own in twice.values():
        own.gti = times
    with pytest.warns(UserWarning, match="overlap in time: old and new by 1 d"):
        estimator.run_stack(twice, axis="time")
    assert estimator.run_stack(twice).axis == "set"


@pytest.mark.slow
def test_joint_fits_share_their_response(datasets, monkeypatch):
    estimator = ForwardFoldingProfileEstimator(
        rings(3, 0.2), spectral_model=MODEL, energy_edges=EDGES
    )
    loop = [estimator.run(own) for own in datasets]
    made = []
    fold = ForwardFoldingProfileEstimator._folded
    monkeypatch.setattr(
        ForwardFoldingProfileEstimator,
        "_folded",
        lambda self, own, *args: made.append(own[0].name) or fold(self, own, *args),
    )
    same(estimator.run_stack(datasets), loop)
    # The second has the response of the first, the third another exposure.
    assert made == ["run 0", "run 2"]


def test_messages_name_their_entries(datasets):
    estimator = FluxProfileEstimator(
        rings(3, 0.2), spectral_model=MODEL, energy_edges=[1, 12] * u.TeV
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.run_stack(datasets)
    moved = [str(w.message) for w in caught if "energy_edges" in str(w.message)]
    assert len(moved) == 1 and moved[0].startswith("run 0, run 1, run 2: ")
    assert caught[0].filename == __file__
    for args, options, message in (
        ((datasets[0],), {}, "run\\(\\) takes a single one"),
        (({},), {}, "needs entries"),
        (([datasets[0], datasets[0]],), {}, "'run 0' occurs twice"),
        (({1: datasets[0]},), {}, "must be text"),
        (({"a": datasets[0]},), {"regions": {"b": rings(3, 0.2)}}, "regions must be a mapping"),
        ((datasets[0],), {"regions": {"b": rings(1, 0.2)}}, "b: regions: a profile needs"),
        (({"a": []},), {}, "a: datasets is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.run_stack(*args, **options)
