"""What notebooks show of objects."""

from html.parser import HTMLParser

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

import jaxprof
from jaxprof import core
from jaxprof.html import facts, table, titled
from jaxprof.likelihood.data import Status
from jaxprof.profile import FluxProfile
from jaxprof.profile.html import STATUS_MEANING, profile_table
from jaxprof.sky.regions import profile_axis

REGIONS = jaxprof.make_concentric_annulus_sky_regions(
    SkyCoord(0, 0, unit="deg", frame="galactic"), radius_max="2 deg", nbin=5
)
STATUS = np.array([[0, 0], [0, 1], [3, 0], [0, 2]])


def make_profile():
    """Four bins and two groups, of made-up numbers."""
    norm = np.arange(1.0, 9.0).reshape(4, 2)
    excess = np.stack([norm, 2 * norm], axis=-1)
    return FluxProfile(
        {
            "norm": norm,
            "norm_err": 0.1 * norm,
            "norm_ul": norm + 1,
            "ts": norm**2,
            "status": STATUS,
            "success": STATUS < 3,
            "counts": excess,
            "npred": excess + 0.5,
            "npred_excess": excess,
        },
        axis=profile_axis(REGIONS),
        energy_edges=[[0.01, 0.1], [0.1, 0.5]],
        reference_model=jaxprof.PowerLawSpectralModel(index=2.2),
        regions=REGIONS,
        dataset_names=("a", "b"),
    )


class Page(HTMLParser):
    """Cells of all tables; raises for tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.tags = [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_text_is_escaped_and_rows_are_counted():
    text = "<script>alert(1)</script> & \"'"
    page = Page(titled(text, facts({text: text}), table([text], [[text]] * 5, max_rows=2)))
    assert "script" not in page.tags
    assert page.rows == [[text, text], [text], [text], [text], ["... and 3 more rows"]]


def test_a_profile_shows_the_fluxes_of_its_bins():
    profile = make_profile()
    page = Page(profile._repr_html_())
    head = next(row for row in page.rows if "status" in row)
    rows = page.rows[page.rows.index(head) + 1 :]
    assert len(rows) == profile.norm.size
    at = next(n for n, text in enumerate(head) if text.startswith("flux ["))
    flux = np.array([float(row[at]) for row in rows]).reshape(profile.shape)
    np.testing.assert_allclose(flux, profile.flux.value, rtol=6e-3)
    assert [row[head.index("status")] for row in rows] == [
        Status(s).label for s in profile.status.ravel()
    ]
    assert {"upper limit", "sqrt_ts", "counts", "npred"} <= set(head)
    # In words of people: not "1e-05 to 0.5" of "projected-distance", and levels as limits are told.
    assert head[0] == "projected distance [deg]" and rows[0][0] == "0.0 - 0.5"
    facts = dict(row for row in page.rows if len(row) == 2)
    assert facts["Errors, upper limits"] == "1 sigma, 95.45 %"
    counts = [float(row[head.index("counts")]) for row in rows]
    np.testing.assert_array_equal(counts, 3 * profile.norm.ravel())  # of both datasets
    few = Page(profile_table(profile, "eflux", max_rows=3))
    assert len(few.rows) == 5 and few.rows[-1] == [f"... and {profile.norm.size - 3} more rows"]


def test_each_status_has_a_meaning():
    assert set(STATUS_MEANING) == set(Status) and all(map(len, STATUS_MEANING.values()))


def test_names_of_users_are_text():
    name = "<b>bold</b>"
    dataset = jaxprof.MapDataset(name=name)
    page = Page(dataset._repr_html_())
    assert ["Name", name] in page.rows
    both = jaxprof.Datasets([dataset, jaxprof.MapDataset(name="other")])
    assert [row for row in Page(both._repr_html_()).rows if row[0] == "Name"] == [
        ["Name", name],
        ["Name", "other"],
    ]
    values = dict.fromkeys(("norm", "norm_err", "stat", "stat_null", "ts"), np.ones((4, 2)))
    fit = core.NormFit(**values, status=STATUS)
    page = Page(fit._repr_html_())
    assert ["shape", "(4, 2)"] in page.rows
    assert any(row[-1] == "fully masked" for row in page.rows)


@pytest.mark.parametrize("batched", [False, True])
def test_a_fit_shows_its_parameters(batched):
    names = ("a<b", "c")
    shape = (3,) if batched else ()
    array = np.zeros((*shape, 2)) + [1.5, -2.0]
    fit = jaxprof.Fit(
        params=array,
        covariance=np.zeros((*shape, 2, 2)),
        errors=array * 0 + 0.25,
        stat=np.zeros(shape) + 7.0,
        status=np.zeros(shape, int),
        other_minimum=array * np.nan,
        lower=array - 9,
        upper=array + 9,
        names=names,
        fixed=(False, True),
    )
    page = Page(fit._repr_html_())
    if batched:
        assert page.rows == [["fits", "(3,)"]]
    else:
        assert page.rows[1:] == [["a<b", "1.5", "+- 0.25"], ["c", "-2", "fixed"]]
        assert str(fit).splitlines()[1:] == ["a<b  1.5 +- 0.25", "c    -2 fixed"]


def test_an_estimator_shows_its_options():
    for kind in (jaxprof.FluxProfileEstimator, jaxprof.ForwardFoldingProfileEstimator):
        page = Page(kind(REGIONS, n_sigma_ul=3)._repr_html_())
        assert ["n_sigma_ul", "3"] in page.rows
        assert {row[0] for row in page.rows} == set(kind._options())


def test_a_fitted_law_shows_its_free_parameters():
    good = {"stat": 5.0, "expected": 6.0, "std": 2.0, "p_value": 0.7, "z": -0.5}
    fit = jaxprof.ModelFit(
        model=jaxprof.PowerLawRadialModel(),
        params={"alpha": np.array(1.25), "background": np.array([1.0])},
        errors={"alpha": np.array(0.125), "background": np.array([0.0])},
        covariance=np.diag([0.125**2, 0.0]),
        stat=np.array(5.0),
        status=np.array(0),
        goodness=good | {"n_bins": 4, "n_free": 1},
        bins={"residual": np.array([[1.0], [-8.0]]), "variance": np.array([[9.0], [4.0]])},
        geometry=None,
        likelihood_params={},
        fit=None,
        names=("alpha", "background[0]"),
        law_names=("alpha",),
        fixed=(False, True),
    )
    page = Page(fit._repr_html_())
    assert page.rows[0] == ["goodness", "deviance 5, expected 6 +- 2 (p = 0.7)"]
    assert page.rows[1] == ["bins", "chi2 65 for 1 degrees of freedom (p = 9.2e-15)"]
    assert page.rows[2][0] == "warning" and "does not describe" in page.rows[2][1]
    assert page.rows[3:] == [["parameter", "value", "error", "unit"], ["alpha", "1.25", "0.12", ""]]
