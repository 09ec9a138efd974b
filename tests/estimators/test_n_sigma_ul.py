"""The confidence level of upper limits goes with them, from file to file."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from profile_factory import make_profile
from scipy.stats import norm

from jaxprof import FluxProfile
from jaxprof.profile.parse import profile_from_table

LEVELS = [1.0, 1.645, 2.0, 3.0, 5.0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_of_our_files(level, ending, tmp_path):
    profile = make_profile().recompute_ul(level)
    profile.write(tmp_path / f"p.{ending}")
    again = FluxProfile.read(tmp_path / f"p.{ending}")
    assert again.n_sigma_ul == level
    table = again.to_table()
    assert table.meta["NSIGMAUL"] == level
    # Two-sided: the probability of a normal variable within so many standard deviations.
    assert abs(table.meta["UL_CONF"] - (norm.cdf(level) - norm.cdf(-level))) < 1e-14
    with pytest.raises(ValueError, match=f"n_sigma_ul=4, but the limits .* are those of {level}"):
        FluxProfile.read(tmp_path / f"p.{ending}", n_sigma_ul=4)


@pytest.mark.parametrize("level", LEVELS)
def test_of_tables_that_have_ul_conf_or_nothing(level):
    table = make_profile().recompute_ul(level).to_table()
    del table.meta["NSIGMAUL"]
    assert abs(profile_from_table(table).n_sigma_ul - level) < 1e-6
    assert profile_from_table(table, n_sigma_ul=level).n_sigma_ul == level
    conf = table.meta.pop("UL_CONF")
    assert profile_from_table(table).n_sigma_ul == 2
    assert profile_from_table(table, n_sigma_ul=level).n_sigma_ul == level
    np.testing.assert_allclose(
        profile_from_table(table, n_sigma_ul=level).to_table().meta["UL_CONF"], conf, rtol=1e-14
    )


@pytest.mark.parametrize("conf", [0.0, 1.0, -1, "high", np.nan])
def test_confidence_that_is_none(conf):
    table = make_profile().to_table()
    del table.meta["NSIGMAUL"]
    table.meta["UL_CONF"] = conf
    with pytest.raises(ValueError, match=r"UL_CONF in the header must be in \(0, 1\), got"):
        profile_from_table(table)


@pytest.mark.parametrize("level", [0, -1, "2", np.nan, np.inf])
def test_level_that_is_none(level):
    with pytest.raises(ValueError, match="n_sigma_ul must be a positive number"):
        profile_from_table(make_profile().to_table(), n_sigma_ul=level)


def test_with_gammapy(tmp_path):
    """gammapy reads the level of our limits; of its own the reader is told."""
    estimators = pytest.importorskip("gammapy.estimators")
    level = 3.0
    make_profile().recompute_ul(level).write(tmp_path / "ours.fits")
    theirs = estimators.FluxPoints.read(tmp_path / "ours.fits", format="profile")
    assert theirs.n_sigma_ul == level
    theirs.write(tmp_path / "theirs.fits", format="profile", sed_type="likelihood")
    header = Table.read(tmp_path / "theirs.fits", hdu="FLUXPOINTS").meta
    assert not {"UL_CONF", "NSIGMAUL"} & set(header)
    again = FluxProfile.read(tmp_path / "theirs.fits", n_sigma_ul=level)
    assert again.n_sigma_ul == level
    limits = u.Quantity(theirs.norm_ul.data).value.ravel()
    np.testing.assert_allclose(np.sort(again.norm_ul.ravel()), np.sort(limits), rtol=1e-12)


def test_levels_of_tables_as_probabilities():
    """Given as such, and two in a header that disagree."""
    table = make_profile().to_table()
    table.meta["UL_CONF"] = 0.95
    with pytest.raises(ValueError, match=r"UL_CONF .* is 0.95 and NSIGMAUL 2, a level of 0.9545"):
        FluxProfile.from_table(table)
    del table.meta["NSIGMAUL"], table.meta["UL_CONF"]
    found = FluxProfile.from_table(table, cl=0.95)
    assert found.n_sigma_ul == pytest.approx(norm.ppf(0.975), rel=1e-12)
    with pytest.raises(ValueError, match="give cl or n_sigma_ul, not both"):
        FluxProfile.from_table(table, cl=0.95, n_sigma_ul=2)
