"""Small flux profiles from real fits, for the tests of the result and its files."""

import functools

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table

from jaxprof import core
from jaxprof.likelihood.data import Status
from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.profile import FluxProfile
from jaxprof.sky.regions import make_concentric_annulus_sky_regions, profile_axis

EDGES = np.array([[0.01, 0.1], [0.2, 0.5]])  # TeV, with a gap
SCAN = np.linspace(-1, 9, 41)


def make_data(n_bins=4, n_groups=2, n_counts_bins=3, seed=1):
    """Cash data: fit (1, 1) has no counts, fit (2, 0) no unmasked counts bin."""
    rng = np.random.default_rng(seed)
    shape = (n_bins, n_groups, n_counts_bins)
    background = rng.uniform(1, 9, shape)
    signal = rng.uniform(2, 6, shape)
    counts = rng.poisson(background + 1.5 * signal)
    mask = np.ones(shape, dtype=bool)
    mask[0, 0, -1] = False
    if n_bins > 2 and n_groups > 1:
        counts[1, 1] = 0
        mask[2, 0] = False
    return core.ProfileData(counts=counts, background=background, npred_ref=signal, mask=mask)


def make_on_off(shape=(4, 2, 3), seed=2):
    rng = np.random.default_rng(seed)
    return core.OnOffData(
        n_on=rng.poisson(9, shape),
        n_off=rng.poisson(20, shape),
        alpha=rng.uniform(0.2, 0.4, shape),
        npred_ref=rng.uniform(1, 3, shape),
    )


def make_gti():
    meta = {"MJDREFI": 51910, "MJDREFF": 0.000742870370370241, "TIMESYS": "TT", "TIMEUNIT": "s"}
    values = {"START": [0.0, 20.5], "STOP": [10.25, 30.1]}
    return Table(values, units={"START": "s", "STOP": "s"}, meta=meta)


@functools.cache
def fitted():
    """Data, and the quantities of their fits: once, as the fits are slow to compile."""
    data = make_data()
    fit = core.fit_norms(data)
    stored = vars(fit) | vars(core.limits(data, fit))
    stored["norm_sensitivity"] = core.sensitivity(data)
    stored["stat_scan"] = core.scan(data, SCAN)
    stored["norm_scan"] = np.broadcast_to(SCAN, stored["stat_scan"].shape)
    return data, {name: np.array(value) for name, value in stored.items()}


def make_profile(*, n_datasets=1, scan=True, edges=EDGES, **options):
    """Profile of 4 bins and 2 groups; options are arguments of FluxProfile."""
    data, stored = fitted()
    stored = {name: value for name, value in stored.items() if scan or "_scan" not in name}
    shape = stored["norm"].shape
    reference = np.where(data.mask, data.npred_ref, 0).sum(-1)
    share = np.ones(1) if n_datasets == 1 else np.arange(1, n_datasets + 1) / 3
    excess = (stored["norm"] * reference)[..., None] * share
    per_dataset = {
        "npred_excess_ref": reference[..., None] * share,
        "npred_excess": excess,
        "npred": excess + 7.125,
        "counts": np.arange(excess.size, dtype=float).reshape(excess.shape),
    }
    stored |= {k: v[..., 0] if n_datasets == 1 else v for k, v in per_dataset.items()}
    stored["coverage"] = np.linspace(0, 1, stored["norm"].size).reshape(shape)
    stored["solid_angle"] = np.linspace(1, 2, shape[0]) * 1e-4
    center = SkyCoord(0.1 / 3, -1 / 7, unit="deg", frame="galactic")
    regions = make_concentric_annulus_sky_regions(center, 1.5 * u.deg, nbin=shape[0] + 1)
    settings = {
        "axis": profile_axis(regions),
        "energy_edges": edges,
        "reference_model": PowerLawSpectralModel(index=2.3),
        "regions": regions,
        "dataset_names": tuple(f"it's number {i}" for i in range(n_datasets)),
        "likelihood_data": data,
        "gti": make_gti(),
        "meta": {"note": "a test", "values": [1, 0.1]},
    }
    return FluxProfile(stored, **(settings | options))


def make_nuisance():
    """Text that neither FITS nor ECSV keeps as it is is among the names."""
    return Table(
        rows=[
            (0, "", "norm of guard bin 0", 0.1, 1 / 3, False),
            (0, "it's number 0", "background norm", 1.0, np.nan, True),
            (1, "", " norm of Crab \N{GREEK SMALL LETTER ALPHA}\n\\x20 ", -0.3, 1e-300, False),
            (1, "it's number 0", "background tilt", 0.0, 0.25, False),
        ],
        names=("group", "dataset", "parameter", "value", "error", "fixed"),
    )


def make_goodness():
    return Table(
        rows=[
            (101.5, 99.25, 14.2, 100, 4, (101.5 - 99.25) / 14.2),
            (0.1, 1 / 3, 0.0, 0, 0, np.nan),
        ],
        names=("stat", "expected", "std", "n_counts_bins", "n_free", "z"),
    )


def make_joint_profile(*, n_datasets=1, **options):
    """Profile of 5 bins and 2 groups as of a joint fit: invented numbers, so nothing compiles.

    The statistic is a parabola in each norm. Fit (1, 1) has no counts and its norm is at its
    bound, fit (2, 0) is masked, fit (3, 0) degenerate. Options are arguments of FluxProfile.
    """
    rng = np.random.default_rng(8)
    shape = n_bins, n_groups = 5, 2
    root = rng.normal(size=(n_groups, n_bins, n_bins))
    covariance = root @ np.swapaxes(root, 1, 2)
    covariance[0, 2] = covariance[0, :, 2] = np.nan
    norm = rng.normal(2, 1, shape)
    norm[2, 0] = np.nan
    status = np.zeros(shape, dtype=int)
    status[1, 1], status[2, 0], status[3, 0] = Status.ZERO_COUNTS, 3, Status.DEGENERATE
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T
    stat = np.where(np.isfinite(norm), [[-31.5, 7.25]], np.nan)
    norms = np.linspace(-10, 30, 81)
    off = norms - norm[..., np.newaxis]
    rise = (off / error[..., np.newaxis]) ** 2
    rise[1, 1] += 0.7 * off[1, 1]
    stored = {
        "norm": norm,
        "norm_err": error,
        "norm_ul": norm + 2 * error,
        "norm_covariance": np.moveaxis(covariance, 0, 1),
        "response": rng.exponential(1, (n_bins, n_groups, n_bins)),
        "stat": stat,
        "stat_null": stat + 10,
        "ts": np.where(np.isfinite(norm), 10.0, np.nan),
        "status": status,
        "stat_scan": stat[..., np.newaxis] + rise,
        "stat_scan_conditional": stat[..., np.newaxis] + 3 * rise,
        "norm_scan": np.broadcast_to(norms, rise.shape).copy(),
        "solid_angle": np.linspace(1, 2, n_bins) * 1e-4,
    }
    for name in ("counts", "npred", "npred_excess", "npred_background", "npred_excess_ref"):
        per_dataset = rng.exponential(20, (*shape, n_datasets))
        stored[name] = per_dataset[..., 0] if n_datasets == 1 else per_dataset
    for name in (
        *("npred_guard", "npred_other", "npred_leaked"),
        *("index", "index_err", "lambda_", "lambda__err", "beta", "beta_err"),
    ):
        stored[name] = rng.exponential(1, shape)
    center = SkyCoord(0.1 / 3, -1 / 7, unit="deg", frame="galactic")
    regions = make_concentric_annulus_sky_regions(center, 1.5 * u.deg, nbin=n_bins + 1)
    settings = {
        "axis": profile_axis(regions),
        "energy_edges": EDGES,
        "reference_model": PowerLawSpectralModel(index=2.3),
        "regions": regions,
        "dataset_names": tuple(f"it's number {i}" for i in range(n_datasets)),
        "gti": make_gti(),
        "nuisance": make_nuisance(),
        "goodness": make_goodness(),
        "meta": {"estimator": "ForwardFoldingProfileEstimator"},
    }
    return FluxProfile(stored, **(settings | options))


def assert_same_table(first, second):
    """Nuisance and goodness: the same columns, to the last bit."""
    assert (first is None) == (second is None)
    if first is None:
        return
    assert first.colnames == second.colnames
    for name in first.colnames:
        a, b = first[name], second[name]
        assert a.dtype.kind == b.dtype.kind and not np.ma.is_masked(b), name
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=name)


def assert_same_data(first, second):
    """Likelihood data of the same kind with the same arrays."""
    first, second = ((d if isinstance(d, tuple) else (d,)) for d in (first, second))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert type(a) is type(b)
        for name, array in vars(a).items():
            other = getattr(b, name)
            assert (array is None) == (other is None)
            if array is not None:
                assert array.dtype == other.dtype
                np.testing.assert_array_equal(array, other)


def assert_same_profile(first, second):
    """Everything that a profile keeps is the same, to the last bit."""
    assert set(first.quantities) == set(second.quantities)
    for name, array in first.quantities.items():
        np.testing.assert_array_equal(array, second.quantities[name], err_msg=name, strict=True)
    for name in first.reference:
        np.testing.assert_array_equal(first.reference[name], second.reference[name], strict=True)
    np.testing.assert_array_equal(first.energy_edges, second.energy_edges)
    assert first.axis.name == second.axis.name
    for name in ("min", "max", "ref"):
        np.testing.assert_array_equal(getattr(first.axis, name), getattr(second.axis, name))
    for name in (
        "n_sigma n_sigma_ul n_sigma_sensitivity sqrt_ts_threshold_ul dataset_names meta shape"
    ).split():
        assert getattr(first, name) == getattr(second, name), name
    for name in ("reference_model", "reference_models"):
        assert repr(getattr(first, name)) == repr(getattr(second, name))
    assert_same_table(first.nuisance, second.nuisance)
    assert_same_table(first.goodness, second.goodness)
    if first.regions is None:
        assert second.regions is None
    else:
        for a, b in zip(first.regions, second.regions, strict=True):
            assert a == b
    if first.gti is None:
        assert second.gti is None
    else:
        for name in first.gti.colnames:
            np.testing.assert_array_equal(first.gti[name], second.gti[name])
            assert first.gti[name].unit == second.gti[name].unit
        assert {key: second.gti.meta[key] for key in first.gti.meta if key != "EXTNAME"} == {
            key: value for key, value in first.gti.meta.items() if key != "EXTNAME"
        }
