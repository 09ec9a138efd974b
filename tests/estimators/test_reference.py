"""Every reference case: from its arrays to machine precision, and through the whole chain."""

import json
import warnings

import astropy.units as u
import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from regions import Regions

from jaxprof import FluxProfileEstimator, MapDataset
from jaxprof.core import ProfileData, Status, fit_norms, limits, scan, sensitivity
from jaxprof.models.spectral_base import spectral_model_from_dict

CASES = [
    "01a_seed_linear_gp13",
    "01b_linear_9_351_gp21",
    "01c_linear_9_351_gp13",
    "02a_seed_radial",
    "02b_seed_radial_all",
    "02c_seed_radial_gp13",
    "03a_5groups_ecpl",
    "03b_5groups_logparabola",
    "04_sum_over_energy_groups",
    "05_nsigma2_nsigmaul3",
    "06a_joint_radial",
    "06b_joint_linear",
]
# All cases fit into these bins, groups and counts bins: one compilation for all of them.
PADDED = (51, 5, 12)
STATUS = {
    "ok": Status.OK,
    "kink": Status.BOUNDARY,
    "zero_counts": Status.ZERO_COUNTS,
    "masked": Status.FULLY_MASKED,
}


@pytest.fixture(scope="module", params=CASES)
def case(request, reference_dir):
    folder = reference_dir / request.param
    config = json.loads((folder / "config.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    exact = {k: np.array(v, float) for k, v in result["exact"].items() if k != "exact_flag"}
    flags = np.array(result["exact_flag"])
    sigma = exact["exact_norm_err_1sigma"]
    # A point without curvature is measured by the width of its limits instead.
    width = np.abs(exact["exact_norm_ul"] - exact["exact_norm"]) / config["n_sigma_ul"]
    return {
        "folder": folder,
        "config": config,
        "inputs": {k: np.array(v, float) for k, v in result["inputs"].items()},
        "gammapy": result["gammapy"],
        "group_edges": np.array(result["group_edges_TeV"]),
        "exact": exact,
        "status": np.vectorize(STATUS.get)(flags).astype(int),
        "sigma": np.where(np.isfinite(sigma), sigma, width),
    }


def compare(case, got, rtol):
    """Compare with the exact solution, NaN for NaN; ``got`` maps a quantity to its values."""
    for name, values in got.items():
        if "exact_" + name in case["exact"]:
            assert_allclose(values, case["exact"]["exact_" + name], rtol=rtol, err_msg=name)


def test_from_arrays(case):
    arrays = {
        name: case["inputs"][name + "_e"] for name in ("counts", "background", "npred_ref", "mask")
    }
    n_bins, n_groups = arrays["counts"].shape[:2]
    padded = {name: np.zeros(PADDED) for name in arrays}
    for name, array in arrays.items():
        flat = array.reshape(n_bins, n_groups, -1)
        padded[name][:n_bins, :n_groups, : flat.shape[2]] = flat
    data = ProfileData(**{**padded, "mask": padded["mask"] == 1})
    config, exact = case["config"], case["exact"]
    values = config["norm_scan_values"]
    padded_fit = fit_norms(data)
    padded_limits = limits(
        data, padded_fit, n_sigma=config["n_sigma"], n_sigma_ul=config["n_sigma_ul"]
    )
    padded_sensitivity = sensitivity(data, n_sigma=config["n_sigma_sensitivity"])
    fit, result, detectable, scanned = jax.tree.map(
        lambda a: np.asarray(a)[:n_bins, :n_groups],
        (padded_fit, padded_limits, padded_sensitivity, scan(data, values)),
    )
    assert_array_equal(fit.status, case["status"])
    exact_norm = exact["exact_norm"]
    assert_array_equal(np.isnan(fit.norm), np.isnan(exact_norm))
    assert np.nanmax(np.abs(fit.norm - exact_norm) / case["sigma"]) < 1e-9
    got = {
        "norm_err_1sigma": fit.norm_err,
        "norm_errn": result.norm_errn,
        "norm_errp": result.norm_errp,
        "norm_ul": result.norm_ul,
        "norm_sensitivity": detectable,
    }
    compare(case, got, rtol=1e-9)
    for name in ("stat", "stat_null", "ts"):
        # The exact solution's floor leaves 1e-25 in a statistic that is zero.
        assert_allclose(getattr(fit, name), exact["exact_" + name], rtol=1e-11, atol=1e-15)
    if "exact_stat_scan" in exact:
        masked = case["status"] == Status.FULLY_MASKED
        assert_allclose(scanned[~masked], exact["exact_stat_scan"][~masked], rtol=1e-11, atol=1e-15)


@pytest.fixture(scope="module")
def profile(case):
    config = case["config"]
    datasets = [
        MapDataset.read(case["folder"] / path, name=name)
        for path, name in zip(config["datasets"], config["dataset_names"], strict=True)
    ]
    estimator = FluxProfileEstimator(
        regions=Regions.read(case["folder"] / "regions.reg", format="ds9"),
        spectral_model=spectral_model_from_dict(config["spectral_model"]["spectral"]),
        energy_edges=config["energy_edges"]["value"] * u.Unit(config["energy_edges"]["unit"]),
        n_sigma=config["n_sigma"],
        n_sigma_ul=config["n_sigma_ul"],
        n_sigma_sensitivity=config["n_sigma_sensitivity"],
        selection_optional=config["selection_resolved"],
        sum_over_energy_groups=config["sum_over_energy_groups"],
        norm={"scan_values": config["norm_scan_values"]},
        mask_policy="mean-exposure",
    )
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        profile = estimator.run(datasets if len(datasets) > 1 else datasets[0])
    # Most cases ask for energies up to 2 TeV, and the data end at 500 GeV.
    cut = estimator.energy_edges[-1].to_value("TeV") > 1.001 * case["group_edges"][-1][-1]
    # Limits below zero are those of gammapy, and said.
    negative = np.any(getattr(profile, "norm_ul", 0.0) < np.float64(0.0))
    expected = ["energy_edges"] * bool(cut) + ["negative upper limits of bin"] * bool(negative)
    messages = [str(w.message) for w in record]
    assert len(messages) == len(expected)
    assert all(m.startswith(start) for m, start in zip(messages, expected, strict=True))
    return profile


def test_whole_chain(case, profile):
    exact = case["exact"]
    assert_array_equal(profile.status, case["status"])
    assert_allclose(profile.energy_edges, case["group_edges"], rtol=1e-7)
    assert_array_equal(profile.counts, np.array(case["gammapy"]["counts"], float))
    masked = case["status"] == Status.FULLY_MASKED
    deviation = np.abs(profile.norm - exact["exact_norm"]) / case["sigma"]
    assert np.all(deviation[~masked] < 1e-3)
    got = {
        name: getattr(profile, name)
        for name in profile.available_quantities
        if name.startswith("norm") and name not in ("norm", "norm_scan")
    }
    compare(case, got, rtol=1e-4)
    assert_allclose(profile.stat_null, exact["exact_stat_null"], rtol=1e-4)
    # A TS far below one is a difference that the reference's own npred_ref does not fix to 1e-4.
    assert_allclose(profile.ts, exact["exact_ts"], rtol=1e-4, atol=1e-6)
    if "stat_scan" in profile.available_quantities:
        rise = profile.stat_scan - profile.stat[:, :, np.newaxis]
        expected = exact["exact_stat_scan"] - exact["exact_stat"][:, :, np.newaxis]
        assert_allclose(rise, expected, rtol=2e-4, atol=2e-4)
    if (
        case["config"]["selection_optional"] == "all"
        or "ul" in case["config"]["selection_resolved"]
    ):
        assert np.all(np.isfinite(profile.norm_ul[~masked]))


def trapezoid_deficit(case):
    """How much too low the incumbent's spectral integrals are: log-log trapezoids, 100 a decade.

    For a spectrum that curves downwards every trapezoid lies below it, and the highest bins of
    an exponential cut-off are 3.6e-5 too low.
    """
    model = spectral_model_from_dict(case["config"]["spectral_model"]["spectral"])
    low, high = 0.42, 0.6
    nodes = np.geomspace(low, high, int(100 * np.log10(high / low)) + 1)
    values = np.asarray(model(nodes))
    slopes = np.diff(np.log(values)) / np.diff(np.log(nodes)) + 1
    pieces = np.diff(nodes * values) / slopes
    return float(1 - pieces.sum() / model.integral(low, high))


def test_reduction(case, profile):
    """Counts equal; background and predicted signal to 1e-5 beyond the reference's own error."""
    data, inputs = profile.likelihood_data, case["inputs"]
    expected_mask = inputs["mask_e"] == 1
    shape = (*expected_mask.shape[:2], -1)
    expected_mask = expected_mask.reshape(shape)
    assert_array_equal(np.asarray(data.mask).sum(), expected_mask.sum())
    rtol = 1e-5 + max(trapezoid_deficit(case), 0.0)
    assert rtol < 5e-5
    for name, allowed in (("counts", 0), ("background", 1e-5), ("npred_ref", rtol)):
        expected = inputs[name + "_e"].reshape(shape)[expected_mask]
        got = np.asarray(getattr(data, name))[np.asarray(data.mask)]
        assert_allclose(got, expected, rtol=allowed, err_msg=name)


def test_reference_fluxes(case, profile):
    """Reference fluxes are right to the accuracy of gammapy's own integrals."""
    curved = case["config"]["spectral_model"]["spectral"]["type"] != "PowerLawSpectralModel"
    for name, value in (
        ("ref_dnde", profile.dnde_ref),
        ("ref_flux", profile.flux_ref),
        ("ref_eflux", profile.eflux_ref),
        ("ref_e2dnde", profile.e2dnde_ref),
    ):
        assert_allclose(value.value, case["gammapy"][name], rtol=2e-5 if curved else 1e-7)
    edges = np.array(case["gammapy"]["x_edges"])
    assert_allclose(profile.axis.ref, case["gammapy"]["x_ref"], rtol=1e-8, atol=1e-9)
    assert_allclose(profile.axis.min, edges[:-1], atol=1e-5)


def test_uncut_regions_agree_with_the_default_policy(case, profile):
    """Where no mask cuts a region its coverage is one."""
    if case["config"]["case"] == "01a_seed_linear_gp13":
        expected = np.ones(51)
        expected[[0, 1, -1, -2]] = 0
        assert_array_equal(profile.coverage[:, 0] == 0, expected == 0)
        assert 0.3 < profile.coverage[2, 0] < 0.9
        assert_allclose(profile.coverage[3:-3], 1.0, rtol=1e-12)
    else:
        assert_allclose(profile.coverage, 1.0, rtol=1e-12)
