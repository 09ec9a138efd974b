"""Names of regions become a column of the profile, survive files and slices, and label ticks."""

import itertools

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.testing import assert_array_equal
from regions import CircleSkyRegion, Regions

from jaxprof import FluxProfile, PowerLawSpectralModel
from jaxprof.plotting import plot_parameter, plot_profile, plot_quantity
from jaxprof.sky.regions import profile_axis, region_name

NAMES = [
    "Crab",
    "",
    "Vela X; {old}",
    "Ω \N{GREEK SMALL LETTER ALPHA} \\x20",
    'a "b" # c',
    "G0.9+0.1",
]


def circle(lon, name, key="text"):
    meta = {key: name} if name else {}
    center = SkyCoord(lon, 0, unit="deg", frame="galactic")
    return CircleSkyRegion(center, 0.1 * u.deg, meta=meta)


def make_profile(regions, **options):
    n = len(regions)
    norm = np.linspace(1, 2, n)[:, np.newaxis]
    quantities = {"norm": norm, "norm_err": 0.1 * norm, "counts": 10 * norm, "ts": 9 * norm}
    quantities |= {"index": norm, "index_err": 0.1 * norm}
    quantities |= {"stat": 0 * norm, "norm_scan": np.tile(np.linspace(0, 4, 9), (n, 1, 1))}
    quantities["stat_scan"] = (quantities["norm_scan"] - norm[..., np.newaxis]) ** 2 * 100
    return FluxProfile(
        quantities,
        axis=profile_axis(regions),
        energy_edges=[[0.01, 0.5]],
        reference_model=PowerLawSpectralModel(index=2.3),
        regions=regions,
        **options,
    )


def test_where_names_come_from():
    ds9 = 'galactic;circle(1,2,0.1) # text={Crab} color=red\ncircle(1,2,0.2) # text="Vela X"'
    assert [region_name(r) for r in Regions.parse(ds9, format="ds9")] == ["Crab", "Vela X"]
    crtf = '#CRTFv0\ncircle[[18h12m24s, -23d11m00s], 2.3arcsec], coord=J2000, label="abc"'
    assert region_name(Regions.parse(crtf, format="crtf")[0]) == "abc"
    for key in ("text", "label", "name"):
        if key in CircleSkyRegion(SkyCoord(0, 0, unit="deg"), 1 * u.deg).meta.valid_keys:
            assert region_name(circle(0, " M 87 ", key)) == "M 87"
    assert region_name(circle(0, "")) == ""


def test_attribute_column_and_slices():
    profile = make_profile([circle(lon, name) for lon, name in enumerate(NAMES)])
    assert profile.name.tolist() == NAMES
    assert "name" in profile.available_quantities and profile["name"].unit == ""
    table = profile.to_table()
    assert table.colnames[0] == "name" and table["name"].tolist() == NAMES
    assert profile.to_table("flux", formatted=True)["name"].tolist() == NAMES
    part = profile.slice_by_idx({profile.axis.name: [2, 0]})
    assert part.name.tolist() == [NAMES[2], NAMES[0]]
    assert part.slice_by_idx({"energy": [0]}).name.tolist() == part.name.tolist()
    # Given as a quantity they win over those of the regions.
    other = make_profile([circle(0, "a"), circle(1, "b")])
    state = {name: getattr(other, name) for name in ("axis", "energy_edges", "reference_model")}
    given = FluxProfile({"norm": other.norm, "name": ["x", 3]}, regions=other.regions, **state)
    assert given.name.tolist() == ["x", "3"]
    with pytest.raises(ValueError, match=r"'name' has shape \(3,\); give one value a bin, \(2,\)"):
        FluxProfile({"norm": other.norm, "name": ["x", "y", "z"]}, **state)


def test_absent_without_names():
    profile = make_profile([circle(lon, "") for lon in range(3)])
    assert "name" not in profile.available_quantities
    assert "name" not in profile.to_table().colnames
    with pytest.raises(AttributeError, match="FluxProfile has no 'name'"):
        _ = profile.name
    with pytest.raises(ValueError, match="show_names: the profile has no names"):
        profile.plot(show_names=True)


@pytest.mark.parametrize("ending", [".fits", ".fits.gz", ".ecsv"])
def test_files(tmp_path, ending):
    """Also letters that no DS9 file could hold, and in ECSV those that FITS does not know."""
    names = [name for name in NAMES if name.isascii() or ending == ".ecsv"]
    profile = make_profile([circle(lon, name) for lon, name in enumerate(names)])
    profile.write(tmp_path / f"p{ending}", sed_type="flux")
    back = FluxProfile.read(tmp_path / f"p{ending}")
    assert back.name.tolist() == names
    assert back.name.dtype.kind == "U"
    assert [region_name(r) for r in back.regions] == names
    for own, region in zip(profile.regions, back.regions, strict=True):
        assert own == region
    back.write(tmp_path / f"q{ending}")
    assert FluxProfile.read(tmp_path / f"q{ending}").name.tolist() == names


def test_letters_that_fits_does_not_know(tmp_path):
    profile = make_profile([circle(0, "Süd"), circle(1, "b")])
    with pytest.warns(UserWarning, match="name of FLUXPOINTS 'Süd' as 'Sud'") as record:
        profile.write(tmp_path / "p.fits")
    assert [w.filename for w in record] == [__file__]
    assert FluxProfile.read(tmp_path / "p.fits").name.tolist() == ["Sud", "b"]


def test_names_of_regions_without_a_ds9_form(tmp_path):
    regions = [circle(k, "") | circle(k + 0.1, "") for k in range(3)]
    for region, name in zip(regions, "abc", strict=True):
        region.meta["text"] = name
    profile = make_profile(regions)
    assert profile.name.tolist() == ["a", "b", "c"]
    with pytest.warns(UserWarning, match="no DS9 form") as record:
        profile.write(tmp_path / "p.fits")
    assert [w.filename for w in record] == [__file__]
    back = FluxProfile.read(tmp_path / "p.fits")
    assert back.regions is None and back.name.tolist() == ["a", "b", "c"]


def test_files_of_before(tmp_path):
    """The name was part of the DS9 text, as a global attribute of each line."""
    profile = make_profile([circle(0, "a"), circle(1, "b")])
    table = profile.to_table()
    table.remove_column("name")
    lines = table.meta["REGIONS"]
    table.meta["REGIONS"] = [
        f"global text={{{n}}};{line}" for n, line in zip("ab", lines, strict=True)
    ]
    table.write(tmp_path / "old.ecsv", format="ascii.ecsv")
    assert FluxProfile.read(tmp_path / "old.ecsv").name.tolist() == ["a", "b"]
    assert isinstance(table, Table)


def overlapping(ax):
    """Pairs of tick labels whose boxes, turned with the text, overlap; drawn as in a file."""
    ax.figure.canvas.draw()
    labels = [label for label in ax.get_xticklabels() if label.get_text()]
    corners = []
    for label in labels:
        angle = label.get_rotation()
        label.set_rotation(0)
        box = label.get_window_extent()
        label.set_rotation(angle)
        turned = label.get_window_extent()
        # Lines of text at an angle are apart by the distance of their right ends across them.
        corners.append((turned.x1, box.height, np.deg2rad(angle), turned.x0))
    found = []
    for (a, b), (label, other) in zip(
        itertools.pairwise(corners), itertools.pairwise(labels), strict=True
    ):
        if a[2] == 0:
            apart = b[3] - a[0]  # upright: the end of one, the start of the next
        else:
            apart = (b[0] - a[0]) * np.sin(a[2]) - a[1] * 0.8
        if apart < 0:
            found.append((label.get_text(), other.get_text()))
    return found


@pytest.mark.parametrize("n", [3, 5, 12, 25, 60])
@pytest.mark.parametrize("long", [False, True])
def test_tick_labels_do_not_overlap(n, long):
    names = [f"HESS J{1700 + k}-{300 + k}" if long else f"S{k}" for k in range(n)]
    profile = make_profile([circle(20 * (k % 2), name) for k, name in enumerate(names)])
    ax = profile.plot(show_names=True)
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == names and list(ax.get_xticks()) == list(range(n))
    assert overlapping(ax) == []
    assert ax.get_xlabel() == ""


def test_tick_labels_at_uneven_positions():
    """On the axis of distances names stand at their bins; those with no room are left out."""
    at = [0, 0.5, 0.6, 0.6001, 3]
    profile = make_profile([circle(lon, f"name {k}") for k, lon in enumerate(at)])
    ax = plot_profile(profile, sed_type="flux", show_names=True)
    assert ax.get_xlabel() == "Projected distance [deg]"
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == ["name 0", "name 1", "name 2", "name 4"]
    np.testing.assert_allclose(ax.get_xticks(), [0, 0.5, 0.6, 3], atol=1e-9)
    assert overlapping(ax) == []


def test_every_figure_shows_them():
    profile = make_profile([circle(20 * (k % 2), f"S{k}") for k in range(4)])
    wanted = [f"S{k}" for k in range(4)]
    figures = [
        lambda: plot_quantity(profile, "counts", show_names=True),
        lambda: profile["counts"].plot(show_names=True),
        lambda: plot_parameter(profile, "index", show_names=True),
        lambda: profile.plot_ts_profiles(show_names=True),
        lambda: profile.plot_comparison(other=profile, show_names=True)[1],
        lambda: profile.plot(curve=profile.flux, sed_type="flux", show_names=True)[1],
    ]
    for figure in figures:
        plt.close("all")
        assert [label.get_text() for label in figure().get_xticklabels()] == wanted
    plt.close("all")
    ax = profile.plot(axis_name="energy", show_names=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == wanted
    plt.close("all")
    assert "S0" not in [label.get_text() for label in profile.plot().get_xticklabels()]
    with pytest.raises(ValueError, match="'name' is text"):
        plot_quantity(profile, "name")


def test_unnamed_bins_have_no_label():
    profile = make_profile([circle(0, "a"), circle(2, ""), circle(1, "c")])
    ax = profile.plot(show_names=True)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "c"]
    assert_array_equal(ax.get_xticks(), [0, 2])


def test_long_names_leave_room_in_small_figures():
    """They are smaller, then cut off; points keep half of the height or so."""
    names = ["Sgr B2", "Sgr C", "A very long name of a molecular cloud near the Galactic centre"]
    profile = make_profile([circle(k, name) for k, name in enumerate(names)])
    figure = plt.figure(figsize=(3.4, 2.6), layout="constrained")
    ax = profile.plot(ax=figure.add_subplot(), sed_type="flux", show_names=True)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[:2] == names[:2]
    assert labels[2].endswith("\u2026") and names[2].startswith(labels[2][:-1])
    assert ax.get_window_extent().height > 0.25 * figure.bbox.height
    assert min(label.get_fontsize() for label in ax.get_xticklabels()) > 5.5
