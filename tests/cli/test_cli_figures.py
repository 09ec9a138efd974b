"""The figures that the command line writes."""

import astropy.units as u
import cli_factory  # noqa: F401  (skips these tests where the extra `cli` is not installed)
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from forward_factory import dataset_of, rings, sky_image
from profile_factory import make_joint_profile, make_profile
from regions import RectangleSkyRegion

from jaxprof.cli.figures import _map, figures
from jaxprof.cli.run import _along
from jaxprof.profile.html import profile_rows


def test_counts_of_the_command_line_have_a_panel_for_each_group():
    profile = make_joint_profile()
    made = figures(profile, [], "flux")
    figure = made["counts"][1]
    assert len(figure.axes) == profile.shape[1] == 2
    for group, ax in enumerate(figure.axes):
        points = ax.containers[0].lines[0].get_ydata()
        expected = profile.npred[:, group]
        np.testing.assert_allclose(np.sort(points), np.sort(expected[np.isfinite(expected)]))
    assert figure.axes[0].get_xlabel() == "" != figure.axes[1].get_xlabel()
    plt.close("all")


def test_figures_of_the_command_line_lie_along_one_axis():
    """Of a profile along longitudes all do, and so does the report's table."""
    profile = make_joint_profile().slice_by_idx({"energy": [0]})
    profile.regions = [
        RectangleSkyRegion(SkyCoord(k, 0, unit="deg", frame="galactic"), 1 * u.deg, 1 * u.deg)
        for k in range(len(profile.norm))
    ]
    profile = _along(profile, "longitude")
    made = figures(profile, [], "flux")
    for name in ("flux", "counts", "scan", "correlation"):
        assert "longitude" in made[name][1].axes[0].get_xlabel(), name
    assert "longitude" in profile_rows(profile, "flux")[0][0]
    plt.close("all")


def test_the_map_of_the_command_line_numbers_bins_that_stand_apart():
    dataset = dataset_of(sky_image(lambda x, y: x + y > 0, 0.05), 0.05, sigma=0.1)
    for width, shown in ((0.2, ["0", "1", "2", "3"]), (0.01, ["0"])):
        profile = make_profile(regions=rings(4, width))
        ax = _map(profile, dataset).axes[0]
        assert [text.get_text() for text in ax.texts] == shown
        # The regions with a margin, thirty pixels in all, and no more of a map that is larger.
        low, high = ax.get_xlim()
        middle = dataset.geom.wcs.celestial.world_to_pixel(rings(1, 1)[0].center)[0]
        if width < 0.1:
            np.testing.assert_allclose([middle - low, high - middle], 15, rtol=1e-3)
        else:
            assert low == -0.5 and high == dataset.geom.npix_shape[1] - 0.5
        for text, region in zip(ax.texts, rings(4, width), strict=False):
            at = dataset.geom.wcs.celestial.pixel_to_world(*text.get_position())
            assert region.contains(at, dataset.geom.wcs.celestial)
    plt.close("all")
